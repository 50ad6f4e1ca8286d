//! What follows from an administrator's order.
//!
//! Each verb is a function of the state and the order: it says what becomes different, or
//! refuses with everything that is wrong at once. Ids and secrets were drawn at the rim.
//! A rehearsal (`dry_run`) decides the same, changes nothing and tells the [`Impact`].
//!
//! | module | decides about |
//! |---|---|
//! | `groups` | resource groups, and which agent is in which |
//! | `policies` | keypair, user and project policies |
//! | `tenants` | domains, projects, people, keypairs |
//! | `accounts` | logins, passwords and second factors of others |
//! | `invitations` | who is asked to join, and what a link that came with it does |
//! | `presets` | amounts under a name |
//! | `images` | the least that sessions of an image get |
//! | `config` | pools, profiles, allocation policies and queues: views and the draft |
//! | `findings` | what is wrong with a draft, and what is remarkable |
//! | `provision` | what becomes live, the switch, names of queues |
//! | `impact` | what a write would do to sessions |
//! | `permit` | who may give which order |
//! | `export` | tables |
//! | `audit` | books against what nodes report |
//! | `members` | reading members of requests |
//! | `vaults` | what sessions get beside what is asked for them |
//! | `rights` | groups of users, access rules, service accounts |
//! | `named` | what is made and changed the same way everywhere |

mod accounts;
mod audit;
mod config;
mod export;
mod findings;
mod groups;
mod images;
mod impact;
mod invitations;
mod members;
mod named;
mod permit;
mod policies;
mod presets;
mod provision;
mod rights;
mod tenants;
mod vaults;

pub use accounts::AccountVerb;
pub use audit::{Reported, ReportedContainer, usage_audit};
pub use config::{document, draft_view, live_view, queue_view, queue_views, view_of_live};
pub use export::{ExportKind, Table, export, export_keys};
pub use findings::validate;
pub(super) use groups::with_domains;
pub use groups::{DECLARE_LOST_MIN_S, group_view};
pub use images::image_view;
pub use invitations::{
    Accept, Chosen, DrawnLink, MOST_LINK_S, find_link, invitation_view, invited_by_name,
    pending_user, sees_invitation,
};
pub(super) use invitations::{accept, accepted, link_for, void_links};
pub use permit::operation;
pub use permit::{at_project, person as at_person};
pub(crate) use policies::follow_policies;
pub use policies::{
    idle_from, idle_rules, keypair_policy_view, lives_view, project_policy_view, user_policy_view,
};
pub use presets::preset_view;
pub use rights::{
    RightsObject, RightsVerb, access_rule_view, account_view, effective, group_target, resource_of,
    rule_target, subject_for, subject_of, user_group_view,
};
pub use tenants::{
    FixedOrder, FixedUser, ImportRow, domain_view, file_refusal, keypair_view, member_view,
    project_view, user_view, user_views,
};

pub use vaults::{NewContent, VaultVerb, Whose, vault_target, vault_view};

pub(super) use tenants::{apply_fixed, stands_in_file};

use super::change::{Change, PolicyKind};
use super::draft::Draft;
use super::event::{Answer, Caller, Effect, Outcome, Refusal};
use super::policies::{KeypairPolicy, ProjectPolicy, UserPolicy};
use super::pools::ResourceConfig;
use super::state::State;
use longshore_common::admin::{
    ConfigVerdict, DomainRequest, DomainView, GroupRequest, GroupView, ImageRequest, ImageView,
    Impact, ImportAnswer, InvitationRequest, InvitationView, KeypairPatch, KeypairPolicyRequest,
    KeypairPolicyView, KeypairView, MemberRequest, MemberView, NewKeypair, NewUser, PresetRequest,
    PresetView, ProjectPolicyRequest, ProjectPolicyView, ProjectRequest, ProjectView, QueuePatch,
    QueueView, RequireChangeRequest, ResourceConfigRequest, ResourceConfigView, RotateRequest,
    Touched, UsageAuditView, UserDomainRequest, UserPatch, UserPolicyAssignment, UserPolicyRequest,
    UserPolicyView, UserRoleRequest, UserStatusRequest, UserSudoRequest, UserView, VaultView,
};
use longshore_common::ids::{
    AgentId, DomainId, GroupId, ImageId, PolicyId, PresetId, ProjectId, SessionId, UserId,
};
use longshore_common::session::UnknownWord;
use longshore_common::time::Timestamp;
use longshore_identity::Secret;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::str::FromStr;

