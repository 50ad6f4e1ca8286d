//! Past sessions and their history, read beside the writer.

use super::load::{object, parse, unsigned};
use super::{Doing, KeptGiven, StoreError, open};
use longshore_common::ids::{Attempt, GroupId, SessionId, UserId};
use longshore_common::session::{SessionState, SessionType};
use longshore_common::time::Timestamp;
use longshore_core::model::{History, Reached, Session};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Readers at the same time; more wait their turn.
const READERS: usize = 4;

/// Which tasks of arrays are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tasks {
    /// All, among the other sessions.
    #[default]
    All,
    /// None: arrays as a whole, and sessions by themselves.
    None,
    /// Those of this array and nothing else.
    Of(SessionId),
}

/// Which sessions are wanted. The default wants all that have not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Of this person only.
    pub owner: Option<UserId>,
    /// In one of these states; empty = in any.
    pub states: Vec<SessionState>,
    /// Of one of these types; empty = of any.
    pub kinds: Vec<SessionType>,
    /// In one of these groups; empty = in any.
    pub groups: Vec<GroupId>,
    /// Whose name holds this text, in any case of letters.
    pub name_contains: Option<String>,
    /// Also those in a final state. Without it a final state in `states` finds nothing.
    pub include_ended: bool,
    /// Tasks of arrays: all, none, or those of one array alone.
    pub tasks: Tasks,
    /// Only those that come after this one in a list: where the page before ended.
    pub before_id: Option<SessionId>,
    /// At most so many.
    pub limit: u32,
}

/// Reads what is stored, cheap to copy. Sees what was acknowledged before the call.
#[derive(Clone)]
pub struct Reader {
    pool: Arc<Pool>,
}

struct Pool {
    path: PathBuf,
    busy: Duration,
    permits: Arc<Semaphore>,
    /// Connections at rest; none once the store is closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// Reads this file, and waits for `busy` when somebody else holds it.
    pub(super) fn new(path: &Path, busy: Duration) -> Self {
        let pool = Pool {
            path: path.to_owned(),
            busy,
            permits: Arc::new(Semaphore::new(READERS)),
            idle: Mutex::new(Some(Vec::new())),
        };
        Self {
            pool: Arc::new(pool),
        }
    }

    /// Closes what is at rest and refuses everything from now on.
    pub(super) fn close(&self) {
        self.pool.permits.close();
        self.pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// One session, live or past.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.run(move |db| session(db, id)).await
    }

    /// What a session was given with its request, still encrypted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn given(&self, id: SessionId) -> Result<Option<KeptGiven>, StoreError> {
        self.run(move |db| super::sealed::given(db, id)).await
    }

    /// What the present attempt of a session is given, still encrypted; none = it is not kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delivered(&self, id: SessionId) -> Result<Option<KeptGiven>, StoreError> {
        self.run(move |db| super::sealed::delivered(db, id)).await
    }

    /// Sessions, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sessions(&self, filter: SessionFilter) -> Result<Vec<Session>, StoreError> {
        self.run(move |db| sessions(db, &filter)).await
    }

    /// The history of a session, oldest line first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(&self, id: SessionId) -> Result<Vec<History>, StoreError> {
        self.run(move |db| history(db, id)).await
    }

    /// Administrators who reached into a session of somebody else, the first one first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reaches(&self, id: SessionId) -> Result<Vec<Reached>, StoreError> {
        self.run(move |db| reaches(db, id)).await
    }

    /// The latest session that has or had this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session_by_name(
        &self,
        owner: UserId,
        name: &str,
    ) -> Result<Option<SessionId>, StoreError> {
        let name = name.to_owned();
        self.run(move |db| by_name(db, owner, &name)).await
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Failed("it is closed".to_owned());
        let pool = Arc::clone(&self.pool);
        let permit = Arc::clone(&pool.permits).acquire_owned().await;
        let permit = permit.map_err(|_| closed())?;
        let done = tokio::task::spawn_blocking(move || {
            // Who asked may be gone; the work goes on, and counts until it is done.
            let _permit = permit;
            let db = pool.take().ok_or_else(closed)??;
            let result = work(&db);
            pool.give_back(db);
            result
        });
        done.await
            .map_err(|error| StoreError::Failed(error.to_string()))?
    }
}

