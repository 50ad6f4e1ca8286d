//! Something happened: what follows.

use super::change::Change;
use super::draft::Draft;
use super::entities::Agent;
use super::event::{
    Answer, Beginning, Effect, Enrol, Event, HelloFacts, JoinTokenOrder, Outcome, Refusal,
    WelcomeFacts,
};
use super::lifecycle;
use super::loss;
use super::people::{Keypair, Membership};
use super::policies::{KeypairPolicy, PeopleSettings, ProjectPolicy, UserPolicy};
use super::setup::{new_domain, new_project, setup};
use super::state::State;
use super::submit::submit;
use super::verbs;
use longshore_common::agent::{AgentState, Inventory, RuntimeState};
use longshore_common::amount::{MAX_BYTES, MAX_MILLI, SlotKind, SlotName, Slots, UNIT};
use longshore_common::ids::{
    AgentId, ContainerKey, DomainId, Fence, Generation, ProjectId, SessionId, is_handle,
};
use longshore_common::session::{ContainerState, SessionState, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::{CloseCode, ContainerReport, EnrolRefusal, RefusedCode};
use std::collections::BTreeSet;

/// Repeating an enrolment with the same key gives the same answer for so long.
const ENROL_REPEAT_MS: i64 = 600_000;
/// An idempotency key is remembered for a day.
const IDEMPOTENCY_MS: i64 = 86_400_000;
/// How many old idempotency keys one tick forgets, so that none takes long.
const FORGET_PER_TICK: usize = 500;

/// Says what follows from an event. Changes nothing itself.
#[must_use]
pub fn react(state: &State, event: &Event, now: Timestamp) -> Outcome {
    match event {
        Event::Started(order) => started(state, order, now),
        Event::FixedUsers(order) => super::admin::apply_fixed(state, order, now),
        Event::Loaded(order) => super::loaded::decide(state, order),
        Event::Settings(order) => super::settings::decide(state, order, now),
        Event::Setup(order) => setup(state, order),
        Event::Submit(order) => submit(state, order, now),
        Event::Terminate(order) => verbs::terminate(state, order, now),
        Event::UseSession(order) => verbs::use_session(state, order, now),
        Event::Prolong(order) => super::prolong::prolong(state, order, now),
        Event::CreateToken(order) => create_token(state, order),
        Event::DeleteToken(id) => delete_token(state, id),
        Event::Enrol(order) => enrol(state, order, now),
        Event::RenewKey { agent, key, proven } => renew_key(state, *agent, *key, *proven),
        Event::Hello(facts) => hello(state, facts, now),
        Event::Inventory { agent, inventory } => with_draft(state, now, |draft| {
            take_inventory(draft, *agent, inventory);
        }),
        Event::Condition {
            agent,
            runtime,
            disk_low,
        } => with_draft(state, now, |draft| {
            take_condition(draft, *agent, *runtime, *disk_low);
        }),
        Event::Report {
            agent,
            applied,
            items,
            whole,
            rebooted,
        } => with_draft(state, now, |draft| {
            take_report(draft, *agent, *applied, items);
            if *whole {
                take_absence(draft, *agent, *applied, items, *rebooted);
            }
        }),
        Event::Outcome { agent, outcome } => {
            let mut done = with_draft(state, now, |draft| {
                lifecycle::outcome(draft, *agent, outcome);
            });
            // Stored, known already, or about nothing of ours: either way it need not come again.
            done.effects.push(Effect::AckOutcome {
                agent: *agent,
                key: outcome.key,
                number: outcome.number,
            });
            done
        }
        Event::Unclaimed { agent, items } => with_draft(state, now, |draft| {
            super::unclaimed::told(draft, *agent, items);
        }),
        Event::Watchdog { seen, verdict } => with_draft(state, now, |draft| {
            super::watchdog::carry_out(draft, seen, *verdict);
        }),
        Event::ClusterIdle {
            session,
            attempt,
            verdict,
        } => with_draft(state, now, |draft| {
            super::cluster_idle::carry_out(draft, (*session, *attempt), *verdict);
        }),
        Event::FileNotice { agent, key, text } => with_draft(state, now, |draft| {
            super::delivery::noticed(draft, *agent, *key, text);
        }),
        Event::Warned { agent, key, text } => with_draft(state, now, |draft| {
            super::delivery::warned(draft, *agent, *key, text);
        }),
        Event::Alarm { agent, key, text } => with_draft(state, now, |draft| {
            if let Some(key) = key {
                super::delivery::alarmed(draft, *agent, *key, text);
            }
        }),
        // Nothing follows but that somebody is told.
        Event::Trouble { .. } => Outcome::only(Answer::Done),
        Event::Announce(order) => super::announce::decide(state, order, now),
        Event::Notify(order) => super::notify::decide(state, order, now),
        Event::Replay(replay) => super::replay::decide(replay, now),
        Event::Forget(old) => super::retention::decide(state, old),
        Event::Silent {
            agent,
            for_ms,
            lost_after_ms,
        } => with_draft(state, now, |draft| {
            loss::silent(draft, *agent, *for_ms, *lost_after_ms)
        }),
        Event::SetSchedulable {
            agent,
            version,
            schedulable,
        } => set_schedulable(state, *agent, *version, *schedulable, now),
        Event::Drain(order) => super::drain::drain(state, order, now),
        Event::CordonDevice(order) => super::devices::cordon(state, order, now),
        Event::DeviceNotice {
            agent,
            device,
            text,
        } => with_draft(state, now, |draft| {
            super::devices::noticed(draft, *agent, device, text);
        }),
        Event::Expel { agent } => expel(state, *agent, now),
        Event::ConfirmLoss { agent, dry_run } => loss::confirm(state, *agent, *dry_run, now),
        Event::Steer(order) => super::steer::steer(state, order, now),
        Event::Admin(order) => super::admin::administer(state, order, now),
        Event::KeypairsUsed(uses) => used(state, uses),
        Event::Login(event) => super::logins::react(state, event),
        Event::Configured {
            session,
            attempt,
            hash,
            vaults,
            skipped,
            redact,
            left_out,
            keep,
        } => {
            let got = super::vaults::Got {
                hash,
                vaults,
                skipped,
                redact,
                left_out,
                keep: keep.as_ref(),
            };
            with_draft(state, now, |draft| {
                super::vaults::configured(draft, *session, *attempt, got);
            })
        }
        Event::VaultsChecked {
            looked_at,
            unusable,
        } => Outcome {
            changes: super::vaults::checked(state, looked_at, unusable),
            ..Outcome::only(Answer::Done)
        },
        Event::Tick => tick(state, now),
    }
}

fn with_draft(state: &State, now: Timestamp, work: impl FnOnce(&mut Draft<'_>)) -> Outcome {
    let mut draft = Draft::new(state, now);
    work(&mut draft);
    let (changes, effects) = draft.finish();
    Outcome {
        changes,
        effects,
        answer: Ok(Answer::Done),
    }
}

/// Name of the domain, project and policies that every installation has.
const DEFAULT: &str = "default";

fn started(state: &State, order: &Beginning, now: Timestamp) -> Outcome {
    let mut meta = state.meta.clone();
    meta.generation = meta.generation.next();
    let mut changes = vec![Change::Meta(meta)];
    let anew = state.counted_anew(now).into_iter();
    changes.extend(anew.map(|agent| Change::Agent(Box::new(agent))));
    if state.groups.is_empty() {
        changes.push(Change::Group(order.group.clone()));
    }
    changes.extend(super::admin::with_domains(state).map(Change::Group));
    if state.scheduler != order.scheduler {
        changes.push(Change::Scheduler(order.scheduler.clone()));
        changes.extend(super::network::pool_differs(state, &order.scheduler));
    }
    // Who stands in the configuration is another order's.
    let people = PeopleSettings {
        service_account_admins: order.service_account_admins,
        throttle: order.throttle,
        ..state.people_settings.clone()
    };
    if state.people_settings != people {
        changes.push(Change::PeopleSettings(people));
    }
    if !state.keypair_policies.contains_key(DEFAULT) {
        let policy = KeypairPolicy::new(order.keypair_policy, DEFAULT, now);
        changes.push(Change::KeypairPolicy(Box::new(policy)));
    }
    if !state.user_policies.contains_key(DEFAULT) {
        let policy = UserPolicy::new(order.user_policy, DEFAULT, now);
        changes.push(Change::UserPolicy(policy));
    }
    if !state.project_policies.contains_key(DEFAULT) {
        let policy = ProjectPolicy::new(order.project_policy, DEFAULT, now);
        changes.push(Change::ProjectPolicy(policy));
    }
    let domain = state.domain_by_ref(DEFAULT).map_or(order.domain, |d| d.id);
    if !state.domains.contains_key(&domain) {
        changes.push(Change::Domain(new_domain(domain, DEFAULT, now)));
    }
    let project = default_project(state, domain).unwrap_or(order.project);
    if !state.projects.contains_key(&project) {
        changes.push(Change::Project(new_project(project, DEFAULT, domain, now)));
    }
    // People of a database from before there were domains. A service account that was deleted
    // stays in its domain although that is gone.
    let known = |id| state.domains.contains_key(id) || state.gone.domains.contains_key(id);
    let homeless = state.users.values().filter(|u| !known(&u.domain));
    changes.extend(homeless.map(|user| {
        let mut user = user.clone();
        user.domain = domain;
        if user.projects.is_empty() {
            user.projects.push(Membership::manual(project));
        }
        Change::User(Box::new(user))
    }));
    Outcome {
        changes,
        effects: vec![],
        answer: Ok(Answer::Done),
    }
}

fn default_project(state: &State, domain: DomainId) -> Option<ProjectId> {
    let project = state.project_by_ref(DEFAULT, Some(domain));
    project.filter(|p| p.domain == domain).map(|p| p.id)
}

fn create_token(state: &State, order: &JoinTokenOrder) -> Outcome {
    let group = match &order.group {
        Some(text) => state.group_by_ref(text),
        None => state.groups.values().find(|g| g.default),
    };
    let Some(group) = group else {
        let name = order.group.as_deref().unwrap_or("default");
        return Outcome::refuse(
            Refusal::new(
                "LS-GROUP-UNKNOWN",
                format!("There is no resource group {name}."),
            )
            .at("/group", "No such group."),
        );
    };
    if let Some(name) = &order.token.agent_name {
        if !is_handle(name) {
            return Outcome::refuse(
                Refusal::new("LS-INVALID", "The name of the agent is not valid.").at(
                    "/agent_name",
                    "A name has 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit.",
                ),
            );
        }
        if taken(state, name).is_some() {
            return Outcome::refuse(
                Refusal::new("LS-EXISTS", format!("An agent is named {name} already."))
                    .at("/agent_name", "Taken."),
            );
        }
    }
    let mut token = order.token.clone();
    token.group = group.id;
    let answer = Ok(Answer::Token(group.id));
    Outcome {
        changes: vec![Change::Token(token)],
        effects: vec![],
        answer,
    }
}

fn delete_token(state: &State, id: &str) -> Outcome {
    let changes = match state.tokens.contains_key(id) {
        true => vec![Change::TokenDeleted(id.to_owned())],
        false => vec![],
    };
    Outcome {
        changes,
        effects: vec![],
        answer: Ok(Answer::Done),
    }
}

/// The agent that holds a name, unless it is gone for good.
fn taken<'a>(state: &'a State, name: &str) -> Option<&'a Agent> {
    state
        .agents
        .values()
        .find(|a| a.name.eq_ignore_ascii_case(name) && a.state != AgentState::Terminated)
}

