//! More time for a session: `extend` and `keep`.

use crate::world::{World, exit, job};
use longshore_common::api::NewSession;
use longshore_common::ids::{PolicyId, SessionId};
use longshore_common::limits::{Combine, IdleAction, IdlePolicy};
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;
use longshore_common::wire::OutcomeNumber;
use longshore_core::model::{
    Answer, Called, Change, Done, Event, KeypairPolicy, LifetimeBase, More, Prolong, Prolonged,
    Refusal, Steering,
};

fn order(world: &World, id: SessionId, what: More) -> Prolong {
    Prolong {
        caller: world.caller(),
        called: Some(Called::default()),
        session: id,
        past: None,
        version: None,
        dry_run: false,
        what,
    }
}

fn prolong(world: &mut World, order: Prolong) -> Result<Prolonged, Refusal> {
    match world.happen(Event::Prolong(Box::new(order)))? {
        Answer::Prolonged(told) => Ok(*told),
        other => panic!("another answer: {other:?}"),
    }
}

pub(super) fn more(world: &mut World, id: SessionId, what: More) -> Result<Prolonged, Refusal> {
    let order = order(world, id, what);
    prolong(world, order)
}

fn code<T: std::fmt::Debug>(told: Result<T, Refusal>) -> &'static str {
    told.expect_err("it is refused").code
}

/// The policy of everybody here.
pub(super) fn policy(world: &mut World, change: impl FnOnce(&mut KeypairPolicy)) {
    let key = world.caller().access_key;
    let mut keypair = world.state().keypairs[&key].clone();
    keypair.policy = "p".to_owned();
    let known = world.state().keypair_policies.get("p").cloned();
    let mut policy = known.unwrap_or_else(|| KeypairPolicy::new(PolicyId::new(77), "p", world.now));
    change(&mut policy);
    let policy = Change::KeypairPolicy(Box::new(policy));
    world.apply(vec![policy, Change::Keypair(keypair)]);
}

fn living(s: i64) -> NewSession {
    NewSession {
        lifetime_s: Some(s),
        ..job()
    }
}

pub(super) fn used_by_people() -> NewSession {
    NewSession {
        kind: Some("interactive".to_owned()),
        ..job()
    }
}

fn running(request: NewSession) -> (World, SessionId) {
    let mut world = World::new();
    world.agent("gpu01", 0);
    let id = world.submit(request);
    world.run(id);
    (world, id)
}

/// Seconds its agent is told it has left.
fn left_s(world: &World, id: SessionId) -> Option<i64> {
    let entry = world.order(world.agent_of(id), world.key(id));
    let lifetime = entry.expect("an order").limits.lifetime?;
    Some(lifetime.remaining_ms / 1000)
}

/// Stops what nobody uses for so long; a `keep` holds for `timeout_s`.
pub(super) fn unused(policy: &mut KeypairPolicy, interaction_timeout_s: u32, timeout_s: u32) {
    policy.idle_timeout_s = Some(600);
    policy.idle = Some(IdlePolicy {
        action: IdleAction::Stop,
        combine: Combine::All,
        initial_grace_s: 0,
        warn_s: vec![60],
        interaction_timeout_s: Some(interaction_timeout_s),
        utilization: None,
        timeout_s,
        keep_max: 2,
    });
}

#[test]
fn an_extension_reaches_the_agent_and_is_counted() {
    let (mut world, id) = running(living(600));
    let agent = world.agent_of(id);
    let before = world.generation(agent);
    let told = more(&mut world, id, More::By(Some(100))).expect("it may");
    assert_eq!((told.left, told.session.life.extensions), (2, 1));
    assert!(world.generation(agent) > before, "a new set is sent");
    assert_eq!(left_s(&world, id), Some(700));
    let end = told.session.lifetime_deadline().expect("it has an end");
    more(&mut world, id, More::Until(end.plus_ms(1500))).expect("it may");
    assert_eq!(left_s(&world, id), Some(702), "a begun second counts whole");
    let told = more(&mut world, id, More::By(None)).expect("it may");
    assert_eq!(told.session.life.extended_s, 102 + 14_400);
    assert_eq!(told.left, 0);
    let refused = more(&mut world, id, More::By(Some(1)));
    let limit = refused.clone().expect_err("used up").limit.expect("named");
    assert_eq!(limit.rule, "extension-count");
    assert_eq!(code(refused), "LS-EXTEND");
}

#[test]
fn a_policy_bounds_count_step_and_sum() {
    let (mut world, id) = running(living(600));
    policy(&mut world, |p| {
        p.extension_max_s = Some(60);
        p.max_total_lifetime_s = Some(700);
        p.extension_max_count = Some(9);
    });
    assert_eq!(code(more(&mut world, id, More::By(Some(61)))), "LS-INVALID");
    assert_eq!(code(more(&mut world, id, More::By(Some(0)))), "LS-INVALID");
    more(&mut world, id, More::By(Some(60))).expect("it may");
    let refused = more(&mut world, id, More::By(Some(60))).expect_err("too long in all");
    let limit = refused.limit.expect("named");
    assert_eq!(
        (refused.code, limit.rule.as_str()),
        ("LS-EXTEND", "total-lifetime")
    );
    let numbers = (
        limit.limit.as_deref(),
        limit.have.as_str(),
        limit.need.as_str(),
    );
    assert_eq!(numbers, (Some("700"), "660", "60"));
    let told = more(&mut world, id, More::By(None)).expect("what is left");
    let Done::Extended {
        by_s, total_left_s, ..
    } = told.done
    else {
        panic!("extended")
    };
    assert_eq!((by_s, total_left_s), (40, Some(0)));
    assert_eq!(code(more(&mut world, id, More::By(None))), "LS-EXTEND");
    policy(&mut world, |p| p.extension_max_count = Some(0));
    assert_eq!(code(more(&mut world, id, More::By(None))), "LS-EXTEND");
}

