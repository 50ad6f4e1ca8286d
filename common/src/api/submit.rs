//! What is asked of a new session.

use super::*;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What a session is asked to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// A name of one's own, unique among one's sessions that have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    pub name: Option<String>,
    /// `batch` (default) or `interactive`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    pub kind: Option<String>,
    /// Image reference; absent = the installation's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 512)]
    pub image: Option<String>,
    /// Program and arguments; a batch session needs one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1024)]
    pub command: Vec<String>,
    /// Amounts per slot, as text: `{"cpu":"4","mem":"16G","cuda.device":"1"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<String, String>,
    /// Size of `/dev/shm`, written like `mem`; absent = that of preset or image, else as much as
    /// `mem` and the keypair's policy allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub shm: Option<String>,
    /// Resource group by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub group: Option<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Files by label, as a vault has them: `{path, contents, mode, …}`. At most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub files: BTreeMap<String, serde_json::Value>,
    /// Work keys, as a vault has them; above one's vault, below locked ones.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schema(value_type = Object)]
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Directory the command starts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1024)]
    pub workdir: Option<String>,
    /// Whether the process gets a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// 0 to 100, higher goes first; default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100)]
    pub priority: Option<i64>,
    /// Lifetime in seconds, counted from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 315_360_000)]
    pub lifetime_s: Option<i64>,
    /// Time limit of the command in seconds, counted from its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 315_360_000)]
    pub batch_timeout_s: Option<i64>,
    /// A signal for its main process some time before its lifetime or a drain stops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_before: Option<SignalBefore>,
    /// Marks of one's own, at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Project by name or id; absent = one's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub project: Option<String>,
    /// Queue by name, instead of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    pub queue: Option<String>,
    /// Preset by name: its amounts are taken where the request names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub preset: Option<String>,
    /// More than one container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<NewCluster>,
    /// Processor architecture in the engine's words: `amd64`, `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    pub arch: Option<String>,
    /// Agents it is to run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub designated: Option<NewDesignation>,
    /// Not placed before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub start_at: Option<Timestamp>,
    /// Sessions of one's own that must have ended before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub depends_on: Vec<NewDependency>,
    /// Whether and after what a batch session is tried again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<NewRestart>,
    /// Many equal sessions, its tasks, instead of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<NewArray>,
    /// Hold it back until it is released.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// Ports inside its containers that are to be reachable, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 32)]
    pub ports: Vec<NewPort>,
}

/// Which tasks an array is asked to have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewArray {
    /// First and last index: `0-99`.
    #[schema(max_length = 13, pattern = "^[0-9]{1,6}(-[0-9]{1,6})?$")]
    pub range: String,
    /// So many tasks may be live at a time; absent = as many as there is room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub parallel: Option<i64>,
}

/// The tasks of an array.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct SessionArray {
    /// First and last index.
    pub range: String,
    /// So many tasks may be live at a time; absent = as many as there is room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// How many tasks it has in all.
    pub size: u32,
    /// How many of them are in which state. `unmade` are no sessions yet; of those in
    /// `TERMINATED`, `succeeded` says how many ended with success. What was never made and never
    /// will be is `CANCELLED`.
    pub counts: BTreeMap<String, u32>,
}

/// When a batch session is tried again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRestart {
    /// How often at most.
    #[schema(minimum = 0, maximum = 100)]
    pub max: i64,
    /// After what: `agent-lost`, `failed`, `out-of-memory`. Absent: `agent-lost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 3)]
    pub on: Option<Vec<String>>,
}

/// Several containers that start together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCluster {
    /// How many, 1 to 100.
    #[schema(minimum = 1, maximum = 100)]
    pub size: i64,
    /// `single-node` (default) or `multi-node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    pub mode: Option<String>,
    /// Which containers run the command: `main` (default) or `all`. With `all` one whose command
    /// ends with 0 is finished, and the session ends with the last one or at the first that fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    pub run: Option<String>,
    /// Amounts of each container, main1 first; empty = `slots` for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100)]
    pub containers: Vec<BTreeMap<String, String>>,
}

/// Agents by name or id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDesignation {
    /// Which, at least one.
    #[schema(min_items = 1, max_items = 100)]
    pub agents: Vec<String>,
    /// `strict`: only these; `preferred` (default): these first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    pub mode: Option<String>,
}

/// A session that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDependency {
    /// Its id.
    #[schema(max_length = 32)]
    pub session: String,
    /// `ok` (default): it ended with success; `any`: it ended; `fail`: it ended without success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 8)]
    pub on: Option<String>,
}

/// A change the server made to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Adjustment {
    /// Which member.
    pub path: String,
    /// Before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// After.
    pub to: String,
    /// Why.
    pub reason: String,
    /// What said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}
