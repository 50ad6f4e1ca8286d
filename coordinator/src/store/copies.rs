//! Copies of the database: made while a coordinator serves, and put in the place of it.
//!
//! A copy that is put in place is older than what it replaces. Whatever was counted since then
//! is counted on from above: a number that was given once names something somewhere.

use super::{Doing, StoreError, migrate, open};
use longshore_common::ids::ClusterId;
use longshore_common::time::Timestamp;
use rusqlite::backup::Backup;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So many numbers of sessions are left out: more than were given out since the copy was made,
/// by whom nobody remembers.
const SESSIONS_LEFT_OUT: i64 = 10_000;
/// Seconds for which what waits in a copy is given no place once that was put back: a coordinator is
/// started and the nodes are connected again by then.
const WAITS_S: i64 = 120;
/// Another process may be in the way for a moment.
const PAUSE: Duration = Duration::from_millis(50);

/// What was put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Whose it is.
    pub cluster: ClusterId,
    /// Generation of the coordinator that it was brought to; the next start is one above.
    pub generation: u64,
    /// Number of the next session.
    pub next_session: u64,
    /// Where the database went that was there; none = there was none.
    pub before: Option<PathBuf>,
}

/// Facts of an installation, as its database has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) cluster: String,
    pub(super) generation: i64,
    pub(super) next_session: i64,
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        doing,
        path,
        source,
    }
}

/// Opens a file that is one of ours, of a form that is known, to read it.
fn open_ours(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(io("open", path)(std::io::ErrorKind::NotFound.into()));
    }
    let db = open::reader(path).map_err(|e| open::about_file(e, path))?;
    let found = migrate::form(&db, path).map_err(|e| open::about_file(e, path))?;
    let known = u32::try_from(migrate::STEPS.len()).unwrap_or(u32::MAX);
    match found {
        0 => Err(StoreError::Foreign {
            path: path.to_owned(),
            why: "there is nothing in it".to_owned(),
        }),
        found if found > known => Err(StoreError::Newer { found, known }),
        _ => Ok(db),
    }
}

/// Copies a database as it stands at one instant into a new file that only its owner can read,
/// and checks the copy. It is one file, without a log beside it.
pub(super) fn copy(db: &Connection, to: &Path) -> Result<(), StoreError> {
    let doing = "be copied";
    open::new_file(to)?;
    let mut copy = Connection::open(to).doing(doing)?;
    // In one step: in several it would begin anew with each change in between.
    Backup::new(db, &mut copy)
        .and_then(|backup| backup.run_to_completion(i32::MAX, PAUSE, None))
        .doing(doing)?;
    open::check(&copy, to)?;
    alone(copy, to)
}

/// Closes a database so that it is one file and on the disk.
fn alone(db: Connection, path: &Path) -> Result<(), StoreError> {
    let doing = "be closed";
    db.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
        .doing(doing)?;
    db.close().map_err(|(_, error)| error).doing(doing)?;
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(io("sync", path))
}

/// Writes a copy of the database to a file that is not there yet, also while a coordinator
/// serves. The copy has mode 0600. Returns its size in bytes.
///
/// # Errors
/// [`StoreError`]: there is no such database, the copy is damaged, or the file cannot be
/// written or is there already. Then no file is left under that name.
pub fn backup(database: &Path, to: &Path) -> Result<u64, StoreError> {
    if to.symlink_metadata().is_ok() {
        return Err(io("create", to)(std::io::ErrorKind::AlreadyExists.into()));
    }
    let db = open_ours(database)?;
    let part = beside(to, ".part");
    let made = copy(&db, &part).and_then(|()| {
        // Unlike a new name for it this fails where a file came meanwhile.
        std::fs::hard_link(&part, to).map_err(io("create", to))
    });
    let _ = std::fs::remove_file(&part); // of a copy that failed, or its second name
    made?;
    open::sync_directory(to)?;
    to.metadata()
        .map(|meta| meta.len())
        .map_err(io("look at", to))
}

fn facts(db: &Connection) -> Result<Option<Facts>, StoreError> {
    let sql = "SELECT cluster, generation, next_session FROM meta WHERE id = 1";
    let row = db.query_row(sql, [], |row| {
        Ok(Facts {
            cluster: row.get(0)?,
            generation: row.get(1)?,
            next_session: row.get(2)?,
        })
    });
    row.optional().doing("read the facts of the installation")
}

/// How the numbers go on where `copy` takes the place of what may be known of `before`.
/// Generations are instants, so that one copy that is put back later than another stands above it.
pub(super) fn go_on(copy: &Facts, before: Option<&Facts>, now: Timestamp) -> (i64, i64) {
    let before = before.filter(|before| before.cluster == copy.cluster);
    let generation = |f: &Facts| f.generation.saturating_add(1);
    let sessions = |f: &Facts| f.next_session.saturating_add(SESSIONS_LEFT_OUT);
    let seconds = now.0.div_euclid(1000);
    let both = || std::iter::once(copy).chain(before);
    (
        both().map(generation).fold(seconds, i64::max),
        both().map(sessions).fold(1, i64::max),
    )
}

