//! Sessions and their output.

use super::Access;
use super::parts::{
    CURSOR, DRY_RUN, GROUP, IF_NONE_MATCH, LIMIT, LIST, ORDER, PAGED, PATCH, READ, REHEARSED, head,
    query, shape,
};
use super::{Gives, Holds, Operation, Parameter};
use crate::api::{exec, logs, sessions};
use axum::routing::{get, patch, post};
use longshore_common::api;

const LOGS: &[Parameter] = &[
    query("rank", Holds::Text, "Which container; default main1."),
    query(
        "attempt",
        Holds::Number(1, 4_294_967_295),
        "Which attempt; default the latest.",
    ),
    query(
        "position",
        Holds::Number(0, u64::MAX),
        "From which byte on; excludes tail.",
    ),
    query(
        "tail",
        Holds::Number(0, 1_000_000),
        "Only so many of the last lines; excludes position.",
    ),
    query(
        "follow",
        Holds::Flag,
        "Go on until the container has ended.",
    ),
    query("stream", Holds::Text, "Only stdout or only stderr."),
];

const PROLONG: &[Parameter] = &[
    DRY_RUN,
    head(
        "If-Match",
        "ETag of the session as it was read, or *. Not required.",
    ),
];

const STEER: &[&str] = &[
    "LS-NOT-FOUND",
    "LS-STATE",
    "LS-VERSION-STALE",
    "LS-READ-ONLY",
    "LS-IMPERSONATION",
];

