//! What agents report of containers, and the state of a session that follows from it.

use super::{PREPARE_MS, agent_name, conclude, fail_attempt, requeue, stop};
use crate::model::change::Change;
use crate::model::draft::{Draft, Why};
use crate::model::ends::{all_finished, exit_reason, stop_detail};
use crate::model::entities::{Container, FailedStart, Session, Stop};
use crate::model::network;
use crate::model::policies::LifetimeBase;
use crate::model::usage;
use longshore_common::ids::{AgentId, ContainerKey, Rank, SessionId};
use longshore_common::session::{
    Cause, ContainerState, End, Exit, Phase, Reason, SessionState, Want,
};
use longshore_common::time::Timestamp;
use longshore_common::wire::{ContainerReport, Outcome, OutcomeNumber, Totals};

/// Creating a container takes at most this long once its image is there.
const CREATE_MS: i64 = 120_000;

/// Starting a created container takes at most this long.
const START_MS: i64 = 300_000;

/// A container of this agent that is not closed, and its session.
fn open_container<'a>(
    draft: &'a Draft<'_>,
    agent: AgentId,
    key: ContainerKey,
) -> Option<(&'a Session, &'a Container)> {
    let session = draft.session(key.session)?;
    let mut all = session.containers.iter();
    let known = all.find(|c| c.key == key && c.agent == agent)?;
    (!known.is_closed()).then_some((session, known))
}

/// What a report about one container changes.
pub(in super::super) fn report(draft: &mut Draft<'_>, agent: AgentId, item: &ContainerReport) {
    let key = item.key;
    let Some((_, known)) = open_container(draft, agent, key) else {
        return;
    };
    // A report may have been overtaken by the outcome, and what was given up stays so.
    let over = known.end.is_some() || known.state == ContainerState::Lost;
    let news = (known.state != item.state && !over)
        || (known.docker_id.is_empty() && !item.docker_id.is_empty())
        || (known.started_at.is_none() && item.started_at.is_some())
        || (item.image.is_some() && known.image != item.image);
    if !news {
        return;
    }
    let by = format!("agent {}", agent_name(draft, agent));
    let Some(session) = draft.session_mut(key.session) else {
        return;
    };
    let Some(container) = session.containers.iter_mut().find(|c| c.key == key) else {
        return;
    };
    // The two ends come as outcomes, with everything that belongs to them.
    if !over && !matches!(item.state, ContainerState::Exited | ContainerState::Closed) {
        container.state = item.state;
    }
    if !item.docker_id.is_empty() {
        container.docker_id.clone_from(&item.docker_id);
    }
    container.image = item.image.or(container.image);
    if container.started_at.is_none() {
        container.started_at = item.started_at.map(storable);
    }
    progress(draft, key.session, &by);
}

/// Gives the order to run once every container of the attempt is created, and derives
/// the state from the containers.
pub(in super::super) fn progress(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if session.state.is_final() || session.stop.is_some() || session.failed.is_some() {
        return;
    }
    let attempt = session.attempt;
    // Two attempts never make progress at the same time: the older one goes first.
    let ready = !session.older_may_run()
        && session.present().next().is_some()
        && session.present().all(|c| {
            // One that runs unasked is as good as created: it gets its order all the same.
            let there = matches!(
                c.state,
                ContainerState::Created | ContainerState::Starting | ContainerState::Running
            );
            c.want == Want::Prepare && there
        });
    if ready {
        let mut agents = Vec::new();
        for container in session
            .containers
            .iter_mut()
            .filter(|c| c.key.attempt == attempt)
        {
            container.want = Want::Run;
            container.told_to_run = true;
            agents.push(container.agent);
        }
        if session.state != SessionState::Running {
            session.deadline = Some(now.plus_ms(START_MS));
        } // one that runs unasked has nothing left to wait for
        for agent in agents {
            draft.touch(agent);
        }
    }
    derive(draft, id, by);
}

