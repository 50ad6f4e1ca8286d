//! The coordinator's configuration: what the keys of [`SCHEMA`] become, and the rules that hold
//! between several of them. Where values come from is decided in `longshore-config`.

mod actions;
mod addresses;
mod egress;
mod fixed;
mod hidden;
mod https;
mod keys;
mod networks;
mod notify;
mod retention;
mod secure;

pub use actions::{ACTION_TYPES, ActionCall, UiAction, UiActions};
pub use addresses::{Hosts, Listen};
pub use egress::Egress;
pub use fixed::{FixedPasswords, FixedUser, FixedUsers};
pub use hidden::{Hidden, SecretText};
pub use https::{Https, TlsMode, TlsVersion};
pub use keys::{SCHEMA, manual, reference};
pub use networks::ClusterNetworks;
pub use notify::{MailSettings, Notify, Tls, Webhook, is_public_url};
pub use retention::Retention;
pub use secure::{
    Argon2, Auth, Cookies, Invitations, Logins, Password, Redacted, Secure, TotpSettings,
};

use crate::api::cors::{Cors, is_origin};
use crate::rates::Network;
use longshore_common::amount::{SlotName, parse_bytes};
use longshore_common::ids::is_handle;
use longshore_common::limits::{
    Combine, IdleAction, IdlePolicy, KEEP_MAX, Metric, Operator, UtilizationPolicy,
};
use longshore_common::session::PullRule;
use longshore_config::load::{Fault, Loaded, default_of};
use longshore_config::sources::{self, Start};
use longshore_core::model::admin::DECLARE_LOST_MIN_S;
use longshore_core::model::{
    Discipline, LifeSettings, NetworkSettings, SchedulerSettings, Selection, SessionDefaults,
    WatchdogSettings,
};
use longshore_identity::bucket::{LIMIT_MAX, LIMIT_MIN};
use serde::Deserialize;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// A setting that is not accepted, in one sentence that says where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

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
}

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
    fn check(&self, parts: &[(String, String)], cookies: &str) -> Result<(), ConfigError> {
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

/// `[daemon.agents]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Agents {
    /// UDP address; absent = the first of the API.
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

/// `[services.sessions]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// Image of a session that names none; empty = there is none.
    pub default_image: String,
    /// Image of system sessions; empty = there are none.
    pub system_image: String,
    /// Cores of a session that names none.
    pub default_cpu: String,
    /// Memory of a session that names none.
    pub default_mem: String,
    /// Priority of a session that names none.
    pub default_priority: u8,
    /// Tasks an array may have.
    pub array_tasks: u32,
    /// Administrators may reach into sessions of others; each use is recorded.
    pub admin_exec: bool,
    /// How often a lifetime may be extended whose keypair policy does not say.
    pub extend_max: u32,
    /// By how many seconds at once.
    pub extend_step_s: i64,
    /// When sessions count as unused whose keypair policy does not say. In force for what is
    /// submitted after the start.
    pub idle: Idle,
    /// Stops sessions without a sign of life.
    pub watchdog: WatchdogSection,
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

/// `[services.sessions.watchdog]`, in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct WatchdogSection {
    /// False: nothing is looked at.
    pub enabled: bool,
    /// Without a sign of life for longer a RUNNING session is stopped; at least 60.
    pub threshold_sec: i64,
    /// Between two looks; at least 60.
    pub watch_interval_sec: i64,
    /// Without output and use for so long a session counts as stalled; 0 = none does, else at
    /// least 60.
    pub stalled_after_sec: i64,
}

impl Default for WatchdogSection {
    fn default() -> Self {
        let known = WatchdogSettings::default();
        Self {
            enabled: known.enabled,
            threshold_sec: known.threshold_s,
            watch_interval_sec: known.interval_s,
            stalled_after_sec: known.stalled_after_s,
        }
    }
}

impl WatchdogSection {
    fn check(&self) -> Result<(), ConfigError> {
        let key = "services.sessions.watchdog.stalled_after_sec";
        match self.stalled_after_sec {
            0 | 60.. => Ok(()),
            _ => Err(ConfigError(format!("{key}: must be 0 or at least 60"))),
        }
    }

    /// As data.
    #[must_use]
    pub const fn settings(&self) -> WatchdogSettings {
        WatchdogSettings {
            enabled: self.enabled,
            threshold_s: self.threshold_sec,
            interval_s: self.watch_interval_sec,
            stalled_after_s: self.stalled_after_sec,
        }
    }
}

/// `[services.sessions.idle]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
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
            system_image: String::new(),
            default_cpu: "1".to_owned(),
            default_mem: "2g".to_owned(),
            default_priority: 10,
            array_tasks: SessionDefaults::default().array_tasks,
            admin_exec: false,
            extend_max: LifeSettings::default().extend_max,
            extend_step_s: LifeSettings::default().extend_step_s,
            idle: Idle::default(),
            watchdog: WatchdogSection::default(),
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Organization {
    /// Service accounts may act as administrators of their domain.
    pub allow_service_account_admins: bool,
    /// Calls that people may have made about an object, by its type.
    pub ui_actions: UiActions,
}

