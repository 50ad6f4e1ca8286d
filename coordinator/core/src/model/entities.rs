//! The things the coordinator knows about, as they are stored.

use super::adoption::Adopted;
use super::arrays::ArrayPlan;
use super::attempts::{PastAttempt, Restart};
use super::devices::DeviceCordon;
use super::network::AttemptNetwork;
use super::policies::{
    Allowed, ClusterNetwork, DirectSubmits, Discipline, LifetimeBase, OnDeviceFault, Selection,
    default_session_types,
};
use super::unclaimed::Unclaimed;
use super::usage::Spent;
use longshore_common::agent::{AgentState, Inventory, RuntimeState};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{
    AgentId, Attempt, ClusterId, ContainerKey, CoordinatorGeneration, DeviceId, DomainId, Fence,
    Generation, GroupId, ProjectId, Rank, ServiceAccountId, SessionId, UserId, VaultId,
};
use longshore_common::limits::IdlePolicy;
use longshore_common::session::{
    AppPort, Cause, ClusterMode, ClusterRun, ContainerState, DependOn, DeviceGrant, End,
    ExactImage, Phase, PullRule, Reason, ResultKind, SessionState, SessionType, Want,
};
use longshore_common::time::Timestamp;
use longshore_common::wire::{DeviceUse, Totals};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Facts of the installation and the defaults a session gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Drawn once.
    pub cluster: ClusterId,
    /// Raised at each start.
    pub generation: CoordinatorGeneration,
    /// Number of the next session; never goes back.
    pub next_session: u64,
    /// User number inside containers of the next user.
    pub next_uid: u32,
}

const fn yes() -> bool {
    true
}

/// A named set of agents with one scheduler. Settings that are absent follow those of
/// the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Counts changes from 1.
    #[serde(default)]
    pub version: u64,
    /// Unique; never changes.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Whether it takes sessions.
    pub active: bool,
    /// First choice when a session names none.
    pub default: bool,
    /// Who may use it; absent = everybody.
    #[serde(default)]
    pub allowed: Option<Allowed>,
    /// What it takes, at least one.
    #[serde(default = "default_session_types")]
    pub allowed_session_types: BTreeSet<SessionType>,
    /// Order inside a priority band.
    #[serde(default)]
    pub scheduler: Option<Discipline>,
    /// Which agent is taken.
    #[serde(default)]
    pub agent_selection: Option<Selection>,
    /// See [`SchedulerSettings`].
    #[serde(default)]
    pub retries_to_skip: Option<u32>,
    /// How often a session whose start failed goes back to PENDING.
    #[serde(default)]
    pub creation_retries: Option<u32>,
    /// See [`SchedulerSettings`].
    #[serde(default)]
    pub pending_timeout_s: Option<u32>,
    /// Whether a request is refused that no present agent could hold.
    #[serde(default = "yes")]
    pub refuse_never_fits: bool,
    /// Whether sessions may name it.
    #[serde(default = "submits_open")]
    pub direct_submits: DirectSubmits,
    /// How long an agent may be silent before its sessions are given up, in seconds; 0 = for ever.
    pub declare_lost_s: u32,
    /// Where people reach applications; empty = through the coordinator. Has no effect yet.
    #[serde(default)]
    pub app_proxy_address: String,
    /// Id of the service account that serves it; empty = the coordinator, for each owner.
    #[serde(default)]
    pub service_account: String,
    /// Whether that account acts for owners, which it must be allowed to.
    #[serde(default = "yes")]
    pub use_owner: bool,
    /// What becomes of sessions whose device turns bad.
    #[serde(default = "fault_told")]
    pub on_device_fault: OnDeviceFault,
    /// How containers of a session that may be on several nodes reach each other.
    #[serde(default = "network_private")]
    pub cluster_network: ClusterNetwork,
    /// Whether containers may reach the coordinator's API. Has no effect yet.
    #[serde(default)]
    pub sessions_may_call_api: bool,
    /// Whether containers get cores of their own. Has no effect yet.
    #[serde(default)]
    pub pin_cpus: bool,
}

