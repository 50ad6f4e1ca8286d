//! Hashing and comparing passwords: on threads of their own that let others go first, a few
//! at a time. Somebody who tries passwords without a pause keeps them busy and nobody else.
//!
//! | input | output |
//! |---|---|
//! | a password, what it is compared with | whether it is the one, or its hash |

use crate::pki::fill_random;
use longshore_identity::Secret;
use longshore_identity::password::{self, Checked, FixedPassword, HashError, Params};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Nice value of a thread that hashes: about a tenth of a core is left to it where others
/// want all of them, all of it where nobody does.
const NICE: i32 = 10;

/// Each hash takes about 20 MiB of memory and 20 ms of a core, so how many run and how many
/// wait is bounded.
#[derive(Debug)]
pub struct Hashing {
    params: Params,
    running: Arc<Semaphore>,
    /// Those that run and those that wait.
    room: Arc<Semaphore>,
}

/// Too many hashes wait already: `LS-BUSY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be compared")]
pub struct Busy;

/// Leave to hash.
#[derive(Debug)]
pub struct Permit {
    params: Params,
    held: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Hashing {
    /// `parallel` hashes at a time, and `queue` that wait.
    #[must_use]
    pub fn new(params: Params, parallel: usize, queue: usize) -> Self {
        Self {
            params,
            running: Arc::new(Semaphore::new(parallel)),
            room: Arc::new(Semaphore::new(parallel + queue)),
        }
    }

    /// Waits for leave to hash.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn permit(&self) -> Result<Permit, Busy> {
        let room = Arc::clone(&self.room);
        let room = room.try_acquire_owned().map_err(|_| Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        // Nobody closes it; if somebody did, nothing could be hashed any more.
        let running = running.map_err(|_| Busy)?;
        Ok(Permit {
            params: self.params,
            held: (running, room),
        })
    }
}

impl Default for Hashing {
    /// Two at a time, 32 that wait, the least parameters.
    fn default() -> Self {
        Self::new(Params::default(), 2, 32)
    }
}

impl Permit {
    /// Does something with passwords where it may block. The permit is given back once that is
    /// done, also when nobody waits for it any more.
    async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce(Params) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let Self { params, held } = self;
        let (reply, answer) = oneshot::channel();
        // A thread once, not one of the runtime's: only root could make it as quick again.
        let thread = std::thread::Builder::new().name("hashing".to_owned());
        let started = thread.spawn(move || {
            // None is the calling thread; where that is refused it hashes all the same.
            let _ = rustix::process::setpriority_process(None, NICE);
            let done = work(params);
            drop(held);
            let _ = reply.send(done); // the asker may have gone
        });
        if let Err(error) = started {
            tracing::error!(%error, "no thread to hash a password on");
            return Err(HashError::Failed);
        }
        answer.await.unwrap_or(Err(HashError::Failed))
    }

    /// Compares; without a stored hash with one that nobody has the password of. With the right
    /// password and a hash of other parameters also its new hash.
    ///
    /// # Errors
    /// [`HashError`]: neither right nor wrong.
    pub async fn compare(
        self,
        given: Secret,
        stored: Option<String>,
    ) -> Result<(bool, Option<String>), HashError> {
        self.work(
            move |params| match password::check(given.expose(), stored.as_deref(), params)? {
                Checked::Wrong => Ok((false, None)),
                Checked::Right { rehash: false } => Ok((true, None)),
                Checked::Right { rehash: true } => {
                    let new = password::hash(given.expose(), params, &mut fill_random)?;
                    Ok((true, Some(new)))
                }
            },
        )
        .await
    }

    /// Compares with a password of the configuration.
    ///
    /// # Errors
    /// [`HashError`]: neither right nor wrong.
    pub async fn fixed(self, given: Secret, stored: FixedPassword) -> Result<bool, HashError> {
        self.work(move |_| Ok(stored.matches(given.expose()))).await
    }

    /// Does work with many passwords: it gets what hashes one.
    ///
    /// # Errors
    /// [`HashError`], the work's own.
    pub async fn all<T: Send + 'static>(
        self,
        work: impl FnOnce(&dyn Fn(&Secret) -> Result<String, HashError>) -> Result<T, HashError>
        + Send
        + 'static,
    ) -> Result<T, HashError> {
        self.work(move |params| work(&|new| password::hash(new.expose(), params, &mut fill_random)))
            .await
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn hash(self, new: Secret) -> Result<String, HashError> {
        self.work(move |params| password::hash(new.expose(), params, &mut fill_random))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_the_queue_it_is_busy() {
        let hashing = Arc::new(Hashing::new(Params::default(), 1, 1));
        let first = hashing.permit().await.unwrap();
        let other = Arc::clone(&hashing);
        let mut second = Box::pin(async move { other.permit().await.is_ok() });
        tokio::select! {
            biased;
            _ = &mut second => panic!("it does not wait"),
            () = std::future::ready(()) => (),
        }
        assert_eq!(hashing.permit().await.unwrap_err(), Busy);
        let hash = first.hash(Secret::new("correct horse 1!".to_owned())).await;
        assert!(second.await);
        let permit = hashing.permit().await.unwrap();
        let same = Secret::new("correct horse 1!".to_owned());
        assert_eq!(
            permit.compare(same, Some(hash.unwrap())).await,
            Ok((true, None))
        );
    }

    #[tokio::test]
    async fn other_parameters_give_a_new_hash() {
        let dear = Hashing::new(Params::new(19_456, 3, 1).unwrap(), 1, 0);
        let secret = || Secret::new("correct horse 1!".to_owned());
        let old = dear.permit().await.unwrap().hash(secret()).await.unwrap();
        let today = Hashing::default();
        let permit = today.permit().await.unwrap();
        let (right, new) = permit.compare(secret(), Some(old)).await.unwrap();
        assert!(right && new.unwrap().contains("t=2"));
        let permit = today.permit().await.unwrap();
        assert_eq!(permit.compare(secret(), None).await, Ok((false, None)));
    }
}
