//! `longshore-agent`: the daemon on a GPU node.

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use longshore_agent::config::{Config, SCHEMA, manual, reference};
use longshore_agent::daemon;
use longshore_agent::devices::Mask;
use longshore_agent::hidden::Hidden;
use longshore_agent::host::{self, freezer::Freezer};
use longshore_agent::identity::{Files, Identity, IdentityError, Token};
use longshore_agent::lease::{Freezable, Lease, freeze_all};
use longshore_agent::link::{JoinError, JoinOrder, join};
use longshore_agent::policy;
use longshore_agent::reload::{InForce, Source, waiting};
use longshore_agent::runtime::docker::{Docker, without_bodies};
use longshore_agent::runtime::{Containers as _, RuntimeError};
use longshore_agent::standing::Standing;
use longshore_agent::systemd;
use longshore_config::load::Loaded;
use longshore_config::show;
use longshore_logging::{Error as LogError, Log};
use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// A newer process of this agent took over; systemd does not start this one again.
const REPLACED: u8 = 3;

/// The agent of a Longshore node. Runs as root: whoever can talk to Docker is root anyway.
#[derive(Debug, Parser)]
#[command(name = "longshore-agent", version)]
struct Arguments {
    /// File of configuration (TOML, YAML, JSON or HOCON) in place of /etc/longshore: keys as in
    /// agent.toml, or whole ones ([agent], [logging], [environment]).
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Set a key of the configuration; may be given again.
    #[arg(long, value_name = "KEY=VALUE", global = true, value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Identity, journal and output; overrides the file.
    #[arg(long, global = true)]
    state_dir: Option<PathBuf>,
    /// Files of running sessions; overrides the file.
    #[arg(long, global = true)]
    run_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Run,
    /// Join a cluster.
    Join {
        /// The coordinator, HOST:PORT.
        #[arg(long)]
        coordinator: String,
        /// `-` reads the token from standard input. A token is never taken as an argument.
        #[arg(long)]
        token: Option<String>,
        /// Read the token from a file.
        #[arg(long, conflicts_with = "token")]
        token_file: Option<PathBuf>,
        /// Name of this node; absent = its host name.
        #[arg(long)]
        name: Option<String>,
    },
    /// Freeze what must not run on when the agent is dead and its lease is over; for a timer.
    Guard {
        /// Look again after so many seconds, for ever: where there is no timer.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
        every: Option<u64>,
    },
    /// Remove the containers and networks of this node's agent.
    Purge,
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        what: ConfigVerb,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Say whether it is valid, without starting.
    Check,
    /// Print what holds; secrets are masked.
    Show {
        /// A key or a section; absent = all.
        key: Option<String>,
        /// Where each value came from, and what it stands before.
        #[arg(long)]
        origin: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print every key with its default and what it does, as a file to begin with.
    Reference {
        /// As a page of the manual.
        #[arg(long)]
        man: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("error: the TLS provider was installed twice");
        return ExitCode::from(1);
    }
    let hidden = Hidden::default();
    let fixed = std::env::var("LONGSHORE_LOG").ok();
    let fixed = fixed.map(|filters| without_bodies(&filters));
    let log = Log::begin("longshore-agent", hidden.names(), fixed.as_deref());
    // A variable that is not Unicode cannot be one of ours.
    let environment = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    let command = &arguments.command;
    let read = source(&arguments, environment).and_then(|source| {
        let Source {
            file,
            environment,
            arguments,
        } = source.clone();
        let (config, loaded) = Config::load(file.as_deref(), &environment, arguments)?;
        policy::only_from_files(&loaded).map_err(anyhow::Error::msg)?;
        // The check is what a reload begins with: it refuses what the daemon would.
        if matches!(
            command,
            Command::Run
                | Command::Config {
                    what: ConfigVerb::Check
                }
        ) {
            policy::files_are_roots(&loaded).map_err(anyhow::Error::msg)?;
        }
        Ok((source, config, loaded))
    });
    let (source, config, loaded) = match read {
        Ok(read) => read,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    if let Command::Config { what } = &arguments.command {
        return look(what, &config, &loaded);
    }
    hidden.set_own(config.redact.clone());
    if let Err(error) = take_log(&log, &arguments.command, &config) {
        eprintln!("error: {error}");
        return ExitCode::from(match error {
            LogError::Wrong(_) => 2,
            LogError::Failed(_) => 1,
        });
    }
    systemd::panics_end_the_process();
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3) // the journal may hold one for the time of a sync
        .max_blocking_threads(8)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::from(1);
        }
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Run => return run(source, config, (log, hidden)).await,
            Command::Join {
                coordinator,
                token,
                token_file,
                name,
            } => enrol(config, coordinator, token, token_file, name).await,
            Command::Guard { every } => match every {
                None => guard(&config).await,
                Some(every) => guard_on(&config, Duration::from_secs(every)).await,
            },
            Command::Purge => purge(config).await,
            Command::Config { .. } => Ok(()), // answered before
        }?;
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// What is asked about the configuration.
fn look(what: &ConfigVerb, config: &Config, loaded: &Loaded) -> ExitCode {
    match what {
        ConfigVerb::Check => {
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            println!("the configuration is valid");
        }
        ConfigVerb::Show { key, origin, json } => {
            let waits = waiting(
                &config.run_dir,
                &longshore_config::load::show(&SCHEMA, loaded),
            );
            let text = show::print(&SCHEMA, loaded, key.as_deref(), (*origin, *json), &waits);
            match text {
                Ok(text) => print!("{text}"),
                Err(error) => {
                    eprintln!("error: {error}");
                    return ExitCode::from(2);
                }
            }
        }
        ConfigVerb::Reference { man: true } => print!("{}", manual()),
        ConfigVerb::Reference { man: false } => print!("{}", reference()),
    }
    ExitCode::SUCCESS
}

