//! What a waiting session is told: the first rule that holds it back, with the numbers.
//!
//! Everything here asks the same functions that decide. Nothing differs afterwards: what
//! is taken to see whether it could be had is given back.

mod capacity;
mod check;
mod pools;
mod position;
mod quota;

pub use capacity::verdicts;
pub(super) use check::in_the_way;
pub use check::{Check, check, is_offered};
pub use position::{InLine, position, positions, waiting_in_group, waiting_in_queue};
pub use quota::quota;

use super::limits::{Over, Requester, layers, over_now};
use super::planner::{Held, Planner};
use super::ready;
use crate::model::{Session, State};
use capacity::capacity;
use check::nearest;
use longshore_common::amount::{SlotKind, SlotName, format_bytes_short, format_milli};
use longshore_common::api::{Blocker, Explanation, Source};
use longshore_common::ids::SessionId;
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use pools::{pool_blockers, queue_blockers};

fn show(slot: &SlotName, amount: i64) -> String {
    match slot.kind() {
        SlotKind::Bytes => format_bytes_short(amount),
        _ => slot.format_amount(amount),
    }
}

/// What kind of wait the first reason is.
#[must_use]
pub fn class_of(blocked_by: &[Blocker]) -> Option<&'static str> {
    let first = blocked_by.first()?;
    Some(match (first.stage.as_str(), first.rule.as_str()) {
        ("identity" | "ready", _) => "not-ready",
        ("pool", "pool-full") => "capacity",
        ("limit" | "pool", _) => "limit",
        ("order", _) => "order",
        (_, "never-fits") => "never",
        _ => "capacity",
    })
}

/// Why it is not considered at all, every reason.
fn not_ready(planner: &Planner, state: &State, session: &Session, now: Timestamp) -> Vec<Blocker> {
    let rights = ready::identity(state, session).map(ready::NotReady::Rights);
    let mut blocked: Vec<Blocker> = ready::reasons(state, session, now)
        .chain(rights)
        .map(|reason| Blocker {
            since: planner.unready_since(session.id, &reason),
            ..reason.shown(state, now)
        })
        .collect();
    let group = state.groups.get(&session.group);
    if let Some(group) = group.filter(|g| session.queue.is_none() && !g.active) {
        let text = format!("resource group {} is not active", group.name);
        let source = Source::new("group", &group.name);
        blocked.push(Blocker {
            since: planner.inactive_since(session),
            ..Blocker::new("ready", "group-inactive", text).of(source)
        });
    }
    blocked
}

fn limit_blocker(over: &Over) -> Blocker {
    let (slot, show_amount): (Option<&SlotName>, _) =
        (over.slot.as_ref(), |v: i64| match &over.slot {
            Some(slot) => show(slot, v),
            None => format_milli(v),
        });
    let plain = |v: i64| match slot {
        Some(slot) => slot.format_amount(v),
        None => format_milli(v),
    };
    let what = match slot {
        Some(slot) => slot.to_string(),
        None if over.rule == over.kind.system_rule() => "system sessions".to_owned(),
        None => "sessions".to_owned(),
    };
    let excess = over.have.saturating_add(over.need) - over.limit;
    let text = format!(
        "{} {}: {what} {} of {} used, {what} over by {}",
        over.kind.source_kind().replace('-', " "),
        over.name,
        show_amount(over.have),
        show_amount(over.limit),
        show_amount(excess)
    );
    Blocker {
        slot: slot.map(ToString::to_string),
        need: Some(plain(over.need)),
        have: Some(plain(over.have)),
        limit: Some(plain(over.limit)),
        source: Some(Source {
            kind: over.kind.source_kind().to_owned(),
            name: over.name.clone(),
            id: Some(over.id.clone()),
        }),
        ..Blocker::new("limit", over.rule, text)
    }
}

fn limits_of(planner: &Planner, state: &State, session: &Session) -> Vec<Blocker> {
    let requester = Requester::of(session);
    let layers = layers(state, &requester);
    over_now(state, &layers, session)
        .iter()
        .map(|over| Blocker {
            since: planner.over_since(session, over),
            ..limit_blocker(over)
        })
        .collect()
}

