//! What people are told: rows that are written with what they are about, and read by who sends
//! them and who asks what became of them.

use super::load::{bodies, object_at, parse, unsigned};
use super::read::Reader;
use super::write::{body, execute, number};
use super::{Doing, StoreError};
use longshore_common::ids::UserId;
use longshore_common::notify::NoteState;
use longshore_common::time::Timestamp;
use longshore_core::model::{Change, StoredNote};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params, params_from_iter};

/// Of one recipient so many are sent at a time: the others come to their turn.
const OF_ONE: u32 = 16;
/// So many are sent at a time.
const AT_A_TIME: u32 = 256;

const ANNOUNCEMENT: &str = "INSERT INTO announcements (id, body) VALUES (?1, ?2)
    ON CONFLICT (id) DO UPDATE SET body = ?2";
const ANNOUNCEMENT_DELETED: &str = "DELETE FROM announcements WHERE id = ?1";
const SETTINGS: &str = "INSERT INTO notify_settings (id, body) VALUES (1, ?1)
    ON CONFLICT (id) DO UPDATE SET body = ?1";
const CHOICE: &str = "INSERT INTO notify_choices (user, body) VALUES (?1, ?2)
    ON CONFLICT (user) DO UPDATE SET body = ?2";
const NOTE: &str = "INSERT INTO notes (channel, recipient, at, next_at, body)
    VALUES (?1, ?2, ?3, ?3, ?4)";
// What has ended stays so, whoever says something later.
const TRIED: &str = "UPDATE notes SET state = ?2, tries = ?3, next_at = ?4, ended_at = ?5,
    error = ?6 WHERE id = ?1 AND state = 'waiting'";
const OLD: &str = "DELETE FROM notes WHERE state <> 'waiting' AND ended_at < ?1";
// By number, which grows with time: what waits for long goes with the rest.
const MANY: &str = "DELETE FROM notes WHERE id <= (SELECT max(id) FROM notes) - ?1";

/// Writes a change that is about what people are told.
pub(super) fn write(to: &Transaction<'_>, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Announcement(new) => {
            let values = params![new.id.to_string(), body("announcement", new.id, new)?];
            execute(to, ANNOUNCEMENT, values, "store an announcement")
        }
        Change::AnnouncementDeleted(id) => {
            let values = [id.to_string()];
            execute(to, ANNOUNCEMENT_DELETED, values, "delete an announcement")
        }
        Change::NotifySettings(settings) => {
            let json = body("settings of notifications", 1, settings)?;
            execute(to, SETTINGS, [json], "store settings of notifications")
        }
        Change::NotifyChoice(choice) => {
            let json = body("choice of notifications", choice.user, choice)?;
            let values = params![choice.user.to_string(), json];
            execute(to, CHOICE, values, "store what somebody is told of")
        }
        Change::Note(note) => {
            let (channel, recipient) = note.to.words();
            let values = params![channel, recipient, note.at.0, body("note", "new", note)?];
            execute(to, NOTE, values, "store a note")
        }
        Change::NoteTried(tried) => {
            let values = params![
                number("note", tried.id, tried.id)?,
                tried.state.as_str(),
                tried.tries,
                tried.next_at.map(|at| at.0),
                tried.ended_at.map(|at| at.0),
                tried.error
            ];
            execute(to, TRIED, values, "store what became of a note")
        }
        Change::NotesForgotten { ended_before, keep } => {
            execute(to, OLD, [ended_before.0], "forget old notes")?;
            execute(to, MANY, [keep], "forget notes")
        }
        _ => Ok(()),
    }
}

/// What everybody is to read, who is told at all, and what people chose.
pub(super) fn load(
    from: &Transaction<'_>,
    apply: &mut impl FnMut(Change),
) -> Result<(), StoreError> {
    let sql = "SELECT id, body FROM announcements";
    bodies(from, "announcement", sql, |new| {
        apply(Change::Announcement(new));
    })?;
    let sql = "SELECT id, body FROM notify_settings";
    bodies(from, "settings of notifications", sql, |settings| {
        apply(Change::NotifySettings(settings));
    })?;
    let sql = "SELECT user, body FROM notify_choices";
    bodies(from, "choice of notifications", sql, |choice| {
        apply(Change::NotifyChoice(choice));
    })
}

