//! What a scenario file holds. Every member that is not listed is refused.

use longshore_common::amount::{SlotName, parse_milli};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// A text, or a number read through its shortest decimal form: 0.1 is exactly "0.1".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text")
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Text, E> {
                Ok(Text(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Amounts per slot.
pub type Amounts = BTreeMap<String, Text>;

/// Seconds, down to a thousandth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Seconds {
    /// In milliseconds.
    pub ms: i64,
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// A text that is no number of seconds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no time: seconds, with at most three places behind the point")]
pub struct NoTime(String);

impl FromStr for Seconds {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        seconds(text).ok_or_else(|| NoTime(text.to_owned()))
    }
}

/// Reads `12`, `0.5`, `-3`.
fn seconds(text: &str) -> Option<Seconds> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let part = part.trim_end_matches('0');
    let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 12 || part.len() > 3 || !number(whole) || !number(part) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let part: i64 = format!("{part:0<3}").parse().ok()?;
    Some(Seconds {
        ms: sign * (whole * 1000 + part),
    })
}

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The instant of second 0 (RFC 3339).
    pub start: Option<String>,
    /// When the run stops.
    pub until: Option<Seconds>,
    /// Settings of the installation.
    pub settings: Settings,
    /// Groups; absent = one named `default`.
    pub resource_groups: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
    /// Agents.
    pub agents: Vec<Agent>,
    /// Keypair policies, with the members of a keypair policy.
    pub keypair_policies: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Projects.
    pub projects: Vec<Tenant>,
    /// Domains.
    pub domains: Vec<Tenant>,
    /// People; who is not listed exists with defaults.
    pub users: Vec<User>,
    /// Pools.
    pub pools: Vec<Pool>,
    /// Profiles.
    pub profiles: Vec<Profile>,
    /// Allocation policies.
    pub allocation_policies: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Sessions that run before second 0.
    pub running: Vec<Running>,
    /// What happens.
    pub events: Vec<Event>,
}

/// Settings of the installation.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Defaults of groups.
    pub scheduler: Scheduler,
    /// Pools.
    pub pools: Pools,
    /// Rules of idleness.
    pub idle: Idle,
    /// The simulation's own.
    pub simulation: Simulation,
}

/// Defaults of groups.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scheduler {
    /// See the settings of the same name.
    pub scheduler: Option<String>,
    /// See the settings of the same name.
    pub agent_selection: Option<String>,
    /// See the settings of the same name.
    pub retries_to_skip: Option<i64>,
    /// See the settings of the same name.
    pub interval_s: Option<i64>,
    /// See the settings of the same name.
    pub creation_retries: Option<i64>,
    /// See the settings of the same name.
    pub pending_timeout_s: Option<i64>,
}

/// Pools as a whole.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pools {
    /// Whether queues are served.
    pub enabled: Option<bool>,
}

/// Rules of idleness.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Idle {
    /// Not judged before a new user's account is this old, in seconds.
    pub new_user_grace_s: Option<Seconds>,
}

/// The simulation's own settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Simulation {
    /// From TERMINATED until the agent confirms that the containers are gone.
    pub removal_s: Seconds,
}

/// A node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: Option<String>,
    /// Its processor.
    pub arch: Option<String>,
    /// What it has.
    pub slots: Amounts,
    /// Its devices, where they are listed.
    pub devices: Vec<Device>,
    /// Whether it takes new work.
    pub schedulable: Option<bool>,
    /// Most containers; 0 = no cap.
    pub max_containers: u32,
    /// How it divides devices.
    pub allocation: Allocation,
}

/// A device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its slot.
    pub slot: String,
    /// Its id.
    pub id: String,
    /// How much of the slot it is.
    #[serde(default)]
    pub amount: Option<Text>,
    /// Its memory node.
    #[serde(default)]
    pub numa: Option<u32>,
    /// Devices joined to it.
    #[serde(default)]
    pub links: Vec<String>,
}

/// How an agent divides devices.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allocation {
    /// `fill` or `even`.
    pub strategy: Option<String>,
    /// The smallest part.
    pub quantum: Option<Text>,
    /// Whether an amount may be spread over more devices than it needs.
    pub fragmentation: Option<bool>,
    /// `interleaved` or `prefer-single-node`.
    pub affinity: Option<String>,
}