/// Why a waiting session waits, as of the last pass. Never empty for one that waits.
pub fn blocked_by(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Vec<Blocker> {
    let mut blocked = reasons(planner, state, session, now);
    for blocker in blocked.iter_mut().filter(|b| b.since.is_none()) {
        blocker.since = since(planner, session, &blocker.stage, &blocker.rule);
    }
    blocked
}

/// Since when sessions like this one have been held back by a rule of those that are judged
/// with them, not with each alone.
fn since(planner: &Planner, session: &Session, stage: &str, rule: &str) -> Option<Timestamp> {
    let held = |why| planner.held_since(session, why);
    match (stage, rule) {
        ("pool", "pools-disabled") => planner.unserved_since(session),
        ("pool", "no-pool") => held(Held::NoPool),
        ("pool", "policy-limit") => held(Held::Limit),
        ("pool", "reserved-for-others") => held(Held::Reserved),
        ("pool", "pool-full") if session.queue.is_none() => held(Held::Pool),
        ("order", "queue-order") => planner.behind_front_since(session),
        // A group without agents could hold nobody.
        ("capacity" | "pool", _) => held(Held::Room).or_else(|| held(Held::Never)),
        _ => None,
    }
}

fn reasons(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Vec<Blocker> {
    if session.state != SessionState::Pending {
        return Vec::new();
    }
    planner.refresh(state, now);
    let mut blocked = not_ready(planner, state, session, now);
    if !blocked.is_empty() {
        return blocked;
    }
    blocked = limits_of(planner, state, session);
    if !blocked.is_empty() {
        return blocked;
    }
    if session.queue.is_some() {
        blocked = queue_blockers(planner, state, session, now);
        if blocked.is_empty() {
            let text = "it is about to be placed".to_owned();
            blocked.push(Blocker::new("order", "queue-order", text));
        }
        return blocked;
    }
    let Some(group) = planner.group_of.get(&session.group).copied() else {
        return vec![Blocker::new(
            "capacity",
            "no-agents",
            "its group is gone".to_owned(),
        )];
    };
    if let Some(behind) = behind_head(planner, state, session, group) {
        return vec![behind];
    }
    if planner.session_never_fits(session, group) {
        return capacity(planner, state, session, group, now);
    }
    if planner.groups[group as usize].pool.is_some() {
        let pool = pool_blockers(planner, state, session, group);
        if !pool.is_empty() {
            return pool;
        }
    }
    capacity(planner, state, session, group, now)
}

/// Who is tried before this session and holds it up, if anybody does.
fn behind_head(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    group: u32,
) -> Option<Blocker> {
    let head = planner.held_up_by(state, session, group, None)?;
    let stopped = planner.groups[group as usize].stopped;
    let text = match stopped.is_some_and(|stopped| stopped.head == head) {
        true => format!("{head} is before it and finds no room"),
        false => format!("{head} is tried before it"),
    };
    let source = Source::new("session", head.to_string());
    Some(Blocker {
        since: planner.behind_since(session),
        ..Blocker::new("order", "head-of-line", text).of(source)
    })
}

/// Why a session is where it is.
pub fn explain(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Explanation {
    // What keeps the next task of an array keeps the array.
    let mut tasks = state.tasks_of(session.id);
    if session.array.is_some()
        && let Some(task) = tasks.find(|task| task.waits())
    {
        return explain(planner, state, task, now);
    }
    let blocked = match session.array.is_some() {
        true => Vec::new(),
        false => blocked_by(planner, state, session, now),
    };
    let text = match session.state {
        at if session.array.is_some() && !at.is_final() => {
            format!("{}: no task of it waits", session.id)
        }
        SessionState::Pending => match blocked.first() {
            Some(first) => format!("{} waits: {}", session.id, first.text),
            None => format!("{} is about to be placed", session.id),
        },
        state if state.is_final() => format!(
            "{} ended: {}",
            session.id,
            session
                .detail
                .clone()
                .unwrap_or_else(|| "no reason was given".to_owned())
        ),
        state => format!("{} is {}", session.id, state.as_str().to_ascii_lowercase()),
    };
    let mut explanation = Explanation {
        id: session.id.to_string(),
        state: session.state.as_str().to_owned(),
        text,
        class: class_of(&blocked).map(str::to_owned),
        blocked_by: blocked,
        position: None,
        retries: None,
        retries_to_skip: None,
        limits: Vec::new(),
        agents: Vec::new(),
        nearest: None,
    };
    if session.waits() {
        let group = planner.group_of.get(&session.group);
        let skip_after = group.map(|at| planner.groups[*at as usize].skip_after);
        explanation.retries = planner.class_of_session(session.id).map(|c| c.retries);
        explanation.retries_to_skip = skip_after.filter(|_| session.queue.is_none());
        explanation.position = position(planner, state, session, now);
        explanation.limits = quota(state, &Requester::of(session), Some(&session.total_slots()));
        explanation.agents = verdicts(planner, state, session);
        explanation.nearest = nearest(planner, state, session, now);
    }
    explanation
}

impl Planner {
    /// Tries counted for a waiting session.
    #[must_use]
    pub fn retries(&self, id: SessionId) -> u32 {
        self.class_of_session(id).map_or(0, |c| c.retries)
    }
}
