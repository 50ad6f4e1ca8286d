//! Who starts where.
//!
//! First form: per group one queue (priority, then first come first served), whole
//! devices, plain cpu and memory. The head of a queue that finds no place holds up
//! those behind it; what is not ready does not. Agents are filtered with a reason each,
//! which is also what `explain` prints.

use crate::model::{Agent, AgentUse, Group, Session, State};
use longshore_common::agent::AgentState;
use longshore_common::amount::{Shortage, SlotKind, SlotName, Slots, format_bytes_short};
use longshore_common::api::{AgentVerdict, Blocker, Explanation};
use longshore_common::devices::{Occupied, Refusal, allocate};
use longshore_common::ids::{AgentId, GroupId, SessionId};
use longshore_common::session::{DeviceGrant, SessionState};
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;

/// Most containers on one agent: a desired set holds 1,024 entries and is always whole.
const CONTAINERS_MAX: u32 = 1000;

/// What one pass decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decisions {
    /// Sessions that get a place, in the order in which they get it.
    pub starts: Vec<Start>,
}

/// A session gets a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub session: SessionId,
    /// Where.
    pub agent: AgentId,
    /// With which devices.
    pub devices: Vec<DeviceGrant>,
}

/// Why an agent cannot take a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Fits,
    /// It is not ALIVE.
    Lost,
    /// It takes no new work.
    Unschedulable,
    /// A condition stops placements.
    Condition(String),
    /// It has as many containers as it may have.
    ContainerCap(u32),
    /// Too little is free.
    Short(Vec<Shortage>),
}

impl Verdict {
    const fn word(&self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::Lost => "lost",
            Self::Unschedulable => "unschedulable",
            Self::Condition(_) => "condition",
            Self::ContainerCap(_) => "container-cap",
            Self::Short(_) => "short",
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Fits => "could take it now".to_owned(),
            Self::Lost => "sends no heartbeats".to_owned(),
            Self::Unschedulable => "takes no new sessions".to_owned(),
            Self::Condition(condition) => condition.clone(),
            Self::ContainerCap(cap) => format!("has its {cap} containers"),
            Self::Short(short) => short
                .iter()
                .map(|s| {
                    format!(
                        "{} of {} {} free",
                        show(&s.slot, s.have),
                        show(&s.slot, s.need),
                        s.slot
                    )
                })
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

fn show(slot: &SlotName, amount: i64) -> String {
    match slot.kind() {
        SlotKind::Bytes => format_bytes_short(amount),
        _ => slot.format_amount(amount),
    }
}

/// Amounts that this pass has given out on top of the ledger.
#[derive(Debug, Default)]
struct Work {
    taken: BTreeMap<AgentId, AgentUse>,
}

impl Work {
    /// Use of an agent by the ledger and by this pass.
    fn usage(&self, state: &State, agent: AgentId) -> AgentUse {
        match self.taken.get(&agent) {
            Some(usage) => usage.clone(),
            None => state.agent_use(agent),
        }
    }

    fn take(&mut self, state: &State, agent: AgentId, slots: &Slots, devices: &[DeviceGrant]) {
        let usage = self
            .taken
            .entry(agent)
            .or_insert_with(|| state.agent_use(agent));
        usage.slots.add(slots);
        usage.containers += 1;
        for grant in devices {
            *usage.devices.entry(grant.device.clone()).or_insert(0) += grant.amount;
        }
    }
}

/// Decides for everything that waits. Looks only at groups in which somebody does.
#[must_use]
pub fn plan(state: &State, now: Timestamp) -> Decisions {
    let mut work = Work::default();
    let mut decisions = Decisions::default();
    for group in state.groups_with_pending() {
        let active = state.groups.get(&group).is_some_and(|g| g.active);
        if active {
            plan_group(state, group, now, &mut work, &mut decisions);
        }
    }
    decisions
}

fn plan_group(
    state: &State,
    group: GroupId,
    now: Timestamp,
    work: &mut Work,
    decisions: &mut Decisions,
) {
    let agents: Vec<&Agent> = state.agents.values().filter(|a| a.group == group).collect();
    for session in state.queue(group) {
        if !is_ready(session, now) {
            continue;
        }
        let Some((agent, devices)) = place(state, &agents, session, now, work) else {
            return; // first come, first served: nobody passes the head
        };
        work.take(state, agent, &session.slots, &devices);
        decisions.starts.push(Start {
            session: session.id,
            agent,
            devices,
        });
    }
}

/// Whether anything but capacity keeps it waiting.
fn is_ready(session: &Session, now: Timestamp) -> bool {
    session.not_before.is_none_or(|at| at <= now)
}

fn place(
    state: &State,
    agents: &[&Agent],
    session: &Session,
    now: Timestamp,
    work: &Work,
) -> Option<(AgentId, Vec<DeviceGrant>)> {
    let mut best: Option<(Key<'_>, AgentId, Vec<DeviceGrant>)> = None;
    for agent in agents {
        let usage = work.usage(state, agent.id);
        let Ok(devices) = judge(agent, &usage, &session.slots) else {
            continue;
        };
        let key = sort_key(agent, &usage, session, now);
        if best.as_ref().is_none_or(|(known, ..)| key < *known) {
            best = Some((key, agent.id, devices));
        }
    }
    best.map(|(_, agent, devices)| (agent, devices))
}

/// Agents compare by: failed here lately; slot types nobody asked for; least free; name.
type Key<'a> = (bool, usize, Vec<i64>, &'a str);

fn sort_key<'a>(agent: &'a Agent, usage: &AgentUse, session: &Session, now: Timestamp) -> Key<'a> {
    let penalised = session
        .penalties
        .iter()
        .any(|(id, until)| *id == agent.id && *until > now);
    let free = free_slots(agent, usage);
    let unneeded = free
        .iter()
        .filter(|(slot, amount)| {
            slot.is_accelerator() && *amount > 0 && session.slots.amount(slot) == 0
        })
        .count();
    let amounts = free.iter().map(|(_, amount)| amount).collect();
    (penalised, unneeded, amounts, agent.name.as_str())
}

