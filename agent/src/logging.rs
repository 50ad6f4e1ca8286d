//! The agent's log on standard error, and how much it says: `agent.logging.level`, also when the
//! configuration is read again. The variable LONGSHORE_LOG stands over it.

use longshore_common::redact::{Hiding, Names};
use std::fmt;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// What is logged until the configuration was read.
const FIRST: &str = "info";

/// Reads `error`, `warn`, `info`, `debug`, `trace`, or filters per module.
///
/// # Errors
/// What is wrong with it.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::builder().parse(level);
    filter.map_err(|error| error.to_string())
}

/// Takes a filter into force.
type Take = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// How much is logged.
pub struct Level {
    take: Take,
    /// Something stands over the configuration.
    fixed: bool,
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Level").finish_non_exhaustive()
    }
}

impl Level {
    /// What the configuration says from now on.
    ///
    /// # Errors
    /// It cannot be read, or the log is gone.
    pub fn set(&self, level: &str) -> Result<(), String> {
        let filter = filter(level)?;
        match self.fixed {
            true => Ok(()),
            false => (self.take)(filter),
        }
    }
}

/// Begins to log; once in a process. `fixed` stands over the configuration: one that does not
/// read is as good as none.
#[must_use]
pub fn begin(names: Names, fixed: Option<&str>) -> Level {
    let fixed = fixed.and_then(|level| filter(level).ok());
    let is_fixed = fixed.is_some();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(fixed.unwrap_or_else(|| EnvFilter::new(FIRST)))
        .with_writer(move || Hiding::new(std::io::stderr(), names.clone()));
    let take: Take = if std::env::var("LONGSHORE_LOG_FORMAT").as_deref() == Ok("json") {
        let lines = lines.json().with_filter_reloading();
        let handle = lines.reload_handle();
        lines.init();
        Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
    } else {
        let terminal = std::io::stderr().is_terminal();
        let lines = lines.with_ansi(terminal).with_filter_reloading();
        let handle = lines.reload_handle();
        lines.init();
        Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
    };
    Level {
        take,
        fixed: is_fixed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing::level_filters::LevelFilter;

    #[test]
    fn a_log_that_has_begun_follows() {
        let level = begin(Names::default(), Some("longshore_agent=loud"));
        assert_eq!(LevelFilter::current(), LevelFilter::INFO);
        level.set("trace").unwrap();
        assert_eq!(LevelFilter::current(), LevelFilter::TRACE);
        level.set("error").unwrap();
        assert_eq!(LevelFilter::current(), LevelFilter::ERROR);
    }

    #[test]
    fn the_configuration_says_how_much_unless_something_stands_over_it() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let level = |fixed| {
            let taken = Arc::clone(&taken);
            let take: Take = Box::new(move |filter| {
                taken.lock().unwrap().push(filter.to_string());
                Ok(())
            });
            Level { take, fixed }
        };
        level(false).set("debug").unwrap();
        level(true).set("trace").unwrap();
        level(false).set("warn,longshore_agent=debug").unwrap();
        for free in [false, true] {
            assert!(level(free).set("longshore_agent=loud").is_err());
        }
        let taken = taken.lock().unwrap();
        assert_eq!(taken[0], "debug");
        assert!(taken[1].contains("longshore_agent=debug"), "{taken:?}");
        assert_eq!(taken.len(), 2);
    }
}
