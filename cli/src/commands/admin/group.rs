//! `admin resource-group …`

use super::{Kind, Members, create, edit, ls, rm, say, send, show};
use crate::app::App;
use crate::client::encode;
use crate::commands::queue;
use crate::error::Failure;
use reqwest::Method;
use serde_json::json;

pub(super) const GROUP: Kind = Kind {
    path: "/resource-groups",
    what: "resource group",
    key: "name",
    columns: &[
        ("NAME", "name"),
        ("ACTIVE", "active"),
        ("DEFAULT", "default"),
        ("ORDER", "scheduler"),
        ("AGENTS", "agents"),
        ("CAPACITY", "capacity"),
        ("OCCUPIED", "occupied"),
        ("PENDING", "pending"),
        ("POOL", "pool"),
    ],
};

/// Lists that let somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Who {
    /// Everybody of a domain.
    Domain,
    /// Sessions of a project.
    Project,
    /// One keypair.
    Keypair,
}

/// What can be done with resource groups.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them
    Ls,
    /// Show one
    Show {
        /// Its name or id
        name: String,
    },
    /// Make one
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        members: Members,
    },
    /// Change one; without flags in $EDITOR
    Edit {
        /// Its name or id
        name: String,
        #[command(flatten)]
        members: Members,
    },
    /// Delete one that nothing refers to
    Rm {
        /// Its name or id
        name: String,
    },
    /// Take sessions again
    Activate {
        /// Its name or id
        name: String,
    },
    /// Take no sessions; those that run go on
    Deactivate {
        /// Its name or id
        name: String,
    },
    /// Let somebody in; a group open to everybody is then open to these only
    Allow {
        /// Its name or id
        name: String,
        /// Of which kind
        #[arg(value_enum)]
        kind: Who,
        /// Name, id or access key
        who: String,
    },
    /// Take somebody off the list; --everybody opens the group
    Disallow {
        /// Its name or id
        name: String,
        /// Of which kind
        #[arg(value_enum)]
        kind: Who,
        /// Name, id or access key
        who: String,
    },
    /// Open it to everybody
    AllowEverybody {
        /// Its name or id
        name: String,
    },
    /// Show who waits, in the scheduler's order
    Pending {
        /// Its name or id
        name: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls => ls(app, &GROUP, "").await,
        Verb::Show { name } => show(app, &GROUP, &name).await,
        Verb::Create { name, members } => {
            let mut body = members.object("slots")?;
            body["name"] = json!(name);
            create(app, &GROUP, &body).await
        }
        Verb::Edit { name, members } => {
            let patch = match members.is_empty() {
                true => None,
                false => Some(members.object("slots")?),
            };
            edit(app, &GROUP, &name, patch).await
        }
        Verb::Rm { name } => rm(app, &GROUP, &name, "").await,
        Verb::Activate { name } => edit(app, &GROUP, &name, Some(json!({ "active": true }))).await,
        Verb::Deactivate { name } => {
            edit(app, &GROUP, &name, Some(json!({ "active": false }))).await
        }
        Verb::Allow { name, kind, who } => access(app, Method::PUT, &name, kind, &who).await,
        Verb::Disallow { name, kind, who } => access(app, Method::DELETE, &name, kind, &who).await,
        Verb::AllowEverybody { name } => {
            edit(app, &GROUP, &name, Some(json!({ "allowed": null }))).await
        }
        Verb::Pending { name } => {
            let args = queue::Args {
                group: Some(name),
                queue: None,
            };
            queue::run(app, args).await
        }
    }
}

async fn access(
    app: &App,
    method: Method,
    name: &str,
    kind: Who,
    who: &str,
) -> Result<u8, Failure> {
    let (list, word) = match kind {
        Who::Domain => ("domains", "domain"),
        Who::Project => ("projects", "project"),
        Who::Keypair => ("keypairs", "keypair"),
    };
    let client = app.client()?;
    let path = format!("{}/allowed/{list}/{}", GROUP.of(name), encode(who));
    let text = match method == Method::PUT {
        true => format!("{word} {who} may use {name}"),
        false => format!("{word} {who} is off the list of {name}"),
    };
    send(app, &client, method, &path, None, None).await?;
    say(app, &text);
    Ok(0)
}
