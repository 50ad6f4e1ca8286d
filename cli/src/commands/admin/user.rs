//! `admin user …`

use super::{
    Changed, Kind, Write, edit, list, ls, object, put_texts, say, secret, send, send_asked, show,
    tag,
};
use crate::app::App;
use crate::client::{Call, encode};
use crate::error::Failure;
use crate::output::{clean, print};
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
        ("FULL NAME", "full_name"),
        ("ROLE", "role"),
        ("STATUS", "status"),
        ("DOMAIN", "domain_name"),
        ("PROJECTS", "projects"),
        ("POLICY", "user_policy"),
        ("LIVE", "live_sessions"),
    ],
};

/// Rows of a table that was taken in.
const ROW: Kind = Kind {
    path: "/users",
    what: "row",
    key: "email",
    slots: "slots",
    columns: &[
        ("ROW", "row"),
        ("EMAIL", "email"),
        ("STATUS", "status"),
        ("PASSWORD", "password"),
        ("ACCESS KEY", "access_key"),
        ("SECRET KEY", "secret_key"),
    ],
};

/// People who are invited.
const PENDING: Kind = Kind {
    path: "/users",
    what: "pending invitation",
    key: "email",
    slots: "slots",
    columns: &[
        ("EMAIL", "email"),
        ("STATUS", "status"),
        ("INVITED", "invited_at"),
        ("UNTIL", "expires_at"),
        ("ID", "id"),
    ],
};

/// Which people are listed by what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Listed {
    /// Those who may work.
    Active,
    /// Those who were switched off.
    Inactive,
    /// Those who have to prove the address first.
    BeforeVerification,
    /// Those who are invited and have no account yet.
    Pending,
}

impl Listed {
    const fn word(self) -> &'static str {
        match self {
            Self::Active => Status::Active.word(),
            Self::Inactive => Status::Inactive.word(),
            Self::BeforeVerification => Status::BeforeVerification.word(),
            Self::Pending => "pending",
        }
    }
}

/// Active or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Status {
    /// May work.
    Active,
    /// Opens nothing.
    Inactive,
    /// Has to prove the address first.
    BeforeVerification,
}

impl Status {
    const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::BeforeVerification => "before-verification",
        }
    }
}

/// What becomes of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sessions {
    /// Those that run go on.
    Keep,
    /// They are stopped.
    Stop,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Which people are listed.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Filters {
    /// Inactive ones too
    #[arg(short, long, conflicts_with = "status")]
    all: bool,
    /// Part of the address
    #[arg(long, value_name = "TEXT")]
    email: Option<String>,
    /// Part of the login name
    #[arg(long, value_name = "TEXT")]
    username: Option<String>,
    /// Part of the description
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// superadmin, domain-admin, monitor or user
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Only with this status
    #[arg(long, value_enum)]
    status: Option<Listed>,
    /// Name or id
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Name or id
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// User policy
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
}

impl Filters {
    fn query(&self) -> String {
        let status = self.status.map(|status| status.word().to_owned());
        let given = [
            ("email", &self.email),
            ("username", &self.username),
            ("description", &self.description),
            ("role", &self.role),
            ("status", &status),
            ("domain", &self.domain),
            ("project", &self.project),
            ("policy", &self.policy),
        ];
        let mut terms: Vec<String> = given
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", encode(value.as_ref()?))))
            .collect();
        if self.all {
            let words = ["active", "inactive", "before-verification"];
            terms.extend(words.map(|word| format!("status={word}")));
        }
        query(&terms)
    }
}

/// The part of an address behind the question mark.
pub(super) fn query(terms: &[String]) -> String {
    match terms {
        [] => String::new(),
        terms => format!("?{}", terms.join("&")),
    }
}

