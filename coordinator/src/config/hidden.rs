//! Texts of the configuration that nobody may see.

use super::ConfigError;
use longshore_identity::Secret;
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;

/// Values that stand in examples, and so open whatever they protect to everybody.
const SAMPLES: [&str; 3] = ["default-secret", "changeme", "insecure"];

/// A text that is never printed. Any value is accepted; where a sample value would open
/// something, the key is a [`SecretText`].
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// Takes a text in.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is one of the values that stand in examples, in any case of letters.
    #[must_use]
    pub fn is_sample(&self) -> bool {
        is_sample(&self.0)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// A key of type secret: the text itself, or the file it stands in. A sample value in it stops
/// the start.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(untagged, deny_unknown_fields)]
pub enum SecretText {
    /// The text.
    Text(String),
    /// `{ file = "/path" }`; one newline at its end does not count.
    File {
        /// Where it stands.
        file: PathBuf,
    },
}

impl Default for SecretText {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("SecretText"),
            Self::File { file } => write!(f, "SecretText of {}", file.display()),
        }
    }
}

impl SecretText {
    /// The secret itself.
    ///
    /// # Errors
    /// The file cannot be read, or it is a value out of an example.
    pub fn read(&self, key: &str) -> Result<Secret, ConfigError> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::File { file } => {
                let read = std::fs::read_to_string(file);
                let text = read
                    .map_err(|error| ConfigError(format!("{key}: {}: {error}", file.display())))?;
                let line = text.strip_suffix('\n').unwrap_or(&text);
                line.strip_suffix('\r').unwrap_or(line).to_owned()
            }
        };
        if is_sample(&text) {
            let text = "a sample value that everybody knows is no secret; choose another one";
            return Err(ConfigError(format!("{key}: {text}")));
        }
        Ok(Secret::new(text))
    }
}

/// Whether it is one of the values that stand in examples, in any case of letters.
fn is_sample(text: &str) -> bool {
    let text = text.trim();
    SAMPLES
        .iter()
        .any(|sample| sample.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_values_stop_the_start() {
        for sample in ["default-secret", "changeme", "insecure", " ChangeMe "] {
            let text = SecretText::Text(sample.to_owned());
            let error = text.read("a.key").unwrap_err().to_string();
            assert!(error.starts_with("a.key: a sample value"), "{error}");
            assert!(!error.contains(sample.trim()), "{error}");
            assert!(!format!("{text:?}").contains(sample.trim()));
        }
        let good = SecretText::Text("changeme2".to_owned());
        assert_eq!(good.read("a.key").unwrap().expose(), "changeme2");
    }

    #[test]
    fn a_secret_may_stand_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "s3 cret\n").unwrap();
        let text = SecretText::File { file };
        assert_eq!(text.read("k").unwrap().expose(), "s3 cret");
        let none = SecretText::File {
            file: dir.path().join("none"),
        };
        assert!(none.read("k").unwrap_err().to_string().starts_with("k: "));
    }
}
