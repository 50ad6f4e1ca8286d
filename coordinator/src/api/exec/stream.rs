//! One WebSocket of a command or terminal: the first byte of a message is its channel.
//!
//! | channel | way | holds |
//! |---|---|---|
//! | 0 | in | input |
//! | 1, 2 | out | output, error output |
//! | 3 | in | size of the terminal, `{"rows","cols"}` |
//! | 4 | in | nothing: no more input comes |
//! | 5 | out | the end, `{"exit_code"}` |
//! | 6 | out | a problem |
//! | 7 | in | a signal, by its name |

use super::book::{Connected, State};
use crate::api::App;
use crate::api::errors::Failure;
use crate::api::held;
use crate::cluster::ExecEnds;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures_util::stream::SplitStream;
use futures_util::{Sink, SinkExt as _, StreamExt as _};
use longshore_common::api::ExecSize;
use longshore_common::wire::{ExecKind, FromExec, MAX_PIECE, SIGNALS, TerminalSize, ToExec};
use longshore_link::boot_ms;
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// The client is asked whether it is there so often, also while output flows: it may have
/// nothing to say for as long as it only reads.
const PING: Duration = Duration::from_secs(15);
/// Thrice that without a word is silence.
const SILENCE: Duration = Duration::from_secs(45);
/// The last words of a connection get so long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a connection ends.
#[derive(Debug)]
enum Why {
    /// The command ended.
    Exited(i32),
    /// Its agent does not know what became of it, or the way to it broke.
    Unknown(Option<String>),
    /// The client closed it on purpose.
    Left,
    /// The client is gone.
    Gone,
    /// The client says what makes no sense.
    Broken(&'static str),
    /// The right to it is lost.
    Lost(Failure),
    /// A newer connection has it.
    Replaced,
    /// The coordinator stops.
    Stopping,
}

/// A connection as the book has it: dropped, however that comes about, it is over.
pub(super) struct Connection {
    app: App,
    connected: Connected,
    state: State,
}

impl Connection {
    pub(super) fn new(app: &App, connected: Connected) -> Self {
        let state = match (connected.request.kind, connected.request.resume) {
            // Its agent may have it still.
            (ExecKind::Terminal, true) => State::Detached,
            _ => State::Ended(None),
        };
        Self {
            app: app.clone(),
            connected,
            state,
        }
    }

    /// How it stands when this is dropped.
    pub(super) const fn becomes(&mut self, state: State) {
        self.state = state;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let execs = &self.app.execs;
        execs.leave(&self.connected, self.state, boot_ms());
    }
}

/// Serves it to its end.
pub(super) async fn serve(
    socket: WebSocket,
    mut connection: Connection,
    ends: ExecEnds,
    mut standing: held::Rests,
) {
    let app = connection.app.clone();
    let ExecEnds { to, mut from } = ends;
    let (mut out, mut back) = socket.split();
    let mut stopping = app.stopping.clone();
    let why = tokio::select! {
        why = outgoing(&mut out, &mut from) => why,
        why = incoming(&mut back, &to) => why,
        failure = standing.lost() => Why::Lost(failure),
        _ = &mut connection.connected.replaced => Why::Replaced,
        _ = stopping.wait_for(|stop| *stop) => Why::Stopping,
    };
    let terminal = connection.connected.request.kind == ExecKind::Terminal;
    if matches!(why, Why::Left | Why::Broken(_) | Why::Lost(_)) {
        // An agent that takes nothing ends a command without it, a terminal a minute later.
        let _ = to.try_send(ToExec::Leave);
    }
    drop((to, from));
    connection.becomes(match &why {
        Why::Exited(code) => State::Ended(Some(*code)),
        Why::Gone | Why::Stopping | Why::Unknown(None) if terminal => State::Detached,
        _ => State::Ended(None),
    });
    drop(connection);
    let (last, close) = last_words(&app, &why);
    let said = async {
        if let Some(last) = last {
            out.send(last).await?;
        }
        out.send(Message::Close(Some(close))).await
    };
    // The client may be gone.
    let _ = tokio::time::timeout(LAST_WORDS, said).await;
}

fn last_words(app: &App, why: &Why) -> (Option<Message>, CloseFrame) {
    let close = |code, reason: &'static str| CloseFrame {
        code,
        reason: reason.into(),
    };
    let problem = |failure: &Failure| {
        let problem = failure.problem(&app.address, "", "");
        // A record of texts and numbers can always be written.
        Some(message(
            6,
            &serde_json::to_vec(&problem).unwrap_or_default(),
        ))
    };
    match why {
        Why::Exited(code) => {
            let end = json!({ "exit_code": code }).to_string();
            let close = close(close_code::NORMAL, "it has ended");
            (Some(message(5, end.as_bytes())), close)
        }
        Why::Unknown(text) => {
            let text = text.as_deref().unwrap_or("the way to its agent broke");
            let text = format!("What became of it is not known: {text}.");
            let failure = Failure::new("LS-AGENT-UNREACHABLE", text);
            (problem(&failure), close(close_code::ERROR, "not known"))
        }
        Why::Left | Why::Gone => (None, close(close_code::NORMAL, "")),
        Why::Broken(text) => {
            let failure = Failure::new("LS-INVALID", *text);
            (
                problem(&failure),
                close(close_code::PROTOCOL, "not understood"),
            )
        }
        Why::Lost(failure) => (problem(failure), close(close_code::POLICY, "not allowed")),
        Why::Replaced => {
            let failure = Failure::new("LS-STATE", "Another connection has taken it over.");
            (problem(&failure), close(close_code::POLICY, "taken over"))
        }
        Why::Stopping => (None, close(close_code::RESTART, "the coordinator stops")),
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut whole = Vec::with_capacity(bytes.len() + 1);
    whole.push(channel);
    whole.extend_from_slice(bytes);
    Message::Binary(Bytes::from(whole))
}

/// A client that takes nothing holds the command's output up; nothing is dropped.
async fn outgoing(
    out: &mut (impl Sink<Message> + Unpin),
    from: &mut mpsc::Receiver<FromExec>,
) -> Why {
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            biased;
            _ = ping.tick() => Message::Ping(Bytes::new()),
            next = from.recv() => match next {
                None => return Why::Unknown(None),
                Some(FromExec::Exited(code)) => return Why::Exited(code),
                Some(FromExec::Failed(text)) => return Why::Unknown(Some(text)),
                Some(FromExec::Output(bytes)) => message(1, &bytes),
                Some(FromExec::ErrorOutput(bytes)) => message(2, &bytes),
            },
        };
        if out.send(next).await.is_err() {
            return Why::Gone;
        }
    }
}

