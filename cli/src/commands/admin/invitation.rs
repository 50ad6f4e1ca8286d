//! `admin invitation …`

use super::user::query;
use super::{Kind, Write, ls, object, put_texts, say, send};
use crate::app::App;
use crate::client::encode;
use crate::error::Failure;
use crate::output::{clean, print};
use crate::values;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const INVITATION: Kind = Kind {
    path: "/invitations",
    what: "invitation",
    key: "id",
    slots: "slots",
    columns: &[
        ("ID", "id"),
        ("EMAIL", "email"),
        ("STATE", "state"),
        ("DOMAIN", "domain_name"),
        ("PROJECTS", "projects"),
        ("INVITED BY", "invited_by"),
        ("UNTIL", "expires_at"),
    ],
};

/// What can be done with invitations.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List those that wait to be accepted
    Ls {
        /// Accepted, withdrawn and expired ones too
        #[arg(short, long)]
        all: bool,
        /// Part of the address
        #[arg(long, value_name = "TEXT")]
        email: Option<String>,
    },
    /// Invite a new person, or a user to projects; the link is shown once
    Create {
        /// Address
        email: String,
        /// Domain; absent: default, and that of a user
        #[arg(long, value_name = "DOMAIN")]
        domain: Option<String>,
        /// Projects; a user must be invited to one
        #[arg(long, value_name = "PROJECT,PROJECT", value_delimiter = ',')]
        project: Vec<String>,
        /// Groups of users
        #[arg(long, value_name = "GROUP,GROUP", value_delimiter = ',')]
        group: Vec<String>,
        /// User policy of a new person
        #[arg(long, value_name = "POLICY")]
        policy: Option<String>,
        /// For how long it is good: 12h, 3d; at most 30d
        #[arg(long, value_parser = values::duration, value_name = "TIME")]
        expires: Option<Duration>,
    },
    /// Take one back
    Withdraw {
        /// Its id, inv_…
        id: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls { all, email } => {
            let mut terms = Vec::new();
            if !all {
                terms.push("state=pending".to_owned());
            }
            terms.extend(email.map(|email| format!("email={}", encode(&email))));
            ls(app, &INVITATION, &query(&terms)).await
        }
        Verb::Create {
            email,
            domain,
            project,
            group,
            policy,
            expires,
        } => {
            let mut body = json!({ "email": email });
            put_texts(&mut body, [("domain", domain), ("user_policy", policy)]);
            for (member, names) in [("projects", project), ("groups", group)] {
                if !names.is_empty() {
                    body[member] = json!(names);
                }
            }
            if let Some(time) = expires {
                body["expires_in_s"] = json!(time.as_secs());
            }
            let client = app.client()?;
            let write = Write::new(Method::POST, INVITATION.path, format!("{email} is invited"));
            let item = send(app, &client, write.body(&body)).await?;
            let link = item.get("link").and_then(Value::as_str);
            match link.filter(|_| !app.output().is_json()) {
                Some(link) => {
                    say(app, &format!("{email} invited; the link is shown only now"));
                    print(&format!("{}\n", clean(link)))?;
                }
                None => object(app, INVITATION.key, &item)?,
            }
            Ok(0)
        }
        Verb::Withdraw { id } => {
            let client = app.client()?;
            let what = format!("invitation {id} is withdrawn");
            let path = INVITATION.of(&id);
            send(app, &client, Write::new(Method::DELETE, &path, &what)).await?;
            say(app, &what);
            Ok(0)
        }
    }
}
