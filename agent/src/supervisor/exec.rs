//! Commands and terminals that people open beside the main process of a container.
//!
//! Each is a task between the engine and whoever holds its other ends. Both ways are bounded:
//! a client that takes nothing stops the program's output, a program that reads nothing stops
//! the client's input. The engine cannot end such a command, so the task does when its client
//! goes: hang-up, ten seconds, kill. A terminal whose client was lost waits for it first.

use super::{Event, Supervisor, detached};
use crate::runtime::docker::engine::start_cause;
use crate::runtime::{
    Containers, ExecOrder, ExecOutputs, ExecState, Execution, FoundStatus, RuntimeError,
    STILL_THERE,
};
use bytes::Buf as _;
use longshore_common::ids::{ContainerKey, ExecId};
use longshore_common::session::Cause;
use longshore_common::wire::{
    ExecKind, ExecRequest, FromExec, MAX_PIECE, MAX_TEXT, NO_SUCH_COMMAND, SIGNALS, TerminalSize,
    ToExec,
};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt as _;

/// Commands and terminals in one container at once.
const PER_CONTAINER: usize = 32;
/// Frames between the link and a command, each way.
const BETWEEN: usize = 8;
/// A terminal whose connection was lost is kept for so long.
const KEPT: Duration = Duration::from_secs(60);
/// Between hang-up and kill.
const GRACE: Duration = Duration::from_secs(10);
/// Pauses between questions whether a command has ended: it nearly always has when its output
/// ends; one that closed its output and goes on is asked about for as long as it runs.
const ASK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// So many answers in vain end it: what became of it is not known then.
const UNKNOWN_AFTER: u32 = 5;
/// How the engine's words begin when it could not start a command.
const NOT_STARTED: &[u8] = b"OCI runtime exec failed";
/// The login shell of the image: the better one, where it has it.
const SHELL: &str = "[ -x /bin/bash ] && exec /bin/bash -l; exec /bin/sh -l";

/// What a client holds of a command.
#[derive(Debug)]
pub struct ClientEnds {
    /// To the command.
    pub to: mpsc::Sender<ToExec>,
    /// From it.
    pub from: mpsc::Receiver<FromExec>,
}

/// What the command holds of its client.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) from: mpsc::Receiver<ToExec>,
    pub(super) to: mpsc::Sender<FromExec>,
}

impl Ends {
    /// How a client went that takes nothing any more: whether it said so is in what it sent.
    fn last_word(&mut self) -> Stop {
        while let Ok(frame) = self.from.try_recv() {
            if frame == ToExec::Leave {
                return Stop::Left;
            }
        }
        Stop::Lost
    }
}

pub(super) fn ends() -> (ClientEnds, Ends) {
    let (to, from_client) = mpsc::channel(BETWEEN);
    let (to_client, from) = mpsc::channel(BETWEEN);
    let ends = Ends {
        from: from_client,
        to: to_client,
    };
    (ClientEnds { to, from }, ends)
}

/// A command that runs, as the supervisor knows it.
#[derive(Debug)]
pub(super) struct Running {
    key: ContainerKey,
    kind: ExecKind,
    /// Takes a client that comes back.
    back: mpsc::Sender<Ends>,
    /// Takes lines that are not the program's; none = it has no terminal.
    lines: Option<mpsc::Sender<String>>,
    /// A detached one that has ended and can still be looked at.
    over: Option<Over>,
}

/// How a detached command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Over {
    /// Ends of its container that were kept are counted: the lowest came first.
    turn: u64,
    /// Its exit code, where that is known.
    code: Option<i32>,
}

impl Running {
    /// Writes a line into its terminal, if it is one in this container. Whoever takes no
    /// output misses it.
    pub(super) fn say(&self, key: ContainerKey, text: &str) {
        if let Some(lines) = self.lines.as_ref().filter(|_| self.key == key) {
            let _ = lines.try_send(text.to_owned());
        }
    }
}

