//! Who used what for how long: rows that are opened with a placement and never deleted, and
//! the sums that are made of them.
//!
//! A row stands beside each claim of the ledger. What counts as *allocated* is the time in
//! which its session was RUNNING; what was held before and after it is *held*; what the
//! samples of the agent say was done in it is *used*. No sum is stored.

use super::entities::{Container, LedgerRow, Session};
use super::state::State;
use longshore_common::amount::{SlotName, UNIT};
use longshore_common::ids::{
    AgentId, Attempt, ContainerKey, DeviceId, DomainId, GroupId, ProjectId, SessionId, UserId,
};
use longshore_common::session::words;
use longshore_common::time::Timestamp;
use longshore_common::wire::{DeviceUse, Totals};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one container held of one slot, of one device if the slot has devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Which container.
    pub key: ContainerKey,
    /// Of what.
    pub slot: SlotName,
    /// Of which device.
    pub device: Option<DeviceId>,
    /// Product name of the device; empty = not known, or there is none.
    pub model: String,
    /// How much: thousandths, or bytes for memory.
    pub amount: i64,
    /// On which node.
    pub agent: AgentId,
    /// What that node was called.
    pub agent_name: String,
    /// Whose session.
    pub owner: UserId,
    /// What the owner was called.
    pub owner_name: String,
    /// With which keypair.
    pub access_key: String,
    /// In which project.
    pub project: ProjectId,
    /// What that was called.
    pub project_name: String,
    /// In which domain.
    pub domain: DomainId,
    /// What that was called.
    pub domain_name: String,
    /// In which resource group.
    pub group: GroupId,
    /// What that was called.
    pub group_name: String,
    /// Since when it is held.
    pub from: Timestamp,
    /// Since when the session was RUNNING.
    pub billable_from: Option<Timestamp>,
    /// Until when it was.
    pub billable_to: Option<Timestamp>,
    /// Until when it was held: the node confirmed.
    pub to: Option<Timestamp>,
    /// What it was used, in milliseconds of full use.
    pub busy_ms: i64,
    /// Milliseconds that were measured; the rest of the RUNNING time is a gap.
    pub measured_ms: i64,
}

/// How rows of usage become different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageChange {
    /// With a placement. It ends with the claim beside it.
    Opened(Box<UsageRow>),
    /// The session is RUNNING: it counts as allocated from this instant on.
    Ran {
        /// Which session.
        session: SessionId,
        /// In which attempt.
        attempt: Attempt,
        /// Since when.
        at: Timestamp,
    },
    /// The session is not RUNNING any more.
    Rested {
        /// Which session.
        session: SessionId,
        /// Since when.
        at: Timestamp,
    },
    /// What an agent measured of it.
    Measured {
        /// Of which container.
        key: ContainerKey,
        /// Of which slot.
        slot: SlotName,
        /// Of which device.
        device: Option<DeviceId>,
        /// Milliseconds of full use.
        busy_ms: i64,
        /// Milliseconds that were measured.
        measured_ms: i64,
    },
}

/// What a session spent so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// Since when it is in its state and phase; none = since it was made.
    pub since: Option<Timestamp>,
    /// Milliseconds in each state or phase that it has left, over all attempts.
    pub phases: BTreeMap<String, i64>,
    /// Since when it is RUNNING, as it is counted.
    pub runs_since: Option<Timestamp>,
    /// With how many accelerators, in thousandths.
    pub runs_with: i64,
    /// When a container of the present attempt gave back what it held before the session was
    /// RUNNING: it is RUNNING no earlier, whatever a node says of its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gave_back: Option<Timestamp>,
    /// Allocated while RUNNING: thousandths of accelerators times milliseconds.
    pub accelerator_ms: i64,
    /// The same of what was used.
    pub accelerator_used_ms: i64,
    /// Who decided its end: which user, agent or rule.
    pub by: Option<String>,
}

