//! The flags of sessions, and the request they become.

use crate::app::App;
use crate::client::Client;
use crate::error::{Failure, code};
use crate::follow::{Got, Signals};
use crate::output::{amount, clean};
use crate::values;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use longshore_common::api::{
    Adjustment, NewArray, NewCluster, NewDependency, NewDesignation, NewPort, NewRestart,
    NewSession, Session, SignalBefore,
};
use longshore_config as config;
use longshore_config::read::Format;
use longshore_config::tree::Node;
use longshore_config::work::layers::value_of;
use longshore_config::work::parse;
use serde_json::{Map, Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags of `run`, `submit` and `start`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Session")]
pub(crate) struct SessionFlags {
    /// GPUs: a whole number, or a part of one (0.5, 1/7)
    #[arg(long, value_name = "N")]
    pub(crate) gpu: Option<String>,
    /// An amount of any slot by name
    #[arg(long, value_name = "NAME=AMOUNT", value_parser = values::pair)]
    pub(crate) slot: Vec<(String, String)>,
    /// Processor cores
    #[arg(long, value_name = "N")]
    pub(crate) cpu: Option<String>,
    /// Memory: 512M, 16G (powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) mem: Option<String>,
    /// Size of /dev/shm; absent: as much as the memory, or what the policy allows
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) shm: Option<String>,
    /// Image; absent: the default of the file or of the installation
    #[arg(long, value_name = "REF")]
    pub(crate) image: Option<String>,
    /// Resource group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Queue of an allocation policy, instead of a group
    #[arg(long, value_name = "QUEUE", conflicts_with = "group")]
    pub(crate) queue: Option<String>,
    /// Project; absent: the first of one's own
    #[arg(long, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// Amounts under a name; flags override them
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// So many containers that start together
    #[arg(long, value_name = "N")]
    pub(crate) cluster: Option<i64>,
    /// Whether the containers share one agent
    #[arg(long, value_name = "MODE", value_parser = ["single-node", "multi-node"], requires = "cluster")]
    pub(crate) mode: Option<String>,
    /// Run the command in every container, not in main1 alone
    #[arg(long, requires = "cluster")]
    pub(crate) run_all: bool,
    /// Processor architecture: amd64, arm64
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<String>,
    /// Agents to run on, these first
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    pub(crate) agent: Vec<String>,
    /// With --agent: nowhere else
    #[arg(long, requires = "agent")]
    pub(crate) strict: bool,
    /// Start after another session: ID, ID:ok (default), ID:any, ID:fail
    #[arg(long, value_name = "ID[:HOW]", value_delimiter = ',', value_parser = values::after)]
    pub(crate) after: Vec<(String, Option<String>)>,
    /// Not before: a time such as 2026-11-20T21:00:00Z, or +2h
    #[arg(long, value_name = "TIME", value_parser = values::instant)]
    pub(crate) start_at: Option<values::Instant>,
    /// Hold it back until it is released
    #[arg(long)]
    pub(crate) hold: bool,
    /// Many equal sessions, each with its LONGSHORE_ARRAY_INDEX; %N: so many at a time
    #[arg(long, value_name = "FIRST-LAST[%N]", value_parser = values::array)]
    pub(crate) array: Option<NewArray>,
    /// Try a batch session again, at most so often
    #[arg(long, value_name = "N", visible_alias = "restart")]
    pub(crate) retry: Option<i64>,
    /// After what: agent-lost (default), failed, out-of-memory
    #[arg(
        long,
        value_name = "END,END",
        value_delimiter = ',',
        requires = "retry"
    )]
    pub(crate) retry_on: Vec<String>,
    /// A variable: K=V, or K to take it from here
    #[arg(long = "env", short = 'e', value_name = "K[=V]")]
    pub(crate) env: Vec<String>,
    /// A file of variables, one K=V a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Directory the command starts in
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Lifetime from now on: 8h, 2d
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) time: Option<Duration>,
    /// Time limit of the command, from its start
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) timeout_after: Option<Duration>,
    /// A signal for the program some time before its lifetime or a drain ends it: USR1@5m
    #[arg(long, value_name = "SIGNAL[@TIME]", value_parser = values::signal_before)]
    pub(crate) signal: Option<SignalBefore>,
    /// 0 to 100, higher goes first
    #[arg(long, value_name = "N")]
    pub(crate) priority: Option<i64>,
    /// A name of one's own
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A mark of one's own
    #[arg(long, value_name = "K=V")]
    pub(crate) label: Vec<String>,
    /// Give the command a terminal
    #[arg(long)]
    pub(crate) tty: bool,
    /// A port inside that is to be reachable: 8000, web=8000, web=8000/http
    #[arg(long, value_name = "[NAME=]PORT[/http]", value_parser = values::port)]
    pub(crate) port: Vec<NewPort>,
    /// An app that is started at its first use: jupyter, jupyterlab, code, tensorboard
    #[arg(long, value_name = "NAME", value_parser = values::app)]
    pub(crate) app: Vec<NewPort>,
    /// A file of this machine for the session: where it is to lie there, and where it lies here
    #[arg(long, value_name = "PATH=LOCAL", value_parser = values::pair)]
    pub(crate) file: Vec<(String, String)>,
    /// A work key, above one's vault and below locked ones: agent.git.user=dana
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    pub(crate) config: Vec<(String, String)>,
    /// The request as JSON; flags override it; - reads standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) request: Option<PathBuf>,
}

