//! What dominant shares promise in a cluster of one node in which everybody asks for more than
//! there is, with the tolerance of whole sessions.

use crate::history::{agent, node};
use crate::shares::{people, wait_for};
use longshore_common::amount::{SlotName, Slots, UNIT};
use longshore_common::ids::{ClusterId, CoordinatorGeneration, GroupId};
use longshore_common::time::Timestamp;
use longshore_core::Core;
use longshore_core::model::{Change, Discipline, Group, Meta, SchedulerSettings, State};
use proptest::prelude::*;
use std::sync::Arc;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// Cores, and GiB of memory: a session's share of either is thousandths.
const WHOLE: i64 = 1000;

/// Cores and GiB that one session of a user asks for.
type Bundle = (i64, i64);

/// Who starts, in order, when each of these asks for more than there is; `factor` times as much
/// is there, and asked for. The user at place `n` is the one with the number `names[n]`.
fn started(users: &[Bundle], names: &[usize], factor: i64) -> Vec<usize> {
    let meta = Meta {
        cluster: ClusterId::new(1),
        generation: CoordinatorGeneration(1),
        next_session: 1,
        next_uid: 1,
    };
    let mut core = Core::new(State::new(meta));
    core.apply(&Change::Scheduler(SchedulerSettings {
        scheduler: Discipline::Drf,
        retries_to_skip: 1,
        ..SchedulerSettings::default()
    }));
    core.apply(&Change::Group(Group::new(GroupId::new(1), "default")));
    let mut inventory = node(0, 0, 1);
    inventory.offered = Slots::new()
        .with(SlotName::cpu(), WHOLE * factor * UNIT)
        .with(SlotName::mem(), (WHOLE * factor) << 30);
    let mut one = agent(0, GroupId::new(1));
    one.inventory = Some(Arc::new(inventory));
    core.apply(&Change::Agent(Box::new(one)));
    people(&mut core, &vec![1; users.len()]);
    let mut owner = Vec::new();
    // Nobody can have more than by its dominant slot.
    let most = |(cpu, mem): &Bundle| WHOLE / cpu.max(mem) + 1;
    for round in 0..users.iter().map(most).max().unwrap_or(0) {
        for (place, user) in users.iter().enumerate() {
            if round < most(user) {
                let slots = [
                    ("cpu", (user.0 * factor).to_string()),
                    ("mem", format!("{}g", user.1 * factor)),
                ];
                wait_for(&mut core, names[place], &slots);
                owner.push(place);
            }
        }
    }
    let (mut changes, mut effects) = (Vec::new(), Vec::new());
    let mut order = Vec::new();
    for pass in 0..=i64::try_from(users.len()).unwrap() {
        let decisions = core.place(NOW.plus_s(pass * 10), &mut changes, &mut effects);
        let number = |id: u64| usize::try_from(id - 1).unwrap();
        let starts = decisions.starts.iter();
        order.extend(starts.map(|start| owner[number(start.session.0)]));
    }
    order
}

fn in_order(users: &[Bundle]) -> Vec<usize> {
    started(users, &(0..users.len()).collect::<Vec<_>>(), 1)
}

fn count(order: &[usize], user: usize) -> i64 {
    i64::try_from(order.iter().filter(|who| **who == user).count()).unwrap()
}

/// The share that one session takes, in thousandths.
fn step((cpu, mem): Bundle) -> i64 {
    cpu.max(mem)
}

/// Sessions of one kind in what so many of another take.
fn within(one: Bundle, many: i64, other: Bundle) -> i64 {
    (many * other.0 / one.0).min(many * other.1 / one.1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn shares_are_even_but_for_whole_sessions(
        users in prop::collection::vec((20i64..400, 20i64..400), 1..6),
        alone in prop::collection::vec(20i64..400, 1..6),
    ) {
        let order = in_order(&users);
        let shares: Vec<i64> = (0..users.len()).map(|u| count(&order, u) * step(users[u])).collect();
        let steps: i64 = users.iter().map(|user| step(*user)).sum();
        let many = i64::try_from(users.len()).unwrap();
        for share in &shares {
            // share > 1/n - (sum of all d)/n
            prop_assert!(share * many > WHOLE - steps, "{users:?}: {shares:?}");
        }
        // Nothing that waits fits.
        let taken = |of: fn(&Bundle) -> i64| {
            let each = users.iter().enumerate();
            each.map(|(u, user)| count(&order, u) * of(user)).sum::<i64>()
        };
        let free = (WHOLE - taken(|user| user.0), WHOLE - taken(|user| user.1));
        for (u, user) in users.iter().enumerate() {
            let waits = count(&order, u) < WHOLE / step(*user) + 1;
            prop_assert!(!waits || user.0 > free.0 || user.1 > free.1, "{user:?} of {free:?}");
        }
        // With a single slot two shares differ by no more than a session of each.
        let users: Vec<Bundle> = alone.iter().map(|cpu| (*cpu, 1)).collect();
        let order = in_order(&users);
        let share = |u: usize| count(&order, u) * step(users[u]);
        for u in 0..users.len() {
            for v in 0..u {
                let apart = (share(u) - share(v)).abs();
                prop_assert!(apart <= step(users[u]) + step(users[v]), "{users:?}: {order:?}");
            }
        }
    }

    #[test]
    fn names_and_units_change_nothing(
        users in prop::collection::vec((40i64..400, 40i64..400), 2..6),
        turn in 1usize..5,
        factor in 2i64..900,
    ) {
        let order = in_order(&users);
        let mut names: Vec<usize> = (0..users.len()).collect();
        names.rotate_left(turn % users.len());
        prop_assert_eq!(&started(&users, &names, 1), &order);
        names.sort_unstable();
        prop_assert_eq!(&started(&users, &names, factor), &order);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn nobody_envies_another_or_gains_by_asking_for_more(
        users in prop::collection::vec((8i64..=20, 8i64..=20), 2..5),
        liar in 0usize..4,
        more in (0i64..12, proptest::bool::ANY),
    ) {
        let order = in_order(&users);
        let share = |u: usize| count(&order, u) * step(users[u]);
        for (u, own) in users.iter().enumerate() {
            for (v, other) in users.iter().enumerate() {
                let with_its = within(*own, count(&order, v), *other) * step(*own);
                prop_assert!(with_its <= share(u) + 40, "{users:?}: {u} envies {v}: {with_its}");
            }
        }
        let liar = liar % users.len();
        let mut lies = users.clone();
        let slot = if more.1 { &mut lies[liar].0 } else { &mut lies[liar].1 };
        *slot = (*slot + more.0).min(20);
        // Each session it gets is of use as one of those it needs.
        let gained = count(&in_order(&lies), liar) * step(users[liar]);
        prop_assert!(gained <= share(liar) + 50, "{users:?}, {lies:?}: {gained}");
    }
}
