//! Where the coordinator listens, and by which names its parts are reached.

use super::{Config, ConfigError, Daemon};
use serde::Deserialize;
use std::net::{Ipv6Addr, SocketAddr};
use url::{Host, Url};

/// Addresses of one list at most.
const MOST: usize = 16;
/// Where the API is if nothing is said.
const USUAL: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    longshore_common::wire::DEFAULT_PORT,
);

/// `[daemon.listen]`: TCP addresses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// The API, and all that has none of its own.
    pub api: Vec<SocketAddr>,
    /// The console; none = `api`.
    pub app: Vec<SocketAddr>,
    /// Files; none = `api`.
    pub files: Vec<SocketAddr>,
    /// Metrics, without a login; none = nowhere but at `api`.
    pub metrics: Vec<SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            api: vec![USUAL],
            app: Vec::new(),
            files: Vec::new(),
            metrics: Vec::new(),
        }
    }
}

impl Listen {
    /// Every address of a part.
    pub fn all(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        [&self.api, &self.app, &self.files]
            .into_iter()
            .flatten()
            .copied()
    }

    /// The first address of the API.
    #[must_use]
    pub fn first(&self) -> SocketAddr {
        self.api.first().copied().unwrap_or(USUAL)
    }

    /// The first address of the console.
    #[must_use]
    pub fn console(&self) -> SocketAddr {
        self.app.first().copied().unwrap_or_else(|| self.first())
    }

    /// Whether nobody reaches them from another machine.
    #[must_use]
    pub fn are_loopback(&self) -> bool {
        self.all().all(|address| address.ip().is_loopback())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let lists = [
            ("api", &self.api),
            ("app", &self.app),
            ("files", &self.files),
            ("metrics", &self.metrics),
        ];
        for (name, list) in lists {
            if list.len() > MOST {
                return wrong(
                    &format!("listen.{name}"),
                    format!("must be at most {MOST} addresses"),
                );
            }
        }
        if self.api.is_empty() {
            return wrong("listen.api", "must have an address".to_owned());
        }
        // Port 0 is any free one, each time another.
        let mut known: Vec<SocketAddr> = Vec::new();
        for (name, list) in lists {
            for address in list {
                if known.contains(address) && address.port() != 0 {
                    return wrong(
                        &format!("listen.{name}"),
                        format!("{address} stands in daemon.listen already"),
                    );
                }
                known.push(*address);
            }
        }
        Ok(())
    }
}

/// `[daemon.hosts]`: names; empty = none of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Hosts {
    /// The console and links to apps.
    pub app: String,
    /// The API.
    pub api: String,
    /// Files.
    pub files: String,
}

impl Hosts {
    /// The names that are set, each with its key below `daemon.hosts`.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("app", &self.app),
            ("api", &self.api),
            ("files", &self.files),
        ];
        let all = all.into_iter().map(|(key, name)| (key, name.as_str()));
        all.filter(|(_, name)| !name.is_empty())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut known: Vec<(&str, String)> = Vec::new();
        for (key, name) in self.named() {
            if !is_name(name) {
                let text = format!("\"{name}\" is not a name such as app.gpu.lab, without port");
                return wrong(&format!("hosts.{key}"), text);
            }
            let name = name.to_ascii_lowercase();
            if let Some((other, _)) = known.iter().find(|(_, taken)| *taken == name) {
                let text = format!("{name} is daemon.hosts.{other} already; each has its own");
                return wrong(&format!("hosts.{key}"), text);
            }
            known.push((key, name));
        }
        Ok(())
    }
}

