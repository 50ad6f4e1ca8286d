//! Emptying a node: nothing new is placed there, the people on it are told, and at the
//! deadline what is left is stopped, or goes elsewhere where it may be tried again.

use super::draft::Draft;
use super::entities::{Agent, Container, Drain, Session, Stop};
use super::event::{Answer, Outcome, Refusal};
use super::lifecycle;
use super::loss::remove_finished;
use super::state::State;
use longshore_common::agent::AgentState;
use longshore_common::ids::{AgentId, SessionId};
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;

/// Longest message about a drain, in characters.
const MESSAGE_MAX: usize = 200;

/// A node is to be emptied, or not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainOrder {
    /// Which node.
    pub agent: AgentId,
    /// Say what would become of it, and change nothing.
    pub dry_run: bool,
    /// The version the person saw; none = whatever it is.
    pub version: Option<u64>,
    /// What; none = it need not be empty any more.
    pub begin: Option<NewDrain>,
}

/// How a node is to be emptied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDrain {
    /// When what is left is stopped; none = never.
    pub deadline: Option<Timestamp>,
    /// For the people whose sessions are there.
    pub message: String,
    /// Who orders it.
    pub by: String,
    /// At the deadline what may be tried again waits for another place instead of ending.
    pub moves: bool,
}

/// Decides it.
pub(super) fn drain(state: &State, order: &DrainOrder, now: Timestamp) -> Outcome {
    match decided(state, order, now) {
        Err(refusal) => Outcome::refuse(refusal),
        Ok(None) => Outcome::only(Answer::Done),
        Ok(Some(agent)) => {
            if order.dry_run {
                return Outcome::only(Answer::Done);
            }
            let mut draft = Draft::new(state, now);
            if let Some(node) = draft.agent_mut(order.agent) {
                node.schedulable = agent.schedulable;
                node.drain = agent.drain;
            }
            draft.touch(order.agent); // its set says both
            let (changes, effects) = draft.finish();
            Outcome {
                changes,
                effects,
                answer: Ok(Answer::Done),
            }
        }
    }
}

/// A node that is in the cluster, at the version somebody saw if that is said.
pub(super) fn in_cluster(
    state: &State,
    agent: AgentId,
    version: Option<u64>,
) -> Result<&Agent, Refusal> {
    let node = state
        .agents
        .get(&agent)
        .ok_or_else(|| Refusal::new("LS-NOT-FOUND", "There is no such agent."))?;
    if node.state == AgentState::Terminated {
        let text = format!("Agent {} has left the cluster.", node.name);
        return Err(Refusal::new("LS-AGENT-STATE", text));
    }
    if version.is_some_and(|seen| seen != node.version) {
        let text = format!(
            "Agent {} has changed meanwhile: it is at version {}.",
            node.name, node.version
        );
        return Err(Refusal::new("LS-VERSION-STALE", text));
    }
    Ok(node)
}

/// The node as it is to be; none = it is so.
fn decided(state: &State, order: &DrainOrder, now: Timestamp) -> Result<Option<Agent>, Refusal> {
    let node = in_cluster(state, order.agent, order.version)?;
    let mut wanted = node.clone();
    let Some(begin) = &order.begin else {
        let Some(drain) = wanted.drain.take() else {
            return Ok(None);
        };
        wanted.schedulable = drain.schedulable_before;
        return Ok(Some(wanted));
    };
    if begin.message.chars().count() > MESSAGE_MAX || begin.message.chars().any(char::is_control) {
        let text = format!("message must have at most {MESSAGE_MAX} visible characters.");
        return Err(Refusal::new("LS-INVALID", text.clone()).at("/message", text));
    }
    if begin.moves && begin.deadline.is_none() {
        let text = "mode move needs deadline_at: until then sessions stay.";
        return Err(Refusal::new("LS-INVALID", text).at("/deadline_at", text));
    }
    if begin.deadline.is_some_and(|at| at <= now) {
        let text = "deadline_at must lie in the future.";
        return Err(Refusal::new("LS-INVALID", text).at("/deadline_at", text));
    }
    // A drain that goes on may get another deadline and another message; what it began with
    // stays.
    let before = node.drain.as_ref();
    wanted.schedulable = false;
    wanted.drain = Some(Box::new(Drain {
        deadline: begin.deadline,
        message: begin.message.clone(),
        by: begin.by.clone(),
        at: before.map_or(now, |drain| drain.at),
        schedulable_before: before.map_or(node.schedulable, |drain| drain.schedulable_before),
        sessions: match before {
            Some(drain) => drain.sessions,
            None => u32::try_from(sessions_on(state, order.agent).len()).unwrap_or(u32::MAX),
        },
        over: false,
        moves: begin.moves,
    }));
    Ok((wanted != *node).then_some(wanted))
}

