//! Random histories. After every step the books, the limits and the reasons are checked,
//! and a planner made from scratch has to decide what the one that kept up decides.

use crate::nodes::NODES;
use crate::order::shown_in_order;
use longshore_common::agent::{AgentState, Device, Health, Inventory, Links, RuntimeState};
use longshore_common::amount::{SlotLimits, SlotName, Slots, UNIT};
use longshore_common::api::{NewCluster, NewDesignation, NewSession};
use longshore_common::ids::{
    AccessRuleId, AgentId, ClusterId, CoordinatorGeneration, DomainId, Fence, Generation, GroupId,
    PolicyId, ProjectId, SessionId, UserId,
};
use longshore_common::session::{
    ContainerState, DeviceGrant, End, Exit, SessionState, SessionType,
};
use longshore_common::time::Timestamp;
use longshore_common::wire::{ContainerReport, Outcome, OutcomeNumber, Totals};
use longshore_core::Core;
use longshore_core::access::rules::QueueKey;
use longshore_core::access::{Resource, Subject};
use longshore_core::model::{
    AccessRule, Account, Agent, Caller, Change, Discipline, Domain, Event, Group, HelloFacts,
    Keypair, KeypairPolicy, Membership, Meta, Project, Role, SchedulerSettings, Selection,
    SessionDefaults, State, Submit, Terminate, User, finish_unconfirmed, start_session,
};
use longshore_core::scheduler::limits::{Requester, layers};
use longshore_core::scheduler::{Decisions, Planner, Start, blocked_by, check, explain, quota};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const START: Timestamp = Timestamp(1_800_000_000_000);

/// What can happen, drawn at random; numbers choose among what there is.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Submit {
        user: u8,
        key: u8,
        group: u8,
        gpus: u8,
        cpu: u8,
        priority: u8,
        cluster: u8,
        multi: bool,
        agent: Option<(u8, bool)>,
    },
    End(u8),
    Confirm(u8),
    FailStart(u8),
    Stop(u8, bool),
    Lose(u8),
    Back(u8),
    Schedulable(u8, bool),
    Limit(u8, u8, Option<u8>),
    Settings(u8, u8, u8),
    Active(u8, bool),
    Rights(u8, bool),
    Cordon(u8, u8, bool),
    Inventory(u8, u8),
    Join(u8),
    Regroup(u8, u8),
    Wait(u16),
}

impl Step {
    /// What is asked for, where somebody asks.
    pub(crate) fn request(&self) -> Option<NewSession> {
        let Self::Submit {
            group,
            gpus,
            cpu,
            priority,
            cluster,
            multi,
            agent,
            ..
        } = self
        else {
            return None;
        };
        Some(NewSession {
            command: vec!["work".to_owned()],
            group: Some(format!("g{}", group % 2)),
            slots: BTreeMap::from([
                ("cuda.device".to_owned(), (gpus % 5).to_string()),
                ("cpu".to_owned(), (cpu % 6 + 1).to_string()),
                ("mem".to_owned(), "1g".to_owned()),
            ]),
            priority: Some(i64::from(priority % 2) * 10),
            cluster: (cluster % 4 > 1).then(|| NewCluster {
                size: i64::from(cluster % 4),
                mode: multi.then(|| "multi-node".to_owned()),
                run: (cluster >= &128).then(|| "all".to_owned()),
                containers: Vec::new(),
            }),
            designated: agent.map(|(number, strict)| NewDesignation {
                agents: vec![format!("n{}", number % 4)],
                mode: strict.then(|| "strict".to_owned()),
            }),
            ..NewSession::default()
        })
    }
}

/// A request as one of the people makes it.
pub(crate) fn order(user: u8, key: u8, request: NewSession) -> Submit {
    let (user, key) = match (user % 3, key % 2) {
        (0, _) => (1, "k0"),
        (1, _) => (2, "k1"),
        (_, 0) => (3, "k2"),
        _ => (3, "k3"),
    };
    let caller = Caller {
        user: UserId::new(user),
        access_key: key.to_owned(),
    };
    let defaults = SessionDefaults {
        image: "base".to_owned(),
        ..SessionDefaults::default()
    };
    Submit::new(caller, request, defaults)
}

/// A small cluster with two groups, three people and four keypairs.
pub(crate) struct Play {
    pub(crate) core: Core,
    pub(crate) now: Timestamp,
    pub(crate) agents: Vec<AgentId>,
}

