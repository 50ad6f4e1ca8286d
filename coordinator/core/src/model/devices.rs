//! Devices of nodes: what a person keeps back, and what becomes of sessions whose device breaks.

use super::draft::{Draft, Why};
use super::drain::in_cluster;
use super::entities::{Agent, FailedStart, Session, Stop};
use super::event::{Answer, Outcome, Refusal};
use super::lifecycle::{self, agent_name};
use super::policies::OnDeviceFault;
use super::state::State;
use longshore_common::agent::{Device, Health, Inventory};
use longshore_common::ids::{AgentId, DeviceId, SessionId};
use longshore_common::session::{Cause, Reason, SessionState};
use longshore_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Longest reason of a person, in characters.
const REASON_MAX: usize = 200;
/// Longest text that an agent may put into the history of sessions, in characters.
const TEXT_MAX: usize = 256;

/// A person keeps a device back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCordon {
    /// Why; may be empty.
    pub reason: String,
    /// Who.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

impl DeviceCordon {
    /// It, as the devices of a node show it.
    fn shown(&self) -> String {
        match self.reason.is_empty() {
            true => format!("by {} since {}", self.by, self.at),
            false => format!("{} (by {} since {})", self.reason, self.by, self.at),
        }
    }
}

/// A device is to be kept back, or not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CordonOrder {
    /// On which node.
    pub agent: AgentId,
    /// Which.
    pub device: DeviceId,
    /// Say what would become of it, and change nothing.
    pub dry_run: bool,
    /// The version of the node the person saw; none = whatever it is.
    pub version: Option<u64>,
    /// Why and who; none = it may be given out again, as far as people are concerned.
    pub begin: Option<(String, String)>,
}

/// Decides it.
pub(super) fn cordon(state: &State, order: &CordonOrder, now: Timestamp) -> Outcome {
    match decided(state, order, now) {
        Err(refusal) => Outcome::refuse(refusal),
        Ok(wanted) if order.dry_run || wanted.is_none() => Outcome::only(Answer::Done),
        Ok(wanted) => {
            let mut draft = Draft::new(state, now);
            if let (Some(node), Some(wanted)) = (draft.agent_mut(order.agent), wanted) {
                node.cordons = wanted.cordons;
                node.inventory = wanted.inventory;
            }
            let (changes, effects) = draft.finish();
            Outcome {
                changes,
                effects,
                answer: Ok(Answer::Done),
            }
        }
    }
}

/// The node as it is to be; none = it is so.
fn decided(state: &State, order: &CordonOrder, now: Timestamp) -> Result<Option<Agent>, Refusal> {
    let node = in_cluster(state, order.agent, order.version)?;
    let known = node.inventory.iter().flat_map(|i| &i.devices);
    if !known.clone().any(|device| device.id == order.device) {
        let text = format!("Agent {} has no device {}.", node.name, order.device);
        return Err(Refusal::new("LS-NOT-FOUND", text));
    }
    let mut wanted = node.clone();
    match &order.begin {
        Some((reason, by)) => {
            if reason.chars().count() > REASON_MAX || reason.chars().any(char::is_control) {
                let text = format!("reason must have at most {REASON_MAX} visible characters.");
                return Err(Refusal::new("LS-INVALID", text.clone()).at("/reason", text));
            }
            let before = node.cordons.get(&order.device);
            let cordon = DeviceCordon {
                reason: reason.clone(),
                by: by.clone(),
                at: before.map_or(now, |before| before.at),
            };
            wanted.cordons.insert(order.device.clone(), cordon);
        }
        None => {
            wanted.cordons.remove(&order.device);
        }
    }
    if wanted.cordons == node.cordons {
        return Ok(None);
    }
    if let Some(inventory) = node.inventory.as_deref() {
        let mut inventory = inventory.clone();
        uncover(&mut inventory, &node.cordons);
        cover(&mut inventory, &wanted.cordons);
        wanted.inventory = Some(std::sync::Arc::new(inventory.sharing_names()));
    }
    Ok(Some(wanted))
}

/// Lays what people keep back over what a node says of its devices. The node's own sign of
/// sickness says more and stays.
pub(super) fn cover(inventory: &mut Inventory, cordons: &BTreeMap<DeviceId, DeviceCordon>) {
    for device in &mut inventory.devices {
        let cordon = cordons.get(&device.id);
        if let Some(cordon) = cordon.filter(|_| device.health == Health::Healthy) {
            device.health = Health::Cordoned;
            device.health_detail = cordon.shown().into();
        }
    }
}

/// Takes it off again.
fn uncover(inventory: &mut Inventory, cordons: &BTreeMap<DeviceId, DeviceCordon>) {
    for device in &mut inventory.devices {
        if cordons
            .get(&device.id)
            .is_some_and(|c| is_covered(device, c))
        {
            device.health = Health::Healthy;
            device.health_detail = Box::default();
        }
    }
}

fn is_covered(device: &Device, cordon: &DeviceCordon) -> bool {
    device.health == Health::Cordoned && *device.health_detail == *cordon.shown()
}

/// Whether a device is broken, in the words of its node: not one that a person keeps back or
/// that others use.
fn is_sick(node: &Agent, device: &Device) -> bool {
    let by_person = node.cordons.get(&device.id);
    match device.health {
        Health::Healthy | Health::Foreign | Health::Masked => false,
        Health::Lost | Health::Unresponsive => true,
        Health::Cordoned => !by_person.is_some_and(|cordon| is_covered(device, cordon)),
    }
}

