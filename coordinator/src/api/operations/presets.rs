//! Presets.

use super::Access;
use super::parts::{
    CREATE, CURSOR, DELETE, GROUP, LIMIT, LIST, NAME_HOLDS, PATCH, READ, query, shape,
};
use super::{Gives, Holds, Operation};
use crate::api::admin::presets;
use axum::routing::{delete, get, patch, post};
use longshore_common::admin;

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "presets_list",
        path: "/api/v1/presets",
        row: Some(Access::PresetRead),
        summary: "Presets by name",
        parameters: &[NAME_HOLDS, GROUP, LIMIT, CURSOR],
        gives: Gives::Page(shape::<admin::PresetView>),
        handler: || get(presets::list),
        ..LIST
    },
    Operation {
        id: "presets_create",
        path: "/api/v1/presets",
        row: Some(Access::PresetWrite),
        summary: "Make a preset",
        takes: Some(shape::<admin::PresetRequest>),
        gives: Gives::Json(shape::<admin::PresetView>),
        codes: &[
            "LS-EXISTS",
            "LS-SLOT-UNKNOWN",
            "LS-SLOT-AMOUNT",
            "LS-SLOT-EXCLUSIVE",
        ],
        handler: || post(presets::create),
        ..CREATE
    },
    Operation {
        id: "presets_offered",
        path: "/api/v1/presets/offered",
        row: Some(Access::PresetRead),
        summary: "Presets of a group, and which could start now",
        parameters: &[
            query(
                "group",
                Holds::Text,
                "In which resource group; default the default one.",
            ),
            query(
                "project",
                Holds::Text,
                "In which project; default the first one.",
            ),
        ],
        gives: Gives::Page(shape::<admin::OfferedPreset>),
        handler: || get(presets::offered),
        ..READ
    },
    Operation {
        id: "preset_read",
        path: "/api/v1/presets/{id}",
        row: Some(Access::PresetRead),
        summary: "One preset, by id or name",
        gives: Gives::Json(shape::<admin::PresetView>),
        handler: || get(presets::read),
        ..READ
    },
    Operation {
        id: "preset_update",
        path: "/api/v1/presets/{id}",
        row: Some(Access::PresetWrite),
        summary: "Change a preset",
        takes: Some(shape::<admin::PresetRequest>),
        gives: Gives::Json(shape::<admin::PresetView>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-FIELD-FIXED",
            "LS-SLOT-UNKNOWN",
            "LS-SLOT-AMOUNT",
            "LS-SLOT-EXCLUSIVE",
        ],
        handler: || patch(presets::update),
        ..PATCH
    },
    Operation {
        id: "preset_delete",
        path: "/api/v1/presets/{id}",
        row: Some(Access::PresetWrite),
        summary: "Delete a preset",
        handler: || delete(presets::remove),
        ..DELETE
    },
];
