//! Whether a text can be a vault: eight checks in their order, each telling all it finds.

use super::few::Few;
use super::keys::{self, Found, Unknown};
use super::mask::{is_mask, is_mask_at};
use super::{environment, files};
use crate::read::{Format, MAX_BYTES, Problem, Rule, brief, names_fit, read, text_of};
use crate::tree::{Entry, Mark, Node, Value, told};
use std::collections::BTreeMap;

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
    /// The key, dotted, long names cut short; empty = the text as a whole.
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

/// A text as a tree: the first three checks. A text of nothing but blanks is an empty map. Names are
/// as long as they like: texts that are stored may be older than the bounds of names.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(format: Format, bytes: &[u8]) -> Result<Node, Finding> {
    let blank = text_of(bytes).is_ok_and(|text| text.trim().is_empty());
    if blank {
        return Ok(Node::bare(Value::Map(Vec::new())));
    }
    let tree = read(format, bytes).map_err(told_of)?;
    match tree.value {
        Value::Map(_) => Ok(tree),
        _ => {
            let message = "A vault must be a map at the top level.";
            Err(found(Code::Syntax, tree.at, message.to_owned()))
        }
    }
}

/// A text that is saved or asked for now as a tree: as [`parse`], and its names have bounds.
///
/// # Errors
/// The first thing that is wrong.
pub fn asked(format: Format, bytes: &[u8]) -> Result<Node, Finding> {
    let tree = parse(format, bytes)?;
    names_fit(&tree).map_err(told_of)?;
    Ok(tree)
}

const fn found(code: Code, at: Mark, message: String) -> Finding {
    Finding {
        code,
        path: String::new(),
        at,
        message,
    }
}

/// What is wrong with a text, as it is told of a vault.
fn told_of(problem: Problem) -> Finding {
    match problem.rule {
        Rule::Size => {
            let message = format!("A vault must be at most {} KiB.", MAX_BYTES / 1024);
            found(Code::Size, Mark::default(), message)
        }
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
    }
}

