//! Who is tried before whom, of those that wait and of one that might.

use super::keep::{key_of, shape_key};
use super::{Class, Key, Planner, session_of};
use crate::model::{Account, Discipline, Session, State};
use crate::scheduler::dispatch::Admits;
use crate::scheduler::share::Share;
use longshore_common::ids::SessionId;
use std::cmp::{Ordering, Reverse};

/// The place of a session in its band. What is less is tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// It had its tries.
    spent: bool,
    /// Where the group divides by shares.
    share: Option<Share>,
    key: Key,
}

impl Planner {
    /// Who holds up a session that is ready and within its limits, because they are tried first
    /// and nobody after them. Of one that waits as of the last pass; of one that is only asked
    /// about as of the pass that its coming would make, in which `without` is gone.
    pub(in crate::scheduler) fn held_up_by(
        &mut self,
        state: &State,
        session: &Session,
        group: u32,
        without: Option<SessionId>,
    ) -> Option<SessionId> {
        let stopped = self.groups[group as usize].stopped?;
        let head = state
            .sessions
            .get(&stopped.head)
            .filter(|head| head.waits() && head.id != session.id)?;
        let waits = self.seats.contains_key(&session.id);
        let spent = self
            .class_of_session(head.id)
            .is_some_and(|class| self.is_spent(class));
        if !waits && (spent || without == Some(head.id)) {
            // One that has had its last try is tried after all others in the next pass.
            return self.first_before(state, session, group, without);
        }
        let before = match session.priority.cmp(&stopped.priority) {
            Ordering::Greater => false,
            Ordering::Less => true,
            Ordering::Equal => {
                let own = self.turn(state, session, group);
                let its = self.turn(state, head, group);
                // It was none of the spent ones when it stopped the others.
                let its = Turn {
                    spent: false,
                    ..its
                };
                let alike = self.same_class(session.id, head.id);
                let own = Turn {
                    spent: own.spent && !alike,
                    ..own
                };
                its < own
            }
        };
        before.then_some(head.id)
    }

    fn same_class(&self, one: SessionId, other: SessionId) -> bool {
        let class = |id| self.lane_of_session(id).and_then(|lane| lane.class);
        class(one).is_some_and(|at| class(other) == Some(at))
    }

    fn is_spent(&self, class: &Class) -> bool {
        let skip_after = self.groups[class.group as usize].skip_after;
        skip_after > 0 && class.retries >= skip_after
    }

    /// The first who waits that will be tried before a session, and may hold it up.
    fn first_before(
        &mut self,
        state: &State,
        session: &Session,
        group: u32,
        without: Option<SessionId>,
    ) -> Option<SessionId> {
        let own = self.turn(state, session, group);
        let drf = own.share.is_some();
        let bands = self.groups[group as usize]
            .bands
            .range(..=Reverse(session.priority));
        let bands: Vec<(u8, Vec<u32>)> = bands
            .map(|(Reverse(priority), classes)| (*priority, classes.iter().copied().collect()))
            .collect();
        for (priority, classes) in bands {
            let mut first: Option<(Turn, SessionId)> = None;
            for at in classes {
                let spent = |class: &Class| self.is_spent(class);
                let class = self.classes[at as usize].as_ref();
                if class.is_none_or(spent) || self.never_fits(at) {
                    continue;
                }
                let Some(class) = &self.classes[at as usize] else {
                    continue;
                };
                for (_, lane) in &class.lanes {
                    let Some(lane) = &self.lanes[*lane as usize] else {
                        continue;
                    };
                    let mut waiting = lane.sessions.iter();
                    let head = waiting.find(|key| Some(session_of(**key)) != without);
                    let Some(key) = head.filter(|_| self.at_limit(lane).is_none()) else {
                        continue;
                    };
                    let turn = Turn {
                        spent: false,
                        share: drf.then(|| self.accounts[lane.user as usize].share),
                        key: *key,
                    };
                    let before = priority > session.priority || turn < own;
                    if before && first.is_none_or(|(first, _)| turn < first) {
                        let id = session_of(*key);
                        // What is left is kept for queues: that holds up nobody.
                        if !matches!(self.pool_admits(state, group, id), Admits::Reserved) {
                            first = Some((turn, id));
                        }
                    }
                    // All of a class come or none does: the first of it says when.
                    if !drf {
                        break;
                    }
                }
            }
            if let Some((_, id)) = first {
                return Some(id);
            }
        }
        None
    }

    /// Whether a session had its tries, or would share those of the ones like it.
    pub(in crate::scheduler) fn had_its_tries(&self, session: &Session, group: u32) -> bool {
        self.class_for(session, group)
            .is_some_and(|class| self.is_spent(class))
    }

    fn class_for(&self, session: &Session, group: u32) -> Option<&Class> {
        self.class_of_session(session.id).or_else(|| {
            let shape = self.shape_of.get(&shape_key(session))?;
            let class = self.class_of.get(&(group, session.priority, *shape, 0))?;
            self.classes[*class as usize].as_ref()
        })
    }

    fn turn(&mut self, state: &State, session: &Session, group: u32) -> Turn {
        let row = &self.groups[group as usize];
        let (id, discipline) = (row.id, row.discipline);
        let spent = self.had_its_tries(session, group);
        let share = (discipline == Discipline::Drf).then(|| {
            let account = self.account(state, Account::InGroup(id, session.owner));
            self.accounts[account as usize].share
        });
        Turn {
            spent,
            share,
            key: key_of(session, discipline),
        }
    }
}
