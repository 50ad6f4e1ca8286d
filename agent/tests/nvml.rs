//! The NVML module against the fake library: what the supervisor gets to see.
//!
//! The fake library reads its scenario's path from the environment of its process and
//! keeps one state there. So every test wants a process of its own: `cargo nextest run`
//! gives it one.

use longshore_agent::devices::nvml::{self, NvmlConfig};
use longshore_agent::devices::{Instance, Mask, Snapshot, Snapshots};
use longshore_common::agent::{Device, Health};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const GPU_0: &str = "GPU-aaaaaaaa-0000-0000-0000-000000000000";
const GPU_1: &str = "GPU-bbbbbbbb-0000-0000-0000-000000000001";

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Nobody vouches for a device.
fn start(config: NvmlConfig) -> Snapshots {
    nvml::start(config, std::sync::mpsc::channel().1)
}

#[test]
fn two_gpus() {
    let machine = Machine::new("two-gpus.json");
    let snapshot = first(&mut start(machine.config()));
    assert_eq!(snapshot.driver_version, "570.86.15");
    assert_eq!(snapshot.note, "");
    let [one, other] = &snapshot.devices[..] else {
        panic!("two devices, not {:?}", snapshot.devices);
    };
    assert_eq!((one.id.as_str(), other.id.as_str()), (GPU_0, GPU_1));
    assert_eq!((one.index, other.index), (0, 1));
    assert_eq!((one.slot.as_str(), one.capacity), ("cuda.device", 1000));
    assert_eq!(&*one.model, "NVIDIA RTX A6000");
    assert_eq!(one.memory_bytes, 48 << 30);
    assert_eq!((&*one.pci, one.minor), ("0000:3b:00.0", Some(0)));
    assert!(one.numa.is_some());
    assert_eq!(
        (&one.links, &other.links),
        (&vec![other.id.clone()].into(), &vec![one.id.clone()].into())
    );
    assert_eq!((one.health, &*one.health_detail), (Health::Healthy, ""));
    let sample = &snapshot.samples[&one.id];
    assert_eq!((sample.utilization, sample.memory_used), (Some(0), Some(0)));
    assert_eq!(
        (sample.temperature, sample.power_mw),
        (Some(34), Some(22_000))
    );
    assert_eq!(snapshot.processes[&one.id], []);
}

#[test]
fn eight_gpus_behind_switches_are_linked() {
    let machine = Machine::new("eight-gpus.json");
    let snapshot = first(&mut start(machine.config()));
    assert_eq!(snapshot.devices.len(), 8);
    assert!(
        snapshot
            .devices
            .iter()
            .all(|device| device.links.len() == 7)
    );
}

#[test]
fn what_the_driver_does_not_tell_is_unknown() {
    let machine = Machine::new("two-gpus.json");
    machine.change(|scenario| {
        let gpu = scenario["gpus"][0].as_object_mut().expect("a GPU");
        for member in ["util_gpu", "util_memory", "power_mw"] {
            gpu.remove(member);
        }
        gpu.insert("errors".to_owned(), json!({"nvmlDeviceGetTemperature": 13}));
        gpu.insert(
            "processes".to_owned(),
            json!([{"pid": 7, "used": 5}, {"pid": 8}]),
        );
    });
    let snapshot = first(&mut start(machine.config()));
    let one = &snapshot.devices[0];
    assert_eq!(one.health, Health::Healthy);
    let sample = &snapshot.samples[&one.id];
    assert_eq!((sample.utilization, sample.power_mw), (None, None));
    assert_eq!((sample.temperature, sample.memory_used), (None, Some(0)));
    assert_eq!(snapshot.processes[&one.id], [(7, Some(5)), (8, None)]);
}

#[test]
fn a_lost_gpu_is_taken_out_and_the_other_serves_on() {
    let machine = Machine::new("two-gpus.json");
    let mut snapshots = start(machine.config());
    first(&mut snapshots);
    machine.change(|scenario| scenario["gpus"][0]["lost"] = json!(true));
    let snapshot = until(&mut snapshots, |s| health(s, GPU_0) == Health::Lost);
    assert_eq!(health(&snapshot, GPU_1), Health::Healthy);
    assert!(snapshot.samples.contains_key(&device(&snapshot, GPU_1).id));
    assert!(!snapshot.samples.contains_key(&device(&snapshot, GPU_0).id));
    assert!(!device(&snapshot, GPU_0).health_detail.is_empty());

    machine.change(|scenario| scenario["gpus"][0]["lost"] = json!(false));
    until(&mut snapshots, |s| health(s, GPU_0) == Health::Healthy);
}

