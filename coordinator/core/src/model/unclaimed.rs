//! Containers of the cluster that no order names. What is over is stopped, what an older database
//! does not know is taken into the books, and the rest is left alone for a while: what they hold
//! of their node is held, until the node says that they are gone.

use super::admin::AdminObject;
use super::adoption::{self, Placement, Verdict, adopt, judge};
use super::audited::{Audited, Doer, target};
use super::change::Change;
use super::draft::Draft;
use super::entities::Agent;
use super::event::Refusal;
use super::state::State;
use crate::access::Operation;
use longshore_common::agent::{AgentState, Inventory};
use longshore_common::ids::{AgentId, Attempt, ContainerKey, DeviceId, SessionId};
use longshore_common::limits::SessionLimits;
use longshore_common::session::{
    ContainerSpec, Entry, PullRule, Reason, SessionType, StopOrder, Want,
};
use longshore_common::time::Timestamp;
use longshore_common::wire::{Claim, ContainerReport, UnclaimedItem};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds after which one is stopped about which nobody has decided: time to look at it, and
/// not for ever, because it holds its GPUs.
pub const UNDECIDED_S: i64 = 600;

/// A container that no order names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unclaimed {
    /// Which.
    pub key: ContainerKey,
    /// What it holds of its node.
    pub claim: Claim,
    /// When its node told of it first.
    pub since: Timestamp,
    /// From when the time in which somebody may decide is counted, if later: nobody can while
    /// the coordinator is not there, and its node may have been away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Timestamp>,
    /// Seconds of grace, once it is to go.
    pub stop: Option<u32>,
    /// Where it stands, by its node.
    #[serde(default)]
    pub report: Option<ContainerReport>,
    /// What it was placed as, where it carries a record of that which was signed here.
    #[serde(default)]
    pub record: Option<Box<Placement>>,
    /// Somebody wants it left alone.
    #[serde(default)]
    pub kept: bool,
    /// Why it was not taken into the books.
    #[serde(default)]
    pub why: String,
    /// The attempt in which its session ended here. It is not made again of a record, also once
    /// memory has forgotten it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Attempt>,
}

/// What a node says of one, and what was made of its signed record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// What the node says.
    pub item: UnclaimedItem,
    /// Its record, if the signature is good.
    pub record: Option<Box<Placement>>,
    /// The attempt that the store knows of its session; none = there is no such session.
    pub stored: Option<Attempt>,
}

impl From<UnclaimedItem> for Stray {
    fn from(item: UnclaimedItem) -> Self {
        Self {
            item,
            record: None,
            stored: None,
        }
    }
}

impl Unclaimed {
    /// When it is stopped if nobody decides otherwise; none = somebody has.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let undecided = self.stop.is_none() && !self.kept;
        let from = self.counted.unwrap_or(self.since);
        undecided.then(|| from.plus_s(UNDECIDED_S))
    }

    /// The same, with the time to decide begun anew.
    pub(super) fn counted_from(self, now: Timestamp) -> Self {
        Self {
            counted: Some(now),
            ..self
        }
    }

    /// The order that ends it.
    pub(super) fn entry(&self, agent: &Agent) -> Option<Entry> {
        let grace_s = self.stop?;
        Some(Entry {
            key: self.key,
            want: Want::Stop,
            spec: ContainerSpec {
                image: String::new(),
                digest: None,
                pull: PullRule::None,
                command: Vec::new(),
                workdir: None,
                tty: false,
                environment: BTreeMap::new(),
                uid: 0,
                gid: 0,
                slots: self.claim.slots.clone(),
                shm_bytes: 0,
                pids_max: 0,
                devices: self.claim.devices.clone(),
                hostname: String::new(),
                owner: String::new(),
                kind: SessionType::Batch,
                root: false,
                sudo: false,
                ports: Vec::new(),
            },
            limits: SessionLimits::default(),
            stop: Some(StopOrder {
                reason: Reason::ForceTerminated,
                grace_s,
                forced: true,
            }),
            fence: agent.fence,
            first_generation: agent.generation,
            restartable: false,
            designated: false,
        })
    }

    fn shown(&self, state: &State, agent: &Agent) -> Value {
        json!({
            "id": self.key.to_string(),
            "name": self.key.docker_name(state.meta.cluster),
            "agent": agent.id,
            "agent_name": agent.name,
            "slots": self.claim.slots,
            "stopping": self.stop.is_some(),
            "kept": self.kept,
        })
    }
}

