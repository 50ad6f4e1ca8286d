//! Whether a session that is not there could start now, and what like it could.

use super::capacity::capacity;
use super::pools::{pool_blockers, queue_blockers};
use super::{behind_head, blocked_by, limits_of, not_ready};
use crate::model::{DirectSubmits, Session, State, is_open_to};
use crate::scheduler::could_ever_hold;
use crate::scheduler::limits::{Requester, layers, over_alone};
use crate::scheduler::planner::Planner;
use longshore_common::amount::{SlotKind, SlotName, Slots};
use longshore_common::api::{Blocker, Nearest};
use longshore_common::ids::SessionId;
use longshore_common::session::SessionType;
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;

/// What would become of a session that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `now` or `later`.
    pub verdict: &'static str,
    /// Why later.
    pub blocked_by: Vec<Blocker>,
    /// A request like it that could start now.
    pub nearest: Option<Nearest>,
}

/// Whether a session that is not there could start now. It passed the checks of submit.
pub fn check(planner: &mut Planner, state: &State, session: &Session, now: Timestamp) -> Check {
    planner.refresh(state, now);
    let starts = would_start(planner, state, session, now);
    // Nobody is before one that does not wait, here as when it is submitted.
    let waits = session.kind != SessionType::System;
    let group = planner.group_of.get(&session.group).copied();
    let behind = group
        .filter(|_| waits && session.queue.is_none())
        .and_then(|group| behind_head(planner, state, session, group));
    if starts && behind.is_none() {
        return Check {
            verdict: "now",
            blocked_by: Vec::new(),
            nearest: None,
        };
    }
    let blocked = match behind {
        Some(behind) if starts => vec![behind],
        _ if !waits => in_the_way(planner, state, session, now),
        _ => blocked_by(planner, state, session, now),
    };
    Check {
        verdict: "later",
        blocked_by: blocked,
        nearest: nearest(planner, state, session, now),
    }
}

/// Whether it is ready, within its limits, and has a place.
pub(super) fn would_start(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> bool {
    if !not_ready(planner, state, session, now).is_empty()
        || !limits_of(planner, state, session).is_empty()
    {
        return false;
    }
    if session.queue.is_some() {
        return queue_blockers(planner, state, session, now).is_empty();
    }
    let Some(group) = planner.group_of.get(&session.group).copied() else {
        return false;
    };
    if !planner.knows(&session.total_slots()) {
        return false;
    }
    if planner.groups[group as usize].pool.is_some()
        && !pool_blockers(planner, state, session, group).is_empty()
    {
        return false;
    }
    planner.could_place(session, group, now).is_some()
}

/// Whether slots would be offered in a group to a requester now, if they stood first;
/// else why not, and whether that could ever be.
pub fn is_offered(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Result<(), (Vec<Blocker>, bool)> {
    planner.refresh(state, now);
    if would_start(planner, state, session, now) {
        return Ok(());
    }
    let requester = Requester::of(session);
    let layers = layers(state, &requester);
    let alone = over_alone(state, &layers, &session.limited_slots());
    let never = could_ever_hold(
        state,
        session.group,
        std::slice::from_ref(&session.slots),
        true,
        session.arch.as_deref(),
    )
    .is_err();
    let mut blocked = in_the_way(planner, state, session, now);
    if blocked.is_empty()
        && let Some(group) = planner.group_of.get(&session.group).copied()
    {
        blocked = capacity(planner, state, session, group, now);
    }
    Err((blocked, never || !alone.is_empty()))
}

/// What keeps a session that stands first from starting, but for want of room on agents where
/// there is room for it.
pub(in crate::scheduler) fn in_the_way(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Vec<Blocker> {
    let mut blocked = not_ready(planner, state, session, now);
    blocked.extend(limits_of(planner, state, session));
    let group = planner.group_of.get(&session.group).copied();
    let Some(group) = group.filter(|_| blocked.is_empty()) else {
        return blocked;
    };
    if planner.groups[group as usize].pool.is_some() {
        blocked = pool_blockers(planner, state, session, group);
    }
    let known = planner.knows(&session.total_slots());
    if blocked.is_empty() && !(known && planner.could_place(session, group, now).is_some()) {
        blocked = capacity(planner, state, session, group, now);
    }
    blocked
}

/// The largest request like this one that could start now: less of one slot, then in
/// another group, then less of everything.
pub(super) fn nearest(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Option<Nearest> {
    if session.queue.is_some() || !session.cluster.ranks.is_empty() {
        return None;
    }
    let replaced = session.id;
    // It would be asked for now, in place of this one.
    let asked = Session {
        id: SessionId(state.meta.next_session),
        created_at: now,
        pending_since: now,
        ..session.clone()
    };
    let session = &asked;
    // Who is tried before it depends on where and whether it had its tries, not on amounts.
    let mut free: BTreeMap<(u32, bool), bool> = BTreeMap::new();
    let mut tries = |planner: &mut Planner, candidate: &Session| {
        let Some(group) = planner.group_of.get(&candidate.group).copied() else {
            return false;
        };
        let place = (group, planner.had_its_tries(candidate, group));
        let waits = candidate.kind != SessionType::System;
        let free = *free.entry(place).or_insert_with(|| {
            !waits
                || planner
                    .held_up_by(state, candidate, group, Some(replaced))
                    .is_none()
        });
        free && would_start(planner, state, candidate, now)
    };
    let found = |session: &Session| Nearest {
        group: session.group_name.clone(),
        slots: session
            .slots
            .iter()
            .map(|(slot, amount)| (slot.to_string(), slot.format_amount(amount)))
            .collect(),
    };
    let with = |slot: &SlotName, amount: i64| {
        let mut other = session.clone();
        other.slots.set(slot.clone(), amount);
        other
    };
    for (slot, asked) in session.slots.iter() {
        let grain = grain(slot);
        let (mut low, mut high) = (1, (asked - 1) / grain);
        if high < 1 || !tries(planner, &with(slot, grain)) {
            continue;
        }
        // Less is never harder: the largest that starts is found by halving.
        while low < high {
            let middle = (low + high + 1) / 2;
            if tries(planner, &with(slot, middle * grain)) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return Some(found(&with(slot, low * grain)));
    }
    let mut groups: Vec<_> = state
        .groups
        .values()
        .filter(|g| {
            g.id != session.group
                && g.active
                && g.direct_submits == DirectSubmits::Open
                && is_open_to(state, g, &Requester::of(session))
                && g.allowed_session_types.contains(&session.kind)
        })
        .collect();
    groups.sort_by(|a, b| (!a.default, &a.name).cmp(&(!b.default, &b.name)));
    for group in groups {
        let mut other = session.clone();
        other.group = group.id;
        other.group_name.clone_from(&group.name);
        if tries(planner, &other) {
            return Some(found(&other));
        }
    }
    let mut smaller = session.clone();
    for _ in 0..10 {
        let halved: Slots = smaller
            .slots
            .iter()
            .map(|(slot, amount)| {
                let grain = grain(slot);
                (
                    slot.clone(),
                    (amount / 2 / grain * grain).max(grain.min(amount)),
                )
            })
            .collect();
        if halved == smaller.slots {
            return None;
        }
        smaller.slots = halved;
        if tries(planner, &smaller) {
            return Some(found(&smaller));
        }
    }
    None
}

/// The step in which a slot is made smaller.
fn grain(slot: &SlotName) -> i64 {
    match slot.kind() {
        SlotKind::Bytes => 64 << 20,
        SlotKind::Fraction => 100,
        SlotKind::Count | SlotKind::Unique => 1000,
    }
}
