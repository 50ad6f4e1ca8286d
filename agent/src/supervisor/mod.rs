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
mod exec;
mod leased;
mod steps;
mod strangers;
mod sweeps;
mod told;
mod tunnel;
mod watching;

use crate::devices::{Snapshot, Snapshots};
use crate::host::wall_clock;
use crate::host::{self, Facts, Host};
use crate::journal::{Journal, JournalError, Record, Seen, Stage};
use crate::lease::Lease;
use crate::link::{Heard, Shared};
use crate::logs::LogStore;
use crate::reconcile::{Ending, Known, Step, next_step};
use crate::runtime::{
    Breach, Containers, CreateRequest, EngineInfo, Found, FoundStatus, Hint, ImageFacts,
    RuntimeError,
};
use accept::{Acceptance, Circumstances};
pub use exec::{ClientEnds, News};
use longshore_common::agent::{Allocation, Device, GpuWay, Inventory, NodeLoad, RuntimeState};
use longshore_common::amount::{SlotName, Slots, UNIT};
use longshore_common::ids::{AgentId, ClusterId, ContainerKey, ExecId};
use longshore_common::session::{Cause, ContainerState, End, Entry, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    Claim, ContainerReport, DesiredSet, MAX_SAMPLES, Notice, NoticeKind, Outcome, OutcomeNumber,
    SIGNALS, SignalRequest, SignedSet, SigningInput, Totals,
};
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
    /// A running container was compared with its grant.
    Verified(ContainerKey, Checked),
    /// A command or terminal that somebody opened says how it stands.
    Exec(ExecId, News),
    /// A connection to a port inside says how it stands.
    Tunnel(ContainerKey, Use),
}

/// What a comparison with the grant came to: a breach, or none. A failed one says nothing.
pub type Checked = Result<Option<Breach>, RuntimeError>;

/// What a step did.
#[derive(Debug)]
pub enum Done {
    /// The image is there, the container is being created.
    Creating,
    /// It exists.
    Prepared(Result<String, RuntimeError>),
    /// It was started, and compared with its grant.
    Started(Result<(Box<Found>, Checked), RuntimeError>),
    /// It was looked at.
    Found(Result<Box<Option<Found>>, RuntimeError>),
    /// It is gone.
    Removed(Result<(), RuntimeError>),
    /// Its output is read; this is its end.
    Ended(Box<Outcome>),
}

