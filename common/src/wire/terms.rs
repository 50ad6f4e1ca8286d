//! What one side goes by that the other's configuration says.

use super::frame::SKIPPABLE;
use super::message::Message;
use crate::redact::{MAX_NAME, MAX_NAMES};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroize;

/// Most bytes of what an agent's configuration sets for the sessions on its node.
pub const MAX_NODE_LAYERS: usize = 512 * 1024;

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

/// Sent by the agent on the state stream, first of all and whenever it differs: what its files and
/// variables set for the sessions on its node. It may hold secrets; `Debug` prints its size alone.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeLayers {
    /// A list of documents as JSON, each in the form that is kept; at most [`MAX_NODE_LAYERS`]
    /// bytes, empty = there are none.
    pub documents: Vec<u8>,
}

impl Message for NodeLayers {
    const KIND: u16 = SKIPPABLE | 57;

    fn check_bounds(&self) -> Result<(), &'static str> {
        match self.documents.len() <= MAX_NODE_LAYERS {
            true => Ok(()),
            false => Err("documents"),
        }
    }
}

impl fmt::Debug for NodeLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeLayers")
            .field("bytes", &self.documents.len())
            .finish()
    }
}

impl Zeroize for NodeLayers {
    fn zeroize(&mut self) {
        self.documents.zeroize();
    }
}
