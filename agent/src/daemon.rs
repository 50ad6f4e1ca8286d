//! Puts the parts of an agent together.

use crate::config::Config;
use crate::delivery::store;
use crate::devices::{Mask, Snapshots, nvml};
use crate::hidden::Hidden;
use crate::host::wall_clock;
use crate::host::{self, Host};
use crate::identity::{Files, Identity};
use crate::journal::{Condition, Journal};
use crate::link::{self, LinkConfig, Shared};
use crate::logs::{LogLimits, LogStore};
use crate::metrics::{self, CallTimes, Shown};
use crate::network::{OverlayConfig, PoolConfig};
use crate::policy::Permit;
use crate::runtime::docker::{Docker, DockerConfig, given_root};
use crate::runtime::{Containers, EngineInfo};
use crate::supervisor::{self, ForeignRules, SupervisorConfig};
use crate::systemd::Pulse;
use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_common::agent::GpuWay;
use longshore_common::ids::{DeviceId, InstanceId};
use longshore_common::time::Timestamp;
use longshore_common::wire::NodeLayers;
use ring::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// The first hello does not wait longer for the engine than this.
const FIRST_LIST: Duration = Duration::from_millis(1500);
/// A stop waits so long for the link to say goodbye.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often the end of the coordinator's audit log is kept.
const AUDIT_END_EVERY: Duration = Duration::from_secs(60);

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    heard: tokio::sync::mpsc::Sender<link::Heard>,
    link: JoinHandle<()>,
    keeper: JoinHandle<()>,
    files: Files,
    /// What it tells the coordinator.
    pub shared: Arc<Shared>,
    /// What its log hides.
    pub hidden: Hidden,
    identity: Identity,
    gpus: Snapshots,
    supervisor: SupervisorConfig,
    events: tokio::sync::mpsc::Sender<supervisor::Event>,
    logs: Arc<LogStore>,
    _lock: Option<File>,
}

/// Everything an agent is made from besides its engine.
#[derive(Debug)]
pub struct Parts {
    /// Who it is.
    pub identity: Identity,
    /// Its certificate.
    pub files: Files,
    /// Its configuration.
    pub config: Config,
    /// Its GPUs.
    pub gpus: Snapshots,
    /// Takes GPUs that a person vouches for; none = they keep nothing back.
    pub released: Option<std::sync::mpsc::Sender<DeviceId>>,
    /// Hash over machine id and engine id.
    pub fingerprint: String,
    /// Hash over the machine id.
    pub machine: String,
    /// See [`crate::journal::AHEAD`], in bytes.
    pub journal_ahead: u64,
    /// What its log hides.
    pub hidden: Hidden,
    /// What its configuration sets for the sessions on this node.
    pub layers: NodeLayers,
    /// GPUs that its configuration keeps back, as [`gpus`] was told.
    pub mask: Mask,
}

/// Makes a directory with mode 0700 if it is absent.
///
/// # Errors
/// What the file system says.
pub fn private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the directory {}", path.display()))
}

/// Takes the state directory: two agents on one would start everything twice.
///
/// # Errors
/// Another agent has it.
pub fn lock_state(state_dir: &Path) -> Result<File> {
    private_dir(state_dir)?;
    let path = state_dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| anyhow!("another agent uses {}", state_dir.display()))?;
    Ok(file)
}

/// The machine's id as a hash; a machine without one gets an id of its own, kept in the
/// state directory.
///
/// # Errors
/// The id can be neither read nor made.
pub fn machine(state_dir: &Path) -> Result<String> {
    if let Some(hash) = Host::default().facts().machine_id_hash {
        return Ok(hash);
    }
    let path = state_dir.join("machine-id");
    if !path.exists() {
        let id = format!("{:032x}", draw_u128());
        crate::identity::write_synced(&path, id.as_bytes())?;
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    host::hash_machine_id(&text).ok_or_else(|| anyhow!("{} holds no id", path.display()))
}

/// Hash over machine and engine.
#[must_use]
pub fn fingerprint(machine: &str, engine_id: &str) -> String {
    let hash = digest(&SHA256, format!("{machine}\n{engine_id}").as_bytes());
    URL_SAFE_NO_PAD.encode(hash)
}

/// The number of this start: the wall clock, but never less than at the start before. One that
/// cannot be kept is good all the same: limits and stops have to work on a full disk, too.
fn next_start(state_dir: &Path) -> Timestamp {
    let path = state_dir.join("started");
    let before = fs::read_to_string(&path)
        .ok()
        .and_then(|t| t.trim().parse::<i64>().ok());
    let now = wall_clock()
        .0
        .max(before.map_or(i64::MIN, |b| b.saturating_add(1)));
    if let Err(error) = overwrite(&path, now.to_string().as_bytes()) {
        warn!(%error, path = %path.display(), "the number of this start could not be kept");
    }
    Timestamp(now)
}

/// Writes a few bytes over those of a file: where they are as many, that needs no room.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_data()
}

