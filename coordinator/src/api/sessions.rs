//! Sessions: asking for them, looking at them, ending them.

mod asked;
mod export;
mod idle;
mod list;
mod prolong;
mod steer;

pub(super) use export::{FILTERS, export};
pub(super) use idle::idle;
pub(super) use list::list;
pub(super) use prolong::{extend, keep};
pub(super) use steer::{hold, release, restart, update};

use super::audit::origin;
use super::errors::Failure;
use super::extract::{self, Query, Ref};
use super::views::{self, Detail};
use super::{App, beside, held, json, person, replays};
use crate::engine::Engine;
use crate::identity::Person;
use crate::pki::sha256;
use crate::vaults::Kept;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_common::api::{self, NewSession, Skipped, TerminateAnswer, TerminateRequest};
use longshore_common::ids::SessionId;
use longshore_common::redact::Redaction;
use longshore_common::session::{ResultKind, SessionType};
use longshore_common::time::Timestamp;
use longshore_common::wire::{SIGNALS, SignalRequest};
use longshore_core::access::{Caller as Rights, Decision, Operation};
use longshore_core::model::{
    self, Adjusted, Answer, Event, PastSession, Refusal, SessionUse, Submit, Terminate, UseSession,
};
use longshore_core::scheduler::{self, Planner};
use longshore_identity::audit::Outcome;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Sessions one request may end.
const MOST_IDS: usize = 200;
/// Sessions one session may wait for: each costs a look into the database.
const MOST_DEPENDENCIES: usize = 64;

