//! The cycles of the watchdog: what is seen of RUNNING sessions, handed to the core.
//!
//! Signs of life are not stored. After a start of the coordinator they count from then, so a
//! restart can delay a stop and never brings one forward; the first cycle comes a whole
//! interval later.

use crate::engine::{Engine, EngineError, wall_clock};
use crate::live::Live;
use longshore_common::api::{Watchdog, WatchdogStop};
use longshore_common::ids::SessionId;
use longshore_common::time::Timestamp;
use longshore_core::model::{
    Event, Session, State, WatchdogSettings, WatchdogVerdict, Watched, watchdog_verdict, watched,
};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// Stops that are remembered for who asks.
const REMEMBERED: usize = 100;

/// What the watchdog did, for who asks.
#[derive(Debug, Default)]
pub struct Cycles(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    last_cycle_at: Option<Timestamp>,
    next_cycle_at: Option<Timestamp>,
    stopped: Vec<WatchdogStop>,
    settings: WatchdogSettings,
}

impl Cycles {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is shown.
    #[must_use]
    pub fn shown(&self) -> Watchdog {
        let told = self.told();
        Watchdog {
            enabled: told.settings.enabled,
            threshold_s: told.settings.threshold_s,
            watch_interval_s: told.settings.interval_s,
            stalled_after_s: told.settings.stalled_after_s,
            last_cycle_at: told.last_cycle_at,
            next_cycle_at: told.next_cycle_at,
            stopped: told.stopped.clone(),
        }
    }
}

/// Runs until the coordinator stops. It asks for the settings anew before each cycle.
pub async fn keep(
    engine: Engine,
    settings: impl Fn() -> WatchdogSettings + Send,
    mut stopping: watch::Receiver<bool>,
) {
    let since = wall_clock();
    let mut known = HashMap::new();
    loop {
        let now = settings();
        let interval = Duration::from_secs(u64::try_from(now.interval_s).unwrap_or(60));
        {
            let mut told = engine.live.watchdog.told();
            told.settings = now;
            told.next_cycle_at = Some(wall_clock().plus_s(now.interval_s));
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => (),
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        let now = settings();
        engine.live.watchdog.told().settings = now;
        if !now.enabled {
            continue;
        }
        if let Err(EngineError::Stopped) = cycle(&engine, now, since, &mut known).await {
            return;
        }
    }
}

/// What of a session tells that it does something although nobody uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signs {
    /// Bytes of output.
    written: u64,
    /// When its figures last were those of work, as its agents say.
    worked: Option<Timestamp>,
    /// When either was more than at the look before.
    grew: Timestamp,
}

impl Signs {
    /// As they are at a look at `now`. What was there before this process, which began at
    /// `since`, is not activity of its time. That an agent knows of no work any more is none.
    fn after(
        before: Option<Self>,
        written: u64,
        worked: Option<Timestamp>,
        since: Timestamp,
        now: Timestamp,
    ) -> Self {
        let grew = match before {
            None => since,
            Some(before) if before.written == written && worked <= before.worked => before.grew,
            Some(_) => now,
        };
        let before = before.and_then(|before| before.worked);
        Self {
            written,
            worked: worked.max(before),
            grew,
        }
    }
}

/// What the look before saw of each.
pub(crate) type Known = HashMap<SessionId, Signs>;

async fn cycle(
    engine: &Engine,
    settings: WatchdogSettings,
    since: Timestamp,
    signs: &mut Known,
) -> Result<(), EngineError> {
    let live = std::sync::Arc::clone(&engine.live);
    let known = std::mem::take(signs);
    let look = move |state: &State, now: Timestamp| {
        let (all, signs) = look(state, &live, &known, since, now);
        (all, signs, now)
    };
    let (all, now_known, now) = engine.read_when_room(look).await?;
    *signs = now_known;
    engine.live.watchdog.told().last_cycle_at = Some(now);
    for one in all {
        let Some(verdict) = watchdog_verdict(&one, settings, now) else {
            continue;
        };
        if let WatchdogVerdict::Stop(_) = verdict
            && has_moved(engine, &one, since).await?
        {
            continue;
        }
        let event = Event::Watchdog { seen: one, verdict };
        match engine.ask(event).await {
            Ok(Ok(_)) => (),
            Ok(Err(refusal)) => warn!(session = %one.session, detail = %refusal.detail, "watchdog"),
            Err(EngineError::Stopped) => return Err(EngineError::Stopped),
            // The others are not to suffer for this one; the next cycle comes.
            Err(error) => {
                warn!(session = %one.session, %error, "watchdog");
                continue;
            }
        }
        if let WatchdogVerdict::Stop(silent_s) = verdict {
            let mut told = engine.live.watchdog.told();
            let older = (told.stopped.len() + 1).saturating_sub(REMEMBERED);
            told.stopped.drain(..older);
            told.stopped.push(WatchdogStop {
                session: one.session.to_string(),
                at: now,
                silent_s,
            });
        }
    }
    Ok(())
}

