//! What is noted for figures alone.

use longshore_common::metrics::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// From what an engine at rest takes to the longest deadline of a call, in milliseconds.
const CALL_BOUNDS: &[u64] = &[
    10, 50, 100, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000,
];

/// What link and supervisor note.
#[derive(Debug, Clone, Default)]
pub struct Noted {
    /// What the coordinator calls this node; empty = it has not said so yet.
    pub name: String,
    /// Whether there is a connection.
    pub link_up: bool,
    /// How many there were.
    pub links: u64,
    /// From the last heartbeat that was answered to its answer, in milliseconds.
    pub rtt_ms: Option<i64>,
    /// For so long containers go on without a word; 0 = for ever.
    pub lease_ms: i64,
    /// Size of the journal.
    pub journal_bytes: u64,
    /// Where the engine keeps its data.
    pub disk: String,
    /// Steps, by what was done and whether it was.
    pub steps: BTreeMap<(&'static str, bool), u64>,
}

/// It, for all who note.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Noted>);

impl Tally {
    // A poisoned lock here only means that somebody panicked while noting.
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something; must be short.
    pub fn note(&self, note: impl FnOnce(&mut Noted)) {
        note(&mut self.lock());
    }

    /// What was noted.
    #[must_use]
    pub fn noted(&self) -> Noted {
        self.lock().clone()
    }
}

/// What calls of the container engine took. Their names are those of the code: there is a bound.
#[derive(Debug, Default)]
pub struct CallTimes {
    calls: Mutex<BTreeMap<&'static str, Histogram>>,
    pulled: AtomicU64,
}

impl CallTimes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Histogram>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call took so long.
    pub fn took(&self, call: &'static str, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut calls = self.lock();
        let seen = calls.entry(call);
        seen.or_insert_with(|| Histogram::new(CALL_BOUNDS)).add(ms);
    }

    /// So many bytes more of images were fetched.
    pub fn fetched(&self, bytes: u64) {
        // A registry says how many: whatever it says, what was counted does not begin anew.
        let more = |seen: u64| Some(seen.saturating_add(bytes));
        let _ = self
            .pulled
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Bytes of images that were fetched.
    #[must_use]
    pub fn pulled(&self) -> u64 {
        self.pulled.load(Ordering::Relaxed)
    }

    /// Looks at what each call took, in the order of their names.
    pub fn each(&self, mut look: impl FnMut(&'static str, &Histogram)) {
        for (call, seen) in self.lock().iter() {
            look(call, seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_never_goes_down() {
        let times = CallTimes::default();
        times.fetched(7);
        assert_eq!(times.pulled(), 7);
        times.fetched(u64::MAX - 3);
        assert_eq!(times.pulled(), u64::MAX);
    }
}
