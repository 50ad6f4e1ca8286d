//! `admin preset …`

use super::{Changed, Kind, New, One, create, edit, ls, put_texts, rm};
use crate::app::App;
use crate::error::Failure;

const PRESET: Kind = Kind {
    path: "/presets",
    what: "preset",
    key: "name",
    slots: "slots",
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
        #[command(flatten)]
        new: New,
        /// Only for this resource group
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
    },
    /// Change one; without flags in $EDITOR
    Edit(Changed),
    /// Delete one
    Rm(One),
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls => ls(app, &PRESET, "").await,
        Verb::Create { new, group } => {
            let mut body = new.members.named(PRESET.slots, &new.name)?;
            put_texts(&mut body, [("group", group)]);
            create(app, &PRESET, &body).await
        }
        Verb::Edit(changed) => {
            let patch = changed.members.patch(PRESET.slots)?;
            edit(app, &PRESET, &changed.name, patch).await
        }
        Verb::Rm(one) => rm(app, &PRESET, &one.name, "").await,
    }
}
