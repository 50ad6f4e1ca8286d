//! May this caller do this to that? Deny by default: what no cell of the operation table
//! covers is refused, and what a caller had better say about the object (its domain, its
//! owners, the level the rules give) counts as nothing when it is left out.
//!
//! A refusal tells no more than the caller may know. What depends on the caller alone is
//! *forbidden*, whether or not the object exists ([`missing`] gives the same answer for one
//! that does not); what depends on the object is *hidden* unless the caller may see it.

use super::caller::{Caller, Role, Subject, Who};
use super::operation::{Also, Case, Column, Effect, Operation, Reach};
use super::rules::{Level, Sight};
use longshore_common::ids::{DomainId, ProjectId};

/// Why something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Nobody proved to be anybody.
    #[error("The operation needs credentials.")]
    Anonymous,
    /// User, account or domain is switched off.
    #[error("The account or its domain is not active.")]
    Inactive,
    /// The cell says no, whatever the object.
    #[error("Your role does not permit this operation.")]
    NotPermitted,
    /// The object lies outside what the cell covers.
    #[error("Your role does not permit this operation here.")]
    OutOfReach,
    /// Reading is covered, changing is not.
    #[error("Only reading is granted.")]
    ReadOnly,
    /// A monitor tried to change something.
    #[error("A monitor changes only its own profile, password, two-factor codes and logins.")]
    MonitorWrites,
    /// A domain admin acts on somebody who is no user or monitor.
    #[error("A domain administrator acts only on users with the role user or monitor.")]
    AdministersPerson,
    /// Somebody tried to change the own role.
    #[error("You cannot change your own role.")]
    OwnRole,
    /// An operation that is never done in somebody's name.
    #[error("This operation cannot be done on behalf of a user.")]
    NotOnBehalf,
    /// The header came from somebody who is no service account.
    #[error("Only service accounts may act for users.")]
    NoServiceAccount,
    /// The service account has no `allow_impersonation`.
    #[error("The service account may not act for other users.")]
    MayNotImpersonate,
    /// The user to act for is inactive, no person, or of another domain.
    #[error("There is no active user of that name in the account's domain.")]
    NobodyToActFor,
}

impl Why {
    /// The code of the answer.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Anonymous => "LS-AUTH-REQUIRED",
            Self::OwnRole => "LS-ROLE-SELF",
            Self::ReadOnly => "LS-READ-ONLY",
            Self::NotOnBehalf
            | Self::NoServiceAccount
            | Self::MayNotImpersonate
            | Self::NobodyToActFor => "LS-IMPERSONATION",
            Self::Inactive
            | Self::NotPermitted
            | Self::OutOfReach
            | Self::MonitorWrites
            | Self::AdministersPerson => "LS-FORBIDDEN",
        }
    }
}

/// What of the object may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// All of it.
    Full,
    /// Id and name.
    Names,
    /// All, with secret values masked.
    Masked,
    /// All but agent addresses and device serial numbers.
    NoAddresses,
    /// Name, size and host of somebody's personal folder.
    Outline,
}

/// What is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// By which reach. For a collection: what of it to show. For `session.reach`, anything
    /// but [`Reach::Own`] is audited and shown to the owner.
    pub reach: Reach,
    /// What may be shown; of a collection, of that which is in reach.
    pub view: View,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allowed(Grant),
    /// 403, but for the statuses that the codes of [`Why::OwnRole`] and [`Why::Anonymous`] have.
    Forbidden(Why),
    /// 404, with the same body as for what never existed; the reason is for the audit log.
    Hidden(Why),
}

impl Decision {
    /// Whether it is allowed.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

/// What a request means to do, where the operation leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Intent {
    /// Only look.
    Read,
    /// Change what is there: what is assumed when nothing is said.
    #[default]
    Change,
    /// Change a keypair's label and nothing else.
    Label,
    /// Make something new; the target is the place it is made in.
    Create,
}

