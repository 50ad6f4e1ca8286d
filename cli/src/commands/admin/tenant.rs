//! `admin domain …` and `admin project …`

use super::{Kind, Members, create, edit, ls, show};
use crate::app::App;
use crate::error::Failure;
use serde_json::json;

/// Domains.
pub(crate) const DOMAIN: Kind = Kind {
    path: "/domains",
    what: "domain",
    key: "name",
    columns: &[
        ("NAME", "name"),
        ("ACTIVE", "active"),
        ("LIMITS", "total_slots"),
        ("USED", "used_slots"),
        ("USERS", "users"),
        ("PROJECTS", "projects"),
        ("DESCRIPTION", "description"),
    ],
};
/// Projects.
pub(crate) const PROJECT: Kind = Kind {
    path: "/projects",
    what: "project",
    key: "name",
    columns: &[
        ("NAME", "name"),
        ("DOMAIN", "domain_name"),
        ("ACTIVE", "active"),
        ("POLICY", "policy"),
        ("LIMITS", "total_slots"),
        ("USED", "used_slots"),
        ("MEMBERS", "members"),
    ],
};

/// What can be done with them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them
    Ls,
    /// Show one
    Show {
        /// Its name or id
        name: String,
    },
    /// Make one; --slot limits what may be held at once
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
}

/// Does it.
pub(crate) async fn run(app: &App, kind: &Kind, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls => ls(app, kind, "").await,
        Verb::Show { name } => show(app, kind, &name).await,
        Verb::Create { name, members } => {
            let mut body = members.object("total_slots")?;
            body["name"] = json!(name);
            create(app, kind, &body).await
        }
        Verb::Edit { name, members } => {
            let patch = match members.is_empty() {
                true => None,
                false => Some(members.object("total_slots")?),
            };
            edit(app, kind, &name, patch).await
        }
    }
}
