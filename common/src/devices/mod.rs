//! The device allocator. The coordinator chooses devices with [`allocate`]; the agent
//! verifies what it was given with [`verify`], so both sides judge by one rule.
//!
//! A pure function of values: a failure on the third slot leaves everything as it was.

use crate::agent::{Device, Inventory};
use crate::amount::{SlotName, Slots, UNIT};
use crate::ids::DeviceId;
use crate::session::DeviceGrant;
use std::collections::BTreeMap;

/// How much of each device is taken, in thousandths.
pub type Occupied = BTreeMap<DeviceId, i64>;

/// Why a request cannot be served from an inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is too little of a slot in all.
    Short {
        /// Which.
        slot: SlotName,
        /// Asked.
        need: i64,
        /// Left.
        have: i64,
    },
}

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
}

/// Chooses devices for one container.
///
/// Slots of the request that no device of the inventory provides (cpu, mem) are not
/// looked at: they are plain amounts. Whole devices only: each grant takes a device
/// entirely, from the fullest NUMA node that suffices, lowest index first.
///
/// # Errors
/// [`Refusal`] names the slot.
pub fn allocate(
    inventory: &Inventory,
    occupied: &Occupied,
    request: &Slots,
) -> Result<Vec<DeviceGrant>, Refusal> {
    let mut grants = Vec::new();
    for (slot, need) in request.iter() {
        if !slot.is_accelerator() || need <= 0 {
            continue;
        }
        let free: Vec<&Device> = inventory
            .devices
            .iter()
            .filter(|d| d.slot == *slot && d.is_offered())
            .filter(|d| occupied.get(&d.id).copied().unwrap_or(0) == 0 && d.capacity >= UNIT)
            .collect();
        let have = i64::try_from(free.len())
            .unwrap_or(i64::MAX)
            .saturating_mul(UNIT);
        if have < need {
            return Err(Refusal::Short {
                slot: slot.clone(),
                need,
                have,
            });
        }
        let count = usize::try_from((need + UNIT - 1) / UNIT).unwrap_or(usize::MAX);
        for device in pick_by_node(free, count) {
            grants.push(DeviceGrant {
                slot: slot.clone(),
                device: device.id.clone(),
                amount: UNIT,
            });
        }
    }
    Ok(grants)
}

/// Takes `count` devices from the smallest NUMA node that has as many, else from all.
fn pick_by_node(free: Vec<&Device>, count: usize) -> Vec<&Device> {
    let mut nodes: BTreeMap<Option<u32>, Vec<&Device>> = BTreeMap::new();
    for device in &free {
        nodes.entry(device.numa).or_default().push(device);
    }
    let scope = nodes
        .into_values()
        .filter(|devices| devices.len() >= count)
        .min_by_key(|devices| (devices.len(), devices.first().map(|d| d.index)));
    let mut chosen = scope.unwrap_or(free);
    chosen.sort_by_key(|d| d.index);
    chosen.truncate(count);
    chosen
}