/// Sessions that have not ended and still do something on a node in their present attempt.
#[must_use]
pub fn sessions_on(state: &State, agent: AgentId) -> Vec<&Session> {
    let there = live_on(state, agent).into_iter();
    there.filter(|s| is_on(s, agent)).collect()
}

/// Sessions that have not ended and hold something on a node.
fn live_on(state: &State, agent: AgentId) -> Vec<&Session> {
    let mut ids: Vec<SessionId> = state.on_agent(agent).map(|key| key.session).collect();
    ids.dedup();
    let sessions = ids.into_iter().filter_map(|id| state.sessions.get(&id));
    sessions.filter(|s| !s.state.is_final()).collect()
}

fn is_on(session: &Session, agent: AgentId) -> bool {
    let open = |c: &&Container| !c.is_closed();
    session.unfinished().filter(open).any(|c| c.agent == agent)
}

/// When the first of the nodes has to be empty that a session is on.
#[must_use]
pub fn drain_deadline(state: &State, session: &Session) -> Option<Timestamp> {
    if session.state.is_final() {
        return None;
    }
    let open = session.unfinished().filter(|c| !c.is_closed());
    let nodes = open.filter_map(|c| state.agents.get(&c.agent));
    nodes
        .filter_map(|agent| agent.drain.as_ref()?.deadline)
        .min()
}

/// Whether a session goes elsewhere rather than ends when its node has to be empty: what would
/// be tried again if the node vanished, and is not being stopped already.
#[must_use]
pub fn may_move(session: &Session) -> bool {
    let running = session.state == SessionState::Running;
    running && session.stop.is_none() && session.failed.is_none() && session.is_restartable()
}

/// Stops what is left on nodes that have to be empty by now.
pub(super) fn due(draft: &mut Draft<'_>) {
    let now = draft.now;
    let state = draft.state;
    for agent in state.drains_due(now) {
        let Some(node) = draft.agent_mut(agent) else {
            continue;
        };
        let name = node.name.clone();
        let Some(drain) = &mut node.drain else {
            continue;
        };
        drain.over = true;
        let moves = drain.moves;
        let why = match drain.message.is_empty() {
            true => String::new(),
            false => format!(": {}", drain.message),
        };
        let (by, detail) = (
            drain.by.clone(),
            format!("agent {name} had to be empty{why}"),
        );
        for session in live_on(state, agent) {
            let id = session.id;
            if !is_on(session, agent) {
                // What has done its part there is taken away, and the others go on.
                remove_finished(draft, id, agent);
                continue;
            }
            if moves && draft.session(id).is_some_and(may_move) {
                // Its older attempt is stopped with grace; the next runs when that is gone.
                lifecycle::requeue(draft, id, Reason::Drained, &detail, now, &by);
                continue;
            }
            let stop = Stop {
                reason: Reason::Drained,
                detail: detail.clone(),
                grace_s: state.stop_grace_s(),
                forced: false,
                at: now,
            };
            lifecycle::stop(draft, id, stop, &by);
        }
    }
}
