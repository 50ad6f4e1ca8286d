//! Who is in which project, and what becomes of what somebody has when it goes.

use super::super::super::change::Change;
use super::super::super::draft::Draft;
use super::super::super::entities::{Session, Stop};
use super::super::super::event::{Caller, Refusal};
use super::super::super::lifecycle;
use super::super::super::people::{
    Invitation, Keypair, KeypairState, LinkPurpose, Membership, User, UserStatus,
};
use super::super::super::policies::Project;
use super::super::super::state::State;
use super::super::impact::Scope;
use super::super::members::{Reader, missing};
use super::super::{AdminObject, Decision, LeftSessions, by};
use super::domains::find_project;
use super::{domain_name, revoked};
use crate::access::Role;
use longshore_common::admin::{MemberRequest, MemberView, Touched};
use longshore_common::ids::{ProjectId, SessionId};
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;
use longshore_identity::fields::messages;
use std::collections::BTreeSet;

/// What a person loses by one order: sessions that end, keypairs, logins, invitations.
pub(super) struct Leaving<'a> {
    state: &'a State,
    draft: Draft<'a>,
    user: &'a User,
    by: String,
    /// The caller is the person itself.
    oneself: bool,
    /// Somebody asked for it, not the configuration.
    by_somebody: bool,
    /// Sessions that ended or wait from now on, each once.
    sessions: BTreeSet<SessionId>,
    /// Keypairs that open nothing from now on.
    pub(super) keypairs: BTreeSet<String>,
    pub(super) touched: Touched,
}

impl<'a> Leaving<'a> {
    pub(super) fn new(state: &'a State, caller: &Caller, user: &'a User, now: Timestamp) -> Self {
        Self {
            state,
            draft: Draft::new(state, now),
            user,
            by: by(state, caller),
            oneself: caller.user == user.id,
            by_somebody: state.users.contains_key(&caller.user),
            sessions: BTreeSet::new(),
            keypairs: BTreeSet::new(),
            touched: Touched::default(),
        }
    }

    pub(super) const fn now(&self) -> Timestamp {
        self.draft.now
    }

    /// Stores something with the rest.
    pub(super) fn push(&mut self, change: Change) {
        self.draft.push(change);
    }

    /// How many sessions of the person are left.
    pub(super) fn live_sessions(&self) -> u64 {
        let own = self.state.sessions.values();
        let own = own.filter(|s| s.owner == self.user.id);
        let live = own.filter(|s| {
            let session = self.draft.session(s.id);
            session.is_some_and(|s| !s.state.is_final())
        });
        live.count() as u64
    }

    /// Everything as one decision.
    pub(super) fn decision(mut self, object: AdminObject) -> Decision {
        self.touched.sessions = self.sessions.len() as u64;
        self.touched.keypairs = self.keypairs.len() as u64;
        Decision {
            touched: Some(self.touched),
            ..Decision::drafted(object, self.draft)
        }
    }

    /// Ends live sessions of the person of which something is true: those that wait are
    /// cancelled, those that run are stopped.
    pub(super) fn end_sessions(
        &mut self,
        reason: Reason,
        detail: &str,
        is: impl Fn(&Session) -> bool,
    ) {
        let own = self.state.sessions.values();
        let live = own.filter(|s| s.owner == self.user.id && !s.state.is_final());
        let ids: Vec<(SessionId, SessionState)> =
            live.filter(|s| is(s)).map(|s| (s.id, s.state)).collect();
        for (id, at) in ids {
            self.sessions.insert(id);
            match at {
                SessionState::Pending => {
                    lifecycle::cancel(&mut self.draft, id, reason, detail, &self.by);
                }
                _ => {
                    let stop = Stop {
                        reason,
                        detail: detail.to_owned(),
                        grace_s: self.draft.state.stop_grace_s(),
                        forced: false,
                        at: self.draft.now,
                    };
                    lifecycle::stop(&mut self.draft, id, stop, &self.by);
                }
            }
        }
    }

    /// Counts the sessions that cannot start from now on.
    pub(super) fn waiting(&mut self) {
        let own = self.state.sessions.values();
        let waits = own.filter(|s| s.owner == self.user.id && s.state == SessionState::Pending);
        self.sessions.extend(waits.map(|s| s.id));
    }

