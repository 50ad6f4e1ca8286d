//! What agents go by that the coordinator's configuration says.

use super::frame::SKIPPABLE;
use super::message::Message;
use crate::redact::{MAX_NAME, MAX_NAMES};
use serde::{Deserialize, Serialize};

/// Sent by the coordinator on the state stream, first of all and whenever it differs. It holds
/// until the next one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Terms {
    /// Names of variables whose values nobody is shown, as [`crate::redact`] takes them.
    pub redaction: Vec<String>,
    /// Time between heartbeats in milliseconds, in place of what the welcome said.
    pub heartbeat_ms: u32,
    /// After so long without one the agent counts as LOST, in milliseconds; at least five
    /// heartbeats.
    pub lost_after_ms: u32,
}

impl Message for Terms {
    const KIND: u16 = SKIPPABLE | 56;

    fn check_bounds(&self) -> Result<(), &'static str> {
        let fits = |name: &String| name.len() <= MAX_NAME;
        match self.redaction.len() <= MAX_NAMES && self.redaction.iter().all(fits) {
            true => Ok(()),
            false => Err("redaction"),
        }
    }
}
