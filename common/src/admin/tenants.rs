//! Domains, projects, people and keypairs.

use super::member::{Member, SlotTexts};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

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
