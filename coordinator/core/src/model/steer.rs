//! What people do to how a session waits and runs: hold it back, let it go, change its priority
//! or its earliest start, restart it.

use super::ask::Ask;
use super::attempts::Restart;
use super::audited::{Audited, of_session};
use super::draft::{Draft, Why};
use super::entities::{Container, LedgerRow, Session};
use super::event::{Answer, Outcome, Refusal};
use super::lifecycle::{ACKNOWLEDGE_MS, close_deadline, take_bounds};
use super::network;
use super::rules;
use super::state::State;
use super::submit::{BAD_NAME, labels};
use super::verbs::no_session;
use crate::access::Operation;
use longshore_common::api::{MemberError, NewRestart, SessionPatch};
use longshore_common::ids::{AgentId, ContainerKey, Fence, Generation, SessionId, is_session_name};
use longshore_common::session::{ContainerState, RestartOn, SessionState, SessionType, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::Totals;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Most times a session may be tried again by itself.
const MOST_RESTARTS: i64 = 100;

/// A session is steered.
pub type Steer = Ask<Steering>;

/// In which way a session is steered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Steering {
    /// It is not placed until it is released.
    Hold,
    /// It is held back no longer.
    Release,
    /// It runs anew on the same agents and devices.
    Restart,
    /// Members of it are changed.
    Change(SessionPatch),
}

impl Steering {
    const fn verb(&self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Restart => "restart",
            Self::Change(_) => "change",
        }
    }
}

/// Decides it.
pub(super) fn steer(state: &State, order: &Steer, now: Timestamp) -> Outcome {
    match steered(state, order, now) {
        Ok(outcome) => outcome,
        Err(refusal) => Outcome::refuse(refusal),
    }
}

fn steered(state: &State, order: &Steer, now: Timestamp) -> Result<Outcome, Refusal> {
    let session = order.session(state)?;
    let id = session.id;
    let mut draft = Draft::new(state, now);
    match &order.what {
        Steering::Hold | Steering::Release => {
            waits(state, session, order.what.verb())?;
            let held = order.what == Steering::Hold;
            for id in with_waiting_tasks(state, session) {
                if draft.session(id).is_some_and(|s| s.held != held)
                    && let Some(session) = draft.session_mut(id)
                {
                    session.held = held;
                }
            }
        }
        Steering::Change(patch) => {
            if patch.priority.is_some() || patch.start_at.is_some() {
                waits(state, session, "changing when it starts")?;
            }
            change(state, &mut draft, order, session, patch)?;
            change_tasks(state, &mut draft, session, patch);
        }
        Steering::Restart => {
            can_restart(session)?;
            if session.adopted.as_ref().is_some_and(|a| a.parts_missing) {
                let text = format!(
                    "Session {id} was adopted from its container: what it was given is not known here, so it is not run again."
                );
                return Err(Refusal::new("LS-STATE", text));
            }
            if let Some(vault) = state.vault_in_the_way(session) {
                let text =
                    format!("Session {id} is not restarted: vault {vault} of it cannot be opened.");
                return Err(Refusal::new("LS-STATE", text));
            }
            let user = state.users.get(&order.caller.user);
            let name = user.map_or_else(
                || order.caller.user.to_string(),
                |user| user.username.clone(),
            );
            restart(&mut draft, id, &format!("user {name}"));
        }
    }
    let session = draft.session(id).cloned();
    let session = session.ok_or_else(|| no_session(id))?;
    let answer = Answer::Steered(Box::new(session));
    Ok(draft.outcome(answer, order.dry_run))
}

/// A session, and of an array those tasks that wait: what is said of an array before it is
/// over is said of them and of those that are still to be made.
fn with_waiting_tasks(state: &State, session: &Session) -> Vec<SessionId> {
    let tasks = session.array.is_some().then(|| state.tasks_of(session.id));
    let waiting = tasks.into_iter().flatten().filter(|task| task.waits());
    let waiting = waiting.map(|task| task.id);
    std::iter::once(session.id).chain(waiting).collect()
}

/// What of a change of an array reaches its tasks.
fn change_tasks(state: &State, draft: &mut Draft<'_>, session: &Session, patch: &SessionPatch) {
    if patch.priority.is_none() && patch.start_at.is_none() {
        return;
    }
    let Some(array) = draft.session(session.id).cloned() else {
        return;
    };
    for id in with_waiting_tasks(state, session).into_iter().skip(1) {
        if let Some(task) = draft.session_mut(id) {
            task.priority = array.priority;
            task.start_at = array.start_at;
        }
    }
}

