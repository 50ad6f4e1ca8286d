//! What an agent tells about its machine.

mod links;

pub use links::Links;

use crate::amount::{SlotName, Slots, format_milli};
use crate::ids::DeviceId;
use crate::network::NodeNetworks;
use crate::session::words;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

words! {
    /// What the coordinator thinks of an agent.
    AgentState {
        /// Heartbeats come.
        Alive = "ALIVE",
        /// None for longer than T1.
        Lost = "LOST",
        /// Left or was removed.
        Terminated = "TERMINATED",
    }
}

words! {
    /// Whether the container engine answers.
    RuntimeState {
        /// It does.
        Up = "up",
        /// Connections are refused.
        Down = "down",
        /// It accepts calls and does not answer.
        Hung = "hung",
    }
}

words! {
    /// How containers get their GPUs.
    GpuWay {
        /// Container device interface, by UUID.
        Cdi = "cdi",
        /// The engine's device requests with NVIDIA's toolkit.
        Request = "request",
        /// Plain device nodes.
        Nodes = "nodes",
    }
}

words! {
    /// Whether a device may be given out.
    Health {
        /// Yes.
        Healthy = "healthy",
        /// Taken out by a health rule or a person.
        Cordoned = "cordoned",
        /// It is gone or answers nothing.
        Lost = "lost",
        /// Calls about it do not return.
        Unresponsive = "unresponsive",
        /// Somebody outside Longshore uses it.
        Foreign = "foreign",
        /// Its node's configuration keeps it back; who has it keeps it.
        Masked = "masked",
    }
}

/// A GPU, or an instance of a divided one. Texts are as small as can be: a coordinator keeps
/// eight of these for each of many nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Stable hardware id (UUID).
    pub id: DeviceId,
    /// Its place in the agent's list; for display and tie-breaking only.
    pub index: u32,
    /// The slot it provides.
    pub slot: SlotName,
    /// How much of the slot, in thousandths.
    pub capacity: i64,
    /// Product name, e.g. `NVIDIA RTX A6000`.
    pub model: Arc<str>,
    /// Memory in bytes; 0 = unknown.
    pub memory_bytes: i64,
    /// PCI address.
    pub pci: Box<str>,
    /// Number of the device node `/dev/nvidia<n>`, for a MIG instance that of its GPU; none =
    /// unknown.
    pub minor: Option<u32>,
    /// NUMA node; none = unknown.
    pub numa: Option<u32>,
    /// Ids of devices joined by a fast link.
    pub links: Links,
    /// Whether it may be given out.
    pub health: Health,
    /// Why not, in words; empty when healthy.
    pub health_detail: Box<str>,
}

impl Device {
    /// Whether new work may get it.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.health == Health::Healthy
    }
}

words! {
    /// How an amount is spread over the devices of a node.
    Strategy {
        /// One device after the other.
        Fill = "fill",
        /// Equal parts.
        Even = "even",
    }
}

words! {
    /// Which devices of a node belong together.
    Affinity {
        /// All of them, NUMA nodes in turn.
        Interleaved = "interleaved",
        /// Those joined by fast links, then those of one NUMA node.
        PreferSingleNode = "prefer-single-node",
    }
}

/// How a node wants its devices given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Device after device, or in equal parts.
    pub strategy: Strategy,
    /// The smallest part of a shared device, in thousandths; see [`Allocation::check`].
    pub quantum: i64,
    /// Whether a share may be split over more devices than its size needs.
    pub fragmentation: bool,
    /// What is kept together.
    pub affinity: Affinity,
}

impl Default for Allocation {
    fn default() -> Self {
        Self {
            strategy: Strategy::Even,
            quantum: 10,
            fragmentation: true,
            affinity: Affinity::PreferSingleNode,
        }
    }
}

impl Allocation {
    /// Whether the quantum is one the allocator can split by: a multiple of 0.01, or
    /// one of 0.001, 0.002 and 0.005, which divide it.
    ///
    /// # Errors
    /// What would do, in words.
    pub fn check(&self) -> Result<(), String> {
        if matches!(self.quantum, 1 | 2 | 5) || (self.quantum > 0 && self.quantum % 10 == 0) {
            return Ok(());
        }
        Err(format!(
            "quantum {}: take a multiple of 0.01, or 0.001, 0.002 or 0.005",
            format_milli(self.quantum)
        ))
    }
}