fn enrol(state: &State, order: &Enrol, now: Timestamp) -> Outcome {
    let no = |code: EnrolRefusal, detail: String| {
        let refusal = Refusal {
            enrol: Some(code),
            ..Refusal::new("LS-AUTH-FAILED", detail)
        };
        Outcome::refuse(refusal)
    };
    let again = "make a new one: longshore token create";
    let token = state
        .tokens
        .get(&order.token)
        .filter(|t| t.secret_sha256 == order.secret_sha256);
    let Some(token) = token else {
        return no(
            EnrolRefusal::TokenUnknown,
            format!("this join token is not known; {again}"),
        );
    };
    // The same key again: the answer was lost, not the use.
    let repeat = token
        .joined
        .iter()
        .find(|(key, _, at)| *key == order.key && now.since(*at) <= ENROL_REPEAT_MS)
        .and_then(|(_, id, _)| state.agents.get(id));
    if let Some(agent) = repeat {
        return Outcome::only(enrolled(state, agent));
    }
    if token.expires_at <= now {
        return no(
            EnrolRefusal::TokenExpired,
            format!("this join token expired at {}; {again}", token.expires_at),
        );
    }
    if token.joined.len() >= token.max_uses as usize {
        return no(
            EnrolRefusal::TokenUsedUp,
            format!(
                "this join token was used {} of {} times; {again}",
                token.joined.len(),
                token.max_uses
            ),
        );
    }
    let name = token
        .agent_name
        .clone()
        .unwrap_or_else(|| order.name.clone());
    if !is_handle(&name) {
        return no(
            EnrolRefusal::Malformed,
            "the name of this machine cannot be an agent's name; join with --name".to_owned(),
        );
    }
    if let Some(other) = taken(state, &name) {
        return no(
            EnrolRefusal::NameTaken,
            format!(
                "an agent is named {} already; join with --name, or remove it: longshore admin agent expel {0}",
                other.name
            ),
        );
    }
    let agent = Agent {
        id: order.new_id,
        version: 1,
        name,
        group: token.group,
        state: AgentState::Lost, // until it connects
        schedulable: true,
        fence: Fence(1),
        generation: Generation(1),
        keys: vec![order.key],
        fingerprint: order.fingerprint.clone(),
        machine: order.machine.clone(),
        boot_id: String::new(),
        inventory: None,
        cordons: std::collections::BTreeMap::new(),
        runtime: RuntimeState::Up,
        disk_low: false,
        created_at: now,
        lost_since: Some(now),
        braked_at: None,
        braked_ms: 0,
        unclaimed: Vec::new(),
        drain: None,
        told: None,
    };
    let mut token = token.clone();
    token.joined.push((order.key, agent.id, now));
    let answer = enrolled(state, &agent);
    let changes = vec![Change::Agent(Box::new(agent)), Change::Token(token)];
    Outcome {
        changes,
        effects: vec![],
        answer: Ok(answer),
    }
}

