//! The audit log, read beside the writer.
//!
//! Only ever pieces of it: one long look would keep the log of the database from being taken
//! in while it lasts, and a table of millions of rows would not fit into memory.

use super::load::{unreadable, unsigned};
use super::{Doing, Reader, StoreError, open};
use longshore_common::ids::DomainId;
use longshore_common::time::Timestamp;
use longshore_core::model::AuditHead;
use longshore_identity::Sha256;
use longshore_identity::audit::{CHECKPOINT, Head, Outcome, Record, Report, StoredRow, Verifier};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use std::path::Path;

/// Records that are read at a time when all of them are.
const PIECE: u32 = 1000;

/// Records that retention removes in one transaction: some ten milliseconds of the writer.
const REMOVED_AT_A_TIME: i64 = 5000;
/// How often a check begins anew because retention removed what it had not read yet.
const CHECKS: usize = 3;

/// Which records are wanted. The default wants all, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By one of these actors: id, or name, or kind of those that have neither; empty = by any.
    pub actors: Vec<String>,
    /// Also by those who came by the local socket or the link of the set-up.
    pub local: bool,
    /// One of these operations; empty = any.
    pub operations: Vec<String>,
    /// About the thing with one of these ids; empty = about any.
    pub targets: Vec<String>,
    /// About this domain; none = about any, and about none.
    pub domain: Option<DomainId>,
    /// With one of these outcomes; empty = with any.
    pub outcomes: Vec<Outcome>,
    /// Not before this instant.
    pub from: Option<Timestamp>,
    /// Before this instant.
    pub to: Option<Timestamp>,
    /// Only records with a number below this one.
    pub below: Option<u64>,
    /// Only records with a number above this one.
    pub above: Option<u64>,
    /// Oldest first.
    pub oldest_first: bool,
    /// At most so many.
    pub limit: u32,
}

impl Reader {
    /// Records of the audit log.
    ///
    /// # Errors
    /// [`StoreError`]; also when a row is no record.
    pub async fn audit(&self, filter: AuditFilter) -> Result<Vec<Record>, StoreError> {
        self.run(move |db| records(db, &filter)).await
    }

    /// The next piece that retention removes: the last record of it, which is older than
    /// `before` as all those in front of it are. None when there is nothing to remove but
    /// records of earlier removals.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expired_audit(&self, before: Timestamp) -> Result<Option<Head>, StoreError> {
        self.run(move |db| expired(db, before, REMOVED_AT_A_TIME))
            .await
    }

    /// Reads the whole chain up to the record `until`, and says whether it is whole.
    /// `witnesses` are ends of it that others remember.
    ///
    /// # Errors
    /// [`StoreError`]: it could not be read. A bad chain is no error but the verdict.
    pub async fn verify_audit(
        &self,
        until: u64,
        witnesses: Vec<Head>,
    ) -> Result<Report, StoreError> {
        let mut verifier = Verifier::new(witnesses);
        let mut place = Some(0);
        while let Some(above) = place {
            (verifier, place) = self
                .run(move |db| {
                    let next = verify_piece(db, &mut verifier, above, until)?;
                    Ok((verifier, next))
                })
                .await?;
        }
        Ok(verifier.finish())
    }
}

/// Checks the audit log of a database that another process may have open. Only reads.
///
/// # Errors
/// [`StoreError`]: it cannot be read, or is not a database with an audit log.
pub fn verify_audit_file(
    path: &Path,
    witnesses: impl IntoIterator<Item = Head>,
) -> Result<Report, StoreError> {
    if !path.exists() {
        return Err(StoreError::Io {
            doing: "open",
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        });
    }
    let db = open::reader(path)?;
    let form = super::migrate::form(&db, path)?;
    let known = u32::try_from(super::migrate::STEPS.len()).unwrap_or(u32::MAX);
    if form > known {
        return Err(StoreError::Newer { found: form, known });
    }
    if form < super::migrate::WITH_AUDIT {
        return Err(StoreError::Foreign {
            path: path.to_owned(),
            why: format!(
                "it is of form {form}, and the audit log came with form {}; start the coordinator of this release once",
                super::migrate::WITH_AUDIT
            ),
        });
    }
    let witnesses: Vec<Head> = witnesses.into_iter().collect();
    let mut checks = 0;
    loop {
        checks += 1;
        let start = first(&db)?;
        let mut verifier = Verifier::new(witnesses.iter().copied());
        let mut above = 0;
        while let Some(next) = verify_piece(&db, &mut verifier, above, u64::MAX)? {
            above = next;
        }
        let report = verifier.finish();
        // The coordinator runs meanwhile, and its retention may have removed a piece.
        if report.ok || checks >= CHECKS || first(&db)? == start {
            return Ok(report);
        }
    }
}

