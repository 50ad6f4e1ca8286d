//! One pass: who is served, in which order, and what a try costs.

use super::keep::pending_timeout_s;
use super::{Class, Held, Key, Lane, Planner, Shape, Stopped, session_of};
use crate::bugs;
use crate::model::{Account, Change, Charge, Discipline, State};
use crate::scheduler::dispatch::Admits;
use crate::scheduler::room::hold_when_empty;
use crate::scheduler::share::Share;
use crate::scheduler::{Cancel, Decisions};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::SessionId;
use longshore_common::session::{ClusterMode, Reason};
use longshore_common::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

enum Served {
    Placed,
    Parked,
    Never,
    Full,
    Passed,
}

impl Planner {
    pub(super) fn time_out(&mut self, state: &State, now: Timestamp, decisions: &mut Decisions) {
        while let Some((at, id)) = self.timeouts.first().copied()
            && at <= now
        {
            self.timeouts.remove(&(at, id));
            let Some(session) = state.sessions.get(&id) else {
                continue;
            };
            let allowed = pending_timeout_s(state, session);
            decisions.cancels.push(Cancel {
                session: id,
                reason: Reason::PendingTimeout,
                detail: format!("it waited longer than the {allowed} s allowed"),
            });
            self.unseat(id);
            self.dirty_sessions.push(id);
        }
    }

    /// The account at whose limit the sessions of a lane are, if any.
    pub(in crate::scheduler) fn at_limit(&self, lane: &Lane) -> Option<u32> {
        let request = &self.shapes[lane.shape as usize].as_ref()?.total;
        // Of a system session memory alone is limited.
        let mem = match lane.counts {
            true => None,
            false => self.slots.binary_search(&SlotName::mem()).ok(),
        };
        lane.layers.iter().copied().find(|at| {
            let row = &self.accounts[*at as usize];
            (lane.counts && row.sessions >= row.max_sessions)
                || row.limits.as_ref().is_some_and(|limits| {
                    // The last number is containers, which no account limits.
                    let slots = limits.len() - 1;
                    (0..slots)
                        .filter(|slot| lane.counts || Some(*slot) == mem)
                        .any(|slot| {
                            let (need, used) = (&request[slot], &row.used[slot]);
                            let limit = &limits[slot];
                            let need = *need + i64::from(*need > 0 && bugs::is(1));
                            need > 0 && used.saturating_add(need) > *limit
                        })
                })
        })
    }

    fn park(&mut self, lane_at: u32, account: u32) {
        let Some(lane) = &mut self.lanes[lane_at as usize] else {
            return;
        };
        lane.parked = Some(account);
        self.accounts[account as usize].parked.insert(lane_at);
        if let (Some(class), Some(first)) = (lane.class, lane.sessions.first())
            && let Some(class) = &mut self.classes[class as usize]
        {
            class.lanes.remove(&(*first, lane_at));
        }
    }

    pub(in crate::scheduler) fn lane_of_session(&self, id: SessionId) -> Option<&Lane> {
        let seat = self.seats.get(&id)?;
        self.lanes[seat.lane as usize].as_ref()
    }

    pub(in crate::scheduler) fn class_of_session(&self, id: SessionId) -> Option<&Class> {
        let class = self.lane_of_session(id)?.class?;
        self.classes[class as usize].as_ref()
    }

