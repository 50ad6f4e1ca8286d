//! All calls of the driver's library, on one thread.
//!
//! Each call runs under the [`Pulse`], so that the watching thread sees one that does not
//! return. Facts are read once per device; each look asks only for what changes. What a
//! device or library does not support is *unknown*, never zero and never a fault.

use super::health::{Facts, Found, Live, Message, Reading, Signs};
use super::{Mask, NvmlConfig, Pulse};
use crate::devices::Instance;
use longshore_common::amount::SlotName;
use longshore_common::ids::DeviceId;
use longshore_common::time::Timestamp;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{P2pCapabilitiesIndex, P2pStatus, TemperatureSensor};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::{NvmlError, nvml_try};
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, EventSet, Nvml};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Uncorrectable errors of the memory in all its life.
const UNCORRECTABLE: FieldId = FieldId(6);
/// A defective row is to be replaced at the next reset.
const REMAP_PENDING: FieldId = FieldId(144);
/// Replacing one failed: the memory has a defect that cannot be hidden.
const REMAP_FAILED: FieldId = FieldId(145);
/// What the driver wants to be done with the GPU; older ones do not know it.
const RECOVERY: FieldId = FieldId(230);

/// Most NVLinks of any GPU so far; the library ends the search earlier.
const NVLINKS_MAX: u32 = 36;

/// Events taken in one go. More than this many come only in a storm, which must not
/// keep a core busy.
const EVENTS_PER_LOOK: u32 = 16;

/// Pause when the library does not wait as long as it was asked to.
const PAUSE: Duration = Duration::from_millis(100);

type Answer<T> = Result<T, NvmlError>;

/// Loads the library, serves, and starts over when the driver goes away, until given up.
pub(super) fn run(config: &NvmlConfig, pulse: &Pulse, report: impl Fn(Message)) {
    let mut pause = config.retry;
    while !pulse.is_given_up() {
        let note = match pulse.during(config.deadline, || load(config)) {
            Err(error) => note(&error),
            Ok(nvml) => {
                pause = config.sample;
                let error = Session::new(&nvml, config, pulse).serve(&report);
                if pulse.is_given_up() {
                    // Shutting down may hang as well, and another thread uses the library.
                    std::mem::forget(nvml);
                    return;
                }
                pulse.during(config.deadline, || drop(nvml));
                note(&error)
            }
        };
        report(Message::Looked(Reading {
            note,
            ..Reading::default()
        }));
        pulse.sleep(pause);
    }
}

fn load(config: &NvmlConfig) -> Answer<Nvml> {
    match &config.library {
        Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
        None => Nvml::init(),
    }
}

fn whole(value: SampleValue) -> Option<u64> {
    match value {
        SampleValue::U32(n) => Some(u64::from(n)),
        SampleValue::U64(n) => Some(n),
        SampleValue::I64(n) => u64::try_from(n).ok(),
        SampleValue::F64(_) => None,
    }
}

/// Why there are no GPUs, for people.
fn note(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            "there is no NVIDIA driver library on this machine".to_owned()
        }
        NvmlError::DriverNotLoaded => "the NVIDIA driver is not loaded".to_owned(),
        NvmlError::LibRmVersionMismatch => {
            "the NVIDIA driver and its library have different versions: reboot".to_owned()
        }
        other => format!("the NVIDIA driver says: {other}"),
    }
}

/// One loaded library.
struct Session<'n> {
    nvml: &'n Nvml,
    config: &'n NvmlConfig,
    pulse: &'n Pulse,
    choice: Choice,
    /// By handle. The library's handles stay the same, and after a loss only our own
    /// record says which GPU one stood for.
    gpus: BTreeMap<usize, Gpu>,
    /// Facts of instances, by UUID.
    instances: BTreeMap<String, Arc<Facts>>,
    events: Option<EventSet<'n>>,
    /// The handles `events` was made for.
    heard: BTreeSet<usize>,
}

