//! `admin preset …`

use super::{Kind, Members, create, edit, ls, rm};
use crate::app::App;
use crate::error::Failure;
use serde_json::json;

const PRESET: Kind = Kind {
    path: "/presets",
    what: "preset",
    key: "name",
    columns: &[
        ("NAME", "name"),
        ("GROUP", "group"),
        ("SLOTS", "slots"),
        ("SHM", "shm"),
        ("DESCRIPTION", "description"),
    ],
};

/// What can be done with presets.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them
    Ls,
    /// Make one
    Create {
        /// Its name
        name: String,
        /// Only for this resource group
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
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
    /// Delete one
    Rm {
        /// Its name or id
        name: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls => ls(app, &PRESET, "").await,
        Verb::Create {
            name,
            group,
            members,
        } => {
            let mut body = members.object("slots")?;
            body["name"] = json!(name);
            if let Some(group) = group {
                body["group"] = json!(group);
            }
            create(app, &PRESET, &body).await
        }
        Verb::Edit { name, members } => {
            let patch = match members.is_empty() {
                true => None,
                false => Some(members.object("slots")?),
            };
            edit(app, &PRESET, &name, patch).await
        }
        Verb::Rm { name } => rm(app, &PRESET, &name, "").await,
    }
}
