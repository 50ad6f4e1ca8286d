//! `longshore-coordinator`: reads its settings, opens its store, and serves.
//!
//! Ends with 0 when told to, 1 on failure, 2 on settings or usage, 3 when the database
//! cannot be used.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use longshore_common::ids::{
    ClusterId, CoordinatorGeneration, DomainId, GroupId, InstanceId, PolicyId, ProjectId,
};
use longshore_common::redact::Names;
use longshore_coordinator::api::areas::Areas;
use longshore_coordinator::api::listener::serve_all;
use longshore_coordinator::api::{self, App, Cursors};
use longshore_coordinator::audit_head;
use longshore_coordinator::cluster::{self, ClusterConfig, Prepared};
use longshore_coordinator::config::{
    Config, Daemon, Overrides, SCHEMA, TlsMode, manual, reference,
};
use longshore_coordinator::disk::Ballast;
use longshore_coordinator::engine::{self, wall_clock};
use longshore_coordinator::identity::{self, Identity};
use longshore_coordinator::live::Live;
use longshore_coordinator::local::{self, Ask};
use longshore_coordinator::mail::{Mailer, Smtp};
use longshore_coordinator::metrics::Counted;
use longshore_coordinator::pki::{self, Pki};
use longshore_coordinator::rates::Rates;
use longshore_coordinator::secrets::rotate;
use longshore_coordinator::settings::{Digests, Held, InForce, Settings, Source};
use longshore_coordinator::sockets;
use longshore_coordinator::store::{self, Store, StoreError, verify_audit_file};
use longshore_coordinator::systemd;
use longshore_coordinator::tls::{self, Certificates, Pair};
use longshore_coordinator::vaults::{self, Vaults};
use longshore_core::model::{Beginning, Event, Group, Meta, NotifyOrder, State};
use longshore_identity::audit::{Actor, ActorKind, Head};
use longshore_link::boot_ms;
use longshore_logging::Log;
use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

/// After a signal everything has ended within this time.
const STOPPING: Duration = Duration::from_secs(5);
/// Number inside containers of the first user.
const FIRST_UID: u32 = 20_000;
/// Worker threads at most: the work is waiting, and each thread costs memory.
const MOST_WORKERS: usize = 4;

/// The Longshore coordinator
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// File of configuration (TOML, YAML, JSON or HOCON) in place of /etc/longshore;
    /// LONGSHORE__SECTION__KEY in the environment and flags win over it
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Set a key of the configuration; may be given again
    #[arg(long, value_name = "KEY=VALUE", global = true, value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Where the database and keys lie
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Address of the API (TCP), and of agents (UDP) unless told otherwise; may be given again
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    listen: Vec<SocketAddr>,
    /// Address agents connect to (UDP)
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    agents_listen: Option<SocketAddr>,
    /// Image of sessions that name none
    #[arg(long, value_name = "IMAGE", global = true)]
    default_image: Option<String>,
    /// Name of this machine, as people reach it; absent: its host name
    #[arg(long, value_name = "NAME", global = true)]
    name: Option<String>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve (the default)
    Run,
    /// Print a new link that makes the first administrator; the one before is void
    SetupToken,
    /// The first administrator, and the way back in
    Admin {
        #[command(subcommand)]
        verb: AdminVerb,
    },
    /// Look at the audit log
    Audit {
        #[command(subcommand)]
        verb: AuditVerb,
    },
    /// The key that protects stored secrets
    Secrets {
        #[command(subcommand)]
        verb: SecretsVerb,
    },
    /// Write a copy of the database, also while the coordinator serves
    Backup {
        /// A file that is not there yet; nobody else can read it
        file: PathBuf,
    },
    /// Put a copy in the place of the database, while no coordinator runs. What was there stays
    /// beside it; sessions get numbers that were never given, and agents obey it
    Restore {
        /// The copy
        file: PathBuf,
    },
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
}

