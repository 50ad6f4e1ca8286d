//! Texts become trees: JSON, YAML, TOML and HOCON, each under the same bounds.

mod hocon;
mod json;
mod toml;
mod yaml;

pub use hocon::{Surroundings, read as read_hocon};

use crate::tree::{Mark, Node, Places, Value, told};
use std::fmt;

/// Most bytes of a text.
pub const MAX_BYTES: usize = 256 * 1024;
/// How deep maps and lists may stand inside each other; the top counts as 1.
pub const MAX_DEPTH: usize = 32;
/// Most values of a document, scalars, lists and maps alike, after aliases and substitutions.
pub const MAX_VALUES: usize = 10_000;
/// Most bytes of all scalars together, after aliases and substitutions.
pub const MAX_OUTPUT: usize = 1024 * 1024;

/// Most bytes of the name of one key, where somebody gives a text now.
pub const MAX_NAME: usize = 512;
/// Most bytes of the names from the top to a value, with a dot between them, where somebody gives a
/// text now. Every value of a document is told and kept with its path.
pub const MAX_PATH: usize = 1024;

/// Most bytes that the names from the top to each value take together, with what keeps them, where
/// somebody gives a text now.
pub const MAX_PATHS: usize = 4 * 1024 * 1024;

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// HOCON.
    Hocon,
    /// JSON, RFC 8259.
    Json,
    /// YAML 1.2, core schema, one document, without tags and merge keys.
    Yaml,
    /// TOML 1.
    Toml,
}

impl Format {
    /// The format of a file, by the end of its name.
    #[must_use]
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            "conf" | "hocon" => Some(Self::Hocon),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hocon => "hocon",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Toml => "toml",
        })
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "hocon" => Ok(Self::Hocon),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "toml" => Ok(Self::Toml),
            _ => Err("must be hocon, json, yaml or toml".to_owned()),
        }
    }
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which rule.
    pub rule: Rule,
    /// The key it is about, dotted; empty = the text as a whole.
    pub path: String,
    /// Where.
    pub at: Mark,
    /// One sentence. At most 64 bytes of the text are in it.
    pub message: String,
}

/// The rules that a text can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Longer than [`MAX_BYTES`].
    Size,
    /// Nested deeper than [`MAX_DEPTH`].
    Depth,
    /// More than [`MAX_VALUES`] values.
    Values,
    /// Anything else that the format or this program does not allow.
    Syntax,
}

impl Problem {
    pub(crate) fn syntax(at: Mark, message: impl Into<String>) -> Self {
        Self {
            rule: Rule::Syntax,
            path: String::new(),
            at,
            message: message.into(),
        }
    }

    pub(crate) fn under(mut self, path: &[String]) -> Self {
        self.path = told(path);
        self
    }

    pub(crate) fn twice(at: Mark, path: &[String]) -> Self {
        let name = brief(&told(path));
        Self::syntax(at, format!("Key {name} is given twice.")).under(path)
    }

    pub(crate) fn too_deep(at: Mark) -> Self {
        Self {
            rule: Rule::Depth,
            ..Self::syntax(
                at,
                format!("The text is nested deeper than {MAX_DEPTH} levels."),
            )
        }
    }

    pub(crate) fn too_many(at: Mark) -> Self {
        Self {
            rule: Rule::Values,
            ..Self::syntax(at, format!("The text has more than {MAX_VALUES} values."))
        }
    }

    pub(crate) fn long_name(at: Mark) -> Self {
        Self::syntax(at, format!("A key has more than {MAX_NAME} bytes."))
    }

