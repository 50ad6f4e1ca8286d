//! `config show`: what holds, and where it came from.

use crate::load::{Loaded, Shown, show, show_given};
use crate::schema::Schema;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Keys of two configurations whose values differ, sorted.
#[must_use]
pub fn differing(one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>) -> Vec<String> {
    let keys = one.keys().chain(other.keys());
    let mut keys: Vec<String> = keys
        .filter(|key| one.get(*key) != other.get(*key))
        .cloned()
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The values as lines, or as JSON. `waiting` says of keys for what a running program waits
/// before it goes by them.
///
/// # Errors
/// A key or section that is not known, in one sentence.
pub fn print(
    schema: &Schema,
    loaded: &Loaded,
    key: Option<&str>,
    (origin, as_json): (bool, bool),
    waiting: &BTreeMap<String, &str>,
) -> Result<String, String> {
    let wanted = |shown: &Shown| {
        key.is_none_or(|key| {
            let rest = shown.key.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    let all = show(schema, loaded).into_iter();
    let all = all.chain(show_given(schema, loaded));
    let all: Vec<Shown> = all.filter(wanted).collect();
    if let (true, Some(key)) = (all.is_empty(), key) {
        return Err(schema.unknown(key));
    }
    if as_json {
        let rows: Vec<_> = all
            .iter()
            .map(|shown| {
                let shadowed: Vec<_> = shown
                    .shadowed
                    .iter()
                    .map(|(origin, value)| json!({ "origin": origin, "value": value }))
                    .collect();
                let mut row = json!({
                    "key": shown.key,
                    "value": shown.value,
                    "origin": shown.origin,
                    "shadowed": shadowed,
                });
                if let Some(what) = waiting.get(&shown.key) {
                    row["waits_for"] = json!(what);
                }
                row
            })
            .collect();
        return Ok(format!("{:#}\n", json!(rows)));
    }
    let mut text = String::new();
    for shown in &all {
        text.push_str(&format!("{} = {}", shown.key, shown.value));
        let waits = waiting.get(&shown.key);
        if let Some(what) = waits {
            text.push_str(&format!("  # waits for a {what}"));
        }
        if origin {
            let lead = if waits.is_some() { ";" } else { "  #" };
            text.push_str(&format!("{lead} {}", shown.origin));
            for (at, (before, _)) in shown.shadowed.iter().enumerate() {
                text.push_str(if at == 0 { ", over " } else { ", " });
                text.push_str(before);
            }
        }
        text.push('\n');
    }
    Ok(text)
}
