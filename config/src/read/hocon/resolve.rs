//! From definitions to values: later ones add to or replace earlier ones, references are
//! looked up in the finished document, and a key that refers to itself means what it was before.

use super::Surroundings;
use super::parse::{Ast, Def, Slot, What, Written, is_number};
use crate::read::{MAX_OUTPUT, MAX_VALUES, Problem, brief};
use crate::tree::{Entry, Mark, Node, Value, dotted};
use std::collections::HashMap;

/// Most steps of a resolution: far above what a document of allowed size needs that has no
/// references to references without end.
const MAX_STEPS: usize = 200_000;
/// How deep references may lead to references.
const MAX_CHAIN: usize = 64;
/// How many names are gone through, and how many bytes of names are hashed or joined, for one
/// step: about what another step takes.
const STEP_NAMES: usize = 8;
const STEP_BYTES: usize = 64;

pub(super) fn resolve(root: &Slot, around: &dyn Surroundings) -> Result<Node, Problem> {
    let mut resolving = Resolving {
        root,
        around,
        active: HashMap::new(),
        steps: 0,
        values: 0,
        bytes: 0,
        chain: 0,
    };
    let entries = resolving.members(root, Span::ALL)?;
    let at = Mark { line: 1, column: 1 };
    let value = Value::Map(entries);
    Ok(Node { at, value })
}

/// Which definitions count: stamps from the first (included) to the second (excluded).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span(u32, u32);

impl Span {
    const ALL: Self = Self(0, u32::MAX);

    fn holds(self, def: &Def) -> bool {
        (self.0..self.1).contains(&def.stamp)
    }
}

struct Resolving<'a> {
    root: &'a Slot,
    around: &'a dyn Surroundings,
    /// Slots in whose definitions we are, and in which of them.
    active: HashMap<*const Slot, u32>,
    steps: usize,
    values: usize,
    bytes: usize,
    chain: usize,
}

impl<'a> Resolving<'a> {
    fn step(&mut self, at: Mark) -> Result<(), Problem> {
        self.steps(1, at)
    }

    fn steps(&mut self, steps: usize, at: Mark) -> Result<(), Problem> {
        self.steps = self.steps.saturating_add(steps);
        match self.steps > MAX_STEPS {
            true => {
                let message = format!("The substitutions take more than {MAX_STEPS} steps.");
                Err(Problem::syntax(at, message))
            }
            false => Ok(()),
        }
    }

    /// Counts a value that is made.
    fn made(&mut self, node: Node) -> Result<Node, Problem> {
        self.values += 1;
        self.bytes += node.own_bytes();
        // What is made and then replaced counts as well, so the bound is above the document's.
        if self.values > 4 * MAX_VALUES {
            return Err(Problem::too_many(node.at));
        }
        if self.bytes > MAX_OUTPUT {
            return Err(Problem::too_long(node.at));
        }
        Ok(node)
    }

    /// The value of a slot; none if nothing is left of it.
    fn slot(&mut self, slot: &'a Slot, span: Span) -> Result<Option<Node>, Problem> {
        let mut value: Option<Node> = None;
        self.steps += slot.defs.len() / STEP_NAMES; // they are gone through
        let defs: Vec<&Def> = slot.defs.iter().filter(|d| span.holds(d)).collect();
        for (index, def) in defs.iter().enumerate() {
            self.step(def.at)?;
            let new = match &def.what {
                What::Object => {
                    // Members of braces that stand side by side are taken together.
                    let before = index.checked_sub(1).map(|i| &defs[i].what);
                    if matches!(before, Some(What::Object)) {
                        continue;
                    }
                    let next = defs[index..]
                        .iter()
                        .find(|d| !matches!(d.what, What::Object));
                    let until = next.map_or(span.1, |d| d.stamp);
                    let entries = self.members(slot, Span(def.stamp, until))?;
                    let at = def.at;
                    let value = Value::Map(entries);
                    Some(self.made(Node { at, value })?)
                }
                What::Value(ast) => self.within(slot, def, ast)?,
                What::Append(ast) => {
                    let item = self.within(slot, def, ast)?;
                    let at = def.at;
                    let mut items = match value.take().map(|node| node.value) {
                        None => Vec::new(),
                        Some(Value::List(items)) => items,
                        Some(_) => {
                            return Err(Problem::syntax(at, "+= needs a list to add to."));
                        }
                    };
                    items.extend(item);
                    let value = Value::List(items);
                    Some(Node { at, value })
                }
            };
            if let Some(new) = new {
                value = Some(match value {
                    Some(old) => self.over(old, new)?,
                    None => new,
                });
            }
        }
        Ok(value)
    }

