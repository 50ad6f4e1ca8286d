//! Layers become one tree: later ones fold over earlier ones, and every leaf remembers who set it
//! and whose value it stands before.
//!
//! The rules: maps join; scalars and lists replace; an empty map over a map changes nothing;
//! `null` takes away what the layers above the built-in one have put there; keys that are atomic
//! are replaced whole. What a locked layer sets or takes away, no later layer of another kind
//! reaches, since locked layers come last.

use crate::tree::{Entry, Mark, Node, Value, dotted};
use std::collections::{BTreeMap, HashMap};

/// A layer: a document and what to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer<K> {
    /// Its kind; layers come sorted by it, lowest first.
    pub kind: K,
    /// The document's name: a file, a variable, an id.
    pub source: String,
    /// Version of that document, if it has one.
    pub version: Option<u64>,
    /// Whether places in the document are told with its name.
    pub places: bool,
    /// Among layers of its kind: greater wins; equal ones that set one path are told.
    pub priority: i64,
    /// What it says.
    pub tree: Node,
}

/// Who said something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<K> {
    /// Kind of the layer.
    pub kind: K,
    /// The layer's name, with line where it has lines.
    pub source: String,
    /// Version of the layer.
    pub version: Option<u64>,
    /// Place in the document.
    pub at: Mark,
    priority: i64,
    layer: usize,
}

impl<K> Origin<K> {
    /// Among layers of its kind: greater wins.
    #[must_use]
    pub const fn priority(&self) -> i64 {
        self.priority
    }
}

/// One end of the tree and its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf<K> {
    /// From the top.
    pub path: Vec<String>,
    /// What holds; none = taken away.
    pub value: Option<Node>,
    /// By whom.
    pub origin: Origin<K>,
    /// What it stands before, highest first.
    pub shadowed: Vec<(Origin<K>, Option<Node>)>,
}

/// What is worth telling about a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A map where there was none, or the reverse.
    TypeChange {
        /// Where.
        path: String,
        /// What it was.
        from: &'static str,
        /// What it is now.
        to: &'static str,
        /// Who made it so.
        source: String,
    },
    /// Two layers of one kind and one priority set the same path to different values.
    SamePriority {
        /// Which path.
        path: String,
        /// The layers; the last one won.
        sources: [String; 2],
    },
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged<K> {
    /// Everything that is set; maps sorted by name, without nulls.
    pub tree: Node,
    /// Every leaf, sorted by path; those that were taken away too.
    pub leaves: Vec<Leaf<K>>,
    /// Maps that stand where there was something else, sorted by path: what they are now, who made
    /// them so, and in `shadowed` what was there.
    pub replaced: Vec<Leaf<K>>,
    /// In the order of their making.
    pub warnings: Vec<Warning>,
}

/// What may be said about the keys of a merge.
pub trait Rules<K> {
    /// Whether the key at this path is replaced whole.
    fn is_atomic(&self, path: &[String]) -> bool;

    /// Whether layers of this kind hold defaults, which `null` brings back.
    fn is_built_in(&self, kind: &K) -> bool;
}

/// No atomic keys, no built-in layer.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl<K> Rules<K> for Plain {
    fn is_atomic(&self, _path: &[String]) -> bool {
        false
    }

    fn is_built_in(&self, _kind: &K) -> bool {
        false
    }
}

/// Merges layers, lowest first.
#[must_use]
pub fn merge<K: Clone + PartialEq>(layers: &[Layer<K>], rules: &dyn Rules<K>) -> Merged<K> {
    let mut merging = Merging {
        rules,
        warnings: Vec::new(),
        path: Vec::new(),
    };
    let mut root = Slot::Map(Members::default());
    for (index, layer) in layers.iter().enumerate() {
        if let Value::Map(entries) = &layer.tree.value {
            merging.map(&mut root, entries, layer, index);
        }
    }
    let mut finished = Finished {
        leaves: Vec::new(),
        replaced: Vec::new(),
    };
    let tree = finish(&root, &mut Vec::new(), &mut finished);
    let Finished { leaves, replaced } = finished;
    Merged {
        tree: tree.unwrap_or_else(|| Node::bare(Value::Map(Vec::new()))),
        leaves,
        replaced,
        warnings: merging.warnings,
    }
}

