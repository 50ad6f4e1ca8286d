//! Many agents and many sessions, with a coordinator that ends in the middle: nothing is
//! lost, nothing happens twice.

use anyhow::{Context as _, Result, bail, ensure};
use longshore_common::ids::SessionId;
use longshore_common::session::{ResultKind, SessionState};
use longshore_core::model::Session;
use longshore_tests::load::fleet::{Fleet, FleetConfig};
use longshore_tests::load::in_process::{InProcess, job};
use longshore_tests::load::{install_tls, raise_file_limit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const AGENTS: u32 = 50;
const SESSIONS: usize = 500;
/// Much less on a machine that is well; the machines of CI are not.
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_sessions_survive_a_restart_of_the_coordinator() -> Result<()> {
    install_tls();
    raise_file_limit()?;
    let dir = tempfile::tempdir()?;
    let coordinator = InProcess::start(dir.path()).await?;
    let fleet = Fleet::join(FleetConfig {
        coordinator: coordinator.address(),
        token: coordinator.token(AGENTS, 3600).await?,
        agents: AGENTS,
        gpus: 0,
        cpu: 2, // a hundred places: most sessions wait for one
        mem_mib: 8192,
        run: Duration::from_secs(600),
        dir: dir.path().to_owned(),
    })
    .await?;
    fleet.all_linked(LIMIT).await?;

    let mut asked = BTreeMap::new();
    submit(&coordinator, 0..SESSIONS * 3 / 5, &mut asked).await?;
    // Some have ended, some run, some wait.
    until(&coordinator, &asked, |over| over >= SESSIONS / 10).await?;
    let coordinator = coordinator.restart().await?;
    ensure!(
        over(&coordinator, &asked).await? < SESSIONS,
        "the restart came too late to prove anything"
    );
    // Whoever asked just before does not know whether it was heard, and asks again.
    submit(&coordinator, SESSIONS / 2..SESSIONS, &mut asked).await?;
    until(&coordinator, &asked, |over| over == SESSIONS).await?;

    let ids: BTreeSet<SessionId> = asked.values().copied().collect();
    assert_eq!(ids.len(), SESSIONS);
    for id in ids {
        let session = session(&coordinator, id)
            .await?
            .context("a session is lost")?;
        assert_eq!(session.state, SessionState::Terminated, "{id}");
        assert_eq!(
            (session.result, session.exit_code, session.attempt.0),
            (Some(ResultKind::Success), Some(0), 1),
            "{id}: {:?}",
            session.detail
        );
        let lines = coordinator.reader.history(id).await?;
        let ran = lines
            .iter()
            .filter(|line| line.to == SessionState::Running)
            .count();
        assert_eq!(ran, 1, "{id} ran {ran} times");
    }
    let past = coordinator
        .reader
        .session(SessionId(SESSIONS as u64 + 1))
        .await?;
    assert!(past.is_none(), "one was made twice");
    assert_eq!(coordinator.look(|state| state.check()).await?, Ok(()));
    assert_eq!(
        coordinator
            .look(|state| (state.sessions.len(), state.ledger.len()))
            .await?,
        (0, 0)
    );
    let left: usize = fleet.members.iter().map(|m| m.engine.len()).sum();
    assert_eq!(left, 0, "containers that nobody removed");
    fleet.stop().await;
    coordinator.stop().await;
    Ok(())
}

/// The agents of a coordinator that was killed do not wait until its silence is long
/// enough: the next one tells them with its first packet.
#[test]
fn agents_of_a_killed_coordinator_are_told_so_by_the_next_one() -> Result<()> {
    const AGENTS: u32 = 20;
    install_tls();
    let log = Log::default();
    let lines = log.clone();
    tracing_subscriber::fmt()
        .with_env_filter("longshore_agent::link=info,quinn_proto::connection=debug")
        .with_ansi(false)
        .with_writer(move || lines.clone())
        .init();
    let dir = tempfile::tempdir()?;
    let fleets = tokio::runtime::Runtime::new()?;
    let coordinators = tokio::runtime::Runtime::new()?;
    let coordinator = coordinators.block_on(InProcess::start(dir.path()))?;
    let port = coordinator.port;
    let fleet = fleets.block_on(async {
        let token = coordinators.spawn(async move {
            let token = coordinator.token(AGENTS, 3600).await;
            (token, coordinator)
        });
        let (token, coordinator) = token.await?;
        let fleet = Fleet::join(FleetConfig {
            coordinator: coordinator.address(),
            token: token?,
            agents: AGENTS,
            gpus: 0,
            cpu: 2,
            mem_mib: 8192,
            run: Duration::from_secs(600),
            dir: dir.path().to_owned(),
        })
        .await?;
        fleet.all_linked(LIMIT).await?;
        // Nobody says goodbye: what would send it is gone before it could.
        coordinators.shutdown_background();
        drop(coordinator);
        anyhow::Ok(fleet)
    })?;
    let address = format!("address=127.0.0.1:{port} ");
    let began = Instant::now();
    let again = tokio::runtime::Runtime::new()?;
    let coordinator = again.block_on(async {
        loop {
            match InProcess::start_on(dir.path(), port).await {
                Err(error) if began.elapsed() > Duration::from_secs(3) => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await, // it still ends
                Ok(coordinator) => return Ok(coordinator),
            }
        }
    })?;
    fleets.block_on(async {
        while coordinator.cluster.connections() < u64::from(AGENTS) {
            ensure!(
                began.elapsed() < LIMIT,
                "{} of {AGENTS} agents are back",
                coordinator.cluster.connections()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Each lost its link once, and not by waiting: the new coordinator proved that the
        // old one is no more. How long that took says more of the machine than of them.
        let text = log.text();
        let lines = |wanted: &str| text.lines().filter(|line| line.contains(wanted)).count();
        assert_eq!(lines(&address), AGENTS as usize, "{text}");
        assert!(lines(RESET) >= AGENTS as usize, "{text}");
        fleet.stop().await;
        Ok(())
    })?;
    again.block_on(coordinator.stop());
    Ok(())
}

/// What quinn says of a connection whose other end proved that it is gone.
const RESET: &str = "got stateless reset";

/// Lines of the log, in memory.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Asks for sessions by number, each with a key of its own.
async fn submit(
    coordinator: &InProcess,
    numbers: std::ops::Range<usize>,
    asked: &mut BTreeMap<usize, SessionId>,
) -> Result<()> {
    for number in numbers {
        let key = format!("number-{number}");
        let id = coordinator.submit(job(&["exit", "0"]), Some(&key)).await?;
        if let Some(before) = asked.insert(number, id) {
            assert_eq!(before, id, "asked twice with one key");
        }
    }
    Ok(())
}

async fn session(coordinator: &InProcess, id: SessionId) -> Result<Option<Session>> {
    let live = coordinator
        .look(move |state| state.sessions.get(&id).cloned())
        .await?;
    match live {
        Some(session) => Ok(Some(session)),
        None => Ok(coordinator.reader.session(id).await?),
    }
}

/// How many of those asked for have ended, with nothing left of them.
async fn over(coordinator: &InProcess, asked: &BTreeMap<usize, SessionId>) -> Result<usize> {
    let live = coordinator.look(|state| state.sessions.len()).await?;
    Ok(asked.len().saturating_sub(live))
}

async fn until(
    coordinator: &InProcess,
    asked: &BTreeMap<usize, SessionId>,
    enough: impl Fn(usize) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let over = over(coordinator, asked).await?;
        if enough(over) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{over} of {} sessions are over", asked.len());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
