//! Keypairs.

use super::Access;
use super::parts::{ACT, CREATE, CURSOR, LIMIT, LIST, PATCH, READ, REHEARSED, query, shape};
use super::{Gives, Holds, Operation, Verb};
use crate::api::admin::tenants::keypairs;
use axum::routing::{delete, get, patch, post};
use longshore_common::admin;

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "keypairs_list",
        path: "/api/v1/keypairs",
        row: Some(Access::KeypairRead),
        own: Some(Access::MeKeypairs),
        summary: "Keypairs; users see their own",
        parameters: &[
            query(
                "user",
                Holds::Texts,
                "Only of this person, by login name, address or id.",
            ),
            query(
                "state",
                Holds::Texts,
                "active, inactive or revoked; without it active ones.",
            ),
            query("policy", Holds::Texts, "Only with this keypair policy."),
            query(
                "label",
                Holds::Texts,
                "Only those whose label holds this text.",
            ),
            query(
                "project",
                Holds::Texts,
                "Only those that are good for this project alone.",
            ),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::KeypairView>),
        handler: || get(keypairs::list),
        ..LIST
    },
    Operation {
        id: "keypairs_create",
        path: "/api/v1/keypairs",
        row: Some(Access::KeypairCreate),
        own: Some(Access::MeKeypairs),
        summary: "Make a further keypair, whose secret is shown this once, or take one over",
        takes: Some(shape::<admin::NewKeypair>),
        gives: Gives::Json(shape::<admin::NewKeypairAnswer>),
        codes: &["LS-NOT-FOUND", "LS-KEYPAIR-EXISTS", "LS-VERSION-STALE"],
        handler: || post(keypairs::create),
        ..CREATE
    },
    Operation {
        id: "keypair_read",
        path: "/api/v1/keypairs/{id}",
        row: Some(Access::KeypairRead),
        own: Some(Access::MeKeypairs),
        summary: "One keypair, by its access key",
        gives: Gives::Json(shape::<admin::KeypairView>),
        handler: || get(keypairs::read),
        ..READ
    },
    Operation {
        id: "keypair_update",
        path: "/api/v1/keypairs/{id}",
        row: Some(Access::KeypairPolicy),
        own: Some(Access::MeKeypairs),
        summary: "Change the label of a keypair; superadmins: policy, rate limit and end too",
        parameters: REHEARSED,
        takes: Some(shape::<admin::KeypairPatch>),
        gives: Gives::Json(shape::<admin::KeypairView>),
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE", "LS-KEYPAIR-STATE"],
        handler: || patch(keypairs::update),
        ..PATCH
    },
    Operation {
        id: "keypair_activate",
        path: "/api/v1/keypairs/{id}/activate",
        row: Some(Access::KeypairState),
        summary: "Switch a keypair on",
        gives: Gives::Json(shape::<admin::KeypairView>),
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE", "LS-KEYPAIR-STATE"],
        handler: || post(keypairs::activate),
        ..ACT
    },
    Operation {
        id: "keypair_deactivate",
        path: "/api/v1/keypairs/{id}/deactivate",
        row: Some(Access::KeypairState),
        own: Some(Access::MeKeypairs),
        summary: "Switch a keypair off",
        gives: Gives::Json(shape::<admin::KeypairView>),
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE", "LS-KEYPAIR-STATE"],
        handler: || post(keypairs::deactivate),
        ..ACT
    },
    Operation {
        id: "keypair_rotate",
        path: "/api/v1/keypairs/{id}/rotate",
        row: Some(Access::KeypairRotate),
        own: Some(Access::MeKeypairs),
        summary: "Give a keypair a new secret, which is shown this once",
        takes: Some(shape::<admin::RotateRequest>),
        gives: Gives::Json(shape::<admin::NewKeypairAnswer>),
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE", "LS-KEYPAIR-STATE"],
        handler: || post(keypairs::rotate),
        ..ACT
    },
    Operation {
        id: "keypair_revoke",
        path: "/api/v1/keypairs/{id}/revoke",
        row: Some(Access::KeypairDelete),
        own: Some(Access::MeKeypairs),
        summary: "Make a keypair open nothing ever again",
        gives: Gives::Json(shape::<admin::KeypairView>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-STALE",
            "LS-KEYPAIR-STATE",
            "LS-KEYPAIR-MAIN",
        ],
        handler: || post(keypairs::revoke),
        ..ACT
    },
    Operation {
        id: "keypair_delete",
        method: Verb::Delete,
        path: "/api/v1/keypairs/{id}",
        row: Some(Access::KeypairDelete),
        summary: "Delete a keypair that is switched off and owns no live session",
        status: 204,
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-STALE",
            "LS-KEYPAIR-MAIN",
            "LS-KEYPAIR-ACTIVE",
            "LS-KEYPAIR-IN-USE",
        ],
        handler: || delete(keypairs::delete),
        ..ACT
    },
];
