//! Attempts of a session: which follow each other, what becomes of the places they had.

use super::entities::{Container, Session};
use longshore_common::ids::{AgentId, GroupId, Rank, VaultId};
use longshore_common::session::{Cause, ExactImage, Reason, RestartOn, SessionType};
use longshore_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Attempts that are kept with a session, beside those of which a container is not closed yet:
/// its claims are counted where that attempt was placed.
const KEPT: usize = 64;

/// When a session is tried again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Restart {
    /// How often at most.
    pub max: u32,
    /// After what.
    pub on: BTreeSet<RestartOn>,
}

/// An attempt that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastAttempt {
    /// Its number.
    pub attempt: u32,
    /// Where it was placed.
    pub agents: Vec<AgentId>,
    /// The resource group it was placed in, and the pool it was dispatched to: what its claims
    /// count in until they end.
    pub group: GroupId,
    /// See `group`.
    pub pool: Option<String>,
    /// When it got its place.
    pub placed_at: Option<Timestamp>,
    /// When it began to run.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Timestamp,
    /// A reason of sessions, or the cause of a failed start.
    pub reason: String,
    /// The same as a sentence.
    pub detail: String,
    /// Of the main container's process.
    pub exit_code: Option<i32>,
}

impl PastAttempt {
    /// The vault without which it could not start, where that is why: agents tell what they were
    /// told, and that names it.
    #[must_use]
    pub fn vault(&self) -> Option<VaultId> {
        let vault = || {
            let mut words = self
                .detail
                .split(|c: char| !(c.is_alphanumeric() || c == '_'));
            words.find_map(|word| word.parse().ok())
        };
        (self.reason == Cause::VaultUnavailable.as_str())
            .then(vault)
            .flatten()
    }
}

impl Session {
    /// Whether it is tried again by itself after an end of this kind.
    #[must_use]
    pub fn restarts_after(&self, reason: Reason) -> bool {
        self.kind == SessionType::Batch
            && self.restarts < self.restart.max
            && RestartOn::of(reason).is_some_and(|on| self.restart.on.contains(&on))
    }

    /// Whether its containers are frozen by their agent rather than run on beside a new
    /// attempt.
    #[must_use]
    pub fn is_restartable(&self) -> bool {
        self.restarts_after(Reason::AgentLost)
    }

    /// Containers of older attempts.
    pub fn older(&self) -> impl Iterator<Item = &Container> {
        self.containers
            .iter()
            .filter(|c| c.key.attempt < self.attempt)
    }

    /// Whether a process of an older attempt may still run. No other is told to run beside it.
    #[must_use]
    pub fn older_may_run(&self) -> bool {
        self.older().any(Container::may_run)
    }

    /// Whether the claims of this container are still needed when it is closed itself: an
    /// older one that handed them on has not confirmed yet.
    #[must_use]
    pub fn claims_are_shared(&self, container: &Container) -> bool {
        self.containers.iter().any(|other| {
            other.handed_on
                && !other.is_closed()
                && other.key.rank == container.key.rank
                && other.key.attempt < container.key.attempt
        })
    }

    /// What the image of its main container really is, where a registry knows it.
    #[must_use]
    pub fn ran_image(&self) -> Option<String> {
        let mut present = self.present();
        let main = present.find(|container| container.key.rank == Rank::MAIN)?;
        match main.image? {
            known @ ExactImage::Registry(_) => Some(known.to_string()),
            ExactImage::Local(_) => None,
        }
    }

    /// Writes down that the present attempt is over, and begins the next, which has no place.
    pub(super) fn next_attempt(&mut self, reason: &str, detail: &str, now: Timestamp) {
        let mut agents: Vec<AgentId> = self.present().map(|c| c.agent).collect();
        agents.dedup();
        // Every attempt runs what the first one ran, whatever the tag is moved to meanwhile.
        self.image_digest = self.image_digest.take().or_else(|| self.ran_image());
        self.attempts.push(PastAttempt {
            attempt: self.attempt.0,
            agents,
            group: self.group,
            pool: self.queue.as_ref().and_then(|seat| seat.pool.clone()),
            placed_at: self.placed_at,
            started_at: self.started_at,
            ended_at: now,
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            exit_code: self.exit_code,
        });
        self.attempt = self.attempt.next();
        self.not_given.clear();
        self.started_at = None;
        self.life.began = None;
        self.tail = None;
        self.tail_at = None;
        self.tail_rank = Rank::MAIN;
        self.exit_code = None;
        self.signal = None;
        self.failed = None;
        self.restarted = false;
        self.unreachable = false;
        self.stalled_since = None;
        let shared: Vec<bool> = self
            .containers
            .iter()
            .map(|c| self.claims_are_shared(c))
            .collect();
        let mut shared = shared.into_iter();
        self.containers
            .retain(|c| shared.next().unwrap_or(false) || !c.is_closed());
        let open: BTreeSet<u32> = self.containers.iter().map(|c| c.key.attempt.0).collect();
        let older = self.attempts.len().saturating_sub(KEPT);
        let mut at = 0..self.attempts.len();
        self.attempts
            .retain(|past| at.next() >= Some(older) || open.contains(&past.attempt));
    }
}
