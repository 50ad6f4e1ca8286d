//! Programs of ours on this machine: starting them detached, knowing them again by
//! their pid file, stopping them.

use crate::client::random_key;
use crate::error::Failure;
use rustix::process::{Pid, Signal};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::net::UnixDatagram;
use tokio::signal::unix::{Signal as Caught, SignalKind, signal};

/// The end of a log that is shown when a program ends at once.
const TAIL_LINES: usize = 12;

/// How a start went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It does its work.
    Ready,
    /// It ended before that.
    Ended(ExitStatus),
    /// It runs and is not ready in time.
    Late,
}

/// Where one program says that it is ready, in the way in which it says so to systemd
/// (`sd_notify`): a socket in a directory of its own, where nobody else can say it.
#[derive(Debug)]
pub(crate) struct Notices {
    folder: PathBuf,
    socket: UnixDatagram,
    /// Ends of children, from before the program was started.
    ended: Caught,
}

impl Notices {
    /// Opens the socket. The program is started afterwards.
    pub(crate) fn new() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("longshore-{}", random_key()?));
        let fault = |error: std::io::Error| {
            // The path of a socket has at most 108 bytes.
            Failure::failed(format!("{}: {error}", folder.display()))
                .hint("TMPDIR=/tmp longshore …")
        };
        let ended = signal(SignalKind::child())?;
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700).create(&folder).map_err(fault)?;
        match UnixDatagram::bind(folder.join("notify")) {
            Ok(socket) => Ok(Self {
                folder,
                socket,
                ended,
            }),
            Err(error) => {
                let _ = std::fs::remove_dir(&folder); // empty, and nobody knows its name
                Err(fault(error))
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("notify")
    }

    /// Waits until the program says `line`, has ended, or `limit` is over. What it says of
    /// itself for people (`STATUS=`) goes to `told`.
    pub(crate) async fn wait(
        &mut self,
        child: &mut Child,
        line: &str,
        limit: Duration,
        mut told: impl FnMut(&str),
    ) -> Result<Start, Failure> {
        let limit = tokio::time::sleep(limit);
        tokio::pin!(limit);
        let mut buffer = [0; 4096];
        loop {
            let ready = tokio::select! {
                got = self.socket.recv(&mut buffer) => {
                    let notice = &buffer[..got?];
                    status(notice).into_iter().for_each(|text| told(&text));
                    says(notice, line)
                }
                _ = self.ended.recv() => false,
                () = &mut limit => return Ok(Start::Late),
            };
            // One that said so and has ended since is no more use than one that did not.
            if let Some(status) = child.try_wait()? {
                return Ok(Start::Ended(status));
            }
            if ready {
                return Ok(Start::Ready);
            }
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        // What stays in spite of this is empty and in a directory for such things.
        let _ = std::fs::remove_file(self.path());
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Whether a notice says so; it may say other things besides, a line each.
fn says(notice: &[u8], wanted: &str) -> bool {
    notice
        .split(|byte| *byte == b'\n')
        .any(|line| line == wanted.as_bytes())
}

/// What a notice says for people.
fn status(notice: &[u8]) -> Option<String> {
    let mut lines = notice.split(|byte| *byte == b'\n');
    let text = lines.find_map(|line| line.strip_prefix(b"STATUS="))?;
    Some(String::from_utf8_lossy(text).into_owned())
}

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
        self.spawn(arguments, None)
    }

    /// The same, and it says there when it is ready.
    pub(crate) fn start_noticed(
        &self,
        arguments: &[OsString],
        notices: &Notices,
    ) -> Result<Child, Failure> {
        self.spawn(arguments, Some(notices))
    }

    fn spawn(&self, arguments: &[OsString], notices: Option<&Notices>) -> Result<Child, Failure> {
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
        let mut command = Command::new(own);
        // If this program itself runs as a service, that one's socket is not the daemon's.
        match notices {
            Some(notices) => command.env("NOTIFY_SOCKET", notices.path()),
            None => command.env_remove("NOTIFY_SOCKET"),
        };
        let child = command
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

    const READY: &str = "READY=1";
    /// Longer than anything here takes; only a failing test waits for it.
    const LIMIT: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).spawn().unwrap()
    }

    #[tokio::test]
    async fn a_program_is_ready_when_it_says_so() {
        let mut notices = Notices::new().unwrap();
        let path = notices.path();
        let mode = std::fs::metadata(&notices.folder).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o700
        );
        let mut child = shell("exec sleep 60");
        let none = notices
            .wait(&mut child, READY, Duration::ZERO, |_| ())
            .await;
        assert_eq!(none.unwrap(), Start::Late);
        let program = std::os::unix::net::UnixDatagram::unbound().unwrap();
        program.send_to(b"STATUS=half\nX_READY=1", &path).unwrap();
        let none = notices
            .wait(&mut child, READY, Duration::from_millis(20), |_| ())
            .await;
        assert_eq!(none.unwrap(), Start::Late);
        program.send_to(b"STATUS=all\nREADY=1\n", &path).unwrap();
        let mut told = Vec::new();
        let tell = |text: &str| told.push(text.to_owned());
        let done = notices.wait(&mut child, READY, LIMIT, tell).await;
        assert_eq!(done.unwrap(), Start::Ready);
        assert_eq!(told, ["all"]);
        child.kill().unwrap();
        child.wait().unwrap();
        program.send_to(b"READY=1", &path).unwrap();
        let done = notices
            .wait(&mut child, READY, LIMIT, |_| ())
            .await
            .unwrap();
        assert!(matches!(done, Start::Ended(_)), "{done:?}");
        drop(notices);
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }

    #[tokio::test]
    async fn a_program_that_ends_is_not_ready_however_late_it_ends() {
        let mut notices = Notices::new().unwrap();
        // It ends when its input does, so not before it is waited for.
        let mut child = Command::new("sh")
            .args(["-c", "read line; exit 3"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let (done, ()) = tokio::join!(notices.wait(&mut child, READY, LIMIT, |_| ()), async {
            drop(input)
        });
        let Start::Ended(status) = done.unwrap() else {
            panic!("it did not end")
        };
        assert_eq!(status.code(), Some(3));
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
