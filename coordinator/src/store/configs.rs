//! Versions of the document of pools and queues that were live.

use super::load::{object, unsigned};
use super::{Doing, Reader, StoreError};
use longshore_common::time::Timestamp;
use longshore_core::model::LiveConfig;
use rusqlite::{Connection, OptionalExtension as _};

/// A version without its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigVersion {
    /// Which.
    pub version: u64,
    /// When it was provisioned; none = nothing was yet.
    pub provisioned_at: Option<Timestamp>,
    /// By whom.
    pub by: String,
}

impl Reader {
    /// Versions before one, at most so many, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn config_versions(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<ConfigVersion>, StoreError> {
        self.run(move |db| versions(db, before, limit)).await
    }

    /// A version as it was when it ceased to be live, or as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn config_version(&self, version: u64) -> Result<Option<LiveConfig>, StoreError> {
        self.run(move |db| one(db, version)).await
    }
}

fn versions(
    db: &Connection,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<ConfigVersion>, StoreError> {
    let doing = "list versions of pools and queues";
    let sql = "SELECT version, provisioned_at, by FROM resource_config
        WHERE version < ?1 ORDER BY version DESC LIMIT ?2";
    let before = before.and_then(|version| i64::try_from(version).ok());
    let mut statement = db.prepare_cached(sql).doing(doing)?;
    let mut rows = statement
        .query((before.unwrap_or(i64::MAX), limit))
        .doing(doing)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().doing(doing)? {
        let version: i64 = row.get(0).doing(doing)?;
        found.push(ConfigVersion {
            version: unsigned("pools and queues", version, version)?,
            provisioned_at: row.get::<_, Option<i64>>(1).doing(doing)?.map(Timestamp),
            by: row.get(2).doing(doing)?,
        });
    }
    Ok(found)
}

fn one(db: &Connection, version: u64) -> Result<Option<LiveConfig>, StoreError> {
    let doing = "read a version of pools and queues";
    let Ok(version) = i64::try_from(version) else {
        return Ok(None);
    };
    let sql = "SELECT version, body FROM resource_config WHERE version = ?1";
    let mut statement = db.prepare_cached(sql).doing(doing)?;
    let found = statement.query_row([version], |row| Ok(object("pools and queues", row)));
    found.optional().doing(doing)?.transpose()
}
