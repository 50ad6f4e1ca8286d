//! What many rows of the table share: parameters, codes, and rows to begin with.

use super::{Gives, Holds, Operation, Parameter, Verb};
use axum::routing::MethodRouter;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

/// The shape of a type.
pub(super) fn shape<T: ToSchema>() -> (String, Vec<(String, RefOr<Schema>)>) {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    (T::name().into_owned(), schemas)
}

pub(super) const fn query(name: &'static str, holds: Holds, what: &'static str) -> Parameter {
    Parameter {
        name,
        holds,
        what,
        header: false,
    }
}

pub(super) const fn head(name: &'static str, what: &'static str) -> Parameter {
    Parameter {
        name,
        holds: Holds::Text,
        what,
        header: true,
    }
}

pub(super) const LIMIT: Parameter = query(
    "limit",
    Holds::Number(1, 500),
    "Objects per page; default 50.",
);
pub(super) const CURSOR: Parameter =
    query("cursor", Holds::Text, "next_cursor of the page before.");
pub(super) const PAGED: &[Parameter] = &[LIMIT, CURSOR];
pub(super) const GROUP: Parameter = query(
    "group",
    Holds::Texts,
    "Only of this resource group, by name or id.",
);
pub(super) const IF_NONE_MATCH: Parameter = head(
    "If-None-Match",
    "ETag that is known already; the same version answers 304.",
);
pub(super) const IF_MATCH: Parameter = head(
    "If-Match",
    "ETag of the object as it was read, or *. Required.",
);
pub(super) const DRY_RUN: Parameter = query(
    "dry_run",
    Holds::Flag,
    "Check everything and store nothing; the body says the impact.",
);
pub(super) const NAME_HOLDS: Parameter = query(
    "name",
    Holds::Texts,
    "Only those whose name holds this text.",
);
pub(super) const NAMED: &[Parameter] = &[NAME_HOLDS, LIMIT, CURSOR];
pub(super) const REHEARSED: &[Parameter] = &[DRY_RUN];
pub(super) const VERSIONED: &[Parameter] = &[DRY_RUN, IF_MATCH];
pub(super) const PATCHED: &[&str] = &[
    "LS-NOT-FOUND",
    "LS-VERSION-MISSING",
    "LS-VERSION-STALE",
    "LS-FIELD-FIXED",
    "LS-AMBIGUOUS",
];
pub(super) const DELETED: &[&str] = &[
    "LS-VERSION-MISSING",
    "LS-VERSION-STALE",
    "LS-IN-USE",
    "LS-BUILTIN",
    "LS-INVALID",
];

/// What most reads have in common.
pub(super) const READ: Operation = Operation {
    id: "",
    method: Verb::Get,
    path: "",
    row: None,
    own: None,
    summary: "",
    parameters: &[],
    takes: None,
    takes_text: None,
    status: 200,
    gives: Gives::Nothing,
    codes: &["LS-NOT-FOUND"],
    handler: MethodRouter::new,
};
/// What most answers to everybody have in common.
pub(super) const OPEN: Operation = Operation { codes: &[], ..READ };
/// What most lists have in common.
pub(super) const LIST: Operation = Operation {
    parameters: NAMED,
    codes: &["LS-CURSOR"],
    ..READ
};
/// What most creations have in common.
pub(super) const CREATE: Operation = Operation {
    method: Verb::Post,
    parameters: REHEARSED,
    status: 201,
    codes: &["LS-EXISTS"],
    ..READ
};
/// What most changes have in common.
pub(super) const PATCH: Operation = Operation {
    method: Verb::Patch,
    parameters: VERSIONED,
    codes: PATCHED,
    ..READ
};
/// What most deletions have in common.
pub(super) const DELETE: Operation = Operation {
    method: Verb::Delete,
    parameters: VERSIONED,
    status: 204,
    codes: DELETED,
    ..READ
};
/// What most verbs and parts that are put have in common.
pub(super) const ACT: Operation = Operation {
    method: Verb::Post,
    parameters: REHEARSED,
    ..READ
};
/// What most orders that everybody may give have in common.
pub(super) const ORDER: Operation = Operation {
    method: Verb::Post,
    ..READ
};
