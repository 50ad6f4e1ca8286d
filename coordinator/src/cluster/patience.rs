//! How long an agent may be silent before it is LOST, while that is being changed. Pure.

/// T1, and what it was until a moment ago: an agent that beats at the pace from before is not
/// late by the new one yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    now_ms: i64,
    before_ms: i64,
    since_ms: i64,
}

impl Patience {
    /// T1 in milliseconds.
    pub(super) const fn new(lost_after_ms: i64) -> Self {
        Self {
            now_ms: lost_after_ms,
            before_ms: lost_after_ms,
            since_ms: 0,
        }
    }

    /// T1 is this from `at_ms` on, if it is another one.
    pub(super) fn follow(&mut self, lost_after_ms: i64, at_ms: i64) {
        if lost_after_ms == self.now_ms {
            return;
        }
        // Some may still beat at the pace from before the last change.
        let is_fresh = at_ms - self.since_ms < self.before_ms;
        let earlier_ms = if is_fresh { self.before_ms } else { 0 };
        *self = Self {
            now_ms: lost_after_ms,
            before_ms: self.now_ms.max(earlier_ms),
            since_ms: at_ms,
        };
    }

    /// The silence, in milliseconds, after which an agent is LOST that was heard last at
    /// `last_ms`.
    pub(super) fn of(&self, last_ms: i64) -> i64 {
        if last_ms >= self.since_ms || self.now_ms >= self.before_ms {
            return self.now_ms;
        }
        (self.since_ms - last_ms + self.now_ms).min(self.before_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_time_counts_from_the_change() {
        let mut patience = Patience::new(300_000);
        assert_eq!(patience.of(5), 300_000);
        patience.follow(300_000, 1_000_000);
        assert_eq!(patience, Patience::new(300_000));
        patience.follow(10_000, 1_000_000);
        // Heard after it, shortly before it, and nearly LOST by then.
        assert_eq!(patience.of(1_000_001), 10_000);
        assert_eq!(patience.of(940_000), 70_000);
        assert_eq!(patience.of(701_000), 300_000);
    }

    #[test]
    fn a_longer_time_holds_at_once() {
        let mut patience = Patience::new(10_000);
        patience.follow(300_000, 1_000_000);
        assert_eq!(patience.of(999_000), 300_000);
    }

    #[test]
    fn two_changes_in_a_row_lose_nobody() {
        let mut patience = Patience::new(300_000);
        patience.follow(15_000, 1_000_000);
        patience.follow(10_000, 1_001_000);
        // Heard last a minute ago, at the first pace.
        assert_eq!(patience.of(941_000), 70_000);
        // Long after, the first pace is nobody's any more.
        patience.follow(5000, 2_000_000);
        assert_eq!(patience.of(1_996_000), 9000);
        assert_eq!(patience.of(1_900_000), 10_000);
    }
}
