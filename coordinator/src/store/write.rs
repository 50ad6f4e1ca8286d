//! The thread that owns the writing connection; changes to rows.

use super::open::Mark;
use super::{Doing, StoreError, load};
use longshore_common::ids::AgentId;
use longshore_common::ids::{ContainerKey, GroupId, SessionId, UserId};
use longshore_core::model::{
    Agent, Change, Group, History, Idempotency, JoinToken, Keypair, LedgerRow, Meta, Session,
    State, User,
};
use rusqlite::{Connection, Params, Transaction, TransactionBehavior, params};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tracing::{error, warn};

/// Pages in the log after which they are brought into the file: 4 MiB.
const CHECKPOINT_PAGES: i32 = 1000;

/// What the writer is told.
pub(super) enum Order {
    /// Store these, all or none.
    Commit(Vec<Change>, oneshot::Sender<Result<(), StoreError>>),
    /// Read everything back.
    Load(oneshot::Sender<Result<Box<State>, StoreError>>),
}

/// Serves orders until nobody can send any more. After an error that only a new start
/// can heal, every order is refused.
pub(super) fn run(mut db: Connection, mark: &Mark, orders: &Receiver<Order>) {
    let pages = Arc::new(AtomicI32::new(0));
    let seen = Arc::clone(&pages);
    let hook = db.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, in_log| {
        seen.store(in_log, Ordering::Relaxed);
        Ok(())
    }));
    let mut failed = hook.err().map(|e| e.to_string());
    let mut next_checkpoint = CHECKPOINT_PAGES;
    let judge = |failed: &mut Option<String>, error: Option<&StoreError>| {
        if let Some(error) = error.filter(|e| e.is_fatal()) {
            error!(%error, "the database failed");
            failed.get_or_insert_with(|| error.to_string());
            mark.sign_failed();
        }
    };
    for order in orders {
        match order {
            Order::Commit(_, reply) if failed.is_some() => {
                let _ = reply.send(Err(StoreError::Failed(failed.clone().unwrap_or_default())));
            }
            Order::Load(reply) if failed.is_some() => {
                let _ = reply.send(Err(StoreError::Failed(failed.clone().unwrap_or_default())));
            }
            Order::Commit(changes, reply) => {
                let done = commit(&mut db, &changes);
                judge(&mut failed, done.as_ref().err());
                let _ = reply.send(done); // the asker may have gone
            }
            Order::Load(reply) => {
                let done = load::state(&mut db).map(Box::new);
                judge(&mut failed, done.as_ref().err());
                let _ = reply.send(done); // the asker may have gone
            }
        }
        let in_log = pages.load(Ordering::Relaxed);
        if in_log < CHECKPOINT_PAGES {
            next_checkpoint = CHECKPOINT_PAGES;
        }
        // After the answer: what is in the log is safe already.
        if failed.is_none() && in_log >= next_checkpoint {
            // A reader may hold the log back; then not at every commit again.
            next_checkpoint = in_log.saturating_add(CHECKPOINT_PAGES);
            if let Err(error) = checkpoint(&db) {
                warn!(%error, "the log could not be brought into the database");
                judge(&mut failed, Some(&error));
            }
        }
    }
}

fn checkpoint(db: &Connection) -> Result<(), StoreError> {
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        .doing("take its log in")
}

/// One transaction for all changes. Dropping it without a commit takes everything back.
pub(super) fn commit(db: &mut Connection, changes: &[Change]) -> Result<(), StoreError> {
    let batch = Batch::of(changes);
    // IMMEDIATE: one that begins as a reader is refused as soon as it writes.
    let transaction = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .doing("begin")?;
    batch.write(&transaction)?;
    transaction.commit().doing("commit")
}

/// The last form of each object, and the rows that are opened and closed, in their order.
#[derive(Default)]
struct Batch<'a> {
    meta: Option<&'a Meta>,
    users: BTreeMap<UserId, &'a User>,
    keypairs: BTreeMap<&'a str, &'a Keypair>,
    groups: BTreeMap<GroupId, &'a Group>,
    agents: BTreeMap<AgentId, &'a Agent>,
    tokens: BTreeMap<&'a str, Option<&'a JoinToken>>,
    sessions: BTreeMap<SessionId, &'a Session>,
    idempotency: BTreeMap<(UserId, &'a str), Option<&'a Idempotency>>,
    lines: Vec<Line<'a>>,
}

