//! What is shown of values that are secret, or may hold what is.

use super::MASK;
use crate::schema::Kind;
use crate::tree::dotted;
use crate::work::mask::masked_url;
use serde_json::Value as Json;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// What stands for a value where two configurations are compared. The path below the key counts
/// with a masked one: a secret is either a text or `{ file = "/path" }`.
pub(super) fn compared(below: &[String], clear: Json, shown: &Json) -> Json {
    if clear == *shown {
        return clear;
    }
    let mut digest = DefaultHasher::new();
    dotted(below).hash(&mut digest);
    clear.to_string().hash(&mut digest);
    Json::String(format!("{:016x}", digest.finish()))
}

/// A value of a key, with masks in place of what is secret, at whatever depth.
pub(super) fn hidden(kind: Kind, json: Json) -> Json {
    match (kind, json) {
        (Kind::Secret, Json::String(text)) if text.is_empty() => Json::String(text),
        (Kind::Secret, Json::Null) | (Kind::Free, Json::Null) => Json::Null,
        (Kind::Secret, _) => Json::String(MASK.to_owned()),
        (Kind::Free, json) => mask_words(json),
        (Kind::List(inner), Json::Array(items)) => {
            let items = items.into_iter().map(|item| hidden(*inner, item));
            Json::Array(items.collect())
        }
        (Kind::MapOf(inner), Json::Object(members)) => Json::Object(
            members
                .into_iter()
                .map(|(name, value)| {
                    let value =
                        hidden_below(Kind::MapOf(inner), std::slice::from_ref(&name), value);
                    (name, value)
                })
                .collect(),
        ),
        // What stands before a value may be of another form than its key wants.
        (kind, json) if kind.may_hide() => mask_words(json),
        (_, json) => json,
    }
}

/// A part of the value of a key, from its path below that key.
pub(super) fn hidden_below(kind: Kind, below: &[String], json: Json) -> Json {
    let Some((name, rest)) = below.split_first() else {
        return hidden(kind, json);
    };
    match kind {
        Kind::Secret => hidden(kind, json),
        Kind::MapOf(inner) => match json {
            Json::String(_) | Json::Number(_) if is_secret_name(name) => {
                Json::String(MASK.to_owned())
            }
            json => hidden_below(*inner, rest, json),
        },
        // The names of the way there say something of the value, as they do in a whole one.
        _ => {
            let whole = below.iter().rev().fold(json, |value, name| {
                Json::Object(std::iter::once((name.clone(), value)).collect())
            });
            let mut left = mask_words(whole);
            for name in below {
                left = match left {
                    Json::Object(mut members) => members.remove(name).unwrap_or(Json::Null),
                    masked => return masked,
                };
            }
            left
        }
    }
}

/// Masks what has a word for a secret in its name.
fn mask_words(json: Json) -> Json {
    match json {
        Json::Object(map) => Json::Object(
            map.into_iter()
                .map(|(name, value)| {
                    let mask = || Json::String(MASK.to_owned());
                    // Of what a whole map stood before, names are paths.
                    let within = |part: &str| name.split('.').any(|one| one == part);
                    let value = match value {
                        Json::Null => Json::Null,
                        _ if is_secret_name(&name) => mask(),
                        // Of a request: who knows which of them let it in.
                        Json::Object(all) if name == "headers" => {
                            all.into_iter().map(|(name, _)| (name, mask())).collect()
                        }
                        // A body may hold anything.
                        _ if within("headers") || within("payload") => mask(),
                        Json::String(url) if within("url") => Json::String(place_of(&url)),
                        value => mask_words(value),
                    };
                    (name, value)
                })
                .collect(),
        ),
        Json::Array(items) => Json::Array(items.into_iter().map(mask_words).collect()),
        Json::String(text) => {
            let masked = masked_url(&text);
            Json::String(masked.unwrap_or(text))
        }
        other => other,
    }
}

/// Of the address of a webhook the place alone: for many the rest is what lets in.
fn place_of(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    match path {
        "" | "/" => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}/{MASK}"),
    }
}

/// Whether one of the words of a name says that its value is secret. Words end at `_`, `-`, `.`
/// and where a capital follows a small letter.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    const WORDS: [&str; 9] = [
        "password",
        "passwd",
        "secret",
        "token",
        "key",
        "credential",
        "credentials",
        "passphrase",
        "auth",
    ];
    let mut words = vec![String::new()];
    let mut small = false;
    for c in name.chars() {
        if matches!(c, '_' | '-' | '.') || (small && c.is_uppercase()) {
            words.push(String::new());
        }
        small = c.is_lowercase() || c.is_ascii_digit();
        if let Some(word) = words.last_mut()
            && c.is_alphanumeric()
        {
            word.extend(c.to_lowercase());
        }
    }
    words.iter().any(|word| WORDS.contains(&word.as_str()))
}
