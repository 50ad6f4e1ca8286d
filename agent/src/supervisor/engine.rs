//! The engine: whether it answers, and what it lists.

use super::{
    Doing, Event, HUNG_AFTER, PING_MS, RELIST_MS, RELIST_TROUBLE_MS, RETRY_MS, Supervisor, steps,
};
use crate::host;
use crate::journal::JournalError;
use crate::runtime::{Containers, EngineInfo, Found, RuntimeError};
use longshore_common::agent::RuntimeState;
use longshore_common::ids::ContainerKey;
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::{info, warn};

impl<C: Containers> Supervisor<C> {
    pub(super) fn look(&mut self, key: ContainerKey) {
        if let Some(busy) = self.busy.get_mut(&key) {
            busy.again = true;
            return;
        }
        let ours = self.desired.contains_key(&key) || self.journal.key(key).is_some();
        if self.listed && ours {
            self.spawn(
                key,
                Doing::Looking,
                steps::find(Arc::clone(&self.runtime), key),
            );
        }
    }

    pub(super) fn engine_error(&mut self, key: ContainerKey, error: &RuntimeError) {
        self.retry_at.insert(key, host::boot_clock_ms() + RETRY_MS);
        self.unwell(error);
        if !error.is_engine_trouble() {
            warn!(%key, %error, "a step failed and is tried again");
        }
    }

    pub(super) fn unwell(&mut self, error: &RuntimeError) {
        let state = match error {
            RuntimeError::Unreachable(_) => RuntimeState::Down,
            RuntimeError::Timeout { .. } => {
                self.trouble += 1;
                if self.trouble < HUNG_AFTER {
                    return;
                }
                RuntimeState::Hung
            }
            _ => return,
        };
        let mut outbox = self.shared.outbox();
        if outbox.runtime != state {
            warn!(%state, %error, "the container engine is in trouble");
            outbox.runtime = state;
            drop(outbox);
            self.shared.changed.notify_one();
        }
    }

    pub(super) fn well(&mut self) {
        self.trouble = 0;
        let mut outbox = self.shared.outbox();
        if outbox.runtime != RuntimeState::Up {
            info!("the container engine answers");
            outbox.runtime = RuntimeState::Up;
        }
    }

    pub(super) fn take_ping(&mut self, result: Result<(), RuntimeError>) {
        self.pinging = false;
        let now = host::boot_clock_ms();
        match result {
            Ok(()) => {
                self.pings
                    .send_modify(|count| *count = count.wrapping_add(1));
                self.next_ping_ms = now + PING_MS;
                if self.shared.outbox().runtime != RuntimeState::Up {
                    self.next_list_ms = now; // it is back: what happened meanwhile?
                }
            }
            Err(error) => {
                self.unwell(&error);
                self.next_ping_ms = match error {
                    RuntimeError::Timeout { .. } => now, // three of these make a hang
                    _ => now + RELIST_TROUBLE_MS,
                };
            }
        }
    }

    pub(super) fn take_list(
        &mut self,
        (info, list): (
            Result<EngineInfo, RuntimeError>,
            Result<Vec<Found>, RuntimeError>,
        ),
    ) -> Result<(), JournalError> {
        self.listing = false;
        let now = host::boot_clock_ms();
        match (info, list) {
            (Ok(info), Ok(list)) => {
                self.well();
                self.next_list_ms = now + RELIST_MS;
                if self.engine != info {
                    self.engine = info;
                    self.refresh_inventory();
                }
                self.take_found_list(list);
                if !std::mem::replace(&mut self.listed, true) {
                    self.sweep_files();
                }
                if self.synced && !self.lease_over() {
                    // The guard, or the process before, may have frozen what shows only now.
                    self.thaw_past_engine();
                }
                self.reconcile_all()?;
                if std::mem::take(&mut self.list_again) {
                    self.list_now();
                }
                Ok(())
            }
            (Err(error), _) | (_, Err(error)) => {
                self.next_list_ms = now + RELIST_TROUBLE_MS;
                self.unwell(&error);
                Ok(())
            }
        }
    }

    pub(super) fn take_found_list(&mut self, list: Vec<Found>) {
        let seen: BTreeSet<ContainerKey> = list.iter().map(|f| f.key).collect();
        for found in list {
            // A step that is under way knows better than a list that began before it.
            if !self.busy.contains_key(&found.key) && !self.newer_than_list.contains(&found.key) {
                self.take_found(found.key, Some(found));
            }
        }
        let gone: Vec<ContainerKey> = self
            .found
            .keys()
            .filter(|key| !seen.contains(key) && !self.busy.contains_key(key))
            .copied()
            .collect();
        for key in gone {
            if self.desired.contains_key(&key) || self.journal.key(key).is_some() {
                self.look(key); // asked for by name before it is believed to be gone
            } else {
                self.found.remove(&key);
                self.shared.outbox().forget(key);
            }
        }
    }

    /// Asks for everything; a second time when a list is under way, which may be from before.
    pub(super) fn list_now(&mut self) {
        if self.listing {
            self.list_again = true;
            return;
        }
        self.listing = true;
        self.list_again = false;
        self.newer_than_list.clear();
        let (runtime, events) = (Arc::clone(&self.runtime), self.events.clone());
        tokio::spawn(async move {
            let result = steps::list(runtime).await;
            let _ = events.send(Event::Listed(Box::new(result))).await; // see spawn
        });
    }
}
