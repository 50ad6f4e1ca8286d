//! The supervisor against an engine that does what a test tells it, event by event.

mod gpus;
mod recalled;
mod strangers;

use super::*;
use crate::devices::simulated::{SimulatedConfig, SimulatedGpus, start as invent_gpus};
use crate::logs::LogLimits;
use crate::runtime::{
    CreateRequest, DialError, ExecOrder, ExecState, Execution, FoundStatus, ImageFacts,
    OutputChunk, PullState,
};
use longshore_common::agent::RuntimeState;
use longshore_common::amount::{SlotName, Slots, UNIT};
use longshore_common::ids::{
    Attempt, CoordinatorGeneration, Fence, Generation, InstanceId, Rank, SessionId,
};
use longshore_common::limits::{Combine, Deadline, IdleAction, IdlePolicy, Kept, SessionLimits};
use longshore_common::session::{
    Cause, ContainerSpec, ContainerState, End, Exit, PullRule, Reason, SessionType, StopOrder,
};
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    Claim, ExecKind, ExecRequest, OutcomeAck, OutcomeNumber, OutputKind, SignalBefore, SignedSet,
    SigningInput, TerminalSize, ToExec, Welcome,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::net::TcpStream;

/// Nothing here takes longer on a machine that is well.
const LIMIT: Duration = Duration::from_secs(20);

/// Calls wait at a gate until it is open.
pub(super) struct Gate(watch::Sender<bool>);

impl Gate {
    fn new() -> Self {
        Self(watch::channel(true).0)
    }

    pub(super) fn set(&self, open: bool) {
        self.0.send_replace(open);
    }

    async fn pass(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await; // the gate outlives its calls
    }
}

/// An engine that notes what it is asked for.
pub(super) struct Scripted {
    calls: Mutex<Vec<String>>,
    pub(super) containers: Mutex<BTreeMap<ContainerKey, Found>>,
    pulls: Gate,
    creates: Gate,
    pub(super) lists: Gate,
    /// While closed, a stop takes as long as its grace would allow.
    stops: Gate,
    pub(super) freezes: Gate,
    /// What it says to whoever wants something frozen.
    pub(super) freeze_fails: Mutex<Option<RuntimeError>>,
    /// What it says to the next signals; all go through after them.
    signals: Mutex<VecDeque<Result<(), RuntimeError>>>,
    /// Programs that were begun have ended with this.
    pub(super) begun_exit: Mutex<Option<i32>>,
    /// Creates that say the image is not there any more.
    image_gone: Mutex<u32>,
    /// What the next comparisons say; all is well after them.
    checks: Mutex<VecDeque<Result<Option<Breach>, RuntimeError>>>,
    /// How the next reads of output end, at once; after them a read ends with its process.
    outputs: Mutex<VecDeque<Result<(), RuntimeError>>>,
    /// What the container has written so far.
    written: Mutex<Vec<OutputChunk>>,
    /// Changed with every container.
    changed: watch::Sender<()>,
    /// Changed to break the watches off.
    cut: watch::Sender<()>,
}

impl Scripted {
    pub(super) fn new() -> Self {
        Self {
            calls: Mutex::default(),
            containers: Mutex::default(),
            pulls: Gate::new(),
            creates: Gate::new(),
            lists: Gate::new(),
            stops: Gate::new(),
            freezes: Gate::new(),
            freeze_fails: Mutex::default(),
            signals: Mutex::default(),
            begun_exit: Mutex::default(),
            image_gone: Mutex::default(),
            checks: Mutex::default(),
            outputs: Mutex::default(),
            written: Mutex::default(),
            changed: watch::channel(()).0,
            cut: watch::channel(()).0,
        }
    }

    fn note(&self, call: impl Into<String>) {
        lock(&self.calls).push(call.into());
    }

    pub(super) fn count(&self, call: &str) -> usize {
        lock(&self.calls).iter().filter(|c| *c == call).count()
    }

    fn change(&self, docker_id: &str, status: FoundStatus) -> Result<(), RuntimeError> {
        let mut containers = lock(&self.containers);
        let found = containers.values_mut().find(|f| f.docker_id == docker_id);
        found.ok_or(RuntimeError::NotFound)?.status = status;
        self.changed.send_replace(());
        Ok(())
    }

    fn runs(&self, docker_id: &str) -> bool {
        let containers = lock(&self.containers);
        let found = containers.values().find(|f| f.docker_id == docker_id);
        found.is_some_and(|f| matches!(f.status, FoundStatus::Running | FoundStatus::Paused))
    }

