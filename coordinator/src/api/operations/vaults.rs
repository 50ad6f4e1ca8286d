//! Vaults, and the configuration that comes of them.

use super::parts::{
    ACT, CREATE, CURSOR, DELETE, LIMIT, LIST, NAME_HOLDS, PATCH, READ, VERSIONED, query, shape,
};
use super::{Access, Gives, Holds, Operation, Parameter, Verb};
use crate::api::admin::vaults::{merged, own, shared};
use axum::routing::{delete, get, patch, post, put};
use longshore_common::admin;

const REVEAL: Parameter = query(
    "reveal",
    Holds::Flag,
    "Show what is secret; recorded. A login of the console may be at most 15 minutes old.",
);
const KEY: Parameter = query(
    "key",
    Holds::Text,
    "A path, such as environment.STAGE. Required.",
);
const AGENT: Parameter = query(
    "agent",
    Holds::Text,
    "A node by its name or id, of a group that is open to one: what sessions on it get. Not together with session.",
);
const SESSION: Parameter = query(
    "session",
    Holds::Text,
    "A session that has not ended: what its present attempt was given.",
);

const REVEALED: &[&str] = &["LS-NOT-FOUND", "LS-REAUTH", "LS-SECRETS-LOCKED"];

const SAVED: &[&str] = &[
    "LS-NOT-FOUND",
    "LS-VERSION-MISSING",
    "LS-VERSION-STALE",
    "LS-INVALID",
    "LS-EXISTS",
    "LS-VAULT-SIZE",
    "LS-VAULT-SYNTAX",
    "LS-VAULT-MASKED",
    "LS-VAULT-FORBIDDEN-KEY",
    "LS-VAULT-TYPE",
    "LS-VAULT-ENV",
    "LS-VAULT-FILE",
    "LS-SECRETS-LOCKED",
];

const VAULT: Operation = Operation {
    parameters: &[REVEAL],
    gives: Gives::Json(shape::<admin::VaultView>),
    codes: REVEALED,
    ..READ
};

const SAVE: Operation = Operation {
    method: Verb::Put,
    parameters: VERSIONED,
    takes: Some(shape::<admin::VaultRequest>),
    gives: Gives::Json(shape::<admin::VaultView>),
    codes: SAVED,
    ..READ
};

