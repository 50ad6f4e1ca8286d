//! `admin policy …`: keypair, user and project policies, and who has which.

use super::{Kind, New, Usual, Write, create, rm, say, send, tag, usual};
use crate::app::App;
use crate::client::{Client, encode};
use crate::error::Failure;
use reqwest::Method;
use serde_json::{Value, json};

const KEYPAIR: Kind = Kind {
    path: "/keypair-policies",
    what: "keypair policy",
    key: "name",
    slots: "total_slots",
    columns: &[
        ("NAME", "name"),
        ("SLOTS", "total_slots"),
        ("OTHERS", "default_for_unspecified"),
        ("SESSIONS", "max_concurrent_sessions"),
        ("PENDING", "max_pending_session_count"),
        ("LIFE_S", "max_session_lifetime_s"),
        ("IDLE_S", "idle_timeout_s"),
        ("KEYPAIRS", "used_by/active"),
        ("DESCRIPTION", "description"),
    ],
};
const USER: Kind = Kind {
    path: "/user-policies",
    what: "user policy",
    key: "name",
    slots: "total_slots",
    columns: &[
        ("NAME", "name"),
        ("FOLDERS", "max_folder_count"),
        ("SIZE", "max_folder_size"),
        ("REPLICAS", "max_session_count_per_model_service"),
        ("IMAGES", "max_customized_image_count"),
        ("USERS", "used_by/active"),
        ("DESCRIPTION", "description"),
    ],
};
const PROJECT: Kind = Kind {
    path: "/project-policies",
    what: "project policy",
    key: "name",
    slots: "total_slots",
    columns: &[
        ("NAME", "name"),
        ("FOLDERS", "max_folder_count"),
        ("SIZE", "max_folder_size"),
        ("NETWORKS", "max_network_count"),
        ("PROJECTS", "used_by/active"),
        ("DESCRIPTION", "description"),
    ],
};

/// Limits of keypair policies; one that is absent is none. The other members of a keypair
/// policy fall back to something when they are absent.
const KEYPAIR_LIMITS: &[&str] = &[
    "max_concurrent_sessions",
    "max_concurrent_sftp_sessions",
    "max_pending_session_count",
    "max_session_lifetime_s",
    "max_total_lifetime_s",
];
/// The same of user policies.
const USER_LIMITS: &[&str] = &[
    "max_folder_count",
    "max_folder_size",
    "max_session_count_per_model_service",
    "max_customized_image_count",
];
/// The same of project policies.
const PROJECT_LIMITS: &[&str] = &["max_folder_count", "max_folder_size", "max_network_count"];

/// The members of a kind whose absence means that nothing is limited.
pub(super) fn limits(kind: &Kind) -> &'static [&'static str] {
    match kind.path {
        path if path == KEYPAIR.path => KEYPAIR_LIMITS,
        path if path == USER.path => USER_LIMITS,
        path if path == PROJECT.path => PROJECT_LIMITS,
        _ => &[],
    }
}

/// Whether a member is such a limit; no other kind of object has members of these names.
pub(super) fn is_limit(name: &str) -> bool {
    [KEYPAIR_LIMITS, USER_LIMITS, PROJECT_LIMITS]
        .iter()
        .any(|limits| limits.contains(&name))
}

/// Kinds of policies.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Noun {
    /// What a keypair may use, and the person with a main one
    #[command(subcommand)]
    Keypair(Verb),
    /// What a person may keep
    #[command(subcommand)]
    User(Verb),
    /// What a project may keep
    #[command(subcommand)]
    Project(Verb),
    /// Show what all limits together leave to a person
    Effective {
        /// Login name, address or id
        user: String,
        /// In this project; absent: the first one
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
    },
}

/// What can be done with policies.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    #[command(flatten)]
    Usual(Usual),
    /// Make one with the values of another
    Clone {
        /// The other
        from: String,
        #[command(flatten)]
        new: New,
    },
    /// Delete one
    Rm {
        /// Its name or id
        name: String,
        /// Give this one to all who have it
        #[arg(long, value_name = "POLICY")]
        move_to: Option<String>,
    },
    /// Give it: to access keys or people, to people, or to projects
    Assign {
        /// The policy
        name: String,
        /// To whom; a person's name stands for all keypairs
        #[arg(required = true)]
        to: Vec<String>,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, noun: Noun) -> Result<u8, Failure> {
    match noun {
        Noun::Keypair(verb) => one(app, &KEYPAIR, verb).await,
        Noun::User(verb) => one(app, &USER, verb).await,
        Noun::Project(verb) => one(app, &PROJECT, verb).await,
        Noun::Effective { user, project } => {
            let mut path = format!("/users/{}/limits", encode(&user));
            if let Some(project) = project {
                path.push_str(&format!("?project={}", encode(&project)));
            }
            crate::commands::quota::print_limits(app, &path).await
        }
    }
}

async fn one(app: &App, kind: &Kind, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Usual(verb) => usual(app, kind, verb).await,
        Verb::Clone { from, new } => {
            let mut body = new.members.named(kind.slots, &new.name)?;
            body["clone"] = json!(from);
            create(app, kind, &body).await
        }
        Verb::Rm { name, move_to } => {
            let query = move_to.map_or_else(String::new, |to| format!("?move_to={}", encode(&to)));
            rm(app, kind, &name, &query).await
        }
        Verb::Assign { name, to } => {
            let client = app.client()?;
            for target in &to {
                assign(app, &client, kind, &name, target).await?;
            }
            Ok(0)
        }
    }
}

async fn assign(
    app: &App,
    client: &Client,
    kind: &Kind,
    policy: &str,
    target: &str,
) -> Result<(), Failure> {
    let patch = |path: String, version: Option<String>, body: Value| async move {
        let what = format!("{target} has {} {policy}", kind.what);
        let write = Write::new(Method::PATCH, &path, what).version(version);
        send(app, client, write.body(&body)).await
    };
    match kind.path {
        "/user-policies" => {
            let path = format!("/users/{}", encode(target));
            patch(path, None, json!({ "user_policy": policy })).await?;
        }
        "/project-policies" => {
            let path = format!("/projects/{}", encode(target));
            let version = tag(&client.get(&path).await?);
            patch(path, version, json!({ "policy": policy })).await?;
        }
        _ => {
            let of_user = client
                .list(&format!("/keypairs?user={}", encode(target)))
                .await?;
            let mut keys: Vec<String> = of_user
                .iter()
                .filter_map(|k| k.get("access_key")?.as_str().map(str::to_owned))
                .collect();
            if keys.is_empty() {
                keys.push(target.to_owned());
            }
            for key in keys {
                let path = format!("/keypairs/{}", encode(&key));
                patch(path, None, json!({ "policy": policy })).await?;
                say(app, &format!("keypair {key} has policy {policy}"));
            }
            return Ok(());
        }
    }
    say(app, &format!("{target} has {} {policy}", kind.what));
    Ok(())
}
