//! People and programs that call: who they are, what opens doors for them, what they may.
//!
//! A service account is a [`User`] with a [`Service`] in it: it owns keypairs and sessions,
//! has limits and memberships as a person has, and differs in what it can do with them.

use super::Refusal;
use crate::access::{Rule, Subject};
use longshore_common::ids::{
    DomainId, InvitationId, LoginId, ProjectId, ServiceAccountId, UserGroupId, UserId,
};
use longshore_common::time::Timestamp;
use longshore_identity::totp::TotpSecret;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub use crate::access::Role;

/// A person, or a service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id. Of a service account it is printed with the prefix `svc_`.
    pub id: UserId,
    /// Counts changes a person can see, from 1.
    #[serde(default)]
    pub version: u64,
    /// Unique without regard to case, among login names and addresses of others too.
    pub username: String,
    /// Unique without regard to case; never changes. Empty for service accounts.
    pub email: String,
    /// At most 64 characters.
    #[serde(default)]
    pub full_name: String,
    /// At most 500 characters.
    #[serde(default)]
    pub description: String,
    /// Variables whose values it does not want to be shown, beside those nobody is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redaction_names: Vec<String>,
    /// What it may administer.
    pub role: Role,
    /// Whether it may do anything.
    #[serde(default)]
    pub status: UserStatus,
    /// User and group number inside containers; from 20000, never given out again.
    pub uid: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a person last changed it.
    #[serde(default)]
    pub updated_at: Timestamp,
    /// Its domain.
    #[serde(default = "no_domain")]
    pub domain: DomainId,
    /// Its projects; the first is the one of sessions that name none.
    #[serde(default)]
    pub projects: Vec<Membership>,
    /// Name of its user policy.
    #[serde(default = "default_policy")]
    pub user_policy: String,
    /// Weight in fair shares, in thousandths: 1 to 1,000,000.
    #[serde(default = "weight_one")]
    pub weight_milli: i64,
    /// How the account first came to be.
    #[serde(default)]
    pub source: Origin,
    /// Hash of its password as a PHC string; none = it cannot log in by password.
    #[serde(default)]
    pub password: Option<String>,
    /// When it was set; none = with the account.
    #[serde(default)]
    pub password_set_at: Option<Timestamp>,
    /// After its next login it may only choose a new password.
    #[serde(default)]
    pub need_password_change: bool,
    /// Its containers let it become root inside.
    #[serde(default)]
    pub sudo_enabled: bool,
    /// Its second factor.
    #[serde(default)]
    pub totp: Option<Totp>,
    /// When it last logged in, and by what: `password` or the name of a connection.
    #[serde(default)]
    pub last_login: Option<(Timestamp, String)>,
    /// What makes it a service account.
    #[serde(default)]
    pub service: Option<Service>,
}

