use super::*;
use crate::devices::simulated;
use crate::link::Shared;
use longshore_common::agent::{DeviceSample, Inventory};
use longshore_common::ids::{DeviceId, Generation};
use std::sync::atomic::Ordering;
use std::time::Duration;

fn gpu() -> DeviceId {
    "GPU-1".parse().unwrap()
}

fn shown(shared: &Shared, gpus: &Snapshot, calls: &CallTimes) -> String {
    page(&Shown {
        shared,
        gpus,
        calls,
        joined_as: "gpu01",
        agent: "a-1",
        boot_ms: 100_000,
        taken: process::Taken {
            memory: Some(9 << 20),
            cpu_ms: Some(1500),
            descriptors: Some(12),
        },
    })
}

fn has(page: &str, line: &str) {
    assert!(page.lines().any(|one| one == line), "{line}\n{page}");
}

#[test]
fn what_is_known_is_shown() {
    let shared = Shared::new();
    let mut gpus = Snapshot::default();
    let sample = DeviceSample {
        utilization: Some(97),
        memory_used: Some(1 << 30),
        temperature: Some(65),
        power_mw: Some(250_500),
    };
    gpus.samples.insert(gpu(), sample);
    gpus.xids.insert((gpu(), 79), 2);
    let calls = CallTimes::default();
    calls.took("ping", Duration::from_millis(7));
    calls.fetched(4096);
    {
        let mut outbox = shared.outbox();
        outbox.applied = Generation(9);
        outbox.runtime = RuntimeState::Up;
        let config = simulated::SimulatedConfig {
            count: 1,
            model: "Test GPU".to_owned(),
            memory_bytes: 1 << 34,
            seed: 1,
        };
        let (invented, _hand) = simulated::start(&config);
        let mut devices = invented.borrow().devices.clone();
        devices[0].id = gpu();
        devices[0].health = Health::Cordoned;
        outbox.inventory.1 = Some(Inventory {
            devices,
            ..Inventory::default()
        });
        outbox.load = Some(NodeLoad {
            disk_free: 5,
            disk_total: 10,
            ..NodeLoad::default()
        });
    }
    shared.acked_sent_ms.store(90_000, Ordering::Relaxed);
    shared.tally.note(|noted| {
        noted.link_up = true;
        noted.links = 3;
        noted.rtt_ms = Some(12);
        noted.lease_ms = 15_000;
        noted.journal_bytes = 77;
        noted.disk = "/var/lib/docker".to_owned();
        noted.steps.insert(("start", false), 4);
    });
    let text = shown(&shared, &gpus, &calls);
    for line in [
        "longshore_agent_link_up 1",
        "longshore_agent_link_reconnects_total 2",
        "longshore_agent_heartbeat_rtt_seconds 0.012",
        "longshore_agent_applied_generation 9",
        "longshore_agent_lease_remaining_seconds 5",
        "longshore_agent_containers{state=\"running\"} 0",
        "longshore_agent_steps_total{step=\"start\",result=\"failed\"} 4",
        "longshore_agent_docker_call_seconds_bucket{call=\"ping\",le=\"0.01\"} 1",
        "longshore_agent_docker_call_seconds_sum{call=\"ping\"} 0.007",
        "longshore_agent_docker_up 1",
        "longshore_agent_journal_bytes 77",
        "longshore_gpu_utilization_ratio{node=\"gpu01\",gpu=\"GPU-1\"} 0.97",
        "longshore_gpu_memory_used_bytes{node=\"gpu01\",gpu=\"GPU-1\"} 1073741824",
        "longshore_gpu_temperature_celsius{node=\"gpu01\",gpu=\"GPU-1\"} 65",
        "longshore_gpu_power_watts{node=\"gpu01\",gpu=\"GPU-1\"} 250.5",
        "longshore_gpu_health{node=\"gpu01\",gpu=\"GPU-1\",reason=\"cordoned\"} 0",
        "longshore_gpu_xid_total{node=\"gpu01\",gpu=\"GPU-1\",xid=\"79\"} 2",
        "longshore_agent_pull_bytes_total 4096",
        "longshore_agent_disk_free_bytes{path=\"/var/lib/docker\"} 5",
        "process_resident_memory_bytes 9437184",
    ] {
        has(&text, line);
    }
    let named: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(named, known);
}

#[test]
fn what_nobody_knows_yet_is_left_out() {
    let shared = Shared::new();
    let text = shown(&shared, &Snapshot::default(), &CallTimes::default());
    has(&text, "longshore_agent_link_up 0");
    has(&text, "longshore_agent_link_reconnects_total 0");
    has(&text, "longshore_agent_docker_up 0");
    for absent in [
        "longshore_agent_heartbeat_rtt_seconds ",
        "longshore_agent_lease_remaining_seconds ",
        "longshore_agent_disk_free_bytes{",
        "longshore_gpu_utilization_ratio{",
    ] {
        let lines = text.lines();
        assert!(
            !lines.clone().any(|line| line.starts_with(absent)),
            "{text}"
        );
    }
    // A lease that was over long ago is over, and not less than that.
    shared.acked_sent_ms.store(1, Ordering::Relaxed);
    shared.tally.note(|noted| {
        noted.lease_ms = 15_000;
        noted.name = "renamed".to_owned();
    });
    let text = shown(&shared, &Snapshot::default(), &CallTimes::default());
    has(&text, "longshore_agent_lease_remaining_seconds 0");
    assert!(
        text.contains("longshore_agent_info{node=\"renamed\","),
        "{text}"
    );
}

#[test]
fn the_documentation_has_every_family() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let known = std::fs::read_to_string(path).unwrap();
    let made = longshore_common::metrics::documented(&known, "agent", &FAMILIES);
    let made = made.expect("the page has the marks");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &made).unwrap();
        return;
    }
    assert!(known == made, "UPDATE=1 writes {path}");
}
