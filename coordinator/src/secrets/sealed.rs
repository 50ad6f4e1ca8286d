//! How an encrypted value looks as bytes.

/// Bytes of a data key.
pub(super) const DATA_KEY: usize = 32;
/// Bytes of a nonce.
pub(super) const NONCE: usize = 24;
/// Bytes of what authenticates a ciphertext.
const TAG: usize = 16;
/// Bytes of a wrapped data key: nonce, key, tag.
pub(super) const WRAPPED: usize = NONCE + DATA_KEY + TAG;
/// Bytes of the id of a master key: hex digits.
const KEY_ID: usize = 8;
/// The first byte of the form that is written here.
const FIRST: u8 = 1;
/// Bytes before the encrypted value.
const HEAD: usize = 1 + KEY_ID + WRAPPED + NONCE;

/// An encrypted value.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Id of the master key that wraps the data key.
    pub key_id: String,
    /// The data key, wrapped.
    pub(super) wrapped: [u8; WRAPPED],
    pub(super) nonce: [u8; NONCE],
    pub(super) body: Vec<u8>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed by {}", self.key_id)
    }
}

/// Stored bytes are no encrypted value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored bytes are no encrypted value")]
pub struct NotSealed;

impl Sealed {
    /// As it is stored: the number of the form, the id of the key, the wrapped data key, the
    /// nonce, and to the end the encrypted value.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.body.len());
        bytes.push(FIRST);
        bytes.extend_from_slice(self.key_id.as_bytes());
        bytes.extend_from_slice(&self.wrapped);
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// What was stored.
    ///
    /// # Errors
    /// The bytes are of another form, or too few.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotSealed> {
        let (first, rest) = bytes.split_first().ok_or(NotSealed)?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID>().ok_or(NotSealed)?;
        let (wrapped, rest) = rest.split_first_chunk().ok_or(NotSealed)?;
        let (nonce, body) = rest.split_first_chunk().ok_or(NotSealed)?;
        let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        if *first != FIRST || !id.iter().all(hex) || body.len() < TAG {
            return Err(NotSealed);
        }
        Ok(Self {
            key_id: id.iter().map(|b| char::from(*b)).collect(),
            wrapped: *wrapped,
            nonce: *nonce,
            body: body.to_vec(),
        })
    }
}
