//! Pure: whether this node takes a key it has not seen before.

use longshore_common::agent::Inventory;
use longshore_common::amount::Slots;
use longshore_common::devices::{Mismatch, Occupied, has_devices, verify};
use longshore_common::ids::Fence;
use longshore_common::session::{Cause, Entry, Want};

/// What the node says to a new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Acceptance {
    /// It takes it.
    Taken,
    /// Something it needs is being given back; asked again.
    Wait,
    /// It does not.
    Refused(Cause, String),
}

/// Everything the answer depends on.
#[derive(Debug)]
pub(super) struct Circumstances<'a> {
    /// By the set.
    pub(super) schedulable: bool,
    /// By this node's own configuration.
    pub(super) local_cordon: bool,
    /// The fence held.
    pub(super) fence: Fence,
    /// What the node has.
    pub(super) inventory: &'a Inventory,
    /// Entries accepted before that are not closed, this one not among them.
    pub(super) others: &'a [&'a Entry],
}

pub(super) fn judge(entry: &Entry, now: &Circumstances<'_>) -> Acceptance {
    if entry.fence != now.fence {
        return Acceptance::Refused(
            Cause::LocalPolicy,
            format!(
                "the order is of fence {}, this node holds {}",
                entry.fence, now.fence
            ),
        );
    }
    if !now.schedulable && !entry.designated {
        return Acceptance::Refused(
            Cause::LocalCordon,
            "the node takes no new sessions".to_owned(),
        );
    }
    if now.local_cordon {
        return Acceptance::Refused(
            Cause::LocalCordon,
            "local_cordon is set on the node".to_owned(),
        );
    }
    let all = room(entry, now, |_| true);
    match all {
        Ok(()) => Acceptance::Taken,
        // What is being stopped still holds its devices; without it the order would fit.
        Err(_) if room(entry, now, |other| other.want != Want::Stop).is_ok() => Acceptance::Wait,
        Err((cause, detail)) => Acceptance::Refused(cause, detail),
    }
}

fn room(
    entry: &Entry,
    now: &Circumstances<'_>,
    counts: impl Fn(&Entry) -> bool,
) -> Result<(), (Cause, String)> {
    let mut free = now.inventory.offered.clone();
    let mut occupied = Occupied::new();
    for other in now.others.iter().filter(|e| counts(e)) {
        free.sub(&plain(now.inventory, &other.spec.slots));
        for grant in &other.spec.devices {
            *occupied.entry(grant.device.clone()).or_insert(0) += grant.amount;
        }
    }
    let short = free.shortages(&plain(now.inventory, &entry.spec.slots));
    if let Some(first) = short.first() {
        return Err((
            Cause::CapacityMismatch,
            format!(
                "{} {} was granted, the node has {} left",
                first.slot,
                first.slot.format_amount(first.need),
                first.slot.format_amount(first.have)
            ),
        ));
    }
    verify(
        now.inventory,
        &occupied,
        &entry.spec.slots,
        &entry.spec.devices,
    )
    .map_err(|mismatch: Mismatch| (Cause::DeviceMismatch, mismatch.to_string()))
}

/// Slots without devices: devices are judged one by one.
fn plain(inventory: &Inventory, slots: &Slots) -> Slots {
    slots
        .iter()
        .filter(|(slot, _)| !slot.is_accelerator() && !has_devices(inventory, slot))
        .map(|(slot, amount)| (slot.clone(), amount))
        .collect()
}
