//! From an order to a running program: files and account files, the create request, and what the
//! init process of a container says of the program it was to run.

use super::engine::{self, CallError};
use super::files::{self, Paths};
use super::request::{self, NodeFacts};
use super::{Docker, Facts, Inner, deadline};
use crate::runtime::{CreateRequest, FoundStatus, RuntimeError};
use bollard::query_parameters::{CreateContainerOptions, LogsOptions};
use futures_util::TryStreamExt as _;
use longshore_common::session::Cause;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How long the program may take to replace the engine's init process before a start
/// counts as one without watching further.
const EXEC_WAIT: Duration = Duration::from_secs(2);

impl Docker {
    /// The image's own account files must be read before a container is made of it.
    pub(super) async fn ensure_accounts(&self, image_id: &str) -> Result<(), RuntimeError> {
        let Inner {
            config,
            engine,
            files,
            accounts,
            ..
        } = &*self.0;
        if files.has_accounts(image_id) {
            return Ok(());
        }
        let _one = accounts.lock().await;
        if files.has_accounts(image_id) {
            return Ok(());
        }
        files::read_accounts(engine, files, (config.cluster, config.agent), image_id)
            .await
            .map_err(|error| match error {
                CallError::Refused { message, .. } => RuntimeError::Failed {
                    cause: engine::create_cause(&message),
                    detail: message,
                },
                other => other.into_runtime(Cause::CreateFailed),
            })
    }

    async fn make_files(&self, request: &CreateRequest) -> Result<Paths, RuntimeError> {
        self.ensure_accounts(&request.image.id).await?;
        let files = self.0.files.clone();
        let request = request.clone();
        tokio::task::spawn_blocking(move || files.make(&request))
            .await
            .expect("making files does not panic")
            .map_err(|error| {
                let full = error.kind() == std::io::ErrorKind::StorageFull;
                let cause = if full {
                    Cause::NoSpace
                } else {
                    Cause::CreateFailed
                };
                RuntimeError::Failed {
                    cause,
                    detail: format!("the files of the container: {error}"),
                }
            })
    }

    pub(super) async fn create_with(
        &self,
        request: &CreateRequest,
        network: String,
    ) -> Result<String, RuntimeError> {
        let facts = self.facts().await?;
        let paths = self.make_files(request).await?;
        let node = node_facts(facts, network, paths);
        let body = request::build(request, &node).map_err(|refusal| RuntimeError::Failed {
            cause: refusal.cause,
            detail: refusal.detail,
        })?;
        let name = request.key.docker_name(request.cluster);
        let options = CreateContainerOptions {
            name: Some(name),
            ..CreateContainerOptions::default()
        };
        let created = self
            .0
            .engine
            .call("create", deadline::CREATE, |client| async move {
                client.create_container(Some(options), body).await
            })
            .await
            .map_err(|error| match error {
                CallError::Refused { status: 409, .. } => RuntimeError::Conflict,
                CallError::Refused { message, .. } => {
                    let cause = engine::create_cause(&message);
                    RuntimeError::Failed {
                        cause,
                        detail: message,
                    }
                }
                other => other.into_runtime(Cause::CreateFailed),
            })?;
        Ok(created.id)
    }

