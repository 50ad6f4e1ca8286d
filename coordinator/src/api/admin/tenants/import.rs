//! People from a table.

use super::super::super::App;
use super::super::super::errors::Failure;
use super::super::super::extract::{self, Query};
use super::super::super::person;
use super::super::{Match, Nothing, Write, if_match, other_kind, value_of};
use crate::api::audit::origin;
use crate::identity::{new_id, new_keypair};
use crate::pki::{fill_random, sha256};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use longshore_common::ids::UserId;
use longshore_core::model::admin::{
    AdminObject, AdminVerb, ImportRow, NewUserSecrets, file_refusal,
};
use longshore_identity::password::HashError;
use longshore_identity::{Secret, csv, password};
use std::collections::BTreeMap;

/// What is shown once of a person that was made: password and secret key.
type Shown = BTreeMap<u32, (Secret, Secret)>;

/// Draws what the people of a table get. Hashing hundreds of passwords takes seconds, so it
/// is done as one piece of work.
fn draw(
    rows: Vec<csv::Row>,
    rehearses: bool,
    hash: &dyn Fn(&Secret) -> Result<String, HashError>,
) -> Result<(Vec<ImportRow>, Shown), HashError> {
    let mut shown = Shown::new();
    let mut drawn = Vec::with_capacity(rows.len());
    for row in rows {
        let (access_key, secret) = new_keypair();
        let secret = Secret::new(secret);
        let chosen = password::random(&mut fill_random);
        let hashed = match row.errors.is_empty() && !rehearses {
            true => hash(&chosen)?,
            false => String::new(),
        };
        let secrets = NewUserSecrets {
            id: UserId::new(new_id()),
            access_key,
            secret_sha256: sha256(secret.expose().as_bytes()),
        };
        shown.insert(row.row, (chosen, secret));
        drawn.push(ImportRow {
            row,
            secrets,
            password: hashed,
        });
    }
    Ok((drawn, shown))
}

pub(in crate::api) async fn import(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let origin = origin(request.extensions())?;
    let query = Query::read(request.uri().query(), &["dry_run", "partial"])?;
    let (dry_run, partial) = (query.flag("dry_run")?, query.flag("partial")?);
    if_match(request.headers(), Match::Optional)?;
    let bytes = extract::csv(request).await?;
    let rows = csv::parse(&bytes).map_err(|error| Failure::from(file_refusal(&error)))?;
    let permit = app.logins.permit().await?;
    let drawn = permit.all(move |hash| draw(rows, dry_run, hash));
    let (rows, mut shown) = drawn.await?;
    let write = Write {
        caller,
        origin,
        query,
        dry_run,
        version: None,
        body: Nothing {},
    };
    let verb = AdminVerb::ImportUsers { rows, partial };
    let answer = write.order(&app, verb, |_| None).await?;
    let AdminObject::Imported(told) = &answer.object else {
        return Err(other_kind(&answer.object));
    };
    let mut told = (**told).clone();
    for row in told.rows.iter_mut().filter(|row| row.access_key.is_some()) {
        // A rehearsal makes nothing, so its secrets open nothing.
        match shown.remove(&row.row).filter(|_| !dry_run) {
            Some((password, secret)) => {
                row.password = Some(password.expose().to_owned());
                row.secret_key = Some(secret.expose().to_owned());
            }
            None => row.access_key = None,
        }
    }
    let value = value_of(&told).ok_or_else(Failure::internal)?;
    write.respond_value(StatusCode::OK, value, &answer, None)
}
