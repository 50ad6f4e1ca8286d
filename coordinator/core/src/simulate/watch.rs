//! Running sessions under their limits: the figures that the file gives them are put before the
//! judge that agents ask, and what it says happens.

use super::input::{self, Stretch};
use super::{InputError, wrong};
use crate::model::Session;
use longshore_common::amount::parse_milli;
use longshore_common::judge::{
    IdleHistory, SessionClock, Source, Verdict, WarnState, judge, lifetime_deadline,
};
use longshore_common::limits::{IdlePolicy, Metric, SessionLimits};
use longshore_common::time::Timestamp;
use std::collections::BTreeSet;

/// Agents take a sample each 5 s.
const SAMPLE_MS: i64 = 5_000;
/// A judge is asked at least once an hour while something may come of it, so that the samples
/// that wait for it stay few.
const ASK_MS: i64 = 3_600_000;
/// So many samples of each figure are taken in at a time.
const AT_ONCE: i64 = 2_000;

/// What a session does in a stretch of time.
#[derive(Debug, Clone)]
struct Does {
    from_ms: i64,
    to_ms: i64,
    connected: bool,
    /// Tenths of a percent.
    metrics: [u32; Metric::ALL.len()],
    missing: BTreeSet<usize>,
}

/// What a session does, as the file says.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity(Vec<Does>);

impl Activity {
    /// Reads it; seconds count from `origin`.
    pub(super) fn read(
        given: &[Stretch],
        origin: Timestamp,
        path: &str,
    ) -> Result<Self, InputError> {
        let read = |(index, stretch): (usize, &Stretch)| {
            let path = format!("{path}[{index}]");
            if stretch.to <= stretch.from {
                return Err(wrong(&format!("{path}.to"), "it must be later than from"));
            }
            let mut does = Does {
                from_ms: origin.plus_ms(stretch.from.ms).0,
                to_ms: origin.plus_ms(stretch.to.ms).0,
                connected: stretch.connections.unwrap_or(0) > 0,
                metrics: [0; Metric::ALL.len()],
                missing: BTreeSet::new(),
            };
            let given = [
                ("cpu_pct", &stretch.cpu_pct),
                ("mem_pct", &stretch.mem_pct),
                ("gpu_pct", &stretch.gpu_pct),
                ("gpu_mem_pct", &stretch.gpu_mem_pct),
            ];
            for (slot, (name, text)) in given.into_iter().enumerate() {
                if let Some(input::Text(text)) = text {
                    let milli = parse_milli(text).ok();
                    let milli = milli.filter(|m| (0..=100_000).contains(m));
                    let bad = || wrong(&format!("{path}.{name}"), "a percentage is 0 to 100");
                    does.metrics[slot] = u32::try_from(milli.ok_or_else(bad)? / 100).unwrap_or(0);
                }
                let metric = name.trim_end_matches("_pct");
                if stretch.no_data.iter().any(|m| m == metric || m == name) {
                    does.missing.insert(slot);
                }
            }
            let known = |m: &&String| {
                !given
                    .iter()
                    .any(|(name, _)| m == name || *m == name.trim_end_matches("_pct"))
            };
            if let Some(unknown) = stretch.no_data.iter().find(known) {
                let text = format!("{unknown} is none of cpu, mem, gpu, gpu_mem");
                return Err(wrong(&format!("{path}.no_data"), text));
            }
            Ok(does)
        };
        given
            .iter()
            .enumerate()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The next instant at which something else begins.
    fn next_ms(&self, now_ms: i64) -> Option<i64> {
        let edges = self.0.iter().flat_map(|does| [does.from_ms, does.to_ms]);
        edges.filter(|at| *at > now_ms).min()
    }

    /// A figure at an instant in tenths of a percent; nothing where there is no data.
    fn figure(&self, slot: usize, at_ms: i64) -> Option<u32> {
        let mut sum = 0;
        for does in self
            .0
            .iter()
            .filter(|d| (d.from_ms..d.to_ms).contains(&at_ms))
        {
            if does.missing.contains(&slot) {
                return None;
            }
            sum += does.metrics[slot];
        }
        Some(sum)
    }
}

/// A running session under its limits.
#[derive(Debug)]
pub(super) struct Watch {
    activity: Activity,
    limits: SessionLimits,
    clock: SessionClock,
    history: IdleHistory,
    warned: WarnState,
    sampled: [bool; Metric::ALL.len()],
    /// The first instant that no sample was taken of yet.
    next_sample_ms: i64,
    /// Up to here connections were opened and closed.
    connected_ms: i64,
    /// What was said of it last.
    pub(super) verdict: Verdict,
    /// When the judge is asked next.
    pub(super) wake: Option<Timestamp>,
}

impl Watch {
    /// A session that began to run at this instant.
    pub(super) fn new(session: &Session, activity: Activity, now: Timestamp) -> Self {
        let granted = |metric: &Metric| {
            let slots = &session.slots;
            match metric {
                Metric::Cpu => slots.cpu_milli() > 0,
                Metric::Mem => slots.mem_bytes() > 0,
                Metric::Gpu | Metric::GpuMem => slots
                    .iter()
                    .any(|(slot, amount)| amount > 0 && slot.is_accelerator()),
            }
        };
        let sampled = [Metric::Cpu, Metric::Mem, Metric::Gpu, Metric::GpuMem].map(|m| granted(&m));
        let sources = Metric::ALL.iter().map(|metric| match granted(metric) {
            true => (*metric, Source::Measured),
            false => (*metric, Source::NotGranted),
        });
        Self {
            activity,
            limits: SessionLimits::default(),
            clock: SessionClock {
                created_at_ms: now.0,
                started_at_ms: now.0,
                new_user_until_ms: None,
                lifetime_deadline_ms: None,
            },
            history: IdleHistory::new(&sources.collect::<Vec<_>>()),
            warned: WarnState::default(),
            sampled,
            next_sample_ms: i64::MIN,
            connected_ms: i64::MIN,
            verdict: Verdict::default(),
            wake: None,
        }
    }