#[test]
fn a_cordon_outlives_the_agent_until_a_person_releases_the_gpu() {
    let machine = Machine::new("two-gpus.json");
    let config = || NvmlConfig {
        book: Some(machine.folder.path().join("gpu-cordons.json")),
        boot_id: "one".to_owned(),
        ..machine.config()
    };
    let mut snapshots = start(config());
    first(&mut snapshots);
    machine.change(|scenario| scenario["events"] = json!([{"seq": 1, "gpu": 0, "data": 48}]));
    let snapshot = until(&mut snapshots, |s| health(s, GPU_0) == Health::Cordoned);
    assert_eq!(snapshot.signs[&device(&snapshot, GPU_0).id].xid, 48);
    drop(snapshots);

    machine.change(|scenario| scenario["events"] = json!([]));
    let (release, released) = std::sync::mpsc::channel();
    let mut snapshots = nvml::start(config(), released);
    let snapshot = first(&mut snapshots);
    let gpu = device(&snapshot, GPU_0);
    assert_eq!(gpu.health, Health::Cordoned);
    assert!(
        gpu.health_detail.starts_with("XID 48 at "),
        "{}",
        gpu.health_detail
    );
    release.send(gpu.id.clone()).unwrap();
    until(&mut snapshots, |s| health(s, GPU_0) == Health::Healthy);
}

#[test]
fn what_a_gpu_admits_is_heard() {
    let machine = Machine::new("two-gpus.json");
    let mut snapshots = start(machine.config());
    first(&mut snapshots);
    machine.change(|scenario| scenario["gpus"][0]["fields"] = json!({"144": 1}));
    let warned = |s: &Snapshot| !device(s, GPU_0).health_detail.is_empty();
    let snapshot = until(&mut snapshots, warned);
    assert_eq!(health(&snapshot, GPU_0), Health::Healthy, "a warning");
    machine.change(|scenario| scenario["gpus"][0]["fields"] = json!({"230": 1}));
    let snapshot = until(&mut snapshots, |s| health(s, GPU_0) == Health::Cordoned);
    assert_eq!(health(&snapshot, GPU_1), Health::Healthy);
    // Only a restart helps: the other one needs it, too.
    machine.change(|scenario| scenario["gpus"][0]["fields"] = json!({"230": 2}));
    until(&mut snapshots, |s| health(s, GPU_1) == Health::Cordoned);
}

#[test]
fn a_gpu_gone_from_the_list_keeps_its_name() {
    let machine = Machine::new("two-gpus.json");
    let mut snapshots = start(machine.config());
    first(&mut snapshots);
    machine.change(|scenario| {
        let gpus = scenario["gpus"].as_array_mut().expect("GPUs");
        gpus.remove(0);
        gpus[0]["nvlinks"] = json!([]);
        scenario["ancestors"] = json!({});
    });
    let snapshot = until(&mut snapshots, |s| health(s, GPU_0) == Health::Lost);
    // Indexes in the driver's list have shifted; ids have not.
    assert_eq!(health(&snapshot, GPU_1), Health::Healthy);
    assert_eq!(device(&snapshot, GPU_1).index, 1);
}

#[test]
fn xid_79_loses_a_gpu_before_the_next_look() {
    let machine = Machine::new("two-gpus.json");
    let mut snapshots = start(NvmlConfig {
        sample: SOON * 10, // longer than this test waits for anything
        ..machine.config()
    });
    first(&mut snapshots);
    machine.change(|scenario| scenario["events"] = json!([{"seq": 1, "gpu": 0, "data": 79}]));
    let snapshot = until(&mut snapshots, |s| health(s, GPU_0) == Health::Lost);
    assert!(
        device(&snapshot, GPU_0)
            .health_detail
            .starts_with("XID 79 at ")
    );
    assert_eq!(health(&snapshot, GPU_1), Health::Healthy);
}

