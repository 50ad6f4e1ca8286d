//! Random histories with pools, profiles, queues and sessions that do not wait, in which what
//! pools promise is held against the state before each start.

use crate::history::{Play, Step, a_step, order};
use longshore_common::agent::AgentState;
use longshore_common::amount::{SlotName, Slots, UNIT};
use longshore_common::api::NewSession;
use longshore_common::ids::GroupId;
use longshore_common::session::{SessionState, SessionType};
use longshore_common::time::Timestamp;
use longshore_core::model::{
    Account, AllocationPolicy, Change, Counts, Discipline, Event, LiveConfig, PolicyProfile, Pool,
    Profile, Queue, ResourceConfig, Selection, Session, State, Submit, start_session,
};
use longshore_core::scheduler::limits::{Requester, layers};
use longshore_core::scheduler::{Decisions, Start, free_slots, pool_count, pool_used};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// What can happen beside the rest.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    Old(Step),
    Queue {
        user: u8,
        key: u8,
        queue: u8,
        high: bool,
    },
    System {
        user: u8,
        key: u8,
    },
    Served(bool),
    Provision {
        counts: [u8; 2],
        reservations: [u8; 2],
        limits: [Option<u8>; 2],
        turned: bool,
        links: u8,
    },
}

const QUEUES: [&str; 4] = ["Dev/one", "Dev/two", "Research/one", "Research/two"];

fn document(
    counts: [u8; 2],
    reservations: [u8; 2],
    limits: [Option<u8>; 2],
    turned: bool,
    links: u8,
) -> ResourceConfig {
    let turn = |mut names: Vec<String>| {
        if turned {
            names.reverse();
        }
        names
    };
    let both = |names: [&str; 2]| turn(names.map(str::to_owned).to_vec());
    // Of the four links some may be missing.
    let linked = |profile: usize, pool: usize| links & 1 << (2 * profile + pool) != 0;
    let pools = ["A", "B"];
    let profiles = ["one", "two"];
    let pool = |at: usize| Pool {
        name: pools[at].to_owned(),
        description: String::new(),
        group: format!("g{at}"),
        counts: Counts::Gpu,
        count: (counts[at] < 7).then_some(i64::from(counts[at]) * UNIT),
        profiles: both(profiles)
            .into_iter()
            .filter(|name| linked(usize::from(name == "two"), at))
            .collect(),
    };
    let profile = |at: usize| Profile {
        name: profiles[at].to_owned(),
        slots: Slots::new().with(
            SlotName::cuda_device(),
            (i64::try_from(at).unwrap() + 1) * UNIT,
        ),
        allotment: None,
        pools: both(pools)
            .into_iter()
            .filter(|name| linked(at, usize::from(name == "B")))
            .collect(),
        policies: both(["Dev", "Research"]),
    };
    let policy = |at: usize| {
        let name = ["Dev", "Research"][at];
        AllocationPolicy {
            name: name.to_owned(),
            description: String::new(),
            user_group: None,
            users: None,
            reservation: i64::from(reservations[at] % 6) * UNIT,
            limit: limits[at].map(|limit| i64::from(limit % 8) * UNIT),
            profiles: profiles
                .map(|profile| PolicyProfile {
                    profile: profile.to_owned(),
                    queue: format!("{name}/{profile}"),
                })
                .to_vec(),
            pending_timeout_s: 0,
        }
    };
    ResourceConfig {
        pools: if turned {
            vec![pool(1), pool(0)]
        } else {
            vec![pool(0), pool(1)]
        },
        profiles: vec![profile(0), profile(1)],
        allocation_policies: vec![policy(0), policy(1)],
    }
}

fn begun(discipline: Discipline, selection: Selection, skip: u32) -> Play {
    let mut play = Play::new(discipline, selection, skip);
    for number in 1..=2 {
        let mut group = play.core.state().groups[&GroupId::new(number)].clone();
        group.allowed_session_types.insert(SessionType::System);
        play.apply(Change::Group(group));
    }
    provision(
        &mut play,
        document([7, 3], [3, 2], [Some(5), None], false, 15),
    );
    play
}

