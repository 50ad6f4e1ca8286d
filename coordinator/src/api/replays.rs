//! Requests that are sent twice: a POST with an `Idempotency-Key` is carried out once, and
//! whoever repeats it gets the first answer again.
//!
//! What is kept is bounded. A request that would do something again a second time is noted in the
//! database before it is carried out, and its answer after, so that a restart of the coordinator
//! forgets neither; one that the coordinator did not come to the end of is not carried out again.
//! Of other requests a second one finds done what it asks for; they are known until the next start. A request for a
//! session is remembered with the session itself and passes here. Only what succeeded is kept:
//! who was refused mends the request and sends it with the same key.

use super::errors::Failure;
use super::extract::{self, Query};
use super::operations::{Operation, Verb};
use super::{App, GUARDED};
use crate::identity::Person;
use crate::pki::sha256;
use crate::store::{KEPT_MOST, KEPT_MS, StoredReplay};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use longshore_core::model::{Event, Replay, ReplayAnswer, ReplayStep, State};
use longshore_link::boot_ms;
use ring::hmac;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tracing::warn;

/// The header with the key.
pub(super) const KEY: &str = "Idempotency-Key";
const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The longest body that is stored. Whoever asks again after a restart for more than that is told
/// that it was begun.
const STORED_BYTES: usize = 256 << 10;
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

impl Kept {
    /// One that was stored; none if it cannot be said again.
    fn of(answer: ReplayAnswer) -> Option<Self> {
        let headers = answer.headers.iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        });
        Some(Self {
            status: StatusCode::from_u16(answer.status).ok()?,
            headers: headers.collect::<Option<_>>()?,
            body: answer.body.into(),
        })
    }

    /// As it is stored; none if it is too long for that.
    fn stored(&self) -> Option<ReplayAnswer> {
        let headers = self.headers.iter().map(|(name, value)| {
            let value = value.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        });
        (self.body.len() <= STORED_BYTES).then_some(())?;
        Some(ReplayAnswer {
            status: self.status.as_u16(),
            headers: headers.collect::<Option<_>>()?,
            body: self.body.to_vec(),
        })
    }

    /// Bytes it costs here.
    fn size(&self, slot: &Slot) -> usize {
        self.body.len() + slot.key.len() + OVERHEAD
    }
}

#[derive(Debug)]
struct Known {
    /// Over everything the request says.
    request: [u8; 32],
    end: Ended,
}

/// How far a request came.
#[derive(Debug, Clone)]
enum Ended {
    /// It still runs.
    Not,
    /// So.
    With(Arc<Kept>),
    /// The coordinator stopped before it was known.
    Unknown,
}

#[derive(Debug, Default)]
struct Held {
    known: BTreeMap<Slot, Known>,
    /// Answers by age, oldest first: when, whose, how large.
    ages: VecDeque<(i64, Slot, usize)>,
    bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Replays {
    held: Mutex<Held>,
    /// What a request says may be guessable, and a hash of it lies in the database.
    key: hmac::Key,
}

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
    /// The coordinator stopped before its end was stored.
    Lost,
}

impl Replays {
    /// With what is stored, oldest first; `now` by the wall and `now_ms` by a clock that never
    /// steps.
    #[must_use]
    pub fn new(secret: &[u8], stored: Vec<StoredReplay>, now: Timestamp, now_ms: i64) -> Self {
        let mut held = Held::default();
        let routes = super::operations::OPERATIONS.iter().map(|o| (o.id, o.id));
        let routes: BTreeMap<&str, &'static str> = routes.collect();
        for one in stored {
            // One of a release that had another route: nobody asks for it here.
            let Some(route) = routes.get(one.route.as_str()) else {
                continue;
            };
            let slot = Slot {
                caller: one.caller,
                route,
                key: one.key,
            };
            let (end, size) = match one.answer.and_then(Kept::of) {
                Some(kept) => {
                    let size = kept.size(&slot);
                    (Ended::With(Arc::new(kept)), size)
                }
                None => (Ended::Unknown, OVERHEAD),
            };
            let age = (now.0 - one.at.0).max(0); // the wall clock may have been set back
            held.bytes += size;
            held.ages.push_back((now_ms - age, slot.clone(), size));
            let request = one.request;
            held.known.insert(slot, Known { request, end });
        }
        held.forget(now_ms);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let held = Mutex::new(held);
        Self { held, key }
    }