/// A node that has not confirmed for so many seconds that nothing of a final session is left will
/// hardly do so by itself: the longest grace and the time to remove are over by far.
pub(super) const RELEASING_ALARM_S: i64 = 900;
/// Most processes and threads of a container where no policy says otherwise.
pub(crate) const PIDS_MAX: u32 = 4096;

const fn main_rank() -> Rank {
    Rank::MAIN
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_main(rank: &Rank) -> bool {
    *rank == Rank::MAIN
}

const fn pids_default() -> u32 {
    PIDS_MAX
}

const fn submits_open() -> DirectSubmits {
    DirectSubmits::Open
}

const fn fault_told() -> OnDeviceFault {
    OnDeviceFault::Told
}

const fn network_private() -> ClusterNetwork {
    ClusterNetwork::Private
}

impl Group {
    /// A group with the default of every field.
    #[must_use]
    pub fn new(id: GroupId, name: &str) -> Self {
        Self {
            id,
            version: 1,
            name: name.to_owned(),
            description: String::new(),
            active: true,
            default: false,
            allowed: None,
            allowed_session_types: default_session_types(),
            scheduler: None,
            agent_selection: None,
            retries_to_skip: None,
            creation_retries: None,
            pending_timeout_s: None,
            refuse_never_fits: true,
            direct_submits: DirectSubmits::Open,
            declare_lost_s: 600,
            app_proxy_address: String::new(),
            service_account: String::new(),
            use_owner: true,
            on_device_fault: OnDeviceFault::Told,
            cluster_network: ClusterNetwork::Private,
            sessions_may_call_api: false,
            pin_cpus: false,
        }
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Counts changes a person can see, from 1.
    pub version: u64,
    /// Unique.
    pub name: String,
    /// Its resource group.
    pub group: GroupId,
    /// ALIVE, LOST, TERMINATED.
    pub state: AgentState,
    /// Whether it takes new work.
    pub schedulable: bool,
    /// Raised when its sessions are given up.
    pub fence: Fence,
    /// Number of its desired set.
    pub generation: Generation,
    /// SHA-256 of the public keys its certificates may have, newest first, at most two.
    pub keys: Vec<[u8; 32]>,
    /// Hash over machine id and container engine id.
    pub fingerprint: String,
    /// Hash over the machine id.
    pub machine: String,
    /// The kernel's id of the boot it last connected in; empty before it first did.
    pub boot_id: String,
    /// What it said it is; none until the first report. Large, and seldom another: kept
    /// apart from the rest wherever an agent is written.
    #[serde(skip)]
    pub inventory: Option<Arc<Inventory>>,
    /// Whether its container engine answers.
    pub runtime: RuntimeState,
    /// Whether its disk is too full for new work.
    pub disk_low: bool,
    /// When it joined.
    pub created_at: Timestamp,
    /// Since when it is LOST.
    pub lost_since: Option<Timestamp>,
    /// Since when the time until it is declared lost stands still, because it vanished with
    /// many others.
    #[serde(default)]
    pub braked_at: Option<Timestamp>,
    /// For how many milliseconds that time has stood still before, in this silence.
    #[serde(default)]
    pub braked_ms: i64,
    /// Containers on it that no order names, by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclaimed: Vec<Unclaimed>,
    /// It is to be empty at an instant.
    #[serde(default)]
    pub drain: Option<Box<Drain>>, // seldom there, and large
    /// Devices that people keep back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cordons: BTreeMap<DeviceId, DeviceCordon>,
    /// What it was told before of how long it may be silent, until it says that it knows better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
}

/// How long an agent may be silent was made another, and it may still go by what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The longest it was told since it last said what it knows, in seconds; 0 = for ever.
    pub declare_lost_s: u32,
    /// With this desired set it knows the present one.
    pub until: Generation,
}

/// That a node is to be empty at an instant, for which a person gave the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// What runs then is stopped; none = nothing is.
    #[serde(default)]
    pub deadline: Option<Timestamp>,
    /// For the people whose sessions are there; may be empty.
    pub message: String,
    /// Who ordered it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Whether the node took new work before: so it is again when this is undone.
    pub schedulable_before: bool,
    /// Sessions that were there when it was ordered.
    pub sessions: u32,
    /// At the deadline what was there was told to stop.
    #[serde(default)]
    pub over: bool,
    /// At the deadline what may be tried again waits for another place instead of ending.
    #[serde(default)]
    pub moves: bool,
}

