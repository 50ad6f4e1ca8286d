//! Invented GPUs, for load tests and `longshore dev`. No clock, no driver, no randomness:
//! the same settings give the same ids.

use super::{Snapshot, Snapshots};
use longshore_common::agent::{Device, DeviceSample, Health, Links};
use longshore_common::amount::{SlotName, UNIT};
use longshore_common::ids::DeviceId;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// What to invent.
#[derive(Debug, Clone)]
pub struct SimulatedConfig {
    /// How many GPUs.
    pub count: u32,
    /// Product name.
    pub model: String,
    /// Memory of each in bytes.
    pub memory_bytes: i64,
    /// Goes into every UUID, so that two machines do not have the same GPUs.
    pub seed: u64,
}

/// The hand on the invented GPUs.
///
/// Keep it as long as the snapshots are read: without it their channel is closed.
#[derive(Debug)]
pub struct SimulatedGpus {
    sender: watch::Sender<Snapshot>,
}

/// Invents GPUs, all healthy and idle.
#[must_use]
pub fn start(config: &SimulatedConfig) -> (Snapshots, SimulatedGpus) {
    let devices: Vec<_> = (0..config.count)
        .filter_map(|index| device(config, index))
        .collect();
    let idle = DeviceSample {
        utilization: Some(0),
        memory_used: Some(0),
        temperature: Some(30),
        power_mw: Some(20_000),
    };
    let snapshot = Snapshot {
        instances: BTreeMap::new(),
        masked: std::collections::BTreeSet::new(),
        looked: true,
        samples: devices
            .iter()
            .map(|d| (d.id.clone(), idle.clone()))
            .collect(),
        processes: devices.iter().map(|d| (d.id.clone(), Vec::new())).collect(),
        devices,
        signs: BTreeMap::new(),
        xids: BTreeMap::new(),
        driver_version: "simulated".to_owned(),
        note: String::new(),
    };
    let (sender, snapshots) = watch::channel(snapshot);
    (snapshots, SimulatedGpus { sender })
}

fn device(config: &SimulatedConfig, index: u32) -> Option<Device> {
    let (high, low) = (config.seed >> 32, config.seed & 0xffff_ffff);
    let id = format!("GPU-{high:08x}-0000-4000-8000-{low:08x}{index:04x}");
    Some(Device {
        id: id.parse().ok()?,
        index,
        slot: SlotName::cuda_device(),
        capacity: UNIT,
        model: config.model.as_str().into(),
        memory_bytes: config.memory_bytes,
        pci: format!("0000:{:02x}:{:02x}.0", index / 32 + 1, index % 32).into(),
        minor: Some(index),
        numa: None,
        links: Links::default(),
        health: Health::Healthy,
        health_detail: Box::default(),
    })
}

impl SimulatedGpus {
    /// Changes the utilisation that a GPU shows, in percent.
    pub fn set_utilization(&self, id: &DeviceId, percent: u8) {
        self.sender.send_modify(|snapshot| {
            if let Some(sample) = snapshot.samples.get_mut(id) {
                sample.utilization = Some(percent.min(100));
            }
        });
    }

    /// Changes the memory that a GPU shows as used, in bytes.
    pub fn set_memory_used(&self, id: &DeviceId, bytes: i64) {
        self.sender.send_modify(|snapshot| {
            if let Some(sample) = snapshot.samples.get_mut(id) {
                sample.memory_used = Some(bytes);
            }
        });
    }

    /// Makes a GPU fall off the bus.
    pub fn lose(&self, id: &DeviceId) {
        self.set_health(id, Health::Lost, "lost by the simulation");
        self.sender.send_modify(|snapshot| {
            snapshot.samples.remove(id);
            snapshot.processes.remove(id);
        });
    }

    /// Changes the health of a GPU; `detail` says why.
    pub fn set_health(&self, id: &DeviceId, health: Health, detail: &str) {
        self.sender.send_modify(|snapshot| {
            if let Some(device) = snapshot.devices.iter_mut().find(|d| d.id == *id) {
                device.health = health;
                device.health_detail = detail.into();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_differ_and_can_be_lost() {
        let config = SimulatedConfig {
            count: 40,
            model: "Simulated".to_owned(),
            memory_bytes: 48 << 30,
            seed: 7,
        };
        let (snapshots, gpus) = start(&config);
        let ids: std::collections::BTreeSet<_> = snapshots
            .borrow()
            .devices
            .iter()
            .map(|d| d.id.clone())
            .collect();
        assert_eq!(ids.len(), 40);
        let id = ids.first().unwrap();
        gpus.set_utilization(id, 50);
        assert_eq!(snapshots.borrow().samples[id].utilization, Some(50));
        gpus.lose(id);
        assert_eq!(snapshots.borrow().devices[0].health, Health::Lost);
        assert!(!snapshots.borrow().samples.contains_key(id));
    }
}
