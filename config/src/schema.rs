//! Which keys there are, what type each has and what it does. The type decides how a value is
//! read, never its look: `007` stays text where text is wanted.

use crate::fields::Judging;
use crate::read::{Format, brief};
use crate::tree::{Node, Value};
use core::net::{IpAddr, Ipv6Addr};
use serde_json::Value as Json;

/// The type of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true`, `false`.
    Bool,
    /// A whole number of this range.
    Integer(i64, i64),
    /// A decimal, kept in its letters.
    Decimal,
    /// Any text.
    Text,
    /// A text that is never shown, or `{ file = "/path" }`.
    Secret,
    /// Seconds of this range; in letters such as `1h30m`.
    Duration(i64, i64),
    /// Bytes of this range; in letters such as `64K`, `1GiB`: times 1024.
    Size(i64, i64),
    /// One of these words, in any case.
    OneOf(&'static [&'static str]),
    /// A list.
    List(&'static Self),
    /// A map with names that are free, all values of this type.
    MapOf(&'static Self),
    /// A map of these members.
    Table(&'static [Field]),
    /// A file or directory, whole from `/`; empty = none.
    Path,
    /// An address with `http` or `https`; empty = none.
    Url,
    /// An IP address, or a network such as `10.0.0.0/8`.
    Network,
    /// What only the program itself can judge, such as lists of maps.
    Free,
}

/// A member of a [`Kind::Table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// How it is called.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// It has to be there.
    pub required: bool,
}

impl Field {
    /// One that may be absent.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            required: false,
        }
    }

    /// One that must not.
    #[must_use]
    pub const fn required(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            required: true,
        }
    }
}

/// When a change acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acts {
    /// At once, also as a stored setting.
    Live,
    /// When the configuration is read again.
    Reload,
    /// When the program starts.
    Restart,
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted.
    pub path: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its value where nobody sets it, as it would stand in TOML; empty = not set.
    pub default: &'static str,
    /// When a change acts.
    pub acts: Acts,
    /// What it does, in one or two sentences.
    pub help: &'static str,
}

/// The keys of one program.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// First parts of its keys.
    pub roots: &'static [&'static str],
    /// First parts of keys of the other programs, which it passes over.
    pub foreign: &'static [&'static str],
    /// All keys, sorted as they are shown.
    pub keys: &'static [Key],
    /// Paths that once were keys and are none any more, each with what is said of it.
    pub renamed: &'static [(&'static str, &'static str)],
}

/// What a path is in a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// A key.
    Key(&'a Kind, bool),
    /// The beginning of keys.
    Section,
    /// Nothing.
    Unknown,
}