fn provision(play: &mut Play, config: ResourceConfig) {
    let live = &play.core.state().config;
    let live = LiveConfig {
        version: live.version + 1,
        config,
        ..live.clone()
    };
    play.apply(Change::Config(Box::new(live)));
}

fn moved(play: &mut Play, what: &Move) {
    match what {
        Move::Old(step) => play.step(step),
        Move::Queue {
            user,
            key,
            queue,
            high,
        } => {
            let request = NewSession {
                command: vec!["work".to_owned()],
                queue: Some(QUEUES[usize::from(queue % 4)].to_owned()),
                priority: Some(if *high { 20 } else { 10 }),
                ..NewSession::default()
            };
            play.submit(*user, *key, request);
        }
        Move::System { user, key } => {
            let request = NewSession {
                kind: Some("system".to_owned()),
                ..NewSession::default()
            };
            let mut submit: Submit = order(*user, *key, request);
            submit.defaults.system_image = "files".to_owned();
            play.happen(&Event::Submit(Box::new(submit)));
        }
        Move::Served(enabled) => {
            let live = LiveConfig {
                enabled: *enabled,
                ..play.core.state().config.clone()
            };
            play.apply(Change::Config(Box::new(live)));
        }
        Move::Provision {
            counts,
            reservations,
            limits,
            turned,
            links,
        } => {
            provision(
                play,
                document(*counts, *reservations, *limits, *turned, *links),
            );
        }
    }
}

fn queue_of<'a>(state: &'a State, session: &Session) -> Option<Queue<'a>> {
    state.config.config.queue(&session.queue.as_ref()?.name)
}

/// Whether a session may be taken from its queue, as far as room is not asked for.
fn takeable(state: &State, session: &Session, now: Timestamp) -> bool {
    let requester = Requester::of(session);
    let total = session.total_slots();
    session.state == SessionState::Pending
        && session.not_before.is_none_or(|at| at <= now)
        && state.lack_of(session).is_none()
        && layers(state, &requester).iter().all(|layer| {
            let usage = state.usage(&layer.account);
            layer
                .max_sessions()
                .is_none_or(|most| usage.sessions < most)
                && total.iter().all(|(slot, need)| {
                    layer
                        .limit(slot)
                        .is_none_or(|limit| usage.slots.amount(slot) + need <= limit)
                })
        })
}

/// Whether a pool has a place for a session of one container now.
fn able(state: &State, session: &Session, pool: &Pool, asked: i64) -> bool {
    let group = state.group_by_ref(&pool.group).unwrap();
    let request = session.total_slots();
    group.active
        && group.allowed_session_types.contains(&session.kind)
        && pool_count(state, pool) - pool_used(state, pool) >= asked
        && state.agents.values().any(|agent| {
            let usage = state.agent_use(agent.id);
            let most = agent.inventory.as_ref().map_or(0, |i| i.max_containers);
            agent.group == group.id
                && agent.state == AgentState::Alive
                && agent.schedulable
                && agent.conditions().is_empty()
                && (most == 0 || usage.containers < most)
                && free_slots(agent, &usage).fits(&request)
        })
}

/// Work of another policy within its reservation that could have been taken.
fn owed_elsewhere(state: &State, own: &str, now: Timestamp) -> Option<String> {
    let config = &state.config.config;
    QUEUES
        .iter()
        .filter_map(|name| config.queue(name))
        .find_map(|queue| {
            let asked = queue.profile.allotment();
            let used = state
                .usage(&Account::Policy(queue.policy.name.clone()))
                .allotted
                + asked;
            let within = used <= queue.policy.reservation
                && queue.policy.limit.is_none_or(|most| used <= most);
            let mut waiting = state.sessions.values().filter(|session| {
                session
                    .queue
                    .as_ref()
                    .is_some_and(|seat| seat.name == queue.name)
                    && takeable(state, session, now)
            });
            let pools = queue
                .profile
                .pools
                .iter()
                .filter_map(|name| config.pool(name));
            let first = waiting
                .next()
                .filter(|_| queue.policy.name != own && within)?;
            pools
                .into_iter()
                .any(|pool| able(state, first, pool, asked))
                .then(|| format!("{} of {}", first.id, queue.name))
        })
}

