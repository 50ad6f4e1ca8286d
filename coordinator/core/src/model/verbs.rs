//! What people do to sessions that are there: ending them, sending signals, reaching in.
//!
//! Whether somebody may is judged in the same step as it is done, by the rights of that
//! moment: a right that was lost since the request came counts no longer.

use super::arrays;
use super::audited::{Audited, of_session};
use super::change::Change;
use super::draft::Draft;
use super::entities::{Dependency, Reached, Session, Stop};
use super::event::{Answer, Called, Caller, Outcome, Refusal, SessionUse, Terminate, UseSession};
use super::lifecycle;
use super::rules;
use super::state::State;
use crate::access::{self, Decision, Operation, Reach};
use longshore_common::api::{Skipped, TerminateAnswer};
use longshore_common::ids::{AgentId, SessionId};
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;
use std::collections::{BTreeSet, VecDeque};

impl State {
    /// What somebody may do now, narrowed by how it calls.
    ///
    /// # Errors
    /// There is nobody of this id any more, or who calls may not act for it any more.
    pub fn rights_as(&self, caller: &Caller, called: &Called) -> Result<access::Caller, Refusal> {
        let user = self.users.get(&caller.user);
        let user = user.ok_or_else(not_known)?;
        let rights = match called.acted_for {
            None => self.rights_of(user),
            Some(account) => {
                let account = self.account(account).ok_or_else(not_known)?;
                let rights = self.rights_of(account);
                let rights = rights.on_behalf_of(&self.rights_of(user), &super::BUILTIN);
                rights.map_err(|why| Refusal::new(why.code(), why.to_string()))?
            }
        };
        Ok(match called.project {
            None => rights,
            Some(project) => rights.bound_to(project, &super::BUILTIN),
        })
    }

    /// What the operation table and the access rules say of doing something to a session.
    #[must_use]
    pub fn judged_session(
        &self,
        rights: &access::Caller,
        session: &Session,
        operation: Operation,
        admin_exec: bool,
    ) -> Decision {
        let target = self.session_target(rights, session);
        let target = match admin_exec {
            true => target.admin_exec(),
            false => target,
        };
        access::decide(operation, rights, &target)
    }
}

fn not_known() -> Refusal {
    Refusal::new("LS-AUTH-FAILED", "The credentials are not valid.")
}

pub(super) fn no_session(id: SessionId) -> Refusal {
    Refusal::new("LS-NOT-FOUND", format!("There is no session {id}."))
}

fn caller_name(state: &State, caller: &Caller) -> String {
    match state.users.get(&caller.user) {
        Some(user) => format!("user {}", user.username),
        None => format!("user {}", caller.user),
    }
}

/// Signals, and what only the owner may reach.
pub(super) fn use_session(state: &State, order: &UseSession, now: Timestamp) -> Outcome {
    match used(state, order, now) {
        Ok((session, changes)) => Outcome {
            changes,
            ..Outcome::only(Answer::Used(Box::new(session.clone())))
        },
        Err(refusal) => Outcome::refuse(refusal),
    }
}

fn used<'a>(
    state: &'a State,
    order: &'a UseSession,
    now: Timestamp,
) -> Result<(&'a Session, Vec<Change>), Refusal> {
    let rights = state.rights_as(&order.caller, &order.called)?;
    let past = order
        .past
        .as_deref()
        .filter(|past| past.id == order.session);
    let session = state.sessions.get(&order.session).or(past);
    let session = session.ok_or_else(|| no_session(order.session))?;
    let operation = order.what.operation();
    let decision = state.judged_session(&rights, session, operation, order.admin_exec);
    let grant = match decision {
        Decision::Allowed(grant) => grant,
        Decision::Forbidden(why) => return Err(Refusal::new(why.code(), why.to_string())),
        Decision::Hidden(_) => return Err(no_session(order.session)),
    };
    super::steer::not_of_an_array(session, "reached")?;
    match &order.what {
        SessionUse::Signal(_) if session.state != SessionState::Running => {
            let (id, is) = (session.id, session.state);
            let text = format!("Session {id} is {is}; signals reach running ones only.");
            Err(Refusal::new("LS-STATE", text))
        }
        SessionUse::Reach(what) if grant.reach != Reach::Own => {
            let reached = Reached {
                session: session.id,
                after: session.history_len,
                at: now,
                by: caller_name(state, &order.caller),
                what: what.clone(),
            };
            Ok((session, vec![Change::Reached(reached)]))
        }
        SessionUse::Signal(_) | SessionUse::Reach(_) => Ok((session, Vec::new())),
    }
}

