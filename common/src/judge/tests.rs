//! A table of worked cases, their neighbours, and properties. A scene is told
//! in seconds; in each of its seconds it is judged, and no deadline may move earlier.

use super::*;
use crate::limits::{Combine, Operator, UtilizationPolicy, WARN_S};

/// A session under judgement, and everything that was said about it.
struct Scene {
    limits: SessionLimits,
    kind: SessionType,
    clock: SessionClock,
    history: IdleHistory,
    warned: WarnState,
    /// The next second to judge.
    at: i64,
    last: Verdict,
    /// Second and seconds left.
    warnings: Vec<(i64, i64)>,
    stop: Option<(i64, Reason)>,
}

fn policy() -> IdlePolicy {
    IdlePolicy {
        action: IdleAction::Stop,
        combine: Combine::All,
        initial_grace_s: 0,
        warn_s: vec![3600, 900, 300],
        interaction_timeout_s: None,
        utilization: None,
        timeout_s: 0,
        keep_max: 4,
    }
}

fn interaction(timeout_s: u32) -> IdlePolicy {
    IdlePolicy {
        interaction_timeout_s: Some(timeout_s),
        ..policy()
    }
}

fn utilization(window_s: u32, operator: Operator, thresholds: &[(Metric, u32)]) -> IdlePolicy {
    IdlePolicy {
        utilization: Some(UtilizationPolicy {
            window_s,
            operator,
            applies_to_batch: false,
            thresholds: thresholds.to_vec(),
        }),
        ..policy()
    }
}

fn gpu(window_s: u32, threshold: u32) -> IdlePolicy {
    utilization(window_s, Operator::And, &[(Metric::Gpu, threshold)])
}

impl Scene {
    fn new(idle: Option<IdlePolicy>) -> Self {
        let sources = Metric::ALL.iter().map(|m| (*m, Source::Measured));
        Self {
            limits: SessionLimits {
                idle,
                ..SessionLimits::default()
            },
            kind: SessionType::Interactive,
            clock: SessionClock {
                created_at_ms: 0,
                started_at_ms: 0,
                new_user_until_ms: None,
                lifetime_deadline_ms: None,
            },
            history: IdleHistory::new(&sources.collect::<Vec<_>>()),
            warned: WarnState::default(),
            at: 0,
            last: Verdict::default(),
            warnings: Vec::new(),
            stop: None,
        }
    }

    fn policy(&mut self) -> &mut IdlePolicy {
        self.limits.idle.as_mut().unwrap()
    }

    /// Judges each second up to and with `to`, with samples of nothing.
    fn run(&mut self, to: i64) -> &Verdict {
        self.run_with(to, |_, _| Some(0))
    }

    /// The same, with samples each 5 s in percent by second and metric.
    fn run_with(&mut self, to: i64, use_of: impl Fn(i64, Metric) -> Option<u32>) -> &Verdict {
        while self.at <= to {
            if self.at % 5 == 0 {
                for metric in Metric::ALL {
                    if let Some(percent) = use_of(self.at, *metric) {
                        let at_ms = self.at * 1000;
                        self.history.push_sample(at_ms, *metric, percent * 10);
                    }
                }
            }
            self.judge();
            self.at += 1;
        }
        &self.last
    }

    fn judge(&mut self) {
        let now_ms = self.at * 1000;
        let before = self.last.idle_deadline_ms;
        self.last = judge(
            &self.limits,
            self.kind,
            &self.clock,
            &mut self.history,
            &mut self.warned,
            now_ms,
        );
        let told = self.last.warn.iter().map(|w| (self.at, w.remaining_s));
        self.warnings.extend(told);
        if let (None, Some((reason, _))) = (self.stop, &self.last.stop) {
            self.stop = Some((self.at, *reason));
        }
        if let (Some(before), Some(after)) = (before, self.last.idle_deadline_ms) {
            assert!(after >= before, "moved earlier at {}", self.at);
        }
        assert!(
            self.last
                .next_ms
                .is_none_or(|next| next > now_ms || self.stop.is_some())
        );
    }

    fn deadline(&self) -> Option<i64> {
        self.last.idle_deadline_ms.map(|ms| ms / 1000)
    }

