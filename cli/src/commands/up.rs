//! `up`: a coordinator and an agent on this machine, as plain processes with all
//! their data in one directory. Run again it repairs what is missing.

use crate::app::App;
use crate::client::{Call, Client, encode, typed};
use crate::commands::logs;
use crate::contexts::{self, Context, File};
use crate::describe;
use crate::error::{Failure, code};
use crate::output::{amounts, clean};
use crate::place::{Place, agent_id, data_of, enrol, host_name, line, run_arguments};
use crate::process::Program;
use base64::Engine as _;
use longshore_common::api::{
    Agent, JoinToken, Me, NewJoinToken, NewSession, Readiness, Session, SetupAnswer, SetupRequest,
};
use reqwest::Method;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// Making keys and a database takes a second; a slow disk may need more.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// The agent looks at its GPUs and at the engine before it reports.
pub(crate) const AGENT_LIMIT: Duration = Duration::from_secs(90);
/// The image of the first session may have to be pulled.
const FIRST_RUN_LIMIT: Duration = Duration::from_secs(600);
/// Prints what the container itself sees: its session, and how many GPUs.
const HELLO: &str = r#"set -- /dev/nvidia[0-9]*; [ -e "$1" ] || shift $#; echo "hello from ${LONGSHORE_SESSION_ID:-?}: cpu 1, mem 512 MB, GPUs $#""#;

/// Flags of `up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of all data of this installation
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where longshore-coordinator and longshore-agent lie; absent: beside this program
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Image of sessions that name none
    #[arg(long, value_name = "REF")]
    default_image: Option<String>,
    /// Address of the first administrator; it can never change
    #[arg(long, value_name = "EMAIL")]
    admin_email: Option<String>,
    /// Where the coordinator listens
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Name of this machine's node
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Resource group of this machine's node
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Start no agent
    #[arg(long)]
    no_agent: bool,
    /// Run no first session
    #[arg(long)]
    no_session: bool,
    /// A further argument of `longshore-agent run`
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    agent_arg: Vec<String>,
    /// A further argument of `longshore-coordinator`
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    coordinator_arg: Vec<String>,
}

fn first_label(name: &str) -> String {
    name.split('.').next().unwrap_or(name).to_owned()
}

/// Brings everything up.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let mut place = prepare(app, &args)?;
    check_machine(&place, &args)?;
    coordinator(app, &place).await?;
    let (client, signed_in) = administrator(app, &place, &args).await?;
    if !place.record.no_agent {
        agent(&client, &place).await?;
    }
    println!("{signed_in}");
    if let Some(image) = &place.record.default_image {
        line("images", &format!("default {image}"), "");
    }
    let wants_run = !args.no_session && !place.record.no_agent && !place.record.first_run;
    if wants_run {
        first_run(&client).await?;
        place.record.first_run = true;
        place.store()?;
    }
    next_lines();
    Ok(0)
}

fn next_lines() {
    let next = [
        ("longshore run --gpu 1 -- nvidia-smi -L", "run something"),
        ("longshore ps | queue | gpus | nodes", "look around"),
        (
            "longshore token create",
            "add a machine: prints the join command",
        ),
    ];
    println!();
    for (index, (command, what)) in next.iter().enumerate() {
        let head = if index == 0 { "Next" } else { "" };
        println!("{head:<6} {command:<49} {what}");
    }
}

