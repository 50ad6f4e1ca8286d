//! Devices of a node that a person keeps back, or gives out again.

use super::admin::{DRY_RUN, Match, if_match};
use super::agents::{find, show, stale, tagged};
use super::audit::origin;
use super::errors::Failure;
use super::extract::{self, Query};
use super::{App, person};
use crate::cluster::ClusterError;
use axum::extract::{Path, Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use longshore_common::agent::Health;
use longshore_common::api::CordonRequest;
use longshore_common::ids::{AgentId, DeviceId};
use longshore_core::model::{CordonOrder, Event};

/// A device is given out no more.
pub(super) async fn cordon(
    State(app): State<App>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let user = person(request.extensions())?.caller.user;
    let name = app.engine.read(move |state, _| {
        let user = state.users.get(&user);
        user.map_or_else(|| "user".to_owned(), |u| format!("user {}", u.username))
    });
    let name = name.await?;
    decide(&app, path, request, Some(name)).await
}

/// A person vouches for a device: it is given out again, unless it shows a defect still.
pub(super) async fn uncordon(
    State(app): State<App>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    decide(&app, path, request, None).await
}

async fn decide(
    app: &App,
    (agent, device): (String, String),
    request: Request,
    by: Option<String>,
) -> Result<Response, Failure> {
    let user = person(request.extensions())?.caller.user;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    let dry_run = Query::read(request.uri().query(), &["dry_run"])?.flag("dry_run")?;
    let version = if_match(request.headers(), Match::Optional)?;
    let asked = extract::json::<CordonRequest>(request).await?.value;
    let agent = find(app, &agent).await?;
    let absent = || Failure::not_found("such device");
    let device: DeviceId = device.parse().map_err(|_| absent())?;
    let releases = by.is_none();
    if releases && asked.reason.is_some() {
        let text = "A device is given out again without a reason.";
        return Err(Failure::new("LS-INVALID", text).at("/reason", "Leave it out."));
    }
    let order = CordonOrder {
        agent,
        device: device.clone(),
        dry_run,
        version,
        begin: by.map(|by| (asked.reason.unwrap_or_default(), by)),
    };
    let done = engine.ask(Event::CordonDevice(Box::new(order))).await?;
    if let Err(refusal) = done {
        return Err(stale(refusal, &show(app, user, agent).await?));
    }
    if releases && !dry_run && cordoned_there(app, agent, &device).await? {
        let released = app.nodes.release(agent, device).await;
        released.map_err(|error| not_released(&error))?;
    }
    let mut response = tagged(&show(app, user, agent).await?)?;
    if dry_run {
        let headers = response.headers_mut();
        headers.insert(DRY_RUN, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Whether the node itself keeps a device back. What a person kept back is over by now.
async fn cordoned_there(app: &App, agent: AgentId, device: &DeviceId) -> Result<bool, Failure> {
    let device = device.clone();
    let read = app.engine.read(move |state, _| {
        let node = state.agents.get(&agent);
        let devices = node
            .and_then(|n| n.inventory.as_deref())
            .map(|i| &i.devices);
        let known = devices.and_then(|d| d.iter().find(|d| d.id == device));
        known.is_some_and(|d| d.health == Health::Cordoned)
    });
    Ok(read.await?)
}

fn not_released(error: &ClusterError) -> Failure {
    match error {
        ClusterError::Refused(why) => {
            Failure::new("LS-STATE", format!("The device was not released: {why}."))
        }
        other => {
            let text = format!("Its agent keeps the device back and cannot be told now: {other}.");
            Failure::new("LS-AGENT-UNREACHABLE", text).retry_after(2)
        }
    }
}
