//! The one operation table: what may be done, and how far each kind of caller reaches.
//!
//! Operations that reach equally far stand in one [`Row`].
//! A family such as `idp.*` is spelled out, one constant per verb, so that a new verb has to
//! be put into a row before a route can name it.

use super::caller::{Caller, Role, Who};
use super::rules::Level;
use std::fmt;
use std::str::FromStr;

/// A kind of caller: a column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// No credentials.
    Anonymous,
    /// Role `user`.
    User,
    /// Role `user`, administering at least one project.
    ProjectAdmin,
    /// Role `monitor`.
    Monitor,
    /// Role `domain-admin`, and service accounts that act as one.
    DomainAdmin,
    /// Role `superadmin`.
    Superadmin,
    /// A service account.
    ServiceAccount,
}

impl Column {
    /// All, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Anonymous,
        Self::User,
        Self::ProjectAdmin,
        Self::Monitor,
        Self::DomainAdmin,
        Self::Superadmin,
        Self::ServiceAccount,
    ];

    /// Where a caller stands.
    #[must_use]
    pub fn of(caller: &Caller) -> Self {
        match (caller.who(), caller.role()) {
            (Who::Anonymous, _) => Self::Anonymous,
            (_, Role::Superadmin) => Self::Superadmin,
            (_, Role::DomainAdmin) => Self::DomainAdmin,
            (_, Role::Monitor) => Self::Monitor,
            (Who::Account(_), Role::User) => Self::ServiceAccount,
            (Who::User(_), Role::User) if caller.is_project_admin() => Self::ProjectAdmin,
            (Who::User(_), Role::User) => Self::User,
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Anonymous => "anonymous",
            Self::User => "user",
            Self::ProjectAdmin => "project admin",
            Self::Monitor => "monitor",
            Self::DomainAdmin => "domain admin",
            Self::Superadmin => "superadmin",
            Self::ServiceAccount => "service account",
        })
    }
}

/// How far a caller reaches with an operation: a cell of the table. A wider one includes
/// what is the caller's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nowhere.
    None,
    /// Oneself, and what is one's own.
    Own,
    /// The label of an own keypair, nothing else.
    LabelOnly,
    /// What a login is not needed for.
    NoLogin,
    /// Oneself; of the others in own projects the names.
    NamesInOwnProjects,
    /// What is one's own, and what the allow-lists open.
    OwnAllowed,
    /// What the access rules give.
    Rules,
    /// Projects one administers.
    AdministeredProjects,
    /// The own domain, reading only.
    ReadDomain,
    /// Image registries, reading only.
    ReadRegistries,
    /// The own domain.
    Domain,
    /// What is one's own; the own domain while `services.sessions.admin_exec` is on.
    OwnOrDomainExec,
    /// What is one's own; everything while `services.sessions.admin_exec` is on.
    OwnOrAllExec,
    /// Everywhere.
    All,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "-",
            Self::Own => "own",
            Self::LabelOnly => "label only",
            Self::NoLogin => "no login",
            Self::NamesInOwnProjects => "names in own projects",
            Self::OwnAllowed => "own, allowed",
            Self::Rules => "rules",
            Self::AdministeredProjects => "prj",
            Self::ReadDomain => "read dom",
            Self::ReadRegistries => "read registries",
            Self::Domain => "dom",
            Self::OwnOrDomainExec => "own; dom with admin_exec",
            Self::OwnOrAllExec => "own; all with admin_exec",
            Self::All => "all",
        })
    }
}

/// What an operation does to things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Shows.
    Read,
    /// Changes.
    Write,
    /// One or the other, as the request says.
    Either,
}

