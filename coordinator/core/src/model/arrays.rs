//! Arrays: one row that stands for many equal sessions, its tasks.
//!
//! The row is a session of which no container is ever made: it is the template of its tasks,
//! and knows which of them were made and how they ended. Tasks are made in the order of their
//! index, in the same step as what makes room for them, so that none is made twice and none is
//! forgotten. What was not made yet costs nothing.

use super::draft::{Draft, Why};
use super::entities::{Session, Stop};
use super::lifecycle;
use super::rules;
use super::state::{Account, State, Usage};
use super::usage::Spent;
use longshore_common::api::NewArray;
use longshore_common::ids::{SessionId, UserId};
use longshore_common::session::{Reason, ResultKind, SessionState, SessionType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The highest index of a task: six digits.
pub const LAST_INDEX: u32 = 999_999;

/// Which tasks an array has, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayPlan {
    /// The first index.
    pub first: u32,
    /// The last index, at most [`LAST_INDEX`].
    pub last: u32,
    /// So many may be live at a time; none = as many as there is room for.
    pub parallel: Option<u32>,
    /// The index of the task that is made next; above `last` when none is to be made any more.
    pub next: u32,
    /// Tasks that were made and have not ended.
    pub live: u32,
    /// Tasks that ended with success.
    pub succeeded: u32,
    /// Tasks that ran and ended without success.
    pub failed: u32,
    /// Tasks that never ran, those that were never made among them.
    pub cancelled: u32,
    /// Tasks that were lost through a fault of the system.
    pub error: u32,
    /// The end that counts most of those without success, and its reason.
    #[serde(default)]
    pub worst: Option<(SessionState, Reason)>,
}

impl ArrayPlan {
    const fn new(first: u32, last: u32, parallel: Option<u32>) -> Self {
        Self {
            first,
            last,
            parallel,
            next: first,
            live: 0,
            succeeded: 0,
            failed: 0,
            cancelled: 0,
            error: 0,
            worst: None,
        }
    }

    /// How many tasks it has in all.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.last - self.first + 1
    }

    /// How many are still to be made.
    #[must_use]
    pub const fn unmade(&self) -> u32 {
        (self.last + 1).saturating_sub(self.next)
    }

    /// Whether not all its tasks can end with success any more.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        self.failed + self.cancelled + self.error > 0
    }

    fn count(&mut self, task: &Session) {
        self.live = self.live.saturating_sub(1);
        let ok = task.result == Some(ResultKind::Success);
        match task.state {
            SessionState::Cancelled => self.cancelled += 1,
            SessionState::Error => self.error += 1,
            _ if ok => self.succeeded += 1,
            _ => self.failed += 1,
        }
        let weight = |state| match state {
            SessionState::Error => 2,
            SessionState::Terminated => 1,
            _ => 0,
        };
        let known = self.worst.map(|(state, _)| weight(state));
        if !ok
            && known.is_none_or(|known| known < weight(task.state))
            && let Some(reason) = task.reason
        {
            self.worst = Some((task.state, reason));
        }
    }
}

/// What a request says of being an array, checked.
pub(super) fn wish(
    wish: Option<&NewArray>,
    kind: SessionType,
    most: u32,
    wrong: &mut impl FnMut(&str, String),
) -> Option<ArrayPlan> {
    let wish = wish?;
    if matches!(kind, SessionType::Inference | SessionType::System) {
        let text = format!("A session of type {kind} is no array.");
        wrong("/array", text);
    }
    let parallel = wish.parallel.map(|n| {
        let good = u32::try_from(n).ok().filter(|n| *n >= 1);
        good.unwrap_or_else(|| {
            let text = "At least one task of an array is live at a time.";
            wrong("/array/parallel", text.to_owned());
            1
        })
    });
    let Some((first, last)) = range(&wish.range) else {
        let text = "A range is the first and the last index, from 0 to 999999: 0-99.";
        wrong("/array/range", text.to_owned());
        return None;
    };
    let plan = ArrayPlan::new(first, last, parallel);
    if plan.size() > most {
        let text = format!(
            "An array has at most {most} tasks; this one has {}.",
            plan.size()
        );
        wrong("/array/range", text);
    }
    Some(plan)
}

/// `0-99`, or one index.
fn range(text: &str) -> Option<(u32, u32)> {
    let index = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let index = digits.then(|| text.parse::<u32>().ok()).flatten();
        index.filter(|index| *index <= LAST_INDEX)
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (index(first)?, index(last)?),
        None => (index(text)?, index(text)?),
    };
    (first <= last).then_some((first, last))
}

impl State {
    /// Tasks of an array that memory knows, by index.
    pub fn tasks_of(&self, array: SessionId) -> impl Iterator<Item = &Session> {
        let tasks = self.sessions.range(array.task(0)..=array.task(u32::MAX));
        tasks.map(|(_, task)| task)
    }
}

/// Tasks of an array that have not ended, as they are by now.
pub(super) fn live_tasks(draft: &Draft<'_>, array: SessionId) -> Vec<SessionId> {
    let stored = draft.state.tasks_of(array).map(|task| task.id);
    let all: BTreeSet<SessionId> = stored.chain(draft.made_of(array)).collect();
    let live = |id: &SessionId| draft.session(*id).is_some_and(|s| !s.state.is_final());
    all.into_iter().filter(live).collect()
}