/// Accelerators that a session's present attempt holds, in thousandths: a container of it may be
/// gone before all of it runs.
pub(super) fn accelerators(session: &Session) -> i64 {
    let holds = |c: &&Container| !c.is_closed() || session.claims_are_shared(c);
    session.present().filter(holds).map(of_container).sum()
}

pub(super) fn of_container(container: &Container) -> i64 {
    let slots = container.slots.iter();
    slots
        .filter(|(slot, _)| slot.is_accelerator())
        .map(|(_, amount)| amount)
        .sum()
}

/// The row beside a claim.
pub(super) fn row(state: &State, session: &Session, claim: &LedgerRow) -> UsageRow {
    let agent = state.agents.get(&claim.agent);
    let devices = agent.and_then(|a| a.inventory.as_ref()).map(|i| &i.devices);
    let model = claim.device.as_ref().and_then(|id| {
        let device = devices?.iter().find(|d| d.id == *id)?;
        Some(device.model.to_string())
    });
    let domain = state.domains.get(&session.domain);
    UsageRow {
        key: claim.key,
        slot: claim.slot.clone(),
        device: claim.device.clone(),
        model: model.unwrap_or_default(),
        amount: claim.amount,
        agent: claim.agent,
        agent_name: agent.map_or_else(|| claim.agent.to_string(), |a| a.name.clone()),
        owner: session.owner,
        owner_name: session.owner_name.clone(),
        access_key: session.access_key.clone(),
        project: session.project,
        project_name: session.project_name.clone(),
        domain: session.domain,
        domain_name: domain.map_or_else(|| session.domain.to_string(), |d| d.name.clone()),
        group: session.group,
        group_name: session.group_name.clone(),
        from: claim.opened_at,
        billable_from: None,
        billable_to: None,
        to: None,
        busy_ms: 0,
        measured_ms: 0,
    }
}

/// Figures of devices as they are believed: of granted devices, each once, and of no more
/// time than has passed since the placement.
pub(super) fn believed(
    container: &Container,
    devices: &[DeviceUse],
    most_ms: i64,
) -> Vec<DeviceUse> {
    let of = |grant: &longshore_common::session::DeviceGrant| {
        let said = devices.iter().find(|d| d.device == grant.device)?;
        let measured_ms = said.measured_ms.clamp(0, most_ms.max(0));
        Some(DeviceUse {
            device: said.device.clone(),
            busy_ms: said.busy_ms.clamp(0, measured_ms),
            measured_ms,
            memory_peak: said.memory_peak,
        })
    };
    container.devices.iter().filter_map(of).collect()
}

/// What a container's figures say about its rows.
pub(super) fn measured(container: &Container, totals: &Totals) -> Vec<UsageChange> {
    let key = container.key;
    let mut all: Vec<UsageChange> = Vec::new();
    for grant in &container.devices {
        let Some(used) = container.used.iter().find(|u| u.device == grant.device) else {
            continue;
        };
        all.push(UsageChange::Measured {
            key,
            slot: grant.slot.clone(),
            device: Some(grant.device.clone()),
            busy_ms: used.busy_ms,
            measured_ms: used.measured_ms,
        });
    }
    let measured_ms = totals.measured_ms.max(0);
    let mut push = |slot: SlotName, full: i128, amount: i64| {
        if amount > 0 && full >= 0 {
            let busy_ms = i64::try_from(full / i128::from(amount)).unwrap_or(i64::MAX);
            all.push(UsageChange::Measured {
                key,
                slot,
                device: None,
                busy_ms: busy_ms.min(measured_ms),
                measured_ms,
            });
        }
    };
    if let Some(cpu_ms) = totals.cpu_ms {
        let full = i128::from(cpu_ms) * i128::from(UNIT);
        push(SlotName::cpu(), full, container.slots.cpu_milli());
    }
    let full = i128::from(totals.memory_kib_s) * 1024 * 1000;
    push(SlotName::mem(), full, container.slots.mem_bytes());
    all
}