impl Schema {
    /// What stands at a path.
    #[must_use]
    pub fn find(&self, path: &[String]) -> Found<'_> {
        let text = path.join(".");
        // A part with a dot in it is a name of its own.
        let plain = text.split('.').count() == path.len();
        if let Some(key) = self.key(&text).filter(|_| plain) {
            return Found::Key(&key.kind, matches!(key.kind, Kind::Secret));
        }
        for key in self.keys {
            if let Kind::MapOf(inner) = &key.kind
                && let Some(rest) = text.strip_prefix(key.path)
                && rest.starts_with('.')
            {
                return Found::Key(inner, false);
            }
        }
        let section = format!("{text}.");
        let begins = |key: &Key| key.path.starts_with(&section);
        match path.is_empty() || plain && self.keys.iter().any(begins) {
            true => Found::Section,
            false => Found::Unknown,
        }
    }

    /// The key to which a shown one belongs: itself, or the map it stands in.
    #[must_use]
    pub fn key_of(&self, shown: &str) -> Option<&Key> {
        let below = |key: &&Key| {
            let rest = shown.strip_prefix(key.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.keys.iter().find(below)
    }

    /// The key of this path.
    #[must_use]
    pub fn key(&self, path: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.path == path)
    }

    /// The paths of all keys that have a default, with that default as a variable or `--set`
    /// would say it. Given to a program, they change nothing.
    #[must_use]
    pub fn defaults(&self) -> Vec<(String, String)> {
        let told = self.keys.iter().filter(|key| !key.default.is_empty());
        told.map(|key| {
            let text = match crate::load::default_of(key.default) {
                Json::String(text) => text,
                json => json.to_string(),
            };
            (key.path.to_owned(), text)
        })
        .collect()
    }

    /// The paths at and below `path` in the settings of a program that no key sets.
    #[must_use]
    pub fn without_key(&self, settings: &Json, path: &str) -> Vec<String> {
        let Some(members) = settings.as_object().filter(|members| !members.is_empty()) else {
            let known = self.key(path).is_some();
            return (!known).then(|| path.to_owned()).into_iter().collect();
        };
        let dot = if path.is_empty() { "" } else { "." };
        let below = members
            .iter()
            .map(|(name, value)| self.without_key(value, &format!("{path}{dot}{name}")));
        below.flatten().collect()
    }

    fn renamed(&self, path: &str) -> Option<String> {
        let mut known = self.renamed.iter();
        let (_, said) = known.find(|(old, _)| *old == path)?;
        Some(format!("{path}: {said}"))
    }

    /// What to say about a value where there are only keys below. `form` is how they are given
    /// there.
    #[must_use]
    pub fn no_value(&self, path: &str, form: &str) -> String {
        let said = self.renamed(path);
        said.unwrap_or_else(|| format!("{path} must be {form}"))
    }

    /// What to say about a path that is none.
    #[must_use]
    pub fn unknown(&self, path: &str) -> String {
        if let Some(said) = self.renamed(path) {
            return said;
        }
        let path = brief(path);
        match nearest(&path, self.keys.iter().map(|key| key.path)) {
            Some(near) => format!("unknown key {path}; did you mean {near}?"),
            None => format!("unknown key {path}"),
        }
    }
}

/// The known word that takes least changes of letters, at most three and fewer than half of
/// them; the first by name of equally near ones.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_ascii_lowercase();
    let length = text.chars().count();
    known
        .into_iter()
        // As many letters at least come or go.
        .filter(|word| length.abs_diff(word.chars().count()) <= 3)
        .map(|word| (distance(&text, word), word))
        .min()
        .filter(|(far, _)| *far <= 3 && 2 * far < length)
        .map(|(_, word)| word)
}

/// How many letters have to change, come or go (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

impl Kind {
    /// Whether its values are letters as they come.
    const fn is_text(self) -> bool {
        matches!(
            self,
            Self::Text | Self::Secret | Self::OneOf(_) | Self::Path | Self::Url | Self::Network
        )
    }

    /// Whether it has members of its own, so that more than one thing may be wrong in a value:
    /// [`crate::fields`] judges these.
    #[must_use]
    pub fn has_fields(self) -> bool {
        match self {
            Self::Table(_) => true,
            Self::List(inner) | Self::MapOf(inner) => inner.has_fields(),
            _ => false,
        }
    }

