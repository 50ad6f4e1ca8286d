//! Figures that are never stored: connections, heartbeats, progress of pulls.
//!
//! Written by the tasks that hear them, read by the API. Losing them loses no promise.

use longshore_common::agent::NodeLoad;
use longshore_common::api::Progress;
use longshore_common::ids::{AgentId, ContainerKey, Generation};
use longshore_common::time::Timestamp;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One agent's live figures.
#[derive(Debug, Default)]
pub struct AgentLive {
    /// Milliseconds on the coordinator's boot clock at the last heartbeat; 0 = none in this life.
    pub last_beat_ms: AtomicI64,
    /// Wall time of the last heartbeat; 0 = none.
    pub last_beat_at: AtomicI64,
    details: Mutex<AgentDetails>,
}

/// The part that changes seldom.
#[derive(Debug, Clone, Default)]
pub struct AgentDetails {
    /// Address and time of the open connection.
    pub connection: Option<(String, Timestamp)>,
    /// Last figures.
    pub load: Option<NodeLoad>,
}

/// What an agent last said about the use of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleLive {
    /// When it will be stopped for being idle.
    pub deadline: Option<Timestamp>,
    /// It is frozen because the lease ran out.
    pub frozen: bool,
}

/// Live figures of everything.
#[derive(Debug, Default)]
pub struct Live {
    agents: Mutex<HashMap<AgentId, Arc<AgentLive>>>,
    progress: Mutex<HashMap<ContainerKey, Progress>>,
    idle: Mutex<HashMap<(AgentId, ContainerKey), IdleLive>>,
    held: Mutex<HashMap<AgentId, (Generation, BTreeSet<ContainerKey>)>>,
}

// A poisoned lock here only means that somebody panicked while writing a figure.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AgentLive {
    /// A copy of the details.
    #[must_use]
    pub fn details(&self) -> AgentDetails {
        lock(&self.details).clone()
    }

    /// Changes the details.
    pub fn update(&self, change: impl FnOnce(&mut AgentDetails)) {
        change(&mut lock(&self.details));
    }

    /// Wall time of the last heartbeat.
    #[must_use]
    pub fn last_heartbeat(&self) -> Option<Timestamp> {
        match self.last_beat_at.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Timestamp(at)),
        }
    }
}

impl Live {
    /// The figures of one agent, made if there are none yet.
    #[must_use]
    pub fn agent(&self, id: AgentId) -> Arc<AgentLive> {
        Arc::clone(lock(&self.agents).entry(id).or_default())
    }

    /// Every agent heard of.
    #[must_use]
    pub fn agents(&self) -> Vec<(AgentId, Arc<AgentLive>)> {
        lock(&self.agents)
            .iter()
            .map(|(id, live)| (*id, Arc::clone(live)))
            .collect()
    }

    /// How far the pull for a container is.
    #[must_use]
    pub fn progress(&self, key: ContainerKey) -> Option<Progress> {
        lock(&self.progress).get(&key).copied()
    }

    /// What is known of the use of a container.
    #[must_use]
    pub fn idle(&self, agent: AgentId, key: ContainerKey) -> Option<IdleLive> {
        lock(&self.idle).get(&(agent, key)).copied()
    }

    /// Notes the use of a container; nothing to say forgets it.
    pub fn set_idle(&self, agent: AgentId, key: ContainerKey, idle: IdleLive) {
        let mut map = lock(&self.idle);
        if idle.deadline.is_none() && !idle.frozen {
            map.remove(&(agent, key));
        } else {
            map.insert((agent, key), idle);
        }
    }

    /// Forgets what an agent said of use: its link is gone.
    pub fn forget_idle(&self, agent: AgentId) {
        lock(&self.idle).retain(|(of, _), _| *of != agent);
    }

    /// The containers a connected agent said it has, and the set it had applied then; none
    /// before it told all of them.
    #[must_use]
    pub fn held(&self, agent: AgentId) -> Option<(Generation, BTreeSet<ContainerKey>)> {
        lock(&self.held).get(&agent).cloned()
    }

    /// Notes everything an agent has; none forgets it: its link is gone.
    pub fn set_held(&self, agent: AgentId, held: Option<(Generation, BTreeSet<ContainerKey>)>) {
        let mut map = lock(&self.held);
        match held {
            Some(held) => drop(map.insert(agent, held)),
            None => drop(map.remove(&agent)),
        }
    }

    /// Notes that one of its containers is there, or is no more.
    pub fn note_held(&self, agent: AgentId, applied: Generation, key: ContainerKey, there: bool) {
        // What is not known as a whole is not known at all.
        if let Some((known, keys)) = lock(&self.held).get_mut(&agent) {
            *known = applied;
            if there {
                keys.insert(key);
            } else {
                keys.remove(&key);
            }
        }
    }

    /// Notes how far a pull is; none forgets it.
    pub fn set_progress(&self, key: ContainerKey, progress: Option<Progress>) {
        let mut map = lock(&self.progress);
        match progress {
            Some(progress) => map.insert(key, progress),
            None => map.remove(&key),
        };
    }
}