/// What does not change while the agent runs.
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
    /// Only this way for GPUs.
    pub gpu_way: Option<GpuWay>,
    /// Where the lease is kept; none = nowhere.
    pub lease_file: Option<PathBuf>,
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
    link_up: bool,
    synced: bool,
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
    let pings = supervisor.pings.subscribe();
    tokio::spawn(forward_hints(runtime, events.clone(), pings));
    tokio::spawn(forward_gpus(gpus, events));
    tokio::spawn(async move { supervisor.run(inbox, &mut from_link, listed).await });
    Handles {
        heard,
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
            // It comes out of the journal: how old it is only the wall clock knows.
            let age = wall_clock().since(set.now).max(0);
            self.adopt_set(set, age);
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
            Event::Heard(Heard::Up(welcome)) => {
                self.link_up = true;
                self.synced = false;
                self.lease.lease_ms = i64::try_from(welcome.lease_ms).unwrap_or(i64::MAX);
                self.journal_coordinator(&welcome)?;
            }
            Event::Heard(Heard::Down) => {
                self.link_up = false;
                self.synced = false;
            }
            Event::Heard(Heard::Set(signed)) => self.take_set(signed)?,
            Event::Heard(Heard::Acked(ack)) => self.take_ack(ack.key, ack.number)?,
            Event::Heard(Heard::Signal(request, reply)) => self.signal(&request, reply),
            Event::Heard(Heard::Exec(request, reply)) => self.exec(*request, reply),
            Event::Exec(exec, news) => self.take_exec(exec, news),
            Event::Heard(Heard::Tunnel(request, reply)) => self.tunnel(request, reply),
            Event::Tunnel(key, news) => self.take_tunnel(key, news),
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
                self.refresh_inventory();
                self.reconcile_all()?;
            }
            Event::Verified(key, result) => self.take_check(key, result)?,
        }
        Ok(())
    }

    fn journal_coordinator(
        &mut self,
        welcome: &longshore_common::wire::Welcome,
    ) -> Result<(), JournalError> {
        let now = (welcome.coordinator_generation, welcome.coordinator_instance);
        if self.journal.contents().coordinator != Some(now) {
            self.journal
                .write(vec![Record::Coordinator(now.0, now.1)])?;
            self.shared.outbox().coordinator = Some(now);
        }
        Ok(())
    }

    /// Checks the signature and reads the set.
    fn open(&self, signed: &SignedSet) -> Result<DesiredSet, String> {
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ED25519,
            &self.config.work_key,
        );
        key.verify(&SigningInput::desired_set(&signed.bytes), &signed.signature)
            .map_err(|_| "the signature is not the coordinator's".to_owned())?;
        let set = signed.open().map_err(str::to_owned)?;
        if set.cluster != self.config.cluster || set.agent != self.config.agent {
            return Err("the set is for another agent".to_owned());
        }
        Ok(set)
    }

    fn take_set(&mut self, signed: SignedSet) -> Result<(), JournalError> {
        let set = match self.open(&signed) {
            Ok(set) => set,
            Err(why) => {
                warn!(%why, "orders are refused");
                self.notice(
                    NoticeKind::Breach,
                    None,
                    format!("orders were refused: {why}"),
                );
                return Ok(());
            }
        };
        let theirs = (set.coordinator_generation, set.coordinator_instance);
        let stale = self
            .journal
            .contents()
            .coordinator
            .is_some_and(|(generation, instance)| {
                theirs.0 < generation || (theirs.0 == generation && theirs.1 != instance)
            });
        if stale {
            warn!(
                generation = theirs.0.0,
                "orders of an older coordinator are refused"
            );
            return Ok(());
        }
        let known = self
            .set
            .as_ref()
            .map(|s| (s.coordinator_generation, s.generation));
        let newer = known.is_none_or(|known| (theirs.0, set.generation) > known);
        if newer {
            // Settled with the first thing that is done for it, at the latest below.
            self.journal.put(vec![
                Record::Coordinator(theirs.0, theirs.1),
                Record::Set(signed, set.fence),
            ])?;
            {
                let mut outbox = self.shared.outbox();
                outbox.coordinator = Some(theirs);
                outbox.fence = set.fence;
            }
            self.adopt_set(set, 0);
            self.take_lifetimes()?;
        }
        let was_synced = std::mem::replace(&mut self.synced, self.link_up);
        if self.synced && !was_synced {
            self.thaw_past_engine();
        }
        self.reconcile_all()?;
        // Only now: what is reported as applied is reported with all its keys.
        self.shared.outbox().applied = self.set.as_ref().map(|s| s.generation).unwrap_or_default();
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Passes a person's signal on to the main process of a running container.
    fn signal(&mut self, request: &SignalRequest, reply: oneshot::Sender<Result<(), String>>) {
        let running = self
            .found
            .get(&request.key)
            .filter(|f| f.status == FoundStatus::Running);
        let known = SIGNALS.contains(&request.signal.as_str());
        let Some(found) = running.filter(|_| known) else {
            let _ = reply.send(Err("its container does not run here".to_owned())); // the asker may have gone
            return;
        };
        let (runtime, id, signal) = (
            Arc::clone(&self.runtime),
            found.docker_id.clone(),
            request.signal.clone(),
        );
        tokio::spawn(async move {
            let sent = runtime
                .signal(&id, &signal)
                .await
                .map_err(|e| e.to_string());
            let _ = reply.send(sent); // the asker may have gone
        });
    }

    fn adopt_set(&mut self, set: DesiredSet, age_ms: i64) {
        self.set_boot_ms = host::boot_clock_ms().saturating_sub(age_ms);
        self.desired = set.entries.iter().map(|e| (e.key, e.clone())).collect();
        for (key, watching) in &mut self.watching {
            if let Some(entry) = self.desired.get(key) {
                watching.take_limits(&entry.limits, self.set_boot_ms);
            }
        }
        self.drain_since_ms = match set.drain {
            Some(_) => self.drain_since_ms.or(Some(self.set_boot_ms)),
            None => None,
        };
        self.set = Some(set);
    }

    /// Deadlines that moved by more than the way of a message are taken over.
    fn take_lifetimes(&mut self) -> Result<(), JournalError> {
        let now = host::boot_clock_ms();
        let mut records = Vec::new();
        for (key, entry) in &self.desired {
            let Some(record) = self.journal.key(*key) else {
                continue;
            };
            let lifetime = entry.limits.lifetime;
            let at = lifetime.map(|d| now.saturating_add(d.remaining_ms));
            let moved = match (at, record.lifetime_boot_ms) {
                (Some(new), Some(old)) => new.saturating_sub(old).saturating_abs() > 2000,
                (new, old) => new.is_some() != old.is_some(),
            };
            if moved && record.boot_id == self.boot_id {
                records.push(Record::Lifetime(*key, at, self.boot_id.clone()));
                if let Some(watching) = self.watching.get_mut(key) {
                    watching.set_lifetime(at);
                }
            }
        }
        if records.is_empty() {
            Ok(())
        } else {
            self.journal.put(records) // its caller settles
        }
    }

    fn take_ack(&mut self, key: ContainerKey, number: OutcomeNumber) -> Result<(), JournalError> {
        if self
            .shared
            .outbox()
            .outcomes
            .remove(&(key, number))
            .is_none()
        {
            return Ok(());
        }
        self.journal.note(vec![Record::Acked(key, number)])?;
        if number == OutcomeNumber::Closed {
            self.shared.outbox().forget(key);
            // The next set no longer names it; until that comes it must not look new.
            if self.desired.get(&key).is_some_and(|e| e.want == Want::Stop) {
                self.desired.remove(&key);
            }
            self.newer_than_list.insert(key);
            self.found.remove(&key);
            self.watching.remove(&key);
            self.inside.remove(&key);
            self.checks.remove(&key);
            self.retry_at.remove(&key);
            self.logs.release(key);
        }
        Ok(())
    }

    // ---- deciding ----------------------------------------------------------

    fn reconcile_all(&mut self) -> Result<(), JournalError> {
        let keys: BTreeSet<ContainerKey> = self
            .desired
            .keys()
            .chain(self.journal.contents().keys.keys())
            .chain(self.found.keys())
            .copied()
            .collect();
        for key in &keys {
            self.decide(*key)?;
        }
        self.release()?;
        keys.into_iter().for_each(|key| self.report(key));
        Ok(())
    }

    fn reconcile(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        self.decide(key)?;
        self.release()?;
        self.report(key);
        Ok(())
    }

    /// Lets steps begin that were held until what they stand on is on the disk. However
    /// many they are, and with the set that ordered them, the disk is waited for once.
    fn release(&mut self) -> Result<(), JournalError> {
        self.journal.settle()?;
        for go in self.held.drain(..) {
            let _ = go.send(()); // one that was given up meanwhile
        }
        Ok(())
    }

    /// Takes the next step of a key. What is decided is released and reported by the caller.
    fn decide(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        let stopping = self.desired.get(&key).is_some_and(|e| e.want == Want::Stop);
        let grace = self
            .desired
            .get(&key)
            .and_then(|e| e.stop.as_ref())
            .map(|s| s.grace_s);
        if let Some(busy) = self.busy.get_mut(&key) {
            let shorter = busy.doing == Doing::Stopping && grace.is_some_and(|g| g < busy.grace_s);
            if shorter {
                // The engine goes on with the longer grace and is overtaken by the shorter.
                busy.task.abort();
                self.busy.remove(&key);
            } else {
                if stopping {
                    busy.cancel = None; // nobody waits for the image any more
                }
                return Ok(());
            }
        }
        let waiting = self
            .retry_at
            .get(&key)
            .is_some_and(|at| *at > host::boot_clock_ms());
        if self.listed && !waiting {
            let step = next_step(Known {
                desired: self.desired.get(&key),
                record: self.journal.key(key),
                found: self.found.get(&key).map(|f| &f.status),
                synced: self.synced,
                boot_id: &self.boot_id,
                booted_at: Timestamp(wall_clock().0.saturating_sub(host::boot_clock_ms())),
                fence: self.journal.contents().fence,
                lease_over: self.lease_over(),
            });
            self.perform(key, step)?;
        }
        Ok(())
    }

    fn perform(&mut self, key: ContainerKey, step: Step) -> Result<(), JournalError> {
        if matches!(step, Step::Thaw | Step::Stop { .. } | Step::Remove) {
            self.journal.settle()?; // the set that orders it; the others write something themselves
        }
        match step {
            Step::Wait => (),
            Step::Prepare { accepted } => self.prepare(key, accepted)?,
            Step::NoteCreated => self.note_created(key)?,
            Step::Start => self.start_container(key)?,
            Step::Adopt => self.adopt(key)?,
            Step::Thaw => {
                let Some(found) = self.found.get(&key).cloned() else {
                    return Ok(());
                };
                let runtime = Arc::clone(&self.runtime);
                self.spawn(key, Doing::Freezing, steps::thaw(runtime, key, found));
            }
            Step::Freeze => {
                let Some(found) = self.found.get(&key).cloned() else {
                    return Ok(());
                };
                warn!(%key, "cut off for too long: frozen until the coordinator is back");
                let runtime = Arc::clone(&self.runtime);
                self.spawn(key, Doing::Freezing, steps::freeze(runtime, key, found));
            }
            Step::End(ending) => self.end(key, ending),
            Step::Stop { grace_s, kill } => {
                let Some(found) = self.found.get(&key) else {
                    return Ok(());
                };
                let (runtime, id) = (Arc::clone(&self.runtime), found.docker_id.clone());
                self.spawn(
                    key,
                    Doing::Stopping,
                    steps::stop(runtime, key, id, grace_s, kill),
                );
                if let Some(busy) = self.busy.get_mut(&key) {
                    busy.grace_s = grace_s;
                }
            }
            Step::Remove => {
                let id = self.found.get(&key).map(|f| f.docker_id.clone());
                let runtime = Arc::clone(&self.runtime);
                self.spawn(key, Doing::Removing, steps::remove(runtime, key, id));
            }
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        key: ContainerKey,
        doing: Doing,
        step: impl Future<Output = Done> + Send + 'static,
    ) {
        let events = self.events.clone();
        let task = tokio::spawn(async move {
            let done = step.await;
            let _ = events.send(Event::Step(key, done)).await; // without supervisor nobody asks
        });
        self.busy.insert(
            key,
            Busy {
                doing,
                task: task.abort_handle(),
                again: false,
                grace_s: 0,
                cancel: None,
            },
        );
    }

    fn prepare(&mut self, key: ContainerKey, accepted: bool) -> Result<(), JournalError> {
        let Some(entry) = self.desired.get(&key).cloned() else {
            return Ok(());
        };
        if self.waits_for_gpus(&entry) {
            return Ok(());
        }
        if !accepted {
            match self.judge(&entry) {
                Acceptance::Taken => (),
                Acceptance::Wait => return Ok(()),
                Acceptance::Refused(cause, detail) => {
                    warn!(%key, %cause, %detail, "order refused");
                    let end = End::StartFailed { cause, detail };
                    return self.store_ended(outcome(key, OutcomeNumber::Ended, Some(end)));
                }
            }
        }
        let lifetime_boot_ms = entry
            .limits
            .lifetime
            .map(|d| host::boot_clock_ms().saturating_add(d.remaining_ms));
        self.journal.put(vec![Record::Intent {
            key,
            fence: entry.fence,
            boot_id: self.boot_id.clone(),
            lifetime_boot_ms,
        }])?;
        info!(%key, image = %entry.spec.image, "preparing");
        let request = self.request(&entry);
        let (cancel, cancelled) = oneshot::channel();
        let step = steps::prepare(
            Arc::clone(&self.runtime),
            Arc::clone(&self.shared),
            self.events.clone(),
            request,
            cancelled,
        );
        let (go, gate) = oneshot::channel();
        self.held.push(go);
        self.spawn(key, Doing::Pulling, async move {
            match gate.await {
                Ok(()) => step.await,
                Err(_) => Done::Found(Err(RuntimeError::Unreachable(
                    "the agent is stopping".to_owned(), // nobody hears it
                ))),
            }
        });
        if let Some(busy) = self.busy.get_mut(&key) {
            busy.cancel = Some(cancel);
        }
        Ok(())
    }

    /// Whether it has devices while nobody has looked at them yet: what it gets and should get
    /// cannot be told. Each look comes as an event, after which all are asked again.
    fn waits_for_gpus(&self, entry: &Entry) -> bool {
        !entry.spec.devices.is_empty() && !self.gpus.borrow().looked
    }

    fn judge(&self, entry: &Entry) -> Acceptance {
        let outbox = self.shared.outbox();
        let Some(inventory) = outbox.inventory.1.clone() else {
            return Acceptance::Wait;
        };
        drop(outbox);
        let strangers = self.held_by_strangers(entry);
        let others: Vec<&Entry> = self
            .desired
            .values()
            .filter(|e| e.key != entry.key)
            .filter(|e| {
                let record = self.journal.key(e.key);
                record.is_some_and(|r| r.stage.is_some() && r.closed.is_none())
            })
            .chain(&strangers)
            .collect();
        accept::judge(
            entry,
            &Circumstances {
                schedulable: self.set.as_ref().is_some_and(|s| s.schedulable),
                local_cordon: self.config.local_cordon,
                fence: self.journal.contents().fence,
                inventory: &inventory,
                others: &others,
            },
        )
    }

    fn request(&self, entry: &Entry) -> CreateRequest {
        let snapshot = self.gpus.borrow();
        let minors: Option<BTreeSet<u32>> = entry
            .spec
            .devices
            .iter()
            .map(|g| snapshot.devices.iter().find(|d| d.id == g.device)?.minor)
            .collect();
        // With one of them unknown all are: a part of them would look like the whole.
        let minors: Vec<u32> = minors.unwrap_or_default().into_iter().collect();
        let has_gpu = !entry.spec.devices.is_empty();
        let gpu_way = if has_gpu {
            self.gpu_way(&snapshot.devices)
        } else {
            None
        };
        CreateRequest {
            key: entry.key,
            cluster: self.config.cluster,
            agent: self.config.agent,
            fence: entry.fence,
            spec: entry.spec.clone(),
            image: ImageFacts::default(),
            grace_s: entry.limits.grace_s,
            not_after: entry.limits.lifetime.map(|d| d.at),
            device_nodes: if gpu_way.is_some() {
                crate::runtime::docker::device_nodes(&self.config.device_dir, &minors)
            } else {
                Vec::new()
            },
            gpu_way,
        }
    }

    /// The first way that passed its self-test and knows every GPU of this node.
    fn gpu_way(&self, devices: &[Device]) -> Option<GpuWay> {
        let mut ways = self.gpu_ways(devices).into_iter();
        ways.find_map(|(way, test)| test.is_ok().then_some(way))
    }

    /// What the self-test of each way says, for the GPUs that are here.
    fn gpu_ways(&self, devices: &[Device]) -> Vec<(GpuWay, Result<(), String>)> {
        let mut ids = devices.iter().map(|device| device.id.as_str());
        let unnamed = ids.find(|id| !self.engine.cdi_names.contains(*id));
        let mut ways = self.engine.gpu_ways.clone();
        for (way, test) in &mut ways {
            if let (GpuWay::Cdi, Ok(()), Some(id)) = (*way, &test, unnamed) {
                *test = Err(format!("no CDI spec names {id}"));
            }
        }
        ways
    }

    /// Docker has it as created; before, we may have been killed between the two.
    fn note_created(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        let Some(found) = self.found.get(&key).cloned() else {
            return Ok(());
        };
        let mut records = Vec::new();
        if self.journal.key(key).and_then(|r| r.stage).is_none() {
            records.push(self.intent(key, &found));
        }
        records.push(Record::Created {
            key,
            docker_id: found.docker_id,
        });
        self.journal.write(records)?;
        self.decide(key)
    }

    fn intent(&self, key: ContainerKey, found: &Found) -> Record {
        let lifetime = self.desired.get(&key).and_then(|e| e.limits.lifetime);
        Record::Intent {
            key,
            fence: found.fence,
            boot_id: self.boot_id.clone(),
            lifetime_boot_ms: lifetime
                .map(|d| host::boot_clock_ms().saturating_add(d.remaining_ms)),
        }
    }

    fn start_container(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        let (Some(entry), Some(found)) = (self.desired.get(&key), self.found.get(&key)) else {
            return Ok(());
        };
        if self.waits_for_gpus(entry) {
            return Ok(());
        }
        let (request, docker_id) = (self.request(entry), found.docker_id.clone());
        let start = Record::Start {
            key,
            boot_id: self.boot_id.clone(),
        };
        let seen = Seen {
            boot_id: self.boot_id.clone(),
            ..Seen::default()
        };
        self.journal.write(vec![start, Record::Seen(key, seen)])?;
        // From now on it may run, whatever becomes of the step.
        self.checks.insert(key, Check::new(true));
        let step = steps::start(Arc::clone(&self.runtime), docker_id, request);
        self.spawn(key, Doing::Starting, step);
        Ok(())
    }

    /// A container that ran without a word in the journal: the labels say it is ours.
    fn adopt(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        let Some(found) = self.found.get(&key).cloned() else {
            return Ok(());
        };
        info!(%key, docker_id = %found.docker_id, "adopted");
        let mut records = Vec::new();
        if self.journal.key(key).and_then(|r| r.stage).is_none() {
            records.push(self.intent(key, &found));
        }
        records.push(Record::Created {
            key,
            docker_id: found.docker_id.clone(),
        });
        records.push(Record::Start {
            key,
            boot_id: self.boot_id.clone(),
        });
        self.journal.write(records)?;
        self.follow(key, &found);
        self.decide(key)
    }

    /// Output and limits of a container that runs, or ran while we did not look.
    fn follow(&mut self, key: ContainerKey, found: &Found) {
        if self.watching.contains_key(&key) {
            return;
        }
        if let Err(error) = self.logs.begin(key) {
            warn!(%key, %error, "output cannot be kept");
        }
        let (done, output) = watch::channel(false);
        let now = host::boot_clock_ms();
        let age = found
            .started_at
            .map_or(0, |at| wall_clock().since(at).max(0));
        let lifetime = self.journal.key(key).and_then(|r| r.lifetime_boot_ms);
        let by_kernel = found.pid.and_then(host::started_boot_ms);
        let started = by_kernel.unwrap_or(now.saturating_sub(age)).min(now);
        let mut watching = Watching::new(found.pid, started, lifetime, output);
        if let Some(entry) = self.desired.get(&key) {
            watching.take_limits(&entry.limits, self.set_boot_ms);
        }
        watching.sample(None, &Snapshot::default(), now);
        let seen = self.journal.contents().seen.get(&key);
        match seen.map(|seen| (&seen.boot_id, seen.used_boot_ms)) {
            // Noted now and then: it may have been used a little later than that.
            Some((boot_id, Some(at))) if *boot_id == self.boot_id => {
                watching.was_used(at.saturating_add(NOTE_USE_MS).min(now));
            }
            Some(_) => (),
            None => watching.was_used(now), // nobody knows, and nobody is to suffer for it
        }
        // A process that was killed between start and check, or before there was a word of it.
        let runs = matches!(found.status, FoundStatus::Running | FoundStatus::Paused);
        let ended = self.journal.key(key).is_none_or(|r| r.ended.is_some());
        if runs && !ended && seen.is_none_or(|seen| !seen.checked) {
            let check = Check::new(seen.is_some());
            self.checks.entry(key).or_insert(check);
        }
        self.watching.insert(key, watching);
        tokio::spawn(steps::pump(
            Arc::clone(&self.runtime),
            Arc::clone(&self.logs),
            key,
            found.docker_id.clone(),
            done,
            self.pings.subscribe(),
            self.events.clone(),
        ));
    }

    fn end(&mut self, key: ContainerKey, ending: Ending) {
        let found = self.found.get(&key).cloned();
        if let Some(found) = &found {
            self.follow(key, found); // output written while we were away
        }
        let (end, at) = match ending {
            Ending::Exited(exit) => (End::Exited(exit.clone()), exit.at),
            Ending::Stopped(reason, exit) => {
                let at = exit.as_ref().map_or_else(wall_clock, |e| e.at);
                (End::Stopped { reason, exit }, at)
            }
            Ending::Vanished { rebooted } => (End::Vanished { rebooted }, wall_clock()),
        };
        let gone = matches!(end, End::Vanished { .. }) || found.is_none();
        let watching = self.watching.get(&key);
        let output = watching.filter(|_| !gone).map(|w| w.output.clone());
        let (mut totals, devices) = watching.map_or_else(Default::default, Watching::figures);
        if let End::Exited(exit)
        | End::Stopped {
            exit: Some(exit), ..
        } = &end
            && exit.oom
        {
            // It was ended for having all it may have; a sample may have come too early to see it.
            let limit = self.desired.get(&key).map(|e| e.spec.slots.mem_bytes());
            totals.memory_peak = totals.memory_peak.max(limit);
        }
        let started_at = found.and_then(|f| f.started_at);
        let step = steps::end(
            Arc::clone(&self.logs),
            key,
            end,
            started_at,
            at,
            (totals, devices),
            output,
        );
        self.spawn(key, Doing::Ending, step);
    }

    fn store_ended(&mut self, outcome: Outcome) -> Result<(), JournalError> {
        self.checks.remove(&outcome.key);
        let fence = self.journal.contents().fence;
        let boot_id = self.boot_id.clone();
        self.journal.write(vec![Record::Ended(
            Box::new(outcome.clone()),
            fence,
            boot_id,
        )])?;
        self.publish(outcome);
        Ok(())
    }

    fn publish(&mut self, outcome: Outcome) {
        let key = outcome.key;
        self.shared
            .outbox()
            .outcomes
            .insert((key, outcome.number), outcome);
        self.report(key);
        self.shared.changed.notify_one();
    }

    // ---- results -----------------------------------------------------------

    fn take_done(&mut self, key: ContainerKey, done: Done) -> Result<(), JournalError> {
        if let Done::Creating = done {
            if let Some(busy) = self.busy.get_mut(&key) {
                busy.doing = Doing::Creating;
            }
            return Ok(());
        }
        self.newer_than_list.insert(key);
        let Some(busy) = self.busy.remove(&key) else {
            return Ok(());
        };
        if busy.again {
            self.look(key);
        }
        match done {
            Done::Creating => Ok(()),
            Done::Prepared(Ok(docker_id)) => {
                self.well();
                // The engine knows it too; the record of the start is waited for.
                self.journal.note(vec![Record::Created {
                    key,
                    docker_id: docker_id.clone(),
                }])?;
                self.note_found_created(key, docker_id);
                Ok(())
            }
            Done::Prepared(Err(error)) | Done::Started(Err(error)) => self.failed_start(key, error),
            Done::Started(Ok((found, checked))) => {
                self.well();
                self.found.insert(key, (*found).clone());
                self.follow(key, &found);
                self.take_check(key, checked)
            }
            Done::Found(Ok(found)) => {
                self.well();
                self.take_found(key, *found);
                Ok(())
            }
            Done::Found(Err(error)) | Done::Removed(Err(error)) => {
                self.engine_error(key, &error);
                Ok(())
            }
            Done::Removed(Ok(())) => {
                self.well();
                self.closed(key)
            }
            Done::Ended(outcome) => self.store_ended(*outcome),
        }
    }

    fn note_found_created(&mut self, key: ContainerKey, docker_id: String) {
        let fence = self.desired.get(&key).map(|e| e.fence).unwrap_or_default();
        self.found.insert(
            key,
            Found {
                key,
                docker_id,
                fence,
                spec_hash: String::new(),
                claim: Claim::default(), // its order says it
                status: FoundStatus::Created,
                started_at: None,
                pid: None,
            },
        );
    }

    fn take_found(&mut self, key: ContainerKey, found: Option<Found>) {
        match found {
            Some(found) => {
                let runs = matches!(found.status, FoundStatus::Running | FoundStatus::Paused);
                if runs
                    && self
                        .journal
                        .key(key)
                        .is_some_and(|r| r.stage == Some(Stage::Start))
                {
                    self.follow(key, &found);
                }
                self.found.insert(key, found);
            }
            None => {
                self.found.remove(&key);
            }
        }
    }

    fn failed_start(&mut self, key: ContainerKey, error: RuntimeError) -> Result<(), JournalError> {
        if error.is_engine_trouble() {
            self.engine_error(key, &error);
            return Ok(());
        }
        let (cause, detail) = match error {
            RuntimeError::Failed { cause, detail } => (cause, detail),
            other => (Cause::StartFailed, other.to_string()),
        };
        warn!(%key, %cause, %detail, "start failed");
        let detail = detail.chars().take(1000).collect();
        self.store_ended(outcome(
            key,
            OutcomeNumber::Ended,
            Some(End::StartFailed { cause, detail }),
        ))
    }

    fn closed(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        self.found.remove(&key);
        let closed = outcome(key, OutcomeNumber::Closed, None);
        let fence = self.journal.contents().fence;
        let boot_id = self.boot_id.clone();
        self.journal.write(vec![Record::Closed(
            Box::new(closed.clone()),
            fence,
            boot_id,
        )])?;
        self.logs.finish(key);
        info!(%key, "closed");
        self.publish(closed);
        Ok(())
    }

    /// What a comparison with the grant came to.
    fn take_check(&mut self, key: ContainerKey, checked: Checked) -> Result<(), JournalError> {
        match checked {
            Ok(breach) => {
                self.checks.remove(&key);
                self.note_checked(key)?;
                match breach {
                    Some(breach) => self.take_breach(key, &breach),
                    None => {
                        self.report(key);
                        Ok(())
                    }
                }
            }
            Err(error) => self.check_failed(key, &error),
        }
    }

    fn note_checked(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        let seen = self.journal.contents().seen.get(&key);
        if seen.is_some_and(|seen| seen.checked) || self.journal.key(key).is_none() {
            return Ok(());
        }
        let seen = Seen {
            checked: true,
            ..seen.cloned().unwrap_or_default()
        };
        self.journal.note(vec![Record::Seen(key, seen)])
    }

    /// When containers were last used, for an agent that follows on this one.
    fn note_use(&mut self, now: i64) -> Result<(), JournalError> {
        let mut records = Vec::new();
        for (key, watching) in &self.watching {
            let lives = self.journal.key(*key).is_some_and(|r| r.ended.is_none());
            let Some(at) = watching.activity_ms(now).filter(|_| lives) else {
                continue;
            };
            let seen = self.journal.contents().seen.get(key);
            let same_boot = seen.filter(|seen| seen.boot_id == self.boot_id);
            let noted = same_boot.and_then(|seen| seen.used_boot_ms);
            if noted.is_none_or(|noted| at >= noted.saturating_add(NOTE_USE_MS)) {
                let seen = Seen {
                    checked: seen.is_some_and(|seen| seen.checked),
                    used_boot_ms: Some(at),
                    boot_id: self.boot_id.clone(),
                };
                records.push(Record::Seen(*key, seen));
            }
        }
        match records.is_empty() {
            true => Ok(()),
            false => self.journal.note(records),
        }
    }

    /// A comparison that failed says nothing: it is made again at the next tick.
    fn check_failed(
        &mut self,
        key: ContainerKey,
        error: &RuntimeError,
    ) -> Result<(), JournalError> {
        let Some(check) = self.checks.get_mut(&key) else {
            return Ok(()); // it ended meanwhile
        };
        check.asking = false;
        if !check.told {
            warn!(%key, %error, "what a container got could not be checked; tried again");
            check.told = true;
        }
        if error.is_engine_trouble() {
            // No session ends because the engine is away. One that does not come back ends
            // a start by the coordinator's deadline for it.
            self.unwell(error);
            return Ok(());
        }
        check.failures += 1;
        let (failures, starting) = (check.failures, check.starting);
        if *error == RuntimeError::NotFound {
            self.look(key);
        }
        if failures < CHECK_TRIES {
            return Ok(());
        }
        self.checks.remove(&key);
        let text = format!("what it got could not be checked, {failures} times: {error}");
        if !starting {
            // It passed before: told, and checked again with the next round.
            warn!(%key, %text, "a container is not checked");
            self.notice(NoticeKind::Breach, Some(key), text);
            return Ok(());
        }
        let cause = Cause::StartFailed;
        warn!(%key, %cause, detail = %text, "start failed");
        let detail = text.chars().take(1000).collect();
        let end = End::StartFailed { cause, detail };
        self.store_ended(outcome(key, OutcomeNumber::Ended, Some(end)))?;
        self.reconcile(key)
    }

    /// A container that has less or more than it was granted.
    fn take_breach(&mut self, key: ContainerKey, breach: &Breach) -> Result<(), JournalError> {
        let text = match breach {
            Breach::Fewer(text) | Breach::More(text) => text.clone(),
        };
        warn!(%key, %text, "the container does not have what it was granted");
        self.notice(NoticeKind::Breach, Some(key), text.clone());
        let running = self.watching.contains_key(&key)
            && self
                .journal
                .key(key)
                .is_some_and(|r| r.ended.is_none() && r.local_stop.is_none());
        if !running {
            return Ok(());
        }
        let started = self
            .shared
            .outbox()
            .all_reports()
            .iter()
            .any(|r| r.key == key && r.state == ContainerState::Running);
        if started {
            // It ran well before: more than granted ends it, fewer is told.
            if matches!(breach, Breach::More(_)) {
                self.journal.write(vec![Record::LocalStop(
                    key,
                    longshore_common::session::Reason::RuntimeError,
                )])?;
            }
        } else {
            let cause = match breach {
                Breach::Fewer(_) => Cause::GpuNotVisible,
                Breach::More(_) => Cause::LocalPolicy,
            };
            self.store_ended(outcome(
                key,
                OutcomeNumber::Ended,
                Some(End::StartFailed {
                    cause,
                    detail: text,
                }),
            ))?;
        }
        self.reconcile(key)
    }

    // ---- the engine --------------------------------------------------------

    fn look(&mut self, key: ContainerKey) {
        if let Some(busy) = self.busy.get_mut(&key) {
            busy.again = true;
            return;
        }
        let ours = self.desired.contains_key(&key) || self.journal.key(key).is_some();
        if self.listed && ours {
            self.spawn(
                key,
                Doing::Looking,
                steps::find(Arc::clone(&self.runtime), key),
            );
        }
    }

    fn engine_error(&mut self, key: ContainerKey, error: &RuntimeError) {
        self.retry_at.insert(key, host::boot_clock_ms() + RETRY_MS);
        self.unwell(error);
        if !error.is_engine_trouble() {
            warn!(%key, %error, "a step failed and is tried again");
        }
    }

    fn unwell(&mut self, error: &RuntimeError) {
        let state = match error {
            RuntimeError::Unreachable(_) => RuntimeState::Down,
            RuntimeError::Timeout { .. } => {
                self.trouble += 1;
                if self.trouble < HUNG_AFTER {
                    return;
                }
                RuntimeState::Hung
            }
            _ => return,
        };
        let mut outbox = self.shared.outbox();
        if outbox.runtime != state {
            warn!(%state, %error, "the container engine is in trouble");
            outbox.runtime = state;
            drop(outbox);
            self.shared.changed.notify_one();
        }
    }

    fn well(&mut self) {
        self.trouble = 0;
        let mut outbox = self.shared.outbox();
        if outbox.runtime != RuntimeState::Up {
            info!("the container engine answers");
            outbox.runtime = RuntimeState::Up;
        }
    }

    fn take_ping(&mut self, result: Result<(), RuntimeError>) {
        self.pinging = false;
        let now = host::boot_clock_ms();
        match result {
            Ok(()) => {
                self.pings
                    .send_modify(|count| *count = count.wrapping_add(1));
                self.next_ping_ms = now + PING_MS;
                if self.shared.outbox().runtime != RuntimeState::Up {
                    self.next_list_ms = now; // it is back: what happened meanwhile?
                }
            }
            Err(error) => {
                self.unwell(&error);
                self.next_ping_ms = match error {
                    RuntimeError::Timeout { .. } => now, // three of these make a hang
                    _ => now + RELIST_TROUBLE_MS,
                };
            }
        }
    }

    fn take_list(
        &mut self,
        (info, list): (
            Result<EngineInfo, RuntimeError>,
            Result<Vec<Found>, RuntimeError>,
        ),
    ) -> Result<(), JournalError> {
        self.listing = false;
        let now = host::boot_clock_ms();
        match (info, list) {
            (Ok(info), Ok(list)) => {
                self.well();
                self.next_list_ms = now + RELIST_MS;
                if self.engine != info {
                    self.engine = info;
                    self.refresh_inventory();
                }
                self.take_found_list(list);
                self.listed = true;
                self.reconcile_all()?;
                if std::mem::take(&mut self.list_again) {
                    self.list_now();
                }
                Ok(())
            }
            (Err(error), _) | (_, Err(error)) => {
                self.next_list_ms = now + RELIST_TROUBLE_MS;
                self.unwell(&error);
                Ok(())
            }
        }
    }

    fn take_found_list(&mut self, list: Vec<Found>) {
        let seen: BTreeSet<ContainerKey> = list.iter().map(|f| f.key).collect();
        for found in list {
            // A step that is under way knows better than a list that began before it.
            if !self.busy.contains_key(&found.key) && !self.newer_than_list.contains(&found.key) {
                self.take_found(found.key, Some(found));
            }
        }
        let gone: Vec<ContainerKey> = self
            .found
            .keys()
            .filter(|key| !seen.contains(key) && !self.busy.contains_key(key))
            .copied()
            .collect();
        for key in gone {
            if self.desired.contains_key(&key) || self.journal.key(key).is_some() {
                self.look(key); // asked for by name before it is believed to be gone
            } else {
                self.found.remove(&key);
                self.shared.outbox().forget(key);
            }
        }
    }

    /// Asks for everything; a second time when a list is under way, which may be from before.
    fn list_now(&mut self) {
        if self.listing {
            self.list_again = true;
            return;
        }
        self.listing = true;
        self.list_again = false;
        self.newer_than_list.clear();
        let (runtime, events) = (Arc::clone(&self.runtime), self.events.clone());
        tokio::spawn(async move {
            let result = steps::list(runtime).await;
            let _ = events.send(Event::Listed(Box::new(result))).await; // see spawn
        });
    }

    // ---- time --------------------------------------------------------------

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
            if sample {
                watching.sample(Some(entry), &gpus, now);
            }
            let verdict = watching.judge(entry, now);
            for warning in &verdict.warn {
                warnings.push((*key, warning.text.clone()));
            }
            if let Some((reason, detail)) = &verdict.stop {
                stops.push((*key, *reason, detail.clone()));
            }
            if let Some(warning) = watching.judge_drain(drain, now) {
                warnings.push((*key, warning.text));
            }
        }
        for (key, text) in warnings {
            self.say_inside(key, &text);
            self.notice(NoticeKind::Warning, Some(key), text);
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
            if let Err(failed) = self.note_use(now) {
                error!(error = %failed, "the journal failed; the agent ends, containers run on");
                std::process::exit(1);
            }
            keys.into_iter().for_each(|key| self.report(key));
            self.tell_use(now);
        }
        self.send_signals(now);
    }

    /// Running containers with devices are to be compared with their grants.
    fn note_checks(&mut self) {
        for (key, found) in &self.found {
            let has_devices = self
                .desired
                .get(key)
                .is_some_and(|e| !e.spec.devices.is_empty());
            if has_devices && found.status == FoundStatus::Running {
                let check = Check::new(false);
                self.checks.entry(*key).or_insert(check);
            }
        }
    }

    /// Begins the comparisons that are due: noted ones, and those that failed before.
    fn make_checks(&mut self) {
        let runs = |f: &Found| matches!(f.status, FoundStatus::Running | FoundStatus::Paused);
        let (found, busy) = (&self.found, &self.busy);
        // A process that ended has nothing that could be compared.
        self.checks
            .retain(|key, _| busy.contains_key(key) || found.get(key).is_some_and(runs));
        let due: Vec<ContainerKey> = self
            .checks
            .iter()
            .filter(|(key, check)| !check.asking && !self.busy.contains_key(key))
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            let (Some(entry), Some(found)) = (self.desired.get(&key), self.found.get(&key)) else {
                continue;
            };
            if self.waits_for_gpus(entry) {
                continue;
            }
            let (runtime, events) = (Arc::clone(&self.runtime), self.events.clone());
            let (id, request) = (found.docker_id.clone(), self.request(entry));
            tokio::spawn(async move {
                let checked = steps::verify(runtime, id, request).await;
                let _ = events.send(Event::Verified(key, checked)).await; // see spawn
            });
            if let Some(check) = self.checks.get_mut(&key) {
                check.asking = true;
            }
        }
    }

    // ---- telling -----------------------------------------------------------

    fn report(&mut self, key: ContainerKey) {
        let Some(report) = self.report_of(key) else {
            return;
        };
        if self.shared.outbox().report(report) {
            self.shared.changed.notify_one();
        }
    }

    fn report_of(&self, key: ContainerKey) -> Option<ContainerReport> {
        let record = self.journal.key(key);
        let found = self.found.get(&key);
        if record.is_none() && found.is_none() && !self.desired.contains_key(&key) {
            return None;
        }
        let doing = self.busy.get(&key).map(|b| b.doing);
        let unchecked = self.checks.get(&key).is_some_and(|c| c.starting);
        let state = container_state(record, found, doing, self.listed, unchecked);
        let watching = self.watching.get(&key);
        let idle = watching.and_then(|w| w.verdict.idle_deadline_ms);
        let used = watching.and_then(Watching::used_ms);
        let docker_id = found
            .map(|f| f.docker_id.as_str())
            .or_else(|| record.map(|r| r.docker_id.as_str()))
            .unwrap_or_default();
        Some(ContainerReport {
            key,
            state,
            docker_id: docker_id.chars().take(12).collect(),
            started_at: found.and_then(|f| f.started_at),
            fence: record
                .map(|r| r.fence)
                .or_else(|| found.map(|f| f.fence))
                .unwrap_or_default(),
            idle_deadline: idle.map(told::to_wall),
            frozen: found.is_some_and(|f| f.status == FoundStatus::Paused),
            idle: watching.is_some_and(|w| w.verdict.idle),
            used_at: used.map(told::to_wall),
        })
    }

    fn notice(&mut self, kind: NoticeKind, key: Option<ContainerKey>, text: String) {
        self.notices += 1;
        let notice = Notice {
            number: self.notices,
            kind,
            text: text.chars().take(1000).collect(),
            key,
            device: None,
            at: wall_clock(),
        };
        self.shared.outbox().notice(notice);
        self.shared.changed.notify_one();
    }

    fn refresh_inventory(&mut self) {
        if !self.gpus.borrow().looked {
            return; // without its GPUs the machine would look like another one
        }
        let inventory = self.inventory();
        let mut outbox = self.shared.outbox();
        if outbox.inventory.1.as_ref() != Some(&inventory) {
            outbox.inventory = (outbox.inventory.0 + 1, Some(inventory));
            drop(outbox);
            self.shared.changed.notify_one();
        }
    }

    fn inventory(&self) -> Inventory {
        let snapshot = self.gpus.borrow();
        let found = slots(i64::from(self.facts.cores), self.facts.mem_total);
        let cores = match self.config.offered_cpu {
            0 => i64::from(self.facts.cores.saturating_sub(self.config.reserved_cpu)),
            cores => i64::from(cores),
        };
        let mem = match self.config.offered_mem {
            0 => (self.facts.mem_total - self.config.reserved_mem).max(0),
            mem => mem,
        };
        let ways: Vec<String> = self
            .gpu_ways(&snapshot.devices)
            .into_iter()
            .map(|(way, test)| match test {
                Ok(()) => format!("{way}: works"),
                Err(why) => format!("{way}: {why}"),
            })
            .collect();
        Inventory {
            hostname: self.facts.hostname.clone(),
            arch: self.facts.arch.to_owned(),
            os: self.facts.os.clone(),
            kernel: self.facts.kernel.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            engine_version: self.engine.version.clone(),
            engine_storage: self.engine.storage.clone(),
            cgroup_version: self.facts.cgroup_version,
            driver_version: snapshot.driver_version.clone(),
            gpu_way: self.gpu_way(&snapshot.devices),
            gpu_way_detail: ways.join("; "),
            offered: slots(cores, mem),
            total: found,
            max_containers: self.config.max_containers,
            devices: snapshot.devices.clone(),
            allocation: self.config.allocation,
        }
    }
}

