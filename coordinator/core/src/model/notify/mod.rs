//! What people are told outside of the product: who chose what, what is to go to whom, and when
//! it is tried again.
//!
//! What is told is stored with what it is about, in one transaction; who sends it reads it from
//! there. So nothing is lost and, but for a crash after a receiver took it, nothing goes twice.

mod told;

pub use told::told;

use super::audited::{Audited, target};
use super::change::Change;
use super::event::{Answer, Outcome, Refusal};
use super::people::{Role, User};
use super::state::State;
use crate::access::Operation;
use longshore_common::ids::{AgentId, SessionId, UserId};
use longshore_common::notify::{NoteEvent, NoteState};
use longshore_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// After the first try that failed it is tried again so many seconds later, and six times as
/// long after each further one: what is away for a moment hears soon, what is away for a day is
/// not called all the time.
const AGAIN_S: i64 = 10;
/// Never later than so many seconds: a receiver that is back hears the same day.
const AGAIN_AT_MOST_S: i64 = 21_600;
/// Longest address of a webhook, in bytes.
const URL_MAX: usize = 1000;

/// Who is told at all, as the configuration says it. It holds no secrets: where a webhook is and
/// what signs a call is looked up when it is called.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NotifySettings {
    /// Mail is sent.
    pub mail: bool,
    /// Webhooks, each with the events it is called for.
    pub hooks: Vec<(String, BTreeSet<NoteEvent>)>,
}

/// What somebody chose to be told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyChoice {
    /// Who.
    pub user: UserId,
    /// By mail; none = the usual events.
    pub mail: Option<BTreeSet<NoteEvent>>,
    /// By calls; none = all events.
    pub webhook: Option<BTreeSet<NoteEvent>>,
    /// What is called; none = nothing is.
    pub url: Option<String>,
}

impl NotifyChoice {
    /// Of somebody who chose nothing.
    #[must_use]
    pub const fn usual(user: UserId) -> Self {
        Self {
            user,
            mail: None,
            webhook: None,
            url: None,
        }
    }

    /// Whether it is told by mail.
    #[must_use]
    pub fn mails(&self, event: NoteEvent) -> bool {
        match &self.mail {
            Some(chosen) => chosen.contains(&event),
            // That one started is what they asked for; that an agent is back ends no alarm of
            // theirs.
            None => !matches!(event, NoteEvent::Start | NoteEvent::AgentBack),
        }
    }

    /// Whether it is told by a call.
    #[must_use]
    pub fn calls(&self, event: NoteEvent) -> bool {
        self.url.is_some() && self.webhook.as_ref().is_none_or(|all| all.contains(&event))
    }
}

/// By what, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// A mail to somebody.
    Mail(UserId),
    /// A call of somebody's own webhook.
    Own(UserId),
    /// A call of a webhook of the configuration.
    Hook(String),
}

impl Channel {
    /// Word of the kind, and to whom; what the store keeps.
    #[must_use]
    pub fn words(&self) -> (&'static str, String) {
        match self {
            Self::Mail(user) => ("mail", user.to_string()),
            Self::Own(user) => ("own", user.to_string()),
            Self::Hook(name) => ("hook", name.clone()),
        }
    }

    /// The person it goes to.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::Mail(user) | Self::Own(user) => Some(*user),
            Self::Hook(_) => None,
        }
    }
}

/// Something that somebody is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When it happened.
    pub at: Timestamp,
    /// What.
    pub event: NoteEvent,
    /// By what and to whom.
    pub to: Channel,
    /// In words, one sentence or two.
    pub text: String,
    /// The session it is about.
    pub session: Option<SessionId>,
    /// The agent it is about, and its name.
    pub agent: Option<(AgentId, String)>,
}

/// A note as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNote {
    /// Its number.
    pub id: u64,
    /// It.
    pub note: Note,
    /// What became of it.
    pub state: NoteState,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
    /// When it was taken or given up.
    pub ended_at: Option<Timestamp>,
    /// What hindered the last try.
    pub error: String,
}

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TryEnd {
    /// It was taken.
    Taken,
    /// It was not, for this reason.
    Not(String),
    /// It was not, and trying again would change nothing.
    Never(String),
    /// It was not tried: one before it to the same place failed.
    Behind,
}

/// A note was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Its number.
    pub id: u64,
    /// How often it had been tried before.
    pub before: u32,
    /// How often it may be tried again after the first time.
    pub retries: u32,
    /// What became of it.
    pub end: TryEnd,
}

/// How a note stands after a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteTried {
    /// Its number.
    pub id: u64,
    /// What became of it.
    pub state: NoteState,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
    /// When it was taken or given up.
    pub ended_at: Option<Timestamp>,
    /// What hindered.
    pub error: String,
}

