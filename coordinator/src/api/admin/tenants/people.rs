//! People, one by one.

use super::super::super::App;
use super::super::super::errors::Failure;
use super::super::super::extract::{Query, Ref};
use super::super::super::page::limit;
use super::super::super::{json as answer_json, person as caller_of};
use super::super::{Match, Viewer, Wanted, Write, other_kind, required, value_of, verbs, write};
use crate::identity::{new_id, new_keypair};
use crate::pki::sha256;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_common::admin::{
    MainKeypairRequest, Member, NewUser, NewUserAnswer, RequireChangeRequest, UserPatch,
    UserStatusRequest, UserView,
};
use longshore_common::ids::UserId;
use longshore_core::access::View;
use longshore_core::model::admin::{
    AdminObject, AdminVerb, NewPassword, NewUserSecrets, invitation_view, pending_user, user_view,
    user_views,
};
use longshore_core::model::{self, Role, User};
use longshore_identity::{Secret, fields, token};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What of a person is shown to this caller.
fn seen(view: &UserView, how: View) -> Option<Value> {
    match how {
        View::Full => value_of(view),
        _ => Some(json!({
            "id": view.id, "username": view.username, "full_name": view.full_name,
        })),
    }
}

fn person<'a>(state: &'a model::State, text: &str) -> Option<&'a User> {
    let found = state.user_by_ref(text);
    found.filter(|user| user.service.is_none())
}

fn current(state: &model::State, text: &str) -> Option<Value> {
    value_of(&user_view(state, person(state, text)?))
}

/// Whether a person is one of those that were asked for. Of whom only the name may be seen,
/// nothing else can be asked.
fn is_wanted(state: &model::State, wanted: &Wanted, user: &User, how: View) -> bool {
    // Who is inactive is shown to those who ask for it.
    let asked = |name: &str| wanted.values(name).next().is_some();
    let status = user.status.as_str();
    let by_status = match asked("status") {
        true => wanted.takes("status", &[status]),
        false => status != "inactive",
    };
    let in_domain = || {
        let domain = state.domains.get(&user.domain);
        let name = domain.map_or("", |domain| domain.name.as_str());
        wanted.takes("domain", &[&user.domain.to_string(), name])
    };
    let in_project = || {
        let projects = user.project_ids().filter_map(|id| state.projects.get(&id));
        let projects: Vec<&str> = projects.map(|p| p.name.as_str()).collect();
        wanted.takes("project", &projects)
    };
    let hidden = ["email", "role", "description", "status", "domain", "policy"];
    by_status
        && (how == View::Full || !hidden.into_iter().any(asked))
        && wanted.finds("email", &user.email)
        && wanted.finds("username", &user.username)
        && wanted.finds("description", &user.description)
        && wanted.takes("role", &[user.role.as_str()])
        && wanted.takes("policy", &[&user.user_policy])
        && (!asked("domain") || in_domain())
        && (!asked("project") || in_project())
}

/// What a person can be, and what an invited one is who is no person yet.
const STATUS: &[&str] = &["active", "inactive", "before-verification", "pending"];

pub(in crate::api) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    const FILTERS: &[&str] = &[
        "email",
        "username",
        "role",
        "description",
        "status",
        "domain",
        "project",
        "policy",
    ];
    let viewer = Viewer::of(&caller_of(request.extensions())?);
    let mut known = vec!["limit", "cursor"];
    known.extend(FILTERS);
    let query = Query::read(request.uri().query(), &known)?;
    query.only("role", &Role::ALL.map(Role::as_str))?;
    query.only("status", STATUS)?;
    let wanted = Wanted::new(&query, FILTERS);
    if wanted
        .values("status")
        .any(|word| word.eq_ignore_ascii_case("pending"))
    {
        return pending(&app, &query, viewer, wanted).await;
    }
    let place = app.cursors.place("users", &query)?;
    let room = limit(&query)? + 1; // whether there is more
    // Only what the page shows is made into views: there may be a hundred thousand people, and
    // everybody else waits meanwhile.
    let look = move |state: &model::State, _| {
        let wanted = named_projects(state, &viewer, &wanted);
        let place = place.as_deref().and_then(|place| place.split_once('\u{1}'));
        let place = place.and_then(|(name, id)| Some((name, id.parse().ok()?)));
        let people = state.users_behind(place).filter_map(|user| {
            let how = viewer.view_of(user)?;
            is_wanted(state, &wanted, user, how).then_some((user, how))
        });
        let found: Vec<(&User, View)> = people
            .filter(|(user, _)| user.service.is_none())
            .take(room)
            .collect();
        let views = user_views(state, found.iter().map(|(user, _)| *user));
        let rows = found.iter().zip(&views).filter_map(|((user, how), view)| {
            let key = format!("{}\u{1}{}", user.username.to_ascii_lowercase(), user.id);
            Some((key, seen(view, *how)?))
        });
        rows.collect::<Vec<_>>()
    };
    let rows = app.engine.read(look).await?;
    answer_json(&app.cursors.cut("users", &query, rows.into_iter())?)
}

