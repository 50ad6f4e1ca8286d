//! Being attached to one session: its status, its output, its end, and what Ctrl-C
//! and a lost connection mean meanwhile (cli.md, sections 5 and 6).
//!
//! Two tasks ask the coordinator (`watch`, `read_logs`) and send what they learn to
//! one loop, which alone prints and decides.

use crate::away::{self, Away, Lost, Pauses};
use crate::client::{Client, typed};
use crate::clock;
use crate::describe;
use crate::error::{Failure, code};
use crate::output::{clean, clean_lines, width_of, write_bytes};
use base64::Engine as _;
use longshore_common::api::{LogRecord, Session, SignalOrder, TerminateRequest};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How long one question about a session is held back: short enough that a lost
/// connection is noticed soon, long enough that nobody polls.
const WAIT_S: u64 = 20;
/// A second Ctrl-C within this time is meant for us, not for the program.
const TWICE: Duration = Duration::from_secs(3);
/// After the end of a session its output is there or on its way; silence for this
/// long means that the rest cannot be had.
const LOGS_AFTER_END: Duration = Duration::from_secs(10);
/// More than any record of output holds.
const MOST_EVENT: usize = 8 << 20;

/// What a script's signal or a lost terminal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnDisconnect {
    /// Stops the session.
    Stop,
    /// Leaves it.
    Keep,
}

/// How to be attached.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What a signal does; absent: stop without a terminal, keep with one.
    pub(crate) on_disconnect: Option<OnDisconnect>,
    /// Only so many last lines of what was written before.
    pub(crate) tail: Option<u64>,
    /// When to give up (`--timeout`).
    pub(crate) deadline: Option<Instant>,
    /// No status lines.
    pub(crate) quiet: bool,
    /// Only looking: a signal ends the view and nothing else.
    pub(crate) view: bool,
}

/// How being attached ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The session ended.
    Ended(Box<Session>),
    /// Left, with this code; the session goes on.
    Left(u8),
}

impl Outcome {
    /// What the command ends with.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Ended(session) => describe::exit_code(session),
            Self::Left(exit) => *exit,
        }
    }
}

enum Event {
    Session(Box<Session>),
    Lost(String),
    Back(Duration),
    GaveUp,
    Fatal(Failure),
    Output { stderr: bool, bytes: Vec<u8> },
    Gap(String),
    LogsEnd(Option<String>),
    Answer(String),
    Said(String),
}

/// The status line on standard error.
pub(crate) struct Screen {
    terminal: bool,
    quiet: bool,
    open: Option<String>,
    key: String,
}

impl Screen {
    /// One for this process's standard error.
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            quiet,
            open: None,
            key: String::new(),
        }
    }

    /// Shows where a session is: rewritten on a terminal, one line per change otherwise.
    pub(crate) fn status(&mut self, session: &Session, rate: Option<u64>) {
        if self.quiet {
            return;
        }
        let status = describe::status(session, rate);
        if !self.terminal {
            if status.key != self.key {
                let line = format!(
                    "{} {} {} {}",
                    clock::now(),
                    session.id,
                    status.word,
                    status.plain
                );
                eprintln!("{}", line.trim_end());
                self.key = status.key;
            }
            return;
        }
        let line = format!("{:<4}  {:<9} {}", session.id, status.word, status.text);
        if self.key == line {
            return;
        }
        let width = width_of(std::io::stderr());
        let cut: String = line
            .trim_end()
            .chars()
            .take(width.saturating_sub(1).max(20))
            .collect();
        // Lines of the same state are rewritten; a new state begins a new one.
        if self.open.as_ref().is_some_and(|word| *word != status.word) {
            eprintln!();
        }
        eprint!("\r\x1b[K{cut}");
        let _ = std::io::stderr().flush();
        self.open = Some(status.word);
        self.key = line;
        if session.state == "RUNNING" {
            self.close();
        }
    }

    /// Ends a line that could have been rewritten.
    pub(crate) fn close(&mut self) {
        if self.open.take().is_some() {
            eprintln!();
        }
    }

    /// A line about a session that stays.
    pub(crate) fn line(&mut self, id: &str, word: &str, text: &str) {
        self.close();
        if self.quiet {
            return;
        }
        let text = clean(text);
        if self.terminal {
            eprintln!("{id:<4}  {word:<9} {text}");
        } else {
            eprintln!("{} {id} {word} {text}", clock::now());
        }
    }

    /// A line that is shown even when status lines are not wanted.
    pub(crate) fn note(&mut self, text: &str) {
        self.close();
        eprintln!("{}", clean(text));
    }
}

