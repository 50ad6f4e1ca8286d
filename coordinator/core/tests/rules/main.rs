//! What must hold for every history of submits, starts, stops, losses and edits; what must
//! hold for dominant shares; and a run in which each seeded mistake has to be caught.
#![allow(clippy::unwrap_used, reason = "tests")]

mod blocking;
mod fairness;
mod history;
mod nodes;
mod order;
mod pools;
mod shares;
mod told;

#[cfg(feature = "seeded-bugs")]
mod seeded;
