//! `admin key …`: keypairs.

use super::{Kind, Write, edit, ls, object, put_texts, secret, send};
use crate::app::App;
use crate::client::encode;
use crate::error::Failure;
use reqwest::Method;
use serde_json::{Value, json};

pub(super) const KEYPAIR: Kind = Kind {
    path: "/keypairs",
    what: "keypair",
    key: "access_key",
    slots: "slots",
    columns: &[
        ("ACCESS KEY", "access_key"),
        ("USER", "user_name"),
        ("STATE", "state"),
        ("MAIN", "main"),
        ("POLICY", "policy"),
    ],
};

/// What can be done with keypairs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them
    Ls {
        /// Only of this person
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Make one; its secret is shown once
    Create {
        /// Whose; absent: one's own
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Its policy; absent: that of the main keypair
        #[arg(long, value_name = "POLICY")]
        policy: Option<String>,
    },
    /// Give one another policy
    Policy {
        /// Access key
        key: String,
        /// The policy
        policy: String,
    },
    /// Let its policy limit the person as a whole
    Main {
        /// Access key
        key: String,
    },
    /// Switch one on
    Activate {
        /// Access key
        key: String,
    },
    /// Switch one off
    Deactivate {
        /// Access key
        key: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    let client = app.client()?;
    match verb {
        Verb::Ls { user } => {
            let query = user.map_or_else(String::new, |u| format!("?user={}", encode(&u)));
            return ls(app, &KEYPAIR, &query).await;
        }
        Verb::Create { user, policy } => {
            let mut body = json!({});
            put_texts(&mut body, [("user", user), ("policy", policy)]);
            let write = Write::new(Method::POST, KEYPAIR.path, "a keypair is created");
            let item = send(app, &client, write.body(&body)).await?;
            secret(app, &item)?;
        }
        Verb::Policy { key, policy } => {
            return edit(app, &KEYPAIR, &key, Some(json!({ "policy": policy }))).await;
        }
        Verb::Main { key } => {
            let present = client.get(&KEYPAIR.of(&key)).await?;
            let user = present["user"].as_str().unwrap_or_default().to_owned();
            let path = format!("/users/{}/main-keypair", encode(&user));
            let body = json!({ "access_key": key });
            let what = format!("{key} is the main keypair of its user");
            let write = Write::new(Method::PUT, &path, what).body(&body);
            object(app, "username", &send(app, &client, write).await?)?;
        }
        Verb::Activate { key } => verb_of(app, &key, "activate").await?,
        Verb::Deactivate { key } => verb_of(app, &key, "deactivate").await?,
    }
    Ok(0)
}

async fn verb_of(app: &App, key: &str, verb: &str) -> Result<(), Failure> {
    let client = app.client()?;
    let path = format!("{}/{verb}", KEYPAIR.of(key));
    let body: Value = json!({});
    let write = Write::new(Method::POST, &path, format!("keypair {key} is {verb}d"));
    object(
        app,
        KEYPAIR.key,
        &send(app, &client, write.body(&body)).await?,
    )
}
