//! GPUs behind one interface: `nvml` asks the driver's library on a thread of its own,
//! `simulated` invents them.
//!
//! The supervisor never calls a driver: it reads the newest [`Snapshot`], which says
//! itself how old it is.

use longshore_common::agent::{Device, DeviceSample};
use longshore_common::ids::DeviceId;
use std::collections::{BTreeMap, BTreeSet};

pub mod cordons;
pub mod foreign;
mod mask;
pub mod nvml;
pub mod simulated;
pub mod stuck;

pub use mask::Mask;

/// What is known about the GPUs of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Whether the GPUs were looked at: until then nothing is known, not even that there are none.
    pub looked: bool,
    /// All devices ever seen in this life of the agent, with their health.
    pub devices: Vec<Device>,
    /// Live figures.
    pub samples: BTreeMap<DeviceId, DeviceSample>,
    /// Processes on the devices: process id and bytes of GPU memory.
    pub processes: BTreeMap<DeviceId, Vec<(u32, Option<i64>)>>,
    /// The newest sign of sickness that the driver told of the GPU of each device.
    pub signs: BTreeMap<DeviceId, Sign>,
    /// How many XIDs of which number the driver told of each GPU since the process began.
    pub xids: BTreeMap<(DeviceId, u32), u64>,
    /// Which instance of its GPU each MIG instance is, where the driver says so.
    pub instances: BTreeMap<DeviceId, Instance>,
    /// Those among the devices that the configuration keeps back.
    pub masked: BTreeSet<DeviceId>,
    /// Version of the driver; empty = none.
    pub driver_version: String,
    /// Why there are no GPUs, if the library said so.
    pub note: String,
}

/// A MIG instance by the driver's numbers, which its capabilities are named by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// The GPU instance.
    pub gpu_instance: u32,
    /// The compute instance in it.
    pub compute_instance: u32,
}

/// An XID: the driver's word for something that went wrong on a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sign {
    /// Counts from 1; a higher one is a newer sign.
    pub number: u64,
    /// The driver's number for what happened.
    pub xid: u32,
    /// It, with its time, in words.
    pub text: String,
}

/// A source of snapshots.
///
/// A snapshot is replaced about every 5 s and at once after an event of the driver.
pub type Snapshots = tokio::sync::watch::Receiver<Snapshot>;