/// What the audit log says of it: each signal, and whoever reaches in and is not the owner.
pub(super) fn recorded(order: &UseSession, outcome: &Outcome) -> Option<Audited> {
    let Ok(Answer::Used(session)) = &outcome.answer else {
        return None;
    };
    let detail = match &order.what {
        SessionUse::Signal(name) => name,
        SessionUse::Reach(what) => {
            let own = outcome.changes.is_empty() && order.called.acted_for.is_none();
            if own {
                return None;
            }
            what
        }
    };
    let record = Audited::new(order.what.operation(), of_session(session), None, None);
    // Memory may have forgotten the session by now.
    Some(record.detail(detail).in_domain(session.domain))
}

/// Ends sessions.
pub(super) fn terminate(state: &State, order: &Terminate, now: Timestamp) -> Outcome {
    let mut draft = Draft::new(state, now);
    let mut answer = TerminateAnswer {
        forced: order.force,
        ..TerminateAnswer::default()
    };
    let by = caller_name(state, &order.caller);
    let judged = order.called.as_ref();
    let rights = match judged.map(|called| state.rights_as(&order.caller, called)) {
        None => None,
        Some(Ok(rights)) => Some(rights),
        Some(Err(refusal)) => return Outcome::refuse(refusal),
    };
    draft.handed.clone_from(&order.handed);
    let (mut seen, mut ended) = (BTreeSet::new(), Vec::new());
    for id in order.ids.iter().filter(|id| seen.insert(**id)) {
        let skip = |why: &str| Skipped {
            id: id.to_string(),
            why: why.to_owned(),
        };
        let Some(session) = draft.session(*id) else {
            answer.skipped.push(skip("not-found"));
            continue;
        };
        let decision = rights.as_ref().map(|rights| {
            state.judged_session(rights, session, Operation::SessionTerminate, false)
        });
        match decision {
            None | Some(Decision::Allowed(_)) => (),
            Some(Decision::Hidden(_)) => {
                answer.skipped.push(skip("not-found"));
                continue;
            }
            // Of many, the others are ended all the same.
            Some(Decision::Forbidden(access::Why::ReadOnly)) if order.many => {
                answer.skipped.push(skip("read-only"));
                continue;
            }
            Some(Decision::Forbidden(why)) => {
                return Outcome::refuse(Refusal::new(why.code(), why.to_string()));
            }
        }
        // It frees what may still be in use at a node.
        let may_force = rights
            .as_ref()
            .is_none_or(|r| r.administers_domain(session.domain));
        if order.force && !may_force {
            let text = "Ending a session by force takes an administrator of its domain.";
            return Outcome::refuse(Refusal::new("LS-FORBIDDEN", text));
        }
        let reason = if order.force {
            Reason::ForceTerminated
        } else {
            Reason::UserRequested
        };
        let detail = format!("stopped by {by}");
        let stop = Stop {
            reason,
            detail: detail.clone(),
            grace_s: order.grace_s,
            forced: order.force,
            at: now,
        };
        if session.array.is_some() && !session.state.is_final() {
            ended.extend(end_array(&mut draft, *id, &stop, (&by, &mut answer)));
            continue;
        }
        match session.state {
            state if state.is_final() => answer.skipped.push(skip("already-final")),
            SessionState::Pending => {
                lifecycle::cancel(&mut draft, *id, reason, &detail, &by);
                answer.cancelled.push(id.to_string());
                ended.push(*id);
            }
            _ if order.force => {
                lifecycle::force(&mut draft, *id, stop, &by);
                answer.terminating.push(id.to_string());
                ended.push(*id);
            }
            SessionState::Terminating => {
                shorten(&mut draft, *id, order.grace_s);
                answer.skipped.push(skip("already-terminating"));
            }
            _ => {
                lifecycle::stop(&mut draft, *id, stop, &by);
                answer.terminating.push(id.to_string());
                ended.push(*id);
            }
        }
    }
    let cancels = cancelled_with(state, &ended);
    answer.dependants = cancels.iter().map(SessionId::to_string).collect();
    let (changes, effects) = draft.finish();
    Outcome {
        changes,
        effects,
        answer: Ok(Answer::Terminated(answer)),
    }
}

