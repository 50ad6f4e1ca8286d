//! Keypairs.

use super::super::super::App;
use super::super::super::errors::Failure;
use super::super::super::extract::Ref;
use super::super::{
    Match, Nothing, Viewer, Wanted, Write, list as listed, only, optional, other_kind, required,
    value_of, verbs, write,
};
use crate::identity::new_keypair;
use crate::pki::{fill_random, sha256};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use longshore_common::admin::{
    KeypairPatch, KeypairView, Member, NewKeypair, NewKeypairAnswer, RotateRequest,
};
use longshore_core::model::admin::{AdminObject, AdminVerb, NewKeypairSecrets, keypair_view};
use longshore_core::model::{self, Keypair, KeypairState};
use longshore_identity::{Secret, token};
use longshore_link::boot_ms;
use serde::de::DeserializeOwned;

/// A keypair with its last use as it is known by now (what is stored is up to a minute old),
/// and how much it is used.
fn shown(state: &model::State, keypair: &Keypair, app: &App) -> KeypairView {
    let mut view = keypair_view(state, keypair);
    let requests = app.rates.in_window(&keypair.access_key, boot_ms());
    view.requests_in_window = Some(u64::from(requests));
    if let Some((at, from)) = app.identity.keypair_use(&keypair.access_key) {
        (view.last_used_at, view.last_used_from) = (Some(at), Some(from));
    }
    view
}

fn find<'a>(state: &'a model::State, viewer: &Viewer, text: &str) -> Option<&'a Keypair> {
    let found = state.keypairs.get(text)?;
    let owner = state.users.get(&found.user)?;
    viewer.sees_keypairs_of(owner).then_some(found)
}

pub(in crate::api) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    const FILTERS: &[&str] = &["user", "state", "policy", "label", "project"];
    const STATES: [KeypairState; 3] = KeypairState::ALL;
    only(&request, "state", &STATES.map(KeypairState::as_str))?;
    let known = app.clone();
    let look = move |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
        let asked = wanted.values("state").next().is_some();
        let keypairs = state.keypairs.values();
        let seen = keypairs.filter(|k| find(state, viewer, &k.access_key).is_some());
        seen.filter(|k| asked || k.is_active())
            .map(|k| (k, shown(state, k, &known)))
            .filter(|(k, v)| {
                let owner = state.users.get(&k.user);
                let email = owner.map_or("", |u| u.email.as_str());
                let project = [&v.project, &v.project_name].map(|text| text.as_deref());
                let project: Vec<&str> = project.into_iter().flatten().collect();
                wanted.takes("user", &[&v.user, &v.user_name, email])
                    && wanted.takes("state", &[&v.state])
                    && wanted.takes("policy", &[&v.policy])
                    && wanted.finds("label", &v.label)
                    && wanted.takes("project", &project)
            })
            .map(|(_, v)| (format!("{}\u{1}{}", v.user_name, v.access_key), v))
            .collect()
    };
    listed(&app, request, "keypairs", FILTERS, look).await
}

pub(in crate::api) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let known = app.clone();
    let look = move |state: &model::State, viewer: &Viewer, text: &str| {
        find(state, viewer, text).map(|found| shown(state, found, &known))
    };
    verbs::read(&app, text, request, "keypair", look).await
}

/// A write to a keypair. They have no version, so none can be the right one.
async fn unversioned<T: DeserializeOwned>(request: Request) -> Result<Write<T>, Failure> {
    let write = write::<T>(request, &[], Match::Optional).await?;
    match write.version {
        None => Ok(write),
        Some(_) => Err(Failure::new(
            "LS-VERSION-STALE",
            "Keypairs have no version; leave If-Match out, or send *.",
        )),
    }
}