impl Hosts {
    /// `public` is what is set of the address of the console, `cookies` the domain of cookies.
    pub(super) fn check_with(&self, public: &str, cookies: &str) -> Result<(), ConfigError> {
        let public = Url::parse(public).ok();
        let public = public.as_ref().and_then(Url::host_str).unwrap_or("");
        if !self.app.is_empty() && !public.is_empty() && !self.app.eq_ignore_ascii_case(public) {
            let text = format!(
                "{public} is not daemon.hosts.app ({}), where the console is",
                self.app
            );
            return wrong("public_url", text);
        }
        let domain = cookies.trim_start_matches('.').to_ascii_lowercase();
        if domain.is_empty() {
            return Ok(());
        }
        let key = "auth.cookies.domain";
        let suffix = psl::suffix(domain.as_bytes());
        if suffix.is_some_and(|suffix| suffix.as_bytes() == domain.as_bytes()) {
            let text =
                format!("{domain} is a public suffix: browsers keep no cookie for all below it");
            return wrong(key, text);
        }
        let keys = self
            .named()
            .map(|(key, name)| (format!("hosts.{key}"), name));
        let public = (!public.is_empty()).then(|| ("public_url".to_owned(), public));
        for (other, name) in keys.chain(public) {
            if !lies_within(name, &domain) {
                let text = format!(
                    "daemon.{other} ({name}) does not lie within {domain}, so no cookie reaches it"
                );
                return wrong(key, text);
            }
        }
        Ok(())
    }

    /// What is worth a line in the log.
    #[must_use]
    pub fn warning(&self, cookies: &str) -> Option<&'static str> {
        let apart = self.named().count() > 1 && cookies.is_empty();
        apart.then_some(
            "daemon.auth.cookies.domain: is empty, so that logins of browsers at one of daemon.hosts do not count at the others",
        )
    }
}

impl Config {
    /// Names and addresses that the certificate of the own authority is made for. `name` is what
    /// the coordinator is called, `machine` what its machine calls itself.
    #[must_use]
    pub fn certificate_names(&self, name: &str, machine: &str) -> Vec<String> {
        let always = [name, machine, "localhost", "127.0.0.1", "::1"];
        let mut names: Vec<String> = always.map(str::to_owned).into();
        let public = Url::parse(&self.public_url(name)).ok();
        names.extend(public.as_ref().and_then(Url::host).map(|host| match host {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }));
        names.extend(self.daemon.shown_names().into_iter().map(str::to_owned));
        if !self.daemon.apps.domain.is_empty() {
            names.push(format!("*.{}", self.daemon.apps.domain));
        }
        for address in self.daemon.listen.all().chain([self.agents_listen()]) {
            if !address.ip().is_unspecified() {
                names.push(address.ip().to_string());
            }
        }
        names.sort();
        names.dedup();
        names
    }
}

impl Daemon {
    /// The name by which people reach the console, and the key that says it. `machine` is what
    /// the machine calls itself; none where that is not known and nothing is set.
    pub(super) fn console(&self, machine: Option<&str>) -> Option<(String, String)> {
        let public = Url::parse(self.public_url.trim()).ok();
        let public = public.as_ref().and_then(Url::host_str).unwrap_or("");
        let names = [
            ("daemon.public_url", public),
            ("daemon.hosts.app", &self.hosts.app),
            ("daemon.name", &self.name),
            ("the name of this machine", machine.unwrap_or("")),
        ];
        let first = names.into_iter().find(|(_, name)| !name.is_empty());
        first.map(|(key, name)| (key.to_owned(), name.to_owned()))
    }

    /// With a domain of cookies the console is within it, also where neither its address nor a
    /// name of its own is set: browsers would drop the cookie of each login.
    pub(super) fn check_console(&self, cookies: &str) -> Result<(), ConfigError> {
        let domain = cookies.trim_start_matches('.').to_ascii_lowercase();
        if domain.is_empty() {
            return Ok(());
        }
        let key = "auth.cookies.domain";
        match self.console(None) {
            Some((_, name)) if lies_within(&name, &domain) => Ok(()),
            Some((other, name)) => {
                let text = format!(
                    "{other} ({name}) does not lie within {domain}, so no cookie reaches it"
                );
                wrong(key, text)
            }
            None => {
                let text = format!(
                    "is {domain}, and neither daemon.public_url nor daemon.hosts.app says that the console lies within it"
                );
                wrong(key, text)
            }
        }
    }

    /// Names by which people reach it, as far as they are set.
    #[must_use]
    pub fn shown_names(&self) -> Vec<&str> {
        let names = self.names.iter().map(String::as_str);
        let parts = self.hosts.named().map(|(_, name)| name);
        parts.chain(names).collect()
    }
}

