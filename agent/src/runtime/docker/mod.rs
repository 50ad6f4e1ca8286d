//! Docker as the container engine: [`Docker`] implements
//! [`Containers`](crate::runtime::Containers).
//!
//! | part | what it owns |
//! |---|---|
//! | `begin` | from an order to a running program |
//! | `calls` | each question and order as calls of the engine |
//! | `engine` | the connection, deadlines, kinds of failures |
//! | `request` | what a container of ours is: one pure function |
//! | `deliver` | files that a container is given, beside what its image has there |
//! | `exec` | commands beside the main process of a container |
//! | `files` | home, run directory and account files of a container |
//! | `found` | reading the engine's descriptions |
//! | `pull` | images |
//! | `quiet` | what the client must not log |
//! | `gpu` | ways in which GPUs reach containers |
//! | `inside` | connections made inside a container's network |
//! | `output` | the engine's framing of output |
//! | `verify` | the kernel's view of a running container |
//!
//! On the way from an order to a running container there are three calls: create,
//! start, and one inspect for the process id. Everything else (networks, account files,
//! facts of the engine) is made ready before or in the background.

use crate::metrics::CallTimes;
use crate::network::{Pool, PoolConfig, PoolError};
use crate::runtime::{Found, FoundStatus, RuntimeError};
use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum, SystemInfo,
    SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum,
};
use bollard::query_parameters::ListContainersOptions;
use collect::{Collector, Rules};
use engine::{CallError, Engine};
use files::Files;
use gpu::GpuConfig;
use longshore_common::agent::GpuWay;
use longshore_common::ids::{AgentId, ClusterId};
use longshore_common::session::Cause;
use pull::Pulls;
use request::LABEL;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

mod begin;
mod calls;
mod collect;
mod deliver;
pub mod engine;
mod exec;
mod files;
mod found;
mod gpu;
mod inside;
mod output;
mod pull;
mod quiet;
pub mod request;
mod verify;

pub(crate) use files::given_root;
pub(crate) use found::key_of;
pub use gpu::{capability_nodes, device_nodes};
pub use quiet::without_bodies;
pub use request::{is_of_order, spec_hash};

/// Deadlines in seconds, by call.
mod deadline {
    /// Three of these without an answer must pass in fifteen seconds.
    pub(super) const PING: u64 = 3;
    /// Questions: an engine that is well answers in milliseconds.
    pub(super) const ASK: u64 = 5;
    /// May have to set up file systems on slow disks.
    pub(super) const CREATE: u64 = 120;
    pub(super) const START: u64 = 60;
    /// The engine itself waits 12 s for a killed process.
    pub(super) const KILL: u64 = 30;
    pub(super) const REMOVE: u64 = 60;
    /// Beyond the grace, for the kill at its end.
    pub(super) const STOP_EXTRA: u64 = 10;
}

/// Firewall and networks are looked after at most so often.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);
/// Self-tests of the GPU ways run programs; their answers change only with an installation.
const WAYS_KEPT: Duration = Duration::from_secs(60);

/// What [`Docker`] is told by the agent's configuration.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// Path of the engine's socket; `unix://` may stand before it.
    pub socket: PathBuf,
    /// Whose containers these are.
    pub cluster: ClusterId,
    /// Whose containers these are.
    pub agent: AgentId,
    /// Homes and account files lie below it.
    pub state_dir: PathBuf,
    /// Directories inside containers below which files may be delivered.
    pub file_roots: Vec<String>,
    /// On tmpfs; what becomes `/run/longshore` lies below it.
    pub run_dir: PathBuf,
    /// Creates at once.
    pub parallel_creates: usize,
    /// Pulls at once.
    pub parallel_pulls: usize,
    /// So much of the disk of images a pull leaves free, in percent.
    pub image_low_water_percent: u8,
    /// Whether images that were pulled here and nobody uses go when less is free.
    pub image_gc: bool,
    /// References of images that never go.
    pub image_keep: Vec<String>,
    /// The only way tried for GPUs; none = all.
    pub gpu_way: Option<GpuWay>,
    /// Oldest release of NVIDIA's toolkit that is used.
    pub toolkit_floor: String,
    /// Where device nodes lie; `/dev` outside tests.
    pub device_dir: PathBuf,
    /// Networks and firewall.
    pub network: PoolConfig,
}

impl DockerConfig {
    /// The defaults of the agent's configuration.
    #[must_use]
    pub fn new(cluster: ClusterId, agent: AgentId) -> Self {
        Self {
            socket: PathBuf::from("/var/run/docker.sock"),
            cluster,
            agent,
            state_dir: PathBuf::from("/var/lib/longshore-agent"),
            file_roots: crate::delivery::ROOTS.map(str::to_owned).to_vec(),
            run_dir: PathBuf::from("/run/longshore-agent"),
            parallel_creates: 4,
            parallel_pulls: 2,
            image_low_water_percent: 10,
            image_gc: true,
            image_keep: Vec::new(),
            gpu_way: None,
            toolkit_floor: "1.17.8".to_owned(),
            device_dir: PathBuf::from("/dev"),
            network: PoolConfig::default(),
        }
    }
}

