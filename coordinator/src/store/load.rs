//! Rows to the state. Reads what is live and nothing else.

use super::write::write_meta;
use super::{Doing, StoreError, audit, notes, people, sealed, vaults};
use crate::secrets::Keyring;
use longshore_common::agent::Inventory;
use longshore_common::ids::{Attempt, ContainerKey, CoordinatorGeneration, Rank, SessionId};
use longshore_common::time::Timestamp;
use longshore_core::model::{
    Agent, Change, Charge, Cursor, Idempotency, LedgerRow, Meta, SettingSecret, State,
    StoredSettings,
};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

/// Writes the facts of a new installation, if there are none yet.
pub(super) fn ensure_meta(
    db: &mut Connection,
    keyring: &Keyring,
    new_meta: impl FnOnce() -> Meta,
) -> Result<(), StoreError> {
    let change = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .doing("begin")?;
    if meta(&change)?.is_none() {
        if keyring.ids().is_empty() {
            return Err(StoreError::NoKey("a new installation needs a master key"));
        }
        write_meta(&change, &new_meta())?;
    }
    change.commit().doing("commit")
}

/// Everything memory holds, from one moment.
pub(super) fn state(db: &mut Connection, keyring: &Keyring) -> Result<State, StoreError> {
    let from = db.transaction().doing("begin to read")?;
    let meta = meta(&from)?.ok_or_else(|| unreadable("meta", "1", "the row is missing"))?;
    let mut state = State::new(meta);
    let mut apply = |change: Change| state.apply(&change);
    let setting_secrets = sealed::settings(&from, keyring)?;
    people::load(&from, keyring, &mut apply)?;
    vaults::load(&from, &mut apply)?;
    notes::load(&from, &mut apply)?;
    bodies(
        &from,
        "group",
        "SELECT id, body FROM resource_groups WHERE deleted = 0",
        |group| {
            apply(Change::Group(group));
        },
    )?;
    scheduling(&from, &setting_secrets, &mut apply)?;
    agents(&from, |agent| apply(Change::Agent(Box::new(agent))))?;
    bodies(
        &from,
        "join token",
        "SELECT id, body FROM join_tokens",
        |token| {
            apply(Change::Token(token));
        },
    )?;
    bodies(
        &from,
        "session",
        "SELECT id, body FROM sessions WHERE settled = 0",
        |session| {
            apply(Change::Session(session));
        },
    )?;
    turns(&from, &mut apply)?;
    // After the sessions: who answers for a claim stands there.
    claims(&from, |row| apply(Change::LedgerOpened(row)))?;
    idempotency(&from, |entry| apply(Change::Idempotency(entry)))?;
    state.audit = audit::head(&from)?;
    Ok(state)
}

/// Settings, domains, projects, policies, presets, pools and queues.
fn scheduling(
    from: &Transaction<'_>,
    secrets: &BTreeMap<String, SettingSecret>,
    apply: &mut impl FnMut(Change),
) -> Result<(), StoreError> {
    let sql = "SELECT id, body FROM scheduler";
    bodies(from, "scheduler settings", sql, |settings| {
        apply(Change::Scheduler(settings));
    })?;
    let sql = "SELECT id, body FROM people_settings";
    bodies(from, "settings of people", sql, |settings| {
        apply(Change::PeopleSettings(settings));
    })?;
    let sql = "SELECT id, body FROM settings";
    bodies(from, "stored settings", sql, |settings: StoredSettings| {
        apply(Change::Settings(StoredSettings {
            secrets: secrets.clone(),
            ..settings
        }));
    })?;
    let sql = "SELECT id, body FROM loaded";
    bodies(from, "loaded configuration", sql, |loaded| {
        apply(Change::Loaded(Box::new(loaded)));
    })?;
    bodies(from, "domain", "SELECT id, body FROM domains", |domain| {
        apply(Change::Domain(domain));
    })?;
    bodies(
        from,
        "project",
        "SELECT id, body FROM projects",
        |project| {
            apply(Change::Project(project));
        },
    )?;
    let gone = "SELECT id FROM projects WHERE deleted = 1";
    ids(from, "project", gone, |id| {
        apply(Change::ProjectDeleted(id))
    })?;
    let gone = "SELECT id FROM domains WHERE deleted = 1";
    ids(from, "domain", gone, |id| apply(Change::DomainDeleted(id)))?;
    let sql = "SELECT name, body FROM keypair_policies";
    bodies(from, "keypair policy", sql, |policy| {
        apply(Change::KeypairPolicy(policy));
    })?;
    let sql = "SELECT name, body FROM user_policies";
    bodies(from, "user policy", sql, |policy| {
        apply(Change::UserPolicy(policy));
    })?;
    let sql = "SELECT name, body FROM project_policies";
    bodies(from, "project policy", sql, |policy| {
        apply(Change::ProjectPolicy(policy));
    })?;
    bodies(from, "preset", "SELECT id, body FROM presets", |preset| {
        apply(Change::Preset(preset));
    })?;
    let sql = "SELECT reference, body FROM images";
    bodies(from, "image", sql, |image| apply(Change::Image(image)))?;
    let sql = "SELECT version, body FROM resource_config ORDER BY version DESC LIMIT 1";
    bodies(from, "pools and queues", sql, |config| {
        apply(Change::Config(config));
    })?;
    let sql = "SELECT id, body FROM resource_config_draft";
    bodies(from, "draft of pools and queues", sql, |draft| {
        apply(Change::ConfigDraft(Some(draft)));
    })
}

