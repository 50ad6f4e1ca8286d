//! A document in a form that can be kept and sent: its values, each with its place.
//!
//! Merged with others it comes to what the document itself comes to, provenance included. It is no
//! JSON of the document: that loses the letters of numbers, and `0o640` as the mode of a file or
//! `1.10` as what is in it would come back as something else.

use super::layers::{Document, Layer};
use crate::read::MAX_DEPTH;
use crate::tree::{Entry, Mark, Node, Value};
use serde::{Deserialize, Serialize};

/// A document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flat {
    /// The word of its layer.
    pub layer: String,
    /// Its name.
    pub source: String,
    /// Its version, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Whether lines of it are told with its name.
    #[serde(default)]
    pub places: bool,
    /// Among documents of its layer.
    pub priority: i64,
    /// All that it sets or takes away.
    pub tree: Part,
}

/// A value as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Takes something away.
    #[serde(rename = "0")]
    Null,
    /// `true`, `false`.
    #[serde(rename = "b")]
    Bool(bool),
    /// A number in the letters of its source.
    #[serde(rename = "n")]
    Number(String),
    /// A text.
    #[serde(rename = "t")]
    Text(String),
    /// A list.
    #[serde(rename = "l")]
    List(Vec<Self>),
    /// A map: of each member its name, its line, from 1, 0 = none, and its value.
    #[serde(rename = "m")]
    Map(Vec<(String, u32, Self)>),
}

impl Part {
    /// None where it is nested too deep to be read again.
    fn of(node: &Node, depth: usize) -> Option<Self> {
        let below = depth.checked_sub(1)?;
        Some(match &node.value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(text) => Self::Number(text.clone()),
            Value::Text(text) => Self::Text(text.clone()),
            Value::List(items) => {
                let items = items.iter().map(|item| Self::of(item, below));
                Self::List(items.collect::<Option<_>>()?)
            }
            Value::Map(entries) => {
                let entries = entries.iter().map(|entry| {
                    let part = Self::of(&entry.node, below)?;
                    Some((entry.name.clone(), entry.at.line, part))
                });
                Self::Map(entries.collect::<Option<_>>()?)
            }
        })
    }

    fn node(self) -> Node {
        Node::bare(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Number(text) => Value::Number(text),
            Self::Text(text) => Value::Text(text),
            Self::List(items) => Value::List(items.into_iter().map(Self::node).collect()),
            Self::Map(entries) => {
                let entries = entries.into_iter().map(|(name, line, part)| Entry {
                    name,
                    at: Mark {
                        line,
                        column: u32::from(line > 0),
                    },
                    node: part.node(),
                });
                Value::Map(entries.collect())
            }
        })
    }
}

impl Flat {
    /// Of a document; none where it is nested deeper than any that was read as one text, and one
    /// level for the key that it belongs under.
    #[must_use]
    pub fn of(document: &Document) -> Option<Self> {
        Some(Self {
            layer: document.kind.as_str().to_owned(),
            source: document.source.clone(),
            version: document.version,
            places: document.places,
            priority: document.priority,
            // The document itself is the first level, what is at its ends the last.
            tree: Part::of(&document.tree, MAX_DEPTH + 2)?,
        })
    }

