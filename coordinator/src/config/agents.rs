//! The link to agents.

use super::ConfigError;
use longshore_core::model::admin::DECLARE_LOST_MIN_S;
use serde::Deserialize;
use std::net::SocketAddr;

/// `[daemon.agents]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Agents {
    /// UDP address; absent = as the API.
    pub listen: Option<SocketAddr>,
    /// Addresses agents may use besides the one they have.
    pub addresses: Vec<String>,
    /// Seconds between heartbeats.
    pub heartbeat_s: u32,
    /// T1: seconds of silence after which an agent is LOST.
    pub lost_after_s: u32,
    /// T2: seconds of silence after which its sessions are given up; 0 = never. Of the
    /// group that the first start makes; after that administrators set it, group by group.
    pub declare_lost_s: u32,
    /// Days a certificate of an agent is good.
    pub certificate_days: u32,
    /// Segmentation offload; off where a network card gets it wrong.
    pub gso: bool,
}

impl Default for Agents {
    fn default() -> Self {
        Self {
            listen: None,
            addresses: Vec::new(),
            heartbeat_s: 2,
            lost_after_s: 15,
            declare_lost_s: 600,
            certificate_days: 90,
            gso: true,
        }
    }
}

impl Agents {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, text: String| Err(ConfigError(format!("{key}: {text}")));
        if !(1..=60).contains(&self.heartbeat_s) {
            return wrong("daemon.agents.heartbeat_s", "must be 1 to 60".to_owned());
        }
        if self.lost_after_s < 5 * self.heartbeat_s || self.lost_after_s > 3600 {
            let least = 5 * self.heartbeat_s;
            return wrong(
                "daemon.agents.lost_after_s",
                format!("must be {least} (five heartbeats) to 3600"),
            );
        }
        let least = i64::from(self.lost_after_s).max(DECLARE_LOST_MIN_S);
        if self.declare_lost_s != 0 && i64::from(self.declare_lost_s) < least {
            return wrong(
                "daemon.agents.declare_lost_s",
                format!(
                    "must be 0 or at least {least}: {DECLARE_LOST_MIN_S}, and daemon.agents.lost_after_s"
                ),
            );
        }
        if !(1..=3650).contains(&self.certificate_days) {
            return wrong(
                "daemon.agents.certificate_days",
                "must be 1 to 3650".to_owned(),
            );
        }
        Ok(())
    }
}