#[derive(Debug, Subcommand)]
enum AdminVerb {
    /// Make the first administrator of the coordinator that runs here
    Create {
        /// Address; it never changes
        #[arg(long)]
        email: String,
        /// Login name; absent: the part of the address before the @
        #[arg(long)]
        username: Option<String>,
        /// File with the password; absent: none yet
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Domain; absent: default
        #[arg(long)]
        domain: Option<String>,
        /// Project; absent: default
        #[arg(long)]
        project: Option<String>,
    },
    /// Make somebody an active superadmin without two-factor codes, and print a link to choose
    /// a password
    Recover {
        /// Address or login name
        #[arg(long)]
        email: String,
    },
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Say whether it is whole; reads the database and changes nothing. Ends with 0 or 1
    Verify {
        /// An end of it that was noted elsewhere, as the log of the coordinator has it: without
        /// one, records that were cut off at the end are not missed
        #[arg(long, value_name = "SEQ:HASH", value_parser = witness)]
        witness: Vec<Head>,
    },
}

#[derive(Debug, Subcommand)]
enum SecretsVerb {
    /// How many stored secrets each key protects
    Status,
    /// Bring all stored secrets under a new key, while the coordinator serves; both keys are
    /// needed until it is done. What was interrupted goes on when it is given again
    Rotate {
        /// File with the new key: 32 random bytes in base64
        #[arg(long, value_name = "FILE")]
        new_key: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Say whether it is valid, without starting
    Check,
    /// Print what holds; secrets are masked
    Show {
        /// A key or a section; absent: all
        key: Option<String>,
        /// Where each value came from, and what it stands before
        #[arg(long)]
        origin: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print every key with its default and what it does, as a file to begin with
    Reference {
        /// As a page of the manual.
        #[arg(long)]
        man: bool,
    },
}

/// `KEY=VALUE`
fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("must be of the form KEY=VALUE, such as daemon.name=gpu")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// How the process ends when it does not end well.
#[derive(Debug)]
enum End {
    Failed(anyhow::Error),
    Settings(String),
    Database(StoreError),
}

impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        match error {
            // Somebody else has it; nothing is wrong with the database.
            StoreError::Locked { .. } => Self::Failed(anyhow::Error::new(error)),
            StoreError::NoKey(_) => Self::Settings(error.to_string()),
            other => Self::Database(other),
        }
    }
}

impl From<longshore_logging::Error> for End {
    fn from(error: longshore_logging::Error) -> Self {
        match error {
            longshore_logging::Error::Wrong(text) => Self::Settings(text),
            // A disk that is full or not there yet: another start may find it well.
            failed @ longshore_logging::Error::Failed(_) => Self::Failed(failed.into()),
        }
    }
}

fn main() -> ExitCode {
    // Before anything that could speak TLS. It fails only when one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let code = match start() {
        Ok(()) => 0,
        Err(End::Failed(error)) => {
            eprintln!("longshore-coordinator: {error:#}");
            1
        }
        Err(End::Settings(text)) => {
            eprintln!("longshore-coordinator: {text}");
            2
        }
        Err(End::Database(error)) => {
            eprintln!("longshore-coordinator: {error}");
            3
        }
    };
    ExitCode::from(code)
}

