//! What limits, rights and names let in, where something differs after the request was made.

use super::prolong::policy;
use super::world::{World, exit, gpu_job, job, slots};
use longshore_common::amount::{SlotLimits, SlotName, UNIT};
use longshore_common::api::{NewCluster, NewDesignation, NewSession, SessionPatch};
use longshore_common::ids::{DomainId, ProjectId, SessionId};
use longshore_common::session::SessionState;
use longshore_core::model::{
    Accepted, Answer, Change, Domain, Event, KeypairState, Membership, Project, Role,
    SessionDefaults, Steering, Submit, User, UserStatus, check_submit,
};
use longshore_core::scheduler::is_offered;

fn cpu(amount: &str) -> NewSession {
    slots(job(), &[("cpu", amount)])
}

fn total_cpu(world: &mut World, cpu: i64) {
    policy(world, |policy| {
        policy.total_slots = SlotLimits::new().with(SlotName::cpu(), Some(cpu * UNIT));
    });
}

/// The person who asks, no administrator any more.
fn no_administrator(world: &mut World) {
    let id = world.caller().user;
    let user = User {
        role: Role::User,
        ..world.state().users[&id].clone()
    };
    world.apply(vec![Change::User(Box::new(user))]);
}

/// Rule, slot, need, have and limit of all it waits for.
fn told(world: &mut World, id: SessionId) -> Vec<String> {
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let blocked = world.blocked(id).into_iter();
    blocked
        .map(|b| {
            let numbers = [&b.slot, &b.need, &b.have, &b.limit].map(word).join(" ");
            format!("{} {numbers}", b.rule)
        })
        .collect()
}

/// Example L2: above a limit that was lowered, only what asks for that slot waits.
#[test]
fn a_lowered_limit_binds_those_who_ask_for_its_slot() {
    let mut world = World::new();
    world.agent("n1", 2);
    total_cpu(&mut world, 16);
    let [four, three, other] = ["4", "3", "3"].map(|amount| world.submit(cpu(amount)));
    for id in [four, three, other] {
        world.run(id);
    }
    total_cpu(&mut world, 4);
    for id in [four, three, other] {
        assert!(world.is(id, SessionState::Running), "nothing is ended");
    }
    // Where the installation adds no core of its own.
    let defaults = SessionDefaults {
        cpu_milli: 0,
        ..SessionDefaults::default()
    };
    let submit = Submit::new(world.caller(), gpu_job(1), defaults);
    let Answer::Session(Accepted { id: free, .. }) = world.does(Event::Submit(Box::new(submit)))
    else {
        panic!("it may be asked for")
    };
    assert!(
        world.is(free, SessionState::Scheduled),
        "{}",
        world.why(free)
    );
    let waits = world.submit(cpu("1"));
    assert_eq!(told(&mut world, waits), ["keypair-slots cpu 1 10 4"]);
    world.ends(three, exit(0));
    assert_eq!(told(&mut world, waits), ["keypair-slots cpu 1 7 4"]);
    world.ends(other, exit(0));
    assert_eq!(told(&mut world, waits), ["keypair-slots cpu 1 4 4"]);
    world.ends(four, exit(0));
    assert!(world.is(waits, SessionState::Scheduled));
}

/// Example M1: what limits leave is no use where no node has it.
#[test]
fn an_offer_needs_one_node_with_room() {
    let mut world = World::new();
    for name in ["n1", "n2"] {
        world.agent(name, 0);
        world.submit(cpu("13"));
    }
    total_cpu(&mut world, 30);
    let offered = |world: &mut World, amount: &str| {
        let submit = Submit::new(world.caller(), cpu(amount), SessionDefaults::default());
        let now = world.now;
        let (state, planner) = world.core.ask();
        let session = check_submit(state, &submit, now).expect("it may be asked for");
        is_offered(planner, state, &session, now).map_err(|(blocked, never)| {
            let short = blocked.into_iter().map(|b| (b.rule, b.need, b.have));
            (short.collect::<Vec<_>>(), never)
        })
    };
    assert_eq!(offered(&mut world, "3"), Ok(()));
    let amount = |text: &str| Some(text.to_owned());
    let short = vec![("short".to_owned(), amount("4"), amount("3"))];
    assert_eq!(offered(&mut world, "4"), Err((short, false)));
}

#[test]
fn a_lowered_bound_of_priority_moves_nobody_who_waits() {
    let mut world = World::new();
    no_administrator(&mut world);
    policy(&mut world, |policy| policy.max_priority = None);
    let with = |priority| NewSession {
        priority: Some(priority),
        ..cpu("16")
    };
    let (low, high) = (world.submit(with(20)), world.submit(with(50)));
    policy(&mut world, |policy| policy.max_priority = Some(20));
    let refusal = world.ask(with(21)).unwrap_err();
    assert_eq!(refusal.code, "LS-PRIORITY");
    let change = |priority| {
        Steering::Change(SessionPatch {
            priority: Some(priority),
            ..SessionPatch::default()
        })
    };
    for (priority, told) in [(21, Some("LS-PRIORITY")), (20, None), (5, None)] {
        let answer = world.steer(low, change(priority));
        assert_eq!(answer.err().map(|r| r.code), told, "{priority}");
    }
    world.agent("n1", 0);
    assert_eq!(world.stored[&high].priority, 50);
    assert!(world.is(high, SessionState::Scheduled) && world.is(low, SessionState::Pending));
}

