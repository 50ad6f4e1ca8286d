//! Lists of sessions: whose, and which of them the caller sees.

use super::super::errors::Failure;
use super::super::extract::Query;
use super::super::views::{self, Detail};
use super::super::{App, json, page, person};
use super::rights;
use crate::identity::Person;
use crate::store::{SessionFilter, Tasks};
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::api::{self, Page};
use longshore_common::ids::SessionId;
use longshore_common::session::{SessionState, SessionType};
use longshore_core::access::Operation;
use longshore_core::model::{self, Role};
use std::sync::Arc;

/// Parameters of the list.
const LIST: &[&str] = &[
    "state", "type", "group", "name", "owner", "scope", "ended", "array", "limit", "cursor",
];
/// Sessions that one request for a list looks at where rights have to be asked for each: some
/// ten milliseconds. What lies beyond is on the next page.
const MOST_LOOKED_AT: usize = 5000;
/// Sessions read at a time for that.
const CHUNK: u32 = 500;

pub(in super::super) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let query = Query::read(request.uri().query(), LIST)?;
    let limit = page::limit(&query)?;
    let before = app.cursors.place("sessions", &query)?;
    let Some((mut filter, whose)) = filter(&app, &caller, &query, false).await? else {
        return json(&Page::<api::Session> {
            items: Vec::new(),
            next_cursor: None,
        });
    };
    filter.before_id = before.and_then(|place| place.parse().ok());
    let (found, place) = page_of(&app, &caller, filter, whose, limit).await?;
    let next_cursor = place.map(|id| app.cursors.make("sessions", &query, &id.to_string()));
    let (live, viewer) = (Arc::clone(&app.engine.live), caller.caller.user);
    let items = app
        .engine
        .consult(move |state, planner, now| {
            let ids: Vec<SessionId> = found.iter().map(|s| s.id).collect();
            let mut items: Vec<api::Session> = found
                .iter()
                // What memory has is never older than what was just read.
                .map(|s| {
                    views::session(
                        state,
                        planner,
                        &live,
                        state.sessions.get(&s.id).unwrap_or(s),
                        now,
                        Detail::Summary(viewer),
                    )
                })
                .collect();
            views::number(state, planner, now, &ids, &mut items);
            items
        })
        .await?;
    json(&Page { items, next_cursor })
}

/// Of whose sessions a list is, as far as the store cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of those the filter names: the caller's own, or everybody's for who sees everything.
    Filtered,
    /// Of those the caller sees in the own projects.
    OwnProjects,
    /// Of those the caller sees.
    Seen,
}

/// A page of sessions that a caller sees, and the place behind which the next page begins.
/// Where rights have to be asked for each, a page may hold fewer than were asked for.
pub(super) async fn page_of(
    app: &App,
    caller: &Person,
    mut filter: SessionFilter,
    whose: Whose,
    limit: usize,
) -> Result<(Vec<model::Session>, Option<SessionId>), Failure> {
    if whose == Whose::Filtered {
        filter.limit = u32::try_from(limit + 1).unwrap_or(u32::MAX);
        let mut found = app.reader.sessions(filter).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let place = found.last().filter(|_| more).map(|last| last.id);
        return Ok((found, place));
    }
    filter.limit = CHUNK;
    let (mut page, mut looked_at) = (Vec::new(), 0);
    loop {
        let chunk = app.reader.sessions(filter.clone()).await?;
        let last_chunk = chunk.len() < CHUNK as usize;
        looked_at += chunk.len();
        filter.before_id = chunk.last().map(|last| last.id);
        let who = caller.clone();
        let seen = app
            .engine
            .read(move |state, _| {
                let rights = rights(state, &who);
                let near = |s: &model::Session| {
                    whose == Whose::Seen
                        || s.owner == who.caller.user
                        || rights.is_member(s.project)
                };
                let sees = |s: &model::Session| {
                    let read = Operation::SessionRead;
                    state.judged_session(&rights, s, read, false).is_allowed()
                };
                let chunk = chunk.into_iter();
                chunk.filter(|s| near(s) && sees(s)).collect::<Vec<_>>()
            })
            .await?;
        page.extend(seen);
        if page.len() > limit {
            page.truncate(limit);
            let place = page.last().map(|last| last.id);
            return Ok((page, place));
        }
        if last_chunk {
            return Ok((page, None));
        }
        if looked_at >= MOST_LOOKED_AT {
            return Ok((page, filter.before_id));
        }
    }
}

/// What the parameters ask for; none when nothing can match. `whole` asks for everything one
/// may see where the parameters say nothing else.
pub(super) async fn filter(
    app: &App,
    caller: &Person,
    query: &Query,
    whole: bool,
) -> Result<Option<(SessionFilter, Whose)>, Failure> {
    let states: Vec<SessionState> = query.words("state")?;
    let kinds: Vec<SessionType> = query.words("type")?;
    let scope = query.one("scope")?.or(whole.then_some("all"));
    if scope.is_some_and(|scope| !["live", "mine", "project", "all"].contains(&scope)) {
        return Err(Failure::new(
            "LS-PARAMETER",
            "scope must be live, mine, project or all.",
        ));
    }
    let all = match query.one("ended")? {
        None => scope == Some("all"),
        Some(_) => query.flag("ended")?,
    };
    let owner = match query.one("owner")? {
        None => None,
        Some("me" | "@me") => Some(caller.caller.user),
        Some(text) => match app.identity.user_by_ref(text) {
            Some(user) => Some(user),
            None => return Ok(None),
        },
    };
    let wanted: Vec<String> = query.all("group").map(str::to_owned).collect();
    let named = !wanted.is_empty();
    let groups = match named {
        false => Vec::new(),
        true => {
            let look = move |state: &model::State, _| -> Vec<_> {
                wanted
                    .iter()
                    .filter_map(|text| state.group_by_ref(text))
                    .map(|g| g.id)
                    .collect()
            };
            app.engine.read(look).await?
        }
    };
    if named && groups.is_empty() {
        return Ok(None);
    }
    let include_ended = all || states.iter().any(|s| s.is_final());
    let name_contains = query.one("name")?.map(str::to_owned);
    let tasks = match query.one("array")? {
        None => Tasks::All,
        Some("none") => Tasks::None,
        Some(text) => match text.parse::<SessionId>() {
            Ok(id) if id.array().is_none() => Tasks::Of(id),
            _ => {
                let text = "array must be the id of an array, such as s-42, or none.";
                return Err(Failure::new("LS-PARAMETER", text));
            }
        },
    };
    let own = caller.caller.user;
    let everything = caller.role == Role::Superadmin;
    // Who looks after a domain sees it; others see their own unless they ask for more.
    let wide = matches!(caller.role, Role::DomainAdmin | Role::Monitor);
    let (owner, whose) = match (scope, owner) {
        (Some("mine"), Some(other)) if other != own => return Ok(None),
        (Some("mine"), _) => (Some(own), Whose::Seen),
        (Some("project"), owner) => (owner, Whose::OwnProjects),
        (_, owner) if everything => (owner, Whose::Filtered),
        (Some("all"), owner) | (_, owner @ Some(_)) => (owner, Whose::Seen),
        (_, None) if wide => (None, Whose::Seen),
        (_, None) => (Some(own), Whose::Seen),
    };
    let filter = SessionFilter {
        owner,
        states,
        kinds,
        groups,
        name_contains,
        include_ended,
        tasks,
        before_id: None,
        limit: 0,
    };
    Ok(Some((filter, whose)))
}