fn name(text: &str) -> SlotName {
    text.parse().unwrap()
}

/// On two nodes each GPU is linked to each other one.
fn linked(number: u32, index: u32, gpus: u32) -> Links {
    let others = (0..gpus).filter(|other| number % 2 == 1 && *other != index);
    others
        .map(|other| format!("GPU-{number}-{other}").parse().unwrap())
        .collect()
}

pub(crate) fn node(number: u32, gpus: u32, cpu: i64) -> Inventory {
    Inventory {
        arch: "amd64".into(),
        cgroup_version: 2,
        offered: Slots::new()
            .with(SlotName::cpu(), cpu * UNIT)
            .with(SlotName::mem(), 64 << 30),
        max_containers: if number == 3 { 3 } else { 0 },
        devices: (0..gpus)
            .map(|index| Device {
                id: format!("GPU-{number}-{index}").parse().unwrap(),
                index,
                slot: SlotName::cuda_device(),
                capacity: UNIT,
                model: "".into(),
                memory_bytes: 0,
                pci: Box::default(),
                minor: None,
                numa: Some(index / 2),
                links: linked(number, index, gpus),
                health: Health::Healthy,
                health_detail: Box::default(),
            })
            .collect(),
        ..Inventory::default()
    }
    .sharing_names()
}

/// One that takes work but has not said what it is.
pub(crate) fn agent(number: u32, group: GroupId) -> Agent {
    Agent {
        id: AgentId::new(u128::from(number) + 1),
        version: 1,
        name: format!("n{number}"),
        group,
        state: AgentState::Alive,
        schedulable: true,
        fence: Fence(1),
        generation: Generation(1),
        keys: vec![[0; 32]],
        fingerprint: String::new(),
        machine: String::new(),
        boot_id: "1".to_owned(),
        inventory: None,
        runtime: RuntimeState::Up,
        disk_low: false,
        created_at: START,
        lost_since: None,
        braked_at: None,
        braked_ms: 0,
        unclaimed: Vec::new(),
        drain: None,
        cordons: BTreeMap::new(),
        told: None,
    }
}

impl Play {
    pub(crate) fn new(discipline: Discipline, selection: Selection, skip: u32) -> Self {
        let meta = Meta {
            cluster: ClusterId::new(1),
            generation: CoordinatorGeneration(1),
            next_session: 1,
            next_uid: 1,
        };
        let mut play = Self {
            core: Core::new(State::new(meta)),
            now: START,
            agents: Vec::new(),
        };
        play.apply(Change::Scheduler(SchedulerSettings {
            retries_to_skip: skip,
            creation_retries: 1,
            ..SchedulerSettings::default()
        }));
        play.apply(Change::Domain(Domain {
            id: DomainId::new(1),
            version: 1,
            name: "home".to_owned(),
            description: String::new(),
            active: true,
            total_slots: SlotLimits::new().with(SlotName::cuda_device(), Some(9 * UNIT)),
            created_at: START,
        }));
        play.apply(Change::Project(Project {
            id: ProjectId::new(1),
            version: 1,
            name: "work".to_owned(),
            domain: DomainId::new(1),
            description: String::new(),
            active: true,
            policy: "default".to_owned(),
            total_slots: SlotLimits::new().with(SlotName::cpu(), Some(20 * UNIT)),
            created_at: START,
        }));
        for (number, gpus) in [(0u128, 3i64), (1, 6)] {
            let mut policy =
                KeypairPolicy::new(PolicyId::new(number), &format!("p{number}"), START);
            policy.total_slots = SlotLimits::new().with(SlotName::cuda_device(), Some(gpus * UNIT));
            policy.max_concurrent_sessions = Some(3);
            play.apply(Change::KeypairPolicy(Box::new(policy)));
        }
        for number in 0..2u128 {
            let mut group = Group::new(GroupId::new(number + 1), &format!("g{number}"));
            group.default = number == 0;
            group.scheduler = Some(if number == 0 {
                discipline
            } else {
                Discipline::Fifo
            });
            group.agent_selection = Some(selection);
            group.refuse_never_fits = false;
            group.pending_timeout_s = (number == 1).then_some(300);
            play.apply(Change::Group(group));
        }
        play.apply(Change::AccessRule(AccessRule::factory(START)));
        for number in 0..3u128 {
            play.apply(Change::User(Box::new(User {
                username: format!("u{number}"),
                email: format!("u{number}@x"),
                role: Role::User,
                uid: 1,
                domain: DomainId::new(1),
                projects: vec![Membership::manual(ProjectId::new(1))],
                weight_milli: 1000 * (i64::try_from(number).unwrap() + 1),
                ..User::new(UserId::new(number + 1), START)
            })));
        }
        // The third person has two keypairs, the second of them with a wider policy.
        for (key, user, policy, main) in [
            ("k0", 1, "p0", true),
            ("k1", 2, "p1", true),
            ("k2", 3, "p0", true),
            ("k3", 3, "p1", false),
        ] {
            play.apply(Change::Keypair(Keypair {
                policy: policy.to_owned(),
                main,
                ..Keypair::new(key, [0; 32], UserId::new(user), START)
            }));
        }
        for (number, group) in [(0, 1), (1, 1), (2, 1), (3, 2)] {
            let (gpus, cpu) = NODES[number as usize];
            let id = AgentId::new(u128::from(number) + 1);
            play.agents.push(id);
            let inventory = Some(Arc::new(node(number, gpus, cpu)));
            play.apply(Change::Agent(Box::new(Agent {
                inventory,
                ..agent(number, GroupId::new(group))
            })));
        }
        play
    }

