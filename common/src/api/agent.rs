//! Nodes, their devices, containers no order names, and how nodes join.

use super::*;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

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
    /// `healthy`, `cordoned`, `lost`, `unresponsive`, `foreign`, `masked`.
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
    /// What stops placements: `runtime-down`, `runtime-hung`, `disk-low`, `mass-loss`; and
    /// `clock-skew`, which stops none: its clock is more than 30 s from the coordinator's;
    /// `incompatible`: it speaks no protocol of the coordinator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// Of one that is `incompatible`: both versions, and which of the two is to be updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incompatible: Option<String>,
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
    /// Seconds it is valid, at most 2,592,000; absent: `daemon.agents.join_token_ttl_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2_592_000)]
    pub ttl_s: Option<i64>,
    /// How many nodes may join with it; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub max_uses: Option<i64>,
}

/// A container that carries the labels of this installation and that no order names. Nothing
/// else is placed on what it holds.
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
    /// Its end was ordered: by a person, or because its session is over, or because nobody decided
    /// about it in time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
    /// Somebody wants it to stay; it is not stopped by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// It was taken into the books with this request: its session is there again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// Why it was not taken into the books by itself, as a sentence without its end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// When it is stopped if nobody decides otherwise; absent when somebody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stops_at: Option<Timestamp>,
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

/// Why a device is kept back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CordonRequest {
    /// For people; only when it is kept back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub reason: Option<String>,
}
