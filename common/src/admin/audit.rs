//! What the books say against what the nodes say.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Compares the books with the nodes (`POST /usage-audit`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageAuditRequest {
    /// Whether claims of containers that are confirmed gone are closed; default false.
    #[serde(default)]
    pub apply: bool,
}

/// What the books say against what the nodes say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct UsageAuditView {
    /// Where they differ; normally nowhere.
    pub drifts: Vec<UsageDrift>,
    /// Names of agents that are not connected.
    pub not_checked: Vec<String>,
    /// Containers whose claims were closed, or would be with `apply`.
    pub closed: Vec<String>,
}

/// A slot, or a device of it, of which books and node differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageDrift {
    /// Name of the agent.
    pub agent: String,
    /// Which slot.
    pub slot: String,
    /// Which device, for slots that have devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What the books say.
    pub booked: String,
    /// What the node says.
    pub reported: String,
    /// Reported less booked.
    pub difference: String,
    /// Sessions of either side whose amounts differ.
    pub sessions: Vec<String>,
}
