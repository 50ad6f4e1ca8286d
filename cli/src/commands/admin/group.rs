//! `admin resource-group …`

use super::{Kind, One, Usual, Write, edit, rm, say, send, usual};
use crate::app::App;
use crate::client::encode;
use crate::commands::queue;
use crate::error::Failure;
use reqwest::Method;
use serde_json::{Value, json};

pub(super) const GROUP: Kind = Kind {
    path: "/resource-groups",
    what: "resource group",
    key: "name",
    slots: "slots",
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
    #[command(flatten)]
    Usual(Usual),
    /// Delete one that nothing refers to
    Rm(One),
    /// Take sessions again
    Activate(One),
    /// Take no sessions; those that run go on
    Deactivate(One),
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
    /// Take somebody off the list; allow-everybody opens the group
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
    AllowEverybody(One),
    /// Show who waits, in the scheduler's order
    Pending(One),
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Usual(verb) => usual(app, &GROUP, verb).await,
        Verb::Rm(one) => rm(app, &GROUP, &one.name, "").await,
        Verb::Activate(one) => set(app, &one, json!({ "active": true })).await,
        Verb::Deactivate(one) => set(app, &one, json!({ "active": false })).await,
        Verb::Allow { name, kind, who } => access(app, Method::PUT, &name, kind, &who).await,
        Verb::Disallow { name, kind, who } => access(app, Method::DELETE, &name, kind, &who).await,
        Verb::AllowEverybody(one) => set(app, &one, json!({ "allowed": null })).await,
        Verb::Pending(one) => {
            let args = queue::Args {
                group: Some(one.name),
                queue: None,
            };
            queue::run(app, args).await
        }
    }
}

async fn set(app: &App, group: &One, patch: Value) -> Result<u8, Failure> {
    edit(app, &GROUP, &group.name, Some(patch)).await
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
    send(app, &client, Write::new(method, &path, text.clone())).await?;
    say(app, &text);
    Ok(0)
}
