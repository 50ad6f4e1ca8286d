//! Apps of sessions: which there are, and connections to their ports.
//!
//! A connection is a WebSocket here, a stream to the agent, and a connection the agent makes
//! inside the container's own network. Nothing of a session listens on any node. Only what the
//! session declared is reached: judged here, and again by the agent.

mod browser;
mod codes;
mod headers;
mod origin;
mod stream;

pub use browser::Browsers;
pub(super) use browser::{by_name, open, serve};
pub use origin::Origins;

use super::admin::DRY_RUN;
use super::audit::origin;
use super::cors::Cors;
use super::errors::Failure;
use super::exec::{FRAME, MESSAGE, PROTOCOL, no_websocket};
use super::extract::{Query, Ref};
use super::{App, GUARDED, held, json, person, sessions};
use crate::cluster::{Cluster, ClusterError, TunnelEnds};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts as _, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use longshore_common::api::{AppAccess, SessionApp, SessionApps};
use longshore_common::ids::{AgentId, Rank, SessionId, UserId};
use longshore_common::session::{AppPort, Protocol, SessionState};
use longshore_common::wire::{FromTunnel, MAX_PIECE, ToTunnel, TunnelRequest};
use longshore_core::access::Operation;
use longshore_core::model::{self, BUILT_IN_APPS, SessionUse, exec_container, port_container};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::io::{DuplexStream, ReadBuf};
use tokio::sync::oneshot;

/// WebSockets of one caller at once.
const PER_CALLER: u32 = 200;

/// What a browser's side wrote before it went has so long to be taken inside.
const LINGER: Duration = Duration::from_secs(5);

/// A connection on its way, or why there is none.
pub type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<TunnelEnds, ClusterError>> + Send + 'a>>;

/// Connects at the agent of a cluster.
pub(super) fn connect_at(
    cluster: &Cluster,
    agent: AgentId,
    request: TunnelRequest,
) -> Connecting<'_> {
    Box::pin(cluster.tunnel(agent, request))
}

/// The connections each caller has open.
#[derive(Debug, Clone, Default)]
pub struct Tunnels(Arc<Mutex<BTreeMap<UserId, u32>>>);

/// One of them, as long as it lives.
#[derive(Debug)]
pub(super) struct Open {
    all: Tunnels,
    by: UserId,
}

impl Tunnels {
    fn open(&self, by: UserId) -> Result<Open, Failure> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(by).or_default();
        if *count >= PER_CALLER {
            let text = format!("{PER_CALLER} connections of yours are open.");
            return Err(Failure::new("LS-STREAMS", text).retry_after(10));
        }
        *count += 1;
        let all = self.clone();
        Ok(Open { all, by })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.by) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.by);
            }
        }
    }
}

fn shown(app: &AppPort, ready: bool, url: Option<String>) -> SessionApp {
    SessionApp {
        name: app.name.clone(),
        protocol: app.protocol.to_string(),
        port: Some(app.port),
        command: app.command.clone(),
        ready,
        url,
    }
}

pub(super) async fn list(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let id = sessions::resolve(&app, &caller, &text).await?;
    let session = sessions::allowed(&app, &caller, id, Operation::SessionRead).await?;
    let ready =
        session.state == SessionState::Running && exec_container(&session, Rank::MAIN).is_ok();
    let declared = session.ports.iter().map(|port| {
        let shows = app.browsers.are_served() && port.protocol == Protocol::Http;
        let url = shows.then(|| format!("{}/s/{id}/{}/", app.address(), port.name));
        shown(port, ready, url)
    });
    let built_in = BUILT_IN_APPS.iter().map(|name| SessionApp {
        name: (*name).to_owned(),
        protocol: "tcp".to_owned(),
        port: None,
        command: Vec::new(),
        ready,
        url: None,
    });
    let items = declared.chain(built_in).collect();
    Ok(json(&SessionApps { items })?.into_response())
}

fn no_app() -> Failure {
    Failure::not_found("such app")
}