struct Gpu {
    facts: Arc<Facts>,
    /// False once the GPU said that it cannot be divided: it is asked no more.
    divisible: bool,
}

impl<'n> Session<'n> {
    fn new(nvml: &'n Nvml, config: &'n NvmlConfig, pulse: &'n Pulse) -> Self {
        Self {
            nvml,
            config,
            pulse,
            choice: Choice::new(config),
            gpus: BTreeMap::new(),
            instances: BTreeMap::new(),
            events: None,
            heard: BTreeSet::new(),
        }
    }

    /// Looks and waits until the library as a whole fails or this thread is given up.
    fn serve(&mut self, report: &impl Fn(Message)) -> NvmlError {
        let version = self
            .ask(|| self.nvml.sys_driver_version())
            .unwrap_or_default();
        loop {
            let started = Instant::now();
            let mut reading = match self.look() {
                Ok(reading) => reading,
                Err(error) => return error,
            };
            reading.driver_version.clone_from(&version);
            if self.pulse.is_given_up() {
                return NvmlError::Timeout;
            }
            report(Message::Looked(reading));
            self.hear(started + self.config.sample, report);
        }
    }

    /// Makes one call; a thread that was given up makes no more.
    fn ask<T>(&self, call: impl FnOnce() -> Answer<T>) -> Answer<T> {
        if self.pulse.is_given_up() {
            return Err(NvmlError::Timeout);
        }
        self.pulse.during(self.config.deadline, call)
    }

    fn look(&mut self) -> Answer<Reading> {
        let count = self.ask(|| self.nvml.device_count())?;
        let mut reading = Reading::default();
        let mut present = Vec::new();
        for index in 0..count {
            match self.ask(|| self.nvml.device_by_index(index)) {
                Ok(device) => present.push(device),
                Err(error) => {
                    reading.note =
                        format!("GPU {index} of the driver's list does not answer: {error}");
                }
            }
        }
        self.learn(&present);
        let mut answering = BTreeSet::new();
        for device in &present {
            if let Some(handle) = self.look_at(device, &mut reading) {
                answering.insert(handle);
            }
        }
        if answering != self.heard {
            self.events = None;
            self.events = self.listen(&present, &answering);
            self.heard = answering;
        }
        Ok(reading)
    }