/// The state of a session from its containers (present attempt only).
fn derive(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let behind = session
        .present()
        .map(|c| (progress_rank(c.state), c.want, c.state))
        .min_by_key(|(r, ..)| *r);
    let Some((_, want, state)) = behind else {
        return;
    };
    let all_run = session
        .present()
        .all(|c| c.state == ContainerState::Running || session.is_finished(c));
    if all_run {
        if session.state != SessionState::Running {
            let started = session.present().filter_map(|c| c.started_at).max();
            session.started_at = Some(started.unwrap_or(now));
            session.deadline = None;
            // Agents counted by themselves until now: from here on all count from one instant.
            let counts_from_now =
                session.life.base == LifetimeBase::Started && session.lifetime_s.is_some();
            let told = session.present().filter(|_| counts_from_now);
            let told: Vec<AgentId> = told.map(|c| c.agent).collect();
            draft.move_to(id, SessionState::Running, Why::by(by));
            told.into_iter().for_each(|agent| draft.touch(agent));
        }
        return;
    }
    if session.state == SessionState::Running {
        return; // a frozen or odd container does not un-run a session
    }
    let phase = match state {
        ContainerState::Assigned => None,
        ContainerState::Pulling => Some(Phase::Pulling),
        ContainerState::Creating => Some(Phase::Creating),
        ContainerState::Created if want == Want::Run => Some(Phase::Starting),
        ContainerState::Created => Some(Phase::Waiting),
        _ => Some(Phase::Starting),
    };
    let Some(phase) = phase else { return };
    if session.state == SessionState::Scheduled {
        session.deadline = Some(now.plus_ms(PREPARE_MS));
        draft.move_to(id, SessionState::Preparing, Why::by(by));
    }
    if let Some(session) = draft.session_mut(id) {
        match phase {
            Phase::Creating if session.phase != Some(phase) => {
                session.deadline = Some(now.plus_ms(CREATE_MS));
            }
            Phase::Pulling if session.phase != Some(phase) => {
                let placed = session.placed_at.unwrap_or(now);
                session.deadline = Some(placed.plus_ms(PREPARE_MS));
            }
            _ => (),
        }
        session.phase = Some(phase);
    }
}

pub(super) const fn progress_rank(state: ContainerState) -> u8 {
    match state {
        ContainerState::Assigned => 0,
        ContainerState::Pulling => 1,
        ContainerState::Creating => 2,
        ContainerState::Created => 3,
        ContainerState::Starting => 4,
        ContainerState::Running => 5,
        ContainerState::Stopping => 6,
        ContainerState::Exited | ContainerState::Closed | ContainerState::Lost => 7,
    }
}

/// The agent has applied a set in which this session's containers stood.
pub(in super::super) fn acknowledged(
    draft: &mut Draft<'_>,
    id: SessionId,
    agent: AgentId,
    by: &str,
) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    for container in session.containers.iter_mut().filter(|c| c.agent == agent) {
        container.acknowledged = true;
    }
    // Until every agent has taken its orders, the short time for that runs on, and so does that
    // in which what was restarted has to end.
    let all = session.present().all(|c| c.acknowledged);
    let ends = session.restarted && session.older_may_run();
    if all && !ends && session.phase.is_none() {
        session.deadline = Some(now.plus_ms(PREPARE_MS));
    }
    if session.state == SessionState::Scheduled {
        draft.move_to(id, SessionState::Preparing, Why::by(by));
    }
}

/// A container came to an end.
pub(in super::super) fn outcome(draft: &mut Draft<'_>, agent: AgentId, outcome: &Outcome) {
    let key = outcome.key;
    let Some((session, known)) = open_container(draft, agent, key) else {
        return;
    };
    let by = format!("agent {}", agent_name(draft, agent));
    let older = key.attempt < session.attempt;
    match outcome.number {
        OutcomeNumber::Ended if known.end.is_none() => ended(draft, agent, outcome, &by),
        OutcomeNumber::Ended => (),
        OutcomeNumber::Closed => {
            // An agent that closes what it never reported ended: take the end over first.
            if known.end.is_none() && outcome.end.is_some() {
                ended(draft, agent, outcome, &by);
            }
            close_container(draft, key);
            conclude(draft, key.session, &by);
        }
    }
    if older {
        progress(draft, key.session, &by); // the present one may have waited for it
    }
}

/// An instant by another machine's clock, brought into the range that has a text form:
/// one outside could be stored but not read back.
fn storable(at: Timestamp) -> Timestamp {
    const LAST: i64 = 253_402_300_799_999; // the end of the year 9999
    Timestamp(at.0.clamp(0, LAST))
}

