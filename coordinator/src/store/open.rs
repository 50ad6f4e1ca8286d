//! The lock, the file, and the settings each connection gets.

use super::{Doing, StoreError, migrate};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Older ones can damage a log that several connections use.
const SQLITE_MIN: i32 = 3_051_003;
/// A reader or the writer waits so long for the other, unless it is told another time.
pub(super) const BUSY: Duration = Duration::from_secs(5);
/// A log that had to grow beyond this is cut back to it.
const LOG_KEPT: i64 = 64 << 20;
/// Statements kept ready per connection; there are about thirty.
const STATEMENTS: usize = 64;
/// Owner only: the file holds hashes of secrets and people's data.
const MODE: u32 = 0o600;

/// The data directory is this process's until this is dropped, or the process dies.
#[derive(Debug)]
pub(super) struct Lock(Mark);

impl Lock {
    /// For the writer's thread, which may have to sign.
    pub(super) fn mark(&self) -> std::io::Result<Mark> {
        self.0.0.try_clone().map(Mark)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Said aloud: a child that was forked a moment ago may still have the file open.
        let _ = flock(&self.0.0, FlockOperation::Unlock); // closing it does the same
    }
}

/// What stands in the lock file: whose it is, and whether a write failed under it.
#[derive(Debug)]
pub(super) struct Mark(File);

/// Stands in the lock file after a failed write, until a start has checked everything.
const FAILED: &str = "failed";

impl Mark {
    /// Whether a write failed in an earlier life.
    fn is_failed(&self) -> bool {
        let mut text = [0; 64];
        let read = self.0.read_at(&mut text, 0).unwrap_or(0);
        String::from_utf8_lossy(&text[..read]).contains(FAILED)
    }

    /// Always the same bytes of the file, so that a full disk has room for them; where
    /// even that fails there is nobody left to tell.
    fn sign(&self, word: &str) {
        let text = format!("{:<10} {word:<6}\n", std::process::id());
        let _ = self.0.write_all_at(text.as_bytes(), 0);
        let _ = self.0.sync_data();
    }

    /// The next start has to look at the whole file before it serves.
    pub(super) fn sign_failed(&self) {
        self.sign(FAILED);
    }
}

/// Takes the data directory.
pub(super) fn lock(database: &Path) -> Result<Lock, StoreError> {
    let path = database.with_file_name("lock");
    let io = |doing, source| StoreError::Io {
        doing,
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(&path)
        .map_err(|e| io("open", e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(Mark(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text); // only makes the message better
            let pid = text.split_whitespace().next().unwrap_or_default();
            let holder = match pid.parse::<u32>() {
                Ok(pid) => format!(" (process {pid})"),
                Err(_) => String::new(),
            };
            let dir = database.parent().unwrap_or(Path::new(".")).to_owned();
            Err(StoreError::Locked { dir, holder })
        }
        Err(errno) => Err(io("lock", errno.into())),
    }
}

/// Opens the writing connection; makes the file if there is none. After a write that
/// failed, the whole file is checked before anybody is served from it. A mere crash is no
/// such case: the log has its own checksums, and a large file takes seconds to check.
pub(super) fn writer(path: &Path, lock: &Lock) -> Result<Connection, StoreError> {
    if rusqlite::version_number() < SQLITE_MIN {
        return Err(StoreError::OldSqlite {
            found: rusqlite::version(),
        });
    }
    // A process that ended well leaves no log.
    let crashed = log_of(path).metadata().is_ok_and(|m| m.len() > 0);
    create(path, crashed)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).doing("be opened")?;
    settings(&db).map_err(|e| about_file(e, path))?;
    // Before anything is written: what is not ours stays as it is.
    migrate::form(&db, path).map_err(|e| about_file(e, path))?;
    let mode: String = db
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .doing("keep a log")
        .map_err(|e| about_file(e, path))?;
    if mode != "wal" {
        let source = rusqlite::Error::InvalidPath(path.to_owned());
        return Err(StoreError::Sqlite {
            doing: "keep a log (is it on a network file system?)",
            source,
        });
    }
    let set = |name, value: i64| {
        db.pragma_update(None, name, value)
            .doing("take its settings")
    };
    set("wal_autocheckpoint", 0)?; // the writer's thread does it, where a failed sync is seen
    set("journal_size_limit", LOG_KEPT)?;
    if lock.0.is_failed() {
        check(&db, path)?;
    }
    lock.0.sign("");
    Ok(db)
}

/// Opens a connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).doing("be opened for reading")?;
    settings(&db)?;
    db.pragma_update(None, "query_only", true)
        .doing("take its settings")?;
    Ok(db)
}

