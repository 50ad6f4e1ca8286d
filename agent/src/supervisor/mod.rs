//! The one task that owns what this machine knows and does.
//!
//! | input | becomes |
//! |---|---|
//! | orders, acknowledgements, link up and down | [`Heard`] |
//! | results of steps | [`Done`] |
//! | hints and lists of the engine | [`Event::Hint`], [`Event::Listed`] |
//! | GPUs changed; a second passed | [`Event::Gpus`], the tick |
//!
//! After each event the keys it touched are asked for their next step
//! (`reconcile::next_step`); steps run as tasks of their own. What the coordinator should
//! know is put into the outbox at once.

mod accept;
mod checking;
mod detached;
mod engine;
mod exec;
mod gpus;
mod leased;
mod orders;
mod performing;
mod reports;
mod results;
mod steps;
mod strangers;
mod sweeps;
mod told;
mod tunnel;
mod watching;

use crate::delivery::FileNote;
use crate::devices::foreign::{Foreign, Process};
use crate::devices::stuck::Stuck;
use crate::devices::{Mask, Snapshot, Snapshots};
use crate::host::freezer::Freezer;
use crate::host::wall_clock;
use crate::host::{self, Facts, Host};
use crate::journal::{Journal, JournalError, Record};
use crate::lease::Lease;
use crate::link::{Heard, Shared};
use crate::logs::LogStore;
use crate::policy::LocalPolicy;
use crate::runtime::{Breach, Containers, EngineInfo, Found, Hint, RuntimeError};
pub use exec::{ClientEnds, News};
pub use gpus::ForeignRules;
use longshore_common::agent::{Allocation, GpuWay, NodeLoad};
use longshore_common::ids::{AgentId, ClusterId, ContainerKey, DeviceId, ExecId};
use longshore_common::session::{Entry, Want};
use longshore_common::wire::{DesiredSet, MAX_SAMPLES, NoticeKind, Outcome};
use reports::{is_frozen, outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
pub use steps::Everything;
use sweeps::Sweeps;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tracing::{error, info, warn};
pub use tunnel::{TunnelEnds, Use};
use watching::Watching;

/// Events that wait.
const EVENTS: usize = 1024;
/// Deadlines are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// The engine's list is compared in full this often.
const RELIST_MS: i64 = 30_000;
/// The engine is asked whether it is there this often; three times in vain, at three
/// seconds each, still is within the fifteen in which a hanging engine has to be seen.
const PING_MS: i64 = 4_000;
/// With an engine in trouble it is asked this often.
const RELIST_TROUBLE_MS: i64 = 2_000;
/// Figures of containers and node are taken this often.
const SAMPLE_MS: i64 = 5_000;
/// Devices of running containers are checked this often.
const VERIFY_MS: i64 = 60_000;
/// Use is written down when it is so much later than what stands there.
const NOTE_USE_MS: i64 = 60_000;
/// A step that failed for the engine's sake is tried again after this long.
const RETRY_MS: i64 = 1_000;
/// So often a look at what a container got may fail. Tried each second, and no call takes
/// longer than five: a start that cannot be checked ends within half a minute.
const CHECK_TRIES: u32 = 5;
/// After so many calls without an answer the engine counts as hung.
const HUNG_AFTER: u32 = 3;

/// What can happen to the supervisor.
#[derive(Debug)]
pub enum Event {
    /// From the coordinator.
    Heard(Heard),
    /// A step reports.
    Step(ContainerKey, Done),
    /// The engine says that something about a container changed.
    Hint(ContainerKey),
    /// From now on the engine says what changes.
    Watching,
    /// The engine was asked for everything.
    Listed(Box<Everything>),
    /// The engine was asked whether it is there.
    Pinged(Result<(), RuntimeError>),
    /// The GPUs changed.
    Gpus,
    /// Programs on each GPU that none of our containers runs.
    Strangers(BTreeMap<DeviceId, Vec<Process>>),
    /// The configuration was read again.
    Reloaded(Box<SupervisorConfig>),
    /// A running container was compared with its grant.
    Verified(ContainerKey, Checked),
    /// A command or terminal that somebody opened says how it stands.
    Exec(ExecId, News),
    /// A connection to a port inside says how it stands.
    Tunnel(ContainerKey, Use),
    /// Something that whoever looks after this node should hear of.
    Said(String),
    /// A program was sent the signal it wants before an end.
    Signalled(ContainerKey, i64, Result<(), RuntimeError>),
    /// Somebody wants to know whether it answers.
    Alive(oneshot::Sender<()>),
    /// A test wants it to panic.
    #[cfg(test)]
    Panic,
}

/// What a comparison with the grant came to: a breach, or none. A failed one says nothing.
pub type Checked = Result<Option<Breach>, RuntimeError>;

/// What a step did.
#[derive(Debug)]
pub enum Done {
    /// The image is there, the container is being created.
    Creating,
    /// What its people should hear of its files.
    Notes(Vec<FileNote>),
    /// It exists.
    Prepared(Result<String, RuntimeError>),
    /// It was started, and compared with its grant.
    Started(Result<(Box<Found>, Checked), RuntimeError>),
    /// It was looked at.
    Found(Result<Box<Option<Found>>, RuntimeError>),
    /// The engine did not freeze it; why.
    NotFrozen(String),
    /// It is gone.
    Removed(Result<(), RuntimeError>),
    /// Its output is read; this is its end.
    Ended(Box<Outcome>),
}

/// What the supervisor goes by. Who it is and where things lie does not change while it runs; what
/// is offered and taken may, when the configuration is read again.
#[derive(Debug, Clone)]
pub struct SupervisorConfig {
    /// Whose containers.
    pub cluster: ClusterId,
    /// Whose containers.
    pub agent: AgentId,
    /// Public key of the signatures on sets.
    pub work_key: Vec<u8>,
    /// Where device nodes are.
    pub device_dir: PathBuf,
    /// Where the driver tells of the capabilities of MIG instances.
    pub capabilities: PathBuf,
    /// Cores kept.
    pub reserved_cpu: u32,
    /// Bytes of memory kept.
    pub reserved_mem: i64,
    /// Cores offered instead of what was found; 0 = found.
    pub offered_cpu: u32,
    /// Bytes of memory offered instead; 0 = found.
    pub offered_mem: i64,
    /// Most containers; 0 = no limit.
    pub max_containers: u32,
    /// How devices are given out.
    pub allocation: Allocation,
    /// Takes nothing new.
    pub local_cordon: bool,
    /// What containers may be here.
    pub policy: LocalPolicy,
    /// Only this way for GPUs.
    pub gpu_way: Option<GpuWay>,
    /// Where the lease is kept; none = nowhere.
    pub lease_file: Option<PathBuf>,
    /// What is made of programs on GPUs that no session started.
    pub foreign: ForeignRules,
    /// Devices that the configuration keeps back, as those who look at the GPUs know them.
    pub mask: Mask,
    /// Takes devices that a person vouches for; none = the GPUs keep nothing back.
    pub released: Option<std::sync::mpsc::Sender<DeviceId>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Pulling,
    Creating,
    Starting,
    Freezing,
    Stopping,
    Removing,
    Ending,
    Looking,
}

#[derive(Debug)]
struct Busy {
    doing: Doing,
    task: AbortHandle,
    /// Look once more when this is done.
    again: bool,
    /// While stopping: the grace that was given.
    grace_s: u32,
    /// While pulling: dropped to say that nobody waits for the image any more.
    cancel: Option<oneshot::Sender<()>>,
}

/// A container that is to be compared with its grant, until that succeeded.
#[derive(Debug)]
struct Check {
    /// It was only just started: it does not count as running before.
    starting: bool,
    /// A comparison is under way.
    asking: bool,
    /// Comparisons that failed in a row, without those that failed for the engine's sake.
    failures: u32,
    /// Somebody was told that one failed.
    told: bool,
}

impl Check {
    const fn new(starting: bool) -> Self {
        Self {
            starting,
            asking: false,
            failures: 0,
            told: false,
        }
    }
}

/// See the module.
pub struct Supervisor<C> {
    config: SupervisorConfig,
    runtime: Arc<C>,
    journal: Journal,
    shared: Arc<Shared>,
    logs: Arc<LogStore>,
    gpus: Snapshots,
    host: Host,
    facts: Facts,
    boot_id: String,
    events: mpsc::Sender<Event>,
    set: Option<DesiredSet>,
    /// When the set was made, on the boot clock: what it counts in milliseconds counts from then.
    set_boot_ms: i64,
    /// It came to this process, over the newest link that stood and with no end of the lease since.
    set_is_fresh: bool,
    desired: BTreeMap<ContainerKey, Entry>,
    found: BTreeMap<ContainerKey, Found>,
    listed: bool,
    busy: BTreeMap<ContainerKey, Busy>,
    /// Steps that begin once the journal has settled.
    held: Vec<oneshot::Sender<()>>,
    retry_at: BTreeMap<ContainerKey, i64>,
    watching: BTreeMap<ContainerKey, Watching>,
    checks: BTreeMap<ContainerKey, Check>,
    execs: BTreeMap<ExecId, exec::Running>,
    tunnels: tunnel::Tunnels,
    engine: EngineInfo,
    trouble: u32,
    /// And what comes over it counts.
    link_up: bool,
    synced: bool,
    /// When the hello of the present connection was sent, on the boot clock.
    hello_ms: i64,
    listing: bool,
    /// List once more when the list under way is there: it may be too old.
    list_again: bool,
    /// Keys of which something newer is known than the list under way.
    newer_than_list: BTreeSet<ContainerKey>,
    next_list_ms: i64,
    pinging: bool,
    /// How often the engine answered: what broke off with it waits for the next time.
    pings: watch::Sender<u64>,
    next_ping_ms: i64,
    next_sample_ms: i64,
    next_figures_ms: i64,
    next_verify_ms: i64,
    sweeps: Sweeps,
    notices: u64,
    lease: Lease,
    /// The lease could not be kept: said once.
    lease_unkept: bool,
    freezer: Freezer,
    foreign: Foreign,
    stuck: Stuck,
    /// Of each device: the number of its newest sign that was told.
    signs_told: BTreeMap<DeviceId, u64>,
    /// Looks at the GPUs that were taken up.
    looks: u32,
    /// Ids of containers that this process froze past the engine, which shows them as running.
    past_engine: BTreeSet<String>,
    /// When this process began, on the boot clock.
    began_ms: i64,
    /// What stands inside each container of what will stop it.
    inside: BTreeMap<ContainerKey, serde_json::Value>,
    /// Since when this node has to be empty at an instant, on the boot clock.
    drain_since_ms: Option<i64>,
}

impl<C> std::fmt::Debug for Supervisor<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor")
            .field("keys", &self.desired.len())
            .finish_non_exhaustive()
    }
}

