//! What a link makes good by itself: an agent that was silent, a report that could not be
//! stored. Everything over real QUIC.

use anyhow::{Context as _, Result, ensure};
use longshore_agent::identity::Files;
use longshore_common::agent::AgentState;
use longshore_common::ids::SessionId;
use longshore_common::redact::Redaction;
use longshore_common::session::SessionState;
use longshore_core::model::Event;
use longshore_link::boot_ms;
use longshore_tests::load::fleet::{Fleet, FleetConfig};
use longshore_tests::load::in_process::{InProcess, job};
use longshore_tests::load::install_tls;
use rusqlite::Connection;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing here takes longer on a machine that is well.
const LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

async fn one_agent() -> Result<(TempDir, InProcess, Fleet)> {
    install_tls();
    let dir = tempfile::tempdir()?;
    let coordinator = InProcess::start(dir.path()).await?;
    let fleet = Fleet::join(FleetConfig {
        coordinator: coordinator.address(),
        token: coordinator.token(1, 3600).await?,
        agents: 1,
        gpus: 0,
        cpu: 2,
        mem_mib: 8192,
        run: Duration::from_secs(600),
        dir: dir.path().to_owned(),
    })
    .await?;
    fleet.all_linked(LIMIT).await?;
    Ok((dir, coordinator, fleet))
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !is().await? {
        ensure!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// An agent whose machine stood still long enough is LOST; its connection may never have
/// noticed. When it beats again on that connection it is ALIVE again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_agent_that_beats_again_on_its_open_link_is_alive() -> Result<()> {
    let (_dir, coordinator, fleet) = one_agent().await?;
    let agent = fleet.members[0].id;
    let state = async || {
        let state = coordinator.look(move |state| state.agents.get(&agent).map(|a| a.state));
        state.await?.context("the agent is not known")
    };
    until("it is alive", async || {
        Ok(state().await? == AgentState::Alive)
    })
    .await?;
    let silent = Event::Silent {
        agent,
        for_ms: 20_000,
        lost_after_ms: 15_000,
    };
    // In one step: afterwards whoever watches for silence may have found it alive already.
    let cluster = coordinator.cluster.clone();
    let seen = coordinator
        .engine
        .ask_then(silent, move |state, _, _| {
            let state = state.agents.get(&agent).map(|a| a.state);
            (state, cluster.is_connected(agent))
        })
        .await?;
    assert_eq!(seen, (Some(AgentState::Lost), true), "nobody cut the link");
    until("it is alive again", async || {
        Ok(state().await? == AgentState::Alive && coordinator.cluster.is_connected(agent))
    })
    .await?;
    fleet.stop().await;
    coordinator.stop().await;
    Ok(())
}

/// What an agent reports in a batch that cannot be stored is gone with the batch; so it is
/// said again until it is stored, and nothing runs a second time for it.
#[tokio::test(flavor = "multi_thread")]
async fn reports_that_could_not_be_stored_are_made_again() -> Result<()> {
    let (dir, coordinator, fleet) = one_agent().await?;
    // Everything can be stored except that a session runs.
    let database = Connection::open(dir.path().join("longshore.db"))?;
    database.busy_timeout(LIMIT)?;
    database.execute_batch(
        "CREATE TRIGGER never_running BEFORE INSERT ON session_history
         WHEN NEW.to_state = 'RUNNING'
         BEGIN SELECT RAISE(ABORT, 'it may not run'); END",
    )?;
    let before = coordinator.cluster.connections();
    let id = coordinator.submit(job(&["sleep", "600"]), None).await?;
    until("its container runs", async || {
        Ok(fleet.members[0].engine.len() == 1)
    })
    .await?;
    // The report was made, and the link cut because of it.
    until("the agent came back", async || {
        Ok(coordinator.cluster.connections() > before)
    })
    .await?;
    assert_ne!(
        session_state(&coordinator, id).await?,
        SessionState::Running
    );

    database.execute_batch("DROP TRIGGER never_running")?;
    until("it runs", async || {
        Ok(session_state(&coordinator, id).await? == SessionState::Running)
    })
    .await?;
    let lines = coordinator.reader.history(id).await?;
    let ran = lines.iter().filter(|l| l.to == SessionState::Running);
    assert_eq!(ran.count(), 1);
    assert_eq!(fleet.members[0].engine.len(), 1);
    assert_eq!(coordinator.look(|state| state.check()).await?, Ok(()));
    fleet.stop().await;
    coordinator.stop().await;
    Ok(())
}

async fn session_state(coordinator: &InProcess, id: SessionId) -> Result<SessionState> {
    let state = coordinator.look(move |state| state.sessions.get(&id).map(|s| s.state));
    state.await?.context("the session is not known")
}

/// Names of values to hide reach an agent that is linked, one that comes back, and what the next
/// process of it hides before it is linked.
#[tokio::test(flavor = "multi_thread")]
async fn agents_hide_what_the_coordinator_says() -> Result<()> {
    let (dir, coordinator, fleet) = one_agent().await?;
    let names = fleet.members[0].agent.hidden.names();
    let hides = |name: &str| Redaction::new(&names.get(), &[], &[]).hides(name);
    ensure!(hides("HF_TOKEN") && !hides("LAB_KEY"));
    let tell = |name: &str| {
        let redaction = vec![name.to_owned()];
        coordinator
            .terms
            .send_modify(|terms| terms.redaction = redaction);
    };
    tell("LAB_*");
    until("it hides what is new", async || Ok(hides("LAB_KEY"))).await?;
    ensure!(hides("HF_TOKEN"), "the usual ones stay");
    tell("DESK_*");
    until("it hides another", async || Ok(hides("DESK_KEY"))).await?;
    ensure!(!hides("LAB_KEY"));
    let files = Files::new(&dir.path().join("agent-00000"));
    until(
        "it is kept",
        async || Ok(files.hidden_names() == ["DESK_*"]),
    )
    .await?;
    // The next coordinator tells its own list with the link.
    let coordinator = coordinator.restart().await?;
    until("it hides what this one says", async || {
        Ok(!hides("DESK_KEY"))
    })
    .await?;
    fleet.stop().await;
    coordinator.stop().await;
    Ok(())
}

/// Another pace reaches an agent on its open link, which nobody takes for dead meanwhile, and
/// silence is judged by the new time at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_pace_reaches_agents_on_their_open_links() -> Result<()> {
    let (_dir, coordinator, fleet) = one_agent().await?;
    let agent = fleet.members[0].id;
    let live = coordinator.engine.live.agent(agent);
    let beat = || live.last_beat_ms.load(Ordering::Relaxed);
    let state = async || {
        let state = coordinator.look(move |state| state.agents.get(&agent).map(|a| a.state));
        state.await?.context("the agent is not known")
    };
    until("it is alive", async || {
        Ok(state().await? == AgentState::Alive && beat() > 0)
    })
    .await?;
    let pace = |heartbeat_ms, lost_after_ms| {
        coordinator.terms.send_modify(|terms| {
            terms.heartbeat_ms = heartbeat_ms;
            terms.lost_after_ms = lost_after_ms;
        });
    };
    let connections = coordinator.cluster.connections();
    pace(300_000, 1_500_000);
    // Three beats at the pace from before.
    until("it is quiet", async || Ok(boot_ms() - beat() > 3000)).await?;
    pace(1000, 8000);
    for _ in 0..3 {
        let last = beat();
        until("it beats again", async || Ok(beat() > last)).await?;
    }
    assert_eq!(state().await?, AgentState::Alive);
    assert_eq!(coordinator.cluster.connections(), connections);
    // By the pace from before this would take as long as half an hour.
    fleet.stop().await;
    until(
        "it is lost",
        async || Ok(state().await? == AgentState::Lost),
    )
    .await?;
    coordinator.stop().await;
    Ok(())
}
