//! Nothing is stopped without a warning: which warning is due, and until when a stop has
//! to wait for it.

use serde::{Deserialize, Serialize};

/// Least time between a warning and the stop, in milliseconds; half the limit's length if
/// that is less.
const MIN_NOTICE_MS: i64 = 60_000;

/// The same after a policy became stricter: nobody could know of it.
const STRICT_NOTICE_MS: i64 = 300_000;

/// How long to wait before asking again whether a warning that is held back is due: one
/// sample.
const HELD_BACK_MS: i64 = 5_000;

/// Two computations of one deadline differ by how long the set was under way; only more
/// than that counts as an earlier deadline.
const SAME_MS: i64 = 2_000;

/// What was warned of so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Notice {
    /// Leads that fired, in milliseconds.
    fired: Vec<i64>,
    /// When the first of them did.
    warned_at_ms: Option<i64>,
    /// The deadline a stricter policy brought, until use moves it.
    strict_ms: Option<i64>,
    /// The deadline last told.
    told_ms: Option<i64>,
}

/// A deadline to warn of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due<'a> {
    pub(super) deadline_ms: i64,
    /// Length of the limit.
    pub(super) length_ms: i64,
    /// Wanted leads in seconds.
    pub(super) warn_s: &'a [u32],
    /// Whether a warning may be given now.
    pub(super) quiet: bool,
    /// Whether the stop waits until its notice is over.
    pub(super) waits: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paced {
    /// When it stops: the deadline, or later if the warning came late.
    pub(super) stop_at_ms: i64,
    /// Whether that is now.
    pub(super) stop: bool,
    /// Whether a warning is to be given now.
    pub(super) warn: bool,
    /// When something changes if nothing happens.
    pub(super) next_ms: i64,
}

impl Notice {
    /// What is known where it was judged that there is no deadline: whatever comes is earlier.
    pub(super) const fn of_none() -> Self {
        Self {
            fired: Vec::new(),
            warned_at_ms: None,
            strict_ms: None,
            told_ms: Some(i64::MAX),
        }
    }

    /// Whether a warning stands.
    pub(super) fn is_warned(&self) -> bool {
        self.warned_at_ms.is_some()
    }

    /// Whether a deadline was told before.
    pub(super) const fn is_told(&self) -> bool {
        self.told_ms.is_some()
    }

    /// Whether the same warnings were given.
    pub(super) fn warned_as(&self, other: &Self) -> bool {
        self.fired == other.fired
            && self.warned_at_ms == other.warned_at_ms
            && self.strict_ms == other.strict_ms
            && self.is_told() == other.is_told()
    }

    /// Forgets the warnings, as there is nothing to warn of.
    pub(super) fn clear(&mut self) {
        self.fired.clear();
        self.warned_at_ms = None;
        self.strict_ms = None;
    }

    /// Notes that the rules changed. A deadline that is earlier than the one told, or that
    /// comes where none was, needs a new and longer warning.
    pub(super) fn on_new_rules(&mut self, deadline_ms: i64) {
        let told_ms = self.told_ms.take();
        if told_ms.is_none_or(|told| deadline_ms < told.saturating_sub(SAME_MS)) {
            self.clear();
            self.strict_ms = Some(deadline_ms);
        }
    }

    /// Like [`Self::on_new_rules`], for a limit that has no rules but the deadline itself.
    pub(super) fn on_deadline(&mut self, deadline_ms: i64) {
        if self
            .told_ms
            .is_some_and(|told| deadline_ms < told.saturating_sub(SAME_MS))
        {
            self.on_new_rules(deadline_ms);
        }
        self.told_ms = Some(deadline_ms);
    }

    /// Judges a deadline at an instant and remembers the warning it asks for. The stop
    /// never moves earlier while the rules stay.
    pub(super) fn pace_idle(&mut self, due: Due<'_>, now_ms: i64) -> Paced {
        let told_ms = self.told_ms.unwrap_or(i64::MIN);
        let mut paced = self.pace(due, now_ms);
        if paced.stop_at_ms < told_ms {
            paced.stop_at_ms = told_ms;
            paced.stop &= now_ms >= told_ms;
            paced.next_ms = paced.next_ms.max(now_ms + 1);
        }
        self.told_ms = Some(paced.stop_at_ms);
        paced
    }

