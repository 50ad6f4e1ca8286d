//! What an invitation is about, and accepting it. Whoever has no token learns nothing, whether
//! an address has an account neither.

use super::super::audit::origin;
use super::super::errors::Failure;
use super::super::extract::{self, Query};
use super::super::sessions::unexpected;
use super::super::{App, json};
use super::own::{DRY_RUN, rules};
use crate::identity::{Person, new_id, new_keypair};
use crate::pki::sha256;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use longshore_common::admin::{AcceptRequest, AcceptedAnswer, InvitationLookup, InvitedTo, Member};
use longshore_common::ids::UserId;
use longshore_core::model::admin::{
    Accept, AdminObject, Chosen, NewPassword, NewUserSecrets, find_link, invitation_view,
    invited_by_name,
};
use longshore_core::model::logins::LoginEvent;
use longshore_core::model::{Answer, Event, LinkPurpose, State as Model};
use longshore_identity::{Secret, fields, token};

fn gone() -> Failure {
    Failure::new("LS-INVITATION-GONE", "This invitation is no longer valid.")
}

/// The stored form of the token of a request.
fn stored(token: &str) -> Result<[u8; 32], Failure> {
    let sha256 = token::link_sha256(token.trim()).ok_or_else(gone)?;
    Ok(*sha256.as_bytes())
}

/// Whether an address has an account, told to who has the token of its link.
fn has_account(state: &Model, email: &str) -> bool {
    let user = state.user_of_name(email);
    user.is_some_and(|user| user.service.is_none() && user.email.eq_ignore_ascii_case(email))
}

pub(in super::super) async fn lookup(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    Query::read(request.uri().query(), &[])?;
    let body = extract::json::<InvitationLookup>(request).await?.value;
    let sha256 = stored(&body.token)?;
    let look = move |state: &Model, now| {
        let link = find_link(state, &sha256, now)?;
        let view = invitation_view(state, link, now);
        let kind = match link.purpose {
            LinkPurpose::Verification => "verification",
            _ if link.user.is_some() || has_account(state, &link.email) => "join",
            _ => "new-user",
        };
        Some(InvitedTo {
            kind: kind.to_owned(),
            email: view.email,
            domain_name: view.domain_name,
            projects: view.projects,
            invited_by: invited_by_name(state, link),
            expires_at: view.expires_at,
        })
    };
    json(&app.engine.read(look).await?.ok_or_else(gone)?)
}

/// Whose password is to be set by a link, and the instant at which the link was looked at.
struct Account {
    email: String,
    /// Login name of who has one already.
    username: Option<String>,
    at: longshore_common::time::Timestamp,
}

/// The password of a request, hashed if it keeps the rules. Nothing is hashed for who has no
/// good token.
async fn password(
    app: &App,
    account: &Account,
    body: &AcceptRequest,
    dry_run: bool,
) -> Result<Option<NewPassword>, Failure> {
    let Member::Value(text) = &body.password else {
        return Ok(None);
    };
    let text = Secret::new(text.clone());
    let chosen = body.username.value().map(|name| fields::clean(name));
    let username = account.username.clone().or(chosen);
    let username = username.unwrap_or_else(|| account.email.clone());
    let is_good = rules(text.expose(), &account.email, &username, "/password", None).is_ok();
    let phc = match is_good && !dry_run {
        true => app.logins.permit().await?.hash(text.clone()).await?,
        false => String::new(), // the core says what is wrong, with the rest
    };
    Ok(Some(NewPassword { text, phc }))
}

pub(in super::super) async fn accept(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let query = Query::read(request.uri().query(), &["dry_run"])?;
    let dry_run = query.flag("dry_run")?;
    let caller = request.extensions().get::<Person>().map(|person| person.id);
    let engine = app.engine.asked_by(origin(request.extensions())?);
    let body = extract::json::<AcceptRequest>(request).await?.value;
    let token_sha256 = stored(&body.token)?;
    let look = move |state: &Model, at| {
        let link = find_link(state, &token_sha256, at)?;
        let user = link.user.and_then(|id| state.users.get(&id));
        Some(Account {
            email: link.email.clone(),
            username: user.map(|user| user.username.clone()),
            at,
        })
    };
    let account = app.engine.read(look).await?.ok_or_else(gone)?;
    let password = password(&app, &account, &body, dry_run).await?;
    let (access_key, secret) = new_keypair();
    let secret = Secret::new(secret);
    let order = Accept {
        token_sha256,
        caller,
        dry_run,
        secrets: NewUserSecrets {
            id: UserId::new(new_id()),
            access_key,
            secret_sha256: sha256(secret.expose().as_bytes()),
        },
        chosen: Chosen {
            password_is_wrong: matches!(body.password, Member::Wrong(_)),
            username: body.username,
            full_name: body.full_name,
            password,
        },
        at: account.at,
    };
    let event = Event::Login(Box::new(LoginEvent::Accept(Box::new(order))));
    let answer = match engine.ask(event).await? {
        Ok(Answer::Admin(answer)) => *answer,
        Ok(other) => return Err(unexpected(&other)),
        Err(refusal) => return Err(refusal.into()),
    };
    let AdminObject::User(user, key) = answer.object else {
        return Err(Failure::internal());
    };
    let access_key = key.map(|key| key.access_key);
    // A rehearsal makes nothing, so its secret opens nothing.
    let shown = access_key.clone().filter(|_| !dry_run);
    let mut response = json(&AcceptedAnswer {
        user: *user,
        snippet: shown
            .as_ref()
            .map(|key| token::snippet(&app.api_address(), key, &secret)),
        secret_key: shown.map(|_| secret.expose().to_owned()),
        access_key,
    })?;
    if dry_run {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert(DRY_RUN, yes);
    }
    Ok(response)
}
