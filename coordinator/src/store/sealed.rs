//! Encrypted values in the file: kept beside the object they belong to, counted by master key,
//! and wrapped by another one.

use super::write::{Order, execute};
use super::{Doing, Inner, Store, StoreError};
use crate::pki::fill_random;
use crate::secrets::{COLUMNS, Keyring, Locked, OpenError, Place as Where, Sealed};
use longshore_common::ids::{SessionId, UserId};
use longshore_core::model::{FactorKey, GivenText, SettingSecret};
use longshore_identity::Secret;
use longshore_identity::totp::TotpSecret;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use std::collections::BTreeMap;
use std::sync::Weak;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

/// Values wrapped anew in one transaction: a commit takes milliseconds, and others wait for it.
const BATCH: usize = 100;
/// The kind of secrets that second factors are.
const FACTOR: &str = "users.totp";
/// The kind of what sessions are given with their requests.
const GIVEN: &str = "sessions.given";
/// The kind of what their present attempts are given, vaults and all.
const DELIVERED: &str = "sessions.delivered";
/// The kind of stored settings that are secret, by their keys.
const SETTING: &str = "settings.value";

/// How far a change of the master key has come: nothing is behind the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    column: usize,
    row: i64,
}

/// What one step of a change of the master key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewrapped {
    /// Values wrapped anew.
    pub changed: u64,
    /// Values that could not be: their key is not loaded, or they are damaged.
    pub left: u64,
    /// Where to go on; none = all were looked at.
    pub next: Option<Place>,
}

/// What can be done about encrypted values as a whole. Does not keep the store open.
#[derive(Clone)]
pub struct Secrets {
    pub(super) store: Weak<Inner>,
    pub(super) keyring: Keyring,
}

impl Secrets {
    /// The master keys.
    #[must_use]
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    fn store(&self) -> Result<Store, StoreError> {
        let inner = self.store.upgrade();
        let inner = inner.ok_or_else(|| StoreError::Failed("it is closed".to_owned()))?;
        Ok(Store { inner })
    }

    /// How many values each master key wraps, by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn counts(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        self.store()?.order(Order::Counts).await
    }

    /// Wraps the next values by the present master key; a step is one transaction.
    ///
    /// # Errors
    /// [`StoreError`]: this step changed nothing.
    pub async fn rewrap(&self, from: Place) -> Result<Rewrapped, StoreError> {
        self.store()?
            .order(|reply| Order::Rewrap(from, reply))
            .await
    }
}

fn unsealed(what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Object {
        what: "secret",
        id: what.to_owned(),
        why: error.to_string(),
    }
}

/// What is done at every start: what stands in the clear is encrypted, and the ring learns
/// which keys stored values name.
pub(super) fn begin(db: &mut Connection, keyring: &Keyring) -> Result<(), StoreError> {
    let sealed = seal_clear(db, keyring)?;
    if sealed > 0 {
        // The log of writes held what they were.
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .doing("take its log in")?;
        info!(sealed, "stored secrets were encrypted");
        warn!(
            "the copy that was made of the database before holds them in the clear: remove it once this release is known to work"
        );
    }
    let named = counts(db)?;
    if let Some(number) = named.get(NOTHING) {
        error!(
            number,
            "stored secrets are damaged; whatever needs one of them is refused"
        );
    }
    // No key would mend what is damaged.
    let keys = named.keys().map(String::as_str);
    if let Some(key) = keyring.hold_against(keys.filter(|id| *id != NOTHING)) {
        error!(
            key,
            "the master key of stored secrets is not loaded; whatever needs one is refused"
        );
    } else if keyring.ids().is_empty() {
        warn!("there is no master key; whatever would store a secret is refused");
    }
    Ok(())
}

