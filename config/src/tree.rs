//! What a text says: a tree whose every value knows where it stands.

use std::cell::Cell;
use std::fmt;

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Mark {
    /// From 1; 0 = not from a text.
    pub line: u32,
    /// In characters, from 1; 0 = not from a text.
    pub column: u32,
}

/// Places of many offsets of one text: quick as long as they mostly grow.
#[derive(Debug)]
pub struct Places<'a> {
    text: &'a str,
    starts: Vec<usize>,
    last: Cell<(usize, Mark)>,
}

impl<'a> Places<'a> {
    /// Of a text.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(breaks).collect(),
            last: Cell::new((0, Mark { line: 1, column: 1 })),
        }
    }

    /// The place of a byte; of one past the end, the end's.
    #[must_use]
    pub fn mark(&self, offset: usize) -> Mark {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        let (known, mark) = self.last.get();
        let start = self.starts[line - 1];
        let (from, column) = match mark.line as usize == line && known <= offset {
            true => (known, mark.column),
            false => (start, 1),
        };
        let between = self.text.as_bytes().get(from..offset).unwrap_or_default();
        let letters = between.iter().filter(|b| (**b & 0xC0) != 0x80).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mark = Mark {
            line: count(line),
            column: column.saturating_add(count(letters)),
        };
        self.last.set((offset, mark));
        mark
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Takes a setting away.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A number in the letters of its source: where text is wanted, `1.10` stays `1.10`.
    Number(String),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the text; each name once.
    Map(Vec<Entry>),
}

/// A member of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub at: Mark,
    /// What it is set to.
    pub node: Node,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub at: Mark,
    /// What it is.
    pub value: Value,
}

impl Node {
    /// A value that stands in no text.
    #[must_use]
    pub fn bare(value: Value) -> Self {
        Self {
            at: Mark::default(),
            value,
        }
    }

    /// Shows every text and number in it to `wipe`: for values that nobody shall find in memory
    /// that was given back.
    pub fn wipe(&mut self, wipe: &mut dyn FnMut(&mut String)) {
        match &mut self.value {
            Value::Text(text) | Value::Number(text) => wipe(text),
            Value::List(items) => items.iter_mut().for_each(|item| item.wipe(wipe)),
            Value::Map(entries) => entries.iter_mut().for_each(|e| e.node.wipe(wipe)),
            Value::Null | Value::Bool(_) => (),
        }
    }

    /// Its members, if it is a map.
    #[must_use]
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The member of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        let entry = self.entries()?.iter().find(|e| e.name == name);
        entry.map(|e| &e.node)
    }

    /// Puts a value at a path, in maps that are made where there are none; none takes the member
    /// out. What is no map and stands in the way goes.
    pub fn set(&mut self, path: &[String], value: Option<Self>) {
        let [name, rest @ ..] = path else {
            *self = value.unwrap_or_else(|| Self::bare(Value::Null));
            return;
        };
        if self.entries().is_none() {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else {
            return;
        };
        if rest.is_empty() && value.is_none() {
            entries.retain(|entry| entry.name != *name);
            return;
        }
        let at = entries.iter().position(|entry| entry.name == *name);
        let at = at.unwrap_or_else(|| {
            entries.push(Entry {
                name: name.clone(),
                at: Mark::default(),
                node: Self::bare(Value::Map(Vec::new())),
            });
            entries.len() - 1
        });
        entries[at].node.set(rest, value);
    }

    /// The same for paths that come sorted: only the last member of each map can be the one that
    /// is meant, and no other is looked at.
    pub(crate) fn add(&mut self, path: &[String], value: Self) {
        let [name, rest @ ..] = path else {
            *self = value;
            return;
        };
        let Value::Map(entries) = &mut self.value else {
            self.value = Value::Map(Vec::new());
            return self.add(path, value);
        };
        if entries.last().is_none_or(|last| last.name != *name) {
            entries.push(Entry {
                name: name.clone(),
                at: Mark::default(),
                node: Self::bare(Value::Map(Vec::new())),
            });
        }
        if let Some(last) = entries.last_mut() {
            last.node.add(rest, value);
        }
    }

    /// A scalar as text, in the letters of its source.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Number(text) | Value::Text(text) => Some(text),
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Bytes that it holds by itself: of a scalar its letters, of a map the names in it.
    pub(crate) fn own_bytes(&self) -> usize {
        match &self.value {
            Value::Map(entries) => entries.iter().map(|entry| entry.name.len()).sum(),
            _ => self.text().map_or(0, str::len),
        }
    }

    /// What it is called in messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The same as JSON. Numbers keep their value as far as JSON's readers keep it: whole ones
    /// of 64 bits exactly, others as the nearest double.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(text) => number(text),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => Json::Object(
                entries
                    .iter()
                    .map(|e| (e.name.clone(), e.node.to_json()))
                    .collect(),
            ),
        }
    }

    /// A tree of the same content from JSON.
    #[must_use]
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        Self::bare(match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Number(number.to_string()),
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(members) => Value::Map(
                members
                    .iter()
                    .map(|(name, value)| Entry {
                        name: name.clone(),
                        at: Mark::default(),
                        node: Self::from_json(value),
                    })
                    .collect(),
            ),
        })
    }
}

