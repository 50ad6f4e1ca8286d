//! Answers that take long: held ones and streams end soon after the right to them is lost.

use super::errors::Failure;
use super::{App, refused};
use crate::engine::wall_clock;
use crate::identity::Person;
use axum::body::{Body, HttpBody as _};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use std::pin::pin;
use std::time::Duration;

/// How often it is looked whether the caller still may: what is lost ends within 5 s. Tests
/// have no time for that.
const AGAIN: Duration = match cfg!(test) {
    true => Duration::from_millis(50),
    false => Duration::from_secs(4),
};

/// Answers as long as the caller may ask at all.
pub(super) async fn while_allowed(
    app: &App,
    person: Person,
    work: impl Future<Output = Response>,
) -> Response {
    let mut work = pin!(work);
    let response = loop {
        tokio::select! {
            response = &mut work => break response,
            () = tokio::time::sleep(AGAIN) => {
                if let Err(denied) = app.identity.still(&person, wall_clock()) {
                    return Failure::into_response(refused(denied));
                }
            }
        }
    };
    if response.body().size_hint().exact().is_some() {
        return response; // whole already
    }
    response.map(|body| stream_while_allowed(app.clone(), person, body))
}

fn stream_while_allowed(app: App, person: Person, body: Body) -> Body {
    let again = Box::pin(tokio::time::sleep(AGAIN));
    let start = (app, person, body.into_data_stream(), again);
    let pieces = stream::unfold(start, |(app, person, mut pieces, mut again)| async move {
        loop {
            tokio::select! {
                biased;
                // First, so that a stream that never pauses is looked at too.
                () = &mut again => {
                    app.identity.still(&person, wall_clock()).ok()?;
                    again.as_mut().reset(tokio::time::Instant::now() + AGAIN);
                }
                piece = pieces.next() => return Some((piece?, (app, person, pieces, again))),
            }
        }
    });
    Body::from_stream(pieces)
}