pub(super) async fn create(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    let key = replays::key(request.headers())?;
    let body = extract::json::<NewSession>(request).await?;
    let mut submit = order(&app, &caller, body.value.clone()).await?;
    submit.idempotency = key.map(|key| (key, sha256(&body.bytes)));
    let (mut answer, mut seen) = accept(&engine, submit.clone()).await?;
    if answer.as_ref().is_err_and(|no| no.code == "LS-DEPENDENCY") {
        // One that has ended just now was no past one when it was read, and is not in memory
        // any more.
        let again = order(&app, &caller, body.value).await?;
        if again.past.len() > submit.past.len() {
            submit.past = again.past;
            (answer, seen) = accept(&engine, submit).await?;
        }
    }
    let accepted = match answer? {
        Answer::Session(accepted) => accepted,
        other => return Err(unexpected(&other)),
    };
    let shown = match seen {
        Some(shown) => shown,
        // A replay of a session that has ended since.
        None => show(&app, &caller, accepted.id)
            .await?
            .ok_or_else(|| no_session(accepted.id))?,
    };
    let mut response = (StatusCode::CREATED, tagged(&shown)?).into_response();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&format!("/api/v1/sessions/{}", accepted.id)) {
        headers.insert(header::LOCATION, value);
    }
    if accepted.replayed {
        headers.insert(replays::REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Asks for a session, and looks at it in the same batch: what was just accepted is in memory.
async fn accept(
    engine: &Engine,
    submit: Submit,
) -> Result<(Result<Answer, Refusal>, Option<api::Session>), Failure> {
    let live = Arc::clone(&engine.live);
    let owner = submit.caller.user;
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
    let event = Event::Submit(Box::new(submit));
    Ok(engine.ask_and_consult(event, look).await?)
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
    let submit = Submit {
        past,
        submitted_by: caller.rights.submitted_by(),
        bound: caller.called().project,
        no_room: app.engine.live.disk.no_room(),
        ..Submit::new(caller.caller.clone(), request, app.defaults.get())
    };
    with_vaults(app, submit).await
}

/// What comes of the vaults of whom a session runs as, before it is placed: what locked ones hold
/// against the request, what is hidden where it is shown, and in the request itself the image and
/// the directory where it names none.
async fn with_vaults(app: &App, submit: Submit) -> Result<Submit, Failure> {
    let look = move |state: &model::State, _| {
        let user = model::runs_as(state, &submit);
        let all = user.map_or_else(Vec::new, |user| Kept::all_for(state, user));
        (submit, all)
    };
    let (mut submit, all) = app.engine.read(look).await?;
    let request = &mut submit.request;
    let given = model::Given::of(request);
    if given.is_some() {
        app.vaults.can_seal().map_err(Failure::from)?;
    }
    let merged = match all.is_empty() && given.is_none() {
        true => {
            let asked = crate::vaults::environment(request.environment.iter());
            app.vaults.configure(None, &all, asked).merged
        }
        false => {
            let (app, variables) = (app.clone(), request.environment.clone());
            let configure = move || {
                // What is wrong with it the engine says, with the place.
                let trees = given.and_then(|given| given.asked().ok());
                let asked = crate::vaults::request(variables.iter(), trees);
                app.vaults.configure(None, &all, asked).merged
            };
            beside(configure).await?
        }
    };
    let redact = crate::vaults::hidden(&merged);
    let of = |path: &str| merged.text(path).map(str::to_owned);
    // The image of a system session is nobody's choice.
    let system = request.kind.as_deref() == Some(SessionType::System.as_str());
    if !system {
        request.image = request.image.take().or_else(|| of("agent.default_image"));
    }
    request.workdir = request.workdir.take().or_else(|| of("agent.working_dir"));
    let held = merged.locked();
    let one = |held: longshore_config::work::layers::Locked| Adjusted {
        path: held.path,
        from: Some(held.from),
        to: held.to,
        reason: "locked".to_owned(),
        source: Some(held.source),
    };
    submit.held = held.into_iter().map(one).collect();
    submit.redact = redact;
    Ok(submit)
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
        // One that does not wait is refused instead.
        let refused = session.kind == SessionType::System && checked.verdict != "now";
        let agents = scheduler::verdicts(planner, state, &session);
        Ok::<_, Refusal>(api::SessionCheck {
            verdict: match refused {
                true => "never".to_owned(),
                false => checked.verdict.to_owned(),
            },
            code: refused.then(|| "LS-SYSTEM-SESSION".to_owned()),
            detail: refused.then(|| "A system session does not wait.".to_owned()),
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

/// What a caller may do, as of now: a right may have been lost since the request came.
pub(super) fn rights(state: &model::State, caller: &Person) -> Rights {
    let rights = state.rights_as(&caller.caller, &caller.called());
    rights.unwrap_or_else(|_| Rights::anonymous())
}

/// Whether a caller sees a session.
fn sees(state: &model::State, caller: &Person, session: &model::Session) -> bool {
    let rights = rights(state, caller);
    let decision = state.judged_session(&rights, session, Operation::SessionRead, false);
    decision.is_allowed()
}

/// One session as its caller sees it, live or past.
async fn show(app: &App, caller: &Person, id: SessionId) -> Result<Option<api::Session>, Failure> {
    let (live, detail) = (
        Arc::clone(&app.engine.live),
        Detail::Whole(caller.caller.user),
    );
    let who = caller.clone();
    let shown = app
        .engine
        .consult(move |state, planner, now| {
            state
                .sessions
                .get(&id)
                .filter(|s| sees(state, &who, s))
                .map(|s| {
                    let mut item = views::session(state, planner, &live, s, now, detail);
                    views::number(state, planner, now, &[id], std::slice::from_mut(&mut item));
                    item
                })
        })
        .await?;
    if shown.is_some() {
        return Ok(shown);
    }
    let Some(past) = app.reader.session(id).await? else {
        return Ok(None);
    };
    let (live, who) = (Arc::clone(&app.engine.live), caller.clone());
    let shown = app
        .engine
        .consult(move |state, planner, now| {
            sees(state, &who, &past)
                .then(|| views::session(state, planner, &live, &past, now, detail))
        })
        .await?;
    Ok(shown)
}

/// A session as it is stored, live or past. One that is not for this caller is not there.
pub(super) async fn stored(
    app: &App,
    caller: &Person,
    id: SessionId,
) -> Result<model::Session, Failure> {
    allowed(app, caller, id, Operation::SessionRead).await
}

/// A session to which a caller may do something.
///
/// # Errors
/// 404 for one the caller does not see, 403 for one it may not do this to.
pub(super) async fn allowed(
    app: &App,
    caller: &Person,
    id: SessionId,
    operation: Operation,
) -> Result<model::Session, Failure> {
    let live = app
        .engine
        .read(move |state, _| state.sessions.get(&id).cloned())
        .await?;
    let session = match live {
        Some(session) => Some(session),
        None => app.reader.session(id).await?,
    };
    let session = session.ok_or_else(|| no_session(id))?;
    let (who, admin_exec) = (caller.clone(), app.rights.get().admin_exec);
    let (session, decision) = app
        .engine
        .read(move |state, _| {
            let rights = rights(state, &who);
            let decision = state.judged_session(&rights, &session, operation, admin_exec);
            (session, decision)
        })
        .await?;
    match decision {
        Decision::Allowed(_) => Ok(session),
        Decision::Forbidden(why) => Err(Failure::new(why.code(), why.to_string())),
        Decision::Hidden(_) => Err(no_session(id)),
    }
}

/// Does something to a session that leaves its state as it is; the session as it is. Whether
/// the caller may is judged and written down in one step, before anything is done.
pub(super) async fn used(
    app: &App,
    engine: &Engine,
    caller: &Person,
    id: SessionId,
    what: SessionUse,
) -> Result<model::Session, Failure> {
    let order = |past: Option<Box<model::Session>>| {
        let order = UseSession {
            caller: caller.caller.clone(),
            called: caller.called(),
            session: id,
            past,
            what: what.clone(),
            admin_exec: app.rights.get().admin_exec,
        };
        engine.ask(Event::UseSession(Box::new(order)))
    };
    let mut told = order(None).await?;
    // Memory forgets what is over and done; the store remembers.
    if told.as_ref().is_err_and(|no| no.code == "LS-NOT-FOUND")
        && let Some(past) = app.reader.session(id).await?
    {
        told = order(Some(Box::new(past))).await?;
    }
    match told? {
        Answer::Used(session) => Ok(*session),
        other => Err(unexpected(&other)),
    }
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
    let mut watch = wait.map(|_| app.engine.watch(id));
    held::shows(request.extensions(), id, Operation::SessionRead);
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
        let Some(watch) = watch.as_mut().filter(|_| known != "*") else {
            return Ok(unchanged());
        };
        tokio::select! {
            () = watch.changed() => (),
            () = tokio::time::sleep_until(until) => return Ok(unchanged()),
            _ = stopping.wait_for(|stop| *stop) => return Ok(unchanged()),
        }
    }
}

pub(super) async fn history(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let query = Query::read(request.uri().query(), &["limit", "cursor"])?;
    let id = resolve(&app, &caller, &text).await?;
    let session = stored(&app, &caller, id).await?; // 404 when there is no such session
    // Which administrator reached in is told to whom it was done, and to administrators.
    let reaches = match session.owner == caller.id || caller.rights.oversees(session.domain) {
        true => app.reader.reaches(id).await?,
        false => Vec::new(),
    };
    let viewer = caller.caller.user;
    let own = app.engine.read(move |state, _| {
        let viewer = state.users.get(&viewer);
        viewer.map_or_else(Vec::new, |user| user.redaction_names.clone())
    });
    let own = own.await?;
    let names = app.engine.live.redaction.get();
    let redaction = Redaction::new(&names, &session.redact, &own);
    let items = views::history(&app.reader.history(id).await?, &reaches, &redaction);
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

/// Sends a signal to the program of a running session, in each container that runs it.
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
    // What cannot be recorded must not reach the session: first the record, then the signal.
    let engine = app.engine.asked_by(Arc::clone(&origin));
    let what = SessionUse::Signal(order.signal.clone());
    let session = used(&app, &engine, &caller, id, what).await?;
    // What has finished beside others that go on has no program any more.
    let programs = session.unfinished();
    let programs = programs.filter(|c| session.runs_command(c.key.rank));
    let sent: Vec<_> = programs
        .map(|container| {
            let request = SignalRequest {
                key: container.key,
                signal: order.signal.clone(),
            };
            let rank = container.key.rank;
            let sending = app.nodes.signal(container.agent, request);
            async move { sending.await.err().map(|why| (rank, why)) }
        })
        .collect();
    if sent.is_empty() {
        return Err(Failure::new(
            "LS-STATE",
            format!("Session {id} has no program now; signals reach running ones only."),
        ));
    }
    let several = sent.len() > 1;
    // At once: each node that is away takes its time to be found so.
    let failed = futures_util::future::join_all(sent).await;
    let failed: Vec<_> = failed.into_iter().flatten().collect();
    let Some((_, why)) = failed.first() else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let to = match several {
        true => {
            let ranks = failed.iter().map(|(rank, _)| rank.to_string());
            format!(" to {}", ranks.collect::<Vec<_>>().join(", "))
        }
        false => String::new(),
    };
    let code = "LS-AGENT-UNREACHABLE";
    let name = session.name.as_deref().unwrap_or_default();
    let failed = origin
        .draft("session.signal", Outcome::Failed)
        .target("session", &id.to_string(), name)
        .detail(&order.signal);
    app.engine.record(failed.code(code)).await?;
    Err(Failure::new(
        code,
        format!("The signal was not delivered{to}: {why}."),
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
    let many = !order.ids.is_empty();
    let grace_s = match order.grace_s {
        None => app.settings.now().config.services.sessions.stop_grace_s,
        Some(s) => u32::try_from(s).ok().filter(|s| *s <= 600).ok_or_else(|| {
            Failure::new("LS-INVALID", "grace_s must be 0 to 600 seconds.")
                .at("/grace_s", "0 to 600 is wanted.")
        })?,
    };
    let event = Terminate {
        caller: caller.caller.clone(),
        called: Some(caller.called()),
        ids,
        grace_s,
        force: order.force,
        many,
        handed: std::collections::BTreeMap::new(),
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
        match allowed(app, caller, id, Operation::SessionTerminate).await {
            Ok(_) => skipped.why = "already-final".to_owned(),
            Err(failure) if failure.code == "LS-NOT-FOUND" => (),
            // Of many, the others are ended all the same.
            Err(failure) if many && failure.code == "LS-READ-ONLY" => {
                skipped.why = "read-only".to_owned();
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(answer)
}
