//! Sessions: asking for them, looking at them, ending them.

use super::audit::origin;
use super::errors::Failure;
use super::extract::{self, Query, Ref};
use super::views::{self, Detail};
use super::{App, json, page, person};
use crate::engine::Engine;
use crate::identity::Person;
use crate::pki::sha256;
use crate::store::SessionFilter;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_common::api::{self, NewSession, Page, Skipped, TerminateAnswer, TerminateRequest};
use longshore_common::ids::{Rank, SessionId, UserId};
use longshore_common::session::{ResultKind, SessionState, SessionType};
use longshore_common::time::Timestamp;
use longshore_common::wire::{SIGNALS, SignalRequest};
use longshore_core::model::{self, Answer, Event, PastSession, Refusal, Role, Submit, Terminate};
use longshore_core::scheduler::{self, Planner};
use longshore_identity::audit::Outcome;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Parameters of the list.
pub(super) const LIST: &[&str] = &[
    "state", "type", "group", "name", "owner", "scope", "limit", "cursor",
];
/// Seconds between signal and kill when nothing is said.
const GRACE_S: u32 = 30;
/// Sessions one request may end.
const MOST_IDS: usize = 200;
/// Sessions one session may wait for: each costs a look into the database.
const MOST_DEPENDENCIES: usize = 64;

pub(super) async fn create(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    let key = idempotency_key(request.headers())?;
    let body = extract::json::<NewSession>(request).await?;
    let mut submit = order(&app, &caller, body.value).await?;
    submit.idempotency = key.map(|key| (key, sha256(&body.bytes)));
    // Looked at in the same batch: a session that was just accepted is in memory.
    let live = Arc::clone(&app.engine.live);
    let owner = caller.caller.user;
    let event = Event::Submit(Box::new(submit));
    let look = move |state: &model::State,
                     planner: &mut Planner,
                     now: Timestamp,
                     answer: &Result<Answer, Refusal>| {
        let seen = match answer {
            Ok(Answer::Session(accepted)) => state
                .sessions
                .get(&accepted.id)
                .map(|s| views::session(state, planner, &live, s, now, Detail::Whole(owner))),
            _ => None,
        };
        (answer.clone(), seen)
    };
    let (answer, seen) = engine.ask_and_consult(event, look).await?;
    let accepted = match answer? {
        Answer::Session(accepted) => accepted,
        other => return Err(unexpected(&other)),
    };
    let shown = match seen {
        Some(shown) => shown,
        // A replay of a session that has ended since.
        None => show(&app, &caller, accepted.id)
            .await?
            .ok_or_else(Failure::internal)?,
    };
    let mut response = (StatusCode::CREATED, tagged(&shown)?).into_response();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&format!("/api/v1/sessions/{}", accepted.id)) {
        headers.insert(header::LOCATION, value);
    }
    if accepted.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// What the engine is asked, with everything it does not have in memory.
async fn order(app: &App, caller: &Person, mut request: NewSession) -> Result<Submit, Failure> {
    if request.depends_on.len() > MOST_DEPENDENCIES {
        let text = format!("A session waits for at most {MOST_DEPENDENCIES} others.");
        return Err(Failure::new("LS-INVALID", text.clone()).at("/depends_on", text));
    }
    let owner = caller.caller.user;
    let mut past = Vec::new();
    for wish in &mut request.depends_on {
        let id = match wish.session.parse::<SessionId>() {
            Ok(id) => id,
            Err(_) => match resolve(app, caller, &wish.session).await {
                Ok(id) => id,
                // The engine says so, with the place.
                Err(failure) if failure.code == "LS-NOT-FOUND" => continue,
                Err(failure) => return Err(failure),
            },
        };
        wish.session = id.to_string();
        if let Some(known) = app.reader.session(id).await?
            && known.owner == owner
            && known.is_settled()
        {
            past.push(PastSession {
                id,
                owner,
                ok: known.result == Some(ResultKind::Success),
            });
        }
    }
    Ok(Submit {
        past,
        ..Submit::new(caller.caller.clone(), request, app.defaults.clone())
    })
}

