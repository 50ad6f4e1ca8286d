//! Rights: the operation table against one written apart from it, the truth table of access rules,
//! and the index of rules against a scan of all of them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod deciding;
mod impersonating;
mod random;
mod table;
mod truth;
mod world;
mod writing;
