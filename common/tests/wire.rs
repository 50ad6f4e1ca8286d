//! The wire protocol from outside: golden bytes, any split of the stream, hostile input.

#![expect(
    clippy::unwrap_used,
    reason = "builders of a test panic like its assertions"
)]

use longshore_common::agent::{Device, GpuWay, Health, Inventory, NodeLoad, RuntimeState};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{
    AgentId, Attempt, ClusterId, ContainerKey, CoordinatorGeneration, ExecId, Fence, Generation,
    InstanceId, Rank, SessionId,
};
use longshore_common::limits::{
    Combine, Deadline, IdleAction, IdlePolicy, Kept, Metric, Operator, SessionLimits,
    UtilizationPolicy, Work,
};
use longshore_common::network::{NodeNetworks, OwnNetwork, Peer, SessionNetwork, Underlay};
use longshore_common::session::{
    AppPort, Cause, ContainerSpec, ContainerState, DeviceGrant, End, Entry, ExactImage, Exit,
    Protocol, PullRule, Reason, SessionType, StopOrder, Want,
};
use longshore_common::time::Timestamp;
use longshore_common::wire::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

fn key() -> ContainerKey {
    ContainerKey {
        session: SessionId(42),
        rank: Rank(1),
        attempt: Attempt(3),
    }
}

fn report() -> ContainerReport {
    ContainerReport {
        key: key(),
        state: ContainerState::Running,
        docker_id: "0123456789ab".into(),
        started_at: Some(Timestamp(1_000)),
        fence: Fence(2),
        idle_deadline: Some(Timestamp(2_000)),
        frozen: false,
        idle: true,
        used_at: Some(Timestamp(1_500)),
        image: Some(ExactImage::Registry([7; 32])),
    }
}

fn entry(want: Want) -> Entry {
    Entry {
        key: key(),
        want,
        spec: ContainerSpec {
            image: "longshore/base:latest".into(),
            digest: Some("sha256:00".into()),
            pull: PullRule::Digest,
            command: vec!["sh".into(), "-c".into(), "true".into()],
            workdir: Some("/home/work".into()),
            tty: false,
            environment: BTreeMap::from([("A".into(), "b".into())]),
            uid: 20000,
            gid: 20000,
            slots: Slots::new()
                .with(SlotName::cpu(), 1000)
                .with(SlotName::mem(), 1 << 30),
            shm_bytes: 64 << 20,
            pids_max: 4096,
            devices: vec![DeviceGrant {
                slot: SlotName::cuda_device(),
                device: "GPU-1".parse().unwrap(),
                amount: 1000,
            }],
            hostname: "s-42".into(),
            owner: "dana".into(),
            kind: SessionType::Batch,
            root: false,
            sudo: false,
            ports: vec![AppPort {
                name: "web".into(),
                protocol: Protocol::Http,
                port: 8888,
                command: vec!["serve".into()],
            }],
        },
        limits: SessionLimits {
            lifetime: Some(Deadline {
                at: Timestamp(9),
                remaining_ms: -1,
            }),
            batch_timeout_s: Some(60),
            idle: Some(IdlePolicy {
                action: IdleAction::Stop,
                combine: Combine::All,
                initial_grace_s: 300,
                warn_s: vec![900, 300],
                interaction_timeout_s: Some(3600),
                utilization: Some(UtilizationPolicy {
                    window_s: 900,
                    operator: Operator::And,
                    applies_to_batch: false,
                    thresholds: vec![(Metric::Cpu, 5), (Metric::Gpu, 5)],
                }),
                timeout_s: 3600,
                keep_max: 4,
            }),
            grace_s: 30,
            from_start_s: Some(60),
            new_user_until: None,
            kept: Some(Kept {
                at: Timestamp(4),
                ago_ms: 1,
                hold_s: 3600,
            }),
            warn_s: vec![600],
            work: Work {
                cpu_pct: 3,
                gpu_pct: 7,
            },
        },
        stop: Some(StopOrder {
            reason: Reason::UserRequested,
            grace_s: 30,
            forced: false,
        }),
        fence: Fence(2),
        first_generation: Generation(7),
        restartable: false,
        designated: false,
    }
}