/// What an operation is done to, as far as rights depend on it.
#[derive(Debug, Clone, Default)]
pub struct Target {
    collection: bool,
    shared: bool,
    domain: Option<DomainId>,
    projects: Vec<ProjectId>,
    owners: Vec<Subject>,
    person: Option<Role>,
    sight: Sight,
    personal: bool,
    case: Case,
    intent: Intent,
    admin_exec: bool,
}

impl Target {
    /// No single object: a list, or the caller's own things.
    #[must_use]
    pub fn collection() -> Self {
        Self {
            collection: true,
            ..Self::default()
        }
    }

    /// One object of which nothing is known yet: nobody's, nowhere, seen by nobody.
    #[must_use]
    pub fn object() -> Self {
        Self::default()
    }

    /// One object that belongs to no domain but serves all: an agent, an image, a resource
    /// group, the settings, a user group that is built in. No domain admin changes it.
    #[must_use]
    pub fn shared() -> Self {
        Self {
            shared: true,
            ..Self::default()
        }
    }

    /// It belongs to a domain. For an access rule: the domain of all its subjects and of its
    /// resource, if they have the same one.
    #[must_use]
    pub fn in_domain(mut self, domain: DomainId) -> Self {
        self.domain = Some(domain);
        self
    }

    /// It belongs to a project; a person to each project of theirs.
    #[must_use]
    pub fn in_project(mut self, project: ProjectId) -> Self {
        self.projects.push(project);
        self
    }

    /// Whose it is: the person of an account or keypair, the owner of a session or task, each
    /// subject of a rule, the group itself for a group (it is its members' own).
    #[must_use]
    pub fn owned_by(mut self, owner: Subject) -> Self {
        self.owners.push(owner);
        self
    }

    /// The role of the person that is acted on, through the account, a keypair or a
    /// membership. A service account counts as a user, or as domain admin if it acts as one.
    #[must_use]
    pub const fn person(mut self, role: Role) -> Self {
        self.person = Some(role);
        self
    }

    /// What the access rules and the object's own allow-lists let the caller see of it.
    #[must_use]
    pub const fn seen(mut self, sight: Sight) -> Self {
        self.sight = sight;
        self
    }

    /// As [`Target::seen`], with a level.
    #[must_use]
    pub const fn level(self, level: Level) -> Self {
        self.seen(Sight::of(level))
    }

    /// It is somebody's personal folder, which no role opens.
    #[must_use]
    pub const fn personal(mut self) -> Self {
        self.personal = true;
        self
    }

    /// It is of a sort for which the operation stands in a stricter row.
    #[must_use]
    pub const fn case(mut self, case: Case) -> Self {
        self.case = case;
        self
    }

    /// What the request means to do.
    #[must_use]
    pub const fn intent(mut self, intent: Intent) -> Self {
        self.intent = intent;
        self
    }

    /// `services.sessions.admin_exec` is on.
    #[must_use]
    pub const fn admin_exec(mut self) -> Self {
        self.admin_exec = true;
        self
    }
}

/// May `caller` do `operation` to `target`?
///
/// # Examples
/// ```
/// use longshore_core::access::{Caller, Decision, Operation, Target, Why, decide};
/// let nobody = Caller::anonymous();
/// assert!(decide(Operation::HealthRead, &nobody, &Target::collection()).is_allowed());
/// assert_eq!(
///     decide(Operation::SessionRead, &nobody, &Target::collection()),
///     Decision::Forbidden(Why::Anonymous)
/// );
/// ```
#[must_use]
pub fn decide(operation: Operation, caller: &Caller, target: &Target) -> Decision {
    if let Err(why) = admit(operation, caller, target.intent) {
        return Decision::Forbidden(why);
    }
    let reach = reach(operation, target.case, caller);
    let request = Request {
        operation,
        caller,
        target,
    };
    match request.cover(reach) {
        Ok(grant) => match request.guard() {
            None => Decision::Allowed(grant),
            Some(why) => Decision::Forbidden(why),
        },
        Err(why) if request.is_visible() => Decision::Forbidden(why),
        Err(why) => Decision::Hidden(why),
    }
}

