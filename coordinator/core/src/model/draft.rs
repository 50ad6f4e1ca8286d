//! Working copies while one event is being answered.
//!
//! A draft starts from the state, is changed freely, and ends as a list of changes:
//! each touched object once, as it is at the end.

use super::change::Change;
use super::entities::{Agent, FailedStart, History, LedgerRow, Session};
use super::event::{Answer, Effect, Outcome};
use super::state::{Account, State, Usage};
use super::usage::{self, UsageChange};
use longshore_common::ids::{AgentId, ContainerKey, Generation, SessionId, UserId};
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) state: &'a State,
    pub(super) now: Timestamp,
    /// The newest set that was handed out for each agent, where the event says so.
    pub(super) handed: BTreeMap<AgentId, Generation>,
    sessions: BTreeMap<SessionId, Session>,
    agents: BTreeMap<AgentId, Agent>,
    touched: BTreeSet<AgentId>,
    rows: Vec<Change>,
    effects: Vec<Effect>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(state: &'a State, now: Timestamp) -> Self {
        Self {
            state,
            now,
            handed: BTreeMap::new(),
            sessions: BTreeMap::new(),
            agents: BTreeMap::new(),
            touched: BTreeSet::new(),
            rows: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// A session as it is by now.
    pub(super) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions
            .get(&id)
            .or_else(|| self.state.sessions.get(&id))
    }

    /// A session to be changed; its version goes up once per draft.
    pub(super) fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        if !self.sessions.contains_key(&id) {
            let mut copy = self.state.sessions.get(&id)?.clone();
            copy.version += 1;
            self.sessions.insert(id, copy);
        }
        self.sessions.get_mut(&id)
    }

    /// Puts a new session in, with its first line of history.
    pub(super) fn admit(&mut self, mut session: Session, by: &str) {
        session.history_len = 1;
        let line = History {
            session: session.id,
            seq: 1,
            at: self.now,
            from: None,
            to: session.state,
            reason: None,
            detail: None,
            by: by.to_owned(),
            attempt: session.attempt,
        };
        self.rows.push(Change::History(line));
        self.sessions.insert(session.id, session);
    }

    /// Tasks of an array that are in the draft.
    pub(super) fn made_of(&self, array: SessionId) -> impl Iterator<Item = SessionId> {
        let tasks = self.sessions.range(array.task(0)..=array.task(u32::MAX));
        tasks.map(|(id, _)| *id)
    }

    /// Tasks in the draft that have begun to run.
    pub(super) fn running_tasks(&self) -> Vec<SessionId> {
        let tasks = self.sessions.values().filter(|s| s.task_of.is_some());
        let running = tasks.filter(|s| s.state == SessionState::Running);
        running.map(|s| s.id).collect()
    }

    /// Arrays in the draft.
    pub(super) fn arrays(&self) -> Vec<SessionId> {
        let arrays = self.sessions.values().filter(|s| s.array.is_some());
        arrays.map(|s| s.id).collect()
    }

    /// Owners of sessions that waited before this draft and wait no longer.
    pub(super) fn owners_with_room(&self) -> BTreeSet<UserId> {
        let left = self.sessions.values().filter(|s| {
            let before = self.state.sessions.get(&s.id);
            before.is_some_and(Session::waits) && !s.waits()
        });
        left.map(|s| s.owner).collect()
    }

    /// What the waiting sessions of a keypair or user ask for by now.
    pub(super) fn waiting(&self, account: &Account) -> Usage {
        let mut usage = self.state.waiting(account);
        let theirs = |s: &&Session| match account {
            Account::Keypair(key) => s.access_key == *key,
            Account::User(user) => s.owner == *user,
            _ => false,
        };
        for session in self.sessions.values().filter(theirs) {
            let before = self.state.sessions.get(&session.id);
            let waited = before.is_some_and(Session::waits);
            if session.waits() && !waited {
                usage.sessions += 1;
                usage.slots.add(&session.total_slots());
            } else if waited && !session.waits() {
                usage.sessions = usage.sessions.saturating_sub(1);
                usage.slots.sub(&session.total_slots());
            }
        }
        usage
    }

    /// An agent as it is by now.
    pub(super) fn agent(&self, id: AgentId) -> Option<&Agent> {
        self.agents.get(&id).or_else(|| self.state.agents.get(&id))
    }

    /// An agent to be changed. What a person can see differs: the version goes up.
    pub(super) fn agent_mut(&mut self, id: AgentId) -> Option<&mut Agent> {
        if !self.agents.contains_key(&id) {
            let mut copy = self.state.agents.get(&id)?.clone();
            copy.version += 1;
            self.agents.insert(id, copy);
        }
        self.agents.get_mut(&id)
    }

    /// An agent of which something changes that nobody sees: its version stays. Whoever also
    /// changes what is seen does that first.
    pub(super) fn agent_quietly(&mut self, id: AgentId) -> Option<&mut Agent> {
        if !self.agents.contains_key(&id) {
            let copy = self.state.agents.get(&id)?.clone();
            self.agents.insert(id, copy);
        }
        self.agents.get_mut(&id)
    }

    /// The desired set of this agent differs; its generation goes up when the draft ends.
    pub(super) fn touch(&mut self, agent: AgentId) {
        self.touched.insert(agent);
    }

    pub(super) fn open_row(&mut self, row: LedgerRow) {
        if let Some(session) = self.session(row.key.session) {
            let row = usage::row(self.state, session, &row);
            let opened = UsageChange::Opened(Box::new(row));
            self.rows.push(Change::Usage(opened));
        }
        self.rows.push(Change::LedgerOpened(row));
    }

    pub(super) fn free_quota(&mut self, key: ContainerKey) {
        self.rows.push(Change::QuotaFreed { key, at: self.now });
    }

    pub(super) fn close_rows(&mut self, key: ContainerKey) {
        let now = self.now;
        self.rows.push(Change::LedgerClosed { key, at: now });
        // What is closed counts no longer, although the session may still be RUNNING.
        let Some(session) = self.session_mut(key.session) else {
            return;
        };
        let Some(since) = session.spent.runs_since else {
            if key.attempt == session.attempt {
                session.spent.gave_back = Some(now);
            }
            return;
        };
        let held = session.present().find(|c| c.key == key);
        let held = held.map_or(0, usage::of_container);
        let spent = &mut session.spent;
        let length = now.since(since).max(0);
        spent.runs_with = spent.runs_with.saturating_sub(held);
        let part = length.saturating_mul(held);
        spent.accelerator_ms = spent.accelerator_ms.saturating_add(part);
    }

    pub(super) fn push(&mut self, change: Change) {
        self.rows.push(change);
    }

    /// Moves a session to another state and writes the line of history.
    pub(super) fn move_to(&mut self, id: SessionId, to: SessionState, why: Why<'_>) {
        let now = self.now;
        let Some(session) = self.session_mut(id) else {
            return;
        };
        let from = session.state;
        if (from, to) == (SessionState::Scheduled, SessionState::Running) {
            // Its agent took the orders before it could have carried them out.
            self.move_to(id, SessionState::Preparing, Why::by(why.by));
            return self.move_to(id, to, why);
        }
        session.state = to;
        if to == SessionState::Terminating || to.is_final() {
            session.spent.by.get_or_insert_with(|| why.by.to_owned());
        }
        if to != SessionState::Preparing {
            session.phase = None;
        }
        if to.is_final() {
            session.ended_at = Some(now);
            session.deadline = None;
            session.unreachable = false;
        }
        session.history_len += 1;
        let line = History {
            session: id,
            seq: session.history_len,
            at: now,
            from: Some(from),
            to,
            reason: why.reason,
            detail: why.detail.map(str::to_owned),
            by: why.by.to_owned(),
            attempt: session.attempt,
        };
        self.rows.push(Change::History(line));
        self.count_run(id, from, to);
    }

    /// Writes a line of history about a session that stays in its state.
    pub(super) fn remark(&mut self, id: SessionId, state: SessionState, why: Why<'_>) {
        let now = self.now;
        let Some(session) = self.session_mut(id) else {
            return;
        };
        session.history_len += 1;
        let line = History {
            session: id,
            seq: session.history_len,
            at: now,
            from: Some(state),
            to: state,
            reason: why.reason,
            detail: why.detail.map(str::to_owned),
            by: why.by.to_owned(),
            attempt: session.attempt,
        };
        self.rows.push(Change::History(line));
    }

    /// Allocated is what is held while the session is RUNNING, in whatever way it came to be
    /// so and ceased to be: that is counted here and nowhere else.
    fn count_run(&mut self, id: SessionId, from: SessionState, to: SessionState) {
        let now = self.now;
        let Some(session) = self.session_mut(id) else {
            return;
        };
        let running = SessionState::Running;
        if to == running && from != running {
            // The node's own word on the start, as far as it can be true.
            let placed = session.placed_at.unwrap_or(now);
            let least = placed.max(session.spent.gave_back.unwrap_or(placed));
            let at = session.started_at.unwrap_or(now).min(now).max(least);
            let with = usage::accelerators(session);
            session.spent.runs_since = Some(at);
            session.spent.runs_with = with;
            let attempt = session.attempt;
            self.rows.push(Change::Usage(UsageChange::Ran {
                session: id,
                attempt,
                at,
            }));
        } else if from == running && to != running {
            self.rows.push(Change::Usage(UsageChange::Rested {
                session: id,
                at: now,
            }));
            // What it held was noted when it began to run: by now it may be another attempt.
            if let Some(session) = self.session_mut(id)
                && let Some(since) = session.spent.runs_since.take()
            {
                let held = session.spent.runs_with;
                let length = now.since(since).max(0);
                let spent = &mut session.spent.accelerator_ms;
                *spent = spent.saturating_add(length.saturating_mul(held));
            }
        }
    }

    /// The time in a state or phase is counted once it is left. Within a draft none passes.
    fn count_phases(&mut self) {
        let now = self.now;
        for session in self.sessions.values_mut() {
            let Some(before) = self.state.sessions.get(&session.id) else {
                continue;
            };
            if (before.state, before.phase) == (session.state, session.phase) {
                continue;
            }
            let since = session.spent.since.unwrap_or(session.created_at);
            let name = match before.phase {
                Some(phase) => phase.as_str().to_owned(),
                None => before.state.as_str().to_lowercase(),
            };
            *session.spent.phases.entry(name).or_default() += now.since(since).max(0);
            session.spent.since = Some(now);
        }
    }

    /// What comes of it, with this answer; only said, and nothing changed, if `dry_run`.
    pub(super) fn outcome(self, answer: Answer, dry_run: bool) -> Outcome {
        let (changes, effects) = match dry_run {
            true => (Vec::new(), Vec::new()),
            false => self.finish(),
        };
        Outcome {
            changes,
            effects,
            answer: Ok(answer),
        }
    }

    /// The changes and effects of everything that was done.
    pub(super) fn finish(mut self) -> (Vec<Change>, Vec<Effect>) {
        let mut settled = BTreeSet::new();
        // The end of one may end others: an array with its last task, and who waits for it.
        loop {
            let ended: Vec<SessionId> = self
                .sessions
                .values()
                .filter(|s| s.state.is_final() && !settled.contains(&s.id))
                .filter(|s| {
                    let before = self.state.sessions.get(&s.id);
                    before.is_some_and(|b| !b.state.is_final())
                })
                .map(|s| s.id)
                .collect();
            super::arrays::tasks_moved(&mut self, &ended);
            super::lifecycle::settle_dependants(&mut self, &ended);
            if ended.is_empty() {
                break;
            }
            settled.extend(ended);
        }
        super::unclaimed::ended(&mut self, &settled);
        super::arrays::fill(&mut self);
        self.count_phases();
        for id in std::mem::take(&mut self.touched) {
            let Some(agent) = self.agents.get(&id).or_else(|| self.state.agents.get(&id)) else {
                continue;
            };
            // Not through agent_mut: a new set is nothing a person sees at the agent.
            let mut agent = agent.clone();
            agent.generation = agent.generation.next();
            self.agents.insert(id, agent);
            self.effects.push(Effect::SendDesired(id));
        }
        let mut changes: Vec<Change> =
            Vec::with_capacity(self.rows.len() + self.sessions.len() + self.agents.len());
        changes.extend(
            self.agents
                .into_values()
                .map(|a| Change::Agent(Box::new(a))),
        );
        changes.extend(
            self.sessions
                .into_values()
                .map(|s| Change::Session(Box::new(s))),
        );
        changes.extend(self.rows);
        (changes, self.effects)
    }
}

/// Who moved a session and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Why<'a> {
    pub(super) reason: Option<Reason>,
    pub(super) detail: Option<&'a str>,
    pub(super) by: &'a str,
}

impl<'a> Why<'a> {
    pub(super) const fn by(by: &'a str) -> Self {
        Self {
            reason: None,
            detail: None,
            by,
        }
    }

    pub(super) const fn failed(failed: &'a FailedStart, by: &'a str) -> Self {
        Self {
            reason: None,
            detail: Some(failed.detail.as_str()),
            by,
        }
    }
}
