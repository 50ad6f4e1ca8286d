//! What is hidden where values are shown.

use super::keys::{self, Found, Kind};
use crate::load::{MASK, is_secret_name};
use crate::tree::{Entry, Node, Value};

/// Whether a text is a mask, or an address with one in place of a password.
#[must_use]
pub fn is_mask(text: &str) -> bool {
    text == MASK || masked_url(text).is_some_and(|masked| masked == text)
}

/// An address whose part for the user has a password, with a mask in its place.
#[must_use]
pub fn masked_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if scheme.is_empty() || !scheme.chars().all(word) {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let at = rest[..end].rfind('@')?;
    let user = match rest[..at].split_once(':') {
        Some((user, _)) => format!("{user}:{MASK}"),
        // A name alone may be a token.
        None => MASK.to_owned(),
    };
    Some(format!("{scheme}://{user}{}", &rest[at..]))
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