/// A project or a domain.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// What it may hold.
    pub total_slots: Amounts,
    /// A project's domain.
    pub domain: Option<String>,
}

/// A person.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Policy of the keypairs that name none.
    pub policy: Option<String>,
    /// Project of its sessions.
    pub project: Option<String>,
    /// Its domain.
    pub domain: Option<String>,
    /// Weight in fair shares.
    pub weight: Option<Text>,
    /// Keypairs; absent = one.
    pub keypairs: Vec<Keypair>,
    /// Seconds; when the account was made.
    pub created_at: Option<Seconds>,
}

/// A keypair.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keypair {
    /// Its name.
    pub name: String,
    /// Its policy.
    pub policy: Option<String>,
    /// Whether its policy limits the user as a whole.
    pub main: bool,
}

/// A pool.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// The group behind it.
    pub group: String,
    /// How much there is.
    pub count: Option<Text>,
    /// `gpu` or a slot.
    pub counts: Option<String>,
    /// Order of its profiles.
    pub profiles: Option<Vec<String>>,
}

/// A profile.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What one job gets.
    pub slots: Amounts,
    /// What one job counts for.
    pub allotment: Option<Text>,
    /// Linked pools in order.
    pub pools: Vec<String>,
    /// Order of its policies.
    pub policies: Option<Vec<String>>,
}

/// An allocation policy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AllocationPolicy {
    /// Its name.
    pub name: String,
    /// Who may use it; absent = everybody.
    pub users: Option<BTreeSet<String>>,
    /// What is kept for it.
    pub reservation: Option<Text>,
    /// The most it may use.
    pub limit: Option<Text>,
    /// Profiles it may use.
    pub profiles: Vec<PolicyProfile>,
    /// Sessions waiting longer are cancelled.
    pub pending_timeout_s: Option<u32>,
}

/// A profile of a policy, with the name of the queue.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum PolicyProfile {
    /// The queue is called `policy/profile`.
    Name(String),
    /// The queue has a name of its own.
    Full {
        /// Which.
        profile: String,
        /// What the queue is called.
        #[serde(default)]
        queue: Option<String>,
    },
}

/// A resource group.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Whether it takes sessions.
    pub active: Option<bool>,
    /// First choice.
    pub default: Option<bool>,
    /// Who may use it.
    pub allowed: Option<Allowed>,
    /// What it takes.
    pub allowed_session_types: Option<BTreeSet<String>>,
    /// See the fields of a resource group.
    pub scheduler: Option<String>,
    /// See the fields of a resource group.
    pub agent_selection: Option<String>,
    /// See the fields of a resource group.
    pub retries_to_skip: Option<i64>,
    /// See the fields of a resource group.
    pub creation_retries: Option<i64>,
    /// See the fields of a resource group.
    pub pending_timeout_s: Option<i64>,
    /// See the fields of a resource group.
    pub refuse_never_fits: Option<bool>,
    /// See the fields of a resource group.
    pub direct_submits: Option<String>,
    /// See the fields of a resource group.
    pub declare_lost_s: Option<u32>,
    /// No effect here.
    pub app_proxy_address: Option<String>,
    /// No effect here.
    pub service_account: Option<String>,
    /// No effect here.
    pub use_owner: Option<bool>,
    /// No effect here.
    pub on_device_fault: Option<String>,
    /// No effect here.
    pub cluster_network: Option<String>,
    /// No effect here.
    pub sessions_may_call_api: Option<bool>,
    /// No effect here.
    pub pin_cpus: Option<bool>,
}

/// Who may use a group.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allowed {
    /// By name.
    pub domains: BTreeSet<String>,
    /// By name.
    pub projects: BTreeSet<String>,
    /// By name.
    pub keypairs: BTreeSet<String>,
}

