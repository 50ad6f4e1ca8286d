//! What is kept about a running container: figures, history of use, warnings.

use super::NOTE_USE_MS;
use crate::devices::Snapshot;
use crate::host::cgroup::{CgroupReader, ContainerStats, network_of};
use crate::journal::{Idle, Sums};
use longshore_common::agent::DeviceSample;
use longshore_common::ids::{ContainerKey, DeviceId};
use longshore_common::judge::{
    Check, IdleHistory, KeptHistory, SessionClock, Source, Verdict, WarnState, Warning, judge,
    lifetime_deadline, mean_tenths, tenths, warn_of_drain,
};
use longshore_common::limits::{Metric, SessionLimits};
use longshore_common::session::{Entry, SessionType};
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    CheckReport, DeviceUse, IdleCheckName, MetricFigures, Totals, UseReport,
};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// Samples come each 5 s. After a longer pause nobody knows what was: only so much of it is
/// taken as measured, the rest is a gap.
const LONGEST_SAMPLE_MS: i64 = 10_000;
/// A whole device in thousandths. Of less, the memory in use is also that of others.
const WHOLE_DEVICE: i64 = 1000;

/// What the last note of a container's use said, as far as the next one depends on it.
#[derive(Debug)]
struct NotedIdle {
    /// When, on the boot clock.
    at_ms: i64,
    /// When it would be stopped for being idle, and at the end of its life.
    deadlines: [Option<i64>; 2],
    activity_ms: Option<i64>,
    warned: WarnState,
}

