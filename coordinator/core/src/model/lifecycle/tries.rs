//! Attempts that fail: taken back, counted, tried again or given up.

use super::{agent_name, cancel, conclude, finish, order_stop, progress_rank};
use crate::model::delivery::wait_for_vault_s;
use crate::model::draft::{Draft, Why};
use crate::model::entities::{FailedStart, Stop};
use longshore_common::ids::SessionId;
use longshore_common::session::{Cause, Phase, Reason, ResultKind, SessionState, SessionType};
use longshore_common::time::Timestamp;

/// A failed attempt is taken back within this time; what is left is waited for in the books.
const UNDO_MS: i64 = 120_000;

/// An agent on which a start failed comes last for so long.
const PENALTY_MS: i64 = 3_600_000;

/// An attempt failed before it ran: take it back.
pub(in super::super) fn fail_attempt(
    draft: &mut Draft<'_>,
    id: SessionId,
    failed: FailedStart,
    by: &str,
) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if session.failed.is_some() || session.stop.is_some() || session.state.is_final() {
        return;
    }
    session.failed = Some(Box::new(failed.clone()));
    session.deadline = Some(now.plus_ms(UNDO_MS));
    draft.move_to(id, SessionState::Preparing, Why::failed(&failed, by));
    if let Some(session) = draft.session_mut(id) {
        session.phase = Some(Phase::Undoing);
    }
    order_stop(draft, id);
    conclude(draft, id, by);
}

pub(super) fn conclude_failed(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let Some(session) = draft.session(id) else {
        return;
    };
    let Some(failed) = session.failed.clone() else {
        return;
    };
    // Neither is the session's fault, and a vault may be there again at any time.
    let counted = !matches!(
        failed.cause,
        Cause::AgentLostBeforeStart | Cause::VaultUnavailable
    );
    let tries = session.failed_starts + u32::from(counted);
    let allowed = draft
        .state
        .groups
        .get(&session.group)
        .and_then(|g| g.creation_retries)
        .unwrap_or(draft.state.scheduler.creation_retries);
    if session.restarted && failed.cause != Cause::VaultUnavailable {
        // It ran before, and a person wanted it to run again: not tried once more.
        let (agent, now) = (agent_name(draft, failed.agent), draft.now);
        let detail = format!("{} on {agent}: {}", failed.cause, failed.detail);
        if let Some(session) = draft.session_mut(id) {
            session.reason.get_or_insert(Reason::RestartFailed);
            session.detail.get_or_insert_with(|| detail.clone());
            session.result = Some(ResultKind::Failure);
            session.stop = Some(Box::new(Stop {
                reason: Reason::RestartFailed,
                detail,
                grace_s: 0,
                forced: false,
                at: now,
            }));
        }
        finish(draft, id, by);
    } else if failed.cause.is_permanent() || (counted && tries > allowed) {
        let agent = agent_name(draft, failed.agent);
        let detail = format!("{} on {agent}: {}", failed.cause, failed.detail);
        if let Some(session) = draft.session_mut(id) {
            session.failed_starts = tries;
        }
        cancel(draft, id, Reason::FailedToStart, &detail, by);
    } else {
        retry(draft, id, &failed, counted, by);
    }
}

/// Back to the queue for another attempt.
pub(in super::super) fn retry(
    draft: &mut Draft<'_>,
    id: SessionId,
    failed: &FailedStart,
    counted: bool,
    by: &str,
) {
    let now = draft.now;
    let wait = i64::from(draft.state.scheduler.interval_s) * 1000;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if session.kind == SessionType::System {
        // It is no use to wait for: who wants one asks again.
        let detail = format!("{}: {}", failed.cause, failed.detail);
        cancel(draft, id, Reason::FailedToStart, &detail, by);
        return;
    }
    if session.adopted.as_ref().is_some_and(|a| a.parts_missing) {
        // Another try would run it without what it was given.
        let detail = format!(
            "{}: {}; what it was given is not known here any more",
            failed.cause, failed.detail
        );
        cancel(draft, id, Reason::FailedToStart, &detail, by);
        return;
    }
    let of_vault = failed.cause == Cause::VaultUnavailable;
    let wait = match of_vault {
        true => {
            let name = failed.cause.as_str();
            let before = session.attempts.iter().rev();
            wait_for_vault_s(before.take_while(|past| past.reason == name).count()) * 1000
        }
        false => wait,
    };
    session.next_attempt(failed.cause.as_str(), &failed.detail, now);
    session.failed_starts += u32::from(counted);
    session.not_before = Some(now.plus_ms(wait));
    session
        .penalties
        .retain(|(agent, until)| *until > now && *agent != failed.agent);
    if !of_vault {
        // No other agent would have had what is missing.
        session
            .penalties
            .push((failed.agent, now.plus_ms(PENALTY_MS)));
    }
    let detail = format!("{}: {}", failed.cause, failed.detail);
    wait_again(draft, id, None, &detail, by);
}

/// A restartable session whose attempt ended waits for another one. Its old claims stay until
/// its nodes have confirmed, but count against its owner no longer.
pub(in super::super) fn requeue(
    draft: &mut Draft<'_>,
    id: SessionId,
    reason: Reason,
    detail: &str,
    not_before: Timestamp,
    by: &str,
) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    session.next_attempt(reason.as_str(), detail, now);
    session.restarts += 1;
    session.pending_since = now;
    session.not_before = Some(not_before);
    wait_again(draft, id, Some(reason), detail, by);
    order_stop(draft, id);
}

pub(in super::super) fn wait_again(
    draft: &mut Draft<'_>,
    id: SessionId,
    reason: Option<Reason>,
    detail: &str,
    by: &str,
) {
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    session.placed_at = None;
    session.deadline = None;
    if let Some(seat) = &mut session.queue {
        seat.pool = None;
    }
    let why = Why {
        reason,
        detail: Some(detail),
        by,
    };
    draft.move_to(id, SessionState::Pending, why);
}

/// A failed attempt is not taken back in time. What was never told to run cannot run,
/// so the session goes on while the node's claims wait; what was told to may run still,
/// and a second attempt beside it is the one thing that must not be.
pub(super) fn undo_is_late(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let may_run = session
        .present()
        .any(|c| c.told_to_run && !c.is_closed() && c.end.is_none());
    if may_run {
        session.deadline = Some(now.plus_ms(UNDO_MS));
    } else {
        conclude_failed(draft, id, by);
    }
}

pub(super) fn expire(draft: &mut Draft<'_>, id: SessionId, cause: Cause, detail: &str) {
    // The container that is furthest behind is the one that was waited for.
    let agent = draft
        .session(id)
        .and_then(|s| s.present().min_by_key(|c| progress_rank(c.state)))
        .map(|c| c.agent);
    let Some(agent) = agent else { return };
    let failed = FailedStart {
        cause,
        detail: detail.to_owned(),
        agent,
    };
    fail_attempt(draft, id, failed, "coordinator");
}
