//! Invitations, and what a link that came with one opens.

use super::member::Member;
use super::people::UserView;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Invites somebody (`POST /invitations`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvitationRequest {
    /// Address. One that a user has invites that user to projects.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub email: Member<String>,
    /// Domain by name or id; default the one named `default`, and for a user that user's.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub domain: Member<String>,
    /// Projects of the domain by name or id; required for a user.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub projects: Member<Vec<String>>,
    /// Groups of users by name or id.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub groups: Member<Vec<String>>,
    /// User policy of a new person by name; default `default`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub user_policy: Member<String>,
    /// For how long it is good, 60 to 2592000 seconds; default
    /// `daemon.auth.invitations.expires_s`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 60, maximum = 2_592_000)]
    pub expires_in_s: Member<i64>,
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitationView {
    /// `inv_…`
    pub id: String,
    /// `pending`, `accepted`, `withdrawn` or `expired`.
    pub state: String,
    /// Who is invited.
    pub email: String,
    /// Id of the user who is invited to projects; absent for a new person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Id of the domain.
    pub domain: String,
    /// Its name.
    pub domain_name: String,
    /// Names of the projects.
    pub projects: Vec<String>,
    /// Names of the groups.
    pub groups: Vec<String>,
    /// User policy of a new person.
    pub user_policy: String,
    /// Login name of who invited.
    pub invited_by: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Until when it is good.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// An invitation that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewInvitationAnswer {
    /// What it says.
    #[serde(flatten)]
    pub invitation: InvitationView,
    /// The link that accepts it, shown this once; absent in a rehearsal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// Somebody who was invited and has no account yet, in the list of people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingUser {
    /// Id of the invitation.
    pub id: String,
    /// Who is invited.
    pub email: String,
    /// `pending`
    pub status: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub invited_at: Timestamp,
    /// Until when the invitation is good.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Asks what a link is for (`POST /invitations/lookup`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvitationLookup {
    /// From the fragment of the link.
    #[schema(max_length = 128)]
    pub token: String,
}

/// What a link is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitedTo {
    /// `new-user` (choose a password), `join` (log in as that user) or `verification` (of a user
    /// who waits for it).
    pub kind: String,
    /// Who is meant.
    pub email: String,
    /// Name of the domain.
    pub domain_name: String,
    /// Names of the projects.
    pub projects: Vec<String>,
    /// Who invited: the full name, else the login name.
    pub invited_by: String,
    /// Until when it is good.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Does what a link is for (`POST /invitations/accept`).
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptRequest {
    /// From the fragment of the link.
    #[schema(max_length = 128)]
    pub token: String,
    /// Login name of a new person; default the address.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub username: Member<String>,
    /// Full name of a new person; may be empty.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub full_name: Member<String>,
    /// Required for a new person; whoever proves an address may set one.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 128)]
    pub password: Member<String>,
}

/// What became of a link that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcceptedAnswer {
    /// Who.
    #[serde(flatten)]
    pub user: UserView,
    /// Public part of the first keypair of a new person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    /// Its secret part, shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
    /// Both, ready to paste into the configuration of the command line; shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}

closed! { InvitationLookup AcceptRequest }
