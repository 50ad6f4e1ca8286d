//! NVIDIA GPUs through the driver's own library, loaded at run time.
//!
//! | Thread | Does | Refuses to know |
//! |---|---|---|
//! | `gpu-calls` ([`calls`]) | every call of the library; sleeps in the library's event wait between two sweeps | health |
//! | `gpu-watch` (here) | applies what `gpu-calls` tells to the health of each device ([`health`], pure), publishes, and sees when a call does not come back | the library |
//!
//! What keeps a GPU back outlives the agent: `gpu-watch` writes it down whenever it changes.
//!
//! A call may hang in the kernel for good. Then all devices become *unresponsive*, the
//! thread is given up and another one started; the agent itself never waits.
//! No library is a machine without GPUs, not an error.

use super::cordons::Cordons;
use super::{Mask, Snapshot, Snapshots};
use crate::host::wall_clock;
use health::{Message, Tracker};
use longshore_common::agent::Health;
use longshore_common::ids::DeviceId;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

mod calls;
mod health;

/// XIDs after which a GPU is given out no more: uncorrectable memory errors, a bus or
/// link that failed, a GPU processor that stopped. What programs cause is not among them.
pub const CORDON_XIDS: [u32; 10] = [48, 62, 64, 74, 79, 92, 95, 119, 120, 140];

/// XIDs that are worth a warning: a row of memory is to be remapped.
pub const WARN_XIDS: [u32; 1] = [63];

/// How much longer than its deadline a hanging thread is waited for before it is given
/// up: the first at once, because one call may be stuck alone; the next ones later,
/// because they hang in the same place and a driver that recovers does so in minutes.
const PATIENCE: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(30),
    Duration::from_secs(120),
];

/// How GPUs are looked at.
#[derive(Debug, Clone)]
pub struct NvmlConfig {
    /// The library; none = the system's `libnvidia-ml.so.1`.
    pub library: Option<PathBuf>,
    /// Time from one look to the next.
    pub sample: Duration,
    /// How long one call may take before the devices count as unresponsive.
    pub deadline: Duration,
    /// Time between two attempts to load the library on a machine that had no GPU so far.
    pub retry: Duration,
    /// Devices that are left out: UUIDs or PCI addresses, of a GPU or an instance. Those that
    /// were looked at before it became so are marked instead.
    pub mask: Mask,
    /// When not empty: the only devices that are taken, written like `mask`.
    pub only: Vec<String>,
    /// XIDs after which a device is cordoned until it was reset and is well.
    pub cordon_xids: Vec<u32>,
    /// XIDs after which a device carries a warning until it was reset.
    pub warn_xids: Vec<u32>,
    /// Where cordons are written down; none = they end with the agent.
    pub book: Option<PathBuf>,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// A GPU that was reset is offered again after so long without a sign.
    pub quiet: Duration,
}

impl Default for NvmlConfig {
    fn default() -> Self {
        Self {
            library: None,
            sample: Duration::from_secs(5),
            deadline: Duration::from_secs(5),
            retry: Duration::from_secs(60),
            mask: Mask::default(),
            only: Vec::new(),
            cordon_xids: CORDON_XIDS.to_vec(),
            warn_xids: WARN_XIDS.to_vec(),
            book: None,
            boot_id: String::new(),
            quiet: Duration::from_secs(60),
        }
    }
}

/// Starts looking at the GPUs. The first change of the receiver is the first true answer.
///
/// Never fails and never blocks; why there are no GPUs stands in the snapshot's note. All
/// threads end soon after the last receiver is dropped.
///
/// Devices that come through `released` are vouched for by a person.
#[must_use]
pub fn start(config: NvmlConfig, released: mpsc::Receiver<DeviceId>) -> Snapshots {
    let (sender, snapshots) = watch::channel(Snapshot {
        note: "the GPUs have not been looked at yet".to_owned(),
        ..Snapshot::default()
    });
    let config = Arc::new(config);
    let watching = std::thread::Builder::new()
        .name("gpu-watch".to_owned())
        .spawn({
            let config = config.clone();
            move || watch_over(&config, &sender, &released)
        });
    if let Err(error) = watching {
        tracing::error!(%error, "no thread for the GPUs: none are offered");
    }
    snapshots
}

/// Publishes what the calling thread tells and replaces that thread when it hangs.
fn watch_over(
    config: &Arc<NvmlConfig>,
    sender: &watch::Sender<Snapshot>,
    released: &mpsc::Receiver<DeviceId>,
) {
    let (reports, inbox) = mpsc::channel();
    let mut written = read_book(config);
    let mut tracker = Tracker::new(
        config.cordon_xids.clone(),
        config.warn_xids.clone(),
        config.quiet,
        written.clone(),
    );
    let mut given_up = 0;
    let mut caller = Caller::spawn(given_up, config, &reports);
    // Fine enough to add little to the deadline, coarse enough to cost nothing.
    let tick = (config.deadline / 5).clamp(Duration::from_millis(10), Duration::from_secs(1));
    while !sender.is_closed() {
        match inbox.recv_timeout(tick) {
            Ok((number, message)) if number == caller.number => {
                tracker.apply(message, wall_clock());
                // What is offered again must not be held back by an older page of the book.
                keep_book(config, &mut written, tracker.cordons());
                publish(sender, tracker.snapshot());
            }
            // What a thread that was given up still has to say is old.
            Ok(_) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => (),
        }
        for device in released.try_iter() {
            tracing::info!(%device, "a person released a device");
            tracker.release(&device);
            keep_book(config, &mut written, tracker.cordons());
            publish(sender, tracker.snapshot());
        }
        let Some(late) = caller.late() else { continue };
        if tracker.set_unresponsive() {
            tracing::error!(deadline = ?config.deadline, "a call of the GPU library does not return");
            publish(sender, tracker.snapshot());
        }
        if PATIENCE
            .get(given_up)
            .is_some_and(|patience| late >= *patience)
        {
            given_up += 1;
            tracing::warn!(given_up, "gave up a thread that calls the GPU library");
            caller.pulse.give_up();
            caller = Caller::spawn(given_up, config, &reports);
        }
    }
    caller.pulse.give_up();
    if let Some(thread) = &caller.thread {
        thread.thread().unpark();
    }
}

