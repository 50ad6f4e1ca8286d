//! What a request is told at once.

use super::world::{World, gpu_job, job, slots};
use longshore_common::agent::AgentState;
use longshore_common::api::{NewCluster, NewDesignation, NewSession};
use longshore_common::ids::{GroupId, PolicyId};
use longshore_common::session::SessionState;
use longshore_core::model::{
    Allowed, Change, Event, Group, KeypairPolicy, Refusal, Role, SessionDefaults, Submit,
};

/// The refusal of a request in an installation with one node of 16 cores, 64 GB, 2 GPUs.
fn refused(request: NewSession) -> Refusal {
    let mut world = World::new();
    world.agent("n1", 2);
    let before = world.state().clone();
    let refusal = world.ask(request).expect_err("should be refused");
    assert_eq!(*world.state(), before, "a refused request leaves nothing");
    refusal
}

#[track_caller]
fn code(request: NewSession, code: &str) {
    assert_eq!(refused(request).code, code);
}

#[track_caller]
fn at(request: NewSession, pointer: &str) {
    let refusal = refused(request);
    assert_eq!(refusal.code, "LS-INVALID");
    assert_eq!(
        refusal
            .errors
            .iter()
            .map(|e| e.pointer.as_str())
            .collect::<Vec<_>>(),
        [pointer]
    );
}

#[test]
fn members_are_judged_by_themselves() {
    at(
        NewSession {
            name: Some("Not A Name".into()),
            ..job()
        },
        "/name",
    );
    at(
        NewSession {
            name: Some("s-4".into()),
            ..job()
        },
        "/name",
    );
    at(
        NewSession {
            kind: Some("service".into()),
            ..job()
        },
        "/type",
    );
    at(
        NewSession {
            image: Some("UP/case".into()),
            ..job()
        },
        "/image",
    );
    at(
        NewSession {
            image: None,
            ..job()
        },
        "/image",
    );
    at(
        NewSession {
            command: vec![],
            ..job()
        },
        "/command",
    );
    at(
        NewSession {
            command: vec![String::new()],
            ..job()
        },
        "/command/0",
    );
    at(
        NewSession {
            command: vec!["a".repeat(70_000)],
            ..job()
        },
        "/command",
    );
    at(
        NewSession {
            command: vec!["a\0".into()],
            ..job()
        },
        "/command",
    );
    at(
        NewSession {
            workdir: Some("home".into()),
            ..job()
        },
        "/workdir",
    );
    at(
        NewSession {
            workdir: Some("/a/../b".into()),
            ..job()
        },
        "/workdir",
    );
    at(
        NewSession {
            priority: Some(101),
            ..job()
        },
        "/priority",
    );
    at(
        NewSession {
            priority: Some(-1),
            ..job()
        },
        "/priority",
    );
    at(
        NewSession {
            lifetime_s: Some(0),
            ..job()
        },
        "/lifetime_s",
    );
    at(
        NewSession {
            batch_timeout_s: Some(400_000_000),
            ..job()
        },
        "/batch_timeout_s",
    );
    at(
        NewSession {
            labels: [("k".to_owned(), "v".repeat(64))].into(),
            ..job()
        },
        "/labels/k",
    );
    let interactive = NewSession {
        kind: Some("interactive".into()),
        command: vec![],
        ..job()
    };
    at(
        NewSession {
            batch_timeout_s: Some(5),
            ..interactive
        },
        "/batch_timeout_s",
    );
}

#[test]
fn everything_wrong_is_said_at_once() {
    let refusal = refused(NewSession {
        priority: Some(200),
        lifetime_s: Some(-1),
        image: None,
        ..job()
    });
    let pointers: Vec<_> = refusal.errors.iter().map(|e| e.pointer.as_str()).collect();
    assert_eq!(pointers, ["/image", "/priority", "/lifetime_s"]);
}

#[test]
fn environments() {
    for (name, value) in [
        ("1A", "x"),
        ("A-B", "x"),
        ("LD_PRELOAD", "x"),
        ("NVIDIA_VISIBLE_DEVICES", "all"),
        ("PATH", "bin:/usr/bin"),
        ("A", "\0"),
    ] {
        let environment = [(name.to_owned(), value.to_owned())].into();
        code(
            NewSession {
                environment,
                ..job()
            },
            "LS-ENVIRONMENT",
        );
    }
}

