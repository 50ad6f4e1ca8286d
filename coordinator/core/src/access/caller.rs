//! Who asks, with everything rights depend on: role, domain, projects, groups.

use super::decide::Why;
use longshore_common::ids::{
    DomainId, ParseIdError, ProjectId, ServiceAccountId, UserGroupId, UserId,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// What a person may administer. What one may do with sessions, folders, models and
/// queues is decided by access rules.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// What concerns oneself.
    #[default]
    User,
    /// Reads its domain.
    Monitor,
    /// Its domain.
    DomainAdmin,
    /// Everything.
    Superadmin,
}

impl Role {
    /// All, the least first.
    pub const ALL: [Self; 4] = [
        Self::User,
        Self::Monitor,
        Self::DomainAdmin,
        Self::Superadmin,
    ];

    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Monitor => "monitor",
            Self::DomainAdmin => "domain-admin",
            Self::Superadmin => "superadmin",
        }
    }
}

/// Somebody an access rule can name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A person.
    User(UserId),
    /// A service account.
    Account(ServiceAccountId),
    /// A group of both.
    Group(UserGroupId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Account(id) => id.fmt(f),
            Self::Group(id) => id.fmt(f),
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Subject {
    type Err = ParseIdError;
    /// The prefix decides the kind; an unknown one is refused as if a user were wanted.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.starts_with(ServiceAccountId::PREFIX) {
            text.parse().map(Self::Account)
        } else if text.starts_with(UserGroupId::PREFIX) {
            text.parse().map(Self::Group)
        } else {
            text.parse().map(Self::User)
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// S(u): oneself, the groups one is in, `users`. Sorted, without repetition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubjectSet(Vec<Subject>);

impl SubjectSet {
    /// Whether somebody is in it.
    #[must_use]
    pub fn contains(&self, subject: &Subject) -> bool {
        self.0.binary_search(subject).is_ok()
    }

    /// All, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Subject> {
        self.0.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nobody: only for a caller without credentials.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Subject> for SubjectSet {
    fn from_iter<I: IntoIterator<Item = Subject>>(subjects: I) -> Self {
        let mut all: Vec<Subject> = subjects.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        Self(all)
    }
}

/// The groups that are always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltinGroups {
    /// Everybody and every service account.
    pub users: UserGroupId,
    /// Read & modify on everything of the member's own domain; may write access rules there.
    pub admins: UserGroupId,
    /// Create, rename and delete queues.
    pub queue_admins: UserGroupId,
}

/// How one belongs to a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Membership {
    /// As everybody.
    Member,
    /// As one who administers it.
    Admin,
}

/// Who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// No credentials were given.
    Anonymous,
    /// A person.
    User(UserId),
    /// A service account.
    Account(ServiceAccountId),
}

impl Who {
    /// As rules name it; nothing for the anonymous, whom no rule can name.
    #[must_use]
    pub const fn subject(self) -> Option<Subject> {
        match self {
            Self::Anonymous => None,
            Self::User(id) => Some(Subject::User(id)),
            Self::Account(id) => Some(Subject::Account(id)),
        }
    }
}

/// What is stored about a person, as far as rights depend on it.
#[derive(Debug, Clone)]
pub struct UserFacts {
    /// The person.
    pub id: UserId,
    /// The role.
    pub role: Role,
    /// The one domain.
    pub domain: DomainId,
    /// Whether the user and the domain are active.
    pub active: bool,
    /// Projects one is a member of.
    pub projects: BTreeMap<ProjectId, Membership>,
    /// Groups one is a member of; `users` need not be named.
    pub groups: BTreeSet<UserGroupId>,
}

/// What is stored about a service account, as far as rights depend on it.
#[derive(Debug, Clone)]
pub struct AccountFacts {
    /// The account.
    pub id: ServiceAccountId,
    /// The one domain.
    pub domain: DomainId,
    /// Whether the account and the domain are active.
    pub active: bool,
    /// Whether it acts as domain admin: its `admin` while
    /// `services.organization.allow_service_account_admins` is on.
    pub admin: bool,
    /// Whether it may act for users.
    pub allow_impersonation: bool,
    /// Projects it is a member of.
    pub projects: BTreeSet<ProjectId>,
    /// Groups it is a member of; `users` need not be named.
    pub groups: BTreeSet<UserGroupId>,
}

/// Who asks. Drawn up anew for each request, so that a lost right holds from the next one on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    who: Who,
    role: Role,
    domain: Option<DomainId>,
    active: bool,
    projects: BTreeMap<ProjectId, Membership>,
    subjects: SubjectSet,
    admins: bool,
    queue_admins: bool,
    allow_impersonation: bool,
    submitted_by: Option<ServiceAccountId>,
}

