//! What a connection of people and programs may ask, and how long that may take.

use super::ConfigError;
use super::told::Told;
use crate::api::listener::Bounds;
use serde::Deserialize;
use std::time::Duration;

/// `[daemon.http]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Bytes of the largest body that is read as a whole, 1 KiB to 64 MiB.
    pub max_body: u64,
    /// Seconds for the headers of a request, 1 to 600.
    pub header_timeout_s: u32,
    /// Seconds for a body that is read as a whole, 1 to 3600.
    pub request_timeout_s: u32,
    /// Connections of one address, 1 to 4096.
    pub connections_per_ip: u32,
}

impl Default for Http {
    fn default() -> Self {
        let Bounds {
            max_body,
            headers,
            body,
            per_address,
        } = Bounds::default();
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        Self {
            max_body: max_body as u64,
            header_timeout_s: seconds(headers),
            request_timeout_s: seconds(body),
            connections_per_ip: u32::try_from(per_address).unwrap_or(u32::MAX),
        }
    }
}

impl Http {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut told = Told::below("daemon.http.");
        let seconds = |s: u32| u64::from(s);
        for (key, value, low, high) in [
            ("max_body", self.max_body, 1024, 64 << 20),
            ("header_timeout_s", seconds(self.header_timeout_s), 1, 600),
            (
                "request_timeout_s",
                seconds(self.request_timeout_s),
                1,
                3600,
            ),
            (
                "connections_per_ip",
                u64::from(self.connections_per_ip),
                1,
                4096,
            ),
        ] {
            if !(low..=high).contains(&value) {
                told.wrong(key, format!("must be {low} to {high}"));
            }
        }
        told.end()
    }

    /// As the listener goes by them.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Bounds {
            max_body: number(self.max_body),
            headers: Duration::from_secs(u64::from(self.header_timeout_s)),
            body: Duration::from_secs(u64::from(self.request_timeout_s)),
            per_address: number(u64::from(self.connections_per_ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_has_its_range() {
        assert!(Http::default().check().is_ok());
        assert_eq!(Http::default().bounds(), Bounds::default());
        let small = Http {
            max_body: 1023,
            ..Http::default()
        };
        let said = small.check().unwrap_err().to_string();
        assert_eq!(said, "daemon.http.max_body: must be 1024 to 67108864");
        let none = Http {
            connections_per_ip: 0,
            ..Http::default()
        };
        assert!(none.check().is_err());
    }
}
