//! Groups of users, access rules and service accounts.
//!
//! | module | routes |
//! |---|---|
//! | `groups` | groups of users and who is in them |
//! | `rules` | access rules, and what somebody has on an object |
//! | `accounts` | service accounts |

pub(in super::super) mod accounts;
pub(in super::super) mod groups;
pub(in super::super) mod rules;

#[cfg(test)]
mod tests;

use super::super::App;
use super::super::errors::Failure;
use super::{Match, Nothing, Viewer, Write, write};
use axum::extract::Request;
use axum::response::Response;
use longshore_core::access::{self, Caller, Intent, Operation, Target};
use longshore_core::model::State;
use longshore_core::model::admin::{AdminVerb, RightsVerb};

/// What the caller of a read may do.
fn rights(state: &State, viewer: &Viewer) -> Option<Caller> {
    viewer.rights_now(state)
}

/// Whether the caller of a read is shown a thing.
fn shows(rights: &Caller, operation: Operation, target: Target) -> bool {
    let target = target.intent(Intent::Read);
    access::decide(operation, rights, &target).is_allowed()
}

fn verb(verb: RightsVerb) -> AdminVerb {
    AdminVerb::Rights(Box::new(verb))
}

/// Deletes a thing as it was seen. A rehearsal says whom it would touch.
async fn delete(
    app: &App,
    text: String,
    request: Request,
    parameters: &[&str],
    verb: impl FnOnce(&Write<Nothing>, String) -> Result<RightsVerb, Failure>,
    current: impl FnOnce(&State, &str) -> Option<serde_json::Value> + Send + 'static,
) -> Result<Response, Failure> {
    let write = write::<Nothing>(request, parameters, Match::Required).await?;
    let verb = self::verb(verb(&write, text.clone())?);
    let answer = write
        .order(app, verb, move |state| current(state, &text))
        .await?;
    write.deleted(&answer)
}