    /// Reads the facts of GPUs that are new, and then the links of all.
    fn learn(&mut self, present: &[Device<'n>]) {
        // What is in sight by now is linked to others.
        let mut news = self.choice.learn();
        for device in present {
            let handle = handle(device);
            if !self.gpus.contains_key(&handle)
                && let Some(facts) = self.facts(device)
            {
                let gpu = Gpu {
                    facts: Arc::new(facts),
                    divisible: true,
                };
                self.gpus.insert(handle, gpu);
                news = true;
            }
        }
        if !news {
            return;
        }
        for device in present {
            let links = self.links(device, present);
            if let Some(gpu) = self.gpus.get_mut(&handle(device)) {
                Arc::make_mut(&mut gpu.facts).links = links;
            }
        }
    }

    /// Adds what this GPU offers to the reading; returns its handle if it answers.
    fn look_at(&mut self, device: &Device<'n>, reading: &mut Reading) -> Option<usize> {
        let handle = handle(device);
        let facts = self.gpus.get(&handle)?.facts.clone();
        if self.is_divided(handle, device) {
            self.look_at_instances(device, &facts, reading);
            reading.divided.push(facts.id.clone());
            return Some(handle);
        }
        let masked = self.choice.take(&facts)?;
        let mut live = self.live(device);
        if let Ok(live) = &mut live {
            live.signs = self.signs(device);
        }
        let answers = live.is_ok();
        reading.found.push(Found {
            facts,
            live,
            masked,
        });
        answers.then_some(handle)
    }

    fn is_divided(&mut self, handle: usize, device: &Device<'n>) -> bool {
        if self.gpus.get(&handle).is_none_or(|gpu| !gpu.divisible) {
            return false;
        }
        match self.ask(|| device.mig_mode()) {
            Ok(mode) => mode.current == 1,
            Err(error) => {
                if is_unknown(&error)
                    && let Some(gpu) = self.gpus.get_mut(&handle)
                {
                    gpu.divisible = false;
                }
                false
            }
        }
    }

    fn look_at_instances(&mut self, device: &Device<'n>, gpu: &Facts, reading: &mut Reading) {
        let most = self.ask(|| device.mig_device_count()).unwrap_or(0);
        for index in 0..most {
            let Ok(instance) = self.ask(|| device.mig_device_by_index(index)) else {
                continue;
            };
            let Ok(uuid) = self.ask(|| instance.uuid()) else {
                continue;
            };
            if !self.instances.contains_key(&uuid)
                && let Some(facts) = self.instance_facts(&instance, &uuid, gpu)
            {
                self.instances.insert(uuid.clone(), Arc::new(facts));
            }
            let Some(facts) = self.instances.get(&uuid).cloned() else {
                continue;
            };
            if let Some(masked) = self.choice.take(&facts) {
                let live = self.live(&instance);
                reading.found.push(Found {
                    facts,
                    live,
                    masked,
                });
            }
        }
    }

    fn facts(&self, device: &Device<'_>) -> Option<Facts> {
        let id: DeviceId = self.ask(|| device.uuid()).ok()?.parse().ok()?;
        let pci = self.ask(|| device.pci_info()).ok();
        let pci = pci.map_or_else(String::new, |pci| short_pci(&pci.bus_id));
        // The library's own call is about GPUs that are a NUMA node themselves; where a
        // GPU is plugged in, the kernel knows.
        let numa = numa_of(&pci).or_else(|| self.ask(|| device.numa_node_id()).ok());
        Some(Facts {
            gpu: id.clone(),
            slot: SlotName::cuda_device(),
            model: self.ask(|| device.name()).unwrap_or_default(),
            memory_bytes: self.memory_total(device),
            minor: self.ask(|| device.minor_number()).ok(),
            numa,
            links: Vec::new(),
            instance: None,
            pci,
            id,
        })
    }

    fn instance_facts(&self, instance: &Device<'_>, uuid: &str, gpu: &Facts) -> Option<Facts> {
        let name = self.ask(|| instance.name()).unwrap_or_default();
        let profile = match profile_in_name(&name) {
            Some(profile) => profile,
            None => {
                let attributes = self.ask(|| instance.attributes()).ok()?;
                profile_from_sizes(
                    attributes.gpu_instance_slice_count,
                    attributes.compute_instance_slice_count,
                    attributes.memory_size_mb,
                    gpu.memory_bytes,
                )?
            }
        };
        Some(Facts {
            id: uuid.parse().ok()?,
            slot: format!("cuda.mig-{profile}").parse().ok()?,
            memory_bytes: self.memory_total(instance),
            minor: gpu.minor,
            links: Vec::new(),
            instance: self.ask(|| instance_of(self.nvml, instance)).ok(),
            model: if name.is_empty() {
                gpu.model.clone()
            } else {
                name
            },
            ..gpu.clone()
        })
    }

    fn memory_total(&self, device: &Device<'_>) -> i64 {
        let memory = self.ask(|| device.memory_info());
        memory.map_or(0, |memory| bytes(memory.total))
    }

    /// GPUs of ours at the other end of an NVLink, also through switches.
    fn links(&self, device: &Device<'n>, present: &[Device<'n>]) -> Vec<DeviceId> {
        let mut remote = BTreeSet::new();
        let mut linked = false;
        for link in 0..NVLINKS_MAX {
            let link = device.link_wrapper_for(link);
            match self.ask(|| link.is_active()) {
                Ok(true) => {
                    linked = true;
                    if let Ok(pci) = self.ask(|| link.remote_pci_info()) {
                        remote.insert(short_pci(&pci.bus_id));
                    }
                }
                Ok(false) => (),
                Err(_) => break,
            }
        }
        if !linked {
            return Vec::new();
        }
        let joined = |other: &&Device<'n>| {
            let way = self.ask(|| device.p2p_status(other, P2pCapabilitiesIndex::NvLink));
            matches!(way, Ok(P2pStatus::Ok))
        };
        let others = present
            .iter()
            .filter(|other| handle(other) != handle(device));
        let mut links: Vec<_> = others
            .filter_map(|other| Some((other, &self.gpus.get(&handle(other))?.facts)))
            .filter(|(_, facts)| self.choice.shows(facts))
            .filter(|(other, facts)| remote.contains(&facts.pci) || joined(other))
            .map(|(_, facts)| facts.id.clone())
            .collect();
        links.sort();
        links
    }

    /// What the GPU admits of itself. What it does not tell is no sign.
    fn signs(&self, device: &Device<'_>) -> Signs {
        let asked = [UNCORRECTABLE, REMAP_PENDING, REMAP_FAILED, RECOVERY];
        let fields = self.ask(|| device.field_values_for(&asked));
        let fields: Vec<Option<u64>> = fields.map_or_else(
            |_| Vec::new(),
            |fields| {
                fields
                    .into_iter()
                    .map(|f| whole(f.ok()?.value.ok()?))
                    .collect()
            },
        );
        let field = |at: usize| fields.get(at).copied().flatten();
        let is_set = |at| field(at).is_some_and(|value| value > 0);
        let recovery = field(3).unwrap_or(0);
        let throttled = self.ask(|| device.current_throttle_reasons());
        let heat = ThrottleReasons::HW_THERMAL_SLOWDOWN | ThrottleReasons::SW_THERMAL_SLOWDOWN;
        Signs {
            fault: match recovery {
                1 | 4 => Some("the driver asks for a reset of the GPU"),
                2 => Some("the driver asks for a restart of the machine"),
                _ => is_set(2).then_some("remapping a defective row of its memory failed"),
            },
            warning: is_set(1).then_some("a row of its memory is remapped at its next reset"),
            reboot: recovery == 2,
            hot: throttled.is_ok_and(|reasons| reasons.intersects(heat)),
            uncorrectable: field(0),
        }
    }

    /// What changes. An instance tells less than a GPU; all of it may be unknown.
    fn live(&self, device: &Device<'_>) -> Result<Live, String> {
        let mut probe = Probe::default();
        let memory = probe.take(self.ask(|| device.memory_info()));
        if probe.lost.is_none() {
            let load = probe.take(self.ask(|| device.utilization_rates()));
            let temperature = probe.take(self.ask(|| device.temperature(TemperatureSensor::Gpu)));
            let power_mw = probe.take(self.ask(|| device.power_usage()));
            let mut live = Live::default();
            live.sample.utilization = load.and_then(|l| u8::try_from(l.gpu.min(100)).ok());
            live.sample.memory_used = memory.map(|memory| bytes(memory.used));
            live.sample.temperature = temperature.and_then(|t| i32::try_from(t).ok());
            live.sample.power_mw = power_mw;
            live.processes = self.processes(device, &mut probe);
            return probe.verdict(live);
        }
        probe.verdict(Live::default())
    }

    fn processes(&self, device: &Device<'_>, probe: &mut Probe) -> Option<Vec<(u32, Option<i64>)>> {
        let compute = self.ask(|| device.running_compute_processes());
        let compute = probe.take(compute)?;
        let graphics = self.ask(|| device.running_graphics_processes());
        let clients = self.ask(|| device.mps_running_compute_processes());
        let more = [graphics, clients].map(Result::unwrap_or_default).concat();
        Some(merge(compute.into_iter().chain(more)))
    }

    /// An event set that hears every GPU that can tell errors; none if there is no such.
    fn listen(&self, present: &[Device<'n>], answering: &BTreeSet<usize>) -> Option<EventSet<'n>> {
        let wanted = EventTypes::CRITICAL_XID_ERROR;
        let mut able: Vec<_> = present
            .iter()
            .filter(|device| answering.contains(&handle(device)))
            .filter(|device| {
                let told = self.ask(|| device.supported_event_types());
                told.is_ok_and(|told| told.contains(wanted))
            })
            .collect();
        // A registration that fails takes the whole set with it: again, without that GPU.
        'again: while !able.is_empty() {
            let mut set = self.ask(|| self.nvml.create_event_set()).ok()?;
            for at in 0..able.len() {
                let registered = self.pulse.during(self.config.deadline, || {
                    able[at].register_events(wanted, set)
                });
                match registered {
                    Ok(same) => set = same,
                    Err(_) => {
                        able.remove(at);
                        continue 'again;
                    }
                }
            }
            return Some(set);
        }
        None
    }

    /// Waits for the next look, telling events as they come. The library blocks.
    fn hear(&mut self, until: Instant, report: &impl Fn(Message)) {
        let mut told = 0;
        while !self.pulse.is_given_up() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let Some(set) = &self.events else {
                self.pulse.sleep(left);
                return;
            };
            let asked = Instant::now();
            let wait_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
            let heard = self
                .pulse
                .during(left + self.config.deadline, || set.wait(wait_ms));
            match heard {
                Ok(event) => {
                    if let Some(XidError::Value(xid)) = event.event_data {
                        self.tell(&event.device, xid, report);
                    }
                    told += 1;
                    if told > EVENTS_PER_LOOK {
                        self.pulse.sleep(PAUSE.min(left));
                    }
                }
                // An interrupt may end the wait early.
                Err(NvmlError::Timeout) if asked.elapsed() < left / 2 => {
                    self.pulse.sleep(PAUSE.min(left));
                }
                Err(NvmlError::Timeout) => (),
                // A lost GPU may spoil the whole set; the next look makes a new one.
                Err(_) => {
                    self.events = None;
                    self.heard.clear();
                }
            }
        }
    }

    fn tell(&self, device: &Device<'_>, xid: u64, report: &impl Fn(Message)) {
        let xid = u32::try_from(xid).unwrap_or(u32::MAX);
        let Some(gpu) = self.gpus.get(&handle(device)) else {
            tracing::warn!(xid, "an XID of a GPU that is not known");
            return;
        };
        let gpu = gpu.facts.id.clone();
        tracing::warn!(device = %gpu, xid, "the driver reports an error of a GPU");
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = at.map_or(0, |at| i64::try_from(at.as_millis()).unwrap_or(i64::MAX));
        report(Message::Xid {
            gpu,
            xid,
            at: Timestamp(at),
        });
    }
}

