//! Emptying a node: the order, and how far it is.

use super::admin::{DRY_RUN, Match, if_match};
use super::agents::{find, show, stale, tagged};
use super::audit::origin;
use super::errors::Failure;
use super::extract::{self, Query, Ref};
use super::{App, person};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use longshore_common::api::{DrainRequest, DrainedSession};
use longshore_common::ids::AgentId;
use longshore_common::time::Timestamp;
use longshore_core::model::{self, DrainOrder, Event, NewDrain, may_move, sessions_on};

/// Sessions that an answer names.
const MOST: usize = 200;

/// A node is to be empty.
pub(super) async fn begin(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    let dry_run = Query::read(request.uri().query(), &["dry_run"])?.flag("dry_run")?;
    let version = if_match(request.headers(), Match::Optional)?;
    let order = extract::json::<DrainRequest>(request).await?.value;
    let moves = match order.mode.as_deref() {
        None | Some("wait") => false,
        Some("move") => true,
        Some(_) => {
            let text = "mode must be wait or move.";
            return Err(Failure::new("LS-INVALID", text).at("/mode", text));
        }
    };
    let agent = find(&app, &text).await?;
    let user = caller.caller.user;
    let name = app.engine.read(move |state, _| {
        let user = state.users.get(&user);
        user.map_or_else(|| "user".to_owned(), |u| format!("user {}", u.username))
    });
    let new = NewDrain {
        deadline: order.deadline_at,
        message: order.message.unwrap_or_default(),
        by: name.await?,
        moves,
    };
    let event = DrainOrder {
        agent,
        dry_run,
        version,
        begin: Some(new),
    };
    let done = engine.ask(Event::Drain(Box::new(event))).await?;
    let mut present = show(&app, user, agent).await?;
    if let Err(refusal) = done {
        return Err(stale(refusal, &present));
    }
    present.leaving = leaving(&app, agent, (order.deadline_at, moves)).await?;
    let mut response = tagged(&present)?;
    if dry_run {
        let headers = response.headers_mut();
        headers.insert(DRY_RUN, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// It need not be empty any more.
pub(super) async fn end(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    let dry_run = Query::read(request.uri().query(), &["dry_run"])?.flag("dry_run")?;
    let version = if_match(request.headers(), Match::Optional)?;
    let agent = find(&app, &text).await?;
    let event = DrainOrder {
        agent,
        dry_run,
        version,
        begin: None,
    };
    let done = engine.ask(Event::Drain(Box::new(event))).await?;
    let present = show(&app, caller.caller.user, agent).await?;
    match done {
        Ok(_) => {
            let mut response = tagged(&present)?;
            if dry_run {
                let headers = response.headers_mut();
                headers.insert(DRY_RUN, HeaderValue::from_static("true"));
            }
            Ok(response)
        }
        Err(refusal) => Err(stale(refusal, &present)),
    }
}

/// What becomes of the sessions on a node that has to be empty at an instant: those that a
/// limit ends before leave by themselves.
async fn leaving(
    app: &App,
    agent: AgentId,
    (deadline, moves): (Option<Timestamp>, bool),
) -> Result<Vec<DrainedSession>, Failure> {
    let live = std::sync::Arc::clone(&app.engine.live);
    let look = move |state: &model::State, _| {
        let all = sessions_on(state, agent).into_iter().take(MOST);
        all.map(|session| {
            let own = super::views::own_limit(session, &live);
            let before = own.filter(|(at, _)| deadline.is_none_or(|end| *at <= end));
            DrainedSession {
                id: session.id.to_string(),
                owner_name: session.owner_name.clone(),
                effect: match (before, deadline) {
                    (None, Some(_)) if moves && may_move(session) => "moved",
                    (None, Some(_)) => "stopped",
                    _ => "kept",
                }
                .to_owned(),
                ends_at: before.map(|(at, _)| at),
                ends_by: before.map(|(_, cause)| cause.to_owned()),
            }
        })
        .collect()
    };
    Ok(app.engine.read(look).await?)
}
