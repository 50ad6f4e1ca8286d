//! What no waiting helps: more than any agent has, or than a limit allows at all.

use super::{refuse_limits, show};
use crate::model::entities::{Group, Session};
use crate::model::event::Refusal;
use crate::model::pools::Queue;
use crate::model::state::{Account, State};
use crate::model::submit::pointer;
use crate::scheduler::limits::{Layer, LayerKind, Over, over_alone};
use crate::scheduler::{Never, could_ever_hold};
use longshore_common::agent::AgentState;
use longshore_common::amount::{Shortage, SlotKind, SlotName, Slots};
use longshore_common::api::{LimitMet, MemberError, Source};
use longshore_common::devices::Refusal as DeviceRefusal;
use longshore_common::session::ClusterMode;
use std::collections::BTreeSet;
use std::slice::from_ref;

/// Rule 15: agents of the group, taken as empty, could hold it. What is below the smallest part
/// that any of them gives is refused also where the group waits for larger agents.
pub(super) fn never_fits(
    state: &State,
    session: &Session,
    queue: Option<&Queue<'_>>,
) -> Result<(), Refusal> {
    let ranks: Vec<Slots> = (0..session.cluster.size)
        .map(|rank| session.rank_slots(rank).clone())
        .collect();
    let together = session.cluster.mode == ClusterMode::SingleNode;
    let arch = session.arch.as_deref();
    let mut first = None;
    for group in groups_of(state, session, queue) {
        match could_ever_hold(state, group.id, &ranks, together, arch) {
            Ok(()) => return Ok(()),
            Err(never) if !group.refuse_never_fits && !never.is_below_quantum() => return Ok(()),
            Err(never) => {
                first.get_or_insert((group, never));
            }
        }
    }
    let Some((group, never)) = first else {
        return Ok(());
    };
    let place = Place::of(state, group, arch);
    if let Some(arch) = arch.filter(|_| place.without) {
        return Err(place.wrong_arch(arch));
    }
    // Where not even one container finds room, what that one lacks is the reason.
    let one = ranks
        .iter()
        .find_map(|rank| could_ever_hold(state, group.id, from_ref(rank), true, arch).err());
    match (never, one) {
        (Never::Containers(0), Some(Never::Short(short))) => place.short(&short, "One container"),
        (Never::Containers(0), Some(Never::Devices(refusal))) => Err(place.devices(refusal)),
        (Never::Short(short), _) => place.short(&short, "You"),
        (Never::Devices(refusal), _) => Err(place.devices(refusal)),
        (Never::Containers(most), _) => {
            Err(place.containers(most, session.cluster.size.into(), together))
        }
    }
}

/// Where a session may be: in its group, or in those behind the pools of its queue.
fn groups_of<'a>(state: &'a State, session: &Session, queue: Option<&Queue<'_>>) -> Vec<&'a Group> {
    match queue {
        None => state.groups.get(&session.group).into_iter().collect(),
        Some(queue) => queue_groups(state, queue),
    }
}

/// The groups behind the pools of a queue.
pub(super) fn queue_groups<'a>(state: &'a State, queue: &Queue<'_>) -> Vec<&'a Group> {
    let config = &state.config.config;
    let pools = queue.profile.pools.iter();
    pools
        .filter_map(|name| state.group_by_ref(&config.pool(name)?.group))
        .collect()
}

/// A group that could never hold a request, as it is spoken of.
struct Place<'a> {
    group: &'a Group,
    /// `agent`, or `arm64 agent` where the group has others too that do not count.
    agent: String,
    /// Architectures of its agents, each once.
    archs: BTreeSet<&'a str>,
    /// None of them is the one that is asked for.
    without: bool,
}

impl<'a> Place<'a> {
    fn of(state: &'a State, group: &'a Group, arch: Option<&str>) -> Self {
        let agents = state.agents.values();
        let archs: BTreeSet<&str> = agents
            .filter(|a| a.group == group.id && a.state != AgentState::Terminated)
            .filter_map(|a| Some(&*a.inventory.as_deref()?.arch))
            .collect();
        Self {
            group,
            agent: match arch {
                Some(arch) if archs.len() > 1 => format!("{arch} agent"),
                _ => "agent".to_owned(),
            },
            without: arch.is_some_and(|arch| !archs.contains(arch)),
            archs,
        }
    }

