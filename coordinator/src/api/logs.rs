//! Output of sessions: fetched from the agent that has it, passed on as it comes.
//!
//! A task fetches and a bounded channel leads to the body, so a slow reader slows the
//! agent down and a reader who leaves ends the task.

use super::apps::{self, Connecting};
use super::audit::origin;
use super::errors::Failure;
use super::exec::{self, BeginningExec};
use super::extract::{Query, Ref};
use super::{App, GUARDED, held, person, sessions};
use crate::cluster::{Cluster, ClusterError};
use crate::engine::{Origin, Watch};
use crate::identity::Person;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use longshore_common::api::LogRecord;
use longshore_common::ids::{AgentId, Attempt, ContainerKey, DeviceId, Rank, SessionId};
use longshore_common::session::ContainerState;
use longshore_common::wire::{
    Data, ExecRequest, LogsRequest, OutputKind, SignalRequest, TunnelRequest,
};
use longshore_core::access::Operation;
use longshore_core::model::{Container, Session, SessionUse};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// A reader that takes nothing for so long is cut: it holds credit of its agent's link.
const TAKES_NOTHING: Duration = Duration::from_secs(10);
/// Parameters of both routes.
pub(super) const PARAMETERS: &[&str] = &["rank", "attempt", "position", "tail", "follow", "stream"];
/// Pieces between the agent and a reader.
const BETWEEN: usize = 8;
/// A stream that is silent says so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Says where output comes from, when it does not come from its node.
const SOURCE: HeaderName = HeaderName::from_static("longshore-output");
/// Most last lines that can be asked for.
const MOST_TAIL: u64 = 1_000_000;

/// Pieces of output, to their end.
pub type LogPieces = Pin<Box<dyn Stream<Item = Result<Data, String>> + Send>>;

/// A future answer with pieces, or why there are none.
pub type OpeningLogs<'a> = Pin<Box<dyn Future<Output = Result<LogPieces, String>> + Send + 'a>>;

/// A signal on its way, or why it was not sent.
pub type Signalling<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// A word to an agent about a device on its way.
pub(super) type Releasing<'a> = Pin<Box<dyn Future<Output = Result<(), ClusterError>> + Send + 'a>>;

/// Whoever can reach into containers at agents.
pub trait Nodes: Send + Sync {
    /// Asks an agent for output of a container.
    fn open(&self, agent: AgentId, request: LogsRequest) -> OpeningLogs<'_>;

    /// Sends a signal to the main process of a container.
    fn signal(&self, agent: AgentId, request: SignalRequest) -> Signalling<'_>;

    /// Tells an agent that a person vouches for one of its devices.
    fn release(&self, agent: AgentId, device: DeviceId) -> Releasing<'_>;

    /// Begins a command or terminal in a container, or takes a terminal up again.
    fn exec(&self, agent: AgentId, request: ExecRequest) -> BeginningExec<'_>;

    /// Connects to a port inside a container.
    fn tunnel(&self, agent: AgentId, request: TunnelRequest) -> Connecting<'_>;
}

/// No agent can be reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNodes;

impl Nodes for NoNodes {
    fn open(&self, _: AgentId, _: LogsRequest) -> OpeningLogs<'_> {
        Box::pin(async { Err("the agent is not connected".to_owned()) })
    }

    fn signal(&self, _: AgentId, _: SignalRequest) -> Signalling<'_> {
        Box::pin(async { Err("the agent is not connected".to_owned()) })
    }

    fn release(&self, _: AgentId, _: DeviceId) -> Releasing<'_> {
        Box::pin(async { Err(ClusterError::Away) })
    }

    fn exec(&self, _: AgentId, _: ExecRequest) -> BeginningExec<'_> {
        Box::pin(async { Err(ClusterError::Away) })
    }

    fn tunnel(&self, _: AgentId, _: TunnelRequest) -> Connecting<'_> {
        Box::pin(async { Err(ClusterError::Away) })
    }
}

