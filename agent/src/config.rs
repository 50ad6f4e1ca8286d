//! The agent's configuration: what the keys of [`SCHEMA`] become, and the rules between them.
//! Where values come from is decided in `longshore-config`.

mod keys;
mod logging;

pub use keys::{SCHEMA, manual, reference};
pub use logging::Logging;

use crate::policy::LocalPolicy;
use longshore_common::agent::{Affinity, Allocation, Strategy};
use longshore_common::amount::parse_milli;
use longshore_common::redact;
use longshore_common::wire::{MAX_NODE_LAYERS, NodeLayers};
use longshore_config::load::{Fault, Loaded};
use longshore_config::sources::{self, Start};
use longshore_config::work::flat::Flat;
use longshore_config::work::layers::Document;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Everything that can be set. Sizes in bytes, times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Identity, journal, output of containers. Mode 0700.
    pub state_dir: PathBuf,
    /// Files of running sessions. A tmpfs of their own is mounted below it.
    pub run_dir: PathBuf,
    /// Directories inside containers below which files of vaults may be put.
    pub vault_file_roots: Vec<String>,
    /// The container engine.
    pub docker: DockerSection,
    /// What the node keeps for itself.
    pub reserved: Reserved,
    /// What is offered instead of what was found.
    pub offered: Offered,
    /// Most containers at once; 0 = no limit.
    pub max_containers: u32,
    /// GPUs.
    pub devices: Devices,
    /// What is made of signs of sickness.
    pub health: HealthSection,
    /// Programs on GPUs that no session started.
    pub foreign: ForeignSection,
    /// How they are given out.
    pub allocation: AllocationSection,
    /// `auto`, `cdi`, `request`, `nodes`.
    pub gpu_way: String,
    /// Session networks.
    pub network: Network,
    /// How this node and others reach each other for sessions on several of them.
    pub overlay: Overlay,
    /// What no coordinator may widen.
    pub local_policy: LocalPolicy,
    /// Images.
    pub images: Images,
    /// Stored output.
    pub logs: Logs,
    /// Figures for Prometheus.
    pub metrics: Metrics,
    /// What the agent itself writes.
    #[serde(skip)]
    pub logging: Logging,
    /// Refuse new work, whatever the coordinator says.
    pub local_cordon: bool,
    /// Packets.
    pub quic: Quic,
    /// Variables whose values the log hides, beside those that it always does.
    pub redact: Vec<String>,
    /// `require` or `off`: whether sessions run without the firewall in front of their networks.
    pub firewall: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/longshore-agent"),
            run_dir: PathBuf::from("/run/longshore-agent"),
            vault_file_roots: crate::delivery::ROOTS.map(str::to_owned).to_vec(),
            docker: DockerSection::default(),
            reserved: Reserved::default(),
            offered: Offered::default(),
            max_containers: 0,
            devices: Devices::default(),
            health: HealthSection::default(),
            foreign: ForeignSection::default(),
            allocation: AllocationSection::default(),
            gpu_way: "auto".to_owned(),
            network: Network::default(),
            overlay: Overlay::default(),
            local_policy: LocalPolicy::default(),
            images: Images::default(),
            logs: Logs::default(),
            metrics: Metrics::default(),
            logging: Logging::default(),
            local_cordon: false,
            redact: Vec::new(),
            quic: Quic::default(),
            firewall: "require".to_owned(),
        }
    }
}

/// The container engine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct DockerSection {
    /// `unix:///…` or a path.
    pub socket: String,
    /// Containers created at once.
    pub parallel_creates: usize,
    /// Images pulled at once.
    pub parallel_pulls: usize,
}

impl Default for DockerSection {
    fn default() -> Self {
        Self {
            socket: "unix:///var/run/docker.sock".to_owned(),
            parallel_creates: 4,
            parallel_pulls: 2,
        }
    }
}

impl DockerSection {
    /// The socket as a path.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        PathBuf::from(self.socket.strip_prefix("unix://").unwrap_or(&self.socket))
    }
}

