//! Who is the agent of a link, and of which coordinator: an agent that obeyed a newer one, two
//! connections of one agent, two processes, two machines. The coordinator's side, over real QUIC.

use anyhow::{Result, ensure};
use longshore_common::agent::{AgentState, RuntimeState};
use longshore_common::ids::{AgentId, Generation, InstanceId};
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    CloseCode, Frame, Heartbeat, HeartbeatAck, Hello, Refused, RefusedCode, Welcome,
};
use longshore_link::send;
use longshore_tests::load::in_process::InProcess;
use longshore_tests::load::install_tls;
use longshore_tests::load::raw::{Link, Node, close_code, node};
use std::time::Duration;
use tempfile::TempDir;

/// Nothing here takes longer on a machine that is well.
const LIMIT: Duration = Duration::from_secs(20);

async fn with_node() -> Result<(TempDir, InProcess, Node)> {
    install_tls();
    let dir = tempfile::tempdir()?;
    let coordinator = InProcess::start(dir.path()).await?;
    let node = node(&coordinator, dir.path(), "gpu01").await?;
    Ok((dir, coordinator, node))
}

/// A heartbeat that is answered.
async fn beats(link: &mut Link, seq: u64) -> Result<()> {
    let beat = Heartbeat {
        seq,
        applied: Generation(0),
        actual_hash: 0,
        changed: vec![],
        more: false,
        runtime: RuntimeState::Up,
        load: None,
        now: Timestamp(1),
    };
    send(&mut link.control_out, &beat).await?;
    let frame = tokio::time::timeout(LIMIT, link.control.next()).await??;
    let ack: HeartbeatAck = frame.decode()?;
    ensure!(ack.seq == seq, "{ack:?}");
    Ok(())
}

/// Refused with a reason, and closed with the code that belongs to it.
async fn refused(link: &Link, frame: &Frame, code: RefusedCode, with: CloseCode) -> Result<()> {
    let told: Refused = frame.decode()?;
    ensure!(told.code == code, "{told:?}");
    ensure!(told.retry_after_ms > 0, "it asks again after a while");
    let closed = close_code(&link.connection).await?;
    ensure!(closed == with, "{closed:?}");
    Ok(())
}

async fn state(coordinator: &InProcess, agent: AgentId) -> Result<AgentState> {
    coordinator
        .look(move |state| state.agents[&agent].state)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_obeyed_a_newer_coordinator_is_not_taken_in() -> Result<()> {
    let (_dir, coordinator, node) = with_node().await?;
    let (first, frame) = node.greet(coordinator.port, &node.hello()).await?;
    let welcome: Welcome = frame.decode()?;
    drop(first);
    let (ours, instance) = (welcome.coordinator_generation, welcome.coordinator_instance);
    let obeyed = |generation, instance| Hello {
        coordinator_generation: generation,
        coordinator_instance: instance,
        ..node.hello()
    };
    let newer = longshore_common::ids::CoordinatorGeneration(ours.0 + 1);
    let another = InstanceId::new(77);
    for (generation, of) in [
        (newer, Some(another)),
        (newer, Some(instance)),
        (newer, None),
        (ours, Some(another)),
    ] {
        let hello = obeyed(generation, of);
        let (link, frame) = node.greet(coordinator.port, &hello).await?;
        let (code, with) = (RefusedCode::StaleCoordinator, CloseCode::StaleCoordinator);
        refused(&link, &frame, code, with).await?;
    }
    let older = longshore_common::ids::CoordinatorGeneration(ours.0 - 1);
    for (generation, of) in [(ours, Some(instance)), (ours, None), (older, Some(another))] {
        let hello = obeyed(generation, of);
        let (mut link, frame) = node.greet(coordinator.port, &hello).await?;
        let _: Welcome = frame.decode()?;
        beats(&mut link, 1).await?;
    }
    coordinator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_process_has_the_link_whichever_connects_last() -> Result<()> {
    let (_dir, coordinator, node) = with_node().await?;
    let agent = node.identity.agent;
    let process = |started: i64| Hello {
        started: Timestamp(started),
        instance: InstanceId::new(u128::try_from(started).unwrap_or_default()),
        ..node.hello()
    };
    let (mut first, frame) = node.greet(coordinator.port, &process(10)).await?;
    let _: Welcome = frame.decode()?;
    beats(&mut first, 1).await?;
    // Another connection of the same process, as after a change of address.
    let (mut again, frame) = node.greet(coordinator.port, &process(10)).await?;
    let _: Welcome = frame.decode()?;
    ensure!(close_code(&first.connection).await? == CloseCode::Replaced);
    beats(&mut again, 1).await?;
    // A newer process.
    let (mut newer, frame) = node.greet(coordinator.port, &process(20)).await?;
    let _: Welcome = frame.decode()?;
    ensure!(close_code(&again.connection).await? == CloseCode::Replaced);
    beats(&mut newer, 1).await?;
    // The older one asks once more.
    let older = node.begin(coordinator.port, &process(10)).await?;
    ensure!(close_code(&older.connection).await? == CloseCode::Replaced);
    beats(&mut newer, 2).await?;
    ensure!(state(&coordinator, agent).await? == AgentState::Alive);
    // Once that is gone, it is let in.
    newer.connection.close(0u32.into(), b"");
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let mut older = node.begin(coordinator.port, &process(10)).await?;
        if let Ok(frame) = tokio::time::timeout(LIMIT, older.control.next()).await? {
            let _: Welcome = frame.decode()?;
            break;
        }
        ensure!(tokio::time::Instant::now() < deadline, "it is never let in");
    }
    coordinator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_an_agent_is_kept_out_while_the_first_is_there() -> Result<()> {
    let (_dir, coordinator, node) = with_node().await?;
    let (mut first, frame) = node.greet(coordinator.port, &node.hello()).await?;
    let _: Welcome = frame.decode()?;
    let (code, with) = (RefusedCode::Identity, CloseCode::Identity);
    // Newer, too: on another engine it is no successor.
    let engine = Hello {
        fingerprint: "another engine".to_owned(),
        started: Timestamp(99),
        ..node.hello()
    };
    let machine = Hello {
        machine: "another machine".to_owned(),
        ..engine.clone()
    };
    for copy in [&engine, &machine] {
        let (link, frame) = node.greet(coordinator.port, copy).await?;
        refused(&link, &frame, code, with).await?;
        beats(
            &mut first,
            if copy.machine == machine.machine {
                2
            } else {
                1
            },
        )
        .await?;
    }
    first.connection.close(0u32.into(), b"");
    // A machine that got a new engine is itself; another machine has to join.
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let (link, frame) = node.greet(coordinator.port, &engine).await?;
        if frame.decode::<Welcome>().is_ok() {
            break;
        }
        refused(&link, &frame, code, with).await?;
        ensure!(tokio::time::Instant::now() < deadline, "it is never let in");
    }
    let (link, frame) = node.greet(coordinator.port, &machine).await?;
    refused(&link, &frame, code, with).await?;
    coordinator.stop().await;
    Ok(())
}