/// Looks at a text as it is to be saved.
///
/// # Errors
/// All that the first check that fails has found.
pub fn check(format: Format, bytes: &[u8]) -> Result<Checked, Vec<Finding>> {
    let tree = asked(format, bytes).map_err(|finding| vec![finding])?;
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
/// What the first check that fails has found: at most [`MAX_TOLD`](super::MAX_TOLD) things, then
/// one that says how many more.
pub fn findings(tree: &Node) -> Result<(), Vec<Finding>> {
    let stages: [fn(&Node) -> Few<Finding>; 5] = [masks, forbidden, types, variables, entries];
    for stage in stages {
        let found = stage(tree).all(|more| Finding {
            code: Code::Syntax,
            path: String::new(),
            at: Mark::default(),
            message: format!("{more}."),
        });
        if let Some(first) = found.first() {
            let code = first.code;
            return Err(found
                .into_iter()
                .map(|one| Finding { code, ..one })
                .collect());
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

fn masks(tree: &Node) -> Few<Finding> {
    /// A name, or the number of an item.
    enum Step<'a> {
        Name(&'a str),
        Item(usize),
    }
    fn path_of(path: &[Step<'_>]) -> String {
        let mut text = String::new();
        for step in path {
            match step {
                Step::Name(name) if text.is_empty() => text.push_str(&told(&[name])),
                Step::Name(name) => {
                    text.push('.');
                    text.push_str(&told(&[name]));
                }
                Step::Item(at) => text.push_str(&format!("[{at}]")),
            }
        }
        text
    }
    fn names_of(path: &[Step<'_>]) -> Vec<String> {
        let name = |step: &Step<'_>| match step {
            Step::Name(name) => Some((*name).to_owned()),
            Step::Item(_) => None,
        };
        path.iter().filter_map(name).collect()
    }
    fn walk<'a>(node: &'a Node, path: &mut Vec<Step<'a>>, all: &mut Few<Finding>) {
        match &node.value {
            Value::Text(text) if is_mask(text) && is_mask_at(&names_of(path), text) => {
                all.add(|| {
                    let path = path_of(path);
                    Finding {
                        code: Code::Masked,
                        at: node.at,
                        message: format!(
                            "{} is a mask, not a value; reveal the vault before editing it.",
                            brief(&path)
                        ),
                        path,
                    }
                })
            }
            Value::Map(entries) => {
                for entry in entries {
                    path.push(Step::Name(&entry.name));
                    walk(&entry.node, path, all);
                    path.pop();
                }
            }
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    path.push(Step::Item(at));
                    walk(item, path, all);
                    path.pop();
                }
            }
            _ => (),
        }
    }
    let mut all = Few::default();
    walk(tree, &mut Vec::new(), &mut all);
    all
}

fn forbidden(tree: &Node) -> Few<Finding> {
    keys::forbidden(tree).map(|one| Finding {
        code: Code::ForbiddenKey,
        path: one.path,
        at: one.at,
        message: one.message,
    })
}

fn types(tree: &Node) -> Few<Finding> {
    fn walk(entries: &[Entry], path: &mut Vec<String>, all: &mut Few<Finding>) {
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
                all.add(|| {
                    let text = told(path);
                    Finding {
                        code: Code::Type,
                        message: format!("{} must be {wanted}.", brief(&text)),
                        path: text,
                        at: entry.node.at,
                    }
                });
            }
            path.pop();
        }
    }
    let mut all = Few::default();
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

fn variables(tree: &Node) -> Few<Finding> {
    let mut all = Few::default();
    for entry in members(tree, "environment") {
        let name = environment::name_fault(&entry.name).map(|message| (entry.at, message));
        let value = || match &entry.node.value {
            Value::Null => None,
            _ => environment::value_fault(&entry.name, entry.node.text())
                .map(|message| (entry.node.at, message)),
        };
        if let Some((at, message)) = name.or_else(value) {
            all.add(|| Finding {
                code: Code::Env,
                path: told(&["environment", &entry.name]),
                at,
                message,
            });
        }
    }
    all
}

fn entries(tree: &Node) -> Few<Finding> {
    let mut all = Few::default();
    let mut paths: BTreeMap<String, &str> = BTreeMap::new();
    let mut sum = 0;
    for entry in members(tree, "files") {
        if entry.node.value == Value::Null {
            continue;
        }
        match files::read(&entry.name, entry.at, &entry.node) {
            Err(found) => all.join(found),
            Ok(file) => {
                sum += file.contents.len();
                if let Some(other) = paths.insert(file.path, &entry.name) {
                    all.add(|| Finding {
                        code: Code::File,
                        path: told(&["files", &entry.name]),
                        at: entry.at,
                        message: format!(
                            "Files {} and {} have the same path.",
                            brief(other),
                            brief(&entry.name)
                        ),
                    });
                }
            }
        }
    }
    if sum > files::MAX_FILES {
        all.add(|| Finding {
            code: Code::File,
            path: "files".to_owned(),
            at: tree.get("files").map_or(Mark::default(), |node| node.at),
            message: "Files must be at most 1 MiB together.".to_owned(),
        });
    }
    all
}

/// The leaves in which two documents differ, sorted, long names cut short: the first hundred, then
/// how many more. What they hold is not told.
#[must_use]
pub fn changed(before: &Node, after: &Node) -> Vec<String> {
    fn walk<'a>(
        (old, new): (Option<&'a Node>, Option<&'a Node>),
        path: &mut Vec<&'a str>,
        all: &mut Few<String>,
    ) {
        let members = |node: Option<&'a Node>| node.and_then(Node::entries).unwrap_or_default();
        // An empty map is a leaf, but at the top.
        let is_leaf = |node: &Node| node.entries().is_none_or(<[Entry]>::is_empty);
        let leaf = |node: Option<&'a Node>| node.filter(|node| is_leaf(node) && !path.is_empty());
        let json = |node: &Node| node.to_json();
        if leaf(old).map(json) != leaf(new).map(json) {
            all.add(|| told(path));
        }
        let mut both: BTreeMap<&'a str, (Option<&'a Node>, Option<&'a Node>)> = BTreeMap::new();
        for entry in members(old) {
            both.entry(&entry.name).or_default().0 = Some(&entry.node);
        }
        for entry in members(new) {
            both.entry(&entry.name).or_default().1 = Some(&entry.node);
        }
        for (name, pair) in both {
            path.push(name);
            walk(pair, path, all);
            path.pop();
        }
    }
    let mut all = Few::default();
    walk((Some(before), Some(after)), &mut Vec::new(), &mut all);
    all.all(|more| more)
}
