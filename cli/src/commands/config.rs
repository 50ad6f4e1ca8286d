//! `config …`: what the flags of this program default to, and who says so.

use super::vault::leaf_text;
use crate::app::App;
use crate::defaults::{self, KEYS};
use crate::error::{Failure, code};
use crate::output::print;

/// What can be done with defaults.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show every default that is set
    Show,
    /// Say where a default comes from, and what it stands before
    Explain {
        /// Such as client.group
        key: String,
    },
    /// Learn what vaults say; done by itself once an hour
    #[command(hide = true)]
    Learn,
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Show => {
            let leaves = defaults::present(app)?.leaves();
            if app.output().is_json() {
                app.output().value(&leaves.into())?;
                return Ok(0);
            }
            if leaves.is_empty() && !app.global.quiet {
                eprintln!("nothing is set");
            }
            let text: String = leaves.iter().map(leaf_text).collect();
            print(&text)?;
        }
        Verb::Explain { key } => {
            let known = key.strip_prefix("client.").unwrap_or(&key);
            if !KEYS.contains(&known) {
                let text = format!("there is no key {key}");
                let keys = KEYS.map(|key| format!("client.{key}"));
                let failure = Failure::usage(text).hint(format!("one of: {}", keys.join(", ")));
                return Err(failure.why("longshore vault explain is for keys of sessions"));
            }
            let path = format!("client.{known}");
            let leaves = defaults::present(app)?.leaves();
            let leaf = leaves.into_iter().find(|leaf| leaf["path"] == path);
            let leaf =
                leaf.ok_or_else(|| Failure::new(code::NOT_FOUND, format!("nothing sets {path}")))?;
            match app.output().is_json() {
                true => app.output().value(&leaf)?,
                false => print(&leaf_text(&leaf))?,
            }
        }
        Verb::Learn => defaults::learn(app).await?,
    }
    Ok(0)
}