/// The number of the first record there is.
fn first(db: &Connection) -> Result<Option<i64>, StoreError> {
    db.query_row("SELECT min(seq) FROM audit", [], |row| row.get(0))
        .doing("read the start of the audit log")
}

/// The end of the next piece of records that are older than an instant, `most` at a time.
fn expired(db: &Connection, before: Timestamp, most: i64) -> Result<Option<Head>, StoreError> {
    let doing = "look for old audit records";
    // From the start up to the first that is young enough, whatever the clock did later.
    let young: Option<i64> = db
        .query_row(
            "SELECT min(seq) FROM audit WHERE at >= ?1",
            [before.0],
            |row| row.get(0),
        )
        .doing(doing)?;
    let last = "SELECT seq, hash FROM audit
        WHERE seq < ?1 AND seq < (SELECT min(seq) FROM audit) + ?2 ORDER BY seq DESC LIMIT 1";
    let row: Option<(i64, Vec<u8>)> = db
        .query_row(last, params![young.unwrap_or(i64::MAX), most], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .doing(doing)?;
    let Some((seq, hash)) = row else {
        return Ok(None);
    };
    // Else a quiet installation would trade one such record for another each day.
    let worth: bool = db
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM audit WHERE seq <= ?1 AND operation <> ?2)",
            params![seq, CHECKPOINT],
            |row| row.get(0),
        )
        .doing(doing)?;
    let hash = <[u8; 32]>::try_from(hash)
        .map_err(|_| unreadable("audit record", seq, "its digest is not 32 bytes"))?;
    Ok(worth.then_some(Head {
        seq: unsigned("audit record", seq, seq)?,
        hash: Sha256::from_bytes(hash),
    }))
}

