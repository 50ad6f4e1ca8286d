//! The configuration.

use super::Access;
use super::parts::{ACT, DRY_RUN, IF_MATCH, PATCH, READ, shape};
use super::{Gives, Operation};
use crate::api::admin::settings;
use axum::routing::{get, patch, post};
use longshore_common::settings::{Settings, SettingsPatch};

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "settings_read",
        path: "/api/v1/settings",
        row: Some(Access::SettingsRead),
        summary: "Every key of the configuration: what holds, what set it, when a change acts",
        gives: Gives::Json(shape::<Settings>),
        codes: &[],
        handler: || get(settings::read),
        ..READ
    },
    Operation {
        id: "settings_update",
        path: "/api/v1/settings",
        row: Some(Access::SettingsWrite),
        summary: "Store settings over the files of the configuration; they act at once",
        parameters: &[DRY_RUN, IF_MATCH],
        takes: Some(shape::<SettingsPatch>),
        gives: Gives::Json(shape::<Settings>),
        codes: &["LS-VERSION-MISSING", "LS-VERSION-STALE", "LS-SETTING"],
        handler: || patch(settings::patch),
        ..PATCH
    },
    Operation {
        id: "settings_reload",
        path: "/api/v1/settings/reload",
        row: Some(Access::SettingsWrite),
        summary: "Read the configuration again, all of it or nothing",
        gives: Gives::Json(shape::<Settings>),
        codes: &["LS-SETTING"],
        handler: || post(settings::reload),
        ..ACT
    },
];
