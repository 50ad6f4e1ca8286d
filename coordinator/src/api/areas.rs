//! Which part of the coordinator answers by which name and at which address. Pure.

use crate::config::{Hosts, Listen};
use std::net::SocketAddr;

/// A part with names and addresses of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// The console and links to apps, and all that is no other part.
    App,
    /// `/api/`, and metrics.
    Api,
    /// `/files/`: what belongs to users.
    Files,
}

impl Area {
    const ALL: [Self; 3] = [Self::App, Self::Api, Self::Files];

    /// The part of a path; none = it is served everywhere: health, versions, the authority and
    /// the pages of codes, which balancers and programs ask for wherever they are.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let below = |root: &str| {
            let rest = path.strip_prefix(root);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match path {
            "/healthz" | "/readyz" | "/version" | "/ca.pem" => None,
            _ if below("/help") => None,
            "/metrics" => Some(Self::Api),
            _ if below("/api") => Some(Self::Api),
            _ if below("/files") => Some(Self::Files),
            _ => Some(Self::App),
        }
    }

    /// As it begins a sentence.
    pub(super) const fn called(self) -> &'static str {
        match self {
            Self::App => "The console",
            Self::Api => "The API",
            Self::Files => "Files",
        }
    }
}

/// The names and ports of the parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Areas {
    /// In small letters; empty = none of its own. As [`Area::ALL`] has them.
    names: [String; 3],
    /// Ports they listen on; none = where the API does.
    ports: [Option<u16>; 3],
    /// Seconds for which browsers shall use TLS only; 0 = nothing is said.
    hsts_s: u32,
}

impl Areas {
    /// By what the settings say.
    #[must_use]
    pub fn new(hosts: &Hosts, listen: &Listen, hsts_s: u32) -> Self {
        let port = |list: &[SocketAddr]| list.first().map(SocketAddr::port);
        let names = [&hosts.app, &hosts.api, &hosts.files];
        Self {
            names: names.map(|name| name.to_ascii_lowercase()),
            ports: [port(&listen.app), port(&listen.api), port(&listen.files)],
            hsts_s,
        }
    }

    fn name(&self, area: Area) -> Option<&str> {
        let name = self.names[area as usize].as_str();
        (!name.is_empty()).then_some(name)
    }

    fn port(&self, area: Area) -> Option<u16> {
        self.ports[area as usize].or(self.ports[Area::Api as usize])
    }

