//! Indexes beside the state, and one pass over them.
//!
//! The planner keeps nothing that the state does not say: [`Planner::note`] tells it what
//! is about to differ, [`Planner::plan`] reads those things anew and decides. What it
//! decides it books in its own copies and marks as different, so that the next pass
//! starts from what was really stored. A planner made from scratch decides the same.
//!
//! Sessions that differ in nothing the rules look at stand in one *lane*: same group,
//! priority, shape and requester. If the first of a lane is at a limit, so are all. Lanes
//! of one group, priority and shape are a *class*: if one finds no room, none does, and a
//! try is counted for all. So a pass looks at lanes and classes, never at each session.

use super::limits::{LayerKind, Requester, layers};
use super::nodes::{Nodes, Place, Vector, Wish, fits};
use super::share::Share;
use super::{Cancel, Decisions, Placed, Start};
use crate::bugs;
use crate::model::{Account, Agent, Change, Charge, Cursor, Discipline, Selection, Session, State};
use longshore_common::agent::{AgentState, Inventory};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::devices::{Occupied, allocate, granted};
use longshore_common::ids::{AgentId, GroupId, SessionId, UserId};
use longshore_common::session::{ClusterMode, DeviceGrant, Reason, SessionState};
use longshore_common::time::Timestamp;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// Most containers on one agent: a desired set holds 1,024 entries and is always whole.
pub(super) const CONTAINERS_MAX: u32 = 1000;

/// Order inside a lane and between lanes: creation order, or its reverse.
type Key = (i64, i64);

/// What decides whether a session fits: of two of one group with equal shape either both
/// fit or neither.
#[derive(Debug)]
pub(super) struct Shape {
    key: String,
    users: usize,
    pub(super) arch: Option<u16>,
    arch_name: String,
    pub(super) mode: ClusterMode,
    /// Per rank.
    pub(super) ranks: Vec<Arc<Slots>>,
    vectors: Vec<Vector>,
    /// All ranks together.
    pub(super) total: Vector,
    designated: Vec<AgentId>,
    strict: bool,
    by_admin: bool,
}

impl Shape {
    /// Whether somebody of this shape might be helped by an agent with so much free.
    fn may_fit(&self, free: &[i64]) -> bool {
        match self.mode {
            ClusterMode::SingleNode => fits(free, &self.total),
            ClusterMode::MultiNode => self.vectors.iter().any(|v| fits(free, v)),
        }
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: AgentId,
    group: u32,
    arch: u16,
    /// Takes new work.
    candidate: bool,
    /// Would take new work if it were not switched off.
    ready: bool,
    pub(super) capacity: Vector,
    pub(super) occupied: Occupied,
    inventory: Option<Arc<Inventory>>,
    /// Slots it has as devices.
    device_slots: u128,
}

#[derive(Debug)]
pub(super) struct Class {
    group: u32,
    priority: u8,
    pub(super) shape: u32,
    /// Tells apart sessions that were given tries of their own; 0 = the others.
    salt: u64,
    /// Lanes with somebody ready who is not known to be at a limit.
    lanes: BTreeSet<(Key, u32)>,
    /// All its lanes.
    all_lanes: BTreeSet<u32>,
    /// Sessions that are ready.
    ready: usize,
    pub(super) retries: u32,
    pub(super) last_charged: Option<Timestamp>,
    stored: bool,
    /// No room, and none came back since that could help.
    pub(super) full: bool,
    /// Whether anybody could hold it when empty, as of this epoch of the group.
    never: Option<(u64, bool)>,
}

#[derive(Debug)]
pub(super) struct Lane {
    /// None for sessions of queues.
    class: Option<u32>,
    key: LaneKey,
    shape: u32,
    /// Keypair, user, project, domain: those that limit.
    layers: Vec<u32>,
    in_group: u32,
    user: u32,
    counts: bool,
    sessions: BTreeSet<Key>,
    /// At a limit of this account.
    parked: Option<u32>,
    members: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LaneKey {
    group: u32,
    queue: Option<String>,
    priority: u8,
    shape: u32,
    salt: u64,
    keypair: String,
    user: UserId,
    project: longshore_common::ids::ProjectId,
    domain: longshore_common::ids::DomainId,
    counts: bool,
}

#[derive(Debug)]
struct Ledger {
    account: Account,
    used: Vector,
    sessions: u32,
    limits: Option<Vector>,
    max_sessions: u32,
    parked: BTreeSet<u32>,
    weight: i64,
    share: Share,
}

/// Where a group was stopped by a session that found no room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopped {
    pub(super) head: SessionId,
    pub(super) priority: u8,
}

#[derive(Debug)]
pub(super) struct Queueing {
    pub(super) id: GroupId,
    active: bool,
    pub(super) discipline: Discipline,
    selection: Selection,
    pub(super) skip_after: u32,
    bands: BTreeMap<Reverse<u8>, BTreeSet<u32>>,
    pub(super) nodes: Nodes,
    /// Raised when what its agents could hold when empty changes.
    epoch: u64,
    /// What its candidates have in all.
    pub(super) capacity: Vector,
    capacity_epoch: Option<u64>,
    touched: bool,
    pub(super) stopped: Option<Stopped>,
    next_charge: Option<Timestamp>,
    pub(super) pool: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Seat {
    lane: u32,
    key: Key,
    pub(super) ready: bool,
    /// In the order of its queue, for sessions of queues.
    pub(super) queue: Option<(Reverse<u8>, Timestamp, SessionId)>,
    timer: Option<Timestamp>,
    timeout: Option<Timestamp>,
}

/// See the module.
#[derive(Debug)]
pub struct Planner {
    stale: bool,
    slots: Vec<SlotName>,
    accelerators: usize,
    archs: Vec<String>,
    pub(super) nodes: Vec<Node>,
    pub(super) places: Vec<Place>,
    node_of: FxHashMap<AgentId, u32>,
    pub(super) groups: Vec<Queueing>,
    pub(super) group_of: FxHashMap<GroupId, u32>,
    accounts: Vec<Ledger>,
    account_of: FxHashMap<Account, u32>,
    shapes: Vec<Option<Shape>>,
    shape_of: FxHashMap<String, u32>,
    classes: Vec<Option<Class>>,
    class_of: FxHashMap<(u32, u8, u32, u64), u32>,
    lanes: Vec<Option<Lane>>,
    free_shapes: Vec<u32>,
    free_classes: Vec<u32>,
    free_lanes: Vec<u32>,
    lane_of: FxHashMap<LaneKey, u32>,
    pub(super) seats: FxHashMap<SessionId, Seat>,
    /// Waiting sessions of queues that are ready, in the order of their queue.
    pub(super) queues: BTreeMap<String, BTreeSet<(Reverse<u8>, Timestamp, SessionId)>>,
    pub(super) queues_touched: bool,
    timers: BTreeSet<(Timestamp, SessionId)>,
    timeouts: BTreeSet<(Timestamp, SessionId)>,
    dirty_sessions: Vec<SessionId>,
    dirty_agents: Vec<AgentId>,
    dirty_accounts: Vec<u32>,
    forgotten: BTreeSet<(GroupId, u8, String)>,
    interval_ms: i64,
    /// Some sessions were given tries of their own.
    salted: bool,
    cursors: FxHashMap<(GroupId, String), u32>,
    pub(super) books: super::dispatch::Books,
}

impl Default for Planner {
    fn default() -> Self {
        Self::new()
    }
}

impl Planner {
    /// A planner that knows nothing yet; it reads the whole state at its first pass.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stale: true,
            slots: Vec::new(),
            accelerators: 0,
            archs: Vec::new(),
            nodes: Vec::new(),
            places: Vec::new(),
            node_of: FxHashMap::default(),
            groups: Vec::new(),
            group_of: FxHashMap::default(),
            accounts: Vec::new(),
            account_of: FxHashMap::default(),
            shapes: Vec::new(),
            shape_of: FxHashMap::default(),
            classes: Vec::new(),
            class_of: FxHashMap::default(),
            lanes: Vec::new(),
            free_shapes: Vec::new(),
            free_classes: Vec::new(),
            free_lanes: Vec::new(),
            lane_of: FxHashMap::default(),
            seats: FxHashMap::default(),
            queues: BTreeMap::new(),
            queues_touched: false,
            timers: BTreeSet::new(),
            timeouts: BTreeSet::new(),
            dirty_sessions: Vec::new(),
            dirty_agents: Vec::new(),
            dirty_accounts: Vec::new(),
            forgotten: BTreeSet::new(),
            interval_ms: 10_000,
            salted: false,
            cursors: FxHashMap::default(),
            books: super::dispatch::Books::default(),
        }
    }

