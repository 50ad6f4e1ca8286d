//! The JSON shapes of the HTTP API, shared by the server and the command line.
//!
//! Separate from the domain types on purpose: what is published here only grows.
//! Amounts, ids and enums are text in requests, so that the server can name every
//! bad member at once; in answers they are canonical. Absent means absent: answers
//! never hold `null`.

mod apps;

pub use apps::{AppAccess, NewPort, SessionApp, SessionApps};
mod drain;
mod idle;
mod usage;

pub use drain::*;
pub use idle::*;
pub use usage::*;

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A failure, as RFC 9457 describes it (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Address of the explanation of `code`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Fixed per code.
    pub title: String,
    /// The HTTP status again.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// Stable, e.g. `LS-SLOT-UNKNOWN`.
    pub code: String,
    /// What happened, for people.
    pub detail: String,
    /// Every bad member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<MemberError>,
    /// The limit that was met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitMet>,
    /// What would pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Objects that are in the way, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<crate::admin::InTheWay>,
    /// How many are in the way, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// The path of the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// The id under which the request stands in the log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

/// One bad member of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberError {
    /// Where, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong with it and what would be accepted.
    pub message: String,
}

/// A limit, what there is, and what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitMet {
    /// Which rule.
    pub rule: String,
    /// Which slot, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// The limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// What there is.
    pub have: String,
    /// What was asked.
    pub need: String,
    /// What carries the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// What a limit or a reason comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Source {
    /// `keypair-policy`, `project`, `domain`, `group`, `pool`, `allocation-policy`, `session`, …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its id, where it has one beside the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Source {
    /// A source without an id.
    #[must_use]
    pub fn new(kind: &str, name: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            name: name.into(),
            id: None,
        }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The objects.
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

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
    /// Size of `/dev/shm`, written like `mem`.
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
    /// Hold it back until it is released.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// Ports inside its containers that are to be reachable, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 32)]
    pub ports: Vec<NewPort>,
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

/// Why a session waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Blocker {
    /// `identity`, `ready`, `limit`, `pool`, `order` or `capacity`.
    pub stage: String,
    /// Which rule.
    pub rule: String,
    /// In words.
    pub text: String,
    /// Which slot, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<String>,
    /// For a limit what is in use, for capacity the most that one agent has free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub have: Option<String>,
    /// For a limit its value, for capacity the most that one agent has at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// What it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

impl Blocker {
    /// A reason without numbers and source.
    #[must_use]
    pub fn new(stage: &str, rule: &str, text: String) -> Self {
        Self {
            stage: stage.to_owned(),
            rule: rule.to_owned(),
            text,
            slot: None,
            need: None,
            have: None,
            limit: None,
            source: None,
        }
    }

    /// The same with what it comes from.
    #[must_use]
    pub fn of(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }
}

/// One layer of limits and its use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaLayer {
    /// `keypair-policy`, `project` or `domain`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `keypair`, `user`, `project` or `domain`: whose use counts.
    pub layer: String,
    /// The limit; absent = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// In use.
    pub used: String,
}

/// What may be used of a slot, or how many sessions, and what is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaEntry {
    /// Which slot; `sessions` and `pending` for the counts.
    pub slot: String,
    /// In use by the first layer.
    pub used: String,
    /// The tightest limit; absent = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// What is left by the tightest limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<String>,
    /// What carries the tightest limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tightest: Option<Source>,
    /// Every layer.
    pub layers: Vec<QuotaLayer>,
}

/// A request that could start now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Nearest {
    /// In which group.
    pub group: String,
    /// With which amounts of each container.
    pub slots: BTreeMap<String, String>,
}

/// How far the pull of an image is. Live, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Bytes there.
    pub bytes_done: u64,
    /// Bytes in all; absent = not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    /// Layers there.
    pub layers_done: u32,
    /// Layers in all; absent = not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers_total: Option<u32>,
}

/// A device a session holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldDevice {
    /// Its id (UUID).
    pub id: String,
    /// Through which slot.
    pub slot: String,
    /// How much of it.
    pub amount: String,
    /// Its place on the agent, for display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Product name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
}