    fn left(&self) -> Option<i64> {
        let now_ms = (self.at - 1) * 1000;
        let deadline_ms = self.last.idle_deadline_ms?;
        Some(Verdict::remaining_s(deadline_ms, now_ms))
    }
}

#[test]
fn base_0_timeout_30_now_20_leaves_10() {
    let mut scene = Scene::new(Some(interaction(30)));
    scene.run(20);
    assert_eq!(scene.left(), Some(10));
    scene.run(40);
    assert_eq!(scene.stop, Some((30, Reason::IdleTimeout)));
    // Half the timeout before, as no lead fits.
    assert_eq!(scene.warnings, [(15, 15)]);
}

#[test]
fn a_grace_until_30_leaves_40_at_20() {
    let mut scene = Scene::new(Some(interaction(30)));
    scene.policy().initial_grace_s = 30;
    scene.run(20);
    assert_eq!((scene.left(), scene.last.in_grace), (Some(40), true));

    let mut scene = Scene::new(Some(interaction(30)));
    scene.clock.new_user_until_ms = Some(30_000);
    scene.run(20);
    assert_eq!(scene.left(), Some(40));
}

#[test]
fn interaction_only_timeout_10_now_5() {
    let mut scene = Scene::new(Some(interaction(10)));
    scene.run(5);
    assert_eq!((scene.left(), scene.stop), (Some(5), None));
}

#[test]
fn an_open_connection_shows_the_full_timeout() {
    let mut scene = Scene::new(Some(interaction(10)));
    scene.history.open_connection(0);
    scene.run(500);
    assert_eq!((scene.left(), scene.stop), (Some(10), None));
    assert!(scene.warnings.is_empty());
    scene.history.close_connection(500_000);
    scene.run(600);
    assert_eq!(scene.stop, Some((510, Reason::IdleTimeout)));
}

#[test]
fn activity_moves_the_deadline() {
    let mut scene = Scene::new(Some(interaction(70)));
    scene.run(59);
    assert!(scene.last.idle);
    scene.history.push_activity(60_000);
    scene.run(60);
    assert_eq!((scene.deadline(), scene.last.idle), (Some(130), false));

    let mut scene = Scene::new(Some(interaction(30)));
    scene.at = 60;
    scene.history.push_activity(60_000);
    scene.run(60);
    assert_eq!(scene.deadline(), Some(90));
}

#[test]
fn half_the_granted_memory_is_50_percent() {
    let mut scene = Scene::new(Some(utilization(60, Operator::And, &[(Metric::Mem, 10)])));
    let percent = tenths(5 << 30, 10 << 30) / 10;
    scene.run_with(120, |_, _| Some(percent));
    let Some(policy) = scene.policy().utilization.clone() else {
        panic!("a policy");
    };
    let reports = scene.history.metric_reports(&policy);
    assert_eq!(
        reports,
        [MetricReport {
            metric: Metric::Mem,
            mean_tenths: Some(500),
            threshold: 10,
            share_of_data: 100,
        }]
    );
    assert_eq!(scene.stop, None);
}

#[test]
fn in_the_grace_the_window_still_lies_ahead() {
    let mut scene = Scene::new(Some(gpu(30, 10)));
    scene.policy().initial_grace_s = 100;
    scene.run(10);
    assert_eq!((scene.left(), scene.last.in_grace), (Some(120), true));
    let policy = scene.policy().utilization.clone().unwrap();
    assert!(
        scene
            .history
            .metric_reports(&policy)
            .iter()
            .all(|report| report.mean_tenths.is_none())
    );
}

#[test]
fn window_60_busy_until_30() {
    let mut scene = Scene::new(Some(gpu(60, 10)));
    let busy = |s, _| Some(if s < 30 { 50 } else { 0 });
    scene.run_with(29, busy);
    assert_eq!(scene.deadline(), Some(75));
    for at in 30..80 {
        scene.run_with(at, busy);
        assert_eq!(scene.deadline(), Some(80), "shown at {at}");
    }
    scene.run_with(100, busy);
    assert_eq!(scene.stop, Some((80, Reason::IdleUtilization)));
}