fn delivery() -> Delivery {
    Delivery {
        environment: vec![("TOKEN".into(), "hunter2".into())],
        files: vec![DeliveredFile {
            label: "netrc".into(),
            path: "~/.netrc".into(),
            contents: b"hunter2".to_vec(),
            mode: 0o400,
            owner: Owner::User,
            overwrite: true,
            required: false,
            vault: Some("vlt_1".into()),
        }],
        config_json: br#"{"agent":{"git":{"password":"hunter2"}}}"#.to_vec(),
        registries: vec![RegistryLogin {
            host: "r.lab".into(),
            username: "dana".into(),
            password: "hunter2".into(),
        }],
        cluster_key: Some([7; 32]),
        record: "00 {}".into(),
    }
}

fn set() -> DesiredSet {
    DesiredSet {
        cluster: ClusterId::new(1),
        agent: AgentId::new(2),
        coordinator_generation: CoordinatorGeneration(3),
        coordinator_instance: InstanceId::new(4),
        fence: Fence(2),
        generation: Generation(8),
        schedulable: true,
        now: Timestamp(5),
        entries: vec![entry(Want::Prepare), entry(Want::Stop)],
        drain: Some(DrainNotice {
            deadline: Deadline {
                at: Timestamp(10),
                remaining_ms: 5,
            },
            message: "RAM upgrade".into(),
        }),
        signals: vec![SignalBefore {
            key: key(),
            signal: "USR1".into(),
            lead_s: 300,
        }],
        lease_ms: 540_000,
        networks: vec![
            network(Some(OwnNetwork {
                number: 77,
                subnet: "10.214.0.8/29".parse().unwrap(),
                gateway: Ipv4Addr::new(10, 214, 0, 9),
                mtu: 1450,
                peers: vec![
                    Peer {
                        name: "gpu02".into(),
                        at: Some((Ipv4Addr::new(192, 0, 2, 2), 4789)),
                        gateway: Ipv4Addr::new(10, 214, 0, 10),
                    },
                    Peer {
                        name: "gpu03".into(),
                        at: None,
                        gateway: Ipv4Addr::new(10, 214, 0, 11),
                    },
                ],
            })),
            network(None),
        ],
    }
}

fn network(own: Option<OwnNetwork>) -> SessionNetwork {
    SessionNetwork {
        session: SessionId(42),
        attempt: Attempt(3),
        own,
        hosts: vec![(Rank(1), Ipv4Addr::new(10, 214, 0, 12))],
    }
}

fn inventory() -> Inventory {
    Inventory {
        hostname: "gpu01".into(),
        arch: "amd64".into(),
        os: "Debian 12".into(),
        kernel: "6.1".into(),
        agent_version: "0.1.0".into(),
        engine_version: "20.10".into(),
        engine_storage: "overlay2".into(),
        cgroup_version: 2,
        driver_version: "550.90".into(),
        gpu_way: Some(GpuWay::Nodes),
        gpu_way_detail: "nodes: works".into(),
        offered: Slots::new().with(SlotName::cpu(), 15_000),
        total: Slots::new().with(SlotName::cpu(), 16_000),
        devices: vec![Device {
            id: "GPU-1".parse().unwrap(),
            index: 0,
            slot: SlotName::cuda_device(),
            capacity: 1000,
            model: "RTX A6000".into(),
            memory_bytes: 48 << 30,
            pci: "0000:3b:00.0".into(),
            minor: Some(0),
            numa: Some(1),
            links: vec!["GPU-2".parse().unwrap()].into(),
            health: Health::Cordoned,
            health_detail: "XID 79".into(),
        }],
        networks: NodeNetworks {
            underlay: Some(Underlay {
                link: "eth0".into(),
                address: Ipv4Addr::new(192, 0, 2, 1),
                port: 4789,
                mtu: 1500,
            }),
            ranges: vec!["10.213.0.0/16".parse().unwrap()],
        },
        ..Inventory::default()
    }
}