    pub(crate) fn apply(&mut self, change: Change) {
        self.core.apply(&change);
    }

    pub(crate) fn happen(&mut self, event: &Event) -> bool {
        let (mut changes, mut effects) = (Vec::new(), Vec::new());
        self.core
            .happen(event, self.now, &mut changes, &mut effects)
            .is_ok()
    }

    fn chosen(&self, number: u8, state: impl Fn(SessionState) -> bool) -> Option<SessionId> {
        let ids: Vec<SessionId> = self
            .core
            .state()
            .sessions
            .values()
            .filter(|s| state(s.state))
            .map(|s| s.id)
            .collect();
        (!ids.is_empty()).then(|| ids[usize::from(number) % ids.len()])
    }

    fn outcomes(&mut self, id: SessionId, number: OutcomeNumber, end: Option<&End>) {
        let Some(session) = self.core.state().sessions.get(&id).cloned() else {
            return;
        };
        for container in session.containers.iter().filter(|c| !c.is_closed()) {
            let alive = self.core.state().agents[&container.agent].state == AgentState::Alive;
            if !alive {
                continue;
            }
            self.happen(&Event::Outcome {
                agent: container.agent,
                outcome: Box::new(Outcome {
                    key: container.key,
                    number,
                    end: end.cloned(),
                    started_at: None,
                    at: self.now,
                    tail: Vec::new(),
                    totals: Totals::default(),
                    devices: Vec::new(),
                }),
            });
        }
    }

    /// Everything that was placed runs.
    pub(crate) fn run_all(&mut self) {
        let placed: Vec<_> = self
            .core
            .state()
            .sessions
            .values()
            .filter(|s| matches!(s.state, SessionState::Scheduled | SessionState::Preparing))
            .flat_map(|s| {
                s.present()
                    .map(|c| (c.agent, c.key, c.fence))
                    .collect::<Vec<_>>()
            })
            .collect();
        for (agent, key, fence) in placed {
            let report = ContainerReport {
                key,
                state: ContainerState::Running,
                docker_id: "x".to_owned(),
                started_at: Some(self.now),
                fence,
                idle_deadline: None,
                frozen: false,
                idle: false,
                used_at: None,
                image: None,
            };
            self.happen(&Event::Report {
                agent,
                applied: Generation(u64::MAX),
                items: vec![report],
                whole: false,
                rebooted: false,
            });
        }
    }

    pub(crate) fn submit(&mut self, user: u8, key: u8, request: NewSession) -> bool {
        self.happen(&Event::Submit(Box::new(order(user, key, request))))
    }

