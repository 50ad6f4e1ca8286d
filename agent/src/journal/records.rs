//! What the journal holds: records as they are written, and what they add up to. Pure.

use crate::devices::stuck::KeptBack;
use longshore_common::ids::{
    AgentId, ClusterId, ContainerKey, CoordinatorGeneration, Fence, InstanceId,
};
use longshore_common::judge::{KeptHistory, WarnState};
use longshore_common::session::Reason;
use longshore_common::wire::{DeviceUse, Outcome, OutcomeNumber, SignedSet, Totals};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far a key has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// About to be created.
    Intent,
    /// Created; never started by us.
    Created,
    /// About to be started, or started.
    Start,
}

/// What the journal knows of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// How far it has come; none when it was refused.
    pub stage: Option<Stage>,
    /// The boot in which that stage was reached.
    pub boot_id: String,
    /// The fence under which it was accepted.
    pub fence: Fence,
    /// Docker's full id, once there is one.
    pub docker_id: String,
    /// A limit of the agent's own ended it: this is the reason.
    pub local_stop: Option<Reason>,
    /// Milliseconds on the boot clock at which its lifetime ends, in the boot of `boot_id`.
    pub lifetime_boot_ms: Option<i64>,
    /// How it ended, until acknowledged.
    pub ended: Option<Outcome>,
    /// That nothing is left of it, until acknowledged.
    pub closed: Option<Outcome>,
    /// `ended` was acknowledged.
    pub ended_acked: bool,
}

impl KeyRecord {
    pub(super) fn new(fence: Fence, boot_id: &str) -> Self {
        Self {
            stage: None,
            boot_id: boot_id.to_owned(),
            fence,
            docker_id: String::new(),
            local_stop: None,
            lifetime_boot_ms: None,
            ended: None,
            closed: None,
            ended_acked: false,
        }
    }
}

/// Everything the journal says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// Highest coordinator obeyed.
    pub coordinator: Option<(CoordinatorGeneration, InstanceId)>,
    /// The set that is applied.
    pub set: Option<SignedSet>,
    /// When that set came, in milliseconds on the boot clock of a boot.
    pub arrived: Option<(String, i64)>,
    /// The fence held.
    pub fence: Fence,
    /// Per key.
    pub keys: BTreeMap<ContainerKey, KeyRecord>,
    /// What was seen of its process since its start.
    pub seen: BTreeMap<ContainerKey, Seen>,
    /// Of which end its program got the signal it wants before, in milliseconds on the boot
    /// clock of a boot.
    pub signalled: BTreeMap<ContainerKey, (String, i64)>,
    /// What it used.
    pub sums: BTreeMap<ContainerKey, Sums>,
    /// How it was used lately, and what was warned of, as long as it runs.
    pub idle: BTreeMap<ContainerKey, Idle>,
    /// Devices that are kept back because of containers that do not end.
    pub stuck: KeptBack,
}

/// What verdicts about a running container rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    /// The boot whose clock its instants are of.
    pub boot_id: String,
    /// When its process was started, in milliseconds on that clock: where its graces begin.
    pub started_boot_ms: i64,
    /// How it was used.
    pub history: KeptHistory,
    /// Which warnings were given.
    pub warned: WarnState,
}

/// What a container used until some instant: nothing else counts what its devices did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// All of it.
    pub totals: Totals,
    /// By device.
    pub devices: Vec<DeviceUse>,
}