impl Agent {
    /// When what is left on it has to be told to stop, if it is to be emptied.
    #[must_use]
    pub fn drain_due(&self) -> Option<Timestamp> {
        let drain = self.drain.as_ref().filter(|drain| !drain.over)?;
        let there = self.state != AgentState::Terminated;
        drain.deadline.filter(|_| there)
    }

    /// When what no order names on it and nobody has decided about has to be stopped. Not while it
    /// is away: then nobody could have looked at it.
    #[must_use]
    pub fn unclaimed_due(&self) -> Option<Timestamp> {
        let alive = self.state == AgentState::Alive;
        let all = self.unclaimed.iter().filter(|_| alive);
        all.filter_map(Unclaimed::due).min()
    }

    /// Conditions that stop placements, in the words of the API.
    #[must_use]
    pub fn conditions(&self) -> Vec<&'static str> {
        let mut conditions = Vec::new();
        match self.runtime {
            RuntimeState::Up => (),
            RuntimeState::Down => conditions.push("runtime-down"),
            RuntimeState::Hung => conditions.push("runtime-hung"),
        }
        if self.disk_low {
            conditions.push("disk-low");
        }
        if self.braked_at.is_some() {
            conditions.push("mass-loss");
        }
        conditions
    }
}

/// Lets nodes into the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The public part.
    pub id: String,
    /// SHA-256 of the secret part.
    pub secret_sha256: [u8; 32],
    /// Group of the nodes.
    pub group: GroupId,
    /// Name of the node, if it is fixed.
    pub agent_name: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be used.
    pub expires_at: Timestamp,
    /// How many nodes may join with it.
    pub max_uses: u32,
    /// Who joined: hash of the public key, the id given, when.
    pub joined: Vec<([u8; 32], AgentId, Timestamp)>,
    /// Who made it.
    pub created_by: UserId,
}

/// The answer a repeated request gets again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// Who called.
    pub caller: UserId,
    /// The key of the caller's choice.
    pub key: String,
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
    /// The session it made.
    pub session: SessionId,
    /// When.
    pub at: Timestamp,
}