    fn members(&mut self, slot: &'a Slot, span: Span) -> Result<Vec<Entry>, Problem> {
        let mut entries = Vec::new();
        for (name, child) in &slot.children {
            self.step(child.at)?;
            if let Some(node) = self.slot(child, span)? {
                entries.push(Entry {
                    name: name.clone(),
                    at: child.at,
                    node,
                });
            }
        }
        Ok(entries)
    }

    /// A definition's value, while which a reference to its key means what it was before.
    fn within(&mut self, slot: &'a Slot, def: &Def, ast: &'a Ast) -> Result<Option<Node>, Problem> {
        let key = std::ptr::from_ref(slot);
        let outer = self.active.insert(key, def.stamp);
        let value = self.value(ast);
        match outer {
            Some(stamp) => self.active.insert(key, stamp),
            None => self.active.remove(&key),
        };
        value
    }

    fn value(&mut self, ast: &'a Ast) -> Result<Option<Node>, Problem> {
        self.step(ast.at)?;
        let at = ast.at;
        let value = match &ast.what {
            Written::Bare(text) => match text.as_str() {
                "null" => Value::Null,
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                text if is_number(text) => Value::Number(text.to_owned()),
                text => Value::Text(text.to_owned()),
            },
            Written::Quoted(text) | Written::Space(text) => Value::Text(text.clone()),
            Written::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    list.extend(self.value(item)?);
                }
                Value::List(list)
            }
            Written::Object(slot) => Value::Map(self.members(slot, Span::ALL)?),
            Written::Reference { path, optional } => {
                return self.reference(path, *optional, at);
            }
            Written::Concat(parts) => return self.concat(parts, at),
        };
        self.made(Node { at, value }).map(Some)
    }

    fn reference(
        &mut self,
        path: &[String],
        optional: bool,
        at: Mark,
    ) -> Result<Option<Node>, Problem> {
        if self.chain >= MAX_CHAIN {
            let message = format!("Substitutions lead through more than {MAX_CHAIN} others.");
            return Err(Problem::syntax(at, message));
        }
        self.chain += 1;
        let found = self.lookup(self.root, path, Span::ALL, at);
        self.chain -= 1;
        if let Some(mut node) = found? {
            node.at = at;
            return Ok(Some(node));
        }
        // A variable has one name, dots and all.
        let bytes: usize = path.iter().map(String::len).sum();
        self.steps(bytes / STEP_BYTES, at)?;
        if let Some(text) = self.around.variable(&path.join(".")) {
            let value = Value::Text(text);
            return self.made(Node { at, value }).map(Some);
        }
        match optional {
            true => Ok(None),
            false => {
                let name = brief(&dotted(path));
                let message = format!("Substitution ${{{name}}} names nothing in this document.");
                Err(Problem::syntax(at, message))
            }
        }
    }

    /// What stands at a path below a slot.
    fn lookup(
        &mut self,
        slot: &'a Slot,
        path: &[String],
        span: Span,
        at: Mark,
    ) -> Result<Option<Node>, Problem> {
        self.step(at)?;
        self.steps += slot.defs.len() / STEP_NAMES; // they are gone through
        let Some((name, rest)) = path.split_first() else {
            let before = self.active.get(&std::ptr::from_ref(slot)).copied();
            let until = before.map_or(span.1, |stamp| stamp.min(span.1));
            return self.slot(slot, Span(span.0, until));
        };
        self.steps += name.len() / STEP_BYTES;
        let is_value = |d: &&Def| span.holds(d) && !matches!(d.what, What::Object);
        let last = slot.defs.iter().rev().find(is_value);
        let Some(last) = last else {
            return match slot.child(name) {
                Some(child) => self.lookup(child, rest, span, at),
                None => Ok(None),
            };
        };
        let computed = slot.defs.iter().filter(is_value).any(|d| {
            matches!(&d.what, What::Value(ast) if matches!(
                ast.what,
                Written::Reference { .. } | Written::Concat(_) | Written::Object(_)
            ))
        });
        let busy = self.active.contains_key(&std::ptr::from_ref(slot));
        if computed && !busy {
            // Its members come from elsewhere: it has to be worked out to know them.
            let mut node = self.slot(slot, span)?;
            for part in path {
                let Some(Value::Map(entries)) = node.map(|n| n.value) else {
                    return Ok(None);
                };
                let member = entries.into_iter().find(|e| e.name == *part);
                node = member.map(|e| e.node);
            }
            return Ok(node);
        }
        // What was plain is replaced by what came after it.
        let from = match busy {
            true => span.0,
            false => last.stamp,
        };
        match slot.child(name) {
            Some(child) => self.lookup(child, rest, Span(from, span.1), at),
            None => Ok(None),
        }
    }

    fn concat(&mut self, parts: &'a [Ast], at: Mark) -> Result<Option<Node>, Problem> {
        let mut nodes = Vec::with_capacity(parts.len());
        for part in parts {
            let space = matches!(part.what, Written::Space(_));
            if let Some(node) = self.value(part)? {
                let letters = match &part.what {
                    Written::Bare(text) => Some(text.clone()),
                    _ => None,
                };
                nodes.push((space, letters, node));
            }
        }
        let all = |test: fn(&Value) -> bool| {
            let mut real = nodes.iter().filter(|(space, _, _)| !space).peekable();
            real.peek().is_some() && real.all(|(_, _, node)| test(&node.value))
        };
        if nodes.is_empty() {
            return Ok(None); // references that lead nowhere, side by side
        }
        let mixed = |kind: &str| {
            let message = format!("{kind} cannot stand beside something else in one value.");
            Problem::syntax(at, message)
        };
        let value = if all(|v| matches!(v, Value::List(_))) {
            let mut list = Vec::new();
            for (_, _, node) in nodes {
                if let Value::List(items) = node.value {
                    list.extend(items);
                }
            }
            Value::List(list)
        } else if all(|v| matches!(v, Value::Map(_))) {
            let maps = nodes.into_iter().filter(|(space, _, _)| !space);
            let mut joined: Option<Node> = None;
            for (_, _, node) in maps {
                joined = Some(match joined {
                    Some(old) => self.over(old, node)?,
                    None => node,
                });
            }
            return Ok(joined.map(|node| Node { at, ..node }));
        } else {
            let mut text = String::new();
            for (_, letters, node) in &nodes {
                match (letters, &node.value) {
                    (Some(letters), _) => text.push_str(letters),
                    (None, Value::List(_)) => return Err(mixed("A list")),
                    (None, Value::Map(_)) => return Err(mixed("A map")),
                    (None, Value::Null) => text.push_str("null"),
                    (None, _) => text.push_str(node.text().unwrap_or_default()),
                }
            }
            Value::Text(text)
        };
        self.made(Node { at, value }).map(Some)
    }

    /// A later value over an earlier one: maps join, everything else is replaced. A map is gone
    /// through for each that is laid over it, which counts.
    fn over(&mut self, old: Node, new: Node) -> Result<Node, Problem> {
        let (at, newer) = (old.at, new.at);
        let (mut entries, news) = match (old.value, new.value) {
            (Value::Map(entries), Value::Map(news)) => (entries, news),
            (_, value) => return Ok(Node { at: newer, value }),
        };
        // A few names are found sooner by looking than an index of all is made.
        let looks = news.len().saturating_mul(entries.len());
        let indexed = looks > STEP_NAMES * (entries.len() + news.len());
        let cost = match indexed {
            true => entries.len() + news.len(),
            false => looks / STEP_NAMES,
        };
        self.steps(cost, newer)?;
        let mut index: HashMap<String, usize> = HashMap::new();
        if indexed {
            let places = entries.iter().enumerate();
            index.extend(places.map(|(at, entry)| (entry.name.clone(), at)));
        }
        let known = entries.len();
        for entry in news {
            let place = match indexed {
                true => index.get(&entry.name).copied(),
                // Names of one map differ: of those that were added none is this one.
                false => entries[..known].iter().position(|e| e.name == entry.name),
            };
            match place {
                Some(at) => {
                    let empty = Node::bare(Value::Null);
                    let old = std::mem::replace(&mut entries[at].node, empty);
                    entries[at].node = self.over(old, entry.node)?;
                }
                None => entries.push(entry),
            }
        }
        let value = Value::Map(entries);
        Ok(Node { at, value })
    }
}
