//! Keeping the indexes as the state is: what differs is read anew.

use super::{Class, Key, Lane, LaneKey, Line, Node, Planner, Queueing, Seat, Shape, Stopped};
use crate::bugs;
use crate::model::{Account, Agent, Discipline, Session, State};
use crate::scheduler::limits::Requester;
use crate::scheduler::nodes::{Nodes, Place, Vector};
use crate::scheduler::ready;
use crate::scheduler::room::container_cap;
use longshore_common::agent::AgentState;
use longshore_common::amount::{SlotName, Slots};
use longshore_common::devices::ByPlace;
use longshore_common::ids::{AgentId, GroupId, SessionId};
use longshore_common::session::SessionType;
use longshore_common::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Planner {
    /// Reads anew what differs.
    pub(in crate::scheduler) fn refresh(&mut self, state: &State, now: Timestamp) {
        self.now = now;
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
        if !self.stale && std::mem::take(&mut self.rights_differ) {
            self.stale = self.others_may(state);
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
        if std::mem::take(&mut self.limits_differ) {
            self.refresh_limits(state);
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
        let before = std::mem::take(self);
        self.stale = false;
        self.now = now;
        self.unserved_since = (!state.config.enabled).then_some(now);
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
                inactive_since: (!group.active).then_some(now),
            });
            self.group_of.insert(group.id, at);
        }
        let mut agents: Vec<&Agent> = state.agents.values().collect();
        agents.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        for (agent, rank) in agents.into_iter().zip(0u32..) {
            self.node_of.insert(agent.id, rank);
            self.nodes.push(Node {
                id: agent.id,
                name: agent.name.as_str().into(),
                group: u32::MAX,
                arch: 0,
                candidate: false,
                ready: false,
                capacity: vec![0; dims].into(),
                occupied: ByPlace::default(),
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
        self.remember(before);
    }

    fn arch(&mut self, name: &str) -> u16 {
        let at = self.archs.iter().position(|a| a == name);
        let at = at.unwrap_or_else(|| {
            self.archs.push(name.to_owned());
            self.archs.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    pub(in crate::scheduler) fn vector(&self, slots: &Slots, containers: i64) -> Vector {
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
        let arch = self.arch(agent.inventory.as_ref().map_or("", |i| &*i.arch));
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
        if *node.name != *agent.name {
            node.name = agent.name.as_str().into();
        }
        node.group = group;
        node.arch = arch;
        node.ready = ready;
        node.candidate = candidate;
        node.capacity = capacity.into();
        node.occupied = (agent.inventory.as_ref()).map_or_else(ByPlace::default, |inventory| {
            ByPlace::of_inventory(inventory, &usage.devices)
        });
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

    fn refresh_session(&mut self, state: &State, id: SessionId, now: Timestamp) {
        let waiting = state.sessions.get(&id).filter(|s| s.waits());
        let group = waiting.and_then(|s| self.group_of.get(&s.group).copied());
        let (Some(session), Some(group)) = (waiting, group) else {
            self.unseat(id);
            self.unready.remove(&id);
            return;
        };
        let ready = ready::is(state, session, now) && self.has_rights(state, session);
        self.note_ready(state, session, ready);
        let lane = self.lane(state, session, group);
        let key = key_of(session, self.groups[group as usize].discipline);
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
            seat.penalised = !session.penalties.is_empty();
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
                since: now,
                penalised: !session.penalties.is_empty(),
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
    pub(super) fn unseat(&mut self, id: SessionId) {
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
                class.held = None;
            }
        }
    }

    /// Nobody of a class waits any more, or the last who was ready got a place: its tries
    /// are over. One that is only held back meanwhile keeps them.
    pub(super) fn forget_tries(&mut self, class_at: u32) {
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

    pub(super) fn drop_shape(&mut self, at: u32) {
        if let Some(shape) = &mut self.shapes[at as usize] {
            shape.users -= 1;
            if shape.users == 0 {
                self.shape_of.remove(&shape.key.clone());
                self.shapes[at as usize] = None;
                self.free_shapes.push(at);
            }
        }
    }

    pub(super) fn shape(&mut self, session: &Session) -> u32 {
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
        let counts = session.kind != SessionType::System;
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
        let bound = self.bind(state, &Requester::of(session));
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
                held: None,
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
            sessions: Line::new(),
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

/// How long a session may wait, in seconds; 0 = as long as it takes.
pub(super) fn pending_timeout_s(state: &State, session: &Session) -> u32 {
    match &session.queue {
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
    }
}

/// When a session has waited too long, if that is bounded.
fn pending_timeout(state: &State, session: &Session) -> Option<Timestamp> {
    let seconds = pending_timeout_s(state, session);
    // Waiting for one's own hour is no waiting for a place.
    let since = session
        .start_at
        .map_or(session.pending_since, |at| at.max(session.pending_since));
    (seconds > 0).then(|| since.plus_s(i64::from(seconds)))
}

/// Where a session stands among those of its lane.
pub(super) fn key_of(session: &Session, discipline: Discipline) -> Key {
    let number = i64::try_from(session.id.place()).unwrap_or(i64::MAX);
    match discipline {
        Discipline::Lifo => (-session.created_at.0, -number),
        Discipline::Fifo | Discipline::Drf => (session.created_at.0, number),
    }
}

/// The text of a shape: equal texts, equal shapes.
pub(super) fn shape_key(session: &Session) -> String {
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
