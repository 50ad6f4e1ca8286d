//! A small installation: one domain, two projects, three people, two groups with nodes.

mod config;
mod fixed;
mod groups;
mod images;
mod invitations;
mod keypairs;
mod people;
mod policies;
mod queues;
mod standing;
mod tables;

use super::{
    AdminAnswer, AdminObject, AdminOrder, AdminVerb, DrawnLink, domain_view, draft_view,
    group_view, image_view, invitation_view, keypair_policy_view, keypair_view, live_view,
    member_view, preset_view, project_policy_view, project_view, queue_view, user_policy_view,
    user_view,
};
use crate::core::Core;
use crate::model::{
    Agent, Answer, Caller, Change, Domain, Event, Group, Keypair, KeypairPolicy, Membership, Meta,
    Project, ProjectPolicy, Refusal, Role, Session, SessionDefaults, State, Submit, User,
    UserPolicy,
};
use longshore_common::agent::{AgentState, Device, Health, Inventory, Links, RuntimeState};
use longshore_common::amount::{SlotLimits, SlotName, Slots, UNIT};
use longshore_common::api::NewSession;
use longshore_common::ids::{
    AgentId, ClusterId, CoordinatorGeneration, DomainId, Fence, Generation, GroupId, InvitationId,
    PolicyId, ProjectId, SessionId, UserId,
};
use longshore_common::time::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const NOW: Timestamp = Timestamp(1_000_000);
/// A link that was drawn.
pub(super) const LINK: DrawnLink = DrawnLink {
    id: InvitationId::new(9),
    token_sha256: [8; 32],
    valid_s: 604_800,
};

pub(super) fn slot(text: &str) -> SlotName {
    text.parse().unwrap()
}

pub(super) struct World {
    pub(super) core: Core,
}

fn inventory(cpu: i64, mem_gib: i64, gpus: u32, name: &str) -> Inventory {
    let plain = Slots::new()
        .with(SlotName::cpu(), cpu * UNIT)
        .with(SlotName::mem(), mem_gib << 30);
    let device = |index: u32| Device {
        id: format!("GPU-{name}-{index}").parse().unwrap(),
        index,
        slot: SlotName::cuda_device(),
        capacity: UNIT,
        model: "".into(),
        memory_bytes: 0,
        pci: Box::default(),
        minor: None,
        numa: None,
        links: Links::default(),
        health: Health::Healthy,
        health_detail: Box::default(),
    };
    Inventory {
        hostname: name.into(),
        arch: "amd64".into(),
        cgroup_version: 2,
        total: plain.clone().with(SlotName::cpu(), (cpu + 1) * UNIT),
        offered: plain,
        devices: (0..gpus).map(device).collect(),
        ..Inventory::default()
    }
}

impl World {
    /// People root (1), alice (2, also with a second keypair) and bob (3); groups bare and
    /// h100, each with one node of 16 cores, 64 GiB and 8 GPUs.
    pub(super) fn new() -> Self {
        let meta = Meta {
            cluster: ClusterId::new(7),
            generation: CoordinatorGeneration(1),
            next_session: 1,
            next_uid: 20_003,
        };
        let mut world = Self {
            core: Core::new(State::new(meta)),
        };
        let domain = |id: u128, name: &str| Domain {
            id: DomainId::new(id),
            version: 1,
            name: name.to_owned(),
            description: String::new(),
            active: true,
            total_slots: SlotLimits::new(),
            created_at: NOW,
        };
        let project = |id: u128, name: &str| Project {
            id: ProjectId::new(id),
            version: 1,
            name: name.to_owned(),
            domain: DomainId::new(1),
            description: String::new(),
            active: true,
            policy: "default".to_owned(),
            total_slots: SlotLimits::new(),
            created_at: NOW,
        };
        let policy = KeypairPolicy::new(PolicyId::new(1), "default", NOW);
        let mut changes = vec![
            Change::KeypairPolicy(Box::new(policy)),
            Change::UserPolicy(UserPolicy::new(PolicyId::new(2), "default", NOW)),
            Change::ProjectPolicy(ProjectPolicy::new(PolicyId::new(3), "default", NOW)),
            Change::Domain(domain(1, "default")),
            Change::Domain(domain(2, "other")),
            Change::Project(project(1, "default")),
            Change::Project(project(2, "vision")),
            Change::AccessRule(crate::model::AccessRule::factory(NOW)),
        ];
        for (id, name, role) in [
            (1, "root", Role::Superadmin),
            (2, "alice", Role::User),
            (3, "bob", Role::User),
        ] {
            changes.push(Change::User(Box::new(User {
                username: name.to_owned(),
                email: format!("{name}@lab.example"),
                role,
                uid: 20_000,
                domain: DomainId::new(1),
                projects: vec![Membership::manual(ProjectId::new(1))],
                ..User::new(UserId::new(id), NOW)
            })));
            changes.push(Change::Keypair(keypair(id, &format!("LS{name}"), true)));
        }
        for (id, name) in [(1, "bare"), (2, "h100")] {
            let mut group = Group::new(GroupId::new(id), name);
            group.default = id == 1;
            changes.push(Change::Group(group));
            changes.push(Change::Agent(Box::new(Agent {
                id: AgentId::new(id),
                version: 1,
                name: format!("{name}-1"),
                group: GroupId::new(id),
                state: AgentState::Alive,
                schedulable: true,
                fence: Fence(1),
                generation: Generation(1),
                keys: Vec::new(),
                fingerprint: String::new(),
                machine: String::new(),
                boot_id: String::new(),
                inventory: Some(Arc::new(inventory(16, 64, 8, name))),
                runtime: RuntimeState::Up,
                disk_low: false,
                created_at: NOW,
                lost_since: None,
                braked_at: None,
                braked_ms: 0,
                unclaimed: Vec::new(),
                drain: None,
                cordons: std::collections::BTreeMap::new(),
                told: None,
            })));
        }
        world.take(&changes);
        world
    }