impl Nodes for Cluster {
    fn open(&self, agent: AgentId, request: LogsRequest) -> OpeningLogs<'_> {
        Box::pin(async move {
            let opened = self
                .logs(agent, request)
                .await
                .map_err(|error| error.to_string())?;
            let pieces = stream::unfold(opened, |mut opened| async move {
                opened.next().await.map(|piece| (piece, opened))
            });
            Ok(Box::pin(pieces) as LogPieces)
        })
    }

    fn signal(&self, agent: AgentId, request: SignalRequest) -> Signalling<'_> {
        Box::pin(async move {
            let sent = Self::signal(self, agent, request).await;
            sent.map_err(|error| error.to_string())
        })
    }

    fn release(&self, agent: AgentId, device: DeviceId) -> Releasing<'_> {
        Box::pin(Self::release(self, agent, device))
    }

    fn exec(&self, agent: AgentId, request: ExecRequest) -> BeginningExec<'_> {
        exec::begin(self, agent, request)
    }

    fn tunnel(&self, agent: AgentId, request: TunnelRequest) -> Connecting<'_> {
        apps::connect_at(self, agent, request)
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
struct Ask {
    caller: Person,
    origin: Arc<Origin>,
    id: SessionId,
    rank: Rank,
    attempt: Option<Attempt>,
    position: u64,
    tail: Option<u32>,
    follow: bool,
    only: Option<OutputKind>,
    /// Only the bytes count.
    plain: bool,
}

impl Ask {
    fn wants(&self, kind: OutputKind) -> bool {
        self.only
            .is_none_or(|only| only == kind || kind == OutputKind::Gap)
    }

    /// Whether what is kept here is of the container that is asked for.
    fn is_kept(&self, session: &Session) -> bool {
        let present = self.attempt.is_none_or(|a| a == session.attempt);
        self.rank == session.tail_rank && present && session.tail.is_some()
    }
}

async fn ask(app: &App, text: &str, extensions: &Extensions, uri: Uri) -> Result<Ask, Failure> {
    let (caller, origin) = (person(extensions)?, origin(extensions)?);
    let query = Query::read(uri.query(), PARAMETERS)?;
    let rank = match query.one("rank")? {
        None => Rank::MAIN,
        Some(text) => text
            .parse()
            .map_err(|error| Failure::new("LS-PARAMETER", format!("{error}.")))?,
    };
    let attempt = query.number("attempt", 1..=u64::from(u32::MAX))?;
    let only = match query.one("stream")? {
        None => None,
        Some("stdout") => Some(OutputKind::Stdout),
        Some("stderr") => Some(OutputKind::Stderr),
        Some(_) => {
            return Err(Failure::new(
                "LS-PARAMETER",
                "stream must be stdout or stderr.",
            ));
        }
    };
    let position = query.number("position", 0..=u64::MAX)?;
    let tail = query.number("tail", 0..=MOST_TAIL)?;
    if position.is_some() && tail.is_some() {
        return Err(Failure::new(
            "LS-PARAMETER",
            "position and tail exclude each other.",
        ));
    }
    Ok(Ask {
        id: sessions::resolve(app, &caller, text).await?,
        caller,
        origin,
        rank,
        attempt: attempt.and_then(|n| u32::try_from(n).ok()).map(Attempt),
        position: position.unwrap_or(0),
        tail: tail.and_then(|n| u32::try_from(n).ok()),
        follow: query.flag("follow")?,
        only,
        plain: false,
    })
}

/// Where the output is.
enum Found {
    Pieces(LogPieces),
    /// The last output, kept here.
    Kept(Vec<Data>),
    /// There never will be any.
    Nothing,
    /// Not yet.
    Later,
}

/// The session, for somebody who may reach into it; written down once a request if that is
/// an administrator.
async fn first_look(app: &App, ask: &Ask, request: &Extensions) -> Result<Session, Failure> {
    held::shows(request, ask.id, Operation::SessionReach);
    let engine = app.engine.asked_by(Arc::clone(&ask.origin));
    let what = SessionUse::Reach("logs".to_owned());
    sessions::used(app, &engine, &ask.caller, ask.id, what).await
}

