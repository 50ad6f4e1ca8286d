//! Keypair, user and project policies.

use super::super::policies::follow;
use super::super::{AdminObject, AdminVerb, idle_rules};
use super::{World, errors, from, keypair, shown};
use crate::model::{Change, KeypairState, PolicyKind, UserStatus};
use longshore_common::ids::{PolicyId, SessionId, UserId};
use longshore_common::limits::{Combine, IdlePolicy, Metric};
use longshore_common::session::SessionState;
use serde_json::{Value, json};

fn create(members: Value) -> AdminVerb {
    AdminVerb::CreateKeypairPolicy(PolicyId::new(9), Box::new(from(members)))
}

fn assign(keypair: &str, policy: &str) -> AdminVerb {
    let request = from(json!({ "policy": policy }));
    AdminVerb::PatchKeypair(keypair.to_owned(), Box::new(request))
}

fn patch(name: &str, members: Value) -> AdminVerb {
    AdminVerb::PatchKeypairPolicy(name.to_owned(), Box::new(from(members)))
}

#[test]
fn what_is_not_given_takes_the_default_and_null_takes_it_away() {
    let mut world = World::new();
    let made = shown(&world.admin(create(json!({"name": "student", "total_slots": {"cuda.device": "2", "cpu": "unlimited"}, "max_concurrent_sessions": 0, "max_priority": 0}))).unwrap());
    assert_eq!(
        made["total_slots"],
        json!({"cuda.device": "2", "cpu": "unlimited"})
    );
    assert_eq!(
        (&made["max_concurrent_sftp_sessions"], &made["max_priority"]),
        (&json!(1), &json!(0))
    );
    assert!(
        made.get("max_concurrent_sessions").is_none(),
        "0 is no limit"
    );
    assert!(!made.to_string().contains("null"));
    let seen = shown(
        &world
            .admin(patch(
                "Student",
                json!({
                    "max_concurrent_sftp_sessions": null, "max_priority": null, "max_shm": "1.5g",
                    "total_slots": {"cuda.device": null, "mem": "64g"}, "max_pids": 64,
                }),
            ))
            .unwrap(),
    );
    assert!(
        seen.get("max_concurrent_sftp_sessions").is_none() && seen.get("max_priority").is_none()
    );
    assert_eq!(
        seen["total_slots"],
        json!({"cuda.device": "unlimited", "cpu": "unlimited", "mem": "68719476736"})
    );
    assert_eq!(
        (&seen["max_shm"], &seen["version"], &seen["max_pids"]),
        (&json!("1610612736"), &json!(2), &json!(64))
    );
    let cleared = shown(
        &world
            .admin(patch(
                "student",
                json!({"total_slots": null, "max_pids": 0}),
            ))
            .unwrap(),
    );
    assert_eq!(cleared["total_slots"], json!({}));
    assert!(cleared.get("max_pids").is_none());
}

#[test]
fn every_bad_member_is_named_with_the_sentence_of_the_table() {
    let mut world = World::new();
    let refusal = world
        .admin(create(json!({
            "name": "x", "max_concurrent_sessions": 101, "max_pending_session_count": -1,
            "max_priority": "high", "max_session_lifetime_s": 31_536_001, "extension_max_s": 604_801,
            "max_shm": "1025g", "max_pids": 1_048_577, "lifetime_base": "begun",
            "total_slots": {"cpu": "513", "cuda.device": "2.5"},
            "idle": {"warn_s": [0], "utilization": {"thresholds": {"cpu_pct": 101, "disk_pct": 1}}},
            "allowed_hosts": {"vol": ["read"]}, "clone": "studnet",
        })))
        .unwrap_err();
    let (code, mut found) = errors(&refusal);
    found.sort_unstable();
    assert_eq!(code, "LS-INVALID");
    assert_eq!(
        found,
        [
            (
                "/allowed_hosts/vol",
                "There is no permission read; there are create, modify, delete, mount, upload, download, invite, set-permission, *."
            ),
            ("/clone", "There is no keypair policy studnet."),
            (
                "/extension_max_s",
                "extension_max_s must be between 0 and 604800."
            ),
            (
                "/idle/utilization/thresholds/cpu_pct",
                "cpu_pct must be between 0 and 100."
            ),
            (
                "/idle/utilization/thresholds/disk_pct",
                "A threshold is one of cpu_pct, mem_pct, gpu_pct, gpu_mem_pct."
            ),
            (
                "/idle/warn_s",
                "warn_s must be at most 16 whole numbers between 1 and 15552000."
            ),
            (
                "/lifetime_base",
                "lifetime_base must be one of created, started."
            ),
            (
                "/max_concurrent_sessions",
                "max_concurrent_sessions must be between 0 and 100."
            ),
            (
                "/max_pending_session_count",
                "max_pending_session_count must be between 0 and 100000."
            ),
            ("/max_pids", "max_pids must be between 0 and 1048576."),
            ("/max_priority", "max_priority must be a whole number."),
            (
                "/max_session_lifetime_s",
                "max_session_lifetime_s must be between 0 and 31536000."
            ),
            ("/max_shm", "max_shm must be between 0 and 1024g."),
            (
                "/total_slots/cpu",
                "total_slots.cpu must be between 0 and 512."
            ),
            (
                "/total_slots/cuda.device",
                "total_slots.cuda.device must be a whole number."
            ),
        ]
    );
}

