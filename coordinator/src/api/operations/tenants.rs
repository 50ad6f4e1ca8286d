//! Domains, projects, people, keypairs, and what a person may use.

use super::Access;
use super::parts::{
    ACT, CREATE, CURSOR, LIMIT, LIST, NAME_HOLDS, PATCH, READ, REHEARSED, query, shape,
};
use super::{Gives, Holds, Operation, Verb};
use crate::api::admin::{quota, tenants};
use axum::routing::{get, patch, post, put};
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
        id: "users_list",
        path: "/api/v1/users",
        row: Some(Access::UserList),
        summary: "People by login name; others than superadmins see themselves",
        parameters: &[
            query(
                "email",
                Holds::Texts,
                "Only those whose address holds this text.",
            ),
            query(
                "username",
                Holds::Texts,
                "Only those whose login name holds this text.",
            ),
            query("role", Holds::Texts, "Only with this role."),
            query(
                "status",
                Holds::Texts,
                "active or inactive; without it only active ones.",
            ),
            query("domain", Holds::Texts, "Only of this domain."),
            query("project", Holds::Texts, "Only in this project."),
            query("policy", Holds::Texts, "Only with this user policy."),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::UserView>),
        handler: || get(tenants::users),
        ..LIST
    },
    Operation {
        id: "users_create",
        path: "/api/v1/users",
        row: Some(Access::UserCreate),
        summary: "Make a person with a first keypair, whose secret is shown this once",
        takes: Some(shape::<admin::NewUser>),
        gives: Gives::Json(shape::<admin::NewUserAnswer>),
        codes: &["LS-EXISTS", "LS-AMBIGUOUS"],
        handler: || post(tenants::create_user),
        ..CREATE
    },
    Operation {
        id: "user_read",
        path: "/api/v1/users/{id}",
        row: Some(Access::UserRead),
        summary: "One person, by id, login name or address",
        gives: Gives::Json(shape::<admin::UserView>),
        handler: || get(tenants::read_user),
        ..READ
    },
    Operation {
        id: "user_update",
        path: "/api/v1/users/{id}",
        row: Some(Access::UserUpdate),
        summary: "Change policy, weight and projects of a person",
        parameters: REHEARSED,
        takes: Some(shape::<admin::UserPatch>),
        gives: Gives::Json(shape::<admin::UserView>),
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE", "LS-AMBIGUOUS"],
        handler: || patch(tenants::update_user),
        ..PATCH
    },
    Operation {
        id: "user_status_write",
        method: Verb::Put,
        path: "/api/v1/users/{id}/status",
        row: Some(Access::UserStatus),
        summary: "Switch a person on or off",
        takes: Some(shape::<admin::UserStatusRequest>),
        gives: Gives::Json(shape::<admin::UserView>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-STALE",
            "LS-USER-SELF",
            "LS-LAST-SUPERADMIN",
        ],
        handler: || put(tenants::set_status),
        ..ACT
    },
    Operation {
        id: "user_main_keypair_write",
        method: Verb::Put,
        path: "/api/v1/users/{id}/main-keypair",
        row: Some(Access::KeypairState),
        own: Some(Access::MeKeypairs),
        summary: "Choose the keypair whose policy limits the person as a whole",
        takes: Some(shape::<admin::MainKeypairRequest>),
        gives: Gives::Json(shape::<admin::UserView>),
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE", "LS-KEYPAIR-STATE"],
        handler: || put(tenants::set_main),
        ..ACT
    },
    Operation {
        id: "user_limits_read",
        path: "/api/v1/users/{id}/limits",
        row: Some(Access::UserRead),
        summary: "What a person may use, and what is used",
        parameters: &[
            query(
                "project",
                Holds::Text,
                "Limits in this project; default the first one.",
            ),
            query(
                "keypair",
                Holds::Text,
                "Limits of this keypair; default the main one.",
            ),
        ],
        gives: Gives::Json(shape::<admin::LimitsView>),
        handler: || get(quota::of),
        ..READ
    },
    Operation {
        id: "me_limits_read",
        path: "/api/v1/me/limits",
        row: Some(Access::MeRead),
        summary: "What the caller may use, and what is used",
        parameters: &[query(
            "project",
            Holds::Text,
            "Limits in this project; default the first one.",
        )],
        gives: Gives::Json(shape::<admin::LimitsView>),
        handler: || get(quota::mine),
        ..READ
    },
    Operation {
        id: "keypairs_list",
        path: "/api/v1/keypairs",
        row: Some(Access::KeypairRead),
        own: Some(Access::MeKeypairs),
        summary: "Keypairs; others than superadmins see their own",
        parameters: &[
            query(
                "user",
                Holds::Texts,
                "Only of this person, by login name or id.",
            ),
            query("state", Holds::Texts, "active or inactive."),
            query("policy", Holds::Texts, "Only with this keypair policy."),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::KeypairView>),
        handler: || get(tenants::keypairs),
        ..LIST
    },
    Operation {
        id: "keypairs_create",
        path: "/api/v1/keypairs",
        row: Some(Access::KeypairCreate),
        own: Some(Access::MeKeypairs),
        summary: "Make a further keypair; its secret is shown this once",
        takes: Some(shape::<admin::NewKeypair>),
        gives: Gives::Json(shape::<admin::NewKeypairAnswer>),
        codes: &["LS-FORBIDDEN", "LS-KEYPAIR-EXISTS"],
        handler: || post(tenants::create_keypair),
        ..CREATE
    },
    Operation {
        id: "keypair_read",
        path: "/api/v1/keypairs/{id}",
        row: Some(Access::KeypairRead),
        own: Some(Access::MeKeypairs),
        summary: "One keypair, by its access key",
        gives: Gives::Json(shape::<admin::KeypairView>),
        handler: || get(tenants::read_keypair),
        ..READ
    },
    Operation {
        id: "keypair_update",
        path: "/api/v1/keypairs/{id}",
        row: Some(Access::KeypairPolicy),
        own: Some(Access::MeKeypairs),
        summary: "Give a keypair another policy",
        parameters: REHEARSED,
        takes: Some(shape::<admin::KeypairPatch>),
        gives: Gives::Json(shape::<admin::KeypairView>),
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE"],
        handler: || patch(tenants::update_keypair),
        ..PATCH
    },
    Operation {
        id: "keypair_activate",
        path: "/api/v1/keypairs/{id}/activate",
        row: Some(Access::KeypairState),
        summary: "Switch a keypair on",
        gives: Gives::Json(shape::<admin::KeypairView>),
        codes: &["LS-NOT-FOUND", "LS-KEYPAIR-STATE"],
        handler: || post(tenants::activate),
        ..ACT
    },
    Operation {
        id: "keypair_deactivate",
        path: "/api/v1/keypairs/{id}/deactivate",
        row: Some(Access::KeypairState),
        own: Some(Access::MeKeypairs),
        summary: "Switch a keypair off",
        gives: Gives::Json(shape::<admin::KeypairView>),
        codes: &["LS-NOT-FOUND", "LS-KEYPAIR-STATE"],
        handler: || post(tenants::deactivate),
        ..ACT
    },
];