enum Slot<K> {
    Map(Members<K>),
    Leaf {
        value: Option<Node>,
        origin: Origin<K>,
        shadowed: Vec<(Origin<K>, Option<Node>)>,
    },
}

/// A map, or what is left of one.
struct Members<K> {
    all: BTreeMap<String, Slot<K>>,
    /// Who made it a map; none = it was taken away, and only what was taken away with it is known.
    made: Option<Origin<K>>,
    /// What is not a map and was there before it, highest first.
    before: Vec<(Origin<K>, Option<Node>)>,
}

impl<K> Default for Members<K> {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            made: None,
            before: Vec::new(),
        }
    }
}

struct Finished<K> {
    leaves: Vec<Leaf<K>>,
    replaced: Vec<Leaf<K>>,
}

/// Two layers of which none stands above the other but by its name.
fn are_rivals<K: PartialEq>(one: &Origin<K>, other: &Origin<K>) -> bool {
    one.kind == other.kind && one.priority == other.priority && one.layer != other.layer
}

const fn is_map(node: &Node) -> bool {
    matches!(node.value, Value::Map(_))
}

struct Merging<'a, K> {
    rules: &'a dyn Rules<K>,
    warnings: Vec<Warning>,
    path: Vec<String>,
}

impl<K: Clone + PartialEq> Merging<'_, K> {
    fn map(&mut self, slot: &mut Slot<K>, entries: &[Entry], layer: &Layer<K>, index: usize) {
        let Slot::Map(members) = slot else { return };
        for entry in entries {
            self.path.push(entry.name.clone());
            let origin = Origin {
                kind: layer.kind.clone(),
                source: match layer.places && entry.at != Mark::default() {
                    true => format!("{}:{}", layer.source, entry.at.line),
                    false => layer.source.clone(),
                },
                version: layer.version,
                at: entry.at,
                priority: layer.priority,
                layer: index,
            };
            let old = members.all.remove(&entry.name);
            let new = self.fold(old, &entry.node, origin, layer, index);
            members.all.insert(entry.name.clone(), new);
            self.path.pop();
        }
    }

    fn fold(
        &mut self,
        old: Option<Slot<K>>,
        node: &Node,
        origin: Origin<K>,
        layer: &Layer<K>,
        index: usize,
    ) -> Slot<K> {
        let inner = match &node.value {
            Value::Map(inner) if !self.rules.is_atomic(&self.path) => inner,
            Value::Null => return self.unset(old, &origin),
            _ => return self.leaf(old, node.clone(), origin),
        };
        let mut members = match old {
            Some(Slot::Map(members)) if members.made.is_some() => members,
            // An empty map is a value of its own where there is no map.
            old if inner.is_empty() => return self.leaf(old, node.clone(), origin),
            Some(Slot::Map(members)) => members,
            Some(Slot::Leaf {
                value,
                origin: before,
                shadowed,
            }) => {
                if let Some(value) = value.as_ref().filter(|value| !is_map(value)) {
                    self.type_change(value.kind(), node.kind(), &origin.source);
                    self.tie(&before, &origin);
                }
                // A map that is joined with an empty one replaces nothing.
                let joins = value.as_ref().is_some_and(is_map);
                let first = (!joins).then_some((before, value));
                Members {
                    before: first.into_iter().chain(shadowed).collect(),
                    ..Members::default()
                }
            }
            None => Members::default(),
        };
        if members.made.is_none() || !inner.is_empty() {
            members.made = Some(origin);
        }
        let mut slot = Slot::Map(members);
        self.map(&mut slot, inner, layer, index);
        slot
    }

    /// Tells of two layers that set one path differently, where only their names say who wins.
    fn tie(&mut self, before: &Origin<K>, now: &Origin<K>) {
        if are_rivals(before, now) {
            self.warnings.push(Warning::SamePriority {
                path: dotted(&self.path),
                sources: [before.source.clone(), now.source.clone()],
            });
        }
    }

    fn type_change(&mut self, from: &'static str, to: &'static str, source: &str) {
        self.warnings.push(Warning::TypeChange {
            path: dotted(&self.path),
            from,
            to,
            source: source.to_owned(),
        });
    }

    fn leaf(&mut self, old: Option<Slot<K>>, node: Node, origin: Origin<K>) -> Slot<K> {
        let mut shadowed = Vec::new();
        match old {
            Some(Slot::Leaf {
                value,
                origin: before,
                shadowed: older,
            }) => {
                if let Some(value) = &value {
                    if is_map(value) != is_map(&node) {
                        self.type_change(value.kind(), node.kind(), &origin.source);
                    }
                    if !same(value, &node) {
                        self.tie(&before, &origin);
                    }
                }
                shadowed.push((before, value));
                shadowed.extend(older);
            }
            Some(Slot::Map(members)) => {
                shadowed = gathered(&members);
                if members.made.is_some() {
                    self.type_change("a map", node.kind(), &origin.source);
                    let rival = shadowed.iter().find(|(o, _)| are_rivals(o, &origin));
                    if let Some((rival, _)) = rival {
                        self.tie(rival, &origin);
                    }
                }
                shadowed.extend(members.before);
            }
            None => (),
        }
        Slot::Leaf {
            value: Some(node),
            origin,
            shadowed,
        }
    }

    /// What `null` leaves: the built-in value if there is one, else the mark that it is gone.
    fn unset(&mut self, old: Option<Slot<K>>, origin: &Origin<K>) -> Slot<K> {
        match old {
            Some(Slot::Map(mut members)) => {
                let mut left = BTreeMap::new();
                for (name, slot) in std::mem::take(&mut members.all) {
                    self.path.push(name.clone());
                    let slot = self.unset(Some(slot), origin);
                    self.path.pop();
                    left.insert(name, slot);
                }
                // Of a map without members nothing else would say that it is gone.
                if let (Some(made), true) = (&members.made, left.is_empty()) {
                    let empty = Node::bare(Value::Map(Vec::new()));
                    let first = std::iter::once((made.clone(), Some(empty)));
                    return Slot::Leaf {
                        value: None,
                        origin: origin.clone(),
                        shadowed: first.chain(members.before).collect(),
                    };
                }
                Slot::Map(Members {
                    all: left,
                    made: None,
                    ..members
                })
            }
            Some(Slot::Leaf {
                value,
                origin: before,
                mut shadowed,
            }) => {
                shadowed.insert(0, (before, value));
                let built_in = shadowed
                    .iter()
                    .position(|(o, v)| v.is_some() && self.rules.is_built_in(&o.kind));
                if let Some(at) = built_in {
                    let (known, value) = shadowed.remove(at);
                    shadowed.insert(0, (origin.clone(), None));
                    return Slot::Leaf {
                        value,
                        origin: known,
                        shadowed,
                    };
                }
                Slot::Leaf {
                    value: None,
                    origin: origin.clone(),
                    shadowed,
                }
            }
            None => Slot::Leaf {
                value: None,
                origin: origin.clone(),
                shadowed: Vec::new(),
            },
        }
    }
}

