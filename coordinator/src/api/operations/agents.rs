//! Nodes, their devices, and tokens with which nodes join.

use super::Access;
use super::parts::{
    CREATE, CURSOR, DELETE, DRY_RUN, GROUP, IF_MATCH, IF_NONE_MATCH, LIMIT, LIST, ORDER, PAGED,
    PATCH, READ, REHEARSED, head, query, shape,
};
use super::{Gives, Holds, Operation, Parameter, Verb};
use crate::api::admin::unclaimed;
use crate::api::{agents, devices, drain};
use axum::routing::{delete, get, patch, post, put};
use longshore_common::api;

const DRAIN: &[Parameter] = &[
    DRY_RUN,
    head(
        "If-Match",
        "ETag of the node as it was read, or *. Not required.",
    ),
];

const CORDONED: &[&str] = &[
    "LS-NOT-FOUND",
    "LS-AGENT-STATE",
    "LS-VERSION-STALE",
    "LS-STATE",
    "LS-AGENT-UNREACHABLE",
];

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "agents_list",
        path: "/api/v1/agents",
        row: Some(Access::AgentRead),
        summary: "Nodes by name",
        parameters: &[
            query("state", Holds::Texts, "Only in this state."),
            GROUP,
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<api::Agent>),
        handler: || get(agents::list),
        ..LIST
    },
    Operation {
        id: "agent_read",
        path: "/api/v1/agents/{id}",
        row: Some(Access::AgentRead),
        summary: "One node, by id or name",
        parameters: &[IF_NONE_MATCH],
        gives: Gives::Json(shape::<api::Agent>),
        handler: || get(agents::read),
        ..READ
    },
    Operation {
        id: "agent_update",
        path: "/api/v1/agents/{id}",
        row: Some(Access::AgentWrite),
        summary: "Change whether it takes new work, and its resource group",
        parameters: &[IF_MATCH],
        takes: Some(shape::<api::AgentPatch>),
        gives: Gives::Json(shape::<api::Agent>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-AGENT-STATE",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
        ],
        handler: || patch(agents::update),
        ..PATCH
    },
    Operation {
        id: "agent_drain",
        method: Verb::Put,
        path: "/api/v1/agents/{id}/drain",
        row: Some(Access::AgentWrite),
        summary: "Empty a node: nothing new comes, its people are told, at the deadline what is left is stopped",
        parameters: DRAIN,
        takes: Some(shape::<api::DrainRequest>),
        gives: Gives::Json(shape::<api::Agent>),
        codes: &["LS-NOT-FOUND", "LS-AGENT-STATE", "LS-VERSION-STALE"],
        handler: || put(drain::begin),
        ..ORDER
    },
    Operation {
        id: "agent_undrain",
        method: Verb::Delete,
        path: "/api/v1/agents/{id}/drain",
        row: Some(Access::AgentWrite),
        summary: "It need not be empty any more; it takes new work if it did before",
        parameters: DRAIN,
        gives: Gives::Json(shape::<api::Agent>),
        codes: &["LS-NOT-FOUND", "LS-AGENT-STATE", "LS-VERSION-STALE"],
        handler: || delete(drain::end),
        ..READ
    },
    Operation {
        id: "device_cordon",
        path: "/api/v1/agents/{id}/devices/{device}/cordon",
        row: Some(Access::AgentWrite),
        summary: "Give a device out no more; what has it keeps it",
        parameters: DRAIN,
        takes: Some(shape::<api::CordonRequest>),
        gives: Gives::Json(shape::<api::Agent>),
        codes: CORDONED,
        handler: || post(devices::cordon),
        ..ORDER
    },
    Operation {
        id: "device_uncordon",
        path: "/api/v1/agents/{id}/devices/{device}/uncordon",
        row: Some(Access::AgentWrite),
        summary: "Give a device out again, whoever kept it back; a defect that is still there does so anew",
        parameters: DRAIN,
        takes: Some(shape::<api::CordonRequest>),
        gives: Gives::Json(shape::<api::Agent>),
        codes: CORDONED,
        handler: || post(devices::uncordon),
        ..ORDER
    },
    Operation {
        id: "agent_expel",
        path: "/api/v1/agents/{id}/expel",
        row: Some(Access::AgentWrite),
        summary: "Remove a node for good",
        gives: Gives::Json(shape::<api::Agent>),
        handler: || post(agents::expel),
        ..ORDER
    },
    Operation {
        id: "agent_confirm_loss",
        path: "/api/v1/agents/{id}/confirm-loss",
        row: Some(Access::AgentWrite),
        summary: "Give up what runs on a node that is LOST, now",
        parameters: REHEARSED,
        gives: Gives::Json(shape::<api::Agent>),
        codes: &["LS-NOT-FOUND", "LS-AGENT-STATE"],
        handler: || post(agents::confirm_loss),
        ..ORDER
    },
    Operation {
        id: "devices_list",
        path: "/api/v1/devices",
        row: Some(Access::AgentRead),
        summary: "Every device, and who holds it",
        parameters: &[
            query("agent", Holds::Texts, "Only of this node, by name or id."),
            GROUP,
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<api::Device>),
        handler: || get(agents::devices),
        ..LIST
    },
    Operation {
        id: "unclaimed_list",
        path: "/api/v1/unclaimed",
        row: Some(Access::UnclaimedRead),
        summary: "Containers of this installation that no order names, by node",
        parameters: &[
            query("agent", Holds::Texts, "Only of this node, by name or id."),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<api::Unclaimed>),
        handler: || get(agents::unclaimed),
        ..LIST
    },
    Operation {
        id: "unclaimed_stop",
        path: "/api/v1/unclaimed/{id}/stop",
        row: Some(Access::UnclaimedWrite),
        summary: "End a container that no order names; what it holds is free once its node says that it is gone",
        parameters: REHEARSED,
        takes: Some(shape::<api::StopUnclaimed>),
        gives: Gives::Json(shape::<api::Unclaimed>),
        codes: &["LS-INVALID", "LS-NOT-FOUND"],
        handler: || post(unclaimed::stop),
        ..ORDER
    },
    Operation {
        id: "unclaimed_adopt",
        path: "/api/v1/unclaimed/{id}/adopt",
        row: Some(Access::UnclaimedWrite),
        summary: "Let a container stay that no order names: its session is made again of its signed record where that is possible, else it is left alone and not stopped by itself",
        parameters: REHEARSED,
        gives: Gives::Json(shape::<api::Unclaimed>),
        codes: &["LS-NOT-FOUND", "LS-STATE"],
        handler: || post(unclaimed::adopt),
        ..ORDER
    },
    Operation {
        id: "join_tokens_list",
        path: "/api/v1/join-tokens",
        row: Some(Access::JoinTokenRead),
        summary: "Join tokens, oldest first",
        parameters: PAGED,
        gives: Gives::Page(shape::<api::JoinToken>),
        handler: || get(agents::tokens),
        ..LIST
    },
    Operation {
        id: "join_tokens_create",
        path: "/api/v1/join-tokens",
        row: Some(Access::JoinTokenWrite),
        summary: "Make a join token; its secret is shown this once",
        parameters: &[],
        takes: Some(shape::<api::NewJoinToken>),
        gives: Gives::Json(shape::<api::JoinToken>),
        codes: &["LS-GROUP-UNKNOWN", "LS-EXISTS"],
        handler: || post(agents::create_token),
        ..CREATE
    },
    Operation {
        id: "join_token_delete",
        path: "/api/v1/join-tokens/{id}",
        row: Some(Access::JoinTokenWrite),
        summary: "Take a join token back",
        parameters: &[],
        codes: &[],
        handler: || delete(agents::delete_token),
        ..DELETE
    },
];
