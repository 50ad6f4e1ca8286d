//! Refusals and failed logins of the same kind, account and prefix: one record a minute.

use super::{Draft, Outcome};
use crate::throttle::Prefix;
use longshore_common::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// How long one record stands for those that follow it.
const MERGE_MS: i64 = 60_000;
/// Kinds that are merged at a time; beyond, the one that would be written next is written
/// early. Bounds memory to some megabytes under a flood from many places.
const MOST: usize = 4096;

/// Operation, code, account, and where it came from.
type Kind = (String, Option<String>, Option<String>, Option<Prefix>);

#[derive(Debug, Clone)]
struct Open {
    /// From here on the next record may be written.
    due: Timestamp,
    /// The first of those that wait, and how many they are.
    waiting: Option<(Draft, u64)>,
}

/// Holds back what repeats itself. The first of a kind is written at once, so that a crash
/// hides no attack; what follows within a minute becomes one record with `count`.
#[derive(Debug, Clone, Default)]
pub struct Merger {
    open: BTreeMap<Kind, Open>,
    /// Each kind of `open` once, the one that is due first in front: all wait equally long.
    queue: VecDeque<Kind>,
}

impl Merger {
    /// Takes a refusal or failure in and gives back the records to be written now. What
    /// succeeded is never held back.
    #[must_use = "the records are to be written"]
    pub fn push(&mut self, draft: Draft, from: Option<Prefix>, now: Timestamp) -> Vec<Draft> {
        if draft.outcome == Outcome::Ok {
            return vec![draft];
        }
        let kind = kind(&draft, from);
        let mut ready = self.due(now);
        if let Some(open) = self.open.get_mut(&kind) {
            match &mut open.waiting {
                Some((first, count)) => {
                    *count = count.saturating_add(1);
                    if first.target != draft.target {
                        first.target = None; // it stands for more than one thing
                    }
                }
                none => *none = Some((draft, 1)),
            }
            return ready;
        }
        if self.open.len() >= MOST {
            let gone = self.queue.pop_front();
            let gone = gone.and_then(|kind| self.open.remove(&kind));
            ready.extend(gone.and_then(merged));
        }
        let open = Open {
            due: now.plus_ms(MERGE_MS),
            waiting: None,
        };
        self.queue.push_back(kind.clone());
        self.open.insert(kind, open);
        ready.push(draft);
        ready
    }

    /// Whether one of this kind is remembered: then the draft would be merged with it.
    #[must_use]
    pub fn is_open(&self, draft: &Draft, from: Option<Prefix>) -> bool {
        self.open.contains_key(&kind(draft, from))
    }

    /// How many kinds are remembered.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.open.len()
    }

    /// The records whose minute is over. To be called about once a second while
    /// [`Merger::is_empty`] is false.
    #[must_use = "the records are to be written"]
    pub fn due(&mut self, now: Timestamp) -> Vec<Draft> {
        let mut ready = Vec::new();
        while let Some(kind) = self.queue.front() {
            // A clock that was set back must not hold anything for longer than a minute.
            let waits = |open: &Open| now < open.due && open.due.since(now) <= MERGE_MS;
            if self.open.get(kind).is_some_and(waits) {
                break;
            }
            let Some(kind) = self.queue.pop_front() else {
                break;
            };
            let waiting = self.open.get_mut(&kind).and_then(|open| {
                open.due = now.plus_ms(MERGE_MS);
                open.waiting.take()
            });
            if let Some((draft, count)) = waiting {
                ready.push(draft.count(count));
                self.queue.push_back(kind);
            } else {
                self.open.remove(&kind);
            }
        }
        ready
    }

    /// Everything that waits, for an orderly stop.
    #[must_use = "the records are to be written"]
    pub fn finish(&mut self) -> Vec<Draft> {
        self.queue.clear();
        std::mem::take(&mut self.open)
            .into_values()
            .filter_map(merged)
            .collect()
    }

    /// Whether nothing is held or remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

fn kind(draft: &Draft, from: Option<Prefix>) -> Kind {
    let account = draft.actor.id.clone().or_else(|| draft.actor.name.clone());
    (draft.operation.clone(), draft.code.clone(), account, from)
}

fn merged(open: Open) -> Option<Draft> {
    open.waiting.map(|(draft, count)| draft.count(count))
}

#[cfg(test)]
mod tests {
    use super::super::{Actor, ActorKind};
    use super::*;

    fn draft(who: &str, outcome: Outcome) -> Draft {
        let actor = Actor::new(ActorKind::User).called("", who);
        Draft::new(actor, "auth.login", outcome).code("LS-LOGIN-FAILED")
    }

    fn counts(drafts: &[Draft]) -> Vec<Option<u64>> {
        drafts.iter().map(|draft| draft.count).collect()
    }

    #[test]
    fn one_record_a_minute_for_each_kind() {
        let mut merger = Merger::default();
        let from = Some(Prefix::V4([192, 0, 2]));
        let mut written = Vec::new();
        // One failure a second for three minutes.
        for second in 0..180 {
            let now = Timestamp(second * 1000);
            written.extend(merger.push(draft("dana", Outcome::Refused), from, now));
        }
        assert_eq!(counts(&written), [None, Some(59), Some(60)]);
        let other = merger.push(draft("erin", Outcome::Refused), from, Timestamp(179_000));
        assert_eq!(counts(&other), [None]);
        let open = |who, from| merger.is_open(&draft(who, Outcome::Refused), from);
        assert!(open("dana", from) && !open("dana", None) && !open("fred", from));
        assert_eq!(merger.kinds(), 2);
        let done = merger.push(draft("dana", Outcome::Ok), from, Timestamp(179_000));
        assert_eq!(counts(&done), [None]);
        assert_eq!(counts(&merger.due(Timestamp(179_999))), []);
        assert_eq!(counts(&merger.due(Timestamp(180_000))), [Some(60)]);
        assert!(merger.due(Timestamp(240_000)).is_empty() && merger.is_empty());
    }

    #[test]
    fn nothing_is_lost_and_memory_is_bounded() {
        let mut merger = Merger::default();
        let (mut written, mut given) = (Vec::new(), 0_u64);
        for round in 0..3_i64 {
            for n in 0..10_000_u32 {
                let [_, a, b, c] = n.to_be_bytes();
                let from = Some(Prefix::V4([a, b, c]));
                for _ in 0..u64::from(n % 100 == 0) + 1 {
                    given += 1;
                    let now = Timestamp(round * 1000);
                    written.extend(merger.push(draft("dana", Outcome::Failed), from, now));
                }
                assert!(merger.open.len() <= MOST && merger.queue.len() == merger.open.len());
            }
        }
        written.extend(merger.finish());
        let told: u64 = written.iter().map(|draft| draft.count.unwrap_or(1)).sum();
        assert_eq!(told, given);
    }
}