/// Which notes are wanted, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoteFilter {
    /// To this person only; none = to anybody, and to webhooks of the configuration.
    pub user: Option<UserId>,
    /// In this state only.
    pub state: Option<NoteState>,
    /// Only those with a number below this one.
    pub below: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

impl Reader {
    /// Notes that are to be tried, some of each recipient.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due_notes(&self, now: Timestamp) -> Result<Vec<StoredNote>, StoreError> {
        self.run(move |db| due(db, now)).await
    }

    /// When the next note is to be tried.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_note(&self) -> Result<Option<Timestamp>, StoreError> {
        self.run(|db| {
            let sql = "SELECT min(next_at) FROM (
                SELECT next_at, row_number() OVER
                    (PARTITION BY channel, recipient ORDER BY id) AS turn
                FROM notes WHERE state = 'waiting')
                WHERE turn = 1";
            let at: Option<Option<i64>> = db
                .query_row(sql, [], |row| row.get(0))
                .optional()
                .doing("read when a note is due")?;
            Ok(at.flatten().map(Timestamp))
        })
        .await
    }

    /// Notes, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn notes(&self, filter: NoteFilter) -> Result<Vec<StoredNote>, StoreError> {
        self.run(move |db| listed(db, &filter)).await
    }
}

const COLUMNS: &str = "id, body, state, tries, next_at, ended_at, error";

/// Nothing overtakes what waits for the same recipient.
fn due(db: &Connection, now: Timestamp) -> Result<Vec<StoredNote>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM (
            SELECT *, row_number() OVER place AS turn, max(next_at) OVER place AS from_then
            FROM notes WHERE state = 'waiting'
            WINDOW place AS (PARTITION BY channel, recipient ORDER BY id))
         WHERE from_then <= ?1 AND turn <= {OF_ONE} ORDER BY id LIMIT {AT_A_TIME}"
    );
    read(db, &sql, &[Value::Integer(now.0)])
}

fn listed(db: &Connection, filter: &NoteFilter) -> Result<Vec<StoredNote>, StoreError> {
    let mut wheres = vec!["1 = 1"];
    let mut values = Vec::new();
    if let Some(user) = filter.user {
        wheres.push("recipient = ? AND channel <> 'hook'");
        values.push(Value::Text(user.to_string()));
    }
    if let Some(state) = filter.state {
        wheres.push("state = ?");
        values.push(Value::Text(state.as_str().to_owned()));
    }
    if let Some(below) = filter.below {
        wheres.push("id < ?");
        values.push(Value::Integer(i64::try_from(below).unwrap_or(i64::MAX)));
    }
    values.push(Value::Integer(i64::from(filter.limit)));
    let wheres = wheres.join(" AND ");
    let sql = format!("SELECT {COLUMNS} FROM notes WHERE {wheres} ORDER BY id DESC LIMIT ?");
    read(db, &sql, &values)
}

fn read(db: &Connection, sql: &str, values: &[Value]) -> Result<Vec<StoredNote>, StoreError> {
    let doing = "read notes";
    let mut statement = db.prepare_cached(sql).doing(doing)?;
    let mut rows = statement.query(params_from_iter(values)).doing(doing)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().doing(doing)? {
        found.push(stored(row)?);
    }
    Ok(found)
}

fn stored(row: &Row<'_>) -> Result<StoredNote, StoreError> {
    let doing = "read a note";
    let id: i64 = row.get(0).doing(doing)?;
    let at = |column: usize| -> Result<Option<Timestamp>, StoreError> {
        let at: Option<i64> = row.get(column).doing(doing)?;
        Ok(at.map(Timestamp))
    };
    let state: String = row.get(2).doing(doing)?;
    Ok(StoredNote {
        id: unsigned("note", id, id)?,
        note: object_at("note", row, 1)?,
        state: parse("note", id, &state)?,
        tries: row.get(3).doing(doing)?,
        next_at: at(4)?,
        ended_at: at(5)?,
        error: row.get(6).doing(doing)?,
    })
}
