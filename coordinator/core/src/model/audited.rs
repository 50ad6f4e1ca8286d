//! What the audit log has to say about an event: one [`Audited`] per operation with an effect.
//!
//! Who asked, from where and in which request is known at the rim, and so is how a record is
//! masked, numbered and chained. Here stands what was done to what, as values.

use super::admin::{
    AdminAnswer, AdminObject, AdminOrder, AdminVerb, RightsObject, access_rule_view, domain_view,
    group_view, image_view, keypair_policy_view, operation as admin_operation, preset_view,
    project_policy_view, project_view, user_group_view, user_policy_view, vault_view,
};
use super::change::{Change, PolicyKind};
use super::entities::{Agent, JoinToken, Session};
use super::event::{Answer, Enrol, Event, Outcome, SetupOrder, Terminate};
use super::people::User;
use super::state::State;
use crate::access::Operation;
use longshore_common::admin::{Member, MemberView};
use longshore_common::ids::{AgentId, DomainId, SessionId, UserId};
use longshore_common::time::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A record of the audit log as it is stored: numbered, masked and chained at the rim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Id of who did it, or its name, or its kind: what a search asks for.
    pub actor: String,
    /// A name of the operation table.
    pub operation: String,
    /// Id of what it was done to; empty if there is none.
    pub target: String,
    /// `ok`, `refused` or `failed`.
    pub outcome: String,
    /// The domain it is about; none is for superadmins only. Stands beside the chain.
    pub domain: Option<DomainId>,
    /// SHA-256 of `body`.
    pub hash: [u8; 32],
    /// The record as canonical JSON, without its own digest.
    pub body: String,
}

impl AuditLine {
    /// The end of a chain whose last record this is.
    #[must_use]
    pub const fn head(&self) -> AuditHead {
        AuditHead {
            seq: self.seq,
            hash: self.hash,
        }
    }
}

/// The domain a record is about: that of the thing it was done to. Without a thing, that of
/// who did it.
#[must_use]
pub fn audit_domain(
    state: &State,
    target: Option<(&str, &str)>,
    actor: Option<&str>,
) -> Option<DomainId> {
    let of_user = |id: &str| state.user_by_ref(id).map(|user| user.domain);
    let of_target = target.and_then(|(kind, id)| match kind {
        "user" | "service_account" => of_user(id),
        "keypair" => {
            let owner = state.keypairs.get(id)?.user;
            state.users.get(&owner).map(|user| user.domain)
        }
        "project" => {
            let id = id.parse().ok()?;
            let gone = || state.gone.projects.get(&id);
            state.projects.get(&id).or_else(gone).map(|p| p.domain)
        }
        "domain" => id.parse().ok(),
        "invitation" => state
            .invitations
            .get(&id.parse().ok()?)
            .map(|link| link.domain),
        "session" => state.sessions.get(&id.parse().ok()?).map(|s| s.domain),
        "user_group" | "group" => state.user_groups.get(&id.parse().ok()?)?.domain,
        _ => None,
    });
    match target {
        // Refusals about a session that memory has forgotten are of whoever asked.
        None | Some(("session", _)) => of_target.or_else(|| actor.and_then(of_user)),
        // What serves the whole installation concerns no domain.
        Some(_) => of_target,
    }
}

/// The end of the audit log: what the next record is chained to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditHead {
    /// Number of the last record, 0 if there is none.
    pub seq: u64,
    /// Its digest, zeros if there is none.
    pub hash: [u8; 32],
}

/// Who did it, as far as the event itself tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doer {
    /// Whoever asked; the rim knows.
    Asker,
    /// A node, or what is to become one.
    Agent {
        /// Its id.
        id: AgentId,
        /// Its name.
        name: String,
        /// What let it in, if that was not its own key.
        via: String,
    },
    /// Somebody who proved to be a person by what was asked for itself: a login, a link.
    Person {
        /// Its id as it is printed.
        id: String,
        /// Its login name.
        name: String,
        /// The login it became, or what kind of link it was.
        via: String,
    },
    /// The coordinator itself.
    System,
}

