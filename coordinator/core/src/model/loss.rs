//! Agents that fall silent: what becomes of their sessions, and the brake.
//!
//! At T1 an agent is LOST: nothing ends. At T2 it is declared lost: what ran there is given up,
//! and the fence goes up so that it removes all of it before it begins anything. When many
//! vanish at once the coordinator suspects itself, and T2 stands still for all of them.

use super::draft::Draft;
use super::entities::{Agent, Container, FailedStart, Session, Stop, Told};
use super::event::{Answer, Outcome, Refusal};
use super::lifecycle::{agent_name, close_container, finish, order_stop, progress, requeue, retry};
use super::state::State;
use longshore_common::agent::AgentState;
use longshore_common::ids::{AgentId, ContainerKey, Generation, SessionId};
use longshore_common::session::{Cause, ContainerState, Reason, Want};
use longshore_common::time::Timestamp;

/// Agents that vanish within this time vanish at once.
const AT_ONCE_MS: i64 = 60_000;
/// Fewer are no mass loss, whatever their share is.
const AT_LEAST: usize = 2;
/// So many times the lost ones are more than all there were: above a quarter.
const SHARE: usize = 4;
/// The lease of an agent ends so many seconds before T2: clocks drift, and freezing takes time.
const LEASE_MARGIN_S: u32 = 60;
/// After T2 a new attempt waits so long: by then the old one is frozen for certain.
const AFTER_T2_MS: i64 = 30_000;

/// No heartbeat came for `for_ms`.
pub(super) fn silent(draft: &mut Draft<'_>, agent: AgentId, for_ms: i64, lost_after_ms: i64) {
    let now = draft.now;
    let Some(node) = draft.agent(agent) else {
        return;
    };
    if node.state == AgentState::Alive && for_ms >= lost_after_ms {
        if let Some(node) = draft.agent_mut(agent) {
            node.state = AgentState::Lost;
            node.lost_since = Some(now);
        }
        agent_lost(draft, agent);
        engage(draft, agent);
    }
    let Some(node) = draft.agent(agent) else {
        return;
    };
    let declare_ms = declare_ms(draft, node);
    let counted_ms = for_ms.saturating_sub(node.braked_ms);
    let due = node.state == AgentState::Lost
        && node.braked_at.is_none()
        && declare_ms > 0
        && counted_ms >= declare_ms;
    if due && holds_something(draft, agent) {
        let not_before = now.plus_ms(AFTER_T2_MS);
        declared_lost(draft, agent, not_before, "coordinator");
    }
}

/// T2 of an agent in milliseconds; 0 = never.
fn declare_ms(draft: &Draft<'_>, node: &Agent) -> i64 {
    i64::from(draft.state.declare_lost_s(node)) * 1000
}

/// The longer of two times in which an agent may be silent, in seconds; 0 = for ever.
fn longer(one: u32, other: u32) -> u32 {
    match (one, other) {
        (0, _) | (_, 0) => 0,
        _ => one.max(other),
    }
}

/// How long restartable containers of an agent go on unacknowledged, in milliseconds; 0 = for
/// ever. It ends before the agent is declared lost after so many seconds.
#[must_use]
pub const fn lease_ms(declare_lost_s: u32) -> u64 {
    match declare_lost_s {
        0 => 0,
        // Never 0, which would be for ever.
        s if s <= LEASE_MARGIN_S => 1000,
        s => (s - LEASE_MARGIN_S) as u64 * 1000,
    }
}

/// The T2 of an agent's group is another from now on; it was `before`, in seconds. The agent is
/// told. It may be cut off and freeze by what it knows: until it has applied the set that tells
/// it, the longest of what it was told counts.
pub(super) fn tell_lease(draft: &mut Draft<'_>, agent: AgentId, before: u32) {
    let Some(node) = draft.agent_quietly(agent) else {
        return;
    };
    node.told = Some(Told {
        declare_lost_s: node
            .told
            .map_or(before, |told| longer(told.declare_lost_s, before)),
        until: node.generation.next(),
    });
    draft.touch(agent);
}