/// What a command says to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Somebody is connected to it.
    Attached,
    /// Nobody is any more.
    Detached,
    /// A detached one has ended with this code, where that is known; what it wrote can still
    /// be looked at.
    Over(Option<i32>),
    /// Nothing is left of it.
    Ended,
}

impl<C: Containers> Supervisor<C> {
    /// Begins a command, or hands a kept terminal to a client that comes back.
    pub(super) fn exec(
        &mut self,
        request: ExecRequest,
        reply: oneshot::Sender<Result<ClientEnds, String>>,
    ) {
        let refuse = |reply: oneshot::Sender<_>, text: &str| {
            let _ = reply.send(Err(text.to_owned())); // the asker may have gone
        };
        let kept = self.execs.get(&request.exec);
        let kept = kept.filter(|e| e.key == request.key);
        if request.kind == ExecKind::Standing {
            let kept = kept.filter(|e| e.kind == ExecKind::Detached);
            return match kept {
                Some(kept) => drop(reply.send(Ok(standing(kept.over)))), // as above
                None => refuse(reply, NO_SUCH_COMMAND),
            };
        }
        if request.resume {
            let kept = kept.filter(|e| e.kind == request.kind && e.kind != ExecKind::Command);
            let (client, own) = ends();
            return match kept.map(|e| e.back.try_send(own)) {
                Some(Ok(())) => drop(reply.send(Ok(client))), // as above
                _ if request.kind == ExecKind::Detached => refuse(reply, NO_SUCH_COMMAND),
                _ => refuse(reply, "the terminal is not there any more"),
            };
        }
        let found = self.found.get(&request.key);
        let Some(found) = found.filter(|f| f.status == FoundStatus::Running) else {
            return refuse(reply, "its container does not run here");
        };
        if self.execs.contains_key(&request.exec) {
            return refuse(reply, "there is one of this name");
        }
        let open = self.execs.values();
        let open = open.filter(|e| e.key == request.key && e.over.is_none());
        if open.count() >= PER_CONTAINER {
            let text = format!("{PER_CONTAINER} commands and terminals are open in its container");
            return refuse(reply, &text);
        }
        let (back, again) = mpsc::channel(1);
        let (say, lines) = mpsc::channel(BETWEEN);
        let tty = request.tty || request.kind == ExecKind::Terminal;
        let running = Running {
            key: request.key,
            kind: request.kind,
            back,
            lines: tty.then_some(say),
            over: None,
        };
        self.execs.insert(request.exec, running);
        let (runtime, docker_id) = (Arc::clone(&self.runtime), found.docker_id.clone());
        let told = Told {
            events: self.events.clone(),
            exec: request.exec,
        };
        tokio::spawn(async move {
            run((runtime, docker_id), &request, reply, (again, lines), &told).await;
            told.news(News::Ended).await;
        });
    }

    /// Counts open ones as use of the session.
    pub(super) fn take_exec(&mut self, exec: ExecId, news: News) {
        let Some(running) = self.execs.get(&exec) else {
            return;
        };
        let key = running.key;
        if let News::Over(code) = news {
            note_end(&mut self.execs, exec, code);
        }
        let now = crate::host::boot_clock_ms();
        if let Some(watching) = self.watching.get_mut(&key) {
            match news {
                News::Attached => watching.open_connection(now),
                News::Detached => watching.close_connection(now),
                News::Over(_) | News::Ended => (),
            }
        }
        if news == News::Ended {
            self.execs.remove(&exec);
        }
    }
}

