//! Changes: the only way anything becomes different, in memory and in the store.

use super::announce::Announcement;
use super::audited::AuditLine;
use super::entities::{
    Agent, Charge, Cursor, Group, History, Idempotency, JoinToken, LedgerRow, Meta, Reached,
    Session,
};
use super::given::GivenText;
use super::images::Image;
use super::loaded::LoadedConfig;
use super::notify::{Note, NoteTried, NotifyChoice, NotifySettings};
use super::people::{AccessRule, Invitation, Keypair, Login, User, UserGroup};
use super::policies::{
    Domain, KeypairPolicy, PeopleSettings, Preset, Project, ProjectPolicy, SchedulerSettings,
    StoredSettings, UserPolicy,
};
use super::pools::{DraftConfig, LiveConfig};
use super::replay::Replay;
use super::usage::UsageChange;
use super::vaults::{Vault, VaultContent};
use longshore_common::ids::{
    AccessRuleId, AnnouncementId, ContainerKey, DomainId, GroupId, InvitationId, LoginId, PresetId,
    ProjectId, SessionId, UserGroupId, UserId, VaultId,
};
use longshore_common::time::Timestamp;
use longshore_identity::throttle;
use std::sync::Arc;

/// One stored difference. Objects are stored whole; rows of the ledger are opened,
/// marked and closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Facts of the installation.
    Meta(Meta),
    /// A person, new or changed.
    User(Box<User>),
    /// A keypair, new or changed.
    Keypair(Keypair),
    /// Somebody logged in, or a login was used.
    Login(Login),
    /// A login is over.
    LoginEnded(LoginId),
    /// A link that works once, new or changed.
    Invitation(Box<Invitation>),
    /// A link is of interest to nobody any more.
    InvitationForgotten(InvitationId),
    /// A group of users, new or changed.
    UserGroup(UserGroup),
    /// A group of users is gone.
    UserGroupDeleted(UserGroupId),
    /// An access rule, new or changed.
    AccessRule(AccessRule),
    /// An access rule is gone.
    AccessRuleDeleted(AccessRuleId),
    /// A vault, new or changed.
    Vault(Box<Vault>),
    /// The content of a vault was saved.
    VaultContent(VaultContent),
    /// What a session is given with its request. Not part of the State: it is read when somebody
    /// needs it.
    Given(GivenText),
    /// What the present attempt of a session is given, vaults and all. Not part of the State
    /// either.
    Delivered(GivenText),
    /// A vault is gone, and its content.
    VaultDeleted(VaultId),
    /// Failed logins were counted, or count no longer.
    Throttle(throttle::Change),
    /// A resource group, new or changed.
    Group(Group),
    /// A resource group is gone.
    GroupDeleted(GroupId),
    /// Defaults of resource groups.
    Scheduler(SchedulerSettings),
    /// What the configuration says about people.
    PeopleSettings(PeopleSettings),
    /// The settings that are stored.
    Settings(StoredSettings),
    /// The configuration that is in force, by its digests.
    Loaded(Box<LoadedConfig>),
    /// Everybody is to read something.
    Announcement(Announcement),
    /// Nobody is to read it any more.
    AnnouncementDeleted(AnnouncementId),
    /// Who is told at all.
    NotifySettings(NotifySettings),
    /// What somebody chose to be told of.
    NotifyChoice(NotifyChoice),
    /// Somebody is to be told something; kept by the store alone.
    Note(Box<Note>),
    /// A note was tried; kept by the store alone.
    NoteTried(NoteTried),
    /// Old notes are of interest to nobody; kept by the store alone.
    NotesForgotten {
        /// Those that ended before.
        ended_before: Timestamp,
        /// Of the others the newest so many stay.
        keep: u32,
    },
    /// A request with an idempotency key, and when; kept by the store alone.
    Replay(Box<Replay>, Timestamp),
    /// A domain, new or changed.
    Domain(Domain),
    /// A domain is gone; what is past keeps its name.
    DomainDeleted(DomainId),
    /// A project, new or changed.
    Project(Project),
    /// A project is gone; what is past keeps its name.
    ProjectDeleted(ProjectId),
    /// A keypair policy, new or changed.
    KeypairPolicy(Box<KeypairPolicy>),
    /// A user policy, new or changed.
    UserPolicy(UserPolicy),
    /// A project policy, new or changed.
    ProjectPolicy(ProjectPolicy),
    /// A policy of some kind is gone.
    PolicyDeleted(PolicyKind, String),
    /// A preset, new or changed.
    Preset(Preset),
    /// A preset is gone.
    PresetDeleted(PresetId),
    /// Something is said of an image, or something else.
    Image(Image),
    /// Nothing is said of an image any more, by its canonical name.
    ImageForgotten(String),
    /// Pools and queues were provisioned, or switched on or off.
    Config(Box<LiveConfig>),
    /// The draft of pools and queues was saved; absent = it is gone.
    ConfigDraft(Option<Box<DraftConfig>>),
    /// Tries were counted.
    Charged(Charge),
    /// Nobody is left whose tries are counted.
    ChargeForgotten {
        /// In which group.
        group: GroupId,
        /// Of which priority.
        priority: u8,
        /// See [`Charge`].
        shape: String,
    },
    /// An agent was taken in turn.
    Cursor(Cursor),
    /// A node, new or changed.
    Agent(Box<Agent>),
    /// A join token, new or changed.
    Token(JoinToken),
    /// A join token is gone.
    TokenDeleted(String),
    /// A session, new or changed.
    Session(Box<Session>),
    /// A line of history; kept by the store alone.
    History(History),
    /// An administrator reached into a session; kept by the store alone.
    Reached(Reached),
    /// A record of the audit log; kept by the store alone, memory keeps the end of the chain.
    /// Shared, because a batch is copied on its way to the store.
    Audit(Arc<AuditLine>),
    /// Retention: the records up to this one are gone. Kept by the store alone; the record that
    /// says so is another change of the same transaction.
    AuditForgotten(u64),
    /// Old sessions are gone, with all that was kept of them but their usage. Memory had none.
    SessionsForgotten(Vec<SessionId>),
    /// The histories of old sessions are gone. Kept by the store alone.
    HistoriesForgotten(Vec<SessionId>),
    /// The last output of old sessions is gone. Kept by the store alone.
    OutputForgotten(Vec<SessionId>),
    /// Old rows of usage are gone. Kept by the store alone.
    UsageForgotten {
        /// Those that ended before.
        before: Timestamp,
        /// So many of them.
        most: u32,
    },
    /// A claim begins.
    LedgerOpened(LedgerRow),
    /// The claims of a container no longer count against its owner.
    QuotaFreed {
        /// Whose claims.
        key: ContainerKey,
        /// Since when.
        at: Timestamp,
    },
    /// The claims of a container end: the node confirmed.
    LedgerClosed {
        /// Whose claims.
        key: ContainerKey,
        /// When.
        at: Timestamp,
    },
    /// A row of usage, new or changed; kept by the store alone.
    Usage(UsageChange),
    /// A request that may be repeated.
    Idempotency(Idempotency),
    /// Repeating it is a new request again.
    IdempotencyForgotten {
        /// Whose.
        caller: UserId,
        /// Which.
        key: String,
    },
}

/// The kinds of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// Of keypairs.
    Keypair,
    /// Of users.
    User,
    /// Of projects.
    Project,
}

impl PolicyKind {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keypair => "keypair-policy",
            Self::User => "user-policy",
            Self::Project => "project-policy",
        }
    }
}
