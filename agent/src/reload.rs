//! The configuration read again while the agent runs: all of it or nothing.
//!
//! | input | output |
//! |---|---|
//! | where it is read from, what was in force | what is in force from then on, or all that is wrong |
//! | what is in force, a configuration | keys that wait, and for what |
//!
//! What is in force lies in a file below the run directory, so that `config show` can say what
//! the running agent has not taken yet.

use crate::config::{Config, ConfigError, SCHEMA, layers};
use crate::policy::{files_are_roots, only_from_files};
use longshore_common::wire::NodeLayers;
use longshore_config::load::{Shown, show};
use longshore_config::schema::Acts;
use longshore_config::show::differing;
use longshore_config::tree::{Node, dotted};
use longshore_config::work::layers::{Document, merge};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where a configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// `--config`
    pub file: Option<PathBuf>,
    /// The environment of the process.
    pub environment: BTreeMap<String, String>,
    /// What the command line sets: its name there, the dotted key, the text.
    pub arguments: Vec<(String, String, String)>,
}

/// A configuration, and each key with what holds.
#[derive(Debug, Clone)]
pub struct Read {
    /// It.
    pub config: Config,
    /// Its keys.
    pub shown: Vec<Shown>,
    /// What it sets for the sessions on this node.
    pub given: Vec<Document>,
    /// What is worth a line in the log.
    pub warnings: Vec<String>,
}

impl Source {
    /// Reads everything.
    ///
    /// # Errors
    /// All that is wrong, a line each.
    pub fn read(&self) -> Result<Read, ConfigError> {
        let arguments = self.arguments.clone();
        let (config, loaded) = Config::load(self.file.as_deref(), &self.environment, arguments)?;
        only_from_files(&loaded)
            .and_then(|()| files_are_roots(&loaded))
            .map_err(ConfigError)?;
        Ok(Read {
            config,
            shown: show(&SCHEMA, &loaded),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
            given: loaded.work,
        })
    }
}

/// By key.
type Values = BTreeMap<String, Value>;

/// What a running agent goes by.
#[derive(Debug, Clone)]
pub struct InForce {
    /// Keys that act on restart are as at the start.
    pub config: Config,
    values: Values,
    given: Vec<Document>,
}

fn values(shown: &[Shown]) -> Values {
    let shown = shown.iter();
    shown
        .map(|one| (one.key.clone(), one.compared.clone()))
        .collect()
}

/// Keys of sessions that two configurations set differently.
fn given_anew(old: &[Document], new: &[Document]) -> Vec<String> {
    let leaves = |all: &[Document]| -> BTreeMap<String, Option<Node>> {
        let leaves = merge(all.to_vec()).leaves.into_iter();
        leaves
            .map(|leaf| (dotted(&leaf.path), leaf.value))
            .collect()
    };
    let (old, new) = (leaves(old), leaves(new));
    let keys = old.keys().chain(new.keys());
    keys.filter(|key| old.get(*key) != new.get(*key))
        .cloned()
        .collect()
}

fn acts(key: &str) -> Option<Acts> {
    SCHEMA.key_of(key).map(|key| key.acts)
}

/// What a configuration that was read again comes to.
#[derive(Debug)]
pub struct Reloaded {
    /// It.
    pub now: InForce,
    /// Keys that act from now on.
    pub taken: Vec<String>,
    /// Keys whose new value waits for a restart.
    pub waiting: Vec<String>,
}

impl InForce {
    /// What an agent starts with.
    #[must_use]
    pub fn begin(read: &Read) -> Self {
        Self {
            config: read.config.clone(),
            values: values(&read.shown),
            given: read.given.clone(),
        }
    }

    /// What is set for the sessions on this node, as the coordinator is told.
    ///
    /// # Errors
    /// As [`layers`]; not of what was read.
    pub fn layers(&self) -> Result<NodeLayers, ConfigError> {
        layers(&self.given)
    }

    /// Another configuration, as far as it can act without a restart.
    #[must_use]
    pub fn reload(&self, read: &Read) -> Reloaded {
        let new = values(&read.shown);
        let (waiting, mut taken): (Vec<String>, Vec<String>) = differing(&self.values, &new)
            .into_iter()
            .partition(|key| acts(key) == Some(Acts::Restart));
        taken.extend(given_anew(&self.given, &read.given));
        taken.sort_unstable();
        taken.dedup();
        let mut values = new;
        for key in &waiting {
            match self.values.get(key) {
                Some(old) => drop(values.insert(key.clone(), old.clone())),
                None => drop(values.remove(key)),
            }
        }
        Reloaded {
            now: Self {
                config: self.config.reloaded(read.config.clone()),
                values,
                given: read.given.clone(),
            },
            taken,
            waiting,
        }
    }

