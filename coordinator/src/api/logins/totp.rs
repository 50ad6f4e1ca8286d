//! The second factor of the caller.

use super::super::errors::Failure;
use super::super::extract;
use super::super::{App, json};
use super::own::Own;
use crate::engine::wall_clock;
use crate::pki::fill_random;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use longshore_common::logins::{
    CodeRequest, PasswordProof, RecoveryCodes, TotpOffRequest, TotpOffer,
};
use longshore_core::model::logins::OwnVerb;
use longshore_identity::Secret;
use longshore_identity::totp::{PENDING_MS, TotpSecret, qr_svg, recovery_codes};

fn no_password() -> Failure {
    let text = "Set a password first: codes are asked for with a password only.";
    Failure::new("LS-STATE", text)
}

pub(in super::super) async fn offer(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let own = Own::read(&app, &request, true)?;
    let body = extract::json::<PasswordProof>(request).await?.value;
    let compared = own.prove(&app, Some(&body.password), "/password").await?;
    let compared = compared.ok_or_else(no_password)?;
    // Nothing that cannot be stored is shown.
    app.secrets.keyring().present()?;
    let secret = TotpSecret::generate(&mut fill_random);
    let expires_at = wall_clock().plus_ms(PENDING_MS);
    own.order(OwnVerb::OfferTotp {
        compared,
        secret: *secret.as_bytes(),
    })
    .await?;
    let uri = secret.uri(&app.logins.ways().issuer, &own.caller().email);
    let answer = json(&TotpOffer {
        secret: secret.base32().expose().to_owned(),
        qr_svg: qr_svg(&uri).ok_or_else(Failure::internal)?,
        uri: uri.expose().to_owned(),
        expires_at,
    })?;
    Ok(own.mark(answer))
}

pub(in super::super) async fn activate(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let own = Own::read(&app, &request, true)?;
    let body = extract::json::<CodeRequest>(request).await?.value;
    let (shown, stored) = recovery_codes(&mut fill_random);
    own.order(OwnVerb::ActivateTotp {
        code: Secret::new(body.code),
        recovery: stored.iter().map(|hash| *hash.as_bytes()).collect(),
    })
    .await?;
    // A rehearsal stores none, so what it would show opens nothing.
    let shown = shown.iter().filter(|_| !own.is_rehearsal());
    let recovery_codes = shown.map(|code| code.expose().to_owned()).collect();
    Ok(own.mark(json(&RecoveryCodes { recovery_codes })?))
}

pub(in super::super) async fn off(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let own = Own::read(&app, &request, true)?;
    let body = extract::json::<TotpOffRequest>(request).await?.value;
    let compared = own.prove(&app, Some(&body.password), "/password").await?;
    own.order(OwnVerb::TotpOff {
        compared: compared.ok_or_else(no_password)?,
        code: Secret::new(body.code),
    })
    .await?;
    Ok(own.mark(StatusCode::NO_CONTENT.into_response()))
}
