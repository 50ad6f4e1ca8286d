//! `longshore simulate`: the real core on a described cluster, in virtual time.
//!
//! Nothing here decides anything. Submits, starts, ends and losses go through
//! [`crate::model::react`] and the planner as in the daemon; this module plays the people,
//! the nodes and the clock, and writes down what happened.
//!
//! One instant goes: sessions whose end is due, removals, events in the order of the file,
//! cancellations, one pass; again while the instant brings more.

mod build;
pub mod input;
mod output;
#[cfg(feature = "scenarios")]
pub mod read;
mod watch;

use crate::Core;
use crate::model::{
    Caller, Change, Container, Event, Extensions, HelloFacts, Meta, More, Prolong, Refusal,
    Session, SessionDefaults, State, Submit, Terminate, finish_unconfirmed,
};
use crate::scheduler::{Placed, Start};
use input::Input;
use longshore_common::agent::AgentState;
use longshore_common::amount::SlotName;
use longshore_common::api::{NewCluster, NewDependency, NewDesignation, NewRestart, NewSession};
use longshore_common::devices::{allocate, granted, verify};
use longshore_common::ids::{
    AgentId, ClusterId, ContainerKey, CoordinatorGeneration, Fence, Generation, GroupId, Rank,
    SessionId, UserId,
};
use longshore_common::session::{
    Cause, ContainerState, DeviceGrant, End, Exit, Reason, SessionState, Want,
};
use longshore_common::time::Timestamp;
use longshore_common::wire::{ContainerReport, Outcome, OutcomeNumber, Totals};
use output::{Lines, Meter};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use watch::{Activity, Watch};

/// T1 of simulated agents; any number does, since loss is an event of the file.
const LOST_AFTER_MS: i64 = 15_000;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct InputError {
    /// The member, such as `events[3].submit.user`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

pub(crate) fn wrong(path: &str, message: impl Display) -> InputError {
    InputError {
        path: path.to_owned(),
        message: message.to_string(),
    }
}

/// Runs a scenario and gives its lines, each a JSON object without its end of line.
///
/// # Errors
/// [`InputError`] names the first member that means nothing. What happened before a bad
/// event is not given: a file is right as a whole or not at all.
pub fn run(input: &Input) -> Result<Vec<String>, InputError> {
    let mut run = Run::new(input)?;
    run.play()?;
    Ok(run.finish())
}

/// How a session of the file goes on once it runs.
#[derive(Debug, Clone, Default)]
struct Script {
    name: String,
    runtime_ms: Option<i64>,
    exit_code: i32,
    fails_on: BTreeSet<String>,
    activity: Activity,
}

struct Run<'a> {
    input: &'a Input,
    core: Core,
    origin: Timestamp,
    now: Timestamp,
    until: Option<Timestamp>,
    removal_ms: i64,
    scripts: BTreeMap<SessionId, Script>,
    ids: BTreeMap<String, SessionId>,
    keys: build::Keys,
    names: build::Names,
    group_objects: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    policy_objects: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    allocation_objects: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    known_slots: Vec<SlotName>,
    /// When running sessions end by themselves.
    ends: BTreeSet<(Timestamp, SessionId)>,
    /// Running sessions under limits.
    watches: BTreeMap<SessionId, Watch>,
    /// When those are judged next.
    wakes: BTreeSet<(Timestamp, SessionId)>,
    /// When nodes confirm.
    removals: BTreeSet<(Timestamp, SessionId)>,
    /// When the sessions of a lost agent are given up.
    give_up: BTreeSet<(Timestamp, AgentId)>,
    /// Ends that came while their agent was away.
    held: BTreeMap<AgentId, BTreeMap<SessionId, Option<Reason>>>,
    lines: Lines,
    meter: Meter,
}

impl<'a> Run<'a> {
    fn new(input: &'a Input) -> Result<Self, InputError> {
        let origin: Timestamp = match &input.start {
            None => Timestamp(1_767_225_600_000), // the first instant of 2026
            Some(text) => build::word(text, "start")?,
        };
        let meta = Meta {
            cluster: ClusterId::new(1),
            generation: CoordinatorGeneration(1),
            next_session: 1,
            next_uid: 20_000,
        };
        let mut run = Self {
            input,
            core: Core::new(State::new(meta)),
            origin,
            now: origin,
            until: input.until.map(|s| origin.plus_ms(s.ms)),
            removal_ms: input.settings.simulation.removal_s.ms,
            scripts: BTreeMap::new(),
            ids: BTreeMap::new(),
            keys: build::Keys::new(),
            names: build::Names::default(),
            group_objects: BTreeMap::new(),
            policy_objects: BTreeMap::new(),
            allocation_objects: BTreeMap::new(),
            known_slots: Vec::new(),
            ends: BTreeSet::new(),
            watches: BTreeMap::new(),
            wakes: BTreeSet::new(),
            removals: BTreeSet::new(),
            give_up: BTreeSet::new(),
            held: BTreeMap::new(),
            lines: Lines::new(origin),
            meter: Meter::default(),
        };
        run.build()?;
        Ok(run)
    }

    // ----- the first state

