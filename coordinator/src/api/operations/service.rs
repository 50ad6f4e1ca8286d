//! The process itself, its documents, the first administrator, and who calls.

use super::Access;
use super::parts::{OPEN, ORDER, READ, REHEARSED, query, shape};
use super::{Gives, Holds, Operation};
use crate::api::{actions, metrics, service};
use axum::routing::{get, post};
use longshore_common::api;

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "health_read",
        path: "/healthz",
        row: Some(Access::HealthRead),
        summary: "Whether the process answers",
        gives: Gives::Plain("text/plain"),
        handler: || get(service::healthz),
        ..OPEN
    },
    Operation {
        id: "readiness_read",
        path: "/readyz",
        row: Some(Access::HealthRead),
        summary: "Whether the coordinator can work; 503 with the same body when not",
        gives: Gives::Json(shape::<api::Readiness>),
        handler: || get(service::readyz),
        ..OPEN
    },
    Operation {
        id: "version_read",
        path: "/version",
        row: Some(Access::HealthRead),
        summary: "Versions of the coordinator",
        gives: Gives::Json(shape::<api::Version>),
        handler: || get(service::version),
        ..OPEN
    },
    Operation {
        id: "authority_read",
        path: "/ca.pem",
        row: Some(Access::HealthRead),
        summary: "The certificate of the installation's own authority",
        gives: Gives::Plain("application/x-pem-file"),
        handler: || get(service::ca_pem),
        ..OPEN
    },
    Operation {
        id: "help_read",
        path: "/help/{code}",
        row: Some(Access::HealthRead),
        summary: "One error code explained",
        gives: Gives::Plain("text/plain"),
        codes: &["LS-NOT-FOUND"],
        handler: || get(service::help),
        ..OPEN
    },
    Operation {
        id: "metrics_read",
        path: "/metrics",
        row: Some(Access::MetricsRead),
        summary: "Figures for Prometheus, in its text format; 404 where services.metrics.enabled is false",
        gives: Gives::Plain("text/plain"),
        handler: || get(metrics::read),
        ..READ
    },
    Operation {
        id: "openapi_read",
        path: "/api/v1/openapi.json",
        row: Some(Access::OpenapiRead),
        summary: "This document",
        gives: Gives::Object,
        handler: || get(service::document),
        ..OPEN
    },
    Operation {
        id: "watchdog_read",
        path: "/api/v1/watchdog",
        row: Some(Access::WatchdogRead),
        summary: "What stops sessions without a sign of life: its cycles, and what it stopped",
        gives: Gives::Json(shape::<api::Watchdog>),
        codes: &[],
        handler: || get(service::watchdog),
        ..READ
    },
    Operation {
        id: "actions_list",
        path: "/api/v1/actions",
        row: Some(Access::ActionRead),
        summary: "Custom actions for objects of one type",
        parameters: &[query(
            "type",
            Holds::Text,
            "project, session, model, folder, agent or queue.",
        )],
        gives: Gives::Json(shape::<api::Actions>),
        codes: &[],
        handler: || get(actions::list),
        ..READ
    },
    Operation {
        id: "action_run",
        path: "/api/v1/actions/run",
        row: Some(Access::ActionRun),
        summary: "Have a custom action called about one object",
        parameters: REHEARSED,
        takes: Some(shape::<api::RunAction>),
        gives: Gives::Json(shape::<api::ActionResult>),
        codes: &["LS-NOT-FOUND", "LS-UPSTREAM", "LS-UPSTREAM-TIMEOUT"],
        handler: || post(actions::run),
        ..ORDER
    },
    Operation {
        id: "setup_use",
        path: "/api/v1/setup",
        row: Some(Access::SetupUse),
        summary: "Make the first administrator",
        takes: Some(shape::<api::SetupRequest>),
        status: 201,
        gives: Gives::Json(shape::<api::SetupAnswer>),
        codes: &["LS-NOT-FOUND", "LS-LINK-GONE"],
        handler: || post(service::setup),
        ..ORDER
    },
];
