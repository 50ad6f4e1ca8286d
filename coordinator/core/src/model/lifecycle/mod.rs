//! The life of a session: placed, prepared, run, stopped, closed; failed starts.
//!
//! Every function works on a draft. Two rules hold throughout: the first reason wins,
//! and capacity comes back only when the node confirmed.

mod dependants;
mod due;
mod placing;
mod reports;
mod tries;

pub(super) use dependants::{give_up_on, settle_dependants};
pub(super) use due::due;
pub use placing::start_session;
pub(super) use placing::{claims, take_bounds};
use reports::progress_rank;
pub(super) use reports::{
    acknowledged, agent_has_seen, close_container, missing, outcome, progress, report,
};
use tries::{conclude_failed, expire, undo_is_late};
pub(super) use tries::{fail_attempt, requeue, retry, wait_again};

use super::change::Change;
use super::draft::{Draft, Why};
use super::entities::{Container, Session, Stop};
use crate::scheduler::Cancel;
use longshore_common::ids::{AgentId, ContainerKey, SessionId};
use longshore_common::session::{
    ContainerState, Reason, ResultKind, SessionState, SessionType, Want,
};
use longshore_common::time::Timestamp;

/// An agent acknowledges its orders within this time while it is connected.
pub(super) const ACKNOWLEDGE_MS: i64 = 30_000;

/// A pull takes at most this long.
const PREPARE_MS: i64 = 7_200_000;

/// Beyond the grace, a stop takes at most this long before the session is final.
const CLOSE_MS: i64 = 120_000;

/// The changes by which a session waits no longer.
#[must_use]
pub fn cancel_session(
    state: &super::State,
    now: Timestamp,
    order: &Cancel,
) -> (Vec<Change>, Vec<super::Effect>) {
    let mut draft = Draft::new(state, now);
    cancel(
        &mut draft,
        order.session,
        order.reason,
        &order.detail,
        "scheduler",
    );
    draft.finish()
}

/// A stopped session becomes final before its nodes have confirmed.
#[must_use]
pub fn finish_unconfirmed(
    state: &super::State,
    now: Timestamp,
    id: SessionId,
) -> (Vec<Change>, Vec<super::Effect>) {
    let mut draft = Draft::new(state, now);
    let stopped = draft
        .session(id)
        .is_some_and(|s| s.stop.is_some() && !s.state.is_final());
    if stopped {
        finish(&mut draft, id, "coordinator");
    }
    draft.finish()
}

fn is_array(draft: &Draft<'_>, id: SessionId) -> bool {
    draft.session(id).is_some_and(|s| s.array.is_some())
}

/// When a stop has to be done at the latest.
pub(super) const fn close_deadline(now: Timestamp, grace_s: u32) -> Timestamp {
    now.plus_s(grace_s as i64).plus_ms(CLOSE_MS)
}

/// Decides a stop. A second one changes nothing but may shorten the grace.
pub(super) fn stop(draft: &mut Draft<'_>, id: SessionId, stop: Stop, by: &str) {
    if is_array(draft, id) {
        return super::arrays::end(draft, id, &stop, by);
    }
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if session.stop.is_some() || session.state.is_final() {
        return;
    }
    let (reason, detail, grace_s) = (stop.reason, stop.detail.clone(), stop.grace_s);
    session.reason.get_or_insert(reason);
    session.detail.get_or_insert_with(|| detail.clone());
    session.deadline = Some(close_deadline(now, grace_s));
    take_code(session);
    session.stop = Some(Box::new(stop));
    draft.move_to(
        id,
        SessionState::Terminating,
        Why {
            reason: Some(reason),
            detail: Some(&detail),
            by,
        },
    );
    order_stop(draft, id);
    conclude(draft, id, by);
}

/// What the main container ended with is the session's, where nothing else has decided that
/// until it is stopped.
fn take_code(session: &mut Session) {
    if session.exit_code.is_none()
        && let Some(exit) = session.finished_before().cloned()
    {
        session.exit_code = Some(exit.code);
        session.signal = exit.signal;
    }
}

/// Orders the containers of a session to be stopped and frees its owner's quota.
pub(super) fn order_stop(draft: &mut Draft<'_>, id: SessionId) {
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let mut touched = Vec::new();
    for container in session.containers.iter_mut().filter(|c| !c.is_closed()) {
        if container.want != Want::Stop {
            container.want = Want::Stop;
            touched.push((container.key, container.agent));
        }
    }
    for (key, agent) in touched {
        draft.free_quota(key);
        draft.touch(agent);
    }
}

