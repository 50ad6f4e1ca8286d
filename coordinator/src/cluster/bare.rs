//! Agents that speak no protocol of ours: they say who they are, and hear what they lack.

use super::admit::greeted;
use super::alarms::alarm;
use super::link::{Ending, gone};
use super::{Shared, lock};
use crate::pki::PeerIdentity;
use longshore_common::agent::AgentState;
use longshore_common::wire::{CloseCode, HelloBare, Incompatible, PROTOCOLS, Speaks, incompatible};
use longshore_core::model::State;
use longshore_link::send;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::warn;

/// An agent that is too old asks again after so long: people update it meanwhile.
const AGAIN_MS: u32 = 300_000;
/// What becomes of its node until then: it says nothing that could be understood.
const MEANWHILE: &str =
    "until then its node counts as lost, and its sessions once declare_lost_s of its group is over";
/// The answer gets so long to arrive.
const ARRIVES: Duration = Duration::from_secs(5);

/// Takes what such an agent says, and answers it.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    connection: &quinn::Connection,
    identity: PeerIdentity,
) -> Result<(), Ending> {
    let agent = identity.agent;
    let (mut out, _back, hello) = greeted::<HelloBare>(shared, connection, agent).await?;
    // One above the rate of hellos hears what it lacks, which costs nothing, and nothing is asked
    // of the engine for it: it is looked up when it comes again.
    let taken = lock(&shared.hellos).take(Instant::now());
    if let Err(wait) = taken {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        return tell(&mut out, wait_ms).await;
    }
    let look = move |state: &State, _| {
        let known = state.agents.get(&agent);
        known.is_some_and(|known| {
            known.state != AgentState::Terminated && known.keys.contains(&identity.key)
        })
    };
    if hello.agent != agent || !shared.engine.read_when_room(look).await? {
        let text = "the agent is not of this cluster".to_owned();
        return Err(Ending::Refused(CloseCode::Revoked, text));
    }
    let ours = Speaks {
        version: env!("CARGO_PKG_VERSION"),
        protocols: PROTOCOLS,
    };
    let theirs = Speaks {
        version: &hello.version,
        protocols: &hello.protocols,
    };
    let text = incompatible(theirs, ours);
    warn!(%agent, name = hello.name, %text, "agent of another protocol: {MEANWHILE}");
    let live = shared.engine.live.agent(agent);
    live.update(|details| details.incompatible = Some(text.clone()));
    let told = format!("{text}; {MEANWHILE}");
    alarm(shared, agent, ("incompatible", None), &told).await?;
    tell(&mut out, AGAIN_MS).await
}

/// Says what we speak, and when to ask again.
async fn tell(out: &mut quinn::SendStream, retry_after_ms: u32) -> Result<(), Ending> {
    let message = Incompatible {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocols: PROTOCOLS.to_vec(),
        retry_after_ms,
    };
    send(out, &message).await?;
    let _ = out.finish(); // a peer that is gone already needs no end
    let arrived = tokio::time::timeout(ARRIVES, out.stopped()).await;
    match arrived {
        Ok(_) => Ok(()),
        Err(_) => Err(gone(&"it takes no answer")),
    }
}
