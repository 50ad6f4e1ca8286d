//! What a session leaves behind, and who used what.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What is known of a session that has ended. Its reason, exit code and signal stand beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct EndReport {
    /// Who decided the end: a user, an agent or a rule of the coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The kernel ended something in it for want of memory.
    pub oom: bool,
    /// Milliseconds in each state or phase, over all attempts.
    pub phases_ms: BTreeMap<String, i64>,
    /// Figures of each container of the last attempt.
    pub containers: Vec<ContainerReport>,
    /// Accelerator hours while it was RUNNING, with up to three places.
    pub gpu_hours_allocated: String,
    /// Of those, what was used by the samples.
    pub gpu_hours_used: String,
}

/// Figures of one container. What is absent was not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerReport {
    /// `main1`, `sub1`, …
    pub rank: String,
    /// Most memory used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<i64>,
    /// That is the largest sample, as the kernel of its node has no counter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory_peak_sampled: bool,
    /// Memory it could have.
    pub memory_limit_bytes: i64,
    /// Most memory of its GPUs in use, of each alone and summed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory_peak_bytes: Option<i64>,
    /// Processor time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<i64>,
    /// Bytes read from disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<i64>,
    /// Bytes written to disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<i64>,
    /// Bytes received over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<i64>,
    /// Bytes sent over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<i64>,
}

/// What was used in a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageSummary {
    /// By what it is summed up.
    pub by: String,
    /// From when on; absent = from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Up to when.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// All of it together.
    pub total: UsageLine,
    /// One for each, the most accelerator hours first; of days and months the oldest.
    pub items: Vec<UsageLine>,
}

/// What was used by one person, in one project, …
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct UsageLine {
    /// Id of what is summed up; empty for the total.
    pub id: String,
    /// What it was called last.
    pub name: String,
    /// Sessions in it.
    pub sessions: u64,
    /// Accelerator hours while sessions were RUNNING.
    pub gpu_hours_allocated: String,
    /// Of those, what was used by the samples.
    pub gpu_hours_used: String,
    /// Accelerator hours held before and after: pulling, starting, stopping.
    pub gpu_hours_held: String,
    /// Of what was allocated, that of which no sample says anything.
    pub gpu_hours_gaps: String,
    /// The same of each slot: hours of one, or GiB hours of memory.
    pub slots: BTreeMap<String, UsageHours>,
}

/// Hours of a slot, with up to three places.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct UsageHours {
    /// While sessions were RUNNING.
    pub allocated: String,
    /// Of those, what was used by the samples.
    pub used: String,
    /// Held before and after.
    pub held: String,
    /// Of what was allocated, that of which no sample says anything.
    pub gaps: String,
}
