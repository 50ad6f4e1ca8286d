//! People, and what a person may use.

use super::Access;
use super::parts::{ACT, CREATE, CURSOR, LIMIT, LIST, PATCH, READ, VERSIONED, query, shape};
use super::{Gives, Holds, Operation, Parameter, Verb};
use crate::api::admin::quota;
use crate::api::admin::tenants::{import, people};
use axum::routing::{delete, get, patch, post, put};
use longshore_common::admin;

const FILTERS: &[Parameter] = &[
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
        "description",
        Holds::Texts,
        "Only those whose description holds this text.",
    ),
    query(
        "status",
        Holds::Texts,
        "active, inactive or before-verification; without it no inactive ones. pending, alone: open invitations, each with id, email, status, invited_at and expires_at.",
    ),
    query("domain", Holds::Texts, "Only of this domain."),
    query("project", Holds::Texts, "Only in this project."),
    query("policy", Holds::Texts, "Only with this user policy."),
    LIMIT,
    CURSOR,
];

/// What most parts of a person that are put have in common.
const PART: Operation = Operation {
    method: Verb::Put,
    parameters: VERSIONED,
    gives: Gives::Json(shape::<admin::UserTouchedAnswer>),
    codes: &["LS-NOT-FOUND", "LS-VERSION-MISSING", "LS-VERSION-STALE"],
    ..ACT
};

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "users_list",
        path: "/api/v1/users",
        row: Some(Access::UserList),
        summary: "People by login name; users see the names of those in their projects",
        parameters: FILTERS,
        gives: Gives::Page(shape::<admin::UserView>),
        handler: || get(people::list),
        ..LIST
    },
    Operation {
        id: "users_create",
        path: "/api/v1/users",
        row: Some(Access::UserCreate),
        summary: "Make a person with a first keypair, whose secret is shown this once",
        takes: Some(shape::<admin::NewUser>),
        gives: Gives::Json(shape::<admin::NewUserAnswer>),
        codes: &["LS-EXISTS", "LS-KEYPAIR-EXISTS"],
        handler: || post(people::create),
        ..CREATE
    },
    Operation {
        id: "users_import",
        path: "/api/v1/users/import",
        row: Some(Access::UserImport),
        summary: "Make people from a table (text/csv); passwords and secrets are shown this once",
        parameters: &[
            super::parts::DRY_RUN,
            query(
                "partial",
                Holds::Flag,
                "Make those whose rows are right; without it all or nobody.",
            ),
        ],
        takes_text: Some("text/csv"),
        gives: Gives::Json(shape::<admin::ImportAnswer>),
        codes: &["LS-EXISTS", "LS-KEYPAIR-EXISTS"],
        handler: || post(import::import),
        ..ACT
    },
    Operation {
        id: "user_read",
        path: "/api/v1/users/{id}",
        row: Some(Access::UserRead),
        summary: "One person, by id, login name or address",
        gives: Gives::Json(shape::<admin::UserView>),
        handler: || get(people::read),
        ..READ
    },
    Operation {
        id: "user_update",
        path: "/api/v1/users/{id}",
        row: Some(Access::UserUpdate),
        summary: "Change names, description and projects of a person; policy and weight too",
        takes: Some(shape::<admin::UserPatch>),
        gives: Gives::Json(shape::<admin::UserTouchedAnswer>),
        codes: &[
            "LS-FIXED-USER",
            "LS-NOT-FOUND",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-FIELD-FIXED",
            "LS-EXISTS",
            "LS-LAST-ADMIN",
        ],
        handler: || patch(people::update),
        ..PATCH
    },
    Operation {
        id: "user_delete",
        method: Verb::Delete,
        path: "/api/v1/users/{id}",
        row: Some(Access::UserStatus),
        summary: "Not possible: people are switched off, never deleted",
        codes: &["LS-USER-PERMANENT"],
        handler: || delete(people::delete),
        ..READ
    },
    Operation {
        id: "user_status_write",
        path: "/api/v1/users/{id}/status",
        row: Some(Access::UserStatus),
        summary: "Switch a person on or off",
        takes: Some(shape::<admin::UserStatusRequest>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-USER-SELF",
            "LS-LAST-SUPERADMIN",
        ],
        handler: || put(people::set_status),
        ..PART
    },
    Operation {
        id: "user_role_write",
        path: "/api/v1/users/{id}/role",
        row: Some(Access::UserRole),
        summary: "Give a person another role",
        takes: Some(shape::<admin::UserRoleRequest>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-ROLE-SELF",
            "LS-LAST-SUPERADMIN",
        ],
        handler: || put(people::set_role),
        ..PART
    },
    Operation {
        id: "user_domain_write",
        path: "/api/v1/users/{id}/domain",
        row: Some(Access::UserDomain),
        summary: "Move a person to another domain: it leaves all projects and groups of the old one",
        takes: Some(shape::<admin::UserDomainRequest>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-USER-LIVE-SESSIONS",
        ],
        handler: || put(people::set_domain),
        ..PART
    },
    Operation {
        id: "user_sudo_write",
        path: "/api/v1/users/{id}/sudo",
        row: Some(Access::UserSudo),
        summary: "Say whether new sessions of a person let it become root inside",
        takes: Some(shape::<admin::UserSudoRequest>),
        handler: || put(people::set_sudo),
        ..PART
    },
    Operation {
        id: "user_policy_write",
        path: "/api/v1/users/{id}/policy",
        row: Some(Access::UserPolicy),
        summary: "Give a person another user policy",
        takes: Some(shape::<admin::UserPolicyAssignment>),
        handler: || put(people::set_policy),
        ..PART
    },
    Operation {
        id: "user_need_password_change_write",
        method: Verb::Put,
        path: "/api/v1/users/{id}/need-password-change",
        row: Some(Access::UserRequireChange),
        summary: "Ask a person to choose a new password, or no longer",
        takes: Some(shape::<admin::RequireChangeRequest>),
        gives: Gives::Json(shape::<admin::UserTouchedAnswer>),
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE", "LS-FIXED-USER"],
        handler: || put(people::require_change),
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
        codes: &["LS-NOT-FOUND", "LS-KEYPAIR-STATE"],
        handler: || put(people::set_main),
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
];
