//! What the coordinator knows, and what follows from what happens.
//!
//! [`State`] is changed by [`Change`]s only; [`react()`] makes them from an [`Event`]. The
//! store keeps the same changes, so memory and database cannot disagree.

mod change;
mod desired;
mod draft;
mod entities;
mod event;
mod lifecycle;
mod react;
mod state;
mod submit;

pub use change::Change;
pub use desired::{desired_entries, desired_set};
pub use entities::*;
pub use event::{
    Accepted, Answer, Caller, Effect, Enrol, Event, HelloFacts, JoinTokenOrder, Outcome, Refusal,
    SessionDefaults, SetupOrder, Submit, Terminate, WelcomeFacts,
};
pub use lifecycle::start_session;
pub use react::react;
pub use state::{AgentUse, QueueKey, State};
