//! What queues and pools say to a waiting session.

use super::capacity::capacity;
use crate::model::{Group, Queue, Session, State};
use crate::scheduler::dispatch::Admits;
use crate::scheduler::planner::Planner;
use longshore_common::amount::format_milli;
use longshore_common::api::{Blocker, Source};
use longshore_common::ids::SessionId;
use longshore_common::time::Timestamp;
use std::cmp::Reverse;
use std::collections::BTreeSet;

fn pool_entry(
    rule: &str,
    text: String,
    numbers: (i64, i64, Option<i64>),
    kind: &str,
    name: &str,
) -> Blocker {
    Blocker {
        need: Some(format_milli(numbers.0)),
        have: Some(format_milli(numbers.1)),
        limit: numbers.2.map(format_milli),
        source: Some(Source::new(kind, name)),
        ..Blocker::new("pool", rule, text)
    }
}

/// What the pool behind a group says to a session that came through no queue.
pub(super) fn pool_blockers(
    planner: &Planner,
    state: &State,
    session: &Session,
    group: u32,
) -> Vec<Blocker> {
    let config = &state.config.config;
    let Some(name) = state
        .groups
        .get(&planner.groups[group as usize].id)
        .map(|g| &g.name)
    else {
        return Vec::new();
    };
    let Some(pool) = config.pool_of_group(name) else {
        return Vec::new();
    };
    let slots = session.total_slots();
    let (count, used) = planner.books.pool_state(&pool.name).unwrap_or((0, 0));
    let asked = pool.counted(&slots);
    match planner.pool_admits_slots(config, pool, &slots) {
        Admits::Yes => Vec::new(),
        Admits::Full => vec![full_pool(&pool.name, asked, count, used)],
        Admits::Reserved => {
            let owed = planner.owed(config, None, &pool.name);
            vec![pool_entry(
                "reserved-for-others",
                format!("what is left of pool {} is kept for queues", pool.name),
                (asked, owed.free, Some(owed.amount)),
                "pool",
                &pool.name,
            )]
        }
    }
}

fn full_pool(name: &str, asked: i64, count: i64, used: i64) -> Blocker {
    let free = (count - used).max(0);
    pool_entry(
        "pool-full",
        format!(
            "pool {name} has {} of {} free, {} are needed",
            format_milli(free),
            format_milli(count),
            format_milli(asked)
        ),
        (asked, free, Some(count)),
        "pool",
        name,
    )
}

/// What keeps a session from being taken from its queue; nothing = it is about to be placed.
pub(super) fn queue_blockers(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Vec<Blocker> {
    let config = &state.config.config;
    let Some(seat) = &session.queue else {
        return Vec::new();
    };
    if !planner.books.enabled() {
        let text = "queues are not served at present".to_owned();
        return vec![Blocker::new("pool", "pools-disabled", text)];
    }
    let Some(Queue {
        policy, profile, ..
    }) = config.queue(&seat.name)
    else {
        let text = format!("queue {} is gone", seat.name);
        return vec![Blocker::new("pool", "no-pool", text)];
    };
    let linked: Vec<&str> = profile
        .pools
        .iter()
        .map(String::as_str)
        .filter(|name| planner.books.group_of(name).is_some())
        .collect();
    if linked.is_empty() {
        return vec![
            Blocker::new(
                "pool",
                "no-pool",
                format!("profile {} is linked to no pool", profile.name),
            )
            .of(Source::new("profile", &profile.name)),
        ];
    }
    let place = (Reverse(session.priority), session.created_at, session.id);
    let head = planner.takeable(&seat.name).next();
    let before = |head: &SessionId| {
        let seat = planner.seats.get(head).and_then(|seat| seat.queue);
        seat.is_some_and(|at| at < place)
    };
    if let Some(head) = head.filter(before) {
        return vec![
            Blocker::new(
                "order",
                "queue-order",
                format!("{head} is before it in queue {}", seat.name),
            )
            .of(Source::new("session", head.to_string())),
        ];
    }
    let asked = profile.allotment();
    let used = planner.books.policy_used(&policy.name);
    if let Some(limit) = policy.limit
        && used + asked > limit
    {
        return vec![pool_entry(
            "policy-limit",
            format!(
                "allocation policy {} uses {} of {}",
                policy.name,
                format_milli(used),
                format_milli(limit)
            ),
            (asked, used, Some(limit)),
            "allocation-policy",
            &policy.name,
        )];
    }
    let able = planner
        .first_able(state, session, profile, now, &mut BTreeSet::new())
        .cloned();
    let mut blocked = Vec::new();
    if let Some(pool) = able {
        if used + asked > policy.reservation {
            let owed = planner.owed(config, Some(&policy.name), &pool);
            if owed.amount > 0 && owed.free - asked < owed.amount {
                blocked.push(pool_entry(
                    "reserved-for-others",
                    format!("what is left of pool {pool} is reserved for other policies"),
                    (asked, owed.free, Some(owed.amount)),
                    "pool",
                    &pool,
                ));
            }
        }
        return blocked;
    }
    if used + asked <= policy.reservation {
        let lent = config
            .allocation_policies
            .iter()
            .filter(|other| other.name != policy.name)
            .find(|other| planner.books.policy_used(&other.name) > other.reservation);
        if let Some(other) = lent {
            let theirs = planner.books.policy_used(&other.name);
            blocked.push(pool_entry(
                "lent-out",
                format!(
                    "its reservation is unmet while allocation policy {} uses {} of its {}",
                    other.name,
                    format_milli(theirs),
                    format_milli(other.reservation)
                ),
                (asked, theirs, Some(other.reservation)),
                "allocation-policy",
                &other.name,
            ));
        }
    }
    let mut closed = Vec::new();
    for name in linked {
        let (count, used) = planner.books.pool_state(name).unwrap_or((0, 0));
        let Some(at) = planner.books.group_of(name) else {
            continue;
        };
        let group = state.groups.get(&planner.groups[at as usize].id);
        if let Some(reason) = group.and_then(|group| takes_none(group, name, session)) {
            closed.push(reason);
        } else if (count - used).max(0) < asked {
            blocked.push(full_pool(name, asked, count, used));
        } else {
            blocked.extend(capacity(planner, state, session, at, now));
        }
    }
    // The first reason says what kind of wait it is: a pool that could serve comes first.
    let some_serve = !blocked.is_empty();
    blocked.extend(closed.into_iter().map(|reason| match some_serve {
        true => Blocker {
            stage: "pool".to_owned(),
            ..reason
        },
        false => reason,
    }));
    blocked
}

/// Why the group behind a pool takes no session of this kind at present, if so.
fn takes_none(group: &Group, pool: &str, session: &Session) -> Option<Blocker> {
    if !group.active {
        let text = format!(
            "resource group {} behind pool {pool} is not active",
            group.name
        );
        let source = Source::new("group", &group.name);
        return Some(Blocker::new("ready", "group-inactive", text).of(source));
    }
    let kind = session.kind;
    (!group.allowed_session_types.contains(&kind)).then(|| {
        let text = format!("pool {pool} takes no {kind} sessions");
        Blocker::new("pool", "no-pool", text).of(Source::new("pool", pool))
    })
}