/// Tries that were counted, and who was taken in turn.
fn turns(from: &Transaction<'_>, apply: &mut impl FnMut(Change)) -> Result<(), StoreError> {
    let doing = "read tries";
    let mut statement = from
        .prepare("SELECT group_id, priority, shape, retries, last_charged_at FROM charges")
        .doing(doing)?;
    let mut rows = statement.query([]).doing(doing)?;
    while let Some(row) = rows.next().doing(doing)? {
        let group: String = row.get(0).doing(doing)?;
        apply(Change::Charged(Charge {
            group: parse("tries", &group, &group)?,
            priority: row.get(1).doing(doing)?,
            shape: row.get(2).doing(doing)?,
            retries: row.get(3).doing(doing)?,
            last_charged_at: Timestamp(row.get(4).doing(doing)?),
        }));
    }
    let doing = "read who was taken in turn";
    let mut statement = from
        .prepare("SELECT group_id, arch, agent FROM cursors")
        .doing(doing)?;
    let mut rows = statement.query([]).doing(doing)?;
    while let Some(row) = rows.next().doing(doing)? {
        let group: String = row.get(0).doing(doing)?;
        apply(Change::Cursor(Cursor {
            group: parse("turn", &group, &group)?,
            arch: row.get(1).doing(doing)?,
            agent: row.get(2).doing(doing)?,
        }));
    }
    Ok(())
}

fn meta(from: &Transaction<'_>) -> Result<Option<Meta>, StoreError> {
    from.query_row(
        "SELECT cluster, generation, next_session, next_uid FROM meta WHERE id = 1",
        [],
        |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get(2)?,
                row.get(3)?,
            ))
        },
    )
    .optional()
    .doing("read the facts of the installation")?
    .map(
        |(cluster, generation, next_session, next_uid): (_, _, i64, _)| {
            Ok(Meta {
                cluster: parse("meta", "cluster", &cluster)?,
                generation: CoordinatorGeneration(unsigned("meta", "generation", generation)?),
                next_session: unsigned("meta", "next_session", next_session)?,
                next_uid,
            })
        },
    )
    .transpose()
}

/// Reads objects out of their bodies without copying the text first.
pub(super) fn bodies<T: DeserializeOwned>(
    from: &Transaction<'_>,
    what: &'static str,
    sql: &str,
    mut take: impl FnMut(T),
) -> Result<(), StoreError> {
    each(from, sql, |row| {
        take(object(what, row)?);
        Ok(())
    })
}

/// Reads rows one after the other.
pub(super) fn each(
    from: &Transaction<'_>,
    sql: &str,
    mut take: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = from.prepare(sql).doing("be read")?;
    let mut rows = statement.query([]).doing("be read")?;
    while let Some(row) = rows.next().doing("be read")? {
        take(row)?;
    }
    Ok(())
}

/// Reads ids.
fn ids<T: FromStr<Err: Display>>(
    from: &Transaction<'_>,
    what: &'static str,
    sql: &str,
    mut take: impl FnMut(T),
) -> Result<(), StoreError> {
    each(from, sql, |row| {
        let id: String = row.get(0).doing("be read")?;
        take(parse(what, &id, &id)?);
        Ok(())
    })
}