/// Everything fixed about a node that the coordinator needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// Host name.
    pub hostname: Box<str>,
    /// Processor architecture in Docker's words: `amd64`, `arm64`.
    pub arch: Box<str>,
    /// Operating system, in words.
    pub os: Box<str>,
    /// Kernel release.
    pub kernel: Box<str>,
    /// Version of the agent.
    pub agent_version: Box<str>,
    /// Version of the container engine; empty = unknown.
    pub engine_version: Box<str>,
    /// Storage driver of the engine; empty = unknown.
    pub engine_storage: Box<str>,
    /// 1 or 2; 0 = unknown.
    pub cgroup_version: u8,
    /// Version of the GPU driver; empty = none.
    pub driver_version: Box<str>,
    /// How GPUs reach containers; none = no way, or no GPU.
    pub gpu_way: Option<GpuWay>,
    /// What the self-test of the ways said.
    pub gpu_way_detail: Box<str>,
    /// What can be given out besides devices: cpu and mem, what the node keeps already taken off.
    pub offered: Slots,
    /// What the machine has in all.
    pub total: Slots,
    /// Most containers at once; 0 = no limit.
    pub max_containers: u32,
    /// GPUs and instances.
    pub devices: Vec<Device>,
    /// How they are given out.
    #[serde(default)] // inventories stored before there was a choice
    pub allocation: Allocation,
    /// Where other nodes reach it, and what addresses are taken there.
    #[serde(default)] // as above
    pub networks: NodeNetworks,
}

impl Inventory {
    /// Lets equal names and lists share their memory. Read from a wire or a file, each device
    /// is named anew by every device linked to it, which of eight makes most of an inventory's
    /// size.
    #[must_use]
    pub fn sharing_names(mut self) -> Self {
        let ids: BTreeSet<DeviceId> = self.devices.iter().map(|d| d.id.clone()).collect();
        let mut slots: BTreeSet<SlotName> = BTreeSet::new();
        let mut models: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut islands: Vec<Arc<[DeviceId]>> = Vec::new();
        let order: Vec<DeviceId> = self.devices.iter().map(|d| d.id.clone()).collect();
        for device in &mut self.devices {
            let shared = islands.iter().find_map(|all| device.links.kept_in(all));
            device.links = shared.unwrap_or_else(|| {
                let known = device.links.iter();
                let links: Links = known
                    .map(|link| ids.get(link).unwrap_or(link).clone())
                    .collect();
                // With itself where the machine lists it: so the others of its island have it.
                let all: BTreeSet<&DeviceId> = links.iter().chain([&device.id]).collect();
                let all: Arc<[DeviceId]> = order
                    .iter()
                    .filter(|id| all.contains(id))
                    .cloned()
                    .collect();
                match links.kept_in(&all) {
                    Some(kept) if !links.is_empty() => {
                        islands.push(all);
                        kept
                    }
                    _ => links,
                }
            });
            match slots.get(&device.slot) {
                Some(slot) => device.slot = slot.clone(),
                None => _ = slots.insert(device.slot.clone()),
            }
            match models.get(&device.model) {
                Some(model) => device.model = Arc::clone(model),
                None => _ = models.insert(Arc::clone(&device.model)),
            }
        }
        self.devices.shrink_to_fit();
        self
    }

    /// Plain slots and healthy devices together.
    #[must_use]
    pub fn capacity(&self) -> Slots {
        let mut slots = self.offered.clone();
        for device in self.devices.iter().filter(|d| d.is_offered()) {
            slots.add(&Slots::new().with(device.slot.clone(), device.capacity));
        }
        slots
    }
}

/// Live figures of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceSample {
    /// Utilisation in percent; none = unknown.
    pub utilization: Option<u8>,
    /// Memory in use, in bytes; none = unknown.
    pub memory_used: Option<i64>,
    /// Degrees Celsius; none = unknown.
    pub temperature: Option<i32>,
    /// Milliwatts; none = unknown.
    pub power_mw: Option<u32>,
}

/// Live figures of a node, carried by heartbeats and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Load average over one minute, in thousandths.
    pub load_milli: i64,
    /// Memory that could be had, in bytes.
    pub mem_free: i64,
    /// Free bytes where the engine keeps its data.
    pub disk_free: i64,
    /// Size of that file system.
    pub disk_total: i64,
    /// Resident memory of the agent itself, in bytes.
    pub agent_rss: i64,
    /// Figures per device.
    pub devices: BTreeMap<DeviceId, DeviceSample>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantum_divides_a_hundredth_or_is_made_of_them() {
        let with = |quantum| Allocation {
            quantum,
            ..Allocation::default()
        };
        for good in [1, 2, 5, 10, 20, 250, 300, 1000] {
            assert_eq!(with(good).check(), Ok(()), "{good}");
        }
        for bad in [i64::MIN, -10, 0, 3, 4, 6, 15, 25, 125, 333] {
            assert!(with(bad).check().is_err(), "{bad}");
        }
        assert_eq!(Allocation::default().check(), Ok(()));
    }

    #[test]
    fn an_inventory_without_an_allocation_has_the_default_one() {
        let text = r#"{"hostname":"n","arch":"amd64","os":"","kernel":"","agent_version":"",
            "engine_version":"","engine_storage":"","cgroup_version":2,"driver_version":"",
            "gpu_way":null,"gpu_way_detail":"","offered":{},"total":{},"max_containers":0,
            "devices":[]}"#;
        let inventory: Inventory = serde_json::from_str(text).unwrap();
        assert_eq!(inventory.allocation, Allocation::default());
    }
}