fn short(names: &[String]) -> BTreeSet<String> {
    names.iter().map(|name| short_pci(name)).collect()
}

fn stands_in(facts: &Facts, list: &BTreeSet<String>) -> bool {
    let names = [facts.id.as_str(), facts.gpu.as_str(), &facts.pci].map(short_pci);
    names.iter().any(|name| list.contains(name))
}

/// Which devices the configuration wants.
struct Choice {
    mask: Mask,
    /// The names of the mask, as short as those of devices.
    masked: BTreeSet<String>,
    only: BTreeSet<String>,
    /// Looked at before: these stay in sight.
    taken: BTreeSet<DeviceId>,
}

impl Choice {
    fn new(config: &NvmlConfig) -> Self {
        let mut choice = Self {
            mask: config.mask.clone(),
            masked: BTreeSet::new(),
            only: short(&config.only),
            taken: BTreeSet::new(),
        };
        choice.learn();
        choice
    }

    /// Asks what is kept back by now; true if that differs.
    fn learn(&mut self) -> bool {
        let masked = short(&self.mask.names());
        let differs = masked != self.masked;
        self.masked = masked;
        differs
    }

    /// Whether a device is kept back; none = it is not looked at at all.
    fn take(&mut self, facts: &Facts) -> Option<bool> {
        if !self.shows(facts) {
            return None;
        }
        if !self.taken.contains(&facts.id) {
            self.taken.insert(facts.id.clone());
        }
        Some(stands_in(facts, &self.masked))
    }