/// What an agent has left, in resource order.
#[must_use]
pub fn free_slots(agent: &Agent, usage: &AgentUse) -> Slots {
    let Some(inventory) = &agent.inventory else {
        return Slots::new();
    };
    let mut free = inventory.offered.clone();
    for (slot, amount) in usage
        .slots
        .iter()
        .filter(|(slot, _)| !slot.is_accelerator())
    {
        let rest = free.amount(slot).saturating_sub(amount);
        free.set(slot.clone(), rest);
    }
    for device in inventory.devices.iter().filter(|d| d.is_offered()) {
        let used = usage.devices.get(&device.id).copied().unwrap_or(0);
        let rest = free
            .amount(&device.slot)
            .saturating_add(device.capacity.saturating_sub(used));
        free.set(device.slot.clone(), rest);
    }
    free
}

/// Whether an agent can take a request now, and with which devices.
fn judge(agent: &Agent, usage: &AgentUse, request: &Slots) -> Result<Vec<DeviceGrant>, Verdict> {
    if agent.state != AgentState::Alive {
        return Err(Verdict::Lost);
    }
    let Some(inventory) = &agent.inventory else {
        return Err(Verdict::Condition(
            "has not said yet what it has".to_owned(),
        ));
    };
    let conditions = agent.conditions();
    if !conditions.is_empty() {
        return Err(Verdict::Condition(conditions.join(", ")));
    }
    if !agent.schedulable {
        return Err(Verdict::Unschedulable);
    }
    let cap = match inventory.max_containers {
        0 => CONTAINERS_MAX,
        own => own.min(CONTAINERS_MAX),
    };
    if usage.containers >= cap {
        return Err(Verdict::ContainerCap(cap));
    }
    let short = free_slots(agent, usage).shortages(request);
    if !short.is_empty() {
        return Err(Verdict::Short(short));
    }
    allocate(inventory, &usage.devices, request).map_err(|refusal| match refusal {
        Refusal::Short { slot, need, have } => Verdict::Short(vec![Shortage { slot, need, have }]),
    })
}

/// Whether some agent of a group, taken as empty, could hold a request. Agents that are
/// LOST or unschedulable count; a group without agents says yes, since one may come.
///
/// # Errors
/// Per slot the most that one agent has, of those slots where that is too little.
pub fn could_ever_hold(
    state: &State,
    group: GroupId,
    request: &Slots,
) -> Result<(), Vec<Shortage>> {
    let inventories: Vec<_> = state
        .agents
        .values()
        .filter(|a| a.group == group && a.state != AgentState::Terminated)
        .filter_map(|a| a.inventory.as_ref())
        .collect();
    let mut nearest: Option<Vec<Shortage>> = None;
    for inventory in inventories {
        let short = inventory.capacity().shortages(request);
        if short.is_empty() && allocate(inventory, &Occupied::new(), request).is_ok() {
            return Ok(());
        }
        if nearest.as_ref().is_none_or(|known| {
            short.len() < known.len() || (short.len() == known.len() && most(&short) > most(known))
        }) {
            nearest = Some(short);
        }
    }
    match nearest {
        None => Ok(()),
        Some(short) => Err(short),
    }
}

