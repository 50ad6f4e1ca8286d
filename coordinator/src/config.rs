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
mod tests;
