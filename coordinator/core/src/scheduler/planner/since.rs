//! Since when what holds sessions back has done so. Nothing is decided by it: it is noted where
//! decisions are made, for those who ask. A planner made from scratch knows it from its first
//! pass on.

use super::{Ledger, Planner};
use crate::model::{Account, Session, State};
use crate::scheduler::limits::{LayerKind, Over};
use crate::scheduler::ready::{Mark, NotReady, reasons};
use longshore_common::amount::SlotName;
use longshore_common::ids::{GroupId, SessionId};
use longshore_common::time::Timestamp;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// What stood in the way of sessions that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scheduler) enum Held {
    /// No agent has room.
    Room,
    /// The pool is full.
    Pool,
    /// What the pool has left is owed to others.
    Reserved,
    /// No agent could hold it when empty.
    Never,
    /// The limit of an allocation policy.
    Limit,
    /// A queue that leads into no pool.
    NoPool,
}

/// What holds back the first session of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Front {
    head: SessionId,
    head_since: Timestamp,
    held: Held,
    since: Timestamp,
}

/// Most amounts that are kept of one thing: as long as use only grows there would be one for
/// each session, and few who wait ask for amounts that differ.
const MOST: usize = 64;

/// How much is left of something, and when there was more.
#[derive(Debug, Clone)]
pub(super) struct Left {
    amount: i64,
    /// So much was left until then: amounts fall, instants rise. At most [`MOST`].
    more: Vec<(i64, Timestamp)>,
    begun: Timestamp,
}

impl Left {
    const fn new(amount: i64, now: Timestamp) -> Self {
        Self {
            amount,
            more: Vec::new(),
            begun: now,
        }
    }

    fn is_now(&mut self, amount: i64, now: Timestamp) {
        if amount == self.amount {
            return;
        }
        while self.more.last().is_some_and(|(was, _)| *was <= self.amount) {
            self.more.pop();
        }
        self.more.push((self.amount, now));
        self.amount = amount;
        if self.more.len() > MOST {
            // Nobody is told of want before it began: the more of the two until the later.
            let (amount, _) = self.more.remove(0);
            self.more[0].0 = amount;
        }
    }

    /// Since when there has always been less than is needed; none where there is enough.
    fn less_since(&self, need: i64) -> Option<Timestamp> {
        if self.amount >= need {
            return None;
        }
        let enough = self.more.iter().rev().find(|(was, _)| *was >= need);
        Some(enough.map_or(self.begun, |(_, until)| *until))
    }
}

impl Ledger {
    fn left_of(&self, at: usize) -> Option<i64> {
        // Containers are limited by no account: their place is that of sessions here.
        let limits = self.limits.as_ref()?;
        if at + 1 == limits.len() {
            let most = i64::from(self.max_sessions);
            return (self.max_sessions < u32::MAX).then(|| most - i64::from(self.sessions));
        }
        (limits[at] < i64::MAX).then(|| limits[at].saturating_sub(self.used[at]))
    }

    /// Use differs.
    pub(super) fn note_left(&mut self, now: Timestamp) {
        let mut left = std::mem::take(&mut self.left);
        for (at, left) in &mut left {
            if let Some(amount) = self.left_of(usize::from(*at)) {
                left.is_now(amount, now);
            }
        }
        self.left = left;
    }

    /// Limits differ.
    pub(super) fn note_limits(&mut self, now: Timestamp) {
        let count = self.limits.as_ref().map_or(0, |limits| limits.len());
        let mut old = std::mem::take(&mut self.left).into_iter().peekable();
        let mut left = Vec::with_capacity(old.len());
        for at in 0..count {
            let index = u16::try_from(at).unwrap_or(u16::MAX);
            let known = old.next_if(|(slot, _)| *slot == index);
            let Some(amount) = self.left_of(at) else {
                continue;
            };
            let mut entry = known.unwrap_or_else(|| (index, Left::new(amount, now)));
            entry.1.is_now(amount, now);
            left.push(entry);
        }
        self.left = left;
    }
}

impl Planner {
    /// Notes why a session may not be considered, or that nothing keeps it from that.
    pub(super) fn note_ready(&mut self, state: &State, session: &Session, ready: bool) {
        if ready {
            if !self.unready.is_empty() {
                self.unready.remove(&session.id);
            }
            return;
        }
        let now = self.now;
        let rights = !self.has_rights(state, session);
        let known = self.unready.remove(&session.id).unwrap_or_default();
        let since = |mark: Mark| {
            let before = known.iter().find(|(other, _)| *other == mark);
            // What it waits for was never any other than now.
            let first = match mark {
                Mark::Dependency(_) => session.pending_since,
                _ => now,
            };
            (mark, before.map_or(first, |(_, since)| *since))
        };
        let marks: Vec<(Mark, Timestamp)> = reasons(state, session, now)
            .map(|reason| reason.mark())
            .chain(rights.then_some(Mark::Rights))
            .map(since)
            .collect();
        self.unready.insert(session.id, marks);
    }