/// The answer when the object does not exist: the same as for one the caller may not see.
#[must_use]
pub fn missing(operation: Operation, caller: &Caller, intent: Intent) -> Decision {
    match admit(operation, caller, intent) {
        Ok(()) => Decision::Hidden(Why::OutOfReach),
        Err(why) => Decision::Forbidden(why),
    }
}

/// The operations a caller has for anything at all, with the widest reach: for menus.
/// Where an operation both reads and changes, one of the two is enough.
#[must_use]
pub fn rights(caller: &Caller) -> Vec<(Operation, Reach)> {
    let intents = [Intent::Change, Intent::Label, Intent::Read];
    let has = |o| intents.iter().any(|&i| admit(o, caller, i).is_ok());
    let all = Operation::ALL.iter().copied();
    all.filter(|&o| has(o))
        .map(|o| (o, widest(o, caller)))
        .collect()
}

/// Whether a caller has an operation for anything at all: what depends on these two alone.
///
/// # Errors
/// Why not.
pub fn at_the_door(operation: Operation, caller: &Caller, intent: Intent) -> Result<(), Why> {
    admit(operation, caller, intent)
}

fn admit(operation: Operation, caller: &Caller, intent: Intent) -> Result<(), Why> {
    let writes = writes(operation, intent);
    if !operation.is_open() {
        if caller.who() == Who::Anonymous {
            return Err(Why::Anonymous);
        }
        if !caller.is_active() {
            return Err(Why::Inactive);
        }
        if caller.submitted_by().is_some() && !operation.may_be_acted_for() {
            return Err(Why::NotOnBehalf);
        }
        if caller.role() == Role::Monitor && writes && !operation.is_own_profile() {
            return Err(Why::MonitorWrites);
        }
    }
    let permitted = match widest(operation, caller) {
        Reach::None => false,
        Reach::NoLogin => !operation.logs_in(),
        // Its own keypairs are nothing it could not see before it labels one.
        Reach::LabelOnly => {
            operation == Operation::MeKeypairs && matches!(intent, Intent::Read | Intent::Label)
        }
        Reach::ReadRegistries => operation == Operation::RegistryRead,
        Reach::ReadDomain if writes => return Err(Why::ReadOnly),
        Reach::ReadDomain
        | Reach::Own
        | Reach::NamesInOwnProjects
        | Reach::OwnAllowed
        | Reach::Rules
        | Reach::AdministeredProjects
        | Reach::Domain
        | Reach::OwnOrDomainExec
        | Reach::OwnOrAllExec
        | Reach::All => true,
    };
    permitted.then_some(()).ok_or(Why::NotPermitted)
}

const fn writes(operation: Operation, intent: Intent) -> bool {
    match operation.effect() {
        Effect::Read => false,
        Effect::Write => true,
        Effect::Either => !matches!(intent, Intent::Read),
    }
}

/// Over all sorts of objects: whether one exists must not show in a refusal, so its sort
/// must not either.
fn widest(operation: Operation, caller: &Caller) -> Reach {
    let cases = Case::ALL.into_iter().filter(|c| c.applies_to(operation));
    let reaches = cases.map(|case| reach(operation, case, caller));
    reaches.max().unwrap_or(Reach::None)
}

fn reach(operation: Operation, case: Case, caller: &Caller) -> Reach {
    let own = operation.cell(case, Column::ServiceAccount);
    // What a service account lacks by its nature, one that acts as domain admin lacks too.
    if matches!(caller.who(), Who::Account(_)) && matches!(own, Reach::NoLogin | Reach::LabelOnly) {
        return own;
    }
    let cell = operation.cell(case, Column::of(caller));
    let also = match operation.also(case) {
        Also::Admins if caller.in_admins() => Reach::Domain,
        Also::QueueAdmins if caller.in_queue_admins() => Reach::All,
        Also::Admins | Also::QueueAdmins | Also::Nobody => Reach::None,
    };
    cell.max(also)
}

