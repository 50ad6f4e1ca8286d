//! Keypair, user and project policies: made, changed, deleted.
//!
//! | module | has |
//! |---|---|
//! | `keypair` | limits on what runs |
//! | `idle` | rules of idleness |
//! | `kept` | user and project policies: limits on what is kept |
//! | `follow` | what a change does to sessions that are there |
//! | `lives` | how long sessions may live, and which policy says so |
//! | `delete` | deletion, and what its users get instead |

mod delete;
mod follow;
mod idle;
mod kept;
mod keypair;
mod lives;

pub(super) use delete::delete;
pub(super) use follow::follow;
pub(crate) use follow::follow as follow_policies;
pub use idle::{idle_from, idle_rules};
pub use kept::{project_policy_view, user_policy_view};
pub use keypair::keypair_policy_view;
pub use lives::lives_view;

use super::super::change::PolicyKind;
use super::super::event::Refusal;
use super::super::policies::{KeypairPolicy, ProjectPolicy, UserPolicy};
use super::super::state::State;
use super::Decision;
use super::members::{Reader, missing, unknown};
use super::named::{Named, made, patched};
use longshore_common::admin::{Member, UsedBy};
use longshore_common::ids::PolicyId;
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;

/// Name of the policy of each kind that is always there.
pub(super) const DEFAULT: &str = "default";

/// One of the three kinds.
pub(super) trait Policy: Named + 'static {
    /// What makes or changes it.
    type Request;

    /// Those there are, by name in lower case.
    fn all(state: &State) -> &BTreeMap<String, Self>;

    fn id(&self) -> PolicyId;

    /// The same values as something new.
    fn renewed(self, id: PolicyId, name: &str, now: Timestamp) -> Self;

    /// The members `name` and `clone` of a request.
    fn names(request: &Self::Request) -> (&Member<String>, &Member<String>);

    /// Puts the members of a request.
    fn fill(&mut self, request: &Self::Request, r: &mut Reader);
}

fn used_by(active: impl Iterator<Item = bool>) -> UsedBy {
    let mut used = UsedBy::default();
    for is in active {
        used.active += u64::from(is);
        used.inactive += u64::from(!is);
    }
    used
}

/// Makes a policy; `fresh` is one with the default of every field.
pub(super) fn create<P: Policy>(
    state: &State,
    id: PolicyId,
    request: &P::Request,
    now: Timestamp,
    fresh: fn(PolicyId, &str, Timestamp) -> P,
) -> Result<Decision, Refusal> {
    let mut reader = Reader::default();
    let (name, clone) = P::names(request);
    let name = reader.handle(name).unwrap_or_default();
    let mut policy = match cloned::<P>(state, &mut reader, clone) {
        Some(other) => other.renewed(id, &name, now),
        None => fresh(id, &name, now),
    };
    policy.fill(request, &mut reader);
    reader.done()?;
    let is_taken = P::all(state).contains_key(&name.to_ascii_lowercase());
    made(state, policy, is_taken)
}

/// The policy whose values a new one begins with.
fn cloned<P: Policy>(state: &State, reader: &mut Reader, member: &Member<String>) -> Option<P> {
    let name = reader.text("clone", member, 64).flatten()?;
    let known = P::all(state);
    let found = known.get(&name.to_ascii_lowercase()).cloned();
    if found.is_none() {
        let known = known.keys().map(String::as_str);
        reader.wrong("/clone", unknown(P::WHAT, &name, known));
    }
    found
}

pub(super) fn patch<P: Policy>(
    state: &State,
    name: &str,
    expected: Option<u64>,
    request: &P::Request,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = find::<P>(state, name)?;
    let (name, clone) = P::names(request);
    patched(state, present, expected, name, now, |policy| {
        let mut reader = Reader::default();
        if !clone.is_absent() {
            reader.wrong("/clone", "clone is for new policies only.");
        }
        policy.fill(request, &mut reader);
        reader.done()
    })
}

/// A policy by name (any case) or id.
fn find<'a, P: Policy>(state: &'a State, name: &str) -> Result<&'a P, Refusal> {
    let found = match name.parse::<PolicyId>() {
        Ok(wanted) => P::all(state).values().find(|p| p.id() == wanted),
        Err(_) => P::all(state).get(&name.to_ascii_lowercase()),
    };
    found.ok_or_else(|| missing(P::WHAT, name))
}

const fn what(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Keypair => KeypairPolicy::WHAT,
        PolicyKind::User => UserPolicy::WHAT,
        PolicyKind::Project => ProjectPolicy::WHAT,
    }
}

/// Name and version of a policy by name (any case) or id.
fn head<'a>(state: &'a State, kind: PolicyKind, name: &str) -> Result<(&'a str, u64), Refusal> {
    match kind {
        PolicyKind::Keypair => find::<KeypairPolicy>(state, name).map(Named::head),
        PolicyKind::User => find::<UserPolicy>(state, name).map(Named::head),
        PolicyKind::Project => find::<ProjectPolicy>(state, name).map(Named::head),
    }
}

fn names<P: Policy>(state: &State) -> Vec<&str> {
    P::all(state).values().map(|p| p.head().0).collect()
}

/// The name of a policy that is referred to, or the sentence that there is none.
pub(super) fn refer(state: &State, kind: PolicyKind, name: &str) -> Result<String, String> {
    let found = head(state, kind, name).map(|(name, _)| name.to_owned());
    found.map_err(|_| {
        let known = match kind {
            PolicyKind::Keypair => names::<KeypairPolicy>(state),
            PolicyKind::User => names::<UserPolicy>(state),
            PolicyKind::Project => names::<ProjectPolicy>(state),
        };
        unknown(what(kind), name, known.into_iter())
    })
}
