//! `run` and `submit`: one command as a batch session, attached or not.

use crate::app::App;
use crate::client::Client;
use crate::commands::wait;
use crate::describe;
use crate::error::{Failure, code};
use crate::follow::{Got, OnDisconnect, Options, Outcome, Screen, Signals, follow};
use crate::output;
use crate::request::{self, SessionFlags};
use longshore_common::api::{Session, TerminateRequest};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Flags of `run` and `submit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) session: SessionFlags,
    /// Return as soon as the session is accepted, printing its id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// After the end, write state, reason, exit code and times there as JSON
    #[arg(long, value_name = "FILE", conflicts_with = "detach")]
    pub(crate) result_file: Option<PathBuf>,
    /// What a script's signal or a lost terminal does
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) on_disconnect: Option<OnDisconnect>,
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        required_unless_present = "file",
        value_name = "CMD"
    )]
    pub(crate) command: Vec<String>,
}

/// Runs it.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let request = request::build(app, &args.session, "batch", &args.command)?;
    if request.command.is_empty() {
        return Err(
            Failure::usage("there is no command to run").hint("longshore run [FLAGS] -- CMD…")
        );
    }
    let client = app.client()?;
    let mut signals = Signals::new()?;
    let (session, early) = request::submit(app, &client, &request, &mut signals).await?;
    if args.detach {
        return detached(app, &session);
    }
    if session.array.is_some() {
        // Many programs have no one output to follow.
        return array(app, (&client, session), &args, (signals, early)).await;
    }
    let options = Options {
        on_disconnect: args.on_disconnect,
        tail: None,
        deadline: app.deadline(),
        quiet: app.global.quiet,
        view: false,
    };
    let outcome = follow(&client, session, &options, signals, early).await?;
    if let (Some(path), Outcome::Ended(session)) = (&args.result_file, &outcome) {
        write_result(&client, path, session).await?;
    }
    Ok(outcome.exit())
}

/// Waits for the end of an array. A signal leaves it, or stops it where nobody is there to come
/// back.
async fn array(
    app: &App,
    (client, session): (&Client, Session),
    args: &Args,
    (mut signals, early): (Signals, Option<Got>),
) -> Result<u8, Failure> {
    let id = session.id.clone();
    let mut screen = Screen::new(app.global.quiet);
    let status = describe::status(&session, None);
    screen.line(&id, &status.word, &status.text);
    let there = std::io::stdin().is_terminal();
    let stops = match args.on_disconnect {
        Some(what) => what == OnDisconnect::Stop,
        None => !there,
    };
    let deadline = app.deadline().map(tokio::time::Instant::from_std);
    let late = async move {
        match deadline {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    let asked = async {
        if early.is_none() {
            signals.next().await;
        }
    };
    let ended = wait::end(client, &id);
    tokio::select! {
        session = ended => {
            let session = session?;
            let (word, text) = describe::closing(&session);
            screen.line(&id, word, &text);
            if let Some(path) = &args.result_file {
                write_result(client, path, &session).await?;
            }
            return Ok(describe::exit_code(&session));
        }
        () = late => {
            eprintln!("{id} goes on. Back: longshore wait {id}   Stop: longshore stop {id}");
            return Ok(code::ATTACHED_TIMEOUT);
        }
        () = asked => (),
    }
    if !stops {
        eprintln!("{id} goes on. Back: longshore wait {id}   Stop: longshore stop {id}");
        return Ok(0);
    }
    let request = TerminateRequest {
        ids: vec![id.clone()],
        ..TerminateRequest::default()
    };
    client.terminate(&request).await?;
    let session = wait::end(client, &id).await?;
    Ok(describe::exit_code(&session))
}

fn detached(app: &App, session: &Session) -> Result<u8, Failure> {
    let out = app.output();
    if out.is_json() {
        let value = serde_json::to_value(session).map_err(|e| Failure::failed(e.to_string()))?;
        app.output().value(&value)?;
    } else {
        output::print(&format!("{}\n", output::clean(&session.id)))?;
    }
    if !app.global.quiet && !out.is_json() {
        let status = describe::status(session, None);
        eprintln!("{}  {}  {}", session.id, status.word, status.text);
    }
    Ok(0)
}

async fn write_result(client: &Client, path: &Path, session: &Session) -> Result<(), Failure> {
    // Peaks are reported with the end of the container, which may lie behind the end of the output.
    let session = client
        .session(&session.id)
        .await
        .unwrap_or_else(|_| session.clone());
    let text = format!("{:#}\n", result(&session));
    std::fs::write(path, text)
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

fn result(session: &Session) -> Value {
    let devices: Vec<Value> = session
        .containers
        .iter()
        .filter(|container| container.attempt == session.attempt)
        .flat_map(|container| &container.devices)
        .map(|device| json!({"id": device.id, "slot": device.slot, "amount": device.amount, "model": device.model}))
        .collect();
    let peak = session
        .containers
        .iter()
        .filter_map(|c| c.memory_peak_bytes)
        .max();
    let cpu: Option<i64> = session
        .containers
        .iter()
        .filter_map(|c| c.cpu_ms)
        .reduce(i64::saturating_add);
    let mut value = json!({
        "id": session.id, "state": session.state, "reason": session.reason, "detail": session.detail,
        "result": session.result, "exit_code": session.exit_code, "signal": session.signal,
        "cli_exit_code": describe::exit_code(session), "attempt": session.attempt,
        "image": session.image, "image_digest": session.image_digest, "slots": session.slots,
        "agents": session.agent_names, "devices": devices,
        "created_at": session.created_at, "placed_at": session.placed_at,
        "started_at": session.started_at, "ended_at": session.ended_at,
        "memory_peak_bytes": peak, "cpu_ms": cpu,
    });
    // Absent means absent, as in the API.
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, member| !member.is_null());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::tests::session;

    #[test]
    fn results_hold_no_null() {
        let ended = session(json!({"state":"TERMINATED","reason":"user-requested","exit_code":0}));
        let value = result(&ended);
        assert_eq!(
            (&value["cli_exit_code"], &value["exit_code"]),
            (&json!(143), &json!(0))
        );
        assert!(value.get("signal").is_none());
    }
}
