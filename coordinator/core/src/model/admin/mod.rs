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
//! | `presets` | amounts under a name |
//! | `config` | pools, profiles, allocation policies and queues: views and the draft |
//! | `findings` | what is wrong with a draft, and what is remarkable |
//! | `provision` | what becomes live, the switch, names of queues |
//! | `impact` | what a write would do to sessions |
//! | `permit` | who may give which order |
//! | `export` | tables |
//! | `audit` | books against what nodes report |
//! | `members` | reading members of requests |
//! | `named` | what is made and changed the same way everywhere |

mod accounts;
mod audit;
mod config;
mod export;
mod findings;
mod groups;
mod impact;
mod members;
mod named;
mod permit;
mod policies;
mod presets;
mod provision;
mod tenants;

pub use accounts::AccountVerb;
pub use audit::{Reported, ReportedContainer, usage_audit};
pub use config::{document, draft_view, live_view, queue_view, queue_views};
pub use export::{ExportKind, Table, export};
pub use findings::validate;
pub use groups::group_view;
pub use permit::operation;
pub use policies::{idle_rules, keypair_policy_view, project_policy_view, user_policy_view};
pub use presets::preset_view;
pub use tenants::{domain_view, keypair_view, project_view, user_view, user_views};

use super::change::{Change, PolicyKind};
use super::draft::Draft;
use super::event::{Answer, Caller, Effect, Outcome, Refusal};
use super::policies::{KeypairPolicy, ProjectPolicy, UserPolicy};
use super::pools::ResourceConfig;
use super::state::State;
use longshore_common::admin::{
    ConfigVerdict, DomainRequest, DomainView, GroupRequest, GroupView, Impact,
    KeypairPolicyRequest, KeypairPolicyView, KeypairView, NewUser, PresetRequest, PresetView,
    ProjectPolicyRequest, ProjectPolicyView, ProjectRequest, ProjectView, QueuePatch, QueueView,
    ResourceConfigRequest, ResourceConfigView, UsageAuditView, UserPatch, UserPolicyRequest,
    UserPolicyView, UserStatusRequest, UserView,
};
use longshore_common::ids::{AgentId, DomainId, GroupId, PolicyId, PresetId, ProjectId, UserId};
use longshore_common::time::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// An order of an administrator. That the caller may give it was checked at the rim.
#[derive(Debug, Clone)]
pub struct AdminOrder {
    /// By whom.
    pub caller: Caller,
    /// Decide, tell, and change nothing.
    pub dry_run: bool,
    /// The version of the object the caller saw; none = whatever it is. Another one is
    /// refused with `LS-VERSION-STALE`. People and keypairs have no version yet: for
    /// them it must be none.
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
    /// Makes a project.
    CreateProject(ProjectId, Box<ProjectRequest>),
    /// Changes a project; assigns its policy too.
    PatchProject(String, Box<ProjectRequest>),
    /// Makes a person with a first keypair.
    CreateUser {
        /// The person's id.
        id: UserId,
        /// Public part of the first keypair.
        access_key: String,
        /// SHA-256 of its secret part.
        secret_sha256: [u8; 32],
        /// Who.
        request: Box<NewUser>,
    },
    /// Changes a person: user policy, weight, projects.
    PatchUser(String, Box<UserPatch>),
    /// Switches a person on or off.
    SetUserStatus(String, UserStatusRequest),
    /// Makes a further keypair.
    CreateKeypair {
        /// Whose; the caller's if it is none.
        user: Option<String>,
        /// Name of its policy; none = that of the main keypair.
        policy: Option<String>,
        /// Its public part.
        access_key: String,
        /// SHA-256 of its secret part.
        secret_sha256: [u8; 32],
    },
    /// Gives a keypair another policy.
    SetKeypairPolicy {
        /// Access key.
        keypair: String,
        /// Name of the policy.
        policy: String,
    },
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
    /// A keypair.
    Keypair(Box<KeypairView>),
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
    /// Books against nodes.
    Audit(Box<UsageAuditView>),
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
}