    pub(crate) fn step(&mut self, step: &Step) {
        let there = self.agents.clone();
        let agent = |number: u8| there[usize::from(number) % there.len()];
        match step {
            Step::Submit { user, key, .. } => {
                if let Some(request) = step.request() {
                    self.submit(*user, *key, request);
                }
            }
            Step::End(number) => {
                if let Some(id) = self.chosen(*number, |s| s == SessionState::Running) {
                    let end = End::Exited(Exit {
                        code: i32::from(number % 2),
                        signal: None,
                        oom: false,
                        at: self.now,
                    });
                    self.outcomes(id, OutcomeNumber::Ended, Some(&end));
                }
            }
            Step::Confirm(number) => {
                let over = |s: SessionState| s == SessionState::Terminating || s.is_final();
                if let Some(id) = self.chosen(*number, over) {
                    self.outcomes(id, OutcomeNumber::Closed, None);
                }
            }
            Step::FailStart(number) => {
                if let Some(id) = self.chosen(*number, |s| s == SessionState::Scheduled) {
                    let end = End::StartFailed {
                        cause: longshore_common::session::Cause::CreateFailed,
                        detail: "drawn".to_owned(),
                    };
                    self.outcomes(id, OutcomeNumber::Ended, Some(&end));
                    self.outcomes(id, OutcomeNumber::Closed, None);
                }
            }
            Step::Stop(number, force) => {
                if let Some(id) = self.chosen(*number, |s| !s.is_final()) {
                    let session = &self.core.state().sessions[&id];
                    let caller = Caller {
                        user: session.owner,
                        access_key: session.access_key.clone(),
                    };
                    self.happen(&Event::Terminate(Terminate {
                        caller,
                        called: None,
                        ids: vec![id],
                        grace_s: 1,
                        force: *force,
                        many: false,
                        handed: BTreeMap::new(),
                    }));
                    if *force {
                        let (changes, _) = finish_unconfirmed(self.core.state(), self.now, id);
                        changes.into_iter().for_each(|change| self.apply(change));
                    }
                }
            }
            Step::Lose(number) => {
                self.happen(&Event::Silent {
                    agent: agent(*number),
                    for_ms: 15_000 + i64::from(*number) * 10_000,
                    lost_after_ms: 15_000,
                });
            }
            Step::Back(number) => {
                let node = self.core.state().agents[&agent(*number)].clone();
                self.happen(&Event::Hello(Box::new(HelloFacts {
                    agent: node.id,
                    key: [0; 32],
                    fingerprint: String::new(),
                    machine: String::new(),
                    boot_id: "1".to_owned(),
                    fence: node.fence,
                    other_engine_connected: false,
                })));
            }
            Step::Schedulable(number, schedulable) => {
                self.happen(&Event::SetSchedulable {
                    agent: agent(*number),
                    version: None,
                    schedulable: *schedulable,
                });
            }
            // Totals of the project and the domain now and then, mostly a policy.
            Step::Limit(0..=31, cpu, _) => {
                let mut project = self.core.state().projects[&ProjectId::new(1)].clone();
                let cpu = i64::from(cpu % 24) * UNIT;
                project.total_slots = SlotLimits::new().with(SlotName::cpu(), Some(cpu));
                self.apply(Change::Project(project));
            }
            Step::Limit(32..=63, gpus, _) => {
                let mut domain = self.core.state().domains[&DomainId::new(1)].clone();
                let gpus = i64::from(gpus % 10) * UNIT;
                domain.total_slots = SlotLimits::new().with(SlotName::cuda_device(), Some(gpus));
                self.apply(Change::Domain(domain));
            }
            Step::Limit(policy, gpus, sessions) => {
                let policy = format!("p{}", policy % 2);
                let mut policy = self.core.state().keypair_policies[&policy].clone();
                let gpus = i64::from(gpus % 8) * UNIT;
                // Sessions that do not wait know no other amount than memory.
                let mem = sessions.map(|n| i64::from(n / 5 % 6) << 30);
                policy.total_slots = SlotLimits::new()
                    .with(SlotName::cuda_device(), Some(gpus))
                    .with(SlotName::mem(), mem);
                policy.max_concurrent_sessions = sessions.map(|n| u32::from(n % 5) + 1);
                self.apply(Change::KeypairPolicy(Box::new(policy)));
            }
            Step::Settings(group, skip, selection) => {
                let id = GroupId::new(u128::from(group % 2) + 1);
                let mut group = self.core.state().groups[&id].clone();
                group.retries_to_skip = Some(u32::from(skip % 4));
                group.agent_selection = Some(Selection::ALL[usize::from(selection % 3)]);
                self.apply(Change::Group(group));
            }
            Step::Active(group, active) => {
                let id = GroupId::new(u128::from(group % 2) + 1);
                let mut group = self.core.state().groups[&id].clone();
                group.active = *active;
                self.apply(Change::Group(group));
            }
            // For everybody, or for one person on one group.
            Step::Rights(number, given) => {
                let user = UserId::new(u128::from(number % 3) + 1);
                let group = GroupId::new(u128::from(number / 3 % 2) + 1);
                let mut rule = AccessRule::factory(START);
                if number % 4 != 0 {
                    rule.rule.id = AccessRuleId::new(u128::from(number % 6) + 2);
                    rule.rule.resource = Resource::Queue(QueueKey::Group(group));
                    rule.rule.subjects = BTreeSet::from([Subject::User(user)]);
                }
                self.apply(match given {
                    true => Change::AccessRule(rule),
                    false => Change::AccessRuleDeleted(rule.rule.id),
                });
            }
            Step::Cordon(number, device, begins) => self.cordon(agent(*number), *device, *begins),
            Step::Inventory(number, how) => self.says_anew(agent(*number), *how),
            Step::Join(group) => self.join(*group),
            Step::Regroup(number, group) => self.regroup(agent(*number), *group),
            Step::Wait(seconds) => {
                self.now = self.now.plus_s(i64::from(*seconds % 60));
                self.happen(&Event::Tick);
            }
        }
    }

