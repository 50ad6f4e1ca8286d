//! The device allocator. The coordinator chooses devices with [`allocate`]; the agent
//! verifies what it was given with [`verify`], so both sides judge by one rule.
//!
//! Pure functions of values: a failure on the third slot leaves everything as it was.
//!
//! A slot of which the inventory lists devices is served from them, cpu not excepted; any
//! other slot is a plain amount and none of this module's business, but for accelerators,
//! which exist as devices only.

mod amounts;
mod order;
mod taken;
mod verify;

#[cfg(test)]
mod alike;
#[cfg(test)]
mod tests;

pub use taken::{ByPlace, Taken};
pub use verify::{Mismatch, verify};

use crate::agent::{Affinity, Device, Inventory, Strategy};
use crate::amount::{MAX_MILLI, SlotKind, SlotName, Slots, UNIT};
use crate::ids::DeviceId;
use crate::session::DeviceGrant;
use std::collections::BTreeMap;

/// How much of each device is taken, in thousandths.
pub type Occupied = BTreeMap<DeviceId, i64>;

/// Why a request cannot be served from an inventory. Amounts in thousandths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is too little of a slot in all.
    #[error("{} of {} {slot} free", slot.format_amount(*have), slot.format_amount(*need))]
    Short {
        /// Which.
        slot: SlotName,
        /// Asked.
        need: i64,
        /// Left.
        have: i64,
    },
    /// There is enough in all, but on more devices than the node lets a request be split over.
    #[error(
        "{} of {} {slot} free on as many devices as it may take",
        slot.format_amount(*have),
        slot.format_amount(*need)
    )]
    Fragmented {
        /// Which.
        slot: SlotName,
        /// Asked.
        need: i64,
        /// The most that as many devices as may be used have left.
        have: i64,
    },
    /// Less is asked than the node can give a part of.
    #[error(
        "{slot} {} is below {}, the smallest part the node gives",
        slot.format_amount(*need),
        slot.format_amount(*quantum)
    )]
    BelowQuantum {
        /// Which.
        slot: SlotName,
        /// Asked.
        need: i64,
        /// The smallest amount the node gives.
        quantum: i64,
    },
}

/// A device that has something to give.
#[derive(Debug, Clone, Copy)]
struct Spare<'a> {
    device: &'a Device,
    /// What is free of it, floored to the grain; above 0.
    usable: i64,
}

/// Position in the agent's list; the id settles what a broken list leaves open.
fn rank(device: &Device) -> (u32, &str) {
    (device.index, device.id.as_str())
}

impl<'a> Spare<'a> {
    fn rank(&self) -> (u32, &'a str) {
        rank(self.device)
    }
}

/// A part of a device that is to be granted.
#[derive(Debug, Clone, Copy)]
struct Share<'a> {
    device: &'a Device,
    amount: i64,
}

/// One slot of a request, as the node can serve it.
#[derive(Debug, Clone, Copy)]
struct Demand {
    kind: SlotKind,
    strategy: Strategy,
    /// The smallest part of a device, in thousandths; above 0.
    grain: i64,
    /// A multiple of the grain; above 0.
    amount: i64,
    /// Most devices that may be used.
    most: usize,
}

/// Why one slot is refused; the slot is known to who asks.
enum Lack {
    Short(i64),
    Fragmented(i64),
    BelowQuantum(i64),
}

impl Lack {
    fn of(self, slot: &SlotName, need: i64) -> Refusal {
        let slot = slot.clone();
        match self {
            Self::Short(have) => Refusal::Short { slot, need, have },
            Self::Fragmented(have) => Refusal::Fragmented { slot, need, have },
            Self::BelowQuantum(quantum) => Refusal::BelowQuantum {
                slot,
                need,
                quantum,
            },
        }
    }
}

/// Whether amounts of a slot are parts of devices here, healthy or not, rather than plain.
#[must_use]
pub fn has_devices(inventory: &Inventory, slot: &SlotName) -> bool {
    inventory.devices.iter().any(|d| d.slot == *slot) && slot.kind() != SlotKind::Bytes
}

/// Checks what an agent says about its devices.
///
/// # Errors
/// In words, what no agent may offer: whole GPUs beside shares of GPUs, memory as a device,
/// a quantum that nothing can be split by.
pub fn check_inventory(inventory: &Inventory) -> Result<(), String> {
    let offers = |name: &str| {
        inventory.devices.iter().any(|d| d.slot.as_str() == name)
            || inventory.offered.iter().any(|(s, _)| s.as_str() == name)
    };
    if offers("cuda.device") && offers("cuda.shares") {
        return Err("offers both cuda.device and cuda.shares".to_owned());
    }
    if let Some(device) = inventory
        .devices
        .iter()
        .find(|d| d.slot.kind() == SlotKind::Bytes)
    {
        return Err(format!("device {} offers {}", device.id, device.slot));
    }
    inventory.allocation.check()
}

