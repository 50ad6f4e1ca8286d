//! Requests that are sent twice: a POST with an `Idempotency-Key` is carried out once, and
//! whoever repeats it gets the first answer again.
//!
//! What is kept is bounded and held in memory, so a restart of the coordinator forgets it.
//! A request for a session is remembered with the session itself, in the database, and
//! passes here. Only what succeeded is kept: who was refused mends the request and sends
//! it with the same key.

use super::errors::Failure;
use super::extract::{self, Query};
use super::operations::{Operation, Verb};
use super::{App, GUARDED};
use crate::identity::Person;
use crate::pki::sha256;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use longshore_common::ids::UserId;
use longshore_link::boot_ms;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The header with the key.
pub(super) const KEY: &str = "Idempotency-Key";
const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// An answer is given again for a day.
const KEPT_MS: i64 = 86_400_000;
/// Answers kept at a time. Far more than people make in a day; a script that makes more
/// has the oldest forgotten first.
const KEPT_MOST: usize = 20_000;
/// Bytes of answers kept at a time.
const KEPT_BYTES: usize = 32 << 20;
/// What an answer costs beside its body: keys, maps and headers.
const OVERHEAD: usize = 512;

/// Members that hold a secret, or are made with one: said once only.
pub(super) const SECRETS: &[&str] = &[
    "secret_key",
    "secret",
    "token",
    "command",
    "snippet",
    "link",
    "password",
    "recovery_codes",
    "uri",
    "qr_svg",
];

/// Which key: of whom, on which route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    caller: UserId,
    route: &'static str,
    key: String,
}

/// An answer, without what may be said only once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

#[derive(Debug)]
struct Known {
    /// Over everything the request says.
    request: [u8; 32],
    /// None while the first still runs.
    answer: Option<Arc<Kept>>,
}

#[derive(Debug, Default)]
struct Held {
    known: BTreeMap<Slot, Known>,
    /// Answers by age, oldest first: when, whose, how large.
    ages: VecDeque<(i64, Slot, usize)>,
    bytes: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Replays(Mutex<Held>);

/// What a key says about a request.
#[derive(Debug)]
enum Begin {
    /// Nobody sent it before: it is to be carried out.
    First,
    /// It was answered like this.
    Again(Arc<Kept>),
    /// The key stands for another request.
    Other,
    /// The first one still runs.
    Running,
}

impl Replays {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `now_ms` is of a clock that never steps.
    fn begin(&self, slot: &Slot, request: [u8; 32], now_ms: i64) -> Begin {
        let mut held = self.held();
        held.forget(now_ms);
        match held.known.get(slot) {
            Some(known) if known.request != request => Begin::Other,
            Some(Known { answer: None, .. }) => Begin::Running,
            Some(Known {
                answer: Some(kept), ..
            }) => Begin::Again(Arc::clone(kept)),
            None => {
                let answer = None;
                held.known.insert(slot.clone(), Known { request, answer });
                Begin::First
            }
        }
    }

    /// The first request came to its end; without an answer that is kept, the key is free.
    fn end(&self, slot: &Slot, kept: Option<Kept>, now_ms: i64) {
        let mut held = self.held();
        let Some(kept) = kept else {
            held.known.remove(slot);
            return;
        };
        let size = kept.body.len() + slot.key.len() + OVERHEAD;
        if let Some(known) = held.known.get_mut(slot) {
            known.answer = Some(Arc::new(kept));
            held.bytes += size;
            held.ages.push_back((now_ms, slot.clone(), size));
        }
        held.forget(now_ms);
    }
}

impl Held {
    fn forget(&mut self, now_ms: i64) {
        while let Some((at, ..)) = self.ages.front() {
            let is_old = now_ms - at >= KEPT_MS;
            if !is_old && self.ages.len() <= KEPT_MOST && self.bytes <= KEPT_BYTES {
                return;
            }
            if let Some((_, slot, size)) = self.ages.pop_front() {
                self.known.remove(&slot);
                self.bytes -= size;
            }
        }
    }
}

/// A key whose first request runs. However that ends, the key does not stay taken.
struct Claim {
    app: App,
    slot: Slot,
    ended: bool,
}

impl Claim {
    fn end(mut self, kept: Option<Kept>) {
        self.ended = true;
        self.app.replays.end(&self.slot, kept, boot_ms());
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.ended {
            self.app.replays.end(&self.slot, None, boot_ms());
        }
    }
}

/// Whether an operation takes a key: every POST of somebody who is known.
pub(super) fn takes_key(operation: &Operation) -> bool {
    operation.method == Verb::Post && !operation.is_open()
}

/// The key of a request, if it has one.
///
/// # Errors
/// LS-INVALID.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(KEY_HEADER) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text)
            if (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(Some(text.to_owned()))
        }
        _ => Err(Failure::new(
            "LS-INVALID",
            "Idempotency-Key must have 1 to 128 visible characters.",
        )),
    }
}

