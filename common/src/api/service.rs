//! The service itself: first setup, who is asking, version, readiness, watchdog, actions.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes the first administrator.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// From the file `setup-token` in the data directory.
    #[schema(max_length = 128)]
    pub token: String,
    /// The administrator's address; it never changes.
    #[schema(max_length = 64)]
    pub email: String,
    /// Absent = the part of the address before the `@`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub username: Option<String>,
    /// Absent = none yet: the administrator signs in with the keypair and sets one later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096)]
    pub password: Option<String>,
    /// Name of the domain, which is made if it is not there; absent = `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub domain: Option<String>,
    /// Name of the project, which is made if it is not there; absent = `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub project: Option<String>,
}

// The token must not reach a log by way of `{:?}`.
impl std::fmt::Debug for SetupRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetupRequest")
            .field("email", &self.email)
            .finish_non_exhaustive()
    }
}

/// The first administrator and the keypair, whose secret is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetupAnswer {
    /// `usr_…`
    pub user: String,
    /// As stored.
    pub username: String,
    /// As stored.
    pub email: String,
    /// The public part of the keypair.
    pub access_key: String,
    /// The secret part.
    pub secret_key: String,
}

impl std::fmt::Debug for SetupAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetupAnswer")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// `usr_…`
    pub id: String,
    /// Name.
    pub username: String,
    /// Address.
    pub email: String,
    /// `superadmin`, `domain-admin`, `monitor` or `user`.
    pub role: String,
    /// The keypair used; with a login the main one. Empty if there is none.
    pub access_key: String,
    /// For people.
    #[serde(default)]
    pub full_name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Variables whose values one is not shown, beside those nobody is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redaction_names: Vec<String>,
    /// Id of the domain.
    #[serde(default)]
    pub domain: String,
    /// Name of the domain.
    #[serde(default)]
    pub domain_name: String,
    /// Projects one is in, the one of sessions that name none first.
    #[serde(default)]
    pub projects: Vec<crate::logins::NameId>,
    /// Groups one is in; everybody is in `users`.
    #[serde(default)]
    pub groups: Vec<crate::logins::NameId>,
    /// Whether there is a password to log in with.
    #[serde(default)]
    pub has_password: bool,
    /// Whether a code is asked for at login.
    #[serde(default)]
    pub totp_enabled: bool,
    /// When the last login was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_login_at: Option<Timestamp>,
    /// By what: `password`, or the name of a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_login_via: Option<String>,
    /// What one should know.
    #[serde(default)]
    pub notices: Vec<crate::logins::Notice>,
}

/// Versions of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Of the program.
    pub version: String,
    /// Of the API.
    pub api: String,
    /// Of the link to agents.
    pub agent_protocol: u32,
    /// Id of the installation.
    pub cluster: String,
    /// Where the API is, as `https://HOST[:PORT]`; absent = console, API and files have one
    /// address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    /// Where files are; as there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_url: Option<String>,
}

/// The net below all deadlines: what stops sessions of which there is no sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Watchdog {
    /// Whether cycles look at anything.
    pub enabled: bool,
    /// Without a sign of life for longer a session is stopped.
    pub threshold_s: i64,
    /// Between two cycles.
    pub watch_interval_s: i64,
    /// Without output, use and work for so long a session counts as stalled; 0 = none does.
    pub stalled_after_s: i64,
    /// The last cycle of this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_cycle_at: Option<Timestamp>,
    /// When the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_cycle_at: Option<Timestamp>,
    /// The last sessions that it stopped, oldest first, at most 100; of this process.
    pub stopped: Vec<WatchdogStop>,
}

/// Custom actions of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Actions {
    /// In the order of the configuration.
    pub items: Vec<Action>,
}

/// A call that people may have made about an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Action {
    /// Unique in its type.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tooltip: Option<String>,
    /// `ro` or `rw`: what one needs on the object.
    pub level: String,
}

/// Has a custom action called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunAction {
    /// `project`, `session`, `model`, `folder`, `agent` or `queue`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which object.
    pub id: String,
    /// Which action.
    pub name: String,
}

/// What became of it. What was answered is not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActionResult {
    /// Whether the status was from 200 to 299.
    pub ok: bool,
    /// The status; none when nothing was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// In words.
    pub message: String,
}

/// A session that the watchdog stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WatchdogStop {
    /// Which.
    pub session: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// For so long there had been no sign of life.
    pub silent_s: i64,
}

/// Whether the coordinator can work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether all checks are well.
    pub ready: bool,
    /// One by one.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// Which.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// More about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}
