//! `join`: this machine becomes a node of a coordinator elsewhere.

use crate::app::App;
use crate::commands::up;
use crate::error::Failure;
use crate::output::clean;
use crate::place::{self, Place};
use crate::process::{Notices, Program, Start};
use std::ffi::OsString;
use std::io::{BufRead, IsTerminal};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Flags of `join`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The coordinator: HOST or HOST:7420
    host: String,
    /// A file that holds the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// - reads the token from standard input; a token itself is refused, because others see it
    #[arg(long, value_name = "-", allow_hyphen_values = true)]
    token: Option<String>,
    /// Name of this node; absent: the machine's
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Keep everything below this directory and start the agent as a plain process
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where longshore-agent lies; absent: beside this program
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// A further argument of `longshore-agent run`
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    agent_arg: Vec<String>,
}

/// Joins, or starts again what joined before.
pub(crate) async fn run(_app: &App, args: Args) -> Result<u8, Failure> {
    let coordinator = with_port(&args.host);
    let bin_dir = match &args.bin_dir {
        Some(path) => path
            .canonicalize()
            .map_err(|error| Failure::usage(format!("--bin-dir {}: {error}", path.display())))?,
        None => std::env::current_exe()?
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default(),
    };
    let program = bin_dir.join("longshore-agent");
    if !program.is_file() {
        return Err(
            Failure::failed(format!("{} is not there", program.display())).hint("--bin-dir DIR"),
        );
    }
    let data = match &args.data {
        Some(data) => data.clone(),
        None if has_service() => return as_service(&program, &coordinator, &args),
        None if rustix::process::geteuid().is_root() => PathBuf::from(place::NODE_DATA),
        None => {
            return Err(Failure::usage("where the data are to lie is not known").hint("--data DIR"));
        }
    };
    let place = prepare(&data, bin_dir, coordinator, &args)?;
    let joined = place.record.joined.clone().unwrap_or_default();
    let agent = place.agent();
    if place.is_enrolled() {
        if agent.pid().is_some() {
            place.start_guard()?;
            place::line("agent", &format!("joined {joined}"), "runs already");
            return Ok(0);
        }
    } else {
        let token = token(&args)?;
        place::enrol(&place, &joined, &token)?;
        place::line("agent", &format!("joined {joined}"), "enrolled");
    }
    start(&place, &joined).await?;
    let data = match args.data {
        Some(_) => format!(" --data {}", place.data.display()),
        None => String::new(),
    };
    println!(
        "\nNext   longshore nodes                                   on the coordinator's machine"
    );
    println!("       longshore status{data}; longshore down{data}; longshore join {joined}{data}");
    println!(
        "                                                         here; the last also after a restart of this machine"
    );
    Ok(0)
}

/// Starts the agent and waits until its coordinator knows what it offers.
async fn start(place: &Place, joined: &str) -> Result<(), Failure> {
    let mut notices = Notices::new()?;
    let agent = place.agent();
    let arguments = place::run_arguments(place);
    let mut child = agent.start_noticed(&arguments, &notices)?;
    place.start_guard()?;
    let mut standing = String::new();
    let told = |text: &str| {
        let text = clean(text);
        if text != standing && text.starts_with("no link") {
            eprintln!("{text}; trying again");
        }
        standing = text;
    };
    let wait = notices.wait(&mut child, OFFERS, up::AGENT_LIMIT, told);
    if let Some(failure) = not_ready(wait.await?, &agent, &arguments, joined) {
        return Err(failure);
    }
    place::line(
        "agent",
        &format!("log {}", agent.log.display()),
        "started, linked",
    );
    println!("{standing}");
    Ok(())
}

/// What the agent says once its coordinator knows what it offers.
const OFFERS: &str = "X_LONGSHORE=offers";

