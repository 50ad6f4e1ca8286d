//! Sessions that do not wait: each is placed as it is submitted, or refused.

use super::explain::in_the_way;
use super::planner::Planner;
use super::{Decisions, Start};
use crate::model::{Change, Session, State};
use longshore_common::api::Blocker;
use longshore_common::time::Timestamp;

/// A place for a session that does not wait, and what else differs by that. Those who wait are
/// not asked, and nobody is before it.
///
/// # Errors
/// What is in its way; nothing differs.
pub fn begin(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Result<(Start, Vec<Change>), Vec<Blocker>> {
    planner.refresh(state, now);
    let blocked = in_the_way(planner, state, session, now);
    if !blocked.is_empty() {
        return Err(blocked);
    }
    let mut decisions = Decisions::default();
    let group = planner.group_of.get(&session.group).copied();
    let start = group.and_then(|at| planner.start_at_once(state, session, at, now, &mut decisions));
    match start {
        Some(start) => Ok((start, decisions.changes)),
        None => {
            let text = "its group has no room".to_owned();
            Err(vec![Blocker::new("capacity", "no-agents", text)])
        }
    }
}
