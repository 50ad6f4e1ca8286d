//! Scenario files as text: YAML, of which JSON is a part.

use super::InputError;
use super::input::{Input, Seconds};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Options, Spanned};
use std::fmt;

/// What is wrong with a file: in which line, and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct FileError {
    /// From 1; 0 = the file as a whole.
    pub line: u64,
    /// Which member, and what is wrong with it.
    pub message: String,
}

fn options() -> Options {
    let mut options = serde_saphyr::options! {
        // `no` and `on` are names of things as often as they are answers.
        strict_booleans: true,
    };
    if let Some(budget) = &mut options.budget {
        // A recorded workload has many events; its size is bounded by the file's.
        budget.max_events = usize::MAX;
        budget.max_nodes = usize::MAX;
        budget.max_total_scalar_bytes = usize::MAX;
    }
    options
}

/// Reads a scenario.
///
/// # Errors
/// The first thing that is no YAML, or no member of a scenario.
pub fn read(text: &str) -> Result<Input, FileError> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let place = error.location().map(|at| (at.line(), at.column()));
        let message = bare(&error.without_snippet().to_string());
        let member = place.and_then(|place| member_at(text, place));
        FileError {
            line: place.map_or(0, |(line, _)| line),
            message: member.map_or_else(|| message.clone(), |m| format!("{m}: {message}")),
        }
    })
}

/// The first line of a message, without the place that is told apart from it.
fn bare(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.rsplit_once(" at line ")
        .map_or(line, |(message, _)| message)
        .to_owned()
}

/// The member that stands at a line and column, such as `events[3].submit.user`.
fn member_at(text: &str, place: (u64, u64)) -> Option<String> {
    fn walk(node: &Spanned<Tree>, path: &str, place: (u64, u64), found: &mut Option<String>) {
        let mut visit = |at: (u64, u64), path: String, child: &Spanned<Tree>| {
            if at <= place {
                *found = Some(path.clone());
                walk(child, &path, place, found);
            }
        };
        match &node.value {
            Tree::Map(members) => {
                for (name, child) in members {
                    let at = (name.referenced.line(), name.referenced.column());
                    let dot = if path.is_empty() { "" } else { "." };
                    visit(at, format!("{path}{dot}{}", name.value), child);
                }
            }
            Tree::List(items) => {
                for (index, child) in items.iter().enumerate() {
                    let at = (child.referenced.line(), child.referenced.column());
                    visit(at, format!("{path}[{index}]"), child);
                }
            }
            Tree::Leaf => (),
        }
    }
    let root: Spanned<Tree> = serde_saphyr::from_str_with_options(text, options()).ok()?;
    let mut found = None;
    walk(&root, "", place, &mut found);
    found
}

/// Runs a scenario that was read from a text; errors name the line of the member.
///
/// # Errors
/// See [`super::run`].
pub fn run(text: &str) -> Result<Vec<String>, FileError> {
    run_until(text, None)
}

/// The same, stopped at another second than the file's if one is given.
///
/// # Errors
/// See [`super::run`].
pub fn run_until(text: &str, until: Option<Seconds>) -> Result<Vec<String>, FileError> {
    let mut input = read(text)?;
    input.until = until.or(input.until);
    super::run(&input).map_err(|error| located(text, &error))
}

fn located(text: &str, error: &InputError) -> FileError {
    FileError {
        line: line_of(text, &error.path).unwrap_or(0),
        message: error.to_string(),
    }
}

/// The line of the member a path names, or of the last part of it that is there.
fn line_of(text: &str, path: &str) -> Option<u64> {
    let root: Spanned<Tree> = serde_saphyr::from_str_with_options(text, options()).ok()?;
    let mut line = root.referenced.line();
    let mut tree = &root.value;
    for part in path.split(['.', '[']) {
        let part = part.trim_end_matches(']');
        let next = match tree {
            Tree::Map(members) => members
                .iter()
                .find(|(n, _)| n.value == part)
                .map(|(_, v)| v),
            Tree::List(items) => part.parse::<usize>().ok().and_then(|at| items.get(at)),
            Tree::Leaf => None,
        };
        let Some(next) = next else { break };
        line = next.referenced.line();
        tree = &next.value;
    }
    Some(line)
}

/// Any document, with the lines of its parts.
enum Tree {
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
    List(Vec<Spanned<Tree>>),
    Leaf,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<Spanned<String>>()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Tree::Map(members))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Tree, D::Error> {
                IgnoredAny::deserialize(value).map(|_| Tree::Leaf)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_line_and_member() {
        let text = "agents:\n- {name: a, slots: {cpu: 2}}\nevents:\n- {at: 0, submit: {id: s, slots: {cpu: 1}}}\n- at: 1\n  submit:\n    id: t\n    group: nowhere\n";
        let error = run(text).unwrap_err();
        assert_eq!(error.line, 8, "{error}");
        assert!(error.message.contains("events[1].submit.group"), "{error}");
        let error = run("agents: []\nevent: []\n").unwrap_err();
        assert_eq!(error.line, 2, "{error}");
        assert!(error.message.contains("event"), "{error}");
    }
}
