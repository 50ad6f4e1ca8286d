//! How long sessions live, what counts as use, and what is known of both after a restart.

use super::terminals::terminal;
use super::*;

#[tokio::test(start_paused = true)]
async fn lifetimes_beyond_all_measure_end_nothing_but_the_session() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    for remaining_ms in [i64::MAX, i64::MIN, i64::MAX, 3_600_000, i64::MIN] {
        let mut entry = entry(1, Want::Run);
        entry.limits.lifetime = Some(Deadline {
            at: wall_clock(),
            remaining_ms,
        });
        driven.order(vec![entry]);
        driven.tick().await;
        assert_eq!(driven.stopped(), None, "nobody was warned for long enough");
    }
    let now = host::boot_clock_ms();
    for minutes in 0..=10 {
        driven.supervisor.enforce(now + minutes * 60_000, false);
    }
    assert_eq!(driven.stopped(), Some(Reason::LifetimeExceeded));
}

/// Interactive, and unused after a minute without anybody.
pub(super) fn interactive() -> Entry {
    let mut entry = entry(1, Want::Run);
    entry.spec.kind = SessionType::Interactive;
    entry.limits.idle = Some(IdlePolicy {
        action: IdleAction::Stop,
        combine: Combine::All,
        initial_grace_s: 0,
        warn_s: vec![30],
        interaction_timeout_s: Some(60),
        utilization: None,
        timeout_s: 60,
        keep_max: 4,
    });
    entry
}

impl Driven {
    /// Judges at each second of a minute, so that a stop has its warning before it.
    pub(super) async fn minute(&mut self, now_ms: &mut i64) {
        for _ in 0..60 {
            *now_ms += 1000;
            self.supervisor.enforce(*now_ms, false);
        }
        self.rest().await;
    }

    /// The minute in which a limit stops it, counted from 1.
    pub(super) async fn minute_of_the_stop(&mut self, now_ms: &mut i64) -> Option<u32> {
        for minute in 1..=10 {
            self.minute(now_ms).await;
            if self.stopped().is_some() {
                return Some(minute);
            }
        }
        None
    }

    pub(super) fn stopped(&self) -> Option<Reason> {
        let record = self.supervisor.journal.key(key(1));
        record.and_then(|r| r.local_stop)
    }
}

/// Used for long before the agent was replaced: what the next one does not know, it must not
/// take for never.
#[tokio::test(start_paused = true)]
async fn use_outlives_the_agent() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.order(vec![interactive()]);
    let now = host::boot_clock_ms();
    let noted = |d: &Driven| d.supervisor.journal.contents().seen[&key(1)].used_boot_ms;
    driven.supervisor.enforce(now, true);
    assert_eq!(noted(&driven), None, "nobody used it");
    let client = driven.opens(terminal(1, 5, false)).await.unwrap();
    driven.supervisor.enforce(now + 1000, true);
    assert_eq!(noted(&driven), Some(now + 1000));
    driven.supervisor.enforce(now + 60_000, true);
    assert_eq!(noted(&driven), Some(now + 1000), "not at each look");
    driven.supervisor.enforce(now + 61_000, true);
    assert_eq!(noted(&driven), Some(now + 61_000));
    drop(client);

    let driven = driven.again().await;
    let watching = &driven.supervisor.watching[&key(1)];
    let used = watching.activity_ms(now).unwrap();
    assert!(used >= now, "{used} {now}");
}

/// Of one that an agent of an earlier release started nothing is known.
#[tokio::test(start_paused = true)]
async fn a_container_of_which_nothing_was_noted_counts_as_used() {
    let mut driven = Driven::new().await;
    driven.order(vec![Entry {
        want: Want::Prepare,
        ..interactive()
    }]);
    driven
        .until("it is created", |d| {
            d.state(1) == Some(ContainerState::Created)
        })
        .await;
    driven.order(vec![interactive()]);
    driven
        .until("it runs", |d| {
            d.state(1) == Some(ContainerState::Running) && d.supervisor.busy.is_empty()
        })
        .await;
    let path = driven._dir.path().join("journal");
    std::fs::remove_file(path).unwrap();
    let checks = driven.engine.count("verify");
    let mut driven = driven.again().await;
    driven.order(vec![interactive()]);
    driven.tick().await;
    let used = driven.supervisor.watching[&key(1)].activity_ms(0);
    assert!(used.is_some());
    assert_eq!(driven.engine.count("verify"), checks + 1, "and is checked");
    assert_eq!(driven.state(1), Some(ContainerState::Running));
}

/// Whoever only looks on does not use it: else a forgotten `logs -f` would keep a GPU.
#[tokio::test(start_paused = true)]
async fn following_the_output_is_no_use() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.order(vec![interactive()]);
    let mut now = host::boot_clock_ms();
    let logs = Arc::clone(&driven.supervisor.logs);
    let _follower = logs.read(key(1), 0, None).unwrap().unwrap();
    driven.minute(&mut now).await;
    driven.minute(&mut now).await;
    assert_eq!(driven.stopped(), Some(Reason::IdleTimeout));
}

