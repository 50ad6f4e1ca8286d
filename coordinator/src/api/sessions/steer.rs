//! How a session waits and runs: `hold`, `release`, `restart`, and changes of what it was asked
//! with.

use super::super::admin::{DRY_RUN, Match, if_match};
use super::super::audit::origin;
use super::super::errors::Failure;
use super::super::extract::{self, Query, Ref};
use super::super::views::{self, Detail};
use super::super::{App, person};
use super::{resolve, show, tagged, unexpected};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use longshore_common::api::SessionPatch;
use longshore_common::ids::SessionId;
use longshore_core::model::{Answer, Event, Session, Steer, Steering};
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
    asked.answer(&app, id, what).await
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
    asked.answer(&app, id, Steering::Change(patch)).await
}

/// What all have in common.
struct Asked {
    caller: crate::identity::Person,
    engine: crate::engine::Engine,
    version: Option<u64>,
    dry_run: bool,
}

impl Asked {
    fn read(app: &App, request: &Request) -> Result<Self, Failure> {
        let headers: &HeaderMap = request.headers();
        Ok(Self {
            caller: person(request.extensions())?,
            engine: app.engine.asked_by(origin(request.extensions())?),
            version: if_match(headers, Match::Optional)?,
            dry_run: Query::read(request.uri().query(), &["dry_run"])?.flag("dry_run")?,
        })
    }

    /// Does it; the session as it is from then on.
    async fn answer(&self, app: &App, id: SessionId, what: Steering) -> Result<Response, Failure> {
        let order = |past: Option<Box<Session>>| {
            let order = Steer {
                caller: self.caller.caller.clone(),
                called: Some(self.caller.called()),
                session: id,
                past,
                version: self.version,
                dry_run: self.dry_run,
                what: what.clone(),
            };
            self.engine.ask(Event::Steer(Box::new(order)))
        };
        let mut told = order(None).await?;
        // Memory forgets what is over and done; the store remembers.
        if told.as_ref().is_err_and(|no| no.code == "LS-NOT-FOUND")
            && let Some(past) = app.reader.session(id).await?
        {
            told = order(Some(Box::new(past))).await?;
        }
        let session = match told {
            Ok(Answer::Steered(session)) => session,
            Ok(other) => return Err(unexpected(&other)),
            Err(refusal) if refusal.code == "LS-VERSION-STALE" => {
                let failure = Failure::from(refusal);
                let current = show(app, &self.caller, id).await?;
                let current = current.and_then(|shown| serde_json::to_value(shown).ok());
                return Err(match current {
                    Some(current) => failure.current(current),
                    None => failure,
                });
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let (live, dry_run) = (Arc::clone(&app.engine.live), self.dry_run);
        let detail = Detail::Whole(self.caller.caller.user);
        let look = app.engine.consult(move |state, planner, now| {
            // What was released may have its place by now.
            let present = state.sessions.get(&id).filter(|_| !dry_run);
            views::session(
                state,
                planner,
                &live,
                present.unwrap_or(&session),
                now,
                detail,
            )
        });
        let mut response = tagged(&look.await?)?;
        if self.dry_run {
            let headers = response.headers_mut();
            headers.insert(DRY_RUN, HeaderValue::from_static("true"));
        }
        Ok(response)
    }
}
