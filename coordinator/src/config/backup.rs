//! Copies of the database that the coordinator makes.

use super::ConfigError;
use super::told::Told;
use serde::Deserialize;
use std::path::PathBuf;

/// Seconds between two copies at least: each reads all of the database.
const LEAST_S: i64 = 60;
/// At most: a month.
const MOST_S: i64 = 2_592_000;
/// Copies at most.
const MOST_KEPT: u32 = 100_000;

/// `[services.backup]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// Copies are made.
    pub enabled: bool,
    /// Where they lie; it is made, for nobody else's eyes.
    pub dir: PathBuf,
    /// Seconds from one to the next, 60 to 2592000.
    pub interval_s: i64,
    /// How many are kept, 1 to 100000.
    pub keep: u32,
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: PathBuf::from("/var/backups/longshore"),
            interval_s: 3600,
            keep: 48,
        }
    }
}

impl Backup {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut told = Told::below("services.backup.");
        if !self.dir.is_absolute() {
            told.wrong("dir", "must be an absolute path");
        }
        if !(LEAST_S..=MOST_S).contains(&self.interval_s) {
            told.wrong(
                "interval_s",
                format!("must be {LEAST_S} to {MOST_S} seconds"),
            );
        }
        if !(1..=MOST_KEPT).contains(&self.keep) {
            told.wrong("keep", format!("must be 1 to {MOST_KEPT}"));
        }
        told.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        assert_eq!(Backup::default().check(), Ok(()));
        let some = |dir: &str, interval_s, keep| Backup {
            enabled: true,
            dir: dir.into(),
            interval_s,
            keep,
        };
        for (backup, key) in [
            (some("backups", 60, 1), "dir"),
            (some("/b", 59, 1), "interval_s"),
            (some("/b", 2_592_001, 1), "interval_s"),
            (some("/b", 60, 0), "keep"),
            (some("/b", 60, 100_001), "keep"),
        ] {
            let wrong = backup.check().unwrap_err().to_string();
            assert!(
                wrong.starts_with(&format!("services.backup.{key}: ")),
                "{wrong}"
            );
        }
    }
}
