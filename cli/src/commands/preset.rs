//! `preset ls`: amounts under a name, and which could start now.

use crate::app::App;
use crate::client::{encode, typed};
use crate::error::Failure;
use crate::output::{Table, amount, amounts};
use longshore_common::admin::OfferedPreset;
use serde_json::Value;

/// What can be done with presets.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List those that could start now; --all: the others too, with the reason
    Ls {
        /// In this resource group; absent: the default one
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// In this project; absent: the first one
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// Those that could not start too
        #[arg(short, long)]
        all: bool,
    },
}

/// Lists them.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    let Verb::Ls {
        group,
        project,
        all,
    } = verb;
    let group = group.or(app.contexts()?.client.group);
    let mut terms = Vec::new();
    for (name, value) in [("group", group), ("project", project)] {
        if let Some(value) = value {
            terms.push(format!("{name}={}", encode(&value)));
        }
    }
    let path = format!("/presets/offered?{}", terms.join("&"));
    let answer = app.client()?.get(&path).await?;
    let mut items: Vec<Value> = answer["items"].as_array().cloned().unwrap_or_default();
    let hidden = items.len();
    items.retain(|item| all || item["offered"] == Value::Bool(true));
    let hidden = hidden - items.len();
    app.output().list(&items, "name", || table(&items))?;
    if hidden > 0 && !app.global.quiet && !app.output().is_json() {
        eprintln!("{hidden} more could not start now: longshore preset ls --all");
    }
    Ok(0)
}

fn table(items: &[Value]) -> Result<Table, Failure> {
    let mut table = Table::new(&["NAME", "ASKS", "SHM", "NOW", "WHY NOT"]);
    for item in items {
        let preset: OfferedPreset = typed(item.clone())?;
        let now = match (preset.offered, preset.never) {
            (true, _) => "yes",
            (false, true) => "never",
            (false, false) => "no",
        };
        table.row(vec![
            preset.name,
            amounts(&preset.slots),
            preset
                .shm
                .as_deref()
                .map(|shm| amount("mem", shm))
                .unwrap_or_default(),
            now.to_owned(),
            preset
                .blocked_by
                .first()
                .map(|b| b.text.clone())
                .unwrap_or_default(),
        ]);
    }
    Ok(table)
}
