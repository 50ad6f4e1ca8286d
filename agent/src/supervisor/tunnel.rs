//! Connections to ports inside a container.
//!
//! Each is a task between a connection that was made inside and whoever holds its other ends.
//! Each way is bounded and ends by itself. It counts as use of the session from the first byte
//! of the client on: a page that is only left open asks for nothing.

use super::{Event, Supervisor};
use crate::runtime::docker::engine::start_cause;
use crate::runtime::{Containers, DialError, ExecOrder, FoundStatus, RuntimeError};
use longshore_common::ids::ContainerKey;
use longshore_common::session::{AppPort, Cause};
use longshore_common::wire::{FromTunnel, MAX_PIECE, MAX_TEXT, ToTunnel, TunnelRequest};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

/// Connections into one container at once: as many as all readers of an agent have streams.
const PER_CONTAINER: u32 = 32;
/// Frames between the link and a connection, each way.
const BETWEEN: usize = 4;
/// One that is silent both ways for so long is closed.
const SILENT: Duration = Duration::from_secs(3600);
/// A program that is started at its first use gets so long to listen.
const LISTENS: Duration = Duration::from_secs(30);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(200);

/// What a client holds of a connection.
#[derive(Debug)]
pub struct TunnelEnds {
    /// To the program.
    pub to: mpsc::Sender<ToTunnel>,
    /// From it.
    pub from: mpsc::Receiver<FromTunnel>,
}

/// What a connection says to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Its client sent something: from now on it counts.
    Begins,
    /// It is over; whether it counted.
    Ends(bool),
}

/// What the supervisor knows of connections.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    open: BTreeMap<ContainerKey, u32>,
    programs: Programs,
}

impl Tunnels {
    /// A container is gone, and what was started in it.
    pub(super) fn forget(&mut self, key: ContainerKey) {
        lock(&self.programs).retain(|(of, _), _| *of != key);
    }
}

/// Programs that were started for a port, so that ten connections start one, and a slow one is
/// not started again for each that gave up waiting.
type Programs = Arc<Mutex<BTreeMap<(ContainerKey, u16), Program>>>;

/// How far the start of a program is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Program {
    /// The engine is being told.
    Begins,
    /// It was, then; this is its id there.
    Began(String, Instant),
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Containers> Supervisor<C> {
    /// Connects to a declared port of a running container.
    pub(super) fn tunnel(
        &mut self,
        request: TunnelRequest,
        reply: oneshot::Sender<Result<TunnelEnds, String>>,
    ) {
        let key = request.key;
        let found = self.found.get(&key);
        let running = found.filter(|f| f.status == FoundStatus::Running);
        let declared = self.desired.get(&key).and_then(|entry| {
            let mut ports = entry.spec.ports.iter();
            ports.find(|p| p.port == request.port).cloned()
        });
        let open = self.tunnels.open.get(&key).copied().unwrap_or(0);
        let (docker_id, pid, app) = match (running, declared) {
            (_, None) => return refuse(reply, "its order does not declare this port"),
            (Some(found), Some(app)) if open < PER_CONTAINER => match found.pid {
                Some(pid) => (found.docker_id.clone(), pid, app),
                None => return refuse(reply, "its container does not run here"),
            },
            (Some(_), Some(_)) => {
                let text = format!("{PER_CONTAINER} connections are open into its container");
                return refuse(reply, &text);
            }
            (None, Some(_)) => return refuse(reply, "its container does not run here"),
        };
        self.tunnels.open.insert(key, open + 1);
        let inside = Inside {
            runtime: Arc::clone(&self.runtime),
            key,
            docker_id,
            pid,
            app,
            programs: Arc::clone(&self.tunnels.programs),
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            let counted = AtomicBool::new(false);
            match inside.connect().await {
                Err(text) => refuse(reply, &text),
                Ok(stream) => {
                    let (client, own) = ends();
                    // A client that has gone meanwhile is seen as one that went.
                    let _ = reply.send(Ok(client));
                    let (read, write) = stream.into_split();
                    let begins = async {
                        counted.store(true, Ordering::Relaxed);
                        // A supervisor that has ended needs none.
                        let _ = events.send(Event::Tunnel(key, Use::Begins)).await;
                    };
                    carry((read, write), own, begins).await;
                }
            }
            let counted = counted.load(Ordering::Relaxed);
            let _ = events.send(Event::Tunnel(key, Use::Ends(counted))).await;
        });
    }

    /// Counts those that are used as use of the session.
    pub(super) fn take_tunnel(&mut self, key: ContainerKey, news: Use) {
        if news != Use::Begins
            && let Some(open) = self.tunnels.open.get_mut(&key)
        {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.tunnels.open.remove(&key);
            }
        }
        let now = crate::host::boot_clock_ms();
        if let Some(watching) = self.watching.get_mut(&key) {
            match news {
                Use::Begins => watching.open_connection(now),
                Use::Ends(true) => watching.close_connection(now),
                Use::Ends(false) => (),
            }
        }
    }
}