/// What a new person is.
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// Address; it never changes
    email: String,
    /// Login name; absent: the address
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// For people
    #[arg(long, value_name = "NAME")]
    full_name: Option<String>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// superadmin, domain-admin, monitor or user (default)
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
    /// Absent: active
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Let its sessions become root inside
    #[arg(long)]
    sudo: bool,
    /// Read a password from standard input; without it there is none
    #[arg(long)]
    password_stdin: bool,
    /// Weight in fair shares
    #[arg(long, value_name = "N")]
    weight: Option<String>,
}

impl New {
    fn body(self, password: Option<String>) -> Value {
        let mut body = json!({ "email": self.email });
        // Without a project nobody can submit, so the one everybody has is the default.
        body["projects"] = match (self.project.is_empty(), &self.domain) {
            (true, None) => json!(["default"]),
            (true, Some(_)) => json!([]),
            (false, _) => json!(self.project),
        };
        let texts = [
            ("username", self.username),
            ("full_name", self.full_name),
            ("description", self.description),
            ("role", self.role),
            ("domain", self.domain),
            ("user_policy", self.policy),
            ("keypair_policy", self.keypair_policy),
            ("status", self.status.map(|status| status.word().to_owned())),
            ("password", password),
            ("weight", self.weight),
        ];
        put_texts(&mut body, texts);
        if self.sudo {
            body["sudo_enabled"] = json!(true);
        }
        body
    }
}

