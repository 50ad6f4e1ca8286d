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
/// `jdbc:postgresql://user:password@host`. More may be taken for one than is: what is hidden
/// without need does no harm.
fn users(text: &str) -> Vec<Range<usize>> {
    const MARK: &str = "://";
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>');
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find(MARK).map(|at| from + at) {
        let begin = at + MARK.len();
        let rest = &text[begin..];
        // Where the whole text is an address, all up to its first slash is before its host,
        // whatever letters a password has.
        let whole = from == 0 && text[..at].chars().all(word);
        let least = || rest[..rest.find(PARTS).unwrap_or(rest.len())].rfind('@');
        let least = whole.then(least).flatten();
        // Up to the next address, or to what no address holds.
        let rest = match rest.find(MARK) {
            Some(next) => rest[..next].trim_end_matches(word),
            None => rest,
        };
        let address = &rest[..rest.find(ends).unwrap_or(rest.len())];
        // What no address holds may stand in a password, where one has begun before it.
        let begun = whole || password_of(address).is_some();
        let user = user_of(address);
        let user = user.or_else(|| user_of(rest).filter(|_| begun)).max(least);
        if let (true, Some(end)) = (text[from..at].ends_with(word), user) {
            found.push(begin..begin + end);
        }
        from = begin;
    }
    found
}

/// What ends the part of an address that host and user are in.
const PARTS: [char; 3] = ['/', '?', '#'];

/// How long the part for the user is, of an address without its scheme. A password may have any
/// letter in it: where there is one, it goes up to the last `@`.
fn user_of(address: &str) -> Option<usize> {
    let last = address.rfind('@')?;
    let end = address.find(PARTS).unwrap_or(address.len());
    let authority = &address[..end];
    match authority.rfind('@') {
        // A name may have one in it: `name@mail:pass/word@host`.
        Some(at) if !authority.contains(':') => Some(at),
        Some(_) => Some(last),
        None => password_of(address).and(Some(last)),
    }
}

/// What may be the begin of a password in an address without its scheme, up to what ends the part
/// for the user elsewhere. `[::1]:80/a` and `host:80/a` have a port.
fn password_of(address: &str) -> Option<&str> {
    let end = address.find(PARTS).unwrap_or(address.len());
    let (authority, rest) = address.split_at(end);
    let (host, password) = authority.split_once(':')?;
    let digits = password.bytes().all(|b| b.is_ascii_digit());
    let port = digits && password.parse::<u16>().is_ok() && !rest.starts_with(['?', '#']);
    (!port && !host.starts_with('[')).then_some(password)
}

/// Whether a text at this path is what is shown in place of another one. Where all that stands
/// there is hidden, only a mask alone is; a text with an address in it is a value.
pub(super) fn is_mask_at(path: &[String], text: &str) -> bool {
    match is_hidden_below(path) {
        true => text == MASK,
        false => is_mask(text),
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
    below(node, &mut path.to_vec(), is_hidden_below(path))
}

/// Whether everything at this path, or at one above it, is secret.
fn is_hidden_below(path: &[String]) -> bool {
    (1..=path.len()).any(|parts| is_hidden(&path[..parts]))
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
            // Letters that end an address elsewhere.
            (
                "https://bob:it's@pypi.lab/simple",
                "https://bob:********@pypi.lab/simple",
            ),
            ("https://u:p w@h", "https://u:********@h"),
            ("https://u:p\"<w>@h/x", "https://u:********@h/x"),
            ("https://u:1 2@h", "https://u:********@h"),
            ("https://u:p@'x@h", "https://u:********@h"),
            ("https://to'ken@h", "https://********@h"),
            ("at https://u:it's@h", "at https://u:********@h"),
            (
                "https://u:p w@h,http://a:b@c",
                "https://u:********@h,http://a:********@c",
            ),
            (
                "https://alice@corp.com:p/ss@h",
                "https://alice@corp.com:********@h",
            ),
            ("https://u:12#x@h", "https://u:********@h"),
            ("https://u:12?x@h", "https://u:********@h"),
            ("https://u:123456/x@h", "https://u:********@h"),
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
