//! Keypair, user and project policies, and what a person may use under them.

use super::effects::Finding;
use super::member::{Member, Size, SlotTexts};
use crate::api::QuotaEntry;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

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
    /// Longest life of a session, in seconds from its submit; what asks for more, or for none, gets this.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 31_536_000)]
    pub max_session_lifetime_s: Member<i64>,
    /// `created` (default) or `started`: from when it counts.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub lifetime_base: Member<String>,
    /// How often a life may be extended; 0 counts: never.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100)]
    pub extension_max_count: Member<i64>,
    /// By how many seconds at once.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 604_800)]
    pub extension_max_s: Member<i64>,
    /// Longest life with all extensions, in seconds.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 31_536_000)]
    pub max_total_lifetime_s: Member<i64>,
    /// Seconds without use after which a session is stopped, for what is submitted from then on; absent, 0 = the installation's rules.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 15_552_000)]
    pub idle_timeout_s: Member<i64>,
    /// The other rules of idleness; null = their defaults. They hold with `idle_timeout_s` only.
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
    /// Volumes with the permissions granted on them, at most 1,000. Stored; has no effect yet.
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
    /// How often in a row `keep` holds a session without measured use in between; default 4.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100)]
    pub keep_max: Member<i64>,
    /// The check for use by people; nothing that counts as use exists yet.
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
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 15_552_000)]
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
    /// Folders. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100_000)]
    pub max_folder_count: Member<i64>,
    /// Bytes in folders: a number, or text such as `1.5g`; at most 1 PiB. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub max_folder_size: Member<Size>,
    /// Replicas of one service; default 10. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000)]
    pub max_session_count_per_model_service: Member<i64>,
    /// Images made from sessions; default 3, 0 counts. Stored; has no effect yet.
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
    /// Folders. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100_000)]
    pub max_folder_count: Member<i64>,
    /// Bytes in folders: a number, or text such as `1.5g`; at most 1 PiB. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub max_folder_size: Member<Size>,
    /// Networks of the project; default 3, 0 counts. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000)]
    pub max_network_count: Member<i64>,
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
    /// `created` or `started`: from when it counts.
    pub lifetime_base: String,
    /// How often a life may be extended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension_max_count: Option<u32>,
    /// By how many seconds at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension_max_s: Option<i64>,
    /// Longest life with all extensions, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_total_lifetime_s: Option<i64>,
    /// Seconds without use after which a session is stopped; absent = the installation's rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_s: Option<i64>,
    /// The other rules of idleness, where they are not the defaults; they hold with `idle_timeout_s` only.
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
    /// Volumes with the permissions granted on them. Stored; has no effect yet.
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
    /// How often in a row `keep` holds a session without measured use in between.
    pub keep_max: u32,
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
    /// Folders of one's own. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_folder_count: Option<u32>,
    /// Bytes in folders of one's own. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_folder_size: Option<String>,
    /// Replicas of one service. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_session_count_per_model_service: Option<u32>,
    /// Images made from sessions. Stored; has no effect yet.
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
    /// Project folders. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_folder_count: Option<u32>,
    /// Bytes in project folders. Stored; has no effect yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_folder_size: Option<String>,
    /// Networks of the project. Stored; has no effect yet.
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
    /// Slots in resource order, then `sessions`, `pending`, `pending:` and a slot, and
    /// `system-sessions`.
    pub entries: Vec<QuotaEntry>,
    /// How long sessions may live.
    pub lives: LivesView,
    /// The policy of the keypair.
    pub policy: KeypairPolicyView,
}

/// How long sessions of a keypair may live, and be idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LivesView {
    /// Longest lifetime in seconds; absent = as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_s: Option<BoundView>,
    /// How often a life may be extended.
    pub extension_count: BoundView,
    /// Seconds of one extension.
    pub extension_s: BoundView,
    /// Longest life with all extensions, in seconds; absent = not bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_lifetime_s: Option<BoundView>,
    /// Seconds without use by people after which a session counts as idle; absent = it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_s: Option<BoundView>,
}

/// A bound, and what says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoundView {
    /// The bound.
    pub value: i64,
    /// The keypair policy it comes from; absent = from the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}
