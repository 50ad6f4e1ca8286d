//! The state as access rules see it: sessions, projects and queues as [`Object`]s, and what a
//! caller has on them.

use super::admin::{at_person, group_target};
use super::entities::{Group, Session};
use super::people::User;
use super::policies::Project;
use super::rules::is_open_to;
use super::state::State;
use crate::access::rules::{Kind, Place, QueueKey, SessionKey, Submission, may_submit};
use crate::access::{
    Caller, Intent, Lack, Level, Object, Operation, Resource, Role, Sight, Subject, Target, Who,
    decide,
};

use crate::scheduler::limits::Requester;
use longshore_common::ids::{DomainId, ProjectId, UserId};

/// What keeps a service account from serving a resource group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is gone, or has no rw on the group.
    Queue,
    /// It would act for owners, and may not.
    Impersonation,
}

/// The project of sessions that are in none.
const NO_PROJECT: ProjectId = ProjectId::new(0);

impl State {
    /// A project as rules see it.
    #[must_use]
    pub const fn project_object(project: &Project) -> Object {
        Object::Project(Place {
            project: project.id,
            domain: project.domain,
        })
    }

    /// Whether somebody knows of a project: who is in it, and who looks after its domain.
    #[must_use]
    pub fn sees_project(rights: &Caller, project: &Project) -> bool {
        rights.role() == Role::Superadmin
            || rights.is_member(project.id)
            || (looks_after_domain(rights) && rights.domain() == Some(project.domain))
    }

    /// A project by id or name (any case), among those that somebody knows of. Of several,
    /// which only who knows of several domains can meet, all are told.
    #[must_use]
    pub fn projects_for(&self, rights: &Caller, text: &str) -> Vec<&Project> {
        let seen = |project: &&Project| Self::sees_project(rights, project);
        match text.parse::<ProjectId>() {
            Ok(id) => self.projects.get(&id).filter(seen).into_iter().collect(),
            Err(_) => {
                let named = self.projects.values();
                let named = named.filter(|p| p.name.eq_ignore_ascii_case(text));
                named.filter(seen).collect()
            }
        }
    }

    /// Whether somebody knows of a single thing that a rule or a question names. All of a
    /// kind is known to everybody.
    #[must_use]
    pub fn sees_resource(&self, rights: &Caller, resource: &Resource) -> bool {
        if rights.role() == Role::Superadmin {
            return true;
        }
        match resource {
            Resource::Everything | Resource::All(_) => true,
            Resource::Project(id) => {
                let project = self.projects.get(id);
                project.is_some_and(|project| Self::sees_project(rights, project))
            }
            Resource::Session(key) => {
                let session = self.sessions.get(&key.id());
                session.is_some_and(|session| {
                    let read = Operation::SessionRead;
                    self.judged_session(rights, session, read, false)
                        .is_allowed()
                })
            }
            Resource::Queue(_) => {
                let user = user_of(rights.who()).and_then(|id| self.users.get(&id));
                let queue = user.and_then(|user| self.object_of(resource, user));
                let Some(queue) = queue else {
                    return false;
                };
                let open = matches!(queue, Object::Queue { open: true, .. });
                rights.in_queue_admins()
                    || (open && looks_after_domain(rights))
                    || self.rule_book().level(rights, &queue) >= Level::Ro
            }
            // There are none of these yet.
            Resource::Model(_) | Resource::Folder(_) => false,
        }
    }

    /// Whether somebody knows of a person, an account or a group.
    #[must_use]
    pub fn sees_subject(&self, rights: &Caller, subject: Subject) -> bool {
        let (operation, target) = match subject {
            Subject::Group(id) => match self.user_groups.get(&id) {
                Some(group) => (Operation::GroupRead, group_target(group)),
                None => return false,
            },
            Subject::User(_) | Subject::Account(_) => match self.user_of_subject(subject) {
                Some(user) => (Operation::UserRead, at_person(user)),
                None => return false,
            },
        };
        let target = target.intent(Intent::Read);
        rights.is(subject) || decide(operation, rights, &target).is_allowed()
    }

    /// A session as rules see it.
    #[must_use]
    pub fn session_object(&self, session: &Session) -> Object {
        let owner = self.users.get(&session.owner);
        Object::Session {
            id: SessionKey::of(session.id),
            place: Place {
                project: session.project,
                domain: session.domain,
            },
            owner: owner.map_or(Subject::User(session.owner), User::subject),
        }
    }

    /// A resource group as rules see it; `open` says whether its lists let the asker in.
    #[must_use]
    pub const fn group_object(group: &Group, open: bool) -> Object {
        Object::Queue {
            id: QueueKey::Group(group.id),
            open,
        }
    }

