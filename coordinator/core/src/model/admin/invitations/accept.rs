//! What a link does: it makes a person, takes a user into projects, or proves an address. One
//! decision, so that of two who accept at the same moment one wins.

use super::super::super::audited::{Audited, Doer, target};
use super::super::super::change::{Change, PolicyKind};
use super::super::super::event::{Answer, Caller, Outcome, Refusal};
use super::super::super::people::{
    Invitation, Keypair, LinkPurpose, MemberSource, Membership, User, UserStatus,
};
use super::super::super::state::State;
use super::super::members::Reader;
use super::super::policies::refer;
use super::super::rights::members_target;
use super::super::tenants::{keypair_view, new_person, stands_in_file, user_view};
use super::super::{AdminAnswer, AdminObject, NewPassword, NewUserSecrets};
use super::{find_link, invited, sees_invitation};
use crate::access::{self, Operation};
use longshore_common::admin::{KeypairView, Member, NewUser, UserView};
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use longshore_identity::fields::messages;
use serde_json::json;

/// Somebody brings the token of a link.
#[derive(Debug, Clone)]
pub struct Accept {
    /// SHA-256 of the token.
    pub token_sha256: [u8; 32],
    /// Who is logged in, if somebody is.
    pub caller: Option<UserId>,
    /// Decide, and change nothing.
    pub dry_run: bool,
    /// What was drawn for a person that is made.
    pub secrets: NewUserSecrets,
    /// What the person chose.
    pub chosen: Chosen,
    /// When.
    pub at: Timestamp,
}

/// What somebody says who accepts.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// Login name of a new person.
    pub username: Member<String>,
    /// Full name of a new person.
    pub full_name: Member<String>,
    /// The password; its rules are looked at here, beside all others.
    pub password: Option<NewPassword>,
    /// The password was something else than text.
    pub password_is_wrong: bool,
}

/// The one answer to tokens that are used, withdrawn, expired or were never made.
fn gone() -> Refusal {
    Refusal::new("LS-INVITATION-GONE", "This invitation is no longer valid.")
}

/// What follows when somebody brings the token of a link.
pub(in super::super::super) fn accept(state: &State, order: &Accept) -> Outcome {
    let Some(link) = find_link(state, &order.token_sha256, order.at) else {
        return Outcome::refuse(gone());
    };
    if link.purpose == LinkPurpose::Invitation && !still_invited(state, link) {
        return Outcome::refuse(gone());
    }
    let decided = match (link.purpose, invited(state, link)) {
        (LinkPurpose::Verification, Some(user)) => verify(state, order, link, user),
        (LinkPurpose::Invitation, Some(user)) => join(state, order, link, user),
        (LinkPurpose::Invitation, None) if link.user.is_none() => make(state, order, link),
        _ => Err(gone()),
    };
    let (object, changes) = match decided {
        Ok(decided) => decided,
        Err(refusal) => return Outcome::refuse(refusal),
    };
    Outcome {
        changes: if order.dry_run { Vec::new() } else { changes },
        effects: Vec::new(),
        answer: Ok(Answer::Admin(Box::new(AdminAnswer {
            object,
            before: None,
            impact: None,
            touched: None,
        }))),
    }
}

/// Whether who invited may invite so now: nobody gives on what was taken from them since.
fn still_invited(state: &State, link: &Invitation) -> bool {
    let by = state.users.get(&link.by).filter(|by| by.is_active());
    by.is_some_and(|by| {
        let rights = state.rights_of(by);
        let groups = link
            .groups
            .iter()
            .filter_map(|id| state.user_groups.get(id));
        let mut decisions = groups
            .map(|group| access::decide(Operation::GroupWrite, &rights, &members_target(group)));
        sees_invitation(state, &rights, Operation::InvitationWrite, link)
            && decisions.all(|decision| decision.is_allowed())
    })
}

type Decided = Result<(AdminObject, Vec<Change>), Refusal>;

/// What was said about an account that only a new one has.
fn nothing_new(order: &Accept, with_password: bool) -> Result<(), Refusal> {
    let mut r = Reader::default();
    let (chosen, text) = (&order.chosen, "This is chosen for new accounts only.");
    let password = with_password && chosen.password.is_some();
    for (at, is_said) in [
        ("/username", !chosen.username.is_absent()),
        ("/full_name", !chosen.full_name.is_absent()),
        ("/password", password),
    ] {
        if is_said {
            r.wrong(at, text);
        }
    }
    if chosen.password_is_wrong {
        r.wrong("/password", "password must be text.");
    }
    r.done()
}