fn read_book(config: &NvmlConfig) -> Cordons {
    let empty = || Cordons::new(&config.boot_id);
    let Some(path) = &config.book else {
        return empty();
    };
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return empty(),
        text => text.map_err(|error| error.to_string()),
    };
    match text.and_then(|text| Cordons::read(&text, &config.boot_id)) {
        Ok(book) => book,
        Err(error) => {
            tracing::error!(path = %path.display(), error,
                "the book of sick GPUs cannot be read: all are judged anew");
            empty()
        }
    }
}

/// Writes the book down if it says something else than what was `written`; what could not be
/// written is tried again with the next look.
fn keep_book(config: &NvmlConfig, written: &mut Cordons, book: &Cordons) {
    let Some(path) = config.book.as_ref().filter(|_| written != book) else {
        return;
    };
    match crate::identity::write_synced(path, book.to_text().as_bytes()) {
        Ok(()) => written.clone_from(book),
        Err(error) => tracing::error!(path = %path.display(), %error,
            "the book of sick GPUs cannot be written: cordons end with this agent"),
    }
}

fn publish(sender: &watch::Sender<Snapshot>, snapshot: Snapshot) {
    let before = sender.send_replace(snapshot);
    let after = sender.borrow();
    if after.note != before.note && !after.note.is_empty() {
        tracing::info!(note = after.note, "GPUs");
    }
    for device in &after.devices {
        let old = before.devices.iter().find(|d| d.id == device.id);
        let was = old.map_or(Health::Healthy, |d| d.health);
        if was != device.health {
            tracing::warn!(device = %device.id, %was, now = %device.health,
                detail = device.health_detail, "the health of a device changed");
        }
    }
}

/// A thread that calls the library, seen from outside.
struct Caller {
    number: usize,
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<()>>,
}

impl Caller {
    fn spawn(
        number: usize,
        config: &Arc<NvmlConfig>,
        reports: &mpsc::Sender<(usize, Message)>,
    ) -> Self {
        let pulse = Arc::new(Pulse::default());
        let thread = std::thread::Builder::new()
            .name(crate::systemd::GPU_CALLS.to_owned())
            .spawn({
                let (config, pulse, reports) = (config.clone(), pulse.clone(), reports.clone());
                move || {
                    calls::run(&config, &pulse, |message| {
                        // Nobody listens any more: the pulse says so, too.
                        let _ = reports.send((number, message));
                    });
                }
            });
        Self {
            number,
            pulse,
            thread: thread.ok(),
        }
    }

    /// By how much a call is overdue. A thread that ended by itself panicked: that is
    /// treated like a call that never comes back.
    fn late(&self) -> Option<Duration> {
        match &self.thread {
            Some(thread) if !thread.is_finished() => self.pulse.late(),
            Some(_) | None => Some(Duration::MAX),
        }
    }
}

/// What both threads see of the call in progress.
#[derive(Debug)]
struct Pulse {
    /// Milliseconds on [`CLOCK`] when the present call should have returned.
    due_ms: AtomicU64,
    given_up: AtomicBool,
}

static CLOCK: LazyLock<Instant> = LazyLock::new(Instant::now);
const NO_CALL: u64 = u64::MAX;

fn elapsed_ms() -> u64 {
    u64::try_from(CLOCK.elapsed().as_millis()).unwrap_or(NO_CALL - 1)
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            due_ms: AtomicU64::new(NO_CALL),
            given_up: AtomicBool::new(false),
        }
    }
}

impl Pulse {
    /// Runs a call that has to be back after `allowed`.
    fn during<T>(&self, allowed: Duration, call: impl FnOnce() -> T) -> T {
        let allowed = u64::try_from(allowed.as_millis()).unwrap_or(NO_CALL);
        let due = elapsed_ms().saturating_add(allowed).min(NO_CALL - 1);
        self.due_ms.store(due, Ordering::Relaxed);
        let answer = call();
        self.due_ms.store(NO_CALL, Ordering::Relaxed);
        answer
    }

    fn late(&self) -> Option<Duration> {
        let due = self.due_ms.load(Ordering::Relaxed);
        if due == NO_CALL {
            return None;
        }
        elapsed_ms().checked_sub(due).map(Duration::from_millis)
    }

    fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Sleeps; wakes early when unparked after having been given up.
    fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_given_up() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }
}
