//! Dominant shares against an oracle that weighs everybody anew after each start, and the
//! bounds that follow from that order.

use crate::history::node;
use longshore_common::agent::{AgentState, RuntimeState};
use longshore_common::amount::SlotName;
use longshore_common::api::NewSession;
use longshore_common::ids::{
    AgentId, ClusterId, CoordinatorGeneration, Fence, Generation, GroupId, UserId,
};
use longshore_common::time::Timestamp;
use longshore_core::Core;
use longshore_core::model::{
    AccessRule, Agent, Caller, Change, Discipline, Event, Group, Keypair, Meta, Role,
    SchedulerSettings, SessionDefaults, State, Submit, User,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Cores and GPUs of one session, and the weight, of each user.
pub(crate) type Demand = (i64, i64, i64);

/// Users of these weights, each with a keypair; they may start what they like.
pub(crate) fn people(core: &mut Core, weights: &[i64]) {
    core.apply(&Change::AccessRule(AccessRule::factory(NOW)));
    for (number, weight) in (0u128..).zip(weights) {
        let id = UserId::new(number + 1);
        core.apply(&Change::User(Box::new(User {
            username: format!("u{number}"),
            email: format!("u{number}@x"),
            role: Role::User,
            uid: 1,
            user_policy: String::new(),
            weight_milli: weight * 1000,
            ..User::new(id, NOW)
        })));
        core.apply(&Change::Keypair(Keypair {
            policy: String::new(),
            ..Keypair::new(&format!("k{number}"), [0; 32], id, NOW)
        }));
    }
}

/// One of these asks for a session.
pub(crate) fn wait_for(core: &mut Core, user: usize, slots: &[(&str, String)]) {
    let own = |(slot, amount): &(&str, String)| ((*slot).to_owned(), amount.clone());
    let request = NewSession {
        command: vec!["work".to_owned()],
        image: Some("base".to_owned()),
        slots: slots.iter().map(own).collect(),
        ..NewSession::default()
    };
    let caller = Caller {
        user: UserId::new(user as u128 + 1),
        access_key: format!("k{user}"),
    };
    let defaults = SessionDefaults {
        mem_bytes: 0,
        ..SessionDefaults::default()
    };
    let mut order = Submit::new(caller, request, defaults);
    order.known_slots = vec![SlotName::cuda_device()];
    let event = Event::Submit(Box::new(order));
    core.happen(&event, NOW, &mut Vec::new(), &mut Vec::new())
        .unwrap();
}

/// One agent, one session after another of each user, alternating; who starts, in order.
fn started(cpu: i64, gpus: u32, users: &[Demand], each: usize) -> Vec<usize> {
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
    let mut group = Group::new(GroupId::new(1), "default");
    group.refuse_never_fits = false;
    core.apply(&Change::Group(group));
    core.apply(&Change::Agent(Box::new(Agent {
        id: AgentId::new(1),
        version: 1,
        name: "n".to_owned(),
        group: GroupId::new(1),
        state: AgentState::Alive,
        schedulable: true,
        fence: Fence(1),
        generation: Generation(1),
        keys: vec![],
        fingerprint: String::new(),
        machine: String::new(),
        boot_id: String::new(),
        inventory: Some(Arc::new(node(0, gpus, cpu))),
        runtime: RuntimeState::Up,
        disk_low: false,
        created_at: NOW,
        lost_since: None,
        braked_at: None,
        braked_ms: 0,
        unclaimed: Vec::new(),
        drain: None,
        cordons: BTreeMap::new(),
        told: None,
    })));
    let weights: Vec<i64> = users.iter().map(|user| user.2).collect();
    people(&mut core, &weights);
    let (mut changes, mut effects) = (Vec::new(), Vec::new());
    let mut owner = BTreeMap::new();
    for _ in 0..each {
        for (number, (cpu, gpus, _)) in users.iter().enumerate() {
            owner.insert(core.state().meta.next_session, number);
            let slots = [("cpu", cpu.to_string()), ("cuda.device", gpus.to_string())];
            wait_for(&mut core, number, &slots);
        }
    }
    // Tries are counted one interval after another, until a blocked user stops nobody.
    let mut order = Vec::new();
    for pass in 0..=i64::try_from(users.len()).unwrap() {
        let at = NOW.plus_s(pass * 10);
        let decisions = core.place(at, &mut changes, &mut effects);
        order.extend(decisions.starts.iter().map(|s| owner[&s.session.0]));
    }
    order
}

/// Weighs everybody anew after each start. Shares as fractions over one denominator.
fn oracle(cpu: i64, gpus: i64, users: &[Demand], each: usize) -> Vec<usize> {
    let (mut free_cpu, mut free_gpus) = (cpu, gpus);
    let mut count = vec![0i64; users.len()];
    let mut order = Vec::new();
    let mut out = vec![false; users.len()];
    loop {
        // share = max(cpu used / cpu, gpus used / gpus) / weight; all over cpu * gpus * weights.
        let weights: i64 = users.iter().map(|u| u.2).product();
        let share = |user: usize| {
            let (c, g, w) = users[user];
            let by_cpu = c * count[user] * gpus.max(1);
            let by_gpu = if gpus > 0 { g * count[user] * cpu } else { 0 };
            by_cpu.max(by_gpu) * (weights / w)
        };
        let next = (0..users.len())
            .filter(|u| !out[*u] && count[*u] < i64::try_from(each).unwrap())
            .min_by_key(|u| {
                (
                    share(*u),
                    count[*u] * i64::try_from(users.len()).unwrap() + i64::try_from(*u).unwrap(),
                )
            });
        let Some(user) = next else { return order };
        let (c, g, _) = users[user];
        if c <= free_cpu && g <= free_gpus {
            free_cpu -= c;
            free_gpus -= g;
            count[user] += 1;
            order.push(user);
        } else {
            out[user] = true;
        }
    }
}

pub(crate) fn compare(cpu: i64, gpus: u32, users: &[Demand]) -> Result<(), String> {
    let each = 12;
    let came = started(cpu, gpus, users, each);
    let wanted = oracle(cpu, i64::from(gpus), users, each);
    // Who finds no room is tried after the others from then on, and there is less room then.
    if came != wanted {
        return Err(format!("{users:?}: came {came:?}, wanted {wanted:?}"));
    }
    Ok(())
}

#[test]
fn a_larger_weight_gets_more() {
    assert_eq!(compare(12, 0, &[(1, 0, 1), (1, 0, 2)]), Ok(()));
    let came = started(12, 0, &[(1, 0, 1), (1, 0, 2)], 12);
    assert_eq!(came.iter().filter(|u| **u == 1).count(), 8);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whoever_has_least_goes_first(
        cpu in 4i64..24,
        gpus in 0u32..9,
        users in prop::collection::vec((1i64..5, 0i64..3, 1i64..4), 1..5),
    ) {
        prop_assert_eq!(compare(cpu, gpus, &users), Ok(()));
    }
}
