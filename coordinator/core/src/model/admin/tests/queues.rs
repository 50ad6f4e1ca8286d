//! Who may use a queue, and what a group and a project let in.

use super::super::{AdminObject, AdminVerb, AllowKind, RightsVerb, live_view, lives_view};
use super::{World, errors, from, shown};
use crate::model::{Change, Project};
use crate::scheduler::{limits::Requester, quota};
use longshore_common::admin::{ConfigVerdict, ResourceConfigRequest, UserGroupRequest};
use longshore_common::amount::{SlotLimits, SlotName, UNIT};
use longshore_common::ids::{DomainId, ProjectId, UserGroupId, UserId};
use longshore_common::session::SessionState;
use serde_json::{Value, json};

fn document(member: &str, who: Value) -> Value {
    json!({
        "pools": [{"name": "P", "group": "bare"}],
        "profiles": [{"name": "4x", "slots": {"cuda.device": "4"}, "pools": ["P"]}],
        "allocation_policies": [{"name": "Dev", member: who, "profiles": [{"profile": "4x"}]}],
    })
}

fn provision(world: &mut World, document: Value) -> ConfigVerdict {
    let draft: ResourceConfigRequest = from(document);
    world.admin(AdminVerb::SaveDraft(Box::new(draft))).unwrap();
    let expected_version = world.state().config.version;
    match world.admin(AdminVerb::Provision { expected_version }) {
        Ok(AdminObject::Verdict(verdict)) => *verdict,
        other => panic!("{other:?}"),
    }
}

fn rights(world: &mut World, verb: RightsVerb) -> Result<AdminObject, crate::model::Refusal> {
    world.admin(AdminVerb::Rights(Box::new(verb)))
}

fn group(world: &mut World, id: u128, name: &str, members: &[&str]) {
    let request: UserGroupRequest = from(json!({"name": name, "members": members}));
    rights(
        world,
        RightsVerb::CreateGroup(UserGroupId::new(id), request),
    )
    .unwrap();
}

fn member(world: &mut World, who: &str, within: bool) {
    let (group, who) = ("dev".to_owned(), who.to_owned());
    rights(world, RightsVerb::Member { group, who, within }).unwrap();
}

fn asks(world: &mut World, user: u128) -> Result<longshore_common::ids::SessionId, &'static str> {
    let asked = world.submit(user, json!({"queue": "Dev/4x"}));
    asked.map_err(|refusal| refusal.code)
}

#[test]
fn a_queue_is_for_those_in_its_group_of_users() {
    let mut world = World::new();
    group(&mut world, 10, "dev", &["alice"]);
    provision(&mut world, document("user_group", json!("DEV")));
    let seen = serde_json::to_value(live_view(world.state())).unwrap();
    let policy = &seen["allocation_policies"][0];
    assert_eq!(
        (&policy["user_group"], &policy["users"]),
        (&json!("dev"), &Value::Null)
    );
    assert!(asks(&mut world, 2).is_ok());
    assert_eq!(asks(&mut world, 3), Err("LS-QUEUE-DENIED"));
    member(&mut world, "bob", true);
    assert!(asks(&mut world, 3).is_ok(), "who is put in may");
}

#[test]
fn who_leaves_the_group_waits_no_longer_and_who_runs_goes_on() {
    let mut world = World::new();
    group(&mut world, 10, "dev", &["alice", "bob"]);
    provision(&mut world, document("user_group", json!("dev")));
    let first = asks(&mut world, 3).unwrap();
    world.place();
    let second = asks(&mut world, 3).unwrap();
    let other = asks(&mut world, 2).unwrap();
    member(&mut world, "bob", false);
    assert!(world.session(second).is_none(), "it has ended");
    assert!(world.session(first).unwrap().state != SessionState::Pending);
    let stays = world.session(other).unwrap();
    assert_eq!(
        (stays.state, stays.stop.is_some()),
        (SessionState::Pending, false)
    );
}

/// Example E39.
#[test]
fn a_policy_is_moved_to_another_group_of_users() {
    let mut world = World::new();
    group(&mut world, 10, "dev", &["alice", "bob"]);
    group(&mut world, 11, "ml", &["alice"]);
    provision(&mut world, document("user_group", json!("dev")));
    let (runs, waits) = (asks(&mut world, 3).unwrap(), asks(&mut world, 2).unwrap());
    world.place();
    let (ended, stays) = (asks(&mut world, 3).unwrap(), asks(&mut world, 2).unwrap());
    let verdict = provision(&mut world, document("user_group", json!("ml")));
    assert_eq!(verdict.cancelled, [ended.to_string()]);
    assert!(world.session(ended).is_none());
    assert!(world.session(runs).is_some() && world.session(waits).is_some());
    assert_eq!(world.session(stays).unwrap().state, SessionState::Pending);
}

