//! `join`: this machine becomes a node of a coordinator elsewhere.

use crate::app::App;
use crate::commands::up::{self, Place, Record};
use crate::error::Failure;
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

/// Joins.
pub(crate) async fn run(_app: &App, args: Args) -> Result<u8, Failure> {
    let coordinator = with_port(&args.host);
    let token = token(&args)?;
    let bin_dir = match &args.bin_dir {
        Some(path) => path.canonicalize()?,
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
    let Some(data) = &args.data else {
        let mut command = Command::new(&program);
        command.args(["join", "--coordinator", &coordinator, "--token", "-"]);
        command.args([
            "--state-dir",
            "/var/lib/longshore-agent",
            "--run-dir",
            "/run/longshore-agent",
        ]);
        if let Some(name) = &args.name {
            command.args(["--name", name]);
        }
        up::join_with(command, &token)?;
        up::line("agent", &format!("joined {coordinator}"), "enrolled");
        println!("\nNext   systemctl enable --now longshore-agent              start it");
        return Ok(0);
    };
    for part in ["agent", "log", "run", "run/agent"] {
        let path = data.join(part);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    }
    let record = Record {
        bin_dir,
        name: args.name,
        agent_args: args.agent_arg,
        ..Record::default()
    };
    let place = Place {
        data: data.canonicalize()?,
        record,
    };
    if place.is_enrolled() {
        return Err(Failure::failed(format!(
            "{} holds an identity already",
            place.data.display()
        )));
    }
    // First what can be refused, since a machine joins only once.
    let mut notices = Notices::new()?;
    up::enrol(&place, &coordinator, &token)?;
    let agent = place.agent();
    let arguments = up::run_arguments(&place);
    let mut child = agent.start_noticed(&arguments, &notices)?;
    let start = notices.wait(&mut child, up::AGENT_LIMIT).await?;
    if let Some(failure) = not_ready(start, &agent, &arguments) {
        return Err(failure);
    }
    up::line(
        "agent",
        &format!("joined {coordinator}, log {}", agent.log.display()),
        "started",
    );
    println!(
        "\nNext   longshore nodes                                   on the coordinator's machine"
    );
    Ok(0)
}

/// Why an agent that was started does not do its work, in its own words.
fn not_ready(start: Start, agent: &Program, arguments: &[OsString]) -> Option<Failure> {
    let text = match start {
        Start::Ready => return None,
        Start::Ended(status) => format!("longshore-agent ended before it was ready: {status}"),
        Start::Late => {
            let limit = up::AGENT_LIMIT.as_secs();
            format!("longshore-agent runs and is not ready after {limit} s")
        }
    };
    let failure = agent.failure(text);
    if start == Start::Late {
        return Some(failure);
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
        assert!(not_ready(Start::Ready, &agent, &arguments).is_none());
        let ended = Start::Ended(std::process::ExitStatus::from_raw(1 << 8));
        let failure = not_ready(ended, &agent, &arguments).unwrap();
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
        let late = not_ready(Start::Late, &agent, &arguments).unwrap();
        assert_eq!(late.why.len(), 2);
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
