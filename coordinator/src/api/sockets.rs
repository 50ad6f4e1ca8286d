//! What the WebSockets of commands and of connections to ports have in common: messages that
//! begin with the byte of their channel, both directions served at once, and last words.

use super::App;
use super::errors::Failure;
use axum::extract::ws::{CloseFrame, Message, close_code};
use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
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
/// The channel of a problem.
const PROBLEM: u8 = 6;

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Why<E> {
    /// By what stands behind it: the program, the way to its agent, or another connection.
    Behind(E),
    /// The client closed it on purpose.
    Left,
    /// The client is gone.
    Gone,
    /// The client says what makes no sense.
    Broken(&'static str),
    /// The right to it is lost.
    Lost(Failure),
    /// The coordinator stops.
    Stopping,
}

/// What is said at the end: a message, if there is one, and how the connection is closed.
pub(super) type LastWords = (Option<Message>, CloseFrame);

/// A close frame.
pub(super) fn close(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame {
        code,
        reason: reason.into(),
    }
}

/// One message of a channel.
pub(super) fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut whole = Vec::with_capacity(bytes.len() + 1);
    whole.push(channel);
    whole.extend_from_slice(bytes);
    Message::Binary(Bytes::from(whole))
}

/// A failure as a message.
pub(super) fn problem(app: &App, failure: &Failure) -> Message {
    let problem = failure.problem(&app.address(), "", "");
    // A record of texts and numbers can always be written.
    message(PROBLEM, &serde_json::to_vec(&problem).unwrap_or_default())
}

impl<E> Why<E> {
    /// The last words for it; `behind` has those for ends of its own kind.
    pub(super) fn last_words(&self, app: &App, behind: impl FnOnce(&E) -> LastWords) -> LastWords {
        match self {
            Self::Behind(end) => behind(end),
            Self::Left | Self::Gone => (None, close(close_code::NORMAL, "")),
            Self::Broken(text) => {
                let failure = Failure::new("LS-INVALID", *text);
                let close = close(close_code::PROTOCOL, "not understood");
                (Some(problem(app, &failure)), close)
            }
            Self::Lost(failure) => {
                let close = close(close_code::POLICY, "not allowed");
                (Some(problem(app, failure)), close)
            }
            Self::Stopping => (None, close(close_code::RESTART, "the coordinator stops")),
        }
    }
}

/// Says the last words, to whoever is still there.
pub(super) async fn part(out: &mut (impl Sink<Message> + Unpin), (last, close): LastWords) {
    let said = async {
        if let Some(last) = last {
            out.send(last).await?;
        }
        out.send(Message::Close(Some(close))).await
    };
    // The client may be gone.
    let _ = tokio::time::timeout(LAST_WORDS, said).await;
}

/// Sends what comes from behind, as `say` puts it, until that is an end. A client that takes
/// nothing holds the program up; nothing is dropped.
pub(super) async fn outgoing<T, E>(
    out: &mut (impl Sink<Message> + Unpin),
    from: &mut mpsc::Receiver<T>,
    mut say: impl FnMut(Option<T>) -> Result<Message, E>,
) -> Why<E> {
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            biased;
            _ = ping.tick() => Message::Ping(Bytes::new()),
            next = from.recv() => match say(next) {
                Ok(message) => message,
                Err(end) => return Why::Behind(end),
            },
        };
        if out.send(next).await.is_err() {
            return Why::Gone;
        }
    }
}

/// Hands on what the client says, as `read` understands one message of it.
pub(super) async fn incoming<T, E>(
    back: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
    to: &mpsc::Sender<T>,
    read: fn(&[u8]) -> Result<Vec<T>, &'static str>,
) -> Why<E> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_is_asked_whether_it_is_there_while_output_flows() {
        let (to, mut from) = mpsc::channel(1);
        tokio::spawn(async move {
            for _ in 0..50 {
                tokio::time::sleep(Duration::from_secs(1)).await; // of virtual time
                to.send(b"x").await.unwrap();
            }
        });
        let mut pings = 0;
        let out = futures_util::sink::unfold(&mut pings, async |pings, message| {
            *pings += usize::from(matches!(message, Message::Ping(_)));
            Ok::<_, std::convert::Infallible>(pings)
        });
        let say = |next: Option<&[u8; 1]>| next.map(|bytes| message(1, bytes)).ok_or("ended");
        let why = outgoing(&mut Box::pin(out), &mut from, say).await;
        assert!(matches!(why, Why::Behind("ended")), "{why:?}");
        assert_eq!(pings, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_heard_until_it_leaves_breaks_the_rules_or_is_silent() {
        let read = |bytes: &[u8]| match bytes {
            b"bad" => Err("Bad."),
            _ => Ok(vec![bytes.len()]),
        };
        let normal = Message::Close(Some(close(close_code::NORMAL, "")));
        let ends = [
            (Some(normal), "Left"),
            (Some(Message::Close(None)), "Gone"),
            (
                Some(Message::Text("x".into())),
                "Broken(\"Frames are binary.\")",
            ),
            (
                Some(Message::Binary(Bytes::from_static(b"bad"))),
                "Broken(\"Bad.\")",
            ),
            (None, "Gone"),
        ];
        for (last, wanted) in ends {
            let (to, mut got) = mpsc::channel(4);
            let first = Message::Binary(Bytes::from_static(b"four"));
            let said = [first].into_iter().chain(last).map(Ok);
            let mut back = futures_util::stream::iter(said).chain(futures_util::stream::pending());
            let why: Why<()> = incoming(&mut back, &to, read).await;
            assert_eq!(format!("{why:?}"), wanted);
            assert_eq!(got.try_recv(), Ok(4));
        }
    }
}