    fn wrong_arch(&self, arch: &str) -> Refusal {
        let archs: Vec<&str> = self.archs.iter().copied().collect();
        let there = archs.join(", ");
        let name = &self.group.name;
        let detail = format!("You asked for an agent with arch {arch}; group {name} has {there}.");
        Refusal::new("LS-FIT-NEVER", detail)
            .at("/arch", format!("Group {name} has {there}."))
            .hint(format!(
                "Ask for arch {}, or for a group that has {arch}.",
                archs.join(" or ")
            ))
    }

    /// No agent has so much; nothing to say when no slot is short.
    fn short(&self, short: &[Shortage], who: &str) -> Result<(), Refusal> {
        let Some(worst) = short.first() else {
            return Ok(());
        };
        let (name, agent, slot) = (&self.group.name, &self.agent, &worst.slot);
        let (need, have) = apart(slot, worst.need, worst.have);
        let errors = short.iter().map(|s| {
            let (need, have) = apart(&s.slot, s.need, s.have);
            MemberError {
                pointer: pointer("/slots", s.slot.as_str()),
                message: format!("{need} is more than the {have} any {agent} of group {name} has."),
                ..MemberError::default()
            }
        });
        let verb = if who == "You" { "asked" } else { "asks" };
        let detail = format!(
            "{who} {verb} for {slot} {need}; the largest {agent} of group {name} has {have}."
        );
        Err(Refusal {
            errors: errors.collect(),
            limit: Some(Box::new(capacity_met(
                slot, worst.need, worst.have, self.group,
            ))),
            ..Refusal::new("LS-FIT-NEVER", detail).hint(self.less(slot, worst.have))
        })
    }

    /// The devices are there, and cannot be had together.
    fn devices(&self, refusal: DeviceRefusal) -> Refusal {
        let (slot, need, have) = match refusal {
            DeviceRefusal::BelowQuantum {
                slot,
                need,
                quantum,
            } => {
                let message = format!(
                    "{slot} {} is below {}, the smallest part an agent gives.",
                    slot.format_amount(need),
                    slot.format_amount(quantum)
                );
                let hint = format!("Ask for {slot} {} or more.", slot.format_amount(quantum));
                return Refusal::new("LS-SLOT-AMOUNT", message.clone())
                    .at(pointer("/slots", slot.as_str()), message)
                    .hint(hint);
            }
            DeviceRefusal::Short { slot, need, have }
            | DeviceRefusal::Fragmented { slot, need, have } => (slot, need, have),
        };
        let (needed, most) = apart(&slot, need, have);
        let detail = format!(
            "No {} of group {} can give {slot} {needed} on devices that may be combined; {most} can be.",
            self.agent, self.group.name,
        );
        Refusal {
            limit: Some(Box::new(capacity_met(&slot, need, have, self.group))),
            ..Refusal::new("LS-FIT-NEVER", detail).hint(self.less(&slot, have))
        }
    }

    /// There is room for some of the containers.
    fn containers(&self, most: usize, size: u32, together: bool) -> Refusal {
        let (name, agent) = (&self.group.name, &self.agent);
        let detail = if together {
            format!("No {agent} of group {name} takes {size} containers; the most is {most}.")
        } else {
            format!("The {agent}s of group {name} together could hold {most} of {size} containers.")
        };
        let fewer = if most == 1 {
            "1 container".to_owned()
        } else {
            format!("{most} containers or fewer")
        };
        let otherwise = if together {
            "for several agents"
        } else {
            "for smaller ones"
        };
        let met = LimitMet {
            rule: "cluster".to_owned(),
            slot: None,
            limit: Some(most.to_string()),
            have: "0".to_owned(),
            need: size.to_string(),
            source: Some(Source::new("group", name)),
        };
        Refusal {
            limit: Some(Box::new(met)),
            ..Refusal::new("LS-FIT-NEVER", detail).hint(format!("Ask for {fewer}, or {otherwise}."))
        }
    }

