//! Tables, and the audit of use.

use super::Access;
use super::parts::{ACT, READ, query, shape};
use super::{Gives, Holds, Operation};
use crate::api::admin::exports;
use axum::routing::{get, post};
use longshore_common::admin;

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "export_read",
        path: "/api/v1/exports/{id}",
        row: Some(Access::ExportCsv),
        summary: "A table as CSV: users, keypairs, keypair-policies, user-policies or project-policies",
        parameters: &[
            query(
                "columns",
                Holds::Text,
                "Only these columns, with commas between.",
            ),
            query("filename", Holds::Text, "Name of the file."),
        ],
        gives: Gives::Plain("text/csv"),
        handler: || get(exports::read),
        ..READ
    },
    Operation {
        id: "usage_audit_run",
        path: "/api/v1/usage-audit",
        row: Some(Access::UsageAuditRun),
        summary: "Compare the books with what connected agents report",
        takes: Some(shape::<admin::UsageAuditRequest>),
        gives: Gives::Json(shape::<admin::UsageAuditView>),
        codes: &[],
        handler: || post(exports::audit),
        ..ACT
    },
];