    fn shows(&self, facts: &Facts) -> bool {
        let is_wanted = self.only.is_empty() || stands_in(facts, &self.only);
        let in_sight = || self.taken.contains(&facts.id) || self.mask.is_held(&facts.id);
        is_wanted && (!stands_in(facts, &self.masked) || in_sight())
    }
}

/// Sorts out what the answers of one device mean together.
#[derive(Default)]
struct Probe {
    answered: bool,
    refused: Option<String>,
    lost: Option<String>,
}

impl Probe {
    fn take<T>(&mut self, answer: Answer<T>) -> Option<T> {
        match answer {
            Ok(value) => {
                self.answered = true;
                Some(value)
            }
            Err(error) => {
                if matches!(error, NvmlError::GpuLost | NvmlError::ResetRequired) {
                    self.lost = Some(error.to_string());
                } else if !is_unknown(&error) {
                    self.refused = Some(error.to_string());
                }
                None
            }
        }
    }

    fn verdict(self, live: Live) -> Result<Live, String> {
        match (self.lost, self.refused) {
            (Some(words), _) => Err(words),
            (None, Some(words)) if !self.answered => Err(format!("it answers nothing: {words}")),
            (None, _) => Ok(live),
        }
    }
}

/// Whether an error only says that there is no such figure.
fn is_unknown(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::NotSupported
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::FunctionNotFound
            | NvmlError::NoPermission
            | NvmlError::NotFound
            | NvmlError::NoData
            | NvmlError::InvalidArg
            | NvmlError::UnexpectedVariant(_)
    )
}

