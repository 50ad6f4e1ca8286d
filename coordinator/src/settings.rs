//! The configuration that is in force. It is read again as a whole, or not at all: from files,
//! stored settings, the environment and the command line, as at the start.
//!
//! | input | output |
//! |---|---|
//! | [`Source`], what is stored | [`InForce`], or everything that is wrong, a [`Wrong`] each |
//!
//! Parts of the program keep what they need in a [`Held`], which whoever takes a configuration
//! into force sets; those that wait for time look at [`Settings::watch`].

use crate::config::{Config, ConfigError, Overrides, SCHEMA};
use longshore_config::load::{Loaded, SETTINGS, Shown, show};
use longshore_config::schema::{Acts, Key};
use longshore_config::show::differing;
use longshore_config::work::layers::Document;
use longshore_core::model::{LoadedConfig, StoredSettings};
use longshore_logging::{Log, Prepared};
use ring::hmac;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{MutexGuard, watch};

/// A value that is asked for often and set when the configuration becomes another one.
#[derive(Debug, Default)]
pub struct Held<T>(RwLock<T>);

impl<T: Clone> Held<T> {
    /// Holds a value.
    pub const fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    /// A copy of it.
    pub fn get(&self) -> T {
        self.look(T::clone)
    }

    /// Looks at it; must be short.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Holds another one from now on.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

/// Where the configuration is read from, but for what is stored.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// `--config`
    pub file: Option<PathBuf>,
    /// The environment of the process.
    pub environment: Vec<(String, String)>,
    /// What the command line sets.
    pub overrides: Overrides,
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The key, where it is about a stored setting.
    pub key: Option<String>,
    /// One line that says where.
    pub text: String,
}

impl Source {
    /// What there is before anything stored can be read: keys and types are judged, and not what
    /// goes together.
    ///
    /// # Errors
    /// All that is wrong, a line each.
    pub fn begin(&self) -> Result<(Config, Loaded), ConfigError> {
        Config::unchecked(
            self.file.as_deref(),
            Vec::new(),
            self.environment.iter().cloned(),
            self.overrides.clone(),
        )
    }

    /// Reads everything.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn read(&self, stored: &StoredSettings) -> Result<InForce, Vec<Wrong>> {
        let settings = stored.open().into_iter().collect();
        let read = Config::load_with(
            self.file.as_deref(),
            (settings, &stored.shut()),
            self.environment.iter().cloned(),
            self.overrides.clone(),
        );
        match read {
            Ok((config, loaded)) => Ok(InForce::new(config, &loaded)),
            Err(error) => Err(error.to_string().lines().map(wrong).collect()),
        }
    }

    /// Reads everything, without the stored settings that do not go with the rest any more: a
    /// start must not hang on them, and the others stay in force. The second is what is wrong
    /// with those that are left out.
    ///
    /// # Errors
    /// All that is wrong with what is not stored.
    pub fn read_as_far(
        &self,
        stored: &StoredSettings,
    ) -> Result<(InForce, Vec<Wrong>), Vec<Wrong>> {
        let mut left = stored.clone();
        let mut told = Vec::new();
        // Each round takes at least one out.
        loop {
            let wrong = match self.read(&left) {
                Ok(read) => return Ok((read, told)),
                Err(wrong) => wrong,
            };
            let keys: Vec<&str> = left
                .values
                .keys()
                .chain(left.secrets.keys())
                .map(String::as_str)
                .collect();
            let out: BTreeSet<String> = wrong
                .iter()
                .flat_map(|one| to_blame(&one.text, &keys))
                .collect();
            if out.is_empty() {
                return Err(wrong);
            }
            left.values.retain(|key, _| !out.contains(key));
            left.secrets.retain(|key, _| !out.contains(key));
            told.extend(wrong);
        }
    }
}