    /// Something is about to differ: call this before the state takes the change in.
    pub fn note(&mut self, state: &State, change: &Change) {
        if self.stale {
            return;
        }
        match change {
            Change::Session(session) => {
                let waits = session.state == SessionState::Pending;
                if waits || self.seats.contains_key(&session.id) {
                    self.dirty_sessions.push(session.id);
                }
            }
            Change::LedgerOpened(row) => {
                self.dirty_agents.push(row.agent);
                self.note_payer(state, row.key.session);
            }
            Change::QuotaFreed { key, .. } => self.note_payer(state, key.session),
            Change::LedgerClosed { key, .. } => {
                for row in state.ledger.get(key).into_iter().flat_map(BTreeMap::values) {
                    self.dirty_agents.push(row.agent);
                }
                self.note_payer(state, key.session);
                self.queues_touched = true;
            }
            Change::Agent(agent) => {
                let same = state.agents.get(&agent.id).is_some_and(|old| {
                    old.group == agent.group
                        && old.state == agent.state
                        && old.schedulable == agent.schedulable
                        && old.name == agent.name
                        && old.runtime == agent.runtime
                        && old.disk_low == agent.disk_low
                        && old.inventory == agent.inventory
                });
                if !same {
                    self.dirty_agents.push(agent.id);
                    self.queues_touched = true;
                }
            }
            Change::User(user) => {
                let same = state.users.get(&user.id).is_some_and(|old| {
                    old.active == user.active
                        && old.weight_milli == user.weight_milli
                        && old.username == user.username
                });
                self.stale |= !same && state.users.contains_key(&user.id);
            }
            Change::Keypair(pair) => {
                let same = state.keypairs.get(&pair.access_key) == Some(pair);
                let waits = state.waiting(&Account::User(pair.user)).sessions > 0;
                self.stale |= !same && waits;
            }
            Change::Group(_)
            | Change::GroupDeleted(_)
            | Change::Scheduler(_)
            | Change::Domain(_)
            | Change::Project(_)
            | Change::KeypairPolicy(_)
            | Change::PolicyDeleted(..)
            | Change::Config(_) => self.stale = true,
            _ => (),
        }
    }

    fn note_payer(&mut self, state: &State, session: SessionId) {
        for account in state.accounts_of(session) {
            if let Some(at) = self.account_of.get(&account) {
                self.dirty_accounts.push(*at);
            }
        }
        self.queues_touched |= state.is_queued(session);
    }

    /// Reads what differs without deciding anything.
    pub fn prepare(&mut self, state: &State, now: Timestamp) {
        self.refresh(state, now);
    }

    /// Decides for everything that waits and may be decided now.
    pub fn plan(&mut self, state: &State, now: Timestamp) -> Decisions {
        self.plan_for(state, now, None)
    }

    /// The same for certain groups only, whatever happened in which. So a planner made from
    /// scratch can be held against one that kept up: a pass nobody asked for may let
    /// somebody by a head whose last try has just been counted.
    pub fn plan_for(
        &mut self,
        state: &State,
        now: Timestamp,
        only: Option<&BTreeSet<GroupId>>,
    ) -> Decisions {
        self.refresh(state, now);
        if let Some(only) = only {
            for group in &mut self.groups {
                group.touched = only.contains(&group.id);
                group.next_charge = None;
            }
        }
        let mut decisions = Decisions::default();
        self.time_out(state, now, &mut decisions);
        if self.queues_touched {
            self.queues_touched = false;
            // What pools have left, or owe, may differ for those who wait beside them too.
            for group in self.groups.iter_mut().filter(|g| g.pool.is_some()) {
                group.touched |= only.is_none_or(|only| only.contains(&group.id));
            }
            self.dispatch(state, now, &mut decisions);
        }
        let order = self.groups_by_name(state);
        loop {
            let mut any = false;
            for group in order.iter().copied() {
                let row = &mut self.groups[group as usize];
                let due = row.next_charge.is_some_and(|at| at <= now);
                if std::mem::take(&mut row.touched) || due {
                    any |= row.active;
                    if row.active {
                        decisions.passed.insert(row.id);
                        self.pass(state, group, now, &mut decisions);
                        // Its own starts are no news to it.
                        self.groups[group as usize].touched = false;
                    } else {
                        row.next_charge = None;
                    }
                }
            }
            // A start may have put the head of another group at a limit, which sets free
            // those behind it.
            if !any {
                break;
            }
        }
        for (group, priority, shape) in std::mem::take(&mut self.forgotten) {
            decisions.changes.push(Change::ChargeForgotten {
                group,
                priority,
                shape,
            });
        }
        decisions.next_deadline = self.next_deadline();
        decisions
    }

