//! Links to choose a new password.

use super::super::audit::origin;
use super::super::errors::Failure;
use super::super::extract::{self, Query};
use super::super::sessions::unexpected;
use super::super::{App, GUARDED};
use super::own;
use crate::engine::{Engine, wall_clock};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use longshore_common::logins::{ResetRequest, ResetWanted};
use longshore_core::model::logins::{LoginEvent, NewLink, ResetByLink, open_link};
use longshore_core::model::{Answer, Event, LinkPurpose};
use longshore_identity::{Secret, token};
use tokio::sync::OwnedSemaphorePermit;

/// For how long a link is good, in milliseconds.
const LINK_MS: i64 = 3_600_000;

/// Always the same answer, and before anything was looked at: neither what it says nor how long
/// it takes tells who has an account.
pub(in super::super) async fn request(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    Query::read(request.uri().query(), &[])?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    let body = extract::json::<ResetWanted>(request).await?.value;
    if app.links.is_mailed() {
        match app.links.room() {
            Some(room) => {
                let work = send_link(app.clone(), engine, body.email, room);
                tokio::spawn(GUARDED.scope((), work));
            }
            None => tracing::warn!("too many ask for a link to choose a password; one gets none"),
        }
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Makes a link for somebody who may have one, and mails it.
async fn send_link(app: App, engine: Engine, email: String, room: OwnedSemaphorePermit) {
    let (token, drawn) = app.links.draw();
    let at = wall_clock();
    let link = NewLink {
        id: drawn.id,
        token_sha256: drawn.token_sha256,
        at,
        expires_at: at.plus_ms(LINK_MS),
    };
    let event = Event::Login(Box::new(LoginEvent::WantReset { email, link }));
    let made = engine.ask_then(event, move |state, _, answer| match answer {
        Ok(_) => state
            .invitations
            .get(&link.id)
            .map(|link| link.email.clone()),
        Err(_) => None,
    });
    match made.await {
        Ok(Some(to)) => {
            let link = app.links.reset(&app.address(), &token);
            app.links.mail_reset(&app.address(), &to, &link);
        }
        Ok(None) => (), // nobody of that address, or enough of them already
        Err(error) => tracing::warn!(%error, "a link to choose a password was not made"),
    }
    drop(room);
}

fn gone() -> Failure {
    Failure::new("LS-LINK-GONE", "This link is no longer valid.")
        .hint("An administrator can give you a new password.")
}

pub(in super::super) async fn choose(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    Query::read(request.uri().query(), &[])?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    let body = extract::json::<ResetRequest>(request).await?.value;
    let token_sha256 = token::link_sha256(body.token.trim()).ok_or_else(gone)?;
    let token_sha256 = *token_sha256.as_bytes();
    let at = wall_clock();
    let of = app
        .engine
        .read(move |state, _| {
            let link = open_link(state, &token_sha256, LinkPurpose::Reset, at)?;
            let user = state.user_of_name(&link.email)?;
            Some((user.email.clone(), user.username.clone()))
        })
        .await?;
    let (email, username) = of.ok_or_else(gone)?;
    own::rules(&body.password, &email, &username, "/password", None)?;
    let permit = app.logins.permit().await?;
    let hash = permit.hash(Secret::new(body.password)).await?;
    let order = ResetByLink {
        token_sha256,
        hash,
        at,
    };
    let event = Event::Login(Box::new(LoginEvent::Reset(order)));
    match engine.ask(event).await? {
        Ok(Answer::Done) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(other) => Err(unexpected(&other)),
        Err(refusal) => Err(refusal.into()),
    }
}