/// What a person asked for. Large members that most have not are in boxes: a hundred thousand
/// may wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// `s-<n>`.
    pub id: SessionId,
    /// Counts stored changes from 1.
    pub version: u64,
    /// A name of the owner's choice.
    pub name: Option<String>,
    /// Whose it is.
    pub owner: UserId,
    /// The owner's name when it was submitted.
    pub owner_name: String,
    /// The service account that asked for it in the owner's name.
    #[serde(default)]
    pub submitted_by: Option<ServiceAccountId>,
    /// User number inside.
    pub uid: u32,
    /// The keypair it was asked with.
    pub access_key: String,
    /// Its resource group.
    pub group: GroupId,
    /// That group's name when it was submitted.
    pub group_name: String,
    /// The owner's domain.
    #[serde(default = "super::people::no_domain")]
    pub domain: DomainId,
    /// In which project.
    #[serde(default = "no_project")]
    pub project: ProjectId,
    /// That project's name when it was submitted.
    #[serde(default)]
    pub project_name: String,
    /// The queue it came through; its group is then that of the pool it was or could be dispatched to.
    #[serde(default)]
    pub queue: Option<Box<QueueSeat>>,
    /// What it is for.
    pub kind: SessionType,
    /// Image reference.
    pub image: String,
    /// Digest it was resolved to.
    pub image_digest: Option<String>,
    /// When its present attempt pulls it.
    #[serde(default)]
    pub pull: PullRule,
    /// Program and arguments; empty = the holder.
    pub command: Vec<String>,
    /// Directory the command starts in.
    pub workdir: Option<String>,
    /// Whether its process gets a terminal.
    pub tty: bool,
    /// Ports inside that its people may reach.
    #[serde(default)]
    pub ports: Vec<AppPort>,
    /// Environment as given.
    pub environment: BTreeMap<String, String>,
    /// Amounts of each container, where `rank_slots` does not say otherwise.
    pub slots: Slots,
    /// How many containers, and where they may be.
    #[serde(default)]
    pub cluster: Cluster,
    /// Processor architecture; absent = any.
    #[serde(default)]
    pub arch: Option<String>,
    /// Agents it was given by name.
    #[serde(default)]
    pub designated: Option<Designated>,
    /// Not placed before, by its owner.
    #[serde(default)]
    pub start_at: Option<Timestamp>,
    /// Held back by its owner.
    #[serde(default)]
    pub held: bool,
    /// When it is tried again by itself.
    #[serde(default)]
    pub restart: Restart,
    /// How often it was.
    #[serde(default)]
    pub restarts: u32,
    /// The present attempt was begun by a person who restarted it.
    #[serde(default)]
    pub restarted: bool,
    /// Attempts that are over, the newest ones.
    #[serde(default)]
    pub attempts: Vec<PastAttempt>,
    /// Sessions it waits for.
    #[serde(default)]
    pub depends_on: Vec<Dependency>,
    /// The tasks, if this is an array: then no container is ever made of this row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<Box<ArrayPlan>>,
    /// How many tasks its array has, if this is one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_of: Option<u32>,
    /// Tries it is counted to have had when it begins to wait; for scenarios.
    #[serde(default)]
    pub retries_given: Option<u32>,
    /// Size of `/dev/shm`.
    pub shm_bytes: i64,
    /// Most processes and threads of a container, as its policy said at the placement.
    #[serde(default = "pids_default")]
    pub pids_max: u32,
    /// Whether its processes run as root inside, as its policy said at the placement.
    #[serde(default)]
    pub root: bool,
    /// Whether its user may become root inside, as was said of its owner at the placement.
    #[serde(default)]
    pub sudo: bool,
    /// 0 to 100, higher goes first.
    pub priority: u8,
    /// Marks.
    pub labels: BTreeMap<String, String>,
    /// The signal its program wants before its lifetime or a drain stops it.
    #[serde(default)]
    pub signal_before: Option<SignalWish>,
    /// The attempt whose configuration was worked out last. Whatever asks for it later, it stays
    /// what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<Attempt>,
    /// The attempt whose delivery lies encrypted beside it, because more went into it than its
    /// request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Attempt>,
    /// Names the configuration that its present attempt got.
    #[serde(default)]
    pub config_hash: Option<String>,
    /// The vaults in it, and their versions.
    #[serde(default)]
    pub vaults: Vec<(VaultId, u64)>,
    /// Vaults that it started without, because they could not be opened.
    #[serde(default)]
    pub vaults_skipped: Vec<VaultId>,
    /// Its request gave it files or work keys; they lie encrypted beside it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given: bool,
    /// What its present attempt did not get of all it was given, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_given: Vec<String>,
    /// Variables whose values are hidden where this session is shown, beside those that always
    /// are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<String>,
    /// Lifetime in seconds, extensions not counted: the shorter one of what was asked for and what
    /// policies allow.
    pub lifetime_s: Option<i64>,
    /// The lifetime that was asked for, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_asked_s: Option<i64>,
    /// From when that counts, and what people added to it.
    #[serde(default)]
    pub life: Life,
    /// Time limit of the command in seconds.
    pub batch_timeout_s: Option<u32>,
    /// When it counts as unused: at submit from the policy of its keypair, else from the
    /// settings of the installation.
    pub idle: Option<IdlePolicy>,
    /// What was changed in the request.
    pub adjusted: Vec<Adjusted>,
    /// Where it stands.
    pub state: SessionState,
    /// While PREPARING: with what.
    pub phase: Option<Phase>,
    /// Its agent is LOST.
    pub unreachable: bool,
    /// RUNNING without output and use since a cycle of the watchdog saw it first.
    #[serde(default)]
    pub stalled_since: Option<Timestamp>,
    /// Final for long while a node has not confirmed: administrators were told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub releasing_told: bool,
    /// From 1.
    pub attempt: Attempt,
    /// The stop that was decided, if any. The first one wins.
    pub stop: Option<Box<Stop>>,
    /// The present attempt failed and is being taken back.
    pub failed: Option<Box<FailedStart>>,
    /// Failed starts that counted, so far.
    pub failed_starts: u32,
    /// Not placed before.
    pub not_before: Option<Timestamp>,
    /// Leading bits of the range that it found none of for its network: it waits until one is
    /// free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits_range: Option<u8>,
    /// Agents on which it failed, and until when they come last.
    pub penalties: Vec<(AgentId, Timestamp)>,
    /// Why it ended.
    pub reason: Option<Reason>,
    /// The same as a sentence.
    pub detail: Option<String>,
    /// How the command did.
    pub result: Option<ResultKind>,
    /// Of the main container's process.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last output of the main container, or of the one that decided its end.
    pub tail: Option<String>,
    /// Whose it is.
    #[serde(default = "main_rank", skip_serializing_if = "is_main")]
    pub tail_rank: Rank,
    /// Bytes of output before it, where the agent said so.
    #[serde(default)]
    pub tail_at: Option<u64>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it began to wait, anew after an attempt that ran.
    pub pending_since: Timestamp,
    /// When it got its place.
    pub placed_at: Option<Timestamp>,
    /// When the present attempt began to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When the present transient state is over at the latest.
    pub deadline: Option<Timestamp>,
    /// Containers of the present attempt, and of older ones until they are closed.
    pub containers: Vec<Container>,
    /// How containers reach each other, by attempt; of attempts that are over until their last
    /// container is closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<AttemptNetwork>,
    /// Lines of history so far.
    pub history_len: u64,
    /// Times and accelerator hours so far.
    #[serde(default)]
    pub spent: Spent,
    /// It was made again of what its containers say: a database that did not know it was put in
    /// the place of one that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Box<Adopted>>,
}

