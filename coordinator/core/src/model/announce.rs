//! Announcements: what administrators want everybody to read.

use super::audited::{Audited, target};
use super::change::Change;
use super::event::{Answer, Outcome, Refusal};
use super::state::State;
use crate::access::Operation;
use longshore_common::announcements::AnnouncementLevel;
use longshore_common::ids::AnnouncementId;
use longshore_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Longest text, in characters: more is a page of its own.
const TEXT_MAX: usize = 2000;
/// Most that hold at a time: nobody reads more, and everybody is sent all of them.
const MOST: usize = 20;

/// What everybody is to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Its id.
    pub id: AnnouncementId,
    /// 1 to 2000 characters; line breaks are the only control characters.
    pub text: String,
    /// How urgent it is.
    pub level: AnnouncementLevel,
    /// It holds until then; none = until it is taken away.
    pub until: Option<Timestamp>,
    /// Login name of who made it.
    pub by: String,
    /// When.
    pub created_at: Timestamp,
}

impl Announcement {
    /// Whether it is to be read at an instant.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// Something is to be announced, or not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceOrder {
    /// What.
    pub verb: AnnounceVerb,
    /// Check, and change nothing.
    pub dry_run: bool,
}

/// See [`AnnounceOrder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnnounceVerb {
    /// It is to be read from now on. The id was drawn at the rim.
    Make(Announcement),
    /// It is taken away; one that is not there is gone already.
    Remove(AnnouncementId),
}

/// Decides it.
pub(super) fn decide(state: &State, order: &AnnounceOrder, now: Timestamp) -> Outcome {
    let mut changes = match &order.verb {
        AnnounceVerb::Make(new) => match fits(state, new, now) {
            Ok(()) => vec![Change::Announcement(new.clone())],
            Err(refusal) => return Outcome::refuse(refusal),
        },
        AnnounceVerb::Remove(id) => match state.announcements.contains_key(id) {
            true => vec![Change::AnnouncementDeleted(*id)],
            false => Vec::new(),
        },
    };
    if let AnnounceVerb::Make(_) = order.verb {
        // Those that are over go when there is a new one: nobody saw them any more.
        let over = state.announcements.values().filter(|old| !old.holds(now));
        changes.extend(over.map(|old| Change::AnnouncementDeleted(old.id)));
    }
    if order.dry_run {
        changes.clear();
    }
    Outcome {
        changes,
        ..Outcome::only(Answer::Done)
    }
}

fn fits(state: &State, new: &Announcement, now: Timestamp) -> Result<(), Refusal> {
    let wrong = |at: &str, text: String| Err(Refusal::new("LS-INVALID", text.clone()).at(at, text));
    let length = new.text.chars().count();
    let control = |c: char| c.is_control() && c != '\n';
    if new.text.trim().is_empty() || length > TEXT_MAX || new.text.contains(control) {
        let text = format!("text must have 1 to {TEXT_MAX} visible characters.");
        return wrong("/text", text);
    }
    if !new.holds(now) {
        return wrong("/until", "until must lie in the future.".to_owned());
    }
    let held = state.announcements.values().filter(|old| old.holds(now));
    if held.count() >= MOST {
        let text = format!("There are {MOST} announcements already; take one away first.");
        return Err(Refusal::new("LS-STATE", text));
    }
    Ok(())
}

/// What the audit log says of it.
pub(super) fn recorded(state: &State, order: &AnnounceOrder) -> Option<Audited> {
    let shown = |one: &Announcement| {
        let (level, until) = (one.level, one.until);
        Some(json!({ "text": one.text, "level": level, "until": until }))
    };
    let (id, before, after) = match &order.verb {
        AnnounceVerb::Make(new) => (new.id, None, shown(new)),
        AnnounceVerb::Remove(id) => (*id, shown(state.announcements.get(id)?), None),
    };
    let target = target("announcement", id, "");
    Some(Audited::new(
        Operation::AnnouncementWrite,
        target,
        before,
        after,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, Meta, react};
    use longshore_common::ids::{ClusterId, CoordinatorGeneration};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn new(id: u128, text: &str, until_s: Option<i64>) -> Announcement {
        Announcement {
            id: AnnouncementId::new(id),
            text: text.to_owned(),
            level: AnnouncementLevel::Info,
            until: until_s.map(|s| NOW.plus_s(s)),
            by: "ada".to_owned(),
            created_at: NOW,
        }
    }

    fn give(state: &mut State, verb: AnnounceVerb, now: Timestamp) -> Result<usize, &'static str> {
        let order = AnnounceOrder {
            verb,
            dry_run: false,
        };
        let outcome = react(state, &Event::Announce(Box::new(order)), now);
        outcome
            .changes
            .iter()
            .for_each(|change| state.apply(change));
        outcome
            .answer
            .map(|_| outcome.changes.len())
            .map_err(|no| no.code)
    }

    #[test]
    fn it_holds_until_it_is_over_or_taken_away() {
        let mut state = State::new(Meta {
            cluster: ClusterId::new(1),
            generation: CoordinatorGeneration(1),
            next_session: 1,
            next_uid: 20_000,
        });
        let make = AnnounceVerb::Make;
        for (text, until) in [("", None), ("a\u{7}b", None), ("x", Some(0))] {
            let wrong = give(&mut state, make(new(9, text, until)), NOW);
            assert_eq!(wrong, Err("LS-INVALID"), "{text:?}");
        }
        let long = "x".repeat(TEXT_MAX + 1);
        assert_eq!(
            give(&mut state, make(new(9, &long, None)), NOW),
            Err("LS-INVALID")
        );
        for n in 0..20 {
            let until = (n == 0).then_some(60);
            assert_eq!(give(&mut state, make(new(n, "a\nb", until)), NOW), Ok(1));
        }
        let one_more = || make(new(30, "c", None));
        assert_eq!(give(&mut state, one_more(), NOW), Err("LS-STATE"));
        // One is over: it goes, and there is room.
        let later = NOW.plus_s(60);
        assert_eq!(give(&mut state, one_more(), later), Ok(2));
        assert!(!state.announcements.contains_key(&AnnouncementId::new(0)));
        let remove = AnnounceVerb::Remove(AnnouncementId::new(30));
        assert_eq!(give(&mut state, remove.clone(), later), Ok(1));
        assert_eq!(give(&mut state, remove, later), Ok(0), "gone already");
    }
}