/// Accelerator time that the figures of a container say, as [`Spent`] counts it.
pub(super) fn accelerator_used(container: &Container) -> i64 {
    let granted = container.devices.iter().filter(|g| g.slot.is_accelerator());
    let used = granted.filter_map(|grant| {
        let used = container.used.iter().find(|u| u.device == grant.device)?;
        Some(used.busy_ms.saturating_mul(grant.amount))
    });
    used.fold(0, i64::saturating_add)
}

words! {
    /// By what usage is summed up.
    UsageBy {
        /// By person.
        User = "user",
        /// By project.
        Project = "project",
        /// By domain.
        Domain = "domain",
        /// By resource group.
        Group = "group",
        /// By product name of the device; what has none is left out.
        Model = "model",
        /// By session.
        Session = "session",
        /// By day, in UTC.
        Day = "day",
        /// By month, in UTC.
        Month = "month",
        /// All together.
        Total = "total",
    }
}

/// A stretch of time; an end that is not set is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stretch {
    /// The first instant in it.
    pub since: Option<Timestamp>,
    /// The first one behind it.
    pub until: Option<Timestamp>,
}

impl Stretch {
    fn cut(self, from: Timestamp, to: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let from = self.since.map_or(from, |since| since.max(from));
        let to = self.until.map_or(to, |until| until.min(to));
        (from < to).then_some((from, to))
    }
}

/// What was allocated, used and held of one slot. Amounts of the slot times milliseconds:
/// thousandths, or bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spending {
    /// While sessions were RUNNING.
    pub allocated: i128,
    /// Of that, by the agents' samples.
    pub used: i128,
    /// Held before and after it: pulling, starting, stopping.
    pub held: i128,
    /// Of what was allocated, that of which no sample says anything.
    pub gaps: i128,
}

impl Spending {
    fn add(&mut self, other: &Self) {
        self.allocated += other.allocated;
        self.used += other.used;
        self.held += other.held;
        self.gaps += other.gaps;
    }

    /// Nothing at all.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What belongs to one key of a summary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageSum {
    /// Id of what was summed up by; the name where there is no id.
    pub id: String,
    /// What it is called; of a thing that was renamed, as the newest row says.
    pub name: String,
    /// Sessions in it.
    pub sessions: u64,
    /// By slot.
    pub slots: BTreeMap<SlotName, Spending>,
    /// Of all slots that are accelerators.
    pub accelerators: Spending,
}

impl UsageRow {
    /// What of it lies in a stretch of time, as far as it goes by now.
    #[must_use]
    pub fn spending(&self, stretch: Stretch, now: Timestamp) -> Spending {
        let amount = i128::from(self.amount);
        let to = self.to.unwrap_or(now).max(self.from);
        let length = |cut: Option<(Timestamp, Timestamp)>| {
            cut.map_or(0, |(from, to)| i128::from(to.since(from)))
        };
        let whole = length(stretch.cut(self.from, to));
        let Some(ran) = self.billable_from else {
            return Spending {
                held: amount * whole,
                ..Spending::default()
            };
        };
        // A claim may end before the session is known to have rested, and the other way round.
        let rested = self.billable_to.unwrap_or(to).min(to).max(ran);
        let runs = i128::from(rested.since(ran));
        let inside = stretch.cut(ran, rested);
        let allocated = length(inside);
        // What was measured is taken to be spread evenly. Counting from the beginning to both
        // ends, the parts of neighbouring stretches are the whole, to the last millisecond.
        let part = |ms: i64| {
            let ms = i128::from(ms).min(runs);
            let up_to = |at: Timestamp| match runs {
                0 => 0,
                runs => ms * i128::from(at.since(ran)) / runs,
            };
            inside.map_or(0, |(from, to)| up_to(to) - up_to(from))
        };
        let measured = part(self.measured_ms.max(0));
        Spending {
            allocated: amount * allocated,
            used: amount * part(self.busy_ms.min(self.measured_ms).max(0)),
            held: amount * (whole - allocated).max(0),
            gaps: amount * (allocated - measured).max(0),
        }
    }