impl Session {
    /// When its life ends, if it is limited. None as well for a life that counts from a start
    /// that is still to come.
    #[must_use]
    pub fn lifetime_deadline(&self) -> Option<Timestamp> {
        let base = match self.life.base {
            LifetimeBase::Created => self.created_at,
            LifetimeBase::Started => self.life.began.or(self.started_at)?,
        };
        let base = self.life.new_user_until.map_or(base, |g| g.max(base));
        self.whole_life_s().map(|s| base.plus_s(s))
    }

    /// Seconds of its life with all extensions and what it was put off by, if it is limited.
    #[must_use]
    pub fn whole_life_s(&self) -> Option<i64> {
        let life = self.lifetime_s?;
        let more = self.life.extended_s.saturating_add(self.life.notice_s);
        Some(life.saturating_add(more))
    }

    /// The rules of idleness that are judged: by its agent, or of several containers by the
    /// coordinator, over all of them.
    #[must_use]
    pub const fn judged_idle(&self) -> Option<&IdlePolicy> {
        self.idle.as_ref()
    }

    /// Whether it waits for a place. An array does not: its tasks do.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.state == SessionState::Pending && self.array.is_none()
    }

    /// Whether it is an array of which tasks are still to be made.
    #[must_use]
    pub fn is_open_array(&self) -> bool {
        let plan = self.array.as_ref();
        !self.state.is_final() && self.stop.is_none() && plan.is_some_and(|p| p.unmade() > 0)
    }

    /// Final, and no node holds anything of it any more: memory may forget it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.state.is_final() && self.containers.iter().all(Container::is_closed)
    }

    /// Final in the books while a node has not confirmed yet.
    #[must_use]
    pub fn is_releasing(&self) -> bool {
        self.state.is_final() && !self.is_settled()
    }

    /// Containers of the present attempt.
    pub fn present(&self) -> impl Iterator<Item = &Container> {
        self.containers
            .iter()
            .filter(|c| c.key.attempt == self.attempt)
    }

    /// The instant at which the coordinator has to look at it again.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if self.array.is_some() {
            return None; // each of its tasks has its own
        }
        if self.state.is_final() {
            let waits = !self.releasing_told && !self.is_settled();
            let ended = self.ended_at.filter(|_| waits);
            return ended.map(|at| at.plus_s(RELEASING_ALARM_S));
        }
        // A running session's lifetime is its agent's business.
        let lifetime = match self.state {
            SessionState::Pending | SessionState::Scheduled | SessionState::Preparing => {
                self.lifetime_deadline()
            }
            _ => None,
        };
        // Until when it may not be placed is the scheduler's business.
        [self.deadline, lifetime].into_iter().flatten().min()
    }
}

