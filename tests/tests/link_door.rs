//! How much the coordinator does for peers before it knows them. Everything over real QUIC.

use anyhow::{Result, bail};
use longshore_common::wire::{ALPN_AGENT, ALPN_ENROL, CloseCode};
use longshore_tests::load::in_process::InProcess;
use longshore_tests::load::install_tls;
use longshore_tests::load::raw::{close_code, dial, node};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing here takes longer on a machine that is well.
const LIMIT: Duration = Duration::from_secs(20);

async fn coordinator() -> Result<(TempDir, InProcess)> {
    install_tls();
    let dir = tempfile::tempdir()?;
    let coordinator = InProcess::start(dir.path()).await?;
    Ok((dir, coordinator))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_gets_one_stream_and_five_seconds() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let node = node(&coordinator, dir.path(), "gpu01").await?;
    let tls = node.files.trust_config()?;
    let cluster = Some(node.identity.cluster);
    let began = Instant::now();
    let (_endpoint, connection) = dial(coordinator.port, tls, ALPN_ENROL, cluster).await?;
    let (mut out, _back) = connection.open_bi().await?;
    // A frame is announced and does not come.
    out.write_all(&[0, 0, 0x3f, 0xff, 0, 40, 0, 1]).await?;
    let more = async {
        (
            connection.open_bi().await.err(),
            connection.open_uni().await.err(),
        )
    };
    let (both_ways, one_way) = tokio::time::timeout(LIMIT, more).await?;
    assert!(
        both_ways.is_some() && one_way.is_some(),
        "only the end came"
    );
    assert_eq!(close_code(&connection).await?, CloseCode::Limit);
    assert!(began.elapsed() < Duration::from_secs(10));
    // An agent that is taken in has all it needs.
    let link = node.link(coordinator.port).await?;
    let mut open = Vec::new();
    for _ in 0..15 {
        open.push(tokio::time::timeout(LIMIT, link.connection.open_bi()).await??);
    }
    drop(link);
    coordinator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_reads_of_a_stranger_is_bounded() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let node = node(&coordinator, dir.path(), "gpu01").await?;
    // A certificate alone does not make it a peer that is taken in: nothing is read before the
    // stream was opened by its first bytes, and no more of it than its first frame.
    let (_endpoint, connection) = node.connect(coordinator.port).await?;
    let (mut out, _back) = connection.open_bi().await?;
    let mut taken = 0;
    let piece = [0; 4096];
    // Eight zeros are a frame of kind 0: it is refused, and all that follows stays where it is.
    let ended = loop {
        match tokio::time::timeout(LIMIT, out.write(&piece)).await? {
            Ok(bytes) => taken += bytes,
            Err(error) => break error,
        }
        if taken > 1 << 20 {
            bail!("{taken} bytes were taken");
        }
    };
    assert!(taken <= 128 << 10, "{taken} bytes, then {ended}");
    assert_eq!(close_code(&connection).await?, CloseCode::Protocol);
    coordinator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_whose_handshakes_come_to_nothing_has_to_wait_and_others_do_not() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let node = node(&coordinator, dir.path(), "gpu01").await?;
    let link = node.link(coordinator.port).await?;
    let cluster = Some(node.identity.cluster);
    let mut refused = None;
    for number in 0..200 {
        let tls = node.files.trust_config()?;
        match dial(coordinator.port, tls, ALPN_AGENT, cluster).await {
            Ok((_endpoint, connection)) => {
                assert_eq!(close_code(&connection).await?, CloseCode::Revoked);
            }
            Err(_) => {
                refused = Some(number);
                break;
            }
        }
    }
    let Some(refused) = refused else {
        bail!("two hundred were let in");
    };
    assert!(refused >= 10, "{refused} is too few");
    assert!(link.connection.close_reason().is_none(), "who is in stays");
    // It is over by itself.
    let began = Instant::now();
    while node.link(coordinator.port).await.is_err() {
        assert!(began.elapsed() < LIMIT, "it stays shut out");
    }
    coordinator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_has_few_connections_that_say_nothing() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let node = node(&coordinator, dir.path(), "gpu01").await?;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(node.connect(coordinator.port).await?);
    }
    let mut codes = Vec::new();
    for (_, connection) in &silent {
        let ended = tokio::time::timeout(LIMIT, connection.closed()).await?;
        let quinn::ConnectionError::ApplicationClosed(closed) = ended else {
            codes.push(None);
            continue;
        };
        codes.push(CloseCode::from_u64(closed.error_code.into_inner()));
    }
    let at_once = codes.iter().filter(|code| **code == Some(CloseCode::Limit));
    assert_eq!(at_once.count(), 1, "{codes:?}");
    assert!(node.link(coordinator.port).await.is_ok());
    coordinator.stop().await;
    Ok(())
}