/// The ends of a supervisor that others hold.
#[derive(Debug)]
pub struct Handles {
    /// For what the link hears.
    pub heard: mpsc::Sender<Heard>,
    /// For a configuration that was read again.
    pub events: mpsc::Sender<Event>,
    /// True once the engine's containers were listed for the first time.
    pub listed: watch::Receiver<bool>,
}

/// Starts the supervisor. It ends the process when its journal fails: nothing may be done
/// that is not written down.
pub fn start<C: Containers>(
    config: SupervisorConfig,
    runtime: Arc<C>,
    journal: Journal,
    shared: Arc<Shared>,
    logs: Arc<LogStore>,
    gpus: Snapshots,
) -> Handles {
    let (events, inbox) = mpsc::channel(EVENTS);
    let (heard, mut from_link) = mpsc::channel(64);
    let (listed, listed_seen) = watch::channel(false);
    let mut supervisor = Supervisor::new(
        config,
        Arc::clone(&runtime),
        journal,
        shared,
        logs,
        gpus.clone(),
        events.clone(),
    );
    supervisor.recall();
    supervisor.config.mask.hold(supervisor.held_devices());
    let pings = supervisor.pings.subscribe();
    tokio::spawn(forward_hints(runtime, events.clone(), pings));
    tokio::spawn(forward_gpus(gpus, events.clone()));
    tokio::spawn(async move { supervisor.run(inbox, &mut from_link, listed).await });
    Handles {
        heard,
        events,
        listed: listed_seen,
    }
}