/// A sort of object for which an operation stands in a stricter row than otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Case {
    /// None of the others. For invitations, which always are one or the other, this is
    /// [`Case::NewPerson`].
    #[default]
    Plain,
    /// An invitation of somebody without an account.
    NewPerson,
    /// An invitation of a user to projects.
    ExistingUser,
    /// A user group without a domain.
    GlobalGroup,
    /// The members of `admins` or `queue-admins`.
    BuiltinMembers,
    /// `allow_impersonation` or `admin` of a service account.
    AccountPowers,
    /// A vault that is or becomes `locked`.
    LockedVault,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Plain,
        Self::NewPerson,
        Self::ExistingUser,
        Self::GlobalGroup,
        Self::BuiltinMembers,
        Self::AccountPowers,
        Self::LockedVault,
    ];

    /// Whether the operation makes a difference between this and the plain case.
    #[must_use]
    pub const fn applies_to(self, operation: Operation) -> bool {
        use Operation as O;
        match self {
            Self::Plain => !matches!(operation, O::InvitationRead | O::InvitationWrite),
            Self::NewPerson | Self::ExistingUser => {
                matches!(operation, O::InvitationRead | O::InvitationWrite)
            }
            Self::GlobalGroup | Self::BuiltinMembers => matches!(operation, O::GroupWrite),
            Self::AccountPowers => matches!(operation, O::ServiceAccountWrite),
            Self::LockedVault => {
                matches!(operation, O::VaultRead | O::VaultWrite | O::VaultReveal)
            }
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "",
            Self::NewPerson => "new person",
            Self::ExistingUser => "existing user",
            Self::GlobalGroup => "global group",
            Self::BuiltinMembers => "members of admins, queue-admins",
            Self::AccountPowers => "allow_impersonation, admin",
            Self::LockedVault => "locked",
        })
    }
}

/// A built-in group whose members reach further than their column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Also {
    /// Nobody.
    Nobody,
    /// Members of `admins`, in their domain.
    Admins,
    /// Members of `queue-admins`, everywhere.
    QueueAdmins,
}

impl fmt::Display for Also {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nobody => "",
            Self::Admins => "admins: dom",
            Self::QueueAdmins => "queue-admins: all",
        })
    }
}

/// The rows of the table of rights, by what they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Open,
    Oneself,
    OwnAccount,
    People,
    Installation,
    Accounts,
    ProjectPeople,
    DomainThings,
    OthersKeypairs,
    Rights,
    RightsRead,
    RightsWrite,
    Insight,
    Queues,
    Furniture,
    Surroundings,
    Work,
    Inside,
    Usage,
}

impl Row {
    /// Anonymous, user, project admin, monitor, domain admin, superadmin, service account.
    #[rustfmt::skip]
    const fn cells(self) -> [Reach; 7] {
        use Reach::{
            AdministeredProjects as Prj, All, Domain as Dom, LabelOnly, NamesInOwnProjects as Names,
            NoLogin, None as No, Own, OwnAllowed, OwnOrAllExec, OwnOrDomainExec,
            ReadDomain as ReadDom, ReadRegistries as Registries, Rules,
        };
        match self {
            Self::Open           => [All, All, All, All, All, All, NoLogin],
            Self::Oneself        => [No, Own, Own, Own, Own, Own, Own],
            Self::OwnAccount     => [No, Own, Own, Own, Own, Own, LabelOnly],
            Self::People         => [No, Names, Prj, Dom, Dom, All, Own],
            Self::Installation   => [No, No, No, No, No, All, No],
            Self::Accounts       => [No, No, No, No, Dom, All, No],
            Self::ProjectPeople  => [No, No, Prj, No, Dom, All, No],
            Self::DomainThings   => [No, No, No, No, Dom, All, No],
            Self::OthersKeypairs => [No, No, No, ReadDom, Dom, All, No],
            Self::Rights
            | Self::RightsRead   => [No, Own, Prj, Dom, Dom, All, Own],
            Self::RightsWrite    => [No, No, No, No, Dom, All, No],
            Self::Insight        => [No, No, No, Dom, Dom, All, No],
            Self::Queues         => [No, No, No, No, No, All, No],
            Self::Furniture      => [No, No, No, Registries, Registries, All, No],
            Self::Surroundings   => [No, OwnAllowed, OwnAllowed, Dom, Dom, All, OwnAllowed],
            Self::Work           => [No, Rules, Rules, ReadDom, Dom, All, Rules],
            Self::Inside         => [No, Own, Own, No, OwnOrDomainExec, OwnOrAllExec, Own],
            Self::Usage          => [No, Own, Prj, Dom, Dom, All, Own],
        }
    }

