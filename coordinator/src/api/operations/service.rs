//! The process itself, its documents, the first administrator, and who calls.

use super::parts::{OPEN, ORDER, READ, shape};
use super::{Gives, Operation, Who};
use crate::api::service;
use axum::routing::{get, post};
use longshore_common::api;

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "health_read",
        path: "/healthz",
        row: "health.read",
        summary: "Whether the process answers",
        gives: Gives::Plain("text/plain"),
        handler: || get(service::healthz),
        ..OPEN
    },
    Operation {
        id: "readiness_read",
        path: "/readyz",
        row: "health.read",
        summary: "Whether the coordinator can work; 503 with the same body when not",
        gives: Gives::Json(shape::<api::Readiness>),
        handler: || get(service::readyz),
        ..OPEN
    },
    Operation {
        id: "version_read",
        path: "/version",
        row: "health.read",
        summary: "Versions of the coordinator",
        gives: Gives::Json(shape::<api::Version>),
        handler: || get(service::version),
        ..OPEN
    },
    Operation {
        id: "authority_read",
        path: "/ca.pem",
        row: "health.read",
        summary: "The certificate of the installation's own authority",
        gives: Gives::Plain("application/x-pem-file"),
        handler: || get(service::ca_pem),
        ..OPEN
    },
    Operation {
        id: "help_read",
        path: "/help/{code}",
        row: "health.read",
        summary: "One error code explained",
        gives: Gives::Plain("text/plain"),
        codes: &["LS-NOT-FOUND"],
        handler: || get(service::help),
        ..OPEN
    },
    Operation {
        id: "openapi_read",
        path: "/api/v1/openapi.json",
        row: "openapi.read",
        summary: "This document",
        gives: Gives::Object,
        handler: || get(service::document),
        ..OPEN
    },
    Operation {
        id: "setup_use",
        path: "/api/v1/setup",
        row: "setup.use",
        who: Who::Anon,
        summary: "Make the first administrator",
        takes: Some(shape::<api::SetupRequest>),
        status: 201,
        gives: Gives::Json(shape::<api::SetupAnswer>),
        codes: &["LS-NOT-FOUND", "LS-LINK-GONE"],
        handler: || post(service::setup),
        ..ORDER
    },
    Operation {
        id: "me_read",
        path: "/api/v1/me",
        row: "me.read",
        summary: "Who calls",
        gives: Gives::Json(shape::<api::Me>),
        codes: &[],
        handler: || get(service::me),
        ..READ
    },
];
