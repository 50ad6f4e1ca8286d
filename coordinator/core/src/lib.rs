//! The pure heart of the coordinator.
//!
//! [`model::react`] says what follows from an event, [`scheduler::plan`] who starts
//! where. Both are functions of values: no clock, no randomness, no I/O. The live
//! loop, `explain` and later `simulate` call the same code.

pub mod model;
pub mod scheduler;