/// The stored keys that a line about something wrong speaks of: the key it names, or else those
/// that stand nearest to it. Rules between keys hold within a section.
fn to_blame(line: &str, stored: &[&str]) -> Vec<String> {
    let within = |key: &str, section: &str| {
        let rest = key.strip_prefix(section);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let known = |part: &&str| SCHEMA.keys.iter().any(|key| within(key.path, part));
    let mut about = line.split(": ").find(known);
    while let Some(section) = about {
        let found: Vec<String> = stored
            .iter()
            .filter(|key| within(key, section))
            .map(|key| (*key).to_owned())
            .collect();
        if !found.is_empty() {
            return found;
        }
        about = section.rsplit_once('.').map(|(above, _)| above);
    }
    Vec::new()
}

/// `settings: KEY: text` is about what is stored.
fn wrong(line: &str) -> Wrong {
    let about = line
        .strip_prefix(SETTINGS)
        .and_then(|rest| rest.strip_prefix(": "));
    let key = about.and_then(|about| about.split(':').next());
    Wrong {
        key: key
            .filter(|key| SCHEMA.key(key).is_some())
            .map(str::to_owned),
        text: line.to_owned(),
    }
}

/// A configuration.
#[derive(Debug, Clone)]
pub struct InForce {
    /// It.
    pub config: Config,
    /// Each key with what holds, and what it stands before.
    pub shown: Vec<Shown>,
    /// What is worth a line in the log.
    pub warnings: Vec<String>,
    /// What all sessions are given: what stands below `work`, layer by layer.
    pub work: Vec<Document>,
}

impl InForce {
    /// What was read.
    #[must_use]
    pub fn new(config: Config, loaded: &Loaded) -> Self {
        Self {
            config,
            shown: show(&SCHEMA, loaded),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
            work: loaded.work.clone(),
        }
    }

    /// By what it can be told from another one, while nobody learns a value from it.
    #[must_use]
    pub fn digests(&self, secret: &Digests) -> LoadedConfig {
        let set = self.shown.iter().filter(|one| one.origin != "default");
        let pair = |one: &Shown| {
            (
                one.key.clone(),
                secret.of(&one.key, &one.compared.to_string()),
            )
        };
        let mut keys: BTreeMap<String, String> = set.map(pair).collect();
        if !self.work.is_empty() {
            let text = format!("{:?}", self.work);
            keys.insert("work".to_owned(), secret.of("work", &text));
        }
        let all = keys.iter().map(|(key, digest)| format!("{key} {digest}\n"));
        LoadedConfig {
            digest: secret.of("", &all.collect::<String>()),
            keys,
        }
    }

    /// Keys whose values differ.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let values = |of: &Self| -> BTreeMap<String, Value> {
            let shown = of.shown.iter();
            let pair = |shown: &Shown| (shown.key.clone(), shown.compared.clone());
            shown.map(pair).collect()
        };
        let mut keys = differing(&values(self), &values(other));
        if self.work != other.work {
            keys.push("work".to_owned());
            keys.sort_unstable();
        }
        keys
    }
}

/// What digests of a configuration are keyed with.
#[derive(Clone)]
pub struct Digests(hmac::Key);

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digests")
    }
}

impl Digests {
    /// By a secret of this installation.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        let mut text = b"loaded_configuration".to_vec();
        text.extend_from_slice(secret);
        Self(hmac::Key::new(hmac::HMAC_SHA256, &text))
    }

    fn of(&self, key: &str, text: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{key}\n{text}").as_bytes());
        let half = tag.as_ref().iter().take(16); // one is only told from another
        half.map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The key of the schema to which a shown one belongs: itself, or the map it stands in.
#[must_use]
pub fn key_of(shown: &str) -> Option<&'static Key> {
    SCHEMA.key_of(shown)
}

/// What stands over stored settings at a key, if that is so.
#[must_use]
pub fn overriding(shown: &Shown) -> Option<&str> {
    let origin = shown.origin.as_str();
    (origin.starts_with("env ") || origin.starts_with("--")).then_some(origin)
}

