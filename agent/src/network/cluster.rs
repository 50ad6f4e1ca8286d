//! Networks of sessions of several containers: made as the coordinator says, joined to the
//! parts of other nodes, gone with the last container here.
//!
//! | what | how it is called | by what it is known again |
//! |---|---|---|
//! | network of the engine | `longshore-<cluster>-s-42-a1` | labels |
//! | its bridge | `ls<cluster>-c<number>` | the network |
//! | link to other nodes | `ls<cluster>v<agent><number>` | its name |

mod order;

use super::{Pool, cluster_name, is_taken, link_prefix, links, network_error, probe};
use crate::runtime::RuntimeError;
use crate::runtime::docker::engine::CallError;
use crate::runtime::docker::request::LABEL;
use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest};
use longshore_common::ids::{Attempt, ContainerKey, SessionId};
use longshore_common::network::{NodeNetworks, OVERHEAD, OwnNetwork, SessionNetwork, Underlay};
use longshore_common::session::Cause;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Other nodes make their parts within this time, or the attempt fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose a network is.
pub(super) type Of = (SessionId, Attempt);

/// One of them on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shared {
    /// The engine's id.
    pub(super) id: String,
    /// What tells it from others between nodes.
    pub(super) number: u32,
    /// Containers that have it or are about to.
    pub(super) keys: BTreeSet<ContainerKey>,
}

/// Whose a network of the engine is, and its number; none = one that any session may get.
pub(super) fn of(network: &Network) -> Option<(Of, u32)> {
    let labels = network.labels.as_ref()?;
    let label = |name: &str| labels.get(&format!("{LABEL}{name}"));
    let of = (
        label("session")?.parse().ok()?,
        Attempt(label("attempt")?.parse().ok()?),
    );
    Some((of, label("number")?.parse().ok()?))
}

fn failed(detail: String) -> RuntimeError {
    RuntimeError::Failed {
        cause: Cause::NetworkFailed,
        detail,
    }
}

/// Nothing was made.
fn refused(why: String) -> RuntimeError {
    failed(format!(
        "the order of the session's network is refused: {why}"
    ))
}

impl Pool {
    /// What this node says of its networks.
    pub async fn networks(&self) -> NodeNetworks {
        let own = link_prefix(self.0.cluster);
        match links::look(&self.0.config.overlay, &own, &self.0.names).await {
            Ok(mut found) => {
                let ranges = found.ranges.into_iter().chain([self.0.config.range]);
                found.ranges = links::widest(ranges);
                found
            }
            Err(error) => {
                tracing::warn!(%error, "the networks of this machine are not known");
                NodeNetworks::default()
            }
        }
    }

    /// The network of a session of several containers, as the engine knows it: made, or as it
    /// was made before.
    ///
    /// # Errors
    /// When the engine is down or does not make it, when this node cannot reach the others by
    /// its own settings or does not allow it, or when the firewall is required and not there.
    pub async fn join(
        &self,
        key: ContainerKey,
        network: &SessionNetwork,
    ) -> Result<String, RuntimeError> {
        let Some(own) = &network.own else {
            return match self.0.config.overlay.host_network {
                true => Ok("host".to_owned()),
                false => Err(RuntimeError::Failed {
                    cause: Cause::LocalPolicy,
                    detail: "local_policy.host_network of this node is \"deny\"".to_owned(),
                }),
            };
        };
        let of = (network.session, network.attempt);
        let _work = self.0.work.lock().await;
        if !self.is_ready() {
            self.secure().await?;
            self.adopt().await?;
        }
        order::check(network, own).map_err(refused)?;
        let underlay = match own.peers.is_empty() {
            true => None,
            false => Some(self.underlay(own).await?),
        };
        let known = self.state().shared.get(&of).cloned();
        let known = known.filter(|shared| shared.number == own.number);
        let is_new = known.is_none();
        let shared = match known {
            Some(known) => known,
            None => {
                order::is_free(own.subnet, &self.networks().await.ranges).map_err(refused)?;
                let made = Shared {
                    id: self.make_shared(of, own).await?,
                    number: own.number,
                    keys: [key].into(),
                };
                self.state().shared.insert(of, made.clone());
                made
            }
        };
        if let Some(underlay) = underlay {
            // Also of one that is known: its link may have vanished.
            let (link, bridge) = (self.link_name(own.number), self.bridge_name(own.number));
            if let Err(error) = links::join(&link, &bridge, own, &underlay).await {
                if is_new {
                    self.unmake(of, shared).await?;
                }
                return Err(failed(format!(
                    "the network of the session cannot be joined to other nodes: {error}"
                )));
            }
        }
        if let Some(shared) = self.state().shared.get_mut(&of) {
            shared.keys.insert(key);
        }
        Ok(shared.id)
    }

    /// This node's own end of what carries packets to others.
    async fn underlay(&self, own: &OwnNetwork) -> Result<Underlay, RuntimeError> {
        let found = self.networks().await.underlay;
        usable(own, found).map_err(failed)
    }

