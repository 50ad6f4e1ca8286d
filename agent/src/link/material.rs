//! What containers are given, asked of the coordinator by whoever makes them and kept by
//! nobody but them.

use super::outbox::Shared;
use longshore_common::ids::ContainerKey;
use longshore_common::wire::{Given, Material};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use zeroize::Zeroize as _;

/// Who waits for what.
#[derive(Debug, Default)]
pub struct Desk {
    /// Few: one container is made or taken over by one task at a time.
    waiting: Mutex<BTreeMap<ContainerKey, Vec<oneshot::Sender<Given>>>>,
    /// The answer to every question, where there is no link: in tests.
    #[cfg(test)]
    pub(crate) always: Mutex<Option<Given>>,
}

impl Desk {
    /// One that has nothing for everybody.
    #[cfg(test)]
    pub(crate) fn answering() -> Self {
        let desk = Self::default();
        let nothing = Given::Delivery(Box::default());
        *desk.always.lock().unwrap_or_else(PoisonError::into_inner) = Some(nothing);
        desk
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<ContainerKey, Vec<oneshot::Sender<Given>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, key: ContainerKey) -> oneshot::Receiver<Given> {
        let (sender, receiver) = oneshot::channel();
        #[cfg(test)]
        if let Some(given) = &*self.always.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = sender.send(given.clone());
            return receiver;
        }
        self.waiting().entry(key).or_default().push(sender);
        receiver
    }

    /// For which containers somebody still waits.
    #[must_use]
    pub fn wanted(&self) -> Vec<ContainerKey> {
        let mut waiting = self.waiting();
        waiting.retain(|_, askers| {
            askers.retain(|asker| !asker.is_closed());
            !askers.is_empty()
        });
        waiting.keys().copied().collect()
    }

    /// The coordinator has answered: all who wait for this container are told.
    pub fn answer(&self, mut material: Material) {
        let askers = self.waiting().remove(&material.key).unwrap_or_default();
        for asker in askers {
            let _ = asker.send(material.given.clone()); // it may have gone
        }
        material.given.zeroize();
    }
}

impl Shared {
    /// What a container is given. Returns once the coordinator has answered, which may be after
    /// any number of connections.
    pub async fn material(&self, key: ContainerKey) -> Given {
        let answer = self.desk.wait(key);
        self.changed.notify_one();
        // Nobody drops a question but by answering it.
        answer.await.unwrap_or(Given::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::{Attempt, Rank, SessionId};

    fn key(session: u64) -> ContainerKey {
        ContainerKey {
            session: SessionId(session),
            rank: Rank::MAIN,
            attempt: Attempt::FIRST,
        }
    }

    #[tokio::test]
    async fn everybody_who_asked_is_answered_once() {
        let desk = Desk::default();
        let (one, two, other) = (desk.wait(key(1)), desk.wait(key(1)), desk.wait(key(2)));
        assert_eq!(desk.wanted(), [key(1), key(2)]);
        drop(other);
        assert_eq!(desk.wanted(), [key(1)], "who has gone wants nothing");
        let given = Given::Delivery(Box::default());
        desk.answer(Material {
            key: key(1),
            given: given.clone(),
        });
        assert_eq!((one.await, two.await), (Ok(given.clone()), Ok(given)));
        assert!(desk.wanted().is_empty());
        desk.answer(Material {
            key: key(3),
            given: Given::Unknown,
        });
    }
}