    fn build(&mut self) -> Result<(), InputError> {
        let input = self.input;
        let now = self.now;
        let mut settings = build::scheduler(&input.settings.scheduler)?;
        let grace_s = input.settings.idle.new_user_grace_s.unwrap_or_default();
        if grace_s.ms < 0 || grace_s.ms % 1000 != 0 {
            let path = "settings.idle.new_user_grace_s";
            return Err(wrong(path, "whole seconds, 0 or more"));
        }
        settings.lives.new_user_grace_s = grace_s.ms / 1000;
        self.apply(Change::Scheduler(settings));
        let mut policies = Vec::new();
        for (index, members) in input.keypair_policies.iter().enumerate() {
            let path = format!("keypair_policies[{index}]");
            let raw: input::KeypairPolicy = build::object(members, &path)?;
            if !self.names.policies.insert(raw.name.clone()) {
                return Err(wrong(
                    &format!("{path}.name"),
                    format!("{} is there twice", raw.name),
                ));
            }
            self.policy_objects
                .insert(raw.name.clone(), members.clone());
            policies.push(build::policy(&raw, &path, now)?);
        }
        let (domains, projects) = build::tenants(input, now, &mut self.names)?;
        // Without their totals until what runs before is placed.
        for domain in &domains {
            let total_slots = Default::default();
            self.apply(Change::Domain(crate::model::Domain {
                total_slots,
                ..domain.clone()
            }));
        }
        for project in &projects {
            let total_slots = Default::default();
            self.apply(Change::Project(crate::model::Project {
                total_slots,
                ..project.clone()
            }));
        }
        let (people, keys) = build::people(input, &domains, &projects, &mut self.names, now)?;
        self.keys = keys;
        for change in people {
            self.apply(change);
        }
        let groups = self.groups()?;
        self.agents()?;
        let config = build::config(input, &groups)?;
        for (index, members) in input.allocation_policies.iter().enumerate() {
            let path = format!("allocation_policies[{index}]");
            let raw: input::AllocationPolicy = build::object(members, &path)?;
            if self
                .allocation_objects
                .insert(raw.name.clone(), members.clone())
                .is_some()
            {
                return Err(wrong(
                    &format!("{path}.name"),
                    format!("{} is there twice", raw.name),
                ));
            }
        }
        let enabled = input.settings.pools.enabled.unwrap_or(true);
        self.apply(build::live(config, enabled));
        for (index, running) in input.running.iter().enumerate() {
            self.run_before(running, &format!("running[{index}]"))?;
        }
        for policy in policies {
            self.apply(Change::KeypairPolicy(Box::new(policy)));
        }
        for domain in domains {
            self.apply(Change::Domain(domain));
        }
        for project in projects {
            self.apply(Change::Project(project));
        }
        Ok(())
    }

    fn groups(&mut self) -> Result<BTreeSet<String>, InputError> {
        let mut default = serde_json::Map::new();
        default.insert("name".to_owned(), "default".into());
        let default = vec![default];
        let given = self.input.resource_groups.as_ref().unwrap_or(&default);
        let mut names = BTreeSet::new();
        for (index, members) in given.iter().enumerate() {
            let path = format!("resource_groups[{index}]");
            let raw: input::Group = build::object(members, &path)?;
            if !names.insert(raw.name.clone()) {
                return Err(wrong(
                    &format!("{path}.name"),
                    format!("{} is there twice", raw.name),
                ));
            }
            self.group_objects.insert(raw.name.clone(), members.clone());
            let id = GroupId::new(index as u128 + 1);
            let mut group = build::group(&raw, id, &path, &self.names)?;
            group.default |= raw.name == "default" && raw.default.is_none();
            self.apply(Change::Group(group));
        }
        Ok(names)
    }

    fn agents(&mut self) -> Result<(), InputError> {
        let input = self.input;
        for (index, raw) in input.agents.iter().enumerate() {
            self.join(raw, &format!("agents[{index}]"))?;
        }
        // Slots of agents that join later are known from the start.
        for (index, event) in input.events.iter().enumerate() {
            if let Some(agent) = event.agent.as_ref().filter(|a| a.joined == Some(true)) {
                let path = format!("events[{index}].agent");
                let inventory = build::inventory(&joined(agent), &path)?;
                let devices = inventory.devices.iter().map(|d| d.slot.clone());
                self.known_slots.extend(devices);
            }
        }
        Ok(())
    }

    fn join(&mut self, raw: &input::Agent, path: &str) -> Result<(), InputError> {
        let state = self.core.state();
        let group = raw.group.as_deref().unwrap_or("default");
        let group = state
            .groups
            .values()
            .find(|g| g.name == group)
            .map(|g| g.id)
            .ok_or_else(|| {
                wrong(
                    &format!("{path}.group"),
                    format!("there is no group {group}"),
                )
            })?;
        if state.agents.values().any(|a| a.name == raw.name) {
            return Err(wrong(
                &format!("{path}.name"),
                format!("{} is there twice", raw.name),
            ));
        }
        let id = AgentId::new(state.agents.len() as u128 + 1);
        let agent = build::agent(raw, id, group, path, self.now)?;
        self.apply(Change::Agent(Box::new(agent)));
        Ok(())
    }

    /// A session that runs before second 0.
    fn run_before(&mut self, running: &input::Running, path: &str) -> Result<(), InputError> {
        let submit: input::Submit = build::object(&running.submit, path)?;
        let order = self.order(&submit, path)?;
        let state = self.core.state();
        let mut session = crate::model::check_submit(state, &order, self.now)
            .map_err(|refusal| wrong(path, format!("{}: {}", refusal.code, refusal.detail)))?;
        let agent = state
            .agents
            .values()
            .find(|a| a.name == running.agent)
            .ok_or_else(|| {
                wrong(
                    &format!("{path}.agent"),
                    format!("there is no agent {}", running.agent),
                )
            })?;
        if let Some(seat) = &session.queue
            && running.pool.is_none()
        {
            let text = format!("a session of queue {} needs its pool", seat.name);
            return Err(wrong(&format!("{path}.pool"), text));
        }
        if let Some(pool) = &running.pool
            && state.config.config.pool(pool).is_none()
        {
            return Err(wrong(
                &format!("{path}.pool"),
                format!("there is no pool {pool}"),
            ));
        }
        session.group = agent.group;
        let places = places_on(state, agent, &session, running, path)?;
        let start = Start {
            session: session.id,
            group: agent.group,
            pool: running.pool.clone(),
            places,
        };
        let id = session.id;
        let mut meta = state.meta.clone();
        self.remember(id, &submit, path)?;
        let (mut changes, mut effects) = (Vec::new(), Vec::new());
        // Whatever was asked, it was let in then: the session is made as it stands.
        meta.next_session += 1;
        self.apply(Change::Meta(meta));
        self.apply(Change::Session(Box::new(session)));
        let (new, _) = crate::model::start_session(self.core.state(), self.now, &start);
        for change in new {
            self.apply(change);
        }
        self.report_running(id, &mut changes, &mut effects);
        self.note(&changes);
        self.plan_end(id);
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        self.core.apply(&change);
    }