fn enrolled(state: &State, agent: &Agent) -> Answer {
    let group = state
        .groups
        .get(&agent.group)
        .map_or_else(String::new, |g| g.name.clone());
    Answer::Enrolled {
        agent: agent.id,
        name: agent.name.clone(),
        group,
    }
}

fn renew_key(state: &State, agent: AgentId, key: [u8; 32], proven: [u8; 32]) -> Outcome {
    let known = state
        .agents
        .get(&agent)
        .filter(|a| a.state != AgentState::Terminated);
    let Some(node) = known.filter(|a| a.keys.contains(&proven)) else {
        return Outcome::refuse(Refusal::new(
            "LS-AUTH-FAILED",
            "the old certificate is not known any more; join again with a new token",
        ));
    };
    let mut node = node.clone();
    // At most two are good at a time: the new one, and the one it was asked with.
    node.keys = vec![key, proven];
    node.keys.dedup();
    let answer = enrolled(state, &node);
    Outcome {
        changes: vec![Change::Agent(Box::new(node))],
        effects: vec![],
        answer: Ok(answer),
    }
}

fn hello(state: &State, facts: &HelloFacts, now: Timestamp) -> Outcome {
    let refuse = |code, text: &str| Outcome::only(Answer::Refused(code, text.to_owned()));
    let Some(agent) = state.agents.get(&facts.agent) else {
        return refuse(
            RefusedCode::Unknown,
            "this agent is not known here; join again with a new token",
        );
    };
    if agent.state == AgentState::Terminated || !agent.keys.contains(&facts.key) {
        return refuse(
            RefusedCode::Revoked,
            "this agent was removed; join again with a new token",
        );
    }
    if agent.machine != facts.machine {
        return refuse(
            RefusedCode::Identity,
            "this agent joined on another machine; join again with a new token",
        );
    }
    if agent.fingerprint != facts.fingerprint && facts.other_engine_connected {
        return refuse(
            RefusedCode::Identity,
            "the same agent is connected with another container engine",
        );
    }
    let group = state.groups.get(&agent.group);
    let welcome = WelcomeFacts {
        name: agent.name.clone(),
        group: group.map_or_else(String::new, |g| g.name.clone()),
        fence: agent.fence,
        lease_ms: loss::lease_ms(group.map_or(0, |g| g.declare_lost_s)),
        rebooted: !agent.boot_id.is_empty() && agent.boot_id != facts.boot_id,
    };
    let mut draft = Draft::new(state, now);
    let moved = agent.fingerprint != facts.fingerprint || agent.boot_id != facts.boot_id;
    if agent.state == AgentState::Lost || moved {
        if let Some(node) = draft.agent_mut(facts.agent) {
            node.state = AgentState::Alive;
            node.lost_since = None;
            for one in &mut node.unclaimed {
                *one = one.clone().counted_from(now);
            }
            node.fingerprint.clone_from(&facts.fingerprint);
            node.boot_id.clone_from(&facts.boot_id);
        }
        loss::agent_back(&mut draft, facts.agent);
    }
    let (changes, effects) = draft.finish();
    Outcome {
        changes,
        effects,
        answer: Ok(Answer::Welcome(welcome)),
    }
}