    /// Waits until every other node of a session answers over its network.
    ///
    /// # Errors
    /// When one does not within a minute; it is named.
    pub async fn reach(&self, network: &SessionNetwork) -> Result<(), RuntimeError> {
        let Some(own) = network.own.as_ref().filter(|own| !own.peers.is_empty()) else {
            return Ok(()); // that of the nodes, or all are here
        };
        let others: Vec<Ipv4Addr> = own.peers.iter().map(|peer| peer.gateway).collect();
        // Which of several of this machine asks; two of one network may be answered alike.
        let id = u16::try_from(own.number & 0xffff).unwrap_or(0);
        let silent = probe::reach(own.gateway, &others, own.mtu, (id, PATIENCE)).await;
        let silent =
            silent.map_err(|error| failed(format!("no socket to look for nodes: {error}")))?;
        match unreached(own, &silent) {
            None => Ok(()),
            Some(detail) => Err(failed(detail)),
        }
    }

    /// A container that had its session's network is gone: so is the network, after the last.
    ///
    /// # Errors
    /// When the engine is down.
    pub async fn leave(&self, key: ContainerKey) -> Result<(), RuntimeError> {
        let of = (key.session, key.attempt);
        let known = {
            let state = self.state();
            !state.trusted || state.shared.contains_key(&of)
        };
        if !known {
            return Ok(());
        }
        let _work = self.0.work.lock().await;
        if !self.state().trusted {
            self.adopt().await?;
        }
        let last = {
            let mut state = self.state();
            let Some(shared) = state.shared.get_mut(&of) else {
                return Ok(());
            };
            shared.keys.remove(&key);
            shared.keys.is_empty().then(|| shared.clone())
        };
        match last {
            Some(shared) => self.unmake(of, shared).await,
            None => Ok(()),
        }
    }

    /// Believes the engine's list of these networks, and removes what nobody needs: of sessions
    /// that ended while no agent was here, and of an agent that died between two steps. The
    /// caller holds `work`.
    pub(super) async fn adopt_shared(&self, found: Vec<(Of, Shared)>) -> Result<(), RuntimeError> {
        let (useless, numbers) = {
            let mut state = self.state();
            let (kept, useless) = sorted(&state.shared, found);
            let numbers: BTreeSet<u32> = kept.values().map(|shared| shared.number).collect();
            state.shared = kept;
            // Not before the table is there: whoever leaves a network that a trusted table does
            // not name goes away at once, and the older list would then keep it for ever.
            state.trusted = true;
            (useless, numbers)
        };
        for (of, shared) in useless {
            self.unmake(of, shared).await?;
        }
        let (prefix, tag) = (self.link_name_prefix(), self.link_tag());
        let names = links::names(&prefix).await.unwrap_or_default(); // looked for again
        for name in names {
            let rest = name.strip_prefix(&prefix).unwrap_or_default();
            if number_of(rest, &tag).is_some_and(|number| !numbers.contains(&number))
                && let Err(error) = links::remove(&name).await
            {
                tracing::warn!(%error, name, "a link that nobody needs stays");
            }
        }
        Ok(())
    }

    /// Removes those that no container has. The caller holds `work` and has adopted.
    pub(super) async fn dispose_shared(&self) -> Result<(), RuntimeError> {
        let unused: Vec<(Of, Shared)> = {
            let state = self.state();
            let all = state.shared.iter();
            let unused = all.filter(|(_, shared)| shared.keys.is_empty());
            unused.map(|(of, shared)| (*of, shared.clone())).collect()
        };
        for (of, shared) in unused {
            self.unmake(of, shared).await?;
        }
        Ok(())
    }

    /// The caller holds `work`.
    async fn unmake(&self, of: Of, shared: Shared) -> Result<(), RuntimeError> {
        self.state().shared.remove(&of);
        let former = format!("{}{:06x}", self.link_name_prefix(), shared.number);
        for name in [self.link_name(shared.number), former] {
            if let Err(error) = links::remove(&name).await {
                tracing::warn!(%error, "a link to other nodes stays until the next look");
            }
        }
        self.remove(shared.number, &shared.id).await
    }

    /// The caller holds `work`.
    async fn make_shared(&self, of: Of, own: &OwnNetwork) -> Result<String, RuntimeError> {
        let body = self.shared_body(of, own);
        let made = self
            .0
            .engine
            .call("network", super::NETWORK_S, |client| async move {
                client.create_network(body).await
            })
            .await;
        match made {
            Ok(made) => Ok(made.id),
            Err(CallError::Refused { message, .. }) if is_taken(&message) => Err(failed(format!(
                "{} or its name is in use on this node: {message}",
                own.subnet
            ))),
            Err(error @ CallError::Refused { .. }) => Err(network_error(error)),
            // It may have been made all the same, and would be in the way of the next try.
            Err(error) => {
                self.distrust();
                Err(network_error(error))
            }
        }
    }