/// `[services.scheduler]`: the defaults of every resource group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
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
            pull: _,
            network: _,
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
            let key = format!("services.scheduler.{key}");
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
            idle: None,                          // another section's
            lives: LifeSettings::default(),      // as well
            pull: PullRule::default(),           // as well
            network: NetworkSettings::default(), // as well
        }
    }
}

/// `[logging]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// `error`, `warn`, `info`, `debug`, `trace`, or filters per module.
    pub level: String,
    /// `text`, or `json` (on a terminal it is text all the same).
    pub format: LogFormat,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
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
        let config = config.map_err(|error| ConfigError(loaded.placed(&error.0).to_string()))?;
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
        self.check()?;
        self.secure.check()?;
        self.daemon.cors.check()?;
        actions::check(&self.services.organization.ui_actions)?;
        self.daemon.egress.check()?;
        self.services.sessions.watchdog.check()?;
        self.services.retention.check()?;
        self.services.notify.check()?;
        self.daemon.listen.check()?;
        self.daemon.hosts.check()?;
        addresses::check_names(&self.daemon.names)?;
        let daemon = &self.daemon;
        let (public, cookies) = (&daemon.public_url, &daemon.auth.cookies.domain);
        daemon.hosts.check_with(public, cookies)?;
        daemon.check_console(cookies)?;
        let loopback = self.daemon.listen.are_loopback();
        let trusts = !self.daemon.trusted_proxies.is_empty();
        let (listen, apps) = (&self.daemon.listen, &self.daemon.apps);
        self.daemon.tls.check(listen, apps, trusts)?;
        self.daemon.auth.check(loopback)?;
        self.check_names_of(None)?;
        Ok(self)
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
        let wrong = |key: &str, text: String| Err(ConfigError(format!("{key}: {text}")));
        let agents = &self.daemon.agents;
        if !(1..=60).contains(&agents.heartbeat_s) {
            return wrong("daemon.agents.heartbeat_s", "must be 1 to 60".to_owned());
        }
        if agents.lost_after_s < 5 * agents.heartbeat_s || agents.lost_after_s > 3600 {
            let least = 5 * agents.heartbeat_s;
            return wrong(
                "daemon.agents.lost_after_s",
                format!("must be {least} (five heartbeats) to 3600"),
            );
        }
        let least = i64::from(agents.lost_after_s).max(DECLARE_LOST_MIN_S);
        if agents.declare_lost_s != 0 && i64::from(agents.declare_lost_s) < least {
            return wrong(
                "daemon.agents.declare_lost_s",
                format!(
                    "must be 0 or at least {least}: {DECLARE_LOST_MIN_S}, and daemon.agents.lost_after_s"
                ),
            );
        }
        if !(1..=3650).contains(&agents.certificate_days) {
            return wrong(
                "daemon.agents.certificate_days",
                "must be 1 to 3650".to_owned(),
            );
        }
        if self.services.sessions.default_priority > 100 {
            return wrong(
                "services.sessions.default_priority",
                "must be 0 to 100".to_owned(),
            );
        }
        if !(1..=1_000_000).contains(&self.services.sessions.array_tasks) {
            return wrong(
                "services.sessions.array_tasks",
                "must be 1 to 1000000".to_owned(),
            );
        }
        let filter = tracing_subscriber::EnvFilter::builder().parse(&self.logging.level);
        if let Err(error) = filter {
            return wrong("logging.level", error.to_string());
        }
        self.services.scheduler.check()?;
        self.services.network.check()?;
        let idle = &self.services.sessions.idle;
        if idle.combine.parse::<Combine>().is_err() {
            return wrong(
                "services.sessions.idle.combine",
                "must be all or any".to_owned(),
            );
        }
        if self.services.sessions.extend_max > 100 {
            return wrong(
                "services.sessions.extend_max",
                "must be 0 to 100".to_owned(),
            );
        }
        if !(1..=604_800).contains(&self.services.sessions.extend_step_s) {
            return wrong(
                "services.sessions.extend_step_s",
                "must be 1 to 604800".to_owned(),
            );
        }
        if !(0..=15_552_000).contains(&idle.new_user_grace_s) {
            let range = "must be 0 to 15552000".to_owned();
            return wrong("services.sessions.idle.new_user_grace_s", range);
        }
        if idle.timeout_s > 15_552_000 || idle.window_s > 15_552_000 {
            return wrong(
                "services.sessions.idle",
                "times must be at most 15552000 seconds".to_owned(),
            );
        }
        if idle.cpu_pct > 100 || idle.gpu_pct > 100 || idle.warn_s.len() > 16 {
            return wrong(
                "services.sessions.idle",
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
        self.defaults().map(|_| ())
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
        assert!(told.contains("is not of the form that is wanted"), "{told}");
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