/// The log is where the configuration says while the agent runs. Other commands tell whoever gave
/// them, and must not wait for the file that the running one has.
fn take_log(log: &Log, command: &Command, config: &Config) -> Result<(), LogError> {
    let order = config.logging.order();
    match command {
        Command::Run => log.prepare(&order).and_then(|order| log.take(order)),
        _ => log.set_filters(&order.filters),
    }
}

fn source(arguments: &Arguments, environment: BTreeMap<String, String>) -> Result<Source> {
    let mut set: Vec<(String, String, String)> = Vec::new();
    for (key, text) in &arguments.set {
        set.push(("--set".to_owned(), key.clone(), text.clone()));
    }
    for (flag, key, dir) in [
        ("--state-dir", "agent.state_dir", &arguments.state_dir),
        ("--run-dir", "agent.run_dir", &arguments.run_dir),
    ] {
        if let Some(dir) = dir {
            let dir = std::path::absolute(dir).context(flag)?;
            let text = dir.to_str().context("is not Unicode").context(flag)?;
            set.push((flag.to_owned(), key.to_owned(), text.to_owned()));
        }
    }
    Ok(Source {
        file: arguments.config.clone(),
        environment,
        arguments: set,
    })
}

/// `KEY=VALUE`
fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("must be of the form KEY=VALUE, such as agent.max_containers=8")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

