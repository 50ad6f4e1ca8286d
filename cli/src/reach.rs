//! The connection to a command or terminal in a session: a WebSocket between this program's
//! input and output and the coordinator. The first byte of a message is its channel.

use crate::client::Client;
use crate::commands::exec::size;
use crate::error::{Failure, code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use longshore_common::api::{ExecSize, Problem};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::convert::Infallible;
use std::io::{IsTerminal as _, Read, Write};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

/// The coordinator hears of us at least so often, also when nothing is typed and our own
/// output is held up.
const PING: Duration = Duration::from_secs(15);
/// It says something as often; thrice that is silence.
const SILENCE: Duration = Duration::from_secs(45);
/// Largest piece of input in one message, in bytes.
const PIECE: usize = 32 * 1024;
/// What is said last gets so long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// An open connection.
pub(crate) type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// What was opened, and what it is connected with.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Behind the address of the coordinator.
    pub(crate) path: String,
    /// Proves that we opened it; empty for what needs no proof.
    pub(crate) token: String,
}

/// How a connection ended, where that is no failure of the command itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// The command did.
    Exited(i32),
    /// A signal of this number ended this program.
    Away(u8),
    /// It broke.
    Lost,
}

/// Connects to what was opened.
pub(crate) async fn connect(client: &Client, opened: &Opened) -> Result<Socket, Failure> {
    let protocols = match opened.token.as_str() {
        "" => "longshore.v1".to_owned(),
        token => format!("longshore.v1, token.{token}"),
    };
    client.websocket(&opened.path, &protocols).await
}

/// What is typed or piped in: read by a thread, since nothing else can be left alone.
#[derive(Debug)]
pub(crate) struct Input(Option<mpsc::Receiver<Vec<u8>>>);

impl Input {
    /// There is none.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Standard input. What was read and not sent is sent on the next connection.
    pub(crate) fn standard() -> Self {
        Self::of(std::io::stdin())
    }

    /// What this reads, by a thread of its own.
    pub(crate) fn of(mut from: impl Read + Send + 'static) -> Self {
        let (sink, pieces) = mpsc::channel(2);
        std::thread::spawn(move || {
            let mut buffer = vec![0; PIECE];
            loop {
                match from.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(read) => {
                        if sink.blocking_send(buffer[..read].to_vec()).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
                    Err(_) => return,
                }
            }
        });
        Self(Some(pieces))
    }
}

/// This side's terminal, raw as long as this lives, and the signals that come.
pub(crate) struct Local {
    before: Option<Termios>,
    tty: bool,
    /// The first signal is for this program.
    watching: bool,
    int: Signal,
    term: Signal,
    hup: Signal,
    window: Signal,
}

impl Local {
    /// Takes the signals, and with `tty` the terminal if there is one.
    pub(crate) fn new(tty: bool) -> Result<Self, Failure> {
        let local = Self {
            before: None,
            tty,
            watching: false,
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup: signal(SignalKind::hangup())?,
            window: signal(SignalKind::window_change())?,
        };
        Ok(local)
    }

    /// Takes the signals for this program alone: whoever only looks ends nothing.
    pub(crate) fn watching() -> Result<Self, Failure> {
        let mut local = Self::new(false)?;
        local.watching = true;
        Ok(local)
    }

    /// From now on keys are the program's.
    fn raw(&mut self) {
        let stdin = std::io::stdin();
        if !self.tty || self.before.is_some() || !stdin.is_terminal() {
            return;
        }
        if let Ok(now) = tcgetattr(&stdin) {
            let mut raw = now.clone();
            raw.make_raw();
            if tcsetattr(&stdin, OptionalActions::Now, &raw).is_ok() {
                self.before = Some(now);
            }
        }
    }

    /// Of the terminal in front of us.
    pub(crate) fn size(&self) -> Option<ExecSize> {
        let seen = tcgetwinsize(std::io::stdout()).or_else(|_| tcgetwinsize(std::io::stdin()));
        seen.ok().and_then(|seen| size(seen.ws_row, seen.ws_col))
    }

