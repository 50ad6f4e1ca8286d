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
//! | `limits` | which limits a request is over |
//! | `dispatch` | which queue goes into which pool |
//! | `explain` | what a waiting session is told |

mod dispatch;
mod explain;
pub mod limits;
mod nodes;
mod planner;
mod share;

pub use dispatch::{pool_count, pool_used};
pub use explain::{Check, blocked_by, check, class_of, explain, is_offered, position, quota};
pub use planner::Planner;

use crate::model::{Agent, AgentUse, Change, State};
use longshore_common::amount::{Shortage, SlotName, Slots};
use longshore_common::devices::{Occupied, Refusal, allocate, has_devices};
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

/// What an agent has left, in resource order.
#[must_use]
pub fn free_slots(agent: &Agent, usage: &AgentUse) -> Slots {
    let Some(inventory) = &agent.inventory else {
        return Slots::new();
    };
    let mut free = Slots::new();
    for (slot, amount) in inventory.offered.iter() {
        if !has_devices(inventory, slot) {
            let rest = amount.saturating_sub(usage.slots.amount(slot)).max(0);
            free.set(slot.clone(), rest);
        }
    }
    for device in inventory.devices.iter().filter(|d| d.is_offered()) {
        let used = usage.devices.get(&device.id).copied().unwrap_or(0);
        let rest = free
            .amount(&device.slot)
            .saturating_add(device.capacity.saturating_sub(used).max(0));
        free.set(device.slot.clone(), rest);
    }
    free
}

/// Why no agent of a group could ever hold a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Never {
    /// Per slot the most that one agent has, of those where that is too little.
    Short(Vec<Shortage>),
    /// The amounts are there, the devices cannot be had together.
    Devices(Refusal),
    /// One after another there is room for so many containers only.
    Containers(usize),
}

/// Whether agents of a group, taken as empty, could hold a session's containers. Agents
/// that are LOST or unschedulable count; a group without agents says yes, since one may come.
///
/// # Errors
/// [`Never`] says what is missing.
pub fn could_ever_hold(
    state: &State,
    group: GroupId,
    ranks: &[Slots],
    together: bool,
    arch: Option<&str>,
) -> Result<(), Never> {
    use longshore_common::agent::AgentState::Terminated;
    let all = || {
        let agents = state.agents.values();
        agents
            .filter(|a| a.group == group && a.state != Terminated)
            .filter_map(|a| a.inventory.as_deref())
    };
    if all().next().is_none() {
        return Ok(());
    }
    let inventories = || all().filter(|i| arch.is_none_or(|arch| arch == i.arch));
    let with_devices = |inventory: &_, request: &Slots| -> Slots {
        request
            .iter()
            .filter(|(slot, _)| slot.is_accelerator() || has_devices(inventory, slot))
            .map(|(slot, amount)| (slot.clone(), amount))
            .collect()
    };
    if !together && ranks.len() > 1 {
        let mut free: Vec<_> = inventories()
            .map(|i| (i, i.capacity(), Occupied::new()))
            .collect();
        let mut order: Vec<&Slots> = ranks.iter().collect();
        order.sort_by(|a, b| by_size(b, a));
        for (placed, request) in order.into_iter().enumerate() {
            let found = free.iter_mut().any(|(inventory, free, occupied)| {
                if !free.fits(request) {
                    return false;
                }
                let Ok(grants) = allocate(inventory, occupied, &with_devices(inventory, request))
                else {
                    return false;
                };
                free.sub(request);
                for grant in grants {
                    *occupied.entry(grant.device).or_insert(0) += grant.amount;
                }
                true
            });
            if !found {
                return Err(Never::Containers(placed));
            }
        }
        return Ok(());
    }
    let mut total = Slots::new();
    for rank in ranks {
        total.add(rank);
    }
    let mut nearest: Option<Never> = None;
    let mut short: Option<Vec<Shortage>> = None;
    for inventory in inventories() {
        let missing = inventory.capacity().shortages(&total);
        if !missing.is_empty() {
            let closer = short.as_ref().is_none_or(|known| {
                missing.len() < known.len()
                    || (missing.len() == known.len() && most(&missing) > most(known))
            });
            if closer {
                short = Some(missing);
            }
            continue;
        }
        let mut occupied = Occupied::new();
        let mut refused = None;
        for rank in ranks {
            match allocate(inventory, &occupied, &with_devices(inventory, rank)) {
                Ok(grants) => {
                    for grant in grants {
                        *occupied.entry(grant.device).or_insert(0) += grant.amount;
                    }
                }
                Err(refusal) => refused = Some(refusal),
            }
        }
        match refused {
            None => return Ok(()),
            Some(refusal) => nearest = Some(Never::Devices(refusal)),
        }
    }
    Err(nearest.unwrap_or_else(|| {
        Never::Short(short.unwrap_or_else(|| {
            // No agent of this architecture at all.
            total
                .iter()
                .map(|(slot, need)| Shortage {
                    slot: slot.clone(),
                    need,
                    have: 0,
                })
                .collect()
        }))
    }))
}

/// Per slot in resource order, the smaller first.
fn by_size(a: &Slots, b: &Slots) -> std::cmp::Ordering {
    let slots: BTreeSet<&SlotName> = a.iter().chain(b.iter()).map(|(slot, _)| slot).collect();
    slots
        .into_iter()
        .map(|slot| a.amount(slot).cmp(&b.amount(slot)))
        .find(|order| order.is_ne())
        .unwrap_or(std::cmp::Ordering::Equal)
}

fn most(short: &[Shortage]) -> i64 {
    short.first().map_or(0, |s| s.have)
}
