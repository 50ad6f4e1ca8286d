//! What happens to nodes in random histories: devices kept back and given out again, gone or told
//! in another order; nodes that join and that change their group.

use crate::history::{Play, agent, node};
use longshore_common::ids::{AgentId, GroupId};
use longshore_core::model::{Change, CordonOrder, Event};

/// GPUs and cores of the nodes, by number.
pub(crate) const NODES: [(u32, i64); 6] = [(2, 8), (4, 8), (0, 6), (4, 16), (2, 4), (3, 8)];

fn group(number: u8) -> GroupId {
    GroupId::new(u128::from(number % 2) + 1)
}

impl Play {
    /// Somebody keeps a device back, or lets it be given out again.
    pub(crate) fn cordon(&mut self, agent: AgentId, device: u8, begins: bool) {
        let inventory = self.core.state().agents[&agent].inventory.clone();
        let devices = inventory.map_or_else(Vec::new, |inventory| inventory.devices.clone());
        let Some(at) = usize::from(device).checked_rem(devices.len()) else {
            return;
        };
        self.happen(&Event::CordonDevice(Box::new(CordonOrder {
            agent,
            device: devices[at].id.clone(),
            dry_run: false,
            version: None,
            begin: begins.then(|| ("looked at".to_owned(), "user u0".to_owned())),
        })));
    }

    /// A node says anew what it is: one device may be missing, and the order another.
    pub(crate) fn says_anew(&mut self, agent: AgentId, how: u8) {
        let Some(number) = self.agents.iter().position(|id| *id == agent) else {
            return;
        };
        let (gpus, cpu) = NODES[number];
        let mut inventory = node(u32::try_from(number).unwrap(), gpus, cpu);
        if how % 2 == 1 && !inventory.devices.is_empty() {
            let gone = usize::from(how / 4) % inventory.devices.len();
            inventory.devices.remove(gone);
        }
        if how / 2 % 2 == 1 {
            inventory.devices.reverse();
        }
        self.happen(&Event::Inventory {
            agent,
            inventory: Box::new(inventory),
        });
    }

    /// One more node, as long as there are few. It says what it is when it likes.
    pub(crate) fn join(&mut self, number: u8) {
        let next = self.agents.len();
        if next < NODES.len() {
            let agent = agent(u32::try_from(next).unwrap(), group(number));
            let id = agent.id;
            self.apply(Change::Agent(Box::new(agent)));
            self.agents.push(id);
            if !(number / 2).is_multiple_of(4) {
                self.says_anew(id, number);
            }
        }
    }

    /// A node is in another group from now on.
    pub(crate) fn regroup(&mut self, agent: AgentId, number: u8) {
        let mut agent = self.core.state().agents[&agent].clone();
        agent.group = group(number);
        self.apply(Change::Agent(Box::new(agent)));
    }
}
