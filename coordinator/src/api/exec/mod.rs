//! Commands and terminals in running sessions.
//!
//! `POST` checks and enters one into the [`book`](Execs), the first WebSocket begins it at its
//! agent; a detached command is begun at once, and its agent is asked how it stands. What is open
//! ends within seconds after the right to it is lost; a detached command goes on.

mod book;
mod stream;

pub use book::Execs;

use super::admin::DRY_RUN;
use super::apps::by_own_page;
use super::audit::origin;
use super::errors::Failure;
use super::extract::{self, Query, Ref};
use super::{App, GUARDED, held, json, person, sessions};
use crate::cluster::{Cluster, ClusterError, ExecEnds};
use crate::engine::wall_clock;
use crate::identity::{Person, new_id};
use crate::pki::{random, sha256};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts as _, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use book::{Entry, none};
use futures_util::StreamExt as _;
use futures_util::stream::iter as stream_of;
use longshore_common::api::{Exec, NewExec};
use longshore_common::ids::{AgentId, ExecId, Rank, SessionId, UserId};
use longshore_common::wire::{ExecKind, ExecRequest, FromExec, NO_SUCH_COMMAND, TerminalSize};
use longshore_core::access::Operation;
use longshore_core::model::{Session, SessionUse, exec_container, exec_wish};
use longshore_link::boot_ms;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// What both sides speak.
pub(super) const PROTOCOL: &str = "longshore.v1";
/// How a token stands among the sub-protocols: browsers can send it nowhere else.
const TOKEN: &str = "token.";
/// Largest WebSocket frame of a client, in bytes.
pub(super) const FRAME: usize = 64 * 1024;
/// Largest message of a client, in bytes.
pub(super) const MESSAGE: usize = 1 << 20;

/// So many agents are asked at once whether detached commands have ended.
const ASKED: usize = 16;

/// A command on its way, or why there is none.
pub type BeginningExec<'a> =
    Pin<Box<dyn Future<Output = Result<ExecEnds, ClusterError>> + Send + 'a>>;

/// Begins a command at the agent of a cluster.
pub(super) fn begin(cluster: &Cluster, agent: AgentId, request: ExecRequest) -> BeginningExec<'_> {
    Box::pin(cluster.exec(agent, request))
}

const fn kind_of(kind: ExecKind) -> &'static str {
    match kind {
        ExecKind::Terminal => "terminal",
        ExecKind::Command | ExecKind::Detached | ExecKind::Standing => "command",
    }
}

fn shown(entry: &Entry) -> Exec {
    let (request, state) = (&entry.request, entry.state);
    Exec {
        id: request.exec.to_string(),
        session: entry.session.to_string(),
        rank: request.key.rank.to_string(),
        kind: kind_of(request.kind).to_owned(),
        state: state.as_str().to_owned(),
        created_at: entry.created_at,
        exit_code: match state {
            book::State::Ended(code) => code,
            _ => None,
        },
        detach: request.kind == ExecKind::Detached,
        token: None,
    }
}

/// Asks the agent of a detached command what became of it, and writes down what is known then.
async fn ask(app: &App, (agent, request): (AgentId, ExecRequest)) {
    let exec = request.exec;
    let over = match app.nodes.exec(agent, request).await {
        Ok(mut ends) => match ends.from.recv().await {
            Some(FromExec::Exited(code)) => Some(Some(code)),
            Some(FromExec::Failed(_)) => Some(None),
            _ => None, // it runs, or the way broke
        },
        Err(ClusterError::Refused(why)) if why == NO_SUCH_COMMAND => Some(None),
        Err(_) => None, // asked again the next time
    };
    if let Some(code) = over {
        app.execs.ended(exec, code, boot_ms());
    }
}

/// Whether one more may be opened, after looking whether detached ones have ended.
pub(super) async fn room(app: &App, which: (SessionId, UserId)) -> Result<(), Failure> {
    if app.execs.room(which, boot_ms()).is_ok() {
        return Ok(());
    }
    let unsure = app.execs.unsure(which, boot_ms());
    let asked = unsure.into_iter().map(|one| ask(app, one));
    stream_of(asked)
        .buffer_unordered(ASKED)
        .collect::<()>()
        .await;
    app.execs.room(which, boot_ms())
}

