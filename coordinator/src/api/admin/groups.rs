//! Resource groups: settings, who may use them, who waits in them.

use super::super::errors::Failure;
use super::super::extract::{Query, Ref};
use super::super::views::{self, Detail};
use super::super::{App, json, page, person};
use super::{
    Match, Nothing, Viewer, Wanted, Write, list as listed, missing, value_of, verbs, write,
};
use crate::identity::new_id;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use longshore_common::admin::{GroupAccess, GroupRequest, GroupView};
use longshore_common::api::{self, Page};
use longshore_common::ids::{GroupId, UserId};
use longshore_core::model::admin::{AdminAnswer, AdminVerb, AllowKind, group_view};
use longshore_core::model::{self, Group};
use longshore_core::scheduler;
use serde_json::Value;
use std::sync::Arc;

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

fn current(state: &model::State, text: &str) -> Option<Value> {
    value_of(&group_view(state, state.group_by_ref(text)?))
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
    let look = |state: &model::State, viewer: &Viewer, text: &str| {
        find(state, viewer, text).map(|group| view(state, viewer, group))
    };
    verbs::read(&app, text, request, "resource group", look).await
}

pub(in super::super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let verb = |body| AdminVerb::CreateGroup(GroupId::new(new_id()), body);
    verbs::create::<GroupRequest>(&app, request, "resource-groups", verb).await
}

pub(in super::super) async fn update(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    verbs::update(&app, text, request, AdminVerb::PatchGroup, current).await
}

pub(in super::super) async fn remove(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    verbs::remove(&app, text, request, AdminVerb::DeleteGroup, current).await
}

fn access_of(view: GroupView) -> GroupAccess {
    match view.allowed {
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
    }
}

pub(in super::super) async fn access(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, text: &str| {
        Some(access_of(group_view(state, find(state, viewer, text)?)))
    };
    verbs::read(&app, text, request, "resource group", look).await
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
    Path(path): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let (write, answer) = on_list(&app, path, request, true).await?;
    write.changed(&answer)
}

pub(in super::super) async fn disallow(
    State(app): State<App>,
    Path(path): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let (write, _) = on_list(&app, path, request, false).await?;
    Ok(write.gone())
}

/// Puts somebody on a list of a group, or takes somebody off it.
async fn on_list(
    app: &App,
    (group, list, who): (String, String, String),
    request: Request,
    let_in: bool,
) -> Result<(Write<Nothing>, AdminAnswer), Failure> {
    let write = write::<Nothing>(request, &[], Match::Optional).await?;
    let kind = kind(&list)?;
    let name = group.clone();
    let verb = if let_in {
        AdminVerb::Allow { group, kind, who }
    } else {
        AdminVerb::Disallow { group, kind, who }
    };
    let now = move |state: &model::State| current(state, &name);
    let answer = write.order(app, verb, now).await?;
    Ok((write, answer))
}

/// Who waits in a group, in the order in which the next pass would take them.
pub(in super::super) async fn pending(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let viewer = Viewer::of(&caller);
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
        line: Line::Group(group),
        only_own,
        user: caller.caller.user,
    };
    pages(&app, &query, limit, &list, whom).await
}

/// Where one waits.
pub(super) enum Line {
    /// In a group.
    Group(GroupId),
    /// In a queue of this name.
    Queue(String),
}

/// Who is wanted of those that wait.
pub(super) struct Waiting {
    /// Those of this line.
    pub(super) line: Line,
    /// Of others than this person only what the queue is about is shown.
    pub(super) only_own: Option<UserId>,
    /// Who looks.
    pub(super) user: UserId,
}

/// What a person may know of somebody else's waiting session: how much is asked for, why
/// it waits and, unless that is hidden, who asks.
fn trimmed(session: &mut api::Session, hides_owner: bool) {
    if hides_owner {
        session.owner_name = String::new();
        session.submitted_by = None;
        session.submitted_by_name = None;
    }
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
    whom: Waiting,
) -> Result<Response, Failure> {
    let Waiting {
        line,
        only_own,
        user,
    } = whom;
    let skip: usize = app
        .cursors
        .place(list, query)?
        .and_then(|p| p.parse().ok())
        .unwrap_or(0);
    let live = Arc::clone(&app.engine.live);
    let hides = app.settings.now().config.services.organization.hide_owners;
    let (items, more): (Vec<api::Session>, bool) = app
        .engine
        .consult(move |state, planner, now| {
            // One more than is shown says whether there is another page.
            let wanted = (skip, limit + 1);
            let found = match &line {
                Line::Group(group) => {
                    scheduler::waiting_in_group(planner, state, *group, wanted, now)
                }
                Line::Queue(name) => scheduler::waiting_in_queue(planner, state, name, wanted, now),
            };
            let shown = found.iter().take(limit).filter_map(|(id, place)| {
                let session = state.sessions.get(id)?;
                let detail = Detail::Summary(user);
                let mut item = views::session(state, planner, &live, session, now, detail);
                item.position = *place;
                if only_own.is_some_and(|user| user != session.owner) {
                    trimmed(&mut item, hides);
                }
                Some(item)
            });
            (shown.collect(), found.len() > limit)
        })
        .await?;
    let next_cursor = more.then(|| {
        app.cursors
            .make(list, query, &(skip + items.len()).to_string())
    });
    json(&Page { items, next_cursor })
}
