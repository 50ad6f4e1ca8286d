//! Programs of ours on this machine: starting them detached, knowing them again by
//! their pid file, stopping them.

use crate::error::Failure;
use rustix::process::{Pid, Signal};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The end of a log that is shown when a program ends at once.
const TAIL_LINES: usize = 12;

/// A program of ours, and where its traces lie.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The file to run.
    pub(crate) path: PathBuf,
    /// Where its process id is written.
    pub(crate) pid_file: PathBuf,
    /// Where its output goes.
    pub(crate) log: PathBuf,
}

/// Starts a program in a session of its own: what `up` uses so that a program outlives
/// the terminal it was started from.
#[derive(Debug, clap::Args)]
pub(crate) struct Detached {
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Leaves the terminal and becomes the program. Returns only when that fails.
pub(crate) fn become_program(detached: &Detached) -> Failure {
    let Some((program, arguments)) = detached.command.split_first() else {
        return Failure::usage("no program");
    };
    if let Err(error) = rustix::process::setsid() {
        return Failure::failed(format!("setsid: {error}"));
    }
    let error = Command::new(program).args(arguments).exec();
    Failure::failed(format!("{}: {error}", program.display()))
}

impl Program {
    /// The pid of the program if it runs. A pid that another program took over since
    /// does not count: the file that runs must have our name.
    pub(crate) fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(&self.pid_file).ok()?;
        let number: i32 = text.trim().parse().ok().filter(|number| *number > 1)?;
        let name = self.path.file_name()?.to_string_lossy().into_owned();
        runs(number, &name).then(|| Pid::from_raw(number)).flatten()
    }

    /// Starts it with its output in the log. It goes on when this program ends.
    pub(crate) fn start(&self, arguments: &[OsString]) -> Result<Child, Failure> {
        let fault = |path: &Path| {
            let path = path.display().to_string();
            move |error: std::io::Error| Failure::failed(format!("{path}: {error}"))
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .map_err(fault(&self.log))?;
        let own = std::env::current_exe().map_err(fault(Path::new("longshore")))?;
        let child = Command::new(own)
            .arg("__detached")
            .arg("--")
            .arg(&self.path)
            .args(arguments)
            // The keys of a user are no business of a daemon.
            .env_remove("LONGSHORE_SECRET_KEY")
            .env_remove("LONGSHORE_TOKEN")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(fault(&self.log))?)
            .stderr(log)
            .spawn()
            .map_err(fault(&self.path))?;
        std::fs::write(&self.pid_file, format!("{}\n", child.id()))
            .map_err(fault(&self.pid_file))?;
        Ok(child)
    }

    /// Asks it to end and waits; whether it has.
    pub(crate) async fn stop(&self, limit: Duration) -> Result<bool, Failure> {
        let Some(pid) = self.pid() else {
            let _ = std::fs::remove_file(&self.pid_file);
            return Ok(true);
        };
        rustix::process::kill_process(pid, Signal::TERM).map_err(|error| {
            Failure::failed(format!(
                "{} ({pid:?}) cannot be stopped: {error}",
                self.path.display()
            ))
        })?;
        let started = Instant::now();
        while started.elapsed() < limit {
            if self.pid().is_none() {
                let _ = std::fs::remove_file(&self.pid_file);
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(false)
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> Vec<String> {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(16_384)..]).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    }

    /// A failure with the end of the log.
    pub(crate) fn failure(&self, text: String) -> Failure {
        let mut failure = Failure::failed(text).hint(format!("less {}", self.log.display()));
        for line in self.log_tail() {
            failure = failure.why(line);
        }
        failure
    }
}

/// Whether the process runs a file of this name and is not a corpse.
fn runs(pid: i32, name: &str) -> bool {
    let Ok(exe) = std::fs::read_link(format!("/proc/{pid}/exe")) else {
        return false;
    };
    // A file that was built anew since is shown as deleted.
    let file = exe
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let file = file.strip_suffix(" (deleted)").unwrap_or(&file);
    if file != name {
        return false;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the name in parentheses, which may hold anything.
    !matches!(
        stat.rsplit_once(") ")
            .map(|(_, rest)| rest.as_bytes().first()),
        Some(Some(b'Z' | b'X'))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str) -> Program {
        Program {
            path: folder.join(name),
            pid_file: folder.join("pid"),
            log: folder.join("log"),
        }
    }

    #[test]
    fn another_program_with_our_pid_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(folder.path().join("pid"), child.id().to_string()).unwrap();
        let own = std::fs::read_link(format!("/proc/{}/exe", child.id())).unwrap();
        let name = own.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(program(folder.path(), &name).pid().is_some());
        assert!(program(folder.path(), "longshore-agent").pid().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(program(folder.path(), &name).pid().is_none());
        for bad in ["", "0", "1", "-1", "x"] {
            std::fs::write(folder.path().join("pid"), bad).unwrap();
            assert!(program(folder.path(), &name).pid().is_none(), "{bad}");
        }
    }

    #[test]
    fn the_end_of_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (0..40).map(|n| format!("line {n}\n")).collect();
        std::fs::write(folder.path().join("log"), text).unwrap();
        let tail = program(folder.path(), "x").log_tail();
        assert_eq!((tail.len(), tail[0].as_str()), (TAIL_LINES, "line 28"));
    }
}
