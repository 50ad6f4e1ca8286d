//! What the agents' side of the coordinator does with those it should not trust, and what
//! an agent does with a coordinator it should not trust. Everything over real QUIC.

use anyhow::{Context as _, Result, anyhow, bail};
use longshore_agent::identity::{Files, Token, join_config, new_key};
use longshore_agent::link::{JoinError, JoinOrder, join};
use longshore_common::agent::RuntimeState;
use longshore_common::api::Progress;
use longshore_common::ids::{
    AgentId, Attempt, ClusterId, ContainerKey, Fence, Generation, Rank, SessionId,
};
use longshore_common::session::{ContainerState, End, Exit, SessionState};
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    ALPN_AGENT, ALPN_ENROL, ActualSet, Cap, CloseCode, ContainerReport, Data, EnrolAnswer,
    EnrolRefusal, EnrolRefused, EnrolRequest, Goodbye, Heartbeat, HeartbeatAck, Hello,
    InventoryReport, LogsRequest, Message, Outcome, OutcomeAck, OutcomeNumber, OutputKind,
    PullProgress, StreamAccept, StreamOpen, Totals, encode,
};
use longshore_coordinator::cluster::ClusterError;
use longshore_coordinator::pki::Pki;
use longshore_core::model::{Event, Session, State};
use longshore_link::{FrameReader, MAX_DATA_STREAMS, send};
use longshore_tests::load::fleet::{Fleet, FleetConfig};
use longshore_tests::load::in_process::{InProcess, job};
use longshore_tests::load::install_tls;
use longshore_tests::load::raw::{Link, Node, close_code, dial, node, order};
use quinn::crypto::rustls::QuicServerConfig;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Nothing here takes longer on a machine that is well.
const LIMIT: Duration = Duration::from_secs(20);
const DAY: i64 = 86_400;

async fn coordinator() -> Result<(TempDir, InProcess)> {
    install_tls();
    let dir = tempfile::tempdir()?;
    let coordinator = InProcess::start(dir.path()).await?;
    Ok((dir, coordinator))
}

fn request(token: &Token, name: &str) -> Result<EnrolRequest> {
    let (_, csr) = new_key()?;
    Ok(EnrolRequest {
        token_id: token.id.clone(),
        secret: token.secret.clone(),
        csr,
        name: name.to_owned(),
        fingerprint: "f".to_owned(),
        machine: "m".to_owned(),
        version: "0".to_owned(),
    })
}

/// The enrolment's conversation, word for word.
async fn enrol(
    coordinator: &InProcess,
    token: &Token,
    request: &EnrolRequest,
) -> Result<Result<EnrolAnswer, EnrolRefused>> {
    let tls = join_config(token.pin);
    let (_endpoint, connection) = dial(coordinator.port, tls, ALPN_ENROL, None).await?;
    let (mut out, back) = connection.open_bi().await?;
    send(&mut out, request).await?;
    out.finish()?;
    let mut frames = FrameReader::new(back, Cap::HELLO);
    let frame = tokio::time::timeout(LIMIT, frames.next()).await??;
    if frame.kind == EnrolRefused::KIND {
        return Ok(Err(frame.decode()?));
    }
    Ok(Ok(frame.decode()?))
}

async fn refusal(
    coordinator: &InProcess,
    token: &Token,
    request: &EnrolRequest,
) -> Result<EnrolRefusal> {
    match enrol(coordinator, token, request).await? {
        Ok(answer) => bail!("{} was let in", answer.name),
        Err(refused) => Ok(refused.code),
    }
}

async fn fleet(coordinator: &InProcess, dir: &Path, agents: u32) -> Result<Fleet> {
    let fleet = Fleet::join(FleetConfig {
        coordinator: coordinator.address(),
        token: coordinator.token(agents, DAY).await?,
        agents,
        gpus: 1,
        cpu: 8,
        mem_mib: 8192,
        run: Duration::from_secs(600),
        dir: dir.to_owned(),
    })
    .await?;
    fleet.all_linked(LIMIT).await?;
    Ok(fleet)
}