#[test]
fn a_group_of_users_in_use_stays() {
    let mut world = World::new();
    group(&mut world, 10, "dev", &["alice"]);
    provision(&mut world, document("user_group", json!("dev")));
    let delete = || RightsVerb::DeleteGroup("dev".to_owned());
    let refused = rights(&mut world, delete()).unwrap_err();
    assert_eq!(
        (refused.code, refused.detail.as_str()),
        (
            "LS-IN-USE",
            "Group dev is the one of allocation policy Dev."
        )
    );
    provision(&mut world, document("users", Value::Null));
    rights(&mut world, delete()).unwrap();
}

#[test]
fn whom_a_policy_names_it_means_by_any_login_name() {
    let mut world = World::new();
    provision(&mut world, document("users", json!(["alice"])));
    let alice = world.state().users[&UserId::new(2)].clone();
    let renamed = |name: &str| crate::model::User {
        username: name.to_owned(),
        ..alice.clone()
    };
    let bob = world.state().users[&UserId::new(3)].clone();
    world.take(&[Change::User(Box::new(renamed("ann")))]);
    world.take(&[Change::User(Box::new(crate::model::User {
        username: "alice".to_owned(),
        ..bob
    }))]);
    assert!(asks(&mut world, 2).is_ok());
    assert_eq!(
        asks(&mut world, 3),
        Err("LS-QUEUE-DENIED"),
        "a name taken over"
    );
    let seen = serde_json::to_value(live_view(world.state())).unwrap();
    assert_eq!(seen["allocation_policies"][0]["users"], json!(["ann"]));
}

#[test]
fn what_is_no_group_of_users_is_told() {
    let mut world = World::new();
    group(&mut world, 10, "dev", &[]);
    for (who, pointer) in [
        (
            json!({"user_group": "dve"}),
            "/allocation_policies/0/user_group",
        ),
        (
            json!({"user_group": "dev", "users": ["bob"]}),
            "/allocation_policies/0/users",
        ),
    ] {
        let mut whole = document("name", json!("Dev"));
        let policy = whole["allocation_policies"][0].as_object_mut().unwrap();
        policy.extend(who.as_object().unwrap().clone());
        let draft: ResourceConfigRequest = from(whole);
        let refused = world
            .admin(AdminVerb::SaveDraft(Box::new(draft)))
            .unwrap_err();
        assert_eq!(errors(&refused).1[0].0, pointer);
    }
}

/// Two domains may have a project of one name: a list means one of them.
#[test]
fn a_list_of_projects_means_those_of_one_domain() {
    let mut world = World::new();
    let twin = Project {
        id: ProjectId::new(9),
        domain: DomainId::new(2),
        ..world.state().projects[&ProjectId::new(2)].clone()
    };
    let allow = |who: &str| AdminVerb::Allow {
        group: "bare".to_owned(),
        kind: AllowKind::Project,
        who: who.to_owned(),
    };
    let seen = shown(&world.admin(allow("vision")).unwrap());
    assert_eq!(seen["allowed"]["projects"], json!(["vision"]));
    world.take(&[Change::Project(twin)]);
    let group = world.state().group_by_ref("bare").unwrap();
    let open = |project: u128, domain: u128| {
        let who = Requester {
            keypair: "k".to_owned(),
            user: UserId::new(2),
            project: ProjectId::new(project),
            domain: DomainId::new(domain),
        };
        crate::model::is_open_to(world.state(), group, &who)
    };
    assert_eq!((open(2, 1), open(9, 2)), (true, false));
    let refused = world.admin(allow("Vision")).unwrap_err();
    assert!(
        refused.detail.contains("default/vision or other/vision"),
        "{}",
        refused.detail
    );
    let seen = shown(&world.admin(allow("other/vision")).unwrap());
    assert_eq!(
        seen["allowed"]["projects"],
        json!(["default/vision", "other/vision"])
    );
}

#[test]
fn nothing_starts_in_an_inactive_project_that_is_not_named() {
    let mut world = World::new();
    let rests = Project {
        active: false,
        ..world.state().projects[&ProjectId::new(1)].clone()
    };
    world.take(&[Change::Project(rests)]);
    for members in [json!({}), json!({"project": "default"})] {
        assert_eq!(world.submit(2, members).unwrap_err().code, "LS-STATE");
    }
}

#[test]
fn a_preset_of_one_group_is_not_for_queues_that_lead_to_others() {
    let mut world = World::new();
    provision(&mut world, document("users", Value::Null));
    for (name, group) in [("there", "h100"), ("here", "bare")] {
        let request = from(json!({"name": name, "group": group, "slots": {"cpu": "1"}}));
        let id = longshore_common::ids::PresetId::new(u128::from(name.len() as u64));
        world.admin(AdminVerb::CreatePreset(id, request)).unwrap();
    }
    let mut asked = |preset: &str| {
        let asked = world.submit(2, json!({"queue": "Dev/4x", "preset": preset}));
        asked.map_err(|refusal| (refusal.code, refusal.detail))
    };
    let refused = (
        "LS-INVALID",
        "Preset there is for group h100; queue Dev/4x leads to group bare.".to_owned(),
    );
    assert_eq!(asked("there"), Err(refused));
    assert!(asked("here").is_ok());
}

