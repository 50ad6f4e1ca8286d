//! HOCON, by a parser of our own: bounded in depth, values, steps and output, without a look at
//! files, network or environment unless it is given them.
//!
//! Follows <https://github.com/lightbend/config/blob/main/HOCON.md>, with these differences:
//! `://` inside an unquoted value is part of it, not the start of a comment; `include` has the
//! one form `include "name"`; a key is given to `+=` in lists too.

mod parse;
mod resolve;

use super::Problem;
use crate::tree::Node;

/// What a text may look at outside of itself.
pub trait Surroundings {
    /// A variable of the process.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of an included file.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    fn include(&mut self, name: &str) -> Result<String, String>;
}

/// Nothing outside of the text.
pub(super) struct Alone;

impl Surroundings for Alone {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn include(&mut self, _name: &str) -> Result<String, String> {
        Err("include is not allowed here".to_owned())
    }
}

/// Reads a text with what surrounds it.
///
/// # Errors
/// The first thing in it that is not allowed.
pub fn read(text: &str, surroundings: &mut dyn Surroundings) -> Result<Node, Problem> {
    let root = parse::parse(text, surroundings)?;
    let node = resolve::resolve(&root, &*surroundings)?;
    super::bounded(node)
}
