//! What is thrown away by the clock: output of containers that have ended.

use super::{Containers, Supervisor};
use crate::host;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use tracing::warn;

/// Old output is looked for this often: often enough that a full disk is helped before
/// much else fails, seldom enough that reading the folders costs nothing.
const SWEEP_MS: i64 = 60_000;

/// When the next sweep is due.
#[derive(Debug)]
pub(super) struct Sweeps {
    next_ms: i64,
    /// One is under way. A disk that hangs must not gather them.
    busy: Arc<AtomicBool>,
}

impl Sweeps {
    pub(super) fn new(now: i64) -> Self {
        Self {
            next_ms: now + SWEEP_MS,
            busy: Arc::default(),
        }
    }
}

impl<C: Containers> Supervisor<C> {
    /// Removes what containers were given that ended while no agent ran.
    pub(super) fn sweep_files(&self) {
        let keys = self.journal.contents().keys.iter();
        let live = keys.filter(|(_, record)| record.ended.is_none());
        let live = live.map(|(key, _)| key).chain(self.desired.keys());
        // What no order names is left as it is.
        let live: BTreeSet<_> = live.chain(self.found.keys()).copied().collect();
        let runtime = Arc::clone(&self.runtime);
        tokio::spawn(async move { runtime.sweep_files(live).await });
    }

    /// Sweeps when it is time, beside everything else.
    pub(super) fn sweep(&mut self, now: i64) {
        if now < self.sweeps.next_ms {
            return;
        }
        self.sweeps.next_ms = now + SWEEP_MS;
        if self.sweeps.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let keys = self.journal.contents().keys.keys();
        let live: BTreeSet<String> = keys.map(ToString::to_string).collect();
        let (logs, busy) = (Arc::clone(&self.logs), Arc::clone(&self.sweeps.busy));
        tokio::task::spawn_blocking(move || {
            let disk = host::disk(logs.dir()).ok();
            let swept = logs.sweep(&|name| live.contains(name), SystemTime::now(), disk);
            if let Err(error) = swept {
                warn!(%error, "old output could not be swept");
            }
            busy.store(false, Ordering::Release);
        });
    }
}
