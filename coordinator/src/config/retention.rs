//! How long what happened is kept.

use super::ConfigError;
use super::told::Told;
use serde::Deserialize;

/// A hundred years, in days.
const MOST_DAYS: u32 = 36_500;

/// `[services.retention]`: days, 0 to 36500; 0 = for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// After which a session that has ended is removed.
    pub sessions_days: u32,
    /// After which a row of usage that has ended is removed.
    pub usage_days: u32,
    /// After which the history of a session that has ended is removed.
    pub events_days: u32,
    /// After which the last output of a session that has ended is removed.
    pub logs_days: u32,
    /// After which a record of the audit log is removed.
    pub audit_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            sessions_days: 0,
            usage_days: 0,
            events_days: 90,
            logs_days: 30,
            audit_days: 0,
        }
    }
}

impl Retention {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let all = [
            ("sessions_days", self.sessions_days),
            ("usage_days", self.usage_days),
            ("events_days", self.events_days),
            ("logs_days", self.logs_days),
            ("audit_days", self.audit_days),
        ];
        let mut told = Told::below("services.retention.");
        for (key, _) in all.into_iter().filter(|(_, days)| *days > MOST_DAYS) {
            told.wrong(key, format!("must be 0 to {MOST_DAYS}"));
        }
        told.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Set = fn(&mut Retention, u32);

    #[test]
    fn days_have_a_bound() {
        let with = |set: Set, days| {
            let mut retention = Retention::default();
            set(&mut retention, days);
            retention.check().map_err(|error| error.to_string())
        };
        let keys: [(&str, Set); 5] = [
            ("sessions_days", |r, days| r.sessions_days = days),
            ("usage_days", |r, days| r.usage_days = days),
            ("events_days", |r, days| r.events_days = days),
            ("logs_days", |r, days| r.logs_days = days),
            ("audit_days", |r, days| r.audit_days = days),
        ];
        for (key, set) in keys {
            assert_eq!(with(set, 36_500), Ok(()));
            let wrong = with(set, 36_501).unwrap_err();
            assert!(
                wrong.starts_with(&format!("services.retention.{key}: ")),
                "{wrong}"
            );
        }
    }
}
