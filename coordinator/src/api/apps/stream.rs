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
use crate::cluster::TunnelEnds;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use longshore_common::wire::{FromTunnel, MAX_PIECE, ToTunnel};
use std::time::Duration;
use tokio::sync::mpsc;

/// A silent connection is asked whether it is there so often.
const PING: Duration = Duration::from_secs(15);
/// Thrice that without a word is silence.
const SILENCE: Duration = Duration::from_secs(45);
/// The last words of a connection get so long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a connection ends.
#[derive(Debug)]
enum Why {
    /// Both ways have ended.
    Ended,
    /// It broke in the session.
    Broke(String),
    /// The way to its agent broke, or the agent closed it as silent.
    Away,
    /// The client closed it or is gone.
    Left,
    /// The client says what makes no sense.
    Broken(&'static str),
    /// The right to it is lost.
    Lost(Failure),
    /// The coordinator stops.
    Stopping,
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
    let why = tokio::select! {
        why = outgoing(&mut out, &mut from) => why,
        why = incoming(&mut back, &to) => why,
        failure = standing.lost() => Why::Lost(failure),
        _ = stopping.wait_for(|stop| *stop) => Why::Stopping,
    };
    drop((to, from));
    let (last, close) = last_words(app, &why);
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
        let text = serde_json::to_vec(&problem).unwrap_or_default();
        Some(message(6, &text))
    };
    match why {
        Why::Ended => (None, close(close_code::NORMAL, "it has ended")),
        Why::Left => (None, close(close_code::NORMAL, "")),
        Why::Broke(text) => {
            let text = format!("The connection broke in the session: {text}.");
            let failure = Failure::new("LS-APP-NOT-READY", text);
            (problem(&failure), close(close_code::ERROR, "it broke"))
        }
        Why::Away => {
            let text = "The agent has ended the connection, or the way to it broke.";
            let failure = Failure::new("LS-AGENT-UNREACHABLE", text);
            (problem(&failure), close(close_code::ERROR, "away"))
        }
        Why::Broken(text) => {
            let failure = Failure::new("LS-INVALID", *text);
            let close = close(close_code::PROTOCOL, "not understood");
            (problem(&failure), close)
        }
        Why::Lost(failure) => (problem(failure), close(close_code::POLICY, "not allowed")),
        Why::Stopping => (None, close(close_code::RESTART, "the coordinator stops")),
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut whole = Vec::with_capacity(bytes.len() + 1);
    whole.push(channel);
    whole.extend_from_slice(bytes);
    Message::Binary(Bytes::from(whole))
}

/// A client that takes nothing holds the program up; nothing is dropped.
async fn outgoing(
    out: &mut SplitSink<WebSocket, Message>,
    from: &mut mpsc::Receiver<FromTunnel>,
) -> Why {
    let mut ended = false;
    loop {
        let next = match tokio::time::timeout(PING, from.recv()).await {
            Err(_) => Message::Ping(Bytes::new()),
            Ok(None) if ended => return Why::Ended,
            Ok(None) => return Why::Away,
            Ok(Some(FromTunnel::Failed(text))) => return Why::Broke(text),
            Ok(Some(FromTunnel::Data(bytes))) => message(1, &bytes),
            Ok(Some(FromTunnel::End)) => {
                ended = true;
                message(4, b"")
            }
        };
        if out.send(next).await.is_err() {
            return Why::Left;
        }
    }
}

async fn incoming(back: &mut SplitStream<WebSocket>, to: &mpsc::Sender<ToTunnel>) -> Why {
    loop {
        let frames = match tokio::time::timeout(SILENCE, back.next()).await {
            Err(_) | Ok(None | Some(Err(_) | Ok(Message::Close(_)))) => return Why::Left,
            Ok(Some(Ok(Message::Binary(bytes)))) => match read(&bytes) {
                Ok(frames) => frames,
                Err(text) => return Why::Broken(text),
            },
            Ok(Some(Ok(Message::Text(_)))) => return Why::Broken("Frames are binary."),
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