impl Pool {
    fn take(&self) -> Option<Result<Connection, StoreError>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.as_mut()?.pop() {
            Some(db) => Some(Ok(db)),
            None => Some(open::reader(&self.path).and_then(|db| {
                db.busy_timeout(self.busy).doing("take its settings")?;
                Ok(db)
            })),
        }
    }

    fn give_back(&self, db: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(idle) = idle.as_mut() {
            idle.push(db);
        }
    }
}

fn session(db: &Connection, id: SessionId) -> Result<Option<Session>, StoreError> {
    let Ok(number) = i64::try_from(id.0) else {
        return Ok(None);
    };
    let mut statement = db
        .prepare_cached("SELECT id, body FROM sessions WHERE id = ?1")
        .doing("read a session")?;
    let mut rows = statement.query([number]).doing("read a session")?;
    match rows.next().doing("read a session")? {
        Some(row) => object("session", row).map(Some),
        None => Ok(None),
    }
}

fn sessions(db: &Connection, filter: &SessionFilter) -> Result<Vec<Session>, StoreError> {
    let doing = "list sessions";
    let (sql, values) = list_statement(filter);
    let mut statement = db.prepare_cached(&sql).doing(doing)?;
    let mut rows = statement.query(params_from_iter(values)).doing(doing)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().doing(doing)? {
        found.push(object("session", row)?);
    }
    Ok(found)
}

/// The text depends on which members are set and how many they hold, never on what they hold.
fn list_statement(filter: &SessionFilter) -> (String, Vec<Value>) {
    let mut wheres: Vec<String> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut any_of = |column: &str, words: Vec<String>| {
        if !words.is_empty() {
            let marks = vec!["?"; words.len()].join(", ");
            wheres.push(format!("{column} IN ({marks})"));
            values.extend(words.into_iter().map(Value::Text));
        }
    };
    any_of(
        "owner",
        filter.owner.iter().map(ToString::to_string).collect(),
    );
    any_of(
        "state",
        filter.states.iter().map(ToString::to_string).collect(),
    );
    any_of(
        "kind",
        filter.kinds.iter().map(ToString::to_string).collect(),
    );
    any_of(
        "group_id",
        filter.groups.iter().map(ToString::to_string).collect(),
    );
    if let Some(text) = &filter.name_contains {
        // Names have lower-case letters only.
        wheres.push("instr(name, ?) > 0".to_owned());
        values.push(Value::Text(text.to_lowercase()));
    }
    if !filter.include_ended {
        // What has not ended is not settled: the small index serves.
        wheres.push("settled = 0 AND state NOT IN ('TERMINATED', 'CANCELLED', 'ERROR')".to_owned());
    }
    if let Some(before) = filter.before_id {
        wheres.push("place < ?".to_owned());
        values.push(place(before));
    }
    match filter.tasks {
        Tasks::All => (),
        Tasks::None => wheres.push("id <= 1099511627775".to_owned()),
        Tasks::Of(array) => {
            wheres.push("place BETWEEN ? AND ?".to_owned());
            values.push(place(array.task(0)));
            values.push(place(array.task(u32::MAX)));
        }
    }
    let wheres = match wheres.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", wheres.join(" AND ")),
    };
    values.push(Value::Integer(i64::from(filter.limit)));
    (
        format!("SELECT id, body FROM sessions{wheres} ORDER BY place DESC LIMIT ?"),
        values,
    )
}

fn place(id: SessionId) -> Value {
    Value::Integer(i64::try_from(id.place()).unwrap_or(i64::MAX))
}

