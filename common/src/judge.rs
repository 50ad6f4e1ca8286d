//! When a session has to end: pure verdicts over what was seen of it.
//!
//! Knows no clock, file or container: the supervisor pushes activity and samples into an
//! [`IdleHistory`], asks [`judge`] at each sample and at `next_ms`, and carries out what
//! the [`Verdict`] says. All instants are milliseconds on the machine's boot clock, all
//! metrics are tenths of a percent; there is no floating point. A deadline never moves
//! earlier while the policy stays.

use crate::limits::{IdleAction, IdlePolicy, Metric, SessionLimits};
use crate::session::{Reason, SessionType};
use checks::{Opinion, Question};
use history::Shape;
use notice::{Due, Notice, Paced};
use serde::{Deserialize, Serialize};

mod checks;
mod history;
mod notice;
#[cfg(test)]
mod tests;

pub use history::{IdleHistory, KeptHistory, MetricReport, Source, WHOLE, mean_tenths, tenths};

/// The instants of one attempt, on the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionClock {
    /// When the session was made; negative if that was before this machine was started.
    pub created_at_ms: i64,
    /// When this attempt's container was started.
    pub started_at_ms: i64,
    /// Where the grace of a new user ends; none = there is none.
    pub new_user_until_ms: Option<i64>,
    /// Where the lifetime ends, extensions included; none = nowhere. Counted once from
    /// [`crate::limits::Deadline::remaining_ms`] when a set comes in.
    pub lifetime_deadline_ms: Option<i64>,
}

impl SessionClock {
    fn grace_from_ms(&self) -> i64 {
        self.new_user_until_ms.unwrap_or(i64::MIN)
    }
}

/// Which check decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nobody uses it.
    Interaction,
    /// It does no work; by this metric.
    Utilization(Metric),
}

impl Check {
    /// Its name, as reports show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interaction => "interaction",
            Self::Utilization(_) => "utilization",
        }
    }

    /// The reason a session that it stops ends with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Interaction => Reason::IdleTimeout,
            Self::Utilization(_) => Reason::IdleUtilization,
        }
    }
}

/// A line for the people who use a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What will happen and why.
    pub text: String,
    /// Seconds left.
    pub remaining_s: i64,
    /// The reason it will end with.
    pub reason: Reason,
}

/// What is to be done with a session now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Stop it now, for this reason, with this detail for people.
    pub stop: Option<(Reason, String)>,
    /// Warnings to give now.
    pub warn: Vec<Warning>,
    /// When it will be stopped for being idle if nothing happens; none = never. With the
    /// action *report* when it would be.
    pub idle_deadline_ms: Option<i64>,
    /// When its lifetime stops it; a warning that comes late moves it.
    pub lifetime_deadline_ms: Option<i64>,
    /// Which check the idle deadline is of.
    pub decided_by: Option<Check>,
    /// When the check for use by people and that for work would stop it if they were alone;
    /// none = never, or the check does not apply.
    pub checks: [Option<i64>; 2],
    /// Whether the grace lasts: no averages are shown yet.
    pub in_grace: bool,
    /// The condition IDLE: warned, and not used since.
    pub idle: bool,
    /// The idle deadline has passed and only the action *report* keeps it.
    pub overdue: bool,
    /// Ask again at this instant at the latest; none = only when something changes.
    pub next_ms: Option<i64>,
}

impl Verdict {
    /// Seconds to an instant of this verdict as they are shown: -1 once it has passed.
    #[must_use]
    pub const fn remaining_s(deadline_ms: i64, now_ms: i64) -> i64 {
        if now_ms > deadline_ms {
            -1
        } else {
            (deadline_ms - now_ms) / 1000
        }
    }
}

/// Which warnings were given. Worth keeping over a restart of the agent: a lost one is
/// given again, and the stop waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WarnState {
    idle: Notice,
    lifetime: Notice,
    #[serde(default)]
    drain: Notice,
    /// The policy last judged by; none = not judged yet.
    policy: Option<Option<IdlePolicy>>,
}

impl WarnState {
    /// Whether a warning for being idle stands: it is stopped soon unless it is used.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.idle.is_warned()
    }

    /// Whether the same warnings were given as by another one, and the same deadlines need them:
    /// what differs moves with each verdict.
    #[must_use]
    pub fn warned_as(&self, other: &Self) -> bool {
        let pairs = [
            (&self.idle, &other.idle),
            (&self.lifetime, &other.lifetime),
            (&self.drain, &other.drain),
        ];
        pairs.iter().all(|(one, other)| one.warned_as(other)) && self.policy == other.policy
    }
}