    /// What to call it in messages.
    #[must_use]
    pub fn wanted(self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer(low, high) => format!("a whole number from {low} to {high}"),
            Self::Decimal => "a decimal number, such as 0.25".to_owned(),
            Self::Text | Self::Secret => "text".to_owned(),
            Self::Duration(low, high) => {
                format!("a time from {low} to {high} seconds, such as 90 or 1h30m")
            }
            Self::Size(low, high) => {
                format!("a size from {low} to {high} bytes, such as 65536, 64K or 1GiB")
            }
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::List(_) => "a list".to_owned(),
            Self::MapOf(_) | Self::Table(_) => "a map".to_owned(),
            Self::Path => "a path, whole from /".to_owned(),
            Self::Url => "an address, such as https://host/path".to_owned(),
            Self::Network => "an IP address or a network, such as 10.0.0.0/8".to_owned(),
            Self::Free => "a value the program understands".to_owned(),
        }
    }

    /// A value of a document as this type.
    ///
    /// # Errors
    /// What it must be instead, without the value.
    pub fn of_node(self, node: &Node) -> Result<Json, String> {
        let must = || format!("must be {}", self.wanted());
        match (self, &node.value) {
            (Self::Bool, Value::Bool(value)) => Ok(Json::Bool(*value)),
            (Self::Secret, Value::Map(_)) | (Self::Free, _) => Ok(node.to_json()),
            (Self::Text | Self::Secret, _) => {
                let text = node.text().ok_or_else(must)?;
                Ok(Json::String(text.to_owned()))
            }
            (Self::Integer(..), Value::Number(text)) => match crate::tree::based(text) {
                Some(whole) => self.of_letters(&whole.to_string()),
                None => self.of_letters(text),
            },
            (
                Self::Decimal | Self::Duration(..) | Self::Size(..),
                Value::Number(text) | Value::Text(text),
            )
            // Words such as 1.2 are numbers to a reader.
            | (Self::OneOf(_), Value::Text(text) | Value::Number(text))
            | (Self::Path | Self::Url | Self::Network, Value::Text(text)) => self.of_letters(text),
            (Self::Table(_), Value::Map(_)) => {
                let mut judging = Judging { files: None, found: Vec::new() };
                let json = judging.judge(self, node, "");
                json.ok_or_else(|| judging.found.swap_remove(0).message)
            }
            (Self::List(inner), Value::List(items)) => {
                let item = |(at, node)| {
                    let read = inner.of_node(node);
                    read.map_err(|why| format!("item {} {why}", at + 1))
                };
                let items: Result<Vec<_>, _> = items.iter().enumerate().map(item).collect();
                items.map(Json::Array)
            }
            (Self::MapOf(inner), Value::Map(entries)) => {
                let mut map = serde_json::Map::new();
                for entry in entries {
                    let value = inner.of_node(&entry.node);
                    let value = value.map_err(|why| format!("{} {why}", brief(&entry.name)))?;
                    map.insert(entry.name.clone(), value);
                }
                Ok(Json::Object(map))
            }
            _ => Err(must()),
        }
    }

    /// The text of a variable or argument as this type; none = back to the default.
    ///
    /// # Errors
    /// What is wrong with it, with the text unless it is secret.
    pub fn of_text(self, text: &str) -> Result<Option<Json>, String> {
        if self.is_text() {
            let whole = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
            let decoded = whole.then(|| serde_json::from_str::<String>(text).ok());
            let text = decoded.flatten().unwrap_or_else(|| text.to_owned());
            return self.checked(&text).map(Some);
        }
        match (text, self) {
            ("null", _) => Ok(None),
            ("", Self::List(_)) => Ok(Some(Json::Array(Vec::new()))),
            ("", _) => Err("empty value; remove the variable or write null".to_owned()),
            _ => self.checked(text).map(Some),
        }
    }

    /// Whether there may be a secret in it: such a value is not repeated.
    #[must_use]
    pub fn may_hide(self) -> bool {
        match self {
            Self::Secret | Self::Free | Self::Table(_) => true,
            Self::List(inner) | Self::MapOf(inner) => inner.may_hide(),
            _ => false,
        }
    }

    fn checked(self, text: &str) -> Result<Json, String> {
        let must = |why: String| match self.may_hide() {
            true => why,
            false => format!("{} {why}", Json::String(brief(text))),
        };
        match self {
            Self::Bool if text.eq_ignore_ascii_case("true") => Ok(Json::Bool(true)),
            Self::Bool if text.eq_ignore_ascii_case("false") => Ok(Json::Bool(false)),
            Self::Text | Self::Secret => Ok(Json::String(text.to_owned())),
            Self::List(inner) if inner.is_text() && !text.trim_start().starts_with('[') => {
                let items = text.split(',').map(|item| inner.checked(item.trim()));
                items.collect::<Result<_, _>>().map(Json::Array)
            }
            Self::List(_) | Self::MapOf(_) | Self::Table(_) | Self::Free => {
                let node = crate::read::read(Format::Json, text.as_bytes());
                let node = match node {
                    Ok(node) => node,
                    Err(_) if self == Self::Free => Node::bare(Value::Text(text.to_owned())),
                    Err(_) => return Err(must(format!("must be {} in JSON", self.wanted()))),
                };
                self.of_node(&node).map_err(must)
            }
            _ => self.of_letters(text).map_err(must),
        }
    }

    /// Numbers, times, sizes and words from their letters.
    fn of_letters(self, text: &str) -> Result<Json, String> {
        let must = || format!("must be {}", self.wanted());
        let within = |value: Option<i64>, low, high| {
            let value = value.filter(|v| (low..=high).contains(v));
            value.map(Json::from).ok_or_else(must)
        };
        match self {
            Self::Integer(low, high) => within(whole(text), low, high),
            Self::Duration(low, high) => within(whole(text).or_else(|| seconds(text)), low, high),
            Self::Size(low, high) => within(bytes(text), low, high),
            Self::Decimal => {
                let plain = without_exponent(text);
                let text = plain.as_deref().unwrap_or(text);
                let digits = text.strip_prefix('-').unwrap_or(text);
                let good = |c: char| c.is_ascii_digit() || matches!(c, '.' | '/');
                match !digits.is_empty() && digits.chars().all(good) {
                    true => Ok(Json::String(text.to_owned())),
                    false => Err(must()),
                }
            }
            Self::Path => match text.is_empty() || text.starts_with('/') && !text.contains('\0') {
                true => Ok(Json::from(text)),
                false => Err(must()),
            },
            Self::Url => match text.is_empty() || is_url(text) {
                true => Ok(Json::from(text)),
                false => Err(must()),
            },
            Self::Network => match is_network(text) {
                true => Ok(Json::from(text)),
                false => Err(must()),
            },
            Self::OneOf(words) => {
                let known = words.iter().find(|w| w.eq_ignore_ascii_case(text));
                known.map(|w| Json::from(*w)).ok_or_else(must)
            }
            _ => Err(must()),
        }
    }
}