/// A member that is there: `null` differs from a member that is not.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A keypair policy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeypairPolicy {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// What may be held at once.
    pub total_slots: Option<BTreeMap<String, Option<Text>>>,
    /// `unlimited` or `limited`.
    pub default_for_unspecified: Option<String>,
    /// See the fields of a keypair policy.
    pub max_concurrent_sessions: Option<u32>,
    /// See the fields of a keypair policy.
    #[serde(deserialize_with = "given")]
    pub max_concurrent_sftp_sessions: Option<Option<u32>>,
    /// See the fields of a keypair policy.
    pub max_containers_per_session: Option<u32>,
    /// See the fields of a keypair policy.
    pub max_pending_session_count: Option<u32>,
    /// See the fields of a keypair policy.
    pub max_pending_session_slots: Option<BTreeMap<String, Option<Text>>>,
    /// See the fields of a keypair policy.
    pub max_priority: Option<u8>,
    /// See the fields of a keypair policy.
    pub max_session_lifetime_s: Option<i64>,
    /// See the fields of a keypair policy.
    pub lifetime_base: Option<String>,
    /// See the fields of a keypair policy.
    pub extension_max_count: Option<u32>,
    /// See the fields of a keypair policy.
    pub extension_max_s: Option<i64>,
    /// See the fields of a keypair policy.
    pub max_total_lifetime_s: Option<i64>,
    /// See the fields of a keypair policy.
    pub idle_timeout_s: Option<i64>,
    /// See the fields of a keypair policy.
    pub idle: Option<serde_json::Value>,
    /// No effect here.
    pub max_shm: Option<Text>,
    /// No effect here.
    pub max_pids: Option<u32>,
    /// No effect here.
    pub root_in_container: Option<bool>,
    /// No effect here.
    pub allowed_hosts: Option<serde_json::Value>,
}

/// Amounts that a session asks for. What is no number at all is a slip of the pen and makes
/// the file bad; a number that the rules of submission refuse is an event of the run.
fn asked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Amounts, D::Error> {
    struct Asked;
    impl<'de> Visitor<'de> for Asked {
        type Value = Amounts;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("amounts by slot, such as {cpu: 4, mem: 16g}")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Amounts, A::Error> {
            let mut amounts = Amounts::new();
            while let Some(name) = map.next_key::<String>()? {
                let slot: SlotName = name.parse().map_err(A::Error::custom)?;
                amounts.insert(name, map.next_value_seed(Amount(slot))?);
            }
            Ok(amounts)
        }
    }
    // Read as part of the value, so that the reader says in which line it stands.
    struct Amount(SlotName);
    impl<'de> DeserializeSeed<'de> for Amount {
        type Value = Text;
        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Text, D::Error> {
            let amount = Text::deserialize(deserializer)?;
            let Self(slot) = self;
            // A number is enough: whether it must be whole is for the rules of submission.
            match slot.parse_amount(&amount.0) {
                Err(error) if parse_milli(&amount.0).is_err() => {
                    Err(D::Error::custom(format_args!("{slot}: {error}")))
                }
                Ok(_) | Err(_) => Ok(amount),
            }
        }
    }
    deserializer.deserialize_map(Asked)
}

fn exit_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let code = i64::deserialize(deserializer)?;
    u8::try_from(code).map(i32::from).map_err(|_| {
        D::Error::custom(format_args!(
            "{code} is no exit code: a program ends with 0 to 255"
        ))
    })
}

/// A session that is asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Submit {
    /// What the file calls it.
    pub id: String,
    /// Who asks.
    pub user: Option<String>,
    /// With which keypair.
    pub keypair: Option<String>,
    /// In which group.
    pub group: Option<String>,
    /// Or through which queue.
    pub queue: Option<String>,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Amounts.
    #[serde(deserialize_with = "asked")]
    pub slots: Amounts,
    /// 0 to 100.
    pub priority: Option<i64>,
    /// How many containers.
    pub cluster_size: Option<i64>,
    /// Where they may be.
    pub cluster_mode: Option<String>,
    /// How long it runs; absent = until it is stopped.
    pub runtime_s: Option<Seconds>,
    /// With what it ends: 0 to 255, as programs do.
    #[serde(deserialize_with = "exit_code")]
    pub exit_code: i32,
    /// What it waits for.
    pub depends_on: Vec<Dependency>,
    /// Not before: seconds, or RFC 3339.
    pub start_at: Option<Text>,
    /// Processor.
    pub arch: Option<String>,
    /// Agents.
    pub designated: Option<Designated>,
    /// Longest life.
    pub lifetime_s: Option<i64>,
    /// Longest run of the command.
    pub batch_timeout_s: Option<i64>,
    /// When it is tried again by itself.
    pub restart: Option<Restart>,
    /// Many of them: `<id>.<index>` each, under the id as a whole.
    pub array: Option<Array>,
    /// How it is used, in absolute seconds; outside of these nothing, with data.
    pub activity: Vec<Stretch>,
    /// Tries it begins with.
    pub retries: Option<u32>,
    /// Agents on which each start fails.
    pub start_fails_on: BTreeSet<String>,
}

