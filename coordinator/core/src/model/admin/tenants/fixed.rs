//! People that stand in the configuration: made or found, and kept as it says, at each start.
//!
//! Their passwords stay in the configuration and are compared at the rim; here stands only who
//! they are. Nothing is stored that does not differ.

use super::super::super::change::Change;
use super::super::super::event::{Answer, Caller, Effect, Outcome, Refusal};
use super::super::super::people::{AccessRule, Keypair, Origin, User, UserStatus};
use super::super::super::policies::PeopleSettings;
use super::super::super::state::State;
use super::super::Decision;
use super::super::policies::DEFAULT;
use super::people::{names_are_free, patch_user, role_named};
use super::standing::{About, set_domain, set_status};
use longshore_common::admin::{Member, UserDomainRequest, UserPatch, UserStatusRequest};
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use longshore_identity::fields::messages;
use std::collections::BTreeSet;

/// Where they stand in the configuration.
const KEY: &str = "daemon.auth.fixed_users";
/// Who made what nobody asked for.
const CONFIGURATION: &str = "configuration";

/// The people of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FixedOrder {
    /// Nobody else logs in by a password. Off, nothing else here counts.
    pub enabled: bool,
    /// Who left the list is switched off.
    pub deactivate_missing: bool,
    /// The list. Names and addresses keep their rules, and each name stands in it once.
    pub users: Vec<FixedUser>,
}

/// One of them, without the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedUser {
    /// The id, if there is nobody of that name: the same on every installation.
    pub id: UserId,
    /// Login name.
    pub username: String,
    /// Full name of one who is made.
    pub full_name: String,
    /// Address of one who is made.
    pub email: String,
    /// A word that is a role; none = as it is.
    pub role: Option<String>,
    /// By name or id; none = as it is, of one who is made `default`.
    pub domain: Option<String>,
    /// All projects, by name or id; none = as they are.
    pub projects: Option<Vec<String>>,
    /// Public part of the keypair that carries the policy of one who is made. It has no secret
    /// before somebody rotates it.
    pub access_key: String,
}

/// What is being worked out: the state as it will be, and how it comes to that.
struct Work {
    state: State,
    changes: Vec<Change>,
    effects: Vec<Effect>,
    now: Timestamp,
}

impl Work {
    fn take(&mut self, decision: Decision) {
        self.effects.extend(decision.effects);
        decision.changes.into_iter().for_each(|c| self.push(c));
    }

    fn push(&mut self, change: Change) {
        self.state.apply(&change);
        self.changes.push(change);
    }

