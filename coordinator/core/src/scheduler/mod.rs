//! Who starts where, and why not.
//!
//! One function decides: [`plan`]. It has no clock, no I/O and no chance in it: the same
//! state and instant give the same decisions. The daemon keeps a [`Planner`] with indexes
//! beside the state and asks that instead, which decides the same; so do `explain`,
//! `check`, presets and `longshore simulate`.
//!
//! | module | decides |
//! |---|---|
//! | `planner` | a pass: order, head of line, charges, placement |
//! | `nodes` | which agent comes first |
//! | `share` | whose dominant share is smaller |
//! | `room` | what an agent has room for, and whether anybody ever could |
//! | `ready` | what keeps a session from being considered at all |
//! | `limits` | which limits a request is over |
//! | `dispatch` | which queue goes into which pool |
//! | `system` | sessions that do not wait |
//! | `explain` | what a waiting session is told |

mod dispatch;
mod explain;
pub mod limits;
mod nodes;
mod planner;
mod ready;
mod room;
mod share;
mod system;

pub use dispatch::{pool_count, pool_used};
pub use explain::{
    Check, InLine, blocked_by, check, class_of, explain, is_offered, position, positions, quota,
    verdicts, waiting_in_group, waiting_in_queue,
};
pub use planner::Planner;
pub use room::{Never, could_ever_hold, free_slots};
pub use system::begin;

use crate::model::{Change, State};
use longshore_common::amount::Slots;
use longshore_common::ids::{AgentId, GroupId, SessionId};
use longshore_common::session::{DeviceGrant, Reason};
use longshore_common::time::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What one pass decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decisions {
    /// Sessions that get a place, in the order in which they get it.
    pub starts: Vec<Start>,
    /// Sessions that wait no longer.
    pub cancels: Vec<Cancel>,
    /// Tries counted and forgotten, agents taken in turn.
    pub changes: Vec<Change>,
    /// When a pass is due although nothing happens.
    pub next_deadline: Option<Timestamp>,
    /// Groups that were looked at.
    pub passed: BTreeSet<GroupId>,
}

/// A session gets a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub session: SessionId,
    /// In which group.
    pub group: GroupId,
    /// Through which pool, for sessions of queues.
    pub pool: Option<String>,
    /// Where each container goes, by rank.
    pub places: Vec<Placed>,
}

/// The place of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Where.
    pub agent: AgentId,
    /// What it was granted.
    pub slots: Arc<Slots>,
    /// With which devices.
    pub devices: Vec<DeviceGrant>,
}

/// A session waits no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// Which.
    pub session: SessionId,
    /// Why.
    pub reason: Reason,
    /// The same in words.
    pub detail: String,
}

/// Decides for everything that waits, from nothing but the state.
#[must_use]
pub fn plan(state: &State, now: Timestamp) -> Decisions {
    Planner::new().plan(state, now)
}
