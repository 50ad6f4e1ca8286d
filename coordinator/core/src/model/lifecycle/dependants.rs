//! Who waits for what ended, and whom that ends too.

use super::cancel;
use crate::model::draft::Draft;
use longshore_common::ids::SessionId;
use longshore_common::session::{DependOn, Reason, ResultKind, SessionState};

/// Sessions that ended in this draft: who waits for them goes on, or can no longer.
pub(in super::super) fn settle_dependants(draft: &mut Draft<'_>, ended: &[SessionId]) {
    let mut work: Vec<SessionId> = ended.to_vec();
    while let Some(id) = work.pop() {
        let Some(ok) = draft
            .session(id)
            .map(|s| s.result == Some(ResultKind::Success))
        else {
            continue;
        };
        let waiting: Vec<SessionId> = draft.state.dependants(id).collect();
        for dependant in waiting {
            let Some(session) = draft.session_mut(dependant) else {
                continue;
            };
            if session.state != SessionState::Pending {
                continue;
            }
            let mut failed = None;
            for entry in session.depends_on.iter_mut().filter(|d| d.session == id) {
                if crate::model::rules::holds(entry.on, ok) {
                    entry.met = true;
                } else {
                    failed = Some(entry.on);
                }
            }
            if let Some(on) = failed {
                let how = if ok { "with" } else { "without" };
                let detail = format!("{id} ended {how} success and was waited for as \"{on}\"");
                cancel(
                    draft,
                    dependant,
                    Reason::DependencyFailed,
                    &detail,
                    "scheduler",
                );
                work.push(dependant);
            }
        }
    }
}

/// An array cannot end with success any more: who waits for that waits no longer.
pub(in super::super) fn give_up_on(draft: &mut Draft<'_>, array: SessionId) {
    let waiting: Vec<SessionId> = draft.state.dependants(array).collect();
    for dependant in waiting {
        let waits = draft.session(dependant).is_some_and(|s| {
            let ok = |d: &crate::model::Dependency| d.session == array && d.on == DependOn::Ok;
            s.state == SessionState::Pending && s.depends_on.iter().any(ok)
        });
        if waits {
            let detail =
                format!("a task of {array} ended without success and it was waited for as \"ok\"");
            let reason = Reason::DependencyFailed;
            cancel(draft, dependant, reason, &detail, "scheduler");
        }
    }
}
