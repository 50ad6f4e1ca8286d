//! What is kept about a running container: figures, history of use, warnings.

use crate::devices::Snapshot;
use crate::host::cgroup::{CgroupReader, ContainerStats};
use longshore_common::agent::DeviceSample;
use longshore_common::judge::{
    IdleHistory, SessionClock, Source, Verdict, WarnState, judge, lifetime_deadline, mean_tenths,
    tenths,
};
use longshore_common::limits::{Metric, SessionLimits};
use longshore_common::session::Entry;
use longshore_common::wire::Totals;
use tokio::sync::watch;

/// One running container.
#[derive(Debug)]
pub(super) struct Watching {
    /// True once all its output was read.
    pub(super) output: watch::Receiver<bool>,
    reader: Option<CgroupReader>,
    last: Option<(i64, ContainerStats)>,
    history: IdleHistory,
    warned: WarnState,
    clock: SessionClock,
    totals: Totals,
    /// What the last verdict said.
    pub(super) verdict: Verdict,
}

impl Watching {
    pub(super) fn new(
        pid: Option<u32>,
        started_boot_ms: i64,
        lifetime_boot_ms: Option<i64>,
        output: watch::Receiver<bool>,
    ) -> Self {
        Self {
            output,
            reader: pid.and_then(CgroupReader::open),
            last: None,
            history: IdleHistory::default(),
            warned: WarnState::default(),
            clock: SessionClock {
                created_at_ms: started_boot_ms,
                started_at_ms: started_boot_ms,
                new_user_until_ms: None,
                lifetime_deadline_ms: lifetime_boot_ms,
            },
            totals: Totals::default(),
            verdict: Verdict::default(),
        }
    }

    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) const fn set_lifetime(&mut self, at_boot_ms: Option<i64>) {
        self.clock.lifetime_deadline_ms = at_boot_ms;
    }

    /// Takes over what its order says beside the lifetime's deadline. `set_boot_ms` is when
    /// the order was made, on the boot clock. May be given the same again.
    pub(super) fn take_limits(&mut self, limits: &SessionLimits, set_boot_ms: i64) {
        let new_user = limits.new_user_until;
        let new_user = new_user.map(|until| set_boot_ms.saturating_add(until.remaining_ms));
        self.clock.new_user_until_ms = new_user;
        if let (None, Some(s)) = (limits.lifetime, limits.from_start_s) {
            let length_s = u32::try_from(s).unwrap_or(u32::MAX);
            let end = lifetime_deadline(self.clock.started_at_ms, new_user, length_s, 0);
            self.clock.lifetime_deadline_ms = Some(end);
        }
        if let Some(kept) = limits.kept {
            let at_ms = set_boot_ms.saturating_sub(kept.ago_ms);
            self.history.keep(at_ms, i64::from(kept.hold_s) * 1000);
        }
    }

    /// When use was last measured, on the boot clock.
    pub(super) fn used_ms(&self) -> Option<i64> {
        self.history.used_ms()
    }

    /// When a person last used it, on the boot clock; none = not seen yet.
    pub(super) fn activity_ms(&self, now_ms: i64) -> Option<i64> {
        match self.history.open_connections() {
            0 => self.history.measured_activity_ms(),
            _ => Some(now_ms),
        }
    }

    /// A person used it then, by an earlier process of this agent.
    pub(super) fn was_used(&mut self, at_ms: i64) {
        self.history.push_activity(at_ms);
    }

    /// Somebody is connected to it, and uses it for as long as that lasts.
    pub(super) fn open_connection(&mut self, now_ms: i64) {
        self.history.open_connection(now_ms);
    }

    /// One of those connections ended.
    pub(super) fn close_connection(&mut self, now_ms: i64) {
        self.history.close_connection(now_ms);
    }

    /// Takes a sample of its figures.
    pub(super) fn sample(&mut self, entry: Option<&Entry>, gpus: &Snapshot, now_ms: i64) {
        let Some(stats) = self.reader.as_ref().map(CgroupReader::read) else {
            return;
        };
        let peak = stats.mem_peak.or(stats.mem_bytes);
        self.totals.memory_peak = self.totals.memory_peak.max(peak);
        self.totals.cpu_ms = self.totals.cpu_ms.max(stats.cpu_ms);
        if let Some(entry) = entry {
            self.push_samples(entry, gpus, stats, now_ms);
        }
        self.last = Some((now_ms, stats));
    }

    fn push_samples(&mut self, entry: &Entry, gpus: &Snapshot, stats: ContainerStats, now_ms: i64) {
        let slots = &entry.spec.slots;
        if let (Some((then_ms, then)), Some(cpu_ms)) = (self.last, stats.cpu_ms)
            && let Some(before) = then.cpu_ms
            && now_ms > then_ms
        {
            // Granted milliseconds of processor time in this stretch.
            let granted = (now_ms - then_ms).saturating_mul(slots.cpu_milli()) / 1000;
            self.push(now_ms, Metric::Cpu, tenths(cpu_ms - before, granted));
        }
        if let Some(mem) = stats.mem_bytes {
            self.push(now_ms, Metric::Mem, tenths(mem, slots.mem_bytes()));
        }
        if entry.spec.devices.is_empty() {
            return;
        }
        let own: Vec<&DeviceSample> = entry
            .spec
            .devices
            .iter()
            .filter_map(|g| gpus.samples.get(&g.device))
            .collect();
        let use_percent: Vec<Option<u8>> = own.iter().map(|s| s.utilization).collect();
        match mean_tenths(&use_percent) {
            Some(mean) => self.push(now_ms, Metric::Gpu, mean),
            None => self.history.set_source(Metric::Gpu, Source::Absent),
        }
        match gpu_memory(entry, gpus) {
            Some(mean) => self.push(now_ms, Metric::GpuMem, mean),
            None => self.history.set_source(Metric::GpuMem, Source::Absent),
        }
    }

    fn push(&mut self, now_ms: i64, metric: Metric, value: u32) {
        self.history.set_source(metric, Source::Measured);
        self.history.push_sample(now_ms, metric, value);
    }

    /// Judges it.
    pub(super) fn judge(&mut self, entry: &Entry, now_ms: i64) -> &Verdict {
        self.verdict = judge(
            &entry.limits,
            entry.spec.kind,
            &self.clock,
            &mut self.history,
            &mut self.warned,
            now_ms,
        );
        &self.verdict
    }
}

/// How much of the memory of its GPUs is in use, in tenths of a percent: the mean over those
/// it has alone and that tell. Of a shared one it is not known who uses how much; none if
/// nothing is known.
fn gpu_memory(entry: &Entry, gpus: &Snapshot) -> Option<u32> {
    let known = entry.spec.devices.iter().filter_map(|grant| {
        let device = gpus.devices.iter().find(|d| d.id == grant.device)?;
        let used = gpus.samples.get(&grant.device)?.memory_used?;
        let told = grant.amount >= device.capacity && device.memory_bytes > 0;
        told.then(|| tenths(used, device.memory_bytes))
    });
    let (sum, count) = known.fold((0_u32, 0_u32), |(sum, count), one| {
        (sum.saturating_add(one), count + 1)
    });
    sum.checked_div(count)
}