/// Whether a package of the agent is installed on a machine that systemd manages.
fn has_service() -> bool {
    let folders = [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    Path::new("/run/systemd/system").is_dir()
        && folders
            .iter()
            .any(|folder| Path::new(folder).join(SERVICE).is_file())
}

/// The unit of a package.
const SERVICE: &str = "longshore-agent.service";

/// Joins where packages put things, and has systemd start it.
fn as_service(program: &Path, coordinator: &str, args: &Args) -> Result<u8, Failure> {
    let state = "/var/lib/longshore-agent";
    if Path::new(state).join("identity.json").exists() {
        return Err(
            Failure::failed("this machine has joined a coordinator already")
                .hint("systemctl enable --now longshore-agent starts it"),
        );
    }
    let token = token(args)?;
    let mut command = Command::new(program);
    command.args(["join", "--coordinator", coordinator, "--token", "-"]);
    command.args(["--state-dir", state, "--run-dir", "/run/longshore-agent"]);
    if let Some(name) = &args.name {
        command.args(["--name", name]);
    }
    place::join_with(command, &token)?;
    place::line("agent", &format!("joined {coordinator}"), "enrolled");
    let started = Command::new("systemctl")
        .args([
            "enable",
            "--now",
            "longshore-agent",
            "longshore-agent-guard.timer",
        ])
        .status()?;
    if !started.success() {
        return Err(
            Failure::failed(format!("systemctl: {started}")).hint("journalctl -u longshore-agent")
        );
    }
    place::line("agent", "systemctl status longshore-agent", "started");
    Ok(0)
}

/// Makes the directories and keeps what was told; what was told before stays unless it is told
/// anew.
fn prepare(
    data: &Path,
    bin_dir: PathBuf,
    coordinator: String,
    args: &Args,
) -> Result<Place, Failure> {
    for part in ["agent", "log", "run", "run/agent"] {
        let path = data.join(part);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    }
    let data = data.canonicalize()?;
    let earlier = Place::open(&data)?.map(|place| place.record);
    if earlier
        .as_ref()
        .is_some_and(|record| record.joined.is_none())
    {
        let text = format!("{} is that of a coordinator", data.display());
        return Err(Failure::usage(text).hint("longshore join --data DIR with another one"));
    }
    let is_new = earlier.is_none();
    let mut record = earlier.unwrap_or_default();
    let place = Place {
        data,
        record: record.clone(),
    };
    match &record.joined {
        Some(joined) if place.is_enrolled() && *joined != coordinator => {
            return Err(Failure::failed(format!("this node has joined {joined}"))
                .hint("longshore leave first, or join with that address"));
        }
        // It joined before such things were written down.
        None if is_new && place.is_enrolled() => {
            let text = format!("{} holds an identity already", place.data.display());
            return Err(Failure::failed(text));
        }
        _ => record.joined = Some(coordinator),
    }
    record.bin_dir = bin_dir;
    record.name = args.name.clone().or(record.name);
    if !args.agent_arg.is_empty() {
        record.agent_args.clone_from(&args.agent_arg);
    }
    let place = Place { record, ..place };
    place.store()?;
    Ok(place)
}

/// Why an agent that was started does not do its work, in its own words.
fn not_ready(
    start: Start,
    agent: &Program,
    arguments: &[OsString],
    joined: &str,
) -> Option<Failure> {
    let text = match start {
        Start::Ready => return None,
        Start::Ended(status) => format!("longshore-agent ended before it was ready: {status}"),
        Start::Late => {
            let limit = up::AGENT_LIMIT.as_secs();
            format!("longshore-agent runs and has no link to {joined} after {limit} s")
        }
    };
    let failure = agent.failure(text);
    if start == Start::Late {
        return Some(failure.why(format!(
            "it goes on trying; {joined} has to be reachable over UDP from here"
        )));
    }
    // The token is used up, and joining again would be refused.
    let mut words = vec![agent.path.to_string_lossy()];
    words.extend(arguments.iter().map(|word| word.to_string_lossy()));
    Some(failure.why(format!(
        "this machine has joined; when that is mended: {}",
        words.join(" ")
    )))
}

/// `HOST` with the port of coordinators unless it has one.
fn with_port(host: &str) -> String {
    let host = host
        .strip_prefix("https://")
        .unwrap_or(host)
        .trim_end_matches('/');
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    let has_port = after.contains(':') && (host.contains(']') || host.matches(':').count() == 1);
    match (has_port, host.contains(':') && !host.starts_with('[')) {
        (true, _) => host.to_owned(),
        (false, true) => format!("[{host}]:7420"),
        (false, false) => format!("{host}:7420"),
    }
}

fn token(args: &Args) -> Result<String, Failure> {
    let text = match (&args.token_file, args.token.as_deref()) {
        (Some(path), _) => std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?,
        (None, Some("-")) => read_line()?,
        (None, Some(_)) => {
            return Err(Failure::usage(
                "a token is not taken as an argument, where every user of this machine can read it",
            )
            .hint(
                "leave --token out and type it, or --token-file FILE, or --token - and pipe it",
            ));
        }
        (None, None) => prompt()?,
    };
    let token = text.trim().to_owned();
    if token.is_empty() {
        Err(Failure::usage("the token is empty"))
    } else {
        Ok(token)
    }
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}

/// Asks without showing what is typed.
fn prompt() -> Result<String, Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(
            Failure::usage("there is no terminal to ask for the token at")
                .hint("--token-file FILE, or --token -"),
        );
    }
    crate::ask::secret("Token (longshore token create on the coordinator prints it): ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_ends_says_why_itself() {
        use std::os::unix::process::ExitStatusExt;
        let folder = tempfile::tempdir().unwrap();
        let agent = Program {
            path: "/x/longshore-agent".into(),
            pid_file: folder.path().join("pid"),
            log: folder.path().join("log"),
        };
        std::fs::write(&agent.log, "agent starts\nError: no engine answers\n").unwrap();
        let arguments = ["run".into(), "--state-dir".into(), "/d".into()];
        assert!(not_ready(Start::Ready, &agent, &arguments, "h:1").is_none());
        let ended = Start::Ended(std::process::ExitStatus::from_raw(1 << 8));
        let failure = not_ready(ended, &agent, &arguments, "h:1").unwrap();
        assert_eq!(
            failure.text,
            "longshore-agent ended before it was ready: exit status: 1"
        );
        assert_eq!(
            failure.why[1..],
            [
                "Error: no engine answers",
                "this machine has joined; when that is mended: /x/longshore-agent run --state-dir /d"
            ]
        );
        let late = not_ready(Start::Late, &agent, &arguments, "h:1").unwrap();
        assert_eq!(late.why.len(), 3);
    }

    #[test]
    fn ports() {
        let table = [
            ("gpu01", "gpu01:7420"),
            ("gpu01:7000", "gpu01:7000"),
            ("https://gpu01:7420/", "gpu01:7420"),
            ("10.0.0.1", "10.0.0.1:7420"),
            ("fe80::1", "[fe80::1]:7420"),
            ("[fe80::1]", "[fe80::1]:7420"),
            ("[fe80::1]:7000", "[fe80::1]:7000"),
        ];
        for (host, address) in table {
            assert_eq!(with_port(host), address);
        }
    }
}
