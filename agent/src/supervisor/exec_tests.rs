//! One command with a process that only notes what it gets. Time is virtual.

use super::*;
use crate::runtime::ExecOutput;
use std::sync::{Mutex, PoisonError};

/// A process by the book: HUP ends it, unless it is stubborn.
#[derive(Debug, Default)]
struct Noted {
    got: Mutex<Vec<String>>,
    stubborn: bool,
    exit: Mutex<Option<i32>>,
    /// It never began.
    pidless: bool,
    /// So often a signal reaches nobody, although somebody is there.
    deaf: Mutex<u32>,
    /// The engine answers no more.
    mute: Mutex<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process for Arc<Noted> {
    async fn state(&self) -> Result<ExecState, RuntimeError> {
        if *lock(&self.mute) {
            return Err(RuntimeError::Unreachable("it is away".to_owned()));
        }
        Ok(ExecState {
            pid: (!self.pidless).then_some(7),
            exit: *lock(&self.exit),
        })
    }

    async fn resize(&self, size: TerminalSize) {
        lock(&self.got).push(format!("{}x{}", size.rows, size.cols));
    }

    async fn signal(&self, signal: &str) -> bool {
        self.signal_group(7, signal)
    }

    fn signal_group(&self, _: u32, signal: &str) -> bool {
        let ends = match signal {
            "KILL" => true,
            "HUP" => !self.stubborn,
            _ => false,
        };
        let there = lock(&self.exit).is_none();
        if signal != STILL_THERE {
            lock(&self.got).push(signal.to_owned());
        }
        let mut deaf = lock(&self.deaf);
        if ends && *deaf > 0 {
            *deaf -= 1;
        } else if ends {
            *lock(&self.exit) = Some(137);
        }
        there
    }
}

type Piece = Result<ExecOutput, RuntimeError>;

struct Scene {
    process: Arc<Noted>,
    client: ClientEnds,
    back: mpsc::Sender<Ends>,
    /// What the command writes; dropped, its output has ended.
    output: Option<mpsc::Sender<Piece>>,
    /// What it reads.
    input: tokio::io::DuplexStream,
    news: mpsc::Receiver<Event>,
    task: tokio::task::JoinHandle<()>,
}

fn begun(process: Noted, kind: ExecKind) -> Scene {
    let serving = move |mut command, own, again, told| async move {
        serve(&mut command, own, again, kind, &told).await;
    };
    begun_with(process, serving, kind == ExecKind::Terminal)
}

/// One that goes on without a client, and the client that began it.
fn begun_detached(process: Noted) -> Scene {
    let serving = |command, own, again, told| async move {
        drop(own);
        detached::serve(command, again, &told).await;
    };
    begun_with(process, serving, false)
}

fn begun_with<F>(
    process: Noted,
    serving: impl FnOnce(Command<Arc<Noted>>, Ends, mpsc::Receiver<Ends>, Told) -> F,
    tty: bool,
) -> Scene
where
    F: Future<Output = ()> + Send + 'static,
{
    let process = Arc::new(process);
    let (output, pieces) = mpsc::channel::<Piece>(8);
    let (input, other_end) = tokio::io::duplex(64);
    let command = Command {
        process: Arc::clone(&process),
        input: Some(Box::pin(other_end)),
        tty,
        pending: bytes::Bytes::new(),
        output: Box::pin(tokio_stream::wrappers::ReceiverStream::new(pieces)),
        output_ended: false,
        spoken: false,
        refusal: Vec::new(),
        ask: Pause::default(),
        lines: None,
    };
    let (client, own) = ends();
    let (back, again) = mpsc::channel(1);
    let (events, news) = mpsc::channel(64);
    let exec = ExecId::new(1);
    let told = Told { events, exec };
    let task = tokio::spawn(serving(command, own, again, told));
    Scene {
        process,
        client,
        back,
        output: Some(output),
        input,
        news,
        task,
    }
}

impl Scene {
    async fn writes(&self, error: bool, text: &str) {
        let bytes = bytes::Bytes::copy_from_slice(text.as_bytes());
        let output = self.output.as_ref().expect("its output has not ended");
        output.send(Ok(ExecOutput { error, bytes })).await.unwrap();
    }

