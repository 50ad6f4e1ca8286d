//! When keypairs were last used, on its way into the store.

use crate::engine::Engine;
use crate::identity::Identity;
use longshore_core::model::Event;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often it is stored: as old as the stored instant may be after a crash.
const EVERY: Duration = Duration::from_secs(60);

/// Stores it until the coordinator stops, and once more then.
pub async fn keep(identity: Arc<Identity>, engine: Engine, mut stopping: watch::Receiver<bool>) {
    loop {
        let over = tokio::select! {
            () = tokio::time::sleep(EVERY) => false,
            _ = stopping.wait_for(|stop| *stop) => true,
        };
        store(&identity, &engine).await;
        if over {
            return;
        }
    }
}

async fn store(identity: &Identity, engine: &Engine) {
    let uses = identity.new_uses();
    if uses.is_empty() {
        return;
    }
    // What could not be stored is stored with the next use; the engine has said why.
    if let Err(error) = engine.ask(Event::KeypairsUsed(uses)).await {
        tracing::debug!(?error, "the last use of keypairs was not stored");
    }
}
