//! Whether every index says what the rows say.

use super::State;
use crate::model::change::Change;
use longshore_common::session::SessionState;
use std::collections::BTreeMap;

impl State {
    /// Demands that every index says what the rows say. For tests; costs a walk over everything.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self) -> Result<(), String> {
        let mut rebuilt = Self::new(self.meta.clone());
        for agent in self.agents.values() {
            rebuilt.apply(&Change::Agent(Box::new(agent.clone())));
        }
        for session in self.sessions.values() {
            rebuilt.apply(&Change::Session(Box::new(session.clone())));
        }
        for row in self.ledger.values().flat_map(BTreeMap::values) {
            rebuilt.apply(&Change::LedgerOpened(row.clone()));
        }
        if rebuilt.usage != self.usage {
            return Err("use by account differs from the ledger".to_owned());
        }
        if rebuilt.waiting != self.waiting
            || rebuilt.dependants != self.dependants
            || rebuilt.open_arrays != self.open_arrays
            || rebuilt.networked != self.networked
            || rebuilt.awaiting_range != self.awaiting_range
        {
            return Err("what waits differs from the sessions".to_owned());
        }
        if rebuilt.undecided != self.undecided {
            return Err("what nobody has decided about differs from the nodes".to_owned());
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
            for device in usage.devices.keys() {
                let capacity = inventory
                    .devices
                    .iter()
                    .find(|d| d.id == *device)
                    .map(|d| d.capacity);
                if capacity.is_some_and(|c| self.given_out(*agent, device) > c) {
                    return Err(format!("device {device} of {agent} is given out twice"));
                }
            }
        }
        for session in self.sessions.values() {
            if let Some(plan) = &session.array {
                let live = self.tasks_of(session.id).filter(|t| !t.state.is_final());
                let live = live.count();
                if live != plan.live as usize || (live == 0 && !session.state.is_final()) {
                    return Err(format!("{} counts its tasks wrong", session.id));
                }
            }
            let open = session.containers.iter();
            let open = open.filter(|c| !c.is_closed() && !c.handed_on);
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
