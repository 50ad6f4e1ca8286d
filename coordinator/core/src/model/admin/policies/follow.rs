//! What a change of keypair policies does to sessions that are there: from the next decision on
//! their rules of idleness and their lifetimes are those of the policy. Agents see to it that
//! nobody is stopped by that without notice; of what does not run yet the end is put off here.

use super::super::super::change::Change;
use super::super::super::draft::Draft;
use super::super::super::entities::Session;
use super::super::super::event::Effect;
use super::super::super::people::Keypair;
use super::super::super::policies::KeypairPolicy;
use super::super::super::state::State;
use super::super::sessions_of;
use super::idle_rules;
use longshore_common::ids::AgentId;
use longshore_common::limits::IdlePolicy;
use longshore_common::session::{SessionState, SessionType};
use longshore_common::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds that a session has left at least when a policy became stricter: as many as agents
/// leave one that runs.
const NOTICE_S: i64 = 300;

/// Adds to the changes of an order what follows from them for sessions.
pub(crate) fn follow(
    state: &State,
    changes: &mut Vec<Change>,
    effects: &mut Vec<Effect>,
    now: Timestamp,
) {
    let (before, after) = (Bound::new(state), Bound::after(state, changes));
    if after.is_as_before() {
        return;
    }
    // One that the order itself changes would lose that by a second change.
    let own = sessions_of(changes);
    let mut draft = Draft::new(state, now);
    for session in state.sessions.values() {
        if session.state.is_final() || session.stop.is_some() || own.contains(&session.id) {
            continue;
        }
        // Only what this order makes differ: what a session has may be of older settings.
        let idle = (before.idle(session) != after.idle(session)).then(|| after.idle(session));
        let longest_s = before.longest_s(session);
        let lifetime_s = (longest_s != after.longest_s(session))
            .then(|| after.lifetime_s(session, longest_s))
            .filter(|lifetime_s| session.lifetime_s != *lifetime_s);
        let idle = idle.filter(|idle| session.idle != *idle);
        if idle.is_none() && lifetime_s.is_none() {
            continue;
        }
        let there = session.present().filter(|c| !c.is_closed());
        let agents: BTreeSet<AgentId> = there.map(|c| c.agent).collect();
        let old_end = session.lifetime_deadline();
        if let Some(session) = draft.session_mut(session.id) {
            if let Some(idle) = idle {
                session.idle = idle;
            }
            if let Some(lifetime_s) = lifetime_s {
                session.lifetime_s = lifetime_s;
                session.life.notice_s = 0;
                session.life.notice_s = notice_s(session, old_end, now);
            }
        }
        for agent in agents {
            draft.touch(agent);
        }
    }
    let (more, told) = draft.finish();
    changes.extend(more);
    effects.extend(told);
}

/// How many seconds more one that does not run yet has for nobody knew: until then at least, or
/// until it would have ended anyway. Those that run are warned by their agents.
fn notice_s(session: &Session, old_end: Option<Timestamp>, now: Timestamp) -> i64 {
    let runs_not = matches!(
        session.state,
        SessionState::Pending | SessionState::Scheduled | SessionState::Preparing
    );
    let Some(end) = session.lifetime_deadline().filter(|_| runs_not) else {
        return 0;
    };
    let least = now.plus_s(NOTICE_S);
    let least = old_end.map_or(least, |old| old.min(least));
    let ms = least.since(end).max(0);
    ms / 1000 + i64::from(ms % 1000 > 0)
}

/// Which policies bind whom: as the state says, but for what differs.
struct Bound<'a> {
    state: &'a State,
    policies: BTreeMap<String, &'a KeypairPolicy>,
    keypairs: BTreeMap<&'a str, &'a Keypair>,
}

impl<'a> Bound<'a> {
    const fn new(state: &'a State) -> Self {
        Self {
            state,
            policies: BTreeMap::new(),
            keypairs: BTreeMap::new(),
        }
    }

    /// Only what could make a difference to a session.
    fn after(state: &'a State, changes: &'a [Change]) -> Self {
        let mut bound = Self::new(state);
        for change in changes {
            match change {
                Change::KeypairPolicy(policy) => {
                    let name = policy.name.to_ascii_lowercase();
                    let same = state.keypair_policies.get(&name).is_none_or(|old| {
                        idle_rules(old) == idle_rules(policy)
                            && old.max_session_lifetime_s == policy.max_session_lifetime_s
                    });
                    if !same {
                        bound.policies.insert(name, policy);
                    }
                }
                Change::Keypair(pair) => {
                    let same = state.keypairs.get(&pair.access_key).is_none_or(|old| {
                        old.policy.eq_ignore_ascii_case(&pair.policy) && old.main == pair.main
                    });
                    if !same {
                        bound.keypairs.insert(&pair.access_key, pair);
                    }
                }
                _ => (),
            }
        }
        bound
    }

    fn is_as_before(&self) -> bool {
        self.policies.is_empty() && self.keypairs.is_empty()
    }

    fn policy(&self, access_key: &str) -> Option<&'a KeypairPolicy> {
        let changed = self.keypairs.get(access_key).copied();
        let pair = changed.or_else(|| self.state.keypairs.get(access_key))?;
        let name = pair.policy.to_ascii_lowercase();
        let changed = self.policies.get(&name).copied();
        changed.or_else(|| self.state.keypair_policies.get(&name))
    }

    fn idle(&self, session: &Session) -> Option<IdlePolicy> {
        if session.kind == SessionType::System {
            return session.idle.clone();
        }
        self.policy(&session.access_key)
            .and_then(idle_rules)
            .or_else(|| self.state.scheduler.idle.clone())
    }

    /// The longest life that policies allow, if they bound it.
    fn longest_s(&self, session: &Session) -> Option<i64> {
        let several = self.state.all_keypairs_of(session.owner).nth(1).is_some();
        let changed = self.keypairs.values().copied();
        let main = changed
            .filter(|pair| pair.user == session.owner)
            .find(|pair| pair.main)
            .or_else(|| self.state.main_keypair(session.owner));
        let main = main.filter(|_| several).map(|pair| &*pair.access_key);
        [Some(&*session.access_key), main]
            .into_iter()
            .flatten()
            .filter_map(|key| self.policy(key)?.max_session_lifetime_s)
            .filter(|s| *s > 0)
            .min()
    }

    /// Its lifetime, which was bounded by so much before.
    fn lifetime_s(&self, session: &Session, before: Option<i64>) -> Option<i64> {
        let own = session.lifetime_asked_s;
        // Of what was submitted before that was kept: what is not the policy's is its own.
        let own = own.or_else(|| session.lifetime_s.filter(|s| Some(*s) != before));
        [own, self.longest_s(session)].into_iter().flatten().min()
    }
}
