//! Who is told what: read off an event and what follows from it, in one place, so that whatever
//! way something came about it is told alike.

use super::super::admin::AdminObject;
use super::super::adoption::adopted;
use super::super::change::Change;
use super::super::cluster_idle::{ClusterIdleVerdict, warning};
use super::super::drain::{may_move, sessions_on};
use super::super::entities::{Agent, RELEASING_ALARM_S, Session};
use super::super::event::{Answer, Event, Refusal};
use super::super::people::User;
use super::super::prolong::Done;
use super::super::state::State;
use super::super::steer::Steering;
use super::{Channel, Note, NotifyChoice, is_administrator};
use longshore_common::agent::{AgentState, Health, Inventory};
use longshore_common::ids::{AgentId, SessionId, UserId};
use longshore_common::notify::NoteEvent;
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;
use std::sync::Arc;

/// Longest text of a note, in characters: details come from programs and people.
const TEXT_MAX: usize = 600;
/// Devices that one note names.
const DEVICES: usize = 8;

/// What somebody asked or reported, and what it was answered.
pub(super) type Cause<'a> = (&'a Event, &'a Result<Answer, Refusal>);

/// Notes about what follows from a state, before it does. `cause` is none where nobody asked.
#[must_use]
pub fn told(
    state: &State,
    cause: Option<Cause<'_>>,
    changes: &[Change],
    now: Timestamp,
) -> Vec<Change> {
    let settings = &state.notify;
    let nobody = settings.hooks.is_empty() && state.notify_choices.is_empty();
    if nobody && !settings.mail {
        return Vec::new();
    }
    let mut telling = Telling {
        state,
        now,
        notes: Vec::new(),
    };
    for change in changes {
        match change {
            Change::Session(session) => telling.session(session),
            Change::Agent(agent) => telling.agent(agent),
            _ => (),
        }
    }
    telling.many_lost(changes);
    telling.adopted(changes);
    if let Some((event, Ok(answer))) = cause {
        telling.event(event, answer, changes);
    }
    telling.notes.into_iter().map(super::note).collect()
}

struct Telling<'a> {
    state: &'a State,
    now: Timestamp,
    notes: Vec<Note>,
}

/// What a note is about.
#[derive(Clone, Default)]
struct About {
    session: Option<SessionId>,
    agent: Option<(AgentId, String)>,
}