    /// Keypairs of which something is true open nothing any more, for ever.
    pub(super) fn revoke_keypairs(&mut self, is: impl Fn(&Keypair) -> bool) {
        for keypair in self.state.keypairs_of(self.user.id).filter(|k| is(k)) {
            self.keypairs.insert(keypair.access_key.clone());
            self.draft.push(Change::Keypair(revoked(keypair)));
        }
    }

    /// Active keypairs open nothing any more; `switch` switches them off one by one, else
    /// it is the person that keeps them from it.
    pub(super) fn close_keypairs(&mut self, switch: bool) {
        for keypair in self.state.keypairs_of(self.user.id) {
            if !keypair.is_active() {
                continue;
            }
            self.keypairs.insert(keypair.access_key.clone());
            if switch {
                self.draft.push(Change::Keypair(Keypair {
                    state: KeypairState::Inactive,
                    ..keypair.clone()
                }));
            }
        }
    }

    /// Logins end.
    pub(super) fn end_logins(&mut self) {
        for login in self.state.logins_of(self.user.id) {
            self.touched.logins += 1;
            self.draft.push(Change::LoginEnded(login.id));
        }
    }

    /// Invitations that the person sent and nobody took up are withdrawn.
    pub(super) fn withdraw_invitations(&mut self) {
        let now = self.draft.now;
        for invitation in self.state.invitations.values() {
            let sent = invitation.purpose == LinkPurpose::Invitation;
            if sent && invitation.is_open(now) && invitation.by == self.user.id {
                self.touched.invitations += 1;
                let withdrawn = invitation.withdrawn();
                self.draft.push(Change::Invitation(Box::new(withdrawn)));
            }
        }
    }

    /// Open invitations of the person become what they are given to be, if anything.
    pub(super) fn uninvite(&mut self, less: impl Fn(&Invitation) -> Option<Invitation>) {
        let now = self.draft.now;
        for link in self.state.invitations.values() {
            let changed = (link.is_open(now) && link.is_for(self.user)).then(|| less(link));
            if let Some(changed) = changed.flatten() {
                self.touched.invitations += 1;
                self.draft.push(Change::Invitation(Box::new(changed)));
            }
        }
    }

    /// The person goes out of a project: keypairs bound to it are revoked, what waits there is
    /// cancelled, what runs there is stopped unless it is kept. That the person is a member
    /// no more is the caller's to store.
    pub(super) fn project(&mut self, project: ProjectId, keep: bool) -> Result<(), Refusal> {
        let name = self
            .state
            .projects
            .get(&project)
            .map_or_else(String::new, |p| p.name.clone());
        // The configuration cannot ask anybody to name another one first.
        if self.by_somebody && is_last_admin(self.state, self.user, project) {
            return Err(last_admin(self.oneself, self.user, &name));
        }
        self.revoke_keypairs(|k| k.project == Some(project));
        // Who comes back is asked in anew: an older link does not outlive the membership.
        self.uninvite(|link| {
            link.projects
                .contains(&project)
                .then(|| link.without(project))
        });
        let detail = format!("its owner is no member of project {name} any more");
        self.end_sessions(Reason::MembershipRemoved, &detail, |s| {
            s.project == project && (!keep || s.state == SessionState::Pending)
        });
        Ok(())
    }
}

fn last_admin(oneself: bool, user: &User, project: &str) -> Refusal {
    let who = match oneself {
        true => "You are".to_owned(),
        false => format!("{} is", user.username),
    };
    let text =
        format!("{who} the last administrator of project {project}; name another one first.");
    Refusal::new("LS-LAST-ADMIN", text)
}

/// Whether a project would be left without an active administrator of its own.
fn is_last_admin(state: &State, user: &User, project: ProjectId) -> bool {
    let works = |u: &User| u.administers(project) && u.is_active();
    works(user)
        && !state
            .users
            .values()
            .any(|other| other.id != user.id && works(other))
}

/// Somebody in a project as it is shown; nothing if it is not in it.
#[must_use]
pub fn member_view(project: &Project, user: &User) -> Option<MemberView> {
    let row = user.projects.iter().find(|m| m.project == project.id)?;
    Some(shown(project, user, row))
}