async fn incoming(back: &mut SplitStream<WebSocket>, to: &mpsc::Sender<ToExec>) -> Why {
    loop {
        let frames = match tokio::time::timeout(SILENCE, back.next()).await {
            Err(_) | Ok(None | Some(Err(_))) => return Why::Gone,
            Ok(Some(Ok(Message::Binary(bytes)))) => match read(&bytes) {
                Ok(frames) => frames,
                Err(text) => return Why::Broken(text),
            },
            Ok(Some(Ok(Message::Text(_)))) => return Why::Broken("Frames are binary."),
            Ok(Some(Ok(Message::Close(Some(frame))))) if frame.code == close_code::NORMAL => {
                return Why::Left;
            }
            Ok(Some(Ok(Message::Close(_)))) => return Why::Gone,
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
        };
        for frame in frames {
            if to.send(frame).await.is_err() {
                // The other half says why.
                return std::future::pending().await;
            }
        }
    }
}

/// What one message of a client says.
fn read(bytes: &[u8]) -> Result<Vec<ToExec>, &'static str> {
    let Some((channel, rest)) = bytes.split_first() else {
        return Err("A frame begins with its channel.");
    };
    Ok(match channel {
        0 => {
            let pieces = rest.chunks(MAX_PIECE);
            pieces.map(|piece| ToExec::Input(piece.to_vec())).collect()
        }
        3 => {
            let size: ExecSize = serde_json::from_slice(rest)
                .map_err(|_| "A size is written as {\"rows\":24,\"cols\":80}.")?;
            let (rows, cols) = (size.rows.max(1), size.cols.max(1));
            vec![ToExec::Resize(TerminalSize { rows, cols })]
        }
        4 => vec![ToExec::EndOfInput],
        7 => {
            let name = std::str::from_utf8(rest).unwrap_or_default().trim();
            if !SIGNALS.contains(&name) {
                return Err("A signal is one of INT, TERM, HUP, QUIT, USR1, USR2.");
            }
            vec![ToExec::Signal(name.to_owned())]
        }
        _ => return Err("Channels of a client are 0, 3, 4 and 7."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_by_their_channel() {
        assert_eq!(read(b"\0ab"), Ok(vec![ToExec::Input(b"ab".to_vec())]));
        assert_eq!(read(b"\0"), Ok(vec![]));
        assert_eq!(read(b"\x04"), Ok(vec![ToExec::EndOfInput]));
        assert_eq!(read(b"\x07INT"), Ok(vec![ToExec::Signal("INT".to_owned())]));
        let size = TerminalSize { rows: 50, cols: 1 };
        let wanted = Ok(vec![ToExec::Resize(size)]);
        assert_eq!(read(b"\x03{\"rows\":50,\"cols\":0}"), wanted);
        for bad in [&b""[..], b"\x01x", b"\x03{}", b"\x07KILL", b"\xff"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_asked_whether_it_is_there_while_output_flows() {
        let (to, mut from) = mpsc::channel(1);
        tokio::spawn(async move {
            for _ in 0..50 {
                tokio::time::sleep(Duration::from_secs(1)).await; // of virtual time
                to.send(FromExec::Output(vec![b'x'])).await.unwrap();
            }
            to.send(FromExec::Exited(0)).await.unwrap();
        });
        let mut pings = 0;
        let out = futures_util::sink::unfold(&mut pings, async |pings, message| {
            *pings += usize::from(matches!(message, Message::Ping(_)));
            Ok::<_, std::convert::Infallible>(pings)
        });
        let why = outgoing(&mut Box::pin(out), &mut from).await;
        assert!(matches!(why, Why::Exited(0)), "{why:?}");
        assert_eq!(pings, 3);
    }

    #[test]
    fn large_input_is_cut_into_pieces_that_fit() {
        let mut whole = vec![0];
        whole.extend(vec![7; MAX_PIECE + 1]);
        let pieces = read(&whole).unwrap();
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[1], ToExec::Input(vec![7]));
    }
}