async fn find(app: &App, ask: &Ask) -> Result<Found, Failure> {
    let session = sessions::stored(app, &ask.caller, ask.id).await?;
    let over = session.state.is_final();
    let Some(container) = container(&session, ask) else {
        if ask.attempt.is_some_and(|a| a > session.attempt) {
            return Err(Failure::new(
                "LS-NOT-FOUND",
                format!(
                    "{} has had {} attempt(s) so far.",
                    session.id, session.attempt
                ),
            ));
        }
        return Ok(if over {
            kept(&session, ask)
        } else {
            Found::Later
        });
    };
    if !has_begun(container) {
        return Ok(if over {
            kept(&session, ask)
        } else {
            Found::Later
        });
    }
    let (agent, key) = (container.agent, container.key);
    let request = LogsRequest {
        key,
        position: ask.position,
        tail_lines: ask.tail,
        follow: ask.follow,
        joined: ask.plain,
    };
    match app.nodes.open(agent, request).await {
        Ok(pieces) => Ok(Found::Pieces(pieces)),
        Err(_) if over && ask.is_kept(&session) => Ok(kept(&session, ask)),
        Err(detail) => Err(unreachable(key, &detail)),
    }
}

fn unreachable(key: ContainerKey, detail: &str) -> Failure {
    Failure::new(
        "LS-AGENT-UNREACHABLE",
        format!(
            "The output of {} cannot be read now: {detail}.",
            key.session
        ),
    )
    .retry_after(2)
}

fn container<'a>(session: &'a Session, ask: &Ask) -> Option<&'a Container> {
    session
        .containers
        .iter()
        .filter(|c| c.key.rank == ask.rank && ask.attempt.is_none_or(|a| a == c.key.attempt))
        .max_by_key(|c| c.key.attempt)
}

fn has_begun(container: &Container) -> bool {
    use ContainerState::{Exited, Lost, Running, Stopping};
    container.started_at.is_some() || matches!(container.state, Running | Stopping | Exited | Lost)
}

/// The last output as the session keeps it, with what it lacks said first. Where it begins
/// in the whole is known of sessions whose agent said so; of others one who has read some
/// already gets nothing twice.
fn kept(session: &Session, ask: &Ask) -> Found {
    let kept = session.tail.as_deref();
    let Some(tail) = kept.filter(|tail| ask.is_kept(session) && !tail.is_empty()) else {
        return Found::Nothing;
    };
    let start = match session.tail_at {
        Some(at) => at,
        None if ask.position > 0 => return Found::Nothing,
        None => 0,
    };
    let bytes = match ask.tail {
        None => {
            // Bytes that are no text count for more here than they did: never too few.
            let known = ask.position.saturating_sub(start);
            let known = usize::try_from(known).unwrap_or(usize::MAX);
            tail.as_bytes().get(known..).unwrap_or_default()
        }
        Some(lines) => last_lines(tail, lines).as_bytes(),
    };
    let at = session.ended_at.unwrap_or(session.created_at);
    let position = start + (tail.len() - bytes.len()) as u64;
    let missing = start.saturating_sub(ask.position);
    let gap = (missing > 0 && ask.tail.is_none()).then(|| Data {
        position: start,
        kind: OutputKind::Gap,
        at,
        bytes: format!("{missing} bytes of output are on its node only").into_bytes(),
    });
    let last = Data {
        position,
        kind: OutputKind::Stdout,
        at,
        bytes: bytes.to_vec(),
    };
    Found::Kept(gap.into_iter().chain([last]).collect())
}

fn last_lines(text: &str, lines: u32) -> &str {
    if lines == 0 {
        return "";
    }
    let body = text.strip_suffix('\n').unwrap_or(text);
    let start = body
        .rmatch_indices('\n')
        .nth(lines as usize - 1)
        .map_or(0, |(at, _)| at + 1);
    &text[start..]
}

/// What a reader gets.
enum Out {
    Piece(Data),
    End,
}

/// What is being fetched.
struct Fetched {
    pieces: mpsc::Receiver<Out>,
    /// Why it was cut short, once it was.
    cut: Arc<OnceLock<Failure>>,
    /// It comes from here, because its node does not answer.
    kept: bool,
}