/// A container of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Container {
    /// `main1`, `sub1`, …
    pub rank: String,
    /// To which attempt it belongs.
    pub attempt: u32,
    /// Id of its agent.
    pub agent: String,
    /// Name of its agent.
    pub agent_name: String,
    /// See the words of container states.
    pub state: String,
    /// Docker's id, first 12 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docker_id: String,
    /// Devices granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<HeldDevice>,
    /// How far its pull is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// When its process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// Most memory used, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<i64>,
    /// Processor time used, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<i64>,
}

/// A session. Lists leave `environment`, `containers`, `report` and `output_tail` out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// `s-42`.
    pub id: String,
    /// Counts stored changes from 1; the ETag.
    pub version: u64,
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whose it is.
    pub owner_name: String,
    /// Id of the service account that asked for it in the owner's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by_name: Option<String>,
    /// The keypair it was asked with.
    pub access_key: String,
    /// Id of its resource group.
    pub group: String,
    /// Name of its resource group.
    pub group_name: String,
    /// Id of its project, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Name of its project when it was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_name: Option<String>,
    /// The queue it came through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The pool it was dispatched to; absent while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// `batch`, `interactive`, `inference` or `system`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Image reference.
    pub image: String,
    /// Digest it was resolved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Amounts of each container, where `cluster` does not say otherwise.
    pub slots: BTreeMap<String, String>,
    /// Several containers; absent = one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<SessionCluster>,
    /// Processor architecture; absent = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Agents it was given by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub designated: Option<Designation>,
    /// Not placed before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub start_at: Option<Timestamp>,
    /// Sessions it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// When it is tried again by itself; absent = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Attempts that are over, the newest 64, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<PastAttempt>,
    /// Size of `/dev/shm` in bytes.
    pub shm_bytes: i64,
    /// Environment as given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Directory the command starts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Whether its process has a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// Names of the apps that can be reached in it, in the order of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_names: Vec<String>,
    /// 0 to 100.
    pub priority: i64,
    /// Marks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `PENDING`, `SCHEDULED`, `PREPARING`, `RUNNING`, `TERMINATING`, `TERMINATED`, `CANCELLED`, `ERROR`.
    pub state: String,
    /// While PREPARING: what it is busy with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Flags beside the state: `unreachable`, `releasing`, `held`, `idle`, `frozen`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// From 1.
    pub attempt: u32,
    /// Place among those that wait as it does, from 1; only while PENDING.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// `not-ready`, `limit`, `capacity`, `order` or `never`: what kind of wait it is; only while PENDING.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Why it waits; only while PENDING.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<Blocker>,
    /// Why it ended or is being stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// `success` or `failure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Of the main container's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Names of the agents it is placed on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agent_names: Vec<String>,
    /// Its containers of all attempts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<Container>,
    /// What the server changed in the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adjusted: Vec<Adjustment>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it got its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub placed_at: Option<Timestamp>,
    /// When the present attempt began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// When its life ends, extensions included; absent without a lifetime, and before a start
    /// from which it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub lifetime_deadline: Option<Timestamp>,
    /// The signal its program gets before its lifetime or a drain stops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_before: Option<SignalBefore>,
    /// How often its life was extended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub extensions: u32,
    /// Not stopped for being idle before this instant, because somebody wanted it kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub kept_until: Option<Timestamp>,
    /// When a limit will stop it at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stop_at: Option<Timestamp>,
    /// Which limit: `lifetime`, `idle`, `batch-timeout` or `drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_cause: Option<String>,
    /// What it spent, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<EndReport>,
    /// The last lines of its output, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tail: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// By how much the life of a session is to be longer. Without a member: by as much as one
