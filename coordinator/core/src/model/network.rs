//! Networks of sessions of several containers: numbers and ranges that no other has, and what
//! each agent is told of its part.
//!
//! A network belongs to one attempt and is its own until the last container of that attempt is
//! closed: an agent that comes back late must not find its addresses with another session.

use super::change::Change;
use super::draft::Draft;
use super::entities::{FailedStart, Group, Session};
use super::lifecycle::fail_attempt;
use super::policies::{ClusterNetwork, SchedulerSettings};
use super::state::State;
use longshore_common::ids::{AgentId, Attempt, ClusterId, GroupId, SessionId};
use longshore_common::network::{
    Ipv4Addr, MAX_NUMBER, OwnNetwork, Peer, SessionNetwork, Subnet, Underlay,
};
use longshore_common::session::{Cause, ClusterMode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The smallest range: one container, one node, the range itself and its broadcast do not fill
/// it, and the engine takes none that is smaller.
const LONGEST_PREFIX: u8 = 29;

/// How the containers of one attempt reach each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptNetwork {
    /// Which attempt.
    pub attempt: Attempt,
    /// A network of their own; none = that of their nodes.
    #[serde(default)]
    pub own: Option<OwnRange>,
    /// Where its containers are. With a network of their own, node n has its address n + 1.
    pub agents: Vec<AgentId>,
}

/// What tells a network from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnRange {
    /// Between nodes, 1 to [`MAX_NUMBER`].
    pub number: u32,
    /// Its addresses.
    pub subnet: Subnet,
    /// Largest packet between nodes, in bytes, as the settings said at the placement.
    pub mtu: u32,
}

impl AttemptNetwork {
    /// The address of a container, by its rank.
    fn address(&self, own: &OwnRange, rank: u16) -> Option<Ipv4Addr> {
        let nodes = u32::try_from(self.agents.len()).ok()?;
        own.subnet.address(1 + nodes + u32::from(rank))
    }

    /// The address of a node.
    fn gateway(&self, own: &OwnRange, agent: AgentId) -> Option<Ipv4Addr> {
        let at = self.agents.iter().position(|id| *id == agent)?;
        own.subnet.address(1 + u32::try_from(at).ok()?)
    }
}

impl Session {
    /// Networks of attempts of which a container is not closed.
    pub fn live_networks(&self) -> impl Iterator<Item = &AttemptNetwork> {
        self.networks.iter().filter(|network| {
            let mut containers = self.containers.iter();
            containers.any(|c| c.key.attempt == network.attempt && !c.is_closed())
        })
    }
}

/// Leading bits of the smallest range for so many containers on so many nodes.
fn prefix_for(containers: usize, nodes: usize) -> u8 {
    let addresses = (containers + nodes + 2).next_power_of_two();
    let bits = u8::try_from(addresses.trailing_zeros()).unwrap_or(32);
    32u8.saturating_sub(bits).min(LONGEST_PREFIX)
}

/// A number that no live session has. Two clusters on the same machines begin to look at
/// different places, and so does the next attempt after one whose number was taken by others.
fn free_number(
    cluster: ClusterId,
    (session, attempt): (SessionId, Attempt),
    taken: &BTreeSet<u32>,
) -> u32 {
    let parts = [cluster.bits(), u128::from(session.0), attempt.0.into()];
    let bytes = parts.iter().flat_map(|part| part.to_le_bytes());
    // FNV-1a: spreads, and is the same in every release.
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let first = hash % MAX_NUMBER;
    let mut numbers = (0..MAX_NUMBER).map(|n| (first + n) % MAX_NUMBER + 1);
    numbers.find(|n| !taken.contains(n)).unwrap_or(1)
}

/// Whether nobody else has what the networks of a session that comes back have.
pub(super) fn is_free(state: &State, session: &Session) -> bool {
    let own = |s: &Session| {
        let networks = s.networks.iter();
        let own = networks.filter_map(|n| n.own.as_ref());
        own.map(|own| (own.number, own.subnet)).collect::<Vec<_>>()
    };
    let mine = own(session);
    let others = state.networked().filter(|id| *id != session.id);
    let mut others = others
        .filter_map(|id| state.sessions.get(&id))
        .flat_map(own);
    others.all(|(number, subnet)| {
        let meets = |(n, range): &(u32, Subnet)| *n == number || range.overlaps(subnet);
        !mine.iter().any(meets)
    })
}

/// Why an attempt gets no network.
#[derive(Debug)]
pub(super) enum Lack {
    /// Sessions have all ranges with so many leading bits: it waits for one that ends.
    Range(u8),
    /// Its nodes are in the way: another attempt may be elsewhere.
    Nodes(String),
}

