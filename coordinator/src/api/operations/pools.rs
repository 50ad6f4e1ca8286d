//! Pools, profiles, allocation policies and queues.

use super::Access;
use super::parts::{
    ACT, CURSOR, DRY_RUN, LIMIT, LIST, PAGED, PATCH, READ, REHEARSED, VERSIONED, head, query, shape,
};
use super::{Gives, Holds, Operation, Verb};
use crate::api::admin::config;
use axum::routing::{get, patch, post, put};
use longshore_common::{admin, api};

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "resource_config_read",
        path: "/api/v1/resource-config",
        row: Some(Access::ResourceConfigRead),
        summary: "Pools, profiles and allocation policies as they are live",
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        codes: &[],
        handler: || get(config::live),
        ..READ
    },
    Operation {
        id: "resource_config_versions",
        path: "/api/v1/resource-config/versions",
        row: Some(Access::ResourceConfigRead),
        summary: "Versions of the document that are or were live, the newest first",
        parameters: PAGED,
        gives: Gives::Page(shape::<admin::ConfigVersionView>),
        codes: &["LS-CURSOR"],
        handler: || get(config::versions),
        ..LIST
    },
    Operation {
        id: "resource_config_version_read",
        path: "/api/v1/resource-config/versions/{id}",
        row: Some(Access::ResourceConfigRead),
        summary: "A version that is or was live, by its number",
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        handler: || get(config::version),
        ..READ
    },
    Operation {
        id: "resource_config_draft_read",
        path: "/api/v1/resource-config/draft",
        row: Some(Access::ResourceConfigWrite),
        summary: "The document that is being prepared",
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        codes: &[],
        handler: || get(config::draft),
        ..READ
    },
    Operation {
        id: "resource_config_draft_write",
        method: Verb::Put,
        path: "/api/v1/resource-config/draft",
        row: Some(Access::ResourceConfigWrite),
        summary: "Save the draft",
        parameters: VERSIONED,
        takes: Some(shape::<admin::ResourceConfigRequest>),
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        codes: &[
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-FIELD-FIXED",
            "LS-SLOT-UNKNOWN",
            "LS-SLOT-AMOUNT",
            "LS-SLOT-EXCLUSIVE",
        ],
        handler: || put(config::save),
        ..ACT
    },
    Operation {
        id: "resource_config_draft_validate",
        path: "/api/v1/resource-config/draft/validate",
        row: Some(Access::ResourceConfigWrite),
        summary: "Say what is wrong with the saved draft, and what provisioning would do",
        gives: Gives::Json(shape::<admin::ConfigVerdict>),
        codes: &[],
        handler: || post(config::validate),
        ..ACT
    },
    Operation {
        id: "resource_config_draft_reset",
        path: "/api/v1/resource-config/draft/reset",
        row: Some(Access::ResourceConfigWrite),
        summary: "Make the draft equal to what is live",
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        codes: &["LS-VERSION-STALE"],
        handler: || post(config::reset),
        ..ACT
    },
    Operation {
        id: "resource_config_draft_load",
        path: "/api/v1/resource-config/draft/load",
        row: Some(Access::ResourceConfigWrite),
        summary: "Make the draft equal to a version that was live",
        takes: Some(shape::<admin::LoadRequest>),
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE"],
        handler: || post(config::load),
        ..ACT
    },
    Operation {
        id: "resource_config_provision",
        path: "/api/v1/resource-config/provision",
        row: Some(Access::ResourceConfigWrite),
        summary: "Make the draft live",
        parameters: &[
            DRY_RUN,
            head(
                "If-Match",
                "ETag of the draft as it was read, or *. Not required.",
            ),
        ],
        takes: Some(shape::<admin::ProvisionRequest>),
        gives: Gives::Json(shape::<admin::ConfigVerdict>),
        codes: &["LS-CONFIG-STALE", "LS-CONFIG-INVALID", "LS-VERSION-STALE"],
        handler: || post(config::provision),
        ..ACT
    },
    Operation {
        id: "resource_config_enabled_write",
        method: Verb::Put,
        path: "/api/v1/resource-config/enabled",
        row: Some(Access::ResourceConfigWrite),
        summary: "Serve queues, or let them rest",
        takes: Some(shape::<admin::ConfigSwitch>),
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        codes: &[],
        handler: || put(config::switch),
        ..ACT
    },
    Operation {
        id: "queues_list",
        path: "/api/v1/queues",
        row: Some(Access::QueueRead),
        summary: "Queues by name; others than superadmins see those they may use",
        parameters: &[
            query("name", Holds::Texts, "Only of this name."),
            query("policy", Holds::Texts, "Only of this allocation policy."),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::QueueView>),
        handler: || get(config::list),
        ..LIST
    },
    Operation {
        id: "queue_read",
        path: "/api/v1/queues/{id}",
        row: Some(Access::QueueRead),
        summary: "One queue, by name",
        gives: Gives::Json(shape::<admin::QueueView>),
        handler: || get(config::read),
        ..READ
    },
    Operation {
        id: "queue_update",
        path: "/api/v1/queues/{id}",
        row: Some(Access::QueueRename),
        summary: "Rename a queue",
        parameters: REHEARSED,
        takes: Some(shape::<admin::QueuePatch>),
        gives: Gives::Json(shape::<admin::QueueView>),
        codes: &["LS-NOT-FOUND", "LS-EXISTS"],
        handler: || patch(config::rename),
        ..PATCH
    },
    Operation {
        id: "queue_pending",
        path: "/api/v1/queues/{id}/pending",
        row: Some(Access::QueueRead),
        summary: "Who waits in it, in its order",
        parameters: PAGED,
        gives: Gives::Page(shape::<api::Session>),
        codes: &["LS-NOT-FOUND", "LS-CURSOR"],
        handler: || get(config::pending),
        ..LIST
    },
];
