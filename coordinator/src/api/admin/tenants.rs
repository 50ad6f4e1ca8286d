//! Domains and projects; what else belongs to people stands in files of its own.
//!
//! | module | routes |
//! |---|---|
//! | `people` | people, one by one |
//! | `import` | people from a table |
//! | `members` | who is in a project |
//! | `keypairs` | keypairs |

pub(in crate::api) mod import;
pub(in crate::api) mod keypairs;
pub(in crate::api) mod members;
pub(in crate::api) mod people;

use super::super::errors::Failure;
use super::super::extract::Ref;
use super::super::{App, person};
use super::{Viewer, Wanted, list as listed, value_of, verbs};
use crate::identity::new_id;
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::admin::{DomainRequest, ProjectRequest};
use longshore_common::ids::{DomainId, ProjectId};
use longshore_core::model::admin::{AdminVerb, domain_view, project_view};
use longshore_core::model::{self, Domain, Project};
use serde_json::Value;

// ----- domains

fn domain<'a>(state: &'a model::State, viewer: &Viewer, text: &str) -> Option<&'a Domain> {
    let own = state.users.get(&viewer.user).map(|u| u.domain);
    state
        .domain_by_ref(text)
        .filter(|d| viewer.all || own == Some(d.id))
}

fn current_domain(state: &model::State, text: &str) -> Option<Value> {
    value_of(&domain_view(state, state.domain_by_ref(text)?))
}

pub(in super::super) async fn domains(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
        let domains = state.domains.values();
        domains
            .filter(|d| domain(state, viewer, &d.id.to_string()).is_some())
            .filter(|d| wanted.finds("name", &d.name))
            .map(|d| (d.name.clone(), domain_view(state, d)))
            .collect()
    };
    listed(&app, request, "domains", &["name"], look).await
}

pub(in super::super) async fn read_domain(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, text: &str| {
        domain(state, viewer, text).map(|found| domain_view(state, found))
    };
    verbs::read(&app, text, request, "domain", look).await
}

pub(in super::super) async fn create_domain(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let verb = |body| AdminVerb::CreateDomain(DomainId::new(new_id()), body);
    verbs::create::<DomainRequest>(&app, request, "domains", verb).await
}

pub(in super::super) async fn update_domain(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    verbs::update(&app, text, request, AdminVerb::PatchDomain, current_domain).await
}

pub(in super::super) async fn remove_domain(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    verbs::remove_with(&app, text, request, AdminVerb::DeleteDomain, current_domain).await
}

// ----- projects

/// Of several projects of a name the one of the own domain comes first.
fn project<'a>(state: &'a model::State, viewer: &Viewer, text: &str) -> Option<&'a Project> {
    let own = state.users.get(&viewer.user).map(|u| u.domain);
    let found = state.projects_for(&viewer.rights, text).into_iter();
    found.min_by_key(|project| own.is_some_and(|own| own != project.domain))
}

/// The project that the caller means by a name, as it is.
fn current_project(
    request: &Request,
) -> Result<impl FnOnce(&model::State, &str) -> Option<Value> + Send + 'static, Failure> {
    let rights = person(request.extensions())?.rights.clone();
    Ok(
        move |state: &model::State, text: &str| match state.projects_for(&rights, text)[..] {
            [project] => value_of(&project_view(state, project)),
            _ => None,
        },
    )
}

pub(in super::super) async fn projects(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
        let projects = state.projects.values();
        projects
            .filter(|p| project(state, viewer, &p.id.to_string()).is_some())
            .map(|p| project_view(state, p))
            .filter(|v| {
                wanted.finds("name", &v.name)
                    && wanted.takes("domain", &[&v.domain, &v.domain_name])
            })
            .map(|v| (format!("{}\u{1}{}", v.name, v.id), v))
            .collect()
    };
    listed(&app, request, "projects", &["name", "domain"], look).await
}

pub(in super::super) async fn read_project(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, text: &str| {
        project(state, viewer, text).map(|found| project_view(state, found))
    };
    verbs::read(&app, text, request, "project", look).await
}

pub(in super::super) async fn create_project(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let verb = |body| AdminVerb::CreateProject(ProjectId::new(new_id()), body);
    verbs::create::<ProjectRequest>(&app, request, "projects", verb).await
}

pub(in super::super) async fn update_project(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let current = current_project(&request)?;
    verbs::update(&app, text, request, AdminVerb::PatchProject, current).await
}

pub(in super::super) async fn remove_project(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let current = current_project(&request)?;
    verbs::remove_with(&app, text, request, AdminVerb::DeleteProject, current).await
}
