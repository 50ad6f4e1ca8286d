//! The JSON shapes of administration: resource groups, policies, domains, projects,
//! people and keypairs, presets, pools and queues, the audit of use.
//!
//! Requests are read leniently: a [`Member`] of a wrong kind is kept as it came, so that
//! the core can name every bad member at once. Amounts and sizes are text; in answers they
//! are canonical, and no limit is an absent member, never `null`.

use crate::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// One member of a request, as RFC 7396 distinguishes them.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Member<T> {
    /// Not there: nothing is said about it.
    #[default]
    Absent,
    /// `null`: the value is taken away.
    Null,
    /// A value.
    Value(T),
    /// Something of another kind; refused, with its pointer.
    Wrong(Value),
}

impl<T> Member<T> {
    /// Whether nothing was said.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The value, where there is one.
    #[must_use]
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }
}

impl<T> From<T> for Member<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

impl<T: Serialize> Serialize for Member<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Null => serializer.serialize_unit(),
            Self::Value(value) => value.serialize(serializer),
            Self::Wrong(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Member<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.is_null() {
            return Ok(Self::Null);
        }
        Ok(match T::deserialize(&value) {
            Ok(good) => Self::Value(good),
            Err(_) => Self::Wrong(value),
        })
    }
}

/// Amounts per slot; each is looked at by itself.
pub type SlotTexts = BTreeMap<String, Member<String>>;

/// A number of bytes as it was written: a whole number, or text such as `1.5g`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Size(pub String);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) if !number.is_f64() => Ok(Self(number.to_string())),
            _ => Err(serde::de::Error::custom("a number of bytes or text")),
        }
    }
}

