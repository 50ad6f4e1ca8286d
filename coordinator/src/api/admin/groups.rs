//! Resource groups: settings, who may use them, who waits in them.

use super::super::errors::Failure;
use super::super::extract::{Query, Ref};
use super::super::views::{self, Detail};
use super::super::{App, json, page, person};
use super::{Match, Nothing, Viewer, Wanted, list as listed, missing, shown, value_of, write};
use crate::identity::new_id;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use longshore_common::admin::{GroupAccess, GroupRequest, GroupView};
use longshore_common::api::{self, Page};
use longshore_common::ids::{GroupId, UserId};
use longshore_core::model::admin::{AdminVerb, AllowKind, group_view};
use longshore_core::model::{self, Group};
use longshore_core::scheduler;
use serde_json::Value;
use std::sync::Arc;

/// Waiting sessions of one group up to which all places are counted to bring a page into
/// order: counting one place walks over all of them.
const ORDERED_UP_TO: usize = 700;

/// A group as this person sees it: who else may use it is the administrators' business.
fn view(state: &model::State, viewer: &Viewer, group: &Group) -> GroupView {
    let mut view = group_view(state, group);
    if !viewer.all {
        view.allowed = None;
    }
    view
}

fn find<'a>(state: &'a model::State, viewer: &Viewer, text: &str) -> Option<&'a Group> {
    state
        .group_by_ref(text)
        .filter(|group| viewer.may_use(state, group))
}

fn current(text: &str) -> impl FnOnce(&model::State) -> Option<Value> + Send + 'static {
    let text = text.to_owned();
    move |state| value_of(&group_view(state, state.group_by_ref(&text)?))
}

pub(in super::super) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
        let groups = state.groups.values();
        groups
            .filter(|g| viewer.may_use(state, g) && wanted.takes("name", &[&g.name]))
            .map(|g| (g.name.clone(), view(state, viewer, g)))
            .filter(|(_, v)| wanted.takes("active", &[if v.active { "true" } else { "false" }]))
            .collect()
    };
    listed(&app, request, "resource-groups", &["name", "active"], look).await
}

