//! Containers of the cluster on this machine that no order names. They are left alone and
//! told, with what they hold: nothing else may be placed on it until they are gone.

use super::{Containers, Supervisor};
use longshore_common::ids::ContainerKey;
use longshore_common::limits::SessionLimits;
use longshore_common::session::{ContainerSpec, Entry, Want};
use longshore_common::wire::{Claim, MAX_LIST, UnclaimedItem};

impl<C: Containers> Supervisor<C> {
    /// Those that no order of this node ever named.
    fn strangers(&self) -> impl Iterator<Item = (ContainerKey, &Claim)> {
        let unknown = |key: &ContainerKey| self.journal.key(*key).is_none();
        let found = self.found.iter().filter(move |(key, _)| unknown(key));
        found.map(|(key, found)| (*key, &found.claim))
    }

    /// Tells of them once the newest orders are known: an older set may not name what a newer
    /// one does.
    pub(super) fn tell_strangers(&mut self) {
        if !self.synced || !self.listed {
            return;
        }
        let unnamed = |(key, _): &(ContainerKey, &Claim)| {
            // One that is to be stopped holds what it holds until it is gone.
            let entry = self.desired.get(key);
            entry.is_none_or(|entry| entry.want == Want::Stop)
        };
        let items: Vec<UnclaimedItem> = self
            .strangers()
            .filter(unnamed)
            .take(MAX_LIST)
            .map(|(key, claim)| UnclaimedItem {
                key,
                claim: claim.clone(),
            })
            .collect();
        if self.shared.outbox().tell_unclaimed(items) {
            self.shared.changed.notify_one();
        }
    }

    /// The same as orders, for whoever asks what is left of this machine.
    pub(super) fn held_by_strangers(&self, like: &Entry) -> Vec<Entry> {
        let holds = |(key, claim): (ContainerKey, &Claim)| {
            let order = self.desired.get(&key);
            Entry {
                key,
                want: order.map_or(Want::Run, |order| order.want),
                spec: ContainerSpec {
                    slots: claim.slots.clone(),
                    devices: claim.devices.clone(),
                    ..like.spec.clone()
                },
                limits: SessionLimits::default(),
                stop: None,
                ..like.clone()
            }
        };
        let others = self.strangers().filter(|(key, _)| *key != like.key);
        others.map(holds).collect()
    }
}