#[expect(
    unsafe_code,
    reason = "the wrapper marks reading the handle as unsafe; it is only compared, never used"
)]
fn handle(device: &Device<'_>) -> usize {
    // SAFETY: the pointer is neither read through nor passed on.
    (unsafe { device.handle() }).addr()
}

/// Which instance of its GPU a MIG instance is; the wrapper has no call of its own for that.
#[expect(
    unsafe_code,
    reason = "two calls of the driver's library that the wrapper does not wrap"
)]
fn instance_of(nvml: &Nvml, device: &Device<'_>) -> Answer<Instance> {
    let library = nvml.lib();
    let missing = NvmlError::FailedToLoadSymbol("instance of a device".to_owned());
    let (Ok(of_gpu), Ok(of_compute)) = (
        library.nvmlDeviceGetGpuInstanceId.as_ref(),
        library.nvmlDeviceGetComputeInstanceId.as_ref(),
    ) else {
        return Err(missing);
    };
    let (mut gpu_instance, mut compute_instance) = (0, 0);
    // SAFETY: the handle is one that this library gave for a device that lives as long as `nvml`,
    // and both calls only write the number they are given room for.
    unsafe {
        let handle = device.handle();
        nvml_try(of_gpu(handle, &raw mut gpu_instance))?;
        nvml_try(of_compute(handle, &raw mut compute_instance))?;
    }
    Ok(Instance {
        gpu_instance,
        compute_instance,
    })
}