impl Caller {
    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            who: Who::Anonymous,
            role: Role::User,
            domain: None,
            active: false,
            projects: BTreeMap::new(),
            subjects: SubjectSet::default(),
            admins: false,
            queue_admins: false,
            allow_impersonation: false,
            submitted_by: None,
        }
    }

    /// A person.
    #[must_use]
    pub fn user(facts: UserFacts, builtin: &BuiltinGroups) -> Self {
        Self {
            who: Who::User(facts.id),
            role: facts.role,
            domain: Some(facts.domain),
            active: facts.active,
            projects: facts.projects,
            admins: facts.groups.contains(&builtin.admins),
            queue_admins: facts.groups.contains(&builtin.queue_admins),
            subjects: subjects(Subject::User(facts.id), &facts.groups, builtin),
            allow_impersonation: false,
            submitted_by: None,
        }
    }

    /// A service account. One that acts as domain admin has that role.
    #[must_use]
    pub fn account(facts: AccountFacts, builtin: &BuiltinGroups) -> Self {
        let member = |project| (project, Membership::Member);
        Self {
            who: Who::Account(facts.id),
            role: if facts.admin {
                Role::DomainAdmin
            } else {
                Role::User
            },
            domain: Some(facts.domain),
            active: facts.active,
            projects: facts.projects.into_iter().map(member).collect(),
            admins: facts.groups.contains(&builtin.admins),
            queue_admins: facts.groups.contains(&builtin.queue_admins),
            subjects: subjects(Subject::Account(facts.id), &facts.groups, builtin),
            allow_impersonation: facts.allow_impersonation,
            submitted_by: None,
        }
    }

    /// The caller that a request with `Longshore-On-Behalf-Of` is judged as: the user,
    /// reduced to role `user`, to plain membership in projects, and without `admins` and
    /// `queue-admins`.
    ///
    /// # Errors
    /// When this is no service account that may act for others, or the user is inactive,
    /// itself acted for, or of another domain.
    pub fn on_behalf_of(&self, user: &Self, builtin: &BuiltinGroups) -> Result<Self, Why> {
        let Who::Account(account) = self.who else {
            return Err(Why::NoServiceAccount);
        };
        let person = matches!(user.who, Who::User(_)) && user.submitted_by.is_none();
        if !self.allow_impersonation || !self.active {
            return Err(Why::MayNotImpersonate);
        }
        if !person || !user.active || user.domain != self.domain {
            return Err(Why::NobodyToActFor);
        }
        Ok(Self {
            submitted_by: Some(account),
            ..user.plain(builtin)
        })
    }

    /// The same reduced to role `user`, to plain membership in projects, and without `admins`
    /// and `queue-admins`: how somebody is judged for whom a service account acts.
    #[must_use]
    pub fn plain(&self, builtin: &BuiltinGroups) -> Self {
        let administers = [builtin.admins, builtin.queue_admins].map(Subject::Group);
        let projects = self.projects.keys();
        let subjects = self.subjects.iter().copied();
        Self {
            role: Role::User,
            projects: projects.map(|&p| (p, Membership::Member)).collect(),
            subjects: subjects.filter(|s| !administers.contains(s)).collect(),
            admins: false,
            queue_admins: false,
            ..self.clone()
        }
    }

    /// The same with a keypair that is good for one project: an ordinary member of that one.
    #[must_use]
    pub fn bound_to(&self, project: ProjectId, builtin: &BuiltinGroups) -> Self {
        let administers = [builtin.admins, builtin.queue_admins].map(Subject::Group);
        let subjects = self.subjects.iter().copied();
        let member = self.is_member(project);
        Self {
            role: Role::User,
            projects: member
                .then_some((project, Membership::Member))
                .into_iter()
                .collect(),
            subjects: subjects.filter(|s| !administers.contains(s)).collect(),
            admins: false,
            queue_admins: false,
            ..self.clone()
        }
    }

    /// Who it is; when acted for, the user.
    #[must_use]
    pub const fn who(&self) -> Who {
        self.who
    }

    /// The role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The domain; none for the anonymous.
    #[must_use]
    pub const fn domain(&self) -> Option<DomainId> {
        self.domain
    }

    /// Whether it may do anything.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// S(u).
    #[must_use]
    pub const fn subjects(&self) -> &SubjectSet {
        &self.subjects
    }

    /// Whether it is told what others did in a domain: its administrators, those who watch over
    /// it, and who administers everything.
    #[must_use]
    pub fn oversees(&self, domain: DomainId) -> bool {
        match self.role() {
            Role::User => false,
            Role::Monitor | Role::DomainAdmin => self.domain() == Some(domain),
            Role::Superadmin => true,
        }
    }

    /// Whether it administers a domain: its administrators, and who administers everything.
    #[must_use]
    pub fn administers_domain(&self, domain: DomainId) -> bool {
        self.role() != Role::Monitor && self.oversees(domain)
    }

    /// Whether it is a member of `admins`.
    #[must_use]
    pub const fn in_admins(&self) -> bool {
        self.admins
    }

    /// Whether it is a member of `queue-admins`.
    #[must_use]
    pub const fn in_queue_admins(&self) -> bool {
        self.queue_admins
    }

    /// The service account that acts for this user, if one does.
    #[must_use]
    pub const fn submitted_by(&self) -> Option<ServiceAccountId> {
        self.submitted_by
    }

    /// Whether it is a member of a project.
    #[must_use]
    pub fn is_member(&self, project: ProjectId) -> bool {
        self.projects.contains_key(&project)
    }

    /// Whether it administers a project.
    #[must_use]
    pub fn administers(&self, project: ProjectId) -> bool {
        self.projects.get(&project) == Some(&Membership::Admin)
    }

    /// Whether it administers any project.
    #[must_use]
    pub fn is_project_admin(&self) -> bool {
        self.projects.values().any(|m| *m == Membership::Admin)
    }

    /// The projects it administers.
    #[must_use]
    pub fn administered(&self) -> Vec<ProjectId> {
        let all = self.projects.iter();
        all.filter(|(_, m)| **m == Membership::Admin)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Whether this is the very one, not a group it is in.
    #[must_use]
    pub fn is(&self, subject: Subject) -> bool {
        self.who.subject() == Some(subject)
    }

    /// Whether something of this domain is of the caller's own.
    pub(super) fn is_of(&self, domain: Option<DomainId>) -> bool {
        domain.is_some() && self.domain == domain
    }
}

fn subjects(
    oneself: Subject,
    groups: &BTreeSet<UserGroupId>,
    builtin: &BuiltinGroups,
) -> SubjectSet {
    let always = [oneself, Subject::Group(builtin.users)];
    let groups = groups.iter().copied().map(Subject::Group);
    always.into_iter().chain(groups).collect()
}