    /// Since when a session has not been considered for this.
    pub(in crate::scheduler) fn unready_since(
        &self,
        id: SessionId,
        reason: &NotReady<'_>,
    ) -> Option<Timestamp> {
        let mark = reason.mark();
        let marks = self.unready.get(&id)?;
        let found = marks.iter().find(|(other, _)| *other == mark);
        found.map(|(_, since)| *since)
    }

    /// Since when a session has waited because its group is not active.
    pub(in crate::scheduler) fn inactive_since(&self, session: &Session) -> Option<Timestamp> {
        self.seats.get(&session.id)?;
        let at = self.group_of.get(&session.group)?;
        let since = self.groups[*at as usize].inactive_since?;
        Some(since.max(session.pending_since))
    }

    /// Since when a session has been over a limit.
    pub(in crate::scheduler) fn over_since(
        &self,
        session: &Session,
        over: &Over,
    ) -> Option<Timestamp> {
        let seat = self.seats.get(&session.id)?;
        let account = match over.kind {
            LayerKind::Keypair => Account::Keypair(session.access_key.clone()),
            LayerKind::User => Account::User(session.owner),
            LayerKind::Project => Account::Project(session.project),
            LayerKind::Domain => Account::Domain(session.domain),
        };
        let row = &self.accounts[*self.account_of.get(&account)? as usize];
        let (at, need) = match &over.slot {
            Some(slot) => (self.slots.binary_search(slot).ok()?, over.need),
            None => (self.slots.len(), 1),
        };
        let entry = row.left.iter().find(|(slot, _)| usize::from(*slot) == at)?;
        Some(entry.1.less_since(need)?.max(seat.since))
    }

    /// Since when a session has been behind the one that stopped its group.
    pub(in crate::scheduler) fn behind_since(&self, session: &Session) -> Option<Timestamp> {
        let seat = self.seats.get(&session.id)?;
        let group = self.group_of.get(&session.group)?;
        let stopped = self.groups[*group as usize].stopped?;
        Some(stopped.since.max(seat.since))
    }

    /// Since when a session has waited because queues are not served.
    pub(in crate::scheduler) fn unserved_since(&self, session: &Session) -> Option<Timestamp> {
        let seat = self.seats.get(&session.id)?;
        Some(self.unserved_since?.max(seat.since))
    }

    /// Since when the first session of its queue has been before this one.
    pub(in crate::scheduler) fn behind_front_since(&self, session: &Session) -> Option<Timestamp> {
        let (seat, front) = self.front_of(session)?;
        Some(front.head_since.max(seat))
    }

    /// Since when sessions like this one have been held back by this.
    pub(in crate::scheduler) fn held_since(
        &self,
        session: &Session,
        why: Held,
    ) -> Option<Timestamp> {
        if session.queue.is_some() {
            let (seat, front) = self.front_of(session)?;
            // Of a queue without pools nobody is asked who is first.
            let same = front.held == why && (why == Held::NoPool || front.head == session.id);
            return same.then(|| front.since.max(seat));
        }
        let seat = self.seats.get(&session.id)?;
        let (held, since) = self.class_of_session(session.id)?.held?;
        (held == why).then(|| since.max(seat.since))
    }

    fn front_of(&self, session: &Session) -> Option<(Timestamp, Front)> {
        let seat = self.seats.get(&session.id)?;
        let queue = session.queue.as_ref()?;
        Some((seat.since, *self.fronts.get(&queue.name)?))
    }

    /// Notes what a try of a class came to; none = it was no try, or somebody got a place.
    pub(super) fn note_held(&mut self, class_at: u32, held: Option<Held>) {
        let now = self.now;
        if let Some(class) = &mut self.classes[class_at as usize] {
            let same = class.held.filter(|(before, _)| held == Some(*before));
            class.held = same.or(held.map(|held| (held, now)));
        }
    }

    /// After queues were served: notes who is first in each, and why that one waits.
    pub(in crate::scheduler) fn note_fronts(
        &mut self,
        state: &State,
        now: Timestamp,
        hopeless: &mut BTreeSet<(String, SessionId)>,
    ) {
        let mut before = std::mem::take(&mut self.fronts);
        let config = &state.config.config;
        let names: Vec<String> = self.queues.keys().cloned().collect();
        for name in names {
            let Some(head) = self.takeable(&name).next() else {
                continue;
            };
            let Some(session) = state.sessions.get(&head) else {
                continue;
            };
            let queue = config.queue(&name);
            let linked = queue.as_ref().is_some_and(|queue| {
                let mut pools = queue.profile.pools.iter();
                pools.any(|pool| self.books.group_of(pool).is_some())
            });
            let held = match queue {
                Some(queue) if linked => {
                    let used = self.books.policy_used(&queue.policy.name);
                    let asked = queue.profile.allotment();
                    if queue.policy.limit.is_some_and(|most| used + asked > most) {
                        Held::Limit
                    } else if self
                        .first_able(state, session, queue.profile, now, hopeless)
                        .is_some()
                    {
                        Held::Reserved
                    } else {
                        Held::Room
                    }
                }
                _ => Held::NoPool,
            };
            let old = before.remove(&name);
            let same = |old: &Front| old.held == held && (old.head == head || held == Held::NoPool);
            let front = Front {
                head,
                head_since: old
                    .filter(|old| old.head == head)
                    .map_or(now, |old| old.head_since),
                held,
                since: old.filter(same).map_or(now, |old| old.since),
            };
            self.fronts.insert(name, front);
        }
    }

