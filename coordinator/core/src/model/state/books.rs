//! The books: what open claims add up to, by agent and by account.
//!
//! Each sum is that of its rows. A row that is opened or closed is added or taken off where it
//! stands; nothing counts by itself.

use super::State;
use crate::model::entities::{LedgerRow, QueueSeat, Session};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::devices::Occupied;
use longshore_common::ids::{
    AgentId, Attempt, ContainerKey, DeviceId, DomainId, GroupId, ProjectId, SessionId, UserId,
};
use longshore_common::session::SessionType;
use longshore_common::wire::Claim;
use std::collections::{BTreeMap, BTreeSet};

/// What is taken on one agent: the sum of its open ledger rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentUse {
    /// Per slot.
    pub slots: Slots,
    /// Per device.
    pub devices: Occupied,
    /// Containers that are not closed.
    pub containers: u32,
}

impl AgentUse {
    /// What a container holds that no order names.
    fn hold(&mut self, claim: &Claim) {
        self.containers += 1;
        for (slot, amount) in claim.slots.iter() {
            let sum = self.slots.amount(slot).saturating_add(amount);
            self.slots.set(slot.clone(), sum);
        }
        for grant in &claim.devices {
            *self.devices.entry(grant.device.clone()).or_insert(0) += grant.amount;
        }
    }

    fn open(&mut self, row: &LedgerRow, first_of_container: bool) {
        self.containers += u32::from(first_of_container);
        let sum = self.slots.amount(&row.slot).saturating_add(row.amount);
        self.slots.set(row.slot.clone(), sum);
        if let Some(device) = &row.device {
            *self.devices.entry(device.clone()).or_insert(0) += row.amount;
        }
    }
}

pub(super) type RowId = (SlotName, Option<DeviceId>);

/// Whose use is added up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// Sessions asked for with one keypair.
    Keypair(String),
    /// Sessions of one person.
    User(UserId),
    /// Sessions in one project.
    Project(ProjectId),
    /// Sessions of one domain's people.
    Domain(DomainId),
    /// Sessions of one person in one resource group.
    InGroup(GroupId, UserId),
    /// Sessions of an allocation policy, by its name.
    Policy(String),
    /// Sessions dispatched to a pool, by its name; until nodes have confirmed.
    Pool(String),
    /// Sessions of a group that came through no queue; until nodes have confirmed.
    Direct(GroupId),
}

/// What an account holds: always the sum over rows, never a counter of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Per slot.
    pub slots: Slots,
    /// Sessions, those of type system left out.
    pub sessions: u32,
    /// Those of type system.
    pub system_sessions: u32,
    /// Allotments of sessions that came through queues, in thousandths.
    pub allotted: i64,
}

impl Usage {
    fn is_nothing(&self) -> bool {
        self.slots.is_empty()
            && (self.sessions, self.system_sessions) == (0, 0)
            && self.allotted == 0
    }
}

/// Who answers for the rows of one attempt of a session; kept until the last of them is
/// closed. An attempt that was taken back may leave rows in one pool while the next runs in
/// another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payer {
    keypair: String,
    user: UserId,
    project: ProjectId,
    domain: DomainId,
    group: GroupId,
    counts: bool,
    seat: Option<Box<QueueSeat>>,
    /// Containers whose rows count against the owner.
    held: u32,
    /// Containers whose rows are open.
    open: u32,
}

impl Payer {
    fn of(session: &Session, attempt: Attempt) -> Self {
        // Of one that is over, what it was placed in; the session may be elsewhere by now.
        let past = session.attempts.iter().find(|a| a.attempt == attempt.0);
        let mut seat = session.queue.clone();
        if let (Some(seat), Some(past)) = (&mut seat, past) {
            seat.pool.clone_from(&past.pool);
        }
        Self {
            keypair: session.access_key.clone(),
            user: session.owner,
            project: session.project,
            domain: session.domain,
            group: past.map_or(session.group, |past| past.group),
            counts: session.kind != SessionType::System,
            seat,
            held: 0,
            open: 0,
        }
    }

    /// Whether a slot of its counts in an account: where shares are made of what somebody has,
    /// all does; against limits of a system session its memory alone.
    fn pays(&self, account: &Account, slot: &SlotName) -> bool {
        self.counts || matches!(account, Account::InGroup(..)) || *slot == SlotName::mem()
    }

    /// How many sessions of its kind, and system ones, begin or end with it.
    fn sessions(&self, any: bool) -> (u32, u32) {
        (
            u32::from(any && self.counts),
            u32::from(any && !self.counts),
        )
    }