    pub(super) fn pass(
        &mut self,
        state: &State,
        group: u32,
        now: Timestamp,
        decisions: &mut Decisions,
    ) {
        let row = &mut self.groups[group as usize];
        let before = row.stopped.take();
        row.next_charge = None;
        let skip_after = row.skip_after;
        let drf = row.discipline == Discipline::Drf;
        let mut bands: Vec<(u8, Vec<u32>)> = row
            .bands
            .iter()
            .map(|(Reverse(priority), classes)| (*priority, classes.iter().copied().collect()))
            .collect();
        if bugs::is(13) {
            bands.reverse();
        }
        if drf {
            self.recount_capacity(group);
        }
        for (priority, classes) in bands {
            let (fresh, spent): (Vec<u32>, Vec<u32>) = classes.into_iter().partition(|at| {
                self.classes[*at as usize]
                    .as_ref()
                    .is_some_and(|c| skip_after == 0 || c.retries < skip_after || bugs::is(5))
            });
            for (part, stops) in [(fresh, true), (spent, false)] {
                let head = if drf {
                    self.serve_by_share(state, group, &part, stops, now, decisions)
                } else {
                    self.serve_in_order(state, group, &part, stops, now, decisions)
                };
                if let Some(head) = head.filter(|_| !bugs::is(3)) {
                    let same = before.filter(|b| b.head == head && b.priority == priority);
                    let since = same.map_or(now, |before| before.since);
                    let row = &mut self.groups[group as usize];
                    row.stopped = Some(Stopped {
                        head,
                        priority,
                        since,
                    });
                    return;
                }
            }
        }
    }

    pub(super) fn recount_capacity(&mut self, group: u32) {
        let row = &self.groups[group as usize];
        if row.capacity_epoch == Some(row.epoch) {
            return;
        }
        let mut capacity = vec![0i64; self.slots.len() + 1];
        for member in row.nodes.members() {
            for (sum, amount) in capacity
                .iter_mut()
                .zip(&self.nodes[member as usize].capacity)
            {
                *sum = sum.saturating_add(*amount);
            }
        }
        let row = &mut self.groups[group as usize];
        row.capacity = capacity.into();
        row.capacity_epoch = Some(row.epoch);
        let id = row.id;
        for at in 0..u32::try_from(self.accounts.len()).unwrap_or(u32::MAX) {
            if matches!(self.accounts[at as usize].account, Account::InGroup(g, _) if g == id) {
                self.recount_share(group, at);
            }
        }
    }

    /// First come (or last come) first served. Says who stopped the group.
    fn serve_in_order(
        &mut self,
        state: &State,
        group: u32,
        part: &[u32],
        stops: bool,
        now: Timestamp,
        decisions: &mut Decisions,
    ) -> Option<SessionId> {
        let head = |classes: &[Option<Class>], at: u32| {
            let class = classes[at as usize].as_ref()?;
            // One that is known to find no room is tried in name only, and only where that stops.
            let tried = stops || !class.full;
            let (key, lane) = class.lanes.first().filter(|_| tried)?;
            Some(Reverse((*key, *lane, at)))
        };
        let mut heads: BinaryHeap<Reverse<(Key, u32, u32)>> = part
            .iter()
            .filter_map(|at| head(&self.classes, *at))
            .collect();
        while let Some(Reverse((key, lane, class))) = heads.pop() {
            match self.serve(state, group, class, lane, key, now, decisions) {
                Served::Placed | Served::Parked => heads.extend(head(&self.classes, class)),
                Served::Full if stops => return Some(session_of(key)),
                Served::Full | Served::Never | Served::Passed => (),
            }
        }
        None
    }

