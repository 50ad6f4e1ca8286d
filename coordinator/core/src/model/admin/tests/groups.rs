//! Resource groups and presets.

use super::super::{AdminObject, AdminVerb, AllowKind};
use super::{World, errors, from, shown};
use longshore_common::ids::{AgentId, GroupId, PresetId};
use serde_json::json;

fn create(members: serde_json::Value) -> AdminVerb {
    AdminVerb::CreateGroup(GroupId::new(9), Box::new(from(members)))
}

fn patch(name: &str, members: serde_json::Value) -> AdminVerb {
    AdminVerb::PatchGroup(name.to_owned(), Box::new(from(members)))
}

#[test]
fn a_group_is_made_with_the_defaults_of_the_table() {
    let mut world = World::new();
    let made = shown(&world.admin(create(json!({"name": "new"}))).unwrap());
    assert_eq!(made["version"], 1);
    assert_eq!(
        made["allowed_session_types"],
        json!(["interactive", "batch", "inference"])
    );
    assert_eq!(made["declare_lost_s"], 600);
    assert_eq!(made["inherited"].as_array().unwrap().len(), 5);
    assert_eq!(
        (&made["scheduler"], &made["retries_to_skip"]),
        (&json!("fifo"), &json!(3))
    );
    assert!(made.get("allowed").is_none());
    let taken = world.admin(create(json!({"name": "NEW"}))).unwrap_err();
    assert_eq!(taken.code, "LS-EXISTS");
    let seen = shown(
        &world
            .admin(patch(
                "new",
                json!({"scheduler": "DRF", "retries_to_skip": 0, "pending_timeout_s": 5}),
            ))
            .unwrap(),
    );
    assert_eq!(
        seen["inherited"],
        json!(["agent_selection", "creation_retries"])
    );
    assert_eq!(
        (&seen["scheduler"], &seen["version"]),
        (&json!("drf"), &json!(2))
    );
    let back = shown(
        &world
            .admin(patch("new", json!({"scheduler": null})))
            .unwrap(),
    );
    assert_eq!(
        (&back["scheduler"], &back["version"]),
        (&json!("fifo"), &json!(3))
    );
    // The same again is no change.
    let same = shown(
        &world
            .admin(patch("new", json!({"scheduler": null})))
            .unwrap(),
    );
    assert_eq!(same["version"], 3);
}

#[test]
fn all_that_is_wrong_with_a_group_is_said_at_once() {
    let mut world = World::new();
    let refusal = world
        .admin(create(json!({
            "name": "s-1", "allowed_session_types": [], "scheduler": "best", "retries_to_skip": -1,
            "declare_lost_s": 60, "creation_retries": 1.5, "active": "yes",
            "allowed": {"domains": ["defalt"], "keypairs": "x"}, "service_account": "svc",
        })))
        .unwrap_err();
    let (code, mut found) = errors(&refusal);
    found.sort_unstable();
    assert_eq!(code, "LS-INVALID");
    assert_eq!(
        found,
        [
            ("/active", "active must be true or false."),
            (
                "/allowed/domains/0",
                "There is no domain defalt; did you mean default?"
            ),
            ("/allowed/keypairs", "keypairs must be a list."),
            (
                "/allowed_session_types",
                "allowed_session_types must hold at least one type."
            ),
            (
                "/creation_retries",
                "creation_retries must be a whole number."
            ),
            (
                "/declare_lost_s",
                "declare_lost_s must be 0, or between 120 and 31536000."
            ),
            (
                "/name",
                "name must have 1 to 64 of A-Z a-z 0-9 . _ -, begin with a letter or digit, and not be of the form of an id or of s-42."
            ),
            (
                "/retries_to_skip",
                "retries_to_skip must be between 0 and 1000000."
            ),
            ("/scheduler", "scheduler must be one of fifo, lifo, drf."),
            ("/service_account", "There is no service account svc."),
        ]
    );
}