    /// An order about somebody, given by the configuration.
    fn order(
        &mut self,
        id: UserId,
        order: impl FnOnce(&About<'_>) -> Result<Decision, Refusal>,
    ) -> Result<(), Refusal> {
        let decision = order(&About {
            state: &self.state,
            caller: &nobody(),
            name: &id.to_string(),
            expected: None,
            now: self.now,
        })?;
        self.take(decision);
        Ok(())
    }
}

/// Nobody in particular gives these orders.
fn nobody() -> Caller {
    Caller {
        user: UserId::new(0),
        access_key: String::new(),
    }
}

/// Says what follows from the list.
pub(in super::super::super) fn apply(state: &State, order: &FixedOrder, now: Timestamp) -> Outcome {
    let mut work = Work {
        state: state.clone(),
        changes: Vec::new(),
        effects: Vec::new(),
        now,
    };
    match follow(state, order, &mut work) {
        Ok(()) => Outcome {
            changes: work.changes,
            effects: work.effects,
            answer: Ok(Answer::Done),
        },
        Err(refusal) => Outcome::refuse(refusal),
    }
}

fn follow(state: &State, order: &FixedOrder, work: &mut Work) -> Result<(), Refusal> {
    let mut fixed = BTreeSet::new();
    let listed = order.users.iter().filter(|_| order.enabled);
    for (at, wanted) in listed.enumerate() {
        let key = format!("{KEY}.users[{at}]");
        fixed.insert(one(state, wanted, &key, work)?);
    }
    if order.enabled && order.deactivate_missing {
        let before = &state.people_settings.fixed_users;
        let left = |user: &&User| {
            let stood = user.source == Origin::Fixed || before.contains(&user.id);
            stood && user.status == UserStatus::Active && !fixed.contains(&user.id)
        };
        let left: Vec<UserId> = state.users.values().filter(left).map(|u| u.id).collect();
        for id in left {
            let request = UserStatusRequest {
                status: Member::Value(UserStatus::Inactive.as_str().to_owned()),
                ..UserStatusRequest::default()
            };
            work.order(id, |about| set_status(about, &request, None))
                .map_err(|refusal| told(KEY, &refusal))?;
        }
    }
    if state.has_superadmin() && !work.state.has_superadmin() {
        let text = "At least one active superadmin must remain.";
        return Err(told(KEY, &Refusal::new("LS-LAST-SUPERADMIN", text)));
    }
    let settings = PeopleSettings {
        fixed_users_only: order.enabled,
        // Who stood in it is remembered while it is off: who left meanwhile is told from it.
        fixed_users: match order.enabled {
            true => fixed,
            false => state.people_settings.fixed_users.clone(),
        },
        ..state.people_settings.clone()
    };
    if settings != state.people_settings {
        work.push(Change::PeopleSettings(settings));
    }
    Ok(())
}

/// A refusal as the start says it: with its place in the configuration.
fn told(key: &str, refusal: &Refusal) -> Refusal {
    let (place, text) = match refusal.errors.first() {
        None => (String::new(), &refusal.detail),
        Some(error) => {
            // `/projects/1` is `projects[1]` there.
            let place = error.pointer.split('/').skip(1).map(|part| {
                match part.bytes().all(|b| b.is_ascii_digit()) {
                    true => format!("[{part}]"),
                    false => format!(".{part}"),
                }
            });
            (place.collect(), &error.message)
        }
    };
    Refusal::new(refusal.code, format!("{key}{place}: {text}"))
}

/// Brings one of them into the state, and says who it is.
fn one(before: &State, wanted: &FixedUser, key: &str, work: &mut Work) -> Result<UserId, Refusal> {
    let wrong =
        |field: &str, text: String| Refusal::new("LS-INVALID", format!("{key}.{field}: {text}"));
    let named = work.state.user_of_name(&wanted.username);
    let named = named.filter(|user| user.username.eq_ignore_ascii_case(&wanted.username));
    // Whoever was made by the list keeps the id under another name too.
    let found = named.or_else(|| work.state.users.get(&wanted.id));
    let id = match found.cloned() {
        Some(user) if user.service.is_some() => {
            let text = match user.is_active() {
                true => format!("{} is a service account.", user.username),
                // Its name stays with what it did.
                false => format!(
                    "{} is the name of a deleted service account; it is not given again.",
                    user.username
                ),
            };
            return Err(wrong("username", text));
        }
        Some(user) => {
            renamed(&user, wanted, key, work)?;
            user.id
        }
        None => made(wanted, key, work)?,
    };
    let fail = |refusal: Refusal| told(key, &refusal);
    let at_home = |domain: &String| {
        let present = work.state.users.get(&id).map(|user| user.domain);
        let named = work.state.domain_by_ref(domain).map(|domain| domain.id);
        named.is_some() && named == present
    };
    // Where somebody is already also stays when it was switched off.
    if let Some(domain) = wanted.domain.as_ref().filter(|domain| !at_home(domain)) {
        let request = UserDomainRequest {
            domain: Member::Value(domain.clone()),
        };
        work.order(id, |about| set_domain(about, &request))
            .map_err(|refusal| match refusal.errors.is_empty() {
                true => told(&format!("{key}.domain"), &refusal),
                false => fail(refusal),
            })?;
    }
    if let Some(projects) = &wanted.projects {
        let request = UserPatch {
            projects: Member::Value(projects.clone()),
            ..UserPatch::default()
        };
        let now = work.now;
        work.order(id, |about| {
            patch_user(about.state, about.caller, about.name, None, &request, now)
        })
        .map_err(fail)?;
    }
    let Some(present) = work.state.users.get(&id) else {
        return Ok(id); // it was put there above
    };
    let mut user = present.clone();
    if let Some(role) = &wanted.role {
        user.role = role_named(role);
    }
    if !before.people_settings.fixed_users.contains(&id) {
        // New in the list, or back in it.
        user.status = UserStatus::Active;
        user.need_password_change = false;
    }
    if user != *present {
        user.version += 1;
        user.updated_at = work.now;
        work.push(Change::User(Box::new(user)));
    }
    Ok(id)
}

/// Gives somebody the name of the list, if it has another.
fn renamed(user: &User, wanted: &FixedUser, key: &str, work: &mut Work) -> Result<(), Refusal> {
    if user.username.eq_ignore_ascii_case(&wanted.username) {
        return Ok(());
    }
    names_are_free(&work.state, None, &wanted.username, Some(user.id))
        .map_err(|refusal| told(key, &refusal))?;
    work.push(Change::User(Box::new(User {
        username: wanted.username.clone(),
        version: user.version + 1,
        updated_at: work.now,
        ..user.clone()
    })));
    Ok(())
}

fn made(wanted: &FixedUser, key: &str, work: &mut Work) -> Result<UserId, Refusal> {
    let domain = wanted.domain.as_deref().unwrap_or(DEFAULT);
    let Some(domain) = work.state.domain_by_ref(domain).map(|d| d.id) else {
        let text = messages::domain_unknown(domain);
        return Err(Refusal::new("LS-INVALID", format!("{key}.domain: {text}")));
    };
    names_are_free(&work.state, Some(&wanted.email), &wanted.username, None)
        .map_err(|refusal| told(key, &refusal))?;
    let mut meta = work.state.meta.clone();
    let user = User {
        username: wanted.username.clone(),
        email: wanted.email.clone(),
        full_name: wanted.full_name.clone(),
        uid: meta.next_uid,
        domain,
        source: Origin::Fixed,
        ..User::new(wanted.id, work.now)
    };
    meta.next_uid += 1;
    // Its policy limits the person; its secret is made by whoever wants one.
    let keypair = Keypair {
        secret_sha256: None,
        created_by: CONFIGURATION.to_owned(),
        ..Keypair::new(&wanted.access_key, [0; 32], wanted.id, work.now)
    };
    if work.state.users.is_empty() {
        work.push(Change::AccessRule(AccessRule::factory(work.now)));
    }
    work.push(Change::Meta(meta));
    work.push(Change::User(Box::new(user)));
    work.push(Change::Keypair(keypair));
    Ok(wanted.id)
}

/// What whoever tries to change the password of one of them is told.
pub(in super::super::super) fn stands_in_file(user: &User) -> Refusal {
    Refusal::new(
        "LS-FIXED-USER",
        format!(
            "{} stands in the configuration; its password is changed there.",
            user.username
        ),
    )
}
