//! Everything the coordinator keeps in memory, and the one way to change it.
//!
//! Sessions that are final and confirmed are forgotten here; the store keeps them.
//! The indexes are answers to questions asked often; each is rebuilt from the rows
//! it speaks of whenever one of them changes, so none can drift.

use super::change::Change;
use super::entities::{
    Agent, Group, Idempotency, JoinToken, Keypair, LedgerRow, Meta, Session, User,
};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::devices::Occupied;
use longshore_common::ids::{
    AgentId, ContainerKey, CoordinatorGeneration, DeviceId, GroupId, SessionId, UserId,
};
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Place in a queue: higher priority first, then the older, then the lower number.
pub type QueueKey = (Reverse<u8>, Timestamp, SessionId);

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
    fn open(&mut self, row: &LedgerRow, first_of_container: bool) {
        self.containers += u32::from(first_of_container);
        let sum = self.slots.amount(&row.slot).saturating_add(row.amount);
        self.slots.set(row.slot.clone(), sum);
        if let Some(device) = &row.device {
            *self.devices.entry(device.clone()).or_insert(0) += row.amount;
        }
    }
}

type RowId = (SlotName, Option<DeviceId>);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Facts of the installation.
    pub meta: Meta,
    /// People.
    pub users: BTreeMap<UserId, User>,
    /// Keypairs by access key.
    pub keypairs: BTreeMap<String, Keypair>,
    /// Resource groups.
    pub groups: BTreeMap<GroupId, Group>,
    /// Nodes.
    pub agents: BTreeMap<AgentId, Agent>,
    /// Join tokens by their public part.
    pub tokens: BTreeMap<String, JoinToken>,
    /// Sessions that are not settled.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Open claims per container.
    pub ledger: BTreeMap<ContainerKey, BTreeMap<RowId, LedgerRow>>,
    /// Requests that may be repeated.
    pub idempotency: BTreeMap<(UserId, String), Idempotency>,
    queues: BTreeMap<GroupId, BTreeSet<QueueKey>>,
    on_agent: BTreeMap<AgentId, BTreeSet<ContainerKey>>,
    rows_on_agent: BTreeMap<AgentId, BTreeSet<ContainerKey>>,
    agent_use: BTreeMap<AgentId, AgentUse>,
    names: BTreeMap<(UserId, String), SessionId>,
    deadlines: BTreeSet<(Timestamp, SessionId)>,
    idempotency_age: BTreeSet<(Timestamp, UserId, String)>,
}

impl State {
    /// An installation with nothing in it.
    #[must_use]
    pub fn new(meta: Meta) -> Self {
        Self {
            meta,
            users: BTreeMap::new(),
            keypairs: BTreeMap::new(),
            groups: BTreeMap::new(),
            agents: BTreeMap::new(),
            tokens: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ledger: BTreeMap::new(),
            idempotency: BTreeMap::new(),
            queues: BTreeMap::new(),
            on_agent: BTreeMap::new(),
            rows_on_agent: BTreeMap::new(),
            agent_use: BTreeMap::new(),
            names: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            idempotency_age: BTreeSet::new(),
        }
    }