/// Chooses devices for one container, after the node's own rules of allocation.
///
/// Slots without devices are not looked at: who calls compares plain amounts. The grant
/// comes slot by slot in resource order and by index inside a slot, and does not depend on
/// the order in which the inventory lists its devices. It never exceeds the request but may
/// stay below it: amounts are floored to the node's quantum, and equal parts of a coarse one
/// may add up to less. What the container holds then is [`granted`].
///
/// # Errors
/// [`Refusal`] for the first slot, in resource order, that cannot be served.
pub fn allocate(
    inventory: &Inventory,
    occupied: &impl Taken,
    request: &Slots,
) -> Result<Vec<DeviceGrant>, Refusal> {
    let mut grants = Vec::new();
    let mut near: Vec<u32> = Vec::new();
    for (slot, asked) in request.iter() {
        let refuse = |lack: Lack| lack.of(slot, asked);
        let Some(demand) = demand(inventory, slot, asked).map_err(refuse)? else {
            continue;
        };
        let mut spare = Vec::with_capacity(inventory.devices.len());
        spare.extend(usable(inventory, occupied, slot, &demand));
        demand.suffices(total(&spare)).map_err(refuse)?;
        let Some(mut shares) = choose(inventory, slot, &spare, &demand, &near) else {
            return Err(refuse(Lack::Fragmented(most_of(&spare, demand.most))));
        };
        shares.sort_by(|a, b| rank(a.device).cmp(&rank(b.device)));
        grants.reserve_exact(shares.len());
        for share in shares {
            if let Some(node) = share.device.numa
                && !near.contains(&node)
            {
                near.push(node);
            }
            grants.push(DeviceGrant {
                slot: slot.clone(),
                device: share.device.id.clone(),
                amount: share.amount,
            });
        }
    }
    Ok(grants)
}

/// A request as it was served: slots with devices as the grant has them, the others as asked.
/// This is what a container holds, what the ledger is told and what [`verify`] compares with.
#[must_use]
pub fn granted(inventory: &Inventory, request: &Slots, grant: &[DeviceGrant]) -> Slots {
    let given = |slot: &SlotName| {
        let parts = grant.iter().filter(|part| part.slot == *slot);
        parts.fold(0_i64, |sum, part| sum.saturating_add(part.amount))
    };
    request
        .iter()
        .map(|(slot, asked)| match has_devices(inventory, slot) {
            true => (slot.clone(), given(slot)),
            false => (slot.clone(), asked),
        })
        .collect()
}

/// Whether [`granted`] is the request itself.
#[must_use]
pub fn grants_all(inventory: &Inventory, request: &Slots, grant: &[DeviceGrant]) -> bool {
    request.iter().all(|(slot, asked)| {
        let parts = grant.iter().filter(|part| part.slot == *slot);
        let given = parts.fold(0_i64, |sum, part| sum.saturating_add(part.amount));
        given == asked || !has_devices(inventory, slot)
    })
}

/// What a slot of a request means on this node; none if it is a plain amount.
fn demand(inventory: &Inventory, slot: &SlotName, asked: i64) -> Result<Option<Demand>, Lack> {
    if asked <= 0 {
        return Ok(None);
    }
    if !has_devices(inventory, slot) {
        return if slot.is_accelerator() {
            Err(Lack::Short(0))
        } else {
            Ok(None)
        };
    }
    let kind = slot.kind();
    let grain = grain(inventory, kind);
    let amount = asked - asked % grain;
    if amount == 0 {
        return Err(Lack::BelowQuantum(grain));
    }
    let most = if kind == SlotKind::Fraction && !inventory.allocation.fragmentation {
        let largest = offered(inventory, slot)
            .map(|(_, d)| d.capacity)
            .fold(1, i64::max);
        usize::try_from(amount.unsigned_abs().div_ceil(largest.unsigned_abs()))
            .unwrap_or(usize::MAX)
    } else {
        usize::MAX
    };
    Ok(Some(Demand {
        kind,
        strategy: inventory.allocation.strategy,
        grain,
        amount,
        most,
    }))
}

impl Demand {
    /// Whether so much in all is enough.
    fn suffices(&self, have: i64) -> Result<(), Lack> {
        // A container has at most one instance of a kind, however many are free.
        let have = if self.kind == SlotKind::Unique {
            have.min(UNIT)
        } else {
            have
        };
        if have < self.amount {
            return Err(Lack::Short(have));
        }
        Ok(())
    }
}

