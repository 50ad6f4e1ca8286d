//! Agents and coordinators of releases that do not understand each other.

use anyhow::Result;
use longshore_common::ids::AgentId;
use longshore_common::wire::{ALPN_AGENT_BARE, Cap, CloseCode, HelloBare, Incompatible, PROTOCOLS};
use longshore_link::{FrameReader, send};
use longshore_tests::load::in_process::InProcess;
use longshore_tests::load::install_tls;
use longshore_tests::load::raw::{Node, close_code, dial, node};
use std::time::Duration;
use tempfile::TempDir;

/// Nothing here takes longer on a machine that is well.
const LIMIT: Duration = Duration::from_secs(20);

async fn coordinator() -> Result<(TempDir, InProcess)> {
    install_tls();
    let dir = tempfile::tempdir()?;
    let coordinator = InProcess::start(dir.path()).await?;
    Ok((dir, coordinator))
}

fn bare(node: &Node) -> HelloBare {
    HelloBare {
        agent: node.identity.agent,
        cluster: node.identity.cluster,
        name: node.identity.name.clone(),
        version: "7.1.0".to_owned(),
        protocols: vec![8, 7],
    }
}

async fn say(
    coordinator: &InProcess,
    node: &Node,
    hello: &HelloBare,
) -> Result<(quinn::Endpoint, quinn::Connection, FrameReader)> {
    let tls = node.files.link_config()?;
    let cluster = Some(node.identity.cluster);
    let (endpoint, connection) = dial(coordinator.port, tls, ALPN_AGENT_BARE, cluster).await?;
    let (mut out, back) = connection.open_bi().await?;
    send(&mut out, hello).await?;
    Ok((endpoint, connection, FrameReader::new(back, Cap::HELLO)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_another_protocol_is_told_and_shown_until_it_was_updated() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let node = node(&coordinator, dir.path(), "gpu01").await?;
    let live = coordinator.engine.live.agent(node.identity.agent);
    let (_endpoint, connection, mut frames) = say(&coordinator, &node, &bare(&node)).await?;
    let frame = tokio::time::timeout(LIMIT, frames.next()).await??;
    let answer: Incompatible = frame.decode()?;
    assert_eq!(answer.protocols, PROTOCOLS);
    assert_eq!(answer.retry_after_ms, 300_000);
    let shown = live.details().incompatible.unwrap_or_default();
    assert!(
        shown.contains("the agent 7.1.0 speaks protocol 8 and 7"),
        "{shown}"
    );
    assert!(shown.ends_with("update the coordinator"), "{shown}");
    connection.close(0_u32.into(), b"");
    let link = node.link(coordinator.port).await?;
    assert_eq!(live.details().incompatible, None, "it was updated");
    drop(link);
    coordinator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_itself_alone_an_agent_says_what_it_speaks() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let node = node(&coordinator, dir.path(), "gpu01").await?;
    let another = HelloBare {
        agent: AgentId::new(1),
        ..bare(&node)
    };
    let (_endpoint, connection, _frames) = say(&coordinator, &node, &another).await?;
    assert_eq!(close_code(&connection).await?, CloseCode::Revoked);
    let live = coordinator.engine.live.agent(node.identity.agent);
    assert_eq!(live.details().incompatible, None);
    // And nobody without a certificate.
    let tls = node.files.trust_config()?;
    let cluster = Some(node.identity.cluster);
    let (_endpoint, connection) = dial(coordinator.port, tls, ALPN_AGENT_BARE, cluster).await?;
    assert_eq!(close_code(&connection).await?, CloseCode::Revoked);
    coordinator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_protocol_nobody_knows_gets_no_connection_and_harms_none() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let node = node(&coordinator, dir.path(), "gpu01").await?;
    let tls = node.files.link_config()?;
    let cluster = Some(node.identity.cluster);
    let unknown = dial(coordinator.port, tls, b"longshore-agent/9", cluster).await;
    assert!(unknown.is_err());
    assert!(node.link(coordinator.port).await.is_ok());
    coordinator.stop().await;
    Ok(())
}
