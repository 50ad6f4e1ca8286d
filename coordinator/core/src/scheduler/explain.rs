//! What a waiting session is told: the first rule that holds it back, with the numbers.
//!
//! Everything here asks the same functions that decide. Nothing differs afterwards: what
//! is taken to see whether it could be had is given back.

use super::dispatch::Admits;
use super::limits::{Layer, Over, Requester, layers, over_alone, over_now};
use super::planner::{Lane, Planner, container_cap};
use super::share::Share;
use crate::model::{Account, Agent, Designated, Discipline, Queue, Session, State, Usage};
use longshore_common::agent::AgentState;
use longshore_common::amount::{SlotKind, SlotName, Slots, format_bytes_short, format_milli};
use longshore_common::api::{
    AgentVerdict, Blocker, Explanation, Nearest, QuotaEntry, QuotaLayer, Source,
};
use longshore_common::devices::{Occupied, Refusal, allocate, has_devices};
use longshore_common::ids::{GroupId, SessionId};
use longshore_common::session::{ClusterMode, SessionState, SessionType};
use longshore_common::time::Timestamp;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

fn show(slot: &SlotName, amount: i64) -> String {
    match slot.kind() {
        SlotKind::Bytes => format_bytes_short(amount),
        _ => slot.format_amount(amount),
    }
}