#[test]
fn window_3600_busy_until_1800() {
    let mut scene = Scene::new(Some(gpu(3600, 5)));
    scene.run_with(6000, |s, _| Some(if s < 1800 { 90 } else { 0 }));
    assert_eq!(scene.stop, Some((5205, Reason::IdleUtilization)));
    assert_eq!(scene.warnings, [(4305, 900), (4905, 300)]);
}

#[test]
fn missing_data_moves_the_deadline_and_never_stops() {
    let mut scene = Scene::new(Some(gpu(60, 10)));
    let gap = |s, _| (!(20..40).contains(&s)).then_some(0);
    scene.run_with(20, gap);
    assert_eq!(scene.deadline(), Some(60));
    scene.run_with(40, gap);
    assert_eq!(scene.deadline(), Some(90));
    scene.run_with(100, gap);
    assert_eq!(scene.stop, Some((90, Reason::IdleUtilization)));

    let mut scene = Scene::new(Some(gpu(60, 10)));
    scene.run_with(500, |s, _| (s < 20).then_some(0));
    assert_eq!(scene.stop, None);
}

#[test]
fn both_checks_together() {
    // 10 % until 340, below 10 % in the mean at 400 at the earliest.
    let busy = |s, _| Some(if s < 340 { 100 } else { 0 });
    let both = |combine| {
        let mut policy = gpu(60, 1);
        policy.combine = combine;
        policy.interaction_timeout_s = Some(100);
        Scene::new(Some(policy))
    };
    let mut scene = both(Combine::All);
    scene.run_with(340, busy);
    assert_eq!(scene.deadline(), Some(400));
    scene.run_with(450, busy);
    assert_eq!(scene.stop, Some((400, Reason::IdleUtilization)));

    let mut scene = both(Combine::Any);
    scene.run_with(450, busy);
    assert_eq!(scene.stop, Some((100, Reason::IdleTimeout)));
}

#[test]
fn a_verdict_that_comes_late_still_knows_who_decided() {
    let mut policy = gpu(60, 10);
    policy.interaction_timeout_s = Some(62);
    let mut scene = Scene::new(Some(policy));
    scene.run(61);
    scene.at = 68;
    scene.run(68);
    assert_eq!(scene.stop, Some((68, Reason::IdleTimeout)));
    assert_eq!(scene.deadline(), Some(62));
}

#[test]
fn on_a_tie_it_is_idle_timeout() {
    for combine in [Combine::All, Combine::Any] {
        let mut policy = gpu(60, 10);
        policy.combine = combine;
        policy.interaction_timeout_s = Some(60);
        let mut scene = Scene::new(Some(policy));
        scene.run(70);
        assert_eq!(scene.stop, Some((60, Reason::IdleTimeout)));
    }
}

#[test]
fn lifetimes() {
    assert_eq!(lifetime_deadline(0, None, 30, 0), 30_000);
    assert_eq!(lifetime_deadline(0, Some(30_000), 30, 10), 70_000);
    let mut scene = Scene::new(None);
    scene.clock.lifetime_deadline_ms = Some(lifetime_deadline(0, None, 30, 0));
    scene.run(10);
    let deadline_ms = scene.last.lifetime_deadline_ms.unwrap();
    assert_eq!(Verdict::remaining_s(deadline_ms, 10_000), 20);
    scene.run(40);
    assert_eq!(scene.stop, Some((30, Reason::LifetimeExceeded)));
    assert_eq!(scene.warnings, [(15, 15)]);
}

#[test]
fn an_extended_lifetime_is_warned_of_again() {
    let mut scene = Scene::new(None);
    scene.clock.lifetime_deadline_ms = Some(3_600_000);
    scene.run(2800);
    scene.clock.lifetime_deadline_ms = Some(7_200_000);
    scene.run(7300);
    assert_eq!(scene.stop, Some((7200, Reason::LifetimeExceeded)));
    assert_eq!(
        scene.warnings,
        [(2700, 900), (3600, 3600), (6300, 900), (6900, 300)]
    );
}

#[test]
fn a_shortened_lifetime_waits_for_a_warning() {
    let mut scene = Scene::new(None);
    scene.clock.lifetime_deadline_ms = Some(100_000_000);
    scene.run(1000);
    scene.clock.lifetime_deadline_ms = Some(500_000);
    scene.run(2000);
    assert_eq!(scene.warnings, [(1001, 300)]);
    assert_eq!(scene.stop, Some((1301, Reason::LifetimeExceeded)));
}

