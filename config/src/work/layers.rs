//! Who wins: the layers of a session's configuration, and what is told about them.

use super::keys::{self, FREE, Found, Kind};
use super::mask::masked_at;
use crate::merge::{self, Leaf, Rules};
use crate::read::{Format, read};
use crate::tree::{Node, Value, dotted, is_named};
use serde_json::Value as Json;
use std::fmt;

/// The layers, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Defaults.
    BuiltIn,
    /// Files of the coordinator and of the agent.
    File,
    /// Vaults of administrators.
    GroupVault,
    /// One's own vault.
    PersonalVault,
    /// Variables of the coordinator and of the agent.
    Environment,
    /// What a request says.
    CommandLine,
    /// Locked vaults of administrators.
    LockedVault,
}

impl Layer {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::File => "file",
            Self::GroupVault => "group-vault",
            Self::PersonalVault => "personal-vault",
            Self::Environment => "environment",
            Self::CommandLine => "command-line",
            Self::LockedVault => "locked-vault",
        }
    }

    /// The layer of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        const ALL: [Layer; 7] = [
            Layer::BuiltIn,
            Layer::File,
            Layer::GroupVault,
            Layer::PersonalVault,
            Layer::Environment,
            Layer::CommandLine,
            Layer::LockedVault,
        ];
        ALL.into_iter().find(|layer| layer.as_str() == word)
    }

    /// Whether its documents are vaults.
    #[must_use]
    pub const fn is_vault(self) -> bool {
        matches!(
            self,
            Self::GroupVault | Self::PersonalVault | Self::LockedVault
        )
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A document of a layer.
pub type Document = merge::Layer<Layer>;

/// Whether the key at this path is replaced whole.
fn is_atomic(path: &[String]) -> bool {
    matches!(path, [first, _] if first == "files")
}

/// Whether this path is about logins at registries. They are for the agent that pulls; no container
/// gets them.
#[must_use]
pub fn is_of_registries(path: &[String]) -> bool {
    let begin = path.iter().map(String::as_str).take(2);
    begin.eq(["agent", "registries"])
}

struct Work;

impl Rules<Layer> for Work {
    fn is_atomic(&self, path: &[String]) -> bool {
        is_atomic(path)
    }

    fn is_built_in(&self, kind: &Layer) -> bool {
        *kind == Layer::BuiltIn
    }
}

/// A vault as a document. What it may not set is left out and told.
#[must_use]
pub fn vault(
    kind: Layer,
    id: &str,
    version: u64,
    priority: i64,
    tree: &Node,
) -> (Document, Vec<Warning>) {
    let (tree, left_out) = keys::allowed(tree);
    let warnings = left_out
        .into_iter()
        .map(|path| Warning {
            source: Some(id.to_owned()),
            ..Warning::of("forbidden-key", path)
        })
        .collect();
    let document = Document {
        kind,
        source: id.to_owned(),
        version: Some(version),
        places: false,
        priority,
        tree,
    };
    (document, warnings)
}

/// Something else as a document; later ones stand above earlier ones.
#[must_use]
pub const fn document(kind: Layer, source: String, places: bool, at: i64, tree: Node) -> Document {
    Document {
        kind,
        source,
        version: None,
        places,
        priority: at,
        tree,
    }
}

/// A value below a dotted path.
#[must_use]
pub fn under(path: &[String], node: Node) -> Node {
    let mut tree = Node::bare(Value::Map(Vec::new()));
    tree.set(path, Some(node));
    tree
}

/// A text of a command line or a variable as the key's type reads it: `KEY=VALUE`. Where the key
/// is not text, and where it is none of ours, what looks like JSON is JSON.
///
/// # Errors
/// What the value must be instead.
pub fn value_of(path: &[String], text: &str) -> Result<Node, String> {
    let parsed = || read(Format::Json, text.as_bytes()).ok();
    let plain = || Node::bare(Value::Text(text.to_owned()));
    match keys::find(path) {
        Found::Free if path.first().is_some_and(|root| root == "environment") => Ok(plain()),
        Found::Key(kind) => {
            let candidates = [Some(plain()), parsed(), listed(kind, text)];
            let fits = candidates
                .into_iter()
                .flatten()
                .find(|node| kind.takes(node));
            let null = || (text == "null").then(|| Node::bare(Value::Null));
            fits.or_else(null)
                .ok_or_else(|| format!("{} must be {}.", dotted(path), kind.wanted()))
        }
        Found::Section | Found::Free => match parsed() {
            Some(node) if matches!(node.value, Value::Map(_) | Value::Null) => Ok(node),
            _ => Err(format!("{} must be a map in JSON.", dotted(path))),
        },
        Found::Unknown => Ok(parsed().unwrap_or_else(plain)),
    }
}

/// `a, b` where a list of texts is wanted.
fn listed(kind: Kind, text: &str) -> Option<Node> {
    let texts = matches!(kind, Kind::Texts | Kind::Urls);
    texts.then(|| {
        let items = text.split(',').map(str::trim).filter(|t| !t.is_empty());
        let nodes = items
            .map(|t| Node::bare(Value::Text(t.to_owned())))
            .collect();
        Node::bare(Value::List(nodes))
    })
}

/// What is worth telling about a merge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Warning {
    /// `type-change`, `same-priority`, `unknown-key`, `forbidden-key`, `vault-skipped`,
    /// `same-path`, `file-skipped`.
    pub code: &'static str,
    /// About which key.
    pub path: String,
    /// What it was.
    pub from: Option<String>,
    /// What it is now.
    pub to: Option<String>,
    /// Who did it.
    pub source: Option<String>,
    /// The vaults concerned; the last one won.
    pub vaults: Vec<String>,
    /// The known key that looks most like it.
    pub near: Option<&'static str>,
}

