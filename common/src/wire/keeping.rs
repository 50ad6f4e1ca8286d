//! What a node tells of its own keeping: containers that no order names.

use super::delivery::MAX_RECORD;
use super::frame::SKIPPABLE;
use super::message::{ContainerReport, MAX_LIST, MAX_TEXT, Message};
use crate::amount::Slots;
use crate::ids::ContainerKey;
use crate::session::DeviceGrant;
use serde::{Deserialize, Serialize};

/// Most devices that one container can hold.
const MAX_DEVICES: usize = 256;

/// What a container holds of its node, as its labels say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Claim {
    /// Amounts; what a device gives stands in `devices`.
    pub slots: Slots,
    /// The devices.
    pub devices: Vec<DeviceGrant>,
}

/// Most bytes of all records in one report. Those that do not fit are left empty: once the others
/// have orders, a later report carries them.
pub const MAX_RECORDS: usize = 2 * 1024 * 1024;

/// A container of the cluster on this node that no order names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnclaimedItem {
    /// From its labels.
    pub key: ContainerKey,
    /// What it holds; nothing when its labels do not say.
    pub claim: Claim,
    /// Where it stands, without what changes while it runs.
    pub report: ContainerReport,
    /// From its labels: what it was placed as, signed by the coordinator
    /// ([`SignedRecord`](super::SignedRecord)); empty when they do not say.
    pub record: String,
}

/// All containers of the cluster on this node that no order names. Sent by the agent on the
/// state stream, once it has the newest orders and whenever the list differs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnclaimedReport {
    /// By key.
    pub items: Vec<UnclaimedItem>,
}

impl Message for UnclaimedReport {
    const KIND: u16 = SKIPPABLE | 55;

    fn check_bounds(&self) -> Result<(), &'static str> {
        if self.items.len() > MAX_LIST {
            return Err("items");
        }
        let fits = |item: &UnclaimedItem| {
            let devices = &item.claim.devices;
            devices.len() <= MAX_DEVICES
                && devices.iter().all(|d| d.device.as_str().len() <= MAX_TEXT)
        };
        if !self.items.iter().all(fits) {
            return Err("claim");
        }
        for item in &self.items {
            item.report.check()?;
            if item.report.key != item.key {
                return Err("key");
            }
            if item.record.len() > MAX_RECORD {
                return Err("record");
            }
        }
        let records = self.items.iter().map(|item| item.record.len());
        match records.sum::<usize>() <= MAX_RECORDS {
            true => Ok(()),
            false => Err("records"),
        }
    }
}
