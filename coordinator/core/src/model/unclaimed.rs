//! Containers of the cluster that no order names. Nobody knows whose they are, so they are
//! left alone; what they hold of their node is held, until the node says that they are gone.

use super::admin::AdminObject;
use super::draft::Draft;
use super::entities::Agent;
use super::event::Refusal;
use super::state::State;
use longshore_common::agent::{AgentState, Inventory};
use longshore_common::ids::{AgentId, ContainerKey};
use longshore_common::limits::SessionLimits;
use longshore_common::session::{
    ContainerSpec, Entry, PullRule, Reason, SessionType, StopOrder, Want,
};
use longshore_common::time::Timestamp;
use longshore_common::wire::{Claim, UnclaimedItem};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A container that no order names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unclaimed {
    /// Which.
    pub key: ContainerKey,
    /// What it holds of its node.
    pub claim: Claim,
    /// When its node told of it first.
    pub since: Timestamp,
    /// Seconds of grace, once somebody wants it gone.
    pub stop: Option<u32>,
}

impl Unclaimed {
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
        })
    }
}

/// A node says which of its containers no order names.
pub(super) fn told(draft: &mut Draft<'_>, agent: AgentId, items: &[UnclaimedItem]) {
    let now = draft.now;
    let Some(node) = draft.agent(agent) else {
        return;
    };
    let ordered: BTreeSet<ContainerKey> = draft.state.on_agent(agent).collect();
    let before: BTreeMap<ContainerKey, &Unclaimed> =
        node.unclaimed.iter().map(|u| (u.key, u)).collect();
    let mut after: Vec<Unclaimed> = items
        .iter()
        .filter(|item| !ordered.contains(&item.key))
        .map(|item| {
            let known = before.get(&item.key);
            Unclaimed {
                key: item.key,
                claim: possible(&item.claim, node.inventory.as_deref()),
                since: known.map_or(now, |u| u.since),
                stop: known.and_then(|u| u.stop),
            }
        })
        .collect();
    after.sort_by_key(|u| u.key);
    after.dedup_by_key(|u| u.key);
    if after == node.unclaimed {
        return;
    }
    let ordered_to_stop = node.unclaimed.iter().any(|u| u.stop.is_some());
    if let Some(node) = draft.agent_mut(agent) {
        node.unclaimed = after;
    }
    if ordered_to_stop {
        draft.touch(agent); // an order may be done
    }
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

/// Somebody wants one gone.
pub(super) fn stop<'a>(
    state: &'a State,
    key: &str,
    grace_s: u32,
    now: Timestamp,
) -> Result<(AdminObject, Value, Draft<'a>), Refusal> {
    let absent = || Refusal::new("LS-NOT-FOUND", "There is no such unclaimed container.");
    let mut nodes = state.agents.values();
    let found = nodes.find_map(|node| {
        let live = node.state != AgentState::Terminated;
        let named = |u: &&Unclaimed| live && u.key.to_string() == key;
        let one = node.unclaimed.iter().find(named)?;
        Some((node, one))
    });
    let (node, one) = found.ok_or_else(absent)?;
    let before = one.shown(state, node);
    let mut draft = Draft::new(state, now);
    let mut after = one.clone();
    // A shorter grace overtakes a longer one, never the other way round.
    let grace_s = one.stop.map_or(grace_s, |known| known.min(grace_s));
    after.stop = Some(grace_s);
    let shown = AdminObject::Unclaimed(Box::new(after.shown(state, node)));
    if one.stop != Some(grace_s) {
        let id = node.id;
        if let Some(copy) = draft.agent_mut(id)
            && let Some(entry) = copy.unclaimed.iter_mut().find(|u| u.key == after.key)
        {
            *entry = after;
        }
        draft.touch(id);
    }
    Ok((shown, before, draft))
}