/// Where a lifetime ends.
///
/// `base_ms` is the making or the start of the session, as the policy says; the grace of a
/// new user comes first. Extensions granted are added.
#[must_use]
pub fn lifetime_deadline(
    base_ms: i64,
    new_user_until_ms: Option<i64>,
    lifetime_s: u32,
    extensions_s: u32,
) -> i64 {
    let from_ms = new_user_until_ms.map_or(base_ms, |until| until.max(base_ms));
    let length_ms = (i64::from(lifetime_s) + i64::from(extensions_s)) * 1000;
    from_ms.saturating_add(length_ms)
}

/// Judges one running session at an instant.
///
/// Samples and activity up to `now_ms` have to be pushed before. With several limits due,
/// the one with the earliest deadline is the reason.
#[must_use]
pub fn judge(
    limits: &SessionLimits,
    kind: SessionType,
    clock: &SessionClock,
    history: &mut IdleHistory,
    warned: &mut WarnState,
    now_ms: i64,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut ends: Vec<End> = Vec::new();
    ends.extend(batch_end(limits, kind, clock));
    ends.extend(lifetime_end(limits, clock, warned, now_ms, &mut verdict));
    let policy = limits.idle.as_ref();
    let question = policy.map(|policy| Question {
        policy,
        kind,
        clock,
        now_ms,
    });
    let opinions = question.as_ref().map(|q| q.opinions(history));
    let opinions = opinions.unwrap_or_default();
    verdict.checks = opinions.map(|said| said.and_then(|said| said.deadline_ms));
    let opinion = question.as_ref().and_then(|q| q.decide(opinions));
    note_policy(warned, policy, opinion, history);
    if let Some(question) = question {
        verdict.in_grace = opinion.is_some() && now_ms < question.grace_end_ms();
        let end = idle_end(&question, opinion, history, warned, &mut verdict);
        ends.extend(end);
    }
    verdict.next_ms = ends.iter().map(|end| end.next_ms).min();
    // Of two at the same instant the first in the list: batch, lifetime, idle.
    let first = ends.into_iter().filter(|end| end.now(now_ms));
    if let Some(end) = first.min_by_key(|end| end.at_ms) {
        verdict.stop = Some((end.reason, end.detail));
        verdict.warn.clear();
    }
    verdict
}

/// The warning that is due of a stop because the node of a session has to be empty at an
/// instant; none = nothing is to be said now. Nothing is stopped by it: whoever empties the
/// node does that. `since_ms` is when that was decided, `warn_s` says how many seconds before.
#[must_use]
pub fn warn_of_drain(
    warned: &mut WarnState,
    warn_s: &[u32],
    deadline_ms: Option<i64>,
    since_ms: i64,
    now_ms: i64,
) -> Option<Warning> {
    let Some(deadline_ms) = deadline_ms else {
        warned.drain = Notice::default(); // the next one is told at once again
        return None;
    };
    // The first word of it comes at once, whatever is left.
    let length_ms = deadline_ms.saturating_sub(since_ms).max(0);
    let first = !warned.drain.is_told();
    warned.drain.on_deadline(deadline_ms);
    let due = Due {
        deadline_ms,
        length_ms,
        warn_s,
        quiet: true,
        waits: false,
    };
    let paced = warned.drain.pace(due, now_ms);
    let at_deadline = Paced {
        stop_at_ms: deadline_ms,
        ..paced
    };
    let say = (first || paced.warn) && now_ms < deadline_ms;
    say.then(|| {
        let why = "its node has to be empty then";
        warning(Reason::Drained, why, at_deadline, now_ms)
    })
}

/// One way in which the session ends.
struct End {
    at_ms: i64,
    /// False while the stop waits for its warning or is only reported.
    allowed: bool,
    next_ms: i64,
    reason: Reason,
    detail: String,
}

impl End {
    const fn now(&self, now_ms: i64) -> bool {
        self.allowed && now_ms >= self.at_ms
    }
}

fn batch_end(limits: &SessionLimits, kind: SessionType, clock: &SessionClock) -> Option<End> {
    let timeout_s = limits.batch_timeout_s.filter(|s| *s > 0)?;
    if kind != SessionType::Batch {
        return None;
    }
    let length_ms = i64::from(timeout_s) * 1000;
    let at_ms = clock.started_at_ms.saturating_add(length_ms);
    Some(End {
        at_ms,
        allowed: true,
        next_ms: at_ms,
        reason: Reason::TaskTimeout,
        detail: format!("its time limit of {} is over", words(length_ms)),
    })
}