// ---- joining ----------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_with_another_authority_gets_no_byte_of_the_token() -> Result<()> {
    let (_dir, true_one) = coordinator().await?;
    let token = true_one.token(1, DAY).await?;
    // As good a coordinator as any, but for its authority.
    let other = tempfile::tempdir()?;
    let pki = Pki::open(other.path(), ClusterId::new(1), &[])?;
    let tls = QuicServerConfig::try_from(pki.agents_config(&[ALPN_ENROL])?)?;
    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let endpoint = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into())?;
    let address = endpoint.local_addr()?.to_string();
    let heard = tokio::spawn(async move {
        let incoming = endpoint.accept().await.context("nobody dialled")?;
        match incoming.await {
            Err(_) => Ok(0),
            Ok(connection) => match connection.accept_bi().await {
                Err(_) => Ok(0),
                Ok((_, mut back)) => anyhow::Ok(back.read_to_end(1 << 16).await?.len()),
            },
        }
    });
    let node = tempfile::tempdir()?;
    let files = Files::new(node.path());
    let joined = join(
        JoinOrder {
            address,
            ..order(&true_one, &token, "gpu01")?
        },
        &files,
    )
    .await;
    assert!(
        matches!(joined, Err(JoinError::WrongAuthority { .. })),
        "{joined:?}"
    );
    assert_eq!(heard.await??, 0, "bytes the impostor heard");
    assert!(!files.exist());
    true_one.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in_whom_it_was_made_for_and_nobody_else() -> Result<()> {
    let (_dir, coordinator) = coordinator().await?;
    let good = Token::parse(&coordinator.token(1, DAY).await?)?;
    let expired = Token::parse(&coordinator.token(1, -1).await?)?;
    let unknown = Token {
        id: "nobody".to_owned(),
        ..good.clone()
    };
    let guessed = Token {
        secret: vec![0; 16],
        ..good.clone()
    };
    for (token, wanted) in [
        (&unknown, EnrolRefusal::TokenUnknown),
        (&guessed, EnrolRefusal::TokenUnknown),
        (&expired, EnrolRefusal::TokenExpired),
    ] {
        let refused = refusal(&coordinator, token, &request(token, "gpu01")?).await?;
        assert_eq!(refused, wanted);
    }
    assert_eq!(coordinator.look(|state| state.agents.len()).await?, 0);

    // The answer was lost: the same key asks again, and is the same agent.
    let first = request(&good, "gpu01")?;
    let let_in = enrol(&coordinator, &good, &first)
        .await?
        .map_err(|r| anyhow!(r.text))?;
    let again = enrol(&coordinator, &good, &first)
        .await?
        .map_err(|r| anyhow!(r.text))?;
    assert_eq!(
        (again.agent, &again.name, again.cluster),
        (let_in.agent, &let_in.name, let_in.cluster)
    );
    assert_eq!(coordinator.look(|state| state.agents.len()).await?, 1);

    let second = refusal(&coordinator, &good, &request(&good, "gpu02")?).await?;
    assert_eq!(second, EnrolRefusal::TokenUsedUp);
    assert_eq!(coordinator.look(|state| state.agents.len()).await?, 1);
    coordinator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_ten_failures_an_address_is_not_listened_to() -> Result<()> {
    let (_dir, coordinator) = coordinator().await?;
    let good = Token::parse(&coordinator.token(1, DAY).await?)?;
    let guessed = Token {
        secret: vec![1; 16],
        ..good.clone()
    };
    for attempt in 1..=10 {
        let refused = refusal(&coordinator, &guessed, &request(&guessed, "gpu01")?).await?;
        assert_eq!(refused, EnrolRefusal::TokenUnknown, "attempt {attempt}");
    }
    let refused = refusal(&coordinator, &good, &request(&good, "gpu01")?).await?;
    assert_eq!(refused, EnrolRefusal::Throttled, "even with a good token");
    assert_eq!(coordinator.look(|state| state.agents.len()).await?, 0);
    coordinator.stop().await;
    Ok(())
}

// ---- certificates -------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_link_needs_a_certificate_of_this_authority() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let node = node(&coordinator, dir.path(), "gpu01").await?;
    let cluster = node.identity.cluster;

    // None at all.
    let tls = node.files.trust_config()?;
    let (_endpoint, connection) = dial(coordinator.port, tls, ALPN_AGENT, Some(cluster)).await?;
    assert_eq!(close_code(&connection).await?, CloseCode::Revoked);

    // The same names, signed by another authority of the same cluster id.
    let other = tempfile::tempdir()?;
    let pki = Pki::open(other.path(), cluster, &[])?;
    let (key, csr) = new_key()?;
    let stolen = Node {
        identity: node.identity.clone(),
        files: Files::new(other.path()),
    };
    stolen.files.store(
        &node.identity,
        &key.serialize_pem(),
        &pki.issue_agent(node.identity.agent, &csr, 1)?,
        &coordinator.pki.ca_pem(),
    )?;
    let connected = match stolen.connect(coordinator.port).await {
        Err(_) => None,
        // The client of TLS 1.3 is done before the server has looked at its certificate.
        Ok((_endpoint, connection)) => {
            let ended = tokio::time::timeout(LIMIT, connection.closed()).await?;
            (!matches!(ended, quinn::ConnectionError::ConnectionClosed(_))).then_some(ended)
        }
    };
    assert!(connected.is_none(), "{connected:?}");
    assert!(!coordinator.cluster.is_connected(node.identity.agent));

    // A good certificate, and another's name in the hello.
    let (_endpoint, connection) = node.connect(coordinator.port).await?;
    let (mut out, _back) = connection.open_bi().await?;
    let hello = Hello {
        agent: AgentId::new(1),
        ..node.hello()
    };
    send(&mut out, &hello).await?;
    assert_eq!(close_code(&connection).await?, CloseCode::Revoked);

    // And the rightful one, for comparison.
    let link = node.link(coordinator.port).await?;
    assert!(coordinator.cluster.is_connected(node.identity.agent));
    assert!(link.connection.close_reason().is_none());
    drop(link);
    coordinator.stop().await;
    Ok(())
}

