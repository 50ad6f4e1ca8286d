//! Books against what nodes report. It repairs nothing by itself.

use super::super::change::Change;
use super::super::entities::LedgerRow;
use super::super::lifecycle::agent_has_seen;
use super::super::state::State;
use super::{AdminObject, Decision};
use longshore_common::admin::{UsageAuditView, UsageDrift};
use longshore_common::agent::AgentState;
use longshore_common::amount::{SlotName, Slots};
use longshore_common::devices::has_devices;
use longshore_common::ids::{AgentId, ContainerKey, DeviceId, Generation, SessionId};
use longshore_common::session::DeviceGrant;
use longshore_common::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What one connected agent says it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Which agent.
    pub agent: AgentId,
    /// The desired set it has applied: what came later it cannot know.
    pub applied: Generation,
    /// Every container it has not removed.
    pub containers: Vec<ReportedContainer>,
}

/// One container with what it was granted, by its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedContainer {
    /// Its name for ever.
    pub key: ContainerKey,
    /// Amounts: thousandths, or bytes for `mem`. Slots that the agent has as devices are
    /// taken from `devices` instead.
    pub slots: Slots,
    /// Devices with amounts in thousandths.
    pub devices: Vec<DeviceGrant>,
}

type Place = (SlotName, Option<DeviceId>);

/// What either side says of one place, session by session.
#[derive(Debug, Default)]
struct Sides {
    booked: BTreeMap<SessionId, i64>,
    reported: BTreeMap<SessionId, i64>,
}

/// Where books and nodes differ, normally nowhere. `closed` lists the containers whose
/// claims are left although their node has confirmed that they are gone.
#[must_use]
pub fn usage_audit(state: &State, reports: &[Reported]) -> UsageAuditView {
    let mut rows: BTreeMap<AgentId, Vec<&LedgerRow>> = BTreeMap::new();
    for row in state.ledger.values().flat_map(BTreeMap::values) {
        rows.entry(row.agent).or_default().push(row);
    }
    let mut drifts = Vec::new();
    for report in reports {
        let booked = rows.get(&report.agent).map_or(&[][..], Vec::as_slice);
        drifts.extend(drifts_of(state, report, booked));
    }
    let checked: BTreeSet<AgentId> = reports.iter().map(|r| r.agent).collect();
    let mut not_checked: Vec<String> = state
        .agents
        .values()
        .filter(|a| a.state != AgentState::Terminated && !checked.contains(&a.id))
        .map(|a| a.name.clone())
        .collect();
    not_checked.sort_unstable();
    drifts.sort_by(|a, b| a.agent.cmp(&b.agent)); // stable: slots stay in resource order
    UsageAuditView {
        drifts,
        not_checked,
        closed: gone(state, reports).map(|key| key.to_string()).collect(),
    }
}

fn drifts_of(state: &State, report: &Reported, booked: &[&LedgerRow]) -> Vec<UsageDrift> {
    let Some(agent) = state.agents.get(&report.agent) else {
        return Vec::new();
    };
    let inventory = agent.inventory.as_deref();
    let by_device = |slot: &SlotName| inventory.is_some_and(|i| has_devices(i, slot));
    let mut places: BTreeMap<Place, Sides> = BTreeMap::new();
    for row in booked
        .iter()
        .filter(|r| has_heard(state, r.key, report.applied))
    {
        let sides = places
            .entry((row.slot.clone(), row.device.clone()))
            .or_default();
        *sides.booked.entry(row.key.session).or_insert(0) += row.amount;
    }
    // What handed its claims on is booked under the attempt that has them now; it stands for
    // that one where the agent has heard of it and has not made it yet.
    let counted = |key: ContainerKey| {
        let session = state.sessions.get(&key.session);
        let of_rank = session.into_iter().flat_map(|s| &s.containers);
        let mut of_rank = of_rank.filter(|c| c.key.rank == key.rank);
        if !of_rank.clone().any(|c| c.key == key && c.handed_on) {
            return true;
        }
        let heard =
            of_rank.any(|c| c.key.attempt > key.attempt && agent_has_seen(c, report.applied));
        let mut reported = report.containers.iter().map(|c| c.key);
        let newer = reported.any(|other| {
            (other.session, other.rank) == (key.session, key.rank) && other.attempt > key.attempt
        });
        heard && !newer
    };
    for container in report.containers.iter().filter(|c| counted(c.key)) {
        let mut say = |place: Place, amount: i64| {
            let sides = places.entry(place).or_default();
            *sides.reported.entry(container.key.session).or_insert(0) += amount;
        };
        for grant in &container.devices {
            say(
                (grant.slot.clone(), Some(grant.device.clone())),
                grant.amount,
            );
        }
        let granted = |slot: &SlotName| container.devices.iter().any(|g| g.slot == *slot);
        for (slot, amount) in container.slots.iter() {
            if !by_device(slot) && !granted(slot) {
                say((slot.clone(), None), amount);
            }
        }
    }
    let line = |((slot, device), sides): (Place, Sides)| {
        let sum = |side: &BTreeMap<SessionId, i64>| side.values().sum::<i64>();
        if sides.booked == sides.reported {
            return None;
        }
        let (booked, reported) = (sum(&sides.booked), sum(&sides.reported));
        let all: BTreeSet<SessionId> = sides
            .booked
            .keys()
            .chain(sides.reported.keys())
            .copied()
            .collect();
        Some(UsageDrift {
            agent: agent.name.clone(),
            booked: slot.format_amount(booked),
            reported: slot.format_amount(reported),
            difference: slot.format_amount(reported - booked),
            slot: slot.to_string(),
            device: device.map(|d| d.to_string()),
            sessions: all
                .into_iter()
                .filter(|id| sides.booked.get(id) != sides.reported.get(id))
                .map(|id| id.to_string())
                .collect(),
        })
    };
    places.into_iter().filter_map(line).collect()
}

/// Whether an agent that applied a set can know a container: a claim is opened before the
/// order reaches the node.
fn has_heard(state: &State, key: ContainerKey, applied: Generation) -> bool {
    let session = state.sessions.get(&key.session);
    session
        .and_then(|s| s.containers.iter().find(|c| c.key == key))
        .is_none_or(|c| agent_has_seen(c, applied))
}

/// Containers with claims of which their connected agent has nothing left and has said so.
fn gone<'a>(state: &'a State, reports: &'a [Reported]) -> impl Iterator<Item = ContainerKey> + 'a {
    state
        .ledger
        .iter()
        .filter(|(key, rows)| {
            let agent = rows.values().next().map(|r| r.agent);
            let report = reports.iter().find(|r| Some(r.agent) == agent);
            let present = report.is_none_or(|r| r.containers.iter().any(|c| c.key == **key));
            let session = state.sessions.get(&key.session);
            let over = session.is_none_or(|session| {
                let container = session.containers.iter().find(|c| c.key == **key);
                // A container that is not closed is the business of reports and outcomes, and
                // so is one of an older attempt that is still at the same place.
                container.is_none_or(|c| c.is_closed() && !session.claims_are_shared(c))
            });
            !present && over
        })
        .map(|(key, _)| *key)
}

pub(super) fn audit(state: &State, reports: &[Reported], apply: bool, now: Timestamp) -> Decision {
    let view = usage_audit(state, reports);
    let changes = gone(state, reports)
        .filter(|_| apply)
        .map(|key| Change::LedgerClosed { key, at: now })
        .collect();
    Decision::new(AdminObject::Audit(Box::new(view)), changes)
}