/// The log beside a database.
fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

fn create(path: &Path, log: bool) -> Result<(), StoreError> {
    let io = |doing, source| StoreError::Io {
        doing,
        path: path.to_owned(),
        source,
    };
    if log && !path.exists() {
        return Err(StoreError::Foreign {
            path: path.to_owned(),
            why: "the file is gone and its log (-wal) is there; put the database back beside it"
                .to_owned(),
        });
    }
    if path.exists() {
        return std::fs::set_permissions(path, Permissions::from_mode(MODE))
            .map_err(|e| io("set the mode of", e));
    }
    new_file(path)
}

/// Makes an empty file only its owner can read.
pub(super) fn new_file(path: &Path) -> Result<(), StoreError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
        .map_err(|source| StoreError::Io {
            doing: "create",
            path: path.to_owned(),
            source,
        })?;
    sync_directory(path)
}

/// The name of a file must survive a power cut as well as what is in it.
pub(super) fn sync_directory(of: &Path) -> Result<(), StoreError> {
    let dir = of
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|source| StoreError::Io {
            doing: "sync the directory",
            path: dir.to_owned(),
            source,
        })
}

fn settings(db: &Connection) -> Result<(), StoreError> {
    let doing = "take its settings";
    db.busy_timeout(BUSY).doing(doing)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    for (config, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
    ] {
        db.set_db_config(config, on).doing(doing)?;
    }
    let set = |name, value: &str| db.pragma_update(None, name, value).doing(doing);
    set("cell_size_check", "ON")?;
    set("mmap_size", "0")?; // a torn page must be an error, not a signal
    set("cache_size", "-16384")?;
    set("secure_delete", "ON")?; // what was a secret does not stay in a free page
    set("temp_store", "MEMORY")?;
    // Reads the file for the first time: something foreign shows here.
    set("synchronous", "FULL")
}

/// Says which file, and what to do, when the file is the trouble.
pub(super) fn about_file(error: StoreError, path: &Path) -> StoreError {
    let StoreError::Sqlite { source, .. } = &error else {
        return error;
    };
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::Foreign {
            path,
            why: "it is not an SQLite file".to_owned(),
        },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged {
            path,
            why: source.to_string(),
        },
        _ => error,
    }
}

/// Walks over the whole file.
pub(super) fn check(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let mut found: Vec<String> = Vec::new();
    let mut ask = |question: &str, pick: fn(&rusqlite::Row<'_>) -> rusqlite::Result<String>| {
        let mut statement = db.prepare(question)?;
        let rows = statement.query_map([], pick)?;
        for row in rows {
            found.push(row?);
        }
        rusqlite::Result::Ok(())
    };
    let orphan = |row: &rusqlite::Row<'_>| {
        let table: String = row.get(0)?;
        Ok(format!("a row of {table} belongs to nothing"))
    };
    ask("PRAGMA quick_check(5)", |row| row.get(0))
        .and_then(|()| ask("PRAGMA foreign_key_check", orphan))
        .doing("be checked")
        .map_err(|e| about_file(e, path))?;
    found.retain(|line| line != "ok");
    found.truncate(5);
    if found.is_empty() {
        Ok(())
    } else {
        Err(StoreError::Damaged {
            path: path.to_owned(),
            why: found.join("; "),
        })
    }
}
