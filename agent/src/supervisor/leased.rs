//! What the supervisor does about the lease: looks whether it is over, keeps it, and freezes.

use super::{Supervisor, steps};
use crate::host;
use crate::lease::Freezable;
use crate::runtime::{Containers, Found, FoundStatus};
use longshore_common::ids::ContainerKey;
use longshore_common::session::Want;
use std::sync::atomic::Ordering;
use tracing::{error, warn};

impl<C: Containers> Supervisor<C> {
    /// Cut off for longer than restartable containers may go on. While a set of the
    /// coordinator's is applied over a link that stands, its word is the newer one.
    pub(super) fn lease_over(&self) -> bool {
        !self.synced && self.lease.is_over(&self.boot_id, host::boot_clock_ms())
    }

    /// Takes over what was acknowledged, keeps it for who comes after this process, and
    /// freezes what must not go on.
    pub(super) fn keep_lease(&mut self) {
        let mut lease = self.lease.clone();
        lease.agent = Some(self.config.agent);
        lease.boot_id.clone_from(&self.boot_id);
        lease.acked_ms = self.shared.acked_sent_ms.load(Ordering::Relaxed);
        lease.freeze = self
            .restartable()
            .map(|(_, found)| Freezable {
                docker_id: found.docker_id.clone(),
                pid: found.pid,
            })
            .collect();
        if lease != self.lease {
            self.lease = lease;
            self.store_lease();
        }
        if !self.lease_over() {
            return;
        }
        let running: Vec<ContainerKey> = self
            .restartable()
            .filter(|(_, found)| found.status == FoundStatus::Running)
            .map(|(key, _)| *key)
            .collect();
        for key in running {
            if let Err(failed) = self.reconcile(key) {
                error!(error = %failed, "the journal failed; the agent ends, containers run on");
                std::process::exit(1);
            }
        }
    }

    /// Containers that run, or are frozen, and are restartable.
    fn restartable(&self) -> impl Iterator<Item = (&ContainerKey, &Found)> {
        self.found.iter().filter(|(key, found)| {
            let entry = self.desired.get(key);
            entry.is_some_and(|e| e.restartable && e.want == Want::Run)
                && matches!(found.status, FoundStatus::Running | FoundStatus::Paused)
        })
    }

    fn store_lease(&mut self) {
        let Some(path) = &self.config.lease_file else {
            return;
        };
        match self.lease.store(path) {
            Ok(()) => self.lease_unkept = false,
            Err(error) if !self.lease_unkept => {
                warn!(%error, path = %path.display(), "the lease cannot be kept for the guard");
                self.lease_unkept = true;
            }
            Err(_) => (),
        }
    }

    /// What was frozen past the engine, by this process or another, goes on: the engine does
    /// not know that it was.
    pub(super) fn thaw_past_engine(&self) {
        let running = self.restartable().map(|(_, found)| found);
        let running = running.filter(|found| found.status == FoundStatus::Running);
        running.for_each(steps::thaw_past_engine);
    }
}