    /// What to ask for instead.
    fn less(&self, slot: &SlotName, have: i64) -> String {
        match have {
            0 => format!("No {} of group {} has {slot}.", self.agent, self.group.name),
            have => format!("Ask for {slot} {} or less.", show(slot, have)),
        }
    }
}

/// What is needed and the less there is. Sizes that look the same when they are cut are
/// told in whole MB, of which what is needed has one more at least.
fn apart(slot: &SlotName, need: i64, have: i64) -> (String, String) {
    const MB: i64 = 1 << 20;
    let (needed, most) = (show(slot, need), show(slot, have));
    if needed == most && slot.kind() == SlotKind::Bytes {
        let up = need / MB + i64::from(need % MB != 0);
        return (format!("{up} MB"), format!("{} MB", have / MB));
    }
    (needed, most)
}

fn capacity_met(slot: &SlotName, need: i64, have: i64, group: &Group) -> LimitMet {
    LimitMet {
        rule: "agent-capacity".to_owned(),
        slot: Some(slot.to_string()),
        limit: Some(slot.format_amount(have)),
        have: "0".to_owned(),
        need: slot.format_amount(need),
        source: Some(Source::new("group", &group.name)),
    }
}

/// Rule 16: the request alone is within every limit.
pub(super) fn never_allowed(
    state: &State,
    session: &Session,
    layers: &[Layer<'_>],
    queue: Option<&Queue<'_>>,
) -> Result<(), Refusal> {
    let mut met: Vec<(LimitMet, String)> = over_alone(state, layers, &session.limited_slots())
        .iter()
        .map(|over| (limit_met(over), never_text(over)))
        .collect();
    if let Some(queue) = queue
        && let Some(limit) = queue.policy.limit
    {
        let need = queue.profile.allotment();
        if need > limit {
            let text = longshore_common::amount::format_milli;
            let detail = format!(
                "Allocation policy {} allows {} in all; a job of profile {} counts {}.",
                queue.policy.name,
                text(limit),
                queue.profile.name,
                text(need)
            );
            let limit = LimitMet {
                rule: "policy-limit".to_owned(),
                slot: None,
                limit: Some(text(limit)),
                have: text(
                    state
                        .usage(&Account::Policy(queue.policy.name.clone()))
                        .allotted,
                ),
                need: text(need),
                source: Some(Source::new("allocation-policy", &queue.policy.name)),
            };
            met.push((limit, detail));
        }
    }
    let hint = met.first().map_or_else(String::new, |(limit, _)| {
        let what = limit.slot.as_deref().unwrap_or("resources");
        format!(
            "Ask for {what} {} or less, or ask an administrator for a wider limit.",
            limit.limit.as_deref().unwrap_or("0")
        )
    });
    refuse_limits("LS-LIMIT-NEVER", met, &hint)
}

fn limit_met(over: &Over) -> LimitMet {
    let text = |v: i64| match &over.slot {
        Some(slot) => slot.format_amount(v),
        None => longshore_common::amount::format_milli(v),
    };
    LimitMet {
        rule: over.rule.to_owned(),
        slot: over.slot.as_ref().map(ToString::to_string),
        limit: Some(text(over.limit)),
        have: text(over.have),
        need: text(over.need),
        source: Some(Source {
            kind: over.kind.source_kind().to_owned(),
            name: over.name.clone(),
            id: Some(over.id.clone()),
        }),
    }
}

fn never_text(over: &Over) -> String {
    let what = match over.kind {
        LayerKind::Keypair | LayerKind::User => "Keypair policy",
        LayerKind::Project => "Project",
        LayerKind::Domain => "Domain",
    };
    let slot = over.slot.as_ref();
    let shown = |v| slot.map_or_else(String::new, |slot| show(slot, v));
    format!(
        "{what} {} allows {} {} in all; this session asks for {}.",
        over.name,
        slot.map_or("", SlotName::as_str),
        shown(over.limit),
        shown(over.need)
    )
}
