//! Groups of users, access rules, service accounts, and the question who may do what.

use super::effects::Impact;
use super::member::Member;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes or changes a group of users.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserGroupRequest {
    /// A title: 1 to 64 characters. Unique.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// Domain by name or id, whose people alone can be members; null = of any domain. Absent
    /// it is that of a domain admin who asks, and for others as null. Never changes.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub domain: Member<String>,
    /// Who is in it by hand: users and service accounts by id or login name. Memberships of
    /// other sources stay.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub members: Member<Vec<String>>,
}

/// Somebody in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupMember {
    /// `usr_…` or `svc_…`.
    pub id: String,
    /// Login name.
    pub name: String,
    /// Why: `manual`, `invitation`, `rule`, `idp:<connection>`. One is a member while there is
    /// any.
    pub source: Vec<String>,
}

/// A group of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserGroupView {
    /// `grp_…`
    pub id: String,
    /// Counts changes from 1.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// Id of its domain; absent = members of any domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// That domain's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_name: Option<String>,
    /// It belongs to every installation.
    pub builtin: bool,
    /// How many are in it.
    pub member_count: u64,
    /// Who is in it, in the order of the ids; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<GroupMember>>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// What an access rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleResource {
    /// `project`, `session`, `model`, `folder`, `queue`, or `*` for everything.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which one, by id or name; absent = all of the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name; read only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Makes or changes an access rule.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRuleRequest {
    /// On what.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<RuleResource>)]
    pub resource: Member<RuleResource>,
    /// `ro` or `rw`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 2)]
    pub level: Member<String>,
    /// To whom: users, service accounts and groups by id or name.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub subjects: Member<Vec<String>>,
}

/// An access rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessRuleView {
    /// `acr_…`
    pub id: String,
    /// Counts changes from 1.
    pub version: u64,
    /// On what.
    pub resource: RuleResource,
    /// `ro` or `rw`.
    pub level: String,
    /// Ids of those it names.
    pub subjects: Vec<String>,
    /// Their names, in the same order.
    pub subject_names: Vec<String>,
    /// It is the one every installation begins with.
    pub default: bool,
    /// Whom it names without effect, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// One grant of a level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessGrant {
    /// The rule; absent for what is granted without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What grants without a rule: `owner`, `role`, `admins`, `share`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Id of whom it names: oneself or a group one is in.
    pub subject: String,
    /// That name.
    pub subject_name: String,
    /// On what: the object, or something above it.
    pub resource: RuleResource,
    /// `ro` or `rw`.
    pub level: String,
}

/// What somebody may do with an object, and through what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectiveAccess {
    /// `none`, `ro` or `rw`.
    pub level: String,
    /// Every grant.
    pub via: Vec<AccessGrant>,
    /// Whether the operation that was asked about is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<bool>,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Makes or changes a service account.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccountRequest {
    /// Unique among login names; 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// Domain by name or id; default that of the caller. Never changes.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub domain: Member<String>,
    /// Projects of the domain by name or id; the first is that of sessions that name none.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub projects: Member<Vec<String>>,
    /// It may act for users of its domain. A superadmin's to give.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub allow_impersonation: Member<bool>,
    /// It acts as an administrator of its domain. A superadmin's to give, where the
    /// installation allows it.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub admin: Member<bool>,
}

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceAccountView {
    /// `svc_…`
    pub id: String,
    /// Counts changes from 1.
    pub version: u64,
    /// Its login name.
    pub name: String,
    /// For people.
    pub description: String,
    /// `active` or `deleted`.
    pub status: String,
    /// Id of its domain.
    pub domain: String,
    /// That domain's name.
    pub domain_name: String,
    /// Names of its projects.
    pub projects: Vec<String>,
    /// Names of its groups.
    pub groups: Vec<String>,
    /// It may act for users of its domain.
    pub allow_impersonation: bool,
    /// It acts as an administrator of its domain.
    pub admin: bool,
    /// Keypairs that open something now.
    pub credentials: u64,
    /// When one of them was last used, as of the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_active_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When a person last changed it.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A new service account with its first keypair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewServiceAccountAnswer {
    /// The account.
    #[serde(flatten)]
    pub account: ServiceAccountView,
    /// Public part of the keypair.
    pub access_key: String,
    /// Secret part; shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
    /// Lines for `~/.config/longshore/config.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}

/// What a rehearsed deletion would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RehearsedDeletion {
    /// What it would touch.
    pub impact: Impact,
}
