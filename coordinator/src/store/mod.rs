//! The one file everything is kept in: SQLite, one writer, a few readers.
//!
//! What [`Store::commit`] has acknowledged is on the disk, power cut or not. One thread
//! owns the only connection that writes; each batch of changes is one transaction.
//! [`Reader`] looks at what memory has forgotten, beside the writer.
//!
//! | file | holds |
//! |---|---|
//! | `open.rs` | the lock, the file, the settings of a connection, checks after a crash |
//! | `migrate.rs` | numbered steps from one form of the file to the next |
//! | `write.rs` | the writer's thread; changes to rows |
//! | `load.rs` | rows to [`State`] |
//! | `read.rs` | past sessions and their history |
//! | `sealed.rs` | encrypted values: kept, counted, wrapped by another master key |
//! | `usage.rs` | rows of usage |
//! | `notes.rs` | what people are told, until long after they were |
//! | `audit.rs` | the audit log: searches, and whether its chain is whole |

mod audit;
mod configs;
mod copies;
mod load;
mod migrate;
mod notes;
mod open;
mod people;
mod read;
mod replays;
mod retention;
mod sealed;
mod usage;
mod vaults;
mod write;

pub use audit::{AuditFilter, verify_audit_file};
pub use copies::{Restored, backup, restore};
pub use notes::NoteFilter;
pub use read::{Reader, SessionFilter, Tasks};
pub use replays::{KEPT_MOST, KEPT_MS, StoredReplay};
pub use retention::{EndedPlace, Part as OldPart};
pub use sealed::{KeptGiven, Place as RewrapPlace, Rewrapped, Secrets};
pub use usage::{UsageFilter, UsageOf, UsagePlace};

use crate::secrets::Keyring;
use longshore_core::model::{Change, Meta, State};
use rusqlite::ErrorCode;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use write::Order;

/// Why the store did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data directory.
    #[error("{} is in use by another coordinator{holder}; stop it first", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Its process, as ` (process 17)`, if it is known.
        holder: String,
    },
    /// The file was written by a later release.
    #[error(
        "the database is of form {found}, this release knows forms up to {known}: use the newer release again, or restore a backup of this one"
    )]
    Newer {
        /// The form of the file.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// The file is not one of ours.
    #[error("{} is not a database of Longshore: {why}", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What tells it.
        why: String,
    },
    /// The file is damaged.
    #[error("the database {} is damaged, restore a backup: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// The first things that were found.
        why: String,
    },
    /// SQLite itself can damage files.
    #[error("SQLite {found} can damage a database; 3.51.3 or later is needed")]
    OldSqlite {
        /// Its version.
        found: &'static str,
    },
    /// SQLite refused or failed.
    #[error("the database could not {doing}: {source}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The system refused or failed.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A stored object cannot be read, or one cannot be written.
    #[error("{what} {id} cannot be stored or read: {why}")]
    Object {
        /// Its table.
        what: &'static str,
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
    /// A master key is needed before anything is stored.
    #[error(
        "{0}: put 32 random bytes in base64 (openssl rand -base64 32) into /etc/longshore/master.key, mode 0400, owned by the user of the coordinator, or name another file in secure.master_key_file"
    )]
    NoKey(&'static str),
    /// The writer failed before, or is gone; a new start is needed.
    #[error("the database failed earlier ({0}); the coordinator has to start again")]
    Failed(String),
}

impl StoreError {
    /// Whether trying again proves nothing: after a failed write or sync the kernel may
    /// have dropped pages, so only a new start shows what is really on the disk.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(
                    ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::CannotOpen
                )
            ),
            Self::Io { .. } | Self::Damaged { .. } | Self::Failed(_) => true,
            _ => false,
        }
    }

    /// Whether it was a record of the audit log that could not be written. Then nothing was:
    /// what nobody could look up must not happen.
    #[must_use]
    pub fn is_audit(&self) -> bool {
        match self {
            Self::Sqlite { doing, .. } => *doing == AUDIT,
            Self::Object { what, .. } => *what == AUDIT_RECORD,
            _ => false,
        }
    }

    /// Whether there is no room: nothing was done, and all is well once there is.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => source.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Self::Io { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }
}