/// Whether a name is a domain or below it; the domain is in small letters.
fn lies_within(name: &str, domain: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let rest = name.strip_suffix(domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A name of DNS and no address, without a dot at its end.
fn is_name(text: &str) -> bool {
    let label = |part: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&part.len())
            && part.bytes().all(good)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253
        && text.split('.').all(label)
        && matches!(Host::parse(text), Ok(Host::Domain(_)))
}

/// What is wrong with `daemon.names`.
pub(super) fn check_names(names: &[String]) -> Result<(), ConfigError> {
    for name in names {
        let good = |b: u8| b.is_ascii_alphanumeric() || b".-:".contains(&b);
        if name.is_empty() || name.len() > 253 || !name.bytes().all(good) {
            let text = format!("\"{name}\" is not the name or address of a machine");
            return wrong("names", text);
        }
    }
    Ok(())
}

fn wrong<T>(key: &str, text: String) -> Result<T, ConfigError> {
    Err(ConfigError(format!("daemon.{key}: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(api: &[&str], app: &[&str]) -> Listen {
        let read = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Listen {
            api: read(api),
            app: read(app),
            ..Listen::default()
        }
    }

    #[test]
    fn lists_of_addresses_have_one_for_the_api_and_none_twice() {
        assert_eq!(Listen::default().check(), Ok(()));
        assert!(!Listen::default().are_loopback());
        let two = listen(&["127.0.0.1:1", "[::1]:1"], &["127.0.0.1:2"]);
        assert_eq!(two.check(), Ok(()));
        assert!(two.are_loopback());
        assert!(!listen(&["127.0.0.1:1"], &["10.0.0.1:2"]).are_loopback());
        assert_eq!(listen(&["127.0.0.1:0"], &["127.0.0.1:0"]).check(), Ok(()));
        let told = |listen: Listen| listen.check().unwrap_err().to_string();
        assert!(told(listen(&[], &["127.0.0.1:1"])).starts_with("daemon.listen.api: must have"));
        let twice = told(listen(&["127.0.0.1:1"], &["127.0.0.1:1"]));
        assert!(
            twice.starts_with("daemon.listen.app: 127.0.0.1:1 stands"),
            "{twice}"
        );
        let many: Vec<String> = (1..=17).map(|port| format!("127.0.0.1:{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(told(listen(&many, &[])).contains("at most 16"));
    }

    #[test]
    fn the_example_of_the_documentation_is_accepted() {
        let page = include_str!("../../../docs/addresses.md");
        let example = page.split("```toml\n").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("all.toml");
        std::fs::write(&file, format!("[daemon]\n{example}")).unwrap();
        let overrides = crate::config::Overrides::default();
        let loaded = Config::load(Some(&file), [], overrides);
        let (config, loaded) = loaded.unwrap();
        assert_eq!(config.daemon.hosts.named().count(), 3);
        assert_eq!(config.public_url("gpu01"), "https://app.gpu.lab");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }

    #[test]
    fn the_address_that_nobody_set_is_as_browsers_write_it() {
        let mut config = Config::default();
        assert_eq!(config.public_url("GPU01"), "https://gpu01:7420");
        config.daemon.listen.api = vec!["[::]:443".parse().unwrap()];
        assert_eq!(config.public_url("GPU01.lab"), "https://gpu01.lab");
        config.daemon.hosts.app = "App.GPU.lab".to_owned();
        assert_eq!(config.public_url("gpu01"), "https://app.gpu.lab");
        config.daemon.listen.app = vec!["[::]:8443".parse().unwrap()];
        assert_eq!(config.public_url("gpu01"), "https://app.gpu.lab:8443");
    }

    #[test]
    fn the_certificate_has_every_name_once() {
        let mut config = Config::default();
        config.daemon.hosts.app = "app.gpu.lab".to_owned();
        config.daemon.hosts.files = "files.gpu.lab".to_owned();
        config.daemon.names = vec!["gpu.lab".to_owned(), "10.0.0.9".to_owned()];
        config.daemon.apps.domain = "apps.lab".to_owned();
        config.daemon.listen.api = vec!["[::]:1".parse().unwrap(), "10.0.0.1:2".parse().unwrap()];
        let names = config.certificate_names("gpu01", "gpu01");
        let expected = [
            "*.apps.lab",
            "10.0.0.1",
            "10.0.0.9",
            "127.0.0.1",
            "::1",
            "app.gpu.lab",
            "files.gpu.lab",
            "gpu.lab",
            "gpu01",
            "localhost",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn cookies_reach_every_name() {
        let hosts = Hosts {
            app: "app.gpu.lab".to_owned(),
            api: "api.gpu.lab".to_owned(),
            files: "Files.GPU.lab".to_owned(),
        };
        let said = |hosts: &Hosts, public: &str, cookies: &str| {
            hosts.check_with(public, cookies).map_err(|error| error.0)
        };
        let public = "https://app.gpu.lab";
        for good in [".gpu.lab", "gpu.lab", ".GPU.lab", ""] {
            assert_eq!(said(&hosts, public, good), Ok(()), "{good}");
        }
        for bad in [".co.uk", "github.io", ".Co.Uk"] {
            let told = said(&Hosts::default(), "", bad).unwrap_err();
            assert!(told.contains("is a public suffix"), "{told}");
        }
        for (bad, why) in [
            (".other.lab", "daemon.hosts.app (app.gpu.lab) does not lie"),
            ("pu.lab", "daemon.hosts.app (app.gpu.lab) does not lie"),
            ("app.gpu.lab", "daemon.hosts.api (api.gpu.lab) does not lie"),
        ] {
            let told = said(&hosts, public, bad).unwrap_err();
            assert!(told.starts_with("daemon.auth.cookies.domain: "), "{told}");
            assert!(told.contains(why), "{told}");
        }
        let none = Hosts::default();
        assert!(said(&none, "https://gpu.lab:7420", ".other.lab").is_err());
        let told = said(&hosts, "https://gpu.lab", ".gpu.lab").unwrap_err();
        assert!(
            told.starts_with("daemon.public_url: gpu.lab is not"),
            "{told}"
        );
        assert_eq!(hosts.warning(".gpu.lab"), None);
        assert!(hosts.warning("").is_some() && none.warning("").is_none());
    }

    #[test]
    fn a_domain_of_cookies_asks_where_the_console_is() {
        let said = |name: &str, app: &str, cookies: &str| {
            let mut daemon = Daemon {
                name: name.to_owned(),
                ..Daemon::default()
            };
            daemon.hosts.app = app.to_owned();
            daemon.check_console(cookies).map_err(|error| error.0)
        };
        assert_eq!(said("", "", ""), Ok(()));
        assert_eq!(said("gpu01.gpu.lab", "", ".GPU.lab"), Ok(()));
        assert_eq!(said("gpu01", "app.gpu.lab", ".gpu.lab"), Ok(()));
        let told = said("", "", ".gpu.lab").unwrap_err();
        assert!(told.contains("neither daemon.public_url nor"), "{told}");
        let told = said("gpu01", "", ".gpu.lab").unwrap_err();
        assert!(told.contains("daemon.name (gpu01) does not lie"), "{told}");
        // As the whole is checked, too.
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("all.toml");
        std::fs::write(&file, "daemon.auth.cookies.domain = \".gpu.lab\"\n").unwrap();
        let loaded = Config::load(Some(&file), [], crate::config::Overrides::default());
        assert!(
            loaded
                .unwrap_err()
                .to_string()
                .contains("neither daemon.public_url")
        );
    }

    #[test]
    fn parts_have_names_of_their_own() {
        let hosts = |app: &str, api: &str| Hosts {
            app: app.to_owned(),
            api: api.to_owned(),
            files: String::new(),
        };
        assert_eq!(Hosts::default().check(), Ok(()));
        assert_eq!(hosts("app.gpu.lab", "API.gpu.lab").check(), Ok(()));
        let told = hosts("a.lab", "A.lab").check().unwrap_err().to_string();
        assert!(
            told.starts_with("daemon.hosts.api: a.lab is daemon.hosts.app"),
            "{told}"
        );
        for bad in [
            "https://a.lab",
            "a.lab:7420",
            "a.lab.",
            "-a.lab",
            "a..lab",
            "10.0.0.1",
            "[::1]",
            "::1",
            "*.lab",
            "a_b.lab",
            "1",
            "0x7f.1",
        ] {
            let told = hosts(bad, "").check().unwrap_err().to_string();
            assert!(told.starts_with("daemon.hosts.app: "), "{told}");
        }
    }
}