/// Makes or changes a resource group (`POST`, `PATCH /resource-groups`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupRequest {
    /// A handle: 1 to 64 of `A-Za-z0-9._-`, first a letter or digit. Given once, never changed.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// Whether it takes sessions; default true.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub active: Member<bool>,
    /// First choice when a session names none; the group that was it before no longer is. Default false.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub default: Member<bool>,
    /// Who may use it; null or absent = everybody, three empty lists = nobody.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<AllowedRequest>)]
    pub allowed: Member<AllowedRequest>,
    /// `interactive`, `batch`, `inference`, `system`; at least one. Default: the first three.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 4)]
    pub allowed_session_types: Member<Vec<String>>,
    /// `fifo`, `lifo`, `drf`; null = the installation's setting.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub scheduler: Member<String>,
    /// `concentrated`, `dispersed`, `round-robin`; null = the installation's setting.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub agent_selection: Member<String>,
    /// Tries before others pass the head, 0 = they never do; null = the installation's setting.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000)]
    pub retries_to_skip: Member<i64>,
    /// How often a session whose start failed returns to waiting; null = the installation's setting.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000)]
    pub creation_retries: Member<i64>,
    /// Seconds after which a waiting session is cancelled, 0 = never; null = the installation's setting.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 31_536_000)]
    pub pending_timeout_s: Member<i64>,
    /// Whether a request is refused that no present agent could hold; default true.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub refuse_never_fits: Member<bool>,
    /// `open` (default), or `closed`: only through queues.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub direct_submits: Member<String>,
    /// Seconds of silence after which an agent's sessions are given up: 0 = never, else 120 or more; default 600.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 31_536_000)]
    pub declare_lost_s: Member<i64>,
    /// Where people reach applications; empty = through the coordinator.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 256)]
    pub app_proxy_address: Member<String>,
    /// Who acts for the owners; empty = the coordinator, for each owner.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub service_account: Member<String>,
    /// Whether the owner's own rights and vaults are used; default true.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub use_owner: Member<bool>,
    /// `told` (default) or `stop`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub on_device_fault: Member<String>,
    /// `private` (default) or `host`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub cluster_network: Member<String>,
    /// Whether containers may reach the coordinator's API; default false.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub sessions_may_call_api: Member<bool>,
    /// Whether containers get cores of their own; default false.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub pin_cpus: Member<bool>,
}
/// Who may use a resource group: any of the three lets a requester in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowedRequest {
    /// Domains by name or id.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub domains: Member<Vec<String>>,
    /// Projects by name or id.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub projects: Member<Vec<String>>,
    /// Keypairs by access key.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub keypairs: Member<Vec<String>>,
}
/// Makes or changes a keypair policy. null, and 0 unless said otherwise, lift a limit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeypairPolicyRequest {
    /// A handle: 1 to 64 of `A-Za-z0-9._-`, first a letter or digit. Given once, never changed.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// On creation only: the policy whose values are taken where this request names none.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub clone: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// The most that may be held at once, per slot: an amount, `"0"` for none, `"unlimited"` or null.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub total_slots: Member<SlotTexts>,
    /// `unlimited` (default) or `limited`: what slots may have that `total_slots` does not name.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub default_for_unspecified: Member<String>,
    /// Sessions from SCHEDULED to RUNNING at once, over all groups.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100)]
    pub max_concurrent_sessions: Member<i64>,
    /// System sessions at once; default 1.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100)]
    pub max_concurrent_sftp_sessions: Member<i64>,
    /// Containers of one session.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100)]
    pub max_containers_per_session: Member<i64>,
    /// Sessions waiting at once.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100_000)]
    pub max_pending_session_count: Member<i64>,
    /// What waiting sessions may ask for together; slots not named are not bounded.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub max_pending_session_slots: Member<SlotTexts>,
    /// Highest priority that may be asked for; 0 counts.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100)]
    pub max_priority: Member<i64>,
    /// Longest life of a session, in seconds.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 31_536_000)]
    pub max_session_lifetime_s: Member<i64>,
    /// `created` (default) or `started`: from when it counts.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub lifetime_base: Member<String>,
    /// How often a life may be extended; 0 counts: never. Absent = the installation's setting.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100)]
    pub extension_max_count: Member<i64>,
    /// By how many seconds at once. Absent = the installation's setting.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 604_800)]
    pub extension_max_s: Member<i64>,
    /// Longest life with all extensions, in seconds.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 31_536_000)]
    pub max_total_lifetime_s: Member<i64>,
    /// Seconds without use after which a session is stopped; absent, 0 = idle checks are off.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 15_552_000)]
    pub idle_timeout_s: Member<i64>,
    /// The other rules of idleness; null = their defaults.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<IdleRequest>)]
    pub idle: Member<IdleRequest>,
    /// Largest `/dev/shm`: bytes, or text such as `1.5g`; at most 1024 GiB.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub max_shm: Member<Size>,
    /// Processes in one container; default 4096.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_048_576)]
    pub max_pids: Member<i64>,
    /// Whether the first process may be root; default false.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub root_in_container: Member<bool>,
    /// Volumes with the permissions granted on them, at most 1,000.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<BTreeMap<String, Vec<String>>>)]
    pub allowed_hosts: Member<BTreeMap<String, Member<Vec<String>>>>,
}
/// Rules of idleness. Times in seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdleRequest {
    /// `stop` (default) or `report`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub action: Member<String>,
    /// `all` (default) or `any`: how the two checks go together.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub combine: Member<String>,
    /// No verdict before so many seconds of running; default 300.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 15_552_000)]
    pub initial_grace_s: Member<i64>,
    /// Seconds before the stop at which to warn; default 3600, 900, 300.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<i64>>, max_items = 16)]
    pub warn_s: Member<Vec<i64>>,
    /// The check for use by people.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<InteractionRequest>)]
    pub interaction: Member<InteractionRequest>,
    /// The check for work.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<UtilizationRequest>)]
    pub utilization: Member<UtilizationRequest>,
}
/// The check for use by people.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InteractionRequest {
    /// Whether it is made; default true.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub enabled: Member<bool>,
    /// Seconds without use; absent = `idle_timeout_s`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 15_552_000)]
    pub timeout_s: Member<i64>,
}
/// The check for work.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UtilizationRequest {
    /// Whether it is made; default true.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub enabled: Member<bool>,
    /// Length of the window in seconds; default 900.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 60, maximum = 15_552_000)]
    pub window_s: Member<i64>,
    /// `and` (default): all metrics must be low; `or`: one is enough.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub operator: Member<String>,
    /// `interactive` is always judged, `batch` may be added.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 4)]
    pub applies_to: Member<Vec<String>>,
    /// Percent, 0 to 100, for `cpu_pct`, `mem_pct`, `gpu_pct`, `gpu_mem_pct`; default cpu 5, gpu 5. null = not looked at.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<BTreeMap<String, i64>>)]
    pub thresholds: Member<BTreeMap<String, Member<i64>>>,
}
/// Makes or changes a user policy. null, and 0 unless said otherwise, lift a limit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPolicyRequest {
    /// A handle: 1 to 64 of `A-Za-z0-9._-`, first a letter or digit. Given once, never changed.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// On creation only: the policy whose values are taken where this request names none.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub clone: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// Folders.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100_000)]
    pub max_folder_count: Member<i64>,
    /// Bytes in folders: a number, or text such as `1.5g`; at most 1 PiB.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub max_folder_size: Member<Size>,
    /// Replicas of one service; default 10.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000)]
    pub max_session_count_per_model_service: Member<i64>,
    /// Images made from sessions; default 3, 0 counts.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000)]
    pub max_customized_image_count: Member<i64>,
}
/// Makes or changes a project policy. null, and 0 unless said otherwise, lift a limit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectPolicyRequest {
    /// A handle: 1 to 64 of `A-Za-z0-9._-`, first a letter or digit. Given once, never changed.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// On creation only: the policy whose values are taken where this request names none.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub clone: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// Folders.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100_000)]
    pub max_folder_count: Member<i64>,
    /// Bytes in folders: a number, or text such as `1.5g`; at most 1 PiB.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub max_folder_size: Member<Size>,
    /// Networks of the project; default 3, 0 counts.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000)]
    pub max_network_count: Member<i64>,
}
/// Makes or changes a domain.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainRequest {
    /// A handle: 1 to 64 of `A-Za-z0-9._-`, first a letter or digit. Given once, never changed.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// Whether its people may submit; default true.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub active: Member<bool>,
    /// The most that may be held at once, per slot; slots not named have no limit.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub total_slots: Member<SlotTexts>,
}
/// Makes or changes a project.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectRequest {
    /// A handle: 1 to 64 of `A-Za-z0-9._-`, first a letter or digit. Given once, never changed.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// Domain by name or id; default the one named `default`. Never changes.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub domain: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// Whether sessions may be submitted in it; default true.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub active: Member<bool>,
    /// Project policy by name; default `default`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub policy: Member<String>,
    /// The most that may be held at once, per slot; slots not named have no limit.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub total_slots: Member<SlotTexts>,
}
/// Makes or changes a preset.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PresetRequest {
    /// A handle: 1 to 64 of `A-Za-z0-9._-`, first a letter or digit. Given once, never changed.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// The only resource group it is for, by name or id; null or absent = every group.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub group: Member<String>,
    /// Amounts per slot, as a session asks for them.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub slots: Member<SlotTexts>,
    /// Size of `/dev/shm`; null or absent = the default.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub shm: Member<Size>,
}
/// Makes a person with a first keypair (`POST /users`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Address; it never changes.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub email: Member<String>,
    /// Login name; default the address.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub username: Member<String>,
    /// `user` (default) or `superadmin`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub role: Member<String>,
    /// Domain by name or id; default the one named `default`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub domain: Member<String>,
    /// Projects of the domain by name or id; the first is that of sessions that name none.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub projects: Member<Vec<String>>,
    /// User policy by name; default `default`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub user_policy: Member<String>,
    /// Keypair policy of the first keypair; default `default`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub keypair_policy: Member<String>,
    /// `active` (default) or `inactive`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub status: Member<String>,
    /// Weight in fair shares, 0.001 to 1000; default 1.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub weight: Member<String>,
}
/// What may be changed at a person.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// User policy by name.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub user_policy: Member<String>,
    /// Weight in fair shares, 0.001 to 1000; null = 1.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub weight: Member<String>,
    /// Projects of the person's domain by name or id, all of them; the first is that of sessions that name none.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub projects: Member<Vec<String>>,
}
/// Switches a person on or off (`PUT /users/{ref}/status`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserStatusRequest {
    /// `active` or `inactive`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub status: Member<String>,
    /// On deactivation: whether keypairs are switched off too; default false.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub deactivate_keypairs: Member<bool>,
}
/// Makes a further keypair (`POST /keypairs`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKeypair {
    /// Whose, by login name, address or id; absent = the caller.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub user: Member<String>,
    /// Keypair policy by name; default that of the main keypair.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub policy: Member<String>,
}
/// What may be changed at a keypair.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeypairPatch {
    /// Keypair policy by name.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub policy: Member<String>,
}
/// Chooses the keypair whose policy limits a person as a whole.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MainKeypairRequest {
    /// An active keypair of that person.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub access_key: Member<String>,
}
/// The whole document of pools and queues (`PUT /resource-config/draft`). The order of each list counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceConfigRequest {
    /// Pools, in the order in which they are filled.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<PoolRequest>>, max_items = 1_000)]
    pub pools: Member<Vec<PoolRequest>>,
    /// Profiles.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<ProfileRequest>>, max_items = 1_000)]
    pub profiles: Member<Vec<ProfileRequest>>,
    /// Allocation policies.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<AllocationPolicyRequest>>, max_items = 1_000)]
    pub allocation_policies: Member<Vec<AllocationPolicyRequest>>,
    /// Read-only: follows from `pools` of the profiles. May be sent back unchanged.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<LinkView>>, max_items = 10_000)]
    pub links: Member<Vec<LinkView>>,
    /// Read-only. May be sent back unchanged.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub version: Member<i64>,
    /// Read-only: the live version the draft was made from. May be sent back unchanged.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub base: Member<i64>,
    /// Read-only; ignored.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub enabled: Member<bool>,
    /// Read-only; ignored.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub at: Member<String>,
    /// Read-only; ignored.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub by: Member<String>,
}
/// A number of resources that queues share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolRequest {
    /// A title: 1 to 64 printable characters, unique among its kind.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// Name of the resource group behind it; a group backs one pool at most.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub group: Member<String>,
    /// `gpu` (default: every accelerator) or one slot.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub counts: Member<String>,
    /// How much there is; null or absent = what the group's agents have.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub count: Member<String>,
    /// Read-only; ignored.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub used: Member<String>,
    /// Read-only; ignored.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub count_now: Member<String>,
    /// Names of linked profiles in the order in which they are served; those not named come after, in the document's order.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub profiles: Member<Vec<String>>,
}
/// A kind of job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileRequest {
    /// A title: 1 to 64 printable characters, unique among its kind.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// What one job gets.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub slots: Member<SlotTexts>,
    /// What one job counts for, above 0; null or absent = the accelerators of `slots`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub allotment: Member<String>,
    /// Names of the linked pools in the order in which they are tried.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub pools: Member<Vec<String>>,
    /// Names of the allocation policies that use it in the order in which they are served; those not named come after.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub policies: Member<Vec<String>>,
}
/// What a number of people may have of the pools.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllocationPolicyRequest {
    /// A title: 1 to 64 printable characters, unique among its kind.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// Who may use it, by login name; null or absent = everybody.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub users: Member<Vec<String>>,
    /// What is kept for it; default 0.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub reservation: Member<String>,
    /// The most it may use; null or absent = no limit.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub limit: Member<String>,
    /// Profiles it may use, each once.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<PolicyProfileRequest>>, max_items = 1_000)]
    pub profiles: Member<Vec<PolicyProfileRequest>>,
    /// Seconds after which a waiting session is cancelled; 0 (default) = never.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 31_536_000)]
    pub pending_timeout_s: Member<i64>,
}
/// A profile of an allocation policy: one queue.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyProfileRequest {
    /// Name of the profile.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub profile: Member<String>,
    /// Name of the queue; default `policy/profile`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub queue: Member<String>,
}
/// Makes the draft live (`POST /resource-config/provision`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionRequest {
    /// The live version the caller saw.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub expected_version: Member<i64>,
}
/// Whether queues are served (`PUT /resource-config/enabled`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigSwitch {
    /// Off: work stays waiting at its place.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub enabled: Member<bool>,
}
/// What may be changed at a queue.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueuePatch {
    /// Its new name.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
}
/// An object in the way of a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InTheWay {
    /// `keypair`, `user`, `project`, `agent`, `session`, `pool`, `preset`.
    pub kind: String,
    /// Its id; for keypairs the access key, for pools the name.
    pub id: String,
    /// Its name; for keypairs that of the owner.
    pub name: String,
    /// `active` or `inactive`; for agents and sessions their state.
    pub state: String,
}