/// What a map held that something else replaces: one value for each of who set part of it,
/// highest first.
fn gathered<K: Clone>(members: &Members<K>) -> Vec<(Origin<K>, Option<Node>)> {
    let mut finished = Finished {
        leaves: Vec::new(),
        replaced: Vec::new(),
    };
    let mut path = Vec::new();
    for (name, slot) in &members.all {
        path.push(name.clone());
        finish(slot, &mut path, &mut finished);
        path.pop();
    }
    let leaves = finished.leaves;
    let mut by_layer: BTreeMap<usize, (Origin<K>, Node)> = BTreeMap::new();
    for leaf in leaves {
        let own = (leaf.origin.clone(), leaf.value.clone());
        for (origin, value) in std::iter::once(own).chain(leaf.shadowed) {
            let layer = origin.layer;
            let (_, map) = by_layer
                .entry(layer)
                .or_insert_with(|| (origin, Node::bare(Value::Map(Vec::new()))));
            // Leaves come sorted by their paths.
            map.add(&leaf.path, value.unwrap_or_else(|| Node::bare(Value::Null)));
        }
    }
    by_layer
        .into_values()
        .rev()
        .map(|(origin, map)| (origin, Some(map)))
        .collect()
}

/// Equal values, wherever they stand.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            let others: HashMap<&str, &Node> = b.iter().map(|e| (&*e.name, &e.node)).collect();
            a.len() == b.len()
                && a.iter().all(|entry| {
                    let other = others.get(entry.name.as_str());
                    other.is_some_and(|other| same(&entry.node, other))
                })
        }
        (a, b) => a == b,
    }
}

