//! Rows of usage: written with the claims beside them, read for sums.

use super::load::{parse, unsigned};
use super::read::Reader;
use super::write::{execute, number};
use super::{Doing, StoreError};
use longshore_common::ids::{Attempt, ContainerKey, DomainId, ProjectId, Rank, SessionId, UserId};
use longshore_common::time::Timestamp;
use longshore_core::model::{Stretch, UsageChange, UsageRow};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, Transaction, params, params_from_iter};
use std::fmt::Display;
use std::str::FromStr;

const OPENED: &str = "INSERT INTO usage (session, rank, attempt, slot, device, model, amount,
        agent, agent_name, owner, owner_name, access_key, project, project_name,
        domain, domain_name, group_id, group_name, from_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)";
// The first time counts, of each of the two.
const RAN: &str = "UPDATE usage SET billable_from = coalesce(billable_from, ?3)
    WHERE session = ?1 AND attempt = ?2";
const RESTED: &str = "UPDATE usage SET billable_to = ?2
    WHERE session = ?1 AND billable_from IS NOT NULL AND billable_to IS NULL";
const MEASURED: &str = "UPDATE usage SET busy_ms = ?6, measured_ms = ?7
    WHERE session = ?1 AND rank = ?2 AND attempt = ?3 AND slot = ?4 AND device = ?5";
const CLOSED: &str = "UPDATE usage SET to_at = ?4
    WHERE session = ?1 AND rank = ?2 AND attempt = ?3 AND to_at IS NULL";

/// Stores one change of a row.
pub(super) fn write(to: &Transaction<'_>, change: &UsageChange) -> Result<(), StoreError> {
    let doing = "store usage";
    match change {
        UsageChange::Opened(row) => {
            let values = params![
                number("usage", row.key, row.key.session.0)?,
                row.key.rank.0,
                row.key.attempt.0,
                row.slot.as_str(),
                row.device.as_ref().map_or("", |d| d.as_str()),
                row.model,
                row.amount,
                row.agent.to_string(),
                row.agent_name,
                row.owner.to_string(),
                row.owner_name,
                row.access_key,
                row.project.to_string(),
                row.project_name,
                row.domain.to_string(),
                row.domain_name,
                row.group.to_string(),
                row.group_name,
                row.from.0
            ];
            execute(to, OPENED, values, doing)
        }
        UsageChange::Ran {
            session,
            attempt,
            at,
        } => {
            let id = number("usage", session, session.0)?;
            execute(to, RAN, params![id, attempt.0, at.0], doing)
        }
        UsageChange::Rested { session, at } => {
            let id = number("usage", session, session.0)?;
            execute(to, RESTED, params![id, at.0], doing)
        }
        UsageChange::Measured {
            key,
            slot,
            device,
            busy_ms,
            measured_ms,
        } => {
            let values = params![
                number("usage", key, key.session.0)?,
                key.rank.0,
                key.attempt.0,
                slot.as_str(),
                device.as_ref().map_or("", |d| d.as_str()),
                busy_ms,
                measured_ms
            ];
            execute(to, MEASURED, values, doing)
        }
    }
}

/// Closes the rows beside the claims of a container.
pub(super) fn close(to: &Transaction<'_>, key: ContainerKey, at: i64) -> Result<(), StoreError> {
    let session = number("usage", key, key.session.0)?;
    let values = params![session, key.rank.0, key.attempt.0, at];
    execute(to, CLOSED, values, "store usage")
}

/// Of whom rows are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageOf {
    /// Of everybody.
    All,
    /// Of a person, of these projects, and of this domain, if there is one.
    Some {
        /// The person.
        owner: UserId,
        /// The projects.
        projects: Vec<ProjectId>,
        /// The domain.
        domain: Option<DomainId>,
    },
}

/// Which rows are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageFilter {
    /// Of whom, by right.
    pub of: UsageOf,
    /// In this stretch of time.
    pub stretch: Stretch,
    /// Whose name or id is this: user, project, domain, group, session.
    pub owner: Option<String>,
    /// See `owner`.
    pub project: Option<String>,
    /// See `owner`.
    pub domain: Option<String>,
    /// See `owner`.
    pub group: Option<String>,
    /// Of this session.
    pub session: Option<SessionId>,
}

impl Reader {
    /// Gives the rows to `take`, one after the other, the oldest session first, as long as it
    /// says true; what `done` makes of it is the answer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn usage<S: Send + 'static, T: Send + 'static>(
        &self,
        filter: UsageFilter,
        mut into: S,
        take: impl Fn(&mut S, UsageRow) -> bool + Send + 'static,
        done: impl FnOnce(S) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(move |db| {
            rows(db, &filter, |row| take(&mut into, row))?;
            Ok(done(into))
        })
        .await
    }
}

