//! The configuration.

use super::Access;
use super::parts::{ACT, DRY_RUN, IF_MATCH, PATCH, READ, shape};
use super::{Gives, Operation, Verb};
use crate::api::admin::settings;
use axum::routing::{get, patch, post, put};
use longshore_common::settings::{NewRedaction, Redaction, Settings, SettingsPatch};

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
        codes: &[
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-SETTING",
            "LS-SECRETS-LOCKED",
        ],
        handler: || patch(settings::patch),
        ..PATCH
    },
    Operation {
        id: "redaction_read",
        path: "/api/v1/settings/redaction",
        row: Some(Access::SettingsRead),
        summary: "Variables whose values nobody is shown",
        gives: Gives::Json(shape::<Redaction>),
        codes: &[],
        handler: || get(settings::read_redaction),
        ..READ
    },
    Operation {
        id: "redaction_replace",
        method: Verb::Put,
        path: "/api/v1/settings/redaction",
        row: Some(Access::SettingsWrite),
        summary: "Store another list of variables whose values nobody is shown; it acts at once",
        parameters: &[DRY_RUN, IF_MATCH],
        takes: Some(shape::<NewRedaction>),
        gives: Gives::Json(shape::<Redaction>),
        codes: &["LS-VERSION-MISSING", "LS-VERSION-STALE", "LS-SETTING"],
        handler: || put(settings::put_redaction),
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