/// Notes that a detached command has ended. Of its container those that ended first are
/// forgotten: how long one ran says nothing about who wants to see its end.
fn note_end(execs: &mut BTreeMap<ExecId, Running>, exec: ExecId, code: Option<i32>) {
    let Some(key) = execs.get(&exec).map(|running| running.key) else {
        return;
    };
    let of_it = execs.iter().filter(|(_, e)| e.key == key);
    let over = of_it.filter_map(|(id, e)| e.over.map(|over| (over.turn, *id)));
    let mut over: Vec<(u64, ExecId)> = over.filter(|(_, id)| *id != exec).collect();
    over.sort_unstable();
    let turn = over.last().map_or(0, |(turn, _)| turn + 1);
    if let Some(running) = execs.get_mut(&exec) {
        running.over = Some(Over { turn, code });
    }
    let kept = detached::ENDED - 1; // beside this one
    for (_, old) in over.iter().rev().skip(kept) {
        execs.remove(old);
    }
}

/// How a detached command stands, as a client hears it.
fn standing(over: Option<Over>) -> ClientEnds {
    let (client, own) = ends();
    if let Some(over) = over {
        let _ = own.to.try_send(last_frame(over.code)); // it is the first
    }
    client
}

/// What is said last of a command that ended with this code.
pub(super) fn last_frame(code: Option<i32>) -> FromExec {
    match code {
        Some(code) => FromExec::Exited(code),
        None => FromExec::Failed("its exit code is not known".to_owned()),
    }
}

/// The way of one command to the supervisor.
pub(super) struct Told {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) exec: ExecId,
}

impl Told {
    pub(super) async fn news(&self, news: News) {
        // A supervisor that has ended needs none.
        let _ = self.events.send(Event::Exec(self.exec, news)).await;
    }
}

fn order(request: &ExecRequest) -> ExecOrder {
    let shell = || ["/bin/sh", "-c", SHELL].map(str::to_owned).to_vec();
    ExecOrder {
        command: match request.kind {
            ExecKind::Terminal => shell(),
            ExecKind::Command | ExecKind::Detached | ExecKind::Standing => request.command.clone(),
        },
        environment: request.environment.clone(),
        workdir: request.workdir.clone(),
        terminal: (request.tty || request.kind == ExecKind::Terminal).then_some(request.size),
    }
}

async fn run<C: Containers>(
    (runtime, docker_id): (Arc<C>, String),
    request: &ExecRequest,
    reply: oneshot::Sender<Result<ClientEnds, String>>,
    (again, lines): (mpsc::Receiver<Ends>, mpsc::Receiver<String>),
    told: &Told,
) {
    let Execution { id, input, output } = match runtime.exec(&docker_id, &order(request)).await {
        Ok(execution) => execution,
        Err(error) => return drop(reply.send(Err(error.to_string()))), // the asker may have gone
    };
    let (client, own) = ends();
    // A client that has gone meanwhile is seen as one that went.
    let _ = reply.send(Ok(client));
    let process = Engines {
        runtime,
        docker_id,
        id,
    };
    let mut command = Command {
        process,
        input: Some(input),
        tty: request.tty || request.kind == ExecKind::Terminal,
        pending: bytes::Bytes::new(),
        output,
        output_ended: false,
        spoken: false,
        refusal: Vec::new(),
        ask: Pause::default(),
        lines: Some(lines),
    };
    if request.kind == ExecKind::Detached {
        drop(own); // nobody looks yet
        return detached::serve(command, again, told).await;
    }
    serve(&mut command, own, again, request.kind, told).await;
}

/// The engine's hold on a command.
pub(super) trait Process {
    async fn state(&self) -> Result<ExecState, RuntimeError>;
    async fn resize(&self, size: TerminalSize);
    /// Whether anybody was there to get it.
    async fn signal(&self, signal: &str) -> bool;
    /// The same without the engine, to the group that the process of this number leads.
    fn signal_group(&self, pid: u32, signal: &str) -> bool;
}

struct Engines<C> {
    runtime: Arc<C>,
    docker_id: String,
    id: String,
}

impl<C: Containers> Process for Engines<C> {
    async fn state(&self) -> Result<ExecState, RuntimeError> {
        self.runtime.exec_state(&self.id).await
    }

