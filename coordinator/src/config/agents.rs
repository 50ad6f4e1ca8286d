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
    /// T2: seconds of silence after which its sessions are given up; 0 = never. Of groups that
    /// are made without one from then on; administrators set it, group by group.
    pub declare_lost_s: u32,
    /// Days for which a certificate of an agent is issued.
    pub certificate_days: u32,
    /// Seconds for which a join token is good whose maker does not say, 1 to 2,592,000.
    pub join_token_ttl_s: i64,
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
            certificate_days: 30,
            join_token_ttl_s: 86_400,
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
        let least = 5 * self.heartbeat_s;
        if self.lost_after_s == Self::default().lost_after_s && self.lost_after_s < least {
            // Told of the one that somebody set.
            let text = format!(
                "five heartbeats must fit into daemon.agents.lost_after_s ({}); set that as well",
                self.lost_after_s
            );
            return wrong("daemon.agents.heartbeat_s", text);
        }
        if self.lost_after_s < least || self.lost_after_s > 3600 {
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
        if !(1..=2_592_000).contains(&self.join_token_ttl_s) {
            return wrong(
                "daemon.agents.join_token_ttl_s",
                "must be 1 to 2592000".to_owned(),
            );
        }
        Ok(())
    }
}