    fn accounts(&self) -> [Account; 5] {
        [
            Account::Keypair(self.keypair.clone()),
            Account::User(self.user),
            Account::Project(self.project),
            Account::Domain(self.domain),
            Account::InGroup(self.group, self.user),
        ]
    }
}

impl State {
    pub(super) fn open_row(&mut self, row: &LedgerRow) {
        let rows = self.ledger.entry(row.key).or_default();
        let (first_row, held_before) = (
            rows.is_empty(),
            rows.values().any(|r| r.quota_freed_at.is_none()),
        );
        let known = rows.insert((row.slot.clone(), row.device.clone()), row.clone());
        let first = self
            .rows_on_agent
            .entry(row.agent)
            .or_default()
            .insert(row.key);
        if known.is_some() {
            self.recount(row.agent);
            return;
        }
        // Only adds, so that reading a full ledger takes no square of its length.
        self.agent_use
            .entry(row.agent)
            .or_default()
            .open(row, first);
        if let Some(session) = self.sessions.get(&row.key.session) {
            self.payers
                .entry((row.key.session, row.key.attempt))
                .or_insert_with(|| Payer::of(session, row.key.attempt));
        }
        let Some(payer) = self.payers.get_mut(&(row.key.session, row.key.attempt)) else {
            return;
        };
        let first_open = payer.open == 0;
        payer.open += u32::from(first_row);
        let direct = payer.seat.is_none();
        if let (true, Some(seat)) = (first_open, &payer.seat)
            && let Some(pool) = &seat.pool
        {
            let usage = self.usage.entry(Account::Pool(pool.clone())).or_default();
            usage.allotted = usage.allotted.saturating_add(seat.allotment);
        }
        if direct {
            let account = Account::Direct(payer.group);
            add_to(&mut self.usage, account, &row.slot, row.amount);
        }
        if row.quota_freed_at.is_some() {
            return;
        }
        let first_held = payer.held == 0;
        payer.held += u32::from(!held_before);
        let (counted, system) = payer.sessions(first_held);
        let seat = payer.seat.clone().filter(|_| first_held);
        for account in payer.accounts() {
            let usage = self.usage.entry(account.clone()).or_default();
            usage.sessions += counted;
            usage.system_sessions += system;
            if payer.pays(&account, &row.slot) {
                add_to(&mut self.usage, account, &row.slot, row.amount);
            }
        }
        if let Some(seat) = seat {
            let usage = self.usage.entry(Account::Policy(seat.policy)).or_default();
            usage.allotted = usage.allotted.saturating_add(seat.allotment);
        }
    }