/// An order of an administrator. That the caller may give it was checked at the rim.
#[derive(Debug, Clone)]
pub struct AdminOrder {
    /// By whom.
    pub caller: Caller,
    /// Decide, tell, and change nothing.
    pub dry_run: bool,
    /// The version of the object the caller saw; none = whatever it is. Another one is
    /// refused with `LS-VERSION-STALE`. Keypairs have no version: for them it must be none.
    pub expected_version: Option<u64>,
    /// What to do.
    pub verb: AdminVerb,
}

/// What an administrator can ask for. References are ids or names as people wrote them;
/// an unknown one is `LS-NOT-FOUND`.
#[derive(Debug, Clone)]
pub enum AdminVerb {
    /// Makes a resource group.
    CreateGroup(GroupId, Box<GroupRequest>),
    /// Changes a resource group; `active`, `default` and `allowed` are members like others.
    PatchGroup(String, Box<GroupRequest>),
    /// Deletes a resource group to which no agent, live session or pool refers.
    DeleteGroup(String),
    /// Lets a domain, project or keypair into a group. Of a group that was open to
    /// everybody it makes one that is open to this one only.
    Allow {
        /// Which group.
        group: String,
        /// What is let in.
        kind: AllowKind,
        /// Name, id or access key.
        who: String,
    },
    /// Takes it off the list again; a list that becomes empty lets nobody in.
    Disallow {
        /// Which group.
        group: String,
        /// What is taken off.
        kind: AllowKind,
        /// Name, id or access key.
        who: String,
    },
    /// Opens a group to everybody again.
    AllowEverybody(String),
    /// Puts an agent into another group.
    MoveAgent {
        /// Which agent.
        agent: String,
        /// Into which group.
        group: String,
    },
    /// Ends a container that no order names.
    StopUnclaimed {
        /// Its key, as text.
        key: String,
        /// Seconds between the stop signal and the kill.
        grace_s: u32,
    },
    /// Lets a container stay that no order names: in the books, if it carries a good record of
    /// what it was placed as, else beside them.
    AdoptUnclaimed {
        /// Its key, as text.
        key: String,
    },
    /// Makes a keypair policy.
    CreateKeypairPolicy(PolicyId, Box<KeypairPolicyRequest>),
    /// Changes a keypair policy.
    PatchKeypairPolicy(String, Box<KeypairPolicyRequest>),
    /// Makes a user policy.
    CreateUserPolicy(PolicyId, Box<UserPolicyRequest>),
    /// Changes a user policy.
    PatchUserPolicy(String, Box<UserPolicyRequest>),
    /// Makes a project policy.
    CreateProjectPolicy(PolicyId, Box<ProjectPolicyRequest>),
    /// Changes a project policy.
    PatchProjectPolicy(String, Box<ProjectPolicyRequest>),
    /// Deletes a policy; with `move_to` whoever has it gets that one.
    DeletePolicy {
        /// Of which kind.
        kind: PolicyKind,
        /// Which.
        name: String,
        /// What its users get instead.
        move_to: Option<String>,
    },
    /// Makes a domain.
    CreateDomain(DomainId, Box<DomainRequest>),
    /// Changes a domain.
    PatchDomain(String, Box<DomainRequest>),
    /// Deletes a domain in which nobody and nothing is left.
    DeleteDomain(String),
    /// Makes a project.
    CreateProject(ProjectId, Box<ProjectRequest>),
    /// Changes a project; assigns its policy too.
    PatchProject(String, Box<ProjectRequest>),
    /// Deletes a project in which nothing lives, with memberships, rules and keypairs for it.
    DeleteProject(String),
    /// Makes a person with a first keypair.
    CreateUser {
        /// What was drawn for the person.
        secrets: Box<NewUserSecrets>,
        /// The link that proves the address, for a person that has to.
        link: DrawnLink,
        /// Its password, if it has one.
        password: Option<NewPassword>,
        /// Who; without the password.
        request: Box<NewUser>,
    },
    /// Makes the people of a table.
    ImportUsers {
        /// Row by row.
        rows: Vec<ImportRow>,
        /// Make those whose rows are right, not all or nobody.
        partial: bool,
    },
    /// Changes a person: names, description, user policy, weight, projects.
    PatchUser(String, Box<UserPatch>),
    /// Switches a person on or off. Who has to prove the address gets the link.
    SetUserStatus(String, UserStatusRequest, DrawnLink),
    /// Asks somebody to join.
    Invite(Box<InvitationRequest>, DrawnLink),
    /// Takes an invitation back.
    WithdrawInvitation(String),
    /// Gives a person another role.
    SetUserRole(String, UserRoleRequest),
    /// Moves a person to another domain.
    SetUserDomain(String, UserDomainRequest),
    /// Says whether sessions of a person let it become root inside.
    SetUserSudo(String, UserSudoRequest),
    /// Gives a person another user policy.
    SetUserPolicy(String, UserPolicyAssignment),
    /// Asks a person to choose a new password.
    RequirePasswordChange(String, RequireChangeRequest),
    /// Takes somebody into a project, or says what it may there.
    PutMember {
        /// Which project.
        project: String,
        /// Who.
        user: String,
        /// What it may.
        request: MemberRequest,
    },
    /// Removes somebody from a project.
    RemoveMember {
        /// Which project.
        project: String,
        /// Who.
        user: String,
        /// What becomes of its sessions there.
        sessions: LeftSessions,
    },
    /// The caller goes out of a project.
    LeaveProject {
        /// Which project.
        project: String,
        /// What becomes of its sessions there.
        sessions: LeftSessions,
    },
    /// Makes a further keypair.
    CreateKeypair {
        /// What was drawn for it, or came with the request.
        secrets: NewKeypairSecrets,
        /// Which; without the secret.
        request: Box<NewKeypair>,
    },
    /// Changes label, policy, rate limit or end of a keypair.
    PatchKeypair(String, Box<KeypairPatch>),
    /// Gives a keypair a new secret.
    RotateKeypair {
        /// Access key.
        keypair: String,
        /// SHA-256 of the new secret.
        secret_sha256: [u8; 32],
        /// For how long the old one stays good.
        request: RotateRequest,
    },
    /// Makes a keypair open nothing ever again.
    RevokeKeypair(String),
    /// The same for one that is switched off and that nothing hangs on.
    DeleteKeypair(String),
    /// Switches a keypair on or off.
    SetKeypairActive {
        /// Access key.
        keypair: String,
        /// On or off.
        active: bool,
    },
    /// Chooses the keypair whose policy limits a person as a whole.
    SetMainKeypair {
        /// Whose.
        user: String,
        /// Access key.
        keypair: String,
    },
    /// Says something of an image.
    CreateImage(ImageId, Box<ImageRequest>),
    /// Says something else of an image.
    PatchImage(String, Box<ImageRequest>),
    /// Forgets what was said of an image.
    ForgetImage(String),
    /// Makes a preset.
    CreatePreset(PresetId, Box<PresetRequest>),
    /// Changes a preset.
    PatchPreset(String, Box<PresetRequest>),
    /// Deletes a preset.
    DeletePreset(String),
    /// Saves the draft of pools and queues. The expected version is that of the draft.
    SaveDraft(Box<ResourceConfigRequest>),
    /// Puts a document that was live once into the draft; the rim reads it from the store.
    LoadDraft(Box<ResourceConfig>),
    /// Looks at the saved draft and changes nothing.
    ValidateDraft,
    /// Makes the draft equal to what is live.
    ResetDraft,
    /// Makes the draft live.
    Provision {
        /// The live version the caller saw.
        expected_version: u64,
    },
    /// Serves queues, or lets them rest.
    EnablePools(bool),
    /// Gives a queue another name.
    RenameQueue {
        /// Which.
        queue: String,
        /// Its new name.
        request: QueuePatch,
    },
    /// Does something about the logins of somebody.
    Account(AccountVerb),
    /// Compares the books with what connected agents report.
    UsageAudit {
        /// What they report.
        reports: Vec<Reported>,
        /// Close the claims of containers that are confirmed gone.
        apply: bool,
    },
    /// Groups of users, access rules, service accounts.
    Rights(Box<RightsVerb>),
    /// A vault.
    Vault(Box<VaultVerb>),
}

