//! All sessions so far as a table.

use super::super::App;
use super::super::admin::exports;
use super::super::errors::Failure;
use super::super::extract::Query;
use super::super::reports::{MOST_ROWS, csv_line};
use super::list::{filter, page_of};
use crate::identity::Person;
use axum::body::{Body, Bytes};
use futures_util::stream;
use longshore_common::amount::SlotName;
use longshore_common::ids::AgentId;
use longshore_common::judge::tenths;
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use longshore_core::model::{self, Container, Session};
use std::collections::{BTreeMap, BTreeSet};

/// Parameters of the list that choose sessions.
pub(in crate::api) const FILTERS: &[&str] = &[
    "state", "type", "group", "name", "owner", "scope", "ended", "array",
];
/// Sessions read at a time.
const CHUNK: usize = 500;

/// Columns in front of those of the slots.
const BEFORE: [&str; 15] = [
    "id",
    "name",
    "type",
    "image",
    "cluster_mode",
    "size",
    "owner_email",
    "access_key",
    "project",
    "domain",
    "group",
    "state",
    "reason",
    "result",
    "exit_code",
];
/// Columns behind those of the slots.
const BEHIND: [&str; 13] = [
    "created_at",
    "placed_at",
    "started_at",
    "ended_at",
    "agents",
    "cpu_s",
    "mean_cpu_ratio",
    "mean_mem_ratio",
    "mean_gpu_ratio",
    "memory_peak_bytes",
    "gpu_memory_peak_bytes",
    "read_bytes",
    "written_bytes",
];

/// Names that stand in the table and not in a session.
#[derive(Debug, Default)]
struct Names {
    emails: BTreeMap<String, String>,
    domains: BTreeMap<String, String>,
    agents: BTreeMap<AgentId, String>,
}

/// The sessions that a caller sees, as CSV, newest first, while they are read.
pub(in crate::api) async fn export(
    app: &App,
    caller: &Person,
    query: &Query,
    columns: Option<&str>,
) -> Result<Body, Failure> {
    let slots = app.engine.read(|state, _| slots(state)).await?;
    let header: Vec<String> = BEFORE
        .iter()
        .map(|name| (*name).to_owned())
        .chain(slots.iter().map(ToString::to_string))
        .chain(BEHIND.iter().map(|name| (*name).to_owned()))
        .collect();
    let places = exports::places(&header, columns)?;
    let first = csv_line(&exports::pick(&header, &places));
    let chosen = filter(app, caller, query, true).await?;
    let (app, caller) = (app.clone(), caller.clone());
    let begin = (Some(first), chosen, 0_usize);
    let pieces = stream::try_unfold(begin, move |(first, chosen, rows)| {
        let (app, caller) = (app.clone(), caller.clone());
        let (slots, places) = (slots.clone(), places.clone());
        async move {
            let Some((mut wanted, whose)) = chosen else {
                return Ok(first.map(|text| (Bytes::from(text), (None, None, rows))));
            };
            if rows >= MOST_ROWS {
                // A transfer that ends without its end is seen as broken off.
                return Err(std::io::Error::other("more rows than one table may have"));
            }
            let broken = |_: Failure| std::io::Error::other("broken off");
            let page = page_of(&app, &caller, wanted.clone(), whose, CHUNK).await;
            let (page, place) = page.map_err(broken)?;
            let names = names(&app, &page).await.map_err(broken)?;
            let mut text = first.unwrap_or_default();
            for session in &page {
                let row = cells(session, &slots, &names);
                text.push_str(&csv_line(&exports::pick(&row, &places)));
            }
            let rows = rows + page.len();
            let next = place.map(|place| {
                wanted.before_id = Some(place);
                (wanted, whose)
            });
            Ok::<_, std::io::Error>(Some((Bytes::from(text), (None, next, rows))))
        }
    });
    Ok(Body::from_stream(pieces))
}

/// Every slot that a node has or had, and those every session has.
fn slots(state: &model::State) -> Vec<SlotName> {
    let mut all = BTreeSet::from([SlotName::cpu(), SlotName::mem()]);
    let inventories = state.agents.values().filter_map(|a| a.inventory.as_ref());
    for inventory in inventories {
        let offered = inventory.offered.iter().map(|(slot, _)| slot.clone());
        all.extend(offered);
        all.extend(inventory.devices.iter().map(|d| d.slot.clone()));
    }
    all.into_iter().collect()
}