#[test]
fn a_batch_session_has_its_own_limit() {
    let mut scene = Scene::new(Some(interaction(10)));
    scene.kind = SessionType::Batch;
    scene.limits.batch_timeout_s = Some(600);
    scene.run(599);
    assert_eq!((scene.deadline(), scene.stop), (None, None));
    scene.run(600);
    assert_eq!(scene.stop, Some((600, Reason::TaskTimeout)));
}

#[test]
fn batch_sessions_are_judged_by_work_only_where_the_policy_says_so() {
    for (applies_to_batch, stop) in [(false, None), (true, Some((60, Reason::IdleUtilization)))] {
        let mut scene = Scene::new(Some(gpu(60, 10)));
        scene.kind = SessionType::Batch;
        let utilization = scene.policy().utilization.as_mut().unwrap();
        utilization.applies_to_batch = applies_to_batch;
        scene.run(100);
        assert_eq!(scene.stop, stop);
    }
}

#[test]
fn metrics_go_together_by_the_operator() {
    let metrics = [(Metric::Cpu, 10), (Metric::Gpu, 10)];
    let busy = |s, metric| {
        Some(if metric == Metric::Cpu && s < 30 {
            50
        } else {
            0
        })
    };
    for (operator, at) in [(Operator::And, 80), (Operator::Or, 60)] {
        let mut scene = Scene::new(Some(utilization(60, operator, &metrics)));
        scene.run_with(100, busy);
        assert_eq!(scene.stop, Some((at, Reason::IdleUtilization)));
    }
}

#[test]
fn a_metric_that_cannot_be_measured() {
    let metrics = [(Metric::Cpu, 10), (Metric::Gpu, 10)];
    for (operator, source, stop) in [
        (Operator::And, Source::Absent, None),
        (Operator::Or, Source::Absent, Some(60)),
        (Operator::And, Source::NotGranted, Some(60)),
    ] {
        let mut scene = Scene::new(Some(utilization(60, operator, &metrics)));
        scene.history.set_source(Metric::Gpu, source);
        scene.run(100);
        assert_eq!(scene.stop.map(|(at, _)| at), stop);
    }
    // Nothing usable at all: never.
    let mut scene = Scene::new(Some(gpu(60, 10)));
    scene.history.set_source(Metric::Gpu, Source::NotGranted);
    scene.run(200);
    assert_eq!((scene.stop, scene.deadline()), (None, None));
}

#[test]
fn report_never_stops_and_never_warns() {
    let mut scene = Scene::new(Some(interaction(60)));
    scene.policy().action = IdleAction::Report;
    scene.run(100);
    assert_eq!((scene.stop, scene.warnings.len()), (None, 0));
    assert!(scene.last.overdue && scene.last.idle);
    assert_eq!(scene.left(), Some(-1));
}

#[test]
fn keep_holds_the_session() {
    let mut scene = Scene::new(Some(gpu(60, 10)));
    scene.run(30);
    scene.history.keep(31_000, 200_000);
    scene.run(300);
    assert_eq!(scene.stop, Some((231, Reason::IdleUtilization)));
}

#[test]
fn an_agent_that_was_away_warns_before_it_stops() {
    let mut scene = Scene::new(Some(interaction(1000)));
    scene.at = 5000;
    scene.run(5200);
    assert_eq!(scene.warnings, [(5000, 60)]);
    assert_eq!(scene.stop, Some((5060, Reason::IdleTimeout)));
}

#[test]
fn a_stricter_policy_leaves_300_s() {
    let mut scene = Scene::new(Some(interaction(3600)));
    scene.run(1000);
    scene.policy().interaction_timeout_s = Some(600);
    scene.last = Verdict::default();
    scene.run(2000);
    assert_eq!(scene.warnings, [(1001, 300)]);
    assert_eq!(scene.stop, Some((1301, Reason::IdleTimeout)));

    // One that appears in the middle is stricter than none.
    let mut scene = Scene::new(None);
    scene.run(1000);
    scene.limits.idle = Some(interaction(600));
    scene.run(2000);
    assert_eq!(scene.stop, Some((1301, Reason::IdleTimeout)));
}