    /// A queue of an allocation policy as rules see it. None for a name that cannot be one.
    #[must_use]
    pub fn queue_object(name: &str, open: bool) -> Option<Object> {
        let key = name.parse().ok()?;
        Some(Object::Queue {
            id: QueueKey::Other(key),
            open,
        })
    }

    /// Whether the lists of a resource group let somebody in, with any project and keypair.
    #[must_use]
    pub fn lets_in(&self, group: &Group, user: &User) -> bool {
        let projects = std::iter::once(NO_PROJECT).chain(user.project_ids());
        let keypairs: Vec<&str> = self
            .keypairs_of(user.id)
            .map(|k| k.access_key.as_str())
            .chain(std::iter::once(""))
            .collect();
        group.allowed.is_none()
            || projects.into_iter().any(|project| {
                keypairs.iter().any(|keypair| {
                    let who = Requester {
                        keypair: (*keypair).to_owned(),
                        user: user.id,
                        project,
                        domain: user.domain,
                    };
                    is_open_to(self, group, &who)
                })
            })
    }

    /// What a caller has on a session. One that lies in no project is its owner's.
    #[must_use]
    pub fn session_level(&self, rights: &Caller, session: &Session) -> Level {
        let own = rights.is(self.session_object(session).owner());
        if session.project == NO_PROJECT && own && rights.is_active() {
            return Level::Rw;
        }
        let book = self.rule_book();
        book.level(rights, &self.session_object(session))
    }

    /// A session as the operation table judges it for a caller.
    #[must_use]
    pub fn session_target(&self, rights: &Caller, session: &Session) -> Target {
        Target::object()
            .in_domain(session.domain)
            .in_project(session.project)
            .owned_by(self.session_object(session).owner())
            .seen(Sight::of(self.session_level(rights, session)))
    }

    /// What a waiting session lacks to be started with the rights its owner has now, if
    /// anything.
    #[must_use]
    pub fn lack_of(&self, session: &Session) -> Option<Lack> {
        let owner = self.users.get(&session.owner)?;
        let rights = self.rights_for(owner, session.submitted_by.is_some());
        let project = self.projects.get(&session.project);
        let group = self.groups.get(&session.group)?;
        // Whether the group is open to it is judged elsewhere.
        let queue = match &session.queue {
            Some(seat) => {
                let policy = self.config.config.policy(&seat.policy);
                let open = policy.is_none_or(|policy| policy.admits(self, owner.id));
                Self::queue_object(&seat.name, open)?
            }
            None => Self::group_object(group, true),
        };
        self.lacks(&rights, project, &queue).into_iter().next()
    }

    /// The service account that serves a resource group, if one does, or what it lacks.
    #[must_use]
    pub fn server_of(&self, group: &Group) -> Option<Result<&User, Unfit>> {
        let name = group.service_account.as_str();
        if name.is_empty() {
            return None;
        }
        let account = self.user_by_ref(name);
        let account = account.filter(|user| user.service.is_some() && user.is_active());
        let Some(account) = account else {
            return Some(Err(Unfit::Queue));
        };
        Some(self.may_serve(account, group, group.use_owner))
    }

