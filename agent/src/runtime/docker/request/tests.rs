//! The golden request, and what no order can express.

use super::*;
use crate::runtime::ImageFacts;
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{AgentId, Attempt, ClusterId, ContainerKey, Fence, Rank, SessionId};
use longshore_common::network::{OwnNetwork, SessionNetwork};
use longshore_common::session::{DeviceGrant, PullRule, SessionType};
use longshore_common::time::Timestamp;
use serde_json::Value;
use std::net::Ipv4Addr;

fn grant(id: &str) -> DeviceGrant {
    DeviceGrant {
        slot: SlotName::cuda_device(),
        device: id.parse().unwrap(),
        amount: 1000,
    }
}

fn device(name: &str) -> DeviceNode {
    DeviceNode {
        host: Path::new("/dev").join(name),
        inside: Path::new("/dev").join(name),
    }
}

fn plain() -> CreateRequest {
    CreateRequest {
        key: ContainerKey {
            session: SessionId(42),
            rank: Rank::MAIN,
            attempt: Attempt::FIRST,
        },
        cluster: ClusterId::new(7),
        agent: AgentId::new(9),
        fence: Fence(3),
        spec: ContainerSpec {
            image: "longshore/base:latest".to_owned(),
            digest: None,
            pull: PullRule::Tag,
            command: vec!["python3".to_owned(), "train.py".to_owned()],
            workdir: None,
            tty: false,
            environment: [("EPOCHS".to_owned(), "3".to_owned())].into(),
            uid: 20_000,
            gid: 20_000,
            slots: Slots::new()
                .with(SlotName::cpu(), 1500)
                .with(SlotName::mem(), 1 << 30),
            shm_bytes: 128 << 20,
            pids_max: 4096,
            devices: Vec::new(),
            hostname: "s-42".to_owned(),
            owner: "dana".to_owned(),
            kind: SessionType::Batch,
            root: false,
            sudo: false,
            ports: Vec::new(),
        },
        image: ImageFacts {
            exact: format!("hub.lab/base@sha256:{}", "ab".repeat(32)),
            id: "sha256:1234".to_owned(),
            environment: [
                "PATH=/usr/bin:bin:/bin:",
                "NVIDIA_VISIBLE_DEVICES=all",
                "LD_PRELOAD=/evil.so",
                "LANG=C",
            ]
            .map(str::to_owned)
            .into(),
            stop_signal: String::new(),
            arch: "amd64".to_owned(),
        },
        grace_s: 10,
        not_after: None,
        device_nodes: Vec::new(),
        gpu_way: None,
        delivered: Default::default(),
        network: None,
    }
}

fn node() -> NodeFacts {
    NodeFacts {
        cgroup_version: 1,
        cgroup_systemd: false,
        nofile_max: 20_000,
        memlock_max: None,
        network: "0123abcd".to_owned(),
        home: "/var/lib/longshore-agent/sessions/s-42-main1-a1/home".into(),
        run: "/run/longshore-agent/sessions/s-42-main1-a1".into(),
        passwd: "/var/lib/longshore-agent/accounts/00/passwd-20000-20000".into(),
        group: "/var/lib/longshore-agent/accounts/00/group-20000".into(),
        sudoers: None,
        hosts: None,
    }
}