impl User {
    /// Somebody with the default of every field: to be given a name, an address and a number.
    #[must_use]
    pub fn new(id: UserId, created_at: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            username: String::new(),
            email: String::new(),
            full_name: String::new(),
            description: String::new(),
            redaction_names: Vec::new(),
            role: Role::User,
            status: UserStatus::Active,
            uid: 0,
            created_at,
            updated_at: created_at,
            domain: no_domain(),
            projects: Vec::new(),
            user_policy: default_policy(),
            weight_milli: weight_one(),
            source: Origin::Local,
            password: None,
            password_set_at: None,
            need_password_change: false,
            sudo_enabled: false,
            totp: None,
            last_login: None,
            service: None,
        }
    }

    /// Whether it may do anything, as far as it is itself concerned.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == UserStatus::Active
    }

    /// Whether it is in a project.
    #[must_use]
    pub fn is_member(&self, project: ProjectId) -> bool {
        self.projects.iter().any(|m| m.project == project)
    }

    /// Whether it administers a project.
    #[must_use]
    pub fn administers(&self, project: ProjectId) -> bool {
        self.projects
            .iter()
            .any(|m| m.project == project && m.admin)
    }

    /// Its projects, in its order.
    pub fn project_ids(&self) -> impl Iterator<Item = ProjectId> {
        self.projects.iter().map(|m| m.project)
    }

    /// Its id as it is printed.
    #[must_use]
    pub fn printed_id(&self) -> String {
        match &self.service {
            None => self.id.to_string(),
            Some(_) => self.account_id().to_string(),
        }
    }

    /// Its role, as those who act on it are judged: a service account that acts as domain
    /// admin is one.
    #[must_use]
    pub fn rank(&self) -> Role {
        match &self.service {
            Some(service) if service.admin => Role::DomainAdmin,
            Some(_) => Role::User,
            None => self.role,
        }
    }

    /// Its id as a service account.
    #[must_use]
    pub const fn account_id(&self) -> ServiceAccountId {
        ServiceAccountId::new(self.id.bits())
    }

    /// As access rules name it.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        match &self.service {
            None => Subject::User(self.id),
            Some(_) => Subject::Account(self.account_id()),
        }
    }

    /// Its second factor, if it is switched on.
    #[must_use]
    pub fn second_factor(&self) -> Option<&Totp> {
        self.totp.as_ref().filter(|totp| totp.active)
    }
}

pub(super) const fn no_domain() -> DomainId {
    DomainId::new(0)
}

fn default_policy() -> String {
    "default".to_owned()
}

const fn weight_one() -> i64 {
    1000
}

const fn yes() -> bool {
    true
}

/// Whether an account may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum UserStatus {
    /// Yes.
    #[default]
    Active,
    /// Switched off.
    Inactive,
    /// Its address is not proven yet.
    BeforeVerification,
}

impl UserStatus {
    /// All.
    pub const ALL: [Self; 3] = [Self::Active, Self::Inactive, Self::BeforeVerification];

    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::BeforeVerification => "before-verification",
        }
    }
}

/// How an account first came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Made here.
    #[default]
    Local,
    /// Stands in the configuration.
    Fixed,
    /// Came through an OIDC connection.
    Oidc,
    /// Came through a SAML connection.
    Saml,
}

impl Origin {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Fixed => "fixed",
            Self::Oidc => "oidc",
            Self::Saml => "saml",
        }
    }
}

/// Where a membership comes from. One is a member while any row exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum MemberSource {
    /// Somebody put it there.
    #[default]
    Manual,
    /// An invitation was accepted.
    Invitation,
    /// A rule of the product: everybody is in the group `users`.
    Rule,
    /// A connection to an identity provider, by its id.
    Idp(String),
}

impl std::fmt::Display for MemberSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manual => f.write_str("manual"),
            Self::Invitation => f.write_str("invitation"),
            Self::Rule => f.write_str("rule"),
            Self::Idp(connection) => write!(f, "idp:{connection}"),
        }
    }
}

/// That somebody is in a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Which project.
    pub project: ProjectId,
    /// Whether the project is its to administer.
    #[serde(default)]
    pub admin: bool,
    /// Where it comes from.
    #[serde(default)]
    pub source: MemberSource,
}

impl Membership {
    /// As an administrator gives it.
    #[must_use]
    pub const fn manual(project: ProjectId) -> Self {
        Self {
            project,
            admin: false,
            source: MemberSource::Manual,
        }
    }
}

/// What a service account may beyond a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Service {
    /// It may act for users of its domain.
    pub allow_impersonation: bool,
    /// It acts as an administrator of its domain.
    pub admin: bool,
}

/// What codes are made of. It is stored apart from the person, encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactorKey {
    /// 160 random bits.
    Open(TotpSecret),
    /// It cannot be read, and why, as a sentence.
    Shut(String),
}

impl FactorKey {
    /// One that is there.
    #[must_use]
    pub fn open(bytes: [u8; 20]) -> Self {
        Self::Open(TotpSecret::from_bytes(bytes))
    }