fn bytes(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// One entry per process: a program may stand in several lists with the same memory.
fn merge(processes: impl Iterator<Item = ProcessInfo>) -> Vec<(u32, Option<i64>)> {
    let mut merged: BTreeMap<u32, Option<i64>> = BTreeMap::new();
    for process in processes {
        let used = match process.used_gpu_memory {
            UsedGpuMemory::Used(used) => Some(bytes(used)),
            UsedGpuMemory::Unavailable => None,
        };
        let entry = merged.entry(process.pid).or_default();
        *entry = (*entry).max(used);
    }
    merged.into_iter().collect()
}

/// `00000000:3B:00.0` as the kernel writes it, `0000:3b:00.0`. Other texts only lose
/// their capitals.
fn short_pci(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    let address = text.split_once(':').and_then(|(domain, rest)| {
        let domain = u32::from_str_radix(domain, 16).ok()?;
        Some(match rest.contains(':') {
            true => format!("{domain:04x}:{rest}"),
            // Without a domain, as `lspci` prints it.
            false => format!("0000:{text}"),
        })
    });
    address.unwrap_or(text)
}

fn numa_of(pci: &str) -> Option<u32> {
    let file = Path::new("/sys/bus/pci/devices")
        .join(pci)
        .join("numa_node");
    // The kernel writes -1 where it does not know.
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// `1g.10gb` from `NVIDIA A100-SXM4-80GB MIG 1g.10gb`, in letters a slot may have.
fn profile_in_name(name: &str) -> Option<String> {
    let (_, profile) = name.rsplit_once(" MIG ")?;
    let profile = profile.trim().to_ascii_lowercase().replace(['+', ' '], "-");
    profile.contains("g.").then_some(profile)
}

/// The profile's name from its sizes, for libraries whose names do not tell it.
///
/// The memory in the name is the share of the GPU's memory in eighths, rounded up, times
/// the GPU's whole gigabytes; what the instance can use is a little less.
fn profile_from_sizes(
    slices: u32,
    compute_slices: u32,
    memory_mb: u64,
    gpu_bytes: i64,
) -> Option<String> {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    let total = u64::try_from(gpu_bytes).ok().filter(|total| *total > 0)?;
    let eighths = memory_mb.checked_mul(MIB * 8)?.div_ceil(total);
    let gigabytes = (eighths * total.div_ceil(GIB) + 4) / 8;
    Some(match compute_slices {
        part if part > 0 && part < slices => format!("{part}c.{slices}g.{gigabytes}gb"),
        _ => format!("{slices}g.{gigabytes}gb"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_have_one_form() {
        for (text, short) in [
            ("00000000:3B:00.0", "0000:3b:00.0"),
            ("0000:3b:00.0", "0000:3b:00.0"),
            ("3B:00.0", "0000:3b:00.0"),
            ("00010000:0A:00.0", "10000:0a:00.0"),
            ("GPU-AB", "gpu-ab"),
            ("", ""),
        ] {
            assert_eq!(short_pci(text), short);
        }
    }

    #[test]
    fn profiles() {
        let named = |name| profile_in_name(name);
        assert_eq!(
            named("NVIDIA A100-SXM4-80GB MIG 1g.10gb").as_deref(),
            Some("1g.10gb")
        );
        assert_eq!(
            named("NVIDIA A100 MIG 1g.10gb+me").as_deref(),
            Some("1g.10gb-me")
        );
        assert_eq!(named("NVIDIA A100"), None);
        let gib80 = 80 << 30;
        for (slices, compute, mb, gpu, name) in [
            (3, 3, 40_704, gib80, Some("3g.40gb")),
            (1, 1, 9_984, gib80, Some("1g.10gb")),
            (2, 1, 20_224, gib80, Some("1c.2g.20gb")),
            (1, 1, 4_864, 40 << 30, Some("1g.5gb")),
            (1, 1, 4_864, 0, None),
        ] {
            assert_eq!(
                profile_from_sizes(slices, compute, mb, gpu).as_deref(),
                name
            );
        }
    }

    #[test]
    fn only_what_no_call_answers_is_lost() {
        let none: Answer<u32> = Err(NvmlError::NotSupported);
        let broken = || -> Answer<u32> { Err(NvmlError::Unknown) };
        let verdict = |answers: Vec<Answer<u32>>| {
            let mut probe = Probe::default();
            for answer in answers {
                probe.take(answer);
            }
            probe.verdict(Live::default()).is_ok()
        };
        assert!(verdict(vec![none]));
        assert!(verdict(vec![Ok(1), broken()]));
        assert!(!verdict(vec![broken()]));
        assert!(!verdict(vec![Ok(1), Err(NvmlError::GpuLost)]));
    }
}