/// Who waits for a success of these and can wait no longer when they end without one, and who
/// waits for such, in the order in which that is found; not these themselves. As things stood
/// before they were ended.
fn cancelled_with(state: &State, ended: &[SessionId]) -> Vec<SessionId> {
    let mut known: BTreeSet<SessionId> = ended.iter().copied().collect();
    let mut work: VecDeque<SessionId> = ended.iter().copied().collect();
    let mut cancels = Vec::new();
    while let Some(id) = work.pop_front() {
        // A task that ends without success keeps its array from ending with it.
        work.extend(id.array().filter(|array| known.insert(*array)));
        for dependant in state.dependants(id) {
            let given_up = state.sessions.get(&dependant).is_some_and(|session| {
                let lost = |d: &Dependency| d.session == id && !rules::holds(d.on, false);
                session.state == SessionState::Pending && session.depends_on.iter().any(lost)
            });
            if given_up && known.insert(dependant) {
                cancels.push(dependant);
                work.push_back(dependant);
            }
        }
    }
    cancels
}

/// Ends an array with all its tasks; the answer names the array alone. What ends with it.
fn end_array(
    draft: &mut Draft<'_>,
    id: SessionId,
    stop: &Stop,
    (by, answer): (&str, &mut TerminateAnswer),
) -> Vec<SessionId> {
    let tasks = arrays::live_tasks(draft, id);
    let again = draft.session(id).is_some_and(|array| array.stop.is_some());
    if again && !stop.forced {
        for task in tasks {
            shorten(draft, task, stop.grace_s);
        }
        answer.skipped.push(Skipped {
            id: id.to_string(),
            why: "already-terminating".to_owned(),
        });
        return Vec::new();
    }
    let waits = |task: &SessionId| draft.session(*task).is_some_and(Session::waits);
    match tasks.iter().all(waits) {
        true => answer.cancelled.push(id.to_string()),
        false => answer.terminating.push(id.to_string()),
    }
    arrays::end(draft, id, stop, by);
    std::iter::once(id).chain(tasks).collect()
}

/// A shorter grace for a session that is being stopped is taken over.
fn shorten(draft: &mut Draft<'_>, id: SessionId, grace_s: u32) {
    let Some(session) = draft.session(id) else {
        return;
    };
    if session
        .stop
        .as_ref()
        .is_none_or(|stop| stop.grace_s <= grace_s)
    {
        return;
    }
    let agents: Vec<AgentId> = session
        .containers
        .iter()
        .filter(|c| !c.is_closed())
        .map(|c| c.agent)
        .collect();
    let now = draft.now;
    if let Some(session) = draft.session_mut(id) {
        session.deadline = Some(lifecycle::close_deadline(now, grace_s));
        if let Some(stop) = session.stop.as_mut() {
            stop.grace_s = grace_s;
        }
    }
    for agent in agents {
        draft.touch(agent);
    }
}
