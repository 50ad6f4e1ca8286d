//! The supervisor against an engine that does what a test tells it, event by event.

mod gpus;
mod lives;
mod output;
mod panics;
mod recalled;
mod starts;
mod strangers;
mod terminals;

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
    Claim, ExecKind, ExecRequest, Features, OutcomeAck, OutcomeNumber, OutputKind, SignalBefore,
    SignedSet, SigningInput, TerminalSize, ToExec, Welcome,
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
    pub(super) stops: Gate,
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
            record: request.delivered.record.as_str().into(),
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
        features: Features::OURS,
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

pub(crate) fn entry(session: u64, want: Want) -> Entry {
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
            capabilities: dir.to_owned(),
            reserved_cpu: 0,
            reserved_mem: 0,
            offered_cpu: 4,
            offered_mem: 1 << 30,
            max_containers: 0,
            local_cordon: false,
            gpu_way: None,
            lease_file: None,
            policy: LocalPolicy {
                min_free_disk: 0,
                ..LocalPolicy::default()
            },
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
    pub(super) async fn again(self) -> Self {
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

    pub(super) async fn running(&mut self, session: u64) {
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
