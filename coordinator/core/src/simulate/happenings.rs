//! What the input says happens: submits, stops, nodes that come and go, changed policies.

use super::input::Input;
use super::world::joined;
use super::{InputError, LOST_AFTER_MS, Run, build, input, wrong};
use crate::model::admin::follow_policies;
use crate::model::{
    Caller, Change, Event, Extensions, HelloFacts, More, Prolong, Refusal, Terminate,
};
use longshore_common::ids::{AgentId, ContainerKey, Fence, SessionId};
use longshore_common::session::{End, Exit, SessionState};
use longshore_common::time::Timestamp;
use longshore_common::wire::OutcomeNumber;
use std::collections::BTreeSet;

impl Run<'_> {
    pub(super) fn event(&mut self, index: usize) -> Result<(), InputError> {
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
    pub(super) fn named(&self, name: &str, path: &str) -> Result<Option<SessionId>, InputError> {
        match self.ids.get(name) {
            Some(id) => Ok(Some(*id)),
            None if self.names_a_session(name) => Ok(None),
            None => Err(wrong(path, format!("there is no session {name}"))),
        }
    }

    /// Its owner asks for more time for a session.
    pub(super) fn prolong(&mut self, name: &str, what: More, path: &str) -> Result<(), InputError> {
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
    pub(super) fn report(&mut self, name: &str, path: &str) -> Result<(), InputError> {
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

    pub(super) fn submit(&mut self, submit: &input::Submit, path: &str) -> Result<(), InputError> {
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

    pub(super) fn agent_event(
        &mut self,
        event: &input::AgentEvent,
        path: &str,
    ) -> Result<(), InputError> {
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
                let seconds = i64::from(self.core.state().declare_lost_s(&agent));
                if seconds > 0 {
                    self.give_up.insert((self.now.plus_s(seconds), agent.id));
                }
            }
            Some(false) => self.back(agent.id),
        }
        Ok(())
    }

    /// A lost agent answers again: it tells what ended meanwhile, clears what was given up, and
    /// takes up limits that changed while it was away.
    pub(super) fn back(&mut self, agent: AgentId) {
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
        // It is told what became of their limits meanwhile.
        let here = |id: &SessionId| {
            let session = self.core.state().sessions.get(id);
            session.is_some_and(|s| s.present().any(|container| container.agent == agent))
        };
        let watched: Vec<SessionId> = self.watches.keys().copied().filter(here).collect();
        watched.into_iter().for_each(|id| self.judge(id));
    }

    pub(super) fn terminate(
        &mut self,
        order: &input::Terminate,
        path: &str,
    ) -> Result<(), InputError> {
        let Some(id) = self.named(&order.id, &format!("{path}.id"))? else {
            return Ok(());
        };
        let state = self.core.state();
        let Some(session) = state.sessions.get(&id) else {
            return Ok(()); // it has ended
        };
        let caller = Caller {
            user: session.owner,
            access_key: session.access_key.clone(),
        };
        let tasks = session.array.is_some().then(|| state.tasks_of(id));
        let placed: Vec<_> = tasks
            .into_iter()
            .flatten()
            .chain([session])
            .filter(|s| s.state != SessionState::Pending && !s.state.is_final())
            .filter_map(|s| {
                let main = s.present().next()?;
                Some((s.id, main.agent, main.key, s.started_at))
            })
            .collect();
        let terminate = Terminate {
            caller,
            called: None,
            ids: vec![id],
            grace_s: 10,
            force: order.force,
            many: false,
            handed: std::collections::BTreeMap::new(),
        };
        let _ = self.happen(&Event::Terminate(terminate)); // what it did is in the changes
        for (id, agent, key, started) in placed {
            let end = End::Exited(Exit {
                code: if order.force { 137 } else { 143 },
                signal: Some(if order.force { 9 } else { 15 }),
                oom: false,
                at: self.now,
            });
            self.outcome(agent, key, OutcomeNumber::Ended, Some(end), started);
            self.stopped(id);
        }
        Ok(())
    }

    pub(super) fn policy_event(
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
                let mut changes = vec![Change::KeypairPolicy(Box::new(policy))];
                // Agents are told when they are judged by it.
                let mut effects = Vec::new();
                follow_policies(self.core.state(), &mut changes, &mut effects, self.now);
                changes.into_iter().for_each(|change| self.apply(change));
                let watched: Vec<SessionId> = self.watches.keys().copied().collect();
                watched.into_iter().for_each(|id| self.judge(id));
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

    pub(super) fn totals(
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
}