    async fn resize(&self, size: TerminalSize) {
        if let Err(error) = self.runtime.exec_resize(&self.id, size).await {
            tracing::debug!(%error, "a terminal kept its size");
        }
    }

    async fn signal(&self, signal: &str) -> bool {
        let sent = self.runtime.exec_signal(&self.docker_id, &self.id, signal);
        sent.await.unwrap_or_else(|error| {
            tracing::debug!(%error, signal, "a command got no signal");
            error != RuntimeError::NotFound
        })
    }

    fn signal_group(&self, pid: u32, signal: &str) -> bool {
        self.runtime.signal_group(&self.docker_id, pid, signal)
    }
}

/// Growing pauses between questions.
#[derive(Debug)]
struct Pause {
    next: Duration,
    in_vain: u32,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            next: ASK.0,
            in_vain: 0,
        }
    }
}

pub(super) struct Command<P> {
    process: P,
    /// None once it was closed, by either side.
    input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// It has a terminal.
    tty: bool,
    /// Input that was taken and not written yet.
    pending: bytes::Bytes,
    output: ExecOutputs,
    output_ended: bool,
    /// Something was passed on: what comes is the program's.
    spoken: bool,
    /// What the engine said when it could not start it.
    refusal: Vec<u8>,
    ask: Pause,
    /// Lines for its terminal that are not the program's; none once nobody can send any.
    lines: Option<mpsc::Receiver<String>>,
}

/// Why a command is not served any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It has ended, and its client was told if it was there.
    Ended,
    /// Its client said that it goes.
    Left,
    /// Its client is gone without a word.
    Lost,
}

async fn serve<P: Process>(
    command: &mut Command<P>,
    mut own: Ends,
    mut again: mpsc::Receiver<Ends>,
    kind: ExecKind,
    told: &Told,
) {
    loop {
        told.news(News::Attached).await;
        let (stop, newer) = command.talk(&mut own, &mut again).await;
        told.news(News::Detached).await;
        own = match (stop, newer) {
            (_, Some(newer)) => newer,
            (Stop::Ended, None) => return,
            (Stop::Lost, None) if kind == ExecKind::Terminal => {
                drop(own);
                match timeout(KEPT, again.recv()).await {
                    Ok(Some(newer)) => newer,
                    _ => break,
                }
            }
            (Stop::Left | Stop::Lost, None) => break,
        };
    }
    command.hang_up().await;
}

impl<P: Process> Command<P> {
    /// Whether it has a terminal.
    pub(super) const fn has_terminal(&self) -> bool {
        self.tty
    }

    /// Passes on until it is over, or another client takes the place of this one.
    pub(super) async fn talk(
        &mut self,
        own: &mut Ends,
        again: &mut mpsc::Receiver<Ends>,
    ) -> (Stop, Option<Ends>) {
        loop {
            let Self {
                process,
                input,
                pending,
                output,
                output_ended,
                ask,
                lines,
                ..
            } = self;
            let came = tokio::select! {
                Some(newer) = again.recv() => return (Stop::Lost, Some(newer)),
                () = own.to.closed() => return (own.last_word(), None),
                came = next_output(process, output, *output_ended, ask, &own.to) => match came {
                    Some(came) => came,
                    None => return (own.last_word(), None),
                },
                line = next_line(lines) => {
                    // A client that takes nothing must not stop the command for a line.
                    let line = format!("\r\n{line}\r\n").into_bytes();
                    let _ = own.to.try_send(FromExec::Output(line));
                    continue;
                }
                frame = next_input(input, pending, &mut own.from) => {
                    match frame {
                        Taken::Gone => return (Stop::Lost, None),
                        Taken::Frame(ToExec::Leave) => return (Stop::Left, None),
                        Taken::Frame(frame) => self.take(frame).await,
                        Taken::Written => (),
                    }
                    continue;
                }
            };
            let frames = match came {
                Came::Output(error, bytes) => self.passed_on(error, &bytes),
                Came::OutputEnded => {
                    self.output_ended = true;
                    Vec::new()
                }
                Came::Ended(last) => {
                    for frame in self.last_words(last) {
                        let _ = own.to.send(frame).await; // nobody may be left to hear it
                    }
                    return (Stop::Ended, None);
                }
            };
            for frame in frames {
                if own.to.send(frame).await.is_err() {
                    return (own.last_word(), None);
                }
            }
        }
    }