    fn shared_body(&self, (session, attempt): Of, own: &OwnNetwork) -> NetworkCreateRequest {
        let mut options = vec![
            (
                "com.docker.network.bridge.name",
                self.bridge_name(own.number),
            ),
            ("com.docker.network.bridge.enable_icc", "true".to_owned()),
        ];
        if !own.peers.is_empty() {
            options.push(("com.docker.network.driver.mtu", own.mtu.to_string()));
        }
        let options = options
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let labels = [
            ("cluster", self.0.cluster.to_string()),
            ("agent", self.0.agent.to_string()),
            ("session", session.to_string()),
            ("attempt", attempt.to_string()),
            ("number", own.number.to_string()),
        ];
        NetworkCreateRequest {
            name: format!("{}{session}-a{attempt}", cluster_name(self.0.cluster)),
            driver: Some("bridge".to_owned()),
            enable_ipv6: Some(false),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(own.subnet.to_string()),
                    gateway: Some(own.gateway.to_string()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            options: Some(options.collect()),
            labels: Some(
                labels
                    .map(|(name, value)| (format!("{LABEL}{name}"), value))
                    .into(),
            ),
            ..NetworkCreateRequest::default()
        }
    }

    fn bridge_name(&self, number: u32) -> String {
        format!("{}c{number:06x}", link_prefix(self.0.cluster))
    }

    fn link_name(&self, number: u32) -> String {
        format!("{}{}{number:06x}", self.link_name_prefix(), self.link_tag())
    }

    /// What tells the links of this agent from those of another one of the same cluster on this
    /// machine: all that the kernel leaves room for.
    fn link_tag(&self) -> String {
        let id = self.0.agent.to_string();
        id.split_at(id.len() - 2).1.to_owned()
    }

    fn link_name_prefix(&self) -> String {
        format!("{}v", link_prefix(self.0.cluster).trim_end_matches('-'))
    }
}

/// The number of a network, of what stands behind the prefix in the name of a link; none = the
/// link is another agent's, or none of ours. Names of the release before had no tag of an agent.
fn number_of(rest: &str, tag: &str) -> Option<u32> {
    const DIGITS: usize = 6;
    let digits = match rest.len() {
        DIGITS => rest,
        _ => rest.strip_prefix(tag)?,
    };
    let all_digits = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| all_digits)
}

/// Whether this node can carry a network to its peers, as far as its own settings tell.
fn usable(own: &OwnNetwork, underlay: Option<Underlay>) -> Result<Underlay, String> {
    let underlay = underlay.ok_or(
        "this node has no address at which others reach it; set overlay.interface of its agent",
    )?;
    let room = underlay.mtu.saturating_sub(OVERHEAD);
    if own.mtu > room {
        return Err(format!(
            "network.overlay_mtu is {}, but {} of this node carries packets of {}, so it can be {room} at most",
            own.mtu, underlay.link, underlay.mtu
        ));
    }
    for peer in &own.peers {
        match peer.at {
            None => {
                return Err(format!(
                    "{} names no address at which others reach it; set overlay.interface of its agent",
                    peer.name
                ));
            }
            Some((at, _)) if at == underlay.address => {
                return Err(format!(
                    "{} names {at}, the address of this node; set overlay.interface of both agents",
                    peer.name
                ));
            }
            // The kernel sends all of a link's packets to one port, and sessions are kept from
            // that port alone.
            Some((_, port)) if port != underlay.port => {
                return Err(format!(
                    "{} takes packets at UDP port {port}, this node at {}; overlay.port must be the same on all nodes",
                    peer.name, underlay.port
                ));
            }
            Some(_) => (),
        }
    }
    Ok(underlay)
}

/// What is told of nodes that did not answer.
fn unreached(own: &OwnNetwork, silent: &[Ipv4Addr]) -> Option<String> {
    let named = own
        .peers
        .iter()
        .filter(|peer| silent.contains(&peer.gateway));
    let named: Vec<String> = named
        .map(|peer| match peer.at {
            Some((at, port)) => format!("{} ({at}, UDP port {port})", peer.name),
            None => peer.name.clone(),
        })
        .collect();
    (!named.is_empty()).then(|| {
        format!(
            "no answer over the session's network in {} s from {}; packets of {} bytes must pass between the nodes",
            PATIENCE.as_secs(),
            named.join(", "),
            own.mtu + OVERHEAD
        )
    })
}

/// Of what the engine has: what is kept, with who has it or is about to, and what is not.
fn sorted(
    known: &BTreeMap<Of, Shared>,
    found: Vec<(Of, Shared)>,
) -> (BTreeMap<Of, Shared>, Vec<(Of, Shared)>) {
    let (mut kept, mut useless) = (BTreeMap::new(), Vec::new());
    for (of, mut shared) in found {
        // Whoever was given it a moment ago has no container in it yet.
        if let Some(known) = known.get(&of).filter(|known| known.id == shared.id) {
            shared.keys.extend(&known.keys);
        }
        match shared.keys.is_empty() || kept.contains_key(&of) {
            true => useless.push((of, shared)),
            false => drop(kept.insert(of, shared)),
        }
    }
    (kept, useless)
}

#[cfg(test)]
mod tests;
