//! Queues of pools: who is taken from which queue into which pool.
//!
//! Two phases: first every policy within its reservation, then beyond, where work that
//! is within somebody else's unmet reservation and could run in the same pools comes
//! first. After each placement it starts again, so the order never depends on what was
//! placed before.

use super::Decisions;
use super::planner::Planner;
use crate::model::{Account, Pool, Profile, ResourceConfig, Session, State};
use longshore_common::amount::Slots;
use longshore_common::ids::SessionId;
use longshore_common::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What pools and policies hold, with what this pass has given out.
#[derive(Debug, Default)]
pub(super) struct Books {
    enabled: bool,
    pools: Vec<PoolBook>,
    policy_used: BTreeMap<String, i64>,
}

#[derive(Debug)]
struct PoolBook {
    name: String,
    group: u32,
    count: i64,
    used: i64,
}

impl PoolBook {
    fn free(&self) -> i64 {
        (self.count - self.used).max(0)
    }
}

impl Books {
    pub(super) fn is_some(&self) -> bool {
        !self.pools.is_empty()
    }

    pub(super) fn enabled(&self) -> bool {
        self.enabled
    }

    fn pool(&self, name: &str) -> Option<&PoolBook> {
        self.pools.iter().find(|p| p.name == name)
    }

    /// Count and use of a pool.
    pub(super) fn pool_state(&self, name: &str) -> Option<(i64, i64)> {
        self.pool(name).map(|p| (p.count, p.used))
    }

    pub(super) fn group_of(&self, name: &str) -> Option<u32> {
        self.pool(name).map(|p| p.group)
    }

    pub(super) fn policy_used(&self, name: &str) -> i64 {
        self.policy_used.get(name).copied().unwrap_or(0)
    }
}

/// What a pool says to a session that came through no queue.
pub(super) enum Admits {
    Yes,
    /// Its count is used up.
    Full,
    /// What is left is owed to queues.
    Reserved,
}

/// What has to be left for others, and what there is in the pools they could use.
pub(super) struct Owed {
    pub(super) amount: i64,
    pub(super) free: i64,
}

/// How much a pool has: what was configured, else what the agents of its group have.
#[must_use]
pub fn pool_count(state: &State, pool: &Pool) -> i64 {
    pool.count.unwrap_or_else(|| {
        state
            .agents
            .values()
            .filter(|a| a.state != longshore_common::agent::AgentState::Terminated)
            .filter(|a| {
                state
                    .groups
                    .get(&a.group)
                    .is_some_and(|g| g.name.eq_ignore_ascii_case(&pool.group))
            })
            .filter_map(|a| a.inventory.as_ref())
            .map(|i| pool.counted(&i.capacity()))
            .sum()
    })
}

/// What a pool has given out: allotments of its queues, and sessions that came through none.
#[must_use]
pub fn pool_used(state: &State, pool: &Pool) -> i64 {
    let queued = state
        .usage_ref(&Account::Pool(pool.name.clone()))
        .map_or(0, |u| u.allotted);
    let direct = state
        .group_by_ref(&pool.group)
        .and_then(|g| state.usage_ref(&Account::Direct(g.id)))
        .map_or(0, |u| pool.counted(&u.slots));
    queued.saturating_add(direct)
}

impl Planner {
    /// Reads anew what pools and policies hold.
    pub(super) fn refresh_books(&mut self, state: &State) {
        let config = &state.config.config;
        for group in &mut self.groups {
            group.pool = None;
        }
        let mut books = Books {
            enabled: state.config.enabled,
            ..Books::default()
        };
        for pool in &config.pools {
            let group = state
                .group_by_ref(&pool.group)
                .and_then(|g| self.group_of.get(&g.id).copied());
            let Some(group) = group else { continue };
            if books.enabled {
                self.groups[group as usize].pool = Some(books.pools.len());
            }
            books.pools.push(PoolBook {
                name: pool.name.clone(),
                group,
                count: pool_count(state, pool),
                used: pool_used(state, pool),
            });
        }
        for policy in &config.allocation_policies {
            let used = state
                .usage_ref(&Account::Policy(policy.name.clone()))
                .map_or(0, |u| u.allotted);
            books.policy_used.insert(policy.name.clone(), used);
        }
        self.books = books;
    }