// ---- lies ---------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_of_anothers_session_changes_nothing() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let fleet = fleet(&coordinator, dir.path(), 1).await?;
    let id = coordinator.submit(job(&["sleep", "600"]), None).await?;
    let key = running(&coordinator, id).await?;
    let before = coordinator
        .look(move |state| state.sessions.get(&id).cloned())
        .await?;

    let live = &coordinator.engine.live;
    live.set_progress(key, Some(PULLED));

    let liar = node(&coordinator, dir.path(), "liar").await?;
    let link = liar.link(coordinator.port).await?;
    let (mut state_out, state_in) = link.connection.open_bi().await?;
    let mut state = FrameReader::new(state_in, Cap::STATE);
    for report in [ContainerState::Exited, ContainerState::Closed] {
        let set = ActualSet {
            items: vec![report_of(key, report)],
            applied: Generation(99),
            boot_id: "boot".to_owned(),
        };
        send(&mut state_out, &set).await?;
    }
    for (number, end) in [
        (OutcomeNumber::Ended, Some(End::Exited(exit()))),
        (OutcomeNumber::Closed, None),
    ] {
        // It is acknowledged, so that it is not said for ever; and it was looked at.
        outcome(&mut state_out, &mut state, key, number, end).await?;
    }
    assert_eq!(live.progress(key), Some(PULLED), "nor the figures of it");
    let after = coordinator
        .look(move |state| state.sessions.get(&id).cloned())
        .await?;
    assert_eq!(after, before);
    let claims = coordinator
        .look(move |state| state.ledger.contains_key(&key))
        .await?;
    assert!(claims, "its claim is still open");
    assert_eq!(coordinator.look(|state| state.check()).await?, Ok(()));
    assert_eq!(fleet.members[0].engine.len(), 1);
    fleet.stop().await;
    coordinator.stop().await;
    Ok(())
}

