//! `admin config …`: the document of pools and queues, drafted and made live.

use super::pools::{DRAFT, change, only_written};
use super::{Write, effects, in_editor, object, read, request, say, send, tag};
use crate::app::App;
use crate::ask::confirm_if;
use crate::client::{Client, encode, typed};
use crate::clock;
use crate::error::{Failure, code};
use crate::output::{Table, clean, print};
use longshore_common::admin::{ConfigVerdict, ConfigVersionView, Impact};
use longshore_common::api::Session;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const VERSIONS: &str = "/resource-config/versions";

/// Of so many sessions it is told whose they are before they are cancelled: each is asked
/// for by itself, and nobody reads more lines than this.
const TOLD_IN_FULL: usize = 20;

/// What can be done with the document.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show what is live; --draft: what is being prepared
    Show {
        /// The draft
        #[arg(long)]
        draft: bool,
        /// A version that was live
        #[arg(long, value_name = "N", conflicts_with = "draft")]
        version: Option<u64>,
    },
    /// List the versions that were live
    Versions,
    /// Show in what the draft differs from what is live
    Diff,
    /// Change the draft in $EDITOR
    Edit,
    /// Replace the draft by a file, YAML or JSON; - reads standard input
    Load {
        /// The file
        #[arg(required_unless_present = "version")]
        file: Option<String>,
        /// Instead of a file, a version that was live
        #[arg(long, value_name = "N", conflicts_with = "file")]
        version: Option<u64>,
    },
    /// Say what is wrong with the draft and what provisioning it would do
    Validate,
    /// Make the draft live; says whom that touches and asks first
    Provision,
    /// Make the draft equal to what is live
    Reset,
    /// Serve queues
    On,
    /// Serve no queues; work stays waiting at its place
    Off,
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    let client = app.client()?;
    match verb {
        Verb::Show { draft, version } => {
            let path = match (draft, version) {
                (true, _) => DRAFT.to_owned(),
                (false, Some(version)) => format!("{VERSIONS}/{version}"),
                (false, None) => "/resource-config".to_owned(),
            };
            let item = client.get(&path).await?;
            app.output()
                .object(&item, "version", || Ok(format!("{item:#}\n")))?;
        }
        Verb::Diff => {
            let (mut live, mut draft) = (
                client.get("/resource-config").await?,
                client.get(DRAFT).await?,
            );
            only_written(&mut live);
            only_written(&mut draft);
            let mut lines = Vec::new();
            differences("", &live, &draft, &mut lines);
            if lines.is_empty() {
                say(app, "the draft is what is live");
            }
            print(&lines.iter().map(|l| format!("{l}\n")).collect::<String>())?;
        }
        Verb::Edit => {
            let saved = change(app, &client, "the draft is changed", |document| {
                let left = in_editor(document)?;
                let differs = left != *document;
                *document = left;
                Ok(differs)
            });
            if saved.await?.is_some() {
                say(app, "saved in the draft; longshore admin config validate");
            }
        }
        Verb::Versions => {
            let items = client.list(VERSIONS).await?;
            app.output().list(&items, "version", || versions(&items))?;
        }
        Verb::Load {
            version: Some(version),
            ..
        } => {
            let draft = tag(&client.get(DRAFT).await?);
            let path = format!("{DRAFT}/load");
            let body = json!({ "version": version });
            let what = format!("the draft is version {version}");
            let write = Write::new(Method::POST, &path, &what);
            send(app, &client, write.version(draft).body(&body)).await?;
            say(app, &format!("{what}; longshore admin config validate"));
        }
        Verb::Load {
            file,
            version: None,
        } => {
            // The line says that one of both is there.
            let file = file.unwrap_or_else(|| "-".to_owned());
            let wanted = read(&file)?;
            let what = format!("the draft is what {file} says");
            let saved = change(app, &client, &what, |document| {
                *document = wanted;
                Ok(true)
            });
            saved.await?;
            say(app, "saved in the draft; longshore admin config validate");
        }
        Verb::Validate => {
            let path = format!("{DRAFT}/validate");
            let body = json!({});
            let write = Write::new(Method::POST, &path, "the draft is looked at");
            // It changes nothing by itself, so there is nothing to rehearse.
            let answer = request(&client, &write.body(&body), false).await?;
            let verdict: ConfigVerdict = typed(answer.clone())?;
            if app.output().is_json() {
                app.output().value(&answer)?;
            } else {
                print(&verdict_text(&verdict, &would_happen(&verdict)))?;
            }
            return Ok(if verdict.valid { 0 } else { code::REFUSED });
        }
        Verb::Provision => {
            let answer = provision(app, &client).await?;
            let verdict: ConfigVerdict = typed(answer.clone())?;
            if app.output().is_json() {
                app.output().value(&answer)?;
            } else {
                // What a rehearsal would do was said already.
                let lines = match app.global.dry_run {
                    true => Vec::new(),
                    false => cancelled(&verdict),
                };
                print(&verdict_text(&verdict, &lines))?;
                if let Some(config) = &verdict.config {
                    say(app, &format!("version {} is live", config.version));
                }
            }
        }
        Verb::Reset => {
            let version = tag(&client.get(DRAFT).await?);
            let path = format!("{DRAFT}/reset");
            let body = json!({});
            let write = Write::new(Method::POST, &path, "the draft is what is live");
            send(app, &client, write.version(version).body(&body)).await?;
            say(app, "the draft is what is live");
        }
        Verb::On => switch(app, true).await?,
        Verb::Off => switch(app, false).await?,
    }
    Ok(0)
}

