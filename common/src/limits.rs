//! Limits as data. The numbers come from policies through the coordinator; what follows from
//! them is worked out by [`crate::judge`].

use crate::session::{SessionType, words};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What one agent enforces on one session without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLimits {
    /// Whether and when the session's life ends.
    pub lifetime: Option<Deadline>,
    /// Longest run of the command in seconds, counted from its start.
    pub batch_timeout_s: Option<u32>,
    /// When nobody uses it.
    pub idle: Option<IdlePolicy>,
    /// Seconds between the stop signal and the kill when a limit ends it.
    pub grace_s: u32,
    /// Seconds of its life counted from the start of its process, as long as the coordinator
    /// has not heard of that start and `lifetime` cannot say an instant.
    pub from_start_s: Option<i64>,
    /// Until then its owner is new here, and no rule of idleness is judged.
    pub new_user_until: Option<Deadline>,
    /// Somebody wants it kept.
    pub kept: Option<Kept>,
    /// When to warn of the end of its lifetime, unless `idle` says it, and of a node that is
    /// emptied: seconds before the stop, longest first.
    #[serde(default = "warn_s")]
    pub warn_s: Vec<u32>,
    /// From which figures on it counts as doing something. Nothing is stopped by it.
    #[serde(default)]
    pub work: Work,
}

/// Above which figures a session counts as doing something, whatever its policy is: a program
/// that only computes writes nothing and is used by nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// Processor time in percent of what was granted, 0 to 100.
    pub cpu_pct: u32,
    /// Utilisation of any of its GPUs in percent, 0 to 100.
    pub gpu_pct: u32,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            cpu_pct: 5,
            gpu_pct: 5,
        }
    }
}

impl Work {
    /// Whether a sample of processor time, in tenths of a percent of what was granted, is work.
    #[must_use]
    pub const fn is_cpu(self, tenths: u32) -> bool {
        tenths > self.cpu_pct.saturating_mul(10)
    }

    /// Whether the utilisation of a GPU, in percent, is work.
    #[must_use]
    pub fn is_gpu(self, percent: u8) -> bool {
        u32::from(percent) > self.gpu_pct
    }
}

/// When to warn of a stop where nothing else is said: seconds before it.
pub const WARN_S: [u32; 3] = [3600, 900, 300];

fn warn_s() -> Vec<u32> {
    WARN_S.to_vec()
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            lifetime: None,
            batch_timeout_s: None,
            idle: None,
            grace_s: 0,
            from_start_s: None,
            new_user_until: None,
            kept: None,
            warn_s: warn_s(),
            work: Work::default(),
        }
    }
}

/// That somebody wanted a session kept, and for how long.
///
/// Like [`Deadline`], it is counted on the agent's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// When it was said, in the coordinator's time.
    pub at: Timestamp,
    /// How long ago that was when the set was made, in milliseconds.
    pub ago_ms: i64,
    /// From then on it is not stopped for being idle for so many seconds.
    pub hold_s: u32,
}

impl Kept {
    /// Until when it is held, in the coordinator's time.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        self.at.plus_s(self.hold_s as i64)
    }
}

/// An instant in the coordinator's time, with how far away it was when it was sent.
///
/// The agent counts the remaining time on its own boot clock, so that stepping
/// either wall clock moves no deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// The instant.
    pub at: Timestamp,
    /// Milliseconds left when the set was made; negative once it has passed.
    pub remaining_ms: i64,
}

words! {
    /// Whether all checks or any of them end a session.
    Combine {
        /// Only when every check that applies says so.
        All = "all",
        /// As soon as one does.
        Any = "any",
    }
}

words! {
    /// Whether idle sessions are stopped or only listed.
    IdleAction {
        /// Stopped.
        Stop = "stop",
        /// Only reported.
        Report = "report",
    }
}

words! {
    /// Whether all metrics must be low or one is enough.
    Operator {
        /// All of them.
        And = "and",
        /// One is enough.
        Or = "or",
    }
}

words! {
    /// A measured figure of a container, in percent of what was granted.
    Metric {
        /// Processor time.
        Cpu = "cpu",
        /// Memory without the file cache.
        Mem = "mem",
        /// Mean utilisation of its GPUs.
        Gpu = "gpu",
        /// GPU memory.
        GpuMem = "gpu-mem",
    }
}

/// When a session counts as unused. Times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdlePolicy {
    /// Stop, or only report.
    pub action: IdleAction,
    /// How the two checks go together.
    pub combine: Combine,
    /// No verdict before so many seconds of running.
    pub initial_grace_s: u32,
    /// When to warn: seconds before the stop, longest first.
    pub warn_s: Vec<u32>,
    /// The check for use by people; none = switched off.
    pub interaction_timeout_s: Option<u32>,
    /// The check for work; none = switched off.
    pub utilization: Option<UtilizationPolicy>,
    /// How long one `keep` holds; 0 = as long as the check for use by people waits.
    #[serde(default)]
    pub timeout_s: u32,
    /// Keeps in a row without measured use in between.
    #[serde(default = "keep_max")]
    pub keep_max: u32,
}

/// Keeps in a row where nothing else is said.
pub const KEEP_MAX: u32 = 4;

const fn keep_max() -> u32 {
    KEEP_MAX
}

/// Whether the check for use by people looks at sessions of this type.
#[must_use]
pub const fn used_by_people(kind: SessionType) -> bool {
    matches!(kind, SessionType::Interactive | SessionType::System)
}

/// A system session ends after so many seconds without a connection: time to lose one and take
/// it up again.
const SYSTEM_IDLE_S: u32 = 600;

impl IdlePolicy {
    /// The rule of system sessions: they end when nobody has had a connection for a while.
    #[must_use]
    pub fn of_system() -> Self {
        Self {
            action: IdleAction::Stop,
            combine: Combine::All,
            initial_grace_s: 0,
            warn_s: vec![SYSTEM_IDLE_S / 2],
            interaction_timeout_s: Some(SYSTEM_IDLE_S),
            utilization: None,
            timeout_s: 0,
            keep_max: KEEP_MAX,
        }
    }

    /// Seconds for which one `keep` holds a session.
    #[must_use]
    pub fn hold_s(&self) -> u32 {
        match self.timeout_s {
            0 => self.interaction_timeout_s.unwrap_or(0),
            s => s,
        }
    }

    /// Whether any check looks at sessions of this type.
    #[must_use]
    pub fn judges(&self, kind: SessionType) -> bool {
        let by_people = used_by_people(kind) && self.interaction_timeout_s.is_some_and(|s| s > 0);
        by_people || self.utilization.as_ref().is_some_and(|u| u.judges(kind))
    }
}

impl UtilizationPolicy {
    /// Whether it looks at sessions of this type.
    #[must_use]
    pub const fn judges(&self, kind: SessionType) -> bool {
        let applies = match kind {
            SessionType::Interactive => true,
            SessionType::Batch => self.applies_to_batch,
            // Who uses a service is counted at its door; who moves files ends it.
            SessionType::Inference | SessionType::System => false,
        };
        applies && self.window_s > 0
    }
}

/// The check for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtilizationPolicy {
    /// Length of the window in seconds.
    pub window_s: u32,
    /// How the metrics go together.
    pub operator: Operator,
    /// Whether batch sessions are judged too.
    pub applies_to_batch: bool,
    /// Thresholds in percent; a metric that is not listed is not looked at.
    pub thresholds: Vec<(Metric, u32)>,
}
