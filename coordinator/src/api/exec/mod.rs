//! Commands and terminals in running sessions.
//!
//! `POST` checks and enters one into the [`book`](Execs), the first WebSocket begins it at its
//! agent. What is open ends within seconds after the right to it is lost.

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
use longshore_common::api::{Exec, NewExec};
use longshore_common::ids::{AgentId, ExecId, SessionId};
use longshore_common::wire::{ExecKind, ExecRequest};
use longshore_core::access::Operation;
use longshore_core::model::{SessionUse, exec_container, exec_wish};
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

/// A command on its way, or why there is none.
pub type BeginningExec<'a> =
    Pin<Box<dyn Future<Output = Result<ExecEnds, ClusterError>> + Send + 'a>>;

/// Begins a command at the agent of a cluster.
pub(super) fn begin(cluster: &Cluster, agent: AgentId, request: ExecRequest) -> BeginningExec<'_> {
    Box::pin(cluster.exec(agent, request))
}

const fn kind_of(kind: ExecKind) -> &'static str {
    match kind {
        ExecKind::Command => "command",
        ExecKind::Terminal => "terminal",
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
        token: None,
    }
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
    app.execs.room((id, caller.caller.user), now_ms)?;
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
            ExecKind::Command => "exec".to_owned(),
            ExecKind::Terminal => "terminal".to_owned(),
        });
        sessions::used(&app, &engine, &caller, id, what).await?;
        app.execs.enter(entry, now_ms)?;
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
    let wanted = app.execs.look(which, now_ms, |entry| entry.token);
    let given = token_of(&parts.headers).map(|token| sha256(token.as_bytes()));
    let good = wanted
        .zip(given)
        .is_some_and(|(wanted, given)| bool::from(wanted.ct_eq(&given)));
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
    let mut connection = stream::Connection::new(&app, connected);
    let begun = app.nodes.exec(agent, request).await;
    let ends = match begun {
        Ok(ends) => ends,
        Err(error) => {
            if error != ClusterError::Away {
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
