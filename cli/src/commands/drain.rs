//! `node drain` and `node undrain`: emptying a node.

use super::prolong::until;
use crate::app::App;
use crate::ask::confirm;
use crate::client::{Call, Client, encode, typed};
use crate::clock;
use crate::error::Failure;
use crate::output::clean;
use crate::values::Instant;
use longshore_common::api::{Agent, DrainRequest, DrainedSession};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// A node is asked how far it is this often.
const LOOK: Duration = Duration::from_secs(2);

/// Flags of `drain`; `leave` gives them too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name or id
    pub(crate) name: String,
    /// When what is left is stopped: 18:00, 2026-11-20T21:00:00Z or +2h; absent: never
    #[arg(long, value_name = "WHEN", value_parser = until)]
    pub(crate) deadline: Option<Instant>,
    /// What may be tried again waits for another place at the deadline instead of ending
    #[arg(long = "move", requires = "deadline")]
    pub(crate) moves: bool,
    /// For the people whose sessions are there
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) message: String,
    /// Return at once instead of showing how far it is
    #[arg(long)]
    pub(crate) detach: bool,
}

/// Empties it.
pub(crate) async fn begin(app: &App, args: Args) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = format!("/api/v1/agents/{}/drain", encode(&args.name));
    let request = DrainRequest {
        deadline_at: args.deadline.map(|at| at.since(clock::now())),
        mode: args.moves.then(|| "move".to_owned()),
        message: Some(args.message.clone()).filter(|text| !text.is_empty()),
    };
    let seen = put(&client, &format!("{path}?dry_run=true"), &request).await?;
    let lines = preview(&typed(seen.clone())?, &request);
    if app.global.dry_run {
        if app.output().is_json() {
            app.output().value(&seen)?;
        } else {
            lines.iter().for_each(|line| eprintln!("{line}"));
        }
        return Ok(0);
    }
    confirm(app, &lines.join("\n"), &[])?;
    let done = put(&client, &path, &request).await?;
    if app.output().is_json() {
        app.output().value(&done)?;
        return Ok(0);
    }
    let name = clean(&args.name);
    if args.detach || app.global.quiet {
        return Ok(0);
    }
    watch(&client, &args.name).await?;
    eprintln!("{name} is empty   take new work again: longshore node undrain {name}");
    Ok(0)
}

/// It need not be empty any more.
pub(crate) async fn end(app: &App, name: &str) -> Result<u8, Failure> {
    let client = app.client()?;
    let rehearsed = match app.global.dry_run {
        true => "?dry_run=true",
        false => "",
    };
    let path = format!("/api/v1/agents/{}/drain{rehearsed}", encode(name));
    let answer = client.call(Call::new(Method::DELETE, &path)).await?;
    let agent: Agent = typed(answer.clone())?;
    if app.output().is_json() {
        app.output().value(&answer)?;
    } else if !app.global.quiet {
        let takes = match agent.schedulable {
            true => "takes new sessions",
            false => "takes no new sessions, as before",
        };
        eprintln!("{} {takes}", clean(&agent.name));
    }
    Ok(0)
}

async fn put(client: &Client, path: &str, request: &DrainRequest) -> Result<Value, Failure> {
    let body = json!(request);
    client.call(Call::new(Method::PUT, path).body(body)).await
}

/// What becomes of the sessions on it, before it is asked for.
fn preview(agent: &Agent, request: &DrainRequest) -> Vec<String> {
    let name = clean(&agent.name);
    let all = &agent.leaving;
    let mut lines = Vec::new();
    let told = |session: &DrainedSession| {
        let end = session.ends_at.zip(session.ends_by.as_deref());
        end.map(|(at, by)| format!("{} ends {} by {by}", clean(&session.id), clock::short(at)))
    };
    let ends: Vec<String> = all.iter().filter_map(told).collect();
    let of = |effect: bool| -> Vec<String> {
        let open = all.iter().filter(|s| s.ends_at.is_none());
        let open = open.filter(|s| (s.effect == "moved") == effect);
        open.map(|s| clean(&s.id)).collect()
    };
    let (open, moved) = (of(false), of(true));
    lines.push(match all.len() {
        0 => format!("{name} has no sessions."),
        1 => format!("{name} has 1 session."),
        n => format!("{name} has {n} sessions."),
    });
    lines.extend(ends);
    if let Some(at) = request.deadline_at.filter(|_| !moved.is_empty()) {
        let (ids, at) = (moved.join(", "), clock::short(at));
        lines.push(format!(
            "{ids} may be tried again: at {at} they wait for another place."
        ));
    }
    match request.deadline_at {
        Some(at) if !open.is_empty() => {
            let at = clock::short(at);
            lines.push(format!("{} have no end before {at}.", open.join(", ")));
            lines.push(format!(
                "No new sessions from now. Their owners are told. At {at} they are stopped with 30 s grace."
            ));
        }
        Some(_) => lines.push("No new sessions from now.".to_owned()),
        None => lines.push(
            "No new sessions from now. Without --deadline nothing is stopped: it is empty once all have ended."
                .to_owned(),
        ),
    }
    lines
}

/// Shows how far it is until it is empty. Ctrl-C leaves this view only.
pub(crate) async fn watch(client: &Client, name: &str) -> Result<(), Failure> {
    let path = format!("/agents/{}", encode(name));
    let mut told = String::new();
    loop {
        let agent: Agent = client.get_as(&path).await?;
        let Some(drain) = &agent.drain else {
            return Err(Failure::failed(format!(
                "{} is not emptied any more",
                clean(name)
            )));
        };
        if drain.empty {
            return Ok(());
        }
        let gone = drain.sessions_before.saturating_sub(drain.sessions_left);
        let line = format!(
            "draining  {gone} of {} gone      (Ctrl-C leaves this view only; undo: longshore node undrain {})",
            drain.sessions_before,
            clean(name)
        );
        if line != told {
            eprintln!("{line}");
            told = line;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preview_says_who_is_stopped() {
        let agent: Agent = serde_json::from_value(json!({
            "id": "agt_x", "version": 2, "name": "gpu01", "group": "rgp_x", "group_name": "default",
            "state": "ALIVE", "connected": true, "schedulable": true,
            "capacity": {}, "occupied": {}, "containers": 3, "created_at": "2026-11-20T21:05:03Z",
            "leaving": [
                { "id": "s-39", "owner_name": "dana", "effect": "kept",
                  "ends_at": clock::now(), "ends_by": "lifetime" },
                { "id": "s-40", "owner_name": "eve", "effect": "moved" },
                { "id": "s-41", "owner_name": "bob", "effect": "stopped" },
                { "id": "s-44", "owner_name": "bob", "effect": "stopped" }]
        }))
        .unwrap();
        let mut request = DrainRequest {
            deadline_at: Some(clock::now().plus_s(3600)),
            ..DrainRequest::default()
        };
        let lines = preview(&agent, &request);
        assert_eq!(lines[0], "gpu01 has 4 sessions.");
        assert!(lines[1].starts_with("s-39 ends ") && lines[1].ends_with(" by lifetime"));
        assert!(
            lines[2].starts_with("s-40 may be tried again: "),
            "{lines:?}"
        );
        assert!(
            lines[3].starts_with("s-41, s-44 have no end before "),
            "{lines:?}"
        );
        assert!(lines[4].contains("stopped with 30 s grace"), "{lines:?}");
        request.deadline_at = None;
        assert!(preview(&agent, &request)[2].contains("nothing is stopped"));
    }
}