    async fn take(&mut self, frame: ToExec) {
        match frame {
            ToExec::Input(bytes) if self.input.is_some() => self.pending = bytes.into(),
            ToExec::Input(_) | ToExec::Leave => (), // nobody reads it any more
            // The engine closes a terminal's output with its input; a terminal has a key for it.
            ToExec::EndOfInput if self.tty => self.pending = bytes::Bytes::from_static(b"\x04"),
            ToExec::EndOfInput => {
                if let Some(mut input) = self.input.take() {
                    let _ = input.shutdown().await; // it may have ended already
                }
            }
            ToExec::Resize(size) => self.process.resize(size).await,
            ToExec::Signal(name) if SIGNALS.contains(&name.as_str()) => {
                self.process.signal(&name).await;
            }
            ToExec::Signal(_) => (),
        }
    }

    /// Output as frames. The first words may be the engine's own, about a start that failed:
    /// those are held until that is known.
    fn passed_on(&mut self, error: bool, bytes: &[u8]) -> Vec<FromExec> {
        let first = !self.spoken && self.refusal.is_empty() && !error;
        if first && bytes.starts_with(NOT_STARTED) && bytes.len() <= MAX_TEXT {
            self.refusal.extend_from_slice(bytes);
            return Vec::new();
        }
        self.spoken = true;
        let mut frames = pieces(false, &std::mem::take(&mut self.refusal));
        frames.extend(pieces(error, bytes));
        frames
    }

    fn last_words(&mut self, last: Result<ExecState, String>) -> Vec<FromExec> {
        let held = std::mem::take(&mut self.refusal);
        match last {
            Ok(ExecState { pid: None, .. }) if held.starts_with(NOT_STARTED) => {
                let text = String::from_utf8_lossy(&held);
                let text = text.trim_end();
                let mut frames = pieces(true, format!("{text}\n").as_bytes());
                frames.push(FromExec::Exited(code_of_refusal(text)));
                frames
            }
            Ok(state) => {
                let mut frames = pieces(false, &held);
                frames.push(last_frame(state.exit));
                frames
            }
            Err(text) => {
                let mut frames = pieces(false, &held);
                frames.push(FromExec::Failed(text));
                frames
            }
        }
    }

    /// Hang-up, ten seconds, kill, for the whole group. What it writes meanwhile is for nobody.
    /// Its input stays open until the first signal has arrived: an end of it must not be taken
    /// for the end of what its client wanted to say.
    async fn hang_up(&mut self) {
        let deadline = Instant::now() + GRACE;
        let mut signal = "HUP";
        let mut pause = ASK.0;
        let mut leader = None;
        loop {
            match self.process.state().await {
                Ok(ExecState { pid: Some(pid), .. }) => {
                    leader = Some(pid);
                    if !self.process.signal(signal).await {
                        return;
                    }
                    signal = STILL_THERE;
                    self.input = None;
                }
                Ok(ExecState { exit: Some(_), .. }) | Err(RuntimeError::NotFound) => return,
                _ => (), // it is being started, or the engine does not answer
            }
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            let drain = async {
                while let Some(Ok(_)) = self.output.next().await {}
                std::future::pending::<()>().await;
            };
            let _ = timeout(pause.min(deadline - now), drain).await; // it never ends by itself
            pause = (pause * 2).min(ASK.1);
        }
        self.kill(leader).await;
    }