#[test]
fn slots_must_be_known_and_whole() {
    code(slots(job(), &[("rocm.device", "1")]), "LS-SLOT-UNKNOWN");
    code(slots(job(), &[("CPU", "1")]), "LS-SLOT-UNKNOWN");
    code(slots(job(), &[("cuda.shares", "0.5")]), "LS-SLOT-UNKNOWN");
    code(slots(job(), &[("cpu", "1.5")]), "LS-SLOT-AMOUNT");
    code(slots(job(), &[("mem", "much")]), "LS-SLOT-AMOUNT");
    code(slots(job(), &[("cuda.device", "-1")]), "LS-SLOT-AMOUNT");
    assert_eq!(
        refused(slots(job(), &[("rocm.device", "1")])).hint.unwrap(),
        "Known slots: cuda.device, cpu, mem."
    );
}

#[test]
fn without_any_gpu_that_is_what_is_said() {
    let mut world = World::new();
    world.agent("n1", 0);
    assert_eq!(
        world.ask(gpu_job(1)).unwrap_err().detail,
        "No agent offers a GPU."
    );
    world.submit(gpu_job(0));
}

#[test]
fn groups() {
    code(
        NewSession {
            group: Some("nope".into()),
            ..job()
        },
        "LS-GROUP-UNKNOWN",
    );
    let mut world = World::new();
    let mut group = world.state().groups.values().next().unwrap().clone();
    group.active = false;
    world.apply(vec![Change::Group(group)]);
    assert_eq!(
        world
            .ask(NewSession {
                group: Some("DEFAULT".into()),
                ..job()
            })
            .unwrap_err()
            .code,
        "LS-GROUP-INACTIVE"
    );
    assert_eq!(world.ask(job()).unwrap_err().code, "LS-GROUP-DENIED");
}

#[test]
fn shared_memory_stays_below_memory() {
    code(
        NewSession {
            shm: Some("2g".into()),
            ..slots(job(), &[("mem", "1g")])
        },
        "LS-SHM",
    );
    code(
        NewSession {
            shm: Some("lots".into()),
            ..job()
        },
        "LS-INVALID",
    );
    let mut world = World::new();
    for (mem, bytes) in [("100m", 100 << 20), ("64g", 64 << 30)] {
        let id = world.submit(slots(job(), &[("mem", mem)]));
        assert_eq!(world.stored[&id].shm_bytes, bytes, "nobody asked for less");
    }
}

/// All containers get as much of it, so that of the smallest is what it may take.
#[test]
fn shared_memory_stays_below_the_memory_of_every_container() {
    let cluster = |own: &str, ranks: [&str; 2], shm: Option<&str>| NewSession {
        cluster: Some(NewCluster {
            size: 2,
            mode: None,
            run: None,
            containers: ranks
                .map(|mem| [("mem".to_owned(), mem.to_owned())].into())
                .to_vec(),
        }),
        shm: shm.map(str::to_owned),
        ..slots(job(), &[("mem", own)])
    };
    let mut world = World::new();
    world.agent("n1", 0);
    for (own, ranks, asked, expected) in [
        ("1g", ["8g", "2g"], None, Ok(2048 << 20)),
        ("1g", ["2g", "8g"], None, Ok(2048 << 20)),
        ("16g", ["8g", "2g"], Some("1g"), Ok(1024 << 20)),
        // No container has what `/slots` says.
        ("512m", ["8g", "2g"], Some("1g"), Ok(1024 << 20)),
        ("16g", ["8g", "2g"], Some("2g"), Err("LS-SHM")),
        ("16g", ["2g", "8g"], Some("4g"), Err("LS-SHM")),
    ] {
        let said = world.ask(cluster(own, ranks, asked));
        let got = said.map(|id| world.stored[&id].shm_bytes);
        let got = got.as_ref().map(|bytes| *bytes).map_err(|r| r.code);
        assert_eq!(got, expected, "{own} {ranks:?} {asked:?}");
    }
}

/// The policy `default`, under which the keypair of every world stands.
fn policy(world: &mut World, change: impl FnOnce(&mut KeypairPolicy)) {
    let mut policy = KeypairPolicy::new(PolicyId::new(77), "default", world.now);
    change(&mut policy);
    world.apply(vec![Change::KeypairPolicy(Box::new(policy))]);
}

#[test]
fn a_policy_bounds_shared_memory() {
    let mut world = World::new();
    world.agent("n1", 0);
    policy(&mut world, |p| p.max_shm = Some(32 << 20));
    let ask = |shm: Option<&str>| NewSession {
        shm: shm.map(str::to_owned),
        ..slots(job(), &[("mem", "1g")])
    };
    let refusal = world.ask(ask(Some("33m"))).unwrap_err();
    assert_eq!(refusal.code, "LS-SHM");
    assert!(
        refusal.detail.contains("policy default"),
        "{}",
        refusal.detail
    );
    let asked = world.submit(ask(Some("32m")));
    let unsaid = world.submit(ask(None));
    for id in [asked, unsaid] {
        assert_eq!(world.stored[&id].shm_bytes, 32 << 20);
    }
}

