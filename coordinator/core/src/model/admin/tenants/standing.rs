//! What a person is: status, role, domain, flags and policy. One order changes one of them.

use super::super::super::change::{Change, PolicyKind};
use super::super::super::event::{Caller, Refusal};
use super::super::super::people::{LinkPurpose, User, UserStatus};
use super::super::super::state::State;
use super::super::members::Reader;
use super::super::{Decision, DrawnLink, LeftSessions, link_for, void_links};
use super::fixed::stands_in_file;
use super::memberships::{Leaving, switch_off};
use super::people::{changed_user, role_named, seen_user, status};
use super::{domain_of, plain, policy_of, superadmin_remains};
use crate::access::Role;
use longshore_common::admin::{
    Member, RequireChangeRequest, UserDomainRequest, UserPolicyAssignment, UserRoleRequest,
    UserStatusRequest, UserSudoRequest,
};
use longshore_common::time::Timestamp;
use longshore_identity::fields;

/// Who changes whom, and when.
pub(in super::super) struct About<'a> {
    pub(in super::super) state: &'a State,
    pub(in super::super) caller: &'a Caller,
    /// By login name, address or id.
    pub(in super::super) name: &'a str,
    /// The version the caller saw.
    pub(in super::super) expected: Option<u64>,
    pub(in super::super) now: Timestamp,
}

impl<'a> About<'a> {
    fn present(&self) -> Result<&'a User, Refusal> {
        seen_user(self.state, self.name, self.expected)
    }

    fn leaving(&self, user: &'a User) -> Leaving<'a> {
        Leaving::new(self.state, self.caller, user, self.now)
    }

    /// The person with another value somewhere, and nothing that follows from it.
    fn with(&self, change: impl FnOnce(&mut User)) -> Result<Decision, Refusal> {
        let present = self.present()?;
        let mut user = present.clone();
        change(&mut user);
        Ok(changed_user(
            self.state,
            present,
            user,
            self.leaving(present),
        ))
    }
}

/// That a member is there.
fn required<T>(r: &mut Reader, field: &str, member: &Member<T>) {
    if matches!(member, Member::Absent | Member::Null) {
        r.wrong(&format!("/{field}"), format!("{field} is required."));
    }
}

/// `link`: drawn for a status in which the person has to prove the address; without one none
/// is made.
pub(in super::super) fn set_status(
    about: &About<'_>,
    request: &UserStatusRequest,
    link: Option<&DrawnLink>,
) -> Result<Decision, Refusal> {
    let (state, present) = (about.state, about.present()?);
    let mut r = Reader::default();
    let status = status(&mut r, &request.status);
    required(&mut r, "status", &request.status);
    let keypairs_too = r.flag("deactivate_keypairs", &request.deactivate_keypairs);
    let sessions = r.word::<LeftSessions>("sessions", &request.sessions);
    r.done()?;
    let status = status.unwrap_or(present.status);
    if present.is_active() && status != UserStatus::Active {
        if about.caller.user == present.id {
            return Err(Refusal::new(
                "LS-USER-SELF",
                "You cannot deactivate your own account.",
            ));
        }
        if present.role == Role::Superadmin {
            superadmin_remains(state, |user| user.id != present.id)?;
        }
    }
    let user = User {
        status,
        ..present.clone()
    };
    let mut left = about.leaving(present);
    // To be proven again is a deactivation without choices.
    let (keypairs_too, sessions) = match status {
        UserStatus::Inactive => (
            keypairs_too.flatten().unwrap_or(false),
            sessions.flatten().unwrap_or(LeftSessions::Keep),
        ),
        _ => (false, LeftSessions::Keep),
    };
    switch_off(&mut left, (present.status, status), keypairs_too, sessions);
    if status != UserStatus::Active || present.status != UserStatus::Active {
        // What was sent to the person before says nothing about what it is now.
        let purposes = [LinkPurpose::Verification, LinkPurpose::Reset];
        let void = void_links(state, present, &purposes, about.now);
        void.for_each(|change| left.push(change));
    }
    if let (UserStatus::BeforeVerification, Some(link)) = (status, link) {
        let purpose = LinkPurpose::Verification;
        let link = link_for(present, purpose, link, about.caller.user, about.now);
        left.push(Change::Invitation(Box::new(link)));
    }
    Ok(changed_user(state, present, user, left))
}

