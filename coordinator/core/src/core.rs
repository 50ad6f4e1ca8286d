//! State and planner together: what the daemon, `simulate` and tests all drive.

use crate::model::{
    Answer, AuditLine, Audited, Change, Effect, Event, Outcome, Refusal, Session, State, audited,
    cancel_session, notes_about, react, start_session,
};
use crate::scheduler::{Decisions, Planner, Start, begin};
use longshore_common::api::{Blocker, LimitMet};
use longshore_common::session::SessionType;
use longshore_common::time::Timestamp;
use std::sync::Arc;

/// A place that was found at once, and what else differs by that.
type Begins = (Start, Vec<Change>);

/// The session a submit made, if it is one that does not wait.
fn submitted_system<'a>(event: &Event, outcome: &'a Outcome) -> Option<&'a Session> {
    if !matches!(event, Event::Submit(_)) || outcome.answer.is_err() {
        return None;
    }
    outcome.changes.iter().find_map(|change| match change {
        Change::Session(session) if session.kind == SessionType::System => Some(&**session),
        _ => None,
    })
}

/// What a session that does not wait is told where it finds no place.
fn no_place(blocked: &[Blocker]) -> Refusal {
    let why: Vec<&str> = blocked.iter().map(|b| b.text.as_str()).collect();
    let detail = format!("A system session does not wait: {}.", why.join("; "));
    let limit = blocked.iter().find(|b| b.stage == "limit").map(|met| {
        Box::new(LimitMet {
            rule: met.rule.clone(),
            slot: met.slot.clone(),
            limit: met.limit.clone(),
            have: met.have.clone().unwrap_or_default(),
            need: met.need.clone().unwrap_or_default(),
            source: met.source.clone(),
        })
    });
    Refusal {
        limit,
        ..Refusal::new("LS-SYSTEM-SESSION", detail)
    }
}

/// See the module. Every change goes through [`Core::apply`], so that the planner hears of it.
#[derive(Debug)]
pub struct Core {
    state: State,
    planner: Planner,
    /// Sessions that do not wait, placed since the last pass.
    begun: Vec<Start>,
}