    /// The secret itself; else what is answered to whoever needs it.
    ///
    /// # Errors
    /// `LS-SECRETS-LOCKED`.
    pub fn secret(&self) -> Result<&TotpSecret, Refusal> {
        match self {
            Self::Open(secret) => Ok(secret),
            Self::Shut(why) => Err(Refusal::new("LS-SECRETS-LOCKED", why.clone())),
        }
    }
}

impl Default for FactorKey {
    fn default() -> Self {
        Self::Shut("The stored secret is missing.".to_owned())
    }
}

/// A second factor (RFC 6238).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totp {
    /// What codes are made of; never written with the rest.
    #[serde(skip)]
    pub secret: FactorKey,
    /// Switched on; before, it is an offer.
    pub active: bool,
    /// Until when the offer stands.
    pub offered_until: Timestamp,
    /// The last time step that was accepted; only a greater one is accepted again.
    pub last_step: u64,
    /// SHA-256 of the recovery codes that are left.
    pub recovery: Vec<[u8; 32]>,
}

/// An access key with the hash of its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keypair {
    /// The public part; unique for ever.
    pub access_key: String,
    /// SHA-256 of the secret part; none once it is revoked.
    pub secret_sha256: Option<[u8; 32]>,
    /// The hash before the last rotation, and until when it is good.
    #[serde(default)]
    pub previous: Option<([u8; 32], Timestamp)>,
    /// Whose it is.
    pub user: UserId,
    /// For people; at most 64 characters.
    #[serde(default)]
    pub label: String,
    /// Whether it opens anything.
    #[serde(default)]
    pub state: KeypairState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Login name of who made it.
    #[serde(default)]
    pub created_by: String,
    /// Name of its keypair policy.
    #[serde(default = "default_policy")]
    pub policy: String,
    /// Whether its policy limits the user as a whole.
    #[serde(default = "yes")]
    pub main: bool,
    /// Requests in 900 s, 1 to 1,000,000; none = the setting.
    #[serde(default)]
    pub rate_limit: Option<u32>,
    /// The one project it is good for.
    #[serde(default)]
    pub project: Option<ProjectId>,
    /// Until when it is good.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// When it was last used and from which address, as of the last minute.
    #[serde(default)]
    pub last_used: Option<(Timestamp, String)>,
}

impl Keypair {
    /// A keypair with the default of every field.
    #[must_use]
    pub fn new(
        access_key: &str,
        secret_sha256: [u8; 32],
        user: UserId,
        created_at: Timestamp,
    ) -> Self {
        Self {
            access_key: access_key.to_owned(),
            secret_sha256: Some(secret_sha256),
            previous: None,
            user,
            label: String::new(),
            state: KeypairState::Active,
            created_at,
            created_by: String::new(),
            policy: default_policy(),
            main: true,
            rate_limit: None,
            project: None,
            expires_at: None,
            last_used: None,
        }
    }

    /// Whether it is switched on. That it may have expired is another question.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state == KeypairState::Active
    }
}

/// Whether a keypair opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum KeypairState {
    /// Yes.
    #[default]
    Active,
    /// Not at present.
    Inactive,
    /// Never again.
    Revoked,
}

impl KeypairState {
    /// All.
    pub const ALL: [Self; 3] = [Self::Active, Self::Inactive, Self::Revoked];

    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Revoked => "revoked",
        }
    }
}

/// Somebody logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Its id.
    pub id: LoginId,
    /// SHA-256 of its token.
    pub token_sha256: [u8; 32],
    /// Who.
    pub user: UserId,
    /// By what: `password` or the name of a connection.
    pub via: String,
    /// With what: `console` or `cli`.
    pub client: String,
    /// From which address.
    pub from: String,
    /// When.
    pub created_at: Timestamp,
    /// When it was last used, as of the last minute.
    pub last_used_at: Timestamp,
}