    /// Ends what is left, however long that takes: nobody else would. The engine is asked for
    /// the number of its first process, and for nothing more once that is known.
    async fn kill(&mut self, mut leader: Option<u32>) {
        let mut pause = ASK.0;
        loop {
            if leader.is_none() {
                match self.process.state().await {
                    Ok(ExecState { exit: Some(_), .. }) | Err(RuntimeError::NotFound) => return,
                    Ok(ExecState { pid, .. }) => leader = pid,
                    Err(_) => (), // the engine does not answer
                }
            }
            if let Some(pid) = leader {
                if !self.process.signal_group(pid, STILL_THERE) {
                    return;
                }
                self.process.signal_group(pid, "KILL");
            }
            sleep(pause).await;
            pause = (pause * 2).min(ASK.1);
        }
    }
}

/// Something from the command or the engine.
enum Came {
    Output(bool, bytes::Bytes),
    OutputEnded,
    Ended(Result<ExecState, String>),
}

/// The next output once its client has room for it; behind its end, the end of the command.
/// None = the client is gone.
async fn next_output<P: Process>(
    process: &P,
    output: &mut ExecOutputs,
    output_ended: bool,
    ask: &mut Pause,
    to: &mpsc::Sender<FromExec>,
) -> Option<Came> {
    drop(to.reserve().await.ok()?);
    if !output_ended {
        return Some(match output.next().await {
            Some(Ok(piece)) => Came::Output(piece.error, piece.bytes),
            // The engine's connection broke: it is asked what became of the command.
            Some(Err(_)) | None => Came::OutputEnded,
        });
    }
    loop {
        match process.state().await {
            Ok(state) if state.exit.is_some() => return Some(Came::Ended(Ok(state))),
            Ok(_) => ask.in_vain = 0,
            Err(error) => {
                ask.in_vain += 1;
                if ask.in_vain >= UNKNOWN_AFTER || error == RuntimeError::NotFound {
                    return Some(Came::Ended(Err(error.to_string())));
                }
            }
        }
        sleep(ask.next).await;
        ask.next = (ask.next * 2).min(ASK.1);
    }
}

/// The next line for a terminal; waits for ever where there can be none.
async fn next_line(lines: &mut Option<mpsc::Receiver<String>>) -> String {
    if let Some(open) = lines {
        if let Some(line) = open.recv().await {
            return line;
        }
        *lines = None;
    }
    std::future::pending().await
}

/// Something from the client.
enum Taken {
    Frame(ToExec),
    Written,
    Gone,
}

/// Writes what was taken before anything more is taken.
async fn next_input(
    input: &mut Option<Pin<Box<dyn AsyncWrite + Send>>>,
    pending: &mut bytes::Bytes,
    from: &mut mpsc::Receiver<ToExec>,
) -> Taken {
    let Some(writer) = input.as_mut().filter(|_| !pending.is_empty()) else {
        return from.recv().await.map_or(Taken::Gone, Taken::Frame);
    };
    match writer.write(pending).await {
        Ok(written) if written > 0 => {
            pending.advance(written);
            if pending.is_empty() && writer.flush().await.is_err() {
                *input = None;
            }
        }
        _ => {
            pending.clear();
            *input = None; // it reads no more
        }
    }
    Taken::Written
}

fn pieces(error: bool, bytes: &[u8]) -> Vec<FromExec> {
    let frame = if error {
        FromExec::ErrorOutput
    } else {
        FromExec::Output
    };
    let pieces = bytes.chunks(MAX_PIECE);
    pieces.map(|piece| frame(piece.to_vec())).collect()
}

/// What a shell would end with: 127 = there is no such command, 126 = it cannot be run.
fn code_of_refusal(text: &str) -> i32 {
    match start_cause(text) {
        Cause::CommandNotFound if !text.contains("chdir") => 127,
        _ => 126,
    }
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
