//! What sessions leave behind: end reports, and what was used by whom.

use super::admin::exports;
use super::errors::Failure;
use super::extract::Query;
use super::{App, json, person};
use crate::identity::Person;
use crate::store::{UsageFilter, UsageOf, UsagePlace};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::stream;
use longshore_common::amount::{SlotKind, SlotName};
use longshore_common::api;
use longshore_common::ids::SessionId;
use longshore_common::session::End;
use longshore_common::time::Timestamp;
use longshore_core::model::{
    Container, Role, Session, Spending, Stretch, Summary, UsageBy, UsageRow, UsageSum,
};

/// Parameters of the sums.
pub(super) const USAGE: &[&str] = &[
    "by", "since", "until", "user", "project", "domain", "group", "session",
];

/// An amount times milliseconds as hours with up to three places, rounded to the nearest.
/// `unit` is what one of the slot is: 1000 thousandths, or a GiB.
pub(super) fn hours(spent: i128, unit: i128) -> String {
    let whole = unit * 3_600_000;
    let milli = (spent * 1000 + whole / 2).div_euclid(whole);
    let milli = i64::try_from(milli).unwrap_or(i64::MAX);
    longshore_common::amount::format_milli(milli)
}

const THOUSAND: i128 = 1000;
const GIB: i128 = 1 << 30;

fn unit_of(slot: &SlotName) -> i128 {
    match slot.kind() {
        SlotKind::Bytes => GIB,
        _ => THOUSAND,
    }
}

/// What is known of a session that has ended.
pub(super) fn end_report(session: &Session) -> Option<api::EndReport> {
    if !session.state.is_final() {
        return None;
    }
    let spent = &session.spent;
    Some(api::EndReport {
        by: spent.by.clone(),
        oom: session.present().any(out_of_memory),
        phases_ms: spent.phases.clone(),
        containers: session.present().map(container).collect(),
        gpu_hours_allocated: hours(i128::from(spent.accelerator_ms), THOUSAND),
        gpu_hours_used: hours(i128::from(spent.accelerator_used_ms), THOUSAND),
    })
}

fn out_of_memory(container: &Container) -> bool {
    match &container.end {
        Some(
            End::Exited(exit)
            | End::Stopped {
                exit: Some(exit), ..
            },
        ) => exit.oom,
        _ => false,
    }
}

fn container(container: &Container) -> api::ContainerReport {
    let totals = &container.totals;
    let peaks = container.used.iter().filter_map(|used| used.memory_peak);
    api::ContainerReport {
        rank: container.key.rank.to_string(),
        memory_peak_bytes: totals.memory_peak,
        memory_peak_sampled: totals.memory_peak_sampled,
        memory_limit_bytes: container.slots.mem_bytes(),
        gpu_memory_peak_bytes: peaks.reduce(i64::saturating_add),
        cpu_ms: totals.cpu_ms,
        read_bytes: totals.read_bytes,
        written_bytes: totals.written_bytes,
        received_bytes: totals.received_bytes,
        sent_bytes: totals.sent_bytes,
    }
}

/// Of whom a caller sees the usage: the own, that of projects one administers, that of the
/// domain one looks after, or everybody's.
pub(super) fn seen_by(caller: &Person) -> UsageOf {
    if let Some(project) = caller.called().project {
        // A keypair of one project sees what its owner did in that one.
        return UsageOf::OwnIn {
            owner: caller.caller.user,
            project,
        };
    }
    if caller.role == Role::Superadmin {
        return UsageOf::All;
    }
    let wide = matches!(caller.role, Role::DomainAdmin | Role::Monitor);
    UsageOf::Some {
        owner: caller.caller.user,
        projects: caller.rights.administered(),
        domain: caller.rights.domain().filter(|_| wide),
    }
}

/// An instant, or a month such as 2026-11, which is its first instant.
fn instant(query: &Query, name: &str) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = query.one(name)? else {
        return Ok(None);
    };
    let whole = match text.len() {
        7 => format!("{text}-01T00:00:00Z"),
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    whole.parse().map(Some).map_err(|_| {
        let text = format!("{name} must be an instant, a day or a month: 2026-11.");
        Failure::new("LS-PARAMETER", text)
    })
}

