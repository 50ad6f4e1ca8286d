//! What grew old: found by readers piece by piece, removed by the writer.

use super::load::unsigned;
use super::read::Reader;
use super::write::{execute, number};
use super::{Doing, StoreError};
use longshore_common::ids::SessionId;
use longshore_common::time::Timestamp;
use longshore_core::model::Change;
use rusqlite::{Connection, Transaction, params};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Sessions. A task goes when its array is old too, and an array when it has none any more.
    Sessions,
    /// Sessions that have a history.
    Histories,
    /// Sessions whose last output is kept.
    Output,
}

/// Where a look ended.
pub type EndedPlace = (Timestamp, SessionId);

// A task may have ended in the same millisecond as its array, and comes before it.
const ENDED: &str = "SELECT s.id, s.ended_at FROM sessions s
    WHERE s.settled = 1 AND s.ended_at < ?1
      AND (s.ended_at > ?2 OR (s.ended_at = ?2 AND s.id < ?3))";
const WITH_ARRAY: &str = "CASE WHEN s.id > 1099511627775
    THEN EXISTS (SELECT 1 FROM sessions a
      WHERE a.id = (s.id & 1099511627775) AND a.settled = 1 AND a.ended_at < ?1)
    ELSE NOT EXISTS (SELECT 1 FROM sessions t
      WHERE t.place > s.place AND t.place < s.place + 16777216) END";
// In the words of its index.
const WITH_OUTPUT: &str = "json_extract(body, '$.tail') IS NOT NULL";
const WITH_HISTORY: &str = "EXISTS (SELECT 1 FROM session_history h WHERE h.session = s.id)";

impl Reader {
    /// At most so many sessions that ended before an instant and that their nodes confirmed, the
    /// first that ended first, behind a place.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ended(
        &self,
        part: Part,
        before: Timestamp,
        after: Option<EndedPlace>,
        limit: u32,
    ) -> Result<Vec<EndedPlace>, StoreError> {
        self.run(move |db| ended(db, part, before, after, limit))
            .await
    }

    /// How many of these are still there, or have their histories or their last output still.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ended_among(&self, part: Part, ids: Vec<SessionId>) -> Result<usize, StoreError> {
        self.run(move |db| {
            let doing = "look for old sessions";
            let sql = match part {
                Part::Sessions => "SELECT EXISTS (SELECT 1 FROM sessions WHERE id = ?1)",
                Part::Histories => {
                    "SELECT EXISTS (SELECT 1 FROM session_history WHERE session = ?1)"
                }
                Part::Output => {
                    "SELECT EXISTS (SELECT 1 FROM sessions
                        WHERE id = ?1 AND json_extract(body, '$.tail') IS NOT NULL)"
                }
            };
            let mut statement = db.prepare_cached(sql).doing(doing)?;
            let mut left = 0;
            for id in ids {
                let number = number("session", id, id.0)?;
                let there: bool = statement
                    .query_row([number], |row| row.get(0))
                    .doing(doing)?;
                left += usize::from(there);
            }
            Ok(left)
        })
        .await
    }

    /// Whether rows of usage ended before an instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_old_usage(&self, before: Timestamp) -> Result<bool, StoreError> {
        self.run(move |db| {
            let sql = "SELECT EXISTS (SELECT 1 FROM usage
                WHERE coalesce(to_at, 9223372036854775807) < ?1)";
            db.prepare_cached(sql)
                .and_then(|mut one| one.query_row([before.0], |row| row.get(0)))
                .doing("look for old usage")
        })
        .await
    }
}

fn ended(
    db: &Connection,
    part: Part,
    before: Timestamp,
    after: Option<EndedPlace>,
    limit: u32,
) -> Result<Vec<EndedPlace>, StoreError> {
    let doing = "look for old sessions";
    let which = match part {
        Part::Sessions => WITH_ARRAY,
        Part::Histories => WITH_HISTORY,
        Part::Output => WITH_OUTPUT,
    };
    let sql = format!("{ENDED} AND {which} ORDER BY s.ended_at, s.id DESC LIMIT ?4");
    let (at, id) = after.unwrap_or((Timestamp(i64::MIN), SessionId(0)));
    let values = params![before.0, at.0, number("session", id, id.0)?, limit];
    let mut statement = db.prepare_cached(&sql).doing(doing)?;
    let mut rows = statement.query(values).doing(doing)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().doing(doing)? {
        let id: i64 = row.get(0).doing(doing)?;
        let at = Timestamp(row.get(1).doing(doing)?);
        found.push((at, SessionId(unsigned("session", id, id)?)));
    }
    Ok(found)
}

/// Those that refer to a session before it. Its usage stays: that has days of its own.
const OF_SESSION: [&str; 5] = [
    "DELETE FROM session_history WHERE session = ?1",
    "DELETE FROM session_reaches WHERE session = ?1",
    "DELETE FROM idempotency WHERE session = ?1",
    // One that is open refuses what follows, and all of the batch with it.
    "DELETE FROM ledger WHERE session = ?1 AND closed_at IS NOT NULL",
    "DELETE FROM sessions WHERE id = ?1 AND settled = 1",
];
const OF_HISTORY: [&str; 2] = [OF_SESSION[0], OF_SESSION[1]];
const OF_OUTPUT: [&str; 1] = ["UPDATE sessions
    SET body = json_set(body, '$.tail', NULL, '$.tail_at', NULL)
    WHERE id = ?1 AND settled = 1"];
const USAGE: &str = "DELETE FROM usage
    WHERE (session, rank, attempt, slot, device) IN (
      SELECT session, rank, attempt, slot, device FROM usage
      WHERE coalesce(to_at, 9223372036854775807) < ?1 LIMIT ?2)";

/// Removes what a change says.
pub(super) fn write(to: &Transaction<'_>, change: &Change) -> Result<(), StoreError> {
    let all = |ids: &[SessionId], statements: &[&str]| {
        ids.iter().try_for_each(|id| {
            let number = number("session", id, id.0)?;
            let mut statements = statements.iter();
            statements.try_for_each(|sql| execute(to, sql, [number], "forget old sessions"))
        })
    };
    match change {
        Change::SessionsForgotten(ids) => all(ids, &OF_SESSION),
        Change::HistoriesForgotten(ids) => all(ids, &OF_HISTORY),
        Change::OutputForgotten(ids) => all(ids, &OF_OUTPUT),
        Change::UsageForgotten { before, most } => {
            execute(to, USAGE, params![before.0, most], "forget old usage")
        }
        _ => Ok(()),
    }
}