fn until(s: i64) -> Option<Deadline> {
    Some(Deadline {
        at: wall_clock().plus_s(s),
        remaining_ms: s * 1000,
    })
}

/// No link is needed once the order is there: the agent moves its own deadline.
#[tokio::test(start_paused = true)]
async fn an_extension_moves_the_end_of_a_life() {
    for (more, minute) in [(None, 3), (Some(299), 5)] {
        let mut driven = Driven::new().await;
        driven.running(1).await;
        let mut order = entry(1, Want::Run);
        order.limits.lifetime = until(180);
        driven.order(vec![order.clone()]);
        let mut now = host::boot_clock_ms();
        if let Some(s) = more {
            order.limits.lifetime = until(s);
            driven.order(vec![order]);
        }
        driven.supervisor.link_up = false;
        assert_eq!(driven.minute_of_the_stop(&mut now).await, Some(minute));
        assert_eq!(driven.stopped(), Some(Reason::LifetimeExceeded));
    }
}

/// As long as the coordinator has not heard of the start, the agent counts by itself.
#[tokio::test(start_paused = true)]
async fn a_life_that_counts_from_the_start_is_counted_here() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    let mut order = entry(1, Want::Run);
    order.limits.from_start_s = Some(120);
    driven.order(vec![order]);
    let mut now = host::boot_clock_ms();
    assert_eq!(driven.minute_of_the_stop(&mut now).await, Some(2));
    assert_eq!(driven.stopped(), Some(Reason::LifetimeExceeded));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_not_stopped_before_its_time() {
    for (kept, minute) in [(false, 1), (true, 3)] {
        let mut driven = Driven::new().await;
        driven.running(1).await;
        let mut order = interactive();
        order.limits.kept = kept.then(|| Kept {
            at: wall_clock(),
            ago_ms: 0,
            hold_s: 180,
        });
        driven.order(vec![order]);
        let mut now = host::boot_clock_ms();
        assert_eq!(driven.minute_of_the_stop(&mut now).await, Some(minute));
        assert_eq!(driven.stopped(), Some(Reason::IdleTimeout));
    }
}

#[tokio::test]
async fn a_signal_before_the_end_comes_once_whatever_becomes_of_agent_and_engine() {
    let mut driven = Driven::new().await;
    driven.coordinator.wishes = vec![SignalBefore {
        key: key(1),
        signal: "USR1".to_owned(),
        lead_s: 300,
    }];
    driven.running(1).await;
    let end = |driven: &mut Driven| {
        let at = host::boot_clock_ms() + 100_000;
        let watching = driven.supervisor.watching.get_mut(&key(1)).unwrap();
        watching.set_lifetime(Some(at));
    };
    end(&mut driven);
    lock(&driven.engine.signals).push_back(Err(away()));
    let now = host::boot_clock_ms();
    driven.supervisor.send_signals(now);
    driven.supervisor.send_signals(now);
    driven
        .until("it failed", |d| {
            d.supervisor.shared.outbox().runtime == RuntimeState::Down
        })
        .await;
    assert_eq!(driven.engine.count("signal USR1"), 1, "one at a time");
    driven.supervisor.send_signals(now);
    driven
        .until("it is noted", |d| {
            !d.supervisor.journal.contents().signalled.is_empty()
        })
        .await;
    assert_eq!(driven.engine.count("signal USR1"), 2);
    let mut next = driven.again().await;
    next.until("it is followed", |d| {
        d.supervisor.watching.contains_key(&key(1))
    })
    .await;
    end(&mut next);
    next.supervisor.send_signals(host::boot_clock_ms());
    tokio::task::yield_now().await;
    assert_eq!(next.engine.count("signal USR1"), 2, "it had it");
}

#[tokio::test]
async fn a_set_out_of_the_journal_is_as_old_as_this_machines_clock_says() {
    let mut driven = Driven::new().await;
    driven.order(vec![entry(1, Want::Prepare)]);
    let signed = driven.supervisor.journal.contents().set.clone().unwrap();
    let came = host::boot_clock_ms() - 50_000;
    let boot_id = driven.supervisor.boot_id.clone();
    let records = vec![Record::Arrived(boot_id, came)];
    driven.supervisor.journal.write(records).unwrap();
    let mut next = driven.again().await;
    let now = host::boot_clock_ms();
    let age = now - next.supervisor.set_boot_ms;
    assert!((50_000..60_000).contains(&age), "{age}");
    // The same again is newer than what the journal says of it; once.
    next.take(Event::Heard(Heard::Set(signed.clone())));
    let taken = next.supervisor.set_boot_ms;
    assert!(taken >= now);
    next.supervisor.set_boot_ms = 0;
    next.take(Event::Heard(Heard::Set(signed)));
    assert_eq!(next.supervisor.set_boot_ms, 0);
}