/// Devices of a session that are broken, on the nodes it is on. What has done its part needs none.
pub fn faulty<'a>(state: &'a State, session: &'a Session) -> impl Iterator<Item = &'a DeviceId> {
    let open = session.unfinished().filter(|c| !c.is_closed());
    open.flat_map(move |container| {
        let node = state.agents.get(&container.agent);
        let granted = container.devices.iter().map(|grant| &grant.device);
        granted.filter(move |id| {
            // What a node does not list any more is gone.
            let known = node.and_then(|n| Some((n, n.inventory.as_deref()?)));
            known.is_some_and(|(node, inventory)| {
                let device = inventory.devices.iter().find(|d| d.id == **id);
                device.is_none_or(|device| is_sick(node, device))
            })
        })
    })
}

/// Whether what happens to its devices concerns a session: not when it ended, ends or waits.
fn is_concerned(session: &Session) -> bool {
    let holds = matches!(
        session.state,
        SessionState::Scheduled | SessionState::Preparing | SessionState::Running
    );
    holds && session.stop.is_none() && session.failed.is_none()
}

fn holders(state: &State, agent: AgentId, device: &DeviceId) -> Vec<SessionId> {
    let mut ids: Vec<SessionId> = state
        .on_agent(agent)
        .filter(|key| {
            let session = state.sessions.get(&key.session);
            session.is_some_and(|s| {
                let mut here = s.unfinished().filter(|c| c.key == *key && !c.is_closed());
                is_concerned(s) && here.any(|c| c.devices.iter().any(|g| g.device == *device))
            })
        })
        .map(|key| key.session)
        .collect();
    ids.dedup();
    ids
}

/// A node told something of a device: a line in the history of the sessions that have it.
pub(super) fn noticed(draft: &mut Draft<'_>, agent: AgentId, device: &DeviceId, text: &str) {
    let name = agent_name(draft, agent);
    let plain = text.chars().filter(|c| !c.is_control());
    let text: String = plain.take(TEXT_MAX).collect();
    for id in holders(draft.state, agent, device) {
        remark(draft, id, &format!("{text} ({device} on {name})."), &name);
    }
}

/// What becomes of sessions when the devices of their node are in another state than before.
pub(super) fn changed(draft: &mut Draft<'_>, agent: AgentId, before: &Agent) {
    let Some(node) = draft.agent(agent).cloned() else {
        return;
    };
    let group = draft.state.groups.get(&node.group);
    let stops = group.is_some_and(|g| g.on_device_fault == OnDeviceFault::Stop);
    let old = before.inventory.as_deref().map_or(&[][..], |i| &i.devices);
    let was: BTreeMap<&DeviceId, bool> = old.iter().map(|d| (&d.id, is_sick(before, d))).collect();
    let new = node.inventory.as_deref().map_or(&[][..], |i| &i.devices);
    let listed: BTreeSet<&DeviceId> = new.iter().map(|d| &d.id).collect();
    let gone = old.iter().filter(|d| !listed.contains(&d.id));
    let gone: Vec<Device> = gone
        .map(|device| Device {
            health: Health::Lost,
            health_detail: "its node does not list it any more".into(),
            ..device.clone()
        })
        .collect();
    for device in new.iter().chain(&gone) {
        let (was, is) = (was.get(&device.id) == Some(&true), is_sick(&node, device));
        if was == is {
            continue;
        }
        let what = match is {
            true => format!(
                "{} is {}: {}",
                device.id, device.health, device.health_detail
            ),
            false => format!("{} is well again", device.id),
        };
        // A driver that does not answer may do so in a moment; what is gone stays gone.
        let for_good = matches!(device.health, Health::Lost | Health::Cordoned);
        for id in holders(draft.state, agent, &device.id) {
            let detail = format!("device {what} on {}", node.name);
            remark(draft, id, &format!("Fault: {detail}."), &node.name);
            let runs = draft
                .session(id)
                .is_some_and(|s| s.state == SessionState::Running);
            if is && for_good && !runs {
                not_started(draft, id, agent, &detail, &node.name);
            } else if is && for_good && stops {
                stop(draft, id, &detail, &node.name);
            }
        }
    }
}

/// One that has not begun to run waits for another device.
fn not_started(draft: &mut Draft<'_>, id: SessionId, agent: AgentId, detail: &str, name: &str) {
    if draft.session(id).is_some_and(is_concerned) {
        let failed = FailedStart {
            cause: Cause::DeviceMismatch,
            detail: detail.to_owned(),
            agent,
        };
        lifecycle::fail_attempt(draft, id, failed, &format!("agent {name}"));
    }
}

fn stop(draft: &mut Draft<'_>, id: SessionId, detail: &str, name: &str) {
    let (reason, now, by) = (Reason::DeviceLost, draft.now, format!("agent {name}"));
    // Another device of the same session may have broken with it.
    let Some(session) = draft.session(id).filter(|s| is_concerned(s)) else {
        return;
    };
    if session.restarts_after(reason) {
        lifecycle::requeue(draft, id, reason, detail, now, &by);
        return;
    }
    let stop = Stop {
        reason,
        detail: detail.to_owned(),
        grace_s: draft.state.stop_grace_s(),
        forced: false,
        at: now,
    };
    lifecycle::stop(draft, id, stop, &by);
}

fn remark(draft: &mut Draft<'_>, id: SessionId, text: &str, name: &str) {
    let why = Why {
        reason: None,
        detail: Some(text),
        by: &format!("agent {name}"),
    };
    if let Some(state) = draft.session(id).map(|session| session.state) {
        draft.remark(id, state, why);
    }
}
