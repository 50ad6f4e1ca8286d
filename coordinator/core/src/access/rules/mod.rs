//! Access rules over the hierarchy of things, and which level they give.
//!
//! ```text
//! everything (*)
//! ├─ all projects ── project P ──┬─ all sessions ·· session (array s-42 ── member s-42.7)
//! │                              ├─ all models   ·· model
//! │                              └─ all folders  ·· folder
//! └─ all queues ──── queue
//! ```
//!
//! A rule grants; none denies. What somebody has on an object is the greatest level over
//! all rules that name them, or a group of theirs, on the object or anything above it; a
//! narrower rule never lowers a wider one. Before any rule stands a gate: one is active and
//! a member of the project, or the queue is open to one.

mod book;
mod resource;
mod submit;

pub use book::{Effective, Impact, Question, Reason, RuleBook, Shift, Source, Via, impact};
pub use resource::{Kind, ObjectKey, ParseResourceError, QueueKey, Resource, SessionKey};
pub use submit::{Lack, Submission, may_submit};

use super::caller::{Caller, Subject};
use longshore_common::ids::{AccessRuleId, DomainId, ProjectId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What one may do with an object.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing; it is not even seen.
    #[default]
    None,
    /// List, read, download, mount read-only.
    Ro,
    /// And create inside, change, stop, delete, mount read-write, submit to a queue.
    Rw,
}

/// What a rule grants: a level that is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleLevel {
    /// See [`Level::Ro`].
    Ro,
    /// See [`Level::Rw`].
    Rw,
}

impl From<RuleLevel> for Level {
    fn from(level: RuleLevel) -> Self {
        match level {
            RuleLevel::Ro => Self::Ro,
            RuleLevel::Rw => Self::Rw,
        }
    }
}

/// One access rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its id.
    pub id: AccessRuleId,
    /// On what.
    pub resource: Resource,
    /// Which level.
    pub level: RuleLevel,
    /// To whom.
    pub subjects: BTreeSet<Subject>,
    /// Whether it is the one of the factory.
    #[serde(default)]
    pub default: bool,
}

impl Rule {
    /// The rule of a new installation: every user everything, behind the gate.
    #[must_use]
    pub fn factory(id: AccessRuleId, users: longshore_common::ids::UserGroupId) -> Self {
        Self {
            id,
            resource: Resource::Everything,
            level: RuleLevel::Rw,
            subjects: BTreeSet::from([Subject::Group(users)]),
            default: true,
        }
    }

    /// The users and service accounts it names without effect, since they are no members of
    /// the project: worth a warning. Nobody for what lies in no project.
    #[must_use]
    pub fn outsiders(&self, is_member: impl Fn(Subject) -> bool) -> Vec<Subject> {
        if !self.resource.is_in_a_project() {
            return Vec::new();
        }
        let people = self.subjects.iter().copied();
        people
            .filter(|s| !matches!(s, Subject::Group(_)) && !is_member(*s))
            .collect()
    }

    /// The domain whose administrators may write it: the one of all its subjects, and of its
    /// resource if that is a project or lies in one (`resource`). Rules over more than one
    /// object, and over queues, are of their subjects' domain: the gate keeps them inside it.
    #[must_use]
    pub fn domain(
        &self,
        of_subject: impl Fn(Subject) -> Option<DomainId>,
        of_resource: Option<DomainId>,
    ) -> Option<DomainId> {
        let mut domains = self.subjects.iter().map(|&s| of_subject(s));
        let domain = domains.next()??;
        let same = domains.all(|d| d == Some(domain));
        let inside = !self.resource.is_in_a_project() || of_resource == Some(domain);
        (same && inside).then_some(domain)
    }
}

/// In which project and domain something lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The project.
    pub project: ProjectId,
    /// The project's domain.
    pub domain: DomainId,
}