/// Figures are never stored, so nothing but memory bounds them: an agent is heard on its own
/// containers, with what it said last, as long as there is something to say of them.
#[tokio::test(flavor = "multi_thread")]
async fn figures_are_kept_of_an_agents_own_containers_and_not_for_ever() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let fleet = fleet(&coordinator, dir.path(), 1).await?;
    let other = fleet.members[0].id;
    let id = coordinator.submit(job(&["sleep", "600"]), None).await?;
    let foreign = running(&coordinator, id).await?;
    // What comes now goes to the agent that the test plays, which has as much.
    let off = Event::SetSchedulable {
        agent: other,
        version: None,
        schedulable: false,
    };
    let inventory = coordinator
        .engine
        .ask_then(off, move |state, _, _| {
            state.agents.get(&other).and_then(|a| a.inventory.clone())
        })
        .await?
        .context("the honest agent has no inventory")?;
    let node = node(&coordinator, dir.path(), "liar").await?;
    let agent = node.identity.agent;
    let mut link = node.link(coordinator.port).await?;
    link.control.set_cap(Cap::CONTROL);
    let (mut out, back) = link.connection.open_bi().await?;
    let mut state = FrameReader::new(back, Cap::DESIRED);
    let all = |items| ActualSet {
        items,
        applied: Generation(0),
        boot_id: "boot".to_owned(),
    };
    send(&mut out, &all(vec![])).await?;
    let inventory = InventoryReport {
        inventory: (*inventory).clone(),
    };
    send(&mut out, &inventory).await?;
    let id = coordinator.submit(job(&["sleep", "600"]), None).await?;
    let own = placed(&coordinator, id, agent).await?;

    // Use, in heartbeats: of its own container, of another's, of many that there never were.
    let live = &coordinator.engine.live;
    let used = |key, state| ContainerReport {
        idle_deadline: Some(Timestamp(1)),
        frozen: true,
        idle: false,
        used_at: None,
        image: None,
        ..report_of(key, state)
    };
    let nobodys = (1000..1010).map(key_of);
    let lies: Vec<_> = nobodys.clone().chain([foreign]).collect();
    let said = [own].into_iter().chain(lies.iter().copied());
    let said = said.map(|key| used(key, ContainerState::Created)).collect();
    beats(&coordinator, &mut link, said).await?;
    assert!(live.idle(agent, own).is_some_and(|idle| idle.frozen));
    for key in &lies {
        assert_eq!(live.idle(agent, *key), None, "{key}");
    }
    // The whole takes the place of what was said before.
    let lie = lies.iter().map(|key| used(*key, ContainerState::Running));
    send(&mut out, &all(lie.collect())).await?;
    heard(&mut out, &mut state).await?;
    for key in lies.iter().chain([&own]) {
        assert_eq!(live.idle(agent, *key), None, "{key}");
    }

    // Progress: of its own container, until its session is lost with it.
    let runs = vec![report_of(own, ContainerState::Running)];
    beats(&coordinator, &mut link, runs).await?;
    running(&coordinator, id).await?;
    for key in lies.iter().chain([&own]) {
        let progress = PullProgress {
            key: *key,
            bytes_done: PULLED.bytes_done,
            bytes_total: 0,
            layers_done: 0,
            layers_total: 0,
        };
        send(&mut out, &progress).await?;
    }
    heard(&mut out, &mut state).await?;
    assert_eq!(live.progress(own), Some(PULLED));
    for key in &lies {
        assert_eq!(live.progress(*key), None, "{key}");
    }
    for for_ms in [20_000, 700_000] {
        let silent = Event::Silent {
            agent,
            for_ms,
            lost_after_ms: 15_000,
        };
        let told = coordinator.engine.ask(silent).await?;
        told.map_err(|refusal| anyhow!(refusal.detail))?;
    }
    let known = move |state: &State| state.sessions.get(&id).map(|s| s.state);
    assert_eq!(coordinator.look(known).await?, Some(SessionState::Error));
    assert_eq!(live.progress(own), None, "its session is over");
    fleet.stop().await;
    coordinator.stop().await;
    Ok(())
}