/// A node says which of its containers no order names.
pub(super) fn told(draft: &mut Draft<'_>, agent: AgentId, strays: &[Stray]) {
    let now = draft.now;
    let Some(node) = draft.agent(agent).cloned() else {
        return;
    };
    let ordered: BTreeSet<ContainerKey> = draft.state.on_agent(agent).collect();
    let before: BTreeMap<ContainerKey, &Unclaimed> =
        node.unclaimed.iter().map(|u| (u.key, u)).collect();
    let mut all: Vec<Unclaimed> = strays
        .iter()
        .filter(|stray| !ordered.contains(&stray.item.key))
        .map(|stray| {
            let item = &stray.item;
            let known = before.get(&item.key);
            // What the store has and memory has not is over, even if it ended since that look.
            let forgotten = draft.session(item.key.session).is_none();
            let over = stray.stored.filter(|_| forgotten);
            Unclaimed {
                key: item.key,
                claim: possible(&item.claim, node.inventory.as_deref()),
                since: known.map_or(now, |u| u.since),
                counted: known.and_then(|u| u.counted),
                stop: known.and_then(|u| u.stop),
                report: Some(item.report.clone()),
                record: stray.record.clone(),
                kept: known.is_some_and(|u| u.kept),
                why: known.map_or_else(String::new, |u| u.why.clone()),
                over: over.or(known.and_then(|u| u.over)),
            }
        })
        .collect();
    all.sort_by_key(|u| u.key);
    all.dedup_by_key(|u| u.key);
    let ordered_to_stop = node.unclaimed.iter().any(|u| u.stop.is_some());
    settle(draft, agent, all);
    if ordered_to_stop
        && draft
            .agent(agent)
            .is_some_and(|a| a.unclaimed != node.unclaimed)
    {
        draft.touch(agent); // an order may be done
    }
}

/// Judges all that are not decided yet, and notes what is left. Of several attempts of a session
/// the highest comes first: what becomes of the others follows from it.
fn settle(draft: &mut Draft<'_>, agent: AgentId, mut all: Vec<Unclaimed>) {
    let Some(node) = draft.agent(agent).cloned() else {
        return;
    };
    let mut taken: BTreeMap<DeviceId, i64> = BTreeMap::new();
    let (mut left, mut stopped) = (Vec::new(), false);
    let mut ids: Vec<SessionId> = Vec::new();
    let mut newest: BTreeMap<SessionId, Attempt> = BTreeMap::new();
    all.sort_by_key(|one| (one.key.session, Reverse(one.key.attempt), one.key.rank));
    for mut one in all {
        let (id, attempt) = (one.key.session, one.key.attempt);
        let newest = *newest.entry(id).or_insert(attempt);
        if one.stop.is_some() || one.kept {
            left.push(one);
            continue;
        }
        let known = draft.session(id).map(|s| s.attempt);
        let behind = attempt < newest && known.is_none_or(|known| known < newest);
        let verdict = match behind {
            true => Verdict::Leave("a later attempt of its session is there".to_owned()),
            false => judge(draft, &node, &one, &taken),
        };
        match verdict {
            Verdict::Stop => {
                one.stop = Some(0);
                one.why = String::new();
                stopped = true;
            }
            Verdict::Adopt => {
                for grant in &one.claim.devices {
                    *taken.entry(grant.device.clone()).or_default() += grant.amount;
                }
                ids.push(id);
                if let (Some(report), Some(record)) = (&one.report, &one.record) {
                    adopt(draft, agent, report, record);
                }
                continue;
            }
            Verdict::Leave(why) => one.why = why,
        }
        left.push(one);
    }
    left.sort_by_key(|one: &Unclaimed| one.key);
    if left != node.unclaimed
        && let Some(node) = draft.agent_mut(agent)
    {
        node.unclaimed = left;
    }
    adoption::count_on(draft, ids.into_iter());
    if stopped {
        draft.touch(agent);
    }
}

