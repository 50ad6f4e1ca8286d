//! What is missing on the agents of a group, and what each of them says.

use super::show;
use crate::model::{Agent, Designated, Session, State};
use crate::scheduler::nodes::fits;
use crate::scheduler::planner::Planner;
use crate::scheduler::room::{container_cap, grant_ranks};
use longshore_common::agent::AgentState;
use longshore_common::amount::{SlotName, Slots};
use longshore_common::api::{AgentVerdict, Blocker, Source};
use longshore_common::devices::Refusal;
use longshore_common::ids::GroupId;
use longshore_common::session::ClusterMode;
use longshore_common::time::Timestamp;
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::sync::Arc;

/// Whether a group has agents to ask, but all with another processor: waiting cannot help.
fn of_another_processor(state: &State, session: &Session, group: GroupId) -> bool {
    let mut agents = state
        .agents
        .values()
        .filter(|a| a.group == group && a.state == AgentState::Alive && a.schedulable)
        .filter_map(|a| Some(&*a.inventory.as_ref()?.arch))
        .peekable();
    let Some(arch) = session.arch.as_deref() else {
        return false;
    };
    agents.peek().is_some() && !agents.any(|a| a == arch)
}

/// What is missing on the agents of a group.
pub(super) fn capacity(
    planner: &mut Planner,
    state: &State,
    session: &Session,
    group: u32,
    now: Timestamp,
) -> Vec<Blocker> {
    let id = planner.groups[group as usize].id;
    let name = state.groups.get(&id).map_or("", |g| g.name.as_str());
    let source = || Source::new("group", name);
    let missing = |rule, text| Blocker::new("capacity", rule, text).of(source());
    let asked = planner.asked(session, group);
    if asked.candidates.is_empty() && !of_another_processor(state, session, id) {
        let text = format!("group {name} has no agent that could be asked");
        return vec![missing("no-agents", text)];
    }
    if planner.session_never_fits(session, group) {
        let text = format!("no agent of group {name} could hold it even when empty");
        return vec![missing("never-fits", text)];
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
            ..missing(
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
            ..missing(
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
    let mut lacks = Vec::new();
    for at in asked.candidates.iter().copied() {
        if !fits(&planner.places[at as usize].free, &wish) {
            continue;
        }
        let Some(agent) = state.agents.get(&planner.nodes[at as usize].id) else {
            continue;
        };
        match judge(planner, at, Some(agent), session, &wish, &mut lacks) {
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
                    ..missing(
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
            ..Blocker::new(
                "capacity",
                "container-cap",
                format!("{agent} has the {cap} containers it may have"),
            )
        }];
    }
    let text = "each amount is free somewhere, never all on one agent";
    vec![missing("no-single-agent", text.to_owned())]
}

/// What one agent says to a request.
#[derive(PartialEq, Eq, Hash)]
enum Verdict {
    Fits,
    NotAsked(&'static str, Cow<'static, str>),
    ContainerCap(u32),
    /// Of what, is said apart.
    Short,
    Fragmented(SlotName, i64, i64),
}

/// Too little of one slot of the planner's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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
fn may_be_asked(agent: &Agent, session: &Session) -> Result<(), (&'static str, Cow<'static, str>)> {
    if agent.state != AgentState::Alive {
        return Err(("lost", "sends no heartbeats".into()));
    }
    let Some(inventory) = &agent.inventory else {
        return Err(("condition", "has not said yet what it has".into()));
    };
    let conditions = agent.conditions();
    if !conditions.is_empty() {
        return Err(("condition", conditions.join(", ").into()));
    }
    let forced = |d: &Designated| d.strict && d.by_admin && d.agents.contains(&agent.id);
    if !agent.schedulable && !session.designated.as_ref().is_some_and(forced) {
        return Err(("unschedulable", "takes no new sessions".into()));
    }
    if let Some(arch) = &session.arch
        && **arch != *inventory.arch
    {
        return Err(("arch", format!("is {}, not {arch}", inventory.arch).into()));
    }
    if let Some(designated) = &session.designated
        && designated.strict
        && !designated.agents.contains(&agent.id)
    {
        return Err(("not-designated", "is not one of the agents named".into()));
    }
    Ok(())
}

/// What one agent says; `agent` is none for one of which it is known that it can be asked. Of
/// what it is short stands in `lacks` afterwards.
fn judge(
    planner: &Planner,
    at: u32,
    agent: Option<&Agent>,
    session: &Session,
    wish: &[i64],
    lacks: &mut Vec<Lack>,
) -> Verdict {
    if let Some(agent) = agent
        && let Err((word, text)) = may_be_asked(agent, session)
    {
        return Verdict::NotAsked(word, text);
    }
    let Some(inventory) = &planner.nodes[at as usize].inventory else {
        return Verdict::NotAsked("condition", Cow::Borrowed(""));
    };
    let together = session.cluster.size == 1 || session.cluster.mode == ClusterMode::SingleNode;
    let count = if together { session.cluster.size } else { 1 };
    let slots = planner.slot_names();
    let free = &planner.places[at as usize].free;
    if free[slots.len()] < i64::from(count) {
        return Verdict::ContainerCap(container_cap(inventory));
    }
    lacks.clear();
    lacks.extend(
        (0u32..)
            .zip(free.iter().zip(wish))
            .take(slots.len())
            .filter(|(_, (have, need))| **need > **have)
            .map(|(at, (have, need))| Lack {
                at,
                need: *need,
                have: *have,
            }),
    );
    if !lacks.is_empty() {
        return Verdict::Short;
    }
    let mut occupied = planner.nodes[at as usize].occupied.clone();
    let ranks = (0..count).map(|rank| session.rank_slots(rank));
    match grant_ranks(inventory, &mut occupied, ranks) {
        Ok(_) => Verdict::Fits,
        Err(
            Refusal::Short { slot, need, have }
            | Refusal::Fragmented { slot, need, have }
            | Refusal::BelowQuantum {
                slot,
                need,
                quantum: have,
            },
        ) => Verdict::Fragmented(slot, need, have),
    }
}

impl Verdict {
    const fn word(&self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::NotAsked(word, _) => word,
            Self::ContainerCap(_) => "container-cap",
            Self::Short => "short",
            Self::Fragmented(..) => "fragmented",
        }
    }

    fn text(&self, slots: &[SlotName], lacks: &[Lack]) -> String {
        match self {
            Self::Fits => "could take it now".to_owned(),
            Self::NotAsked(_, text) => text.clone().into_owned(),
            Self::ContainerCap(cap) => format!("has its {cap} containers"),
            Self::Short => short_text(slots, lacks),
            Self::Fragmented(slot, need, have) => format!(
                "{slot} {}: only {} on devices that may be combined",
                show(slot, *need),
                show(slot, *have)
            ),
        }
    }
}

/// What each agent of a session's group says to it, by name.
#[must_use]
pub fn verdicts(planner: &Planner, state: &State, session: &Session) -> Vec<AgentVerdict> {
    let together = session.cluster.size == 1 || session.cluster.mode == ClusterMode::SingleNode;
    let wish = match together {
        true => planner.vector(&session.total_slots(), 0),
        false => planner.vector(session.rank_slots(0), 0),
    };
    let slots = planner.slot_names();
    let group = planner.group_of.get(&session.group).copied();
    // Whoever takes new work can be asked by all who do not choose.
    let chooses = session.arch.is_some() || session.designated.is_some();
    // Many agents say the same: it is written once.
    let mut said: FxHashMap<Verdict, Arc<str>> = FxHashMap::default();
    let mut said_short: FxHashMap<Box<[Lack]>, Arc<str>> = FxHashMap::default();
    let mut lacks = Vec::new();
    // The planner keeps them by name.
    let nodes = (0u32..).zip(&planner.nodes);
    let ours = nodes.filter(|(_, node)| Some(node.group) == group);
    ours.filter_map(|(at, node)| {
        let agent = match node.candidate && !chooses {
            true => None,
            false => Some(state.agents.get(&node.id)?),
        };
        if agent.is_some_and(|agent| agent.state == AgentState::Terminated) {
            return None;
        }
        let verdict = judge(planner, at, agent, session, &wish, &mut lacks);
        let word = verdict.word();
        let known = match verdict {
            Verdict::Short => said_short.get(&lacks[..]),
            _ => said.get(&verdict),
        };
        let text = known.cloned().unwrap_or_else(|| {
            let text: Arc<str> = verdict.text(slots, &lacks).into();
            match verdict {
                Verdict::Short => said_short.insert(lacks[..].into(), Arc::clone(&text)),
                _ => said.insert(verdict, Arc::clone(&text)),
            };
            text
        });
        Some(AgentVerdict {
            agent_name: Arc::clone(&node.name),
            verdict: word.into(),
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
    pub(in crate::scheduler) fn knows(&self, slots: &Slots) -> bool {
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