/// `1.5e3` as `1500`: the same number in the letters of a decimal; none where it has no exponent,
/// or one that no setting needs.
fn without_exponent(text: &str) -> Option<String> {
    const MOST: i64 = 30;
    let (number, exponent) = text.split_once(['e', 'E'])?;
    let exponent = whole(exponent).filter(|by| by.abs() <= MOST)?;
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number),
    };
    let (before, after) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{before}{after}");
    if before.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let point = i64::try_from(before.len()).ok()?.checked_add(exponent)?;
    let lead = usize::try_from(1 - point).unwrap_or(0); // zeros before the first digit
    let digits = format!("{}{digits}", "0".repeat(lead));
    let point = usize::try_from(point)
        .unwrap_or(0)
        .max(usize::from(lead > 0));
    let digits = format!("{digits:0<point$}");
    let (whole, rest) = digits.split_at(point);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    Some(match rest.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        rest => format!("{sign}{whole}.{rest}"),
    })
}

/// Whether a text is an address that can be called: `http` or `https`, a host, perhaps a port. What
/// comes after them is judged by whoever calls it.
fn is_url(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    let rest = text.split_once("://").filter(|(scheme, _)| {
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    });
    let Some((_, rest)) = rest.filter(|_| text.chars().all(plain)) else {
        return false;
    };
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = place.rsplit('@').next().unwrap_or_default();
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => (address, port),
            _ => return false,
        },
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    port && !host.is_empty()
}

/// Whether a text is an address, or one with the length of a prefix.
fn is_network(text: &str) -> bool {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let within = |prefix: &str| prefix.parse::<u8>().is_ok_and(|bits| bits <= most);
    prefix.is_none_or(within)
}

/// Decimal digits with an optional sign; leading zeros do not count.
fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