    /// The next instant at which a pass may decide something although nothing happened.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let news = self.stale || self.queues_touched || self.groups.iter().any(|g| g.touched);
        if news {
            return Some(Timestamp(0)); // at once
        }
        let charges = self.groups.iter().filter_map(|g| g.next_charge);
        let timer = self.timers.first().map(|(at, _)| *at);
        let timeout = self.timeouts.first().map(|(at, _)| *at);
        charges.chain(timer).chain(timeout).min()
    }

    fn groups_by_name(&self, state: &State) -> Vec<u32> {
        let mut groups: Vec<(&str, u32)> = self
            .groups
            .iter()
            .zip(0u32..)
            .map(|(g, at)| (state.groups.get(&g.id).map_or("", |g| g.name.as_str()), at))
            .collect();
        groups.sort_unstable();
        groups.into_iter().map(|(_, at)| at).collect()
    }

    // ----- keeping up with the state

    /// Reads anew what differs.
    pub(super) fn refresh(&mut self, state: &State, now: Timestamp) {
        if !self.stale {
            let known = |slots: &Slots| {
                slots
                    .iter()
                    .all(|(slot, _)| self.slots.binary_search(slot).is_ok())
            };
            let new_slot = self
                .dirty_agents
                .iter()
                .filter_map(|id| state.agents.get(id)?.inventory.as_ref())
                .any(|i| {
                    !known(&i.offered)
                        || i.devices
                            .iter()
                            .any(|d| self.slots.binary_search(&d.slot).is_err())
                })
                || self
                    .dirty_sessions
                    .iter()
                    .filter_map(|id| state.sessions.get(id))
                    .any(|s| !known(&s.total_slots()));
            let new_agent = self
                .dirty_agents
                .iter()
                .any(|id| !self.node_of.contains_key(id));
            self.stale = new_slot || new_agent;
        }
        if self.stale {
            self.rebuild(state, now);
            return;
        }
        let differs = !(self.dirty_agents.is_empty()
            && self.dirty_accounts.is_empty()
            && self.dirty_sessions.is_empty());
        for id in once_each(&mut self.dirty_agents) {
            self.refresh_agent(state, id);
        }
        for at in once_each(&mut self.dirty_accounts) {
            self.refresh_account(state, at);
        }
        for id in once_each(&mut self.dirty_sessions) {
            self.refresh_session(state, id, now);
        }
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.remove(&(at, id));
            self.refresh_session(state, id, now);
        }
        if self.queues_touched || (differs && self.books.is_some()) {
            self.refresh_books(state);
        }
    }

    fn rebuild(&mut self, state: &State, now: Timestamp) {
        let stopped: BTreeMap<GroupId, Option<Stopped>> =
            self.groups.iter().map(|g| (g.id, g.stopped)).collect();
        *self = Self::new();
        self.stale = false;
        self.interval_ms = i64::from(state.scheduler.interval_s.max(1)) * 1000;
        self.queues_touched = true;
        let mut slots = BTreeSet::from([SlotName::cpu(), SlotName::mem()]);
        for inventory in state.agents.values().filter_map(|a| a.inventory.as_ref()) {
            slots.extend(inventory.offered.iter().map(|(slot, _)| slot.clone()));
            slots.extend(inventory.devices.iter().map(|d| d.slot.clone()));
        }
        for session in state.groups.keys().flat_map(|g| state.queue(*g)) {
            slots.extend(session.slots.iter().map(|(slot, _)| slot.clone()));
            for rank in &session.cluster.ranks {
                slots.extend(rank.iter().map(|(slot, _)| slot.clone()));
            }
        }
        self.slots = slots.into_iter().collect();
        self.accelerators = self.slots.iter().filter(|s| s.is_accelerator()).count();
        let dims = self.slots.len() + 1;
        for group in state.groups.values() {
            let at = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
            let selection = group
                .agent_selection
                .unwrap_or(state.scheduler.agent_selection);
            self.groups.push(Queueing {
                id: group.id,
                active: group.active,
                discipline: group.scheduler.unwrap_or(state.scheduler.scheduler),
                selection,
                skip_after: group
                    .retries_to_skip
                    .unwrap_or(state.scheduler.retries_to_skip),
                bands: BTreeMap::new(),
                nodes: Nodes::new(selection, self.accelerators, dims),
                epoch: 0,
                capacity: vec![0; dims].into(),
                capacity_epoch: None,
                touched: true,
                stopped: stopped.get(&group.id).copied().flatten(),
                next_charge: None,
                pool: None,
            });
            self.group_of.insert(group.id, at);
        }
        let mut agents: Vec<&Agent> = state.agents.values().collect();
        agents.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        for (agent, rank) in agents.into_iter().zip(0u32..) {
            self.node_of.insert(agent.id, rank);
            self.nodes.push(Node {
                id: agent.id,
                group: u32::MAX,
                arch: 0,
                candidate: false,
                ready: false,
                capacity: vec![0; dims].into(),
                occupied: Occupied::new(),
                inventory: None,
                device_slots: 0,
            });
            self.places.push(Place {
                free: vec![0; dims].into(),
                rank,
            });
            self.refresh_agent(state, agent.id);
        }
        for ((group, arch), name) in &state.cursors {
            // The agent may be gone: then the last one before its name.
            let before = self
                .nodes
                .iter()
                .filter_map(|n| state.agents.get(&n.id))
                .take_while(|a| a.name <= *name)
                .count();
            if let Some(rank) = before.checked_sub(1) {
                let rank = u32::try_from(rank).unwrap_or(u32::MAX);
                self.cursors.insert((*group, arch.clone()), rank);
            }
        }
        self.refresh_books(state);
        let waiting: Vec<SessionId> = state
            .groups
            .keys()
            .flat_map(|g| state.queue(*g))
            .map(|s| s.id)
            .collect();
        for id in waiting {
            self.refresh_session(state, id, now);
        }
        // Tries that nobody waits for any more.
        for (group, priority, shape) in state.charges.keys() {
            let class = self.group_of.get(group).and_then(|g| {
                let shape = self.shape_of.get(shape)?;
                self.class_of.get(&(*g, *priority, *shape, 0))
            });
            if class.is_none() {
                self.forgotten.insert((*group, *priority, shape.clone()));
            }
        }
    }

    fn arch(&mut self, name: &str) -> u16 {
        let at = self.archs.iter().position(|a| a == name);
        let at = at.unwrap_or_else(|| {
            self.archs.push(name.to_owned());
            self.archs.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    pub(super) fn vector(&self, slots: &Slots, containers: i64) -> Vector {
        let mut vector = vec![0; self.slots.len() + 1];
        for (slot, amount) in slots.iter() {
            if let Ok(at) = self.slots.binary_search(slot) {
                vector[at] = amount;
            }
        }
        vector[self.slots.len()] = containers;
        vector.into()
    }

    fn refresh_agent(&mut self, state: &State, id: AgentId) {
        let (Some(at), Some(agent)) = (self.node_of.get(&id).copied(), state.agents.get(&id))
        else {
            return;
        };
        let index = at as usize;
        let old = &self.nodes[index];
        if old.candidate {
            let (group, arch) = (old.group, old.arch);
            self.groups[group as usize]
                .nodes
                .remove(arch, at, &self.places[index]);
        }
        let (was_group, was_candidate, was_ready) = (old.group, old.candidate, old.ready);
        let same_machine = old.inventory == agent.inventory;
        let was_capacity = old.capacity.clone();
        let was_free = self.places[index].free.clone();
        let arch = self.arch(agent.inventory.as_ref().map_or("", |i| i.arch.as_str()));
        let group = self.group_of.get(&agent.group).copied().unwrap_or(u32::MAX);
        let dims = self.slots.len();
        let mut capacity = vec![0i64; dims + 1];
        let mut free = vec![0i64; dims + 1];
        let mut device_slots = 0u128;
        let nothing = crate::model::AgentUse::default();
        let usage = state.agent_use_ref(id).unwrap_or(&nothing);
        if let Some(inventory) = &agent.inventory {
            for device in &inventory.devices {
                let Ok(slot) = self.slots.binary_search(&device.slot) else {
                    continue;
                };
                if slot < 128 {
                    device_slots |= 1 << slot;
                }
                if device.is_offered() {
                    let used = usage.devices.get(&device.id).copied().unwrap_or(0);
                    capacity[slot] += device.capacity;
                    free[slot] += (device.capacity - used).max(0);
                }
            }
            for (slot, amount) in inventory.offered.iter() {
                if let Ok(at) = self.slots.binary_search(slot)
                    && (at >= 128 || device_slots & 1 << at == 0)
                {
                    capacity[at] = amount;
                    free[at] = (amount - usage.slots.amount(slot)).max(0);
                }
            }
            let cap = container_cap(inventory);
            capacity[dims] = i64::from(cap);
            free[dims] = i64::from(cap.saturating_sub(usage.containers));
        }
        let ready = agent.state == AgentState::Alive
            && agent.inventory.is_some()
            && agent.conditions().is_empty()
            && group != u32::MAX;
        let candidate = ready && (agent.schedulable || bugs::is(8));
        let node = &mut self.nodes[index];
        node.group = group;
        node.arch = arch;
        node.ready = ready;
        node.candidate = candidate;
        node.capacity = capacity.into();
        node.occupied.clone_from(&usage.devices);
        node.inventory.clone_from(&agent.inventory);
        node.device_slots = device_slots;
        self.places[index].free = free.into();
        if candidate {
            self.groups[group as usize]
                .nodes
                .insert(arch, at, &self.places[index]);
        }
        let moved = was_group != group;
        if moved && was_group != u32::MAX {
            self.groups[was_group as usize].epoch += 1;
            self.groups[was_group as usize].touched = true;
        }
        if group == u32::MAX {
            return;
        }
        let other = moved || was_candidate != candidate || was_ready != ready || !same_machine;
        if other || was_capacity != self.nodes[index].capacity {
            self.groups[group as usize].epoch += 1;
            self.groups[group as usize].touched = true;
        }
        let more = ready
            && (other
                || self.places[index]
                    .free
                    .iter()
                    .zip(&was_free)
                    .any(|(new, old)| new > old));
        if more && !bugs::is(12) {
            self.room_came(group, at);
        }
    }

    /// An agent of a group has room again: classes it could help are tried anew.
    fn room_came(&mut self, group: u32, at: u32) {
        let free = &self.places[at as usize].free;
        let row = &mut self.groups[group as usize];
        row.touched = true;
        self.queues_touched |= row.pool.is_some();
        for class in row.bands.values().flatten() {
            if let Some(class) = &mut self.classes[*class as usize]
                && class.full
                && let Some(shape) = &self.shapes[class.shape as usize]
                && shape.may_fit(free)
            {
                class.full = false;
            }
        }
    }

    fn account(&mut self, state: &State, account: Account) -> u32 {
        if let Some(at) = self.account_of.get(&account) {
            return *at;
        }
        let at = u32::try_from(self.accounts.len()).unwrap_or(u32::MAX);
        self.account_of.insert(account.clone(), at);
        let weight = match account {
            Account::InGroup(_, user) if !bugs::is(7) => {
                state.users.get(&user).map_or(1000, |u| u.weight_milli)
            }
            _ => 1000,
        };
        self.accounts.push(Ledger {
            account,
            used: vec![0; self.slots.len() + 1].into(),
            sessions: 0,
            limits: None,
            max_sessions: u32::MAX,
            parked: BTreeSet::new(),
            weight,
            share: Share::NONE,
        });
        self.refresh_account(state, at);
        at
    }

    fn refresh_account(&mut self, state: &State, at: u32) {
        let row = &self.accounts[at as usize];
        let (used, sessions) = match state.usage_ref(&row.account) {
            Some(usage) => (self.vector(&usage.slots, 0), usage.sessions),
            None => (vec![0; self.slots.len() + 1].into(), 0),
        };
        let row = &mut self.accounts[at as usize];
        let less =
            sessions < row.sessions || used.iter().zip(&row.used).any(|(new, old)| new < old);
        row.used = used;
        row.sessions = sessions;
        if let Account::InGroup(group, _) = row.account
            && let Some(group) = self.group_of.get(&group).copied()
        {
            self.recount_share(group, at);
        }
        if less && !bugs::is(19) {
            self.queues_touched |= !self.queues.is_empty();
            self.unpark(at);
        }
    }

    fn unpark(&mut self, at: u32) {
        for lane_at in std::mem::take(&mut self.accounts[at as usize].parked) {
            let Some(lane) = &mut self.lanes[lane_at as usize] else {
                continue;
            };
            lane.parked = None;
            let first = lane.sessions.first().copied();
            match lane.class {
                Some(class) => {
                    if let (Some(class), Some(key)) = (&mut self.classes[class as usize], first) {
                        class.lanes.insert((key, lane_at));
                        self.groups[class.group as usize].touched = true;
                    }
                }
                None => self.queues_touched = true,
            }
        }
    }

    fn recount_share(&mut self, group: u32, account: u32) {
        let row = &mut self.groups[group as usize];
        if row.discipline != Discipline::Drf {
            return;
        }
        let slots = self.slots.len();
        let ledger = &mut self.accounts[account as usize];
        ledger.share = Share::of(&ledger.used[..slots], &row.capacity[..slots], ledger.weight);
    }

    /// Why a session is not considered at all now, as far as a pass must know.
    fn is_ready(state: &State, session: &Session, now: Timestamp) -> bool {
        !session.held
            && session.not_before.is_none_or(|at| at <= now)
            && session.start_at.is_none_or(|at| at <= now)
            && session.dependencies_met()
            && super::explain::owner_problem(state, session).is_none()
    }

    fn refresh_session(&mut self, state: &State, id: SessionId, now: Timestamp) {
        let waiting = state
            .sessions
            .get(&id)
            .filter(|s| s.state == SessionState::Pending);
        let group = waiting.and_then(|s| self.group_of.get(&s.group).copied());
        let (Some(session), Some(group)) = (waiting, group) else {
            self.unseat(id);
            return;
        };
        let ready = Self::is_ready(state, session, now);
        let lane = self.lane(state, session, group);
        let number = i64::try_from(id.0).unwrap_or(i64::MAX);
        let lifo = self.groups[group as usize].discipline == Discipline::Lifo;
        let key = match lifo {
            true => (-session.created_at.0, -number),
            false => (session.created_at.0, number),
        };
        let timer = [session.not_before, session.start_at]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min();
        let timeout = pending_timeout(state, session);
        let queue = session
            .queue
            .as_ref()
            .map(|_| (Reverse(session.priority), session.created_at, id));
        if let Some(seat) = self.seats.get_mut(&id)
            && (seat.lane, seat.key, seat.ready, seat.queue) == (lane, key, ready, queue)
        {
            // It stays where it is, with the tries it has had.
            let old = (
                std::mem::replace(&mut seat.timer, timer),
                std::mem::replace(&mut seat.timeout, timeout),
            );
            move_timer(&mut self.timers, id, old.0, timer);
            move_timer(&mut self.timeouts, id, old.1, timeout);
            return;
        }
        self.unseat(id);
        // The lane may have gone with its last session.
        let lane = self.lane(state, session, group);
        move_timer(&mut self.timers, id, None, timer);
        move_timer(&mut self.timeouts, id, None, timeout);
        self.seats.insert(
            id,
            Seat {
                lane,
                key,
                ready,
                queue,
                timer,
                timeout,
            },
        );
        if let Some(row) = &mut self.lanes[lane as usize] {
            row.members += 1;
        }
        if !ready {
            return;
        }
        match (&session.queue, queue) {
            (Some(seat), Some(key)) => {
                self.queues
                    .entry(seat.name.clone())
                    .or_default()
                    .insert(key);
                self.queues_touched = true;
            }
            _ => self.join(state, lane, key),
        }
    }

    /// A session of a lane becomes ready.
    fn join(&mut self, state: &State, lane_at: u32, key: Key) {
        let Some(lane) = &mut self.lanes[lane_at as usize] else {
            return;
        };
        let Some(class_at) = lane.class else { return };
        let old = lane.sessions.first().copied();
        lane.sessions.insert(key);
        let first = lane.sessions.first().copied();
        let parked = lane.parked.is_some();
        let Some(class) = &mut self.classes[class_at as usize] else {
            return;
        };
        class.ready += 1;
        if !parked && old != first {
            if let Some(old) = old {
                class.lanes.remove(&(old, lane_at));
            }
            if let Some(first) = first {
                class.lanes.insert((first, lane_at));
            }
        }
        self.groups[class.group as usize].touched = true;
        if class.ready == 1 {
            self.inherit(state, class_at);
        }
    }

    /// The first ready session of a class takes over what others of its kind were charged.
    fn inherit(&mut self, state: &State, class_at: u32) {
        let Some(class) = &self.classes[class_at as usize] else {
            return;
        };
        if class.salt != 0 || class.last_charged.is_some() {
            return;
        }
        let (group, priority, shape) = (class.group, class.priority, class.shape);
        let mut retries = (0, None);
        let key = self.shapes[shape as usize]
            .as_ref()
            .map_or_else(String::new, |s| s.key.clone());
        let id = self.groups[group as usize].id;
        let stored = state.charges.get(&(id, priority, key.clone()));
        // One that is to be forgotten was of sessions that are gone.
        let stored = stored.filter(|_| !self.forgotten.contains(&(id, priority, key)));
        if let Some(charge) = stored {
            retries = (charge.retries, Some(charge.last_charged_at));
        }
        let band = self.groups[group as usize].bands.get(&Reverse(priority));
        for other in band.into_iter().flatten().filter(|_| self.salted) {
            if let Some(other) = &self.classes[*other as usize]
                && other.shape == shape
                && other.salt != 0
                && other.ready > 0
            {
                retries = retries.max((other.retries, other.last_charged));
            }
        }
        if let Some(class) = &mut self.classes[class_at as usize] {
            class.retries = retries.0;
            class.last_charged = retries.1;
            class.stored = stored.is_some();
        }
    }

    /// Takes a session out of everything.
    fn unseat(&mut self, id: SessionId) {
        let Some(seat) = self.seats.remove(&id) else {
            return;
        };
        if let Some(at) = seat.timer {
            self.timers.remove(&(at, id));
        }
        if let Some(at) = seat.timeout {
            self.timeouts.remove(&(at, id));
        }
        if let (Some(key), Some(lane)) = (seat.queue, &self.lanes[seat.lane as usize])
            && let Some(name) = &lane.key.queue
            && let Some(queue) = self.queues.get_mut(name)
        {
            self.queues_touched |= queue.remove(&key);
            if queue.is_empty() {
                self.queues
                    .remove(&lane.key.queue.clone().unwrap_or_default());
            }
        }
        self.leave(seat.lane, seat.key, seat.ready);
        let Some(lane) = &mut self.lanes[seat.lane as usize] else {
            return;
        };
        lane.members -= 1;
        if lane.members == 0 {
            self.drop_lane(seat.lane);
        }
    }

    /// A session of a lane is no longer ready, or no longer waits.
    fn leave(&mut self, lane_at: u32, key: Key, was_ready: bool) {
        let Some(lane) = &mut self.lanes[lane_at as usize] else {
            return;
        };
        let Some(class_at) = lane.class else { return };
        let old = lane.sessions.first().copied();
        let there = lane.sessions.remove(&key);
        let first = lane.sessions.first().copied();
        let parked = lane.parked.is_some();
        let Some(class) = &mut self.classes[class_at as usize] else {
            return;
        };
        if there && !parked && old != first {
            if let Some(old) = old {
                class.lanes.remove(&(old, lane_at));
            }
            if let Some(first) = first {
                class.lanes.insert((first, lane_at));
            }
        }
        if there && was_ready {
            class.ready -= 1;
            self.groups[class.group as usize].touched = true;
            if class.ready == 0 {
                class.full = false;
            }
        }
    }

    /// Nobody of a class waits any more, or the last who was ready got a place: its tries
    /// are over. One that is only held back meanwhile keeps them.
    fn forget_tries(&mut self, class_at: u32) {
        let Some(class) = &mut self.classes[class_at as usize] else {
            return;
        };
        class.retries = 0;
        class.last_charged = None;
        if std::mem::take(&mut class.stored)
            && let Some(shape) = &self.shapes[class.shape as usize]
        {
            let group = self.groups[class.group as usize].id;
            self.forgotten
                .insert((group, class.priority, shape.key.clone()));
        }
    }

    fn drop_lane(&mut self, at: u32) {
        let Some(lane) = self.lanes[at as usize].take() else {
            return;
        };
        self.free_lanes.push(at);
        if let Some(account) = lane.parked {
            self.accounts[account as usize].parked.remove(&at);
        }
        self.lane_of.remove(&lane.key);
        if let Some(class_at) = lane.class
            && let Some(class) = &mut self.classes[class_at as usize]
        {
            class.all_lanes.remove(&at);
            let last = class.all_lanes.is_empty();
            if last {
                self.forget_tries(class_at);
            }
            if last && let Some(class) = self.classes[class_at as usize].take() {
                self.free_classes.push(class_at);
                self.class_of
                    .remove(&(class.group, class.priority, class.shape, class.salt));
                let group = &mut self.groups[class.group as usize];
                if let Some(band) = group.bands.get_mut(&Reverse(class.priority)) {
                    band.remove(&class_at);
                    if band.is_empty() {
                        group.bands.remove(&Reverse(class.priority));
                    }
                }
                self.drop_shape(class.shape);
            }
        }
        self.drop_shape(lane.shape);
    }

    fn drop_shape(&mut self, at: u32) {
        if let Some(shape) = &mut self.shapes[at as usize] {
            shape.users -= 1;
            if shape.users == 0 {
                self.shape_of.remove(&shape.key.clone());
                self.shapes[at as usize] = None;
                self.free_shapes.push(at);
            }
        }
    }

    fn shape(&mut self, session: &Session) -> u32 {
        let key = shape_key(session);
        if let Some(at) = self.shape_of.get(&key) {
            return *at;
        }
        let ranks: Vec<Arc<Slots>> = (0..session.cluster.size)
            .map(|rank| Arc::new(session.rank_slots(rank).clone()))
            .collect();
        let vectors: Vec<Vector> = ranks.iter().map(|slots| self.vector(slots, 1)).collect();
        let total = self.vector(&session.total_slots(), i64::from(session.cluster.size));
        let arch = session.arch.clone().map(|name| self.arch(&name));
        let designated = session.designated.as_ref();
        let shape = Shape {
            key: key.clone(),
            users: 0,
            arch,
            arch_name: session.arch.clone().unwrap_or_default(),
            mode: session.cluster.mode,
            ranks,
            vectors,
            total,
            designated: designated.map_or_else(Vec::new, |d| d.agents.iter().copied().collect()),
            strict: designated.is_some_and(|d| d.strict),
            by_admin: designated.is_some_and(|d| d.by_admin),
        };
        let at = put(&mut self.shapes, &mut self.free_shapes, shape);
        self.shape_of.insert(key, at);
        at
    }

    fn lane(&mut self, state: &State, session: &Session, group: u32) -> u32 {
        let shape = self.shape(session);
        let salt = session.retries_given.map_or(0, |_| session.id.0);
        self.salted |= salt != 0;
        let counts = session.kind != longshore_common::session::SessionType::System;
        let key = LaneKey {
            group,
            queue: session.queue.as_ref().map(|q| q.name.clone()),
            priority: session.priority,
            shape,
            salt,
            keypair: session.access_key.clone(),
            user: session.owner,
            project: session.project,
            domain: session.domain,
            counts,
        };
        if let Some(at) = self.lane_of.get(&key) {
            return *at;
        }
        let requester = Requester::of(session);
        let mut bound = Vec::new();
        for layer in layers(state, &requester) {
            let at = self.account(state, layer.account.clone());
            let mut limits = vec![i64::MAX; self.slots.len() + 1];
            for (slot, limit) in self.slots.iter().zip(&mut limits) {
                *limit = layer.limit(slot).unwrap_or(i64::MAX);
            }
            let row = &mut self.accounts[at as usize];
            // A user's own use is bound only where a second keypair exists; the same account
            // is never bound by two different policies.
            debug_assert!(layer.kind != LayerKind::User || matches!(row.account, Account::User(_)));
            row.limits = Some(limits.into());
            row.max_sessions = layer.max_sessions().unwrap_or(u32::MAX);
            bound.push(at);
        }
        let group_id = self.groups[group as usize].id;
        let in_group = self.account(state, Account::InGroup(group_id, session.owner));
        let class = session.queue.is_none().then(|| {
            let class_key = (group, session.priority, shape, salt);
            if let Some(at) = self.class_of.get(&class_key) {
                return *at;
            }
            let class = Class {
                group,
                priority: session.priority,
                shape,
                salt,
                lanes: BTreeSet::new(),
                all_lanes: BTreeSet::new(),
                ready: 0,
                retries: session.retries_given.unwrap_or(0),
                last_charged: None,
                stored: false,
                full: false,
                never: None,
            };
            let at = put(&mut self.classes, &mut self.free_classes, class);
            self.class_of.insert(class_key, at);
            self.groups[group as usize]
                .bands
                .entry(Reverse(session.priority))
                .or_default()
                .insert(at);
            if let Some(shape) = &mut self.shapes[shape as usize] {
                shape.users += 1;
            }
            at
        });
        let lane = Lane {
            class,
            key: key.clone(),
            shape,
            layers: bound,
            in_group,
            user: in_group,
            counts,
            sessions: BTreeSet::new(),
            parked: None,
            members: 0,
        };
        let at = put(&mut self.lanes, &mut self.free_lanes, lane);
        if let Some(class) = class.and_then(|at| self.classes[at as usize].as_mut()) {
            class.all_lanes.insert(at);
        }
        self.lane_of.insert(key, at);
        if let Some(shape) = &mut self.shapes[shape as usize] {
            shape.users += 1;
        }
        at
    }

    // ----- a pass

    fn time_out(&mut self, state: &State, now: Timestamp, decisions: &mut Decisions) {
        while let Some((at, id)) = self.timeouts.first().copied()
            && at <= now
        {
            self.timeouts.remove(&(at, id));
            let Some(session) = state.sessions.get(&id) else {
                continue;
            };
            let waited = at.since(session.pending_since) / 1000;
            decisions.cancels.push(Cancel {
                session: id,
                reason: Reason::PendingTimeout,
                detail: format!("it waited longer than the {waited} s allowed"),
            });
            self.unseat(id);
            self.dirty_sessions.push(id);
        }
    }

    /// The account at whose limit the sessions of a lane are, if any.
    pub(super) fn at_limit(&self, lane: &Lane) -> Option<u32> {
        let request = &self.shapes[lane.shape as usize].as_ref()?.total;
        lane.layers.iter().copied().find(|at| {
            let row = &self.accounts[*at as usize];
            (lane.counts && row.sessions >= row.max_sessions)
                || row.limits.as_ref().is_some_and(|limits| {
                    // The last number is containers, which no account limits.
                    let slots = limits.len() - 1;
                    request[..slots]
                        .iter()
                        .zip(&row.used[..slots])
                        .zip(&limits[..slots])
                        .any(|((need, used), limit)| {
                            let need = *need + i64::from(*need > 0 && bugs::is(1));
                            need > 0 && used.saturating_add(need) > *limit
                        })
                })
        })
    }

    fn park(&mut self, lane_at: u32, account: u32) {
        let Some(lane) = &mut self.lanes[lane_at as usize] else {
            return;
        };
        lane.parked = Some(account);
        self.accounts[account as usize].parked.insert(lane_at);
        if let (Some(class), Some(first)) = (lane.class, lane.sessions.first())
            && let Some(class) = &mut self.classes[class as usize]
        {
            class.lanes.remove(&(*first, lane_at));
        }
    }

    pub(super) fn lane_of_session(&self, id: SessionId) -> Option<&Lane> {
        let seat = self.seats.get(&id)?;
        self.lanes[seat.lane as usize].as_ref()
    }

    pub(super) fn class_of_session(&self, id: SessionId) -> Option<&Class> {
        let class = self.lane_of_session(id)?.class?;
        self.classes[class as usize].as_ref()
    }

    fn pass(&mut self, state: &State, group: u32, now: Timestamp, decisions: &mut Decisions) {
        let row = &mut self.groups[group as usize];
        row.stopped = None;
        row.next_charge = None;
        let skip_after = row.skip_after;
        let drf = row.discipline == Discipline::Drf;
        let bands: Vec<(u8, Vec<u32>)> = row
            .bands
            .iter()
            .map(|(Reverse(priority), classes)| (*priority, classes.iter().copied().collect()))
            .collect();
        let mut bands = bands;
        if bugs::is(13) {
            bands.reverse();
        }
        if drf {
            self.recount_capacity(group);
        }
        for (priority, classes) in bands {
            let (fresh, spent): (Vec<u32>, Vec<u32>) = classes.into_iter().partition(|at| {
                self.classes[*at as usize]
                    .as_ref()
                    .is_some_and(|c| skip_after == 0 || c.retries < skip_after || bugs::is(5))
            });
            for (part, stops) in [(fresh, true), (spent, false)] {
                let head = if drf {
                    self.serve_by_share(state, group, &part, stops, now, decisions)
                } else {
                    self.serve_in_order(state, group, &part, stops, now, decisions)
                };
                if let Some(head) = head.filter(|_| !bugs::is(3)) {
                    let row = &mut self.groups[group as usize];
                    row.stopped = Some(Stopped { head, priority });
                    return;
                }
            }
        }
    }

    fn recount_capacity(&mut self, group: u32) {
        let row = &self.groups[group as usize];
        if row.capacity_epoch == Some(row.epoch) {
            return;
        }
        let mut capacity = vec![0i64; self.slots.len() + 1];
        for member in row.nodes.members() {
            for (sum, amount) in capacity
                .iter_mut()
                .zip(&self.nodes[member as usize].capacity)
            {
                *sum = sum.saturating_add(*amount);
            }
        }
        let row = &mut self.groups[group as usize];
        row.capacity = capacity.into();
        row.capacity_epoch = Some(row.epoch);
        let id = row.id;
        for at in 0..u32::try_from(self.accounts.len()).unwrap_or(u32::MAX) {
            if matches!(self.accounts[at as usize].account, Account::InGroup(g, _) if g == id) {
                self.recount_share(group, at);
            }
        }
    }

    /// First come (or last come) first served. Says who stopped the group.
    fn serve_in_order(
        &mut self,
        state: &State,
        group: u32,
        part: &[u32],
        stops: bool,
        now: Timestamp,
        decisions: &mut Decisions,
    ) -> Option<SessionId> {
        let head = |classes: &[Option<Class>], at: u32| {
            let class = classes[at as usize].as_ref()?;
            // One that is known to find no room is tried in name only, and only where that stops.
            let tried = stops || !class.full;
            let (key, lane) = class.lanes.first().filter(|_| tried)?;
            Some(Reverse((*key, *lane, at)))
        };
        let mut heads: BinaryHeap<Reverse<(Key, u32, u32)>> = part
            .iter()
            .filter_map(|at| head(&self.classes, *at))
            .collect();
        while let Some(Reverse((key, lane, class))) = heads.pop() {
            match self.serve(state, group, class, lane, key, now, decisions) {
                Served::Placed | Served::Parked => heads.extend(head(&self.classes, class)),
                Served::Full if stops => return Some(session_of(key)),
                Served::Full | Served::Never | Served::Passed => (),
            }
        }
        None
    }

    /// Whoever has the smallest dominant share first, recomputed after each placement.
    fn serve_by_share(
        &mut self,
        state: &State,
        group: u32,
        part: &[u32],
        stops: bool,
        now: Timestamp,
        decisions: &mut Decisions,
    ) -> Option<SessionId> {
        // Per user the oldest session of each lane that is in this part.
        let mut users: BTreeMap<u32, BTreeSet<(Key, u32, u32)>> = BTreeMap::new();
        for class_at in part {
            let Some(class) = &self.classes[*class_at as usize] else {
                continue;
            };
            if !stops && class.full {
                continue;
            }
            for (key, lane_at) in &class.lanes {
                if let Some(lane) = &self.lanes[*lane_at as usize] {
                    users
                        .entry(lane.user)
                        .or_default()
                        .insert((*key, *lane_at, *class_at));
                }
            }
        }
        let mut order: BinaryHeap<Reverse<(Share, Key, u32)>> = users
            .iter()
            .filter_map(|(user, heads)| {
                let (key, ..) = heads.first()?;
                Some(Reverse((self.accounts[*user as usize].share, *key, *user)))
            })
            .collect();
        while let Some(Reverse((_, _, user))) = order.pop() {
            let Some(heads) = users.get_mut(&user) else {
                continue;
            };
            let Some((key, lane, class)) = heads.pop_first() else {
                continue;
            };
            let known_never = self.classes[class as usize]
                .as_ref()
                .is_some_and(|c| matches!(c.never, Some((epoch, true)) if epoch == self.groups[group as usize].epoch));
            let known_full = !stops
                && self.classes[class as usize]
                    .as_ref()
                    .is_some_and(|c| c.full);
            if !known_never && !known_full {
                match self.serve(state, group, class, lane, key, now, decisions) {
                    Served::Placed => {
                        if !bugs::is(6) {
                            self.recount_share(group, user);
                        }
                        let next = self.lanes[lane as usize]
                            .as_ref()
                            .and_then(|l| l.sessions.first().copied());
                        if let Some(next) = next {
                            heads.insert((next, lane, class));
                        }
                    }
                    Served::Full if stops => return Some(session_of(key)),
                    Served::Full | Served::Never | Served::Parked | Served::Passed => (),
                }
            }
            if let Some((key, ..)) = heads.first() {
                let share = self.accounts[user as usize].share;
                order.push(Reverse((share, *key, user)));
            }
        }
        None
    }

    /// Tries the first session of a lane.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of a loop that was cut in two"
    )]
    fn serve(
        &mut self,
        state: &State,
        group: u32,
        class_at: u32,
        lane_at: u32,
        key: Key,
        now: Timestamp,
        decisions: &mut Decisions,
    ) -> Served {
        let over = self.lanes[lane_at as usize]
            .as_ref()
            .and_then(|lane| self.at_limit(lane));
        if let Some(account) = over {
            self.park(lane_at, account);
            return Served::Parked;
        }
        let id = session_of(key);
        let Some(class) = &self.classes[class_at as usize] else {
            return Served::Passed;
        };
        let (shape_at, known_full) = (class.shape, class.full);
        let epoch = self.groups[group as usize].epoch;
        if matches!(class.never, Some((at, true)) if at == epoch) {
            return Served::Never;
        }
        let mut pool_is_full = false;
        if self.groups[group as usize].pool.is_some() {
            match self.pool_admits(state, group, id) {
                super::dispatch::Admits::Yes => (),
                super::dispatch::Admits::Reserved => return Served::Passed,
                super::dispatch::Admits::Full => pool_is_full = true,
            }
        }
        if !known_full && !pool_is_full {
            let Some(session) = state.sessions.get(&id) else {
                return Served::Passed;
            };
            if let Some(spots) = self.place(session, shape_at, group, now) {
                let start = self.book(state, session, group, shape_at, spots, decisions);
                decisions.starts.push(start);
                return Served::Placed;
            }
        }
        // Also of one that is known to find no room: what its agents could hold may differ.
        if self.never_fits(class_at) && !bugs::is(17) {
            return Served::Never;
        }
        if !pool_is_full && let Some(class) = &mut self.classes[class_at as usize] {
            class.full = true;
        }
        self.charge(group, class_at, now, decisions);
        Served::Full
    }

    /// Counts a try for a class and its like, at most one per interval.
    fn charge(&mut self, group: u32, class_at: u32, now: Timestamp, decisions: &mut Decisions) {
        let row = &self.groups[group as usize];
        let skip_after = row.skip_after;
        let Some(class) = &self.classes[class_at as usize] else {
            return;
        };
        let (priority, shape) = (class.priority, class.shape);
        // One that had its tries holds nobody up, and is tried whenever something happens.
        if skip_after == 0 || class.retries >= skip_after {
            return;
        }
        let alike: Vec<u32> = row
            .bands
            .get(&Reverse(priority))
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for at in alike {
            let Some(class) = &mut self.classes[at as usize] else {
                continue;
            };
            if class.shape != shape || class.ready == 0 || class.retries >= skip_after {
                continue;
            }
            let due = class
                .last_charged
                .is_none_or(|last| now.since(last) >= self.interval_ms || bugs::is(4));
            if due {
                class.retries += 1;
                class.last_charged = Some(now);
                if class.salt == 0 {
                    class.stored = true;
                    let shape = self.shapes[shape as usize]
                        .as_ref()
                        .map_or_else(String::new, |s| s.key.clone());
                    let group = self.groups[group as usize].id;
                    self.forgotten.remove(&(group, priority, shape.clone()));
                    decisions.changes.push(Change::Charged(Charge {
                        group,
                        priority,
                        shape,
                        retries: class.retries,
                        last_charged_at: now,
                    }));
                }
            }
        }
        let next = self.classes[class_at as usize]
            .as_ref()
            .and_then(|c| c.last_charged)
            .map(|last| last.plus_ms(self.interval_ms));
        let row = &mut self.groups[group as usize];
        if self.classes[class_at as usize].is_some() {
            row.next_charge = next;
        }
    }

    /// Whether no candidate could hold a session of this class even when empty.
    fn never_fits(&mut self, class_at: u32) -> bool {
        let Some(class) = &self.classes[class_at as usize] else {
            return false;
        };
        let (group, shape) = (class.group, class.shape);
        let epoch = self.groups[group as usize].epoch;
        if let Some((at, never)) = class.never
            && at == epoch
        {
            return never;
        }
        let never = self.shape_never_fits(group, shape);
        if let Some(class) = &mut self.classes[class_at as usize] {
            class.never = Some((epoch, never));
        }
        never
    }

    fn shape_never_fits(&self, group: u32, shape_at: u32) -> bool {
        let Some(shape) = &self.shapes[shape_at as usize] else {
            return false;
        };
        let members: Vec<u32> = self.candidates(group, shape).collect();
        !holds_when_empty(
            shape,
            &self.slots,
            members.iter().map(|at| &self.nodes[*at as usize]),
        )
    }

    /// Agents that could be asked at all for a shape.
    pub(super) fn candidates<'a>(
        &'a self,
        group: u32,
        shape: &'a Shape,
    ) -> Box<dyn Iterator<Item = u32> + 'a> {
        let right = move |at: &u32| {
            let node = &self.nodes[*at as usize];
            shape.arch.is_none_or(|arch| arch == node.arch)
        };
        if shape.strict {
            return Box::new(
                shape
                    .designated
                    .iter()
                    .filter_map(|id| self.node_of.get(id).copied())
                    .filter(move |at| {
                        let node = &self.nodes[*at as usize];
                        node.group == group && (node.candidate || node.ready && shape.by_admin)
                    })
                    .filter(right),
            );
        }
        Box::new(self.groups[group as usize].nodes.members().filter(right))
    }

    // ----- placing

    /// Finds places for all containers of a session and takes them; none = nothing changed.
    pub(super) fn place(
        &mut self,
        session: &Session,
        shape_at: u32,
        group: u32,
        now: Timestamp,
    ) -> Option<Vec<Spot>> {
        let penalised: Vec<u32> = session
            .penalties
            .iter()
            .filter(|(_, until)| *until > now && !bugs::is(20))
            .filter_map(|(id, _)| self.node_of.get(id).copied())
            .collect();
        self.place_shape(shape_at, group, &penalised)
    }

    fn place_shape(&mut self, shape_at: u32, group: u32, penalised: &[u32]) -> Option<Vec<Spot>> {
        let shape = self.shapes[shape_at as usize].as_ref()?;
        if shape.mode == ClusterMode::SingleNode || shape.ranks.len() == 1 {
            let (at, grants) = self.choose(shape, &shape.total, &shape.ranks, group, penalised)?;
            let spots: Vec<Spot> = grants
                .into_iter()
                .zip(0u16..)
                .map(|(devices, rank)| Spot {
                    node: at,
                    rank,
                    devices,
                })
                .collect();
            for spot in &spots {
                self.take(shape_at, spot, 1);
            }
            return Some(spots);
        }
        // The largest first; equal ones by rank.
        let mut order: Vec<u16> = (0u16..).take(shape.ranks.len()).collect();
        let vectors = shape.vectors.clone();
        order.sort_by(|a, b| {
            vectors[usize::from(*b)]
                .cmp(&vectors[usize::from(*a)])
                .then(a.cmp(b))
        });
        let mut spots: Vec<Spot> = Vec::with_capacity(order.len());
        for rank in order {
            let shape = self.shapes[shape_at as usize].as_ref()?;
            let found = self.choose(
                shape,
                &shape.vectors[usize::from(rank)],
                std::slice::from_ref(&shape.ranks[usize::from(rank)]),
                group,
                penalised,
            );
            let Some((node, mut grants)) = found else {
                for spot in spots.iter().filter(|_| !bugs::is(11)) {
                    self.take(shape_at, spot, -1);
                }
                return None;
            };
            let spot = Spot {
                node,
                rank,
                devices: grants.pop().unwrap_or_default(),
            };
            self.take(shape_at, &spot, 1);
            spots.push(spot);
        }
        spots.sort_by_key(|s| s.rank);
        Some(spots)
    }

    /// The best agent for containers that stay together, with their devices.
    fn choose(
        &self,
        shape: &Shape,
        request: &[i64],
        ranks: &[Arc<Slots>],
        group: u32,
        penalised: &[u32],
    ) -> Option<(u32, Vec<Vec<DeviceGrant>>)> {
        let row = &self.groups[group as usize];
        let cursor = row
            .selection
            .eq(&Selection::RoundRobin)
            .then(|| {
                self.cursors
                    .get(&(row.id, shape.arch_name.clone()))
                    .copied()
            })
            .flatten();
        let try_node = |at: u32| self.allocate_on(at, ranks);
        if shape.strict {
            let nodes: Vec<u32> = self.candidates(group, shape).collect();
            return self.by_rank(nodes, request, group, cursor, penalised, &[], try_node);
        }
        let wish = Wish {
            request,
            arch: shape.arch,
            after: cursor,
        };
        if shape.designated.is_empty() && penalised.is_empty() {
            return row.nodes.first(wish, &self.places, try_node);
        }
        let preferred: Vec<u32> = shape
            .designated
            .iter()
            .filter_map(|id| self.node_of.get(id).copied())
            .filter(|at| {
                let node = &self.nodes[*at as usize];
                node.group == group
                    && node.candidate
                    && shape.arch.is_none_or(|arch| arch == node.arch)
            })
            .collect();
        let first: Vec<u32> = preferred
            .iter()
            .copied()
            .filter(|at| !penalised.contains(at))
            .collect();
        let last: Vec<u32> = penalised
            .iter()
            .copied()
            .filter(|at| {
                let node = &self.nodes[*at as usize];
                node.group == group
                    && node.candidate
                    && shape.arch.is_none_or(|arch| arch == node.arch)
            })
            .collect();
        self.by_rank(first, request, group, cursor, &[], &[], try_node)
            .or_else(|| {
                row.nodes.first(wish, &self.places, |at| {
                    if penalised.contains(&at) {
                        return None;
                    }
                    try_node(at)
                })
            })
            .or_else(|| self.by_rank(last, request, group, cursor, &[], &preferred, try_node))
    }

    /// The best of few: the same order as that of the index, made by sorting.
    #[expect(clippy::too_many_arguments, reason = "the parts of one sort key")]
    fn by_rank<T>(
        &self,
        nodes: Vec<u32>,
        request: &[i64],
        group: u32,
        cursor: Option<u32>,
        penalised: &[u32],
        preferred: &[u32],
        take: impl Fn(u32) -> Option<T>,
    ) -> Option<(u32, T)> {
        let selection = self.groups[group as usize].selection;
        let slots = self.slots.len();
        let mut fitting: Vec<_> = nodes
            .into_iter()
            .filter(|at| fits(&self.places[*at as usize].free, request))
            .map(|at| {
                let place = &self.places[at as usize];
                let unneeded = place.free[..self.accelerators]
                    .iter()
                    .zip(request)
                    .filter(|(free, need)| **free > 0 && **need == 0)
                    .count();
                let strategy: Vec<i64> = match selection {
                    Selection::Concentrated => place.free[..slots].to_vec(),
                    Selection::Dispersed => place.free[..slots].iter().map(|f| -f).collect(),
                    Selection::RoundRobin => Vec::new(),
                };
                let turn = selection == Selection::RoundRobin
                    && cursor.is_some_and(|cursor| place.rank <= cursor);
                let key = (
                    penalised.contains(&at),
                    !preferred.contains(&at),
                    unneeded,
                    strategy,
                    turn,
                    place.rank,
                );
                (key, at)
            })
            .collect();
        fitting.sort();
        fitting
            .into_iter()
            .find_map(|(_, at)| take(at).map(|thing| (at, thing)))
    }

    /// Devices for each container on one agent, or none if they cannot be had together.
    fn allocate_on(&self, at: u32, ranks: &[Arc<Slots>]) -> Option<Vec<Vec<DeviceGrant>>> {
        allocate_ranks(&self.nodes[at as usize], self.slots.as_slice(), ranks)
    }

    /// Takes (1) or gives back (-1) what a container holds.
    fn take(&mut self, shape_at: u32, spot: &Spot, sign: i64) {
        let Some(shape) = &self.shapes[shape_at as usize] else {
            return;
        };
        let index = spot.node as usize;
        let (group, arch, candidate) = {
            let node = &self.nodes[index];
            (node.group, node.arch, node.candidate)
        };
        if candidate {
            self.groups[group as usize]
                .nodes
                .remove(arch, spot.node, &self.places[index]);
        }
        let node = &mut self.nodes[index];
        let free = &mut self.places[index].free;
        for (slot, need) in shape.vectors[usize::from(spot.rank)].iter().enumerate() {
            if slot >= 128 || node.device_slots & 1 << slot == 0 {
                free[slot] -= sign * need;
            }
        }
        for grant in &spot.devices {
            *node.occupied.entry(grant.device.clone()).or_insert(0) += sign * grant.amount;
            if let Ok(slot) = self.slots.binary_search(&grant.slot) {
                free[slot] -= sign * grant.amount;
            }
        }
        if candidate {
            self.groups[group as usize]
                .nodes
                .insert(arch, spot.node, &self.places[index]);
        }
    }

    /// Books a placement against accounts and takes the session out of its lane.
    pub(super) fn book(
        &mut self,
        state: &State,
        session: &Session,
        group: u32,
        shape_at: u32,
        spots: Vec<Spot>,
        decisions: &mut Decisions,
    ) -> Start {
        let id = session.id;
        if let Some(seat) = self.seats.get(&id)
            && let Some(lane) = &self.lanes[seat.lane as usize]
            && let Some(shape) = &self.shapes[shape_at as usize]
        {
            let slots = self.slots.len();
            let mut accounts = lane.layers.clone();
            let moved: Vec<u32> = (0u32..)
                .zip(&self.groups)
                .filter(|(at, other)| {
                    let head = other.stopped.and_then(|s| self.lane_of_session(s.head));
                    *at != group
                        && head.is_some_and(|head| head.layers.iter().any(|a| accounts.contains(a)))
                })
                .map(|(at, _)| at)
                .collect();
            for other in moved {
                self.groups[other as usize].touched = true;
            }
            accounts.push(lane.in_group);
            for at in accounts {
                let row = &mut self.accounts[at as usize];
                for (used, need) in row.used[..slots].iter_mut().zip(&shape.total) {
                    *used = used.saturating_add(*need);
                }
                row.sessions += u32::from(lane.counts);
                self.dirty_accounts.push(at);
            }
        }
        let row = &self.groups[group as usize];
        if row.selection == Selection::RoundRobin
            && let Some(last) = spots.last()
            && let Some(shape) = &self.shapes[shape_at as usize]
        {
            let node = &self.nodes[last.node as usize];
            let rank = self.places[last.node as usize].rank;
            let name = state.agents.get(&node.id).map_or("", |a| a.name.as_str());
            let cursor = Cursor {
                group: row.id,
                arch: shape.arch_name.clone(),
                agent: name.to_owned(),
            };
            if !bugs::is(18) {
                self.cursors.insert((row.id, shape.arch_name.clone()), rank);
            }
            decisions.changes.push(Change::Cursor(cursor));
        }
        let group_id = row.id;
        let shape = self.shapes[shape_at as usize].as_ref();
        let places = spots
            .into_iter()
            .map(|spot| {
                let node = &self.nodes[spot.node as usize];
                self.dirty_agents.push(node.id);
                let asked = shape.map_or_else(Default::default, |s| {
                    Arc::clone(&s.ranks[usize::from(spot.rank)])
                });
                let slots = match &node.inventory {
                    Some(inventory) if !spot.devices.is_empty() => {
                        Arc::new(granted(inventory, &asked, &spot.devices))
                    }
                    _ => asked,
                };
                Placed {
                    agent: node.id,
                    slots,
                    devices: spot.devices,
                }
            })
            .collect();
        self.book_direct(state, group, session);
        let class = self.lane_of_session(id).and_then(|lane| lane.class);
        self.unseat(id);
        if let Some(class_at) = class
            && let Some(class) = &self.classes[class_at as usize]
            && class.ready == 0
        {
            self.forget_tries(class_at);
        }
        self.dirty_sessions.push(id);
        Start {
            session: id,
            group: group_id,
            pool: None,
            places,
        }
    }

    pub(super) fn shape_at_of(&self, id: SessionId) -> Option<u32> {
        self.lane_of_session(id).map(|lane| lane.shape)
    }

    /// What a session asks for in all, per slot of the planner.
    pub(super) fn slot_names(&self) -> &[SlotName] {
        &self.slots
    }

    /// Takes places only to see whether there are any, and gives them back.
    pub(super) fn could_place(
        &mut self,
        session: &Session,
        group: u32,
        now: Timestamp,
    ) -> Option<Vec<Spot>> {
        let shape_at = self.shape(session);
        if let Some(shape) = &mut self.shapes[shape_at as usize] {
            shape.users += 1;
        }
        let spots = self.place(session, shape_at, group, now);
        for spot in spots.iter().flatten() {
            self.take(shape_at, spot, -1);
        }
        self.drop_shape(shape_at);
        spots
    }

    /// Agents that could be asked at all for a session, by name.
    pub(super) fn candidates_for(&mut self, session: &Session, group: u32) -> Vec<u32> {
        let shape_at = self.shape(session);
        let mut candidates: Vec<u32> = self.shapes[shape_at as usize]
            .as_ref()
            .map_or_else(Vec::new, |shape| self.candidates(group, shape).collect());
        candidates.sort_unstable();
        if let Some(shape) = &mut self.shapes[shape_at as usize] {
            shape.users += 1;
        }
        self.drop_shape(shape_at);
        candidates
    }

    /// Whether no candidate of a group could hold a session even when all are empty.
    pub(super) fn session_never_fits(&mut self, session: &Session, group: u32) -> bool {
        let shape_at = self.shape(session);
        if let Some(shape) = &mut self.shapes[shape_at as usize] {
            shape.users += 1;
        }
        let never = self.shape_never_fits(group, shape_at);
        self.drop_shape(shape_at);
        never
    }

    /// Classes of a group by band, for those who walk its order.
    pub(super) fn bands(&self, group: u32) -> impl Iterator<Item = (u8, Vec<&Class>)> {
        self.groups[group as usize]
            .bands
            .iter()
            .map(|(Reverse(priority), classes)| {
                let classes = classes
                    .iter()
                    .filter_map(|at| self.classes[*at as usize].as_ref())
                    .collect();
                (*priority, classes)
            })
    }

    /// Lanes of a class, parked ones included.
    pub(super) fn lanes_of(&self, class: &Class) -> impl Iterator<Item = &Lane> {
        let lanes = class.all_lanes.iter();
        lanes.filter_map(|at| self.lanes[*at as usize].as_ref())
    }

    /// Used amounts, capacity and weight that make a user's share.
    pub(super) fn share_parts(&self, lane: &Lane) -> (u32, &[i64], i64) {
        let row = &self.accounts[lane.user as usize];
        (lane.user, &row.used, row.weight)
    }

    pub(super) fn shape_total(&self, lane: &Lane) -> &[i64] {
        self.shapes[lane.shape as usize]
            .as_ref()
            .map_or(&[], |s| &s.total)
    }
}