fn outcome(end: Option<End>) -> Outcome {
    Outcome {
        key: key(),
        number: OutcomeNumber::Ended,
        end,
        started_at: Some(Timestamp(1)),
        at: Timestamp(2),
        tail: b"last\n".to_vec(),
        totals: Totals {
            memory_peak: Some(1 << 20),
            cpu_ms: Some(17),
            output: Some(19),
            memory_peak_sampled: true,
            memory_kib_s: 5,
            measured_ms: 6,
            read_bytes: Some(7),
            written_bytes: Some(8),
            received_bytes: Some(9),
            sent_bytes: Some(10),
        },
        devices: vec![device_use()],
    }
}

fn device_use() -> DeviceUse {
    DeviceUse {
        device: "GPU-1".parse().unwrap(),
        busy_ms: 11,
        measured_ms: 12,
        memory_peak: Some(13),
    }
}

fn exit() -> Exit {
    Exit {
        code: 137,
        signal: Some(9),
        oom: true,
        at: Timestamp(3),
    }
}

fn exec_request() -> ExecRequest {
    ExecRequest {
        key: key(),
        exec: ExecId::new(5),
        kind: ExecKind::Terminal,
        command: vec!["sh".into(), "-l".into()],
        environment: BTreeMap::from([("A".into(), "b".into())]),
        workdir: Some("/tmp".into()),
        tty: true,
        size: TerminalSize { rows: 24, cols: 80 },
        resume: true,
    }
}

