//! The scenario file: which GPUs there are, how they are, and how calls go wrong.
//!
//! Everything a test can say is here. A member left out that describes a reading means that the
//! GPU cannot tell it: the call answers NOT_SUPPORTED, never zero. A member that is not known is
//! an error, and so is a reference to nothing (a GPU, a symbol), because a misspelt scenario would
//! otherwise pass as a quiet one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

/// Fault tables match every symbol under this name.
const ANY_SYMBOL: &str = "*";

/// One machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What initialisation answers instead of success; other calls then see an unprepared library.
    pub(crate) init_error: Option<u32>,
    #[serde(default)]
    pub(crate) versions: Versions,
    /// In the order of their index.
    pub(crate) gpus: Vec<Gpu>,
    /// How two GPUs are joined, keyed `"0-1"` by index: 0 same board, 10 one PCIe switch,
    /// 20 several, 30 one host bridge, 40 one NUMA node, 50 across the system.
    #[serde(default)]
    pub(crate) ancestors: BTreeMap<String, u32>,
    #[serde(default)]
    pub(crate) events: Vec<Event>,
    /// Codes answered by calls, by symbol or `"*"`; a GPU's own table comes first.
    #[serde(default)]
    pub(crate) errors: BTreeMap<String, u32>,
    /// How long calls take, by symbol or `"*"`; a GPU's own table comes first.
    #[serde(default)]
    pub(crate) delay_ms: BTreeMap<String, Delay>,
}

/// Versions of the software.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Versions {
    pub(crate) driver: String,
    pub(crate) nvml: String,
    /// 1000 × major + 10 × minor.
    pub(crate) cuda: i32,
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            driver: "570.86.15".into(),
            nvml: "12.570.86.15".into(),
            cuda: 12_080,
        }
    }
}

/// One physical GPU.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gpu {
    /// `GPU-…`; handles follow it when a replaced scenario orders the GPUs anew.
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) serial: Option<String>,
    /// `domain:bus:device.function` in hexadecimal.
    pub(crate) pci: PciAddress,
    #[serde(default)]
    pub(crate) pci_device_id: u32,
    #[serde(default)]
    pub(crate) pci_subsystem_id: u32,
    /// Of the device node `/dev/nvidia<minor>`.
    pub(crate) minor: u32,
    /// Off the bus: every call that names it answers GPU_IS_LOST.
    #[serde(default)]
    pub(crate) lost: bool,
    /// Bytes.
    pub(crate) memory_total: u64,
    /// Bytes, without what the driver reserves.
    #[serde(default)]
    pub(crate) memory_used: u64,
    /// Bytes kept by the driver.
    #[serde(default)]
    pub(crate) memory_reserved: u64,
    /// Percent; with MIG on it is not told whatever stands here.
    pub(crate) util_gpu: Option<u32>,
    /// Percent.
    pub(crate) util_memory: Option<u32>,
    /// Degrees Celsius.
    pub(crate) temperature: Option<u32>,
    /// Milliwatts.
    pub(crate) power_mw: Option<u32>,
    /// Milliwatts.
    pub(crate) power_limit_mw: Option<u32>,
    pub(crate) clocks_mhz: Option<Clocks>,
    /// NVML's mask of reasons for lowered clocks.
    pub(crate) throttle_reasons: Option<u64>,
    #[serde(default)]
    pub(crate) processes: Vec<Process>,
    pub(crate) ecc: Option<Ecc>,
    pub(crate) remapped_rows: Option<RemappedRows>,
    /// Left out on a GPU that cannot be divided.
    pub(crate) mig: Option<Mig>,
    /// By link number.
    #[serde(default)]
    pub(crate) nvlinks: Vec<NvLink>,
    pub(crate) architecture: Option<Architecture>,
    /// Major and minor.
    pub(crate) compute_capability: Option<(i32, i32)>,
    pub(crate) numa_node: Option<u32>,
    /// NVML's number of the product line.
    pub(crate) brand: Option<u32>,
    #[serde(default)]
    pub(crate) display_active: bool,
    #[serde(default)]
    pub(crate) persistence_mode: bool,
    /// Percent.
    pub(crate) fan_speed: Option<u32>,
    /// 0 is the fastest.
    pub(crate) performance_state: Option<u32>,
    /// Values for the call that reads fields by number (82 memory temperature, 230 recovery
    /// action, …); others answer NOT_SUPPORTED one by one.
    #[serde(default)]
    pub(crate) fields: BTreeMap<u32, u64>,
    /// Codes answered by calls about this GPU, by symbol or `"*"`.
    #[serde(default)]
    pub(crate) errors: BTreeMap<String, u32>,
    /// How long calls about this GPU take, by symbol or `"*"`.
    #[serde(default)]
    pub(crate) delay_ms: BTreeMap<String, Delay>,
}

