//! All that is wrong with a configuration: who starts the program wants to hear of it at once.

use super::ConfigError;

/// What is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What stands before each key.
    lead: &'static str,
    lines: Vec<String>,
}

impl Told {
    /// Of keys below `lead`, which ends with a dot.
    pub(super) fn below(lead: &'static str) -> Self {
        Self {
            lead,
            lines: Vec::new(),
        }
    }

    /// Something is wrong with a key.
    pub(super) fn wrong(&mut self, key: &str, text: impl AsRef<str>) {
        let line = format!("{}{key}: {}", self.lead, text.as_ref());
        self.lines.push(line);
    }

    /// What another check says.
    pub(super) fn add(&mut self, checked: Result<(), ConfigError>) {
        self.lines.extend(checked.err().map(|error| error.0));
    }

    /// All of it, a line each.
    pub(super) fn end(self) -> Result<(), ConfigError> {
        match self.lines.is_empty() {
            true => Ok(()),
            false => Err(ConfigError(self.lines.join("\n"))),
        }
    }
}