const SUBMIT: &[&str] = &[
    "LS-NOT-FOUND", // a replay of one that may not be seen any more
    "LS-PORT",
    "LS-EXISTS",
    "LS-SLOT-UNKNOWN",
    "LS-SLOT-AMOUNT",
    "LS-SLOT-EXCLUSIVE",
    "LS-GROUP-UNKNOWN",
    "LS-GROUP-DENIED",
    "LS-GROUP-INACTIVE",
    "LS-GROUP-TYPE",
    "LS-GROUP-CLOSED",
    "LS-QUEUE-UNKNOWN",
    "LS-QUEUE-DENIED",
    "LS-CLUSTER-SIZE",
    "LS-PRIORITY",
    "LS-DEPENDENCY",
    "LS-SHM",
    "LS-ENVIRONMENT",
    "LS-VAULT-SIZE",
    "LS-VAULT-SYNTAX",
    "LS-VAULT-MASKED",
    "LS-VAULT-FORBIDDEN-KEY",
    "LS-VAULT-TYPE",
    "LS-VAULT-ENV",
    "LS-VAULT-FILE",
    "LS-SECRETS-LOCKED",
    "LS-LIMIT-PENDING",
    "LS-LIMIT-NEVER",
    "LS-FIT-NEVER",
    "LS-STATE",
    "LS-SYSTEM-SESSION",
    "LS-READ-ONLY",
    "LS-IMPERSONATION",
];

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "sessions_list",
        path: "/api/v1/sessions",
        row: Some(Access::SessionRead),
        summary: "Sessions, newest first",
        parameters: &[
            query("state", Holds::Texts, "Only in this state."),
            query("type", Holds::Texts, "Only of this type."),
            GROUP,
            query(
                "name",
                Holds::Text,
                "Only those whose name holds this text.",
            ),
            query(
                "owner",
                Holds::Text,
                "Only of this person, by name, address or id; me = the caller.",
            ),
            query(
                "scope",
                Holds::Text,
                "mine, project (of the own projects) or all (whatever one may see, with those that have ended). Absent or live: one's own; of the whole domain for who looks after it.",
            ),
            query(
                "ended",
                Holds::Flag,
                "Those that have ended too; default false, with scope=all true.",
            ),
            query(
                "array",
                Holds::Text,
                "Only the tasks of this array (`s-42`), or `none` of any. Absent: tasks stand among the other sessions.",
            ),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<api::Session>),
        handler: || get(sessions::list),
        ..LIST
    },
    Operation {
        id: "sessions_create",
        path: "/api/v1/sessions",
        row: Some(Access::SessionCreate),
        summary: "Ask for a session",
        takes: Some(shape::<api::NewSession>),
        status: 201,
        gives: Gives::Json(shape::<api::Session>),
        codes: SUBMIT,
        handler: || post(sessions::create),
        ..ORDER
    },
    Operation {
        id: "sessions_check",
        path: "/api/v1/sessions/check",
        row: Some(Access::SessionCreate),
        summary: "Say what would become of a session; nothing is stored",
        takes: Some(shape::<api::NewSession>),
        gives: Gives::Json(shape::<api::SessionCheck>),
        codes: &[],
        handler: || post(sessions::check),
        ..ORDER
    },
    Operation {
        id: "sessions_terminate",
        path: "/api/v1/sessions/terminate",
        row: Some(Access::SessionTerminate),
        summary: "End up to 200 sessions",
        takes: Some(shape::<api::TerminateRequest>),
        gives: Gives::Json(shape::<api::TerminateAnswer>),
        codes: &[],
        handler: || post(sessions::terminate_many),
        ..ORDER
    },
    Operation {
        id: "session_read",
        path: "/api/v1/sessions/{id}",
        row: Some(Access::SessionRead),
        summary: "One session, by id or by a name of the caller's",
        parameters: &[
            query(
                "wait_s",
                Holds::Number(1, 60),
                "Hold the answer until the version is not that of If-None-Match.",
            ),
            IF_NONE_MATCH,
        ],
        gives: Gives::Json(shape::<api::Session>),
        handler: || get(sessions::read),
        ..READ
    },
    Operation {
        id: "session_history",
        path: "/api/v1/sessions/{id}/history",
        row: Some(Access::SessionRead),
        summary: "Every change of its state",
        parameters: PAGED,
        gives: Gives::Page(shape::<api::HistoryLine>),
        codes: &["LS-NOT-FOUND", "LS-CURSOR"],
        handler: || get(sessions::history),
        ..READ
    },
    Operation {
        id: "session_explain",
        path: "/api/v1/sessions/{id}/explain",
        row: Some(Access::SessionRead),
        summary: "Why it is where it is",
        gives: Gives::Json(shape::<api::Explanation>),
        handler: || get(sessions::explain),
        ..READ
    },
    Operation {
        id: "session_idle",
        path: "/api/v1/sessions/{id}/idle",
        row: Some(Access::SessionRead),
        summary: "What will stop it and when, by the numbers that are judged",
        gives: Gives::Json(shape::<api::IdleReport>),
        handler: || get(sessions::idle),
        ..READ
    },
    Operation {
        id: "session_signal",
        path: "/api/v1/sessions/{id}/signal",
        row: Some(Access::SessionSignal),
        summary: "Send a signal to its program",
        takes: Some(shape::<api::SignalOrder>),
        status: 204,
        codes: &[
            "LS-NOT-FOUND",
            "LS-STATE",
            "LS-AGENT-UNREACHABLE",
            "LS-READ-ONLY",
            "LS-IMPERSONATION",
        ],
        handler: || post(sessions::signal),
        ..ORDER
    },
    Operation {
        id: "session_extend",
        path: "/api/v1/sessions/{id}/extend",
        row: Some(Access::SessionUpdate),
        summary: "Let its life end later",
        parameters: PROLONG,
        takes: Some(shape::<api::ExtendRequest>),
        gives: Gives::Json(shape::<api::Extended>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-STATE",
            "LS-EXTEND",
            "LS-VERSION-STALE",
            "LS-READ-ONLY",
            "LS-IMPERSONATION",
        ],
        handler: || post(sessions::extend),
        ..ORDER
    },
    Operation {
        id: "session_keep",
        path: "/api/v1/sessions/{id}/keep",
        row: Some(Access::SessionUpdate),
        summary: "Do not stop it for being idle for a while",
        parameters: PROLONG,
        takes: Some(shape::<api::KeepRequest>),
        gives: Gives::Json(shape::<api::Kept>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-STATE",
            "LS-KEEP",
            "LS-VERSION-STALE",
            "LS-READ-ONLY",
            "LS-IMPERSONATION",
        ],
        handler: || post(sessions::keep),
        ..ORDER
    },
    Operation {
        id: "session_hold",
        path: "/api/v1/sessions/{id}/hold",
        row: Some(Access::SessionUpdate),
        summary: "Place it only after it was released",
        parameters: PROLONG,
        gives: Gives::Json(shape::<api::Session>),
        codes: STEER,
        handler: || post(sessions::hold),
        ..ORDER
    },
    Operation {
        id: "session_release",
        path: "/api/v1/sessions/{id}/release",
        row: Some(Access::SessionUpdate),
        summary: "Hold it back no longer",
        parameters: PROLONG,
        gives: Gives::Json(shape::<api::Session>),
        codes: STEER,
        handler: || post(sessions::release),
        ..ORDER
    },
    Operation {
        id: "session_restart",
        path: "/api/v1/sessions/{id}/restart",
        row: Some(Access::SessionUpdate),
        summary: "Run it anew on the same agents and devices",
        parameters: PROLONG,
        gives: Gives::Json(shape::<api::Session>),
        codes: STEER,
        handler: || post(sessions::restart),
        ..ORDER
    },
    Operation {
        id: "session_update",
        path: "/api/v1/sessions/{id}",
        row: Some(Access::SessionUpdate),
        summary: "Change its name and marks, and while it waits its priority and earliest start",
        parameters: PROLONG,
        takes: Some(shape::<api::SessionPatch>),
        gives: Gives::Json(shape::<api::Session>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-STATE",
            "LS-EXISTS",
            "LS-PRIORITY",
            "LS-VERSION-STALE",
            "LS-READ-ONLY",
            "LS-IMPERSONATION",
        ],
        handler: || patch(sessions::update),
        ..PATCH
    },
    Operation {
        id: "session_exec_create",
        path: "/api/v1/sessions/{id}/exec",
        row: Some(Access::SessionReach),
        summary: "Open a command or a terminal in it; the stream begins it",
        parameters: REHEARSED,
        takes: Some(shape::<api::NewExec>),
        status: 201,
        gives: Gives::Json(shape::<api::Exec>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-ENVIRONMENT",
            "LS-STATE",
            "LS-STREAMS",
            "LS-READ-ONLY",
            "LS-IMPERSONATION",
        ],
        handler: || post(exec::create),
        ..ORDER
    },
    Operation {
        id: "session_exec_read",
        path: "/api/v1/sessions/{id}/exec/{exec}",
        row: Some(Access::SessionReach),
        summary: "A command or terminal of the caller's, and its exit code",
        gives: Gives::Json(shape::<api::Exec>),
        handler: || get(exec::read),
        ..READ
    },
    Operation {
        id: "session_exec_stream",
        path: "/api/v1/sessions/{id}/exec/{exec}/stream",
        row: Some(Access::SessionReach),
        summary: "Connect to it by WebSocket; docs/api.md has the channels",
        parameters: &[head(
            "Sec-WebSocket-Protocol",
            "longshore.v1, and token. with the token of the answer that created it.",
        )],
        status: 101,
        codes: &[
            "LS-NOT-FOUND",
            "LS-STATE",
            "LS-WEBSOCKET",
            "LS-AGENT-UNREACHABLE",
        ],
        handler: || get(exec::connect),
        ..READ
    },
    Operation {
        id: "session_terminate",
        path: "/api/v1/sessions/{id}/terminate",
        row: Some(Access::SessionTerminate),
        summary: "End it",
        takes: Some(shape::<api::TerminateRequest>),
        gives: Gives::Json(shape::<api::TerminateAnswer>),
        codes: &["LS-NOT-FOUND", "LS-READ-ONLY", "LS-IMPERSONATION"],
        handler: || post(sessions::terminate),
        ..ORDER
    },
    Operation {
        id: "session_logs",
        path: "/api/v1/sessions/{id}/logs",
        row: Some(Access::SessionReach),
        summary: "Its output, as the program wrote it",
        parameters: LOGS,
        gives: Gives::Plain("application/octet-stream"),
        codes: &["LS-NOT-FOUND", "LS-AGENT-UNREACHABLE"],
        handler: || get(logs::plain),
        ..READ
    },
    Operation {
        id: "session_logs_stream",
        path: "/api/v1/sessions/{id}/logs/stream",
        row: Some(Access::SessionReach),
        summary: "Its output as server-sent events: line and gap with a LogRecord, then end; kept first when it comes from what the coordinator keeps, problem last when it was cut",
        parameters: LOGS,
        gives: Gives::Plain("text/event-stream"),
        codes: &["LS-NOT-FOUND", "LS-AGENT-UNREACHABLE", "LS-READER-SLOW"],
        handler: || get(logs::events),
        ..READ
    },
];
