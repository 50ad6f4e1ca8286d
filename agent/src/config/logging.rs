//! The agent's own log.

use crate::runtime::docker::without_bodies;
use longshore_logging::Program;

/// The agent, as a program with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent;

impl Program for Agent {
    const NAME: &'static str = "agent";

    fn kept_back(filters: String) -> String {
        without_bodies(&filters)
    }
}

/// `[logging]`
pub type Logging = longshore_logging::Logging<Agent>;
