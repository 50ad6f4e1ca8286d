//! `admin image …`

use super::{Changed, Kind, New, One, create, edit, ls, rm, show};
use crate::app::App;
use crate::error::Failure;
use serde_json::json;

const IMAGE: Kind = Kind {
    path: "/images",
    what: "image",
    key: "reference",
    slots: "min_slots",
    columns: &[
        ("IMAGE", "reference"),
        ("LEAST", "min_slots"),
        ("SHM", "shm"),
        ("DESCRIPTION", "description"),
    ],
};

/// What can be said of images.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List those of which something is said
    Ls,
    /// Show what is said of one
    Show(One),
    /// Say the least that sessions of an image get: --slot cpu=2 --slot mem=4g --set shm=64m
    Create(New),
    /// Say something else; without flags in $EDITOR. --slot mem=0 takes a least away
    Edit(Changed),
    /// Forget what was said of one; the image itself stays where it is
    Rm(One),
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls => ls(app, &IMAGE, "").await,
        Verb::Show(one) => show(app, &IMAGE, &one.name).await,
        Verb::Create(new) => {
            let mut body = new.members.object(IMAGE.slots)?;
            body["reference"] = json!(new.name);
            create(app, &IMAGE, &body).await
        }
        Verb::Edit(changed) => {
            let patch = changed.members.patch(IMAGE.slots)?;
            edit(app, &IMAGE, &changed.name, patch).await
        }
        Verb::Rm(one) => rm(app, &IMAGE, &one.name, "").await,
    }
}