    // ----- what the file asks for

    fn remember(
        &mut self,
        id: SessionId,
        submit: &input::Submit,
        path: &str,
    ) -> Result<(), InputError> {
        let path = format!("{path}.activity");
        let activity = Activity::read(&submit.activity, self.origin, &path)?;
        self.ids.insert(submit.id.clone(), id);
        self.scripts.insert(
            id,
            Script {
                name: submit.id.clone(),
                runtime_ms: submit.runtime_s.map(|s| s.ms),
                exit_code: submit.exit_code,
                fails_on: submit.start_fails_on.clone(),
                activity,
            },
        );
        Ok(())
    }

    fn caller(&self, submit: &input::Submit, path: &str) -> Result<Caller, InputError> {
        let name = submit.user.as_deref().unwrap_or("user");
        let state = self.core.state();
        let (user, main): &(UserId, String) = self
            .keys
            .get(name)
            .ok_or_else(|| wrong(&format!("{path}.user"), format!("there is no user {name}")))?;
        let access_key = match &submit.keypair {
            None => main.clone(),
            Some(key) => {
                let own = state.keypairs.get(key).is_some_and(|k| k.user == *user);
                if !own {
                    let text = format!("{name} has no keypair {key}");
                    return Err(wrong(&format!("{path}.keypair"), text));
                }
                key.clone()
            }
        };
        Ok(Caller {
            user: *user,
            access_key,
        })
    }

    fn order(&self, submit: &input::Submit, path: &str) -> Result<Submit, InputError> {
        let at = |member: &str| format!("{path}.{member}");
        if submit.runtime_s.is_some_and(|s| s.ms < 0) {
            return Err(wrong(&at("runtime_s"), "it must not be below 0"));
        }
        if submit.id.is_empty() {
            return Err(wrong(&at("id"), "a session needs an id"));
        }
        if self.ids.contains_key(&submit.id) {
            return Err(wrong(&at("id"), format!("{} is there twice", submit.id)));
        }
        let state = self.core.state();
        if let Some(group) = &submit.group
            && !state.groups.values().any(|g| g.name == *group)
        {
            return Err(wrong(&at("group"), format!("there is no group {group}")));
        }
        if let Some(queue) = &submit.queue
            && state.config.config.queue(queue).is_none()
        {
            return Err(wrong(&at("queue"), format!("there is no queue {queue}")));
        }
        if let Some(designated) = &submit.designated {
            for name in &designated.agents {
                let later = self.input.events.iter().any(|e| {
                    e.agent
                        .as_ref()
                        .is_some_and(|a| a.joined == Some(true) && a.name == *name)
                });
                if !later && !state.agents.values().any(|a| a.name == *name) {
                    let path = at("designated.agents");
                    return Err(wrong(&path, format!("there is no agent {name}")));
                }
            }
        }
        for name in &submit.start_fails_on {
            if !self.input.agents.iter().any(|a| a.name == *name)
                && !state.agents.values().any(|a| a.name == *name)
            {
                let path = at("start_fails_on");
                return Err(wrong(&path, format!("there is no agent {name}")));
            }
        }
        let mut depends_on = Vec::new();
        for entry in &submit.depends_on {
            let (name, on) = match entry {
                input::Dependency::Id(id) => (id, None),
                input::Dependency::Full { session, on } => (session, on.clone()),
            };
            let known = self.ids.get(name).copied();
            if known.is_none() && !self.names_a_session(name) {
                let path = at("depends_on");
                return Err(wrong(&path, format!("there is no session {name}")));
            }
            depends_on.push(NewDependency {
                session: known.map_or_else(|| "-".to_owned(), |id| id.to_string()),
                on,
            });
        }
        let start_at = match &submit.start_at {
            None => None,
            Some(input::Text(text)) => Some(match text.parse::<Timestamp>() {
                Ok(at) => at,
                Err(_) => {
                    let value = serde_json::Value::String(text.clone());
                    let seconds: input::Seconds = serde_json::from_value(value)
                        .map_err(|error| wrong(&at("start_at"), error))?;
                    self.origin.plus_ms(seconds.ms)
                }
            }),
        };
        let cluster =
            (submit.cluster_size.is_some() || submit.cluster_mode.is_some()).then(|| NewCluster {
                size: submit.cluster_size.unwrap_or(1),
                mode: submit.cluster_mode.clone(),
                containers: Vec::new(),
            });
        let request = NewSession {
            kind: Some(submit.kind.clone().unwrap_or_else(|| "batch".to_owned())),
            image: Some("simulated".to_owned()),
            command: vec!["simulated".to_owned()],
            slots: submit
                .slots
                .iter()
                .map(|(slot, text)| (slot.clone(), text.0.clone()))
                .collect(),
            group: submit.group.clone(),
            queue: submit.queue.clone(),
            priority: submit.priority,
            cluster,
            arch: submit.arch.clone(),
            designated: submit.designated.as_ref().map(|d| NewDesignation {
                agents: d.agents.clone(),
                mode: d.mode.clone(),
            }),
            start_at,
            depends_on,
            lifetime_s: submit.lifetime_s,
            batch_timeout_s: submit.batch_timeout_s,
            restart: submit.restart.as_ref().map(|restart| NewRestart {
                max: restart.max,
                on: restart.on.clone(),
            }),
            ..NewSession::default()
        };
        let defaults = SessionDefaults {
            image: String::new(),
            cpu_milli: 0,
            mem_bytes: 0,
            mem_minimum: 0,
            priority: 10,
        };
        let mut order = Submit::new(self.caller(submit, path)?, request, defaults);
        order.retries = submit.retries;
        order.known_slots.clone_from(&self.known_slots);
        order.past = self
            .ids
            .values()
            .filter(|id| !state.sessions.contains_key(id))
            .filter_map(|id| self.lines.past(*id))
            .collect();
        Ok(order)
    }