#[test]
fn what_has_no_end_or_is_ending_gets_no_more_time() {
    let (mut world, id) = running(job());
    assert_eq!(code(more(&mut world, id, More::By(None))), "LS-EXTEND");
    assert_eq!(code(more(&mut world, id, More::Keep(None))), "LS-KEEP");
    let (mut world, id) = running(living(600));
    world.terminate(&[id], 30, false);
    assert_eq!(code(more(&mut world, id, More::By(None))), "LS-STATE");
    assert_eq!(code(more(&mut world, id, More::Keep(None))), "LS-STATE");
    assert_eq!(
        code(more(&mut world, SessionId(99), More::By(None))),
        "LS-NOT-FOUND"
    );
}

#[test]
fn a_waiting_session_may_be_given_longer_but_not_kept() {
    let mut world = World::new();
    world.agent("gpu01", 0);
    let id = world.submit(NewSession {
        start_at: Some(world.now.plus_s(3600)),
        ..living(100)
    });
    more(&mut world, id, More::By(Some(50))).expect("it may");
    assert_eq!(code(more(&mut world, id, More::Keep(None))), "LS-STATE");
    world.later(120_000);
    assert!(world.is(id, SessionState::Pending));
    world.later(40_000);
    assert_eq!(world.reason(id), Some(Reason::LifetimeExceeded));
}

#[test]
fn a_rehearsal_and_an_old_version_change_nothing() {
    let (mut world, id) = running(living(600));
    let seen = world.stored[&id].version;
    let rehearsed = Prolong {
        dry_run: true,
        version: Some(seen),
        ..order(&world, id, More::By(Some(60)))
    };
    let told = prolong(&mut world, rehearsed.clone()).expect("it could");
    assert_eq!(told.session.life.extended_s, 60);
    assert_eq!(left_s(&world, id), Some(600));
    let stale = Prolong {
        version: Some(seen - 1),
        ..rehearsed
    };
    assert_eq!(code(prolong(&mut world, stale)), "LS-VERSION-STALE");
}

#[test]
fn a_life_may_count_from_the_start() {
    let mut world = World::new();
    policy(&mut world, |p| {
        p.max_session_lifetime_s = Some(600);
        p.lifetime_base = LifetimeBase::Started;
    });
    world.agent("gpu01", 0);
    let late = NewSession {
        start_at: Some(world.now.plus_s(3600)),
        ..job()
    };
    let id = world.submit(late);
    assert_eq!(world.stored[&id].lifetime_deadline(), None);
    let until = More::Until(world.now.plus_s(9000));
    assert_eq!(code(more(&mut world, id, until)), "LS-INVALID");
    world.later(3_600_000);
    let limits = |world: &World| {
        let entry = world.order(world.agent_of(id), world.key(id));
        entry.expect("an order").limits
    };
    assert_eq!(
        limits(&world).from_start_s,
        Some(600),
        "the agent can count by itself"
    );
    let before = world.generation(world.agent_of(id));
    world.run(id);
    assert_eq!(limits(&world).from_start_s, None);
    assert_eq!(left_s(&world, id), Some(600));
    assert!(world.generation(world.agent_of(id)) > before);
    // A restart gives no new life, also while it is under way.
    world.later(200_000);
    let (agent, old) = (world.agent_of(id), world.key(id));
    world.steer(id, Steering::Restart).unwrap();
    assert_eq!(left_s(&world, id), Some(400));
    world.outcome(agent, old, OutcomeNumber::Ended, Some(exit(143)));
    world.outcome(agent, old, OutcomeNumber::Closed, None);
    assert_eq!(limits(&world).from_start_s, None);
    world.run(id);
    assert_eq!(left_s(&world, id), Some(400));
}

#[test]
fn keeping_holds_and_is_bounded_until_it_is_used() {
    let mut world = World::new();
    policy(&mut world, |p| unused(p, 60, 0));
    world.agent("gpu01", 0);
    let id = world.submit(used_by_people());
    world.run(id);
    let told = more(&mut world, id, More::Keep(None)).expect("it may");
    assert_eq!(
        (told.left, told.done),
        (1, Done::Kept(world.now.plus_s(600)))
    );
    let kept = world.order(world.agent_of(id), world.key(id));
    let kept = kept
        .expect("an order")
        .limits
        .kept
        .expect("the agent is told");
    assert_eq!((kept.at, kept.hold_s, kept.ago_ms), (world.now, 600, 0));
    world.later(1000);
    let told = more(&mut world, id, More::Keep(None)).expect("it may");
    assert_eq!(told.left, 0);
    let refused = more(&mut world, id, More::Keep(Some(Timestamp(0)))).expect_err("too often");
    assert_eq!(refused.limit.expect("named").rule, "keep-max");
    let used = More::Keep(Some(world.now.plus_ms(1)));
    assert_eq!(more(&mut world, id, used).expect("it was used").left, 1);
}

/// A lifetime of somebody new begins to count when the grace is over.
#[test]
fn new_people_have_their_grace() {
    let mut world = World::new();
    let mut settings = world.state().scheduler.clone();
    settings.lives.new_user_grace_s = 1000;
    world.apply(vec![Change::Scheduler(settings)]);
    world.agent("gpu01", 0);
    let made = world
        .state()
        .users
        .values()
        .next()
        .expect("somebody")
        .created_at;
    let id = world.submit(living(100));
    let end = world.stored[&id].lifetime_deadline();
    assert_eq!(end, Some(made.plus_s(1100)));
}
