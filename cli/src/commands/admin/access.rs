//! `admin access …`: access rules.

use super::{Kind, Write, edit, list, put_texts, rm, say, send};
use crate::app::App;
use crate::client::encode;
use crate::error::Failure;
use crate::output::{clean, print};
use reqwest::Method;
use serde_json::{Value, json};

const RULE: Kind = Kind {
    path: "/access-rules",
    what: "access rule",
    key: "id",
    slots: "slots",
    columns: &[
        ("ID", "id"),
        ("LEVEL", "level"),
        ("TYPE", "resource/type"),
        ("OBJECT", "resource/name"),
        ("SUBJECTS", "subject_names"),
        ("WARNINGS", "warnings"),
    ],
};

/// What a rule gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Level {
    /// List, read, download
    Ro,
    /// And create inside, change, stop, submit
    Rw,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Ro => "ro",
            Self::Rw => "rw",
        }
    }
}

/// What can be done with access rules.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them
    Ls {
        /// Only those that name this user, service account or group
        #[arg(long, value_name = "NAME")]
        subject: Option<String>,
        /// Only those on this object: project/vision, session/s-42, queue/default
        #[arg(long, value_name = "OBJECT")]
        on: Option<String>,
    },
    /// Make one: grant rw project/vision alice team
    Grant {
        /// How far
        #[arg(value_enum)]
        level: Level,
        /// TYPE/NAME; TYPE alone is all of it, "*" is everything
        object: String,
        /// Users, service accounts and groups
        #[arg(required = true)]
        subjects: Vec<String>,
    },
    /// Change one
    Edit {
        /// Its id
        id: String,
        /// How far
        #[arg(long, value_enum)]
        level: Option<Level>,
        /// To whom, in place of those it names
        #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
        subject: Vec<String>,
    },
    /// Delete one; asks first and says who loses what
    Revoke {
        /// Its id
        id: String,
    },
    /// Say what somebody may do with an object, and by which rule or role
    Test {
        /// User or service account
        subject: String,
        /// TYPE/NAME: project/vision, session/s-42, queue/default
        object: String,
        /// An operation, such as session.create or session.terminate: may it be done?
        action: Option<String>,
    },
}

/// The members of an object that is written TYPE/NAME.
fn resource(text: &str) -> Value {
    match text.split_once('/') {
        Some((kind, id)) => json!({ "type": kind, "id": id }),
        None => json!({ "type": text }),
    }
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls { subject, on } => {
            let mut filters = Vec::new();
            filters.extend(subject.map(|name| format!("subject={}", encode(&name))));
            if let Some(on) = on {
                let resource = resource(&on);
                for (filter, member) in [("type", "type"), ("resource", "id")] {
                    let value = resource.get(member).and_then(Value::as_str);
                    filters.extend(value.map(|v| format!("{filter}={}", encode(v))));
                }
            }
            let path = match filters.is_empty() {
                true => RULE.path.to_owned(),
                false => format!("{}?{}", RULE.path, filters.join("&")),
            };
            let items = app.list(&path).await?;
            list(app, &RULE, &items)
        }
        Verb::Grant {
            level,
            object,
            subjects,
        } => {
            let body = json!({ "resource": resource(&object), "level": level.word(),
                "subjects": subjects });
            let client = app.client()?;
            let what = format!("{} on {object} is granted", level.word());
            let write = Write::new(Method::POST, RULE.path, what).body(&body);
            let item = send(app, &client, write).await?;
            for warning in item["warnings"].as_array().into_iter().flatten() {
                say(app, warning.as_str().unwrap_or_default());
            }
            super::object(app, RULE.key, &item)?;
            Ok(0)
        }
        Verb::Edit { id, level, subject } => {
            let mut patch = json!({});
            put_texts(&mut patch, [("level", level.map(|l| l.word().to_owned()))]);
            if !subject.is_empty() {
                patch["subjects"] = json!(subject);
            }
            if patch == json!({}) {
                return Err(Failure::usage(
                    "nothing to change: give --level or --subject",
                ));
            }
            edit(app, &RULE, &id, Some(patch)).await
        }
        Verb::Revoke { id } => rm(app, &RULE, &id, "").await,
        Verb::Test {
            subject,
            object,
            action,
        } => test(app, &subject, &object, action.as_deref()).await,
    }
}

async fn test(app: &App, subject: &str, object: &str, action: Option<&str>) -> Result<u8, Failure> {
    let (kind, id) = object
        .split_once('/')
        .ok_or_else(|| Failure::usage("an object is written TYPE/NAME, such as project/vision"))?;
    let mut path = format!(
        "/access/effective?subject={}&type={}&id={}",
        encode(subject),
        encode(kind),
        encode(id)
    );
    if let Some(action) = action {
        path.push_str(&format!("&action={}", encode(action)));
    }
    let answer = app.client()?.get(&path).await?;
    if app.output().is_json() {
        app.output().value(&answer)?;
    } else {
        print(&told(subject, object, action, &answer))?;
    }
    Ok(0)
}