fn draw_u128() -> u128 {
    u128::from(link::random_u64()) << 64 | u128::from(link::random_u64())
}

/// Docker as this configuration wants it.
///
/// # Errors
/// Settings of networks that make no sense.
pub fn docker(config: &Config, identity: &Identity) -> Result<Docker> {
    Docker::connect(docker_config(config, identity)?).map_err(|e| anyhow!("{e}"))
}

/// What Docker is told.
///
/// # Errors
/// As [`docker`].
pub fn docker_config(config: &Config, identity: &Identity) -> Result<DockerConfig> {
    let network = PoolConfig {
        range: config
            .network
            .pool
            .parse()
            .map_err(|e| anyhow!("network.pool: {e}"))?,
        prefix: config.network.prefix,
        warm: config.network.ready,
        firewall: config
            .firewall
            .parse()
            .map_err(|e| anyhow!("firewall: {e}"))?,
        overlay: OverlayConfig {
            interface: config.overlay.interface.clone(),
            port: config.overlay.port,
            host_network: config.local_policy.host_network == Permit::Allow,
            coordinators: identity.coordinator.clone(),
        },
    };
    Ok(DockerConfig {
        socket: config.docker.socket_path(),
        state_dir: config.state_dir.clone(),
        run_dir: config.run_dir.clone(),
        file_roots: config.vault_file_roots.clone(),
        parallel_creates: config.docker.parallel_creates,
        parallel_pulls: config.docker.parallel_pulls,
        image_low_water_percent: config.images.low_water,
        image_gc: config.images.gc,
        image_keep: config.images.keep.clone(),
        gpu_way: forced_way(config),
        device_dir: config.devices.device_dir.clone(),
        network,
        ..DockerConfig::new(identity.cluster, identity.agent)
    })
}

fn forced_way(config: &Config) -> Option<GpuWay> {
    config.gpu_way.parse().ok() // "auto" is none of the ways
}

/// Takes care that what sessions are given never reaches a disk of this machine.
///
/// # Errors
/// There is no memory to keep it in.
pub fn keep_secrets(config: &Config) -> Result<()> {
    let root = given_root(&config.run_dir);
    let kept = store::mount_root(&root)
        .with_context(|| format!("cannot keep secrets of sessions in {}", root.display()))?;
    match kept {
        store::Kept::NeverSwapped => (),
        store::Kept::InMemory => info!(root = %root.display(), "secrets lie in memory"),
        store::Kept::Directory => {
            warn!(root = %root.display(), "no tmpfs of our own may be mounted; secrets may be swapped");
        }
    }
    Ok(())
}

/// Takes back what [`keep_secrets`] did, once nothing of a session is left there.
pub fn keep_no_secrets(config: &Config) {
    store::unmount_if_empty(&given_root(&config.run_dir));
}

/// GPUs through NVML as this configuration wants them, without those of a mask, and what takes those that a person
/// vouches for.
#[must_use]
pub fn gpus(config: &Config, mask: Mask) -> (Snapshots, std::sync::mpsc::Sender<DeviceId>) {
    let (release, released) = std::sync::mpsc::channel();
    let nvml = nvml::NvmlConfig {
        library: config.devices.library.clone(),
        mask,
        cordon_xids: config.health.cordon_xids.clone(),
        warn_xids: config.health.warn_xids.clone(),
        book: Some(config.state_dir.join("gpu-cordons.json")),
        boot_id: Host::default().facts().boot_id.unwrap_or_default(),
        ..nvml::NvmlConfig::default()
    };
    (nvml::start(nvml, released), release)
}

/// The id of the engine, if it answers in time. Without it the fingerprint is that of
/// the last start.
///
/// # Errors
/// The engine has never answered on this machine.
pub async fn engine_id<C: Containers>(runtime: &C, state_dir: &Path) -> Result<String> {
    let path = state_dir.join("engine-id");
    match runtime.info().await {
        Ok(EngineInfo { id, .. }) => {
            let known = fs::read_to_string(&path).unwrap_or_default();
            if known != id {
                crate::identity::write_synced(&path, id.as_bytes())?;
            }
            Ok(id)
        }
        Err(error) => match fs::read_to_string(&path) {
            Ok(id) => {
                warn!(%error, "the container engine does not answer yet");
                Ok(id)
            }
            Err(_) => bail!("{error}"),
        },
    }
}