fn waits(state: &State, session: &Session, verb: &str) -> Result<(), Refusal> {
    let open = session.is_open_array() || with_waiting_tasks(state, session).len() > 1;
    if session.waits() || (open && !session.state.is_final()) {
        return Ok(());
    }
    let (id, is) = (session.id, session.state);
    if session.array.is_some() {
        let text = format!("Array {id} is {is} and no task of it waits; {verb} is for what waits.");
        return Err(Refusal::new("LS-STATE", text));
    }
    let text = format!("Session {id} is {is}; {verb} is for sessions that are PENDING.");
    Err(Refusal::new("LS-STATE", text))
}

fn change(
    state: &State,
    draft: &mut Draft<'_>,
    order: &Steer,
    session: &Session,
    patch: &SessionPatch,
) -> Result<(), Refusal> {
    let mut wanted = session.clone();
    if session.state.is_final() {
        let (id, is) = (session.id, session.state);
        let text = format!("Session {id} is {is}; what is over is not changed.");
        return Err(Refusal::new("LS-STATE", text));
    }
    if let Some(name) = &patch.name {
        wanted.name = (!name.is_empty()).then(|| name.clone());
        if !name.is_empty() && !is_session_name(name) {
            return Err(Refusal::new("LS-INVALID", BAD_NAME).at("/name", BAD_NAME));
        }
        let holder = state.session_by_name(session.owner, name);
        if let Some(holder) = holder.filter(|holder| *holder != session.id) {
            let text = format!("Session {holder} of its owner has the name {name}.");
            let taken = format!("{name} is taken by {holder}.");
            return Err(Refusal::new("LS-EXISTS", text).at("/name", taken));
        }
    }
    if let Some(marks) = &patch.labels {
        let mut errors = Vec::new();
        labels(marks, &mut |pointer: &str, message| {
            errors.push(MemberError {
                pointer: pointer.to_owned(),
                message,
                ..MemberError::default()
            });
        });
        if !errors.is_empty() {
            return Err(Refusal::of_members("LS-INVALID", errors));
        }
        wanted.labels.clone_from(marks);
    }
    if let Some(priority) = patch.priority {
        let priority = u8::try_from(priority).ok().filter(|p| *p <= 100);
        let Some(priority) = priority else {
            let text = "A priority is a whole number from 0 to 100.";
            return Err(Refusal::new("LS-INVALID", text).at("/priority", text));
        };
        wanted.priority = priority;
        // Whoever asks, the cap of its owner's policies holds; administrators may go above it.
        let rights = order.called.as_ref();
        let rights = rights.map(|called| state.rights_as(&order.caller, called));
        let administers = rights
            .transpose()?
            .is_some_and(|rights| rights.administers_domain(session.domain));
        if priority > session.priority && !administers {
            rules::priority_allowed(state, &wanted)?;
        }
    }
    wanted.start_at = patch.start_at.or(wanted.start_at);
    if wanted != *session
        && let Some(stored) = draft.session_mut(session.id)
    {
        stored.name = wanted.name;
        stored.labels = wanted.labels;
        stored.priority = wanted.priority;
        stored.start_at = wanted.start_at;
    }
    Ok(())
}

/// What is done to one running session is done to one task of an array.
pub(super) fn not_of_an_array(session: &Session, done: &str) -> Result<(), Refusal> {
    if session.array.is_none() {
        return Ok(());
    }
    let id = session.id;
    let text = format!("Session {id} is an array; only its tasks are {done}, one by one.");
    Err(Refusal::new("LS-STATE", text))
}

fn can_restart(session: &Session) -> Result<(), Refusal> {
    let (id, is) = (session.id, session.state);
    let no = |text: String| Err(Refusal::new("LS-STATE", text));
    not_of_an_array(session, "restarted")?;
    if let SessionType::Inference | SessionType::System = session.kind {
        let kind = session.kind;
        return no(format!(
            "Session {id} is of type {kind}, which is never restarted."
        ));
    }
    if session.state != SessionState::Running {
        return no(format!(
            "Session {id} is {is}; only one that is RUNNING is restarted."
        ));
    }
    if session.unreachable {
        return no(format!(
            "Session {id} is {is} and unreachable; it can be restarted when its agent is back."
        ));
    }
    if session.present().any(Container::is_over) {
        return no(format!(
            "Session {id} is {is}, but a container of it has ended."
        ));
    }
    if session.older_may_run() {
        return no(format!(
            "Session {id} is {is}; its last restart is not over yet."
        ));
    }
    Ok(())
}