fn shown(project: &Project, user: &User, row: &Membership) -> MemberView {
    MemberView {
        project: project.id.to_string(),
        project_name: project.name.clone(),
        user: user.printed_id(),
        user_name: user.username.clone(),
        full_name: user.full_name.clone(),
        admin: row.admin,
        source: row.source.to_string(),
        status: user.status.as_str().to_owned(),
    }
}

pub(in super::super) fn put_member(
    state: &State,
    caller: &Caller,
    (project, name): (&str, &str),
    request: &MemberRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let project = find_project(state, caller, project)?;
    let user = state.user_by_ref(name);
    let user = user.ok_or_else(|| missing("user", name))?;
    let mut r = Reader::default();
    let admin = r.flag("admin", &request.admin).flatten();
    if user.domain != project.domain {
        // To those who see one domain only, people of another are not there.
        let all = state.users.get(&caller.user).map(|u| u.role) == Some(Role::Superadmin);
        if !all {
            return Err(missing("user", name));
        }
        let domain = domain_name(state, user.domain);
        r.wrong("", messages::project_not_in_domain(&project.name, &domain));
    }
    let present = user.projects.iter().find(|m| m.project == project.id);
    if present.is_none() && !project.active {
        r.wrong("", format!("Project {} is inactive.", project.name));
    }
    r.done()?;
    let row = Membership {
        admin: admin.unwrap_or_else(|| present.is_some_and(|m| m.admin)),
        ..present
            .cloned()
            .unwrap_or_else(|| Membership::manual(project.id))
    };
    let object = AdminObject::Member(Box::new(shown(project, user, &row)));
    if present == Some(&row) {
        return Ok(Decision::new(object, Vec::new()));
    }
    if present.is_some_and(|m| m.admin) && !row.admin && is_last_admin(state, user, project.id) {
        return Err(last_admin(caller.user == user.id, user, &project.name));
    }
    let mut changed = user.clone();
    changed.version += 1;
    changed.updated_at = now;
    match changed
        .projects
        .iter_mut()
        .find(|m| m.project == project.id)
    {
        Some(place) => *place = row,
        None => changed.projects.push(row),
    }
    let mut decision = Decision::new(object, vec![Change::User(Box::new(changed))]);
    decision.before = member_view(project, user).and_then(|v| serde_json::to_value(v).ok());
    Ok(decision.touching(Scope::user(state, user.id)))
}

/// Somebody goes out of a project, by itself or because it was removed.
pub(in super::super) fn part(
    state: &State,
    caller: &Caller,
    (project, name): (&str, Option<&str>),
    sessions: LeftSessions,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let project = find_project(state, caller, project)?;
    let found = match name {
        Some(name) => state.user_by_ref(name),
        None => state.users.get(&caller.user),
    };
    // Who is there and no member is as one who is not there.
    let user = found.ok_or_else(|| missing("member", name.unwrap_or("")))?;
    let Some(view) = member_view(project, user) else {
        return match name {
            Some(name) => Err(missing("member", name)),
            None => Err(missing("project", &project.name)),
        };
    };
    let mut left = Leaving::new(state, caller, user, now);
    left.project(project.id, sessions == LeftSessions::Keep)?;
    let mut changed = user.clone();
    changed.projects.retain(|m| m.project != project.id);
    changed.version += 1;
    changed.updated_at = now;
    left.push(Change::User(Box::new(changed)));
    let there = |s: &Session| s.owner == user.id && s.project == project.id;
    let scope = Scope {
        users: BTreeSet::from([user.id]),
        keypairs: left.keypairs.clone(),
        ..Scope::sessions(state, there)
    };
    let decision = left.decision(AdminObject::Parted(Box::new(view)));
    Ok(decision.touching(scope))
}

/// What follows for the rest when a person can do nothing any more.
pub(super) fn switch_off(
    left: &mut Leaving<'_>,
    (from, to): (UserStatus, UserStatus),
    keypairs_too: bool,
    sessions: LeftSessions,
) {
    if to == UserStatus::Active {
        return;
    }
    if from == UserStatus::Active || keypairs_too {
        left.close_keypairs(keypairs_too);
    }
    left.end_logins();
    left.withdraw_invitations();
    match sessions {
        LeftSessions::Stop => {
            let detail = "its owner is not active any more";
            left.end_sessions(Reason::OwnerInactive, detail, |_| true);
        }
        LeftSessions::Keep if from == UserStatus::Active => left.waiting(),
        LeftSessions::Keep => (),
    }
}
