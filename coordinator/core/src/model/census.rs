//! What there is at one moment, in numbers: for figures that somebody else keeps.
//!
//! Waiting sessions are counted by their queues, the others by their claims: what is looked at is
//! what runs, however many wait. For somebody who sees some of them, those that wait are looked
//! at too.

use super::entities::{Agent, Group, Session};
use super::state::State;
use longshore_common::agent::AgentState;
use longshore_common::ids::{AgentId, DeviceId, Generation, SessionId};
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// States in which sessions are counted: those that are over are history.
pub const COUNTED: [SessionState; 5] = [
    SessionState::Pending,
    SessionState::Scheduled,
    SessionState::Preparing,
    SessionState::Running,
    SessionState::Terminating,
];

/// What somebody who asks may know of.
pub struct Seen<'a> {
    /// Whether a session is counted; none = all are.
    pub session: Option<&'a dyn Fn(&Session) -> bool>,
    /// Whether a resource group is shown.
    pub group: &'a dyn Fn(&Group) -> bool,
    /// Whether a node is shown.
    pub agent: &'a dyn Fn(&Agent) -> bool,
}

impl Seen<'_> {
    /// Of everything.
    pub const ALL: Seen<'static> = Seen {
        session: None,
        group: &|_| true,
        agent: &|_| true,
    };

    /// How many wait in a group: the number of all is known, some of them are looked for.
    fn waiting(&self, state: &State, group: &Group) -> u64 {
        let many = match self.session {
            None => state.pending_count(group.id),
            Some(counts) => state.queue(group.id).filter(|one| counts(one)).count(),
        };
        many as u64
    }
}

// What functions decide cannot be shown.
impl fmt::Debug for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Census {
    /// Sessions by the name of their resource group and state, each of [`COUNTED`] for each
    /// group that is shown, and for others those there are. Of arrays the tasks are counted.
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
    /// Counts what is `seen`. `gpus`: with those that sessions hold.
    #[must_use]
    pub fn of(state: &State, now: Timestamp, seen: &Seen<'_>, gpus: bool) -> Self {
        let mut census = Self::default();
        for group in state.groups.values() {
            let waiting = seen.waiting(state, group);
            if (seen.group)(group) {
                let all = COUNTED.map(|state| ((group.name.clone(), state), 0));
                census.sessions.extend(all);
            } else if waiting == 0 {
                continue;
            }
            let pending = (group.name.clone(), SessionState::Pending);
            census.sessions.insert(pending, waiting);
        }
        let here = state.agents.values();
        census.nodes = here
            .filter(|agent| agent.state != AgentState::Terminated && (seen.agent)(agent))
            .map(|agent| NodeCensus {
                id: agent.id,
                name: agent.name.clone(),
                state: agent.state,
                desired: agent.generation,
            })
            .collect();
        let mut last = None;
        // Containers of one session can share a GPU: each has a row of its own.
        let mut held: BTreeSet<(SessionId, AgentId, &DeviceId)> = BTreeSet::new();
        for (key, rows) in &state.ledger {
            // Claims are closed before a session is forgotten.
            let session = state.sessions.get(&key.session);
            let Some(session) = session.filter(|one| seen.session.is_none_or(|counts| counts(one)))
            else {
                continue;
            };
            if session.state.is_final() || key.attempt != session.attempt {
                census.tombstones += 1;
            }
            // Containers of one session stand beside each other.
            if last.replace(key.session) != Some(key.session) {
                census.count(state, session, now);
            }
            if !gpus || session.state.is_final() {
                continue;
            }
            for row in rows.values() {
                if let Some(device) = &row.device {
                    held.insert((session.id, row.agent, device));
                }
            }
        }
        census.gpus = held
            .into_iter()
            .filter_map(|(session, agent, device)| {
                let session = state.sessions.get(&session)?;
                Some(HeldGpu {
                    session: session.id,
                    user: session.owner_name.clone(),
                    project: session.project_name.clone(),
                    node: state.agents.get(&agent)?.name.clone(),
                    gpu: device.clone(),
                })
            })
            .collect();
        census
    }

    fn count(&mut self, state: &State, session: &Session, now: Timestamp) {
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