/// Checks a grant against what a node really has and what others hold there.
///
/// # Errors
/// The first [`Mismatch`] in the order of the grant.
pub fn verify(
    inventory: &Inventory,
    others: &Occupied,
    slots: &Slots,
    grant: &[DeviceGrant],
) -> Result<(), Mismatch> {
    let mut given: BTreeMap<&SlotName, i64> = BTreeMap::new();
    let mut taken = others.clone();
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
        let used = taken.entry(part.device.clone()).or_insert(0);
        let left = device.capacity.saturating_sub(*used);
        if part.amount <= 0 || part.amount > left {
            return Err(Mismatch::Overlap {
                device: part.device.clone(),
                asked: part.amount,
                left,
            });
        }
        *used = used.saturating_add(part.amount);
        *given.entry(&part.slot).or_insert(0) += part.amount;
    }
    for (slot, granted) in slots.iter().filter(|(slot, _)| slot.is_accelerator()) {
        let sum = given.get(slot).copied().unwrap_or(0);
        if sum != granted {
            return Err(Mismatch::Sum {
                slot: slot.clone(),
                granted,
                given: sum,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Health;

    fn node(devices: &[(u32, Option<u32>, Health)]) -> Inventory {
        Inventory {
            hostname: "n".into(),
            arch: "amd64".into(),
            os: String::new(),
            kernel: String::new(),
            agent_version: String::new(),
            engine_version: String::new(),
            engine_storage: String::new(),
            cgroup_version: 1,
            driver_version: String::new(),
            gpu_way: None,
            gpu_way_detail: String::new(),
            offered: Slots::new(),
            total: Slots::new(),
            max_containers: 0,
            devices: devices
                .iter()
                .map(|(index, numa, health)| Device {
                    id: format!("GPU-{index}").parse().unwrap(),
                    index: *index,
                    slot: SlotName::cuda_device(),
                    capacity: UNIT,
                    model: String::new(),
                    memory_bytes: 0,
                    pci: String::new(),
                    minor: Some(*index),
                    numa: *numa,
                    links: vec![],
                    health: *health,
                    health_detail: String::new(),
                })
                .collect(),
        }
    }

    fn gpus(count: i64) -> Slots {
        Slots::new().with(SlotName::cuda_device(), count * UNIT)
    }

    fn names(grants: &[DeviceGrant]) -> Vec<&str> {
        grants.iter().map(|g| g.device.as_str()).collect()
    }

    use Health::{Cordoned, Healthy};

    #[test]
    fn takes_free_healthy_devices_in_order() {
        let node = node(&[
            (0, None, Healthy),
            (1, None, Cordoned),
            (2, None, Healthy),
            (3, None, Healthy),
        ]);
        let occupied = Occupied::from([("GPU-0".parse().unwrap(), UNIT)]);
        let grants = allocate(&node, &occupied, &gpus(2)).unwrap();
        assert_eq!(names(&grants), ["GPU-2", "GPU-3"]);
        assert_eq!(
            allocate(&node, &occupied, &gpus(3)),
            Err(Refusal::Short {
                slot: SlotName::cuda_device(),
                need: 3000,
                have: 2000
            })
        );
    }

    #[test]
    fn stays_on_one_numa_node_when_it_can() {
        let node = node(&[
            (0, Some(0), Healthy),
            (1, Some(0), Healthy),
            (2, Some(1), Healthy),
            (3, Some(1), Healthy),
        ]);
        let occupied = Occupied::from([("GPU-0".parse().unwrap(), UNIT)]);
        assert_eq!(
            names(&allocate(&node, &occupied, &gpus(2)).unwrap()),
            ["GPU-2", "GPU-3"]
        );
        // One alone takes the smaller rest and leaves the pair whole.
        assert_eq!(
            names(&allocate(&node, &occupied, &gpus(1)).unwrap()),
            ["GPU-1"]
        );
        assert_eq!(
            names(&allocate(&node, &occupied, &gpus(3)).unwrap()),
            ["GPU-1", "GPU-2", "GPU-3"]
        );
    }

    #[test]
    fn what_is_allocated_verifies_and_what_is_not_does_not() {
        let node = node(&[(0, None, Healthy), (1, None, Cordoned)]);
        let grant = allocate(&node, &Occupied::new(), &gpus(1)).unwrap();
        assert_eq!(verify(&node, &Occupied::new(), &gpus(1), &grant), Ok(()));
        let taken = Occupied::from([("GPU-0".parse().unwrap(), UNIT)]);
        assert!(matches!(
            verify(&node, &taken, &gpus(1), &grant),
            Err(Mismatch::Overlap { .. })
        ));
        let twice = [grant.clone(), grant.clone()].concat();
        assert!(matches!(
            verify(&node, &Occupied::new(), &gpus(2), &twice),
            Err(Mismatch::Overlap { .. })
        ));
        assert!(matches!(
            verify(&node, &Occupied::new(), &gpus(2), &grant),
            Err(Mismatch::Sum { .. })
        ));
        let mut other = grant.clone();
        other[0].device = "GPU-1".parse().unwrap();
        assert!(matches!(
            verify(&node, &Occupied::new(), &gpus(1), &other),
            Err(Mismatch::Unhealthy(..))
        ));
        other[0].device = "GPU-9".parse().unwrap();
        assert!(matches!(
            verify(&node, &Occupied::new(), &gpus(1), &other),
            Err(Mismatch::Unknown(_))
        ));
    }
}