    fn got(&self) -> Vec<String> {
        lock(&self.process.got).clone()
    }

    async fn says(&mut self) -> News {
        match self.news.recv().await {
            Some(Event::Exec(_, news)) => news,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn both_outputs_then_the_code() {
    let mut scene = begun(Noted::default(), ExecKind::Command);
    scene.writes(false, "out").await;
    scene.writes(true, "err").await;
    *lock(&scene.process.exit) = Some(3);
    scene.output = None;
    let from = &mut scene.client.from;
    assert_eq!(from.recv().await, Some(FromExec::Output(b"out".to_vec())));
    assert_eq!(
        from.recv().await,
        Some(FromExec::ErrorOutput(b"err".to_vec()))
    );
    assert_eq!(from.recv().await, Some(FromExec::Exited(3)));
    assert_eq!(from.recv().await, None);
    (&mut scene.task).await.unwrap();
    assert!(lock(&scene.process.got).is_empty());
    assert_eq!(scene.says().await, News::Attached);
    assert_eq!(scene.says().await, News::Detached);
}

#[tokio::test(start_paused = true)]
async fn input_goes_through_to_its_end_and_signals_and_sizes_beside_it() {
    use tokio::io::AsyncReadExt as _;
    let mut scene = begun(Noted::default(), ExecKind::Command);
    let large = vec![7; 1000]; // more than its end takes at once
    let to = &scene.client.to;
    to.send(ToExec::Input(large.clone())).await.unwrap();
    let size = TerminalSize { rows: 9, cols: 8 };
    to.send(ToExec::Resize(size)).await.unwrap();
    to.send(ToExec::Signal("INT".to_owned())).await.unwrap();
    to.send(ToExec::Signal("KILL".to_owned())).await.unwrap(); // none that people send
    to.send(ToExec::EndOfInput).await.unwrap();
    let mut read = Vec::new();
    scene.input.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, large);
    assert_eq!(scene.got(), ["9x8", "INT"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_failed_is_told_apart() {
    let words = "OCI runtime exec failed: exec failed: unable to start container process: exec:";
    let table = [
        (
            "\"no\": executable file not found in $PATH: unknown\r\n",
            127,
        ),
        ("\"/etc\": permission denied: unknown\r\n", 126),
    ];
    for (rest, code) in table {
        let process = Noted {
            pidless: true,
            exit: Mutex::new(Some(126)),
            ..Noted::default()
        };
        let mut scene = begun(process, ExecKind::Command);
        scene.writes(false, &format!("{words} {rest}")).await;
        scene.output = None;
        let said = scene.client.from.recv().await;
        assert!(matches!(said, Some(FromExec::ErrorOutput(_))), "{said:?}");
        assert_eq!(scene.client.from.recv().await, Some(FromExec::Exited(code)));
    }
    // A program that writes the same words has begun.
    let mut scene = begun(Noted::default(), ExecKind::Command);
    *lock(&scene.process.exit) = Some(0);
    scene.writes(false, words).await;
    scene.output = None;
    let said = scene.client.from.recv().await;
    assert_eq!(said, Some(FromExec::Output(words.as_bytes().to_vec())));
    assert_eq!(scene.client.from.recv().await, Some(FromExec::Exited(0)));
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_client_goes_is_hung_up_and_killed_after_ten_seconds() {
    let Scene {
        process,
        client,
        task,
        output,
        ..
    } = begun(Noted::default(), ExecKind::Command);
    drop(client);
    task.await.unwrap();
    assert_eq!(*lock(&process.got), ["HUP"]);
    drop(output);

    let stubborn = Noted {
        stubborn: true,
        ..Noted::default()
    };
    let scene = begun(stubborn, ExecKind::Command);
    let began = Instant::now();
    drop(scene.client);
    scene.task.await.unwrap();
    assert_eq!(*lock(&scene.process.got), ["HUP", "KILL"]);
    assert_eq!(began.elapsed().as_secs(), GRACE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_terminal_is_kept_for_a_minute_and_taken_up_again() {
    let mut scene = begun(Noted::default(), ExecKind::Terminal);
    assert_eq!(scene.says().await, News::Attached);
    drop(std::mem::replace(&mut scene.client, ends().0));
    assert_eq!(scene.says().await, News::Detached);
    scene.writes(false, "meanwhile").await;
    tokio::time::advance(KEPT - Duration::from_secs(1)).await;
    let (client, own) = ends();
    scene.back.send(own).await.unwrap();
    scene.client = client;
    assert_eq!(scene.says().await, News::Attached);
    let held = scene.client.from.recv().await;
    assert_eq!(held, Some(FromExec::Output(b"meanwhile".to_vec())));
    assert!(scene.got().is_empty());
    // Lost once more, for good.
    let lost = Instant::now();
    drop(scene.client);
    scene.task.await.unwrap();
    assert_eq!(lost.elapsed().as_secs(), KEPT.as_secs());
    assert_eq!(*lock(&scene.process.got), ["HUP"]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_connection_takes_a_terminal_over_and_who_leaves_ends_it() {
    let mut scene = begun(Noted::default(), ExecKind::Terminal);
    let (client, own) = ends();
    scene.back.send(own).await.unwrap();
    let mut older = std::mem::replace(&mut scene.client, client);
    assert_eq!(older.from.recv().await, None);
    assert!(scene.got().is_empty());
    let left = Instant::now();
    scene.client.to.send(ToExec::Leave).await.unwrap();
    drop(scene.client);
    scene.task.await.unwrap();
    assert_eq!(left.elapsed().as_secs(), 0);
    assert_eq!(*lock(&scene.process.got), ["HUP"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_holds_the_output_and_nothing_is_lost() {
    let mut scene = begun(Noted::default(), ExecKind::Command);
    let output = scene.output.take().unwrap();
    let task = tokio::spawn(async move {
        for number in 0..100_u8 {
            let bytes = bytes::Bytes::from(vec![number]);
            let piece = ExecOutput {
                error: false,
                bytes,
            };
            output.send(Ok(piece)).await.unwrap();
        }
    });
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(
        !task.is_finished(),
        "more was taken than anybody has room for"
    );
    for number in 0..100_u8 {
        let piece = scene.client.from.recv().await;
        assert_eq!(piece, Some(FromExec::Output(vec![number])));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_kill_needs_no_engine_and_is_tried_until_nobody_is_left() {
    let stubborn = Noted {
        stubborn: true,
        deaf: Mutex::new(3),
        ..Noted::default()
    };
    let scene = begun(stubborn, ExecKind::Command);
    drop(scene.client);
    // The engine goes away while the command has its time.
    sleep(Duration::from_secs(1)).await;
    *lock(&scene.process.mute) = true;
    scene.task.await.unwrap();
    let got = lock(&scene.process.got).clone();
    assert_eq!(got, ["HUP", "KILL", "KILL", "KILL", "KILL"]);
}

#[tokio::test(start_paused = true)]
async fn a_detached_command_goes_on_and_can_be_looked_at_before_and_after_its_end() {
    let mut scene = begun_detached(Noted::default());
    assert_eq!(scene.client.from.recv().await, None, "nobody looks yet");
    assert_eq!(scene.says().await, News::Attached);
    assert_eq!(scene.says().await, News::Detached);
    scene.writes(false, "early").await;
    let look = async |scene: &Scene| {
        let (client, own) = ends();
        scene.back.send(own).await.unwrap();
        client
    };
    let mut first = look(&scene).await;
    let early = Some(FromExec::Output(b"early".to_vec()));
    assert_eq!(first.from.recv().await, early);
    scene.writes(true, "late").await;
    let late = Some(FromExec::ErrorOutput(b"late".to_vec()));
    assert_eq!(first.from.recv().await, late);
    // Who looks may signal, and their going ends nothing.
    first
        .to
        .send(ToExec::Signal("USR1".to_owned()))
        .await
        .unwrap();
    first.to.send(ToExec::Leave).await.unwrap();
    assert_eq!(first.from.recv().await, None);
    *lock(&scene.process.exit) = Some(5);
    scene.output = None;
    assert_eq!(scene.says().await, News::Over(Some(5)), "looking is no use");
    assert_eq!(scene.got(), ["USR1"]);
    let mut second = look(&scene).await;
    for frame in [early, late, Some(FromExec::Exited(5)), None] {
        assert_eq!(second.from.recv().await, frame);
    }
    // It is forgotten in the end.
    let ended = Instant::now();
    scene.task.await.unwrap();
    assert_eq!(ended.elapsed().as_secs(), 600);
}

#[tokio::test(start_paused = true)]
async fn who_looks_and_takes_nothing_holds_no_detached_command_up() {
    let mut scene = begun_detached(Noted::default());
    let (client, own) = ends();
    scene.back.send(own).await.unwrap();
    for number in 0..2_000 {
        scene.writes(false, &format!("{number:999}\n")).await;
    }
    *lock(&scene.process.exit) = Some(0);
    scene.output = None;
    while scene.says().await != News::Over(Some(0)) {}
    let mut from = client.from;
    let mut said = Vec::new();
    while let Some(frame) = from.recv().await {
        said.push(frame);
    }
    assert_eq!(said.pop(), Some(FromExec::Exited(0)));
    let gap = |frame: &FromExec| matches!(frame, FromExec::ErrorOutput(_));
    assert!(said.iter().any(gap), "what was missed is said");
}

#[test]
fn ends_are_forgotten_in_the_order_in_which_they_came() {
    let key = ContainerKey {
        session: longshore_common::ids::SessionId::at_place(1),
        attempt: longshore_common::ids::Attempt::FIRST,
        rank: longshore_common::ids::Rank::MAIN,
    };
    let mut execs = BTreeMap::new();
    let last = u128::try_from(detached::ENDED).unwrap() + 2;
    for id in 1..=last {
        let running = Running {
            key,
            kind: ExecKind::Detached,
            back: mpsc::channel(1).0,
            lines: None,
            over: None,
        };
        execs.insert(ExecId::new(id), running);
    }
    // The first to begin is the last to end but one, which is that of the second.
    for id in (3..=last).chain([1]) {
        note_end(&mut execs, ExecId::new(id), Some(0));
    }
    let over = execs[&ExecId::new(1)].over.map(|over| over.code);
    assert_eq!(over, Some(Some(0)), "its end can be read");
    assert!(!execs.contains_key(&ExecId::new(3)), "it ended first");
    assert!(execs.contains_key(&ExecId::new(2)), "it still runs");
    assert_eq!(execs.len(), detached::ENDED + 1);
    note_end(&mut execs, ExecId::new(2), None);
    assert!(!execs.contains_key(&ExecId::new(4)));
    assert_eq!(execs.len(), detached::ENDED);
}

#[tokio::test(start_paused = true)]
async fn the_input_of_one_that_is_hung_up_ends_after_the_signal() {
    use tokio::io::AsyncReadExt as _;
    let mut scene = begun(Noted::default(), ExecKind::Command);
    *lock(&scene.process.mute) = true;
    drop(scene.client);
    let mut read = Vec::new();
    let end = scene.input.read_to_end(&mut read);
    let early = timeout(GRACE / 2, end).await;
    assert!(early.is_err(), "nothing has reached it yet");
    *lock(&scene.process.mute) = false;
    scene.input.read_to_end(&mut read).await.unwrap();
    assert_eq!(lock(&scene.process.got)[..], ["HUP"]);
    scene.task.await.unwrap();
}