fn most(short: &[Shortage]) -> i64 {
    short.first().map_or(0, |s| s.have)
}

/// The place of a waiting session in its queue, from 1.
#[must_use]
pub fn position(state: &State, session: &Session) -> Option<u64> {
    let place = state
        .queue(session.group)
        .position(|s| s.id == session.id)?;
    u64::try_from(place).ok().map(|p| p + 1)
}

/// Why a waiting session waits, now.
#[must_use]
pub fn blocked_by(state: &State, session: &Session, now: Timestamp) -> Vec<Blocker> {
    if session.state != SessionState::Pending {
        return Vec::new();
    }
    let group = state.groups.get(&session.group);
    if let Some(Group {
        active: false,
        name,
        ..
    }) = group
    {
        return vec![blocker(
            "ready",
            "group-inactive",
            format!("resource group {name} is not active"),
        )];
    }
    if !is_ready(session, now) {
        let wait = session
            .not_before
            .map_or(0, |at| (at.since(now) + 999) / 1000);
        let detail = format!("tried before; next try in {wait} s");
        return vec![blocker("ready", "retry-wait", detail)];
    }
    let ahead = state.queue(session.group).find(|s| is_ready(s, now));
    if let Some(head) = ahead
        && head.id != session.id
    {
        return vec![blocker(
            "capacity",
            "head-of-line",
            format!("{} is before it and waits itself", head.id),
        )];
    }
    capacity_blockers(state, session)
}

fn blocker(stage: &str, rule: &str, text: String) -> Blocker {
    Blocker {
        stage: stage.to_owned(),
        rule: rule.to_owned(),
        text,
        slot: None,
        need: None,
        have: None,
    }
}

fn capacity_blockers(state: &State, session: &Session) -> Vec<Blocker> {
    let verdicts: Vec<(&Agent, Verdict)> = verdicts(state, session);
    if verdicts.is_empty() {
        return vec![blocker(
            "capacity",
            "no-agent",
            "its resource group has no agent".to_owned(),
        )];
    }
    // The agent that comes nearest: fewest slots short.
    let nearest = verdicts
        .iter()
        .filter_map(|(agent, verdict)| match verdict {
            Verdict::Short(short) => Some((*agent, short)),
            _ => None,
        })
        .min_by_key(|(agent, short)| {
            (
                short.len(),
                std::cmp::Reverse(short.first().map_or(0, |s| s.have)),
                &agent.name,
            )
        });
    match nearest {
        Some((_, short)) => short
            .iter()
            .map(|s| Blocker {
                slot: Some(s.slot.to_string()),
                need: Some(s.slot.format_amount(s.need)),
                have: Some(s.slot.format_amount(s.have)),
                ..blocker(
                    "capacity",
                    "short",
                    format!(
                        "waits for {} {}, at most {} free on one agent",
                        s.slot,
                        show(&s.slot, s.need),
                        show(&s.slot, s.have)
                    ),
                )
            })
            .collect(),
        None => {
            let words: Vec<String> = verdicts
                .iter()
                .map(|(a, v)| format!("{} {}", a.name, v.text()))
                .collect();
            vec![blocker("capacity", "no-agent", words.join("; "))]
        }
    }
}

fn verdicts<'a>(state: &'a State, session: &Session) -> Vec<(&'a Agent, Verdict)> {
    let mut agents: Vec<&Agent> = state
        .agents
        .values()
        .filter(|a| a.group == session.group && a.state != AgentState::Terminated)
        .collect();
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    agents
        .into_iter()
        .map(|agent| {
            let verdict = match judge(agent, &state.agent_use(agent.id), &session.slots) {
                Ok(_) => Verdict::Fits,
                Err(verdict) => verdict,
            };
            (agent, verdict)
        })
        .collect()
}

/// Why a session is where it is.
#[must_use]
pub fn explain(state: &State, session: &Session, now: Timestamp) -> Explanation {
    let blocked = blocked_by(state, session, now);
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
    let agents = match session.state {
        SessionState::Pending => verdicts(state, session)
            .into_iter()
            .map(|(agent, verdict)| AgentVerdict {
                agent_name: agent.name.clone(),
                verdict: verdict.word().to_owned(),
                text: verdict.text(),
            })
            .collect(),
        _ => Vec::new(),
    };
    Explanation {
        id: session.id.to_string(),
        state: session.state.to_string(),
        text,
        position: position(state, session),
        blocked_by: blocked,
        agents,
    }
}
