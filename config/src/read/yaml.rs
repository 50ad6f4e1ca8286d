//! YAML 1.2 in the core schema, from the events of granit-parser: one document, each key once,
//! no tags, no merge keys. `yes`, `no`, `on` and `y` are text.

use super::{MAX_DEPTH, MAX_OUTPUT, MAX_VALUES, Problem};
use crate::tree::{Entry, Mark, Node, Value};
use granit_parser::{Event, Marker, Parser, ScalarStyle, options};
use std::collections::{HashMap, HashSet};

pub(super) fn read(text: &str) -> Result<Node, Problem> {
    let options = options! {
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1,
    };
    let mut making = Making::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| {
            let at = place(error.marker());
            Problem::syntax(at, format!("Not YAML: {}.", error.info()))
        })?;
        if let Some(tag) = span.tag_span() {
            return Err(making.refused(place(&tag.start), "Tags are not allowed"));
        }
        making.take(event, place(&span.start))?;
    }
    making.document.ok_or_else(|| {
        let start = Mark { line: 1, column: 1 };
        Problem::syntax(start, "The text is empty.")
    })
}

fn place(marker: &Marker) -> Mark {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Mark {
        line: count(marker.line()),
        column: count(marker.col() + 1),
    }
}

/// A map or list that is not at its end yet.
struct Open {
    at: Mark,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        names: HashSet<String>,
        /// The name whose value comes next.
        name: Option<(String, Mark)>,
    },
}

#[derive(Default)]
struct Making {
    open: Vec<Open>,
    anchors: HashMap<usize, (Named, Cost)>,
    document: Option<Node>,
    spent: Cost,
}

/// What an anchor names. Maps and lists stay where they are: anchors inside of anchors would
/// copy what is innermost once for each of them.
enum Named {
    Scalar(Node),
    /// The place of the value in the map or list it stands in, from the top on.
    At(Vec<usize>),
}

/// What a value takes: counted again for each alias.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    values: usize,
    bytes: usize,
    depth: usize,
}

impl Cost {
    fn of(node: &Node) -> Self {
        let inner = |nodes: &mut dyn Iterator<Item = &Node>| {
            nodes.map(Self::of).fold(Self::default(), |sum, one| Self {
                values: sum.values + one.values,
                bytes: sum.bytes + one.bytes,
                depth: sum.depth.max(one.depth),
            })
        };
        let within = match &node.value {
            Value::List(items) => inner(&mut items.iter()),
            Value::Map(entries) => inner(&mut entries.iter().map(|e| &e.node)),
            _ => Self::default(),
        };
        Self {
            values: within.values + 1,
            bytes: within.bytes + node.own_bytes(),
            depth: within.depth + 1,
        }
    }
}

