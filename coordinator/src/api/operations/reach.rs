//! Ways into a session beside commands and terminals: its apps and their ports.

use super::Access;
use super::parts::{ORDER, READ, REHEARSED, head, query, shape};
use super::{Gives, Holds, Operation};
use crate::api::apps;
use axum::routing::{get, post};
use longshore_common::api;

/// Sends a browser on to where the app lives.
const OPEN_IN_BROWSER: Operation = Operation {
    row: Some(Access::SessionReach),
    summary: "Sends a browser to the origin of one of its apps, with a code that is good once",
    codes: &[
        "LS-NOT-FOUND",
        "LS-STATE",
        "LS-APP-NOT-READY",
        "LS-READ-ONLY",
        "LS-IMPERSONATION",
    ],
    handler: || get(apps::open),
    ..READ
};

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "session_apps",
        path: "/api/v1/sessions/{id}/apps",
        row: Some(Access::SessionRead),
        summary: "Its apps, and whether they can be tried",
        gives: Gives::Json(shape::<api::SessionApps>),
        handler: || get(apps::list),
        ..READ
    },
    Operation {
        id: "session_app_access",
        path: "/api/v1/sessions/{id}/apps/{app}/access",
        row: Some(Access::SessionReach),
        summary: "How one of its apps is reached",
        parameters: REHEARSED,
        gives: Gives::Json(shape::<api::AppAccess>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-STATE",
            "LS-READ-ONLY",
            "LS-IMPERSONATION",
        ],
        handler: || post(apps::access),
        ..ORDER
    },
    Operation {
        id: "session_app_open",
        path: "/s/{id}/{app}/",
        status: 303,
        ..OPEN_IN_BROWSER
    },
    Operation {
        id: "session_app_open_at",
        path: "/s/{id}/{app}/{*rest}",
        status: 303,
        ..OPEN_IN_BROWSER
    },
    Operation {
        id: "session_forward",
        path: "/api/v1/sessions/{id}/forward",
        row: Some(Access::SessionReach),
        summary: "One connection to a port it declares, by WebSocket; docs/api.md has the channels",
        parameters: &[
            query("rank", Holds::Text, "Which container; default main1."),
            query(
                "port",
                Holds::Number(1, 65_535),
                "One of the ports it declares. Required.",
            ),
            head("Sec-WebSocket-Protocol", "longshore.v1"),
        ],
        status: 101,
        codes: &[
            "LS-NOT-FOUND",
            "LS-STATE",
            "LS-PORT",
            "LS-CSRF",
            "LS-INVALID",
            "LS-STREAMS",
            "LS-WEBSOCKET",
            "LS-APP-NOT-READY",
            "LS-AGENT-UNREACHABLE",
        ],
        handler: || get(apps::forward),
        ..READ
    },
];
