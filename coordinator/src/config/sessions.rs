//! What sessions get, and how long they live.

use super::ConfigError;
use super::told::Told;
use longshore_common::limits::{
    Combine, IdleAction, IdlePolicy, KEEP_MAX, Metric, Operator, UtilizationPolicy, Work,
};
use longshore_core::model::{LifeSettings, SessionDefaults, WatchdogSettings};
use serde::Deserialize;

/// `[services.sessions]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// Image of a session that names none; empty = there is none.
    pub default_image: String,
    /// Image of system sessions; empty = there are none.
    pub system_image: String,
    /// Cores of a session that names none.
    pub default_cpu: String,
    /// Memory of a session that names none.
    pub default_mem: String,
    /// Priority of a session that names none.
    pub default_priority: u8,
    /// Tasks an array may have.
    pub array_tasks: u32,
    /// Administrators may reach into sessions of others; each use is recorded.
    pub admin_exec: bool,
    /// How often a lifetime may be extended whose keypair policy does not say.
    pub extend_max: u32,
    /// By how many seconds at once.
    pub extend_step_s: i64,
    /// Seconds between the stop signal and the kill where nobody says.
    pub stop_grace_s: u32,
    /// Seconds before the end of a lifetime, or of a drain of its node, at which the user of a
    /// session is warned. Idleness, and a lifetime beside rules of idleness, go by the list of
    /// those rules.
    pub warn_before_s: Vec<u32>,
    /// When sessions count as unused whose keypair policy does not say. In force for what is
    /// submitted after the start.
    pub idle: Idle,
    /// Stops sessions without a sign of life.
    pub watchdog: WatchdogSection,
}

impl Sessions {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut told = Told::default();
        if self.default_priority > 100 {
            told.wrong("services.sessions.default_priority", "must be 0 to 100");
        }
        if !(1..=1_000_000).contains(&self.array_tasks) {
            told.wrong("services.sessions.array_tasks", "must be 1 to 1000000");
        }
        let idle = &self.idle;
        if idle.combine.parse::<Combine>().is_err() {
            told.wrong("services.sessions.idle.combine", "must be all or any");
        }
        if self.extend_max > 100 {
            told.wrong("services.sessions.extend_max", "must be 0 to 100");
        }
        if !(1..=604_800).contains(&self.extend_step_s) {
            told.wrong("services.sessions.extend_step_s", "must be 1 to 604800");
        }
        if !(0..=15_552_000).contains(&idle.new_user_grace_s) {
            let range = "must be 0 to 15552000";
            told.wrong("services.sessions.idle.new_user_grace_s", range);
        }
        if idle.timeout_s > 15_552_000 || idle.window_s > 15_552_000 {
            told.wrong(
                "services.sessions.idle",
                "times must be at most 15552000 seconds",
            );
        }
        if idle.cpu_pct > 100 || idle.gpu_pct > 100 || idle.warn_s.len() > 16 {
            told.wrong(
                "services.sessions.idle",
                "percents are 0 to 100, and there are at most 16 warnings",
            );
        }
        if self.stop_grace_s > 600 {
            told.wrong("services.sessions.stop_grace_s", "must be 0 to 600");
        }
        let leads = &self.warn_before_s;
        if leads.len() > 16 || leads.iter().any(|s| !(1..=15_552_000).contains(s)) {
            told.wrong(
                "services.sessions.warn_before_s",
                "must be at most 16 times of 1 to 15552000 seconds",
            );
        }
        told.add(self.watchdog.check());
        told.end()
    }

    /// How long sessions live where no policy says so.
    #[must_use]
    pub fn lives(&self) -> LifeSettings {
        LifeSettings {
            extend_max: self.extend_max,
            extend_step_s: self.extend_step_s,
            new_user_grace_s: self.idle.new_user_grace_s,
            stop_grace_s: self.stop_grace_s,
            warn_before_s: self.warn_before_s.clone(),
            work: Work {
                cpu_pct: self.idle.cpu_pct,
                gpu_pct: self.idle.gpu_pct,
            },
        }
    }
}