/// A running session begins anew where it is: its claims go over to the next attempt, which is
/// told to run once nothing of the present one does.
fn restart(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let now = draft.now;
    let detail = format!("restarted by {by}");
    take_bounds(draft, id);
    let Some(session) = draft.session(id) else {
        return;
    };
    let agents: BTreeSet<AgentId> = session.present().map(|c| c.agent).collect();
    let now_held: BTreeMap<AgentId, (Fence, Generation)> = agents
        .iter()
        .filter_map(|id| Some((*id, draft.agent(*id)?)))
        .map(|(id, node)| (id, (node.fence, node.generation.next())))
        .collect();
    let grace_s = draft.state.stop_grace_s();
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let before: Vec<Container> = session.present().cloned().collect();
    let began = session.life.began.or(session.started_at);
    session.next_attempt("user-requested", &detail, now);
    session.life.began = began; // its life goes on
    let attempt = session.attempt;
    let mut moved: Vec<(ContainerKey, ContainerKey)> = Vec::new();
    for old in before {
        let (fence, first_generation) = now_held
            .get(&old.agent)
            .copied()
            .unwrap_or((old.fence, old.first_generation.next()));
        let key = ContainerKey { attempt, ..old.key };
        moved.push((old.key, key));
        if let Some(known) = session.containers.iter_mut().find(|c| c.key == old.key) {
            known.want = Want::Stop;
            known.handed_on = true;
        }
        session.containers.push(Container {
            key,
            want: Want::Prepare,
            told_to_run: false,
            acknowledged: false,
            state: ContainerState::Assigned,
            docker_id: String::new(),
            fence,
            first_generation,
            end: None,
            started_at: None,
            totals: Totals::default(),
            handed_on: false,
            used: Vec::new(),
            ..old
        });
    }
    session.restarted = true;
    session.placed_at = Some(now);
    // What runs is stopped first.
    let stopped_by = close_deadline(now, grace_s);
    session.deadline = Some(stopped_by.plus_ms(ACKNOWLEDGE_MS));
    session.life.kept = None; // the clocks of idleness start anew
    let why = Why {
        reason: None,
        detail: Some(&detail),
        by,
    };
    draft.move_to(id, SessionState::Preparing, why);
    for (old, new) in moved {
        let rows = draft.state.ledger.get(&old);
        let rows: Vec<LedgerRow> = rows
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(|row| LedgerRow {
                key: new,
                opened_at: now, // what was before is booked with the older attempt
                ..row.clone()
            })
            .collect();
        // Closed first: no device is given out twice, not even for a moment.
        draft.close_rows(old);
        for row in rows {
            draft.open_row(row);
        }
    }
    for agent in agents {
        draft.touch(agent);
    }
    if let Some(session) = draft.session(id) {
        let agents = session.present().map(|c| c.agent);
        let found = network::find(draft, session, agents, session.group);
        // It has its place and cannot wait in it.
        network::give(draft, id, found.map_err(|lack| lack.now(draft.state)));
    }
}

/// What a request says of being tried again, checked.
pub(super) fn restart_wish(
    wish: Option<&NewRestart>,
    kind: SessionType,
    wrong: &mut impl FnMut(&str, String),
) -> Restart {
    let Some(wish) = wish else {
        return Restart::default();
    };
    let max = Some(wish.max).filter(|n| (0..=MOST_RESTARTS).contains(n));
    let max = max.and_then(|n| u32::try_from(n).ok()).unwrap_or_else(|| {
        let text = format!("A session is tried again 0 to {MOST_RESTARTS} times.");
        wrong("/restart/max", text);
        0
    });
    if max > 0 && kind != SessionType::Batch {
        let text = "Only batch sessions are tried again by themselves.";
        wrong("/restart", text.to_owned());
    }
    let mut on = BTreeSet::new();
    match &wish.on {
        None if max > 0 => {
            on.insert(RestartOn::AgentLost);
        }
        None => (),
        Some(words) if words.is_empty() => {
            wrong("/restart/on", "Name at least one end.".to_owned());
        }
        Some(words) => {
            for (at, word) in words.iter().enumerate() {
                match word.parse::<RestartOn>() {
                    Ok(word) => {
                        on.insert(word);
                    }
                    Err(error) => wrong(&format!("/restart/on/{at}"), format!("{error}.")),
                }
            }
        }
    }
    Restart { max, on }
}

/// What the audit log says of it.
pub(super) fn recorded(state: &State, order: &Steer, outcome: &Outcome) -> Option<Audited> {
    let Ok(Answer::Steered(session)) = &outcome.answer else {
        return None;
    };
    let shown = |session: &Session| {
        json!({
            "name": session.name,
            "labels": session.labels,
            "held": session.held,
            "attempt": session.attempt,
            "priority": session.priority,
            "start_at": session.start_at,
        })
    };
    let before = state.sessions.get(&order.session).map(shown);
    let operation = Operation::SessionUpdate;
    let record = Audited::new(operation, of_session(session), before, Some(shown(session)));
    Some(record.detail(order.what.verb()))
}