/// The request that flags, file and defaults make together.
pub(crate) fn build(
    app: &App,
    flags: &SessionFlags,
    kind: &str,
    command: &[String],
) -> Result<NewSession, Failure> {
    let mut request = match &flags.request {
        Some(path) => read_file(path)?,
        None => NewSession::default(),
    };
    apply(&mut request, flags, &|name| std::env::var(name).ok())?;
    request.kind = Some(kind.to_owned());
    if !command.is_empty() {
        request.command = command.to_vec();
    }
    let defaults = crate::defaults::present(app)?;
    let pick = |key: &str, flag: &mut Option<String>| {
        let (held, note) = defaults.pick(key, flag.take());
        *flag = held;
        if let Some(note) = note.filter(|_| !app.global.quiet) {
            eprintln!("{}", clean(&note));
        }
    };
    // The image of a system session is the installation's.
    if kind != "system" {
        pick("image", &mut request.image);
    }
    // A queue has groups of its own.
    if request.queue.is_none() {
        pick("group", &mut request.group);
    }
    pick("project", &mut request.project);
    if request.slots.is_empty() && request.queue.is_none() && kind != "system" {
        pick("preset", &mut request.preset);
    }
    Ok(request)
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn read_file(path: &Path) -> Result<NewSession, Failure> {
    serde_json::from_str(&read(path)?)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Most bytes of a file that goes with a request.
const MAX_FILE: u64 = 64 * 1024;

/// A file of this machine as an entry of a vault. One that may be run here may be there.
fn file_entry(path: &str, local: &str) -> Result<Value, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("--file: {local}: {error}"));
    let about = std::fs::metadata(local).map_err(|error| wrong(&error))?;
    if about.len() > MAX_FILE {
        return Err(wrong(
            &"a file that goes with a request has at most 64 KiB; use cp for others",
        ));
    }
    let bytes = std::fs::read(local).map_err(|error| wrong(&error))?;
    let mode = match about.permissions().mode() & 0o100 {
        0 => "0400",
        _ => "0500",
    };
    Ok(match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => json!({ "path": path, "contents": text, "mode": mode }),
        Ok(text) => encoded(path, text.as_bytes(), mode),
        Err(error) => encoded(path, error.as_bytes(), mode),
    })
}

fn encoded(path: &str, bytes: &[u8], mode: &str) -> Value {
    let contents = STANDARD.encode(bytes);
    json!({
        "path": path,
        "contents": contents,
        "format": "base64",
        "target_format": "bytes",
        "mode": mode,
    })
}

/// Sets work keys, each as its type reads it; null takes away what lower layers set.
fn set_keys(config: &mut Map<String, Value>, pairs: &[(String, String)]) -> Result<(), Failure> {
    if pairs.is_empty() {
        return Ok(());
    }
    let text = Value::Object(std::mem::take(config)).to_string();
    let tree = parse(Format::Json, text.as_bytes());
    let mut tree = tree.map_err(|found| Failure::usage(format!("config: {}", found.message)))?;
    for (key, text) in pairs {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        let node = match text.as_str() {
            "null" => Node::bare(config::tree::Value::Null),
            text => {
                value_of(&path, text).map_err(|why| Failure::usage(format!("--config: {why}")))?
            }
        };
        tree.set(&path, Some(node));
    }
    if let Value::Object(members) = tree.to_json() {
        *config = members;
    }
    Ok(())
}