/// What the node keeps for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Reserved {
    /// Cores.
    pub cpu: u32,
    /// Memory in MiB.
    pub mem_mib: u64,
}

impl Default for Reserved {
    fn default() -> Self {
        Self {
            cpu: 1,
            mem_mib: 1024,
        }
    }
}

/// What is offered instead of what was found; for nodes that are shared with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Offered {
    /// Cores; 0 = found less reserved.
    pub cpu: u32,
    /// Memory in MiB; 0 = found less reserved.
    pub mem_mib: u64,
}

/// GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Devices {
    /// UUIDs or PCI addresses that are never offered.
    pub mask: Vec<String>,
    /// NVML elsewhere than where the loader finds it.
    pub library: Option<PathBuf>,
    /// Where device nodes are.
    pub device_dir: PathBuf,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            mask: Vec::new(),
            library: None,
            device_dir: PathBuf::from("/dev"),
        }
    }
}

/// What is made of signs of sickness.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct HealthSection {
    /// XIDs after which a GPU is kept back until it was reset and is well.
    pub cordon_xids: Vec<u32>,
    /// XIDs after which a GPU carries a warning until it was reset.
    pub warn_xids: Vec<u32>,
    /// `hold` or `report`: what becomes of a GPU that a program outside Longshore uses.
    pub on_foreign: String,
}

impl Default for HealthSection {
    fn default() -> Self {
        Self {
            cordon_xids: crate::devices::nvml::CORDON_XIDS.to_vec(),
            warn_xids: crate::devices::nvml::WARN_XIDS.to_vec(),
            on_foreign: "hold".to_owned(),
        }
    }
}

/// Programs that are often there and take nothing from anybody.
const HARMLESS: [&str; 6] = [
    "Xorg",
    "Xwayland",
    "gnome-shell",
    "nvidia-persistenced",
    "nvidia-cuda-mps-server",
    "nvidia-cuda-mps-control",
];

/// Programs on GPUs that no session started.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct ForeignSection {
    /// From so much GPU memory on they count, in MiB.
    pub min_mem_mib: u64,
    /// Names of programs that never count.
    pub ignore: Vec<String>,
}

impl Default for ForeignSection {
    fn default() -> Self {
        Self {
            min_mem_mib: 64,
            ignore: HARMLESS.map(str::to_owned).to_vec(),
        }
    }
}

/// How devices are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct AllocationSection {
    /// `even` or `fill`.
    pub strategy: Strategy,
    /// The smallest part of a shared device, in thousandths; written as a decimal.
    #[serde(deserialize_with = "milli")]
    pub quantum: i64,
    /// Whether a share may be split over more devices than its size needs.
    pub fragmentation: bool,
    /// `prefer-single-node` or `interleaved`.
    pub affinity: Affinity,
}

impl Default for AllocationSection {
    fn default() -> Self {
        let Allocation {
            strategy,
            quantum,
            fragmentation,
            affinity,
        } = Allocation::default();
        Self {
            strategy,
            quantum,
            fragmentation,
            affinity,
        }
    }
}

impl AllocationSection {
    /// The form in which the coordinator gets it.
    #[must_use]
    pub const fn as_sent(&self) -> Allocation {
        Allocation {
            strategy: self.strategy,
            quantum: self.quantum,
            fragmentation: self.fragmentation,
            affinity: self.affinity,
        }
    }
}

/// Reads a number or text such as `0.25` into thousandths.
fn milli<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Milli;
    impl Visitor<'_> for Milli {
        type Value = i64;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a number with at most three decimals, such as 0.25")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<i64, E> {
            parse_milli(text).map_err(E::custom)
        }
        fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<i64, E> {
            self.visit_str(&value.to_string())
        }
        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<i64, E> {
            self.visit_str(&value.to_string())
        }
        // A float prints as the shortest decimal that reads back as it: what was written.
        fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<i64, E> {
            self.visit_str(&value.to_string())
        }
    }
    deserializer.deserialize_any(Milli)
}