/// Starts to fetch. What is wrong at once is said at once; later the pieces just cease, without
/// [`Out::End`], and who reads on by position loses nothing.
async fn fetch(app: &App, ask: Ask) -> Result<Fetched, Failure> {
    // The watch before the reading: what changes in between wakes it.
    let watch = app.engine.watch(ask.id);
    let first = find(app, &ask).await?;
    let kept = matches!(first, Found::Kept(_));
    let (out, pieces) = mpsc::channel(BETWEEN);
    let cut = Arc::new(OnceLock::new());
    let (app, why) = (app.clone(), Arc::clone(&cut));
    tokio::spawn(GUARDED.scope((), async move {
        let mut stopping = app.stopping.clone();
        let out = Outlet { out, why };
        tokio::select! {
            () = produce(&app, &ask, (first, watch), &out) => (),
            () = out.out.closed() => (),
            _ = stopping.wait_for(|stop| *stop) => (),
        }
    }));
    Ok(Fetched { pieces, cut, kept })
}

/// The way to a reader.
struct Outlet {
    out: mpsc::Sender<Out>,
    why: Arc<OnceLock<Failure>>,
}

impl Outlet {
    /// False when the reader is gone or takes nothing.
    async fn hand_on(&self, piece: Data) -> bool {
        let sent = tokio::time::timeout(TAKES_NOTHING, self.out.send(Out::Piece(piece))).await;
        if sent.is_err() {
            let seconds = TAKES_NOTHING.as_secs();
            let text =
                format!("Nothing was taken for {seconds} s; read on from the last position.");
            let _ = self.why.set(Failure::new("LS-READER-SLOW", text)); // it is cut once
        }
        matches!(sent, Ok(Ok(())))
    }
}

async fn produce(app: &App, ask: &Ask, (mut found, mut watch): (Found, Watch), out: &Outlet) {
    loop {
        match found {
            Found::Pieces(mut pieces) => {
                while let Some(piece) = pieces.next().await {
                    let Ok(piece) = piece else { return }; // no end: the reader comes again
                    if ask.wants(piece.kind) && !out.hand_on(piece).await {
                        return;
                    }
                }
                break;
            }
            Found::Kept(pieces) => {
                for piece in pieces {
                    if ask.wants(piece.kind) && !out.hand_on(piece).await {
                        return;
                    }
                }
                break;
            }
            Found::Nothing => break,
            Found::Later if !ask.follow => break,
            Found::Later => watch.changed().await,
        }
        match find(app, ask).await {
            Ok(next) => found = next,
            Err(_) => return,
        }
    }
    let _ = out.out.send(Out::End).await; // the reader may have gone
}

/// The bytes of the pieces. Without their end the answer breaks off: with a clean one it would
/// look complete.
fn bytes(pieces: mpsc::Receiver<Out>) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::unfold(Some(pieces), |pieces| async move {
        let mut pieces = pieces?;
        loop {
            match pieces.recv().await {
                Some(Out::Piece(piece)) if piece.kind == OutputKind::Gap => (),
                Some(Out::Piece(piece)) => {
                    return Some((Ok(Bytes::from(piece.bytes)), Some(pieces)));
                }
                Some(Out::End) => return None,
                None => return Some((Err(std::io::Error::other("the output broke off")), None)),
            }
        }
    })
}

pub(super) async fn plain(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let mut ask = ask(&app, &text, request.extensions(), request.uri().clone()).await?;
    ask.plain = true;
    first_look(&app, &ask, request.extensions()).await?;
    let Fetched { pieces, kept, .. } = fetch(&app, ask).await?;
    let body = bytes(pieces);
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    if kept {
        headers.insert(SOURCE, HeaderValue::from_static("kept"));
    }
    Ok((headers, Body::from_stream(body)).into_response())
}

/// What a stream has told already.
enum Told {
    Nothing,
    Beginning,
    Last,
}