fn blocker(stage: &str, rule: &str, text: String) -> Blocker {
    Blocker {
        stage: stage.to_owned(),
        rule: rule.to_owned(),
        text,
        slot: None,
        need: None,
        have: None,
        limit: None,
        source: None,
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

/// What keeps everything of an owner from starting, if anything does.
pub(super) fn owner_problem(state: &State, session: &Session) -> Option<String> {
    if state.users.get(&session.owner).is_some_and(|u| !u.active) {
        return Some(format!("user {} is not active", session.owner_name));
    }
    if state
        .keypairs
        .get(&session.access_key)
        .is_some_and(|k| !k.active)
    {
        return Some(format!("keypair {} is not active", session.access_key));
    }
    if let Some(project) = state.projects.get(&session.project)
        && !project.active
    {
        return Some(format!("project {} is not active", project.name));
    }
    if let Some(domain) = state.domains.get(&session.domain)
        && !domain.active
    {
        return Some(format!("domain {} is not active", domain.name));
    }
    None
}

/// Why it is not considered at all, every reason.
fn not_ready(state: &State, session: &Session, now: Timestamp) -> Vec<Blocker> {
    let mut blocked = Vec::new();
    if let Some(at) = session.start_at.filter(|at| *at > now) {
        let text = format!("it is to start at {at}");
        blocked.push(blocker("ready", "start-at", text));
    }
    for entry in session.depends_on.iter().filter(|d| !d.met) {
        let stands = state
            .sessions
            .get(&entry.session)
            .map_or("unknown", |s| s.state.as_str());
        let text = format!(
            "it waits for {} ({}), which is {}",
            entry.session,
            entry.on,
            stands.to_ascii_lowercase()
        );
        blocked.push(Blocker {
            source: Some(Source::new("session", entry.session.to_string())),
            ..blocker("ready", "dependency", text)
        });
    }
    if let Some(at) = session.not_before.filter(|at| *at > now) {
        let text = format!(
            "tried before; next try in {} s",
            (at.since(now) + 999) / 1000
        );
        blocked.push(blocker("ready", "retry-wait", text));
    }
    if session.held {
        let text = "its owner holds it back".to_owned();
        blocked.push(blocker("ready", "held", text));
    }
    if let Some(text) = owner_problem(state, session) {
        blocked.push(blocker("ready", "owner-inactive", text));
    }
    if session.queue.is_none()
        && let Some(group) = state.groups.get(&session.group)
        && !group.active
    {
        blocked.push(Blocker {
            source: Some(Source::new("group", &group.name)),
            ..blocker(
                "ready",
                "group-inactive",
                format!("resource group {} is not active", group.name),
            )
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
    let what = slot.map_or_else(|| "sessions".to_owned(), ToString::to_string);
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
        ..blocker("limit", over.rule, text)
    }
}

fn limits_of(state: &State, session: &Session) -> Vec<Blocker> {
    let requester = Requester::of(session);
    let layers = layers(state, &requester);
    let counts = session.kind != SessionType::System;
    over_now(state, &layers, &session.total_slots(), counts)
        .iter()
        .map(limit_blocker)
        .collect()
}

/// Why a waiting session waits, as of the last pass. Never empty for one that waits.
pub fn blocked_by(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Vec<Blocker> {
    if session.state != SessionState::Pending {
        return Vec::new();
    }
    planner.refresh(state, now);
    let mut blocked = not_ready(state, session, now);
    if !blocked.is_empty() {
        return blocked;
    }
    blocked = limits_of(state, session);
    if !blocked.is_empty() {
        return blocked;
    }
    if session.queue.is_some() {
        return queue_blockers(planner, state, session, now);
    }
    let Some(group) = planner.group_of.get(&session.group).copied() else {
        return vec![blocker(
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

/// Whether the last pass ended before it came to this session.
fn behind_head(planner: &Planner, state: &State, session: &Session, group: u32) -> Option<Blocker> {
    let stopped = planner.groups[group as usize].stopped?;
    if stopped.head == session.id || session.priority > stopped.priority {
        return None;
    }
    let head = state
        .sessions
        .get(&stopped.head)
        .filter(|s| s.state == SessionState::Pending)?;
    Some(Blocker {
        source: Some(Source::new("session", head.id.to_string())),
        ..blocker(
            "order",
            "head-of-line",
            format!("{} is before it and finds no room", head.id),
        )
    })
}

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
        ..blocker("pool", rule, text)
    }
}

/// What the pool behind a group says to a session that came through no queue.
fn pool_blockers(planner: &Planner, state: &State, session: &Session, group: u32) -> Vec<Blocker> {
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

fn queue_blockers(
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
        return vec![blocker("pool", "pools-disabled", text)];
    }
    let Some(Queue {
        policy, profile, ..
    }) = config.queue(&seat.name)
    else {
        let text = format!("queue {} is gone", seat.name);
        return vec![blocker("pool", "no-pool", text)];
    };
    let linked: Vec<&str> = profile
        .pools
        .iter()
        .map(String::as_str)
        .filter(|name| planner.books.group_of(name).is_some())
        .collect();
    if linked.is_empty() {
        return vec![Blocker {
            source: Some(Source::new("profile", &profile.name)),
            ..blocker(
                "pool",
                "no-pool",
                format!("profile {} is linked to no pool", profile.name),
            )
        }];
    }
    let head = planner.takeable(&seat.name).next();
    if let Some(head) = head.filter(|head| *head != session.id) {
        return vec![Blocker {
            source: Some(Source::new("session", head.to_string())),
            ..blocker(
                "order",
                "queue-order",
                format!("{head} is before it in queue {}", seat.name),
            )
        }];
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
        if blocked.is_empty() {
            let text = "it is about to be placed".to_owned();
            blocked.push(blocker("order", "queue-order", text));
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
    for name in linked {
        let (count, used) = planner.books.pool_state(name).unwrap_or((0, 0));
        if (count - used).max(0) < asked {
            blocked.push(full_pool(name, asked, count, used));
        } else if let Some(group) = planner.books.group_of(name) {
            blocked.extend(capacity(planner, state, session, group, now));
        }
    }
    blocked
}

/// Whether a group has agents to ask, but all with another processor: waiting cannot help.
fn of_another_processor(state: &State, session: &Session, group: GroupId) -> bool {
    let mut agents = state
        .agents
        .values()
        .filter(|a| a.group == group && a.state == AgentState::Alive && a.schedulable)
        .filter_map(|a| Some(a.inventory.as_ref()?.arch.as_str()))
        .peekable();
    let Some(arch) = session.arch.as_deref() else {
        return false;
    };
    agents.peek().is_some() && !agents.any(|a| a == arch)
}

/// What is missing on the agents of a group.
fn capacity(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    group: u32,
    now: Timestamp,
) -> Vec<Blocker> {
    let id = planner.groups[group as usize].id;
    let name = state.groups.get(&id).map_or("", |g| g.name.as_str());
    let source = Some(Source::new("group", name));
    let asked = planner.asked(session, group);
    if asked.candidates.is_empty() && !of_another_processor(state, session, id) {
        return vec![Blocker {
            source,
            ..blocker(
                "capacity",
                "no-agents",
                format!("group {name} has no agent that could be asked"),
            )
        }];
    }
    if planner.session_never_fits(session, group) {
        return vec![Blocker {
            source,
            ..blocker(
                "capacity",
                "never-fits",
                format!("no agent of group {name} could hold it even when empty"),
            )
        }];
    }
    let together = session.cluster.size == 1 || session.cluster.mode == ClusterMode::SingleNode;
    let request = match together {
        true => session.total_slots(),
        false => session.rank_slots(0).clone(),
    };
    let mut blocked = Vec::new();
    for (slot, need) in request.iter() {
        let (have, limit) = planner
            .slot_names()
            .binary_search(slot)
            .map_or((0, 0), |at| (asked.most_free[at], asked.most_at_all[at]));
        if have >= need {
            continue;
        }
        blocked.push(Blocker {
            slot: Some(slot.to_string()),
            need: Some(slot.format_amount(need)),
            have: Some(slot.format_amount(have)),
            limit: Some(slot.format_amount(limit)),
            source: source.clone(),
            ..blocker(
                "capacity",
                "short",
                format!(
                    "waits for {slot} {}, at most {} free on one agent",
                    show(slot, need),
                    show(slot, have)
                ),
            )
        });
    }
    if !blocked.is_empty() {
        return blocked;
    }
    if !together {
        let have = planner.placeable_containers(session, group, now);
        return vec![Blocker {
            need: Some(session.cluster.size.to_string()),
            have: Some(have.to_string()),
            source,
            ..blocker(
                "capacity",
                "cluster",
                format!(
                    "{have} of its {} containers have a place",
                    session.cluster.size
                ),
            )
        }];
    }
    let mut capped = None;
    let wish = planner.vector(&request, 0);
    for at in asked.candidates.iter().copied() {
        if !super::nodes::fits(&planner.places[at as usize].free, &wish) {
            continue;
        }
        let Some(agent) = state.agents.get(&planner.nodes[at as usize].id) else {
            continue;
        };
        match judge(planner, at, agent, session, &wish) {
            Verdict::ContainerCap(cap) => capped = Some((agent.name.clone(), cap)),
            Verdict::Fragmented(slot, need, have) => {
                return vec![Blocker {
                    slot: Some(slot.to_string()),
                    need: Some(slot.format_amount(need)),
                    have: Some(slot.format_amount(have)),
                    limit: planner
                        .slot_names()
                        .binary_search(&slot)
                        .ok()
                        .map(|at| slot.format_amount(asked.most_at_all[at])),
                    source,
                    ..blocker(
                        "capacity",
                        "fragmented",
                        format!(
                            "{slot} {} is free on {} but not on devices that may be combined",
                            show(&slot, need),
                            agent.name
                        ),
                    )
                }];
            }
            _ => (),
        }
    }
    if let Some((agent, cap)) = capped {
        return vec![Blocker {
            limit: Some(cap.to_string()),
            have: Some(cap.to_string()),
            need: Some(session.cluster.size.to_string()),
            source: Some(Source::new("agent", agent.clone())),
            ..blocker(
                "capacity",
                "container-cap",
                format!("{agent} has the {cap} containers it may have"),
            )
        }];
    }
    vec![Blocker {
        source,
        ..blocker(
            "capacity",
            "no-single-agent",
            "each amount is free somewhere, never all on one agent".to_owned(),
        )
    }]
}

/// What one agent says to a request.
enum Verdict {
    Fits,
    NotAsked(&'static str, String),
    ContainerCap(u32),
    Short(Vec<Lack>),
    Fragmented(SlotName, i64, i64),
}

/// Too little of one slot of the planner's.
struct Lack {
    at: u32,
    need: i64,
    have: i64,
}

fn short_text(slots: &[SlotName], short: &[Lack]) -> String {
    let parts: Vec<String> = short
        .iter()
        .map(|lack| {
            let slot = &slots[lack.at as usize];
            format!(
                "{slot}: {} free, {} needed",
                show(slot, lack.have),
                show(slot, lack.need)
            )
        })
        .collect();
    parts.join(", ")
}

/// Whether an agent can be asked at all.
fn may_be_asked(agent: &Agent, session: &Session) -> Result<(), (&'static str, String)> {
    if agent.state != AgentState::Alive {
        return Err(("lost", "sends no heartbeats".to_owned()));
    }
    let Some(inventory) = &agent.inventory else {
        return Err(("condition", "has not said yet what it has".to_owned()));
    };
    let conditions = agent.conditions();
    if !conditions.is_empty() {
        return Err(("condition", conditions.join(", ")));
    }
    let forced = |d: &Designated| d.strict && d.by_admin && d.agents.contains(&agent.id);
    if !agent.schedulable && !session.designated.as_ref().is_some_and(forced) {
        return Err(("unschedulable", "takes no new sessions".to_owned()));
    }
    if let Some(arch) = &session.arch
        && *arch != inventory.arch
    {
        return Err(("arch", format!("is {}, not {arch}", inventory.arch)));
    }
    if let Some(designated) = &session.designated
        && designated.strict
        && !designated.agents.contains(&agent.id)
    {
        return Err((
            "not-designated",
            "is not one of the agents named".to_owned(),
        ));
    }
    Ok(())
}

fn judge(planner: &Planner, at: u32, agent: &Agent, session: &Session, wish: &[i64]) -> Verdict {
    if let Err((word, text)) = may_be_asked(agent, session) {
        return Verdict::NotAsked(word, text);
    }
    let Some(inventory) = &agent.inventory else {
        return Verdict::NotAsked("condition", String::new());
    };
    let together = session.cluster.size == 1 || session.cluster.mode == ClusterMode::SingleNode;
    let count = if together { session.cluster.size } else { 1 };
    let slots = planner.slot_names();
    let free = &planner.places[at as usize].free;
    if free[slots.len()] < i64::from(count) {
        return Verdict::ContainerCap(container_cap(inventory));
    }
    let short: Vec<Lack> = (0u32..)
        .zip(free.iter().zip(wish))
        .take(slots.len())
        .filter(|(_, (have, need))| **need > **have)
        .map(|(at, (have, need))| Lack {
            at,
            need: *need,
            have: *have,
        })
        .collect();
    if !short.is_empty() {
        return Verdict::Short(short);
    }
    let ranks = 0..count;
    let mut occupied: Occupied = planner.nodes[at as usize].occupied.clone();
    for rank in ranks {
        let wanted: Slots = session
            .rank_slots(rank)
            .iter()
            .filter(|(slot, _)| slot.is_accelerator() || has_devices(inventory, slot))
            .map(|(slot, amount)| (slot.clone(), amount))
            .collect();
        match allocate(inventory, &occupied, &wanted) {
            Ok(grants) => {
                for grant in grants {
                    *occupied.entry(grant.device).or_insert(0) += grant.amount;
                }
            }
            Err(
                Refusal::Short { slot, need, have }
                | Refusal::Fragmented { slot, need, have }
                | Refusal::BelowQuantum {
                    slot,
                    need,
                    quantum: have,
                },
            ) => return Verdict::Fragmented(slot, need, have),
        }
    }
    Verdict::Fits
}

impl Verdict {
    fn shown(&self) -> (&'static str, String) {
        match self {
            Self::Fits => ("fits", "could take it now".to_owned()),
            Self::NotAsked(word, text) => (word, text.clone()),
            Self::ContainerCap(cap) => ("container-cap", format!("has its {cap} containers")),
            Self::Short(_) => ("short", String::new()),
            Self::Fragmented(slot, need, have) => (
                "fragmented",
                format!(
                    "{slot} {}: only {} on devices that may be combined",
                    show(slot, *need),
                    show(slot, *have)
                ),
            ),
        }
    }
}

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
                    false => place_in_order(&lanes, session.id),
                };
                if let Some(place) = place {
                    return Some(before + place);
                }
            }
            let count: usize = lanes.iter().map(|l| l.sessions().count()).sum();
            before += u64::try_from(count).unwrap_or(0);
        }
    }
    None
}

fn place_in_order(lanes: &[&Lane], id: SessionId) -> Option<u64> {
    let (own, _) = lanes
        .iter()
        .find_map(|l| l.sessions().find(|(_, s)| *s == id))?;
    let before: usize = lanes
        .iter()
        .map(|l| l.sessions().take_while(|(key, _)| *key < own).count())
        .sum();
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

/// Limits and use of a requester for some slots, tightest first named.
#[must_use]
pub fn quota(state: &State, who: &Requester, slots: Option<&Slots>) -> Vec<QuotaEntry> {
    let layers = layers(state, who);
    let named: BTreeSet<SlotName> = match slots {
        Some(slots) => slots.iter().map(|(slot, _)| slot.clone()).collect(),
        None => {
            let mut named: BTreeSet<SlotName> =
                layers.iter().flat_map(Layer::named_slots).collect();
            for layer in &layers {
                if let Some(usage) = state.usage_ref(&layer.account) {
                    named.extend(usage.slots.iter().map(|(slot, _)| slot.clone()));
                }
            }
            named
        }
    };
    let nothing = Usage::default();
    let mut entries = Vec::new();
    for slot in &named {
        let of = |layer: &Layer<'_>| {
            let usage = state.usage_ref(&layer.account).unwrap_or(&nothing);
            (layer.limit(slot), usage.slots.amount(slot))
        };
        let used = state
            .usage_ref(&Account::User(who.user))
            .map_or(0, |u| u.slots.amount(slot));
        entries.push(entry(&layers, slot.to_string(), used, of, &|v| {
            slot.format_amount(v)
        }));
    }
    let of = |layer: &Layer<'_>| {
        let usage = state.usage_ref(&layer.account).unwrap_or(&nothing);
        (
            layer.max_sessions().map(|n| i64::from(n) * 1000),
            i64::from(usage.sessions) * 1000,
        )
    };
    let used = state
        .usage_ref(&Account::User(who.user))
        .map_or(0, |u| i64::from(u.sessions) * 1000);
    let counted: Vec<Layer<'_>> = layers
        .iter()
        .filter(|l| l.policy().is_some())
        .cloned()
        .collect();
    entries.push(entry(
        &counted,
        "sessions".to_owned(),
        used,
        of,
        &format_milli,
    ));
    let of = |layer: &Layer<'_>| {
        let waiting = state.waiting(&layer.account).sessions;
        let limit = layer.policy().and_then(|p| p.max_pending_session_count);
        (
            limit.map(|n| i64::from(n) * 1000),
            i64::from(waiting) * 1000,
        )
    };
    let used = i64::from(state.waiting(&Account::User(who.user)).sessions) * 1000;
    entries.push(entry(
        &counted,
        "pending".to_owned(),
        used,
        of,
        &format_milli,
    ));
    entries
}

fn entry(
    layers: &[Layer<'_>],
    slot: String,
    used: i64,
    of: impl Fn(&Layer<'_>) -> (Option<i64>, i64),
    text: &dyn Fn(i64) -> String,
) -> QuotaEntry {
    let tightest = layers
        .iter()
        .filter_map(|layer| {
            let (limit, used) = of(layer);
            limit.map(|limit| ((limit - used).max(0), limit, layer))
        })
        .reduce(|best, next| if next.0 < best.0 { next } else { best });
    QuotaEntry {
        slot,
        used: text(used),
        limit: tightest.map(|(_, limit, _)| text(limit)),
        remaining: tightest.map(|(left, ..)| text(left)),
        tightest: tightest.map(|(_, _, layer)| Source {
            kind: layer.kind.source_kind().to_owned(),
            name: layer.name.to_owned(),
            id: Some(layer.id.clone()),
        }),
        layers: layers
            .iter()
            .map(|layer| {
                let (limit, used) = of(layer);
                QuotaLayer {
                    kind: layer.kind.source_kind().to_owned(),
                    name: layer.name.to_owned(),
                    layer: match layer.kind {
                        super::limits::LayerKind::Keypair => "keypair",
                        super::limits::LayerKind::User => "user",
                        super::limits::LayerKind::Project => "project",
                        super::limits::LayerKind::Domain => "domain",
                    }
                    .to_owned(),
                    limit: limit.map(text),
                    used: text(used),
                }
            })
            .collect(),
    }
}

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
    let starts = session.queue.is_none() && would_start(planner, state, session, now);
    let behind = planner
        .group_of
        .get(&session.group)
        .copied()
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
        _ => blocked_by(planner, state, session, now),
    };
    Check {
        verdict: "later",
        blocked_by: blocked,
        nearest: nearest(planner, state, session, now),
    }
}

/// Whether it is ready, within its limits, and has a place.
fn would_start(planner: &mut Planner, state: &State, session: &Session, now: Timestamp) -> bool {
    if !not_ready(state, session, now).is_empty() || !limits_of(state, session).is_empty() {
        return false;
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
    let alone = over_alone(state, &layers, &session.total_slots());
    let never = super::could_ever_hold(
        state,
        session.group,
        std::slice::from_ref(&session.slots),
        true,
        session.arch.as_deref(),
    )
    .is_err();
    let mut blocked = not_ready(state, session, now);
    blocked.extend(limits_of(state, session));
    if blocked.is_empty()
        && let Some(group) = planner.group_of.get(&session.group).copied()
    {
        blocked = pool_blockers(planner, state, session, group);
        if blocked.is_empty() {
            blocked = capacity(planner, state, session, group, now);
        }
    }
    Err((blocked, never || !alone.is_empty()))
}

/// The largest request like this one that could start now: less of one slot, then in
/// another group, then less of everything.
fn nearest(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Option<Nearest> {
    if session.queue.is_some() || !session.cluster.ranks.is_empty() {
        return None;
    }
    let tries =
        |planner: &mut Planner, candidate: &Session| would_start(planner, state, candidate, now);
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
                && crate::model::is_open_to(state, g, &Requester::of(session))
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

/// Why a session is where it is.
pub fn explain(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    now: Timestamp,
) -> Explanation {
    let blocked = blocked_by(planner, state, session, now);
    let text = match session.state {
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
    let waits = session.state == SessionState::Pending;
    let agents = if waits {
        verdicts(planner, state, session)
    } else {
        Vec::new()
    };
    let counted = planner.class_of_session(session.id).map(|c| c.retries);
    let skip = planner
        .group_of
        .get(&session.group)
        .map(|at| planner.groups[*at as usize].skip_after);
    Explanation {
        id: session.id.to_string(),
        state: session.state.as_str().to_owned(),
        text,
        position: waits
            .then(|| position(planner, state, session, now))
            .flatten(),
        class: class_of(&blocked).map(str::to_owned),
        retries: counted.filter(|_| waits),
        retries_to_skip: skip.filter(|_| waits && session.queue.is_none()),
        limits: if waits {
            quota(state, &Requester::of(session), Some(&session.total_slots()))
        } else {
            Vec::new()
        },
        agents,
        nearest: waits
            .then(|| nearest(planner, state, session, now))
            .flatten(),
        blocked_by: blocked,
    }
}

/// What each agent of a session's group says to it, by name.
fn verdicts(planner: &Planner, state: &State, session: &Session) -> Vec<AgentVerdict> {
    let together = session.cluster.size == 1 || session.cluster.mode == ClusterMode::SingleNode;
    let wish = match together {
        true => planner.vector(&session.total_slots(), 0),
        false => planner.vector(session.rank_slots(0), 0),
    };
    // Many agents lack the same: what is said of them is written once.
    let mut said: FxHashMap<Vec<(u32, i64)>, String> = FxHashMap::default();
    // The planner keeps them by name.
    (0u32..)
        .zip(&planner.nodes)
        .filter_map(|(at, node)| {
            let agent = state.agents.get(&node.id)?;
            if agent.group != session.group || agent.state == AgentState::Terminated {
                return None;
            }
            let (verdict, text) = match judge(planner, at, agent, session, &wish) {
                Verdict::Short(short) => {
                    let key = short.iter().map(|s| (s.at, s.have)).collect();
                    let text = said
                        .entry(key)
                        .or_insert_with(|| short_text(planner.slot_names(), &short));
                    ("short", text.clone())
                }
                other => other.shown(),
            };
            Some(AgentVerdict {
                agent_name: agent.name.clone(),
                verdict: verdict.to_owned(),
                text,
            })
        })
        .collect()
}

/// Who could be asked for a session, and the most that one of them has.
struct Asked {
    candidates: Vec<u32>,
    most_free: Vec<i64>,
    most_at_all: Vec<i64>,
}

impl Planner {
    /// Tries counted for a waiting session.
    #[must_use]
    pub fn retries(&self, id: SessionId) -> u32 {
        self.class_of_session(id).map_or(0, |c| c.retries)
    }

    /// See [`Asked`].
    fn asked(&mut self, session: &Session, group: u32) -> Asked {
        let candidates: Vec<u32> = self.candidates_for(session, group);
        let width = self.slot_names().len() + 1;
        let (mut most_free, mut most_at_all) = (vec![0; width], vec![0; width]);
        for at in &candidates {
            let (free, capacity) = (
                &self.places[*at as usize].free,
                &self.nodes[*at as usize].capacity,
            );
            for slot in 0..width {
                most_free[slot] = most_free[slot].max(free[slot]);
                most_at_all[slot] = most_at_all[slot].max(capacity[slot]);
            }
        }
        Asked {
            candidates,
            most_free,
            most_at_all,
        }
    }

    /// Whether every slot of a request is one that some agent has.
    fn knows(&self, slots: &Slots) -> bool {
        slots
            .iter()
            .all(|(slot, _)| self.slot_names().binary_search(slot).is_ok())
    }

    /// How many containers of a session find a place one after another.
    fn placeable_containers(&mut self, session: &Session, group: u32, now: Timestamp) -> u16 {
        let (mut low, mut high) = (0u16, session.cluster.size);
        let mut part = session.clone();
        while low < high {
            let middle = (low + high).div_ceil(2);
            part.cluster.size = middle;
            if self.could_place(&part, group, now).is_some() {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }
}