/// What would become of a session, by the same rules and the same planner; nothing is
/// stored.
pub(super) async fn check(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let body = extract::json::<NewSession>(request).await?;
    let submit = order(&app, &caller, body.value).await?;
    let look = move |state: &model::State, planner: &mut Planner, now: Timestamp| {
        let session = model::check_submit(state, &submit, now)?;
        let checked = scheduler::check(planner, state, &session, now);
        let agents = scheduler::verdicts(planner, state, &session);
        Ok::<_, Refusal>(api::SessionCheck {
            verdict: checked.verdict.to_owned(),
            class: scheduler::class_of(&checked.blocked_by).map(str::to_owned),
            blocked_by: checked.blocked_by,
            agents,
            nearest: checked.nearest,
            group_name: Some(session.group_name.clone()),
            adjusted: views::adjusted(&session),
            ..api::SessionCheck::default()
        })
    };
    let answer = match app.engine.consult(look).await? {
        Ok(answer) => answer,
        Err(refusal) if refusal.code == "LS-AUTH-FAILED" => return Err(refusal.into()),
        Err(refusal) => api::SessionCheck {
            verdict: "never".to_owned(),
            code: Some(refusal.code.to_owned()),
            detail: Some(refusal.detail),
            errors: refusal.errors,
            limit: refusal.limit.map(|limit| *limit),
            hint: refusal.hint,
            ..api::SessionCheck::default()
        },
    };
    json(&answer)
}

pub(super) fn unexpected(answer: &Answer) -> Failure {
    tracing::error!(?answer, "the engine gave an answer to another question");
    Failure::internal()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
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

/// The id behind `s-42` or a name of the caller's.
pub(super) async fn resolve(app: &App, caller: &Person, text: &str) -> Result<SessionId, Failure> {
    let missing = || {
        Failure::new(
            "LS-NOT-FOUND",
            format!("There is no session {}.", super::errors::cut(text)),
        )
    };
    if let Ok(id) = text.parse::<SessionId>() {
        return Ok(id);
    }
    if !longshore_common::ids::is_session_name(text) {
        return Err(missing());
    }
    let (owner, name) = (caller.caller.user, text.to_owned());
    let live = app
        .engine
        .read(move |state, _| state.session_by_name(owner, &name))
        .await?;
    match live {
        Some(id) => Ok(id),
        None => app
            .reader
            .session_by_name(owner, text)
            .await?
            .ok_or_else(missing),
    }
}

/// Whose sessions a caller may look at and act on; none = everybody's.
pub(super) fn only_of(caller: &Person) -> Option<UserId> {
    match caller.role {
        Role::Superadmin => None,
        Role::User | Role::Monitor | Role::DomainAdmin => Some(caller.caller.user),
    }
}

/// One session as its caller sees it, live or past.
async fn show(app: &App, caller: &Person, id: SessionId) -> Result<Option<api::Session>, Failure> {
    let (live, detail) = (
        Arc::clone(&app.engine.live),
        Detail::Whole(caller.caller.user),
    );
    let only = only_of(caller);
    let open = move |s: &model::Session| only.is_none_or(|user| s.owner == user);
    let shown = app
        .engine
        .consult(move |state, planner, now| {
            state
                .sessions
                .get(&id)
                .filter(|s| open(s))
                .map(|s| views::session(state, planner, &live, s, now, detail))
        })
        .await?;
    if shown.is_some() {
        return Ok(shown);
    }
    let Some(past) = app.reader.session(id).await?.filter(|s| open(s)) else {
        return Ok(None);
    };
    let live = Arc::clone(&app.engine.live);
    let shown = app
        .engine
        .consult(move |state, planner, now| {
            views::session(state, planner, &live, &past, now, detail)
        })
        .await?;
    Ok(Some(shown))
}

/// A session as it is stored, live or past. One that is not for this caller is not there.
pub(super) async fn stored(
    app: &App,
    caller: &Person,
    id: SessionId,
) -> Result<model::Session, Failure> {
    let live = app
        .engine
        .read(move |state, _| state.sessions.get(&id).cloned())
        .await?;
    let session = match live {
        Some(session) => Some(session),
        None => app.reader.session(id).await?,
    };
    let only = only_of(caller);
    session
        .filter(|s| only.is_none_or(|user| s.owner == user))
        .ok_or_else(|| no_session(id))
}

fn no_session(id: SessionId) -> Failure {
    Failure::new("LS-NOT-FOUND", format!("There is no session {id}."))
}

fn etag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

fn tagged(session: &api::Session) -> Result<Response, Failure> {
    let mut response = json(session)?;
    response
        .headers_mut()
        .insert(header::ETAG, etag(session.version));
    Ok(response)
}

/// Whether a list of entity tags names this version.
fn names_version(value: &str, version: u64) -> bool {
    let tag = format!("\"{version}\"");
    value
        .split(',')
        .map(str::trim)
        .any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == tag)
}