async fn run(source: Source, config: Config, (log, hidden): (Log, Hidden)) -> Result<ExitCode> {
    let lock = daemon::lock_state(&config.state_dir)?;
    daemon::private_dir(&config.run_dir)?;
    let files = Files::new(&config.state_dir);
    let identity = files.load()?;
    let machine = daemon::machine(&config.state_dir)?;
    daemon::keep_secrets(&config)?;
    let docker = daemon::docker(&config, &identity)?;
    let engine_id = daemon::engine_id(&docker, &config.state_dir).await?;
    let fingerprint = daemon::fingerprint(&machine, &engine_id);
    let mask = Mask::from(config.devices.mask.clone());
    let (gpus, released) = daemon::gpus(&config, mask.clone());
    info!(agent = %identity.agent, name = %identity.name, version = env!("CARGO_PKG_VERSION"), "agent starts");
    let left = config.clone();
    let begun = InForce::begin(&source.read()?);
    let layers = begun.layers()?;
    let as_begun = identity.clone();
    let parts = daemon::Parts {
        identity,
        files,
        config,
        gpus,
        released: Some(released),
        fingerprint,
        machine,
        journal_ahead: longshore_agent::journal::AHEAD,
        hidden,
        layers,
        mask,
    };
    let agent = daemon::start(parts, Arc::new(docker.clone()), Some(lock)).await?;
    keep(&begun);
    let times = docker.times();
    let mut running = Running {
        source,
        now: begun,
        log,
        agent: &agent,
        docker,
        identity: as_begun,
    };
    let metrics = async {
        match left.metrics.address() {
            Some(listen) => agent.show_metrics(listen, times).await,
            None => std::future::pending().await,
        }
    };
    systemd::tell(&[NotifyState::Ready]);
    let teller = tokio::spawn(tell_manager(agent.shared.standing()));
    let fed = tokio::spawn(systemd::watchdog(agent.pulse()));
    let code = tokio::select! {
        () = metrics => ExitCode::from(1), // it goes on for ever
        ended = running.wait_for_signal() => ended.map(|()| ExitCode::SUCCESS)?,
        () = agent.replaced() => ExitCode::from(REPLACED),
        () = agent.ended() => bail!("the supervisor ended by itself; containers run on"),
    };
    teller.abort();
    fed.abort(); // a stop is not as long as the watchdog waits
    systemd::tell(&[NotifyState::Stopping]);
    info!("agent stops; containers run on");
    running.now.forget();
    agent.stop().await;
    daemon::keep_no_secrets(&left);
    Ok(code)
}

/// Says to the manager how the link stands, as long as that changes.
async fn tell_manager(mut standing: watch::Receiver<Standing>) {
    loop {
        let notice = standing.borrow_and_update().notice();
        let _ = sd_notify::notify(&[NotifyState::Custom(&notice)]);
        if standing.changed().await.is_err() {
            return;
        }
    }
}

/// What takes another configuration into force.
struct Running<'a> {
    source: Source,
    now: InForce,
    log: Log,
    agent: &'a daemon::Agent,
    docker: Docker,
    identity: Identity,
}

impl Running<'_> {
    async fn wait_for_signal(&mut self) -> Result<()> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut hup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
                _ = hup.recv() => self.reload().await,
            }
        }
    }

    /// Reads everything again. With anything wrong what was in force stays so.
    async fn reload(&mut self) {
        let read = self.source.read().map_err(|error| error.to_string());
        let checked = read.and_then(|read| {
            let again = self.now.reload(&read);
            let docker = daemon::docker_config(&again.now.config, &self.identity);
            let docker = docker.map_err(|error| format!("{error:#}"))?;
            let layers = again.now.layers().map_err(|error| error.to_string())?;
            let log = self.log.prepare(&again.now.config.logging.order());
            let log = log.map_err(|error| error.to_string())?;
            Ok((read, again, docker, layers, log))
        });
        let (read, again, docker, layers, log) = match checked {
            Ok(checked) => checked,
            Err(text) => {
                for line in text.lines() {
                    error!("the configuration is not read again: {line}");
                }
                return;
            }
        };
        for warning in &read.warnings {
            warn!("{warning}");
        }
        self.docker.reload(&docker);
        if let Err(error) = self.log.take(log) {
            error!(%error, "logging is not taken");
        }
        self.agent.reload(&again.now.config, layers).await;
        match again.taken.as_slice() {
            [] => info!("the configuration was read again; nothing differs that can act now"),
            keys => info!("the configuration was read again: {}", keys.join(", ")),
        }
        if !again.waiting.is_empty() {
            warn!(
                "these keys wait for a restart: {}",
                again.waiting.join(", ")
            );
        }
        self.now = again.now;
        keep(&self.now);
    }
}

fn keep(in_force: &InForce) {
    if let Err(error) = in_force.keep() {
        warn!(%error, "what is in force cannot be kept; config show does not say what waits");
    }
}

