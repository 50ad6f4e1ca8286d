//! An installation on this machine that lies in one directory: what `up` and `join` were told,
//! and the programs they started there.

use crate::app::App;
use crate::client::Client;
use crate::contexts::{self, Context};
use crate::error::Failure;
use crate::output::clean;
use crate::process::Program;
use crate::tls::Pin;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where `join` puts the data of a node that nothing else is said of.
pub(crate) const NODE_DATA: &str = "/var/lib/longshore-node";

/// What `up` was last told, kept in the data directory so that the next one, `down` and
/// `status` need not be told again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Where the programs lie.
    pub(crate) bin_dir: PathBuf,
    /// Where the coordinator listens; empty where there is none.
    #[serde(default)]
    pub(crate) listen: String,
    /// Which coordinator elsewhere this node joined, HOST:PORT; none = there is one here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) joined: Option<String>,
    /// Image of sessions that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_image: Option<String>,
    /// Name of this machine's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Resource group of this machine's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Whether there is an agent.
    #[serde(default)]
    pub(crate) no_agent: bool,
    /// Further arguments of the agent.
    #[serde(default)]
    pub(crate) agent_args: Vec<String>,
    /// Further arguments of the coordinator.
    #[serde(default)]
    pub(crate) coordinator_args: Vec<String>,
    /// Whether the first session has run.
    #[serde(default)]
    pub(crate) first_run: bool,
}

/// The data directory and what lies in it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Absolute.
    pub(crate) data: PathBuf,
    /// What was told.
    pub(crate) record: Record,
}

impl Place {
    /// The names of everything that `up` puts into the data directory.
    pub(crate) const PARTS: [&str; 7] = [
        "agent",
        "backups",
        "coordinator",
        "log",
        "master.key",
        "run",
        "up.toml",
    ];

    /// The place of an earlier `up`; `None` if there was none.
    pub(crate) fn open(data: &Path) -> Result<Option<Self>, Failure> {
        let path = data.join("up.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::failed(format!("{}: {error}", path.display()))),
        };
        let record = toml::from_str(&text)
            .map_err(|error| Failure::usage(format!("{}: {}", path.display(), error.message())))?;
        let data = data.canonicalize()?;
        Ok(Some(Self { data, record }))
    }

    /// Keeps what was told.
    pub(crate) fn store(&self) -> Result<(), Failure> {
        let path = self.data.join("up.toml");
        let text = toml::to_string_pretty(&self.record)
            .map_err(|error| Failure::failed(error.to_string()))?;
        std::fs::write(&path, text)
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
    }

    fn program(&self, name: &str, short: &str) -> Program {
        Program {
            path: self.record.bin_dir.join(name),
            pid_file: self.data.join(format!("run/{short}.pid")),
            log: self.data.join(format!("log/{short}.log")),
        }
    }

    /// The coordinator's process.
    pub(crate) fn coordinator(&self) -> Program {
        self.program("longshore-coordinator", "coordinator")
    }

    /// The agent's process.
    pub(crate) fn agent(&self) -> Program {
        self.program("longshore-agent", "agent")
    }

    /// What freezes restartable work when the agent is dead and its lease is over, where no
    /// timer of systemd does.
    pub(crate) fn guard(&self) -> Program {
        self.program("longshore-agent", "guard")
    }

    /// Starts that unless it runs.
    pub(crate) fn start_guard(&self) -> Result<(), Failure> {
        let guard = self.guard();
        if guard.pid().is_none() {
            let mut arguments: Vec<OsString> = vec!["guard".into(), "--every".into(), "20".into()];
            arguments.extend(place_arguments(self));
            arguments.extend(self.record.agent_args.iter().map(OsString::from));
            guard.start(&arguments)?;
        }
        Ok(())
    }

    /// Whether this machine has joined a coordinator.
    pub(crate) fn is_enrolled(&self) -> bool {
        self.data.join("agent/identity.json").exists()
    }

    /// The authority's pin, once the coordinator has made it.
    pub(crate) fn pin(&self) -> Option<Pin> {
        Pin::of_pem(&std::fs::read(self.data.join("coordinator/ca.pem")).ok()?)
    }

    /// Where the coordinator listens.
    pub(crate) fn listen(&self) -> Result<SocketAddr, Failure> {
        self.record.listen.parse().map_err(|_| {
            Failure::usage(format!(
                "\"{}\" is not an address to listen on",
                self.record.listen
            ))
        })
    }