impl Telling<'_> {
    fn push(&mut self, event: NoteEvent, to: Channel, text: &str, about: &About) {
        let plain = text.chars().filter(|c| !c.is_control());
        self.notes.push(Note {
            at: self.now,
            event,
            to,
            text: plain.take(TEXT_MAX).collect(),
            session: about.session,
            agent: about.agent.clone(),
        });
    }

    fn hooks(&mut self, event: NoteEvent, text: &str, about: &About) {
        let hooks = self.state.notify.hooks.iter();
        let named: Vec<String> = hooks
            .filter(|(_, events)| events.contains(&event))
            .map(|(name, _)| name.clone())
            .collect();
        for name in named {
            self.push(event, Channel::Hook(name), text, about);
        }
    }

    fn person(&mut self, user: &User, event: NoteEvent, text: &str, about: &About) {
        if !user.is_active() {
            return;
        }
        let usual = NotifyChoice::usual(user.id);
        let choice = self.state.notify_choices.get(&user.id).unwrap_or(&usual);
        let mail = self.state.notify.mail && !user.email.is_empty() && choice.mails(event);
        let call = choice.calls(event);
        if mail {
            self.push(event, Channel::Mail(user.id), text, about);
        }
        if call {
            self.push(event, Channel::Own(user.id), text, about);
        }
    }

    fn owner(&mut self, session: &Session, event: NoteEvent, text: &str) {
        let about = About {
            session: Some(session.id),
            agent: None,
        };
        if let Some(user) = self.state.users.get(&session.owner) {
            self.person(user, event, text, &about);
        }
        self.hooks(event, text, &about);
    }

    fn administrators(&mut self, event: NoteEvent, text: &str, about: &About) {
        let state = self.state;
        for user in state.users.values().filter(|user| is_administrator(user)) {
            self.person(user, event, text, about);
        }
        self.hooks(event, text, about);
    }

    fn session(&mut self, after: &Session) {
        let before = self.state.sessions.get(&after.id);
        let was = before.map(|before| before.state);
        // Of an array the end is told, not that of each of its tasks.
        let is_task = after.task_of.is_some();
        let running = SessionState::Running;
        let name = named(after);
        if after.state == running && was != Some(running) && !is_task {
            let mut nodes: Vec<&str> = after.present().filter_map(|c| self.name(c.agent)).collect();
            nodes.dedup();
            let text = format!("Session {name} runs on {}.", nodes.join(", "));
            self.owner(after, NoteEvent::Start, &text);
        }
        let ended = after.state.is_final() && was.is_none_or(|was| !was.is_final());
        if ended && !is_task && !by_its_owner(after) {
            self.owner(after, NoteEvent::End, &end(after, &name));
        }
        if after.releasing_told && before.is_some_and(|before| !before.releasing_told) {
            self.releasing(after, &name);
        }
        let stalled = after.stalled_since.is_some();
        if stalled && before.is_some_and(|before| before.stalled_since.is_none()) {
            let text = format!("Session {name} stands still: it writes nothing and is not used.");
            self.owner(after, NoteEvent::Stalled, &text);
        }
    }

    fn releasing(&mut self, session: &Session, name: &str) {
        let left = session.containers.iter().filter(|c| !c.is_closed());
        let mut nodes: Vec<&str> = left.filter_map(|c| self.name(c.agent)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let text = format!(
            "Session {name} has ended, and {} did not confirm for {} s that nothing of it is left there: what it held stays taken.",
            nodes.join(", "),
            RELEASING_ALARM_S
        );
        let about = About {
            session: Some(session.id),
            agent: None,
        };
        self.administrators(NoteEvent::Alarm, &text, &about);
    }

    fn name(&self, agent: AgentId) -> Option<&str> {
        Some(self.state.agents.get(&agent)?.name.as_str())
    }

    fn agent(&mut self, after: &Agent) {
        let Some(before) = self.state.agents.get(&after.id) else {
            return;
        };
        let about = About {
            session: None,
            agent: Some((after.id, after.name.clone())),
        };
        let name = &after.name;
        match (before.state, after.state) {
            (AgentState::Alive, AgentState::Lost) => {
                let text = format!("Agent {name} is LOST: no heartbeats come.");
                self.administrators(NoteEvent::AgentLost, &text, &about);
            }
            // One that says hello for the first time was never away.
            (AgentState::Lost, AgentState::Alive) if !before.boot_id.is_empty() => {
                let text = format!("Agent {name} is back.");
                self.administrators(NoteEvent::AgentBack, &text, &about);
            }
            _ => (),
        }
        let sick = newly_sick(before.inventory.as_ref(), after.inventory.as_ref());
        if !sick.is_empty() {
            let text = format!("Agent {name}: {}", sick.join("; "));
            self.administrators(NoteEvent::Device, &text, &about);
        }
        self.drain(before, after);
    }

    fn drain(&mut self, before: &Agent, after: &Agent) {
        let deadline = |agent: &Agent| agent.drain.as_ref()?.deadline;
        let Some(at) = deadline(after).filter(|at| deadline(before) != Some(*at)) else {
            return;
        };
        let moves = after.drain.as_ref().is_some_and(|drain| drain.moves);
        let why = after.drain.as_ref().map(|drain| drain.message.as_str());
        let why = match why.unwrap_or_default() {
            "" => String::new(),
            why => format!(": {why}"),
        };
        let on: Vec<Session> = sessions_on(self.state, after.id)
            .into_iter()
            .cloned()
            .collect();
        for session in on {
            let then = match moves && may_move(&session) {
                true => "waits for another place then",
                false => "is stopped then",
            };
            let text = format!(
                "Agent {} has to be empty at {at}{why}. Session {} {then} if it still runs.",
                after.name,
                named(&session)
            );
            self.owner(&session, NoteEvent::Drain, &text);
        }
    }

    /// Told once, when the brake is put on.
    fn many_lost(&mut self, changes: &[Change]) {
        let braked = changes.iter().filter_map(|change| match change {
            Change::Agent(agent) if agent.braked_at.is_some() => Some(agent.name.as_str()),
            _ => None,
        });
        let names: Vec<&str> = braked.collect();
        if names.is_empty() || self.state.braked().next().is_some() {
            return;
        }
        let text = format!(
            "{} agents vanished at once ({}): none of their sessions is given up until they are back or their loss is confirmed.",
            names.len(),
            names.join(", ")
        );
        self.administrators(NoteEvent::MassLoss, &text, &About::default());
    }

    /// A session came back of which this database knew nothing.
    fn adopted(&mut self, changes: &[Change]) {
        for session in adopted(self.state, changes) {
            let on = session.containers.first().map(|c| c.agent);
            let agent = on.and_then(|id| Some((id, self.name(id)?.to_owned())));
            let name = agent.as_ref().map_or("its node", |(_, name)| name);
            let text = format!(
                "Session {} of {} is on {name} and was not known here: it was made again of what its container says.",
                named(session),
                session.owner_name
            );
            let session = Some(session.id);
            self.administrators(NoteEvent::Alarm, &text, &About { session, agent });
        }
    }

    fn event(&mut self, event: &Event, answer: &Answer, changes: &[Change]) {
        match (event, answer) {
            (Event::Warned { key, text, .. }, _) if !changes.is_empty() => {
                if let Some(session) = self.state.sessions.get(&key.session).cloned() {
                    let text = format!("Session {}: {text}", named(&session));
                    self.owner(&session, NoteEvent::Warn, &text);
                }
            }
            // What is said of a container that is none of the agent's counts for nothing.
            (Event::Alarm { agent, key, text }, _) if key.is_none() || !changes.is_empty() => {
                let Some(name) = self.name(*agent).map(str::to_owned) else {
                    return;
                };
                let session = key.map(|key| key.session);
                let of = session.map_or_else(String::new, |id| format!(", session {id}"));
                let text = format!("Agent {name}{of}: {text}");
                let agent = Some((*agent, name));
                self.administrators(NoteEvent::Alarm, &text, &About { session, agent });
            }
            (Event::Trouble { text }, _) => {
                self.administrators(NoteEvent::Alarm, text, &About::default());
            }
            (
                Event::ClusterIdle {
                    session,
                    verdict: ClusterIdleVerdict::Warn(at),
                    ..
                },
                _,
            ) if !changes.is_empty() => {
                if let Some(session) = self.state.sessions.get(session).cloned() {
                    let text = format!("Session {}: {}", named(&session), warning(*at));
                    self.owner(&session, NoteEvent::Warn, &text);
                }
            }
            (Event::Prolong(order), Answer::Prolonged(done)) if !changes.is_empty() => {
                let what = match done.done {
                    Done::Extended { by_s, .. } => format!("lets it live {by_s} s longer"),
                    Done::Kept(until) => {
                        format!("keeps it from being stopped as idle until {until}")
                    }
                };
                self.by_another(order.caller.user, &done.session, &what);
            }
            (Event::Steer(order), Answer::Steered(session)) if !changes.is_empty() => {
                let what = match order.what {
                    Steering::Hold => "holds it back",
                    Steering::Release => "holds it back no longer",
                    Steering::Restart => "runs it anew",
                    Steering::Change(_) => "changed how it waits",
                };
                self.by_another(order.caller.user, session, what);
            }
            (Event::Terminate(order), _) => {
                let stopping = changes.iter().filter_map(|change| match change {
                    Change::Session(session) => Some(&**session),
                    _ => None,
                });
                for session in stopping {
                    let before = self.state.sessions.get(&session.id);
                    let newly = session.stop.is_some() && before.is_some_and(|b| b.stop.is_none());
                    // What has ended is told as that.
                    if newly && !session.state.is_final() && session.task_of.is_none() {
                        self.by_another(order.caller.user, session, "stops it");
                    }
                }
            }
            (Event::Admin(_), Answer::Admin(answer)) => {
                if let AdminObject::Audit(view) = &answer.object
                    && !view.drifts.is_empty()
                {
                    let places: Vec<String> = view
                        .drifts
                        .iter()
                        .map(|drift| format!("{} of {}", drift.slot, drift.agent))
                        .collect();
                    let text = format!("Books and nodes differ in {}.", places.join(", "));
                    self.administrators(NoteEvent::QuotaDrift, &text, &About::default());
                }
            }
            _ => (),
        }
    }

    fn by_another(&mut self, doer: UserId, session: &Session, what: &str) {
        if doer == session.owner {
            return;
        }
        let who = self.state.users.get(&doer);
        let who = who.map_or("somebody", |user| user.username.as_str());
        let text = format!("Session {}: {who} {what}.", named(session));
        self.owner(session, NoteEvent::Changed, &text);
    }
}