/// What is in the way of a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct InUse {
    /// At most 20 of them.
    pub blockers: Vec<InTheWay>,
    /// How many there are of each kind.
    pub counts: BTreeMap<String, u64>,
}

/// What a write would touch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Impact {
    /// Login names of the people it concerns, at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Access keys of the keypairs it concerns, at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keypairs: Vec<String>,
    /// Live sessions it concerns, at most 200, those that fare worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<SessionImpact>,
    /// How many `users`, `keypairs` and `sessions` there are in all, and how many sessions
    /// of each effect.
    pub counts: BTreeMap<String, u64>,
    /// Members that would differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<Difference>,
}

/// What a write would do to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionImpact {
    /// `s-42`.
    pub id: String,
    /// `cancelled`: would end; `waits`: would start now and no longer would; `starts`: would
    /// start now and did not; `kept`: as it is.
    pub effect: String,
}

/// A member that would differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// Which, as a JSON pointer.
    pub path: String,
    /// Before, as JSON text; absent = it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// After, as JSON text; absent = it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A resource group with everything about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupView {
    /// `rgp_…`
    pub id: String,
    /// Counts stored changes from 1; the ETag.
    pub version: u64,
    /// Unique; never changes.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether it takes sessions.
    pub active: bool,
    /// First choice when a session names none.
    pub default: bool,
    /// Who may use it; absent = everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<AllowedView>,
    /// What it takes.
    pub allowed_session_types: Vec<String>,
    /// Order inside a priority band.
    pub scheduler: String,
    /// Which agent is taken.
    pub agent_selection: String,
    /// Tries before others pass the head; 0 = they never do.
    pub retries_to_skip: u32,
    /// How often a session whose start failed returns to waiting.
    pub creation_retries: u32,
    /// Seconds after which a waiting session is cancelled; 0 = never.
    pub pending_timeout_s: u32,
    /// Which of the last five follow the installation's settings.
    pub inherited: Vec<String>,
    /// Whether a request is refused that no present agent could hold.
    pub refuse_never_fits: bool,
    /// `open` or `closed`.
    pub direct_submits: String,
    /// Seconds of silence after which an agent's sessions are given up; 0 = never.
    pub declare_lost_s: u32,
    /// Where people reach applications; empty = through the coordinator.
    pub app_proxy_address: String,
    /// Who acts for the owners; empty = the coordinator.
    pub service_account: String,
    /// Whether the owner's own rights are used.
    pub use_owner: bool,
    /// `told` or `stop`.
    pub on_device_fault: String,
    /// `private` or `host`.
    pub cluster_network: String,
    /// Whether containers may reach the coordinator's API.
    pub sessions_may_call_api: bool,
    /// Whether containers get cores of their own.
    pub pin_cpus: bool,
    /// Agents that are not TERMINATED.
    pub agents: u64,
    /// What its agents can give out now.
    pub capacity: BTreeMap<String, String>,
    /// What of it is taken.
    pub occupied: BTreeMap<String, String>,
    /// What its machines have beyond that, kept for themselves.
    pub reserved: BTreeMap<String, String>,
    /// Sessions that wait.
    pub pending: u64,
    /// Name of the pool behind which it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// Who may use a resource group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct AllowedView {
    /// Domains by name.
    pub domains: Vec<String>,
    /// Projects by name.
    pub projects: Vec<String>,
    /// Keypairs by access key.
    pub keypairs: Vec<String>,
}