/// When it is tried again after so many tries, the first one included.
const fn next_try(tries: u32, now: Timestamp) -> Timestamp {
    let mut wait_s = AGAIN_S;
    let mut left = tries.saturating_sub(1);
    while left > 0 && wait_s < AGAIN_AT_MOST_S {
        wait_s *= 6;
        left -= 1;
    }
    now.plus_s(if wait_s < AGAIN_AT_MOST_S {
        wait_s
    } else {
        AGAIN_AT_MOST_S
    })
}

impl Tried {
    fn settled(&self, now: Timestamp) -> NoteTried {
        let done = |state, tries, error: &str| NoteTried {
            id: self.id,
            state,
            tries,
            next_at: None,
            ended_at: Some(now),
            error: error.to_owned(),
        };
        let waits = |tries, at, error: &str| NoteTried {
            id: self.id,
            state: NoteState::Waiting,
            tries,
            next_at: Some(at),
            ended_at: None,
            error: error.to_owned(),
        };
        let tries = self.before.saturating_add(1);
        match &self.end {
            TryEnd::Taken => done(NoteState::Sent, tries, ""),
            TryEnd::Never(why) => done(NoteState::Failed, tries, why),
            TryEnd::Not(why) if tries > self.retries => done(NoteState::Failed, tries, why),
            TryEnd::Not(why) => waits(tries, next_try(tries, now), why),
            // It is due when the one before it is.
            TryEnd::Behind => waits(self.before, now, "one before it was not taken"),
        }
    }
}

/// About what people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifyOrder {
    /// The configuration is another one from now on.
    Settings(NotifySettings),
    /// Somebody chooses.
    Choose {
        /// What from now on.
        choice: NotifyChoice,
        /// Check, and change nothing.
        dry_run: bool,
    },
    /// Somebody wants to see whether it arrives.
    Test {
        /// Who.
        user: UserId,
        /// At a webhook of the configuration; none = at its own places.
        hook: Option<String>,
    },
    /// Notes were tried.
    Tried(Vec<Tried>),
    /// Old notes are of interest to nobody.
    Forget {
        /// Those that ended before.
        ended_before: Timestamp,
        /// Of the others the newest so many stay.
        keep: u32,
    },
}

/// Decides it.
pub(super) fn decide(state: &State, order: &NotifyOrder, now: Timestamp) -> Outcome {
    let done = |changes| Outcome {
        changes,
        ..Outcome::only(Answer::Done)
    };
    match order {
        NotifyOrder::Settings(settings) if *settings == state.notify => done(Vec::new()),
        NotifyOrder::Settings(settings) => done(vec![Change::NotifySettings(settings.clone())]),
        NotifyOrder::Choose { choice, dry_run } => {
            if let Err(refusal) = fits(state, choice) {
                return Outcome::refuse(refusal);
            }
            let usual = NotifyChoice::usual(choice.user);
            let before = state.notify_choices.get(&choice.user).unwrap_or(&usual);
            match *dry_run || before == choice {
                true => done(Vec::new()),
                false => done(vec![Change::NotifyChoice(choice.clone())]),
            }
        }
        NotifyOrder::Test { user, hook } => match test(state, *user, hook.as_deref(), now) {
            Ok(notes) => done(notes.into_iter().map(note).collect()),
            Err(refusal) => Outcome::refuse(refusal),
        },
        NotifyOrder::Tried(all) => {
            let settled = all.iter().map(|tried| tried.settled(now));
            done(settled.map(Change::NoteTried).collect())
        }
        NotifyOrder::Forget { ended_before, keep } => done(vec![Change::NotesForgotten {
            ended_before: *ended_before,
            keep: *keep,
        }]),
    }
}

fn note(note: Note) -> Change {
    Change::Note(Box::new(note))
}

fn fits(state: &State, choice: &NotifyChoice) -> Result<(), Refusal> {
    let user = state.users.get(&choice.user);
    let user = user.ok_or_else(|| Refusal::new("LS-NOT-FOUND", "There is no such person."))?;
    for (at, chosen) in [("/mail", &choice.mail), ("/webhook", &choice.webhook)] {
        let may = events_of(user);
        let wrong = chosen.iter().flatten().find(|event| !may.contains(event));
        if let Some(event) = wrong {
            let text = format!("You cannot be told of {event}.");
            return Err(Refusal::new("LS-INVALID", text.clone()).at(at, text));
        }
    }
    if choice.url.as_ref().is_some_and(|url| url.len() > URL_MAX) {
        let text = format!("webhook_url must have at most {URL_MAX} characters.");
        return Err(Refusal::new("LS-INVALID", text.clone()).at("/webhook_url", text));
    }
    Ok(())
}

