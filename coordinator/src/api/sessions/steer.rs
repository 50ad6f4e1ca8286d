//! How a session waits and runs: `hold`, `release`, `restart`, and changes of what it was asked
//! with.

use super::super::App;
use super::super::errors::Failure;
use super::super::extract::{self, Ref};
use super::super::views::{self, Detail};
use super::asked::Asked;
use super::{resolve, tagged, unexpected};
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::api::SessionPatch;
use longshore_common::ids::SessionId;
use longshore_core::model::{Answer, Event, Steering};
use std::sync::Arc;

/// A body that says nothing.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// It is not placed until it is released.
pub(in crate::api) async fn hold(
    app: State<App>,
    name: Ref,
    request: Request,
) -> Result<Response, Failure> {
    verb(app, name, request, Steering::Hold).await
}

/// It is held back no longer.
pub(in crate::api) async fn release(
    app: State<App>,
    name: Ref,
    request: Request,
) -> Result<Response, Failure> {
    verb(app, name, request, Steering::Release).await
}

/// It runs anew where it is.
pub(in crate::api) async fn restart(
    app: State<App>,
    name: Ref,
    request: Request,
) -> Result<Response, Failure> {
    verb(app, name, request, Steering::Restart).await
}

async fn verb(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
    what: Steering,
) -> Result<Response, Failure> {
    let asked = Asked::read(&app, &request)?;
    extract::json::<Nothing>(request).await?;
    let id = resolve(&app, &asked.caller, &text).await?;
    steer(&app, &asked, id, what).await
}

/// Changes how it waits.
pub(in crate::api) async fn update(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(&app, &request)?;
    let patch = extract::json::<SessionPatch>(request).await?.value;
    let id = resolve(&app, &asked.caller, &text).await?;
    steer(&app, &asked, id, Steering::Change(patch)).await
}

/// Does it; the session as it is from then on.
async fn steer(
    app: &App,
    asked: &Asked,
    id: SessionId,
    what: Steering,
) -> Result<Response, Failure> {
    let session = match asked.ask(app, id, what, Event::Steer).await? {
        Answer::Steered(session) => session,
        other => return Err(unexpected(&other)),
    };
    let (live, dry_run) = (Arc::clone(&app.engine.live), asked.dry_run);
    let detail = Detail::Whole(asked.caller.caller.user);
    let look = app.engine.consult(move |state, planner, now| {
        // What was released may have its place by now.
        let present = state.sessions.get(&id).filter(|_| !dry_run);
        let session = present.unwrap_or(&session);
        views::session(state, planner, &live, session, now, detail)
    });
    Ok(asked.mark(tagged(&look.await?)?))
}