/// How many refer to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct UsedBy {
    /// That are active; a keypair is when its user is too.
    pub active: u64,
    /// That are not.
    pub inactive: u64,
}

/// A keypair policy. A limit that is absent is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeypairPolicyView {
    /// `pol_…`
    pub id: String,
    /// Counts stored changes from 1; the ETag.
    pub version: u64,
    /// Unique; never changes.
    pub name: String,
    /// For people.
    pub description: String,
    /// The most that may be held at once, per slot; `unlimited` = expressly no limit.
    pub total_slots: BTreeMap<String, String>,
    /// `unlimited` or `limited`: what slots may have that `total_slots` does not name.
    pub default_for_unspecified: String,
    /// Sessions from SCHEDULED to RUNNING at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_sessions: Option<u32>,
    /// System sessions at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_sftp_sessions: Option<u32>,
    /// Containers of one session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_containers_per_session: Option<u32>,
    /// Sessions waiting at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pending_session_count: Option<u32>,
    /// What waiting sessions may ask for together, per slot.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_pending_session_slots: BTreeMap<String, String>,
    /// Highest priority that may be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_priority: Option<u8>,
    /// Longest life of a session, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_session_lifetime_s: Option<i64>,
    /// `created` or `started`.
    pub lifetime_base: String,
    /// How often a life may be extended; absent = the installation's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension_max_count: Option<u32>,
    /// By how many seconds at once; absent = the installation's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension_max_s: Option<i64>,
    /// Longest life with all extensions, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_total_lifetime_s: Option<i64>,
    /// Seconds without use after which a session is stopped; absent = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_s: Option<i64>,
    /// The other rules of idleness, where they are not the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleView>,
    /// Largest `/dev/shm`, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_shm: Option<String>,
    /// Processes in one container; absent = 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pids: Option<u32>,
    /// Whether the first process may be root.
    pub root_in_container: bool,
    /// Volumes with the permissions granted on them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allowed_hosts: BTreeMap<String, Vec<String>>,
    /// Keypairs that have it.
    pub used_by: UsedBy,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// What is allowed and may surprise: a limit above what the cluster has, one without effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Finding>,
}