/// The orders that the golden file pins.
fn pinned() -> Vec<(&'static str, CreateRequest, NodeFacts)> {
    let mut holder = plain();
    holder.spec.command.clear();
    holder.spec.tty = true;
    holder.spec.kind = SessionType::Interactive;
    holder.spec.workdir = Some("/work".to_owned());
    holder.image.stop_signal = "SIGINT".to_owned();
    holder.not_after = Some(Timestamp(1_795_208_703_120));
    let second = NodeFacts {
        cgroup_version: 2,
        cgroup_systemd: true,
        nofile_max: u64::MAX,
        ..node()
    };

    let gpus = |way| {
        let mut request = plain();
        request.spec.devices = vec![grant("GPU-aaaa"), grant("GPU-bbbb")];
        request.device_nodes = vec![device("nvidiactl"), device("nvidia0"), device("nvidia1")];
        request.gpu_way = Some(way);
        request
    };
    let tight = NodeFacts {
        memlock_max: Some(8 << 20),
        ..node()
    };
    let mut sudo = plain();
    sudo.spec.sudo = true;
    let entry = NodeFacts {
        sudoers: Some("/var/lib/longshore-agent/sessions/s-42-main1-a1/sudoers".into()),
        ..node()
    };
    let mut one_of_two = plain();
    one_of_two.network = Some(network(true));
    let named = NodeFacts {
        hosts: Some("/var/lib/longshore-agent/sessions/s-42-main1-a1/hosts".into()),
        ..node()
    };
    vec![
        ("one of two containers", one_of_two, named),
        ("command", plain(), node()),
        ("a user with sudo", sudo, entry),
        ("holder with a terminal, cgroup version 2", holder, second),
        ("gpus by nodes", gpus(GpuWay::Nodes), tight),
        ("gpus by request", gpus(GpuWay::Request), node()),
        ("gpus by cdi", gpus(GpuWay::Cdi), node()),
    ]
}

#[test]
fn golden_request() {
    let made: serde_json::Map<String, Value> = pinned()
        .into_iter()
        .map(|(name, request, node)| {
            (
                name.to_owned(),
                serde_json::to_value(build(&request, &node).unwrap()).unwrap(),
            )
        })
        .collect();
    // LONGSHORE_BLESS=1 writes the file anew; read the difference before it is kept.
    if std::env::var_os("LONGSHORE_BLESS").is_some() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/runtime/docker/request/golden.json"
        );
        std::fs::write(path, serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let golden: Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    assert_eq!(Value::Object(made), golden);
}

/// A sequence of numbers that is the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.below(items.len() as u64)).unwrap()].clone()
    }
}

/// Texts that mean something in some field of a create request.
const EVIL: [&str; 14] = [
    "",
    "host",
    "all",
    "none",
    "0",
    "root",
    "privileged",
    "SYS_ADMIN",
    "seccomp=unconfined",
    "/var/run/docker.sock:/s",
    "container:x",
    "a\u{0}b",
    "--privileged",
    "../../etc",
];

fn generated(numbers: &mut Numbers) -> (CreateRequest, NodeFacts) {
    let mut request = plain();
    let spec = &mut request.spec;
    spec.uid = numbers.pick(&[0, 1, 20_000, u32::MAX]);
    spec.gid = numbers.pick(&[0, 44, 20_000, u32::MAX]);
    spec.command = (0..numbers.below(3))
        .map(|_| numbers.pick(&EVIL).to_owned())
        .collect();
    spec.workdir = numbers
        .pick(&[None, Some("/"), Some("/proc"), Some("x"), Some("/a\nb")])
        .map(str::to_owned);
    spec.tty = numbers.below(2) == 0;
    spec.owner = numbers.pick(&EVIL).to_owned();
    spec.hostname = numbers.pick(&EVIL).to_owned();
    spec.pids_max = numbers.pick(&[0, 1, 4096, u32::MAX]);
    spec.shm_bytes = numbers.pick(&[-1, 0, 1 << 20, i64::MAX]);
    spec.slots = Slots::new()
        .with(SlotName::cpu(), numbers.pick(&[0, 1, 1000, i64::MAX]))
        .with(SlotName::mem(), numbers.pick(&[-5, 0, 1 << 30, i64::MAX]));
    let names = [
        "LD_PRELOAD",
        "LD_AUDIT",
        "NVIDIA_VISIBLE_DEVICES",
        "DOCKER_HOST",
        "A=B",
        "",
        "OK",
    ];
    spec.environment = (0..numbers.below(4))
        .map(|_| {
            (
                numbers.pick(&names).to_owned(),
                numbers.pick(&EVIL).to_owned(),
            )
        })
        .collect();
    let ids = [
        "GPU-aaaa",
        "MIG-bbbb",
        "all",
        "none",
        "0",
        "GPU-a,all",
        "nvidia.com/gpu=all",
    ];
    spec.devices = (0..numbers.below(3))
        .map(|_| grant(numbers.pick(&ids)))
        .collect();
    let paths = [
        "/dev/nvidia0",
        "/dev/nvidiactl",
        "/dev/sda",
        "/dev",
        "/",
        "/dev/nvidia/../sda",
        "dev/nvidia0",
    ];
    request.device_nodes = (0..numbers.below(3))
        .map(|_| DeviceNode {
            host: numbers.pick(&paths).into(),
            inside: numbers.pick(&paths).into(),
        })
        .collect();
    request.gpu_way = numbers.pick(&[
        None,
        Some(GpuWay::Cdi),
        Some(GpuWay::Request),
        Some(GpuWay::Nodes),
    ]);
    let lines = [
        "PATH=.:/bin",
        "NVIDIA_VISIBLE_DEVICES=all",
        "LD_AUDIT=x",
        "DOCKER_X",
        "X=1",
    ];
    request.image.environment = (0..numbers.below(4))
        .map(|_| numbers.pick(&lines).to_owned())
        .collect();
    request.grace_s = numbers.pick(&[0, 10, u32::MAX]);
    let node = NodeFacts {
        cgroup_version: numbers.pick(&[1, 2]),
        ..node()
    };
    (request, node)
}