/// Sets how much is logged; a text that does not read is told.
pub type Level = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// See the module.
pub struct Settings {
    source: Source,
    begun: InForce,
    now: watch::Sender<Arc<InForce>>,
    level: Level,
    log: Option<Arc<Log>>,
    digests: Option<Digests>,
    turn: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

impl Settings {
    /// The configuration of the start.
    #[must_use]
    pub fn new(source: Source, begun: InForce, level: Level) -> Self {
        let (now, _) = watch::channel(Arc::new(begun.clone()));
        Self {
            source,
            begun,
            now,
            level,
            log: None,
            digests: None,
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// The log that follows what is read again.
    #[must_use]
    pub fn logging_to(self, log: Arc<Log>) -> Self {
        Self {
            log: Some(log),
            ..self
        }
    }

    /// What is loaded from now on is told from what follows by digests keyed so.
    #[must_use]
    pub fn telling_by(self, digests: Digests) -> Self {
        Self {
            digests: Some(digests),
            ..self
        }
    }

    /// What is in force, by its digests; none where nobody asks for them.
    #[must_use]
    pub fn loaded(&self) -> Option<LoadedConfig> {
        Some(self.now().digests(self.digests.as_ref()?))
    }

    /// Does what can fail of a configuration's log: opens its file, looks for the journal.
    ///
    /// # Errors
    /// What is wrong, with the key.
    pub fn prepare_log(&self, config: &Config) -> Result<Option<Prepared>, Wrong> {
        let Some(log) = &self.log else {
            return Ok(None);
        };
        let prepared = log.prepare(&config.logging.order());
        prepared.map(Some).map_err(|error| {
            let text = error.to_string();
            Wrong {
                key: text.split(':').next().map(str::to_owned),
                text,
            }
        })
    }

    /// From here on the log is where it was prepared to be.
    pub fn take_log(&self, prepared: Prepared) {
        let taken = self.log.as_ref().map_or(Ok(()), |log| log.take(prepared));
        if let Err(error) = taken {
            tracing::error!(%error, "logging is not taken");
        }
    }

    /// Where it is read from.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// What was in force at the start.
    #[must_use]
    pub const fn begun(&self) -> &InForce {
        &self.begun
    }

    /// What is in force.
    #[must_use]
    pub fn now(&self) -> Arc<InForce> {
        Arc::clone(&self.now.borrow())
    }

    /// Tells when another one is in force.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<InForce>> {
        self.now.subscribe()
    }

    /// One change at a time.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Takes a configuration into force, as far as it is kept here.
    pub fn set(&self, next: InForce) {
        if let Err(error) = (self.level)(&next.config.logging.filters()) {
            tracing::error!(%error, "logging.level is not taken");
        }
        self.now.send_replace(Arc::new(next));
    }

    /// Keys that differ from the start and act at the next one.
    #[must_use]
    pub fn pending_restart(&self) -> Vec<String> {
        let mut keys = self.now().differing(&self.begun);
        keys.retain(|key| key_of(key).is_some_and(|key| key.acts == Acts::Restart));
        keys
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use longshore_core::model::SettingSecret;
    use longshore_identity::Secret;
    use serde_json::json;

    fn source(dir: &tempfile::TempDir, text: &str) -> Source {
        let path = dir.path().join("all.toml");
        std::fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        Source {
            file: Some(path),
            environment: vec![(
                "LONGSHORE__SERVICES__SESSIONS__EXTEND_MAX".to_owned(),
                "7".to_owned(),
            )],
            overrides: Overrides::default(),
        }
    }

    fn keep(values: BTreeMap<String, Value>) -> StoredSettings {
        StoredSettings {
            values,
            ..StoredSettings::default()
        }
    }

    /// Mail whose login stands in the file and whose password is stored.
    const MAIL: &str = "[services.notify.mail]\nenabled = true\nhost = \"mail.lab\"\nfrom = \"gpu@lab.example\"\nusername = \"gpu\"\n";
    const PASSWORD: &str = "services.notify.mail.password";

    fn with_password(secret: SettingSecret) -> StoredSettings {
        let values = BTreeMap::from([
            ("services.sessions.admin_exec".to_owned(), json!(true)),
            ("daemon.auth.logins.idle_s".to_owned(), json!(300)),
        ]);
        StoredSettings {
            secrets: BTreeMap::from([(PASSWORD.to_owned(), secret)]),
            ..keep(values)
        }
    }

    #[test]
    fn of_a_secret_that_cannot_be_read_only_what_needs_it_is_off() {
        let dir = tempfile::tempdir().unwrap();
        let source = source(&dir, MAIL);
        let open = SettingSecret::Open(Secret::new("\"hunter2\"".to_owned()));
        let read = source.read(&with_password(open)).unwrap();
        assert!(read.config.services.notify.mail.enabled);
        let shut = with_password(SettingSecret::Shut("no key".to_owned()));
        let read = source.read(&shut).unwrap();
        assert!(!read.config.services.notify.mail.enabled);
        assert!(read.config.services.sessions.admin_exec);
        assert_eq!(read.config.daemon.auth.logins.idle_s, 300);
        assert!(
            read.warnings.iter().any(|text| text.contains(PASSWORD)),
            "{:?}",
            read.warnings
        );
        // A variable stands over it, as over one that can be read.
        let mut over = source.clone();
        let name = "LONGSHORE__SERVICES__NOTIFY__MAIL__PASSWORD";
        over.environment.push((name.to_owned(), "other".to_owned()));
        let read = over.read(&shut).unwrap();
        assert!(read.config.services.notify.mail.enabled);
        // Webhooks of files do not come in the place of those that are stored.
        let hooks = "[[services.notify.webhooks]]\nname = \"a\"\nurl = \"https://a.lab/\"\n";
        std::fs::write(dir.path().join("all.toml"), hooks).unwrap();
        let key = "services.notify.webhooks".to_owned();
        let stored = StoredSettings {
            secrets: BTreeMap::from([(key, SettingSecret::Shut("no key".to_owned()))]),
            ..StoredSettings::default()
        };
        let read = source.read(&stored).unwrap();
        assert!(read.config.services.notify.webhooks.is_empty());
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_refused_before_anything_changes() {
        let dir = tempfile::tempdir().unwrap();
        let config = |path: &std::path::Path| {
            let path = path.display();
            let text = format!("[logging]\ntarget = \"file\"\nfile.path = \"{path}\"\n");
            let read = source(&dir, &text).read(&StoredSettings::default());
            read.unwrap().config
        };
        let begun = source(&dir, "").read(&StoredSettings::default()).unwrap();
        let settings = Settings::new(Source::default(), begun, Box::new(|_| Ok(())));
        let good = dir.path().join("logs/a.log");
        assert!(
            settings.prepare_log(&config(&good)).unwrap().is_none(),
            "it has none"
        );
        let log = Log::begin("longshore-test", Default::default(), None);
        let settings = settings.logging_to(Arc::new(log));
        let prepared = settings.prepare_log(&config(&good)).unwrap().unwrap();
        settings.take_log(prepared);
        let wrong = settings.prepare_log(&config(dir.path())).unwrap_err();
        assert_eq!(wrong.key.as_deref(), Some("logging.file.path"));
        tracing::warn!("still there");
        let written = std::fs::read_to_string(&good).unwrap();
        assert!(written.contains("still there"), "{written}");
        // The size that nobody set is the usual one.
        let file = config(&good).logging.file;
        assert_eq!((file.max_size, file.keep), (100 << 20, 10));
    }

    #[test]
    fn a_start_leaves_out_what_is_wrong_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let source = source(&dir, "");
        let stored = keep(BTreeMap::from([
            ("services.sessions.admin_exec".to_owned(), json!(true)),
            ("services.scheduler.interval_s".to_owned(), json!(0)),
            ("services.notify.mail.enabled".to_owned(), json!(true)),
            ("services.notify.mail.port".to_owned(), json!(25)),
            ("daemon.auth.logins.idle_s".to_owned(), json!(300)),
        ]));
        let (read, told) = source.read_as_far(&stored).unwrap();
        assert!(read.config.services.sessions.admin_exec);
        assert_eq!(read.config.daemon.auth.logins.idle_s, 300);
        assert!(!read.config.services.notify.mail.enabled);
        assert_ne!(read.config.services.scheduler.interval_s, 0);
        assert_eq!(told.len(), 2, "{told:?}");
        // What is wrong in the file is no fault of what is stored.
        std::fs::write(dir.path().join("all.toml"), "[daemon]\nnames = [\"a b\"]\n").unwrap();
        let stored = keep(BTreeMap::from([(
            "services.sessions.admin_exec".to_owned(),
            json!(true),
        )]));
        assert!(source.read_as_far(&stored).is_err());
    }

    #[test]
    fn what_holds_with_stored_settings_can_be_begun_with() {
        let dir = tempfile::tempdir().unwrap();
        let source = source(&dir, MAIL);
        let open = SettingSecret::Open(Secret::new("\"hunter2\"".to_owned()));
        assert!(source.read(&with_password(open)).is_ok());
        assert!(source.read(&StoredSettings::default()).is_err());
        assert!(source.begin().is_ok());
        std::fs::write(dir.path().join("all.toml"), "[daemon]\nx = 1\n").unwrap();
        assert!(source.begin().is_err());
    }

    #[test]
    fn digests_tell_what_is_other_and_no_value() {
        let dir = tempfile::tempdir().unwrap();
        let of = |text: &str, secret: u8| {
            let (config, loaded) = source(&dir, text).begin().unwrap();
            InForce::new(config, &loaded).digests(&Digests::new(&[secret; 32]))
        };
        let one = of(&every_secret("hunter2"), 1);
        assert_eq!(one, of(&every_secret("hunter2"), 1));
        let extend = "services.sessions.extend_max";
        assert!(one.keys.contains_key(extend), "set by a variable: {one:?}");
        assert!(!one.keys.contains_key("daemon.data_dir"), "{one:?}");
        let other = of(&every_secret("hunter3"), 1);
        assert_ne!(one.digest, other.digest);
        let differing = one.differing(&other);
        assert!(differing.contains(&"services.notify.mail.password".to_owned()));
        assert!(!differing.contains(&extend.to_owned()), "{differing:?}");
        assert_ne!(
            one.keys[extend],
            of(&every_secret("hunter2"), 2).keys[extend]
        );
        assert!(!format!("{one:?}").contains("hunter"));
        let none = of("", 1);
        assert!(none.differing(&of("[work.environment]\nA = \"b\"\n", 1)) == ["work"]);
    }

    #[test]
    fn stored_settings_stand_between_files_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        let source = source(
            &dir,
            "[services.sessions]\nadmin_exec = false\nextend_max = 1\n",
        );
        let stored = BTreeMap::from([
            ("services.sessions.admin_exec".to_owned(), json!(true)),
            ("services.sessions.extend_max".to_owned(), json!(5)),
            ("daemon.auth.logins.idle_s".to_owned(), json!("1h30m")),
        ]);
        let read = source.read(&keep(stored)).unwrap();
        assert!(read.config.services.sessions.admin_exec);
        assert_eq!(read.config.services.sessions.extend_max, 7);
        assert_eq!(read.config.daemon.auth.logins.idle_s, 5400);
        let shown = |key: &str| read.shown.iter().find(|shown| shown.key == key).unwrap();
        let own = shown("services.sessions.admin_exec");
        assert_eq!((own.origin.as_str(), overriding(own)), ("settings", None));
        let over = shown("services.sessions.extend_max");
        assert_eq!(
            overriding(over),
            Some("env LONGSHORE__SERVICES__SESSIONS__EXTEND_MAX")
        );
        assert_eq!(over.shadowed[0].0, "settings");
    }

    #[test]
    fn everything_wrong_is_told_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let source = source(&dir, "");
        let stored = BTreeMap::from([
            ("services.sessions.admin_exec".to_owned(), json!("perhaps")),
            ("services.scheduler.interval_s".to_owned(), json!(0)),
        ]);
        let wrong = source.read(&keep(stored)).unwrap_err();
        let keys: Vec<_> = wrong
            .iter()
            .filter_map(|wrong| wrong.key.as_deref())
            .collect();
        assert_eq!(
            keys,
            [
                "services.scheduler.interval_s",
                "services.sessions.admin_exec"
            ]
        );
        // What two keys say together is told as well.
        let stored = BTreeMap::from([("services.notify.mail.enabled".to_owned(), json!(true))]);
        assert_eq!(source.read(&keep(stored)).unwrap_err().len(), 1);
    }

