//! Secrets at rest: values are encrypted before the store takes them, and opened when somebody
//! needs them.
//!
//! A random data key encrypts one value of one version (XChaCha20-Poly1305, 192-bit nonce of
//! chance); a master key, which lies outside the data directory, encrypts the data key. What a
//! value is and where it lies ([`Place`]) is part of what is authenticated, so a ciphertext that
//! was moved to another row, column or version does not open. A new master key changes the
//! wrapped data keys alone ([`Keyring::rewrap`]).
//!
//! # How a table keeps a secret
//!
//! - A column of type `BLOB` holds [`Sealed::to_bytes`]. The row has what `version` is taken
//!   from: a number that rises with each save of the value. A save seals anew, and so takes a new
//!   data key.
//! - `keyring.seal(&Place { table, row, column, version }, clear, &mut fill_random)` before it
//!   is stored; [`Locked`] where the master key is not there. Whoever needs the value opens it:
//!   `keyring.open(&place, &Sealed::from_bytes(bytes)?)`.
//! - The column has a line in [`COLUMNS`]: rotation, counts and the check at the start read
//!   those and no others.
//! - `Failure::from(locked)` is the answer 503 `LS-SECRETS-LOCKED`; a route that may give it
//!   lists the code.
//!
//! A [`Keyring`] is a handle: clones see a key that is added later.

mod master;
pub mod rotate;
mod sealed;

pub use master::{KeyError, MasterKey, Sources};
pub use sealed::{NotSealed, Sealed};

use crate::pki::fill_random;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use longshore_identity::Fill;
use sealed::{DATA_KEY, NONCE, WRAPPED};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

/// What stands first in all associated data: another form of it is another text.
const FORM: &str = "longshore/1";

/// Every column of the database that holds [`Sealed`] values.
pub const COLUMNS: &[(&str, &str)] = &[("secrets", "value"), ("vaults", "content")];

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The table.
    pub table: &'a str,
    /// The id of the row, as text.
    pub row: &'a str,
    /// The column.
    pub column: &'a str,
    /// The version of the value.
    pub version: u64,
}

impl Place<'_> {
    /// The associated data: each part behind its length, so that no two places read alike.
    fn bound(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        for part in [FORM, self.table, self.row, self.column] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes
    }
}

/// A master key is needed that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Locked {
    /// The id of the key; empty where none was ever used.
    pub key_id: String,
}

impl Locked {
    fn sentence(&self) -> String {
        match self.key_id.as_str() {
            "" => "There is no master key.".to_owned(),
            id => format!("The master key {id} is not loaded."),
        }
    }
}

/// Why a value does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Its master key is not there.
    #[error(transparent)]
    Locked(#[from] Locked),
    /// It was changed, or lies where it does not belong.
    #[error("a stored secret is damaged, or does not belong where it lies")]
    Damaged,
}

/// The master keys that are there.
#[derive(Clone)]
pub struct Keyring(Arc<RwLock<Ring>>);

#[derive(Default)]
struct Ring {
    /// The one that wraps what is saved from now on.
    present: Option<MasterKey>,
    /// Those that only open.
    previous: Vec<MasterKey>,
    /// A key that stored values name and that is not here: as long as there is one, nothing is
    /// sealed, so that no second set of values grows under a key that was given by mistake.
    lacking: Option<String>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.ids();
        f.debug_tuple("Keyring").field(&ids).finish()
    }
}

impl Keyring {
    /// A ring of the present key and of those before it.
    #[must_use]
    pub fn new(present: MasterKey, previous: Vec<MasterKey>) -> Self {
        Self::of(Ring {
            present: Some(present),
            previous,
            lacking: None,
        })
    }

    /// A ring of a new key that nobody keeps: for tests and measurements.
    #[must_use]
    pub fn fresh() -> Self {
        Self::new(MasterKey::draw(&mut fill_random), Vec::new())
    }

    /// No key: nothing opens, and nothing can be sealed.
    #[must_use]
    pub fn none() -> Self {
        Self::of(Ring::default())
    }

    /// Keys that open what they wrapped, and no key to seal with.
    #[must_use]
    pub fn only_opening(previous: Vec<MasterKey>) -> Self {
        Self::of(Ring {
            previous,
            ..Ring::default()
        })
    }

    fn of(ring: Ring) -> Self {
        Self(Arc::new(RwLock::new(ring)))
    }

    fn read<T>(&self, look: impl FnOnce(&Ring) -> T) -> T {
        // A panic with the lock held leaves whole keys behind.
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The ids of the keys, the present one first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.read(|ring| {
            let keys = ring.present.iter().chain(&ring.previous);
            keys.map(|key| key.id().to_owned()).collect()
        })
    }

    /// The id of the key that seals.
    ///
    /// # Errors
    /// There is none, or stored values name a key that is not here.
    pub fn present(&self) -> Result<String, Locked> {
        self.read(|ring| ring.sealing().map(|key| key.id().to_owned()))
    }