/// What is drawn at the rim for a new person.
#[derive(Debug, Clone)]
pub struct NewUserSecrets {
    /// The person's id.
    pub id: UserId,
    /// Public part of the first keypair.
    pub access_key: String,
    /// SHA-256 of its secret part.
    pub secret_sha256: [u8; 32],
}

/// A password that is to be set. Its rules are looked at here, beside all others.
#[derive(Debug, Clone)]
pub struct NewPassword {
    /// As it was given.
    pub text: Secret,
    /// Its hash as a PHC string; empty if the text breaks a rule.
    pub phc: String,
}

/// What a new keypair opens with.
#[derive(Debug, Clone)]
pub struct NewKeypairSecrets {
    /// Its public part.
    pub access_key: String,
    /// SHA-256 of its secret part.
    pub secret_sha256: [u8; 32],
    /// The secret itself where it came with the request: it has rules to keep.
    pub imported: Option<Secret>,
}

/// What becomes of sessions that somebody leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftSessions {
    /// Those that run go on.
    Keep,
    /// They are stopped.
    Stop,
}

impl FromStr for LeftSessions {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text.to_ascii_lowercase().as_str() {
            "keep" => Ok(Self::Keep),
            "stop" => Ok(Self::Stop),
            _ => Err(UnknownWord::new(text, ["keep", "stop"].into_iter())),
        }
    }
}