/// What an agent that follows on this one could not learn from the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// What it got was compared with its grant, and passed.
    pub checked: bool,
    /// When somebody last used it, in milliseconds on the boot clock of `boot_id`.
    pub used_boot_ms: Option<i64>,
    /// The boot in which that was.
    pub boot_id: String,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Whose journal it is; the first record.
    Owner {
        /// Which cluster.
        cluster: ClusterId,
        /// Which agent.
        agent: AgentId,
    },
    /// A coordinator was obeyed.
    Coordinator(CoordinatorGeneration, InstanceId),
    /// A set was applied.
    Set(SignedSet, Fence),
    /// A key is about to be created.
    Intent {
        /// Which.
        key: ContainerKey,
        /// Under which fence.
        fence: Fence,
        /// In which boot.
        boot_id: String,
        /// When its life ends, on the boot clock.
        lifetime_boot_ms: Option<i64>,
    },
    /// The engine created it.
    Created {
        /// Which.
        key: ContainerKey,
        /// Docker's id.
        docker_id: String,
    },
    /// It is about to be started.
    Start {
        /// Which.
        key: ContainerKey,
        /// In which boot.
        boot_id: String,
    },
    /// A limit of the agent's own ends it.
    LocalStop(ContainerKey, Reason),
    /// Its life ends at another time.
    Lifetime(ContainerKey, Option<i64>, String),
    /// It ended, or its order was refused.
    Ended(Box<Outcome>, Fence, String),
    /// Nothing is left of it.
    Closed(Box<Outcome>, Fence, String),
    /// The coordinator has stored an outcome.
    Acked(ContainerKey, OutcomeNumber),
    /// A whole key, in a rewritten file.
    Key(ContainerKey, Box<KeyRecord>),
    /// What was seen of its process.
    Seen(ContainerKey, Seen),
    /// When the set that was applied last came: a boot, and milliseconds on its clock.
    Arrived(String, i64),
    /// Its program got the signal it wants before an end: the boot, and that end on its clock.
    Signalled(ContainerKey, String, i64),
    /// What it used so far.
    Sums(ContainerKey, Box<Sums>),
    /// How it was used lately, and what was warned of.
    Idle(ContainerKey, Box<Idle>),
    /// All devices that are kept back because of containers that do not end.
    Stuck(KeptBack),
}

impl Contents {
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Owner { .. } => (),
            Record::Coordinator(generation, instance) => {
                self.coordinator = Some((generation, instance));
            }
            Record::Set(set, fence) => {
                self.set = Some(set);
                self.arrived = None;
                self.fence = fence;
            }
            Record::Intent {
                key,
                fence,
                boot_id,
                lifetime_boot_ms,
            } => {
                let entry = self
                    .keys
                    .entry(key)
                    .or_insert_with(|| KeyRecord::new(fence, &boot_id));
                entry.stage = Some(Stage::Intent);
                entry.boot_id = boot_id;
                entry.lifetime_boot_ms = lifetime_boot_ms;
            }
            Record::Created { key, docker_id } => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.stage = Some(Stage::Created);
                    entry.docker_id = docker_id;
                }
            }
            Record::Start { key, boot_id } => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.stage = Some(Stage::Start);
                    entry.boot_id = boot_id;
                }
            }
            Record::LocalStop(key, reason) => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.local_stop = Some(reason);
                }
            }
            Record::Lifetime(key, at, boot_id) => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.lifetime_boot_ms = at;
                    entry.boot_id = boot_id;
                }
            }
            Record::Ended(outcome, fence, boot_id) => {
                let key = outcome.key;
                let entry = self
                    .keys
                    .entry(key)
                    .or_insert_with(|| KeyRecord::new(fence, &boot_id));
                entry.ended = Some(*outcome);
                self.idle.remove(&key);
            }
            Record::Closed(outcome, fence, boot_id) => {
                let key = outcome.key;
                let entry = self
                    .keys
                    .entry(key)
                    .or_insert_with(|| KeyRecord::new(fence, &boot_id));
                entry.closed = Some(*outcome);
            }
            Record::Acked(key, OutcomeNumber::Ended) => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.ended_acked = true;
                }
            }
            Record::Seen(key, seen) => {
                self.seen.insert(key, seen);
            }
            Record::Acked(key, OutcomeNumber::Closed) => {
                self.keys.remove(&key);
                self.seen.remove(&key);
                self.signalled.remove(&key);
                self.sums.remove(&key);
                self.idle.remove(&key);
            }
            Record::Idle(key, idle) => {
                self.idle.insert(key, *idle);
            }
            Record::Stuck(kept) => self.stuck = kept,
            Record::Sums(key, sums) => {
                self.sums.insert(key, *sums);
            }
            Record::Arrived(boot_id, at_ms) => self.arrived = Some((boot_id, at_ms)),
            Record::Signalled(key, boot_id, end_ms) => {
                self.signalled.insert(key, (boot_id, end_ms));
            }
            Record::Key(key, entry) => {
                self.keys.insert(key, *entry);
            }
        }
    }
}
