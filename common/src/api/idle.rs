//! What will stop a session, as `GET /sessions/{id}/idle` says it.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What will stop a session, by the numbers that are judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IdleReport {
    /// The session.
    pub id: String,
    /// `grace_period`: nothing is judged yet; `expire_after`: it is stopped at the deadline;
    /// `none`: it is not stopped for being idle, or its node has not said yet.
    pub kind: String,
    /// When it is stopped for being idle if nothing happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
    /// Seconds until then; -1 once it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_s: Option<i64>,
    /// The check whose deadline it is: `interaction` or `utilization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// `stop`, or `report`: the deadline is shown and nothing is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// It was warned, and not used since.
    #[serde(default)]
    pub warned: bool,
    /// Not stopped for being idle before this instant, because somebody wanted it kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub kept_until: Option<Timestamp>,
    /// The check for use by people; absent = it does not apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interaction: Option<InteractionCheck>,
    /// The check for work; absent = it does not apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<UtilizationCheck>,
    /// When its life ends; absent = it is not limited, or not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<LifetimeReport>,
    /// When its node has to be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainReport>,
}

/// The check for use by people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct InteractionCheck {
    /// When it would stop the session if it were alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
    /// Seconds until then; -1 once it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_s: Option<i64>,
    /// When somebody last did something that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_activity_at: Option<Timestamp>,
    /// Connections open now that count as use.
    #[serde(default)]
    pub connections: u32,
}

/// The check for work.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct UtilizationCheck {
    /// When it would stop the session if it were alone; absent = never, as things are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
    /// Seconds until then; -1 once it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_s: Option<i64>,
    /// What it looks at.
    pub metrics: Vec<IdleMetric>,
}

/// How one metric stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IdleMetric {
    /// `cpu`, `mem`, `gpu` or `gpu-mem`.
    pub metric: String,
    /// Mean over the window, of what was granted; absent until the window is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub mean_ratio: Option<f64>,
    /// Below this it counts as idle.
    #[schema(minimum = 0, maximum = 1)]
    pub threshold_ratio: f64,
    /// How much of the window holds data.
    #[schema(minimum = 0, maximum = 1)]
    pub data_ratio: f64,
}

/// When the life of a session ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LifetimeReport {
    /// When it is stopped.
    #[schema(value_type = String, format = DateTime)]
    pub deadline: Timestamp,
    /// Seconds until then; -1 once it has passed.
    pub remaining_s: i64,
    /// Extensions it has had.
    pub extensions_used: u32,
    /// Extensions it may still have.
    pub extensions_left: u32,
}

/// When the node of a session has to be empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainReport {
    /// Which node.
    pub agent_name: String,
    /// When it stops what is there.
    #[schema(value_type = String, format = DateTime)]
    pub deadline: Timestamp,
    /// Seconds until then; -1 once it has passed.
    pub remaining_s: i64,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