pub(super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let query = Query::read(request.uri().query(), &["wait_s"])?;
    let wait = query.number("wait_s", 1..=60)?;
    let known = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    let id = resolve(&app, &caller, &text).await?;
    let until = Instant::now() + Duration::from_secs(wait.unwrap_or(0));
    let mut stopping = app.stopping.clone();
    // The watch before the reading: what changes in between wakes it.
    let watch = wait.map(|_| app.engine.watch(id));
    loop {
        let shown = show(&app, &caller, id)
            .await?
            .ok_or_else(|| no_session(id))?;
        let Some(known) = known.as_deref().filter(|k| names_version(k, shown.version)) else {
            return tagged(&shown);
        };
        let unchanged = || {
            let mut response = StatusCode::NOT_MODIFIED.into_response();
            response
                .headers_mut()
                .insert(header::ETAG, etag(shown.version));
            response
        };
        let Some(watch) = watch.as_ref().filter(|_| known != "*") else {
            return Ok(unchanged());
        };
        tokio::select! {
            () = watch.changed() => (),
            () = tokio::time::sleep_until(until) => return Ok(unchanged()),
            _ = stopping.wait_for(|stop| *stop) => return Ok(unchanged()),
        }
    }
}

pub(super) async fn list(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let query = Query::read(request.uri().query(), LIST)?;
    let limit = page::limit(&query)?;
    let before = app.cursors.place("sessions", &query)?;
    let Some(mut filter) = filter(&app, &caller, &query).await? else {
        return json(&Page::<api::Session> {
            items: Vec::new(),
            next_cursor: None,
        });
    };
    filter.before_id = before.and_then(|place| place.parse().ok());
    filter.limit = u32::try_from(limit + 1).unwrap_or(u32::MAX);
    let mut found = app.reader.sessions(filter).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found
        .last()
        .filter(|_| more)
        .map(|last| app.cursors.make("sessions", &query, &last.id.to_string()));
    let live = Arc::clone(&app.engine.live);
    let items = app
        .engine
        .consult(move |state, planner, now| {
            let ids: Vec<SessionId> = found.iter().map(|s| s.id).collect();
            let mut items: Vec<api::Session> = found
                .iter()
                // What memory has is never older than what was just read.
                .map(|s| {
                    views::session(
                        state,
                        planner,
                        &live,
                        state.sessions.get(&s.id).unwrap_or(s),
                        now,
                        Detail::Summary,
                    )
                })
                .collect();
            views::number(state, planner, now, &ids, &mut items);
            items
        })
        .await?;
    json(&Page { items, next_cursor })
}

