//! What resource groups do that do not say.

use super::ConfigError;
use super::told::Told;
use longshore_common::session::PullRule;
use longshore_core::model::{
    Discipline, LifeSettings, NetworkSettings, SchedulerSettings, Selection,
};
use serde::Deserialize;

/// `[services.scheduler]`: the defaults of every resource group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Scheduler {
    /// `fifo`, `lifo`, `drf` in any case: order inside a priority.
    pub scheduler: String,
    /// `concentrated`, `dispersed`, `round-robin` in any case: which agent is taken.
    pub agent_selection: String,
    /// How often the head is tried before others pass it; 0 = they never do.
    pub retries_to_skip: i64,
    /// A head is charged at most one try per so many seconds.
    pub interval_s: i64,
    /// How often a session whose start failed goes back to PENDING; 0 = never.
    pub creation_retries: i64,
    /// A session PENDING for longer is cancelled, in seconds; 0 = never.
    pub pending_timeout_s: i64,
}

impl Default for Scheduler {
    fn default() -> Self {
        let SchedulerSettings {
            scheduler,
            agent_selection,
            retries_to_skip,
            interval_s,
            creation_retries,
            pending_timeout_s,
            idle: _,
            lives: _,
            pull: _,
            network: _,
            declare_lost_s: _,
        } = SchedulerSettings::default();
        Self {
            scheduler: scheduler.to_string(),
            agent_selection: agent_selection.to_string(),
            retries_to_skip: i64::from(retries_to_skip),
            interval_s: i64::from(interval_s),
            creation_retries: i64::from(creation_retries),
            pending_timeout_s: i64::from(pending_timeout_s),
        }
    }
}

impl Scheduler {
    /// Text and numbers are read here, not by the file's reader, so that what is said
    /// about a bad one names the range.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut told = Told::below("services.scheduler.");
        if let Err(error) = self.scheduler.parse::<Discipline>() {
            told.wrong("scheduler", error.to_string());
        }
        if let Err(error) = self.agent_selection.parse::<Selection>() {
            told.wrong("agent_selection", error.to_string());
        }
        for (key, value, range) in [
            ("retries_to_skip", self.retries_to_skip, 0..=1_000_000),
            ("interval_s", self.interval_s, 1..=86_400),
            ("creation_retries", self.creation_retries, 0..=100),
            ("pending_timeout_s", self.pending_timeout_s, 0..=315_360_000),
        ] {
            if !range.contains(&value) {
                let (low, high) = (range.start(), range.end());
                told.wrong(key, format!("must be {low} to {high}"));
            }
        }
        told.end()
    }

    /// The settings as data; what [`Config::load`] refuses falls back to its default.
    #[must_use]
    pub fn settings(&self) -> SchedulerSettings {
        let known = SchedulerSettings::default();
        let number = |value: i64, known: u32| u32::try_from(value).unwrap_or(known);
        SchedulerSettings {
            scheduler: self.scheduler.parse().unwrap_or(known.scheduler),
            agent_selection: self
                .agent_selection
                .parse()
                .unwrap_or(known.agent_selection),
            retries_to_skip: number(self.retries_to_skip, known.retries_to_skip),
            interval_s: number(self.interval_s, known.interval_s),
            creation_retries: number(self.creation_retries, known.creation_retries),
            pending_timeout_s: number(self.pending_timeout_s, known.pending_timeout_s),
            idle: None,                           // another section's
            lives: LifeSettings::default(),       // as well
            pull: PullRule::default(),            // as well
            network: NetworkSettings::default(),  // as well
            declare_lost_s: known.declare_lost_s, // as well
        }
    }
}
