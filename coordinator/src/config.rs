//! Settings: defaults, then a file, then the environment, then the command line.
//!
//! Strict: a key that is not known is refused with its place and the nearest known one.
//! `LONGSHORE__SECTION__KEY` in the environment sets `key` of `[section]`; the type of
//! the key decides how its text is read.

mod fixed;
mod hidden;
mod notify;
mod retention;
mod secure;

pub use fixed::{FixedPasswords, FixedUser, FixedUsers};
pub use hidden::{Hidden, SecretText};
pub use notify::{MailSettings, Notify, Tls, is_public_url};
pub use retention::Retention;
pub use secure::{Argon2, Auth, Cookies, Invitations, Logins, Password, Secure, TotpSettings};

use crate::api::errors::nearest;
use crate::rates::Network;
use longshore_common::amount::{SlotName, parse_bytes};
use longshore_common::ids::is_handle;
use longshore_common::limits::{
    Combine, IdleAction, IdlePolicy, KEEP_MAX, Metric, Operator, UtilizationPolicy,
};
use longshore_core::model::{
    Discipline, LifeSettings, SchedulerSettings, Selection, SessionDefaults,
};
use longshore_identity::bucket::{LIMIT_MAX, LIMIT_MIN};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

const PREFIX: &str = "LONGSHORE__";

/// A setting that is not accepted, in one sentence that says where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Every setting of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The daemon itself.
    pub daemon: Daemon,
    /// The link to agents.
    pub agents: Agents,
    /// What sessions get.
    pub sessions: Sessions,
    /// What resource groups do that do not say.
    pub scheduler: Scheduler,
    /// What people may do beyond the operation table.
    pub services: Services,
    /// Passwords and second factors.
    pub secure: Secure,
    /// What people are told outside of the product.
    pub notify: Notify,
    /// What is written down.
    pub log: Log,
}

/// `[daemon]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Daemon {
    /// Where the database and keys lie.
    pub data_dir: PathBuf,
    /// TCP address of the API.
    pub listen: SocketAddr,
    /// Name of this coordinator; empty = the machine's.
    pub name: String,
    /// The address people reach it by, in links and snippets; empty = https, the machine's name
    /// and the port of the API.
    pub public_url: String,
    /// Names and addresses by which it is reached, besides the machine's name.
    pub hosts: Vec<String>,
    /// Proxies in front of it, as addresses or networks: what they say about the client's
    /// address counts.
    pub trusted_proxies: Vec<String>,
    /// How many requests who may make.
    pub rate_limit: RateLimit,
    /// Logins.
    pub auth: Auth,
}

/// `[daemon.rate_limit]`: requests in any 900 s, 1 to 1000000.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
            listen: SocketAddr::from(([0, 0, 0, 0], longshore_common::wire::DEFAULT_PORT)),
            name: String::new(),
            public_url: String::new(),
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            rate_limit: RateLimit::default(),
            auth: Auth::default(),
        }
    }
}

/// `[agents]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agents {
    /// UDP address; absent = as the API.
    pub listen: Option<SocketAddr>,
    /// Addresses agents may use besides the one they have.
    pub addresses: Vec<String>,
    /// Seconds between heartbeats.
    pub heartbeat_s: u32,
    /// T1: seconds of silence after which an agent is LOST.
    pub lost_after_s: u32,
    /// T2: seconds of silence after which its sessions are given up; 0 = never. Of the
    /// group that the first start makes; after that administrators set it, group by group.
    pub declare_lost_s: u32,
    /// Days a certificate of an agent is good.
    pub certificate_days: u32,
    /// Segmentation offload; off where a network card gets it wrong.
    pub gso: bool,
}

impl Default for Agents {
    fn default() -> Self {
        Self {
            listen: None,
            addresses: Vec::new(),
            heartbeat_s: 2,
            lost_after_s: 15,
            declare_lost_s: 600,
            certificate_days: 90,
            gso: true,
        }
    }
}

/// `[sessions]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// Image of a session that names none; empty = there is none.
    pub default_image: String,
    /// Cores of a session that names none.
    pub default_cpu: String,
    /// Memory of a session that names none.
    pub default_mem: String,
    /// Priority of a session that names none.
    pub default_priority: u8,
    /// How often a lifetime may be extended whose keypair policy does not say.
    pub extend_max: u32,
    /// By how many seconds at once.
    pub extend_step_s: i64,
    /// When sessions count as unused whose keypair policy does not say. In force for what is
    /// submitted after the start.
    pub idle: Idle,
}

