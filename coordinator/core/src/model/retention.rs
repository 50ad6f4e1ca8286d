//! What grew old in the store, and may be forgotten.
//!
//! | input | output |
//! |---|---|
//! | days, now | the instant before which it is old |
//! | the state, sessions that ended before | those that nothing rests on |
//!
//! Memory holds none of it, so nothing changes there: what is asked again is not found.

use super::change::Change;
use super::event::{Answer, Outcome};
use super::state::State;
use longshore_common::ids::{Attempt, ContainerKey, Rank, SessionId};
use longshore_common::time::Timestamp;
use std::collections::BTreeSet;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// A piece of what grew old, as it was found in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Old {
    /// Sessions that ended and were confirmed, with all that is kept of them but their usage.
    Sessions(Vec<SessionId>),
    /// Of such sessions the lines of their histories.
    Histories(Vec<SessionId>),
    /// Of such sessions the last output.
    Output(Vec<SessionId>),
    /// Rows of usage.
    Usage {
        /// Those that ended before.
        before: Timestamp,
        /// So many of them.
        most: u32,
    },
}

/// Before when something is old that is kept for so many days; none = it is kept for ever.
#[must_use]
pub fn old_before(days: u32, now: Timestamp) -> Option<Timestamp> {
    (days > 0).then(|| now.plus_ms(-(i64::from(days) * DAY_MS)))
}

/// Whether somebody may still ask for this session, though it is over: memory has it or a part
/// of it.
fn is_known(state: &State, id: SessionId) -> bool {
    let first = ContainerKey {
        session: id,
        rank: Rank(0),
        attempt: Attempt(0),
    };
    let mut claims = state.ledger.range(first..);
    let claimed = claims.next().is_some_and(|(key, _)| key.session == id);
    claimed
        || state.sessions.contains_key(&id)
        || state.tasks_of(id).next().is_some()
        || id
            .array()
            .is_some_and(|array| state.sessions.contains_key(&array))
}

/// Which of these sessions may be forgotten: those that memory does not have, that no other waits
/// for, and whose requests cannot be repeated.
#[must_use]
pub fn forgettable(state: &State, ended: &[SessionId]) -> Vec<SessionId> {
    let unknown = ended.iter().copied().filter(|id| !is_known(state, *id));
    let mut free: BTreeSet<SessionId> = unknown.collect();
    // What is named is struck out of the few: a set of all that is named would be made anew for
    // each piece, as large as the state.
    let needed = state.sessions.values().flat_map(|s| &s.depends_on);
    let asked = state.idempotency.values().map(|entry| entry.session);
    for named in needed.map(|d| d.session).chain(asked) {
        if free.is_empty() {
            break;
        }
        free.remove(&named);
    }
    let ended = ended.iter().copied();
    ended.filter(|id| free.contains(id)).collect()
}

/// Those of which memory has nothing any more; none = all of them are known.
fn settled(state: &State, ended: &[SessionId]) -> Option<Vec<SessionId>> {
    let over = ended.iter().copied();
    let over = over.filter(|id| !state.sessions.contains_key(id));
    Some(over.collect()).filter(|over: &Vec<SessionId>| !over.is_empty())
}

/// Decides it.
pub(super) fn decide(state: &State, old: &Old) -> Outcome {
    let change = match old {
        Old::Sessions(ended) => match forgettable(state, ended) {
            none if none.is_empty() => None,
            some => Some(Change::SessionsForgotten(some)),
        },
        Old::Histories(ended) => settled(state, ended).map(Change::HistoriesForgotten),
        Old::Output(ended) => settled(state, ended).map(Change::OutputForgotten),
        Old::Usage { before, most } => Some(Change::UsageForgotten {
            before: *before,
            most: *most,
        }),
    };
    Outcome {
        changes: change.into_iter().collect(),
        ..Outcome::only(Answer::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_back_and_none_is_for_ever() {
        let now = Timestamp(100 * DAY_MS);
        assert_eq!(old_before(0, now), None);
        assert_eq!(old_before(1, now), Some(Timestamp(99 * DAY_MS)));
        assert_eq!(
            old_before(36_500, Timestamp(0)).map(|at| at.0 < 0),
            Some(true)
        );
    }
}