/// Rules of idleness. Times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdleView {
    /// `stop` or `report`.
    pub action: String,
    /// `all` or `any`.
    pub combine: String,
    /// No verdict before so many seconds of running.
    pub initial_grace_s: u32,
    /// Seconds before the stop at which a warning is given.
    pub warn_s: Vec<u32>,
    /// The check for use by people.
    pub interaction: InteractionView,
    /// The check for work.
    pub utilization: UtilizationView,
}

/// The check for use by people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InteractionView {
    /// Whether it is made.
    pub enabled: bool,
    /// Seconds without use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
}

/// The check for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UtilizationView {
    /// Whether it is made.
    pub enabled: bool,
    /// Length of the window in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_s: Option<u32>,
    /// `and` or `or`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Types of sessions that are judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub applies_to: Vec<String>,
    /// Percent for `cpu_pct`, `mem_pct`, `gpu_pct`, `gpu_mem_pct`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub thresholds: BTreeMap<String, u32>,
}

/// A user policy. A limit that is absent is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserPolicyView {
    /// `pol_…`
    pub id: String,
    /// Counts stored changes from 1; the ETag.
    pub version: u64,
    /// Unique; never changes.
    pub name: String,
    /// For people.
    pub description: String,
    /// Folders of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_folder_count: Option<u32>,
    /// Bytes in folders of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_folder_size: Option<String>,
    /// Replicas of one service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_session_count_per_model_service: Option<u32>,
    /// Images made from sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_customized_image_count: Option<u32>,
    /// People who have it.
    pub used_by: UsedBy,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A project policy. A limit that is absent is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectPolicyView {
    /// `pol_…`
    pub id: String,
    /// Counts stored changes from 1; the ETag.
    pub version: u64,
    /// Unique; never changes.
    pub name: String,
    /// For people.
    pub description: String,
    /// Project folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_folder_count: Option<u32>,
    /// Bytes in project folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_folder_size: Option<String>,
    /// Networks of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_network_count: Option<u32>,
    /// Projects that have it.
    pub used_by: UsedBy,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainView {
    /// `dom_…`
    pub id: String,
    /// Counts stored changes from 1; the ETag.
    pub version: u64,
    /// Unique; never changes.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether its people may submit.
    pub active: bool,
    /// The most that may be held at once, per slot.
    pub total_slots: BTreeMap<String, String>,
    /// What is held.
    pub used_slots: BTreeMap<String, String>,
    /// People in it.
    pub users: u64,
    /// Projects in it.
    pub projects: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    /// `prj_…`
    pub id: String,
    /// Counts stored changes from 1; the ETag.
    pub version: u64,
    /// Unique in its domain; never changes.
    pub name: String,
    /// Id of its domain.
    pub domain: String,
    /// Name of its domain.
    pub domain_name: String,
    /// For people.
    pub description: String,
    /// Whether sessions may be submitted in it.
    pub active: bool,
    /// Name of its project policy.
    pub policy: String,
    /// The most that may be held at once, per slot.
    pub total_slots: BTreeMap<String, String>,
    /// What is held.
    pub used_slots: BTreeMap<String, String>,
    /// People in it.
    pub members: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// `usr_…`
    pub id: String,
    /// Address; never changes.
    pub email: String,
    /// Login name.
    pub username: String,
    /// `superadmin` or `user`.
    pub role: String,
    /// `active` or `inactive`.
    pub status: String,
    /// User and group number inside containers.
    pub uid: u32,
    /// Id of the domain.
    pub domain: String,
    /// Name of the domain.
    pub domain_name: String,
    /// Names of the projects, the one of sessions that name none first.
    pub projects: Vec<String>,
    /// Name of the user policy.
    pub user_policy: String,
    /// Access key of the main keypair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_keypair: Option<String>,
    /// Weight in fair shares.
    pub weight: String,
    /// Sessions that have not ended.
    pub live_sessions: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A keypair. Its secret is in the creating answer only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeypairView {
    /// The public part.
    pub access_key: String,
    /// Id of its user.
    pub user: String,
    /// Login name of its user.
    pub user_name: String,
    /// `active` or `inactive`.
    pub state: String,
    /// Whether its policy limits the user as a whole.
    pub main: bool,
    /// Name of its keypair policy.
    pub policy: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Slots under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PresetView {
    /// `pre_…`
    pub id: String,
    /// Counts stored changes from 1; the ETag.
    pub version: u64,
    /// Unique; never changes.
    pub name: String,
    /// For people.
    pub description: String,
    /// Name of the only resource group it is for; absent = every group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Amounts.
    pub slots: BTreeMap<String, String>,
    /// Size of `/dev/shm` in bytes; absent = the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// The document of pools and queues, live or as a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourceConfigView {
    /// Live: counts what was provisioned, 0 = nothing yet. Draft: counts saves; the ETag.
    pub version: u64,
    /// Of a draft: the live version it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    /// Of the live document: whether queues are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// When it was provisioned, or saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// Who provisioned it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Pools, in the order in which they are filled.
    pub pools: Vec<PoolView>,
    /// Profiles.
    pub profiles: Vec<ProfileView>,
    /// Which profile may use which pool; follows from `pools` of the profiles.
    pub links: Vec<LinkView>,
    /// Allocation policies.
    pub allocation_policies: Vec<AllocationPolicyView>,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    /// A title.
    pub name: String,
    /// For people.
    pub description: String,
    /// Name of the resource group behind it.
    pub group: String,
    /// `gpu` or a slot.
    pub counts: String,
    /// How much was configured; absent = what the group's agents have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<String>,
    /// How much there is.
    pub count_now: String,
    /// How much is given out, by the pool of this name that is live.
    pub used: String,
    /// Names of the linked profiles, in the order in which they are served.
    pub profiles: Vec<String>,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProfileView {
    /// A title.
    pub name: String,
    /// What one job gets.
    pub slots: BTreeMap<String, String>,
    /// What one job counts for.
    pub allotment: String,
    /// Names of the linked pools, in the order in which they are tried.
    pub pools: Vec<String>,
    /// Names of the allocation policies, in the order in which they are served.
    pub policies: Vec<String>,
}

/// One profile may use one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkView {
    /// Name of the profile.
    pub profile: String,
    /// Name of the pool.
    pub pool: String,
}

/// An allocation policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AllocationPolicyView {
    /// A title.
    pub name: String,
    /// For people.
    pub description: String,
    /// Who may use it, by login name; absent = everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<String>>,
    /// What is kept for it.
    pub reservation: String,
    /// The most it may use; absent = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Profiles it may use, each with its queue.
    pub profiles: Vec<PolicyProfileView>,
    /// Seconds after which a waiting session is cancelled; 0 = never.
    pub pending_timeout_s: u32,
}

/// One profile of an allocation policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyProfileView {
    /// Name of the profile.
    pub profile: String,
    /// Name of the queue.
    pub queue: String,
}

/// Something to know about a document or a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// `error`: cannot be provisioned; `warning`: can be.
    pub level: String,
    /// Which rule, e.g. `profile-without-pool`.
    pub rule: String,
    /// Where, as a JSON pointer into the document.
    pub pointer: String,
    /// In words, with names and numbers.
    pub message: String,
}

