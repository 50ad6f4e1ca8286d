//! `[logging]` of a configuration: the same for each daemon, but for the name of its file.

use super::{Form, LogFile, Order, Target, fault, filters};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// A program that has a log.
pub trait Program {
    /// Its usual file is called by this.
    const NAME: &'static str;

    /// Filters as they are set, and over them what this program never lets through.
    #[must_use]
    fn kept_back(filters: String) -> String {
        filters
    }
}

/// `[logging]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, bound = "P: Program")]
pub struct Logging<P> {
    /// `error`, `warn`, `info`, `debug`, `trace`, or filters per module.
    pub level: String,
    /// The same words by module, over `level`.
    pub levels: BTreeMap<String, String>,
    /// A line for each request. Of the coordinator alone; an agent may read the same file.
    pub access_log: bool,
    /// So often the end of the audit log is said, in seconds, 60 to 604,800. Of the coordinator
    /// alone as well.
    pub audit_head_interval_s: u32,
    /// How lines look.
    pub format: Form,
    /// Where lines go.
    pub target: Target,
    /// The file, where they go into one.
    #[serde(deserialize_with = "file::<P, _>")]
    pub file: LogFile,
    #[serde(skip)]
    program: PhantomData<P>,
}

fn file<'de, P: Program, D: Deserializer<'de>>(from: D) -> Result<LogFile, D::Error> {
    LogFile::read(P::NAME, from)
}

impl<P: Program> Default for Logging<P> {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            levels: BTreeMap::new(),
            access_log: true,
            audit_head_interval_s: 3600,
            format: Form::Auto,
            target: Target::Stderr,
            file: LogFile::of(P::NAME),
            program: PhantomData,
        }
    }
}

impl<P: Program> Logging<P> {
    /// How much of what is logged, as filters: what is said of a module stands over the rest.
    #[must_use]
    pub fn filters(&self) -> String {
        P::kept_back(filters(&self.level, &self.levels))
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

    /// Looks at it beyond the types of its members.
    ///
    /// # Errors
    /// The key, from `logging` on, and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if let Some((key, text)) = fault(&self.level, &self.levels) {
            return Err(format!("logging.{key}: {text}"));
        }
        match self.file.fault() {
            Some((key, text)) => Err(format!("logging.file.{key}: {text}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter;
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Any;

    impl Program for Any {
        const NAME: &'static str = "any";
    }

    type Logging = super::Logging<Any>;

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
        assert_eq!(filter(&twice).unwrap().to_string(), "quinn=error,info");
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
            logging.check()
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
            assert!(wrong.starts_with(&key), "{wrong}");
        }
        assert!(logging("loud=loud=loud", &[]).check().is_err());
    }
}