/// Every message of version 1, as its frame.
fn all_frames() -> Vec<(&'static str, Vec<u8>)> {
    let bytes = SignedSet::encode(&set());
    vec![
        (
            "hello",
            encode(&Hello {
                agent: AgentId::new(2),
                cluster: ClusterId::new(1),
                instance: InstanceId::new(9),
                started: Timestamp(77),
                boot_id: "boot".into(),
                fingerprint: "print".into(),
                machine: "machine".into(),
                version: "0.1.0".into(),
                coordinator_generation: CoordinatorGeneration(3),
                coordinator_instance: Some(InstanceId::new(4)),
                fence: Fence(2),
                applied: Generation(8),
                journal_rebuilt: true,
                audit: AuditEnd {
                    seq: 9,
                    hash: [7; 32],
                },
                features: Features::of(5),
            }),
        ),
        (
            "welcome",
            encode(&Welcome {
                cluster: ClusterId::new(1),
                coordinator_generation: CoordinatorGeneration(3),
                coordinator_instance: InstanceId::new(4),
                fence: Fence(2),
                heartbeat_ms: 2000,
                lost_after_ms: 15_000,
                lease_ms: 540_000,
                name: "gpu01".into(),
                group: "default".into(),
                now: Timestamp(5),
                addresses: vec!["a:7420".into()],
                features: Features::of(4),
            }),
        ),
        (
            "hello-bare",
            encode(&HelloBare {
                agent: AgentId::new(7),
                cluster: ClusterId::new(1),
                name: "gpu01".into(),
                version: "0.1.0".into(),
                protocols: vec![2, 1],
            }),
        ),
        (
            "incompatible",
            encode(&Incompatible {
                version: "3.0.0".into(),
                protocols: vec![4, 3],
                retry_after_ms: 300_000,
            }),
        ),
        (
            "refused",
            encode(&Refused {
                code: RefusedCode::Revoked,
                text: "no".into(),
                retry_after_ms: 1,
            }),
        ),
        (
            "heartbeat",
            encode(&Heartbeat {
                seq: 300,
                applied: Generation(8),
                actual_hash: 0x0123_4567_89ab_cdef,
                changed: vec![report()],
                more: false,
                runtime: RuntimeState::Hung,
                load: Some(NodeLoad {
                    load_milli: 1500,
                    ..NodeLoad::default()
                }),
                now: Timestamp(6),
            }),
        ),
        (
            "heartbeat-ack",
            encode(&HeartbeatAck {
                seq: 300,
                generation: Generation(8),
                want_actual: true,
                now: Timestamp(6),
                audit: AuditEnd {
                    seq: 10,
                    hash: [8; 32],
                },
            }),
        ),
        ("goodbye", encode(&Goodbye { leaving: true })),
        (
            "actual-set",
            encode(&ActualSet {
                items: vec![report()],
                applied: Generation(8),
                boot_id: "boot".into(),
            }),
        ),
        (
            "signed-set",
            encode(&SignedSet {
                bytes,
                signature: vec![7; 64],
            }),
        ),
        (
            "outcome-exited",
            encode(&outcome(Some(End::Exited(exit())))),
        ),
        (
            "outcome-refused",
            encode(&outcome(Some(End::StartFailed {
                cause: Cause::NoSpace,
                detail: "full".into(),
            }))),
        ),
        (
            "outcome-stopped",
            encode(&outcome(Some(End::Stopped {
                reason: Reason::LifetimeExceeded,
                exit: None,
            }))),
        ),
        (
            "outcome-vanished",
            encode(&outcome(Some(End::Vanished { rebooted: true }))),
        ),
        (
            "outcome-ack",
            encode(&OutcomeAck {
                key: key(),
                number: OutcomeNumber::Closed,
            }),
        ),
        (
            "inventory",
            encode(&InventoryReport {
                inventory: inventory(),
            }),
        ),
        (
            "pull-progress",
            encode(&PullProgress {
                key: key(),
                bytes_done: 1,
                bytes_total: 2,
                layers_done: 3,
                layers_total: 4,
            }),
        ),
        (
            "use-report",
            encode(&UseReport {
                key: key(),
                in_grace: true,
                deadline: Some(Timestamp(1_000)),
                decided_by: Some(IdleCheckName::Utilization),
                interaction: Some(CheckReport {
                    deadline: Some(Timestamp(2_000)),
                    last_activity: Some(Timestamp(3_000)),
                    connections: 1,
                }),
                utilization: Some(CheckReport::default()),
                metrics: vec![MetricFigures {
                    metric: Metric::Gpu,
                    mean_tenths: Some(35),
                    threshold: 5,
                    share_of_data: 80,
                }],
                lifetime: Some(Timestamp(4_000)),
            }),
        ),
        (
            "figures",
            encode(&Figures {
                key: key(),
                totals: outcome(None).totals,
                devices: vec![device_use()],
                worked_at: Some(Timestamp(5_000)),
            }),
        ),
        (
            "notice",
            encode(&Notice {
                number: 1,
                kind: NoticeKind::Device,
                text: "t".into(),
                key: None,
                device: Some("GPU-1".parse().unwrap()),
                at: Timestamp(1),
            }),
        ),
        ("cert-request", encode(&CertRequest { csr: vec![1, 2] })),
        (
            "cert-issued",
            encode(&CertIssued {
                certificate: "pem".into(),
            }),
        ),
        (
            "stream-open",
            encode(&StreamOpen::Logs(LogsRequest {
                key: key(),
                position: 300,
                tail_lines: Some(5),
                follow: true,
                joined: true,
            })),
        ),
        (
            "stream-open-signal",
            encode(&StreamOpen::Signal(SignalRequest {
                key: key(),
                signal: "INT".into(),
            })),
        ),
        (
            "stream-open-exec",
            encode(&StreamOpen::Exec(exec_request())),
        ),
        (
            "stream-open-exec-detached",
            encode(&StreamOpen::Exec(ExecRequest {
                kind: ExecKind::Detached,
                ..exec_request()
            })),
        ),
        (
            "stream-open-exec-standing",
            encode(&StreamOpen::Exec(ExecRequest {
                kind: ExecKind::Standing,
                command: Vec::new(),
                ..exec_request()
            })),
        ),
        ("to-exec-input", encode(&ToExec::Input(vec![0, 255]))),
        ("to-exec-end-of-input", encode(&ToExec::EndOfInput)),
        (
            "to-exec-resize",
            encode(&ToExec::Resize(TerminalSize {
                rows: 50,
                cols: 300,
            })),
        ),
        ("to-exec-signal", encode(&ToExec::Signal("INT".into()))),
        ("to-exec-leave", encode(&ToExec::Leave)),
        ("from-exec-output", encode(&FromExec::Output(vec![1]))),
        (
            "from-exec-error-output",
            encode(&FromExec::ErrorOutput(vec![2])),
        ),
        ("from-exec-exited", encode(&FromExec::Exited(-3))),
        ("from-exec-failed", encode(&FromExec::Failed("no".into()))),
        (
            "stream-open-tunnel",
            encode(&StreamOpen::Tunnel(TunnelRequest {
                key: key(),
                port: 8888,
            })),
        ),
        ("to-tunnel-data", encode(&ToTunnel::Data(vec![0, 255]))),
        ("to-tunnel-end", encode(&ToTunnel::End)),
        ("from-tunnel-data", encode(&FromTunnel::Data(vec![1]))),
        ("from-tunnel-end", encode(&FromTunnel::End)),
        (
            "from-tunnel-failed",
            encode(&FromTunnel::Failed("no".into())),
        ),
        ("stream-accept", encode(&StreamAccept {})),
        ("stream-refuse", encode(&StreamRefuse { text: "no".into() })),
        (
            "data",
            encode(&Data {
                position: 300,
                kind: OutputKind::Stderr,
                at: Timestamp(1),
                bytes: vec![0, 255],
            }),
        ),
        ("stream-end", encode(&StreamEnd { error: None })),
        (
            "unclaimed",
            encode(&UnclaimedReport {
                items: vec![UnclaimedItem {
                    key: key(),
                    claim: Claim {
                        slots: Slots::new().with(SlotName::cpu(), 2000),
                        devices: vec![DeviceGrant {
                            slot: SlotName::cuda_device(),
                            device: "GPU-1".parse().unwrap(),
                            amount: 1000,
                        }],
                    },
                    report: report(),
                    record: "00 {}".into(),
                }],
            }),
        ),
        (
            "terms",
            encode(&Terms {
                redaction: vec!["LAB_*".into()],
                heartbeat_ms: 3000,
                lost_after_ms: 20_000,
            }),
        ),
        (
            "node-layers",
            encode(&NodeLayers {
                documents: b"[]".to_vec(),
            }),
        ),
        ("material-request", encode(&MaterialRequest { key: key() })),
        (
            "material",
            encode(&Material {
                key: key(),
                given: Given::Delivery(Box::new(delivery())),
            }),
        ),
        (
            "material-unavailable",
            encode(&Material {
                key: key(),
                given: Given::Unavailable("locked".into()),
            }),
        ),
        (
            "enrol-request",
            encode(&EnrolRequest {
                token_id: "t".into(),
                secret: vec![9; 16],
                csr: vec![1],
                name: "gpu01".into(),
                fingerprint: "f".into(),
                machine: "m".into(),
                version: "0.1.0".into(),
            }),
        ),
        (
            "enrol-answer",
            encode(&EnrolAnswer {
                agent: AgentId::new(2),
                cluster: ClusterId::new(1),
                name: "gpu01".into(),
                group: "default".into(),
                certificate: "pem".into(),
                ca_bundle: "ca".into(),
                work_key: vec![8; 32],
            }),
        ),
        (
            "enrol-refused",
            encode(&EnrolRefused {
                code: EnrolRefusal::TokenUsedUp,
                text: "no".into(),
            }),
        ),
        (
            "renew-request",
            encode(&RenewRequest {
                certificate: vec![1],
                csr: vec![2],
                proof: vec![3],
            }),
        ),
    ]
}

