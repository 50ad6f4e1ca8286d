//! `admin announce …`: what everybody is to read; and showing it to who signs in.

use super::{Kind, list, object};
use crate::app::App;
use crate::ask::confirm;
use crate::client::{Call, Client, encode, typed};
use crate::clock;
use crate::commands::prolong::until;
use crate::error::Failure;
use crate::output::clean_lines;
use crate::values::Instant;
use longshore_common::announcements::{AnnouncementRequest, AnnouncementView, Announcements};
use reqwest::Method;
use serde_json::{Value, json};

const ANNOUNCEMENTS: Kind = Kind {
    path: "/announcements",
    what: "announcement",
    key: "id",
    slots: "",
    columns: &[
        ("ID", "id"),
        ("LEVEL", "level"),
        ("UNTIL", "until"),
        ("BY", "by"),
        ("TEXT", "text"),
    ],
};

/// What can be done with announcements.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List those that hold
    Ls,
    /// Announce something to everybody
    Create {
        /// The text
        text: String,
        /// info, warning or critical
        #[arg(long, value_name = "LEVEL", default_value = "info")]
        level: String,
        /// When it is over: 18:00, 2026-11-20T21:00:00Z or +2h; absent: when it is taken away
        #[arg(long, value_name = "WHEN", value_parser = until)]
        until: Option<Instant>,
    },
    /// Take one away
    Rm {
        /// Its id
        id: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    let client = app.client()?;
    let rehearsed = match app.global.dry_run {
        true => "?dry_run=true",
        false => "",
    };
    match verb {
        Verb::Ls => {
            let told = client.get(ANNOUNCEMENTS.path).await?;
            let items = told.get("items").and_then(Value::as_array);
            list(app, &ANNOUNCEMENTS, items.map_or(&[], Vec::as_slice))
        }
        Verb::Create { text, level, until } => {
            let request = AnnouncementRequest {
                text,
                level: Some(level),
                until: until.map(|at| at.since(clock::now())),
            };
            let path = format!("{}{rehearsed}", ANNOUNCEMENTS.path);
            let told = client.post(&path, &request).await?;
            object(app, "id", &told)?;
            Ok(0)
        }
        Verb::Rm { id } => {
            let path = format!("/api/v1/announcements/{}{rehearsed}", encode(&id));
            if !app.global.dry_run {
                confirm(app, "Nobody reads it any more.", &[])?;
            }
            let body = json!({});
            client
                .call(Call::new(Method::DELETE, &path).body(body))
                .await?;
            Ok(0)
        }
    }
}

/// What everybody is to read, for who signs in or asks who is signed in. One that cannot be had
/// hinders nobody.
pub(crate) async fn lines(client: &Client) -> String {
    let told = client.get(ANNOUNCEMENTS.path).await.ok();
    let held: Option<Announcements> = told.and_then(|told| typed(told).ok());
    let held = held.map_or_else(Vec::new, |held| held.items);
    held.iter().map(line).collect()
}

fn line(one: &AnnouncementView) -> String {
    let until = one.until.map(|at| format!(" (until {})", clock::short(at)));
    let (level, text) = (&one.level, clean_lines(&one.text));
    format!("{level}: {text}{}\n", until.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_urgent_it_is() {
        let one = AnnouncementView {
            id: "ann_x".to_owned(),
            text: "gpu01 is down\u{1b}[2J".to_owned(),
            level: "critical".to_owned(),
            until: None,
            by: "ada".to_owned(),
            created_at: clock::now(),
        };
        let text = line(&one);
        assert!(text.starts_with("critical: gpu01 is down"), "{text:?}");
        assert!(!text.contains('\u{1b}') && text.ends_with('\n'));
    }
}