#[test]
fn one_group_is_the_default_and_names_are_fixed() {
    let mut world = World::new();
    world
        .admin(patch("h100", json!({"default": true})))
        .unwrap();
    let defaults: Vec<&str> = world
        .state()
        .groups
        .values()
        .filter(|g| g.default)
        .map(|g| g.name.as_str())
        .collect();
    assert_eq!(defaults, ["h100"]);
    assert_eq!(world.state().group_by_ref("bare").unwrap().version, 2);
    let fixed = world
        .admin(patch("h100", json!({"name": "h200"})))
        .unwrap_err();
    assert_eq!(errors(&fixed).0, "LS-FIELD-FIXED");
    world.admin(patch("h100", json!({"name": "h100"}))).unwrap();
    let stale = world
        .admin_at(Some(1), patch("h100", json!({"active": false})))
        .unwrap_err();
    assert_eq!(stale.code, "LS-VERSION-STALE");
    world
        .admin_at(Some(2), patch("h100", json!({"active": false})))
        .unwrap();
    assert_eq!(
        world.admin(patch("gone", json!({}))).unwrap_err().code,
        "LS-NOT-FOUND"
    );
}

#[test]
fn who_is_let_in() {
    let mut world = World::new();
    let allow = |who: &str| AdminVerb::Allow {
        group: "h100".to_owned(),
        kind: AllowKind::Project,
        who: who.to_owned(),
    };
    let seen = shown(&world.admin(allow("Vision")).unwrap());
    assert_eq!(
        seen["allowed"],
        json!({"domains": [], "projects": ["vision"], "keypairs": []})
    );
    let denied = world.submit(2, json!({"group": "h100"})).unwrap_err();
    assert_eq!(denied.code, "LS-GROUP-DENIED");
    assert_eq!(
        world.admin(allow("nothing")).unwrap_err().code,
        "LS-NOT-FOUND"
    );
    let key = AdminVerb::Allow {
        group: "h100".to_owned(),
        kind: AllowKind::Keypair,
        who: "LSalice".to_owned(),
    };
    world.admin(key).unwrap();
    world.submit(2, json!({"group": "h100"})).unwrap();
    let off = |kind, who: &str| AdminVerb::Disallow {
        group: "h100".to_owned(),
        kind,
        who: who.to_owned(),
    };
    world.admin(off(AllowKind::Keypair, "LSalice")).unwrap();
    let seen = shown(&world.admin(off(AllowKind::Project, "vision")).unwrap());
    assert_eq!(
        seen["allowed"],
        json!({"domains": [], "projects": [], "keypairs": []})
    );
    assert_eq!(
        world.submit(2, json!({"group": "h100"})).unwrap_err().code,
        "LS-GROUP-DENIED"
    );
    world
        .admin(AdminVerb::AllowEverybody("h100".to_owned()))
        .unwrap();
    world.submit(2, json!({"group": "h100"})).unwrap();
}

#[test]
fn a_group_in_use_stays() {
    let mut world = World::new();
    let id = world.submit(2, json!({"group": "h100"})).unwrap();
    let refusal = world
        .admin(AdminVerb::DeleteGroup("h100".to_owned()))
        .unwrap_err();
    assert_eq!(refusal.code, "LS-IN-USE");
    assert_eq!(
        refusal.detail,
        "Resource group h100 is used by 1 agent, 1 session."
    );
    let kinds: Vec<String> = refusal
        .in_use
        .unwrap()
        .blockers
        .iter()
        .map(|b| format!("{} {} {}", b.kind, b.name, b.state))
        .collect();
    assert_eq!(
        kinds,
        [
            "agent h100-1 ALIVE".to_owned(),
            format!("session {id} PENDING")
        ]
    );
    assert!(matches!(
        world.admin(AdminVerb::DeleteGroup("gone".to_owned())),
        Ok(AdminObject::Gone)
    ));
    world.admin(create(json!({"name": "empty"}))).unwrap();
    world
        .admin(AdminVerb::DeleteGroup("empty".to_owned()))
        .unwrap();
    assert!(world.state().group_by_ref("empty").is_none());
}