fn slots(cores: i64, mem: i64) -> Slots {
    Slots::new()
        .with(SlotName::cpu(), cores * UNIT)
        .with(SlotName::mem(), mem)
}

fn outcome(key: ContainerKey, number: OutcomeNumber, end: Option<End>) -> Outcome {
    Outcome {
        key,
        number,
        end,
        started_at: None,
        at: wall_clock(),
        tail: Vec::new(),
        totals: Totals::default(),
        devices: Vec::new(),
    }
}

fn container_state(
    record: Option<&crate::journal::KeyRecord>,
    found: Option<&Found>,
    doing: Option<Doing>,
    listed: bool,
    unchecked: bool,
) -> ContainerState {
    if record.is_some_and(|r| r.closed.is_some()) {
        return ContainerState::Closed;
    }
    if record.is_some_and(|r| r.ended.is_some()) {
        return ContainerState::Exited;
    }
    match (doing, found.map(|f| &f.status)) {
        (Some(Doing::Stopping | Doing::Removing), _) => ContainerState::Stopping,
        (Some(Doing::Pulling), _) => ContainerState::Pulling,
        (Some(Doing::Creating), _) => ContainerState::Creating,
        // What it got is not known yet: nobody is told that it runs.
        (_, Some(FoundStatus::Running | FoundStatus::Paused)) if unchecked => {
            ContainerState::Starting
        }
        (_, Some(FoundStatus::Running | FoundStatus::Paused)) => ContainerState::Running,
        (Some(Doing::Starting), _) => ContainerState::Starting,
        // Ended, but its end is not told yet.
        (_, Some(FoundStatus::Exited(_))) => ContainerState::Running,
        (_, Some(FoundStatus::Created)) => ContainerState::Created,
        (_, None) => match record.and_then(|r| r.stage) {
            // Before the engine was asked the journal is believed.
            Some(Stage::Start) => ContainerState::Running,
            Some(Stage::Created) if !listed => ContainerState::Created,
            Some(Stage::Intent) => ContainerState::Pulling,
            Some(Stage::Created) => ContainerState::Creating,
            None => ContainerState::Assigned,
        },
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod leased_tests;
