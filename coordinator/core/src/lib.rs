//! The pure heart of the coordinator.
//!
//! [`model::react`] says what follows from an event, [`scheduler::plan`] who starts
//! where. Both are functions of values: no clock, no randomness, no I/O. The live
//! loop, `explain` and `simulate` call the same code; [`Core`] is both together.

pub mod access;
pub mod bugs;
mod core;
pub mod model;
pub mod scheduler;
pub mod simulate;

pub use self::core::Core;
