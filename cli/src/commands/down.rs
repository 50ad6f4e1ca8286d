//! `down`: stops what `up` started. Sessions go on unless told otherwise.

use crate::app::App;
use crate::client::{Client, typed};
use crate::commands::wait;
use crate::contexts::File;
use crate::error::Failure;
use crate::place::{self, Place};
use crate::process::Program;
use longshore_common::api::{Session, TerminateRequest};
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Both programs write down what they know and end; a full disk may slow that.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Longer than the grace that a session has.
const SESSIONS_LIMIT: Duration = Duration::from_secs(120);

/// Flags of `down`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of all data of this installation; absent: as the context says
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Stop all sessions first
    #[arg(long)]
    stop_sessions: bool,
    /// Remove the data, our containers and networks, and the context
    #[arg(long)]
    purge: bool,
}

/// Stops everything.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let place = match place::data_here(app, args.data.as_deref())? {
        Some(data) => Place::open(&data)?,
        None => None,
    };
    let Some(place) = place else {
        place::line("down", "nothing was started here", "");
        return Ok(0);
    };
    if args.purge {
        confirm(app, &place)?;
    }
    if args.stop_sessions {
        stop_sessions(app, &place).await?;
    }
    // The agent first, so that the coordinator still hears its last words.
    let has_joined = place.record.joined.is_some();
    if args.purge || !has_joined {
        stop_agent(&place).await?;
    } else {
        stop("agent", &place.agent()).await?;
    }
    if !has_joined {
        stop("coordinator", &place.coordinator()).await?;
    }
    if args.purge {
        purge(app, &place)?;
    } else if !args.stop_sessions {
        match &place.record.joined {
            None => eprintln!("sessions go on; longshore up takes them up again"),
            // Its coordinator gives them up after a time, and tries elsewhere what may run again.
            Some(_) => eprintln!(
                "sessions go on until the coordinator gives this node up; longshore join takes them up again"
            ),
        }
    }
    Ok(0)
}

/// Ends the agent, then what watches its lease: nothing is to be frozen because of this.
pub(crate) async fn stop_agent(place: &Place) -> Result<(), Failure> {
    place.guard().stop(STOP_LIMIT).await?;
    stop("agent", &place.agent()).await
}

async fn stop(word: &str, program: &Program) -> Result<(), Failure> {
    let runs = program.pid().is_some();
    if !program.stop(STOP_LIMIT).await? {
        return Err(program.failure(format!(
            "the {word} does not end within {} s",
            STOP_LIMIT.as_secs()
        )));
    }
    place::line(word, "", if runs { "stopped" } else { "was not running" });
    Ok(())
}

fn confirm(app: &App, place: &Place) -> Result<(), Failure> {
    if app.global.yes {
        return Ok(());
    }
    let host = place::host_name();
    if !std::io::stdin().is_terminal() {
        return Err(
            Failure::usage("--purge asks first, and nobody is there to answer")
                .hint("the same with --yes"),
        );
    }
    eprintln!("This removes, and cannot be undone:");
    eprintln!("  all containers and networks of this installation on {host}");
    for part in Place::PARTS {
        let path = place.data.join(part);
        if path.exists() {
            eprintln!("  {}", path.display());
        }
    }
    eprint!("Type the name of this machine ({host}) to go on: ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line.trim() == host {
        Ok(())
    } else {
        Err(Failure::failed("nothing was changed"))
    }
}

/// A client with the keys of this installation's context.
fn own_client(app: &App, place: &Place) -> Result<Client, Failure> {
    let pin = place.pin().map(|pin| pin.to_string());
    let file = app.contexts()?;
    match file
        .context
        .values()
        .find(|context| pin.is_some() && context.ca == pin)
    {
        Some(context) => app.client_of(context),
        None => app.client(),
    }
}

async fn stop_sessions(app: &App, place: &Place) -> Result<(), Failure> {
    let client = own_client(app, place)?;
    let mut ids = Vec::new();
    for item in client.list("/sessions").await? {
        ids.push(typed::<Session>(item)?.id);
    }
    for part in ids.chunks(200) {
        let request = TerminateRequest {
            ids: part.to_vec(),
            ..TerminateRequest::default()
        };
        client.terminate(&request).await?;
    }
    let left = wait::ends(&client, &ids, SESSIONS_LIMIT).await;
    if !left.is_empty() {
        return Err(
            Failure::failed(format!("{} still run: {}", left.len(), left.join(", ")))
                .hint("longshore stop --force, or longshore down without --stop-sessions"),
        );
    }
    place::line("sessions", &ids.len().to_string(), "stopped");
    Ok(())
}

/// Removes the containers, then all that lies in the directory and the context that leads there.
pub(crate) fn purge(app: &App, place: &Place) -> Result<(), Failure> {
    let agent = place.agent();
    if place.is_enrolled() {
        let done = Command::new(&agent.path)
            .arg("purge")
            .args(place::place_arguments(place))
            .output()?;
        if !done.status.success() {
            let mut failure = Failure::failed(format!(
                "containers and networks could not be removed: {}",
                done.status
            ))
            .why("the data stay, because they say which containers are ours");
            for line in String::from_utf8_lossy(&done.stderr).lines().take(8) {
                failure = failure.why(line.to_owned());
            }
            return Err(failure);
        }
        place::line(
            "containers",
            "containers and networks of this installation",
            "removed",
        );
    }
    let pin = place.pin().map(|pin| pin.to_string());
    // Only what `up` made: the directory may be one in which other things lie.
    for part in Place::PARTS {
        let path = place.data.join(part);
        let done = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        match done {
            Ok(()) => (),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
            Err(error) => return Err(Failure::failed(format!("{}: {error}", path.display()))),
        }
    }
    let _ = std::fs::remove_dir(&place.data);
    place::line("data", &place.data.display().to_string(), "removed");
    forget_context(app, place, pin)
}

fn forget_context(app: &App, place: &Place, pin: Option<String>) -> Result<(), Failure> {
    let path = app.contexts_path()?;
    let mut file = File::load(&path)?;
    let before = file.clone();
    file.context.retain(|_, context| {
        let same = pin.is_some() && context.ca == pin || context.data.as_ref() == Some(&place.data);
        !same
    });
    if file
        .current
        .as_ref()
        .is_some_and(|current| !file.context.contains_key(current))
    {
        file.current = file.context.keys().next().cloned();
    }
    if file != before {
        file.store(&path)?;
        place::line("context", &path.display().to_string(), "taken out");
    }
    Ok(())
}