#[test]
fn whose_owner_is_switched_off_waits_and_says_who() {
    let ada = |world: &World| world.state().users[&world.caller().user].clone();
    let pair = |world: &World| world.state().keypairs["LKada"].clone();
    let domain = |active| {
        Change::Domain(Domain {
            id: DomainId::new(2),
            version: 1,
            name: "lab".to_owned(),
            description: String::new(),
            active,
            total_slots: SlotLimits::new(),
            created_at: longshore_common::time::Timestamp(0),
        })
    };
    let project = |active| {
        Change::Project(Project {
            id: ProjectId::new(3),
            version: 1,
            name: "vision".to_owned(),
            domain: DomainId::new(2),
            description: String::new(),
            active,
            policy: "default".to_owned(),
            total_slots: SlotLimits::new(),
            created_at: longshore_common::time::Timestamp(0),
        })
    };
    for (what, text) in [
        ("user", "user ada is not active"),
        ("keypair", "keypair LKada is not active"),
        ("project", "project vision is not active"),
        ("domain", "domain lab is not active"),
    ] {
        let mut world = World::new();
        let member = User {
            projects: vec![Membership::manual(ProjectId::new(3))],
            ..ada(&world)
        };
        world.apply(vec![
            domain(true),
            project(true),
            Change::User(Box::new(member.clone())),
        ]);
        let id = world.submit(job());
        let mut other = member.clone();
        other.status = UserStatus::Inactive;
        let mut off = pair(&world);
        let on = off.clone();
        off.state = KeypairState::Inactive;
        let (change, back) = match what {
            "user" => (
                Change::User(Box::new(other)),
                Change::User(Box::new(member)),
            ),
            "keypair" => (Change::Keypair(off), Change::Keypair(on)),
            "project" => (project(false), project(true)),
            _ => (domain(false), domain(true)),
        };
        world.apply(vec![change]);
        world.agent("n1", 0);
        let blocked = world.blocked(id).remove(0);
        assert_eq!(
            (&*blocked.stage, &*blocked.rule, &*blocked.text),
            ("ready", "owner-inactive", text)
        );
        assert!(world.is(id, SessionState::Pending), "{what}");
        world.apply(vec![back]);
        world.later(1);
        assert!(world.is(id, SessionState::Scheduled), "{what}");
    }
}

/// A node that is closed takes what an administrator puts there by name, and nothing else.
#[test]
fn an_administrator_names_a_node_that_is_closed() {
    let named = |mode: Option<&str>| NewSession {
        designated: Some(NewDesignation {
            agents: vec!["n1".to_owned()],
            mode: mode.map(str::to_owned),
        }),
        ..job()
    };
    let mut world = World::new();
    let n1 = world.agent("n1", 0);
    world.schedulable(n1, false);
    let there = world.submit(named(Some("strict")));
    assert!(world.is(there, SessionState::Scheduled));
    assert_eq!(world.agent_of(there), n1);
    let (wished, plain) = (world.submit(named(None)), world.submit(job()));
    no_administrator(&mut world);
    let other = world.submit(named(Some("strict")));
    for id in [wished, plain, other] {
        assert!(world.is(id, SessionState::Pending), "{}", world.show(id));
    }
    world.schedulable(n1, true);
    for id in [wished, plain, other] {
        assert!(world.is(id, SessionState::Scheduled), "{}", world.show(id));
    }
}

/// Containers of 4, 10, 6 and 12 cores on nodes of 16: there is room only if the largest is
/// placed first.
fn unlike() -> NewSession {
    let container = |cpu: &str| {
        let slots = [("cpu", cpu), ("mem", "1g")];
        slots.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    };
    NewSession {
        cluster: Some(NewCluster {
            size: 4,
            mode: Some("multi-node".to_owned()),
            run: None,
            containers: ["4", "10", "6", "12"].map(container).into(),
        }),
        ..job()
    }
}

#[test]
fn containers_that_ask_for_different_amounts_are_placed_by_size() {
    let mut world = World::new();
    let nodes = [world.agent("n1", 0), world.agent("n2", 0)];
    let id = world.submit(unlike());
    let present = world.stored[&id].present();
    let places: Vec<_> = present
        .map(|c| {
            (
                nodes.iter().position(|n| *n == c.agent).unwrap(),
                c.slots.cpu_milli() / UNIT,
            )
        })
        .collect();
    assert_eq!(places, [(0, 4), (1, 10), (1, 6), (0, 12)]);
    // All or nothing: with less than that no row is opened.
    let second = world.submit(unlike());
    assert_eq!(world.rows(second), 0);
    world.agent("n3", 0);
    assert_eq!(world.rows(second), 0, "{}", world.show(second));
    let [blocked] = world.blocked(second).try_into().unwrap();
    assert_eq!(
        (&*blocked.rule, blocked.need.as_deref()),
        ("cluster", Some("4"))
    );
    world.agent("n4", 0);
    assert!(world.is(second, SessionState::Scheduled));
}
