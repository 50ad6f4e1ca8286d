//! `quota`: what one may use, and what is used.

use crate::app::App;
use crate::client::{encode, typed};
use crate::clock;
use crate::error::Failure;
use crate::output::{Table, amount, clean};
use longshore_common::admin::{BoundView, LimitsView};
use longshore_common::amount::{SlotKind, SlotName, format_milli, parse_milli};
use longshore_common::api::{QuotaEntry, QuotaLayer};

/// Flags of `quota`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// In this project; absent: the first one
    #[arg(long, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
}

/// Shows it.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let path = match &args.project {
        Some(project) => format!("/me/limits?project={}", encode(project)),
        None => "/me/limits".to_owned(),
    };
    print_limits(app, &path).await
}

/// Shows the limits behind an address.
pub(crate) async fn print_limits(app: &App, path: &str) -> Result<u8, Failure> {
    let item = app.client()?.get(path).await?;
    app.output()
        .object(&item, "user_name", || Ok(text(&typed(item.clone())?)))?;
    Ok(0)
}

/// Seconds as people say them.
fn seconds(s: i64) -> String {
    clock::span(s.saturating_mul(1000))
}

/// What a layer leaves of a slot or a count; more may be used than a limit that was lowered.
fn left(slot: &str, layer: &QuotaLayer) -> Option<String> {
    let limit = layer.limit.as_deref()?;
    let bytes = slot
        .parse::<SlotName>()
        .is_ok_and(|name| name.kind() == SlotKind::Bytes);
    if bytes {
        let (limit, used): (i64, i64) = (limit.parse().ok()?, layer.used.parse().ok()?);
        return Some(limit.saturating_sub(used).max(0).to_string());
    }
    let (limit, used) = (parse_milli(limit).ok()?, parse_milli(&layer.used).ok()?);
    Some(format_milli(limit.saturating_sub(used).max(0)))
}

/// A row for each layer that limits: whose use is counted, and what that layer leaves.
fn rows(entry: &QuotaEntry) -> Vec<Vec<String>> {
    let shown = |text: &str| amount(&entry.slot, text);
    let mut tightest = entry.tightest.as_ref();
    let mut rows = Vec::new();
    for layer in &entry.layers {
        let Some(limit) = &layer.limit else { continue };
        let left = left(&entry.slot, layer);
        // Keypair and user are limited by policies of one kind, so what is left decides too.
        let is_it = tightest.is_some_and(|t| t.kind == layer.kind && t.name == layer.name)
            && (left.is_none() || left == entry.remaining);
        if is_it {
            tightest = None;
        }
        let whose = match layer.layer.as_str() {
            "keypair" => "this keypair",
            "user" => "all your keypairs",
            "project" => "whole project",
            "domain" => "whole domain",
            other => other,
        };
        rows.push(vec![
            entry.slot.clone(),
            format!("{} {}", layer.kind.replace('-', " "), layer.name),
            whose.to_owned(),
            shown(&layer.used),
            shown(limit),
            left.as_deref().map(shown).unwrap_or_default(),
            if is_it { "tightest" } else { "" }.to_owned(),
        ]);
    }
    if rows.is_empty() {
        let mut row = vec![String::new(); 7];
        row[0].clone_from(&entry.slot);
        "no limit".clone_into(&mut row[1]);
        row[3] = shown(&entry.used);
        rows.push(row);
    }
    rows
}