/// How far a pull is that the tests speak of.
const PULLED: Progress = Progress {
    bytes_done: 7,
    bytes_total: None,
    layers_done: 0,
    layers_total: None,
};

fn key_of(session: u64) -> ContainerKey {
    ContainerKey {
        session: SessionId(session),
        rank: Rank::MAIN,
        attempt: Attempt::FIRST,
    }
}

/// Sends an outcome and waits until it is acknowledged.
async fn outcome(
    out: &mut quinn::SendStream,
    frames: &mut FrameReader,
    key: ContainerKey,
    number: OutcomeNumber,
    end: Option<End>,
) -> Result<()> {
    let outcome = Outcome {
        key,
        number,
        end,
        started_at: None,
        at: Timestamp(1),
        tail: b"lies".to_vec(),
        totals: Totals::default(),
        devices: Vec::new(),
    };
    send(out, &outcome).await?;
    loop {
        let frame = tokio::time::timeout(LIMIT, frames.next()).await??;
        if frame.kind == OutcomeAck::KIND {
            let ack: OutcomeAck = frame.decode()?;
            assert_eq!((ack.key, ack.number), (key, number));
            return Ok(());
        }
    }
}

/// Waits until everything that was sent on the state stream was looked at: what comes last
/// is answered.
async fn heard(out: &mut quinn::SendStream, frames: &mut FrameReader) -> Result<()> {
    outcome(out, frames, key_of(9999), OutcomeNumber::Closed, None).await
}

/// Sends a heartbeat with reports and waits until they were looked at.
async fn beats(
    coordinator: &InProcess,
    link: &mut Link,
    changed: Vec<ContainerReport>,
) -> Result<()> {
    // That the second is answered says that the engine has been told of the first.
    for (seq, changed) in [(1, changed), (2, vec![])] {
        let beat = Heartbeat {
            seq,
            applied: Generation(0),
            actual_hash: 0,
            changed,
            more: false,
            runtime: RuntimeState::Up,
            load: None,
            now: Timestamp(1),
        };
        send(&mut link.control_out, &beat).await?;
        let frame = tokio::time::timeout(LIMIT, link.control.next()).await??;
        let ack: HeartbeatAck = frame.decode()?;
        assert_eq!(ack.seq, seq);
    }
    coordinator.look(|_| ()).await
}

/// The container of a session, once it has its place at this agent.
async fn placed(coordinator: &InProcess, id: SessionId, agent: AgentId) -> Result<ContainerKey> {
    until(coordinator, id, move |session| {
        session.present().find(|c| c.agent == agent).map(|c| c.key)
    })
    .await
    .context("it has no place there")
}

async fn running(coordinator: &InProcess, id: SessionId) -> Result<ContainerKey> {
    until(coordinator, id, |session| {
        let runs = session.state == SessionState::Running;
        let first = session.containers.first().filter(|_| runs);
        first.map(|c| c.key)
    })
    .await
    .context("it does not run")
}

/// What `find` finds of a session, once it finds something.
async fn until<T: Send + 'static>(
    coordinator: &InProcess,
    id: SessionId,
    find: impl Fn(&Session) -> Option<T> + Copy + Send + 'static,
) -> Result<T> {
    let until = tokio::time::Instant::now() + LIMIT;
    loop {
        let mut watch = coordinator.engine.watch(id);
        let found = coordinator
            .look(move |state| state.sessions.get(&id).and_then(find))
            .await?;
        if let Some(found) = found {
            return Ok(found);
        }
        tokio::time::timeout_at(until, watch.changed()).await?;
    }
}

