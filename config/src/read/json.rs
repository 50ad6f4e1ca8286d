//! JSON. What is JSON and what is not, serde_json decides; over a text it has accepted a walk
//! finds the place of each value, which serde_json does not tell.

use super::{MAX_DEPTH, MAX_OUTPUT, MAX_VALUES, Problem};
use crate::tree::{Entry, Mark, Node, Places, Value};
use serde::de::IgnoredAny;
use std::collections::HashSet;

pub(super) fn read(text: &str) -> Result<Node, Problem> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let place = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let at = Mark {
            line: place(error.line()),
            column: place(error.column().max(1)),
        };
        let said = error.to_string();
        let said = said.rsplit_once(" at line ").map_or(&*said, |(m, _)| m);
        return Err(Problem::syntax(at, format!("Not JSON: {said}.")));
    }
    let mut walk = Walk {
        text,
        at: 0,
        places: Places::of(text),
        values: 0,
        path: Vec::new(),
    };
    walk.space();
    walk.value()
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
    places: Places<'a>,
    values: usize,
    path: Vec<String>,
}

impl Walk<'_> {
    fn mark(&self) -> Mark {
        self.places.mark(self.at)
    }

    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    /// Steps over the byte if it is there, and over the space behind it.
    fn took(&mut self, byte: u8) -> bool {
        let there = self.peek() == byte;
        if there {
            self.at += 1;
            self.space();
        }
        there
    }

    fn string(&mut self) -> Result<String, Problem> {
        let start = self.at;
        self.at += 1;
        while !matches!(self.peek(), b'"' | 0) {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        let quoted = self.text.get(start..self.at).unwrap_or_default();
        let text = serde_json::from_str(quoted)
            .map_err(|error| Problem::syntax(self.mark(), format!("Not JSON: {error}.")))?;
        self.space();
        Ok(text)
    }

    fn value(&mut self) -> Result<Node, Problem> {
        let at = self.mark();
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(Problem::too_many(at));
        }
        if self.path.len() > MAX_DEPTH {
            return Err(Problem::too_deep(at));
        }
        let value = match self.peek() {
            b'{' => self.map()?,
            b'[' => self.list()?,
            b'"' => Value::Text(self.string()?),
            _ => self.word(),
        };
        Ok(Node { at, value })
    }

    fn word(&mut self) -> Value {
        let start = self.at;
        while !matches!(
            self.peek(),
            b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n' | 0
        ) {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        self.space();
        match word {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            number => Value::Number(number.to_owned()),
        }
    }

    fn list(&mut self) -> Result<Value, Problem> {
        self.took(b'[');
        let mut items = Vec::new();
        while !self.took(b']') {
            self.path.push(items.len().to_string());
            items.push(self.value()?);
            self.path.pop();
            self.took(b',');
        }
        Ok(Value::List(items))
    }

    fn map(&mut self) -> Result<Value, Problem> {
        self.took(b'{');
        let mut entries: Vec<Entry> = Vec::new();
        let mut names = HashSet::new();
        while !self.took(b'}') {
            let at = self.mark();
            let name = self.string()?;
            self.took(b':');
            self.path.push(name.clone());
            if !names.insert(name.clone()) {
                return Err(Problem::twice(at, &self.path));
            }
            let node = self.value()?;
            self.path.pop();
            entries.push(Entry { name, at, node });
            self.took(b',');
        }
        Ok(Value::Map(entries))
    }
}

// What stands in a text cannot be more than the text.
const _: () = assert!(super::MAX_BYTES <= MAX_OUTPUT);