pub(super) const fn no_project() -> ProjectId {
    ProjectId::new(0)
}

/// A signal that a program wants some time before it is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalWish {
    /// Name without `SIG`.
    pub signal: String,
    /// How many seconds before.
    pub lead_s: u32,
}

/// From when a lifetime counts, and what people added to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Life {
    /// From when `lifetime_s` counts: as the policy said at submit.
    pub base: LifetimeBase,
    /// When the attempt began that a person restarted: a life that counts from the start goes
    /// on through that. None = it was not restarted.
    pub began: Option<Timestamp>,
    /// Until then its owner was new when it was submitted: neither a lifetime nor a rule of
    /// idleness counts before.
    pub new_user_until: Option<Timestamp>,
    /// Seconds that all extensions added.
    pub extended_s: i64,
    /// How many there were.
    pub extensions: u32,
    /// Seconds by which its end was put off when a policy became stricter before it ran.
    pub notice_s: i64,
    /// The last `keep`.
    pub kept: Option<Keep>,
}

/// Somebody wanted a session kept although nobody uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// When.
    pub at: Timestamp,
    /// For how many seconds from then on.
    pub hold_s: u32,
    /// How many there were since use was last measured, this one included.
    pub in_a_row: u32,
}

impl Keep {
    /// Until when it holds the session.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        self.at.plus_s(self.hold_s as i64)
    }
}

/// How many containers a session has, and where they may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// 1 to 100.
    pub size: u16,
    /// On one agent or on several.
    pub mode: ClusterMode,
    /// Which of them run the command.
    #[serde(default)]
    pub run: ClusterRun,
    /// Amounts per rank where they differ; empty = all alike.
    #[serde(default)]
    pub ranks: Vec<Slots>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            size: 1,
            mode: ClusterMode::SingleNode,
            run: ClusterRun::Main,
            ranks: Vec::new(),
        }
    }
}

/// Agents that were named in the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Designated {
    /// Which.
    pub agents: BTreeSet<AgentId>,
    /// Only these, or these first.
    pub strict: bool,
    /// An administrator named them: agents that take no new work take this all the same.
    pub by_admin: bool,
}

/// A session that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Which.
    pub session: SessionId,
    /// What must have become of it.
    pub on: DependOn,
    /// It has.
    pub met: bool,
}

/// Through which queue a session came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSeat {
    /// Name of the queue.
    pub name: String,
    /// Name of the allocation policy.
    pub policy: String,
    /// Name of the profile.
    pub profile: String,
    /// What it counts for, in thousandths.
    pub allotment: i64,
    /// The pool it was dispatched to; absent while it waits.
    pub pool: Option<String>,
}

/// Memory of the container that has the least, in bytes. Where `ranks` have amounts of their own,
/// none has `slots`.
#[must_use]
pub(super) fn least_mem(slots: &Slots, ranks: &[Slots]) -> i64 {
    let least = ranks.iter().map(Slots::mem_bytes).min();
    least.unwrap_or_else(|| slots.mem_bytes())
}

impl Session {
    /// Amounts of one container.
    #[must_use]
    pub fn rank_slots(&self, rank: u16) -> &Slots {
        self.cluster
            .ranks
            .get(usize::from(rank))
            .unwrap_or(&self.slots)
    }

    /// Memory of the container that has the least, in bytes.
    #[must_use]
    pub fn least_mem(&self) -> i64 {
        least_mem(&self.slots, &self.cluster.ranks)
    }

    /// Amounts of all containers together.
    #[must_use]
    pub fn total_slots(&self) -> Slots {
        let mut total = Slots::new();
        for rank in 0..self.cluster.size {
            total.add(self.rank_slots(rank));
        }
        total
    }

    /// What of its amounts counts against the limits of its owner: of a system session its
    /// memory alone.
    #[must_use]
    pub fn limited_slots(&self) -> Slots {
        let mut slots = self.total_slots();
        if self.kind == SessionType::System {
            let mem = slots.mem_bytes();
            slots = Slots::new();
            slots.set(SlotName::mem(), mem);
        }
        slots
    }

    /// Whether every session it waits for has become what it must.
    #[must_use]
    pub fn dependencies_met(&self) -> bool {
        self.depends_on.iter().all(|d| d.met)
    }
}