    pub(super) fn take(&mut self, changes: &[Change]) {
        for change in changes {
            self.core.apply(change);
        }
        self.core.state().check().unwrap();
    }

    pub(super) fn state(&self) -> &State {
        self.core.state()
    }

    fn order(&mut self, order: AdminOrder) -> Result<AdminAnswer, Refusal> {
        let before = self.state().clone();
        let (rehearsal, refused) = (order.dry_run, order.clone());
        let mut changes = Vec::new();
        let answer = self.core.happen(
            &Event::Admin(Box::new(order)),
            NOW,
            &mut changes,
            &mut Vec::new(),
        );
        self.state().check().unwrap();
        if rehearsal || answer.is_err() {
            assert!(*self.state() == before, "{refused:?} changed something");
        }
        match answer? {
            Answer::Admin(answer) => {
                if !rehearsal {
                    self.compare(&answer.object);
                }
                Ok(*answer)
            }
            other => panic!("{other:?}"),
        }
    }

    /// What was answered is what can be read afterwards.
    fn compare(&self, object: &AdminObject) {
        let state = self.state();
        let read = match object {
            AdminObject::Group(v) => AdminObject::Group(Box::new(group_view(
                state,
                state.group_by_ref(&v.id).unwrap(),
            ))),
            AdminObject::KeypairPolicy(v) => {
                let policy = &state.keypair_policies[&v.name.to_ascii_lowercase()];
                AdminObject::KeypairPolicy(Box::new(keypair_policy_view(state, policy)))
            }
            AdminObject::UserPolicy(v) => {
                let policy = &state.user_policies[&v.name.to_ascii_lowercase()];
                AdminObject::UserPolicy(Box::new(user_policy_view(state, policy)))
            }
            AdminObject::ProjectPolicy(v) => {
                let policy = &state.project_policies[&v.name.to_ascii_lowercase()];
                AdminObject::ProjectPolicy(Box::new(project_policy_view(state, policy)))
            }
            // Looked at by tests of its own, through the router.
            AdminObject::Rights(object) => AdminObject::Rights(object.clone()),
            AdminObject::Vault(view) => AdminObject::Vault(view.clone()),
            AdminObject::Unclaimed(value) => AdminObject::Unclaimed(value.clone()),
            AdminObject::Domain(v) => AdminObject::Domain(Box::new(domain_view(
                state,
                state.domain_by_ref(&v.id).unwrap(),
            ))),
            AdminObject::Project(v) => AdminObject::Project(Box::new(project_view(
                state,
                state.project_by_ref(&v.id, None).unwrap(),
            ))),
            AdminObject::User(v, _) => {
                let user = state.user_by_ref(&v.id).unwrap();
                AdminObject::User(Box::new(user_view(state, user)), None)
            }
            AdminObject::Keypair(v) => {
                let keypair = &state.keypairs[&v.access_key];
                AdminObject::Keypair(Box::new(keypair_view(state, keypair)))
            }
            AdminObject::Image(v) => {
                AdminObject::Image(Box::new(image_view(state.image_by_ref(&v.id).unwrap())))
            }
            AdminObject::Preset(v) => {
                AdminObject::Preset(Box::new(preset_view(state.preset_by_ref(&v.id).unwrap())))
            }
            AdminObject::Account(v) => {
                let user = state.user_by_ref(v["id"].as_str().unwrap()).unwrap();
                assert_eq!(v["logins"], state.logins_of(user.id).count());
                return;
            }
            AdminObject::Draft(_) => AdminObject::Draft(Box::new(draft_view(state))),
            AdminObject::Config(_) => AdminObject::Config(Box::new(live_view(state))),
            AdminObject::Queue(v) => {
                AdminObject::Queue(Box::new(queue_view(state, &v.name).unwrap()))
            }
            AdminObject::Verdict(v) => {
                let config = v.config.as_deref();
                assert!(config.is_none_or(|config| *config == live_view(state)));
                return;
            }
            AdminObject::Member(v) => {
                let project = state.project_by_ref(&v.project, None).unwrap();
                let user = state.user_by_ref(&v.user).unwrap();
                AdminObject::Member(Box::new(member_view(project, user).unwrap()))
            }
            AdminObject::Parted(v) => {
                let project = state.project_by_ref(&v.project, None).unwrap();
                let user = state.user_by_ref(&v.user).unwrap();
                assert!(member_view(project, user).is_none());
                return;
            }
            AdminObject::Invitation(v) => {
                let link = &state.invitations[&v.id.parse().unwrap()];
                AdminObject::Invitation(Box::new(invitation_view(state, link, NOW)))
            }
            AdminObject::Gone
            | AdminObject::Agent(_)
            | AdminObject::Audit(_)
            | AdminObject::Imported(_) => return,
        };
        assert_eq!(shown(object), shown(&read));
    }

