//! `admin domain …`, `admin project …` and `projects`

use super::{Kind, One, Usual, Write, ls, object, request, say, send, tag, usual};
use crate::app::App;
use crate::ask::confirm;
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
    /// Delete one in which nobody and nothing is left
    Rm(One),
}

/// What can be done with projects.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProjectVerb {
    #[command(flatten)]
    Usual(Usual),
    /// Delete one without live sessions, with memberships, access rules and keypairs for it
    Rm(One),
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
        DomainVerb::Rm(one) => rm(app, &DOMAIN, &one.name).await,
    }
}

/// Deletes a domain or a project. What goes with it is asked of the coordinator first, which
/// refuses at once where something is in the way.
async fn rm(app: &App, kind: &Kind, name: &str) -> Result<u8, Failure> {
    let client = app.client()?;
    let present = client.get(&kind.of(name)).await?;
    // By its id: another project may have the same name.
    let path = kind.of(present["id"].as_str().unwrap_or(name));
    let write = || {
        let what = format!("{} {name} is deleted", kind.what);
        Write::new(Method::DELETE, &path, what).version(tag(&present))
    };
    if !app.global.dry_run {
        let rehearsed = request(&client, &write(), true).await?;
        confirm(app, &going(kind.what, name, &rehearsed["impact"]))?;
    }
    send(app, &client, write()).await?;
    say(app, &format!("{} {name} deleted", kind.what));
    Ok(0)
}

/// What goes with a domain or project.
fn going(what: &str, name: &str, impact: &Value) -> String {
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(|text| Some(text.as_str()?.to_owned()))
            .collect()
    };
    let mut text = format!("{what} {name} is deleted for ever, with access rules on it.");
    let (members, keys) = (texts(&impact["users"]), texts(&impact["keypairs"]));
    if !members.is_empty() {
        text.push_str(&format!(" Members no longer: {}.", members.join(", ")));
    }
    if !keys.is_empty() {
        text.push_str(&format!(" Keypairs revoked: {}.", keys.join(", ")));
    }
    text
}

/// Does it.
pub(crate) async fn project(app: &App, verb: ProjectVerb) -> Result<u8, Failure> {
    match verb {
        ProjectVerb::Usual(verb) => usual(app, &PROJECT, verb).await,
        ProjectVerb::Rm(one) => rm(app, &PROJECT, &one.name).await,
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
            let what = format!(
                "{} is removed from project {}; keypairs bound to it are revoked for ever",
                place.user, place.project
            );
            if !app.global.dry_run {
                confirm(app, &format!("{what}."))?;
            }
            let path = format!("{}{}", place.path(), left(keep));
            let client = app.client()?;
            send(app, &client, Write::new(Method::DELETE, &path, what)).await?;
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
    if !app.global.dry_run {
        confirm(app, &format!("{what}."))?;
    }
    let path = format!("{}/leave{}", PROJECT.of(&project), left(keep));
    let body: Value = json!({});
    let client = app.client()?;
    let write = Write::new(Method::POST, &path, what).body(&body);
    object(app, "project_name", &send(app, &client, write).await?)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_with_a_project_is_named() {
        let impact = json!({ "users": ["alice", "bob"], "keypairs": ["LSKEY"] });
        assert_eq!(
            going("project", "vision", &impact),
            "project vision is deleted for ever, with access rules on it. \
             Members no longer: alice, bob. Keypairs revoked: LSKEY."
        );
        assert_eq!(
            going("domain", "lab", &json!({ "counts": {} })),
            "domain lab is deleted for ever, with access rules on it."
        );
    }
}