impl Making {
    fn take(&mut self, event: Event<'_>, at: Mark) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(..) if self.document.is_some() => {
                let message = "There is more than one document in the text.";
                return Err(Problem::syntax(at, message));
            }
            Event::Scalar(text, style, anchor, _) => {
                self.scalar(text.into_owned(), style, anchor, at)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                let inside = Inside::List(Vec::new());
                self.begin(inside, anchor, at)?;
            }
            Event::MappingStart(_, anchor, _) => {
                let inside = Inside::Map {
                    entries: Vec::new(),
                    names: HashSet::new(),
                    name: None,
                };
                self.begin(inside, anchor, at)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { at, anchor, inside }) = self.open.pop() {
                    let value = match inside {
                        Inside::List(items) => Value::List(items),
                        Inside::Map { entries, .. } => Value::Map(entries),
                    };
                    let node = Node { at, value };
                    self.remember(anchor, &node);
                    self.put(node)?;
                }
            }
            Event::Alias(anchor) => {
                let Some(cost) = self.anchors.get(&anchor).map(|(_, cost)| *cost) else {
                    return Err(self.refused(at, "An alias stands inside of what it names"));
                };
                self.spend(cost, at)?;
                let node = match self.anchors.get(&anchor) {
                    Some((Named::Scalar(node), _)) => Some(node),
                    Some((Named::At(place), _)) => self.standing(place),
                    None => None,
                };
                let Some(mut node) = node.cloned() else {
                    return Err(self.refused(at, "An alias names nothing"));
                };
                node.at = at;
                self.put(node)?;
            }
            _ => (),
        }
        Ok(())
    }

    fn path(&self) -> Vec<String> {
        let part = |open: &Open| match &open.inside {
            Inside::List(items) => items.len().to_string(),
            Inside::Map { name, .. } => name.as_ref().map_or(String::new(), |(n, _)| n.clone()),
        };
        self.open.iter().map(part).collect()
    }

    fn refused(&self, at: Mark, what: &str) -> Problem {
        Problem::syntax(at, format!("{what}.")).under(&self.path())
    }

    fn spend(&mut self, cost: Cost, at: Mark) -> Result<(), Problem> {
        self.spent.values += cost.values;
        self.spent.bytes += cost.bytes;
        if self.spent.values > MAX_VALUES {
            return Err(Problem::too_many(at));
        }
        if self.spent.bytes > MAX_OUTPUT {
            return Err(Problem::too_long(at));
        }
        if self.open.len() + cost.depth > MAX_DEPTH + 1 {
            return Err(Problem::too_deep(at));
        }
        Ok(())
    }

    fn begin(&mut self, inside: Inside, anchor: usize, at: Mark) -> Result<(), Problem> {
        if self.wants_name() {
            return Err(self.refused(at, "A key must be a scalar"));
        }
        self.spend(
            Cost {
                values: 1,
                bytes: 0,
                depth: 1,
            },
            at,
        )?;
        self.open.push(Open { at, anchor, inside });
        Ok(())
    }

    /// Whether a map is open whose next key has not come yet.
    fn wants_name(&self) -> bool {
        let inside = self.open.last().map(|open| &open.inside);
        matches!(inside, Some(Inside::Map { name: None, .. }))
    }

    /// Keeps what an anchor names, before the value is put to its place.
    fn remember(&mut self, anchor: usize, node: &Node) {
        if anchor == 0 {
            return;
        }
        let place = |open: &Open| match &open.inside {
            Inside::List(items) => items.len(),
            Inside::Map { entries, .. } => entries.len(),
        };
        let named = match &node.value {
            Value::List(_) | Value::Map(_) => Named::At(self.open.iter().map(place).collect()),
            _ => Named::Scalar(node.clone()),
        };
        self.anchors.insert(anchor, (named, Cost::of(node)));
    }

    /// The value at a place: what was open then may have come to its end since, and stands in
    /// what was open around it.
    fn standing(&self, place: &[usize]) -> Option<&Node> {
        let mut found: Option<&Node> = None;
        for (depth, at) in place.iter().enumerate() {
            found = match found {
                Some(node) => Some(match &node.value {
                    Value::List(items) => items.get(*at)?,
                    Value::Map(entries) => &entries.get(*at)?.node,
                    _ => return None,
                }),
                None => match &self.open.get(depth)?.inside {
                    Inside::List(items) => items.get(*at),
                    Inside::Map { entries, .. } => entries.get(*at).map(|entry| &entry.node),
                },
            };
        }
        found
    }

    fn scalar(
        &mut self,
        text: String,
        style: ScalarStyle,
        anchor: usize,
        at: Mark,
    ) -> Result<(), Problem> {
        let plain = style == ScalarStyle::Plain;
        if self.wants_name() {
            if plain && text == "<<" {
                return Err(self.refused(at, "Merge keys (<<) are not allowed"));
            }
            self.remember(
                anchor,
                &Node {
                    at,
                    value: Value::Text(text.clone()),
                },
            );
            return self.name(text, at);
        }
        let value = match plain {
            true => core_schema(text).map_err(|message| self.refused(at, message))?,
            false => Value::Text(text),
        };
        let node = Node { at, value };
        self.spend(Cost::of(&node), at)?;
        self.remember(anchor, &node);
        self.put(node)
    }

    fn name(&mut self, text: String, at: Mark) -> Result<(), Problem> {
        if let Some(Inside::Map { names, name, .. }) = self.open.last_mut().map(|o| &mut o.inside) {
            let is_new = names.insert(text.clone());
            *name = Some((text, at));
            if !is_new {
                return Err(Problem::twice(at, &self.path()));
            }
        }
        Ok(())
    }

    fn put(&mut self, node: Node) -> Result<(), Problem> {
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.document = Some(node),
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Map { entries, name, .. }) => match name.take() {
                Some((name, at)) => entries.push(Entry { name, at, node }),
                None => {
                    // An alias as a key: its text is one, nothing else of it can be.
                    let at = node.at;
                    let Some(text) = node.text().map(str::to_owned) else {
                        return Err(self.refused(at, "A key must be a scalar"));
                    };
                    return self.name(text, at);
                }
            },
        }
        Ok(())
    }
}

/// What a plain scalar is: YAML 1.2.2, section 10.3.2.
fn core_schema(text: String) -> Result<Value, &'static str> {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => (),
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    match digits {
        ".inf" | ".Inf" | ".INF" => return Err("Infinity is not a number that can be kept"),
        _ if matches!(&*text, ".nan" | ".NaN" | ".NAN") => {
            return Err("Not-a-number cannot be kept");
        }
        _ => (),
    }
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.bytes().all(|b| char::from(b).is_digit(radix))
        {
            // The letters are kept: where text is wanted they are the text.
            return Ok(Value::Number(text));
        }
    }
    Ok(match is_decimal(digits) {
        true => Value::Number(text),
        false => Value::Text(text),
    })
}

/// `[0-9]+`, or `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`.
fn is_decimal(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        rest.iter().take_while(|b| b.is_ascii_digit()).count()
    };
    let whole = digits(0);
    let mut at = whole;
    if bytes.get(at) == Some(&b'.') {
        let part = digits(at + 1);
        if whole == 0 && part == 0 {
            return false;
        }
        at += 1 + part;
    } else if whole == 0 {
        return false;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(bytes.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        let exponent = digits(at);
        if exponent == 0 {
            return false;
        }
        at += exponent;
    }
    at == bytes.len()
}