    /// Whoever has the smallest dominant share first, recomputed after each placement.
    fn serve_by_share(
        &mut self,
        state: &State,
        group: u32,
        part: &[u32],
        stops: bool,
        now: Timestamp,
        decisions: &mut Decisions,
    ) -> Option<SessionId> {
        // Per user the oldest session of each lane that is in this part.
        let mut users: BTreeMap<u32, BTreeSet<(Key, u32, u32)>> = BTreeMap::new();
        for class_at in part {
            let Some(class) = &self.classes[*class_at as usize] else {
                continue;
            };
            if !stops && class.full {
                continue;
            }
            for (key, lane_at) in &class.lanes {
                if let Some(lane) = &self.lanes[*lane_at as usize] {
                    users
                        .entry(lane.user)
                        .or_default()
                        .insert((*key, *lane_at, *class_at));
                }
            }
        }
        let mut order: BinaryHeap<Reverse<(Share, Key, u32)>> = users
            .iter()
            .filter_map(|(user, heads)| {
                let (key, ..) = heads.first()?;
                Some(Reverse((self.accounts[*user as usize].share, *key, *user)))
            })
            .collect();
        while let Some(Reverse((_, _, user))) = order.pop() {
            let Some(heads) = users.get_mut(&user) else {
                continue;
            };
            let Some((key, lane, class)) = heads.pop_first() else {
                continue;
            };
            let known_full = !stops
                && self.classes[class as usize]
                    .as_ref()
                    .is_some_and(|c| c.full);
            if !known_full {
                match self.serve(state, group, class, lane, key, now, decisions) {
                    Served::Placed => {
                        if !bugs::is(6) {
                            self.recount_share(group, user);
                        }
                        let next = self.lanes[lane as usize]
                            .as_ref()
                            .and_then(|l| l.sessions.first().copied());
                        if let Some(next) = next {
                            heads.insert((next, lane, class));
                        }
                    }
                    Served::Full if stops => return Some(session_of(key)),
                    Served::Full | Served::Never | Served::Parked | Served::Passed => (),
                }
            }
            if let Some((key, ..)) = heads.first() {
                let share = self.accounts[user as usize].share;
                order.push(Reverse((share, *key, user)));
            }
        }
        None
    }

