//! What is remembered of a session's use: instants of activity, open connections, and
//! the metrics of the last window in buckets.
//!
//! The supervisor pushes what it sees and never looks inside; [`super::judge`] folds the
//! pushed samples into buckets, because only the policy says how long those are. Samples
//! lost in a restart are missing data, and missing data never stops anything. An instant of
//! activity that is lost does: whoever restarts pushes the last one again.

use crate::limits::{Metric, UtilizationPolicy};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Tenths of a percent in the whole.
pub const WHOLE: u32 = 1000;

/// Parts into which a bucket's mean is rounded down, per tenth of a percent.
const FINE: u64 = 1000;

/// Most buckets of a window.
const BUCKETS_MAX: i64 = 240;

/// Seconds between two samples; no bucket is shorter.
const SAMPLE_S: i64 = 5;

/// Most samples kept between two verdicts: hours of one container's. More come only
/// when nobody asks for verdicts, and then the oldest matter least.
const PENDING_MAX: usize = 16_384;

/// Where a metric's figures come from on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Source {
    /// The container was granted nothing of it: the metric is left out.
    #[default]
    NotGranted,
    /// Granted, but nothing here can measure it: it has no deadline.
    Absent,
    /// Samples come, or may come.
    Measured,
}

/// What is remembered of one container.
#[derive(Debug, Clone, Default)]
pub struct IdleHistory {
    last_activity_ms: Option<i64>,
    /// The same without `keep`, which is said and not measured.
    measured_ms: Option<i64>,
    open: u32,
    kept_until_ms: Option<i64>,
    sources: [Source; Metric::ALL.len()],
    pending: VecDeque<(i64, Metric, u32)>,
    window: Option<Window>,
}

/// An [`IdleHistory`] as it is written down: what a process that follows could not learn
/// otherwise. At most a window of buckets for each metric.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeptHistory {
    last_activity_ms: Option<i64>,
    measured_ms: Option<i64>,
    kept_until_ms: Option<i64>,
    /// Without them no metric has a deadline before each was measured again, and a warning that
    /// stands is taken back for it.
    sources: [Source; Metric::ALL.len()],
    window: Option<Window>,
}

/// The state of one metric, for reports to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricReport {
    /// Which metric.
    pub metric: Metric,
    /// Mean over the window in tenths of a percent; none until the window is full.
    pub mean_tenths: Option<u32>,
    /// Threshold in percent.
    pub threshold: u32,
    /// How much of the window holds data, in percent.
    pub share_of_data: u32,
}

/// How much `used` is of `granted`, in tenths of a percent, at most [`WHOLE`]. Nothing
/// granted counts as nothing used.
#[must_use]
pub fn tenths(used: i64, granted: i64) -> u32 {
    if used <= 0 || granted <= 0 {
        return 0;
    }
    let share = i128::from(used) * i128::from(WHOLE) / i128::from(granted);
    u32::try_from(share).map_or(WHOLE, |share| share.min(WHOLE))
}

/// The mean utilisation of several devices, each in percent, in tenths of a percent.
/// Devices that do not tell are left out; none if no device tells.
#[must_use]
pub fn mean_tenths(percents: &[Option<u8>]) -> Option<u32> {
    let known = percents.iter().flatten();
    let (sum, count) = known.fold((0_u32, 0_u32), |(sum, count), percent| {
        (sum.saturating_add(u32::from(*percent) * 10), count + 1)
    });
    sum.checked_div(count)
}

impl IdleHistory {
    /// An empty history. A metric that is not named counts as not granted.
    #[must_use]
    pub fn new(sources: &[(Metric, Source)]) -> Self {
        let mut history = Self::default();
        for (metric, source) in sources {
            history.set_source(*metric, *source);
        }
        history
    }

    /// What is worth keeping of it. Samples that no verdict has taken in yet are not.
    #[must_use]
    pub fn keepsake(&self) -> KeptHistory {
        KeptHistory {
            last_activity_ms: self.last_activity_ms,
            measured_ms: self.measured_ms,
            kept_until_ms: self.kept_until_ms,
            sources: self.sources,
            window: self.window.clone(),
        }
    }

