//! The scenario in force in this process, and what callers hold onto: handles and event sets.
//!
//! One lock guards it all, and no call sleeps with it held: a call that hangs leaves the others
//! alone, as it does in the real library. Every call begins with [`enter`], which re-reads a
//! replaced scenario and acts out delays, errors and lost GPUs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::exports::{SYMBOLS, trace};
use crate::layout::{Code, Handle};
use crate::scenario::{Gpu, MigDevice, Scenario};

/// How often a waiting call looks at the scenario; short beside any deadline that a test sets.
const TICK: Duration = Duration::from_millis(10);

/// NVML's bit for a critical error.
const XID_EVENT: u64 = 8;

/// The critical error that says a GPU fell off the bus.
const XID_LOST: u64 = 79;

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// Lives from the first good initialisation to the end of the process: handles given out before a
/// shutdown keep their meaning after the next initialisation.
pub(crate) struct State {
    path: PathBuf,
    seen: Stamp,
    scenario: Arc<Scenario>,
    /// Initialisations not yet matched by a shutdown.
    users: u32,
    /// The UUID for which each handle stands; the handle is made from the position.
    handles: Vec<String>,
    sets: BTreeMap<Handle, EventSet>,
    sets_made: usize,
    /// GPUs lost because an event said so, with that event; an event taken out of the scenario
    /// brings its GPU back.
    lost_by_event: BTreeMap<String, u64>,
}

/// Tells one version of the file from the next without reading it.
#[derive(PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Default)]
struct EventSet {
    /// Sorts of event by UUID of the GPU.
    watched: BTreeMap<String, u64>,
    told: BTreeSet<u64>,
}

/// What a call is about.
#[derive(Clone, Copy)]
pub(crate) enum Spot {
    /// The machine.
    System,
    /// A GPU by index.
    Gpu(usize),
    /// A GPU and an instance on it, each by index.
    Mig(usize, usize),
}

/// A call let through: what it is about, in the scenario of that moment.
pub(crate) struct Call {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) spot: Spot,
}

/// An event handed to a caller.
pub(crate) struct Delivery {
    pub(crate) device: Handle,
    pub(crate) kind: u64,
    pub(crate) data: u64,
}

/// Starts using the library with the scenario at `path`. Without a file there is no driver.
pub(crate) fn init(symbol: &str, path: Option<PathBuf>) -> Result<(), Code> {
    let path = path.ok_or(Code::DRIVER_NOT_LOADED)?;
    open(&path)?;
    let call = wait_out(symbol, || {
        let mut guard = lock();
        let state = guard.as_mut().ok_or(Code::DRIVER_NOT_LOADED)?;
        state.refresh();
        Ok(Call {
            scenario: state.scenario.clone(),
            spot: Spot::System,
        })
    })?;
    if let Some(code) = call
        .scenario
        .init_error
        .or(call.scenario.error(symbol, None))
    {
        return Err(Code(code));
    }
    if let Some(state) = lock().as_mut() {
        state.users += 1;
    }
    Ok(())
}

/// Stops using the library; after the last user its event sets are gone.
pub(crate) fn shutdown() -> Result<(), Code> {
    with(|state| {
        state.users -= 1;
        if state.users == 0 {
            state.sets.clear();
        }
        Ok(())
    })
}

/// Begins a call about what `locate` finds: waits as long as the scenario says, then answers with
/// its error, if there is one for this call, or that the GPU is lost.
pub(crate) fn enter(
    symbol: &str,
    locate: impl Fn(&State) -> Result<Spot, Code>,
) -> Result<Call, Code> {
    let call = wait_out(symbol, || {
        with(|state| {
            Ok(Call {
                spot: locate(state)?,
                scenario: state.scenario.clone(),
            })
        })
    })?;
    let gpu = call.spot.gpu();
    if let Some(code) = call.scenario.error(symbol, gpu) {
        return Err(Code(code));
    }
    if let Some(gpu) = gpu {
        with(|state| state.check_present(&call.scenario.gpus[gpu]))?;
    }
    Ok(call)
}

/// Begins a call about the GPU or instance behind a handle.
pub(crate) fn enter_device(symbol: &str, device: Handle) -> Result<Call, Code> {
    enter(symbol, |state| state.locate(device))
}