    /// Tries the first session of a lane.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of a loop that was cut in two"
    )]
    fn serve(
        &mut self,
        state: &State,
        group: u32,
        class_at: u32,
        lane_at: u32,
        key: Key,
        now: Timestamp,
        decisions: &mut Decisions,
    ) -> Served {
        let over = self.lanes[lane_at as usize]
            .as_ref()
            .and_then(|lane| self.at_limit(lane));
        if let Some(account) = over {
            self.park(lane_at, account);
            return Served::Parked;
        }
        let id = session_of(key);
        let Some(class) = &self.classes[class_at as usize] else {
            return Served::Passed;
        };
        let (shape_at, known_full) = (class.shape, class.full);
        let epoch = self.groups[group as usize].epoch;
        if matches!(class.never, Some((at, true)) if at == epoch) {
            self.note_held(class_at, Some(Held::Never));
            return Served::Never;
        }
        let mut pool_is_full = false;
        if self.groups[group as usize].pool.is_some() {
            match self.pool_admits(state, group, id) {
                Admits::Yes => (),
                Admits::Reserved => {
                    self.note_held(class_at, Some(Held::Reserved));
                    return Served::Passed;
                }
                Admits::Full => pool_is_full = true,
            }
        }
        if !known_full && !pool_is_full {
            // The session itself is looked at only where it says more than its shape.
            let asked = self.seats.get(&id).is_none_or(|seat| seat.penalised)
                || self.groups[group as usize].pool.is_some();
            let session = asked.then(|| state.sessions.get(&id)).flatten();
            if asked && session.is_none() {
                return Served::Passed;
            }
            let spots = match session {
                Some(session) => self.place(session, shape_at, group, now),
                None => self.place_shape(shape_at, group, &[]),
            };
            if let Some(spots) = spots {
                if let Some(session) = session {
                    self.book_direct(state, group, session);
                }
                let start = self.book(state, id, group, shape_at, spots, decisions);
                decisions.starts.push(start);
                self.note_held(class_at, None);
                return Served::Placed;
            }
        }
        // Also of one that is known to find no room: what its agents could hold may differ.
        if self.never_fits(class_at) && !bugs::is(17) {
            self.note_held(class_at, Some(Held::Never));
            return Served::Never;
        }
        if !pool_is_full && let Some(class) = &mut self.classes[class_at as usize] {
            class.full = true;
        }
        let held = match pool_is_full {
            true => Held::Pool,
            false => Held::Room,
        };
        self.note_held(class_at, Some(held));
        self.charge(group, class_at, now, decisions);
        Served::Full
    }

    /// Counts a try for a class and its like, at most one per interval.
    fn charge(&mut self, group: u32, class_at: u32, now: Timestamp, decisions: &mut Decisions) {
        let row = &self.groups[group as usize];
        let skip_after = row.skip_after;
        let Some(class) = &self.classes[class_at as usize] else {
            return;
        };
        let (priority, shape) = (class.priority, class.shape);
        // One that had its tries holds nobody up, and is tried whenever something happens.
        if skip_after == 0 || class.retries >= skip_after {
            return;
        }
        let alike: Vec<u32> = row
            .bands
            .get(&Reverse(priority))
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for at in alike {
            let Some(class) = &mut self.classes[at as usize] else {
                continue;
            };
            if class.shape != shape || class.ready == 0 || class.retries >= skip_after {
                continue;
            }
            let due = class
                .last_charged
                .is_none_or(|last| now.since(last) >= self.interval_ms || bugs::is(4));
            if due {
                class.retries += 1;
                class.last_charged = Some(now);
                if class.salt == 0 {
                    class.stored = true;
                    let shape = self.shapes[shape as usize]
                        .as_ref()
                        .map_or_else(String::new, |s| s.key.clone());
                    let group = self.groups[group as usize].id;
                    self.forgotten.remove(&(group, priority, shape.clone()));
                    decisions.changes.push(Change::Charged(Charge {
                        group,
                        priority,
                        shape,
                        retries: class.retries,
                        last_charged_at: now,
                    }));
                }
            }
        }
        let next = self.classes[class_at as usize]
            .as_ref()
            .and_then(|c| c.last_charged)
            .map(|last| last.plus_ms(self.interval_ms));
        let row = &mut self.groups[group as usize];
        if self.classes[class_at as usize].is_some() {
            row.next_charge = next;
        }
    }

    /// Whether no candidate could hold a session of this class even when empty.
    pub(super) fn never_fits(&mut self, class_at: u32) -> bool {
        let Some(class) = &self.classes[class_at as usize] else {
            return false;
        };
        let (group, shape) = (class.group, class.shape);
        let epoch = self.groups[group as usize].epoch;
        if let Some((at, never)) = class.never
            && at == epoch
        {
            return never;
        }
        let never = self.shape_never_fits(group, shape);
        if let Some(class) = &mut self.classes[class_at as usize] {
            class.never = Some((epoch, never));
        }
        never
    }

    pub(super) fn shape_never_fits(&self, group: u32, shape_at: u32) -> bool {
        let Some(shape) = &self.shapes[shape_at as usize] else {
            return false;
        };
        let together = shape.mode == ClusterMode::SingleNode || shape.ranks.len() == 1;
        let able = self
            .candidates(group, shape)
            .map(|at| &self.nodes[at as usize])
            .filter(|node| shape.may_fit(&node.capacity))
            .filter_map(|node| node.inventory.as_deref());
        let ranks: Vec<&Slots> = shape.ranks.iter().map(|rank| &**rank).collect();
        hold_when_empty(able, &ranks, together).is_err()
    }

    /// Agents that could be asked at all for a shape.
    pub(in crate::scheduler) fn candidates<'a>(
        &'a self,
        group: u32,
        shape: &'a Shape,
    ) -> Box<dyn Iterator<Item = u32> + 'a> {
        let right = move |at: &u32| {
            let node = &self.nodes[*at as usize];
            shape.arch.is_none_or(|arch| arch == node.arch)
        };
        if shape.strict {
            return Box::new(
                shape
                    .designated
                    .iter()
                    .filter_map(|id| self.node_of.get(id).copied())
                    .filter(move |at| {
                        let node = &self.nodes[*at as usize];
                        node.group == group && (node.candidate || node.ready && shape.by_admin)
                    })
                    .filter(right),
            );
        }
        Box::new(self.groups[group as usize].nodes.members().filter(right))
    }
}
