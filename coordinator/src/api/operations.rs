//! The one table of routes: what each is called, who may use it, what it takes and gives.
//!
//! The router, the OpenAPI document and the tests over all routes are made from it, so
//! none of them can know a route the others do not.

use super::{App, agents, logs, service, sessions};
use axum::routing::{MethodRouter, delete, get, patch, post};
use longshore_common::api;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

/// Who may use an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Everybody, without credentials.
    Anon,
    /// Everybody who proved to be somebody.
    Any,
    /// Superadmins.
    Superadmin,
}

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Creates or acts.
    Post,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

impl Verb {
    /// As it stands in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// A shape, and the shapes it is made of.
pub type Shape = fn() -> (String, Vec<(String, RefOr<Schema>)>);

/// What an operation answers when all is well.
#[derive(Debug, Clone, Copy)]
pub enum Gives {
    /// One object.
    Json(Shape),
    /// A page of objects.
    Page(Shape),
    /// Something of this media type.
    Plain(&'static str),
    /// Any JSON object.
    Object,
    /// No body.
    Nothing,
}

/// What a parameter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Text.
    Text,
    /// Text; the parameter may be repeated, which means *or*.
    Texts,
    /// A whole number in a range.
    Number(u64, u64),
    /// true or false.
    Flag,
}

/// A parameter of the query, or a header.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub holds: Holds,
    /// What it is for.
    pub what: &'static str,
    /// Whether it is a header.
    pub header: bool,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// `<resource>_<verb>`, never renamed.
    pub id: &'static str,
    /// Method.
    pub method: Verb,
    /// Path; `{id}` and `{code}` are its variable part.
    pub path: &'static str,
    /// The row of the access table.
    pub row: &'static str,
    /// Who may.
    pub who: Who,
    /// One line.
    pub summary: &'static str,
    /// Query and headers.
    pub parameters: &'static [Parameter],
    /// Body, if it has one.
    pub takes: Option<Shape>,
    /// Status when all is well.
    pub status: u16,
    /// Body when all is well.
    pub gives: Gives,
    /// Codes besides those every route has.
    pub codes: &'static [&'static str],
    /// The handler.
    pub handler: fn() -> MethodRouter<App>,
}

fn shape<T: ToSchema>() -> (String, Vec<(String, RefOr<Schema>)>) {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    (T::name().into_owned(), schemas)
}

const fn query(name: &'static str, holds: Holds, what: &'static str) -> Parameter {
    Parameter {
        name,
        holds,
        what,
        header: false,
    }
}

const fn head(name: &'static str, what: &'static str) -> Parameter {
    Parameter {
        name,
        holds: Holds::Text,
        what,
        header: true,
    }
}

const LIMIT: Parameter = query(
    "limit",
    Holds::Number(1, 500),
    "Objects per page; default 50.",
);
const CURSOR: Parameter = query("cursor", Holds::Text, "next_cursor of the page before.");
const PAGED: &[Parameter] = &[LIMIT, CURSOR];
const GROUP: Parameter = query(
    "group",
    Holds::Texts,
    "Only of this resource group, by name or id.",
);
const IF_NONE_MATCH: Parameter = head(
    "If-None-Match",
    "ETag that is known already; the same version answers 304.",
);

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

const SUBMIT: &[&str] = &[
    "LS-EXISTS",
    "LS-IDEMPOTENCY-BODY",
    "LS-SLOT-UNKNOWN",
    "LS-SLOT-AMOUNT",
    "LS-SLOT-EXCLUSIVE",
    "LS-GROUP-UNKNOWN",
    "LS-GROUP-DENIED",
    "LS-GROUP-INACTIVE",
    "LS-SHM",
    "LS-ENVIRONMENT",
    "LS-FIT-NEVER",
];