/// A number written in another base than ten.
pub(crate) fn based(text: &str) -> Option<u64> {
    let radix = match text.get(..2)? {
        "0b" => 2,
        "0o" => 8,
        "0x" => 16,
        _ => return None,
    };
    u64::from_str_radix(&text[2..], radix).ok()
}

fn number(text: &str) -> serde_json::Value {
    if let Some(whole) = based(text) {
        return whole.into();
    }
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    if let Ok(whole) = text.parse::<u64>() {
        return whole.into();
    }
    let float = text.parse().ok().and_then(serde_json::Number::from_f64);
    float.map_or_else(
        || serde_json::Value::String(text.to_owned()),
        serde_json::Value::Number,
    )
}

/// A path as it is told to people: as [`dotted`], of each part its beginning.
#[must_use]
pub fn told<S: AsRef<str>>(path: &[S]) -> String {
    let parts: Vec<String> = path
        .iter()
        .map(|part| crate::read::brief(part.as_ref()))
        .collect();
    dotted(&parts)
}

/// Whether a path is the one that a text names, as [`dotted`] writes it.
#[must_use]
pub fn is_named(path: &[String], text: &str) -> bool {
    let quoted = |part: &String| part.is_empty() || part.contains(|c| !is_plain(c));
    if path.iter().any(quoted) {
        return text.contains('"') && dotted(path) == text;
    }
    let mut parts = text.split('.');
    path.iter().all(|part| parts.next() == Some(part)) && parts.next().is_none()
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// A path as it is written: parts with a dot between them, in quotes where a part has one itself.
#[must_use]
pub fn dotted(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if !text.is_empty() {
            text.push('.');
        }
        if !part.is_empty() && part.chars().all(is_plain) {
            text.push_str(part);
        } else {
            let quoted = serde_json::Value::String(part.clone());
            text.push_str(&quoted.to_string());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters() {
        let places = Places::of("é: x\nb");
        for (offset, line, column) in [(4, 1, 4), (6, 2, 1), (0, 1, 1), (3, 1, 3), (9, 2, 2)] {
            assert_eq!(places.mark(offset), Mark { line, column }, "{offset}");
        }
    }

    #[test]
    fn parts_with_dots_are_quoted() {
        let path = ["a", "b.c", "", "d-e_1"].map(str::to_owned);
        assert_eq!(dotted(&path), "a.\"b.c\".\"\".d-e_1");
    }

    #[test]
    fn a_path_is_named_by_what_is_written() {
        for path in [vec!["a", "b"], vec!["a.b"], vec!["a", ""], vec!["é", "b"]] {
            let path: Vec<String> = path.into_iter().map(str::to_owned).collect();
            assert!(is_named(&path, &dotted(&path)), "{path:?}");
            assert_eq!(is_named(&path, "a.b"), dotted(&path) == "a.b", "{path:?}");
            assert!(!is_named(&path, "a") && !is_named(&path, "a.b.c"));
        }
        let long = [String::from("a"), "x".repeat(512)];
        assert!(told(&long).len() < 70, "{}", told(&long));
    }

    #[test]
    fn numbers_become_json_exactly() {
        for (text, json) in [
            ("18446744073709551615", "18446744073709551615"),
            ("-3", "-3"),
            ("1.10", "1.1"),
            ("0o17", "15"),
            ("0x1F", "31"),
            ("1e999", "\"1e999\""),
        ] {
            let node = Node::bare(Value::Number(text.to_owned()));
            assert_eq!(node.to_json().to_string(), json);
        }
    }
}
