//! A session gets its places: claims, containers, what policies allow inside.

use super::ACKNOWLEDGE_MS;
use crate::model::change::Change;
use crate::model::draft::{Draft, Why};
use crate::model::entities::{Container, LedgerRow, PIDS_MAX};
use crate::model::network;
use crate::model::rules::policy_of;
use crate::scheduler::Start;
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{ContainerKey, Rank, SessionId};
use longshore_common::session::{ContainerState, SessionState, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::Totals;

/// Gives a waiting session its places: ledger rows, containers, SCHEDULED. One that finds no
/// range for its network goes on waiting, and says so.
pub(in super::super) fn start(draft: &mut Draft<'_>, order: &Start) {
    let now = draft.now;
    let id = order.session;
    let mut nodes = Vec::with_capacity(order.places.len());
    for place in &order.places {
        let Some(node) = draft.agent(place.agent) else {
            return;
        };
        nodes.push((node.fence, node.generation.next(), node.name.clone()));
    }
    let Some(session) = draft.session(id) else {
        return;
    };
    let agents = order.places.iter().map(|place| place.agent);
    let network = network::find(draft, session, agents, order.group);
    if let Err(network::Lack::Range(prefix)) = network {
        if let Some(session) = draft.session_mut(id) {
            session.awaits_range = Some(prefix);
        }
        return;
    }
    let group = draft.state.groups.get(&order.group);
    let group = group.map(|g| (g.id, g.name.clone()));
    take_bounds(draft, id);
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if let (Some(seat), Some(_)) = (&mut session.queue, &order.pool) {
        seat.pool.clone_from(&order.pool);
        if let Some((id, name)) = group {
            session.group = id;
            session.group_name = name;
        }
    }
    let attempt = session.attempt;
    let mut keys = Vec::with_capacity(nodes.len());
    for ((place, (fence, first_generation, _)), rank) in order.places.iter().zip(&nodes).zip(0u16..)
    {
        let key = ContainerKey {
            session: id,
            rank: Rank(rank),
            attempt,
        };
        keys.push(key);
        let asked = session.rank_slots(rank).clone();
        for (slot, amount) in place.slots.iter() {
            if amount < asked.amount(slot) {
                let path = match rank {
                    0 => format!("/slots/{slot}"),
                    _ => format!("/cluster/containers/{rank}/{slot}"),
                };
                session
                    .adjusted
                    .retain(|a| a.path != path || a.reason != "quantum");
                session.adjusted.push(crate::model::Adjusted {
                    path,
                    from: Some(slot.format_amount(asked.amount(slot))),
                    to: slot.format_amount(amount),
                    reason: "quantum".to_owned(),
                    source: None,
                });
            }
        }
        session.containers.push(Container {
            key,
            agent: place.agent,
            slots: Slots::clone(&place.slots),
            devices: place.devices.clone(),
            want: Want::Prepare,
            told_to_run: false,
            acknowledged: false,
            state: ContainerState::Assigned,
            docker_id: String::new(),
            fence: *fence,
            first_generation: *first_generation,
            end: None,
            started_at: None,
            totals: Totals::default(),
            handed_on: false,
            used: Vec::new(),
            image: None,
        });
    }
    session.placed_at = Some(now);
    session.deadline = Some(now.plus_ms(ACKNOWLEDGE_MS));
    session.not_before = None;
    let mut names: Vec<&str> = nodes.iter().map(|(_, _, name)| name.as_str()).collect();
    names.dedup();
    draft.move_to(
        id,
        SessionState::Scheduled,
        Why {
            reason: None,
            detail: Some(&format!("placed on {}", names.join(", "))),
            by: "scheduler",
        },
    );
    for key in keys {
        let session = draft.session(id);
        let placed = session.and_then(|s| s.containers.iter().find(|c| c.key == key));
        let Some((rows, agent)) = placed.map(|c| (claims(c, now), c.agent)) else {
            continue;
        };
        for row in rows {
            draft.open_row(row);
        }
        draft.touch(agent);
    }
    network::give(draft, id, network);
}

/// The rows of what a container holds of its node.
pub(in super::super) fn claims(container: &Container, now: Timestamp) -> Vec<LedgerRow> {
    let row = |slot: &SlotName, device, amount| LedgerRow {
        key: container.key,
        agent: container.agent,
        slot: slot.clone(),
        device,
        amount,
        opened_at: now,
        quota_freed_at: None,
    };
    let devices = &container.devices;
    let slots = container.slots.iter();
    let slots = slots.filter(|(slot, _)| devices.iter().all(|d| d.slot != **slot));
    let slots = slots.map(|(slot, amount)| row(slot, None, amount));
    let devices = devices.iter();
    let devices = devices.map(|d| row(&d.slot, Some(d.device.clone()), d.amount));
    slots.chain(devices).collect()
}

/// Reads what policies and its owner's rights allow inside its containers: at a placement and
/// nowhere else, for what runs keeps what it started with.
pub(in super::super) fn take_bounds(draft: &mut Draft<'_>, id: SessionId) {
    let Some(session) = draft.session(id) else {
        return;
    };
    let policy = policy_of(draft.state, &session.access_key);
    let bounds = policy.map_or((None, false, None), |p| {
        (p.max_pids, p.root_in_container, p.max_shm)
    });
    let owner = draft.state.users.get(&session.owner);
    let sudo = owner.is_some_and(|user| user.sudo_enabled);
    let pull = draft.state.scheduler.pull;
    if let Some(session) = draft.session_mut(id) {
        session.sudo = sudo;
        session.pull = pull;
        session.pids_max = bounds.0.unwrap_or(PIDS_MAX);
        session.root = bounds.1;
        // The policy may have become stricter while it waited.
        session.shm_bytes = session.shm_bytes.min(bounds.2.unwrap_or(i64::MAX));
    }
}

/// The changes that give a waiting session its places.
#[must_use]
pub fn start_session(
    state: &crate::model::State,
    now: Timestamp,
    start: &Start,
) -> (Vec<Change>, Vec<crate::model::Effect>) {
    let mut draft = Draft::new(state, now);
    self::start(&mut draft, start);
    draft.finish()
}