const CHANGE: Operation = Operation {
    takes: Some(shape::<admin::VaultRequest>),
    gives: Gives::Json(shape::<admin::VaultView>),
    codes: SAVED,
    ..PATCH
};

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "me_vault_read",
        path: "/api/v1/me/vault",
        row: Some(Access::MeVault),
        summary: "One's own vault; one that was never saved is empty and switched off",
        handler: || get(own::mine),
        ..VAULT
    },
    Operation {
        id: "me_vault_save",
        path: "/api/v1/me/vault",
        row: Some(Access::MeVault),
        summary: "Save one's own vault; what is said beside the document may be left out",
        handler: || put(own::put_mine),
        ..SAVE
    },
    Operation {
        id: "me_vault_update",
        path: "/api/v1/me/vault",
        row: Some(Access::MeVault),
        summary: "Switch one's own vault on or off, or change part of what it is",
        handler: || patch(own::patch_mine),
        ..CHANGE
    },
    Operation {
        id: "user_vault_update",
        path: "/api/v1/users/{id}/vault",
        row: Some(Access::UserVault),
        summary: "Switch somebody's vault off (enabled false) or empty it (content empty)",
        handler: || patch(own::patch_person),
        ..CHANGE
    },
    Operation {
        id: "service_account_vault_read",
        path: "/api/v1/service-accounts/{id}/vault",
        row: Some(Access::ServiceAccountWrite),
        summary: "The vault of a service account, and beside it the vaults of administrators that reach it",
        handler: || get(own::of_account),
        ..VAULT
    },
    Operation {
        id: "service_account_vault_save",
        path: "/api/v1/service-accounts/{id}/vault",
        row: Some(Access::ServiceAccountWrite),
        summary: "Save the vault of a service account",
        handler: || put(own::put_account),
        ..SAVE
    },
    Operation {
        id: "service_account_vault_update",
        path: "/api/v1/service-accounts/{id}/vault",
        row: Some(Access::ServiceAccountWrite),
        summary: "Switch the vault of a service account on or off, or change part of what it is",
        handler: || patch(own::patch_account),
        ..CHANGE
    },
    Operation {
        id: "vaults_list",
        path: "/api/v1/vaults",
        row: Some(Access::VaultRead),
        summary: "Vaults of administrators by name, without what they hold",
        parameters: &[
            NAME_HOLDS,
            query(
                "group",
                Holds::Texts,
                "Only those that reach this group of users, by name or id.",
            ),
            query(
                "enabled",
                Holds::Flag,
                "Only those that are switched on, or off.",
            ),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::VaultView>),
        handler: || get(shared::list),
        ..LIST
    },
    Operation {
        id: "vaults_create",
        path: "/api/v1/vaults",
        row: Some(Access::VaultWrite),
        summary: "Make a vault for groups of users",
        takes: Some(shape::<admin::VaultRequest>),
        gives: Gives::Json(shape::<admin::VaultView>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-INVALID",
            "LS-EXISTS",
            "LS-VAULT-SIZE",
            "LS-VAULT-SYNTAX",
            "LS-VAULT-MASKED",
            "LS-VAULT-FORBIDDEN-KEY",
            "LS-VAULT-TYPE",
            "LS-VAULT-ENV",
            "LS-VAULT-FILE",
            "LS-SECRETS-LOCKED",
        ],
        handler: || post(shared::create),
        ..CREATE
    },
    Operation {
        id: "vaults_check",
        path: "/api/v1/vaults/check",
        row: Some(Access::MeVault),
        summary: "Look at a text as if it were saved as a vault; nothing is stored",
        takes: Some(shape::<admin::VaultCheckRequest>),
        gives: Gives::Json(shape::<admin::VaultChecked>),
        codes: &[
            "LS-INVALID",
            "LS-VAULT-SIZE",
            "LS-VAULT-SYNTAX",
            "LS-VAULT-MASKED",
            "LS-VAULT-FORBIDDEN-KEY",
            "LS-VAULT-TYPE",
            "LS-VAULT-ENV",
            "LS-VAULT-FILE",
        ],
        handler: || post(shared::check),
        ..ACT
    },
    Operation {
        id: "vault_read",
        path: "/api/v1/vaults/{id}",
        row: Some(Access::VaultRead),
        summary: "One vault of administrators, by id or name",
        handler: || get(shared::read),
        ..VAULT
    },
    Operation {
        id: "vault_save",
        path: "/api/v1/vaults/{id}",
        row: Some(Access::VaultWrite),
        summary: "Save the document of a vault; what is said beside it may be left out",
        handler: || put(shared::put),
        ..SAVE
    },
    Operation {
        id: "vault_update",
        path: "/api/v1/vaults/{id}",
        row: Some(Access::VaultWrite),
        summary: "Change a vault, or switch it on or off",
        handler: || patch(shared::patch),
        ..CHANGE
    },
    Operation {
        id: "vault_delete",
        path: "/api/v1/vaults/{id}",
        row: Some(Access::VaultWrite),
        summary: "Delete a vault; a rehearsal answers 200 with the impact",
        codes: &["LS-NOT-FOUND", "LS-VERSION-MISSING", "LS-VERSION-STALE"],
        handler: || delete(shared::remove),
        ..DELETE
    },
    Operation {
        id: "vault_download",
        path: "/api/v1/vaults/{id}/content",
        row: Some(Access::VaultRead),
        summary: "The document of a vault as a file; recorded",
        parameters: &[REVEAL],
        gives: Gives::Plain("text/plain"),
        codes: REVEALED,
        handler: || get(shared::download),
        ..READ
    },
    Operation {
        id: "me_config_read",
        path: "/api/v1/me/config",
        row: Some(Access::MeVault),
        summary: "What one's sessions get beside what is asked for them, and where it comes from",
        parameters: &[AGENT, SESSION, REVEAL],
        gives: Gives::Json(shape::<admin::ConfigView>),
        codes: &["LS-NOT-FOUND", "LS-STATE", "LS-REAUTH"],
        handler: || get(merged::mine),
        ..READ
    },
    Operation {
        id: "me_config_explain",
        path: "/api/v1/me/config/explain",
        row: Some(Access::MeVault),
        summary: "Where one value of it comes from, and what it stands before",
        parameters: &[KEY, AGENT, SESSION, REVEAL],
        gives: Gives::Json(shape::<admin::ConfigLeaf>),
        codes: &["LS-NOT-FOUND", "LS-STATE", "LS-REAUTH", "LS-SECRETS-LOCKED"],
        handler: || get(merged::explain_mine),
        ..READ
    },
    Operation {
        id: "user_config_read",
        path: "/api/v1/users/{id}/config",
        row: Some(Access::UserConfig),
        summary: "What somebody's sessions get, masked",
        parameters: &[AGENT, SESSION, REVEAL],
        gives: Gives::Json(shape::<admin::ConfigView>),
        codes: &["LS-NOT-FOUND", "LS-STATE", "LS-REAUTH"],
        handler: || get(merged::of_person),
        ..READ
    },
    Operation {
        id: "user_config_explain",
        path: "/api/v1/users/{id}/config/explain",
        row: Some(Access::UserConfig),
        summary: "Where one value of somebody's sessions comes from, masked",
        parameters: &[KEY, AGENT, SESSION, REVEAL],
        gives: Gives::Json(shape::<admin::ConfigLeaf>),
        codes: &["LS-NOT-FOUND", "LS-STATE", "LS-REAUTH"],
        handler: || get(merged::explain_person),
        ..READ
    },
];
