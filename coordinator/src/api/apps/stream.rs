//! One WebSocket of a connection to a port: the first byte of a message is its channel.
//!
//! | channel | way | holds |
//! |---|---|---|
//! | 0 | in | bytes to the program |
//! | 1 | out | bytes from the program |
//! | 4 | both | nothing: no more bytes come this way |
//! | 6 | out | a problem |

use crate::api::App;
use crate::api::errors::Failure;
use crate::api::held;
use crate::api::sockets::{self, LastWords, Why, close, message, problem};
use crate::cluster::TunnelEnds;
use axum::extract::ws::{Message, WebSocket, close_code};
use futures_util::StreamExt as _;
use longshore_common::wire::{FromTunnel, MAX_PIECE, ToTunnel};

/// How a connection ends in the session.
#[derive(Debug)]
enum End {
    /// Both ways have ended.
    Both,
    /// It broke in the session.
    Broke(String),
    /// The way to its agent broke, or the agent closed it as silent.
    Away,
}

/// Serves it to its end.
pub(super) async fn serve(
    app: &App,
    socket: WebSocket,
    ends: TunnelEnds,
    mut standing: held::Rests,
) {
    let TunnelEnds { to, mut from } = ends;
    let (mut out, mut back) = socket.split();
    let mut stopping = app.stopping.clone();
    let mut ended = false;
    let say = |next| said(&mut ended, next);
    let why = tokio::select! {
        why = sockets::outgoing(&mut out, &mut from, say) => why,
        why = sockets::incoming(&mut back, &to, read) => why,
        failure = standing.lost() => Why::Lost(failure),
        _ = stopping.wait_for(|stop| *stop) => Why::Stopping,
    };
    drop((to, from));
    sockets::part(&mut out, why.last_words(app, |end| last_words(app, end))).await;
}

/// What the session says as a message; `ended` once no more bytes come from it.
fn said(ended: &mut bool, next: Option<FromTunnel>) -> Result<Message, End> {
    match next {
        None if *ended => Err(End::Both),
        None => Err(End::Away),
        Some(FromTunnel::Failed(text)) => Err(End::Broke(text)),
        Some(FromTunnel::Data(bytes)) => Ok(message(1, &bytes)),
        Some(FromTunnel::End) => {
            *ended = true;
            Ok(message(4, b""))
        }
    }
}

fn last_words(app: &App, end: &End) -> LastWords {
    match end {
        End::Both => (None, close(close_code::NORMAL, "it has ended")),
        End::Broke(text) => {
            let text = format!("The connection broke in the session: {text}.");
            let failure = Failure::new("LS-APP-NOT-READY", text);
            let close = close(close_code::ERROR, "it broke");
            (Some(problem(app, &failure)), close)
        }
        End::Away => {
            let text = "The agent has ended the connection, or the way to it broke.";
            let failure = Failure::new("LS-AGENT-UNREACHABLE", text);
            let close = close(close_code::ERROR, "away");
            (Some(problem(app, &failure)), close)
        }
    }
}

/// What one message of a client says.
fn read(bytes: &[u8]) -> Result<Vec<ToTunnel>, &'static str> {
    match bytes.split_first() {
        Some((0, rest)) => {
            let pieces = rest.chunks(MAX_PIECE);
            Ok(pieces.map(|piece| ToTunnel::Data(piece.to_vec())).collect())
        }
        Some((4, _)) => Ok(vec![ToTunnel::End]),
        Some(_) => Err("Channels of a client are 0 and 4."),
        None => Err("A frame begins with its channel."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_by_their_channel_and_cut_into_pieces_that_fit() {
        assert_eq!(read(b"\0ab"), Ok(vec![ToTunnel::Data(b"ab".to_vec())]));
        assert_eq!(read(b"\x04"), Ok(vec![ToTunnel::End]));
        assert!(read(b"").is_err() && read(b"\x01x").is_err());
        let mut whole = vec![0];
        whole.extend(vec![7; MAX_PIECE + 1]);
        let pieces = read(&whole).unwrap();
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[1], ToTunnel::Data(vec![7]));
    }
}