/// A command that serves a request itself.
pub(super) struct Begun {
    connection: stream::Connection,
    /// The way to it. Dropped, the command is ended.
    pub(super) ends: ExecEnds,
}

impl Begun {
    /// Says that it has ended.
    pub(super) fn ended(&mut self, code: Option<i32>) {
        self.connection.becomes(book::State::Ended(code));
    }
}

/// Begins a command for a request that serves it itself, in somebody's name. It counts like
/// any other.
pub(super) async fn begin_command(
    app: &App,
    session: &Session,
    (rank, command): (Rank, Vec<String>),
    by: UserId,
) -> Result<Begun, Failure> {
    let container = exec_container(session, rank)?;
    let request = ExecRequest {
        key: container.key,
        exec: ExecId::new(new_id()),
        kind: ExecKind::Command,
        command,
        // What goes wrong is told by the words for it.
        environment: [("LC_ALL".to_owned(), "C".to_owned())].into(),
        workdir: None,
        tty: false,
        size: TerminalSize::default(),
        resume: false,
    };
    let (exec, agent) = (request.exec, container.agent);
    // Nobody else may connect to it: nobody has its token.
    let owner = (by, random());
    let entry = Entry::new((session.id, agent), request.clone(), owner, wall_clock());
    app.execs.enter(entry, boot_ms())?;
    let connected = app.execs.connect(exec, boot_ms())?;
    let connection = stream::Connection::new(app, connected);
    let ends = app.nodes.exec(agent, request).await;
    let ends = ends.map_err(|error| not_begun(&error, session.id))?;
    Ok(Begun { connection, ends })
}

/// Begins a detached command.
async fn begin_detached(app: &App, exec: ExecId, id: SessionId) -> Result<(), Failure> {
    let connected = app.execs.connect(exec, boot_ms())?;
    let (agent, request) = (connected.agent, connected.request.clone());
    let mut connection = stream::Connection::new(app, connected);
    let begun = app.nodes.exec(agent, request).await;
    begun.map_err(|error| not_begun(&error, id))?;
    connection.becomes(book::State::Detached);
    Ok(())
}

pub(super) async fn create(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let origin = origin(request.extensions())?;
    let dry_run = Query::read(request.uri().query(), &["dry_run"])?.flag("dry_run")?;
    let order = extract::json::<NewExec>(request).await?.value;
    let id = sessions::resolve(&app, &caller, &text).await?;
    // Who may not do it hears that before anything of what is wrong with the request.
    let session = sessions::allowed(&app, &caller, id, Operation::SessionReach).await?;
    let wish = exec_wish(&order)?;
    let container = exec_container(&session, wish.rank)?;
    let (agent, key) = (container.agent, container.key);
    let now_ms = boot_ms();
    room(&app, (id, caller.caller.user)).await?;
    let request = ExecRequest {
        key,
        exec: ExecId::new(new_id()),
        kind: wish.kind,
        command: order.command,
        environment: order.environment,
        workdir: order.workdir,
        tty: wish.tty,
        size: wish.size,
        resume: false,
    };
    let exec = request.exec;
    let token = URL_SAFE_NO_PAD.encode(random::<16>());
    let by = (caller.caller.user, sha256(token.as_bytes()));
    let entry = Entry::new((id, agent), request, by, wall_clock());
    let mut answer = shown(&entry);
    if !dry_run {
        // What cannot be recorded must not reach the session: first the record.
        let engine = app.engine.asked_by(Arc::clone(&origin));
        let what = SessionUse::Reach(match wish.kind {
            ExecKind::Terminal => "terminal".to_owned(),
            _ => "exec".to_owned(),
        });
        sessions::used(&app, &engine, &caller, id, what).await?;
        app.execs.enter(entry, now_ms)?;
        if wish.kind == ExecKind::Detached {
            begin_detached(&app, exec, id).await?;
            answer.state = book::State::Detached.as_str().to_owned();
        }
        answer.token = Some(token);
    }
    let mut response = (StatusCode::CREATED, json(&answer)?).into_response();
    let headers = response.headers_mut();
    if dry_run {
        headers.insert(DRY_RUN, HeaderValue::from_static("true"));
    } else if let Ok(value) = HeaderValue::from_str(&format!("/api/v1/sessions/{id}/exec/{exec}")) {
        headers.insert(header::LOCATION, value);
    }
    Ok(response)
}

