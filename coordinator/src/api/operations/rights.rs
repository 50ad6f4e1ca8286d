//! Groups of users, access rules and service accounts.

use super::parts::DRY_RUN;
use super::parts::{
    CREATE, CURSOR, DELETE, IF_MATCH, LIMIT, LIST, NAME_HOLDS, PATCH, READ, VERSIONED, query, shape,
};
use super::{Access, Gives, Holds, Operation, Parameter, Verb};
use crate::api::admin::rights::{accounts, groups, rules};
use axum::routing::{delete, get, patch, post, put};
use longshore_common::admin;

const DOMAIN: Parameter = query(
    "domain",
    Holds::Texts,
    "Only of this domain, by name or id.",
);

const GROUP_CHANGED: &[&str] = &[
    "LS-NOT-FOUND",
    "LS-VERSION-MISSING",
    "LS-VERSION-STALE",
    "LS-GROUP-BUILTIN",
];

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "groups_list",
        path: "/api/v1/groups",
        row: Some(Access::GroupRead),
        summary: "Groups of users by name",
        parameters: &[NAME_HOLDS, DOMAIN, LIMIT, CURSOR],
        gives: Gives::Page(shape::<admin::UserGroupView>),
        handler: || get(groups::list),
        ..LIST
    },
    Operation {
        id: "group_read",
        path: "/api/v1/groups/{id}",
        row: Some(Access::GroupRead),
        summary: "One group of users with its members, by id or name",
        gives: Gives::Json(shape::<admin::UserGroupView>),
        handler: || get(groups::read),
        ..READ
    },
    Operation {
        id: "groups_create",
        path: "/api/v1/groups",
        row: Some(Access::GroupWrite),
        summary: "Make a group of users",
        takes: Some(shape::<admin::UserGroupRequest>),
        gives: Gives::Json(shape::<admin::UserGroupView>),
        codes: &["LS-NOT-FOUND", "LS-EXISTS"],
        handler: || post(groups::create),
        ..CREATE
    },
    Operation {
        id: "group_update",
        path: "/api/v1/groups/{id}",
        row: Some(Access::GroupWrite),
        summary: "Change a group of users",
        takes: Some(shape::<admin::UserGroupRequest>),
        gives: Gives::Json(shape::<admin::UserGroupView>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-FIELD-FIXED",
            "LS-GROUP-BUILTIN",
            "LS-EXISTS",
        ],
        handler: || patch(groups::update),
        ..PATCH
    },
    Operation {
        id: "group_delete",
        path: "/api/v1/groups/{id}",
        row: Some(Access::GroupWrite),
        summary: "Delete a group of users, and its part in access rules; a rehearsal answers 200 with the impact",
        codes: GROUP_CHANGED,
        handler: || delete(groups::remove),
        ..DELETE
    },
    Operation {
        id: "group_member_add",
        method: Verb::Put,
        path: "/api/v1/groups/{id}/members/{who}",
        row: Some(Access::GroupWrite),
        summary: "Put a user or service account into a group by hand",
        parameters: VERSIONED,
        gives: Gives::Json(shape::<admin::UserGroupView>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-GROUP-BUILTIN",
            "LS-INVALID",
        ],
        handler: || put(groups::add),
        ..READ
    },
    Operation {
        id: "group_member_remove",
        path: "/api/v1/groups/{id}/members/{who}",
        row: Some(Access::GroupWrite),
        summary: "Take the membership by hand away; one of another source stays",
        status: 200,
        gives: Gives::Json(shape::<admin::UserGroupView>),
        codes: GROUP_CHANGED,
        handler: || delete(groups::take),
        ..DELETE
    },
    Operation {
        id: "access_rules_list",
        path: "/api/v1/access-rules",
        row: Some(Access::AccessRead),
        summary: "Access rules",
        parameters: &[
            query("type", Holds::Texts, "Only on this type of object, or *."),
            query(
                "resource",
                Holds::Texts,
                "Only on this object, by id or name.",
            ),
            query(
                "subject",
                Holds::Texts,
                "Only those that name this one, by id or name.",
            ),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::AccessRuleView>),
        handler: || get(rules::list),
        ..LIST
    },
    Operation {
        id: "access_rule_read",
        path: "/api/v1/access-rules/{id}",
        row: Some(Access::AccessRead),
        summary: "One access rule",
        gives: Gives::Json(shape::<admin::AccessRuleView>),
        handler: || get(rules::read),
        ..READ
    },
    Operation {
        id: "access_rules_create",
        path: "/api/v1/access-rules",
        row: Some(Access::AccessWrite),
        summary: "Make an access rule",
        takes: Some(shape::<admin::AccessRuleRequest>),
        gives: Gives::Json(shape::<admin::AccessRuleView>),
        codes: &[],
        handler: || post(rules::create),
        ..CREATE
    },
    Operation {
        id: "access_rule_update",
        path: "/api/v1/access-rules/{id}",
        row: Some(Access::AccessWrite),
        summary: "Change an access rule",
        takes: Some(shape::<admin::AccessRuleRequest>),
        gives: Gives::Json(shape::<admin::AccessRuleView>),
        codes: &["LS-NOT-FOUND", "LS-VERSION-MISSING", "LS-VERSION-STALE"],
        handler: || patch(rules::update),
        ..PATCH
    },
    Operation {
        id: "access_rule_delete",
        path: "/api/v1/access-rules/{id}",
        row: Some(Access::AccessWrite),
        summary: "Delete an access rule; a rehearsal answers 200 with the impact",
        codes: &["LS-NOT-FOUND", "LS-VERSION-MISSING", "LS-VERSION-STALE"],
        handler: || delete(rules::remove),
        ..DELETE
    },
    Operation {
        id: "access_effective",
        path: "/api/v1/access/effective",
        row: Some(Access::AccessTest),
        summary: "What somebody has on an object, and through what",
        parameters: &[
            query(
                "subject",
                Holds::Text,
                "User or service account by id or name; absent: the caller.",
            ),
            query("type", Holds::Text, "project, session or queue. Required."),
            query("id", Holds::Text, "The object by id or name. Required."),
            query(
                "action",
                Holds::Text,
                "An operation, such as session.terminate: whether it is allowed.",
            ),
        ],
        gives: Gives::Json(shape::<admin::EffectiveAccess>),
        handler: || get(rules::test),
        ..READ
    },
    Operation {
        id: "service_accounts_list",
        path: "/api/v1/service-accounts",
        row: Some(Access::ServiceAccountWrite),
        summary: "Service accounts by name",
        parameters: &[
            NAME_HOLDS,
            DOMAIN,
            query("status", Holds::Texts, "active (default) or deleted."),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::ServiceAccountView>),
        handler: || get(accounts::list),
        ..LIST
    },
    Operation {
        id: "service_account_read",
        path: "/api/v1/service-accounts/{id}",
        row: Some(Access::ServiceAccountWrite),
        summary: "One service account, by id or name",
        gives: Gives::Json(shape::<admin::ServiceAccountView>),
        handler: || get(accounts::read),
        ..READ
    },
    Operation {
        id: "service_accounts_create",
        path: "/api/v1/service-accounts",
        row: Some(Access::ServiceAccountWrite),
        summary: "Make a service account with a first keypair, whose secret is shown this once",
        takes: Some(shape::<admin::ServiceAccountRequest>),
        gives: Gives::Json(shape::<admin::NewServiceAccountAnswer>),
        codes: &["LS-NOT-FOUND", "LS-EXISTS", "LS-KEYPAIR-EXISTS"],
        handler: || post(accounts::create),
        ..CREATE
    },
    Operation {
        id: "service_account_update",
        path: "/api/v1/service-accounts/{id}",
        row: Some(Access::ServiceAccountWrite),
        summary: "Change a service account",
        takes: Some(shape::<admin::ServiceAccountRequest>),
        gives: Gives::Json(shape::<admin::ServiceAccountView>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-FIELD-FIXED",
            "LS-EXISTS",
        ],
        handler: || patch(accounts::update),
        ..PATCH
    },
    Operation {
        id: "service_account_delete",
        path: "/api/v1/service-accounts/{id}",
        row: Some(Access::ServiceAccountWrite),
        summary: "Delete a service account and revoke its keypairs; a rehearsal answers 200 with the impact",
        parameters: &[
            query("sessions", Holds::Text, "stop (default) or keep."),
            DRY_RUN,
            IF_MATCH,
        ],
        codes: &["LS-NOT-FOUND", "LS-VERSION-MISSING", "LS-VERSION-STALE"],
        handler: || delete(accounts::remove),
        ..DELETE
    },
];