/// What it was done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditTarget {
    /// `user`, `keypair`, `session`, …
    pub kind: &'static str,
    /// Its id, or what stands for it.
    pub id: String,
    /// Its name; empty if it has none.
    pub name: String,
}

/// One operation with an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// What was done.
    pub operation: Operation,
    /// By whom.
    pub doer: Doer,
    /// To what.
    pub target: AuditTarget,
    /// Members that differ, as they were. Not masked yet.
    pub before: Map<String, Value>,
    /// Members that differ, as they are. Not masked yet.
    pub after: Map<String, Value>,
    /// What there is to say beside that; empty if nothing.
    pub detail: String,
    /// Whose domain it is about, where [`audit_domain`] can no longer tell.
    pub domain: Option<DomainId>,
}

impl Audited {
    pub(super) fn new(
        operation: Operation,
        target: AuditTarget,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Self {
        let (before, after) = differing(before, after);
        Self {
            operation,
            doer: Doer::Asker,
            target,
            before,
            after,
            detail: String::new(),
            domain: None,
        }
    }

    pub(super) const fn in_domain(mut self, domain: DomainId) -> Self {
        self.domain = Some(domain);
        self
    }

    pub(super) fn detail(mut self, detail: &str) -> Self {
        detail.clone_into(&mut self.detail);
        self
    }

    pub(super) fn by(mut self, doer: Doer) -> Self {
        self.doer = doer;
        self
    }
}

/// What is recorded of an event, given the state before it and what follows from it. Nothing
/// for what had no effect: refusals, rehearsals, repeated requests. Nothing for what nodes
/// report and the scheduler decides.
#[must_use]
pub fn audited(state: &State, event: &Event, outcome: &Outcome) -> Vec<Audited> {
    let changes = outcome.changes.as_slice();
    let Ok(answer) = &outcome.answer else {
        return Vec::new();
    };
    if let Event::UseSession(order) = event {
        // What happens to the session is not stored with it.
        return super::verbs::recorded(order, outcome).into_iter().collect();
    }
    if let Event::Loaded(order) = event {
        // Of a start with the same configuration there is nothing to be stored but its record.
        return super::loaded::recorded(state, order);
    }
    if changes.is_empty() {
        return Vec::new();
    }
    let one = match event {
        Event::Submit(_) => submitted(answer, changes),
        Event::Prolong(order) => super::prolong::recorded(state, order, outcome),
        Event::Steer(order) => super::steer::recorded(state, order, outcome),
        Event::Terminate(order) => return terminated(state, order, changes),
        Event::Admin(order) => match answer {
            Answer::Admin(answer) => Some(administered(state, order, answer, changes)),
            _ => None,
        },
        Event::Login(event) => super::logins::recorded(state, event, outcome),
        Event::Started(_) => return started(state, changes),
        Event::FixedUsers(_) => return fixed_users(state, changes),
        Event::Announce(order) => super::announce::recorded(state, order),
        Event::Notify(order) => super::notify::recorded(state, order),
        Event::Settings(_) => return super::settings::recorded(state, changes),
        Event::Unclaimed { .. } | Event::Tick => {
            return super::unclaimed::recorded(state, changes);
        }
        Event::Setup(order) => Some(set_up(order)),
        Event::CreateToken(order) => token(None, changes, &order.token.id),
        Event::DeleteToken(id) => token(state.tokens.get(id), changes, id),
        Event::Enrol(order) => enrolled(order, changes),
        Event::RenewKey { agent, .. } => renewed(state, *agent, changes),
        Event::SetSchedulable { agent, .. } => agent_changed(
            state,
            *agent,
            changes,
            |agent| json!({ "schedulable": agent.schedulable }),
        ),
        Event::Drain(order) => agent_changed(state, order.agent, changes, |agent| {
            let drain = agent.drain.as_ref();
            json!({
                "schedulable": agent.schedulable,
                "drain": drain.map(|d| json!({ "deadline": d.deadline, "message": d.message })),
            })
        }),
        Event::CordonDevice(order) => agent_changed(state, order.agent, changes, |agent| {
            let cordons = agent.cordons.iter();
            let cordons: Map<_, _> = cordons
                .map(|(device, cordon)| (device.to_string(), json!(cordon.reason)))
                .collect();
            json!({ "cordons": cordons })
        }),
        Event::Expel { agent } | Event::ConfirmLoss { agent, .. } => agent_changed(
            state,
            *agent,
            changes,
            |agent| json!({ "state": agent.state, "fence": agent.fence.0 }),
        ),
        Event::Hello(_)
        | Event::Inventory { .. }
        | Event::Condition { .. }
        | Event::Report { .. }
        | Event::Outcome { .. }
        | Event::FileNotice { .. }
        | Event::DeviceNotice { .. }
        | Event::Warned { .. }
        | Event::Alarm { .. }
        | Event::Trouble { .. }
        | Event::Watchdog { .. }
        | Event::ClusterIdle { .. }
        | Event::Silent { .. }
        | Event::KeypairsUsed(_)
        | Event::Forget(_)
        | Event::UseSession(_)
        | Event::Replay(_)
        | Event::VaultsChecked { .. }
        | Event::Configured { .. }
        | Event::Loaded(_) => None,
    };
    one.into_iter().collect()
}

pub(super) fn target(kind: &'static str, id: impl ToString, name: &str) -> AuditTarget {
    AuditTarget {
        kind,
        id: id.to_string(),
        name: name.to_owned(),
    }
}

/// The members of two objects that differ; what is null says nothing.
fn differing(
    before: Option<Value>,
    after: Option<Value>,
) -> (Map<String, Value>, Map<String, Value>) {
    let members = |value: Option<Value>| match value {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    };
    let (mut before, mut after) = (members(before), members(after));
    before.retain(|name, value| {
        let same = after.get(name) == Some(value);
        if same {
            after.remove(name);
        }
        !same && !value.is_null()
    });
    after.retain(|_, value| !value.is_null());
    (before, after)
}

fn value(object: &impl Serialize) -> Option<Value> {
    serde_json::to_value(object).ok()
}

/// The last form of a session in a list of changes.
fn last_of(changes: &[Change], id: SessionId) -> Option<&Session> {
    changes.iter().rev().find_map(|change| match change {
        Change::Session(session) if session.id == id => Some(&**session),
        _ => None,
    })
}

pub(super) fn of_session(session: &Session) -> AuditTarget {
    let name = session.name.as_deref().unwrap_or_default();
    target("session", session.id, name)
}

/// Not its environment and command: what people put there is not known, and often secret.
fn submitted(answer: &Answer, changes: &[Change]) -> Option<Audited> {
    let Answer::Session(accepted) = answer else {
        return None;
    };
    let session = last_of(changes, accepted.id)?;
    let after = json!({
        "group": session.group_name,
        "image": session.image,
        "priority": session.priority,
        "slots": session.slots,
        "submitted_by": session.submitted_by,
        "type": session.kind,
    });
    let target = of_session(session);
    Some(Audited::new(
        Operation::SessionCreate,
        target,
        None,
        Some(after),
    ))
}

fn terminated(state: &State, order: &Terminate, changes: &[Change]) -> Vec<Audited> {
    let shown = |session: &Session| {
        json!({
            "state": session.state,
            "grace_s": session.stop.as_ref().map(|stop| stop.grace_s),
            "forced": session.stop.as_ref().map(|stop| stop.forced),
        })
    };
    // One walk over the changes, which may be of hundreds of sessions.
    let mut last: BTreeMap<SessionId, &Session> = BTreeMap::new();
    for change in changes {
        if let Change::Session(session) = change {
            last.insert(session.id, session);
        }
    }
    // Sessions that waited for one of these follow from it; nobody asked for their end.
    let asked = order.ids.iter().filter_map(|id| last.remove(id));
    let record = |session: &Session| {
        let before = state.sessions.get(&session.id).map(shown);
        let (target, after) = (of_session(session), Some(shown(session)));
        Audited::new(Operation::SessionTerminate, target, before, after)
    };
    asked.map(record).collect()
}

fn set_up(order: &SetupOrder) -> Audited {
    let user = &order.user;
    let after = json!({
        "username": user.username,
        "email": user.email,
        "role": user.role,
        "access_key": order.keypair.access_key,
    });
    let target = target("user", user.id, &user.username);
    Audited::new(Operation::SetupUse, target, None, Some(after))
}

/// A start is recorded if the settings in force are not those of the last one.
fn started(state: &State, changes: &[Change]) -> Vec<Audited> {
    let record = |id, before, after| {
        let target = target("settings", id, "");
        Audited::new(Operation::SettingsWrite, target, before, after).by(Doer::System)
    };
    let of = |change: &Change| match change {
        Change::Scheduler(new) => Some(record("scheduler", value(&state.scheduler), value(new))),
        Change::PeopleSettings(new) => {
            Some(record("people", value(&state.people_settings), value(new)))
        }
        _ => None,
    };
    changes.iter().filter_map(of).collect()
}

/// What the list of fixed users changed: a record for each of them, and one where others can
/// log in by a password from now on, or cannot any more.
fn fixed_users(state: &State, changes: &[Change]) -> Vec<Audited> {
    let mut records = Vec::new();
    for change in changes {
        if let Change::PeopleSettings(new) = change {
            let target = target("settings", "people", "");
            let (before, after) = (value(&state.people_settings), value(new));
            let record = Audited::new(Operation::SettingsWrite, target, before, after);
            records.push(record.by(Doer::System));
        }
    }
    records.extend(fixed_people(state, changes));
    records
}

/// A record for each person that the list changed.
pub(super) fn fixed_people(state: &State, changes: &[Change]) -> Vec<Audited> {
    let mut last: BTreeMap<UserId, &User> = BTreeMap::new();
    for change in changes {
        if let Change::User(user) = change {
            last.insert(user.id, user);
        }
    }
    let shown = |user: &User| {
        json!({
            "username": user.username,
            "email": user.email,
            "role": user.role,
            "status": user.status,
            "domain": user.domain,
            "projects": user.project_ids().collect::<Vec<_>>(),
            "need_password_change": user.need_password_change,
        })
    };
    let record = |user: &User| {
        let old = state.users.get(&user.id);
        let operation = match old {
            None => Operation::UserCreate,
            Some(old) if old.status != user.status => Operation::UserStatus,
            Some(_) => Operation::UserUpdate,
        };
        let target = target("user", user.printed_id(), &user.username);
        Audited::new(operation, target, old.map(shown), Some(shown(user))).by(Doer::System)
    };
    last.into_values().map(record).collect()
}

fn token(old: Option<&JoinToken>, changes: &[Change], id: &str) -> Option<Audited> {
    let shown = |token: &JoinToken| {
        json!({
            "group": token.group,
            "agent_name": token.agent_name,
            "expires_at": token.expires_at,
            "max_uses": token.max_uses,
            "used": token.joined.len(),
        })
    };
    let new = changes.iter().find_map(|change| match change {
        Change::Token(token) if token.id == id => Some(token),
        _ => None,
    });
    let target = target("join_token", id, "");
    let (before, after) = (old.map(shown), new.map(shown));
    Some(Audited::new(
        Operation::JoinTokenWrite,
        target,
        before,
        after,
    ))
}

fn new_agent(changes: &[Change]) -> Option<&Agent> {
    changes.iter().rev().find_map(|change| match change {
        Change::Agent(agent) => Some(&**agent),
        _ => None,
    })
}

/// Digests of public keys, shown as far as they tell keys apart.
fn keys(agent: &Agent) -> Value {
    let short = |key: &[u8; 32]| {
        let digits = key.iter().take(8).map(|byte| format!("{byte:02x}"));
        Value::from(digits.collect::<String>())
    };
    agent.keys.iter().map(short).collect()
}

fn enrolled(order: &Enrol, changes: &[Change]) -> Option<Audited> {
    let agent = new_agent(changes).filter(|agent| agent.id == order.new_id)?;
    let after = json!({
        "name": agent.name,
        "group": agent.group,
        "keys": keys(agent),
    });
    let doer = Doer::Agent {
        id: agent.id,
        name: agent.name.clone(),
        via: format!("join token {}", order.token),
    };
    let target = target("agent", agent.id, &agent.name);
    Some(Audited::new(Operation::AgentWrite, target, None, Some(after)).by(doer))
}

fn renewed(state: &State, agent: AgentId, changes: &[Change]) -> Option<Audited> {
    let (old, new) = (state.agents.get(&agent)?, new_agent(changes)?);
    if old.keys == new.keys {
        return None; // the same request again
    }
    let doer = Doer::Agent {
        id: agent,
        name: new.name.clone(),
        via: String::new(),
    };
    let shown = |agent: &Agent| Some(json!({ "keys": keys(agent) }));
    let target = target("agent", agent, &new.name);
    Some(Audited::new(Operation::AgentWrite, target, shown(old), shown(new)).by(doer))
}

fn agent_changed(
    state: &State,
    agent: AgentId,
    changes: &[Change],
    shown: fn(&Agent) -> Value,
) -> Option<Audited> {
    let old = state.agents.get(&agent)?;
    let new = changes.iter().rev().find_map(|change| match change {
        Change::Agent(new) if new.id == agent => Some(&**new),
        _ => None,
    })?;
    let target = target("agent", agent, &new.name);
    let (before, after) = (Some(shown(old)), Some(shown(new)));
    Some(Audited::new(Operation::AgentWrite, target, before, after))
}

/// The operation of an order, and the kind of thing it is about.
pub(super) const fn names(verb: &AdminVerb) -> (Operation, &'static str) {
    match verb {
        AdminVerb::CreateGroup(..) => (Operation::QueueCreate, "resource_group"),
        AdminVerb::DeleteGroup(_) => (Operation::QueueDelete, "resource_group"),
        AdminVerb::PatchGroup(..)
        | AdminVerb::Allow { .. }
        | AdminVerb::Disallow { .. }
        | AdminVerb::AllowEverybody(_) => (Operation::ResourceGroupUpdate, "resource_group"),
        AdminVerb::MoveAgent { .. } => (Operation::AgentWrite, "agent"),
        AdminVerb::StopUnclaimed { .. } | AdminVerb::AdoptUnclaimed { .. } => {
            (Operation::UnclaimedWrite, "container")
        }
        AdminVerb::CreateKeypairPolicy(..)
        | AdminVerb::PatchKeypairPolicy(..)
        | AdminVerb::DeletePolicy {
            kind: PolicyKind::Keypair,
            ..
        } => (Operation::PolicyWrite, "keypair_policy"),
        AdminVerb::CreateUserPolicy(..)
        | AdminVerb::PatchUserPolicy(..)
        | AdminVerb::DeletePolicy {
            kind: PolicyKind::User,
            ..
        } => (Operation::PolicyWrite, "user_policy"),
        AdminVerb::CreateProjectPolicy(..)
        | AdminVerb::PatchProjectPolicy(..)
        | AdminVerb::DeletePolicy {
            kind: PolicyKind::Project,
            ..
        } => (Operation::PolicyWrite, "project_policy"),
        AdminVerb::CreateDomain(..) | AdminVerb::PatchDomain(..) | AdminVerb::DeleteDomain(_) => {
            (Operation::DomainWrite, "domain")
        }
        AdminVerb::CreateProject(..) => (Operation::ProjectCreate, "project"),
        AdminVerb::PatchProject(..) | AdminVerb::DeleteProject(_) => {
            (Operation::ProjectUpdate, "project")
        }
        AdminVerb::CreateUser { .. } => (Operation::UserCreate, "user"),
        AdminVerb::PatchUser(..) => (Operation::UserUpdate, "user"),
        AdminVerb::SetUserStatus(..) => (Operation::UserStatus, "user"),
        AdminVerb::Invite(..) | AdminVerb::WithdrawInvitation(_) => {
            (Operation::InvitationWrite, "invitation")
        }
        AdminVerb::CreateKeypair { .. } => (Operation::KeypairCreate, "keypair"),
        AdminVerb::ImportUsers { .. } => (Operation::UserImport, "user"),
        AdminVerb::SetUserRole(..) => (Operation::UserRole, "user"),
        AdminVerb::SetUserDomain(..) => (Operation::UserDomain, "user"),
        AdminVerb::SetUserSudo(..) => (Operation::UserSudo, "user"),
        AdminVerb::SetUserPolicy(..) => (Operation::UserPolicy, "user"),
        AdminVerb::RequirePasswordChange(..) => (Operation::UserRequireChange, "user"),
        AdminVerb::PutMember { .. } | AdminVerb::RemoveMember { .. } => {
            (Operation::ProjectMembers, "project")
        }
        AdminVerb::LeaveProject { .. } => (Operation::ProjectLeave, "project"),
        AdminVerb::PatchKeypair(_, request) => match request.rate_limit {
            // Who changes it alone does nothing else.
            Member::Absent => (Operation::KeypairPolicy, "keypair"),
            _ if matches!(request.policy, Member::Absent) => {
                (Operation::KeypairRateLimit, "keypair")
            }
            _ => (Operation::KeypairPolicy, "keypair"),
        },
        AdminVerb::RotateKeypair { .. } => (Operation::KeypairRotate, "keypair"),
        AdminVerb::RevokeKeypair(_) | AdminVerb::DeleteKeypair(_) => {
            (Operation::KeypairDelete, "keypair")
        }
        AdminVerb::SetKeypairActive { .. } => (Operation::KeypairState, "keypair"),
        AdminVerb::SetMainKeypair { .. } => (Operation::KeypairState, "user"),
        AdminVerb::CreateImage(..) | AdminVerb::PatchImage(..) | AdminVerb::ForgetImage(_) => {
            (Operation::ImageWrite, "image")
        }
        AdminVerb::CreatePreset(..) | AdminVerb::PatchPreset(..) | AdminVerb::DeletePreset(_) => {
            (Operation::PresetWrite, "preset")
        }
        AdminVerb::SaveDraft(_)
        | AdminVerb::LoadDraft(_)
        | AdminVerb::ValidateDraft
        | AdminVerb::ResetDraft => (Operation::ResourceConfigWrite, "resource_config_draft"),
        AdminVerb::Provision { .. } | AdminVerb::EnablePools(_) => {
            (Operation::ResourceConfigWrite, "resource_config")
        }
        AdminVerb::RenameQueue { .. } => (Operation::QueueRename, "queue"),
        AdminVerb::Rights(verb) => verb.names(),
        AdminVerb::Vault(verb) => (verb.operation(), "vault"),
        AdminVerb::Account(verb) => (verb.operation(), "user"),
        AdminVerb::UsageAudit { .. } => (Operation::UsageAuditRun, "usage"),
    }
}

fn administered(
    state: &State,
    order: &AdminOrder,
    answer: &AdminAnswer,
    changes: &[Change],
) -> Audited {
    let (_, kind) = names(&order.verb);
    let operation = admin_operation(state, order);
    let (mut before, mut after) = (answer.before.clone(), answer.object.value());
    // Which object it is, also where its id is the same before and after.
    let mut whole = before.clone().or_else(|| after.clone());
    match &answer.object {
        AdminObject::Gone => {
            before = deleted(state, changes);
            whole.clone_from(&before);
        }
        AdminObject::Agent(id) => {
            let group = |agent: &Agent| {
                let group = state.groups.get(&agent.group);
                json!({ "id": agent.id, "name": agent.name, "group": group.map(|g| &g.name) })
            };
            before = state.agents.get(id).map(group);
            after = new_agent(changes).map(group);
            whole.clone_from(&after);
        }
        // What is said about a draft is not what changed.
        AdminObject::Verdict(_) => {
            let live = changes.iter().rev().find_map(|change| match change {
                Change::Config(live) => Some(live),
                _ => None,
            });
            before = live.and_then(|_| document(&state.config));
            after = live.and_then(|live| document(live));
        }
        AdminObject::Parted(view) => {
            before = value(view);
            whole.clone_from(&before);
        }
        // Of what it holds the paths are kept, nothing else.
        AdminObject::Vault(_) => {
            if let (AdminVerb::Vault(verb), Some(Value::Object(members))) =
                (&order.verb, &mut after)
                && let Some(changed) = verb.changed()
            {
                members.insert("changed".to_owned(), json!(changed));
            }
        }
        AdminObject::User(_, Some(first))
        | AdminObject::Rights(RightsObject::Account(_, Some(first))) => {
            if let Some(Value::Object(members)) = &mut after {
                members.insert("access_key".to_owned(), json!(first.access_key));
            }
        }
        _ => (),
    }
    let text = |name: &str| {
        let member = whole.as_ref().and_then(|whole| whole.get(name));
        member.and_then(Value::as_str).unwrap_or_default()
    };
    let first = |names: &[&str]| {
        let texts = names.iter().map(|name| text(name));
        texts
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or("")
    };
    if let AdminObject::Member(view) | AdminObject::Parted(view) = &answer.object {
        let target = target(kind, &view.project, &view.project_name);
        return Audited::new(operation, target, whose(before, view), whose(after, view));
    }
    let id = match first(&["id", "access_key", "name"]) {
        "" => kind, // there is only one
        id => id,
    };
    let name = first(&["name", "username"]);
    let target = target(kind, id, if name == id { "" } else { name });
    Audited::new(operation, target, before, after)
}

/// A membership under the name of whose it is.
fn whose(side: Option<Value>, view: &MemberView) -> Option<Value> {
    let side = side?;
    let (admin, source) = (side.get("admin"), side.get("source"));
    let row = json!({ "admin": admin, "source": source });
    Some(Value::Object(Map::from_iter([(
        view.user_name.clone(),
        row,
    )])))
}

/// Pools and queues with their version, each kind of part a member of its own.
fn document(config: &super::pools::LiveConfig) -> Option<Value> {
    let mut all = value(config)?;
    let parts = all.as_object_mut()?.remove("config");
    if let (Some(Value::Object(parts)), Some(members)) = (parts, all.as_object_mut()) {
        members.extend(parts);
    }
    Some(all)
}

/// What was deleted, as it was.
fn deleted(state: &State, changes: &[Change]) -> Option<Value> {
    // Rules go with what they are about, so one is what was deleted only where nothing else is.
    let rule = || {
        changes.iter().find_map(|change| match change {
            Change::AccessRuleDeleted(id) => {
                value(&access_rule_view(state, state.access_rules.get(id)?))
            }
            _ => None,
        })
    };
    let other = changes.iter().rev().find_map(|change| match change {
        Change::GroupDeleted(id) => value(&group_view(state, state.groups.get(id)?)),
        Change::VaultDeleted(id) => value(&vault_view(state, state.vaults.get(id)?)),
        Change::UserGroupDeleted(id) => {
            value(&user_group_view(state, state.user_groups.get(id)?, true))
        }
        Change::DomainDeleted(id) => value(&domain_view(state, state.domains.get(id)?)),
        Change::ProjectDeleted(id) => value(&project_view(state, state.projects.get(id)?)),
        Change::ImageForgotten(name) => value(&image_view(state.images.get(name)?)),
        Change::PresetDeleted(id) => value(&preset_view(state.presets.get(id)?)),
        Change::PolicyDeleted(kind, name) => {
            let name = name.to_ascii_lowercase();
            match kind {
                PolicyKind::Keypair => {
                    let policy = state.keypair_policies.get(&name)?;
                    value(&keypair_policy_view(state, policy))
                }
                PolicyKind::User => {
                    let policy = state.user_policies.get(&name)?;
                    value(&user_policy_view(state, policy))
                }
                PolicyKind::Project => {
                    let policy = state.project_policies.get(&name)?;
                    value(&project_policy_view(state, policy))
                }
            }
        }
        _ => None,
    });
    other.or_else(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_kept() {
        let before = json!({ "same": 1, "gone": "x", "was": [1], "none": null, "less": true });
        let after = json!({ "same": 1, "was": [2], "none": "y", "less": null, "new": {} });
        let (before, after) = differing(Some(before), Some(after));
        assert_eq!(
            Value::from(before),
            json!({ "gone": "x", "was": [1], "less": true })
        );
        assert_eq!(
            Value::from(after),
            json!({ "was": [2], "none": "y", "new": {} })
        );
        assert_eq!(differing(None, None), (Map::new(), Map::new()));
    }
}