#[test]
fn the_other_kinds_have_their_own_maxima() {
    let mut world = World::new();
    let user = |members| AdminVerb::CreateUserPolicy(PolicyId::new(9), Box::new(from(members)));
    let made = shown(
        &world
            .admin(user(
                json!({"name": "u", "max_customized_image_count": 0, "max_folder_size": 1024}),
            ))
            .unwrap(),
    );
    assert_eq!(made["max_customized_image_count"], 0);
    assert_eq!(
        (
            &made["max_folder_size"],
            &made["max_session_count_per_model_service"]
        ),
        (&json!("1024"), &json!(10))
    );
    let refusal = world.admin(user(json!({"name": "v", "max_folder_size": "1025t", "max_folder_count": 100_001, "max_session_count_per_model_service": 1001, "clone": 3}))).unwrap_err();
    assert_eq!(errors(&refusal).1.len(), 4);
    let project =
        |members| AdminVerb::CreateProjectPolicy(PolicyId::new(9), Box::new(from(members)));
    let made = shown(
        &world
            .admin(project(json!({"name": "p", "max_network_count": 0})))
            .unwrap(),
    );
    assert_eq!(made["max_network_count"], 0);
    let cloned = shown(
        &world
            .admin(project(
                json!({"name": "q", "clone": "P", "max_folder_count": 7}),
            ))
            .unwrap(),
    );
    assert_eq!(
        (&cloned["max_network_count"], &cloned["max_folder_count"]),
        (&json!(0), &json!(7))
    );
    let late = AdminVerb::PatchProjectPolicy("q".to_owned(), Box::new(from(json!({"clone": "p"}))));
    assert_eq!(errors(&world.admin(late).unwrap_err()).1[0].0, "/clone");
}

#[test]
fn idle_rules_are_merged_and_take_the_policy_s_time() {
    let mut world = World::new();
    world.admin(create(json!({"name": "a", "idle": {"combine": "any", "utilization": {"thresholds": {"gpu_pct": null, "mem_pct": 10}, "applies_to": ["batch", "interactive"]}}}))).unwrap();
    let rules = |world: &World| idle_rules(&world.state().keypair_policies["a"]);
    assert_eq!(rules(&world), None, "off without idle_timeout_s");
    world
        .admin(patch("a", json!({"idle_timeout_s": 600})))
        .unwrap();
    let first = rules(&world).unwrap();
    assert_eq!(first.interaction_timeout_s, Some(600));
    assert_eq!((first.combine, first.initial_grace_s), (Combine::Any, 300));
    let check = first.utilization.unwrap();
    assert_eq!(check.thresholds, [(Metric::Cpu, 5), (Metric::Mem, 10)]);
    assert!(check.applies_to_batch);
    let seen = shown(&world.admin(patch("a", json!({"idle": {"interaction": {"timeout_s": 60}, "utilization": {"enabled": false}}}))).unwrap());
    assert_eq!(
        seen["idle"]["interaction"],
        json!({"enabled": true, "timeout_s": 60})
    );
    assert_eq!(seen["idle"]["utilization"], json!({"enabled": false}));
    assert_eq!(seen["idle"]["combine"], "any");
    assert_eq!(rules(&world).unwrap().interaction_timeout_s, Some(60));
    world
        .admin(patch(
            "a",
            json!({"idle": {"interaction": {"enabled": false}}}),
        ))
        .unwrap();
    assert_eq!(rules(&world).unwrap().interaction_timeout_s, None);
    world.admin(patch("a", json!({"idle": null}))).unwrap();
    assert_eq!(rules(&world).unwrap().interaction_timeout_s, Some(600));
}

