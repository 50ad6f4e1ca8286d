//! Idleness of sessions of several containers: judged over all of them, here. An agent sees the
//! containers of its own node alone, and one that waits does no work while others do; it reports
//! when each would be stopped, and stops none.
//!
//! What is seen of a session is known outside of the State; what follows is decided here. What is
//! not seen, because a node is away, is never idle.

use super::draft::{Draft, Why};
use super::entities::{Session, Stop};
use super::lifecycle::stop;
use super::state::State;
use longshore_common::ids::{Attempt, SessionId};
use longshore_common::limits::{IdleAction, IdlePolicy};
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;
use longshore_common::wire::IdleCheckName;

/// Between the warning and the stop lie at least so many seconds, or half the limit if that is
/// less.
const NOTICE_S: i64 = 60;

/// What an agent said last of the idleness of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleSaid {
    /// When it would be stopped if it were alone.
    pub deadline: Timestamp,
    /// That is near, and it was not used since that was seen.
    pub near: bool,
    /// Which check says so.
    pub check: Option<IdleCheckName>,
}

/// What follows for one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterIdleVerdict {
    /// It is told that it stops at this instant.
    Warn(Timestamp),
    /// It is used again.
    Used,
    /// It is stopped, for this reason.
    Stop(Reason),
}

fn rules(session: &Session) -> Option<&IdlePolicy> {
    let several = session.cluster.size > 1 && session.array.is_none();
    let runs = session.state == SessionState::Running && session.stop.is_none();
    let rules = session.judged_idle().filter(|_| several && runs)?;
    (rules.action == IdleAction::Stop && rules.judges(session.kind)).then_some(rules)
}

/// Sessions that are judged so.
pub fn judged_together(state: &State) -> impl Iterator<Item = &Session> {
    let all = state.networked().filter_map(|id| state.sessions.get(&id));
    all.filter(|session| rules(session).is_some())
}

/// What is made of a session: `said` of each of its present containers, none = nobody knows;
/// `told` is when it was warned. None = nothing.
#[must_use]
pub fn cluster_idle(
    session: &Session,
    said: &[Option<IdleSaid>],
    told: Option<Timestamp>,
    now: Timestamp,
) -> Option<ClusterIdleVerdict> {
    let rules = rules(session)?;
    let used = told.map(|_| ClusterIdleVerdict::Used);
    // One that is used, or of which nothing is known, keeps the others.
    let all: Option<Vec<IdleSaid>> = said.iter().copied().collect();
    let Some(last) = all
        .unwrap_or_default()
        .into_iter()
        .max_by_key(|s| s.deadline)
    else {
        return used;
    };
    let near = said.iter().flatten().all(|one| one.near);
    let kept = session.life.kept.map(|keep| keep.until());
    if !near || kept.is_some_and(|until| until > now) {
        return used;
    }
    let half = i64::from(rules.timeout_s) / 2;
    let notice = NOTICE_S.min(half.max(1));
    let Some(told) = told else {
        return Some(ClusterIdleVerdict::Warn(
            last.deadline.max(now.plus_s(notice)),
        ));
    };
    let due = now >= last.deadline && now >= told.plus_s(notice);
    let reason = match last.check {
        Some(IdleCheckName::Utilization) => Reason::IdleUtilization,
        Some(IdleCheckName::Interaction) | None => Reason::IdleTimeout,
    };
    due.then_some(ClusterIdleVerdict::Stop(reason))
}

/// What people are told.
pub(super) fn warning(at: Timestamp) -> String {
    format!("This session stops at {at}: none of its containers is used.")
}

/// Carries a verdict out, if the session is still the one that was looked at.
pub(super) fn carry_out(
    draft: &mut Draft<'_>,
    (id, attempt): (SessionId, Attempt),
    verdict: ClusterIdleVerdict,
) {
    let (by, now) = ("idle", draft.now);
    let same = draft.session(id).is_some_and(|session| {
        let kept = session.life.kept.map(|keep| keep.until());
        let is_kept = kept.is_some_and(|until| until > now);
        session.attempt == attempt && rules(session).is_some() && !is_kept
    });
    if !same {
        return;
    }
    let text = match verdict {
        ClusterIdleVerdict::Warn(at) => warning(at),
        ClusterIdleVerdict::Used => "It is used again.".to_owned(),
        ClusterIdleVerdict::Stop(reason) => {
            let detail = match reason {
                Reason::IdleUtilization => {
                    "Stopped: all its containers did too little for too long."
                }
                _ => "Stopped: nobody used any of its containers for too long.",
            };
            let order = Stop {
                reason,
                detail: detail.to_owned(),
                grace_s: draft.state.stop_grace_s(),
                forced: false,
                at: now,
            };
            return stop(draft, id, order, by);
        }
    };
    let why = Why {
        reason: None,
        detail: Some(&text),
        by,
    };
    draft.remark(id, SessionState::Running, why);
}