impl Warning {
    /// One about a key.
    #[must_use]
    pub fn of(code: &'static str, path: String) -> Self {
        Self {
            code,
            path,
            ..Self::default()
        }
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Every leaf, sorted by path.
    pub leaves: Vec<Leaf<Layer>>,
    /// Maps that stand where there was something else, with what was there.
    pub replaced: Vec<Leaf<Layer>>,
    /// What is worth telling.
    pub warnings: Vec<Warning>,
}

/// The defaults.
fn built_in() -> Document {
    let text = br#"{"agent":{"apply_environment":true,"apply_files":true}}"#;
    let tree = read(Format::Json, text);
    let tree = tree.unwrap_or_else(|_| Node::bare(Value::Map(Vec::new())));
    document(Layer::BuiltIn, "built-in".to_owned(), false, 0, tree)
}

/// Where a key is text, a scalar is the letters of its source: `1.10` stays that. Members of lists
/// of maps are texts too.
fn keep_letters(node: &mut Node, path: &mut Vec<String>) {
    let texts = |node: &mut Node| {
        if let Some(text) = node.text().map(str::to_owned) {
            node.value = Value::Text(text);
        }
    };
    match (keys::find(path), &mut node.value) {
        (Found::Section, Value::Map(entries)) => {
            for entry in entries {
                path.push(entry.name.clone());
                keep_letters(&mut entry.node, path);
                path.pop();
            }
        }
        (Found::Free, _) if path.first().is_some_and(|root| root == "environment") => texts(node),
        (Found::Key(Kind::Text | Kind::Secret | Kind::Url), _) => texts(node),
        (Found::Key(Kind::Texts | Kind::Urls), Value::List(items)) => {
            items.iter_mut().for_each(texts);
        }
        (Found::Key(Kind::Entries(_)), Value::List(items)) => {
            for item in items {
                if let Value::Map(entries) = &mut item.value {
                    entries.iter_mut().for_each(|entry| texts(&mut entry.node));
                }
            }
        }
        _ => (),
    }
}

/// Merges documents. They come in any order of the layers; inside of one, as they fold.
#[must_use]
pub fn merge(mut documents: Vec<Document>) -> Merged {
    documents.push(built_in());
    for document in &mut documents {
        keep_letters(&mut document.tree, &mut Vec::new());
    }
    documents.sort_by_key(|document| document.kind);
    let merged = merge::merge(&documents, &Work);
    let told = merged.warnings.into_iter().map(|warning| match warning {
        merge::Warning::TypeChange {
            path,
            from,
            to,
            source,
        } => Warning {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            source: Some(source),
            ..Warning::of("type-change", path)
        },
        merge::Warning::SamePriority { path, sources } => Warning {
            vaults: sources.to_vec(),
            ..Warning::of("same-priority", path)
        },
    });
    let mut warnings: Vec<Warning> = told.collect();
    let tree = tree_of(&merged.leaves, |_| true);
    warnings.extend(keys::unknown(&tree).into_iter().map(|unknown| Warning {
        near: unknown.near,
        ..Warning::of("unknown-key", unknown.path)
    }));
    Merged {
        leaves: merged.leaves,
        replaced: merged.replaced,
        warnings,
    }
}

/// The leaves that are set and kept, as one document.
fn tree_of(leaves: &[Leaf<Layer>], keep: impl Fn(&Leaf<Layer>) -> bool) -> Node {
    let mut tree = Node::bare(Value::Map(Vec::new()));
    for leaf in leaves.iter().filter(|leaf| keep(leaf)) {
        if let Some(value) = &leaf.value {
            tree.add(&leaf.path, value.clone());
        }
    }
    tree
}

impl Merged {
    /// All that somebody set, defaults left out.
    #[must_use]
    pub fn tree(&self) -> Node {
        tree_of(&self.leaves, |leaf| leaf.origin.kind != Layer::BuiltIn)
    }

