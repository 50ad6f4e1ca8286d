//! Networks of sessions of several containers.

use super::ConfigError;
use super::told::Told;
use longshore_common::network::Subnet;
use longshore_core::model::NetworkSettings;
use serde::Deserialize;

/// `[services.network]`: networks of sessions of several containers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct ClusterNetworks {
    /// Largest packet between nodes, in bytes.
    pub overlay_mtu: i64,
    /// Where their ranges are cut from.
    pub overlay_pool: String,
}

impl Default for ClusterNetworks {
    fn default() -> Self {
        let known = NetworkSettings::default();
        Self {
            overlay_mtu: i64::from(known.overlay_mtu),
            overlay_pool: known.overlay_pool.to_string(),
        }
    }
}

impl ClusterNetworks {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut told = Told::below("services.network.");
        if !(576..=9000).contains(&self.overlay_mtu) {
            told.wrong("overlay_mtu", "must be 576 to 9000");
        }
        match self.overlay_pool.parse::<Subnet>() {
            Err(error) => told.wrong("overlay_pool", error.to_string()),
            // Of 100 containers on as many nodes one network takes a /24.
            Ok(range) if !(8..=24).contains(&range.prefix) => {
                let text = "must have 8 to 24 fixed bits, such as 10.214.0.0/16";
                told.wrong("overlay_pool", text);
            }
            Ok(_) => (),
        }
        told.end()
    }

    /// The settings as data; what [`Config::load`] refuses falls back to its default.
    #[must_use]
    pub fn settings(&self) -> NetworkSettings {
        let known = NetworkSettings::default();
        NetworkSettings {
            overlay_mtu: u32::try_from(self.overlay_mtu).unwrap_or(known.overlay_mtu),
            overlay_pool: self.overlay_pool.parse().unwrap_or(known.overlay_pool),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_network_can_be_made_of_is_refused_with_its_key() {
        let known = ClusterNetworks::default();
        assert_eq!(known.check(), Ok(()));
        assert_eq!(known.settings(), NetworkSettings::default());
        let with = |mtu, pool: &str| ClusterNetworks {
            overlay_mtu: mtu,
            overlay_pool: pool.to_owned(),
        };
        assert_eq!(with(9000, "172.16.0.0/12").check(), Ok(()));
        for (bad, key) in [
            (with(575, "10.0.0.0/16"), "overlay_mtu"),
            (with(9001, "10.0.0.0/16"), "overlay_mtu"),
            (with(1450, "10.0.0.0"), "overlay_pool"),
            (with(1450, "10.0.0.0/25"), "overlay_pool"),
        ] {
            let told = bad.check().unwrap_err().to_string();
            assert!(
                told.contains(&format!("services.network.{key}: ")),
                "{told}"
            );
        }
    }
}