    pub(crate) fn too_long(at: Mark) -> Self {
        let kib = MAX_OUTPUT / 1024;
        Self::syntax(
            at,
            format!("With aliases and substitutions the text holds more than {kib} KiB."),
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// At most 64 bytes of what somebody wrote.
#[must_use]
pub fn brief(text: &str) -> String {
    const MOST: usize = 60;
    if text.len() <= MOST {
        return text.to_owned();
    }
    let end = (0..=MOST).rev().find(|at| text.is_char_boundary(*at));
    format!("{}…", &text[..end.unwrap_or(0)])
}

/// Reads a text that stands for itself: nothing outside of it is looked at.
///
/// The cost is bounded whatever the text is: time by a small factor of its length, memory by
/// [`MAX_VALUES`] and [`MAX_OUTPUT`].
///
/// # Errors
/// The first thing in it that is not allowed.
pub fn read(format: Format, bytes: &[u8]) -> Result<Node, Problem> {
    let text = text_of(bytes)?;
    let node = match format {
        Format::Json => json::read(text)?,
        Format::Yaml => yaml::read(text)?,
        Format::Toml => toml::read(text)?,
        Format::Hocon => hocon::read(text, &mut hocon::Alone)?,
    };
    bounded(node)
}

/// The bytes as text, if they are one of allowed length.
///
/// # Errors
/// What is wrong with it.
pub fn text_of(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() > MAX_BYTES {
        return Err(Problem {
            rule: Rule::Size,
            path: String::new(),
            at: Mark::default(),
            message: format!("The text has more than {} KiB.", MAX_BYTES / 1024),
        });
    }
    let no_text = |at: usize| {
        let good = bytes.get(..at).and_then(|b| std::str::from_utf8(b).ok());
        let at = Places::of(good.unwrap_or_default()).mark(at);
        Problem::syntax(at, "The content is not valid UTF-8 text.")
    };
    let text = std::str::from_utf8(bytes).map_err(|error| no_text(error.valid_up_to()))?;
    match text.find('\0') {
        Some(at) => Err(no_text(at)),
        None => Ok(text),
    }
}

/// Checks depth and number of values of a whole document.
pub(crate) fn bounded(node: Node) -> Result<Node, Problem> {
    fn walk(node: &Node, depth: usize, values: &mut usize) -> Result<(), Problem> {
        *values += 1;
        if *values > MAX_VALUES {
            return Err(Problem::too_many(node.at));
        }
        if depth > MAX_DEPTH {
            return Err(Problem::too_deep(node.at));
        }
        match &node.value {
            Value::List(items) => items.iter().try_for_each(|i| walk(i, depth + 1, values)),
            Value::Map(entries) => entries
                .iter()
                .try_for_each(|e| walk(&e.node, depth + 1, values)),
            _ => Ok(()),
        }
    }
    walk(&node, 0, &mut 0)?;
    Ok(node)
}

/// Checks the names of a document that somebody gives now: [`MAX_NAME`], [`MAX_PATH`] and
/// [`MAX_PATHS`]. What was stored before names had bounds is read without this.
///
/// # Errors
/// The first one that is too long.
pub(crate) fn names_fit(node: &Node) -> Result<(), Problem> {
    /// About what a name takes beside its letters.
    const NAME: usize = 24;
    fn walk(node: &Node, depth: usize, path: usize, sum: &mut usize) -> Result<(), Problem> {
        *sum += path + depth * NAME;
        if *sum > MAX_PATHS {
            let kib = MAX_PATHS / 1024;
            let message = format!("The names of all values have more than {kib} KiB.");
            return Err(Problem::syntax(node.at, message));
        }
        match &node.value {
            Value::List(items) => items
                .iter()
                .try_for_each(|item| walk(item, depth + 1, path, sum)),
            Value::Map(entries) => entries.iter().try_for_each(|entry| {
                if entry.name.len() > MAX_NAME {
                    return Err(Problem::long_name(entry.at));
                }
                let path = path + entry.name.len() + usize::from(depth > 0);
                if path > MAX_PATH {
                    let text = "bytes with the keys above it.";
                    let message = format!("A key has more than {MAX_PATH} {text}");
                    return Err(Problem::syntax(entry.at, message));
                }
                walk(&entry.node, depth + 1, path, sum)
            }),
            _ => Ok(()),
        }
    }
    walk(node, 0, 0, &mut 0)
}

#[cfg(test)]
mod tests;
