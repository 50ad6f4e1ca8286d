use super::*;
use crate::agent::{Affinity, Allocation, Health, Links, Strategy};
use Health::{Cordoned, Healthy};
use proptest::prelude::{Strategy as Generator, *};
use std::collections::BTreeSet;

/// One device: slot, capacity, NUMA node, health.
type Row<'a> = (&'a str, i64, Option<u32>, Health);

fn slot(name: &str) -> SlotName {
    name.parse().unwrap()
}

fn id(index: usize) -> DeviceId {
    format!("GPU-{index}").parse().unwrap()
}

fn node(rows: &[Row<'_>], allocation: Allocation) -> Inventory {
    let device = |(index, (name, capacity, numa, health)): (usize, &Row<'_>)| Device {
        id: id(index),
        index: u32::try_from(index).unwrap(),
        slot: slot(name),
        capacity: *capacity,
        model: "".into(),
        memory_bytes: 0,
        pci: Box::default(),
        minor: None,
        numa: *numa,
        links: Links::default(),
        health: *health,
        health_detail: Box::default(),
    };
    Inventory {
        hostname: "n".into(),
        arch: "amd64".into(),
        cgroup_version: 1,
        devices: rows.iter().enumerate().map(device).collect(),
        allocation,
        ..Inventory::default()
    }
}

fn link(inventory: &mut Inventory, pairs: &[(usize, usize)]) {
    for (from, to) in pairs {
        inventory.devices[*from].links.push(id(*to));
    }
}

fn gpus(numa: &[Option<u32>]) -> Inventory {
    let rows: Vec<Row<'_>> = numa
        .iter()
        .map(|n| ("cuda.device", UNIT, *n, Healthy))
        .collect();
    node(&rows, Allocation::default())
}

/// Devices of `cuda.shares` that have so much free of a capacity of one unit, or all of it
/// where that is more.
fn shared(free: &[i64], allocation: Allocation) -> (Inventory, Occupied) {
    let capacity = |free: i64| free.max(UNIT);
    let rows: Vec<Row<'_>> = free
        .iter()
        .map(|f| ("cuda.shares", capacity(*f), None, Healthy))
        .collect();
    let occupied = free.iter().enumerate();
    let occupied = occupied.map(|(i, f)| (id(i), capacity(*f) - f)).collect();
    (node(&rows, allocation), occupied)
}

fn even(quantum: i64) -> Allocation {
    Allocation {
        quantum,
        ..Allocation::default()
    }
}

fn filling(quantum: i64) -> Allocation {
    Allocation {
        strategy: Strategy::Fill,
        ..even(quantum)
    }
}

fn ask(name: &str, amount: i64) -> Slots {
    Slots::new().with(slot(name), amount)
}

fn taken(indexes: &[usize]) -> Occupied {
    indexes.iter().map(|i| (id(*i), UNIT)).collect()
}

fn names(grants: &[DeviceGrant]) -> Vec<&str> {
    grants.iter().map(|g| g.device.as_str()).collect()
}

/// Indexes and amounts.
fn parts(grants: &[DeviceGrant]) -> Vec<(usize, i64)> {
    let index = |g: &DeviceGrant| g.device.as_str()[4..].parse().unwrap();
    grants.iter().map(|g| (index(g), g.amount)).collect()
}

fn give(occupied: &mut Occupied, grants: &[DeviceGrant]) {
    for grant in grants {
        *occupied.entry(grant.device.clone()).or_insert(0) += grant.amount;
    }
}

/// What a request of `cuda.shares` gets.
fn shares_of((inventory, occupied): &(Inventory, Occupied), amount: i64) -> Vec<(usize, i64)> {
    parts(&allocate(inventory, occupied, &ask("cuda.shares", amount)).unwrap())
}

fn refusal_of((inventory, occupied): &(Inventory, Occupied), amount: i64) -> Refusal {
    allocate(inventory, occupied, &ask("cuda.shares", amount)).unwrap_err()
}

fn short(name: &str, need: i64, have: i64) -> Refusal {
    Refusal::Short {
        slot: slot(name),
        need,
        have,
    }
}

#[test]
fn takes_free_healthy_devices_in_order() {
    let mut node = gpus(&[None; 4]);
    node.devices[1].health = Cordoned;
    let grants = allocate(&node, &taken(&[0]), &ask("cuda.device", 2000)).unwrap();
    assert_eq!(names(&grants), ["GPU-2", "GPU-3"]);
    assert_eq!(
        allocate(&node, &taken(&[0]), &ask("cuda.device", 3000)),
        Err(short("cuda.device", 3000, 2000))
    );
}

#[test]
fn stays_on_one_numa_node_when_it_can() {
    let node = gpus(&[Some(0), Some(0), Some(1), Some(1)]);
    let some = |count| allocate(&node, &taken(&[0]), &ask("cuda.device", count)).unwrap();
    assert_eq!(names(&some(2000)), ["GPU-2", "GPU-3"]);
    // One alone takes the smaller rest and leaves the pair whole.
    assert_eq!(names(&some(1000)), ["GPU-1"]);
    assert_eq!(names(&some(3000)), ["GPU-1", "GPU-2", "GPU-3"]);
}

#[test]
fn takes_the_smallest_island_that_suffices() {
    // A pair, a triple across nodes, and one alone.
    let mut node = gpus(&[Some(0), Some(0), Some(0), Some(1), Some(1), Some(1)]);
    link(&mut node, &[(0, 1), (2, 3), (4, 3), (5, 5)]);
    let some = |occupied: &Occupied, count| {
        let grants = allocate(&node, occupied, &ask("cuda.device", count)).unwrap();
        parts(&grants)
            .iter()
            .map(|(index, _)| *index)
            .collect::<Vec<_>>()
    };
    let free = Occupied::new();
    // Islands inside one node: 0-1 and 3-4, of equal size.
    assert_eq!(some(&free, 2000), [0, 1]);
    assert_eq!(some(&taken(&[0]), 2000), [3, 4]);
    // What is left of a broken pair is used up before a whole one is broken.
    assert_eq!(some(&taken(&[0]), 1000), [1]);
    // No island inside one node has three, the one across nodes has.
    assert_eq!(some(&free, 3000), [2, 3, 4]);
    // Nor has any island three now, but the second node has.
    assert_eq!(some(&taken(&[2]), 3000), [3, 4, 5]);
    assert_eq!(some(&free, 4000), [0, 1, 2, 3]);
    // A cordoned neighbour makes an island like a taken one.
    let mut cordoned = node.clone();
    cordoned.devices[0].health = Cordoned;
    let one = allocate(&cordoned, &free, &ask("cuda.device", 1000)).unwrap();
    assert_eq!(names(&one), ["GPU-1"]);
    // Links to devices that are not there mean nothing.
    let mut lost = node.clone();
    lost.devices[5].links.push(id(99));
    assert_eq!(
        allocate(&lost, &free, &ask("cuda.device", 2000)).map(|g| parts(&g)[0].0),
        Ok(0)
    );
}

#[test]
fn whole_units_are_filled_or_spread() {
    // E22.
    let rows: [Row<'_>; 2] = [("fpga", 100 * UNIT, None, Healthy); 2];
    let units =
        |grants: &[DeviceGrant]| -> Vec<i64> { grants.iter().map(|g| g.amount / UNIT).collect() };
    let fill = node(&rows, filling(10));
    let mut occupied = Occupied::new();
    let first = allocate(&fill, &occupied, &ask("fpga", 130_000)).unwrap();
    assert_eq!(units(&first), [100, 30]);
    give(&mut occupied, &first);
    assert_eq!(
        allocate(&fill, &occupied, &ask("fpga", 71_000)),
        Err(short("fpga", 71_000, 70_000))
    );

    let spread = node(&rows, even(10));
    let mut occupied = Occupied::new();
    for (amount, expected) in [(130_000, [65, 65]), (15_000, [8, 7])] {
        let grants = allocate(&spread, &occupied, &ask("fpga", amount)).unwrap();
        assert_eq!(units(&grants), expected);
        give(&mut occupied, &grants);
    }
    assert_eq!(
        allocate(&spread, &occupied, &ask("fpga", 99_000)),
        Err(short("fpga", 99_000, 55_000))
    );
}

#[test]
fn shares_are_made_equal() {
    // E23.
    let four = shared(&[800, 750, 700, 300], even(10));
    assert_eq!(
        shares_of(&four, 2310),
        [(0, 670), (1, 670), (2, 670), (3, 300)]
    );
    assert_eq!(shares_of(&four, 2000), [(0, 670), (1, 670), (2, 660)]);
    let three = shared(&[300, 300, 900], even(10));
    assert_eq!(shares_of(&three, 1000), [(0, 300), (1, 300), (2, 400)]);
    let large = shared(&[2000, 3000, 3000, 5000], even(10));
    assert_eq!(shares_of(&large, 6000), [(1, 3000), (2, 3000)]);
    let small = shared(&[50, 100, 200, 300], even(10));
    assert_eq!(refusal_of(&small, 660), short("cuda.shares", 660, 650));
    assert_eq!(shares_of(&small, 500), [(2, 200), (3, 300)]);
    assert_eq!(
        shares_of(&small, 650),
        [(0, 50), (1, 100), (2, 200), (3, 300)]
    );
}

#[test]
fn an_amount_that_fits_one_device_goes_to_the_fullest_with_room() {
    let node = shared(&[900, 400, 500, 500], even(10));
    assert_eq!(shares_of(&node, 450), [(2, 450)]);
    assert_eq!(shares_of(&node, 455), [(2, 450)]);
    assert_eq!(shares_of(&node, 400), [(1, 400)]);
}

#[test]
fn a_coarse_quantum_gives_whole_multiples() {
    // E24.
    let spread = shared(&[1000, 1000], even(250));
    let below = |need| Refusal::BelowQuantum {
        slot: slot("cuda.shares"),
        need,
        quantum: 250,
    };
    assert_eq!(refusal_of(&spread, 240), below(240));
    assert_eq!(shares_of(&spread, 1500), [(0, 750), (1, 750)]);
    assert_eq!(shares_of(&spread, 1750), [(0, 750), (1, 750)]);
    assert_eq!(shares_of(&spread, 520), [(0, 500)]);
    assert_eq!(shares_of(&spread, 420), [(0, 250)]);
    assert_eq!(refusal_of(&spread, 3990), short("cuda.shares", 3990, 2000));
    let fill = shared(&[1000, 1000], filling(250));
    assert_eq!(refusal_of(&fill, 240), below(240));
    assert_eq!(shares_of(&fill, 1500), [(0, 1000), (1, 500)]);
    assert_eq!(
        shares_of(&shared(&[1000, 1000], filling(300)), 500),
        [(0, 300)]
    );

    // The container holds what it was given, and that is what is verified.
    let (inventory, occupied) = spread;
    let asked = ask("cuda.shares", 1750).with(SlotName::cpu(), 2000);
    let grants = allocate(&inventory, &occupied, &asked).unwrap();
    let held = granted(&inventory, &asked, &grants);
    assert_eq!(held, ask("cuda.shares", 1500).with(SlotName::cpu(), 2000));
    assert_eq!(verify(&inventory, &occupied, &held, &grants), Ok(()));
    assert!(matches!(
        verify(&inventory, &occupied, &asked, &grants),
        Err(Mismatch::Sum {
            granted: 1750,
            given: 1500,
            ..
        })
    ));
}

#[test]
fn without_fragmentation_no_more_devices_than_needed() {
    // E25, in both strategies.
    for strategy in [Strategy::Even, Strategy::Fill] {
        let rule = Allocation {
            strategy,
            fragmentation: false,
            ..even(10)
        };
        let on = |free: &[i64], amount| {
            let node = shared(free, rule);
            allocate(&node.0, &node.1, &ask("cuda.shares", amount))
        };
        for free in [&[500, 1000, 1000, 1000][..], &[900, 1000]] {
            let grants = on(free, 1400).unwrap();
            assert_eq!(grants.len(), 2, "{strategy}");
            assert_eq!(grants.iter().map(|g| g.amount).sum::<i64>(), 1400);
        }
        assert_eq!(
            on(&[500, 500, 1000, 1000], 2800),
            Err(Refusal::Fragmented {
                slot: slot("cuda.shares"),
                need: 2800,
                have: 2500
            })
        );
        assert_eq!(
            on(&[800, 800, 800, 800], 3600),
            Err(short("cuda.shares", 3600, 3200))
        );
        assert_eq!(
            on(&[200, 1000], 1600),
            Err(short("cuda.shares", 1600, 1200))
        );
    }
    // Fewer devices are taken even though more would share more equally.
    let rule = Allocation {
        fragmentation: false,
        ..even(10)
    };
    let free = [450, 500, 1000];
    assert_eq!(
        shares_of(&shared(&free, even(10)), 1400),
        [(0, 450), (1, 470), (2, 480)]
    );
    assert_eq!(shares_of(&shared(&free, rule), 1400), [(1, 500), (2, 900)]);
}

#[test]
fn later_slots_follow_the_first() {
    // E26: 4 nodes, each 3 cores and 1 GPU.
    for affinity in [Affinity::Interleaved, Affinity::PreferSingleNode] {
        let mut rows: Vec<Row<'_>> = Vec::new();
        for numa in 0..4 {
            rows.push(("cuda.device", UNIT, Some(numa), Healthy));
            rows.extend([("cpu", UNIT, Some(numa), Healthy); 3]);
        }
        let allocation = Allocation {
            affinity,
            ..Allocation::default()
        };
        let inventory = node(&rows, allocation);
        let per_node = |grants: &[DeviceGrant], name: &str| {
            let mut counts = [0; 4];
            for (index, amount) in parts(grants) {
                let device = &inventory.devices[index];
                if device.slot == slot(name) {
                    counts[usize::try_from(device.numa.unwrap()).unwrap()] += amount / UNIT;
                }
            }
            counts
        };
        let some = |occupied: &Occupied, cores| {
            let request = ask("cuda.device", 2 * UNIT).with(SlotName::cpu(), cores * UNIT);
            let grants = allocate(&inventory, occupied, &request).unwrap();
            assert_eq!(verify(&inventory, occupied, &request, &grants), Ok(()));
            [per_node(&grants, "cuda.device"), per_node(&grants, "cpu")]
        };
        let free = Occupied::new();
        assert_eq!(some(&free, 4), [[1, 1, 0, 0], [2, 2, 0, 0]]);
        assert_eq!(some(&free, 3), [[1, 1, 0, 0], [2, 1, 0, 0]]);
        // With the GPUs of the first two nodes taken, the cores follow to the others.
        assert_eq!(some(&taken(&[0, 4]), 4), [[0, 0, 1, 1], [0, 0, 2, 2]]);
        // Seven are more than these nodes have: all of them, then others.
        assert_eq!(some(&free, 7), [[1, 1, 0, 0], [3, 3, 1, 0]]);
        assert_eq!(
            allocate(&inventory, &free, &ask("cpu", 13 * UNIT)),
            Err(short("cpu", 13 * UNIT, 12 * UNIT))
        );
    }
    let pairs = gpus(&[Some(0), Some(0), Some(1), Some(1)]);
    let two = allocate(&pairs, &taken(&[1]), &ask("cuda.device", 2 * UNIT)).unwrap();
    assert_eq!(names(&two), ["GPU-2", "GPU-3"]);
}

#[test]
fn interleaved_takes_from_every_node_in_turn() {
    let mut node = gpus(&[None, Some(1), Some(1), Some(0), Some(0), None]);
    node.allocation.affinity = Affinity::Interleaved;
    let some = |count: i64| {
        let grants = allocate(&node, &Occupied::new(), &ask("cuda.device", count * UNIT));
        parts(&grants.unwrap())
            .iter()
            .map(|(index, _)| *index)
            .collect::<Vec<_>>()
    };
    assert_eq!(some(1), [3]);
    assert_eq!(some(2), [1, 3]);
    assert_eq!(some(3), [0, 1, 3]);
    assert_eq!(some(4), [0, 1, 3, 4]);
    assert_eq!(some(5), [0, 1, 2, 3, 4]);
}

#[test]
fn an_instance_is_given_once_and_whole() {
    // E1: two instances, a third container waits.
    let node = node(
        &[
            ("cuda.mig-1g.10gb", UNIT, Some(1), Healthy),
            ("cuda.mig-1g.10gb", UNIT, Some(0), Healthy),
            ("cuda.mig-2g.20gb", UNIT, Some(0), Healthy),
        ],
        Allocation::default(),
    );
    let request = ask("cuda.mig-1g.10gb", UNIT);
    let mut occupied = Occupied::new();
    for expected in ["GPU-0", "GPU-1"] {
        let grants = allocate(&node, &occupied, &request).unwrap();
        assert_eq!(names(&grants), [expected]);
        give(&mut occupied, &grants);
    }
    assert_eq!(
        allocate(&node, &occupied, &request),
        Err(short("cuda.mig-1g.10gb", UNIT, 0))
    );
    let two = ask("cuda.mig-1g.10gb", 2 * UNIT);
    assert_eq!(
        allocate(&node, &Occupied::new(), &two),
        Err(short("cuda.mig-1g.10gb", 2 * UNIT, UNIT))
    );
    let both: Vec<_> = [0, 1]
        .map(|i| DeviceGrant {
            slot: slot("cuda.mig-1g.10gb"),
            device: id(i),
            amount: UNIT,
        })
        .into();
    assert_eq!(
        verify(&node, &Occupied::new(), &two, &both),
        Err(Mismatch::Twice(slot("cuda.mig-1g.10gb")))
    );
}

#[test]
fn plain_slots_and_missing_devices() {
    let mut node = gpus(&[None]);
    let free = Occupied::new();
    let plain = Slots::new()
        .with(SlotName::cpu(), 64_000)
        .with(SlotName::mem(), 1 << 40);
    assert_eq!(allocate(&node, &free, &plain), Ok(vec![]));
    assert_eq!(
        allocate(&node, &free, &ask("rocm", UNIT)),
        Err(short("rocm", UNIT, 0))
    );
    assert_eq!(
        allocate(&node, &free, &ask("cuda.device", 500)),
        Err(Refusal::BelowQuantum {
            slot: slot("cuda.device"),
            need: 500,
            quantum: UNIT
        })
    );
    node.devices[0].health = Cordoned;
    assert_eq!(
        allocate(&node, &free, &ask("cuda.device", UNIT)),
        Err(short("cuda.device", UNIT, 0))
    );
    // Where cores are listed they are devices, also while none of them may be given out.
    node.devices[0].slot = SlotName::cpu();
    assert_eq!(
        allocate(&node, &free, &ask("cpu", UNIT)),
        Err(short("cpu", UNIT, 0))
    );
}

#[test]
fn what_is_allocated_verifies_and_what_is_not_does_not() {
    let mut node = gpus(&[None, None]);
    node.devices[1].health = Cordoned;
    let one = ask("cuda.device", UNIT);
    let two = ask("cuda.device", 2 * UNIT);
    let free = Occupied::new();
    let grant = allocate(&node, &free, &one).unwrap();
    assert_eq!(verify(&node, &free, &one, &grant), Ok(()));
    assert!(matches!(
        verify(&node, &taken(&[0]), &one, &grant),
        Err(Mismatch::Overlap { left: 0, .. })
    ));
    let twice = [grant.clone(), grant.clone()].concat();
    assert!(matches!(
        verify(&node, &free, &two, &twice),
        Err(Mismatch::Overlap { .. })
    ));
    assert!(matches!(
        verify(&node, &free, &two, &grant),
        Err(Mismatch::Sum { .. })
    ));
    // A device behind the request's back.
    assert!(matches!(
        verify(&node, &free, &Slots::new(), &grant),
        Err(Mismatch::Sum { granted: 0, .. })
    ));
    let with = |change: fn(&mut DeviceGrant)| {
        let mut other = grant.clone();
        change(&mut other[0]);
        verify(&node, &free, &one, &other)
    };
    assert!(matches!(
        with(|g| g.device = id(1)),
        Err(Mismatch::Unhealthy(..))
    ));
    assert!(matches!(
        with(|g| g.device = id(9)),
        Err(Mismatch::Unknown(_))
    ));
    assert!(matches!(
        with(|g| g.slot = SlotName::cpu()),
        Err(Mismatch::WrongSlot(..))
    ));
    assert!(matches!(
        with(|g| g.amount = 500),
        Err(Mismatch::Part { grain: UNIT, .. })
    ));
    for amount in [0, -1, i64::MIN, i64::MAX] {
        let mut other = grant.clone();
        other[0].amount = amount;
        assert!(matches!(
            verify(&node, &free, &one, &other),
            Err(Mismatch::Overlap { .. })
        ));
    }
}

#[test]
fn an_inventory_offers_gpus_in_one_way() {
    let rows: [Row<'_>; 2] = [
        ("cuda.device", UNIT, None, Healthy),
        ("cuda.shares", UNIT, None, Cordoned),
    ];
    assert_eq!(
        check_inventory(&node(&rows, even(10))),
        Err("offers both cuda.device and cuda.shares".to_owned())
    );
    assert_eq!(check_inventory(&node(&rows[..1], even(10))), Ok(()));
    assert_eq!(check_inventory(&node(&rows[1..], even(10))), Ok(()));
    let mut plain = node(&rows[..1], even(10));
    plain.offered = ask("cuda.shares", UNIT);
    assert!(check_inventory(&plain).is_err());
    let mem: [Row<'_>; 1] = [("mem", UNIT, None, Healthy)];
    assert!(check_inventory(&node(&mem, even(10))).is_err());
    assert!(check_inventory(&node(&[], even(3))).is_err());
}

#[test]
fn a_refusal_speaks_in_units() {
    assert_eq!(
        short("cuda.shares", 660, 650).to_string(),
        "0.65 of 0.66 cuda.shares free"
    );
    assert_eq!(
        refusal_of(&shared(&[1000], even(250)), 240).to_string(),
        "cuda.shares 0.24 is below 0.25, the smallest part the node gives"
    );
}

#[test]
fn broken_amounts_neither_panic_nor_give() {
    let rows: [Row<'_>; 3] = [
        ("cuda.shares", i64::MAX, None, Healthy),
        ("cuda.shares", i64::MAX, None, Healthy),
        ("cuda.shares", i64::MIN, None, Healthy),
    ];
    for strategy in [Strategy::Even, Strategy::Fill] {
        for quantum in [i64::MIN, -1, 0, 1, 10, i64::MAX] {
            for fragmentation in [true, false] {
                let allocation = Allocation {
                    strategy,
                    quantum,
                    fragmentation,
                    ..Allocation::default()
                };
                let node = node(&rows, allocation);
                for held in [i64::MIN, -1, i64::MAX] {
                    let occupied = Occupied::from([(id(0), held), (id(1), held), (id(2), held)]);
                    for amount in [i64::MIN, -1, 1, i64::MAX] {
                        let request = ask("cuda.shares", amount);
                        let grants = allocate(&node, &occupied, &request);
                        assert!(held != i64::MAX || amount < 0 || grants.is_err());
                    }
                }
            }
        }
    }
}

/// A machine, what is taken of it, a request, and an order to shuffle its devices by.
#[derive(Debug, Clone)]
struct Case {
    inventory: Inventory,
    occupied: Occupied,
    request: Slots,
    order: Vec<u32>,
}

fn allocations() -> impl Generator<Value = Allocation> {
    let quantum = prop_oneof![
        Just(10_i64),
        Just(1),
        Just(2),
        Just(5),
        Just(50),
        Just(250),
        Just(300)
    ];
    (any::<bool>(), quantum, any::<bool>(), any::<bool>()).prop_map(
        |(fill, quantum, fragmentation, interleaved)| Allocation {
            strategy: if fill { Strategy::Fill } else { Strategy::Even },
            quantum,
            fragmentation,
            affinity: if interleaved {
                Affinity::Interleaved
            } else {
                Affinity::PreferSingleNode
            },
        },
    )
}

const SLOTS: [&str; 5] = [
    "cuda.device",
    "cuda.shares",
    "cuda.mig-1g.10gb",
    "cpu",
    "rocm",
];

fn cases() -> impl Generator<Value = Case> {
    let device = (
        0..SLOTS.len(),
        prop_oneof![Just(UNIT), 1..4000_i64],
        prop_oneof![Just(None), (0..3_u32).prop_map(Some)],
        0..8_u8,
        prop_oneof![Just(0_i64), 0..2000_i64],
        proptest::collection::vec(0..10_usize, 0..2),
    );
    let request = proptest::collection::vec((0..SLOTS.len(), 0..40_i64, 0..1000_i64), 1..4);
    (
        proptest::collection::vec(device, 0..10),
        allocations(),
        request,
        proptest::collection::vec(any::<u32>(), 10),
    )
        .prop_map(|(devices, allocation, request, order)| {
            let rows: Vec<Row<'_>> = devices
                .iter()
                .map(|(slot, capacity, numa, health, ..)| {
                    let health = if *health == 0 { Cordoned } else { Healthy };
                    (SLOTS[*slot], *capacity, *numa, health)
                })
                .collect();
            let mut inventory = node(&rows, allocation);
            let mut occupied = Occupied::new();
            for (index, (.., used, links)) in devices.iter().enumerate() {
                let kind = inventory.devices[index].slot.kind();
                // Only shares are held in parts.
                let used = match kind {
                    SlotKind::Fraction => *used,
                    _ => used / UNIT * UNIT,
                };
                occupied.insert(id(index), used);
                inventory.devices[index].links = links.iter().map(|to| id(*to)).collect();
            }
            let request = request
                .into_iter()
                .map(|(index, units, milli)| match slot(SLOTS[index]).kind() {
                    SlotKind::Fraction => (slot(SLOTS[index]), units / 8 * UNIT + milli),
                    SlotKind::Unique => (slot(SLOTS[index]), UNIT),
                    _ => (slot(SLOTS[index]), units / 6 * UNIT),
                })
                .collect();
            Case {
                inventory,
                occupied,
                request,
                order,
            }
        })
}

fn free_of(case: &Case, device: &Device) -> i64 {
    let used = case.occupied.get(&device.id).copied().unwrap_or(0);
    let kind = device.slot.kind();
    if kind == SlotKind::Unique {
        return if used == 0 && device.capacity >= UNIT {
            UNIT
        } else {
            0
        };
    }
    let free = (device.capacity - used).max(0);
    free - free % grain(&case.inventory, kind)
}

proptest! {
    #[test]
    fn a_grant_stays_within_request_and_devices(case in cases()) {
        let Case { inventory, occupied, request, .. } = &case;
        let answer = allocate(inventory, occupied, request);
        let Ok(grants) = answer else { return Ok(()) };
        let held = granted(inventory, request, &grants);
        prop_assert_eq!(verify(inventory, occupied, &held, &grants), Ok(()));
        prop_assert!(request.fits(&held), "{} of {}", held, request);
        let once: BTreeSet<_> = grants.iter().map(|g| &g.device).collect();
        prop_assert_eq!(once.len(), grants.len());
        for grant in &grants {
            let device = inventory.devices.iter().find(|d| d.id == grant.device).unwrap();
            prop_assert!(device.is_offered() && device.slot == grant.slot);
            prop_assert!((1..=free_of(&case, device)).contains(&grant.amount));
        }
    }

    #[test]
    fn only_a_coarse_quantum_gives_less(case in cases()) {
        let Case { inventory, occupied, request, .. } = &case;
        let rule = &inventory.allocation;
        match allocate(inventory, occupied, request) {
            Ok(grants) => {
                for (slot, amount) in granted(inventory, request, &grants).iter() {
                    let asked = request.amount(slot);
                    let floored = asked - asked % grain(inventory, slot.kind());
                    let is_exact = !has_devices(inventory, slot)
                        || slot.kind() != SlotKind::Fraction
                        || rule.quantum <= 10
                        || rule.strategy == Strategy::Fill;
                    prop_assert!(amount > 0);
                    if is_exact && has_devices(inventory, slot) {
                        prop_assert_eq!(amount, floored);
                    }
                }
            }
            Err(Refusal::BelowQuantum { slot, need, quantum }) => {
                prop_assert!(need < quantum);
                prop_assert_eq!(quantum, grain(inventory, slot.kind()));
            }
            Err(Refusal::Short { slot, need, have }) => {
                let devices = inventory.devices.iter();
                let sum: i64 = devices
                    .filter(|d| d.slot == slot && d.is_offered())
                    .map(|d| free_of(&case, d))
                    .sum();
                prop_assert!(have < need);
                prop_assert_eq!(have, sum);
            }
            Err(Refusal::Fragmented { slot, need, have }) => {
                prop_assert!(!rule.fragmentation && slot.kind() == SlotKind::Fraction);
                prop_assert!(have < need);
            }
        }
    }

    #[test]
    fn the_order_of_the_list_changes_nothing(case in cases()) {
        let Case { inventory, occupied, request, order } = &case;
        let mut shuffled = inventory.clone();
        shuffled.devices.sort_by_key(|d| order[d.index as usize]);
        prop_assert_eq!(
            allocate(&shuffled, occupied, request),
            allocate(inventory, occupied, request)
        );
    }

    #[test]
    fn one_node_is_enough_when_one_has_enough(case in cases()) {
        let Case { mut inventory, occupied, request, .. } = case;
        // One slot of whole units, no links: only nodes remain as scopes.
        inventory.allocation.affinity = Affinity::PreferSingleNode;
        for device in &mut inventory.devices {
            device.slot = SlotName::cuda_device();
            device.capacity = UNIT;
            device.links = Links::default();
        }
        let units = request.iter().map(|(_, a)| a / UNIT).max().unwrap_or(0);
        let request = ask("cuda.device", units * UNIT);
        let mut per_node: BTreeMap<Option<u32>, i64> = BTreeMap::new();
        for device in inventory.devices.iter().filter(|d| d.is_offered()) {
            let is_free = occupied.get(&device.id).is_none_or(|used| *used == 0);
            *per_node.entry(device.numa).or_insert(0) += i64::from(is_free);
        }
        let smallest = per_node.values().copied().filter(|free| *free >= units).min();
        if let (Ok(grants), Some(smallest)) = (allocate(&inventory, &occupied, &request), smallest) {
            let nodes: BTreeSet<_> = parts(&grants)
                .iter()
                .map(|(index, _)| inventory.devices[*index].numa)
                .collect();
            prop_assert!(nodes.len() <= 1);
            prop_assert!(nodes.iter().all(|numa| per_node[numa] == smallest));
        }
    }

    #[test]
    fn equal_shares_are_those_of_the_plain_search(
        free in proptest::collection::vec(
            prop_oneof![0..=100_i64, (0..5_i64).prop_map(|n| n * 25)], 1..7),
        amount in 1..400_i64,
        quantum in prop_oneof![Just(1_i64), Just(2), Just(5), Just(10), Just(50), Just(250), Just(300)],
        fragmentation in any::<bool>(),
    ) {
        let free: Vec<i64> = free.iter().map(|f| f * 10).collect();
        let allocation = Allocation { fragmentation, ..even(quantum) };
        let (inventory, occupied) = shared(&free, allocation);
        let asked = amount * 7;
        let answer = allocate(&inventory, &occupied, &ask("cuda.shares", asked));
        let most = |a: i64| if fragmentation { free.len() } else {
            usize::try_from((a + UNIT - 1) / UNIT).unwrap()
        };
        let a = asked - asked % quantum;
        let expected = search(&free, a, quantum, most(a));
        prop_assert_eq!(answer.ok().map(|g| parts(&g)), expected);
    }

    #[test]
    fn whole_units_are_dealt_like_cards(
        free in proptest::collection::vec(0..9_i64, 1..7),
        units in 1..40_i64,
    ) {
        let rows: Vec<Row<'_>> = free.iter().map(|f| ("fpga", f * UNIT, None, Healthy)).collect();
        let inventory = node(&rows, even(10));
        let answer = allocate(&inventory, &Occupied::new(), &ask("fpga", units * UNIT));
        let expected = (free.iter().sum::<i64>() >= units).then(|| {
            let mut order: Vec<usize> = (0..free.len()).collect();
            order.sort_by_key(|i| (std::cmp::Reverse(free[*i]), *i));
            let mut given = vec![0; free.len()];
            let mut left = units;
            while left > 0 {
                for at in &order {
                    if left > 0 && given[*at] < free[*at] {
                        given[*at] += 1;
                        left -= 1;
                    }
                }
            }
            let all = given.iter().enumerate();
            all.filter(|(_, n)| **n > 0).map(|(i, n)| (i, n * UNIT)).collect::<Vec<_>>()
        });
        prop_assert_eq!(answer.ok().map(|g| parts(&g)), expected);
    }
}

/// Equal shares as the rule reads, without a thought for cost: every run, every part, then
/// the first by gift, spread, number, rest and indexes.
fn search(free: &[i64], amount: i64, quantum: i64, most: usize) -> Option<Vec<(usize, i64)>> {
    if amount == 0 {
        return None;
    }
    let step = quantum.min(10);
    let mut sorted: Vec<(i64, usize)> = free
        .iter()
        .enumerate()
        .map(|(i, f)| (f - f % quantum, i))
        .collect();
    sorted.sort_unstable();
    let mut found = Vec::new();
    for from in 0..sorted.len() {
        for to in from..sorted.len().min(from + most) {
            let run = &sorted[from..=to];
            let have: i64 = run.iter().map(|(usable, _)| usable).sum();
            if have < amount {
                continue;
            }
            let mut open: Vec<(i64, usize)> = run.to_vec();
            let mut left = amount;
            let mut given: Vec<(usize, i64)> = Vec::new();
            let equal = loop {
                let equal = left / open.len().max(1) as i64 / step * step;
                match open.first() {
                    Some((usable, index)) if *usable <= equal => {
                        given.push((*index, *usable));
                        left -= usable;
                        open.remove(0);
                    }
                    _ => break equal,
                }
            };
            let mut over = (left - equal * open.len() as i64) / step;
            open.sort_by_key(|(usable, index)| (-usable, *index));
            for (_, index) in open {
                given.push((index, equal + if over > 0 { step } else { 0 }));
                over -= 1;
            }
            let amounts = || given.iter().map(|(_, a)| *a);
            let spread = amounts().max()? - amounts().min()?;
            let spread = if spread <= step { 0 } else { spread };
            let mut kept: Vec<(usize, i64)> = given
                .iter()
                .map(|(i, a)| (*i, a - a % quantum))
                .filter(|(_, a)| *a > 0)
                .collect();
            kept.sort_unstable();
            let sum: i64 = kept.iter().map(|(_, a)| a).sum();
            let indexes: Vec<usize> = kept.iter().map(|(i, _)| *i).collect();
            found.push((-sum, spread, kept.len(), have - sum, indexes, kept));
        }
    }
    found.into_iter().min().map(|best| best.5)
}
