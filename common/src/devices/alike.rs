//! What makes the allocator fast decides nothing: lists that share memory, and what is taken kept
//! by places.

use super::{ByPlace, Occupied, Taken as _, allocate, granted, grants_all};
use crate::agent::{Affinity, Allocation, Device, Health, Inventory, Strategy as Way};
use crate::amount::{SlotName, Slots, UNIT};
use crate::ids::DeviceId;
use proptest::prelude::*;

fn gpu(index: u32) -> DeviceId {
    format!("GPU-{index}").parse().unwrap()
}

/// GPUs on two nodes, each linked to each other one, but for those that are left out.
fn machine(numas: &[Option<u32>], apart: &[(u32, u32)], slot: &SlotName) -> Inventory {
    let count = u32::try_from(numas.len()).unwrap();
    let devices = (0u32..).zip(numas).map(|(index, numa)| Device {
        id: gpu(index),
        index,
        slot: slot.clone(),
        capacity: UNIT,
        model: "".into(),
        memory_bytes: 0,
        pci: Box::default(),
        minor: None,
        numa: *numa,
        links: (0..count)
            .filter(|other| *other != index && !apart.contains(&(index, *other)))
            .map(gpu)
            .collect(),
        health: Health::Healthy,
        health_detail: Box::default(),
    });
    Inventory {
        devices: devices.collect(),
        ..Inventory::default()
    }
}

proptest! {
    #[test]
    fn what_is_shared_or_kept_by_place_decides_nothing(
        numas in prop::collection::vec(prop::option::of(0u32..2), 1..9),
        apart in prop::collection::vec((0u32..8, 0u32..8), 0..2),
        broken in prop::option::of(0usize..8),
        other in prop::option::of(0usize..8),
        taken in prop::collection::vec(0i64..3, 8),
        shares in any::<bool>(),
        fill in any::<bool>(),
        interleaved in any::<bool>(),
        asked in 1i64..9,
        odd in 0i64..250,
        quantum in prop::sample::select(vec![10i64, 250, 300]),
        cpu in 0i64..3,
    ) {
        // Parts need be no multiple of the smallest one.
        let (slot, asked) = match shares {
            true => ("cuda.shares", asked * 250 + odd),
            false => ("cuda.device", asked * UNIT),
        };
        let slot: SlotName = slot.parse().unwrap();
        let mut plain = machine(&numas, &apart, &slot);
        let devices = plain.devices.len();
        if let Some(at) = broken {
            plain.devices[at % devices].health = Health::Cordoned;
        }
        // Of another slot, and linked to those of this one.
        if let Some(at) = other {
            plain.devices[at % devices].slot = "fpga".parse().unwrap();
        }
        plain.allocation = Allocation {
            strategy: if fill { Way::Fill } else { Way::Even },
            affinity: if interleaved { Affinity::Interleaved } else { Affinity::PreferSingleNode },
            quantum,
            ..Allocation::default()
        };
        let shared = plain.clone().sharing_names();
        prop_assert_eq!(&plain, &shared);
        let mut occupied = Occupied::new();
        let mut by_place = ByPlace::default();
        for (device, amount) in plain.devices.iter().zip(&taken) {
            let amount = if shares { *amount * 250 } else { (*amount / 2) * UNIT };
            occupied.add(&plain, &device.id, amount);
            by_place.add(&shared, &device.id, amount);
        }
        let request = Slots::new().with(SlotName::cpu(), cpu * UNIT).with(slot, asked);
        let wanted = allocate(&plain, &occupied, &request);
        prop_assert_eq!(&allocate(&shared, &occupied, &request), &wanted);
        prop_assert_eq!(&allocate(&shared, &by_place, &request), &wanted);
        let read = ByPlace::of_inventory(&shared, &occupied);
        prop_assert_eq!(&allocate(&shared, &read, &request), &wanted);
        if let Ok(grant) = wanted {
            let whole = granted(&plain, &request, &grant) == request;
            prop_assert_eq!(grants_all(&plain, &request, &grant), whole);
            for part in &grant {
                by_place.add(&shared, &part.device, part.amount);
                by_place.add(&shared, &gpu(part.device.as_str()[4..].parse().unwrap()), -part.amount);
            }
            prop_assert_eq!(allocate(&shared, &by_place, &request), Ok(grant));
        }
    }
}

/// What is no multiple of the smallest part is granted in part, beside plain amounts as asked.
#[test]
fn less_than_what_was_asked_is_not_all_of_it() {
    let slot: SlotName = "cuda.shares".parse().unwrap();
    let mut two = machine(&[None, None], &[], &slot);
    two.allocation.quantum = 250;
    for (asked, given, all) in [(1750, 1500, false), (1500, 1500, true), (420, 250, false)] {
        let request = |amount| {
            let cpu = Slots::new().with(SlotName::cpu(), 2 * UNIT);
            cpu.with(slot.clone(), amount)
        };
        let grant = allocate(&two, &Occupied::new(), &request(asked)).unwrap();
        assert_eq!(granted(&two, &request(asked), &grant), request(given));
        assert_eq!(grants_all(&two, &request(asked), &grant), all, "{asked}");
    }
}
