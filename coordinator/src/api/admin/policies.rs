//! Keypair, user and project policies.

use super::super::App;
use super::super::errors::Failure;
use super::super::extract::Ref;
use super::{Match, Nothing, Viewer, Wanted, list as listed, value_of, verbs, write};
use crate::identity::new_id;
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::admin::{KeypairPolicyRequest, ProjectPolicyRequest, UserPolicyRequest};
use longshore_common::ids::PolicyId;
use longshore_core::model::admin::{
    AdminVerb, keypair_policy_view, project_policy_view, user_policy_view,
};
use longshore_core::model::{self, PolicyKind};
use serde_json::Value;
use std::collections::BTreeMap;

/// The policy of a name in any case, or of an id.
fn find<'a, P>(
    policies: &'a BTreeMap<String, P>,
    text: &str,
    key: impl Fn(&P) -> (&str, PolicyId),
) -> Option<&'a P> {
    let id = text.parse::<PolicyId>().ok();
    policies.values().find(|policy| {
        let (name, own) = key(policy);
        Some(own) == id || name.eq_ignore_ascii_case(text)
    })
}

/// The five routes of one kind: they differ in nothing but the kind.
macro_rules! routes {
    ($module:ident, $policy_kind:ident, $kind:ident, $what:literal, $list:literal, $policies:ident, $view:ident,
     $request:ident, $create:ident, $patch:ident, $mine:expr) => {
        #[doc = concat!("Routes of the kind ", $what, ".")]
        pub(in super::super) mod $module {
            use super::*;

            fn find_one<'a>(
                state: &'a model::State,
                viewer: &Viewer,
                text: &str,
            ) -> Option<&'a model::$kind> {
                let found = find(&state.$policies, text, |p| (p.name.as_str(), p.id))?;
                let mine: fn(&model::State, &Viewer, &str) -> bool = $mine;
                (viewer.all || mine(state, viewer, &found.name)).then_some(found)
            }

            fn current(state: &model::State, text: &str) -> Option<Value> {
                let found = find(&state.$policies, text, |p| (p.name.as_str(), p.id))?;
                value_of(&$view(state, found))
            }

            pub(in super::super::super) async fn list(
                State(app): State<App>,
                request: Request,
            ) -> Result<Response, Failure> {
                let look = |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
                    let policies = state.$policies.values();
                    policies
                        .filter(|p| find_one(state, viewer, &p.name).is_some())
                        .filter(|p| wanted.finds("name", &p.name))
                        .map(|p| (p.name.clone(), $view(state, p)))
                        .collect()
                };
                listed(&app, request, $list, &["name"], look).await
            }

            pub(in super::super::super) async fn read(
                State(app): State<App>,
                Ref(text): Ref,
                request: Request,
            ) -> Result<Response, Failure> {
                let look = |state: &model::State, viewer: &Viewer, text: &str| {
                    find_one(state, viewer, text).map(|found| $view(state, found))
                };
                verbs::read(&app, text, request, $what, look).await
            }

            pub(in super::super::super) async fn create(
                State(app): State<App>,
                request: Request,
            ) -> Result<Response, Failure> {
                let verb = |body| AdminVerb::$create(PolicyId::new(new_id()), body);
                verbs::create::<$request>(&app, request, $list, verb).await
            }

            pub(in super::super::super) async fn update(
                State(app): State<App>,
                Ref(text): Ref,
                request: Request,
            ) -> Result<Response, Failure> {
                verbs::update(&app, text, request, AdminVerb::$patch, current).await
            }

            pub(in super::super::super) async fn remove(
                State(app): State<App>,
                Ref(text): Ref,
                request: Request,
            ) -> Result<Response, Failure> {
                let write = write::<Nothing>(request, &["move_to"], Match::Required).await?;
                let verb = AdminVerb::DeletePolicy {
                    kind: PolicyKind::$policy_kind,
                    name: text.clone(),
                    move_to: write.query.one("move_to")?.map(str::to_owned),
                };
                let now = move |state: &model::State| current(state, &text);
                write.order(&app, verb, now).await?;
                Ok(write.gone())
            }
        }
    };
}

routes!(
    keypair,
    Keypair,
    KeypairPolicy,
    "keypair policy",
    "keypair-policies",
    keypair_policies,
    keypair_policy_view,
    KeypairPolicyRequest,
    CreateKeypairPolicy,
    PatchKeypairPolicy,
    |state, viewer, name| state.keypairs_of(viewer.user).any(|k| k.policy == name)
);

routes!(
    user,
    User,
    UserPolicy,
    "user policy",
    "user-policies",
    user_policies,
    user_policy_view,
    UserPolicyRequest,
    CreateUserPolicy,
    PatchUserPolicy,
    |state, viewer, name| state
        .users
        .get(&viewer.user)
        .is_some_and(|u| u.user_policy == name)
);

routes!(
    project,
    Project,
    ProjectPolicy,
    "project policy",
    "project-policies",
    project_policies,
    project_policy_view,
    ProjectPolicyRequest,
    CreateProjectPolicy,
    PatchProjectPolicy,
    |state, viewer, name| state.users.get(&viewer.user).is_some_and(|u| u
        .project_ids()
        .filter_map(|id| state.projects.get(&id))
        .any(|p| p.policy == name))
);