/// People who are invited and have not accepted. They have no login name, no description and
/// the role of everybody who joins.
async fn pending(
    app: &App,
    query: &Query,
    viewer: Viewer,
    wanted: Wanted,
) -> Result<Response, Failure> {
    if wanted.values("status").count() > 1 {
        let text = "status=pending stands alone: it lists invitations and no accounts.";
        return Err(Failure::new("LS-PARAMETER", text));
    }
    let asked = |name: &str| wanted.values(name).next().is_some();
    let nobody = asked("username") || asked("description") || !wanted.takes("role", &["user"]);
    let look = move |state: &model::State, now| {
        let wanted = named_projects(state, &viewer, &wanted);
        let views = viewer.invitations(state).filter(|link| link.is_open(now));
        let views = views.map(|link| (link, invitation_view(state, link, now)));
        let views = views.filter(|(_, view)| {
            let projects: Vec<&str> = view.projects.iter().map(String::as_str).collect();
            !nobody
                && wanted.finds("email", &view.email)
                && wanted.takes("policy", &[&view.user_policy])
                && wanted.takes("domain", &[&view.domain, &view.domain_name])
                && wanted.takes("project", &projects)
        });
        let mut rows: Vec<_> = views
            .map(|(link, view)| {
                let key = format!("{}\u{1}{}", view.email.to_ascii_lowercase(), view.id);
                (key, pending_user(link))
            })
            .collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    };
    let rows = app.engine.read(look).await?;
    answer_json(&app.cursors.page("users", query, rows)?)
}

/// Filters in which projects stand by name: an id is a reference too. A project that the
/// caller may not see is none.
fn named_projects(state: &model::State, viewer: &Viewer, wanted: &Wanted) -> Wanted {
    let terms = wanted.0.iter().map(|(name, value)| {
        let found = match name.as_str() {
            "project" => state.projects_for(&viewer.rights, value),
            _ => return (name.clone(), value.clone()),
        };
        (
            name.clone(),
            // Of one name or one id: all are called the same.
            found.first().map_or_else(String::new, |p| p.name.clone()),
        )
    });
    Wanted(terms.collect())
}

pub(in crate::api) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, text: &str| {
        let found = person(state, text)?;
        seen(&user_view(state, found), viewer.view_of(found)?)
    };
    verbs::read(&app, text, request, "user", look).await
}

/// The password of a request, hashed if it keeps the rules; the request loses it.
async fn password_of(app: &App, body: &mut NewUser) -> Result<Option<NewPassword>, Failure> {
    let text = match std::mem::take(&mut body.password) {
        Member::Value(text) => Secret::new(text),
        // What is no text is refused with the rest, without repeating it.
        Member::Wrong(_) => {
            body.password = Member::Wrong(Value::Null);
            return Ok(None);
        }
        Member::Absent | Member::Null => return Ok(None),
    };
    let clean = |member: &Member<String>| member.value().map(|text| fields::clean(text));
    let email = clean(&body.email).unwrap_or_default();
    let username = clean(&body.username).unwrap_or_else(|| email.clone());
    let phc = match fields::password(text.expose(), &email, &username).as_slice() {
        [] => app.logins.permit().await?.hash(text.clone()).await?,
        _ => String::new(),
    };
    Ok(Some(NewPassword { text, phc }))
}

/// The link that proves the address of somebody who has to; it is mailed too.
fn proof(app: &App, user: &UserView, token: &Secret, dry_run: bool) -> Option<String> {
    if dry_run || user.status != "before-verification" {
        return None;
    }
    let link = app.links.invite(&app.address(), token);
    app.links.mail_proof(&app.address(), &user.email, &link);
    Some(link)
}