/// Carries a request out, or answers as when it came first.
pub(super) async fn once(
    app: &App,
    operation: &'static Operation,
    person: &Person,
    request: Request,
    next: Next,
) -> Response {
    let rehearses = Query::any(request.uri().query()).and_then(|query| query.flag("dry_run"));
    if !takes_key(operation) || operation.id == "sessions_create" || !matches!(rehearses, Ok(false))
    {
        return next.run(request).await;
    }
    match key(request.headers()) {
        Ok(None) => next.run(request).await,
        Ok(Some(key)) => {
            let slot = Slot {
                caller: person.id,
                route: operation.id,
                key,
            };
            keyed(app, slot, request, next)
                .await
                .unwrap_or_else(Failure::into_response)
        }
        Err(failure) => failure.into_response(),
    }
}

async fn keyed(app: &App, slot: Slot, request: Request, next: Next) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let bytes = extract::whole(&parts, body).await?;
    let address = parts.uri.path_and_query().map_or("", |p| p.as_str());
    let said = [address.as_bytes(), b"\n", &bytes].concat();
    match app.replays.begin(&slot, sha256(&said), boot_ms()) {
        Begin::Again(kept) => Ok(again(&kept)),
        Begin::Other => Err(Failure::new(
            "LS-IDEMPOTENCY-BODY",
            "The idempotency key was used for another request.",
        )),
        Begin::Running => Err(Failure::new(
            "LS-IDEMPOTENCY-BUSY",
            "The first request with this idempotency key still runs.",
        )
        .retry_after(1)),
        Begin::First => {
            let claim = Claim {
                app: app.clone(),
                slot,
                ended: false,
            };
            let request = Request::from_parts(parts, Body::from(bytes));
            // On a task of its own: a caller that goes away, perhaps to ask again, must not
            // break off what has begun, nor lose its answer.
            let work = async move {
                let response = next.run(request).await;
                let (response, kept) = keep(response).await;
                claim.end(kept);
                response
            };
            let task = tokio::spawn(GUARDED.scope((), AssertUnwindSafe(work).catch_unwind()));
            match task.await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(panic)) => resume_unwind(panic), // caught above, as on this task
                Err(_) => Err(Failure::internal()),
            }
        }
    }
}

/// The answer, and what is given again of it.
async fn keep(response: Response) -> (Response, Option<Kept>) {
    if !response.status().is_success() {
        return (response, None);
    }
    let (parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, KEPT_BYTES).await else {
        // Ours are whole and smaller; nothing that could be said is left.
        return (Failure::internal().into_response(), None);
    };
    let headers = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];
    let kept = Kept {
        status: parts.status,
        headers: headers
            .into_iter()
            .filter_map(|name| Some((name.clone(), parts.headers.get(&name)?.clone())))
            .collect(),
        body: without_secrets(&bytes).unwrap_or_else(|| bytes.clone()),
    };
    (Response::from_parts(parts, Body::from(bytes)), Some(kept))
}

fn again(kept: &Kept) -> Response {
    let mut response = (kept.status, kept.body.clone()).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.extend(kept.headers.iter().cloned());
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// The same object without its secrets, which says that they were shown; none if it has
/// none.
fn without_secrets(body: &[u8]) -> Option<Bytes> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    if !take_secrets(&mut value) {
        return None;
    }
    if let Value::Object(members) = &mut value {
        members.insert("secret_shown".to_owned(), Value::Bool(true));
    }
    serde_json::to_vec(&value).ok().map(Bytes::from)
}

fn take_secrets(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            let before = members.len();
            // Whether there is a password is no secret.
            members.retain(|name, value| value.is_boolean() || !SECRETS.contains(&name.as_str()));
            let mut taken = members.len() < before;
            for value in members.values_mut() {
                taken |= take_secrets(value);
            }
            taken
        }
        Value::Array(items) => items
            .iter_mut()
            .fold(false, |taken, item| take_secrets(item) | taken),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