/// What is to be said about a draft, or about its provisioning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigVerdict {
    /// Whether it can be provisioned.
    pub valid: bool,
    /// Errors, then warnings, each in the order of the document.
    pub findings: Vec<Finding>,
    /// What provisioning would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact: Option<Impact>,
    /// After provisioning, or its rehearsal: the live document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Box<ResourceConfigView>>,
    /// Sessions that were cancelled, of those that waited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancelled: Vec<String>,
}

/// A queue: one allocation policy with one profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// Name of the allocation policy.
    pub policy: String,
    /// Name of the profile.
    pub profile: String,
    /// What one job gets.
    pub slots: BTreeMap<String, String>,
    /// What one job counts for.
    pub allotment: String,
    /// What the policy's sessions have of the pools, over all its queues.
    pub in_use: String,
    /// What is kept for the policy.
    pub reserved: String,
    /// The most the policy may use; absent = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Sessions that wait in it.
    pub pending: u64,
    /// Its sessions from SCHEDULED to RUNNING.
    pub running: u64,
    /// Names of the pools it may use, in order.
    pub pools: Vec<String>,
}

/// What the books say against what the nodes say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct UsageAuditView {
    /// Where they differ; normally nowhere.
    pub drifts: Vec<UsageDrift>,
    /// Names of agents that are not connected.
    pub not_checked: Vec<String>,
    /// Containers whose claims were closed, or would be with `apply`.
    pub closed: Vec<String>,
}

