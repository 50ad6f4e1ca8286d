//! Login, the step with the code, logout, ways to log in.

use super::super::audit::{Noted, origin};
use super::super::errors::Failure;
use super::super::extract::{self, Query};
use super::super::sessions::unexpected;
use super::super::{App, json, person};
use super::challenges::Challenge;
use super::{address, cookies, hash_of, own, prefix, throttled};
use crate::engine::wall_clock;
use crate::identity::{Via, new_id};
use crate::pki::fill_random;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_common::ids::LoginId;
use longshore_common::logins::{Csrf, LoginMethods, LoginRequest, TotpLoginRequest};
use longshore_core::model::logins::{
    Compared, LoginAnswer, LoginEvent, OwnVerb, PasswordTry, counted_as, notices,
};
use longshore_core::model::{Answer, Event};
use longshore_identity::fields::clean;
use longshore_identity::totp::CHALLENGE_MS;
use longshore_identity::{Secret, token};
use serde_json::json as value;

pub(in super::super) async fn methods(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    Query::read(request.uri().query(), &[])?;
    json(&LoginMethods {
        organization: app.settings.now().config.services.organization.name.clone(),
        password: true,
        fixed_users_only: app.logins.fixed.get().is_some(),
        connections: Vec::new(),
    })
}

/// `console` or `cli`.
fn client(given: Option<&str>) -> Result<String, Failure> {
    match given {
        None | Some("cli") => Ok("cli".to_owned()),
        Some("console") => Ok("console".to_owned()),
        Some(_) => {
            let text = "Client must be console or cli.";
            Err(Failure::new("LS-INVALID", text).at("/client", text))
        }
    }
}

pub(in super::super) async fn login(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    Query::read(request.uri().query(), &[])?;
    let (from, prefix) = (address(&request), prefix(&request));
    let asker = app.engine.asked_by(origin(request.extensions())?);
    let body = extract::json::<LoginRequest>(request).await?.value;
    let client = client(body.client.as_deref())?;
    let permit = app.logins.permit().await?;
    let at = wall_clock();
    // Kept while a code is waited for: a name of a megabyte of blanks is not.
    let name = clean(&body.login);
    let asked = name.clone();
    // Asked with leave to hash in hand: no more tries are under way than hashes run.
    let (may, known) = app
        .engine
        .read(move |state, _| {
            let user = state.user_of_name(&asked);
            let key = counted_as(state, &asked);
            let known = user.map(|user| (user.id, hash_of(user)));
            (state.throttle.try_login(key, prefix, at), known)
        })
        .await?;
    let user = known.as_ref().map(|(user, _)| *user);
    if let Err(refused) = may {
        let why = format!("{:?} counter", refused.by).to_lowercase();
        return Ok(Noted { user, why }.on(throttled(refused.retry_after_s)));
    }
    let stored = known.and_then(|(_, hash)| hash);
    let given = Secret::new(body.password);
    let compared = match app.logins.fixed.get() {
        // Others have none that would count: theirs is compared with nobody's.
        Some(fixed) => match (user, permit.fixed(given, fixed.of(user)).await?) {
            (Some(user), true) => Compared::Fixed(user),
            _ => Compared::Wrong,
        },
        None => {
            let (right, rehash) = permit.compare(given, stored.clone()).await?;
            match (user, stored) {
                (Some(user), Some(hash)) if right => Compared::Right { user, hash, rehash },
                _ => Compared::Wrong,
            }
        }
    };
    let order = PasswordTry {
        name,
        prefix,
        from: from.to_string(),
        client,
        compared,
        code: body.totp.map(Secret::new),
        id: LoginId::new(new_id()),
        token_sha256: [0; 32],
        max_password_days: app.logins.ways().max_password_days,
        at,
    };
    enter(&app, &asker, order, None).await
}