    /// Nobody is first in any queue that is served.
    pub(in crate::scheduler) fn no_fronts(&mut self) {
        self.fronts.clear();
    }

    /// Everything was read anew: takes over what was known before of the same things.
    pub(super) fn remember(&mut self, before: Self) {
        for (id, seat) in &mut self.seats {
            if let Some(old) = before.seats.get(id)
                && old.ready == seat.ready
                && old.queue == seat.queue
            {
                seat.since = old.since;
            }
        }
        for (id, marks) in &mut self.unready {
            let Some(old) = before.unready.get(id) else {
                continue;
            };
            for (mark, since) in marks {
                if let Some((_, at)) = old.iter().find(|(other, _)| other == mark) {
                    *since = *at;
                }
            }
        }
        for group in &mut self.groups {
            let old = before.group_of.get(&group.id);
            let old = old.and_then(|at| before.groups[*at as usize].inactive_since);
            if let (Some(since), Some(old)) = (&mut group.inactive_since, old) {
                *since = old;
            }
        }
        if let (Some(since), Some(old)) = (&mut self.unserved_since, before.unserved_since) {
            *since = old;
        }
        let mut held = FxHashMap::default();
        for class in before.classes.iter().flatten() {
            if let (Some(known), Some(shape)) = (class.held, &before.shapes[class.shape as usize]) {
                let group = before.groups[class.group as usize].id;
                held.insert(
                    (group, class.priority, shape.key.as_str(), class.salt),
                    known,
                );
            }
        }
        for class in self.classes.iter_mut().flatten() {
            let key = self.shapes[class.shape as usize].as_ref();
            let key = key.map_or("", |shape| shape.key.as_str());
            let group: GroupId = self.groups[class.group as usize].id;
            class.held = held.get(&(group, class.priority, key, class.salt)).copied();
        }
        self.remember_left(&before);
        if self.books.enabled() {
            self.fronts = before.fronts;
        }
    }

    fn remember_left(&mut self, before: &Self) {
        let now = self.now;
        let place = |slot: &SlotName| before.slots.binary_search(slot).ok();
        let places: Vec<Option<usize>> = self.slots.iter().map(place).collect();
        for row in self.accounts.iter_mut().filter(|row| !row.left.is_empty()) {
            let Some(old) = before.account_of.get(&row.account) else {
                continue;
            };
            let old = &before.accounts[*old as usize].left;
            for (slot, left) in &mut row.left {
                let slot = usize::from(*slot);
                let was = match places.get(slot) {
                    Some(place) => *place,
                    None => Some(before.slots.len()),
                };
                let known = old.iter().find(|(at, _)| Some(usize::from(*at)) == was);
                if let Some((_, known)) = known {
                    let amount = left.amount;
                    *left = known.clone();
                    left.is_now(amount, now);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_a_bound() {
        let at = Timestamp;
        let mut left = Left::new(1000, at(0));
        for now in 1..=200 {
            left.is_now(1000 - now, at(now));
        }
        assert_eq!(left.more.len(), MOST);
        // The newest are exact; of the oldest no want is told before it began.
        assert_eq!(left.less_since(801), Some(at(200)));
        assert_eq!(left.less_since(863), Some(at(138)));
        assert_eq!(left.less_since(1000), Some(at(137)));
        assert_eq!(left.less_since(1001), Some(at(0)));
    }

    #[test]
    fn when_there_was_last_enough() {
        let at = Timestamp;
        let mut left = Left::new(10, at(0));
        assert_eq!(left.less_since(10), None);
        assert_eq!(left.less_since(11), Some(at(0)));
        for (now, amount) in [(1, 7), (2, 4), (3, 6), (4, 1), (5, 2)] {
            left.is_now(amount, at(now));
        }
        let since: Vec<_> = [2, 3, 6, 7, 8, 10, 11]
            .into_iter()
            .map(|need| left.less_since(need).map(|t| t.0))
            .collect();
        assert_eq!(
            since,
            [None, Some(4), Some(4), Some(2), Some(1), Some(1), Some(0)]
        );
        // All that is used is entered once, and leaves with what is given back.
        left.is_now(20, at(6));
        left.is_now(3, at(7));
        assert_eq!(left.more, [(20, at(7))]);
    }
}
