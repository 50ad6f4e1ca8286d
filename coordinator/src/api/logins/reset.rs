//! Links to choose a new password.

use super::super::App;
use super::super::audit::origin;
use super::super::errors::Failure;
use super::super::extract::{self, Query};
use super::super::sessions::unexpected;
use super::own;
use crate::engine::wall_clock;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use longshore_common::logins::{ResetRequest, ResetWanted};
use longshore_core::model::logins::{LoginEvent, ResetByLink, open_link};
use longshore_core::model::{Answer, Event, LinkPurpose};
use longshore_identity::{Secret, token};

/// Always the same answer, so that nobody learns who has an account. There is no mail yet, so
/// nothing is sent.
pub(in super::super) async fn request(request: Request) -> Result<Response, Failure> {
    Query::read(request.uri().query(), &[])?;
    extract::json::<ResetWanted>(request).await?;
    Ok(StatusCode::ACCEPTED.into_response())
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
    let permit = app.logins.hashing.permit().await?;
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