/// A waiting session ends without ever having had a place.
pub(super) fn cancel(draft: &mut Draft<'_>, id: SessionId, reason: Reason, detail: &str, by: &str) {
    if is_array(draft, id) {
        return super::arrays::cancel(draft, id, reason, detail, by);
    }
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if session.state.is_final() {
        return; // with its array
    }
    session.reason.get_or_insert(reason);
    session.detail.get_or_insert_with(|| detail.to_owned());
    session.result = Some(ResultKind::Failure);
    draft.move_to(
        id,
        SessionState::Cancelled,
        Why {
            reason: Some(reason),
            detail: Some(detail),
            by,
        },
    );
}

/// Ends a session in the books at once; the node is cleaned up through tombstones.
pub(super) fn force(draft: &mut Draft<'_>, id: SessionId, stop: Stop, by: &str) {
    if is_array(draft, id) {
        return super::arrays::end(draft, id, &stop, by);
    }
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let (reason, detail) = (stop.reason, stop.detail.clone());
    session.reason.get_or_insert(reason);
    session.detail.get_or_insert_with(|| detail.clone());
    session.result.get_or_insert(ResultKind::Failure);
    let ran = session.started_at.is_some();
    take_code(session);
    session.stop = Some(Box::new(stop));
    let to = if ran {
        SessionState::Terminated
    } else {
        SessionState::Cancelled
    };
    draft.move_to(
        id,
        to,
        Why {
            reason: Some(reason),
            detail: Some(&detail),
            by,
        },
    );
    order_stop(draft, id);
    // A forced stop leaves no time: the order that may be out already is replaced.
    let agents: Vec<AgentId> = draft
        .session(id)
        .map(|s| {
            s.containers
                .iter()
                .filter(|c| !c.is_closed())
                .map(|c| c.agent)
                .collect()
        })
        .unwrap_or_default();
    for agent in agents {
        draft.touch(agent);
    }
    close_unsent(draft, id);
}

/// What no agent was ever told of cannot be there: nobody has to confirm that it is gone.
fn close_unsent(draft: &mut Draft<'_>, id: SessionId) {
    let Some(session) = draft.session(id) else {
        return;
    };
    let unsent = |c: &&Container| {
        let handed = draft.handed.get(&c.agent);
        let told = c.acknowledged || c.told_to_run || c.state != ContainerState::Assigned;
        !told && handed.is_some_and(|newest| *newest < c.first_generation)
    };
    let keys: Vec<ContainerKey> = session
        .containers
        .iter()
        .filter(unsent)
        .map(|c| c.key)
        .collect();
    for key in keys {
        close_container(draft, key);
    }
}

/// Ends what can be ended: a stopped session whose containers are all closed becomes
/// final, a failed attempt that is taken back goes on or ends for good.
pub(super) fn conclude(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let Some(session) = draft.session(id) else {
        return;
    };
    if session.state.is_final() {
        // Still to be written: it may be settled now.
        let _ = draft.session_mut(id);
        return;
    }
    let closed = session.present().all(Container::is_closed);
    if !closed {
        return;
    }
    if session.stop.is_some() {
        finish(draft, id, by);
    } else if session.failed.is_some() {
        conclude_failed(draft, id, by);
    }
}

/// Makes a stopped session final.
pub(super) fn finish(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let Some(stop) = session.stop.clone() else {
        return;
    };
    let ok = stop.reason == Reason::TaskFinished && session.exit_code == Some(0);
    let judged = session.kind == SessionType::Batch || ok;
    if judged {
        session.result = Some(if ok {
            ResultKind::Success
        } else {
            ResultKind::Failure
        });
    }
    let to = match stop.reason {
        Reason::AgentLost
        | Reason::NodeRebooted
        | Reason::ContainerNotFound
        | Reason::RuntimeError
        | Reason::DeviceLost => SessionState::Error,
        Reason::RestartFailed => SessionState::Terminated,
        _ if session.started_at.is_none() => SessionState::Cancelled,
        _ => SessionState::Terminated,
    };
    draft.move_to(
        id,
        to,
        Why {
            reason: Some(stop.reason),
            detail: Some(&stop.detail),
            by,
        },
    );
}

pub(super) fn agent_name(draft: &Draft<'_>, agent: AgentId) -> String {
    draft
        .agent(agent)
        .map_or_else(|| agent.to_string(), |a| a.name.clone())
}
