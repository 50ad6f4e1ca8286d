//! The coordinator's configuration: what the keys of [`SCHEMA`] become, and the rules that hold
//! between several of them. Where values come from is decided in `longshore-config`.

mod actions;
mod addresses;
mod agents;
mod apps;
mod backup;
mod database;
mod egress;
mod fixed;
mod hidden;
mod http;
mod https;
mod keys;
mod logging;
mod metrics;
mod networks;
mod notify;
mod retention;
mod scheduler;
mod secure;
mod sessions;
mod tables;
mod throttle;
mod told;

pub use actions::{ACTION_TYPES, ActionCall, UiAction, UiActions};
pub use addresses::{Hosts, Listen};
pub use agents::Agents;
pub use apps::Apps;
pub use backup::Backup;
pub use database::Database;
pub use egress::Egress;
pub use fixed::{FixedPasswords, FixedUser, FixedUsers};
pub use hidden::{Hidden, SecretText};
pub use http::Http;
pub use https::{Https, TlsMode, TlsVersion};
pub use keys::{SCHEMA, manual, reference};
pub use logging::Logging;
pub use metrics::Metrics;
pub use networks::ClusterNetworks;
pub use notify::{MailSettings, Notify, Tls, Webhook, is_public_url};
pub use retention::Retention;
pub use scheduler::Scheduler;
pub use secure::{
    Argon2, Auth, Cookies, Invitations, Logins, Password, Redacted, Secure, TotpSettings,
};
pub use sessions::{Idle, Sessions, WatchdogSection};
pub use throttle::Throttling;

use crate::api::cors::{Cors, is_origin};
use crate::rates::Network;
use longshore_common::amount::{SlotName, parse_bytes};
use longshore_common::ids::is_handle;
use longshore_common::session::PullRule;
use longshore_config::load::{Fault, Loaded, default_of};
use longshore_config::sources::{self, Start};
use longshore_core::model::{SchedulerSettings, SessionDefaults};
use longshore_identity::bucket::{LIMIT_MAX, LIMIT_MIN};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use told::Told;

/// A setting that is not accepted, in one sentence that says where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// Both, a line each.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self(format!("{self}\n{other}"))
    }
}

/// Every setting of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The daemon itself.
    pub daemon: Daemon,
    /// Passwords and second factors.
    pub secure: Secure,
    /// What it does for people.
    pub services: Services,
    /// What is written down.
    pub logging: Logging,
}

/// `[daemon]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Daemon {
    /// Where the database and keys lie.
    pub data_dir: PathBuf,
    /// TCP addresses.
    pub listen: Listen,
    /// Names of its parts.
    pub hosts: Hosts,
    /// Encryption of connections of people and programs.
    pub tls: Https,
    /// Name of this coordinator; empty = the machine's.
    pub name: String,
    /// The address people reach it by, in links and snippets; empty = https, the machine's name
    /// and the port of the API.
    pub public_url: String,
    /// Names and addresses by which it is reached, besides the machine's name and `hosts`.
    pub names: Vec<String>,
    /// Proxies in front of it, as addresses or networks: what they say about the client's
    /// address counts.
    pub trusted_proxies: Vec<String>,
    /// The link to agents.
    pub agents: Agents,
    /// How many requests who may make.
    pub rate_limit: RateLimit,
    /// Logins.
    pub auth: Auth,
    /// Pages of other origins.
    pub cors: CorsSection,
    /// Calls that the coordinator makes.
    pub egress: Egress,
    /// Apps in browsers.
    pub apps: Apps,
    /// What connections may ask.
    pub http: Http,
    /// Where everything is stored.
    pub database: Database,
    /// The socket for commands of root; empty = in the data directory.
    pub local_socket: PathBuf,
}

/// `[daemon.rate_limit]`: requests in any 900 s, 1 to 1000000.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// Of a keypair that has no limit of its own, and of all logins of a person.
    pub keypair: u32,
    /// Of a client that is not known, by its address.
    pub anonymous: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            keypair: 10_000,
            anonymous: 1000,
        }
    }
}

