//! Which GPUs the configuration keeps back. It may change while they are looked at: one that was
//! looked at before, or that somebody has, is not lost out of sight by that.

use longshore_common::ids::DeviceId;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// UUIDs and PCI addresses, shared with whoever looks at the GPUs.
#[derive(Debug, Clone, Default)]
pub struct Mask(Arc<Mutex<Masked>>);

#[derive(Debug, Default)]
struct Masked {
    names: Vec<String>,
    held: BTreeSet<DeviceId>,
}

impl From<Vec<String>> for Mask {
    fn from(names: Vec<String>) -> Self {
        let held = BTreeSet::new();
        Self(Arc::new(Mutex::new(Masked { names, held })))
    }
}

impl Mask {
    fn inner(&self) -> MutexGuard<'_, Masked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other devices from now on.
    pub fn set(&self, names: Vec<String>) {
        self.inner().names = names;
    }

    /// What is kept back.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.inner().names.clone()
    }

    /// These are looked at whether they are kept back or not, since somebody has them.
    pub fn hold(&self, devices: BTreeSet<DeviceId>) {
        self.inner().held = devices;
    }

    /// Whether somebody has this one.
    pub(super) fn is_held(&self, device: &DeviceId) -> bool {
        self.inner().held.contains(device)
    }
}