/// Puts a copy in the place of a database that no coordinator uses. What was there stays beside
/// it, as `<name>.before-<seconds>`.
///
/// # Errors
/// [`StoreError`]: a coordinator runs, or the copy cannot be used: it is damaged, of a newer
/// release, of another program or of another cluster than what is there. Then nothing was changed.
pub fn restore(database: &Path, from: &Path, now: Timestamp) -> Result<Restored, StoreError> {
    let _lock = open::lock(database)?;
    let source = open_ours(from)?;
    let part = beside(database, ".restore-part");
    let _ = std::fs::remove_file(&part); // of one that was cut short
    let made = prepare(&source, (from, &part), database, now);
    if made.is_err() {
        let _ = std::fs::remove_file(&part); // the error is told
    }
    let (cluster, generation, next_session) = made?;
    let before = put_in_place(&part, database, now)?;
    Ok(Restored {
        cluster,
        generation,
        next_session,
        before,
    })
}

fn prepare(
    source: &Connection,
    (from, part): (&Path, &Path),
    database: &Path,
    now: Timestamp,
) -> Result<(ClusterId, u64, u64), StoreError> {
    let foreign = |why: &str| StoreError::Foreign {
        path: from.to_owned(),
        why: why.to_owned(),
    };
    copy(source, part).map_err(|error| match error {
        // The part is gone when somebody reads this.
        StoreError::Damaged { why, .. } => StoreError::Damaged {
            path: from.to_owned(),
            why,
        },
        other => other,
    })?;
    let copied = facts(source)?.ok_or_else(|| foreign("it is of no installation"))?;
    // One that cannot be read is a good reason to put another in its place.
    let there = open_ours(database).and_then(|db| facts(&db));
    let there = there.ok().flatten();
    if there
        .as_ref()
        .is_some_and(|there| there.cluster != copied.cluster)
    {
        return Err(foreign(
            "it is of another cluster than the one that is here",
        ));
    }
    let cluster = copied
        .cluster
        .parse()
        .map_err(|_| foreign("its cluster has no id"))?;
    let (generation, next_session) = go_on(&copied, there.as_ref(), now);
    let doing = "be brought on";
    let mut db = Connection::open(part).doing(doing)?;
    let change = db.transaction().doing(doing)?;
    change
        .execute(
            "UPDATE meta SET generation = ?1, next_session = ?2 WHERE id = 1",
            params![generation, next_session],
        )
        .doing(doing)?;
    // What an agent applied of the numbers after the copy must not be taken for these. They rise
    // by far less than once in a millisecond, so this is above all of them.
    change
        .execute(
            "UPDATE agents SET body = json_set(body, '$.generation',
                max(json_extract(body, '$.generation') + 1, ?1))",
            params![now.0],
        )
        .doing(doing)?;
    // What waited in the copy may run by now: nodes say so before it is given a place anew.
    let text = now.plus_s(WAITS_S).to_string();
    change
        .execute(
            "UPDATE sessions SET body = json_set(body, '$.not_before',
                max(coalesce(json_extract(body, '$.not_before'), ''), ?1))
             WHERE settled = 0 AND state = 'PENDING' AND json_extract(body, '$.array') IS NULL",
            params![text],
        )
        .doing(doing)?;
    change.commit().doing(doing)?;
    alone(db, part)?;
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok((cluster, number(generation), number(next_session)))
}

fn put_in_place(
    part: &Path,
    database: &Path,
    now: Timestamp,
) -> Result<Option<PathBuf>, StoreError> {
    let seconds = now.0.div_euclid(1000);
    // Where one was put back in this second there is one of this name.
    let name = |n: u32| match n {
        1 => beside(database, &format!(".before-{seconds}")),
        n => beside(database, &format!(".before-{seconds}-{n}")),
    };
    let mut asides = (1..=1000).map(name);
    let aside = asides.find(|aside| aside.symlink_metadata().is_err());
    let aside = aside.unwrap_or_else(|| name(1)); // which says that it exists
    let (log, index) = (beside(database, "-wal"), beside(database, "-shm"));
    let there = database.exists();
    if there && log.metadata().is_ok_and(|log| log.len() > 0) {
        // Of one that was killed: taken in, or kept beside what it belongs to.
        let taken_in = Connection::open(database)
            .and_then(|db| db.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())));
        if let Err(error) = taken_in {
            tracing::debug!(%error, "the log beside the database cannot be taken in");
        }
    }
    if log.exists() {
        std::fs::rename(&log, beside(&aside, "-wal")).map_err(io("move", &log))?;
    }
    let _ = std::fs::remove_file(&index); // made anew from the log
    if there {
        // It has both names for a moment: at no instant is there none, and none is made anew.
        std::fs::hard_link(database, &aside).map_err(io("keep", database))?;
    }
    std::fs::rename(part, database).map_err(io("put in place", database))?;
    open::sync_directory(database)?;
    Ok(there.then_some(aside))
}
