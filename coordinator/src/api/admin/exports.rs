//! Tables for people and spreadsheets, and the audit of use.

use super::super::App;
use super::super::errors::Failure;
use super::super::extract::{Query, Ref};
use super::super::{person, reports, sessions};
use super::{Match, Viewer, missing, write};
use crate::identity::Person;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use longshore_common::admin::UsageAuditRequest;
use longshore_common::agent::AgentState;
use longshore_core::access::View;
use longshore_core::model;
use longshore_core::model::admin::{
    AdminVerb, ExportKind, Reported, ReportedContainer, Table, export, export_keys,
};
use longshore_link::boot_ms;
use std::collections::BTreeSet;
use tokio::sync::Semaphore;

/// Longest name of a file.
const FILE_NAME: usize = 255;

/// Rows of one look at the state: everybody else waits meanwhile. Tests have few.
const PIECE: usize = match cfg!(test) {
    true => 2,
    false => 500,
};

/// Exports at the same time; more wait their turn.
static EXPORTS: Semaphore = Semaphore::const_new(3);

/// Everybody gets what the list of the same kind would show.
fn seen(state: &model::State, viewer: &Viewer, kind: ExportKind) -> Option<BTreeSet<String>> {
    if viewer.all {
        return None;
    }
    let user = state.users.get(&viewer.user);
    Some(match kind {
        ExportKind::Users => state
            .users
            .values()
            .filter(|u| viewer.view_of(u) == Some(View::Full))
            .map(|u| u.printed_id())
            .collect(),
        ExportKind::Keypairs => state
            .users
            .values()
            .filter(|u| viewer.sees_keypairs_of(u))
            .flat_map(|u| state.keypairs_of(u.id))
            .map(|k| k.access_key.clone())
            .collect(),
        ExportKind::KeypairPolicies => state
            .keypairs_of(viewer.user)
            .map(|k| k.policy.clone())
            .collect(),
        ExportKind::UserPolicies => user.iter().map(|u| u.user_policy.clone()).collect(),
        ExportKind::ProjectPolicies => user
            .iter()
            .flat_map(|u| u.project_ids())
            .filter_map(|id| state.projects.get(&id))
            .map(|p| p.policy.clone())
            .collect(),
    })
}

/// The places of the chosen columns, in the order in which they were chosen; all of them
/// where nothing is chosen.
pub(in super::super) fn places(
    header: &[String],
    columns: Option<&str>,
) -> Result<Vec<usize>, Failure> {
    let Some(columns) = columns else {
        return Ok((0..header.len()).collect());
    };
    let mut places = Vec::new();
    for name in columns.split(',').map(str::trim) {
        let place = header.iter().position(|h| h == name);
        places.push(place.ok_or_else(|| {
            Failure::new(
                "LS-PARAMETER",
                format!(
                    "columns: there is no column {}.",
                    super::super::errors::cut(name)
                ),
            )
            .hint(format!("Columns: {}.", header.join(", ")))
        })?);
    }
    Ok(places)
}

/// The chosen columns of a row.
pub(in super::super) fn pick(row: &[String], places: &[usize]) -> Vec<String> {
    let cells = places.iter().map(|place| row.get(*place).cloned());
    cells.map(Option::unwrap_or_default).collect()
}

/// The chosen columns, in the order in which they were chosen.
fn choose(table: Table, columns: Option<&str>) -> Result<Table, Failure> {
    let places = places(&table.header, columns)?;
    Ok(Table {
        header: pick(&table.header, &places),
        rows: table.rows.iter().map(|row| pick(row, &places)).collect(),
    })
}

/// The table as somebody may see it, made piece by piece.
async fn table(app: &App, viewer: Viewer, kind: ExportKind) -> Result<Table, Failure> {
    let turn = EXPORTS.acquire().await;
    let _turn = turn.map_err(|_| Failure::internal())?;
    let keys = move |state: &model::State, _| {
        let mut keys = export_keys(state, kind);
        if let Some(seen) = seen(state, &viewer, kind) {
            keys.retain(|key| seen.contains(key));
        }
        keys
    };
    let keys = app.engine.read(keys).await?;
    let at_once = match kind {
        ExportKind::Users | ExportKind::Keypairs => PIECE,
        // There are few, and the columns go by all of them.
        _ => usize::MAX,
    };
    let mut pieces = keys.chunks(at_once);
    let mut whole = piece(app, kind, pieces.next().unwrap_or_default()).await?;
    for keys in pieces {
        whole.rows.extend(piece(app, kind, keys).await?.rows);
    }
    Ok(whole)
}