fn versions(items: &[Value]) -> Result<Table, Failure> {
    let mut table = Table::new(&["VERSION", "PROVISIONED", "BY"]);
    for item in items {
        let one: ConfigVersionView = typed(item.clone())?;
        let at = one.at.map_or_else(|| "-".to_owned(), clock::full);
        table.row(vec![one.version.to_string(), at, one.by]);
    }
    Ok(table)
}

async fn switch(app: &App, on: bool) -> Result<(), Failure> {
    let client = app.client()?;
    let path = "/resource-config/enabled";
    let body = json!({ "enabled": on });
    let text = match on {
        true => "queues are served",
        false => "queues are not served; what waits keeps its place",
    };
    let write = Write::new(Method::PUT, path, text).body(&body);
    let item = send(app, &client, write).await?;
    if app.output().is_json() {
        return object(app, "version", &item);
    }
    say(app, text);
    Ok(())
}

/// Makes the draft live. A rehearsal comes first and says which waiting sessions that
/// touches; a script needs `--yes` where some would be cancelled.
pub(super) async fn provision(app: &App, client: &Client) -> Result<Value, Failure> {
    let live = client.get("/resource-config").await?;
    // What is looked at must be what goes live.
    let draft = tag(&client.get(DRAFT).await?);
    let body = json!({ "expected_version": live["version"] });
    let path = "/resource-config/provision";
    let write = Write::new(Method::POST, path, "the draft becomes what is live");
    let write = write.body(&body).version(draft);
    if !app.global.dry_run {
        let verdict: ConfigVerdict = typed(request(client, &write, true).await?)?;
        let impact = verdict.impact.unwrap_or_default();
        let lost = lost(&impact);
        let mut touched = Vec::new();
        if !app.global.quiet || lost > 0 {
            let owners = owners(client, &impact).await;
            let owner = |id: &str| owners.get(id).cloned().unwrap_or_default();
            touched = effects(&impact, owner);
        }
        confirm_if(app, &question(lost), &touched, lost > 0)?;
    }
    send(app, client, write).await
}

/// How many waiting sessions would be cancelled.
fn lost(impact: &Impact) -> u64 {
    let counted = impact.counts.get("cancelled").copied().unwrap_or_default();
    let named = impact.sessions.iter().filter(|s| s.effect == "cancelled");
    counted.max(named.count() as u64)
}

fn question(lost: u64) -> String {
    match lost {
        0 => "The draft goes live; no waiting session is cancelled.".to_owned(),
        1 => "The draft goes live, and 1 waiting session is cancelled.".to_owned(),
        n => format!("The draft goes live, and {n} waiting sessions are cancelled."),
    }
}

/// Whose sessions would be touched, as far as they are told in full.
async fn owners(client: &Client, impact: &Impact) -> BTreeMap<String, String> {
    let mut owners = BTreeMap::new();
    let touched = impact.sessions.iter().filter(|s| s.effect != "kept");
    for session in touched.take(TOLD_IN_FULL) {
        // One that has ended meanwhile is told by its id alone.
        let path = format!("/sessions/{}", encode(&session.id));
        if let Ok(found) = client.get_as::<Session>(&path).await {
            owners.insert(session.id.clone(), owner(&found));
        }
    }
    owners
}

