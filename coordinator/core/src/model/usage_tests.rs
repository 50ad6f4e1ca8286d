use super::*;
use longshore_common::ids::Rank;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(100_000_000);

fn row(session: u64, attempt: u32, device: &str, from: i64) -> UsageRow {
    UsageRow {
        key: ContainerKey {
            session: SessionId(session),
            rank: Rank::MAIN,
            attempt: Attempt(attempt),
        },
        slot: SlotName::cuda_device(),
        device: Some(device.parse().expect("a good name")),
        model: "H100 80G".to_owned(),
        amount: UNIT,
        agent: AgentId::new(1),
        agent_name: "gpu01".to_owned(),
        owner: UserId::new(1),
        owner_name: "dana".to_owned(),
        access_key: "LS1".to_owned(),
        project: ProjectId::new(1),
        project_name: "vision".to_owned(),
        domain: DomainId::new(1),
        domain_name: "default".to_owned(),
        group: GroupId::new(1),
        group_name: "default".to_owned(),
        from: Timestamp(from),
        billable_from: None,
        billable_to: None,
        to: None,
        busy_ms: 0,
        measured_ms: 0,
    }
}

fn sum(by: UsageBy, stretch: Stretch, rows: &[UsageRow]) -> Vec<UsageSum> {
    let mut summary = Summary::new(by, stretch, NOW);
    rows.iter().for_each(|row| summary.take(row));
    summary.done()
}

/// Thousandths of an hour of one device.
fn hours(spent: i128) -> i128 {
    spent / 3600 / 1000
}

#[test]
fn two_gpus_for_half_an_hour_at_forty_percent() {
    let rows: Vec<UsageRow> = ["GPU-1", "GPU-2"]
        .map(|device| UsageRow {
            billable_from: Some(Timestamp(600_000)),
            billable_to: Some(Timestamp(2_400_000)),
            to: Some(Timestamp(2_400_000)),
            busy_ms: 720_000,
            measured_ms: 1_800_000,
            ..row(1, 1, device, 0)
        })
        .into();
    let sums = sum(UsageBy::User, Stretch::default(), &rows);
    let gpus = sums[0].accelerators;
    assert_eq!(sums[0].sessions, 1);
    assert_eq!((hours(gpus.allocated), hours(gpus.used)), (1000, 400));
    assert_eq!(gpus.gaps, 0);
    // Ten minutes of pulling, on two devices: a third of an hour.
    assert_eq!(hours(gpus.held), 333);
    assert_eq!(gpus.held, 2 * 1000 * 600_000);
}

#[test]
fn what_runs_counts_until_now_and_what_was_not_measured_is_a_gap() {
    let running = UsageRow {
        billable_from: Some(Timestamp(NOW.0 - 1000)),
        busy_ms: 200,
        measured_ms: 400,
        ..row(1, 1, "GPU-1", NOW.0 - 3000)
    };
    let spent = running.spending(Stretch::default(), NOW);
    let amounts = [spent.allocated, spent.used, spent.held, spent.gaps];
    assert_eq!(amounts, [1_000_000, 200_000, 2_000_000, 600_000]);
}

#[test]
fn months_cut_what_goes_over_their_end() {
    let end: Timestamp = "2026-02-01T00:00:00.000Z".parse().expect("an instant");
    let over = UsageRow {
        billable_from: Some(Timestamp(end.0 - 3_600_000)),
        billable_to: Some(Timestamp(end.0 + 7_200_000)),
        to: Some(Timestamp(end.0 + 7_200_000)),
        busy_ms: 1,
        measured_ms: 10_800_000,
        ..row(1, 1, "GPU-1", end.0 - 3_600_000)
    };
    let mut summary = Summary::new(UsageBy::Month, Stretch::default(), end.plus_ms(1 << 40));
    summary.take(&over);
    let months = summary.done();
    let named: Vec<(&str, i128)> = months
        .iter()
        .map(|m| (m.name.as_str(), hours(m.accelerators.allocated)))
        .collect();
    assert_eq!(named, [("2026-01", 1000), ("2026-02", 2000)]);
    let used: i128 = months.iter().map(|m| m.accelerators.used).sum();
    assert_eq!(used, 1000, "one millisecond stays one");
}

#[test]
fn what_has_no_model_is_in_no_sum_of_models() {
    let plain = UsageRow {
        slot: SlotName::mem(),
        device: None,
        model: String::new(),
        ..row(1, 1, "GPU-1", 0)
    };
    assert_eq!(sum(UsageBy::Model, Stretch::default(), &[plain]), []);
}

/// A life: held from, runs after, rests after, ends after; what was measured.
fn life() -> impl Strategy<Value = (i64, Option<i64>, i64, i64, i64, i64)> {
    let runs = prop::option::of(0i64..50);
    (0i64..200, runs, 0i64..50, 0i64..30, 0i64..80, 0i64..80)
}

proptest! {
    /// The sums are what counting each millisecond alone gives, over requeues as well: each
    /// attempt has rows of its own.
    #[test]
    fn sums_are_those_of_a_naive_count(lives in prop::collection::vec(life(), 1..6), since in 0i64..300, length in 0i64..300) {
        let mut rows = Vec::new();
        let mut at = 0;
        for (n, (wait, runs, rests, ends, busy, measured)) in lives.into_iter().enumerate() {
            let from = at + wait;
            let ran = runs.map(|after| from + after);
            let rested = ran.map_or(from, |ran| ran + rests);
            at = rested + ends;
            rows.push(UsageRow {
                billable_from: ran.map(Timestamp),
                billable_to: ran.map(|_| Timestamp(rested)),
                to: Some(Timestamp(at)),
                busy_ms: busy.min(measured),
                measured_ms: measured,
                ..row(1, u32::try_from(n).unwrap_or(0) + 1, "GPU-1", from)
            });
        }
        let stretch = Stretch { since: Some(Timestamp(since)), until: Some(Timestamp(since + length)) };
        let (mut allocated, mut held) = (0_i128, 0_i128);
        for ms in since..since + length {
            for row in &rows {
                let inside = |from: Option<Timestamp>, to: Option<Timestamp>| {
                    from.is_some_and(|f| f.0 <= ms) && to.is_some_and(|t| ms < t.0)
                };
                if inside(row.billable_from, row.billable_to) {
                    allocated += 1000;
                } else if inside(Some(row.from), row.to) {
                    held += 1000;
                }
            }
        }
        let all = sum(UsageBy::Session, stretch, &rows);
        let spent = all.first().map(|s| s.accelerators).unwrap_or_default();
        prop_assert_eq!((spent.allocated, spent.held), (allocated, held));
        prop_assert!(spent.used <= spent.allocated && spent.gaps <= spent.allocated);
        // Two halves are the whole.
        let middle = Timestamp(since + length / 2);
        let halves = [
            Stretch { until: Some(middle), ..stretch },
            Stretch { since: Some(middle), ..stretch },
        ];
        let used: i128 = halves
            .iter()
            .flat_map(|half| sum(UsageBy::Session, *half, &rows))
            .map(|s| s.accelerators.used)
            .sum();
        prop_assert_eq!(used, spent.used);
    }
}
