//! The place of a waiting session in the order of the next pass.

use crate::model::{Discipline, Session, State};
use crate::scheduler::planner::{Lane, Planner};
use crate::scheduler::share::Share;
use longshore_common::ids::SessionId;
use longshore_common::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// The place of a waiting session among those that the next pass would look at, from 1.
/// None for one that is not ready.
pub fn position(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Option<u64> {
    planner.refresh(state, now);
    let seat = planner.seats.get(&session.id)?.clone();
    if !seat.ready {
        return None;
    }
    if let (Some(key), Some(queue)) = (seat.queue, &session.queue) {
        let before = planner.queues.get(&queue.name)?.range(..key).count();
        return u64::try_from(before + 1).ok();
    }
    let group = planner.group_of.get(&session.group).copied()?;
    let row = &planner.groups[group as usize];
    if !state.groups.get(&session.group).is_some_and(|g| g.active) {
        return None;
    }
    let (skip_after, drf) = (row.skip_after, row.discipline == Discipline::Drf);
    let mut before = 0u64;
    for (priority, classes) in planner.bands(group) {
        let (fresh, spent): (Vec<_>, Vec<_>) = classes
            .into_iter()
            .partition(|c| skip_after == 0 || c.retries < skip_after);
        for part in [fresh, spent] {
            let lanes: Vec<&Lane> = part.iter().flat_map(|c| planner.lanes_of(c)).collect();
            if priority == session.priority {
                let place = match drf {
                    true => place_by_share(planner, group, &lanes, session.id),
                    false => place_in_order(&lanes, seat.key),
                };
                if let Some(place) = place {
                    return Some(before + place);
                }
            }
            let count: usize = lanes.iter().map(|lane| lane.len()).sum();
            before += u64::try_from(count).unwrap_or(0);
        }
    }
    None
}

fn place_in_order(lanes: &[&Lane], own: (i64, i64)) -> Option<u64> {
    if !lanes.iter().any(|lane| lane.has(own)) {
        return None;
    }
    let before: usize = lanes.iter().map(|lane| lane.before(own)).sum();
    u64::try_from(before + 1).ok()
}

/// As if each were placed in turn.
fn place_by_share(planner: &Planner, group: u32, lanes: &[&Lane], id: SessionId) -> Option<u64> {
    /// Who waits, in order, with the lane each stands in.
    type Waiting = BTreeMap<((i64, i64), usize), SessionId>;
    /// A user's share, its oldest session, and which user.
    type Next = Reverse<(Share, (i64, i64), u32)>;
    /// Use, weight, and who waits.
    type One = (Vec<i64>, i64, Waiting);
    let capacity = &planner.groups[group as usize].capacity;
    let slots = capacity.len() - 1;
    let mut users: BTreeMap<u32, One> = BTreeMap::new();
    let mut there = false;
    for (at, lane) in lanes.iter().enumerate() {
        let (user, used, weight) = planner.share_parts(lane);
        let entry = users
            .entry(user)
            .or_insert_with(|| (used.to_vec(), weight, BTreeMap::new()));
        for (key, session) in lane.sessions() {
            there |= session == id;
            entry.2.insert((key, at), session);
        }
    }
    if !there {
        return None;
    }
    let share = |used: &[i64], weight| Share::of(&used[..slots], &capacity[..slots], weight);
    let mut order: BinaryHeap<Next> = users
        .iter()
        .filter_map(|(user, (used, weight, waiting))| {
            let ((key, _), _) = waiting.first_key_value()?;
            Some(Reverse((share(used, *weight), *key, *user)))
        })
        .collect();
    let mut place = 0;
    while let Some(Reverse((_, _, user))) = order.pop() {
        let (used, weight, waiting) = users.get_mut(&user)?;
        let ((_, lane), session) = waiting.pop_first()?;
        place += 1;
        if session == id {
            return Some(place);
        }
        for (used, need) in used[..slots]
            .iter_mut()
            .zip(planner.shape_total(lanes[lane]))
        {
            *used = used.saturating_add(*need);
        }
        if let Some(((key, _), _)) = waiting.first_key_value() {
            order.push(Reverse((share(used, *weight), *key, user)));
        }
    }
    None
}
