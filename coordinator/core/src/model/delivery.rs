//! What a container is given beside its order, and what its agent says of it.
//!
//! The order is signed and written down by agents; what people gave may hold secrets and is
//! not part of it.

use super::draft::{Draft, Why};
use super::entities::Session;
use super::lifecycle::agent_name;
use super::state::State;
use longshore_common::ids::{AgentId, ContainerKey, Rank, SessionId};
use longshore_common::session::{SessionState, Want};

/// Longest text that an agent may put into the history of a session, in characters.
const TEXT_MAX: usize = 256;
/// Most such texts that are kept of an attempt: more would say nothing new, and nodes send them.
const NOT_GIVEN_MAX: usize = 32;
/// Seconds before a session whose vault could not be delivered is tried again, at first and at
/// most; they double.
const AGAIN_S: (i64, i64) = (10, 300);

/// Whether a container on an agent is given anything: not when nothing is to run there under
/// this key.
#[must_use]
pub fn is_given(state: &State, agent: AgentId, key: ContainerKey) -> bool {
    let session = state.sessions.get(&key.session);
    let mut containers = session.into_iter().flat_map(|s| &s.containers);
    let container = containers.find(|c| c.key == key && c.agent == agent);
    container.is_some_and(|c| !c.is_over() && c.want != Want::Stop)
}

/// An agent says that a file was not delivered: a line in the history of its session.
pub(super) fn noticed(draft: &mut Draft<'_>, agent: AgentId, key: ContainerKey, text: &str) {
    let name = agent_name(draft, agent);
    if is_said_of(draft, agent, key, |session| !session.state.is_final()).is_some() {
        not_given(draft, key.session, text, &format!("agent {name}"));
    }
}

/// An agent says that a session of it is stopped soon: a line in its history.
pub(super) fn warned(draft: &mut Draft<'_>, agent: AgentId, key: ContainerKey, text: &str) {
    // A stop that was decided meanwhile makes it no news.
    let runs = |session: &Session| {
        let goes_on = session.state == SessionState::Running && session.stop.is_none();
        goes_on && session.present().any(|c| c.key == key)
    };
    // Of a session on several nodes each warns; once is enough, but for what one of them alone
    // knows: that it has to be empty.
    let drains = draft.agent(agent).is_some_and(|node| node.drain.is_some());
    if key.rank != Rank(0) && !drains {
        return;
    }
    let Some(state) = is_said_of(draft, agent, key, runs) else {
        return;
    };
    remark(draft, agent, key, state, text);
}

/// Something is wrong with a container: a line in the history of its session.
pub(super) fn alarmed(draft: &mut Draft<'_>, agent: AgentId, key: ContainerKey, text: &str) {
    let Some(state) = is_said_of(draft, agent, key, |_| true) else {
        return;
    };
    remark(draft, agent, key, state, text);
}

/// A line of an agent's in the history of a session.
fn remark(
    draft: &mut Draft<'_>,
    agent: AgentId,
    key: ContainerKey,
    state: SessionState,
    text: &str,
) {
    let text = plain(text);
    let why = Why {
        reason: None,
        detail: Some(&text),
        by: &format!("agent {}", agent_name(draft, agent)),
    };
    draft.remark(key.session, state, why);
}

/// The state of the session that an agent speaks of, if that counts and its container is there.
fn is_said_of(
    draft: &Draft<'_>,
    agent: AgentId,
    key: ContainerKey,
    counts: impl Fn(&Session) -> bool,
) -> Option<SessionState> {
    let known = draft.session(key.session).filter(|session| {
        let mut containers = session.containers.iter();
        counts(session) && containers.any(|c| c.key == key && c.agent == agent)
    });
    known.map(|session| session.state)
}

fn plain(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(TEXT_MAX).collect()
}

/// Notes with a session that something was not given to it: a line of its history, and among what
/// is shown of it. Said again, as after a restart of the agent, it is no news.
pub(super) fn not_given(draft: &mut Draft<'_>, id: SessionId, text: &str, by: &str) {
    let text = plain(text);
    let Some(session) = draft.session(id) else {
        return;
    };
    let (state, known) = (session.state, session.not_given.len());
    if known >= NOT_GIVEN_MAX || session.not_given.contains(&text) {
        return;
    }
    if let Some(session) = draft.session_mut(id) {
        session.not_given.push(text.clone());
    }
    let why = Why {
        reason: None,
        detail: Some(&text),
        by,
    };
    draft.remark(id, state, why);
}

/// How long a session waits whose vault could not be delivered, after so many such failures in
/// a row before this one; in seconds.
pub(super) fn wait_for_vault_s(before: usize) -> i64 {
    let doublings = u32::try_from(before).unwrap_or(u32::MAX).min(8);
    (AGAIN_S.0 << doublings).min(AGAIN_S.1)
}

#[cfg(test)]
mod tests {
    use super::wait_for_vault_s;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let waits: Vec<i64> = (0..7).map(wait_for_vault_s).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(wait_for_vault_s(usize::MAX), 300);
    }
}