#[test]
fn xids_cordon_or_inform() {
    let machine = Machine::new("two-gpus.json");
    let mut snapshots = start(machine.config());
    first(&mut snapshots);
    machine.change(|scenario| {
        scenario["events"] = json!([
            {"seq": 1, "gpu": 1, "data": 31},
            {"seq": 2, "gpu": 0, "data": 48},
        ]);
    });
    let snapshot = until(&mut snapshots, |s| health(s, GPU_0) == Health::Cordoned);
    assert!(
        device(&snapshot, GPU_0)
            .health_detail
            .starts_with("XID 48 at ")
    );
    assert_eq!(health(&snapshot, GPU_1), Health::Healthy);
}

#[test]
fn a_failed_remapping_cordons() {
    let machine = Machine::new("two-gpus.json");
    machine.change(|scenario| scenario["gpus"][1]["remapped_rows"] = json!({"failed": true}));
    let snapshot = first(&mut start(machine.config()));
    assert_eq!(health(&snapshot, GPU_0), Health::Healthy);
    assert_eq!(health(&snapshot, GPU_1), Health::Cordoned);
}

#[test]
fn a_hanging_driver_is_unresponsive_until_it_answers() {
    let machine = Machine::new("two-gpus.json");
    let mut snapshots = start(machine.config());
    first(&mut snapshots);
    assert_eq!(machine.hanging(), 0);
    machine.change(|scenario| {
        scenario["gpus"][0]["delay_ms"] = json!({"nvmlDeviceGetUtilizationRates": "hang"});
    });
    let snapshot = until(&mut snapshots, |s| health(s, GPU_0) == Health::Unresponsive);
    assert!(machine.hanging() >= 1, "a call that does not return is why");
    // All of them: one thread asks for all.
    assert_eq!(health(&snapshot, GPU_1), Health::Unresponsive);
    assert!(snapshot.samples.is_empty());
    // The thread that replaced the first gets as far, and hangs as well.
    let started = Instant::now();
    while machine.hanging() < 2 {
        assert_eq!(health(&snapshots.borrow(), GPU_0), Health::Unresponsive);
        assert!(started.elapsed() < SOON, "no second thread");
        std::thread::sleep(Duration::from_millis(5));
    }

    let mut scenario: Value = serde_json::from_str(&shipped("two-gpus.json")).expect("good");
    scenario["gpus"][0]["util_gpu"] = json!(55);
    machine.write(&scenario.to_string());
    let snapshot = until(&mut snapshots, |s| health(s, GPU_0) == Health::Healthy);
    assert_eq!(health(&snapshot, GPU_1), Health::Healthy);
    // Healthy by an answer, and not by what the second thread said before it hung.
    let sample = &snapshot.samples[&device(&snapshot, GPU_0).id];
    assert_eq!(sample.utilization, Some(55));
}

#[test]
fn no_library_is_a_machine_without_gpus() {
    let machine = Machine::new("two-gpus.json");
    let snapshot = first(&mut start(NvmlConfig {
        library: Some(machine.folder.path().join("libnvidia-ml.so.1")),
        ..machine.config()
    }));
    assert_eq!(snapshot.devices, []);
    assert_eq!(
        snapshot.note,
        "there is no NVIDIA driver library on this machine"
    );
}

#[test]
fn a_driver_that_comes_later_is_found() {
    let machine = Machine::new("two-gpus.json");
    fs::remove_file(&machine.scenario).expect("the scenario goes");
    let mut snapshots = start(machine.config());
    let snapshot = first(&mut snapshots);
    assert_eq!(snapshot.devices, []);
    assert_eq!(snapshot.note, "the NVIDIA driver is not loaded");
    machine.write(&shipped("two-gpus.json"));
    until(&mut snapshots, |s| {
        s.devices.len() == 2 && s.note.is_empty()
    });
}