    fn key_of(&self, by: UsageBy) -> Option<(String, String)> {
        Some(match by {
            UsageBy::User => (self.owner.to_string(), self.owner_name.clone()),
            UsageBy::Project => (self.project.to_string(), self.project_name.clone()),
            UsageBy::Domain => (self.domain.to_string(), self.domain_name.clone()),
            UsageBy::Group => (self.group.to_string(), self.group_name.clone()),
            UsageBy::Model => match self.device.is_some() && !self.model.is_empty() {
                true => (self.model.clone(), self.model.clone()),
                false => return None,
            },
            UsageBy::Session => {
                let id = self.key.session.to_string();
                (id.clone(), id)
            }
            UsageBy::Total => (String::new(), String::new()),
            UsageBy::Day | UsageBy::Month => return None,
        })
    }
}

/// Sums up rows, one after the other: there may be many.
#[derive(Debug)]
pub struct Summary {
    by: UsageBy,
    stretch: Stretch,
    now: Timestamp,
    sums: BTreeMap<String, Adding>,
}

#[derive(Debug, Default)]
struct Adding {
    sum: UsageSum,
    sessions: std::collections::BTreeSet<SessionId>,
    /// When the row began that gave it its name.
    named: Option<Timestamp>,
}

impl Summary {
    /// Nothing yet.
    #[must_use]
    pub const fn new(by: UsageBy, stretch: Stretch, now: Timestamp) -> Self {
        Self {
            by,
            stretch,
            now,
            sums: BTreeMap::new(),
        }
    }

    /// How many sums there are so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there is none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Takes a row in.
    pub fn take(&mut self, row: &UsageRow) {
        if let UsageBy::Day | UsageBy::Month = self.by {
            let to = row.to.unwrap_or(self.now);
            let Some((mut from, to)) = self.stretch.cut(row.from, to) else {
                return;
            };
            while from < to {
                let (name, next) = calendar(from, self.by);
                let piece = Stretch {
                    since: Some(from),
                    until: Some(next.min(to)),
                };
                self.add((name.clone(), name), row, piece);
                from = next;
            }
        } else if let Some(key) = row.key_of(self.by) {
            self.add(key, row, self.stretch);
        }
    }

    fn add(&mut self, (id, name): (String, String), row: &UsageRow, stretch: Stretch) {
        let spending = row.spending(stretch, self.now);
        if spending.is_nothing() {
            return;
        }
        let adding = self.sums.entry(id.clone()).or_default();
        let sum = &mut adding.sum;
        sum.id = id;
        if adding.named <= Some(row.from) {
            adding.named = Some(row.from);
            sum.name = name;
        }
        adding.sessions.insert(row.key.session);
        sum.slots
            .entry(row.slot.clone())
            .or_default()
            .add(&spending);
        if row.slot.is_accelerator() {
            sum.accelerators.add(&spending);
        }
    }

    /// The sums, by id.
    #[must_use]
    pub fn done(self) -> Vec<UsageSum> {
        let all = self.sums.into_values();
        all.map(|adding| UsageSum {
            sessions: adding.sessions.len() as u64,
            ..adding.sum
        })
        .collect()
    }
}

const DAY_MS: i64 = 86_400_000;

/// The day or month an instant lies in, and the first instant behind it.
fn calendar(at: Timestamp, by: UsageBy) -> (String, Timestamp) {
    let day = at.0.div_euclid(DAY_MS);
    let day_text = Timestamp(day * DAY_MS).to_string();
    match by {
        UsageBy::Month => {
            let month: String = day_text.chars().take(7).collect();
            let mut next = day + 1;
            // At most 31 steps: the text of an instant knows the calendar.
            while Timestamp(next * DAY_MS).to_string().starts_with(&month) {
                next += 1;
            }
            (month, Timestamp(next * DAY_MS))
        }
        _ => {
            let name = day_text.chars().take(10).collect();
            (name, Timestamp((day + 1) * DAY_MS))
        }
    }
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
