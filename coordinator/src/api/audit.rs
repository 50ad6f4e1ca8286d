//! The audit log: searching it, taking it away, checking it; and refusals on their way into it.
//!
//! | input | output |
//! |---|---|
//! | `GET /audit`, `GET /audit/verify` | records from the store, and whether they are whole |
//! | answers 401 and 403 | records of refusals, merged and bounded, to `engine` |

mod retention;

pub use retention::keep_retention;

use super::errors::{self, Failure};
use super::extract::{Query, Ref};
use super::operations::Operation;
use super::{App, Cursors, json, page, person, request_id};
use crate::engine::{Engine, Origin, wall_clock};
use crate::identity::{Account, Identity, Person, Via};
use crate::store::{AuditFilter, Reader, StoreError};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use longshore_common::api::Page;
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use longshore_core::model::{self, Role};
use longshore_identity::Sha256;
use longshore_identity::audit::{Actor, ActorKind, Draft, Head, Merger, Outcome, Record};
use longshore_identity::csv;
use longshore_identity::throttle::Prefix;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

/// Parameters of the list.
pub(super) const LIST: &[&str] = &[
    "actor",
    "operation",
    "target",
    "outcome",
    "from",
    "to",
    "format",
    "limit",
    "cursor",
];
/// Records that an export reads at a time.
const PIECE: u32 = 500;
/// Kinds of refusals that are kept apart at a time, for callers who are known and again for
/// those who are not; what comes beyond is one more kind of each. A kind costs at most two
/// records a minute, so whoever tries for a whole day adds some tens of megabytes and no more.
const KINDS: usize = 16;
/// Records that may wait for the engine. With [`KINDS`] they are reached only when nothing
/// can be stored for a quarter of an hour.
const MOST_WAITING: usize = 1024;
/// How often it is looked whether the minute of a kind is over.
const EVERY: Duration = Duration::from_secs(1);

// ---- who asks ----

/// Who asks in a request that [`super::admit`] let through.
pub(super) fn origin(request: &Extensions) -> Result<Arc<Origin>, Failure> {
    // Only a request that passed no row of the table has none: a fault of ours.
    request
        .get::<Arc<Origin>>()
        .cloned()
        .ok_or_else(Failure::internal)
}

/// Whoever sent this request, as it is written down.
pub(super) fn origin_of(request: &Request, client: Option<IpAddr>, actor: Actor) -> Origin {
    Origin {
        actor,
        client_ip: client,
        request_id: request
            .extensions()
            .get::<super::RequestName>()
            .map_or_else(|| request_id(request), |name| name.0.clone()),
    }
}

/// A person as an actor.
pub(super) fn actor(person: &Person) -> Actor {
    let mut actor = of_account(person);
    actor.via = Some(match &person.via {
        Via::Keypair { access_key, .. } => access_key.clone(),
        Via::Login(login) => login.to_string(),
    });
    actor
}

fn of_account(account: &Account) -> Actor {
    let kind = if account.is_service {
        ActorKind::ServiceAccount
    } else {
        ActorKind::User
    };
    Actor::new(kind).called(&account.printed, &account.username)
}

/// The account that a request names although it was not let in: its keypair is known, and
/// either the secret is another or it was switched off. Of other requests nothing is written
/// down but where they came from: a name that anybody can make up would let anybody fill
/// the log, and people paste secrets into wrong places.
pub(super) fn named_account(identity: &Identity, header: Option<&str>) -> Actor {
    match identity.account(header) {
        Some(account) => of_account(&account),
        None => Actor::new(ActorKind::User),
    }
}

// ---- refusals ----

/// What a refused login is recorded with: more than its answer may tell.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    /// Whose login name it was, if it is known.
    pub(super) user: Option<UserId>,
    /// What it was exactly.
    pub(super) why: String,
}

