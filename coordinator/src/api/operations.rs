//! The one table of routes: what each is called, who may use it, what it takes and gives.
//!
//! The router, the OpenAPI document and the tests over all routes are made from it, so
//! none of them can know a route the others do not.

use super::admin::{config, exports, groups, policies, presets, quota, tenants};
use super::{App, agents, logs, service, sessions};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use longshore_common::{admin, api};
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
    /// Replaces a part.
    Put,
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
            Self::Put => "PUT",
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
    "LS-GROUP-TYPE",
    "LS-GROUP-CLOSED",
    "LS-QUEUE-UNKNOWN",
    "LS-QUEUE-DENIED",
    "LS-CLUSTER-SIZE",
    "LS-PRIORITY",
    "LS-DEPENDENCY",
    "LS-SHM",
    "LS-ENVIRONMENT",
    "LS-LIMIT-PENDING",
    "LS-LIMIT-NEVER",
    "LS-FIT-NEVER",
    "LS-STATE",
    "LS-SYSTEM-SESSION",
];

const IF_MATCH: Parameter = head(
    "If-Match",
    "ETag of the object as it was read, or *. Required.",
);
const DRY_RUN: Parameter = query(
    "dry_run",
    Holds::Flag,
    "Check everything and store nothing; the body says the impact.",
);
const NAME_HOLDS: Parameter = query(
    "name",
    Holds::Texts,
    "Only those whose name holds this text.",
);
const NAMED: &[Parameter] = &[NAME_HOLDS, LIMIT, CURSOR];
const REHEARSED: &[Parameter] = &[DRY_RUN];
const VERSIONED: &[Parameter] = &[DRY_RUN, IF_MATCH];
const POLICY_GONE: &[Parameter] = &[
    DRY_RUN,
    query(
        "move_to",
        Holds::Text,
        "The policy its users get; without it none may have any.",
    ),
    IF_MATCH,
];
const PATCHED: &[&str] = &[
    "LS-NOT-FOUND",
    "LS-VERSION-MISSING",
    "LS-VERSION-STALE",
    "LS-FIELD-FIXED",
    "LS-AMBIGUOUS",
];
const DELETED: &[&str] = &[
    "LS-VERSION-MISSING",
    "LS-VERSION-STALE",
    "LS-IN-USE",
    "LS-BUILTIN",
    "LS-INVALID",
];

