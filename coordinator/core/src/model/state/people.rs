//! People in the state: who is called what, in which groups, with which rights.

use super::State;
use crate::access::{
    AccountFacts, BuiltinGroups, Caller, Membership as Belongs, Role, Rule, RuleBook, Subject,
    UserFacts,
};
use crate::model::change::Change;
use crate::model::people::{AccessRule, BuiltinGroup, Keypair, Login, User, UserGroup};
use longshore_common::ids::{AccessRuleId, LoginId, ServiceAccountId, UserGroupId, UserId};
use longshore_common::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Answers to questions about people that are asked often.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Index {
    /// Login names and addresses in lower case.
    names: BTreeMap<String, UserId>,
    /// Everybody in the order of lists: login name in lower case, id.
    order: BTreeSet<(String, UserId)>,
    /// Groups somebody is in, `users` left out.
    groups_of: BTreeMap<UserId, BTreeSet<UserGroupId>>,
    /// Logins of somebody.
    logins_of: BTreeMap<UserId, BTreeSet<LoginId>>,
    /// The rules, by what they open.
    book: RuleBook,
}

/// The groups every installation has. Their ids are the same everywhere.
pub const BUILTIN: BuiltinGroups = BuiltinGroups {
    users: UserGroupId::new(1),
    admins: UserGroupId::new(2),
    queue_admins: UserGroupId::new(3),
};

/// The access rule every installation begins with: everybody everything, behind the gate.
pub const FACTORY_RULE: AccessRuleId = AccessRuleId::new(1);

impl AccessRule {
    /// The rule every installation begins with: everybody everything, behind the gate.
    #[must_use]
    pub fn factory(created_at: Timestamp) -> Self {
        Self {
            rule: Rule::factory(FACTORY_RULE, BUILTIN.users),
            version: 1,
            created_at,
        }
    }
}

impl BuiltinGroup {
    /// Its id.
    #[must_use]
    pub const fn id(self) -> UserGroupId {
        match self {
            Self::Users => BUILTIN.users,
            Self::Admins => BUILTIN.admins,
            Self::QueueAdmins => BUILTIN.queue_admins,
        }
    }

    const fn described(self) -> &'static str {
        match self {
            Self::Users => "Everybody and every service account",
            Self::Admins => {
                "Read and change everything of their own domain; make and remove no queues"
            }
            Self::QueueAdmins => "Make, rename and remove queues",
        }
    }
}

/// The built-in groups without anybody in them.
pub(super) fn builtin_groups() -> BTreeMap<UserGroupId, UserGroup> {
    let group = |kind: BuiltinGroup| UserGroup {
        id: kind.id(),
        version: 1,
        name: kind.as_str().to_owned(),
        description: kind.described().to_owned(),
        domain: None,
        builtin: Some(kind),
        members: BTreeMap::new(),
        created_at: Timestamp(0),
    };
    let all = BuiltinGroup::ALL.into_iter();
    all.map(|kind| (kind.id(), group(kind))).collect()
}

impl State {
    /// Takes in a change of people; what is about something else is left alone.
    pub(super) fn apply_people(&mut self, change: &Change) {
        match change {
            Change::User(user) => self.put_user(user),
            Change::Keypair(keypair) => self.put_keypair(keypair),
            Change::Login(login) => self.put_login(login),
            Change::LoginEnded(id) => {
                if let Some(login) = self.logins.remove(id) {
                    remove_from(&mut self.people.logins_of, login.user, id);
                }
            }
            Change::Invitation(invitation) => {
                self.invitations
                    .insert(invitation.id, (**invitation).clone());
            }
            Change::InvitationForgotten(id) => drop(self.invitations.remove(id)),
            Change::UserGroup(group) => self.put_user_group(group),
            Change::UserGroupDeleted(id) => {
                if let Some(group) = self.user_groups.remove(id) {
                    for member in group.members.keys() {
                        remove_from(&mut self.people.groups_of, *member, id);
                    }
                }
            }
            Change::AccessRule(rule) => self.put_access_rule(rule),
            Change::AccessRuleDeleted(id) => {
                self.access_rules.remove(id);
                self.people.book.remove(*id);
            }
            Change::Throttle(change) => self.throttle.apply(change),
            _ => (),
        }
    }

    fn put_user(&mut self, user: &User) {
        let names = &mut self.people.names;
        if let Some(old) = self.users.get(&user.id) {
            for name in [&old.username, &old.email] {
                names.remove(&name.to_ascii_lowercase());
            }
            let place = (old.username.to_ascii_lowercase(), old.id);
            self.people.order.remove(&place);
        }
        let place = (user.username.to_ascii_lowercase(), user.id);
        self.people.order.insert(place);
        let names = &mut self.people.names;
        for name in [&user.username, &user.email] {
            if !name.is_empty() {
                names.insert(name.to_ascii_lowercase(), user.id);
            }
        }
        self.users.insert(user.id, user.clone());
    }

    fn put_keypair(&mut self, keypair: &Keypair) {
        let key = &keypair.access_key;
        let of = self.keypairs_of.entry(keypair.user).or_default();
        if !of.contains(key) {
            of.insert(key.clone());
        }
        self.keypairs.insert(key.clone(), keypair.clone());
    }

    fn put_login(&mut self, login: &Login) {
        let of = self.people.logins_of.entry(login.user).or_default();
        of.insert(login.id);
        self.logins.insert(login.id, login.clone());
    }