#[test]
fn leads_count_from_the_end_that_a_stricter_policy_leaves() {
    let mut scene = Scene::new(None);
    scene.clock.lifetime_deadline_ms = Some(5_000_000);
    scene.run(100);
    scene.clock.lifetime_deadline_ms = Some(300_000);
    scene.run(2000);
    assert_eq!(scene.warnings, [(101, 300), (251, 150)]);
    assert_eq!(scene.stop, Some((401, Reason::LifetimeExceeded)));
}

#[test]
fn a_lifetime_that_appears_or_shortens_leaves_300_s() {
    // A minute suffices where it was there from the beginning.
    let mut scene = Scene::new(None);
    scene.clock.lifetime_deadline_ms = Some(100_000);
    scene.at = 0;
    scene.run(1000);
    assert_eq!(scene.stop, Some((100, Reason::LifetimeExceeded)));

    for before_ms in [None, Some(5_000_000)] {
        let mut scene = Scene::new(None);
        scene.clock.lifetime_deadline_ms = before_ms;
        scene.run(1000);
        assert_eq!(scene.stop, None);
        scene.clock.lifetime_deadline_ms = Some(600_000);
        scene.warnings.clear();
        scene.run(2000);
        assert_eq!(scene.warnings, [(1001, 300)], "{before_ms:?}");
        assert_eq!(scene.stop, Some((1301, Reason::LifetimeExceeded)));
    }
}

#[test]
fn no_warning_while_it_works() {
    // Low in the mean from the first window on, but just working when the warning is due.
    let mut scene = Scene::new(Some(gpu(600, 10)));
    scene.run_with(1000, |s, _| {
        Some(if (200..700).contains(&s) { 11 } else { 0 })
    });
    let first = scene.warnings[0].0;
    assert!(first >= 700, "warned at {first}");
    let (stop, _) = scene.stop.unwrap();
    assert!(stop >= first + 60, "stopped at {stop}");
}

#[test]
fn warnings_come_back_after_use() {
    let mut scene = Scene::new(Some(interaction(2000)));
    scene.run(1200);
    scene.history.push_activity(1_200_000);
    scene.run(4000);
    assert_eq!(scene.warnings, [(1100, 900), (2300, 900), (2900, 300)]);
    assert_eq!(scene.stop, Some((3200, Reason::IdleTimeout)));
}

#[test]
fn the_earliest_limit_is_the_reason() {
    let mut scene = Scene::new(Some(interaction(60)));
    scene.clock.lifetime_deadline_ms = Some(50_000);
    scene.at = 0;
    scene.run(100);
    assert_eq!(scene.stop, Some((50, Reason::LifetimeExceeded)));
}

#[test]
fn asking_only_when_told_to_stops_at_the_same_instant() {
    let mut scene = Scene::new(Some(interaction(3600)));
    let mut asked = 0;
    while scene.stop.is_none() {
        scene.judge();
        scene.at = scene.last.next_ms.map_or(scene.at, |ms| ms / 1000);
        asked += 1;
        assert!(asked < 10);
    }
    assert_eq!(scene.stop, Some((3600, Reason::IdleTimeout)));
    assert_eq!(scene.warnings, [(2700, 900), (3300, 300)]);
}

