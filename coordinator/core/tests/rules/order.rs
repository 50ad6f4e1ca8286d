//! The order in which those who wait are shown, and their places in it, against one worked out
//! from the state by hand and against who really starts.

use crate::history::{agent, node};
use longshore_common::agent::{AgentState, Inventory};
use longshore_common::amount::{SlotName, Slots, UNIT};
use longshore_common::ids::{ClusterId, CoordinatorGeneration, GroupId, SessionId, UserId};
use longshore_common::time::Timestamp;
use longshore_core::Core;
use longshore_core::model::{
    AccessRule, Account, Agent, Caller, Change, Discipline, Group, Keypair, Meta, Role,
    SchedulerSettings, Session, SessionDefaults, State, Submit, User, check_submit,
};
use longshore_core::scheduler::{Planner, blocked_by, position, positions, waiting_in_group};
use proptest::prelude::*;
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const GROUP: GroupId = GroupId::new(1);

/// What a user has of a group over all there is of it, and over the weight: by slot, above and
/// below the line.
fn share(used: &Slots, whole: &Slots, weight: i64) -> (i128, i128) {
    let mut most = (0, 1);
    for (slot, used) in used.iter() {
        let one = (
            i128::from(used) * 1000,
            i128::from(whole.amount(slot)) * i128::from(weight),
        );
        if one.1 > 0 && one.0 * most.1 > most.0 * one.1 {
            most = one;
        }
    }
    most
}

fn add(to: &mut Slots, more: &Slots) {
    for (slot, amount) in more.iter() {
        to.set(slot.clone(), to.amount(slot) + amount);
    }
}

/// What those agents of a group have that take work.
fn whole(state: &State, group: GroupId) -> Slots {
    let works = |agent: &&Agent| {
        let alive = agent.state == AgentState::Alive && agent.schedulable;
        agent.group == group && alive && agent.conditions().is_empty()
    };
    let mut all = Slots::new();
    let inventories = state.agents.values().filter(works);
    for inventory in inventories.filter_map(|agent| agent.inventory.as_deref()) {
        add(&mut all, &Inventory::capacity(inventory));
    }
    all
}

/// Whether the next pass would look at a session. In a group that is not active those who are
/// ready keep their order, and have no place meanwhile.
fn is_ready(state: &State, planner: &mut Planner, session: &Session, now: Timestamp) -> bool {
    let blocked = blocked_by(planner, state, session, now);
    let group = |rule: &str| rule == "group-inactive";
    let own = |stage: &str| matches!(stage, "identity" | "ready");
    !blocked.iter().any(|b| own(&b.stage) && !group(&b.rule))
}

/// Who waits in a group and is ready, one after the other: each time everybody is weighed anew.
fn by_hand(state: &State, planner: &mut Planner, group: GroupId, now: Timestamp) -> Vec<SessionId> {
    let row = &state.groups[&group];
    let discipline = row.scheduler.unwrap_or(state.scheduler.scheduler);
    let skip = row
        .retries_to_skip
        .unwrap_or(state.scheduler.retries_to_skip);
    let waiting: Vec<&Session> = state.queue(group).filter(|s| s.queue.is_none()).collect();
    let mut parts: BTreeMap<(i64, bool), Vec<&Session>> = BTreeMap::new();
    for session in waiting {
        if !is_ready(state, planner, session, now) {
            continue;
        }
        let spent = skip > 0 && planner.retries(session.id) >= skip;
        let part = parts.entry((-i64::from(session.priority), spent));
        part.or_default().push(session);
    }
    let whole = whole(state, group);
    let mut order = Vec::new();
    let mut used: BTreeMap<UserId, Slots> = BTreeMap::new();
    for mut part in parts.into_values() {
        part.sort_by_key(|s| (s.created_at, s.id.place()));
        match discipline {
            Discipline::Fifo => (),
            Discipline::Lifo => part.reverse(),
            Discipline::Drf => {
                for session in &part {
                    let account = Account::InGroup(group, session.owner);
                    let before = || state.usage(&account).slots;
                    used.entry(session.owner).or_insert_with(before);
                }
                let mut left = part;
                let mut turns = Vec::new();
                while !left.is_empty() {
                    let of = |session: &Session| {
                        let weight = state.users[&session.owner].weight_milli;
                        share(&used[&session.owner], &whole, weight)
                    };
                    // The first of each user is its oldest.
                    let mut next = 0;
                    for at in 1..left.len() {
                        let (one, other) = (of(left[at]), of(left[next]));
                        if (one.0 * other.1).cmp(&(other.0 * one.1)) == Ordering::Less {
                            next = at;
                        }
                    }
                    let session = left.remove(next);
                    add(
                        used.get_mut(&session.owner).unwrap(),
                        &session.total_slots(),
                    );
                    turns.push(session);
                }
                part = turns;
            }
        }
        order.extend(part.iter().map(|s| s.id));
    }
    order
}

