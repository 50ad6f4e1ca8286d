//! From the start of a coordinator whose predecessor was killed to its first good answer,
//! beside the same with an empty database.

use super::Order;
use super::report::{Of, Row, Target};
use anyhow::{Context as _, Result};
use longshore_coordinator::engine::wall_clock;
use longshore_coordinator::store::Store;
use longshore_core::model::{
    Answer, Caller, Change, Event, SessionDefaults, State, Submit, Terminate, react,
};
use longshore_tests::load::daemons::Coordinator;
use longshore_tests::load::in_process::{administrator, beginning, job, new_meta};
use std::path::Path;
use std::time::Instant;

/// Sessions in one transaction while the database is made.
const BATCH: u32 = 2000;

pub(super) async fn measure(order: &Order) -> Result<Vec<Row>> {
    let (live, past) = order.pick((10_000, 100_000), (100, 1000));
    let full_dir = tempfile::tempdir()?;
    let empty_dir = tempfile::tempdir()?;
    make(&full_dir.path().join("data"), live, past).await?;
    let mut full = Coordinator::start(&order.programs, full_dir.path()).await?;
    let mut empty = Coordinator::start(&order.programs, empty_dir.path()).await?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..order.pick(order.pairs, 2) {
        ours.push(again(&mut full).await?);
        floor.push(again(&mut empty).await?);
    }
    let size = std::fs::metadata(full.data_dir().join("longshore.db"))?.len() >> 20;
    Ok(vec![
        Row::new("restart", "ready after kill -9", "s", ours)
            .beside("the same with an empty database", floor)
            .target(Of::Ours, Target::AtMost(1.0))
            .note(format!(
                "{live} live and {past} past sessions, {size} MiB of database"
            )),
    ])
}

async fn again(coordinator: &mut Coordinator) -> Result<f64> {
    coordinator.process.kill()?;
    let began = Instant::now();
    coordinator.restart().await?;
    Ok(began.elapsed().as_secs_f64())
}

/// A database with sessions that wait and sessions that were cancelled, by the same rules
/// that make them in a coordinator.
async fn make(data_dir: &Path, live: u32, past: u32) -> Result<()> {
    std::fs::create_dir_all(data_dir)?;
    let (store, mut state) = Store::open(
        &data_dir.join("longshore.db"),
        &longshore_coordinator::secrets::Keyring::fresh(),
        new_meta,
    )?;
    let mut changes = Vec::new();
    let order = administrator();
    let caller = Caller {
        user: order.user.id,
        access_key: order.keypair.access_key.clone(),
    };
    take(
        &mut state,
        &mut changes,
        &Event::Started(Box::new(beginning())),
    )?;
    take(&mut state, &mut changes, &Event::Setup(Box::new(order)))?;
    let mut rest = live + past;
    while rest > 0 {
        let count = rest.min(BATCH);
        let mut ids = Vec::new();
        for _ in 0..count {
            let request = job(&["sleep", "60"]);
            let submit = Submit::new(caller.clone(), request, SessionDefaults::default());
            let answer = take(&mut state, &mut changes, &Event::Submit(Box::new(submit)))?;
            if let Answer::Session(accepted) = answer {
                ids.push(accepted.id);
            }
        }
        // The first ones are over; the last ones wait.
        ids.truncate(rest.saturating_sub(live).min(count) as usize);
        if !ids.is_empty() {
            let terminate = Terminate {
                caller: caller.clone(),
                called: None,
                ids,
                grace_s: 0,
                force: false,
                many: false,
                handed: std::collections::BTreeMap::new(),
            };
            take(&mut state, &mut changes, &Event::Terminate(terminate))?;
        }
        rest -= count;
        store.commit(std::mem::take(&mut changes)).await?;
    }
    Ok(())
}

fn take(state: &mut State, changes: &mut Vec<Change>, event: &Event) -> Result<Answer> {
    let outcome = react(state, event, wall_clock());
    outcome
        .changes
        .iter()
        .for_each(|change| state.apply(change));
    changes.extend(outcome.changes);
    outcome
        .answer
        .map_err(|refusal| anyhow::anyhow!("{}: {}", refusal.code, refusal.detail))
        .context("while the database was made")
}
