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
use crate::api::sockets::{self, LastWords, Why, close, message, problem};
use crate::cluster::ExecEnds;
use axum::extract::ws::{Message, WebSocket, close_code};
use futures_util::StreamExt as _;
use longshore_common::api::ExecSize;
use longshore_common::wire::{ExecKind, FromExec, MAX_PIECE, SIGNALS, TerminalSize, ToExec};
use longshore_link::boot_ms;
use serde_json::json;

/// How it ends behind the connection.
#[derive(Debug)]
enum End {
    /// The command ended.
    Exited(i32),
    /// Its agent does not know what became of it, or the way to it broke.
    Unknown(Option<String>),
    /// A newer connection has it.
    Replaced,
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
            (ExecKind::Terminal | ExecKind::Detached, true) => State::Detached,
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
        why = sockets::outgoing(&mut out, &mut from, said) => why,
        why = sockets::incoming(&mut back, &to, read) => why,
        failure = standing.lost() => Why::Lost(failure),
        _ = &mut connection.connected.replaced => Why::Behind(End::Replaced),
        _ = stopping.wait_for(|stop| *stop) => Why::Stopping,
    };
    let kind = connection.connected.request.kind;
    let (terminal, goes_on) = (kind == ExecKind::Terminal, kind == ExecKind::Detached);
    if matches!(why, Why::Left | Why::Broken(_) | Why::Lost(_)) {
        // An agent that takes nothing ends a command without it, a terminal a minute later.
        let _ = to.try_send(ToExec::Leave);
    }
    drop((to, from));
    connection.becomes(match &why {
        Why::Behind(End::Exited(code)) => State::Ended(Some(*code)),
        Why::Behind(End::Unknown(Some(_))) => State::Ended(None),
        Why::Gone | Why::Stopping | Why::Behind(End::Unknown(None)) if terminal => State::Detached,
        _ if goes_on => State::Detached,
        _ => State::Ended(None),
    });
    drop(connection);
    sockets::part(&mut out, why.last_words(&app, |end| last_words(&app, end))).await;
}

/// What the command says as a message.
fn said(next: Option<FromExec>) -> Result<Message, End> {
    match next {
        None => Err(End::Unknown(None)),
        Some(FromExec::Exited(code)) => Err(End::Exited(code)),
        Some(FromExec::Failed(text)) => Err(End::Unknown(Some(text))),
        Some(FromExec::Output(bytes)) => Ok(message(1, &bytes)),
        Some(FromExec::ErrorOutput(bytes)) => Ok(message(2, &bytes)),
    }
}

fn last_words(app: &App, end: &End) -> LastWords {
    match end {
        End::Exited(code) => {
            let end = json!({ "exit_code": code }).to_string();
            let close = close(close_code::NORMAL, "it has ended");
            (Some(message(5, end.as_bytes())), close)
        }
        End::Unknown(text) => {
            let text = text.as_deref().unwrap_or("the way to its agent broke");
            let text = format!("What became of it is not known: {text}.");
            let failure = Failure::new("LS-AGENT-UNREACHABLE", text);
            let close = close(close_code::ERROR, "not known");
            (Some(problem(app, &failure)), close)
        }
        End::Replaced => {
            let failure = Failure::new("LS-STATE", "Another connection has taken it over.");
            let close = close(close_code::POLICY, "taken over");
            (Some(problem(app, &failure)), close)
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

    #[test]
    fn large_input_is_cut_into_pieces_that_fit() {
        let mut whole = vec![0];
        whole.extend(vec![7; MAX_PIECE + 1]);
        let pieces = read(&whole).unwrap();
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[1], ToExec::Input(vec![7]));
    }
}