/// Keeps a watch on the engine. One that ended, by itself or with the engine, is begun
/// anew with the engine's next answer.
async fn forward_hints<C: Containers>(
    runtime: Arc<C>,
    events: mpsc::Sender<Event>,
    mut pings: watch::Receiver<u64>,
) {
    // Why the last watch ended without having told anything: said once.
    let mut silent: Option<Result<(), RuntimeError>> = None;
    loop {
        let (sink, mut hints) = mpsc::channel::<Hint>(256);
        let mut told = false;
        let forward = async {
            while let Some(hint) = hints.recv().await {
                let event = match hint {
                    Hint::Open => Event::Watching,
                    Hint::Changed(key) => {
                        told = true;
                        Event::Hint(key)
                    }
                };
                if events.send(event).await.is_err() {
                    return;
                }
            }
        };
        let ended = tokio::select! {
            (ended, ()) = async { tokio::join!(runtime.watch(sink), forward) } => ended,
            () = events.closed() => return,
        };
        if told || silent.as_ref() != Some(&ended) {
            match &ended {
                Ok(()) => info!("the engine ended its events"),
                Err(error) => warn!(%error, "the engine's events broke off"),
            }
        }
        silent = (!told).then_some(ended);
        pings.mark_unchanged(); // an answer from before says nothing about this
        tokio::select! {
            changed = pings.changed() => if changed.is_err() { return },
            () = events.closed() => return,
        }
    }
}