fn storable_end(end: End) -> End {
    let exit = |exit: Exit| Exit {
        at: storable(exit.at),
        ..exit
    };
    match end {
        End::Exited(e) => End::Exited(exit(e)),
        End::Stopped { reason, exit: e } => End::Stopped {
            reason,
            exit: e.map(exit),
        },
        other => other,
    }
}

/// Nothing is left of a container: its claims end, unless it handed them on, or an older one
/// that did is still there and holds the same place.
pub(in super::super) fn close_container(draft: &mut Draft<'_>, key: ContainerKey) {
    let Some(session) = draft.session_mut(key.session) else {
        return;
    };
    let Some(container) = session.containers.iter_mut().find(|c| c.key == key) else {
        return;
    };
    container.state = ContainerState::Closed;
    let (agent, handed_on) = (container.agent, container.handed_on);
    let ends: Vec<ContainerKey> = session
        .containers
        .iter()
        .filter(|c| c.is_closed() && !c.handed_on && c.key.rank == key.rank)
        .filter(|c| c.key == key || (handed_on && c.key.attempt > key.attempt))
        .filter(|c| !session.claims_are_shared(c))
        .map(|c| c.key)
        .collect();
    for key in ends {
        draft.close_rows(key);
    }
    network::freed(draft, key.session, key.attempt);
    draft.touch(agent);
}

/// Keeps the last words of the main container, or of the one whose own end is the session's: one
/// that was stopped or is gone decided nothing.
fn take_tail(session: &mut Session, outcome: &Outcome, goes_on: bool) {
    let rank = outcome.key.rank;
    let by_itself = session.failed.is_none() && matches!(outcome.end, Some(End::Exited(_)));
    let counts = session.code_counts(rank) && (rank == Rank::MAIN || by_itself);
    let decides = session.stop.is_none() && counts && !goes_on;
    let main = rank == Rank::MAIN && (session.stop.is_none() || session.tail_rank == rank);
    if outcome.tail.is_empty() || !(decides || main) {
        return;
    }
    session.tail_rank = rank;
    session.tail = Some(String::from_utf8_lossy(&outcome.tail).into_owned());
    let length = outcome.tail.len() as u64;
    // A number of a peer: one that cannot be is none.
    session.tail_at = outcome.totals.output.and_then(|n| n.checked_sub(length));
}

