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

mod bounds;
mod keep;
mod line;
mod order;
mod pass;
mod place;
mod since;
mod walk;

use super::nodes::{Nodes, Place, Vector, fits};
use super::ready::Mark;
use super::share::Share;
use super::{Decisions, dispatch};
use crate::model::{
    Account, Change, Discipline, Domain, Group, PolicyKind, Project, Selection, Session, State,
};
use line::Line;
use longshore_common::agent::Inventory;
use longshore_common::amount::{SlotName, Slots};
use longshore_common::devices::ByPlace;
use longshore_common::ids::{AgentId, GroupId, ProjectId, SessionId, UserId};
use longshore_common::session::{ClusterMode, SessionState};
use longshore_common::time::Timestamp;
use rustc_hash::FxHashMap;
pub(super) use since::Held;
use since::{Front, Left};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
    pub(super) name: Arc<str>,
    pub(super) group: u32,
    arch: u16,
    /// Takes new work.
    pub(super) candidate: bool,
    /// Would take new work if it were not switched off.
    ready: bool,
    pub(super) capacity: Vector,
    pub(super) occupied: ByPlace,
    pub(super) inventory: Option<Arc<Inventory>>,
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
    /// What the last try came to, and since when it has.
    held: Option<(Held, Timestamp)>,
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
    sessions: Line<Key>,
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
    project: ProjectId,
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
    /// What its limits leave, by slot, the number of sessions last; those that limit.
    left: Vec<(u16, Left)>,
}

/// Where a group was stopped by a session that found no room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopped {
    pub(super) head: SessionId,
    pub(super) priority: u8,
    since: Timestamp,
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
    inactive_since: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub(super) struct Seat {
    lane: u32,
    pub(super) key: Key,
    pub(super) ready: bool,
    /// Since when it has been so, at this place.
    since: Timestamp,
    /// Its start failed somewhere: the session says where, and until when that counts.
    penalised: bool,
    /// In the order of its queue, for sessions of queues.
    pub(super) queue: Option<(Reverse<u8>, Timestamp, SessionId)>,
    timer: Option<Timestamp>,
    timeout: Option<Timestamp>,
}

/// Sessions that are alike in this are alike in what rights let them do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RightsKey {
    owner: UserId,
    acted_for: bool,
    project: ProjectId,
    group: GroupId,
    queue: Option<String>,
}

impl RightsKey {
    fn of(session: &Session) -> Self {
        Self {
            owner: session.owner,
            acted_for: session.submitted_by.is_some(),
            project: session.project,
            group: session.group,
            queue: session.queue.as_ref().map(|seat| seat.name.clone()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Planner {
    stale: bool,
    /// Of the last look at the state.
    now: Timestamp,
    /// Policies or totals differ from those in `accounts`.
    limits_differ: bool,
    /// Rules or groups of users differ from those that `rights` stands on.
    rights_differ: bool,
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
    /// Whether rights let sessions start. At most as many as lanes have had since the last
    /// reading of everything.
    rights: FxHashMap<RightsKey, bool>,
    pub(super) books: dispatch::Books,
    /// Why sessions are not ready, and since when; those that are not.
    unready: FxHashMap<SessionId, Vec<(Mark, Timestamp)>>,
    fronts: BTreeMap<String, Front>,
    /// Queues are not served.
    unserved_since: Option<Timestamp>,
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
            now: Timestamp(0),
            limits_differ: false,
            rights_differ: false,
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
            rights: FxHashMap::default(),
            books: dispatch::Books::default(),
            unready: FxHashMap::default(),
            fronts: BTreeMap::new(),
            unserved_since: None,
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
                        && old.unclaimed == agent.unclaimed
                });
                if !same {
                    self.dirty_agents.push(agent.id);
                    self.queues_touched = true;
                }
            }
            Change::User(user) => {
                let same = state.users.get(&user.id).is_some_and(|old| {
                    old.status == user.status
                        && old.weight_milli == user.weight_milli
                        && old.username == user.username
                        && old.role == user.role
                        && old.domain == user.domain
                        && old.projects == user.projects
                        && old.service == user.service
                });
                // A service account of this name may be what a group waits for.
                let new = !state.users.contains_key(&user.id) && user.service.is_none();
                self.stale |= !same && !new;
            }
            Change::Keypair(pair) => {
                let same = state.keypairs.get(&pair.access_key).is_some_and(|old| {
                    old.state == pair.state && old.policy == pair.policy && old.main == pair.main
                });
                let waits = state.waiting(&Account::User(pair.user)).sessions > 0;
                self.stale |= !same && waits;
            }
            Change::Group(group) => {
                // What is left out here is asked for when a session is submitted or ends.
                let same = state.groups.get(&group.id).is_some_and(|old| {
                    let told = Group {
                        version: group.version,
                        description: group.description.clone(),
                        default: group.default,
                        creation_retries: group.creation_retries,
                        refuse_never_fits: group.refuse_never_fits,
                        direct_submits: group.direct_submits,
                        declare_lost_s: group.declare_lost_s,
                        app_proxy_address: group.app_proxy_address.clone(),
                        ..old.clone()
                    };
                    told == *group
                });
                self.stale |= !same;
            }
            Change::Domain(domain) => {
                let old = state.domains.get(&domain.id);
                let limits = old.is_some_and(|old| {
                    let limited = Domain {
                        version: domain.version,
                        description: domain.description.clone(),
                        total_slots: domain.total_slots.clone(),
                        ..old.clone()
                    };
                    limited == *domain
                });
                self.limits_differ |= limits;
                self.stale |= !limits;
            }
            Change::Project(project) => {
                let old = state.projects.get(&project.id);
                let limits = old.is_some_and(|old| {
                    let limited = Project {
                        version: project.version,
                        description: project.description.clone(),
                        policy: project.policy.clone(),
                        total_slots: project.total_slots.clone(),
                        ..old.clone()
                    };
                    limited == *project
                });
                self.limits_differ |= limits;
                self.stale |= !limits;
            }
            Change::KeypairPolicy(_) | Change::PolicyDeleted(PolicyKind::Keypair, _) => {
                self.limits_differ = true;
            }
            Change::UserGroup(_)
            | Change::UserGroupDeleted(_)
            | Change::AccessRule(_)
            | Change::AccessRuleDeleted(_) => {
                self.rights_differ = true;
                // Whom a vault reaches that cannot be opened is another one.
                self.stale |= state.vaults.values().any(|vault| vault.unreadable);
            }
            Change::Vault(vault) => {
                let old = state.vaults.get(&vault.id);
                self.stale |= vault.unreadable || old.is_some_and(|old| old.unreadable);
            }
            Change::VaultDeleted(id) => {
                self.stale |= state.vaults.get(id).is_some_and(|old| old.unreadable);
            }
            Change::GroupDeleted(_)
            | Change::Scheduler(_)
            | Change::DomainDeleted(_)
            | Change::ProjectDeleted(_)
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
        let news = self.stale
            || self.limits_differ
            || self.rights_differ
            || self.queues_touched
            || self.groups.iter().any(|g| g.touched);
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
}

fn session_of(key: Key) -> SessionId {
    SessionId::at_place(key.1.unsigned_abs())
}