/// extension may have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// Seconds to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 604_800)]
    pub by_s: Option<i64>,
    /// Or when it shall end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// A life that became longer, and what is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Extended {
    /// The session.
    pub id: String,
    /// Its version from now on.
    pub version: u64,
    /// Seconds that were added.
    pub by_s: i64,
    /// When its life ends now; absent if it counts from a start that is to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub lifetime_deadline: Option<Timestamp>,
    /// Extensions it has had.
    pub extensions_used: u32,
    /// Extensions it may still have.
    pub extensions_left: u32,
    /// The most that one of them may have, in seconds.
    pub extension_max_s: i64,
    /// Seconds that all of them may add; absent = not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_left_s: Option<i64>,
}

/// Nothing is to be said beside the address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepRequest {}

/// A session that is kept, and what is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kept {
    /// The session.
    pub id: String,
    /// Its version from now on.
    pub version: u64,
    /// Not stopped for being idle before this instant.
    #[schema(value_type = String, format = DateTime)]
    pub kept_until: Timestamp,
    /// Keeps since its use was last measured.
    pub keeps_used: u32,
    /// Keeps it may still have before it is used again.
    pub keeps_left: u32,
}

/// The containers of a session that has several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionCluster {
    /// How many.
    pub size: u16,
    /// `single-node` or `multi-node`.
    pub mode: String,
    /// Amounts of each container, main1 first; empty = `slots` for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<BTreeMap<String, String>>,
}

/// Agents a session was given by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Designation {
    /// Their names.
    pub agents: Vec<String>,
    /// `strict`: only these; `preferred`: these first.
    pub mode: String,
}

/// A session that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dependency {
    /// Its id.
    pub session: String,
    /// `ok`, `any` or `fail`: how it has to end.
    pub on: String,
    /// It has.
    pub met: bool,
}

/// When a batch session is tried again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restart {
    /// How often at most.
    pub max: u32,
    /// After what: `agent-lost`, `failed`, `out-of-memory`.
    pub on: Vec<String>,
    /// How often it was.
    pub used: u32,
}

/// An attempt of a session that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PastAttempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// Names of the agents it was placed on.
    pub agent_names: Vec<String>,
    /// When it got its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub placed_at: Option<Timestamp>,
    /// When it began to run, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it was over.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
    /// Why: a reason of sessions, or the cause of a start that failed.
    pub reason: String,
    /// The same as a sentence.
    pub detail: String,
    /// Of the main container's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// What of a session is to be different. What is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionPatch {
    /// Another name; empty = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub name: Option<String>,
    /// All marks it has from now on, at most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// 0 to 100, higher goes first; only while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100)]
    pub priority: Option<i64>,
    /// Not placed before this instant; only while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub start_at: Option<Timestamp>,
}

/// What would become of a session; nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct SessionCheck {
    /// `now`: it would start; `later`: it would wait; `never`: it would be refused.
    pub verdict: String,
    /// For `later`: what kind of wait it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// For `later`: why it would wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<Blocker>,
    /// What each agent of its group says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentVerdict>,
    /// A request like it that could start now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Nearest>,
    /// Resource group it would go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    /// What the server would change in the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adjusted: Vec<Adjustment>,
    /// For `never`: the code it would be refused with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// For `never`: the same as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// For `never`: every bad member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<MemberError>,
    /// For `never`: the limit that is met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitMet>,
    /// For `never`: what would pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// One line of a session's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryLine {
    /// From 1 in each session; a line with `reached` has the number of the line before it.
    pub seq: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// State before; absent in the first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// State after.
    pub to: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Which user, agent or rule.
    pub by: String,
    /// In which attempt.
    pub attempt: u32,
    /// What an administrator reached who is not the owner: `logs`. The state stays as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<String>,
}

/// Asks to end sessions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminateRequest {
    /// Which; only on the route for many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 200)]
    pub ids: Vec<String>,
    /// Seconds between the stop signal and the kill; 0 to 600, default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 600)]
    pub grace_s: Option<i64>,
    /// End the session in the books at once; the node is cleaned up afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// A signal for the program of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalOrder {
    /// `INT`, `TERM`, `HUP`, `QUIT`, `USR1` or `USR2`.
    #[schema(max_length = 16)]
    pub signal: String,
}

