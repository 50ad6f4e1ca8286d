//! How long what happened is kept.

use super::ConfigError;
use serde::Deserialize;

/// A hundred years, in days.
const MOST_DAYS: u32 = 36_500;

/// `[services.retention]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Days after which a record of the audit log is removed; 0 = never.
    pub audit_days: u32,
}

impl Retention {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.audit_days <= MOST_DAYS {
            true => Ok(()),
            false => Err(ConfigError(format!(
                "services.retention.audit_days: must be 0 to {MOST_DAYS}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_a_bound() {
        assert!(Retention { audit_days: 36_500 }.check().is_ok());
        assert!(Retention { audit_days: 36_501 }.check().is_err());
    }
}