    /// The part a name belongs to. The name is in small letters, without port.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Area> {
        let mut all = Area::ALL.into_iter();
        all.find(|area| self.name(*area) == Some(name))
    }

    /// Seconds for which browsers shall use TLS only; 0 = nothing is said.
    #[must_use]
    pub const fn hsts_s(&self) -> u32 {
        self.hsts_s
    }

    /// Whether pages of the console ask an API of another origin.
    #[must_use]
    pub fn is_console_apart(&self) -> bool {
        self.name(Area::App).is_some() || self.ports[Area::App as usize].is_some()
    }

    /// Whether a part is served where a request came in: at the listener of a part (none = it is
    /// not known), by a name. A part without a name has all of them, one without addresses those
    /// of the API.
    #[must_use]
    pub fn serves(&self, at: Option<Area>, name: Option<&str>, area: Area) -> bool {
        let here = match (at, self.ports[area as usize]) {
            (None, _) => true,
            (Some(at), Some(_)) => at == area,
            (Some(at), None) => at == Area::Api,
        };
        let by = match name.and_then(|name| self.named(name)) {
            None => true,
            Some(named) => named == area || self.name(area).is_none(),
        };
        here && by
    }

    /// Where API and files are; none where they and the console have one address.
    #[must_use]
    pub fn apart(&self, public: &str) -> Option<(String, String)> {
        let [app, api, files] = Area::ALL.map(|area| self.address(area, public));
        (api != app || files != app).then_some((api, files))
    }

    /// Where a part is, without a slash at its end. `public` is the address of the console.
    #[must_use]
    pub fn address(&self, area: Area, public: &str) -> String {
        let Ok(url) = url::Url::parse(public) else {
            return public.to_owned();
        };
        let (listens, console) = (self.port(area), self.port(Area::App));
        let shown = url.port_or_known_default();
        // Where people reach the console at another port than it listens on, something stands in
        // front, for the other names as well.
        let port = match self.name(area) {
            Some(_) if shown != console => shown,
            _ => listens,
        };
        let host = match (area, self.name(area), url.host_str()) {
            (Area::App, ..) | (_, _, None) => return public.to_owned(),
            (_, None, Some(_)) if listens == console => return public.to_owned(),
            (_, Some(name), _) | (_, None, Some(name)) => name,
        };
        match port {
            None | Some(443) => format!("https://{host}"),
            Some(port) => format!("https://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn areas(names: [&str; 3], ports: [Option<u16>; 3]) -> Areas {
        let [app, api, files] = names.map(str::to_owned);
        let list = |port: Option<u16>| {
            let address = port.map(|port| SocketAddr::from(([0, 0, 0, 0], port)));
            address.into_iter().collect()
        };
        let [at_app, at_api, at_files] = ports.map(list);
        let listen = Listen {
            api: at_api,
            app: at_app,
            files: at_files,
            metrics: Vec::new(),
        };
        Areas::new(&Hosts { app, api, files }, &listen, 0)
    }

    const NAMES: [&str; 3] = ["app.gpu.lab", "API.gpu.lab", "files.gpu.lab"];
    const ONE: [Option<u16>; 3] = [None, Some(7420), None];

    #[test]
    fn every_path_is_of_one_part_or_of_all() {
        for path in [
            "/healthz",
            "/readyz",
            "/version",
            "/ca.pem",
            "/help/LS-HOST",
        ] {
            assert_eq!(Area::of(path), None, "{path}");
        }
        for path in [
            "/",
            "/s/s-1/web/",
            "/apis",
            "/setup",
            "/filesystem",
            "/healthz/x",
            "//api/v1",
        ] {
            assert_eq!(Area::of(path), Some(Area::App), "{path}");
        }
        for path in ["/api/v1/me", "/api", "/metrics"] {
            assert_eq!(Area::of(path), Some(Area::Api), "{path}");
        }
        assert_eq!(Area::of("/files/v1/sessions/s-1"), Some(Area::Files));
    }

    #[test]
    fn a_name_serves_its_part_alone_and_others_serve_all() {
        let three = areas(NAMES, ONE);
        let main = Some(Area::Api);
        for area in Area::ALL {
            for (name, own) in [
                ("app.gpu.lab", Area::App),
                ("api.gpu.lab", Area::Api),
                ("files.gpu.lab", Area::Files),
            ] {
                assert_eq!(
                    three.serves(main, Some(name), area),
                    own == area,
                    "{name} {area:?}"
                );
            }
            assert!(three.serves(main, Some("gpu01"), area));
            assert!(three.serves(main, None, area));
            assert!(three.serves(None, Some("10.0.0.1"), area));
        }
        // A part without a name of its own is served by those of the others.
        let one = areas(["", "", "files.gpu.lab"], ONE);
        assert!(one.serves(main, Some("files.gpu.lab"), Area::Api));
        assert!(one.serves(main, Some("files.gpu.lab"), Area::App));
        assert!(one.serves(main, Some("gpu.lab"), Area::Files));
        let two = areas(["", "api.gpu.lab", "files.gpu.lab"], ONE);
        assert!(!two.serves(main, Some("files.gpu.lab"), Area::Api));
        assert!(two.serves(main, Some("files.gpu.lab"), Area::App));
    }

    #[test]
    fn addresses_of_a_part_serve_it_alone() {
        let ports = areas(["", "", ""], [None, Some(7420), Some(7421)]);
        assert!(ports.serves(Some(Area::Files), None, Area::Files));
        assert!(!ports.serves(Some(Area::Files), None, Area::Api));
        assert!(!ports.serves(Some(Area::Files), None, Area::App));
        assert!(!ports.serves(Some(Area::Api), None, Area::Files));
        assert!(ports.serves(Some(Area::Api), None, Area::App));
        // The name counts beside the address.
        let both = areas(NAMES, [None, Some(7420), Some(7421)]);
        assert!(!both.serves(Some(Area::Files), Some("api.gpu.lab"), Area::Files));
        assert!(both.serves(Some(Area::Files), Some("files.gpu.lab"), Area::Files));
    }

    #[test]
    fn each_part_has_an_address_to_show() {
        let shown = |areas: &Areas, public: &str| Area::ALL.map(|area| areas.address(area, public));
        let plain = "https://gpu.lab:7420";
        assert_eq!(shown(&areas(["", "", ""], ONE), plain), [plain; 3]);
        assert_eq!(areas(["", "", ""], ONE).apart(plain), None);
        let one = areas(["", "", "files.lab"], ONE).apart(plain);
        let wanted = (plain.to_owned(), "https://files.lab:7420".to_owned());
        assert_eq!(one, Some(wanted));
        let balanced = shown(&areas(NAMES, ONE), "https://app.gpu.lab");
        assert_eq!(
            balanced,
            [
                "https://app.gpu.lab",
                "https://api.gpu.lab",
                "https://files.gpu.lab"
            ]
        );
        let direct = shown(&areas(NAMES, ONE), "https://app.gpu.lab:7420");
        assert_eq!(
            direct[1..],
            ["https://api.gpu.lab:7420", "https://files.gpu.lab:7420"]
        );
        let ports = areas(["", "", ""], [Some(443), Some(7420), Some(7421)]);
        assert_eq!(
            shown(&ports, "https://gpu.lab"),
            [
                "https://gpu.lab",
                "https://gpu.lab:7420",
                "https://gpu.lab:7421"
            ]
        );
        let both = areas(["", "", "files.lab"], [None, Some(7420), Some(7421)]);
        assert_eq!(shown(&both, plain)[2], "https://files.lab:7421");
        assert_eq!(shown(&both, "https://gpu.lab")[2], "https://files.lab");
    }
}