/// Which rows a request is about.
pub(super) fn filter(caller: &Person, query: &Query) -> Result<UsageFilter, Failure> {
    let stretch = Stretch {
        since: instant(query, "since")?,
        until: instant(query, "until")?,
    };
    if let (Some(since), Some(until)) = (stretch.since, stretch.until)
        && until <= since
    {
        let text = "until must be later than since.";
        return Err(Failure::new("LS-PARAMETER", text));
    }
    let text = |name: &str| Ok::<_, Failure>(query.one(name)?.map(str::to_owned));
    let session = text("session")?.map(|text| text.parse::<SessionId>());
    let session = session
        .transpose()
        .map_err(|_| Failure::new("LS-PARAMETER", "session must be the id of a session: s-42."))?;
    let owner = match text("user")?.as_deref() {
        Some("me" | "@me") => Some(caller.caller.user.to_string()),
        other => other.map(str::to_owned),
    };
    Ok(UsageFilter {
        of: seen_by(caller),
        stretch,
        owner,
        project: text("project")?,
        domain: text("domain")?,
        group: text("group")?,
        session,
    })
}

/// What was used, summed up by person.
pub(super) async fn usage(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let query = Query::read(request.uri().query(), USAGE)?;
    sum_up(&app, &caller, &query, UsageBy::User).await
}

/// What was used, summed up by month.
pub(super) async fn summary(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let query = Query::read(request.uri().query(), USAGE)?;
    sum_up(&app, &caller, &query, UsageBy::Month).await
}

async fn sum_up(
    app: &App,
    caller: &Person,
    query: &Query,
    otherwise: UsageBy,
) -> Result<Response, Failure> {
    let by = match query.one("by")? {
        None => otherwise,
        Some(text) => text
            .parse()
            .map_err(|e| Failure::new("LS-PARAMETER", format!("by: {e}")))?,
    };
    let filter = filter(caller, query)?;
    let stretch = filter.stretch;
    let now = app.engine.read(|_, now| now).await?;
    let sums = (
        Summary::new(by, stretch, now),
        Summary::new(UsageBy::Total, stretch, now),
    );
    let (items, total, cut) = app
        .reader
        .usage(
            filter,
            sums,
            |(sums, total), row| {
                sums.take(&row);
                total.take(&row);
                sums.len() <= MOST_SUMS
            },
            |(sums, total)| {
                let cut = sums.len() > MOST_SUMS;
                (sums.done(), total.done(), cut)
            },
        )
        .await?;
    if cut {
        let text = format!("by={by} gives more than {MOST_SUMS} lines.");
        let hint = "Ask for a shorter time, or export the table of usage.";
        return Err(Failure::new("LS-PARAMETER", text).hint(hint));
    }
    let mut items = items;
    if !matches!(by, UsageBy::Day | UsageBy::Month) {
        items.sort_by_key(|sum| std::cmp::Reverse(sum.accelerators.allocated));
    }
    json(&api::UsageSummary {
        by: by.to_string(),
        since: stretch.since,
        until: stretch.until.unwrap_or(now),
        total: total
            .first()
            .map(line)
            .unwrap_or_else(|| line(&UsageSum::default())),
        items: items.iter().map(line).collect(),
    })
}

/// Rows read at a time. Between two pages nobody is kept from reading, however slowly the
/// table is taken.
const PAGE_ROWS: usize = match cfg!(test) {
    true => 2,
    false => 500,
};
/// Sums of one answer.
const MOST_SUMS: usize = 10_000;
/// Rows of one table.
pub(super) const MOST_ROWS: usize = 1_000_000;

pub(super) fn csv_line(cells: &[String]) -> String {
    longshore_identity::csv::line(cells.iter().map(String::as_str))
}

/// Columns of the table of usage, in their fixed order.
const COLUMNS: [&str; 23] = [
    "session",
    "rank",
    "attempt",
    "slot",
    "device",
    "model",
    "amount",
    "agent",
    "owner",
    "access_key",
    "project",
    "domain",
    "group",
    "from_at",
    "billable_from_at",
    "billable_to_at",
    "to_at",
    "busy_ms",
    "measured_ms",
    "hours_allocated",
    "hours_used",
    "hours_held",
    "hours_gaps",
];

