//! The library as the agent meets it: loaded at run time through nvml-wrapper.
//!
//! The library reads its scenario's path from the environment of its process and keeps one state
//! there. So every test wants a process of its own: `cargo nextest run` gives it one.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, TemperatureSensor, TopologyLevel,
};
use nvml_wrapper::enums::device::{DeviceArchitecture, SampleValue, UsedGpuMemory};
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml};
use tempfile::TempDir;

const GPU_0: &str = "GPU-aaaaaaaa-0000-0000-0000-000000000000";
const GPU_1: &str = "GPU-bbbbbbbb-0000-0000-0000-000000000001";
const GIB: u64 = 1 << 30;

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn inventory() {
    let machine = Machine::new(shipped("two-gpus.json"));
    let nvml = machine.nvml();

    tells(nvml.sys_driver_version(), "570.86.15");
    tells(nvml.sys_nvml_version(), "12.570.86.15");
    tells(nvml.sys_cuda_driver_version(), 12_080);
    tells(nvml.device_count(), 2);

    let gpu = nvml.device_by_index(1).expect("a second GPU");
    tells(gpu.index(), 1);
    tells(gpu.uuid(), GPU_1);
    tells(gpu.name(), "NVIDIA RTX A6000");
    tells(gpu.serial(), "1322521000001");
    tells(gpu.minor_number(), 1);
    tells(gpu.numa_node_id(), 0);
    tells(gpu.enforced_power_limit(), 300_000);
    tells(gpu.is_ecc_enabled().map(|ecc| ecc.currently_enabled), true);
    tells(gpu.architecture(), DeviceArchitecture::Ampere);
    let capability = gpu.cuda_compute_capability().expect("a compute capability");
    assert_eq!((capability.major, capability.minor), (8, 6));
    let pci = gpu.pci_info().expect("a PCI address");
    assert_eq!((pci.bus_id.as_str(), pci.bus), ("00000000:86:00.0", 0x86));
    fails(nvml.device_by_index(2), NvmlError::InvalidArg);
}

#[test]
fn readings() {
    let machine = Machine::new(one_gpu(
        r#""memory_used": 4096, "memory_reserved": 1024, "util_gpu": 97, "util_memory": 41,
           "temperature": 71, "power_mw": 287000, "throttle_reasons": 4,
           "clocks_mhz": {"graphics": 1800, "sm": 1801, "memory": 8001, "video": 1500},
           "ecc": {"enabled": true, "volatile": {"corrected": 3, "uncorrected": 1},
                   "aggregate": {"uncorrected": 9}},
           "remapped_rows": {"uncorrectable": 2, "pending": true}, "fields": {"230": 1}"#,
    ));
    let nvml = machine.nvml();
    let gpu = first(&nvml);

    let memory = gpu.memory_info().expect("memory");
    assert_eq!((memory.used, memory.reserved), (4096, 1024));
    assert_eq!(memory.free, memory.total - 5120);
    let load = gpu.utilization_rates().expect("utilisation");
    assert_eq!((load.gpu, load.memory), (97, 41));
    tells(gpu.temperature(TemperatureSensor::Gpu), 71);
    tells(gpu.power_usage(), 287_000);
    tells(gpu.clock_info(Clock::SM), 1801);
    tells(
        gpu.current_throttle_reasons().map(|reasons| reasons.bits()),
        4,
    );
    let ecc = |kind, counter| gpu.total_ecc_errors(kind, counter);
    tells(ecc(MemoryError::Corrected, EccCounter::Volatile), 3);
    tells(ecc(MemoryError::Uncorrected, EccCounter::Aggregate), 9);

    // The wrapper has no method for the remapped rows; their numbered fields are the way to them.
    let fields = [FieldId(143), FieldId(144), FieldId(230), FieldId(1)];
    let samples = gpu.field_values_for(&fields).expect("fields");
    let mut values = samples
        .into_iter()
        .map(|sample| sample.expect("a known type").value);
    let mut next = || values.next().expect("as many as were asked for");
    tells(next(), SampleValue::U64(2));
    tells(next(), SampleValue::U64(1));
    tells(next(), SampleValue::U64(1));
    fails(next(), NvmlError::NotSupported);
}