#[test]
fn dangerous_values_cannot_be_expressed() {
    let mut numbers = Numbers(1);
    let mut built = 0;
    for round in 0..20_000 {
        let (request, node) = generated(&mut numbers);
        let Ok(body) = build(&request, &node) else {
            continue;
        };
        built += 1;
        let json = serde_json::to_value(&body).unwrap();
        assert_safe(&request, &json, round);
    }
    assert!(built >= 200, "only {built} orders could be built");
}

#[test]
fn nodes_alone_give_whole_gpus_and_each_of_them() {
    let with = |ids: &[&str], nodes: &[&str]| {
        let mut request = plain();
        request.gpu_way = Some(GpuWay::Nodes);
        request.spec.devices = ids.iter().map(|id| grant(id)).collect();
        request.device_nodes = nodes.iter().map(|name| device(name)).collect();
        request
    };
    let nodes = ["nvidiactl", "nvidia0", "nvidia1"];
    let whole = with(&["GPU-a", "GPU-b"], &nodes);
    assert!(build(&whole, &node()).is_ok());
    assert!(build(&with(&["GPU-a", "GPU-b"], &nodes[..2]), &node()).is_err());
    assert!(build(&with(&["GPU-a"], &nodes[..1]), &node()).is_err());
    let mut part = with(&["MIG-a"], &nodes[..2]);
    part.spec.devices[0].slot = "cuda.mig-1g.10gb".parse().unwrap();
    assert!(build(&part, &node()).is_err());
    // With the capabilities of its instance, and of the compute instance in it, it can be used.
    let capability = |n: u32| device(&format!("nvidia-caps/nvidia-cap{n}"));
    let mut usable = part.clone();
    usable.device_nodes.push(capability(12));
    assert!(build(&usable, &node()).is_err());
    usable.device_nodes.push(capability(13));
    let host = build(&usable, &node()).unwrap().host_config.unwrap();
    let inside = host.devices.unwrap().into_iter();
    let inside: Vec<_> = inside.filter_map(|d| d.path_in_container).collect();
    let all = [
        "nvidiactl",
        "nvidia0",
        "nvidia-caps/nvidia-cap12",
        "nvidia-caps/nvidia-cap13",
    ];
    assert_eq!(inside, all.map(|name| format!("/dev/{name}")));
    // Nobody who has a whole GPU gets one of a part.
    let mut whole = with(&["GPU-a"], &nodes[..2]);
    whole.device_nodes.push(capability(12));
    assert!(build(&whole, &node()).is_err());
    // Where the engine finds the rest itself, the GPU's number is known and its part given.
    part.gpu_way = Some(GpuWay::Request);
    assert!(build(&part, &node()).is_ok());
}