fn statement(filter: &UsageFilter) -> (String, Vec<Value>) {
    let mut wheres: Vec<String> = vec!["1 = 1".to_owned()];
    let mut values: Vec<Value> = Vec::new();
    let mut add = |sql: &str, given: Vec<Value>| {
        wheres.push(sql.to_owned());
        values.extend(given);
    };
    if let UsageOf::Some {
        owner,
        projects,
        domain,
    } = &filter.of
    {
        let mut any = vec!["owner = ?".to_owned()];
        let mut given = vec![Value::Text(owner.to_string())];
        if !projects.is_empty() {
            let marks = vec!["?"; projects.len()].join(", ");
            any.push(format!("project IN ({marks})"));
            given.extend(projects.iter().map(|id| Value::Text(id.to_string())));
        }
        if let Some(domain) = domain {
            any.push("domain = ?".to_owned());
            given.push(Value::Text(domain.to_string()));
        }
        add(&format!("({})", any.join(" OR ")), given);
    }
    let named = [
        ("owner", "owner_name", &filter.owner),
        ("project", "project_name", &filter.project),
        ("domain", "domain_name", &filter.domain),
        ("group_id", "group_name", &filter.group),
    ];
    for (id, name, text) in named {
        if let Some(text) = text {
            let sql = format!("({id} = ? OR {name} = ? COLLATE NOCASE)");
            add(&sql, vec![Value::Text(text.clone()); 2]);
        }
    }
    if let Some(session) = filter.session {
        let id = i64::try_from(session.0).unwrap_or(i64::MAX);
        add("session = ?", vec![Value::Integer(id)]);
    }
    if let Some(until) = filter.stretch.until {
        add("from_at < ?", vec![Value::Integer(until.0)]);
    }
    if let Some(since) = filter.stretch.since {
        add(
            "(to_at IS NULL OR to_at > ?)",
            vec![Value::Integer(since.0)],
        );
    }
    let sql = format!(
        "SELECT session, rank, attempt, slot, device, model, amount, agent, agent_name,
            owner, owner_name, access_key, project, project_name, domain, domain_name,
            group_id, group_name, from_at, billable_from, billable_to, to_at, busy_ms, measured_ms
         FROM usage WHERE {} ORDER BY session, attempt, rank, slot, device",
        wheres.join(" AND ")
    );
    (sql, values)
}

fn rows(
    db: &Connection,
    filter: &UsageFilter,
    mut take: impl FnMut(UsageRow) -> bool,
) -> Result<(), StoreError> {
    let doing = "read usage";
    let (sql, values) = statement(filter);
    let mut statement = db.prepare_cached(&sql).doing(doing)?;
    let mut rows = statement.query(params_from_iter(values)).doing(doing)?;
    while let Some(row) = rows.next().doing(doing)? {
        if !take(usage_row(row)?) {
            break;
        }
    }
    Ok(())
}

fn usage_row(row: &Row<'_>) -> Result<UsageRow, StoreError> {
    let doing = "read usage";
    let id = row.get(0).doing(doing)?;
    let key = ContainerKey {
        session: SessionId(unsigned("usage", id, id)?),
        rank: Rank(row.get(1).doing(doing)?),
        attempt: Attempt(row.get(2).doing(doing)?),
    };
    let text = |at: usize| row.get::<_, String>(at).doing(doing);
    let instant = |at: usize| {
        let ms: Option<i64> = row.get(at).doing(doing)?;
        Ok::<_, StoreError>(ms.map(Timestamp))
    };
    // What a database from before there were domains and projects has is an empty text.
    fn or_none<T: FromStr<Err: Display>>(
        key: ContainerKey,
        text: &str,
        none: T,
    ) -> Result<T, StoreError> {
        match text {
            "" => Ok(none),
            text => parse("usage", key, text),
        }
    }
    let device = text(4)?;
    Ok(UsageRow {
        key,
        slot: parse("usage", key, &text(3)?)?,
        device: match device.as_str() {
            "" => None,
            id => Some(parse("usage", key, id)?),
        },
        model: text(5)?,
        amount: row.get(6).doing(doing)?,
        agent: parse("usage", key, &text(7)?)?,
        agent_name: text(8)?,
        owner: parse("usage", key, &text(9)?)?,
        owner_name: text(10)?,
        access_key: text(11)?,
        project: or_none(key, &text(12)?, ProjectId::new(0))?,
        project_name: text(13)?,
        domain: or_none(key, &text(14)?, DomainId::new(0))?,
        domain_name: text(15)?,
        group: parse("usage", key, &text(16)?)?,
        group_name: text(17)?,
        from: instant(18)?.unwrap_or(Timestamp(0)),
        billable_from: instant(19)?,
        billable_to: instant(20)?,
        to: instant(21)?,
        busy_ms: row.get(22).doing(doing)?,
        measured_ms: row.get(23).doing(doing)?,
    })
}