fn history(db: &Connection, id: SessionId) -> Result<Vec<History>, StoreError> {
    let doing = "read a history";
    let Ok(number) = i64::try_from(id.0) else {
        return Ok(Vec::new());
    };
    let mut statement = db
        .prepare_cached(
            "SELECT seq, at, from_state, to_state, reason, detail, by, attempt
             FROM session_history WHERE session = ?1 ORDER BY seq",
        )
        .doing(doing)?;
    let mut rows = statement.query([number]).doing(doing)?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next().doing(doing)? {
        lines.push(history_line(id, row)?);
    }
    Ok(lines)
}

fn reaches(db: &Connection, session: SessionId) -> Result<Vec<Reached>, StoreError> {
    let doing = "read who reached in";
    let Ok(number) = i64::try_from(session.0) else {
        return Ok(Vec::new());
    };
    let sql = "SELECT after, at, by, what FROM session_reaches WHERE session = ?1
        ORDER BY rowid";
    let mut statement = db.prepare_cached(sql).doing(doing)?;
    let mut rows = statement.query([number]).doing(doing)?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next().doing(doing)? {
        lines.push(Reached {
            session,
            after: unsigned("reach into session", session, row.get(0).doing(doing)?)?,
            at: Timestamp(row.get(1).doing(doing)?),
            by: row.get(2).doing(doing)?,
            what: row.get(3).doing(doing)?,
        });
    }
    Ok(lines)
}

fn history_line(session: SessionId, row: &Row<'_>) -> Result<History, StoreError> {
    let doing = "read a history";
    let text = |at: usize| row.get::<_, Option<String>>(at).doing(doing);
    let what = "history of session";
    Ok(History {
        session,
        seq: unsigned(what, session, row.get(0).doing(doing)?)?,
        at: Timestamp(row.get(1).doing(doing)?),
        from: text(2)?.map(|t| parse(what, session, &t)).transpose()?,
        to: parse(what, session, &row.get::<_, String>(3).doing(doing)?)?,
        reason: text(4)?.map(|t| parse(what, session, &t)).transpose()?,
        detail: text(5)?,
        by: row.get(6).doing(doing)?,
        attempt: Attempt(row.get(7).doing(doing)?),
    })
}

fn by_name(db: &Connection, owner: UserId, name: &str) -> Result<Option<SessionId>, StoreError> {
    let id: Option<i64> = db
        .prepare_cached("SELECT max(id) FROM sessions WHERE owner = ?1 AND name = ?2")
        .and_then(|mut s| {
            s.query_row(params![owner.to_string(), name], |row| row.get(0))
                .optional()
        })
        .doing("find a session by name")?
        .flatten();
    id.map(|id| unsigned("session", name, id).map(SessionId))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn who_hangs_up_leaves_no_room_for_more_readers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("longshore.db");
        Connection::open(&path).unwrap();
        let reader = Reader::new(&path, open::BUSY);
        let mut releases = Vec::new();
        for _ in 0..READERS {
            let (release, held) = mpsc::channel::<()>();
            let (begins, begun) = tokio::sync::oneshot::channel();
            releases.push(release);
            let who = reader.clone();
            let asking = tokio::spawn(async move {
                let work = move |_: &Connection| {
                    let _ = begins.send(());
                    let _ = held.recv();
                    Ok(())
                };
                who.run(work).await
            });
            begun.await.unwrap();
            asking.abort();
            assert!(asking.await.is_err(), "it has hung up");
        }
        assert_eq!(reader.pool.permits.available_permits(), 0);
        drop(releases);
        let all = reader.pool.permits.acquire_many(READERS as u32).await;
        assert!(all.is_ok());
        let idle = reader.pool.idle.lock().unwrap();
        assert_eq!(idle.as_ref().map(Vec::len), Some(READERS));
    }
}