/// How to come back to a session that goes on.
pub(crate) fn back_line(id: &str) -> String {
    format!("{id} goes on. Back: longshore attach {id}   Stop: longshore stop {id}")
}

/// Tells about every change of a session until it has ended.
async fn watch(client: Client, first: Session, events: mpsc::Sender<Event>) {
    let id = first.id.clone();
    let (mut version, mut pulling) = (first.version, is_pulling(&first));
    let mut ended = describe::is_final(&first);
    let _ = events.send(Event::Session(Box::new(first))).await;
    let mut away = Away::new();
    while !ended {
        let wait = if pulling { 1 } else { WAIT_S };
        let answer = match client.session_change(&id, version, wait).await {
            // Figures of a pull are not stored, so they come without a new version.
            Ok(None) if pulling => client.session(&id).await.map(Some),
            other => other,
        };
        match answer {
            Ok(session) => {
                if let Some(time) = away.answered() {
                    let _ = events.send(Event::Back(time)).await;
                }
                if let Some(session) = session {
                    (version, pulling) = (session.version, is_pulling(&session));
                    ended = describe::is_final(&session);
                    if events
                        .send(Event::Session(Box::new(session)))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
            Err(failure) if failure.is_transient() => {
                match away.failed() {
                    Lost::Now => drop(events.send(Event::Lost(away::why(&failure))).await),
                    Lost::Still => (),
                    Lost::TooLong => {
                        let _ = events.send(Event::GaveUp).await;
                        return;
                    }
                }
                away.pause().await;
            }
            Err(failure) => {
                let _ = events.send(Event::Fatal(failure)).await;
                return;
            }
        }
    }
}

fn is_pulling(session: &Session) -> bool {
    session.state == "PREPARING" && session.phase.as_deref() == Some("pulling")
}

/// Reads the output of a session to its end, over as many connections as it takes.
async fn read_logs(
    client: Client,
    (id, attempt): (String, u32),
    tail: Option<u64>,
    events: mpsc::Sender<Event>,
) {
    let mut position: Option<u64> = None;
    let mut pauses = Pauses::new();
    let mut refusals = 0;
    loop {
        let from = match (position, tail) {
            (Some(position), _) => format!("&position={position}"),
            (None, Some(tail)) => format!("&tail={tail}"),
            (None, None) => "&position=0".to_owned(),
        };
        let path = format!("/sessions/{id}/logs/stream?follow=true&attempt={attempt}{from}");
        let failure = match client.stream(&path).await {
            Ok(mut stream) => {
                let before = position;
                let end = read_stream(&mut stream, &mut position, &events).await;
                if position != before {
                    pauses = Pauses::new();
                    refusals = 0;
                }
                match end {
                    Ok(End::Complete) => {
                        let _ = events.send(Event::LogsEnd(None)).await;
                        return;
                    }
                    Ok(End::Nobody) => return,
                    Ok(End::Broken) => None,
                    Err(failure) => Some(failure),
                }
            }
            Err(failure) => Some(failure),
        };
        if let Some(failure) = failure
            && !failure.is_transient()
        {
            // The output may not be there yet at the first moment of a run.
            refusals += 1;
            if refusals > 3 {
                let _ = events.send(Event::LogsEnd(Some(failure.text))).await;
                return;
            }
        }
        pauses.wait().await;
    }
}

enum End {
    Complete,
    Broken,
    Nobody,
}

async fn read_stream(
    stream: &mut crate::client::Stream,
    position: &mut Option<u64>,
    events: &mpsc::Sender<Event>,
) -> Result<End, Failure> {
    let mut parser = Sse::default();
    while let Some(chunk) = stream.next().await? {
        for event in parser.push(&chunk)? {
            match event.0.as_str() {
                "line" | "gap" => {
                    let value = serde_json::from_str(&event.1).map_err(|error| {
                        Failure::failed(format!("a line of output does not read: {error}"))
                    })?;
                    let record: LogRecord = typed(value)?;
                    let Some(event) = take(record, position) else {
                        continue;
                    };
                    if events.send(event).await.is_err() {
                        return Ok(End::Nobody);
                    }
                }
                "end" => return Ok(End::Complete),
                "kept" => {
                    let said = Event::Gap(crate::commands::logs::KEPT.to_owned());
                    if events.send(said).await.is_err() {
                        return Ok(End::Nobody);
                    }
                }
                // What a newer coordinator may say besides.
                _ => (),
            }
        }
    }
    Ok(End::Broken)
}

/// One record as an event.
fn take(record: LogRecord, position: &mut Option<u64>) -> Option<Event> {
    if record.stream == "gap" {
        let text = record.text.unwrap_or_default();
        *position = Some(record.position.max(position.unwrap_or(0)));
        return Some(Event::Gap(if text.is_empty() {
            "some output was dropped".to_owned()
        } else {
            text
        }));
    }
    let bytes = match (record.text, record.bytes) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(coded)) => base64::engine::general_purpose::STANDARD
            .decode(coded)
            .unwrap_or_default(),
        (None, None) => Vec::new(),
    };
    let end = record.position + bytes.len() as u64;
    *position = Some(end);
    if bytes.is_empty() {
        return None;
    }
    Some(Event::Output {
        stderr: record.stream == "stderr",
        bytes,
    })
}