/// One thing a level is asked for, with what the rules need to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A project.
    Project(Place),
    /// A session, an array, or a member of one.
    Session {
        /// Which.
        id: SessionKey,
        /// Where.
        place: Place,
        /// Whose.
        owner: Subject,
    },
    /// A model.
    Model {
        /// Which.
        id: ObjectKey,
        /// Where.
        place: Place,
    },
    /// A folder of a project.
    Folder {
        /// Which.
        id: ObjectKey,
        /// Where.
        place: Place,
    },
    /// A folder of a person. It stands outside the tree.
    PersonalFolder {
        /// Which.
        id: ObjectKey,
        /// Whose.
        owner: Subject,
        /// To what level it is shared with the one who asks.
        shared: Level,
    },
    /// A queue.
    Queue {
        /// Which.
        id: QueueKey,
        /// Whether its own allow-lists open it to the domain, project or keypair of the one
        /// who asks.
        open: bool,
    },
}

impl Object {
    /// As a rule names it.
    #[must_use]
    pub fn resource(&self) -> Resource {
        match self {
            Self::Project(place) => Resource::Project(place.project),
            Self::Session { id, .. } => Resource::Session(*id),
            Self::Model { id, .. } => Resource::Model(id.clone()),
            Self::Folder { id, .. } | Self::PersonalFolder { id, .. } => {
                Resource::Folder(id.clone())
            }
            Self::Queue { id, .. } => Resource::Queue(id.clone()),
        }
    }

    /// Where it lies; queues and personal folders lie in no project.
    #[must_use]
    pub const fn place(&self) -> Option<Place> {
        match self {
            Self::Project(place)
            | Self::Session { place, .. }
            | Self::Model { place, .. }
            | Self::Folder { place, .. } => Some(*place),
            Self::PersonalFolder { .. } | Self::Queue { .. } => None,
        }
    }

    /// Itself and what stands above it, the nearest first. Empty for what stands outside.
    #[must_use]
    pub fn chain(&self) -> Vec<Resource> {
        if matches!(self, Self::PersonalFolder { .. }) {
            return Vec::new();
        }
        let itself = self.resource();
        let kind = itself.kind();
        let array = match self {
            Self::Session { id, .. } => id.array().map(Resource::Session),
            _ => None,
        };
        let (project, projects) = match (self, self.place()) {
            (Self::Project(_), _) | (_, None) => (None, None),
            (_, Some(place)) => (
                Some(Resource::Project(place.project)),
                Some(Resource::All(Kind::Project)),
            ),
        };
        let mut chain = Vec::with_capacity(6);
        chain.push(itself);
        chain.extend(array);
        chain.extend(project);
        chain.extend(kind.map(Resource::All));
        chain.extend(projects);
        chain.push(Resource::Everything);
        chain
    }

    /// Whether this lies inside `parent`: the project or the array.
    #[must_use]
    pub fn is_inside(&self, parent: &Self) -> bool {
        match (self, parent) {
            (Self::Project(_), Self::Project(_)) => false,
            (_, Self::Project(around)) => self.place() == Some(*around),
            (Self::Session { id, .. }, Self::Session { id: array, .. }) => {
                id.array() == Some(*array)
            }
            _ => false,
        }
    }

    /// Whether rules may count at all.
    fn gate(&self, caller: &Caller) -> bool {
        let inside = match self {
            Self::Project(place)
            | Self::Session { place, .. }
            | Self::Model { place, .. }
            | Self::Folder { place, .. } => caller.is_member(place.project),
            Self::Queue { open, .. } => *open,
            Self::PersonalFolder { .. } => false,
        };
        caller.is_active() && inside
    }
}

/// What somebody gets to see of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sight {
    /// Nothing: as if it did not exist.
    #[default]
    Nothing,
    /// Id and name, so that something visible inside can be located.
    NameOnly,
    /// All of it.
    Open(RuleLevel),
}

impl Sight {
    /// What a level shows.
    #[must_use]
    pub const fn of(level: Level) -> Self {
        match level {
            Level::None => Self::Nothing,
            Level::Ro => Self::Open(RuleLevel::Ro),
            Level::Rw => Self::Open(RuleLevel::Rw),
        }
    }

    /// The level behind it; a name alone is none.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::Nothing | Self::NameOnly => Level::None,
            Self::Open(RuleLevel::Ro) => Level::Ro,
            Self::Open(RuleLevel::Rw) => Level::Rw,
        }
    }
}
