//! What the supervisor does about the lease: looks whether it is over, keeps it, and freezes.

use super::{Supervisor, steps};
use crate::host;
use crate::lease::{Freezable, PAUSE};
use crate::runtime::{Containers, Found, FoundStatus};
use longshore_common::ids::ContainerKey;
use longshore_common::session::Want;
use std::sync::atomic::Ordering;
use tracing::{debug, error, warn};

impl<C: Containers> Supervisor<C> {
    /// Cut off for longer than restartable containers may go on. A set of the coordinator's that
    /// is applied over a link that stands is the newer word, and as old as the hello of that link
    /// at most: a machine that stood still finds both as it left them.
    pub(super) fn lease_over(&self) -> bool {
        let word_ms = if self.synced { self.hello_ms } else { 0 };
        let now_ms = host::boot_clock_ms();
        self.lease.is_over_after(word_ms, &self.boot_id, now_ms)
    }

    /// Takes over what was acknowledged, keeps it for who comes after this process, and
    /// freezes what must not go on.
    pub(super) fn keep_lease(&mut self) {
        let mut lease = self.lease.clone();
        lease.agent = Some(self.config.agent);
        lease.boot_id.clone_from(&self.boot_id);
        lease.acked_ms = self.shared.acked_sent_ms.load(Ordering::Relaxed);
        if self.listed {
            lease.freeze = self
                .restartable()
                .map(|(_, found)| Freezable {
                    docker_id: found.docker_id.clone(),
                    pid: found.pid,
                })
                .collect();
        } // before, nobody knows better than the process that was there
        if lease != self.lease {
            self.lease = lease;
            self.store_lease();
        }
        if !self.lease_over() {
            return;
        }
        if std::mem::take(&mut self.synced) {
            warn!("the lease is over though the link stands; the coordinator is asked anew");
            // What still comes over this link, acknowledgements too, may be older than what was
            // given up. Orders come with the next one alone, so this one must not go on.
            self.set_is_fresh = false;
            self.link_up = false;
            self.shared.ask_anew();
        }
        if !self.listed {
            self.freeze_unlisted();
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
                && self.own(**key).is_some()
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

    /// The engine has not said what there is. What the process before this one noted is frozen
    /// without it, once it had its time to answer.
    fn freeze_unlisted(&mut self) {
        let waited_ms = host::boot_clock_ms().saturating_sub(self.began_ms);
        if u128::try_from(waited_ms).is_ok_and(|ms| ms >= PAUSE.as_millis()) {
            for container in self.lease.freeze.clone() {
                self.freeze_past_engine(&container);
            }
        }
    }

    /// The engine was asked to freeze a container and did not.
    pub(super) fn not_frozen(&mut self, key: ContainerKey, why: &str) {
        if !self.lease_over() {
            return; // the link is back: it goes on
        }
        if let Some(found) = self.found.get(&key) {
            warn!(%key, %why, "the kernel is asked to freeze a container");
            let container = Freezable {
                docker_id: found.docker_id.clone(),
                pid: found.pid,
            };
            self.freeze_past_engine(&container);
        }
        // Tried again soon if that failed too; and the engine may have done it after all.
        let soon = host::boot_clock_ms() + super::RETRY_MS;
        self.retry_at.insert(key, soon);
    }

    fn freeze_past_engine(&mut self, container: &Freezable) {
        let (Some(pid), id) = (container.pid, &container.docker_id) else {
            return;
        };
        if self.past_engine.contains(id) {
            return;
        }
        match self.freezer.freeze_or_kill(pid, id) {
            Ok(()) => {
                warn!(docker_id = %id, "frozen without the engine");
                self.past_engine.insert(id.clone());
            }
            Err(error) => debug!(docker_id = %id, %error, "neither frozen nor killed"),
        }
    }

    /// Ends a container that the kernel froze and that is to be stopped: the engine thinks that
    /// it runs, and would wait for it in vain. Whether it was so.
    pub(super) fn end_frozen(&self, found: &Found) -> bool {
        let (Some(pid), FoundStatus::Running) = (found.pid, &found.status) else {
            return false;
        };
        let frozen = self.freezer.is_frozen(pid, &found.docker_id);
        if frozen && let Err(error) = self.freezer.end(pid, &found.docker_id) {
            warn!(key = %found.key, %error, "a frozen container could not be ended past the engine");
        }
        frozen
    }

    /// Whether a container stands still, as far as this process knows.
    pub(super) fn is_frozen(&self, key: ContainerKey) -> bool {
        let found = self.found.get(&key);
        found.is_some_and(|found| super::is_frozen(found, &self.past_engine))
    }

    /// What was frozen past the engine, by this process or another, goes on: the engine does
    /// not know that it was.
    pub(super) fn thaw_past_engine(&mut self) {
        let fence = self.journal.contents().fence;
        let running = self.restartable().filter(|(key, found)| {
            // One of another fence was given up: it never runs again.
            let ours = self.desired.get(key).is_some_and(|e| e.fence == fence);
            ours && found.status == FoundStatus::Running
        });
        let running: Vec<Found> = running.map(|(_, found)| found.clone()).collect();
        for found in running {
            steps::thaw_past_engine(&found, &self.freezer);
            self.past_engine.remove(&found.docker_id);
        }
    }
}
