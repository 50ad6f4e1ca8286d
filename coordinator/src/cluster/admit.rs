//! How an agent is taken in: what it says first, and whether it is let be.

use super::link::{Ending, FIRST_FRAME, gone};
use super::{Link, Shared, lock};
use crate::engine::{EngineError, wall_clock};
use crate::pki::PeerIdentity;
use longshore_common::agent::AgentState;
use longshore_common::ids::AgentId;
use longshore_common::wire::{
    Cap, CloseCode, Features, Hello, Message, OutcomeAck, Refused, RefusedCode, Welcome,
};
use longshore_core::model::{Answer, Event, HelloFacts, State, WelcomeFacts};
use longshore_link::{FrameReader, MAX_DATA_STREAMS, MAX_TUNNELS, close};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::{Notify, Semaphore, mpsc};
use tracing::{error, warn};

/// The first frame of an agent, and the streams it came on.
pub(super) async fn greeted<M: Message + DeserializeOwned>(
    shared: &Arc<Shared>,
    connection: &quinn::Connection,
    agent: AgentId,
) -> Result<(quinn::SendStream, FrameReader, M), Ending> {
    if !lock(&shared.greeting).begin(agent) {
        let text = "too many connections without a hello".to_owned();
        return Err(Ending::Refused(CloseCode::Limit, text));
    }
    let greeting = async {
        let (out, back) = connection.accept_bi().await.map_err(|e| gone(&e))?;
        let _ = out.set_priority(200);
        let mut control = FrameReader::new(back, Cap::HELLO);
        let hello: M = control.next().await?.decode()?;
        control.set_cap(Cap::CONTROL);
        Ok((out, control, hello))
    };
    let greeted = tokio::time::timeout(FIRST_FRAME, greeting).await;
    lock(&shared.greeting).end(agent);
    greeted.map_err(|_| gone(&"no first frame in time"))?
}

pub(super) async fn admit(
    shared: &Arc<Shared>,
    hello: &Hello,
    identity: PeerIdentity,
) -> Result<Result<WelcomeFacts, Refused>, Ending> {
    let refuse = |code, text: &str, retry_after_ms| Refused {
        code,
        text: text.to_owned(),
        retry_after_ms,
    };
    if let Err(wait) = lock(&shared.hellos).take(Instant::now()) {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let text = "many agents come at once; come again in a moment";
        return Ok(Err(refuse(RefusedCode::Busy, text, wait_ms)));
    }
    let (cluster, generation) = shared
        .engine
        .read(|state, _| (state.meta.cluster, state.meta.generation))
        .await?;
    if hello.agent != identity.agent || hello.cluster != cluster {
        return Ok(Err(refuse(
            RefusedCode::WrongCluster,
            "another cluster's agent",
            300_000,
        )));
    }
    let stale = hello.coordinator_generation > generation
        || (hello.coordinator_generation == generation
            && hello
                .coordinator_instance
                .is_some_and(|i| i != shared.instance));
    if stale {
        warn!(agent = %hello.agent, theirs = hello.coordinator_generation.0, ours = generation.0,
            "an agent has obeyed a newer coordinator; this one may be a restored copy");
        return Ok(Err(refuse(
            RefusedCode::StaleCoordinator,
            "this agent has obeyed a newer coordinator",
            300_000,
        )));
    }
    let other_engine_connected = shared
        .link(identity.agent)
        .is_some_and(|link| link.fingerprint != hello.fingerprint);
    let live = &shared.engine.live;
    if !live.witness(identity.agent, hello.audit) {
        error!(
            agent = %identity.agent,
            saw = hello.audit.seq,
            ends = live.audit_end().seq,
            "an agent saw more of the audit log than there is: its end was cut off, or an older database was put in its place"
        );
    }
    let facts = HelloFacts {
        agent: identity.agent,
        key: identity.key,
        fingerprint: hello.fingerprint.clone(),
        machine: hello.machine.clone(),
        boot_id: hello.boot_id.clone(),
        fence: hello.fence,
        other_engine_connected,
    };
    match shared.engine.ask(Event::Hello(Box::new(facts))).await {
        Err(EngineError::Busy) => Ok(Err(refuse(RefusedCode::Busy, "too much to do", 2000))),
        Err(error) => Err(error.into()),
        Ok(Ok(Answer::Welcome(welcome))) => Ok(Ok(welcome)),
        Ok(Ok(Answer::Refused(code, text))) => Ok(Err(refuse(code, &text, 300_000))),
        Ok(_) => Ok(Err(refuse(RefusedCode::Unknown, "no answer", 300_000))),
    }
}

pub(super) async fn welcome_message(
    shared: &Arc<Shared>,
    facts: WelcomeFacts,
    theirs: Features,
) -> Result<Welcome, Ending> {
    let (cluster, generation) = shared
        .engine
        .read(|state, _| (state.meta.cluster, state.meta.generation))
        .await?;
    let (heartbeat_ms, lost_after_ms) = {
        let terms = shared.config.terms.borrow();
        (terms.heartbeat_ms, terms.lost_after_ms)
    };
    Ok(Welcome {
        cluster,
        coordinator_generation: generation,
        coordinator_instance: shared.instance,
        fence: facts.fence,
        heartbeat_ms,
        lost_after_ms,
        lease_ms: facts.lease_ms,
        name: facts.name,
        group: facts.group,
        now: wall_clock(),
        addresses: shared.config.addresses.clone(),
        features: Features::OURS.both(theirs),
    })
}

/// Whether an agent belongs to the cluster no more.
pub(super) fn is_expelled(state: &State, agent: AgentId) -> bool {
    let known = state.agents.get(&agent);
    known.is_none_or(|known| known.state == AgentState::Terminated)
}

/// Takes the place of an older connection of the same agent. Of two processes on one
/// machine the newer wins, whichever connects last.
pub(super) fn register(
    shared: &Arc<Shared>,
    connection: &quinn::Connection,
    hello: &Hello,
    number: u64,
) -> Result<(Link, mpsc::UnboundedReceiver<OutcomeAck>), String> {
    let (acks, receiver) = mpsc::unbounded_channel();
    let link = Link {
        number,
        connection: connection.clone(),
        fingerprint: hello.fingerprint.clone(),
        started: hello.started,
        set_changed: Arc::new(Notify::new()),
        acks,
        generation: Arc::new(AtomicU64::new(0)),
        streams: Arc::new(Semaphore::new(MAX_DATA_STREAMS)),
        tunnels: Arc::new(Semaphore::new(MAX_TUNNELS)),
        since: Instant::now(),
    };
    let mut links = lock(&shared.links);
    if connection.close_reason().is_some() {
        return Err("the connection ended before it was taken in".to_owned());
    }
    if let Some(old) = links.get(&hello.agent) {
        if old.started == hello.started && old.number > number {
            return Err("a later connection of the same process is there".to_owned());
        }
        if old.fingerprint == hello.fingerprint && old.started > hello.started {
            return Err("a newer process of this agent is connected".to_owned());
        }
        close(
            &old.connection,
            CloseCode::Replaced,
            "a newer connection took over",
        );
    }
    links.insert(hello.agent, link.clone());
    shared.taken.fetch_add(1, Ordering::Relaxed);
    Ok((link, receiver))
}