fn domain_is_active(state: &State, link: &Invitation) -> Result<(), Refusal> {
    let domain = state.domains.get(&link.domain).ok_or_else(gone)?;
    if domain.active {
        return Ok(());
    }
    let text = messages::domain_inactive(&domain.name);
    Err(Refusal::new("LS-DOMAIN-INACTIVE", text))
}

/// The memberships an invitation comes with, in those projects that are there.
fn memberships<'a>(
    state: &'a State,
    link: &'a Invitation,
) -> impl Iterator<Item = Membership> + 'a {
    let ids = link.projects.iter().copied();
    let there = ids.filter(|id| {
        let project = state.projects.get(id);
        project.is_some_and(|project| project.domain == link.domain)
    });
    there.map(|id| Membership {
        source: MemberSource::Invitation,
        ..Membership::manual(id)
    })
}

/// The groups of an invitation with the person in them.
fn joined_groups<'a>(
    state: &'a State,
    link: &'a Invitation,
    user: UserId,
) -> impl Iterator<Item = Change> + 'a {
    let groups = link
        .groups
        .iter()
        .filter_map(|id| state.user_groups.get(id));
    groups
        .filter(|group| group.domain.is_none_or(|domain| domain == link.domain))
        .filter_map(move |group| {
            let mut group = group.clone();
            let rows = group.members.entry(user).or_default();
            if !rows.insert(MemberSource::Manual) {
                return None;
            }
            group.version += 1;
            Some(Change::UserGroup(group))
        })
}

/// A new person, active from the beginning: the link came to the address.
fn make(state: &State, order: &Accept, link: &Invitation) -> Decided {
    if order.caller.is_some() {
        return Err(other());
    }
    domain_is_active(state, link)?;
    let Chosen {
        username,
        full_name,
        password,
        password_is_wrong,
    } = &order.chosen;
    let request = NewUser {
        email: link.email.clone().into(),
        username: username.clone(),
        full_name: full_name.clone(),
        domain: link.domain.to_string().into(),
        // One that was deleted meanwhile is as the one everybody has.
        user_policy: refer(state, PolicyKind::User, &link.user_policy)
            .map_or(Member::Absent, Member::Value),
        ..NewUser::default()
    };
    let oneself = Caller {
        user: order.secrets.id,
        access_key: String::new(),
    };
    let given = (&request, password.as_ref());
    let made = new_person(state, given, &order.secrets, &oneself, order.at);
    let missing = match (password, password_is_wrong) {
        (Some(_), _) => None,
        (None, false) => Some("Password is required."),
        (None, true) => Some("password must be text."),
    };
    let made = match missing {
        None => made,
        Some(text) => {
            let mut refusal = Refusal::new("LS-INVALID", text);
            if let Err(more) = made
                && more.code == "LS-INVALID"
            {
                refusal.detail = "Several members of the request are not valid.".to_owned();
                refusal.errors = more.errors;
            }
            Err(refusal.at("/password", text))
        }
    };
    let (mut user, mut keypair) = made?;
    let mut meta = state.meta.clone();
    user.uid = meta.next_uid;
    meta.next_uid += 1;
    user.projects = memberships(state, link).collect();
    keypair.created_by.clone_from(&user.username);
    let view = UserView {
        main_keypair: Some(keypair.access_key.clone()),
        ..user_view(state, &user)
    };
    let key = KeypairView {
        user_name: user.username.clone(),
        ..keypair_view(state, &keypair)
    };
    let mut changes = vec![Change::Meta(meta)];
    changes.extend(joined_groups(state, link, user.id));
    changes.extend([
        Change::User(Box::new(user)),
        Change::Keypair(keypair),
        Change::Invitation(Box::new(link.accepted())),
    ]);
    let object = AdminObject::User(Box::new(view), Some(Box::new(key)));
    Ok((object, changes))
}

fn other() -> Refusal {
    Refusal::new(
        "LS-INVITATION-OTHER",
        "This invitation is for another account.",
    )
}