impl Daemon {
    /// The trusted proxies; what [`Config::load`] refuses is left out.
    #[must_use]
    pub fn proxies(&self) -> Vec<Network> {
        let texts = self.trusted_proxies.iter();
        texts.filter_map(|text| text.parse().ok()).collect()
    }
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/longshore"),
            listen: Listen::default(),
            hosts: Hosts::default(),
            tls: Https::default(),
            name: String::new(),
            public_url: String::new(),
            names: Vec::new(),
            trusted_proxies: Vec::new(),
            agents: Agents::default(),
            rate_limit: RateLimit::default(),
            auth: Auth::default(),
            cors: CorsSection::default(),
            egress: Egress::default(),
            apps: Apps::default(),
            http: Http::default(),
            database: Database::default(),
            local_socket: PathBuf::new(),
        }
    }
}

/// `[daemon.cors]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct CorsSection {
    /// `scheme://host[:port]` of pages that may read answers; `*` alone = all.
    pub origins: Vec<String>,
    /// Their cookies and logins count.
    pub credentials: bool,
    /// How long a browser may keep what it was told, in seconds.
    pub max_age_s: i64,
}

impl Default for CorsSection {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            credentials: false,
            max_age_s: 600,
        }
    }
}

impl CorsSection {
    fn check(&self) -> Result<(), ConfigError> {
        let all = self.origins.iter().any(|origin| origin == "*");
        if all && self.credentials {
            let text = "daemon.cors: origins \"*\" cannot be used with credentials";
            return Err(ConfigError(text.to_owned()));
        }
        if all && self.origins.len() > 1 {
            let text = "daemon.cors.origins: \"*\" stands alone";
            return Err(ConfigError(text.to_owned()));
        }
        let mut others = self.origins.iter().filter(|origin| *origin != "*");
        match others.find(|origin| !is_origin(origin)) {
            None => Ok(()),
            Some(origin) => Err(ConfigError(format!(
                "daemon.cors.origins: \"{origin}\" is not of the form https://HOST or https://HOST:PORT"
            ))),
        }
    }

    /// As the API uses it. `own` is the origin of the console, where the API is of another one.
    #[must_use]
    pub fn cors(&self, own: Option<String>) -> Cors {
        Cors {
            own,
            origins: self.origins.clone(),
            credentials: self.credentials,
            max_age_s: self.max_age_s,
        }
    }
}

/// `[services]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Services {
    /// What resource groups do that do not say.
    pub scheduler: Scheduler,
    /// How containers of one session reach each other.
    pub network: ClusterNetworks,
    /// What sessions get.
    pub sessions: Sessions,
    /// The images they are made from.
    pub images: Images,
    /// About people.
    pub organization: Organization,
    /// What people are told outside of the product.
    pub notify: Notify,
    /// How long what happened is kept.
    pub retention: Retention,
    /// Copies of the database.
    pub backup: Backup,
    /// Figures for Prometheus.
    pub metrics: Metrics,
}

/// `[services.images]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Images {
    /// When a node pulls an image.
    pub auto_update: PullRule,
}

/// `[services.organization]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Organization {
    /// Whose installation it is: stands in mails and where people log in.
    pub name: String,
    /// Whose the work of others is that waits or holds a device is not shown to users.
    pub hide_owners: bool,
    /// Service accounts may act as administrators of their domain.
    pub allow_service_account_admins: bool,
    /// Calls that people may have made about an object, by its type.
    pub ui_actions: UiActions,
}

impl Default for Organization {
    fn default() -> Self {
        Self {
            name: "Longshore".to_owned(),
            hide_owners: false,
            allow_service_account_admins: false,
            ui_actions: UiActions::default(),
        }
    }
}

impl Organization {
    fn check(&self) -> Result<(), ConfigError> {
        let length = self.name.chars().count();
        if !(1..=64).contains(&length) || self.name.chars().any(char::is_control) {
            let key = "services.organization.name";
            let text = "must have 1 to 64 characters, none of them a control character";
            return Err(ConfigError(format!("{key}: {text}")));
        }
        actions::check(&self.ui_actions)
    }
}

/// What the command line sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--listen`, once for each address; none = as the files say
    pub listen: Vec<SocketAddr>,
    /// `--agents-listen`
    pub agents_listen: Option<SocketAddr>,
    /// `--default-image`
    pub default_image: Option<String>,
    /// `--name`
    pub name: Option<String>,
    /// `--set KEY=VALUE`
    pub set: Vec<(String, String)>,
}

