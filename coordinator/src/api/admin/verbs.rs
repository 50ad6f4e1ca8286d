//! What the routes of most objects do: read one, make, change, delete. The objects differ in
//! how they are found and shown, and in the order that is given.

use super::super::errors::Failure;
use super::super::extract::Query;
use super::super::{App, person};
use super::{Match, Nothing, Viewer, Write, shown, write};
use axum::extract::Request;
use axum::response::Response;
use longshore_core::model::State;
use longshore_core::model::admin::{AdminAnswer, AdminVerb};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One object as this person may see it.
pub(super) async fn read<T: Serialize + Send + 'static>(
    app: &App,
    text: String,
    request: Request,
    what: &str,
    look: impl FnOnce(&State, &Viewer, &str) -> Option<T> + Send + 'static,
) -> Result<Response, Failure> {
    let viewer = Viewer::of(&person(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    let wanted = text.clone();
    let found = app
        .engine
        .read(move |state, _| look(state, &viewer, &wanted))
        .await?;
    shown(found, what, &text)
}

/// Makes an object of a list.
pub(super) async fn create<T: DeserializeOwned + Clone>(
    app: &App,
    request: Request,
    list: &str,
    verb: impl FnOnce(Box<T>) -> AdminVerb,
) -> Result<Response, Failure> {
    let write = write::<T>(request, &[], Match::Optional).await?;
    let verb = verb(Box::new(write.body.clone()));
    let answer = write.order(app, verb, |_| None).await?;
    write.created(&answer, list)
}

/// Changes an object.
pub(super) async fn update<T: DeserializeOwned + Clone>(
    app: &App,
    text: String,
    request: Request,
    verb: fn(String, Box<T>) -> AdminVerb,
    current: impl FnOnce(&State, &str) -> Option<Value> + Send + 'static,
) -> Result<Response, Failure> {
    let write = write::<T>(request, &[], Match::Required).await?;
    let verb = verb(text.clone(), Box::new(write.body.clone()));
    let answer = write
        .order(app, verb, move |state| current(state, &text))
        .await?;
    write.changed(&answer)
}

/// Deletes an object.
pub(super) async fn remove(
    app: &App,
    text: String,
    request: Request,
    verb: fn(String) -> AdminVerb,
    current: impl FnOnce(&State, &str) -> Option<Value> + Send + 'static,
) -> Result<Response, Failure> {
    let (write, _) = removal(app, text, request, verb, current).await?;
    Ok(write.gone())
}

/// The same of an object that takes others along: a rehearsal says whom it would touch.
pub(super) async fn remove_with(
    app: &App,
    text: String,
    request: Request,
    verb: fn(String) -> AdminVerb,
    current: impl FnOnce(&State, &str) -> Option<Value> + Send + 'static,
) -> Result<Response, Failure> {
    let (write, answer) = removal(app, text, request, verb, current).await?;
    write.deleted(&answer)
}

async fn removal(
    app: &App,
    text: String,
    request: Request,
    verb: fn(String) -> AdminVerb,
    current: impl FnOnce(&State, &str) -> Option<Value> + Send + 'static,
) -> Result<(Write<Nothing>, AdminAnswer), Failure> {
    let write = write::<Nothing>(request, &[], Match::Required).await?;
    let verb = verb(text.clone());
    let answer = write
        .order(app, verb, move |state| current(state, &text))
        .await?;
    Ok((write, answer))
}
