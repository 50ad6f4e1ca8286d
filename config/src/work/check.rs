//! Whether a text can be a vault: eight checks in their order, each telling all it finds.

use super::keys::{self, Found, Unknown};
use super::mask::is_mask;
use super::{environment, files};
use crate::read::{Format, MAX_BYTES, Rule, brief, read, text_of};
use crate::tree::{Entry, Mark, Node, Value, dotted};
use std::collections::{BTreeMap, BTreeSet};

/// Which check found something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// Too long.
    Size,
    /// Not what the format allows, or beyond its bounds.
    Syntax,
    /// Holds a mask in place of a value.
    Masked,
    /// Sets what no vault can set.
    ForbiddenKey,
    /// A known key of another type.
    Type,
    /// A name or value of the environment.
    Env,
    /// A file.
    File,
}

impl Code {
    /// The code of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Size => "LS-VAULT-SIZE",
            Self::Syntax => "LS-VAULT-SYNTAX",
            Self::Masked => "LS-VAULT-MASKED",
            Self::ForbiddenKey => "LS-VAULT-FORBIDDEN-KEY",
            Self::Type => "LS-VAULT-TYPE",
            Self::Env => "LS-VAULT-ENV",
            Self::File => "LS-VAULT-FILE",
        }
    }
}

/// What is wrong, and where. No value of the text is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub code: Code,
    /// The key, dotted; empty = the text as a whole.
    pub path: String,
    /// Where.
    pub at: Mark,
    /// One sentence.
    pub message: String,
}

/// A text that can be a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What it says.
    pub tree: Node,
    /// Keys that are none of ours: kept, and told.
    pub unknown: Vec<Unknown>,
    /// Its top-level keys, in the order of the text.
    pub keys: Vec<String>,
    /// How many values it has: scalars, lists and empty maps.
    pub values: usize,
}

/// A text as a tree: the first three checks. A text of nothing but blanks is an empty map.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(format: Format, bytes: &[u8]) -> Result<Node, Finding> {
    let found = |code, at, message: String| Finding {
        code,
        path: String::new(),
        at,
        message,
    };
    let size = || {
        let message = format!("A vault must be at most {} KiB.", MAX_BYTES / 1024);
        found(Code::Size, Mark::default(), message)
    };
    let blank = text_of(bytes).is_ok_and(|text| text.trim().is_empty());
    if blank {
        return Ok(Node::bare(Value::Map(Vec::new())));
    }
    let tree = read(format, bytes).map_err(|problem| match problem.rule {
        Rule::Size => size(),
        Rule::Depth => {
            let message = "The vault is nested deeper than 32 levels.";
            found(Code::Syntax, problem.at, message.to_owned())
        }
        Rule::Values => {
            let message = "The vault has more than 10000 values.";
            found(Code::Syntax, problem.at, message.to_owned())
        }
        Rule::Syntax => Finding {
            path: problem.path,
            ..found(Code::Syntax, problem.at, problem.message)
        },
    })?;
    match tree.value {
        Value::Map(_) => Ok(tree),
        _ => {
            let message = "A vault must be a map at the top level.";
            Err(found(Code::Syntax, tree.at, message.to_owned()))
        }
    }
}

/// Looks at a text as it is to be saved.
///
/// # Errors
/// All that the first check that fails has found.
pub fn check(format: Format, bytes: &[u8]) -> Result<Checked, Vec<Finding>> {
    let tree = parse(format, bytes).map_err(|finding| vec![finding])?;
    findings(&tree)?;
    let entries = tree.entries().unwrap_or_default();
    let unknown = keys::unknown(&tree);
    let keys = entries.iter().map(|entry| entry.name.clone()).collect();
    let values = count(&tree);
    Ok(Checked {
        tree,
        unknown,
        keys,
        values,
    })
}

/// The checks of a document, from masks on.
///
/// # Errors
/// All that the first check that fails has found.
pub fn findings(tree: &Node) -> Result<(), Vec<Finding>> {
    let stages: [fn(&Node) -> Vec<Finding>; 5] = [masks, forbidden, types, variables, entries];
    for stage in stages {
        let found = stage(tree);
        if !found.is_empty() {
            return Err(found);
        }
    }
    Ok(())
}

fn count(node: &Node) -> usize {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            entries.iter().map(|entry| count(&entry.node)).sum()
        }
        Value::Map(_) => 0,
        _ => 1,
    }
}

