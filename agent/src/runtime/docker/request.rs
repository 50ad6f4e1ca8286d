//! The one function that makes a create request.
//!
//! Everything a container of ours is stands here, in one place, as a pure function of
//! what was ordered and what this node is. What is not set is left at the engine's
//! default. A golden test pins the whole request; a second test asserts over generated
//! orders that nothing dangerous can be expressed.

use crate::delivery::cluster::hosts;
use crate::delivery::is_settable;
use crate::runtime::{CreateRequest, DeviceNode};
use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, EndpointIpamConfig, EndpointSettings,
    HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, NetworkingConfig, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use longshore_common::agent::GpuWay;
use longshore_common::session::{Cause, ContainerSpec};
use longshore_common::wire::Claim;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// What the request needs to know of this node and of the things made for this container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Whether the engine's cgroup driver is systemd's.
    pub cgroup_systemd: bool,
    /// Most open files this machine lets a container have.
    pub nofile_max: u64,
    /// Most bytes this machine lets a container lock in memory; none = any number.
    pub memlock_max: Option<u64>,
    /// The session's network, by id.
    pub network: String,
    /// Its home directory on the node.
    pub home: PathBuf,
    /// The directory that becomes `/run/longshore`.
    pub run: PathBuf,
    /// The file that becomes `/etc/passwd`.
    pub passwd: PathBuf,
    /// The file that becomes `/etc/group`.
    pub group: PathBuf,
    /// The file that becomes the entry of `sudo`; of a user who has that right alone.
    pub sudoers: Option<PathBuf>,
    /// The file that becomes `/etc/hosts`; of a session of several containers alone.
    pub hosts: Option<PathBuf>,
}

/// The order asks for something that no container of ours may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// What the session is told.
    pub cause: Cause,
    /// In words.
    pub detail: String,
}

impl Refusal {
    fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause,
            detail: detail.into(),
        }
    }
}

/// Start of the names of our labels.
pub const LABEL: &str = "io.longshore.";
/// Where sessions work.
pub use crate::delivery::HOME;
/// Where `sudo` looks for more entries; an image without it has no use for the file.
const SUDOERS: &str = "/etc/sudoers.d/longshore";
/// What the spec wants for open files; enough for any training job.
const NOFILE: u64 = 1_048_576;
/// Processes and threads when the order names no number: zero would mean no limit.
const PIDS_DEFAULT: u32 = 4096;
/// The holder only waits, and ends at once on the stop signal. The sleep is renewed
/// because not every `sleep` knows "infinity".
const HOLDER: &str = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done";

/// The holder of a container that others of its session log in to: where the image has an sshd,
/// that listens with the key of the session. An sshd gives nothing of its own environment on, so
/// the session's is named in its configuration, in memory; values it could not read back (line
/// ends, quotes, backslashes) are left out. Without one, and as root, which it would have to be
/// set up for, it only waits.
const CLUSTER_HOLDER: &str = r#"s=; trap 'kill $s 2>/dev/null; exit 0' TERM INT
c=/run/longshore/cluster; t=/dev/shm/longshore-cluster
for d in "$(command -v sshd || true)" /usr/sbin/sshd /usr/local/sbin/sshd /sbin/sshd; do
  if [ -n "$d" ] && [ -x "$d" ]; then break; fi
  d=
done
if [ -n "$d" ] && [ -r $c/sshd_config ] && [ "$(id -u)" != 0 ]; then
  (umask 077; mkdir $t; {
    printf SetEnv
    cat /proc/$$/environ | tr '\n\000' '\001\n' | while IFS= read -r v; do
      case $v in
        *"$(printf '\001')"* | *\"* | *\\*) ;;
        HOME=* | USER=* | LOGNAME=* | SHELL=* | MAIL=* | TERM=* | PWD=* | SHLVL=* | _=* | SSH_*) ;;
        [A-Za-z_]*=*) printf ' "%s"' "$v" ;;
      esac
    done
    echo
    cat $c/sshd_config
  } > $t/conf)
  # Before OpenSSH 7.8 nothing could be given on.
  "$d" -t -f $t/conf 2>/dev/null || cat $c/sshd_config > $t/conf
  "$d" -D -e -f $t/conf & s=$!
fi
while :; do sleep 86400 & wait $!; done"#;