/// `[services.sessions.watchdog]`, in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct WatchdogSection {
    /// False: nothing is looked at.
    pub enabled: bool,
    /// Without a sign of life for longer a RUNNING session is stopped; at least 60.
    pub threshold_sec: i64,
    /// Between two looks; at least 60.
    pub watch_interval_sec: i64,
    /// Without output, use and work for so long a session counts as stalled; 0 = none does, else at
    /// least 60.
    pub stalled_after_sec: i64,
}

impl Default for WatchdogSection {
    fn default() -> Self {
        let known = WatchdogSettings::default();
        Self {
            enabled: known.enabled,
            threshold_sec: known.threshold_s,
            watch_interval_sec: known.interval_s,
            stalled_after_sec: known.stalled_after_s,
        }
    }
}

impl WatchdogSection {
    fn check(&self) -> Result<(), ConfigError> {
        let key = "services.sessions.watchdog.stalled_after_sec";
        match self.stalled_after_sec {
            0 | 60.. => Ok(()),
            _ => Err(ConfigError(format!("{key}: must be 0 or at least 60"))),
        }
    }

    /// As data.
    #[must_use]
    pub const fn settings(&self) -> WatchdogSettings {
        WatchdogSettings {
            enabled: self.enabled,
            threshold_s: self.threshold_sec,
            interval_s: self.watch_interval_sec,
            stalled_after_s: self.stalled_after_sec,
        }
    }
}

/// `[services.sessions.idle]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Idle {
    /// Seconds without use; 0 = nobody is stopped for it.
    pub timeout_s: u32,
    /// Seconds of running before any verdict.
    pub initial_grace_s: u32,
    /// Seconds over which work is averaged; 0 = only use counts, not work.
    pub window_s: u32,
    /// Below this mean share of the granted cores a session does no work, in percent.
    pub cpu_pct: u32,
    /// The same for its GPUs.
    pub gpu_pct: u32,
    /// `all`: stopped when nobody uses it and it does no work; `any`: when one of them holds.
    pub combine: String,
    /// Seconds before the stop at which its user is warned.
    pub warn_s: Vec<u32>,
    /// For so many seconds after a person was made no lifetime and no rule of idleness counts
    /// for its sessions; 0 = they count from the beginning.
    pub new_user_grace_s: i64,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            timeout_s: 0,
            initial_grace_s: 300,
            window_s: 900,
            cpu_pct: 5,
            gpu_pct: 5,
            combine: "all".to_owned(),
            warn_s: vec![3600, 900, 300],
            new_user_grace_s: 0,
        }
    }
}

impl Idle {
    /// The rules as data; none when nobody is stopped.
    #[must_use]
    pub fn policy(&self) -> Option<IdlePolicy> {
        let utilization = (self.window_s > 0).then(|| UtilizationPolicy {
            window_s: self.window_s,
            operator: Operator::And,
            applies_to_batch: false,
            thresholds: vec![(Metric::Cpu, self.cpu_pct), (Metric::Gpu, self.gpu_pct)],
        });
        (self.timeout_s > 0).then(|| IdlePolicy {
            action: IdleAction::Stop,
            combine: self.combine.parse().unwrap_or(Combine::All),
            initial_grace_s: self.initial_grace_s,
            warn_s: self.warn_s.clone(),
            interaction_timeout_s: Some(self.timeout_s),
            utilization,
            timeout_s: self.timeout_s,
            keep_max: KEEP_MAX,
        })
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            default_image: String::new(),
            system_image: String::new(),
            default_cpu: "1".to_owned(),
            default_mem: "2g".to_owned(),
            default_priority: 10,
            array_tasks: SessionDefaults::default().array_tasks,
            admin_exec: false,
            extend_max: LifeSettings::default().extend_max,
            extend_step_s: LifeSettings::default().extend_step_s,
            stop_grace_s: LifeSettings::default().stop_grace_s,
            warn_before_s: LifeSettings::default().warn_before_s,
            idle: Idle::default(),
            watchdog: WatchdogSection::default(),
        }
    }
}
