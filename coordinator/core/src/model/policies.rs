//! Who may use how much: domains, projects, policies, presets, and the settings of
//! resource groups. All of them are data; who asks them is the scheduler and submit.

use longshore_common::amount::{SlotLimits, SlotName, Slots};
use longshore_common::ids::{DomainId, PolicyId, PresetId, ProjectId, UserId};
use longshore_common::limits::{IdlePolicy, WARN_S, Work};
use longshore_common::network::{Ipv4Addr, Subnet};
use longshore_common::session::{PullRule, SessionType, words};
use longshore_common::time::Timestamp;
use longshore_identity::Secret;
use longshore_identity::throttle::Limits;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

words! {
    /// Order of waiting sessions inside a priority band.
    Discipline {
        /// Oldest first.
        Fifo = "fifo",
        /// Newest first.
        Lifo = "lifo",
        /// Whoever has the smallest dominant share first (Ghodsi et al., NSDI 2011).
        Drf = "drf",
    }
}

words! {
    /// Which agent is taken of those that could.
    Selection {
        /// The fullest.
        Concentrated = "concentrated",
        /// The emptiest.
        Dispersed = "dispersed",
        /// Each in turn.
        RoundRobin = "round-robin",
    }
}

words! {
    /// Whether sessions may be submitted to a group itself.
    DirectSubmits {
        /// Yes.
        Open = "open",
        /// Only through queues.
        Closed = "closed",
    }
}

words! {
    /// What becomes of sessions whose device turns bad.
    OnDeviceFault {
        /// Their owner is told.
        Told = "told",
        /// They are stopped.
        Stop = "stop",
    }
}

words! {
    /// How containers of a session that may be on several nodes reach each other.
    ClusterNetwork {
        /// Through a network of their own.
        Private = "private",
        /// Through the network of their nodes.
        Host = "host",
    }
}

words! {
    /// What a slot may have that a policy does not name.
    Unspecified {
        /// As much as there is.
        Unlimited = "unlimited",
        /// None.
        Limited = "limited",
    }
}

words! {
    /// From when a lifetime counts.
    #[derive(Default)]
    LifetimeBase {
        /// From the submit.
        #[default]
        Created = "created",
        /// From the start.
        Started = "started",
    }
}

/// Defaults of every resource group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerSettings {
    /// Order inside a priority band.
    pub scheduler: Discipline,
    /// Which agent is taken.
    pub agent_selection: Selection,
    /// How often the head is tried before others pass it; 0 = they never do.
    pub retries_to_skip: u32,
    /// A head is charged at most one try per so many seconds; also the wait after a failed start.
    pub interval_s: u32,
    /// How often a session whose start failed goes back to PENDING.
    pub creation_retries: u32,
    /// A session PENDING for longer is cancelled, in seconds; 0 = never.
    pub pending_timeout_s: u32,
    /// When sessions of those keypairs count as unused whose policy says nothing.
    #[serde(default)]
    pub idle: Option<IdlePolicy>,
    /// What policies say nothing about of the length of a life.
    #[serde(default)]
    pub lives: LifeSettings,
    /// When an image is pulled.
    #[serde(default)]
    pub pull: PullRule,
    /// Networks of sessions of several containers.
    #[serde(default)]
    pub network: NetworkSettings,
    /// T2 of groups that are made without one, in seconds: 0 = never, else at least 120.
    #[serde(default = "declare_lost_s")]
    pub declare_lost_s: u32,
}

/// T2 of groups unless the configuration says another one, in seconds.
const fn declare_lost_s() -> u32 {
    600
}

/// What networks of sessions of several containers are made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSettings {
    /// Largest packet between nodes, in bytes, 576 to 9,000.
    pub overlay_mtu: u32,
    /// Where their ranges are cut from.
    pub overlay_pool: Subnet,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            overlay_mtu: 1450,
            // Beside the range of which agents make networks on one node.
            overlay_pool: Subnet {
                base: Ipv4Addr::new(10, 214, 0, 0),
                prefix: 16,
            },
        }
    }
}

/// How long sessions live, where no policy says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifeSettings {
    /// How often a lifetime may be extended, 0 to 100.
    pub extend_max: u32,
    /// By how much at once, in seconds, 1 to 604,800.
    pub extend_step_s: i64,
    /// So many seconds after a person was made neither a lifetime nor a rule of idleness counts
    /// for its sessions; 0 = from the beginning.
    pub new_user_grace_s: i64,
    /// Seconds between the stop signal and the kill where nobody says, 0 to 600.
    pub stop_grace_s: u32,
    /// How many seconds before the end of a lifetime, or of a drain of its node, the user of a
    /// session is warned, longest first.
    pub warn_before_s: Vec<u32>,
    /// Above which figures a session counts as doing something.
    pub work: Work,
}

impl Default for LifeSettings {
    fn default() -> Self {
        Self {
            extend_max: 3,
            extend_step_s: 14_400,
            new_user_grace_s: 0,
            stop_grace_s: 30,
            warn_before_s: WARN_S.to_vec(),
            work: Work::default(),
        }
    }
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            scheduler: Discipline::Fifo,
            agent_selection: Selection::Concentrated,
            retries_to_skip: 3,
            interval_s: 10,
            creation_retries: 3,
            pending_timeout_s: 0,
            idle: None,
            lives: LifeSettings::default(),
            pull: PullRule::default(),
            network: NetworkSettings::default(),
            declare_lost_s: declare_lost_s(),
        }
    }
}

