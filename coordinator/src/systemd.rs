//! What systemd is told, where it started the coordinator.

use crate::engine::{Engine, EngineError};
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::task::JoinHandle;
use tracing::warn;

/// Tells it how this process stands.
pub fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "systemd could not be told");
    }
}

/// Tells it that all is well as long as the engine answers.
#[must_use]
pub fn watchdog(engine: Engine) -> JoinHandle<()> {
    tokio::spawn(async move {
        let Some(limit) = sd_notify::watchdog_enabled() else {
            return;
        };
        let every = (limit / 3).max(Duration::from_millis(100));
        loop {
            let answer = tokio::time::timeout(every, engine.read(|_, _| ())).await;
            if matches!(answer, Ok(Ok(()) | Err(EngineError::Busy))) {
                tell(&[NotifyState::Watchdog]);
            } else {
                warn!("the engine does not answer");
            }
            tokio::time::sleep(every).await;
        }
    })
}