fn report_of(key: ContainerKey, state: ContainerState) -> ContainerReport {
    ContainerReport {
        key,
        state,
        docker_id: "0123456789ab".to_owned(),
        started_at: None,
        fence: Fence(1),
        idle_deadline: None,
        frozen: false,
        idle: false,
        used_at: None,
        image: None,
    }
}

fn exit() -> Exit {
    Exit {
        code: 1,
        signal: None,
        oom: false,
        at: Timestamp(1),
    }
}

// ---- bytes --------------------------------------------------------------------

/// A frame whose header says what the test wants.
fn frame(len: u32, kind: u16, ver: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&ver.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_close_their_own_connection_and_no_other() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let fleet = fleet(&coordinator, dir.path(), 1).await?;
    let honest = fleet.members[0].id;
    let node = node(&coordinator, dir.path(), "broken").await?;
    let hello = encode(&node.hello());
    let mut trailing = hello.clone();
    trailing.push(0);
    let longer = u32::try_from(hello.len() - 8 + 1)?;
    trailing[..4].copy_from_slice(&longer.to_be_bytes());
    let garbage: Vec<u8> = (0..600_u32).map(|n| (n * 167 % 251) as u8).collect();
    let version = {
        let mut bytes = hello.clone();
        bytes[7] = 0xff;
        bytes
    };
    let too_long = Hello {
        version: "x".repeat(5000),
        ..node.hello()
    };
    let first: [(&str, Vec<u8>, CloseCode); 8] = [
        ("garbage", garbage, CloseCode::Limit),
        (
            "a length without end",
            frame(u32::MAX, Hello::KIND, 1, b""),
            CloseCode::Limit,
        ),
        (
            "one byte above the cap",
            frame(Cap::HELLO.0 + 1, Hello::KIND, 1, b""),
            CloseCode::Limit,
        ),
        ("a byte too many", trailing, CloseCode::Protocol),
        (
            "another first frame",
            encode(&Goodbye { leaving: false }),
            CloseCode::Protocol,
        ),
        ("an unknown version", version, CloseCode::Protocol),
        (
            "half a frame",
            hello[..hello.len() / 2].to_vec(),
            CloseCode::Protocol,
        ),
        ("a text too long", encode(&too_long), CloseCode::Limit),
    ];
    for (what, bytes, wanted) in first {
        let (_endpoint, connection) = node.connect(coordinator.port).await?;
        let (mut out, _back) = connection.open_bi().await?;
        out.write_all(&bytes).await?;
        out.finish()?;
        let code = close_code(&connection).await.context(what)?;
        assert_eq!(code, wanted, "{what}");
    }

    // The same behind a good hello, on either stream.
    let mut link = node.link(coordinator.port).await?;
    let long = frame(Cap::CONTROL.0 + 1, Hello::KIND, 1, b"");
    link.control_out.write_all(&long).await?;
    assert_eq!(close_code(&link.connection).await?, CloseCode::Limit);
    let link = node.link(coordinator.port).await?;
    let (mut out, _back) = link.connection.open_bi().await?;
    out.write_all(&frame(0, 0x7fff, 1, b"")).await?;
    assert_eq!(close_code(&link.connection).await?, CloseCode::Protocol);
    let link = node.link(coordinator.port).await?;
    let (mut out, _back) = link.connection.open_bi().await?;
    out.write_all(&frame(Cap::STATE.0 + 1, ActualSet::KIND, 1, b""))
        .await?;
    assert_eq!(close_code(&link.connection).await?, CloseCode::Limit);

    // Nobody else noticed.
    assert!(coordinator.cluster.is_connected(honest));
    let acks = fleet.acks();
    tokio::time::timeout(LIMIT, async {
        while fleet.acks() < acks + 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .context("the honest agent's heartbeats are not answered")?;
    let id = coordinator.submit(job(&["sleep", "600"]), None).await?;
    running(&coordinator, id).await?;
    assert_eq!(coordinator.look(|state| state.check()).await?, Ok(()));
    fleet.stop().await;
    coordinator.stop().await;
    Ok(())
}

// ---- the end ----

/// So that agents know that their coordinator comes back, and when to ask.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_stops_says_so() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let node = node(&coordinator, dir.path(), "gpu01").await?;
    let link = node.link(coordinator.port).await?;
    coordinator.cluster.say_goodbye();
    coordinator.stop().await;
    assert_eq!(close_code(&link.connection).await?, CloseCode::Restarting);
    Ok(())
}

// ---- patience -----------------------------------------------------------------

/// Readers of output who read nothing, as many as there may be: what waits for them must not
/// be counted against the heartbeats of the same connection.
#[tokio::test(flavor = "multi_thread")]
async fn output_that_nobody_reads_does_not_hold_up_heartbeats() -> Result<()> {
    let (dir, coordinator) = coordinator().await?;
    let node = node(&coordinator, dir.path(), "gpu01").await?;
    let mut link = node.link(coordinator.port).await?;
    let agent = node.identity.agent;
    let key = key_of(1);
    let request = LogsRequest {
        key,
        position: 0,
        tail_lines: None,
        follow: true,
        joined: false,
    };
    let writing = tokio::spawn(write_to_all(link.connection.clone()));
    let mut unread = Vec::new();
    for number in 0..MAX_DATA_STREAMS {
        let opened = coordinator.cluster.logs(agent, request.clone()).await;
        unread.push(opened.with_context(|| format!("stream {number}"))?);
    }
    let more = coordinator.cluster.logs(agent, request).await;
    assert!(
        matches!(more, Err(ClusterError::Refused(_))),
        "one too many"
    );
    let written = tokio::time::timeout(LIMIT, writing).await???;
    assert!(written > 8 << 20, "{written} bytes wait for nobody");

    let beat = Heartbeat {
        seq: 1,
        applied: Generation(0),
        actual_hash: 0,
        changed: Vec::new(),
        more: false,
        runtime: RuntimeState::Up,
        load: None,
        now: Timestamp(1),
    };
    link.control.set_cap(Cap::CONTROL);
    tokio::time::timeout(LIMIT, send(&mut link.control_out, &beat))
        .await
        .context("a heartbeat cannot be sent")??;
    let frame = tokio::time::timeout(LIMIT, link.control.next()).await??;
    let ack: HeartbeatAck = frame.decode()?;
    assert_eq!(ack.seq, 1);
    // Each beat carries the end of the audit log.
    let stored = coordinator.look(|state| state.audit).await?;
    assert_eq!((ack.audit.seq, ack.audit.hash), (stored.seq, stored.hash));
    drop(unread);
    coordinator.stop().await;
    Ok(())
}

/// Serves every stream with output until none of them takes any more; how much that was.
async fn write_to_all(connection: quinn::Connection) -> Result<usize> {
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..MAX_DATA_STREAMS {
        let (mut out, back) = connection.accept_bi().await?;
        writers.spawn(async move {
            let mut frames = FrameReader::new(back, Cap::DATA);
            let _: StreamOpen = frames.next().await?.decode()?;
            send(&mut out, &StreamAccept {}).await?;
            let piece = Data {
                position: 0,
                kind: OutputKind::Stdout,
                at: Timestamp(1),
                bytes: vec![b'x'; 32 << 10],
            };
            let mut written = 0;
            // Full is who takes nothing for a second.
            while tokio::time::timeout(Duration::from_secs(1), send(&mut out, &piece))
                .await
                .is_ok()
            {
                written += piece.bytes.len();
            }
            anyhow::Ok((written, out, frames))
        });
    }
    let mut ends = Vec::new(); // kept open: what was written keeps waiting
    let mut written = 0;
    while let Some(done) = writers.join_next().await {
        let (bytes, out, frames) = done??;
        written += bytes;
        ends.push((out, frames));
    }
    tokio::spawn(async move {
        let _ends = ends;
        connection.closed().await;
    });
    Ok(written)
}
