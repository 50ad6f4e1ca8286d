//! `status`: what runs on this machine. Works without the coordinator.

use crate::app::App;
use crate::client::{Call, Client, typed};
use crate::clock;
use crate::error::Failure;
use crate::output::{amounts, clean};
use crate::place::{self, Place};
use crate::process::Program;
use longshore_common::api::{Agent, Readiness, Session, Version};
use reqwest::Method;
use std::path::PathBuf;

/// Flags of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of all data of this installation; absent: as the context says
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Shows it. 1 when something that should run does not.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let place = match place::data_here(app, args.data.as_deref())? {
        Some(data) => Place::open(&data)?,
        None => None,
    };
    place::line("longshore", env!("CARGO_PKG_VERSION"), "");
    let mut well = true;
    if let Some(place) = &place {
        place::line("data", &place.data.display().to_string(), "");
        match &place.record.joined {
            Some(address) => place::line("coordinator", address, "joined"),
            None => well &= service("coordinator", &place.coordinator()),
        }
        if !place.record.no_agent {
            well &= service("agent", &place.agent());
        }
    } else {
        place::line(
            "services",
            "none were started here by longshore up or join",
            "",
        );
    }
    let client = match &place {
        Some(place) if place.record.joined.is_none() => match app.client() {
            Ok(client) => Some(client),
            Err(_) => place.bare_client(app)?,
        },
        _ => app.client().ok(),
    };
    match client {
        Some(client) => well &= coordinator(&client).await,
        None => place::line("connection", "no coordinator is known here", ""),
    }
    Ok(u8::from(!well))
}

fn service(word: &str, program: &Program) -> bool {
    match program.pid() {
        Some(pid) => place::line(
            word,
            &format!(
                "process {}, log {}",
                pid.as_raw_nonzero(),
                program.log.display()
            ),
            "running",
        ),
        None => place::line(
            word,
            &format!("log {}", program.log.display()),
            "not running",
        ),
    }
    program.pid().is_some()
}

/// What the coordinator says; what it does not say is left out.
async fn coordinator(client: &Client) -> bool {
    let ready = client
        .call(Call::new(Method::GET, "/readyz"))
        .await
        .and_then(typed::<Readiness>);
    let ready = match ready {
        Ok(ready) => ready,
        Err(failure) => {
            let why = failure
                .why
                .first()
                .map(|why| format!(": {why}"))
                .unwrap_or_default();
            place::line("connection", &format!("{}{why}", failure.text), "away");
            return false;
        }
    };
    place::line(
        "connection",
        client.address(),
        if ready.ready { "ready" } else { "not ready" },
    );
    for check in ready.checks.iter().filter(|check| !check.ok) {
        place::line("", &format!("{}: {}", check.name, check.detail), "");
    }
    if let Ok(version) = client
        .call(Call::new(Method::GET, "/version"))
        .await
        .and_then(typed::<Version>)
    {
        place::line(
            "version",
            &format!(
                "coordinator {}, API {}, cluster {}",
                version.version, version.api, version.cluster
            ),
            "",
        );
    }
    match client.list("/agents").await {
        Ok(items) => {
            for item in items {
                let Ok(agent) = typed::<Agent>(item) else {
                    continue;
                };
                let heartbeat = agent
                    .last_heartbeat_at
                    .map(|at| format!(", heartbeat {} ago", clock::ago(at)))
                    .unwrap_or_default();
                let text = format!(
                    "{}: {}; version {}{heartbeat}",
                    agent.name,
                    amounts(&agent.capacity),
                    agent.agent_version
                );
                place::line("node", &text, &clean(&agent.state.to_lowercase()));
            }
        }
        Err(failure) => place::line("nodes", &failure.text, ""),
    }
    if let Ok(items) = client.list("/sessions").await {
        let sessions: Vec<Session> = items
            .into_iter()
            .filter_map(|item| typed(item).ok())
            .collect();
        let running = sessions
            .iter()
            .filter(|session| session.state == "RUNNING")
            .count();
        let waiting = sessions
            .iter()
            .filter(|session| session.state == "PENDING")
            .count();
        place::line(
            "sessions",
            &format!(
                "{running} running, {waiting} waiting, {} in all",
                sessions.len()
            ),
            "",
        );
    }
    ready.ready
}
