//! Giving a running session more time: `extend` moves the end of its life, `keep` says that
//! somebody wants it although nobody uses it.
//!
//! Both change the order of its agents, which move their own deadlines: what is judged there
//! and what is shown here are the same numbers.

use super::ask::Ask;
use super::audited::{Audited, of_session};
use super::draft::Draft;
use super::drain::drain_deadline;
use super::entities::{Keep, Session};
use super::event::{Answer, Outcome, Refusal};
use super::rules::policy_of;
use super::state::State;
use super::verbs::no_session;
use crate::access::Operation;
use longshore_common::api::{LimitMet, Source};
use longshore_common::ids::AgentId;
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use serde_json::json;

/// A session is to have more time.
pub type Prolong = Ask<More>;

/// In which way a session gets more time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// Its life ends so many seconds later; none = as many as one extension may have.
    By(Option<i64>),
    /// Its life ends at this instant.
    Until(Timestamp),
    /// It is not stopped for being idle for a while. With the instant at which its use was
    /// last measured, as far as its agent has said.
    Keep(Option<Timestamp>),
}

/// A session that has more time, and what is left to ask for.
#[derive(Debug, Clone)]
pub struct Prolonged {
    /// The session as it is from now on.
    pub session: Session,
    /// What was done.
    pub done: Done,
    /// How often the same may be asked for again.
    pub left: u32,
}

/// What was done to give a session more time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Its life became longer.
    Extended {
        /// By so many seconds.
        by_s: i64,
        /// The most that one extension may have, in seconds.
        step_s: i64,
        /// Seconds that extensions may add in all from now on; none = not limited.
        total_left_s: Option<i64>,
    },
    /// It is kept until this instant at least.
    Kept(Timestamp),
}

/// What the policy of a session's keypair, or the installation, says of extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extensions {
    /// How many there may be.
    pub count: u32,
    /// Seconds of one of them.
    pub step_s: i64,
    /// Longest life with all of them, in seconds.
    pub total_s: Option<i64>,
    /// The policy.
    pub source: Option<Source>,
}

impl Extensions {
    /// Those of the sessions of a keypair.
    #[must_use]
    pub fn of(state: &State, access_key: &str) -> Self {
        let policy = policy_of(state, access_key);
        let settings = &state.scheduler.lives;
        let above_zero = |s: Option<i64>| s.filter(|s| *s > 0);
        Self {
            count: policy
                .and_then(|p| p.extension_max_count)
                .unwrap_or(settings.extend_max),
            step_s: above_zero(policy.and_then(|p| p.extension_max_s))
                .unwrap_or(settings.extend_step_s),
            total_s: above_zero(policy.and_then(|p| p.max_total_lifetime_s)),
            source: policy.map(|p| Source {
                kind: "keypair-policy".to_owned(),
                name: p.name.clone(),
                id: Some(p.id.to_string()),
            }),
        }
    }

    /// Seconds that may be added to the life of a session in all; none = not limited.
    #[must_use]
    pub fn total_left_s(&self, session: &Session) -> Option<i64> {
        let whole = session.whole_life_s()?;
        self.total_s.map(|most| most.saturating_sub(whole).max(0))
    }

    /// How often the life of a session may be extended again.
    #[must_use]
    pub const fn left(&self, session: &Session) -> u32 {
        self.count.saturating_sub(session.life.extensions)
    }

    fn who(&self) -> String {
        match &self.source {
            Some(policy) => format!("Keypair policy {}", policy.name),
            None => "The installation".to_owned(),
        }
    }

    fn met(&self, code: &'static str, rule: &str, numbers: [i64; 3], detail: String) -> Refusal {
        let [limit, have, need] = numbers.map(|n| n.to_string());
        Refusal {
            limit: Some(Box::new(LimitMet {
                rule: rule.to_owned(),
                slot: None,
                limit: Some(limit),
                have,
                need,
                source: self.source.clone(),
            })),
            ..Refusal::new(code, detail)
        }
    }
}