fn apply(
    request: &mut NewSession,
    flags: &SessionFlags,
    own: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Failure> {
    if let Some(gpu) = &flags.gpu {
        request.slots.remove("cuda.device");
        request.slots.remove("cuda.shares");
        request
            .slots
            .extend(values::gpu(gpu).map_err(|e| Failure::usage(format!("--gpu: {e}")))?);
    }
    for (slot, text) in [("cpu", &flags.cpu), ("mem", &flags.mem)] {
        if let Some(text) = text {
            request.slots.insert(slot.to_owned(), text.clone());
        }
    }
    request.slots.extend(flags.slot.iter().cloned());
    for path in &flags.env_file {
        let variables = values::env_file(&read(path)?, own)
            .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
        request.environment.extend(variables);
    }
    for text in &flags.env {
        let (name, value) =
            values::env_pair(text, own).map_err(|e| Failure::usage(format!("--env: {e}")))?;
        request.environment.insert(name, value);
    }
    for (path, local) in &flags.file {
        request.files.insert(path.clone(), file_entry(path, local)?);
    }
    set_keys(&mut request.config, &flags.config)?;
    for text in &flags.label {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        request.labels.insert(name.to_owned(), value.to_owned());
    }
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    request.shm = flags.shm.clone().or(request.shm.take());
    request.image = flags.image.clone().or(request.image.take());
    request.group = flags.group.clone().or(request.group.take());
    if flags.queue.is_some() {
        request.group = None;
    } else if flags.group.is_some() {
        request.queue = None;
    }
    request.queue = flags.queue.clone().or(request.queue.take());
    request.project = flags.project.clone().or(request.project.take());
    request.preset = flags.preset.clone().or(request.preset.take());
    request.arch = flags.arch.clone().or(request.arch.take());
    if let Some(size) = flags.cluster {
        let given = request.cluster.take().unwrap_or_default();
        request.cluster = Some(NewCluster {
            size,
            mode: flags.mode.clone().or(given.mode),
            run: flags.run_all.then(|| "all".to_owned()).or(given.run),
            containers: given.containers,
        });
    }
    if !flags.agent.is_empty() {
        request.designated = Some(NewDesignation {
            agents: flags.agent.clone(),
            mode: flags.strict.then(|| "strict".to_owned()),
        });
    }
    let after = flags.after.iter().map(|(session, on)| NewDependency {
        session: session.clone(),
        on: on.clone(),
    });
    request.depends_on.extend(after);
    request.start_at = flags
        .start_at
        .map(|at| at.since(crate::clock::now()))
        .or(request.start_at);
    request.workdir = flags.workdir.clone().or(request.workdir.take());
    request.name = flags.name.clone().or(request.name.take());
    request.priority = flags.priority.or(request.priority);
    request.lifetime_s = flags.time.map(seconds).or(request.lifetime_s);
    request.batch_timeout_s = flags.timeout_after.map(seconds).or(request.batch_timeout_s);
    request.signal_before = flags.signal.clone().or(request.signal_before.take());
    request.tty |= flags.tty;
    request.hold |= flags.hold;
    request.array = flags.array.clone().or(request.array.take());
    if let Some(max) = flags.retry {
        let on = (!flags.retry_on.is_empty()).then(|| flags.retry_on.clone());
        let given = request.restart.take().and_then(|given| given.on);
        request.restart = Some(NewRestart {
            max,
            on: on.or(given),
        });
    }
    for port in flags.port.iter().chain(&flags.app) {
        request.ports.retain(|known| known.name != port.name);
        request.ports.push(port.clone());
    }
    Ok(())
}

/// Asks for the session while signals are remembered: one that comes now is dealt with
/// when it is known which session it is about; a second one ends the command.
pub(crate) async fn submit(
    app: &App,
    client: &Client,
    request: &NewSession,
    signals: &mut Signals,
) -> Result<(Session, Option<Got>), Failure> {
    let deadline = app.deadline().map(tokio::time::Instant::from_std);
    let asking = client.new_session(request);
    tokio::pin!(asking);
    let mut early = None;
    loop {
        tokio::select! {
            session = &mut asking => {
                let session = session?;
                say_adjustments(&session);
                return Ok((session, early));
            }
            got = signals.next() => {
                if early.is_some() {
                    return Err(Failure::failed("left before the coordinator answered").hint("longshore ps"));
                }
                early = Some(got);
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                return Err(Failure::new(code::UNREACHABLE, "the time given with --timeout is over").hint("longshore ps"));
            }
        }
    }
}

/// Says what the coordinator changed in a request.
pub(crate) fn say_adjustments(session: &Session) {
    for adjustment in &session.adjusted {
        eprintln!("{}", adjustment_text(adjustment));
    }
}

/// One change in words.
pub(crate) fn adjustment_text(adjustment: &Adjustment) -> String {
    let what = adjustment
        .path
        .trim_start_matches('/')
        .replace("slots/", "");
    let to = amount(&what, &adjustment.to);
    let why = match &adjustment.source {
        Some(image) if adjustment.reason == "image-minimum" => {
            format!("minimum of image {}", clean(&image.name))
        }
        _ => clean(&adjustment.reason),
    };
    match &adjustment.from {
        Some(from) => format!(
            "{} changed from {} to {to}: {why}",
            clean(&what),
            amount(&what, from),
        ),
        None => format!("{} set to {to}: {why}", clean(&what),),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_and_keys_go_with_the_request() {
        let dir = tempfile::tempdir().unwrap();
        let local = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let flags = SessionFlags {
            file: vec![
                pair("~/a.txt", &local("a", b"text")),
                pair("/tmp/b.bin", &local("b", b"\xff\x00")),
            ],
            config: vec![
                pair("agent.git.user", "dana"),
                pair("agent.apply_files", "true"),
                pair("note", "[1]"),
                pair("environment.A", "null"),
            ],
            ..SessionFlags::default()
        };
        let mut request = NewSession::default();
        request.config.insert("note".to_owned(), json!(0));
        apply(&mut request, &flags, &|_| None).unwrap();
        assert_eq!(
            Value::Object(request.config),
            json!({
                "agent": { "git": { "user": "dana" }, "apply_files": true },
                "note": [1],
                "environment": { "A": null },
            })
        );
        assert_eq!(
            request.files["~/a.txt"],
            json!({ "path": "~/a.txt", "contents": "text", "mode": "0400" })
        );
        assert_eq!(request.files["/tmp/b.bin"]["contents"], "/wA=");
        let large = SessionFlags {
            file: vec![pair("/tmp/c", &local("c", &[b'x'; 65_537]))],
            ..SessionFlags::default()
        };
        assert!(apply(&mut NewSession::default(), &large, &|_| None).is_err());
        let wrong = SessionFlags {
            config: vec![pair("agent.apply_files", "perhaps")],
            ..SessionFlags::default()
        };
        assert!(apply(&mut NewSession::default(), &wrong, &|_| None).is_err());
    }

    #[test]
    fn flags_override_the_file() {
        let mut request: NewSession = serde_json::from_value(json!({
            "image": "a", "command": ["x"], "slots": {"cpu": "1", "cuda.shares": "0.5"}, "tty": true
        }))
        .unwrap();
        let flags = SessionFlags {
            gpu: Some("2".into()),
            mem: Some("16G".into()),
            slot: vec![("rocm.device".into(), "1".into())],
            image: Some("b".into()),
            env: vec!["A=1".into(), "B".into()],
            label: vec!["k=v".into(), "bare".into()],
            time: Some(Duration::from_secs(28_800)),
            retry: Some(2),
            retry_on: vec!["failed".into()],
            hold: true,
            array: Some(values::array("0-9%2").unwrap()),
            port: vec![values::port("web=8000").unwrap()],
            ..SessionFlags::default()
        };
        apply(&mut request, &flags, &|name| {
            (name == "B").then(|| "two".to_owned())
        })
        .unwrap();
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            json!({
                "image": "b", "command": ["x"], "tty": true, "lifetime_s": 28_800,
                "restart": {"max": 2, "on": ["failed"]}, "hold": true,
                "array": {"range": "0-9", "parallel": 2},
                "slots": {"cpu": "1", "mem": "16G", "cuda.device": "2", "rocm.device": "1"},
                "environment": {"A": "1", "B": "two"}, "labels": {"k": "v", "bare": ""},
                "ports": [{"name": "web", "port": 8000}]
            })
        );
    }

    #[test]
    fn adjustments_in_words() {
        let adjustment = Adjustment {
            path: "/slots/mem".into(),
            from: Some("4294967296".into()),
            to: "8589934592".into(),
            reason: "image-minimum".into(),
            source: Some(longshore_common::api::Source::new("image", "cuda:12.6")),
        };
        assert_eq!(
            adjustment_text(&adjustment),
            "mem changed from 4 GB to 8 GB: minimum of image cuda:12.6"
        );
    }
}