/// The smallest part of a device of a kind, in thousandths; at least 1, whatever the agent says.
fn grain(inventory: &Inventory, kind: SlotKind) -> i64 {
    if kind == SlotKind::Fraction {
        inventory.allocation.quantum.max(1)
    } else {
        UNIT
    }
}

/// The devices of a slot that may be given out, with their places in the inventory's list.
fn offered<'a>(
    inventory: &'a Inventory,
    slot: &'a SlotName,
) -> impl Iterator<Item = (usize, &'a Device)> {
    let devices = inventory.devices.iter().enumerate();
    devices.filter(move |(_, d)| d.slot == *slot && d.is_offered())
}

/// The devices of a slot that have something to give.
fn usable<'a>(
    inventory: &'a Inventory,
    occupied: &impl Taken,
    slot: &'a SlotName,
    demand: &Demand,
) -> impl Iterator<Item = Spare<'a>> {
    offered(inventory, slot).filter_map(move |(place, device)| {
        let used = occupied.of(place, device);
        let free = left(device, demand.kind, used);
        let usable = free - free % demand.grain;
        (usable > 0).then_some(Spare { device, usable })
    })
}

/// What is left of a device of which so much is taken, in thousandths, 0 or more.
fn left(device: &Device, kind: SlotKind, used: i64) -> i64 {
    match kind {
        // An instance has one holder.
        SlotKind::Unique if used > 0 => 0,
        SlotKind::Unique => device.capacity.clamp(0, UNIT),
        // No amount is larger, so that sums stay in range whatever an agent says.
        _ => device
            .capacity
            .saturating_sub(used.max(0))
            .clamp(0, MAX_MILLI),
    }
}

fn sum<'a>(spare: impl Iterator<Item = Spare<'a>>) -> i64 {
    spare.map(|s| s.usable).sum()
}

fn total(spare: &[Spare<'_>]) -> i64 {
    sum(spare.iter().copied())
}

/// The most that so many devices can give together.
fn most_of(spare: &[Spare<'_>], devices: usize) -> i64 {
    if devices >= spare.len() {
        return total(spare);
    }
    let mut amounts: Vec<i64> = spare.iter().map(|s| s.usable).collect();
    amounts.sort_unstable_by_key(|amount| std::cmp::Reverse(*amount));
    amounts.iter().take(devices).sum()
}

fn whole<'a>(spare: &[Spare<'a>]) -> Vec<Share<'a>> {
    let part = |s: &Spare<'a>| Share {
        device: s.device,
        amount: s.usable,
    };
    spare.iter().map(part).collect()
}

/// Chooses for one slot of which there is enough in all; none if it lies on too many devices.
/// `near` are the nodes on which the container has devices already.
fn choose<'a>(
    inventory: &Inventory,
    slot: &SlotName,
    spare: &[Spare<'a>],
    demand: &Demand,
    near: &[u32],
) -> Option<Vec<Share<'a>>> {
    let is_near = |s: &Spare<'a>| s.device.numa.is_some_and(|node| near.contains(&node));
    if demand.kind == SlotKind::Unique {
        return spare
            .iter()
            .min_by_key(|s| (!is_near(s), s.rank()))
            .map(|s| whole(&[*s]));
    }
    if near.is_empty() {
        return in_scopes(inventory, slot, spare, demand);
    }
    let (close, far): (Vec<_>, Vec<_>) = spare.iter().copied().partition(is_near);
    let have = total(&close);
    let hinted = if have >= demand.amount {
        amounts::split(close, demand, Affinity::Interleaved)
    } else if have > 0 && demand.most > close.len() {
        let rest = Demand {
            amount: demand.amount - have,
            most: demand.most.saturating_sub(close.len()),
            ..*demand
        };
        in_scopes(inventory, slot, &far, &rest).map(|mut shares| {
            shares.extend(whole(&close));
            shares
        })
    } else {
        None
    };
    // Near nodes are a wish: too many devices there is no reason to refuse.
    hinted.or_else(|| in_scopes(inventory, slot, spare, demand))
}

/// Chooses in the first scope that can give the amount.
fn in_scopes<'a>(
    inventory: &Inventory,
    slot: &SlotName,
    spare: &[Spare<'a>],
    demand: &Demand,
) -> Option<Vec<Share<'a>>> {
    // When all is needed there is nothing to choose.
    if total(spare) == demand.amount && spare.len() <= demand.most {
        return Some(whole(spare));
    }
    let affinity = inventory.allocation.affinity;
    if affinity == Affinity::PreferSingleNode
        && let Some(shares) = order::first_scope(inventory, slot, spare, demand.amount, |scope| {
            amounts::split(scope, demand, affinity)
        })
    {
        return Some(shares);
    }
    amounts::split(spare.to_vec(), demand, affinity)
}
