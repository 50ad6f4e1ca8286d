//! By which way the coordinator calls others.

use super::{ConfigError, SecretText};
use crate::outbound::{Allowed, Outbound, ProxyUrl, Way, is_entry};
use serde::Deserialize;

/// `[daemon.egress]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// Hosts, addresses and networks that may be called although they are this machine's own,
    /// loopback or link-local, or private and named by a user.
    pub allow: Vec<String>,
    /// The proxy that stands between it and what it calls; empty = none.
    pub proxy: SecretText,
}

impl Egress {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.proxy()?;
        match self.allow.iter().find(|entry| !is_entry(entry)) {
            None => Ok(()),
            Some(entry) => Err(ConfigError(format!(
                "daemon.egress.allow: \"{entry}\" is no host, address or network"
            ))),
        }
    }

    /// The proxy, where there is one.
    ///
    /// # Errors
    /// A text that is none, or a file that cannot be read. It may hold a password, so nothing of
    /// it is repeated.
    pub fn proxy(&self) -> Result<Option<ProxyUrl>, ConfigError> {
        let key = "daemon.egress.proxy";
        let text = self.proxy.read(key)?;
        match text.expose() {
            "" => Ok(None),
            text => match ProxyUrl::parse(text) {
                Some(proxy) => Ok(Some(proxy)),
                None => Err(ConfigError(format!(
                    "{key}: must be of the form http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
                ))),
            },
        }
    }

    /// What calls go out by. Settings that were checked have a proxy that reads, unless its file
    /// is gone since: then nothing is called past it.
    #[must_use]
    pub fn outbound(&self) -> Outbound {
        let way = match self.proxy() {
            Ok(None) => Way::Direct,
            Ok(Some(proxy)) => Way::Proxy(proxy),
            Err(_) => Way::None,
        };
        Outbound::by(Allowed::of(&self.allow), way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretText;

    fn egress(proxy: &str) -> Egress {
        Egress {
            proxy: SecretText::Text(proxy.to_owned()),
            ..Egress::default()
        }
    }

    #[test]
    fn a_proxy_is_an_address_and_nothing_of_it_is_told() {
        assert_eq!(egress("").proxy(), Ok(None));
        for good in [
            "http://proxy.lab:3128",
            "http://u:hunter2@[::1]:3128/",
            "https://proxy.lab",
        ] {
            assert!(egress(good).proxy().unwrap().is_some(), "{good}");
        }
        for bad in [
            "proxy.lab:3128",
            "socks5://u:hunter2@proxy.lab",
            "http://u:hunter2@proxy.lab/path",
            "http://u:hunter2@proxy.lab?a=b",
            "http://u:hunter2@:99999",
        ] {
            let told = egress(bad).check().unwrap_err().to_string();
            assert!(told.starts_with("daemon.egress.proxy: must be"), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
        let secret = format!("{:?}", egress("http://u:hunter2@proxy.lab:3128").outbound());
        assert!(
            secret.contains("proxy.lab") && !secret.contains("hunter2"),
            "{secret}"
        );
    }

    #[tokio::test]
    async fn where_the_proxy_is_not_known_nothing_is_called_past_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("proxy");
        std::fs::write(&file, "http://proxy.lab:3128\n").unwrap();
        let egress = Egress {
            allow: vec!["127.0.0.1".to_owned()],
            proxy: SecretText::File { file: file.clone() },
        };
        assert_eq!(egress.check(), Ok(()));
        std::fs::remove_file(&file).unwrap();
        assert!(egress.check().is_err());
        let call = crate::outbound::Call {
            method: reqwest::Method::GET,
            url: "http://127.0.0.1:1/".parse().unwrap(),
            headers: reqwest::header::HeaderMap::new(),
            body: bytes::Bytes::new(),
            named_by: crate::outbound::NamedBy::Superadmin,
            follow: false,
        };
        let said = egress.outbound().call(call).await.unwrap_err();
        assert_eq!(said, crate::outbound::OutboundError::Proxy);
    }
}