    /// Whether any submit of the file has this id: one that was refused is waited for in vain,
    /// which is the submit's failure and not the file's.
    fn names_a_session(&self, name: &str) -> bool {
        let mut submits = self.input.events.iter().filter_map(|e| e.submit.as_ref());
        submits.any(|s| s.id == name)
    }

    // ----- time

    fn play(&mut self) -> Result<(), InputError> {
        let mut order: Vec<usize> = (0..self.input.events.len()).collect();
        order.sort_by_key(|index| self.input.events[*index].at);
        let mut next_event = 0;
        loop {
            let event = order
                .get(next_event)
                .map(|index| self.origin.plus_ms(self.input.events[*index].at.ms));
            let first = |set: Option<&(Timestamp, SessionId)>| set.map(|(at, _)| *at);
            let next = [
                event,
                first(self.ends.first()),
                first(self.wakes.first()),
                first(self.removals.first()),
                self.give_up.first().map(|(at, _)| *at),
                self.core.next_deadline(),
            ]
            .into_iter()
            .flatten()
            .min();
            let Some(at) = next else {
                break;
            };
            let at = at.max(self.now);
            if self.until.is_some_and(|until| at > until) {
                break;
            }
            self.advance(at);
            loop {
                let mut more = self.end_due();
                more |= self.remove_due();
                while let Some(index) = order.get(next_event)
                    && self.origin.plus_ms(self.input.events[*index].at.ms) <= self.now
                {
                    self.event(*index)?;
                    next_event += 1;
                    more = true;
                }
                more |= self.give_up_due();
                self.lines.cancellations();
                more |= self.tick();
                more |= self.pass();
                self.lines.cancellations();
                if !more {
                    break;
                }
            }
        }
        if let Some(until) = self.until {
            self.advance(until.max(self.now));
        }
        Ok(())
    }

    fn advance(&mut self, to: Timestamp) {
        self.meter.advance(self.core.state(), to.since(self.now));
        self.now = to;
        self.lines.now = to;
    }

    /// Lets something happen and writes down who ended.
    fn happen(&mut self, event: &Event) -> Result<crate::model::Answer, Refusal> {
        let (mut changes, mut effects) = (Vec::new(), Vec::new());
        let answer = self
            .core
            .happen(event, self.now, &mut changes, &mut effects);
        self.note(&changes);
        answer
    }

    fn note(&mut self, changes: &[Change]) {
        for change in changes {
            let Change::Session(session) = change else {
                continue;
            };
            let ended = session.state.is_final()
                && self
                    .scripts
                    .get(&session.id)
                    .is_some_and(|script| self.lines.ended(&script.name, session));
            // One that waits for another attempt has nothing of the last one left to end.
            let again = session.state == SessionState::Pending && session.attempt.0 > 1;
            if ended || again {
                self.ends.retain(|(_, id)| *id != session.id);
                self.watches.remove(&session.id);
                self.wakes.retain(|(_, id)| *id != session.id);
            }
            if again {
                for held in self.held.values_mut() {
                    held.remove(&session.id);
                }
            }
        }
    }

    fn pass(&mut self) -> bool {
        let (mut changes, mut effects) = (Vec::new(), Vec::new());
        let decisions = self.core.place(self.now, &mut changes, &mut effects);
        self.note(&changes);
        for start in &decisions.starts {
            self.started(start);
        }
        !decisions.starts.is_empty() || !decisions.cancels.is_empty()
    }

    fn tick(&mut self) -> bool {
        let due = self
            .core
            .state()
            .next_deadline()
            .is_some_and(|at| at <= self.now);
        if due {
            let _ = self.happen(&Event::Tick); // nobody asked
        }
        due
    }

    // ----- nodes

    /// A session got its places: it runs at once, or fails at once.
    fn started(&mut self, start: &Start) {
        let id = start.session;
        let Some(session) = self.core.state().sessions.get(&id).cloned() else {
            return;
        };
        let script = self.scripts.get(&id).cloned().unwrap_or_default();
        let bad = session.present().find_map(|c| {
            let agent = self.core.state().agents.get(&c.agent)?;
            script
                .fails_on
                .contains(&agent.name)
                .then(|| (c.key, c.agent, agent.name.clone()))
        });
        if let Some((key, agent, name)) = bad {
            self.lines
                .start_failed(&script.name, session.attempt.0, &name);
            let end = End::StartFailed {
                cause: Cause::CreateFailed,
                detail: "as the scenario says".to_owned(),
            };
            self.outcome(agent, key, OutcomeNumber::Ended, Some(end), None);
            self.close(id);
            return;
        }
        let state = self.core.state();
        self.lines.started(state, &script.name, &session, start);
        let (mut changes, mut effects) = (Vec::new(), Vec::new());
        self.report_running(id, &mut changes, &mut effects);
        self.note(&changes);
        self.plan_end(id);
    }

