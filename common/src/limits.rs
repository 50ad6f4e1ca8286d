//! Limits as data. The verdicts are the agent's (`limits`), the numbers come from
//! policies through the coordinator.

use crate::session::words;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What one agent enforces on one session without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SessionLimits {
    /// Whether and when the session's life ends.
    pub lifetime: Option<Deadline>,
    /// Longest run of the command in seconds, counted from its start.
    pub batch_timeout_s: Option<u32>,
    /// When nobody uses it.
    pub idle: Option<IdlePolicy>,
    /// Seconds between the stop signal and the kill when a limit ends it.
    pub grace_s: u32,
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