    /// Members of built-in groups. Who may write rules may list them: without their versions
    /// nothing can be written.
    const fn also(self) -> Also {
        match self {
            Self::RightsRead | Self::RightsWrite => Also::Admins,
            Self::Queues => Also::QueueAdmins,
            Self::Open
            | Self::Oneself
            | Self::OwnAccount
            | Self::People
            | Self::Installation
            | Self::Accounts
            | Self::ProjectPeople
            | Self::DomainThings
            | Self::OthersKeypairs
            | Self::Rights
            | Self::Insight
            | Self::Furniture
            | Self::Surroundings
            | Self::Work
            | Self::Inside
            | Self::Usage => Also::Nobody,
        }
    }
}

macro_rules! operations {
    ($($name:ident $text:literal $effect:ident $row:ident)*) => {
        /// Something that may be asked for. Every route names exactly one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation {
            $(
                #[doc = concat!("`", $text, "`")]
                $name,
            )*
        }

        impl Operation {
            /// All, row by row.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As it is printed, logged and audited.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// What it does to things.
            #[must_use]
            pub const fn effect(self) -> Effect {
                match self { $(Self::$name => Effect::$effect),* }
            }

            const fn plain_row(self) -> Row {
                match self { $(Self::$name => Row::$row),* }
            }
        }
    };
}

