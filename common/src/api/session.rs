//! A session as it is shown, and what can be asked of one that is there.

use super::*;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

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
    /// From when on every decision has found it so; absent where none was made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
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
            since: None,
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
    /// What its image really is, whatever its tag is moved to: the digest its registry gives it,
    /// or the engine's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// No registry has that image, only its node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub image_local: bool,
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
    /// Digest that ran, as its registry names it; before it is known, the one asked for.
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
    /// Its tasks, if it is an array: sessions `s-42.0`, `s-42.1` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<SessionArray>,
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
    /// Flags beside the state: `unreachable`, `releasing`, `held`, `idle`, `frozen`, `stalled`, `host-network`, `adopted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// Since when it neither writes nor is used although it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stalled_since: Option<Timestamp>,
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
    /// Names the configuration that its present attempt got of vaults and files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// Ids of the vaults in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vaults: Vec<String>,
    /// Ids of vaults that it started without, because they could not be opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vaults_skipped: Vec<String>,
    /// What its present attempt did not get of all it was given, and why: a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_given: Vec<String>,
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
    /// Which containers run the command: `main` or `all`.
    #[serde(default = "run_main")]
    pub run: String,
    /// Amounts of each container, main1 first; empty = `slots` for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<BTreeMap<String, String>>,
}

fn run_main() -> String {
    "main".to_owned()
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
    /// The command begins at once and goes on without a client, without input; the newest
    /// 256 KiB of its output are kept. Its stream can be opened again and again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detach: bool,
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
    /// `created`, `attached`, `detached` (a terminal whose connection was lost, or a command
    /// that goes on while nobody looks) or `ended`.
    pub state: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Its own, once it has ended and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Whether it goes on without a client; then its stream needs no token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detach: bool,
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
    /// Waiting sessions that this cancels, now or as soon as those have ended: they wait for a
    /// success that cannot come any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependants: Vec<String>,
}

/// A session that was left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Skipped {
    /// Which.
    pub id: String,
    /// `already-final`, `already-terminating` or `not-found`.
    pub why: String,
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
