//! In which order devices are taken, and which of them belong together.

use super::Spare;
use crate::agent::{Affinity, Device, Inventory};
use crate::amount::SlotName;
use crate::ids::DeviceId;
use std::cmp::Reverse;
use std::sync::Arc;

/// A NUMA node; devices of unknown node form one node, behind the others.
type Node = u64;

fn node(numa: Option<u32>) -> Node {
    numa.map_or(Node::MAX, Node::from)
}

/// Puts devices in the order in which they are taken: most usable first, then, interleaved,
/// the first of every node before the second of any, then by index.
pub(super) fn device_order(spare: &mut [Spare<'_>], affinity: Affinity) {
    spare.sort_by(|a, b| (Reverse(a.usable), a.rank()).cmp(&(Reverse(b.usable), b.rank())));
    let Some(first) = spare.first().map(|s| s.device.numa) else {
        return;
    };
    if affinity != Affinity::Interleaved || spare.iter().all(|s| s.device.numa == first) {
        return;
    }
    // The place of each inside its node, counted in the order just made.
    let mut seen: Vec<(Node, u32)> = Vec::new();
    let mut placed: Vec<(u32, Spare<'_>)> = Vec::with_capacity(spare.len());
    for from in spare.iter() {
        let node = node(from.device.numa);
        let place = match seen.iter_mut().find(|(known, _)| *known == node) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                seen.push((node, 0));
                0
            }
        };
        placed.push((place, *from));
    }
    placed.sort_by_key(|(place, s)| (Reverse(s.usable), *place, node(s.device.numa)));
    for (slot, (_, from)) in spare.iter_mut().zip(placed) {
        *slot = from;
    }
}

/// What of a machine belongs together, in the sequence in which it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    IslandsInNode,
    Islands,
    Nodes,
}

/// The first answer of `choose` for a scope smaller than the whole that has at least so much:
/// kind by kind, the scope with the least first, so that larger ones stay whole.
pub(super) fn first_scope<'a, T>(
    inventory: &Inventory,
    slot: &SlotName,
    spare: &[Spare<'a>],
    amount: i64,
    mut choose: impl FnMut(Vec<Spare<'a>>) -> Option<T>,
) -> Option<T> {
    let first = spare.first()?.device.numa;
    let one_node = spare.iter().all(|s| s.device.numa == first);
    let linked = spare.iter().any(|s| !s.device.links.is_empty());
    for kind in [Kind::IslandsInNode, Kind::Islands, Kind::Nodes] {
        let labels: Vec<Option<u64>> = match kind {
            Kind::Nodes if one_node => continue, // the whole
            Kind::Nodes => spare.iter().map(|s| Some(node(s.device.numa))).collect(),
            _ if !linked => continue,
            _ => islands(inventory, slot, spare, kind == Kind::IslandsInNode),
        };
        // Scopes are few, so that looking through them beats a map.
        let mut groups: Vec<(u64, i64, (u32, &str))> = Vec::new();
        for (label, from) in labels.iter().zip(spare) {
            let Some(label) = *label else { continue };
            match groups.iter_mut().find(|(known, ..)| *known == label) {
                Some((_, total, lowest)) => {
                    *total += from.usable;
                    *lowest = (*lowest).min(from.rank());
                }
                None => groups.push((label, from.usable, from.rank())),
            }
        }
        groups.retain(|(_, total, _)| *total >= amount);
        groups.sort_unstable_by_key(|(_, total, lowest)| (*total, *lowest));
        for (label, ..) in groups {
            let members = labels.iter().zip(spare);
            let members = members.filter(|(known, _)| **known == Some(label));
            if let Some(chosen) = choose(members.map(|(_, from)| *from).collect()) {
                return Some(chosen);
            }
        }
    }
    None
}

/// The connected part of the link graph in which each device is; none if it is alone there.
/// With `inside` only links inside a node count.
///
/// The graph is that of the hardware: a device that is taken or cordoned still makes its
/// island, so the rest of a broken pair is used up before a whole one is broken.
fn islands(
    inventory: &Inventory,
    slot: &SlotName,
    spare: &[Spare<'_>],
    inside: bool,
) -> Vec<Option<u64>> {
    if all_linked(inventory, slot) {
        return (spare.iter())
            .map(|from| {
                let like = |d: &&Device| !inside || d.numa == from.device.numa;
                let mut alike = of_slot(inventory, slot).filter(like);
                let island = alike.nth(1).is_some();
                let label = if inside { node(from.device.numa) } else { 0 };
                island.then_some(label)
            })
            .collect();
    }
    let mut devices: Vec<&Device> = of_slot(inventory, slot).collect();
    devices.sort_unstable_by_key(|d| d.id.as_str());
    let place = |id: &DeviceId| {
        let id = id.as_str();
        devices.binary_search_by_key(&id, |d| d.id.as_str()).ok()
    };
    // Where everything is linked to everything most links tell nothing new: it ends when
    // nothing is left to join.
    let least = if inside { nodes(&devices) } else { 1 };
    let mut parts = devices.len();
    let mut parents: Vec<usize> = (0..devices.len()).collect();
    'join: for (from, device) in devices.iter().enumerate() {
        for id in device.links.iter() {
            if parts <= least {
                break 'join;
            }
            let Some(to) = place(id) else { continue };
            let (one, other) = (root(&parents, from), root(&parents, to));
            if one != other && (!inside || device.numa == devices[to].numa) {
                parents[one.max(other)] = one.min(other);
                parts -= 1;
            }
        }
    }
    let mut sizes = vec![0_u32; devices.len()];
    for at in 0..devices.len() {
        sizes[root(&parents, at)] += 1;
    }
    let label = |from: &Spare<'_>| {
        let root = root(&parents, place(&from.device.id)?);
        (sizes[root] > 1).then_some(root as u64)
    };
    spare.iter().map(label).collect()
}

fn of_slot<'a>(inventory: &'a Inventory, slot: &'a SlotName) -> impl Iterator<Item = &'a Device> {
    inventory.devices.iter().filter(move |d| d.slot == *slot)
}

/// Whether each device of a slot is linked to each other one, as far as that can be seen at a
/// glance: the usual machine of eight, of which the graph need not be walked for each request.
fn all_linked(inventory: &Inventory, slot: &SlotName) -> bool {
    let mut shared: Option<&Arc<[DeviceId]>> = None;
    let mut seen = 0_u64;
    for device in of_slot(inventory, slot) {
        let Some((all, own)) = device.links.shared() else {
            return false;
        };
        let same = Arc::ptr_eq(shared.get_or_insert(all), all);
        let itself = all.get(own).is_some_and(|id| id.is_copy_of(&device.id));
        if !same || !itself || own >= 64 {
            return false;
        }
        seen |= 1 << own;
    }
    // All of the list, so that nothing else is linked through one that is not there.
    shared.is_some_and(|all| usize::try_from(seen.count_ones()) == Ok(all.len()))
}

fn nodes(devices: &[&Device]) -> usize {
    let mut nodes: Vec<Option<u32>> = devices.iter().map(|d| d.numa).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.len()
}

/// The one that stands for the connected part of `at`.
fn root(parents: &[usize], mut at: usize) -> usize {
    while parents[at] != at {
        at = parents[at];
    }
    at
}
