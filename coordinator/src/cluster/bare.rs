//! Agents that speak no protocol of ours: they say who they are, and hear what they lack.

use super::Shared;
use super::admit::greeted;
use super::alarms::alarm;
use super::link::{Ending, gone};
use crate::pki::PeerIdentity;
use longshore_common::agent::AgentState;
use longshore_common::wire::{CloseCode, HelloBare, Incompatible, PROTOCOLS, Speaks, incompatible};
use longshore_core::model::State;
use longshore_link::send;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// An agent that is too old asks again after so long: people update it meanwhile.
const AGAIN_MS: u32 = 300_000;
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
    warn!(%agent, name = hello.name, %text, "agent of another protocol");
    let live = shared.engine.live.agent(agent);
    live.update(|details| details.incompatible = Some(text.clone()));
    alarm(shared, agent, ("incompatible", None), &text).await?;
    let message = Incompatible {
        version: ours.version.to_owned(),
        protocols: PROTOCOLS.to_vec(),
        retry_after_ms: AGAIN_MS,
    };
    send(&mut out, &message).await?;
    let _ = out.finish(); // a peer that is gone already needs no end
    let arrived = tokio::time::timeout(ARRIVES, out.stopped()).await;
    match arrived {
        Ok(_) => Ok(()),
        Err(_) => Err(gone(&"it takes no answer")),
    }
}
