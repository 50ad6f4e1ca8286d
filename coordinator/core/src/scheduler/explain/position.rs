//! The places of waiting sessions in the order of the next pass.

use crate::model::{Session, State};
use crate::scheduler::planner::Planner;
use longshore_common::ids::{GroupId, SessionId};
use longshore_common::time::Timestamp;
use rustc_hash::FxHashMap;
use std::ops::ControlFlow;

/// Sessions of one group of which each is counted a place by itself; of more the whole order
/// is gone through once.
const ONE_BY_ONE: usize = 4;

/// A waiting session, and its place; none for one that is not in line yet.
pub type InLine = (SessionId, Option<u64>);

/// The place of a waiting session among those that the next pass would look at, from 1.
/// None for one that is not ready.
pub fn position(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Option<u64> {
    planner.refresh(state, now);
    let seat = planner.seats.get(&session.id)?;
    if !seat.ready {
        return None;
    }
    if let (Some(key), Some(queue)) = (seat.queue, &session.queue) {
        let before = planner.queues.get(&queue.name)?.range(..key).count();
        return u64::try_from(before + 1).ok();
    }
    let group = planner.group_of.get(&session.group).copied()?;
    if !state.groups.get(&session.group).is_some_and(|g| g.active) {
        return None;
    }
    planner.place_in_line(group, session.id)
}

/// The places of many sessions, in the order in which they are named; none for those that do
/// not wait, or are not in line.
pub fn positions(
    planner: &mut Planner,
    state: &State,
    ids: &[SessionId],
    now: Timestamp,
) -> Vec<Option<u64>> {
    planner.refresh(state, now);
    let mut asked: FxHashMap<GroupId, usize> = FxHashMap::default();
    let session = |id: &SessionId| state.sessions.get(id).filter(|s| s.waits());
    for session in ids.iter().filter_map(session) {
        if session.queue.is_none() {
            *asked.entry(session.group).or_default() += 1;
        }
    }
    let mut known: FxHashMap<SessionId, Option<u64>> = FxHashMap::default();
    for (group, count) in asked.into_iter().filter(|(_, count)| *count > ONE_BY_ONE) {
        let active = state.groups.get(&group).is_some_and(|g| g.active);
        let mut left = 0;
        for session in ids.iter().filter_map(session) {
            if session.group == group && session.queue.is_none() {
                let ready = planner.seats.get(&session.id).is_some_and(|s| s.ready) && active;
                let new = known.insert(session.id, None).is_none();
                left += usize::from(ready && new);
            }
        }
        debug_assert!(left <= count);
        let at = planner.group_of.get(&group).copied();
        let Some(at) = at.filter(|_| left > 0) else {
            continue;
        };
        planner.walk(at, 0, |id, place| {
            if let Some(found) = known.get_mut(&id) {
                *found = Some(place);
                left -= 1;
            }
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
    }
    ids.iter()
        .map(|id| match known.get(id) {
            Some(place) => *place,
            None => position(planner, state, session(id)?, now),
        })
        .collect()
}

/// Who waits in a group, in the order in which the next pass would take them: at most `limit`
/// from one place on (0 is the first). Sessions of queues that lead there come behind, each
/// with its place in its queue; last come those that are not ready. In a group that is not active
/// nobody has a place, and all keep their order.
pub fn waiting_in_group(
    planner: &mut Planner,
    state: &State,
    group: GroupId,
    (skip, limit): (usize, usize),
    now: Timestamp,
) -> Vec<InLine> {
    planner.refresh(state, now);
    let mut page = Vec::new();
    let Some(at) = planner.group_of.get(&group).copied() else {
        return page;
    };
    let active = state.groups.get(&group).is_some_and(|g| g.active);
    if limit > 0 {
        planner.walk(at, skip, |id, place| {
            page.push((id, active.then_some(place)));
            match page.len() < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
    }
    let mut skip = skip.saturating_sub(planner.in_line(at));
    let of_group = |id: &SessionId| state.sessions.get(id).is_some_and(|s| s.group == group);
    if page.len() < limit {
        let queued = planner.queues.values().flat_map(|queue| {
            let numbered = (1u64..).zip(queue);
            numbered.map(|(place, (_, _, id))| (*id, Some(place)))
        });
        let mut queued = queued.filter(|(id, _)| of_group(id));
        while skip > 0 && queued.next().is_some() {
            skip -= 1;
        }
        page.extend(queued.take(limit - page.len()));
    }
    if page.len() < limit {
        let unready = not_in_line(planner, state, |session| session.group == group);
        page.extend(unready.skip(skip).take(limit - page.len()));
    }
    page
}

/// The same of a queue, by its name.
pub fn waiting_in_queue(
    planner: &mut Planner,
    state: &State,
    queue: &str,
    (skip, limit): (usize, usize),
    now: Timestamp,
) -> Vec<InLine> {
    planner.refresh(state, now);
    let line = planner.queues.get(queue);
    let count = line.map_or(0, std::collections::BTreeSet::len);
    let numbered = (1u64..).zip(line.into_iter().flatten());
    let numbered = numbered.map(|(place, (_, _, id))| (*id, Some(place)));
    let mut page: Vec<InLine> = numbered.skip(skip).take(limit).collect();
    if page.len() < limit {
        let its = |session: &Session| session.queue.as_ref().is_some_and(|s| s.name == queue);
        let unready = not_in_line(planner, state, its);
        let (skip, left) = (skip.saturating_sub(count), limit - page.len());
        page.extend(unready.skip(skip).take(left));
    }
    page
}

/// Waiting sessions that are not ready, the oldest first.
fn not_in_line(
    planner: &Planner,
    state: &State,
    takes: impl Fn(&Session) -> bool,
) -> impl Iterator<Item = InLine> {
    let mut found: Vec<_> = planner
        .unready()
        .filter_map(|id| state.sessions.get(&id))
        .filter(|session| session.waits() && takes(session))
        .map(|session| (session.created_at, session.id.place(), session.id))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, _, id)| (id, None))
}