/// Its id, and its name if it has one.
fn named(session: &Session) -> String {
    match &session.name {
        Some(name) => format!("{} ({name})", session.id),
        None => session.id.to_string(),
    }
}

/// Who ends something knows that it ended.
fn by_its_owner(session: &Session) -> bool {
    let asked = matches!(
        session.reason,
        Some(Reason::UserRequested | Reason::ForceTerminated)
    );
    let by = session.spent.by.as_deref().unwrap_or_default();
    asked && by.strip_prefix("user ") == Some(session.owner_name.as_str())
}

fn end(session: &Session, name: &str) -> String {
    let reason = session.reason.map_or("", Reason::as_str);
    let mut text = format!("Session {name} has ended: {} {reason}", session.state);
    if let Some(detail) = session.detail.as_deref().filter(|d| !d.is_empty()) {
        text = format!("{text}; {detail}");
    }
    if let Some(code) = session.exit_code {
        text = format!("{text}; exit code {code}");
    }
    let text = text.trim_end_matches('.');
    format!("{text}.")
}

/// Devices that were healthy or not there, and are there and not healthy.
fn newly_sick(before: Option<&Arc<Inventory>>, after: Option<&Arc<Inventory>>) -> Vec<String> {
    let (Some(before), Some(after)) = (before, after) else {
        return Vec::new();
    };
    if Arc::ptr_eq(before, after) {
        return Vec::new(); // as nearly always
    }
    let was = |id| {
        let device = before.devices.iter().find(|device| device.id == id);
        device.map_or(Health::Healthy, |device| device.health)
    };
    let sick = after.devices.iter().filter(|device| {
        // What somebody else uses for a while is not sick.
        !matches!(
            device.health,
            Health::Healthy | Health::Foreign | Health::Masked
        ) && was(device.id.clone()) != device.health
    });
    let shown = sick.take(DEVICES).map(|device| {
        let (id, health, why) = (&device.id, device.health, &device.health_detail);
        match &**why {
            "" => format!("device {id} is {health}"),
            why => format!("device {id} is {health}: {why}"),
        }
    });
    shown.collect()
}
