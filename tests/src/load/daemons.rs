//! The real daemons as processes, each in a directory of its own, ended when dropped.

use super::free_port;
use super::https::{Answer, Client};
use anyhow::{Context as _, Result, bail};
use longshore_common::api::{JoinToken, NewJoinToken, SetupAnswer};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// As many requests as can be set; no entry makes so many in 900 s.
const UNLIMITED: &str = r#"{"keypair": 1000000, "anonymous": 1000000}"#;

/// A daemon is up within this time or something is wrong.
const UP: Duration = Duration::from_secs(30);
/// How often is looked whether it is up.
const LOOK: Duration = Duration::from_millis(2);

/// A process that does not outlive its owner.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    fn start(mut command: Command, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let name = command.get_program().display().to_string();
        let child = command.spawn().with_context(|| name)?;
        Ok(Self { child })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .context("no process")?;
        kill_process(pid, signal)?;
        Ok(())
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// It does not end in ten seconds.
    pub fn end(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let until = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                bail!("process {} does not end", self.pid());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Processor time used so far, user and system.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(self.pid())
    }

    /// A figure of its memory in bytes, by the kernel's name for it: `VmRSS`, `RssAnon`.
    ///
    /// # Errors
    /// It has ended.
    pub fn memory(&self, name: &str) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.trim().parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .with_context(|| format!("no {name}"))
    }
}

/// Processor time of a process, user and system. The clock is read that the kernel has for
/// each process: the figures in `/proc` count hundredths of a second, too coarse here.
///
/// # Errors
/// There is no such process.
#[expect(unsafe_code, reason = "no crate that is used here offers this clock")]
pub fn cpu_of(pid: u32) -> Result<Duration> {
    let pid = libc::pid_t::try_from(pid)?;
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both calls only write to the variable they are given.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    if failed {
        bail!("process {pid} has no clock: it has ended");
    }
    Ok(Duration::new(
        u64::try_from(time.tv_sec)?,
        u32::try_from(time.tv_nsec)?,
    ))
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill(); // it may have ended already
    }
}

/// A real coordinator on the loopback address.
#[derive(Debug)]
pub struct Coordinator {
    /// The process.
    pub process: Process,
    /// The way to its API.
    pub client: Client,
    /// TCP and UDP.
    pub port: u16,
    programs: PathBuf,
    dir: PathBuf,
}

impl Coordinator {
    /// Starts one out of `programs` with its data in `dir`, and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready; its log is `coordinator.log` in `dir`.
    pub async fn start(programs: &Path, dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let process = spawn(programs, dir, port)?;
        let mut coordinator = Self {
            process,
            client: first_client(port, dir).await?,
            port,
            programs: programs.to_owned(),
            dir: dir.to_owned(),
        };
        coordinator.ready().await?;
        Ok(coordinator)
    }