impl Lane {
    pub(super) fn sessions(&self) -> impl Iterator<Item = (Key, SessionId)> {
        self.sessions.iter().map(|key| (*key, session_of(*key)))
    }
}

enum Served {
    Placed,
    Parked,
    Never,
    Full,
    Passed,
}

/// One container's place.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) node: u32,
    rank: u16,
    devices: Vec<DeviceGrant>,
}

fn session_of(key: Key) -> SessionId {
    SessionId(key.1.unsigned_abs())
}

/// What a list holds, sorted, each thing once; the list is empty afterwards.
fn once_each<T: Ord>(list: &mut Vec<T>) -> Vec<T> {
    let mut things = std::mem::take(list);
    things.sort_unstable();
    things.dedup();
    things
}

fn move_timer(
    timers: &mut BTreeSet<(Timestamp, SessionId)>,
    id: SessionId,
    old: Option<Timestamp>,
    new: Option<Timestamp>,
) {
    if let Some(at) = old {
        timers.remove(&(at, id));
    }
    if let Some(at) = new {
        timers.insert((at, id));
    }
}

fn put<T>(slab: &mut Vec<Option<T>>, free: &mut Vec<u32>, thing: T) -> u32 {
    if let Some(at) = free.pop() {
        slab[at as usize] = Some(thing);
        return at;
    }
    slab.push(Some(thing));
    u32::try_from(slab.len() - 1).unwrap_or(u32::MAX)
}