impl Sessions {
    /// How long sessions live where no policy says so.
    #[must_use]
    pub fn lives(&self) -> LifeSettings {
        LifeSettings {
            extend_max: self.extend_max,
            extend_step_s: self.extend_step_s,
            new_user_grace_s: self.idle.new_user_grace_s,
        }
    }
}

/// `[sessions.idle]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Idle {
    /// Seconds without use; 0 = nobody is stopped for it.
    pub timeout_s: u32,
    /// Seconds of running before any verdict.
    pub initial_grace_s: u32,
    /// Seconds over which work is averaged; 0 = only use counts, not work.
    pub window_s: u32,
    /// Below this mean share of the granted cores a session does no work, in percent.
    pub cpu_pct: u32,
    /// The same for its GPUs.
    pub gpu_pct: u32,
    /// `all`: stopped when nobody uses it and it does no work; `any`: when one of them holds.
    pub combine: String,
    /// Seconds before the stop at which its user is warned.
    pub warn_s: Vec<u32>,
    /// For so many seconds after a person was made no lifetime and no rule of idleness counts
    /// for its sessions; 0 = they count from the beginning.
    pub new_user_grace_s: i64,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            timeout_s: 0,
            initial_grace_s: 300,
            window_s: 900,
            cpu_pct: 5,
            gpu_pct: 5,
            combine: "all".to_owned(),
            warn_s: vec![3600, 900, 300],
            new_user_grace_s: 0,
        }
    }
}

impl Idle {
    /// The rules as data; none when nobody is stopped.
    #[must_use]
    pub fn policy(&self) -> Option<IdlePolicy> {
        let utilization = (self.window_s > 0).then(|| UtilizationPolicy {
            window_s: self.window_s,
            operator: Operator::And,
            applies_to_batch: false,
            thresholds: vec![(Metric::Cpu, self.cpu_pct), (Metric::Gpu, self.gpu_pct)],
        });
        (self.timeout_s > 0).then(|| IdlePolicy {
            action: IdleAction::Stop,
            combine: self.combine.parse().unwrap_or(Combine::All),
            initial_grace_s: self.initial_grace_s,
            warn_s: self.warn_s.clone(),
            interaction_timeout_s: Some(self.timeout_s),
            utilization,
            timeout_s: self.timeout_s,
            keep_max: KEEP_MAX,
        })
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            default_image: String::new(),
            default_cpu: "1".to_owned(),
            default_mem: "2g".to_owned(),
            default_priority: 10,
            extend_max: LifeSettings::default().extend_max,
            extend_step_s: LifeSettings::default().extend_step_s,
            idle: Idle::default(),
        }
    }
}

/// `[services]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Services {
    /// About sessions.
    pub sessions: SessionServices,
    /// About people.
    pub organization: Organization,
    /// How long what happened is kept.
    pub retention: Retention,
}

/// `[services.sessions]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionServices {
    /// Administrators may reach into sessions of others; each use is recorded.
    pub admin_exec: bool,
}

/// `[services.organization]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Organization {
    /// Service accounts may act as administrators of their domain.
    pub allow_service_account_admins: bool,
}

/// `[scheduler]`: the defaults of every resource group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scheduler {
    /// `fifo`, `lifo`, `drf` in any case: order inside a priority.
    pub scheduler: String,
    /// `concentrated`, `dispersed`, `round-robin` in any case: which agent is taken.
    pub agent_selection: String,
    /// How often the head is tried before others pass it; 0 = they never do.
    pub retries_to_skip: i64,
    /// A head is charged at most one try per so many seconds.
    pub interval_s: i64,
    /// How often a session whose start failed goes back to PENDING; 0 = never.
    pub creation_retries: i64,
    /// A session PENDING for longer is cancelled, in seconds; 0 = never.
    pub pending_timeout_s: i64,
}

impl Default for Scheduler {
    fn default() -> Self {
        let SchedulerSettings {
            scheduler,
            agent_selection,
            retries_to_skip,
            interval_s,
            creation_retries,
            pending_timeout_s,
            idle: _,
            lives: _,
        } = SchedulerSettings::default();
        Self {
            scheduler: scheduler.to_string(),
            agent_selection: agent_selection.to_string(),
            retries_to_skip: i64::from(retries_to_skip),
            interval_s: i64::from(interval_s),
            creation_retries: i64::from(creation_retries),
            pending_timeout_s: i64::from(pending_timeout_s),
        }
    }
}