    /// Says which keys stored values name. One that is not here locks the ring, and is answered.
    pub fn hold_against<'a>(&self, named: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let known = self.ids();
        let mut named = named.into_iter();
        let lacking = named.find(|id| !known.iter().any(|known| known == id));
        let lacking = lacking.map(str::to_owned);
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        ring.lacking.clone_from(&lacking);
        lacking
    }

    /// Puts a key in front: it seals from now on, and the one before it goes on opening.
    pub fn begin_with(&self, key: MasterKey) {
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = |other: &MasterKey| other.id() == key.id();
        if ring.present.as_ref().is_some_and(known) {
            return;
        }
        ring.previous.retain(|other| !known(other));
        if let Some(before) = ring.present.replace(key) {
            ring.previous.insert(0, before);
        }
    }

    /// Encrypts a value for its place.
    ///
    /// # Errors
    /// There is no key to do it with.
    pub fn seal(
        &self,
        place: &Place<'_>,
        clear: &[u8],
        rng: &mut Fill<'_>,
    ) -> Result<Sealed, Locked> {
        self.read(|ring| {
            let master = ring.sealing()?;
            let mut key = Zeroizing::new([0; DATA_KEY]);
            rng(key.as_mut_slice());
            let wrapped = wrap(master, &key, rng);
            let mut nonce = [0; NONCE];
            rng(&mut nonce);
            let bound = place.bound();
            let payload = Payload {
                msg: clear,
                aad: &bound,
            };
            let body = cipher(&key)
                .encrypt(&XNonce::from(nonce), payload)
                .expect("a value is far below the 256 GiB that the cipher takes");
            Ok(Sealed {
                key_id: master.id().to_owned(),
                wrapped,
                nonce,
                body,
            })
        })
    }

    /// The value that lies at `place`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        &self,
        place: &Place<'_>,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let key = self.unwrapped(sealed)?;
        let bound = place.bound();
        let payload = Payload {
            msg: &sealed.body,
            aad: &bound,
        };
        let clear = cipher(&key).decrypt(&XNonce::from(sealed.nonce), payload);
        clear.map(Zeroizing::new).map_err(|_| OpenError::Damaged)
    }

    /// The same value with its data key wrapped by the present master key; nothing where it is
    /// already. The value itself is not touched.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn rewrap(&self, sealed: &Sealed, rng: &mut Fill<'_>) -> Result<Option<Sealed>, OpenError> {
        if self.present()? == sealed.key_id {
            return Ok(None);
        }
        let key = self.unwrapped(sealed)?;
        self.read(|ring| {
            let master = ring.sealing()?;
            Ok(Some(Sealed {
                key_id: master.id().to_owned(),
                wrapped: wrap(master, &key, rng),
                ..sealed.clone()
            }))
        })
    }

    fn unwrapped(&self, sealed: &Sealed) -> Result<Zeroizing<[u8; DATA_KEY]>, OpenError> {
        self.read(|ring| {
            let mut keys = ring.present.iter().chain(&ring.previous);
            let master = keys.find(|key| key.id() == sealed.key_id);
            let locked = || Locked {
                key_id: sealed.key_id.clone(),
            };
            let master = master.ok_or_else(locked)?;
            unwrap(master, &sealed.wrapped).ok_or(OpenError::Damaged)
        })
    }
}

impl Ring {
    fn sealing(&self) -> Result<&MasterKey, Locked> {
        let locked = |id: &str| Locked {
            key_id: id.to_owned(),
        };
        match (&self.lacking, &self.present) {
            (Some(id), _) => Err(locked(id)),
            (None, Some(key)) => Ok(key),
            (None, None) => Err(locked("")),
        }
    }
}

fn cipher(key: &[u8; DATA_KEY]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.into())
}

/// A data key as the master key keeps it: a nonce, and what comes behind it. It is not bound to
/// the place: the value that it opens is.
fn wrap(master: &MasterKey, key: &[u8; DATA_KEY], rng: &mut Fill<'_>) -> [u8; WRAPPED] {
    let mut nonce = [0; NONCE];
    rng(&mut nonce);
    let payload = Payload {
        msg: key.as_slice(),
        aad: FORM.as_bytes(),
    };
    let body = cipher(master.bytes()).encrypt(&XNonce::from(nonce), payload);
    let body = body.expect("32 bytes are not too many for the cipher");
    let mut wrapped = [0; WRAPPED];
    wrapped[..NONCE].copy_from_slice(&nonce);
    wrapped[NONCE..].copy_from_slice(&body);
    wrapped
}

fn unwrap(master: &MasterKey, wrapped: &[u8; WRAPPED]) -> Option<Zeroizing<[u8; DATA_KEY]>> {
    let (nonce, body) = wrapped.split_first_chunk::<NONCE>()?;
    let payload = Payload {
        msg: body,
        aad: FORM.as_bytes(),
    };
    let clear = cipher(master.bytes()).decrypt(&XNonce::from(*nonce), payload);
    let clear = Zeroizing::new(clear.ok()?);
    let mut key = Zeroizing::new([0; DATA_KEY]);
    (clear.len() == DATA_KEY).then(|| key.copy_from_slice(&clear))?;
    Some(key)
}

#[cfg(test)]
mod tests;