/// What reservations of policies other than `own` still want for work that could run in `pool`,
/// and what is free in all pools in which that work could run.
fn owed(state: &State, own: Option<&str>, pool: &Pool, now: Timestamp) -> (i64, i64) {
    let config = &state.config.config;
    let (mut amount, mut reach) = (0, BTreeSet::new());
    for policy in &config.allocation_policies {
        let used = state.usage(&Account::Policy(policy.name.clone())).allotted;
        let unmet = (policy.reservation - used).max(0);
        let waiting: Vec<&Profile> = state
            .sessions
            .values()
            .filter(|session| takeable(state, session, now))
            .filter_map(|session| queue_of(state, session))
            .filter(|queue| queue.policy.name == policy.name)
            .map(|queue| queue.profile)
            .collect();
        let could = waiting.iter().any(|p| p.pools.contains(&pool.name));
        if own == Some(policy.name.as_str()) || unmet == 0 || !could {
            continue;
        }
        let asked: i64 = waiting.iter().map(|profile| profile.allotment()).sum();
        amount += unmet.min(asked);
        reach.extend(waiting.iter().flat_map(|profile| &profile.pools));
    }
    let free = reach
        .iter()
        .filter_map(|name| config.pool(name))
        .map(|pool| (pool_count(state, pool) - pool_used(state, pool)).max(0))
        .sum();
    (amount, free)
}

fn kept(state: &State, start: &Start, now: Timestamp) -> Result<(), String> {
    let session = &state.sessions[&start.session];
    let config = &state.config.config;
    let Some(queue) = queue_of(state, session) else {
        // Beside the queues: what a pool has left binds whoever is in its group.
        let pool = config
            .pools
            .iter()
            .find(|p| state.group_by_ref(&p.group).map(|g| g.id) == Some(start.group));
        let over = pool.filter(|_| state.config.enabled).is_some_and(|pool| {
            let asked = pool.counted(&session.total_slots());
            let (owed, free) = owed(state, None, pool, now);
            let above = pool_used(state, pool) + asked > pool_count(state, pool);
            asked > 0 && (above || owed > 0 && free - asked < owed)
        });
        return match over || start.pool.is_some() || start.group != session.group {
            true => Err(format!(
                "{} was placed beside a queue: {start:?}",
                session.id
            )),
            false => Ok(()),
        };
    };
    let Some(pool) = start.pool.as_ref().and_then(|name| config.pool(name)) else {
        return Err(format!("{} was placed through no pool", session.id));
    };
    let asked = queue.profile.allotment();
    let group = state.group_by_ref(&pool.group).unwrap();
    if !state.config.enabled || !queue.profile.pools.contains(&pool.name) || group.id != start.group
    {
        return Err(format!("{} was placed through {}", session.id, pool.name));
    }
    if pool_used(state, pool) + asked > pool_count(state, pool) {
        return Err(format!("{} puts {} above its count", session.id, pool.name));
    }
    let used = state
        .usage(&Account::Policy(queue.policy.name.clone()))
        .allotted
        + asked;
    if queue.policy.limit.is_some_and(|most| used > most) {
        return Err(format!(
            "{} puts {} above its limit",
            session.id, queue.policy.name
        ));
    }
    if used > queue.policy.reservation
        && let Some(owed) = owed_elsewhere(state, &queue.policy.name, now)
    {
        return Err(format!(
            "{} was taken beyond a reservation before {owed}",
            session.id
        ));
    }
    if used > queue.policy.reservation {
        let (owed, free) = owed(state, Some(&queue.policy.name), pool, now);
        if owed > 0 && free - asked < owed {
            return Err(format!(
                "{} leaves {} of {owed} that are reserved for others",
                session.id,
                free - asked
            ));
        }
    }
    // Of its queue the first that may be taken.
    let place = |s: &Session| (std::cmp::Reverse(s.priority), s.created_at, s.id);
    let before = state.sessions.values().find(|other| {
        let same = other.queue.as_ref().map(|seat| &seat.name)
            == session.queue.as_ref().map(|seat| &seat.name);
        same && place(other) < place(session) && takeable(state, other, now)
    });
    match before {
        Some(other) => Err(format!("{} was taken before {}", session.id, other.id)),
        None => Ok(()),
    }
}

