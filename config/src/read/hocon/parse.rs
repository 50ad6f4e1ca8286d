//! From text to definitions: which key was given what, in which order.

use super::Surroundings;
use crate::read::{MAX_DEPTH, MAX_VALUES, Problem, brief};
use crate::tree::{Mark, Places};
use std::collections::HashMap;

/// Most includes of a document, nested ones too.
const MAX_INCLUDES: usize = 64;

/// A key and all that is said about it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Where it was named first.
    pub(super) at: Mark,
    /// What it is given, in order.
    pub(super) defs: Vec<Def>,
    /// What is said about keys below it in braces or with dots.
    pub(super) children: Vec<(String, Slot)>,
    index: HashMap<String, usize>,
}

/// One definition of a key. Stamps grow with the text; children carry stamps of their own.
#[derive(Debug)]
pub(super) struct Def {
    pub(super) stamp: u32,
    pub(super) at: Mark,
    pub(super) what: What,
}

/// What a key is given.
#[derive(Debug)]
pub(super) enum What {
    /// A map in braces, or a key with dots: its members are the children.
    Object,
    /// Something else.
    Value(Ast),
    /// `+=`
    Append(Ast),
}

/// A value as it is written.
#[derive(Debug)]
pub(super) struct Ast {
    pub(super) at: Mark,
    pub(super) what: Written,
}

/// Forms of values.
#[derive(Debug)]
pub(super) enum Written {
    /// Letters without quotes: a word of JSON, a number or text.
    Bare(String),
    /// A text in quotes.
    Quoted(String),
    /// White space between the parts of a concatenation.
    Space(String),
    /// `[…]`
    List(Vec<Ast>),
    /// `{…}`: a slot whose children are its members.
    Object(Box<Slot>),
    /// `${path}`, `${?path}`
    Reference { path: Vec<String>, optional: bool },
    /// Parts side by side.
    Concat(Vec<Ast>),
}

impl Slot {
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.index.get(name).map(|at| &self.children[*at].1)
    }

    fn child_mut(&mut self, name: &str, at: Mark) -> &mut Self {
        let next = self.children.len();
        let place = *self.index.entry(name.to_owned()).or_insert(next);
        if place == next {
            let slot = Self {
                at,
                ..Self::default()
            };
            self.children.push((name.to_owned(), slot));
        }
        &mut self.children[place].1
    }
}

pub(super) fn parse(text: &str, around: &mut dyn Surroundings) -> Result<Slot, Problem> {
    let mut root = Slot::default();
    let mut budget = Budget::default();
    document(text, around, &mut root, &mut budget, 0)?;
    Ok(root)
}

#[derive(Default)]
struct Budget {
    stamp: u32,
    values: usize,
    includes: usize,
}

