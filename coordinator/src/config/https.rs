//! How connections of people and programs are encrypted.

use super::{Apps, ConfigError, Listen};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Who ends TLS, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// The coordinator, with a certificate of the installation's own authority.
    #[default]
    Auto,
    /// The coordinator, with a certificate of files.
    Files,
    /// Something in front of it.
    Off,
}

/// The oldest version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    V13,
}

/// `[daemon.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Https {
    /// Who ends TLS.
    pub mode: TlsMode,
    /// PEM: the certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM: its key.
    pub private_key: PathBuf,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Seconds for which browsers shall use TLS only; 0 = nothing is said.
    pub hsts_s: u32,
}

impl Https {
    /// `trusts`: there are trusted proxies.
    pub(super) fn check(
        &self,
        listen: &Listen,
        apps: &Apps,
        trusts: bool,
    ) -> Result<(), ConfigError> {
        let wrong = |key: &str, text: String| Err(ConfigError(format!("daemon.tls.{key}: {text}")));
        let files = [
            ("certificate", &self.certificate),
            ("private_key", &self.private_key),
        ];
        for (key, path) in files {
            let given = !path.as_os_str().is_empty();
            match self.mode {
                TlsMode::Files if !given => {
                    let text = "is needed where daemon.tls.mode is files";
                    return wrong(key, text.to_owned());
                }
                TlsMode::Auto | TlsMode::Off if given => {
                    let text = "is used only where daemon.tls.mode is files";
                    return wrong(key, text.to_owned());
                }
                _ => (),
            }
        }
        if self.mode != TlsMode::Off || trusts {
            return Ok(());
        }
        let of_apps: &[SocketAddr] = match apps.domain.as_str() {
            "" => &apps.listen,
            _ => &[],
        };
        let mut all = listen.all().chain(of_apps.iter().copied());
        match all.find(|address| !address.ip().is_loopback()) {
            None => Ok(()),
            Some(address) => wrong(
                "mode",
                format!(
                    "off is for proxies that end TLS: name them in daemon.trusted_proxies, or let daemon.listen and daemon.apps.listen have addresses of this machine alone ({address} is none)"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_encryption_only_proxies_reach_it() {
        let off = Https {
            mode: TlsMode::Off,
            ..Https::default()
        };
        let listen = |text: &str| Listen {
            api: vec![text.parse().unwrap()],
            ..Listen::default()
        };
        let apps = |listen: &[&str], domain: &str| Apps {
            domain: domain.to_owned(),
            listen: listen.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let (here, everywhere) = (listen("127.0.0.1:7420"), listen("[::]:7420"));
        let none = apps(&[], "");
        assert_eq!(off.check(&here, &none, false), Ok(()));
        assert_eq!(off.check(&everywhere, &none, true), Ok(()));
        assert_eq!(off.check(&here, &apps(&["[::1]:7422"], ""), false), Ok(()));
        // With a domain nothing listens for apps alone.
        assert_eq!(
            off.check(&here, &apps(&["[::]:7422"], "a.lab"), false),
            Ok(())
        );
        for (listen, apps, address) in [
            (&everywhere, &none, "[::]:7420"),
            (&here, &Apps::default(), "[::]:7422"),
        ] {
            let told = off.check(listen, apps, false).unwrap_err().to_string();
            assert!(told.starts_with("daemon.tls.mode: off"), "{told}");
            assert!(told.contains(address), "{told}");
        }
        let auto = Https::default();
        assert_eq!(auto.check(&everywhere, &Apps::default(), false), Ok(()));
    }

    #[test]
    fn files_are_named_where_they_are_used_and_nowhere_else() {
        let told = |https: Https| {
            let checked = https.check(&Listen::default(), &Apps::default(), true);
            checked.unwrap_err().to_string()
        };
        let with = |mode, certificate: &str| Https {
            mode,
            certificate: certificate.into(),
            ..Https::default()
        };
        let lacking = told(with(TlsMode::Files, ""));
        assert!(
            lacking.starts_with("daemon.tls.certificate: is needed"),
            "{lacking}"
        );
        let lacking = told(with(TlsMode::Files, "/etc/a.pem"));
        assert!(
            lacking.starts_with("daemon.tls.private_key: is needed"),
            "{lacking}"
        );
        for mode in [TlsMode::Auto, TlsMode::Off] {
            let unused = told(with(mode, "/etc/a.pem"));
            assert!(
                unused.starts_with("daemon.tls.certificate: is used only"),
                "{unused}"
            );
        }
    }
}
