//! Text that must not be seen, and the digests that are kept in its place.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// What is printed in place of a secret.
pub(crate) const MASK: &str = "********";

/// A secret in the clear, on its way to the one who may see it once. Prints as a mask,
/// cannot be serialised, and is overwritten when it goes.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes text in as a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The digest under which it is stored.
    #[must_use]
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// A SHA-256 digest (FIPS 180-4). Printed and serialised as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// 32 zero bytes: the digest "before the first record".
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }

    /// A digest that was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest as it is stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `given` has this digest, in a time that does not depend on where they differ.
    #[must_use]
    pub fn is_of(&self, given: &[u8]) -> bool {
        self.same(&Self::of(given))
    }

    /// Compares in constant time; for digests of secrets in place of `==`.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 lower-case hex digits")]
pub struct ParseSha256Error;

impl FromStr for Sha256 {
    type Err = ParseSha256Error;
    fn from_str(text: &str) -> Result<Self, ParseSha256Error> {
        if text.len() != 64 {
            return Err(ParseSha256Error); // before anything is allocated for it
        }
        let bytes = data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .map_err(|_| ParseSha256Error)?;
        bytes.try_into().map(Self).map_err(|_| ParseSha256Error)
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_abc_is_that_of_the_standard() {
        let digest = Sha256::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert!(digest.is_of(b"abc") && !digest.is_of(b"abd"));
        for wrong in ["", "BA", &text.to_uppercase(), &text[1..], &"é".repeat(32)] {
            assert_eq!(wrong.parse::<Sha256>(), Err(ParseSha256Error));
        }
    }

    #[test]
    fn a_secret_prints_as_a_mask() {
        let secret = Secret::new("correct horse".to_owned());
        assert_eq!(format!("{secret:?}"), "********");
        assert_eq!(secret.expose(), "correct horse");
        assert!(secret.sha256().is_of(b"correct horse"));
    }
}