#[test]
fn an_agent_moves_and_what_runs_there_stays() {
    let mut world = World::new();
    let id = world
        .submit(2, json!({"group": "h100", "slots": {"cuda.device": "8"}}))
        .unwrap();
    let waits = world
        .submit(3, json!({"group": "h100", "slots": {"cuda.device": "8"}}))
        .unwrap();
    world.place();
    let target = |group: &str| AdminVerb::MoveAgent {
        agent: "h100-1".to_owned(),
        group: group.to_owned(),
    };
    let told = world.rehearse(target("bare")).unwrap().impact.unwrap();
    assert_eq!((told.sessions.len(), told.counts["kept"]), (1, 1));
    world.admin(target("BARE")).unwrap();
    assert_eq!(
        world.state().agents[&AgentId::new(2)].group,
        GroupId::new(1)
    );
    assert_eq!(world.state().agents[&AgentId::new(2)].version, 2);
    assert_eq!(
        world.state().agents[&AgentId::new(2)].told,
        None,
        "it knows"
    );
    assert_eq!(world.session(id).unwrap().group_name, "h100");
    world.place();
    assert!(world.session(waits).unwrap().containers.is_empty());
    let unknown = world.admin(target("bar")).unwrap_err();
    assert_eq!(
        errors(&unknown),
        (
            "LS-INVALID",
            vec![(
                "/group",
                "There is no resource group bar; did you mean bare?"
            )]
        )
    );
}

#[test]
fn an_agent_that_moves_to_a_group_with_another_lease_is_told() {
    let mut world = World::new();
    world
        .admin(patch("bare", json!({"declare_lost_s": 120})))
        .unwrap();
    let before = world.state().agents[&AgentId::new(2)].clone();
    let target = AdminVerb::MoveAgent {
        agent: "h100-1".to_owned(),
        group: "bare".to_owned(),
    };
    world.admin(target).unwrap();
    let after = &world.state().agents[&AgentId::new(2)];
    let told = after.told.map(|told| told.declare_lost_s);
    assert_eq!((before.told, told), (None, Some(600)), "it may go by that");
    assert_eq!(after.generation, before.generation.next());
    assert_eq!(world.state().declare_lost_s(after), 600);
}

#[test]
fn presets_follow_the_rules_of_submit() {
    let mut world = World::new();
    let create = |members| AdminVerb::CreatePreset(PresetId::new(1), Box::new(from(members)));
    for (slots, code) in [
        (json!({"cuda.devices": "1"}), "LS-SLOT-UNKNOWN"),
        (json!({"cuda.device": "1.5"}), "LS-SLOT-AMOUNT"),
        (json!({"mem": "lots"}), "LS-SLOT-AMOUNT"),
        (json!({"cpu": 4}), "LS-INVALID"),
    ] {
        let refusal = world
            .admin(create(json!({"name": "p", "slots": slots})))
            .unwrap_err();
        assert_eq!(refusal.code, code, "{refusal:?}");
    }
    let made = shown(&world.admin(create(json!({"name": "p", "group": "BARE", "shm": "1.5g", "slots": {"cpu": "4", "mem": "8g"}}))).unwrap());
    assert_eq!(made["slots"], json!({"cpu": "4", "mem": "8589934592"}));
    assert_eq!(
        (&made["shm"], &made["group"]),
        (&json!("1610612736"), &json!("bare"))
    );
    let patch = |members| AdminVerb::PatchPreset("P".to_owned(), Box::new(from(members)));
    let seen = shown(&world.admin(patch(json!({"slots": {"cpu": "2", "mem": null, "cuda.device": "1"}, "shm": null, "group": null}))).unwrap());
    assert_eq!(seen["slots"], json!({"cuda.device": "1", "cpu": "2"}));
    assert!(seen.get("shm").is_none() && seen.get("group").is_none());
    let unknown = world.admin(patch(json!({"group": "gone"}))).unwrap_err();
    assert_eq!(errors(&unknown).1[0].0, "/group");
    let id = world.submit(2, json!({"preset": "p"})).unwrap();
    assert_eq!(
        world
            .session(id)
            .unwrap()
            .slots
            .amount(&super::slot("cuda.device")),
        1000
    );
    assert_eq!(
        world
            .admin_at(Some(1), AdminVerb::DeletePreset("p".to_owned()))
            .unwrap_err()
            .code,
        "LS-VERSION-STALE"
    );
    world
        .admin(AdminVerb::DeletePreset("p".to_owned()))
        .unwrap();
    assert!(world.state().presets.is_empty());
}