    /// Waiting sessions of a queue that are ready and at no limit, in their order.
    pub(super) fn takeable<'a>(&'a self, queue: &str) -> impl Iterator<Item = SessionId> + 'a {
        self.queues
            .get(queue)
            .into_iter()
            .flatten()
            .map(|(_, _, id)| *id)
            .filter(|id| {
                self.lane_of_session(*id)
                    .is_some_and(|lane| self.at_limit(lane).is_none())
            })
    }

    /// Serves the queues until nothing more can be placed.
    pub(super) fn dispatch(&mut self, state: &State, now: Timestamp, decisions: &mut Decisions) {
        if !self.books.enabled || self.queues.is_empty() {
            self.no_fronts();
            return;
        }
        let config = &state.config.config;
        // What found no place in a pool finds none until this pass is over: amounts only fall.
        let mut hopeless = BTreeSet::new();
        while self.dispatch_one(state, config, now, &mut hopeless, decisions) {}
        self.note_fronts(state, now, &mut hopeless);
    }

    fn dispatch_one(
        &mut self,
        state: &State,
        config: &ResourceConfig,
        now: Timestamp,
        hopeless: &mut BTreeSet<(String, SessionId)>,
        decisions: &mut Decisions,
    ) -> bool {
        for within in [!crate::bugs::is(14), crate::bugs::is(14)] {
            for pool in &config.pools {
                for profile in pool.profiles.iter().filter_map(|name| config.profile(name)) {
                    if !profile.pools.contains(&pool.name) {
                        continue;
                    }
                    for policy in &profile.policies {
                        let Some(policy) = config.policy(policy) else {
                            continue;
                        };
                        let queue = policy.profiles.iter().find(|e| e.profile == profile.name);
                        let Some(queue) = queue else { continue };
                        let Some(id) = self.takeable(&queue.queue).next() else {
                            continue;
                        };
                        let Some(session) = state.sessions.get(&id) else {
                            continue;
                        };
                        let asked = profile.allotment();
                        let first = self.first_able(state, session, profile, now, hopeless);
                        if first != Some(&pool.name) && !crate::bugs::is(15) {
                            continue;
                        }
                        let used = self.books.policy_used(&policy.name);
                        if policy.limit.is_some_and(|limit| used + asked > limit) {
                            continue;
                        }
                        if within && used + asked > policy.reservation {
                            continue;
                        }
                        if !within {
                            let owed = self.owed(config, Some(&policy.name), &pool.name);
                            if owed.amount > 0 && owed.free - asked < owed.amount {
                                continue;
                            }
                        }
                        if self.take_from_queue(
                            state,
                            session,
                            pool,
                            &policy.name,
                            asked,
                            now,
                            decisions,
                        ) {
                            return true;
                        }
                    }
                }
            }
        }
        false
    }

    /// The first pool in a profile's order that has room for a session, on its agents too.
    pub(super) fn first_able<'a>(
        &mut self,
        state: &State,
        session: &Session,
        profile: &'a Profile,
        now: Timestamp,
        hopeless: &mut BTreeSet<(String, SessionId)>,
    ) -> Option<&'a String> {
        let asked = profile.allotment();
        profile.pools.iter().find(|name| {
            let Some((free, group)) = self.books.pool(name).map(|p| (p.free(), p.group)) else {
                return false;
            };
            let takes = state
                .groups
                .get(&self.groups[group as usize].id)
                .is_some_and(|g| g.active && g.allowed_session_types.contains(&session.kind));
            if free < asked || !takes {
                return false;
            }
            let key = ((*name).clone(), session.id);
            if hopeless.contains(&key) {
                return false;
            }
            let able = self.could_place(session, group, now).is_some();
            if !able {
                hopeless.insert(key);
            }
            able
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one step of a loop that was cut in two"
    )]
    fn take_from_queue(
        &mut self,
        state: &State,
        session: &Session,
        pool: &Pool,
        policy: &str,
        asked: i64,
        now: Timestamp,
        decisions: &mut Decisions,
    ) -> bool {
        let (Some(group), Some(shape)) = (
            self.books.group_of(&pool.name),
            self.shape_at_of(session.id),
        ) else {
            return false;
        };
        let Some(spots) = self.place(session, shape, group, now) else {
            return false;
        };
        let mut start = self.book(state, session.id, group, shape, spots, decisions);
        start.pool = Some(pool.name.clone());
        decisions.starts.push(start);
        if let Some(book) = self.books.pools.iter_mut().find(|p| p.name == pool.name) {
            book.used += asked;
        }
        *self.books.policy_used.entry(policy.to_owned()).or_insert(0) += asked;
        true
    }

    /// What policies other than `own` may still take within their reservations and have
    /// work for that could run in `pool`; and what is free wherever that work could run.
    pub(super) fn owed(&self, config: &ResourceConfig, own: Option<&str>, pool: &str) -> Owed {
        let mut amount = 0i64;
        let mut reach: BTreeSet<&str> = BTreeSet::new();
        for policy in &config.allocation_policies {
            if own == Some(policy.name.as_str()) || crate::bugs::is(21) {
                continue;
            }
            let unmet = (policy.reservation - self.books.policy_used(&policy.name)).max(0);
            if unmet == 0 {
                continue;
            }
            let mut waiting = 0i64;
            let mut linked: BTreeSet<&str> = BTreeSet::new();
            for entry in &policy.profiles {
                let Some(profile) = config.profile(&entry.profile) else {
                    continue;
                };
                // As many as could take what is unmet are counted, no more.
                let enough = unmet / profile.allotment().max(1) + 1;
                let enough = usize::try_from(enough).unwrap_or(usize::MAX);
                let count = self.takeable(&entry.queue).take(enough).count();
                if count == 0 {
                    continue;
                }
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                waiting = waiting.saturating_add(profile.allotment().saturating_mul(count));
                linked.extend(profile.pools.iter().map(String::as_str));
            }
            if linked.contains(pool) {
                amount = amount.saturating_add(unmet.min(waiting));
                reach.extend(linked);
            }
        }
        let free = reach
            .iter()
            .filter_map(|name| self.books.pool(name))
            .map(PoolBook::free)
            .sum();
        Owed { amount, free }
    }

    /// Whether the pool behind a group lets a session in that came through no queue.
    pub(super) fn pool_admits(&self, state: &State, group: u32, id: SessionId) -> Admits {
        let Some(book) = self.groups[group as usize]
            .pool
            .and_then(|at| self.books.pools.get(at))
        else {
            return Admits::Yes;
        };
        let config = &state.config.config;
        let (Some(pool), Some(session)) = (config.pool(&book.name), state.sessions.get(&id)) else {
            return Admits::Yes;
        };
        self.pool_admits_slots(config, pool, &session.total_slots())
    }

    pub(super) fn pool_admits_slots(
        &self,
        config: &ResourceConfig,
        pool: &Pool,
        slots: &Slots,
    ) -> Admits {
        let Some(book) = self.books.pool(&pool.name).filter(|_| self.books.enabled) else {
            return Admits::Yes;
        };
        let asked = pool.counted(slots);
        if book.free() < asked {
            return Admits::Full;
        }
        let owed = self.owed(config, None, &pool.name);
        if asked > 0 && owed.amount > 0 && owed.free - asked < owed.amount {
            return Admits::Reserved;
        }
        Admits::Yes
    }

    /// Counts a session that came through no queue against the pool behind its group.
    pub(super) fn book_direct(&mut self, state: &State, group: u32, session: &Session) {
        if session.queue.is_some() {
            return;
        }
        if let Some(at) = self.groups[group as usize].pool
            && let Some(book) = self.books.pools.get_mut(at)
            && let Some(pool) = state.config.config.pool(&book.name)
        {
            book.used += pool.counted(&session.total_slots());
        }
    }
}
