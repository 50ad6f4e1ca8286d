//! Deadlines of the coordinator that pass.

use super::{ACKNOWLEDGE_MS, cancel, expire, finish, stop, undo_is_late};
use crate::model::draft::Draft;
use crate::model::ends::stop_detail;
use crate::model::entities::Stop;
use longshore_common::ids::SessionId;
use longshore_common::session::{Cause, Phase, Reason, SessionState};

/// A deadline of the coordinator's passed.
pub(in super::super) fn due(draft: &mut Draft<'_>, id: SessionId) {
    let now = draft.now;
    let Some(session) = draft.session(id) else {
        return;
    };
    let by = "coordinator";
    let life_over = session.lifetime_deadline().is_some_and(|at| at <= now);
    let deadline_over = session.deadline.is_some_and(|at| at <= now);
    let away = session.present().any(|c| {
        draft
            .agent(c.agent)
            .is_some_and(|a| a.state != longshore_common::agent::AgentState::Alive)
    });
    match session.state {
        SessionState::Pending if life_over => {
            cancel(
                draft,
                id,
                Reason::LifetimeExceeded,
                "its lifetime ended while it waited",
                by,
            );
        }
        SessionState::Scheduled | SessionState::Preparing if life_over => {
            let detail = stop_detail(session, Reason::LifetimeExceeded);
            let reason = Reason::LifetimeExceeded;
            stop(
                draft,
                id,
                Stop {
                    reason,
                    detail,
                    grace_s: 0,
                    forced: false,
                    at: now,
                },
                by,
            );
        }
        SessionState::Preparing if deadline_over && session.failed.is_some() => {
            undo_is_late(draft, id, by);
        }
        SessionState::Scheduled | SessionState::Preparing if deadline_over && away => {
            // An agent that is away is judged by its silence, not by this clock.
            if let Some(session) = draft.session_mut(id) {
                session.deadline = Some(now.plus_ms(ACKNOWLEDGE_MS));
            }
        }
        SessionState::Scheduled if deadline_over => {
            expire(
                draft,
                id,
                Cause::NotAcknowledged,
                "the agent did not take its orders in time",
            );
        }
        SessionState::Preparing if deadline_over && session.older_may_run() => {
            if session.restarted {
                // Somebody waits for it. Its node goes on stopping what does not end.
                let detail = "the container of the attempt before does not end";
                expire(draft, id, Cause::StartTimeout, detail);
            } else if let Some(session) = draft.session_mut(id) {
                // Nothing is told to run beside it, however long its end takes.
                session.deadline = Some(now.plus_ms(ACKNOWLEDGE_MS));
            }
        }
        SessionState::Preparing if deadline_over => {
            let cause = match session.phase {
                Some(Phase::Pulling) => Cause::PullTimeout,
                Some(Phase::Starting) => Cause::StartTimeout,
                None if !session.present().all(|c| c.acknowledged) => Cause::NotAcknowledged,
                _ => Cause::CreateTimeout,
            };
            expire(draft, id, cause, "it took longer than a start may take");
        }
        SessionState::Terminating if deadline_over => finish(draft, id, by),
        // All that is left to do is to tell it.
        state if state.is_final() && session.is_releasing() => {
            if let Some(session) = draft.session_mut(id) {
                session.releasing_told = true;
            }
        }
        _ => (),
    }
}