impl Core {
    /// Starts from what is stored.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self {
            state,
            planner: Planner::new(),
            begun: Vec::new(),
        }
    }

    /// What is so.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// State and planner, for questions that need both; nothing differs afterwards.
    pub const fn ask(&mut self) -> (&State, &mut Planner) {
        (&self.state, &mut self.planner)
    }

    /// Takes a change in.
    pub fn apply(&mut self, change: &Change) {
        self.planner.note(&self.state, change);
        self.state.apply(change);
    }

    /// Something happened: decides, takes the changes in, and lists them.
    ///
    /// # Errors
    /// What the asker is told instead.
    pub fn happen(
        &mut self,
        event: &Event,
        now: Timestamp,
        changes: &mut Vec<Change>,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let (mut outcome, begins) = self.react(event, now);
        self.tell(event, &mut outcome, now);
        self.take(outcome.changes, outcome.effects, changes, effects);
        self.begin(begins, now, changes, effects);
        outcome.answer
    }

    /// What follows from an event. A session that does not wait is asked for a place at once:
    /// without one nothing is stored.
    fn react(&mut self, event: &Event, now: Timestamp) -> (Outcome, Option<Begins>) {
        let outcome = react(&self.state, event, now);
        let Some(session) = submitted_system(event, &outcome) else {
            return (outcome, None);
        };
        match begin(&mut self.planner, &self.state, session, now) {
            Ok(begins) => (outcome, Some(begins)),
            Err(blocked) => (Outcome::refuse(no_place(&blocked)), None),
        }
    }

    /// Carries the start of a session out that did not wait.
    fn begin(
        &mut self,
        begins: Option<Begins>,
        now: Timestamp,
        changes: &mut Vec<Change>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((start, more)) = begins else { return };
        let (new, starts) = start_session(&self.state, now, &start);
        self.take(new, starts, changes, effects);
        self.take(more, Vec::new(), changes, effects);
        self.begun.push(start);
    }

    /// [`Self::happen`], and what the audit log has to say about it. The caller makes records
    /// of that and hands them to [`Self::record`] before the next event is decided.
    pub fn happen_audited(
        &mut self,
        event: &Event,
        now: Timestamp,
        changes: &mut Vec<Change>,
        effects: &mut Vec<Effect>,
    ) -> (Result<Answer, Refusal>, Vec<Audited>) {
        let (mut outcome, begins) = self.react(event, now);
        let audited = audited(&self.state, event, &outcome);
        self.tell(event, &mut outcome, now);
        self.take(outcome.changes, outcome.effects, changes, effects);
        self.begin(begins, now, changes, effects);
        (outcome.answer, audited)
    }

    /// What people are told of it is stored with it.
    fn tell(&self, event: &Event, outcome: &mut Outcome, now: Timestamp) {
        let cause = Some((event, &outcome.answer));
        let notes = notes_about(&self.state, cause, &outcome.changes, now);
        outcome.changes.extend(notes);
    }

    /// Takes a record of the audit log in. The planner has no use for it.
    pub fn record(&mut self, line: AuditLine, changes: &mut Vec<Change>) {
        let change = Change::Audit(Arc::new(line));
        self.state.apply(&change);
        changes.push(change);
    }

    /// Forgets the records of the audit log up to one, which has to be below its end. The
    /// caller records that with [`Self::record`] in the same transaction.
    pub fn forget_audit(&mut self, up_to: u64, changes: &mut Vec<Change>) {
        let change = Change::AuditForgotten(up_to);
        self.state.apply(&change);
        changes.push(change);
    }

    /// One pass: who starts, who waits no longer. Says what it decided, and who began to run
    /// without waiting since the last one.
    pub fn place(
        &mut self,
        now: Timestamp,
        changes: &mut Vec<Change>,
        effects: &mut Vec<Effect>,
    ) -> Decisions {
        let mut decisions = self.planner.plan(&self.state, now);
        let begun = std::mem::take(&mut self.begun);
        for cancel in &decisions.cancels {
            let (mut new, more) = cancel_session(&self.state, now, cancel);
            new.extend(notes_about(&self.state, None, &new, now));
            self.take(new, more, changes, effects);
        }
        let mut made = self.perform(&mut decisions, now, changes, effects);
        // Who waited for one that was cancelled may go now; so may tasks that were made in the
        // place of those that wait no longer. A pass that places nobody makes none, and who waits
        // for a range is tried again when one comes back.
        let mut again = !decisions.cancels.is_empty();
        while again || made {
            let mut more = self.planner.plan(&self.state, now);
            made = self.perform(&mut more, now, changes, effects);
            again = false;
            decisions.starts.extend(more.starts);
            decisions.passed.extend(more.passed);
            decisions.next_deadline = more.next_deadline;
        }
        decisions.starts.splice(0..0, begun);
        decisions
    }

    /// Carries it out. Whether another pass may start more in the same instant: tasks of arrays
    /// were made, or somebody found a place and no range for its network and leaves that place.
    fn perform(
        &mut self,
        decisions: &mut Decisions,
        now: Timestamp,
        changes: &mut Vec<Change>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let mut made = false;
        for start in std::mem::take(&mut decisions.starts) {
            let (new, more) = start_session(&self.state, now, &start);
            made |= new.iter().any(|change| {
                matches!(change, Change::Session(s) if s.task_of.is_some() && s.version == 1)
            });
            self.take(new, more, changes, effects);
            let session = self.state.sessions.get(&start.session);
            match session.is_some_and(|session| session.awaits_range.is_some()) {
                true => made = true,
                false => decisions.starts.push(start),
            }
        }
        self.take(decisions.changes.clone(), Vec::new(), changes, effects);
        made
    }

    fn take(
        &mut self,
        new: Vec<Change>,
        more: Vec<Effect>,
        changes: &mut Vec<Change>,
        effects: &mut Vec<Effect>,
    ) {
        for change in &new {
            self.apply(change);
        }
        changes.extend(new);
        effects.extend(more);
    }

    /// The next instant at which something is due although nothing happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        [self.state.next_deadline(), self.planner.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}
