//! `admin group …`: groups of users.

use super::{Changed, Kind, One, Write, edit, ls, object, put_texts, rm, say, send, show, tag};
use crate::app::App;
use crate::client::encode;
use crate::error::Failure;
use reqwest::Method;
use serde_json::json;

const GROUP: Kind = Kind {
    path: "/groups",
    what: "group",
    key: "name",
    slots: "slots",
    columns: &[
        ("NAME", "name"),
        ("DOMAIN", "domain_name"),
        ("BUILT IN", "builtin"),
        ("MEMBERS", "member_count"),
        ("DESCRIPTION", "description"),
    ],
};

/// What can be done with groups of users.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them
    Ls,
    /// Show one with its members
    Show(One),
    /// Make one
    Create {
        /// Its name
        name: String,
        /// Domain whose people alone can be members; absent: of any
        #[arg(long, value_name = "DOMAIN")]
        domain: Option<String>,
        /// For people
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Who is in it: users and service accounts
        #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
        member: Vec<String>,
    },
    /// Change name, description or members; without flags in $EDITOR
    Edit(Changed),
    /// Delete one, and its part in access rules; --dry-run says who loses what
    Rm(One),
    /// Put somebody in
    Add {
        /// The group
        group: String,
        /// User or service account
        who: String,
    },
    /// Take somebody out who was put in by hand
    Remove {
        /// The group
        group: String,
        /// User or service account
        who: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls => ls(app, &GROUP, "").await,
        Verb::Show(one) => show(app, &GROUP, &one.name).await,
        Verb::Create {
            name,
            domain,
            description,
            member,
        } => {
            let mut body = json!({ "name": name });
            put_texts(
                &mut body,
                [("domain", domain), ("description", description)],
            );
            if !member.is_empty() {
                body["members"] = json!(member);
            }
            super::create(app, &GROUP, &body).await
        }
        Verb::Edit(changed) => {
            let patch = changed.members.patch(GROUP.slots)?;
            edit(app, &GROUP, &changed.name, patch).await
        }
        Verb::Rm(one) => rm(app, &GROUP, &one.name, "").await,
        Verb::Add { group, who } => member(app, Method::PUT, &group, &who).await,
        Verb::Remove { group, who } => member(app, Method::DELETE, &group, &who).await,
    }
}

async fn member(app: &App, method: Method, group: &str, who: &str) -> Result<u8, Failure> {
    let client = app.client()?;
    let present = client.get(&GROUP.of(group)).await?;
    let path = format!("{}/members/{}", GROUP.of(group), encode(who));
    let text = match method == Method::PUT {
        true => format!("{who} is in group {group}"),
        false => format!("{who} is taken out of group {group}, as far as somebody put it there"),
    };
    let write = Write::new(method, &path, text.clone()).version(tag(&present));
    let item = send(app, &client, write).await?;
    say(app, &text);
    object(app, GROUP.key, &item)?;
    Ok(0)
}