/// A command or a terminal in a running session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewExec {
    /// `command` (default) or `terminal`: a login shell with a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 16)]
    pub kind: Option<String>,
    /// Program and arguments; none for a terminal. At most 32 KiB in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1024)]
    pub command: Vec<String>,
    /// In which container; default `main1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 16)]
    pub rank: Option<String>,
    /// Whether a command gets a terminal; a terminal always has one.
    #[serde(default)]
    pub tty: bool,
    /// On top of the environment of the session; at most 16 KiB in all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Absolute; default that of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096)]
    pub workdir: Option<String>,
    /// Size of the terminal; default 24 rows of 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<ExecSize>,
}

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecSize {
    /// Lines.
    #[schema(minimum = 1, maximum = 65535)]
    pub rows: u16,
    /// Characters in a line.
    #[schema(minimum = 1, maximum = 65535)]
    pub cols: u16,
}

/// A command or terminal, as it stands. It is known until ten minutes after its end, and until
/// the coordinator starts anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exec {
    /// Its id.
    pub id: String,
    /// In which session.
    pub session: String,
    /// In which of its containers.
    pub rank: String,
    /// `command` or `terminal`.
    pub kind: String,
    /// `created`, `attached`, `detached` (a terminal whose connection was lost) or `ended`.
    pub state: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Its own, once it has ended and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Opens its stream, as the sub-protocol `token.<token>` beside `longshore.v1`. Only in
    /// the answer that creates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What became of each.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct TerminateAnswer {
    /// Were waiting; ended now.
    pub cancelled: Vec<String>,
    /// Are being stopped.
    pub terminating: Vec<String>,
    /// Nothing was changed.
    pub skipped: Vec<Skipped>,
    /// Whether they were ended in the books at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
}

/// A session that was left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Skipped {
    /// Which.
    pub id: String,
    /// `already-final`, `already-terminating` or `not-found`.
    pub why: String,
}

/// A device as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// UUID.
    pub id: String,
    /// Its place on the agent, for display.
    pub index: u32,
    /// Id of its agent.
    pub agent: String,
    /// Name of its agent.
    pub agent_name: String,
    /// The slot it provides.
    pub slot: String,
    /// How much of it.
    pub capacity: String,
    /// Product name.
    pub model: String,
    /// Memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    /// `healthy`, `cordoned`, `lost`, `unresponsive`, `foreign`.
    pub health: String,
    /// Why it is not healthy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub health_detail: String,
    /// Who holds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// Utilisation in percent; absent = not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<u8>,
    /// Memory in use; absent = not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<i64>,
    /// Absent = not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<i32>,
    /// Absent = not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_watts: Option<u32>,
    /// NUMA node; absent = not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<u32>,
}

/// A session that holds a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holder {
    /// Which session.
    pub session: String,
    /// Whose.
    pub owner_name: String,
    /// How much.
    pub amount: String,
    /// When a limit will end it at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stop_at: Option<Timestamp>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// `agt_…`
    pub id: String,
    /// Counts stored changes from 1; the ETag.
    pub version: u64,
    /// Unique.
    pub name: String,
    /// Id of its resource group.
    pub group: String,
    /// Name of its resource group.
    pub group_name: String,
    /// `ALIVE`, `LOST`, `TERMINATED`.
    pub state: String,
    /// Whether a connection is open now.
    pub connected: bool,
    /// Whether it takes new work.
    pub schedulable: bool,
    /// What stops placements: `runtime-down`, `runtime-hung`, `disk-low`, `fenced`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// Address of its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Since when the connection is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub connected_since: Option<Timestamp>,
    /// Last heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_heartbeat_at: Option<Timestamp>,
    /// What can be given out.
    pub capacity: BTreeMap<String, String>,
    /// What is taken.
    pub occupied: BTreeMap<String, String>,
    /// Number of containers on it.
    pub containers: u64,
    /// Number of containers of this installation on it that no order names; for
    /// administrators of the installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclaimed: Option<u64>,
    /// Version of the agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent_version: String,
    /// `amd64`, `arm64`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arch: String,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub os: String,
    /// Kernel release.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel: String,
    /// Version of the container engine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub engine_version: String,
    /// Version of the GPU driver.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub driver_version: String,
    /// How GPUs reach containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_way: Option<String>,
    /// What the self-test of the ways said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gpu_way_detail: String,
    /// Its GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// When it joined.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Figures of the last heartbeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// It is to be empty, and how far that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Sessions on it, in the answer to the order to empty it; at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<DrainedSession>,
}

