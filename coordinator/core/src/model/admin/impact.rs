//! What a write would do to sessions: the plan with it against the plan without.

use super::super::change::Change;
use super::super::entities::Session;
use super::super::state::State;
use crate::scheduler;
use longshore_common::admin::{Difference, Impact, SessionImpact};
use longshore_common::ids::{SessionId, UserId};
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How many of each kind are named; all of them are counted.
const NAMED: usize = 200;

/// Whom a write concerns.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) users: BTreeSet<UserId>,
    pub(super) keypairs: BTreeSet<String>,
    pub(super) sessions: BTreeSet<SessionId>,
}

impl Scope {
    /// Live sessions of which something is true.
    pub(super) fn sessions(state: &State, is: impl Fn(&Session) -> bool) -> Self {
        Self {
            sessions: live(state).filter(|s| is(s)).map(|s| s.id).collect(),
            ..Self::default()
        }
    }

    /// These keypairs, their users and their live sessions.
    pub(super) fn keypairs(state: &State, keys: impl Iterator<Item = String>) -> Self {
        let keypairs: BTreeSet<String> = keys.collect();
        let owned = |key: &String| state.keypairs.get(key).map(|k| (k.user, k.main));
        let users: BTreeSet<UserId> = keypairs.iter().filter_map(owned).map(|(u, _)| u).collect();
        // The main keypair's policy binds all sessions of its user.
        let whole: BTreeSet<UserId> = keypairs
            .iter()
            .filter_map(owned)
            .filter(|(_, main)| *main)
            .map(|(user, _)| user)
            .collect();
        let sessions = Self::sessions(state, |s| {
            keypairs.contains(&s.access_key) || whole.contains(&s.owner)
        });
        Self {
            users,
            keypairs,
            ..sessions
        }
    }

    /// A person with keypairs and live sessions.
    pub(super) fn user(state: &State, user: UserId) -> Self {
        Self {
            users: BTreeSet::from([user]),
            keypairs: state
                .keypairs_of(user)
                .map(|k| k.access_key.clone())
                .collect(),
            ..Self::sessions(state, |s| s.owner == user)
        }
    }
}

fn live(state: &State) -> impl Iterator<Item = &Session> {
    state.sessions.values().filter(|s| !s.state.is_final())
}

/// See the module.
pub(super) fn impact(state: &State, changes: &[Change], scope: &Scope, now: Timestamp) -> Impact {
    let mut after = state.clone();
    for change in changes {
        after.apply(change);
    }
    let (without, with) = (scheduler::plan(state, now), scheduler::plan(&after, now));
    let starts = |decisions: &scheduler::Decisions| -> BTreeSet<SessionId> {
        decisions.starts.iter().map(|s| s.session).collect()
    };
    let ends = |decisions: &scheduler::Decisions| -> BTreeSet<SessionId> {
        decisions.cancels.iter().map(|c| c.session).collect()
    };
    let (starts_without, starts_with) = (starts(&without), starts(&with));
    let (ends_without, ends_with) = (ends(&without), ends(&with));
    let mut sessions: Vec<(u8, SessionImpact)> = Vec::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for session in live(state) {
        let id = session.id;
        let then = after.sessions.get(&id);
        let gone = then.is_none_or(|s| s.state.is_final());
        let stops = then.is_some_and(|s| s.state == SessionState::Terminating);
        let (rank, effect) = if stops && session.state != SessionState::Terminating {
            (0, "stopped")
        } else if gone || (ends_with.contains(&id) && !ends_without.contains(&id)) {
            (0, "cancelled")
        } else if starts_without.contains(&id) && !starts_with.contains(&id) {
            (1, "waits")
        } else if starts_with.contains(&id) && !starts_without.contains(&id) {
            (2, "starts")
        } else if then.is_some_and(|then| ends_earlier(session, then)) {
            (3, "earlier")
        } else if scope.sessions.contains(&id) {
            (4, "kept")
        } else {
            continue;
        };
        *counts.entry(effect.to_owned()).or_insert(0) += 1;
        sessions.push((
            rank,
            SessionImpact {
                id: id.to_string(),
                effect: effect.to_owned(),
            },
        ));
    }
    for (kind, many) in [
        ("users", scope.users.len()),
        ("keypairs", scope.keypairs.len()),
        ("sessions", sessions.len()),
    ] {
        counts.insert(kind.to_owned(), many as u64);
    }
    sessions.sort_by_key(|(rank, _)| *rank); // stable: then by number
    Impact {
        users: scope
            .users
            .iter()
            .take(NAMED)
            .filter_map(|id| state.users.get(id))
            .map(|u| u.username.clone())
            .collect(),
        keypairs: scope.keypairs.iter().take(NAMED).cloned().collect(),
        sessions: sessions.into_iter().take(NAMED).map(|(_, s)| s).collect(),
        counts,
        gains: Vec::new(),
        loses: Vec::new(),
        diff: Vec::new(),
    }
}

/// Whether the lifetime of a session would be over earlier; one without an end has none, and
/// that of a life that counts from a start to come is judged by its length.
fn ends_earlier(session: &Session, then: &Session) -> bool {
    let earlier = |was: Option<i64>, is: Option<i64>| match (was, is) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(was), Some(is)) => is < was,
    };
    match (session.lifetime_deadline(), then.lifetime_deadline()) {
        (None, None) => earlier(session.whole_life_s(), then.whole_life_s()),
        (was, is) => earlier(was.map(|at| at.0), is.map(|at| at.0)),
    }
}

/// Members of an object that differ, the ones that always do left out.
pub(super) fn difference(before: &Value, after: &Value) -> Vec<Difference> {
    const ALWAYS: [&str; 4] = ["version", "updated_at", "at", "warnings"];
    let nothing = serde_json::Map::new();
    let members = |value: &'_ Value| value.as_object().unwrap_or(&nothing).clone();
    let (before, after) = (members(before), members(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| !ALWAYS.contains(&name.as_str()) && before.get(*name) != after.get(*name))
        .map(|name| Difference {
            path: format!("/{name}"),
            from: before.get(name).map(ToString::to_string),
            to: after.get(name).map(ToString::to_string),
        })
        .collect()
}