async fn enrol(
    config: Config,
    coordinator: String,
    token: Option<String>,
    token_file: Option<PathBuf>,
    name: Option<String>,
) -> Result<()> {
    let _lock = daemon::lock_state(&config.state_dir)?;
    let files = Files::new(&config.state_dir);
    if files.exist() {
        bail!(
            "this machine has joined already ({}); to join anew, stop the agent and remove that directory",
            config.state_dir.display()
        );
    }
    let token = Token::parse(&read_token(token, token_file)?)?;
    let machine = daemon::machine(&config.state_dir)?;
    let probe = Identity {
        agent: longshore_common::ids::AgentId::new(0),
        cluster: longshore_common::ids::ClusterId::new(0),
        name: String::new(),
        coordinator: Vec::new(),
        work_key: String::new(),
    };
    let docker = daemon::docker(&config, &probe)?;
    let engine_id = match docker.info().await {
        Ok(info) => info.id,
        Err(error) => bail!("{error}; start it and join again"),
    };
    let facts = host::Host::default().facts();
    let order = JoinOrder {
        address: coordinator,
        token,
        name: name.unwrap_or(facts.hostname),
        fingerprint: daemon::fingerprint(&machine, &engine_id),
        machine,
    };
    match join(order, &files).await {
        Ok(identity) => {
            println!("joined as {} ({})", identity.name, identity.agent);
            Ok(())
        }
        Err(JoinError::Identity(IdentityError::Token)) => bail!("{}", IdentityError::Token),
        Err(error) => Err(error.into()),
    }
}

fn read_token(token: Option<String>, file: Option<PathBuf>) -> Result<String> {
    match (token.as_deref(), file) {
        (Some("-"), _) => {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .take(4096)
                .read_to_string(&mut text)?;
            Ok(text)
        }
        (Some(_), _) => bail!(
            "a token as an argument can be read by everybody on this machine; use --token - or --token-file"
        ),
        (None, Some(path)) => {
            std::fs::read_to_string(&path).with_context(|| path.display().to_string())
        }
        (None, None) => {
            bail!("give the token on standard input with --token -, or with --token-file")
        }
    }
}

/// The agent does the same by itself; where it is alive, nothing is left to do here.
/// Looks again and again, until it is told to end. What could not be done is tried the next time.
async fn guard_on(config: &Config, every: Duration) -> Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    loop {
        if let Err(error) = guard(config).await {
            warn!(%error, "the lease could not be looked at");
        }
        tokio::select! {
            () = tokio::time::sleep(every) => (),
            _ = term.recv() => return Ok(()),
        }
    }
}

async fn guard(config: &Config) -> Result<()> {
    let identity = Files::new(&config.state_dir).load()?;
    let path = Lease::path(&config.run_dir);
    let boot_id = host::Host::default().facts().boot_id.unwrap_or_default();
    // Nothing was ever started under a lease in this boot where there is none.
    let over = || {
        let lease = Lease::load(&path).filter(|lease| lease.agent == Some(identity.agent));
        lease.filter(|lease| lease.is_over(&boot_id, host::boot_clock_ms()))
    };
    let Some(lease) = over() else { return Ok(()) };
    let docker = daemon::docker(config, &identity)?;
    let freezer = Freezer::default();
    let engine = |docker_id: String| {
        let docker = docker.clone();
        async move {
            let frozen = docker.freeze(&docker_id).await;
            matches!(frozen, Ok(()) | Err(RuntimeError::NotFound))
        }
    };
    let past_engine = |container: &Freezable| {
        // An agent that is back meanwhile undid what was frozen, and looks after the rest.
        if let Some(pid) = container.pid
            && over().is_some()
            && let Err(error) = freezer.freeze_or_kill(pid, &container.docker_id)
        {
            let id = &container.docker_id;
            warn!(docker_id = %id, %error, "could be neither frozen nor killed; it may be gone");
        }
    };
    freeze_all(lease.freeze, engine, past_engine).await;
    Ok(())
}

async fn purge(config: Config) -> Result<()> {
    let _lock = daemon::lock_state(&config.state_dir)?;
    let identity = Files::new(&config.state_dir).load()?;
    let docker = daemon::docker(&config, &identity)?;
    let found = docker.list().await?;
    for container in &found {
        docker
            .remove(container.key, Some(&container.docker_id))
            .await?;
    }
    docker.dispose().await?;
    docker.sweep_files(std::collections::BTreeSet::new()).await;
    daemon::keep_no_secrets(&config);
    println!("removed {} containers", found.len());
    Ok(())
}