/// Sessions ended in this draft: what is listed of them is not taken for unknown once memory has
/// forgotten them. What becomes of it is decided with the next look.
pub(super) fn ended(draft: &mut Draft<'_>, ids: &BTreeSet<SessionId>) {
    if ids.is_empty() {
        return;
    }
    let listed = |node: &&Agent| node.unclaimed.iter().any(|u| ids.contains(&u.key.session));
    let nodes = draft.state.agents.values().filter(listed);
    for agent in nodes.map(|node| node.id).collect::<Vec<_>>() {
        let mut all = draft
            .agent(agent)
            .map_or_else(Vec::new, |a| a.unclaimed.clone());
        for one in all.iter_mut().filter(|u| ids.contains(&u.key.session)) {
            one.over = draft.session(one.key.session).map(|s| s.attempt);
        }
        if let Some(node) = draft.agent_quietly(agent) {
            node.unclaimed = all;
        }
    }
}

/// Looks again at those about which nobody has decided: they may be adopted by now, as when what
/// stood in the way ended, and at last they are stopped.
pub(super) fn due(draft: &mut Draft<'_>) {
    let (now, state) = (draft.now, draft.state);
    for agent in state.undecided() {
        let Some(node) = state.agents.get(&agent) else {
            continue;
        };
        let mut all = node.unclaimed.clone();
        let (mut over, grace_s) = (false, state.stop_grace_s());
        for one in &mut all {
            if one.due().is_some_and(|at| at <= now) {
                one.stop = Some(grace_s);
                over = true;
            }
        }
        settle(draft, agent, all);
        if over {
            draft.touch(agent);
        }
    }
}

/// What was decided about such containers without being asked: by the coordinator itself.
pub(super) fn recorded(state: &State, changes: &[Change]) -> Vec<Audited> {
    let mut records = Vec::new();
    for session in adoption::adopted(state, changes) {
        let on = session.containers.first().map(|c| c.agent.to_string());
        let after = json!({ "adopted": true, "agent": on, "owner": session.owner_name });
        let one = Audited::new(
            Operation::UnclaimedWrite,
            super::audited::of_session(session),
            None,
            Some(after),
        );
        let one = one.by(Doer::System).in_domain(session.domain);
        records.push(one.detail("made again of the signed record of its container"));
    }
    let agents = changes.iter().filter_map(|change| match change {
        Change::Agent(agent) => Some(&**agent),
        _ => None,
    });
    for after in agents {
        let before = state
            .agents
            .get(&after.id)
            .map_or(&[][..], |a| &a.unclaimed);
        for one in after.unclaimed.iter().filter(|u| u.stop.is_some()) {
            let known = before.iter().find(|u| u.key == one.key);
            if known.is_some_and(|known| known.stop.is_some()) {
                continue;
            }
            let (was, is) = (
                known.map(|u| u.shown(state, after)),
                one.shown(state, after),
            );
            let target = target(
                "container",
                one.key,
                &one.key.docker_name(state.meta.cluster),
            );
            let record = Audited::new(Operation::UnclaimedWrite, target, was, Some(is));
            let detail = match one.stop {
                Some(0) => "its session is over or elsewhere",
                _ => "nobody decided about it in time",
            };
            records.push(record.by(Doer::System).detail(detail));
        }
    }
    records
}

