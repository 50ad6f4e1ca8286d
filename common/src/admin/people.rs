//! People.

use super::member::Member;
use crate::api::MemberError;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// Absent: the person has none, and logs in through a provider or chooses one by a link.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 128)]
    pub password: Member<String>,
    /// For people; may be empty.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub full_name: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// `user` (default), `monitor`, `domain-admin` or `superadmin`.
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
    /// `active` (default), `inactive` or `before-verification`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub status: Member<String>,
    /// Whether sessions of this person let it become root inside; default false.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub sudo_enabled: Member<bool>,
    /// Weight in fair shares, 0.001 to 1000; default 1.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub weight: Member<String>,
}

/// What may be changed at a person (`PATCH /users/{ref}`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// Accepted only if it is what it is: an address never changes.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub email: Member<String>,
    /// Login name.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub username: Member<String>,
    /// For people; null = empty.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub full_name: Member<String>,
    /// For people, at most 500 characters; null = empty.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// User policy by name. Superadmins only.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub user_policy: Member<String>,
    /// Weight in fair shares, 0.001 to 1000; null = 1. Superadmins only.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub weight: Member<String>,
    /// Projects of the person's domain by name or id, all of them; the first is that of sessions that name none. Who is left out of one is removed from it as a member is, and its sessions there are stopped.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub projects: Member<Vec<String>>,
}

/// Switches a person on or off (`PUT /users/{ref}/status`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserStatusRequest {
    /// `active`, `inactive` or `before-verification`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub status: Member<String>,
    /// On deactivation: whether keypairs are switched off too; default false.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub deactivate_keypairs: Member<bool>,
    /// On deactivation: `keep` (default) or `stop` sessions.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub sessions: Member<String>,
}

/// Gives a person another role (`PUT /users/{ref}/role`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRoleRequest {
    /// `superadmin`, `domain-admin`, `monitor` or `user`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 32)]
    pub role: Member<String>,
}

/// Moves a person to another domain (`PUT /users/{ref}/domain`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserDomainRequest {
    /// By name or id.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub domain: Member<String>,
}

/// Says whether sessions of a person let it become root inside (`PUT /users/{ref}/sudo`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserSudoRequest {
    /// Whether they do.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub sudo_enabled: Member<bool>,
}

/// Gives a person another user policy (`PUT /users/{ref}/policy`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPolicyAssignment {
    /// User policy by name.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub user_policy: Member<String>,
}

/// Asks a person to choose a new password (`PUT /users/{ref}/need-password-change`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequireChangeRequest {
    /// Whether it is asked.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub need_password_change: Member<bool>,
}

/// Chooses the keypair whose policy limits a person as a whole.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MainKeypairRequest {
    /// An active keypair of that person that is bound to no project.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub access_key: Member<String>,
}

/// A person. Whoever only shares a project with it is shown `id`, `username` and `full_name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// `usr_…`
    pub id: String,
    /// Counts stored changes from 1; the ETag.
    pub version: u64,
    /// Address; never changes.
    pub email: String,
    /// Login name.
    pub username: String,
    /// For people; may be empty.
    pub full_name: String,
    /// For people; may be empty.
    pub description: String,
    /// `superadmin`, `domain-admin`, `monitor` or `user`.
    pub role: String,
    /// `active`, `inactive` or `before-verification`.
    pub status: String,
    /// User number inside containers.
    pub uid: u32,
    /// Group number inside containers.
    pub gid: u32,
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
    /// Whether it is asked to choose a new password.
    pub need_password_change: bool,
    /// Whether its sessions let it become root inside.
    pub sudo_enabled: bool,
    /// Whether a code is asked for at login.
    pub totp_enabled: bool,
    /// Whether it can log in by password.
    pub has_password: bool,
    /// How the account first came to be: `local`, `fixed`, `oidc` or `saml`.
    pub source: String,
    /// When it last logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_login_at: Option<Timestamp>,
    /// By what it last logged in: `password` or the name of a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_login_via: Option<String>,
    /// When a login or keypair of it was last used, as of the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_activity_at: Option<Timestamp>,
    /// Sessions that have not ended.
    pub live_sessions: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// What a change of a person touched besides it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Touched {
    /// Keypairs that open nothing any more.
    pub keypairs: u64,
    /// Sessions that were ended, and those that cannot start now.
    pub sessions: u64,
    /// Logins that were ended.
    pub logins: u64,
    /// Invitations that were withdrawn.
    pub invitations: u64,
    /// Names of the groups that were left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// A person after a change that reaches further than the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserTouchedAnswer {
    /// Who.
    #[serde(flatten)]
    pub user: UserView,
    /// What else was touched.
    pub touched: Touched,
    /// The link that proves the address of a person who became `before-verification`; shown this
    /// once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
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
    /// Both, ready to paste into the configuration of the command line; shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
    /// The link that proves the address of a person made `before-verification`; shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// What became of a row of a table of people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedRow {
    /// Its number; the header is row 1.
    pub row: u32,
    /// As it was written.
    pub email: String,
    /// `created` or `refused`.
    pub status: String,
    /// The password that was drawn, shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Public part of the first keypair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    /// Its secret part, shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<MemberError>,
}

/// What became of a table of people (`POST /users/import`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ImportAnswer {
    /// How many were made.
    pub created: u64,
    /// How many were refused.
    pub refused: u64,
    /// Row by row.
    pub rows: Vec<ImportedRow>,
}