fn document(
    text: &str,
    around: &mut dyn Surroundings,
    root: &mut Slot,
    budget: &mut Budget,
    depth: usize,
) -> Result<(), Problem> {
    let mut parser = Parser {
        text,
        at: 0,
        places: Places::of(text),
        around,
        budget,
    };
    parser.blank();
    let braces = parser.took('{');
    parser.members(root, depth, braces)?;
    parser.blank();
    match parser.peek() {
        None => Ok(()),
        Some(_) => Err(parser.unexpected("after the end of the document")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    places: Places<'a>,
    around: &'a mut dyn Surroundings,
    budget: &'a mut Budget,
}

/// Ends unquoted text.
fn is_reserved(c: char) -> bool {
    matches!(
        c,
        '$' | '"'
            | '{'
            | '}'
            | '['
            | ']'
            | ':'
            | '='
            | ','
            | '+'
            | '#'
            | '`'
            | '^'
            | '?'
            | '!'
            | '@'
            | '*'
            | '&'
            | '\\'
    )
}

/// White space of HOCON other than the end of a line.
fn is_blank(c: char) -> bool {
    c != '\n' && (c.is_whitespace() || matches!(c, '\u{feff}' | '\u{1c}'..='\u{1f}'))
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn mark(&self) -> Mark {
        self.places.mark(self.at)
    }

    fn took(&mut self, c: char) -> bool {
        let there = self.peek() == Some(c);
        if there {
            self.at += c.len_utf8();
        }
        there
    }

    fn wrong(&self, message: impl Into<String>) -> Problem {
        Problem::syntax(self.mark(), message)
    }

    fn unexpected(&self, place: &str) -> Problem {
        match self.peek() {
            None => self.wrong(format!("The text ends {place}.")),
            Some('\n') => self.wrong(format!("The line ends {place}.")),
            Some(c) => self.wrong(format!("Unexpected {c:?} {place}.")),
        }
    }

    fn at_comment(&self) -> bool {
        self.rest().starts_with('#') || self.rest().starts_with("//")
    }

    /// Skips white space inside of a line.
    fn space(&mut self) {
        while let Some(c) = self.peek().filter(|c| is_blank(*c)) {
            self.at += c.len_utf8();
        }
    }

    /// Skips white space, ends of lines and comments; says whether a line ended.
    fn blank(&mut self) -> bool {
        let mut ended = false;
        loop {
            self.space();
            if self.took('\n') {
                ended = true;
            } else if self.at_comment() {
                let end = self.rest().find('\n').unwrap_or(self.rest().len());
                self.at += end;
            } else {
                return ended;
            }
        }
    }

    /// Between two members or items: an end of line, or one comma. True = another may follow.
    fn separator(&mut self, what: &str) -> Result<bool, Problem> {
        let ended = self.blank();
        if self.took(',') {
            self.blank();
            return match self.peek() {
                Some(',') => Err(self.unexpected(what)),
                _ => Ok(true),
            };
        }
        Ok(ended)
    }

    /// Members up to the closing brace, or to the end of the text.
    fn members(&mut self, slot: &mut Slot, depth: usize, braces: bool) -> Result<(), Problem> {
        if depth >= MAX_DEPTH {
            return Err(Problem::too_deep(self.mark()));
        }
        self.blank();
        loop {
            match self.peek() {
                None if braces => return Err(self.unexpected("inside of braces")),
                None => return Ok(()),
                Some('}') if braces => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => self.member(slot, depth)?,
            }
            let more = self.separator("between members")?;
            let closed = matches!(self.peek(), None | Some('}'));
            if !more && !closed {
                return Err(self.unexpected("after a value"));
            }
        }
    }

    fn member(&mut self, slot: &mut Slot, depth: usize) -> Result<(), Problem> {
        if self.include(slot, depth)? {
            return Ok(());
        }
        let start = self.mark();
        let path = self.key()?;
        if depth + path.len() > MAX_DEPTH {
            return Err(Problem::too_deep(start));
        }
        let mut target = slot;
        for (at, part) in path.iter().enumerate() {
            if at > 0 {
                self.define(target, start, What::Object)?;
            }
            target = target.child_mut(part, start);
        }
        self.blank();
        let depth = depth + path.len();
        if self.took('{') {
            return self.object_then(target, start, depth);
        }
        let append = self.rest().starts_with("+=");
        if append {
            self.at += 2;
        } else if !(self.took('=') || self.took(':')) {
            let place = format!("after key {}", brief(&path.join(".")));
            return Err(self.unexpected(&place));
        }
        self.blank();
        if !append && self.took('{') {
            return self.object_then(target, start, depth);
        }
        let value = self.value(depth)?;
        let what = match append {
            true => What::Append(value),
            false => What::Value(value),
        };
        self.define(target, start, what)
    }

    /// An object whose brace has been taken, alone or with more beside it.
    fn object_then(&mut self, slot: &mut Slot, at: Mark, depth: usize) -> Result<(), Problem> {
        self.define(slot, at, What::Object)?;
        let mut alone = Slot::default();
        self.members(&mut alone, depth, true)?;
        if !self.more_beside() {
            // The common form: its members are the slot's, so that later definitions and
            // references meet them one by one.
            join(slot, alone);
            return Ok(());
        }
        slot.defs.pop();
        let first = Ast {
            at,
            what: Written::Object(Box::new(alone)),
        };
        let value = self.concat(vec![first], depth)?;
        self.define(slot, at, What::Value(value))
    }

    /// Whether another part of the same value follows on this line.
    fn more_beside(&mut self) -> bool {
        let back = self.at;
        self.space();
        let ended = matches!(self.peek(), None | Some('\n' | ',' | '}' | ']')) || self.at_comment();
        self.at = back;
        !ended
    }

    fn define(&mut self, slot: &mut Slot, at: Mark, what: What) -> Result<(), Problem> {
        self.budget.stamp += 1;
        self.count(at)?;
        let stamp = self.budget.stamp;
        slot.defs.push(Def { stamp, at, what });
        Ok(())
    }

    fn count(&mut self, at: Mark) -> Result<(), Problem> {
        self.budget.values += 1;
        match self.budget.values > 4 * MAX_VALUES {
            true => Err(Problem::too_many(at)),
            false => Ok(()),
        }
    }

    /// A value up to what ends it.
    fn value(&mut self, depth: usize) -> Result<Ast, Problem> {
        let value = self.concat(Vec::new(), depth)?;
        self.count(value.at)?;
        Ok(value)
    }

    fn concat(&mut self, mut parts: Vec<Ast>, depth: usize) -> Result<Ast, Problem> {
        let start = self.mark();
        loop {
            let (from, at) = (self.at, self.mark());
            self.space();
            let space = self.text[from..self.at].to_owned();
            let ended = matches!(self.peek(), None | Some('\n' | ',' | '}' | ']'));
            if ended || self.at_comment() {
                break;
            }
            if !space.is_empty() && !parts.is_empty() {
                let what = Written::Space(space);
                parts.push(Ast { at, what });
            }
            let at = self.mark();
            let what = self.part(depth)?;
            parts.push(Ast { at, what });
            self.count(at)?;
        }
        match parts.len() {
            0 => Err(self.unexpected("where a value belongs")),
            1 => Ok(parts.remove(0)),
            _ => Ok(Ast {
                at: parts.first().map_or(start, |p| p.at),
                what: Written::Concat(parts),
            }),
        }
    }

    fn part(&mut self, depth: usize) -> Result<Written, Problem> {
        match self.peek() {
            Some('"') => Ok(Written::Quoted(self.quoted()?)),
            Some('[') => {
                self.at += 1;
                self.list(depth + 1)
            }
            Some('{') => {
                self.at += 1;
                let mut slot = Slot::default();
                self.members(&mut slot, depth + 1, true)?;
                Ok(Written::Object(Box::new(slot)))
            }
            Some('$') => self.reference(),
            _ => match self.bare() {
                "" => Err(self.unexpected("where a value belongs; text with it needs quotes")),
                text => {
                    let text = text.to_owned();
                    self.at += text.len();
                    Ok(Written::Bare(text))
                }
            },
        }
    }

    /// The unquoted text that stands here.
    fn bare(&self) -> &str {
        let rest = self.rest();
        let number = rest
            .find(|c: char| !matches!(c, '0'..='9' | 'e' | 'E' | '+' | '-' | '.'))
            .map_or(rest, |end| &rest[..end]);
        if is_number(number) {
            return number;
        }
        let (mut letters, mut url) = (rest.char_indices(), false);
        while let Some((at, c)) = letters.next() {
            if c == ':' && rest[at..].starts_with("://") {
                url = true;
                letters.nth(1);
                continue;
            }
            if c == ':' && url {
                continue; // its port
            }
            if is_reserved(c) || c == '\n' || is_blank(c) || rest[at..].starts_with("//") {
                return &rest[..at];
            }
        }
        rest
    }

    fn list(&mut self, depth: usize) -> Result<Written, Problem> {
        if depth >= MAX_DEPTH {
            return Err(Problem::too_deep(self.mark()));
        }
        let mut items = Vec::new();
        self.blank();
        loop {
            match self.peek() {
                None => return Err(self.unexpected("inside of a list")),
                Some(']') => {
                    self.at += 1;
                    return Ok(Written::List(items));
                }
                Some(_) => items.push(self.value(depth)?),
            }
            let more = self.separator("between items")?;
            if !more && !matches!(self.peek(), Some(']') | None) {
                return Err(self.unexpected("after an item of a list"));
            }
        }
    }

    fn reference(&mut self) -> Result<Written, Problem> {
        self.at += 1;
        if !self.took('{') {
            return Err(self.wrong("A $ without { needs quotes."));
        }
        let optional = self.took('?');
        let path = self.key()?;
        match self.took('}') {
            true => Ok(Written::Reference { path, optional }),
            false => Err(self.unexpected("inside of a substitution")),
        }
    }

    /// The parts of a key, up to what follows it.
    fn key(&mut self) -> Result<Vec<String>, Problem> {
        let start = self.mark();
        self.space();
        let (mut path, mut part) = (Vec::new(), None::<String>);
        loop {
            let from = self.at;
            self.space();
            let space = from..self.at;
            match self.peek() {
                Some('"') => {
                    let text = self.quoted()?;
                    let part = part.get_or_insert_default();
                    part.push_str(&self.text[space]);
                    part.push_str(&text);
                }
                Some('.') => {
                    let Some(mut done) = part.take() else {
                        return Err(self.wrong("A key has an empty part."));
                    };
                    done.push_str(&self.text[space]);
                    path.push(done);
                    self.at += 1;
                    part = None;
                }
                Some(c) if !is_reserved(c) && c != '\n' && !self.at_comment() => {
                    let part = part.get_or_insert_default();
                    part.push_str(&self.text[space]);
                    part.push(c);
                    self.at += c.len_utf8();
                }
                _ => break,
            }
        }
        match part {
            Some(part) => path.push(part),
            None if !path.is_empty() => return Err(self.wrong("A key has an empty part.")),
            None => return Err(self.unexpected("where a key belongs")),
        }
        match path.len() > MAX_DEPTH {
            true => Err(Problem::too_deep(start)),
            false => Ok(path),
        }
    }

    /// A text in quotes, single or triple.
    fn quoted(&mut self) -> Result<String, Problem> {
        let start = self.mark();
        let open =
            |start| Problem::syntax(start, "The text in quotes that begins here has no end.");
        if let Some(rest) = self.rest().strip_prefix("\"\"\"") {
            let Some(end) = rest.find("\"\"\"") else {
                return Err(open(start));
            };
            // Quotes right before the closing ones belong to the text.
            let more = rest[end + 3..].bytes().take_while(|b| *b == b'"').count();
            let text = rest[..end + more].to_owned();
            self.at += 3 + end + more + 3;
            return Ok(text);
        }
        let rest = self.rest();
        let mut letters = rest.char_indices().skip(1);
        let end = loop {
            match letters.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => {
                    letters.next();
                }
                Some((_, '\n')) | None => return Err(open(start)),
                Some(_) => (),
            }
        };
        // A string of JSON, but for tabs, which need no escape here.
        let text = serde_json::from_str(&rest[..=end].replace('\t', "\\t"))
            .map_err(|_| Problem::syntax(start, "The text in quotes has a wrong escape."))?;
        self.at += end + 1;
        Ok(text)
    }

    /// `include "name"`, if that is what stands here.
    fn include(&mut self, slot: &mut Slot, depth: usize) -> Result<bool, Problem> {
        let at = self.mark();
        let Some(rest) = self.rest().strip_prefix("include") else {
            return Ok(false);
        };
        let name = rest.trim_start_matches(is_blank);
        if name.len() == rest.len() {
            return Ok(false);
        }
        let forms = ["file(", "url(", "classpath(", "required("];
        if forms.iter().any(|form| name.starts_with(form)) {
            let message = "The one form of an include is: include \"name\".";
            return Err(Problem::syntax(at, message));
        }
        if !name.starts_with('"') {
            return Ok(false);
        }
        self.at = self.text.len() - name.len();
        let name = self.quoted()?;
        self.budget.includes += 1;
        if self.budget.includes > MAX_INCLUDES {
            let message = format!("There are more than {MAX_INCLUDES} includes.");
            return Err(Problem::syntax(at, message));
        }
        let text = self
            .around
            .include(&name)
            .map_err(|why| Problem::syntax(at, format!("{why}.")))?;
        document(&text, &mut *self.around, slot, &mut *self.budget, depth).map_err(|problem| {
            let (name, place) = (brief(&name), problem.at);
            let message = format!("In included {name}, {place}: {}", problem.message);
            Problem::syntax(at, message)
        })?;
        Ok(true)
    }
}

/// What is said in `new` comes after what `slot` has.
fn join(slot: &mut Slot, new: Slot) {
    slot.defs.extend(new.defs);
    for (name, child) in new.children {
        match slot.index.get(&name) {
            Some(at) => join(&mut slot.children[*at].1, child),
            None => {
                slot.index.insert(name.clone(), slot.children.len());
                slot.children.push((name, child));
            }
        }
    }
}

/// A number of JSON.
pub(super) fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && serde_json::from_str::<serde_json::Number>(text).is_ok()
}