async fn names(app: &App, page: &[Session]) -> Result<Names, Failure> {
    let owners: BTreeSet<_> = page.iter().map(|s| (s.owner, s.domain)).collect();
    let look = move |state: &model::State, _: Timestamp| {
        let mut names = Names::default();
        for (owner, domain) in owners {
            if let Some(user) = state.users.get(&owner) {
                let email = match user.email.is_empty() {
                    true => user.username.clone(), // a service account
                    false => user.email.clone(),
                };
                names.emails.insert(owner.to_string(), email);
            }
            if let Some(known) = state.domains.get(&domain) {
                names.domains.insert(domain.to_string(), known.name.clone());
            }
        }
        let agents = state.agents.values();
        names.agents = agents.map(|a| (a.id, a.name.clone())).collect();
        names
    };
    Ok(app.engine.read(look).await?)
}

/// Thousandths as a ratio with up to three places.
fn ratio(thousandths: u32) -> String {
    longshore_common::amount::format_milli(i64::from(thousandths))
}

/// The mean of what containers come to; those that were not measured are left out.
fn mean(values: impl Iterator<Item = Option<u32>>) -> String {
    let (mut sum, mut count) = (0_u32, 0_u32);
    for value in values.flatten() {
        sum = sum.saturating_add(value);
        count += 1;
    }
    sum.checked_div(count).map_or_else(String::new, ratio)
}

fn mean_mem(container: &Container) -> Option<u32> {
    let totals = &container.totals;
    let seconds = totals.measured_ms / 1000;
    let kib = container.slots.mem_bytes() / 1024;
    (seconds > 0 && kib > 0).then(|| tenths(totals.memory_kib_s / seconds, kib))
}

fn mean_gpu(container: &Container) -> Option<u32> {
    let used = || container.used.iter();
    let measured: i64 = used().map(|u| u.measured_ms).sum();
    (measured > 0).then(|| tenths(used().map(|u| u.busy_ms).sum(), measured))
}

fn cells(session: &Session, slots: &[SlotName], names: &Names) -> Vec<String> {
    let text = |at: Option<Timestamp>| at.map_or_else(String::new, |at| at.to_string());
    let number = |n: Option<i64>| n.map_or_else(String::new, |n| n.to_string());
    let total = session.total_slots();
    let mut agents: Vec<String> = session
        .present()
        .map(|c| names.agents.get(&c.agent).cloned())
        .map(Option::unwrap_or_default)
        .collect();
    agents.dedup();
    let ran_ms = match (session.started_at, session.ended_at) {
        (Some(from), Some(to)) if session.state != SessionState::Running => to.since(from),
        _ => 0,
    };
    let mean_cpu = |container: &Container| {
        let granted = ran_ms.saturating_mul(container.slots.cpu_milli()) / 1000;
        let cpu_ms = container.totals.cpu_ms?;
        (granted > 0).then(|| tenths(cpu_ms, granted))
    };
    let sum = |get: fn(&Container) -> Option<i64>| {
        number(
            session
                .present()
                .filter_map(get)
                .reduce(i64::saturating_add),
        )
    };
    let cpu_ms = session.present().filter_map(|c| c.totals.cpu_ms);
    let cpu_s = cpu_ms.reduce(i64::saturating_add).map(|ms| ms / 1000);
    let before = [
        session.id.to_string(),
        session.name.clone().unwrap_or_default(),
        session.kind.to_string(),
        session.image.clone(),
        session.cluster.mode.to_string(),
        session.cluster.size.to_string(),
        names
            .emails
            .get(&session.owner.to_string())
            .unwrap_or(&session.owner_name)
            .clone(),
        session.access_key.clone(),
        session.project_name.clone(),
        names
            .domains
            .get(&session.domain.to_string())
            .cloned()
            .unwrap_or_default(),
        session.group_name.clone(),
        session.state.to_string(),
        session.reason.map(|r| r.to_string()).unwrap_or_default(),
        session.result.map(|r| r.to_string()).unwrap_or_default(),
        session.exit_code.map(|c| c.to_string()).unwrap_or_default(),
    ];
    let asked = slots.iter().map(|slot| match total.amount(slot) {
        0 => String::new(),
        amount => slot.format_amount(amount),
    });
    let peak = session.present().filter_map(|c| c.totals.memory_peak).max();
    let behind = [
        text(Some(session.created_at)),
        text(session.placed_at),
        text(session.started_at),
        text(session.ended_at),
        agents.join(";"),
        number(cpu_s),
        mean(session.present().map(mean_cpu)),
        mean(session.present().map(mean_mem)),
        mean(session.present().map(mean_gpu)),
        number(peak),
        sum(|c| {
            c.used
                .iter()
                .filter_map(|u| u.memory_peak)
                .reduce(i64::saturating_add)
        }),
        sum(|c| c.totals.read_bytes),
        sum(|c| c.totals.written_bytes),
    ];
    before.into_iter().chain(asked).chain(behind).collect()
}