struct Request<'a> {
    operation: Operation,
    caller: &'a Caller,
    target: &'a Target,
}

impl Request<'_> {
    /// Whether a cell covers the target.
    fn cover(&self, reach: Reach) -> Result<Grant, Why> {
        let allow = |reach, view| Ok(Grant { reach, view });
        let (caller, target) = (self.caller, self.target);
        if target.personal {
            return self.cover_personal(reach);
        }
        let covered = match reach {
            Reach::None => false,
            Reach::All | Reach::NoLogin | Reach::ReadRegistries => true,
            Reach::Own | Reach::LabelOnly => self.is_own(),
            Reach::OwnAllowed if self.is_own() => true,
            // Being allowed to see a thing is no right to change it.
            Reach::OwnAllowed if self.writes() => false,
            Reach::OwnAllowed => match self.by_sight()? {
                Some(view) => return allow(reach, view),
                None => false,
            },
            Reach::Rules => match self.by_sight()? {
                Some(view) => return allow(reach, view),
                None => false,
            },
            Reach::NamesInOwnProjects => return self.cover_people(reach),
            Reach::AdministeredProjects => {
                let administered = target.projects.iter().any(|&p| caller.administers(p));
                if !administered && self.operation.noun() == "user" {
                    return self.cover_people(reach);
                }
                administered || self.is_own()
            }
            Reach::Domain | Reach::ReadDomain => self.is_in_domain(),
            Reach::OwnOrDomainExec | Reach::OwnOrAllExec => {
                if self.is_own() {
                    return allow(Reach::Own, View::Full);
                }
                let everywhere = reach == Reach::OwnOrAllExec;
                if target.admin_exec && (everywhere || caller.is_of(target.domain)) {
                    let reach = if everywhere {
                        Reach::All
                    } else {
                        Reach::Domain
                    };
                    return allow(reach, View::Full);
                }
                false
            }
        };
        if covered {
            allow(reach, self.view())
        } else {
            Err(Why::OutOfReach)
        }
    }

    /// People: oneself in full, of those one works with the names.
    fn cover_people(&self, reach: Reach) -> Result<Grant, Why> {
        let (caller, target) = (self.caller, self.target);
        let shares = || target.projects.iter().any(|&p| caller.is_member(p));
        let view = if target.collection && reach == Reach::NamesInOwnProjects {
            View::Names
        } else if target.collection || target.owners.iter().any(|&o| caller.is(o)) {
            View::Full
        } else if shares() {
            View::Names
        } else {
            return Err(Why::OutOfReach);
        };
        Ok(Grant { reach, view })
    }

    /// Personal folders stand outside the tree: owner and those they are shared with; an
    /// administrator sees that it is there and may remove it.
    fn cover_personal(&self, reach: Reach) -> Result<Grant, Why> {
        let by_sight = self.by_sight();
        if let Ok(Some(view)) = by_sight {
            return Ok(Grant { reach, view });
        }
        let administers = match reach {
            Reach::All => true,
            Reach::Domain | Reach::ReadDomain => self.caller.is_of(self.target.domain),
            _ => false,
        };
        let outline = [Operation::FolderRead, Operation::FolderDelete];
        if administers && outline.contains(&self.operation) {
            let view = View::Outline;
            return Ok(Grant { reach, view });
        }
        by_sight.and(Err(Why::OutOfReach))
    }

    fn is_own(&self) -> bool {
        let (caller, target) = (self.caller, self.target);
        let oneself = || target.owners.iter().any(|&o| caller.is(o));
        if self.operation == Operation::ProjectLeave {
            let projects = &target.projects;
            return !projects.is_empty() && projects.iter().all(|&p| caller.is_member(p));
        }
        if self.operation.is_about_oneself() {
            return target.collection || oneself();
        }
        if self.operation == Operation::SessionReach {
            // Who left the project has lost the session with it.
            return oneself() && target.sight.level() >= Level::Ro;
        }
        if target.collection {
            return !self.writes();
        }
        target.owners.iter().any(|o| caller.subjects().contains(o))
    }

    fn is_in_domain(&self) -> bool {
        let target = self.target;
        if target.collection {
            return !self.writes();
        }
        if self.caller.is_of(target.domain) {
            return true;
        }
        if target.shared {
            // Everybody's: to be read where it is open, as by anybody else.
            let open = target.sight.level() >= Level::Ro;
            return !self.writes() && (open || self.operation.is_insight());
        }
        // Seen as by anybody else; sessions and folders are judged by their domain alone.
        !self.writes() && !self.operation.is_by_rules() && self.is_own()
    }

    /// What the level given by the rules covers; nothing when nothing is seen.
    fn by_sight(&self) -> Result<Option<View>, Why> {
        if self.target.collection {
            return Ok((!self.writes()).then(|| self.view()));
        }
        let needs = if self.writes() {
            self.operation.needs()
        } else {
            Level::Ro
        };
        match self.target.sight {
            Sight::Nothing => Ok(None),
            Sight::Open(level) if Level::from(level) >= needs => Ok(Some(self.view())),
            Sight::Open(_) => Err(Why::ReadOnly),
            Sight::NameOnly if self.operation.reading() == Some(self.operation) => {
                Ok(Some(View::Names))
            }
            Sight::NameOnly => Ok(None),
        }
    }

    fn view(&self) -> View {
        match (self.operation, Column::of(self.caller)) {
            (Operation::SettingsRead, _) => View::Masked,
            (
                Operation::AgentRead,
                Column::User | Column::ProjectAdmin | Column::ServiceAccount,
            ) => View::NoAddresses,
            _ => View::Full,
        }
    }

    fn writes(&self) -> bool {
        writes(self.operation, self.target.intent)
    }

    /// What is refused although a cell covers it.
    fn guard(&self) -> Option<Why> {
        let (caller, target) = (self.caller, self.target);
        let oneself = target.owners.iter().any(|&o| caller.is(o));
        // Whom it is about has to be said: else it might be oneself.
        if self.operation == Operation::UserRole && (oneself || target.owners.is_empty()) {
            return Some(Why::OwnRole);
        }
        if caller.role() != Role::DomainAdmin || !self.writes() {
            return None;
        }
        let fits = match target.person {
            Some(role) => matches!(role, Role::User | Role::Monitor),
            None => !self.operation.acts_on_a_person(),
        };
        (!fits && !self.operation.is_about_oneself()).then_some(Why::AdministersPerson)
    }

    /// Whether the caller may know that the target exists.
    fn is_visible(&self) -> bool {
        let (caller, target) = (self.caller, self.target);
        if target.collection {
            return true;
        }
        if target.intent == Intent::Create && !self.operation.is_by_rules() {
            let inside = target.projects.iter().any(|&p| caller.is_member(p));
            let nowhere = target.domain.is_none() && target.projects.is_empty();
            return nowhere || inside || caller.is_of(target.domain);
        }
        let mut look = target.clone().intent(Intent::Read);
        let reading = match self.operation.reading() {
            Some(reading) if reading != self.operation => reading,
            // What is seen in the plain case is seen, though more than that may be refused.
            None if target.case != Case::Plain => self.operation,
            Some(_) | None => return false,
        };
        if reading == self.operation || !look.case.applies_to(reading) {
            look.case = Case::Plain;
        }
        decide(reading, caller, &look).is_allowed()
    }
}

impl Operation {
    /// Whether a domain administrator may do it to users and monitors only, so that the
    /// target has to say whom it is about.
    fn acts_on_a_person(self) -> bool {
        matches!(self.noun(), "user" | "keypair")
            || matches!(self, Self::ProjectMembers | Self::ProjectAdmins)
    }

    /// What is shown of the installation to those who watch over a domain.
    const fn is_insight(self) -> bool {
        matches!(self, Self::SettingsRead | Self::MetricsRead)
    }

    /// Whether access rules decide on it for ordinary people.
    fn is_by_rules(self) -> bool {
        self.cell(Case::Plain, Column::User) == Reach::Rules
    }
}