fn take_inventory(draft: &mut Draft<'_>, agent: AgentId, inventory: &Inventory) {
    // A device that is listed twice would be given out twice.
    let mut inventory = inventory.clone();
    let mut seen = BTreeSet::new();
    inventory
        .devices
        .retain(|d| (1..=UNIT).contains(&d.capacity) && seen.insert(d.id.clone()));
    inventory.offered = storable(&inventory.offered);
    inventory.total = storable(&inventory.total);
    let Some(before) = draft.agent(agent).cloned() else {
        return;
    };
    super::devices::cover(&mut inventory, &before.cordons);
    if before.inventory.as_deref() == Some(&inventory) {
        return;
    }
    if let Some(node) = draft.agent_mut(agent) {
        // The costly part, only for what is kept.
        node.inventory = Some(std::sync::Arc::new(inventory.sharing_names()));
    }
    super::devices::changed(draft, agent, &before);
}

/// Amounts brought into the range that has a text form: others could be stored but not
/// read back. Of what is asked for in whole pieces, a part of one is worth nothing.
fn storable(slots: &Slots) -> Slots {
    let clamp = |slot: &SlotName, amount: i64| match slot.kind() {
        SlotKind::Bytes => amount.clamp(0, MAX_BYTES),
        SlotKind::Count => amount.clamp(0, MAX_MILLI) / UNIT * UNIT,
        SlotKind::Fraction => amount.clamp(0, MAX_MILLI),
        SlotKind::Unique => amount.clamp(0, UNIT) / UNIT * UNIT,
    };
    slots
        .iter()
        .map(|(slot, amount)| (slot.clone(), clamp(slot, amount)))
        .collect()
}

