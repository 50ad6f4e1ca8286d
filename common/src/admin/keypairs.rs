//! Keypairs.

use super::member::Member;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes a further keypair (`POST /keypairs`), or takes one over from elsewhere.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKeypair {
    /// Whose, by login name, address or id; absent = the caller.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub user: Member<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub label: Member<String>,
    /// Keypair policy by name; default that of the main keypair. Superadmins only.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub policy: Member<String>,
    /// Requests in 900 s, 1 to 1,000,000; default that of the main keypair. Superadmins only.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>)]
    pub rate_limit: Member<i64>,
    /// The one project it is good for, by name or id; absent = all.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub project: Member<String>,
    /// Until when it is good; absent = for ever.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub expires_at: Member<String>,
    /// An access key from elsewhere, 8 to 64 of `A-Za-z0-9_-`; needs `secret_key`. Superadmins only.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub access_key: Member<String>,
    /// Its secret, 32 to 256 printable characters without spaces.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 256)]
    pub secret_key: Member<String>,
}

/// What may be changed at a keypair.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeypairPatch {
    /// For people; null = empty.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub label: Member<String>,
    /// Keypair policy by name.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub policy: Member<String>,
    /// Requests in 900 s, 1 to 1,000,000; null = the setting.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>)]
    pub rate_limit: Member<i64>,
    /// Until when it is good; null = for ever.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub expires_at: Member<String>,
}

/// Gives a keypair a new secret.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// For how many seconds the old secret stays good, 0 to 86,400; default 0.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>)]
    pub overlap_s: Member<i64>,
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
    /// For people; may be empty.
    pub label: String,
    /// `active`, `inactive` or `revoked`.
    pub state: String,
    /// Whether its policy limits the user as a whole.
    pub main: bool,
    /// Name of its keypair policy.
    pub policy: String,
    /// Requests in 900 s; absent = the setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,
    /// Id of the one project it is good for; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Name of that project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_name: Option<String>,
    /// Until when it is good; absent = for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Until when the secret before the last rotation is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub overlap_until: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Login name of who made it.
    pub created_by: String,
    /// When it was last used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// From which address it was last used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_from: Option<String>,
    /// Requests it made in the last 900 s; absent from tables and rehearsals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_in_window: Option<u64>,
}

/// A keypair that was just made, or has a new secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewKeypairAnswer {
    /// Which.
    #[serde(flatten)]
    pub keypair: KeypairView,
    /// Its secret part, shown this once; absent in a rehearsal and where it came with the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
    /// Both, ready to paste into the configuration of the command line; shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}
