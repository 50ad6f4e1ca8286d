//! What a person may use, and what is used.

use super::super::errors::Failure;
use super::super::extract::{Query, Ref};
use super::super::{App, person};
use super::{Viewer, missing, shown};
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::admin::LimitsView;
use longshore_common::ids::ProjectId;
use longshore_core::access::View;
use longshore_core::model::admin::{keypair_policy_view, lives_view};
use longshore_core::model::{self, Keypair, User};
use longshore_core::scheduler;
use longshore_core::scheduler::limits::Requester;

/// The limits of the caller, with the keypair that is used.
pub(in super::super) async fn mine(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?.caller;
    let query = Query::read(request.uri().query(), &["project"])?;
    let project = query.one("project")?.map(str::to_owned);
    let user = caller.user.to_string();
    answer(&app, user, Some(caller.access_key), project).await
}

/// The limits of a person, with the main keypair unless another is named.
pub(in super::super) async fn of(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let viewer = Viewer::of(&person(request.extensions())?);
    let query = Query::read(request.uri().query(), &["project", "keypair"])?;
    let project = query.one("project")?.map(str::to_owned);
    let keypair = query.one("keypair")?.map(str::to_owned);
    let wanted = text.clone();
    let seen = app
        .engine
        .read(move |state, _| {
            let user = state.user_by_ref(&wanted)?;
            let whole = viewer.view_of(user) == Some(View::Full);
            whole.then(|| user.printed_id())
        })
        .await?;
    let user = seen.ok_or_else(|| missing("user", &text))?;
    answer(&app, user, keypair, project).await
}

async fn answer(
    app: &App,
    user: String,
    keypair: Option<String>,
    project: Option<String>,
) -> Result<Response, Failure> {
    let view = app
        .engine
        .read(move |state, _| {
            let user = state
                .user_by_ref(&user)
                .ok_or_else(|| missing("user", &user))?;
            let keypair = match &keypair {
                Some(key) => state
                    .keypairs
                    .get(key)
                    .filter(|k| k.user == user.id)
                    .ok_or_else(|| missing("keypair", key))?,
                None => state
                    .main_keypair(user.id)
                    .or_else(|| state.keypairs_of(user.id).next())
                    .ok_or_else(|| missing("keypair of", &user.username))?,
            };
            limits(state, user, keypair, project.as_deref())
        })
        .await??;
    shown(Some(view), "limits", "")
}

fn limits(
    state: &model::State,
    user: &User,
    keypair: &Keypair,
    project: Option<&str>,
) -> Result<LimitsView, Failure> {
    let project = match project {
        Some(text) => Some(
            state
                .project_by_ref(text, Some(user.domain))
                .filter(|p| user.is_member(p.id))
                .ok_or_else(|| missing("project", text))?,
        ),
        None => user.project_ids().find_map(|id| state.projects.get(&id)),
    };
    let who = Requester {
        keypair: keypair.access_key.clone(),
        user: user.id,
        project: project.map_or(ProjectId::new(0), |p| p.id),
        domain: user.domain,
    };
    let policy = state.policy_of(keypair).ok_or_else(Failure::internal)?;
    Ok(LimitsView {
        user_name: user.username.clone(),
        access_key: keypair.access_key.clone(),
        domain_name: state
            .domains
            .get(&user.domain)
            .map_or_else(String::new, |d| d.name.clone()),
        project_name: project.map(|p| p.name.clone()),
        entries: scheduler::quota(state, &who, None),
        lives: lives_view(state, &who),
        policy: keypair_policy_view(state, policy),
    })
}
