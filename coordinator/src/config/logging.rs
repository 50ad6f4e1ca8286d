//! What is written down.

use super::ConfigError;
use serde::Deserialize;

/// `[logging]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// `error`, `warn`, `info`, `debug`, `trace`, or filters per module.
    pub level: String,
    /// `text`, or `json` (on a terminal it is text all the same).
    pub format: LogFormat,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// JSON when the output is no terminal.
    Json,
}

impl Logging {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let filter = tracing_subscriber::EnvFilter::builder().parse(&self.level);
        if let Err(error) = filter {
            return Err(ConfigError(format!("logging.level: {error}")));
        }
        Ok(())
    }
}
