//! Requests that make something and carry an idempotency key. They are noted before they are
//! carried out, so that a coordinator that stopped meanwhile does not carry one out twice.

use super::change::Change;
use super::event::{Answer, Outcome};
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;

/// What became of a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Who asked.
    pub caller: UserId,
    /// The operation, by its id.
    pub route: String,
    /// The key of the caller's choice, 1 to 128 characters.
    pub key: String,
    /// What is noted.
    pub step: ReplayStep,
}

/// What is noted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayStep {
    /// It is about to be carried out.
    Begun {
        /// Over everything the request says, keyed: what it says may be guessable.
        request: [u8; 32],
    },
    /// It was carried out, and this was said.
    Answered(ReplayAnswer),
    /// It was refused: the key is free.
    Freed,
}

/// An answer, without what is said only once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayAnswer {
    /// HTTP status.
    pub status: u16,
    /// Headers that belong to it: name and value.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Decides it: what is noted is kept by the store alone.
pub(super) fn decide(replay: &Replay, now: Timestamp) -> Outcome {
    Outcome {
        changes: vec![Change::Replay(Box::new(replay.clone()), now)],
        ..Outcome::only(Answer::Done)
    }
}