/// A reader of server-sent events: pairs of event and data.
#[derive(Debug, Default)]
pub(crate) struct Sse {
    buffer: Vec<u8>,
    event: String,
    data: String,
}

impl Sse {
    /// Takes bytes as they come and gives the events that are complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<(String, String)>, Failure> {
        self.buffer.extend_from_slice(bytes);
        let mut complete = Vec::new();
        let mut start = 0;
        while let Some(length) = self.buffer[start..].iter().position(|b| *b == b'\n') {
            let line = String::from_utf8_lossy(&self.buffer[start..start + length]).into_owned();
            start += length + 1;
            let line = line.trim_end_matches('\r');
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    let event = std::mem::take(&mut self.event);
                    let data = std::mem::take(&mut self.data);
                    if !event.is_empty() || !data.is_empty() {
                        complete.push((event, data));
                    }
                }
                "event" => value.clone_into(&mut self.event),
                "data" => {
                    if !self.data.is_empty() {
                        self.data.push('\n');
                    }
                    self.data.push_str(value);
                }
                // Comments, ids and pauses.
                _ => (),
            }
        }
        self.buffer.drain(..start);
        if self.buffer.len() + self.data.len() > MOST_EVENT {
            return Err(Failure::failed(
                "the coordinator sent a line of output that does not end",
            ));
        }
        Ok(complete)
    }
}

/// What Ctrl-C asked and has no answer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Detach or cancel?
    Waiting,
    /// Stop or detach?
    Running,
}

/// The signals that end programs, from the moment this exists.
pub(crate) struct Signals {
    int: Signal,
    term: Signal,
    hup: Signal,
}

/// Which kind of signal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    /// INT
    Interrupt,
    /// TERM or HUP
    Other,
}

impl Signals {
    /// Begins to catch them.
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Got {
        tokio::select! {
            _ = self.int.recv() => Got::Interrupt,
            _ = self.term.recv() => Got::Other,
            _ = self.hup.recv() => Got::Other,
        }
    }
}

struct Follower<'a> {
    client: &'a Client,
    options: &'a Options,
    screen: Screen,
    id: String,
    session: Session,
    events: mpsc::Sender<Event>,
    pulled: Option<(Instant, u64)>,
    logs: Option<(tokio::task::JoinHandle<()>, u32)>,
    logs_done: bool,
    asked: Option<Asked>,
    /// When Ctrl-C was last passed on.
    interrupted: Option<Instant>,
    signalled: bool,
    interactive: bool,
}

