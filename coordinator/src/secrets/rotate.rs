//! A new master key: all that is stored is brought under it, while the coordinator serves.

use crate::store::{RewrapPlace, Secrets, StoreError};
use std::time::{Duration, Instant};
use tracing::{error, info};

/// At a start nobody waits for it.
const RESUMING: Duration = Duration::from_secs(86_400);

/// Brings values under the present key until all are, or until `time` is over; a line says how
/// it stands.
///
/// # Errors
/// [`StoreError`]: what was done before it stays done.
pub async fn run(secrets: &Secrets, time: Duration) -> Result<Vec<String>, StoreError> {
    let until = Instant::now() + time;
    let mut from = RewrapPlace::default();
    let (mut changed, mut left) = (0, 0);
    let whole = loop {
        let step = secrets.rewrap(from).await?;
        changed += step.changed;
        left += step.left;
        match step.next {
            // What was sealed before the new key came may have been stored behind us.
            None if left == 0 && !is_done(secrets).await? && Instant::now() < until => {
                from = RewrapPlace::default();
            }
            None => break true,
            Some(_) if Instant::now() >= until => break false,
            Some(next) => from = next,
        }
    };
    let present = secrets.keyring().present().unwrap_or_default();
    let mut lines = vec![format!(
        "{changed} secrets were brought under the master key {present}"
    )];
    if !whole {
        lines.push("not all yet: give the same command again, it goes on from there".to_owned());
    } else if left > 0 {
        lines.push(format!("{left} could not be; the log says why"));
    } else {
        lines.push("put the new key in the place of the old one before the next start".to_owned());
    }
    Ok(lines)
}

/// Whether every value that is one is wrapped by the present key.
async fn is_done(secrets: &Secrets) -> Result<bool, StoreError> {
    let present = secrets.keyring().present().unwrap_or_default();
    let counts = secrets.counts().await?;
    Ok(counts.keys().all(|id| *id == present || id == "?"))
}

/// What was interrupted goes on by itself at the next start, where the configuration has both
/// keys.
pub async fn resume(secrets: Secrets) {
    let Ok(present) = secrets.keyring().present() else {
        return; // said at the start
    };
    let done = match secrets.counts().await {
        Ok(counts) if counts.keys().all(|id| *id == present) => return,
        Ok(_) => run(&secrets, RESUMING).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(lines) => info!("{}", lines[0]),
        Err(error) => error!(%error, "stored secrets keep their master key"),
    }
}

/// A line for each key: those that are loaded, and those that stored values name.
///
/// # Errors
/// [`StoreError`].
pub async fn status(secrets: &Secrets) -> Result<Vec<String>, StoreError> {
    let mut counts = secrets.counts().await?;
    let present = secrets.keyring().present().ok();
    let mut lines = Vec::new();
    for id in secrets.keyring().ids() {
        let number = counts.remove(&id).unwrap_or_default();
        let word = match present.as_ref() == Some(&id) {
            true => "present",
            false => "previous",
        };
        lines.push(format!("{id}  secrets: {number}, {word}"));
    }
    let missing = counts.into_iter();
    lines.extend(missing.map(|(id, number)| format!("{id}  secrets: {number}, NOT LOADED")));
    if lines.is_empty() {
        lines.push("there is no master key, and nothing that needs one".to_owned());
    }
    Ok(lines)
}