/// Clocks in MHz.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clocks {
    pub(crate) graphics: u32,
    pub(crate) sm: u32,
    pub(crate) memory: u32,
    pub(crate) video: u32,
}

/// A program on a GPU or on a MIG instance.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Bytes; left out where the driver cannot tell.
    pub(crate) used: Option<u64>,
    /// Percent of the GPU's processors, for the call that tells it by program.
    pub(crate) util_sm: Option<u32>,
    #[serde(default, rename = "type")]
    pub(crate) kind: ProcessKind,
}

/// Which list a program appears in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProcessKind {
    #[default]
    Compute,
    Graphics,
    Mps,
}

/// Error correction of the memory; counters are told only while it is enabled.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ecc {
    pub(crate) enabled: bool,
    /// The mode after the next reset; the present one if left out.
    pub(crate) pending: Option<bool>,
    /// Since the driver was loaded.
    #[serde(default)]
    pub(crate) volatile: EccCounts,
    /// Over the life of the GPU.
    #[serde(default)]
    pub(crate) aggregate: EccCounts,
}

/// Counted memory errors.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EccCounts {
    pub(crate) corrected: u64,
    pub(crate) uncorrected: u64,
}

/// Rows of memory replaced by spare ones.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemappedRows {
    pub(crate) correctable: u32,
    pub(crate) uncorrectable: u32,
    /// A replacement waits for a reset.
    pub(crate) pending: bool,
    /// A replacement went wrong.
    pub(crate) failed: bool,
}

/// Division of a GPU.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mig {
    pub(crate) enabled: bool,
    /// The mode after the next reset; the present one if left out.
    pub(crate) pending: Option<bool>,
    /// By MIG index.
    #[serde(default)]
    pub(crate) devices: Vec<MigDevice>,
}

/// One compute instance, which NVML shows as a device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MigDevice {
    /// `MIG-…`
    pub(crate) uuid: String,
    /// Of the GPU instance.
    pub(crate) gi: u32,
    /// Of the compute instance.
    pub(crate) ci: u32,
    /// `1g.10gb`; the device is called `<GPU> MIG <profile>`.
    pub(crate) profile: String,
    /// Of the GPU instance.
    pub(crate) slices: u32,
    /// Of the compute instance; as many as `slices` if left out.
    pub(crate) compute_slices: Option<u32>,
    #[serde(default)]
    pub(crate) multiprocessors: u32,
    /// Bytes.
    pub(crate) memory_total: u64,
    /// Bytes, without what the driver reserves.
    #[serde(default)]
    pub(crate) memory_used: u64,
    /// Bytes kept by the driver.
    #[serde(default)]
    pub(crate) memory_reserved: u64,
    #[serde(default)]
    pub(crate) processes: Vec<Process>,
}

/// One NVLink.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NvLink {
    #[serde(default = "yes")]
    pub(crate) active: bool,
    pub(crate) remote: Remote,
    #[serde(default = "nvlink_version")]
    pub(crate) version: u32,
}

/// The other end of an NVLink.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Remote {
    /// By index.
    Gpu(usize),
    /// By PCI address.
    Switch(PciAddress),
}

/// Family of a GPU, with NVML's number as its value.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub(crate) enum Architecture {
    Kepler = 2,
    Maxwell = 3,
    Pascal = 4,
    Volta = 5,
    Turing = 6,
    Ampere = 7,
    Ada = 8,
    Hopper = 9,
    Blackwell = 10,
}

/// Something that happened to a GPU, told once to every event set that watches for it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    /// Order of delivery; never given to another event, or sets take it for one already told.
    pub(crate) seq: u64,
    /// By index.
    pub(crate) gpu: usize,
    /// NVML's bit for the sort of event.
    #[serde(default = "xid_event", rename = "type")]
    pub(crate) kind: u64,
    /// For a critical error its XID.
    #[serde(default)]
    pub(crate) data: u64,
}

/// How long a call takes: milliseconds, or `"hang"` for as long as the file says so.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(crate) enum Delay {
    Milliseconds(u64),
    Hang(Hang),
}

/// The word for a call that does not come back.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hang {
    Hang,
}

/// Place on the PCI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PciAddress {
    pub(crate) domain: u32,
    pub(crate) bus: u32,
    pub(crate) device: u32,
    pub(crate) function: u32,
}

impl Scenario {
    /// Reads a scenario and checks what its types cannot say. `symbols` are the calls that fault
    /// tables may name.
    pub(crate) fn parse(text: &[u8], symbols: &[&str]) -> Result<Self, String> {
        let scenario: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        scenario.check(symbols)?;
        Ok(scenario)
    }