/// `: alice, queue Dev/4x, sweep`
fn owner(session: &Session) -> String {
    let queue = session.queue.as_ref().map(|queue| format!("queue {queue}"));
    let parts = [
        Some(session.owner_name.clone()),
        queue,
        session.name.clone(),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!(": {}", clean(&parts.join(", ")))
}

fn would_happen(verdict: &ConfigVerdict) -> Vec<String> {
    let impact = verdict.impact.as_ref();
    impact
        .map(|impact| effects(impact, |_| String::new()))
        .unwrap_or_default()
}

fn cancelled(verdict: &ConfigVerdict) -> Vec<String> {
    let ids = verdict.cancelled.iter();
    ids.map(|id| format!("{} was cancelled", clean(id)))
        .collect()
}

/// Every place where two documents differ.
pub(super) fn differences(at: &str, live: &Value, draft: &Value, lines: &mut Vec<String>) {
    match (live, draft) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let none = &Value::Null;
                differences(
                    &format!("{at}/{name}"),
                    a.get(name).unwrap_or(none),
                    b.get(name).unwrap_or(none),
                    lines,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.iter().chain(b).all(|v| v["name"].is_string()) => {
            let names =
                |list: &[Value]| -> Vec<Value> { list.iter().map(|v| v["name"].clone()).collect() };
            let (before, after) = (names(a), names(b));
            if before != after {
                lines.push(clean(&format!(
                    "{at}: {} -> {}",
                    json!(before),
                    json!(after)
                )));
            }
            for item in b {
                if let Some(old) = a.iter().find(|old| old["name"] == item["name"]) {
                    let name = item["name"].as_str().unwrap_or_default();
                    differences(&format!("{at}/{name}"), old, item, lines);
                }
            }
        }
        (a, b) if a != b => lines.push(clean(&format!("{at}: {a} -> {b}"))),
        _ => (),
    }
}

fn verdict_text(verdict: &ConfigVerdict, lines: &[String]) -> String {
    let mut text = match verdict.valid {
        true => "the draft can be provisioned\n".to_owned(),
        false => "the draft cannot be provisioned\n".to_owned(),
    };
    for finding in &verdict.findings {
        text.push_str(&format!(
            "  {}: {} ({})\n",
            clean(&finding.level),
            clean(&finding.message),
            clean(&finding.rule)
        ));
    }
    for line in lines {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provisioning_says_whom_it_touches() {
        let verdict: ConfigVerdict = serde_json::from_value(json!({
            "valid": true,
            "findings": [{ "level": "warning", "rule": "unused-profile", "pointer": "/profiles/0",
                "message": "Nobody uses 4x." }],
            "impact": { "counts": { "cancelled": 3, "kept": 4 }, "sessions": [
                { "id": "s-7", "effect": "cancelled" }, { "id": "s-8", "effect": "starts" },
                { "id": "s-9", "effect": "kept" }] },
            "cancelled": ["s-7"],
        }))
        .unwrap();
        let impact = verdict.impact.clone().unwrap();
        assert_eq!(lost(&impact), 3);
        assert_eq!(
            question(3),
            "The draft goes live, and 3 waiting sessions are cancelled."
        );
        let session = crate::describe::tests::session(
            json!({ "owner_name": "alice", "queue": "Dev/4x", "name": "sweep" }),
        );
        let owner = |id: &str| match id {
            "s-7" => owner(&session),
            _ => String::new(),
        };
        assert_eq!(
            effects(&impact, owner),
            [
                "s-7 would be cancelled: alice, queue Dev/4x, sweep",
                "s-8 would start",
                "2 more would be cancelled"
            ]
        );
        assert_eq!(
            verdict_text(&verdict, &cancelled(&verdict)),
            "the draft can be provisioned\n  warning: Nobody uses 4x. (unused-profile)\n  s-7 was cancelled\n"
        );
    }

    #[test]
    fn documents_differ_by_name() {
        let live = json!({ "pools": [{ "name": "A", "count": "8" }, { "name": "B" }] });
        let draft = json!({ "pools": [{ "name": "B" }, { "name": "A", "count": "4" }] });
        let mut lines = Vec::new();
        differences("", &live, &draft, &mut lines);
        assert_eq!(
            lines,
            [
                "/pools: [\"A\",\"B\"] -> [\"B\",\"A\"]",
                "/pools/A/count: \"8\" -> \"4\""
            ]
        );
    }
}
