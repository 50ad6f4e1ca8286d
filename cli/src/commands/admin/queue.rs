//! `admin queue …`

use super::{Kind, Write, ls, object, send, show};
use crate::app::App;
use crate::error::Failure;
use reqwest::Method;
use serde_json::json;

const QUEUE: Kind = Kind {
    path: "/queues",
    what: "queue",
    key: "name",
    slots: "slots",
    columns: &[
        ("NAME", "name"),
        ("POLICY", "policy"),
        ("PROFILE", "profile"),
        ("SLOTS", "slots"),
        ("IN USE", "in_use"),
        ("RESERVED", "reserved"),
        ("LIMIT", "limit"),
        ("PENDING", "pending"),
        ("RUNNING", "running"),
        ("POOLS", "pools"),
    ],
};

/// What can be done with queues.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them
    Ls,
    /// Show one
    Show {
        /// Its name
        name: String,
    },
    /// Give one another name
    Rename {
        /// Its name
        name: String,
        /// The new one
        to: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls => ls(app, &QUEUE, "").await,
        Verb::Show { name } => show(app, &QUEUE, &name).await,
        Verb::Rename { name, to } => {
            let client = app.client()?;
            let body = json!({ "name": to });
            let path = QUEUE.of(&name);
            let what = format!("queue {name} is called {to}");
            let write = Write::new(Method::PATCH, &path, what).body(&body);
            object(app, "name", &send(app, &client, write).await?)?;
            Ok(0)
        }
    }
}