/// Makes the whole create request.
///
/// # Errors
/// [`Refusal`] when the order asks for root, for no limit, or for a device that is none.
pub fn build(request: &CreateRequest, node: &NodeFacts) -> Result<ContainerCreateBody, Refusal> {
    let spec = &request.spec;
    // Above i32::MAX the engine refuses, and the last number means "unchanged" to the kernel.
    if [spec.uid, spec.gid]
        .iter()
        .any(|id| *id == 0 || i32::try_from(*id).is_err())
    {
        let detail = format!(
            "a container of this node may not run as {}:{}",
            spec.uid, spec.gid
        );
        return Err(Refusal::new(Cause::LocalPolicy, detail));
    }
    let workdir = workdir(spec)?;
    let (command, stop_signal) = command(request);
    Ok(ContainerCreateBody {
        image: Some(request.image.id.clone()),
        entrypoint: Some(Vec::new()),
        cmd: Some(command),
        env: Some(environment(request)?),
        user: Some(if spec.root {
            "0:0".to_owned()
        } else {
            format!("{}:{}", spec.uid, spec.gid)
        }),
        working_dir: Some(workdir),
        hostname: Some(spec.hostname.clone()),
        domainname: Some(String::new()),
        labels: Some(labels(request)),
        tty: Some(spec.tty),
        open_stdin: Some(spec.tty),
        stdin_once: Some(false),
        stop_signal: Some(stop_signal),
        stop_timeout: Some(i64::from(request.grace_s)),
        host_config: Some(host_config(request, node)?),
        networking_config: fixed_address(request, node),
        ..ContainerCreateBody::default()
    })
}

/// The address by which the other containers of its session know it.
fn fixed_address(request: &CreateRequest, node: &NodeFacts) -> Option<NetworkingConfig> {
    let network = request.network.as_ref()?;
    network.own.as_ref()?;
    let address = network.address(request.key.rank)?;
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    Some(NetworkingConfig {
        endpoints_config: Some([(node.network.clone(), endpoint)].into()),
    })
}

/// What root inside a container may, by name and number (capabilities(7)): enough to install
/// packages and change owners, nothing that reaches out of the container.
pub(super) const ROOT_CAPS: [(&str, u32); 8] = [
    ("CHOWN", 0),
    ("DAC_OVERRIDE", 1),
    ("FOWNER", 3),
    ("KILL", 5),
    ("SETGID", 6),
    ("SETUID", 7),
    (LOW_PORTS, 10),
    ("AUDIT_WRITE", 29),
];
const LOW_PORTS: &str = "NET_BIND_SERVICE";

/// How [`spec_hash`] counts: the next number with every change of what it makes of the same
/// order, be it only a field that orders did not have before.
const SPEC_VERSION: &str = "1";
/// A session may get another name while it runs, which is no other order.
const RENAMED: &str = "LONGSHORE_SESSION_NAME";

/// A stable hash of an order, for the label by which a container is told from one made
/// of another order.
#[must_use]
pub fn spec_hash(spec: &ContainerSpec) -> String {
    let mut spec = spec.clone();
    spec.environment.remove(RENAMED);
    let bytes = postcard::to_stdvec(&spec).expect("plain data always has a byte form");
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let hex: String = digest.as_ref()[..SPEC_DIGITS / 2]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{SPEC_VERSION}-{hex}")
}

/// Digits of such a hash.
const SPEC_DIGITS: usize = 16;

/// Whether a container with this label was made of this order. What an agent of another
/// release counted in another way cannot be compared, and is taken for the same.
#[must_use]
pub fn is_of_order(label: &str, spec: &ContainerSpec) -> bool {
    match label.split_once('-') {
        Some((SPEC_VERSION, _)) => label == spec_hash(spec),
        Some((version, _)) => version.parse::<u32>().is_ok(),
        // Before there was a number in front: sessions that run must not end for that.
        None => label.len() == SPEC_DIGITS && label.bytes().all(|b| b.is_ascii_hexdigit()),
    }
}

