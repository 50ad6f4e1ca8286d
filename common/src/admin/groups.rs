//! Resource groups, and who may use them.

use super::member::Member;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

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
    /// Seconds of silence after which an agent's sessions are given up: 0 = never, else 120 or more; default `daemon.agents.declare_lost_s`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 31_536_000)]
    pub declare_lost_s: Member<i64>,
    /// Where people reach applications; empty = through the coordinator. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 256)]
    pub app_proxy_address: Member<String>,
    /// The service account that serves the group, by name or id; empty = the coordinator, for each owner. It needs rw on the group by an access rule.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub service_account: Member<String>,
    /// Whether the account acts for owners, which it must be allowed to; default true. Sessions get the vaults of their owner then, else those of the account.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub use_owner: Member<bool>,
    /// What becomes of sessions whose device turns bad: `told` (default) or `stop`, which ends them or tries them again.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub on_device_fault: Member<String>,
    /// How containers of a session that may be on several nodes reach each other: `private` (default), a network of their own, or `host`, that of their nodes, which keeps them apart less.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub cluster_network: Member<String>,
    /// Whether containers may reach the coordinator's API; default false. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub sessions_may_call_api: Member<bool>,
    /// Whether containers get cores of their own; default false. Stored; has no effect yet.
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
    /// Where people reach applications; empty = through the coordinator. Stored; has no effect yet.
    pub app_proxy_address: String,
    /// Id of the service account that serves the group; empty = the coordinator, for each owner.
    pub service_account: String,
    /// Whether the account acts for owners, which it must be allowed to. Sessions get the vaults of their owner then, else those of the account.
    pub use_owner: bool,
    /// What becomes of sessions whose device turns bad: `told`, or `stop`, which ends them or tries them again.
    pub on_device_fault: String,
    /// How containers of a session that may be on several nodes reach each other: `private` or `host`.
    pub cluster_network: String,
    /// Whether containers may reach the coordinator's API. Stored; has no effect yet.
    pub sessions_may_call_api: bool,
    /// Whether containers get cores of their own. Stored; has no effect yet.
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
