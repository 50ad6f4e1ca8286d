//! Networks of sessions and the firewall around them.
//!
//! Each session on this node has a bridge of its own, so that its containers reach each
//! other and nothing else of ours. Making one costs as much as starting a container, so
//! a few are kept ready and used again: a start takes one that is free.
//!
//! - Which network belongs to whom is told by labels and containers, never by a file: a
//!   restarted agent adopts what it finds.
//! - All slow work (making, removing, adopting, firewall) goes through one lock, so that
//!   what was listed cannot be outdated by ourselves.
//! - Docker isolates bridges from each other; the chains here add what it does not: the
//!   node itself and link-local addresses (metadata services of clouds) are out of reach.

use crate::runtime::RuntimeError;
use crate::runtime::docker::engine::{CallError, Engine};
use crate::runtime::docker::request::LABEL;
use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest};
use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions};
use cluster::{Of, Shared};
use firewall::Firewall;
use longshore_common::ids::{AgentId, Attempt, ClusterId, ContainerKey, SessionId};
use longshore_common::network::{NoSubnet, Subnet};
use longshore_common::session::Cause;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

mod cluster;
mod firewall;
mod links;
mod probe;

/// Making and removing networks: the engine sets up links and rules, under locks that
/// other calls hold too.
const NETWORK_S: u64 = 60;
/// Lists.
const LIST_S: u64 = 5;
/// The number of free networks is brought right this long after one was taken or given
/// back, so that a short session's network serves the next one and none is made or removed
/// for it. Sooner only when none is free, and then not while a session that took one is
/// being started: its start would wait for the engine's network lock.
const REFILL_AFTER: Duration = Duration::from_millis(2500);
/// A subnet that somebody else uses is tried again after so long.
const FOREIGN_FOR: Duration = Duration::from_secs(600);
/// Subnets tried for one new network before it is given up.
const TRIES: usize = 32;

/// Whether sessions run without the rules that keep them from the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirewallMode {
    /// No session without them.
    #[default]
    Require,
    /// No rules are set.
    Off,
}

impl FromStr for FirewallMode {
    type Err = PoolError;
    fn from_str(text: &str) -> Result<Self, PoolError> {
        match text {
            "require" => Ok(Self::Require),
            "off" => Ok(Self::Off),
            _ => Err(PoolError::Firewall(text.chars().take(64).collect())),
        }
    }
}

/// What the pool is told by the agent's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// The range that subnets are cut from, `10.213.0.0/16`.
    pub range: Subnet,
    /// Prefix length of one session's subnet.
    pub prefix: u8,
    /// Free networks kept ready.
    pub warm: usize,
    /// See [`FirewallMode`].
    pub firewall: FirewallMode,
    /// How this node and others reach each other.
    pub overlay: OverlayConfig,
}

/// How nodes reach each other for sessions that are on several of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayConfig {
    /// The link whose address others are told; empty = the one that leads to the coordinator.
    pub interface: String,
    /// The UDP port for what comes from other nodes.
    pub port: u16,
    /// The coordinator's addresses, `host:port`.
    pub coordinators: Vec<String>,
    /// Whether containers may be in the network of this node.
    pub host_network: bool,
}

impl Default for OverlayConfig {
    fn default() -> Self {
        Self {
            interface: String::new(),
            port: longshore_common::network::PORT,
            coordinators: Vec::new(),
            host_network: false,
        }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            range: Subnet {
                base: Ipv4Addr::new(10, 213, 0, 0),
                prefix: 16,
            },
            prefix: 27,
            warm: 4,
            firewall: FirewallMode::default(),
            overlay: OverlayConfig::default(),
        }
    }
}

/// The configuration of networks makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Not a range of addresses.
    #[error(transparent)]
    Range(#[from] NoSubnet),
    /// Networks of sessions are cut from larger ones.
    #[error("network.pool {0} must have 8 to 30 fixed bits")]
    Size(Subnet),
    /// Subnets of that size cannot be cut from the range.
    #[error(
        "network.prefix {prefix} does not fit network.pool {range}: it must lie between {min} and 29"
    )]
    Prefix {
        /// What was given.
        prefix: u8,
        /// The range.
        range: Subnet,
        /// The smallest that fits.
        min: u8,
    },
    /// No such mode.
    #[error("network.firewall \"{0}\" is neither \"require\" nor \"off\"")]
    Firewall(String),
}