    /// Takes a stored change in. Cannot fail.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Meta(meta) => self.meta = meta.clone(),
            Change::User(user) => {
                self.users.insert(user.id, user.clone());
            }
            Change::Keypair(keypair) => {
                self.keypairs
                    .insert(keypair.access_key.clone(), keypair.clone());
            }
            Change::Group(group) => {
                self.groups.insert(group.id, group.clone());
            }
            Change::Agent(agent) => {
                self.agents.insert(agent.id, (**agent).clone());
            }
            Change::Token(token) => {
                self.tokens.insert(token.id.clone(), token.clone());
            }
            Change::TokenDeleted(id) => {
                self.tokens.remove(id);
            }
            Change::Session(session) => self.apply_session(session),
            Change::History(_) => (),
            Change::LedgerOpened(row) => {
                let known = self
                    .ledger
                    .entry(row.key)
                    .or_default()
                    .insert((row.slot.clone(), row.device.clone()), row.clone());
                let first = self
                    .rows_on_agent
                    .entry(row.agent)
                    .or_default()
                    .insert(row.key);
                if known.is_none() {
                    // Only adds, so that reading a full ledger takes no square of its length.
                    self.agent_use
                        .entry(row.agent)
                        .or_default()
                        .open(row, first);
                } else {
                    self.recount(row.agent);
                }
            }
            Change::QuotaFreed { key, at } => {
                for row in self
                    .ledger
                    .get_mut(key)
                    .into_iter()
                    .flat_map(BTreeMap::values_mut)
                {
                    row.quota_freed_at.get_or_insert(*at);
                }
            }
            Change::LedgerClosed { key, .. } => {
                let rows = self.ledger.remove(key).unwrap_or_default();
                let agents: BTreeSet<AgentId> = rows.values().map(|r| r.agent).collect();
                for agent in agents {
                    if let Some(keys) = self.rows_on_agent.get_mut(&agent) {
                        keys.remove(key);
                        if keys.is_empty() {
                            self.rows_on_agent.remove(&agent);
                        }
                    }
                    self.recount(agent);
                }
            }
            Change::Idempotency(entry) => {
                self.idempotency_age
                    .insert((entry.at, entry.caller, entry.key.clone()));
                self.idempotency
                    .insert((entry.caller, entry.key.clone()), entry.clone());
            }
            Change::IdempotencyForgotten { caller, key } => {
                if let Some(entry) = self.idempotency.remove(&(*caller, key.clone())) {
                    self.idempotency_age
                        .remove(&(entry.at, *caller, key.clone()));
                }
            }
        }
    }

    fn apply_session(&mut self, session: &Session) {
        if let Some(old) = self.sessions.remove(&session.id) {
            self.unindex(&old);
        }
        if session.is_settled() {
            return;
        }
        self.index(session);
        self.sessions.insert(session.id, session.clone());
    }

    fn index(&mut self, session: &Session) {
        if session.state == SessionState::Pending {
            self.queues
                .entry(session.group)
                .or_default()
                .insert(queue_key(session));
        }
        if let (Some(name), false) = (&session.name, session.state.is_final()) {
            self.names.insert((session.owner, name.clone()), session.id);
        }
        if let Some(at) = session.next_deadline() {
            self.deadlines.insert((at, session.id));
        }
        for container in session.containers.iter().filter(|c| !c.is_closed()) {
            self.on_agent
                .entry(container.agent)
                .or_default()
                .insert(container.key);
        }
    }

    fn unindex(&mut self, session: &Session) {
        if session.state == SessionState::Pending
            && let Some(queue) = self.queues.get_mut(&session.group)
        {
            queue.remove(&queue_key(session));
            if queue.is_empty() {
                self.queues.remove(&session.group);
            }
        }
        if let Some(name) = &session.name {
            // A final session has given its name back: another may have it by now.
            let name = (session.owner, name.clone());
            if self.names.get(&name) == Some(&session.id) {
                self.names.remove(&name);
            }
        }
        if let Some(at) = session.next_deadline() {
            self.deadlines.remove(&(at, session.id));
        }
        for container in &session.containers {
            if let Some(keys) = self.on_agent.get_mut(&container.agent) {
                keys.remove(&container.key);
                if keys.is_empty() {
                    self.on_agent.remove(&container.agent);
                }
            }
        }
    }

    /// Sums up the open rows of one agent anew.
    fn recount(&mut self, agent: AgentId) {
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
        usage
    }

    /// What is taken on an agent.
    #[must_use]
    pub fn agent_use(&self, agent: AgentId) -> AgentUse {
        self.agent_use.get(&agent).cloned().unwrap_or_default()
    }

    /// The same without a copy; none = nothing.
    #[must_use]
    pub fn agent_use_ref(&self, agent: AgentId) -> Option<&AgentUse> {
        self.agent_use.get(&agent)
    }

    /// Waiting sessions of a group in their order.
    pub fn queue(&self, group: GroupId) -> impl Iterator<Item = &Session> {
        self.queues
            .get(&group)
            .into_iter()
            .flatten()
            .filter_map(|(_, _, id)| self.sessions.get(id))
    }

    /// Groups in which somebody waits.
    pub fn groups_with_pending(&self) -> impl Iterator<Item = GroupId> {
        self.queues.keys().copied()
    }

    /// How many wait in a group.
    #[must_use]
    pub fn pending_count(&self, group: GroupId) -> usize {
        self.queues.get(&group).map_or(0, BTreeSet::len)
    }

    /// Containers on an agent that are not closed.
    pub fn on_agent(&self, agent: AgentId) -> impl Iterator<Item = ContainerKey> {
        self.on_agent.get(&agent).into_iter().flatten().copied()
    }

    /// The live session of this name.
    #[must_use]
    pub fn session_by_name(&self, owner: UserId, name: &str) -> Option<SessionId> {
        self.names.get(&(owner, name.to_owned())).copied()
    }

    /// Sessions whose deadline is at or before `now`.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<SessionId> {
        self.deadlines
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect()
    }

    /// The next instant at which something is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Requests that were made before `before`, at most `most`.
    #[must_use]
    pub fn old_idempotency(&self, before: Timestamp, most: usize) -> Vec<(UserId, String)> {
        self.idempotency_age
            .iter()
            .take_while(|(at, ..)| *at < before)
            .take(most)
            .map(|(_, caller, key)| (*caller, key.clone()))
            .collect()
    }

    /// A group by name (any case) or id.
    #[must_use]
    pub fn group_by_ref(&self, text: &str) -> Option<&Group> {
        match text.parse::<GroupId>() {
            Ok(id) => self.groups.get(&id),
            Err(_) => self
                .groups
                .values()
                .find(|g| g.name.eq_ignore_ascii_case(text)),
        }
    }

    /// An agent by name (any case) or id; those that are not TERMINATED come first.
    #[must_use]
    pub fn agent_by_ref(&self, text: &str) -> Option<&Agent> {
        use longshore_common::agent::AgentState::Terminated;
        match text.parse::<AgentId>() {
            Ok(id) => self.agents.get(&id),
            Err(_) => self
                .agents
                .values()
                .filter(|a| a.name.eq_ignore_ascii_case(text))
                .min_by_key(|a| a.state == Terminated),
        }
    }

    /// The generation of this life of the coordinator.
    #[must_use]
    pub fn generation(&self) -> CoordinatorGeneration {
        self.meta.generation
    }

    /// Demands that every index says what the rows say. For tests; costs a walk over everything.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self) -> Result<(), String> {
        let mut rebuilt = Self::new(self.meta.clone());
        for row in self.ledger.values().flat_map(BTreeMap::values) {
            rebuilt.apply(&Change::LedgerOpened(row.clone()));
        }
        for session in self.sessions.values() {
            rebuilt.apply(&Change::Session(Box::new(session.clone())));
        }
        if rebuilt.agent_use != self.agent_use {
            return Err("use by agent differs from the ledger".to_owned());
        }
        if rebuilt.queues != self.queues || rebuilt.deadlines != self.deadlines {
            return Err("a queue or deadline differs from the sessions".to_owned());
        }
        if rebuilt.on_agent != self.on_agent || rebuilt.names != self.names {
            return Err("an index of sessions differs from the sessions".to_owned());
        }
        for (agent, usage) in &self.agent_use {
            let Some(inventory) = self.agents.get(agent).and_then(|a| a.inventory.as_ref()) else {
                continue;
            };
            for (device, amount) in &usage.devices {
                let capacity = inventory
                    .devices
                    .iter()
                    .find(|d| d.id == *device)
                    .map(|d| d.capacity);
                if capacity.is_some_and(|c| *amount > c) {
                    return Err(format!("device {device} of {agent} is given out twice"));
                }
            }
        }
        for session in self.sessions.values() {
            let open = session.containers.iter().filter(|c| !c.is_closed());
            for container in open {
                if !self.ledger.contains_key(&container.key) {
                    return Err(format!("container {} holds no claim", container.key));
                }
            }
            if session.state == SessionState::Pending && session.present().next().is_some() {
                return Err(format!("{} is pending and placed", session.id));
            }
        }
        Ok(())
    }
}

fn queue_key(session: &Session) -> QueueKey {
    (Reverse(session.priority), session.created_at, session.id)
}
