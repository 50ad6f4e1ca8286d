//! `admin service-account …`

use super::super::vault::{self, File};
use super::{Kind, One, Placed, There, Write, ls, rm, say, secret, send, there};
use crate::app::App;
use crate::client::encode;
use crate::error::Failure;
use reqwest::Method;
use serde_json::{Value, json};

const ACCOUNT: Kind = Kind {
    path: "/service-accounts",
    what: "service account",
    key: "name",
    slots: "slots",
    columns: &[
        ("NAME", "name"),
        ("DOMAIN", "domain_name"),
        ("GROUPS", "groups"),
        ("KEYPAIRS", "credentials"),
        ("ACTS FOR USERS", "allow_impersonation"),
        ("LAST ACTIVE", "last_active_at"),
        ("ID", "id"),
    ],
};

/// What can be done with the keypairs of one.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Keys {
    /// List them
    Ls(One),
    /// Make a further one; its secret is shown once
    Create(One),
}

/// What can be done with service accounts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    #[command(flatten)]
    There(There),
    /// Make one with a first keypair, whose secret is shown once; without --domain in one's own
    Create {
        #[command(flatten)]
        placed: Placed,
        /// Projects; the first is that of sessions that name none
        #[arg(long, value_name = "PROJECT,PROJECT", value_delimiter = ',')]
        project: Vec<String>,
        /// It may act for users of its domain
        #[arg(long)]
        allow_impersonation: bool,
    },
    /// Delete one and revoke its keypairs
    Rm {
        /// Its name or id
        name: String,
        /// Let its sessions go on
        #[arg(long)]
        keep_sessions: bool,
    },
    /// Its keypairs
    #[command(subcommand)]
    Key(Keys),
    /// Its vault: what its own sessions get
    #[command(subcommand)]
    Vault(Vault),
}

/// What can be done with the vault of one.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Vault {
    /// Show it and its document; secrets are masks
    Show(One),
    /// Replace the document by a file (.toml, .yaml, .json or .conf), as it is
    Import {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        file: File,
    },
    /// Let it reach sessions that start from now on
    Enable {
        #[command(flatten)]
        one: One,
        /// Let no session start without it; =false lets them again
        #[arg(
            long,
            value_name = "BOOL",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "true"
        )]
        required: Option<bool>,
    },
    /// Let it reach no session
    Disable(One),
}

async fn of_vault(app: &App, verb: Vault) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = |one: &One| format!("{}/vault", ACCOUNT.of(&one.name));
    match verb {
        // Its secrets are for itself alone, by `vault`.
        Vault::Show(one) => vault::show(app, &client, &path(&one), false).await,
        Vault::Import { one, file } => vault::import(app, &client, &path(&one), &file).await,
        Vault::Enable { one, required } => {
            vault::switch(app, &client, &path(&one), &vault::enabling(required)).await
        }
        Vault::Disable(one) => {
            let body = json!({ "enabled": false });
            vault::switch(app, &client, &path(&one), &body).await
        }
    }
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::There(verb) => there(app, &ACCOUNT, verb).await,
        Verb::Create {
            placed,
            project,
            allow_impersonation,
        } => {
            let mut body = placed.body();
            if !project.is_empty() {
                body["projects"] = json!(project);
            }
            if allow_impersonation {
                body["allow_impersonation"] = json!(true);
            }
            let name = &body["name"].as_str().unwrap_or_default();
            let what = format!("service account {name} is created with a first keypair");
            made(app, ACCOUNT.path, &body, &what).await
        }
        Verb::Rm {
            name,
            keep_sessions,
        } => {
            let query = if keep_sessions { "?sessions=keep" } else { "" };
            rm(app, &ACCOUNT, &name, query).await
        }
        Verb::Vault(verb) => of_vault(app, verb).await,
        Verb::Key(Keys::Ls(one)) => {
            let query = format!("?user={}", encode(&one.name));
            ls(app, &super::key::KEYPAIR, &query).await
        }
        Verb::Key(Keys::Create(one)) => {
            let body = json!({ "user": one.name });
            let what = format!("a keypair of {} is created", one.name);
            made(app, super::key::KEYPAIR.path, &body, &what).await
        }
    }
}

/// Makes something with a secret, which is shown once.
async fn made(app: &App, path: &str, body: &Value, what: &str) -> Result<u8, Failure> {
    let client = app.client()?;
    let write = Write::new(Method::POST, path, what).body(body);
    let item = send(app, &client, write).await?;
    say(app, what);
    secret(app, &item)?;
    Ok(0)
}