pub(in super::super) fn set_role(
    about: &About<'_>,
    request: &UserRoleRequest,
) -> Result<Decision, Refusal> {
    let (state, present) = (about.state, about.present()?);
    let mut r = Reader::default();
    required(&mut r, "role", &request.role);
    let word = plain(&mut r, "role", &request.role).map(|word| word.to_ascii_lowercase());
    if let Some(message) = word.as_deref().and_then(fields::role) {
        r.wrong("/role", message);
    }
    r.done()?;
    let role = role_named(&word.unwrap_or_default());
    if present.role == Role::Superadmin && role != Role::Superadmin {
        superadmin_remains(state, |user| user.id != present.id)?;
    }
    about.with(|user| user.role = role)
}

pub(in super::super) fn set_domain(
    about: &About<'_>,
    request: &UserDomainRequest,
) -> Result<Decision, Refusal> {
    let (state, present) = (about.state, about.present()?);
    let mut r = Reader::default();
    required(&mut r, "domain", &request.domain);
    let domain = domain_of(state, &mut r, &request.domain);
    r.done()?;
    let mut left = about.leaving(present);
    let Some(domain) = domain.filter(|d| d.id != present.domain) else {
        return Ok(changed_user(state, present, present.clone(), left));
    };
    let live = left.live_sessions();
    if live > 0 {
        return Err(Refusal::new(
            "LS-USER-LIVE-SESSIONS",
            format!(
                "{} has {live} live {}; they belong to the domain.",
                present.username,
                if live == 1 { "session" } else { "sessions" }
            ),
        )
        .hint("Wait until they have ended, or stop them."));
    }
    left.revoke_keypairs(|k| k.project.is_some());
    left.uninvite(|link| Some(link.withdrawn()));
    for group in state.groups_of(present.id) {
        if group.domain == Some(present.domain) {
            let mut group = group.clone();
            group.members.remove(&present.id);
            group.version += 1;
            left.touched.groups.push(group.name.clone());
            left.push(Change::UserGroup(group));
        }
    }
    let user = User {
        domain: domain.id,
        projects: Vec::new(),
        ..present.clone()
    };
    Ok(changed_user(state, present, user, left))
}

pub(in super::super) fn set_sudo(
    about: &About<'_>,
    request: &UserSudoRequest,
) -> Result<Decision, Refusal> {
    let mut r = Reader::default();
    required(&mut r, "sudo_enabled", &request.sudo_enabled);
    let on = r.flag("sudo_enabled", &request.sudo_enabled);
    r.done()?;
    about.with(|user| user.sudo_enabled = on.flatten().unwrap_or(user.sudo_enabled))
}

pub(in super::super) fn require_change(
    about: &About<'_>,
    request: &RequireChangeRequest,
) -> Result<Decision, Refusal> {
    let mut r = Reader::default();
    let field = "need_password_change";
    required(&mut r, field, &request.need_password_change);
    let on = r.flag(field, &request.need_password_change);
    r.done()?;
    let present = about.present()?;
    if about.state.is_fixed(present.id) {
        return Err(stands_in_file(present));
    }
    about.with(|user| {
        user.need_password_change = on.flatten().unwrap_or(user.need_password_change);
    })
}

pub(in super::super) fn set_policy(
    about: &About<'_>,
    request: &UserPolicyAssignment,
) -> Result<Decision, Refusal> {
    let mut r = Reader::default();
    let (field, member) = ("user_policy", &request.user_policy);
    required(&mut r, field, member);
    let policy = policy_of(about.state, &mut r, field, PolicyKind::User, member);
    r.done()?;
    about.with(|user| {
        if let Some(policy) = policy.flatten() {
            user.user_policy = policy;
        }
    })
}