/// Session networks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// From where subnets are cut.
    pub pool: String,
    /// Size of each.
    pub prefix: u8,
    /// Networks kept ready.
    pub ready: usize,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            pool: "10.213.0.0/16".to_owned(),
            prefix: 27,
            ready: 4,
        }
    }
}

/// How this node and others reach each other for sessions on several of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Overlay {
    /// The link with the address that others are told; empty = the one that leads to the
    /// coordinator.
    pub interface: String,
    /// The UDP port for what comes from other nodes.
    pub port: u16,
}

impl Default for Overlay {
    fn default() -> Self {
        Self {
            interface: String::new(),
            port: longshore_common::network::PORT,
        }
    }
}

/// Images.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Images {
    /// So much of the disk of images a pull leaves free, in percent, at most
    /// [`LOW_WATER_MAX`].
    pub low_water: u8,
    /// With less free, images that this agent pulled and nobody uses are thrown away.
    pub gc: bool,
    /// References that are never thrown away.
    pub keep: Vec<String>,
}

/// With more kept free there is no image that could be pulled on a disk in use.
const LOW_WATER_MAX: u8 = 95;

impl Default for Images {
    fn default() -> Self {
        Self {
            low_water: 10,
            gc: true,
            keep: Vec::new(),
        }
    }
}

/// Stored output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// MiB per container.
    pub container_cap_mib: u64,
    /// MiB on the node.
    pub node_cap_mib: u64,
    /// Days after the end.
    pub retention_days: u32,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            container_cap_mib: 64,
            node_cap_mib: 20 * 1024,
            retention_days: 30,
        }
    }
}

/// Figures.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// `ADDRESS:PORT`, TCP; empty = nowhere.
    pub listen: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7421".to_owned(),
        }
    }
}

impl Metrics {
    /// Where they are served, if they are.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }

    fn check(&self) -> Result<(), ConfigError> {
        match self.listen.is_empty() || self.address().is_some() {
            true => Ok(()),
            false => Err(ConfigError(format!(
                "metrics.listen: \"{}\" is not of the form 127.0.0.1:7421 or [::1]:7421",
                self.listen
            ))),
        }
    }
}

/// Packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Quic {
    /// Segmentation offload.
    pub gso: bool,
}

impl Default for Quic {
    fn default() -> Self {
        Self { gso: true }
    }
}

/// What stands at the top of the agent's files.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default)]
struct Whole {
    agent: Config,
    logging: Logging,
}

/// What is set for the sessions on this node, as the coordinator is told.
///
/// # Errors
/// It is larger or nested deeper than is told.
pub fn layers(work: &[Document]) -> Result<NodeLayers, ConfigError> {
    if work.is_empty() {
        return Ok(NodeLayers::default());
    }
    let flat: Option<Vec<Flat>> = work.iter().map(Flat::of).collect();
    let documents = flat.and_then(|flat| serde_json::to_vec(&flat).ok());
    let fits = documents.filter(|documents| documents.len() <= MAX_NODE_LAYERS);
    fits.map(|documents| NodeLayers { documents })
        .ok_or_else(|| {
            ConfigError(format!(
                "what is set for sessions on this node is more than {} KiB, or nested too deep",
                MAX_NODE_LAYERS / 1024
            ))
        })
}