fn ended(draft: &mut Draft<'_>, agent: AgentId, outcome: &Outcome, by: &str) {
    let now = draft.now;
    let key = outcome.key;
    let Some(end) = outcome.end.clone().map(storable_end) else {
        return;
    };
    let Some(session) = draft.session_mut(key.session) else {
        return;
    };
    let present = session.attempt == key.attempt;
    let placed_at = match present {
        true => session.placed_at,
        false => {
            let mut past = session.attempts.iter();
            let past = past.find(|past| past.attempt == key.attempt.0);
            past.and_then(|past| past.placed_at)
        }
    };
    let held_ms = now.since(placed_at.unwrap_or(session.created_at));
    let Some(container) = session.containers.iter_mut().find(|c| c.key == key) else {
        return;
    };
    container.end = Some(end.clone());
    if container.state != ContainerState::Lost {
        container.state = ContainerState::Exited;
    }
    if container.started_at.is_none() {
        container.started_at = outcome.started_at.map(storable);
    }
    container.totals = outcome.totals;
    container.used = usage::believed(container, &outcome.devices, held_ms);
    let (figures, used) = (container.clone(), usage::accelerator_used(container));
    let started = container.started_at;
    session.spent.accelerator_used_ms = session.spent.accelerator_used_ms.saturating_add(used);
    for change in usage::measured(&figures, &figures.totals) {
        draft.push(Change::Usage(change));
    }
    let Some(session) = draft.session_mut(key.session) else {
        return;
    };
    if !present || session.state.is_final() {
        return; // what is final is not rewritten
    }
    // Ended so soon that its running was never reported.
    // An attempt that is being taken back does not run: its deadline stays.
    // Where each runs the command, the others may still be on their way.
    let finishes = session.finishes(&end);
    if let (Some(at), SessionState::Scheduled | SessionState::Preparing, None) =
        (started, session.state, &session.failed)
        && !finishes
    {
        session.started_at.get_or_insert(at);
        session.deadline = None;
        if !matches!(end, End::StartFailed { .. }) {
            draft.move_to(key.session, SessionState::Running, Why::by(by));
        }
    }
    let exit = match &end {
        End::Exited(exit) => Some(exit),
        End::Stopped { exit, .. } => exit.as_ref(),
        End::StartFailed { .. } | End::Vanished { .. } => None,
    };
    let goes_on = |s: &Session| finishes && s.unfinished().next().is_some();
    if let Some(session) = draft.session_mut(key.session) {
        let goes_on = goes_on(session);
        take_tail(session, outcome, goes_on);
    }
    if let (Some(exit), Some(session)) = (exit, draft.session_mut(key.session))
        && session.code_counts(key.rank)
        && (session.stop.is_some() || !goes_on(session))
    {
        session.exit_code = Some(exit.code);
        session.signal = exit.signal;
    }
    let Some(session) = draft.session(key.session) else {
        return;
    };
    if session.stop.is_some() || session.state.is_final() || session.failed.is_some() {
        return;
    }
    let goes_on = goes_on(session);
    if finishes {
        derive(draft, key.session, by);
    }
    let Some(session) = draft.session(key.session).filter(|_| !goes_on) else {
        return;
    };
    let why = match &end {
        End::Exited(_) if finishes => all_finished(session),
        End::StartFailed { cause, detail } => {
            let failed = FailedStart {
                cause: *cause,
                detail: detail.clone(),
                agent,
            };
            fail_attempt(draft, key.session, failed, by);
            return;
        }
        End::Exited(exit) => exit_reason(session, key.rank, exit),
        End::Stopped { reason, .. } => (*reason, stop_detail(session, *reason)),
        End::Vanished { rebooted: true } => (
            Reason::NodeRebooted,
            "the machine it ran on was started anew".to_owned(),
        ),
        End::Vanished { rebooted: false } => (
            Reason::ContainerNotFound,
            "its container vanished without Longshore".to_owned(),
        ),
    };
    let (reason, detail) = why;
    if session.restarts_after(reason) {
        let wait = i64::from(draft.state.scheduler.interval_s) * 1000;
        requeue(draft, key.session, reason, &detail, now.plus_ms(wait), by);
        return;
    }
    // Nothing is left of what ended; the others of a cluster get their time.
    let others = session.present().any(|c| c.key != key && !c.is_over());
    stop(
        draft,
        key.session,
        Stop {
            reason,
            detail,
            grace_s: if others {
                draft.state.stop_grace_s()
            } else {
                0
            },
            forced: false,
            at: now,
        },
        by,
    );
}

/// A container the agent no longer has although it had been told to run it.
pub(in super::super) fn missing(
    draft: &mut Draft<'_>,
    key: ContainerKey,
    agent: AgentId,
    rebooted: bool,
) {
    let now = draft.now;
    let by = format!("agent {}", agent_name(draft, agent));
    let gone = Outcome {
        key,
        number: OutcomeNumber::Closed,
        end: Some(End::Vanished { rebooted }),
        started_at: None,
        at: now,
        tail: Vec::new(),
        totals: Totals::default(),
        devices: Vec::new(),
    };
    let Some(session) = draft.session(key.session) else {
        return;
    };
    let never_ran = session.started_at.is_none() && session.stop.is_none();
    if never_ran && session.attempt == key.attempt && session.failed.is_none() {
        let failed = FailedStart {
            cause: Cause::StartFailed,
            detail: "the agent has no record of the container".to_owned(),
            agent,
        };
        let others = session.present().any(|c| c.key != key && !c.is_closed());
        if others {
            // All or none: what is there of the attempt is taken back first.
            fail_attempt(draft, key.session, failed, &by);
        } else if let Some(session) = draft.session_mut(key.session) {
            session.failed = Some(Box::new(failed));
        }
        close_container(draft, key);
        conclude(draft, key.session, &by);
        return;
    }
    outcome(draft, agent, &gone);
}

/// When a report may speak of a container: it stood in a set the agent has applied.
pub(in super::super) fn agent_has_seen(
    container: &Container,
    applied: longshore_common::ids::Generation,
) -> bool {
    applied >= container.first_generation
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