impl Scheduler {
    /// Text and numbers are read here, not by the file's reader, so that what is said
    /// about a bad one names the range.
    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, text: String| {
            let key = format!("scheduler.{key}");
            Err(ConfigError(format!("{key}: {text}")))
        };
        if let Err(error) = self.scheduler.parse::<Discipline>() {
            return wrong("scheduler", error.to_string());
        }
        if let Err(error) = self.agent_selection.parse::<Selection>() {
            return wrong("agent_selection", error.to_string());
        }
        for (key, value, range) in [
            ("retries_to_skip", self.retries_to_skip, 0..=1_000_000),
            ("interval_s", self.interval_s, 1..=86_400),
            ("creation_retries", self.creation_retries, 0..=100),
            ("pending_timeout_s", self.pending_timeout_s, 0..=315_360_000),
        ] {
            if !range.contains(&value) {
                let (low, high) = (range.start(), range.end());
                return wrong(key, format!("must be {low} to {high}"));
            }
        }
        Ok(())
    }

    /// The settings as data; what [`Config::load`] refuses falls back to its default.
    #[must_use]
    pub fn settings(&self) -> SchedulerSettings {
        let known = SchedulerSettings::default();
        let number = |value: i64, known: u32| u32::try_from(value).unwrap_or(known);
        SchedulerSettings {
            scheduler: self.scheduler.parse().unwrap_or(known.scheduler),
            agent_selection: self
                .agent_selection
                .parse()
                .unwrap_or(known.agent_selection),
            retries_to_skip: number(self.retries_to_skip, known.retries_to_skip),
            interval_s: number(self.interval_s, known.interval_s),
            creation_retries: number(self.creation_retries, known.creation_retries),
            pending_timeout_s: number(self.pending_timeout_s, known.pending_timeout_s),
            idle: None,                     // another section's
            lives: LifeSettings::default(), // as well
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or filters per module.
    pub level: String,
    /// `text`, or `json` (on a terminal it is text all the same).
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// JSON when the output is no terminal.
    Json,
}

/// What the command line sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--agents-listen`
    pub agents_listen: Option<SocketAddr>,
    /// `--default-image`
    pub default_image: Option<String>,
    /// `--name`
    pub name: Option<String>,
}