fn pools_kept(before: &State, decisions: &Decisions, now: Timestamp) -> Result<(), String> {
    let mut state = before.clone();
    for start in &decisions.starts {
        kept(&state, start, now)?;
        let (changes, _) = start_session(&state, now, start);
        changes.iter().for_each(|change| state.apply(change));
    }
    Ok(())
}

pub(crate) fn a_move() -> impl Strategy<Value = Move> {
    let any = any::<u8>;
    let limit = || proptest::option::of(0u8..8);
    prop_oneof![
        8 => a_step().prop_map(Move::Old),
        6 => (any(), any(), any(), proptest::bool::weighted(0.2))
            .prop_map(|(user, key, queue, high)| Move::Queue { user, key, queue, high }),
        1 => (any(), any()).prop_map(|(user, key)| Move::System { user, key }),
        1 => proptest::bool::weighted(0.7).prop_map(Move::Served),
        1 => ([0u8..8, 0u8..8], [any(), any()], [limit(), limit()], proptest::bool::ANY, prop_oneof![3 => Just(15u8), 1 => 0u8..16])
            .prop_map(|(counts, reservations, limits, turned, links)| Move::Provision { counts, reservations, limits, turned, links }),
    ]
}

/// Plays a history; what no longer holds in it.
pub(crate) fn play(
    discipline: Discipline,
    selection: Selection,
    skip: u32,
    moves: &[Move],
) -> Result<(), String> {
    let mut play = begun(discipline, selection, skip);
    for (index, what) in moves.iter().enumerate() {
        moved(&mut play, what);
        let (before, now) = (play.core.state().clone(), play.now);
        let told = |error| format!("move {index} {what:?}: {error}");
        let decisions = play.pass().map_err(told)?;
        pools_kept(&before, &decisions, now).map_err(told)?;
        if index % 3 == 0 {
            play.run_all();
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn pools_keep_what_they_promise(
        discipline in 0usize..3,
        selection in 0usize..3,
        skip in 0u32..4,
        moves in prop::collection::vec(a_move(), 1..60),
    ) {
        let played = play(Discipline::ALL[discipline], Selection::ALL[selection], skip, &moves);
        prop_assert_eq!(played, Ok(()));
    }
}

/// The histories do what they are for.
#[test]
fn queues_are_served_in_these_histories() {
    let mut play = begun(Discipline::Fifo, Selection::Concentrated, 3);
    for (user, queue) in [(0, 0), (1, 2), (1, 1), (2, 3)] {
        moved(
            &mut play,
            &Move::Queue {
                user,
                key: 0,
                queue,
                high: false,
            },
        );
    }
    moved(&mut play, &Move::System { user: 0, key: 0 });
    let decisions = play.pass().unwrap();
    assert_eq!(decisions.starts.len(), 4, "{decisions:?}");
    assert!(decisions.starts.iter().all(|start| start.pool.is_some()));
    let system = play
        .core
        .state()
        .sessions
        .values()
        .find(|s| s.kind == SessionType::System);
    assert_eq!(system.unwrap().state, SessionState::Scheduled);
}