    /// The document.
    ///
    /// # Errors
    /// It is no map, or has a layer nobody knows.
    pub fn document(self) -> Result<Document, &'static str> {
        let kind = Layer::of(&self.layer).ok_or("a layer that is not known")?;
        let tree = self.tree.node();
        if tree.entries().is_none() {
            return Err("no map at the top");
        }
        Ok(Document {
            kind,
            source: self.source,
            version: self.version,
            places: self.places,
            priority: self.priority,
            tree,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{Format, read};
    use crate::work::delivery::deliver;
    use crate::work::layers::{document, merge};

    fn documents() -> Vec<Document> {
        let of = |kind, source: &str, places, at, text: &str| {
            let tree = read(Format::Yaml, text.as_bytes()).unwrap();
            document(kind, source.to_owned(), places, at, tree)
        };
        vec![
            of(
                Layer::File,
                "coordinator:/etc/x",
                true,
                0,
                "environment: {A: 1.10, B: on}\nagent:\n  git: {user: a}\n  apply_files: false\n",
            ),
            of(
                Layer::GroupVault,
                "v1",
                false,
                100,
                "files:\n  x: {path: /tmp/x, contents: {a: [1, null]}}\nnote: {}\nlist: [{a: {}}]\n",
            ),
            of(
                Layer::LockedVault,
                "v2",
                false,
                0,
                "environment: {B: null}\nagent: {apply_files: null}\nnote: {deep: {er: 5e-4}}\n",
            ),
        ]
    }

    /// Kept, and read again.
    fn again(one: &Document) -> Document {
        let text = serde_json::to_string(&Flat::of(one).unwrap()).unwrap();
        let flat: Flat = serde_json::from_str(&text).unwrap();
        flat.document().unwrap()
    }

    #[test]
    fn what_was_flat_merges_as_it_did_before() {
        let before = documents();
        let after = before.iter().map(again);
        let (before, after) = (merge(before.clone()), merge(after.collect()));
        assert_eq!(before.canonical(), after.canonical());
        assert_eq!(before.warnings, after.warnings);
        let told = |merged: &crate::work::layers::Merged| {
            let leaves = merged.leaves.iter();
            let all = leaves.map(|leaf| {
                let shadowed = leaf.shadowed.iter().map(|(o, _)| o.source.clone());
                let shadowed: Vec<String> = shadowed.collect();
                (leaf.path.clone(), leaf.origin.source.clone(), shadowed)
            });
            all.collect::<Vec<_>>()
        };
        assert_eq!(told(&before), told(&after));
        assert_eq!(after.text("environment.A"), Some("1.10"));
        assert_eq!(
            after.get("agent.apply_files"),
            before.get("agent.apply_files")
        );
    }

    #[test]
    fn what_was_flat_is_delivered_as_it_was_before() {
        let text = "\
files:
  mode: {path: /tmp/a, contents: 1.10, mode: 0o640}
  octal: {path: /tmp/b, contents: 0x1F, mode: 0o600}
  large: {path: /tmp/c, contents: 123456789012345678901234567890, mode: 0440}
  made:
    path: /tmp/d
    target_format: yaml
    contents: {version: 1.10, list: [0x1F, {deep: 1e2}]}
agent:
  registries: [{host: r.lab, username: 007, password: 0123}]
note: {version: 1.10}
";
        let tree = read(Format::Yaml, text.as_bytes()).unwrap();
        let before = document(Layer::PersonalVault, "v".to_owned(), false, 0, tree);
        let of = |one: Document| deliver(&merge(vec![one]), |_| false).unwrap();
        let (after, left_out) = of(again(&before));
        assert_eq!((after.clone(), left_out), of(before));
        let file = |path: &str| after.files.iter().find(|file| file.path == path).unwrap();
        let told = |path: &str| {
            let file = file(path);
            (String::from_utf8(file.contents.clone()).unwrap(), file.mode)
        };
        assert_eq!(told("/tmp/a"), ("1.10".to_owned(), 0o640));
        assert_eq!(told("/tmp/b"), ("0x1F".to_owned(), 0o600));
        let large = "123456789012345678901234567890";
        assert_eq!(told("/tmp/c"), (large.to_owned(), 0o440));
        assert!(told("/tmp/d").0.contains("1.10"), "{}", told("/tmp/d").0);
        assert_eq!(after.registries[0].password, "0123");
    }

    #[test]
    fn a_long_name_is_kept_once() {
        let name = "n".repeat(500);
        let leaves: Vec<String> = (0..1000).map(|n| format!("\"k{n}\":{n}")).collect();
        let text = format!("{{\"{name}\":{{{}}}}}", leaves.join(","));
        let tree = read(Format::Json, text.as_bytes()).unwrap();
        let one = document(Layer::PersonalVault, "v".to_owned(), false, 0, tree);
        let kept = serde_json::to_string(&Flat::of(&one).unwrap()).unwrap();
        assert!(kept.len() < 3 * text.len(), "{}", kept.len());
        assert_eq!(
            merge(vec![again(&one)]).canonical(),
            merge(vec![one]).canonical()
        );
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let flat = |layer: &str, tree: Part| Flat {
            layer: layer.to_owned(),
            source: String::new(),
            version: None,
            places: false,
            priority: 0,
            tree,
        };
        assert!(flat("file", Part::Map(Vec::new())).document().is_ok());
        assert!(flat("flie", Part::Map(Vec::new())).document().is_err());
        assert!(flat("file", Part::Null).document().is_err());
    }

    #[test]
    fn as_deep_as_it_may_be_it_is_read_again_and_deeper_it_is_not_kept() {
        let of = |depth: usize| {
            let leaf = Node::bare(Value::Number("1".to_owned()));
            let tree = (0..depth).fold(leaf, |node, _| {
                let name = "a".to_owned();
                let at = Mark::default();
                Node::bare(Value::Map(vec![Entry { name, at, node }]))
            });
            document(Layer::Environment, "X".to_owned(), false, 0, tree)
        };
        let deepest = of(MAX_DEPTH + 1);
        // Where it is kept it stands in a list in a map.
        let text = serde_json::to_string(&[[[Flat::of(&deepest).unwrap()]]]).unwrap();
        let kept: [[[Flat; 1]; 1]; 1] = serde_json::from_str(&text).unwrap();
        let [[[kept]]] = kept;
        assert_eq!(kept.document().unwrap(), deepest);
        assert_eq!(Flat::of(&of(MAX_DEPTH + 2)), None);
    }
}