    fn report_running(
        &mut self,
        id: SessionId,
        changes: &mut Vec<Change>,
        effects: &mut Vec<crate::model::Effect>,
    ) {
        let Some(session) = self.core.state().sessions.get(&id) else {
            return;
        };
        let mut per_agent: BTreeMap<AgentId, Vec<ContainerReport>> = BTreeMap::new();
        for container in session.present() {
            per_agent
                .entry(container.agent)
                .or_default()
                .push(ContainerReport {
                    key: container.key,
                    state: ContainerState::Running,
                    docker_id: "simulated".to_owned(),
                    started_at: Some(self.now),
                    fence: container.fence,
                    idle_deadline: None,
                    frozen: false,
                    idle: false,
                    used_at: None,
                });
        }
        for (agent, items) in per_agent {
            let event = Event::Report {
                agent,
                applied: Generation(u64::MAX),
                items,
                whole: false,
                rebooted: false,
            };
            let answer = self.core.happen(&event, self.now, changes, effects);
            debug_assert!(answer.is_ok(), "a report is always taken");
        }
    }

    /// From now on it ends by itself after its time, or by its limits.
    fn plan_end(&mut self, id: SessionId) {
        let Some(session) = self.core.state().sessions.get(&id) else {
            return;
        };
        let (Some(script), Some(started)) = (self.scripts.get(&id), session.started_at) else {
            return;
        };
        if let Some(ms) = script.runtime_ms {
            self.ends.insert((started.plus_ms(ms).max(self.now), id));
        }
        let watch = Watch::new(session, script.activity.clone(), self.now);
        self.watches.insert(id, watch);
        self.judge(id);
    }

    fn end_due(&mut self) -> bool {
        let now = self.now;
        let due = |set: &BTreeSet<(Timestamp, SessionId)>| -> BTreeSet<SessionId> {
            let due = set.iter().take_while(|(at, _)| *at <= now);
            due.map(|(_, id)| *id).collect()
        };
        let (ended, judged) = (due(&self.ends), due(&self.wakes));
        self.ends.retain(|(at, _)| *at > now);
        self.wakes.retain(|(at, _)| *at > now);
        for id in ended.union(&judged) {
            // What ends by itself at this instant is stopped by nobody.
            match ended.contains(id) {
                true => self.end(*id, None),
                false => self.judge(*id),
            }
        }
        !ended.is_empty() || !judged.is_empty()
    }

    /// The limits of a running session are looked at, as its agent does.
    fn judge(&mut self, id: SessionId) {
        let state = self.core.state();
        let (Some(session), Some(watch)) = (state.sessions.get(&id), self.watches.get_mut(&id))
        else {
            return;
        };
        if session.state != SessionState::Running {
            return;
        }
        let main = session.present().next();
        let agent = main.and_then(|main| state.agents.get(&main.agent));
        // An agent that is away keeps to what it was told.
        if agent.is_some_and(|agent| agent.state == AgentState::Alive) {
            let limits = crate::model::agent_limits(session, Rank::MAIN, self.now);
            watch.take_limits(limits, self.now);
        }
        if let Some(before) = watch.wake {
            self.wakes.remove(&(before, id));
        }
        let verdict = watch.judge(session, self.now).clone();
        if let Some(at) = watch.wake {
            self.wakes.insert((at, id));
        }
        let name = self.scripts.get(&id).map_or("", |script| &script.name);
        for warning in &verdict.warn {
            let at = match warning.reason {
                Reason::LifetimeExceeded => verdict.lifetime_deadline_ms,
                _ => verdict.idle_deadline_ms,
            };
            let at = at.map_or(self.now, Timestamp);
            self.lines.warned(name, at, warning.reason);
        }
        if let Some((reason, _)) = verdict.stop {
            self.end(id, Some(reason));
        }
    }

    /// A session's main process ends, by itself or by a limit its agent enforces.
    fn end(&mut self, id: SessionId, reason: Option<Reason>) {
        let Some(session) = self.core.state().sessions.get(&id).cloned() else {
            return;
        };
        if session.state != SessionState::Running {
            return;
        }
        let Some(main) = session.present().next() else {
            return;
        };
        self.watches.remove(&id);
        self.wakes.retain(|(_, other)| *other != id);
        self.ends.retain(|(_, other)| *other != id);
        let away = self
            .core
            .state()
            .agents
            .get(&main.agent)
            .is_some_and(|a| a.state == AgentState::Lost);
        if away {
            let held = self.held.entry(main.agent).or_default();
            held.insert(id, reason);
            return;
        }
        let script = self.scripts.get(&id).cloned().unwrap_or_default();
        let exit = |code| Exit {
            code,
            signal: None,
            oom: false,
            at: self.now,
        };
        let end = match reason {
            None => End::Exited(exit(script.exit_code)),
            Some(reason) => End::Stopped {
                reason,
                exit: Some(exit(143)),
            },
        };
        self.outcome(
            main.agent,
            main.key,
            OutcomeNumber::Ended,
            Some(end),
            session.started_at,
        );
        self.stopped(id);
    }

    /// A session that is being stopped has stopped: it is final, and its containers go.
    fn stopped(&mut self, id: SessionId) {
        if self.removal_ms == 0 {
            self.close(id);
            return;
        }
        let (changes, _) = finish_unconfirmed(self.core.state(), self.now, id);
        for change in &changes {
            self.core.apply(change);
        }
        self.note(&changes);
        self.removals
            .insert((self.now.plus_ms(self.removal_ms), id));
    }

    fn remove_due(&mut self) -> bool {
        let due: BTreeSet<SessionId> = self
            .removals
            .iter()
            .take_while(|(at, _)| *at <= self.now)
            .map(|(_, id)| *id)
            .collect();
        self.removals.retain(|(at, _)| *at > self.now);
        for id in &due {
            self.close(*id);
        }
        !due.is_empty()
    }

    /// The agents confirm that nothing of a session is left, those that are not away.
    fn close(&mut self, id: SessionId) {
        let Some(session) = self.core.state().sessions.get(&id).cloned() else {
            return;
        };
        // Of one that is tried again, only what was before.
        let gone = |c: &&Container| !c.is_closed() && c.want == Want::Stop;
        for container in session.containers.iter().filter(gone) {
            let away = self
                .core
                .state()
                .agents
                .get(&container.agent)
                .is_some_and(|a| a.state == AgentState::Lost);
            if !away {
                self.outcome(
                    container.agent,
                    container.key,
                    OutcomeNumber::Closed,
                    None,
                    None,
                );
            }
        }
    }

