//! `admin vault …`: vaults for groups of users.

use super::super::vault::{self, File};
use super::{Kind, Members, One, Write, edit, ls, rm, say, send};
use crate::app::App;
use crate::client::{Call, Client, encode};
use crate::error::Failure;
use crate::output::print;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

const VAULT: Kind = Kind {
    path: "/vaults",
    what: "vault",
    key: "name",
    slots: "slots",
    columns: &[
        ("NAME", "name"),
        ("ON", "enabled"),
        ("GROUPS", "group_names"),
        ("PRIORITY", "priority"),
        ("LOCKED", "locked"),
        ("REQUIRED", "required"),
        ("KEYS", "summary/keys"),
        ("UPDATED", "updated_at"),
        ("ID", "id"),
    ],
};

/// What can be done with them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them
    Ls,
    /// Show one and its document; secrets are masks
    Show {
        /// Its name or id
        name: String,
        /// Show secrets too; it is recorded
        #[arg(long)]
        reveal: bool,
    },
    /// Make one; it is switched off until it is enabled
    Create {
        /// Its name
        name: String,
        /// Groups of users whose members' sessions it reaches
        #[arg(
            long,
            value_name = "GROUP,GROUP",
            value_delimiter = ',',
            required = true
        )]
        group: Vec<String>,
        /// The document, a file
        #[arg(long, value_name = "FILE")]
        file: Option<String>,
        /// hocon, json, yaml or toml; absent: by the name of the file
        #[arg(long, value_name = "FORMAT", requires = "file")]
        format: Option<String>,
        /// 0 to 1000; greater wins
        #[arg(long, value_name = "N")]
        priority: Option<i64>,
        /// Let it stand above everything else
        #[arg(long)]
        locked: bool,
        /// Let no session that it reaches start without it
        #[arg(long)]
        required: bool,
        /// For people
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Change one: its document by --file or in $EDITOR, its members by --set
    Edit {
        /// Its name or id
        name: String,
        /// The new document, a file
        #[arg(long, value_name = "FILE")]
        file: Option<String>,
        /// hocon, json, yaml or toml; absent: by the name of the file
        #[arg(long, value_name = "FORMAT", requires = "file")]
        format: Option<String>,
        #[command(flatten)]
        members: Members,
    },
    /// Say what is wrong with a file, and store nothing
    Check(File),
    /// Write the document; secrets are masks
    Download {
        /// Its name or id
        name: String,
        /// Into this file, which nobody else may read; absent: standard output
        #[arg(long, value_name = "FILE")]
        to: Option<String>,
        /// Secrets too; it is recorded
        #[arg(long)]
        reveal: bool,
    },
    /// Let it reach sessions that start from now on
    Enable(One),
    /// Let it reach no session
    Disable(One),
    /// Delete one
    Rm(One),
    /// Show what somebody's sessions get of all vaults and files together
    Preview {
        /// Login name, address or id
        user: String,
    },
    /// Say where a value of somebody's sessions comes from, and what it stands before; secrets are
    /// masks
    Explain {
        /// Login name, address or id
        user: String,
        /// Such as environment.STAGE
        key: String,
    },
    /// Switch off somebody's own vault: it reaches no session of its owner any more
    OwnOff {
        /// Login name, address or id
        user: String,
    },
    /// Take everything out of somebody's own vault
    OwnEmpty {
        /// Login name, address or id
        user: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    let client = app.client()?;
    match verb {
        Verb::Ls => ls(app, &VAULT, "").await,
        Verb::Show { name, reveal } => vault::show(app, &client, &VAULT.of(&name), reveal).await,
        Verb::Create {
            name,
            group,
            file,
            format,
            priority,
            locked,
            required,
            description,
        } => {
            let mut body = match file {
                Some(file) => File { file, format }.body()?,
                None => json!({}),
            };
            body["name"] = json!(name);
            body["groups"] = json!(group);
            if let Some(priority) = priority {
                body["priority"] = json!(priority);
            }
            if let Some(description) = description {
                body["description"] = json!(description);
            }
            for (member, on) in [("locked", locked), ("required", required)] {
                if on {
                    body[member] = json!(true);
                }
            }
            let what = format!("vault {name} is created, switched off");
            let write = Write::new(Method::POST, VAULT.path, &what).body(&body);
            send(app, &client, write).await?;
            say(app, &what);
            Ok(0)
        }
        Verb::Edit {
            name,
            file,
            format,
            members,
        } => match (file, members.patch(VAULT.slots)?) {
            (Some(_), Some(_)) => Err(Failure::usage(
                "give the document or members, one after the other",
            )),
            (Some(file), None) => {
                let file = File { file, format };
                vault::import(app, &client, &VAULT.of(&name), &file).await
            }
            (None, Some(patch)) => edit(app, &VAULT, &name, Some(patch)).await,
            (None, None) => vault::edit(app, &client, &VAULT.of(&name)).await,
        },
        Verb::Check(file) => vault::check(app, &client, &file).await,
        Verb::Download { name, to, reveal } => {
            let query = if reveal { "?reveal=true" } else { "" };
            let path = format!("{}/content{query}", VAULT.of(&name));
            let bytes = client.call_bytes(Call::new(Method::GET, &path)).await?;
            match to {
                None => print(&String::from_utf8_lossy(&bytes))?,
                Some(file) => {
                    let mut new = std::fs::OpenOptions::new();
                    let new = new.write(true).create(true).truncate(true).mode(0o600);
                    new.open(&file)
                        .and_then(|mut open| open.write_all(&bytes))
                        .map_err(|error| Failure::failed(format!("{file}: {error}")))?;
                }
            }
            Ok(0)
        }
        Verb::Enable(one) => {
            let body = json!({ "enabled": true });
            vault::switch(app, &client, &VAULT.of(&one.name), &body).await
        }
        Verb::Disable(one) => {
            let body = json!({ "enabled": false });
            vault::switch(app, &client, &VAULT.of(&one.name), &body).await
        }
        Verb::Rm(one) => rm(app, &VAULT, &one.name, "").await,
        Verb::Preview { user } => {
            let path = format!("/users/{}/config", encode(&user));
            vault::preview(app, &client, &path, false).await
        }
        Verb::Explain { user, key } => {
            let (user, key) = (encode(&user), encode(&key));
            let path = format!("/users/{user}/config/explain?key={key}");
            vault::explain(app, &client, &path, false).await
        }
        Verb::OwnOff { user } => {
            let what = format!("the vault of {user} is switched off");
            own(app, &client, &user, &json!({ "enabled": false }), &what).await
        }
        Verb::OwnEmpty { user } => {
            let what = format!("the vault of {user} is empty");
            own(app, &client, &user, &json!({ "content": "" }), &what).await
        }
    }
}

/// Changes the vault of a person, which nobody but the owner reads: whatever it is by now.
async fn own(
    app: &App,
    client: &Client,
    user: &str,
    body: &Value,
    what: &str,
) -> Result<u8, Failure> {
    let path = format!("/users/{}/vault", encode(user));
    let write = Write::new(Method::PATCH, &path, what).version(Some("*".to_owned()));
    send(app, client, write.body(body)).await?;
    say(app, what);
    Ok(0)
}
