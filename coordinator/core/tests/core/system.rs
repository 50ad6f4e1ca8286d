//! Sessions that do not wait.

use super::world::{World, failed, gpu_job, job, slots};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::api::{NewCluster, NewSession};
use longshore_common::ids::{ImageId, PolicyId, SessionId};
use longshore_common::limits::IdlePolicy;
use longshore_common::session::{Cause, Reason, SessionState, SessionType};
use longshore_common::time::Timestamp;
use longshore_core::model::{
    Account, Change, Event, Image, KeypairPolicy, Refusal, SessionDefaults, Submit, check_submit,
};
use longshore_core::scheduler;

fn system() -> NewSession {
    NewSession {
        kind: Some("system".to_owned()),
        ..NewSession::default()
    }
}

/// A group that takes them, on a node with 16 cores.
fn world() -> World {
    let mut world = World::new();
    world.agent("n1", 1);
    let mut group = super::world::group();
    group.allowed_session_types.insert(SessionType::System);
    let policy = KeypairPolicy::new(PolicyId::new(4), "default", world.now);
    world.apply(vec![
        Change::Group(group),
        Change::KeypairPolicy(Box::new(policy)),
    ]);
    world
}

/// What is said of the image of system sessions.
fn image(least: &[(&str, &str)]) -> Image {
    let mut min_slots = Slots::new();
    for (name, text) in least {
        let slot: SlotName = name.parse().expect("a slot");
        let amount = slot.parse_amount(text).expect("an amount of it");
        min_slots.set(slot, amount);
    }
    Image {
        id: ImageId::new(1),
        version: 1,
        reference: "docker.io/library/files:latest".to_owned(),
        description: String::new(),
        min_slots,
        shm_bytes: None,
        created_at: Timestamp(0),
    }
}

/// What a check says of a request, and why.
fn checked(world: &mut World, request: NewSession) -> (&'static str, Vec<String>) {
    let defaults = SessionDefaults {
        system_image: "files".to_owned(),
        ..SessionDefaults::default()
    };
    let submit = Submit::new(world.caller(), request, defaults);
    let now = world.now;
    let (state, planner) = world.core.ask();
    let session = check_submit(state, &submit, now).expect("it may be asked for");
    let checked = scheduler::check(planner, state, &session, now);
    let why = checked.blocked_by.into_iter().map(|b| b.rule).collect();
    (checked.verdict, why)
}

/// Refused, and nothing differs.
fn refused(world: &mut World, request: NewSession) -> Refusal {
    let before = world.state().clone();
    let refusal = world.ask(request).expect_err("it is refused");
    assert_eq!(*world.state(), before);
    refusal
}

#[test]
fn it_starts_before_a_head_that_finds_no_room() {
    let mut world = world();
    world.submit(gpu_job(1));
    let head = world.submit(gpu_job(1));
    let id = world.submit(system());
    assert!(world.is(head, SessionState::Pending));
    assert!(world.is(id, SessionState::Scheduled));
    let session = &world.stored[&id];
    assert_eq!(
        (session.image.as_str(), &session.idle),
        ("files", &Some(IdlePolicy::of_system()))
    );
    assert_eq!(world.path(id), "PENDING SCHEDULED");
}

#[test]
fn a_check_says_what_submit_does_with_it_behind_a_head() {
    let mut world = world();
    world.submit(slots(gpu_job(1), &[("cpu", "8")]));
    let head = world.submit(gpu_job(1));
    assert!(world.is(head, SessionState::Pending));
    // Those who wait are behind it.
    assert_eq!(
        checked(&mut world, job()),
        ("later", vec!["head-of-line".to_owned()])
    );
    assert_eq!(checked(&mut world, system()), ("now", Vec::new()));
    // It is told what it lacks, and not whom it would wait for.
    let (verdict, why) = checked(&mut world, slots(system(), &[("cpu", "12")]));
    assert_eq!(verdict, "later");
    assert!(
        !why.is_empty() && !why.contains(&"head-of-line".to_owned()),
        "{why:?}"
    );
    let id = world.submit(system());
    assert!(world.is(id, SessionState::Scheduled));
}

#[test]
fn there_is_one_for_each_person_unless_the_policy_says_otherwise() {
    let mut world = world();
    let first = world.submit(system());
    let refusal = refused(&mut world, system());
    assert_eq!(refusal.code, "LS-SYSTEM-SESSION");
    let met = refusal.limit.unwrap();
    let numbers = (met.have.as_str(), met.limit.as_deref());
    assert_eq!(
        (met.rule.as_str(), numbers),
        ("system-sessions", ("1", Some("1")))
    );
    world.run(first);
    world.terminate(&[first], 0, false);
    // It is the owner's no longer as soon as its end is decided.
    let second = world.submit(system());
    assert!(world.is(second, SessionState::Scheduled));
}

