//! `longshore simulate`: the real core on a described cluster, in virtual time.
//!
//! Nothing here decides anything. Submits, starts, ends and losses go through
//! [`crate::model::react`] and the planner as in the daemon; this module plays the people,
//! the nodes and the clock, and writes down what happened.
//!
//! One instant goes: sessions whose end is due, removals, events in the order of the file,
//! cancellations, one pass; again while the instant brings more.

mod build;
mod happenings;
pub mod input;
mod output;
#[cfg(feature = "scenarios")]
pub mod read;
mod watch;
mod world;

use crate::Core;
use crate::model::{Change, Container, Event, Meta, Refusal, Session, State, finish_unconfirmed};
use crate::scheduler::Start;
use input::Input;
use longshore_common::agent::AgentState;
use longshore_common::amount::SlotName;
use longshore_common::ids::{
    AgentId, ClusterId, ContainerKey, CoordinatorGeneration, Generation, Rank, SessionId,
};
use longshore_common::session::{Cause, ContainerState, End, Exit, Reason, SessionState, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::{ContainerReport, Outcome, OutcomeNumber, Totals};
use output::{Lines, Meter};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
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

    fn apply(&mut self, change: Change) {
        self.core.apply(&change);
    }

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
        let tasks = self.core.state().tasks_of(id).map(|task| task.id);
        for task in tasks.collect::<Vec<_>>() {
            self.remember_task(task);
        }
        Ok(())
    }

    /// A task does as its array says, under a name of its own.
    fn remember_task(&mut self, id: SessionId) {
        let array = id.array().and_then(|array| self.scripts.get(&array));
        if let (Some(script), Some(index)) = (array, id.task_index())
            && !self.scripts.contains_key(&id)
        {
            let name = format!("{}.{index}", script.name);
            let script = Script {
                name: name.clone(),
                ..script.clone()
            };
            self.ids.insert(name, id);
            self.scripts.insert(id, script);
        }
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
            self.remember_task(session.id);
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

    /// A session got its places: it runs at once, or fails at once.
    fn started(&mut self, start: &Start) {
        let id = start.session;
        let session = self.core.state().sessions.get(&id).cloned();
        // One that did not wait may have been stopped in the same instant.
        let Some(session) = session.filter(|s| s.stop.is_none()) else {
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
                    image: None,
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
            let lives = &state.scheduler.lives;
            let mut limits = crate::model::agent_limits(session, Rank::MAIN, lives, self.now);
            // Of several containers the coordinator judges all; here they all do the same.
            limits.idle = session.judged_idle().cloned();
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

    // ----- the end

    fn finish(mut self) -> Vec<String> {
        let (state, planner) = self.core.ask();
        let mut waiting: Vec<&Session> = state.sessions.values().filter(|s| s.waits()).collect();
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
            .filter(|s| s.array.is_none()) // its tasks are
            .count();
        self.lines
            .summary(waiting.len(), running, &self.meter, state);
        debug_assert_eq!(state.check(), Ok(()), "the books are right at the end");
        self.lines.into_text()
    }
}