/// Who can be let into a resource group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AllowKind {
    /// A domain.
    Domain,
    /// A project.
    Project,
    /// A keypair.
    Keypair,
}

/// What an administrator is told.
#[derive(Debug, Clone)]
pub struct AdminAnswer {
    /// The object as it is now, or would be.
    pub object: AdminObject,
    /// The object as it was, as JSON; for the audit log.
    pub before: Option<Value>,
    /// What it would touch; told for a rehearsal only.
    pub impact: Option<Impact>,
    /// What a change of a person touched besides it.
    pub touched: Option<Touched>,
}

/// An object of administration as the API shows it.
#[derive(Debug, Clone)]
pub enum AdminObject {
    /// Deleted, or gone already.
    Gone,
    /// A resource group.
    Group(Box<GroupView>),
    /// An agent that was moved; the rim shows agents.
    Agent(AgentId),
    /// A keypair policy.
    KeypairPolicy(Box<KeypairPolicyView>),
    /// A user policy.
    UserPolicy(Box<UserPolicyView>),
    /// A project policy.
    ProjectPolicy(Box<ProjectPolicyView>),
    /// A domain.
    Domain(Box<DomainView>),
    /// A project.
    Project(Box<ProjectView>),
    /// A person; of a new one also the first keypair.
    User(Box<UserView>, Option<Box<KeypairView>>),
    /// An invitation.
    Invitation(Box<InvitationView>),
    /// People of a table; nothing secret is in it.
    Imported(Box<ImportAnswer>),
    /// Somebody in a project.
    Member(Box<MemberView>),
    /// Somebody who was in a project, and is no more.
    Parted(Box<MemberView>),
    /// A keypair.
    Keypair(Box<KeypairView>),
    /// What is said of an image.
    Image(Box<ImageView>),
    /// A preset.
    Preset(Box<PresetView>),
    /// The draft of pools and queues.
    Draft(Box<ResourceConfigView>),
    /// What is to be said about the draft, or about its provisioning.
    Verdict(Box<ConfigVerdict>),
    /// The live document.
    Config(Box<ResourceConfigView>),
    /// A queue.
    Queue(Box<QueueView>),
    /// A person, as far as logins go; for the audit log.
    Account(Box<Value>),
    /// A container that no order names; for the audit log.
    Unclaimed(Box<Value>),
    /// Books against nodes.
    Audit(Box<UsageAuditView>),
    /// A group of users, an access rule or a service account.
    Rights(RightsObject),
    /// A vault, without what it holds.
    Vault(Box<VaultView>),
}

