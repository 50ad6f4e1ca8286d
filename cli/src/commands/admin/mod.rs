//! `admin NOUN VERB`: one file per noun, and what they have in common here.
//!
//! Objects are shown from their JSON, so a member that a newer coordinator adds is shown
//! too. A change reads the object, sends what differs with its version, and says what a
//! stale version means.
//!
//! What is the same for most nouns is here once: the verbs [`There`] and [`Usual`], the words
//! after a verb ([`One`], [`Placed`], [`Members`]), and what each of them does.

pub(crate) mod access;
pub(crate) mod action;
pub(crate) mod announce;
pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod document;
pub(crate) mod export;
pub(crate) mod group;
pub(crate) mod image;
pub(crate) mod invitation;
pub(crate) mod key;
pub(crate) mod policy;
pub(crate) mod pools;
pub(crate) mod preset;
pub(crate) mod queue;
mod rehearsal;
pub(crate) mod service_account;
pub(crate) mod settings;
pub(crate) mod tenant;
pub(crate) mod texts;
pub(crate) mod unclaimed;
pub(crate) mod user;
pub(crate) mod user_group;
pub(crate) mod vault;
pub(crate) mod watchdog;

use crate::app::App;
use crate::client::encode;
use crate::error::{Failure, code};
use crate::output::{Table, amount, clean, print};
use crate::values;
pub(crate) use rehearsal::{
    REHEARSED, Write, effects, nothing, request, send, send_asked, send_careful,
};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// Flags that give members of an object.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Members {
    /// A member: key=value, map/key=value; null takes it away
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    pub(crate) set: Vec<(String, String)>,
    /// An amount of a slot, or the most of it: cuda.device=2, cpu=unlimited
    #[arg(long, value_name = "NAME=AMOUNT", value_parser = values::pair)]
    pub(crate) slot: Vec<(String, String)>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
}

impl Members {
    /// The members as an object; amounts go under `slots`.
    pub(crate) fn object(&self, slots: &str) -> Result<Value, Failure> {
        let mut object = json!({});
        if let Some(text) = &self.description {
            object["description"] = json!(text);
        }
        for (name, text) in &self.slot {
            put(&mut object, &[slots, name], member("slots", text))?;
        }
        for (path, text) in &self.set {
            let parts: Vec<&str> = path.split('/').collect();
            put(&mut object, &parts, member(parts[0], text))?;
        }
        Ok(object)
    }

    /// The members of a new object of this name.
    pub(crate) fn named(&self, slots: &str, name: &str) -> Result<Value, Failure> {
        let mut object = self.object(slots)?;
        object["name"] = json!(name);
        Ok(object)
    }

    /// What is to be changed; nothing when nothing was given.
    pub(crate) fn patch(&self, slots: &str) -> Result<Option<Value>, Failure> {
        let given = self.object(slots)?;
        Ok((given != json!({})).then_some(given))
    }
}

/// Puts texts into an object, those that were given.
pub(crate) fn put_texts<const N: usize>(object: &mut Value, texts: [(&str, Option<String>); N]) {
    for (name, text) in texts {
        if let Some(text) = text {
            object[name] = json!(text);
        }
    }
}

/// One object that is there.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct One {
    /// Its name or id
    pub(crate) name: String,
}

/// One object that is made.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct New {
    /// Its name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) members: Members,
}

/// One object that is changed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Changed {
    /// Its name or id
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) members: Members,
}

/// One object of a domain that is made.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Placed {
    /// Its name
    name: String,
    /// Name or id
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl Placed {
    /// As a body.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({ "name": self.name });
        let texts = [
            ("domain", self.domain.clone()),
            ("description", self.description.clone()),
        ];
        put_texts(&mut body, texts);
        body
    }
}

/// What can be done with all kinds of objects that are there.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum There {
    /// List them
    Ls,
    /// Show one
    Show(One),
    /// Change one; without flags in $EDITOR
    Edit(Changed),
}

/// Does it.
pub(crate) async fn there(app: &App, kind: &Kind, verb: There) -> Result<u8, Failure> {
    match verb {
        There::Ls => ls(app, kind, "").await,
        There::Show(one) => show(app, kind, &one.name).await,
        There::Edit(changed) => {
            edit(app, kind, &changed.name, changed.members.patch(kind.slots)?).await
        }
    }
}

