//! The desired set under the coordinator's signature.
//!
//! The signature covers the exact bytes that are kept in the agent's journal, so the
//! same check serves on receipt and after a restart. Signing and verifying need keys
//! and therefore live at the rim.

use super::message::DesiredSet;
use serde::{Deserialize, Serialize};

/// A desired set as bytes with an Ed25519 signature (RFC 8032) over [`SigningInput`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedSet {
    /// postcard of [`DesiredSet`].
    pub bytes: Vec<u8>,
    /// 64 bytes.
    pub signature: Vec<u8>,
}

/// What is signed: a fixed prefix, so that a signature for one purpose is none for
/// another, and the bytes.
#[derive(Debug)]
pub struct SigningInput;

impl SigningInput {
    /// The bytes to sign for a desired set.
    #[must_use]
    pub fn desired_set(bytes: &[u8]) -> Vec<u8> {
        let mut input = b"longshore desired set v1\0".to_vec();
        input.extend_from_slice(bytes);
        input
    }

    /// The bytes to sign for what a container was placed as.
    #[must_use]
    pub fn placement(record: &str) -> Vec<u8> {
        let mut input = b"longshore placement v1\0".to_vec();
        input.extend_from_slice(record.as_bytes());
        input
    }
}

/// What a container was placed as, under the coordinator's signature, as one line of text: the
/// signature in hexadecimal digits, a space, the record. It lies in a label of the container and
/// outlives every database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRecord<'a> {
    /// 64 bytes over [`SigningInput::placement`].
    pub signature: Vec<u8>,
    /// What was signed.
    pub record: &'a str,
}

impl<'a> SignedRecord<'a> {
    /// The text of a signed record.
    #[must_use]
    pub fn text(signature: &[u8], record: &str) -> String {
        let mut text = String::with_capacity(signature.len() * 2 + 1 + record.len());
        for byte in signature {
            text.push_str(&format!("{byte:02x}"));
        }
        text.push(' ');
        text.push_str(record);
        text
    }

    /// Takes such a text apart; the caller checks the signature. None = it is none.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        let (digits, record) = text.split_once(' ')?;
        let form = digits.len() == 128 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let bytes = digits.as_bytes().chunks(2).filter(|_| form);
        let bytes = bytes.map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        let signature: Option<Vec<u8>> = bytes.collect();
        let signature = signature.filter(|bytes| bytes.len() == 64)?;
        Some(Self { signature, record })
    }
}

impl SignedSet {
    /// Reads the set; the caller has checked the signature.
    ///
    /// # Errors
    /// Bytes that are no set, or have something behind it, or pass a bound.
    pub fn open(&self) -> Result<DesiredSet, &'static str> {
        let (set, rest) = postcard::take_from_bytes::<DesiredSet>(&self.bytes)
            .map_err(|_| "the set does not decode")?;
        if !rest.is_empty() {
            return Err("bytes are left over behind the set");
        }
        set.check_bounds()?;
        Ok(set)
    }

    /// The bytes to sign for a set.
    ///
    /// # Panics
    /// Never: the set consists of types that postcard can express.
    #[must_use]
    pub fn encode(set: &DesiredSet) -> Vec<u8> {
        postcard::to_stdvec(set).expect("a set consists of types that postcard can express")
    }
}
