//! Which state of a session may follow which.

use longshore_common::session::SessionState;

/// Whether a session may go from one state to another. To stay is no change; what is final is
/// never left. None = it is new.
#[must_use]
pub const fn may_follow(from: Option<SessionState>, to: SessionState) -> bool {
    use SessionState::{Cancelled, Pending, Preparing, Running, Scheduled, Terminating};
    let Some(from) = from else {
        return matches!(to, Pending);
    };
    if from.is_final() {
        return false;
    }
    if to.is_final() {
        // What waits never ran: it is cancelled, and nothing else.
        return !matches!(from, Pending) || matches!(to, Cancelled);
    }
    matches!(
        (from, to),
        (Pending, Pending | Scheduled)
            | (Scheduled, Scheduled | Preparing | Pending | Terminating)
            | (Preparing, Preparing | Running | Pending | Terminating)
            | (Running, Running | Preparing | Pending | Terminating)
            | (Terminating, Terminating)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        use SessionState::{
            Cancelled, Error, Pending, Preparing, Running, Scheduled, Terminated, Terminating,
        };
        let all = SessionState::ALL;
        let after = |from| -> Vec<SessionState> {
            all.iter()
                .copied()
                .filter(|to| Some(*to) != from && may_follow(from, *to))
                .collect()
        };
        assert_eq!(after(None), [Pending]);
        assert_eq!(after(Some(Pending)), [Scheduled, Cancelled]);
        let ends = [Terminating, Terminated, Cancelled, Error];
        let with = |first: &[SessionState]| [first, &ends].concat();
        assert_eq!(after(Some(Scheduled)), with(&[Pending, Preparing]));
        assert_eq!(after(Some(Preparing)), with(&[Pending, Running]));
        assert_eq!(after(Some(Running)), with(&[Pending, Preparing]));
        assert_eq!(after(Some(Terminating)), ends[1..]);
        for last in [Terminated, Cancelled, Error] {
            assert!(all.iter().all(|to| !may_follow(Some(last), *to)), "{last}");
        }
    }
}