fn host_config(request: &CreateRequest, node: &NodeFacts) -> Result<HostConfig, Refusal> {
    let spec = &request.spec;
    let memory = spec.slots.mem_bytes();
    let cpu = spec.slots.cpu_milli();
    if memory <= 0 || cpu <= 0 {
        // The engine reads 0 as "no limit".
        return Err(Refusal::new(
            Cause::CreateFailed,
            "the order grants no processor time or no memory",
        ));
    }
    let pids = if spec.pids_max == 0 {
        PIDS_DEFAULT
    } else {
        spec.pids_max
    };
    // It lies in the memory, so an order that names no size is bounded by that alone.
    let shm = if spec.shm_bytes <= 0 {
        memory
    } else {
        spec.shm_bytes
    };
    let gpus = gpus(request)?;
    let mut mounts = vec![
        bind(&node.home, HOME, Access::ReadWrite),
        bind(&node.passwd, "/etc/passwd", Access::ReadOnly),
        bind(&node.group, "/etc/group", Access::ReadOnly),
        bind(&node.run, "/run/longshore", Access::ReadOnly),
    ];
    if let Some(sudoers) = node.sudoers.as_ref().filter(|_| spec.sudo) {
        mounts.push(bind(sudoers, SUDOERS, Access::ReadOnly));
    }
    if let Some(hosts) = &node.hosts {
        mounts.push(bind(hosts, "/etc/hosts", Access::ReadOnly));
    }
    for file in &request.delivered.files {
        let access = match file.read_only {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        };
        mounts.push(bind(&file.source, &file.target, access));
    }
    Ok(HostConfig {
        nano_cpus: Some(cpu.saturating_mul(1_000_000)),
        memory: Some(memory),
        memory_swap: Some(memory),
        pids_limit: Some(i64::from(pids)),
        shm_size: Some(shm.min(memory)),
        ulimits: Some(ulimits(request, node)),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: (spec.root || spec.sudo).then(|| {
            let given = ROOT_CAPS.iter().map(|(name, _)| *name);
            // `sudo` installs; only who is root from the beginning serves low ports.
            let given = given.filter(|name| spec.root || *name != LOW_PORTS);
            given.map(str::to_owned).collect()
        }),
        security_opt: Some(match spec.sudo {
            true => Vec::new(),
            false => vec!["no-new-privileges".to_owned()],
        }),
        privileged: Some(false),
        ipc_mode: Some("private".to_owned()),
        // With version 1 the engine's default stays: not every kernel has the other.
        cgroupns_mode: (node.cgroup_version == 2).then_some(HostConfigCgroupnsModeEnum::PRIVATE),
        init: Some(true),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".to_owned()),
            config: Some(pairs(&[("max-size", "10m"), ("max-file", "3")])),
        }),
        oom_score_adj: Some(500),
        cgroup_parent: Some(
            if node.cgroup_systemd {
                "longshore.slice"
            } else {
                "/longshore"
            }
            .to_owned(),
        ),
        devices: gpus.devices,
        device_requests: gpus.requests,
        network_mode: Some(node.network.clone()),
        mounts: Some(mounts),
        ..HostConfig::default()
    })
}

fn workdir(spec: &ContainerSpec) -> Result<String, Refusal> {
    let Some(path) = &spec.workdir else {
        return Ok(HOME.to_owned());
    };
    if path.starts_with('/') && !path.chars().any(char::is_control) {
        Ok(path.clone())
    } else {
        Err(Refusal::new(
            Cause::CreateFailed,
            format!("the working directory {path:?} is not an absolute path"),
        ))
    }
}

/// The command and the signal that stops it. The holder listens to SIGTERM, whatever
/// the image says.
fn command(request: &CreateRequest) -> (Vec<String>, String) {
    let term = || "SIGTERM".to_owned();
    if request.spec.command.is_empty() {
        let holder = match hosts(&request.spec).is_empty() {
            true => HOLDER,
            false => CLUSTER_HOLDER,
        };
        return (
            ["/bin/sh", "-c", holder].map(str::to_owned).to_vec(),
            term(),
        );
    }
    let signal = &request.image.stop_signal;
    let signal = if signal.is_empty() {
        term()
    } else {
        signal.clone()
    };
    (request.spec.command.clone(), signal)
}

/// What launchers of several processes look for: people may know better than Longshore.
const LAUNCHERS: [&str; 4] = ["MASTER_ADDR", "MASTER_PORT", "NNODES", "NODE_RANK"];