    /// Judges a deadline at an instant and remembers the warning it asks for.
    pub(super) fn pace(&mut self, due: Due<'_>, now_ms: i64) -> Paced {
        let remaining_ms = due.deadline_ms.saturating_sub(now_ms);
        self.rearm(due.deadline_ms, remaining_ms);
        let leads = self.leads(due);
        let end_ms = self.end_ms(due, now_ms);
        let left_ms = end_ms.saturating_sub(now_ms);
        let ready: Vec<i64> = leads
            .iter()
            .copied()
            .filter(|lead| left_ms <= *lead && !self.fired.contains(lead))
            .collect();
        let warn = !ready.is_empty() && due.quiet;
        if warn {
            // With it those are given that were due before the end was put off.
            let given = leads.iter().filter(|lead| remaining_ms <= **lead);
            self.fired.extend(ready.iter().chain(given));
            self.fired.sort_unstable();
            self.fired.dedup();
            self.warned_at_ms.get_or_insert(now_ms);
        }
        let noticed_ms = self
            .warned_at_ms
            .unwrap_or(now_ms)
            .saturating_add(self.notice_ms(due.length_ms));
        let stop_at_ms = due.deadline_ms.max(noticed_ms);
        let stop = self.is_warned() && now_ms >= stop_at_ms;
        let held_back = (!ready.is_empty() && !warn).then_some(now_ms + HELD_BACK_MS);
        let next_ms = leads
            .iter()
            .map(|lead| end_ms.saturating_sub(*lead))
            .chain([stop_at_ms])
            .chain(held_back)
            .filter(|at| *at > now_ms)
            .min()
            .unwrap_or(now_ms + HELD_BACK_MS);
        Paced {
            stop_at_ms,
            stop,
            warn: warn && !stop,
            next_ms,
        }
    }

    /// What leads are counted from: a deadline that a stricter policy brought is put off until
    /// its notice is over, and a second warning is as long before that as people are used to.
    fn end_ms(&self, due: Due<'_>, now_ms: i64) -> i64 {
        match self.strict_ms {
            Some(_) if due.waits => {
                let warned_ms = self.warned_at_ms.unwrap_or(now_ms);
                due.deadline_ms
                    .max(warned_ms.saturating_add(STRICT_NOTICE_MS))
            }
            _ => due.deadline_ms,
        }
    }

    fn rearm(&mut self, deadline_ms: i64, remaining_ms: i64) {
        self.fired
            .retain(|lead| remaining_ms <= lead + (lead / 2).min(60_000));
        if self.fired.is_empty() {
            self.warned_at_ms = None;
        }
        let moved = |strict: i64| deadline_ms > strict.saturating_add(MIN_NOTICE_MS);
        if self.strict_ms.is_some_and(moved) {
            self.strict_ms = None;
        }
    }

    fn notice_ms(&self, length_ms: i64) -> i64 {
        if self.strict_ms.is_some() {
            STRICT_NOTICE_MS
        } else {
            MIN_NOTICE_MS.min(length_ms / 2)
        }
    }

    /// The wanted leads that fit into half the length; half the length if none does.
    fn leads(&self, due: Due<'_>) -> Vec<i64> {
        let half_ms = due.length_ms / 2;
        let wanted = due.warn_s.iter().map(|lead| i64::from(*lead) * 1000);
        let mut leads: Vec<i64> = wanted
            .filter(|lead| *lead > 0 && *lead <= half_ms)
            .collect();
        if leads.is_empty() {
            leads.push(half_ms);
        }
        if self.strict_ms.is_some() {
            leads.push(STRICT_NOTICE_MS);
        }
        leads.sort_unstable();
        leads.dedup();
        leads
    }
}
