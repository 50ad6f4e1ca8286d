//! Tests of the pure core, written in the small language of [`world`].

#![allow(missing_docs, reason = "a test says what it shows by its name")]

mod agents;
mod arrays;
mod bounds;
mod census;
mod chaos;
mod clusters;
mod devices;
mod drain;
mod everywhere;
mod fits;
mod joins;
mod judged;
mod lifecycle;
mod loss;
mod notify;
mod penalties;
mod placing;
mod prolong;
mod random;
mod starts;
mod steering;
mod submit;
mod system;
mod unclaimed;
mod unsent;
mod vaults;
mod world;