fn refuse(reply: oneshot::Sender<Result<TunnelEnds, String>>, text: &str) {
    let _ = reply.send(Err(text.to_owned())); // the asker may have gone
}

/// The way into a container, and what may have to be started there.
struct Inside<C> {
    runtime: Arc<C>,
    key: ContainerKey,
    docker_id: String,
    pid: u32,
    app: AppPort,
    programs: Programs,
}

impl<C: Containers> Inside<C> {
    async fn connect(&self) -> Result<tokio::net::TcpStream, String> {
        let port = self.app.port;
        match self.dial().await {
            Ok(stream) => Ok(stream),
            Err(DialError::Failed(text)) => Err(text),
            Err(DialError::Nothing) if self.app.command.is_empty() => Err(format!(
                "nothing listens on port {port} in its container; a program may listen on another one, or has not begun to"
            )),
            Err(DialError::Nothing) => self.start().await,
        }
    }

    async fn dial(&self) -> Result<tokio::net::TcpStream, DialError> {
        let dialled = self.runtime.dial(&self.docker_id, self.pid, self.app.port);
        dialled.await
    }

    /// Starts its program, unless it was started and has not ended, and waits until it listens.
    async fn start(&self) -> Result<tokio::net::TcpStream, String> {
        let AppPort {
            name,
            port,
            command,
            ..
        } = &self.app;
        if self.is_ours_to_begin().await {
            self.begin().await?;
        }
        let until = Instant::now() + LISTENS;
        loop {
            match self.dial().await {
                Ok(stream) => return Ok(stream),
                Err(DialError::Failed(text)) => return Err(text),
                Err(DialError::Nothing) => (),
            }
            // One that ends well may have left another behind that serves.
            if let Some(Program::Began(id, _)) = self.program()
                && let Ok(state) = self.runtime.exec_state(&id).await
                && let Some(code) = state.exit.filter(|code| *code != 0)
            {
                return Err(match code {
                    126 | 127 => absent(name, command),
                    code => format!("{name} ended with exit code {code} before it listened"),
                });
            }
            if Instant::now() >= until {
                let s = LISTENS.as_secs();
                return Err(format!("{name} did not listen on port {port} within {s} s"));
            }
            sleep(LOOK).await;
        }
    }

    fn which(&self) -> (ContainerKey, u16) {
        (self.key, self.app.port)
    }

    fn program(&self) -> Option<Program> {
        lock(&self.programs).get(&self.which()).cloned()
    }

    /// Whether nobody has started the program, or it has ended since. Says yes to one alone.
    async fn is_ours_to_begin(&self) -> bool {
        let known = self.program();
        let begins = match &known {
            None => true,
            Some(Program::Begins) => false,
            Some(Program::Began(id, at)) => match self.runtime.exec_state(id).await {
                // What it left behind gets its time to listen.
                Ok(state) => state
                    .exit
                    .is_some_and(|code| code != 0 || at.elapsed() >= LISTENS),
                Err(error) => error == RuntimeError::NotFound,
            },
        };
        let mut programs = lock(&self.programs);
        // Another may have found the same meanwhile.
        let ours = begins && programs.get(&self.which()) == known.as_ref();
        if ours {
            programs.insert(self.which(), Program::Begins);
        }
        ours
    }