/// What is being done when a record of the audit log is written.
/// Bytes free on a disk below which nothing new should be stored there.
pub(crate) const DISK_MIN: u64 = 256 << 20;
const AUDIT: &str = "store an audit record";
/// How errors name one.
pub(crate) const AUDIT_RECORD: &str = "audit record";

/// Names what was being done when SQLite failed.
trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sqlite { doing, source })
    }
}

/// The way to the store, cheap to copy. The last copy dropped waits for the writer.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    orders: Option<std::sync::mpsc::Sender<Order>>,
    writer: Option<JoinHandle<()>>,
    reader: Reader,
    keyring: Keyring,
    /// Last, so that it outlives the writer.
    _lock: open::Lock,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Readers first: whoever closes last tidies the log away, and only the writer can.
        self.reader.close();
        self.orders = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join(); // a panic there has been printed, and there is nothing left to do
        }
    }
}

impl Store {
    /// Opens a database, or makes one that holds `new_meta` and nothing else, and reads
    /// the state. The directory must exist and belong to one coordinator alone.
    ///
    /// # Errors
    /// [`StoreError`]; each says what a person can do about it.
    pub fn open(
        path: &Path,
        keyring: &Keyring,
        new_meta: impl FnOnce() -> Meta,
    ) -> Result<(Self, State), StoreError> {
        Self::open_waiting(path, keyring, open::BUSY, new_meta)
    }

    /// The same, which waits for `busy` when somebody else holds the file.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_waiting(
        path: &Path,
        keyring: &Keyring,
        busy: Duration,
        new_meta: impl FnOnce() -> Meta,
    ) -> Result<(Self, State), StoreError> {
        Self::open_with(path, (keyring, busy), new_meta, migrate::STEPS, None)
    }

    fn open_with(
        path: &Path,
        (keyring, busy): (&Keyring, Duration),
        new_meta: impl FnOnce() -> Meta,
        steps: &[&str],
        max_pages: Option<u32>,
    ) -> Result<(Self, State), StoreError> {
        let lock = open::lock(path)?;
        let mut db = open::writer(path, &lock)?;
        db.busy_timeout(busy).doing("take its settings")?;
        migrate::run(&mut db, path, steps)?;
        load::ensure_meta(&mut db, keyring, new_meta)?;
        sealed::begin(&mut db, keyring)?;
        let state = load::state(&mut db, keyring)?;
        if let Some(pages) = max_pages {
            db.pragma_update(None, "max_page_count", pages)
                .doing("set a limit")?;
        }
        let io = |doing, source| StoreError::Io {
            doing,
            path: path.to_owned(),
            source,
        };
        let mark = lock.mark().map_err(|e| io("lock", e))?;
        let (orders, inbox) = std::sync::mpsc::channel();
        let keys = keyring.clone();
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write::run(db, &keys, &mark, &inbox))
            .map_err(|e| io("start the writer of", e))?;
        let reader = Reader::new(path, busy);
        let inner = Inner {
            orders: Some(orders),
            writer: Some(writer),
            reader,
            keyring: keyring.clone(),
            _lock: lock,
        };
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            state,
        ))
    }

    /// Stores all changes or none. Returns once they are on the disk.
    ///
    /// # Errors
    /// [`StoreError`]: nothing was stored, unless [`StoreError::is_fatal`] - then only a
    /// new start can tell.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.order(|reply| Order::Commit(changes, reply)).await
    }

    /// Reads the state back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(&self) -> Result<State, StoreError> {
        self.order(Order::Load).await.map(|state| *state)
    }

    /// Reads past things, beside the writer.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.inner.reader.clone()
    }

    /// What can be done about encrypted values as a whole.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        Secrets {
            store: Arc::downgrade(&self.inner),
            keyring: self.inner.keyring.clone(),
        }
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Order,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Failed("its writer is gone".to_owned());
        let (reply, answer) = oneshot::channel();
        let orders = self.inner.orders.as_ref().ok_or_else(gone)?;
        orders.send(order(reply)).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// The same file by another connection, for tests that damage it.
#[cfg(test)]
pub(crate) use rusqlite::Connection as RawConnection;

#[cfg(test)]
mod tests;
