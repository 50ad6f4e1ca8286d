//! Requests with an idempotency key: rows that are written as they are carried out, and read at
//! the next start.

use super::load::{parse, unreadable};
use super::read::Reader;
use super::write::{body, execute};
use super::{Doing, StoreError};
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use longshore_core::model::{Replay, ReplayAnswer, ReplayStep};
use rusqlite::{Connection, Row, Transaction, params};

/// A request is known for a day.
pub const KEPT_MS: i64 = 86_400_000;
/// Requests known at a time. Far more than people make in a day; of a script that makes more the
/// oldest are forgotten first.
pub const KEPT_MOST: u32 = 20_000;

const BEGUN: &str = "INSERT INTO replays (caller, route, key, request, at)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (caller, route, key)
    DO UPDATE SET request = ?4, at = ?5, status = NULL, headers = '[]', body = x''";
const ANSWERED: &str = "UPDATE replays SET at = ?4, status = ?5, headers = ?6, body = ?7
    WHERE caller = ?1 AND route = ?2 AND key = ?3";
const FREED: &str = "DELETE FROM replays WHERE caller = ?1 AND route = ?2 AND key = ?3";
const OLD: &str = "DELETE FROM replays WHERE at <= ?1";
const MANY: &str = "DELETE FROM replays WHERE rowid <= (SELECT max(rowid) FROM replays) - ?1";

/// Notes one, and forgets those that nobody asks for any more.
pub(super) fn write(
    to: &Transaction<'_>,
    replay: &Replay,
    at: Timestamp,
) -> Result<(), StoreError> {
    let doing = "note a request with a key";
    let (caller, route, key) = (replay.caller.to_string(), &replay.route, &replay.key);
    match &replay.step {
        ReplayStep::Begun { request } => {
            execute(to, OLD, [at.0.saturating_sub(KEPT_MS)], doing)?;
            let values = params![caller, route, key, request, at.0];
            execute(to, BEGUN, values, doing)?;
            execute(to, MANY, [KEPT_MOST], doing)
        }
        ReplayStep::Answered(answer) => {
            let headers = body("request with a key", key, &answer.headers)?;
            let values = params![
                caller,
                route,
                key,
                at.0,
                answer.status,
                headers,
                answer.body
            ];
            execute(to, ANSWERED, values, doing)
        }
        ReplayStep::Freed => execute(to, FREED, params![caller, route, key], doing),
    }
}

/// A request that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReplay {
    /// Who asked.
    pub caller: UserId,
    /// The operation, by its id.
    pub route: String,
    /// The key of the caller's choice.
    pub key: String,
    /// Over everything it says, keyed.
    pub request: [u8; 32],
    /// When it was noted last.
    pub at: Timestamp,
    /// What was said; none = nobody knows whether it was carried out.
    pub answer: Option<ReplayAnswer>,
}

impl Reader {
    /// Requests with a key that are known, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replays(&self) -> Result<Vec<StoredReplay>, StoreError> {
        self.run(all).await
    }
}

fn all(db: &Connection) -> Result<Vec<StoredReplay>, StoreError> {
    let doing = "read requests with a key";
    let sql = "SELECT caller, route, key, request, at, status, headers, body FROM replays
        ORDER BY at, rowid";
    let mut statement = db.prepare(sql).doing(doing)?;
    let mut rows = statement.query([]).doing(doing)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().doing(doing)? {
        found.push(one(row)?);
    }
    Ok(found)
}

fn one(row: &Row<'_>) -> Result<StoredReplay, StoreError> {
    let (doing, what) = ("read a request with a key", "request with a key");
    let caller: String = row.get(0).doing(doing)?;
    let key: String = row.get(2).doing(doing)?;
    let answer = match row.get::<_, Option<u16>>(5).doing(doing)? {
        None => None,
        Some(status) => {
            let headers: String = row.get(6).doing(doing)?;
            Some(ReplayAnswer {
                status,
                headers: serde_json::from_str(&headers)
                    .map_err(|error| unreadable(what, &key, error))?,
                body: row.get(7).doing(doing)?,
            })
        }
    };
    Ok(StoredReplay {
        caller: parse(what, &key, &caller)?,
        route: row.get(1).doing(doing)?,
        request: row.get(3).doing(doing)?,
        at: Timestamp(row.get(4).doing(doing)?),
        answer,
        key,
    })
}