    #[test]
    fn levels_of_modules_reach_the_log_with_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let source = source(&dir, "");
        let begun = source.read(&StoredSettings::default()).unwrap();
        let told = Arc::new(RwLock::new(String::new()));
        let tells = Arc::clone(&told);
        let level = move |text: &str| {
            text.clone_into(&mut tells.write().unwrap());
            Ok(())
        };
        let settings = Settings::new(source.clone(), begun, Box::new(level));
        let stored = keep(BTreeMap::from([
            ("logging.level".to_owned(), json!("warn")),
            ("logging.levels".to_owned(), json!({ "access": "info" })),
        ]));
        settings.set(source.read(&stored).unwrap());
        assert_eq!(*told.read().unwrap(), "warn,access=info");
        assert_eq!(settings.pending_restart(), Vec::<String>::new());
        let loud = keep(BTreeMap::from([(
            "logging.levels".to_owned(),
            json!({ "access": "loud" }),
        )]));
        let wrong = source.read(&loud).unwrap_err();
        assert!(wrong[0].text.contains("logging.levels"), "{wrong:?}");
    }

    /// A password in every key that may hold one, wherever in it one may stand. A key that is
    /// not in it fails the tests below.
    pub(crate) fn every_secret(secret: &str) -> String {
        format!(
            r#"
[secure]
master_key = "{secret}"
[daemon.egress]
proxy = "http://desk:{secret}@proxy.lab:3128"
[[daemon.auth.fixed_users.users]]
username = "carol"
password = "{secret}"
[services.notify.mail]
password = "{secret}"
[[services.notify.webhooks]]
name = "desk"
url = "https://desk.lab/hook/{secret}?t={secret}"
secret = "{secret}"
headers = {{ "X-Any" = "{secret}" }}
[[services.organization.ui_actions.session]]
name = "open"
action = {{ method = "POST", url = "https://desk.lab/{secret}", payload = "{secret}", headers = {{ "X-Any" = "{secret}" }}, secret = "{secret}" }}
"#
        )
    }