/// Live figures of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Load {
    /// Load average over one minute, in thousandths.
    pub load_milli: i64,
    /// Memory that could be had.
    pub mem_free_bytes: i64,
    /// Free where the engine keeps its data.
    pub disk_free_bytes: i64,
    /// Size of that file system.
    pub disk_total_bytes: i64,
    /// Resident memory of the agent.
    pub agent_rss_bytes: i64,
}

/// What may be changed at an agent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentPatch {
    /// Whether it takes new work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedulable: Option<bool>,
    /// Resource group by name or id; what waits there is placed there from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub group: Option<String>,
}

/// Asks for a join token.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    /// Resource group of the nodes; absent = the default group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub group: Option<String>,
    /// Name of the node; absent = what it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub agent_name: Option<String>,
    /// Seconds it is valid; default 86,400, at most 2,592,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2_592_000)]
    pub ttl_s: Option<i64>,
    /// How many nodes may join with it; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub max_uses: Option<i64>,
}

/// A container that carries the labels of this installation and that no order names. It is
/// left alone: absence from the orders is never a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unclaimed {
    /// Its key, from its labels: session, rank and attempt.
    pub id: String,
    /// Id of the node it is on.
    pub agent: String,
    /// Name of the node it is on.
    pub agent_name: String,
    /// The session it says it is of.
    pub session: String,
    /// Its name in Docker.
    pub container_name: String,
    /// First characters of Docker's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docker_id: String,
    /// Where it stands.
    pub state: String,
    /// What it holds of its node, as its labels say; nothing else is placed on that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<String, String>,
    /// The devices it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Somebody ordered its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
    /// When its process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// Since when this coordinator has known of it.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// Ends an unclaimed container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopUnclaimed {
    /// Seconds between the stop signal and the kill; 0 to 600, default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 600)]
    pub grace_s: Option<i64>,
}

/// A join token. Its secret is in the creating answer only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    /// Its public part.
    pub id: String,
    /// Name of the group nodes come into.
    pub group_name: String,
    /// Name the node gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Until when it can be used.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// How many nodes may join with it.
    pub max_uses: u32,
    /// How many did.
    pub uses: u32,
    /// Whose it is.
    pub created_by: String,
    /// `ls1.<id>.<secret>.<pin>`, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What to run on the node, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

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

/// What one agent says to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentVerdict {
    /// Name of the agent.
    #[schema(value_type = String)]
    pub agent_name: Arc<str>,
    /// `fits`, `lost`, `unschedulable`, `condition`, `short`, `container-cap`.
    #[schema(value_type = String)]
    pub verdict: Cow<'static, str>,
    /// In words; the same of many agents.
    #[schema(value_type = String)]
    pub text: Arc<str>,
}

/// Why a session is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Which session.
    pub id: String,
    /// Its state.
    pub state: String,
    /// In one sentence.
    pub text: String,
    /// Place in the queue, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// `not-ready`, `limit`, `capacity`, `order` or `never`: what kind of wait it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<Blocker>,
    /// How often it was tried as the first of its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// After how many tries others pass it; 0 = they never do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries_to_skip: Option<u32>,
    /// The limits that bind it, with their use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<QuotaEntry>,
    /// What each agent of its group says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentVerdict>,
    /// A request like it that could start now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Nearest>,
}

/// One event of `logs/stream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogRecord {
    /// Which container.
    pub rank: String,
    /// Of which attempt.
    pub attempt: u32,
    /// `stdout`, `stderr` or `gap`.
    pub stream: String,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Bytes of output before it, over both streams.
    pub position: u64,
    /// The output, when it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The output in base64, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}