    fn put_user_group(&mut self, group: &UserGroup) {
        let old = self.user_groups.insert(group.id, group.clone());
        for member in old.iter().flat_map(|group| group.members.keys()) {
            remove_from(&mut self.people.groups_of, *member, &group.id);
        }
        for member in group.members.keys() {
            let of = self.people.groups_of.entry(*member).or_default();
            of.insert(group.id);
        }
    }

    fn put_access_rule(&mut self, rule: &AccessRule) {
        self.people.book.add(rule.rule.clone());
        self.access_rules.insert(rule.rule.id, rule.clone());
    }

    /// Who has a login name or an address, in any case; service accounts have names too.
    #[must_use]
    pub fn user_of_name(&self, name: &str) -> Option<&User> {
        let id = self.people.names.get(&name.to_ascii_lowercase())?;
        self.users.get(id)
    }

    /// Everybody behind a place of the list by login name (in lower case) and id, in its order.
    pub fn users_behind(&self, place: Option<(&str, UserId)>) -> impl Iterator<Item = &User> {
        let from = match place {
            None => Bound::Unbounded,
            Some((name, id)) => Bound::Excluded((name.to_owned(), id)),
        };
        let behind = self.people.order.range((from, Bound::Unbounded));
        behind.filter_map(|(_, id)| self.users.get(id))
    }

    /// A person or service account by id, login name or address (any case).
    #[must_use]
    pub fn user_by_ref(&self, text: &str) -> Option<&User> {
        if let Ok(id) = text.parse::<UserId>() {
            return self.users.get(&id).filter(|user| user.service.is_none());
        }
        if let Ok(id) = text.parse::<ServiceAccountId>() {
            return self.account(id);
        }
        self.user_of_name(text)
    }

    /// Whether the password of somebody stands in the configuration.
    #[must_use]
    pub fn is_fixed(&self, user: UserId) -> bool {
        let settings = &self.people_settings;
        settings.fixed_users_only && settings.fixed_users.contains(&user)
    }

    /// Whether somebody can administer everything: before, nothing but set-up works.
    #[must_use]
    pub fn has_superadmin(&self) -> bool {
        let works = |user: &User| user.role == Role::Superadmin && user.is_active();
        self.users.values().any(works)
    }

    /// A service account.
    #[must_use]
    pub fn account(&self, id: ServiceAccountId) -> Option<&User> {
        let user = self.users.get(&UserId::new(id.bits()))?;
        user.service.is_some().then_some(user)
    }

    /// A group of users by id or name (any case).
    #[must_use]
    pub fn user_group_by_ref(&self, text: &str) -> Option<&UserGroup> {
        match text.parse::<UserGroupId>() {
            Ok(id) => self.user_groups.get(&id),
            Err(_) => {
                let name = text.to_lowercase();
                let mut groups = self.user_groups.values();
                groups.find(|group| group.name.to_lowercase() == name)
            }
        }
    }

    /// The groups somebody is in; `users`, in which everybody is, is left out.
    pub fn groups_of(&self, user: UserId) -> impl Iterator<Item = &UserGroup> {
        let ids = self.people.groups_of.get(&user).into_iter().flatten();
        ids.filter_map(|id| self.user_groups.get(id))
    }

    /// The logins of somebody.
    pub fn logins_of(&self, user: UserId) -> impl Iterator<Item = &Login> {
        let ids = self.people.logins_of.get(&user).into_iter().flatten();
        ids.filter_map(|id| self.logins.get(id))
    }

    /// The access rules, as they are asked.
    #[must_use]
    pub const fn rule_book(&self) -> &RuleBook {
        &self.people.book
    }

    /// Somebody as rights are judged by.
    #[must_use]
    pub fn rights_of(&self, user: &User) -> Caller {
        let domain = self.domains.get(&user.domain);
        let active = user.is_active() && domain.is_none_or(|domain| domain.active);
        let groups = self.people.groups_of.get(&user.id);
        let groups = groups.cloned().unwrap_or_default();
        let projects = user.projects.iter();
        match &user.service {
            None => Caller::user(
                UserFacts {
                    id: user.id,
                    role: user.role,
                    domain: user.domain,
                    active,
                    projects: projects
                        .map(|m| {
                            let belongs = if m.admin {
                                Belongs::Admin
                            } else {
                                Belongs::Member
                            };
                            (m.project, belongs)
                        })
                        .collect(),
                    groups,
                },
                &BUILTIN,
            ),
            Some(service) => Caller::account(
                AccountFacts {
                    id: user.account_id(),
                    domain: user.domain,
                    active,
                    // Switched off, those that were made earlier lose it too.
                    admin: service.admin && self.people_settings.service_account_admins,
                    allow_impersonation: service.allow_impersonation,
                    projects: projects.map(|m| m.project).collect(),
                    groups,
                },
                &BUILTIN,
            ),
        }
    }

    /// The person or account an access rule names; nothing for a group.
    #[must_use]
    pub fn user_of_subject(&self, subject: Subject) -> Option<&User> {
        match subject {
            Subject::User(id) => self.users.get(&id).filter(|user| user.service.is_none()),
            Subject::Account(id) => self.account(id),
            Subject::Group(_) => None,
        }
    }
}

fn remove_from<V: Ord>(sets: &mut BTreeMap<UserId, BTreeSet<V>>, of: UserId, value: &V) {
    if let Some(set) = sets.get_mut(&of) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(&of);
        }
    }
}
