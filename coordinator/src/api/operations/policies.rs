//! Keypair, user and project policies.

use super::Access;
use super::parts::{CREATE, DELETE, DRY_RUN, IF_MATCH, LIST, PATCH, READ, query, shape};
use super::{Gives, Holds, Operation, Parameter};
use crate::api::admin::policies;
use axum::routing::{delete, get, patch, post};
use longshore_common::admin;

const POLICY_GONE: &[Parameter] = &[
    DRY_RUN,
    query(
        "move_to",
        Holds::Text,
        "The policy its users get; without it none may have any.",
    ),
    IF_MATCH,
];

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "keypair_policies_list",
        path: "/api/v1/keypair-policies",
        row: Some(Access::PolicyRead),
        summary: "Keypair policies by name; others than superadmins see their own",
        gives: Gives::Page(shape::<admin::KeypairPolicyView>),
        handler: || get(policies::keypair::list),
        ..LIST
    },
    Operation {
        id: "keypair_policies_create",
        path: "/api/v1/keypair-policies",
        row: Some(Access::PolicyWrite),
        summary: "Make a keypair policy",
        takes: Some(shape::<admin::KeypairPolicyRequest>),
        gives: Gives::Json(shape::<admin::KeypairPolicyView>),
        handler: || post(policies::keypair::create),
        ..CREATE
    },
    Operation {
        id: "keypair_policy_read",
        path: "/api/v1/keypair-policies/{id}",
        row: Some(Access::PolicyRead),
        summary: "One keypair policy, by id or name",
        gives: Gives::Json(shape::<admin::KeypairPolicyView>),
        handler: || get(policies::keypair::read),
        ..READ
    },
    Operation {
        id: "keypair_policy_update",
        path: "/api/v1/keypair-policies/{id}",
        row: Some(Access::PolicyWrite),
        summary: "Change a keypair policy",
        takes: Some(shape::<admin::KeypairPolicyRequest>),
        gives: Gives::Json(shape::<admin::KeypairPolicyView>),
        handler: || patch(policies::keypair::update),
        ..PATCH
    },
    Operation {
        id: "keypair_policy_delete",
        path: "/api/v1/keypair-policies/{id}",
        row: Some(Access::PolicyWrite),
        summary: "Delete a keypair policy",
        parameters: POLICY_GONE,
        handler: || delete(policies::keypair::remove),
        ..DELETE
    },
    Operation {
        id: "user_policies_list",
        path: "/api/v1/user-policies",
        row: Some(Access::PolicyRead),
        summary: "User policies by name; others than superadmins see their own",
        gives: Gives::Page(shape::<admin::UserPolicyView>),
        handler: || get(policies::user::list),
        ..LIST
    },
    Operation {
        id: "user_policies_create",
        path: "/api/v1/user-policies",
        row: Some(Access::PolicyWrite),
        summary: "Make a user policy",
        takes: Some(shape::<admin::UserPolicyRequest>),
        gives: Gives::Json(shape::<admin::UserPolicyView>),
        handler: || post(policies::user::create),
        ..CREATE
    },
    Operation {
        id: "user_policy_read",
        path: "/api/v1/user-policies/{id}",
        row: Some(Access::PolicyRead),
        summary: "One user policy, by id or name",
        gives: Gives::Json(shape::<admin::UserPolicyView>),
        handler: || get(policies::user::read),
        ..READ
    },
    Operation {
        id: "user_policy_update",
        path: "/api/v1/user-policies/{id}",
        row: Some(Access::PolicyWrite),
        summary: "Change a user policy",
        takes: Some(shape::<admin::UserPolicyRequest>),
        gives: Gives::Json(shape::<admin::UserPolicyView>),
        handler: || patch(policies::user::update),
        ..PATCH
    },
    Operation {
        id: "user_policy_delete",
        path: "/api/v1/user-policies/{id}",
        row: Some(Access::PolicyWrite),
        summary: "Delete a user policy",
        parameters: POLICY_GONE,
        handler: || delete(policies::user::remove),
        ..DELETE
    },
    Operation {
        id: "project_policies_list",
        path: "/api/v1/project-policies",
        row: Some(Access::PolicyRead),
        summary: "Project policies by name; others than superadmins see their own",
        gives: Gives::Page(shape::<admin::ProjectPolicyView>),
        handler: || get(policies::project::list),
        ..LIST
    },
    Operation {
        id: "project_policies_create",
        path: "/api/v1/project-policies",
        row: Some(Access::PolicyWrite),
        summary: "Make a project policy",
        takes: Some(shape::<admin::ProjectPolicyRequest>),
        gives: Gives::Json(shape::<admin::ProjectPolicyView>),
        handler: || post(policies::project::create),
        ..CREATE
    },
    Operation {
        id: "project_policy_read",
        path: "/api/v1/project-policies/{id}",
        row: Some(Access::PolicyRead),
        summary: "One project policy, by id or name",
        gives: Gives::Json(shape::<admin::ProjectPolicyView>),
        handler: || get(policies::project::read),
        ..READ
    },
    Operation {
        id: "project_policy_update",
        path: "/api/v1/project-policies/{id}",
        row: Some(Access::PolicyWrite),
        summary: "Change a project policy",
        takes: Some(shape::<admin::ProjectPolicyRequest>),
        gives: Gives::Json(shape::<admin::ProjectPolicyView>),
        handler: || patch(policies::project::update),
        ..PATCH
    },
    Operation {
        id: "project_policy_delete",
        path: "/api/v1/project-policies/{id}",
        row: Some(Access::PolicyWrite),
        summary: "Delete a project policy",
        parameters: POLICY_GONE,
        handler: || delete(policies::project::remove),
        ..DELETE
    },
];