/// What the configuration says about people; in force from each start on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PeopleSettings {
    /// Service accounts that are `admin` act as administrators of their domain.
    pub service_account_admins: bool,
    /// How many logins may fail.
    pub throttle: Limits,
    /// Nobody but the fixed users logs in by a password.
    pub fixed_users_only: bool,
    /// Those whose passwords stand in the configuration.
    pub fixed_users: BTreeSet<UserId>,
}

/// Settings that administrators stored: they stand over the files of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSettings {
    /// Counts the changes, from 1.
    pub version: u64,
    /// By dotted key, as they were given. No secrets.
    pub values: BTreeMap<String, serde_json::Value>,
    /// Those that are secret. They are stored apart from the others, encrypted.
    #[serde(skip)]
    pub secrets: BTreeMap<String, SettingSecret>,
}

/// A stored setting that is secret.
#[derive(Debug, Clone)]
pub enum SettingSecret {
    /// As JSON.
    Open(Secret),
    /// It cannot be read, and why: a sentence. It stays as it is.
    Shut(String),
}

impl PartialEq for SettingSecret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Open(one), Self::Open(other)) => one.expose() == other.expose(),
            (Self::Shut(one), Self::Shut(other)) => one == other,
            (Self::Open(_), Self::Shut(_)) | (Self::Shut(_), Self::Open(_)) => false,
        }
    }
}

impl Eq for SettingSecret {}

impl StoredSettings {
    /// All that can be read, secrets in the clear.
    #[must_use]
    pub fn open(&self) -> BTreeMap<String, serde_json::Value> {
        let secrets = self.secrets.iter().filter_map(|(key, secret)| {
            let SettingSecret::Open(text) = secret else {
                return None;
            };
            let value = serde_json::from_str(text.expose()).ok()?;
            Some((key.clone(), value))
        });
        let mut all = self.values.clone();
        all.extend(secrets);
        all
    }

    /// The keys of those that cannot be read.
    #[must_use]
    pub fn shut(&self) -> Vec<&str> {
        let shut = |secret: &SettingSecret| matches!(secret, SettingSecret::Shut(_));
        let secrets = self.secrets.iter().filter(|(_, secret)| shut(secret));
        secrets.map(|(key, _)| key.as_str()).collect()
    }
}

impl Default for StoredSettings {
    fn default() -> Self {
        Self {
            version: 1,
            values: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }
}

/// Who may use a resource group: any of the three is enough.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Allowed {
    /// Domains by name.
    pub domains: BTreeSet<String>,
    /// Projects by name.
    pub projects: BTreeSet<String>,
    /// Keypairs by access key.
    pub keypairs: BTreeSet<String>,
}

/// What a resource group takes when it names none.
#[must_use]
pub fn default_session_types() -> BTreeSet<SessionType> {
    BTreeSet::from([
        SessionType::Interactive,
        SessionType::Batch,
        SessionType::Inference,
    ])
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// Its id.
    pub id: DomainId,
    /// Counts changes from 1.
    pub version: u64,
    /// Unique without regard to case; never changes.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether its people may submit.
    pub active: bool,
    /// What it may hold at once; slots not named are not limited.
    pub total_slots: SlotLimits,
    /// When it was made.
    pub created_at: Timestamp,
}

/// People who share limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Counts changes from 1.
    pub version: u64,
    /// Unique in its domain without regard to case; never changes.
    pub name: String,
    /// Where it belongs.
    pub domain: DomainId,
    /// For people.
    pub description: String,
    /// Whether sessions may be submitted in it.
    pub active: bool,
    /// Name of its project policy.
    pub policy: String,
    /// What it may hold at once; slots not named are not limited.
    pub total_slots: SlotLimits,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Limits of a keypair; that of the main keypair limits its user as a whole.