    /// Takes over its order as an agent does.
    pub(super) fn take_limits(&mut self, limits: SessionLimits, now: Timestamp) {
        let new_user = limits.new_user_until;
        self.clock.new_user_until_ms = new_user.map(|until| now.plus_ms(until.remaining_ms).0);
        self.clock.lifetime_deadline_ms = match (limits.lifetime, limits.from_start_s) {
            (Some(lifetime), _) => Some(now.plus_ms(lifetime.remaining_ms).0),
            (None, Some(s)) => {
                let length_s = u32::try_from(s).unwrap_or(u32::MAX);
                let (started, new_user) = (self.clock.started_at_ms, self.clock.new_user_until_ms);
                Some(lifetime_deadline(started, new_user, length_s, 0))
            }
            (None, None) => None,
        };
        if let Some(kept) = limits.kept {
            let at_ms = now.0.saturating_sub(kept.ago_ms);
            self.history.keep(at_ms, i64::from(kept.hold_s) * 1000);
        }
        self.limits = limits;
    }

    /// What becomes of it now; the judge is asked again at [`Self::wake`].
    pub(super) fn judge(&mut self, session: &Session, now: Timestamp) -> &Verdict {
        self.connect(now.0);
        self.sample(session, now.0);
        self.ask(session, now.0);
        self.wake = self.next(now.0).map(Timestamp);
        &self.verdict
    }

    fn ask(&mut self, session: &Session, now_ms: i64) {
        self.verdict = judge(
            &self.limits,
            session.kind,
            &self.clock,
            &mut self.history,
            &mut self.warned,
            now_ms,
        );
    }

    fn connect(&mut self, now_ms: i64) {
        for does in self.activity.0.iter().filter(|does| does.connected) {
            // What began before it runs began with it.
            let from_ms = does.from_ms.max(self.clock.started_at_ms);
            if from_ms >= does.to_ms {
                continue;
            }
            let passed = |at: i64| at > self.connected_ms && at <= now_ms;
            if passed(from_ms) {
                self.history.open_connection(from_ms);
            }
            if passed(does.to_ms) {
                self.history.close_connection(does.to_ms);
            }
        }
        self.connected_ms = now_ms;
    }

    fn grace_end_ms(&self, rules: &IdlePolicy) -> i64 {
        let started = self.clock.started_at_ms;
        let from = self
            .clock
            .new_user_until_ms
            .map_or(started, |g| g.max(started));
        from.saturating_add(i64::from(rules.initial_grace_s) * 1000)
    }

    /// Samples each 5 s from the end of the grace on, as far as a bucket counts them.
    fn sample(&mut self, session: &Session, now_ms: i64) {
        let Some(rules) = &self.limits.idle else {
            return;
        };
        let mut at_ms = self.next_sample_ms.max(self.grace_end_ms(rules));
        let mut taken = 0;
        while at_ms <= now_ms {
            for (slot, metric) in Metric::ALL.iter().enumerate() {
                if !self.sampled[slot] {
                    continue;
                }
                if let Some(tenths) = self.activity.figure(slot, at_ms) {
                    self.history.push_sample(at_ms, *metric, tenths);
                }
            }
            taken += 1;
            if taken % AT_ONCE == 0 {
                self.ask(session, at_ms);
            }
            at_ms += SAMPLE_MS;
        }
        self.next_sample_ms = at_ms;
    }

    fn next(&self, now_ms: i64) -> Option<i64> {
        let change = self.activity.next_ms(now_ms);
        // Who is only reported goes on being overdue for ever.
        let asked = self.verdict.next_ms.filter(|_| !self.verdict.overdue);
        let often = asked
            .and(self.limits.idle.as_ref())
            .map(|_| now_ms + ASK_MS);
        // After a warning it is seen at once that somebody uses it again.
        let warned = (self.verdict.idle && change.is_some()).then_some(now_ms + SAMPLE_MS);
        [change, asked, often, warned].into_iter().flatten().min()
    }

    /// What was seen of its use.
    pub(super) const fn history(&self) -> &IdleHistory {
        &self.history
    }

    /// The rules of idleness it is under.
    pub(super) const fn rules(&self) -> Option<&IdlePolicy> {
        self.limits.idle.as_ref()
    }
}
