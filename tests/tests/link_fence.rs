//! An agent whose sessions were given up, over the real link: it takes the new fence, removes
//! what was given up before anything else, and what it held is free only then.

use anyhow::{Context as _, Result, ensure};
use longshore_common::agent::{AgentState, RuntimeState};
use longshore_common::api::NewRestart;
use longshore_common::ids::{AgentId, Fence, SessionId};
use longshore_common::session::SessionState;
use longshore_core::model::{Event, Session, Terminate};
use longshore_tests::load::fleet::{Fleet, FleetConfig};
use longshore_tests::load::in_process::{InProcess, job};
use longshore_tests::load::{install_tls, raise_file_limit};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Much less on a machine that is well; the machines of CI are not.
const LIMIT: Duration = Duration::from_secs(90);
/// T1, and T2 of the group.
const LOST_MS: i64 = 15_000;
const GIVEN_UP_MS: i64 = 600_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_given_up_removes_all_and_serves_again() -> Result<()> {
    install_tls();
    raise_file_limit()?;
    let dir = tempfile::tempdir()?;
    let coordinator = InProcess::start(dir.path()).await?;
    let fleet = Fleet::join(FleetConfig {
        coordinator: coordinator.address(),
        token: coordinator.token(1, 3600).await?,
        agents: 1,
        gpus: 0,
        cpu: 2,
        mem_mib: 1024,
        run: Duration::from_secs(3600),
        dir: dir.path().to_owned(),
    })
    .await?;
    fleet.all_linked(LIMIT).await?;
    let member = &fleet.members[0];
    let mut again = job(&["work"]);
    again.restart = Some(NewRestart { max: 1, on: None });
    let again = coordinator.submit(again, None).await?;
    let once = coordinator.submit(job(&["work"]), None).await?;
    for id in [again, once] {
        until(&coordinator, member.id, id, |s| {
            s.state == SessionState::Running
        })
        .await?;
    }
    ensure!(member.engine.len() == 2, "both run");

    // What the coordinator would see if the node were cut off; its link stands all the same,
    // so that what follows is seen at once.
    for for_ms in [LOST_MS, GIVEN_UP_MS] {
        let silent = Event::Silent {
            agent: member.id,
            for_ms,
            lost_after_ms: LOST_MS,
        };
        coordinator.engine.tell(silent).await?;
    }
    until(&coordinator, member.id, once, |s| {
        s.state == SessionState::Error
    })
    .await?;
    let requeued = |s: &Session| s.state == SessionState::Pending && s.attempt.0 == 2;
    until(&coordinator, member.id, again, requeued).await?;

    // It removes both, confirms, holds the new fence, and is taken in again.
    let began = Instant::now();
    loop {
        let (rows, state) = books(&coordinator, member.id).await?;
        let held = member.agent.shared.outbox().fence;
        let clean = member.engine.is_empty() && rows == 0;
        if clean && held == Fence(2) && state == Some(AgentState::Alive) {
            break;
        }
        ensure!(
            began.elapsed() < LIMIT,
            "{rows} claims, fence {held}, {state:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The next attempt runs there under the new fence, not earlier than 30 s after the loss.
    until(&coordinator, member.id, again, |s| {
        s.state == SessionState::Running
    })
    .await?;
    let session = session(&coordinator, again).await?.context("it is there")?;
    let fences: Vec<Fence> = session.present().map(|c| c.fence).collect();
    assert_eq!((session.attempt.0, fences), (2, vec![Fence(2)]));
    let lost = session.attempts[0].ended_at;
    let placed = session.placed_at.context("it is placed")?;
    ensure!(placed.since(lost) >= 30_000, "placed {placed}, lost {lost}");
    assert_eq!(coordinator.look(|state| state.check()).await?, Ok(()));
    fleet.stop().await;
    coordinator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_placed_on_a_node_that_is_away_and_was_not_told_is_free_at_once() -> Result<()> {
    install_tls();
    raise_file_limit()?;
    let dir = tempfile::tempdir()?;
    let coordinator = InProcess::start(dir.path()).await?;
    let fleet = Fleet::join(FleetConfig {
        coordinator: coordinator.address(),
        token: coordinator.token(1, 3600).await?,
        agents: 1,
        gpus: 0,
        cpu: 2,
        mem_mib: 1024,
        run: Duration::from_secs(3600),
        dir: dir.path().to_owned(),
    })
    .await?;
    fleet.all_linked(LIMIT).await?;
    let agent = fleet.members[0].id;
    let known = coordinator.submit(job(&["work"]), None).await?;
    until(&coordinator, agent, known, |s| {
        s.state == SessionState::Running
    })
    .await?;
    fleet.stop().await;
    // It is not LOST yet, so it still gets work.
    let unknown = coordinator.submit(job(&["work"]), None).await?;
    until(&coordinator, agent, unknown, |s| {
        s.state == SessionState::Scheduled
    })
    .await?;
    let (rows, _) = books(&coordinator, agent).await?;
    let end = Event::Terminate(Terminate {
        caller: coordinator.caller.clone(),
        called: None,
        ids: vec![known, unknown],
        grace_s: 0,
        force: true,
        many: true,
        handed: BTreeMap::new(), // the engine knows
    });
    coordinator.engine.tell(end).await?;
    until(&coordinator, agent, known, |s| s.state.is_final()).await?;
    let (left, state) = books(&coordinator, agent).await?;
    ensure!(
        rows == 2 && left == 1,
        "{rows} sessions held something, {left} still do"
    );
    ensure!(state == Some(AgentState::Alive), "{state:?}");
    assert_eq!(coordinator.look(|state| state.check()).await?, Ok(()));
    coordinator.stop().await;
    Ok(())
}

/// Claims on an agent, and how it stands.
async fn books(coordinator: &InProcess, agent: AgentId) -> Result<(usize, Option<AgentState>)> {
    let look = coordinator.look(move |state| {
        let state_of = state.agents.get(&agent).map(|a| a.state);
        (state.ledger.len(), state_of)
    });
    look.await
}

async fn session(coordinator: &InProcess, id: SessionId) -> Result<Option<Session>> {
    let live = coordinator.look(move |state| state.sessions.get(&id).cloned());
    match live.await? {
        Some(session) => Ok(Some(session)),
        None => Ok(coordinator.reader.session(id).await?),
    }
}

async fn until(
    coordinator: &InProcess,
    agent: AgentId,
    id: SessionId,
    is: impl Fn(&Session) -> bool,
) -> Result<()> {
    let began = Instant::now();
    loop {
        // Not what this is about: the disk of the machine that tests may be nearly full.
        let well = Event::Condition {
            agent,
            runtime: RuntimeState::Up,
            disk_low: false,
        };
        coordinator.engine.tell(well).await?;
        let seen = session(coordinator, id)
            .await?
            .context("a session is lost")?;
        if is(&seen) {
            return Ok(());
        }
        ensure!(
            began.elapsed() < LIMIT,
            "{id} is {} of attempt {}: {:?}",
            seen.state,
            seen.attempt,
            seen.detail
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