/// What can be done with most kinds of objects.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Usual {
    #[command(flatten)]
    There(There),
    /// Make one
    Create(New),
}

/// Does it.
pub(crate) async fn usual(app: &App, kind: &Kind, verb: Usual) -> Result<u8, Failure> {
    match verb {
        Usual::There(verb) => there(app, kind, verb).await,
        Usual::Create(new) => create(app, kind, &new.members.named(kind.slots, &new.name)?).await,
    }
}

/// A value as it was typed: JSON where it reads as such, text where the member is text.
fn member(name: &str, text: &str) -> Value {
    if text == "null" {
        return Value::Null;
    }
    if texts::is_text(name) {
        return json!(text);
    }
    match serde_json::from_str(text) {
        Ok(value) => value,
        Err(_) => json!(text),
    }
}

fn put(object: &mut Value, path: &[&str], value: Value) -> Result<(), Failure> {
    let wrong = || Failure::usage(format!("{} is not the name of a member", path.join("/")));
    let (last, above) = path.split_last().ok_or_else(wrong)?;
    let mut place = object;
    for name in above {
        let members = place.as_object_mut().ok_or_else(wrong)?;
        place = members.entry(*name).or_insert_with(|| json!({}));
    }
    place
        .as_object_mut()
        .ok_or_else(wrong)?
        .insert((*last).to_owned(), value);
    Ok(())
}

/// A kind of object: where it is, how it is called, which members a list shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// Below `/api/v1`.
    pub(crate) path: &'static str,
    /// For people.
    pub(crate) what: &'static str,
    /// Column and member, as a path into the object.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// The member with which it is named.
    pub(crate) key: &'static str,
    /// The member that `--slot` fills.
    pub(crate) slots: &'static str,
}

impl Kind {
    /// The address of one.
    pub(crate) fn of(&self, name: &str) -> String {
        format!("{}/{}", self.path, encode(name))
    }
}

/// A list, as a table of the kind's columns.
pub(crate) async fn ls(app: &App, kind: &Kind, query: &str) -> Result<u8, Failure> {
    let items = app.list(&format!("{}{query}", kind.path)).await?;
    list(app, kind, &items)
}

/// Prints objects as a table of the kind's columns.
pub(crate) fn list(app: &App, kind: &Kind, items: &[Value]) -> Result<u8, Failure> {
    app.output()
        .list(items, kind.key, || Ok(table(kind, items)))?;
    if items.is_empty() && !app.global.quiet && !app.output().is_json() {
        eprintln!("there is no {}", kind.what);
    }
    Ok(0)
}

fn table(kind: &Kind, items: &[Value]) -> Table {
    let headers: Vec<&'static str> = kind.columns.iter().map(|(header, _)| *header).collect();
    let mut table = Table::new(&headers);
    for item in items {
        let cells = kind.columns.iter().map(|(_, path)| {
            let found = path
                .split('/')
                .try_fold(item, |value, name| value.get(name));
            found.map(|value| cell(path, value)).unwrap_or_default()
        });
        table.row(cells.collect());
    }
    table
}

