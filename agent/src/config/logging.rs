//! The agent's own log.

use super::ConfigError;
use crate::runtime::docker::without_bodies;
use longshore_logging::{Form, LogFile, Order, Target, fault, filters};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// `[logging]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// `error`, `warn`, `info`, `debug`, `trace`, or filters per module.
    pub level: String,
    /// The same words by module, over `level`.
    pub levels: BTreeMap<String, String>,
    /// Of the coordinator alone, which may read the same file.
    pub access_log: bool,
    /// How lines look.
    pub format: Form,
    /// Where lines go.
    pub target: Target,
    /// The file, where they go into one.
    #[serde(deserialize_with = "file")]
    pub file: LogFile,
}

fn file<'de, D: Deserializer<'de>>(from: D) -> Result<LogFile, D::Error> {
    LogFile::read("agent", from)
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            levels: BTreeMap::new(),
            access_log: true,
            format: Form::Auto,
            target: Target::Stderr,
            file: LogFile::of("agent"),
        }
    }
}

impl Logging {
    /// What the log is told.
    #[must_use]
    pub fn order(&self) -> Order {
        Order {
            filters: without_bodies(&filters(&self.level, &self.levels)),
            form: self.format,
            target: self.target,
            file: self.file.clone(),
        }
    }

    /// That of a newer configuration, as far as it acts without a restart.
    pub(super) fn reloaded(&self, new: Self) -> Self {
        Self {
            format: self.format,
            ..new
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some((key, text)) = fault(&self.level, &self.levels) {
            return Err(ConfigError(format!("logging.{key}: {text}")));
        }
        match self.file.fault() {
            Some((key, text)) => Err(ConfigError(format!("logging.file.{key}: {text}"))),
            None => Ok(()),
        }
    }
}