/// Looks at the state, brought up to date, of a library in use.
pub(crate) fn with<T>(act: impl FnOnce(&mut State) -> Result<T, Code>) -> Result<T, Code> {
    let mut guard = lock();
    let state = guard
        .as_mut()
        .filter(|state| state.users > 0)
        .ok_or(Code::UNINITIALIZED)?;
    state.refresh();
    act(state)
}

/// Waits for the next event of a set.
pub(crate) fn wait_event(set: Handle, timeout: Duration) -> Result<Delivery, Code> {
    let started = Instant::now();
    loop {
        if let Some(delivery) = with(|state| state.next_event(set))? {
            return Ok(delivery);
        }
        let left = timeout.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(Code::TIMEOUT);
        }
        std::thread::sleep(left.min(TICK));
    }
}

impl State {
    /// The handle for a UUID, the same one each time.
    pub(crate) fn handle(&mut self, uuid: &str) -> Handle {
        let position = self
            .handles
            .iter()
            .position(|known| known == uuid)
            .unwrap_or_else(|| {
                self.handles.push(uuid.to_owned());
                self.handles.len() - 1
            });
        (position + 1) << 4
    }

    /// What a handle stands for now. A GPU that the scenario no longer has is lost.
    pub(crate) fn locate(&self, device: Handle) -> Result<Spot, Code> {
        let position = (device >> 4).checked_sub(1).filter(|_| device & 0xf == 0);
        let uuid = position.and_then(|position| self.handles.get(position));
        let uuid = uuid.ok_or(Code::INVALID_ARGUMENT)?;
        self.locate_uuid(uuid)
            .map_err(|_| match uuid.starts_with("MIG-") {
                true => Code::INVALID_ARGUMENT,
                false => Code::GPU_IS_LOST,
            })
    }

    pub(crate) fn locate_uuid(&self, uuid: &str) -> Result<Spot, Code> {
        for (index, gpu) in self.scenario.gpus.iter().enumerate() {
            if gpu.uuid == uuid {
                return Ok(Spot::Gpu(index));
            }
            if let Some(mig) = gpu.instances().iter().position(|mig| mig.uuid == uuid) {
                return Ok(Spot::Mig(index, mig));
            }
        }
        Err(Code::NOT_FOUND)
    }

    /// The first GPU that fits.
    pub(crate) fn find(&self, fits: impl Fn(&Gpu) -> bool) -> Result<Spot, Code> {
        self.scenario
            .gpus
            .iter()
            .position(fits)
            .map(Spot::Gpu)
            .ok_or(Code::NOT_FOUND)
    }

    pub(crate) fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Answers that the GPU is lost, if it is.
    pub(crate) fn check_present(&self, gpu: &Gpu) -> Result<(), Code> {
        match gpu.lost || self.lost_by_event.contains_key(&gpu.uuid) {
            true => Err(Code::GPU_IS_LOST),
            false => Ok(()),
        }
    }

    pub(crate) fn make_set(&mut self) -> Handle {
        self.sets_made += 1;
        let set = self.sets_made << 4;
        self.sets.insert(set, EventSet::default());
        set
    }

    pub(crate) fn drop_set(&mut self, set: Handle) -> Result<(), Code> {
        self.sets
            .remove(&set)
            .map(drop)
            .ok_or(Code::INVALID_ARGUMENT)
    }

    /// Adds sorts of event on a GPU to what a set watches.
    pub(crate) fn watch(&mut self, set: Handle, uuid: &str, kinds: u64) -> Result<(), Code> {
        let set = self.sets.get_mut(&set).ok_or(Code::INVALID_ARGUMENT)?;
        *set.watched.entry(uuid.to_owned()).or_default() |= kinds;
        Ok(())
    }

    fn next_event(&mut self, set: Handle) -> Result<Option<Delivery>, Code> {
        let scenario = self.scenario.clone();
        let set = self.sets.get_mut(&set).ok_or(Code::INVALID_ARGUMENT)?;
        let due = scenario.events.iter().filter(|event| {
            let watched = set
                .watched
                .get(&scenario.gpus[event.gpu].uuid)
                .copied()
                .unwrap_or(0);
            watched & event.kind != 0 && !set.told.contains(&event.seq)
        });
        let Some(event) = due.min_by_key(|event| event.seq) else {
            return Ok(None);
        };
        set.told.insert(event.seq);
        let uuid = &scenario.gpus[event.gpu].uuid;
        if event.kind == XID_EVENT && event.data == XID_LOST {
            self.lost_by_event.insert(uuid.clone(), event.seq);
        }
        Ok(Some(Delivery {
            device: self.handle(uuid),
            kind: event.kind,
            data: event.data,
        }))
    }