/// What a verb decided.
#[derive(Debug)]
struct Decision {
    changes: Vec<Change>,
    effects: Vec<Effect>,
    object: AdminObject,
    /// The object as it was, for the rehearsal.
    before: Option<Value>,
    scope: impact::Scope,
    touched: Option<Touched>,
}

impl Decision {
    fn new(object: AdminObject, changes: Vec<Change>) -> Self {
        Self {
            changes,
            effects: Vec::new(),
            object,
            before: None,
            scope: impact::Scope::default(),
            touched: None,
        }
    }

    fn drafted(object: AdminObject, draft: Draft<'_>) -> Self {
        let (changes, effects) = draft.finish();
        Self {
            effects,
            ..Self::new(object, changes)
        }
    }

    fn was(mut self, before: &impl Serialize) -> Self {
        self.before = serde_json::to_value(before).ok();
        self
    }

    fn touching(mut self, scope: impact::Scope) -> Self {
        self.scope = scope;
        self
    }
}

impl AdminObject {
    /// The object as JSON; nothing for what is gone and for agents. Of a table of people it
    /// says who was made.
    #[must_use]
    pub fn value(&self) -> Option<Value> {
        let value = match self {
            Self::Gone | Self::Agent(_) | Self::Parted(_) => return None,
            Self::Group(view) => serde_json::to_value(view),
            Self::KeypairPolicy(view) => serde_json::to_value(view),
            Self::UserPolicy(view) => serde_json::to_value(view),
            Self::ProjectPolicy(view) => serde_json::to_value(view),
            Self::Domain(view) => serde_json::to_value(view),
            Self::Project(view) => serde_json::to_value(view),
            Self::User(view, _) => serde_json::to_value(view),
            Self::Imported(answer) => {
                let made = answer.rows.iter().filter(|row| row.access_key.is_some());
                let users: Vec<&str> = made.map(|row| row.email.as_str()).collect();
                Ok(json!({ "created": answer.created, "users": users }))
            }
            Self::Invitation(view) => serde_json::to_value(view),
            Self::Member(view) => serde_json::to_value(view),
            Self::Keypair(view) => serde_json::to_value(view),
            Self::Image(view) => serde_json::to_value(view),
            Self::Preset(view) => serde_json::to_value(view),
            Self::Draft(view) | Self::Config(view) => serde_json::to_value(view),
            Self::Verdict(view) => serde_json::to_value(view),
            Self::Queue(view) => serde_json::to_value(view),
            Self::Account(value) | Self::Unclaimed(value) => return Some((**value).clone()),
            Self::Audit(view) => serde_json::to_value(view),
            Self::Rights(object) => object.value(),
            Self::Vault(view) => serde_json::to_value(view),
        };
        value.ok()
    }
}

/// Says what follows from an order.
pub(super) fn administer(state: &State, order: &AdminOrder, now: Timestamp) -> Outcome {
    let decided = permit::permit(state, order).and_then(|()| decide(state, order, now));
    let decision = match decided {
        Ok(decision) => decision,
        Err(refusal) => return Outcome::refuse(refusal),
    };
    let Decision {
        mut changes,
        mut effects,
        mut object,
        before,
        scope,
        touched,
    } = decision;
    rights::follow(state, &order.verb, &mut changes);
    vaults::unbound(state, &mut changes);
    provision::removed(state, &order.caller, &mut changes, &mut effects, now);
    // A rehearsal as well: what follows is what people would feel of it.
    policies::follow(state, &mut changes, &mut effects, now);
    if !order.dry_run {
        let answer = AdminAnswer {
            object,
            before,
            impact: None,
            touched,
        };
        return Outcome {
            changes,
            effects,
            answer: Ok(Answer::Admin(Box::new(answer))),
        };
    }
    let mut told = impact::impact(state, &changes, &scope, now);
    rights::shifts(state, &changes, &mut told);
    if let (Some(before), Some(after)) = (before, object.value()) {
        told.diff = impact::difference(&before, &after);
    }
    if let AdminObject::Verdict(verdict) = &mut object
        && verdict.impact.is_none()
    {
        verdict.impact = Some(told.clone());
    }
    Outcome::only(Answer::Admin(Box::new(AdminAnswer {
        object,
        before: None,
        impact: Some(told),
        touched,
    })))
}

