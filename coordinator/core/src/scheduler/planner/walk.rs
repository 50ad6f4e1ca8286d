//! The order of the next pass as a whole: who comes at which place.
//!
//! It is the order in which all would be taken if each found a place: bands of priority, in
//! each the sessions that have tries left before the others, in these the discipline of the
//! group. Those at a limit have their place in it.

use super::{Class, Key, Lane, Planner, session_of};
use crate::model::Discipline;
use crate::scheduler::share::Share;
use longshore_common::ids::SessionId;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::ControlFlow;

/// The classes of one band that have tries left, or the others.
type Part<'a> = Vec<&'a Class>;

/// What users take beside what they have, by the row of their use in the group.
type Taken = FxHashMap<u32, Vec<i64>>;

/// What makes the shares of one user in a part, and the lanes.
struct Asker<'a> {
    /// Before the first of the part.
    used: Vec<i64>,
    weight: i64,
    /// Each with what one session of it takes.
    lanes: Vec<(&'a Lane, &'a [i64])>,
}

/// What all shares of a group are of.
struct Whole<'a>(&'a [i64]);

impl Whole<'_> {
    fn share(&self, used: &[i64], weight: i64) -> Share {
        Share::of(used, self.0, weight)
    }
}

/// So many sessions take what each needs.
fn take(used: &mut [i64], needs: &[i64], count: usize) {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    for (used, need) in used.iter_mut().zip(needs) {
        *used = used.saturating_add(need.saturating_mul(count));
    }
}

/// Keys as numbers in the same order, to halve what lies between two.
fn number_of(key: Key) -> u128 {
    let part = |value: i64| u128::from(value.cast_unsigned() ^ (1 << 63));
    (part(key.0) << 64) | part(key.1)
}

fn key_at(number: u128) -> Key {
    let part = |bits: u128| {
        // Each half has 64 bits.
        (u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(u64::MAX) ^ (1 << 63)).cast_signed()
    };
    (part(number >> 64), part(number))
}

impl Asker<'_> {
    fn before(&self, key: Key) -> usize {
        self.lanes.iter().map(|(lane, _)| lane.before(key)).sum()
    }

    /// The share when all its sessions before a key are placed.
    fn share_at(&self, whole: &Whole<'_>, key: Key) -> Share {
        let mut used = self.used.clone();
        for (lane, needs) in &self.lanes {
            take(&mut used, needs, lane.before(key));
        }
        whole.share(&used, self.weight)
    }

    /// How many of its sessions are taken before the turn of one with this share and key. The
    /// share of a user only rises, so it is those up to some key; that is halved in on, and no
    /// session is looked at.
    fn taken_before(&self, whole: &Whole<'_>, turn: (Share, Key)) -> usize {
        let earlier = |key: Key| (self.share_at(whole, key), key) < turn;
        let firsts = self.lanes.iter().filter_map(|(lane, _)| lane.first());
        let lasts = self.lanes.iter().filter_map(|(lane, _)| lane.last());
        let (Some(first), Some(last)) = (firsts.min(), lasts.max()) else {
            return 0;
        };
        if !earlier(first) {
            return 0;
        }
        if earlier(last) {
            return self.before(last) + 1;
        }
        // What lies below the first is taken earlier, what lies from the second on is not.
        let (mut low, mut high) = (first, last);
        let (mut below, mut above) = (self.before(first), self.before(last));
        while above - below > 1 {
            let middle = key_at(number_of(low).midpoint(number_of(high)));
            let count = self.before(middle);
            if earlier(middle) {
                (low, below) = (middle, count);
            } else {
                (high, above) = (middle, count);
            }
        }
        // At most one is left between the two.
        let left = self
            .lanes
            .iter()
            .filter_map(|(lane, _)| lane.first_from(low));
        match left.min() {
            Some(key) if key < high && earlier(key) => above,
            _ => below,
        }
    }
}

impl Lane {
    fn first(&self) -> Option<Key> {
        self.sessions.first().copied()
    }

    fn last(&self) -> Option<Key> {
        self.sessions.last().copied()
    }

    fn first_from(&self, key: Key) -> Option<Key> {
        self.sessions.from(key).next().copied()
    }

    /// How many of it are ready.
    fn len(&self) -> usize {
        self.sessions.len()
    }