/// The networks of one agent's sessions. Clones share everything.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Arc<Engine>,
    cluster: ClusterId,
    agent: AgentId,
    config: PoolConfig,
    firewall: Firewall,
    /// What the names of coordinators last led to.
    names: links::Names,
    state: Mutex<State>,
    /// Containers that were given a network and have not started yet, as far as is known.
    starting: watch::Sender<BTreeSet<ContainerKey>>,
    /// Held by everything that makes, removes or lists networks.
    work: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the table agrees with the engine.
    trusted: bool,
    /// Whether the rules stand; none = never tried.
    firewall: Option<Result<(), String>>,
    /// Networks by number.
    networks: BTreeMap<u32, Slot>,
    /// Those of sessions of several containers.
    shared: BTreeMap<Of, Shared>,
    /// Subnets in which somebody else sits, and since when.
    foreign: HashMap<u32, Instant>,
    /// Whether a task is about to bring the number of free ones right.
    refilling: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    id: String,
    holder: Option<Holder>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    session: SessionId,
    attempt: Attempt,
    keys: BTreeSet<ContainerKey>,
}

impl State {
    /// The session's own network, or a free one made its own.
    fn take(&mut self, key: ContainerKey) -> Option<String> {
        let same = |slot: &&mut Slot| slot.holder.as_ref().is_some_and(|holder| holder.is_of(key));
        if let Some(slot) = self.networks.values_mut().find(same) {
            slot.holder.as_mut()?.keys.insert(key);
            return Some(slot.id.clone());
        }
        let slot = self
            .networks
            .values_mut()
            .find(|slot| slot.holder.is_none())?;
        slot.holder = Some(Holder::new(key));
        Some(slot.id.clone())
    }

    /// Believes the engine's list, except that a session that was given a network a
    /// moment ago has no container in it yet.
    fn replace(&mut self, mut found: BTreeMap<u32, Slot>) {
        for (number, slot) in &mut found {
            let known = self
                .networks
                .get(number)
                .filter(|known| known.id == slot.id);
            if let Some(holder) = known.and_then(|known| known.holder.clone()) {
                slot.holder = Some(holder);
            }
        }
        self.networks = found;
    }

    fn free(&self) -> usize {
        self.networks
            .values()
            .filter(|slot| slot.holder.is_none())
            .count()
    }

    /// The lowest number that is neither ours nor somebody else's.
    fn next_number(&self) -> u32 {
        let taken = |n: &u32| {
            let foreign = self
                .foreign
                .get(n)
                .is_some_and(|since| since.elapsed() < FOREIGN_FOR);
            self.networks.contains_key(n) || foreign
        };
        (0..).find(|n| !taken(n)).unwrap_or(u32::MAX)
    }
}

impl Holder {
    fn new(key: ContainerKey) -> Self {
        Self {
            session: key.session,
            attempt: key.attempt,
            keys: [key].into(),
        }
    }

    fn is_of(&self, key: ContainerKey) -> bool {
        (self.session, self.attempt) == (key.session, key.attempt)
    }
}

impl Pool {
    /// An empty pool; the first use adopts what the engine has.
    ///
    /// # Errors
    /// When subnets of that size cannot be cut from the range.
    pub fn new(
        engine: Arc<Engine>,
        cluster: ClusterId,
        agent: AgentId,
        config: PoolConfig,
    ) -> Result<Self, PoolError> {
        // A subnet needs addresses for itself, the bridge, a container and broadcast.
        if config.prefix < config.range.prefix || config.prefix > 29 {
            let PoolConfig { range, prefix, .. } = config;
            return Err(PoolError::Prefix {
                prefix,
                range,
                min: range.prefix,
            });
        }
        if !(8..=30).contains(&config.range.prefix) {
            return Err(PoolError::Size(config.range));
        }
        let firewall = Firewall::new(&link_prefix(cluster), config.overlay.port);
        let (state, work) = Default::default();
        Ok(Self(Arc::new(Inner {
            engine,
            cluster,
            agent,
            config,
            firewall,
            names: links::Names::default(),
            state,
            starting: watch::channel(BTreeSet::new()).0,
            work,
        })))
    }

    /// The network of a container's session, by id; one that is ready, if there is one.
    ///
    /// # Errors
    /// When the engine is down or gives none, or the firewall is required and not there.
    pub async fn acquire(&self, key: ContainerKey) -> Result<String, RuntimeError> {
        self.0.starting.send_modify(|starting| {
            starting.insert(key);
        });
        let result = self.provide(key).await;
        if result.is_err() {
            self.started(key);
        }
        result
    }