operations! {
    AuthLogin "auth.login" Write Open
    AuthSso "auth.sso" Write Open
    AuthReset "auth.reset" Write Open
    InvitationAccept "invitation.accept" Write Open
    SetupUse "setup.use" Write Open
    HealthRead "health.read" Read Open
    OpenapiRead "openapi.read" Read Open

    MeRead "me.read" Read Oneself
    MeRights "me.rights" Read Oneself
    MeVault "me.vault" Either Oneself
    MeNotifications "me.notifications" Either Oneself

    MeUpdate "me.update" Write OwnAccount
    MeLogins "me.logins" Either OwnAccount
    MeKeypairs "me.keypairs" Either OwnAccount
    ProjectLeave "project.leave" Write OwnAccount

    UserList "user.list" Read People
    UserRead "user.read" Read People

    UserCreate "user.create" Write Installation
    UserImport "user.import" Write Installation
    UserStatus "user.status" Write Installation
    UserRole "user.role" Write Installation
    UserDomain "user.domain" Write Installation
    UserSudo "user.sudo" Write Installation
    UserPolicy "user.policy" Write Installation
    DomainWrite "domain.write" Write Installation
    KeypairPolicy "keypair.policy" Write Installation
    KeypairRateLimit "keypair.rate_limit" Write Installation
    KeypairImport "keypair.import" Write Installation
    IdpRead "idp.read" Read Installation
    IdpWrite "idp.write" Write Installation
    IdpTest "idp.test" Write Installation
    SettingsWrite "settings.write" Write Installation
    UserConfig "user.config" Read Installation
    UserVault "user.vault" Write Installation
    ResourceConfigWrite "resource_config.write" Write Installation
    SchedulerWhatIf "scheduler.what_if" Read Installation
    QuotaRead "quota.read" Read Installation
    QuotaWrite "quota.write" Write Installation
    JoinTokenRead "join_token.read" Read Installation
    JoinTokenWrite "join_token.write" Write Installation
    UnclaimedRead "unclaimed.read" Read Installation
    UnclaimedWrite "unclaimed.write" Write Installation
    WatchdogRead "watchdog.read" Read Installation
    UsageAuditRun "usage_audit.run" Write Installation
    BackupRead "backup.read" Read Installation
    BackupWrite "backup.write" Write Installation
    AnnouncementWrite "announcement.write" Write Installation
    ChannelRead "channel.read" Read Installation
    ChannelWrite "channel.write" Write Installation
    BundleRead "bundle.read" Read Installation
    BundleWrite "bundle.write" Write Installation

    UserUpdate "user.update" Write Accounts
    UserResetPassword "user.reset_password" Write Accounts
    UserRequireChange "user.require_change" Write Accounts
    UserTotpOff "user.totp_off" Write Accounts
    UserEndLogins "user.end_logins" Write Accounts
    UserUnblock "user.unblock" Write Accounts

    ProjectMembers "project.members" Write ProjectPeople
    ProjectAdmins "project.admins" Write ProjectPeople
    NetworkRead "network.read" Read ProjectPeople
    NetworkWrite "network.write" Write ProjectPeople
    InvitationRead "invitation.read" Read ProjectPeople
    InvitationWrite "invitation.write" Write ProjectPeople

    ProjectCreate "project.create" Write DomainThings
    ProjectUpdate "project.update" Write DomainThings
    GroupWrite "group.write" Write DomainThings
    ServiceAccountWrite "service_account.write" Either DomainThings
    VaultRead "vault.read" Read DomainThings
    VaultWrite "vault.write" Write DomainThings
    VaultReveal "vault.reveal" Read DomainThings

    KeypairRead "keypair.read" Read OthersKeypairs
    KeypairCreate "keypair.create" Write OthersKeypairs
    KeypairState "keypair.state" Write OthersKeypairs
    KeypairDelete "keypair.delete" Write OthersKeypairs
    KeypairRotate "keypair.rotate" Write OthersKeypairs

    GroupRead "group.read" Read Rights
    AccessRead "access.read" Read RightsRead
    AccessTest "access.test" Read Rights
    AccessWrite "access.write" Write RightsWrite

    SettingsRead "settings.read" Read Insight
    MetricsRead "metrics.read" Read Insight
    AuditRead "audit.read" Read Insight

    QueueCreate "queue.create" Write Queues
    QueueRename "queue.rename" Write Queues
    QueueDelete "queue.delete" Write Queues

    PolicyWrite "policy.write" Write Furniture
    ResourceGroupUpdate "resource_group.update" Write Furniture
    AgentWrite "agent.write" Write Furniture
    ImageWrite "image.write" Write Furniture
    PresetWrite "preset.write" Write Furniture
    RegistryRead "registry.read" Read Furniture
    RegistryWrite "registry.write" Write Furniture

    InfoRead "info.read" Read Surroundings
    EventRead "event.read" Read Surroundings
    SearchRead "search.read" Read Surroundings
    DomainRead "domain.read" Read Surroundings
    ProjectRead "project.read" Read Surroundings
    ResourceGroupRead "resource_group.read" Read Surroundings
    QueueRead "queue.read" Read Surroundings
    ResourceConfigRead "resource_config.read" Read Surroundings
    AgentRead "agent.read" Read Surroundings
    ImageRead "image.read" Read Surroundings
    PresetRead "preset.read" Read Surroundings
    VolumeRead "volume.read" Read Surroundings
    PolicyRead "policy.read" Read Surroundings
    AnnouncementRead "announcement.read" Read Surroundings
    TaskRead "task.read" Read Surroundings
    TaskCancel "task.cancel" Write Surroundings

    SessionRead "session.read" Read Work
    SessionCreate "session.create" Write Work
    SessionUpdate "session.update" Write Work
    SessionSignal "session.signal" Write Work
    SessionTerminate "session.terminate" Write Work
    SessionCommit "session.commit" Write Work
    FolderRead "folder.read" Read Work
    FolderFilesRead "folder.files_read" Read Work
    FolderFilesWrite "folder.files_write" Write Work
    FolderCreate "folder.create" Write Work
    FolderUpdate "folder.update" Write Work
    FolderDelete "folder.delete" Write Work
    FolderClone "folder.clone" Write Work
    FolderShare "folder.share" Write Work
    ModelRead "model.read" Read Work
    ModelClone "model.clone" Write Work
    ModelRun "model.run" Write Work
    ServiceRead "service.read" Read Work
    ServiceCreate "service.create" Write Work
    ServiceUpdate "service.update" Write Work
    ServiceDelete "service.delete" Write Work
    ActionRead "action.read" Read Work
    ActionRun "action.run" Either Work

    SessionReach "session.reach" Write Inside

    UsageRead "usage.read" Read Usage
    ExportCsv "export.csv" Read Usage
}