/// No more tasks are made. What was not made counts as cancelled.
fn close(draft: &mut Draft<'_>, id: SessionId, reason: Reason, detail: &str) {
    let Some(array) = draft.session_mut(id) else {
        return;
    };
    array.reason.get_or_insert(reason);
    array.detail.get_or_insert_with(|| detail.to_owned());
    if let Some(plan) = array.array.as_mut() {
        plan.cancelled += plan.unmade();
        plan.next = plan.last + 1;
    }
}

/// What waits of an array ends, what was not made is never made, what has a place goes on.
pub(super) fn cancel(draft: &mut Draft<'_>, id: SessionId, reason: Reason, detail: &str, by: &str) {
    close(draft, id, reason, detail);
    for task in live_tasks(draft, id) {
        let state = draft.session(task).map(|task| task.state);
        if state == Some(SessionState::Pending) {
            lifecycle::cancel(draft, task, reason, detail, by);
        }
    }
}

/// All of an array ends.
pub(super) fn end(draft: &mut Draft<'_>, id: SessionId, stop: &Stop, by: &str) {
    cancel(draft, id, stop.reason, &stop.detail, by);
    let running = draft.session(id).map(|array| array.state) == Some(SessionState::Running);
    let first = draft.session(id).is_some_and(|array| array.stop.is_none());
    if first && let Some(array) = draft.session_mut(id) {
        array.stop = Some(Box::new(stop.clone()));
    }
    if first && running {
        let why = Why {
            reason: Some(stop.reason),
            detail: Some(&stop.detail),
            by,
        };
        draft.move_to(id, SessionState::Terminating, why);
    }
    for task in live_tasks(draft, id) {
        match stop.forced {
            true => lifecycle::force(draft, task, stop.clone(), by),
            false => lifecycle::stop(draft, task, stop.clone(), by),
        }
    }
}

/// What holds for one task for such a reason holds for all of its array.
const fn holds_for_all(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::DependencyFailed
            | Reason::QueueRemoved
            | Reason::OwnerInactive
            | Reason::OwnerDeleted
            | Reason::MembershipRemoved
    )
}

/// Takes in what became of tasks in this draft; `ended` are those that did.
pub(super) fn tasks_moved(draft: &mut Draft<'_>, ended: &[SessionId]) {
    for id in draft.running_tasks() {
        if let Some(array) = id.array() {
            begin(draft, array);
        }
    }
    let mut arrays = BTreeSet::new();
    for id in ended {
        let Some(array) = id.array() else {
            continue;
        };
        let Some(task) = draft.session(*id).cloned() else {
            continue;
        };
        let Some(plan) = draft.session_mut(array).and_then(|a| a.array.as_mut()) else {
            continue;
        };
        plan.count(&task);
        arrays.insert(array);
        if let Some(reason) = task.reason.filter(|reason| holds_for_all(*reason)) {
            let detail = task.detail.unwrap_or_default();
            close(draft, array, reason, &detail);
        }
        if task.result != Some(ResultKind::Success) {
            lifecycle::give_up_on(draft, array);
        }
    }
    // One whose tasks were all waiting ends without that a task of it moved.
    arrays.extend(draft.arrays());
    for array in arrays {
        conclude(draft, array);
    }
}

/// A task of it runs.
fn begin(draft: &mut Draft<'_>, id: SessionId) {
    let now = draft.now;
    let waits = |s: &Session| s.state == SessionState::Pending && s.array.is_some();
    if !draft.session(id).is_some_and(waits) {
        return;
    }
    if let Some(array) = draft.session_mut(id) {
        array.placed_at = Some(now);
        array.started_at = Some(now);
    }
    draft.move_to(id, SessionState::Scheduled, Why::by("scheduler"));
    draft.move_to(id, SessionState::Running, Why::by("scheduler"));
    let stop = draft.session(id).and_then(|array| array.stop.clone());
    if let Some(stop) = stop {
        let why = Why {
            reason: Some(stop.reason),
            detail: Some(&stop.detail),
            by: "scheduler",
        };
        draft.move_to(id, SessionState::Terminating, why);
    }
}

