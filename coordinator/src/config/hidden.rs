//! Texts of the configuration that nobody may see.

use serde::{Deserialize, Deserializer, de::Error as _};
use std::fmt;

/// Values that stand in examples, and so open whatever they protect to everybody.
const SAMPLES: [&str; 3] = ["default-secret", "changeme", "insecure"];

/// A text that is never printed. Any value is accepted; where a sample value would open
/// something, the key is a [`SecretText`].
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
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
        let text = self.0.trim();
        SAMPLES
            .iter()
            .any(|sample| sample.eq_ignore_ascii_case(text))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// A key of type secret: a sample value in it stops the start, with the line it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretText(Hidden);

impl SecretText {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Hidden::deserialize(deserializer)?;
        if text.is_sample() {
            return Err(D::Error::custom(
                "this secret is a sample value that everybody knows; choose another one",
            ));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Keys {
        secret: SecretText,
    }

    #[test]
    fn sample_values_stop_the_start() {
        for sample in ["default-secret", "changeme", "insecure", " ChangeMe "] {
            let text = format!("\nsecret = \"{sample}\"\n");
            let error = toml::from_str::<Keys>(&text).unwrap_err();
            assert!(error.message().contains("sample value"), "{error}");
            assert!(!error.message().contains(sample.trim()), "{error}");
        }
        let good = toml::from_str::<Keys>("secret = \"changeme2\"").unwrap();
        assert_eq!(good.secret.expose(), "changeme2");
        assert!(!format!("{good:?}").contains("changeme2"));
    }
}