impl Noted {
    /// The answer, with this travelling in it.
    pub(super) fn on(self, failure: Failure) -> Response {
        let mut response = failure.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Refusals on their way into the audit log, and the one check of it that may run.
#[derive(Debug)]
pub struct Auditing {
    refusals: Mutex<Refusals>,
    wake: Notify,
    checks: Semaphore,
}

impl Default for Auditing {
    fn default() -> Self {
        Self {
            refusals: Mutex::default(),
            wake: Notify::new(),
            // A check reads everything: a second one at the same time only costs.
            checks: Semaphore::new(1),
        }
    }
}

#[derive(Debug, Default)]
struct Refusals {
    /// Of callers that are known, and of others: nobody can crowd out the first.
    known: Merger,
    unknown: Merger,
    waiting: Vec<Draft>,
    lost: u64,
}

impl Auditing {
    /// Takes a refusal in. Never waits for anything.
    pub(super) fn refused(&self, draft: Draft, known: bool, from: Option<Prefix>, now: Timestamp) {
        let mut refusals = self.lock();
        let merger = match known {
            true => &mut refusals.known,
            false => &mut refusals.unknown,
        };
        let ready = if merger.is_open(&draft, from) || merger.kinds() < KINDS {
            merger.push(draft, from, now)
        } else {
            merger.push(others(known), None, now)
        };
        if ready.is_empty() {
            return;
        }
        refusals.wait(ready);
        drop(refusals);
        self.wake.notify_one();
    }

    /// What is to be written now; at the end of the process everything that is held back.
    fn take(&self, now: Timestamp, all: bool) -> Vec<Draft> {
        let mut refusals = self.lock();
        let Refusals { known, unknown, .. } = &mut *refusals;
        let ready = [known, unknown].map(|merger| match all {
            true => merger.finish(),
            false => merger.due(now),
        });
        refusals.wait(ready.into_iter().flatten().collect());
        if refusals.lost > 0 {
            tracing::error!(
                lost = refusals.lost,
                "refusals could not be written to the audit log"
            );
            refusals.lost = 0;
        }
        std::mem::take(&mut refusals.waiting)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the engine what is to be written now, and waits until it is stored.
    pub(super) async fn write(&self, engine: &Engine, now: Timestamp, all: bool) {
        for draft in self.take(now, all) {
            if let Err(error) = engine.record_when_room(draft).await {
                tracing::error!(%error, "a refusal could not be written to the audit log");
            }
        }
    }
}

impl Refusals {
    fn wait(&mut self, mut ready: Vec<Draft>) {
        let room = MOST_WAITING.saturating_sub(self.waiting.len());
        let over = ready.len().saturating_sub(room);
        ready.truncate(room);
        self.waiting.append(&mut ready);
        self.lost += over as u64;
    }
}

/// Stands for all that is not kept apart.
fn others(known: bool) -> Draft {
    let code = match known {
        true => "LS-FORBIDDEN",
        false => "LS-AUTH-FAILED",
    };
    Draft::new(Actor::new(ActorKind::User), "auth.login", Outcome::Refused)
        .code(code)
        .detail("refusals of more kinds, accounts or places than are kept apart at a time")
}

/// Writes refusals into the audit log until the coordinator stops, and then what is left.
pub async fn keep_refusals(app: App, mut stopping: watch::Receiver<bool>) {
    loop {
        let ends = tokio::select! {
            () = app.audit.wake.notified() => false,
            () = tokio::time::sleep(EVERY) => false,
            _ = stopping.wait_for(|stop| *stop) => true,
        };
        app.audit.write(&app.engine, wall_clock(), ends).await;
        if ends {
            return;
        }
    }
}

/// Notes an answer that refuses: who asked is not, or may not.
pub(super) fn note(
    app: &App,
    (operation, path): (&Operation, &str),
    origin: &Origin,
    response: &Response,
) {
    let Some(failure) = response.extensions().get::<Failure>() else {
        return;
    };
    // A link is a credential too; that a code is asked for refuses nothing.
    let also = matches!(failure.code, "LS-LINK-GONE" | "LS-LOGIN-THROTTLED");
    let refused = matches!(errors::find(failure.code).status, 401 | 403);
    if !(refused || also) || failure.code == "LS-TOTP-REQUIRED" {
        return;
    }
    // Somebody was asked for a password or a code, and it was another.
    let failed = matches!(
        failure.code,
        "LS-LOGIN-FAILED" | "LS-TOTP-INVALID" | "LS-REAUTH"
    );
    let outcome = match failed {
        true => Outcome::Failed,
        false => Outcome::Refused,
    };
    let noted = response.extensions().get::<Noted>();
    let account = noted.and_then(|noted| app.identity.account_of(noted.user?));
    let mut origin = origin.clone();
    if let Some(account) = account {
        origin.actor = of_account(&account);
    }
    let route = format!("{} {}", operation.method.as_str(), operation.path);
    let detail = match noted {
        Some(noted) => &noted.why,
        None => &route,
    };
    let draft = origin
        .draft(operation.does(), outcome)
        .code(failure.code)
        .detail(detail);
    let known = origin.actor.id.is_some();
    // Of those nobody knows nothing they wrote is kept.
    let draft = match named_thing(operation.path, path).filter(|_| known) {
        Some((kind, text)) => about(app, draft, kind, &text),
        None => draft,
    };
    let from = origin.client_ip.map(Prefix::of);
    app.audit.refused(draft, known, from, wall_clock());
}

/// What the variable part of a path names: the kind of thing, and the text.
fn named_thing(template: &str, path: &str) -> Option<(&'static str, String)> {
    let parts: Vec<&str> = template.split('/').collect();
    let at = parts.iter().position(|part| part.starts_with('{'))?;
    let kind = match *parts.get(at.checked_sub(1)?)? {
        "access-rules" => "access_rule",
        "agents" => "agent",
        "domains" => "domain",
        "groups" => "user_group",
        "invitations" => "invitation",
        "join-tokens" => "join_token",
        "keypair-policies" => "keypair_policy",
        "keypairs" => "keypair",
        "logins" => "login",
        "images" => "image",
        "presets" => "preset",
        "project-policies" => "project_policy",
        "projects" => "project",
        "queues" => "queue",
        "resource-groups" => "resource_group",
        "service-accounts" => "service_account",
        "s" | "sessions" => "session",
        "user-policies" => "user_policy",
        "users" => "user",
        _ => return None,
    };
    // A plus is a plus in a path.
    let text = path.split('/').nth(at)?.replace('+', "%2B");
    Some((kind, super::extract::decode(&text).ok()?))
}

/// The record with what it is about: of accounts with id and name, else as it was written.
fn about(app: &App, draft: Draft, kind: &str, text: &str) -> Draft {
    let account = match kind {
        "user" | "service_account" => app.identity.user_by_ref(text),
        _ => None,
    };
    match account.and_then(|id| app.identity.account_of(id)) {
        Some(account) => draft.target(kind, &account.printed, &account.username),
        None => draft.target(kind, text, ""),
    }
}

// ---- reading ----

pub(super) async fn list(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let viewer = person(request.extensions())?;
    let origin = origin(request.extensions())?;
    let query = Query::read(request.uri().query(), LIST)?;
    let mut filter = filter(&app, &query).await?;
    // Who looks after one domain sees what is about that one.
    filter.domain = (viewer.role != Role::Superadmin).then_some(viewer.domain);
    let format = match query.one("format")? {
        None | Some("json") => None,
        Some("jsonl") => Some(Format::Lines),
        Some("csv") => Some(Format::Csv),
        Some(_) => {
            let text = "format must be json, jsonl or csv.";
            return Err(Failure::new("LS-PARAMETER", text));
        }
    };
    if let Some(format) = format {
        if query.one("limit")?.is_some() || query.one("cursor")?.is_some() {
            let text = "jsonl and csv hold everything: they have neither limit nor cursor.";
            return Err(Failure::new("LS-PARAMETER", text));
        }
        return export(&app, &origin, filter, format).await;
    }
    let limit = page::limit(&query)?;
    let before = app.cursors.place("audit", &query)?;
    filter.below = before.and_then(|place| place.parse().ok());
    filter.limit = u32::try_from(limit + 1).unwrap_or(u32::MAX);
    let mut items = app.reader.audit(filter).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    json(&Page {
        next_cursor: next(&app.cursors, &query, items.last().filter(|_| more)),
        items,
    })
}

fn next(cursors: &Cursors, query: &Query, last: Option<&Record>) -> Option<String> {
    last.map(|last| cursors.make("audit", query, &last.seq.to_string()))
}

/// What the parameters ask for. People and things may be named as well as given by id.
async fn filter(app: &App, query: &Query) -> Result<AuditFilter, Failure> {
    let all = |name: &str| -> Vec<String> { query.all(name).map(str::to_owned).collect() };
    let instant = |name: &str| match query.one(name)? {
        None => Ok(None),
        Some(text) => text
            .parse::<Timestamp>()
            .map(Some)
            .map_err(|error| Failure::new("LS-PARAMETER", format!("{name}: {error}."))),
    };
    let outcome = |text: &str| {
        Outcome::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or_else(|| Failure::new("LS-PARAMETER", "outcome must be ok, refused or failed."))
    };
    let outcomes = query
        .all("outcome")
        .map(outcome)
        .collect::<Result<_, _>>()?;
    let (mut actors, mut targets) = (all("actor"), all("target"));
    let (from, to) = (instant("from")?, instant("to")?);
    if !actors.is_empty() || !targets.is_empty() {
        (actors, targets) = app
            .engine
            .read(move |state, _| {
                let wider = |texts: Vec<String>| -> Vec<String> {
                    let ids = texts.iter().flat_map(|text| ids_of(state, text));
                    ids.chain(texts.iter().cloned()).collect()
                };
                (wider(actors), wider(targets))
            })
            .await?;
    }
    Ok(AuditFilter {
        local: query
            .all("actor")
            .any(|text| text == ActorKind::Local.as_str()),
        actors,
        operations: all("operation"),
        targets,
        outcomes,
        from,
        to,
        ..AuditFilter::default()
    })
}

/// Ids of what has this name now, and of domains and projects that had it when they were
/// deleted.
fn ids_of(state: &model::State, text: &str) -> Vec<String> {
    let named = |name: &str| name.eq_ignore_ascii_case(text);
    let domains = state.domains.values().chain(state.gone.domains.values());
    let domains = domains.filter(|d| named(&d.name)).map(|d| d.id.to_string());
    // A name that every domain may give: whoever asks is shown its own domain's lines alone.
    let projects = state.projects.values().chain(state.gone.projects.values());
    let projects = projects
        .filter(|p| named(&p.name))
        .map(|p| p.id.to_string());
    [
        state.user_by_ref(text).map(|u| u.id.to_string()),
        state.agent_by_ref(text).map(|a| a.id.to_string()),
        state.group_by_ref(text).map(|g| g.id.to_string()),
        state.preset_by_ref(text).map(|p| p.id.to_string()),
        state.image_by_ref(text).map(|i| i.id.to_string()),
    ]
    .into_iter()
    .flatten()
    .chain(domains)
    .chain(projects)
    .filter(|id| id != text)
    .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Lines,
    Csv,
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Lines => "jsonl",
            Self::Csv => "csv",
        }
    }

    const fn media(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    fn line(self, record: &Record) -> Result<String, StoreError> {
        match self {
            Self::Csv => Ok(row(record)),
            Self::Lines => match record.line() {
                Ok(line) => Ok(line + "\n"),
                Err(error) => Err(StoreError::Object {
                    what: crate::store::AUDIT_RECORD,
                    id: record.seq.to_string(),
                    why: error.to_string(),
                }),
            },
        }
    }
}

/// Everything the filter takes, oldest first and piece by piece: nothing is held but one
/// piece. That it was taken away is a record itself.
async fn export(
    app: &App,
    origin: &Origin,
    filter: AuditFilter,
    format: Format,
) -> Result<Response, Failure> {
    let end = app.engine.read(|state, _| state.audit.seq).await?;
    let record = origin
        .draft("audit.read", Outcome::Ok)
        .target("audit", format.name(), "")
        .detail("exported");
    app.engine.record(record).await?;
    let filter = AuditFilter {
        oldest_first: true,
        below: Some(end.saturating_add(1)), // it ends although more is written meanwhile
        limit: PIECE,
        ..filter
    };
    let head = match format {
        Format::Csv => csv::line(COLUMNS),
        Format::Lines => String::new(),
    };
    let start = Piece {
        reader: app.reader.clone(),
        filter,
        text: head,
        done: false,
    };
    let pieces = stream::try_unfold(start, move |piece| piece.next(format));
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(format.media()),
    );
    let name = format!("attachment; filename=\"audit.{}\"", format.name());
    if let Ok(value) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

struct Piece {
    reader: Reader,
    filter: AuditFilter,
    /// What stands before the first record.
    text: String,
    done: bool,
}

impl Piece {
    async fn next(mut self, format: Format) -> Result<Option<(Bytes, Self)>, StoreError> {
        if self.done {
            return Ok(None);
        }
        let records = self.reader.audit(self.filter.clone()).await;
        let records = records.inspect_err(|error| {
            tracing::error!(%error, "an export of the audit log broke off");
        })?;
        self.done = records.len() < self.filter.limit as usize;
        self.filter.above = records.last().map(|last| last.seq).or(self.filter.above);
        let mut text = std::mem::take(&mut self.text);
        for record in &records {
            text.push_str(&format.line(record)?);
        }
        Ok(Some((Bytes::from(text), self)))
    }
}

const COLUMNS: [&str; 20] = [
    "seq",
    "at",
    "actor_kind",
    "actor_id",
    "actor_name",
    "via",
    "on_behalf_of",
    "client_ip",
    "request_id",
    "operation",
    "target_type",
    "target_id",
    "target_name",
    "outcome",
    "code",
    "before",
    "after",
    "detail",
    "count",
    "hash",
];

fn row(record: &Record) -> String {
    let target = record.target.as_ref();
    let object = |members: &serde_json::Map<String, serde_json::Value>| match members.is_empty() {
        true => String::new(),
        false => serde_json::Value::from(members.clone()).to_string(),
    };
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let cells: [String; COLUMNS.len()] = [
        record.seq.to_string(),
        record.at.to_string(),
        record.actor.kind.as_str().to_owned(),
        text(record.actor.id.as_ref()),
        text(record.actor.name.as_ref()),
        text(record.actor.via.as_ref()),
        text(record.actor.on_behalf_of.as_ref()),
        text(record.client_ip.as_ref()),
        text(record.request_id.as_ref()),
        record.operation.clone(),
        text(target.map(|t| &t.kind)),
        text(target.map(|t| &t.id)),
        text(target.and_then(|t| t.name.as_ref())),
        record.outcome.as_str().to_owned(),
        text(record.code.as_ref()),
        object(&record.before),
        object(&record.after),
        text(record.detail.as_ref()),
        record.count.map_or_else(String::new, |n| n.to_string()),
        record.hash.to_string(),
    ];
    csv::line(cells.iter().map(String::as_str))
}

/// One record by its number.
pub(super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let viewer = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let missing = || {
        let text = format!("There is no record {}.", errors::cut(&text));
        Failure::new("LS-NOT-FOUND", text)
    };
    let seq: u64 = text.parse().map_err(|_| missing())?;
    let filter = AuditFilter {
        domain: (viewer.role != Role::Superadmin).then_some(viewer.domain),
        above: Some(seq.checked_sub(1).ok_or_else(missing)?),
        below: Some(seq.saturating_add(1)),
        limit: 1,
        ..AuditFilter::default()
    };
    let found = app.reader.audit(filter).await?;
    json(found.first().ok_or_else(missing)?)
}

/// Reads the whole log. What the engine holds as its end is a witness: an end that was cut
/// off behind its back is found as long as the coordinator runs.
pub(super) async fn verify(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let Ok(_one) = app.audit.checks.try_acquire() else {
        let text = "The audit log is being checked or shortened.";
        return Err(Failure::new("LS-BUSY", text).retry_after(10));
    };
    let end = app.engine.read(|state, _| state.audit).await?;
    let head = Head {
        seq: end.seq,
        hash: Sha256::from_bytes(end.hash),
    };
    // What agents saw counts too, each once.
    let seen = app.engine.live.witnesses().into_iter().map(|end| Head {
        seq: end.seq,
        hash: Sha256::from_bytes(end.hash),
    });
    let witnesses = std::iter::once(head).chain(seen).collect();
    json(&app.reader.verify_audit(end.seq, witnesses).await?)
}

#[cfg(test)]
mod tests;
