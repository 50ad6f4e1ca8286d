//! Writes, and what they would do: a rehearsal (`--dry-run`) says it, and so does the question
//! before something is taken away.

use super::{config, policy};
use crate::app::App;
use crate::ask::confirm;
use crate::client::{Call, Client};
use crate::error::Failure;
use crate::output::clean;
use longshore_common::admin::{AccessShift, Difference, Impact, Touched};
use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde_json::Value;

/// A write: the request, and what it does in words for somebody who rehearses it.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    what: String,
    method: Method,
    path: &'a str,
    version: Option<String>,
    body: Option<&'a Value>,
    keypairs: &'static str,
}

impl<'a> Write<'a> {
    /// `what`: in the present tense, such as `preset small is created`.
    pub(crate) fn new(method: Method, path: &'a str, what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            method,
            path,
            version: None,
            body: None,
            keypairs: "would be revoked for ever",
        }
    }

    /// The same where keypairs that it reaches are not revoked: what becomes of them.
    pub(crate) const fn keypairs(mut self, would: &'static str) -> Self {
        self.keypairs = would;
        self
    }

    /// The same with a body.
    pub(crate) const fn body(mut self, body: &'a Value) -> Self {
        self.body = Some(body);
        self
    }

    /// The same for an object as it was read.
    pub(crate) fn version(mut self, tag: Option<String>) -> Self {
        self.version = tag;
        self
    }
}

/// Sends a write; a rehearsal says what it would do and whom it would touch.
pub(crate) async fn send(app: &App, client: &Client, write: Write<'_>) -> Result<Value, Failure> {
    let rehearsed = app.global.dry_run;
    let answer = request(client, &write, rehearsed).await?;
    if rehearsed && !app.global.quiet {
        eprint!("{}", rehearsal_text(&write.what, answer.get("impact")));
    }
    Ok(answer)
}

/// Sends a write that takes something away. It is rehearsed first, so that what is refused is
/// refused before anybody is asked, and the question says what is lost.
pub(crate) async fn send_asked(
    app: &App,
    client: &Client,
    write: Write<'_>,
) -> Result<Value, Failure> {
    ask(app, client, &write, true).await?;
    send(app, client, write).await
}

/// The same for a write that only may take something away: asked is where it does.
pub(crate) async fn send_careful(
    app: &App,
    client: &Client,
    write: Write<'_>,
) -> Result<Value, Failure> {
    ask(app, client, &write, false).await?;
    send(app, client, write).await
}

async fn ask(app: &App, client: &Client, write: &Write<'_>, always: bool) -> Result<(), Failure> {
    if app.global.dry_run || app.global.yes {
        return Ok(());
    }
    let answer = request(client, write, true).await?;
    let lost = losses(write, &answer);
    match always || !lost.is_empty() {
        true => confirm(app, &format!("{}.", write.what), &lost),
        false => Ok(()),
    }
}

/// What it would do to sessions, but for those that could start: nobody loses by that.
fn without_gains(impact: &Impact) -> Impact {
    let mut impact = impact.clone();
    impact.sessions.retain(|session| session.effect != "starts");
    impact.counts.remove("starts");
    impact
}

/// Most lines of a question: somebody has to read them on one screen.
const QUESTION: usize = 20;

/// What a rehearsed write would take away, a line each.
fn losses(write: &Write<'_>, answer: &Value) -> Vec<String> {
    let read = |name: &str| answer.get(name).cloned().unwrap_or_default();
    let impact: Impact = serde_json::from_value(read("impact")).unwrap_or_default();
    let touched: Touched = serde_json::from_value(read("touched")).unwrap_or_default();
    let mut lines = effects(&without_gains(&impact), |_| String::new());
    lines.extend(keypairs_lost(&impact, write.keypairs));
    for (count, one, many) in [
        (touched.logins, "login would end", "logins would end"),
        (
            touched.invitations,
            "invitation would be withdrawn",
            "invitations would be withdrawn",
        ),
    ] {
        match count {
            0 => (),
            1 => lines.push(format!("1 {one}")),
            n => lines.push(format!("{n} {many}")),
        }
    }
    for group in &touched.groups {
        lines.push(format!("membership in group {} would end", clean(group)));
    }
    lines.extend(shift_lines(&impact.loses, "loses", &impact));
    let more = lines.len().saturating_sub(QUESTION);
    if more > 0 {
        lines.truncate(QUESTION);
        lines.push(format!("and {more} more lines, which --dry-run shows"));
    }
    lines
}