    /// Waits until the engine's init process has become a parent of the program, or has
    /// ended because there is none it could run: the engine reports that as an exit.
    pub(super) async fn await_program(
        &self,
        docker_id: &str,
        pid: Option<u32>,
    ) -> Result<(), RuntimeError> {
        let deadline = Instant::now() + EXEC_WAIT;
        if let Some(pid) = pid {
            let process = PathBuf::from("/proc").join(pid.to_string());
            while Instant::now() < deadline {
                match program(&process) {
                    Program::Runs => return Ok(()),
                    Program::NotYet => tokio::time::sleep(Duration::from_micros(300)).await,
                    Program::Ended => break,
                }
            }
        }
        while Instant::now() < deadline {
            let Some(found) = self.look(docker_id).await? else {
                return Ok(());
            };
            match found.status {
                FoundStatus::Exited(exit) if matches!(exit.code, 126 | 127) => {
                    return self.not_executed(docker_id).await;
                }
                FoundStatus::Exited(_) | FoundStatus::Created | FoundStatus::Paused => {
                    return Ok(());
                }
                // The process is gone and the engine has not noted it yet.
                FoundStatus::Running => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        Ok(())
    }

    /// Tells a program that ended with 126 or 127 from one that never was executed: only
    /// then the init process left its own words.
    async fn not_executed(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let options = LogsOptions {
            stderr: true,
            stdout: true,
            tail: "20".to_owned(),
            ..LogsOptions::default()
        };
        let words = self
            .0
            .engine
            .call("logs", deadline::ASK, |client| async move {
                let frames: Vec<_> = client.logs(docker_id, Some(options)).try_collect().await?;
                Ok(frames
                    .iter()
                    .map(|frame| String::from_utf8_lossy(frame.as_ref()).into_owned())
                    .collect::<String>())
            })
            .await
            .map_err(|error| error.into_runtime(Cause::StartFailed))?;
        match init_refusal(&words) {
            Some((cause, detail)) => Err(RuntimeError::Failed { cause, detail }),
            None => Ok(()),
        }
    }
}

fn node_facts(facts: Facts, network: String, paths: Paths) -> NodeFacts {
    use rustix::process::{Resource, getrlimit};
    // The engine runs under the same service manager's bounds as the agent; asking for
    // more than the machine allows would make every start fail.
    NodeFacts {
        cgroup_version: facts.cgroup_version,
        cgroup_systemd: facts.cgroup_systemd,
        nofile_max: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        memlock_max: getrlimit(Resource::Memlock).maximum,
        network,
        home: paths.home,
        run: paths.run,
        passwd: paths.passwd,
        group: paths.group,
        sudoers: paths.sudoers,
        hosts: paths.hosts,
    }
}

/// Where the program of a container stands, from its first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Runs,
    NotYet,
    Ended,
}

/// By the first process's directory in `/proc`.
fn program(process: &Path) -> Program {
    let Ok(first) = std::fs::read_link(process.join("exe")) else {
        return Program::Ended;
    };
    if first.file_name().is_none_or(|name| name != "docker-init") {
        return without_init(process);
    }
    let number = process.file_name().unwrap_or_default();
    let Ok(children) = std::fs::read_to_string(process.join("task").join(number).join("children"))
    else {
        // Ended meanwhile, or a kernel that does not tell.
        return if process.exists() {
            Program::Runs
        } else {
            Program::Ended
        };
    };
    let Some(child) = children.split_whitespace().next() else {
        return Program::NotYet;
    };
    match std::fs::read_link(process.with_file_name(child).join("exe")) {
        Ok(exe) if exe != first => Program::Runs,
        _ => Program::NotYet,
    }
}

/// Of a first process that is not the init process.
fn without_init(process: &Path) -> Program {
    let Ok(name) = std::fs::read_to_string(process.join("comm")) else {
        return Program::Ended;
    };
    // The engine counts it as started while it is still the runtime's own process, which is
    // about to become the init process, or has become it between the two looks.
    if name.starts_with("runc:[") || name.trim_end() == "docker-init" {
        Program::NotYet
    } else {
        Program::Runs // no init process stands between
    }
}

/// The init process's own words when it could not run the program.
fn init_refusal(words: &str) -> Option<(Cause, String)> {
    let line = words
        .lines()
        .find(|line| line.starts_with("[FATAL tini") && line.contains("] exec "))?;
    let detail = line
        .split_once("] ")
        .map_or(line, |(_, rest)| rest)
        .trim()
        .to_owned();
    let cause = if line.contains("No such file") {
        Cause::CommandNotFound
    } else {
        Cause::CommandNotExecutable
    };
    Some((cause, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_init_process() {
        let missing =
            init_refusal("[FATAL tini (6)] exec nosuch failed: No such file or directory\n");
        assert_eq!(
            missing,
            Some((
                Cause::CommandNotFound,
                "exec nosuch failed: No such file or directory".to_owned()
            ))
        );
        let forbidden = init_refusal("[FATAL tini (7)] exec /etc failed: Permission denied\n");
        assert!(matches!(forbidden, Some((Cause::CommandNotExecutable, _))));
        assert_eq!(init_refusal("sh: nosuch: not found\n"), None);
    }

    /// What `/proc` shows of a container on its way to its program.
    #[test]
    fn a_program_runs_once_the_init_process_has_a_child_that_is_another() {
        use std::fs;
        use std::os::unix::fs::symlink;
        let proc = tempfile::tempdir().unwrap();
        let first = proc.path().join("7");
        let show = |exe: &str, name: &str| {
            let _ = fs::remove_dir_all(&first);
            fs::create_dir_all(first.join("task/7")).unwrap();
            symlink(exe, first.join("exe")).unwrap();
            fs::write(first.join("comm"), name).unwrap();
            fs::write(first.join("task/7/children"), "").unwrap();
        };
        assert_eq!(program(&first), Program::Ended);
        show("/", "runc:[2:INIT]\n");
        assert_eq!(program(&first), Program::NotYet);
        show("/", "docker-init\n"); // between the two looks
        assert_eq!(program(&first), Program::NotYet);
        show("/sbin/docker-init", "docker-init\n");
        assert_eq!(program(&first), Program::NotYet);
        fs::write(first.join("task/7/children"), "8 ").unwrap();
        fs::create_dir(proc.path().join("8")).unwrap();
        symlink("/sbin/docker-init", proc.path().join("8/exe")).unwrap();
        assert_eq!(program(&first), Program::NotYet);
        fs::remove_file(proc.path().join("8/exe")).unwrap();
        symlink("/bin/sleep", proc.path().join("8/exe")).unwrap();
        assert_eq!(program(&first), Program::Runs);
        show("/bin/sleep", "sleep\n");
        assert_eq!(program(&first), Program::Runs);
    }
}
