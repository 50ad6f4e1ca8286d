//! `admin unclaimed …`

use super::{Kind, ls};
use crate::app::App;
use crate::error::Failure;
use crate::output::clean;
use crate::values;
use longshore_common::api::{StopUnclaimed, Unclaimed};
use std::time::Duration;

const UNCLAIMED: Kind = Kind {
    path: "/unclaimed",
    what: "unclaimed container",
    key: "id",
    slots: "",
    columns: &[
        ("ID", "id"),
        ("NODE", "agent_name"),
        ("STATE", "state"),
        ("DEVICES", "devices"),
        ("STOPPING", "stopping"),
        ("KEPT", "kept"),
        ("STOPS", "stops_at"),
        ("WHY", "why"),
        ("CONTAINER", "container_name"),
        ("STARTED", "started_at"),
        ("SINCE", "since"),
    ],
};

/// What can be done with containers that no order names.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them, with what they hold
    Ls,
    /// End one; what it holds is free once its node says that it is gone
    Stop {
        /// Its id, as `ls` shows it
        id: String,
        /// Time between the stop signal and the kill
        #[arg(long, value_name = "TIME", value_parser = values::duration)]
        grace: Option<Duration>,
    },
    /// Let one stay: its session is made again of its record where that is possible, else it is
    /// left alone and not stopped by itself
    Adopt {
        /// Its id, as `ls` shows it
        id: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls => ls(app, &UNCLAIMED, "").await,
        Verb::Stop { id, grace } => stop(app, &id, grace).await,
        Verb::Adopt { id } => adopt(app, &id).await,
    }
}

async fn adopt(app: &App, id: &str) -> Result<u8, Failure> {
    let path = format!("/unclaimed/{}/adopt", crate::client::encode(id));
    let value = app.client()?.post(&path, &serde_json::json!({})).await?;
    if app.output().is_json() {
        app.output().value(&value)?;
    } else if !app.global.quiet {
        let told: Unclaimed = crate::client::typed(value)?;
        let what = match told.adopted {
            true => format!("adopted: session {} runs on", clean(&told.session)),
            false => "kept on".to_owned(),
        };
        println!("{}  {what} {}", clean(&told.id), clean(&told.agent_name));
    }
    Ok(0)
}

async fn stop(app: &App, id: &str, grace: Option<Duration>) -> Result<u8, Failure> {
    let seconds = |grace: Duration| i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
    let body = StopUnclaimed {
        grace_s: grace.map(seconds),
    };
    let path = format!("/unclaimed/{}/stop", crate::client::encode(id));
    let value = app.client()?.post(&path, &body).await?;
    if app.output().is_json() {
        app.output().value(&value)?;
    } else if !app.global.quiet {
        let told: Unclaimed = crate::client::typed(value)?;
        println!(
            "{}  stopping on {}",
            clean(&told.id),
            clean(&told.agent_name)
        );
    }
    Ok(0)
}