/// What the parameters ask for; none when nothing can match.
async fn filter(
    app: &App,
    caller: &Person,
    query: &Query,
) -> Result<Option<SessionFilter>, Failure> {
    let states: Vec<SessionState> = query.words("state")?;
    let kinds: Vec<SessionType> = query.words("type")?;
    let all = match query.one("scope")? {
        None | Some("live") => false,
        Some("all") => true,
        Some(_) => return Err(Failure::new("LS-PARAMETER", "scope must be live or all.")),
    };
    let owner = match query.one("owner")? {
        None => None,
        Some("me" | "@me") => Some(caller.caller.user),
        Some(text) => match app.identity.user_by_ref(text) {
            Some(user) => Some(user),
            None => return Ok(None),
        },
    };
    let wanted: Vec<String> = query.all("group").map(str::to_owned).collect();
    let named = !wanted.is_empty();
    let groups = match named {
        false => Vec::new(),
        true => {
            let look = move |state: &model::State, _| -> Vec<_> {
                wanted
                    .iter()
                    .filter_map(|text| state.group_by_ref(text))
                    .map(|g| g.id)
                    .collect()
            };
            app.engine.read(look).await?
        }
    };
    if named && groups.is_empty() {
        return Ok(None);
    }
    let include_ended = all || states.iter().any(|s| s.is_final());
    let name_contains = query.one("name")?.map(str::to_owned);
    let owner = match (only_of(caller), owner) {
        (None, owner) => owner,
        (Some(own), Some(other)) if own != other => return Ok(None),
        (Some(own), _) => Some(own),
    };
    Ok(Some(SessionFilter {
        owner,
        states,
        kinds,
        groups,
        name_contains,
        include_ended,
        before_id: None,
        limit: 0,
    }))
}

pub(super) async fn history(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let query = Query::read(request.uri().query(), &["limit", "cursor"])?;
    let id = resolve(&app, &caller, &text).await?;
    stored(&app, &caller, id).await?; // 404 when there is no such session
    let lines = app.reader.history(id).await?;
    let items = lines
        .iter()
        .map(|line| (format!("{:012}", line.seq), views::history(line)))
        .collect();
    json(&app.cursors.page(&format!("history {id}"), &query, items)?)
}

pub(super) async fn explain(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let id = resolve(&app, &caller, &text).await?;
    let session = stored(&app, &caller, id).await?;
    let explained = app
        .engine
        .consult(move |state, planner, now| {
            let session = state.sessions.get(&id).unwrap_or(&session);
            scheduler::explain(planner, state, session, now)
        })
        .await?;
    json(&explained)
}

