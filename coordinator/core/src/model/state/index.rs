//! Indexes of sessions and nodes, kept as each of them is put in and taken out.

use super::{Account, QueueKey, State};
use crate::model::entities::{Agent, Session};
use longshore_common::agent::{AgentState, Inventory};
use longshore_common::amount::SlotName;
use longshore_common::session::SessionState;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

fn queue_key(session: &Session) -> QueueKey {
    (Reverse(session.priority), session.created_at, session.id)
}

impl State {
    /// Slots of which some node that has not left has devices.
    pub fn device_slots(&self) -> impl Iterator<Item = &SlotName> {
        self.device_slots.keys()
    }

    pub(super) fn count_device_slots(&mut self, old: Option<&Agent>, new: &Agent) {
        /// What a node has, while it is one.
        fn inventory(agent: &Agent) -> Option<&Arc<Inventory>> {
            let inventory = agent.inventory.as_ref();
            inventory.filter(|_| agent.state != AgentState::Terminated)
        }
        fn slots(inventory: Option<&Arc<Inventory>>) -> BTreeSet<SlotName> {
            let devices = inventory.into_iter().flat_map(|i| &i.devices);
            devices.map(|device| device.slot.clone()).collect()
        }
        let (old, new) = (old.and_then(inventory), inventory(new));
        if old == new {
            return; // as nearly always
        }
        for slot in slots(new) {
            *self.device_slots.entry(slot).or_insert(0) += 1;
        }
        for slot in slots(old) {
            if let Some(count) = self.device_slots.get_mut(&slot) {
                *count -= 1;
                if *count == 0 {
                    self.device_slots.remove(&slot);
                }
            }
        }
    }

    pub(super) fn apply_session(&mut self, session: &Session) {
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
        if session.waits() {
            self.queues
                .entry(session.group)
                .or_default()
                .insert(queue_key(session));
            self.count_waiting(session, 1);
        }
        if session.waits() && session.awaits_range.is_some() {
            self.awaiting_range.insert(session.id);
        }
        if session.is_open_array() {
            self.open_arrays
                .entry(session.owner)
                .or_default()
                .insert(session.id);
        }
        if session.state == SessionState::Pending {
            for entry in session.depends_on.iter().filter(|d| !d.met) {
                self.dependants
                    .entry(entry.session)
                    .or_default()
                    .insert(session.id);
            }
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
        if session.live_networks().next().is_some() {
            self.networked.insert(session.id);
        }
    }

    fn count_waiting(&mut self, session: &Session, sign: i64) {
        let slots = session.total_slots();
        for account in [
            Account::Keypair(session.access_key.clone()),
            Account::User(session.owner),
        ] {
            let usage = self.waiting.entry(account.clone()).or_default();
            if sign > 0 {
                usage.sessions += 1;
                usage.slots.add(&slots);
            } else {
                usage.sessions = usage.sessions.saturating_sub(1);
                usage.slots.sub(&slots);
            }
            if usage.sessions == 0 {
                self.waiting.remove(&account);
            }
        }
    }

    fn unindex(&mut self, session: &Session) {
        self.networked.remove(&session.id);
        self.awaiting_range.remove(&session.id);
        if session.waits() {
            self.count_waiting(session, -1);
        }
        if let Some(arrays) = self.open_arrays.get_mut(&session.owner) {
            arrays.remove(&session.id);
            if arrays.is_empty() {
                self.open_arrays.remove(&session.owner);
            }
        }
        if session.state == SessionState::Pending {
            for entry in session.depends_on.iter().filter(|d| !d.met) {
                if let Some(waiting) = self.dependants.get_mut(&entry.session) {
                    waiting.remove(&session.id);
                    if waiting.is_empty() {
                        self.dependants.remove(&entry.session);
                    }
                }
            }
        }
        if session.waits()
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
}