/// Parts with `d`, `h`, `m`, `s`, each at most once and from the greatest to the least.
fn seconds(text: &str) -> Option<i64> {
    let (mut rest, mut sum) = (text, 0_i64);
    for (unit, worth) in [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((digits, after)) = rest.split_once(unit)
            && digits.bytes().all(|b| b.is_ascii_digit())
        {
            sum = sum.checked_add(digits.parse::<i64>().ok()?.checked_mul(worth)?)?;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(sum)
}

/// Bytes, or with `K`, `M`, `G`, `T`, each with or without `iB`.
fn bytes(text: &str) -> Option<i64> {
    let bare = text.strip_suffix("iB").unwrap_or(text);
    let suffixed = bare.len() < text.len();
    let (digits, worth) = [('K', 10), ('M', 20), ('G', 30), ('T', 40)]
        .into_iter()
        .find_map(|(unit, bits)| Some((bare.strip_suffix(unit)?, 1_i64 << bits)))
        .unwrap_or((bare, 1));
    if suffixed && worth == 1 || digits.starts_with(['-', '+']) {
        return None;
    }
    whole(digits)?.checked_mul(worth)
}

/// All keys with what they do, as a commented file: every key stands there with its default,
/// switched off.
#[must_use]
pub fn reference(schema: &Schema, heading: &str) -> String {
    let mut text = String::new();
    for line in heading.lines() {
        text.push_str(&format!("# {line}\n"));
    }
    for key in schema.keys {
        text.push('\n');
        for line in folded(key.help, 96) {
            text.push_str(&format!("# {line}\n"));
        }
        let acts = match key.acts {
            Acts::Reload => "; acts on reload",
            Acts::Live => "; may be stored, and acts at once",
            Acts::Restart => "; acts on restart",
        };
        text.push_str(&format!("# Type: {}{acts}.\n", key.kind.wanted()));
        let default = match key.default {
            "" => "\"\"",
            set => set,
        };
        text.push_str(&format!("#{} = {default}\n", key.path));
    }
    text
}

/// Lines of at most so many letters.
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().map_or(0, |l| l.chars().count());
        if line > 0 && line + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: Kind, text: &str) -> String {
        match kind.of_text(text) {
            Ok(value) => value.map_or("default".to_owned(), |v| v.to_string()),
            Err(why) => format!("error: {why}"),
        }
    }

    #[test]
    fn the_type_reads_the_text() {
        const WORDS: Kind = Kind::OneOf(&["starttls", "none"]);
        const TEXTS: Kind = Kind::List(&Kind::Text);
        const NUMBERS: Kind = Kind::List(&Kind::Integer(0, 9));
        for (kind, from, to) in [
            (Kind::Text, "12345678", "\"12345678\""),
            (Kind::Text, "\"a b\"", "\"a b\""),
            (Kind::Text, "[x", "\"[x\""),
            (Kind::Text, "null", "\"null\""),
            (Kind::Text, "", "\"\""),
            (Kind::Bool, "True", "true"),
            (Kind::Bool, "yes", "error: \"yes\" must be true or false"),
            (
                Kind::Bool,
                "",
                "error: empty value; remove the variable or write null",
            ),
            (Kind::Bool, "null", "default"),
            (Kind::Integer(0, 1000), "0900", "900"),
            (
                Kind::Integer(0, 9),
                "0x1",
                "error: \"0x1\" must be a whole number from 0 to 9",
            ),
            (
                Kind::Integer(0, 9),
                "10",
                "error: \"10\" must be a whole number from 0 to 9",
            ),
            (Kind::Duration(0, 9999), "90", "90"),
            (Kind::Duration(0, 9999), "1h30m", "5400"),
            (
                Kind::Duration(0, 9),
                "1.5h",
                "error: \"1.5h\" must be a time from 0 to 9 seconds, such as 90 or 1h30m",
            ),
            (Kind::Size(0, 1 << 40), "64K", "65536"),
            (Kind::Size(0, 1 << 40), "1GiB", "1073741824"),
            (
                Kind::Size(0, 9),
                "1KB",
                "error: \"1KB\" must be a size from 0 to 9 bytes, such as 65536, 64K or 1GiB",
            ),
            (WORDS, "StartTLS", "\"starttls\""),
            (WORDS, "ssl", "error: \"ssl\" must be one of starttls, none"),
            (TEXTS, "[\"a\"]", "[\"a\"]"),
            (TEXTS, "a, b", "[\"a\",\"b\"]"),
            (TEXTS, "", "[]"),
            (TEXTS, "[1,", "error: \"[1,\" must be a list in JSON"),
            (NUMBERS, "[1, 2]", "[1,2]"),
            (
                NUMBERS,
                "[12]",
                "error: \"[12]\" item 1 must be a whole number from 0 to 9",
            ),
            (Kind::Decimal, "0.29", "\"0.29\""),
            (Kind::Decimal, "1.5e3", "\"1500\""),
            (Kind::Decimal, "-25E-2", "\"-0.25\""),
            (Kind::Decimal, "5e-4", "\"0.0005\""),
            (Kind::Decimal, "12.50e1", "\"125\""),
            (Kind::Decimal, "12.5e-1", "\"1.25\""),
            (
                Kind::Decimal,
                "1e99",
                "error: \"1e99\" must be a decimal number, such as 0.25",
            ),
            (
                Kind::Decimal,
                "e3",
                "error: \"e3\" must be a decimal number, such as 0.25",
            ),
            (Kind::MapOf(&Kind::Text), "{\"a\":\"b\"}", "{\"a\":\"b\"}"),
            (Kind::Path, "/x", "\"/x\""),
            (Kind::Path, "", "\"\""),
            (
                Kind::Path,
                "rel",
                "error: \"rel\" must be a path, whole from /",
            ),
        ] {
            assert_eq!(text(kind, from), to, "{kind:?} {from}");
        }
    }

    #[test]
    fn addresses_and_networks_are_told_from_other_texts() {
        let good = |kind: Kind, texts: &[&str]| {
            for one in texts {
                assert_eq!(
                    kind.of_text(one),
                    Ok(Some(Json::from(*one))),
                    "{kind:?} {one}"
                );
            }
        };
        let bad = |kind: Kind, texts: &[&str]| {
            for one in texts {
                assert!(kind.of_text(one).is_err(), "{kind:?} {one}");
            }
        };
        good(
            Kind::Url,
            &[
                "",
                "https://a.lab",
                "HTTP://a.lab:80/x?y#z",
                "https://u:p@a.lab/",
                "https://[::1]:7420/",
            ],
        );
        bad(
            Kind::Url,
            &[
                "a.lab",
                "ftp://a.lab/",
                "https:/a.lab",
                "https://",
                "https:///x",
                "https://a.lab:x/",
                "https://a.lab:99999/",
                "https://[::1/",
                "https://a b/",
            ],
        );
        good(
            Kind::Network,
            &["10.0.0.1", "10.0.0.0/8", "fd00::/8", "::1"],
        );
        bad(
            Kind::Network,
            &[
                "",
                "foo",
                "10.0.0.0/33",
                "10.0.0/8",
                "fd00::/129",
                "1.2.3.4/",
            ],
        );
    }

    #[test]
    fn no_secret_is_repeated() {
        let node = Node::bare(Value::List(Vec::new()));
        let error = Kind::Secret.of_node(&node).unwrap_err();
        assert_eq!(error, "must be text");
        // Of a list of maps nobody knows which members are secret.
        const MAPS: Kind = Kind::List(&Kind::Free);
        let told = text(MAPS, "[{\"password\":\"hunter2\",}]");
        assert_eq!(told, "error: must be a list in JSON");
    }

    #[test]
    fn the_nearest_key_is_found() {
        let known = ["daemon.cors.origins", "daemon.cors.credentials"];
        assert_eq!(nearest("daemon.cors.origns", known), Some(known[0]));
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("abcdefg", ["tuvwxyz"]), None);
    }
}
