//! The end of the audit log, in the log of this process: whoever keeps that can tell when records
//! were cut off.

use crate::config::Config;
use crate::engine::Engine;
use longshore_identity::Sha256;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

/// How often a configuration wants it said.
#[must_use]
pub fn every(config: &Config) -> Duration {
    Duration::from_secs(u64::from(config.logging.audit_head_interval_s))
}

/// Says it at the start and then as often as `every` says, until the coordinator stops.
pub async fn say(engine: Engine, every: watch::Receiver<Duration>) {
    repeat(every, || {
        let engine = engine.clone();
        async move {
            let Ok(end) = engine.read_when_room(|state, _| state.audit).await else {
                return false; // the coordinator is stopping
            };
            let hash = Sha256::from_bytes(end.hash);
            info!(head = format!("{}:{hash}", end.seq), "end of the audit log");
            true
        }
    })
    .await;
}

/// Acts at once, and each time it is due since it acted last, by what `every` says by then; until
/// an act says that there are no more, or nobody could say how often.
async fn repeat<F: Future<Output = bool>>(
    mut every: watch::Receiver<Duration>,
    mut act: impl FnMut() -> F,
) {
    while act().await {
        let acted = Instant::now();
        loop {
            let due = acted + *every.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(due) => break,
                changed = every.changed() => if changed.is_err() { return },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::Mutex;

    #[tokio::test(start_paused = true)]
    async fn another_interval_counts_from_the_last_time() {
        let begun = Instant::now();
        let (set, every) = watch::channel(Duration::from_secs(3600));
        let acts = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&acts);
        let task = tokio::spawn(repeat(every, move || {
            noted.lock().unwrap().push(begun.elapsed().as_secs());
            std::future::ready(true)
        }));
        let at = async |s: u64| tokio::time::sleep_until(begun + Duration::from_secs(s)).await;
        at(4000).await;
        set.send(Duration::from_secs(600)).unwrap();
        at(5500).await;
        set.send(Duration::from_secs(60)).unwrap();
        at(5600).await;
        assert_eq!(
            *acts.lock().unwrap(),
            [0, 3600, 4200, 4800, 5400, 5500, 5560]
        );
        drop(set);
        task.await.unwrap();
    }
}