fn start() -> Result<(), End> {
    let arguments = Arguments::parse();
    let overrides = Overrides {
        data_dir: arguments
            .data_dir
            .map(|dir| std::path::absolute(&dir).unwrap_or(dir)),
        listen: arguments.listen,
        agents_listen: arguments.agents_listen,
        default_image: arguments.default_image,
        name: arguments.name,
        set: arguments.set,
    };
    // A variable that is not Unicode cannot be one of ours.
    let environment = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let source = Source {
        file: arguments.config,
        environment: environment.collect(),
        overrides,
    };
    // What goes together is judged where what is stored is known.
    let begun = source.begin();
    let (config, loaded) = begun.map_err(|error| End::Settings(error.to_string()))?;
    match arguments.verb {
        None | Some(Verb::Run) => (),
        Some(Verb::Audit {
            verb: AuditVerb::Verify { witness },
        }) => return verify_audit(&config.daemon.database_file(), witness),
        Some(Verb::SetupToken) => return print_setup_link(&config.daemon.socket()),
        Some(Verb::Admin { verb }) => return administer(&config.daemon.socket(), verb),
        Some(Verb::Backup { file }) => return back_up(&config.daemon, &file),
        Some(Verb::Restore { file }) => return restore(&config.daemon, &file),
        Some(Verb::Secrets { verb }) => return secrets(&config.daemon.socket(), verb),
        Some(Verb::Config {
            verb: ConfigVerb::Check,
        }) => {
            let checked = local::checked(&source, (&config, &loaded), &host_name());
            let loaded = checked.map_err(|error| End::Settings(error.to_string()))?;
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            println!("the configuration is valid");
            return Ok(());
        }
        Some(Verb::Config {
            verb: ConfigVerb::Show { key, origin, json },
        }) => {
            let stored = local::with_stored(&source, &config.daemon.socket());
            let loaded = stored.unwrap_or(loaded);
            let text = longshore_config::show::print(
                &SCHEMA,
                &loaded,
                key.as_deref(),
                (origin, json),
                &BTreeMap::new(),
            )
            .map_err(End::Settings)?;
            print!("{text}");
            return Ok(());
        }
        Some(Verb::Config {
            verb: ConfigVerb::Reference { man },
        }) => {
            print!("{}", if man { manual() } else { reference() });
            return Ok(());
        }
    }
    let names = Names::default();
    let log = log(&config, &names)?;
    // A request or connection may panic alone.
    longshore_logging::end_on_panic("longshore-coordinator", api::is_guarded);
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(1, MOST_WORKERS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let ended = runtime.block_on(run(config, source, (log, names)));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// Prints what the coordinator of this machine answers.
fn ask_locally(socket: &Path, question: &Ask) -> Result<(), End> {
    let lines = local::ask(socket, question).map_err(anyhow::Error::new)?;
    for line in lines {
        println!("{line}");
    }
    Ok(())
}

fn print_setup_link(socket: &Path) -> Result<(), End> {
    ask_locally(socket, &Ask::SetupToken)
}

fn secrets(socket: &Path, verb: SecretsVerb) -> Result<(), End> {
    let question = match verb {
        SecretsVerb::Status => Ask::SecretsStatus,
        SecretsVerb::Rotate { new_key } => {
            let key = std::fs::read_to_string(&new_key);
            let key = key.with_context(|| new_key.display().to_string())?;
            Ask::SecretsRotate { key }
        }
    };
    ask_locally(socket, &question)
}

fn administer(socket: &Path, verb: AdminVerb) -> Result<(), End> {
    let question = match verb {
        AdminVerb::Create {
            email,
            username,
            password_file,
            domain,
            project,
        } => {
            let password = match password_file {
                None => None,
                Some(path) => {
                    let text = std::fs::read_to_string(&path);
                    let text = text.with_context(|| path.display().to_string())?;
                    Some(text.trim_end_matches(['\r', '\n']).to_owned())
                }
            };
            Ask::AdminCreate {
                email,
                username,
                password,
                domain,
                project,
            }
        }
        AdminVerb::Recover { email } => Ask::AdminRecover { email },
    };
    ask_locally(socket, &question)
}

/// `SEQ:HASH`, as the log has it.
fn witness(text: &str) -> Result<Head, String> {
    let wrong = || "expected SEQ:HASH, such as 12:89835c…, as the coordinator logs it".to_owned();
    let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
    Ok(Head {
        seq: seq.parse().map_err(|_| wrong())?,
        hash: hash.parse().map_err(|_| wrong())?,
    })
}

fn back_up(daemon: &Daemon, file: &Path) -> Result<(), End> {
    let bytes = store::backup(&daemon.database_file(), file)?;
    println!("{} bytes were written to {}", bytes, file.display());
    println!(
        "master key, authority and the other files of {} are not in it",
        daemon.data_dir.display()
    );
    Ok(())
}

fn restore(daemon: &Daemon, file: &Path) -> Result<(), End> {
    make_private(&daemon.data_dir)?;
    let restored = store::restore(&daemon.database_file(), file, wall_clock())?;
    println!(
        "the database of cluster {} is back, in generation {}; the next session is s-{}",
        restored.cluster, restored.generation, restored.next_session
    );
    if let Some(before) = restored.before {
        println!("what was there is in {}", before.display());
    }
    Ok(())
}

fn verify_audit(database: &Path, witnesses: Vec<Head>) -> Result<(), End> {
    let report = verify_audit_file(database, witnesses)?;
    let Head { seq, hash } = report.head;
    let Some(bad) = report.first_bad_seq else {
        println!(
            "the audit log is whole: {} records, its end is {seq}:{hash}",
            report.records
        );
        return Ok(());
    };
    Err(End::Failed(anyhow::anyhow!(
        "the audit log is NOT whole: record {bad} was changed or is missing; it is good up to {seq}:{hash}"
    )))
}

/// Begins to log as the configuration says. The variable LONGSHORE_LOG stands over how much.
fn log(config: &Config, names: &Names) -> Result<Arc<Log>, End> {
    let fixed = std::env::var("LONGSHORE_LOG").ok();
    if let Some(Err(error)) = fixed.as_deref().map(longshore_logging::filter) {
        return Err(End::Settings(format!("LONGSHORE_LOG: {error}")));
    }
    let log = Log::begin("longshore-coordinator", names.clone(), fixed.as_deref());
    let prepared = log.prepare(&config.logging.order());
    let taken = prepared.and_then(|prepared| log.take(prepared));
    taken?;
    Ok(Arc::new(log))
}

/// The configuration with what is stored of it. Stored settings that do not go with the rest any
/// more are left out, and said.
fn with_stored(source: &Source, state: &State) -> Result<InForce, End> {
    let read = source.read_as_far(&state.settings);
    let (read, left_out) = read.map_err(|wrong| {
        let lines: Vec<String> = wrong.into_iter().map(|one| one.text).collect();
        End::Settings(lines.join("\n"))
    })?;
    for one in left_out {
        error!("a stored setting is left out: {}", one.text);
    }
    for warning in &read.warnings {
        warn!("{warning}");
    }
    Ok(read)
}

async fn run(config: Config, source: Source, (log, names): (Arc<Log>, Names)) -> Result<(), End> {
    let data_dir = &config.daemon.data_dir;
    make_private(data_dir)?;
    let sources = config.secure.key_sources(data_dir);
    let sources = sources.map_err(|error| End::Settings(error.to_string()))?;
    let keyring = sources.ring().map_err(End::Settings)?;
    let database = config.daemon.database_file();
    let ballast = Ballast::beside(&database);
    // A database that finds no room cannot even be opened.
    if let Err(error) = ballast.look() {
        warn!(%error, "the disk could not be looked at");
    }
    let (store, mut state) =
        Store::open_waiting(&database, &keyring, config.daemon.database.busy(), new_meta)?;
    let secrets = store.secrets();
    let begun = with_stored(&source, &state)?;
    let config = begun.config.clone();
    let data_dir = &config.daemon.data_dir;
    let work = begun.work.clone();
    names.set(config.secure.redaction.names.clone());
    // What is stored of it is known now.
    if let Err(error) = log.set_filters(&config.logging.filters()) {
        warn!(%error, "logging.level is not taken");
    }
    let level = {
        let log = Arc::clone(&log);
        Box::new(move |filters: &str| log.set_filters(filters).map_err(|error| error.to_string()))
    };
    let secret = identity::cursor_secret(data_dir).context("the file cursor.key cannot be used")?;
    let digests = Digests::new(&secret);
    let loaded = begun.digests(&digests);
    let settings = Settings::new(source, begun, level)
        .logging_to(log)
        .telling_by(digests);
    let mut changes = engine::begin(&mut state, beginning(&config), wall_clock())?;
    changes.extend(engine::begin_loaded(&mut state, loaded, wall_clock())?);
    store.commit(changes).await?;
    let fixed = &config.daemon.auth.fixed_users;
    for text in fixed.warnings() {
        warn!("{text}");
    }
    match engine::begin_fixed(&mut state, fixed.order(), wall_clock())? {
        Ok(changes) if changes.is_empty() => (),
        Ok(changes) => store.commit(changes).await?,
        Err(refusal) => return Err(End::Settings(refusal.detail)),
    }
    let fixed = fixed.passwords(&state);
    let name = config.name_on(&host_name()).to_owned();
    let fits = config.check_machine(&name);
    fits.map_err(|error| End::Settings(error.to_string()))?;
    let address = config.public_url(&name);
    let pki = Pki::open(
        data_dir,
        state.meta.cluster,
        &config.certificate_names(&name, &host_name()),
    )
    .context("the authority cannot be opened")?;
    let pki = Arc::new(pki);
    let identity = Arc::new(Identity::with_limits(
        &state,
        data_dir,
        config.daemon.auth.limits(),
    ));
    if identity.is_set_up() {
        identity.remove_setup_file();
    } else {
        let path = identity
            .offer_setup(&address)
            .context("the set-up token could not be written")?;
        info!(path = %path.display(), "there is no administrator yet; the file holds the link that makes one");
    }
    let cluster_id = state.meta.cluster;
    let reader = store.reader();
    let listeners = sockets::of_parts(&config.daemon.listen).await;
    let listeners = listeners.map_err(anyhow::Error::new)?;
    let metrics = sockets::for_metrics(&config.daemon.listen).await;
    let metrics = metrics.map_err(anyhow::Error::new)?;
    let apps = sockets::for_apps(&config.daemon.apps).await;
    let apps_port = apps.first().and_then(|one| one.local_addr().ok());
    let apps_port = apps_port.map(|address| address.port());
    let browsers = api::Browsers::at(&config.daemon.apps.domain, apps_port, &address);
    let areas = Areas::new(
        &config.daemon.hosts,
        &config.daemon.listen,
        config.daemon.tls.hsts_s,
    );
    let certificates = certificates(&config, &pki)?;
    let own = certificates
        .clone()
        .filter(|_| config.daemon.tls.mode == TlsMode::Auto);
    let tls = certificates.as_ref().map(|certificates| {
        let oldest = config.daemon.tls.min_version;
        Arc::new(tls::config(Arc::clone(certificates), oldest))
    });
    let (effects, due) = mpsc::unbounded_channel();
    let people: Arc<dyn engine::Follow> = Arc::<Identity>::clone(&identity);
    let live = Arc::new(Live::hiding(names));
    let wake = Arc::new(api::notify::Wake::default());
    let (engine, engine_task) = {
        let wake: Arc<dyn engine::Follow> = Arc::<api::notify::Wake>::clone(&wake);
        let counted: Arc<dyn engine::Follow> = Arc::<Counted>::clone(&live.counted);
        engine::start(state, store, live, effects, vec![people, wake, counted])
    };
    let kept = reader.replays().await?;
    let opened = Vaults::new(keyring, reader.clone(), work, &secret);
    let link = ClusterConfig {
        listen: config.agents_listen(),
        addresses: config.daemon.agents.addresses.clone(),
        gso: config.daemon.agents.gso,
        vaults: opened.clone(),
        reader: reader.clone(),
        terms: cluster::picked(settings.watch(), cluster::terms),
        certificate_days: cluster::picked(settings.watch(), cluster::certificate_days),
    };
    let instance = InstanceId::new(identity::new_id());
    let (cluster, endpoint) = Prepared::new(link, Arc::clone(&pki), engine.clone(), instance, due)
        .and_then(Prepared::start)
        .context("agents cannot be served")?;
    let (stop, stopping) = watch::channel(false);
    let mailer = match config.services.notify.mail.enabled {
        false => Mailer::default(),
        true => {
            let smtp = Smtp::new(&config.services.notify.mail);
            let smtp = smtp.map_err(|error| End::Settings(error.to_string()))?;
            Mailer::start(Arc::new(smtp), stopping.clone())
        }
    };
    let limits = &config.daemon.rate_limit;
    let rates = Arc::new(Rates::load(
        (limits.keypair, limits.anonymous),
        config.daemon.proxies(),
        data_dir,
        boot_ms(),
        wall_clock().0,
    ));
    let app = App::new(api::Parts {
        execs: api::Execs::default(),
        tunnels: api::Tunnels::default(),
        browsers,
        engine: engine.clone(),
        reader,
        secrets: secrets.clone(),
        nodes: Arc::new(cluster.clone()),
        identity,
        defaults: Held::new(
            config
                .defaults()
                .map_err(|error| End::Settings(error.to_string()))?,
        ),
        rights: Held::new(api::RightsSettings {
            admin_exec: config.services.sessions.admin_exec,
        }),
        settings,
        actions: Held::new(config.services.organization.ui_actions.clone()),
        outbound: Held::new(config.daemon.egress.outbound()),
        http: Arc::new(Held::new(config.daemon.http.bounds())),
        certificates,
        cors: Held::new(
            config
                .daemon
                .cors
                .cors(areas.is_console_apart().then(|| address.clone())),
        ),
        areas,
        cluster: cluster_id,
        ca_pem: pki.ca_pem(),
        pin: pki.pin().context("the authority has no pin")?,
        host: name.clone(),
        address: Held::new(address.clone()),
        agents_address: format!("{name}:{}", config.agents_listen().port()),
        // A file has a directory: its path is a whole one.
        data_dir: database.parent().unwrap_or(data_dir).to_owned(),
        cursors: Cursors::new(&secret),
        audit: api::audit::Auditing::default(),
        vaults: opened,
        rates: Arc::clone(&rates),
        replays: api::Replays::new(&secret, kept, wall_clock(), boot_ms()),
        logins: api::logins::Logins::new(&config)
            .map_err(|error| End::Settings(format!("secure.password.argon2.{error}")))?
            .with_fixed(fixed),
        links: api::links::Links::new(mailer, config.daemon.auth.invitations.expires_s),
        notify: api::notify::Notifying::new(&secret, wake),
        stopping: stopping.clone(),
    });
    let order = NotifyOrder::Settings(config.services.notify.settings());
    let told = engine.ask(Event::Notify(Box::new(order))).await;
    told.map_err(|error| End::Failed(anyhow::Error::new(error)))?
        .map_err(|refusal| End::Failed(anyhow::anyhow!(refusal.detail)))?;
    let uses = longshore_coordinator::uses::keep(
        Arc::clone(&app.identity),
        app.engine.clone(),
        stopping.clone(),
    );
    let uses = tokio::spawn(uses);
    drop(tokio::spawn(rotate::resume(secrets)));
    let of_cycles = app.clone();
    let settings_of_cycles = move || {
        let now = of_cycles.settings.now();
        now.config.services.sessions.watchdog.settings()
    };
    let cycles = tokio::spawn(longshore_coordinator::watchdog::keep(
        engine.clone(),
        settings_of_cycles,
        stopping.clone(),
    ));
    let idling = longshore_coordinator::idle_watch::keep(engine.clone(), stopping.clone());
    let idling = tokio::spawn(idling);
    let opening = vaults::keep(app.vaults.clone(), app.engine.clone(), stopping.clone());
    let opening = tokio::spawn(opening);
    let refusals = tokio::spawn(api::audit::keep_refusals(app.clone(), stopping.clone()));
    let sending = tokio::spawn(api::notify::keep_sending(app.clone(), stopping.clone()));
    let retention = tokio::spawn(api::audit::keep_retention(app.clone(), stopping.clone()));
    let forgetting = tokio::spawn(api::retention::keep(app.clone(), stopping.clone()));
    let copying = longshore_coordinator::backups::keep(app.clone(), database, stopping.clone());
    let copying = tokio::spawn(copying);
    let room = longshore_coordinator::disk::keep(app.clone(), ballast, stopping.clone());
    let room = tokio::spawn(room);
    let renewing = pki::keep(Arc::clone(&pki), own, stopping.clone());
    drop(tokio::spawn(renewing));
    match api::local::bind(&config.daemon.socket()) {
        Ok(socket) => drop(tokio::spawn(api::local::serve(
            app.clone(),
            socket,
            stopping.clone(),
        ))),
        Err(error) => {
            warn!(%error, "the socket for local commands cannot be made; setup-token and admin do not work");
        }
    }
    drop(tokio::spawn(read_again(app.clone())));
    let logins = tokio::spawn(api::logins::keep_logins(app.clone(), stopping.clone()));
    let mut servers = tokio::task::JoinSet::new();
    let bounds = Arc::clone(&app.http);
    let apps = apps.into_iter().map(|listener| (listener, None));
    let router = api::apps_router(app.clone());
    serve_all(
        &mut servers,
        apps,
        tls.as_ref(),
        (&router, &bounds),
        &stopping,
    );
    let router = api::metrics_router(app.clone());
    for (listeners, tls) in metrics.into_iter().zip([None, tls.as_ref()]) {
        let listeners = listeners.into_iter().map(|listener| (listener, None));
        serve_all(&mut servers, listeners, tls, (&router, &bounds), &stopping);
    }
    let parts = listeners.into_iter();
    let parts = parts.map(|(listener, area)| (listener, Some(area)));
    let every = cluster::picked(app.settings.watch(), audit_head::every);
    let router = api::router(app);
    serve_all(
        &mut servers,
        parts,
        tls.as_ref(),
        (&router, &bounds),
        &stopping,
    );
    let watchdog = systemd::watchdog(engine.clone());
    let audit_head = tokio::spawn(audit_head::say(engine.clone(), every));
    systemd::tell(&[NotifyState::Ready]);
    info!(%address, version = env!("CARGO_PKG_VERSION"), cluster = %cluster_id, "ready");
    let ended = tokio::select! {
        () = told_to_stop() => Ok(()),
        _ = engine_task => Err(End::Failed(anyhow::anyhow!("the engine ended"))),
        () = cluster.ended() => Err(End::Failed(anyhow::anyhow!("agents are served no more"))),
    };
    systemd::tell(&[NotifyState::Stopping]);
    watchdog.abort();
    audit_head.abort();
    let _ = stop.send(true); // false only if nobody listens any more
    let closing = async {
        while servers.join_next().await.is_some() {} // a panic there has been logged
        let _ = opening.await; // as there
        let _ = refusals.await; // as there
        let _ = uses.await; // as there
        let _ = cycles.await; // as there
        let _ = idling.await; // as there
        let _ = retention.await; // as there
        let _ = forgetting.await; // as there
        let _ = copying.await; // as there
        let _ = room.await; // as there
        let _ = sending.await; // as there
        let _ = logins.await; // as there
        // Agents hear why; whoever is not one yet hears that it is over.
        cluster.say_goodbye();
        endpoint.close(quinn::VarInt::from_u32(0), b"the coordinator is stopping");
        endpoint.wait_idle().await;
    };
    if tokio::time::timeout(STOPPING, closing).await.is_err() {
        warn!("not everything ended in time; the rest is cut");
    }
    if let Err(error) = rates.save(boot_ms(), wall_clock().0) {
        warn!(%error, "how many requests were made could not be kept; they are counted anew");
    }
    info!("stopped");
    ended
}

/// What people and programs are shown; none = something in front of this process ends TLS.
fn certificates(config: &Config, pki: &Pki) -> Result<Option<Arc<Certificates>>, End> {
    let https = &config.daemon.tls;
    let pair = match https.mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Auto => pki.https_pair(),
        TlsMode::Files => {
            let pair = Pair::read(https).map_err(|error| End::Settings(error.to_string()))?;
            // A start must not hang on a date: who comes sees it, and the next reload mends it.
            if let Err(error) = pair.is_good_at(wall_clock().0 / 1000) {
                warn!("{error}");
            }
            for name in pair.lacks(&config.daemon.shown_names()) {
                warn!("daemon.tls.certificate: is not made for {name}");
            }
            pair
        }
    };
    Ok(Some(Arc::new(Certificates::new(pair))))
}

/// What is stored at each start: the generation goes up, what every installation has is
/// made where it is missing, and the settings of scheduler and idleness are in force from
/// now on. A group that is there keeps what administrators made of it.
fn beginning(config: &Config) -> Beginning {
    let group = Group {
        default: true,
        declare_lost_s: config.daemon.agents.declare_lost_s,
        ..Group::new(GroupId::new(identity::new_id()), "default")
    };
    Beginning {
        group,
        domain: DomainId::new(identity::new_id()),
        project: ProjectId::new(identity::new_id()),
        keypair_policy: PolicyId::new(identity::new_id()),
        user_policy: PolicyId::new(identity::new_id()),
        project_policy: PolicyId::new(identity::new_id()),
        scheduler: config.scheduling(),
        service_account_admins: config.services.organization.allow_service_account_admins,
        throttle: config.daemon.auth.throttle.limits(),
    }
}

fn new_meta() -> Meta {
    Meta {
        cluster: ClusterId::new(identity::new_id()),
        generation: CoordinatorGeneration(0),
        next_session: 1,
        next_uid: FIRST_UID,
    }
}

/// The data directory, for nobody else's eyes.
fn make_private(dir: &Path) -> Result<(), End> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("the data directory {} cannot be used", dir.display()))
        .map_err(End::Failed)
}

fn host_name() -> String {
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

async fn told_to_stop() {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        error!("signals cannot be heard; the coordinator only stops when it is killed");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => info!("told to stop (SIGTERM)"),
        _ = int.recv() => info!("told to stop (SIGINT)"),
    }
}

/// Reads the configuration again at each SIGHUP. What is wrong with it is logged, and what was in
/// force stays so.
async fn read_again(app: App) {
    let Ok(mut hup) = signal(SignalKind::hangup()) else {
        return error!("SIGHUP cannot be heard; it ends the coordinator");
    };
    let origin = Arc::new(engine::Origin {
        actor: Actor::new(ActorKind::Local).called("", "SIGHUP"),
        ..engine::Origin::system()
    });
    while hup.recv().await.is_some() {
        if let Err(failure) = api::read_settings_again(&app, &origin, false).await {
            error!(code = failure.code, "the configuration stays as it was");
        }
    }
}