/// Why a configuration is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Config {
    /// Reads all sources and checks the result; the second is where each value came from.
    ///
    /// `file` stands in place of the directory that is read where no variable names others;
    /// `arguments` is what the command line sets: its name there, the dotted key, the text.
    ///
    /// # Errors
    /// All that is wrong, a line each.
    pub fn load(
        file: Option<&Path>,
        environment: &BTreeMap<String, String>,
        arguments: Vec<(String, String, String)>,
    ) -> Result<(Self, Loaded), ConfigError> {
        let variables = environment.iter();
        let start = Start {
            file: file.map(|file| (file, vec!["agent".to_owned()])),
            settings: Vec::new(),
            environment: variables.map(|(k, v)| (k.clone(), v.clone())).collect(),
            arguments,
        };
        let loaded = sources::start(&SCHEMA, start).map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            ConfigError(lines.join("\n"))
        })?;
        let placed = |fault: &Fault| ConfigError(fault.to_string());
        let whole = loaded.typed(&SCHEMA).map_err(|fault| placed(&fault))?;
        let Whole { mut agent, logging } = whole;
        let mut wrong: Vec<String> = logging.check().err().into_iter().collect();
        agent.logging = logging;
        wrong.extend(agent.faults().iter().map(|text| format!("agent.{text}")));
        let mut lines: Vec<String> = wrong
            .iter()
            .map(|text| loaded.placed(text).to_string())
            .collect();
        lines.extend(layers(&loaded.work).err().map(|error| error.0));
        if !lines.is_empty() {
            return Err(ConfigError(lines.join("\n")));
        }
        Ok((agent, loaded))
    }

    /// This one, with those keys of a newer one that act without a restart.
    #[must_use]
    pub fn reloaded(&self, new: Self) -> Self {
        Self {
            vault_file_roots: new.vault_file_roots,
            reserved: new.reserved,
            offered: new.offered,
            max_containers: new.max_containers,
            devices: Devices {
                mask: new.devices.mask,
                ..self.devices.clone()
            },
            allocation: new.allocation,
            health: HealthSection {
                on_foreign: new.health.on_foreign,
                ..self.health.clone()
            },
            foreign: new.foreign,
            images: new.images,
            logs: new.logs,
            logging: new.logging,
            local_cordon: new.local_cordon,
            local_policy: LocalPolicy {
                host_network: self.local_policy.host_network,
                ..new.local_policy
            },
            redact: new.redact,
            ..self.clone()
        }
    }

    /// What is wrong, each with its key below `agent`.
    fn faults(&self) -> Vec<String> {
        let mut wrong: Vec<String> = Vec::new();
        let redact = redact::faults(&self.redact);
        wrong.extend(redact.iter().map(|(_, why)| format!("redact: {why}")));
        if !matches!(self.gpu_way.as_str(), "auto" | "cdi" | "request" | "nodes") {
            wrong.push(format!(
                "gpu_way: \"{}\" is not one of auto, cdi, request, nodes",
                self.gpu_way
            ));
        }
        if !matches!(self.firewall.as_str(), "require" | "off") {
            wrong.push(format!(
                "firewall: \"{}\" is not one of require, off",
                self.firewall
            ));
        }
        if self.images.low_water > LOW_WATER_MAX {
            wrong.push(format!(
                "images.low_water: {} is more than {LOW_WATER_MAX} %",
                self.images.low_water
            ));
        }
        wrong.extend(self.metrics.check().err().map(|error| error.0));
        wrong.extend(self.local_policy.faults().err());
        let allocation = self.allocation.as_sent().check();
        wrong.extend(allocation.err().map(|why| format!("allocation: {why}")));
        let mask = self.devices.mask.iter();
        let positions = mask.filter(|m| m.bytes().all(|b| b.is_ascii_digit()));
        wrong.extend(positions.map(|position| {
            format!("devices.mask: \"{position}\" is a position; name the UUID or PCI address")
        }));
        let socket = &self.docker.socket;
        if !socket
            .strip_prefix("unix://")
            .unwrap_or(socket)
            .starts_with('/')
        {
            wrong
                .push("docker.socket: must be a path from /, or unix:// and such a one".to_owned());
        }
        for (key, path) in [("state_dir", &self.state_dir), ("run_dir", &self.run_dir)] {
            if path.as_os_str().is_empty() {
                wrong.push(format!("{key}: must be a path, whole from /"));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(
        file: Option<&Path>,
        mut environment: BTreeMap<String, String>,
    ) -> Result<Config, ConfigError> {
        if file.is_none() {
            let nowhere = "/nowhere".to_owned();
            environment.insert("LONGSHORE_CONFIG_DIR".to_owned(), nowhere);
        }
        Config::load(file, &environment, Vec::new()).map(|(config, _)| config)
    }

    fn with(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        load(None, environment)
    }

    #[test]
    fn the_environment_wins_and_is_typed() {
        let config = with(&[
            ("LONGSHORE__AGENT__RESERVED__CPU", "0"),
            ("LONGSHORE__AGENT__DEVICES__MASK", r#"["GPU-1"]"#),
            ("LONGSHORE__AGENT__STATE_DIR", "/x"),
            ("LONGSHORE__AGENT__IMAGES__LOW_WATER", "25"),
            ("UNRELATED", "1"),
        ])
        .unwrap();
        assert_eq!(config.reserved.cpu, 0);
        assert_eq!(config.devices.mask, ["GPU-1"]);
        assert_eq!(config.state_dir, Path::new("/x"));
        assert_eq!(config.images.low_water, 25);
    }

    #[test]
    fn what_is_set_for_sessions_has_a_bound() {
        let large = "x".repeat(30 * 1024);
        let set = |variables: usize| {
            let pairs = (0..variables).map(|n| {
                let name = format!("LONGSHORE__ENVIRONMENT__V{n}");
                (name, large.clone())
            });
            load(None, pairs.collect())
        };
        assert_eq!(set(3).unwrap(), Config::default(), "nothing of it is ours");
        assert!(set(20).unwrap_err().0.contains("more than 512 KiB"));
        assert!(layers(&[]).unwrap().documents.is_empty());
    }

    #[test]
    fn the_allocation_is_read_exactly() {
        assert_eq!(
            with(&[]).unwrap().allocation.as_sent(),
            Allocation::default()
        );
        let config = with(&[
            ("LONGSHORE__AGENT__ALLOCATION__STRATEGY", "fill"),
            ("LONGSHORE__AGENT__ALLOCATION__QUANTUM", "0.29"),
            ("LONGSHORE__AGENT__ALLOCATION__FRAGMENTATION", "false"),
            ("LONGSHORE__AGENT__ALLOCATION__AFFINITY", "interleaved"),
        ]);
        // 0.29 is 0.28999… as a binary fraction.
        let expected = Allocation {
            strategy: Strategy::Fill,
            quantum: 290,
            fragmentation: false,
            affinity: Affinity::Interleaved,
        };
        assert_eq!(config.unwrap().allocation.as_sent(), expected);
        for (text, milli) in [("0.1", 100), ("1", 1000), ("0.005", 5), ("1/4", 250)] {
            let config = with(&[("LONGSHORE__AGENT__ALLOCATION__QUANTUM", text)]);
            assert_eq!(config.unwrap().allocation.quantum, milli, "{text}");
        }
    }

    #[test]
    fn nonsense_stops_the_start() {
        for (name, value) in [
            ("LONGSHORE__AGENT__RESERVD__CPU", "0"),
            ("LONGSHORE__AGENT__RESERVED__CPU", "-1"),
            ("LONGSHORE__AGENT__RESERVED__CPU", "many"),
            ("LONGSHORE__AGENT__GPU_WAY", "magic"),
            ("LONGSHORE__LOGGING__LEVEL", "longshore_agent=loud"),
            ("LONGSHORE__LOGGING__LEVELS", r#"{"a":"loud"}"#),
            ("LONGSHORE__LOGGING__FILE__PATH", "a.log"),
            ("LONGSHORE__LOGGING__TARGET", "syslog"),
            ("LONGSHORE__AGENT__LOGGING__LEVEL", "info"),
            ("LONGSHORE__AGENT__ALLOCATION__STRATEGY", "odd"),
            ("LONGSHORE__AGENT__ALLOCATION__AFFINITY", "any"),
            ("LONGSHORE__AGENT__ALLOCATION__FRAGMENTATION", "0"),
            ("LONGSHORE__AGENT__ALLOCATION__QUANTA", "0.1"),
            ("LONGSHORE__AGENT__ALLOCATION__QUANTUM", "0"),
            ("LONGSHORE__AGENT__ALLOCATION__QUANTUM", "-0.1"),
            ("LONGSHORE__AGENT__ALLOCATION__QUANTUM", "0.0001"),
            ("LONGSHORE__AGENT__ALLOCATION__QUANTUM", "0.025"),
            ("LONGSHORE__AGENT__ALLOCATION__QUANTUM", "1e300"),
            ("LONGSHORE__AGENT__DEVICES__MASK", r#"["0"]"#),
            ("LONGSHORE__AGENT__IMAGES__LOW_WATER", "96"),
            ("LONGSHORE__AGENT__IMAGES__LOW_WATER", "-1"),
            ("LONGSHORE__AGENT__IMAGES__LOW_WATER", "10.5"),
            ("LONGSHORE__AGENT__IMAGES__LOWWATER", "10"),
            ("LONGSHORE__AGENT__METRICS__LISTEN", "7421"),
            ("LONGSHORE__AGENT__METRICS__LISTEN", "localhost:7421"),
        ] {
            assert!(with(&[(name, value)]).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn one_file_holds_the_keys_of_the_agent_or_whole_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(Some(&path), BTreeMap::new())
        };
        let bare = read("max_containers = 3\n[logs]\nretention_days = 7\n").unwrap();
        assert_eq!((bare.max_containers, bare.logs.retention_days), (3, 7));
        let whole = "[agent]\nmax_containers = 3\nlogs = { retention_days = 7 }\n";
        assert_eq!(read(whole).unwrap(), bare);
        let more = format!("{whole}[logging]\nlevel = \"debug\"\n[environment]\nA = \"1\"\n");
        let read_more = read(&more).unwrap();
        assert_eq!(read_more.logging.level, "debug");
        assert_eq!(read_more.max_containers, 3);
        let logging = read("[logging]\nlevel = \"debug\"\n").unwrap();
        assert_eq!(logging.logging.level, "debug");
        // Not a bit of each.
        let mixed = read(&format!("max_containers = 4\n{more}")).unwrap_err().0;
        assert!(mixed.contains("unknown key max_containers"), "{mixed}");
    }

    #[test]
    fn all_that_is_wrong_is_told_in_one_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let told = load(Some(&path), BTreeMap::new()).unwrap_err().to_string();
            let lines = told.lines().map(|line| {
                let (_, line) = line.split_once("agent.toml:").unwrap();
                line.to_owned()
            });
            lines.collect::<Vec<String>>()
        };
        let types =
            told("state_dir = \"rel\"\nvault_file_roots = [\"x\"]\n[network]\npool = \"foo\"\n");
        assert_eq!(
            types,
            [
                "1:1: agent.state_dir: \"rel\" must be a path, whole from /",
                "2:1: agent.vault_file_roots: item 1 must be a path, whole from /",
                "4:1: agent.network.pool: \"foo\" must be an IP address or a network, such as 10.0.0.0/8",
            ]
        );
        let rules = told(
            "[docker]\nsocket = \"zz\"\n[devices]\nmask = [\"0\", \"1\"]\n[allocation]\nquantum = 0.025\n",
        );
        assert_eq!(rules.len(), 4, "{rules:#?}");
        assert!(
            rules
                .iter()
                .any(|line| line.starts_with("2: agent.docker.socket: "))
        );
    }

    #[test]
    fn a_file_error_names_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, "max_containers = 3\nmax_contaners = 4\n").unwrap();
        let error = load(Some(&path), BTreeMap::new()).unwrap_err().to_string();
        let expected =
            "agent.toml:2:1: unknown key agent.max_contaners; did you mean agent.max_containers?";
        assert!(error.ends_with(expected), "{error}");
        std::fs::write(&path, "gpu_way = \"cdi\"\n[allocation]\nquantum = 0.025\n").unwrap();
        let error = load(Some(&path), BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("agent.toml:3: agent.allocation"), "{error}");
    }
}
