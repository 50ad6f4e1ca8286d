//! Sessions from the API to a running container: submissions over HTTPS, placed, ordered,
//! prepared and started by simulated agents over the real link, everything stored.

use super::Order;
use super::heartbeat::Fleet;
use super::report::{Of, Row, Target};
use super::submit::{CLIENTS, hammer};
use anyhow::{Context as _, Result};
use longshore_tests::load::daemons::Coordinator;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::{Duration, Instant};

const BODY: &str =
    r#"{"image":"longshore/base:latest","command":["true"],"slots":{"cpu":"1","mem":"64m"}}"#;

pub(super) async fn measure(order: &Order) -> Result<Vec<Row>> {
    let agents = order.pick(1000, 50);
    let window = order.pick(Duration::from_secs(8), Duration::from_secs(1));
    let (mut started, mut submitted) = (Vec::new(), Vec::new());
    for _ in 0..order.pick(order.pairs.min(3), 1) {
        let dir = tempfile::tempdir()?;
        let mut coordinator = Coordinator::start(&order.programs, dir.path()).await?;
        coordinator.set_up().await?;
        let fleet = Fleet::start(order, &coordinator, dir.path(), agents).await?;
        let request = coordinator
            .client
            .request("POST", "/api/v1/sessions", "", BODY.as_bytes());
        let database = coordinator.data_dir().join("longshore.db");
        let began = Instant::now();
        let rate = hammer(&coordinator.client, request, 201, window).await?;
        let count = running(&database)?;
        started.push(count / began.elapsed().as_secs_f64());
        submitted.push(rate);
        drop(fleet);
    }
    Ok(vec![
        Row::new("flow", "sessions started, submitted over HTTPS", "/s", started)
            .beside("submissions acknowledged in the same time", submitted)
            .target(Of::Ours, Target::AtLeast(3000.0))
            .note(format!(
                "durable; {agents} simulated agents and {CLIENTS} clients share the machine with the coordinator"
            )),
    ])
}

/// Sessions that have come to run, by the stored history.
fn running(database: &Path) -> Result<f64> {
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .context("the coordinator's database")?;
    let count: u32 = db.query_row(
        "SELECT count(*) FROM session_history WHERE to_state = 'RUNNING'",
        [],
        |row| row.get(0),
    )?;
    Ok(f64::from(count))
}
