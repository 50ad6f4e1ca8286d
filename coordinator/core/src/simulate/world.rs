//! The world before the first second: pools, nodes, people, and what runs already.

use super::{InputError, Run, build, input, wrong};
use crate::model::{Caller, Change, Session, SessionDefaults, State, Submit};
use crate::scheduler::{Placed, Start};
use longshore_common::api::{
    NewArray, NewCluster, NewDependency, NewDesignation, NewRestart, NewSession,
};
use longshore_common::devices::{allocate, granted, verify};
use longshore_common::ids::{AgentId, GroupId, UserId};
use longshore_common::session::DeviceGrant;
use longshore_common::time::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Run<'_> {
    pub(super) fn build(&mut self) -> Result<(), InputError> {
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

    pub(super) fn groups(&mut self) -> Result<BTreeSet<String>, InputError> {
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

    pub(super) fn agents(&mut self) -> Result<(), InputError> {
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

    pub(super) fn join(&mut self, raw: &input::Agent, path: &str) -> Result<(), InputError> {
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
    pub(super) fn run_before(
        &mut self,
        running: &input::Running,
        path: &str,
    ) -> Result<(), InputError> {
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

    pub(super) fn caller(&self, submit: &input::Submit, path: &str) -> Result<Caller, InputError> {
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

    pub(super) fn order(&self, submit: &input::Submit, path: &str) -> Result<Submit, InputError> {
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
                run: None,
                containers: Vec::new(),
            });
        let request = NewSession {
            kind: Some(submit.kind.clone().unwrap_or_else(|| "batch".to_owned())),
            image: (submit.kind.as_deref() != Some("system")).then(|| "simulated".to_owned()),
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
            array: submit.array.as_ref().map(|array| NewArray {
                range: array.range.clone(),
                parallel: array.parallel,
            }),
            ..NewSession::default()
        };
        let defaults = SessionDefaults {
            image: String::new(),
            system_image: "simulated".to_owned(),
            cpu_milli: 0,
            mem_bytes: 0,
            mem_minimum: 0,
            ..SessionDefaults::default()
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
    pub(super) fn names_a_session(&self, name: &str) -> bool {
        let mut submits = self.input.events.iter().filter_map(|e| e.submit.as_ref());
        submits.any(|s| s.id == name)
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

/// The agent an event brings.
pub(super) fn joined(event: &input::AgentEvent) -> input::Agent {
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