    /// Whether a service account may serve a resource group.
    ///
    /// # Errors
    /// What it lacks.
    pub fn may_serve<'a>(
        &self,
        account: &'a User,
        group: &Group,
        use_owner: bool,
    ) -> Result<&'a User, Unfit> {
        let rights = self.rights_of(account);
        let queue = Self::group_object(group, true);
        if self.rule_book().level(&rights, &queue) < Level::Rw {
            return Err(Unfit::Queue);
        }
        let service = account.service.as_ref();
        if use_owner && !service.is_some_and(|s| s.allow_impersonation) {
            return Err(Unfit::Impersonation);
        }
        Ok(account)
    }

    /// Everything a submission lacks.
    #[must_use]
    pub fn lacks(&self, rights: &Caller, project: Option<&Project>, queue: &Object) -> Vec<Lack> {
        let book = self.rule_book();
        let Some(project) = project else {
            let lack = book.require(rights, queue, Level::Rw);
            return lack.err().into_iter().collect();
        };
        let submission = Submission {
            project: &Self::project_object(project),
            queue,
            mounts: &[],
        };
        may_submit(book, rights, &submission)
            .err()
            .unwrap_or_default()
    }

    /// Somebody's rights; reduced to those of a plain user where an account acts for them.
    #[must_use]
    pub fn rights_for(&self, user: &User, acted_for: bool) -> Caller {
        let rights = self.rights_of(user);
        if acted_for {
            rights.plain(&super::BUILTIN)
        } else {
            rights
        }
    }

    /// The domain of somebody an access rule names; none for a group of all domains, and for
    /// nobody.
    #[must_use]
    pub fn domain_of_subject(&self, subject: Subject) -> Option<DomainId> {
        match subject {
            Subject::Group(id) => self.user_groups.get(&id)?.domain,
            Subject::User(_) | Subject::Account(_) => {
                self.user_of_subject(subject).map(|user| user.domain)
            }
        }
    }

    /// Project and domain in which the one object a rule names lies, as far as memory knows.
    #[must_use]
    pub fn place_of(&self, resource: &Resource) -> Option<Place> {
        match resource {
            Resource::Project(id) => self.projects.get(id).map(|project| Place {
                project: project.id,
                domain: project.domain,
            }),
            Resource::Session(key) => self.sessions.get(&key.id()).map(|session| Place {
                project: session.project,
                domain: session.domain,
            }),
            Resource::Everything
            | Resource::All(_)
            | Resource::Model(_)
            | Resource::Folder(_)
            | Resource::Queue(_) => None,
        }
    }

    /// How the object a rule names is called.
    #[must_use]
    pub fn name_of_resource(&self, resource: &Resource) -> Option<String> {
        match resource {
            Resource::Project(id) => self.projects.get(id).map(|p| p.name.clone()),
            Resource::Session(key) => self.sessions.get(&key.id())?.name.clone(),
            Resource::Queue(QueueKey::Group(id)) => self.groups.get(id).map(|g| g.name.clone()),
            Resource::Queue(QueueKey::Other(key)) => Some(key.to_string()),
            Resource::Model(key) | Resource::Folder(key) => Some(key.to_string()),
            Resource::Everything | Resource::All(_) => None,
        }
    }

    /// How somebody a rule names is called; the id where there is nobody.
    #[must_use]
    pub fn name_of_subject(&self, subject: Subject) -> String {
        let name = match subject {
            Subject::Group(id) => self.user_groups.get(&id).map(|g| g.name.clone()),
            _ => self.user_of_subject(subject).map(|u| u.username.clone()),
        };
        name.unwrap_or_else(|| subject.to_string())
    }

    /// The object a rule or question names, for somebody. None for all of a kind, and for
    /// what memory does not know.
    #[must_use]
    pub fn object_of(&self, resource: &Resource, asker: &User) -> Option<Object> {
        match resource {
            Resource::Project(id) => self.projects.get(id).map(Self::project_object),
            Resource::Session(key) => {
                let session = self.sessions.get(&key.id())?;
                Some(match self.session_object(session) {
                    Object::Session { place, owner, .. } => Object::Session {
                        id: *key,
                        place,
                        owner,
                    },
                    other => other,
                })
            }
            Resource::Queue(QueueKey::Group(id)) => {
                let group = self.groups.get(id)?;
                Some(Self::group_object(group, self.lets_in(group, asker)))
            }
            Resource::Queue(QueueKey::Other(key)) => {
                let queue = self.config.config.queue(key.as_str())?;
                Self::queue_object(queue.name, queue.policy.admits(self, asker.id))
            }
            Resource::Everything | Resource::All(_) | Resource::Model(_) | Resource::Folder(_) => {
                None
            }
        }
    }

    /// Everybody a subject stands for.
    #[must_use]
    pub fn people_of(&self, subject: Subject) -> Vec<UserId> {
        match subject {
            Subject::Group(id) if id == super::BUILTIN.users => {
                self.users.keys().copied().collect()
            }
            Subject::Group(id) => {
                let group = self.user_groups.get(&id);
                group.map_or_else(Vec::new, |g| g.members.keys().copied().collect())
            }
            Subject::User(_) | Subject::Account(_) => self
                .user_of_subject(subject)
                .map(|u| u.id)
                .into_iter()
                .collect(),
        }
    }
}

impl Object {
    /// Whose it is; the nobody that owns nothing for what has no owner.
    #[must_use]
    pub const fn owner(&self) -> Subject {
        match self {
            Self::Session { owner, .. } | Self::PersonalFolder { owner, .. } => *owner,
            Self::Project(_) | Self::Model { .. } | Self::Folder { .. } | Self::Queue { .. } => {
                Subject::User(UserId::new(0))
            }
        }
    }
}

/// Whether somebody sees what is in the own domain by its office.
fn looks_after_domain(rights: &Caller) -> bool {
    matches!(rights.role(), Role::DomainAdmin | Role::Monitor) || rights.in_admins()
}

/// The kind a rule is about, for those who look through rules of sessions.
#[must_use]
pub fn is_about_sessions(resource: &Resource) -> bool {
    resource.kind() == Some(Kind::Session)
}

/// The id of whoever it is, as the engine knows people.
#[must_use]
pub const fn user_of(who: Who) -> Option<UserId> {
    match who {
        Who::Anonymous => None,
        Who::User(id) => Some(id),
        Who::Account(id) => Some(UserId::new(id.bits())),
    }
}
