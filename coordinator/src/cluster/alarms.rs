//! What administrators are told of agents: each thing once, and again after a while if it goes
//! on. An agent that is refused asks again every few minutes, and would fill their mail.

use super::{Shared, lock};
use crate::engine::EngineError;
use crate::live::AgentLive;
use longshore_common::ids::{AgentId, ContainerKey};
use longshore_common::time::Timestamp;
use longshore_core::model::Event;
use longshore_link::boot_ms;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use tracing::warn;

/// The same of an agent is told again after so long: twice a day somebody looks.
const AGAIN_MS: i64 = 12 * 3_600_000;
/// More are not remembered. Agents that are known and few kinds stay far below.
const MOST: usize = 4096;
/// Clocks that differ by more mislead people: files, certificates and schedules go by them.
const OFF_MS: i64 = 30_000;
/// They count as right again only below this, or one at the limit would be told all the time.
const RIGHT_MS: i64 = 20_000;

/// When what was told last.
#[derive(Debug, Default)]
pub(super) struct Alarms(BTreeMap<(AgentId, String), i64>);

impl Alarms {
    /// Whether it is told now; then it was. `now_ms` counts on a clock that never goes back.
    fn is_news(&mut self, agent: AgentId, what: &str, now_ms: i64) -> bool {
        let old = |at: &i64| now_ms.saturating_sub(*at) >= AGAIN_MS;
        let key = (agent, what.to_owned());
        if self.0.get(&key).is_some_and(|at| !old(at)) {
            return false;
        }
        if self.0.len() >= MOST {
            self.0.retain(|_, at| !old(at));
        }
        if self.0.len() >= MOST {
            self.0.pop_first(); // told twice is better than not at all
        }
        self.0.insert(key, now_ms);
        true
    }
}

/// Something is wrong with an agent, or with one of its containers: administrators are told,
/// unless they were lately. `what` names it.
pub(super) async fn alarm(
    shared: &Shared,
    agent: AgentId,
    (what, key): (&str, Option<ContainerKey>),
    text: &str,
) -> Result<(), EngineError> {
    let is_news = lock(&shared.alarms).is_news(agent, what, boot_ms());
    if is_news {
        let text = text.to_owned();
        let event = Event::Alarm { agent, key, text };
        shared.engine.tell(event).await?;
    }
    Ok(())
}

/// By how much an agent's clock is ahead of ours, in milliseconds, where that is too much. `was`
/// says whether it was so far. The way of the message is taken for nothing.
fn clock_off(theirs: Timestamp, ours: Timestamp, was: bool) -> Option<i64> {
    let ahead_ms = theirs.since(ours);
    let limit = if was { RIGHT_MS } else { OFF_MS };
    (ahead_ms.saturating_abs() > limit).then_some(ahead_ms)
}

/// Compares an agent's clock with ours. Sessions and leases go by clocks that nobody sets, so
/// nothing is refused for it.
pub(super) async fn take_clock(
    shared: &Shared,
    agent: AgentId,
    live: &AgentLive,
    (theirs, ours): (Timestamp, Timestamp),
) -> Result<(), EngineError> {
    let was = live.clock_off_ms.load(Ordering::Relaxed) != 0;
    let off = clock_off(theirs, ours, was);
    live.clock_off_ms.store(off.unwrap_or(0), Ordering::Relaxed);
    let Some(ahead_ms) = off.filter(|_| !was) else {
        return Ok(());
    };
    let way = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let s = ahead_ms.saturating_abs() / 1000;
    let text = format!("its clock is {s} s {way} the coordinator's");
    warn!(%agent, %text, "clocks differ");
    alarm(shared, agent, ("clock", None), &text).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_again_after_a_while() {
        let (one, other) = (AgentId::new(1), AgentId::new(2));
        let mut alarms = Alarms::default();
        for (agent, what, at, expected) in [
            (one, "stale", 0, true),
            (one, "stale", AGAIN_MS - 1, false),
            (one, "identity", 5, true),
            (other, "stale", 5, true),
            (one, "stale", AGAIN_MS, true),
            (one, "stale", AGAIN_MS + 1, false),
        ] {
            assert_eq!(alarms.is_news(agent, what, at), expected, "{what} {at}");
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_is_kept() {
        let mut alarms = Alarms::default();
        for n in 0..2 * MOST as u128 {
            assert!(alarms.is_news(AgentId::new(n), "stale", 0));
        }
        assert_eq!(alarms.0.len(), MOST);
        assert!(!alarms.is_news(AgentId::new(2 * MOST as u128 - 1), "stale", 1));
    }

    #[test]
    fn a_clock_is_off_above_the_limit_and_right_well_below_it() {
        let at = |ms: i64| Timestamp(1_000_000 + ms);
        for (ms, was, expected) in [
            (30_000, false, None),
            (30_001, false, Some(30_001)),
            (-30_001, false, Some(-30_001)),
            (25_000, true, Some(25_000)),
            (-20_000, true, None),
        ] {
            assert_eq!(clock_off(at(ms), at(0), was), expected, "{ms}");
        }
    }
}