/// Which tasks an array has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Array {
    /// First and last index.
    pub range: String,
    /// How many may be live at a time.
    pub parallel: Option<i64>,
}

/// When a session is tried again by itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// How often at most.
    pub max: i64,
    /// After what; absent = the loss of an agent.
    pub on: Option<Vec<String>>,
}

/// How a session is used for a while.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stretch {
    /// From this second on.
    pub from: Seconds,
    /// Before this second.
    pub to: Seconds,
    /// Connections that count as use for as long as they are open.
    pub connections: Option<u32>,
    /// Percent of what was granted.
    pub cpu_pct: Option<Text>,
    /// Percent of what was granted.
    pub mem_pct: Option<Text>,
    /// Percent of what was granted.
    pub gpu_pct: Option<Text>,
    /// Percent of what was granted.
    pub gpu_mem_pct: Option<Text>,
    /// Figures of which no samples come: `cpu`, `mem`, `gpu`, `gpu_mem`.
    pub no_data: Vec<String>,
}

/// Agents by name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Designated {
    /// Which.
    pub agents: Vec<String>,
    /// `strict` or `preferred`.
    pub mode: Option<String>,
}

/// What a session waits for.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Dependency {
    /// That it ended with success.
    Id(String),
    /// That something became of it.
    Full {
        /// Which.
        session: String,
        /// `ok`, `any` or `fail`.
        #[serde(default)]
        on: Option<String>,
    },
}

/// A session that runs before second 0.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Running {
    /// What the file calls it, and the other members of a submit.
    #[serde(flatten)]
    pub submit: serde_json::Map<String, serde_json::Value>,
    /// Where it runs.
    pub agent: String,
    /// With which devices; absent = the allocator's choice.
    pub devices: Option<BTreeMap<String, BTreeMap<String, Text>>>,
    /// Through which pool.
    pub pool: Option<String>,
}

/// Something that happens.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Event {
    /// When.
    pub at: Seconds,
    /// A session is asked for.
    pub submit: Option<Submit>,
    /// Something becomes of an agent.
    pub agent: Option<AgentEvent>,
    /// A session is ended by its owner.
    pub terminate: Option<Terminate>,
    /// Queues are served or not.
    pub pools: Option<Pools>,
    /// A policy differs from now on.
    pub policy: Option<serde_json::Map<String, serde_json::Value>>,
    /// Its owner wants a session kept although nobody uses it.
    pub keep: Option<OfSession>,
    /// Its owner lets the life of a session end later.
    pub extend: Option<Extend>,
    /// A session's limits are written down.
    pub report: Option<OfSession>,
}

/// One session.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfSession {
    /// Which.
    pub id: String,
}

/// The life of a session ends later.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Extend {
    /// Which.
    pub id: String,
    /// So many seconds; absent = as many as one extension may have.
    pub by_s: Option<i64>,
}

/// Something becomes of an agent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentEvent {
    /// Which.
    pub name: String,
    /// Whether it takes new work.
    pub schedulable: Option<bool>,
    /// Whether it sends no heartbeats.
    pub lost: Option<bool>,
    /// It is new, with the members that follow.
    pub joined: Option<bool>,
    /// See [`Agent`].
    pub group: Option<String>,
    /// See [`Agent`].
    pub arch: Option<String>,
    /// See [`Agent`].
    pub slots: Amounts,
    /// See [`Agent`].
    pub devices: Vec<Device>,
    /// See [`Agent`].
    pub max_containers: u32,
    /// See [`Agent`].
    pub allocation: Allocation,
}

/// A session is ended by its owner.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terminate {
    /// Which.
    pub id: String,
    /// At once in the books.
    pub force: bool,
}
