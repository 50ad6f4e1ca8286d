//! What agents have room for: free amounts, devices for containers that stay together,
//! and whether anybody could ever hold a request. Submit, the pass, `explain` and
//! `simulate` ask here, so that they cannot differ.

use crate::model::{Agent, AgentUse, State};
use longshore_common::agent::{AgentState, Inventory};
use longshore_common::amount::{Shortage, SlotName, Slots};
use longshore_common::devices::{Occupied, Refusal, Taken, allocate, has_devices};
use longshore_common::ids::GroupId;
use longshore_common::session::DeviceGrant;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Most containers on one agent: a desired set holds 1,024 entries and is always whole.
const CONTAINERS_MAX: u32 = 1000;

/// Most containers an agent takes.
pub(super) fn container_cap(inventory: &Inventory) -> u32 {
    match inventory.max_containers {
        0 => CONTAINERS_MAX,
        own => own.min(CONTAINERS_MAX),
    }
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

/// Devices of one agent for containers that stay together, one after another; `occupied`
/// holds theirs too afterwards. Plain amounts are the caller's to compare.
///
/// # Errors
/// The first container's refusal; `occupied` is then of no use any more.
pub(crate) fn grant_ranks<S: Borrow<Slots>>(
    inventory: &Inventory,
    occupied: &mut impl Taken,
    ranks: impl IntoIterator<Item = S>,
) -> Result<Vec<Vec<DeviceGrant>>, Refusal> {
    ranks
        .into_iter()
        .map(|request| {
            let grants = allocate(inventory, occupied, request.borrow())?;
            for grant in &grants {
                occupied.add(inventory, &grant.device, grant.amount);
            }
            Ok(grants)
        })
        .collect()
}

/// Why no agent of a group could ever hold a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Never {
    /// Per slot the most that one agent has, of those where that is too little.
    Short(Vec<Shortage>),
    /// The amounts are there, the devices cannot be had together.
    Devices(Refusal),
    /// One after another, or on one agent, there is room for so many containers only.
    Containers(usize),
}

impl Never {
    /// Whether the amount itself is one that no agent gives, however large it is.
    pub(crate) const fn is_below_quantum(&self) -> bool {
        matches!(self, Self::Devices(Refusal::BelowQuantum { .. }))
    }
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
    let all = || {
        let agents = state.agents.values();
        agents
            .filter(|a| a.group == group && a.state != AgentState::Terminated)
            .filter_map(|a| a.inventory.as_deref())
    };
    if all().next().is_none() {
        return Ok(());
    }
    let right = all().filter(|i| arch.is_none_or(|arch| *arch == *i.arch));
    hold_when_empty(right, ranks, together)
}

/// Whether agents, all taken as empty, could hold containers: together on one of them, or
/// spread, the largest first, each where it fits first.
pub(super) fn hold_when_empty<'a, S: Borrow<Slots>>(
    inventories: impl Iterator<Item = &'a Inventory>,
    ranks: &[S],
    together: bool,
) -> Result<(), Never> {
    if together || ranks.len() == 1 {
        hold_together(inventories, ranks)
    } else {
        hold_spread(inventories, ranks)
    }
}

fn hold_together<'a, S: Borrow<Slots>>(
    inventories: impl Iterator<Item = &'a Inventory>,
    ranks: &[S],
) -> Result<(), Never> {
    let mut total = Slots::new();
    for rank in ranks {
        total.add(rank.borrow());
    }
    let most = |short: &[Shortage]| short.first().map_or(0, |s| s.have);
    // What comes nearest is told: devices before containers before amounts.
    let (mut refused, mut capped) = (None, None);
    let mut short: Option<Vec<Shortage>> = None;
    for inventory in inventories {
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
        let cap = usize::try_from(container_cap(inventory)).unwrap_or(usize::MAX);
        if ranks.len() > cap {
            capped = capped.max(Some(cap));
            continue;
        }
        let requests = ranks.iter().map(Borrow::borrow);
        match grant_ranks(inventory, &mut Occupied::new(), requests) {
            Ok(_) => return Ok(()),
            Err(refusal) => refused = Some(refusal),
        }
    }
    Err(match (refused, capped, short) {
        (Some(refusal), ..) => Never::Devices(refusal),
        (None, Some(cap), _) => Never::Containers(cap),
        (None, None, Some(short)) => Never::Short(short),
        // Nobody to ask at all.
        (None, None, None) => Never::Short(Slots::new().shortages(&total)),
    })
}

fn hold_spread<'a, S: Borrow<Slots>>(
    mut inventories: impl Iterator<Item = &'a Inventory>,
    ranks: &[S],
) -> Result<(), Never> {
    // Looked at so far: mostly a few of thousands are enough.
    let mut opened: Vec<Empty<'a>> = Vec::new();
    let mut order: Vec<&Slots> = ranks.iter().map(Borrow::borrow).collect();
    order.sort_by(|a, b| by_size(b, a));
    for (placed, request) in order.into_iter().enumerate() {
        if opened.iter_mut().any(|agent| agent.take(request)) {
            continue;
        }
        let found = inventories.by_ref().any(|inventory| {
            let mut agent = Empty::new(inventory);
            let took = agent.take(request);
            opened.push(agent);
            took
        });
        if !found {
            return Err(Never::Containers(placed));
        }
    }
    Ok(())
}

/// An agent that was empty when it was first looked at.
struct Empty<'a> {
    inventory: &'a Inventory,
    free: Slots,
    occupied: Occupied,
    cap: u32,
}

impl<'a> Empty<'a> {
    fn new(inventory: &'a Inventory) -> Self {
        Self {
            inventory,
            free: inventory.capacity(),
            occupied: Occupied::new(),
            cap: container_cap(inventory),
        }
    }

    /// Takes one container, if there is room for it.
    fn take(&mut self, request: &Slots) -> bool {
        let fits = self.cap > 0 && self.free.fits(request);
        if !fits || grant_ranks(self.inventory, &mut self.occupied, [request]).is_err() {
            return false;
        }
        self.free.sub(request);
        self.cap -= 1;
        true
    }
}

/// Per slot in resource order, the smaller first.
fn by_size(a: &Slots, b: &Slots) -> Ordering {
    let slots: BTreeSet<&SlotName> = a.iter().chain(b.iter()).map(|(slot, _)| slot).collect();
    slots
        .into_iter()
        .map(|slot| a.amount(slot).cmp(&b.amount(slot)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}