/// The next number of a fixed sequence.
fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn no_deadline_moves_earlier_and_no_stop_comes_unwarned() {
    let mut state = 1;
    for round in 0..150 {
        let mut pick = |below: u64| u32::try_from(random(&mut state) % below).unwrap();
        let mut policy = utilization(
            30 + pick(600),
            if pick(2) == 0 {
                Operator::And
            } else {
                Operator::Or
            },
            &[(Metric::Cpu, 1 + pick(30)), (Metric::Gpu, 1 + pick(30))],
        );
        policy.combine = if pick(2) == 0 {
            Combine::All
        } else {
            Combine::Any
        };
        policy.interaction_timeout_s = Some(20 + pick(400));
        policy.initial_grace_s = pick(60);
        policy.warn_s = vec![10 + pick(300), 10 + pick(60)];
        let shortest = policy.interaction_timeout_s.unwrap().min(30);
        let mut scene = Scene::new(Some(policy));
        for _ in 0..40 {
            let mut pick = |below: u64| u32::try_from(random(&mut state) % below).unwrap();
            let now_ms = scene.at * 1000;
            match pick(8) {
                0 => scene.history.push_activity(now_ms),
                1 => scene.history.open_connection(now_ms),
                2 | 3 => scene.history.close_connection(now_ms),
                4 => scene.history.keep(now_ms, 50_000),
                _ => (),
            }
            let load = if pick(3) == 0 { pick(100) } else { pick(5) };
            let missing = pick(6) == 0;
            let to = scene.at + i64::from(pick(60));
            // The scene itself checks that deadlines do not move earlier.
            scene.run_with(to, |_, _| (!missing).then_some(load));
            if let Some((at, _)) = scene.stop {
                let warned = scene.warnings.first().map(|(at, _)| *at);
                let notice = i64::from(shortest / 2).min(60);
                assert!(warned.is_some_and(|w| w <= at - notice), "round {round}");
                break;
            }
        }
    }
}

#[test]
fn deadlines_beyond_all_measure_overflow_nowhere() {
    let extremes = [
        i64::MIN,
        i64::MIN + 1,
        -1,
        0,
        9_000,
        i64::MAX - 3000,
        i64::MAX,
    ];
    // A machine that was just started, and one that runs for long.
    for now_ms in [0, 5_000, 1 << 40] {
        for first in extremes {
            for second in extremes {
                let mut warned = WarnState::default();
                let mut history = IdleHistory::default();
                for deadline_ms in [first, second, first] {
                    let clock = SessionClock {
                        created_at_ms: now_ms,
                        started_at_ms: now_ms,
                        new_user_until_ms: None,
                        lifetime_deadline_ms: Some(deadline_ms),
                    };
                    let limits = SessionLimits::default();
                    let kind = SessionType::Batch;
                    let verdict = judge(&limits, kind, &clock, &mut history, &mut warned, now_ms);
                    let stops_at = verdict.lifetime_deadline_ms.unwrap();
                    assert!(stops_at >= deadline_ms, "{first} {second} at {now_ms}");
                }
            }
        }
    }
}

#[test]
fn other_leads_than_the_usual_ones_are_those_of_its_limits() {
    let mut scene = Scene::new(None);
    scene.limits.warn_s = vec![600];
    scene.clock.lifetime_deadline_ms = Some(7_200_000);
    scene.run(7200);
    assert_eq!(scene.warnings, [(6600, 600)]);
}

#[test]
fn a_drain_is_told_at_once_and_again_before_its_end() {
    let mut warned = WarnState::default();
    let deadline = Some(7_200_000);
    let mut told = Vec::new();
    for now_ms in (0..=7_200_000).step_by(1000) {
        if let Some(warning) = warn_of_drain(&mut warned, &WARN_S, deadline, 0, now_ms) {
            assert_eq!(warning.reason, Reason::Drained);
            told.push(warning.remaining_s);
        }
    }
    assert_eq!(told, [7200, 3600, 900, 300]);
    assert_eq!(
        warn_of_drain(&mut warned, &WARN_S, None, 0, 7_300_000),
        None
    );
    // Another drain later is told anew, and a short one has one word more at half of it.
    let (since, deadline) = (8_000_000, Some(8_100_000));
    let first = warn_of_drain(&mut warned, &WARN_S, deadline, since, since);
    assert!(first.is_some_and(|w| w.text.starts_with("This session stops in 1 min 40 s")));
    assert_eq!(
        warn_of_drain(&mut warned, &WARN_S, deadline, since, 8_040_000),
        None
    );
    assert!(warn_of_drain(&mut warned, &WARN_S, deadline, since, 8_050_000).is_some());
    // And one that is far away.
    assert_eq!(
        warn_of_drain(&mut warned, &WARN_S, None, 0, 8_060_000),
        None
    );
    let (since, deadline) = (8_070_000, Some(80_000_000));
    assert!(warn_of_drain(&mut warned, &WARN_S, deadline, since, since).is_some());
}
