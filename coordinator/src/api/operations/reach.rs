//! Ways into a session beside commands and terminals: its apps and their ports.

use super::Access;
use super::parts::{ORDER, READ, REHEARSED, head, query, shape};
use super::{Gives, Holds, Operation, Parameter, Verb};
use crate::api::{apps, files};
use axum::routing::{get, post, put};
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

const FILE_PATH: Parameter = query(
    "path",
    Holds::Text,
    "Inside the container; a relative one begins where its program did. Required.",
);
const FILE_RANK: Parameter = query("rank", Holds::Text, "Which container; default main1.");

const FILES: &[&str] = &[
    "LS-NOT-FOUND",
    "LS-STATE",
    "LS-INVALID",
    "LS-PATH",
    "LS-STREAMS",
    "LS-AGENT-UNREACHABLE",
    "LS-MEDIA-TYPE",
    "LS-SYNTAX",
    "LS-TIMEOUT",
    "LS-TOO-LARGE",
    "LS-READ-ONLY",
    "LS-IMPERSONATION",
];

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
        id: "session_files",
        path: "/files/v1/sessions/{id}",
        row: Some(Access::SessionReach),
        summary: "What stands at a path of it, as a list or as a tar archive",
        parameters: &[
            FILE_PATH,
            FILE_RANK,
            query(
                "format",
                Holds::Text,
                "list (default), or tar: an application/x-tar of it with all below.",
            ),
            query(
                "hash",
                Holds::Flag,
                "The list has the SHA-256 of each file.",
            ),
        ],
        gives: Gives::Json(shape::<api::FileList>),
        codes: FILES,
        handler: || get(files::get),
        ..READ
    },
    Operation {
        id: "session_files_put",
        method: Verb::Put,
        path: "/files/v1/sessions/{id}",
        row: Some(Access::SessionReach),
        summary: "Unpacks a tar archive into a folder of it; files that are the same already are left alone",
        parameters: &[FILE_PATH, FILE_RANK],
        takes_text: Some("application/x-tar"),
        gives: Gives::Json(shape::<api::FilesPut>),
        codes: FILES,
        handler: || put(files::put),
        ..READ
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