/// An agent has applied a set: it goes by what that tells.
pub(super) fn lease_known(draft: &mut Draft<'_>, agent: AgentId, applied: Generation) {
    let told = draft.agent(agent).and_then(|node| node.told);
    if told.is_some_and(|told| applied >= told.until)
        && let Some(node) = draft.agent_quietly(agent)
    {
        node.told = None;
    }
}

/// Whether an agent still has something to give up.
fn holds_something(draft: &Draft<'_>, agent: AgentId) -> bool {
    draft.state.on_agent(agent).any(|key| {
        let session = draft.session(key.session);
        let mut containers = session.iter().flat_map(|s| &s.containers);
        containers
            .find(|c| c.key == key)
            .is_some_and(|c| !c.is_closed() && c.state != ContainerState::Lost)
    })
}

// ---- the brake

/// The present form of every agent.
fn agents<'a>(draft: &'a Draft<'_>) -> impl Iterator<Item = &'a Agent> {
    let ids = draft.state.agents.keys();
    ids.filter_map(|id| draft.agent(*id))
}

/// Whether so many of those that were alive are a mass loss.
const fn is_mass(lost: usize, alive: usize) -> bool {
    lost >= AT_LEAST && lost * SHARE > lost + alive
}

/// One more agent is LOST: is that one too many?
fn engage(draft: &mut Draft<'_>, newest: AgentId) {
    let now = draft.now;
    let engaged = agents(draft).any(|a| a.braked_at.is_some());
    let mut braked = Vec::new();
    if engaged {
        braked.push(newest);
    } else {
        let alive = agents(draft)
            .filter(|a| a.state == AgentState::Alive)
            .count();
        // One that joined and never said hello was not alive.
        let vanished = |a: &&Agent| a.state == AgentState::Lost && !a.boot_id.is_empty();
        let recent = |a: &Agent| a.lost_since.is_some_and(|at| now.since(at) < AT_ONCE_MS);
        let lost: Vec<&Agent> = agents(draft).filter(vanished).collect();
        if is_mass(lost.iter().filter(|a| recent(a)).count(), alive) {
            let counts = |a: &&&Agent| recent(a) || holds_something(draft, a.id);
            braked.extend(lost.iter().filter(counts).map(|a| a.id));
        }
    }
    for id in braked {
        if let Some(node) = draft.agent_mut(id) {
            node.braked_at.get_or_insert(now);
        }
    }
}

/// An agent is back, or its loss is confirmed: are they still too many? Where they are not,
/// T2 counts on from where it stood.
fn release(draft: &mut Draft<'_>) {
    let now = draft.now;
    let braked: Vec<AgentId> = agents(draft)
        .filter(|a| a.braked_at.is_some())
        .map(|a| a.id)
        .collect();
    let alive = agents(draft)
        .filter(|a| a.state == AgentState::Alive)
        .count();
    if is_mass(braked.len(), alive) {
        return;
    }
    for id in braked {
        if let Some(node) = draft.agent_mut(id)
            && let Some(since) = node.braked_at.take()
        {
            node.braked_ms = node.braked_ms.saturating_add(now.since(since).max(0));
        }
    }
}

/// What stands still no longer for an agent that is back or gone.
fn forget_brake(draft: &mut Draft<'_>, agent: AgentId) {
    let Some(node) = draft.agent(agent) else {
        return;
    };
    if node.braked_at.is_none() && node.braked_ms == 0 {
        return;
    }
    if let Some(node) = draft.agent_mut(agent) {
        node.braked_at = None;
        node.braked_ms = 0;
    }
    release(draft);
}

impl State {
    /// How long an agent may be silent before its sessions are given up, in seconds; 0 = for
    /// ever. That of its group, or a longer one as long as it may go by that.
    #[must_use]
    pub fn declare_lost_s(&self, node: &Agent) -> u32 {
        let group = self.groups.get(&node.group).map_or(0, |g| g.declare_lost_s);
        node.told
            .map_or(group, |told| longer(told.declare_lost_s, group))
    }

    /// Agents whose T2 stands still, because many vanished at once; none if the brake is not
    /// on.
    pub fn braked(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values().filter(|a| a.braked_at.is_some())
    }

