//! What an agent tells of the use of a container: what judging it came to, and its figures.

use super::frame::SKIPPABLE;
use super::message::Message;
use crate::ids::{ContainerKey, DeviceId};
use crate::limits::Metric;
use crate::session::words;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Most devices of one container that figures are told of.
const MAX_DEVICES: usize = 64;

words! {
    /// Which check of idleness decided.
    IdleCheckName {
        /// Nobody uses it.
        Interaction = "interaction",
        /// It does no work.
        Utilization = "utilization",
    }
}

/// What judging the use of a running container came to. Telemetry: lost without harm, sent
/// when it differs. All instants in the coordinator's time, in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UseReport {
    /// Which container.
    pub key: ContainerKey,
    /// The grace lasts: nothing is judged yet.
    pub in_grace: bool,
    /// When it is stopped for being idle if nothing happens; none = never.
    pub deadline: Option<Timestamp>,
    /// The check whose deadline that is.
    pub decided_by: Option<IdleCheckName>,
    /// The check for use by people; none = it does not apply.
    pub interaction: Option<CheckReport>,
    /// The check for work; none = it does not apply.
    pub utilization: Option<CheckReport>,
    /// What the check for work looks at.
    pub metrics: Vec<MetricFigures>,
    /// When its lifetime stops it, put off for a warning that came late; none = never.
    pub lifetime: Option<Timestamp>,
}

impl Message for UseReport {
    const KIND: u16 = SKIPPABLE | 60;
    fn check_bounds(&self) -> Result<(), &'static str> {
        match self.metrics.len() <= Metric::ALL.len() {
            true => Ok(()),
            false => Err("metrics"),
        }
    }
}

/// What one check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckReport {
    /// When it would stop the session if it were alone; none = never.
    pub deadline: Option<Timestamp>,
    /// When somebody last did something that counts; only of the check for use by people.
    pub last_activity: Option<Timestamp>,
    /// Connections open now that count as use.
    pub connections: u32,
}

/// How one metric stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricFigures {
    /// Which.
    pub metric: Metric,
    /// Mean over the window in tenths of a percent; none until the window is full.
    pub mean_tenths: Option<u32>,
    /// Threshold in percent.
    pub threshold: u32,
    /// How much of the window holds data, in percent.
    pub share_of_data: u32,
}

/// Figures of a container so far. Telemetry: lost without harm, sent at most once a minute;
/// what counts at the end comes with its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Which container.
    pub key: ContainerKey,
    /// Its figures.
    pub totals: Totals,
    /// Those of its devices.
    pub devices: Vec<DeviceUse>,
    /// When its processors or GPUs were last at work by [`crate::limits::Work`], in the
    /// coordinator's time; none = not since the agent was started.
    pub worked_at: Option<Timestamp>,
}

impl Message for Figures {
    const KIND: u16 = SKIPPABLE | 61;
    fn check_bounds(&self) -> Result<(), &'static str> {
        check_devices(&self.devices)
    }
}

pub(super) fn check_devices(devices: &[DeviceUse]) -> Result<(), &'static str> {
    match devices.len() <= MAX_DEVICES {
        true => Ok(()),
        false => Err("devices"),
    }
}

/// Figures over the life of a container; none = not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Most memory used, in bytes, from the kernel's counter where there is one.
    pub memory_peak: Option<i64>,
    /// Processor time in milliseconds.
    pub cpu_ms: Option<i64>,
    /// `memory_peak` is the largest sample, as the kernel has no counter.
    pub memory_peak_sampled: bool,
    /// Memory used without the file cache times how long, in KiB times seconds.
    pub memory_kib_s: i64,
    /// Milliseconds that the samples of memory cover.
    pub measured_ms: i64,
    /// Bytes read from disks.
    pub read_bytes: Option<i64>,
    /// Bytes written to disks.
    pub written_bytes: Option<i64>,
    /// Bytes received over the network.
    pub received_bytes: Option<i64>,
    /// Bytes sent over the network.
    pub sent_bytes: Option<i64>,
    /// Bytes of output in all, over both streams: where the last of it ends.
    #[serde(default)]
    pub output: Option<u64>,
}

/// How one device was used by one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUse {
    /// Which device.
    pub device: DeviceId,
    /// Each sample of its utilisation times the length of that sample, in milliseconds at
    /// 100 %.
    pub busy_ms: i64,
    /// Milliseconds that those samples cover.
    pub measured_ms: i64,
    /// Most memory of it in use, in bytes; none = not known, as of a part of a device.
    pub memory_peak: Option<i64>,
}