    fn outcome(
        &mut self,
        agent: AgentId,
        key: ContainerKey,
        number: OutcomeNumber,
        end: Option<End>,
        started_at: Option<Timestamp>,
    ) {
        let outcome = Outcome {
            key,
            number,
            end,
            started_at,
            at: self.now,
            tail: Vec::new(),
            totals: Totals::default(),
            devices: Vec::new(),
        };
        let _ = self.happen(&Event::Outcome {
            agent,
            outcome: Box::new(outcome),
        }); // agents are not answered
    }

    fn give_up_due(&mut self) -> bool {
        let due: Vec<AgentId> = self
            .give_up
            .iter()
            .take_while(|(at, _)| *at <= self.now)
            .map(|(_, id)| *id)
            .collect();
        self.give_up.retain(|(at, _)| *at > self.now);
        for agent in &due {
            let _ = self.happen(&Event::Silent {
                agent: *agent,
                for_ms: i64::MAX,
                lost_after_ms: LOST_AFTER_MS,
            }); // agents are not answered
        }
        !due.is_empty()
    }

    // ----- events of the file

    fn event(&mut self, index: usize) -> Result<(), InputError> {
        let event = &self.input.events[index];
        let path = format!("events[{index}]");
        let kinds = [
            event.submit.is_some(),
            event.agent.is_some(),
            event.terminate.is_some(),
            event.pools.is_some(),
            event.policy.is_some(),
            event.keep.is_some(),
            event.extend.is_some(),
            event.report.is_some(),
        ];
        if kinds.iter().filter(|k| **k).count() != 1 {
            return Err(wrong(&path, "an event is exactly one thing"));
        }
        if event.at.ms < 0 {
            return Err(wrong(
                &format!("{path}.at"),
                "nothing happens before second 0; what ran before belongs to running",
            ));
        }
        if let Some(submit) = &event.submit {
            return self.submit(submit, &format!("{path}.submit"));
        }
        if let Some(agent) = &event.agent {
            return self.agent_event(agent, &format!("{path}.agent"));
        }
        if let Some(terminate) = &event.terminate {
            return self.terminate(terminate, &format!("{path}.terminate"));
        }
        if let Some(pools) = &event.pools {
            let mut live = self.core.state().config.clone();
            live.enabled = pools.enabled.unwrap_or(live.enabled);
            self.apply(Change::Config(Box::new(live)));
            return Ok(());
        }
        if let Some(policy) = &event.policy {
            return self.policy_event(policy, &format!("{path}.policy"));
        }
        if let Some(extend) = &event.extend {
            let what = More::By(extend.by_s);
            return self.prolong(&extend.id, what, &format!("{path}.extend.id"));
        }
        if let Some(keep) = &event.keep {
            return self.prolong(&keep.id, More::Keep(None), &format!("{path}.keep.id"));
        }
        if let Some(report) = &event.report {
            return self.report(&report.id, &format!("{path}.report.id"));
        }
        Ok(())
    }

    /// The session of this name; nothing if it was refused.
    fn named(&self, name: &str, path: &str) -> Result<Option<SessionId>, InputError> {
        match self.ids.get(name) {
            Some(id) => Ok(Some(*id)),
            None if self.names_a_session(name) => Ok(None),
            None => Err(wrong(path, format!("there is no session {name}"))),
        }
    }

    /// Its owner asks for more time for a session.
    fn prolong(&mut self, name: &str, what: More, path: &str) -> Result<(), InputError> {
        let Some(id) = self.named(name, path)? else {
            return Ok(());
        };
        self.judge(id); // so that what was measured is known up to now
        let used_ms = self.watches.get(&id).and_then(|w| w.history().used_ms());
        let caller = self.core.state().sessions.get(&id).map(|s| Caller {
            user: s.owner,
            access_key: s.access_key.clone(),
        });
        let Some(caller) = caller else {
            let text = format!("Session {name} has ended and gets no more time.");
            self.lines.no_more(name, &Refusal::new("LS-STATE", text));
            return Ok(());
        };
        let order = Prolong {
            caller,
            called: None,
            session: id,
            past: None,
            version: None,
            dry_run: false,
            what: match what {
                More::Keep(_) => More::Keep(used_ms.map(Timestamp)),
                other => other,
            },
        };
        match self.happen(&Event::Prolong(Box::new(order))) {
            Ok(_) => self.judge(id),
            Err(refusal) => self.lines.no_more(name, &refusal),
        }
        Ok(())
    }

    /// Writes down what will stop a session.
    fn report(&mut self, name: &str, path: &str) -> Result<(), InputError> {
        let Some(id) = self.named(name, path)? else {
            return Ok(());
        };
        self.judge(id);
        let state = self.core.state();
        let Some(session) = state.sessions.get(&id).filter(|s| !s.state.is_final()) else {
            return Ok(()); // it has ended
        };
        let left = Extensions::of(state, &session.access_key).left(session);
        self.lines
            .report(name, session, left, self.watches.get(&id));
        Ok(())
    }

    fn submit(&mut self, submit: &input::Submit, path: &str) -> Result<(), InputError> {
        let order = self.order(submit, path)?;
        self.lines.submitted += 1;
        match self.happen(&Event::Submit(Box::new(order))) {
            Ok(crate::model::Answer::Session(accepted)) => {
                self.remember(accepted.id, submit, path)?;
            }
            Ok(_) => (),
            Err(refusal) if refusal.code == "LS-INVALID" => {
                let member = refusal.errors.first();
                let member = member.map_or_else(String::new, |e| e.pointer.replace('/', "."));
                return Err(wrong(&format!("{path}{member}"), refusal.detail));
            }
            Err(refusal) => self.lines.refused(&submit.id, &refusal),
        }
        Ok(())
    }