/// Nodes, each with what it has.
fn agents(from: &Transaction<'_>, mut take: impl FnMut(Agent)) -> Result<(), StoreError> {
    let mut statement = from
        .prepare(
            "SELECT agents.id, agents.body, inventories.body
             FROM agents LEFT JOIN inventories ON inventories.agent = agents.id",
        )
        .doing("be read")?;
    let mut rows = statement.query([]).doing("be read")?;
    while let Some(row) = rows.next().doing("be read")? {
        let mut agent: Agent = object("agent", row)?;
        if row.get_ref(2).doing("be read")? != ValueRef::Null {
            let inventory: Inventory = object_at("inventory", row, 2)?;
            agent.inventory = Some(Arc::new(inventory.sharing_names()));
        }
        take(agent);
    }
    Ok(())
}

/// The object in a row of `id, body`.
pub(super) fn object<T: DeserializeOwned>(
    what: &'static str,
    row: &Row<'_>,
) -> Result<T, StoreError> {
    object_at(what, row, 1)
}

pub(super) fn object_at<T: DeserializeOwned>(
    what: &'static str,
    row: &Row<'_>,
    column: usize,
) -> Result<T, StoreError> {
    let name = || match row.get_ref(0) {
        Ok(ValueRef::Integer(id)) => id.to_string(),
        Ok(value) => value.as_str().unwrap_or("?").to_owned(),
        Err(_) => "?".to_owned(),
    };
    let text = row.get_ref(column).doing("be read")?;
    let text = text.as_str().map_err(|e| unreadable(what, name(), e))?;
    serde_json::from_str(text).map_err(|e| unreadable(what, name(), e))
}

fn claims(from: &Transaction<'_>, mut take: impl FnMut(LedgerRow)) -> Result<(), StoreError> {
    let doing = "read open claims";
    let mut statement = from
        .prepare(
            "SELECT session, rank, attempt, slot, device, agent, amount, opened_at, quota_freed_at
             FROM ledger INDEXED BY ledger_open WHERE closed_at IS NULL",
        )
        .doing(doing)?;
    let mut rows = statement.query([]).doing(doing)?;
    while let Some(row) = rows.next().doing(doing)? {
        let session = row.get(0).doing(doing)?;
        let key = ContainerKey {
            session: SessionId(unsigned("claim", session, session)?),
            rank: Rank(row.get(1).doing(doing)?),
            attempt: Attempt(row.get(2).doing(doing)?),
        };
        let text = |at: usize| {
            row.get_ref(at)
                .doing(doing)?
                .as_str()
                .map_err(|e| unreadable("claim", key, e))
        };
        let device = match text(4)? {
            "" => None,
            id => Some(parse("claim", key, id)?),
        };
        take(LedgerRow {
            key,
            agent: parse("claim", key, text(5)?)?,
            slot: parse("claim", key, text(3)?)?,
            device,
            amount: row.get(6).doing(doing)?,
            opened_at: Timestamp(row.get(7).doing(doing)?),
            quota_freed_at: row.get::<_, Option<i64>>(8).doing(doing)?.map(Timestamp),
        });
    }
    Ok(())
}

fn idempotency(
    from: &Transaction<'_>,
    mut take: impl FnMut(Idempotency),
) -> Result<(), StoreError> {
    let doing = "read idempotency keys";
    let mut statement = from
        .prepare("SELECT caller, key, body, session, at FROM idempotency")
        .doing(doing)?;
    let mut rows = statement.query([]).doing(doing)?;
    while let Some(row) = rows.next().doing(doing)? {
        let key: String = row.get(1).doing(doing)?;
        let caller: String = row.get(0).doing(doing)?;
        take(Idempotency {
            caller: parse("idempotency key", &key, &caller)?,
            body_sha256: row.get(2).doing(doing)?,
            session: SessionId(unsigned("idempotency key", &key, row.get(3).doing(doing)?)?),
            at: Timestamp(row.get(4).doing(doing)?),
            key,
        });
    }
    Ok(())
}

pub(super) fn unreadable(what: &'static str, id: impl Display, why: impl Display) -> StoreError {
    StoreError::Object {
        what,
        id: id.to_string(),
        why: why.to_string(),
    }
}

pub(super) fn parse<T>(what: &'static str, id: impl Display, text: &str) -> Result<T, StoreError>
where
    T: FromStr<Err: Display>,
{
    text.parse().map_err(|e| unreadable(what, id, e))
}

pub(super) fn unsigned(
    what: &'static str,
    id: impl Display,
    value: i64,
) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|e| unreadable(what, id, e))
}