/// The end of the log, as it is stored.
pub(super) fn head(db: &Connection) -> Result<AuditHead, StoreError> {
    let doing = "read the end of the audit log";
    let row: Option<(i64, Vec<u8>)> = db
        .query_row(
            "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
        .doing(doing)?;
    let Some((seq, hash)) = row else {
        return Ok(AuditHead::default());
    };
    let hash = <[u8; 32]>::try_from(hash)
        .map_err(|_| unreadable("audit record", seq, "its digest is not 32 bytes"))?;
    Ok(AuditHead {
        seq: unsigned("audit record", seq, seq)?,
        hash,
    })
}

/// Takes the next piece in, and says behind which record it ended; none at the end.
fn verify_piece(
    db: &Connection,
    verifier: &mut Verifier,
    above: u64,
    until: u64,
) -> Result<Option<u64>, StoreError> {
    let doing = "read the audit log";
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut statement = db
        .prepare_cached(
            "SELECT seq, at, actor, operation, target, outcome, hash, body FROM audit
             WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3",
        )
        .doing(doing)?;
    // A number below 1 is none of ours, and must be seen all the same.
    let above = if above == 0 { i64::MIN } else { number(above) };
    let mut rows = statement
        .query(params![above, number(until), PIECE])
        .doing(doing)?;
    let (mut read, mut last) = (0, 0);
    while let Some(row) = rows.next().doing(doing)? {
        read += 1;
        last = row.get::<_, i64>(0).doing(doing)?;
        take(row, verifier);
    }
    Ok((read == PIECE && last > 0).then_some(last.unsigned_abs()))
}

/// A row that cannot even be read as one is a bad record, not the end of the check.
fn take(row: &Row<'_>, verifier: &mut Verifier) {
    let text = |at: usize| row.get_ref(at).ok()?.as_str().ok();
    let stored = || {
        let hash = row.get_ref(6).ok()?.as_blob().ok()?;
        Some(StoredRow {
            seq: u64::try_from(row.get::<_, i64>(0).ok()?).ok()?,
            at: Timestamp(row.get(1).ok()?),
            actor: text(2)?,
            operation: text(3)?,
            target: text(4)?,
            outcome: text(5)?,
            form: text(7)?,
            hash: Sha256::from_bytes(hash.try_into().ok()?),
        })
    };
    match stored() {
        Some(row) => verifier.stored(&row),
        None => verifier.line(""),
    }
}

fn records(db: &Connection, filter: &AuditFilter) -> Result<Vec<Record>, StoreError> {
    let doing = "read the audit log";
    let (sql, values) = statement(filter);
    let mut statement = db.prepare_cached(&sql).doing(doing)?;
    let mut rows = statement.query(params_from_iter(values)).doing(doing)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().doing(doing)? {
        let seq: i64 = row.get(0).doing(doing)?;
        let bad = |why: &str| unreadable("audit record", seq, why);
        let hash: Vec<u8> = row.get(1).doing(doing)?;
        let hash = hash.try_into().map_err(|_| bad("its digest is damaged"))?;
        let body = row.get_ref(2).doing(doing)?;
        let body = body.as_str().map_err(|_| bad("it is not text"))?;
        let record = Record::from_stored(body, Sha256::from_bytes(hash))
            .map_err(|error| bad(&error.to_string()))?;
        found.push(record);
    }
    Ok(found)
}

/// The text depends on which members are set and how many they hold, never on what they hold.
fn statement(filter: &AuditFilter) -> (String, Vec<Value>) {
    let mut wheres: Vec<String> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    if filter.local {
        // Nobody else is called so: whoever has an id is found by that.
        let marks = vec!["?"; filter.actors.len()].join(", ");
        wheres.push(format!(
            "(actor IN ({marks}) OR actor IN ('local', 'root') OR actor GLOB 'uid *')"
        ));
        values.extend(filter.actors.iter().cloned().map(Value::Text));
    }
    let mut any_of = |column: &str, words: &[String]| {
        if !words.is_empty() {
            let marks = vec!["?"; words.len()].join(", ");
            wheres.push(format!("{column} IN ({marks})"));
            values.extend(words.iter().cloned().map(Value::Text));
        }
    };
    if !filter.local {
        any_of("actor", &filter.actors);
    }
    any_of("operation", &filter.operations);
    any_of("target", &filter.targets);
    let outcomes: Vec<String> = filter
        .outcomes
        .iter()
        .map(|outcome| outcome.as_str().to_owned())
        .collect();
    any_of("outcome", &outcomes);
    if !outcomes.is_empty() && !filter.outcomes.contains(&Outcome::Ok) {
        wheres.push("outcome <> 'ok'".to_owned()); // what the index says of itself
    }
    if let Some(domain) = filter.domain {
        wheres.push("domain <> '' AND domain = ?".to_owned());
        values.push(Value::Text(domain.to_string()));
    }
    let number = |n: u64| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    for (condition, value) in [
        ("at >= ?", filter.from.map(|at| Value::Integer(at.0))),
        ("at < ?", filter.to.map(|at| Value::Integer(at.0))),
        ("seq < ?", filter.below.map(number)),
        ("seq > ?", filter.above.map(number)),
    ] {
        if let Some(value) = value {
            wheres.push(condition.to_owned());
            values.push(value);
        }
    }
    let wheres = match wheres.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", wheres.join(" AND ")),
    };
    let order = if filter.oldest_first { "ASC" } else { "DESC" };
    values.push(Value::Integer(i64::from(filter.limit)));
    (
        format!("SELECT seq, hash, body FROM audit{wheres} ORDER BY seq {order} LIMIT ?"),
        values,
    )
}
