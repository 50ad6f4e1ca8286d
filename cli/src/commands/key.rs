//! `key …`: keypairs of one's own.

use super::admin::key::{self as all, Filters, KEYPAIR, Rotate, Settings};
use super::admin::{edit, ls};
use crate::app::App;
use crate::error::Failure;
use serde_json::json;

/// What can be done with them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them, active ones if nothing is said
    Ls(Filters),
    /// Make a further one; its secret is shown once
    Create(Settings),
    /// Give one a label
    Label {
        /// Access key
        key: String,
        /// For people; "" takes it away
        label: String,
    },
    /// Give one a new secret, shown once
    Rotate(Rotate),
    /// Switch one off; an administrator can switch it on again
    Deactivate {
        /// Access key
        key: String,
    },
    /// Make one open nothing ever again
    Revoke {
        /// Access key
        key: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls(filters) => {
            let me = app.client()?.get("/me").await?;
            let user = me["username"].as_str().map(str::to_owned);
            return ls(app, &KEYPAIR, &filters.query(user.as_ref())).await;
        }
        Verb::Create(settings) => all::create(app, &settings.body()).await?,
        Verb::Label { key, label } => {
            return edit(app, &KEYPAIR, &key, Some(json!({ "label": label }))).await;
        }
        Verb::Rotate(order) => all::rotate(app, order).await?,
        Verb::Deactivate { key } => all::act(app, &key, "deactivate").await?,
        Verb::Revoke { key } => all::revoke(app, &key).await?,
    }
    Ok(0)
}