/// The sessions that an order itself changes: what follows from it leaves them alone, for of two
/// changes of one session the second would undo the first.
fn sessions_of(changes: &[Change]) -> BTreeSet<SessionId> {
    let sessions = changes.iter().filter_map(|change| match change {
        Change::Session(session) => Some(session.id),
        _ => None,
    });
    sessions.collect()
}

/// The person who gives an order, as history names it.
fn by(state: &State, caller: &Caller) -> String {
    match state.users.get(&caller.user) {
        Some(user) => format!("user {}", user.username),
        None if caller.user == UserId::new(0) => "the configuration".to_owned(),
        None => format!("user {}", caller.user),
    }
}

fn decide(state: &State, order: &AdminOrder, now: Timestamp) -> Result<Decision, Refusal> {
    let (caller, expected) = (&order.caller, order.expected_version);
    let about = |name| tenants::About {
        state,
        caller,
        name,
        expected,
        now,
    };
    match &order.verb {
        AdminVerb::CreateGroup(id, request) => groups::create(state, *id, request),
        AdminVerb::PatchGroup(name, request) => groups::patch(state, name, expected, request, now),
        AdminVerb::DeleteGroup(name) => groups::delete(state, name, expected),
        AdminVerb::Allow { group, kind, who } => {
            groups::allow(state, group, expected, *kind, who, true)
        }
        AdminVerb::Disallow { group, kind, who } => {
            groups::allow(state, group, expected, *kind, who, false)
        }
        AdminVerb::AllowEverybody(group) => groups::allow_everybody(state, group, expected),
        AdminVerb::MoveAgent { agent, group } => {
            groups::move_agent(state, agent, group, expected, now)
        }
        AdminVerb::StopUnclaimed { key, grace_s } => {
            let (object, before, draft) = super::unclaimed::stop(state, key, *grace_s, now)?;
            Ok(Decision::drafted(object, draft).was(&before))
        }
        AdminVerb::AdoptUnclaimed { key } => {
            let (object, before, draft) = super::unclaimed::keep(state, key, now)?;
            Ok(Decision::drafted(object, draft).was(&before))
        }
        AdminVerb::CreateKeypairPolicy(id, request) => {
            policies::create::<KeypairPolicy>(state, *id, request, now, KeypairPolicy::new)
        }
        AdminVerb::PatchKeypairPolicy(name, request) => {
            policies::patch::<KeypairPolicy>(state, name, expected, request, now)
        }
        AdminVerb::CreateUserPolicy(id, request) => {
            policies::create::<UserPolicy>(state, *id, request, now, UserPolicy::new)
        }
        AdminVerb::PatchUserPolicy(name, request) => {
            policies::patch::<UserPolicy>(state, name, expected, request, now)
        }
        AdminVerb::CreateProjectPolicy(id, request) => {
            policies::create::<ProjectPolicy>(state, *id, request, now, ProjectPolicy::new)
        }
        AdminVerb::PatchProjectPolicy(name, request) => {
            policies::patch::<ProjectPolicy>(state, name, expected, request, now)
        }
        AdminVerb::DeletePolicy {
            kind,
            name,
            move_to,
        } => policies::delete(state, *kind, name, move_to.as_deref(), expected),
        AdminVerb::CreateDomain(id, request) => tenants::create_domain(state, *id, request, now),
        AdminVerb::PatchDomain(name, request) => {
            tenants::patch_domain(state, name, expected, request, now)
        }
        AdminVerb::DeleteDomain(name) => tenants::delete_domain(&about(name)),
        AdminVerb::CreateProject(id, request) => {
            tenants::create_project(state, caller, *id, request, now)
        }
        AdminVerb::PatchProject(name, request) => {
            tenants::patch_project(state, caller, name, expected, request, now)
        }
        AdminVerb::DeleteProject(name) => tenants::delete_project(&about(name)),
        AdminVerb::CreateUser {
            secrets,
            link,
            password,
            request,
        } => {
            let drawn = (&**secrets, link);
            tenants::create_user(state, caller, drawn, (request, password.as_ref()), now)
        }
        AdminVerb::ImportUsers { rows, partial } => {
            tenants::import(state, caller, rows, *partial, now)
        }
        AdminVerb::PatchUser(name, request) => {
            tenants::patch_user(state, caller, name, expected, request, now)
        }
        AdminVerb::SetUserStatus(name, request, link) => {
            tenants::set_status(&about(name), request, Some(link))
        }
        AdminVerb::Invite(request, link) => invitations::invite(state, caller, request, link, now),
        AdminVerb::WithdrawInvitation(id) => invitations::withdraw(state, caller, id, now),
        AdminVerb::SetUserRole(name, request) => tenants::set_role(&about(name), request),
        AdminVerb::SetUserDomain(name, request) => tenants::set_domain(&about(name), request),
        AdminVerb::SetUserSudo(name, request) => tenants::set_sudo(&about(name), request),
        AdminVerb::SetUserPolicy(name, request) => tenants::set_policy(&about(name), request),
        AdminVerb::RequirePasswordChange(name, request) => {
            tenants::require_change(&about(name), request)
        }
        AdminVerb::PutMember {
            project,
            user,
            request,
        } => tenants::put_member(state, caller, (project, user), request, now),
        AdminVerb::RemoveMember {
            project,
            user,
            sessions,
        } => tenants::part(state, caller, (project, Some(user)), *sessions, now),
        AdminVerb::LeaveProject { project, sessions } => {
            tenants::part(state, caller, (project, None), *sessions, now)
        }
        AdminVerb::CreateKeypair { secrets, request } => {
            tenants::create_keypair(state, caller, request, secrets, now)
        }
        AdminVerb::PatchKeypair(key, request) => tenants::patch_keypair(state, key, request, now),
        AdminVerb::SetKeypairActive { keypair, active } => {
            tenants::set_keypair_active(state, keypair, *active)
        }
        AdminVerb::RotateKeypair {
            keypair,
            secret_sha256,
            request,
        } => tenants::rotate_keypair(state, keypair, request, *secret_sha256, now),
        AdminVerb::RevokeKeypair(key) => tenants::revoke_keypair(state, key),
        AdminVerb::DeleteKeypair(key) => tenants::delete_keypair(state, key),
        AdminVerb::SetMainKeypair { user, keypair } => tenants::set_main(state, user, keypair, now),
        AdminVerb::CreateImage(id, request) => images::create(state, *id, request, now),
        AdminVerb::PatchImage(name, request) => images::patch(state, name, expected, request, now),
        AdminVerb::ForgetImage(name) => images::forget(state, name, expected),
        AdminVerb::CreatePreset(id, request) => presets::create(state, *id, request, now),
        AdminVerb::PatchPreset(name, request) => {
            presets::patch(state, name, expected, request, now)
        }
        AdminVerb::DeletePreset(name) => presets::delete(state, name, expected),
        AdminVerb::SaveDraft(request) => config::save(state, expected, request, now),
        AdminVerb::LoadDraft(document) => config::load(state, expected, document, now),
        AdminVerb::ValidateDraft => Ok(provision::look_at_draft(state, caller, now)),
        AdminVerb::ResetDraft => config::reset(state, expected, now),
        AdminVerb::Provision { expected_version } => {
            provision::provision(state, caller, *expected_version, expected, now)
        }
        AdminVerb::EnablePools(enabled) => Ok(provision::enable(state, *enabled)),
        AdminVerb::RenameQueue { queue, request } => {
            provision::rename_queue(state, caller, queue, &request.name, now)
        }
        AdminVerb::Rights(verb) => rights::decide(state, caller, verb, expected, now),
        AdminVerb::Vault(verb) => vaults::decide(state, caller, verb, expected, now),
        AdminVerb::Account(verb) => accounts::decide(state, verb, now),
        AdminVerb::UsageAudit { reports, apply } => Ok(audit::audit(state, reports, *apply, now)),
    }
}

#[cfg(test)]
mod tests;