    fn path(run_dir: &Path) -> PathBuf {
        run_dir.join("in-force.json")
    }

    /// Writes down what is in force.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(&self) -> io::Result<()> {
        let path = Self::path(&self.config.run_dir);
        let aside = path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        io::Write::write_all(&mut file, serde_json::to_string(&self.values)?.as_bytes())?;
        fs::rename(&aside, &path)
    }

    /// Of an agent that goes by this no more, nothing waits.
    pub fn forget(&self) {
        // Where it is not there, or cannot go, the next start writes another.
        let _ = fs::remove_file(Self::path(&self.config.run_dir));
    }
}

/// Keys of a configuration that the running agent of a run directory does not go by yet, and
/// whether they wait for a reload or a restart. Without an agent there are none.
#[must_use]
pub fn waiting(run_dir: &Path, shown: &[Shown]) -> BTreeMap<String, &'static str> {
    let kept = fs::read(InForce::path(run_dir)).ok();
    let kept: Option<Values> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(kept) = kept else {
        return BTreeMap::new();
    };
    let keys = differing(&kept, &values(shown)).into_iter();
    keys.filter_map(|key| match acts(&key)? {
        Acts::Restart => Some((key, "restart")),
        Acts::Live | Acts::Reload => Some((key, "reload")),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(dir: &tempfile::TempDir, text: &str) -> Source {
        let path = dir.path().join("agent.toml");
        fs::write(&path, text).unwrap();
        Source {
            file: Some(path),
            arguments: vec![(
                "--run-dir".to_owned(),
                "agent.run_dir".to_owned(),
                dir.path().to_str().unwrap().to_owned(),
            )],
            ..Source::default()
        }
    }

    #[test]
    fn what_can_acts_and_the_rest_waits() {
        let dir = tempfile::tempdir().unwrap();
        let begun = InForce::begin(&source(&dir, "max_containers = 3\n").read().unwrap());
        let text = "max_containers = 5\nredact = [\"LAB_*\"]\nfirewall = \"off\"\n[docker]\nparallel_pulls = 9\n";
        let read = source(&dir, text).read().unwrap();
        let again = begun.reload(&read);
        assert_eq!(again.taken, ["agent.max_containers", "agent.redact"]);
        assert_eq!(
            again.waiting,
            ["agent.docker.parallel_pulls", "agent.firewall"]
        );
        let config = &again.now.config;
        assert_eq!(
            (config.max_containers, config.docker.parallel_pulls),
            (5, 2)
        );
        assert_eq!(config.firewall, "require");
        // What waits still waits the next time, and what is taken is no news.
        let third = again.now.reload(&read);
        assert_eq!((third.taken.len(), third.waiting), (0, again.waiting));
        let back = source(&dir, "max_containers = 3\n").read().unwrap();
        let back = again.now.reload(&back);
        assert_eq!(back.taken, ["agent.max_containers", "agent.redact"]);
        assert!(back.waiting.is_empty());
        assert_eq!(back.now.config, begun.config);
    }

    #[test]
    fn what_sessions_are_given_acts_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let begun = InForce::begin(&source(&dir, "max_containers = 3\n").read().unwrap());
        assert!(begun.layers().unwrap().documents.is_empty());
        let text = "max_containers = 3\n[git]\nuser = \"dana\"\npassword = \"hunter2\"\n";
        let again = begun.reload(&source(&dir, text).read().unwrap());
        assert_eq!(again.taken, ["agent.git.password", "agent.git.user"]);
        assert!(again.waiting.is_empty());
        let layers = again.now.layers().unwrap();
        let told = String::from_utf8(layers.documents.clone()).unwrap();
        assert!(told.contains("hunter2") && !format!("{layers:?}").contains("hunter2"));
        // Another password is news, though it is shown as the same mask; nothing of it is kept.
        let other = text.replace("hunter2", "hunter3");
        let third = again.now.reload(&source(&dir, &other).read().unwrap());
        assert_eq!(third.taken, ["agent.git.password"]);
        third.now.keep().unwrap();
        let kept = fs::read_to_string(InForce::path(dir.path())).unwrap();
        assert!(!kept.contains("hunter"), "{kept}");
    }

    #[test]
    fn what_is_wrong_is_told_whole() {
        let dir = tempfile::tempdir().unwrap();
        let text = "max_containers = -1\nredct = []\nredact = [\"a b\"]\n";
        let wrong = source(&dir, text).read().unwrap_err().0;
        assert_eq!(wrong.lines().count(), 2, "{wrong}");
        assert!(wrong.contains("did you mean agent.redact?"), "{wrong}");
        let wrong = source(&dir, "redact = [\"a b\"]\n").read().unwrap_err().0;
        assert!(wrong.contains("agent.toml:1"), "{wrong}");
    }

    #[test]
    fn a_look_from_outside_knows_what_waits() {
        let dir = tempfile::tempdir().unwrap();
        let begun = InForce::begin(&source(&dir, "").read().unwrap());
        let changed = source(&dir, "local_cordon = true\ngpu_way = \"cdi\"\n")
            .read()
            .unwrap();
        assert!(
            waiting(dir.path(), &changed.shown).is_empty(),
            "nothing runs"
        );
        begun.keep().unwrap();
        let told = waiting(dir.path(), &changed.shown);
        let expected = [
            ("agent.gpu_way".to_owned(), "restart"),
            ("agent.local_cordon".to_owned(), "reload"),
        ];
        assert_eq!(told, expected.clone().into());
        begun.reload(&changed).now.keep().unwrap();
        let told = waiting(dir.path(), &changed.shown);
        assert_eq!(told.into_iter().collect::<Vec<_>>(), expected[..1]);
        begun.forget();
        assert!(waiting(dir.path(), &changed.shown).is_empty());
    }

    /// The schema and the code must not say different things about when a key acts.
    #[test]
    fn every_key_acts_when_it_says() {
        let altered = |path: &str, default: &str| -> String {
            match path {
                "agent.vault_file_roots" => "[\"/tmp\"]".to_owned(),
                "agent.images.keep" | "agent.devices.mask" | "agent.redact" => "[\"x\"]".to_owned(),
                "agent.health.cordon_xids" | "agent.health.warn_xids" => "[13]".to_owned(),
                "agent.health.on_foreign" => "report".to_owned(),
                "agent.foreign.ignore" => "[\"x\"]".to_owned(),
                "agent.allocation.strategy" => "fill".to_owned(),
                "agent.allocation.quantum" => "0.5".to_owned(),
                "agent.allocation.affinity" => "interleaved".to_owned(),
                "agent.gpu_way" => "cdi".to_owned(),
                "logging.level" => "debug".to_owned(),
                "logging.levels" => "{\"quinn\":\"debug\"}".to_owned(),
                "logging.format" => "json".to_owned(),
                "logging.target" => "file".to_owned(),
                "logging.file.max_size" => "200M".to_owned(),
                "agent.firewall" => "off".to_owned(),
                "agent.metrics.listen" => "[::1]:7000".to_owned(),
                "agent.network.prefix" => "28".to_owned(),
                "agent.local_policy.host_network" | "agent.local_policy.root_in_container" => {
                    "allow".to_owned()
                }
                "agent.local_policy.sudo" => "deny".to_owned(),
                "agent.local_policy.registries" => "[\"reg.lab\"]".to_owned(),
                "agent.network.pool" => "10.0.0.0/16".to_owned(),
                _ => match default {
                    "true" => "false".to_owned(),
                    "false" => "true".to_owned(),
                    number if number.parse::<u32>().is_ok() => {
                        format!("{}", number.parse::<u32>().unwrap() + 1)
                    }
                    _ => "/elsewhere".to_owned(),
                },
            }
        };
        let nowhere = ("LONGSHORE_CONFIG_DIR".to_owned(), "/nowhere".to_owned());
        let environment = BTreeMap::from([nowhere]);
        let begun = Config::default();
        for key in SCHEMA.keys {
            let set = (
                "--set".to_owned(),
                key.path.to_owned(),
                altered(key.path, key.default),
            );
            let (new, _) = Config::load(None, &environment, vec![set]).unwrap();
            assert_ne!(new, begun, "{}", key.path);
            let after = begun.reloaded(new.clone());
            let expected = match key.acts {
                Acts::Restart => &begun,
                Acts::Reload | Acts::Live => &new,
            };
            assert_eq!(&after, expected, "{}", key.path);
        }
    }
}
