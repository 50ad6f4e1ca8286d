//! The configuration that is in force. It is read again as a whole, or not at all: from files,
//! stored settings, the environment and the command line, as at the start.
//!
//! | input | output |
//! |---|---|
//! | [`Source`], what is stored | [`InForce`], or everything that is wrong, a [`Wrong`] each |
//!
//! Parts of the program keep what they need in a [`Held`], which whoever takes a configuration
//! into force sets; those that wait for time look at [`Settings::watch`].

use crate::config::{Config, Overrides, SCHEMA};
use longshore_config::load::{Loaded, SETTINGS, Shown, show};
use longshore_config::schema::{Acts, Key};
use longshore_config::show::differing;
use longshore_config::work::layers::Document;
use serde_json::Value;
use std::collections::BTreeMap;
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
    /// Reads everything.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn read(&self, stored: &BTreeMap<String, Value>) -> Result<InForce, Vec<Wrong>> {
        let settings = stored
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()));
        let read = Config::load_with(
            self.file.as_deref(),
            settings.collect(),
            self.environment.iter().cloned(),
            self.overrides.clone(),
        );
        match read {
            Ok((config, loaded)) => Ok(InForce::new(config, &loaded)),
            Err(error) => Err(error.to_string().lines().map(wrong).collect()),
        }
    }
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

    /// Keys whose values differ.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let values = |of: &Self| -> BTreeMap<String, Value> {
            let shown = of.shown.iter();
            let pair = |shown: &Shown| (shown.key.clone(), shown.value.clone());
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
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Where it is read from.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
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
        if let Err(error) = (self.level)(&next.config.logging.level) {
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
mod tests {
    use super::*;
    use serde_json::json;

    fn source(dir: &tempfile::TempDir, text: &str) -> Source {
        let path = dir.path().join("all.toml");
        std::fs::write(&path, text).unwrap();
        Source {
            file: Some(path),
            environment: vec![(
                "LONGSHORE__SERVICES__SESSIONS__EXTEND_MAX".to_owned(),
                "7".to_owned(),
            )],
            overrides: Overrides::default(),
        }
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
        let read = source.read(&stored).unwrap();
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
        let wrong = source.read(&stored).unwrap_err();
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
        assert_eq!(source.read(&stored).unwrap_err().len(), 1);
    }
}