    /// Takes up what was kept, in the same boot. What came since then is missing, and a window
    /// that cannot be one is left out.
    pub fn restore(&mut self, kept: KeptHistory) {
        self.last_activity_ms = self.last_activity_ms.max(kept.last_activity_ms);
        self.measured_ms = self.measured_ms.max(kept.measured_ms);
        self.kept_until_ms = self.kept_until_ms.max(kept.kept_until_ms);
        self.sources = kept.sources;
        self.window = kept.window.filter(Window::is_sound);
    }

    /// Granted, but nobody looked yet whether it can be measured here: what was known stays.
    pub fn not_looked(&mut self, metric: Metric) {
        let source = &mut self.sources[slot(metric)];
        if *source == Source::NotGranted {
            *source = Source::Absent;
        }
    }

    /// Tells where a metric comes from from now on.
    pub fn set_source(&mut self, metric: Metric, source: Source) {
        self.sources[slot(metric)] = source;
    }

    /// Something a person did, at this instant of the boot clock.
    pub fn push_activity(&mut self, at_ms: i64) {
        self.last_activity_ms = self.last_activity_ms.max(Some(at_ms));
        self.measured_ms = self.measured_ms.max(Some(at_ms));
    }

    /// A connection that counts as use for as long as it is open.
    pub fn open_connection(&mut self, at_ms: i64) {
        self.open = self.open.saturating_add(1);
        self.push_activity(at_ms);
    }

    /// One of those connections ended.
    pub fn close_connection(&mut self, at_ms: i64) {
        self.open = self.open.saturating_sub(1);
        self.push_activity(at_ms);
    }

    /// The owner wants it kept: use by a person, and no idle stop for `hold_ms`.
    pub fn keep(&mut self, at_ms: i64, hold_ms: i64) {
        self.last_activity_ms = self.last_activity_ms.max(Some(at_ms));
        let until = at_ms.saturating_add(hold_ms);
        self.kept_until_ms = self.kept_until_ms.max(Some(until));
    }

    /// One sample of a metric, in tenths of a percent of what was granted. Samples of a
    /// metric come in the order of time; one that is missing is simply not pushed.
    pub fn push_sample(&mut self, at_ms: i64, metric: Metric, tenths: u32) {
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((at_ms, metric, tenths.min(WHOLE)));
    }

    /// When a person last did something, by what was seen.
    #[must_use]
    pub const fn last_activity_ms(&self) -> Option<i64> {
        self.last_activity_ms
    }

    /// When use was last measured, at the last verdict: by people, or by a metric that
    /// reached its threshold. `keep` is none.
    #[must_use]
    pub fn used_ms(&self) -> Option<i64> {
        let series = self.window.iter().flat_map(|window| &window.series);
        let busy = series.filter_map(|series| series.busy_ms).max();
        self.measured_ms.max(busy)
    }

    /// When a person last did something, by what was seen and not said by `keep`.
    #[must_use]
    pub const fn measured_activity_ms(&self) -> Option<i64> {
        self.measured_ms
    }

    /// Connections open now that count.
    #[must_use]
    pub const fn open_connections(&self) -> u32 {
        self.open
    }

    /// How each metric with a threshold stood at the last verdict.
    #[must_use]
    pub fn metric_reports(&self, policy: &UtilizationPolicy) -> Vec<MetricReport> {
        let Some(window) = &self.window else {
            return Vec::new();
        };
        let judged = policy.thresholds.iter();
        judged
            .filter(|(metric, _)| self.source(*metric) == Source::Measured)
            .map(|(metric, threshold)| {
                window.series[slot(*metric)].report(*metric, *threshold, window.shape)
            })
            .collect()
    }

    pub(super) fn source(&self, metric: Metric) -> Source {
        self.sources[slot(metric)]
    }

    pub(super) const fn kept_until_ms(&self) -> Option<i64> {
        self.kept_until_ms
    }

    /// Brings the buckets up to `now_ms`. Another shape collects anew.
    pub(super) fn fold(&mut self, shape: Shape, policy: &UtilizationPolicy, now_ms: i64) {
        let window = match &mut self.window {
            Some(window) if window.shape == shape => window,
            other => other.insert(Window::new(shape)),
        };
        if window.thresholds != policy.thresholds {
            window.thresholds.clone_from(&policy.thresholds);
            for series in &mut window.series {
                series.low_since_ms = None;
            }
        }
        let threshold = |metric: Metric| {
            let found = policy.thresholds.iter().find(|(m, _)| *m == metric);
            found.map_or(0, |(_, threshold)| *threshold)
        };
        while let Some((at_ms, metric, tenths)) = self.pending.pop_front() {
            if let Some(bucket) = shape.bucket(at_ms.min(now_ms)) {
                let series = &mut window.series[slot(metric)];
                series.close_until(bucket, threshold(metric), shape);
                series.push(bucket, tenths);
            }
        }
        let Some(current) = shape.bucket(now_ms) else {
            return;
        };
        for metric in Metric::ALL {
            window.series[slot(*metric)].close_until(current, threshold(*metric), shape);
        }
    }

