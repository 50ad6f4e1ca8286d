//! Ways into a session: a connection to a port inside, beside one through a plain TCP proxy to
//! the same program in a container of Docker's own; and a command, beside `docker exec`.

use super::Order;
use super::report::{Of, Row, Target};
use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, RemoveContainerOptions,
};
use longshore_common::api::Session;
use longshore_tests::load::daemons::{Coordinator, Process, agent, purge, wait_for_agents};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

const IMAGE: &str = "longshore/base:latest";
const MEMORY: i64 = 256 << 20;
/// Docker is waited for so long in all.
const LIMIT: Duration = Duration::from_secs(60);
/// The session runs, and its program listens, within this.
const UP: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Gives back what it gets.
const ECHO: u16 = 7000;
/// Gives as many bytes as there are to be measured.
const SOURCE: u16 = 7001;

/// An installation with one session, and a container of Docker's own that runs the same.
struct Scene {
    dir: tempfile::TempDir,
    coordinator: Coordinator,
    agent: Process,
    docker: Docker,
    cli: PathBuf,
    /// How the command line signs in.
    sign_in: Vec<(&'static str, String)>,
    session: String,
    /// Docker's id of the other container, and its address.
    plain: (String, String),
}

impl Scene {
    async fn begin(order: &Order, bytes: usize) -> Result<Self> {
        let cli = order.programs.join("longshore");
        if !cli.exists() {
            bail!("there is no {}", cli.display());
        }
        let dir = tempfile::tempdir()?;
        let docker = Docker::connect_with_unix(
            "/var/run/docker.sock",
            LIMIT.as_secs(),
            bollard::API_DEFAULT_VERSION,
        )?
        .negotiate_version()
        .await
        .context("there is no Docker")?;
        let mut coordinator = Coordinator::start(&order.programs, dir.path()).await?;
        coordinator.set_up().await?;
        let agent = agent(&order.programs, dir.path(), &coordinator, &[]).await?;
        wait_for_agents(&coordinator, 1).await?;
        let sign_in = sign_in(&coordinator).await?;
        let script = format!(
            "nc -ll -p {ECHO} -e cat & exec nc -ll -p {SOURCE} -e head -c {bytes} /dev/zero"
        );
        let session = started(&coordinator, &script).await?;
        let plain = plain(&docker, &script).await?;
        Ok(Self {
            dir,
            coordinator,
            agent,
            docker,
            cli,
            sign_in,
            session,
            plain,
        })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.cli);
        command
            .args(words)
            .env("HOME", self.dir.path())
            .envs(self.sign_in.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Takes everything away again, whatever was measured.
    async fn end<T>(mut self, order: &Order, result: Result<T>) -> Result<T> {
        let options = RemoveContainerOptions {
            force: true,
            ..RemoveContainerOptions::default()
        };
        let removed = self.docker.remove_container(&self.plain.0, Some(options));
        let removed = removed.await;
        let path = format!("/api/v1/sessions/{}/terminate", self.session);
        let stopped = self
            .coordinator
            .client
            .ask("POST", &path, b"{\"grace_s\":0}");
        let stopped = stopped.await;
        self.agent.end()?;
        purge(&order.programs, self.dir.path()).await?;
        removed?;
        stopped?;
        result
    }
}

async fn sign_in(coordinator: &Coordinator) -> Result<Vec<(&'static str, String)>> {
    let bearer = coordinator.client.bearer.as_deref().unwrap_or_default();
    let (access, secret) = bearer.split_once('.').context("there is no keypair")?;
    let token = coordinator.token(1).await?;
    let pin = token.rsplit('.').next().unwrap_or_default();
    let pin = URL_SAFE_NO_PAD.decode(pin)?;
    let pin: String = pin.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(vec![
        (
            "LONGSHORE_URL",
            format!("https://localhost:{}", coordinator.port),
        ),
        ("LONGSHORE_ACCESS_KEY", access.to_owned()),
        ("LONGSHORE_SECRET_KEY", secret.to_owned()),
        ("LONGSHORE_CA", format!("sha256:{pin}")),
    ])
}

async fn started(coordinator: &Coordinator, script: &str) -> Result<String> {
    let body = serde_json::json!({
        "image": IMAGE,
        "command": ["sh", "-c", script],
        "slots": { "cpu": "1", "mem": MEMORY.to_string() },
        "ports": [{ "name": "echo", "port": ECHO }, { "name": "source", "port": SOURCE }],
    });
    let body = body.to_string();
    let made = coordinator
        .client
        .ask("POST", "/api/v1/sessions", body.as_bytes());
    let session: Session = made.await?.json()?;
    let path = format!("/api/v1/sessions/{}", session.id);
    let until = Instant::now() + UP;
    loop {
        let now: Session = coordinator.client.ask("GET", &path, b"").await?.json()?;
        if now.state == "RUNNING" {
            return Ok(session.id);
        }
        if Instant::now() > until {
            bail!("session {} is {}", session.id, now.state);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A container of the same program, and the address it has on Docker's bridge.
async fn plain(docker: &Docker, script: &str) -> Result<(String, String)> {
    let options = CreateContainerOptions {
        name: Some(format!("longshore-bench-{}-reach", std::process::id())),
        ..CreateContainerOptions::default()
    };
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
        host_config: Some(HostConfig {
            memory: Some(MEMORY),
            nano_cpus: Some(1_000_000_000),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let id = docker.create_container(Some(options), body).await?.id;
    docker.start_container(&id, None).await?;
    let seen = docker.inspect_container(&id, None::<InspectContainerOptions>);
    let networks = seen.await?.network_settings.and_then(|n| n.networks);
    let networks = networks.unwrap_or_default();
    let address = networks.into_values().find_map(|n| n.ip_address);
    let address = address.filter(|address| !address.is_empty());
    Ok((id, address.context("Docker gave it no address")?))
}

/// Nothing but bytes both ways, in this process.
async fn proxy(to: String) -> Result<(String, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let here = listener.local_addr()?.to_string();
    let task = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let _ = near.set_nodelay(true);
                if let Ok(mut far) = TcpStream::connect(&to).await {
                    let _ = far.set_nodelay(true);
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    Ok((here, task))
}

/// A connection that gives something back: the program may not listen yet.
async fn connected(address: &str) -> Result<TcpStream> {
    let until = Instant::now() + UP;
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            stream.set_nodelay(true)?;
            let mut byte = [0];
            let answered =
                stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok();
            if answered {
                return Ok(stream);
            }
        }
        if Instant::now() > until {
            bail!("nothing answers at {address}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Microseconds until a byte is back, in the middle of so many.
async fn round_trip(address: &str, times: usize) -> Result<f64> {
    let mut stream = connected(address).await?;
    let mut all = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        stream.write_all(b"x").await?;
        stream.read_exact(&mut [0]).await?;
        all.push(began.elapsed());
    }
    all.sort_unstable();
    Ok(all[times / 2].as_secs_f64() * 1e6)
}

/// MiB in a second, from the first byte to the last.
async fn throughput(address: &str, bytes: usize) -> Result<f64> {
    let mut stream = TcpStream::connect(address).await?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut first, mut got) = (None, 0);
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        first.get_or_insert_with(Instant::now);
        got += count;
    }
    let first = first.context("nothing came")?;
    if got != bytes {
        bail!("{got} of {bytes} bytes came");
    }
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let mib = got as f64 / f64::from(1 << 20);
    Ok(mib / first.elapsed().as_secs_f64())
}

/// `forward`, and where it listens for both ports.
async fn forward(scene: &Scene) -> Result<(Child, String, String)> {
    let (echo, source) = (format!("0:{ECHO}"), format!("0:{SOURCE}"));
    let mut command = scene.command(&["forward", &scene.session, &echo, &source]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let out = child.stdout.take().context("it is a pipe")?;
    let mut lines = BufReader::new(out).lines();
    let mut next = async || -> Result<String> {
        let line = tokio::time::timeout(UP, lines.next_line()).await??;
        let line = line.context("forward ended")?;
        let (address, _) = line.split_once(" -> ").context("it names both ends")?;
        Ok(address.to_owned())
    };
    let (echo, source) = (next().await?, next().await?);
    Ok((child, echo, source))
}

pub(super) async fn tunnel(order: &Order) -> Result<Vec<Row>> {
    let bytes: usize = order.pick(256 << 20, 1 << 20);
    let scene = Scene::begin(order, bytes).await?;
    let result = connections(order, &scene, bytes).await;
    scene.end(order, result).await
}

async fn connections(order: &Order, scene: &Scene, bytes: usize) -> Result<Vec<Row>> {
    let times = order.pick(2_000, 20);
    let (mut child, echo, source) = forward(scene).await?;
    let address = &scene.plain.1;
    let (plain_echo, first) = proxy(format!("{address}:{ECHO}")).await?;
    let (plain_source, second) = proxy(format!("{address}:{SOURCE}")).await?;
    let (mut rate, mut plain_rate) = (Vec::new(), Vec::new());
    let (mut trip, mut plain_trip) = (Vec::new(), Vec::new());
    for _ in 0..order.pick(order.pairs, 1) {
        trip.push(round_trip(&echo, times).await?);
        plain_trip.push(round_trip(&plain_echo, times).await?);
        rate.push(throughput(&source, bytes).await?);
        plain_rate.push(throughput(&plain_source, bytes).await?);
    }
    first.abort();
    second.abort();
    child.start_kill()?;
    child.wait().await?;
    let added = trip.iter().zip(&plain_trip);
    let added: Vec<f64> = added.map(|(ours, plain)| ours - plain).collect();
    let proxy = "a TCP proxy to the same program";
    Ok(vec![
        Row::new("tunnel", "bytes of a port through forward", "MiB/s", rate)
            .beside(proxy, plain_rate)
            .target(Of::Ratio, Target::AtLeast(0.5)),
        Row::new("tunnel", "one byte there and back, p50", "µs", trip).beside(proxy, plain_trip),
        Row::new("tunnel", "latency it adds to that, p50", "µs", added)
            .target(Of::Ours, Target::AtMost(1000.0)),
    ])
}

pub(super) async fn exec(order: &Order) -> Result<Vec<Row>> {
    let scene = Scene::begin(order, 1).await?;
    let result = commands(order, &scene).await;
    scene.end(order, result).await
}

/// Milliseconds until a program has ended well.
async fn timed(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    let status = command.stdout(Stdio::null()).status().await?;
    let took = began.elapsed();
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(took.as_secs_f64() * 1e3)
}

async fn commands(order: &Order, scene: &Scene) -> Result<Vec<Row>> {
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    // One more for programs that nobody has read from the disk yet.
    for turn in 0..=order.pick(order.pairs * 4, 1) {
        let mut command = scene.command(&["exec", "-n", &scene.session, "--", "true"]);
        let took = timed(&mut command).await?;
        let mut docker = Command::new("docker");
        docker
            .args(["exec", &scene.plain.0, "true"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let beside = timed(&mut docker).await?;
        if turn > 0 {
            ours.push(took);
            plain.push(beside);
        }
    }
    Ok(vec![
        Row::new(
            "exec",
            "a command that does nothing, begin to end",
            "ms",
            ours,
        )
        .beside("docker exec of the same", plain)
        .note("both with the start of their program"),
    ])
}
