//! Emptying a node.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a node is to be emptied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// When what is left is stopped; absent = nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline_at: Option<Timestamp>,
    /// `wait` (default): sessions end by themselves or at the deadline. `move`: those that may be
    /// tried again wait for another place at the deadline instead of ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 16)]
    pub mode: Option<String>,
    /// For the people whose sessions are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub message: Option<String>,
}

/// That a node is to be empty, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drain {
    /// When what is left is stopped; absent = nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline_at: Option<Timestamp>,
    /// `wait`, or `move`: what may be tried again goes elsewhere at the deadline.
    pub mode: String,
    /// For the people whose sessions are there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Who ordered it.
    pub by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Sessions that were there then.
    pub sessions_before: u32,
    /// Sessions that still are.
    pub sessions_left: u32,
    /// Nothing is left.
    pub empty: bool,
}

/// What becomes of a session on a node that is emptied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainedSession {
    /// `s-42`.
    pub id: String,
    /// Whose.
    pub owner_name: String,
    /// `kept`: it ends by itself before, or there is no deadline; at the deadline `stopped`, or
    /// `moved`: it waits for another place.
    pub effect: String,
    /// When a limit of its own ends it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<Timestamp>,
    /// Which limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_by: Option<String>,
}

/// A signal that a program wants some time before it is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalBefore {
    /// `INT`, `TERM`, `HUP`, `QUIT`, `USR1` or `USR2`.
    #[schema(max_length = 8)]
    pub signal: String,
    /// How many seconds before; absent = 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 86_400)]
    pub lead_s: Option<i64>,
}