    /// How agents are after a start of the coordinator: how long each was silent is counted
    /// anew, and with it what of that did not count, and how long nobody decided about
    /// containers that no order names.
    #[must_use]
    pub(super) fn counted_anew(&self, now: Timestamp) -> Vec<Agent> {
        let stood =
            |a: &&Agent| a.braked_ms != 0 || a.braked_at.is_some() || !a.unclaimed.is_empty();
        let anew = |a: &Agent| Agent {
            version: a.version + 1,
            braked_at: a.braked_at.map(|_| now),
            braked_ms: 0,
            unclaimed: a
                .unclaimed
                .iter()
                .cloned()
                .map(|u| u.counted_from(now))
                .collect(),
            ..a.clone()
        };
        self.agents.values().filter(stood).map(anew).collect()
    }
}

// ---- sessions

/// No heartbeat for T1: what had not been told to run goes back to the queue, the rest
/// is shown as unreachable.
fn agent_lost(draft: &mut Draft<'_>, agent: AgentId) {
    for id in sessions_on(draft, agent) {
        let Some(session) = draft.session(id) else {
            continue;
        };
        if session.state.is_final() {
            continue;
        }
        let before_run = session.present().any(|c| c.agent == agent)
            && session.present().all(|c| c.want == Want::Prepare)
            // One that was restarted there may still run as it did.
            && !session.older_may_run();
        if before_run && session.stop.is_none() && session.failed.is_none() {
            let name = agent_name(draft, agent);
            let failed = FailedStart {
                cause: Cause::AgentLostBeforeStart,
                detail: format!("agent {name} was lost before the start"),
                agent,
            };
            order_stop(draft, id);
            retry(draft, id, &failed, false, "coordinator");
        } else if session.unfinished().any(|c| c.agent == agent)
            && let Some(session) = draft.session_mut(id)
        {
            // Only left-overs there, of an older attempt or finished, do not matter.
            session.unreachable = true;
        }
    }
}

/// Heartbeats come again before the sessions were given up.
pub(super) fn agent_back(draft: &mut Draft<'_>, agent: AgentId) {
    for id in sessions_on(draft, agent) {
        // Only left-overs there, of an older attempt, say nothing.
        let is_there = |s: &Session| s.present().any(|c| c.agent == agent);
        if draft.session(id).is_some_and(is_there) {
            reached(draft, id);
        }
    }
    forget_brake(draft, agent);
}

/// A session is reached again once no agent is away on which it still has something to do.
fn reached(draft: &mut Draft<'_>, id: SessionId) {
    let reached = draft.session(id).is_some_and(|s| {
        let away = |c: &Container| {
            let node = draft.agent(c.agent);
            node.is_some_and(|a| a.state == AgentState::Lost)
        };
        s.unreachable && !s.unfinished().any(away)
    });
    if reached && let Some(session) = draft.session_mut(id) {
        session.unreachable = false;
    }
}

/// The sessions of an agent are given up. What they hold on the node stays claimed until the
/// agent confirms. Restartable ones wait for another attempt, which begins at `not_before` at
/// the earliest.
fn declared_lost(draft: &mut Draft<'_>, agent: AgentId, not_before: Timestamp, by: &str) {
    let now = draft.now;
    let name = agent_name(draft, agent);
    let Some(node) = draft.agent_mut(agent) else {
        return;
    };
    node.fence = node.fence.next();
    draft.touch(agent);
    for id in sessions_on(draft, agent) {
        let Some(session) = draft.session_mut(id) else {
            continue;
        };
        for container in session.containers.iter_mut() {
            if container.agent == agent && !container.is_closed() {
                container.state = ContainerState::Lost;
            }
        }
        if session.state.is_final() {
            continue;
        }
        let present = session.present().any(|c| c.agent == agent);
        if !present {
            progress(draft, id, by); // it may have waited for its older attempt there
            continue;
        }
        let undecided = session.stop.is_none() && session.failed.is_none();
        if undecided && session.unfinished().all(|c| c.agent != agent) {
            remove_finished(draft, id, agent);
            continue;
        }
        if session.stop.is_some() {
            // A stop had been decided: its own reason stays.
            order_stop(draft, id);
            finish(draft, id, by);
            continue;
        }
        let detail = format!("agent {name} sent no heartbeat for too long");
        let reason = Reason::AgentLost;
        if session.restarts_after(reason) {
            requeue(draft, id, reason, &detail, not_before, by);
            continue;
        }
        session.reason = Some(reason);
        session.detail = Some(detail.clone());
        session.failed = None;
        session.stop = Some(Box::new(Stop {
            reason,
            detail,
            grace_s: 0,
            forced: true,
            at: now,
        }));
        order_stop(draft, id);
        finish(draft, id, by);
    }
    forget_brake(draft, agent);
}