/// Decides it.
pub(super) fn prolong(state: &State, order: &Prolong, now: Timestamp) -> Outcome {
    let session = match may(state, order) {
        Ok(session) => session,
        Err(refusal) => return Outcome::refuse(refusal),
    };
    let decided = match order.what {
        More::By(_) | More::Until(_) => extend(state, session, order.what, now),
        More::Keep(used_at) => keep(session, used_at, now),
    };
    let (life, done, left) = match decided {
        Ok(decided) => decided,
        Err(refusal) => return Outcome::refuse(refusal),
    };
    let mut draft = Draft::new(state, now);
    let mut agents: Vec<AgentId> = Vec::new();
    if let Some(session) = draft.session_mut(order.session) {
        session.life = life;
        agents.extend(session.present().filter(|c| !c.is_over()).map(|c| c.agent));
    }
    for agent in agents {
        draft.touch(agent);
    }
    let Some(session) = draft.session(order.session).cloned() else {
        return Outcome::refuse(no_session(order.session));
    };
    let answer = Answer::Prolonged(Box::new(Prolonged {
        session,
        done,
        left,
    }));
    draft.outcome(answer, order.dry_run)
}

/// The session, if the caller may do this to it and it can be done to it at all.
fn may<'a>(state: &'a State, order: &'a Prolong) -> Result<&'a Session, Refusal> {
    let session = order.session(state)?;
    super::steer::not_of_an_array(session, "given more time")?;
    let (id, is) = (session.id, session.state);
    if session.state.is_final() || session.stop.is_some() {
        let how = match session.state.is_final() {
            true => "it has ended",
            false => "it is being stopped",
        };
        let text = format!("Session {id} is {is}: {how}, and gets no more time.");
        return Err(Refusal::new("LS-STATE", text));
    }
    Ok(session)
}

type Decided = (super::entities::Life, Done, u32);

fn extend(
    state: &State,
    session: &Session,
    what: More,
    now: Timestamp,
) -> Result<Decided, Refusal> {
    let id = session.id;
    let allowed = Extensions::of(state, &session.access_key);
    let Some(whole_s) = session.whole_life_s() else {
        let text = format!("Session {id} has no lifetime: there is nothing to extend.");
        return Err(Refusal::new("LS-EXTEND", text));
    };
    let used = session.life.extensions;
    if allowed.left(session) == 0 {
        let who = allowed.who();
        let text = match allowed.count {
            0 => format!("{who} allows no extensions."),
            most => format!("{who} allows {most} extensions; session {id} has had {used}."),
        };
        let numbers = [i64::from(allowed.count), i64::from(used), 1];
        return Err(allowed.met("LS-EXTEND", "extension-count", numbers, text));
    }
    let total_left_s = allowed.total_left_s(session);
    let most = |step_s: i64| total_left_s.map_or(step_s, |left| left.min(step_s));
    let (by_s, pointer) = match what {
        More::By(None) => (most(allowed.step_s).max(1), "/by_s"),
        More::By(Some(s)) => (s, "/by_s"),
        More::Until(at) => (seconds_until(session, at, now)?, "/until"),
        More::Keep(_) => (0, ""),
    };
    if !(1..=allowed.step_s).contains(&by_s) {
        let member = pointer.trim_start_matches('/');
        let step = allowed.step_s;
        let message = match what {
            More::Until(_) => {
                format!("{member} must be at most {step} seconds later than the present end.")
            }
            _ => format!("{member} must be between 1 and {step}."),
        };
        let text = format!("{} allows extensions of 1 to {step} s.", allowed.who());
        let numbers = [step, 0, by_s];
        let refusal = allowed.met("LS-INVALID", "extension-step", numbers, text);
        return Err(refusal.at(pointer, message));
    }
    if let (Some(left_s), Some(total_s)) = (total_left_s, allowed.total_s)
        && by_s > left_s
    {
        let text = format!(
            "{} allows a life of {total_s} s with all extensions; session {id} has {whole_s} s, and {by_s} s more are asked for.",
            allowed.who()
        );
        let numbers = [total_s, whole_s, by_s];
        let refusal = allowed.met("LS-EXTEND", "total-lifetime", numbers, text);
        return Err(match left_s {
            0 => refusal,
            left_s => refusal.hint(format!("Ask for {left_s} s or less.")),
        });
    }
    if let (Some(at), Some(end)) = (drain_deadline(state, session), session.lifetime_deadline())
        && end.plus_s(by_s) > at
    {
        let text = format!(
            "The node of session {id} has to be empty at {at}: no life goes on beyond that."
        );
        let left_s = at.since(end) / 1000;
        let numbers = [left_s.max(0), 0, by_s];
        let refusal = Extensions {
            source: None,
            ..allowed
        };
        let refusal = refusal.met("LS-EXTEND", "drain", numbers, text);
        return Err(match left_s {
            ..=0 => refusal,
            left_s => refusal.hint(format!("Ask for {left_s} s or less.")),
        });
    }
    let mut life = session.life.clone();
    life.extensions += 1;
    life.extended_s = life.extended_s.saturating_add(by_s);
    let done = Done::Extended {
        by_s,
        step_s: allowed.step_s,
        total_left_s: total_left_s.map(|left| left - by_s),
    };
    Ok((life, done, allowed.left(session) - 1))
}

