//! What a rule can be about, and how that is written.

use longshore_common::ids::{GroupId, ProjectId, SessionId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A kind of object that rules know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Projects, and with them all that lies inside.
    Project,
    /// Sessions.
    Session,
    /// Models.
    Model,
    /// Folders of projects.
    Folder,
    /// Queues: resource groups, pools, queues of allocation policies.
    Queue,
}

impl Kind {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Session => "session",
            Self::Model => "model",
            Self::Folder => "folder",
            Self::Queue => "queue",
        }
    }
}

/// A session or a member of an array: `s-42`, `s-42.7`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// The session; for a member, the array.
    pub session: SessionId,
    /// The number of the member.
    pub member: Option<u32>,
}

impl SessionKey {
    /// A session by itself, or a whole array.
    #[must_use]
    pub const fn whole(session: SessionId) -> Self {
        Self {
            session,
            member: None,
        }
    }

    /// A session, or a member of an array, by its id.
    #[must_use]
    pub const fn of(id: SessionId) -> Self {
        match id.array() {
            Some(session) => Self {
                session,
                member: id.task_index(),
            },
            None => Self::whole(id),
        }
    }

    /// The id of the session.
    #[must_use]
    pub const fn id(self) -> SessionId {
        match self.member {
            Some(member) => self.session.task(member),
            None => self.session,
        }
    }

    /// The array, if this is a member of one.
    #[must_use]
    pub const fn array(self) -> Option<Self> {
        match self.member {
            Some(_) => Some(Self::whole(self.session)),
            None => None,
        }
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.member {
            Some(member) => write!(f, "{}.{member}", self.session),
            None => self.session.fmt(f),
        }
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionKey {
    type Err = ParseResourceError;
    fn from_str(text: &str) -> Result<Self, ParseResourceError> {
        let error = || ParseResourceError::Id("a session id of the form s-42 or s-42.7");
        let (session, member) = match text.split_once('.') {
            Some((session, member)) => (session, Some(number(member).ok_or_else(error)?)),
            None => (text, None),
        };
        let session = session.parse().map_err(|_| error())?;
        if member.is_some_and(|member| member > SessionId::MAX_TASK) {
            return Err(error());
        }
        Ok(Self { session, member })
    }
}

/// One form for each number, so that a key is found however it was asked for.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    if digits && plain {
        text.parse().ok()
    } else {
        None
    }
}

/// The printed id of an object whose kind has no id type of its own yet: 1-64 printable
/// characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>); // shared: every chain holds a copy

impl ObjectKey {
    /// Longest accepted id in characters: that of a title, since queues are known by theirs.
    pub const MAX: usize = 64;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ObjectKey {
    type Err = ParseResourceError;
    fn from_str(text: &str) -> Result<Self, ParseResourceError> {
        // Counted only as far as needed: the text is a stranger's.
        let fits = !text.is_empty() && text.chars().nth(Self::MAX).is_none();
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(ParseResourceError::Id(
                "an id of 1 to 64 printable characters",
            ))
        }
    }
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueKey {
    /// A resource group.
    Group(GroupId),
    /// A pool, or a queue of an allocation policy.
    Other(ObjectKey),
}

impl fmt::Display for QueueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(id) => id.fmt(f),
            Self::Other(key) => key.fmt(f),
        }
    }
}

impl FromStr for QueueKey {
    type Err = ParseResourceError;
    fn from_str(text: &str) -> Result<Self, ParseResourceError> {
        match text.parse() {
            Ok(group) => Ok(Self::Group(group)),
            Err(_) => text.parse().map(Self::Other),
        }
    }
}

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Resource {
    /// Everything there is.
    Everything,
    /// All of a kind.
    All(Kind),
    /// One project, and what lies inside.
    Project(ProjectId),
    /// One session, array with its members, or member of an array.
    Session(SessionKey),
    /// One model.
    Model(ObjectKey),
    /// One folder of a project.
    Folder(ObjectKey),
    /// One queue.
    Queue(QueueKey),
}

impl Resource {
    /// From the members `type` and `id` of a rule.
    ///
    /// # Errors
    /// For a type there is not, an id that is not of the type, or an id beside `*`.
    pub fn from_parts(kind: &str, id: Option<&str>) -> Result<Self, ParseResourceError> {
        let kind = match kind {
            "*" if id.is_some() => return Err(ParseResourceError::IdOfEverything),
            "*" => return Ok(Self::Everything),
            "project" => Kind::Project,
            "session" => Kind::Session,
            "model" => Kind::Model,
            "folder" => Kind::Folder,
            "queue" => Kind::Queue,
            _ => return Err(ParseResourceError::Kind),
        };
        let Some(id) = id else {
            return Ok(Self::All(kind));
        };
        match kind {
            Kind::Project => id
                .parse()
                .map(Self::Project)
                .map_err(|_| ParseResourceError::Id("a project id of the form prj_…")),
            Kind::Session => id.parse().map(Self::Session),
            Kind::Model => id.parse().map(Self::Model),
            Kind::Folder => id.parse().map(Self::Folder),
            Kind::Queue => id.parse().map(Self::Queue),
        }
    }

    /// The kind; everything has none.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        match self {
            Self::Everything => None,
            Self::All(kind) => Some(*kind),
            Self::Project(_) => Some(Kind::Project),
            Self::Session(_) => Some(Kind::Session),
            Self::Model(_) => Some(Kind::Model),
            Self::Folder(_) => Some(Kind::Folder),
            Self::Queue(_) => Some(Kind::Queue),
        }
    }

    /// The member `type` of a rule.
    #[must_use]
    pub fn kind_text(&self) -> &'static str {
        self.kind().map_or("*", Kind::as_str)
    }

    /// The member `id` of a rule; none for everything and for all of a kind.
    #[must_use]
    pub fn id_text(&self) -> Option<String> {
        match self {
            Self::Everything | Self::All(_) => None,
            Self::Project(id) => Some(id.to_string()),
            Self::Session(id) => Some(id.to_string()),
            Self::Model(id) | Self::Folder(id) => Some(id.to_string()),
            Self::Queue(id) => Some(id.to_string()),
        }
    }

    /// Whether it is one project or one thing inside one.
    #[must_use]
    pub const fn is_in_a_project(&self) -> bool {
        match self {
            Self::Everything | Self::All(_) | Self::Queue(_) => false,
            Self::Project(_) | Self::Session(_) | Self::Model(_) | Self::Folder(_) => true,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.id_text()) {
            (Self::Everything, _) => f.write_str("*"),
            (_, Some(id)) => write!(f, "{} {id}", self.kind_text()),
            (_, None) => write!(f, "all {}s", self.kind_text()),
        }
    }
}

/// What stands in a rule is not a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseResourceError {
    /// There is no such type.
    #[error("type must be project, session, model, folder, queue or *")]
    Kind,
    /// The id is not of the type.
    #[error("id must be {0}")]
    Id(&'static str),
    /// Everything has no id.
    #[error("* takes no id")]
    IdOfEverything,
}

/// A resource as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    r#type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl TryFrom<Written> for Resource {
    type Error = ParseResourceError;
    fn try_from(written: Written) -> Result<Self, ParseResourceError> {
        Self::from_parts(&written.r#type, written.id.as_deref())
    }
}

impl From<Resource> for Written {
    fn from(resource: Resource) -> Self {
        Self {
            r#type: resource.kind_text().to_owned(),
            id: resource.id_text(),
        }
    }
}