    /// How many of it come before a key.
    fn before(&self, key: Key) -> usize {
        self.sessions.before(&key)
    }
}

impl Planner {
    fn is_drf(&self, group: u32) -> bool {
        self.groups[group as usize].discipline == Discipline::Drf
    }

    /// The parts in which a pass takes the sessions of a group, first those taken first.
    fn parts(&self, group: u32) -> impl Iterator<Item = Part<'_>> {
        let skip_after = self.groups[group as usize].skip_after;
        self.bands(group).flat_map(move |(_, classes)| {
            let fresh = |class: &&Class| skip_after == 0 || class.retries < skip_after;
            let (fresh, spent): (Part<'_>, Part<'_>) = classes.into_iter().partition(fresh);
            [fresh, spent]
        })
    }

    /// Who asks in a part, when those of the parts before it are placed.
    fn askers<'a>(&'a self, part: &Part<'a>, taken: &Taken) -> Vec<Asker<'a>> {
        let mut users: BTreeMap<u32, Asker<'_>> = BTreeMap::new();
        for lane in part.iter().flat_map(|class| self.lanes_of(class)) {
            let (user, used, weight) = self.share_parts(lane);
            let asker = users.entry(user).or_insert_with(|| {
                let mut used = used[..self.slots.len()].to_vec();
                if let Some(more) = taken.get(&user) {
                    take(&mut used, more, 1);
                }
                Asker {
                    used,
                    weight,
                    lanes: Vec::new(),
                }
            });
            asker.lanes.push((lane, self.shape_total(lane)));
        }
        users.into_values().collect()
    }

    /// All of a part are placed.
    fn take_all(&self, part: &Part<'_>, taken: &mut Taken) {
        for lane in part.iter().flat_map(|class| self.lanes_of(class)) {
            let (user, ..) = self.share_parts(lane);
            let used = taken.entry(user);
            let used = used.or_insert_with(|| vec![0; self.slots.len()]);
            take(used, self.shape_total(lane), lane.len());
        }
    }

    fn whole(&self, group: u32) -> Whole<'_> {
        Whole(&self.groups[group as usize].capacity[..self.slots.len()])
    }

    /// The place of a waiting session among those of its group that are ready, from 1. None for
    /// one that has none. It counts by lanes: what it costs does not grow with who waits.
    pub(in crate::scheduler) fn place_in_line(&mut self, group: u32, id: SessionId) -> Option<u64> {
        if self.is_drf(group) {
            self.recount_capacity(group);
        }
        let seat = self.seats.get(&id)?;
        let lane = self.lanes[seat.lane as usize].as_ref()?;
        let own = self.classes[lane.class? as usize].as_ref()?;
        let (key, drf) = (seat.key, self.is_drf(group));
        let (mut before, mut taken) = (0, Taken::default());
        for part in self.parts(group) {
            if !part.iter().any(|class| std::ptr::eq(*class, own)) {
                before += part.iter().map(|class| class.ready).sum::<usize>();
                if drf {
                    self.take_all(&part, &mut taken);
                }
                continue;
            }
            before += match drf {
                false => {
                    let lanes = part.iter().flat_map(|class| self.lanes_of(class));
                    lanes.map(|lane| lane.before(key)).sum::<usize>()
                }
                true => {
                    let (askers, whole) = (self.askers(&part, &taken), self.whole(group));
                    let mut lanes = askers.iter().map(|asker| (asker, &asker.lanes));
                    let its = |(one, _): &(&Lane, &[i64])| std::ptr::eq(*one, lane);
                    let (asker, _) = lanes.find(|(_, lanes)| lanes.iter().any(its))?;
                    let turn = (asker.share_at(&whole, key), key);
                    let counts = askers.iter().map(|asker| asker.taken_before(&whole, turn));
                    counts.sum()
                }
            };
            return u64::try_from(before + 1).ok();
        }
        None
    }

    /// How many of a group are ready.
    pub(in crate::scheduler) fn in_line(&self, group: u32) -> usize {
        let classes = self.bands(group).flat_map(|(_, classes)| classes);
        classes.map(|class| class.ready).sum()
    }

    /// Waiting sessions that are not ready, in no order.
    pub(in crate::scheduler) fn unready(&self) -> impl Iterator<Item = SessionId> {
        self.unready.keys().copied()
    }

    /// Goes through the sessions of a group that are ready, in the order in which the next pass
    /// would take them if each found a place, from one place on (0 is the first), until told to
    /// stop. Parts that lie before are not looked at.
    pub(in crate::scheduler) fn walk(
        &mut self,
        group: u32,
        skip: usize,
        mut take: impl FnMut(SessionId, u64) -> ControlFlow<()>,
    ) {
        if self.is_drf(group) {
            self.recount_capacity(group);
        }
        let drf = self.is_drf(group);
        let (mut place, mut taken) = (0u64, Taken::default());
        let mut skip = u64::try_from(skip).unwrap_or(u64::MAX);
        for part in self.parts(group) {
            let count: usize = part.iter().map(|class| class.ready).sum();
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            if skip >= count {
                skip -= count;
                place += count;
                if drf {
                    self.take_all(&part, &mut taken);
                }
                continue;
            }
            let step = |key| {
                place += 1;
                if skip > 0 {
                    skip -= 1;
                    return ControlFlow::Continue(());
                }
                take(session_of(key), place)
            };
            let done = match drf {
                true => by_share(&self.whole(group), &self.askers(&part, &taken), step),
                false => in_order(part.iter().flat_map(|class| self.lanes_of(class)), step),
            };
            if done.is_break() {
                return;
            }
            if drf {
                self.take_all(&part, &mut taken);
            }
        }
    }
}