pub(in crate::api) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let mut write = unversioned::<NewKeypair>(request).await?;
    let given = optional(&write.body.secret_key, "secret_key")?;
    write.body.secret_key = Member::Absent;
    let imported = given.is_some() || !write.body.access_key.is_absent();
    let (access_key, secret) = match imported {
        true => (
            required(&write.body.access_key, "access_key")?,
            Secret::new(given.unwrap_or_default()),
        ),
        false => {
            let (access_key, secret) = new_keypair();
            (access_key, Secret::new(secret))
        }
    };
    let verb = AdminVerb::CreateKeypair {
        secrets: NewKeypairSecrets {
            access_key,
            secret_sha256: sha256(secret.expose().as_bytes()),
            imported: imported.then(|| secret.clone()),
        },
        request: Box::new(write.body.clone()),
    };
    let answer = write.order(&app, verb, |_| None).await?;
    let AdminObject::Keypair(view) = &answer.object else {
        return Err(other_kind(&answer.object));
    };
    // Who brought a secret has it.
    let shown = Some(secret).filter(|_| !write.dry_run && !imported);
    let made = once(&app, (**view).clone(), shown);
    let value = value_of(&made).ok_or_else(Failure::internal)?;
    write.respond_value(StatusCode::CREATED, value, &answer, Some("keypairs"))
}

/// A keypair with the secret that is shown this once.
fn once(app: &App, keypair: KeypairView, secret: Option<Secret>) -> NewKeypairAnswer {
    let snippet = secret
        .as_ref()
        .map(|secret| token::snippet(&app.api_address(), &keypair.access_key, secret));
    NewKeypairAnswer {
        keypair,
        snippet,
        secret_key: secret.map(|secret| secret.expose().to_owned()),
    }
}

pub(in crate::api) async fn update(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = unversioned::<KeypairPatch>(request).await?;
    let verb = AdminVerb::PatchKeypair(text, Box::new(write.body.clone()));
    let answer = write.order(&app, verb, |_| None).await?;
    write.changed(&answer)
}

pub(in crate::api) async fn activate(
    State(app): State<App>,
    Ref(keypair): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let active = true;
    act(
        &app,
        request,
        AdminVerb::SetKeypairActive { keypair, active },
    )
    .await
}

pub(in crate::api) async fn deactivate(
    State(app): State<App>,
    Ref(keypair): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let active = false;
    act(
        &app,
        request,
        AdminVerb::SetKeypairActive { keypair, active },
    )
    .await
}

pub(in crate::api) async fn revoke(
    State(app): State<App>,
    Ref(keypair): Ref,
    request: Request,
) -> Result<Response, Failure> {
    act(&app, request, AdminVerb::RevokeKeypair(keypair)).await
}

async fn act(app: &App, request: Request, verb: AdminVerb) -> Result<Response, Failure> {
    let write = unversioned::<Nothing>(request).await?;
    let answer = write.order(app, verb, |_| None).await?;
    write.changed(&answer)
}

pub(in crate::api) async fn delete(
    State(app): State<App>,
    Ref(keypair): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = unversioned::<Nothing>(request).await?;
    let verb = AdminVerb::DeleteKeypair(keypair);
    write.order(&app, verb, |_| None).await?;
    Ok(write.gone())
}

pub(in crate::api) async fn rotate(
    State(app): State<App>,
    Ref(keypair): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = unversioned::<RotateRequest>(request).await?;
    let secret = token::secret_key(&mut fill_random);
    let verb = AdminVerb::RotateKeypair {
        keypair,
        secret_sha256: *secret.sha256().as_bytes(),
        request: write.body.clone(),
    };
    let answer = write.order(&app, verb, |_| None).await?;
    let AdminObject::Keypair(view) = &answer.object else {
        return Err(other_kind(&answer.object));
    };
    let made = once(
        &app,
        (**view).clone(),
        Some(secret).filter(|_| !write.dry_run),
    );
    let value = value_of(&made).ok_or_else(Failure::internal)?;
    write.respond_value(StatusCode::OK, value, &answer, None)
}