    /// Takes over a replaced file. A file that is gone or malformed changes nothing; of a
    /// malformed one it is said once.
    fn refresh(&mut self) {
        let Ok(stamp) = fs::metadata(&self.path).map(Stamp::of) else {
            return;
        };
        if stamp == self.seen {
            return;
        }
        self.seen = stamp;
        if let Some(scenario) = read(&self.path) {
            self.lost_by_event
                .retain(|_, seq| scenario.events.iter().any(|e| e.seq == *seq));
            self.scenario = Arc::new(scenario);
        }
    }
}

impl Spot {
    fn gpu(self) -> Option<usize> {
        match self {
            Self::System => None,
            Self::Gpu(gpu) | Self::Mig(gpu, _) => Some(gpu),
        }
    }
}

impl Call {
    /// The GPU, or the one that the instance is on.
    pub(crate) fn card(&self) -> Result<&Gpu, Code> {
        self.spot
            .gpu()
            .map(|gpu| &self.scenario.gpus[gpu])
            .ok_or(Code::INVALID_ARGUMENT)
    }

    /// The GPU, for calls that know nothing of instances.
    pub(crate) fn gpu(&self) -> Result<&Gpu, Code> {
        match self.spot {
            Spot::Gpu(gpu) => Ok(&self.scenario.gpus[gpu]),
            Spot::Mig(..) => Err(Code::NOT_SUPPORTED),
            Spot::System => Err(Code::INVALID_ARGUMENT),
        }
    }

    /// The instance, for calls about instances only.
    pub(crate) fn instance(&self) -> Result<&MigDevice, Code> {
        self.mig().ok_or(Code::NOT_SUPPORTED)
    }

    /// The instance, if the call is about one.
    pub(crate) fn mig(&self) -> Option<&MigDevice> {
        match self.spot {
            Spot::Mig(gpu, mig) => self.scenario.gpus[gpu].instances().get(mig),
            Spot::System | Spot::Gpu(_) => None,
        }
    }
}

impl Stamp {
    fn of(file: Metadata) -> Self {
        Self {
            inode: file.ino(),
            length: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// Makes sure that there is a state, read from `path`.
fn open(path: &Path) -> Result<(), Code> {
    let file = fs::metadata(path).map_err(|_| Code::DRIVER_NOT_LOADED)?;
    let mut guard = lock();
    match guard.as_mut() {
        Some(state) if state.path == path => Ok(()),
        Some(state) => {
            state.scenario = Arc::new(read(path).ok_or(Code::DRIVER_NOT_LOADED)?);
            state.path = path.to_owned();
            state.seen = Stamp::of(file);
            state.lost_by_event.clear();
            Ok(())
        }
        None => {
            *guard = Some(State {
                path: path.to_owned(),
                seen: Stamp::of(file),
                scenario: Arc::new(read(path).ok_or(Code::DRIVER_NOT_LOADED)?),
                users: 0,
                handles: Vec::new(),
                sets: BTreeMap::new(),
                sets_made: 0,
                lost_by_event: BTreeMap::new(),
            });
            Ok(())
        }
    }
}

/// Holds a call up for as long as the scenario of each moment says, so that replacing the file
/// ends a hang.
fn wait_out(symbol: &str, look: impl Fn() -> Result<Call, Code>) -> Result<Call, Code> {
    let started = Instant::now();
    let mut told = false;
    loop {
        let call = look()?;
        let delay = call.scenario.delay(symbol, call.spot.gpu());
        let left = delay.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(call);
        }
        if !told {
            trace(&format!("{symbol} waits"));
            told = true;
        }
        std::thread::sleep(left.min(TICK));
    }
}

fn read(path: &Path) -> Option<Scenario> {
    let text = fs::read(path).map_err(|error| error.to_string());
    match text.and_then(|text| Scenario::parse(&text, SYMBOLS)) {
        Ok(scenario) => Some(scenario),
        Err(error) => {
            eprintln!("fake NVML: {}: {error}", path.display());
            None
        }
    }
}

fn lock() -> MutexGuard<'static, Option<State>> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