/// What a policy says of containers counts when they are placed, not when they were asked for.
#[test]
fn a_policy_bounds_containers_when_they_are_placed() {
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let request = NewSession {
        shm: Some("512m".to_owned()),
        ..slots(job(), &[("mem", "1g")])
    };
    let spec = |world: &World, id| world.order(agent, world.key(id)).unwrap().spec;
    let runs = world.submit(request.clone());
    let plain = spec(&world, runs);
    assert_eq!((plain.pids_max, plain.root), (4096, false));
    assert_eq!(plain.shm_bytes, 512 << 20);
    world.schedulable(agent, false);
    let waits = world.submit(request);
    policy(&mut world, |p| {
        p.max_pids = Some(64);
        p.root_in_container = true;
        p.max_shm = Some(128 << 20);
    });
    world.schedulable(agent, true);
    let bound = spec(&world, waits);
    assert_eq!((bound.pids_max, bound.root), (64, true));
    assert_eq!(bound.shm_bytes, 128 << 20);
    assert_eq!(spec(&world, runs), plain, "what runs stays as it is");
}

/// Only what a superadmin said of its owner counts, and only when it starts.
#[test]
fn sudo_is_read_when_a_session_starts_and_nothing_asks_for_it() {
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let sudo = |world: &World, id| world.order(agent, world.key(id)).unwrap().spec.sudo;
    let set = |world: &mut World, on: bool| {
        let id = world.caller().user;
        let mut user = world.state().users[&id].clone();
        user.sudo_enabled = on;
        world.apply(vec![Change::User(Box::new(user))]);
    };
    let said = || ("sudo_enabled".to_owned(), "true".to_owned());
    let wish = NewSession {
        environment: [
            said(),
            ("LONGSHORE_SUDO_ENABLED".to_owned(), "1".to_owned()),
        ]
        .into(),
        labels: [said()].into(),
        command: vec!["sudo".to_owned(), "-i".to_owned()],
        name: Some("sudo".to_owned()),
        ..job()
    };
    let wished = match world.ask(wish) {
        Ok(id) => id,
        Err(refusal) => {
            // Longshore's own names may not be set at all.
            assert_eq!(refusal.code, "LS-ENVIRONMENT");
            world.submit(NewSession {
                environment: [said()].into(),
                labels: [said()].into(),
                command: vec!["sudo".to_owned(), "-i".to_owned()],
                name: Some("sudo".to_owned()),
                ..job()
            })
        }
    };
    assert!(!sudo(&world, wished));
    world.schedulable(agent, false);
    let waits = world.submit(job());
    set(&mut world, true);
    world.schedulable(agent, true);
    assert!(sudo(&world, waits), "it started after the order");
    assert!(
        !sudo(&world, wished),
        "what runs keeps what it started with"
    );
    set(&mut world, false);
    assert!(sudo(&world, waits), "what runs keeps what it started with");
    let later = world.submit(job());
    assert!(!sudo(&world, later));
}

#[test]
fn what_no_node_can_ever_hold_is_refused_with_the_most_there_is() {
    let refusal = refused(gpu_job(3));
    assert_eq!(refusal.code, "LS-FIT-NEVER");
    assert_eq!(
        refusal.detail,
        "You asked for cuda.device 3; the largest agent of group default has 2."
    );
    let limit = refusal.limit.unwrap();
    assert_eq!(
        (limit.limit.as_deref(), limit.need.as_str()),
        (Some("2"), "3")
    );
    code(slots(job(), &[("mem", "65g")]), "LS-FIT-NEVER");
    // Nodes may come: with none there, everything waits.
    World::new().submit(slots(job(), &[("cpu", "1000")]));
}

#[test]
fn a_lost_node_counts_and_one_that_left_does_not() {
    let mut world = World::new();
    let n1 = world.agent("n1", 2);
    world.lose(n1);
    world.submit(gpu_job(2));
    world.does(Event::Expel { agent: n1 });
    assert_eq!(world.state().agents[&n1].state, AgentState::Terminated);
    assert_eq!(world.ask(gpu_job(1)).unwrap_err().code, "LS-SLOT-UNKNOWN");
}

#[test]
fn small_memory_is_raised_and_said() {
    let mut world = World::new();
    let id = world.submit(slots(job(), &[("mem", "1m")]));
    let session = &world.stored[&id];
    assert_eq!(session.slots.mem_bytes(), 6 << 20);
    assert_eq!(session.adjusted[0].path, "/slots/mem");
    let plain = world.submit(job());
    assert_eq!(world.stored[&plain].slots.to_string(), "cpu 1, mem 2 GB");
}