/// A slot, or a device of it, of which books and node differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageDrift {
    /// Name of the agent.
    pub agent: String,
    /// Which slot.
    pub slot: String,
    /// Which device, for slots that have devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What the books say.
    pub booked: String,
    /// What the node says.
    pub reported: String,
    /// Reported less booked.
    pub difference: String,
    /// Sessions of either side whose amounts differ.
    pub sessions: Vec<String>,
}

/// A person that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewUserAnswer {
    /// Who.
    #[serde(flatten)]
    pub user: UserView,
    /// Public part of the first keypair.
    pub access_key: String,
    /// Its secret part, shown this once; absent in a rehearsal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
}

/// A keypair that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewKeypairAnswer {
    /// Which.
    #[serde(flatten)]
    pub keypair: KeypairView,
    /// Its secret part, shown this once; absent in a rehearsal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
}

/// Who is let into a resource group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct GroupAccess {
    /// It is open to everybody; the lists are empty then.
    pub everybody: bool,
    /// Domains by name.
    pub domains: Vec<String>,
    /// Projects by name.
    pub projects: Vec<String>,
    /// Keypairs by access key.
    pub keypairs: Vec<String>,
}

/// What a person may use, and what is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitsView {
    /// Login name.
    pub user_name: String,
    /// The keypair whose limits are told.
    pub access_key: String,
    /// Name of the domain.
    pub domain_name: String,
    /// Name of the project whose limits are told, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_name: Option<String>,
    /// Slots in resource order, then `sessions` and `pending`.
    pub entries: Vec<crate::api::QuotaEntry>,
    /// The policy of the keypair: lifetime, idleness and extensions come from it.
    pub policy: KeypairPolicyView,
}

