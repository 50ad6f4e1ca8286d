//! Docker as the container engine: [`Docker`] implements
//! [`Containers`](crate::runtime::Containers).
//!
//! | part | what it owns |
//! |---|---|
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

use crate::delivery::{Delivered, store};
use crate::metrics::CallTimes;
use crate::network::{Pool, PoolConfig, PoolError};
use crate::runtime::{
    Breach, Containers, CreateRequest, DialError, EngineInfo, ExecOrder, ExecState, Execution,
    Found, FoundStatus, Hint, ImageFacts, OutputChunk, PullState, RuntimeError,
};
use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum, SystemInfo,
    SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum,
};
use bollard::query_parameters::{
    CreateContainerOptions, EventsOptions, KillContainerOptions, ListContainersOptions,
    LogsOptions, RemoveContainerOptions, StopContainerOptions, WaitContainerOptions,
};
use collect::{Collector, Rules};
use engine::{CallError, Engine};
use files::{Files, Paths};
use futures_util::{StreamExt, TryStreamExt, stream};
use gpu::GpuConfig;
use longshore_common::agent::GpuWay;
use longshore_common::ids::{AgentId, ClusterId, ContainerKey};
use longshore_common::session::{Cause, PullRule};
use longshore_common::wire::{Delivery, RegistryLogin, TerminalSize};
use pull::Pulls;
use request::{LABEL, NodeFacts};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

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