    /// An order of root.
    pub(super) fn admin(&mut self, verb: AdminVerb) -> Result<AdminObject, Refusal> {
        self.admin_at(None, verb)
    }

    pub(super) fn admin_at(
        &mut self,
        expected_version: Option<u64>,
        verb: AdminVerb,
    ) -> Result<AdminObject, Refusal> {
        let order = AdminOrder {
            caller: caller(1, "LSroot"),
            dry_run: false,
            expected_version,
            verb,
        };
        self.order(order).map(|answer| answer.object)
    }

    /// An order of somebody else, with all that is answered.
    pub(super) fn admin_as(&mut self, user: u128, verb: AdminVerb) -> Result<AdminAnswer, Refusal> {
        self.order(AdminOrder {
            caller: caller(user, "LS"),
            dry_run: false,
            expected_version: None,
            verb,
        })
    }

    /// What the order would do.
    pub(super) fn rehearse(&mut self, verb: AdminVerb) -> Result<AdminAnswer, Refusal> {
        self.order(AdminOrder {
            caller: caller(1, "LSroot"),
            dry_run: true,
            expected_version: None,
            verb,
        })
    }

    /// Submits as alice (2) or bob (3), unless refused.
    pub(super) fn submit(&mut self, user: u128, members: Value) -> Result<SessionId, Refusal> {
        let mut request = json!({"image": "base", "command": ["work"]});
        let object = request.as_object_mut().unwrap();
        object.extend(members.as_object().unwrap().clone());
        let request: NewSession = serde_json::from_value(request).unwrap();
        let name = if user == 2 { "LSalice" } else { "LSbob" };
        let order = Submit::new(caller(user, name), request, SessionDefaults::default());
        let event = Event::Submit(Box::new(order));
        let answer = self
            .core
            .happen(&event, NOW, &mut Vec::new(), &mut Vec::new());
        match answer? {
            Answer::Session(accepted) => Ok(accepted.id),
            other => panic!("{other:?}"),
        }
    }

    /// One pass.
    pub(super) fn place(&mut self) {
        self.core.place(NOW, &mut Vec::new(), &mut Vec::new());
        self.state().check().unwrap();
    }

    pub(super) fn session(&self, id: SessionId) -> Option<&Session> {
        self.state().sessions.get(&id)
    }
}

pub(super) fn keypair(user: u128, key: &str, main: bool) -> Keypair {
    Keypair {
        main,
        ..Keypair::new(key, [0; 32], UserId::new(user), NOW)
    }
}

fn caller(user: u128, key: &str) -> Caller {
    Caller {
        user: UserId::new(user),
        access_key: key.to_owned(),
    }
}

/// A request as it comes in.
pub(super) fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// The object of an answer as the API shows it.
pub(super) fn shown(object: &AdminObject) -> Value {
    object.value().unwrap_or(Value::Null)
}

/// Code, and pointer with message of each bad member.
pub(super) fn errors(refusal: &Refusal) -> (&'static str, Vec<(&str, &str)>) {
    let each = refusal.errors.iter();
    let errors = each.map(|e| (e.pointer.as_str(), e.message.as_str()));
    (refusal.code, errors.collect())
}
