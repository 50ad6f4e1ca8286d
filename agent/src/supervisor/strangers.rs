//! Containers of the cluster on this machine that no order names. They are left alone and
//! told, with what they hold: nothing else may be placed on it until they are gone.

use super::{Containers, Supervisor};
use longshore_common::ids::ContainerKey;
use longshore_common::limits::SessionLimits;
use longshore_common::session::{ContainerSpec, Entry, Want};
use longshore_common::wire::{
    Claim, ContainerReport, MAX_LIST, MAX_RECORD, MAX_RECORDS, UnclaimedItem,
};

impl<C: Containers> Supervisor<C> {
    /// Those that the orders which hold do not account for. An order or a word in the journal
    /// alone is not enough: a coordinator that was set back no longer orders what it did, and
    /// what lost its word is not counted by its order.
    fn strangers(&self) -> impl Iterator<Item = (ContainerKey, &Claim)> {
        let known =
            |key: &ContainerKey| self.desired.contains_key(key) && self.journal.key(*key).is_some();
        let found = self.found.iter().filter(move |(key, _)| !known(key));
        found.map(|(key, found)| (*key, &found.claim))
    }

    /// Whether no order names it but the one that ends it, which comes without a session: it
    /// holds what it holds until it is gone.
    fn is_unclaimed(&self, key: ContainerKey) -> bool {
        self.desired.get(&key).is_none_or(|entry| {
            let ends = entry.want == Want::Stop;
            ends && (entry.spec.image.is_empty() || self.journal.key(key).is_none())
        })
    }

    /// Tells of them once the newest orders are known: an older set may not name what a newer
    /// one does.
    pub(super) fn tell_strangers(&mut self) {
        if !self.synced || !self.listed {
            return;
        }
        let found = self.found.iter();
        let mut room = MAX_RECORDS;
        let items: Vec<UnclaimedItem> = found
            .filter(|(key, _)| self.is_unclaimed(**key))
            .filter_map(|(key, found)| Some((found, self.report_of(*key)?)))
            .take(MAX_LIST)
            .map(|(found, report)| {
                let record = Some(&*found.record).filter(|r| r.len() <= room.min(MAX_RECORD));
                let record = record.unwrap_or_default();
                room -= record.len();
                UnclaimedItem {
                    key: found.key,
                    claim: found.claim.clone(),
                    // What moves while it runs would make it news again and again.
                    report: ContainerReport {
                        idle_deadline: None,
                        idle: false,
                        used_at: None,
                        ..report
                    },
                    record: record.to_owned(),
                }
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