enum Line<'a> {
    History(&'a History),
    Opened(&'a LedgerRow),
    QuotaFreed(ContainerKey, i64),
    Closed(ContainerKey, i64),
}

impl<'a> Batch<'a> {
    fn of(changes: &'a [Change]) -> Self {
        let mut batch = Self::default();
        for change in changes {
            match change {
                Change::Meta(meta) => batch.meta = Some(meta),
                Change::User(user) => drop(batch.users.insert(user.id, user)),
                Change::Keypair(pair) => drop(batch.keypairs.insert(&pair.access_key, pair)),
                Change::Group(group) => drop(batch.groups.insert(group.id, group)),
                Change::Agent(agent) => drop(batch.agents.insert(agent.id, agent)),
                Change::Token(token) => drop(batch.tokens.insert(&token.id, Some(token))),
                Change::TokenDeleted(id) => drop(batch.tokens.insert(id, None)),
                Change::Session(session) => drop(batch.sessions.insert(session.id, session)),
                Change::History(line) => batch.lines.push(Line::History(line)),
                Change::LedgerOpened(row) => batch.lines.push(Line::Opened(row)),
                Change::QuotaFreed { key, at } => batch.lines.push(Line::QuotaFreed(*key, at.0)),
                Change::LedgerClosed { key, at } => batch.lines.push(Line::Closed(*key, at.0)),
                Change::Idempotency(entry) => {
                    batch
                        .idempotency
                        .insert((entry.caller, &entry.key), Some(entry));
                }
                Change::IdempotencyForgotten { caller, key } => {
                    batch.idempotency.insert((*caller, key), None);
                }
            }
        }
        batch
    }

    /// Referenced rows before those that refer to them.
    fn write(&self, to: &Transaction<'_>) -> Result<(), StoreError> {
        if let Some(meta) = self.meta {
            write_meta(to, meta)?;
        }
        for user in self.users.values() {
            let values = params![
                user.id.to_string(),
                user.username,
                user.email,
                user.created_at.0,
                body("user", user.id, user)?
            ];
            execute(to, USER, values, "store a user")?;
        }
        for pair in self.keypairs.values() {
            let json = body("keypair", &pair.access_key, pair)?;
            let values = params![pair.access_key, pair.user.to_string(), pair.active, json];
            execute(to, KEYPAIR, values, "store a keypair")?;
        }
        for group in self.groups.values() {
            let values = params![
                group.id.to_string(),
                group.name,
                body("group", group.id, group)?
            ];
            execute(to, GROUP, values, "store a resource group")?;
        }
        for agent in self.agents.values() {
            let values = params![
                agent.id.to_string(),
                agent.name,
                agent.group.to_string(),
                agent.state.as_str(),
                body("agent", agent.id, agent)?
            ];
            execute(to, AGENT, values, "store an agent")?;
        }
        for (id, token) in &self.tokens {
            match token {
                Some(token) => {
                    let json = body("join token", id, token)?;
                    let values = params![id, token.group.to_string(), token.expires_at.0, json];
                    execute(to, TOKEN, values, "store a join token")?;
                }
                None => execute(to, TOKEN_DELETED, [id], "delete a join token")?,
            }
        }
        for session in self.sessions.values() {
            write_session(to, session)?;
        }
        for ((caller, key), entry) in &self.idempotency {
            let caller = caller.to_string();
            match entry {
                Some(entry) => {
                    let session = number("idempotency key", key, entry.session.0)?;
                    let values = params![caller, key, entry.body_sha256, session, entry.at.0];
                    execute(to, IDEMPOTENCY, values, "store an idempotency key")?;
                }
                None => execute(
                    to,
                    IDEMPOTENCY_FORGOTTEN,
                    params![caller, key],
                    "forget a key",
                )?,
            }
        }
        self.lines.iter().try_for_each(|line| write_line(to, line))
    }
}

pub(super) fn write_meta(to: &Transaction<'_>, meta: &Meta) -> Result<(), StoreError> {
    let values = params![
        meta.cluster.to_string(),
        number("meta", "generation", meta.generation.0)?,
        number("meta", "next_session", meta.next_session)?,
        meta.next_uid
    ];
    execute(to, META, values, "store the facts of the installation")
}

fn write_session(to: &Transaction<'_>, session: &Session) -> Result<(), StoreError> {
    let values = params![
        number("session", session.id, session.id.0)?,
        session.owner.to_string(),
        session.owner_name,
        session.name,
        session.group.to_string(),
        session.group_name,
        session.kind.as_str(),
        session.state.as_str(),
        session.is_settled(),
        session.priority,
        session.created_at.0,
        session.ended_at.map(|at| at.0),
        number("session", session.id, session.version)?,
        body("session", session.id, session)?
    ];
    execute(to, SESSION, values, "store a session")
}

fn write_line(to: &Transaction<'_>, line: &Line<'_>) -> Result<(), StoreError> {
    match line {
        Line::History(line) => {
            let values = params![
                number("history", line.session, line.session.0)?,
                number("history", line.session, line.seq)?,
                line.at.0,
                line.from.map(|s| s.as_str()),
                line.to.as_str(),
                line.reason.map(|r| r.as_str()),
                line.detail,
                line.by,
                line.attempt.0
            ];
            execute(to, HISTORY, values, "store a line of history")
        }
        Line::Opened(row) => {
            let values = params![
                number("claim", row.key, row.key.session.0)?,
                row.key.rank.0,
                row.key.attempt.0,
                row.slot.as_str(),
                row.device.as_ref().map_or("", |d| d.as_str()),
                row.agent.to_string(),
                row.amount,
                row.opened_at.0,
                row.quota_freed_at.map(|at| at.0)
            ];
            execute(to, OPENED, values, "open a claim")
        }
        Line::QuotaFreed(key, at) => {
            let session = number("claim", key, key.session.0)?;
            execute(
                to,
                FREED,
                params![session, key.rank.0, key.attempt.0, at],
                "free a quota",
            )
        }
        Line::Closed(key, at) => {
            let session = number("claim", key, key.session.0)?;
            execute(
                to,
                CLOSED,
                params![session, key.rank.0, key.attempt.0, at],
                "close a claim",
            )
        }
    }
}

fn execute(
    to: &Transaction<'_>,
    sql: &'static str,
    values: impl Params,
    doing: &'static str,
) -> Result<(), StoreError> {
    to.prepare_cached(sql)
        .and_then(|mut s| s.execute(values))
        .map(drop)
        .doing(doing)
}

fn body(
    what: &'static str,
    id: impl Display,
    object: &impl Serialize,
) -> Result<String, StoreError> {
    serde_json::to_string(object).map_err(|error| StoreError::Object {
        what,
        id: id.to_string(),
        why: error.to_string(),
    })
}

/// SQLite's numbers have a sign.
fn number(what: &'static str, id: impl Display, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Object {
        what,
        id: id.to_string(),
        why: format!("{value} is too large"),
    })
}