/// Reads what was told before, lays what is told now over it, makes the directories.
fn prepare(app: &App, args: &Args) -> Result<Place, Failure> {
    let Some(data) = data_of(app, args.data.as_deref())? else {
        return Err(Failure::usage("where the data are to lie is not known")
            .why("the packages, with services and /var/lib/longshore, are not there yet")
            .hint("longshore up --data DIR, or ./x up in a checkout"));
    };
    let make = |path: &Path| {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
    };
    make(&data)?;
    let data = data.canonicalize()?;
    let earlier = Place::open(&data)?;
    if let Some(joined) = earlier
        .as_ref()
        .and_then(|place| place.record.joined.as_ref())
    {
        let text = format!("{} is that of a node of {joined}", data.display());
        return Err(Failure::usage(text)
            .hint("longshore up --data DIR with another one, or longshore leave first"));
    }
    let mut record = earlier.map(|place| place.record).unwrap_or_default();
    let bin_dir = match &args.bin_dir {
        Some(path) => path.clone(),
        None if record.bin_dir.as_os_str().is_empty() => std::env::current_exe()?
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default(),
        None => record.bin_dir.clone(),
    };
    record.bin_dir = bin_dir
        .canonicalize()
        .map_err(|error| Failure::usage(format!("--bin-dir {}: {error}", bin_dir.display())))?;
    match args.listen {
        Some(listen) => record.listen = listen.to_string(),
        None if record.listen.is_empty() => "0.0.0.0:7420".clone_into(&mut record.listen),
        None => (),
    }
    record.default_image = args.default_image.clone().or(record.default_image);
    record.name = args.name.clone().or(record.name);
    record.group = args.group.clone().or(record.group);
    if !args.agent_arg.is_empty() {
        record.agent_args.clone_from(&args.agent_arg);
    }
    if !args.coordinator_arg.is_empty() {
        record.coordinator_args.clone_from(&args.coordinator_arg);
    }
    let was_enrolled = data.join("agent/identity.json").exists();
    record.no_agent = args.no_agent || (record.no_agent && was_enrolled);
    let place = Place { data, record };
    for part in ["coordinator", "agent", "log", "run", "run/agent"] {
        make(&place.data.join(part))?;
    }
    place.store()?;
    Ok(place)
}

/// What would fail later is said now.
fn check_machine(place: &Place, args: &Args) -> Result<(), Failure> {
    let mut programs = vec![place.coordinator()];
    if !place.record.no_agent {
        programs.push(place.agent());
    }
    for program in programs {
        if !program.path.is_file() {
            return Err(Failure::failed(format!("{} is not there", program.path.display()))
                .hint("cargo build --release -p longshore-coordinator -p longshore-agent, or --bin-dir DIR"));
        }
    }
    // With arguments of its own the agent may use another engine, or a simulated one.
    if !args.no_agent && place.record.agent_args.is_empty() {
        let socket = contexts::process_env("DOCKER_HOST")
            .and_then(|host| host.strip_prefix("unix://").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from("/var/run/docker.sock"));
        if let Err(error) = UnixStream::connect(&socket) {
            return Err(
                Failure::failed(format!("Docker does not answer at {}", socket.display()))
                    .why(error.to_string())
                    .hint("start it (systemctl start docker), then longshore up again"),
            );
        }
        if !rustix::process::geteuid().is_root() {
            eprintln!(
                "note: the agent runs as {}; some limits need root",
                user_name()
            );
        }
    }
    Ok(())
}

/// The key that protects stored secrets, beside the coordinator's data and not in them. It is
/// made once: without it they are lost.
fn master_key(place: &Place) -> Result<PathBuf, Failure> {
    let path = place.data.join("master.key");
    let mut key = [0; 32];
    let drawn = SystemRandom::new().fill(&mut key);
    drawn.map_err(|_| Failure::failed("the system gives no random bytes"))?;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&path);
    let written = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(mut file) => {
            let text = base64::engine::general_purpose::STANDARD.encode(key);
            writeln!(file, "{text}").and_then(|()| file.sync_all())
        }
    };
    written.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    Ok(path)
}

/// What the coordinator is started with. Where it writes is named in [`Place::PARTS`].
fn coordinator_arguments(place: &Place, listen: &str, master_key: &Path) -> Vec<OsString> {
    let backups = place.data.join("backups");
    let mut arguments: Vec<OsString> = vec![
        "--data-dir".into(),
        place.data.join("coordinator").into(),
        "--listen".into(),
        listen.into(),
        "--set".into(),
        format!("secure.master_key_file={}", master_key.display()).into(),
        "--set".into(),
        format!("services.backup.dir={}", backups.display()).into(),
    ];
    if let Some(image) = &place.record.default_image {
        arguments.extend(["--default-image".into(), image.into()]);
    }
    arguments.extend(place.record.coordinator_args.iter().map(OsString::from));
    arguments
}

