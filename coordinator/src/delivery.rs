//! Answers agents that ask what a container is given.
//!
//! What the first question of an attempt was answered with is the answer to all later ones of the
//! same attempt: an agent that was restarted asks again and gets the same, whatever became of the
//! vaults meanwhile.

use crate::cluster::records::signed;
use crate::engine::{Engine, EngineError};
use crate::pki::Pki;
use crate::vaults::{NotGiven, Vaults};
use longshore_common::ids::{AgentId, ContainerKey};
use longshore_common::wire::{Given, MAX_RECORD};
use longshore_core::model::{State, is_given, placement};

/// What a container on an agent is given.
///
/// # Errors
/// The engine has stopped.
pub async fn given(
    engine: &Engine,
    vaults: &Vaults,
    pki: &Pki,
    agent: AgentId,
    key: ContainerKey,
) -> Result<Given, EngineError> {
    let look = move |state: &State, _| {
        let session = state.sessions.get(&key.session)?;
        let given = is_given(state, agent, key);
        given.then(|| (session.cluster.size, placement(state, agent, key)))
    };
    let Some((size, placed)) = engine.read_when_room(look).await? else {
        return Ok(Given::Unknown);
    };
    let mut found = match vaults.deliver(engine, key.session, agent).await {
        Ok(found) => found,
        Err(NotGiven::Unknown) => return Ok(Given::Unknown),
        Err(NotGiven::Engine(error)) => return Err(error),
        Err(gone @ (NotGiven::Request { .. } | NotGiven::Gone { .. })) => {
            return Ok(Given::Unavailable(gone.to_string()));
        }
        Err(NotGiven::Vault { vault, why }) => {
            return Ok(Given::Unavailable(format!("vault {vault}: {why}")));
        }
    };
    found.cluster_key = (size > 1).then(|| pki.cluster_key(key.session, key.attempt));
    let record = placed.map(|placed| signed(pki, &placed));
    found.record = record.filter(|r| r.len() <= MAX_RECORD).unwrap_or_default();
    // An agent would take more for a broken peer and end the connection.
    Ok(match found.check() {
        Ok(()) => Given::Delivery(Box::new(std::mem::take(&mut *found))),
        Err(what) => Given::Unavailable(format!("what it is given is too large: {what}")),
    })
}