// Upserts, not REPLACE: that would delete the row others refer to.
const META: &str = "INSERT INTO meta (id, cluster, generation, next_session, next_uid)
    VALUES (1, ?1, ?2, ?3, ?4)
    ON CONFLICT (id) DO UPDATE SET cluster = ?1, generation = ?2, next_session = ?3, next_uid = ?4";
const USER: &str = "INSERT INTO users (id, username, email, created_at, body)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (id) DO UPDATE SET username = ?2, email = ?3, created_at = ?4, body = ?5";
const KEYPAIR: &str = "INSERT INTO keypairs (access_key, owner, active, body)
    VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (access_key) DO UPDATE SET owner = ?2, active = ?3, body = ?4";
const GROUP: &str = "INSERT INTO resource_groups (id, name, body) VALUES (?1, ?2, ?3)
    ON CONFLICT (id) DO UPDATE SET name = ?2, body = ?3";
const AGENT: &str = "INSERT INTO agents (id, name, group_id, state, body)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (id) DO UPDATE SET name = ?2, group_id = ?3, state = ?4, body = ?5";
const TOKEN: &str = "INSERT INTO join_tokens (id, group_id, expires_at, body)
    VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (id) DO UPDATE SET group_id = ?2, expires_at = ?3, body = ?4";
const TOKEN_DELETED: &str = "DELETE FROM join_tokens WHERE id = ?1";
// What never changes of a session is not written again.
const SESSION: &str = "INSERT INTO sessions (id, owner, owner_name, name, group_id, group_name,
        kind, state, settled, priority, created_at, ended_at, version, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
    ON CONFLICT (id) DO UPDATE SET name = ?4, state = ?8, settled = ?9, priority = ?10,
        ended_at = ?12, version = ?13, body = ?14";
const HISTORY: &str = "INSERT INTO session_history
        (session, seq, at, from_state, to_state, reason, detail, by, attempt)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const OPENED: &str = "INSERT INTO ledger
        (session, rank, attempt, slot, device, agent, amount, opened_at, quota_freed_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
// The first time counts.
const FREED: &str = "UPDATE ledger SET quota_freed_at = coalesce(quota_freed_at, ?4)
    WHERE session = ?1 AND rank = ?2 AND attempt = ?3 AND closed_at IS NULL";
const CLOSED: &str = "UPDATE ledger SET closed_at = ?4
    WHERE session = ?1 AND rank = ?2 AND attempt = ?3 AND closed_at IS NULL";
const IDEMPOTENCY: &str = "INSERT INTO idempotency (caller, key, body, session, at)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (caller, key) DO UPDATE SET body = ?3, session = ?4, at = ?5";
const IDEMPOTENCY_FORGOTTEN: &str = "DELETE FROM idempotency WHERE caller = ?1 AND key = ?2";