/// A preset, and whether it could start now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfferedPreset {
    /// Its name.
    pub name: String,
    /// Amounts.
    pub slots: BTreeMap<String, String>,
    /// Size of `/dev/shm` in bytes; absent = the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm: Option<String>,
    /// A session with exactly this could start now if it stood first.
    pub offered: bool,
    /// No waiting would change that.
    pub never: bool,
    /// Why it could not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<crate::api::Blocker>,
}

/// Compares the books with the nodes (`POST /usage-audit`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageAuditRequest {
    /// Whether claims of containers that are confirmed gone are closed; default false.
    #[serde(default)]
    pub apply: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_tells_absent_from_null_and_keeps_what_is_wrong() {
        let text = r#"{"description":null,"max_priority":7,"max_pids":"many","total_slots":{"cpu":null,"mem":"1g","x":3},"max_shm":5}"#;
        let request: KeypairPolicyRequest = serde_json::from_str(text).unwrap();
        assert_eq!(request.name, Member::Absent);
        assert_eq!(request.description, Member::Null);
        assert_eq!(request.max_priority, Member::Value(7));
        assert_eq!(request.max_pids, Member::Wrong(Value::from("many")));
        assert_eq!(request.max_shm, Member::Value(Size("5".to_owned())));
        let slots = request.total_slots.value().unwrap();
        assert_eq!(slots["cpu"], Member::Null);
        assert_eq!(slots["mem"], Member::Value("1g".to_owned()));
        assert_eq!(slots["x"], Member::Wrong(Value::from(3)));
        let back = serde_json::to_value(&request).unwrap();
        assert_eq!(back["total_slots"]["cpu"], Value::Null);
        assert!(back.get("name").is_none());
        assert!(serde_json::from_str::<KeypairPolicyRequest>(r#"{"nmae":"x"}"#).is_err());
    }
}