/// Encrypts the second factors that earlier releases stored in the clear: of each, the object
/// loses it in the transaction in which it is stored encrypted.
fn seal_clear(db: &mut Connection, keyring: &Keyring) -> Result<usize, StoreError> {
    let doing = "encrypt stored secrets";
    let change = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .doing(doing)?;
    let clear: Vec<(String, Zeroizing<String>)> = {
        let mut found = change
            .prepare(
                "SELECT id, json_extract(body, '$.totp.secret') FROM users
                 WHERE json_type(body, '$.totp.secret') IS NOT NULL",
            )
            .doing(doing)?;
        let rows = found.query_map([], |row| Ok((row.get(0)?, Zeroizing::new(row.get(1)?))));
        rows.and_then(Iterator::collect).doing(doing)?
    };
    if clear.is_empty() {
        return Ok(0);
    }
    if keyring.ids().is_empty() {
        let why = "stored secrets are to be encrypted, and there is no master key";
        return Err(StoreError::NoKey(why));
    }
    for (id, text) in &clear {
        let bytes: [u8; 20] = serde_json::from_str(text).map_err(|e| unsealed(id, e))?;
        put(&change, keyring, FACTOR, id, &Zeroizing::new(bytes)[..])?;
        let sql = "UPDATE users SET body = json_remove(body, '$.totp.secret') WHERE id = ?1";
        execute(&change, sql, [id], doing)?;
    }
    change.commit().doing(doing)?;
    Ok(clear.len())
}

fn place<'a>(kind: &'a str, id: &'a str, version: i64) -> Where<'a> {
    let (table, column) = kind.split_once('.').unwrap_or((kind, ""));
    Where {
        table,
        row: id,
        column,
        version: version.unsigned_abs(),
    }
}

fn kept(
    from: &Transaction<'_>,
    kind: &str,
    id: &str,
) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
    let sql = "SELECT version, value FROM secrets WHERE kind = ?1 AND id = ?2";
    let mut statement = from.prepare_cached(sql).doing("read a secret")?;
    let row = statement.query_row([kind, id], |row| Ok((row.get(0)?, row.get(1)?)));
    row.optional().doing("read a secret")
}

/// Stores a value under the next version, unless it is the one that stands there.
pub(super) fn put(
    to: &Transaction<'_>,
    keyring: &Keyring,
    kind: &'static str,
    id: &str,
    clear: &[u8],
) -> Result<(), StoreError> {
    let before = kept(to, kind, id)?;
    if let Some((version, bytes)) = &before {
        let same = open(keyring, &place(kind, id, *version), bytes);
        if same.is_ok_and(|value| value.as_slice() == clear) {
            return Ok(());
        }
    }
    let version = before.map_or(1, |(version, _)| version.saturating_add(1));
    let sealed = keyring.seal(&place(kind, id, version), clear, &mut fill_random);
    let sealed = sealed.map_err(|error| unsealed(id, error))?;
    let sql = "INSERT INTO secrets (kind, id, version, value) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (kind, id) DO UPDATE SET version = ?3, value = ?4";
    let values = params![kind, id, version, sealed.to_bytes()];
    execute(to, sql, values, "store a secret")
}

/// Removes a value.
pub(super) fn forget(to: &Transaction<'_>, kind: &str, id: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM secrets WHERE kind = ?1 AND id = ?2";
    execute(to, sql, [kind, id], "delete a secret")
}

fn open(
    keyring: &Keyring,
    place: &Where<'_>,
    bytes: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let sealed = Sealed::from_bytes(bytes).map_err(|_| OpenError::Damaged)?;
    keyring.open(place, &sealed)
}

/// What was opened, and what was not, and why; by id.
pub(super) type Opened = BTreeMap<String, Result<Zeroizing<Vec<u8>>, OpenError>>;

