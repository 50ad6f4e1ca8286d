//! `admin group …`: groups of users.

use super::{Kind, One, Placed, There, Write, object, rm, say, send_careful, tag, there};
use crate::app::App;
use crate::client::encode;
use crate::error::{Failure, code};
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
    #[command(flatten)]
    There(There),
    /// Make one; with --domain only people of that domain can be members
    Create {
        #[command(flatten)]
        placed: Placed,
        /// Who is in it: users and service accounts
        #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
        member: Vec<String>,
    },
    /// Delete one, and its part in access rules; asks first and says who loses what
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
        Verb::There(verb) => there(app, &GROUP, verb).await,
        Verb::Create { placed, member } => {
            let mut body = placed.body();
            if !member.is_empty() {
                body["members"] = json!(member);
            }
            let global = body.get("domain").is_none();
            let made = super::create(app, &GROUP, &body).await;
            made.map_err(|failure| match global && failure.exit == code::DENIED {
                true => failure.hint("--domain DOMAIN: a group of no domain is for superadmins"),
                false => failure,
            })
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
    let item = send_careful(app, &client, write).await?;
    say(app, &text);
    object(app, GROUP.key, &item)?;
    Ok(0)
}