#[test]
fn the_view_of_limits_has_what_waits_per_slot() {
    let mut world = World::new();
    let mut policy = world.state().keypair_policies["default"].clone();
    policy.max_pending_session_slots = SlotLimits::new().with(SlotName::cpu(), Some(6 * UNIT));
    world.take(&[Change::KeypairPolicy(Box::new(policy))]);
    world.submit(2, json!({"slots": {"cpu": "4"}})).unwrap();
    let who = Requester {
        keypair: "LSalice".to_owned(),
        user: UserId::new(2),
        project: ProjectId::new(1),
        domain: DomainId::new(1),
    };
    let entries = quota(world.state(), &who, None);
    let entry = entries.iter().find(|e| e.slot == "pending:cpu").unwrap();
    assert_eq!(
        (
            entry.used.as_str(),
            entry.limit.as_deref(),
            entry.remaining.as_deref()
        ),
        ("4", Some("6"), Some("2"))
    );
}

#[test]
fn the_view_of_limits_says_who_bounds_lives() {
    let mut world = World::new();
    let policy = |world: &World, name: &str, lifetime_s| {
        let mut policy = world.state().keypair_policies["default"].clone();
        name.clone_into(&mut policy.name);
        policy.max_session_lifetime_s = lifetime_s;
        policy
    };
    let mut wide = policy(&world, "wide", Some(86_400));
    (wide.extension_max_s, wide.idle_timeout_s) = (Some(7200), Some(600));
    let short = policy(&world, "default", Some(3600));
    let mut second = super::keypair(2, "LSwide", false);
    second.policy = "wide".to_owned();
    world.take(&[
        Change::KeypairPolicy(Box::new(wide)),
        Change::KeypairPolicy(Box::new(short)),
        Change::Keypair(second),
    ]);
    let who = Requester {
        keypair: "LSwide".to_owned(),
        user: UserId::new(2),
        project: ProjectId::new(1),
        domain: DomainId::new(1),
    };
    let seen = serde_json::to_value(lives_view(world.state(), &who)).unwrap();
    let settings = world.state().scheduler.lives.extend_max;
    assert_eq!(
        seen,
        json!({
            "lifetime_s": {"value": 3600, "policy": "default"},
            "extension_count": {"value": settings},
            "extension_s": {"value": 7200, "policy": "wide"},
            "idle_timeout_s": {"value": 600, "policy": "wide"},
        })
    );
}

#[test]
fn a_listed_project_stays_until_it_is_off_the_list() {
    let mut world = World::new();
    let list = |who: &str, within: bool| {
        let (group, kind, who) = ("bare".to_owned(), AllowKind::Project, who.to_owned());
        match within {
            true => AdminVerb::Allow { group, kind, who },
            false => AdminVerb::Disallow { group, kind, who },
        }
    };
    world.admin(list("vision", true)).unwrap();
    let delete = || AdminVerb::DeleteProject("vision".to_owned());
    assert_eq!(world.admin(delete()).unwrap_err().code, "LS-IN-USE");
    world.admin(list("vision", false)).unwrap();
    world.admin(delete()).unwrap();
}

/// Entries were kept without domains once: at a start they become what they have meant.
#[test]
fn old_lists_of_projects_get_their_domains() {
    let mut world = World::new();
    let mut group = world.state().group_by_ref("bare").unwrap().clone();
    group.allowed = Some(crate::model::Allowed {
        projects: ["Vision".to_owned(), "gone".to_owned()].into(),
        ..crate::model::Allowed::default()
    });
    world.take(&[Change::Group(group)]);
    let [new] = &super::super::with_domains(world.state()).collect::<Vec<_>>()[..] else {
        panic!("one group has such a list");
    };
    let listed = &new.allowed.as_ref().unwrap().projects;
    assert_eq!(*listed, ["default/vision".to_owned()].into());
    world.take(&[Change::Group(new.clone())]);
    assert_eq!(super::super::with_domains(world.state()).count(), 0);
}

/// Of an array what has a place goes on, and the rest is never made.
#[test]
fn an_array_of_who_leaves_the_group_makes_no_more_tasks() {
    let mut world = World::new();
    group(&mut world, 10, "dev", &["bob"]);
    provision(&mut world, document("user_group", json!("dev")));
    let asked = json!({"queue": "Dev/4x", "type": "batch", "command": ["x"],
        "array": {"range": "0-9", "parallel": 1}});
    let array = world.submit(3, asked).unwrap();
    world.place();
    member(&mut world, "bob", false);
    let plan = world.session(array).unwrap().array.clone().unwrap();
    assert_eq!((plan.unmade(), plan.cancelled), (0, 9));
}