#[test]
fn what_is_not_stated_is_not_supported() {
    let machine = Machine::new(one_gpu(r#""memory_used": 0"#));
    let nvml = machine.nvml();
    let gpu = first(&nvml);

    fails(gpu.utilization_rates(), NvmlError::NotSupported);
    fails(gpu.power_usage(), NvmlError::NotSupported);
    fails(gpu.serial(), NvmlError::NotSupported);
    fails(gpu.is_ecc_enabled(), NvmlError::NotSupported);
    fails(gpu.mig_mode(), NvmlError::NotSupported);
    fails(gpu.link_wrapper_for(0).is_active(), NvmlError::NotSupported);
    fails(gpu.gpm_support(), NvmlError::NotSupported);
}

#[test]
fn processes() {
    let machine = Machine::new(one_gpu(
        r#""processes": [{"pid": 4242, "used": 4194304000}, {"pid": 4243},
                         {"pid": 17, "used": 5, "type": "graphics"}]"#,
    ));
    let nvml = machine.nvml();
    let gpu = first(&nvml);

    let compute = gpu.running_compute_processes().expect("programs");
    let seen: Vec<_> = compute
        .iter()
        .map(|program| (program.pid, program.used_gpu_memory.clone()))
        .collect();
    let used = UsedGpuMemory::Used(4_194_304_000);
    assert_eq!(seen, [(4242, used), (4243, UsedGpuMemory::Unavailable)]);
    let graphics = gpu.running_graphics_processes().expect("programs");
    assert_eq!(
        graphics
            .iter()
            .map(|program| program.pid)
            .collect::<Vec<_>>(),
        [17]
    );
    tells(
        gpu.mps_running_compute_processes()
            .map(|programs| programs.len()),
        0,
    );
}

#[test]
fn mig_instances_are_devices() {
    let machine = Machine::new(shipped("mig.json"));
    let nvml = machine.nvml();
    let parent = first(&nvml);

    tells(parent.mig_mode().map(|mode| mode.current), 1);
    tells(parent.mig_device_count(), 7);
    fails(parent.utilization_rates(), NvmlError::NotSupported);
    let instance = parent.mig_device_by_index(0).expect("an instance");
    tells(instance.uuid(), "MIG-cccccccc-1111-0000-0000-000000000000");
    tells(instance.name(), "NVIDIA A100-SXM4-80GB MIG 3g.40gb");
    tells(instance.mig_is_mig_device_handle(), true);
    tells(parent.mig_is_mig_device_handle(), false);
    tells(instance.memory_info().map(|memory| memory.used), 10 * GIB);
    let attributes = instance.attributes().expect("attributes");
    assert_eq!(
        (
            attributes.gpu_instance_slice_count,
            attributes.memory_size_mb
        ),
        (3, 40_704)
    );
    tells(
        instance
            .running_compute_processes()
            .map(|programs| programs[0].pid),
        5151,
    );
    let on_parent = parent.running_compute_processes().expect("programs");
    assert_eq!(
        (
            on_parent[0].gpu_instance_id,
            on_parent[0].compute_instance_id
        ),
        (Some(1), Some(0))
    );
    fails(parent.mig_device_by_index(3), NvmlError::NotFound);
    let by_uuid = nvml.device_by_uuid("MIG-cccccccc-3333-0000-0000-000000000000");
    tells(by_uuid.and_then(|instance| instance.index()), 2);
    let undivided = nvml.device_by_index(1).expect("a second GPU");
    tells(undivided.mig_mode().map(|mode| mode.current), 0);
}

#[test]
fn links_and_topology() {
    let machine = Machine::new(shipped("two-gpus.json"));
    let nvml = machine.nvml();
    let (one, other) = (first(&nvml), nvml.device_by_index(1).expect("a second GPU"));

    let link = one.link_wrapper_for(3);
    tells(link.is_active(), true);
    tells(link.version(), 3);
    tells(
        link.remote_pci_info().map(|pci| pci.bus_id),
        "00000000:86:00.0",
    );
    fails(one.link_wrapper_for(4).is_active(), NvmlError::NotSupported);
    let ancestor = one
        .topology_common_ancestor(other)
        .map(|level| level as u32);
    tells(ancestor, TopologyLevel::Node as u32);
    let near = one
        .topology_nearest_gpus(TopologyLevel::Node)
        .expect("near GPUs");
    assert_eq!(
        near.iter().flat_map(Device::uuid).collect::<Vec<_>>(),
        [GPU_1]
    );
}

#[test]
fn eight_gpus_are_joined_by_switches() {
    let machine = Machine::new(shipped("eight-gpus.json"));
    let nvml = machine.nvml();

    tells(nvml.device_count(), 8);
    let links = (0..18).map(|link| first(&nvml).link_wrapper_for(link).is_active());
    assert!(links.into_iter().all(|active| matches!(active, Ok(true))));
    let near = first(&nvml)
        .topology_nearest_gpus(TopologyLevel::System)
        .expect("far GPUs");
    assert_eq!(near.len(), 4);
}

#[test]
fn lookup() {
    let machine = Machine::new(shipped("two-gpus.json"));
    let nvml = machine.nvml();

    tells(nvml.device_by_uuid(GPU_1).and_then(|gpu| gpu.index()), 1);
    tells(
        nvml.device_by_pci_bus_id("0000:3B:00.0")
            .and_then(|gpu| gpu.uuid()),
        GPU_0,
    );
    fails(nvml.device_by_uuid("GPU-nowhere"), NvmlError::NotFound);
}

#[test]
fn a_gpu_is_lost_after_xid_79_and_the_other_answers() {
    let machine = Machine::new(shipped("two-gpus.json"));
    let nvml = machine.nvml();
    let (one, other) = (first(&nvml), nvml.device_by_index(1).expect("a second GPU"));
    let set = nvml.create_event_set().expect("an event set");
    let set = one
        .register_events(EventTypes::CRITICAL_XID_ERROR, set)
        .expect("registration");
    let set = other
        .register_events(EventTypes::CRITICAL_XID_ERROR, set)
        .expect("registration");

    fails(set.wait(20), NvmlError::Timeout);
    machine.write(&shipped("two-gpus.json").replace(
        r#""ancestors""#,
        r#""events": [{"seq": 2, "gpu": 0, "data": 79}, {"seq": 1, "gpu": 1, "data": 13}], "ancestors""#,
    ));
    // An event not told yet changes nothing.
    tells(one.minor_number(), 0);
    let event = set.wait(5000).expect("the first event");
    assert!(matches!(event.event_data, Some(XidError::Value(13))));
    tells(event.device.uuid(), GPU_1);
    let event = set.wait(5000).expect("the second event");
    assert!(matches!(event.event_data, Some(XidError::Value(79))));
    fails(event.device.uuid(), NvmlError::GpuLost);
    fails(set.wait(20), NvmlError::Timeout);

    fails(one.memory_info(), NvmlError::GpuLost);
    fails(nvml.device_by_index(0), NvmlError::GpuLost);
    tells(nvml.device_count(), 2);
    tells(other.uuid(), GPU_1);

    machine.write(&shipped("two-gpus.json"));
    // An event taken out brings the GPU back.
    tells(one.uuid(), GPU_0);
}

#[test]
fn each_event_set_is_told() {
    let machine = Machine::new(one_gpu(r#""memory_used": 0"#).replace(
        r#""gpus""#,
        r#""events": [{"seq": 1, "gpu": 0, "data": 48}], "gpus""#,
    ));
    let nvml = machine.nvml();
    for _ in 0..2 {
        let set = nvml.create_event_set().expect("an event set");
        let set = first(&nvml).register_events(EventTypes::CRITICAL_XID_ERROR, set);
        let set = set.expect("registration");
        assert!(matches!(
            set.wait(5000).map(|e| e.event_data),
            Ok(Some(XidError::Value(48)))
        ));
        fails(set.wait(20), NvmlError::Timeout);
    }
}

#[test]
fn a_replaced_scenario_is_seen_at_once() {
    let machine = Machine::new(shipped("two-gpus.json"));
    let nvml = machine.nvml();
    let (one, other) = (first(&nvml), nvml.device_by_index(1).expect("a second GPU"));

    machine.write(&one_gpu(r#""temperature": 90"#).replace("GPU-one", GPU_1));
    tells(nvml.device_count(), 1);
    // No longer there.
    fails(one.uuid(), NvmlError::GpuLost);
    // Handles follow the UUID.
    tells(other.index(), 0);
    tells(other.temperature(TemperatureSensor::Gpu), 90);

    machine.write("{ not a scenario");
    // The last good one stays.
    tells(other.temperature(TemperatureSensor::Gpu), 90);
    machine.write(&one_gpu(r#""lost": true"#).replace("GPU-one", GPU_1));
    fails(
        other.temperature(TemperatureSensor::Gpu),
        NvmlError::GpuLost,
    );
}

#[test]
fn faults_by_symbol() {
    let machine = Machine::new(one_gpu(
        r#""temperature": 40, "errors": {"nvmlDeviceGetTemperature": 13},
           "delay_ms": {"nvmlDeviceGetMinorNumber": 150}"#,
    ));
    let nvml = machine.nvml();
    let gpu = first(&nvml);

    fails(
        gpu.temperature(TemperatureSensor::Gpu),
        NvmlError::FunctionNotFound,
    );
    tells(gpu.minor_number(), 0);
    assert_eq!(machine.waits("nvmlDeviceGetMinorNumber"), 1);
    assert_eq!(machine.waits("nvmlDeviceGetTemperature"), 0);
    machine.write(&one_gpu(r#""errors": {"*": 999}"#));
    fails(gpu.name(), NvmlError::Unknown);
    // The other calls are left alone.
    tells(nvml.device_count(), 1);
}

#[test]
fn a_hang_ends_with_the_file_and_blocks_nobody_else() {
    let machine = Machine::new(shipped("two-gpus.json"));
    let nvml = machine.nvml();
    let hanging = shipped("two-gpus.json").replacen(
        r#""uuid""#,
        r#""delay_ms": {"nvmlDeviceGetUtilizationRates": "hang"}, "uuid""#,
        1,
    );
    machine.write(&hanging);
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| first(&nvml).utilization_rates().map(|load| load.gpu));
        until(|| machine.waits("nvmlDeviceGetUtilizationRates") == 1);
        assert!(!stuck.is_finished());
        let other = nvml.device_by_index(1).expect("a second GPU");
        tells(other.utilization_rates().map(|load| load.gpu), 0);
        tells(first(&nvml).uuid(), GPU_0);
        // Only the file lets it go.
        assert!(!stuck.is_finished());
        machine.write(&shipped("two-gpus.json"));
        until(|| stuck.is_finished());
        tells(stuck.join().expect("no panic"), 0);
    });
}

#[test]
fn without_a_scenario_there_is_no_driver() {
    let machine = Machine::new(shipped("two-gpus.json"));
    fs::remove_file(&machine.scenario).expect("the scenario goes");
    fails(load(), NvmlError::DriverNotLoaded);

    machine.write("[]");
    fails(load(), NvmlError::DriverNotLoaded);
    machine.write(&one_gpu(r#""errors": {"nvmlDeviceGetTemprature": 3}"#));
    // A misspelt symbol.
    fails(load(), NvmlError::DriverNotLoaded);
    machine.write(r#"{"init_error": 18, "gpus": []}"#);
    fails(load(), NvmlError::LibRmVersionMismatch);
    machine.write(r#"{"gpus": []}"#);
    tells(load().and_then(|nvml| nvml.device_count()), 0);
}

#[test]
fn calls_are_traced() {
    let machine = Machine::new(shipped("two-gpus.json"));
    drop(machine.nvml());

    assert_eq!(
        machine.trace(),
        "nvmlInit_v2\nnvmlSystemGetDriverVersion\nnvmlShutdown\n"
    );
}

/// A scenario file, made known to the library.
struct Machine {
    folder: TempDir,
    scenario: PathBuf,
}

impl Machine {
    fn new(scenario: impl AsRef<str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = Self {
            scenario: folder.path().join("scenario.json"),
            folder,
        };
        machine.write(scenario.as_ref());
        set_variable("FAKE_NVML_SCENARIO", &machine.scenario);
        set_variable("FAKE_NVML_TRACE", &machine.folder.path().join("trace"));
        machine
    }

    /// What was called so far.
    fn trace(&self) -> String {
        fs::read_to_string(self.folder.path().join("trace")).unwrap_or_default()
    }

    /// How many calls of a function were held up so far.
    fn waits(&self, symbol: &str) -> usize {
        let line = format!("{symbol} waits");
        self.trace().lines().filter(|l| **l == line).count()
    }

    /// Replaces the scenario in one step, as a test must: half a file is a malformed one.
    fn write(&self, scenario: &str) {
        let next = self.folder.path().join("next.json");
        fs::write(&next, scenario).expect("a written scenario");
        fs::rename(next, &self.scenario).expect("a replaced scenario");
    }

    fn nvml(&self) -> Nvml {
        load().expect("a library that initialises")
    }
}

/// Waits until something is so.
#[track_caller]
fn until(is: impl Fn() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < SOON, "never");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Checks what a call answers.
#[track_caller]
fn tells<T: PartialEq<V> + Debug, V: Debug>(answer: Result<T, NvmlError>, value: V) {
    assert_eq!(answer.expect("the call succeeds"), value);
}

/// Checks with which error a call fails; errors of the wrapper cannot be compared themselves.
#[track_caller]
fn fails<T>(answer: Result<T, NvmlError>, error: NvmlError) {
    let got = answer.err().expect("the call fails");
    assert_eq!(format!("{got:?}"), format!("{error:?}"));
}

fn load() -> Result<Nvml, NvmlError> {
    Nvml::builder().lib_path(library().as_os_str()).init()
}

/// The library under test, which cargo puts beside the test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    test.with_file_name("libnvidia_ml.so")
}

fn shipped(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    fs::read_to_string(folder.join(name)).expect("a shipped scenario")
}

/// A plain GPU with a few more members.
fn one_gpu(members: &str) -> String {
    format!(
        r#"{{"gpus": [{{"uuid": "GPU-one", "name": "Test", "pci": "0000:01:00.0", "minor": 0,
                        "memory_total": 1073741824, {members}}}]}}"#
    )
}

fn first(nvml: &Nvml) -> Device<'_> {
    nvml.device_by_index(0).expect("a first GPU")
}

#[expect(
    unsafe_code,
    reason = "the library under test takes its instructions from the environment"
)]
fn set_variable(name: &str, value: &Path) {
    // SAFETY: nextest runs each test in its own process, in which no other thread has started yet.
    unsafe { std::env::set_var(name, value) };
}