pub(in crate::api) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let mut write = write::<NewUser>(request, &[], Match::Optional).await?;
    let password = password_of(&app, &mut write.body).await?;
    let (access_key, secret) = new_keypair();
    let (token, link) = app.links.draw();
    let secrets = NewUserSecrets {
        id: UserId::new(new_id()),
        access_key: access_key.clone(),
        secret_sha256: sha256(secret.as_bytes()),
    };
    let verb = AdminVerb::CreateUser {
        secrets: Box::new(secrets),
        link,
        password,
        request: Box::new(write.body.clone()),
    };
    let answer = write.order(&app, verb, |_| None).await?;
    let AdminObject::User(view, _) = &answer.object else {
        return Err(other_kind(&answer.object));
    };
    // A rehearsal makes nothing, so its secrets open nothing.
    let secret = Some(Secret::new(secret)).filter(|_| !write.dry_run);
    let link = proof(&app, view, &token, write.dry_run);
    let made = NewUserAnswer {
        user: (**view).clone(),
        snippet: secret
            .as_ref()
            .map(|secret| token::snippet(&app.api_address(), &access_key, secret)),
        access_key,
        secret_key: secret.map(|secret| secret.expose().to_owned()),
        link,
    };
    let value = value_of(&made).ok_or_else(Failure::internal)?;
    write.respond_value(StatusCode::CREATED, value, &answer, Some("users"))
}

pub(in crate::api) async fn update(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    verbs::update::<UserPatch>(&app, text, request, AdminVerb::PatchUser, current).await
}

/// Nobody is ever deleted.
pub(in crate::api) async fn delete() -> Response {
    let failure = Failure::new(
        "LS-USER-PERMANENT",
        "Users are never deleted; set the status to inactive.",
    );
    let mut response = failure.into_response();
    let methods = HeaderValue::from_static("GET, PATCH");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

/// Replaces a part of a person.
async fn put<T: DeserializeOwned + Clone>(
    app: App,
    text: String,
    request: Request,
    verb: fn(String, T) -> AdminVerb,
) -> Result<Response, Failure> {
    let write: Write<T> = write(request, &[], Match::Required).await?;
    let verb = verb(text.clone(), write.body.clone());
    let answer = write
        .order(&app, verb, move |state| current(state, &text))
        .await?;
    write.changed(&answer)
}

pub(in crate::api) async fn set_status(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write: Write<UserStatusRequest> = write(request, &[], Match::Required).await?;
    let (token, link) = app.links.draw();
    let verb = AdminVerb::SetUserStatus(text.clone(), write.body.clone(), link);
    let answer = write
        .order(&app, verb, move |state| current(state, &text))
        .await?;
    let AdminObject::User(view, _) = &answer.object else {
        return Err(other_kind(&answer.object));
    };
    let mut value = value_of(view).ok_or_else(Failure::internal)?;
    if let Some(link) = proof(&app, view, &token, write.dry_run) {
        value["link"] = Value::String(link);
    }
    write.respond_value(StatusCode::OK, value, &answer, None)
}

pub(in crate::api) async fn set_role(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    put(app, text, request, AdminVerb::SetUserRole).await
}

pub(in crate::api) async fn set_domain(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    put(app, text, request, AdminVerb::SetUserDomain).await
}

pub(in crate::api) async fn set_sudo(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    put(app, text, request, AdminVerb::SetUserSudo).await
}

pub(in crate::api) async fn set_policy(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    put(app, text, request, AdminVerb::SetUserPolicy).await
}

/// What needs no version: it says everything about what it changes.
pub(in crate::api) async fn require_change(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<RequireChangeRequest>(request, &[], Match::Optional).await?;
    let verb = AdminVerb::RequirePasswordChange(text.clone(), write.body.clone());
    let answer = write
        .order(&app, verb, move |state| current(state, &text))
        .await?;
    write.changed(&answer)
}

pub(in crate::api) async fn set_main(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let mut write = write::<MainKeypairRequest>(request, &[], Match::Optional).await?;
    write.version = None; // it is the keypair that changes
    let verb = AdminVerb::SetMainKeypair {
        user: text,
        keypair: required(&write.body.access_key, "access_key")?,
    };
    let answer = write.order(&app, verb, |_| None).await?;
    write.changed(&answer)
}