    /// One pass, with everything that must hold before and after it.
    pub(crate) fn pass(&mut self) -> Result<Decisions, String> {
        // Asking changes nothing.
        let (state, planner) = self.core.ask();
        let waiting: Vec<_> = state
            .sessions
            .values()
            .filter(|s| s.state == SessionState::Pending)
            .cloned()
            .collect();
        for session in waiting.iter().take(3) {
            let _ = explain(planner, state, session, self.now); // looked at below
            let _ = check(planner, state, session, self.now); // likewise
        }
        for group in state.groups.keys() {
            shown_in_order(state, planner, *group, self.now)?;
        }
        let before = state.clone();
        let (mut changes, mut effects) = (Vec::new(), Vec::new());
        let mut decisions = self.core.place(self.now, &mut changes, &mut effects);
        // Those that do not wait have their place since they were asked for.
        let waited = |start: &Start| before.sessions[&start.session].state == SessionState::Pending;
        for start in decisions.starts.iter().filter(|start| !waited(start)) {
            system_placed(&before, start)?;
        }
        decisions.starts.retain(waited);
        let fresh = Planner::new().plan_for(&before, self.now, Some(&decisions.passed));
        same_decisions(&fresh, &decisions)?;
        self.limits_held(&before, &decisions)?;
        self.core.state().check()?;
        self.capacities_held()?;
        self.everybody_is_told()?;
        Ok(decisions)
    }

    fn limits_held(&self, before: &State, decisions: &Decisions) -> Result<(), String> {
        let mut state = before.clone();
        for start in &decisions.starts {
            let session = state.sessions[&start.session].clone();
            if let Some(lack) = before.lack_of(&session) {
                return Err(format!("{} was placed without {lack:?}", session.id));
            }
            let total = session.total_slots();
            for place in &start.places {
                let agent = &state.agents[&place.agent];
                let alive = agent.state == AgentState::Alive && agent.schedulable;
                // Only queues lead to another group than the session's own.
                let led = session.queue.is_some() || start.group == session.group;
                if !alive || agent.group != start.group || !led {
                    return Err(format!("{} was placed on {}", session.id, agent.name));
                }
                let inventory = agent.inventory.as_ref().unwrap();
                let known = |grant: &DeviceGrant| {
                    let mut offered = inventory.devices.iter().filter(|d| d.is_offered());
                    offered.any(|d| d.id == grant.device)
                };
                if !place.devices.iter().all(known) {
                    return Err(format!("{} got {:?}", session.id, place.devices));
                }
                if let Some(designated) = &session.designated
                    && designated.strict
                    && !designated.agents.contains(&agent.id)
                {
                    return Err(format!("{} was placed elsewhere than it asked", session.id));
                }
            }
            if start.places.len() != usize::from(session.cluster.size) {
                return Err(format!("{} was placed in part", session.id));
            }
            let (changes, _) = start_session(&state, self.now, start);
            changes.iter().for_each(|change| state.apply(change));
            // The second keypair's sessions count in the layer of the user; every layer holds.
            let user_layers = layers(&state, &Requester::of(&session));
            let mut bound: Vec<(Account, _)> = user_layers
                .iter()
                .map(|layer| (layer.account.clone(), layer))
                .collect();
            let main = state.main_keypair(session.owner).unwrap();
            let policy = state.policy_of(main).unwrap();
            let all = state.usage(&Account::User(session.owner));
            for (slot, _) in total.iter() {
                if let Some(limit) = policy.limit(slot)
                    && all.slots.amount(slot) > limit
                {
                    return Err(format!("{} puts {slot} above the main policy", session.id));
                }
            }
            for (account, layer) in bound.drain(..) {
                let usage = state.usage(&account);
                for (slot, _) in total.iter() {
                    if layer
                        .limit(slot)
                        .is_some_and(|limit| usage.slots.amount(slot) > limit)
                    {
                        return Err(format!("{} puts {slot} above {}", session.id, layer.name));
                    }
                }
                if layer.max_sessions().is_some_and(|max| usage.sessions > max) {
                    return Err(format!("{} is one session too many", session.id));
                }
            }
        }
        Ok(())
    }

