//! Where browsers reach apps of sessions.

use super::ConfigError;
use serde::Deserialize;
use std::net::{Ipv6Addr, SocketAddr};

/// Where apps are served if nothing is said.
const APPS_PORT: u16 = 7422;

/// `[daemon.apps]`: where browsers reach apps of sessions, never on the origin of the API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Apps {
    /// Each app gets a name of its own below it, served where the API is; empty = they are
    /// served on `listen`.
    pub domain: String,
    /// TCP addresses for apps alone; none = without a domain no browser sees them.
    pub listen: Vec<SocketAddr>,
}

impl Default for Apps {
    fn default() -> Self {
        Self {
            domain: String::new(),
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, APPS_PORT))],
        }
    }
}

impl Apps {
    /// `parts` are the names by which people reach the coordinator, each with its key, `cookies`
    /// the domain of their cookies.
    pub(super) fn check(
        &self,
        parts: &[(String, String)],
        cookies: &str,
    ) -> Result<(), ConfigError> {
        let wrong = |key: &str, text: String| Err(ConfigError(format!("{key}: {text}")));
        if self.listen.len() > 16 {
            return wrong(
                "daemon.apps.listen",
                "must be at most 16 addresses".to_owned(),
            );
        }
        if self.domain.is_empty() {
            return Ok(());
        }
        let label = |part: &str| {
            let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            !part.is_empty() && part.len() <= 63 && part.bytes().all(good)
        };
        let domain = self.domain.to_ascii_lowercase();
        if !domain.contains('.') || domain.len() > 200 || !domain.split('.').all(label) {
            let text = "must be a name of at least two parts, such as apps.gpu.lab";
            return wrong("daemon.apps.domain", text.to_owned());
        }
        let within = |name: &str, parent: &str| {
            let rest = name.strip_suffix(parent);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let cookies = cookies.trim_start_matches('.').to_ascii_lowercase();
        if !cookies.is_empty() && within(&domain, &cookies) {
            let text = format!(
                "lies within daemon.auth.cookies.domain ({cookies}): apps would get the cookies of logins"
            );
            return wrong("daemon.apps.domain", text);
        }
        // What is asked for by a name of apps is answered by apps, whatever part it was meant for.
        let mut parts = parts.iter();
        match parts.find(|(_, name)| within(&name.to_ascii_lowercase(), &domain)) {
            Some((key, name)) => {
                let text = format!("{key} ({name}) lies within it, where apps alone are");
                wrong("daemon.apps.domain", text)
            }
            None => Ok(()),
        }
    }
}