pub(super) fn container_cap(inventory: &Inventory) -> u32 {
    match inventory.max_containers {
        0 => CONTAINERS_MAX,
        own => own.min(CONTAINERS_MAX),
    }
}

/// When a session has waited too long, if that is bounded.
fn pending_timeout(state: &State, session: &Session) -> Option<Timestamp> {
    let seconds = match &session.queue {
        Some(seat) => state
            .config
            .config
            .policy(&seat.policy)
            .map_or(0, |p| p.pending_timeout_s),
        None => state
            .groups
            .get(&session.group)
            .and_then(|g| g.pending_timeout_s)
            .unwrap_or(state.scheduler.pending_timeout_s),
    };
    // Waiting for one's own hour is no waiting for a place.
    let since = session
        .start_at
        .map_or(session.pending_since, |at| at.max(session.pending_since));
    (seconds > 0).then(|| since.plus_s(i64::from(seconds)))
}

fn allocate_ranks(
    node: &Node,
    slots: &[SlotName],
    ranks: &[Arc<Slots>],
) -> Option<Vec<Vec<DeviceGrant>>> {
    let inventory = node.inventory.as_ref()?;
    let has_devices = |request: &Slots| {
        request.iter().any(|(slot, amount)| {
            amount > 0
                && slots
                    .binary_search(slot)
                    .is_ok_and(|at| at < 128 && node.device_slots & 1 << at != 0)
        })
    };
    if let [only] = ranks {
        if !has_devices(only) {
            return Some(vec![Vec::new()]);
        }
        return allocate(inventory, &node.occupied, only)
            .ok()
            .map(|g| vec![g]);
    }
    let mut occupied = node.occupied.clone();
    let mut all = Vec::with_capacity(ranks.len());
    for request in ranks {
        let grants = if has_devices(request) {
            allocate(inventory, &occupied, request).ok()?
        } else {
            Vec::new()
        };
        for grant in &grants {
            *occupied.entry(grant.device.clone()).or_insert(0) += grant.amount;
        }
        all.push(grants);
    }
    Some(all)
}

