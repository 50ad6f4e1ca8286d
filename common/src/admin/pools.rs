//! Pools, profiles, allocation policies and queues: the document, its parts, what is said
//! of it.

use super::effects::{Finding, Impact};
use super::member::{Member, SlotTexts};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

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
    /// The group of users who may use it, by its name or id; not together with `users`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub user_group: Member<String>,
    /// Who may use it, by login name; null or absent = everybody, or the group of users.
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

/// Makes the draft equal to a version that was live (`POST /resource-config/draft/load`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadRequest {
    /// Which version, as `GET /resource-config/versions` lists it.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub version: Member<i64>,
}

/// A version of the document that is or was live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigVersionView {
    /// Which; the largest is the live one.
    pub version: u64,
    /// When it was provisioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// Who provisioned it; superadmins are told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
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
    /// Name of the group of users who may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_group: Option<String>,
    /// Who may use it, by login name; absent = everybody, or the group of users.
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