fn text(view: &LimitsView) -> String {
    let mut table = Table::new(&["", "LAYER", "COUNTS", "USED", "LIMIT", "LEFT", ""]);
    for row in view.entries.iter().flat_map(rows) {
        table.row(row);
    }
    let mut text = table.render(true, None);
    let (policy, lives) = (&view.policy, &view.lives);
    // What another policy than that of the keypair says is named.
    let by = |bound: &BoundView| match &bound.policy {
        Some(name) if *name != policy.name => format!(" (keypair policy {})", clean(name)),
        _ => String::new(),
    };
    let mut rules = Vec::new();
    if let Some(bound) = &lives.lifetime_s {
        let most = seconds(bound.value);
        rules.push(format!("longest lifetime {most}{}", by(bound)));
    }
    if let Some(bound) = &lives.idle_timeout_s {
        rules.push(format!("idle stop after {}", seconds(bound.value)));
    }
    if lives.lifetime_s.is_some() && lives.extension_count.value > 0 {
        let (count, step) = (lives.extension_count.value, lives.extension_s.value);
        rules.push(format!("{count} extensions of {}", seconds(step)));
    }
    if let Some(bound) = &lives.total_lifetime_s {
        rules.push(format!("{} with all extensions", seconds(bound.value)));
    }
    if let Some(n) = policy.max_priority {
        rules.push(format!("priority up to {n}"));
    }
    if !rules.is_empty() {
        text.push_str(&format!("{}\n", rules.join("; ")));
    }
    let project = view
        .project_name
        .as_ref()
        .map(|p| format!(", project {}", clean(p)))
        .unwrap_or_default();
    text.push_str(&format!(
        "keypair {} with policy {}{project}, domain {}\n",
        clean(&view.access_key),
        clean(&policy.name),
        clean(&view.domain_name)
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_screen() {
        let view: LimitsView = serde_json::from_value(json!({
            "user_name": "alice", "access_key": "LSX", "domain_name": "default", "project_name": "vision",
            "entries": [
                { "slot": "cuda.device", "used": "2", "limit": "16", "remaining": "1",
                  "tightest": { "kind": "project", "name": "vision" },
                  "layers": [
                    { "kind": "keypair-policy", "layer": "keypair", "name": "student", "limit": "4", "used": "1" },
                    { "kind": "keypair-policy", "layer": "user", "name": "student", "limit": "4", "used": "2" },
                    { "kind": "project", "layer": "project", "name": "vision", "limit": "16", "used": "15" },
                    { "kind": "domain", "layer": "domain", "name": "default", "used": "40" }] },
                { "slot": "mem", "used": "1073741824", "layers": [] },
                { "slot": "sessions", "used": "3", "limit": "2", "remaining": "0",
                  "tightest": { "kind": "keypair-policy", "name": "student" },
                  "layers": [
                    { "kind": "keypair-policy", "layer": "keypair", "name": "student", "limit": "2", "used": "1" },
                    { "kind": "keypair-policy", "layer": "user", "name": "student", "limit": "2", "used": "3" }] } ],
            "lives": { "lifetime_s": { "value": 43200, "policy": "main" },
                "extension_count": { "value": 3 }, "extension_s": { "value": 14400, "policy": "student" },
                "idle_timeout_s": { "value": 3600, "policy": "student" } },
            "policy": { "id": "pol_x", "version": 1, "name": "student", "description": "", "total_slots": {},
                "default_for_unspecified": "unlimited", "lifetime_base": "created", "root_in_container": false,
                "max_session_lifetime_s": 86400, "used_by": { "active": 1, "inactive": 0 },
                "created_at": "2026-11-20T21:05:03Z", "updated_at": "2026-11-20T21:05:03Z" }
        }))
        .unwrap();
        assert_eq!(
            text(&view),
            "             LAYER                   COUNTS             USED  LIMIT  LEFT\n\
             cuda.device  keypair policy student  this keypair       1     4      3\n\
             cuda.device  keypair policy student  all your keypairs  2     4      2\n\
             cuda.device  project vision          whole project      15    16     1     tightest\n\
             mem          no limit                                   1 GB\n\
             sessions     keypair policy student  this keypair       1     2      1\n\
             sessions     keypair policy student  all your keypairs  3     2      0     tightest\n\
             longest lifetime 12h (keypair policy main); idle stop after 1h; 3 extensions of 4h\n\
             keypair LSX with policy student, project vision, domain default\n"
        );
    }
}