/// What can be done with people.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them; inactive ones too with --all
    Ls(Filters),
    /// Show one
    Show {
        /// Login name, address or id
        name: String,
    },
    /// Make one with a first keypair, whose secret is shown once
    Create(New),
    /// Change names, description, projects, policy or weight; without flags in $EDITOR
    Edit(Changed),
    /// Switch one on or off
    Status {
        /// Login name, address or id
        name: String,
        /// What it is to be
        #[arg(value_enum)]
        to: Status,
        /// Switch the keypairs off too
        #[arg(long)]
        deactivate_keypairs: bool,
        /// What becomes of its sessions; absent: keep
        #[arg(long, value_enum)]
        sessions: Option<Sessions>,
    },
    /// Give one another role
    Role {
        /// Login name, address or id
        name: String,
        /// superadmin, domain-admin, monitor or user
        role: String,
    },
    /// Move one to another domain; it leaves all projects and groups of the old one
    Move {
        /// Login name, address or id
        name: String,
        /// Name or id
        domain: String,
    },
    /// Say whether new sessions of one let it become root inside
    Sudo {
        /// Login name, address or id
        name: String,
        /// on or off
        #[arg(value_enum)]
        to: Switch,
    },
    /// Give one another user policy
    Policy {
        /// Login name, address or id
        name: String,
        /// The policy
        policy: String,
    },
    /// Ask one to choose a new password
    RequireChange {
        /// Login name, address or id
        name: String,
        /// Ask no longer
        #[arg(long)]
        off: bool,
    },
    /// Make people from a table (CSV); passwords and secrets are shown once
    ///
    /// The first row names the columns, in any order: email, and any of username, full_name,
    /// role, domain, projects, user_policy, keypair_policy, description, sudo_enabled (true or
    /// false). Commas stand between cells, semicolons between several projects; a cell with a
    /// comma in it stands in quotation marks. At most 1000 rows.
    Import {
        /// The file; - is standard input
        file: String,
        /// Make those whose rows are right, not all or nobody
        #[arg(long)]
        partial: bool,
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
        Verb::Ls(filters) => {
            let kind = match filters.status {
                Some(Listed::Pending) => &PENDING,
                _ => &USER,
            };
            ls(app, kind, &filters.query()).await
        }
        Verb::Show { name } => show(app, &USER, &name).await,
        Verb::Create(new) => create(app, new).await,
        Verb::Edit(changed) => {
            let patch = changed.members.patch(USER.slots)?;
            edit(app, &USER, &changed.name, patch).await
        }
        Verb::Status {
            name,
            to,
            deactivate_keypairs,
            sessions,
        } => {
            let mut body = json!({ "status": to.word() });
            if deactivate_keypairs {
                body["deactivate_keypairs"] = json!(true);
            }
            if let Some(sessions) = sessions {
                let stop = sessions == Sessions::Stop;
                body["sessions"] = json!(if stop { "stop" } else { "keep" });
            }
            let keypairs = match (to, deactivate_keypairs) {
                (Status::Active, _) => None,
                (_, true) => Some("would be switched off"),
                (_, false) => Some("would open nothing until its user is active again"),
            };
            part(app, &name, ("status", body), to.word(), keypairs).await
        }
        Verb::Role { name, role } => {
            let body = json!({ "role": role });
            part(app, &name, ("role", body), &role, None).await
        }
        Verb::Move { name, domain } => {
            let body = json!({ "domain": domain });
            let is = format!("in domain {domain} and in no project");
            let keypairs = Some("would be revoked for ever");
            part(app, &name, ("domain", body), &is, keypairs).await
        }
        Verb::Sudo { name, to } => {
            let on = to == Switch::On;
            let what = if on { "with sudo" } else { "without sudo" };
            let body = json!({ "sudo_enabled": on });
            part(app, &name, ("sudo", body), what, None).await
        }
        Verb::Policy { name, policy } => {
            let body = json!({ "user_policy": policy });
            let is = format!("under policy {policy}");
            part(app, &name, ("policy", body), &is, None).await
        }
        Verb::RequireChange { name, off } => {
            let body = json!({ "need_password_change": !off });
            let what = match off {
                true => "not asked to choose a new password",
                false => "asked to choose a new password",
            };
            part(app, &name, ("need-password-change", body), what, None).await
        }
        Verb::Import { file, partial } => import(app, &file, partial).await,
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
                app.output().value(&item)?;
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

/// Puts a part of a person, as it is now. `keypairs`: what it does to them; somebody is asked
/// first then, since the person loses something.
async fn part(
    app: &App,
    name: &str,
    (part, body): (&str, Value),
    is: &str,
    keypairs: Option<&'static str>,
) -> Result<u8, Failure> {
    let client = app.client()?;
    let present = client.get(&USER.of(name)).await?;
    let path = format!("{}/{part}", USER.of(name));
    let write = Write::new(Method::PUT, &path, format!("user {name} is {is}"));
    let write = write.version(tag(&present)).body(&body);
    let item = match keypairs {
        Some(would) => send_asked(app, &client, write.keypairs(would)).await?,
        None => send(app, &client, write).await?,
    };
    object(app, USER.key, &item)?;
    Ok(0)
}

async fn create(app: &App, new: New) -> Result<u8, Failure> {
    let password = match new.password_stdin {
        true => Some(line()?),
        false => None,
    };
    let email = new.email.clone();
    let body = new.body(password);
    let client = app.client()?;
    let what = format!("user {email} is created with a first keypair");
    let write = Write::new(Method::POST, USER.path, what).body(&body);
    let item = send(app, &client, write).await?;
    let name = item.get("username").and_then(Value::as_str);
    say(app, &format!("{} made", name.unwrap_or(&email)));
    secret(app, &item)?;
    let link = item.get("link").and_then(Value::as_str);
    if let Some(link) = link.filter(|_| !app.output().is_json()) {
        print(&format!("link = \"{}\"\n", clean(link)))?;
    }
    Ok(0)
}

/// The first line of standard input: what must not stand on a command line.
pub(super) fn line() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().read_line(&mut text)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// What a command ends with that did a part of what it was asked.
const DONE_IN_PART: u8 = 8;

async fn import(app: &App, file: &str, partial: bool) -> Result<u8, Failure> {
    let read = match file {
        "-" => std::io::read_to_string(std::io::stdin()),
        path => std::fs::read_to_string(path),
    };
    let table = read.map_err(|error| Failure::usage(format!("{file}: {error}")))?;
    let mut terms = Vec::new();
    if partial {
        terms.push("partial=true".to_owned());
    }
    if app.global.dry_run {
        terms.push("dry_run=true".to_owned());
    }
    let path = format!("/api/v1/users/import{}", query(&terms));
    let header = table.lines().next().unwrap_or_default().to_owned();
    let call = Call::new(Method::POST, &path).table(table);
    let answer = app.client()?.call(call).await;
    let answer = answer.map_err(|failure| refused(failure, &header))?;
    if app.output().is_json() {
        app.output().value(&answer)?;
    } else {
        let rows = answer["rows"].as_array().cloned().unwrap_or_default();
        list(app, &ROW, &rows)?;
        for row in &rows {
            for error in row["errors"].as_array().into_iter().flatten() {
                let text = error["message"].as_str().unwrap_or_default();
                eprintln!("row {}: {}", row["row"], clean(text));
            }
        }
        let made = answer["created"].as_u64().unwrap_or_default();
        say(
            app,
            match made {
                0 => "nobody was made",
                _ => "passwords and secret keys are shown only now",
            },
        );
        if app.global.dry_run && !app.global.quiet {
            eprintln!("nothing was changed");
        }
    }
    let refused = answer["refused"].as_u64().unwrap_or_default() > 0;
    Ok(if refused { DONE_IN_PART } else { 0 })
}

/// What is said of a table that is refused as a whole: the messages name rows and columns, so
/// the places of the API say nothing more.
fn refused(mut failure: Failure, header: &str) -> Failure {
    let Some(problem) = &failure.problem else {
        return failure;
    };
    let errors = problem.errors.iter();
    failure.why = errors
        .map(|error| clean(&error.message))
        .filter(|message| *message != failure.text)
        .collect();
    if header.contains(';') && !header.contains(',') {
        return failure.hint("commas stand between cells, semicolons between projects only");
    }
    if failure.hint.is_some() {
        return failure.hint("correct them, or make the others alone with --partial");
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_refused_table_names_rows_once() {
        let problem = |hint: Option<&str>| {
            let problem = json!({ "type": "x", "title": "t", "status": 422, "code": "LS-INVALID",
                "detail": "1 of 2 rows is not right, and nobody was made.", "hint": hint,
                "errors": [{ "pointer": "/2/role", "message": "Row 2: Role is wrong." }],
                "instance": "/", "request_id": "r" });
            Failure::from_problem(serde_json::from_value(problem).unwrap())
        };
        let failure = refused(problem(Some("partial=true")), "email,role");
        assert_eq!(failure.why, ["Row 2: Role is wrong."]);
        assert!(failure.hint.unwrap().ends_with("--partial"));
        assert_eq!(refused(problem(None), "email,role").hint, None);
        let hint = refused(problem(None), "email;role").hint.unwrap();
        assert!(hint.starts_with("commas"), "{hint}");
    }

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        verb: Verb,
    }

    fn parse(line: &str) -> Verb {
        let words = std::iter::once("user").chain(line.split(' '));
        Line::try_parse_from(words).unwrap().verb
    }

    #[test]
    fn filters_become_parameters() {
        let query = |line: &str| match parse(line) {
            Verb::Ls(filters) => filters.query(),
            other => panic!("{other:?}"),
        };
        assert_eq!(query("ls"), "");
        assert_eq!(
            query("ls --email a@b --role user --status before-verification"),
            "?email=a%40b&role=user&status=before-verification"
        );
        assert_eq!(query("ls --status pending"), "?status=pending");
        assert_eq!(
            query("ls -a"),
            "?status=active&status=inactive&status=before-verification"
        );
    }

    #[test]
    fn a_new_person_as_it_is_typed() {
        let body = |line: &str| match parse(line) {
            Verb::Create(new) => new.body(Some("pw".to_owned())),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            body("create a@b --sudo --full-name A --status inactive"),
            json!({ "email": "a@b", "projects": ["default"], "full_name": "A", "sudo_enabled": true,
                "status": "inactive", "password": "pw" })
        );
        assert_eq!(
            body("create a@b --domain lab")["projects"],
            json!([]),
            "the project default is of another domain"
        );
        assert_eq!(
            body("create a@b --domain lab --project x,y")["projects"],
            json!(["x", "y"])
        );
    }
}