    /// A container with a network of ours runs, or never will.
    pub fn started(&self, key: ContainerKey) {
        let starting = &self.0.starting;
        starting.send_if_modified(|starting| starting.remove(&key));
    }

    async fn provide(&self, key: ContainerKey) -> Result<String, RuntimeError> {
        if !self.is_ready() {
            let _work = self.0.work.lock().await;
            if !self.is_ready() {
                self.secure().await?;
                self.adopt().await?;
            }
        }
        let taken = self.state().take(key);
        if let Some(id) = taken {
            self.refill_later();
            return Ok(id);
        }
        let _work = self.0.work.lock().await;
        let taken = self.state().take(key); // another container of the session was faster
        if let Some(id) = taken {
            return Ok(id);
        }
        let id = self.make(Some(Holder::new(key))).await?;
        self.refill_later();
        Ok(id)
    }

    /// A container that held its session's network is gone. Not held is fine.
    pub fn release(&self, key: ContainerKey) {
        self.started(key);
        let mut state = self.state();
        for slot in state.networks.values_mut() {
            let Some(holder) = &mut slot.holder else {
                continue;
            };
            holder.keys.remove(&key);
            if holder.keys.is_empty() {
                slot.holder = None;
            }
        }
        let is_right = state.free() == self.0.config.warm;
        drop(state);
        if !is_right {
            self.refill_later();
        }
    }

    /// The engine did not know a network of ours: what it has is listed anew before the
    /// next one is handed out.
    pub fn distrust(&self) {
        self.state().trusted = false;
    }

    /// Firewall, adoption of what the engine has, and the right number of free networks.
    ///
    /// # Errors
    /// When the engine is down, or the firewall is required and cannot be set.
    pub async fn upkeep(&self) -> Result<(), RuntimeError> {
        let _work = self.0.work.lock().await;
        self.secure().await?;
        self.adopt().await?;
        self.refill().await
    }