#[test]
fn root_inside_gets_what_installing_needs() {
    let mut request = plain();
    request.spec.root = true;
    let body = serde_json::to_value(build(&request, &node()).unwrap()).unwrap();
    assert_eq!(body["User"], "0:0");
    let host = &body["HostConfig"];
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    let added = host["CapAdd"].as_array().unwrap();
    assert_eq!(added.len(), ROOT_CAPS.len());
    let low_ports = Value::from("NET_BIND_SERVICE");
    assert!(added.contains(&low_ports));
    let mut sudo = plain();
    sudo.spec.sudo = true;
    let sudo = serde_json::to_value(build(&sudo, &node()).unwrap()).unwrap();
    let fewer = sudo["HostConfig"]["CapAdd"].as_array().unwrap();
    assert_eq!(fewer.len(), ROOT_CAPS.len() - 1);
    assert!(!fewer.contains(&low_ports));
    for never in ["SYS_ADMIN", "NET_ADMIN", "MKNOD", "SYS_PTRACE", "NET_RAW"] {
        assert!(!added.contains(&Value::from(never)), "{never}");
    }
    assert_eq!(
        host["SecurityOpt"],
        serde_json::json!(["no-new-privileges"])
    );
    assert_eq!(host["Privileged"], false);
}

fn assert_safe(request: &CreateRequest, body: &Value, round: u32) {
    let host = &body["HostConfig"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    assert_eq!(host["Privileged"], false, "{round}");
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    assert_eq!(
        host["SecurityOpt"],
        serde_json::json!(["no-new-privileges"])
    );
    assert_eq!(host["Init"], true);
    assert_eq!(host["AutoRemove"], false);
    assert_eq!(host["RestartPolicy"], serde_json::json!({"Name": "no"}));
    assert_eq!(host["IpcMode"], "private");
    assert_eq!(host["NetworkMode"], node().network.as_str());
    assert_eq!(host["LogConfig"]["Type"], "local");
    assert_eq!(host["Memory"], host["MemorySwap"]);
    for limit in ["Memory", "PidsLimit", "NanoCpus", "ShmSize"] {
        assert!(
            host[limit].as_i64().unwrap() > 0,
            "{limit} in round {round}"
        );
    }
    for absent in [
        "CapAdd",
        "PidMode",
        "UTSMode",
        "UsernsMode",
        "CgroupRule",
        "DeviceCgroupRules",
        "OomKillDisable",
        "VolumesFrom",
        "VolumeDriver",
        "Binds",
        "Tmpfs",
        "PortBindings",
        "PublishAllPorts",
        "Links",
        "ExtraHosts",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "Runtime",
        "Sysctls",
        "StorageOpt",
        "GroupAdd",
        "MaskedPaths",
        "ReadonlyPaths",
        "Cgroup",
    ] {
        assert!(host.get(absent).is_none(), "{absent} in round {round}");
    }
    for absent in ["ExposedPorts", "Volumes", "NetworkingConfig", "MacAddress"] {
        assert!(body.get(absent).is_none(), "{absent} in round {round}");
    }
    let user = text(&body["User"]);
    assert!(
        user.split(':')
            .all(|part| part.parse::<u32>().is_ok_and(|n| n > 0)),
        "{user}"
    );
    assert_mounts(host);
    assert_devices(request, host);
    assert_environment(request, body);
}

fn assert_mounts(host: &Value) {
    let mounts = host["Mounts"].as_array().unwrap();
    let targets: Vec<&str> = mounts
        .iter()
        .map(|m| m["Target"].as_str().unwrap())
        .collect();
    assert_eq!(
        targets,
        [HOME, "/etc/passwd", "/etc/group", "/run/longshore"]
    );
    for mount in mounts {
        assert_eq!(mount["Type"], "bind");
        assert_eq!(mount["BindOptions"]["Propagation"], "rprivate");
        assert_eq!(mount["ReadOnly"], mount["Target"] != HOME);
    }
}

fn assert_devices(request: &CreateRequest, host: &Value) {
    for device in host["Devices"].as_array().into_iter().flatten() {
        let inside = device["PathInContainer"].as_str().unwrap();
        assert!(
            inside.starts_with("/dev/nvidia") && !inside.contains(".."),
            "{inside}"
        );
        assert_eq!(device["PathOnHost"], device["PathInContainer"]);
        assert_eq!(device["CgroupPermissions"], "rw");
    }
    for gpus in host["DeviceRequests"].as_array().into_iter().flatten() {
        assert!(gpus.get("Count").is_none() && gpus.get("Options").is_none());
        let granted: Vec<&str> = request
            .spec
            .devices
            .iter()
            .map(|grant| grant.device.as_str())
            .collect();
        let ids = gpus["DeviceIDs"].as_array().unwrap();
        assert!(!ids.is_empty());
        for id in ids {
            let bare = id.as_str().unwrap().trim_start_matches("nvidia.com/gpu=");
            assert!(
                granted.contains(&bare) && (bare.starts_with("GPU-") || bare.starts_with("MIG-")),
                "{id}"
            );
        }
    }
}

fn assert_environment(request: &CreateRequest, body: &Value) {
    let lines: Vec<&str> = body["Env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    let mut names: Vec<&str> = lines
        .iter()
        .map(|line| line.split_once('=').unwrap().0)
        .collect();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "each name once: {lines:?}");
    for line in &lines {
        let (name, value) = line.split_once('=').unwrap();
        match name {
            "NVIDIA_VISIBLE_DEVICES" if value != "void" => {
                let granted = |id: &str| {
                    request
                        .spec
                        .devices
                        .iter()
                        .any(|grant| grant.device.as_str() == id)
                };
                assert!(value.split(',').all(granted), "{value}");
            }
            "NVIDIA_VISIBLE_DEVICES" => (),
            "LD_PRELOAD" | "LD_AUDIT" | "DOCKER_HOST" | "DOCKER_X" => {
                assert_eq!(value, "", "{line}")
            }
            "PATH" => assert!(value.split(':').all(|part| part.starts_with('/')), "{line}"),
            _ => assert!(!name.is_empty() && !value.contains('\0'), "{line}"),
        }
    }
    assert!(names.contains(&"NVIDIA_VISIBLE_DEVICES"));
}

#[test]
fn what_people_give_to_launchers_wins_and_nothing_else_does() {
    let mut request = plain();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    request.spec.environment.extend([
        pair("MASTER_ADDR", "main1"),
        pair("MASTER_PORT", "29500"),
        pair("NNODES", "2"),
        pair("NODE_RANK", "0"),
        pair("LONGSHORE_CLUSTER_RANK", "0"),
    ]);
    request.delivered.environment = vec![
        pair("MASTER_PORT", "4000"),
        pair("NODE_RANK", "7"),
        pair("EPOCHS", "9"),
        pair("LONGSHORE_CLUSTER_RANK", "5"),
    ];
    let lines = environment(&request).unwrap();
    for line in [
        "MASTER_ADDR=main1",
        "MASTER_PORT=4000",
        "NNODES=2",
        "NODE_RANK=7",
        "EPOCHS=3",
        "LONGSHORE_CLUSTER_RANK=0",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
    }
}

#[test]
fn hashes_tell_orders_apart_and_stay() {
    let spec = plain().spec;
    let mut other = spec.clone();
    other.pids_max += 1;
    assert_ne!(spec_hash(&spec), spec_hash(&other));
    assert_eq!(spec_hash(&spec), spec_hash(&spec.clone()));
    // Counted in another way it needs another number in front, or an agent that was brought up
    // to date would take what runs for something else.
    assert_eq!(spec_hash(&spec), "1-a61eeb6cc6b1276b");
    let of = |label: &str| is_of_order(label, &spec);
    assert!(of(&spec_hash(&spec)));
    let long = "a61eeb6cc6b1276b0";
    let wrong = ["", "00ff", long, &long[..15], "g61eeb6cc6b1276b"];
    for label in [&*spec_hash(&other), "x-00ff", "1-"].iter().chain(&wrong) {
        assert!(!of(label), "{label}");
    }
    assert!(of("00ff00ff00ff00ff"), "of an agent that put no number");
    assert!(of("2-00ff"), "another release knows why");
    let mut renamed = spec.clone();
    let name = ("LONGSHORE_SESSION_NAME".to_owned(), "other".to_owned());
    renamed.environment.extend([name]);
    assert!(is_of_order(&spec_hash(&spec), &renamed));
}

/// The network of a session of two containers.
fn network(own: bool) -> SessionNetwork {
    let own = own.then(|| OwnNetwork {
        number: 7,
        subnet: "10.214.0.0/29".parse().unwrap(),
        gateway: Ipv4Addr::new(10, 214, 0, 1),
        mtu: 1450,
        peers: Vec::new(),
    });
    SessionNetwork {
        session: SessionId(42),
        attempt: Attempt(1),
        own,
        hosts: vec![
            (Rank(0), Ipv4Addr::new(10, 214, 0, 2)),
            (Rank(1), Ipv4Addr::new(10, 214, 0, 3)),
        ],
    }
}

#[test]
fn only_in_a_network_of_its_own_has_a_container_an_address_of_its_own() {
    let mut request = plain();
    let fixed = |request: &CreateRequest| {
        let networks = build(request, &node()).unwrap().networking_config?;
        let (name, endpoint) = networks.endpoints_config?.into_iter().next()?;
        Some((name, endpoint.ipam_config?.ipv4_address?))
    };
    assert_eq!(fixed(&request), None);
    request.network = Some(network(false));
    assert_eq!(fixed(&request), None);
    request.network = Some(network(true));
    let own = (node().network, "10.214.0.2".to_owned());
    assert_eq!(fixed(&request), Some(own));
}

/// How a container is started, as far as becoming root inside goes: options of security, and
/// targets of mounts that `sudo` reads.
fn ways_to_root(request: &CreateRequest) -> (Vec<String>, usize) {
    // A file that lies there is not enough.
    let node = NodeFacts {
        sudoers: Some("/var/lib/longshore-agent/sessions/s-42-main1-a1/sudoers".into()),
        ..node()
    };
    let host = build(request, &node).unwrap().host_config.unwrap();
    let mounts = host.mounts.unwrap_or_default();
    let sudoers = mounts.iter().filter(|mount| {
        let target = mount.target.as_deref().unwrap_or_default();
        target.starts_with("/etc/sudo")
    });
    (host.security_opt.unwrap_or_default(), sudoers.count())
}

#[test]
fn only_the_order_itself_gives_sudo() {
    let closed = (vec!["no-new-privileges".to_owned()], 0);
    assert_eq!(ways_to_root(&plain()), closed);
    for name in ["SUDO", "SUDO_ENABLED", "LONGSHORE_SUDO", "sudo_enabled"] {
        let mut of_order = plain();
        let pair = (name.to_owned(), "true".to_owned());
        of_order.spec.environment.extend([pair]);
        assert_eq!(ways_to_root(&of_order), closed, "{name} in the order");
        let mut of_image = plain();
        of_image.image.environment.push(format!("{name}=true"));
        assert_eq!(ways_to_root(&of_image), closed, "{name} in the image");
    }
    let mut command = plain();
    command.spec.command = vec!["sudo".to_owned(), "-i".to_owned()];
    command.spec.owner = "sudo".to_owned();
    assert_eq!(ways_to_root(&command), closed);
    let mut sudo = plain();
    sudo.spec.sudo = true;
    assert_eq!(ways_to_root(&sudo), (Vec::new(), 1));
}

#[test]
fn what_it_was_placed_as_is_a_label_where_it_is_known() {
    let label = |request: &CreateRequest| {
        let labels = build(request, &node()).unwrap().labels.unwrap();
        labels.get("io.longshore.record").cloned()
    };
    let mut request = plain();
    assert_eq!(label(&request), None);
    request.delivered.record = "00 {}".to_owned();
    assert_eq!(label(&request).as_deref(), Some("00 {}"));
}