/// How long the program may take to replace the engine's init process before a start
/// counts as one without watching further.
const EXEC_WAIT: Duration = Duration::from_secs(2);
/// Firewall and networks are looked after at most so often.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);
/// Self-tests of the GPU ways run programs; their answers change only with an installation.
const WAYS_KEPT: Duration = Duration::from_secs(60);
/// Inspects at once in a list.
const PARALLEL_INSPECTS: usize = 8;

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

    /// The image's own account files must be read before a container is made of it.
    async fn ensure_accounts(&self, image_id: &str) -> Result<(), RuntimeError> {
        let Inner {
            config,
            engine,
            files,
            accounts,
            ..
        } = &*self.0;
        if files.has_accounts(image_id) {
            return Ok(());
        }
        let _one = accounts.lock().await;
        if files.has_accounts(image_id) {
            return Ok(());
        }
        files::read_accounts(engine, files, (config.cluster, config.agent), image_id)
            .await
            .map_err(|error| match error {
                CallError::Refused { message, .. } => RuntimeError::Failed {
                    cause: engine::create_cause(&message),
                    detail: message,
                },
                other => other.into_runtime(Cause::CreateFailed),
            })
    }

    async fn make_files(&self, request: &CreateRequest) -> Result<Paths, RuntimeError> {
        self.ensure_accounts(&request.image.id).await?;
        let files = self.0.files.clone();
        let request = request.clone();
        tokio::task::spawn_blocking(move || files.make(&request))
            .await
            .expect("making files does not panic")
            .map_err(|error| {
                let full = error.kind() == std::io::ErrorKind::StorageFull;
                let cause = if full {
                    Cause::NoSpace
                } else {
                    Cause::CreateFailed
                };
                RuntimeError::Failed {
                    cause,
                    detail: format!("the files of the container: {error}"),
                }
            })
    }

    async fn create_with(
        &self,
        request: &CreateRequest,
        network: String,
    ) -> Result<String, RuntimeError> {
        let facts = self.facts().await?;
        let paths = self.make_files(request).await?;
        let node = node_facts(facts, network, paths);
        let body = request::build(request, &node).map_err(|refusal| RuntimeError::Failed {
            cause: refusal.cause,
            detail: refusal.detail,
        })?;
        let name = request.key.docker_name(request.cluster);
        let options = CreateContainerOptions {
            name: Some(name),
            ..CreateContainerOptions::default()
        };
        let created = self
            .0
            .engine
            .call("create", deadline::CREATE, |client| async move {
                client.create_container(Some(options), body).await
            })
            .await
            .map_err(|error| match error {
                CallError::Refused { status: 409, .. } => RuntimeError::Conflict,
                CallError::Refused { message, .. } => {
                    let cause = engine::create_cause(&message);
                    RuntimeError::Failed {
                        cause,
                        detail: message,
                    }
                }
                other => other.into_runtime(Cause::CreateFailed),
            })?;
        Ok(created.id)
    }

    /// Waits until the engine's init process has become a parent of the program, or has
    /// ended because there is none it could run: the engine reports that as an exit.
    async fn await_program(&self, docker_id: &str, pid: Option<u32>) -> Result<(), RuntimeError> {
        let deadline = Instant::now() + EXEC_WAIT;
        if let Some(pid) = pid {
            let process = PathBuf::from("/proc").join(pid.to_string());
            while Instant::now() < deadline {
                match program(&process) {
                    Program::Runs => return Ok(()),
                    Program::NotYet => tokio::time::sleep(Duration::from_micros(300)).await,
                    Program::Ended => break,
                }
            }
        }
        while Instant::now() < deadline {
            let Some(found) = self.look(docker_id).await? else {
                return Ok(());
            };
            match found.status {
                FoundStatus::Exited(exit) if matches!(exit.code, 126 | 127) => {
                    return self.not_executed(docker_id).await;
                }
                FoundStatus::Exited(_) | FoundStatus::Created | FoundStatus::Paused => {
                    return Ok(());
                }
                // The process is gone and the engine has not noted it yet.
                FoundStatus::Running => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        Ok(())
    }

    /// Tells a program that ended with 126 or 127 from one that never was executed: only
    /// then the init process left its own words.
    async fn not_executed(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let options = LogsOptions {
            stderr: true,
            stdout: true,
            tail: "20".to_owned(),
            ..LogsOptions::default()
        };
        let words = self
            .0
            .engine
            .call("logs", deadline::ASK, |client| async move {
                let frames: Vec<_> = client.logs(docker_id, Some(options)).try_collect().await?;
                Ok(frames
                    .iter()
                    .map(|frame| String::from_utf8_lossy(frame.as_ref()).into_owned())
                    .collect::<String>())
            })
            .await
            .map_err(|error| error.into_runtime(Cause::StartFailed))?;
        match init_refusal(&words) {
            Some((cause, detail)) => Err(RuntimeError::Failed { cause, detail }),
            None => Ok(()),
        }
    }

    async fn delete(&self, name: &str) -> Result<(), RuntimeError> {
        let until = Instant::now() + Duration::from_secs(deadline::REMOVE);
        loop {
            let options = RemoveContainerOptions {
                v: true,
                force: true,
                link: false,
            };
            let result = self
                .0
                .engine
                .call("remove", deadline::REMOVE, |client| async move {
                    client.remove_container(name, Some(options)).await
                })
                .await;
            match result {
                Ok(()) => return Ok(()),
                Err(error) if error.is_absent() => return Ok(()),
                // Somebody removes it already; it is gone when it is gone.
                Err(CallError::Refused { status: 409, .. }) if Instant::now() < until => {
                    self.await_removal(name, until).await?;
                }
                Err(error) => return Err(error.into_runtime(Cause::StartFailed)),
            }
        }
    }

    /// Returns once the engine says that a removal under way is over, however it went, or
    /// at `until`.
    async fn await_removal(&self, name: &str, until: Instant) -> Result<(), RuntimeError> {
        let options = WaitContainerOptions {
            condition: "removed".to_owned(),
        };
        let waited = self
            .0
            .engine
            .call("wait", deadline::REMOVE, |client| async move {
                let mut ends = client.wait_container(name, Some(options));
                let end = tokio::time::timeout_at(until, ends.next()).await;
                match end {
                    // The exit code of what was removed, or that it could not be removed:
                    // the next attempt says which.
                    Ok(Some(
                        Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. }),
                    )) => Ok(()),
                    Ok(Some(Err(error))) => Err(error),
                    Ok(None) | Err(_) => Ok(()),
                }
            })
            .await;
        match waited {
            Err(error) if !error.is_absent() => Err(error.into_runtime(Cause::StartFailed)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Containers for Docker {
    async fn ping(&self) -> Result<(), RuntimeError> {
        let result = self
            .0
            .engine
            .call("ping", deadline::PING, |client| async move {
                client.ping().await
            })
            .await;
        result
            .map(|_| ())
            .map_err(|error| error.into_runtime(Cause::StartFailed))
    }

    async fn info(&self) -> Result<EngineInfo, RuntimeError> {
        let info = self.system_info().await?;
        self.upkeep_if_due();
        let gpu_ways = self.ways(&info).await;
        Ok(EngineInfo {
            cdi_names: match gpu_ways.contains(&(GpuWay::Cdi, Ok(()))) {
                true => gpu::cdi_names(&info),
                false => BTreeSet::new(),
            },
            gpu_ways,
            cgroup_version: cgroup_version(&info),
            cgroup_systemd: info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            root: PathBuf::from(info.docker_root_dir.unwrap_or_default()),
            id: info.id.unwrap_or_default(),
            version: info.server_version.unwrap_or_default(),
            networks: self.0.networks.networks().await,
            storage: info.driver.unwrap_or_default(),
        })
    }

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let listed = self.list_own().await?;
        let ours = listed
            .into_iter()
            .filter(|one| found::listed_key(one, self.0.config.cluster).is_some());
        let ours: Vec<ContainerSummary> = ours.collect();
        {
            let listed = |id: &String| ours.iter().any(|one| one.id.as_ref() == Some(id));
            let mut cache = self.cache();
            cache.found.retain(|id, _| listed(id));
            cache.engine_chose.retain(|id, _| listed(id));
        }
        let looks: Vec<Option<Found>> = stream::iter(ours)
            .map(|summary| async move {
                match self.known(&summary) {
                    Some(found) => Ok(Some(found)),
                    None => self.look(summary.id.as_deref().unwrap_or_default()).await,
                }
            })
            .buffered(PARALLEL_INSPECTS)
            .try_collect()
            .await?;
        Ok(looks.into_iter().flatten().collect())
    }

    async fn find(&self, key: ContainerKey) -> Result<Option<Found>, RuntimeError> {
        let found = self.look(&key.docker_name(self.0.config.cluster)).await?;
        Ok(found.filter(|found| found.key == key))
    }

    async fn ensure_image(
        &self,
        image: &str,
        digest: Option<&str>,
        rule: PullRule,
        login: Option<&RegistryLogin>,
        progress: mpsc::Sender<PullState>,
    ) -> Result<ImageFacts, RuntimeError> {
        let pulls = &self.0.pulls;
        let facts = pulls.ensure(image, digest, rule, login, &progress).await?;
        self.ensure_accounts(&facts.id).await?;
        Ok(facts)
    }

    async fn join(&self, request: &CreateRequest) -> Result<(), RuntimeError> {
        match &request.network {
            Some(network) => self.0.networks.join(request.key, network).await.map(drop),
            None => Ok(()),
        }
    }

    async fn reach(&self, request: &CreateRequest) -> Result<(), RuntimeError> {
        match &request.network {
            Some(network) => self.0.networks.reach(network).await,
            None => Ok(()),
        }
    }

    async fn deliver(
        &self,
        request: &CreateRequest,
        delivery: &Delivery,
    ) -> Result<Delivered, RuntimeError> {
        deliver::deliver(self, request, delivery).await
    }

    async fn lacks_files(&self, key: ContainerKey) -> bool {
        let path = self.0.files.given(key);
        let look = tokio::task::spawn_blocking(move || store::is_delivered(&path));
        !look.await.unwrap_or(true) // a panic there has been logged
    }

    async fn forget_files(&self, key: ContainerKey) {
        let path = self.0.files.given(key);
        let gone = tokio::task::spawn_blocking(move || store::remove(&path)).await;
        if let Ok(Err(error)) = gone {
            tracing::warn!(%key, %error, "files of a container that ended stay");
        }
    }

    async fn sweep_files(&self, live: BTreeSet<ContainerKey>) {
        let root = self.0.files.given_root();
        let live: BTreeSet<String> = live.iter().map(ToString::to_string).collect();
        let swept =
            tokio::task::spawn_blocking(move || store::sweep(&root, &|name| live.contains(name)));
        if let Ok(Err(error)) = swept.await {
            tracing::warn!(%error, "files of containers that are gone stay");
        }
    }

    async fn create(&self, request: &CreateRequest) -> Result<String, RuntimeError> {
        let _place = self
            .0
            .creates
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let network = match &request.network {
            None => self.0.networks.acquire(request.key).await?,
            Some(network) => self.0.networks.join(request.key, network).await?,
        };
        let result = self.create_with(request, network).await;
        match &result {
            // The container exists, or may exist, and holds its network.
            Ok(_) | Err(RuntimeError::Conflict) => (),
            Err(error) if error.is_engine_trouble() => (),
            Err(error) => {
                if let RuntimeError::Failed {
                    cause: Cause::NetworkFailed,
                    ..
                } = error
                {
                    self.0.networks.distrust();
                }
                if let RuntimeError::Failed {
                    cause: Cause::ImageNotAvailable,
                    ..
                } = error
                {
                    self.0.pulls.forget(&request.image.id);
                }
                self.0.networks.release(request.key);
            }
        }
        result
    }

    async fn start(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let result = self
            .0
            .engine
            .call("start", deadline::START, |client| async move {
                client.start_container(docker_id, None).await
            })
            .await;
        if let Err(error) = result {
            let CallError::Refused { message, .. } = &error else {
                return Err(error.into_runtime(Cause::StartFailed));
            };
            let cause = engine::start_cause(message);
            if cause == Cause::NetworkFailed {
                self.0.networks.distrust();
            } else if error.is_absent() {
                return Err(RuntimeError::NotFound);
            }
            return Err(RuntimeError::Failed {
                cause,
                detail: message.clone(),
            });
        }
        let found = self.look(docker_id).await?;
        if let Some(found) = &found {
            self.0.networks.started(found.key);
        }
        self.await_program(docker_id, found.and_then(|found| found.pid))
            .await
    }

    async fn verify(
        &self,
        docker_id: &str,
        request: &CreateRequest,
    ) -> Result<Option<Breach>, RuntimeError> {
        let known = self
            .cache()
            .found
            .get(docker_id)
            .and_then(|found| found.pid);
        let pid = match known {
            Some(pid) => Some(pid),
            None => {
                self.look(docker_id)
                    .await?
                    .ok_or(RuntimeError::NotFound)?
                    .pid
            }
        };
        let Some(pid) = pid else { return Ok(None) };
        // The way of today may not be that in which it was made.
        let chose = self.cache().engine_chose.get(docker_id).copied();
        let granted = verify::Granted::of(request, chose);
        if let Some(verdict) = verify::compare(pid, docker_id, &granted) {
            return Ok(verdict);
        }
        // Whoever ended has nothing that could be compared; whoever runs was not compared.
        match self.look(docker_id).await?.and_then(|found| found.pid) {
            None => Ok(None),
            Some(_) => Err(RuntimeError::Failed {
                cause: Cause::StartFailed,
                detail: "the kernel does not show what its first process got".to_owned(),
            }),
        }
    }

    async fn stop(&self, docker_id: &str, grace_s: u32) -> Result<(), RuntimeError> {
        let options = StopContainerOptions {
            t: Some(i32::try_from(grace_s).unwrap_or(i32::MAX)),
            ..StopContainerOptions::default()
        };
        self.0
            .engine
            .call(
                "stop",
                u64::from(grace_s) + deadline::STOP_EXTRA,
                |client| async move { client.stop_container(docker_id, Some(options)).await },
            )
            .await
            .map_err(|error| error.into_runtime(Cause::StartFailed))
    }

    async fn signal(&self, docker_id: &str, signal: &str) -> Result<(), RuntimeError> {
        let options = KillContainerOptions {
            signal: format!("SIG{signal}"),
        };
        let result = self
            .0
            .engine
            .call("kill", deadline::ASK, |client| async move {
                client.kill_container(docker_id, Some(options)).await
            })
            .await;
        done_already(result, "not running")
    }

    async fn kill(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let options = KillContainerOptions {
            signal: "SIGKILL".to_owned(),
        };
        let result = self
            .0
            .engine
            .call("kill", deadline::KILL, |client| async move {
                client.kill_container(docker_id, Some(options)).await
            })
            .await;
        done_already(result, "not running")
    }

    async fn remove(&self, key: ContainerKey, docker_id: Option<&str>) -> Result<(), RuntimeError> {
        let name = key.docker_name(self.0.config.cluster);
        self.delete(docker_id.unwrap_or(&name)).await?;
        if let Some(id) = docker_id {
            self.cache().found.remove(id);
        }
        self.0.networks.release(key);
        self.0.networks.leave(key).await?;
        let files = self.0.files.clone();
        tokio::task::spawn_blocking(move || files.remove(key))
            .await
            .expect("removing files does not panic")
            .map_err(|error| RuntimeError::Failed {
                cause: Cause::StartFailed,
                detail: format!("the files of the container: {error}"),
            })
    }

    async fn tell_inside(&self, key: ContainerKey, members: serde_json::Value) {
        let files = self.0.files.clone();
        let told = tokio::task::spawn_blocking(move || files.tell(key, &members))
            .await
            .expect("writing a file does not panic");
        if let Err(error) = told {
            tracing::debug!(%key, %error, "a container was not told what will stop it");
        }
    }

    async fn freeze(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let result = self
            .0
            .engine
            .call("pause", deadline::KILL, |client| async move {
                client.pause_container(docker_id).await
            })
            .await;
        done_already(result, "already paused")
    }

    async fn thaw(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let result = self
            .0
            .engine
            .call("unpause", deadline::KILL, |client| async move {
                client.unpause_container(docker_id).await
            })
            .await;
        done_already(result, "not paused")
    }

    async fn output(
        &self,
        docker_id: &str,
        since: Option<longshore_common::time::Timestamp>,
        sink: mpsc::Sender<OutputChunk>,
    ) -> Result<(), RuntimeError> {
        output::copy(&self.0.engine, docker_id, since, &sink).await
    }

    async fn exec(&self, docker_id: &str, order: &ExecOrder) -> Result<Execution, RuntimeError> {
        exec::start(&self.0.engine, docker_id, order).await
    }

    async fn exec_begin(&self, docker_id: &str, order: &ExecOrder) -> Result<String, RuntimeError> {
        exec::begin(&self.0.engine, docker_id, order).await
    }

    async fn dial(&self, docker_id: &str, pid: u32, port: u16) -> Result<TcpStream, DialError> {
        inside::dial(pid, docker_id, port).await
    }

    async fn exec_state(&self, exec_id: &str) -> Result<ExecState, RuntimeError> {
        exec::state(&self.0.engine, exec_id).await
    }

    async fn exec_resize(&self, exec_id: &str, size: TerminalSize) -> Result<(), RuntimeError> {
        exec::resize(&self.0.engine, exec_id, size).await
    }

    async fn exec_signal(
        &self,
        docker_id: &str,
        exec_id: &str,
        signal: &str,
    ) -> Result<bool, RuntimeError> {
        let state = exec::state(&self.0.engine, exec_id).await?;
        let pid = state.pid;
        Ok(pid.is_some_and(|pid| exec::signal_group(pid, docker_id, signal)))
    }

    fn signal_group(&self, docker_id: &str, pid: u32, signal: &str) -> bool {
        exec::signal_group(pid, docker_id, signal)
    }

    async fn watch(&self, sink: mpsc::Sender<Hint>) -> Result<(), RuntimeError> {
        const WATCHED: [&str; 7] = [
            "create", "start", "die", "oom", "pause", "unpause", "destroy",
        ];
        let lost = |error: CallError| match error {
            CallError::Refused { message, .. } => RuntimeError::Unreachable(message),
            other => other.into_runtime(Cause::StartFailed),
        };
        let client = self.0.engine.client().await.map_err(lost)?;
        // The engine does not say when its stream begins. It keeps the last events, so it is
        // asked for those since now: whenever it begins, nothing is missed. A second more,
        // because a clock may be set back a little between the two looks at it.
        let since = crate::host::wall_clock().plus_s(-1).0.max(0);
        let options = EventsOptions {
            since: Some(format!("{}.{:03}", since / 1000, since % 1000)),
            filters: Some(
                [
                    ("type".to_owned(), vec!["container".to_owned()]),
                    ("label".to_owned(), self.own_labels()),
                    ("event".to_owned(), WATCHED.map(str::to_owned).to_vec()),
                ]
                .into(),
            ),
            ..EventsOptions::default()
        };
        if sink.send(Hint::Open).await.is_err() {
            return Ok(());
        }
        let mut events = client.events(Some(options));
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| lost(error.into()))?;
            let labels = event.actor.and_then(|actor| actor.attributes);
            if let Some(key) = labels.as_ref().and_then(key_of)
                && sink.send(Hint::Changed(key)).await.is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A refusal that says that there is nothing to do is success.
fn done_already(result: Result<(), CallError>, words: &str) -> Result<(), RuntimeError> {
    match result {
        Err(CallError::Refused { message, .. }) if message.contains(words) => Ok(()),
        other => other.map_err(|error| error.into_runtime(Cause::StartFailed)),
    }
}

fn cgroup_version(info: &SystemInfo) -> u8 {
    match info.cgroup_version {
        Some(SystemInfoCgroupVersionEnum::_2) => 2,
        // Engines too old to say know no other.
        _ => 1,
    }
}

fn node_facts(facts: Facts, network: String, paths: Paths) -> NodeFacts {
    use rustix::process::{Resource, getrlimit};
    // The engine runs under the same service manager's bounds as the agent; asking for
    // more than the machine allows would make every start fail.
    NodeFacts {
        cgroup_version: facts.cgroup_version,
        cgroup_systemd: facts.cgroup_systemd,
        nofile_max: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        memlock_max: getrlimit(Resource::Memlock).maximum,
        network,
        home: paths.home,
        run: paths.run,
        passwd: paths.passwd,
        group: paths.group,
        sudoers: paths.sudoers,
        hosts: paths.hosts,
    }
}

/// Where the program of a container stands, from its first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Runs,
    NotYet,
    Ended,
}

/// By the first process's directory in `/proc`.
fn program(process: &Path) -> Program {
    let Ok(first) = std::fs::read_link(process.join("exe")) else {
        return Program::Ended;
    };
    if first.file_name().is_none_or(|name| name != "docker-init") {
        return without_init(process);
    }
    let number = process.file_name().unwrap_or_default();
    let Ok(children) = std::fs::read_to_string(process.join("task").join(number).join("children"))
    else {
        // Ended meanwhile, or a kernel that does not tell.
        return if process.exists() {
            Program::Runs
        } else {
            Program::Ended
        };
    };
    let Some(child) = children.split_whitespace().next() else {
        return Program::NotYet;
    };
    match std::fs::read_link(process.with_file_name(child).join("exe")) {
        Ok(exe) if exe != first => Program::Runs,
        _ => Program::NotYet,
    }
}

/// Of a first process that is not the init process.
fn without_init(process: &Path) -> Program {
    let Ok(name) = std::fs::read_to_string(process.join("comm")) else {
        return Program::Ended;
    };
    // The engine counts it as started while it is still the runtime's own process, which is
    // about to become the init process, or has become it between the two looks.
    if name.starts_with("runc:[") || name.trim_end() == "docker-init" {
        Program::NotYet
    } else {
        Program::Runs // no init process stands between
    }
}

/// The init process's own words when it could not run the program.
fn init_refusal(words: &str) -> Option<(Cause, String)> {
    let line = words
        .lines()
        .find(|line| line.starts_with("[FATAL tini") && line.contains("] exec "))?;
    let detail = line
        .split_once("] ")
        .map_or(line, |(_, rest)| rest)
        .trim()
        .to_owned();
    let cause = if line.contains("No such file") {
        Cause::CommandNotFound
    } else {
        Cause::CommandNotExecutable
    };
    Some((cause, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_init_process() {
        let missing =
            init_refusal("[FATAL tini (6)] exec nosuch failed: No such file or directory\n");
        assert_eq!(
            missing,
            Some((
                Cause::CommandNotFound,
                "exec nosuch failed: No such file or directory".to_owned()
            ))
        );
        let forbidden = init_refusal("[FATAL tini (7)] exec /etc failed: Permission denied\n");
        assert!(matches!(forbidden, Some((Cause::CommandNotExecutable, _))));
        assert_eq!(init_refusal("sh: nosuch: not found\n"), None);
    }

    /// What `/proc` shows of a container on its way to its program.
    #[test]
    fn a_program_runs_once_the_init_process_has_a_child_that_is_another() {
        use std::fs;
        use std::os::unix::fs::symlink;
        let proc = tempfile::tempdir().unwrap();
        let first = proc.path().join("7");
        let show = |exe: &str, name: &str| {
            let _ = fs::remove_dir_all(&first);
            fs::create_dir_all(first.join("task/7")).unwrap();
            symlink(exe, first.join("exe")).unwrap();
            fs::write(first.join("comm"), name).unwrap();
            fs::write(first.join("task/7/children"), "").unwrap();
        };
        assert_eq!(program(&first), Program::Ended);
        show("/", "runc:[2:INIT]\n");
        assert_eq!(program(&first), Program::NotYet);
        show("/", "docker-init\n"); // between the two looks
        assert_eq!(program(&first), Program::NotYet);
        show("/sbin/docker-init", "docker-init\n");
        assert_eq!(program(&first), Program::NotYet);
        fs::write(first.join("task/7/children"), "8 ").unwrap();
        fs::create_dir(proc.path().join("8")).unwrap();
        symlink("/sbin/docker-init", proc.path().join("8/exe")).unwrap();
        assert_eq!(program(&first), Program::NotYet);
        fs::remove_file(proc.path().join("8/exe")).unwrap();
        symlink("/bin/sleep", proc.path().join("8/exe")).unwrap();
        assert_eq!(program(&first), Program::Runs);
        show("/bin/sleep", "sleep\n");
        assert_eq!(program(&first), Program::Runs);
    }

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