/// The session and the id of one that is to be shown or used, for somebody who may still
/// reach into that session.
async fn named(
    app: &App,
    caller: &Person,
    (session, exec): (String, String),
) -> Result<(SessionId, ExecId), Failure> {
    let id = sessions::resolve(app, caller, &session).await?;
    sessions::allowed(app, caller, id, Operation::SessionReach).await?;
    let exec = exec.parse::<ExecId>().map_err(|_| none())?;
    Ok((id, exec))
}

pub(super) async fn read(
    State(app): State<App>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let (id, exec) = named(&app, &caller, path).await?;
    let which = (id, exec, caller.caller.user);
    let open = |entry: &Entry| {
        let ended = matches!(entry.state, book::State::Ended(_));
        (!ended && entry.request.kind == ExecKind::Detached).then(|| entry.asks())
    };
    if let Some(Some(asks)) = app.execs.look(which, boot_ms(), open) {
        ask(&app, asks).await;
    }
    let found = app.execs.look(which, boot_ms(), shown);
    json(&found.ok_or_else(none)?)
}

/// The token among the sub-protocols that a client offers.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let texts = offered.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .find_map(|one| one.trim().strip_prefix(TOKEN))
}

pub(super) async fn connect(
    State(app): State<App>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let (mut parts, _) = request.into_parts();
    let caller = person(&parts.extensions)?;
    Query::read(parts.uri.query(), &[])?;
    let (id, exec) = named(&app, &caller, path).await?;
    let now_ms = boot_ms();
    let which = (id, exec, caller.caller.user);
    let wanted = app.execs.look(which, now_ms, |entry| {
        (entry.token, entry.request.kind == ExecKind::Detached)
    });
    let given = token_of(&parts.headers).map(|token| sha256(token.as_bytes()));
    // Of a detached command there is nothing to take over: its caller looks at it.
    let good = wanted.is_some_and(|(wanted, detached)| match given {
        Some(given) => bool::from(wanted.ct_eq(&given)),
        None => detached,
    });
    if !good {
        return Err(none());
    }
    by_own_page(&app, &parts.headers)?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|_| no_websocket())?.protocols([PROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        return Err(no_websocket());
    }
    held::shows(&parts.extensions, id, Operation::SessionReach);
    let standing = held::standing(&app, &parts.extensions).ok_or_else(Failure::internal)?;
    let connected = app.execs.connect(exec, now_ms)?;
    let (agent, request) = (connected.agent, connected.request.clone());
    let detached = request.kind == ExecKind::Detached;
    let mut connection = stream::Connection::new(&app, connected);
    let begun = app.nodes.exec(agent, request).await;
    let ends = match begun {
        Ok(ends) => ends,
        Err(error) => {
            let gone = ClusterError::Refused(NO_SUCH_COMMAND.to_owned());
            if (error != ClusterError::Away && !detached) || error == gone {
                connection.becomes(book::State::Ended(None));
            }
            return Err(not_begun(&error, id));
        }
    };
    Ok(upgrade
        .max_frame_size(FRAME)
        .max_message_size(MESSAGE)
        .on_upgrade(move |socket| {
            GUARDED.scope((), stream::serve(socket, connection, ends, standing))
        }))
}

pub(super) fn no_websocket() -> Failure {
    let text = "This address is opened as a WebSocket with the sub-protocol longshore.v1.";
    Failure::new("LS-WEBSOCKET", text)
}

fn not_begun(error: &ClusterError, id: SessionId) -> Failure {
    match error {
        ClusterError::Refused(why) => {
            Failure::new("LS-STATE", format!("Nothing was opened in {id}: {why}."))
        }
        other => {
            let text = format!("Nothing can be opened in {id} now: {other}.");
            Failure::new("LS-AGENT-UNREACHABLE", text).retry_after(2)
        }
    }
}

#[cfg(test)]
mod tests;