fn finish<K: Clone>(
    slot: &Slot<K>,
    path: &mut Vec<String>,
    finished: &mut Finished<K>,
) -> Option<Node> {
    match slot {
        Slot::Leaf {
            value,
            origin,
            shadowed,
        } => {
            finished.leaves.push(Leaf {
                path: path.clone(),
                value: value.clone(),
                origin: origin.clone(),
                shadowed: shadowed.clone(),
            });
            value.clone()
        }
        Slot::Map(members) => {
            let at = finished.leaves.len();
            let mut entries = Vec::new();
            for (name, member) in &members.all {
                path.push(name.clone());
                if let Some(node) = finish(member, path, finished) {
                    let at = node.at;
                    let name = name.clone();
                    entries.push(Entry { name, at, node });
                }
                path.pop();
            }
            let empty = entries.is_empty();
            let node = Node::bare(Value::Map(entries));
            if let Some(made) = members.made.as_ref().filter(|_| !path.is_empty()) {
                let leaf = |shadowed| Leaf {
                    path: path.clone(),
                    value: Some(node.clone()),
                    origin: made.clone(),
                    shadowed,
                };
                // All that was in it was taken away, one by one: it is there all the same.
                let before = &members.before;
                if empty {
                    finished.leaves.insert(at, leaf(before.clone()));
                } else if !before.is_empty() {
                    finished.replaced.push(leaf(before.clone()));
                }
            }
            let some = !empty || path.is_empty() || members.made.is_some();
            some.then_some(node)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{Format, read};

    fn layer(kind: u8, source: &str, text: &str) -> Layer<u8> {
        Layer {
            kind,
            source: source.to_owned(),
            version: None,
            places: false,
            priority: 100,
            tree: read(Format::Yaml, text.as_bytes()).unwrap(),
        }
    }

    struct Files;

    impl Rules<u8> for Files {
        fn is_atomic(&self, path: &[String]) -> bool {
            path.len() == 2 && path[0] == "files"
        }

        fn is_built_in(&self, kind: &u8) -> bool {
            *kind == 0
        }
    }

    fn merged(layers: &[Layer<u8>]) -> Merged<u8> {
        merge(layers, &Files)
    }

    fn json(merged: &Merged<u8>) -> String {
        merged.tree.to_json().to_string()
    }

    #[test]
    fn the_example_comes_out_to_the_letter() {
        let layers = [
            layer(2, "work", "environment: {HTTP_PROXY: http://p:3128}"),
            layer(
                2,
                "agent",
                "agent: {git: {user: a}, pip: {extra_index_urls: [https://x]}}",
            ),
            layer(
                3,
                "group",
                "agent: {pip: {extra_index_urls: [https://y]}, note: 1}",
            ),
            layer(4, "own", "environment: {HTTP_PROXY: null, STAGE: dev}"),
            layer(5, "LONGSHORE__AGENT__GIT__USER", "agent: {git: {user: b}}"),
            layer(6, "submit", "environment: {STAGE: test}"),
            layer(7, "locked", "environment: {STAGE: prod}"),
        ];
        let merged = merged(&layers);
        assert_eq!(
            json(&merged),
            r#"{"agent":{"git":{"user":"b"},"note":1,"pip":{"extra_index_urls":["https://y"]}},"environment":{"STAGE":"prod"}}"#
        );
        let leaf = |path: &str| {
            merged
                .leaves
                .iter()
                .find(|l| dotted(&l.path) == path)
                .unwrap()
        };
        let stage = leaf("environment.STAGE");
        assert_eq!((stage.origin.kind, &*stage.origin.source), (7, "locked"));
        let before: Vec<u8> = stage.shadowed.iter().map(|(o, _)| o.kind).collect();
        assert_eq!(before, [6, 4]);
        let proxy = leaf("environment.HTTP_PROXY");
        assert_eq!((&proxy.value, proxy.origin.kind), (&None, 4));
        assert_eq!(proxy.shadowed[0].0.source, "work");
    }

    #[test]
    fn null_brings_built_in_values_back() {
        let layers = [
            layer(0, "built-in", "a: {x: 1}"),
            layer(1, "file", "a: {x: 2, y: 3}"),
            layer(2, "own", "a: null"),
        ];
        let merged = merged(&layers);
        assert_eq!(json(&merged), r#"{"a":{"x":1}}"#);
        assert_eq!(merged.leaves[0].origin.kind, 0);
        assert_eq!(merged.leaves[1].value, None);
        assert_eq!(merged.leaves[1].origin.kind, 2);
    }

    #[test]
    fn what_was_taken_away_may_be_set_again() {
        let layers = [
            layer(1, "a", "x: 1"),
            layer(2, "b", "x: null"),
            layer(3, "c", "x: 3"),
        ];
        let merged = merged(&layers);
        assert_eq!(json(&merged), r#"{"x":3}"#);
        let states: Vec<bool> = merged.leaves[0]
            .shadowed
            .iter()
            .map(|(_, v)| v.is_some())
            .collect();
        assert_eq!(states, [false, true]);
        assert!(merged.warnings.is_empty());
    }

    #[test]
    fn empty_maps_change_maps_not_and_replace_the_rest() {
        let over = |base: &str| {
            let layers = [layer(1, "a", base), layer(2, "b", "x: {}")];
            json(&merged(&layers))
        };
        assert_eq!(over("x: {y: 1}"), r#"{"x":{"y":1}}"#);
        assert_eq!(over("x: 1"), r#"{"x":{}}"#);
        assert_eq!(over("z: 1"), r#"{"x":{},"z":1}"#);
    }

    #[test]
    fn a_map_is_there_until_it_is_taken_away_itself() {
        let folded = |texts: &[&str]| {
            let all = texts.iter().enumerate();
            let layers: Vec<_> = all
                .map(|(at, text)| layer(u8::try_from(at + 1).unwrap(), &format!("l{at}"), text))
                .collect();
            json(&merged(&layers))
        };
        assert_eq!(folded(&["x: {y: 1}", "x: null"]), "{}");
        assert_eq!(folded(&["x: {y: 1}", "x: null", "x: {}"]), r#"{"x":{}}"#);
        assert_eq!(folded(&["x: {a: null}"]), r#"{"x":{}}"#);
        assert_eq!(folded(&["x: {a: null}", "x: null"]), "{}");
        assert_eq!(folded(&["x: {y: 1}", "x: {y: null}"]), r#"{"x":{}}"#);
        assert_eq!(folded(&["x: {}", "x: null"]), "{}");
        assert_eq!(
            folded(&["x: {y: 1}", "x: null", "x: {}", "x: {z: 1}"]),
            r#"{"x":{"z":1}}"#
        );
        // What was taken away with it is not back when the map is.
        assert_eq!(
            folded(&["x: {y: 1}", "x: null", "x: {z: 1}"]),
            r#"{"x":{"z":1}}"#
        );
        let layers = [layer(1, "a", "x: {y: 1}"), layer(2, "b", "x: {y: null}")];
        let leaves = merged(&layers).leaves;
        let told: Vec<_> = leaves
            .iter()
            .map(|leaf| (dotted(&leaf.path), leaf.value.is_some()))
            .collect();
        assert_eq!(told, [("x".to_owned(), true), ("x.y".to_owned(), false)]);
    }

    #[test]
    fn what_a_map_replaces_is_kept() {
        let layers = [
            layer(1, "a", "x: 1"),
            layer(2, "b", "x: 2"),
            layer(3, "c", "x: {y: 3}"),
            layer(4, "d", "x: {z: 4}"),
        ];
        let one = merged(&layers);
        assert_eq!(json(&one), r#"{"x":{"y":3,"z":4}}"#);
        let [replaced] = one.replaced.as_slice() else {
            panic!("{:?}", one.replaced);
        };
        assert_eq!(replaced.path, ["x"]);
        let before: Vec<_> = replaced.shadowed.iter().map(|(o, _)| &*o.source).collect();
        assert_eq!(before, ["b", "a"]);
        let layers = [
            layer(1, "a", "x: {y: 1}"),
            layer(2, "b", "x: {y: {z: 1}}"),
            layer(3, "c", "x: null"),
        ];
        assert!(merged(&layers).replaced.is_empty());
        // One of which nothing is left is a leaf itself, which says it once.
        let layers = [layer(1, "a", "x: 1"), layer(2, "b", "x: {y: null}")];
        let one = merged(&layers);
        assert_eq!(one.replaced, []);
        assert_eq!(one.leaves[0].path, ["x"]);
        let before: Vec<_> = one.leaves[0]
            .shadowed
            .iter()
            .map(|(o, _)| &*o.source)
            .collect();
        assert_eq!(before, ["a"]);
    }

    #[test]
    fn ties_of_another_kind_are_told() {
        for (one, other) in [("x: {y: 1}", "x: 2"), ("x: 2", "x: {y: 1}")] {
            let layers = [layer(3, "a", one), layer(3, "b", other)];
            let warnings = merged(&layers).warnings;
            let tie = Warning::SamePriority {
                path: "x".to_owned(),
                sources: ["a".to_owned(), "b".to_owned()],
            };
            assert!(warnings.contains(&tie), "{warnings:?}");
            assert_eq!(warnings.len(), 2, "{warnings:?}");
        }
    }

    #[test]
    fn atomic_keys_are_replaced_whole() {
        let layers = [
            layer(1, "a", "files: {k: {path: /a, mode: 1}}"),
            layer(2, "b", "files: {k: {path: /b}}"),
        ];
        assert_eq!(json(&merged(&layers)), r#"{"files":{"k":{"path":"/b"}}}"#);
    }

    #[test]
    fn changes_of_type_and_ties_are_told() {
        let layers = [
            layer(1, "a", "x: {y: 1}"),
            layer(2, "b", "x: 2"),
            layer(3, "c", "x: {z: 1}"),
            layer(3, "d", "x: {z: 2}"),
        ];
        let merged = merged(&layers);
        assert_eq!(json(&merged), r#"{"x":{"z":2}}"#);
        let kinds: Vec<&str> = merged
            .warnings
            .iter()
            .map(|w| match w {
                Warning::TypeChange { source, .. } => source.as_str(),
                Warning::SamePriority { sources, .. } => sources[1].as_str(),
            })
            .collect();
        assert_eq!(kinds, ["b", "c", "d"]);
    }

    #[test]
    fn nulls_in_lists_are_data() {
        let layers = [layer(1, "a", "x: [1, null]")];
        assert_eq!(json(&merged(&layers)), r#"{"x":[1,null]}"#);
    }
}