/// What somebody has, in words.
fn told(subject: &str, object: &str, action: Option<&str>, answer: &Value) -> String {
    let text = |value: &Value, name: &str| clean(value[name].as_str().unwrap_or_default());
    let (subject, object) = (clean(subject), clean(object));
    let mut lines = Vec::new();
    if let (Some(allowed), Some(action)) = (answer["allowed"].as_bool(), action) {
        let action = clean(action);
        lines.push(match allowed {
            true => format!("yes: {subject} may do {action} on {object}"),
            false => format!("no: {subject} may not do {action} on {object}"),
        });
        let why = text(answer, "why");
        if !why.is_empty() {
            lines.push(format!("  {subject} would be told: {why}"));
        }
    }
    lines.push(match text(answer, "level").as_str() {
        "none" => format!("{subject} has no access to {object}"),
        "ro" => format!("{subject} may look at {object}, not change it (ro)"),
        level => format!("{subject} may look at {object} and change it ({level})"),
    });
    let via = answer["via"].as_array().into_iter().flatten();
    let grants: Vec<String> = via.map(|via| format!("  {}", grant(via))).collect();
    if grants.is_empty() {
        lines.push(
            "  nothing gives any: one has to be active and a member of the project, and named \
             by a rule"
                .to_owned(),
        );
    }
    lines.extend(grants);
    lines.join("\n") + "\n"
}

/// One reason why somebody has something.
fn grant(via: &Value) -> String {
    let text = |value: &Value, name: &str| clean(value[name].as_str().unwrap_or_default());
    let (level, who) = (text(via, "level"), text(via, "subject_name"));
    let thing = &via["resource"];
    let name = thing["name"].as_str().or_else(|| thing["id"].as_str());
    let on = match (text(thing, "type").as_str(), name) {
        ("*", _) => "everything".to_owned(),
        (kind, Some(name)) => format!("{kind}/{}", clean(name)),
        (kind, None) => format!("every {kind}"),
    };
    match (via["rule"].as_str(), text(via, "reason").as_str()) {
        (Some(rule), _) => format!("rule {} gives {level} on {on} to {who}", clean(rule)),
        (None, "role") => format!("the role of {who} gives {level} on {on}"),
        (None, "admins") => format!("membership in the group admins gives {level} on {on}"),
        (None, "owner") => format!("{who} is the owner: {level} on {on}"),
        (None, "share") => format!("it is shared with {who}: {level} on {on}"),
        (None, other) => format!("{other} gives {level} on {on} to {who}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_written_with_their_type() {
        assert_eq!(
            resource("queue/Dev/4x"),
            json!({ "type": "queue", "id": "Dev/4x" })
        );
        assert_eq!(resource("session"), json!({ "type": "session" }));
        assert_eq!(resource("*"), json!({ "type": "*" }));
    }

    #[test]
    fn a_test_says_yes_or_no_and_why() {
        let answer = json!({ "level": "ro", "allowed": false, "why": "Only reading is granted.",
            "via": [
                { "rule": "acr_1", "subject": "grp_1", "subject_name": "team", "level": "ro",
                    "resource": { "type": "project", "id": "prj_1", "name": "vision" } },
                { "rule": "acr_2", "subject": "grp_1", "subject_name": "team", "level": "ro",
                    "resource": { "type": "*" } },
                { "reason": "role", "subject": "usr_1", "subject_name": "alice", "level": "ro",
                    "resource": { "type": "queue" } }] });
        assert_eq!(
            told("alice", "project/vision", Some("session.create"), &answer),
            "no: alice may not do session.create on project/vision\n\
             \x20 alice would be told: Only reading is granted.\n\
             alice may look at project/vision, not change it (ro)\n\
             \x20 rule acr_1 gives ro on project/vision to team\n\
             \x20 rule acr_2 gives ro on everything to team\n\
             \x20 the role of alice gives ro on every queue\n"
        );
        let nothing = json!({ "level": "none", "via": [] });
        let text = told("dana", "project/vision", None, &nothing);
        assert!(
            text.starts_with("dana has no access to project/vision\n  nothing"),
            "{text}"
        );
        let may = json!({ "level": "rw", "allowed": true, "via": [] });
        let text = told("dana", "queue/a", Some("session.create"), &may);
        assert!(
            text.starts_with("yes: dana may do session.create on queue/a\n"),
            "{text}"
        );
    }
}
