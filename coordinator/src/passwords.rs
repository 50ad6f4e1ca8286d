//! Hashing of passwords: bounded, and away from the threads that serve requests.
//!
//! A hash takes tens of milliseconds and 19 MiB. Two run at a time; so many more may wait that
//! a second is not exceeded, and whoever comes then is asked to come again.

use crate::api::errors::Failure;
use crate::pki::fill_random;
use longshore_identity::{Secret, password};
use tokio::sync::Semaphore;

/// Hashes that run at a time.
const PARALLEL: usize = 2;
/// Hashes that wait for their turn.
const QUEUE: usize = 32;

static RUNNING: Semaphore = Semaphore::const_new(PARALLEL);
static PLACES: Semaphore = Semaphore::const_new(PARALLEL + QUEUE);

/// Does work with passwords when its turn has come.
///
/// # Errors
/// LS-BUSY when too many wait already.
pub async fn in_turn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let place = PLACES.try_acquire().map_err(|_| {
        Failure::new("LS-BUSY", "Too many passwords wait to be checked.").retry_after(1)
    })?;
    let turn = RUNNING.acquire().await.map_err(|_| Failure::internal())?;
    // Work that began goes on when nobody waits for it any more, so it keeps its turn.
    let done = tokio::task::spawn_blocking(move || {
        let (_place, _turn) = (place, turn);
        work()
    });
    done.await.map_err(|error| {
        tracing::error!(%error, "work with a password ended in a panic");
        Failure::internal()
    })
}

/// The hash of a password as a PHC string, with the parameters of new hashes.
///
/// # Errors
/// LS-BUSY when too many wait already; LS-INTERNAL without memory.
pub async fn hash_password(text: Secret) -> Result<String, Failure> {
    in_turn(move || hash(&text)).await?
}

/// The same, at once: for those whose turn it is.
///
/// # Errors
/// LS-INTERNAL without memory.
pub fn hash(text: &Secret) -> Result<String, Failure> {
    let params = password::Params::default();
    password::hash(text.expose(), params, &mut fill_random).map_err(|error| {
        tracing::error!(%error, "a password could not be hashed");
        Failure::internal()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_of_its_password_and_a_full_queue_says_so() {
        let phc = hash_password(Secret::new("abcdef1!".to_owned()))
            .await
            .unwrap();
        assert!(password::verify("abcdef1!", &phc).unwrap());
        assert!(!password::verify("abcdef1?", &phc).unwrap());
        // Other tests hash in the same process, so all places that are free are taken.
        let held = PLACES
            .try_acquire_many(u32::try_from(PLACES.available_permits()).unwrap())
            .unwrap();
        let refused = in_turn(|| ()).await.unwrap_err();
        assert_eq!((refused.code, refused.retry_after), ("LS-BUSY", Some(1)));
        drop(held);
    }
}
