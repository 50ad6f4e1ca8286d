//! Tables, and the audit of use.

use super::Access;
use super::Parameter;
use super::parts::{ACT, READ, query, shape};
use super::{Gives, Holds, Operation};
use crate::api::admin::exports;
use crate::api::reports;
use axum::routing::{get, post};
use longshore_common::admin;
use longshore_common::api;

const BY: Parameter = query(
    "by",
    Holds::Text,
    "user (default), project, domain, group, model, session, day, month or total.",
);
const SINCE: Parameter = query(
    "since",
    Holds::Text,
    "What was used from this instant, day or month (2026-11) on.",
);
const UNTIL: Parameter = query("until", Holds::Text, "What was used before it.");
const USER: Parameter = query(
    "user",
    Holds::Text,
    "Only of this person, by name or id; me = the caller.",
);
const PROJECT: Parameter = query(
    "project",
    Holds::Text,
    "Only in this project, by name or id.",
);
const DOMAIN: Parameter = query("domain", Holds::Text, "Only in this domain, by name or id.");
const OF_GROUP: Parameter = query(
    "group",
    Holds::Text,
    "Only in this resource group, by name or id.",
);
const SESSION: Parameter = query("session", Holds::Text, "Only of this session, by id.");

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "usage_read",
        path: "/api/v1/usage",
        row: Some(Access::UsageRead),
        summary: "Accelerator and other hours allocated, used and held, summed up",
        parameters: &[BY, SINCE, UNTIL, USER, PROJECT, DOMAIN, OF_GROUP, SESSION],
        gives: Gives::Json(shape::<api::UsageSummary>),
        codes: &[],
        handler: || get(reports::usage),
        ..READ
    },
    Operation {
        id: "usage_summary",
        path: "/api/v1/usage/summary",
        row: Some(Access::UsageRead),
        summary: "The same by month, as long as nothing else is said",
        parameters: &[BY, SINCE, UNTIL, USER, PROJECT, DOMAIN, OF_GROUP, SESSION],
        gives: Gives::Json(shape::<api::UsageSummary>),
        codes: &[],
        handler: || get(reports::summary),
        ..READ
    },
    Operation {
        id: "export_read",
        path: "/api/v1/exports/{id}",
        row: Some(Access::ExportCsv),
        summary: "A table as CSV: users, keypairs, keypair-policies, user-policies, project-policies, sessions or usage",
        parameters: &[
            query("state", Holds::Texts, "Of sessions: only in this state."),
            query("type", Holds::Texts, "Of sessions: only of this type."),
            query(
                "group",
                Holds::Texts,
                "Of sessions and usage: only of this resource group.",
            ),
            query(
                "owner",
                Holds::Text,
                "Of sessions: only of this person; me = the caller.",
            ),
            query(
                "scope",
                Holds::Text,
                "Of sessions: mine, project or all (default), as in their list.",
            ),
            query(
                "ended",
                Holds::Flag,
                "Of sessions: those that have ended too; default true.",
            ),
            SINCE,
            UNTIL,
            USER,
            PROJECT,
            DOMAIN,
            SESSION,
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
