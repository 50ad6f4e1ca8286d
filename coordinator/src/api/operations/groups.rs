//! Resource groups.

use super::Access;
use super::parts::{ACT, CREATE, DELETE, LIST, PAGED, PATCH, READ, REHEARSED, shape};
use super::{Gives, Operation, Verb};
use crate::api::admin::groups;
use axum::routing::{delete, get, patch, post, put};
use longshore_common::{admin, api};

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "resource_groups_list",
        path: "/api/v1/resource-groups",
        row: Some(Access::ResourceGroupRead),
        summary: "Resource groups by name",
        parameters: PAGED,
        gives: Gives::Page(shape::<admin::GroupView>),
        handler: || get(groups::list),
        ..LIST
    },
    Operation {
        id: "resource_group_read",
        path: "/api/v1/resource-groups/{id}",
        row: Some(Access::ResourceGroupRead),
        summary: "One resource group, by id or name",
        gives: Gives::Json(shape::<admin::GroupView>),
        handler: || get(groups::read),
        ..READ
    },
    Operation {
        id: "resource_group_pending",
        path: "/api/v1/resource-groups/{id}/pending",
        row: Some(Access::ResourceGroupRead),
        summary: "Who waits in it, in the order of the queue",
        parameters: PAGED,
        gives: Gives::Page(shape::<api::Session>),
        codes: &["LS-NOT-FOUND", "LS-CURSOR"],
        handler: || get(groups::pending),
        ..READ
    },
    Operation {
        id: "resource_groups_create",
        path: "/api/v1/resource-groups",
        row: Some(Access::QueueCreate),
        summary: "Make a resource group",
        takes: Some(shape::<admin::GroupRequest>),
        gives: Gives::Json(shape::<admin::GroupView>),
        handler: || post(groups::create),
        ..CREATE
    },
    Operation {
        id: "resource_group_update",
        path: "/api/v1/resource-groups/{id}",
        row: Some(Access::ResourceGroupUpdate),
        summary: "Change a resource group",
        takes: Some(shape::<admin::GroupRequest>),
        gives: Gives::Json(shape::<admin::GroupView>),
        handler: || patch(groups::update),
        ..PATCH
    },
    Operation {
        id: "resource_group_delete",
        path: "/api/v1/resource-groups/{id}",
        row: Some(Access::QueueDelete),
        summary: "Delete a resource group to which nothing refers",
        handler: || delete(groups::remove),
        ..DELETE
    },
    Operation {
        id: "resource_group_allowed_read",
        path: "/api/v1/resource-groups/{id}/allowed",
        row: Some(Access::ResourceGroupUpdate),
        summary: "Who may use it",
        gives: Gives::Json(shape::<admin::GroupAccess>),
        handler: || get(groups::access),
        ..READ
    },
    Operation {
        id: "resource_group_allow",
        method: Verb::Put,
        path: "/api/v1/resource-groups/{id}/allowed/{kind}/{who}",
        row: Some(Access::ResourceGroupUpdate),
        summary: "Let a domain, project or keypair in; kind is domains, projects or keypairs",
        gives: Gives::Json(shape::<admin::GroupView>),
        codes: &["LS-NOT-FOUND", "LS-INVALID", "LS-AMBIGUOUS"],
        handler: || put(groups::allow),
        ..ACT
    },
    Operation {
        id: "resource_group_disallow",
        path: "/api/v1/resource-groups/{id}/allowed/{kind}/{who}",
        row: Some(Access::ResourceGroupUpdate),
        summary: "Take a domain, project or keypair off the list",
        parameters: REHEARSED,
        codes: &["LS-NOT-FOUND", "LS-INVALID", "LS-AMBIGUOUS"],
        handler: || delete(groups::disallow),
        ..DELETE
    },
];