    /// See [`Series::deadline`]; `fold` comes first.
    pub(super) fn metric_deadline(&self, metric: Metric, threshold: u32) -> Option<i64> {
        let window = self.window.as_ref()?;
        window.series[slot(metric)].deadline(threshold, window.shape)
    }

    /// Whether the last full bucket has data, below the threshold.
    pub(super) fn is_quiet(&self, metric: Metric, threshold: u32) -> bool {
        let Some(window) = &self.window else {
            return false;
        };
        let last = window.series[slot(metric)].closed.back();
        matches!(last, Some(Some(mean)) if u64::from(*mean) < limit(threshold, 1))
    }
}

fn slot(metric: Metric) -> usize {
    match metric {
        Metric::Cpu => 0,
        Metric::Mem => 1,
        Metric::Gpu => 2,
        Metric::GpuMem => 3,
    }
}

/// The rule: data in four fifths of the buckets, and their mean below the threshold.
fn is_low(sum: u64, filled: i64, threshold: u32, shape: Shape) -> bool {
    let buckets = u64::try_from(filled).unwrap_or(0);
    filled * 10 >= shape.count * 8 && sum < limit(threshold, buckets)
}

/// What the sum of so many buckets must be below.
fn limit(threshold: u32, buckets: u64) -> u64 {
    u64::from(threshold) * 10 * FINE * buckets
}

/// How a window is cut into buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    /// Where the first bucket begins: the end of the grace.
    pub(super) origin_ms: i64,
    pub(super) bucket_ms: i64,
    /// Buckets in the window.
    pub(super) count: i64,
}

impl Shape {
    pub(super) fn new(origin_ms: i64, window_s: u32) -> Self {
        let window_s = i64::from(window_s.max(1));
        let bucket_s = ceil(window_s, BUCKETS_MAX).max(SAMPLE_S);
        Self {
            origin_ms,
            bucket_ms: bucket_s * 1000,
            count: ceil(window_s, bucket_s),
        }
    }

    pub(super) const fn window_ms(self) -> i64 {
        self.bucket_ms * self.count
    }

    /// The bucket that holds an instant; none before the first.
    fn bucket(self, at_ms: i64) -> Option<i64> {
        let since = at_ms.saturating_sub(self.origin_ms);
        (since >= 0).then(|| since / self.bucket_ms)
    }

    /// Where a bucket begins, which is the boundary before it.
    fn boundary_ms(self, bucket: i64) -> i64 {
        self.origin_ms
            .saturating_add(bucket.saturating_mul(self.bucket_ms))
    }

    /// The first boundary after `now_ms`.
    pub(super) fn next_boundary_ms(self, now_ms: i64) -> i64 {
        self.boundary_ms(self.bucket(now_ms).map_or(0, |bucket| bucket + 1))
    }
}

const fn ceil(value: i64, by: i64) -> i64 {
    (value + by - 1) / by
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    shape: Shape,
    thresholds: Vec<(Metric, u32)>,
    series: [Series; Metric::ALL.len()],
}

impl Window {
    fn new(shape: Shape) -> Self {
        Self {
            shape,
            thresholds: Vec::new(),
            series: Default::default(),
        }
    }

    /// Whether one that was read can be reckoned with.
    fn is_sound(&self) -> bool {
        let Shape {
            bucket_ms, count, ..
        } = self.shape;
        let of_count = |series: &Series| {
            i64::try_from(series.closed.len()).is_ok_and(|n| n <= count) && series.open >= 0
        };
        bucket_ms > 0 && (1..=BUCKETS_MAX).contains(&count) && self.series.iter().all(of_count)
    }
}