/// Sends a signal to the program of a running session.
pub(super) async fn signal(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let origin = origin(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let order = extract::json::<api::SignalOrder>(request).await?.value;
    if !SIGNALS.contains(&order.signal.as_str()) {
        let known = SIGNALS.join(", ");
        return Err(
            Failure::new("LS-INVALID", format!("A signal is one of {known}."))
                .at("/signal", format!("One of {known}.")),
        );
    }
    let id = resolve(&app, &caller, &text).await?;
    let only = only_of(&caller);
    let place = app
        .engine
        .read(move |state, _| {
            let session = state.sessions.get(&id)?;
            let session = Some(session).filter(|s| only.is_none_or(|user| s.owner == user))?;
            let main = session.present().find(|c| c.key.rank == Rank::MAIN);
            let name = session.name.clone().unwrap_or_default();
            Some((session.state, name, main.map(|c| (c.agent, c.key))))
        })
        .await?;
    let Some((now, name, main)) = place else {
        return Err(no_session(id));
    };
    let (SessionState::Running, Some((agent, key))) = (now, main) else {
        return Err(Failure::new(
            "LS-STATE",
            format!("Session {id} is {now}; signals reach running ones only."),
        ));
    };
    let record = |outcome| {
        origin
            .draft("session.signal", outcome)
            .target("session", &id.to_string(), &name)
            .detail(&order.signal)
    };
    // First: what cannot be recorded must not reach the session.
    app.engine.record(record(Outcome::Ok)).await?;
    let request = SignalRequest {
        key,
        signal: order.signal.clone(),
    };
    let Err(why) = app.nodes.signal(agent, request).await else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let code = "LS-AGENT-UNREACHABLE";
    app.engine
        .record(record(Outcome::Failed).code(code))
        .await?;
    Err(Failure::new(
        code,
        format!("The signal was not delivered: {why}."),
    ))
}

pub(super) async fn terminate(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    let order = extract::json::<TerminateRequest>(request).await?.value;
    if !order.ids.is_empty() {
        return Err(
            Failure::new("LS-INVALID", "The session stands in the address.")
                .at("/ids", "Only the route /sessions/terminate has ids."),
        );
    }
    let id = resolve(&app, &caller, &text).await?;
    let answer = end(&app, &engine, &caller, vec![id], &order).await?;
    if answer.skipped.iter().any(|s| s.why == "not-found") {
        return Err(no_session(id));
    }
    json(&answer)
}

pub(super) async fn terminate_many(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    let order = extract::json::<TerminateRequest>(request).await?.value;
    if order.ids.is_empty() || order.ids.len() > MOST_IDS {
        return Err(Failure::new(
            "LS-INVALID",
            format!("ids must name 1 to {MOST_IDS} sessions."),
        )
        .at("/ids", format!("1 to {MOST_IDS} are wanted.")));
    }
    let (mut ids, mut unknown) = (Vec::new(), Vec::new());
    for text in &order.ids {
        match resolve(&app, &caller, text).await {
            Ok(id) => ids.push(id),
            Err(failure) if failure.code == "LS-NOT-FOUND" => {
                unknown.push(Skipped {
                    id: super::errors::cut(text),
                    why: "not-found".to_owned(),
                });
            }
            Err(failure) => return Err(failure),
        }
    }
    let mut answer = end(&app, &engine, &caller, ids, &order).await?;
    answer.skipped.extend(unknown);
    json(&answer)
}

async fn end(
    app: &App,
    engine: &Engine,
    caller: &Person,
    ids: Vec<SessionId>,
    order: &TerminateRequest,
) -> Result<TerminateAnswer, Failure> {
    let grace_s = match order.grace_s {
        None => GRACE_S,
        Some(s) => u32::try_from(s).ok().filter(|s| *s <= 600).ok_or_else(|| {
            Failure::new("LS-INVALID", "grace_s must be 0 to 600 seconds.")
                .at("/grace_s", "0 to 600 is wanted.")
        })?,
    };
    let (mut own, mut foreign) = (Vec::with_capacity(ids.len()), Vec::new());
    for id in ids {
        // Who may end everybody's sessions needs no look at each.
        match only_of(caller) {
            None => own.push(id),
            Some(_) => match stored(app, caller, id).await {
                Ok(_) => own.push(id),
                Err(failure) if failure.code == "LS-NOT-FOUND" => foreign.push(Skipped {
                    id: id.to_string(),
                    why: "not-found".to_owned(),
                }),
                Err(failure) => return Err(failure),
            },
        }
    }
    let event = Terminate {
        caller: caller.caller.clone(),
        ids: own,
        grace_s,
        force: order.force,
    };
    let mut answer = match engine.ask(Event::Terminate(event)).await?? {
        Answer::Terminated(answer) => answer,
        other => return Err(unexpected(&other)),
    };
    // The engine forgets what is over and done; the store remembers.
    for skipped in answer.skipped.iter_mut().filter(|s| s.why == "not-found") {
        let Ok(id) = skipped.id.parse::<SessionId>() else {
            continue;
        };
        if app.reader.session(id).await?.is_some() {
            skipped.why = "already-final".to_owned();
        }
    }
    answer.skipped.extend(foreign);
    Ok(answer)
}