/// All that a session had on an agent has finished, so nobody misses it: it goes on, and what is
/// left there is removed when the agent is back.
pub(super) fn remove_finished(draft: &mut Draft<'_>, id: SessionId, agent: AgentId) {
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let there = |c: &&mut Container| c.agent == agent && !c.is_closed() && c.want != Want::Stop;
    let mut keys = Vec::new();
    for container in session.containers.iter_mut().filter(there) {
        container.want = Want::Stop;
        keys.push(container.key);
    }
    for key in keys {
        draft.free_quota(key);
    }
    draft.touch(agent);
    reached(draft, id);
}

/// The earliest start of a new attempt when a person gives an agent up. The agent may be alive
/// behind a cut cable: it freezes its containers when its lease ends, not before.
fn after_lease(draft: &Draft<'_>, agent: AgentId) -> Timestamp {
    let now = draft.now;
    let Some(node) = draft.agent(agent) else {
        return now;
    };
    let silent_since = node.lost_since.unwrap_or(now);
    let frozen = match declare_ms(draft, node) {
        0 => now, // nothing is frozen there: whoever confirms knows that it is dead
        ms => silent_since.plus_ms(ms).max(now),
    };
    frozen.plus_ms(AFTER_T2_MS)
}

/// An agent is gone for good: nothing of it will ever confirm, so its claims end.
pub(super) fn agent_removed(draft: &mut Draft<'_>, agent: AgentId, by: &str) {
    let not_before = after_lease(draft, agent);
    declared_lost(draft, agent, not_before, by);
    for id in sessions_on(draft, agent) {
        let keys: Vec<ContainerKey> = draft
            .session(id)
            .map(|s| {
                s.containers
                    .iter()
                    .filter(|c| c.agent == agent && !c.is_closed())
                    .map(|c| c.key)
                    .collect()
            })
            .unwrap_or_default();
        for key in keys {
            close_container(draft, key);
        }
    }
}

/// A person confirms that an agent is lost: it is given up now, brake or not.
pub(super) fn confirm(state: &State, agent: AgentId, dry_run: bool, now: Timestamp) -> Outcome {
    let Some(node) = state.agents.get(&agent) else {
        return Outcome::refuse(Refusal::new("LS-NOT-FOUND", "There is no such agent."));
    };
    if node.state != AgentState::Lost {
        let (name, is) = (&node.name, node.state);
        let text = format!("Agent {name} is {is}; only the loss of one that is LOST is confirmed.");
        return Outcome::refuse(Refusal::new("LS-AGENT-STATE", text));
    }
    let mut draft = Draft::new(state, now);
    if holds_something(&draft, agent) {
        let not_before = after_lease(&draft, agent);
        declared_lost(&mut draft, agent, not_before, "administrator");
    } else {
        forget_brake(&mut draft, agent);
    }
    draft.outcome(Answer::Done, dry_run)
}

fn sessions_on(draft: &Draft<'_>, agent: AgentId) -> Vec<SessionId> {
    let mut ids: Vec<SessionId> = draft.state.on_agent(agent).map(|k| k.session).collect();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::is_mass;

    #[test]
    fn more_than_a_quarter_and_at_least_two() {
        for (lost, alive, mass) in [
            (1, 0, false),
            (1, 1, false),
            (2, 0, true),
            (2, 6, false),
            (2, 5, true),
            (10, 30, false),
            (4, 6, true),
        ] {
            assert_eq!(is_mass(lost, alive), mass, "{lost} of {}", lost + alive);
        }
    }
}
