//! Who is tried before whom, of those that wait and of one that might.

use super::keep::{key_of, shape_key};
use super::{Class, Key, Planner};
use crate::model::{Account, Discipline, Session, State};
use crate::scheduler::share::Share;
use longshore_common::ids::SessionId;
use std::cmp::Ordering;

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
        let epoch = self.groups[group as usize].epoch;
        let mut first = Vec::new();
        for (priority, classes) in self.bands(group) {
            if priority < session.priority {
                break;
            }
            for class in classes {
                if self.is_spent(class) || matches!(class.never, Some((at, true)) if at == epoch) {
                    continue;
                }
                for (_, lane) in &class.lanes {
                    let lane = self.lanes[*lane as usize].as_ref();
                    let mut waiting = lane.into_iter().flat_map(|lane| &lane.sessions);
                    let head = waiting.find(|key| Some(super::session_of(**key)) != without);
                    first.extend(head.map(|key| (priority, super::session_of(*key))));
                }
            }
        }
        let before = first.into_iter().filter_map(|(priority, id)| {
            let turn = self.turn(state, state.sessions.get(&id)?, group);
            let first = priority > session.priority || turn < own;
            first.then_some((std::cmp::Reverse(priority), turn, id))
        });
        before.min().map(|(.., id)| id)
    }

    fn turn(&mut self, state: &State, session: &Session, group: u32) -> Turn {
        let row = &self.groups[group as usize];
        let (id, discipline) = (row.id, row.discipline);
        let class = self.class_of_session(session.id).or_else(|| {
            let shape = self.shape_of.get(&shape_key(session))?;
            let class = self.class_of.get(&(group, session.priority, *shape, 0))?;
            self.classes[*class as usize].as_ref()
        });
        let spent = class.is_some_and(|class| self.is_spent(class));
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