    /// Takes the rows of a container off its owner's use, those that still count.
    pub(super) fn free_quota(&mut self, key: ContainerKey) {
        let held: Vec<(SlotName, i64)> = self
            .ledger
            .get(&key)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|r| r.quota_freed_at.is_none())
            .map(|r| (r.slot.clone(), r.amount))
            .collect();
        if held.is_empty() {
            return;
        }
        let Some(payer) = self.payers.get_mut(&(key.session, key.attempt)) else {
            return;
        };
        payer.held = payer.held.saturating_sub(1);
        let last = payer.held == 0;
        let payer = payer.clone();
        let (counted, system) = payer.sessions(last);
        let seat = payer.seat.clone().filter(|_| last);
        for account in payer.accounts() {
            for (slot, amount) in held.iter().filter(|(slot, _)| payer.pays(&account, slot)) {
                add_to(&mut self.usage, account.clone(), slot, -amount);
            }
            if let Some(usage) = self.usage.get_mut(&account) {
                usage.sessions = usage.sessions.saturating_sub(counted);
                usage.system_sessions = usage.system_sessions.saturating_sub(system);
            }
            self.drop_empty(&account);
        }
        if let Some(seat) = seat {
            let account = Account::Policy(seat.policy);
            if let Some(usage) = self.usage.get_mut(&account) {
                usage.allotted = usage.allotted.saturating_sub(seat.allotment);
            }
            self.drop_empty(&account);
        }
    }

    pub(super) fn close_rows(&mut self, key: ContainerKey) {
        self.free_quota(key);
        let rows = self.ledger.remove(&key).unwrap_or_default();
        if rows.is_empty() {
            return;
        }
        if let Some(payer) = self.payers.get_mut(&(key.session, key.attempt)) {
            payer.open = payer.open.saturating_sub(1);
            let last = payer.open == 0;
            let account = match &payer.seat {
                None => Some(Account::Direct(payer.group)),
                Some(seat) => seat.pool.clone().map(Account::Pool),
            };
            let seat = payer.seat.clone();
            if let Some(account) = account {
                match seat {
                    None => {
                        for row in rows.values() {
                            add_to(&mut self.usage, account.clone(), &row.slot, -row.amount);
                        }
                    }
                    Some(seat) if last => {
                        if let Some(usage) = self.usage.get_mut(&account) {
                            usage.allotted = usage.allotted.saturating_sub(seat.allotment);
                        }
                    }
                    Some(_) => (),
                }
                self.drop_empty(&account);
            }
            if last {
                self.payers.remove(&(key.session, key.attempt));
            }
        }
        let agents: BTreeSet<AgentId> = rows.values().map(|r| r.agent).collect();
        for agent in agents {
            if let Some(keys) = self.rows_on_agent.get_mut(&agent) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.rows_on_agent.remove(&agent);
                }
            }
            self.recount(agent);
        }
    }

    fn drop_empty(&mut self, account: &Account) {
        if self.usage.get(account).is_some_and(Usage::is_nothing) {
            self.usage.remove(account);
        }
    }

    /// Sums up the open rows of one agent anew.
    pub(super) fn recount(&mut self, agent: AgentId) {
        let usage = self.sum_of_rows(agent);
        if usage == AgentUse::default() {
            self.agent_use.remove(&agent);
        } else {
            self.agent_use.insert(agent, usage);
        }
    }

    fn sum_of_rows(&self, agent: AgentId) -> AgentUse {
        let mut usage = AgentUse::default();
        for key in self.rows_on_agent.get(&agent).into_iter().flatten() {
            usage.containers += 1;
            for row in self.ledger.get(key).into_iter().flat_map(BTreeMap::values) {
                usage.open(row, false);
            }
        }
        let node = self.agents.get(&agent).into_iter();
        for stranger in node.flat_map(|node| &node.unclaimed) {
            usage.hold(&stranger.claim);
        }
        usage
    }

    /// What is taken on an agent.
    #[must_use]
    pub fn agent_use(&self, agent: AgentId) -> AgentUse {
        self.agent_use.get(&agent).cloned().unwrap_or_default()
    }

    /// How much of a device was given out, without what containers hold that no order names.
    #[must_use]
    pub fn given_out(&self, agent: AgentId, device: &DeviceId) -> i64 {
        let held = self.agent_use.get(&agent);
        let held = held.and_then(|held| held.devices.get(device));
        let strays = self.agents.get(&agent).map_or(&[][..], |a| &a.unclaimed);
        let strays = strays.iter().flat_map(|u| &u.claim.devices);
        let of_strays = strays.filter(|grant| grant.device == *device);
        let of_strays: i64 = of_strays.map(|grant| grant.amount).sum();
        held.copied().unwrap_or(0).saturating_sub(of_strays)
    }

    /// The same without a copy; none = nothing.
    #[must_use]
    pub fn agent_use_ref(&self, agent: AgentId) -> Option<&AgentUse> {
        self.agent_use.get(&agent)
    }

    /// What an account holds.
    #[must_use]
    pub fn usage(&self, account: &Account) -> Usage {
        self.usage.get(account).cloned().unwrap_or_default()
    }

    /// The same without a copy; none = nothing.
    #[must_use]
    pub fn usage_ref(&self, account: &Account) -> Option<&Usage> {
        self.usage.get(account)
    }

    /// What the waiting sessions of a keypair or user ask for, and how many they are.
    #[must_use]
    pub fn waiting(&self, account: &Account) -> Usage {
        self.waiting.get(account).cloned().unwrap_or_default()
    }

    /// The accounts a session's rows count in, while it has any.
    #[must_use]
    pub fn accounts_of(&self, id: SessionId) -> Vec<Account> {
        let payer = self.last_payer(id).map(Payer::accounts);
        let session = || {
            let session = self.sessions.get(&id);
            session.map(|s| Payer::of(s, s.attempt).accounts())
        };
        payer.or_else(session).into_iter().flatten().collect()
    }

    /// Who answers for the rows of a session's last attempt that has any.
    fn last_payer(&self, id: SessionId) -> Option<&Payer> {
        let attempts = (id, Attempt(0))..=(id, Attempt(u32::MAX));
        self.payers
            .range(attempts)
            .next_back()
            .map(|(_, payer)| payer)
    }

    /// Whether a session came through a queue, as far as its rows say.
    #[must_use]
    pub fn is_queued(&self, id: SessionId) -> bool {
        match self.last_payer(id) {
            Some(payer) => payer.seat.is_some(),
            None => self.sessions.get(&id).is_some_and(|s| s.queue.is_some()),
        }
    }
}

fn add_to(usage: &mut BTreeMap<Account, Usage>, account: Account, slot: &SlotName, amount: i64) {
    let usage = usage.entry(account).or_default();
    let sum = usage.slots.amount(slot).saturating_add(amount);
    usage.slots.set(slot.clone(), sum);
}
