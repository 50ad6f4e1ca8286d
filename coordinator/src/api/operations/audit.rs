//! The audit log.

use super::Access;
use super::parts::{CURSOR, LIMIT, READ, query, shape};
use super::{Gives, Holds, Operation};
use crate::api::audit;
use axum::routing::get;
use longshore_common::audit::{AuditRecord, AuditVerdict};

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "audit_list",
        path: "/api/v1/audit",
        row: Some(Access::AuditRead),
        summary: "Who did what, newest first; as jsonl or csv all of it, oldest first",
        parameters: &[
            query(
                "actor",
                Holds::Texts,
                "Only by this person or agent, by id or name; system and local are actors too.",
            ),
            query("operation", Holds::Texts, "Only this operation."),
            query(
                "target",
                Holds::Texts,
                "Only about this thing, by id; people, agents and groups also by name.",
            ),
            query("outcome", Holds::Texts, "Only ok, refused or failed."),
            query("from", Holds::Text, "Not before this time (RFC 3339)."),
            query("to", Holds::Text, "Before this time (RFC 3339)."),
            query(
                "format",
                Holds::Text,
                "json (default), or jsonl or csv: a file without pages.",
            ),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<AuditRecord>),
        codes: &["LS-CURSOR", "LS-AUDIT", "LS-DISK-LOW"],
        handler: || get(audit::list),
        ..READ
    },
    Operation {
        id: "audit_read",
        path: "/api/v1/audit/{id}",
        row: Some(Access::AuditRead),
        summary: "One record, by its number",
        gives: Gives::Json(shape::<AuditRecord>),
        handler: || get(audit::read),
        ..READ
    },
    Operation {
        id: "audit_verify",
        path: "/api/v1/audit/verify",
        row: Some(Access::AuditRead),
        summary: "Whether the audit log is whole",
        gives: Gives::Json(shape::<AuditVerdict>),
        codes: &[],
        handler: || get(audit::verify),
        ..READ
    },
];
