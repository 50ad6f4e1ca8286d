//! Groups of users, access rules and service accounts.
//!
//! | module | decides about |
//! |---|---|
//! | `groups` | groups of users and who is in them |
//! | `rules` | access rules, and what goes with a thing that is deleted |
//! | `accounts` | service accounts |
//! | `found` | who and what the words of a request mean |
//! | `shifts` | who would gain and lose what |

mod accounts;
mod found;
mod groups;
mod rules;
mod shifts;

pub use accounts::account_view;
pub use found::{resource_of, subject_for, subject_of};
pub(super) use groups::members_target;
pub use groups::{group_target, user_group_view};
pub(super) use rules::follow;
pub use rules::{access_rule_view, effective, rule_target};
pub(super) use shifts::shifts;

use super::super::event::{Caller, Refusal};
use super::super::people::User;
use super::super::state::State;
use super::permit::judge;
use super::{AdminObject, Decision};
use crate::access::{self, Operation, Target};
use longshore_common::admin::{
    AccessRuleRequest, AccessRuleView, KeypairView, ServiceAccountRequest, ServiceAccountView,
    UserGroupRequest, UserGroupView,
};
use longshore_common::ids::{AccessRuleId, UserGroupId, UserId};
use longshore_common::time::Timestamp;
use serde_json::Value;

/// An order about rights. Ids and secrets were drawn at the rim.
#[derive(Debug, Clone)]
pub enum RightsVerb {
    /// Makes a group of users.
    CreateGroup(UserGroupId, UserGroupRequest),
    /// Changes a group of users.
    PatchGroup(String, UserGroupRequest),
    /// Deletes a group of users, and its part in access rules.
    DeleteGroup(String),
    /// Puts somebody into a group by hand, or takes the membership by hand away.
    Member {
        /// Which group.
        group: String,
        /// Whom, by id or login name.
        who: String,
        /// In or out.
        within: bool,
    },
    /// Makes an access rule.
    CreateRule(AccessRuleId, AccessRuleRequest),
    /// Changes an access rule.
    PatchRule(String, AccessRuleRequest),
    /// Deletes an access rule.
    DeleteRule(String),
    /// Makes a service account with a first keypair.
    CreateAccount {
        /// Its id.
        id: UserId,
        /// Public part of the first keypair.
        access_key: String,
        /// SHA-256 of its secret part.
        secret_sha256: [u8; 32],
        /// What it is to be.
        request: ServiceAccountRequest,
    },
    /// Changes a service account.
    PatchAccount {
        /// Which.
        name: String,
        /// What is to be otherwise.
        request: ServiceAccountRequest,
    },
    /// Deletes a service account.
    DeleteAccount {
        /// Which.
        name: String,
        /// Its sessions go on.
        keep_sessions: bool,
    },
}

/// What an order about rights is answered with.
#[derive(Debug, Clone)]
pub enum RightsObject {
    /// A group of users.
    Group(Box<UserGroupView>),
    /// An access rule.
    Rule(Box<AccessRuleView>),
    /// A service account; of a new one also the first keypair.
    Account(Box<ServiceAccountView>, Option<Box<KeypairView>>),
}

impl RightsObject {
    /// As JSON.
    ///
    /// # Errors
    /// Never, with these shapes.
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::Group(view) => serde_json::to_value(view),
            Self::Rule(view) => serde_json::to_value(view),
            Self::Account(view, _) => serde_json::to_value(view),
        }
    }
}

impl RightsVerb {
    /// Its operation, and the kind of thing it is about.
    pub(in super::super) const fn names(&self) -> (Operation, &'static str) {
        match self {
            Self::CreateGroup(..)
            | Self::PatchGroup(..)
            | Self::DeleteGroup(_)
            | Self::Member { .. } => (Operation::GroupWrite, "user_group"),
            Self::CreateRule(..) | Self::PatchRule(..) | Self::DeleteRule(_) => {
                (Operation::AccessWrite, "access_rule")
            }
            Self::CreateAccount { .. } | Self::PatchAccount { .. } | Self::DeleteAccount { .. } => {
                (Operation::ServiceAccountWrite, "service_account")
            }
        }
    }

    /// What it is done to, as far as that is there already; with the noun and the words by
    /// which it was named. What is made, and what a thing becomes, the verb judges itself.
    pub(super) fn target(&self, state: &State) -> (Option<Target>, (&'static str, &str)) {
        let group = |name: &str| {
            let found = state.user_group_by_ref(name);
            found.map(groups::change_target)
        };
        match self {
            Self::CreateGroup(..) => (None, ("user group", "")),
            Self::PatchGroup(name, _) | Self::DeleteGroup(name) => {
                (group(name), ("user group", name))
            }
            Self::Member { group: name, .. } => {
                let members = state.user_group_by_ref(name).map(members_target);
                (members, ("user group", name))
            }
            Self::CreateRule(..) => (None, ("access rule", "")),
            Self::PatchRule(id, _) | Self::DeleteRule(id) => {
                let rule = rules::find(state, id);
                (
                    rule.map(|rule| rule_target(state, &rule.rule)),
                    ("access rule", id),
                )
            }
            Self::CreateAccount { .. } => (None, ("service account", "")),
            Self::PatchAccount { name, .. } | Self::DeleteAccount { name, .. } => {
                let account = accounts::find(state, name);
                (
                    account.map(super::permit::person),
                    ("service account", name),
                )
            }
        }
    }
}

/// Who gives an order, with what it may do.
pub(super) struct Giver<'a> {
    pub(super) user: &'a User,
    pub(super) rights: access::Caller,
}

impl Giver<'_> {
    fn may(
        &self,
        operation: Operation,
        target: &Target,
        thing: (&str, &str),
    ) -> Result<(), Refusal> {
        judge(&self.rights, operation, target, thing)
    }
}

pub(super) fn decide(
    state: &State,
    caller: &Caller,
    verb: &RightsVerb,
    expected: Option<u64>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let user = state.users.get(&caller.user);
    let user =
        user.ok_or_else(|| Refusal::new("LS-AUTH-FAILED", "The credentials are not valid."))?;
    let giver = Giver {
        user,
        rights: state.rights_of(user),
    };
    match verb {
        RightsVerb::CreateGroup(id, request) => groups::create(state, &giver, *id, request, now),
        RightsVerb::PatchGroup(name, request) => {
            groups::patch(state, &giver, name, expected, request)
        }
        RightsVerb::DeleteGroup(name) => groups::delete(state, name, expected),
        RightsVerb::Member { group, who, within } => {
            groups::member(state, group, expected, who, *within)
        }
        RightsVerb::CreateRule(id, request) => rules::create(state, &giver, *id, request, now),
        RightsVerb::PatchRule(id, request) => rules::patch(state, &giver, id, expected, request),
        RightsVerb::DeleteRule(id) => rules::delete(state, id, expected),
        RightsVerb::CreateAccount {
            id,
            access_key,
            secret_sha256,
            request,
        } => {
            let first = (*id, access_key.as_str(), *secret_sha256);
            accounts::create(state, &giver, first, request, now)
        }
        RightsVerb::PatchAccount { name, request } => {
            accounts::patch(state, &giver, name, (expected, request), now)
        }
        RightsVerb::DeleteAccount {
            name,
            keep_sessions,
        } => accounts::delete(state, caller, name, expected, *keep_sessions, now),
    }
}

fn object(object: RightsObject) -> AdminObject {
    AdminObject::Rights(object)
}