/// The keypairs that a write reaches, named as far as the coordinator names them.
fn keypairs_lost(impact: &Impact, would: &str) -> Vec<String> {
    let named = impact.keypairs.iter();
    let mut lines: Vec<String> = named
        .map(|key| format!("keypair {} {would}", clean(key)))
        .collect();
    let all = impact.counts.get("keypairs").copied().unwrap_or_default();
    let more = all.saturating_sub(impact.keypairs.len() as u64);
    if more > 0 {
        lines.push(format!("{more} more keypairs {would}"));
    }
    lines
}

/// Sends a write, or rehearses it, and says nothing.
pub(crate) async fn request(
    client: &Client,
    write: &Write<'_>,
    rehearse: bool,
) -> Result<Value, Failure> {
    let mut path = format!("/api/v1{}", write.path);
    if rehearse {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str("dry_run=true");
    }
    let mut call = Call::new(write.method.clone(), &path);
    if let Some(version) = &write.version {
        call = call.header(IF_MATCH, version);
    }
    if let Some(body) = write.body {
        call = call.body(body.clone());
    }
    client.call(call).await
}

/// How a limit is called that a policy does not have, also when it was given as 0.
pub(super) const NO_LIMIT: &str = "no limit";
/// The first line of everything that a rehearsal says.
pub(crate) const REHEARSED: &str = "nothing was changed; this would happen:";

