//! What is hidden where values are shown.

use super::keys::{self, Found, Kind};
use crate::load::{MASK, is_secret_name};
use crate::tree::{Entry, Node, Value};
use std::ops::Range;

/// Whether a text is a mask, or has an address in it with one in place of a password.
#[must_use]
pub fn is_mask(text: &str) -> bool {
    let masked = |range: Range<usize>| {
        let user = &text[range];
        user.split_once(':').map_or(user, |(_, password)| password) == MASK
    };
    text == MASK || users(text).into_iter().any(masked)
}

/// A text with masks in place of the passwords of the addresses in it; none if there are none.
#[must_use]
pub fn masked_url(text: &str) -> Option<String> {
    let found = users(text);
    let mut masked = String::new();
    let mut from = 0;
    for range in &found {
        let user = &text[range.clone()];
        masked.push_str(&text[from..range.start]);
        if let Some((name, _)) = user.split_once(':') {
            masked.push_str(name);
            masked.push(':');
        }
        // A name alone may be a token.
        masked.push_str(MASK);
        from = range.end;
    }
    masked.push_str(&text[from..]);
    (!found.is_empty()).then_some(masked)
}

/// Where in a text the parts for the user stand, of whatever addresses are in it:
/// `jdbc:postgresql://user:password@host`.
fn users(text: &str) -> Vec<Range<usize>> {
    const MARK: &str = "://";
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>');
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find(MARK).map(|at| from + at) {
        let begin = at + MARK.len();
        let rest = &text[begin..];
        // Up to the next address, or to what no address holds.
        let rest = match rest.find(MARK) {
            Some(next) => rest[..next].trim_end_matches(word),
            None => rest,
        };
        let address = &rest[..rest.find(ends).unwrap_or(rest.len())];
        if let (true, Some(end)) = (text[from..at].ends_with(word), user_of(address)) {
            found.push(begin..begin + end);
        }
        from = begin;
    }
    found
}

/// How long the part for the user is, of an address without its scheme. A password may have any
/// letter in it: where there is one, it goes up to the last `@`.
fn user_of(address: &str) -> Option<usize> {
    let last = address.rfind('@')?;
    let end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let authority = &address[..end];
    match (authority.rfind('@'), authority.split_once(':')) {
        (Some(at), _) if !authority[..at].contains(':') => Some(at),
        (Some(_), _) => Some(last),
        // `[::1]:80/a@b` and `host:80/a@b` have a port.
        (None, Some((host, port))) if !host.starts_with('[') => {
            let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            (!is_port).then_some(last)
        }
        (None, _) => None,
    }
}

/// A document with masks in place of what is secret.
#[must_use]
pub fn masked(tree: &Node) -> Node {
    below(tree, &mut Vec::new(), false)
}

/// The value at a path with masks in place of what is secret.
#[must_use]
pub fn masked_at(path: &[String], node: &Node) -> Node {
    let mut inner = Vec::new();
    let mut hidden = false;
    for part in path {
        inner.push(part.clone());
        hidden = hidden || is_hidden(&inner);
    }
    below(node, &mut inner, hidden)
}

/// Whether everything at this path is secret.
fn is_hidden(path: &[String]) -> bool {
    if let [first, _] = path
        && first == "environment"
    {
        return true;
    }
    if let [first, rest @ ..] = path
        && first == "files"
    {
        // A label is a name that says nothing; what is in the file is in `contents`.
        return matches!(rest, [_, member] if member == "contents");
    }
    matches!(keys::find(path), Found::Key(Kind::Secret))
        || path.last().is_some_and(|name| is_secret_name(name))
}

fn below(node: &Node, path: &mut Vec<String>, hidden: bool) -> Node {
    let mask = || Value::Text(MASK.to_owned());
    let value = match &node.value {
        Value::Null => Value::Null,
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|entry| {
                    path.push(entry.name.clone());
                    let node = below(&entry.node, path, hidden || is_hidden(path));
                    path.pop();
                    Entry {
                        node,
                        ..entry.clone()
                    }
                })
                .collect(),
        ),
        Value::List(items) => {
            Value::List(items.iter().map(|item| below(item, path, hidden)).collect())
        }
        _ if hidden => mask(),
        Value::Text(text) => Value::Text(masked_url(text).unwrap_or_else(|| text.clone())),
        other => other.clone(),
    };
    Node { at: node.at, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_addresses_are_masked_wherever_they_stand() {
        for (text, masked) in [
            ("https://u:p@h/x", "https://u:********@h/x"),
            ("https://token@h", "https://********@h"),
            (
                "jdbc:postgresql://u:p@h/db",
                "jdbc:postgresql://u:********@h/db",
            ),
            ("see https://u:p@h now", "see https://u:********@h now"),
            ("\"https://u:p@h\" a@b", "\"https://u:********@h\" a@b"),
            ("https://u:p/q?r#s@h/x", "https://u:********@h/x"),
            ("https://u:p@q/r@h/x", "https://u:********@h/x"),
            ("https://u:@h", "https://u:********@h"),
            (
                "http://a:b@h,https://c:d@i",
                "http://a:********@h,https://c:********@i",
            ),
            ("x=http://a:b@h;y", "x=http://a:********@h;y"),
        ] {
            assert_eq!(masked_url(text).as_deref(), Some(masked));
            assert!(!is_mask(text) && is_mask(masked), "{masked}");
            assert_eq!(masked_url(masked).as_deref(), Some(masked));
        }
        for text in [
            "https://h/x",
            "https://h:80/a@b",
            "https://[::1]:80/a@b",
            "://u:p@h",
            "a@b",
            "u:p@h",
            "",
        ] {
            assert_eq!(masked_url(text), None, "{text}");
            assert!(!is_mask(text));
        }
    }
}
