//! What a thousand connected agents cost the coordinator: processor time per heartbeat
//! beside a bare echo over QUIC, memory per agent, and how soon they are back after a kill.

use super::Order;
use super::report::{Of, Row, Target};
use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_link::{Side, transport};
use longshore_tests::load::daemons::{Coordinator, cpu_of};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Time between two heartbeats of one agent: the coordinator's default.
const BEAT: Duration = Duration::from_secs(2);
/// Bytes of a heartbeat without news, and so of the echo.
const BEAT_BYTES: usize = 40;
const NAME: &str = "localhost";
const KIB: f64 = 1024.0;

pub(super) async fn measure(order: &Order) -> Result<Vec<Row>> {
    let agents = order.pick(1000, 50);
    let dir = tempfile::tempdir()?;
    let mut coordinator = Coordinator::start(&order.programs, dir.path()).await?;
    coordinator.set_up().await?;
    let alone = bytes(&coordinator)?;
    let began = Instant::now();
    let mut fleet = Fleet::start(order, &coordinator, dir.path(), agents).await?;
    let joined = began.elapsed().as_secs_f64();
    let echo = Echo::start(agents).await?;
    tokio::time::sleep(order.pick(BEAT * 3, BEAT)).await; // until the start is over
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..order.pick(order.pairs, 2) {
        let window = order.pick(BEAT * 2, BEAT);
        let (one, other) =
            tokio::try_join!(fleet.window(&coordinator, window), echo.window(window))?;
        ours.push(one);
        floor.push(other);
    }
    drop(echo);
    let with = bytes(&coordinator)?;
    let per_agent = |bytes: f64| bytes / f64::from(agents) / KIB;
    let pair_note = format!(
        "{agents} agents, one beat each per {} s, the whole process's time; the floor runs at the same time; all joined in {joined:.1} s",
        BEAT.as_secs()
    );
    let mut rows = vec![
        Row::new("heartbeat", "processor time per beat", "µs", ours)
            .beside("bare quinn, echo of as many bytes, same transport", floor)
            .target(Of::Ours, Target::AtMost(25.0))
            .note(pair_note),
        Row::new(
            "heartbeat",
            "coordinator, all joined in this life",
            "MiB",
            vec![with / KIB / KIB],
        )
        .target(Of::Ours, Target::AtMost(200.0)),
    ];
    let (known, connected, back) = again(&mut coordinator, &mut fleet, dir.path(), agents).await?;
    rows.push(
        Row::new(
            "heartbeat",
            "memory per connected agent, fresh process",
            "KiB",
            vec![per_agent(connected - known)],
        )
        .target(Of::Ours, Target::AtMost(64.0))
        .note(format!(
            "and {:.1} KiB per agent that is known but not connected",
            per_agent(known - alone)
        )),
    );
    rows.push(
        Row::new(
            "heartbeat",
            "kill -9, start: all agents linked again",
            "s",
            vec![back],
        )
        .target(Of::Ours, Target::AtMost(5.0))
        .note("from the kill on; agents without sessions"),
    );
    Ok(rows)
}

/// Kills the coordinator twice: once with its agents held, to see what it is without
/// them, and once as it happens.
async fn again(
    coordinator: &mut Coordinator,
    fleet: &mut Fleet,
    dir: &Path,
    agents: u32,
) -> Result<(f64, f64, f64)> {
    let log = dir.join("coordinator.log");
    fleet.hold(rustix::process::Signal::STOP)?;
    coordinator.process.kill()?;
    let seen = connected(&log)?;
    coordinator.restart().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let known = bytes(coordinator)?;
    fleet.hold(rustix::process::Signal::CONT)?;
    wait_for(&log, seen + agents as usize).await?;
    tokio::time::sleep(BEAT * 2).await;
    let with = bytes(coordinator)?;
    let seen = connected(&log)?;
    let began = Instant::now();
    coordinator.process.kill()?;
    coordinator.restart().await?;
    wait_for(&log, seen + agents as usize).await?;
    Ok((known, with, began.elapsed().as_secs_f64()))
}

fn connected(log: &Path) -> Result<usize> {
    Ok(std::fs::read_to_string(log)?
        .matches("agent connected")
        .count())
}

