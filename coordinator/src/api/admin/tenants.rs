//! Domains, projects, people and their keypairs.

use super::super::App;
use super::super::errors::Failure;
use super::super::extract::Ref;
use super::{
    Match, Nothing, Viewer, Wanted, forbidden, list as listed, missing, optional, other_kind,
    required, shown, value_of, verbs, write,
};
use crate::identity::{new_id, new_keypair};
use crate::pki::sha256;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use longshore_common::admin::{
    DomainRequest, KeypairPatch, MainKeypairRequest, Member, NewKeypair, NewKeypairAnswer, NewUser,
    NewUserAnswer, ProjectRequest, UserPatch, UserStatusRequest,
};
use longshore_common::ids::{DomainId, ProjectId, UserId};
use longshore_core::model::admin::{
    AdminObject, AdminVerb, domain_view, keypair_view, project_view, user_view, user_views,
};
use longshore_core::model::{self, Domain, Keypair, Project, User};
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

// ----- projects

/// Projects are found by name where only one has it.
fn project<'a>(state: &'a model::State, viewer: &Viewer, text: &str) -> Option<&'a Project> {
    let own = state.users.get(&viewer.user);
    state
        .project_by_ref(text, None)
        .or_else(|| state.project_by_ref(text, Some(own?.domain)))
        .filter(|p| viewer.all || own.is_some_and(|u| u.is_member(p.id)))
}

fn current_project(state: &model::State, text: &str) -> Option<Value> {
    value_of(&project_view(state, state.project_by_ref(text, None)?))
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
    verbs::update(
        &app,
        text,
        request,
        AdminVerb::PatchProject,
        current_project,
    )
    .await
}

// ----- people

fn user<'a>(state: &'a model::State, viewer: &Viewer, text: &str) -> Option<&'a User> {
    state.user_by_ref(text).filter(|u| viewer.sees(u.id))
}

pub(in super::super) async fn users(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    const FILTERS: &[&str] = &[
        "email", "username", "role", "status", "domain", "project", "policy",
    ];
    let look = |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
        user_views(state)
            .into_iter()
            .filter(|v| viewer.all || v.id == viewer.user.to_string())
            .filter(|v| {
                // Who is inactive is shown to those who ask for it.
                let asked = wanted.values("status").next().is_some();
                let status = if asked {
                    wanted.takes("status", &[&v.status])
                } else {
                    v.status == "active"
                };
                let projects: Vec<&str> = v.projects.iter().map(String::as_str).collect();
                status
                    && wanted.finds("email", &v.email)
                    && wanted.finds("username", &v.username)
                    && wanted.takes("role", &[&v.role])
                    && wanted.takes("domain", &[&v.domain, &v.domain_name])
                    && wanted.takes("project", &projects)
                    && wanted.takes("policy", &[&v.user_policy])
            })
            .map(|v| (format!("{}\u{1}{}", v.username, v.id), v))
            .collect()
    };
    listed(&app, request, "users", FILTERS, look).await
}

pub(in super::super) async fn read_user(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, text: &str| {
        user(state, viewer, text).map(|found| user_view(state, found))
    };
    verbs::read(&app, text, request, "user", look).await
}

pub(in super::super) async fn create_user(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<NewUser>(request, &[], Match::Optional).await?;
    let (access_key, secret) = new_keypair();
    let verb = AdminVerb::CreateUser {
        id: UserId::new(new_id()),
        access_key: access_key.clone(),
        secret_sha256: sha256(secret.as_bytes()),
        request: Box::new(write.body.clone()),
    };
    let answer = write.order(&app, verb, |_| None).await?;
    let AdminObject::User(view, _) = &answer.object else {
        return Err(other_kind(&answer.object));
    };
    let made = NewUserAnswer {
        user: (**view).clone(),
        access_key,
        // A rehearsal makes nothing, so its secret opens nothing.
        secret_key: Some(secret).filter(|_| !write.dry_run),
    };
    let value = value_of(&made).ok_or_else(Failure::internal)?;
    write.respond_value(StatusCode::CREATED, value, &answer, Some("users"))
}

pub(in super::super) async fn update_user(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<UserPatch>(request, &[], Match::Optional).await?;
    no_version(write.version)?;
    let verb = AdminVerb::PatchUser(text, Box::new(write.body.clone()));
    let answer = write.order(&app, verb, |_| None).await?;
    write.changed(&answer)
}

pub(in super::super) async fn set_status(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<UserStatusRequest>(request, &[], Match::Optional).await?;
    no_version(write.version)?;
    let verb = AdminVerb::SetUserStatus(text, write.body.clone());
    let answer = write.order(&app, verb, |_| None).await?;
    write.changed(&answer)
}

/// People and keypairs have no version yet, so none can be the right one.
fn no_version(version: Option<u64>) -> Result<(), Failure> {
    match version {
        None => Ok(()),
        Some(_) => Err(Failure::new(
            "LS-VERSION-STALE",
            "People and keypairs have no version yet; leave If-Match out, or send *.",
        )),
    }
}

