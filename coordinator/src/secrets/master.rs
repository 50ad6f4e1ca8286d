//! Master keys: what they look like, and where they come from.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_identity::{Fill, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bytes of a master key.
const LENGTH: usize = 32;

/// A key that wraps data keys. It prints as its id, and is overwritten when it goes.
#[derive(Clone)]
pub struct MasterKey {
    id: String,
    bytes: Zeroizing<[u8; LENGTH]>,
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKey {}", self.id)
    }
}

/// A text is no master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not base64, or of another length.
    #[error("a master key is 32 bytes in base64, as openssl rand -base64 32 prints them")]
    Form,
    /// Nobody draws such a key by chance.
    #[error("a master key of equal bytes is no secret; draw one with openssl rand -base64 32")]
    Sample,
}

impl MasterKey {
    /// A new one.
    #[must_use]
    pub fn draw(rng: &mut Fill<'_>) -> Self {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        rng(bytes.as_mut_slice());
        Self::of(bytes)
    }

    fn of(bytes: Zeroizing<[u8; LENGTH]>) -> Self {
        let mut id = Sha256::of(bytes.as_slice()).to_string();
        id.truncate(8);
        Self { id, bytes }
    }

    /// Reads one: base64, with blanks and line ends around it.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let decoded = STANDARD.decode(text.trim()).map_err(|_| KeyError::Form)?;
        let decoded = Zeroizing::new(decoded);
        if decoded.len() != LENGTH {
            return Err(KeyError::Form);
        }
        if decoded.iter().all(|byte| *byte == decoded[0]) {
            return Err(KeyError::Sample);
        }
        let mut bytes = Zeroizing::new([0; LENGTH]);
        bytes.copy_from_slice(&decoded);
        Ok(Self::of(bytes))
    }

    /// As [`MasterKey::parse`] reads it, for the one file that holds it.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.bytes.as_slice()))
    }

    /// The first 8 hex digits of its SHA-256.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn bytes(&self) -> &[u8; LENGTH] {
        &self.bytes
    }
}

/// Name of the credential of systemd that holds the present key.
const CREDENTIAL: &str = "longshore.master-key";
/// Longest file that is read as a key, in bytes.
const LONGEST: u64 = 4096;

/// Where the master key may stand; the first that is there counts.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The directory of systemd's credentials.
    pub credentials: Option<PathBuf>,
    /// The file of the configuration; empty = none.
    pub file: PathBuf,
    /// The key itself, out of the configuration; empty = none.
    pub value: Option<longshore_identity::Secret>,
    /// Files of the keys before it.
    pub previous: Vec<PathBuf>,
    /// What backups hold: no key may lie in it.
    pub data_dir: PathBuf,
}

impl Sources {
    /// The keys that are there; none of them is no fault here.
    ///
    /// # Errors
    /// A sentence about a key that is there and cannot be used.
    pub fn ring(&self) -> Result<super::Keyring, String> {
        let mut previous = Vec::new();
        for path in &self.previous {
            let key = self.in_file(path)?;
            previous.push(
                key.ok_or_else(|| {
                    format!("secure.previous_keys: {} is not there", path.display())
                })?,
            );
        }
        let present = match self.credential()? {
            Some(key) => Some(key),
            None => self.in_file(&self.file)?,
        };
        let value = self
            .value
            .as_ref()
            .filter(|value| !value.expose().is_empty());
        let present = match (present, value) {
            (None, Some(value)) => {
                let key = MasterKey::parse(value.expose());
                Some(key.map_err(|error| format!("secure.master_key: {error}"))?)
            }
            (present, _) => present,
        };
        Ok(match present {
            Some(present) => super::Keyring::new(present, previous),
            None => super::Keyring::only_opening(previous),
        })
    }

    /// The service manager made the file, for this service alone.
    fn credential(&self) -> Result<Option<MasterKey>, String> {
        let Some(dir) = &self.credentials else {
            return Ok(None);
        };
        let path = dir.join(CREDENTIAL);
        read(&path, |_| Ok(()))
    }

    fn in_file(&self, path: &Path) -> Result<Option<MasterKey>, String> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if real(path).starts_with(real(&self.data_dir)) {
            let shown = path.display();
            return Err(format!(
                "{shown}: a master key must not lie in the data directory, which backups hold; move it, and name the new place in secure.master_key_file"
            ));
        }
        read(path, |file| {
            let mode = file.metadata().map_err(|error| error.to_string())?.mode();
            if mode & 0o077 != 0 {
                return Err(format!(
                    "others than its owner may use this key: chmod 0400 {}",
                    path.display()
                ));
            }
            Ok(())
        })
    }
}

/// The key in a file, unless there is no such file.
fn read(
    path: &Path,
    check: impl FnOnce(&File) -> Result<(), String>,
) -> Result<Option<MasterKey>, String> {
    let told = |text: String| format!("{}: {text}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(error.to_string())),
    };
    check(&file).map_err(told)?;
    let mut text = Zeroizing::new(String::new());
    let read = file.take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| told(error.to_string()))?;
    let key = MasterKey::parse(&text);
    key.map(Some).map_err(|error| told(error.to_string()))
}