impl Config {
    /// Reads all sources and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: Overrides,
    ) -> Result<Self, ConfigError> {
        let mut table = Table::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
            // Typed once by itself, so that a wrong key is told with its line.
            toml::from_str::<Self>(&text).map_err(|error| in_file(path, &text, &error))?;
            table = text.parse().map_err(|error| in_file(path, &text, &error))?;
        }
        for (name, text) in environment {
            set(&mut table, &name, &text)?;
        }
        let mut config: Self = table.try_into().map_err(|error: toml::de::Error| {
            ConfigError(format!("environment: {}", explain(error.message())))
        })?;
        let Overrides {
            data_dir,
            listen,
            agents_listen,
            default_image,
            name,
        } = overrides;
        if let Some(data_dir) = data_dir {
            config.daemon.data_dir = data_dir;
        }
        if let Some(listen) = listen {
            config.daemon.listen = listen;
        }
        if let Some(listen) = agents_listen {
            config.agents.listen = Some(listen);
        }
        if let Some(image) = default_image {
            config.sessions.default_image = image;
        }
        if let Some(name) = name {
            config.daemon.name = name;
        }
        config.check()?;
        config.secure.check()?;
        config.services.retention.check()?;
        config.notify.check()?;
        let listen = config.daemon.listen;
        config.daemon.auth.check(listen)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, text: String| Err(ConfigError(format!("{key}: {text}")));
        let agents = &self.agents;
        if !(1..=60).contains(&agents.heartbeat_s) {
            return wrong("agents.heartbeat_s", "must be 1 to 60".to_owned());
        }
        if agents.lost_after_s < 5 * agents.heartbeat_s || agents.lost_after_s > 3600 {
            let least = 5 * agents.heartbeat_s;
            return wrong(
                "agents.lost_after_s",
                format!("must be {least} (five heartbeats) to 3600"),
            );
        }
        if agents.declare_lost_s != 0 && agents.declare_lost_s < agents.lost_after_s {
            return wrong(
                "agents.declare_lost_s",
                "must be 0 or at least agents.lost_after_s".to_owned(),
            );
        }
        if !(1..=3650).contains(&agents.certificate_days) {
            return wrong("agents.certificate_days", "must be 1 to 3650".to_owned());
        }
        if self.sessions.default_priority > 100 {
            return wrong("sessions.default_priority", "must be 0 to 100".to_owned());
        }
        self.scheduler.check()?;
        let idle = &self.sessions.idle;
        if idle.combine.parse::<Combine>().is_err() {
            return wrong("sessions.idle.combine", "must be all or any".to_owned());
        }
        if self.sessions.extend_max > 100 {
            return wrong("sessions.extend_max", "must be 0 to 100".to_owned());
        }
        if !(1..=604_800).contains(&self.sessions.extend_step_s) {
            return wrong("sessions.extend_step_s", "must be 1 to 604800".to_owned());
        }
        if !(0..=15_552_000).contains(&idle.new_user_grace_s) {
            let range = "must be 0 to 15552000".to_owned();
            return wrong("sessions.idle.new_user_grace_s", range);
        }
        if idle.timeout_s > 15_552_000 || idle.window_s > 15_552_000 {
            return wrong(
                "sessions.idle",
                "times must be at most 15552000 seconds".to_owned(),
            );
        }
        if idle.cpu_pct > 100 || idle.gpu_pct > 100 || idle.warn_s.len() > 16 {
            return wrong(
                "sessions.idle",
                "percents are 0 to 100, and there are at most 16 warnings".to_owned(),
            );
        }
        if !self.daemon.name.is_empty() && !is_handle(&self.daemon.name) {
            return wrong(
                "daemon.name",
                "must have 1 to 64 of A-Z a-z 0-9 . _ -".to_owned(),
            );
        }
        if let Err(text) = is_public_url(&self.daemon.public_url) {
            return wrong("daemon.public_url", text);
        }
        let limits = &self.daemon.rate_limit;
        for (key, limit) in [("keypair", limits.keypair), ("anonymous", limits.anonymous)] {
            if !(LIMIT_MIN..=LIMIT_MAX).contains(&limit) {
                let text = format!("must be {LIMIT_MIN} to {LIMIT_MAX} requests in 900 s");
                return wrong(&format!("daemon.rate_limit.{key}"), text);
            }
        }
        for text in &self.daemon.trusted_proxies {
            if let Err(error) = text.parse::<Network>() {
                return wrong("daemon.trusted_proxies", error);
            }
        }
        for host in &self.daemon.hosts {
            if host.is_empty()
                || host.len() > 253
                || !host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b))
            {
                return wrong(
                    "daemon.hosts",
                    format!("\"{host}\" is not the name or address of a machine"),
                );
            }
        }
        self.defaults().map(|_| ())
    }

    /// The address people reach it by, without a slash at its end; `host` is the name of the
    /// machine.
    #[must_use]
    pub fn public_url(&self, host: &str) -> String {
        match is_public_url(&self.daemon.public_url) {
            Ok(Some(url)) => url,
            _ => format!("https://{host}:{}", self.daemon.listen.port()),
        }
    }

    /// Where agents connect to.
    #[must_use]
    pub fn agents_listen(&self) -> SocketAddr {
        self.agents.listen.unwrap_or(self.daemon.listen)
    }

    /// What a session gets that does not say.
    ///
    /// # Errors
    /// An amount that does not read.
    pub fn defaults(&self) -> Result<SessionDefaults, ConfigError> {
        let cpu_milli = SlotName::cpu()
            .parse_amount(&self.sessions.default_cpu)
            .ok()
            .filter(|v| *v > 0)
            .ok_or_else(|| {
                ConfigError(
                    "sessions.default_cpu: must be a whole number of cores above 0".to_owned(),
                )
            })?;
        let mem_bytes = parse_bytes(&self.sessions.default_mem)
            .ok()
            .filter(|v| *v > 0)
            .ok_or_else(|| {
                ConfigError("sessions.default_mem: must be memory, such as 512m or 2g".to_owned())
            })?;
        Ok(SessionDefaults {
            image: self.sessions.default_image.clone(),
            cpu_milli,
            mem_bytes,
            priority: self.sessions.default_priority,
            ..SessionDefaults::default()
        })
    }
}

fn in_file(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map_or(1, |span| {
        text[..span.start.min(text.len())].matches('\n').count() + 1
    });
    ConfigError(format!(
        "{} line {line}: {}",
        path.display(),
        explain(error.message())
    ))
}

/// The reader's message, with the nearest known key where one is unknown.
fn explain(message: &str) -> String {
    let message = message.trim();
    let Some((name, known)) = message
        .strip_prefix("unknown field `")
        .and_then(|m| m.split_once('`'))
    else {
        return message.to_owned();
    };
    let words: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    match nearest(name, words.iter().copied()) {
        Some(near) => format!("there is no setting {name}; did you mean {near}?"),
        None => format!("there is no setting {name}; known are {}", words.join(", ")),
    }
}