/// What there is to be seen of all sessions at `now`, by what the look before knew of them.
pub(crate) fn look(
    state: &State,
    live: &Live,
    known: &Known,
    since: Timestamp,
    now: Timestamp,
) -> (Vec<Watched>, Known) {
    let mut signs = Known::new();
    let all = watched(state).map(|session| {
        let (written, worked) = figures(live, session);
        let before = known.get(&session.id).copied();
        let after = Signs::after(before, written, worked, since, now);
        signs.insert(session.id, after);
        seen(live, session, since, after.grew)
    });
    let all = all.collect();
    (all, signs)
}

/// Whether there was a sign of life after the cycle looked.
async fn has_moved(engine: &Engine, one: &Watched, since: Timestamp) -> Result<bool, EngineError> {
    let (live, one) = (std::sync::Arc::clone(&engine.live), *one);
    let look = move |state: &State, _| {
        let session = state.sessions.get(&one.session);
        session.is_none_or(|s| seen(&live, s, since, since).last_update != one.last_update)
    };
    engine.read_when_room(look).await
}

fn seen(live: &Live, session: &Session, since: Timestamp, grew: Timestamp) -> Watched {
    let started = session.started_at.unwrap_or(session.created_at);
    let present = session.containers.iter().filter(|c| !c.is_over());
    let beats = present.clone().filter_map(|container| {
        // A heartbeat of an agent that is connected confirms what it said it has.
        let holds = live.held(container.agent);
        let holds = holds.is_none_or(|(_, keys)| keys.contains(&container.key));
        live.agent(container.agent)
            .last_heartbeat()
            .filter(|_| holds)
    });
    let used = present.filter_map(|container| live.idle(container.agent, container.key)?.used_at);
    Watched {
        session: session.id,
        version: session.version,
        last_update: beats.chain([started, since]).max().unwrap_or(since),
        last_activity: used.chain([started, grew]).max().unwrap_or(since),
        stalled_since: session.stalled_since,
    }
}

/// Bytes that its containers have written, and when one of them was last at work, as their
/// agents said last.
fn figures(live: &Live, session: &Session) -> (u64, Option<Timestamp>) {
    let all = session.containers.iter();
    let all = all.filter_map(|c| live.figures_of(c.agent, c.key));
    all.fold((0, None), |(written, worked), one| {
        let output = one.totals.output.unwrap_or(0);
        (written.saturating_add(output), worked.max(one.worked_at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_between_two_looks_is_activity_like_output() {
        let since = Timestamp(0);
        let (one, two, three) = (Timestamp(60_000), Timestamp(120_000), Timestamp(180_000));
        let first = Signs::after(None, 7, Some(Timestamp(50_000)), since, one);
        assert_eq!(first.grew, since, "it was there before");
        let same = Signs::after(Some(first), 7, first.worked, since, two);
        assert_eq!(same.grew, since);
        let worked = Signs::after(Some(same), 7, Some(Timestamp(100_000)), since, two);
        assert_eq!(worked.grew, two);
        let wrote = Signs::after(Some(same), 8, same.worked, since, two);
        assert_eq!(wrote.grew, two);
        // Its agent was started anew, and says what it knew before later.
        let anew = Signs::after(Some(worked), 7, None, since, three);
        let again = Signs::after(Some(anew), 7, worked.worked, since, three);
        assert_eq!((anew.grew, again.grew), (two, two));
    }
}