    async fn begin(&self) -> Result<(), String> {
        let AppPort {
            name,
            port,
            command,
            ..
        } = &self.app;
        let port = port.to_string();
        let words = command.iter().map(|word| word.replace("{port}", &port));
        let order = ExecOrder {
            command: words.collect(),
            environment: BTreeMap::new(),
            workdir: None,
            terminal: None,
        };
        let begun = self.runtime.exec_begin(&self.docker_id, &order).await;
        let mut programs = lock(&self.programs);
        match begun {
            Ok(id) => {
                programs.insert(self.which(), Program::Began(id, Instant::now()));
                Ok(())
            }
            Err(error) => {
                programs.remove(&self.which());
                let text = error.to_string();
                Err(match start_cause(&text) {
                    Cause::CommandNotFound | Cause::CommandNotExecutable => absent(name, command),
                    _ => format!("{name} could not be started: {text}"),
                })
            }
        }
    }
}

fn absent(name: &str, command: &[String]) -> String {
    let program = command.first().map_or("", String::as_str);
    format!("{name} is not in its image, which has no program {program}")
}

/// What the connection holds of its client.
#[derive(Debug)]
struct Ends {
    from: mpsc::Receiver<ToTunnel>,
    to: mpsc::Sender<FromTunnel>,
}

fn ends() -> (TunnelEnds, Ends) {
    let (to, from_client) = mpsc::channel(BETWEEN);
    let (to_client, from) = mpsc::channel(BETWEEN);
    let ends = Ends {
        from: from_client,
        to: to_client,
    };
    (TunnelEnds { to, from }, ends)
}

/// When something last passed, in milliseconds since the beginning.
struct Last {
    began: Instant,
    ms: AtomicU64,
}

impl Last {
    fn now(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ms.store(ms, Ordering::Relaxed);
    }

    /// Returns once nothing has passed for [`SILENT`].
    async fn silence(&self) {
        loop {
            let last = self.began + Duration::from_millis(self.ms.load(Ordering::Relaxed));
            if last.elapsed() >= SILENT {
                return;
            }
            sleep_until(last + SILENT).await;
        }
    }
}

/// Passes bytes on both ways until both have ended, somebody is gone, or nothing comes for
/// long. `begins` is awaited at the first byte of the client.
async fn carry<R, W>(
    (mut read, mut write): (R, W),
    Ends { mut from, to }: Ends,
    begins: impl Future<Output = ()>,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let last = Last {
        began: Instant::now(),
        ms: AtomicU64::new(0),
    };
    let out = async {
        loop {
            // Room first: what is read can be passed on at once.
            let Ok(room) = to.reserve().await else {
                return Way::Gone;
            };
            let mut piece = Vec::with_capacity(MAX_PIECE);
            let read = (&mut read)
                .take(MAX_PIECE as u64)
                .read_buf(&mut piece)
                .await;
            match read {
                Ok(0) => {
                    room.send(FromTunnel::End);
                    return Way::Ended;
                }
                Ok(_) => room.send(FromTunnel::Data(piece)),
                Err(error) => {
                    let mut text = error.to_string();
                    text.truncate(MAX_TEXT);
                    room.send(FromTunnel::Failed(text));
                    return Way::Gone;
                }
            }
            last.now();
        }
    };
    let into = async {
        let mut begins = Some(begins);
        loop {
            match from.recv().await {
                None => return Way::Gone,
                Some(ToTunnel::End) => {
                    let _ = write.shutdown().await; // it may have ended already
                    return Way::Ended;
                }
                Some(ToTunnel::Data(bytes)) if bytes.is_empty() => (),
                Some(ToTunnel::Data(bytes)) => {
                    if let Some(begins) = begins.take() {
                        begins.await;
                    }
                    if write.write_all(&bytes).await.is_err() {
                        // It reads no more; what it wrote may be on its way.
                        return Way::Ended;
                    }
                    last.now();
                }
            }
        }
    };
    let both = async {
        tokio::pin!(out, into);
        let first = tokio::select! {
            way = &mut out => (way, true),
            way = &mut into => (way, false),
        };
        match first {
            (Way::Gone, _) => (),
            // However the other way ends, both have then.
            (Way::Ended, true) => {
                into.await;
            }
            (Way::Ended, false) => {
                out.await;
            }
        }
    };
    tokio::select! {
        () = both => (),
        // A client that took the end of input and goes is seen here.
        () = to.closed() => (),
        () = last.silence() => (),
    }
}

/// How one way came to its end.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// As it should; the other one goes on.
    Ended,
    /// Its client, or the program, is gone.
    Gone,
}

#[cfg(test)]
#[path = "tunnel_tests.rs"]
mod tests;