fn cells(row: &UsageRow, stretch: Stretch, now: Timestamp) -> Vec<String> {
    let at = |at: Option<Timestamp>| at.map_or_else(String::new, |at| at.to_string());
    let hours = of_slot(&row.spending(stretch, now), unit_of(&row.slot));
    let device = row.device.as_ref().map(ToString::to_string);
    vec![
        row.key.session.to_string(),
        row.key.rank.to_string(),
        row.key.attempt.0.to_string(),
        row.slot.to_string(),
        device.unwrap_or_default(),
        row.model.clone(),
        row.slot.format_amount(row.amount),
        row.agent_name.clone(),
        row.owner_name.clone(),
        row.access_key.clone(),
        row.project_name.clone(),
        row.domain_name.clone(),
        row.group_name.clone(),
        at(Some(row.from)),
        at(row.billable_from),
        at(row.billable_to),
        at(row.to),
        row.busy_ms.to_string(),
        row.measured_ms.to_string(),
        hours.allocated,
        hours.used,
        hours.held,
        hours.gaps,
    ]
}

/// The rows of usage that a caller sees, as CSV, while they are read.
pub(super) async fn export(
    app: &App,
    caller: &Person,
    query: &Query,
    columns: Option<&str>,
) -> Result<Body, Failure> {
    let header: Vec<String> = COLUMNS.map(str::to_owned).into();
    let places = exports::places(&header, columns)?;
    let filter = filter(caller, query)?;
    let stretch = filter.stretch;
    let now = app.engine.read(|_, now| now).await?;
    let first = csv_line(&exports::pick(&header, &places));
    let reader = app.reader.clone();
    let pieces = stream::try_unfold(
        (first, Next::Behind(None), 0_usize),
        move |(mut text, next, rows)| {
            let (reader, filter, places) = (reader.clone(), filter.clone(), places.clone());
            async move {
                let Next::Behind(after) = next else {
                    return Ok(None);
                };
                if rows >= MOST_ROWS {
                    // A transfer that ends without its end is seen as broken off.
                    return Err(std::io::Error::other("more rows than one table may have"));
                }
                let page = reader.usage_page(filter, after, PAGE_ROWS).await;
                let page = page.map_err(|error| {
                    tracing::error!(%error, "an export of usage broke off");
                    std::io::Error::other("broken off")
                })?;
                for row in &page {
                    let cells = cells(row, stretch, now);
                    text.push_str(&csv_line(&exports::pick(&cells, &places)));
                }
                let next = match page.last().filter(|_| page.len() == PAGE_ROWS) {
                    Some(last) => Next::Behind(Some(UsagePlace::of(last))),
                    None => Next::Nothing,
                };
                let rows = rows + page.len();
                Ok(Some((Bytes::from(text), (String::new(), next, rows))))
            }
        },
    );
    Ok(Body::from_stream(pieces))
}

/// What of a table comes next.
enum Next {
    /// The rows behind a place.
    Behind(Option<UsagePlace>),
    /// Nothing.
    Nothing,
}

fn of_slot(spent: &Spending, unit: i128) -> api::UsageHours {
    api::UsageHours {
        allocated: hours(spent.allocated, unit),
        used: hours(spent.used, unit),
        held: hours(spent.held, unit),
        gaps: hours(spent.gaps, unit),
    }
}

fn line(sum: &UsageSum) -> api::UsageLine {
    let gpus = of_slot(&sum.accelerators, THOUSAND);
    let slots = sum.slots.iter();
    api::UsageLine {
        id: sum.id.clone(),
        name: sum.name.clone(),
        sessions: sum.sessions,
        gpu_hours_allocated: gpus.allocated,
        gpu_hours_used: gpus.used,
        gpu_hours_held: gpus.held,
        gpu_hours_gaps: gpus.gaps,
        slots: slots
            .map(|(slot, spent)| (slot.to_string(), of_slot(spent, unit_of(slot))))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_rounded_to_three_places() {
        assert_eq!(hours(1000 * 3_600_000, THOUSAND), "1");
        assert_eq!(hours(1000 * 1_800_000, THOUSAND), "0.5");
        assert_eq!(hours(1000 * 1_200_000, THOUSAND), "0.333");
        assert_eq!(hours(0, THOUSAND), "0");
        assert_eq!(hours(GIB * 5_400_000, GIB), "1.5");
    }
}