impl Lack {
    /// The same for who does not wait.
    pub(super) fn now(self, state: &State) -> Self {
        match self {
            Self::Range(prefix) => Self::Nodes(no_range(prefix, state)),
            nodes @ Self::Nodes(_) => nodes,
        }
    }
}

fn no_range(prefix: u8, state: &State) -> String {
    let pool = state.scheduler.network.overlay_pool;
    format!(
        "no range of /{prefix} is left in network.overlay_pool {pool} that its nodes do not use"
    )
}

/// The network of the present attempt of a session that is to be placed on these agents; none
/// where it has one container only.
pub(super) fn find(
    draft: &Draft<'_>,
    session: &Session,
    places: impl Iterator<Item = AgentId>,
    group: GroupId,
) -> Result<Option<AttemptNetwork>, Lack> {
    if session.cluster.size < 2 {
        return Ok(None);
    }
    let attempt = session.attempt;
    let mut agents: Vec<AgentId> = Vec::new();
    for agent in places {
        if !agents.contains(&agent) {
            agents.push(agent);
        }
    }
    let open = draft.state.groups.get(&group).map(|g| g.cluster_network);
    let host = open == Some(ClusterNetwork::Host) && session.cluster.mode == ClusterMode::MultiNode;
    let without = agents.iter().find(|id| underlay(draft, **id).is_none());
    let own = match (host, without) {
        (true, Some(agent)) => {
            let agent = draft.agent(*agent).map_or("a node", |a| a.name.as_str());
            return Err(Lack::Nodes(format!(
                "{agent} tells of no address of its own for other nodes (overlay.interface)"
            )));
        }
        (true, None) => None,
        (false, _) => Some(choose(draft, session, &agents)?),
    };
    Ok(Some(AttemptNetwork {
        attempt,
        own,
        agents,
    }))
}

/// Gives the present attempt of a session its network, or takes the attempt back if its nodes
/// leave room for none.
pub(super) fn give(
    draft: &mut Draft<'_>,
    id: SessionId,
    found: Result<Option<AttemptNetwork>, Lack>,
) {
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    match found {
        Ok(network) => {
            let live: BTreeSet<Attempt> = session.live_networks().map(|n| n.attempt).collect();
            session.networks.retain(|n| live.contains(&n.attempt));
            session.networks.extend(network);
        }
        Err(Lack::Range(_)) => (), // it was not placed
        Err(Lack::Nodes(detail)) => {
            let Some(agent) = session.present().next().map(|c| c.agent) else {
                return;
            };
            let failed = FailedStart {
                cause: Cause::NetworkFailed,
                detail,
                agent,
            };
            fail_attempt(draft, id, failed, "scheduler");
        }
    }
}

/// Another pool may have a range for those who wait for one.
pub(super) fn pool_differs<'a>(
    state: &'a State,
    settings: &SchedulerSettings,
) -> impl Iterator<Item = Change> + 'a {
    let other = state.scheduler.network.overlay_pool != settings.network.overlay_pool;
    looked_at_again(state, other)
}

/// Another network of its group may be had without a range by who waits for one there, or in a
/// queue.
pub(super) fn group_differs<'a>(
    state: &'a State,
    (before, now): (&Group, &Group),
) -> impl Iterator<Item = Change> + 'a {
    looked_at_again(state, before.cluster_network != now.cluster_network)
}

fn looked_at_again(state: &State, wanted: bool) -> impl Iterator<Item = Change> + '_ {
    let waiting = state.awaiting_range().filter(move |_| wanted);
    waiting.filter_map(|id| {
        let session = state.sessions.get(&id)?;
        let session = Session {
            awaits_range: None,
            version: session.version + 1,
            ..session.clone()
        };
        Some(Change::Session(Box::new(session)))
    })
}

/// Nothing is left of an attempt that had a range: who waits for one is looked at again.
pub(super) fn freed(draft: &mut Draft<'_>, id: SessionId, attempt: Attempt) {
    let had = draft.session(id).is_some_and(|session| {
        let mut networks = session.networks.iter();
        let had = networks.any(|n| n.attempt == attempt && n.own.is_some());
        had && session.live_networks().all(|n| n.attempt != attempt)
    });
    if !had {
        return;
    }
    for waiting in draft.state.awaiting_range().collect::<Vec<_>>() {
        if let Some(session) = draft.session_mut(waiting) {
            session.awaits_range = None;
        }
    }
}

fn underlay<'a>(draft: &'a Draft<'_>, agent: AgentId) -> Option<&'a Underlay> {
    let inventory = draft.agent(agent)?.inventory.as_ref()?;
    inventory.networks.underlay.as_ref()
}