impl Operation {
    /// What it is about: the part before the dot.
    #[must_use]
    pub fn noun(self) -> &'static str {
        let text = self.as_str();
        text.split_once('.').map_or(text, |(noun, _)| noun)
    }

    /// The operation that shows what this one is about, if there is one. Who may not do this
    /// but may do that is told so; who may do neither is told that there is nothing.
    #[must_use]
    pub fn reading(self) -> Option<Self> {
        format!("{}.read", self.noun()).parse().ok()
    }

    /// The level the access rules must give on the object. What clones or runs a model only
    /// reads it; that something may be made elsewhere is asked of the place it is made in.
    #[must_use]
    pub const fn needs(self) -> Level {
        match (self, self.effect()) {
            (Self::FolderClone | Self::ModelClone | Self::ModelRun, _) | (_, Effect::Read) => {
                Level::Ro
            }
            (_, Effect::Write | Effect::Either) => Level::Rw,
        }
    }

    /// Whether a service account may ask for it in a user's name.
    #[must_use]
    pub fn may_be_acted_for(self) -> bool {
        matches!(self.noun(), "session" | "folder" | "model")
    }

    /// Whether it ends in a login, which a service account has not.
    #[must_use]
    pub const fn logs_in(self) -> bool {
        matches!(
            self,
            Self::AuthLogin | Self::AuthSso | Self::AuthReset | Self::InvitationAccept
        )
    }

    /// Whether it needs no credentials.
    #[must_use]
    pub fn is_open(self) -> bool {
        self.plain_row() == Row::Open
    }

    /// Whether it is about the caller by its nature, so that a request names nobody.
    #[must_use]
    pub fn is_about_oneself(self) -> bool {
        matches!(self.plain_row(), Row::Oneself | Row::OwnAccount)
    }

    /// What a monitor may change: profile, password and TOTP, and logins.
    #[must_use]
    pub const fn is_own_profile(self) -> bool {
        matches!(self, Self::MeUpdate | Self::MeLogins)
    }

    /// The cell for a column. A case that the operation does not know reaches nowhere.
    #[must_use]
    pub fn cell(self, case: Case, column: Column) -> Reach {
        self.row(case)
            .map_or(Reach::None, |row| row.cells()[column as usize])
    }

    /// Whose members reach further than their column.
    #[must_use]
    pub fn also(self, case: Case) -> Also {
        self.row(case).map_or(Also::Nobody, Row::also)
    }

    fn row(self, case: Case) -> Option<Row> {
        let invitation = !Case::Plain.applies_to(self);
        match case {
            Case::Plain if invitation => Some(Row::Installation),
            Case::Plain => Some(self.plain_row()),
            _ if !case.applies_to(self) => None,
            Case::ExistingUser => Some(self.plain_row()),
            Case::NewPerson
            | Case::GlobalGroup
            | Case::BuiltinMembers
            | Case::AccountPowers
            | Case::LockedVault => Some(Row::Installation),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// There is no such operation, and what is not in the table is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no operation of that name stands in the table")]
pub struct UnknownOperation;

impl FromStr for Operation {
    type Err = UnknownOperation;
    fn from_str(text: &str) -> Result<Self, UnknownOperation> {
        let mut all = Self::ALL.iter().copied();
        all.find(|o| o.as_str() == text).ok_or(UnknownOperation)
    }
}

/// The whole table as text, for people and for comparison: one line per operation and case,
/// columns between ` | `, built-in groups that reach further last.
#[must_use]
pub fn matrix() -> String {
    let columns = Column::ALL.map(|c| c.to_string()).join(" | ");
    let mut text = format!("operation | {columns} | also\n");
    for &operation in Operation::ALL {
        for case in Case::ALL {
            if case.applies_to(operation) {
                text += &line(operation, case);
                text.push('\n');
            }
        }
    }
    text
}

fn line(operation: Operation, case: Case) -> String {
    let name = match case {
        Case::Plain => operation.to_string(),
        _ => format!("{operation} ({case})"),
    };
    let cells = Column::ALL.map(|c| operation.cell(case, c).to_string());
    let also = operation.also(case);
    format!("{name} | {} | {also}", cells.join(" | "))
        .trim_end()
        .to_owned()
}