/// Sets the key a variable names. Others are not ours.
fn set(table: &mut Table, name: &str, text: &str) -> Result<(), ConfigError> {
    let Some(path) = name.strip_prefix(PREFIX) else {
        return Ok(());
    };
    let lower = path.to_ascii_lowercase();
    // The agent's: `longshore up` starts both with one environment.
    if lower.starts_with("agent__") {
        return Ok(());
    }
    let Some((section, key)) = lower.split_once("__") else {
        return Err(ConfigError(format!(
            "environment: {name} is not of the form {PREFIX}SECTION__KEY"
        )));
    };
    let value = value(section, key, text)
        .map_err(|error| ConfigError(format!("environment: {name}: {error}")))?;
    let entry = table
        .entry(section)
        .or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = entry {
        inner.insert(key.to_owned(), value);
    }
    Ok(())
}

/// The text as the type the key has: 007 stays text where text is wanted.
fn value(section: &str, key: &str, text: &str) -> Result<Value, String> {
    let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let candidates = json
        .and_then(|v| Value::try_from(v).ok())
        .into_iter()
        .chain([Value::String(text.to_owned())]);
    let mut problem = String::new();
    for candidate in candidates {
        let inner = Table::from_iter([(key.to_owned(), candidate.clone())]);
        let whole = Table::from_iter([(section.to_owned(), Value::Table(inner))]);
        match whole.try_into::<Config>() {
            Ok(_) => return Ok(candidate),
            Err(error) => problem = explain(error.message()),
        }
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(Some(&path), environment, Overrides::default())
    }

    #[test]
    fn later_sources_win() {
        let config = load(
            "[daemon]\nlisten = \"127.0.0.1:1\"\n[sessions]\ndefault_image = \"a\"\n",
            &[
                ("LONGSHORE__SESSIONS__DEFAULT_IMAGE", "007"),
                ("LONGSHORE__AGENTS__HEARTBEAT_S", "3"),
                ("LONGSHORE__DAEMON__HOSTS", "[\"a\",\"b\"]"),
                ("OTHER", "x"),
            ],
        )
        .unwrap();
        assert_eq!(config.daemon.listen.port(), 1);
        assert_eq!(config.sessions.default_image, "007");
        assert_eq!(config.agents.heartbeat_s, 3);
        assert_eq!(config.daemon.hosts, ["a", "b"]);
        assert_eq!(config.agents_listen(), config.daemon.listen);
    }

    #[test]
    fn the_scheduler_is_set_in_any_case() {
        let none = Config::default().scheduler.settings();
        assert_eq!(none, SchedulerSettings::default());
        let config = load(
            "[scheduler]\nscheduler = \"DRF\"\nagent_selection = \"Round-Robin\"\nretries_to_skip = 0\n",
            &[("LONGSHORE__SCHEDULER__PENDING_TIMEOUT_S", "60")],
        );
        let expected = SchedulerSettings {
            scheduler: Discipline::Drf,
            agent_selection: Selection::RoundRobin,
            retries_to_skip: 0,
            pending_timeout_s: 60,
            ..SchedulerSettings::default()
        };
        assert_eq!(config.unwrap().scheduler.settings(), expected);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let text = load("[daemon]\n\nlistn = \"x\"\n", &[])
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("daemon.toml line 3: there is no setting listn; did you mean listen?"),
            "{text}"
        );
        let text = load("", &[("LONGSHORE__AGENTS__HEARTBEET_S", "3")])
            .unwrap_err()
            .to_string();
        assert!(text.contains("did you mean heartbeat_s?"), "{text}");
        assert!(load("", &[("LONGSHORE__AGENTS__HEARTBEAT_S", "x")]).is_err());
        for bad in [
            "[agents]\nlost_after_s = 3",
            "[sessions]\ndefault_mem = \"lots\"",
            "[sessions]\ndefault_cpu = \"0\"",
            "[sessions]\ncreation_retries = 3",
            "[scheduler]\nscheduler = \"fair\"",
            "[scheduler]\nagent_selection = \"best\"",
            "[scheduler]\nretries_to_skip = -1",
            "[scheduler]\ninterval_s = 0",
            "[scheduler]\ncreation_retries = 101",
            "[scheduler]\npending_timeout_s = -1",
            "[daemon]\npublic_url = \"http://gpu.lab\"",
            "[daemon.auth.invitations]\nexpires_s = 2592001",
            "[notify.mail]\nenabled = true",
            "[notify.mail]\ntls = \"ssl\"",
            "x = 1",
            "[",
        ] {
            assert!(load(bad, &[]).is_err(), "{bad}");
        }
    }
}
