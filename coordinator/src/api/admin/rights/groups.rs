//! Groups of users, and who is in them.

use super::super::super::App;
use super::super::super::errors::Failure;
use super::super::super::extract::Ref;
use super::super::{Match, Nothing, Viewer, Wanted, list as listed, value_of, verbs, write};
use super::{delete, rights, shows, verb};
use crate::identity::new_id;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use longshore_common::admin::UserGroupRequest;
use longshore_common::ids::UserGroupId;
use longshore_core::access::Operation;
use longshore_core::model::admin::{RightsVerb, group_target, user_group_view};
use longshore_core::model::{self, UserGroup};
use serde_json::Value;

fn find<'a>(state: &'a model::State, viewer: &Viewer, text: &str) -> Option<&'a UserGroup> {
    let rights = rights(state, viewer)?;
    let group = state.user_group_by_ref(text)?;
    shows(&rights, Operation::GroupRead, group_target(group)).then_some(group)
}

fn current(state: &model::State, text: &str) -> Option<Value> {
    value_of(&user_group_view(
        state,
        state.user_group_by_ref(text)?,
        true,
    ))
}

pub(in super::super::super) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
        let Some(rights) = rights(state, viewer) else {
            return Vec::new();
        };
        let groups = state.user_groups.values();
        groups
            .filter(|group| shows(&rights, Operation::GroupRead, group_target(group)))
            .map(|group| user_group_view(state, group, false))
            .filter(|view| {
                let domain = view.domain.as_deref().unwrap_or_default();
                let domain_name = view.domain_name.as_deref().unwrap_or_default();
                wanted.finds("name", &view.name) && wanted.takes("domain", &[domain, domain_name])
            })
            .map(|view| {
                (
                    format!("{}\u{1}{}", view.name.to_lowercase(), view.id),
                    view,
                )
            })
            .collect()
    };
    listed(&app, request, "groups", &["name", "domain"], look).await
}

pub(in super::super::super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, text: &str| {
        find(state, viewer, text).map(|group| user_group_view(state, group, true))
    };
    verbs::read(&app, text, request, "user group", look).await
}

pub(in super::super::super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let make = |body: Box<UserGroupRequest>| {
        verb(RightsVerb::CreateGroup(UserGroupId::new(new_id()), *body))
    };
    verbs::create(&app, request, "groups", make).await
}

pub(in super::super::super) async fn update(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let change = |name, body: Box<UserGroupRequest>| verb(RightsVerb::PatchGroup(name, *body));
    verbs::update(&app, text, request, change, current).await
}

pub(in super::super::super) async fn remove(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let verb = |_: &_, name| Ok(RightsVerb::DeleteGroup(name));
    delete(&app, text, request, &[], verb, current).await
}

pub(in super::super::super) async fn add(
    State(app): State<App>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    member(&app, path, request, true).await
}

pub(in super::super::super) async fn take(
    State(app): State<App>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    member(&app, path, request, false).await
}

/// Puts somebody in by hand, or takes that away. The answer is the group, so that the next
/// change has its version.
async fn member(
    app: &App,
    (group, who): (String, String),
    request: Request,
    within: bool,
) -> Result<Response, Failure> {
    let write = write::<Nothing>(request, &[], Match::Required).await?;
    let name = group.clone();
    let order = RightsVerb::Member { group, who, within };
    let answer = write
        .order(app, verb(order), move |state| current(state, &name))
        .await?;
    write.changed(&answer)
}