    fn agent_event(&mut self, event: &input::AgentEvent, path: &str) -> Result<(), InputError> {
        if event.joined == Some(true) {
            return self.join(&joined(event), path);
        }
        let state = self.core.state();
        let agent = state
            .agents
            .values()
            .find(|a| a.name == event.name)
            .ok_or_else(|| {
                wrong(
                    &format!("{path}.name"),
                    format!("there is no agent {}", event.name),
                )
            })?
            .clone();
        if let Some(schedulable) = event.schedulable {
            let event = Event::SetSchedulable {
                agent: agent.id,
                version: None,
                schedulable,
            };
            self.happen(&event)
                .map_err(|refusal| wrong(path, refusal.detail))?;
        }
        match event.lost {
            None => (),
            Some(true) => {
                let silent = Event::Silent {
                    agent: agent.id,
                    for_ms: LOST_AFTER_MS,
                    lost_after_ms: LOST_AFTER_MS,
                };
                let _ = self.happen(&silent); // agents are not answered
                let group = self.core.state().groups.get(&agent.group);
                let seconds = group.map_or(0, |g| i64::from(g.declare_lost_s));
                if seconds > 0 {
                    self.give_up.insert((self.now.plus_s(seconds), agent.id));
                }
            }
            Some(false) => self.back(agent.id),
        }
        Ok(())
    }

    /// A lost agent answers again: it tells what ended meanwhile, and clears what was given up.
    fn back(&mut self, agent: AgentId) {
        self.give_up.retain(|(_, id)| *id != agent);
        let Some(node) = self.core.state().agents.get(&agent).cloned() else {
            return;
        };
        let hello = HelloFacts {
            agent,
            key: [0; 32],
            fingerprint: node.fingerprint.clone(),
            machine: node.machine.clone(),
            boot_id: node.boot_id.clone(),
            fence: Fence(node.fence.0),
            other_engine_connected: false,
        };
        let _ = self.happen(&Event::Hello(Box::new(hello))); // agents are not answered
        for (id, reason) in self.held.remove(&agent).unwrap_or_default() {
            self.end(id, reason);
        }
        let given_up: Vec<ContainerKey> = self
            .core
            .state()
            .on_agent(agent)
            .filter(|key| {
                let session = self.core.state().sessions.get(&key.session);
                session.is_none_or(|s| s.state.is_final() || s.attempt != key.attempt)
            })
            .collect();
        for key in given_up {
            self.outcome(agent, key, OutcomeNumber::Closed, None, None);
        }
    }

    fn terminate(&mut self, order: &input::Terminate, path: &str) -> Result<(), InputError> {
        let Some(id) = self.named(&order.id, &format!("{path}.id"))? else {
            return Ok(());
        };
        let Some(session) = self.core.state().sessions.get(&id) else {
            return Ok(()); // it has ended
        };
        let caller = Caller {
            user: session.owner,
            access_key: session.access_key.clone(),
        };
        let placed = session.present().next().map(|c| (c.agent, c.key));
        let started = session.started_at;
        let waits = session.state == SessionState::Pending || session.state.is_final();
        let terminate = Terminate {
            caller,
            called: None,
            ids: vec![id],
            grace_s: 10,
            force: order.force,
            many: false,
        };
        let _ = self.happen(&Event::Terminate(terminate)); // what it did is in the changes
        let Some((agent, key)) = placed.filter(|_| !waits) else {
            return Ok(());
        };
        let end = End::Exited(Exit {
            code: if order.force { 137 } else { 143 },
            signal: Some(if order.force { 9 } else { 15 }),
            oom: false,
            at: self.now,
        });
        self.outcome(agent, key, OutcomeNumber::Ended, Some(end), started);
        self.stopped(id);
        Ok(())
    }

    fn policy_event(
        &mut self,
        patch: &serde_json::Map<String, serde_json::Value>,
        path: &str,
    ) -> Result<(), InputError> {
        let text = |member: &str| {
            patch
                .get(member)
                .and_then(serde_json::Value::as_str)
                .map(str::to_owned)
                .ok_or_else(|| wrong(&format!("{path}.{member}"), "it is missing"))
        };
        let (kind, name) = (text("kind")?, text("name")?);
        let unknown = || {
            wrong(
                &format!("{path}.name"),
                format!("there is no {kind} {name}"),
            )
        };
        let merged = |old: &serde_json::Map<String, serde_json::Value>| {
            let mut new = old.clone();
            for (member, value) in patch.iter().filter(|(m, _)| *m != "kind" && *m != "name") {
                // In a keypair policy a member that is not there has its default.
                if value.is_null() && kind != "keypair" {
                    new.remove(member);
                } else {
                    new.insert(member.clone(), value.clone());
                }
            }
            new
        };
        match kind.as_str() {
            "keypair" => {
                let members = merged(self.policy_objects.get(&name).ok_or_else(unknown)?);
                let policy = build::policy(&build::object(&members, path)?, path, self.now)?;
                self.policy_objects.insert(name, members);
                self.apply(Change::KeypairPolicy(Box::new(policy)));
            }
            "group" => {
                let members = merged(self.group_objects.get(&name).ok_or_else(unknown)?);
                let known = self.core.state().groups.values().find(|g| g.name == name);
                let id = known.map(|g| g.id).ok_or_else(unknown)?;
                let raw = build::object(&members, path)?;
                let group = build::group(&raw, id, path, &self.names)?;
                self.group_objects.insert(name, members);
                self.apply(Change::Group(group));
            }
            "allocation" => {
                let members = merged(self.allocation_objects.get(&name).ok_or_else(unknown)?);
                let raw = build::object(&members, path)?;
                let mut live = self.core.state().config.clone();
                let profiles: BTreeSet<&str> = live
                    .config
                    .profiles
                    .iter()
                    .map(|p| p.name.as_str())
                    .collect();
                let policy = build::allocation_policy(&raw, &profiles, path)?;
                for old in &mut live.config.allocation_policies {
                    if old.name == name {
                        *old = policy.clone();
                    }
                }
                self.allocation_objects.insert(name, members);
                self.apply(Change::Config(Box::new(live)));
            }
            "project" | "domain" => self.totals(patch, &kind, &name, path)?,
            other => {
                let text =
                    format!("{other} is none of keypair, project, domain, group, allocation");
                return Err(wrong(&format!("{path}.kind"), text));
            }
        }
        Ok(())
    }