/// Bytes of a release are decoded by every later one, so they never change. To add a
/// message, run the test once with `UPDATE_GOLDEN=1` and read the difference.
#[test]
fn the_bytes_of_version_1_are_frozen() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/v1.txt");
    let mut text = String::new();
    for (name, frame) in all_frames() {
        let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        writeln!(text, "{name} {hex}").unwrap();
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (ours, theirs) in text.lines().zip(golden.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}

#[test]
fn each_kind_has_a_name_of_its_own() {
    let golden = include_str!("../golden/v1.txt");
    // Behind the four bytes of the length.
    let sent: BTreeSet<u16> = golden
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .map(|hex| u16::from_str_radix(&hex[8..12], 16).unwrap())
        .collect();
    let named: BTreeSet<u16> = KINDS.iter().map(|(kind, _)| *kind).collect();
    let names: BTreeSet<&str> = KINDS.iter().map(|(_, name)| *name).collect();
    assert_eq!(named, sent);
    assert_eq!((named.len(), names.len()), (KINDS.len(), KINDS.len()));
}

#[test]
fn what_is_delivered_is_not_printed() {
    let text = format!("{:?}", delivery());
    assert!(text.contains("netrc"), "{text}");
    for secret in ["hunter2", "104, 117", "dana"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_delivery_is_bounded() {
    let file = |bytes: usize| DeliveredFile {
        contents: vec![0; bytes],
        ..delivery().files[0].clone()
    };
    let files = |files: Vec<DeliveredFile>| Delivery {
        files,
        ..delivery()
    };
    let check = |delivery: &Delivery| delivery.check();
    assert_eq!(check(&files(vec![file(MAX_DELIVERED_FILE); 16])), Ok(()));
    assert_eq!(
        check(&files(vec![file(MAX_DELIVERED_FILE + 1)])),
        Err("file")
    );
    assert_eq!(
        check(&files(vec![file(MAX_DELIVERED_FILE); 17])),
        Err("files")
    );
    let mut one = delivery();
    one.files[0].mode = 0o1000;
    assert_eq!(check(&one), Err("mode of a file"));
    let mut one = delivery();
    one.environment[0].1 = "x".repeat(MAX_ENVIRONMENT);
    assert_eq!(check(&one), Err("environment"));
    let mut one = delivery();
    one.config_json = vec![b' '; MAX_DELIVERED_CONFIG + 1];
    assert_eq!(check(&one), Err("document"));
    let mut one = delivery();
    one.record = "x".repeat(MAX_RECORD + 1);
    assert_eq!(check(&one), Err("record"));
}

#[test]
fn what_is_said_of_unclaimed_containers_is_bounded() {
    let item = |record: String| UnclaimedItem {
        key: key(),
        claim: Claim::default(),
        report: report(),
        record,
    };
    let check = |items: Vec<UnclaimedItem>| UnclaimedReport { items }.check_bounds();
    let large = || item("x".repeat(MAX_RECORD));
    assert_eq!(check(vec![large(); 32]), Ok(()));
    assert_eq!(check(vec![large(); 33]), Err("records"));
    assert_eq!(check(vec![item("x".repeat(MAX_RECORD + 1))]), Err("record"));
    let mut other = item(String::new());
    other.report.key.session.0 += 1;
    assert_eq!(check(vec![other]), Err("key"));
}

#[test]
fn a_signed_record_is_one_line_of_text() {
    let signature: Vec<u8> = (0..64).collect();
    let text = SignedRecord::text(&signature, "{\"a\": 1}");
    let read = SignedRecord::read(&text).unwrap();
    assert_eq!((read.signature, read.record), (signature, "{\"a\": 1}"));
    for wrong in [
        "",
        "00 {}",
        "{} {}",
        &text[1..],
        &text.replacen('0', "é", 1),
    ] {
        assert_eq!(SignedRecord::read(wrong), None, "{wrong}");
    }
    let (set, placement) = (
        SigningInput::desired_set(b"{}"),
        SigningInput::placement("{}"),
    );
    assert_ne!(
        set, placement,
        "a signature for one purpose is none for another"
    );
}

fn frames_of(bytes: &[u8], cuts: &[usize]) -> Vec<Frame> {
    let mut decoder = FrameDecoder::new(Cap::STATE);
    let mut frames = Vec::new();
    let mut rest = bytes;
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame().unwrap() {
            frames.push(frame);
        }
        rest = after;
    }
    decoder.finish().unwrap();
    frames
}

#[test]
fn what_is_encoded_decodes_to_the_same() {
    let bytes = encode(&InventoryReport {
        inventory: inventory(),
    });
    let frames = frames_of(&bytes, &[]);
    assert_eq!(
        frames[0].decode::<InventoryReport>().unwrap().inventory,
        inventory()
    );
    let signed = SignedSet {
        bytes: SignedSet::encode(&set()),
        signature: vec![0; 64],
    };
    let frames = frames_of(&encode(&signed), &[]);
    assert_eq!(
        frames[0].decode::<SignedSet>().unwrap().open().unwrap(),
        set()
    );
}

#[test]
fn a_length_above_the_cap_is_refused_at_the_header() {
    let mut decoder = FrameDecoder::new(Cap::CONTROL);
    decoder.push(&[0x00, 0x10, 0x00, 0x01, 0, 4, 0, 1]);
    assert!(matches!(
        decoder.next_frame(),
        Err(FrameError::TooLong {
            kind: 4,
            cap: 16384,
            ..
        })
    ));
}

#[test]
fn leftovers_other_kinds_and_passed_bounds_are_refused() {
    let mut bytes = encode(&Goodbye { leaving: false });
    let frame = &frames_of(&bytes, &[])[0];
    assert!(matches!(
        frame.decode::<OutcomeAck>(),
        Err(FrameError::Unexpected { .. })
    ));
    bytes.push(0);
    bytes[3] += 1;
    let frame = &frames_of(&bytes, &[])[0];
    assert!(matches!(
        frame.decode::<Goodbye>(),
        Err(FrameError::Malformed { .. })
    ));
    let many = encode(&ActualSet {
        items: vec![report(); 1025],
        applied: Generation(0),
        boot_id: String::new(),
    });
    let frame = &frames_of(&many, &[])[0];
    assert!(matches!(
        frame.decode::<ActualSet>(),
        Err(FrameError::OutOfBounds { .. })
    ));
}

/// Each is read by the one task that all agents wait for.
#[test]
fn inventories_are_bounded() {
    let refused = |change: &dyn Fn(&mut Inventory)| {
        let mut inventory = inventory();
        change(&mut inventory);
        let frame = &frames_of(&encode(&InventoryReport { inventory }), &[])[0];
        matches!(
            frame.decode::<InventoryReport>(),
            Err(FrameError::OutOfBounds { .. })
        )
    };
    let long = || "x".repeat(MAX_TEXT + 1);
    let links = |n: usize| -> Vec<_> {
        (0..n)
            .map(|n| format!("GPU-{n}").parse().unwrap())
            .collect()
    };
    assert!(!refused(
        &|i| i.devices = vec![i.devices[0].clone(); MAX_DEVICES]
    ));
    assert!(refused(
        &|i| i.devices = vec![i.devices[0].clone(); MAX_DEVICES + 1]
    ));
    assert!(!refused(&|i| i.devices[0].links = links(MAX_LINKS).into()));
    assert!(refused(
        &|i| i.devices[0].links = links(MAX_LINKS + 1).into()
    ));
    assert!(refused(&|i| i.devices[0].pci = long().into()));
    assert!(refused(&|i| i.arch = long().into()));
    assert!(refused(&|i| i.agent_version = long().into()));
    assert!(refused(&|i| i.engine_version = long().into()));
    assert!(refused(&|i| i.engine_storage = long().into()));
    assert!(refused(&|i| i.driver_version = long().into()));
}

#[test]
fn the_largest_command_fits_into_one_frame_and_larger_ones_are_refused() {
    let mut request = exec_request();
    request.command = vec!["x".repeat(MAX_COMMAND)];
    request.environment = BTreeMap::from([("A".into(), "y".repeat(MAX_EXEC_ENVIRONMENT - 1))]);
    request.workdir = Some("z".repeat(MAX_TEXT));
    let largest = encode(&StreamOpen::Exec(request.clone()));
    assert!(largest.len() <= Cap::DATA.0 as usize, "{}", largest.len());
    let frame = &frames_of(&largest, &[])[0];
    assert!(frame.decode::<StreamOpen>().is_ok());
    let refused = |request: ExecRequest| {
        let frame = &frames_of(&encode(&StreamOpen::Exec(request)), &[])[0];
        matches!(
            frame.decode::<StreamOpen>(),
            Err(FrameError::OutOfBounds { .. })
        )
    };
    let with = |change: fn(&mut ExecRequest)| {
        let mut request = exec_request();
        change(&mut request);
        request
    };
    assert!(refused(with(
        |r| r.command = vec!["x".repeat(MAX_COMMAND + 1)]
    )));
    assert!(refused(with(
        |r| r.command = vec![String::new(); MAX_LIST + 1]
    )));
    assert!(refused(with(|r| {
        r.environment
            .insert("B".into(), "y".repeat(MAX_EXEC_ENVIRONMENT));
    })));
    assert!(refused(
        with(|r| r.workdir = Some("z".repeat(MAX_TEXT + 1)))
    ));
    let piece = |len| encode(&ToTunnel::Data(vec![0; len]));
    assert!(piece(MAX_PIECE).len() <= Cap::DATA.0 as usize);
    let longer = piece(MAX_PIECE + 1);
    assert!(frames_of(&longer, &[])[0].decode::<ToTunnel>().is_err());
    let piece = |len| encode(&ToExec::Input(vec![0; len]));
    assert!(piece(MAX_PIECE).len() <= Cap::DATA.0 as usize);
    assert!(
        frames_of(&piece(MAX_PIECE + 1), &[])[0]
            .decode::<ToExec>()
            .is_err()
    );
}

#[test]
fn a_secret_does_not_reach_debug_output() {
    let request = EnrolRequest {
        token_id: "t".into(),
        secret: b"hunter2hunter2!!".to_vec(),
        csr: vec![],
        name: "n".into(),
        fingerprint: String::new(),
        machine: String::new(),
        version: String::new(),
    };
    let shown = format!("{request:?}");
    assert!(!shown.contains("104, 117"), "{shown}");
}

proptest! {
    #[test]
    fn frames_survive_any_split(cuts in prop::collection::vec(0usize..400, 0..40)) {
        let all: Vec<u8> = all_frames().into_iter().flat_map(|(_, bytes)| bytes).collect();
        prop_assert_eq!(frames_of(&all, &cuts), frames_of(&all, &[]));
    }

    #[test]
    fn hostile_bodies_are_refused_or_read_and_never_panic(body in prop::collection::vec(any::<u8>(), 0..300), kind in 0u16..50) {
        let frame = Frame { kind, ver: 1, body };
        let _ = frame.decode::<Hello>();
        let _ = frame.decode::<Heartbeat>();
        let _ = frame.decode::<ActualSet>();
        let _ = frame.decode::<Outcome>();
        let _ = frame.decode::<InventoryReport>();
        let _ = frame.decode::<EnrolRequest>();
        let _ = frame.decode::<StreamOpen>();
        let _ = frame.decode::<ToExec>();
        let _ = frame.decode::<FromExec>();
        let _ = frame.decode::<ToTunnel>();
        let _ = frame.decode::<FromTunnel>();
        if let Ok(signed) = frame.decode::<SignedSet>() {
            let _ = signed.open();
        }
    }

    #[test]
    fn a_flipped_byte_in_a_real_frame_never_panics(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut frames = all_frames();
        let (_, mut bytes) = frames.swap_remove(which.index(frames.len()));
        let at = 8 + at.index(bytes.len().max(9) - 8);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
        let mut decoder = FrameDecoder::new(Cap::STATE);
        decoder.push(&bytes);
        if let Ok(Some(frame)) = decoder.next_frame() {
            let _ = frame.decode::<Hello>();
            let _ = frame.decode::<Heartbeat>();
            let _ = frame.decode::<Outcome>();
            let _ = frame.decode::<InventoryReport>();
            if let Ok(signed) = frame.decode::<SignedSet>() {
                let _ = signed.open();
            }
        }
    }

    #[test]
    fn amounts_print_and_read_back(milli in 0i64..=1_000_000_000) {
        use longshore_common::amount::{format_milli, parse_milli};
        prop_assert_eq!(parse_milli(&format_milli(milli)), Ok(milli));
    }
}
