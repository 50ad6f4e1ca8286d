//! Acknowledged durable submissions per second over HTTPS, beside what SQLite alone does.

use super::Order;
use super::report::{Of, Row, Target};
use anyhow::{Result, bail};
use longshore_tests::load::daemons::Coordinator;
use longshore_tests::load::https::Client;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Connections that are kept alive.
pub(super) const CLIENTS: usize = 64;
/// Rows per transaction of the floor: what this many clients could share at best.
const BATCH: usize = CLIENTS;
/// Before it counts.
const WARM_UP: Duration = Duration::from_millis(500);
const BODY: &str =
    r#"{"image":"longshore/base:latest","command":["sleep","60"],"slots":{"cpu":"1","mem":"64m"}}"#;

pub(super) async fn measure(order: &Order) -> Result<Vec<Row>> {
    let window = order.pick(Duration::from_secs(4), Duration::from_secs(1));
    let pairs = order.pick(order.pairs, 2);
    let (mut ours, mut floor, mut answers, mut cores) = (vec![], vec![], vec![], vec![]);
    for _ in 0..pairs {
        let dir = tempfile::tempdir()?;
        let mut coordinator = Coordinator::start(&order.programs, dir.path()).await?;
        coordinator.set_up().await?;
        let before = coordinator.process.cpu()?;
        let began = Instant::now();
        let request = coordinator
            .client
            .request("POST", "/api/v1/sessions", "", BODY.as_bytes());
        let rate = hammer(&coordinator.client, request, 201, window).await?;
        let used = coordinator.process.cpu()? - before;
        ours.push(rate);
        cores.push(used.as_secs_f64() / began.elapsed().as_secs_f64());
        let request = coordinator.client.request("GET", "/healthz", "", b"");
        answers.push(hammer(&coordinator.client, request, 200, window / 4).await?);
        drop(coordinator);
        let dir = tempfile::tempdir()?;
        floor.push(sqlite(dir.path(), window / 2)?);
    }
    let cores = super::report::quantile(&cores, 0.5).unwrap_or(0.0);
    let plain = super::report::quantile(&answers, 0.5).unwrap_or(0.0);
    Ok(vec![
        Row::new("submit", "durable submissions, 64 clients", "/s", ours)
            .beside(
                &format!("SQLite FULL, WAL, one row each, {BATCH} rows per transaction, one thread"),
                floor,
            )
            .target(Of::Ours, Target::AtLeast(5000.0))
            .note(format!(
                "durable: SQLite WAL, synchronous=FULL, answered after the commit; the coordinator used {cores:.2} cores, the clients share the machine; GET /healthz by the same clients: {plain:.0}/s"
            )),
    ])
}

/// Sends one request over and over on each of the connections.
pub(super) async fn hammer(
    client: &Client,
    request: Vec<u8>,
    wanted: u16,
    window: Duration,
) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    let request = Arc::new(request);
    for _ in 0..CLIENTS {
        let mut connection = client.connect().await?;
        let (request, done, stop) = (Arc::clone(&request), Arc::clone(&done), Arc::clone(&stop));
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = connection.send(&request).await?;
                if answer.status != wanted {
                    bail!(
                        "answered {}: {}",
                        answer.status,
                        String::from_utf8_lossy(&answer.body)
                    );
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    tokio::time::sleep(WARM_UP.min(window / 2)).await;
    let (before, began) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(window).await;
    let count = done.load(Ordering::Relaxed) - before;
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(f64::from(u32::try_from(count)?) / took.as_secs_f64())
}

/// Rows of the size of a session's, in transactions that are synced, as fast as it goes.
fn sqlite(dir: &Path, window: Duration) -> Result<f64> {
    let db = Connection::open(dir.join("floor.db"))?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch("CREATE TABLE sessions (id INTEGER PRIMARY KEY, owner TEXT, state TEXT, created_at INTEGER, body TEXT) STRICT")?;
    let body = "x".repeat(1000); // about what a session takes as JSON
    let began = Instant::now();
    let mut count: u32 = 0;
    while began.elapsed() < window {
        let transaction = db.unchecked_transaction()?;
        for _ in 0..BATCH {
            transaction
                .prepare_cached(
                    "INSERT INTO sessions (owner, state, created_at, body) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(("dana", "PENDING", 0, &body))?;
            count += 1;
        }
        transaction.commit()?;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}
