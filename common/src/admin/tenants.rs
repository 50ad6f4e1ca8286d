//! Domains, projects and who is in them.

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

/// Takes somebody into a project, or says what it may there (`PUT /projects/{id}/members/{ref}`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// Whether the project is its to administer; absent = as it is, and no for a new member.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub admin: Member<bool>,
}

/// Somebody in a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Id of the project.
    pub project: String,
    /// Name of the project.
    pub project_name: String,
    /// Id of the person or service account.
    pub user: String,
    /// Login name.
    pub user_name: String,
    /// For people; may be empty.
    pub full_name: String,
    /// Whether the project is its to administer.
    pub admin: bool,
    /// `manual`, `invitation` or `idp:` and the connection.
    pub source: String,
    /// `active`, `inactive` or `before-verification`.
    pub status: String,
}