/// The buckets of one metric.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Series {
    /// Means of the full buckets, the newest last, at most one window of them; none =
    /// missing.
    closed: VecDeque<Option<u32>>,
    /// Number of the bucket that is being filled; it begins at the last boundary.
    open: i64,
    sum: u64,
    samples: u64,
    /// The boundary since which every boundary found it low. Without it a verdict that
    /// comes late would not know when the deadline was.
    low_since_ms: Option<i64>,
    /// The end of the last bucket that reached the threshold.
    busy_ms: Option<i64>,
}

impl Series {
    fn push(&mut self, bucket: i64, tenths: u32) {
        // A sample for a bucket already judged comes too late.
        if bucket == self.open {
            self.sum += u64::from(tenths);
            self.samples += 1;
        }
    }

    fn close_until(&mut self, bucket: i64, threshold: u32, shape: Shape) {
        if bucket - self.open > shape.count + 1 {
            // A whole window without anything: what came before does not count any more.
            *self = Self {
                open: bucket,
                busy_ms: self.busy_ms,
                ..Self::default()
            };
            let all_missing = (0..shape.count).map(|_| None);
            self.closed.extend(all_missing);
            return;
        }
        while self.open < bucket {
            let mean = (self.sum * FINE).checked_div(self.samples);
            self.closed
                .push_back(mean.and_then(|mean| u32::try_from(mean).ok()));
            if self.closed.len() as i64 > shape.count {
                self.closed.pop_front();
            }
            self.open += 1;
            (self.sum, self.samples) = (0, 0);
            let low = self.is_low(threshold, shape);
            let boundary = shape.boundary_ms(self.open);
            let mean = self.closed.back().copied().flatten();
            if threshold > 0 && mean.is_some_and(|mean| u64::from(mean) >= limit(threshold, 1)) {
                self.busy_ms = Some(boundary);
            }
            self.low_since_ms = low.then(|| self.low_since_ms.unwrap_or(boundary));
        }
    }

    /// The first boundary, the last one included, at which the metric is low if it stays
    /// at 0 from now on. None if even that is not below the threshold.
    ///
    /// The bucket being filled counts as 0 as well: whatever it turns out to be is not
    /// less, so the deadline only ever moves away.
    fn deadline(&self, threshold: u32, shape: Shape) -> Option<i64> {
        if self.low_since_ms.is_some() {
            return self.low_since_ms;
        }
        let first = (shape.count - self.open).max(0);
        let (mut sum, mut filled) = self.totals(first, shape);
        let kept = usize::try_from(shape.count - first).unwrap_or(0);
        let mut oldest = self.closed.range(self.closed.len().saturating_sub(kept)..);
        for more in first..=shape.count {
            if is_low(sum, filled + more, threshold, shape) {
                return Some(shape.boundary_ms(self.open + more));
            }
            if let Some(Some(mean)) = oldest.next() {
                sum -= u64::from(*mean);
                filled -= 1;
            }
        }
        None
    }

    /// Whether the metric is low at the last boundary.
    fn is_low(&self, threshold: u32, shape: Shape) -> bool {
        let (sum, filled) = self.totals(0, shape);
        self.open >= shape.count && is_low(sum, filled, threshold, shape)
    }

    /// Sum and number of the buckets with data that are still in the window `more`
    /// buckets after the last boundary.
    fn totals(&self, more: i64, shape: Shape) -> (u64, i64) {
        let keep = usize::try_from(shape.count - more).unwrap_or(0);
        let newest = self.closed.iter().rev().take(keep).flatten();
        newest.fold((0, 0), |(sum, filled), mean| {
            (sum + u64::from(*mean), filled + 1)
        })
    }