/// An array of which all tasks have ended is final.
fn conclude(draft: &mut Draft<'_>, id: SessionId) {
    let Some(array) = draft.session(id).filter(|a| !a.state.is_final()) else {
        return;
    };
    let Some(plan) = array.array.clone() else {
        return;
    };
    if plan.unmade() > 0 || plan.live > 0 {
        return;
    }
    let ok = plan.succeeded == plan.size();
    let to = match plan.worst {
        Some((SessionState::Error, _)) => SessionState::Error,
        _ if plan.succeeded + plan.failed > 0 => SessionState::Terminated,
        _ => SessionState::Cancelled,
    };
    if to != SessionState::Cancelled {
        begin(draft, id); // one that never was seen to run was lost after the order to
    }
    let (size, succeeded) = (plan.size(), plan.succeeded);
    let mut counts = vec![format!("{succeeded} of {size} tasks succeeded")];
    for (count, how) in [
        (plan.failed, "failed"),
        (plan.cancelled, "cancelled"),
        (plan.error, "lost"),
    ] {
        if count > 0 {
            counts.push(format!("{count} {how}"));
        }
    }
    let counts = counts.join(", ");
    let Some(array) = draft.session_mut(id) else {
        return;
    };
    let reason = match (array.reason, plan.worst) {
        (_, Some((SessionState::Error, reason))) => reason,
        (Some(reason), _) => reason,
        (None, _) if ok => Reason::TaskFinished,
        (None, Some((state, reason))) if state != SessionState::Terminated => reason,
        (None, _) => Reason::TaskFailed,
    };
    array.reason = Some(reason);
    array.detail = Some(match array.detail.take() {
        Some(detail) => format!("{detail}; {counts}"),
        None => counts,
    });
    array.result = Some(match ok {
        true => ResultKind::Success,
        false => ResultKind::Failure,
    });
    let detail = array.detail.clone();
    let why = Why {
        reason: Some(reason),
        detail: detail.as_deref(),
        by: "scheduler",
    };
    draft.move_to(id, to, why);
}

/// Makes what there is room for: of the arrays in the draft, and of those of owners one of
/// whose sessions waits no longer.
pub(super) fn fill(draft: &mut Draft<'_>) {
    let mut arrays: BTreeSet<SessionId> = draft.arrays().into_iter().collect();
    let owners: BTreeSet<UserId> = draft.owners_with_room();
    arrays.extend(
        owners
            .iter()
            .flat_map(|owner| draft.state.open_arrays(*owner)),
    );
    for array in arrays {
        fill_one(draft, array);
    }
}

fn fill_one(draft: &mut Draft<'_>, id: SessionId) {
    let Some(template) = draft.session(id).filter(|a| a.is_open_array()).cloned() else {
        return;
    };
    let Some(mut plan) = template.array.clone() else {
        return;
    };
    let before = plan.next;
    let keypair = Account::Keypair(template.access_key.clone());
    let user = Account::User(template.owner);
    let (mut keypair, mut user) = (draft.waiting(&keypair), draft.waiting(&user));
    let by = match draft.state.sessions.contains_key(&id) {
        true => format!("array {id}"),
        false => format!("user {}", template.owner_name),
    };
    while plan.unmade() > 0 && plan.parallel.is_none_or(|most| plan.live < most) {
        let room = || rules::has_pending_room(draft.state, &template, &keypair, &user);
        // One is always live: an array does not wait behind its owner's other sessions for ever.
        if plan.live > 0 && !room() {
            break;
        }
        let task = task(&template, &plan, draft.now);
        count(&mut keypair, &task);
        count(&mut user, &task);
        draft.admit(task, &by);
        plan.next += 1;
        plan.live += 1;
    }
    if plan.next != before
        && let Some(array) = draft.session_mut(id)
    {
        array.array = Some(plan);
    }
}

fn count(usage: &mut Usage, task: &Session) {
    usage.sessions += 1;
    usage.slots.add(&task.total_slots());
}

/// The next task of an array. It becomes a session now: what counts from its submission
/// counts from now.
fn task(template: &Session, plan: &ArrayPlan, now: longshore_common::time::Timestamp) -> Session {
    Session {
        id: template.id.task(plan.next),
        version: 1,
        // A name is one session's, and the array has it.
        name: None,
        array: None,
        task_of: Some(plan.size()),
        state: SessionState::Pending,
        phase: None,
        reason: None,
        detail: None,
        result: None,
        stop: None,
        created_at: now,
        pending_since: now,
        placed_at: None,
        started_at: None,
        ended_at: None,
        networks: Vec::new(),
        history_len: 0,
        spent: Spent::default(),
        ..template.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range("0-99"), Some((0, 99)));
        assert_eq!(range("7"), Some((7, 7)));
        assert_eq!(range("5-5"), Some((5, 5)));
        for bad in [
            "",
            "-",
            "9-1",
            "1-",
            "-3",
            "1-2-3",
            "a-b",
            "+1-2",
            "0-1000000",
        ] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }

    #[test]
    fn wishes_are_judged_whole() {
        let judged = |range: &str, parallel, kind| {
            let wish = NewArray {
                range: range.to_owned(),
                parallel,
            };
            let mut said = Vec::new();
            super::wish(Some(&wish), kind, 10, &mut |at: &str, _| {
                said.push(at.to_owned());
            });
            said
        };
        assert!(judged("0-9", Some(3), SessionType::Batch).is_empty());
        assert_eq!(judged("0-10", None, SessionType::Batch), ["/array/range"]);
        assert_eq!(
            judged("x", Some(0), SessionType::System),
            ["/array", "/array/parallel", "/array/range"]
        );
    }

    #[test]
    fn what_was_made_and_what_was_not() {
        let mut plan = ArrayPlan::new(3, 7, None);
        assert_eq!((plan.size(), plan.unmade()), (5, 5));
        plan.next = 8;
        assert_eq!(plan.unmade(), 0);
    }
}