async fn forward_gpus(mut gpus: Snapshots, events: mpsc::Sender<Event>) {
    loop {
        tokio::select! {
            changed = gpus.changed() => if changed.is_err() { return },
            () = events.closed() => return,
        }
        if events.send(Event::Gpus).await.is_err() {
            return;
        }
    }
}

impl<C: Containers> Supervisor<C> {
    fn new(
        config: SupervisorConfig,
        runtime: Arc<C>,
        journal: Journal,
        shared: Arc<Shared>,
        logs: Arc<LogStore>,
        gpus: Snapshots,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let host = Host::default();
        let facts = host.facts();
        let boot_id = facts.boot_id.clone().unwrap_or_default();
        let now = host::boot_clock_ms();
        let stuck = Stuck::restored(&journal.contents().stuck);
        Self {
            config,
            runtime,
            journal,
            shared,
            logs,
            gpus,
            host,
            facts,
            boot_id,
            events,
            set: None,
            set_boot_ms: 0,
            set_is_fresh: false,
            desired: BTreeMap::new(),
            found: BTreeMap::new(),
            listed: false,
            busy: BTreeMap::new(),
            held: Vec::new(),
            retry_at: BTreeMap::new(),
            watching: BTreeMap::new(),
            checks: BTreeMap::new(),
            execs: BTreeMap::new(),
            tunnels: tunnel::Tunnels::default(),
            engine: EngineInfo::default(),
            trouble: 0,
            link_up: false,
            synced: false,
            hello_ms: 0,
            listing: false,
            list_again: false,
            newer_than_list: BTreeSet::new(),
            next_list_ms: 0,
            pinging: false,
            pings: watch::channel(0).0,
            next_ping_ms: now + PING_MS,
            next_sample_ms: 0,
            next_figures_ms: now + told::FIGURES_MS,
            next_verify_ms: now + VERIFY_MS,
            sweeps: Sweeps::new(now),
            notices: 0,
            lease: Lease::default(),
            lease_unkept: false,
            freezer: Freezer::default(),
            foreign: Foreign::default(),
            stuck,
            signs_told: BTreeMap::new(),
            looks: 0,
            past_engine: BTreeSet::new(),
            began_ms: now,
            inside: BTreeMap::new(),
            drain_since_ms: None,
        }
    }

    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Event>,
        from_link: &mut mpsc::Receiver<Heard>,
        listed: watch::Sender<bool>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                event = inbox.recv() => event,
                // Nobody is left who could hear of anything: the agent stops.
                heard = from_link.recv() => heard.map(Event::Heard),
                _ = tick.tick() => {
                    self.tick();
                    continue;
                }
            };
            let Some(event) = event else {
                info!("the supervisor ends, containers run on");
                let now = host::boot_clock_ms();
                let noted = self.note_sums(now, true);
                if let Err(failed) = noted.and_then(|()| self.note_idle(now, true)) {
                    error!(error = %failed, "what containers used of late is not counted");
                }
                return;
            };
            if let Err(failed) = self.take(event) {
                error!(error = %failed, "the journal failed; the agent ends, containers run on");
                std::process::exit(1);
            }
            if self.listed && !*listed.borrow() {
                listed.send_replace(true);
            }
        }
    }

    /// What the journal says, before anybody is asked.
    fn recall(&mut self) {
        let kept = self.config.lease_file.as_deref().and_then(Lease::load);
        // A lease of another boot is over with everything that ran under it.
        let mine =
            |kept: &Lease| kept.boot_id == self.boot_id && kept.agent == Some(self.config.agent);
        if let Some(kept) = kept.filter(mine) {
            let acked = &self.shared.acked_sent_ms;
            acked.store(kept.acked_ms, Ordering::Relaxed);
            self.lease = kept;
        }
        let contents = self.journal.contents().clone();
        if let Some(signed) = &contents.set
            && let Ok(set) = self.open(signed)
        {
            let arrived = contents.arrived.as_ref();
            let arrived = arrived.filter(|(boot_id, _)| *boot_id == self.boot_id);
            let age = match arrived {
                Some((_, at_ms)) => host::boot_clock_ms().saturating_sub(*at_ms),
                // It came before the machine was started: how old it is only the wall clocks
                // say, this one and the coordinator's.
                None => wall_clock().since(set.now),
            };
            self.adopt_set(set, age.max(0));
        }
        {
            let mut outbox = self.shared.outbox();
            outbox.coordinator = contents.coordinator;
            outbox.fence = contents.fence;
            outbox.applied = self.set.as_ref().map(|s| s.generation).unwrap_or_default();
            for record in contents.keys.values() {
                for outcome in record
                    .ended
                    .iter()
                    .filter(|_| !record.ended_acked)
                    .chain(&record.closed)
                {
                    outbox
                        .outcomes
                        .insert((outcome.key, outcome.number), outcome.clone());
                }
            }
        }
        for key in contents.keys.keys() {
            self.report(*key);
        }
        self.refresh_inventory();
    }

    fn take(&mut self, event: Event) -> Result<(), JournalError> {
        match event {
            Event::Heard(Heard::Up(welcome, hello_ms)) => {
                self.link_up = true;
                self.hello_ms = hello_ms;
                self.synced = false;
                // What was given up meanwhile the next set says; acknowledgements come before it.
                self.set_is_fresh = false;
                if self.set.is_none() {
                    // A set says it anew, and this one may be older than the set.
                    self.lease.lease_ms = i64::try_from(welcome.lease_ms).unwrap_or(i64::MAX);
                }
                self.journal_coordinator(&welcome)?;
            }
            Event::Heard(Heard::Down) => {
                self.link_up = false;
                self.synced = false;
            }
            Event::Heard(Heard::Set(signed)) => self.take_set(signed)?,
            Event::Heard(Heard::Acked(ack)) => self.take_ack(ack.key, ack.number)?,
            Event::Heard(Heard::Signal(request, reply)) => self.signal(&request, reply),
            Event::Heard(Heard::Release(device, reply)) => {
                let _ = reply.send(self.release_device(device)); // the asker may have gone
            }
            Event::Heard(Heard::Exec(request, reply)) => self.exec(*request, reply),
            Event::Exec(exec, news) => self.take_exec(exec, news),
            Event::Heard(Heard::Tunnel(request, reply)) => self.tunnel(request, reply),
            Event::Tunnel(key, news) => self.take_tunnel(key, news),
            Event::Signalled(key, end_ms, sent) => self.take_signalled(key, end_ms, sent)?,
            Event::Step(key, done) => {
                self.take_done(key, done)?;
                self.reconcile(key)?;
            }
            Event::Hint(key) => self.look(key),
            // What changed while nobody watched is asked for at once.
            Event::Watching => self.list_now(),
            Event::Listed(result) => self.take_list(*result)?,
            Event::Pinged(result) => self.take_ping(result),
            Event::Gpus => {
                self.take_gpus();
                self.refresh_inventory();
                self.reconcile_all()?;
            }
            Event::Reloaded(config) => {
                self.config = *config;
                self.refresh_inventory();
                self.reconcile_all()?;
            }
            Event::Verified(key, result) => self.take_check(key, result)?,
            Event::Said(text) => self.notice(NoticeKind::Runtime, None, None, text),
            Event::Alive(reply) => {
                let _ = reply.send(()); // the asker may have gone
            }
            #[cfg(test)]
            Event::Panic => panic!("a test wants it"),
            Event::Strangers(seen) => {
                let used = seen.iter().map(|(id, all)| (id.clone(), !all.is_empty()));
                let freed = self.stuck.probed(&used.collect());
                self.note_stuck()?;
                let changed = self.foreign.look(seen, host::boot_clock_ms());
                if freed || changed {
                    self.tell_foreign();
                    self.refresh_inventory();
                }
            }
        }
        Ok(())
    }

    fn tick(&mut self) {
        let now = host::boot_clock_ms();
        self.keep_lease(); // before anything else: the machine may have been paused from outside
        if now >= self.next_list_ms && !self.listing {
            self.list_now();
        }
        if now >= self.next_ping_ms && !self.pinging {
            self.pinging = true;
            let (runtime, events) = (Arc::clone(&self.runtime), self.events.clone());
            tokio::spawn(async move {
                let result = runtime.ping().await;
                let _ = events.send(Event::Pinged(result)).await; // see spawn
            });
        }
        let sample = now >= self.next_sample_ms;
        if sample {
            self.next_sample_ms = now + SAMPLE_MS;
            self.sample_node();
        }
        self.enforce(now, sample);
        if now >= self.next_verify_ms {
            self.next_verify_ms = now + VERIFY_MS;
            self.note_checks();
        }
        self.make_checks();
        if let Err(failed) = self.look_for_stuck(now) {
            error!(error = %failed, "the journal failed; the agent ends, containers run on");
            std::process::exit(1);
        }
        self.sweep(now);
        self.tell_strangers();
        let due: Vec<ContainerKey> = self
            .retry_at
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            self.retry_at.remove(&key);
            self.look(key);
        }
        let waiting: Vec<ContainerKey> = self
            .desired
            .keys()
            .filter(|k| self.journal.key(**k).is_none())
            .copied()
            .collect();
        for key in waiting {
            if let Err(failed) = self.reconcile(key) {
                error!(error = %failed, "the journal failed; the agent ends, containers run on");
                std::process::exit(1);
            }
        }
    }

    fn sample_node(&mut self) {
        let disk = host::disk(if self.engine.root.as_os_str().is_empty() {
            std::path::Path::new("/")
        } else {
            &self.engine.root
        });
        let (disk_free, disk_total) = disk.map_or((0, 0), |d| (d.free, d.total));
        let snapshot: Snapshot = self.gpus.borrow().clone();
        let load = NodeLoad {
            load_milli: self.host.load_milli().unwrap_or(0),
            mem_free: self.host.mem_available().unwrap_or(0),
            disk_free,
            disk_total,
            agent_rss: self.host.own_rss().unwrap_or(0),
            // More than that a coordinator takes for an attack. Whole GPUs come first by their ids.
            devices: snapshot.samples.into_iter().take(MAX_SAMPLES).collect(),
        };
        self.shared.outbox().load = Some(load);
        let (journal, lease_ms) = (self.journal.size(), self.lease.lease_ms);
        self.shared.tally.note(|noted| {
            noted.journal_bytes = journal;
            noted.lease_ms = lease_ms;
            noted.disk = match self.engine.root.as_os_str().is_empty() {
                true => "/".to_owned(),
                false => self.engine.root.display().to_string(),
            };
        });
    }

    /// Limits of running containers.
    fn enforce(&mut self, now: i64, sample: bool) {
        let gpus = if sample {
            self.gpus.borrow().clone()
        } else {
            Snapshot::default()
        };
        let mut stops = Vec::new();
        let mut warnings = Vec::new();
        let drain = self.set.as_ref().and_then(|set| self.drain_boot_ms(set));
        let drain = drain.zip(self.drain_since_ms);
        for (key, watching) in &mut self.watching {
            let Some(entry) = self.desired.get(key) else {
                continue;
            };
            let record = self.journal.key(*key);
            let lives = record.is_some_and(|r| r.ended.is_none() && r.local_stop.is_none());
            if !lives || entry.want == Want::Stop {
                continue;
            }
            let found = self.found.get(key);
            let frozen = found.is_some_and(|f| is_frozen(f, &self.past_engine));
            if sample && !frozen {
                watching.sample(Some(entry), &gpus, now);
            }
            let verdict = match frozen {
                true => watching.judge_frozen(entry, now),
                false => watching.judge(entry, now),
            };
            for warning in &verdict.warn {
                warnings.push((*key, warning.text.clone()));
            }
            if let Some((reason, detail)) = &verdict.stop {
                stops.push((*key, *reason, detail.clone()));
            }
            if let Some(warning) = watching.judge_drain(drain, &entry.limits.warn_s, now) {
                warnings.push((*key, warning.text));
            }
        }
        // Before anybody is told: whoever follows does not say it again. At each tick, as one that
        // was warned may be used between two samples.
        if let Err(failed) = self.note_idle(now, false) {
            error!(error = %failed, "the journal failed; the agent ends, containers run on");
            std::process::exit(1);
        }
        for (key, text) in warnings {
            self.say_inside(key, &text);
            self.notice(NoticeKind::Warning, Some(key), None, text);
        }
        for (key, reason, detail) in stops {
            info!(%key, %reason, %detail, "a limit ends the session");
            let stopped = self
                .journal
                .write(vec![Record::LocalStop(key, reason)])
                .and_then(|()| self.reconcile(key));
            if let Err(failed) = stopped {
                error!(error = %failed, "the journal failed; the agent ends, containers run on");
                std::process::exit(1);
            }
        }
        let keys: Vec<ContainerKey> = self.watching.keys().copied().collect();
        if sample {
            let noted = self.note_use(now).and_then(|()| self.note_sums(now, false));
            if let Err(failed) = noted {
                error!(error = %failed, "the journal failed; the agent ends, containers run on");
                std::process::exit(1);
            }
            keys.into_iter().for_each(|key| self.report(key));
            self.tell_use(now);
        }
        self.send_signals(now);
    }
}

#[cfg(test)]
pub(crate) mod tests;

#[cfg(test)]
mod idle_tests;
#[cfg(test)]
mod leased_tests;
#[cfg(test)]
mod stuck_tests;