impl DockerConfig {
    fn image_rules(&self) -> Rules {
        Rules {
            low_water_percent: self.image_low_water_percent,
            on: self.image_gc,
            keep: self.image_keep.clone(),
        }
    }
}

/// A Docker engine, up or down. Clones share everything.
#[derive(Debug, Clone)]
pub struct Docker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: DockerConfig,
    engine: Arc<Engine>,
    files: Files,
    networks: Pool,
    pulls: Pulls,
    /// As configured now.
    file_roots: Mutex<Vec<String>>,
    creates: Semaphore,
    /// One image's account files are read at a time.
    accounts: tokio::sync::Mutex<()>,
    cache: Mutex<Cache>,
}

/// Each way with what its self-test said.
type Ways = Vec<(GpuWay, Result<(), String>)>;

/// What was learned and need not be asked again.
#[derive(Debug, Default)]
struct Cache {
    facts: Option<Facts>,
    ways: Option<(Instant, Ways)>,
    upkeep: Option<Instant>,
    /// Descriptions by full id, as long as they cannot have changed: see [`Docker::list`].
    found: HashMap<String, Found>,
    /// Of each of those, whether the engine chose device nodes for it when it was made.
    engine_chose: HashMap<String, bool>,
}

/// Facts of the engine that requests depend on.
#[derive(Debug, Clone, Copy)]
struct Facts {
    cgroup_version: u8,
    cgroup_systemd: bool,
}

impl Docker {
    /// Prepares for an engine. Nothing is connected yet: it may come up later.
    ///
    /// # Errors
    /// When the configuration of networks makes no sense.
    pub fn connect(config: DockerConfig) -> Result<Self, PoolError> {
        let engine = Arc::new(Engine::new(&config.socket));
        let networks = Pool::new(
            Arc::clone(&engine),
            config.cluster,
            config.agent,
            config.network.clone(),
        )?;
        let files = Files {
            state_dir: config.state_dir.clone(),
            run_dir: config.run_dir.clone(),
        };
        Ok(Self(Arc::new(Inner {
            pulls: Pulls::new(
                Arc::clone(&engine),
                config.parallel_pulls,
                Collector::new(&config.state_dir, config.image_rules()),
            ),
            file_roots: Mutex::new(config.file_roots.clone()),
            creates: Semaphore::new(config.parallel_creates.max(1)),
            accounts: tokio::sync::Mutex::default(),
            cache: Mutex::default(),
            config,
            engine,
            files,
            networks,
        })))
    }

    /// Goes by what of another configuration can act while sessions run: where files may be put,
    /// and how images are kept.
    pub fn reload(&self, config: &DockerConfig) {
        self.0.pulls.set_rules(config.image_rules());
        let roots = self.0.file_roots.lock();
        let mut roots = roots.unwrap_or_else(PoisonError::into_inner);
        roots.clone_from(&config.file_roots);
    }

    /// What calls of it took, and what was fetched.
    #[must_use]
    pub fn times(&self) -> Arc<CallTimes> {
        Arc::clone(&self.0.engine.times)
    }

    /// Where files may be put.
    fn file_roots(&self) -> Vec<String> {
        let roots = self.0.file_roots.lock();
        roots.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adopts networks, sets the firewall and makes networks ready. Happens by itself
    /// with the first [`Containers::info`] that succeeds, and each minute after; call it
    /// where the first session shall not wait for it.
    ///
    /// # Errors
    /// When the engine is down, or the firewall is required and cannot be set.
    pub async fn prepare(&self) -> Result<(), RuntimeError> {
        self.facts().await?;
        self.0.networks.upkeep().await
    }

    /// Removes what this agent left in the engine and the firewall beside containers:
    /// for a node that leaves its cluster, and for tests.
    ///
    /// # Errors
    /// When the engine is down.
    pub async fn dispose(&self) -> Result<(), RuntimeError> {
        self.0.networks.dispose().await
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Filters that match only containers of this cluster and agent.
    fn own_labels(&self) -> Vec<String> {
        let Inner { config, .. } = &*self.0;
        vec![
            format!("{LABEL}cluster={}", config.cluster),
            format!("{LABEL}agent={}", config.agent),
        ]
    }

    async fn system_info(&self) -> Result<SystemInfo, RuntimeError> {
        let info = self
            .0
            .engine
            .call("info", deadline::ASK, |client| async move {
                client.info().await
            })
            .await
            .map_err(|error| error.into_runtime(Cause::StartFailed))?;
        self.cache().facts = Some(Facts {
            cgroup_version: cgroup_version(&info),
            cgroup_systemd: info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD),
        });
        self.0.pulls.set_root(info.docker_root_dir.as_deref());
        Ok(info)
    }

    async fn facts(&self) -> Result<Facts, RuntimeError> {
        let known = self.cache().facts;
        if let Some(facts) = known {
            return Ok(facts);
        }
        let info = self.system_info().await?;
        let systemd = info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD);
        Ok(Facts {
            cgroup_version: cgroup_version(&info),
            cgroup_systemd: systemd,
        })
    }

