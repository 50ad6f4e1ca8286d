//! `leave`: this machine is no node any more.

use crate::app::App;
use crate::ask::confirm;
use crate::client::encode;
use crate::commands::prolong::until;
use crate::commands::{down, drain};
use crate::error::{Failure, code};
use crate::place::{self, Place, agent_id};
use crate::values::Instant;
use longshore_common::api::Agent;
use serde_json::json;
use std::path::PathBuf;

/// Flags of `leave`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// When what is left on it is stopped: 18:00, 2026-11-20T21:00:00Z or +2h; absent: never
    #[arg(long, value_name = "WHEN", value_parser = until)]
    deadline: Option<Instant>,
    /// Ask no coordinator: for one that is gone for good
    #[arg(long, conflicts_with = "deadline")]
    unasked: bool,
    /// Directory of this node's data; absent: where `join` put them
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Leaves.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let place = match place::data_here(app, args.data.as_deref())? {
        Some(data) => Place::open(&data)?,
        None => None,
    };
    let Some(place) = place else {
        return Err(Failure::failed("this machine has joined no coordinator").hint("--data DIR"));
    };
    let Some(joined) = place.record.joined.clone() else {
        return Err(Failure::failed("the coordinator itself lies here")
            .hint("longshore down --purge removes all of it"));
    };
    let id = agent_id(&place.data.join("agent/identity.json"));
    if let Some(id) = id.filter(|_| !args.unasked) {
        if !drained(app, &joined, &id, args.deadline).await? {
            return Ok(0);
        }
    } else {
        let what = "The containers of this node are removed, whoever they belong to.";
        confirm(app, what, &[])?;
    }
    down::stop_agent(&place).await?;
    down::purge(app, &place)?;
    Ok(0)
}

/// Empties the node and gives its certificate back, as the coordinator has it; whether that was
/// done, and not only shown.
async fn drained(
    app: &App,
    joined: &str,
    id: &str,
    deadline: Option<Instant>,
) -> Result<bool, Failure> {
    let unasked = "with a coordinator that is gone for good: longshore leave --unasked";
    let client = app.client().map_err(|failure| {
        failure
            .why(format!(
                "leaving {joined} takes somebody who may drain its nodes"
            ))
            .why(unasked)
    })?;
    let path = format!("/agents/{}", encode(id));
    let agent: Agent = match client.get_as(&path).await {
        Ok(agent) => agent,
        // Expelled already, or of another coordinator than the one that is asked.
        Err(failure) if failure.exit == code::NOT_FOUND => {
            return Err(failure
                .why(format!("{} knows no such node", client.address()))
                .hint("longshore --context NAME leave, or longshore leave --unasked"));
        }
        Err(failure) => return Err(failure.why(unasked)),
    };
    let order = drain::Args {
        name: agent.name.clone(),
        deadline,
        moves: deadline.is_some(),
        message: String::new(),
        detach: false,
    };
    drain::begin(app, order).await?;
    if app.global.dry_run {
        return Ok(false);
    }
    if app.output().is_json() || app.global.quiet {
        drain::watch(&client, &agent.name).await?; // `begin` returned at once
    }
    client.post(&format!("{path}/expel"), &json!({})).await?;
    place::line("node", &agent.name, "given back");
    Ok(true)
}