#[test]
fn a_policy_in_use_is_moved_or_stays() {
    let mut world = World::new();
    world.admin(create(json!({"name": "student"}))).unwrap();
    for key in ["LSalice", "LSbob"] {
        world.admin(assign(key, "Student")).unwrap();
    }
    let mut off = keypair(2, "LSalice2", false);
    off.state = KeypairState::Inactive;
    off.policy = "student".to_owned();
    let mut bob = world.state().users[&UserId::new(3)].clone();
    bob.status = UserStatus::Inactive;
    world.take(&[Change::Keypair(off), Change::User(Box::new(bob))]);
    let delete = |name: &str, move_to: Option<&str>| AdminVerb::DeletePolicy {
        kind: PolicyKind::Keypair,
        name: name.to_owned(),
        move_to: move_to.map(str::to_owned),
    };
    let refusal = world.admin(delete("STUDENT", None)).unwrap_err();
    assert_eq!(refusal.code, "LS-IN-USE");
    assert_eq!(
        refusal.detail,
        "Keypair policy student is used by 3 keypairs (1 of an inactive user, 1 inactive)."
    );
    let in_use = refusal.in_use.unwrap();
    assert_eq!(in_use.counts["keypair"], 3);
    let seen: Vec<(&str, &str)> = in_use
        .blockers
        .iter()
        .map(|b| (b.id.as_str(), b.state.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("LSalice", "active"),
            ("LSalice2", "inactive"),
            ("LSbob", "inactive")
        ]
    );
    assert_eq!(
        world
            .admin(delete("default", Some("student")))
            .unwrap_err()
            .code,
        "LS-BUILTIN"
    );
    assert_eq!(
        errors(&world.admin(delete("student", Some("studen"))).unwrap_err()),
        (
            "LS-INVALID",
            vec![(
                "/move_to",
                "There is no keypair policy studen; did you mean student?"
            )]
        )
    );
    assert_eq!(
        errors(&world.admin(delete("student", Some("student"))).unwrap_err()).1[0].0,
        "/move_to"
    );
    assert!(matches!(
        world.admin(delete("gone", None)),
        Ok(AdminObject::Gone)
    ));
    world.admin(delete("student", Some("DEFAULT"))).unwrap();
    assert!(
        world
            .state()
            .keypairs
            .values()
            .all(|k| k.policy == "default")
    );
    assert!(!world.state().keypair_policies.contains_key("student"));
}

#[test]
fn many_in_the_way_are_counted_and_twenty_are_named() {
    let mut world = World::new();
    world.admin(create(json!({"name": "p"}))).unwrap();
    for n in 0..25 {
        let mut pair = keypair(2, &format!("LSmany{n:02}"), false);
        pair.policy = "p".to_owned();
        world.take(&[Change::Keypair(pair)]);
    }
    let verb = AdminVerb::DeletePolicy {
        kind: PolicyKind::Keypair,
        name: "p".to_owned(),
        move_to: None,
    };
    let in_use = world.admin(verb).unwrap_err().in_use.unwrap();
    assert_eq!((in_use.blockers.len(), in_use.counts["keypair"]), (20, 25));
}

