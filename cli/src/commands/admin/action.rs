//! `admin action …`

use super::{Kind, list, object};
use crate::app::App;
use crate::client::encode;
use crate::error::Failure;
use longshore_common::api::RunAction;
use serde_json::Value;

const ACTIONS: Kind = Kind {
    path: "/actions",
    what: "action of this type",
    key: "name",
    slots: "",
    columns: &[("NAME", "name"), ("LEVEL", "level"), ("WHAT", "tooltip")],
};

/// What can be done with custom actions.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List those for objects of a type
    Ls {
        /// project, session, model, folder, agent or queue
        kind: String,
    },
    /// Have one called about an object
    Run {
        /// project, session, model, folder, agent or queue
        kind: String,
        /// Id or name of the object
        id: String,
        /// The name of the action
        name: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls { kind } => {
            let path = format!("{}?type={}", ACTIONS.path, encode(&kind));
            let told = app.client()?.get(&path).await?;
            let items = told.get("items").and_then(Value::as_array);
            list(app, &ACTIONS, items.map_or(&[], Vec::as_slice))
        }
        Verb::Run { kind, id, name } => {
            let order = RunAction { kind, id, name };
            let told = app.client()?.post("/actions/run", &order).await?;
            object(app, "status", &told)?;
            Ok(u8::from(told.get("ok") != Some(&Value::Bool(true))))
        }
    }
}