pub(in super::super) async fn login_totp(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    Query::read(request.uri().query(), &[])?;
    let (from, prefix) = (address(&request), prefix(&request));
    let asker = app.engine.asked_by(origin(request.extensions())?);
    let body = extract::json::<TotpLoginRequest>(request).await?.value;
    let at = wall_clock();
    let Some(found) = app.logins.challenges.find(&body.challenge, prefix, at) else {
        let failure = Failure::new("LS-TOTP-INVALID", "The code is not valid.")
            .hint("Log in with the password again; a code is waited for at most 5 minutes.");
        let why = "unknown challenge".to_owned();
        return Ok(Noted { user: None, why }.on(failure));
    };
    let order = PasswordTry {
        name: found.name,
        prefix,
        from: from.to_string(),
        client: found.client,
        compared: found.compared,
        code: Some(Secret::new(body.code)),
        id: LoginId::new(new_id()),
        token_sha256: [0; 32],
        max_password_days: app.logins.ways().max_password_days,
        at,
    };
    enter(&app, &asker, order, Some(&body.challenge)).await
}

/// The step in which it is decided.
async fn enter(
    app: &App,
    asker: &crate::engine::Engine,
    mut order: PasswordTry,
    challenge: Option<&str>,
) -> Result<Response, Failure> {
    let secret = token::login(&mut fill_random);
    order.token_sha256 = *secret.sha256().as_bytes();
    let at = order.at;
    let waiting = Challenge {
        user: longshore_common::ids::UserId::new(0),
        name: order.name.clone(),
        prefix: order.prefix,
        client: order.client.clone(),
        compared: order.compared.clone(),
        until: at.plus_ms(CHALLENGE_MS),
    };
    let event = Event::Login(Box::new(LoginEvent::Enter(order)));
    let (told, shown) = asker
        .ask_then(event, |state, _, answer| {
            let shown = match answer {
                Ok(Answer::Login(answer)) => match &**answer {
                    LoginAnswer::In(login) => state
                        .users
                        .get(&login.user)
                        .map(|user| (own::view(state, user, None), notices(user))),
                    _ => None,
                },
                _ => None,
            };
            (answer.clone(), shown)
        })
        .await?;
    let answer = match told {
        Ok(Answer::Login(answer)) => *answer,
        Ok(other) => return Err(unexpected(&other)),
        Err(refusal) => return Err(refusal.into()),
    };
    match answer {
        LoginAnswer::In(login) => {
            if let Some(challenge) = challenge {
                app.logins.challenges.forget(challenge);
            }
            let (user, notices) = shown.ok_or_else(Failure::internal)?;
            let limits = app.identity.limits();
            let expires_at = login.created_at.plus_ms(i64::from(limits.max_age_s) * 1000);
            let mut response = json(&longshore_common::logins::LoginAnswer {
                token: secret.expose().to_owned(),
                expires_at,
                user,
                notices,
            })?;
            if login.client == "console" {
                let seconds = i64::from(limits.max_age_s);
                let cookie = cookies::set(&app.logins.ways().cookies, secret.expose(), seconds);
                let cookie = cookie.ok_or_else(Failure::internal)?;
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            Ok(response)
        }
        LoginAnswer::CodeWanted(user) => {
            let waiting = Challenge { user, ..waiting };
            let until = waiting.until;
            let challenge = app.logins.challenges.keep(waiting, at);
            let text = "The password is right; a code is needed too.";
            Err(Failure::new("LS-TOTP-REQUIRED", text)
                .member("challenge", value!(challenge))
                .member("expires_at", value!(until)))
        }
        LoginAnswer::No {
            refusal,
            user,
            why,
            retry_after_s,
        } => {
            let mut failure = Failure::from(refusal);
            failure.retry_after = retry_after_s;
            Ok(Noted { user, why }.on(failure))
        }
    }
}

pub(in super::super) async fn logout(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let Via::Login(login) = caller.via else {
        return Err(no_login());
    };
    own::order(&app, request, false, |_| OwnVerb::EndLogin(login)).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(cookie) = cookies::set(&app.logins.ways().cookies, "", 0) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

pub(in super::super) async fn csrf(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let Via::Login(login) = caller.via else {
        return Err(no_login());
    };
    let token = app.identity.csrf(login).ok_or_else(Failure::internal)?;
    json(&Csrf { token })
}

fn no_login() -> Failure {
    Failure::new(
        "LS-STATE",
        "This request came by a keypair, not by a login.",
    )
    .hint("A keypair needs neither; it is switched off or revoked instead.")
}