/// Somebody was asked to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// SHA-256 of its token.
    pub token_sha256: [u8; 32],
    /// Who.
    pub email: String,
    /// The user whose address it is, if there was one when the link was made.
    #[serde(default)]
    pub user: Option<UserId>,
    /// Into which domain.
    pub domain: DomainId,
    /// Into which projects.
    pub projects: Vec<ProjectId>,
    /// Into which groups.
    pub groups: Vec<UserGroupId>,
    /// With which user policy.
    pub user_policy: String,
    /// By whom.
    pub by: UserId,
    /// When.
    pub created_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
    /// What became of it.
    pub state: InvitationState,
    /// What the link is for.
    pub purpose: LinkPurpose,
}

impl Invitation {
    /// Whether it opens anything at an instant.
    #[must_use]
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.state == InvitationState::Pending && at < self.expires_at
    }

    /// The word of the API for what became of it.
    #[must_use]
    pub fn state_at(&self, at: Timestamp) -> &'static str {
        match self.state {
            InvitationState::Accepted => "accepted",
            InvitationState::Withdrawn => "withdrawn",
            InvitationState::Pending if self.is_open(at) => "pending",
            InvitationState::Pending => "expired",
        }
    }

    /// The same, taken back.
    #[must_use]
    pub fn withdrawn(&self) -> Self {
        Self {
            state: InvitationState::Withdrawn,
            ..self.clone()
        }
    }

    /// The same without a project. A user's that has none left is taken back: it was for
    /// nothing else.
    #[must_use]
    pub fn without(&self, project: ProjectId) -> Self {
        let mut less = self.clone();
        less.projects.retain(|id| *id != project);
        match less.projects.is_empty() && less.user.is_some() {
            true => less.withdrawn(),
            false => less,
        }
    }

    /// Whether it asks somebody in.
    #[must_use]
    pub fn is_for(&self, user: &User) -> bool {
        let address = || self.email.eq_ignore_ascii_case(&user.email);
        self.purpose == LinkPurpose::Invitation
            && self.user.map_or_else(address, |id| id == user.id)
    }

    /// The same, done.
    #[must_use]
    pub fn accepted(&self) -> Self {
        Self {
            state: InvitationState::Accepted,
            ..self.clone()
        }
    }
}

/// What became of an invitation; that it has expired is told by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InvitationState {
    /// Nothing yet.
    Pending,
    /// It was accepted.
    Accepted,
    /// It was taken back.
    Withdrawn,
}

/// What a link that works once is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkPurpose {
    /// To join.
    Invitation,
    /// To prove the address of an account that is there.
    Verification,
    /// To choose a new password.
    Reset,
}

/// Users and service accounts under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserGroup {
    /// Its id.
    pub id: UserGroupId,
    /// Counts changes from 1.
    pub version: u64,
    /// Unique; at most 64 characters.
    pub name: String,
    /// At most 500 characters.
    pub description: String,
    /// Its members are of this domain; none = of any.
    pub domain: Option<DomainId>,
    /// What the product itself means by it.
    pub builtin: Option<BuiltinGroup>,
    /// Members, and where each membership comes from. Empty for `users`: everybody is.
    pub members: BTreeMap<UserId, BTreeSet<MemberSource>>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Groups that are always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuiltinGroup {
    /// Everybody.
    Users,
    /// Read and modify everything of the own domain but make, rename and delete queues.
    Admins,
    /// Make, rename and delete queues.
    QueueAdmins,
}

impl BuiltinGroup {
    /// All.
    pub const ALL: [Self; 3] = [Self::Users, Self::Admins, Self::QueueAdmins];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Admins => "admins",
            Self::QueueAdmins => "queue-admins",
        }
    }
}

/// An access rule with what is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRule {
    /// What it opens, how far and to whom.
    pub rule: Rule,
    /// Counts changes from 1.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
}
