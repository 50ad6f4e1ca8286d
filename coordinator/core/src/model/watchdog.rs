//! The net below all deadlines: RUNNING sessions of which there was no sign of life for long,
//! and programs that stand still on a living agent.
//!
//! What is seen of a session is known outside of the State; what follows is decided here.

use super::draft::{Draft, Why};
use super::entities::{Session, Stop};
use super::lifecycle::{finish, stop};
use super::state::State;
use longshore_common::ids::SessionId;
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;

/// What the watchdog does, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchdogSettings {
    /// False: no cycle looks at anything.
    pub enabled: bool,
    /// Without a sign of life for longer a session is stopped; at least 60.
    pub threshold_s: i64,
    /// Between two cycles; at least 60.
    pub interval_s: i64,
    /// Without output and use for so long a program counts as stalled; 0 = none does.
    pub stalled_after_s: i64,
}

impl Default for WatchdogSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            threshold_s: 7200,
            interval_s: 900,
            stalled_after_s: 7200,
        }
    }
}

/// A RUNNING session as a cycle saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// Which.
    pub session: SessionId,
    /// Its stored version: another one says that something happened since.
    pub version: u64,
    /// When there was a sign of life last.
    pub last_update: Timestamp,
    /// When it was used last, or wrote something.
    pub last_activity: Timestamp,
    /// Since when it counts as stalled.
    pub stalled_since: Option<Timestamp>,
}

/// What follows for one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchdogVerdict {
    /// No sign of life for so many seconds: it is stopped.
    Stop(i64),
    /// It counts as stalled from now on, after so many seconds.
    Stalled(i64),
    /// It does something again.
    Moves,
}

fn is_watched(session: &Session) -> bool {
    session.state == SessionState::Running && session.stop.is_none() && session.array.is_none()
}

/// Sessions that a cycle looks at. An array has no containers whose life could be seen: its
/// tasks are looked at.
pub fn watched(state: &State) -> impl Iterator<Item = &Session> {
    let all = state.sessions.values();
    all.filter(|session| is_watched(session))
}

/// What a cycle makes of a session; none = nothing.
#[must_use]
pub fn watchdog_verdict(
    seen: &Watched,
    settings: WatchdogSettings,
    now: Timestamp,
) -> Option<WatchdogVerdict> {
    if !settings.enabled {
        return None;
    }
    let silent_ms = now.since(seen.last_update);
    if silent_ms > settings.threshold_s.saturating_mul(1000) {
        return Some(WatchdogVerdict::Stop(silent_ms / 1000));
    }
    let idle_ms = now.since(seen.last_activity);
    let after_ms = settings.stalled_after_s.saturating_mul(1000);
    match (seen.stalled_since, after_ms > 0 && idle_ms >= after_ms) {
        (None, true) => Some(WatchdogVerdict::Stalled(idle_ms / 1000)),
        (Some(_), false) => Some(WatchdogVerdict::Moves),
        (Some(_), true) | (None, false) => None,
    }
}

/// Carries a verdict out, if the session is still the one that was looked at.
pub(super) fn carry_out(draft: &mut Draft<'_>, seen: &Watched, verdict: WatchdogVerdict) {
    let by = "watchdog";
    let (id, now) = (seen.session, draft.now);
    let same = draft
        .session(id)
        .is_some_and(|session| is_watched(session) && session.version == seen.version);
    if !same {
        return;
    }
    match verdict {
        WatchdogVerdict::Stop(silent_s) => {
            let order = Stop {
                reason: Reason::NonResponsive,
                detail: format!("Stopped: no sign of life for {silent_s} s."),
                grace_s: 0,
                forced: false,
                at: now,
            };
            stop(draft, id, order, by);
            // Nobody is there who could confirm; an agent that comes back is told to remove.
            finish(draft, id, by);
        }
        WatchdogVerdict::Stalled(idle_s) => {
            if let Some(session) = draft.session_mut(id) {
                session.stalled_since = Some(now);
            }
            let text = format!("Stalled: no output and no use for {idle_s} s.");
            draft.remark(id, SessionState::Running, remark(&text, by));
        }
        WatchdogVerdict::Moves => {
            if let Some(session) = draft.session_mut(id) {
                session.stalled_since = None;
            }
            let text = "It does something again.";
            draft.remark(id, SessionState::Running, remark(text, by));
        }
    }
}

const fn remark<'a>(text: &'a str, by: &'a str) -> Why<'a> {
    Why {
        reason: None,
        detail: Some(text),
        by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn seen(update_s: i64, activity_s: i64) -> Watched {
        Watched {
            session: SessionId(1),
            version: 1,
            last_update: NOW.plus_s(-update_s),
            last_activity: NOW.plus_s(-activity_s),
            stalled_since: None,
        }
    }

    fn verdict(seen: Watched) -> Option<WatchdogVerdict> {
        watchdog_verdict(&seen, WatchdogSettings::default(), NOW)
    }

    #[test]
    fn the_threshold_itself_is_not_passed() {
        assert_eq!(verdict(seen(7200, 0)), None);
        assert_eq!(verdict(seen(7201, 0)), Some(WatchdogVerdict::Stop(7201)));
        let late = Watched {
            last_update: NOW.plus_ms(-7_200_001),
            ..seen(0, 0)
        };
        assert_eq!(verdict(late), Some(WatchdogVerdict::Stop(7200)));
    }

    #[test]
    fn a_hung_job_of_a_living_agent_is_stalled_and_goes_on() {
        let hung = seen(2, 7200);
        assert_eq!(verdict(hung), Some(WatchdogVerdict::Stalled(7200)));
        let told = Watched {
            stalled_since: Some(NOW),
            ..hung
        };
        assert_eq!(verdict(told), None, "said once");
        let moves = Watched {
            last_activity: NOW,
            ..told
        };
        assert_eq!(verdict(moves), Some(WatchdogVerdict::Moves));
        let off = WatchdogSettings {
            stalled_after_s: 0,
            ..WatchdogSettings::default()
        };
        assert_eq!(watchdog_verdict(&hung, off, NOW), None);
    }

    #[test]
    fn switched_off_it_sees_nothing() {
        let off = WatchdogSettings {
            enabled: false,
            ..WatchdogSettings::default()
        };
        assert_eq!(watchdog_verdict(&seen(9000, 9000), off, NOW), None);
    }
}
