//! `quota`: what one may use, and what is used.

use crate::app::App;
use crate::client::{encode, typed};
use crate::clock;
use crate::error::Failure;
use crate::output::{Table, amount, clean};
use longshore_common::admin::LimitsView;

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

fn text(view: &LimitsView) -> String {
    let mut table = Table::new(&["", "USED", "LIMIT", "LEFT", "TIGHTEST LAYER"]);
    for entry in &view.entries {
        let shown = |text: &Option<String>| {
            text.as_deref()
                .map(|t| amount(&entry.slot, t))
                .unwrap_or_default()
        };
        let tightest = entry.tightest.as_ref();
        table.row(vec![
            entry.slot.clone(),
            amount(&entry.slot, &entry.used),
            shown(&entry.limit),
            shown(&entry.remaining),
            tightest.map_or_else(
                || "no limit".to_owned(),
                |t| format!("{} {}", t.kind.replace('-', " "), t.name),
            ),
        ]);
        // A project's or domain's use is of everybody in it: shown where it is limited.
        for layer in entry.layers.iter().filter(|l| l.limit.is_some()) {
            let others = matches!(layer.layer.as_str(), "project" | "domain");
            if others {
                table.row(vec![
                    format!("{}, {}", entry.slot, layer.layer),
                    amount(&entry.slot, &layer.used),
                    shown(&layer.limit),
                    String::new(),
                    format!("{} {}", layer.kind.replace('-', " "), layer.name),
                ]);
            }
        }
    }
    let mut text = table.render(true, None);
    let policy = &view.policy;
    let mut rules = Vec::new();
    if let Some(s) = policy.max_session_lifetime_s {
        rules.push(format!("longest lifetime {}", seconds(s)));
    }
    if let Some(s) = policy.idle_timeout_s {
        rules.push(format!("idle stop after {}", seconds(s)));
    }
    if let (Some(n), Some(s)) = (policy.extension_max_count, policy.extension_max_s) {
        rules.push(format!("{n} extensions of {}", seconds(s)));
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
                { "slot": "cuda.device", "used": "2", "limit": "2", "remaining": "0",
                  "tightest": { "kind": "keypair-policy", "name": "student" },
                  "layers": [{ "kind": "project", "layer": "project", "name": "vision", "limit": "16", "used": "6" }] },
                { "slot": "mem", "used": "1073741824", "layers": [] } ],
            "policy": { "id": "pol_x", "version": 1, "name": "student", "description": "", "total_slots": {},
                "default_for_unspecified": "unlimited", "lifetime_base": "created", "root_in_container": false,
                "max_session_lifetime_s": 86400, "used_by": { "active": 1, "inactive": 0 },
                "created_at": "2026-11-20T21:05:03Z", "updated_at": "2026-11-20T21:05:03Z" }
        }))
        .unwrap();
        assert_eq!(
            text(&view),
            "                      USED  LIMIT  LEFT  TIGHTEST LAYER\n\
             cuda.device           2     2      0     keypair policy student\n\
             cuda.device, project  6     16           project vision\n\
             mem                   1 GB               no limit\n\
             longest lifetime 1d\n\
             keypair LSX with policy student, project vision, domain default\n"
        );
    }
}