async fn piece(app: &App, kind: ExportKind, keys: &[String]) -> Result<Table, Failure> {
    let keys = keys.to_vec();
    let look = move |state: &model::State, _| export(state, kind, &keys);
    let mut table = app.engine.read(look).await?;
    if kind == ExportKind::Keypairs {
        with_use(&mut table, |key| {
            let requests = app.rates.in_window(key, boot_ms());
            let last = app.identity.keypair_use(key).map(|(at, _)| at.to_string());
            (requests.to_string(), last)
        });
    }
    Ok(table)
}

/// Puts into a table of keypairs how much each is used, and when it was last, as far as that is
/// known by now: what is stored is up to a minute old.
fn with_use(table: &mut Table, of: impl Fn(&str) -> (String, Option<String>)) {
    let place = |name: &str| table.header.iter().position(|header| header == name);
    let (requests, last) = (place("requests_in_window"), place("last_used_at"));
    for row in &mut table.rows {
        let Some(key) = row.first() else { continue };
        let (now, used) = of(key);
        for (place, cell) in [(requests, Some(now)), (last, used)] {
            if let (Some(at), Some(cell)) = (place.and_then(|at| row.get_mut(at)), cell) {
                *at = cell;
            }
        }
    }
}

pub(in super::super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let known: Vec<&str> = match text.as_str() {
        "sessions" => [OWN, sessions::FILTERS].concat(),
        "usage" => [OWN, reports::USAGE].concat(),
        _ => OWN.to_vec(),
    };
    let query = Query::read(request.uri().query(), &known)?;
    let name = file_name(&query, &text)?;
    let columns = query.one("columns")?;
    let body = match text.as_str() {
        "sessions" => sessions::export(&app, &caller, &query, columns).await?,
        "usage" => reports::export(&app, &caller, &query, columns).await?,
        _ => Body::from(choose(held(&app, &caller, &text).await?, columns)?.csv()),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/csv; charset=utf-8"),
    );
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// Parameters of every table.
const OWN: &[&str] = &["columns", "filename"];

fn file_name(query: &Query, kind: &str) -> Result<String, Failure> {
    Ok(match query.one("filename")? {
        None => format!("{kind}.csv"),
        Some(name) => {
            let good = (1..=FILE_NAME).contains(&name.len())
                && name
                    .chars()
                    .all(|c| !c.is_control() && !"/\\\"".contains(c))
                && name.is_ascii();
            if !good {
                return Err(Failure::new(
                    "LS-PARAMETER",
                    "filename must have 1 to 255 visible characters of ASCII, without \" / and \\.",
                ));
            }
            name.to_owned()
        }
    })
}

/// A table of what memory holds.
async fn held(app: &App, caller: &Person, text: &str) -> Result<Table, Failure> {
    let viewer = Viewer::of(caller);
    let Ok(kind) = text.parse::<ExportKind>() else {
        let known = ExportKind::ALL.map(ExportKind::as_str).join(", ");
        let hint = format!("There are {known}, sessions, usage.");
        return Err(missing("export", text).hint(hint));
    };
    table(app, viewer, kind).await
}

/// Compares the books with what connected agents said last.
pub(in super::super) async fn audit(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<UsageAuditRequest>(request, &[], Match::Optional).await?;
    let live = std::sync::Arc::clone(&app.engine.live);
    let reports = app
        .engine
        .read(move |state, _| {
            let connected = state
                .agents
                .values()
                .filter(|a| a.state == AgentState::Alive);
            connected
                .filter_map(|agent| {
                    let (applied, held) = live.held(agent.id)?;
                    let containers = held.into_iter().filter_map(|key| {
                        let session = state.sessions.get(&key.session)?;
                        let container = session.containers.iter().find(|c| c.key == key)?;
                        Some(ReportedContainer {
                            key,
                            // Agents name containers, not amounts: what a container was
                            // made with is what it was granted.
                            slots: container.slots.clone(),
                            devices: container.devices.clone(),
                        })
                    });
                    Some(Reported {
                        agent: agent.id,
                        applied,
                        containers: containers.collect(),
                    })
                })
                .collect()
        })
        .await?;
    let verb = AdminVerb::UsageAudit {
        reports,
        apply: write.body.apply,
    };
    let answer = write.order(&app, verb, |_| None).await?;
    write.changed(&answer)
}
