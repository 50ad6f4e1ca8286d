//! `admin user …`

use super::{Changed, Kind, Write, edit, ls, object, put_texts, say, secret, send, show};
use crate::app::App;
use crate::client::encode;
use crate::error::Failure;
use crate::output::{clean, print, print_json};
use reqwest::Method;
use serde_json::{Value, json};

const USER: Kind = Kind {
    path: "/users",
    what: "user",
    key: "username",
    slots: "slots",
    columns: &[
        ("NAME", "username"),
        ("EMAIL", "email"),
        ("ROLE", "role"),
        ("STATUS", "status"),
        ("DOMAIN", "domain_name"),
        ("PROJECTS", "projects"),
        ("POLICY", "user_policy"),
        ("WEIGHT", "weight"),
        ("LIVE", "live_sessions"),
    ],
};

/// Active or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Status {
    /// May work.
    Active,
    /// Opens nothing.
    Inactive,
}

/// What can be done with people.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them; inactive ones too with --all
    Ls {
        /// Inactive ones too
        #[arg(short, long)]
        all: bool,
    },
    /// Show one
    Show {
        /// Login name, address or id
        name: String,
    },
    /// Make one with a first keypair, whose secret is shown once
    Create {
        /// Address; it never changes
        email: String,
        /// Login name; absent: the address
        #[arg(long, value_name = "NAME")]
        username: Option<String>,
        /// user or superadmin
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        /// Domain; absent: default
        #[arg(long, value_name = "DOMAIN")]
        domain: Option<String>,
        /// Projects; the first is that of sessions that name none
        #[arg(long, value_name = "PROJECT,PROJECT", value_delimiter = ',')]
        project: Vec<String>,
        /// User policy
        #[arg(long, value_name = "POLICY")]
        policy: Option<String>,
        /// Policy of the first keypair
        #[arg(long, value_name = "POLICY")]
        keypair_policy: Option<String>,
        /// Weight in fair shares
        #[arg(long, value_name = "N")]
        weight: Option<String>,
    },
    /// Change weight, policy or projects; without flags in $EDITOR
    Edit(Changed),
    /// Switch one on or off
    Status {
        /// Login name, address or id
        name: String,
        /// active or inactive
        #[arg(value_enum)]
        to: Status,
        /// Switch the keypairs off too
        #[arg(long)]
        deactivate_keypairs: bool,
    },
    /// Give one another user policy
    Policy {
        /// Login name, address or id
        name: String,
        /// The policy
        policy: String,
    },
    /// Give one a password that is shown once; the logins end
    ResetPassword {
        /// Login name, address or id
        name: String,
    },
    /// Switch two-factor codes off; the logins end
    TotpOff {
        /// Login name, address or id
        name: String,
    },
    /// End all logins
    EndLogins {
        /// Login name, address or id
        name: String,
    },
    /// Forget failed logins
    Unblock {
        /// Login name, address or id
        name: String,
    },
    /// Show what one may use, and what is used
    Limits {
        /// Login name, address or id
        name: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls { all } => {
            let query = if all {
                "?status=active&status=inactive"
            } else {
                ""
            };
            ls(app, &USER, query).await
        }
        Verb::Show { name } => show(app, &USER, &name).await,
        Verb::Create {
            email,
            username,
            role,
            domain,
            project,
            policy,
            keypair_policy,
            weight,
        } => {
            let mut body = json!({ "email": email });
            let texts = [
                ("username", username),
                ("role", role),
                ("domain", domain),
                ("user_policy", policy),
                ("keypair_policy", keypair_policy),
                ("weight", weight),
            ];
            put_texts(&mut body, texts);
            // Without a project nobody can submit, so the one everybody has is the default.
            body["projects"] = match project.is_empty() {
                true => json!(["default"]),
                false => json!(project),
            };
            if body.get("domain").is_some() && project.is_empty() {
                body["projects"] = json!([]);
            }
            let client = app.client()?;
            let what = format!("user {email} is created with a first keypair");
            let write = Write::new(Method::POST, USER.path, what).body(&body);
            let item = send(app, &client, write).await?;
            let name = item.get("username").and_then(Value::as_str);
            say(app, &format!("{} made", name.unwrap_or(&email)));
            secret(app, &item)?;
            Ok(0)
        }
        Verb::Edit(changed) => {
            let patch = changed.members.patch(USER.slots)?;
            edit(app, &USER, &changed.name, patch).await
        }
        Verb::Status {
            name,
            to,
            deactivate_keypairs,
        } => {
            let word = match to {
                Status::Active => "active",
                Status::Inactive => "inactive",
            };
            let body = json!({ "status": word, "deactivate_keypairs": deactivate_keypairs });
            let client = app.client()?;
            let path = format!("/users/{}/status", encode(&name));
            let write = Write::new(Method::PUT, &path, format!("user {name} is {word}"));
            object(app, USER.key, &send(app, &client, write.body(&body)).await?)?;
            Ok(0)
        }
        Verb::Policy { name, policy } => {
            edit(app, &USER, &name, Some(json!({ "user_policy": policy }))).await
        }
        Verb::ResetPassword { name } => {
            let client = app.client()?;
            let path = format!("/users/{}/reset-password", encode(&name));
            let write = Write::new(
                Method::POST,
                &path,
                format!("user {name} has a new password"),
            );
            let item = send(app, &client, write.body(&json!({}))).await?;
            if app.output().is_json() {
                print_json(&item)?;
            } else if let Some(password) = item.get("password").and_then(Value::as_str) {
                say(app, "the password is shown only now");
                print(&format!("{}\n", clean(password)))?;
            }
            Ok(0)
        }
        Verb::TotpOff { name } => {
            let what = format!("user {name} needs no code any more");
            give(app, Method::DELETE, &name, "totp", &what).await
        }
        Verb::EndLogins { name } => {
            let what = format!("all logins of user {name} are over");
            give(app, Method::DELETE, &name, "logins", &what).await
        }
        Verb::Unblock { name } => {
            let what = format!("failed logins of user {name} are forgotten");
            give(app, Method::POST, &name, "unblock", &what).await
        }
        Verb::Limits { name } => {
            let path = format!("/users/{}/limits", encode(&name));
            crate::commands::quota::print_limits(app, &path).await
        }
    }
}

/// An order about the logins of somebody.
async fn give(
    app: &App,
    method: Method,
    name: &str,
    verb: &str,
    what: &str,
) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = format!("/users/{}/{verb}", encode(name));
    send(app, &client, Write::new(method, &path, what)).await?;
    say(app, what);
    Ok(0)
}