/// Starts the coordinator unless it runs, and waits until it is ready.
async fn coordinator(app: &App, place: &Place) -> Result<(), Failure> {
    let program = place.coordinator();
    let mut child = None;
    if program.pid().is_none() {
        let listen = place.listen()?;
        if TcpStream::connect_timeout(&place.local_address()?, Duration::from_millis(300)).is_ok() {
            return Err(
                Failure::failed(format!("something else listens on {listen}"))
                    .hint("longshore up --listen ADDRESS:PORT"),
            );
        }
        let arguments = coordinator_arguments(place, &listen.to_string(), &master_key(place)?);
        child = Some(program.start(&arguments)?);
    }
    let started = Instant::now();
    let mut last = String::new();
    loop {
        if let Some(client) = place.bare_client(app)? {
            match client.call(Call::new(Method::GET, "/readyz")).await {
                Ok(value) => match typed::<Readiness>(value) {
                    Ok(readiness) if !readiness.ready => {
                        let bad = readiness.checks.iter().filter(|check| !check.ok);
                        last = bad
                            .map(|check| format!("{}: {}", check.name, check.detail))
                            .collect::<Vec<_>>()
                            .join("; ");
                    }
                    Ok(_) | Err(_) => break,
                },
                Err(failure) => last = failure.why.first().cloned().unwrap_or(failure.text),
            }
        }
        check_alive(child.as_mut(), &program)?;
        if started.elapsed() > READY_LIMIT {
            let text = format!(
                "the coordinator is not ready after {} s: {last}",
                READY_LIMIT.as_secs()
            );
            return Err(program.failure(text));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    line("coordinator", &public_url(place)?, "ready");
    Ok(())
}

fn check_alive(child: Option<&mut Child>, program: &Program) -> Result<(), Failure> {
    let name = program
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    match child {
        Some(child) => match child.try_wait()? {
            Some(status) => Err(program.failure(format!("{name} ended at once: {status}"))),
            None => Ok(()),
        },
        None if program.pid().is_none() => Err(program.failure(format!("{name} has ended"))),
        None => Ok(()),
    }
}

/// The address people use: this machine's name if that leads here.
fn public_url(place: &Place) -> Result<String, Failure> {
    let listen = place.listen()?;
    if listen.ip().is_unspecified() {
        let name = host_name();
        let leads_here = (name.as_str(), listen.port())
            .to_socket_addrs()
            .into_iter()
            .flatten()
            .any(|address| {
                TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
            });
        if leads_here {
            return Ok(format!("https://{name}:{}", listen.port()));
        }
    }
    Ok(format!("https://{}", place.local_address()?))
}

fn user_name() -> String {
    contexts::process_env("SUDO_USER")
        .or_else(|| contexts::process_env("USER"))
        .or_else(|| contexts::process_env("LOGNAME"))
        .unwrap_or_else(|| "admin".to_owned())
}

/// Makes the first administrator if there is none yet, and signs the calling user in.
/// The line about it is printed later, behind the agent's.
async fn administrator(app: &App, place: &Place, args: &Args) -> Result<(Client, String), Failure> {
    let path = app.contexts_path()?;
    let mut file = File::load(&path)?;
    let pin = place.pin().ok_or_else(no_authority)?.to_string();
    let same = |context: &Context| context.ca.as_ref() == Some(&pin);
    let known = file.context.iter().find(|(_, context)| same(context));
    let known = known.map(|(name, _)| name.clone());
    if read_setup_token(place).is_none() {
        let Some(name) = known else {
            let text = "there is an administrator already, but you have no keypair";
            return Err(Failure::new(code::DENIED, text)
                .why(format!(
                    "{} has no context with ca = \"{pin}\"",
                    path.display()
                ))
                .hint("ask the administrator for a keypair"));
        };
        return signed_in(app, &file, &name).await;
    }
    let own = || format!("{}@{}", user_name(), host_name());
    let email = args.admin_email.clone().unwrap_or_else(own);
    // First, because it can never be changed.
    eprintln!("the first administrator's address is {email} and stays so (--admin-email)");
    let answer = match set_up(app, place, &email).await {
        // The token is good for an hour; each start of the coordinator makes a new one.
        Err(failure) if failure.exit == code::NOT_FOUND => {
            place.coordinator().stop(Duration::from_secs(30)).await?;
            coordinator(app, place).await?;
            set_up(app, place, &email).await?
        }
        done => done?,
    };
    let name = known.unwrap_or_else(|| free_name(&file, &first_label(&host_name())));
    let context = Context {
        url: public_url(place)?,
        ca: Some(pin),
        access_key: Some(answer.access_key),
        secret_key: Some(answer.secret_key),
        token: None,
        data: Some(place.data.clone()),
    };
    file.context.insert(name.clone(), context);
    file.current = Some(name.clone());
    file.store(&path)?;
    signed_in(app, &file, &name).await
}

fn no_authority() -> Failure {
    Failure::failed("the coordinator has made no authority")
}

fn read_setup_token(place: &Place) -> Option<String> {
    let text = std::fs::read_to_string(place.data.join("coordinator/setup-token")).ok()?;
    Some(setup_token(&text)).filter(|token| !token.is_empty())
}

async fn set_up(app: &App, place: &Place, email: &str) -> Result<SetupAnswer, Failure> {
    let client = place.bare_client(app)?.ok_or_else(no_authority)?;
    let token = read_setup_token(place).unwrap_or_default();
    let request = SetupRequest {
        token,
        email: email.to_owned(),
        username: None,
        password: None,
        domain: None,
        project: None,
    };
    let body = serde_json::to_value(&request).map_err(|e| Failure::failed(e.to_string()))?;
    // Not with a key: a secret is not repeated, so a repetition could not help.
    typed(
        client
            .call(Call::new(Method::POST, "/api/v1/setup").body(body))
            .await?,
    )
}

async fn signed_in(app: &App, file: &File, name: &str) -> Result<(Client, String), Failure> {
    let client = app.client_of(&file.context[name])?;
    let me: Me = client.get_as("/me").await?;
    let who = format!(
        "{}, {} ({})",
        clean(&me.username),
        clean(&me.email),
        clean(&me.role)
    );
    Ok((
        client,
        format!(
            "{:<12} {who:<72} signed in, context \"{}\"",
            "first admin",
            clean(name)
        ),
    ))
}

/// The token itself, from the link that the file may hold.
fn setup_token(text: &str) -> String {
    let text = text.split_whitespace().next().unwrap_or_default();
    text.rsplit('#').next().unwrap_or(text).to_owned()
}

/// A name that no other installation's context has.
fn free_name(file: &File, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    let mut number = 2;
    while file.context.contains_key(&name) {
        name = format!("{wanted}-{number}");
        number += 1;
    }
    name
}

/// Enrols this machine's agent if it is not, starts it if it does not run, waits until
/// it offers something.
async fn agent(client: &Client, place: &Place) -> Result<(), Failure> {
    if !place.is_enrolled() {
        let request = NewJoinToken {
            group: place.record.group.clone(),
            agent_name: place.record.name.clone(),
            ttl_s: Some(600),
            max_uses: Some(1),
        };
        let token: JoinToken = typed(client.post("/join-tokens", &request).await?)?;
        let token = token
            .token
            .ok_or_else(|| Failure::failed("the coordinator gave no token"))?;
        enrol(place, &place.local_address()?.to_string(), &token)?;
    }
    let program = place.agent();
    let mut child = if program.pid().is_none() {
        Some(program.start(&run_arguments(place))?)
    } else {
        None
    };
    place.start_guard()?;
    let id = agent_id(&place.data.join("agent/identity.json"));
    let started = Instant::now();
    let found = loop {
        let agent = find_agent(client, id.as_deref(), place.record.name.as_deref()).await?;
        if let Some(agent) = agent
            .filter(|agent| agent.state == "ALIVE" && agent.connected && !agent.capacity.is_empty())
        {
            break agent;
        }
        check_alive(child.as_mut(), &program)?;
        if started.elapsed() > AGENT_LIMIT {
            return Err(program.failure(format!(
                "the agent does not report after {} s",
                AGENT_LIMIT.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    line(
        "agent",
        &format!("{}: {}", found.name, amounts(&found.capacity)),
        "enrolled, alive",
    );
    Ok(())
}

async fn find_agent(
    client: &Client,
    id: Option<&str>,
    name: Option<&str>,
) -> Result<Option<Agent>, Failure> {
    if let Some(wanted) = id.or(name) {
        return match client.get_as(&format!("/agents/{}", encode(wanted))).await {
            Ok(agent) => Ok(Some(agent)),
            Err(failure) if failure.exit == code::NOT_FOUND => Ok(None),
            Err(failure) => Err(failure),
        };
    }
    let own = first_label(&host_name());
    let mut only = Vec::new();
    for item in client.list("/agents").await? {
        let agent: Agent = typed(item)?;
        if agent.name == own || agent.name == host_name() {
            return Ok(Some(agent));
        }
        only.push(agent);
    }
    Ok(if only.len() == 1 { only.pop() } else { None })
}

/// Runs something small from end to end and shows what it said.
async fn first_run(client: &Client) -> Result<(), Failure> {
    let started = Instant::now();
    let request = NewSession {
        kind: Some("batch".to_owned()),
        command: vec!["sh".to_owned(), "-c".to_owned(), HELLO.to_owned()],
        slots: BTreeMap::from([
            ("cpu".to_owned(), "1".to_owned()),
            ("mem".to_owned(), "512M".to_owned()),
        ]),
        ..NewSession::default()
    };
    let mut session: Session = client.new_session(&request).await?;
    while !describe::is_final(&session) {
        if started.elapsed() > FIRST_RUN_LIMIT {
            return Err(
                Failure::failed(format!("{} has not ended after 10 minutes", session.id))
                    .hint(format!("longshore explain {}", session.id)),
            );
        }
        if let Some(changed) = client
            .session_change(&session.id, session.version, 10)
            .await?
        {
            session = changed;
        }
    }
    // Lists leave members out; the whole session has its place and its end.
    let session = client.session(&session.id).await.unwrap_or(session);
    let exit = describe::exit_code(&session);
    if exit != 0 {
        let (word, text) = describe::closing(&session);
        return Err(
            Failure::failed(format!("the first session {} {word}: {text}", session.id)).hint(
                format!("longshore show {0}; longshore logs {0}", session.id),
            ),
        );
    }
    let said = logs::all(client, &session).await?;
    let tenths = started.elapsed().as_millis() / 100;
    line(
        "first run",
        &format!(
            "{} on {}: \"{}\"",
            session.id,
            session.agent_names.join(", "),
            said.trim()
        ),
        &format!("exit {exit}, {}.{} s", tenths / 10, tenths % 10),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{Record, place_arguments};

    #[test]
    fn links_and_bare_tokens() {
        assert_eq!(setup_token("https://gpu01:7420/setup#abc\n"), "abc");
        assert_eq!(setup_token("/setup#abc"), "abc");
        assert_eq!(setup_token("abc\nmore\n"), "abc");
        assert_eq!(setup_token(""), "");
    }

    #[test]
    fn all_that_daemons_are_told_to_write_is_removed_again() {
        let place = Place {
            data: "/d".into(),
            record: Record::default(),
        };
        let key = place.data.join("master.key");
        let mut told = coordinator_arguments(&place, "127.0.0.1:7420", &key);
        told.extend(place_arguments(&place));
        let told = told.iter().filter_map(|argument| argument.to_str());
        let below = told.filter_map(|text| text.split_once("/d/").map(|(_, below)| below));
        let below: Vec<&str> = below.map(|path| path.split('/').next().unwrap()).collect();
        let expected = ["coordinator", "master.key", "backups", "agent", "run"];
        assert_eq!(below, expected);
        for part in below {
            assert!(Place::PARTS.contains(&part), "{part}");
        }
    }

    #[test]
    fn names_do_not_collide() {
        let mut file = File::default();
        assert_eq!(free_name(&file, "gpu01"), "gpu01");
        file.context.insert("gpu01".into(), Context::default());
        assert_eq!(free_name(&file, "gpu01"), "gpu01-2");
    }
}