/// Every route there is.
pub static OPERATIONS: &[Operation] = &[
    Operation {
        id: "health_read",
        method: Verb::Get,
        path: "/healthz",
        row: "health.read",
        who: Who::Anon,
        summary: "Whether the process answers",
        parameters: &[],
        takes: None,
        status: 200,
        gives: Gives::Plain("text/plain"),
        codes: &[],
        handler: || get(service::healthz),
    },
    Operation {
        id: "readiness_read",
        method: Verb::Get,
        path: "/readyz",
        row: "health.read",
        who: Who::Anon,
        summary: "Whether the coordinator can work; 503 with the same body when not",
        parameters: &[],
        takes: None,
        status: 200,
        gives: Gives::Json(shape::<api::Readiness>),
        codes: &[],
        handler: || get(service::readyz),
    },
    Operation {
        id: "version_read",
        method: Verb::Get,
        path: "/version",
        row: "health.read",
        who: Who::Anon,
        summary: "Versions of the coordinator",
        parameters: &[],
        takes: None,
        status: 200,
        gives: Gives::Json(shape::<api::Version>),
        codes: &[],
        handler: || get(service::version),
    },
    Operation {
        id: "authority_read",
        method: Verb::Get,
        path: "/ca.pem",
        row: "health.read",
        who: Who::Anon,
        summary: "The certificate of the installation's own authority",
        parameters: &[],
        takes: None,
        status: 200,
        gives: Gives::Plain("application/x-pem-file"),
        codes: &[],
        handler: || get(service::ca_pem),
    },
    Operation {
        id: "help_read",
        method: Verb::Get,
        path: "/help/{code}",
        row: "health.read",
        who: Who::Anon,
        summary: "One error code explained",
        parameters: &[],
        takes: None,
        status: 200,
        gives: Gives::Plain("text/plain"),
        codes: &["LS-NOT-FOUND"],
        handler: || get(service::help),
    },
    Operation {
        id: "openapi_read",
        method: Verb::Get,
        path: "/api/v1/openapi.json",
        row: "openapi.read",
        who: Who::Anon,
        summary: "This document",
        parameters: &[],
        takes: None,
        status: 200,
        gives: Gives::Object,
        codes: &[],
        handler: || get(service::document),
    },
    Operation {
        id: "setup_use",
        method: Verb::Post,
        path: "/api/v1/setup",
        row: "setup.use",
        who: Who::Anon,
        summary: "Make the first administrator",
        parameters: &[],
        takes: Some(shape::<api::SetupRequest>),
        status: 201,
        gives: Gives::Json(shape::<api::SetupAnswer>),
        codes: &["LS-NOT-FOUND", "LS-LINK-GONE"],
        handler: || post(service::setup),
    },
    Operation {
        id: "me_read",
        method: Verb::Get,
        path: "/api/v1/me",
        row: "me.read",
        who: Who::Any,
        summary: "Who calls",
        parameters: &[],
        takes: None,
        status: 200,
        gives: Gives::Json(shape::<api::Me>),
        codes: &[],
        handler: || get(service::me),
    },
    Operation {
        id: "sessions_list",
        method: Verb::Get,
        path: "/api/v1/sessions",
        row: "session.read",
        who: Who::Any,
        summary: "Sessions, newest first",
        takes: None,
        status: 200,
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
                "live (default) or all, which includes those that have ended.",
            ),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<api::Session>),
        codes: &["LS-CURSOR"],
        handler: || get(sessions::list),
    },
    Operation {
        id: "sessions_create",
        method: Verb::Post,
        path: "/api/v1/sessions",
        row: "session.create",
        who: Who::Any,
        summary: "Ask for a session",
        takes: Some(shape::<api::NewSession>),
        status: 201,
        parameters: &[head(
            "Idempotency-Key",
            "1 to 128 visible characters; the same request with the same key makes one session.",
        )],
        gives: Gives::Json(shape::<api::Session>),
        codes: SUBMIT,
        handler: || post(sessions::create),
    },
    Operation {
        id: "sessions_terminate",
        method: Verb::Post,
        path: "/api/v1/sessions/terminate",
        row: "session.terminate",
        who: Who::Any,
        summary: "End up to 200 sessions",
        parameters: &[],
        takes: Some(shape::<api::TerminateRequest>),
        status: 200,
        gives: Gives::Json(shape::<api::TerminateAnswer>),
        codes: &[],
        handler: || post(sessions::terminate_many),
    },
    Operation {
        id: "session_read",
        method: Verb::Get,
        path: "/api/v1/sessions/{id}",
        row: "session.read",
        who: Who::Any,
        summary: "One session, by id or by a name of the caller's",
        takes: None,
        status: 200,
        parameters: &[
            query(
                "wait_s",
                Holds::Number(1, 60),
                "Hold the answer until the version is not that of If-None-Match.",
            ),
            IF_NONE_MATCH,
        ],
        gives: Gives::Json(shape::<api::Session>),
        codes: &["LS-NOT-FOUND"],
        handler: || get(sessions::read),
    },
    Operation {
        id: "session_history",
        method: Verb::Get,
        path: "/api/v1/sessions/{id}/history",
        row: "session.read",
        who: Who::Any,
        summary: "Every change of its state",
        parameters: PAGED,
        takes: None,
        status: 200,
        gives: Gives::Page(shape::<api::HistoryLine>),
        codes: &["LS-NOT-FOUND", "LS-CURSOR"],
        handler: || get(sessions::history),
    },
    Operation {
        id: "session_explain",
        method: Verb::Get,
        path: "/api/v1/sessions/{id}/explain",
        row: "session.read",
        who: Who::Any,
        summary: "Why it is where it is",
        parameters: &[],
        takes: None,
        status: 200,
        gives: Gives::Json(shape::<api::Explanation>),
        codes: &["LS-NOT-FOUND"],
        handler: || get(sessions::explain),
    },
    Operation {
        id: "session_signal",
        method: Verb::Post,
        path: "/api/v1/sessions/{id}/signal",
        row: "session.signal",
        who: Who::Any,
        summary: "Send a signal to its program",
        parameters: &[],
        takes: Some(shape::<api::SignalOrder>),
        status: 204,
        gives: Gives::Nothing,
        codes: &["LS-NOT-FOUND", "LS-STATE", "LS-AGENT-UNREACHABLE"],
        handler: || post(sessions::signal),
    },
    Operation {
        id: "session_terminate",
        method: Verb::Post,
        path: "/api/v1/sessions/{id}/terminate",
        row: "session.terminate",
        who: Who::Any,
        summary: "End it",
        parameters: &[],
        takes: Some(shape::<api::TerminateRequest>),
        status: 200,
        gives: Gives::Json(shape::<api::TerminateAnswer>),
        codes: &["LS-NOT-FOUND"],
        handler: || post(sessions::terminate),
    },
    Operation {
        id: "session_logs",
        method: Verb::Get,
        path: "/api/v1/sessions/{id}/logs",
        row: "session.reach",
        who: Who::Any,
        summary: "Its output, as the program wrote it",
        parameters: LOGS,
        takes: None,
        status: 200,
        gives: Gives::Plain("application/octet-stream"),
        codes: &["LS-NOT-FOUND", "LS-AGENT-UNREACHABLE"],
        handler: || get(logs::plain),
    },
    Operation {
        id: "session_logs_stream",
        method: Verb::Get,
        path: "/api/v1/sessions/{id}/logs/stream",
        row: "session.reach",
        who: Who::Any,
        summary: "Its output as server-sent events: line and gap with a LogRecord, then end",
        parameters: LOGS,
        takes: None,
        status: 200,
        gives: Gives::Plain("text/event-stream"),
        codes: &["LS-NOT-FOUND", "LS-AGENT-UNREACHABLE"],
        handler: || get(logs::events),
    },
    Operation {
        id: "agents_list",
        method: Verb::Get,
        path: "/api/v1/agents",
        row: "agent.read",
        who: Who::Any,
        summary: "Nodes by name",
        takes: None,
        status: 200,
        parameters: &[
            query("state", Holds::Texts, "Only in this state."),
            GROUP,
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<api::Agent>),
        codes: &["LS-CURSOR"],
        handler: || get(agents::list),
    },
    Operation {
        id: "agent_read",
        method: Verb::Get,
        path: "/api/v1/agents/{id}",
        row: "agent.read",
        who: Who::Any,
        summary: "One node, by id or name",
        parameters: &[IF_NONE_MATCH],
        takes: None,
        status: 200,
        gives: Gives::Json(shape::<api::Agent>),
        codes: &["LS-NOT-FOUND"],
        handler: || get(agents::read),
    },
    Operation {
        id: "agent_update",
        method: Verb::Patch,
        path: "/api/v1/agents/{id}",
        row: "agent.write",
        who: Who::Superadmin,
        summary: "Change whether it takes new work",
        parameters: &[head(
            "If-Match",
            "ETag of the object as it was read, or *. Required.",
        )],
        takes: Some(shape::<api::AgentPatch>),
        status: 200,
        gives: Gives::Json(shape::<api::Agent>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-AGENT-STATE",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
        ],
        handler: || patch(agents::update),
    },
    Operation {
        id: "agent_expel",
        method: Verb::Post,
        path: "/api/v1/agents/{id}/expel",
        row: "agent.write",
        who: Who::Superadmin,
        summary: "Remove a node for good",
        parameters: &[],
        takes: None,
        status: 200,
        gives: Gives::Json(shape::<api::Agent>),
        codes: &["LS-NOT-FOUND"],
        handler: || post(agents::expel),
    },
    Operation {
        id: "devices_list",
        method: Verb::Get,
        path: "/api/v1/devices",
        row: "agent.read",
        who: Who::Any,
        summary: "Every device, and who holds it",
        takes: None,
        status: 200,
        parameters: &[
            query("agent", Holds::Texts, "Only of this node, by name or id."),
            GROUP,
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<api::Device>),
        codes: &["LS-CURSOR"],
        handler: || get(agents::devices),
    },
    Operation {
        id: "resource_groups_list",
        method: Verb::Get,
        path: "/api/v1/resource-groups",
        row: "resource_group.read",
        who: Who::Any,
        summary: "Resource groups by name",
        parameters: PAGED,
        takes: None,
        status: 200,
        gives: Gives::Page(shape::<api::ResourceGroup>),
        codes: &["LS-CURSOR"],
        handler: || get(agents::groups),
    },
    Operation {
        id: "resource_group_read",
        method: Verb::Get,
        path: "/api/v1/resource-groups/{id}",
        row: "resource_group.read",
        who: Who::Any,
        summary: "One resource group, by id or name",
        parameters: &[],
        takes: None,
        status: 200,
        gives: Gives::Json(shape::<api::ResourceGroup>),
        codes: &["LS-NOT-FOUND"],
        handler: || get(agents::group),
    },
    Operation {
        id: "resource_group_pending",
        method: Verb::Get,
        path: "/api/v1/resource-groups/{id}/pending",
        row: "resource_group.read",
        who: Who::Any,
        summary: "Who waits in it, in the order of the queue",
        parameters: PAGED,
        takes: None,
        status: 200,
        gives: Gives::Page(shape::<api::Session>),
        codes: &["LS-NOT-FOUND", "LS-CURSOR"],
        handler: || get(agents::pending),
    },
    Operation {
        id: "join_tokens_list",
        method: Verb::Get,
        path: "/api/v1/join-tokens",
        row: "join_token.read",
        who: Who::Superadmin,
        summary: "Join tokens, oldest first",
        parameters: PAGED,
        takes: None,
        status: 200,
        gives: Gives::Page(shape::<api::JoinToken>),
        codes: &["LS-CURSOR"],
        handler: || get(agents::tokens),
    },
    Operation {
        id: "join_tokens_create",
        method: Verb::Post,
        path: "/api/v1/join-tokens",
        row: "join_token.write",
        who: Who::Superadmin,
        summary: "Make a join token; its secret is shown this once",
        parameters: &[],
        takes: Some(shape::<api::NewJoinToken>),
        status: 201,
        gives: Gives::Json(shape::<api::JoinToken>),
        codes: &["LS-GROUP-UNKNOWN", "LS-EXISTS"],
        handler: || post(agents::create_token),
    },
    Operation {
        id: "join_token_delete",
        method: Verb::Delete,
        path: "/api/v1/join-tokens/{id}",
        row: "join_token.write",
        who: Who::Superadmin,
        summary: "Take a join token back",
        parameters: &[],
        takes: None,
        status: 204,
        gives: Gives::Nothing,
        codes: &[],
        handler: || delete(agents::delete_token),
    },
];