/// What is shown of a group is what was worked out by hand, whichever way it is asked for.
pub(crate) fn shown_in_order(
    state: &State,
    planner: &mut Planner,
    group: GroupId,
    now: Timestamp,
) -> Result<(), String> {
    let wanted = by_hand(state, planner, group, now);
    let active = state.groups[&group].active;
    let place = |at: usize| active.then_some(at as u64 + 1);
    let mut wanted: Vec<_> = wanted.into_iter().zip((0..).map(place)).collect();
    let ready = wanted.len();
    let shown = waiting_in_group(planner, state, group, (0, usize::MAX), now);
    // Sessions of queues come behind, in the order of each queue.
    let mut queues: BTreeMap<&str, Vec<&Session>> = BTreeMap::new();
    for session in state.sessions.values().filter(|s| s.waits()) {
        if let Some(seat) = &session.queue
            && is_ready(state, planner, session, now)
        {
            queues.entry(&seat.name).or_default().push(session);
        }
    }
    for queue in queues.values_mut() {
        queue.sort_by_key(|s| (Reverse(s.priority), s.created_at, s.id));
        let numbered = (1..).zip(queue);
        let here = numbered.filter(|(_, session)| session.group == group);
        wanted.extend(here.map(|(place, session)| (session.id, Some(place))));
    }
    // Those that are not ready come last, the oldest first.
    let mut late: Vec<&Session> = state
        .queue(group)
        .filter(|s| !wanted.iter().any(|(id, _)| *id == s.id))
        .collect();
    late.sort_by_key(|s| (s.created_at, s.id.place()));
    wanted.extend(late.iter().map(|s| (s.id, None)));
    if shown != wanted {
        return Err(format!("shown {shown:?}, by hand {wanted:?}"));
    }
    // A page is a piece of the whole.
    for from in [0, 1, ready / 2, ready.saturating_sub(1), ready, ready + 1] {
        let page = waiting_in_group(planner, state, group, (from, 3), now);
        if page.as_slice() != wanted.get(from..).map_or(&[][..], |w| &w[..w.len().min(3)]) {
            return Err(format!("from {from}: {page:?} of {wanted:?}"));
        }
    }
    let ids: Vec<SessionId> = wanted.iter().rev().map(|(id, _)| *id).collect();
    let places: Vec<_> = wanted.iter().rev().map(|(_, place)| *place).collect();
    if positions(planner, state, &ids, now) != places {
        return Err(format!("the places of {ids:?} are not {places:?}"));
    }
    let every = wanted.len() / 20 + 1;
    for (id, place) in wanted.iter().step_by(every) {
        let one = position(planner, state, &state.sessions[id], now);
        if one != *place {
            return Err(format!("{id} is at {one:?}, not at {place:?}"));
        }
    }
    Ok(())
}

/// Of whom, what shape, which priority, and whether it has had its tries.
type Wish = (u8, u8, u8, u8);

/// A group in which there is room for all, with users of these weights.
fn roomy(discipline: Discipline, weights: &[i64]) -> Core {
    let meta = Meta {
        cluster: ClusterId::new(1),
        generation: CoordinatorGeneration(1),
        next_session: 1,
        next_uid: 1,
    };
    let mut core = Core::new(State::new(meta));
    core.apply(&Change::Scheduler(SchedulerSettings {
        scheduler: discipline,
        ..SchedulerSettings::default()
    }));
    core.apply(&Change::Group(Group::new(GROUP, "default")));
    let mut inventory = node(0, 0, 100_000);
    inventory.offered = Slots::new()
        .with(SlotName::cpu(), 100_000 * UNIT)
        .with(SlotName::mem(), 1 << 50);
    // Several, as each holds a thousand containers at most.
    let inventory = Arc::new(inventory);
    for number in (0..9).filter(|number| *number != 3) {
        let mut one = agent(number, GROUP);
        one.inventory = Some(Arc::clone(&inventory));
        core.apply(&Change::Agent(Box::new(one)));
    }
    core.apply(&Change::AccessRule(AccessRule::factory(NOW)));
    for (number, weight) in (0u128..).zip(weights) {
        let id = UserId::new(number + 1);
        core.apply(&Change::User(Box::new(User {
            username: format!("u{number}"),
            email: format!("u{number}@x"),
            role: Role::User,
            uid: 1,
            user_policy: String::new(),
            weight_milli: *weight,
            ..User::new(id, NOW)
        })));
        core.apply(&Change::Keypair(Keypair {
            policy: String::new(),
            ..Keypair::new(&format!("k{number}"), [0; 32], id, NOW)
        }));
    }
    core
}

