//! A document in a form that can be kept and sent: its ends, each with its place.
//!
//! Merged with others it comes to what the document itself comes to, provenance included.

use super::layers::{Document, Layer, is_atomic, keep_letters};
use crate::tree::{Entry, Mark, Node, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Most ends of one document: as many as a vault has values.
const MAX_ENDS: usize = 10_000;
/// Deepest end.
const MAX_DEPTH: usize = 32;

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
    pub ends: Vec<End>,
}

/// Something that a document sets, or with `null` takes away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// From the top.
    pub path: Vec<String>,
    /// The line, from 1; 0 = none.
    #[serde(default)]
    pub line: u32,
    /// The value.
    pub value: Json,
}

impl Flat {
    /// Of a document.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        let mut ends = Vec::new();
        // JSON would lose the letters of numbers where they are text.
        let mut tree = document.tree.clone();
        keep_letters(&mut tree, &mut Vec::new());
        gather(&tree, 0, &mut Vec::new(), &mut ends);
        Self {
            layer: document.kind.as_str().to_owned(),
            source: document.source.clone(),
            version: document.version,
            places: document.places,
            priority: document.priority,
            ends,
        }
    }

    /// The document.
    ///
    /// # Errors
    /// It has too many ends, one that is too deep, or a layer nobody knows.
    pub fn document(&self) -> Result<Document, &'static str> {
        let kind = Layer::of(&self.layer).ok_or("a layer that is not known")?;
        if self.ends.len() > MAX_ENDS {
            return Err("too many values");
        }
        let mut tree = Node::bare(Value::Map(Vec::new()));
        for end in &self.ends {
            if end.path.is_empty() || end.path.len() > MAX_DEPTH {
                return Err("a value at no depth that there is");
            }
            put(&mut tree, &end.path, end.line, &end.value);
        }
        Ok(Document {
            kind,
            source: self.source.clone(),
            version: self.version,
            places: self.places,
            priority: self.priority,
            tree,
        })
    }
}

fn gather(node: &Node, line: u32, path: &mut Vec<String>, ends: &mut Vec<End>) {
    match &node.value {
        Value::Map(entries) if path.is_empty() || !(entries.is_empty() || is_atomic(path)) => {
            for entry in entries {
                path.push(entry.name.clone());
                gather(&entry.node, entry.at.line, path, ends);
                path.pop();
            }
        }
        _ => ends.push(End {
            path: path.clone(),
            line,
            value: node.to_json(),
        }),
    }
}

fn put(node: &mut Node, path: &[String], line: u32, value: &Json) {
    let [name, rest @ ..] = path else {
        *node = Node::from_json(value);
        return;
    };
    if node.entries().is_none() {
        node.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut node.value else {
        return;
    };
    // The ends of a map stand together, so the last one is nearly always it.
    let at = entries.iter().rposition(|entry| entry.name == *name);
    let at = at.unwrap_or_else(|| {
        entries.push(Entry {
            name: name.clone(),
            at: Mark::default(),
            node: Node::bare(Value::Map(Vec::new())),
        });
        entries.len() - 1
    });
    if rest.is_empty() {
        let column = u32::from(line > 0);
        entries[at].at = Mark { line, column };
    }
    put(&mut entries[at].node, rest, line, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{Format, read};
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

    #[test]
    fn what_was_flat_merges_as_it_did_before() {
        let before = documents();
        let after = before.iter().map(|one| {
            let text = serde_json::to_string(&Flat::of(one)).unwrap();
            let flat: Flat = serde_json::from_str(&text).unwrap();
            flat.document().unwrap()
        });
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
    fn what_is_no_document_is_refused() {
        let flat = |layer: &str, path: Vec<String>| Flat {
            layer: layer.to_owned(),
            source: String::new(),
            version: None,
            places: false,
            priority: 0,
            ends: vec![End {
                path,
                line: 0,
                value: Json::Null,
            }],
        };
        assert!(flat("file", vec!["a".to_owned()]).document().is_ok());
        assert!(flat("flie", vec!["a".to_owned()]).document().is_err());
        assert!(flat("file", Vec::new()).document().is_err());
        assert!(flat("file", vec!["a".to_owned(); 33]).document().is_err());
    }
}
