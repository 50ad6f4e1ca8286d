//! Keeping limits, shares and rights as the state is.

use super::{Ledger, Planner, RightsKey};
use crate::bugs;
use crate::model::{Account, Discipline, Session, State};
use crate::scheduler::limits::{LayerKind, Requester, layers};
use crate::scheduler::ready;
use crate::scheduler::share::Share;
use std::collections::BTreeSet;

impl Planner {
    pub(super) fn account(&mut self, state: &State, account: Account) -> u32 {
        if let Some(at) = self.account_of.get(&account) {
            return *at;
        }
        let at = u32::try_from(self.accounts.len()).unwrap_or(u32::MAX);
        self.account_of.insert(account.clone(), at);
        let weight = match account {
            Account::InGroup(_, user) if !bugs::is(7) => {
                state.users.get(&user).map_or(1000, |u| u.weight_milli)
            }
            _ => 1000,
        };
        self.accounts.push(Ledger {
            account,
            used: vec![0; self.slots.len() + 1].into(),
            sessions: 0,
            limits: None,
            max_sessions: u32::MAX,
            parked: BTreeSet::new(),
            weight,
            share: Share::NONE,
            left: Vec::new(),
        });
        self.refresh_account(state, at);
        at
    }

    pub(super) fn refresh_account(&mut self, state: &State, at: u32) {
        let row = &self.accounts[at as usize];
        let (used, sessions) = match state.usage_ref(&row.account) {
            Some(usage) => (self.vector(&usage.slots, 0), usage.sessions),
            None => (vec![0; self.slots.len() + 1].into(), 0),
        };
        let row = &mut self.accounts[at as usize];
        let less =
            sessions < row.sessions || used.iter().zip(&row.used).any(|(new, old)| new < old);
        row.used = used;
        row.sessions = sessions;
        row.note_left(self.now);
        if let Account::InGroup(group, _) = row.account
            && let Some(group) = self.group_of.get(&group).copied()
        {
            self.recount_share(group, at);
        }
        if less && !bugs::is(19) {
            self.queues_touched |= !self.queues.is_empty();
            self.unpark(at);
        }
    }

    /// Policies or totals differ: every lane is bound anew, and none stays parked under a limit
    /// that may be another now.
    pub(super) fn refresh_limits(&mut self, state: &State) {
        for at in 0..self.lanes.len() {
            let Some(key) = self.lanes[at].as_ref().map(|lane| lane.key.clone()) else {
                continue;
            };
            let bound = self.bind(
                state,
                &Requester {
                    keypair: key.keypair,
                    user: key.user,
                    project: key.project,
                    domain: key.domain,
                },
            );
            if let Some(lane) = &mut self.lanes[at] {
                lane.layers = bound;
            }
        }
        for at in 0..u32::try_from(self.accounts.len()).unwrap_or(u32::MAX) {
            self.unpark(at);
        }
        // Who held others up may be at a limit now, and holds up nobody then.
        for group in &mut self.groups {
            group.touched = true;
        }
        self.queues_touched |= !self.queues.is_empty();
    }

    /// The accounts whose limits bind a requester, with these limits.
    pub(super) fn bind(&mut self, state: &State, requester: &Requester) -> Vec<u32> {
        let mut bound = Vec::new();
        for layer in layers(state, requester) {
            let at = self.account(state, layer.account.clone());
            let mut limits = vec![i64::MAX; self.slots.len() + 1];
            for (slot, limit) in self.slots.iter().zip(&mut limits) {
                *limit = layer.limit(slot).unwrap_or(i64::MAX);
            }
            let row = &mut self.accounts[at as usize];
            // A user's own use is bound only where a second keypair exists; the same account
            // is never bound by two different policies.
            debug_assert!(layer.kind != LayerKind::User || matches!(row.account, Account::User(_)));
            let most = layer.max_sessions().unwrap_or(u32::MAX);
            let other = row.limits.as_deref() != Some(&limits[..]) || row.max_sessions != most;
            row.limits = Some(limits.into());
            row.max_sessions = most;
            if other {
                row.note_limits(self.now);
            }
            bound.push(at);
        }
        bound
    }

    fn unpark(&mut self, at: u32) {
        for lane_at in std::mem::take(&mut self.accounts[at as usize].parked) {
            let Some(lane) = &mut self.lanes[lane_at as usize] else {
                continue;
            };
            lane.parked = None;
            let first = lane.sessions.first().copied();
            match lane.class {
                Some(class) => {
                    if let (Some(class), Some(key)) = (&mut self.classes[class as usize], first) {
                        class.lanes.insert((key, lane_at));
                        self.groups[class.group as usize].touched = true;
                    }
                }
                None => self.queues_touched = true,
            }
        }
    }

    pub(super) fn recount_share(&mut self, group: u32, account: u32) {
        let row = &mut self.groups[group as usize];
        if row.discipline != Discipline::Drf {
            return;
        }
        let slots = self.slots.len();
        let ledger = &mut self.accounts[account as usize];
        ledger.share = Share::of(&ledger.used[..slots], &row.capacity[..slots], ledger.weight);
    }

    /// Whether rights let a session start: asked once for all that cannot differ in it, and
    /// anew after every change of rights.
    pub(super) fn has_rights(&mut self, state: &State, session: &Session) -> bool {
        let asked = self.rights.entry(RightsKey::of(session));
        *asked.or_insert_with(|| ready::identity(state, session).is_none())
    }

    /// Whether rights let anybody start who might not, or the reverse. Most changes of rules
    /// are not about those who wait.
    pub(super) fn others_may(&mut self, state: &State) -> bool {
        let known = std::mem::take(&mut self.rights);
        let mut waiting = state.groups.keys().flat_map(|group| state.queue(*group));
        waiting.any(|session| {
            let before = known.get(&RightsKey::of(session)).copied();
            let new = self.has_rights(state, session);
            before.is_some_and(|before| before != new)
        })
    }
}
