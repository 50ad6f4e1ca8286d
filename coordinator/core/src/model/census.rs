//! What there is at one moment, in numbers: for figures that somebody else keeps.
//!
//! Waiting sessions are counted by their queues, the others by their claims: what is looked at is
//! what runs, however many wait.

use super::state::State;
use longshore_common::agent::AgentState;
use longshore_common::ids::{AgentId, DeviceId, Generation, SessionId};
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;

/// States in which sessions are counted: those that are over are history.
pub const COUNTED: [SessionState; 5] = [
    SessionState::Pending,
    SessionState::Scheduled,
    SessionState::Preparing,
    SessionState::Running,
    SessionState::Terminating,
];

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Census {
    /// Sessions by the name of their resource group and state, each of [`COUNTED`] for each
    /// group. Of arrays the tasks are counted.
    pub sessions: BTreeMap<(String, SessionState), u64>,
    /// Nodes that have not left.
    pub nodes: Vec<NodeCensus>,
    /// Containers of attempts that are over in the books, whose node has not confirmed it.
    pub tombstones: u64,
    /// For how many milliseconds the longest of the sessions that are over has waited for that.
    pub releasing_ms: i64,
    /// GPUs that sessions hold; empty unless asked for.
    pub gpus: Vec<HeldGpu>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCensus {
    /// Its id.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// What the coordinator thinks of it.
    pub state: AgentState,
    /// The number of its desired set.
    pub desired: Generation,
}

/// A GPU, or a part of one, in the hands of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldGpu {
    /// Whose it is.
    pub session: SessionId,
    /// The owner's name.
    pub user: String,
    /// The project's name.
    pub project: String,
    /// The node's name.
    pub node: String,
    /// Its hardware id.
    pub gpu: DeviceId,
}

impl Census {
    /// Counts. `gpus`: with those that sessions hold.
    #[must_use]
    pub fn of(state: &State, now: Timestamp, gpus: bool) -> Self {
        let mut census = Self::default();
        for group in state.groups.values() {
            let waiting = state.pending_count(group.id) as u64;
            let first = |state| match state {
                SessionState::Pending => waiting,
                _ => 0,
            };
            let all = COUNTED.map(|state| ((group.name.clone(), state), first(state)));
            census.sessions.extend(all);
        }
        let here = state.agents.values();
        census.nodes = here
            .filter(|agent| agent.state != AgentState::Terminated)
            .map(|agent| NodeCensus {
                id: agent.id,
                name: agent.name.clone(),
                state: agent.state,
                desired: agent.generation,
            })
            .collect();
        let mut last = None;
        for (key, rows) in &state.ledger {
            let Some(session) = state.sessions.get(&key.session) else {
                continue; // claims are closed before a session is forgotten
            };
            if session.state.is_final() || key.attempt != session.attempt {
                census.tombstones += 1;
            }
            // Containers of one session stand beside each other.
            if last.replace(key.session) != Some(key.session) {
                census.count(state, key.session, now);
            }
            if !gpus || session.state.is_final() {
                continue;
            }
            for row in rows.values() {
                let (Some(device), Some(agent)) = (&row.device, state.agents.get(&row.agent))
                else {
                    continue;
                };
                census.gpus.push(HeldGpu {
                    session: session.id,
                    user: session.owner_name.clone(),
                    project: session.project_name.clone(),
                    node: agent.name.clone(),
                    gpu: device.clone(),
                });
            }
        }
        census
    }

    fn count(&mut self, state: &State, id: SessionId, now: Timestamp) {
        let Some(session) = state.sessions.get(&id) else {
            return;
        };
        if session.state.is_final() {
            let since = session.ended_at.map_or(0, |ended| now.since(ended));
            self.releasing_ms = self.releasing_ms.max(since);
            return;
        }
        // One that waits again is in its queue, whatever an attempt before left behind.
        if session.waits() {
            return;
        }
        let group = state.groups.get(&session.group);
        let name = group.map_or(&session.group_name, |group| &group.name);
        *self
            .sessions
            .entry((name.clone(), session.state))
            .or_default() += 1;
    }
}