/// Tries a waiting session and all like it have had: of one group, priority and shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// In which group.
    pub group: GroupId,
    /// Of which priority.
    pub priority: u8,
    /// What they have in common.
    pub shape: String,
    /// Tries so far.
    pub retries: u32,
    /// When the last one was counted.
    pub last_charged_at: Timestamp,
}

/// The agent last taken in turn for one group and architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// In which group.
    pub group: GroupId,
    /// For which architecture; empty = any.
    pub arch: String,
    /// Name of the agent.
    pub agent: String,
}

/// A member the coordinator changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjusted {
    /// Which.
    pub path: String,
    /// Before.
    pub from: Option<String>,
    /// After.
    pub to: String,
    /// Why.
    pub reason: String,
    /// What said so.
    #[serde(default)]
    pub source: Option<String>,
}

/// A decided stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Why.
    pub reason: Reason,
    /// In words, with names and numbers.
    pub detail: String,
    /// Seconds between signal and kill.
    pub grace_s: u32,
    /// Ended in the books at once.
    pub forced: bool,
    /// When it was decided.
    pub at: Timestamp,
}

/// Why an attempt did not come to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStart {
    /// Why.
    pub cause: Cause,
    /// In words.
    pub detail: String,
    /// Where.
    pub agent: AgentId,
}

/// One container of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name for ever.
    pub key: ContainerKey,
    /// Where it is placed.
    pub agent: AgentId,
    /// Granted amounts.
    pub slots: Slots,
    /// Granted devices.
    pub devices: Vec<DeviceGrant>,
    /// What is wanted of it.
    pub want: Want,
    /// The order to run was given: until it is closed, it may run.
    pub told_to_run: bool,
    /// Its agent has applied a set in which it stands.
    #[serde(default)]
    pub acknowledged: bool,
    /// Where it stands, by its agent.
    pub state: ContainerState,
    /// Docker's id, first 12 characters.
    pub docker_id: String,
    /// Under which fence it was placed.
    pub fence: Fence,
    /// The set of its agent in which it first stood.
    pub first_generation: Generation,
    /// How it ended.
    pub end: Option<End>,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// Figures of its life.
    pub totals: Totals,
    /// Its claims were handed on to the next attempt, which got its place.
    #[serde(default)]
    pub handed_on: bool,
    /// Those of its devices.
    #[serde(default)]
    pub used: Vec<DeviceUse>,
    /// What its image really is, by its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ExactImage>,
}

impl Container {
    /// The agent confirmed that nothing is left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == ContainerState::Closed
    }

    /// Whether its process may run: it was told to, and nobody has said that it ended or that
    /// it never will again.
    #[must_use]
    pub fn may_run(&self) -> bool {
        self.told_to_run
            && self.end.is_none()
            && !matches!(self.state, ContainerState::Closed | ContainerState::Lost)
    }

    /// Its process ended, or it never was more than a plan.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(
            self.state,
            ContainerState::Exited | ContainerState::Closed | ContainerState::Lost
        )
    }
}

/// The claim of one container on an amount of one slot, of one device if the slot has devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// Whose claim.
    pub key: ContainerKey,
    /// Where.
    pub agent: AgentId,
    /// On what.
    pub slot: SlotName,
    /// On which device.
    pub device: Option<DeviceId>,
    /// How much: thousandths, or bytes for memory.
    pub amount: i64,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it stopped counting against the owner.
    pub quota_freed_at: Option<Timestamp>,
}

/// One change of a session's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Whose.
    pub session: SessionId,
    /// From 1.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// State before; none in the first line.
    pub from: Option<SessionState>,
    /// State after.
    pub to: SessionState,
    /// Why.
    pub reason: Option<Reason>,
    /// In words.
    pub detail: Option<String>,
    /// Which user, agent or rule.
    pub by: String,
    /// In which attempt.
    pub attempt: Attempt,
}

/// An administrator reached into a session of somebody else; told to its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Into which.
    pub session: SessionId,
    /// Behind which line of its history.
    pub after: u64,
    /// When.
    pub at: Timestamp,
    /// Who, as history names people.
    pub by: String,
    /// By what: `logs`.
    pub what: String,
}
