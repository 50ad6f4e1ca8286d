//! What administrators do about the logins of others.

use super::super::App;
use super::super::errors::Failure;
use super::super::extract::Ref;
use super::super::logins::own::drawn_password;
use super::super::{json, person};
use super::{Match, Nothing, write};
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::logins::NewPassword;
use longshore_core::model::admin::{AccountVerb, AdminVerb};

async fn give(
    app: &App,
    user: String,
    request: Request,
    verb: fn(String) -> AccountVerb,
) -> Result<Response, Failure> {
    let write = write::<Nothing>(request, &[], Match::Optional).await?;
    write
        .order(app, AdminVerb::Account(verb(user)), |_| None)
        .await?;
    Ok(write.gone())
}

pub(in super::super) async fn totp_off(
    State(app): State<App>,
    Ref(user): Ref,
    request: Request,
) -> Result<Response, Failure> {
    give(&app, user, request, AccountVerb::TotpOff).await
}

pub(in super::super) async fn unblock(
    State(app): State<App>,
    Ref(user): Ref,
    request: Request,
) -> Result<Response, Failure> {
    give(&app, user, request, AccountVerb::Unblock).await
}

pub(in super::super) async fn end_logins(
    State(app): State<App>,
    Ref(user): Ref,
    request: Request,
) -> Result<Response, Failure> {
    give(&app, user, request, AccountVerb::EndLogins).await
}

pub(in super::super) async fn reset_password(
    State(app): State<App>,
    Ref(user): Ref,
    request: Request,
) -> Result<Response, Failure> {
    person(request.extensions())?;
    let write = write::<Nothing>(request, &[], Match::Optional).await?;
    let new = drawn_password();
    let permit = app.logins.permit().await?;
    let hash = permit.hash(new.clone()).await?;
    let verb = AccountVerb::ResetPassword { user, hash };
    write
        .order(&app, AdminVerb::Account(verb), |_| None)
        .await?;
    // A rehearsal stores nothing, so its password opens nothing.
    let password = Some(new.expose().to_owned()).filter(|_| !write.dry_run);
    let mut response = json(&NewPassword { password })?;
    write.mark(&mut response);
    Ok(response)
}