    fn report(&self, metric: Metric, threshold: u32, shape: Shape) -> MetricReport {
        let (sum, filled) = self.totals(0, shape);
        let full = self.open >= shape.count;
        let mean = u64::try_from(filled)
            .ok()
            .and_then(|filled| (sum / FINE).checked_div(filled));
        MetricReport {
            metric,
            mean_tenths: mean
                .filter(|_| full)
                .and_then(|mean| u32::try_from(mean).ok()),
            threshold,
            share_of_data: u32::try_from(filled * 100 / shape.count).unwrap_or(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_was_granted() {
        assert_eq!(tenths(5 << 30, 10 << 30), 500);
        assert_eq!(tenths(20, 10), WHOLE);
        assert_eq!((tenths(1, 0), tenths(-1, 1)), (0, 0));
        assert_eq!(mean_tenths(&[Some(50), Some(0), None]), Some(250));
        assert_eq!(mean_tenths(&[None]), None);
    }

    #[test]
    fn windows_are_cut_into_whole_buckets() {
        for (window_s, bucket_s, count) in [(60, 5, 12), (3600, 15, 240), (900, 5, 180), (7, 5, 2)]
        {
            let shape = Shape::new(0, window_s);
            assert_eq!((shape.bucket_ms, shape.count), (bucket_s * 1000, count));
        }
    }

    fn judged(
        history: &mut IdleHistory,
        warned: &mut crate::judge::WarnState,
        at_s: i64,
    ) -> crate::judge::Verdict {
        use crate::limits::{Combine, IdleAction, IdlePolicy, Operator, SessionLimits};
        let idle = IdlePolicy {
            action: IdleAction::Stop,
            combine: Combine::All,
            initial_grace_s: 0,
            warn_s: Vec::new(),
            interaction_timeout_s: None,
            utilization: Some(UtilizationPolicy {
                window_s: 60,
                operator: Operator::And,
                applies_to_batch: false,
                thresholds: vec![(Metric::Gpu, 10)],
            }),
            timeout_s: 0,
            keep_max: 4,
        };
        let limits = SessionLimits {
            idle: Some(idle),
            ..SessionLimits::default()
        };
        let clock = crate::judge::SessionClock {
            created_at_ms: 0,
            started_at_ms: 0,
            new_user_until_ms: None,
            lifetime_deadline_ms: None,
        };
        let kind = crate::session::SessionType::Interactive;
        crate::judge::judge(&limits, kind, &clock, history, warned, at_s * 1000)
    }

    #[test]
    fn what_was_kept_goes_on_with_a_gap_and_warns_of_nothing_twice() {
        let source = [(Metric::Gpu, Source::Measured)];
        let (mut history, mut warned) = (IdleHistory::new(&source), Default::default());
        // Half busy for 30 s, then nothing: low at 80, and warned half a window before that.
        let mut warnings = 0;
        for at_s in (0..=50).step_by(5) {
            let tenths = if at_s < 30 { 500 } else { 0 };
            history.push_sample(at_s * 1000, Metric::Gpu, tenths);
            let verdict = judged(&mut history, &mut warned, at_s);
            warnings += verdict.warn.len();
            assert!(at_s < 30 || verdict.checks[1] == Some(80_000), "{at_s}");
        }
        assert_eq!(warnings, 1);
        let bytes = postcard::to_stdvec(&(history.keepsake(), &warned)).unwrap();
        assert!(bytes.len() < 8 * 1024, "{}", bytes.len());

        // Ten seconds nobody looked: they are missing, and the mean of the others is low at 85.
        let (kept, mut warned): (KeptHistory, crate::judge::WarnState) =
            postcard::from_bytes(&bytes).unwrap();
        let mut history = IdleHistory::default();
        history.restore(kept);
        let verdict = judged(&mut history, &mut warned, 65);
        assert_eq!(verdict.checks[1], Some(85_000));
        assert_eq!(verdict.idle_deadline_ms, Some(85_000));
        assert!(verdict.warn.is_empty() && verdict.idle, "{verdict:?}");
        // Without it everything before is missing.
        let mut anew = IdleHistory::new(&source);
        let verdict = judged(&mut anew, &mut Default::default(), 65);
        assert_eq!(verdict.checks[1], Some(115_000));
    }

    #[test]
    fn a_window_that_cannot_be_one_is_left_out() {
        let kept = |shape: Shape, closed: usize| KeptHistory {
            last_activity_ms: Some(7),
            window: Some(Window {
                series: std::array::from_fn(|_| Series {
                    closed: (0..closed).map(|_| None).collect(),
                    ..Series::default()
                }),
                ..Window::new(shape)
            }),
            ..KeptHistory::default()
        };
        let good = Shape::new(0, 60);
        let shapes = [
            (good, 12, true),
            (good, 13, false),
            (
                Shape {
                    bucket_ms: 0,
                    ..good
                },
                0,
                false,
            ),
            (Shape { count: 0, ..good }, 0, false),
            (Shape { count: 241, ..good }, 0, false),
        ];
        for (shape, closed, sound) in shapes {
            let mut history = IdleHistory::default();
            history.restore(kept(shape, closed));
            assert_eq!(history.window.is_some(), sound, "{shape:?}");
            assert_eq!(history.last_activity_ms(), Some(7));
        }
    }
}