/// All values of a kind.
pub(super) fn of_kind(
    from: &Transaction<'_>,
    keyring: &Keyring,
    kind: &str,
) -> Result<Opened, StoreError> {
    let doing = "read secrets";
    let sql = "SELECT id, version, value FROM secrets WHERE kind = ?1";
    let mut statement = from.prepare(sql).doing(doing)?;
    let rows = statement.query_map([kind], |row| {
        let (id, version, bytes): (String, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let value = open(keyring, &place(kind, &id, version), &bytes);
        Ok((id, value))
    });
    rows.and_then(Iterator::collect).doing(doing)
}

/// Second factors by the id of the person.
pub(super) fn factors(
    from: &Transaction<'_>,
    keyring: &Keyring,
) -> Result<BTreeMap<String, FactorKey>, StoreError> {
    let values = of_kind(from, keyring, FACTOR)?.into_iter();
    let key = |(id, value): (String, Result<Zeroizing<Vec<u8>>, OpenError>)| {
        let value = value.and_then(|bytes| {
            let bytes = <[u8; 20]>::try_from(bytes.as_slice());
            bytes.map_err(|_| OpenError::Damaged)
        });
        let key = match value {
            Ok(bytes) => FactorKey::Open(TotpSecret::from_bytes(bytes)),
            Err(OpenError::Locked(locked)) => FactorKey::Shut(locked.to_string()),
            Err(OpenError::Damaged) => {
                error!(
                    user = id,
                    "the second factor of this person is damaged; switch it off"
                );
                FactorKey::Shut("The stored secret is damaged.".to_owned())
            }
        };
        (id, key)
    };
    Ok(values.map(key).collect())
}

/// Keeps the second factor of a person. One that cannot be read stays as it is.
pub(super) fn keep_factor(
    to: &Transaction<'_>,
    keyring: &Keyring,
    user: UserId,
    factor: Option<&FactorKey>,
) -> Result<(), StoreError> {
    match factor {
        None => forget(to, FACTOR, &user.to_string()),
        Some(FactorKey::Open(secret)) => {
            put(to, keyring, FACTOR, &user.to_string(), secret.as_bytes())
        }
        Some(FactorKey::Shut(_)) => Ok(()),
    }
}

/// Keeps the stored settings that are secret, and forgets those that are stored no more. One that
/// cannot be read stays as it is.
pub(super) fn keep_settings(
    to: &Transaction<'_>,
    keyring: &Keyring,
    secrets: &BTreeMap<String, SettingSecret>,
) -> Result<(), StoreError> {
    let stored = of_kind(to, keyring, SETTING)?;
    for key in stored.keys().filter(|key| !secrets.contains_key(*key)) {
        forget(to, SETTING, key)?;
    }
    for (key, secret) in secrets {
        let SettingSecret::Open(text) = secret else {
            continue;
        };
        // What is there stays: while a key is lacking nothing can be encrypted.
        let there = stored.get(key).and_then(|value| value.as_ref().ok());
        if there.is_none_or(|there| there.as_slice() != text.expose().as_bytes()) {
            put(to, keyring, SETTING, key, text.expose().as_bytes())?;
        }
    }
    Ok(())
}

/// The stored settings that are secret.
pub(super) fn settings(
    from: &Transaction<'_>,
    keyring: &Keyring,
) -> Result<BTreeMap<String, SettingSecret>, StoreError> {
    let values = of_kind(from, keyring, SETTING)?.into_iter();
    let one = |(key, value): (String, Result<Zeroizing<Vec<u8>>, OpenError>)| {
        let damaged = || SettingSecret::Shut("The stored secret is damaged.".to_owned());
        let secret = match value {
            Ok(bytes) => match std::str::from_utf8(&bytes) {
                Ok(text) => SettingSecret::Open(Secret::new(text.to_owned())),
                Err(_) => damaged(),
            },
            Err(OpenError::Locked(locked)) => SettingSecret::Shut(locked.to_string()),
            Err(OpenError::Damaged) => damaged(),
        };
        if let SettingSecret::Shut(why) = &secret {
            error!(setting = key, "a stored setting is left out: {why}");
        }
        (key, secret)
    };
    Ok(values.map(one).collect())
}

/// Keeps what a session is given with its request.
pub(super) fn keep_given(
    to: &Transaction<'_>,
    keyring: &Keyring,
    given: &GivenText,
) -> Result<(), StoreError> {
    let (id, text) = (given.session.to_string(), given.text.expose());
    put(to, keyring, GIVEN, &id, text.as_bytes())
}

/// Forgets what a session was given with its request.
pub(super) fn forget_given(to: &Transaction<'_>, session: SessionId) -> Result<(), StoreError> {
    forget(to, GIVEN, &session.to_string())
}

/// Keeps what the present attempt of a session is given.
pub(super) fn keep_delivered(
    to: &Transaction<'_>,
    keyring: &Keyring,
    given: &GivenText,
) -> Result<(), StoreError> {
    let (id, text) = (given.session.to_string(), given.text.expose());
    put(to, keyring, DELIVERED, &id, text.as_bytes())
}

/// Forgets what the last attempt of a session was given.
pub(super) fn forget_delivered(to: &Transaction<'_>, session: SessionId) -> Result<(), StoreError> {
    forget(to, DELIVERED, &session.to_string())
}

/// What a session is given with its request, still encrypted.
pub(super) fn given(db: &Connection, session: SessionId) -> Result<Option<KeptGiven>, StoreError> {
    kept_for(db, GIVEN, session)
}

/// What the present attempt of a session is given, still encrypted.
pub(super) fn delivered(
    db: &Connection,
    session: SessionId,
) -> Result<Option<KeptGiven>, StoreError> {
    kept_for(db, DELIVERED, session)
}

fn kept_for(
    db: &Connection,
    kind: &'static str,
    session: SessionId,
) -> Result<Option<KeptGiven>, StoreError> {
    let id = session.to_string();
    let sql = "SELECT version, value FROM secrets WHERE kind = ?1 AND id = ?2";
    let mut statement = db.prepare_cached(sql).doing("read a secret")?;
    let row = statement.query_row([kind, &id], |row| {
        Ok(KeptGiven {
            kind,
            session,
            version: row.get(0)?,
            sealed: row.get(1)?,
        })
    });
    row.optional().doing("read a secret")
}

/// What a session is given, as the file has it.
#[derive(Debug, Clone)]
pub struct KeptGiven {
    kind: &'static str,
    session: SessionId,
    version: i64,
    sealed: Vec<u8>,
}

impl KeptGiven {
    /// Opens it: JSON of what was kept.
    ///
    /// # Errors
    /// Its key is not there, or it is damaged.
    pub fn open<T: serde::de::DeserializeOwned>(&self, keyring: &Keyring) -> Result<T, OpenError> {
        let id = self.session.to_string();
        let clear = open(keyring, &place(self.kind, &id, self.version), &self.sealed)?;
        serde_json::from_slice(&clear).map_err(|_| OpenError::Damaged)
    }
}

/// Under this name stand values that are none.
const NOTHING: &str = "?";
/// The id of a master key.
const HEX: &str = "[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]";

/// How many values each master key wraps. What is no encrypted value is counted under `?`.
pub(super) fn counts(db: &Connection) -> Result<BTreeMap<String, u64>, StoreError> {
    let doing = "count secrets";
    let mut counts = BTreeMap::new();
    for (table, column) in COLUMNS {
        let sql = format!(
            "SELECT CASE WHEN CAST(substr({column}, 2, 8) AS TEXT) GLOB '{HEX}'
                THEN CAST(substr({column}, 2, 8) AS TEXT) ELSE '{NOTHING}' END, count(*)
             FROM {table} WHERE {column} IS NOT NULL GROUP BY 1"
        );
        let mut statement = db.prepare(&sql).doing(doing)?;
        let mut rows = statement.query([]).doing(doing)?;
        while let Some(row) = rows.next().doing(doing)? {
            let id: String = row.get(0).unwrap_or_default();
            let number: i64 = row.get(1).doing(doing)?;
            *counts.entry(id).or_default() += number.unsigned_abs();
        }
    }
    Ok(counts)
}

/// The next values behind `from`, wrapped by the present master key.
pub(super) fn rewrap(
    db: &mut Connection,
    keyring: &Keyring,
    from: Place,
) -> Result<Rewrapped, StoreError> {
    let doing = "wrap secrets anew";
    let Some((table, column)) = COLUMNS.get(from.column) else {
        return Ok(Rewrapped::default());
    };
    let present = keyring.present();
    let present = present.map_err(|locked: Locked| unsealed(table, locked))?;
    let change = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .doing(doing)?;
    let found: Vec<(i64, Vec<u8>)> = {
        let sql = format!(
            "SELECT rowid, {column} FROM {table} WHERE rowid > ?1 AND {column} IS NOT NULL
             AND substr({column}, 2, 8) <> CAST(?2 AS BLOB) ORDER BY rowid LIMIT {BATCH}"
        );
        let mut statement = change.prepare_cached(&sql).doing(doing)?;
        let rows = statement.query_map(params![from.row, present], |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        rows.and_then(Iterator::collect).doing(doing)?
    };
    let mut done = Rewrapped::default();
    let sql = format!("UPDATE {table} SET {column} = ?2 WHERE rowid = ?1");
    for (row, bytes) in &found {
        let sealed = Sealed::from_bytes(bytes).map_err(|_| OpenError::Damaged);
        match sealed.and_then(|sealed| keyring.rewrap(&sealed, &mut fill_random)) {
            Ok(Some(sealed)) => {
                execute(&change, &sql, params![row, sealed.to_bytes()], doing)?;
                done.changed += 1;
            }
            Ok(None) => (),
            Err(error) => {
                warn!(table, row, %error, "a secret keeps its master key");
                done.left += 1;
            }
        }
    }
    change.commit().doing(doing)?;
    done.next = match found.last() {
        Some((row, _)) if found.len() == BATCH => Some(Place { row: *row, ..from }),
        _ => (from.column + 1 < COLUMNS.len()).then_some(Place {
            column: from.column + 1,
            row: 0,
        }),
    };
    Ok(done)
}
