//! Who may ask for metrics, and what they show.

use super::ConfigError;
use crate::rates::Network;
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};

/// `[services.metrics]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether there are any.
    pub enabled: bool,
    /// Which sessions hold which GPUs is among them.
    pub session_info: bool,
    /// Networks and addresses that ask at `daemon.listen.metrics`, besides this machine.
    pub allow: Vec<String>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enabled: true,
            session_info: true,
            allow: Vec::new(),
        }
    }
}

impl Metrics {
    /// Whether an address is answered at `daemon.listen.metrics`.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        let mut networks = self.allow.iter().filter_map(|text| text.parse().ok());
        peer.to_canonical().is_loopback() || networks.any(|network: Network| network.holds(peer))
    }

    /// `listen` are the addresses of metrics alone; `tls`: other machines are spoken to encrypted.
    pub(super) fn check(&self, listen: &[SocketAddr], tls: bool) -> Result<(), ConfigError> {
        for text in &self.allow {
            if let Err(error) = text.parse::<Network>() {
                return Err(ConfigError(format!("services.metrics.allow: {error}")));
            }
        }
        let other = listen.iter().find(|address| !address.ip().is_loopback());
        let Some(address) = other else {
            return Ok(());
        };
        let why = match (self.allow.is_empty(), tls) {
            (true, _) => "name in services.metrics.allow who may ask there",
            (false, false) => "which needs encryption, and daemon.tls.mode is off",
            (false, true) => return Ok(()),
        };
        Err(ConfigError(format!(
            "daemon.listen.metrics: other machines reach {address}: {why}, or take an address of this machine alone"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowing(allow: &[&str]) -> Metrics {
        Metrics {
            allow: allow.iter().map(|text| (*text).to_owned()).collect(),
            ..Metrics::default()
        }
    }

    #[test]
    fn other_machines_ask_only_where_that_is_said() {
        let at = |text: &str| vec![text.parse().unwrap()];
        let nobody = allowing(&[]);
        assert_eq!(nobody.check(&[], false), Ok(()));
        assert_eq!(nobody.check(&at("127.0.0.1:9100"), false), Ok(()));
        assert_eq!(nobody.check(&at("[::1]:9100"), true), Ok(()));
        let told = nobody.check(&at("10.0.0.1:9100"), true).unwrap_err().0;
        assert!(told.starts_with("daemon.listen.metrics: "), "{told}");
        assert!(told.contains("services.metrics.allow"), "{told}");
        let some = allowing(&["10.0.0.0/24", "::1"]);
        assert_eq!(some.check(&at("[::]:9100"), true), Ok(()));
        let told = some.check(&at("[::]:9100"), false).unwrap_err().0;
        assert!(told.contains("daemon.tls.mode is off"), "{told}");
        let told = allowing(&["gpu.lab"]).check(&[], true).unwrap_err().0;
        assert!(told.starts_with("services.metrics.allow: "), "{told}");
    }

    #[test]
    fn who_is_not_named_is_not_answered() {
        let some = allowing(&["10.0.0.0/24"]);
        let admits = |metrics: &Metrics, peer: &str| metrics.admits(peer.parse().unwrap());
        for peer in [
            "10.0.0.7",
            "::ffff:10.0.0.7",
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(admits(&some, peer), "{peer}");
        }
        for peer in ["10.0.1.7", "fe80::1", "192.168.0.1"] {
            assert!(!admits(&some, peer), "{peer}");
        }
        assert!(!admits(&allowing(&[]), "10.0.0.7"));
    }
}
