//! Personal vaults.

use super::super::super::audit::origin;
use super::super::super::errors::Failure;
use super::super::super::extract::{Query, Ref};
use super::super::super::{App, person};
use super::super::{Match, missing, value_of};
use super::{Save, reveals, with_content};
use crate::vaults::Kept;
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::admin::ConfigVault;
use longshore_core::access::{self, Intent, Operation};
use longshore_core::model::admin::{VaultVerb, Whose, at_person, vault_view};
use longshore_core::model::{self, User};
use serde_json::Value;

/// Whose vault a route is about.
fn owner<'a>(state: &'a model::State, whose: &Whose, me: &model::Caller) -> Option<&'a User> {
    match whose {
        Whose::Mine => state.users.get(&me.user),
        Whose::Account(name) => state.user_by_ref(name).filter(|u| u.service.is_some()),
        Whose::Person(name) => state.user_by_ref(name),
    }
}

fn kept(state: &model::State, owner: &User) -> Kept {
    Kept::of(state, &state.vault_of(owner))
}

async fn read(app: App, whose: Whose, request: Request) -> Result<Response, Failure> {
    let person = person(request.extensions())?;
    let origin = origin(request.extensions())?;
    let query = Query::read(request.uri().query(), &["reveal"])?;
    let (me, rights, wanted) = (person.caller.clone(), person.rights.clone(), whose.clone());
    let found = app
        .engine
        .read(move |state, _| {
            let owner = owner(state, &wanted, &me)?;
            let mine = owner.id == me.user;
            let target = at_person(owner).intent(Intent::Read);
            if !mine
                && !access::decide(Operation::ServiceAccountWrite, &rights, &target).is_allowed()
            {
                return None;
            }
            let vault = state.vault_of(owner);
            let mut view = vault_view(state, &vault);
            if let Whose::Account(_) = wanted {
                let all = state.vaults_for(owner).into_iter();
                let shared = all.filter(|one| one.vault.owner.is_none());
                let shown = shared.map(|one| ConfigVault {
                    id: one.vault.id.to_string(),
                    name: Some(one.vault.name.clone()),
                    version: None,
                    layer: None,
                });
                view.applying = Some(shown.collect());
            }
            Some((view, kept(state, owner), mine))
        })
        .await?;
    let (view, kept, mine) = found.ok_or_else(|| match &whose {
        Whose::Mine => Failure::internal(),
        Whose::Account(name) | Whose::Person(name) => missing("service account", name),
    })?;
    let reveal = reveals(&app, &person, &query).await?;
    if reveal && !mine {
        return Err(Failure::new(
            "LS-FORBIDDEN",
            "Only its owner may reveal a personal vault.",
        ));
    }
    with_content(&app, view, &kept, reveal.then_some(&origin)).await
}

async fn save(app: App, whose: Whose, request: Request, whole: bool) -> Result<Response, Failure> {
    let save = Save::read(request, whole, Match::Required).await?;
    let (me, wanted) = (save.write.caller.caller.clone(), whose.clone());
    let present = app
        .engine
        .read(move |state, _| owner(state, &wanted, &me).map(|owner| kept(state, owner)))
        .await?;
    let (content, warned) = match &present {
        Some(kept) => save.content(&app, kept.vault.id, Some(kept)).await?,
        None => (None, Vec::new()),
    };
    let (me, wanted) = (save.write.caller.caller.clone(), whose.clone());
    let current = move |state: &model::State| -> Option<Value> {
        let owner = owner(state, &wanted, &me)?;
        value_of(&vault_view(state, &state.vault_of(owner)))
    };
    let request = save.write.body.clone();
    let verb = VaultVerb::Own {
        whose,
        request,
        content,
    };
    save.give(&app, verb, present.as_ref(), warned, current)
        .await
}

pub(in super::super::super) async fn mine(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    read(app, Whose::Mine, request).await
}

pub(in super::super::super) async fn put_mine(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    save(app, Whose::Mine, request, true).await
}

pub(in super::super::super) async fn patch_mine(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    save(app, Whose::Mine, request, false).await
}

pub(in super::super::super) async fn of_account(
    State(app): State<App>,
    Ref(name): Ref,
    request: Request,
) -> Result<Response, Failure> {
    read(app, Whose::Account(name), request).await
}

pub(in super::super::super) async fn put_account(
    State(app): State<App>,
    Ref(name): Ref,
    request: Request,
) -> Result<Response, Failure> {
    save(app, Whose::Account(name), request, true).await
}

pub(in super::super::super) async fn patch_account(
    State(app): State<App>,
    Ref(name): Ref,
    request: Request,
) -> Result<Response, Failure> {
    save(app, Whose::Account(name), request, false).await
}

pub(in super::super::super) async fn patch_person(
    State(app): State<App>,
    Ref(name): Ref,
    request: Request,
) -> Result<Response, Failure> {
    save(app, Whose::Person(name), request, false).await
}
