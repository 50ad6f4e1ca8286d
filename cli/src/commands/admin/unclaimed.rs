//! `admin unclaimed …`

use super::{Kind, ls};
use crate::app::App;
use crate::error::Failure;

const UNCLAIMED: Kind = Kind {
    path: "/unclaimed",
    what: "unclaimed container",
    key: "id",
    slots: "",
    columns: &[
        ("ID", "id"),
        ("NODE", "agent_name"),
        ("STATE", "state"),
        ("CONTAINER", "container_name"),
        ("STARTED", "started_at"),
        ("SINCE", "since"),
    ],
};

/// What can be done with containers that no order names.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them
    Ls,
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls => ls(app, &UNCLAIMED, "").await,
    }
}
