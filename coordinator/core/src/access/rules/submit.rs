//! What a level has to be for a session to be submitted, and again when it starts.

use super::book::RuleBook;
use super::{Level, Object, Resource};
use crate::access::caller::Caller;
use crate::access::decide::{Decision, Why};

/// A level that is wanted and not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// On what.
    pub resource: Resource,
    /// What is wanted.
    pub needs: Level,
    /// What is there.
    pub has: Level,
}

impl Lack {
    /// How the request is answered: what is not seen does not exist.
    #[must_use]
    pub const fn decision(&self) -> Decision {
        match self.has {
            Level::None => Decision::Hidden(Why::OutOfReach),
            Level::Ro | Level::Rw => Decision::Forbidden(Why::ReadOnly),
        }
    }
}

/// What a session is submitted with.
#[derive(Debug, Clone)]
pub struct Submission<'a> {
    /// The project.
    pub project: &'a Object,
    /// The queue: the resource group, or the queue of an allocation policy.
    pub queue: &'a Object,
    /// Folders and models, each with the level of its mount.
    pub mounts: &'a [(Object, Level)],
}

/// Whether a session may be submitted, and later started, with the rights its owner has now.
///
/// # Errors
/// Every level that is wanted and not there, in the order project, queue, mounts.
pub fn may_submit(
    book: &RuleBook,
    caller: &Caller,
    submission: &Submission<'_>,
) -> Result<(), Vec<Lack>> {
    let places = [
        (submission.project, Level::Rw),
        (submission.queue, Level::Rw),
    ];
    let mounts = submission.mounts.iter().map(|(o, level)| (o, *level));
    let lacks: Vec<Lack> = places
        .into_iter()
        .chain(mounts)
        .filter_map(|(object, needs)| book.require(caller, object, needs).err())
        .collect();
    if lacks.is_empty() { Ok(()) } else { Err(lacks) }
}