fn take_condition(draft: &mut Draft<'_>, agent: AgentId, runtime: RuntimeState, disk_low: bool) {
    let same = draft
        .agent(agent)
        .is_none_or(|a| a.runtime == runtime && a.disk_low == disk_low);
    if !same && let Some(node) = draft.agent_mut(agent) {
        node.runtime = runtime;
        node.disk_low = disk_low;
    }
}

fn take_report(
    draft: &mut Draft<'_>,
    agent: AgentId,
    applied: Generation,
    items: &[ContainerReport],
) {
    let name = lifecycle::agent_name(draft, agent);
    let by = format!("agent {name}");
    // Orders that stood in the applied set are acknowledged.
    let seen: Vec<SessionId> = draft
        .state
        .on_agent(agent)
        .filter_map(|key| {
            let session = draft.state.sessions.get(&key.session)?;
            let container = session.containers.iter().find(|c| c.key == key)?;
            let waits = matches!(
                session.state,
                SessionState::Scheduled | SessionState::Preparing
            );
            (waits && !container.acknowledged && lifecycle::agent_has_seen(container, applied))
                .then_some(session.id)
        })
        .collect();
    for id in seen {
        lifecycle::acknowledged(draft, id, agent, &by);
    }
    for item in items {
        lifecycle::report(draft, agent, item);
    }
    loss::lease_known(draft, agent, applied);
}