    /// Starts it again after its end, on the same port, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.process = spawn(&self.programs, &self.dir, self.port)?;
        self.ready().await
    }

    async fn ready(&mut self) -> Result<()> {
        let until = Instant::now() + UP;
        loop {
            if let Ok(Answer { status: 200, .. }) = self.client.ask("GET", "/readyz", b"").await {
                return Ok(());
            }
            if self.process.has_ended()? || Instant::now() > until {
                let log = self.dir.join("coordinator.log");
                bail!("the coordinator is not ready: {}", log.display());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Where its data lies.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Makes the first administrator; the client is theirs from now on.
    ///
    /// # Errors
    /// There is one already.
    pub async fn set_up(&mut self) -> Result<()> {
        let link = std::fs::read_to_string(self.data_dir().join("setup-token"))?;
        let (_, token) = link.trim().split_once('#').context("setup-token")?;
        let body = serde_json::json!({ "token": token, "email": "bench@localhost" });
        let answer: SetupAnswer = self
            .client
            .ask("POST", "/api/v1/setup", body.to_string().as_bytes())
            .await?
            .json()?;
        self.client.bearer = Some(format!("{}.{}", answer.access_key, answer.secret_key));
        Ok(())
    }

    /// Makes a join token good for `uses` nodes.
    ///
    /// # Errors
    /// The coordinator refuses.
    pub async fn token(&self, uses: i64) -> Result<String> {
        let order = NewJoinToken {
            group: None,
            agent_name: None,
            ttl_s: None,
            max_uses: Some(uses),
        };
        let body = serde_json::to_vec(&order)?;
        let made: JoinToken = self
            .client
            .ask("POST", "/api/v1/join-tokens", &body)
            .await?
            .json()?;
        made.token.context("no token in the answer")
    }
}

/// Of installations that live as long as a measurement.
const MASTER_KEY: &str = "c2l4dGVlbiBieXRlcywgYW5kIHNpeHRlZW4gbW9yZSE=";

fn spawn(programs: &Path, dir: &Path, port: u16) -> Result<Process> {
    let mut command = Command::new(programs.join("longshore-coordinator"));
    command
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(["--name", "localhost"])
        .env("LONGSHORE_LOG", "info")
        .env("LONGSHORE_CONFIG_DIR", dir.join("no-config"))
        .env("LONGSHORE__SECURE__MASTER_KEY_FILE", "")
        .env("LONGSHORE__SERVICES__BACKUP__ENABLED", "false")
        .env("LONGSHORE__SECURE__MASTER_KEY", MASTER_KEY)
        // What is measured is not how often one may ask.
        .env("LONGSHORE__DAEMON__RATE_LIMIT", UNLIMITED)
        // Those who measure may say for which address they ask.
        .env("LONGSHORE__DAEMON__TRUSTED_PROXIES", r#"["127.0.0.1"]"#);
    Process::start(command, &dir.join("coordinator.log"))
}

async fn first_client(port: u16, dir: &Path) -> Result<Client> {
    let until = Instant::now() + UP;
    loop {
        match Client::new(port, &dir.join("data")) {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Joins a real agent to a coordinator and runs it, with `settings` in its environment.
/// Its log is `agent.log` in `dir`.
///
/// # Errors
/// It cannot join: there is no container engine, for one.
pub async fn agent(
    programs: &Path,
    dir: &Path,
    coordinator: &Coordinator,
    settings: &[(&str, &str)],
) -> Result<Process> {
    let token = dir.join("token");
    std::fs::write(&token, coordinator.token(1).await?)?;
    let command = |verb: &str| {
        let mut command = Command::new(programs.join("longshore-agent"));
        command
            .arg(verb)
            .arg("--state-dir")
            .arg(dir.join("agent"))
            .arg("--run-dir")
            .arg(dir.join("run"))
            .env("LONGSHORE_CONFIG_DIR", dir.join("no-config"))
            .env("LONGSHORE_LOG", "info")
            .envs(settings.iter().copied());
        command
    };
    let mut join = command("join");
    join.arg("--coordinator")
        .arg(format!("127.0.0.1:{}", coordinator.port))
        .arg("--token-file")
        .arg(&token)
        .args(["--name", "bench"]);
    let log = dir.join("agent.log");
    let mut joining = Process::start(join, &log)?;
    let joined = tokio::task::spawn_blocking(move || joining.child.wait()).await??;
    if !joined.success() {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        bail!("the agent cannot join: {}", text.trim());
    }
    Process::start(command("run"), &log)
}

/// Removes what an agent that has ended left in the container engine.
///
/// # Errors
/// The engine does not answer.
pub async fn purge(programs: &Path, dir: &Path) -> Result<()> {
    let mut command = Command::new(programs.join("longshore-agent"));
    command
        .arg("purge")
        .arg("--state-dir")
        .arg(dir.join("agent"))
        .arg("--run-dir")
        .arg(dir.join("run"))
        .env("LONGSHORE_CONFIG_DIR", dir.join("no-config"));
    let mut purging = Process::start(command, &dir.join("agent.log"))?;
    let purged = tokio::task::spawn_blocking(move || purging.child.wait()).await??;
    if !purged.success() {
        bail!("the agent's containers could not be removed");
    }
    Ok(())
}

/// Waits until as many agents as this are ALIVE and have said what they have.
///
/// # Errors
/// They do not come in time.
pub async fn wait_for_agents(coordinator: &Coordinator, count: usize) -> Result<()> {
    let until = Instant::now() + UP;
    loop {
        let page: serde_json::Value = coordinator
            .client
            .ask("GET", "/api/v1/agents?state=ALIVE&limit=100", b"")
            .await?
            .json()?;
        let alive = page["items"].as_array().map_or(0, Vec::len);
        if alive >= count {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("{alive} of {count} agents are there");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