    fn totals(
        &mut self,
        patch: &serde_json::Map<String, serde_json::Value>,
        kind: &str,
        name: &str,
        path: &str,
    ) -> Result<(), InputError> {
        if let Some(member) = patch
            .keys()
            .find(|m| !matches!(m.as_str(), "kind" | "name" | "total_slots"))
        {
            return Err(wrong(
                &format!("{path}.{member}"),
                "there is no such member",
            ));
        }
        let mut raw = Input::default();
        let tenant: input::Tenant = match patch.get("total_slots") {
            None | Some(serde_json::Value::Null) => input::Tenant::default(),
            Some(slots) => {
                let mut members = serde_json::Map::new();
                members.insert("total_slots".to_owned(), slots.clone());
                build::object(&members, path)?
            }
        };
        raw.domains.push(tenant);
        let (read, _) = build::tenants(&raw, self.now, &mut build::Names::default())?;
        let total = read
            .first()
            .map(|d| d.total_slots.clone())
            .unwrap_or_default();
        let unknown = || {
            wrong(
                &format!("{path}.name"),
                format!("there is no {kind} {name}"),
            )
        };
        let state = self.core.state();
        let change = if kind == "project" {
            let old = state.projects.values().find(|p| p.name == name);
            Change::Project(crate::model::Project {
                total_slots: total,
                ..old.ok_or_else(unknown)?.clone()
            })
        } else {
            let old = state.domains.values().find(|d| d.name == name);
            Change::Domain(crate::model::Domain {
                total_slots: total,
                ..old.ok_or_else(unknown)?.clone()
            })
        };
        self.apply(change);
        Ok(())
    }

    // ----- the end

    fn finish(mut self) -> Vec<String> {
        let (state, planner) = self.core.ask();
        let mut waiting: Vec<&Session> = state
            .sessions
            .values()
            .filter(|s| s.state == SessionState::Pending)
            .collect();
        waiting.sort_by_key(|s| (s.created_at, s.id));
        let names: BTreeMap<String, String> = self
            .scripts
            .iter()
            .map(|(id, script)| (id.to_string(), script.name.clone()))
            .collect();
        for session in &waiting {
            let name = &names[&session.id.to_string()];
            self.lines
                .pending(planner, state, session, name, &names, self.now);
        }
        let running = state
            .sessions
            .values()
            .filter(|s| !s.state.is_final() && s.state != SessionState::Pending)
            .count();
        self.lines
            .summary(waiting.len(), running, &self.meter, state);
        debug_assert_eq!(state.check(), Ok(()), "the books are right at the end");
        self.lines.into_text()
    }
}

/// The agent an event brings.
fn joined(event: &input::AgentEvent) -> input::Agent {
    input::Agent {
        name: event.name.clone(),
        group: event.group.clone(),
        arch: event.arch.clone(),
        slots: event.slots.clone(),
        devices: event.devices.clone(),
        schedulable: event.schedulable,
        max_containers: event.max_containers,
        allocation: event.allocation.clone(),
    }
}

/// Where the containers of a session that runs before second 0 are.
fn places_on(
    state: &State,
    agent: &crate::model::Agent,
    session: &Session,
    running: &input::Running,
    path: &str,
) -> Result<Vec<Placed>, InputError> {
    let Some(inventory) = &agent.inventory else {
        return Ok(Vec::new());
    };
    let usage = state.agent_use(agent.id);
    let short = crate::scheduler::free_slots(agent, &usage).shortages(&session.total_slots());
    if let Some(short) = short.first() {
        let text = format!(
            "{} has {} {} free, {} are needed",
            agent.name,
            short.slot.format_amount(short.have),
            short.slot,
            short.slot.format_amount(short.need)
        );
        return Err(wrong(path, text));
    }
    let mut occupied = usage.devices;
    let mut places = Vec::new();
    for rank in 0..session.cluster.size {
        let request = session.rank_slots(rank);
        let devices = match &running.devices {
            Some(named) if rank == 0 => {
                let mut grants = Vec::new();
                for (slot, parts) in named {
                    let slot = build::slot_name(slot, &format!("{path}.devices"))?;
                    for (id, amount) in parts {
                        let at = format!("{path}.devices.{slot}.{id}");
                        let amount = longshore_common::amount::parse_milli(&amount.0)
                            .map_err(|error| wrong(&at, error))?;
                        grants.push(DeviceGrant {
                            slot: slot.clone(),
                            device: build::word(id, &at)?,
                            amount,
                        });
                    }
                }
                let slots = granted(inventory, request, &grants);
                verify(inventory, &occupied, &slots, &grants)
                    .map_err(|error| wrong(&format!("{path}.devices"), error))?;
                grants
            }
            _ => allocate(inventory, &occupied, request).map_err(|error| wrong(path, error))?,
        };
        for grant in &devices {
            *occupied.entry(grant.device.clone()).or_insert(0) += grant.amount;
        }
        places.push(Placed {
            agent: agent.id,
            slots: Arc::new(granted(inventory, request, &devices)),
            devices,
        });
    }
    Ok(places)
}