impl Overrides {
    /// Each as its name on the command line, its key and its text; the flags win over `--set`.
    fn arguments(self) -> Vec<(String, String, String)> {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let flags = [
            ("--data-dir", "daemon.data_dir", self.data_dir.map(path)),
            (
                "--listen",
                "daemon.listen.api",
                (!self.listen.is_empty()).then(|| {
                    let quoted = self.listen.iter().map(|a| format!("\"{a}\""));
                    format!("[{}]", quoted.collect::<Vec<_>>().join(","))
                }),
            ),
            (
                "--agents-listen",
                "daemon.agents.listen",
                self.agents_listen.map(|a| a.to_string()),
            ),
            (
                "--default-image",
                "services.sessions.default_image",
                self.default_image,
            ),
            ("--name", "daemon.name", self.name),
        ];
        let set = self.set.into_iter();
        let flags = flags
            .into_iter()
            .filter_map(|(flag, key, text)| Some((flag.to_owned(), key.to_owned(), text?)));
        set.map(|(key, text)| ("--set".to_owned(), key, text))
            .chain(flags)
            .collect()
    }
}

impl Config {
    /// Reads all sources and checks the result; the second is where each value came from.
    ///
    /// `file` stands in place of the directory that is read where no variable names others;
    /// `set` is what the command line sets, each a key and a text.
    ///
    /// # Errors
    /// All that is wrong, a line each.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: Overrides,
    ) -> Result<(Self, Loaded), ConfigError> {
        Self::load_with(file, (Vec::new(), &[]), environment, overrides)
    }

    /// The same with settings that are stored, by their dotted keys, and the keys of those that
    /// are stored and cannot be read: what needs one of these is off.
    ///
    /// # Errors
    /// All that is wrong, a line each.
    pub fn load_with(
        file: Option<&Path>,
        (settings, shut): (Vec<(String, serde_json::Value)>, &[&str]),
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: Overrides,
    ) -> Result<(Self, Loaded), ConfigError> {
        // They stand over files, and variables stand over them, as if they could be read.
        let empty = shut.iter().filter_map(|path| {
            let key = SCHEMA.key(path)?;
            Some(((*path).to_owned(), default_of(key.default)))
        });
        let settings = settings.into_iter().chain(empty).collect();
        let (mut config, mut loaded) = Self::unchecked(file, settings, environment, overrides)?;
        for text in config.without(shut) {
            loaded.warnings.push(loaded.placed(&text));
        }
        let daemon = &config.daemon;
        let hint = daemon.hosts.warning(&daemon.auth.cookies.domain);
        loaded.warnings.extend(hint.map(|text| loaded.placed(text)));
        let config = config.checked();
        let config = config.map_err(|error| {
            let lines = error.0.lines().map(|line| loaded.placed(line).to_string());
            ConfigError(lines.collect::<Vec<_>>().join("\n"))
        })?;
        Ok((config, loaded))
    }

    /// What the sources say, without the rules that hold between several keys: some of what those
    /// are about may be stored, where the files alone do not keep to them.
    ///
    /// # Errors
    /// All that is wrong, a line each.
    pub fn unchecked(
        file: Option<&Path>,
        settings: Vec<(String, serde_json::Value)>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: Overrides,
    ) -> Result<(Self, Loaded), ConfigError> {
        let loaded = Self::sources(file, settings, environment, overrides)?;
        // The schema has judged keys and types; what is left are texts with a form of their own.
        let config: Result<Self, Fault> = loaded.typed(&SCHEMA);
        let config = config.map_err(|fault| ConfigError(fault.to_string()))?;
        Ok((config, loaded))
    }

    /// Switches off what needs settings that are stored and cannot be read; a line for each.
    fn without(&mut self, shut: &[&str]) -> Vec<String> {
        let mut off = Vec::new();
        let mail = &mut self.services.notify.mail;
        let key = "services.notify.mail.password";
        let lacking = mail.password == SecretText::default() && shut.contains(&key);
        if mail.enabled && lacking {
            mail.enabled = false;
            off.push(format!(
                "{key}: it is stored and cannot be read; no mail is sent"
            ));
        }
        let key = "services.notify.webhooks";
        if self.services.notify.webhooks.is_empty() && shut.contains(&key) {
            off.push(format!(
                "{key}: they are stored and cannot be read; none is called"
            ));
        }
        off
    }

    /// What the sources say, as far as the schema judges it.
    ///
    /// # Errors
    /// All that is wrong, a line each.
    pub fn sources(
        file: Option<&Path>,
        settings: Vec<(String, serde_json::Value)>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: Overrides,
    ) -> Result<Loaded, ConfigError> {
        let start = Start {
            file: file.map(|file| (file, Vec::new())),
            settings,
            environment: environment.into_iter().collect(),
            arguments: overrides.arguments(),
        };
        sources::start(&SCHEMA, start).map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            ConfigError(lines.join("\n"))
        })
    }

    fn checked(mut self) -> Result<Self, ConfigError> {
        let mut told = Told::default();
        told.add(self.check());
        told.add(self.secure.check());
        told.add(self.daemon.cors.check());
        told.add(self.services.organization.check());
        told.add(self.daemon.egress.check());
        told.add(self.services.retention.check());
        told.add(self.services.backup.check());
        told.add(self.services.notify.check());
        let loopback = self.daemon.listen.are_loopback();
        told.add(self.daemon.auth.check(loopback));
        let mut places = Told::default();
        places.add(self.daemon.listen.check());
        places.add(self.daemon.hosts.check());
        places.add(addresses::check_names(&self.daemon.names));
        places.add(self.check_public_url());
        let places = places.end();
        // What these say together is judged where each of them is good.
        let together = places.is_ok().then(|| self.check_together());
        told.add(places);
        told.add(together.unwrap_or(Ok(())));
        told.end()?;
        Ok(self)
    }

    fn check_public_url(&self) -> Result<(), ConfigError> {
        let mut told = Told::default();
        if let Err(text) = is_public_url(&self.daemon.public_url) {
            told.wrong("daemon.public_url", text);
        }
        told.end()
    }

    fn check_together(&self) -> Result<(), ConfigError> {
        let daemon = &self.daemon;
        let (public, cookies) = (&daemon.public_url, &daemon.auth.cookies.domain);
        let trusts = !daemon.trusted_proxies.is_empty();
        let mut told = Told::default();
        let hosts = daemon.hosts.check_with(public, cookies);
        // Both may say that cookies do not reach the console.
        told.add(hosts.and_then(|()| daemon.check_console(cookies)));
        told.add(daemon.tls.check(&daemon.listen, &daemon.apps, trusts));
        let tls = daemon.tls.mode != TlsMode::Off;
        told.add(self.services.metrics.check(&daemon.listen.metrics, tls));
        told.add(self.check_names_of(None));
        told.end()
    }

    /// What the coordinator is called on a machine that calls itself `machine`.
    #[must_use]
    pub fn name_on<'a>(&'a self, machine: &'a str) -> &'a str {
        match self.daemon.name.as_str() {
            "" => machine,
            name => name,
        }
    }

    /// What goes wrong with the name of the machine, which is known only where it starts.
    ///
    /// # Errors
    /// Apps would answer what people ask the console by `machine`.
    pub fn check_machine(&self, machine: &str) -> Result<(), ConfigError> {
        self.check_names_of(Some(machine))
    }

    fn check_names_of(&self, machine: Option<&str>) -> Result<(), ConfigError> {
        let daemon = &self.daemon;
        let parts = daemon.hosts.named();
        let parts = parts.map(|(key, name)| (format!("daemon.hosts.{key}"), name.to_owned()));
        let parts: Vec<_> = daemon.console(machine).into_iter().chain(parts).collect();
        daemon.apps.check(&parts, &daemon.auth.cookies.domain)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let mut told = Told::default();
        told.add(self.daemon.agents.check());
        told.add(self.daemon.http.check());
        told.add(self.daemon.check_paths());
        told.add(self.logging.check().map_err(ConfigError));
        told.add(self.services.scheduler.check());
        told.add(self.services.network.check());
        told.add(self.services.sessions.check());
        if !self.daemon.name.is_empty() && !is_handle(&self.daemon.name) {
            told.wrong("daemon.name", "must have 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        let limits = &self.daemon.rate_limit;
        for (key, limit) in [("keypair", limits.keypair), ("anonymous", limits.anonymous)] {
            if !(LIMIT_MIN..=LIMIT_MAX).contains(&limit) {
                let text = format!("must be {LIMIT_MIN} to {LIMIT_MAX} requests in 900 s");
                told.wrong(&format!("daemon.rate_limit.{key}"), text);
            }
        }
        for text in &self.daemon.trusted_proxies {
            if let Err(error) = text.parse::<Network>() {
                told.wrong("daemon.trusted_proxies", error);
            }
        }
        told.add(self.defaults().map(|_| ()));
        told.end()
    }

    /// The address people reach it by, without a slash at its end; `host` is the name of the
    /// machine.
    #[must_use]
    pub fn public_url(&self, host: &str) -> String {
        let host = match self.daemon.hosts.app.as_str() {
            "" => host,
            name => name,
        };
        // In the form in which browsers send it as an origin: these are compared to the letter.
        match is_public_url(&self.daemon.public_url) {
            Ok(Some(url)) => url,
            _ => {
                let own = format!("https://{host}:{}", self.daemon.listen.console().port());
                is_public_url(&own).ok().flatten().unwrap_or(own)
            }
        }
    }

    /// What groups do that do not say.
    #[must_use]
    pub fn scheduling(&self) -> SchedulerSettings {
        SchedulerSettings {
            idle: self.services.sessions.idle.policy(),
            lives: self.services.sessions.lives(),
            pull: self.services.images.auto_update,
            network: self.services.network.settings(),
            declare_lost_s: self.daemon.agents.declare_lost_s,
            ..self.services.scheduler.settings()
        }
    }

    /// Where agents connect to.
    #[must_use]
    pub fn agents_listen(&self) -> SocketAddr {
        let api = self.daemon.listen.first();
        self.daemon.agents.listen.unwrap_or(api)
    }

    /// What a session gets that does not say.
    ///
    /// # Errors
    /// An amount that does not read.
    pub fn defaults(&self) -> Result<SessionDefaults, ConfigError> {
        let cpu_milli = SlotName::cpu()
            .parse_amount(&self.services.sessions.default_cpu)
            .ok()
            .filter(|v| *v > 0)
            .ok_or_else(|| {
                ConfigError(
                    "services.sessions.default_cpu: must be a whole number of cores above 0"
                        .to_owned(),
                )
            })?;
        let mem_bytes = parse_bytes(&self.services.sessions.default_mem)
            .ok()
            .filter(|v| *v > 0)
            .ok_or_else(|| {
                ConfigError(
                    "services.sessions.default_mem: must be memory, such as 512m or 2g".to_owned(),
                )
            })?;
        Ok(SessionDefaults {
            image: self.services.sessions.default_image.clone(),
            system_image: self.services.sessions.system_image.clone(),
            cpu_milli,
            mem_bytes,
            priority: self.services.sessions.default_priority,
            array_tasks: self.services.sessions.array_tasks,
            ..SessionDefaults::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_core::model::{Discipline, Selection};

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(Some(&path), environment, Overrides::default()).map(|(config, _)| config)
    }

    #[test]
    fn later_sources_win() {
        let config = load(
            "[daemon]\nlisten.api = [\"127.0.0.1:1\"]\n[services.sessions]\ndefault_image = \"a\"\n",
            &[
                ("LONGSHORE__SERVICES__SESSIONS__DEFAULT_IMAGE", "007"),
                ("LONGSHORE__DAEMON__AGENTS__HEARTBEAT_S", "3"),
                ("LONGSHORE__DAEMON__NAMES", "[\"a\",\"b\"]"),
                ("OTHER", "x"),
            ],
        )
        .unwrap();
        assert_eq!(config.agents_listen().port(), 1);
        assert_eq!(config.services.sessions.default_image, "007");
        assert_eq!(config.daemon.agents.heartbeat_s, 3);
        assert_eq!(config.daemon.names, ["a", "b"]);
        assert_eq!(config.daemon.listen.api, [config.agents_listen()]);
    }

    #[test]
    fn of_a_webhook_that_does_not_read_nothing_is_told() {
        let text = "[[services.notify.webhooks]]\nname = \"a\"\nurl = \"https://a.lab/\"\nheaders = \"X-Token: hunter2\"\n";
        let told = load(text, &[]).unwrap_err().to_string();
        assert!(told.contains("services.notify.webhooks"), "{told}");
        assert!(told.contains("4:11: services.notify.webhooks: item 1: headers: must be a map"));
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn the_scheduler_is_set_in_any_case() {
        let none = Config::default().services.scheduler.settings();
        assert_eq!(none, SchedulerSettings::default());
        let config = load(
            "[services.scheduler]\nscheduler = \"DRF\"\nagent_selection = \"Round-Robin\"\nretries_to_skip = 0\n",
            &[("LONGSHORE__SERVICES__SCHEDULER__PENDING_TIMEOUT_S", "60")],
        );
        let expected = SchedulerSettings {
            scheduler: Discipline::Drf,
            agent_selection: Selection::RoundRobin,
            retries_to_skip: 0,
            pending_timeout_s: 60,
            ..SchedulerSettings::default()
        };
        assert_eq!(config.unwrap().services.scheduler.settings(), expected);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let text = load("[daemon]\n\npublic_ul = \"x\"\n", &[])
            .unwrap_err()
            .to_string();
        assert!(
            text.contains(
                "daemon.toml:3:1: unknown key daemon.public_ul; did you mean daemon.public_url?"
            ),
            "{text}"
        );
        let text = load("", &[("LONGSHORE__DAEMON__AGENTS__HEARTBEET_S", "3")])
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("did you mean daemon.agents.heartbeat_s?"),
            "{text}"
        );
        assert!(load("", &[("LONGSHORE__DAEMON__AGENTS__HEARTBEAT_S", "x")]).is_err());
        for bad in [
            "[daemon.agents]\nlost_after_s = 3",
            "[daemon.agents]\ndeclare_lost_s = 119",
            "[daemon.agents]\nlost_after_s = 300\ndeclare_lost_s = 299",
            "[services.sessions]\ndefault_mem = \"lots\"",
            "[services.sessions]\ndefault_cpu = \"0\"",
            "[services.sessions]\ncreation_retries = 3",
            "[services.scheduler]\nscheduler = \"fair\"",
            "[services.scheduler]\nagent_selection = \"best\"",
            "[services.scheduler]\nretries_to_skip = -1",
            "[services.scheduler]\ninterval_s = 0",
            "[services.scheduler]\ncreation_retries = 101",
            "[services.scheduler]\npending_timeout_s = -1",
            "[daemon]\npublic_url = \"http://gpu.lab\"",
            "[daemon.auth.invitations]\nexpires_s = 2592001",
            "[services.notify.mail]\nenabled = true",
            "[services.notify.mail]\ntls = \"ssl\"",
            "x = 1",
            "[",
        ] {
            assert!(load(bad, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_in_one_run() {
        let told = |text: &str| {
            let told = load(text, &[]).unwrap_err().to_string();
            let lines = told.lines().map(|line| {
                let (_, line) = line.split_once("daemon.toml:").unwrap();
                line.to_owned()
            });
            lines.collect::<Vec<String>>()
        };
        // What the types say.
        let types = told(
            "[daemon]\ndata_dir = \"rel\"\npublic_url = \"gpu.lab\"\ntrusted_proxies = [\"foo\"]\n[services]\nnetwork.overlay_pool = \"foo\"\n[[services.notify.webhooks]]\nname = \"a\"\nurl = \"desk\"\nsecert = \"hunter2\"\n[[services.organization.ui_actions.sesion]]\nname = \"b\"\n[[services.organization.ui_actions.session]]\nname = \"b\"\naction = { method = \"PUT\", url = \"https://a.lab/\" }\n[[daemon.auth.fixed_users.users]]\nusername = \"carol\"\npasword = \"hunter2\"\n",
        );
        for line in [
            "2:12: daemon.data_dir: \"rel\" must be a path, whole from /",
            "3:14: daemon.public_url: \"gpu.lab\" must be an address, such as https://host/path",
            "9:7: services.notify.webhooks: item 1: url: must be an address, such as https://host/path",
            "10:1: services.notify.webhooks: item 1: unknown key secert; did you mean secret?",
            "11:36: services.organization.ui_actions: unknown key sesion; did you mean session?",
            "15:23: services.organization.ui_actions: session: item 1: action: method: must be one of GET, POST, DELETE",
            "18:1: daemon.auth.fixed_users.users: item 1: unknown key pasword; did you mean password?",
        ] {
            let (place, what) = line.split_once(": ").unwrap();
            let found = types.iter().find(|told| told.ends_with(what));
            let row = place.split(':').next().unwrap();
            assert!(
                found.is_some_and(|told| told.starts_with(&format!("{row}:"))),
                "{line}: {types:#?}"
            );
        }
        assert_eq!(types.len(), 9, "{types:#?}");
        assert!(
            types.iter().all(|line| !line.contains("hunter")),
            "{types:#?}"
        );
        // What the program says of values of the right types.
        let rules = told(
            "[daemon]\nname = \"a b\"\nnames = [\"a b\"]\ncors.origins = [\"x\"]\n[daemon.agents]\nlost_after_s = 3\n[services.sessions]\ndefault_cpu = \"0\"\n[[services.organization.ui_actions.session]]\nname = \"b\"\naction = { method = \"GET\", url = \"https://${id}/\" }\n[[services.organization.ui_actions.session]]\nname = \"b\"\naction = { method = \"GET\", url = \"https://a.lab/\", secret = \"changeme\" }\n",
        );
        assert_eq!(rules.len(), 8, "{rules:#?}");
        for what in [
            "b: ${id} may not",
            "b: the name is given twice",
            "b: secret: a sample value",
        ] {
            assert!(
                rules.iter().any(|line| line.contains(what)),
                "{what}: {rules:#?}"
            );
        }
    }

    #[test]
    fn secrets_within_lists_may_stand_in_files_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "s3 cret\n").unwrap();
        let named = format!("{{ file = \"{}\" }}", file.display());
        let text = format!(
            "[[services.notify.webhooks]]\nname = \"a\"\nurl = \"https://a.lab/\"\nsecret = {named}\nheaders = {{ X = {named} }}\n[[services.organization.ui_actions.session]]\nname = \"b\"\naction = {{ method = \"GET\", url = \"https://a.lab/\", secret = {named}, headers = {{ X = {named} }} }}\n[daemon.auth.fixed_users]\nenabled = true\n[[daemon.auth.fixed_users.users]]\nusername = \"carol\"\npassword = {named}\n"
        );
        let config = load(&text, &[]).unwrap();
        let hook = &config.services.notify.webhooks[0];
        let action = &config.services.organization.ui_actions["session"][0].action;
        let user = &config.daemon.auth.fixed_users.users[0];
        for secret in [
            hook.secret.as_ref().unwrap(),
            &hook.headers["X"],
            action.secret.as_ref().unwrap(),
            &action.headers["X"],
            &user.password,
        ] {
            assert_eq!(secret.expose(), "s3 cret");
        }
        std::fs::remove_file(&file).unwrap();
        let told = load(&text, &[]).unwrap_err().to_string();
        assert_eq!(told.lines().count(), 5, "{told}");
        // What is stored came through the API: it names no file of this machine.
        let hooks = serde_json::json!([{ "name": "a", "url": "https://a.lab/", "secret": { "file": "/etc/passwd" } }]);
        let stored = vec![("services.notify.webhooks".to_owned(), hooks)];
        let none = dir.path().join("none.toml");
        std::fs::write(&none, "").unwrap();
        let given = (stored, &[][..]);
        let read = Config::load_with(Some(&none), given, Vec::new(), Overrides::default());
        let told = read.unwrap_err().to_string();
        let begins = "settings: services.notify.webhooks: item 1: secret: must be text; only files";
        assert!(told.starts_with(begins), "{told}");
    }

    #[test]
    fn a_master_key_that_cannot_be_used_is_found_without_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let (config, key) = (dir.path().join("a.toml"), dir.path().join("master.key"));
        let text = format!("[secure]\nmaster_key_file = \"{}\"\n", key.display());
        std::fs::write(&config, text).unwrap();
        let mode = |path: &Path, mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, mode).unwrap();
        };
        mode(&config, 0o600);
        let check = || {
            let read = Config::load(Some(&config), Vec::new(), Overrides::default());
            let (config, loaded) = read.unwrap();
            config
                .check_master_key(&loaded)
                .map_err(|error| error.to_string())
        };
        assert_eq!(check(), Ok(()), "none is none that is wrong");
        std::fs::write(&key, "no key").unwrap();
        mode(&key, 0o400);
        let told = check().unwrap_err();
        assert!(
            told.contains("a.toml:2: secure.master_key_file: /"),
            "{told}"
        );
        std::fs::remove_file(&key).unwrap();
        std::fs::write(&key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        mode(&key, 0o644);
        assert!(check().is_err(), "everybody may read it");
        mode(&key, 0o400);
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn secrets_in_the_clear_where_everybody_reads_are_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        let hook = "[[services.notify.webhooks]]\nname = \"a\"\nurl = \"https://a.lab/\"\nsecret = \"s3 cret\"\n";
        std::fs::write(&path, hook).unwrap();
        let warnings = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&path, mode).unwrap();
            let read = Config::load(Some(&path), Vec::new(), Overrides::default());
            let (_, loaded) = read.unwrap();
            let warnings = loaded.warnings.iter().map(ToString::to_string);
            warnings.collect::<Vec<String>>()
        };
        assert_eq!(warnings(0o640), [""; 0]);
        let told = warnings(0o644);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("services.notify.webhooks: is in the clear"));
        assert!(!told[0].contains("s3 cret"));
    }

    #[test]
    fn apps_live_outside_of_the_domain_of_cookies() {
        let said = |domain: &str, public: &str, cookies: &str| {
            let apps = Apps {
                domain: domain.to_owned(),
                ..Apps::default()
            };
            let mut config = Config::default();
            config.daemon.apps = apps;
            config.daemon.public_url = public.to_owned();
            config.daemon.auth.cookies.domain = cookies.to_owned();
            config.check_names_of(None).map_err(|error| error.0)
        };
        let public = "https://gpu.lab:7420";
        assert_eq!(said("apps.lab", public, ".gpu.lab"), Ok(()));
        assert_eq!(said("apps.gpu.lab", public, ""), Ok(()));
        assert_eq!(said("", public, ".gpu.lab"), Ok(()));
        for within in ["apps.gpu.lab", "GPU.lab", "a.b.gpu.lab"] {
            let said = said(within, public, ".gpu.lab").unwrap_err();
            assert!(
                said.contains("lies within daemon.auth.cookies.domain"),
                "{said}"
            );
        }
        for bad in ["lab", "*.lab", "a..lab", "https://a.lab"] {
            assert!(said(bad, public, "").is_err(), "{bad}");
        }
        assert!(said("lab.net", "https://gpu.lab.net", "").is_err());
    }

    #[test]
    fn no_part_has_a_name_of_apps() {
        let domain = "[daemon.apps]\ndomain = \"apps.gpu.lab\"";
        for (key, line) in [
            (
                "daemon.public_url",
                "public_url = \"https://X.Apps.gpu.lab\"",
            ),
            ("daemon.hosts.app", "hosts.app = \"app.apps.gpu.lab\""),
            ("daemon.hosts.api", "hosts.api = \"API.apps.gpu.lab\""),
            ("daemon.hosts.files", "hosts.files = \"files.apps.gpu.lab\""),
            ("daemon.hosts.files", "hosts.files = \"Apps.gpu.lab\""),
            ("daemon.name", "name = \"gpu01.apps.gpu.lab\""),
        ] {
            let told = load(&format!("[daemon]\n{line}\n{domain}"), &[]);
            let told = told.unwrap_err().to_string();
            assert!(
                told.contains(&format!("daemon.apps.domain: {key} (")),
                "{told}"
            );
        }
        for good in [
            "hosts.app = \"gpu.lab\"",
            "hosts.api = \"myapps.gpu.lab\"",
            "public_url = \"https://gpu.lab\"\nname = \"gpu01.apps.gpu.lab\"",
        ] {
            assert!(
                load(&format!("[daemon]\n{good}\n{domain}"), &[]).is_ok(),
                "{good}"
            );
        }
        // The machine may call itself so, which no file says.
        let config = load(domain, &[]).unwrap();
        assert_eq!(config.check_machine("gpu01"), Ok(()));
        let told = config.check_machine("gpu01.apps.gpu.lab").unwrap_err();
        assert!(
            told.0.contains("the name of this machine (gpu01.apps"),
            "{told}"
        );
    }
}