    async fn ways(&self, info: &SystemInfo) -> Ways {
        let kept = self.cache().ways.clone();
        if let Some((at, ways)) = kept
            && at.elapsed() < WAYS_KEPT
        {
            return ways;
        }
        let config = GpuConfig {
            forced: self.0.config.gpu_way,
            device_dir: self.0.config.device_dir.clone(),
            toolkit_floor: self.0.config.toolkit_floor.clone(),
        };
        let ways = gpu::ways(info, &config).await;
        self.cache().ways = Some((Instant::now(), ways.clone()));
        ways
    }

    /// Looks after networks and firewall now and then, without anybody waiting for it.
    fn upkeep_if_due(&self) {
        if self.0.config.cluster.bits() == 0 {
            return; // a node that belongs to no cluster yet only looks
        }
        self.0.pulls.look_if_due();
        let mut cache = self.cache();
        if cache.upkeep.is_some_and(|at| at.elapsed() < UPKEEP_EVERY) {
            return;
        }
        cache.upkeep = Some(Instant::now());
        drop(cache);
        let networks = self.0.networks.clone();
        tokio::spawn(async move {
            if let Err(error) = networks.upkeep().await {
                tracing::warn!(%error, "networks of sessions");
            }
        });
    }

    async fn inspect(&self, name: &str) -> Result<ContainerInspectResponse, CallError> {
        self.0
            .engine
            .call("inspect", deadline::ASK, |client| async move {
                client.inspect_container(name, None).await
            })
            .await
    }

    /// A container of ours, and whether the description may be kept.
    async fn look(&self, name: &str) -> Result<Option<Found>, RuntimeError> {
        let inspected = match self.inspect(name).await {
            Ok(inspected) => inspected,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error.into_runtime(Cause::StartFailed)),
        };
        let labels = inspected
            .config
            .as_ref()
            .and_then(|config| config.labels.as_ref());
        let label = |name: &str| {
            labels
                .and_then(|all| all.get(&format!("{LABEL}{name}")))
                .map(String::as_str)
        };
        let config = &self.0.config;
        let ours = label("cluster") == Some(&config.cluster.to_string())
            && label("agent") == Some(&config.agent.to_string());
        let found = found::found(&inspected).filter(|_| ours);
        if let Some(found) = &found {
            let asked = inspected.host_config.as_ref();
            let asked = asked.and_then(|config| config.device_requests.as_ref());
            let chose = asked.is_some_and(|requests| !requests.is_empty());
            let mut cache = self.cache();
            cache.engine_chose.insert(found.docker_id.clone(), chose);
            cache.found.insert(found.docker_id.clone(), found.clone());
        }
        Ok(found)
    }

    /// What is known of a listed container without asking again: a process that still
    /// runs under its number, or an end that stays what it is.
    fn known(&self, summary: &ContainerSummary) -> Option<Found> {
        use ContainerSummaryStateEnum as S;
        let found = self.cache().found.get(summary.id.as_deref()?).cloned()?;
        let same = match (&found.status, summary.state) {
            (FoundStatus::Running, Some(S::RUNNING)) => true,
            (FoundStatus::Exited(_), Some(S::EXITED | S::DEAD)) => return Some(found),
            _ => false,
        };
        let lives = found
            .pid
            .is_some_and(|pid| verify::is_of(pid, &found.docker_id));
        (same && lives).then_some(found)
    }

    async fn list_own(&self) -> Result<Vec<ContainerSummary>, RuntimeError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some([("label".to_owned(), self.own_labels())].into()),
            ..ListContainersOptions::default()
        };
        self.0
            .engine
            .call("list", deadline::ASK, |client| async move {
                client.list_containers(Some(options)).await
            })
            .await
            .map_err(|error| error.into_runtime(Cause::StartFailed))
    }
}

fn cgroup_version(info: &SystemInfo) -> u8 {
    match info.cgroup_version {
        Some(SystemInfoCgroupVersionEnum::_2) => 2,
        // Engines too old to say know no other.
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Containers as _;

    #[tokio::test]
    async fn an_engine_that_is_down_is_no_error_at_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = DockerConfig::new(ClusterId::new(1), AgentId::new(2));
        config.socket = dir.path().join("none.sock");
        let docker = Docker::connect(config).unwrap();
        let error = docker.info().await.unwrap_err();
        assert!(error.is_engine_trouble(), "{error:?}");
    }
}