/// An absent value is no limit unless its field says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeypairPolicy {
    /// Its id.
    pub id: PolicyId,
    /// Counts changes from 1.
    pub version: u64,
    /// Unique without regard to case; never changes.
    pub name: String,
    /// For people, at most 500 characters.
    pub description: String,
    /// What may be held at once.
    pub total_slots: SlotLimits,
    /// What slots may have that `total_slots` does not name.
    pub default_for_unspecified: Unspecified,
    /// Sessions at once from SCHEDULED to RUNNING, system ones not counted; 1 to 100.
    pub max_concurrent_sessions: Option<u32>,
    /// System sessions at once; 1 to 100.
    pub max_concurrent_sftp_sessions: Option<u32>,
    /// Containers of one session, 1 to 100; absent = 100.
    pub max_containers_per_session: Option<u32>,
    /// Sessions waiting at once; 1 to 100,000.
    pub max_pending_session_count: Option<u32>,
    /// What waiting sessions may ask for in all; slots not named are not limited.
    pub max_pending_session_slots: SlotLimits,
    /// Highest priority that may be asked for, 0 to 100; absent = 100.
    pub max_priority: Option<u8>,
    /// Longest life of a session in seconds from its submit.
    pub max_session_lifetime_s: Option<i64>,
    /// From when it counts, for what is submitted from then on.
    pub lifetime_base: LifetimeBase,
    /// How often a lifetime may be extended, 0 to 100; absent = as the installation says.
    pub extension_max_count: Option<u32>,
    /// By how much at once, in seconds; absent = as the installation says.
    pub extension_max_s: Option<i64>,
    /// Longest life with all extensions, in seconds.
    pub max_total_lifetime_s: Option<i64>,
    /// After how long without use a session is stopped, in seconds, for what is submitted
    /// from then on; absent = the rules of the installation.
    pub idle_timeout_s: Option<i64>,
    /// The other rules of idleness; they hold with `idle_timeout_s` only.
    pub idle: Option<IdlePolicy>,
    /// Largest `/dev/shm` in bytes.
    pub max_shm: Option<i64>,
    /// Processes in one container; absent = 4096.
    pub max_pids: Option<u32>,
    /// Whether the first process may be root.
    pub root_in_container: bool,
    /// Volumes with the permissions granted on them. Has no effect yet.
    #[serde(default)]
    pub allowed_hosts: BTreeMap<String, BTreeSet<String>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl KeypairPolicy {
    /// A policy with the default of every field.
    #[must_use]
    pub fn new(id: PolicyId, name: &str, now: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            name: name.to_owned(),
            description: String::new(),
            total_slots: SlotLimits::new(),
            default_for_unspecified: Unspecified::Unlimited,
            max_concurrent_sessions: None,
            max_concurrent_sftp_sessions: Some(1),
            max_containers_per_session: None,
            max_pending_session_count: None,
            max_pending_session_slots: SlotLimits::new(),
            max_priority: None,
            max_session_lifetime_s: None,
            lifetime_base: LifetimeBase::Created,
            extension_max_count: None,
            extension_max_s: None,
            max_total_lifetime_s: None,
            idle_timeout_s: None,
            idle: None,
            max_shm: None,
            max_pids: None,
            root_in_container: false,
            allowed_hosts: BTreeMap::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// The most of a slot that may be held at once; none = no limit.
    #[must_use]
    pub fn limit(&self, slot: &SlotName) -> Option<i64> {
        match (self.total_slots.get(slot), self.default_for_unspecified) {
            (Some(limit), _) => limit,
            (None, Unspecified::Unlimited) => None,
            (None, Unspecified::Limited) => Some(0),
        }
    }
}

/// Limits on what a user keeps. None has an effect yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPolicy {
    /// Its id.
    pub id: PolicyId,
    /// Counts changes from 1.
    pub version: u64,
    /// Unique without regard to case; never changes.
    pub name: String,
    /// For people, at most 500 characters.
    pub description: String,
    /// Folders of one's own; 1 to 100,000.
    pub max_folder_count: Option<u32>,
    /// Bytes in folders of one's own, up to 1 PiB.
    pub max_folder_size: Option<i64>,
    /// Replicas of one service; 1 to 1,000.
    pub max_session_count_per_model_service: Option<u32>,
    /// Images made from sessions; 0 to 1,000.
    pub max_customized_image_count: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl UserPolicy {
    /// A policy with the default of every field.
    #[must_use]
    pub fn new(id: PolicyId, name: &str, now: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            name: name.to_owned(),
            description: String::new(),
            max_folder_count: None,
            max_folder_size: None,
            max_session_count_per_model_service: Some(10),
            max_customized_image_count: Some(3),
            created_at: now,
            updated_at: now,
        }
    }
}

/// Limits on what a project keeps. None has an effect yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectPolicy {
    /// Its id.
    pub id: PolicyId,
    /// Counts changes from 1.
    pub version: u64,
    /// Unique without regard to case; never changes.
    pub name: String,
    /// For people, at most 500 characters.
    pub description: String,
    /// Project folders; 1 to 100,000.
    pub max_folder_count: Option<u32>,
    /// Bytes in project folders, up to 1 PiB.
    pub max_folder_size: Option<i64>,
    /// Networks of the project; 0 to 1,000.
    pub max_network_count: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl ProjectPolicy {
    /// A policy with the default of every field.
    #[must_use]
    pub fn new(id: PolicyId, name: &str, now: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            name: name.to_owned(),
            description: String::new(),
            max_folder_count: None,
            max_folder_size: None,
            max_network_count: Some(3),
            created_at: now,
            updated_at: now,
        }
    }
}

/// Slots under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preset {
    /// Its id.
    pub id: PresetId,
    /// Counts changes from 1.
    pub version: u64,
    /// Unique without regard to case; never changes.
    pub name: String,
    /// For people.
    pub description: String,
    /// Name of the only resource group it is for; absent = every group.
    pub group: Option<String>,
    /// Amounts.
    pub slots: Slots,
    /// Size of `/dev/shm` in bytes; absent = the default.
    pub shm_bytes: Option<i64>,
    /// When it was made.
    pub created_at: Timestamp,
}