/// What somebody can be told of.
#[must_use]
pub fn events_of(user: &User) -> Vec<NoteEvent> {
    let all = NoteEvent::ALL.iter().copied();
    let may = |event: &NoteEvent| {
        event.can_be_chosen() && (!event.is_for_administrators() || is_administrator(user))
    };
    all.filter(may).collect()
}

fn is_administrator(user: &User) -> bool {
    user.is_active() && user.service.is_none() && user.role == Role::Superadmin
}

fn test(
    state: &State,
    user: UserId,
    hook: Option<&str>,
    now: Timestamp,
) -> Result<Vec<Note>, Refusal> {
    let person = state.users.get(&user);
    let person = person.ok_or_else(|| Refusal::new("LS-NOT-FOUND", "There is no such person."))?;
    let note = |to| Note {
        at: now,
        event: NoteEvent::Test,
        to,
        text: format!("A test that {} asked for: it arrives.", person.username),
        session: None,
        agent: None,
    };
    if let Some(name) = hook {
        let known = state.notify.hooks.iter().any(|(known, _)| known == name);
        return match known {
            true => Ok(vec![note(Channel::Hook(name.to_owned()))]),
            false => Err(Refusal::new(
                "LS-NOT-FOUND",
                "The configuration has no webhook of this name.",
            )),
        };
    }
    let choice = state.notify_choices.get(&user);
    let mut places = Vec::new();
    if state.notify.mail && !person.email.is_empty() {
        places.push(note(Channel::Mail(user)));
    }
    if choice.is_some_and(|choice| choice.url.is_some()) {
        places.push(note(Channel::Own(user)));
    }
    match places.is_empty() {
        false => Ok(places),
        true => Err(Refusal::new(
            "LS-STATE",
            "There is no place to which anything could be sent.",
        )
        .hint("Set a webhook_url; mail is set up by administrators.")),
    }
}

/// What the audit log says of it. That something was sent stands with the note.
pub(super) fn recorded(state: &State, order: &NotifyOrder) -> Option<Audited> {
    let NotifyOrder::Choose { choice, .. } = order else {
        return None;
    };
    let shown = |choice: &NotifyChoice| -> Value {
        // An address may hold a token: only that there is one is written down.
        json!({ "mail": choice.mail, "webhook": choice.webhook, "url": choice.url.is_some() })
    };
    let user = state.users.get(&choice.user)?;
    let before = state.notify_choices.get(&choice.user).map(shown);
    let target = target("user", user.printed_id(), &user.username);
    let operation = Operation::MeNotifications;
    Some(Audited::new(operation, target, before, Some(shown(choice))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn tried(before: u32, end: TryEnd) -> NoteTried {
        let tried = Tried {
            id: 7,
            before,
            retries: 5,
            end,
        };
        tried.settled(NOW)
    }

    #[test]
    fn waits_grow_and_end_with_the_last_try() {
        let not = || TryEnd::Not("no connection".to_owned());
        let waits: Vec<Option<i64>> = (0..6)
            .map(|n| tried(n, not()).next_at.map(|at| at.since(NOW) / 1000))
            .collect();
        let wanted = [10, 60, 360, 2160, 12_960].map(Some);
        assert_eq!(waits[..5], wanted);
        assert_eq!(waits[5], None, "five times again is enough");
        let last = tried(5, not());
        assert_eq!((last.state, last.tries), (NoteState::Failed, 6));
        assert_eq!(next_try(u32::MAX, NOW), NOW.plus_s(AGAIN_AT_MOST_S));
    }

    #[test]
    fn what_stands_behind_another_is_not_counted() {
        let behind = tried(0, TryEnd::Behind);
        assert_eq!((behind.state, behind.tries), (NoteState::Waiting, 0));
        assert!(behind.next_at.is_some());
        let taken = tried(0, TryEnd::Taken);
        assert_eq!((taken.state, taken.tries), (NoteState::Sent, 1));
        let never = tried(0, TryEnd::Never("gone".to_owned()));
        assert_eq!(
            (never.state, never.ended_at),
            (NoteState::Failed, Some(NOW))
        );
    }

    #[test]
    fn what_is_usual_is_told_and_what_was_chosen_stands_over_it() {
        let usual = NotifyChoice::usual(UserId::new(1));
        assert!(usual.mails(NoteEvent::Warn) && usual.mails(NoteEvent::End));
        assert!(!usual.mails(NoteEvent::Start) && !usual.calls(NoteEvent::End));
        let chosen = NotifyChoice {
            mail: Some(BTreeSet::from([NoteEvent::Start])),
            url: Some("https://desk.lab/".to_owned()),
            ..usual
        };
        assert!(chosen.mails(NoteEvent::Start) && !chosen.mails(NoteEvent::End));
        assert!(chosen.calls(NoteEvent::End));
    }
}