impl Decision {
    fn new(object: AdminObject, changes: Vec<Change>) -> Self {
        Self {
            changes,
            effects: Vec::new(),
            object,
            before: None,
            scope: impact::Scope::default(),
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
    /// The object as JSON; nothing for what is gone and for agents.
    #[must_use]
    pub fn value(&self) -> Option<Value> {
        let value = match self {
            Self::Gone | Self::Agent(_) => return None,
            Self::Group(view) => serde_json::to_value(view),
            Self::KeypairPolicy(view) => serde_json::to_value(view),
            Self::UserPolicy(view) => serde_json::to_value(view),
            Self::ProjectPolicy(view) => serde_json::to_value(view),
            Self::Domain(view) => serde_json::to_value(view),
            Self::Project(view) => serde_json::to_value(view),
            Self::User(view, _) => serde_json::to_value(view),
            Self::Keypair(view) => serde_json::to_value(view),
            Self::Preset(view) => serde_json::to_value(view),
            Self::Draft(view) | Self::Config(view) => serde_json::to_value(view),
            Self::Verdict(view) => serde_json::to_value(view),
            Self::Queue(view) => serde_json::to_value(view),
            Self::Account(value) => return Some((**value).clone()),
            Self::Audit(view) => serde_json::to_value(view),
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
        changes,
        effects,
        mut object,
        before,
        scope,
    } = decision;
    if !order.dry_run {
        let answer = AdminAnswer {
            object,
            before,
            impact: None,
        };
        return Outcome {
            changes,
            effects,
            answer: Ok(Answer::Admin(Box::new(answer))),
        };
    }
    let mut told = impact::impact(state, &changes, &scope, now);
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
    })))
}

/// The person who gives an order, as history names it.
fn by(state: &State, caller: &Caller) -> String {
    match state.users.get(&caller.user) {
        Some(user) => format!("user {}", user.username),
        None => format!("user {}", caller.user),
    }
}

fn decide(state: &State, order: &AdminOrder, now: Timestamp) -> Result<Decision, Refusal> {
    let (caller, expected) = (&order.caller, order.expected_version);
    match &order.verb {
        AdminVerb::CreateGroup(id, request) => groups::create(state, *id, request),
        AdminVerb::PatchGroup(name, request) => groups::patch(state, name, expected, request),
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
        AdminVerb::CreateProject(id, request) => tenants::create_project(state, *id, request, now),
        AdminVerb::PatchProject(name, request) => {
            tenants::patch_project(state, name, expected, request, now)
        }
        AdminVerb::CreateUser {
            id,
            access_key,
            secret_sha256,
            request,
        } => {
            let first = tenants::First {
                id: *id,
                access_key,
                secret_sha256: *secret_sha256,
            };
            tenants::create_user(state, &first, request, now)
        }
        AdminVerb::PatchUser(name, request) => tenants::patch_user(state, name, request),
        AdminVerb::SetUserStatus(name, request) => {
            tenants::set_status(state, caller, name, request)
        }
        AdminVerb::CreateKeypair {
            user,
            policy,
            access_key,
            secret_sha256,
        } => {
            let key = (access_key.as_str(), *secret_sha256);
            tenants::create_keypair(state, caller, user.as_deref(), policy.as_deref(), key, now)
        }
        AdminVerb::SetKeypairPolicy { keypair, policy } => {
            tenants::set_keypair_policy(state, keypair, policy)
        }
        AdminVerb::SetKeypairActive { keypair, active } => {
            tenants::set_keypair_active(state, keypair, *active)
        }
        AdminVerb::SetMainKeypair { user, keypair } => tenants::set_main(state, user, keypair),
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
            provision::provision(state, caller, *expected_version, now)
        }
        AdminVerb::EnablePools(enabled) => Ok(provision::enable(state, *enabled)),
        AdminVerb::RenameQueue { queue, request } => {
            provision::rename_queue(state, caller, queue, &request.name, now)
        }
        AdminVerb::Account(verb) => accounts::decide(state, verb, now),
        AdminVerb::UsageAudit { reports, apply } => Ok(audit::audit(state, reports, *apply, now)),
    }
}

#[cfg(test)]
mod tests;