#[test]
fn a_name_is_taken_until_its_session_has_ended() {
    let mut world = World::new();
    let n1 = world.agent("n1", 0);
    let named = || NewSession {
        name: Some("x".into()),
        ..job()
    };
    let first = world.submit(named());
    let refusal = world.ask(named()).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.errors[0].pointer.as_str()),
        ("LS-EXISTS", "/name")
    );
    world.terminate(&[first], 0, true);
    // The name is free while the node still cleans up, and stays with the second after.
    let second = world.submit(named());
    let key = world.stored[&first].containers[0].key;
    world.outcome(n1, key, longshore_common::wire::OutcomeNumber::Closed, None);
    assert_eq!(world.ask(named()).unwrap_err().code, "LS-EXISTS");
    let owner = world.caller().user;
    assert_eq!(world.state().session_by_name(owner, "x"), Some(second));
}

#[test]
fn a_repeated_request_makes_nothing_new() {
    let mut world = World::new();
    let key = |body| Some(("k".to_owned(), [body; 32]));
    let first = world.ask_again(job(), key(1)).unwrap();
    let again = world.ask_again(job(), key(1)).unwrap();
    assert_eq!(
        (again.id, first.replayed, again.replayed),
        (first.id, false, true)
    );
    assert_eq!(world.stored.len(), 1);
    let other = world.ask_again(job(), key(2)).unwrap_err();
    assert_eq!(other.code, "LS-IDEMPOTENCY-BODY");
    // Another person may use the same key.
    let eve = world.user("eve");
    let caller = longshore_core::model::Caller {
        user: eve,
        access_key: "LKeve".into(),
    };
    let submit = Submit {
        idempotency: key(1),
        ..Submit::new(caller, job(), SessionDefaults::default())
    };
    world.does(Event::Submit(Box::new(submit)));
    assert_eq!(world.stored.len(), 2);
}

#[test]
fn a_key_is_forgotten_after_a_day() {
    let mut world = World::new();
    let key = || Some(("k".to_owned(), [1; 32]));
    let first = world.ask_again(job(), key()).unwrap();
    world.later(86_400_000);
    world.does(Event::Tick);
    assert!(world.ask_again(job(), key()).unwrap().replayed);
    world.later(1);
    world.does(Event::Tick);
    assert_ne!(world.ask_again(job(), key()).unwrap().id, first.id);
}

#[test]
fn an_unknown_person_gets_nothing() {
    let mut world = World::new();
    let caller = longshore_core::model::Caller {
        user: longshore_common::ids::UserId::new(999),
        access_key: "LKnobody".into(),
    };
    let submit = Submit::new(caller, job(), SessionDefaults::default());
    assert_eq!(
        world
            .happen(Event::Submit(Box::new(submit)))
            .unwrap_err()
            .code,
        "LS-AUTH-FAILED"
    );
}

#[test]
fn the_first_line_of_history_has_nothing_before_it() {
    let mut world = World::new();
    let id = world.submit(job());
    let line = &world.history[0];
    assert_eq!(
        (line.session, line.seq, line.from, line.to),
        (id, 1, None, SessionState::Pending)
    );
    assert_eq!(line.by, "user ada");
    assert_eq!(world.stored[&id].version, 1);
}

/// Neither the agent nor the group is told of: not to somebody who may not work there.
#[test]
fn an_agent_of_a_group_that_is_not_open_is_not_known() {
    let mut world = World::new();
    let hidden = Group {
        allowed: Some(Allowed::default()),
        ..Group::new(GroupId::new(2), "hidden")
    };
    let agent = world.agent("n1", 2);
    let mut node = world.state().agents[&agent].clone();
    node.group = hidden.id;
    let mut ada = world.state().users[&world.caller().user].clone();
    ada.role = Role::User;
    let node = Change::Agent(Box::new(node));
    world.apply(vec![Change::Group(hidden), node]);
    let mut request = job();
    request.designated = Some(NewDesignation {
        agents: vec!["n1".to_owned()],
        mode: Some("strict".to_owned()),
    });
    // An administrator knows every agent.
    let refusal = world.ask(request.clone()).expect_err("it is elsewhere");
    assert!(refusal.detail.contains("group hidden"), "{refusal:?}");
    world.apply(vec![Change::User(Box::new(ada))]);
    let refusal = world.ask(request).expect_err("it is not known");
    assert_eq!(refusal.detail, "There is no agent n1.");
}
