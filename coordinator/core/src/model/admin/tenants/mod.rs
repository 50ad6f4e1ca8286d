//! Domains, projects, people and keypairs: who they are, and what follows from what is done
//! to them.
//!
//! | module | decides about |
//! |---|---|
//! | `domains` | domains and projects |
//! | `people` | people: how they are shown, made and called |
//! | `standing` | status, role, domain, flags and policy of a person |
//! | `memberships` | who is in which project; what somebody loses who goes |
//! | `keypairs` | keypairs |
//! | `import` | people from a table |
//! | `removal` | domains and projects that go |
//! | `fixed` | people that stand in the configuration |

mod domains;
mod fixed;
mod import;
mod keypairs;
mod memberships;
mod people;
mod removal;
mod standing;

pub(super) use domains::{create_domain, create_project, patch_domain, patch_project};
pub use domains::{domain_view, project_view};
pub use fixed::{FixedOrder, FixedUser};
pub(in super::super) use fixed::{apply as apply_fixed, stands_in_file};
pub(super) use import::import;
pub use import::{ImportRow, file_refusal};
pub use keypairs::keypair_view;
pub(super) use keypairs::{
    access_key_is_free, create_keypair, delete as delete_keypair, patch_keypair,
    revoke as revoke_keypair, rotate as rotate_keypair, set_keypair_active, set_main,
};
pub use memberships::member_view;
pub(super) use memberships::{part, put_member};
pub(super) use people::{create_user, new_person, patch_user, projects_of};
pub use people::{user_view, user_views};
pub(super) use removal::{delete_domain, delete_project};
pub(super) use standing::{
    About, require_change, set_domain, set_policy, set_role, set_status, set_sudo,
};

use super::super::change::PolicyKind;
use super::super::event::{Caller, Refusal};
use super::super::people::{Keypair, KeypairState, Role, User};
use super::super::policies::Domain;
use super::super::state::State;
use super::members::Reader;
use super::policies::{DEFAULT, refer};
use longshore_common::admin::Member;
use longshore_common::ids::{DomainId, ProjectId, UserId};
use longshore_identity::fields::messages;

/// The name of a domain, also of one that is gone.
pub(super) fn domain_name(state: &State, id: DomainId) -> String {
    let gone = || state.gone.domains.get(&id);
    let domain = state.domains.get(&id).or_else(gone);
    domain.map_or_else(String::new, |d| d.name.clone())
}

/// The name of a project, of one that is gone too.
pub(super) fn project_name(state: &State, id: ProjectId) -> String {
    let gone = || state.gone.projects.get(&id);
    let project = state.projects.get(&id).or_else(gone);
    project.map_or_else(String::new, |p| p.name.clone())
}

pub(super) fn username_of(state: &State, user: UserId) -> String {
    let user = state.users.get(&user);
    user.map_or_else(String::new, |u| u.username.clone())
}

/// A text whose own rules follow; null says as little as absent.
pub(super) fn plain(r: &mut Reader, field: &str, member: &Member<String>) -> Option<String> {
    match member {
        Member::Value(text) => Some(text.trim().to_owned()),
        Member::Wrong(_) => {
            r.wrong(&format!("/{field}"), format!("{field} must be text."));
            None
        }
        Member::Absent | Member::Null => None,
    }
}

/// A keypair that opens nothing ever again. It stays for history, and so that its access key
/// is not given out a second time.
fn revoked(keypair: &Keypair) -> Keypair {
    Keypair {
        state: KeypairState::Revoked,
        secret_sha256: None,
        previous: None,
        main: false,
        ..keypair.clone()
    }
}

/// The name of the domain in which the caller makes a project when it names none: one's own,
/// for a superadmin the one named `default`.
pub(super) fn home<'a>(state: &'a State, caller: &Caller) -> &'a str {
    let own = state.users.get(&caller.user);
    let own = own.filter(|user| user.role != Role::Superadmin);
    own.and_then(|user| state.domains.get(&user.domain))
        .map_or(DEFAULT, |domain| domain.name.as_str())
}

/// The domain a request names, else the one named `default`.
pub(super) fn domain_of<'a>(
    state: &'a State,
    r: &mut Reader,
    member: &Member<String>,
) -> Option<&'a Domain> {
    let name = r.text("domain", member, 64);
    if name.is_none() && !member.is_absent() {
        return None; // said already
    }
    let name = name.flatten().unwrap_or_else(|| DEFAULT.to_owned());
    let found = state.domain_by_ref(&name);
    match found {
        None => r.wrong("/domain", messages::domain_unknown(&name)),
        Some(domain) if !domain.active => {
            r.wrong("/domain", messages::domain_inactive(&domain.name));
        }
        Some(_) => (),
    }
    found
}

/// The policy a request names.
pub(super) fn policy_of(
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