fn lifetime_end(
    limits: &SessionLimits,
    clock: &SessionClock,
    warned: &mut WarnState,
    now_ms: i64,
    verdict: &mut Verdict,
) -> Option<End> {
    let Some(deadline_ms) = clock.lifetime_deadline_ms else {
        // One that appears later is stricter than none.
        warned.lifetime = Notice::of_none();
        return None;
    };
    let length_ms = deadline_ms.saturating_sub(clock.created_at_ms).max(0);
    warned.lifetime.on_deadline(deadline_ms);
    let due = Due {
        deadline_ms,
        length_ms,
        warn_s: match &limits.idle {
            Some(idle) => &idle.warn_s,
            None => &limits.warn_s,
        },
        quiet: true,
        waits: true,
    };
    let paced = warned.lifetime.pace(due, now_ms);
    let why = format!("its lifetime of {} is over", words(length_ms));
    if paced.warn {
        let warning = warning(Reason::LifetimeExceeded, &why, paced, now_ms);
        verdict.warn.push(warning);
    }
    verdict.lifetime_deadline_ms = Some(paced.stop_at_ms);
    Some(End {
        at_ms: paced.stop_at_ms,
        allowed: paced.stop,
        next_ms: paced.next_ms,
        reason: Reason::LifetimeExceeded,
        detail: why,
    })
}

fn idle_end(
    question: &Question<'_>,
    opinion: Option<Opinion>,
    history: &IdleHistory,
    warned: &mut WarnState,
    verdict: &mut Verdict,
) -> Option<End> {
    let found = opinion.and_then(|opinion| Some((opinion, session_deadline(opinion, history)?)));
    let Some((opinion, deadline_ms)) = found else {
        warned.idle.clear();
        return None;
    };
    let due = Due {
        deadline_ms,
        length_ms: opinion.length_ms,
        warn_s: &question.policy.warn_s,
        quiet: opinion.quiet,
        waits: true,
    };
    let paced = warned.idle.pace_idle(due, question.now_ms);
    verdict.idle_deadline_ms = Some(paced.stop_at_ms);
    verdict.decided_by = Some(opinion.check);
    verdict.idle = warned.idle.is_warned();
    let why = why_idle(opinion);
    let stops = match question.policy.action {
        IdleAction::Stop => true,
        IdleAction::Report => {
            verdict.overdue = paced.stop;
            false
        }
    };
    if paced.warn && stops {
        let reason = opinion.check.reason();
        let warning = warning(reason, &why, paced, question.now_ms);
        verdict.warn.push(warning);
    }
    let held_back = question.shape().filter(|_| !opinion.quiet);
    let boundary_ms = held_back.map(|shape: Shape| shape.next_boundary_ms(question.now_ms));
    let next_ms = boundary_ms.map_or(paced.next_ms, |at| at.min(paced.next_ms));
    Some(End {
        at_ms: paced.stop_at_ms,
        allowed: paced.stop && stops,
        next_ms,
        reason: opinion.check.reason(),
        detail: why,
    })
}

/// The deadline of the check that decided, held up by `keep`.
fn session_deadline(opinion: Opinion, history: &IdleHistory) -> Option<i64> {
    let deadline_ms = opinion.deadline_ms?;
    Some(
        history
            .kept_until_ms()
            .map_or(deadline_ms, |until| until.max(deadline_ms)),
    )
}

fn note_policy(
    warned: &mut WarnState,
    policy: Option<&IdlePolicy>,
    opinion: Option<Opinion>,
    history: &IdleHistory,
) {
    if warned.policy.as_ref().map(Option::as_ref) == Some(policy) {
        return;
    }
    let first = warned.policy.replace(policy.cloned()).is_none();
    let deadline_ms = opinion.and_then(|opinion| session_deadline(opinion, history));
    match deadline_ms {
        Some(deadline_ms) if !first => warned.idle.on_new_rules(deadline_ms),
        Some(_) => (),
        None => warned.idle = Notice::default(),
    }
}

fn why_idle(opinion: Opinion) -> String {
    let length = words(opinion.length_ms);
    match opinion.check {
        Check::Interaction => format!("nobody used it for {length}"),
        Check::Utilization(metric) => format!("its {metric} use was too low for {length}"),
    }
}

fn warning(reason: Reason, why: &str, paced: Paced, now_ms: i64) -> Warning {
    let remaining_ms = paced.stop_at_ms - now_ms;
    Warning {
        text: format!("This session stops in {}: {why}.", words(remaining_ms)),
        remaining_s: remaining_ms / 1000,
        reason,
    }
}

/// A length of time for people: its two largest units.
fn words(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    let (days, hours, minutes, seconds) = (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")];
    let largest = parts.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let told = parts[largest..].iter().take(2).filter(|(n, _)| *n > 0);
    let told: Vec<String> = told.map(|(n, unit)| format!("{n} {unit}")).collect();
    if told.is_empty() {
        return "0 s".to_owned();
    }
    told.join(" ")
}
