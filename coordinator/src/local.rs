//! What the administrator of the machine may ask the coordinator for without a login: over a
//! socket, a line of JSON each way.
//!
//! | input | output |
//! |---|---|
//! | [`Ask`], a line of at most [`LONGEST`] bytes | [`Told`], a line |
//!
//! Only root and the user the coordinator runs as are heard, by the credentials of the peer:
//! either could change the database itself.

use crate::config::{Config, ConfigError, SCHEMA};
use crate::settings::Source;
use longshore_config::load::{Loaded, MASK};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest line, in bytes: a password and some names, and room.
pub const LONGEST: u64 = 16 << 10;
/// Longest answer, in bytes: the stored settings have the size of a request at most.
pub const LONGEST_ANSWER: u64 = 4 << 20;
/// How long an answer may take: it waits for the disk, and for other passwords.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A question.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// A new link for the first administrator; the one before is void.
    SetupToken,
    /// The first administrator.
    AdminCreate {
        /// Address.
        email: String,
        /// Login name; absent = the part of the address before the `@`.
        username: Option<String>,
        /// Absent = none yet.
        password: Option<String>,
        /// Name of the domain; absent = `default`.
        domain: Option<String>,
        /// Name of the project; absent = `default`.
        project: Option<String>,
    },
    /// How many stored secrets each master key protects.
    SecretsStatus,
    /// What is stored over the files of the configuration: one line of JSON, values by key, those
    /// that are secret as masks.
    Settings,
    /// Bring stored secrets under a new master key.
    SecretsRotate {
        /// The key, in base64.
        key: String,
    },
    /// The way back in for an administrator.
    AdminRecover {
        /// Address.
        email: String,
    },
}

// A password must not reach a log by way of `{:?}`.
impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ask").finish_non_exhaustive()
    }
}

/// An answer.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// Done: lines for the terminal.
    Done(Vec<String>),
    /// Not done, and why: the code and what is wrong.
    No(String, Vec<String>),
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nobody listens.
    #[error(
        "the coordinator does not run, or with another data directory: {0} does not answer; start it first (systemctl start longshore-coordinator), and give --data-dir or --config as it has them"
    )]
    Nobody(String),
    /// It listens and does not let one in.
    #[error("{0} is for root and for the user the coordinator runs as")]
    Denied(String),
    /// It broke off.
    #[error("the coordinator did not answer: {0}")]
    Broken(std::io::Error),
    /// It said no.
    #[error("{0}")]
    Refused(String),
}

/// Puts a question to the coordinator that has this socket, and waits for the lines it answers.
///
/// # Errors
/// [`LocalError`].
pub fn ask(socket: &Path, question: &Ask) -> Result<Vec<String>, LocalError> {
    let shown = socket.display().to_string();
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => LocalError::Denied(shown.clone()),
        _ => LocalError::Nobody(shown.clone()),
    })?;
    let told = converse(&mut stream, question).map_err(LocalError::Broken)?;
    match told {
        Some(Told::Done(lines)) => Ok(lines),
        Some(Told::No(code, why)) => Err(LocalError::Refused(format!("{code}: {}", why.join(" ")))),
        None => Err(LocalError::Denied(shown)),
    }
}

/// The configuration with what the coordinator that runs here has stored of it, to be shown; none
/// if none runs, or if it does not go with what stands in the files by now.
#[must_use]
pub fn with_stored(source: &Source, socket: &Path) -> Option<Loaded> {
    let mut stored = stored(socket)?;
    for key in hide_lists(&mut stored) {
        eprintln!("warning: what is stored of {key} is secret and left out");
    }
    let loaded = Config::sources(
        source.file.as_deref(),
        stored.into_iter().collect(),
        source.environment.iter().cloned(),
        source.overrides.clone(),
    );
    match loaded {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            eprintln!("warning: stored settings are left out: {error}");
            None
        }
    }
}

/// The configuration if it is valid on a machine of this name, with what the coordinator that runs
/// here has stored of it where the files alone are not.
///
/// # Errors
/// All that is wrong, a line each.
pub fn checked(
    source: &Source,
    begun: (&Config, &Loaded),
    machine: &str,
) -> Result<Loaded, ConfigError> {
    let (config, loaded) = begun;
    // What is stored sets none of its keys.
    let key = config.check_master_key(loaded);
    match (
        with_what_is_stored(source, &config.daemon.socket(), machine),
        key,
    ) {
        (told, Ok(())) => told,
        (Ok(_), Err(key)) => Err(key),
        (Err(told), Err(key)) => Err(told.and(&key)),
    }
}

fn with_what_is_stored(
    source: &Source,
    socket: &Path,
    machine: &str,
) -> Result<Loaded, ConfigError> {
    let load = |settings| {
        let environment = source.environment.iter().cloned();
        let overrides = source.overrides.clone();
        let loaded = Config::load_with(
            source.file.as_deref(),
            (settings, &[]),
            environment,
            overrides,
        );
        let (config, loaded) = loaded?;
        config.check_machine(config.name_on(machine))?;
        Ok(loaded)
    };
    let alone = load(Vec::new());
    if alone.is_ok() {
        return alone;
    }
    let Some(mut stored) = stored(socket) else {
        return alone;
    };
    hide_lists(&mut stored);
    load(stored.into_iter().collect())
}

/// Takes out what is masked as a whole and is no text: a mask does for a password, but is no list
/// of webhooks. Returns the keys.
fn hide_lists(stored: &mut BTreeMap<String, serde_json::Value>) -> Vec<String> {
    let is_text = |key: &str| SCHEMA.key(key).is_some_and(|key| !key.kind.has_fields());
    let hidden = stored.extract_if(.., |key, value| *value == MASK && !is_text(key));
    hidden.map(|(key, _)| key).collect()
}

/// What the coordinator that runs here has stored, secrets as masks; none if none runs.
fn stored(socket: &Path) -> Option<BTreeMap<String, serde_json::Value>> {
    let lines = match ask(socket, &Ask::Settings) {
        Ok(lines) => lines,
        Err(LocalError::Nobody(_)) => return None,
        Err(error) => {
            eprintln!("warning: without stored settings: {error}");
            return None;
        }
    };
    serde_json::from_str(lines.first()?).ok()
}

fn converse(stream: &mut UnixStream, question: &Ask) -> std::io::Result<Option<Told>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    // One that is not heard finds the socket closed already.
    let _ = stream.write_all(&line);
    let mut text = String::new();
    BufReader::new(stream.take(LONGEST_ANSWER)).read_line(&mut text)?;
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&text)?))
}