/// Image's own, what was delivered, the order's, ours; each later one wins, but for what people
/// gave [`LAUNCHERS`].
fn environment(request: &CreateRequest) -> Result<Vec<String>, Refusal> {
    let mut merged: BTreeMap<String, String> = BTreeMap::new();
    for line in &request.image.environment {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let value = if steers_from_image(name) {
            // Left out, the engine would put the image's value back in.
            String::new()
        } else if matches!(name, "PATH" | "LD_LIBRARY_PATH") {
            absolute_only(value)
        } else {
            value.to_owned()
        };
        merged.insert(name.to_owned(), value);
    }
    for (name, value) in &request.delivered.environment {
        if is_settable(name, value) {
            let steered = matches!(name.as_str(), "PATH" | "LD_LIBRARY_PATH");
            let value = match steered {
                true => absolute_only(value),
                false => value.clone(),
            };
            merged.insert(name.clone(), value);
        }
    }
    let given = |name: &String| {
        let mut all = request.delivered.environment.iter();
        all.any(|(known, value)| known == name && is_settable(known, value))
    };
    for (name, value) in &request.spec.environment {
        let form = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
        let kept = LAUNCHERS.contains(&name.as_str()) && given(name);
        // Refused at submit already; this is the second wall.
        if form && !kept && !steers_from_order(name) {
            merged.insert(name.clone(), value.clone());
        }
    }
    let visible = match request.gpu_way {
        Some(GpuWay::Request) if !request.spec.devices.is_empty() => gpu_ids(request)?.join(","),
        // "none", an empty list or the image's own "all" would be read otherwise by some release.
        _ => "void".to_owned(),
    };
    merged.insert("NVIDIA_VISIBLE_DEVICES".to_owned(), visible);
    Ok(merged
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect())
}

/// Names in an image that would steer the loader, the engine or the choice of GPUs.
fn steers_from_image(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["NVIDIA_", "CUDA_MPS_", "DOCKER_", "LONGSHORE_"];
    matches!(name, "LD_PRELOAD" | "LD_AUDIT") || PREFIXES.iter().any(|p| name.starts_with(p))
}

/// The same for an order, in which Longshore's own names are at home.
fn steers_from_order(name: &str) -> bool {
    name.starts_with("NVIDIA_")
        || name.starts_with("DOCKER_")
        || (name.starts_with("LD_") && name != "LD_LIBRARY_PATH")
}

fn absolute_only(list: &str) -> String {
    let kept: Vec<&str> = list
        .split(':')
        .filter(|part| part.starts_with('/'))
        .collect();
    kept.join(":")
}

fn labels(request: &CreateRequest) -> HashMap<String, String> {
    let key = request.key;
    let mut labels: HashMap<String, String> = [
        ("cluster", request.cluster.to_string()),
        ("agent", request.agent.to_string()),
        ("session", key.session.to_string()),
        ("rank", key.rank.to_string()),
        ("attempt", key.attempt.to_string()),
        ("owner", request.spec.owner.clone()),
        ("spec", spec_hash(&request.spec)),
        ("fence", request.fence.to_string()),
        ("claim", claim(&request.spec)),
        ("image", request.image.exact.clone()),
    ]
    .map(|(name, value)| (format!("{LABEL}{name}"), value))
    .into();
    if let Some(at) = request.not_after {
        labels.insert(format!("{LABEL}not_after"), at.to_string());
    }
    let record = &request.delivered.record;
    if !record.is_empty() {
        labels.insert(format!("{LABEL}record"), record.clone());
    }
    labels
}

/// What it holds, in words for people and for an agent that has lost its journal.
fn claim(spec: &ContainerSpec) -> String {
    let claim = Claim {
        slots: spec.slots.clone(),
        devices: spec.devices.clone(),
    };
    serde_json::to_string(&claim).unwrap_or_default() // plain data always has a form
}

fn ulimits(request: &CreateRequest, node: &NodeFacts) -> Vec<ResourcesUlimits> {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let limit = |name: &str, value: i64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(value),
        hard: Some(value),
    };
    // More than the engine itself may raise makes every start fail.
    let mut limits = vec![
        limit("nofile", number(NOFILE.min(node.nofile_max))),
        limit("core", 0),
    ];
    if !request.spec.devices.is_empty() {
        limits.push(limit("memlock", node.memlock_max.map_or(-1, number)));
    }
    limits
}

#[derive(Default)]
struct Gpus {
    devices: Option<Vec<DeviceMapping>>,
    requests: Option<Vec<DeviceRequest>>,
}

