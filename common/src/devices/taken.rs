//! How much of devices is taken.

use super::Occupied;
use crate::agent::{Device, Inventory};
use crate::ids::DeviceId;

/// What is taken of the devices of an inventory, in thousandths.
pub trait Taken {
    /// Of the device that stands at this place in the inventory's list.
    fn of(&self, place: usize, device: &Device) -> i64;

    /// So much more of a device; less, if it is negative.
    fn add(&mut self, inventory: &Inventory, device: &DeviceId, amount: i64);
}

impl Taken for Occupied {
    fn of(&self, _: usize, device: &Device) -> i64 {
        self.get(&device.id).copied().unwrap_or(0)
    }

    fn add(&mut self, _: &Inventory, device: &DeviceId, amount: i64) {
        match self.get_mut(device) {
            Some(taken) => *taken += amount,
            None => _ = self.insert(device.clone(), amount),
        }
    }
}

/// The same for one inventory alone, by the places of its devices: what asks thousands of times
/// in a row compares no names. What is taken of devices that are not in the inventory is not
/// kept, and decides nothing.
#[derive(Debug, Clone, Default)]
pub struct ByPlace(Vec<i64>); // empty as long as nothing is taken: most of many nodes are idle

impl ByPlace {
    /// What is taken of the devices of an inventory.
    #[must_use]
    pub fn of_inventory(inventory: &Inventory, occupied: &Occupied) -> Self {
        if occupied.is_empty() {
            return Self::default();
        }
        let taken = |device: &Device| occupied.get(&device.id).copied().unwrap_or(0);
        Self(inventory.devices.iter().map(taken).collect())
    }
}

impl Taken for ByPlace {
    fn of(&self, place: usize, _: &Device) -> i64 {
        self.0.get(place).copied().unwrap_or(0)
    }

    fn add(&mut self, inventory: &Inventory, device: &DeviceId, amount: i64) {
        // Mostly the very text of the inventory: looking at addresses comes first.
        let mut devices = inventory.devices.iter();
        let place = devices
            .position(|known| known.id.is_copy_of(device))
            .or_else(|| inventory.devices.iter().position(|d| d.id == *device));
        let Some(place) = place else { return };
        if self.0.is_empty() {
            self.0.resize(inventory.devices.len(), 0);
        }
        if let Some(taken) = self.0.get_mut(place) {
            *taken += amount;
        }
    }
}
