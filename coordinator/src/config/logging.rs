//! What is written down.

use longshore_logging::Program;

/// The coordinator, as a program with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator;

impl Program for Coordinator {
    const NAME: &'static str = "coordinator";
}

/// `[logging]`
pub type Logging = longshore_logging::Logging<Coordinator>;
