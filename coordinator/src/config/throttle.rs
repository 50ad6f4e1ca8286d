//! How many logins may fail.

use super::ConfigError;
use super::told::Told;
use longshore_identity::throttle::{FAILURES_MAX, Limits};
use serde::Deserialize;

/// A day, in seconds: windows and blocks are no longer.
const LONGEST_S: u32 = 86_400;

/// `daemon.auth.throttle`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Throttling {
    /// Failures of a name from one part of the network.
    pub failures: u32,
    /// Seconds for which a failure counts.
    pub window_s: u32,
    /// Seconds for which a name is refused from there then.
    pub block_s: u32,
    /// Failures of a name from anywhere.
    pub account_failures: u32,
    /// Failures of any name from one part of the network.
    pub source_failures: u32,
}

impl Default for Throttling {
    fn default() -> Self {
        let Limits {
            failures,
            window_s,
            block_s,
            account_failures,
            source_failures,
        } = Limits::default();
        Self {
            failures,
            window_s,
            block_s,
            account_failures,
            source_failures,
        }
    }
}

impl Throttling {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut told = Told::below("daemon.auth.throttle.");
        for (key, value, most) in [
            ("failures", self.failures, FAILURES_MAX),
            ("window_s", self.window_s, LONGEST_S),
            ("block_s", self.block_s, LONGEST_S),
            ("account_failures", self.account_failures, FAILURES_MAX),
            ("source_failures", self.source_failures, FAILURES_MAX),
        ] {
            if !(1..=most).contains(&value) {
                told.wrong(key, format!("must be 1 to {most}"));
            }
        }
        told.end()
    }

    /// As data.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits {
            failures: self.failures,
            window_s: self.window_s,
            block_s: self.block_s,
            account_failures: self.account_failures,
            source_failures: self.source_failures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_its_range() {
        assert!(Throttling::default().check().is_ok());
        let said = |change: fn(&mut Throttling)| {
            let mut throttling = Throttling::default();
            change(&mut throttling);
            throttling.check().unwrap_err().to_string()
        };
        let none = said(|t| t.failures = 0);
        assert_eq!(none, "daemon.auth.throttle.failures: must be 1 to 1000");
        let long = said(|t| t.block_s = 86_401);
        assert_eq!(long, "daemon.auth.throttle.block_s: must be 1 to 86400");
        said(|t| t.source_failures = 1001);
    }
}