/// Starts the parts. Returns once the agent is ready to dial.
///
/// # Errors
/// A journal or store that cannot be opened.
pub async fn start<C: Containers>(
    parts: Parts,
    runtime: Arc<C>,
    lock: Option<File>,
) -> Result<Agent> {
    let Parts {
        identity,
        files,
        config,
        gpus,
        released,
        fingerprint,
        machine,
        journal_ahead,
        hidden,
        layers,
        mask,
    } = parts;
    hidden.set_own(config.redact.clone());
    hidden.set_told(files.hidden_names());
    let (journal, condition) = Journal::open(
        &config.state_dir,
        identity.cluster,
        identity.agent,
        journal_ahead,
    )?;
    if condition != Condition::Good {
        info!(?condition, "journal");
    }
    let rebuilt = condition != Condition::Good;
    let logs = LogStore::open(&config.state_dir.join("logs"), log_limits(&config))?;
    let logs = Arc::new(logs);
    let shared = Arc::new(Shared::new());
    shared.remember_audit_end(files.audit_end().unwrap_or_default());
    shared.learn(&files.addresses());
    shared.outbox().tell_layers(layers);
    let work_key = URL_SAFE_NO_PAD
        .decode(&identity.work_key)
        .context("identity.json: work_key")?;
    let none = SupervisorConfig {
        cluster: identity.cluster,
        agent: identity.agent,
        work_key,
        device_dir: config.devices.device_dir.clone(),
        capabilities: PathBuf::from("/proc/driver/nvidia/capabilities"),
        reserved_cpu: 0,
        reserved_mem: 0,
        offered_cpu: 0,
        offered_mem: 0,
        max_containers: 0,
        allocation: config.allocation.as_sent(),
        local_cordon: false,
        gpu_way: forced_way(&config),
        lease_file: Some(crate::lease::Lease::path(&config.run_dir)),
        policy: config.local_policy.clone(),
        foreign: foreign(&config),
        mask,
        released,
    };
    let begun = offering(&none, &config);
    let (seen, known) = (gpus.clone(), identity.clone());
    let handles = supervisor::start(
        begun.clone(),
        runtime,
        journal,
        Arc::clone(&shared),
        Arc::clone(&logs),
        gpus,
    );
    let mut listed = handles.listed;
    let first = listed.wait_for(|listed| *listed);
    if rebuilt {
        // Without a journal only the engine knows what runs: nothing is said before it answered.
        let _ = first.await;
    } else {
        let _ = tokio::time::timeout(FIRST_LIST, first).await; // the journal is believed meanwhile
    }
    let kept = files.clone();
    let output = Arc::clone(&logs);
    let link = tokio::spawn(link::run(
        LinkConfig {
            identity,
            files,
            instance: InstanceId::new(draw_u128()),
            started: next_start(&config.state_dir),
            boot_id: Host::default().facts().boot_id.unwrap_or_default(),
            fingerprint,
            machine,
            journal_rebuilt: condition == Condition::SetAside || condition == Condition::Missing,
            gso: config.quic.gso,
            hidden: hidden.clone(),
        },
        Arc::clone(&shared),
        logs,
        handles.heard.clone(),
    ));
    Ok(Agent {
        heard: handles.heard,
        link,
        keeper: tokio::spawn(keep_audit_end(Arc::clone(&shared), kept.clone())),
        files: kept,
        shared,
        hidden,
        identity: known,
        gpus: seen,
        supervisor: begun,
        events: handles.events,
        logs: output,
        _lock: lock,
    })
}

/// The same supervisor with what another configuration offers and takes.
fn offering(of: &SupervisorConfig, config: &Config) -> SupervisorConfig {
    let size = |mib: u64| i64::try_from(mib.saturating_mul(1 << 20)).unwrap_or(i64::MAX);
    SupervisorConfig {
        reserved_cpu: config.reserved.cpu,
        reserved_mem: size(config.reserved.mem_mib),
        offered_cpu: config.offered.cpu,
        offered_mem: size(config.offered.mem_mib),
        max_containers: config.max_containers,
        allocation: config.allocation.as_sent(),
        local_cordon: config.local_cordon,
        policy: config.local_policy.clone(),
        foreign: foreign(config),
        ..of.clone()
    }
}

fn foreign(config: &Config) -> ForeignRules {
    let bytes = config.foreign.min_mem_mib.saturating_mul(1 << 20);
    ForeignRules {
        min_memory: i64::try_from(bytes).unwrap_or(i64::MAX),
        ignore: config.foreign.ignore.clone(),
        hold: config.health.on_foreign == "hold",
    }
}

fn log_limits(config: &Config) -> LogLimits {
    let mib = |n: u64| n.saturating_mul(1 << 20);
    LogLimits {
        container: mib(config.logs.container_cap_mib),
        node: mib(config.logs.node_cap_mib),
        retention: Duration::from_secs(u64::from(config.logs.retention_days) * 86_400),
    }
}