    /// Where the coordinator is reached from this machine itself.
    pub(crate) fn local_address(&self) -> Result<SocketAddr, Failure> {
        let mut address = self.listen()?;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Ok(address)
    }

    /// A client without keys, for this machine's coordinator.
    pub(crate) fn bare_client(&self, app: &App) -> Result<Option<Client>, Failure> {
        let Some(pin) = self.pin() else {
            return Ok(None);
        };
        let context = Context {
            url: format!("https://{}", self.local_address()?),
            ca: Some(pin.to_string()),
            ..Context::default()
        };
        app.client_of(&context).map(Some)
    }
}

/// Where the data lie: the flag, else what the context in use says.
pub(crate) fn data_of(app: &App, flag: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    if let Some(data) = flag {
        return Ok(Some(data.to_owned()));
    }
    let file = app.contexts()?;
    let name = app
        .global
        .context
        .clone()
        .or_else(|| contexts::process_env("LONGSHORE_CONTEXT"))
        .or(file.current);
    Ok(name.and_then(|name| file.context.get(&name)?.data.clone()))
}

/// Where the data of what runs here lie: as [`data_of`], else what `join` made without being
/// told where.
pub(crate) fn data_here(app: &App, flag: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    Ok(data_of(app, flag)?.or_else(|| {
        let node = PathBuf::from(NODE_DATA);
        node.join("up.toml").is_file().then_some(node)
    }))
}

/// One line of what was done: the thing, what it is, how it is.
pub(crate) fn line(word: &str, text: &str, state: &str) {
    println!(
        "{}",
        format!("{word:<12} {:<72} {state}", clean(text)).trim_end()
    );
    let _ = std::io::stdout().flush();
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

/// What the agent is started with.
pub(crate) fn run_arguments(place: &Place) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["run".into()];
    arguments.extend(place_arguments(place));
    arguments.extend(place.record.agent_args.iter().map(OsString::from));
    arguments
}

/// Where the agent keeps its things.
pub(crate) fn place_arguments(place: &Place) -> [OsString; 4] {
    [
        "--state-dir".into(),
        place.data.join("agent").into(),
        "--run-dir".into(),
        place.data.join("run/agent").into(),
    ]
}

/// Lets the agent join; the token goes over standard input, where nobody else sees it.
pub(crate) fn enrol(place: &Place, coordinator: &str, token: &str) -> Result<(), Failure> {
    let program = place.agent();
    let mut command = Command::new(&program.path);
    command
        .args(["join", "--coordinator", coordinator, "--token", "-"])
        .args(place_arguments(place));
    if let Some(name) = &place.record.name {
        command.args(["--name", name]);
    }
    join_with(command, token)
}

/// Runs a prepared `longshore-agent join`.
pub(crate) fn join_with(mut command: Command, token: &str) -> Result<(), Failure> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // An agent that refused before reading says why below.
        let _ = writeln!(input, "{token}");
    }
    let done = child.wait_with_output()?;
    if done.status.success() {
        return Ok(());
    }
    let mut failure = Failure::failed(format!("the agent could not join: {}", done.status));
    for line in String::from_utf8_lossy(&done.stderr)
        .lines()
        .rev()
        .take(8)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        failure = failure.why(line.to_owned());
    }
    Err(failure)
}

/// The id in the agent's identity, wherever in the file it stands.
pub(crate) fn agent_id(path: &Path) -> Option<String> {
    fn find(value: &Value) -> Option<String> {
        match value {
            Value::String(text) if text.starts_with("agt_") => Some(text.clone()),
            Value::Array(items) => items.iter().find_map(find),
            Value::Object(members) => members.values().find_map(find),
            _ => None,
        }
    }
    find(&serde_json::from_slice(&std::fs::read(path).ok()?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_where_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.json");
        std::fs::write(&path, r#"{"a":1,"me":{"agent":"agt_x"}}"#).unwrap();
        assert_eq!(agent_id(&path).as_deref(), Some("agt_x"));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(agent_id(&path), None);
    }

    #[test]
    fn records_read_back() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Place::open(folder.path()).unwrap().is_none());
        let record = Record {
            listen: "127.0.0.1:7420".into(),
            agent_args: vec!["--x".into()],
            ..Record::default()
        };
        let place = Place {
            data: folder.path().canonicalize().unwrap(),
            record,
        };
        place.store().unwrap();
        assert_eq!(
            Place::open(folder.path()).unwrap().unwrap().record,
            place.record
        );
    }
}