    /// The container writes a line at a time of the test's choice.
    fn write(&self, at: i64, line: &str) {
        lock(&self.written).push(OutputChunk {
            kind: OutputKind::Stdout,
            at: Timestamp(at),
            bytes: format!("{line}\n").into_bytes(),
        });
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn exited(code: i32) -> FoundStatus {
    FoundStatus::Exited(Exit {
        code,
        signal: None,
        oom: false,
        at: wall_clock(),
    })
}

impl Containers for Scripted {
    async fn ping(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn info(&self) -> Result<EngineInfo, RuntimeError> {
        Ok(EngineInfo::default())
    }

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let seen = lock(&self.containers).values().cloned().collect();
        self.note("list");
        self.lists.pass().await; // on its way the answer gets old
        Ok(seen)
    }

    async fn find(&self, key: ContainerKey) -> Result<Option<Found>, RuntimeError> {
        Ok(lock(&self.containers).get(&key).cloned())
    }

    async fn ensure_image(
        &self,
        image: &str,
        _digest: Option<&str>,
        _rule: PullRule,
        _login: Option<&longshore_common::wire::RegistryLogin>,
        _progress: mpsc::Sender<PullState>,
    ) -> Result<ImageFacts, RuntimeError> {
        self.note("pull");
        self.pulls.pass().await;
        Ok(ImageFacts {
            id: image.to_owned(),
            ..ImageFacts::default()
        })
    }

    async fn create(&self, request: &CreateRequest) -> Result<String, RuntimeError> {
        self.note("create");
        self.creates.pass().await;
        let mut gone = lock(&self.image_gone);
        if *gone > 0 {
            *gone -= 1;
            return Err(RuntimeError::Failed {
                cause: Cause::ImageNotAvailable,
                detail: "no such image".to_owned(),
            });
        }
        drop(gone);
        if lock(&self.containers).contains_key(&request.key) {
            return Err(RuntimeError::Conflict);
        }
        let docker_id = request.key.to_string();
        let found = Found {
            key: request.key,
            docker_id: docker_id.clone(),
            fence: request.fence,
            spec_hash: crate::runtime::docker::spec_hash(&request.spec),
            claim: Claim {
                slots: request.spec.slots.clone(),
                devices: request.spec.devices.clone(),
            },
            image: request.image.exact.clone(),
            status: FoundStatus::Created,
            started_at: None,
            pid: None,
        };
        lock(&self.containers).insert(request.key, found);
        self.note("created");
        Ok(docker_id)
    }

    async fn start(&self, docker_id: &str) -> Result<(), RuntimeError> {
        self.note("start");
        self.change(docker_id, FoundStatus::Running)
    }

    async fn verify(
        &self,
        _docker_id: &str,
        _request: &CreateRequest,
    ) -> Result<Option<Breach>, RuntimeError> {
        self.note("verify");
        lock(&self.checks).pop_front().unwrap_or(Ok(None))
    }

    async fn stop(&self, docker_id: &str, grace_s: u32) -> Result<(), RuntimeError> {
        self.note(format!("stop {grace_s}"));
        tokio::select! {
            () = self.stops.pass() => (),
            () = tokio::time::sleep(Duration::from_secs(u64::from(grace_s))) => (),
        }
        self.change(docker_id, exited(143))
    }

    async fn signal(&self, _docker_id: &str, signal: &str) -> Result<(), RuntimeError> {
        self.note(format!("signal {signal}"));
        lock(&self.signals).pop_front().unwrap_or(Ok(()))
    }

    async fn kill(&self, docker_id: &str) -> Result<(), RuntimeError> {
        self.note("kill");
        self.change(docker_id, exited(137))
    }

    async fn remove(
        &self,
        key: ContainerKey,
        _docker_id: Option<&str>,
    ) -> Result<(), RuntimeError> {
        self.note("remove");
        lock(&self.containers).remove(&key);
        self.changed.send_replace(());
        Ok(())
    }

    async fn freeze(&self, docker_id: &str) -> Result<(), RuntimeError> {
        self.note("freeze");
        self.freezes.pass().await;
        if let Some(error) = lock(&self.freeze_fails).clone() {
            return Err(error);
        }
        self.change(docker_id, FoundStatus::Paused)
    }

    async fn thaw(&self, docker_id: &str) -> Result<(), RuntimeError> {
        self.note("thaw");
        self.change(docker_id, FoundStatus::Running)
    }

    async fn output(
        &self,
        docker_id: &str,
        since: Option<Timestamp>,
        sink: mpsc::Sender<OutputChunk>,
    ) -> Result<(), RuntimeError> {
        self.note("output");
        let mut changed = self.changed.subscribe();
        let scripted = lock(&self.outputs).pop_front();
        let mut rest = lock(&self.written).clone();
        rest.retain(|chunk| since.is_none_or(|since| chunk.at >= since));
        for chunk in rest {
            let _ = sink.send(chunk).await;
        }
        if let Some(end) = scripted {
            return end;
        }
        while self.runs(docker_id) {
            let _ = changed.changed().await; // the engine outlives its calls
        }
        Ok(())
    }

    async fn exec(&self, docker_id: &str, order: &ExecOrder) -> Result<Execution, RuntimeError> {
        self.note(format!("exec {docker_id} {}", order.command.join(" ")));
        let pieces = tokio_stream::pending();
        Ok(Execution {
            id: "e".to_owned(),
            input: Box::pin(tokio::io::sink()),
            output: Box::pin(pieces),
        })
    }

    async fn exec_begin(&self, docker_id: &str, order: &ExecOrder) -> Result<String, RuntimeError> {
        self.note(format!("begin {docker_id} {}", order.command.join(" ")));
        Ok("e".to_owned())
    }

    async fn dial(&self, _: &str, _: u32, port: u16) -> Result<TcpStream, DialError> {
        self.note(format!("dial {port}"));
        Err(DialError::Nothing)
    }

    async fn exec_state(&self, _: &str) -> Result<ExecState, RuntimeError> {
        Ok(ExecState {
            pid: Some(7),
            exit: *lock(&self.begun_exit),
        })
    }

    async fn exec_resize(&self, _: &str, _: TerminalSize) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn exec_signal(&self, _: &str, _: &str, signal: &str) -> Result<bool, RuntimeError> {
        self.note(format!("exec {signal}"));
        Ok(false)
    }

    fn signal_group(&self, _: &str, _: u32, _: &str) -> bool {
        false
    }

    async fn watch(&self, sink: mpsc::Sender<Hint>) -> Result<(), RuntimeError> {
        let mut cut = self.cut.subscribe();
        self.note("watch");
        let _ = sink.send(Hint::Open).await;
        tokio::select! {
            () = sink.closed() => Ok(()),
            _ = cut.changed() => Err(away()),
        }
    }
}

pub(super) fn away() -> RuntimeError {
    RuntimeError::Unreachable("it is away".to_owned())
}

fn refused(detail: &str) -> RuntimeError {
    RuntimeError::Failed {
        cause: Cause::StartFailed,
        detail: detail.to_owned(),
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// How many lines hold these words.
    fn with(&self, words: &str) -> usize {
        let text = String::from_utf8_lossy(&lock(&self.0)).into_owned();
        text.lines().filter(|line| line.contains(words)).count()
    }
}

/// Takes what this thread logs while the guard lives.
fn logged() -> (Lines, tracing::subscriber::DefaultGuard) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

/// A supervisor whose events the test hands on itself.
pub(super) struct Driven {
    pub(super) supervisor: Supervisor<Scripted>,
    inbox: mpsc::Receiver<Event>,
    pub(super) engine: Arc<Scripted>,
    pub(super) coordinator: Coordinator,
    _gpus: SimulatedGpus,
    _dir: tempfile::TempDir,
}

/// Signs orders.
pub(super) struct Coordinator {
    keys: Ed25519KeyPair,
    generation: u64,
    pub(super) fence: Fence,
    pub(super) lease_ms: u64,
    /// Its generation and instance.
    life: (CoordinatorGeneration, InstanceId),
    wishes: Vec<SignalBefore>,
}

impl Coordinator {
    fn new() -> Self {
        Self {
            keys: Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap(),
            generation: 0,
            fence: Fence(1),
            lease_ms: 0,
            life: (CoordinatorGeneration(1), InstanceId::new(3)),
            wishes: Vec::new(),
        }
    }

    fn order(&mut self, entries: Vec<Entry>) -> Event {
        self.generation += 1;
        let bytes = SignedSet::encode(&DesiredSet {
            cluster: ClusterId::new(1),
            agent: AgentId::new(2),
            coordinator_generation: self.life.0,
            coordinator_instance: self.life.1,
            fence: self.fence,
            generation: Generation(self.generation),
            schedulable: true,
            now: wall_clock(),
            entries,
            drain: None,
            signals: self.wishes.clone(),
            lease_ms: self.lease_ms,
            networks: Vec::new(),
        });
        let signature = self.keys.sign(&SigningInput::desired_set(&bytes));
        let signature = signature.as_ref().to_vec();
        Event::Heard(Heard::Set(SignedSet { bytes, signature }))
    }
}

fn welcome() -> Event {
    welcome_with_lease(0)
}

pub(super) fn welcome_with_lease(lease_ms: i64) -> Event {
    let welcome = Box::new(Welcome {
        cluster: ClusterId::new(1),
        coordinator_generation: CoordinatorGeneration(1),
        coordinator_instance: InstanceId::new(3),
        fence: Fence(1),
        heartbeat_ms: 1000,
        lost_after_ms: 15_000,
        lease_ms: lease_ms.unsigned_abs(),
        name: "node1".to_owned(),
        group: "default".to_owned(),
        now: wall_clock(),
        addresses: Vec::new(),
    });
    Event::Heard(Heard::Up(welcome, host::boot_clock_ms()))
}

pub(super) fn key(session: u64) -> ContainerKey {
    ContainerKey {
        session: SessionId(session),
        rank: Rank::MAIN,
        attempt: Attempt::FIRST,
    }
}

pub(super) fn entry(session: u64, want: Want) -> Entry {
    Entry {
        key: key(session),
        want,
        spec: ContainerSpec {
            image: "base".to_owned(),
            digest: None,
            pull: PullRule::Tag,
            command: vec!["true".to_owned()],
            workdir: None,
            tty: false,
            environment: BTreeMap::new(),
            uid: 20_000,
            gid: 20_000,
            slots: Slots::new(),
            shm_bytes: 0,
            pids_max: 1,
            devices: Vec::new(),
            hostname: "h".to_owned(),
            owner: "o".to_owned(),
            kind: SessionType::Batch,
            root: false,
            sudo: false,
            ports: Vec::new(),
        },
        limits: SessionLimits::default(),
        stop: None,
        fence: Fence(1),
        first_generation: Generation(1),
        restartable: false,
        designated: false,
    }
}

pub(super) fn stop(session: u64, grace_s: u32) -> Entry {
    Entry {
        stop: Some(StopOrder {
            reason: Reason::UserRequested,
            grace_s,
            forced: false,
        }),
        ..entry(session, Want::Stop)
    }
}

/// Everything a supervisor is started with, around an engine.
fn parts(dir: &std::path::Path, coordinator: &Coordinator) -> Parts {
    let (cluster, agent) = (ClusterId::new(1), AgentId::new(2));
    let (gpus, hand) = invent_gpus(&SimulatedConfig {
        count: 0,
        model: String::new(),
        memory_bytes: 0,
        seed: 1,
    });
    Parts {
        config: SupervisorConfig {
            cluster,
            agent,
            work_key: coordinator.keys.public_key().as_ref().to_vec(),
            device_dir: dir.to_owned(),
            reserved_cpu: 0,
            reserved_mem: 0,
            offered_cpu: 4,
            offered_mem: 1 << 30,
            max_containers: 0,
            local_cordon: false,
            gpu_way: None,
            lease_file: None,
            foreign: ForeignRules {
                min_memory: 64 << 20,
                ignore: Vec::new(),
                hold: true,
            },
            mask: Mask::default(),
            released: None,
            allocation: Allocation::default(),
        },
        journal: Journal::open(dir, cluster, agent, 1 << 16).unwrap().0,
        logs: Arc::new(LogStore::open(&dir.join("logs"), LogLimits::default()).unwrap()),
        gpus,
        hand,
    }
}

struct Parts {
    config: SupervisorConfig,
    journal: Journal,
    logs: Arc<LogStore>,
    gpus: Snapshots,
    hand: SimulatedGpus,
}

/// With a process go the steps it was about: none of them goes on beside those of the next one.
fn dies(supervisor: Supervisor<Scripted>) {
    for busy in supervisor.busy.values() {
        busy.task.abort();
    }
    drop(supervisor);
}

impl Driven {
    /// Linked to a coordinator, with the engine asked for the first time.
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(dir, Arc::new(Scripted::new()), Coordinator::new()).await
    }

    /// Another process of the agent, on what this one leaves behind.
    async fn again(self) -> Self {
        let Self {
            supervisor,
            engine,
            coordinator,
            _dir: dir,
            ..
        } = self;
        dies(supervisor);
        Self::on(dir, engine, coordinator).await
    }

    async fn on(dir: tempfile::TempDir, engine: Arc<Scripted>, coordinator: Coordinator) -> Self {
        let mut driven = Self::begin(dir, engine, coordinator);
        driven.supervisor.recall();
        driven.list_again();
        driven
            .until("the engine was asked", |d| d.supervisor.listed)
            .await;
        driven.supervisor.take(welcome()).unwrap();
        driven
    }

    /// The agent died; another process of it begins, and remembers nothing yet.
    pub(super) fn reborn(self) -> Self {
        let Self {
            supervisor,
            engine,
            coordinator,
            _dir: dir,
            ..
        } = self;
        dies(supervisor);
        Self::begin(dir, engine, coordinator)
    }

    /// Before it recalls anything.
    fn begin(dir: tempfile::TempDir, engine: Arc<Scripted>, coordinator: Coordinator) -> Self {
        let parts = parts(dir.path(), &coordinator);
        let (events, inbox) = mpsc::channel(EVENTS);
        let supervisor = Supervisor::new(
            parts.config,
            Arc::clone(&engine),
            parts.journal,
            Arc::new(Shared::new()),
            parts.logs,
            parts.gpus,
            events,
        );
        Self {
            supervisor,
            inbox,
            engine,
            coordinator,
            _gpus: parts.hand,
            _dir: dir,
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        self.supervisor.take(event).unwrap();
    }

    pub(super) fn order(&mut self, entries: Vec<Entry>) {
        let order = self.coordinator.order(entries);
        self.supervisor.take(order).unwrap();
    }

    /// The time has come to ask the engine for everything.
    pub(super) fn list_again(&mut self) {
        self.supervisor.next_list_ms = 0;
        self.supervisor.tick();
    }

    /// Hands on events until something is so.
    pub(super) async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !is(self) {
            // Calls of the engine are no events: looked at again soon.
            let wait = tokio::time::timeout(Duration::from_millis(5), self.inbox.recv()).await;
            if let Ok(event) = wait {
                self.supervisor.take(event.unwrap()).unwrap();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "never: {what}; calls: {:?}",
                lock(&self.engine.calls)
            );
        }
    }

    /// Hands on what comes until nothing more can: paused time goes on only once every
    /// task waits. Only for tests with paused time; with any other this panics.
    async fn rest(&mut self) {
        tokio::time::advance(Duration::ZERO).await;
        let end = tokio::time::Instant::now() + Duration::from_millis(100);
        while let Ok(event) = tokio::time::timeout_at(end, self.inbox.recv()).await {
            self.supervisor.take(event.unwrap()).unwrap();
        }
    }

    /// The engine was asked whether it is there, and answered.
    fn pinged(&mut self) {
        self.supervisor.take(Event::Pinged(Ok(()))).unwrap();
    }

    /// Ordered to run, with comparisons that end as given.
    async fn started(
        &mut self,
        checks: impl IntoIterator<Item = Result<Option<Breach>, RuntimeError>>,
    ) {
        self.order(vec![entry(1, Want::Prepare)]);
        self.until("it is created", |d| {
            d.state(1) == Some(ContainerState::Created)
        })
        .await;
        lock(&self.engine.checks).extend(checks);
        self.order(vec![entry(1, Want::Run)]);
        self.until("it was started and compared", |d| {
            d.engine.count("verify") == 1 && d.supervisor.busy.is_empty()
        })
        .await;
    }

    /// The time has come to look again; hands on what that brings.
    async fn tick(&mut self) {
        self.supervisor.tick();
        self.rest().await;
    }

    fn start_failed(&self) -> (Cause, String) {
        let ended = self.outcome(1, OutcomeNumber::Ended).and_then(|o| o.end);
        let Some(End::StartFailed { cause, detail }) = ended else {
            panic!("{ended:?}");
        };
        (cause, detail)
    }

    pub(super) fn state(&self, session: u64) -> Option<ContainerState> {
        let reports = self.supervisor.shared.outbox().all_reports();
        let report = reports.into_iter().find(|r| r.key == key(session))?;
        Some(report.state)
    }

    fn outcome(&self, session: u64, number: OutcomeNumber) -> Option<Outcome> {
        let outbox = self.supervisor.shared.outbox();
        outbox.outcomes.get(&(key(session), number)).cloned()
    }

    async fn running(&mut self, session: u64) {
        self.order(vec![entry(session, Want::Prepare)]);
        self.until("it is created", |d| {
            d.state(session) == Some(ContainerState::Created)
        })
        .await;
        self.order(vec![entry(session, Want::Run)]);
        self.until("it runs", |d| {
            d.state(session) == Some(ContainerState::Running) && d.supervisor.busy.is_empty()
        })
        .await;
    }

    pub(super) async fn closed(&mut self, session: u64) {
        self.until("nothing is left of it", |d| {
            d.outcome(session, OutcomeNumber::Closed).is_some()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_overtakes_a_longer_one() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.engine.stops.set(false);
    driven.order(vec![stop(1, 600)]);
    driven
        .until("it is stopping", |d| d.engine.count("stop 600") == 1)
        .await;
    driven.order(vec![stop(1, 900)]);
    driven.rest().await;
    assert_eq!(
        driven.engine.count("stop 900"),
        0,
        "a longer one changes nothing"
    );
    assert_eq!(driven.state(1), Some(ContainerState::Stopping));

    driven.order(vec![stop(1, 0)]);
    driven.closed(1).await;
    assert_eq!(driven.engine.count("stop 0"), 1);
    let ended = driven.outcome(1, OutcomeNumber::Ended).unwrap();
    assert!(
        matches!(
            &ended.end,
            Some(End::Stopped { reason: Reason::UserRequested, exit: Some(exit) }) if exit.code == 143
        ),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_pull_is_given_up_at_once() {
    let mut driven = Driven::new().await;
    driven.engine.pulls.set(false);
    driven.order(vec![entry(1, Want::Prepare)]);
    driven
        .until("it pulls", |d| d.engine.count("pull") == 1)
        .await;
    assert_eq!(driven.state(1), Some(ContainerState::Pulling));
    driven.order(vec![stop(1, 30)]);
    driven.closed(1).await;
    assert_eq!(driven.engine.count("create"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_create_is_waited_for_and_then_undone() {
    let mut driven = Driven::new().await;
    driven.engine.creates.set(false);
    driven.order(vec![entry(1, Want::Prepare)]);
    driven
        .until("it is being created", |d| {
            d.engine.count("create") == 1 && d.state(1) == Some(ContainerState::Creating)
        })
        .await;
    driven.order(vec![stop(1, 30)]);
    driven.rest().await;
    // Removed now, the engine would make it behind our back.
    assert_eq!(driven.engine.count("remove"), 0);
    assert!(driven.outcome(1, OutcomeNumber::Closed).is_none());

    driven.engine.creates.set(true);
    driven.closed(1).await;
    assert_eq!(driven.engine.count("start"), 0);
    assert!(lock(&driven.engine.containers).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_list_from_before_a_start_does_not_make_a_container_missing() {
    let mut driven = Driven::new().await;
    driven.engine.lists.set(false);
    let lists = driven.engine.count("list");
    driven.list_again();
    driven
        .until("the list was made", |d| d.engine.count("list") > lists)
        .await;
    driven.running(1).await;
    driven.engine.lists.set(true);
    driven
        .until("the old list came", |d| !d.supervisor.listing)
        .await;
    driven.rest().await;
    assert_eq!(driven.state(1), Some(ContainerState::Running));
    assert_eq!(driven.outcome(1, OutcomeNumber::Ended), None);
    assert_eq!(driven.engine.count("start"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_from_between_create_and_start_does_not_start_it_twice() {
    let mut driven = Driven::new().await;
    driven.order(vec![entry(1, Want::Prepare)]);
    driven
        .until("it is created", |d| {
            d.state(1) == Some(ContainerState::Created)
        })
        .await;
    driven.engine.lists.set(false);
    let lists = driven.engine.count("list");
    driven.list_again();
    driven
        .until("the list was made", |d| d.engine.count("list") > lists)
        .await;
    driven.order(vec![entry(1, Want::Run)]);
    driven
        .until("it runs", |d| d.state(1) == Some(ContainerState::Running))
        .await;
    driven.engine.lists.set(true);
    driven
        .until("the old list came", |d| !d.supervisor.listing)
        .await;
    driven.rest().await;
    assert_eq!(driven.engine.count("start"), 1);
    assert_eq!(driven.state(1), Some(ContainerState::Running));
}

#[tokio::test]
async fn an_image_that_went_away_is_fetched_once_more() {
    let mut driven = Driven::new().await;
    *lock(&driven.engine.image_gone) = 1;
    driven.running(1).await;
    assert_eq!(driven.engine.count("pull"), 2);

    *lock(&driven.engine.image_gone) = 2;
    driven.order(vec![entry(1, Want::Run), entry(2, Want::Prepare)]);
    driven
        .until("it failed", |d| {
            d.outcome(2, OutcomeNumber::Ended).is_some()
        })
        .await;
    let ended = driven.outcome(2, OutcomeNumber::Ended).unwrap();
    let Some(End::StartFailed { cause, .. }) = ended.end else {
        panic!("{ended:?}");
    };
    assert_eq!(cause, Cause::ImageNotAvailable);
    assert_eq!(driven.engine.count("pull"), 4, "not for ever");
}

#[tokio::test]
async fn orders_of_many_containers_are_all_carried_out_and_kept() {
    let mut driven = Driven::new().await;
    driven.order((1..=20).map(|n| entry(n, Want::Prepare)).collect());
    driven
        .until("all are created", |d| {
            (1..=20).all(|n| d.state(n) == Some(ContainerState::Created))
        })
        .await;
    assert_eq!(driven.engine.count("create"), 20);
    let ack = |number| OutcomeAck {
        key: key(1),
        number,
    };
    driven.order((1..=20).map(|n| stop(n, 0)).collect());
    for n in 1..=20 {
        driven.closed(n).await;
    }
    let acked = Event::Heard(Heard::Acked(ack(OutcomeNumber::Closed)));
    driven.supervisor.take(acked).unwrap();
    assert_eq!(driven.state(1), None);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_failed_is_not_one_that_passed() {
    let (lines, _guard) = logged();
    let mut driven = Driven::new().await;
    driven.started([Err(refused("no"))]).await;
    driven.rest().await;
    assert_eq!(driven.state(1), Some(ContainerState::Starting));
    assert_eq!(driven.engine.count("verify"), 1, "not before the next tick");
    assert_eq!(lines.with("could not be checked"), 1);
    driven.tick().await;
    assert_eq!(driven.engine.count("verify"), 2);
    assert_eq!(driven.state(1), Some(ContainerState::Running));
    driven.tick().await;
    assert_eq!(driven.engine.count("verify"), 2, "it passed");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_cannot_be_checked_fails() {
    let mut driven = Driven::new().await;
    let tries = CHECK_TRIES as usize;
    driven
        .started((0..99).map(|_| Err(refused("no such file"))))
        .await;
    for n in 1..tries {
        assert_eq!(driven.outcome(1, OutcomeNumber::Ended), None, "after {n}");
        driven.tick().await;
    }
    let (cause, detail) = driven.start_failed();
    assert_eq!(cause, Cause::StartFailed);
    assert_eq!(
        detail,
        "what it got could not be checked, 5 times: no such file"
    );
    driven.tick().await;
    assert_eq!(driven.engine.count("verify"), tries);
    assert_eq!(driven.state(1), Some(ContainerState::Exited));
    assert!(!driven.engine.runs(&key(1).to_string()), "it was killed");
    driven.order(vec![stop(1, 0)]);
    driven.closed(1).await;
    assert!(lock(&driven.engine.containers).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_an_engine_that_is_away() {
    let (lines, _guard) = logged();
    let mut driven = Driven::new().await;
    let hung = || RuntimeError::Timeout {
        call: "inspect",
        seconds: 5,
    };
    driven
        .started((0..20).map(|n| Err(if n % 2 == 0 { away() } else { hung() })))
        .await;
    while driven.engine.count("verify") <= 20 {
        assert_eq!(driven.state(1), Some(ContainerState::Starting));
        assert_eq!(driven.outcome(1, OutcomeNumber::Ended), None);
        driven.tick().await;
    }
    assert_eq!(driven.state(1), Some(ContainerState::Running));
    assert_eq!(lines.with("could not be checked"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_breach_that_is_found_late_still_fails_the_start() {
    let mut driven = Driven::new().await;
    let breach = Breach::More("it has two".to_owned());
    driven.started([Err(refused("no")), Ok(Some(breach))]).await;
    driven.tick().await;
    assert_eq!(
        driven.start_failed(),
        (Cause::LocalPolicy, "it has two".to_owned())
    );
    assert!(!driven.engine.runs(&key(1).to_string()), "it was killed");
}

/// The driver takes its time after a restart: what is not known yet is no fact.
#[tokio::test(start_paused = true)]
async fn nothing_is_told_or_judged_before_the_gpus_were_looked_at() {
    let mut driven = Driven::new().await;
    let (gpus, _hand) = invent_gpus(&SimulatedConfig {
        count: 1,
        model: "A".to_owned(),
        memory_bytes: 1 << 30,
        seed: 1,
    });
    let seen = gpus.borrow().clone();
    let (sender, unseen) = watch::channel(Snapshot::default());
    driven.supervisor.gpus = unseen;
    driven.supervisor.shared.outbox().inventory = (0, None);
    driven.supervisor.refresh_inventory();
    assert_eq!(driven.supervisor.shared.outbox().inventory.1, None);
    let with_gpu = |want| {
        let mut entry = entry(1, want);
        let device = seen.devices[0].id.clone();
        entry.spec.slots = Slots::new().with(SlotName::cuda_device(), UNIT);
        entry.spec.devices = vec![longshore_common::session::DeviceGrant {
            device,
            slot: SlotName::cuda_device(),
            amount: UNIT,
        }];
        entry
    };
    driven.order(vec![with_gpu(Want::Prepare)]);
    driven.tick().await;
    assert_eq!(driven.outcome(1, OutcomeNumber::Ended), None, "not refused");
    assert_eq!(driven.engine.count("create"), 0);

    sender.send_replace(seen.clone());
    driven.supervisor.take(Event::Gpus).unwrap();
    driven
        .until("it is created", |d| {
            d.state(1) == Some(ContainerState::Created)
        })
        .await;
    let known = driven.supervisor.shared.outbox().inventory.1.clone();
    assert_eq!(known.unwrap().devices.len(), 1);

    sender.send_replace(Snapshot::default());
    driven.order(vec![with_gpu(Want::Run)]);
    driven.tick().await;
    assert_eq!(driven.engine.count("start"), 0);
    sender.send_replace(seen);
    driven.supervisor.take(Event::Gpus).unwrap();
    driven
        .until("it runs", |d| d.state(1) == Some(ContainerState::Running))
        .await;

    sender.send_replace(Snapshot::default());
    driven.rest().await;
    let checks = driven.engine.count("verify");
    driven.supervisor.note_checks();
    driven.tick().await;
    assert_eq!(driven.engine.count("verify"), checks);
}

#[tokio::test(start_paused = true)]
async fn output_that_broke_off_is_read_on_with_the_engines_next_answer() {
    let (lines, _guard) = logged();
    let mut driven = Driven::new().await;
    lock(&driven.engine.outputs).extend([Err(away()), Err(away())]);
    driven.running(1).await;
    let read = |d: &Driven| *d.supervisor.watching[&key(1)].output.borrow();
    driven.rest().await;
    assert_eq!(driven.engine.count("output"), 1, "not by itself");
    driven.pinged();
    driven.rest().await;
    assert_eq!(driven.engine.count("output"), 2);
    driven.pinged();
    driven.rest().await;
    assert_eq!(driven.engine.count("output"), 3);
    assert!(!read(&driven), "its process runs");
    driven
        .engine
        .change(&key(1).to_string(), exited(0))
        .unwrap();
    driven.rest().await;
    assert!(read(&driven));
    assert_eq!(lines.with("output broke off"), 1, "said once");
}

impl Driven {
    fn kept(&self) -> String {
        String::from_utf8(self.supervisor.logs.tail(key(1), 1000)).unwrap()
    }
}

/// As an engine does that restarts and leaves its containers running.
#[tokio::test(start_paused = true)]
async fn output_that_ends_while_its_process_runs_is_read_on() {
    let mut driven = Driven::new().await;
    driven.engine.write(5, "one");
    driven.engine.write(7, "two");
    lock(&driven.engine.outputs).extend([Ok(()), Ok(())]);
    driven.running(1).await;
    driven.rest().await;
    assert_eq!(driven.kept(), "one\ntwo\n");
    let read = |d: &Driven| *d.supervisor.watching[&key(1)].output.borrow();
    assert_eq!(
        driven.engine.count("output"),
        2,
        "the second brought nothing"
    );
    assert!(!read(&driven));

    // Two more with the time of the last that was taken, one later.
    for (at, line) in [(7, "three"), (7, "four"), (8, "five")] {
        driven.engine.write(at, line);
    }
    driven.pinged();
    driven.rest().await;
    assert_eq!(driven.kept(), "one\ntwo\nthree\nfour\nfive\n");
    assert!(!read(&driven));
    driven
        .engine
        .change(&key(1).to_string(), exited(0))
        .unwrap();
    driven.rest().await;
    assert!(read(&driven));
    assert_eq!(driven.engine.count("output"), 4, "the end once more");
}

/// As an engine does that ends a stream before it has written the last line.
#[tokio::test(start_paused = true)]
async fn what_the_engine_writes_last_is_read() {
    let mut driven = Driven::new().await;
    driven.engine.write(5, "one");
    driven.running(1).await;
    driven.rest().await;
    driven.engine.write(6, "last");
    driven
        .engine
        .change(&key(1).to_string(), exited(0))
        .unwrap();
    driven.rest().await;
    assert_eq!(driven.kept(), "one\nlast\n");
    assert_eq!(driven.engine.count("output"), 2);
}

/// What a process wrote while the engine was away is not lost with its end.
#[tokio::test(start_paused = true)]
async fn output_of_a_process_that_ended_meanwhile_is_read_to_its_end() {
    let mut driven = Driven::new().await;
    let long_ago = FoundStatus::Exited(Exit {
        code: 0,
        signal: None,
        oom: false,
        at: wall_clock().plus_ms(-60_000),
    });
    driven.engine.write(5, "one");
    lock(&driven.engine.outputs).extend([Err(away()), Ok(()), Ok(())]);
    driven.running(1).await;
    driven.rest().await;
    driven.engine.write(9, "last");
    driven.engine.change(&key(1).to_string(), long_ago).unwrap();
    driven.pinged();
    driven.rest().await;
    assert_eq!(driven.kept(), "one\nlast\n");
    assert_eq!(driven.engine.count("output"), 3, "once more, and no more");
}

#[tokio::test(start_paused = true)]
async fn output_that_is_refused_again_and_again_is_given_up() {
    let (lines, _guard) = logged();
    let mut driven = Driven::new().await;
    driven
        .engine
        .write(5, "what comes again and again is nothing new");
    lock(&driven.engine.outputs).extend((0..99).map(|_| Err(refused("a damaged file"))));
    driven.running(1).await;
    for _ in 0..10 {
        driven.pinged();
        driven.rest().await;
    }
    assert_eq!(driven.engine.count("output"), 3);
    assert!(*driven.supervisor.watching[&key(1)].output.borrow());
    assert_eq!(lines.with("output cannot be read"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_broke_off_is_resumed_with_a_list() {
    let (lines, _guard) = logged();
    let mut driven = Driven::new().await;
    driven.running(1).await;
    let lists = driven.engine.count("list");
    let supervisor = &driven.supervisor;
    tokio::spawn(forward_hints(
        Arc::clone(&driven.engine),
        supervisor.events.clone(),
        supervisor.pings.subscribe(),
    ));
    driven.rest().await;
    assert_eq!(driven.engine.count("watch"), 1);
    assert_eq!(driven.engine.count("list"), lists + 1);

    driven.engine.cut.send_replace(());
    driven.rest().await;
    assert_eq!(driven.engine.count("watch"), 1, "the engine is away");
    assert_eq!(lines.with("the engine's events broke off"), 1);
    // Nobody hears of this, and the next list by the clock is far away.
    let id = key(1).to_string();
    driven.engine.change(&id, exited(7)).unwrap();
    driven.supervisor.next_list_ms = i64::MAX;
    driven.pinged();
    driven
        .until("its end is known", |d| {
            d.outcome(1, OutcomeNumber::Ended).is_some()
        })
        .await;
    assert_eq!(driven.engine.count("watch"), 2);
    assert_eq!(driven.engine.count("list"), lists + 2);
}

#[tokio::test(start_paused = true)]
async fn a_list_from_before_the_watch_is_made_once_more() {
    let mut driven = Driven::new().await;
    driven.engine.lists.set(false);
    let lists = driven.engine.count("list");
    driven.list_again();
    driven
        .until("the list was made", |d| d.engine.count("list") > lists)
        .await;
    driven.supervisor.take(Event::Watching).unwrap();
    driven.engine.lists.set(true);
    driven.rest().await;
    assert_eq!(driven.engine.count("list"), lists + 2);
    assert!(!driven.supervisor.listing);
}

#[tokio::test(start_paused = true)]
async fn lifetimes_beyond_all_measure_end_nothing_but_the_session() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    for remaining_ms in [i64::MAX, i64::MIN, i64::MAX, 3_600_000, i64::MIN] {
        let mut entry = entry(1, Want::Run);
        entry.limits.lifetime = Some(Deadline {
            at: wall_clock(),
            remaining_ms,
        });
        driven.order(vec![entry]);
        driven.tick().await;
        assert_eq!(driven.stopped(), None, "nobody was warned for long enough");
    }
    let now = host::boot_clock_ms();
    for minutes in 0..=10 {
        driven.supervisor.enforce(now + minutes * 60_000, false);
    }
    assert_eq!(driven.stopped(), Some(Reason::LifetimeExceeded));
}

/// Interactive, and unused after a minute without anybody.
fn interactive() -> Entry {
    let mut entry = entry(1, Want::Run);
    entry.spec.kind = SessionType::Interactive;
    entry.limits.idle = Some(IdlePolicy {
        action: IdleAction::Stop,
        combine: Combine::All,
        initial_grace_s: 0,
        warn_s: vec![30],
        interaction_timeout_s: Some(60),
        utilization: None,
        timeout_s: 60,
        keep_max: 4,
    });
    entry
}

impl Driven {
    /// Judges at each second of a minute, so that a stop has its warning before it.
    async fn minute(&mut self, now_ms: &mut i64) {
        for _ in 0..60 {
            *now_ms += 1000;
            self.supervisor.enforce(*now_ms, false);
        }
        self.rest().await;
    }

    /// The minute in which a limit stops it, counted from 1.
    async fn minute_of_the_stop(&mut self, now_ms: &mut i64) -> Option<u32> {
        for minute in 1..=10 {
            self.minute(now_ms).await;
            if self.stopped().is_some() {
                return Some(minute);
            }
        }
        None
    }

    fn stopped(&self) -> Option<Reason> {
        let record = self.supervisor.journal.key(key(1));
        record.and_then(|r| r.local_stop)
    }
}

/// Used for long before the agent was replaced: what the next one does not know, it must not
/// take for never.
#[tokio::test(start_paused = true)]
async fn use_outlives_the_agent() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.order(vec![interactive()]);
    let now = host::boot_clock_ms();
    let noted = |d: &Driven| d.supervisor.journal.contents().seen[&key(1)].used_boot_ms;
    driven.supervisor.enforce(now, true);
    assert_eq!(noted(&driven), None, "nobody used it");
    let client = driven.opens(terminal(1, 5, false)).await.unwrap();
    driven.supervisor.enforce(now + 1000, true);
    assert_eq!(noted(&driven), Some(now + 1000));
    driven.supervisor.enforce(now + 60_000, true);
    assert_eq!(noted(&driven), Some(now + 1000), "not at each look");
    driven.supervisor.enforce(now + 61_000, true);
    assert_eq!(noted(&driven), Some(now + 61_000));
    drop(client);

    let driven = driven.again().await;
    let watching = &driven.supervisor.watching[&key(1)];
    let used = watching.activity_ms(now).unwrap();
    assert!(used >= now, "{used} {now}");
}

/// Of one that an agent of an earlier release started nothing is known.
#[tokio::test(start_paused = true)]
async fn a_container_of_which_nothing_was_noted_counts_as_used() {
    let mut driven = Driven::new().await;
    driven.order(vec![Entry {
        want: Want::Prepare,
        ..interactive()
    }]);
    driven
        .until("it is created", |d| {
            d.state(1) == Some(ContainerState::Created)
        })
        .await;
    driven.order(vec![interactive()]);
    driven
        .until("it runs", |d| {
            d.state(1) == Some(ContainerState::Running) && d.supervisor.busy.is_empty()
        })
        .await;
    let path = driven._dir.path().join("journal");
    std::fs::remove_file(path).unwrap();
    let checks = driven.engine.count("verify");
    let mut driven = driven.again().await;
    driven.order(vec![interactive()]);
    driven.tick().await;
    let used = driven.supervisor.watching[&key(1)].activity_ms(0);
    assert!(used.is_some());
    assert_eq!(driven.engine.count("verify"), checks + 1, "and is checked");
    assert_eq!(driven.state(1), Some(ContainerState::Running));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_started_and_not_checked_is_checked_by_the_next_agent() {
    let mut driven = Driven::new().await;
    driven.started((0..1).map(|_| Err(refused("no")))).await;
    assert_eq!(driven.state(1), Some(ContainerState::Starting));
    let breach = Breach::More("it has two".to_owned());
    lock(&driven.engine.checks).push_back(Ok(Some(breach)));
    let mut driven = driven.again().await;
    assert_eq!(driven.state(1), Some(ContainerState::Starting));
    driven.tick().await;
    assert_eq!(driven.start_failed().0, Cause::LocalPolicy);

    let mut driven = Driven::new().await;
    driven.running(1).await;
    let checks = driven.engine.count("verify");
    let mut driven = driven.again().await;
    driven.tick().await;
    assert_eq!(driven.state(1), Some(ContainerState::Running));
    assert_eq!(driven.engine.count("verify"), checks, "it passed");
}

/// The wall clock was set two hours forward since it started.
#[tokio::test(start_paused = true)]
async fn the_kernel_says_when_a_process_started() {
    let mut driven = Driven::new().await;
    driven.order(vec![entry(1, Want::Prepare)]);
    driven
        .until("it is created", |d| {
            d.state(1) == Some(ContainerState::Created)
        })
        .await;
    if let Some(found) = lock(&driven.engine.containers).get_mut(&key(1)) {
        found.started_at = Some(wall_clock().plus_s(-7200));
        found.pid = Some(std::process::id());
    }
    let mut order = entry(1, Want::Run);
    order.limits.from_start_s = Some(150);
    driven.order(vec![order]);
    driven
        .until("it runs", |d| d.state(1) == Some(ContainerState::Running))
        .await;
    let mut now = host::boot_clock_ms();
    let minute = driven.minute_of_the_stop(&mut now).await;
    assert!(minute > Some(1), "{minute:?}");
}

/// Ten GPUs with seven instances each.
#[tokio::test]
async fn no_heartbeat_carries_more_figures_than_may_be() {
    let mut driven = Driven::new().await;
    let (gpus, _hand) = invent_gpus(&SimulatedConfig {
        count: 70,
        model: "A".to_owned(),
        memory_bytes: 1 << 30,
        seed: 1,
    });
    driven.supervisor.gpus = gpus;
    driven.supervisor.sample_node();
    let load = driven.supervisor.shared.outbox().load.clone().unwrap();
    assert_eq!(load.devices.len(), MAX_SAMPLES);
}

/// Whoever only looks on does not use it: else a forgotten `logs -f` would keep a GPU.
#[tokio::test(start_paused = true)]
async fn following_the_output_is_no_use() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.order(vec![interactive()]);
    let mut now = host::boot_clock_ms();
    let logs = Arc::clone(&driven.supervisor.logs);
    let _follower = logs.read(key(1), 0, None).unwrap().unwrap();
    driven.minute(&mut now).await;
    driven.minute(&mut now).await;
    assert_eq!(driven.stopped(), Some(Reason::IdleTimeout));
}

fn until(s: i64) -> Option<Deadline> {
    Some(Deadline {
        at: wall_clock().plus_s(s),
        remaining_ms: s * 1000,
    })
}

/// No link is needed once the order is there: the agent moves its own deadline.
#[tokio::test(start_paused = true)]
async fn an_extension_moves_the_end_of_a_life() {
    for (more, minute) in [(None, 3), (Some(299), 5)] {
        let mut driven = Driven::new().await;
        driven.running(1).await;
        let mut order = entry(1, Want::Run);
        order.limits.lifetime = until(180);
        driven.order(vec![order.clone()]);
        let mut now = host::boot_clock_ms();
        if let Some(s) = more {
            order.limits.lifetime = until(s);
            driven.order(vec![order]);
        }
        driven.supervisor.link_up = false;
        assert_eq!(driven.minute_of_the_stop(&mut now).await, Some(minute));
        assert_eq!(driven.stopped(), Some(Reason::LifetimeExceeded));
    }
}

/// As long as the coordinator has not heard of the start, the agent counts by itself.
#[tokio::test(start_paused = true)]
async fn a_life_that_counts_from_the_start_is_counted_here() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    let mut order = entry(1, Want::Run);
    order.limits.from_start_s = Some(120);
    driven.order(vec![order]);
    let mut now = host::boot_clock_ms();
    assert_eq!(driven.minute_of_the_stop(&mut now).await, Some(2));
    assert_eq!(driven.stopped(), Some(Reason::LifetimeExceeded));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_not_stopped_before_its_time() {
    for (kept, minute) in [(false, 1), (true, 3)] {
        let mut driven = Driven::new().await;
        driven.running(1).await;
        let mut order = interactive();
        order.limits.kept = kept.then(|| Kept {
            at: wall_clock(),
            ago_ms: 0,
            hold_s: 180,
        });
        driven.order(vec![order]);
        let mut now = host::boot_clock_ms();
        assert_eq!(driven.minute_of_the_stop(&mut now).await, Some(minute));
        assert_eq!(driven.stopped(), Some(Reason::IdleTimeout));
    }
}

fn terminal(session: u64, exec: u128, resume: bool) -> ExecRequest {
    ExecRequest {
        key: key(session),
        exec: ExecId::new(exec),
        kind: ExecKind::Terminal,
        command: Vec::new(),
        environment: BTreeMap::new(),
        workdir: None,
        tty: true,
        size: TerminalSize::default(),
        resume,
    }
}

impl Driven {
    /// Opens one, and hands on what comes until that was answered.
    async fn opens(&mut self, request: ExecRequest) -> Result<ClientEnds, String> {
        let (reply, answer) = oneshot::channel();
        let heard = Heard::Exec(Box::new(request), reply);
        self.supervisor.take(Event::Heard(heard)).unwrap();
        self.rest().await;
        answer.await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_terminal_is_use_for_as_long_as_somebody_is_connected() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.order(vec![interactive()]);
    let client = driven.opens(terminal(1, 5, false)).await.unwrap();
    let mut now = host::boot_clock_ms();
    for _ in 0..3 {
        driven.minute(&mut now).await;
    }
    assert_eq!(driven.stopped(), None);
    drop(client);
    driven.rest().await;
    for _ in 0..3 {
        driven.minute(&mut now).await;
    }
    assert_eq!(driven.stopped(), Some(Reason::IdleTimeout));
}

#[tokio::test(start_paused = true)]
async fn commands_open_where_a_container_runs_and_so_many_at_once() {
    let mut driven = Driven::new().await;
    let refused = driven.opens(terminal(1, 1, false)).await.unwrap_err();
    assert!(refused.contains("does not run"), "{refused}");
    driven.running(1).await;
    let mut clients = Vec::new();
    for exec in 0..32 {
        clients.push(driven.opens(terminal(1, exec, false)).await.unwrap());
    }
    let refused = driven.opens(terminal(1, 99, false)).await.unwrap_err();
    assert!(refused.contains("32"), "{refused}");
    assert!(
        driven.opens(terminal(1, 7, true)).await.is_ok(),
        "it is there"
    );
    assert!(driven.opens(terminal(1, 99, true)).await.is_err());
    assert!(driven.opens(terminal(2, 7, true)).await.is_err());
    // One that is over makes room.
    clients[3].to.try_send(ToExec::Leave).unwrap();
    driven.rest().await;
    assert!(driven.opens(terminal(1, 99, false)).await.is_ok());
}

#[tokio::test]
async fn it_ends_with_the_link_and_leaves_no_task_behind() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::new();
    let engine = Arc::new(Scripted::new());
    let parts = parts(dir.path(), &coordinator);
    let mut handles = start(
        parts.config,
        Arc::clone(&engine),
        parts.journal,
        Arc::new(Shared::new()),
        parts.logs,
        parts.gpus,
    );
    let listed = handles.listed.wait_for(|listed| *listed);
    let _ = tokio::time::timeout(LIMIT, listed).await.unwrap().unwrap();
    drop(handles);
    tokio::time::timeout(LIMIT, async {
        while Arc::strong_count(&engine) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("somebody still holds the engine");
}

/// A spec that knows the GPUs by their numbers only would make every start fail.
#[tokio::test]
async fn a_way_that_does_not_know_every_gpu_is_passed_over() {
    let mut driven = Driven::new().await;
    let (gpus, _hand) = invent_gpus(&SimulatedConfig {
        count: 2,
        model: "A".to_owned(),
        memory_bytes: 1 << 30,
        seed: 1,
    });
    let devices = gpus.borrow().devices.clone();
    let supervisor = &mut driven.supervisor;
    supervisor.engine.gpu_ways = vec![(GpuWay::Cdi, Ok(())), (GpuWay::Nodes, Ok(()))];
    let first = devices[0].id.to_string();
    supervisor.engine.cdi_names = BTreeSet::from([first]);
    assert_eq!(supervisor.gpu_way(&devices), Some(GpuWay::Nodes));
    let said = supervisor.gpu_ways(&devices).remove(0).1.unwrap_err();
    assert_eq!(said, format!("no CDI spec names {}", devices[1].id));
    supervisor
        .engine
        .cdi_names
        .insert(devices[1].id.to_string());
    assert_eq!(supervisor.gpu_way(&devices), Some(GpuWay::Cdi));
}

#[tokio::test]
async fn a_signal_before_the_end_comes_once_whatever_becomes_of_agent_and_engine() {
    let mut driven = Driven::new().await;
    driven.coordinator.wishes = vec![SignalBefore {
        key: key(1),
        signal: "USR1".to_owned(),
        lead_s: 300,
    }];
    driven.running(1).await;
    let end = |driven: &mut Driven| {
        let at = host::boot_clock_ms() + 100_000;
        let watching = driven.supervisor.watching.get_mut(&key(1)).unwrap();
        watching.set_lifetime(Some(at));
    };
    end(&mut driven);
    lock(&driven.engine.signals).push_back(Err(away()));
    let now = host::boot_clock_ms();
    driven.supervisor.send_signals(now);
    driven.supervisor.send_signals(now);
    driven
        .until("it failed", |d| {
            d.supervisor.shared.outbox().runtime == RuntimeState::Down
        })
        .await;
    assert_eq!(driven.engine.count("signal USR1"), 1, "one at a time");
    driven.supervisor.send_signals(now);
    driven
        .until("it is noted", |d| {
            !d.supervisor.journal.contents().signalled.is_empty()
        })
        .await;
    assert_eq!(driven.engine.count("signal USR1"), 2);
    let mut next = driven.again().await;
    next.until("it is followed", |d| {
        d.supervisor.watching.contains_key(&key(1))
    })
    .await;
    end(&mut next);
    next.supervisor.send_signals(host::boot_clock_ms());
    tokio::task::yield_now().await;
    assert_eq!(next.engine.count("signal USR1"), 2, "it had it");
}

#[tokio::test]
async fn a_set_out_of_the_journal_is_as_old_as_this_machines_clock_says() {
    let mut driven = Driven::new().await;
    driven.order(vec![entry(1, Want::Prepare)]);
    let signed = driven.supervisor.journal.contents().set.clone().unwrap();
    let came = host::boot_clock_ms() - 50_000;
    let boot_id = driven.supervisor.boot_id.clone();
    let records = vec![Record::Arrived(boot_id, came)];
    driven.supervisor.journal.write(records).unwrap();
    let mut next = driven.again().await;
    let now = host::boot_clock_ms();
    let age = now - next.supervisor.set_boot_ms;
    assert!((50_000..60_000).contains(&age), "{age}");
    // The same again is newer than what the journal says of it; once.
    next.take(Event::Heard(Heard::Set(signed.clone())));
    let taken = next.supervisor.set_boot_ms;
    assert!(taken >= now);
    next.supervisor.set_boot_ms = 0;
    next.take(Event::Heard(Heard::Set(signed)));
    assert_eq!(next.supervisor.set_boot_ms, 0);
}