/// Keeps the end of the coordinator's audit log, now and then: the older it is, the less of
/// the log it vouches for, and nothing else depends on it.
async fn keep_audit_end(shared: Arc<Shared>, files: Files) {
    loop {
        tokio::time::sleep(AUDIT_END_EVERY).await;
        let (shared, files) = (Arc::clone(&shared), files.clone());
        let kept = tokio::task::spawn_blocking(move || store_audit_end(&shared, &files));
        let _ = kept.await; // a panic there has been logged
    }
}

fn store_audit_end(shared: &Shared, files: &Files) {
    if let Some(end) = shared.audit_end_to_store()
        && let Err(error) = files.store_audit_end(end)
    {
        warn!(%error, "the end of the coordinator's audit log could not be kept");
    }
}

impl Agent {
    /// Returns once a newer process of this agent has taken over. Two that supervise the same
    /// containers undo each other's work: this one is to be stopped then.
    pub async fn replaced(&self) {
        self.shared.replaced().await;
    }

    /// Returns once nobody supervises the containers any more, which is not meant to be: without
    /// a supervisor the rest of this process must not go on as if all were well.
    pub async fn ended(&self) {
        self.events.closed().await;
    }

    /// Tells whether the supervisor answers.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse::of(self.events.clone())
    }

    /// Goes by a configuration that was read again, with what it sets for the sessions on this
    /// node; keys that act on restart are as before.
    pub async fn reload(&self, config: &Config, layers: NodeLayers) {
        self.shared.outbox().tell_layers(layers);
        self.shared.changed.notify_one();
        self.logs.set_limits(log_limits(config));
        self.hidden.set_own(config.redact.clone());
        self.supervisor.mask.set(config.devices.mask.clone());
        let offering = offering(&self.supervisor, config);
        let event = supervisor::Event::Reloaded(Box::new(offering));
        // A supervisor that is gone ends the process.
        let _ = self.events.send(event).await;
    }

    /// Shows metrics at an address, with what calls of the engine took, for as long as it is
    /// waited for. One that is taken by somebody else is told the coordinator.
    pub async fn show_metrics(&self, listen: SocketAddr, calls: Arc<CallTimes>) {
        let (shared, gpus) = (Arc::clone(&self.shared), self.gpus.clone());
        let joined_as = self.identity.name.clone();
        let agent = self.identity.agent.to_string();
        let host = Host::default();
        let page = move || {
            let gpus = gpus.borrow().clone();
            metrics::page(&Shown {
                shared: &shared,
                gpus: &gpus,
                calls: &calls,
                joined_as: &joined_as,
                agent: &agent,
                boot_ms: host::boot_clock_ms(),
                taken: host.own(),
            })
        };
        let tell = async |text| {
            // A supervisor that is gone ends the process.
            let _ = self.events.send(supervisor::Event::Said(text)).await;
        };
        metrics::serve(listen, page, tell).await;
    }

    /// Says goodbye. Containers run on.
    pub async fn stop(mut self) {
        self.shared.stop();
        // A coordinator that is not there is not waited for.
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.link).await;
        drop(self.heard);
        self.link.abort();
        self.keeper.abort();
        store_audit_end(&self.shared, &self.files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::{AgentId, ClusterId};

    #[test]
    fn starts_are_numbered_upwards_and_never_kept_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("started");
        let later = wall_clock().plus_s(3600).0;
        fs::write(&path, format!("{later}7\n")).unwrap();
        let first = next_start(dir.path());
        assert_eq!(first.0, later * 10 + 8, "later than the start before");
        assert!(
            next_start(dir.path()) > first,
            "and what was kept can be read"
        );
        // Nothing can be written in its place, as on a full disk.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(next_start(dir.path()).0 > 0);
    }

    #[test]
    fn the_engine_is_used_as_the_configuration_says() {
        let mut config = Config::default();
        config.images.low_water = 25;
        config.docker.parallel_pulls = 7;
        let identity = Identity {
            agent: AgentId::new(1),
            cluster: ClusterId::new(2),
            name: String::new(),
            coordinator: Vec::new(),
            work_key: String::new(),
        };
        let docker = docker_config(&config, &identity).unwrap();
        assert_eq!(docker.image_low_water_percent, 25);
        assert_eq!(docker.parallel_pulls, 7);
        // Without the key: what the engine's part takes by itself.
        let docker = docker_config(&Config::default(), &identity).unwrap();
        let default = DockerConfig::new(identity.cluster, identity.agent);
        assert_eq!(
            docker.image_low_water_percent,
            default.image_low_water_percent
        );
    }
}
