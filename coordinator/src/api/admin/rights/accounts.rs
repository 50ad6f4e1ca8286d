//! Service accounts.

use super::super::super::App;
use super::super::super::errors::Failure;
use super::super::super::extract::Ref;
use super::super::{
    Match, Viewer, Wanted, list as listed, only, other_kind, value_of, verbs, write,
};
use super::{delete, rights, shows, verb};
use crate::engine::wall_clock;
use crate::identity::{new_id, new_keypair};
use crate::pki::sha256;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use longshore_common::admin::{NewServiceAccountAnswer, ServiceAccountRequest};
use longshore_common::ids::UserId;
use longshore_core::access::{Operation, Target};
use longshore_core::model::admin::{AdminObject, RightsObject, RightsVerb, account_view};
use longshore_core::model::{self, User};
use longshore_identity::{Secret, token};
use serde_json::Value;

fn find<'a>(state: &'a model::State, text: &str) -> Option<&'a User> {
    state
        .user_by_ref(text)
        .filter(|user| user.service.is_some())
}

fn is_seen(state: &model::State, viewer: &Viewer, account: &User) -> bool {
    let target = Target::object()
        .in_domain(account.domain)
        .owned_by(account.subject())
        .person(account.rank());
    rights(state, viewer)
        .is_some_and(|rights| shows(&rights, Operation::ServiceAccountWrite, target))
}

fn current(state: &model::State, text: &str) -> Option<Value> {
    value_of(&account_view(state, find(state, text)?, wall_clock()))
}

pub(in super::super::super) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    only(&request, "status", &["active", "deleted"])?;
    let now = wall_clock();
    let look = move |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
        let accounts = state.users.values().filter(|user| user.service.is_some());
        accounts
            .filter(|account| is_seen(state, viewer, account))
            .map(|account| account_view(state, account, now))
            .filter(|view| {
                // What is deleted is shown to those who ask for it.
                let status = match wanted.values("status").next() {
                    Some(_) => wanted.takes("status", &[&view.status]),
                    None => view.status == "active",
                };
                status
                    && wanted.finds("name", &view.name)
                    && wanted.takes("domain", &[&view.domain, &view.domain_name])
            })
            .map(|view| (format!("{}\u{1}{}", view.name, view.id), view))
            .collect()
    };
    let filters = &["name", "domain", "status"];
    listed(&app, request, "service-accounts", filters, look).await
}

pub(in super::super::super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let now = wall_clock();
    let look = move |state: &model::State, viewer: &Viewer, text: &str| {
        let account = find(state, text)?;
        is_seen(state, viewer, account).then(|| account_view(state, account, now))
    };
    verbs::read(&app, text, request, "service account", look).await
}

pub(in super::super::super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<ServiceAccountRequest>(request, &[], Match::Optional).await?;
    let (access_key, secret) = new_keypair();
    let order = RightsVerb::CreateAccount {
        id: UserId::new(new_id()),
        access_key: access_key.clone(),
        secret_sha256: sha256(secret.as_bytes()),
        request: write.body.clone(),
    };
    let answer = write.order(&app, verb(order), |_| None).await?;
    let AdminObject::Rights(RightsObject::Account(view, _)) = &answer.object else {
        return Err(other_kind(&answer.object));
    };
    let snippet = token::snippet(
        &app.api_address(),
        &access_key,
        &Secret::new(secret.clone()),
    );
    // A rehearsal makes nothing, so its secret opens nothing.
    let real = !write.dry_run;
    let made = NewServiceAccountAnswer {
        account: (**view).clone(),
        access_key,
        secret_key: Some(secret).filter(|_| real),
        snippet: Some(snippet).filter(|_| real),
    };
    let value = value_of(&made).ok_or_else(Failure::internal)?;
    write.respond_value(
        StatusCode::CREATED,
        value,
        &answer,
        Some("service-accounts"),
    )
}

pub(in super::super::super) async fn update(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<ServiceAccountRequest>(request, &[], Match::Required).await?;
    let order = RightsVerb::PatchAccount {
        name: text.clone(),
        request: write.body.clone(),
    };
    let answer = write
        .order(&app, verb(order), move |state| current(state, &text))
        .await?;
    write.changed(&answer)
}

pub(in super::super::super) async fn remove(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let order = |write: &super::super::Write<_>, name| {
        let keep_sessions = match write.query.one("sessions")? {
            None | Some("stop") => false,
            Some("keep") => true,
            Some(_) => {
                return Err(Failure::new(
                    "LS-PARAMETER",
                    "sessions must be stop or keep.",
                ));
            }
        };
        Ok(RightsVerb::DeleteAccount {
            name,
            keep_sessions,
        })
    };
    delete(&app, text, request, &["sessions"], order, current).await
}
