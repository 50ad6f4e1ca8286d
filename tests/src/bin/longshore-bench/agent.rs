//! What the daemons cost while nothing happens: memory and processor time.

use super::Order;
use super::report::{Of, Row, Target};
use anyhow::{Context as _, Result};
use longshore_tests::load::daemons::{Coordinator, Process, agent, purge, wait_for_agents};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: f64 = 1024.0 * 1024.0;
/// The answer of a driver that knows no such call: what the fake does to be told of
/// events is to look a hundred times a second, which no driver does.
const NOT_SUPPORTED: u32 = 3;

pub(super) async fn measure(order: &Order) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let mut coordinator = Coordinator::start(&order.programs, dir.path()).await?;
    coordinator.set_up().await?;
    let alone = one(order, &coordinator, &dir.path().join("without"), &[]).await?;
    let library = order.programs.join("libnvidia_ml.so");
    let mut rows = vec![
        memory("resident, no GPU", &alone).target(Of::Ours, Target::AtMost(12.0)),
        load("processor, no GPU", &alone).target(Of::Ours, Target::AtMost(0.2)),
    ];
    if library.exists() {
        for (label, waits) in [("8 fake GPUs", false), ("8 fake GPUs, events", true)] {
            let place = dir.path().join(label.replace([' ', ','], "-"));
            std::fs::create_dir_all(&place)?;
            let scenario = scenario(&place, waits)?;
            let library = library.display().to_string();
            let settings = [
                ("LONGSHORE__AGENT__DEVICES__LIBRARY", library.as_str()),
                ("FAKE_NVML_SCENARIO", scenario.as_str()),
            ];
            let figures = one(order, &coordinator, &place, &settings).await?;
            let (memory, load) = (
                memory(&format!("resident, {label}"), &figures),
                load(&format!("processor, {label}"), &figures),
            );
            if waits {
                rows.push(memory);
                rows.push(
                    load.note("the fake's event wait polls every 10 ms; a driver's does not"),
                );
            } else {
                rows.push(memory.target(Of::Ours, Target::AtMost(12.0)));
                rows.push(load.target(Of::Ours, Target::AtMost(0.2)));
            }
        }
    } else {
        rows.push(Row::failed(
            "agent",
            "8 fake GPUs: cargo build --release -p longshore-fake-nvml".to_owned(),
        ));
    }
    rows.push(
        Row::new(
            "agent",
            "coordinator resident, idle",
            "MiB",
            vec![resident(&coordinator.process)?],
        )
        .target(Of::Ours, Target::AtMost(20.0)),
    );
    Ok(rows)
}

/// Figures of one agent over windows of its idle life.
struct Idle {
    /// MiB that no file stands behind.
    own: f64,
    resident: Vec<f64>,
    percent: Vec<f64>,
}

fn memory(what: &str, idle: &Idle) -> Row {
    Row::new("agent", what, "MiB", idle.resident.clone()).note(format!(
        "of it {:.1} MiB are its own; the rest is the program and libraries, as the file is",
        idle.own
    ))
}

fn load(what: &str, idle: &Idle) -> Row {
    Row::new("agent", what, "% of a core", idle.percent.clone())
}

async fn one(
    order: &Order,
    coordinator: &Coordinator,
    dir: &Path,
    settings: &[(&str, &str)],
) -> Result<Idle> {
    std::fs::create_dir_all(dir)?;
    let mut process = agent(&order.programs, dir, coordinator, settings).await?;
    wait_for_agents(coordinator, 1).await?;
    tokio::time::sleep(order.pick(Duration::from_secs(5), Duration::from_secs(2))).await; // until its start is over
    let window = order.pick(Duration::from_secs(6), Duration::from_secs(1));
    let mut idle = Idle {
        own: 0.0,
        resident: Vec::new(),
        percent: Vec::new(),
    };
    for _ in 0..order.pick(5, 2) {
        let (before, began) = (process.cpu()?, Instant::now());
        tokio::time::sleep(window).await;
        let used = process.cpu()? - before;
        let share = used.as_secs_f64() / began.elapsed().as_secs_f64();
        idle.percent.push(share * 100.0);
        idle.resident.push(resident(&process)?);
    }
    idle.own = mebibytes(process.memory("RssAnon")?);
    process.end()?;
    purge(&order.programs, dir).await?;
    leave(coordinator).await?;
    Ok(idle)
}

/// The next agent has the same name.
async fn leave(coordinator: &Coordinator) -> Result<()> {
    let answer = coordinator
        .client
        .ask("POST", "/api/v1/agents/bench/expel", b"{}")
        .await?;
    let _: Value = answer.json()?;
    Ok(())
}

fn resident(process: &Process) -> Result<f64> {
    Ok(mebibytes(process.memory("VmRSS")?))
}

#[expect(clippy::cast_precision_loss, reason = "a size in memory")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

/// The scenario of eight GPUs, with or without being told of events.
fn scenario(dir: &Path, waits: bool) -> Result<String> {
    let source = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fake-nvml/scenarios/eight-gpus.json"
    );
    let text = std::fs::read_to_string(source).context(source)?;
    let mut scenario: Value = serde_json::from_str(&text)?;
    if !waits {
        scenario["errors"] = json!({ "nvmlEventSetCreate": NOT_SUPPORTED });
    }
    let path = dir.join("scenario.json");
    std::fs::write(&path, scenario.to_string())?;
    Ok(path.display().to_string())
}