pub(super) async fn events(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let ask = ask(&app, &text, request.extensions(), request.uri().clone()).await?;
    let session = first_look(&app, &ask, request.extensions()).await?;
    let attempt = container(&session, &ask).map_or(session.attempt, |c| c.key.attempt);
    let rank = ask.rank;
    let Fetched { pieces, cut, kept } = fetch(&app, ask).await?;
    let first = match kept {
        true => "retry: 2000\n\nevent: kept\ndata: {}\n\n",
        false => "retry: 2000\n\n",
    };
    let begun = (pieces, Told::Nothing);
    let body = stream::unfold(begun, move |(mut pieces, told)| {
        let (app, cut) = (app.clone(), Arc::clone(&cut));
        async move {
            let text = match told {
                Told::Last => return None,
                Told::Nothing => first.to_owned(),
                Told::Beginning => match tokio::time::timeout(KEEP_ALIVE, pieces.recv()).await {
                    Err(_) => ": still here\n\n".to_owned(),
                    Ok(Some(Out::Piece(piece))) => event(rank, attempt, &piece),
                    Ok(Some(Out::End)) => "event: end\ndata: {}\n\n".to_owned(),
                    Ok(None) => {
                        let text = problem(&app, cut.get()?);
                        return Some((
                            Ok::<_, Infallible>(Bytes::from(text)),
                            (pieces, Told::Last),
                        ));
                    }
                },
            };
            Some((Ok(Bytes::from(text)), (pieces, Told::Beginning)))
        }
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Why a stream ends here, as its last event.
fn problem(app: &App, failure: &Failure) -> String {
    // A record of texts and numbers can always be written.
    let data = serde_json::to_string(&failure.problem(&app.address(), "", "")).unwrap_or_default();
    format!("event: problem\ndata: {data}\n\n")
}

/// One server-sent event.
fn event(rank: Rank, attempt: Attempt, piece: &Data) -> String {
    let (name, word) = match piece.kind {
        OutputKind::Stdout => ("line", "stdout"),
        OutputKind::Stderr => ("line", "stderr"),
        OutputKind::Gap => ("gap", "gap"),
    };
    let text = std::str::from_utf8(&piece.bytes).ok().map(str::to_owned);
    let record = LogRecord {
        rank: rank.to_string(),
        attempt: attempt.0,
        stream: word.to_owned(),
        at: piece.at,
        position: piece.position,
        bytes: if text.is_some() {
            None
        } else {
            Some(STANDARD.encode(&piece.bytes))
        },
        text: text.filter(|t| piece.kind != OutputKind::Gap || !t.is_empty()),
    };
    // A record of texts and numbers can always be written.
    let data = serde_json::to_string(&record).unwrap_or_default();
    format!("id: {}\nevent: {name}\ndata: {data}\n\n", piece.position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::time::Timestamp;

    #[test]
    fn tails_are_cut_by_lines() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb\nc", 1), "c");
        assert_eq!(last_lines("a\n", 9), "a\n");
        assert_eq!(last_lines("a\n", 0), "");
    }

    #[tokio::test]
    async fn output_that_breaks_off_does_not_look_complete() {
        for whole in [true, false] {
            let (out, pieces) = mpsc::channel(2);
            let piece = Data {
                position: 0,
                kind: OutputKind::Stdout,
                at: Timestamp(0),
                bytes: b"line".to_vec(),
            };
            assert!(out.try_send(Out::Piece(piece)).is_ok());
            assert!(!whole || out.try_send(Out::End).is_ok());
            drop(out);
            let told: Vec<_> = bytes(pieces).collect().await;
            assert_eq!(told[0].as_ref().unwrap(), "line");
            assert_eq!(told.get(1).map(Result::is_err), (!whole).then_some(true));
        }
    }

    #[test]
    fn bytes_that_are_no_text_travel_in_base64() {
        let piece = Data {
            position: 3,
            kind: OutputKind::Stderr,
            at: Timestamp(0),
            bytes: vec![0xff, 0xfe],
        };
        let text = event(Rank::MAIN, Attempt(1), &piece);
        assert!(
            text.contains("\"bytes\":\"//4=\"") && !text.contains("\"text\""),
            "{text}"
        );
        assert!(text.starts_with("id: 3\nevent: line\n") && text.ends_with("}\n\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_told_why_it_was_cut() {
        let (out, mut pieces) = mpsc::channel(1);
        let outlet = Outlet {
            out,
            why: Arc::default(),
        };
        let piece = |position| Data {
            position,
            kind: OutputKind::Stdout,
            at: Timestamp(0),
            bytes: b"x".to_vec(),
        };
        assert!(outlet.hand_on(piece(0)).await);
        assert!(outlet.why.get().is_none());
        assert!(!outlet.hand_on(piece(1)).await, "there is room for one");
        assert_eq!(outlet.why.get().unwrap().code, "LS-READER-SLOW");
        assert!(matches!(pieces.recv().await, Some(Out::Piece(p)) if p.position == 0));
    }
}
