//! Simulated agents against a real coordinator.
//!
//! Prints one JSON line per second: agents linked, heartbeats acknowledged so far. Ends
//! after `--duration`, or when its standard input does.

use anyhow::{Context as _, Result};
use clap::Parser;
use longshore_tests::load::fleet::{Fleet, FleetConfig};
use longshore_tests::load::{install_tls, raise_file_limit};
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Simulated agents
#[derive(Debug, Parser)]
#[command(name = "longshore-load", version)]
struct Arguments {
    /// The coordinator
    #[arg(long, value_name = "HOST:PORT")]
    coordinator: String,
    /// File that holds a join token good for all of them
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// How many agents
    #[arg(long, default_value_t = 100)]
    agents: u32,
    /// GPUs of each
    #[arg(long, default_value_t = 8)]
    gpus: u32,
    /// Cores of each
    #[arg(long, default_value_t = 64)]
    cpu: u32,
    /// Memory of each in MiB
    #[arg(long, default_value_t = 512 * 1024)]
    mem_mib: u64,
    /// How long a command runs that does not say, in milliseconds
    #[arg(long, default_value_t = 1000)]
    run_ms: u64,
    /// Seconds after which it ends; 0 = when standard input does
    #[arg(long, default_value_t = 0)]
    duration: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    install_tls();
    raise_file_limit()?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(
            std::env::var("LONGSHORE_LOG").unwrap_or_else(|_| "error".to_owned()),
        ))
        .with_writer(std::io::stderr)
        .init();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()?
        .block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    // Each node has a disk of its own; journals of a thousand on one disk would measure that
    // disk. In memory they measure what they are here for.
    let memory = std::path::Path::new("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory)?,
        false => tempfile::tempdir()?,
    };
    let token =
        std::fs::read_to_string(&arguments.token_file).context("the file of the join token")?;
    let began = Instant::now();
    let fleet = Fleet::join(FleetConfig {
        coordinator: arguments.coordinator,
        token,
        agents: arguments.agents,
        gpus: arguments.gpus,
        cpu: arguments.cpu,
        mem_mib: arguments.mem_mib,
        run: Duration::from_millis(arguments.run_ms),
        dir: dir.path().to_owned(),
    })
    .await?;
    let (ended, mut end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Whether it is closed or breaks, whoever started this is gone.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = second.tick() => (),
            _ = &mut end, if arguments.duration == 0 => break,
        }
        let elapsed = began.elapsed();
        let line = serde_json::json!({
            "ms": u64::try_from(elapsed.as_millis())?,
            "linked": fleet.linked(Duration::from_secs(5)),
            "acks": fleet.acks(),
        });
        println!("{line}");
        if arguments.duration > 0 && elapsed.as_secs() >= arguments.duration {
            break;
        }
    }
    fleet.stop().await;
    Ok(())
}
