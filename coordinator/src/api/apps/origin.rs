//! Where the apps of sessions live for browsers: never on the origin of the API. Pure.

/// Where a browser trades the code it was sent with for a cookie.
pub(super) const OPEN_PATH: &str = "/.longshore/open";
/// Letters and digits of a label: 128 bits.
const LABEL: usize = 32;

/// How browsers reach apps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// Not at all.
    #[default]
    Off,
    /// All at one `host:port` beside the API: browsers share cookies between ports, and show
    /// one app at a time.
    Port(String),
    /// Each at a name of its own below this domain, at the port of the API's public address;
    /// none = that of https.
    Domain(String, Option<u16>),
}

impl Origins {
    /// By what the settings say. `public` is the address of the API for people, `port` that of
    /// the listener for apps, where there is one.
    #[must_use]
    pub fn new(domain: &str, public: &str, port: Option<u16>) -> Self {
        let Ok(public) = url::Url::parse(public) else {
            return Self::Off;
        };
        match (domain, public.host_str(), port) {
            ("", Some(host), Some(443)) => Self::Port(host.to_owned()),
            ("", Some(host), Some(port)) => Self::Port(format!("{host}:{port}")),
            ("", ..) => Self::Off,
            (domain, ..) => Self::Domain(domain.to_ascii_lowercase(), public.port()),
        }
    }

    /// What stands in the `Host` of requests for an app with this label.
    pub(super) fn host(&self, label: &str) -> Option<String> {
        match self {
            Self::Off => None,
            Self::Port(host) => Some(host.clone()),
            Self::Domain(domain, None) => Some(format!("{label}.{domain}")),
            Self::Domain(domain, Some(port)) => Some(format!("{label}.{domain}:{port}")),
        }
    }

    /// Whether a request with this `Host` is for some app, by its name alone.
    pub(in super::super) fn is_below_domain(&self, host: &str) -> bool {
        let Self::Domain(domain, _) = self else {
            return false;
        };
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            match port.bytes().all(|b| b.is_ascii_digit()) {
                true => name,
                false => host,
            }
        });
        let name = name.to_ascii_lowercase();
        let label = name.strip_suffix(domain.as_str());
        label.is_some_and(|label| label.ends_with('.'))
    }

    /// The origin that a request with this name was meant for, if it is one of apps. `apart`: it
    /// came where nothing but apps is served.
    pub(in super::super) fn of_request(&self, name: Option<&str>, apart: bool) -> Option<String> {
        match (self, name) {
            (Self::Port(host), _) if apart => Some(format!("https://{host}")),
            (Self::Domain(_, port), Some(name)) if self.is_below_domain(name) => {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                Some(format!("https://{name}{port}"))
            }
            _ => None,
        }
    }

    /// Whether each app has an origin of its own.
    pub(super) const fn has_labels(&self) -> bool {
        matches!(self, Self::Domain(..))
    }
}

/// A label from random bytes.
pub(super) fn label(random: [u8; LABEL / 2]) -> String {
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a browser may be sent to this path and query on its own origin: one slash first, no
/// second one and no backslash behind it, no control character, no blank.
pub(super) fn is_own_path(path: &str) -> bool {
    let mut bytes = path.bytes();
    bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
}

/// What stands behind `/s/SESSION/APP` in an address: a path with its query, as it was written.
pub(super) fn rest_of(path: &str, query: Option<&str>) -> String {
    let rest = path.splitn(5, '/').nth(4).unwrap_or("");
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("/{rest}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_live_beside_the_api_or_below_a_domain() {
        let public = "https://gpu.lab:7420";
        let off = Origins::new("", public, None);
        assert_eq!((off.clone(), off.host("a")), (Origins::Off, None));
        let port = Origins::new("", public, Some(7422));
        assert_eq!(port.host("a").as_deref(), Some("gpu.lab:7422"));
        let address = Origins::new("", "https://[::1]:7420", Some(7422));
        assert_eq!(address.host("a").as_deref(), Some("[::1]:7422"));
        let names = Origins::new("Apps.lab", public, Some(7422));
        assert_eq!(names.host("ab").as_deref(), Some("ab.apps.lab:7420"));
        let balanced = Origins::new("apps.lab", "https://gpu.lab", None);
        assert_eq!(balanced.host("ab").as_deref(), Some("ab.apps.lab"));
    }

    #[test]
    fn a_host_below_the_domain_is_an_apps() {
        let names = Origins::Domain("apps.lab".to_owned(), None);
        for host in ["a.apps.lab", "A.APPS.lab:7420", "a.b.apps.lab"] {
            assert!(names.is_below_domain(host), "{host}");
        }
        for host in ["apps.lab", "xapps.lab", "a.apps.lab.evil", "", "[::1]:7420"] {
            assert!(!names.is_below_domain(host), "{host}");
        }
        let port = Origins::Port("gpu.lab:7422".to_owned());
        assert!(!port.is_below_domain("a.apps.lab"));
    }

    #[test]
    fn a_request_in_the_clear_has_an_origin_it_was_meant_for() {
        let names = Origins::Domain("apps.lab".to_owned(), Some(7420));
        let of = |name| names.of_request(Some(name), false);
        assert_eq!(of("a.apps.lab").as_deref(), Some("https://a.apps.lab:7420"));
        assert_eq!((of("gpu.lab"), names.of_request(None, false)), (None, None));
        let port = Origins::Port("gpu.lab:7422".to_owned());
        assert_eq!(
            port.of_request(Some("x"), true).as_deref(),
            Some("https://gpu.lab:7422")
        );
        assert_eq!(port.of_request(Some("gpu.lab"), false), None);
    }

    #[test]
    fn only_paths_of_the_own_origin_are_gone_to() {
        for good in ["/", "/a/b?c=d", "/%2Fa", "/?to=https://x"] {
            assert!(is_own_path(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "//evil",
            "/\\evil",
            "/a\\b",
            "/a\r\nb",
            "/a b",
            "https://x",
        ] {
            assert!(!is_own_path(bad), "{bad}");
        }
    }

    #[test]
    fn the_rest_of_an_address_stays_as_it_was_written() {
        assert_eq!(rest_of("/s/s-1/web/", None), "/");
        assert_eq!(
            rest_of("/s/s-1/web/a%20b/c/", Some("d=/e")),
            "/a%20b/c/?d=/e"
        );
        assert!(!is_own_path(&rest_of("/s/s-1/web//evil", None)));
        assert_eq!(label([0xab; 16]), "ab".repeat(16));
    }
}