/// What a rehearsed write would do, for people.
pub(super) fn rehearsal_text(what: &str, impact: Option<&Value>) -> String {
    let mut text = format!("{REHEARSED}\n  {}\n", clean(what));
    let Some(impact) = impact.and_then(|v| serde_json::from_value::<Impact>(v.clone()).ok()) else {
        return text;
    };
    for line in impact.diff.iter().flat_map(difference_lines) {
        text.push_str(&format!("  {line}\n"));
    }
    let concerned = |kind: &str, one: &str, many: &str| {
        let n = impact.counts.get(kind).copied().unwrap_or_default();
        (n > 0).then(|| format!("{n} {}", if n == 1 { one } else { many }))
    };
    let concerned: Vec<String> = [
        concerned("users", "person", "people"),
        concerned("keypairs", "keypair", "keypairs"),
        concerned("sessions", "session", "sessions"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !concerned.is_empty() {
        text.push_str(&format!("  it concerns {}\n", concerned.join(", ")));
    }
    for line in effects(&impact, |_| String::new()) {
        text.push_str(&format!("  {line}\n"));
    }
    for (list, kind) in [(&impact.gains, "gains"), (&impact.loses, "loses")] {
        let lines = shift_lines(list, kind, &impact).into_iter();
        text.extend(lines.map(|line| format!("  {line}\n")));
    }
    text
}

/// Who would gain or lose what, a line each.
fn shift_lines(list: &[AccessShift], kind: &str, impact: &Impact) -> Vec<String> {
    let line = |s: &AccessShift| {
        let (who, name) = (clean(&s.subject_name), clean(&s.name));
        let (of, from, to) = (clean(&s.kind), clean(&s.from), clean(&s.to));
        format!("{who} {kind}: {of} {name} {from} -> {to}")
    };
    let all = impact.counts.get(kind).copied().unwrap_or_default();
    let named = list.len() as u64;
    let more = (all > named).then(|| format!("{} more {kind}", all - named));
    list.iter().map(line).chain(more).collect()
}

/// A member that would differ: what is inside of it where both sides are known, since a
/// whole list of pools hides the one number that changes.
fn difference_lines(difference: &Difference) -> Vec<String> {
    let read = |side: &Option<String>| serde_json::from_str::<Value>(side.as_deref()?).ok();
    if let (Some(from), Some(to)) = (read(&difference.from), read(&difference.to)) {
        let mut lines = Vec::new();
        config::differences(&difference.path, &from, &to, &mut lines);
        return lines;
    }
    let nothing = nothing(&difference.path);
    let side = |side: &Option<String>| clean(side.as_deref().unwrap_or(nothing));
    vec![format!(
        "{}: {} -> {}",
        clean(&difference.path),
        side(&difference.from),
        side(&difference.to)
    )]
}

/// What a member is that is not there.
pub(crate) fn nothing(path: &str) -> &'static str {
    match policy::is_limit(path.trim_start_matches('/')) {
        true => NO_LIMIT,
        false => "nothing",
    }
}

/// What a write would do to sessions: a line for each that is named, and one for the others
/// of each effect. `more` adds what is known of a session.
pub(crate) fn effects(impact: &Impact, more: impl Fn(&str) -> String) -> Vec<String> {
    let would = |effect: &str| match effect {
        "cancelled" => "would be cancelled".to_owned(),
        "waits" => "would have to wait longer".to_owned(),
        "starts" => "would start".to_owned(),
        "earlier" => "would be stopped earlier".to_owned(),
        other => format!("would be {}", clean(other)),
    };
    let touched: Vec<_> = impact
        .sessions
        .iter()
        .filter(|session| session.effect != "kept")
        .collect();
    let mut lines: Vec<String> = touched
        .iter()
        .map(|session| {
            let (id, would) = (clean(&session.id), would(&session.effect));
            format!("{id} {would}{}", more(&session.id))
        })
        .collect();
    // The coordinator names a few hundred and counts them all.
    for effect in ["stopped", "cancelled", "waits", "starts", "earlier"] {
        let all = impact.counts.get(effect).copied().unwrap_or_default();
        let named = touched.iter().filter(|s| s.effect == effect).count() as u64;
        if all > named {
            lines.push(format!("{} more {}", all - named, would(effect)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_question_names_what_is_lost() {
        let answer = json!({ "impact": {
                "counts": { "users": 1, "keypairs": 3, "sessions": 5, "stopped": 1, "cancelled": 1,
                    "earlier": 2 },
                "sessions": [{ "id": "s-2", "effect": "stopped" }, { "id": "s-3", "effect": "cancelled" },
                    { "id": "s-5", "effect": "earlier" }, { "id": "s-4", "effect": "kept" }],
                "keypairs": ["LSA"],
                "loses": [{ "subject": "usr_1", "subject_name": "alice", "type": "project",
                    "id": "prj_1", "name": "vision", "from": "rw", "to": "none" }] },
            "touched": { "keypairs": 3, "sessions": 2, "logins": 1, "invitations": 2,
                "groups": ["team"] } });
        let write =
            Write::new(Method::PUT, "/x", "user alice is inactive").keypairs("would open nothing");
        assert_eq!(
            losses(&write, &answer),
            [
                "s-2 would be stopped",
                "s-3 would be cancelled",
                "s-5 would be stopped earlier",
                "1 more would be stopped earlier",
                "keypair LSA would open nothing",
                "2 more keypairs would open nothing",
                "1 login would end",
                "2 invitations would be withdrawn",
                "membership in group team would end",
                "alice loses: project vision rw -> none",
            ]
        );
        assert_eq!(losses(&write, &Value::Null), [""; 0]);
        let keys: Vec<String> = (0..30).map(|n| format!("LS{n}")).collect();
        let many = json!({ "impact": { "counts": { "keypairs": 30 }, "keypairs": keys } });
        let lines = losses(&write, &many);
        assert_eq!(lines.len(), 21);
        assert!(lines[20].starts_with("and 10 more lines"), "{}", lines[20]);
    }
}