/// What most reads have in common.
const READ: Operation = Operation {
    id: "",
    method: Verb::Get,
    path: "",
    row: "",
    who: Who::Any,
    summary: "",
    parameters: &[],
    takes: None,
    status: 200,
    gives: Gives::Nothing,
    codes: &["LS-NOT-FOUND"],
    handler: MethodRouter::new,
};
/// What most lists have in common.
const LIST: Operation = Operation {
    parameters: NAMED,
    codes: &["LS-CURSOR"],
    ..READ
};
/// What most creations have in common.
const CREATE: Operation = Operation {
    method: Verb::Post,
    who: Who::Superadmin,
    parameters: REHEARSED,
    status: 201,
    codes: &["LS-EXISTS"],
    ..READ
};
/// What most changes have in common.
const PATCH: Operation = Operation {
    method: Verb::Patch,
    who: Who::Superadmin,
    parameters: VERSIONED,
    codes: PATCHED,
    ..READ
};
/// What most deletions have in common.
const DELETE: Operation = Operation {
    method: Verb::Delete,
    who: Who::Superadmin,
    parameters: VERSIONED,
    status: 204,
    codes: DELETED,
    ..READ
};
/// What most verbs and parts that are put have in common.
const ACT: Operation = Operation {
    method: Verb::Post,
    who: Who::Superadmin,
    parameters: REHEARSED,
    ..READ
};

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
        id: "sessions_check",
        method: Verb::Post,
        path: "/api/v1/sessions/check",
        row: "session.create",
        who: Who::Any,
        summary: "Say what would become of a session; nothing is stored",
        parameters: &[],
        takes: Some(shape::<api::NewSession>),
        status: 200,
        gives: Gives::Json(shape::<api::SessionCheck>),
        codes: &[],
        handler: || post(sessions::check),
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
        summary: "Change whether it takes new work, and its resource group",
        parameters: &[IF_MATCH],
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
        gives: Gives::Page(shape::<admin::GroupView>),
        codes: &["LS-CURSOR"],
        handler: || get(groups::list),
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
        gives: Gives::Json(shape::<admin::GroupView>),
        codes: &["LS-NOT-FOUND"],
        handler: || get(groups::read),
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
        handler: || get(groups::pending),
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
    Operation {
        id: "resource_groups_create",
        path: "/api/v1/resource-groups",
        row: "resource_group.write",
        summary: "Make a resource group",
        takes: Some(shape::<admin::GroupRequest>),
        gives: Gives::Json(shape::<admin::GroupView>),
        handler: || post(groups::create),
        ..CREATE
    },
    Operation {
        id: "resource_group_update",
        path: "/api/v1/resource-groups/{id}",
        row: "resource_group.write",
        summary: "Change a resource group",
        takes: Some(shape::<admin::GroupRequest>),
        gives: Gives::Json(shape::<admin::GroupView>),
        handler: || patch(groups::update),
        ..PATCH
    },
    Operation {
        id: "resource_group_delete",
        path: "/api/v1/resource-groups/{id}",
        row: "resource_group.write",
        summary: "Delete a resource group to which nothing refers",
        handler: || delete(groups::remove),
        ..DELETE
    },
    Operation {
        id: "resource_group_allowed_read",
        path: "/api/v1/resource-groups/{id}/allowed",
        row: "resource_group.write",
        summary: "Who may use it",
        who: Who::Superadmin,
        gives: Gives::Json(shape::<admin::GroupAccess>),
        handler: || get(groups::access),
        ..READ
    },
    Operation {
        id: "resource_group_allow",
        path: "/api/v1/resource-groups/{id}/allowed/{kind}/{who}",
        row: "resource_group.write",
        summary: "Let a domain, project or keypair in; kind is domains, projects or keypairs",
        method: Verb::Put,
        codes: &["LS-NOT-FOUND", "LS-INVALID", "LS-AMBIGUOUS"],
        gives: Gives::Json(shape::<admin::GroupView>),
        handler: || put(groups::allow),
        ..ACT
    },
    Operation {
        id: "resource_group_disallow",
        path: "/api/v1/resource-groups/{id}/allowed/{kind}/{who}",
        row: "resource_group.write",
        summary: "Take a domain, project or keypair off the list",
        parameters: REHEARSED,
        codes: &["LS-NOT-FOUND", "LS-INVALID", "LS-AMBIGUOUS"],
        handler: || delete(groups::disallow),
        ..DELETE
    },
    Operation {
        id: "keypair_policies_list",
        path: "/api/v1/keypair-policies",
        row: "keypair_policy.read",
        summary: "Keypair policies by name; others than superadmins see their own",
        gives: Gives::Page(shape::<admin::KeypairPolicyView>),
        handler: || get(policies::keypair::list),
        ..LIST
    },
    Operation {
        id: "keypair_policies_create",
        path: "/api/v1/keypair-policies",
        row: "keypair_policy.write",
        summary: "Make a keypair policy",
        takes: Some(shape::<admin::KeypairPolicyRequest>),
        gives: Gives::Json(shape::<admin::KeypairPolicyView>),
        handler: || post(policies::keypair::create),
        ..CREATE
    },
    Operation {
        id: "keypair_policy_read",
        path: "/api/v1/keypair-policies/{id}",
        row: "keypair_policy.read",
        summary: "One keypair policy, by id or name",
        gives: Gives::Json(shape::<admin::KeypairPolicyView>),
        handler: || get(policies::keypair::read),
        ..READ
    },
    Operation {
        id: "keypair_policy_update",
        path: "/api/v1/keypair-policies/{id}",
        row: "keypair_policy.write",
        summary: "Change a keypair policy",
        takes: Some(shape::<admin::KeypairPolicyRequest>),
        gives: Gives::Json(shape::<admin::KeypairPolicyView>),
        handler: || patch(policies::keypair::update),
        ..PATCH
    },
    Operation {
        id: "keypair_policy_delete",
        path: "/api/v1/keypair-policies/{id}",
        row: "keypair_policy.write",
        summary: "Delete a keypair policy",
        parameters: POLICY_GONE,
        handler: || delete(policies::keypair::remove),
        ..DELETE
    },
    Operation {
        id: "user_policies_list",
        path: "/api/v1/user-policies",
        row: "user_policy.read",
        summary: "User policies by name; others than superadmins see their own",
        gives: Gives::Page(shape::<admin::UserPolicyView>),
        handler: || get(policies::user::list),
        ..LIST
    },
    Operation {
        id: "user_policies_create",
        path: "/api/v1/user-policies",
        row: "user_policy.write",
        summary: "Make a user policy",
        takes: Some(shape::<admin::UserPolicyRequest>),
        gives: Gives::Json(shape::<admin::UserPolicyView>),
        handler: || post(policies::user::create),
        ..CREATE
    },
    Operation {
        id: "user_policy_read",
        path: "/api/v1/user-policies/{id}",
        row: "user_policy.read",
        summary: "One user policy, by id or name",
        gives: Gives::Json(shape::<admin::UserPolicyView>),
        handler: || get(policies::user::read),
        ..READ
    },
    Operation {
        id: "user_policy_update",
        path: "/api/v1/user-policies/{id}",
        row: "user_policy.write",
        summary: "Change a user policy",
        takes: Some(shape::<admin::UserPolicyRequest>),
        gives: Gives::Json(shape::<admin::UserPolicyView>),
        handler: || patch(policies::user::update),
        ..PATCH
    },
    Operation {
        id: "user_policy_delete",
        path: "/api/v1/user-policies/{id}",
        row: "user_policy.write",
        summary: "Delete a user policy",
        parameters: POLICY_GONE,
        handler: || delete(policies::user::remove),
        ..DELETE
    },
    Operation {
        id: "project_policies_list",
        path: "/api/v1/project-policies",
        row: "project_policy.read",
        summary: "Project policies by name; others than superadmins see their own",
        gives: Gives::Page(shape::<admin::ProjectPolicyView>),
        handler: || get(policies::project::list),
        ..LIST
    },
    Operation {
        id: "project_policies_create",
        path: "/api/v1/project-policies",
        row: "project_policy.write",
        summary: "Make a project policy",
        takes: Some(shape::<admin::ProjectPolicyRequest>),
        gives: Gives::Json(shape::<admin::ProjectPolicyView>),
        handler: || post(policies::project::create),
        ..CREATE
    },
    Operation {
        id: "project_policy_read",
        path: "/api/v1/project-policies/{id}",
        row: "project_policy.read",
        summary: "One project policy, by id or name",
        gives: Gives::Json(shape::<admin::ProjectPolicyView>),
        handler: || get(policies::project::read),
        ..READ
    },
    Operation {
        id: "project_policy_update",
        path: "/api/v1/project-policies/{id}",
        row: "project_policy.write",
        summary: "Change a project policy",
        takes: Some(shape::<admin::ProjectPolicyRequest>),
        gives: Gives::Json(shape::<admin::ProjectPolicyView>),
        handler: || patch(policies::project::update),
        ..PATCH
    },
    Operation {
        id: "project_policy_delete",
        path: "/api/v1/project-policies/{id}",
        row: "project_policy.write",
        summary: "Delete a project policy",
        parameters: POLICY_GONE,
        handler: || delete(policies::project::remove),
        ..DELETE
    },
    Operation {
        id: "domains_list",
        path: "/api/v1/domains",
        row: "domain.read",
        summary: "Domains by name; others than superadmins see their own",
        gives: Gives::Page(shape::<admin::DomainView>),
        handler: || get(tenants::domains),
        ..LIST
    },
    Operation {
        id: "domains_create",
        path: "/api/v1/domains",
        row: "domain.write",
        summary: "Make a domain",
        takes: Some(shape::<admin::DomainRequest>),
        gives: Gives::Json(shape::<admin::DomainView>),
        handler: || post(tenants::create_domain),
        ..CREATE
    },
    Operation {
        id: "domain_read",
        path: "/api/v1/domains/{id}",
        row: "domain.read",
        summary: "One domain, by id or name",
        gives: Gives::Json(shape::<admin::DomainView>),
        handler: || get(tenants::read_domain),
        ..READ
    },
    Operation {
        id: "domain_update",
        path: "/api/v1/domains/{id}",
        row: "domain.write",
        summary: "Change a domain",
        takes: Some(shape::<admin::DomainRequest>),
        gives: Gives::Json(shape::<admin::DomainView>),
        handler: || patch(tenants::update_domain),
        ..PATCH
    },
    Operation {
        id: "projects_list",
        path: "/api/v1/projects",
        row: "project.read",
        summary: "Projects by name; others than superadmins see their own",
        parameters: &[
            NAME_HOLDS,
            query(
                "domain",
                Holds::Texts,
                "Only of this domain, by name or id.",
            ),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::ProjectView>),
        handler: || get(tenants::projects),
        ..LIST
    },
    Operation {
        id: "projects_create",
        path: "/api/v1/projects",
        row: "project.write",
        summary: "Make a project",
        takes: Some(shape::<admin::ProjectRequest>),
        gives: Gives::Json(shape::<admin::ProjectView>),
        handler: || post(tenants::create_project),
        ..CREATE
    },
    Operation {
        id: "project_read",
        path: "/api/v1/projects/{id}",
        row: "project.read",
        summary: "One project, by id, or by a name that only one has",
        gives: Gives::Json(shape::<admin::ProjectView>),
        handler: || get(tenants::read_project),
        ..READ
    },
    Operation {
        id: "project_update",
        path: "/api/v1/projects/{id}",
        row: "project.write",
        summary: "Change a project; assigns its policy too",
        takes: Some(shape::<admin::ProjectRequest>),
        gives: Gives::Json(shape::<admin::ProjectView>),
        handler: || patch(tenants::update_project),
        ..PATCH
    },
    Operation {
        id: "users_list",
        path: "/api/v1/users",
        row: "user.read",
        summary: "People by login name; others than superadmins see themselves",
        parameters: &[
            query(
                "email",
                Holds::Texts,
                "Only those whose address holds this text.",
            ),
            query(
                "username",
                Holds::Texts,
                "Only those whose login name holds this text.",
            ),
            query("role", Holds::Texts, "Only with this role."),
            query(
                "status",
                Holds::Texts,
                "active or inactive; without it only active ones.",
            ),
            query("domain", Holds::Texts, "Only of this domain."),
            query("project", Holds::Texts, "Only in this project."),
            query("policy", Holds::Texts, "Only with this user policy."),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::UserView>),
        handler: || get(tenants::users),
        ..LIST
    },
    Operation {
        id: "users_create",
        path: "/api/v1/users",
        row: "user.write",
        summary: "Make a person with a first keypair, whose secret is shown this once",
        codes: &["LS-EXISTS", "LS-AMBIGUOUS"],
        takes: Some(shape::<admin::NewUser>),
        gives: Gives::Json(shape::<admin::NewUserAnswer>),
        handler: || post(tenants::create_user),
        ..CREATE
    },
    Operation {
        id: "user_read",
        path: "/api/v1/users/{id}",
        row: "user.read",
        summary: "One person, by id, login name or address",
        gives: Gives::Json(shape::<admin::UserView>),
        handler: || get(tenants::read_user),
        ..READ
    },
    Operation {
        id: "user_update",
        path: "/api/v1/users/{id}",
        row: "user.write",
        summary: "Change policy, weight and projects of a person",
        parameters: REHEARSED,
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE", "LS-AMBIGUOUS"],
        takes: Some(shape::<admin::UserPatch>),
        gives: Gives::Json(shape::<admin::UserView>),
        handler: || patch(tenants::update_user),
        ..PATCH
    },
    Operation {
        id: "user_status_write",
        path: "/api/v1/users/{id}/status",
        row: "user.write",
        summary: "Switch a person on or off",
        method: Verb::Put,
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-STALE",
            "LS-USER-SELF",
            "LS-LAST-SUPERADMIN",
        ],
        takes: Some(shape::<admin::UserStatusRequest>),
        gives: Gives::Json(shape::<admin::UserView>),
        handler: || put(tenants::set_status),
        ..ACT
    },
    Operation {
        id: "user_main_keypair_write",
        path: "/api/v1/users/{id}/main-keypair",
        row: "keypair.own",
        summary: "Choose the keypair whose policy limits the person as a whole",
        method: Verb::Put,
        who: Who::Any,
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE", "LS-KEYPAIR-STATE"],
        takes: Some(shape::<admin::MainKeypairRequest>),
        gives: Gives::Json(shape::<admin::UserView>),
        handler: || put(tenants::set_main),
        ..ACT
    },
    Operation {
        id: "user_limits_read",
        path: "/api/v1/users/{id}/limits",
        row: "limits.read",
        summary: "What a person may use, and what is used",
        parameters: &[
            query(
                "project",
                Holds::Text,
                "Limits in this project; default the first one.",
            ),
            query(
                "keypair",
                Holds::Text,
                "Limits of this keypair; default the main one.",
            ),
        ],
        gives: Gives::Json(shape::<admin::LimitsView>),
        handler: || get(quota::of),
        ..READ
    },
    Operation {
        id: "me_limits_read",
        path: "/api/v1/me/limits",
        row: "limits.read",
        summary: "What the caller may use, and what is used",
        parameters: &[query(
            "project",
            Holds::Text,
            "Limits in this project; default the first one.",
        )],
        gives: Gives::Json(shape::<admin::LimitsView>),
        handler: || get(quota::mine),
        ..READ
    },
    Operation {
        id: "keypairs_list",
        path: "/api/v1/keypairs",
        row: "keypair.read",
        summary: "Keypairs; others than superadmins see their own",
        parameters: &[
            query(
                "user",
                Holds::Texts,
                "Only of this person, by login name or id.",
            ),
            query("state", Holds::Texts, "active or inactive."),
            query("policy", Holds::Texts, "Only with this keypair policy."),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::KeypairView>),
        handler: || get(tenants::keypairs),
        ..LIST
    },
    Operation {
        id: "keypairs_create",
        path: "/api/v1/keypairs",
        row: "keypair.own",
        summary: "Make a further keypair; its secret is shown this once",
        who: Who::Any,
        codes: &["LS-FORBIDDEN", "LS-KEYPAIR-EXISTS"],
        takes: Some(shape::<admin::NewKeypair>),
        gives: Gives::Json(shape::<admin::NewKeypairAnswer>),
        handler: || post(tenants::create_keypair),
        ..CREATE
    },
    Operation {
        id: "keypair_read",
        path: "/api/v1/keypairs/{id}",
        row: "keypair.read",
        summary: "One keypair, by its access key",
        gives: Gives::Json(shape::<admin::KeypairView>),
        handler: || get(tenants::read_keypair),
        ..READ
    },
    Operation {
        id: "keypair_update",
        path: "/api/v1/keypairs/{id}",
        row: "keypair.write",
        summary: "Give a keypair another policy",
        parameters: REHEARSED,
        codes: &["LS-NOT-FOUND", "LS-VERSION-STALE"],
        takes: Some(shape::<admin::KeypairPatch>),
        gives: Gives::Json(shape::<admin::KeypairView>),
        handler: || patch(tenants::update_keypair),
        ..PATCH
    },
    Operation {
        id: "keypair_activate",
        path: "/api/v1/keypairs/{id}/activate",
        row: "keypair.write",
        summary: "Switch a keypair on",
        codes: &["LS-NOT-FOUND", "LS-KEYPAIR-STATE"],
        gives: Gives::Json(shape::<admin::KeypairView>),
        handler: || post(tenants::activate),
        ..ACT
    },
    Operation {
        id: "keypair_deactivate",
        path: "/api/v1/keypairs/{id}/deactivate",
        row: "keypair.own",
        summary: "Switch a keypair off",
        who: Who::Any,
        codes: &["LS-NOT-FOUND", "LS-KEYPAIR-STATE"],
        gives: Gives::Json(shape::<admin::KeypairView>),
        handler: || post(tenants::deactivate),
        ..ACT
    },
    Operation {
        id: "presets_list",
        path: "/api/v1/presets",
        row: "preset.read",
        summary: "Presets by name",
        parameters: &[NAME_HOLDS, GROUP, LIMIT, CURSOR],
        gives: Gives::Page(shape::<admin::PresetView>),
        handler: || get(presets::list),
        ..LIST
    },
    Operation {
        id: "presets_create",
        path: "/api/v1/presets",
        row: "preset.write",
        summary: "Make a preset",
        codes: &[
            "LS-EXISTS",
            "LS-SLOT-UNKNOWN",
            "LS-SLOT-AMOUNT",
            "LS-SLOT-EXCLUSIVE",
        ],
        takes: Some(shape::<admin::PresetRequest>),
        gives: Gives::Json(shape::<admin::PresetView>),
        handler: || post(presets::create),
        ..CREATE
    },
    Operation {
        id: "presets_offered",
        path: "/api/v1/presets/offered",
        row: "preset.read",
        summary: "Presets of a group, and which could start now",
        parameters: &[
            query(
                "group",
                Holds::Text,
                "In which resource group; default the default one.",
            ),
            query(
                "project",
                Holds::Text,
                "In which project; default the first one.",
            ),
        ],
        gives: Gives::Page(shape::<admin::OfferedPreset>),
        handler: || get(presets::offered),
        ..READ
    },
    Operation {
        id: "preset_read",
        path: "/api/v1/presets/{id}",
        row: "preset.read",
        summary: "One preset, by id or name",
        gives: Gives::Json(shape::<admin::PresetView>),
        handler: || get(presets::read),
        ..READ
    },
    Operation {
        id: "preset_update",
        path: "/api/v1/presets/{id}",
        row: "preset.write",
        summary: "Change a preset",
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-FIELD-FIXED",
            "LS-SLOT-UNKNOWN",
            "LS-SLOT-AMOUNT",
            "LS-SLOT-EXCLUSIVE",
        ],
        takes: Some(shape::<admin::PresetRequest>),
        gives: Gives::Json(shape::<admin::PresetView>),
        handler: || patch(presets::update),
        ..PATCH
    },
    Operation {
        id: "preset_delete",
        path: "/api/v1/presets/{id}",
        row: "preset.write",
        summary: "Delete a preset",
        handler: || delete(presets::remove),
        ..DELETE
    },
    Operation {
        id: "resource_config_read",
        path: "/api/v1/resource-config",
        row: "resource_config.read",
        summary: "Pools, profiles and allocation policies as they are live",
        codes: &[],
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        handler: || get(config::live),
        ..READ
    },
    Operation {
        id: "resource_config_draft_read",
        path: "/api/v1/resource-config/draft",
        row: "resource_config.read",
        summary: "The document that is being prepared",
        codes: &[],
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        handler: || get(config::draft),
        ..READ
    },
    Operation {
        id: "resource_config_draft_write",
        path: "/api/v1/resource-config/draft",
        row: "resource_config.write",
        summary: "Save the draft",
        method: Verb::Put,
        parameters: VERSIONED,
        codes: &[
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-FIELD-FIXED",
            "LS-SLOT-UNKNOWN",
            "LS-SLOT-AMOUNT",
            "LS-SLOT-EXCLUSIVE",
        ],
        takes: Some(shape::<admin::ResourceConfigRequest>),
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        handler: || put(config::save),
        ..ACT
    },
    Operation {
        id: "resource_config_draft_validate",
        path: "/api/v1/resource-config/draft/validate",
        row: "resource_config.write",
        summary: "Say what is wrong with the saved draft, and what provisioning would do",
        codes: &[],
        gives: Gives::Json(shape::<admin::ConfigVerdict>),
        handler: || post(config::validate),
        ..ACT
    },
    Operation {
        id: "resource_config_draft_reset",
        path: "/api/v1/resource-config/draft/reset",
        row: "resource_config.write",
        summary: "Make the draft equal to what is live",
        codes: &["LS-VERSION-STALE"],
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        handler: || post(config::reset),
        ..ACT
    },
    Operation {
        id: "resource_config_provision",
        path: "/api/v1/resource-config/provision",
        row: "resource_config.write",
        summary: "Make the draft live",
        codes: &["LS-CONFIG-STALE", "LS-CONFIG-INVALID"],
        takes: Some(shape::<admin::ProvisionRequest>),
        gives: Gives::Json(shape::<admin::ConfigVerdict>),
        handler: || post(config::provision),
        ..ACT
    },
    Operation {
        id: "resource_config_enabled_write",
        path: "/api/v1/resource-config/enabled",
        row: "resource_config.write",
        summary: "Serve queues, or let them rest",
        method: Verb::Put,
        codes: &[],
        takes: Some(shape::<admin::ConfigSwitch>),
        gives: Gives::Json(shape::<admin::ResourceConfigView>),
        handler: || put(config::switch),
        ..ACT
    },
    Operation {
        id: "queues_list",
        path: "/api/v1/queues",
        row: "queue.read",
        summary: "Queues by name; others than superadmins see those they may use",
        parameters: &[
            query("name", Holds::Texts, "Only of this name."),
            query("policy", Holds::Texts, "Only of this allocation policy."),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::QueueView>),
        handler: || get(config::list),
        ..LIST
    },
    Operation {
        id: "queue_read",
        path: "/api/v1/queues/{id}",
        row: "queue.read",
        summary: "One queue, by name",
        gives: Gives::Json(shape::<admin::QueueView>),
        handler: || get(config::read),
        ..READ
    },
    Operation {
        id: "queue_update",
        path: "/api/v1/queues/{id}",
        row: "queue.write",
        summary: "Rename a queue",
        parameters: REHEARSED,
        codes: &["LS-NOT-FOUND", "LS-EXISTS"],
        takes: Some(shape::<admin::QueuePatch>),
        gives: Gives::Json(shape::<admin::QueueView>),
        handler: || patch(config::rename),
        ..PATCH
    },
    Operation {
        id: "queue_pending",
        path: "/api/v1/queues/{id}/pending",
        row: "queue.read",
        summary: "Who waits in it, in its order",
        parameters: PAGED,
        codes: &["LS-NOT-FOUND", "LS-CURSOR"],
        gives: Gives::Page(shape::<api::Session>),
        handler: || get(config::pending),
        ..LIST
    },
    Operation {
        id: "export_read",
        path: "/api/v1/exports/{id}",
        row: "export.read",
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
        row: "usage_audit.run",
        summary: "Compare the books with what connected agents report",
        codes: &[],
        takes: Some(shape::<admin::UsageAuditRequest>),
        gives: Gives::Json(shape::<admin::UsageAuditView>),
        handler: || post(exports::audit),
        ..ACT
    },
];
