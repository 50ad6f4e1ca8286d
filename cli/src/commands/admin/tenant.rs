//! `admin domain …`, `admin project …` and `projects`

use super::{
    Kind, New, One, There, Usual, Write, create, ls, object, put_texts, rm, say, send, send_asked,
    there, usual,
};
use crate::app::App;
use crate::client::encode;
use crate::error::Failure;
use reqwest::Method;
use serde_json::{Value, json};

/// Domains.
pub(crate) const DOMAIN: Kind = Kind {
    path: "/domains",
    what: "domain",
    key: "name",
    slots: "total_slots",
    columns: &[
        ("NAME", "name"),
        ("ACTIVE", "active"),
        ("LIMITS", "total_slots"),
        ("USED", "used_slots"),
        ("USERS", "users"),
        ("PROJECTS", "projects"),
        ("DESCRIPTION", "description"),
    ],
};
/// Projects.
pub(crate) const PROJECT: Kind = Kind {
    path: "/projects",
    what: "project",
    key: "name",
    slots: "total_slots",
    columns: &[
        ("NAME", "name"),
        ("DOMAIN", "domain_name"),
        ("ACTIVE", "active"),
        ("POLICY", "policy"),
        ("LIMITS", "total_slots"),
        ("USED", "used_slots"),
        ("MEMBERS", "members"),
    ],
};
/// People of a project.
const MEMBER: Kind = Kind {
    path: "/projects",
    what: "member",
    key: "user_name",
    slots: "slots",
    columns: &[
        ("NAME", "user_name"),
        ("FULL NAME", "full_name"),
        ("ADMIN", "admin"),
        ("SOURCE", "source"),
        ("STATUS", "status"),
    ],
};

/// A membership.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// Name or id of the project
    project: String,
    /// Login name, address or id
    user: String,
}

/// What can be done with domains.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DomainVerb {
    #[command(flatten)]
    Usual(Usual),
    /// Delete one without users and projects, with access rules on it
    Rm(One),
}

/// What can be done with projects.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProjectVerb {
    #[command(flatten)]
    There(There),
    /// Delete one without live sessions, with memberships, access rules and keypairs for it
    Rm(One),
    /// Make one; without --domain in one's own, by a superadmin in default
    Create {
        #[command(flatten)]
        new: New,
        /// Name or id
        #[arg(long, value_name = "DOMAIN")]
        domain: Option<String>,
    },
    /// List who is in one
    Members {
        /// Name or id
        project: String,
    },
    /// Take somebody in, or say whether it administers the project
    Add {
        #[command(flatten)]
        place: Place,
        /// The project is its to administer
        #[arg(long, conflicts_with = "no_admin")]
        admin: bool,
        /// The project is its to administer no longer
        #[arg(long)]
        no_admin: bool,
    },
    /// Remove somebody; its sessions there are stopped, keypairs bound to it are revoked
    Remove {
        #[command(flatten)]
        place: Place,
        /// Let sessions that run there go on
        #[arg(long)]
        keep: bool,
    },
}

/// Does it.
pub(crate) async fn domain(app: &App, verb: DomainVerb) -> Result<u8, Failure> {
    match verb {
        DomainVerb::Usual(verb) => usual(app, &DOMAIN, verb).await,
        DomainVerb::Rm(one) => rm(app, &DOMAIN, &one.name, "").await,
    }
}

/// Does it.
pub(crate) async fn project(app: &App, verb: ProjectVerb) -> Result<u8, Failure> {
    match verb {
        ProjectVerb::There(verb) => there(app, &PROJECT, verb).await,
        ProjectVerb::Rm(one) => rm(app, &PROJECT, &one.name, "").await,
        ProjectVerb::Create { new, domain } => {
            let mut body = new.members.named(PROJECT.slots, &new.name)?;
            put_texts(&mut body, [("domain", domain)]);
            create(app, &PROJECT, &body).await
        }
        ProjectVerb::Members { project } => {
            ls(app, &MEMBER, &format!("/{}/members", encode(&project))).await
        }
        ProjectVerb::Add {
            place,
            admin,
            no_admin,
        } => {
            let body = match admin || no_admin {
                true => json!({ "admin": admin }),
                false => json!({}),
            };
            let what = format!("{} is in project {}", place.user, place.project);
            let path = place.path();
            let write = Write::new(Method::PUT, &path, what).body(&body);
            let client = app.client()?;
            object(app, MEMBER.key, &send(app, &client, write).await?)?;
            Ok(0)
        }
        ProjectVerb::Remove { place, keep } => {
            let what = format!("{} is removed from project {}", place.user, place.project);
            let path = format!("{}{}", place.path(), left(keep));
            let client = app.client()?;
            send_asked(app, &client, Write::new(Method::DELETE, &path, what)).await?;
            say(app, &format!("{} removed", place.user));
            Ok(0)
        }
    }
}

impl Place {
    fn path(&self) -> String {
        format!(
            "{}/members/{}",
            PROJECT.of(&self.project),
            encode(&self.user)
        )
    }
}

const fn left(keep: bool) -> &'static str {
    if keep { "?sessions=keep" } else { "" }
}

/// What can be done with one's own projects.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Own {
    /// Go out of one; sessions there are stopped, keypairs bound to it are revoked
    Leave {
        /// Name or id
        project: String,
        /// Let sessions that run there go on
        #[arg(long)]
        keep: bool,
    },
}

/// Lists projects one may see, or goes out of one.
pub(crate) async fn own(app: &App, verb: Option<Own>) -> Result<u8, Failure> {
    let Some(Own::Leave { project, keep }) = verb else {
        return ls(app, &PROJECT, "").await;
    };
    let what = format!("you leave project {project}; coming back needs an administrator");
    let path = format!("{}/leave{}", PROJECT.of(&project), left(keep));
    let body: Value = json!({});
    let client = app.client()?;
    let write = Write::new(Method::POST, &path, what).body(&body);
    object(app, "project_name", &send_asked(app, &client, write).await?)?;
    Ok(0)
}
