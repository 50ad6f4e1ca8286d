//! What is known of the use of a running container when another process of the agent goes on.

use super::tests::{Driven, entry, key};
use super::*;
use longshore_common::limits::{
    Combine, IdleAction, IdlePolicy, Metric, Operator, UtilizationPolicy,
};
use longshore_common::session::SessionType;

/// Runs, and is stopped when nobody used it for ten minutes; warned of five minutes before.
fn watched() -> Entry {
    let mut entry = entry(1, Want::Run);
    entry.spec.kind = SessionType::Interactive;
    entry.limits.idle = Some(IdlePolicy {
        action: IdleAction::Stop,
        combine: Combine::Any,
        initial_grace_s: 0,
        warn_s: vec![300],
        interaction_timeout_s: Some(600),
        utilization: Some(UtilizationPolicy {
            window_s: 3600,
            operator: Operator::And,
            applies_to_batch: false,
            thresholds: Vec::new(),
        }),
        timeout_s: 600,
        keep_max: 4,
    });
    entry
}

/// The same, and it has to do no work either, by its processors.
fn working() -> Entry {
    let mut entry = watched();
    let idle = entry.limits.idle.as_mut().expect("it has limits");
    idle.combine = Combine::All;
    let work = idle.utilization.as_mut().expect("it has limits of work");
    work.window_s = 600;
    work.thresholds = vec![(Metric::Cpu, 10)];
    entry
}

fn warnings(driven: &Driven) -> usize {
    let outbox = driven.supervisor.shared.outbox();
    let kinds = outbox.notices.iter().map(|notice| notice.kind);
    kinds.filter(|kind| *kind == NoticeKind::Warning).count()
}

fn deadline(driven: &Driven) -> i64 {
    let watching = &driven.supervisor.watching[&key(1)];
    watching.verdict.idle_deadline_ms.expect("it has one")
}

#[tokio::test(start_paused = true)]
async fn a_warning_is_given_once_whoever_goes_on() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.order(vec![watched()]);
    let now = host::boot_clock_ms();
    driven.supervisor.enforce(now + 200_000, true);
    assert_eq!(warnings(&driven), 0);
    driven.supervisor.enforce(now + 320_000, true);
    assert_eq!(warnings(&driven), 1);
    let before = deadline(&driven);

    let mut driven = driven.again().await;
    driven.order(vec![watched()]);
    driven.supervisor.enforce(now + 330_000, true);
    assert_eq!(warnings(&driven), 0, "the first one said it");
    assert!(driven.supervisor.watching[&key(1)].verdict.idle);
    let apart = deadline(&driven).abs_diff(before);
    assert!(apart < 1_000, "{apart} ms");

    // Used, which is noted at once as it was warned: known to the next one to the instant.
    let used = now + 340_000;
    let watching = driven.supervisor.watching.get_mut(&key(1)).unwrap();
    watching.was_used(used);
    driven.supervisor.enforce(used + 1_000, true);
    let mut driven = driven.again().await;
    driven.order(vec![watched()]);
    driven.supervisor.enforce(used + 5_000, true);
    let apart = deadline(&driven).abs_diff(used + 600_000);
    assert!(apart <= 60_000, "{apart} ms");
    driven.supervisor.enforce(used + 400_000, true);
    assert_eq!(warnings(&driven), 1, "of the later deadline");
}

#[tokio::test(start_paused = true)]
async fn a_warning_for_doing_nothing_stands_before_anything_is_measured_again() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.order(vec![working()]);
    let now = host::boot_clock_ms();
    let unused = |driven: &mut Driven, at_ms: i64| {
        let watching = driven.supervisor.watching.get_mut(&key(1)).unwrap();
        watching.push(at_ms, Metric::Cpu, 0);
        driven.supervisor.enforce(at_ms, true);
    };
    for s in (0..=320).step_by(5) {
        unused(&mut driven, now + s * 1000);
    }
    assert_eq!(warnings(&driven), 1);
    let before = deadline(&driven);

    let mut driven = driven.again().await;
    driven.order(vec![working()]);
    for s in 321..325 {
        driven.supervisor.enforce(now + s * 1000, false);
        assert!(driven.supervisor.watching[&key(1)].verdict.idle, "{s}");
    }
    unused(&mut driven, now + 325_000);
    assert_eq!(warnings(&driven), 0, "the first one said it");
    let apart = deadline(&driven).abs_diff(before);
    assert!(apart < 1_000, "{apart} ms");
}

#[tokio::test(start_paused = true)]
async fn use_of_one_that_was_warned_is_noted_between_samples() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.order(vec![watched()]);
    let now = host::boot_clock_ms();
    driven.supervisor.enforce(now + 320_000, true);
    assert_eq!(warnings(&driven), 1);
    let used = now + 321_000;
    let watching = driven.supervisor.watching.get_mut(&key(1)).unwrap();
    watching.was_used(used);
    driven.supervisor.enforce(used + 1_000, false);

    let mut driven = driven.again().await;
    driven.order(vec![watched()]);
    driven.supervisor.enforce(used + 2_000, false);
    let left = deadline(&driven) - used;
    assert!(left >= 600_000, "{left} ms");
}

#[tokio::test(start_paused = true)]
async fn what_another_boot_left_says_nothing() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.order(vec![watched()]);
    let now = host::boot_clock_ms();
    driven.supervisor.enforce(now + 320_000, true);
    let idle = driven.supervisor.journal.contents().idle[&key(1)].clone();
    let other = crate::journal::Idle {
        boot_id: "another".to_owned(),
        ..idle
    };
    let record = Record::Idle(key(1), Box::new(other));
    driven.supervisor.journal.write(vec![record]).unwrap();
    let mut driven = driven.again().await;
    driven.order(vec![watched()]);
    driven.supervisor.enforce(now + 330_000, true);
    assert_eq!(warnings(&driven), 1, "nobody knows of the first one");
}

#[tokio::test(start_paused = true)]
async fn use_is_noted_each_minute_and_when_something_follows_from_it() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.order(vec![watched()]);
    let now = host::boot_clock_ms();
    let noted = |driven: &Driven| {
        let contents = driven.supervisor.journal.contents();
        contents.idle.get(&key(1)).cloned()
    };
    driven.supervisor.enforce(now, true);
    let first = noted(&driven).expect("at once");
    driven
        .supervisor
        .watching
        .get_mut(&key(1))
        .unwrap()
        .was_used(now + 30_000);
    driven.supervisor.enforce(now + 31_000, true);
    assert_eq!(noted(&driven).as_ref(), Some(&first), "no minute yet");
    driven.supervisor.enforce(now + 60_000, true);
    let second = noted(&driven);
    assert_ne!(second, Some(first));
    driven
        .supervisor
        .watching
        .get_mut(&key(1))
        .unwrap()
        .was_used(now + 110_000);
    driven.supervisor.enforce(now + 111_000, true);
    let moved = noted(&driven);
    assert_ne!(moved, second, "80 s later than what was noted");
    driven.supervisor.enforce(now + 112_000, true);
    assert_eq!(noted(&driven), moved);
}