pub(in super::super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let viewer = Viewer::of(&person(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    let wanted = text.clone();
    let found = app
        .engine
        .read(move |state, _| find(state, &viewer, &wanted).map(|g| view(state, &viewer, g)))
        .await?;
    shown(found, "resource group", &text)
}

pub(in super::super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<GroupRequest>(request, &[], Match::Optional).await?;
    let verb = AdminVerb::CreateGroup(GroupId::new(new_id()), Box::new(write.body.clone()));
    let answer = write.order(&app, verb, |_| None).await?;
    write.created(&answer, "resource-groups")
}

pub(in super::super) async fn update(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<GroupRequest>(request, &[], Match::Required).await?;
    let verb = AdminVerb::PatchGroup(text.clone(), Box::new(write.body.clone()));
    let answer = write.order(&app, verb, current(&text)).await?;
    write.changed(&answer)
}

pub(in super::super) async fn remove(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<Nothing>(request, &[], Match::Required).await?;
    write
        .order(&app, AdminVerb::DeleteGroup(text.clone()), current(&text))
        .await?;
    Ok(write.gone())
}

pub(in super::super) async fn access(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let viewer = Viewer::of(&person(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    let wanted = text.clone();
    let found = app
        .engine
        .read(move |state, _| {
            let view = group_view(state, find(state, &viewer, &wanted)?);
            Some(match view.allowed {
                None => GroupAccess {
                    everybody: true,
                    ..GroupAccess::default()
                },
                Some(allowed) => GroupAccess {
                    everybody: false,
                    domains: allowed.domains,
                    projects: allowed.projects,
                    keypairs: allowed.keypairs,
                },
            })
        })
        .await?;
    shown(found, "resource group", &text)
}

fn kind(text: &str) -> Result<AllowKind, Failure> {
    match text {
        "domains" | "domain" => Ok(AllowKind::Domain),
        "projects" | "project" => Ok(AllowKind::Project),
        "keypairs" | "keypair" => Ok(AllowKind::Keypair),
        _ => Err(missing("list", text).hint("A group lets in domains, projects and keypairs.")),
    }
}

pub(in super::super) async fn allow(
    State(app): State<App>,
    Path((group, list, who)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<Nothing>(request, &[], Match::Optional).await?;
    let verb = AdminVerb::Allow {
        kind: kind(&list)?,
        group: group.clone(),
        who,
    };
    let answer = write.order(&app, verb, current(&group)).await?;
    write.changed(&answer)
}

pub(in super::super) async fn disallow(
    State(app): State<App>,
    Path((group, list, who)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<Nothing>(request, &[], Match::Optional).await?;
    let verb = AdminVerb::Disallow {
        kind: kind(&list)?,
        group: group.clone(),
        who,
    };
    write.order(&app, verb, current(&group)).await?;
    Ok(write.gone())
}

/// Who waits in a group, in the order in which the next pass would take them.
pub(in super::super) async fn pending(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let viewer = Viewer::of(&person(request.extensions())?);
    let query = Query::read(request.uri().query(), &["limit", "cursor"])?;
    let limit = page::limit(&query)?;
    let wanted = text.clone();
    let only_own = viewer.only_own();
    let group = app
        .engine
        .read(move |state, _| find(state, &viewer, &wanted).map(|g| g.id))
        .await?;
    let group = group.ok_or_else(|| missing("resource group", &text))?;
    let list = format!("pending {group}");
    let whom = Waiting {
        groups: vec![group],
        only: |_: &model::Session| true,
        only_own,
    };
    pages(&app, &query, limit, &list, whom).await
}

/// Who is wanted of those that wait.
pub(super) struct Waiting<F> {
    /// In these groups.
    pub(super) groups: Vec<GroupId>,
    /// That this takes.
    pub(super) only: F,
    /// Of others than this person only what the queue is about is shown.
    pub(super) only_own: Option<UserId>,
}

/// What a person may know of somebody else's waiting session: who asks for how much, and
/// why it waits.
fn trimmed(session: &mut api::Session) {
    session.name = None;
    session.access_key = String::new();
    session.image = String::new();
    session.image_digest = None;
    session.command = Vec::new();
    session.workdir = None;
    session.labels.clear();
    session.adjusted.clear();
}

/// A page of waiting sessions. The queue moves on between pages, so a page begins at a
/// place, not behind a session.
pub(super) async fn pages(
    app: &App,
    query: &Query,
    limit: usize,
    list: &str,
    whom: Waiting<impl Fn(&model::Session) -> bool + Send + 'static>,
) -> Result<Response, Failure> {
    let Waiting {
        groups,
        only,
        only_own,
    } = whom;
    let skip: usize = app
        .cursors
        .place(list, query)?
        .and_then(|p| p.parse().ok())
        .unwrap_or(0);
    let live = Arc::clone(&app.engine.live);
    let (items, more): (Vec<api::Session>, bool) = app
        .engine
        .consult(move |state, planner, now| {
            let waiting = groups.iter().flat_map(|group| state.queue(*group));
            let mut waiting: Vec<&model::Session> = waiting.filter(|s| only(s)).collect();
            let mut places = vec![None; waiting.len()];
            let all: usize = groups.iter().map(|g| state.pending_count(*g)).sum();
            if all <= ORDERED_UP_TO {
                let mut placed: Vec<(Option<u64>, &model::Session)> = waiting
                    .iter()
                    .map(|s| (scheduler::position(planner, state, s, now), *s))
                    .collect();
                // Those without a place are not in line yet: they come last.
                placed.sort_by_key(|(place, _)| place.unwrap_or(u64::MAX));
                (places, waiting) = placed.into_iter().unzip();
            }
            let end = waiting.len().min(skip.saturating_add(limit));
            let from = skip.min(end);
            let mut items: Vec<api::Session> = waiting[from..end]
                .iter()
                .map(|s| views::session(state, planner, &live, s, now, Detail::Summary))
                .collect();
            if all <= ORDERED_UP_TO {
                for (item, place) in items.iter_mut().zip(&places[from..end]) {
                    item.position = *place;
                }
            } else {
                let ids: Vec<_> = waiting[from..end].iter().map(|s| s.id).collect();
                views::number(state, planner, now, &ids, &mut items);
            }
            for (item, session) in items.iter_mut().zip(&waiting[from..end]) {
                if only_own.is_some_and(|user| user != session.owner) {
                    trimmed(item);
                }
            }
            (items, end < waiting.len())
        })
        .await?;
    let next_cursor = more.then(|| {
        app.cursors
            .make(list, query, &(skip + items.len()).to_string())
    });
    json(&Page { items, next_cursor })
}
