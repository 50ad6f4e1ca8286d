//! `admin key …`: keypairs of everybody.

use super::user::{line, query};
use super::{Kind, Write, edit, ls, object, put_texts, rm, secret, send, send_asked, show};
use crate::app::App;
use crate::client::encode;
use crate::error::Failure;
use crate::values;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Keypairs, as they are listed.
pub(crate) const KEYPAIR: Kind = Kind {
    path: "/keypairs",
    what: "keypair",
    key: "access_key",
    slots: "slots",
    columns: &[
        ("ACCESS KEY", "access_key"),
        ("USER", "user_name"),
        ("LABEL", "label"),
        ("STATE", "state"),
        ("MAIN", "main"),
        ("POLICY", "policy"),
        ("PROJECT", "project_name"),
        ("LAST USED", "last_used_at"),
    ],
};

/// Which keypairs are listed.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Filters {
    /// active (default), inactive or revoked
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<String>,
    /// Part of the label
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// Only those that are good for this project alone
    #[arg(long, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// Only with this policy
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<String>,
}

impl Filters {
    /// As parameters; `user` besides.
    pub(crate) fn query(&self, user: Option<&String>) -> String {
        let given = [
            ("user", user),
            ("state", self.state.as_ref()),
            ("label", self.label.as_ref()),
            ("project", self.project.as_ref()),
            ("policy", self.policy.as_ref()),
        ];
        let terms = given.into_iter();
        let terms: Vec<String> = terms
            .filter_map(|(name, value)| Some(format!("{name}={}", encode(value?))))
            .collect();
        query(&terms)
    }
}

/// What everybody may say of a new keypair.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Settings {
    /// For people
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// The one project it is good for
    #[arg(long, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// Until when it is good: 2026-12-24T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_at: Option<String>,
}

impl Settings {
    /// As a body.
    pub(crate) fn body(self) -> Value {
        let mut body = json!({});
        let texts = [
            ("label", self.label),
            ("project", self.project),
            ("expires_at", self.expires_at),
        ];
        put_texts(&mut body, texts);
        body
    }
}

/// What can be done with keypairs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them, active ones if nothing is said
    Ls {
        /// Only of this person
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        #[command(flatten)]
        filters: Filters,
    },
    /// Show one
    Show {
        /// Access key
        key: String,
    },
    /// Make one; its secret is shown once
    Create {
        /// Whose; absent: one's own
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Its policy; absent: that of the main keypair
        #[arg(long, value_name = "POLICY")]
        policy: Option<String>,
        /// Requests in 900 s; absent: as the main keypair
        #[arg(long, value_name = "N")]
        rate_limit: Option<u32>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Take one over from elsewhere; its secret is read from standard input
    Import {
        /// Whose
        user: String,
        /// Access key
        key: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Give one a label
    Label {
        /// Access key
        key: String,
        /// For people; "" takes it away
        label: String,
    },
    /// Give one another policy
    Policy {
        /// Access key
        key: String,
        /// The policy
        policy: String,
    },
    /// Say how many requests one may make in 900 s
    RateLimit {
        /// Access key
        key: String,
        /// How many; absent: as the settings say
        requests: Option<u32>,
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
    /// Give one a new secret, shown once
    Rotate(Rotate),
    /// Make one open nothing ever again
    Revoke {
        /// Access key
        key: String,
    },
    /// Delete one that is switched off and owns no live session
    Rm {
        /// Access key
        key: String,
    },
}

/// A new secret.
#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// Access key
    pub(crate) key: String,
    /// How long the old secret stays good, at most 24h: 10m
    #[arg(long, value_parser = values::duration, value_name = "TIME")]
    pub(crate) overlap: Option<Duration>,
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls { user, filters } => {
            return ls(app, &KEYPAIR, &filters.query(user.as_ref())).await;
        }
        Verb::Show { key } => return show(app, &KEYPAIR, &key).await,
        Verb::Create {
            user,
            policy,
            rate_limit,
            settings,
        } => {
            let mut body = settings.body();
            put_texts(&mut body, [("user", user), ("policy", policy)]);
            if let Some(requests) = rate_limit {
                body["rate_limit"] = json!(requests);
            }
            create(app, &body).await?;
        }
        Verb::Import {
            user,
            key,
            settings,
        } => {
            let mut body = settings.body();
            let texts = [
                ("user", Some(user)),
                ("access_key", Some(key)),
                ("secret_key", Some(line()?)),
            ];
            put_texts(&mut body, texts);
            create(app, &body).await?;
        }
        Verb::Label { key, label } => {
            return edit(app, &KEYPAIR, &key, Some(json!({ "label": label }))).await;
        }
        Verb::Policy { key, policy } => {
            return edit(app, &KEYPAIR, &key, Some(json!({ "policy": policy }))).await;
        }
        Verb::RateLimit { key, requests } => {
            return edit(app, &KEYPAIR, &key, Some(json!({ "rate_limit": requests }))).await;
        }
        Verb::Main { key } => {
            let client = app.client()?;
            let present = client.get(&KEYPAIR.of(&key)).await?;
            let user = present["user"].as_str().unwrap_or_default().to_owned();
            let path = format!("/users/{}/main-keypair", encode(&user));
            let body = json!({ "access_key": key });
            let what = format!("{key} is the main keypair of its user");
            let write = Write::new(Method::PUT, &path, what).body(&body);
            object(app, "username", &send(app, &client, write).await?)?;
        }
        Verb::Activate { key } => act(app, &key, "activate").await?,
        Verb::Deactivate { key } => act(app, &key, "deactivate").await?,
        Verb::Rotate(order) => rotate(app, order).await?,
        Verb::Revoke { key } => act(app, &key, "revoke").await?,
        Verb::Rm { key } => return rm(app, &KEYPAIR, &key, "").await,
    }
    Ok(0)
}

/// Makes one and shows its secret.
pub(crate) async fn create(app: &App, body: &Value) -> Result<(), Failure> {
    let client = app.client()?;
    let write = Write::new(Method::POST, KEYPAIR.path, "a keypair is created");
    let item = send(app, &client, write.body(body)).await?;
    match item.get("secret_key") {
        Some(_) => secret(app, &item),
        None => object(app, KEYPAIR.key, &item),
    }
}

/// Switches one on or off, or makes it open nothing ever again, once somebody said so.
pub(crate) async fn act(app: &App, key: &str, verb: &str) -> Result<(), Failure> {
    let client = app.client()?;
    let path = format!("{}/{verb}", KEYPAIR.of(key));
    let body: Value = json!({});
    let write = Write::new(Method::POST, &path, format!("keypair {key} is {verb}d"));
    let write = write.body(&body);
    let item = match verb {
        "revoke" => send_asked(app, &client, write).await?,
        _ => send(app, &client, write).await?,
    };
    object(app, KEYPAIR.key, &item)
}

/// Gives one a new secret and shows it.
pub(crate) async fn rotate(app: &App, order: Rotate) -> Result<(), Failure> {
    let key = &order.key;
    let overlap = order.overlap.map_or(0, |time| time.as_secs());
    let client = app.client()?;
    let path = format!("{}/rotate", KEYPAIR.of(key));
    let body = json!({ "overlap_s": overlap });
    let what = format!("keypair {key} has a new secret");
    let write = Write::new(Method::POST, &path, what).body(&body);
    secret(app, &send(app, &client, write).await?)
}