    /// A line for the person in front of it.
    pub(crate) fn say(&self, text: &str) {
        let end = if self.before.is_some() { "\r\n" } else { "\n" };
        let _ = write!(std::io::stderr(), "{end}longshore: {text}{end}"); // nobody may be there
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.int.recv() => Event::Signal("INT", 2),
            _ = self.term.recv() => Event::Signal("TERM", 15),
            _ = self.hup.recv() => Event::Signal("HUP", 1),
            _ = self.window.recv() => Event::Window,
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs none.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// Something on this side.
enum Event {
    Signal(&'static str, u8),
    Window,
}

/// Passes on until it is over, and gives this side's terminal back.
pub(crate) async fn talk(
    socket: Socket,
    input: &mut Input,
    mut local: Local,
) -> (Local, Result<Left, Failure>) {
    local.raw();
    let (mut out, mut back) = socket.split();
    let left = tokio::select! {
        left = hear(&mut back) => left,
        left = speak(&mut out, input, &mut local) => Ok(left),
    };
    if let Ok(Left::Away(_)) = left {
        let close = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let last = out.send(Message::Close(Some(close)));
        let _ = tokio::time::timeout(LAST_WORDS, last).await; // it may be gone
    }
    (local, left)
}

async fn hear(back: &mut SplitStream<Socket>) -> Result<Left, Failure> {
    loop {
        let bytes = match tokio::time::timeout(SILENCE, back.next()).await {
            Err(_) | Ok(None | Some(Err(_))) => return Ok(Left::Lost),
            Ok(Some(Ok(Message::Binary(bytes)))) => bytes,
            Ok(Some(Ok(Message::Close(_)))) => return Ok(Left::Lost),
            Ok(Some(Ok(_))) => continue,
        };
        match bytes.split_first() {
            Some((channel @ (1 | 2), _)) => {
                let errors = *channel == 2;
                let written = tokio::task::spawn_blocking(move || write(errors, &bytes[1..]));
                written.await.unwrap_or(Ok(()))?; // it does not panic
            }
            Some((5, end)) => return ended(end).map(Left::Exited),
            Some((6, problem)) => return Err(refused(problem)),
            _ => (), // of a newer coordinator
        }
    }
}

/// By a thread: whoever reads our output may take its time, and keys go through meanwhile.
fn write(errors: bool, text: &[u8]) -> std::io::Result<()> {
    if errors {
        return std::io::stderr().write_all(text);
    }
    let mut out = std::io::stdout();
    out.write_all(text)?;
    out.flush()
}

fn ended(end: &[u8]) -> Result<i32, Failure> {
    let end: serde_json::Value = serde_json::from_slice(end).unwrap_or_default();
    let code = end.get("exit_code").and_then(serde_json::Value::as_i64);
    code.and_then(|code| i32::try_from(code).ok())
        .ok_or_else(|| Failure::failed("the coordinator sent an end without an exit code"))
}

pub(crate) fn refused(problem: &[u8]) -> Failure {
    match serde_json::from_slice::<Problem>(problem) {
        Ok(problem) => Failure::from_problem(problem),
        Err(_) => Failure::new(code::UNREACHABLE, "the coordinator ended the connection"),
    }
}

/// Runs a command to its end: its output goes to `out`. Its exit code, and the beginning of
/// what it said as error output.
pub(crate) async fn exchange(
    socket: Socket,
    mut input: Input,
    out: &mut (dyn Write + Send),
) -> Result<(i32, String), Failure> {
    let (mut to, mut back) = socket.split();
    tokio::select! {
        ended = collect(&mut back, out) => ended,
        never = feed(&mut to, &mut input) => match never {},
    }
}

async fn collect(
    back: &mut SplitStream<Socket>,
    out: &mut (dyn Write + Send),
) -> Result<(i32, String), Failure> {
    let mut said = Vec::new();
    loop {
        let lost = || Failure::new(code::UNREACHABLE, "the connection is lost");
        let next = tokio::time::timeout(SILENCE, back.next()).await;
        let bytes = match next {
            Ok(Some(Ok(Message::Binary(bytes)))) => bytes,
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
            _ => return Err(lost()),
        };
        match bytes.split_first() {
            Some((1, text)) => out.write_all(text)?,
            Some((2, text)) if said.len() < PIECE => said.extend_from_slice(text),
            Some((5, end)) => {
                let said = String::from_utf8_lossy(&said).into_owned();
                return Ok((ended(end)?, said));
            }
            Some((6, problem)) => return Err(refused(problem)),
            _ => (),
        }
    }
}

/// Sends what there is to read, and its end.
async fn feed(to: &mut SplitSink<Socket, Message>, input: &mut Input) -> Infallible {
    let mut ping = tokio::time::interval(PING);
    loop {
        let next = tokio::select! {
            piece = next_piece(&mut input.0) => match piece {
                Some(bytes) => message(0, &bytes),
                None => {
                    input.0 = None;
                    message(4, b"")
                }
            },
            _ = ping.tick() => Message::Ping(Vec::new().into()),
        };
        if to.send(next).await.is_err() {
            // The other half hears why.
            return std::future::pending().await;
        }
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut whole = Vec::with_capacity(bytes.len() + 1);
    whole.push(channel);
    whole.extend_from_slice(bytes);
    Message::Binary(whole.into())
}

/// The first signal of a command without a terminal is its program's, a second one is ours.
async fn speak(out: &mut SplitSink<Socket, Message>, input: &mut Input, local: &mut Local) -> Left {
    let mut signalled = false;
    let mut ping = tokio::time::interval(PING);
    let mut asked = local.tty.then_some(Event::Window); // it may differ after coming back
    loop {
        let event = match asked.take() {
            Some(event) => Ok(event),
            None => tokio::select! {
                event = local.next() => Ok(event),
                piece = next_piece(&mut input.0) => Err(match piece {
                    Some(bytes) => message(0, &bytes),
                    None => {
                        input.0 = None;
                        message(4, b"")
                    }
                }),
                _ = ping.tick() => Err(Message::Ping(Vec::new().into())),
            },
        };
        let next = match event {
            Err(message) => message,
            Ok(Event::Window) if !local.tty => continue,
            Ok(Event::Window) => match local.size() {
                Some(size) => message(3, &serde_json::to_vec(&size).unwrap_or_default()),
                None => continue,
            },
            Ok(Event::Signal(name, number)) => {
                if local.tty || local.watching || signalled {
                    return Left::Away(number);
                }
                signalled = true;
                message(7, name.as_bytes())
            }
        };
        if out.send(next).await.is_err() {
            // The other half has heard why, or hears nothing any more.
            return std::future::pending().await;
        }
    }
}

/// The next piece; none = its end. Where there is no input, nothing ever comes.
async fn next_piece(pieces: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match pieces {
        Some(pieces) => pieces.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_a_code() {
        assert_eq!(ended(br#"{"exit_code":3}"#).unwrap(), 3);
        assert!(ended(b"{}").is_err() && ended(b"").is_err());
        assert_eq!(message(4, b""), Message::Binary(vec![4].into()));
    }

    #[test]
    fn a_problem_keeps_its_code() {
        let text = br#"{"type":"x","title":"t","status":403,"code":"LS-FORBIDDEN","detail":"d","instance":"","request_id":""}"#;
        assert_eq!(refused(text).exit, code::DENIED);
        assert_eq!(refused(b"?").exit, code::UNREACHABLE);
    }
}