fn masks(tree: &Node) -> Vec<Finding> {
    fn walk(node: &Node, path: &str, all: &mut Vec<Finding>) {
        match &node.value {
            Value::Text(text) if is_mask(text) => all.push(Finding {
                code: Code::Masked,
                path: path.to_owned(),
                at: node.at,
                message: format!(
                    "{} is a mask, not a value; reveal the vault before editing it.",
                    brief(path)
                ),
            }),
            Value::Map(entries) => {
                for entry in entries {
                    let name = dotted(std::slice::from_ref(&entry.name));
                    let inner = match path {
                        "" => name,
                        path => format!("{path}.{name}"),
                    };
                    walk(&entry.node, &inner, all);
                }
            }
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    walk(item, &format!("{path}[{at}]"), all);
                }
            }
            _ => (),
        }
    }
    let mut all = Vec::new();
    walk(tree, "", &mut all);
    all
}

fn forbidden(tree: &Node) -> Vec<Finding> {
    let found = keys::forbidden(tree).into_iter();
    found
        .map(|forbidden| Finding {
            code: Code::ForbiddenKey,
            path: dotted(&forbidden.path),
            at: forbidden.at,
            message: forbidden.message,
        })
        .collect()
}

fn types(tree: &Node) -> Vec<Finding> {
    fn walk(entries: &[Entry], path: &mut Vec<String>, all: &mut Vec<Finding>) {
        for entry in entries {
            path.push(entry.name.clone());
            let wrong = match (keys::find(path), &entry.node.value) {
                (_, Value::Null) => None,
                (Found::Section, Value::Map(inner)) => {
                    walk(inner, path, all);
                    None
                }
                (Found::Section, _) => Some("a map".to_owned()),
                (Found::Key(kind), _) if !kind.takes(&entry.node) => Some(kind.wanted()),
                _ => None,
            };
            if let Some(wanted) = wrong {
                let text = dotted(path);
                all.push(Finding {
                    code: Code::Type,
                    message: format!("{} must be {wanted}.", brief(&text)),
                    path: text,
                    at: entry.node.at,
                });
            }
            path.pop();
        }
    }
    let mut all = Vec::new();
    walk(
        tree.entries().unwrap_or_default(),
        &mut Vec::new(),
        &mut all,
    );
    all
}

fn members<'a>(tree: &'a Node, name: &str) -> &'a [Entry] {
    tree.get(name).and_then(Node::entries).unwrap_or_default()
}

fn variables(tree: &Node) -> Vec<Finding> {
    let fault = |entry: &Entry| {
        let name = environment::name_fault(&entry.name).map(|message| (entry.at, message));
        let value = || match &entry.node.value {
            Value::Null => None,
            _ => environment::value_fault(&entry.name, entry.node.text())
                .map(|message| (entry.node.at, message)),
        };
        let (at, message) = name.or_else(value)?;
        Some(Finding {
            code: Code::Env,
            path: dotted(&["environment".to_owned(), entry.name.clone()]),
            at,
            message,
        })
    };
    members(tree, "environment")
        .iter()
        .filter_map(fault)
        .collect()
}

fn entries(tree: &Node) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut paths: BTreeMap<String, &str> = BTreeMap::new();
    let mut sum = 0;
    for entry in members(tree, "files") {
        if entry.node.value == Value::Null {
            continue;
        }
        match files::entry(&entry.name, entry.at, &entry.node) {
            Err(found) => all.extend(found),
            Ok(file) => {
                sum += file.contents.len();
                if let Some(other) = paths.insert(file.path, &entry.name) {
                    let (a, b) = (brief(other), brief(&entry.name));
                    all.push(Finding {
                        code: Code::File,
                        path: dotted(&["files".to_owned(), entry.name.clone()]),
                        at: entry.at,
                        message: format!("Files {a} and {b} have the same path."),
                    });
                }
            }
        }
    }
    if sum > files::MAX_FILES {
        all.push(Finding {
            code: Code::File,
            path: "files".to_owned(),
            at: tree.get("files").map_or(Mark::default(), |node| node.at),
            message: "Files must be at most 1 MiB together.".to_owned(),
        });
    }
    all
}

/// The leaves in which two documents differ, dotted and sorted; what it holds is not told.
#[must_use]
pub fn changed(before: &Node, after: &Node) -> Vec<String> {
    fn leaves<'a>(node: &'a Node, path: &mut Vec<String>, all: &mut BTreeMap<String, &'a Value>) {
        match &node.value {
            Value::Map(entries) if !entries.is_empty() => {
                for entry in entries {
                    path.push(entry.name.clone());
                    leaves(&entry.node, path, all);
                    path.pop();
                }
            }
            Value::Map(_) if path.is_empty() => (),
            value => drop(all.insert(dotted(path), value)),
        }
    }
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    leaves(before, &mut Vec::new(), &mut old);
    leaves(after, &mut Vec::new(), &mut new);
    let json = |value: &Value| Node::bare(value.clone()).to_json();
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| {
            let of = |all: &BTreeMap<String, &Value>| all.get(*name).map(|value| json(value));
            of(&old) != of(&new)
        })
        .cloned()
        .collect()
}