/// A limit lowered below what is used, and what the rehearsal says before.
#[test]
fn a_lowered_limit_ends_nothing_and_holds_back_what_asks_for_the_slot() {
    let mut world = World::new();
    let running = world.submit(2, json!({"slots": {"cpu": "10"}})).unwrap();
    world.place();
    let cpu = world.submit(2, json!({"slots": {"cpu": "1"}})).unwrap();
    let other = world.submit(3, json!({"slots": {"cpu": "1"}})).unwrap();
    world
        .admin(create(
            json!({"name": "student", "total_slots": {"cpu": "16"}}),
        ))
        .unwrap();
    world.admin(assign("LSalice", "student")).unwrap();
    let lower = || patch("student", json!({"total_slots": {"cpu": "4"}}));
    let told = world.rehearse(lower()).unwrap();
    let impact = told.impact.unwrap();
    let effects: Vec<(&str, &str)> = impact
        .sessions
        .iter()
        .map(|s| (s.id.as_str(), s.effect.as_str()))
        .collect();
    assert_eq!(
        effects,
        [
            (cpu.to_string().as_str(), "waits"),
            (running.to_string().as_str(), "kept")
        ]
    );
    assert_eq!(
        (impact.users, impact.keypairs),
        (vec!["alice".to_owned()], vec!["LSalice".to_owned()])
    );
    assert_eq!(impact.diff.len(), 1);
    assert_eq!(impact.diff[0].path, "/total_slots");
    assert_eq!(
        (impact.diff[0].from.as_deref(), impact.diff[0].to.as_deref()),
        (Some(r#"{"cpu":"16"}"#), Some(r#"{"cpu":"4"}"#))
    );
    assert_eq!(
        (
            impact.counts["sessions"],
            impact.counts["waits"],
            impact.counts["kept"]
        ),
        (2, 1, 1)
    );
    world.admin(lower()).unwrap();
    world.place();
    assert!(!world.session(running).unwrap().containers.is_empty());
    assert!(world.session(cpu).unwrap().containers.is_empty(), "waits");
    assert!(!world.session(other).unwrap().containers.is_empty());
    world
        .admin(patch("student", json!({"total_slots": {"cpu": "16"}})))
        .unwrap();
    world.place();
    assert!(!world.session(cpu).unwrap().containers.is_empty());
}

/// The planner beside the state must hear of an assignment made while nobody waited.
#[test]
fn an_assignment_acts_on_what_is_submitted_afterwards() {
    let mut world = World::new();
    world.submit(2, json!({"slots": {"cpu": "2"}})).unwrap();
    world.place();
    world
        .admin(create(
            json!({"name": "small", "max_concurrent_sessions": 1}),
        ))
        .unwrap();
    world.place();
    world.admin(assign("LSalice", "small")).unwrap();
    let second = world.submit(2, json!({"slots": {"cpu": "2"}})).unwrap();
    world.place();
    assert!(world.session(second).unwrap().containers.is_empty());
    world.admin(assign("LSalice", "default")).unwrap();
    world.place();
    assert!(!world.session(second).unwrap().containers.is_empty());
}

#[test]
fn limits_that_may_surprise_are_said() {
    let mut world = World::new();
    let made = shown(&world.admin(create(json!({"name": "x", "total_slots": {"cpu": "500", "cuda.shares": "1", "cuda.device": "16"}}))).unwrap());
    let rules: Vec<&str> = made["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["rule"].as_str().unwrap())
        .collect();
    assert_eq!(rules, ["limit-without-effect", "limit-above-cluster"]);
}

#[test]
fn lifetimes_and_rules_of_idleness_reach_sessions_that_are_there() {
    let mut world = World::new();
    let lives = |world: &World, id| {
        let session = world.session(id).unwrap();
        let idle = session.idle.as_ref().map(|idle| idle.timeout_s);
        (session.lifetime_s, idle)
    };
    let default = |members| patch("default", members);
    let plain = world.submit(2, json!({})).unwrap();
    let short = world.submit(2, json!({"lifetime_s": 100})).unwrap();
    assert_eq!(
        (lives(&world, plain), lives(&world, short)),
        ((None, None), (Some(100), None))
    );
    world
        .admin(default(
            json!({"max_session_lifetime_s": 50, "idle_timeout_s": 600}),
        ))
        .unwrap();
    for id in [plain, short] {
        assert_eq!(lives(&world, id), (Some(50), Some(600)));
    }
    // Longer again, and each has what it asked for, or what the policy has.
    world
        .admin(default(json!({"max_session_lifetime_s": 200})))
        .unwrap();
    assert_eq!(lives(&world, plain), (Some(200), Some(600)));
    assert_eq!(lives(&world, short), (Some(100), Some(600)));
    // What reaches no session writes none anew; nor does a rehearsal.
    let version = world.session(plain).unwrap().version;
    world
        .admin(default(json!({"description": "x", "max_priority": 50})))
        .unwrap();
    assert_eq!(world.session(plain).unwrap().version, version);
    world
        .admin(default(
            json!({"max_session_lifetime_s": null, "idle_timeout_s": null}),
        ))
        .unwrap();
    assert_eq!(
        (lives(&world, plain), lives(&world, short)),
        ((None, None), (Some(100), None))
    );
    // Another policy of its keypair is another rule.
    world
        .admin(create(
            json!({"name": "tight", "max_session_lifetime_s": 30}),
        ))
        .unwrap();
    let key = world.session(plain).unwrap().access_key.clone();
    let assign = json!({"policy": "tight"});
    world
        .admin(AdminVerb::PatchKeypair(key, Box::new(from(assign))))
        .unwrap();
    assert_eq!(lives(&world, plain).0, Some(30));
}

#[test]
fn what_an_order_does_not_change_stays_with_sessions_that_are_there() {
    let mut world = World::new();
    let id = world.submit(2, json!({})).unwrap();
    let aside = world.submit(3, json!({})).unwrap();
    // The rules of the installation came later: they are for what is submitted from then on.
    let mut settings = world.state().scheduler.clone();
    settings.idle = Some(IdlePolicy::of_system());
    world.core.apply(&Change::Scheduler(settings));
    // A lifetime of its own that no policy of now explains.
    let mut other = world.session(aside).unwrap().clone();
    other.lifetime_s = Some(77);
    world.core.apply(&Change::Session(Box::new(other)));
    let version = world.session(aside).unwrap().version;
    world
        .admin(create(
            json!({"name": "own", "max_session_lifetime_s": 900}),
        ))
        .unwrap();
    let key = world.session(id).unwrap().access_key.clone();
    world.admin(assign(&key, "own")).unwrap();
    let session = world.session(id).unwrap();
    assert_eq!((session.lifetime_s, &session.idle), (Some(900), &None));
    // Rules of idleness that change do not touch a lifetime, nor those of others anything.
    world
        .admin(patch("own", json!({"idle_timeout_s": 600})))
        .unwrap();
    let timeout = |id| {
        let session = world.session(id).unwrap();
        session.idle.as_ref().map(|idle| idle.timeout_s)
    };
    assert_eq!((timeout(id), timeout(aside)), (Some(600), None));
    let session = world.session(aside).unwrap();
    assert_eq!((session.lifetime_s, session.version), (Some(77), version));
}

#[test]
fn a_shorter_lifetime_ends_what_does_not_run_yet_with_notice() {
    let mut world = World::new();
    let plain = world.submit(2, json!({})).unwrap();
    let short = world.submit(2, json!({"lifetime_s": 100})).unwrap();
    let ends = |world: &World, id| {
        let end = world.session(id).unwrap().lifetime_deadline();
        end.map(|at| at.since(super::NOW) / 1000)
    };
    let most = |world: &mut World, most: Value| {
        let members = json!({ "max_session_lifetime_s": most });
        world.admin(patch("default", members)).unwrap();
    };
    // It is told first, and a rehearsal leaves everything as it is.
    let members = json!({ "max_session_lifetime_s": 50 });
    let told = world.rehearse(patch("default", members)).unwrap();
    let told = told.impact.unwrap().sessions.into_iter();
    let told: Vec<_> = told.map(|s| (s.id, s.effect)).collect();
    let pair = |id: SessionId, effect: &str| (id.to_string(), effect.to_owned());
    assert_eq!(told, [pair(plain, "earlier"), pair(short, "kept")]);
    assert_eq!(ends(&world, plain), None);
    most(&mut world, json!(50));
    assert_eq!(world.session(plain).unwrap().lifetime_s, Some(50));
    assert_eq!(ends(&world, plain), Some(300));
    assert_eq!(ends(&world, short), Some(100), "not later than without it");
    // What is put off is so once.
    most(&mut world, json!(40));
    assert_eq!(ends(&world, plain), Some(300));
    most(&mut world, json!(500));
    assert_eq!(
        (ends(&world, plain), ends(&world, short)),
        (Some(500), Some(100))
    );
    // One that runs is warned by its agent.
    world.place();
    let mut runs = world.session(plain).unwrap().clone();
    runs.state = SessionState::Running;
    world.core.apply(&Change::Session(Box::new(runs)));
    most(&mut world, json!(50));
    assert_eq!(
        (ends(&world, plain), ends(&world, short)),
        (Some(50), Some(50 + 50))
    );
}

#[test]
fn what_an_order_does_to_a_session_itself_stays() {
    let mut world = World::new();
    let own = world.submit(2, json!({})).unwrap();
    let other = world.submit(2, json!({})).unwrap();
    let mut policy = world.state().keypair_policies["default"].clone();
    policy.max_session_lifetime_s = Some(900);
    let mut renamed = world.session(own).unwrap().clone();
    renamed.owner_name = "alicia".to_owned();
    let mut changes = vec![
        Change::KeypairPolicy(Box::new(policy)),
        Change::Session(Box::new(renamed)),
    ];
    follow(world.state(), &mut changes, &mut Vec::new(), super::NOW);
    for change in &changes {
        world.core.apply(change);
    }
    let lives = |id| world.session(id).unwrap().lifetime_s;
    assert_eq!((lives(own), lives(other)), (None, Some(900)));
    assert_eq!(world.session(own).unwrap().owner_name, "alicia");
}