    fn hiding() -> impl Iterator<Item = &'static Key> {
        SCHEMA.keys.iter().filter(|key| key.kind.may_hide())
    }

    #[test]
    fn no_password_of_a_file_is_shown_and_another_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let of = |text: &str| {
            let source = source(&dir, text);
            let (config, loaded) = source.begin().unwrap();
            (InForce::new(config, &loaded), loaded)
        };
        let (one, loaded) = of(&every_secret("hunter2"));
        let (other, _) = of(&every_secret("hunter3"));
        let differing = one.differing(&other);
        for key in hiding() {
            let within = |shown: &str| key_of(shown).is_some_and(|of| of.path == key.path);
            assert!(differing.iter().any(|told| within(told)), "{}", key.path);
        }
        assert_eq!(one.differing(&of(&every_secret("hunter2")).0), [""; 0]);
        for as_json in [true, false] {
            let none = BTreeMap::new();
            let text =
                longshore_config::show::print(&SCHEMA, &loaded, None, (true, as_json), &none);
            let text = text.unwrap();
            assert!(text.contains("carol"), "{text}");
            assert!(!text.contains("hunter"), "{text}");
        }
        assert!(!format!("{:?}", one.shown).contains("hunter"));
    }

    #[test]
    fn a_password_of_another_type_is_not_told_when_the_start_fails() {
        for key in hiding() {
            let variable = longshore_config::load::PREFIX.to_owned();
            let variable = variable + &key.path.to_uppercase().replace('.', "__");
            let mut faults = 0;
            let values = [
                "\"hunter2\"",
                "[\"hunter2\"]",
                "{ name = \"hunter2\" }",
                "[{ password = [\"hunter2\"] }]",
                "[[\"hunter2\"]]",
            ];
            for value in values {
                let dir = tempfile::tempdir().unwrap();
                let mut source = source(&dir, &format!("{} = {value}\n", key.path));
                let mut told = Vec::new();
                told.extend(source.begin().err().map(|error| error.to_string()));
                source.file = None;
                let json = value.replace("name = ", "\"name\": ");
                let json = json.replace("password = ", "\"password\": ");
                for value in [&json, "hunter2", "[\"hunter2\""] {
                    source.environment = vec![(variable.clone(), value.to_owned())];
                    let read = source.begin();
                    told.extend(read.err().map(|error| error.to_string()));
                }
                assert!(!told.join("\n").contains("hunter"), "{told:?}");
                faults += told.len();
            }
            assert!(faults > 0, "nothing is told of {}", key.path);
        }
    }

    #[test]
    fn a_line_that_does_not_read_is_not_repeated() {
        let broken = [
            ("a.toml", "[secure]\nmaster_key = hunter2"),
            ("a.toml", "[secure]\nmaster_key = \"hunter2"),
            ("a.json", "{\"secure\": {\"master_key\": hunter2}}"),
            ("a.yaml", "secure: {master_key: \"hunter2}"),
            ("a.yaml", "secure:\n  master_key: !hunter2 x"),
            ("a.yaml", "secure:\n  master_key: *hunter2"),
            ("a.conf", "secure { master_key = \"hunter2 }"),
        ];
        for (name, text) in broken {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let source = Source {
                file: Some(path),
                ..Source::default()
            };
            let told = source.begin().unwrap_err().to_string();
            assert!(!told.contains("hunter"), "{told}");
        }
    }
}