/// Whether agents, all taken as empty, could hold a shape.
fn holds_when_empty<'a>(
    shape: &Shape,
    names: &[SlotName],
    nodes: impl Iterator<Item = &'a Node>,
) -> bool {
    let empty = |node: &Node| Node {
        id: node.id,
        group: node.group,
        arch: node.arch,
        candidate: node.candidate,
        ready: node.ready,
        capacity: node.capacity.clone(),
        occupied: Occupied::new(),
        inventory: node.inventory.clone(),
        device_slots: node.device_slots,
    };
    if shape.mode == ClusterMode::SingleNode || shape.ranks.len() == 1 {
        for node in nodes {
            if !fits(&node.capacity, &shape.total) {
                continue;
            }
            let node = empty(node);
            if allocate_ranks(&node, names, &shape.ranks).is_some() {
                return true;
            }
        }
        return false;
    }
    // Together: the largest first, each where it fits first.
    let mut free: Vec<(Node, Vector)> = nodes.map(|n| (empty(n), n.capacity.clone())).collect();
    let mut order: Vec<usize> = (0..shape.ranks.len()).collect();
    order.sort_by(|a, b| shape.vectors[*b].cmp(&shape.vectors[*a]).then(a.cmp(b)));
    order.into_iter().all(|rank| {
        let request = &shape.vectors[rank];
        for (node, free) in &mut free {
            if !fits(free, request) {
                continue;
            }
            let Some(grants) =
                allocate_ranks(node, names, std::slice::from_ref(&shape.ranks[rank]))
                    .and_then(|mut g| g.pop())
            else {
                continue;
            };
            for (free, need) in free.iter_mut().zip(request) {
                *free -= need;
            }
            for grant in grants {
                *node.occupied.entry(grant.device).or_insert(0) += grant.amount;
            }
            return true;
        }
        false
    })
}

/// The text of a shape: equal texts, equal shapes.
fn shape_key(session: &Session) -> String {
    use std::fmt::Write as _;
    let mut key = String::with_capacity(64);
    key.push_str(session.arch.as_deref().unwrap_or("*"));
    if session.cluster.size > 1 {
        let _ = write!(key, " {}", session.cluster.mode); // writing to a String cannot fail
    }
    let ranks: Vec<String> = (0..session.cluster.size)
        .map(|rank| {
            let mut text = String::new();
            for (slot, amount) in session.rank_slots(rank).iter() {
                let _ = write!(text, " {slot}={}", slot.format_amount(amount)); // as above
            }
            text
        })
        .collect();
    let alike = ranks.iter().all(|r| *r == ranks[0]);
    if alike {
        let _ = write!(key, " {}x{}", ranks.len(), ranks[0]); // as above
    } else {
        key.push_str(&ranks.join(" +"));
    }
    if let Some(designated) = &session.designated {
        key.push_str(if designated.strict {
            " only"
        } else {
            " rather"
        });
        if designated.by_admin {
            key.push('!');
        }
        for agent in &designated.agents {
            let _ = write!(key, " {agent}"); // as above
        }
    }
    key
}
