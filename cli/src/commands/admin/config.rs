//! `admin config …`: the document of pools and queues, drafted and made live.

use super::pools::{DRAFT, change, only_written};
use super::{in_editor, object, read, say, send, tag};
use crate::app::App;
use crate::client::typed;
use crate::error::{Failure, code};
use crate::output::{self, clean, print};
use longshore_common::admin::ConfigVerdict;
use reqwest::Method;
use serde_json::{Value, json};

/// What can be done with the document.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show what is live; --draft: what is being prepared
    Show {
        /// The draft
        #[arg(long)]
        draft: bool,
    },
    /// Show in what the draft differs from what is live
    Diff,
    /// Change the draft in $EDITOR
    Edit,
    /// Replace the draft by a file, YAML or JSON; - reads standard input
    Load {
        /// The file
        file: String,
    },
    /// Say what is wrong with the draft and what provisioning it would do
    Validate,
    /// Make the draft live
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
        Verb::Show { draft } => {
            let path = if draft { DRAFT } else { "/resource-config" };
            let item = client.get(path).await?;
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
            let saved = change(app, &client, |document| {
                *document = in_editor(document)?;
                Ok(())
            });
            saved.await?;
            say(app, "saved in the draft; longshore admin config validate");
        }
        Verb::Load { file } => {
            let wanted = read(&file)?;
            let saved = change(app, &client, |document| {
                *document = wanted;
                Ok(())
            });
            saved.await?;
            say(app, "saved in the draft; longshore admin config validate");
        }
        Verb::Validate => {
            let path = format!("{DRAFT}/validate");
            let answer = send(app, &client, Method::POST, &path, None, Some(&json!({}))).await?;
            let verdict: ConfigVerdict = typed(answer.clone())?;
            if app.output().is_json() {
                output::print_json(&answer)?;
            } else {
                print(&verdict_text(&verdict))?;
            }
            return Ok(if verdict.valid { 0 } else { code::REFUSED });
        }
        Verb::Provision => {
            let live = client.get("/resource-config").await?;
            let body = json!({ "expected_version": live["version"] });
            let path = "/resource-config/provision";
            let answer = send(app, &client, Method::POST, path, None, Some(&body)).await?;
            let verdict: ConfigVerdict = typed(answer.clone())?;
            if app.output().is_json() {
                output::print_json(&answer)?;
            } else {
                print(&verdict_text(&verdict))?;
                if let Some(config) = &verdict.config {
                    say(app, &format!("version {} is live", config.version));
                }
            }
        }
        Verb::Reset => {
            let version = tag(&client.get(DRAFT).await?);
            let path = format!("{DRAFT}/reset");
            let body = json!({});
            send(
                app,
                &client,
                Method::POST,
                &path,
                version.as_deref(),
                Some(&body),
            )
            .await?;
            say(app, "the draft is what is live");
        }
        Verb::On => switch(app, true).await?,
        Verb::Off => switch(app, false).await?,
    }
    Ok(0)
}

async fn switch(app: &App, on: bool) -> Result<(), Failure> {
    let client = app.client()?;
    let path = "/resource-config/enabled";
    let body = json!({ "enabled": on });
    let item = send(app, &client, Method::PUT, path, None, Some(&body)).await?;
    if app.output().is_json() {
        return object(app, "version", &item);
    }
    say(
        app,
        if on {
            "queues are served"
        } else {
            "queues are not served; what waits keeps its place"
        },
    );
    Ok(())
}

/// Every place where two documents differ.
fn differences(at: &str, live: &Value, draft: &Value, lines: &mut Vec<String>) {
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

fn verdict_text(verdict: &ConfigVerdict) -> String {
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
    if let Some(impact) = &verdict.impact {
        for session in impact.sessions.iter().filter(|s| s.effect != "kept") {
            text.push_str(&format!("  {} {}\n", session.id, clean(&session.effect)));
        }
    }
    for id in &verdict.cancelled {
        text.push_str(&format!("  {} was cancelled\n", clean(id)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
