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
    /// Of a person in one project.
    OwnIn {
        /// The person.
        owner: UserId,
        /// The project.
        project: ProjectId,
    },
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
    /// At most so many of the rows, in the order of their keys, behind that of `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn usage_page(
        &self,
        filter: UsageFilter,
        after: Option<UsagePlace>,
        limit: usize,
    ) -> Result<Vec<UsageRow>, StoreError> {
        self.run(move |db| {
            let mut page = Vec::new();
            let part = Part::Page(after.as_ref(), limit);
            rows(db, &filter, part, |row| {
                page.push(row);
                true
            })?;
            Ok(page)
        })
        .await
    }

    /// Gives the rows to `take`, one after the other in any order, as long as it says true;
    /// what `done` makes of it is the answer. All others wait for one of few readers meanwhile:
    /// `take` waits for nobody.
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
            rows(db, &filter, Part::All, |row| take(&mut into, row))?;
            Ok(done(into))
        })
        .await
    }
}

/// Where a page of rows ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePlace {
    key: ContainerKey,
    slot: String,
    device: String,
}

impl UsagePlace {
    /// That of a row.
    #[must_use]
    pub fn of(row: &UsageRow) -> Self {
        let device = row.device.as_ref().map(ToString::to_string);
        Self {
            key: row.key,
            slot: row.slot.to_string(),
            device: device.unwrap_or_default(),
        }
    }
}

/// How much is wanted.
#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    /// Everything, in any order.
    All,
    /// At most so many rows behind a place.
    Page(Option<&'a UsagePlace>, usize),
}

fn statement(filter: &UsageFilter, part: Part<'_>) -> (String, Vec<Value>) {
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
    if let UsageOf::OwnIn { owner, project } = &filter.of {
        let given = [owner.to_string(), project.to_string()].map(Value::Text);
        add("owner = ? AND project = ?", given.into());
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
            "coalesce(to_at, 9223372036854775807) > ?",
            vec![Value::Integer(since.0)],
        );
    }
    let whole = |n: u64| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let mut order = "";
    if let Part::Page(after, limit) = part {
        if let Some(place) = after {
            let key = place.key;
            let numbers = [key.session.0, key.rank.0.into(), key.attempt.0.into()].map(whole);
            let texts = [&place.slot, &place.device].map(|text| Value::Text(text.clone()));
            let behind = "(session, rank, attempt, slot, device) > (?, ?, ?, ?, ?)";
            add(behind, numbers.into_iter().chain(texts).collect());
        }
        order = " ORDER BY session, rank, attempt, slot, device LIMIT ?";
        values.push(whole(limit as u64));
    }
    let sql = format!(
        "SELECT session, rank, attempt, slot, device, model, amount, agent, agent_name,
            owner, owner_name, access_key, project, project_name, domain, domain_name,
            group_id, group_name, from_at, billable_from, billable_to, to_at, busy_ms, measured_ms
         FROM usage WHERE {}{order}",
        wheres.join(" AND ")
    );
    (sql, values)
}

fn rows(
    db: &Connection,
    filter: &UsageFilter,
    part: Part<'_>,
    mut take: impl FnMut(UsageRow) -> bool,
) -> Result<(), StoreError> {
    let doing = "read usage";
    let (sql, values) = statement(filter, part);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::migrate;
    use std::path::Path;

    #[test]
    fn nothing_is_read_that_is_not_asked_for() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate::run(&mut db, Path::new(":memory:"), migrate::STEPS).unwrap();
        let everything = UsageFilter {
            of: UsageOf::All,
            stretch: Stretch::default(),
            owner: None,
            project: None,
            domain: None,
            group: None,
            session: None,
        };
        let since = Stretch {
            since: Some(Timestamp(1)),
            until: Some(Timestamp(9)),
        };
        let (owner, project) = (UserId::new(1), ProjectId::new(2));
        let some = UsageOf::Some {
            owner,
            projects: vec![project],
            domain: Some(DomainId::new(3)),
        };
        for (of, stretch) in [
            (UsageOf::All, since),
            (some.clone(), since),
            (some, Stretch::default()),
            (UsageOf::OwnIn { owner, project }, Stretch::default()),
        ] {
            let filter = UsageFilter {
                of,
                stretch,
                ..everything.clone()
            };
            let (sql, values) = statement(&filter, Part::All);
            let sql = format!("EXPLAIN QUERY PLAN {sql}");
            let mut steps = db.prepare(&sql).unwrap();
            let steps = steps.query_map(params_from_iter(values), |row| row.get(3));
            let steps: Vec<String> = steps.unwrap().map(Result::unwrap).collect();
            let all = steps.iter().find(|step| step.starts_with("SCAN usage"));
            assert_eq!(all, None, "{filter:?}");
        }
    }
}
