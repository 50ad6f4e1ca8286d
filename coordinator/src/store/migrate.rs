//! From one form of the file to the next.

use super::{Doing, StoreError, copies, open};
use rusqlite::{Connection, TransactionBehavior};
use std::path::{Path, PathBuf};

/// The steps, in order; the form of a file is how many it has seen. Entries are never
/// edited or reordered, only added.
pub(super) const STEPS: &[&str] = &[
    include_str!("migrations/0001_init.sql"),
    include_str!("migrations/0002_scheduling.sql"),
    include_str!("migrations/0003_inventories.sql"),
    include_str!("migrations/0004_audit.sql"),
    include_str!("migrations/0005_people.sql"),
    include_str!("migrations/0006_audit_domain.sql"),
    include_str!("migrations/0007_links.sql"),
    include_str!("migrations/0008_people_settings.sql"),
    include_str!("migrations/0009_gone.sql"),
    include_str!("migrations/0010_usage.sql"),
    include_str!("migrations/0011_usage_indexes.sql"),
    include_str!("migrations/0012_secrets.sql"),
    include_str!("migrations/0013_arrays.sql"),
    include_str!("migrations/0014_vaults.sql"),
    include_str!("migrations/0015_settings.sql"),
    include_str!("migrations/0016_notifications.sql"),
    include_str!("migrations/0017_announcements.sql"),
    include_str!("migrations/0018_images.sql"),
    include_str!("migrations/0019_replays.sql"),
    include_str!("migrations/0020_retention.sql"),
    include_str!("migrations/0021_old_output.sql"),
    include_str!("migrations/0022_loaded.sql"),
];

/// The first form that has an audit log.
pub(super) const WITH_AUDIT: u32 = 4;

/// Stands in the header of our files: "LgSh".
const APPLICATION: i32 = 0x4c67_5368;

/// Brings a file to the newest form. A file that holds something is copied first.
pub(super) fn run(db: &mut Connection, path: &Path, steps: &[&str]) -> Result<(), StoreError> {
    let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    let found = form(db, path)?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    if found > 0 && found < known {
        copy(db, path, found)?;
    }
    for (number, step) in (1..).zip(steps).skip(found as usize) {
        let change = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .doing("begin a migration")?;
        change.execute_batch(step).doing("be migrated")?;
        change
            .pragma_update(None, "application_id", APPLICATION)
            .doing("be migrated")?;
        change
            .pragma_update(None, "user_version", number)
            .doing("be migrated")?;
        change.commit().doing("be migrated")?;
    }
    Ok(())
}

/// The form of a file; 0 = there is nothing in it.
pub(super) fn form(db: &Connection, path: &Path) -> Result<u32, StoreError> {
    let ask = |pragma| {
        db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .doing("be read")
    };
    let (application, version) = (ask("application_id")?, ask("user_version")?);
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .doing("be read")?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(0); // new, or a first start that was cut short
    }
    if application != i64::from(APPLICATION) {
        let why = "it belongs to another program".to_owned();
        return Err(StoreError::Foreign {
            path: path.to_owned(),
            why,
        });
    }
    u32::try_from(version).map_err(|_| StoreError::Damaged {
        path: path.to_owned(),
        why: format!("its form is {version}"),
    })
}

/// Copies the file to `<name>.form-<n>`, checked, before a migration touches it.
fn copy(db: &Connection, path: &Path, form: u32) -> Result<(), StoreError> {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let (part, whole) = (beside(".copy-part"), beside(&format!(".form-{form}")));
    let io = |source| StoreError::Io {
        doing: "copy the database to",
        path: part.clone(),
        source,
    };
    let _ = std::fs::remove_file(&part); // of a copy that was cut short
    copies::copy(db, &part)?;
    std::fs::rename(&part, &whole).map_err(io)?;
    open::sync_directory(path)
}
