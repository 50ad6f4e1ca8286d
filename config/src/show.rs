//! `config show`: what holds, and where it came from.

use crate::load::{Loaded, Shown, show};
use crate::schema::Schema;
use serde_json::json;

/// The values as lines, or as JSON.
///
/// # Errors
/// A key or section that is not known, in one sentence.
pub fn print(
    schema: &Schema,
    loaded: &Loaded,
    key: Option<&str>,
    origin: bool,
    as_json: bool,
) -> Result<String, String> {
    let wanted = |shown: &Shown| {
        key.is_none_or(|key| {
            let rest = shown.key.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    let all: Vec<Shown> = show(schema, loaded).into_iter().filter(wanted).collect();
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
                json!({
                    "key": shown.key,
                    "value": shown.value,
                    "origin": shown.origin,
                    "shadowed": shadowed,
                })
            })
            .collect();
        return Ok(format!("{:#}\n", json!(rows)));
    }
    let mut text = String::new();
    for shown in &all {
        text.push_str(&format!("{} = {}", shown.key, shown.value));
        if origin {
            text.push_str(&format!("  # {}", shown.origin));
            for (at, (before, _)) in shown.shadowed.iter().enumerate() {
                text.push_str(if at == 0 { ", over " } else { ", " });
                text.push_str(before);
            }
        }
        text.push('\n');
    }
    Ok(text)
}
