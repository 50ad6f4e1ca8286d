//! What is written down.

use super::ConfigError;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Modules with a level of their own: more than the program has that anybody tells apart.
const MOST_LEVELS: usize = 64;
/// The words for how much is logged.
pub(super) const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];

/// `[logging]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// `error`, `warn`, `info`, `debug`, `trace`, or filters per module.
    pub level: String,
    /// The same words by module, over `level`.
    pub levels: BTreeMap<String, String>,
    /// A line for each request.
    pub access_log: bool,
    /// `text`, or `json` (on a terminal it is text all the same).
    pub format: LogFormat,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            levels: BTreeMap::new(),
            access_log: true,
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
    /// How much of what is logged, as filters: what is said of a module stands over the rest.
    #[must_use]
    pub fn filters(&self) -> String {
        let modules = self.levels.iter();
        let modules = modules.map(|(name, level)| format!("{name}={level}"));
        let all = std::iter::once(self.level.clone()).filter(|level| !level.is_empty());
        all.chain(modules).collect::<Vec<_>>().join(",")
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.levels.len() > MOST_LEVELS {
            let text = format!("logging.levels: must name at most {MOST_LEVELS} modules");
            return Err(ConfigError(text));
        }
        let is_module = |name: &String| {
            let good = |b: u8| b.is_ascii_alphanumeric() || b"_:".contains(&b);
            (1..=128).contains(&name.len()) && name.bytes().all(good)
        };
        for (name, level) in &self.levels {
            let key = format!("logging.levels.{name}");
            if !is_module(name) {
                let text = "must be the name of a module, such as longshore_core::scheduler";
                return Err(ConfigError(format!("{key}: {text}")));
            }
            if !LEVELS.contains(&level.as_str()) {
                let words = LEVELS.join(", ");
                return Err(ConfigError(format!("{key}: must be one of {words}")));
            }
        }
        let filter = tracing_subscriber::EnvFilter::builder().parse(&self.level);
        if let Err(error) = filter {
            return Err(ConfigError(format!("logging.level: {error}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logging(level: &str, levels: &[(&str, &str)]) -> Logging {
        let levels = levels.iter();
        Logging {
            level: level.to_owned(),
            levels: levels
                .map(|(name, level)| ((*name).to_owned(), (*level).to_owned()))
                .collect(),
            ..Logging::default()
        }
    }

    #[test]
    fn modules_stand_over_the_rest() {
        assert_eq!(Logging::default().filters(), "info");
        let some = logging(
            "warn",
            &[("access", "info"), ("longshore_core::model", "trace")],
        );
        assert_eq!(some.check(), Ok(()));
        assert_eq!(
            some.filters(),
            "warn,access=info,longshore_core::model=trace"
        );
        // A module that has a filter already gets this one.
        let twice = logging("info,quinn=warn", &[("quinn", "error")]).filters();
        let filter = tracing_subscriber::EnvFilter::builder()
            .parse(&twice)
            .unwrap();
        assert_eq!(filter.to_string(), "quinn=error,info");
    }

    #[test]
    fn what_is_no_module_or_no_level_is_refused() {
        for (name, level) in [
            ("a=b", "info"),
            ("", "info"),
            ("a", "loud"),
            ("a,b", "info"),
        ] {
            let wrong = logging("info", &[(name, level)]).check().unwrap_err();
            let key = format!("logging.levels.{name}: ");
            assert!(wrong.to_string().starts_with(&key), "{wrong}");
        }
        assert!(logging("loud=loud=loud", &[]).check().is_err());
    }
}
