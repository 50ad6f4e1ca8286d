//! `explain`: why a session is where it is.

use super::check;
use super::show::OneSession;
use crate::app::App;
use crate::client::typed;
use crate::clock;
use crate::error::Failure;
use crate::output::{amount, clean};
use longshore_common::api::{Explanation, QuotaEntry};

/// Explains it.
pub(crate) async fn run(app: &App, args: OneSession) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = client.session_path(&args.id).await?;
    let item = client.get(&format!("{path}/explain")).await?;
    app.output()
        .object(&item, "id", || Ok(text(&typed(item.clone())?)))?;
    Ok(0)
}

pub(super) fn text(explanation: &Explanation) -> String {
    let mut text = clean(&explanation.text);
    let stage = explanation.blocked_by.first().map(|b| &b.stage);
    if let Some(class) = explanation.class.as_ref().or(stage) {
        text.push_str(&format!("          class: {}", clean(class)));
    }
    text.push('\n');
    if let Some(position) = explanation.position {
        text.push_str(&format!("  place #{position} in the queue\n"));
    }
    for blocker in &explanation.blocked_by {
        let since = blocker.since.map_or_else(String::new, |at| {
            format!(", since {} ({})", clock::short(at), clock::ago(at))
        });
        text.push_str(&format!(
            "  {}: {}{since}\n",
            clean(&blocker.rule),
            clean(&blocker.text)
        ));
    }
    text.push_str(&check::agents(&explanation.agents));
    let limits: Vec<String> = explanation.limits.iter().filter_map(limit).collect();
    if !limits.is_empty() {
        text.push_str(&format!("  Limits: {}\n", limits.join(" | ")));
    }
    if let (Some(retries), Some(skip)) = (explanation.retries, explanation.retries_to_skip)
        // Only who waits for room holds others up, or has done so.
        && (retries > 0 || explanation.class.as_deref() == Some("capacity"))
    {
        let others = match skip {
            0 => "sessions behind it never pass it".to_owned(),
            n if retries >= n => "sessions behind it may start".to_owned(),
            n => format!("sessions behind it may start after {}", n - retries),
        };
        text.push_str(&format!("  Retries {retries} of {skip}: {others}\n"));
    }
    if let Some(nearest) = &explanation.nearest {
        text.push_str(&format!(
            "  Could start now: {}\n",
            check::nearest_text(nearest)
        ));
    }
    text
}

/// One slot with its layers that limit it: `cuda.device keypair 0 of 8, project 6 of 16`.
fn limit(entry: &QuotaEntry) -> Option<String> {
    let layers: Vec<String> = entry
        .layers
        .iter()
        .filter_map(|layer| {
            let limit = layer.limit.as_ref()?;
            Some(format!(
                "{} {} of {}",
                clean(&layer.layer),
                amount(&entry.slot, &layer.used),
                amount(&entry.slot, limit)
            ))
        })
        .collect();
    (!layers.is_empty()).then(|| format!("{} {}", clean(&entry.slot), layers.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tries_are_told_of_who_holds_others_up() {
        let told = |class: Option<&str>, retries: u32| {
            let explanation: Explanation = serde_json::from_value(json!({
                "id": "s-40", "state": "PENDING", "text": "s-40 waits.", "position": 1,
                "class": class, "retries": retries, "retries_to_skip": 3
            }))
            .unwrap();
            text(&explanation).contains(&format!("Retries {retries} of 3"))
        };
        for class in ["not-ready", "limit", "order", "never"] {
            assert!(!told(Some(class), 0), "{class} blocks nobody");
            assert!(told(Some(class), 2), "{class} has been tried");
        }
        assert!(told(Some("capacity"), 0));
        assert!(!told(None, 0), "no pass has looked at it yet");
    }

    #[test]
    fn a_screen() {
        let explanation: Explanation = serde_json::from_value(json!({
            "id": "s-40", "state": "PENDING", "text": "s-40 waits for cuda.device 4.", "position": 1,
            "class": "capacity", "retries": 3, "retries_to_skip": 3,
            "blocked_by": [{"stage": "capacity", "rule": "free", "text": "no agent has 4 free",
                "since": "2026-01-02T03:04:05Z"}],
            "limits": [{"slot": "cuda.device", "used": "0", "layers": [
                {"kind": "keypair-policy", "name": "x", "layer": "keypair", "limit": "8", "used": "0"},
                {"kind": "domain", "name": "default", "layer": "domain", "used": "0"}]}],
            "nearest": {"group": "default", "slots": {"cuda.device": "2"}},
            "agents": [{"agent_name": "gpu02", "verdict": "short", "text": "2 of 8 free"},
                       {"agent_name": "g4", "verdict": "unschedulable", "text": ""}]
        }))
        .unwrap();
        let at = explanation.blocked_by[0].since.unwrap();
        let told = text(&explanation);
        let since = format!(", since {} (", clock::short(at));
        let (before, rest) = told.split_once(&since).unwrap();
        let (_ago, after) = rest.split_once(")\n").unwrap();
        assert_eq!(
            format!("{before}\n{after}"),
            "s-40 waits for cuda.device 4.          class: capacity\n\
             \x20 place #1 in the queue\n  free: no agent has 4 free\n\
             \x20 AGENT  VERDICT\n  gpu02  2 of 8 free\n  g4     unschedulable\n\
             \x20 Limits: cuda.device keypair 0 of 8\n\
             \x20 Retries 3 of 3: sessions behind it may start\n\
             \x20 Could start now: cuda.device 2 in group default\n"
        );
    }
}