pub(in super::super) async fn set_main(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<MainKeypairRequest>(request, &[], Match::Optional).await?;
    no_version(write.version)?;
    let viewer = Viewer::of(&write.caller);
    let wanted = text.clone();
    let found = app
        .engine
        .read(move |state, _| user(state, &viewer, &wanted).is_some())
        .await?;
    if !found {
        return Err(missing("user", &text));
    }
    let verb = AdminVerb::SetMainKeypair {
        user: text,
        keypair: required(&write.body.access_key, "access_key")?,
    };
    let answer = write.order(&app, verb, |_| None).await?;
    write.changed(&answer)
}

// ----- keypairs

fn keypair<'a>(state: &'a model::State, viewer: &Viewer, text: &str) -> Option<&'a Keypair> {
    state.keypairs.get(text).filter(|k| viewer.sees(k.user))
}

pub(in super::super) async fn keypairs(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
        let keypairs = state.keypairs.values().filter(|k| viewer.sees(k.user));
        keypairs
            .map(|k| keypair_view(state, k))
            .filter(|v| {
                wanted.takes("user", &[&v.user, &v.user_name])
                    && wanted.takes("state", &[&v.state])
                    && wanted.takes("policy", &[&v.policy])
            })
            .map(|v| (format!("{}\u{1}{}", v.user_name, v.access_key), v))
            .collect()
    };
    listed(
        &app,
        request,
        "keypairs",
        &["user", "state", "policy"],
        look,
    )
    .await
}

pub(in super::super) async fn read_keypair(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, text: &str| {
        keypair(state, viewer, text).map(|found| keypair_view(state, found))
    };
    verbs::read(&app, text, request, "keypair", look).await
}

pub(in super::super) async fn create_keypair(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<NewKeypair>(request, &[], Match::Optional).await?;
    let viewer = Viewer::of(&write.caller);
    let owner = optional(&write.body.user, "user")?;
    let policy = optional(&write.body.policy, "policy")?;
    if !viewer.all {
        let own = match &owner {
            None => true,
            Some(text) => app.identity.user_by_ref(text) == Some(viewer.user),
        };
        if !own {
            return Err(forbidden("Keypairs of others need the role superadmin."));
        }
        if policy.is_some() {
            return Err(forbidden("To choose a policy needs the role superadmin.")
                .hint("Without the member policy the keypair gets that of your main one."));
        }
    }
    let (access_key, secret) = new_keypair();
    let verb = AdminVerb::CreateKeypair {
        user: owner,
        policy,
        access_key,
        secret_sha256: sha256(secret.as_bytes()),
    };
    let answer = write.order(&app, verb, |_| None).await?;
    let AdminObject::Keypair(view) = &answer.object else {
        return Err(other_kind(&answer.object));
    };
    let made = NewKeypairAnswer {
        keypair: (**view).clone(),
        secret_key: Some(secret).filter(|_| !write.dry_run),
    };
    let value = value_of(&made).ok_or_else(Failure::internal)?;
    write.respond_value(StatusCode::CREATED, value, &answer, Some("keypairs"))
}

pub(in super::super) async fn update_keypair(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<KeypairPatch>(request, &[], Match::Optional).await?;
    no_version(write.version)?;
    if write.body.policy.is_absent() {
        let viewer = Viewer::of(&write.caller);
        let wanted = text.clone();
        let look = move |state: &model::State, _| {
            keypair(state, &viewer, &wanted).map(|k| keypair_view(state, k))
        };
        return shown(app.engine.read(look).await?, "keypair", &text);
    }
    let policy = match &write.body.policy {
        // A keypair always has a policy: taking it away gives it the first one.
        Member::Null => "default".to_owned(),
        member => required(member, "policy")?,
    };
    let verb = AdminVerb::SetKeypairPolicy {
        keypair: text,
        policy,
    };
    let answer = write.order(&app, verb, |_| None).await?;
    write.changed(&answer)
}

pub(in super::super) async fn activate(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    switch(&app, text, request, true).await
}

pub(in super::super) async fn deactivate(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    switch(&app, text, request, false).await
}

async fn switch(
    app: &App,
    text: String,
    request: Request,
    active: bool,
) -> Result<Response, Failure> {
    let write = write::<Nothing>(request, &[], Match::Optional).await?;
    let viewer = Viewer::of(&write.caller);
    let wanted = text.clone();
    let found = app
        .engine
        .read(move |state, _| keypair(state, &viewer, &wanted).is_some())
        .await?;
    if !found {
        return Err(missing("keypair", &text));
    }
    let verb = AdminVerb::SetKeypairActive {
        keypair: text,
        active,
    };
    let answer = write.order(app, verb, |_| None).await?;
    write.changed(&answer)
}