fn in_order<'a>(
    lanes: impl Iterator<Item = &'a Lane>,
    mut step: impl FnMut(Key) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut lanes: Vec<_> = lanes.map(|lane| lane.sessions.iter().copied()).collect();
    let firsts = lanes.iter_mut().enumerate();
    let mut heads: BinaryHeap<Reverse<(Key, usize)>> = firsts
        .filter_map(|(at, lane)| Some(Reverse((lane.next()?, at))))
        .collect();
    while let Some(Reverse((key, at))) = heads.pop() {
        step(key)?;
        heads.extend(lanes[at].next().map(|key| Reverse((key, at))));
    }
    ControlFlow::Continue(())
}

/// Whoever has the smallest share, as if each were placed in turn.
fn by_share(
    whole: &Whole<'_>,
    askers: &[Asker<'_>],
    mut step: impl FnMut(Key) -> ControlFlow<()>,
) -> ControlFlow<()> {
    /// Of one user: what it uses by now, and the next of each of its lanes.
    type One<'a, I> = (
        Vec<i64>,
        Vec<I>,
        BinaryHeap<Reverse<(Key, usize)>>,
        &'a Asker<'a>,
    );
    let mut users: Vec<One<'_, _>> = Vec::with_capacity(askers.len());
    for asker in askers {
        let lanes = asker.lanes.iter();
        let mut lanes: Vec<_> = lanes
            .map(|(lane, _)| lane.sessions.iter().copied())
            .collect();
        let firsts = lanes.iter_mut().enumerate();
        let heads = firsts
            .filter_map(|(at, lane)| Some(Reverse((lane.next()?, at))))
            .collect();
        users.push((asker.used.clone(), lanes, heads, asker));
    }
    let next = |(used, _, heads, asker): &One<'_, _>, at: usize| {
        let Reverse((key, _)) = heads.peek()?;
        Some(Reverse((whole.share(used, asker.weight), *key, at)))
    };
    let mut order: BinaryHeap<Reverse<(Share, Key, usize)>> = users
        .iter()
        .enumerate()
        .filter_map(|(at, user)| next(user, at))
        .collect();
    while let Some(Reverse((_, _, at))) = order.pop() {
        let (used, lanes, heads, asker) = &mut users[at];
        let Some(Reverse((key, lane))) = heads.pop() else {
            continue;
        };
        step(key)?;
        take(used, asker.lanes[lane].1, 1);
        heads.extend(lanes[lane].next().map(|key| Reverse((key, lane))));
        order.extend(next(&users[at], at));
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_halved_in_their_order() {
        let keys = [
            (i64::MIN, i64::MIN),
            (-5, 3),
            (-5, 4),
            (0, i64::MAX),
            (1, i64::MIN),
            (i64::MAX, i64::MAX),
        ];
        assert!(keys.is_sorted_by_key(|key| number_of(*key)));
        assert!(keys.iter().all(|key| key_at(number_of(*key)) == *key));
    }
}