pub(super) async fn access(
    State(app): State<App>,
    Path((text, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let origin = origin(request.extensions())?;
    let dry_run = Query::read(request.uri().query(), &["dry_run"])?.flag("dry_run")?;
    let id = sessions::resolve(&app, &caller, &text).await?;
    let session = sessions::allowed(&app, &caller, id, Operation::SessionReach).await?;
    let declared = session.ports.iter().find(|port| port.name == name);
    let built_in = BUILT_IN_APPS.contains(&name.as_str());
    if declared.is_none() && !built_in {
        return Err(no_app());
    }
    exec_container(&session, Rank::MAIN)?;
    if !dry_run {
        let engine = app.engine.asked_by(origin);
        let what = SessionUse::Reach(format!("app {name}"));
        sessions::used(&app, &engine, &caller, id, what).await?;
    }
    let api = app.api_address();
    let sockets = api.replacen("http", "ws", 1);
    let answer = AppAccess {
        url: match declared {
            Some(port) => format!("{sockets}/api/v1/sessions/{id}/forward?port={}", port.port),
            None => format!("{api}/api/v1/sessions/{id}/exec"),
        },
        via: "coordinator".to_owned(),
        protocol: declared.map_or_else(|| "tcp".to_owned(), |port| port.protocol.to_string()),
        port: declared.map(|port| port.port),
        open: match declared {
            Some(port) if !dry_run && port.protocol == Protocol::Http => {
                browser::address(&app, &caller, &session, &name, "/").ok()
            }
            _ => None,
        },
    };
    let mut response = json(&answer)?.into_response();
    if dry_run {
        let headers = response.headers_mut();
        headers.insert(DRY_RUN, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A page of another origin, one of a session's own app among them, must not use what a
/// browser keeps for ours, unless the settings let it. Programs say no origin.
pub(super) fn by_own_page(app: &App, headers: &HeaderMap) -> Result<(), Failure> {
    // A request that brings its own credentials is judged by these, whatever cookies it has.
    let by_cookie = !headers.contains_key(header::AUTHORIZATION);
    let may = |cors: &Cors| cors.may_open(headers, &app.address(), by_cookie);
    match app.cors.look(may) {
        false => {
            let text = "This connection was not begun by a page of the console.";
            Err(Failure::new("LS-CSRF", text))
        }
        true => Ok(()),
    }
}

/// Which port of which container the query asks for.
fn wanted(query: Option<&str>) -> Result<(Rank, u16), Failure> {
    let query = Query::read(query, &["rank", "port"])?;
    let rank = match query.one("rank")?.map(str::parse) {
        None => Rank::MAIN,
        Some(Ok(rank)) => rank,
        Some(Err(error)) => {
            return Err(Failure::new("LS-PARAMETER", format!("rank: {error}.")));
        }
    };
    let port = query.number("port", 1..=65_535)?;
    let port = port.and_then(|port| u16::try_from(port).ok());
    let missing = || Failure::new("LS-PARAMETER", "port is wanted.");
    Ok((rank, port.ok_or_else(missing)?))
}

pub(super) async fn forward(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let (mut parts, _) = request.into_parts();
    let caller = person(&parts.extensions)?;
    let origin = origin(&parts.extensions)?;
    let id = sessions::resolve(&app, &caller, &text).await?;
    let session = sessions::allowed(&app, &caller, id, Operation::SessionReach).await?;
    by_own_page(&app, &parts.headers)?;
    let (rank, port) = wanted(parts.uri.query())?;
    let (agent, request) = place(&session, rank, port)?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|_| no_websocket())?.protocols([PROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        return Err(no_websocket());
    }
    let open = app.tunnels.open(caller.caller.user)?;
    // What cannot be recorded must not reach the session: first the record.
    let engine = app.engine.asked_by(origin);
    let what = SessionUse::Reach(format!("forward {port}"));
    sessions::used(&app, &engine, &caller, id, what).await?;
    held::shows(&parts.extensions, id, Operation::SessionReach);
    let standing = held::standing(&app, &parts.extensions).ok_or_else(Failure::internal)?;
    let ends = app.nodes.tunnel(agent, request).await;
    let ends = ends.map_err(|error| not_connected(&error, id))?;
    Ok(upgrade
        .max_frame_size(FRAME)
        .max_message_size(MESSAGE)
        .on_upgrade(move |socket| {
            GUARDED.scope((), async move {
                stream::serve(&app, socket, ends, standing).await;
                drop(open);
            })
        }))
}

fn place(
    session: &model::Session,
    rank: Rank,
    port: u16,
) -> Result<(AgentId, TunnelRequest), Failure> {
    let container = port_container(session, rank, port)?;
    let key = container.key;
    Ok((container.agent, TunnelRequest { key, port }))
}

/// A connection into a container as bytes. It is over once either side is; where that is no
/// end that the app made, reading fails.
struct Inside {
    stream: DuplexStream,
    /// It was cut, or broke.
    broken: Arc<AtomicBool>,
    /// Dropped with it.
    _gone: oneshot::Sender<()>,
}

impl AsyncRead for Inside {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        let ended = buffer.filled().len() == before && buffer.remaining() > 0;
        if ended && self.broken.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Inside {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// As bytes until its end, or that of the right to it; `held` is kept for as long.
fn connected_to(
    ends: TunnelEnds,
    lost: impl Future<Output = Failure> + Send + 'static,
    held: impl Send + 'static,
) -> Inside {
    let (stream, far) = tokio::io::duplex(MAX_PIECE);
    let broken = Arc::new(AtomicBool::new(false));
    let (gone, over) = oneshot::channel();
    let flag = Arc::clone(&broken);
    tokio::spawn(GUARDED.scope((), async move {
        pump(ends, far, &flag, (lost, over)).await;
        drop(held);
    }));
    Inside {
        stream,
        broken,
        _gone: gone,
    }
}

async fn pump(
    ends: TunnelEnds,
    far: DuplexStream,
    broken: &AtomicBool,
    (lost, gone): (impl Future<Output = Failure>, oneshot::Receiver<()>),
) {
    let TunnelEnds { to, mut from } = ends;
    let (mut read, mut write) = tokio::io::split(far);
    let up = async {
        let mut buffer = vec![0; MAX_PIECE];
        while let Ok(count) = read.read(&mut buffer).await
            && count > 0
        {
            if to
                .send(ToTunnel::Data(buffer[..count].to_vec()))
                .await
                .is_err()
            {
                return;
            }
        }
    };
    let down = async {
        loop {
            match from.recv().await {
                Some(FromTunnel::Data(bytes)) => {
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Some(FromTunnel::End) => return,
                Some(FromTunnel::Failed(_)) | None => {
                    broken.store(true, Ordering::Release);
                    return;
                }
            }
        }
    };
    let over = async {
        let _ = gone.await; // nothing is ever sent
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        () = up => (),
        () = down => (),
        () = over => (),
        _ = lost => broken.store(true, Ordering::Release),
    }
}

fn not_connected(error: &ClusterError, id: SessionId) -> Failure {
    match error {
        ClusterError::Refused(why) => Failure::new("LS-APP-NOT-READY", format!("{id}: {why}.")),
        other => {
            let text = format!("Session {id} cannot be reached now: {other}.");
            Failure::new("LS-AGENT-UNREACHABLE", text).retry_after(2)
        }
    }
}

#[cfg(test)]
mod tests;