/// One running container.
#[derive(Debug)]
pub(super) struct Watching {
    /// True once all its output was read.
    pub(super) output: watch::Receiver<bool>,
    pid: Option<u32>,
    reader: Option<CgroupReader>,
    last: Option<(i64, ContainerStats)>,
    /// When a sample of its devices was last taken.
    devices_ms: Option<i64>,
    history: IdleHistory,
    warned: WarnState,
    clock: SessionClock,
    totals: Totals,
    devices: BTreeMap<DeviceId, DeviceUse>,
    /// When a sample last was one of work, on the boot clock; none = none was yet.
    worked_ms: Option<i64>,
    /// When these figures were last written down, on the boot clock; none = not yet.
    noted_ms: Option<i64>,
    /// What was last written down of how it is used.
    noted_idle: Option<NotedIdle>,
    /// The end of which its program got the signal it wants before; none = of none.
    signalled_ms: Option<i64>,
    /// That signal is on its way.
    signalling: bool,
    /// What the last verdict said.
    pub(super) verdict: Verdict,
    /// What was last said to the people in it.
    pub(super) said: Option<String>,
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
            pid,
            reader: pid.and_then(CgroupReader::open),
            last: None,
            devices_ms: None,
            history: IdleHistory::default(),
            warned: WarnState::default(),
            clock: SessionClock {
                created_at_ms: started_boot_ms,
                started_at_ms: started_boot_ms,
                new_user_until_ms: None,
                lifetime_deadline_ms: lifetime_boot_ms,
            },
            totals: Totals::default(),
            devices: BTreeMap::new(),
            worked_ms: None,
            noted_ms: None,
            noted_idle: None,
            signalled_ms: None,
            signalling: false,
            verdict: Verdict::default(),
            said: None,
        }
    }

    /// What an agent before this one counted.
    pub(super) fn take_up(&mut self, sums: &Sums, now_ms: i64) {
        self.totals = sums.totals;
        let devices = sums.devices.iter();
        self.devices = devices.map(|d| (d.device.clone(), d.clone())).collect();
        self.noted_ms = Some(now_ms);
    }

    /// What it used so far, if that is to be written down: each [`NOTE_USE_MS`], or `last`.
    pub(super) fn sums_due(&mut self, now_ms: i64, last: bool) -> Option<Sums> {
        let noted = self.noted_ms.get_or_insert(now_ms);
        if !last && now_ms.saturating_sub(*noted) < NOTE_USE_MS {
            return None;
        }
        *noted = now_ms;
        let (totals, devices) = self.figures();
        Some(Sums { totals, devices })
    }

    /// How it was used and what was warned of, if that is to be written down: each
    /// [`NOTE_USE_MS`], when a deadline moved by more, when something was warned of, when one that
    /// was warned is used, or `last`. Whoever follows then warns of nothing twice.
    pub(super) fn idle_due(&mut self, now_ms: i64, last: bool) -> Option<(KeptHistory, WarnState)> {
        let verdict = &self.verdict;
        let deadlines = [verdict.idle_deadline_ms, verdict.lifetime_deadline_ms];
        let activity_ms = self.history.last_activity_ms();
        let due = match &self.noted_idle {
            None => true,
            Some(noted) => {
                let moved = |(now, then): (&Option<i64>, &Option<i64>)| match (now, then) {
                    (Some(now), Some(then)) => now.abs_diff(*then) > NOTE_USE_MS.unsigned_abs(),
                    (now, then) => now != then,
                };
                let used = self.warned.is_idle() && activity_ms != noted.activity_ms;
                now_ms.saturating_sub(noted.at_ms) >= NOTE_USE_MS
                    || deadlines.iter().zip(&noted.deadlines).any(moved)
                    || !self.warned.warned_as(&noted.warned)
                    || used
            }
        };
        if !due && !last {
            return None;
        }
        self.noted_idle = Some(NotedIdle {
            at_ms: now_ms,
            deadlines,
            activity_ms,
            warned: self.warned.clone(),
        });
        Some((self.history.keepsake(), self.warned.clone()))
    }

    /// When it was started, on the boot clock.
    pub(super) const fn started_ms(&self) -> i64 {
        self.clock.started_at_ms
    }

    /// How an agent before this one saw it used in this boot, and what it warned of. The answer
    /// says whether nothing may have been used since that was noted.
    pub(super) fn recall(&mut self, idle: Idle) -> bool {
        // By the millisecond as it was, or the buckets are others.
        self.clock.created_at_ms = idle.started_boot_ms;
        self.clock.started_at_ms = idle.started_boot_ms;
        self.history.restore(idle.history);
        self.warned = idle.warned;
        self.warned.is_idle()
    }

    /// Its figures so far, and those of its devices.
    pub(super) fn figures(&self) -> (Totals, Vec<DeviceUse>) {
        (self.totals, self.devices.values().cloned().collect())
    }

    /// Whether the kernel ended a process of it for want of memory, as far as samples tell.
    pub(super) fn ran_short(&self) -> bool {
        let killed = self.last.and_then(|(_, stats)| stats.oom_kills);
        killed.is_some_and(|processes| processes > 0)
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

    /// When its figures last said that it does something, on the boot clock; none = not yet.
    pub(super) const fn worked_ms(&self) -> Option<i64> {
        self.worked_ms
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
        if let Some(entry) = entry {
            self.count_devices(entry, &gpus.samples, now_ms);
        }
        let Some(stats) = self.reader.as_ref().map(CgroupReader::read) else {
            return;
        };
        self.count(stats, now_ms);
        if let Some(entry) = entry {
            self.push_samples(entry, gpus, stats, now_ms);
        }
        self.last = Some((now_ms, stats));
    }

    fn count(&mut self, stats: ContainerStats, now_ms: i64) {
        let totals = &mut self.totals;
        totals.memory_peak_sampled = match stats.mem_peak {
            Some(_) => false,
            None => stats.mem_bytes.is_some() || totals.memory_peak_sampled,
        };
        let peak = stats.mem_peak.or(stats.mem_bytes);
        totals.memory_peak = totals.memory_peak.max(peak);
        totals.cpu_ms = totals.cpu_ms.max(stats.cpu_ms);
        totals.read_bytes = totals.read_bytes.max(stats.read_bytes);
        totals.written_bytes = totals.written_bytes.max(stats.written_bytes);
        // A process number may be another's once the group is gone.
        let network = stats.cpu_ms.and(self.pid).and_then(network_of);
        if let Some((received, sent)) = network {
            totals.received_bytes = totals.received_bytes.max(Some(received));
            totals.sent_bytes = totals.sent_bytes.max(Some(sent));
        }
        if let (Some((then_ms, _)), Some(mem)) = (self.last, stats.mem_bytes) {
            let length_ms = (now_ms - then_ms).clamp(0, LONGEST_SAMPLE_MS);
            totals.measured_ms += length_ms;
            totals.memory_kib_s = totals
                .memory_kib_s
                .saturating_add((mem / 1024).saturating_mul(length_ms) / 1000);
        }
    }

    /// Counts how its devices are used: each sample stands for the time since the one before.
    fn count_devices(
        &mut self,
        entry: &Entry,
        samples: &BTreeMap<DeviceId, DeviceSample>,
        now_ms: i64,
    ) {
        let length_ms = self
            .devices_ms
            .map_or(0, |then| (now_ms - then).clamp(0, LONGEST_SAMPLE_MS));
        self.devices_ms = Some(now_ms);
        for grant in &entry.spec.devices {
            let known = self.devices.entry(grant.device.clone());
            let used = known.or_insert_with(|| DeviceUse {
                device: grant.device.clone(),
                busy_ms: 0,
                measured_ms: 0,
                memory_peak: None,
            });
            let Some(sample) = samples.get(&grant.device) else {
                continue;
            };
            if let Some(percent) = sample.utilization {
                if entry.limits.work.is_gpu(percent) {
                    self.worked_ms = Some(now_ms);
                }
                used.busy_ms += i64::from(percent.min(100)) * length_ms / 100;
                used.measured_ms += length_ms;
            }
            if grant.amount >= WHOLE_DEVICE {
                used.memory_peak = used.memory_peak.max(sample.memory_used);
            }
        }
    }

    fn push_samples(&mut self, entry: &Entry, gpus: &Snapshot, stats: ContainerStats, now_ms: i64) {
        let slots = &entry.spec.slots;
        if let (Some((then_ms, then)), Some(cpu_ms)) = (self.last, stats.cpu_ms)
            && let Some(before) = then.cpu_ms
            && now_ms > then_ms
        {
            // Granted milliseconds of processor time in this stretch.
            let granted = (now_ms - then_ms).saturating_mul(slots.cpu_milli()) / 1000;
            let used = tenths(cpu_ms - before, granted);
            if entry.limits.work.is_cpu(used) {
                self.worked_ms = Some(now_ms);
            }
            self.push(now_ms, Metric::Cpu, used);
        }
        if let Some(mem) = stats.mem_bytes {
            self.push(now_ms, Metric::Mem, tenths(mem, slots.mem_bytes()));
        }
        if entry.spec.devices.is_empty() {
            return;
        }
        if !gpus.looked {
            self.history.not_looked(Metric::Gpu);
            self.history.not_looked(Metric::GpuMem);
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

    /// A metric was measured, in tenths of a percent.
    pub(super) fn push(&mut self, now_ms: i64, metric: Metric, value: u32) {
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

    /// Judges one that is frozen: its lifetime goes on, while how it is used is not known.
    pub(super) fn judge_frozen(&mut self, entry: &Entry, now_ms: i64) -> &Verdict {
        let limits = SessionLimits {
            idle: None,
            ..entry.limits.clone()
        };
        let (history, warned) = (&mut self.history, &mut self.warned);
        self.verdict = judge(
            &limits,
            entry.spec.kind,
            &self.clock,
            history,
            warned,
            now_ms,
        );
        &self.verdict
    }

    /// The warning that is due because its node has to be empty at an instant, if one is.
    /// `drain` holds that instant and the one since which it is so, `warn_s` says how many seconds
    /// before.
    pub(super) fn judge_drain(
        &mut self,
        drain: Option<(i64, i64)>,
        warn_s: &[u32],
        now_ms: i64,
    ) -> Option<Warning> {
        let (deadline_ms, since_ms) = drain.unzip();
        warn_of_drain(
            &mut self.warned,
            warn_s,
            deadline_ms,
            since_ms.unwrap_or(now_ms),
            now_ms,
        )
    }

    /// The end before which its program is to get now the signal that it wants some time
    /// before its lifetime or a drain ends it. Asked for again, there is none before what became
    /// of the signal was told.
    pub(super) fn signal_due(
        &mut self,
        lead_ms: i64,
        drain_ms: Option<i64>,
        now_ms: i64,
    ) -> Option<i64> {
        let lifetime_ms = self
            .verdict
            .lifetime_deadline_ms
            .or(self.clock.lifetime_deadline_ms);
        let Some(end_ms) = [lifetime_ms, drain_ms].into_iter().flatten().min() else {
            self.signalled_ms = None;
            return None;
        };
        if now_ms < end_ms.saturating_sub(lead_ms) {
            self.signalled_ms = None; // it was put off by more than the lead: once more then
            return None;
        }
        if self.signalled_ms.is_some() || std::mem::replace(&mut self.signalling, true) {
            return None;
        }
        Some(end_ms)
    }

    /// Its program got the signal before this end; or it is not tried again.
    pub(super) const fn was_signalled(&mut self, end_ms: i64) {
        self.signalled_ms = Some(end_ms);
        self.signalling = false;
    }

    /// Its program did not get the signal, and may yet.
    pub(super) const fn was_not_signalled(&mut self) {
        self.signalling = false;
    }

    /// What the last verdict said, for people. `to_wall` makes instants of the boot clock
    /// those of the coordinator.
    pub(super) fn use_report(
        &self,
        key: ContainerKey,
        entry: &Entry,
        to_wall: impl Fn(i64) -> Timestamp,
    ) -> UseReport {
        let verdict = &self.verdict;
        let policy = entry.limits.idle.as_ref();
        let people = policy.and_then(|p| p.interaction_timeout_s);
        let by_people =
            people.is_some_and(|s| s > 0) && entry.spec.kind == SessionType::Interactive;
        let work = policy.and_then(|p| p.utilization.as_ref());
        let work = work.filter(|u| u.judges(entry.spec.kind));
        let said = |at: Option<i64>| CheckReport {
            deadline: at.map(&to_wall),
            ..CheckReport::default()
        };
        UseReport {
            key,
            in_grace: verdict.in_grace,
            deadline: verdict.idle_deadline_ms.map(&to_wall),
            decided_by: verdict.decided_by.map(|check| match check {
                Check::Interaction => IdleCheckName::Interaction,
                Check::Utilization(_) => IdleCheckName::Utilization,
            }),
            interaction: by_people.then(|| CheckReport {
                last_activity: self.history.last_activity_ms().map(&to_wall),
                connections: self.history.open_connections(),
                ..said(verdict.checks[0])
            }),
            utilization: work.map(|_| said(verdict.checks[1])),
            metrics: work.map_or_else(Vec::new, |work| {
                let all = self.history.metric_reports(work).into_iter();
                all.map(|metric| MetricFigures {
                    metric: metric.metric,
                    mean_tenths: metric.mean_tenths,
                    threshold: metric.threshold,
                    share_of_data: metric.share_of_data,
                })
                .collect()
            }),
            lifetime: verdict.lifetime_deadline_ms.map(&to_wall),
        }
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
#[cfg(test)]
#[path = "watching_tests.rs"]
mod tests;