/// What a whole report leaves out although the agent had seen it is gone.
fn take_absence(
    draft: &mut Draft<'_>,
    agent: AgentId,
    applied: Generation,
    items: &[ContainerReport],
    rebooted: bool,
) {
    let present: BTreeSet<ContainerKey> = items.iter().map(|i| i.key).collect();
    let gone: Vec<ContainerKey> = draft
        .state
        .on_agent(agent)
        .filter(|key| !present.contains(key))
        // One of a later attempt than is known: the books are old, and are brought to it when its
        // node has told of it.
        .filter(|key| {
            let known = draft.session(key.session).map(|s| s.attempt);
            let mut of_session = items.iter().filter(|i| i.key.session == key.session);
            !of_session.any(|i| known.is_some_and(|known| i.key.attempt > known))
        })
        .filter(|key| {
            let container = draft
                .session(key.session)
                .and_then(|s| s.containers.iter().find(|c| c.key == *key));
            container.is_some_and(|c| {
                // What waits to be prepared may simply not have begun.
                let begun = c.state != ContainerState::Assigned || c.want == Want::Stop;
                lifecycle::agent_has_seen(c, applied) && begun
            })
        })
        .collect();
    for key in gone {
        lifecycle::missing(draft, key, agent, rebooted);
    }
}

/// What was used more recently than is stored.
fn used(state: &State, uses: &[(String, Timestamp, String)]) -> Outcome {
    let newer = uses.iter().filter_map(|(key, at, from)| {
        let keypair = state.keypairs.get(key)?;
        let stored = keypair.last_used.as_ref().map(|(at, _)| *at);
        let is_newer = stored.is_none_or(|stored| stored < *at);
        is_newer.then(|| {
            Change::Keypair(Keypair {
                last_used: Some((*at, from.clone())),
                ..keypair.clone()
            })
        })
    });
    Outcome {
        changes: newer.collect(),
        ..Outcome::only(Answer::Done)
    }
}

fn set_schedulable(
    state: &State,
    agent: AgentId,
    version: Option<u64>,
    schedulable: bool,
    now: Timestamp,
) -> Outcome {
    let node = match super::drain::in_cluster(state, agent, version) {
        Ok(node) => node,
        Err(refusal) => return Outcome::refuse(refusal),
    };
    if node.drain.is_some() && schedulable {
        return Outcome::refuse(Refusal::new(
            "LS-AGENT-STATE",
            format!(
                "Agent {} is being emptied; take that back first: longshore node undrain {0}",
                node.name
            ),
        ));
    }
    if node.schedulable == schedulable {
        return Outcome::only(Answer::Done);
    }
    with_draft(state, now, |draft| {
        if let Some(node) = draft.agent_mut(agent) {
            node.schedulable = schedulable;
        }
        draft.touch(agent); // the flag stands in the set
    })
}

fn expel(state: &State, agent: AgentId, now: Timestamp) -> Outcome {
    let Some(node) = state.agents.get(&agent) else {
        return Outcome::refuse(Refusal::new("LS-NOT-FOUND", "There is no such agent."));
    };
    if node.state == AgentState::Terminated {
        return Outcome::only(Answer::Done);
    }
    let mut done = with_draft(state, now, |draft| {
        loss::agent_removed(draft, agent, "administrator");
        if let Some(node) = draft.agent_mut(agent) {
            node.state = AgentState::Terminated;
            node.keys.clear();
        }
    });
    done.effects.push(Effect::Close {
        agent,
        code: CloseCode::Revoked,
    });
    done
}

fn tick(state: &State, now: Timestamp) -> Outcome {
    let mut done = with_draft(state, now, |draft| {
        for id in state.due(now) {
            lifecycle::due(draft, id);
        }
        super::drain::due(draft);
        super::unclaimed::due(draft);
    });
    let old = state.old_idempotency(now.plus_ms(-IDEMPOTENCY_MS), FORGET_PER_TICK);
    let forget = |(caller, key)| Change::IdempotencyForgotten { caller, key };
    done.changes.extend(old.into_iter().map(forget));
    done
}