#[test]
fn instances_are_offered_and_their_parent_is_not() {
    let machine = Machine::new("mig.json");
    let snapshot = first(&mut start(machine.config()));
    let offered: Vec<_> = snapshot
        .devices
        .iter()
        .map(|device| (device.id.as_str(), device.slot.as_str()))
        .collect();
    assert_eq!(
        offered,
        [
            ("GPU-dddddddd-0000-0000-0000-000000000001", "cuda.device"),
            (
                "MIG-cccccccc-1111-0000-0000-000000000000",
                "cuda.mig-3g.40gb"
            ),
            (
                "MIG-cccccccc-2222-0000-0000-000000000000",
                "cuda.mig-2g.20gb"
            ),
            (
                "MIG-cccccccc-3333-0000-0000-000000000000",
                "cuda.mig-1g.10gb"
            ),
        ]
    );
    let instance = &snapshot.devices[1];
    // The node of its GPU, which it needs beside those of its own.
    assert_eq!((instance.capacity, instance.minor), (1000, Some(0)));
    let (gpu_instance, compute_instance) = (1, 0);
    let part = Instance {
        gpu_instance,
        compute_instance,
    };
    assert_eq!(snapshot.instances.get(&instance.id), Some(&part));
    assert_eq!(snapshot.instances.len(), 3, "the whole GPU is none");
    assert_eq!(&*instance.pci, "0000:07:00.0");
    assert_eq!(instance.memory_bytes, 42_681_237_504);
    let sample = &snapshot.samples[&instance.id];
    assert_eq!(
        (sample.utilization, sample.memory_used),
        (None, Some(10 << 30))
    );
    assert_eq!(snapshot.processes[&instance.id], [(5151, Some(10 << 30))]);
}

#[test]
fn dividing_a_gpu_replaces_it_by_its_instances() {
    const GPU: &str = "GPU-cccccccc-0000-0000-0000-000000000000";
    let machine = Machine::new("mig.json");
    machine.change(|scenario| {
        scenario["gpus"][0]["mig"]["enabled"] = json!(false);
        scenario["gpus"][0]["mig"]["devices"] = json!([]);
    });
    let mut snapshots = start(machine.config());
    assert_eq!(health(&first(&mut snapshots), GPU), Health::Healthy);
    machine.write(&shipped("mig.json"));
    let snapshot = until(&mut snapshots, |s| s.devices.len() == 5);
    assert_eq!(health(&snapshot, GPU), Health::Lost);
    assert_eq!(
        &*device(&snapshot, GPU).health_detail,
        "it is divided into instances"
    );
}

#[test]
fn masked_devices_are_left_out() {
    let machine = Machine::new("two-gpus.json");
    for name in [GPU_0, "0000:3B:00.0", "00000000:3b:00.0"] {
        let snapshot = first(&mut start(NvmlConfig {
            mask: vec![name.to_owned()].into(),
            ..machine.config()
        }));
        assert_eq!(snapshot.devices.len(), 1, "{name}");
        assert_eq!(snapshot.devices[0].id.as_str(), GPU_1);
        assert!(snapshot.devices[0].links.is_empty());
    }
    let snapshot = first(&mut start(NvmlConfig {
        only: vec![GPU_0.to_owned()],
        ..machine.config()
    }));
    assert_eq!(snapshot.devices[0].id.as_str(), GPU_0);
    assert_eq!(snapshot.devices.len(), 1);
}

#[test]
fn what_is_masked_while_it_is_looked_at_stays_in_sight() {
    let machine = Machine::new("two-gpus.json");
    let mask = Mask::from(vec![GPU_1.to_owned()]);
    let mut snapshots = start(NvmlConfig {
        mask: mask.clone(),
        ..machine.config()
    });
    let masked = |snapshot: &Snapshot| -> Vec<String> {
        let masked = snapshot.masked.iter();
        masked.map(|id| id.as_str().to_owned()).collect()
    };
    let snapshot = first(&mut snapshots);
    assert_eq!(snapshot.devices.len(), 1);
    assert!(masked(&snapshot).is_empty());
    // The other way round, by its address: the one comes, the other is marked and not lost.
    mask.set(vec!["0000:3B:00.0".to_owned()]);
    let snapshot = until(&mut snapshots, |s| s.devices.len() == 2);
    assert_eq!(masked(&snapshot), [GPU_0]);
    assert_eq!(health(&snapshot, GPU_0), Health::Healthy);
    assert!(!snapshot.devices[1].links.is_empty(), "and is linked");
    mask.set(Vec::new());
    until(&mut snapshots, |s| s.masked.is_empty());
    // Somebody has it since before this process: it is not out of sight.
    let mask = Mask::from(vec![GPU_0.to_owned(), GPU_1.to_owned()]);
    mask.hold([GPU_0.parse().expect("an id")].into());
    let snapshot = first(&mut start(NvmlConfig {
        mask,
        ..machine.config()
    }));
    assert_eq!(
        (snapshot.devices.len(), masked(&snapshot)),
        (1, vec![GPU_0.to_owned()])
    );
}