/// A user goes into the projects it was invited to.
fn join(state: &State, order: &Accept, link: &Invitation, user: &User) -> Decided {
    match order.caller {
        None => {
            let text = "This invitation is for somebody who has an account.";
            let hint = "Log in with that account first, and accept it then.";
            return Err(Refusal::new("LS-AUTH-REQUIRED", text).hint(hint));
        }
        Some(caller) if caller != user.id => return Err(other()),
        Some(_) => (),
    }
    nothing_new(order, true)?;
    if !user.is_active() || user.domain != link.domain {
        return Err(gone()); // the projects are of a domain it has left
    }
    domain_is_active(state, link)?;
    let mut rows = memberships(state, link).peekable();
    if rows.peek().is_none() {
        return Err(gone());
    }
    let mut after = user.clone();
    for row in rows {
        if !after.is_member(row.project) {
            after.projects.push(row);
        }
    }
    let mut changes: Vec<Change> = joined_groups(state, link, user.id).collect();
    if after != *user {
        after.version += 1;
        after.updated_at = order.at;
    }
    let view = user_view(state, &after);
    changes.extend([
        Change::User(Box::new(after)),
        Change::Invitation(Box::new(link.accepted())),
    ]);
    Ok((AdminObject::User(Box::new(view), None), changes))
}

/// Somebody proves the address of the account, and may choose a password.
fn verify(state: &State, order: &Accept, link: &Invitation, user: &User) -> Decided {
    if order.caller.is_some() {
        return Err(other()); // who waits for this cannot be logged in
    }
    if user.status != UserStatus::BeforeVerification {
        return Err(gone());
    }
    nothing_new(order, false)?;
    if order.chosen.password.is_some() && state.is_fixed(user.id) {
        return Err(stands_in_file(user));
    }
    let mut after = User {
        version: user.version + 1,
        updated_at: order.at,
        status: UserStatus::Active,
        ..user.clone()
    };
    if let Some(password) = &order.chosen.password {
        let text = &password.text;
        let broken =
            longshore_identity::fields::password(text.expose(), &user.email, &user.username);
        let mut r = Reader::default();
        broken
            .iter()
            .for_each(|message| r.wrong("/password", *message));
        r.done()?;
        after.password = Some(password.phc.clone());
        after.password_set_at = Some(order.at);
        after.need_password_change = false;
    }
    let view = user_view(state, &after);
    let changes = vec![
        Change::User(Box::new(after)),
        Change::Invitation(Box::new(link.accepted())),
    ];
    Ok((AdminObject::User(Box::new(view), None), changes))
}

/// What the audit log says about it.
pub(in super::super::super) fn accepted(state: &State, changes: &[Change]) -> Option<Audited> {
    let user = changes.iter().find_map(|change| match change {
        Change::User(user) => Some(&**user),
        _ => None,
    })?;
    let link = changes.iter().find_map(|change| match change {
        Change::Invitation(link) => Some(&**link),
        _ => None,
    })?;
    let groups: Vec<&str> = changes
        .iter()
        .filter_map(|change| match change {
            Change::UserGroup(group) => Some(group.name.as_str()),
            _ => None,
        })
        .collect();
    let keypair = changes.iter().find_map(|change| match change {
        Change::Keypair(Keypair { access_key, .. }) => Some(access_key),
        _ => None,
    });
    let shown = |user: &User| {
        let projects = user.project_ids().filter_map(|id| state.projects.get(&id));
        let projects: Vec<&str> = projects.map(|project| project.name.as_str()).collect();
        json!({
            "email": user.email,
            "username": user.username,
            "status": user.status,
            "projects": projects,
            "password_set_at": user.password_set_at,
        })
    };
    let before = state.users.get(&user.id).map(shown);
    let mut after = shown(user);
    after["link"] = json!(link.id);
    after["access_key"] = json!(keypair);
    if !groups.is_empty() {
        after["groups_joined"] = json!(groups);
    }
    let target = target("user", user.printed_id(), &user.username);
    let record = Audited::new(Operation::InvitationAccept, target, before, Some(after));
    Some(match link.purpose {
        // Who joins is logged in.
        LinkPurpose::Invitation if state.users.contains_key(&user.id) => record,
        purpose => record.by(Doer::Person {
            id: user.printed_id(),
            name: user.username.clone(),
            via: match purpose {
                LinkPurpose::Verification => "verification link".to_owned(),
                _ => "invitation link".to_owned(),
            },
        }),
    })
}