/// Sessions that wait, without what submit does for each.
fn wait(core: &mut Core, users: usize, from: u64, wishes: &[Wish]) {
    let request = |shape: u8| longshore_common::api::NewSession {
        command: vec!["work".to_owned()],
        image: Some("base".to_owned()),
        slots: BTreeMap::from([
            ("cpu".to_owned(), (shape % 3 + 1).to_string()),
            (
                "mem".to_owned(),
                format!("{}g", [1, 8, 64][usize::from(shape / 3 % 3)]),
            ),
        ]),
        ..longshore_common::api::NewSession::default()
    };
    let caller = Caller {
        user: UserId::new(1),
        access_key: "k0".to_owned(),
    };
    let models: Vec<Session> = (0..9)
        .map(|shape| {
            let order = Submit::new(caller.clone(), request(shape), SessionDefaults::default());
            check_submit(core.state(), &order, NOW).unwrap()
        })
        .collect();
    for (number, (user, shape, priority, tries)) in (from..).zip(wishes) {
        let mut session = models[usize::from(shape % 9)].clone();
        let user = usize::from(*user) % users;
        session.id = SessionId(number);
        session.owner = UserId::new(user as u128 + 1);
        session.access_key = format!("k{user}");
        session.priority = priority % 3;
        // Some come within one millisecond.
        session.created_at = NOW.plus_ms(i64::try_from(number / 3).unwrap());
        session.retries_given = (*tries > 250).then(|| u32::from(*tries) - 250);
        core.apply(&Change::Session(Box::new(session)));
    }
}

/// So many wishes by one number: thousands of their own would take long to shrink.
fn wishes(mut seed: u64, count: usize) -> Vec<Wish> {
    let draw = |_| {
        // SplitMix64.
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [user, shape, priority, tries, ..] = (bits ^ (bits >> 31)).to_le_bytes();
        (user, shape, priority, tries)
    };
    (0..count).map(draw).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]
    #[test]
    fn thousands_start_in_the_order_in_which_they_are_shown(
        discipline in 0usize..3,
        weights in prop::collection::vec(prop_oneof![Just(1000i64), 1i64..5000], 1..9),
        seed in any::<u64>(),
        before in 0usize..300,
        count in 2000usize..3000,
    ) {
        let mut core = roomy(Discipline::ALL[discipline], &weights);
        let (mut changes, mut effects) = (Vec::new(), Vec::new());
        wait(&mut core, weights.len(), 1, &wishes(seed, before));
        core.place(NOW, &mut changes, &mut effects);
        prop_assert_eq!(core.state().pending_count(GROUP), 0);
        // Those that run make the shares differ from the beginning.
        wait(&mut core, weights.len(), 1000, &wishes(!seed, count));
        let (state, planner) = core.ask();
        let now = NOW.plus_s(10);
        let shown = waiting_in_group(planner, state, GROUP, (0, usize::MAX), now);
        let order: Vec<SessionId> = shown.iter().map(|(id, _)| *id).collect();
        for (at, (id, place)) in shown.iter().enumerate().step_by(7) {
            prop_assert_eq!(*place, Some(at as u64 + 1));
            prop_assert_eq!(position(planner, state, &state.sessions[id], now), *place);
        }
        let page = waiting_in_group(planner, state, GROUP, (1234, 100), now);
        prop_assert_eq!(&page[..], &shown[1234..1334]);
        let starts = core.place(now, &mut changes, &mut effects).starts;
        let started: Vec<SessionId> = starts.iter().map(|start| start.session).collect();
        let other = started.iter().zip(&order).position(|(one, other)| one != other);
        prop_assert_eq!((other, started.len()), (None, order.len()));
    }

    #[test]
    fn the_order_is_the_one_worked_out_by_hand(
        discipline in 0usize..3,
        weights in prop::collection::vec(1i64..5000, 1..6),
        wishes in prop::collection::vec(any::<Wish>(), 0..250),
    ) {
        let mut core = roomy(Discipline::ALL[discipline], &weights);
        wait(&mut core, weights.len(), 1, &wishes);
        let (state, planner) = core.ask();
        prop_assert_eq!(shown_in_order(state, planner, GROUP, NOW), Ok(()));
    }
}