/// A value as one cell.
fn cell(name: &str, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => amount(name, text),
        Value::Array(list) => list
            .iter()
            .map(|value| match (value.get("id"), value.get("name")) {
                // Of many the names; -o json has the rest.
                (Some(_), Some(Value::String(name))) => clean(name),
                _ => cell("", value),
            })
            .collect::<Vec<_>>()
            .join(", "),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| format!("{} {}", clean(name), cell(name, value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}

/// One object, each member on a line.
pub(crate) async fn show(app: &App, kind: &Kind, name: &str) -> Result<u8, Failure> {
    let item = app.client()?.get(&kind.of(name)).await?;
    shown(app, kind, &item)?;
    Ok(0)
}

/// Prints an object of a kind; a policy says "no limit" where it has none.
fn shown(app: &App, kind: &Kind, item: &Value) -> Result<(), Failure> {
    let limits = policy::limits(kind);
    app.output()
        .object(item, kind.key, || Ok(lines(&without_limits(item, limits))))
}

/// An object that says of which of these members it has none.
fn without_limits(item: &Value, limits: &[&str]) -> Value {
    let mut item = item.clone();
    if let Some(members) = item.as_object_mut() {
        for name in limits {
            let limit = members.entry(*name).or_insert(Value::Null);
            if limit.is_null() {
                *limit = json!(rehearsal::NO_LIMIT);
            }
        }
    }
    item
}

/// Prints one object, each member on a line.
pub(crate) fn object(app: &App, key: &str, item: &Value) -> Result<(), Failure> {
    app.output().object(item, key, || Ok(lines(item)))
}

/// Whether nothing was touched: the counts are all 0.
fn is_nothing(touched: &Value) -> bool {
    let counts = touched.as_object();
    counts.is_some_and(|counts| counts.values().all(|count| *count == 0))
}

fn lines(item: &Value) -> String {
    let Some(members) = item.as_object() else {
        return format!("{item}\n");
    };
    let width = members.keys().map(|k| k.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let named = ["name", "username", "access_key"];
    let first = named.iter().filter_map(|n| members.get_key_value(*n));
    let rest = members
        .iter()
        .filter(|(name, _)| !named.contains(&name.as_str()));
    for (name, value) in first.chain(rest) {
        if name == "impact" || (name == "touched" && is_nothing(value)) {
            continue;
        }
        let line = format!("{:<width$}  {}", clean(name), cell(name, value));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Says something on standard error, unless nobody wants to hear it.
pub(crate) fn say(app: &App, text: &str) {
    if !app.global.quiet && !app.global.dry_run {
        eprintln!("{}", clean(text));
    }
}

/// Makes one and shows it.
pub(crate) async fn create(app: &App, kind: &Kind, body: &Value) -> Result<u8, Failure> {
    let client = app.client()?;
    let name = body[kind.key].as_str().unwrap_or_default();
    let write = Write::new(
        Method::POST,
        kind.path,
        format!("{} {name} is created", kind.what),
    );
    let item = send(app, &client, write.body(body)).await?;
    shown(app, kind, &item)?;
    Ok(0)
}

/// The ETag of an object; kinds without versions have none.
pub(crate) fn tag(item: &Value) -> Option<String> {
    item.get("version")
        .and_then(Value::as_u64)
        .map(|version| format!("\"{version}\""))
}

/// Changes one: by the members that were given, or in an editor.
pub(crate) async fn edit(
    app: &App,
    kind: &Kind,
    name: &str,
    patch: Option<Value>,
) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = kind.of(name);
    let present = client.get(&path).await?;
    let patch = match patch {
        Some(patch) => patch,
        None => {
            let changed = in_editor(&present)?;
            merge_patch(&present, &changed)
        }
    };
    if patch.as_object().is_some_and(Map::is_empty) {
        say(app, "nothing differs");
        return Ok(0);
    }
    let write = Write::new(
        Method::PATCH,
        &path,
        format!("{} {name} is changed", kind.what),
    );
    let write = write.version(tag(&present)).body(&patch);
    let answer = match takes_away(kind, &patch) {
        true => send_careful(app, &client, write).await,
        false => send(app, &client, write).await,
    };
    let item = answer.map_err(|failure| {
        let stale = failure.exit == code::CONFLICT;
        let changed = failure
            .problem
            .as_ref()
            .is_some_and(|p| p.code == "LS-VERSION-STALE");
        if stale && changed {
            failure.why(format!("you asked for {patch}")).hint(
                "somebody else changed it meanwhile: look at it with show, then give the command again",
            )
        } else {
            failure
        }
    })?;
    shown(app, kind, &item)?;
    Ok(0)
}

/// Whether a change may take something away from people: memberships, and what rules give.
fn takes_away(kind: &Kind, patch: &Value) -> bool {
    match kind.path {
        "/users" => patch.get("projects").is_some(),
        "/groups" => patch.get("members").is_some(),
        "/access-rules" => true,
        _ => false,
    }
}

/// Deletes one, as it is now, once somebody who saw what goes with it said so.
pub(crate) async fn rm(app: &App, kind: &Kind, name: &str, query: &str) -> Result<u8, Failure> {
    let client = app.client()?;
    let present = client.get(&kind.of(name)).await?;
    // By its id from here: the name may be another's by the time somebody has answered.
    let path = format!("{}{query}", kind.of(present["id"].as_str().unwrap_or(name)));
    let write = Write::new(
        Method::DELETE,
        &path,
        format!("{} {name} is deleted", kind.what),
    );
    send_asked(app, &client, write.version(tag(&present))).await?;
    say(app, &format!("{} {name} deleted", kind.what));
    Ok(0)
}

/// The members that differ; what is gone is null (RFC 7396).
pub(crate) fn merge_patch(from: &Value, to: &Value) -> Value {
    let (Some(from), Some(to)) = (from.as_object(), to.as_object()) else {
        return to.clone();
    };
    let mut patch = Map::new();
    for (name, value) in to {
        match from.get(name) {
            Some(present) if present == value => (),
            Some(present) if present.is_object() && value.is_object() => {
                patch.insert(name.clone(), merge_patch(present, value));
            }
            _ => drop(patch.insert(name.clone(), value.clone())),
        }
    }
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// Lets somebody change an object in an editor.
pub(crate) fn in_editor(present: &Value) -> Result<Value, Failure> {
    edited(present, &editor()?)
}

fn editor() -> Result<String, Failure> {
    std::env::var("VISUAL")
        .or_else(|_| std::env::var("EDITOR"))
        .map_err(|_| {
            Failure::usage("no editor is set: give the members with --set KEY=VALUE")
                .hint("EDITOR=nano longshore …")
        })
}

/// Lets somebody change a text in an editor, in a file whose name has this ending.
pub(crate) fn text_in_editor(present: &str, ending: &str) -> Result<String, Failure> {
    text_edited(present, ending, &editor()?)
}

/// The same with this editor, a command of the shell.
fn edited(present: &Value, editor: &str) -> Result<Value, Failure> {
    let text = text_edited(&format!("{present:#}\n"), "json", editor)?;
    let mut changed = parse(&text, "what the editor left")?;
    texts::of_object(&mut changed);
    texts::of_config(&mut changed);
    Ok(changed)
}

fn text_edited(present: &str, ending: &str, editor: &str) -> Result<String, Failure> {
    let key = crate::client::random_key()?;
    let path = std::env::temp_dir().join(format!("longshore-{key}.{ending}"));
    // Such directories are everybody's: nobody else reads it or has put a link there.
    let mut new = std::fs::OpenOptions::new();
    let mut file = new.write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(present.as_bytes())?;
    drop(file);
    let done = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("longshore")
        .arg(&path)
        .status();
    let text = std::fs::read_to_string(&path);
    let _ = std::fs::remove_file(&path); // what stays is a copy of what one may read anyway
    if !done?.success() {
        return Err(Failure::failed("the editor failed; nothing was changed"));
    }
    Ok(text?)
}

/// Reads JSON or YAML.
pub(crate) fn parse(text: &str, name: &str) -> Result<Value, Failure> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) => {
            serde_saphyr::from_str(text).map_err(|error| Failure::usage(format!("{name}: {error}")))
        }
    }
}

/// Reads a file of JSON or YAML; `-` is standard input.
pub(crate) fn read(path: &str) -> Result<Value, Failure> {
    let text = if path == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    parse(
        &text.map_err(|error| Failure::usage(format!("{path}: {error}")))?,
        path,
    )
}

/// Prints what was shown once, with a word about that.
pub(crate) fn secret(app: &App, item: &Value) -> Result<(), Failure> {
    let part = |name: &str| item.get(name).and_then(Value::as_str);
    if app.output().is_json() {
        return app.output().value(item);
    }
    let Some((access, secret)) = part("access_key").zip(part("secret_key")) else {
        return Ok(());
    };
    say(app, "the secret key is shown only now");
    print(&format!(
        "access_key = \"{}\"\nsecret_key = \"{}\"\n",
        clean(access),
        clean(secret)
    ))
}

#[cfg(test)]
mod tests {
    use super::rehearsal::rehearsal_text;
    use super::*;

    #[test]
    fn members_as_they_are_typed() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let members = Members {
            set: vec![
                pair("max_priority", "20"),
                pair("active", "false"),
                pair("total_slots/cpu", "4"),
                pair("scheduler", "drf"),
                pair("idle_timeout_s", "null"),
                pair("allowed", "{\"projects\":[\"a\"]}"),
            ],
            slot: vec![pair("cuda.device", "2")],
            description: Some("7".to_owned()),
        };
        assert_eq!(
            members.object("total_slots").unwrap(),
            json!({ "description": "7", "total_slots": { "cuda.device": "2", "cpu": "4" },
                "max_priority": 20, "active": false, "scheduler": "drf", "idle_timeout_s": null,
                "allowed": { "projects": ["a"] } })
        );
    }

    #[test]
    fn what_differs() {
        let from = json!({ "a": 1, "b": { "x": "1", "y": "2" }, "c": 3 });
        let to = json!({ "a": 1, "b": { "x": "1", "y": "3", "z": "4" }, "d": [1] });
        assert_eq!(
            merge_patch(&from, &to),
            json!({ "b": { "y": "3", "z": "4" }, "c": null, "d": [1] })
        );
        assert_eq!(merge_patch(&from, &from), json!({}));
    }

    #[test]
    fn a_policy_says_where_it_has_no_limit() {
        // 0 is stored as absent.
        let stored = json!({ "name": "student", "max_pending_session_count": 5 });
        let limits = ["max_concurrent_sessions", "max_pending_session_count"];
        assert_eq!(
            lines(&without_limits(&stored, &limits)),
            "name                       student\nmax_concurrent_sessions    no limit\n\
             max_pending_session_count  5\n"
        );
        assert_eq!(without_limits(&stored, &[]), stored);
        let impact = json!({ "counts": {}, "sessions": [],
            "diff": [{ "path": "/max_concurrent_sessions", "from": "3" },
            { "path": "/idle_timeout_s", "from": "60" }] });
        let text = rehearsal_text("keypair policy student is changed", Some(&impact));
        assert!(
            text.contains("  /max_concurrent_sessions: 3 -> no limit\n"),
            "{text}"
        );
        assert!(
            text.contains("  /idle_timeout_s: 60 -> nothing\n"),
            "{text}"
        );
    }

    #[test]
    fn an_editor_changes_an_object() {
        let present = json!({ "name": "x", "count": "8", "group": "a" });
        // Without quotes it is a number, and an amount all the same.
        let changed = edited(&present, "sed -i 's/\"8\"/4/'").unwrap();
        assert_eq!(changed, json!({ "name": "x", "count": "4", "group": "a" }));
        assert_eq!(edited(&present, "true").unwrap(), present);
        let private = "test \"$(stat -c %a \"$1\")\" = 600 && true";
        assert_eq!(edited(&present, private).unwrap(), present);
        assert_eq!(edited(&present, "false").unwrap_err().exit, code::FAILED);
        let failure = edited(&present, "sed -i 1d").unwrap_err();
        assert_eq!(failure.exit, code::USAGE);
    }

    #[test]
    fn a_screen() {
        let group = json!({ "name": "team", "members": [
            { "id": "usr_1", "name": "alice", "source": ["manual"] },
            { "id": "usr_2", "name": "bob", "source": ["manual"] }] });
        assert_eq!(lines(&group), "name     team\nmembers  alice, bob\n");
        let touched = json!({ "username": "a", "touched": { "keypairs": 0, "logins": 0 } });
        assert_eq!(lines(&touched), "username  a\n");
        let touched = json!({ "username": "a", "touched": { "keypairs": 1, "logins": 0 } });
        assert!(lines(&touched).contains("keypairs 1"));
        let item = json!({ "name": "student", "total_slots": { "mem": "17179869184", "cuda.device": "2" },
            "root_in_container": false, "used_by": { "active": 2, "inactive": 0 } });
        assert_eq!(
            lines(&item),
            "name               student\nroot_in_container  no\n\
             total_slots        cuda.device 2, mem 16 GB\nused_by            active 2, inactive 0\n"
        );
        let impact = json!({ "counts": { "users": 1, "sessions": 0, "waits": 1, "cancelled": 2 },
            "sessions": [{ "id": "s-1", "effect": "waits" }, { "id": "s-2", "effect": "kept" }],
            "diff": [{ "path": "/x", "from": "1" },
                { "path": "/pools", "from": "[{\"name\":\"A\",\"count\":\"8\"}]", "to": "[{\"name\":\"A\",\"count\":\"4\"}]" }] });
        let text = rehearsal_text("keypair policy student is changed", Some(&impact));
        assert_eq!(
            text,
            "nothing was changed; this would happen:\n  keypair policy student is changed\n\
             \x20 /x: 1 -> nothing\n  /pools/A/count: \"8\" -> \"4\"\n  it concerns 1 person\n  s-1 would have to wait longer\n\
             \x20 2 more would be cancelled\n"
        );
        assert_eq!(
            rehearsal_text("agent a is created", None),
            "nothing was changed; this would happen:\n  agent a is created\n"
        );
    }
}