    /// How long the call should take from its beginning.
    pub(crate) fn delay(&self, symbol: &str, gpu: Option<usize>) -> Duration {
        let own = gpu.map(|gpu| &self.gpus[gpu].delay_ms);
        match pick(symbol, own, &self.delay_ms) {
            None => Duration::ZERO,
            Some(Delay::Milliseconds(delay)) => Duration::from_millis(delay),
            Some(Delay::Hang(Hang::Hang)) => Duration::MAX,
        }
    }

    /// The code that the call should answer without doing anything.
    pub(crate) fn error(&self, symbol: &str, gpu: Option<usize>) -> Option<u32> {
        pick(symbol, gpu.map(|gpu| &self.gpus[gpu].errors), &self.errors)
    }

    /// How two GPUs are joined; across the system unless said otherwise.
    pub(crate) fn ancestor(&self, one: usize, other: usize) -> u32 {
        const INTERNAL: u32 = 0;
        const SYSTEM: u32 = 50;
        if one == other {
            return INTERNAL;
        }
        let stated = |a, b| self.ancestors.get(&format!("{a}-{b}"));
        stated(one, other)
            .or_else(|| stated(other, one))
            .copied()
            .unwrap_or(SYSTEM)
    }

    /// Whether two GPUs reach each other over NVLink, directly or through a switch.
    pub(crate) fn joined_by_nvlink(&self, one: usize, other: usize) -> bool {
        let active = |gpu: usize| self.gpus[gpu].nvlinks.iter().filter(|link| link.active);
        let direct = active(one).any(|link| link.remote == Remote::Gpu(other));
        let switched = |gpu| active(gpu).any(|link| matches!(link.remote, Remote::Switch(_)));
        direct || (switched(one) && switched(other))
    }

    fn check(&self, symbols: &[&str]) -> Result<(), String> {
        let tables = self
            .gpus
            .iter()
            .flat_map(|gpu| gpu.errors.keys().chain(gpu.delay_ms.keys()));
        for symbol in tables.chain(self.errors.keys()).chain(self.delay_ms.keys()) {
            if symbol != ANY_SYMBOL && !symbols.contains(&symbol.as_str()) {
                return Err(format!("the library has no symbol {symbol:?}"));
            }
        }
        let mut uuids = BTreeSet::new();
        for uuid in self.uuids() {
            if !uuids.insert(uuid) {
                return Err(format!("uuid {uuid:?} stands twice"));
            }
        }
        let known = |gpu: usize| gpu < self.gpus.len();
        for pair in self.ancestors.keys() {
            let ends = pair
                .split_once('-')
                .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            if !ends.is_some_and(|(a, b)| known(a) && known(b)) {
                return Err(format!("ancestors: {pair:?} is no pair of GPUs"));
            }
        }
        for link in self.gpus.iter().flat_map(|gpu| &gpu.nvlinks) {
            if matches!(link.remote, Remote::Gpu(gpu) if !known(gpu)) {
                return Err(format!("nvlinks: {:?} does not exist", link.remote));
            }
        }
        let mut seqs = BTreeSet::new();
        for event in &self.events {
            if !known(event.gpu) || !seqs.insert(event.seq) {
                return Err(format!("events: {} has no GPU or stands twice", event.seq));
            }
        }
        Ok(())
    }

    fn uuids(&self) -> impl Iterator<Item = &str> {
        self.gpus.iter().flat_map(|gpu| {
            let instances = gpu.mig.iter().flat_map(|mig| &mig.devices);
            std::iter::once(gpu.uuid.as_str()).chain(instances.map(|mig| mig.uuid.as_str()))
        })
    }
}

impl Gpu {
    /// The instances, while the GPU is divided.
    pub(crate) fn instances(&self) -> &[MigDevice] {
        match &self.mig {
            Some(mig) if mig.enabled => &mig.devices,
            _ => &[],
        }
    }
}

impl std::str::FromStr for PciAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (rest, function) = text.rsplit_once('.')?;
            let mut parts = rest.split(':');
            let mut hex = || u32::from_str_radix(parts.next()?, 16).ok();
            let (domain, bus, device) = (hex()?, hex()?, hex()?);
            let function = function.parse().ok()?;
            parts.next().is_none().then_some(Self {
                domain,
                bus,
                device,
                function,
            })
        };
        parse().ok_or_else(|| format!("{text:?} is no PCI address"))
    }
}

impl TryFrom<String> for PciAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

fn pick<T: Copy>(
    symbol: &str,
    own: Option<&BTreeMap<String, T>>,
    general: &BTreeMap<String, T>,
) -> Option<T> {
    let find =
        |table: &BTreeMap<String, T>| table.get(symbol).or_else(|| table.get(ANY_SYMBOL)).copied();
    own.and_then(find).or_else(|| find(general))
}

fn yes() -> bool {
    true
}

fn nvlink_version() -> u32 {
    4
}

fn xid_event() -> u64 {
    8
}
