//! What is written down.

use super::ConfigError;
use longshore_logging::{Form, LogFile, Order, Target, fault, filters};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

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
    /// How lines look.
    pub format: Form,
    /// Where lines go.
    pub target: Target,
    /// The file, where they go into one.
    #[serde(deserialize_with = "file")]
    pub file: LogFile,
}

fn file<'de, D: Deserializer<'de>>(from: D) -> Result<LogFile, D::Error> {
    LogFile::read("coordinator", from)
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            levels: BTreeMap::new(),
            access_log: true,
            format: Form::Auto,
            target: Target::Stderr,
            file: LogFile::of("coordinator"),
        }
    }
}

impl Logging {
    /// How much of what is logged, as filters: what is said of a module stands over the rest.
    #[must_use]
    pub fn filters(&self) -> String {
        filters(&self.level, &self.levels)
    }

    /// What the log is told.
    #[must_use]
    pub fn order(&self) -> Order {
        Order {
            filters: self.filters(),
            form: self.format,
            target: self.target,
            file: self.file.clone(),
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
        assert_eq!(
            longshore_logging::filter(&twice).unwrap().to_string(),
            "quinn=error,info"
        );
    }

    #[test]
    fn a_file_has_bounds_and_a_whole_path() {
        let with = |path: &str, max_size, keep| {
            let file = LogFile {
                path: path.into(),
                max_size,
                keep,
            };
            let logging = Logging {
                file,
                ..Logging::default()
            };
            logging.check().map_err(|error| error.to_string())
        };
        assert_eq!(with("/a.log", 64 << 10, 0), Ok(()));
        for (path, max_size, keep, key) in [
            ("a.log", 64 << 10, 0, "path"),
            ("/", 64 << 10, 0, "path"),
            ("/a.log", 65_535, 0, "max_size"),
            ("/a.log", 64 << 10, 1001, "keep"),
        ] {
            let wrong = with(path, max_size, keep).unwrap_err();
            assert!(
                wrong.starts_with(&format!("logging.file.{key}: ")),
                "{wrong}"
            );
        }
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
