//! The JSON shapes of the HTTP API, shared by the server and the command line.
//!
//! Separate from the domain types on purpose: what is published here only grows.
//! Amounts, ids and enums are text in requests, so that the server can name every
//! bad member at once; in answers they are canonical. Absent means absent: answers
//! never hold `null`.

mod apps;
mod files;

pub use apps::{AppAccess, NewPort, SessionApp, SessionApps};
pub use files::{FileEntry, FileList, FilePut, FilesPut};
mod agent;
mod drain;
mod idle;
mod service;
mod session;
mod submit;
mod usage;

pub use agent::*;
pub use drain::*;
pub use idle::*;
pub use service::*;
pub use session::*;
pub use submit::*;
pub use usage::*;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A failure, as RFC 9457 describes it (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Address of the explanation of `code`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Fixed per code.
    pub title: String,
    /// The HTTP status again.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// Stable, e.g. `LS-SLOT-UNKNOWN`.
    pub code: String,
    /// What happened, for people.
    pub detail: String,
    /// Every bad member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<MemberError>,
    /// The limit that was met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitMet>,
    /// What would pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Objects that are in the way, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<crate::admin::InTheWay>,
    /// How many are in the way, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// The path of the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// The id under which the request stands in the log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

/// One bad member of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct MemberError {
    /// Where, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// Where the member is a text that was parsed: the key in it, dotted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Its column in characters, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What is wrong with it and what would be accepted.
    pub message: String,
}

/// A limit, what there is, and what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitMet {
    /// Which rule.
    pub rule: String,
    /// Which slot, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// The limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// What there is.
    pub have: String,
    /// What was asked.
    pub need: String,
    /// What carries the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// What a limit or a reason comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Source {
    /// `keypair-policy`, `project`, `domain`, `group`, `pool`, `allocation-policy`, `session`, …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its id, where it has one beside the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Source {
    /// A source without an id.
    #[must_use]
    pub fn new(kind: &str, name: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            name: name.into(),
            id: None,
        }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The objects.
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