/// Stays with a session until its end. Its output goes to standard output and standard
/// error as the program wrote it; everything else is a line on standard error.
///
/// `signals` may have caught `early` while the session was being asked for.
pub(crate) async fn follow(
    client: &Client,
    session: Session,
    options: &Options,
    mut signals: Signals,
    early: Option<Got>,
) -> Result<Outcome, Failure> {
    let (events, mut inbox) = mpsc::channel(64);
    let watcher = tokio::spawn(watch(client.clone(), session.clone(), events.clone()));
    let mut follower = Follower {
        client,
        options,
        screen: Screen::new(options.quiet),
        id: session.id.clone(),
        session,
        events,
        pulled: None,
        logs: None,
        logs_done: false,
        asked: None,
        interrupted: None,
        signalled: false,
        interactive: std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
    };
    let deadline = options.deadline.map(tokio::time::Instant::from_std);
    if let Some(got) = early
        && let Some(outcome) = follower.signal(&got)
    {
        watcher.abort();
        return Ok(outcome);
    }
    let outcome = loop {
        let quiet_after_end = follower.ended() && !follower.logs_done;
        tokio::select! {
            // Signals first: a program that writes without pause must not hide Ctrl-C.
            biased;
            got = signals.next() => {
                if let Some(outcome) = follower.signal(&got) {
                    break outcome;
                }
            }
            () = sleep_until(deadline) => {
                let id = &follower.id;
                let text = format!("the time given with --timeout is over; {}", back_line(id));
                follower.screen.note(&text);
                break Outcome::Left(code::ATTACHED_TIMEOUT);
            }
            Some(event) = inbox.recv() => {
                if let Some(outcome) = follower.event(event)? {
                    break outcome;
                }
            }
            () = tokio::time::sleep(LOGS_AFTER_END), if quiet_after_end => {
                follower.screen.note("the rest of the output cannot be had: the agent does not answer");
                follower.logs_done = true;
            }
        }
        if follower.ended() && follower.logs_done {
            break Outcome::Ended(Box::new(follower.session.clone()));
        }
    };
    watcher.abort();
    if let Some((task, _)) = follower.logs.take() {
        task.abort();
    }
    if let Outcome::Ended(session) = &outcome {
        let (word, text) = describe::closing(session);
        follower.screen.line(&session.id, word, &text);
    }
    follower.screen.close();
    Ok(outcome)
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Follower<'_> {
    fn ended(&self) -> bool {
        describe::is_final(&self.session)
    }

    fn event(&mut self, event: Event) -> Result<Option<Outcome>, Failure> {
        match event {
            Event::Session(session) => self.changed(*session),
            Event::Lost(text) => self
                .screen
                .note(&format!("{}: {text}; trying again", self.id)),
            Event::Back(away) => {
                let away = clock::span(i64::try_from(away.as_millis()).unwrap_or(i64::MAX));
                self.screen
                    .note(&format!("{}: connected again after {away}", self.id));
            }
            Event::GaveUp => {
                self.screen.note(&format!(
                    "error: the coordinator was away for 5 minutes. {}",
                    back_line(&self.id)
                ));
                return Ok(Some(Outcome::Left(code::ATTACHED)));
            }
            Event::Fatal(failure) => return Err(failure),
            Event::Output { stderr, bytes } => {
                self.screen.close();
                if stderr {
                    let mut out = std::io::stderr().lock();
                    let _ = out.write_all(&bytes).and_then(|()| out.flush());
                } else {
                    write_bytes(&bytes)?;
                }
            }
            Event::Gap(text) => self.screen.note(&format!("{}: {text}", self.id)),
            Event::LogsEnd(why) => {
                if let Some(why) = why {
                    self.screen
                        .note(&format!("{}: the output cannot be had: {why}", self.id));
                    if let Some(tail) = &self.session.output_tail {
                        eprintln!("{}", clean_lines(tail));
                    }
                }
                self.logs_done = true;
                self.read();
            }
            Event::Answer(answer) => return Ok(self.answer(&answer)),
            Event::Said(text) => self.screen.note(&text),
        }
        Ok(None)
    }

    fn changed(&mut self, session: Session) {
        let rate = self.rate(&session);
        if !describe::is_final(&session) {
            self.screen.status(&session, rate);
        }
        self.session = session;
        self.read();
        // It never ran, so there is nothing to read.
        self.logs_done |= self.ended() && self.logs.is_none();
    }

    /// Begins to read the output of the present attempt, once there is any and that of
    /// the one before has been read to its end.
    fn read(&mut self) {
        let attempt = self.session.attempt;
        let fresh = match &self.logs {
            None => true,
            Some((_, before)) => *before < attempt && self.logs_done,
        };
        let has_run = match self.session.state.as_str() {
            "RUNNING" => true,
            "TERMINATING" | "TERMINATED" | "ERROR" => self.session.started_at.is_some(),
            _ => false,
        };
        if !fresh || !has_run {
            return;
        }
        let tail = self.options.tail.filter(|_| self.logs.is_none());
        let which = (self.id.clone(), attempt);
        let task = tokio::spawn(read_logs(
            self.client.clone(),
            which,
            tail,
            self.events.clone(),
        ));
        self.logs = Some((task, attempt));
        self.logs_done = false;
    }

    fn rate(&mut self, session: &Session) -> Option<u64> {
        let done = describe::progress(session)?.bytes_done;
        let now = Instant::now();
        match self.pulled {
            Some((since, before)) if done >= before => {
                let ms = now.duration_since(since).as_millis().max(1);
                // Over a few seconds, so that the figure can be read.
                if ms > 5000 {
                    self.pulled = Some((now, done));
                }
                let rate = u128::from(done - before) * 1000 / ms;
                u64::try_from(rate).ok().filter(|_| ms >= 500)
            }
            Some(_) | None => {
                self.pulled = Some((now, done));
                None
            }
        }
    }

    fn signal(&mut self, got: &Got) -> Option<Outcome> {
        match got {
            Got::Interrupt | Got::Other if self.options.view => Some(Outcome::Left(0)),
            Got::Interrupt if self.interactive => self.interrupt(),
            Got::Interrupt | Got::Other => self.disconnect(),
        }
    }

    /// Ctrl-C on a terminal: goes to a program that runs; asks when it comes again within
    /// three seconds, and when nothing runs yet; the time after that it detaches.
    fn interrupt(&mut self) -> Option<Outcome> {
        let running = self.session.state == "RUNNING";
        let again = self.interrupted.is_some_and(|at| at.elapsed() < TWICE);
        if running && !again && self.asked.is_none() {
            self.interrupted = Some(Instant::now());
            self.send_interrupt();
            return None;
        }
        if self.asked.is_some() || self.ended() {
            self.screen.close();
            eprintln!();
            if !self.ended() {
                self.screen.note(&back_line(&self.id));
            }
            return Some(Outcome::Left(if self.ended() { code::ATTACHED } else { 0 }));
        }
        self.screen.close();
        let (asked, question) = if matches!(self.session.state.as_str(), "RUNNING" | "TERMINATING")
        {
            (
                Asked::Running,
                "[s]top, [d]etach, or Enter to go on? ".to_owned(),
            )
        } else {
            let place = self
                .session
                .position
                .map(|p| format!(" and keep place #{p}"))
                .unwrap_or_default();
            (
                Asked::Waiting,
                format!("[d]etach{place} (default), [c]ancel? "),
            )
        };
        eprint!("\n{question}");
        let _ = std::io::stderr().flush();
        self.asked = Some(asked);
        let events = self.events.clone();
        // A thread of its own: reading a terminal cannot be given up, and the program
        // may end while nobody has answered.
        std::thread::spawn(move || {
            let mut line = String::new();
            if std::io::stdin().read_line(&mut line).is_ok() {
                let _ = events.blocking_send(Event::Answer(line));
            }
        });
        None
    }

    fn answer(&mut self, answer: &str) -> Option<Outcome> {
        let asked = self.asked.take()?;
        let letter = answer.trim().chars().next().map(|c| c.to_ascii_lowercase());
        match (asked, letter) {
            (_, Some('d')) | (Asked::Waiting, None) => {
                self.screen.note(&back_line(&self.id));
                return Some(Outcome::Left(0));
            }
            (Asked::Waiting, Some('c')) | (_, Some('s')) => self.stop(),
            (_, _) => self.screen.note("going on"),
        }
        None
    }

    /// A signal that no person at a terminal sent.
    fn disconnect(&mut self) -> Option<Outcome> {
        if self.signalled {
            return Some(Outcome::Left(code::ATTACHED));
        }
        self.signalled = true;
        let default = if self.interactive {
            OnDisconnect::Keep
        } else {
            OnDisconnect::Stop
        };
        match self.options.on_disconnect.unwrap_or(default) {
            OnDisconnect::Keep => {
                self.screen.note(&back_line(&self.id));
                Some(Outcome::Left(code::ATTACHED))
            }
            OnDisconnect::Stop => {
                if !self.ended() {
                    self.screen.line(
                        &self.id.clone(),
                        "stopping",
                        "by signal; a second one leaves at once",
                    );
                    self.stop();
                }
                None
            }
        }
    }

    /// Passes Ctrl-C on to the program. What cannot be delivered is said, not repeated.
    fn send_interrupt(&self) {
        let (client, id, events) = (self.client.clone(), self.id.clone(), self.events.clone());
        tokio::spawn(async move {
            let order = SignalOrder {
                signal: "INT".to_owned(),
            };
            if let Err(failure) = client.post(&format!("/sessions/{id}/signal"), &order).await {
                let _ = events.send(Event::Said(failure.to_string())).await;
            }
        });
    }

    /// Asks for the end of the session, again and again while the coordinator is away.
    /// `watch` gives up after five minutes, and with it this.
    fn stop(&self) {
        let (client, id, events) = (self.client.clone(), self.id.clone(), self.events.clone());
        tokio::spawn(async move {
            let path = format!("/sessions/{id}/terminate");
            let mut pauses = Pauses::new();
            while !events.is_closed() {
                match client.post(&path, &TerminateRequest::default()).await {
                    Err(failure) if failure.is_transient() => pauses.wait().await,
                    // It ended in the same moment.
                    Err(failure) if failure.exit == code::CONFLICT => return,
                    Err(failure) => {
                        let _ = events.send(Event::Fatal(failure)).await;
                        return;
                    }
                    Ok(_) => return,
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::time::Timestamp;

    #[test]
    fn events_come_in_pieces() {
        let text = b": hello\n\nevent: line\ndata: {\"a\":1}\n\nevent: end\r\ndata: {}\r\n\r\ndata: x\ndata: y\n\n";
        for size in [1, 3, 7, text.len()] {
            let mut parser = Sse::default();
            let mut got = Vec::new();
            for piece in text.chunks(size) {
                got.extend(parser.push(piece).unwrap());
            }
            let want = [("line", "{\"a\":1}"), ("end", "{}"), ("", "x\ny")];
            assert_eq!(got.len(), want.len());
            for ((event, data), (e, d)) in got.iter().zip(want) {
                assert_eq!((event.as_str(), data.as_str()), (e, d));
            }
        }
    }

    #[test]
    fn positions_count_bytes() {
        let record = |position, text: Option<&str>, bytes: Option<&str>| LogRecord {
            rank: "main1".into(),
            attempt: 1,
            stream: "stdout".into(),
            at: Timestamp(0),
            position,
            text: text.map(str::to_owned),
            bytes: bytes.map(str::to_owned),
        };
        let mut position = None;
        assert!(take(record(0, Some("é\n"), None), &mut position).is_some());
        assert_eq!(position, Some(3));
        assert!(take(record(3, None, Some("/wD+")), &mut position).is_some());
        assert_eq!(position, Some(6));
        assert!(take(record(6, Some(""), None), &mut position).is_none());
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Sse::default();
        let big = vec![b'x'; MOST_EVENT + 1];
        assert!(parser.push(&big).is_err());
    }
}
