//! What the agent asks of a grant before it takes it.

use super::{Occupied, grain, has_devices, left};
use crate::agent::Inventory;
use crate::amount::{SlotKind, SlotName, Slots, UNIT};
use crate::ids::DeviceId;
use crate::session::DeviceGrant;
use std::collections::BTreeMap;

/// Which devices a grant may not be given, and why. What [`verify`] finds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// No such device here.
    #[error("device {0} is not on this node")]
    Unknown(DeviceId),
    /// It is cordoned, lost or used by others.
    #[error("device {0} is not healthy: {1}")]
    Unhealthy(DeviceId, String),
    /// More than is left of it.
    #[error("device {device} has {left} of {asked} thousandths left")]
    Overlap {
        /// Which.
        device: DeviceId,
        /// Asked.
        asked: i64,
        /// Left.
        left: i64,
    },
    /// A part that the node does not give of a device.
    #[error("device {device} is given in parts of {grain} thousandths, not {asked}")]
    Part {
        /// Which.
        device: DeviceId,
        /// Asked.
        asked: i64,
        /// What parts are multiples of.
        grain: i64,
    },
    /// The grant names a slot the device does not provide.
    #[error("device {0} does not provide {1}")]
    WrongSlot(DeviceId, SlotName),
    /// Device grants do not add up to the granted amount of the slot.
    #[error("{slot} was granted {granted} thousandths, its devices give {given}")]
    Sum {
        /// Which slot.
        slot: SlotName,
        /// By the grant.
        granted: i64,
        /// By its devices.
        given: i64,
    },
    /// More than one instance of a kind of which a container has at most one.
    #[error("{0} was granted more than once")]
    Twice(SlotName),
}

/// Checks a grant against what a node really has and what others hold there.
///
/// `slots` is what the container holds, not what was asked for it: where equal parts of a
/// coarse quantum give less than was asked, the container holds less (see
/// [`granted`](super::granted)). So for every slot with devices, and every accelerator, the
/// parts must add up to the amount in `slots` exactly, and nothing may be granted that is not
/// in it. Which of the possible devices were chosen is the coordinator's business.
///
/// # Errors
/// The first [`Mismatch`] in the order of the grant, then in resource order.
pub fn verify(
    inventory: &Inventory,
    others: &Occupied,
    slots: &Slots,
    grant: &[DeviceGrant],
) -> Result<(), Mismatch> {
    let mut given: BTreeMap<&SlotName, i64> = BTreeMap::new();
    let mut taken: BTreeMap<&DeviceId, i64> = BTreeMap::new();
    for part in grant {
        let device = inventory
            .devices
            .iter()
            .find(|d| d.id == part.device)
            .ok_or_else(|| Mismatch::Unknown(part.device.clone()))?;
        if device.slot != part.slot {
            return Err(Mismatch::WrongSlot(part.device.clone(), part.slot.clone()));
        }
        if !device.is_offered() {
            let why = format!("{} {}", device.health, device.health_detail);
            return Err(Mismatch::Unhealthy(
                part.device.clone(),
                why.trim_end().to_owned(),
            ));
        }
        let held = || others.get(&part.device).copied().unwrap_or(0).max(0);
        let used = taken.entry(&part.device).or_insert_with(held);
        let kind = part.slot.kind();
        let left = left(device, kind, *used);
        if part.amount <= 0 || part.amount > left {
            return Err(Mismatch::Overlap {
                device: part.device.clone(),
                asked: part.amount,
                left,
            });
        }
        let grain = grain(inventory, kind);
        if part.amount % grain != 0 {
            return Err(Mismatch::Part {
                device: part.device.clone(),
                asked: part.amount,
                grain,
            });
        }
        *used = used.saturating_add(part.amount);
        let sum = given.entry(&part.slot).or_insert(0);
        *sum = sum.saturating_add(part.amount);
    }
    for (slot, granted) in slots.iter() {
        if !slot.is_accelerator() && !has_devices(inventory, slot) {
            continue;
        }
        let given = given.remove(slot).unwrap_or(0);
        if given != granted {
            return Err(Mismatch::Sum {
                slot: slot.clone(),
                granted,
                given,
            });
        }
        if slot.kind() == SlotKind::Unique && given > UNIT {
            return Err(Mismatch::Twice(slot.clone()));
        }
    }
    match given.into_iter().next() {
        Some((slot, given)) => Err(Mismatch::Sum {
            slot: slot.clone(),
            granted: 0,
            given,
        }),
        None => Ok(()),
    }
}