/// As much of a claim as the node has at all: labels are words of its node only.
fn possible(claim: &Claim, inventory: Option<&Inventory>) -> Claim {
    let Some(inventory) = inventory else {
        return Claim::default();
    };
    let capacity = inventory.capacity();
    let slots = claim.slots.iter();
    let slots = slots.map(|(slot, amount)| (slot.clone(), amount.clamp(0, capacity.amount(slot))));
    let mut devices = claim.devices.clone();
    devices.retain_mut(|grant| {
        let device = inventory.devices.iter().find(|d| d.id == grant.device);
        grant.amount = grant.amount.clamp(0, longshore_common::amount::UNIT);
        device.is_some() && grant.amount > 0
    });
    devices.sort();
    devices.dedup_by(|a, b| a.device == b.device);
    Claim {
        slots: slots.filter(|(_, amount)| *amount > 0).collect(),
        devices,
    }
}

fn find<'a>(state: &'a State, key: &str) -> Result<(&'a Agent, &'a Unclaimed), Refusal> {
    let mut nodes = state.agents.values();
    let found = nodes.find_map(|node| {
        let live = node.state != AgentState::Terminated;
        let named = |u: &&Unclaimed| live && u.key.to_string() == key;
        let one = node.unclaimed.iter().find(named)?;
        Some((node, one))
    });
    found.ok_or_else(|| Refusal::new("LS-NOT-FOUND", "There is no such unclaimed container."))
}

/// Somebody wants one gone.
pub(super) fn stop<'a>(
    state: &'a State,
    key: &str,
    grace_s: u32,
    now: Timestamp,
) -> Result<(AdminObject, Value, Draft<'a>), Refusal> {
    let (node, one) = find(state, key)?;
    let mut after = one.clone();
    // A shorter grace overtakes a longer one, never the other way round.
    after.stop = Some(one.stop.map_or(grace_s, |known| known.min(grace_s)));
    Ok(replaced(state, node, (one, after), now))
}

/// Somebody wants one to stay: in the books if its record is good for that, else beside them.
pub(super) fn keep<'a>(
    state: &'a State,
    key: &str,
    now: Timestamp,
) -> Result<(AdminObject, Value, Draft<'a>), Refusal> {
    let (node, one) = find(state, key)?;
    if one.stop.is_some() {
        let text = format!("{key} is being stopped already.");
        return Err(Refusal::new("LS-STATE", text));
    }
    let mut draft = Draft::new(state, now);
    let before = one.shown(state, node);
    // Also one that was only to stay before.
    let mut all = node.unclaimed.clone();
    for other in all.iter_mut().filter(|u| u.key == one.key) {
        other.kept = false;
    }
    settle(&mut draft, node.id, all);
    let session = draft.session(one.key.session);
    if session.is_some_and(|s| s.containers.iter().any(|c| c.key == one.key)) {
        let mut shown = one.shown(state, node);
        shown["adopted"] = json!(true);
        return Ok((AdminObject::Unclaimed(Box::new(shown)), before, draft));
    }
    let mut after = one.clone();
    after.kept = true;
    Ok(replaced(state, node, (one, after), now))
}

fn replaced<'a>(
    state: &'a State,
    node: &Agent,
    (one, after): (&Unclaimed, Unclaimed),
    now: Timestamp,
) -> (AdminObject, Value, Draft<'a>) {
    let before = one.shown(state, node);
    let mut draft = Draft::new(state, now);
    let shown = AdminObject::Unclaimed(Box::new(after.shown(state, node)));
    if *one != after {
        let stops = one.stop != after.stop;
        if let Some(copy) = draft.agent_mut(node.id)
            && let Some(entry) = copy.unclaimed.iter_mut().find(|u| u.key == after.key)
        {
            *entry = after;
        }
        if stops {
            draft.touch(node.id);
        }
    }
    (shown, before, draft)
}
