//! Domains, projects, and who is in them.

use super::Access;
use super::parts::{
    ACT, CREATE, CURSOR, DELETE, DRY_RUN, LIMIT, LIST, NAME_HOLDS, PAGED, PATCH, READ, query, shape,
};
use super::{Gives, Holds, Operation, Parameter, Verb};
use crate::api::admin::tenants::{self, members};
use axum::routing::{delete, get, patch, post, put};
use longshore_common::admin;

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "domains_list",
        path: "/api/v1/domains",
        row: Some(Access::DomainRead),
        summary: "Domains by name; others than superadmins see their own",
        gives: Gives::Page(shape::<admin::DomainView>),
        handler: || get(tenants::domains),
        ..LIST
    },
    Operation {
        id: "domains_create",
        path: "/api/v1/domains",
        row: Some(Access::DomainWrite),
        summary: "Make a domain",
        takes: Some(shape::<admin::DomainRequest>),
        gives: Gives::Json(shape::<admin::DomainView>),
        handler: || post(tenants::create_domain),
        ..CREATE
    },
    Operation {
        id: "domain_read",
        path: "/api/v1/domains/{id}",
        row: Some(Access::DomainRead),
        summary: "One domain, by id or name",
        gives: Gives::Json(shape::<admin::DomainView>),
        handler: || get(tenants::read_domain),
        ..READ
    },
    Operation {
        id: "domain_update",
        path: "/api/v1/domains/{id}",
        row: Some(Access::DomainWrite),
        summary: "Change a domain",
        takes: Some(shape::<admin::DomainRequest>),
        gives: Gives::Json(shape::<admin::DomainView>),
        handler: || patch(tenants::update_domain),
        ..PATCH
    },
    Operation {
        id: "domain_delete",
        path: "/api/v1/domains/{id}",
        row: Some(Access::DomainWrite),
        summary: "Delete a domain in which nobody and nothing is left; a rehearsal answers 200 with the impact",
        codes: REMOVED,
        handler: || delete(tenants::remove_domain),
        ..DELETE
    },
    Operation {
        id: "projects_list",
        path: "/api/v1/projects",
        row: Some(Access::ProjectRead),
        summary: "Projects by name; others than superadmins see their own",
        parameters: &[
            NAME_HOLDS,
            query(
                "domain",
                Holds::Texts,
                "Only of this domain, by name or id.",
            ),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::ProjectView>),
        handler: || get(tenants::projects),
        ..LIST
    },
    Operation {
        id: "projects_create",
        path: "/api/v1/projects",
        row: Some(Access::ProjectCreate),
        summary: "Make a project",
        takes: Some(shape::<admin::ProjectRequest>),
        gives: Gives::Json(shape::<admin::ProjectView>),
        codes: &["LS-NOT-FOUND", "LS-EXISTS"],
        handler: || post(tenants::create_project),
        ..CREATE
    },
    Operation {
        id: "project_read",
        path: "/api/v1/projects/{id}",
        row: Some(Access::ProjectRead),
        summary: "One project, by id, or by a name that only one has",
        gives: Gives::Json(shape::<admin::ProjectView>),
        handler: || get(tenants::read_project),
        ..READ
    },
    Operation {
        id: "project_update",
        path: "/api/v1/projects/{id}",
        row: Some(Access::ProjectUpdate),
        summary: "Change a project; assigns its policy too",
        takes: Some(shape::<admin::ProjectRequest>),
        gives: Gives::Json(shape::<admin::ProjectView>),
        handler: || patch(tenants::update_project),
        ..PATCH
    },
    Operation {
        id: "project_delete",
        path: "/api/v1/projects/{id}",
        row: Some(Access::ProjectUpdate),
        summary: "Delete a project without live sessions, with its memberships, access rules and keypairs; a rehearsal answers 200 with the impact",
        codes: REMOVED,
        handler: || delete(tenants::remove_project),
        ..DELETE
    },
    Operation {
        id: "project_members_list",
        path: "/api/v1/projects/{id}/members",
        row: Some(Access::ProjectRead),
        summary: "Who is in a project, by login name",
        parameters: PAGED,
        gives: Gives::Page(shape::<admin::MemberView>),
        codes: &["LS-NOT-FOUND", "LS-CURSOR"],
        handler: || get(members::list),
        ..LIST
    },
    Operation {
        id: "project_member_write",
        method: Verb::Put,
        path: "/api/v1/projects/{id}/members/{user}",
        row: Some(Access::ProjectMembers),
        summary: "Take somebody into a project, or say whether the project is its to administer",
        takes: Some(shape::<admin::MemberRequest>),
        gives: Gives::Json(shape::<admin::MemberView>),
        codes: &["LS-NOT-FOUND", "LS-AMBIGUOUS"],
        handler: || put(members::put),
        ..ACT
    },
    Operation {
        id: "project_member_delete",
        path: "/api/v1/projects/{id}/members/{user}",
        row: Some(Access::ProjectMembers),
        summary: "Remove somebody from a project: keypairs bound to it are revoked, sessions there end; a rehearsal answers 200 with the impact",
        parameters: LEFT,
        codes: &["LS-NOT-FOUND", "LS-AMBIGUOUS", "LS-LAST-ADMIN"],
        handler: || delete(members::remove),
        ..DELETE
    },
    Operation {
        id: "project_leave",
        path: "/api/v1/projects/{id}/leave",
        row: Some(Access::ProjectLeave),
        summary: "Go out of a project, as if one had been removed",
        parameters: LEFT,
        gives: Gives::Object,
        codes: &["LS-NOT-FOUND", "LS-AMBIGUOUS", "LS-LAST-ADMIN"],
        handler: || post(members::leave),
        ..ACT
    },
];

const REMOVED: &[&str] = &[
    "LS-NOT-FOUND",
    "LS-AMBIGUOUS",
    "LS-VERSION-MISSING",
    "LS-VERSION-STALE",
    "LS-IN-USE",
    "LS-BUILTIN",
];

/// What becomes of sessions that somebody leaves behind.
const LEFT: &[Parameter] = &[
    DRY_RUN,
    query(
        "sessions",
        Holds::Text,
        "stop (default) or keep those that run there; those that wait are cancelled.",
    ),
];