    /// Removes every network that holds no container, and the rules.
    ///
    /// # Errors
    /// When the engine is down.
    pub async fn dispose(&self) -> Result<(), RuntimeError> {
        let _work = self.0.work.lock().await;
        self.adopt().await?;
        while let Some((number, id)) = self.pick_free() {
            self.remove(number, &id).await?;
        }
        self.dispose_shared().await?;
        if self.0.config.firewall == FirewallMode::Require {
            self.0.firewall.withdraw().await;
        }
        self.state().firewall = None;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ready(&self) -> bool {
        let state = self.state();
        state.trusted && matches!(state.firewall, Some(Ok(())))
    }

    /// Sets the rules, if they are wanted.
    async fn secure(&self) -> Result<(), RuntimeError> {
        let result = match self.0.config.firewall {
            FirewallMode::Off => Ok(()),
            FirewallMode::Require => self.0.firewall.ensure().await,
        };
        self.state().firewall = Some(result.clone());
        result.map_err(|detail| RuntimeError::Failed {
            cause: Cause::NetworkFailed,
            detail: format!("the firewall of session networks cannot be set: {detail}"),
        })
    }

    /// Makes the table agree with the engine.
    async fn adopt(&self) -> Result<(), RuntimeError> {
        let listed = self.list_networks().await?;
        let users = self.list_users().await?;
        let mut found = BTreeMap::new();
        let mut useless = Vec::new();
        let mut shared = Vec::new();
        for network in listed {
            let Some(id) = network.id.clone() else {
                continue;
            };
            let keys = users.get(&id).cloned().unwrap_or_default();
            if let Some((of, number)) = cluster::of(&network) {
                shared.push((of, Shared { id, number, keys }));
                continue;
            }
            match self.number_of(&network).filter(|n| !found.contains_key(n)) {
                Some(number) => {
                    let holder = keys.first().copied().map(|first| Holder {
                        keys,
                        ..Holder::new(first)
                    });
                    found.insert(number, Slot { id, holder });
                }
                None if keys.is_empty() => useless.push(id),
                None => (), // of another configuration; gone with its session
            }
        }
        self.state().replace(found);
        self.adopt_shared(shared).await?;
        for id in useless {
            self.remove(u32::MAX, &id).await?;
        }
        Ok(())
    }

    async fn list_networks(&self) -> Result<Vec<Network>, RuntimeError> {
        let options = ListNetworksOptions {
            filters: Some([("label".to_owned(), self.labels())].into()),
        };
        self.0
            .engine
            .call("list", LIST_S, |client| async move {
                client.list_networks(Some(options)).await
            })
            .await
            .map_err(network_error)
    }

    /// Containers of ours by the network they were made with, whether it still exists or not.
    async fn list_users(&self) -> Result<HashMap<String, BTreeSet<ContainerKey>>, RuntimeError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some([("label".to_owned(), self.labels())].into()),
            ..ListContainersOptions::default()
        };
        let listed = self
            .0
            .engine
            .call("list", LIST_S, |client| async move {
                client.list_containers(Some(options)).await
            })
            .await
            .map_err(network_error)?;
        let mut users: HashMap<String, BTreeSet<ContainerKey>> = HashMap::new();
        for container in listed {
            let key = container
                .labels
                .as_ref()
                .and_then(crate::runtime::docker::key_of);
            let network = container.host_config.and_then(|config| config.network_mode);
            if let (Some(key), Some(network)) = (key, network) {
                users.entry(network).or_default().insert(key);
            }
        }
        Ok(users)
    }

    fn labels(&self) -> Vec<String> {
        vec![
            format!("{LABEL}cluster={}", self.0.cluster),
            format!("{LABEL}agent={}", self.0.agent),
        ]
    }

    /// The number of a network that we would make just so today.
    fn number_of(&self, network: &Network) -> Option<u32> {
        let name = network.name.as_deref()?;
        let number: u32 = name.strip_prefix(&self.name_prefix())?.parse().ok()?;
        let wanted = self
            .0
            .config
            .range
            .nth(self.0.config.prefix, number)?
            .to_string();
        let configs = network.ipam.as_ref()?.config.as_ref()?;
        configs
            .iter()
            .any(|config| config.subnet.as_deref() == Some(&wanted))
            .then_some(number)
    }

    fn name_prefix(&self) -> String {
        cluster_name(self.0.cluster)
    }

    /// Makes a network in the first subnet that nobody uses. The caller holds `work`.
    async fn make(&self, holder: Option<Holder>) -> Result<String, RuntimeError> {
        for _ in 0..TRIES {
            let number = self.state().next_number();
            let Some(subnet) = self.0.config.range.nth(self.0.config.prefix, number) else {
                let detail = format!("no subnet is left in network.pool {}", self.0.config.range);
                return Err(RuntimeError::Failed {
                    cause: Cause::NetworkFailed,
                    detail,
                });
            };
            let body = self.body(number, subnet);
            let made = self
                .0
                .engine
                .call("network", NETWORK_S, |client| async move {
                    client.create_network(body).await
                })
                .await;
            match made {
                Ok(made) => {
                    let slot = Slot {
                        id: made.id.clone(),
                        holder,
                    };
                    self.state().networks.insert(number, slot);
                    return Ok(made.id);
                }
                // Another agent on this machine, or a person, was there first.
                Err(CallError::Refused { message, .. }) if is_taken(&message) => {
                    self.state().foreign.insert(number, Instant::now());
                }
                Err(error) => return Err(network_error(error)),
            }
        }
        let detail = format!(
            "{TRIES} subnets of {} are in use by others",
            self.0.config.range
        );
        Err(RuntimeError::Failed {
            cause: Cause::NetworkFailed,
            detail,
        })
    }

    fn body(&self, number: u32, subnet: Subnet) -> NetworkCreateRequest {
        let pairs = |items: &[(&str, String)]| -> HashMap<String, String> {
            items
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect()
        };
        NetworkCreateRequest {
            name: format!("{}{number}", self.name_prefix()),
            driver: Some("bridge".to_owned()),
            enable_ipv6: Some(false),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(subnet.to_string()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            options: Some(pairs(&[
                (
                    "com.docker.network.bridge.name",
                    format!("{}{number}", link_prefix(self.0.cluster)),
                ),
                ("com.docker.network.bridge.enable_icc", "true".to_owned()),
            ])),
            labels: Some(
                [
                    ("cluster", self.0.cluster.to_string()),
                    ("agent", self.0.agent.to_string()),
                ]
                .map(|(name, value)| (format!("{LABEL}{name}"), value))
                .into(),
            ),
            ..NetworkCreateRequest::default()
        }
    }

    /// Takes a free network out of the table, so that nobody is given it.
    fn pick_free(&self) -> Option<(u32, String)> {
        let mut state = self.state();
        let number = *state
            .networks
            .iter()
            .rev()
            .find(|(_, slot)| slot.holder.is_none())?
            .0;
        state.networks.remove(&number).map(|slot| (number, slot.id))
    }

    /// Removes a network that is not in the table (any more). The caller holds `work`.
    async fn remove(&self, number: u32, id: &str) -> Result<(), RuntimeError> {
        let result = self
            .0
            .engine
            .call("network", NETWORK_S, |client| async move {
                client.remove_network(id).await
            })
            .await;
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.is_absent() => Ok(()),
            Err(CallError::Refused { message, .. }) => {
                // Somebody attached something; it is left alone until the next upkeep.
                tracing::warn!(network = id, number, message, "network not removed");
                Ok(())
            }
            Err(error) => Err(network_error(error)),
        }
    }

    fn refill_later(&self) {
        let mut state = self.state();
        if state.refilling || state.free() == self.0.config.warm {
            return;
        }
        state.refilling = true;
        drop(state);
        let pool = self.clone();
        tokio::spawn(async move {
            pool.until_due().await;
            let work = pool.0.work.lock().await;
            pool.state().refilling = false;
            if let Err(error) = pool.refill().await {
                tracing::debug!(%error, "no network made ready");
            }
            drop(work);
        });
    }

    /// Waits for the moment to bring the number of free networks right.
    async fn until_due(&self) {
        let mut starting = self.0.starting.subscribe();
        let wanted = async {
            loop {
                let quiet = starting.borrow_and_update().is_empty();
                if quiet && self.state().free() == 0 {
                    return;
                }
                // Whoever takes the last one is added to these.
                if starting.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(REFILL_AFTER, wanted).await; // then it is due anyhow
    }

    /// The caller holds `work`.
    async fn refill(&self) -> Result<(), RuntimeError> {
        let warm = self.0.config.warm;
        loop {
            let free = self.state().free();
            if free < warm {
                self.make(None).await?;
            } else if free > warm
                && let Some((number, id)) = self.pick_free()
            {
                self.remove(number, &id).await?;
            } else {
                return Ok(());
            }
        }
    }
}

fn network_error(error: CallError) -> RuntimeError {
    match error {
        CallError::Refused { message, .. } => RuntimeError::Failed {
            cause: Cause::NetworkFailed,
            detail: message,
        },
        other => other.into_runtime(Cause::NetworkFailed),
    }
}

fn is_taken(message: &str) -> bool {
    [
        "overlaps",
        "already exists",
        "same bridge name",
        "already in use",
    ]
    .iter()
    .any(|part| message.contains(part))
}

/// What the names of a cluster's networks begin with.
fn cluster_name(cluster: ClusterId) -> String {
    format!("longshore-{}-", cluster.short())
}

/// What the names of a cluster's links begin with. The kernel allows 15 bytes in all.
fn link_prefix(cluster: ClusterId) -> String {
    format!("ls{}-", &cluster.short()[4..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::Rank;

    fn key(session: u64, rank: u16) -> ContainerKey {
        ContainerKey {
            session: SessionId(session),
            rank: Rank(rank),
            attempt: Attempt::FIRST,
        }
    }

    fn pool(range: &str, prefix: u8) -> Result<Pool, PoolError> {
        let config = PoolConfig {
            range: range.parse()?,
            prefix,
            ..PoolConfig::default()
        };
        let engine = Arc::new(Engine::new("/nowhere.sock".as_ref()));
        Pool::new(engine, ClusterId::new(7), AgentId::new(9), config)
    }

    #[test]
    fn ranges_of_which_no_subnets_can_be_cut_are_refused() {
        for bad in ["10.213.0.1/16", "10.0.0.0/31", "0.0.0.0/0"] {
            assert!(pool(bad, 29).is_err(), "{bad}");
        }
        assert!(pool("10.0.0.0/24", 23).is_err());
        assert!(pool("10.0.0.0/24", 30).is_err());
        assert!(pool("10.0.0.0/24", 29).is_ok());
    }

    #[test]
    fn links_have_names_that_the_kernel_takes() {
        let pool = pool("10.0.0.0/8", 29).unwrap();
        let body = pool.body(2_097_151, pool.0.config.range);
        let link = &body.options.unwrap()["com.docker.network.bridge.name"];
        assert!(link.len() <= 15, "{link}");
        assert!(link.starts_with(&link_prefix(ClusterId::new(7))));
    }

    #[test]
    fn a_session_has_one_network_and_gives_it_back_with_its_last_container() {
        let pool = pool("10.213.0.0/16", 27).unwrap();
        let slot = |id: &str| Slot {
            id: id.to_owned(),
            holder: None,
        };
        pool.state().networks = [(0, slot("a")), (1, slot("b"))].into();
        pool.state().refilling = true; // no task in this test
        assert_eq!(pool.state().take(key(1, 0)).as_deref(), Some("a"));
        assert_eq!(pool.state().take(key(2, 0)).as_deref(), Some("b"));
        assert_eq!(pool.state().take(key(1, 1)).as_deref(), Some("a"));
        assert_eq!(pool.state().take(key(3, 0)), None);
        pool.release(key(1, 0));
        assert_eq!(pool.state().take(key(3, 0)), None);
        pool.release(key(1, 1));
        pool.release(key(1, 1));
        assert_eq!(pool.state().take(key(3, 0)).as_deref(), Some("a"));
    }

    /// A pool with so many free networks, on an engine that is not there: a refill ends
    /// at once.
    fn with_free(warm: usize, free: u32) -> Pool {
        let mut config = pool("10.213.0.0/16", 27).unwrap().0.config.clone();
        config.warm = warm;
        let engine = Arc::new(Engine::new("/nowhere.sock".as_ref()));
        let pool = Pool::new(engine, ClusterId::new(7), AgentId::new(9), config).unwrap();
        {
            let mut state = pool.state();
            (state.trusted, state.firewall) = (true, Some(Ok(())));
            let slot = |n: u32| Slot {
                id: n.to_string(),
                holder: None,
            };
            state.networks = (0..free).map(|n| (n, slot(n))).collect();
        }
        pool
    }

    /// Lets time go on until a refill was begun; how long that took.
    async fn refilled(pool: &Pool) -> Duration {
        let before = Instant::now();
        while pool.state().refilling {
            assert!(before.elapsed() < REFILL_AFTER * 2, "never");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        before.elapsed()
    }

    /// Paused time goes on only once every task waits.
    const SOON: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn new_networks_wait_for_starts_and_for_nothing_else() {
        let pool = with_free(2, 2);
        pool.acquire(key(1, 0)).await.unwrap();
        pool.acquire(key(2, 0)).await.unwrap();
        tokio::time::sleep(SOON).await;
        assert!(pool.state().refilling, "two starts are under way");
        pool.started(key(1, 0));
        tokio::time::sleep(SOON).await;
        assert!(pool.state().refilling, "one still is");
        pool.started(key(2, 0));
        let took = refilled(&pool).await;
        assert!(took < SOON, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_never_comes_does_not_hold_up_networks_for_ever() {
        let pool = with_free(2, 2);
        pool.acquire(key(1, 0)).await.unwrap();
        pool.acquire(key(2, 0)).await.unwrap();
        pool.started(key(1, 0));
        let took = refilled(&pool).await;
        assert!(
            (REFILL_AFTER..REFILL_AFTER + SOON).contains(&took),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_made_for_a_short_session_while_networks_are_free() {
        let pool = with_free(2, 2);
        pool.acquire(key(1, 0)).await.unwrap();
        pool.started(key(1, 0));
        tokio::time::sleep(SOON).await;
        assert!(pool.state().refilling, "one is free: there is no hurry");
        pool.release(key(1, 0));
        let took = refilled(&pool).await;
        assert!(took > REFILL_AFTER - SOON * 2, "{took:?}");
        assert_eq!(pool.state().free(), 2);
    }

    #[test]
    fn an_attempt_never_shares_with_the_one_before() {
        let pool = pool("10.213.0.0/16", 27).unwrap();
        pool.state().networks = [(
            0,
            Slot {
                id: "a".to_owned(),
                holder: Some(Holder::new(key(1, 0))),
            },
        )]
        .into();
        let second = ContainerKey {
            attempt: Attempt(2),
            ..key(1, 0)
        };
        assert_eq!(pool.state().take(second), None);
    }

    #[test]
    fn numbers_of_others_are_left_out() {
        let pool = pool("10.213.0.0/16", 27).unwrap();
        let mut state = pool.state();
        state.networks.insert(
            0,
            Slot {
                id: "a".to_owned(),
                holder: None,
            },
        );
        state.foreign.insert(1, Instant::now());
        assert_eq!(state.next_number(), 2);
    }

    #[test]
    fn modes_of_the_firewall_are_two() {
        assert_eq!("require".parse(), Ok(FirewallMode::Require));
        assert!("maybe".parse::<FirewallMode>().is_err());
    }
}