    /// What stands for everything a request says.
    fn digest(&self, said: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"longshore replay\n");
        context.update(&sha256(said));
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `now_ms` is of a clock that never steps.
    fn begin(&self, slot: &Slot, request: [u8; 32], now_ms: i64) -> Begin {
        let mut held = self.held();
        held.forget(now_ms);
        match held.known.get(slot) {
            Some(known) if known.request != request => Begin::Other,
            Some(known) => match &known.end {
                Ended::Not => Begin::Running,
                Ended::With(kept) => Begin::Again(Arc::clone(kept)),
                Ended::Unknown => Begin::Lost,
            },
            None => {
                let end = Ended::Not;
                held.known.insert(slot.clone(), Known { request, end });
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
        let size = kept.size(slot);
        if let Some(known) = held.known.get_mut(slot) {
            known.end = Ended::With(Arc::new(kept));
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
            if !is_old && self.ages.len() <= KEPT_MOST as usize && self.bytes <= KEPT_BYTES {
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

/// What makes nothing new and still is not to happen twice.
const ONCE: &[&str] = &[
    "action_run",
    "keypair_rotate",
    "session_extend",
    "session_keep",
    "session_restart",
    "session_signal",
    "users_import",
];

/// Whether an operation does something that a second time would do again, and that is still
/// there when the coordinator starts again.
pub(super) fn lasts(operation: &Operation) -> bool {
    let makes = operation.status == 201 && operation.id != "session_exec_create";
    makes || ONCE.contains(&operation.id)
}

fn noted(slot: &Slot, step: ReplayStep) -> Event {
    Event::Replay(Box::new(Replay {
        caller: slot.caller,
        route: slot.route.to_owned(),
        key: slot.key.clone(),
        step,
    }))
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
            keyed(app, slot, lasts(operation), request, next)
                .await
                .unwrap_or_else(Failure::into_response)
        }
        Err(failure) => failure.into_response(),
    }
}

async fn keyed(
    app: &App,
    slot: Slot,
    lasts: bool,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let bytes = extract::whole(&parts, body).await?;
    let address = parts.uri.path_and_query().map_or("", |p| p.as_str());
    let said = [address.as_bytes(), b"\n", &bytes].concat();
    let digest = app.replays.digest(&said);
    match app.replays.begin(&slot, digest, boot_ms()) {
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
        Begin::Lost => Err(Failure::new(
            "LS-IDEMPOTENCY-LOST",
            "The coordinator was started again since the first request with this idempotency key, and what became of it is not known. Look whether it was carried out; another key carries it out anew.",
        )),
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
                let (engine, slot) = (claim.app.engine.clone(), claim.slot.clone());
                if lasts {
                    let begun = noted(&slot, ReplayStep::Begun { request: digest });
                    let begun = engine.ask(begun).await.map_err(Failure::from);
                    if let Err(failure) = begun.and_then(|done| Ok(done.map(drop)?)) {
                        return failure.into_response();
                    }
                }
                let response = next.run(request).await;
                let (response, kept) = keep(response).await;
                let step = match &kept {
                    None => Some(ReplayStep::Freed),
                    Some(kept) => kept.stored().map(ReplayStep::Answered),
                };
                if let Some(step) = step.filter(|_| lasts) {
                    // It is carried out: this waits for room where the engine is busy.
                    let (stored, known) = oneshot::channel();
                    let look = move |_: &State| {
                        let _ = stored.send(());
                    };
                    let told = engine.tell_then(noted(&slot, step), look).await;
                    if told.is_err() || known.await.is_err() {
                        warn!(
                            route = slot.route,
                            "the answer to a request with a key was not stored"
                        );
                    }
                }
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
