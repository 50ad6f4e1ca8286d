//! Domains, projects, people and keypairs: what policies, totals and queues need of them.
//!
//! | module | decides about |
//! |---|---|
//! | `domains` | domains and projects |
//! | `people` | people |
//! | `keypairs` | keypairs |

mod domains;
mod keypairs;
mod people;

pub(super) use domains::{create_domain, create_project, patch_domain, patch_project};
pub use domains::{domain_view, project_view};
pub use keypairs::keypair_view;
pub(super) use keypairs::{
    access_key_is_free, create_keypair, set_keypair_active, set_keypair_policy, set_main,
};
pub(super) use people::{First, create_user, patch_user, projects_of, set_status};
pub use people::{user_view, user_views};

use super::super::change::PolicyKind;
use super::super::event::Refusal;
use super::super::people::{Role, User};
use super::super::policies::Domain;
use super::super::state::State;
use super::members::Reader;
use super::policies::{DEFAULT, refer};
use longshore_common::admin::Member;
use longshore_common::ids::DomainId;

fn domain_name(state: &State, id: DomainId) -> String {
    state
        .domains
        .get(&id)
        .map_or_else(String::new, |d| d.name.clone())
}

/// The domain a request names, else the one named `default`.
fn domain_of<'a>(state: &'a State, r: &mut Reader, member: &Member<String>) -> Option<&'a Domain> {
    let name = r.text("domain", member, 64);
    if name.is_none() && !member.is_absent() {
        return None; // said already
    }
    let name = name.flatten().unwrap_or_else(|| DEFAULT.to_owned());
    let found = state.domain_by_ref(&name);
    match found {
        None => r.wrong("/domain", format!("Domain {name} does not exist.")),
        Some(domain) if !domain.active => {
            r.wrong("/domain", format!("Domain {} is inactive.", domain.name));
        }
        Some(_) => (),
    }
    found
}

/// The policy a request names.
fn policy_of(
    state: &State,
    r: &mut Reader,
    field: &str,
    kind: PolicyKind,
    member: &Member<String>,
) -> Option<Option<String>> {
    match r.text(field, member, 64)? {
        None => Some(None),
        Some(name) => match refer(state, kind, &name) {
            Ok(name) => Some(Some(name)),
            Err(message) => {
                r.wrong(&format!("/{field}"), message);
                None
            }
        },
    }
}

/// Whether somebody can still administer when only these people are left.
fn superadmin_remains(state: &State, left: impl Fn(&User) -> bool) -> Result<(), Refusal> {
    let works = |u: &User| {
        u.role == Role::Superadmin
            && u.is_active()
            && state.domains.get(&u.domain).is_none_or(|d| d.active)
    };
    if state.users.values().any(|u| works(u) && left(u)) {
        return Ok(());
    }
    Err(Refusal::new(
        "LS-LAST-SUPERADMIN",
        "At least one active superadmin must remain.",
    ))
}