async fn wait_for(log: &Path, count: usize) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = connected(log)?;
        if seen >= count {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("{} agents did not come back", count - seen);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size in memory")]
fn bytes(coordinator: &Coordinator) -> Result<f64> {
    Ok(coordinator.process.memory("VmRSS")? as f64)
}

/// Processor time in microseconds per beat.
fn per_beat(used: Duration, beats: u64) -> Result<f64> {
    if beats == 0 {
        bail!("no heartbeat was acknowledged");
    }
    Ok(used.as_secs_f64() * 1e6 / f64::from(u32::try_from(beats)?))
}

/// `longshore-load` and what it says.
pub(super) struct Fleet {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Fleet {
    pub(super) async fn start(
        order: &Order,
        coordinator: &Coordinator,
        dir: &Path,
        agents: u32,
    ) -> Result<Self> {
        let token = dir.join("token");
        std::fs::write(&token, coordinator.token(i64::from(agents)).await?)?;
        let mut child = Command::new(order.programs.join("longshore-load"))
            .arg("--coordinator")
            .arg(format!("127.0.0.1:{}", coordinator.port))
            .arg("--token-file")
            .arg(&token)
            .args(["--agents", &agents.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut fleet = Self {
            child,
            lines: BufReader::new(stdout).lines(),
        };
        while fleet.line().await?["linked"] != agents {}
        Ok(fleet)
    }

    async fn line(&mut self) -> Result<Value> {
        let line = self.lines.next_line().await?;
        Ok(serde_json::from_str(
            &line.context("longshore-load has ended")?,
        )?)
    }

    fn hold(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw)
            .context("longshore-load has ended")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    async fn window(&mut self, coordinator: &Coordinator, window: Duration) -> Result<f64> {
        let count = |line: &Value| line["acks"].as_u64().unwrap_or(0);
        let before = count(&self.line().await?);
        let (cpu, began) = (coordinator.process.cpu()?, Instant::now());
        loop {
            let line = self.line().await?;
            // A line comes every second, on the second.
            if began.elapsed() + Duration::from_millis(500) > window {
                let used = coordinator.process.cpu()? - cpu;
                return per_beat(used, count(&line) - before);
            }
        }
    }
}

/// A process that answers with what it is sent, and its clients in this process.
struct Echo {
    child: Child,
    answers: Arc<AtomicU64>,
    clients: tokio::task::JoinSet<()>,
}

impl Echo {
    async fn start(clients: u32) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--echo")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let facts: Value = serde_json::from_str(&line.context("the echo has ended")?)?;
        let port = u16::try_from(facts["port"].as_u64().context("port")?)?;
        let certificate = STANDARD.decode(facts["certificate"].as_str().unwrap_or(""))?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate))?;
        let tls = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(roots)
            .with_no_client_auth();
        let crypto = Arc::new(QuicClientConfig::try_from(tls)?);
        let answers = Arc::new(AtomicU64::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..clients {
            let mut config = quinn::ClientConfig::new(crypto.clone());
            config.transport_config(transport(Side::Agent, true));
            // As agents do: each from an address of its own.
            let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
            endpoint.set_default_client_config(config);
            let connection = endpoint
                .connect(([127, 0, 0, 1], port).into(), NAME)?
                .await?;
            let answers = Arc::clone(&answers);
            let first = BEAT * number / clients;
            tasks.spawn(async move {
                // A connection that breaks shows in the count of answers.
                let _ = beat(connection, first, &answers).await;
                drop(endpoint);
            });
        }
        Ok(Self {
            child,
            answers,
            clients: tasks,
        })
    }

    async fn window(&self, window: Duration) -> Result<f64> {
        let pid = self.child.id().context("the echo has ended")?;
        if self.clients.is_empty() {
            bail!("the echo has no clients");
        }
        let (before, cpu) = (self.answers.load(Ordering::Relaxed), cpu_of(pid)?);
        tokio::time::sleep(window).await;
        let beats = self.answers.load(Ordering::Relaxed) - before;
        per_beat(cpu_of(pid)? - cpu, beats)
    }
}

async fn beat(connection: quinn::Connection, first: Duration, answers: &AtomicU64) -> Result<()> {
    let (mut out, mut back) = connection.open_bi().await?;
    let bytes = [7; BEAT_BYTES];
    let mut read = [0; BEAT_BYTES];
    tokio::time::sleep(first).await;
    let mut next = tokio::time::interval(BEAT);
    loop {
        next.tick().await;
        out.write_all(&bytes).await?;
        back.read_exact(&mut read).await?;
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

/// Serves the floor until it is killed.
pub(super) async fn echo() -> Result<()> {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let tls = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let crypto = Arc::new(QuicServerConfig::try_from(tls)?);
    let mut server = quinn::ServerConfig::with_crypto(crypto);
    server.transport_config(transport(Side::Coordinator, true));
    let endpoint = quinn::Endpoint::server(server, ([127, 0, 0, 1], 0).into())?;
    println!(
        "{}",
        json!({
            "port": endpoint.local_addr()?.port(),
            "certificate": STANDARD.encode(made.cert.der()),
        })
    );
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            // A client that goes away ends its own part.
            let _ = answer(incoming).await;
        });
    }
    Ok(())
}

async fn answer(incoming: quinn::Incoming) -> Result<()> {
    let connection = incoming.await?;
    let (mut out, mut back) = connection.accept_bi().await?;
    while let Some(chunk) = back.read_chunk(16 * 1024, true).await? {
        out.write_chunk(chunk.bytes).await?;
    }
    Ok(())
}