    /// The same without what a container gets in another way or not at all.
    #[must_use]
    pub fn for_container(&self) -> Node {
        tree_of(&self.leaves, |leaf| {
            let free = leaf
                .path
                .first()
                .is_some_and(|root| FREE.contains(&root.as_str()));
            leaf.origin.kind != Layer::BuiltIn && !free && !is_of_registries(&leaf.path)
        })
    }

    /// What holds at a dotted path, defaults included.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        let leaf = self.leaves.iter().find(|leaf| is_named(&leaf.path, path));
        leaf.and_then(|leaf| leaf.value.as_ref())
    }

    /// A text that holds at a dotted path; empty ones are as none.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path)
            .and_then(Node::text)
            .filter(|text| !text.is_empty())
    }

    /// The document that a hash of the configuration is made of: sorted, without any space.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.tree().to_json().to_string()
    }

    /// The document as it is shown: with masks in place of what is secret, but for the leaves
    /// that are revealed.
    #[must_use]
    pub fn shown(&self, reveals: impl Fn(&Leaf<Layer>) -> bool) -> Json {
        let mut tree = Node::bare(Value::Map(Vec::new()));
        for leaf in &self.leaves {
            if let (Some(value), true) = (&leaf.value, leaf.origin.kind != Layer::BuiltIn) {
                let value = match reveals(leaf) {
                    true => value.clone(),
                    false => masked_at(&leaf.path, value),
                };
                tree.add(&leaf.path, value);
            }
        }
        tree.to_json()
    }

    /// What a request set in vain since a locked vault says otherwise.
    #[must_use]
    pub fn locked(&self) -> Vec<Locked> {
        let of = |leaf: &Leaf<Layer>| {
            if leaf.origin.kind != Layer::LockedVault {
                return None;
            }
            let asked = leaf.shadowed.iter();
            let (_, asked) = asked
                .clone()
                .find(|(origin, _)| origin.kind == Layer::CommandLine)?;
            let shown = |node: &Option<Node>| match node {
                None => "unset".to_owned(),
                Some(node) => {
                    let masked = masked_at(&leaf.path, node);
                    let text = masked.text().map(str::to_owned);
                    text.unwrap_or_else(|| masked.to_json().to_string())
                }
            };
            Some(Locked {
                path: dotted(&leaf.path),
                from: shown(asked),
                to: shown(&leaf.value),
                source: leaf.origin.source.clone(),
            })
        };
        let all = self.leaves.iter().chain(&self.replaced);
        all.filter_map(of).collect()
    }
}

/// A path that a locked vault holds against a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// Dotted.
    pub path: String,
    /// What was asked for; masked where it is secret.
    pub from: String,
    /// What holds; masked where it is secret.
    pub to: String,
    /// The vault.
    pub source: String,
}