/// Number and range of a network over these agents.
fn choose(draft: &Draft<'_>, session: &Session, agents: &[AgentId]) -> Result<OwnRange, Lack> {
    let (mut numbers, mut taken) = (BTreeSet::new(), Vec::new());
    let others = draft.state.networked().chain([session.id]);
    for other in others.filter_map(|id| draft.session(id)) {
        for own in other.live_networks().filter_map(|n| n.own.as_ref()) {
            numbers.insert(own.number);
            taken.push(own.subnet);
        }
    }
    let settings = &draft.state.scheduler.network;
    let prefix = prefix_for(usize::from(session.cluster.size), agents.len());
    let pool = settings.overlay_pool;
    // A pool that is too small for it even when empty is nothing to wait for.
    if pool.free(prefix, &taken, 0).is_none() && pool.free(prefix, &[], 0).is_some() {
        return Err(Lack::Range(prefix));
    }
    for agent in agents {
        let inventory = draft.agent(*agent).and_then(|a| a.inventory.as_ref());
        taken.extend(inventory.iter().flat_map(|i| &i.networks.ranges));
    }
    // A node may have left something in a range that nobody tells of: the next attempt goes on.
    let tried = session.attempt.0.saturating_sub(1);
    let subnet = pool.free(prefix, &taken, tried);
    let subnet = subnet.ok_or_else(|| Lack::Nodes(no_range(prefix, draft.state)))?;
    let named = (session.id, session.attempt);
    Ok(OwnRange {
        number: free_number(draft.state.meta.cluster, named, &numbers),
        subnet,
        mtu: settings.overlay_mtu,
    })
}

/// What an agent is told of the networks of its sessions.
pub(super) fn desired(state: &State, agent: AgentId) -> Vec<SessionNetwork> {
    let ids: BTreeSet<SessionId> = state.on_agent(agent).map(|key| key.session).collect();
    let sessions = ids.iter().filter_map(|id| state.sessions.get(id));
    let told = sessions.flat_map(|session| {
        let live = session.live_networks();
        let here = live.filter(|network| network.agents.contains(&agent));
        here.filter_map(|network| part(state, session, network, agent))
    });
    told.collect()
}

/// The part of one agent in one network.
fn part(
    state: &State,
    session: &Session,
    network: &AttemptNetwork,
    agent: AgentId,
) -> Option<SessionNetwork> {
    let underlay = |id: &AgentId| {
        let inventory = state.agents.get(id)?.inventory.as_ref()?;
        inventory.networks.underlay.as_ref()
    };
    let containers = session.containers.iter();
    let hosts = containers
        .filter(|c| c.key.attempt == network.attempt)
        .filter_map(|c| {
            let address = match &network.own {
                Some(own) => network.address(own, c.key.rank.0),
                None => underlay(&c.agent).map(|at| at.address),
            };
            Some((c.key.rank, address?))
        })
        .collect();
    let own = match &network.own {
        None => None,
        Some(own) => Some(OwnNetwork {
            number: own.number,
            subnet: own.subnet,
            gateway: network.gateway(own, agent)?,
            mtu: own.mtu,
            peers: network
                .agents
                .iter()
                .filter(|id| **id != agent)
                .filter_map(|id| {
                    Some(Peer {
                        name: state.agents.get(id)?.name.clone(),
                        at: underlay(id).map(|at| (at.address, at.port)),
                        gateway: network.gateway(own, *id)?,
                    })
                })
                .collect(),
        }),
    };
    Some(SessionNetwork {
        session: session.id,
        attempt: network.attempt,
        own,
        hosts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_containers_and_nodes_and_is_no_larger() {
        let shown: Vec<u8> = [(2, 1), (2, 2), (3, 3), (4, 3), (13, 1), (14, 1), (100, 100)]
            .into_iter()
            .map(|(containers, nodes)| prefix_for(containers, nodes))
            .collect();
        assert_eq!(shown, [29, 29, 29, 28, 28, 27, 24]);
    }

    #[test]
    fn numbers_are_in_their_range_and_none_is_given_twice() {
        let mut taken = BTreeSet::new();
        for session in 0..500 {
            for attempt in 1..3 {
                let of = (SessionId(session), Attempt(attempt));
                let number = free_number(ClusterId::new(9), of, &taken);
                assert!((1..=MAX_NUMBER).contains(&number) && taken.insert(number));
            }
        }
        let of = (SessionId(1), Attempt(1));
        let first = free_number(ClusterId::new(9), of, &BTreeSet::new());
        assert_eq!(first, free_number(ClusterId::new(9), of, &BTreeSet::new()));
        let beside = free_number(ClusterId::new(9), of, &BTreeSet::from([first]));
        assert_eq!(beside, first % MAX_NUMBER + 1);
        assert_ne!(first, free_number(ClusterId::new(8), of, &BTreeSet::new()));
    }
}