    fn capacities_held(&self) -> Result<(), String> {
        let state = self.core.state();
        for agent in state.agents.values() {
            let Some(inventory) = &agent.inventory else {
                continue;
            };
            let usage = state.agent_use(agent.id);
            for (slot, most) in inventory.offered.iter() {
                if usage.slots.amount(slot) > most {
                    return Err(format!("{} gives out too much {slot}", agent.name));
                }
            }
            for device in &inventory.devices {
                let taken = usage.devices.get(&device.id).copied().unwrap_or(0);
                if taken > device.capacity {
                    return Err(format!("{} gives out {} twice", agent.name, device.id));
                }
            }
            if inventory.max_containers > 0 && usage.containers > inventory.max_containers {
                return Err(format!("{} has too many containers", agent.name));
            }
        }
        Ok(())
    }

    /// Who waits is told a reason, and the numbers in it are right.
    fn everybody_is_told(&mut self) -> Result<(), String> {
        let now = self.now;
        let (state, planner) = self.core.ask();
        let waiting: Vec<_> = state
            .sessions
            .values()
            .filter(|s| s.state == SessionState::Pending)
            .cloned()
            .collect();
        for session in &waiting {
            let blocked = blocked_by(planner, state, session, now);
            let Some(first) = blocked.first() else {
                return Err(format!("{} is told nothing", session.id));
            };
            let number = |text: &Option<String>, slot: &str| {
                text.as_ref().map(|t| name(slot).parse_amount(t).unwrap())
            };
            for entry in &blocked {
                let Some(slot) = &entry.slot else { continue };
                let (need, have) = (number(&entry.need, slot), number(&entry.have, slot));
                let limit = number(&entry.limit, slot);
                let right = match (entry.stage.as_str(), need, have, limit) {
                    ("limit", Some(need), Some(have), Some(limit)) => have + need > limit,
                    ("capacity", Some(need), Some(have), _) => need > have,
                    _ => true,
                };
                if !right {
                    return Err(format!("{} is told {entry:?}", session.id));
                }
            }
            // The view of one's quota says the same as the pass.
            if !["ready", "identity"].contains(&first.stage.as_str()) {
                let total = session.total_slots();
                let entries = quota(state, &Requester::of(session), Some(&total));
                let over = entries.iter().any(|entry| {
                    let Ok(slot) = entry.slot.parse::<SlotName>() else {
                        return false;
                    };
                    if matches!(entry.slot.as_str(), "sessions" | "pending") {
                        return false;
                    }
                    let left = entry.remaining.as_ref();
                    left.is_some_and(|left| slot.parse_amount(left).unwrap() < total.amount(&slot))
                });
                let said = blocked
                    .iter()
                    .any(|b| b.stage == "limit" && b.slot.is_some());
                if over != said {
                    return Err(format!(
                        "{}: quota and pass differ: {blocked:?}",
                        session.id
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What holds of a session that did not wait, in the state that its start led to.
fn system_placed(state: &State, start: &Start) -> Result<(), String> {
    let session = &state.sessions[&start.session];
    let wrong = |what: &str| Err(format!("{} did not wait: {what}", session.id));
    let group = &state.groups[&session.group];
    if session.kind != SessionType::System || start.pool.is_some() {
        return wrong("it had to");
    }
    if start.group != group.id
        || !group.active
        || !group.allowed_session_types.contains(&session.kind)
    {
        return wrong("its group does not take it");
    }
    if let Some(lack) = state.lack_of(session) {
        return wrong(&format!("without {lack:?}"));
    }
    if start.places.len() != usize::from(session.cluster.size) {
        return wrong("placed in part");
    }
    for place in &start.places {
        let agent = &state.agents[&place.agent];
        let takes = agent.state == AgentState::Alive && agent.schedulable;
        if !takes || !agent.conditions().is_empty() || agent.group != group.id {
            return wrong(&format!("placed on {}", agent.name));
        }
    }
    for layer in layers(state, &Requester::of(session)) {
        let usage = state.usage(&layer.account);
        let above = |limit: i64| usage.slots.mem_bytes() > limit;
        if layer.limit(&SlotName::mem()).is_some_and(above) {
            return wrong(&format!("memory above {}", layer.name));
        }
        let most = layer.max_system_sessions();
        if most.is_some_and(|most| usage.system_sessions > most) {
            return wrong(&format!("one too many of {}", layer.name));
        }
    }
    Ok(())
}

/// The two planners decide the same starts, cancels and counted tries. One that kept up may come
/// to a group only because of a start in one that stands behind it, so the order is that within
/// each group.
fn same_decisions(fresh: &Decisions, kept: &Decisions) -> Result<(), String> {
    let by_group = |decisions: &Decisions| {
        let mut starts = decisions.starts.clone();
        starts.sort_by_key(|start| start.group);
        starts
    };
    if by_group(fresh) != by_group(kept) {
        return Err(format!(
            "from scratch {:?}, kept up {:?}",
            fresh.starts, kept.starts
        ));
    }
    if fresh.cancels != kept.cancels {
        return Err(format!("cancels: {:?}, {:?}", fresh.cancels, kept.cancels));
    }
    Ok(())
}

pub(crate) fn a_step() -> impl Strategy<Value = Step> {
    let any = any::<u8>;
    prop_oneof![
        8 => (any(), any(), any(), any(), any(), any(), any(), proptest::bool::ANY,
              proptest::option::weighted(0.15, (any(), proptest::bool::ANY)))
            .prop_map(|(user, key, group, gpus, cpu, priority, cluster, multi, agent)| Step::Submit {
                user, key, group, gpus, cpu, priority, cluster, multi, agent,
            }),
        4 => any().prop_map(Step::End),
        5 => any().prop_map(Step::Confirm),
        1 => any().prop_map(Step::FailStart),
        2 => (any(), proptest::bool::ANY).prop_map(|(n, force)| Step::Stop(n, force)),
        1 => any().prop_map(Step::Lose),
        1 => any().prop_map(Step::Back),
        1 => (any(), proptest::bool::ANY).prop_map(|(n, yes)| Step::Schedulable(n, yes)),
        1 => (any(), any(), proptest::option::of(any())).prop_map(|(p, g, s)| Step::Limit(p, g, s)),
        1 => (any(), any(), any()).prop_map(|(g, n, s)| Step::Settings(g, n, s)),
        1 => (any(), proptest::bool::weighted(0.8)).prop_map(|(g, yes)| Step::Active(g, yes)),
        1 => (any(), proptest::bool::weighted(0.7)).prop_map(|(n, yes)| Step::Rights(n, yes)),
        1 => (any(), any(), proptest::bool::ANY).prop_map(|(n, d, yes)| Step::Cordon(n, d, yes)),
        1 => (any(), any()).prop_map(|(n, how)| Step::Inventory(n, how)),
        1 => any().prop_map(Step::Join),
        1 => (any(), any()).prop_map(|(n, group)| Step::Regroup(n, group)),
        4 => (0u16..60).prop_map(Step::Wait),
    ]
}

pub(crate) fn play(
    discipline: Discipline,
    selection: Selection,
    skip: u32,
    steps: &[Step],
) -> Result<(), String> {
    let mut play = Play::new(discipline, selection, skip);
    for (index, step) in steps.iter().enumerate() {
        play.step(step);
        play.pass()
            .map_err(|error| format!("step {index} {step:?}: {error}"))?;
        if index % 3 == 0 {
            play.run_all();
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn what_must_hold_holds(
        discipline in 0usize..3,
        selection in 0usize..3,
        skip in 0u32..4,
        steps in prop::collection::vec(a_step(), 1..60),
    ) {
        let played = play(Discipline::ALL[discipline], Selection::ALL[selection], skip, &steps);
        prop_assert_eq!(played, Ok(()));
    }
}
