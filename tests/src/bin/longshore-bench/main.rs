//! `longshore-bench`: measures the programs that lie beside it, each figure next to a
//! floor or peer taken in the same run.
//!
//! Prints one table; `--json FILE` keeps every raw figure. It starts its own coordinators
//! and agents on the loopback address, in directories that are gone afterwards. Exits
//! with 0 whether targets are met or not: the figures orient, tests assert promises.

mod agent;
mod binaries;
mod flow;
mod heartbeat;
mod logs;
mod people;
mod reach;
mod readers;
mod report;
mod restart;
mod schedule;
mod start;
mod submit;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use longshore_tests::load::{install_tls, raise_file_limit};
use report::Row;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Everything there is, in the order in which it runs.
const NAMES: [&str; 14] = [
    "binaries",
    "schedule",
    "restart",
    "submit",
    "people",
    "readers",
    "flow",
    "heartbeat",
    "agent",
    "start",
    "start4",
    "logs",
    "tunnel",
    "exec",
];
/// An entry that takes longer is cut and printed as CENSORED.
const MOST: Duration = Duration::from_secs(150);

/// Measures Longshore
#[derive(Debug, Parser)]
#[command(name = "longshore-bench", version)]
struct Arguments {
    /// What to measure; none = everything
    #[arg(value_parser = NAMES)]
    names: Vec<String>,
    /// Keep every raw figure in this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often ours and its floor are taken in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Little of everything, for a smoke test; its figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Where the programs lie; absent = beside this one
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Be the floor of `heartbeat`
    #[arg(long, hide = true)]
    echo: bool,
    /// Read one text for `readers`
    #[arg(long, hide = true, value_name = "FORMAT:NUMBER")]
    read: Option<String>,
}

/// What every entry is told.
#[derive(Debug, Clone)]
struct Order {
    programs: PathBuf,
    pairs: u32,
    quick: bool,
}

impl Order {
    /// One number for a real run, another for a smoke test.
    fn pick<T>(&self, real: T, quick: T) -> T {
        if self.quick { quick } else { real }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    install_tls();
    raise_file_limit()?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("error"))
        .with_writer(std::io::stderr)
        .init();
    // The floor has one thread, as the part of the coordinator it stands beside.
    let mut runtime = match arguments.echo {
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    if arguments.echo {
        return heartbeat::echo().await;
    }
    if let Some(asked) = &arguments.read {
        return readers::one(asked);
    }
    let programs = match arguments.programs {
        Some(dir) => dir,
        None => std::env::current_exe()?
            .parent()
            .context("this program lies nowhere")?
            .to_owned(),
    };
    for program in ["longshore-coordinator", "longshore-agent", "longshore-load"] {
        if !programs.join(program).exists() {
            bail!(
                "{} has no {program}: ./x bench builds what is needed",
                programs.display()
            );
        }
    }
    let order = Order {
        programs,
        pairs: arguments.pairs,
        quick: arguments.quick,
    };
    let wanted =
        |name: &str| arguments.names.is_empty() || arguments.names.iter().any(|n| n == name);
    let mut rows = Vec::new();
    for name in NAMES.into_iter().filter(|name| wanted(name)) {
        let began = Instant::now();
        eprintln!("{name} …");
        let result = tokio::time::timeout(MOST, entry(name, &order)).await;
        match result {
            Ok(Ok(new)) => rows.extend(new),
            Ok(Err(error)) => rows.push(Row::failed(name, format!("{error:#}"))),
            Err(_) => rows.push(Row::censored(name, MOST)),
        }
        eprintln!("{name} took {:.1} s", began.elapsed().as_secs_f64());
    }
    print!("{}", report::table(&rows));
    if order.quick {
        println!("--quick: a smoke test; these figures mean nothing");
    }
    if let Some(path) = arguments.json {
        let text = serde_json::to_string_pretty(&report::document(&rows, order.quick))?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

async fn entry(name: &str, order: &Order) -> Result<Vec<Row>> {
    match name {
        "binaries" => binaries::measure(order),
        "schedule" => schedule::measure(order),
        "restart" => restart::measure(order).await,
        "submit" => submit::measure(order).await,
        "people" => people::measure(order).await,
        "readers" => readers::measure(order),
        "flow" => flow::measure(order).await,
        "heartbeat" => heartbeat::measure(order).await,
        "agent" => agent::measure(order).await,
        "start" => start::measure(order, 1).await,
        "start4" => start::measure(order, 4).await,
        "logs" => logs::measure(order).await,
        "tunnel" => reach::tunnel(order).await,
        "exec" => reach::exec(order).await,
        other => bail!("there is no entry {other}"),
    }
}