/// How many seconds later a life ends that is to end at an instant; a begun one counts whole.
fn seconds_until(session: &Session, at: Timestamp, now: Timestamp) -> Result<i64, Refusal> {
    let id = session.id;
    let wrong =
        |text: String, message: &str| Err(Refusal::new("LS-INVALID", text).at("/until", message));
    let Some(deadline) = session.lifetime_deadline() else {
        let text = format!("The life of session {id} counts from its start, which is to come.");
        return wrong(text, "until needs a life that has begun; say by_s.");
    };
    if at <= deadline.max(now) {
        let text = format!("The life of session {id} goes on until {deadline} already.");
        return wrong(text, "until must be later than the present end.");
    }
    let ms = at.since(deadline);
    Ok(ms / 1000 + i64::from(ms % 1000 > 0))
}

fn keep(session: &Session, used_at: Option<Timestamp>, now: Timestamp) -> Result<Decided, Refusal> {
    let (id, is) = (session.id, session.state);
    if session.state != SessionState::Running {
        let text = format!("Session {id} is {is}; only running ones can be kept.");
        return Err(Refusal::new("LS-STATE", text));
    }
    let rules = session
        .judged_idle()
        .filter(|idle| idle.judges(session.kind));
    let Some(rules) = rules else {
        let text = format!(
            "Session {id} is not stopped for being idle: there is nothing to keep it from."
        );
        return Err(Refusal::new("LS-KEEP", text));
    };
    let before = session.life.kept;
    // Use in between makes the earlier ones past.
    let counting = before.filter(|keep| used_at.is_none_or(|used| used <= keep.at));
    let had = counting.map_or(0, |keep| keep.in_a_row);
    if had >= rules.keep_max {
        let most = rules.keep_max;
        let text = match most {
            0 => format!("The rules of idleness of session {id} allow no keep."),
            _ => format!(
                "Session {id} was kept {had} times without being used; {most} are allowed in a row."
            ),
        };
        let refusal = Refusal {
            limit: Some(Box::new(LimitMet {
                rule: "keep-max".to_owned(),
                slot: None,
                limit: Some(most.to_string()),
                have: had.to_string(),
                need: "1".to_owned(),
                source: None,
            })),
            ..Refusal::new("LS-KEEP", text)
        };
        return Err(refusal.hint("Use it: its work counts, or that of people in it."));
    }
    let kept = Keep {
        at: now,
        hold_s: rules.hold_s(),
        in_a_row: had + 1,
    };
    let mut life = session.life.clone();
    life.kept = Some(kept);
    Ok((
        life,
        Done::Kept(kept.until()),
        rules.keep_max - kept.in_a_row,
    ))
}

/// What the audit log says of it.
pub(super) fn recorded(state: &State, order: &Prolong, outcome: &Outcome) -> Option<Audited> {
    let Ok(Answer::Prolonged(done)) = &outcome.answer else {
        return None;
    };
    let shown = |session: &Session| {
        json!({
            "extended_s": session.life.extended_s,
            "extensions": session.life.extensions,
            "kept_until": session.life.kept.map(|keep| keep.until()),
        })
    };
    let before = state.sessions.get(&order.session).map(shown);
    let target = of_session(&done.session);
    let operation = Operation::SessionUpdate;
    let record = Audited::new(operation, target, before, Some(shown(&done.session)));
    Some(match done.done {
        Done::Extended { by_s, .. } => record.detail(&format!("extend by {by_s} s")),
        Done::Kept(_) => record.detail("keep"),
    })
}