fn gpus(request: &CreateRequest) -> Result<Gpus, Refusal> {
    let Some(way) = request.gpu_way else {
        return Ok(Gpus::default());
    };
    let ids = match way {
        GpuWay::Cdi | GpuWay::Request => gpu_ids(request)?,
        GpuWay::Nodes => Vec::new(),
    };
    let devices = match way {
        GpuWay::Cdi => Vec::new(),
        GpuWay::Nodes if !names_each_gpu(request) => {
            return Err(Refusal::new(
                Cause::DeviceMismatch,
                "the device nodes of a granted GPU, or of a part of one, are not known",
            ));
        }
        GpuWay::Request | GpuWay::Nodes => request
            .device_nodes
            .iter()
            .map(mapping)
            .collect::<Result<_, _>>()?,
    };
    let requests = match way {
        // An empty list of ids might be read as "all".
        _ if ids.is_empty() => None,
        GpuWay::Cdi => Some(DeviceRequest {
            driver: Some("cdi".to_owned()),
            device_ids: Some(
                ids.iter()
                    .map(|id| format!("nvidia.com/gpu={id}"))
                    .collect(),
            ),
            ..DeviceRequest::default()
        }),
        GpuWay::Request => Some(DeviceRequest {
            driver: Some("nvidia".to_owned()),
            device_ids: Some(ids),
            capabilities: Some(vec![
                ["gpu", "compute", "utility"].map(str::to_owned).to_vec(),
            ]),
            ..DeviceRequest::default()
        }),
        GpuWay::Nodes => None,
    };
    Ok(Gpus {
        devices: (!devices.is_empty()).then_some(devices),
        requests: requests.map(|one| vec![one]),
    })
}

/// Whether there is a node for each granted GPU. Parts of GPUs (MIG) need their capabilities too:
/// with the node of the GPU alone they could not be used. Whoever fills the request in names all of
/// them or none.
fn names_each_gpu(request: &CreateRequest) -> bool {
    let grants = request.spec.devices.iter();
    let (mut gpus, mut parts) = (BTreeSet::new(), BTreeSet::new());
    for grant in grants.filter(|grant| grant.slot.family() == "cuda") {
        match grant.slot.as_str().starts_with("cuda.mig-") {
            true => parts.insert(&grant.device),
            false => gpus.insert(&grant.device),
        };
    }
    let all = || request.device_nodes.iter();
    let nodes: BTreeSet<_> = all().filter(|n| n.is_gpu()).collect();
    let capabilities: BTreeSet<_> = all().filter(|n| n.is_capability()).collect();
    if parts.is_empty() {
        return nodes.len() == gpus.len() && capabilities.is_empty();
    }
    // Several parts may be of one GPU, and even of one instance of it.
    let of_gpus = gpus.len() + 1..=gpus.len() + parts.len();
    let of_parts = parts.len() + 1..=2 * parts.len();
    of_gpus.contains(&nodes.len()) && of_parts.contains(&capabilities.len())
}

/// Ids of the granted GPUs, each once. Only true hardware ids pass: "all" or a number
/// would choose GPUs that were not granted.
fn gpu_ids(request: &CreateRequest) -> Result<Vec<String>, Refusal> {
    let ids: BTreeSet<&str> = request
        .spec
        .devices
        .iter()
        .filter(|grant| grant.slot.family() == "cuda")
        .map(|grant| grant.device.as_str())
        .collect();
    ids.into_iter()
        .map(|id| {
            let form = id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/'));
            if form && (id.starts_with("GPU-") || id.starts_with("MIG-")) {
                Ok(id.to_owned())
            } else {
                Err(Refusal::new(
                    Cause::DeviceMismatch,
                    format!("\"{id}\" is not the id of a GPU"),
                ))
            }
        })
        .collect()
}

fn mapping(node: &DeviceNode) -> Result<DeviceMapping, Refusal> {
    let inside = node.inside.to_string_lossy();
    let name = inside.strip_prefix("/dev/").unwrap_or("");
    let form = name.starts_with("nvidia")
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/'))
        && node.host.is_absolute()
        && node.host.file_name() == node.inside.file_name();
    if !form {
        let detail = format!("\"{}\" is not a device node of a GPU", node.host.display());
        return Err(Refusal::new(Cause::DeviceMismatch, detail));
    }
    Ok(DeviceMapping {
        path_on_host: Some(node.host.to_string_lossy().into_owned()),
        path_in_container: Some(inside.into_owned()),
        cgroup_permissions: Some("rw".to_owned()),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadWrite,
    ReadOnly,
}

fn bind(source: &Path, target: &str, access: Access) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(access == Access::ReadOnly),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

fn pairs(items: &[(&str, &str)]) -> HashMap<String, String> {
    items
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests;