#[test]
fn it_counts_with_its_memory_alone_and_gives_that_back() {
    let mut world = world();
    let who = Account::User(world.caller().user);
    let id = world.submit(slots(system(), &[("cpu", "2"), ("mem", "1g")]));
    let usage = world.state().usage(&who);
    assert_eq!(
        (usage.slots.cpu_milli(), usage.slots.mem_bytes()),
        (0, 1 << 30)
    );
    assert_eq!((usage.sessions, usage.system_sessions), (0, 1));
    // A share of what there is is what somebody has of it, cores too.
    let group = world.stored[&id].group;
    let share = Account::InGroup(group, world.caller().user);
    assert_eq!(world.state().usage(&share).slots.cpu_milli(), 2000);
    let node = world.agent_of(id);
    assert_eq!(world.state().agent_use(node).slots.cpu_milli(), 2000);
    world.terminate(&[id], 0, true);
    assert_eq!(world.state().usage(&who), Default::default());
    assert_eq!(world.state().usage(&share), Default::default());
}

#[test]
fn without_room_it_is_refused_and_a_start_that_fails_is_its_end() {
    let mut world = world();
    let refusal = refused(&mut world, slots(system(), &[("cpu", "17"), ("mem", "1g")]));
    assert_eq!(refusal.code, "LS-FIT-NEVER");
    let all = world.submit(slots(job(), &[("cpu", "15")]));
    assert!(
        world.is(all, SessionState::Scheduled),
        "{}",
        world.show_all()
    );
    let refusal = refused(&mut world, slots(system(), &[("cpu", "8")]));
    assert_eq!(refusal.code, "LS-SYSTEM-SESSION");
    assert!(refusal.detail.contains("cpu 8"), "{}", refusal.detail);
    let id = world.submit(system());
    world.acknowledge(id);
    world.ended(id, failed(Cause::PullNetwork));
    world.closed(id);
    assert_eq!(world.reason(id), Some(Reason::FailedToStart));
    assert!(world.is(id, SessionState::Cancelled));
}

#[test]
fn what_it_cannot_have_is_said() {
    let mut world = world();
    let wrong = |request: NewSession| refused(&mut world, request).errors[0].pointer.clone();
    let table = [
        (
            slots(system(), &[("cuda.device", "1")]),
            "/slots/cuda.device",
        ),
        (
            NewSession {
                cluster: Some(NewCluster {
                    size: 1,
                    mode: None,
                    run: None,
                    containers: vec![[("cuda.device".to_owned(), "1".to_owned())].into()],
                }),
                ..system()
            },
            "/cluster/containers",
        ),
        (
            NewSession {
                image: Some("own".to_owned()),
                ..system()
            },
            "/image",
        ),
        (
            NewSession {
                hold: true,
                ..system()
            },
            "/hold",
        ),
        (
            NewSession {
                queue: Some("q".to_owned()),
                ..system()
            },
            "/queue",
        ),
    ];
    let pointers: Vec<&str> = table.iter().map(|(_, at)| *at).collect();
    let said: Vec<String> = table
        .clone()
        .into_iter()
        .map(|(r, _)| r)
        .map(wrong)
        .collect();
    assert_eq!(said, pointers);
    // What its image needs at least gives it no devices either, and cores all the same.
    world.apply(vec![Change::Image(image(&[("cuda.device", "1")]))]);
    let refusal = refused(&mut world, system());
    assert_eq!(
        (refusal.code, refusal.errors[0].pointer.as_str()),
        ("LS-INVALID", "/slots/cuda.device")
    );
    assert!(
        refusal.detail.contains("files:latest"),
        "{}",
        refusal.detail
    );
    world.apply(vec![Change::Image(image(&[("cpu", "2")]))]);
    let id = world.submit(system());
    assert_eq!(world.stored[&id].slots.cpu_milli(), 2000);
    world.run(id);
    world.terminate(&[id], 0, false);
    // An installation without an image for them has none.
    let submit = Submit::new(world.caller(), system(), SessionDefaults::default());
    let refusal = world.happen(Event::Submit(Box::new(submit))).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.errors[0].pointer.as_str()),
        ("LS-INVALID", "/type")
    );
    // Nor has a group that does not list the type.
    world.apply(vec![Change::Group(super::world::group())]);
    assert_eq!(refused(&mut world, system()).code, "LS-GROUP-DENIED");
    assert!(!world.state().sessions.contains_key(&SessionId(id.0 + 1)));
}