#[test]
fn a_look_at_rest_asks_little() {
    let machine = Machine::new("eight-gpus.json");
    let trace = machine.trace();
    let mut snapshots = start(machine.config());
    first(&mut snapshots);
    fs::write(&trace, "").expect("an emptied trace");
    for _ in 0..3 {
        next(&mut snapshots);
    }
    let calls = fs::read_to_string(&trace).expect("a trace");
    assert!(!calls.contains("nvmlDeviceGetUUID"), "facts are read once");
    assert!(
        !calls.contains("nvmlDeviceGetNvLink"),
        "links are read once"
    );
    let per_look = calls.lines().count() / 3;
    assert!(per_look <= 8 * 11 + 4, "{per_look} calls per look");
}

/// The fake library with a scenario.
struct Machine {
    folder: TempDir,
    scenario: PathBuf,
}

impl Machine {
    fn new(scenario: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = Self {
            scenario: folder.path().join("scenario.json"),
            folder,
        };
        machine.write(&shipped(scenario));
        set_variable("FAKE_NVML_SCENARIO", &machine.scenario);
        set_variable("FAKE_NVML_TRACE", &machine.trace());
        machine
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    /// How many calls for the utilisation were held up so far.
    fn hanging(&self) -> usize {
        let trace = fs::read_to_string(self.trace()).unwrap_or_default();
        let line = "nvmlDeviceGetUtilizationRates waits";
        trace.lines().filter(|l| *l == line).count()
    }

    /// Quicker than in earnest.
    fn config(&self) -> NvmlConfig {
        NvmlConfig {
            library: Some(library()),
            sample: Duration::from_millis(100),
            deadline: Duration::from_secs(1),
            retry: Duration::from_millis(200),
            quiet: Duration::from_millis(300),
            ..NvmlConfig::default()
        }
    }

    fn write(&self, scenario: &str) {
        let next = self.folder.path().join("next.json");
        fs::write(&next, scenario).expect("a written scenario");
        fs::rename(next, &self.scenario).expect("a replaced scenario");
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let text = fs::read_to_string(&self.scenario).expect("a scenario");
        let mut scenario = serde_json::from_str(&text).expect("a good scenario");
        change(&mut scenario);
        self.write(&scenario.to_string());
    }
}

/// Waits for the next snapshot.
fn next(snapshots: &mut Snapshots) -> Snapshot {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let changed = tokio::time::timeout(SOON, snapshots.changed()).await;
        changed
            .expect("a snapshot in time")
            .expect("a living thread");
    });
    snapshots.borrow_and_update().clone()
}

/// The first true answer.
fn first(snapshots: &mut Snapshots) -> Snapshot {
    next(snapshots)
}

/// Waits until a snapshot is as wanted.
#[track_caller]
fn until(snapshots: &mut Snapshots, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let started = Instant::now();
    loop {
        let snapshot = next(snapshots);
        if wanted(&snapshot) {
            return snapshot;
        }
        assert!(started.elapsed() < SOON, "stays {snapshot:?}");
    }
}

#[track_caller]
fn device<'s>(snapshot: &'s Snapshot, id: &str) -> &'s Device {
    let mut devices = snapshot.devices.iter();
    devices
        .find(|device| device.id.as_str() == id)
        .expect("the device is known")
}

#[track_caller]
fn health(snapshot: &Snapshot, id: &str) -> Health {
    device(snapshot, id).health
}

/// The fake library, which cargo puts beside the test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    test.with_file_name("libnvidia_ml.so")
}

fn shipped(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fake-nvml/scenarios");
    fs::read_to_string(folder.join(name)).expect("a shipped scenario")
}

#[expect(
    unsafe_code,
    reason = "the fake library takes its instructions from the environment"
)]
fn set_variable(name: &str, value: &Path) {
    // SAFETY: nextest runs each test in its own process, in which no other thread has started yet.
    unsafe { std::env::set_var(name, value) };
}
