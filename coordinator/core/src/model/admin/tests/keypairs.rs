//! Keypairs: who chooses what of them, and how they end.

use super::super::{AdminVerb, NewKeypairSecrets};
use super::people::more;
use super::{NOW, World, errors, from, shown};
use crate::model::{Change, Event, KeypairState, Role};
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use longshore_identity::Secret;
use serde_json::{Value, json};

const ALICE: UserId = UserId::new(2);

fn patch(key: &str, members: Value) -> AdminVerb {
    AdminVerb::PatchKeypair(key.to_owned(), Box::new(from(members)))
}

fn active(key: &str, active: bool) -> AdminVerb {
    AdminVerb::SetKeypairActive {
        keypair: key.to_owned(),
        active,
    }
}

#[test]
fn ones_own_keypair_is_as_the_main_one() {
    let mut world = World::new();
    world
        .admin(patch("LSalice", json!({"rate_limit": 50})))
        .unwrap();
    let answer = world
        .admin_as(
            2,
            more(
                None,
                "LSown",
                json!({"label": " laptop ", "project": "default"}),
            ),
        )
        .unwrap();
    let seen = shown(&answer.object);
    assert_eq!(
        (&seen["label"], &seen["rate_limit"], &seen["main"]),
        (&json!("laptop"), &json!(50), &json!(false))
    );
    assert_eq!(
        (&seen["project_name"], &seen["created_by"]),
        (&json!("default"), &json!("alice"))
    );
    for members in [json!({"policy": "default"}), json!({"rate_limit": 5})] {
        let refusal = world.admin_as(2, more(None, "LSx", members)).unwrap_err();
        assert_eq!(refusal.code, "LS-FORBIDDEN");
    }
    let refusal = world
        .admin(more(
            Some("alice"),
            "LSx",
            json!({"label": "l".repeat(65), "policy": "gone", "rate_limit": 0, "project": "vision",
                "expires_at": "1970-01-01T00:00:01Z"}),
        ))
        .unwrap_err();
    assert_eq!(
        errors(&refusal).1,
        [
            ("/label", "Label must be at most 64 characters."),
            ("/policy", "There is no keypair policy gone."),
            ("/rate_limit", "rate_limit must be between 1 and 1000000."),
            ("/expires_at", "expires_at must lie in the future."),
            ("/project", "alice is in no project vision."),
        ]
    );
    // One labels one's own; the rest is a superadmin's.
    world
        .admin_as(2, patch("LSown", json!({"label": "desk"})))
        .unwrap();
    assert_eq!(world.state().keypairs["LSown"].label, "desk");
    for members in [
        json!({"label": "x", "policy": "default"}),
        json!({"rate_limit": 9}),
        json!({"expires_at": null}),
    ] {
        let refusal = world.admin_as(2, patch("LSown", members)).unwrap_err();
        assert_eq!(refusal.code, "LS-FORBIDDEN");
    }
    // A stranger's is as one that does not exist.
    for key in ["LSbob", "LSnobody"] {
        let refusal = world.admin_as(2, patch(key, json!({"label": "x"})));
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code, "LS-NOT-FOUND");
        assert_eq!(refusal.detail, format!("There is no keypair {key}."));
    }
}

#[test]
fn a_bound_keypair_is_good_for_its_project_alone() {
    let mut world = World::new();
    let mut bound = world.state().keypairs["LSbob"].clone();
    bound.project = Some(longshore_common::ids::ProjectId::new(2));
    let mut bob = world.state().users[&UserId::new(3)].clone();
    bob.projects.push(crate::model::Membership::manual(
        longshore_common::ids::ProjectId::new(2),
    ));
    world.take(&[Change::Keypair(bound), Change::User(Box::new(bob))]);
    let id = world.submit(3, json!({})).unwrap();
    assert_eq!(world.session(id).unwrap().project_name, "vision");
    let refusal = world.submit(3, json!({"project": "default"})).unwrap_err();
    assert_eq!(
        errors(&refusal).1,
        [("/project", "Keypair LSbob is good for project vision only.")]
    );
    let main = AdminVerb::SetMainKeypair {
        user: "bob".to_owned(),
        keypair: "LSbob".to_owned(),
    };
    assert_eq!(world.admin(main).unwrap_err().code, "LS-KEYPAIR-STATE");
}

#[test]
fn what_is_imported_keeps_rules_and_is_a_superadmins() {
    let mut world = World::new();
    let import = |access: &str, secret: &str| AdminVerb::CreateKeypair {
        secrets: NewKeypairSecrets {
            access_key: access.to_owned(),
            secret_sha256: [1; 32],
            imported: Some(Secret::new(secret.to_owned())),
        },
        request: Box::new(from(json!({ "access_key": access }))),
    };
    let refusal = world.admin(import("short", "aaaa")).unwrap_err();
    let pointers: Vec<&str> = errors(&refusal).1.iter().map(|(at, _)| *at).collect();
    assert_eq!(pointers, ["/access_key", "/secret_key", "/secret_key"]);
    let good = import("AKIAIMPORTED", "0123456789abcdefghijklmnopqrstuvwxyz");
    assert_eq!(
        world.admin_as(2, good.clone()).unwrap_err().code,
        "LS-FORBIDDEN"
    );
    world.admin(good.clone()).unwrap();
    let again = world.admin(good).unwrap_err();
    assert_eq!(
        (again.code, again.detail.as_str()),
        (
            "LS-KEYPAIR-EXISTS",
            "Access key AKIAIMPORTED is already in use."
        )
    );
}

#[test]
fn a_keypair_ends_by_the_first_rule_that_applies() {
    let mut world = World::new();
    world
        .admin(more(Some("alice"), "LSsecond", json!({})))
        .unwrap();
    let delete = |key: &str| AdminVerb::DeleteKeypair(key.to_owned());
    let refused = |world: &mut World, verb| {
        let refusal = world.admin(verb).unwrap_err();
        (refusal.code, refusal.detail)
    };
    assert_eq!(
        refused(&mut world, delete("LSalice")),
        (
            "LS-KEYPAIR-MAIN",
            "This is the main keypair of alice; choose another main keypair first.".to_owned()
        )
    );
    let revoke = |key: &str| AdminVerb::RevokeKeypair(key.to_owned());
    assert_eq!(refused(&mut world, revoke("LSalice")).0, "LS-KEYPAIR-MAIN");
    let busy = world.submit(2, json!({})).unwrap();
    world
        .admin(AdminVerb::SetMainKeypair {
            user: "alice".to_owned(),
            keypair: "LSsecond".to_owned(),
        })
        .unwrap();
    assert_eq!(
        refused(&mut world, delete("LSalice")),
        (
            "LS-KEYPAIR-ACTIVE",
            "Deactivate the keypair before deleting it.".to_owned()
        )
    );
    world.admin(active("LSalice", false)).unwrap();
    assert_eq!(
        refused(&mut world, delete("LSalice")),
        (
            "LS-KEYPAIR-IN-USE",
            format!("The keypair owns 1 live sessions: {busy}.")
        )
    );
    // Revoking asks nothing of sessions, which belong to the user.
    world.admin(revoke("LSalice")).unwrap();
    let gone = &world.state().keypairs["LSalice"];
    assert_eq!(
        (gone.state, gone.secret_sha256),
        (KeypairState::Revoked, None)
    );
    assert!(!world.session(busy).unwrap().state.is_final());
    assert_eq!(world.state().keypairs_of(ALICE).count(), 1);
    assert_eq!(refused(&mut world, revoke("LSalice")).0, "LS-KEYPAIR-STATE");
    assert_eq!(
        refused(&mut world, active("LSalice", true)).0,
        "LS-KEYPAIR-STATE"
    );
    assert_eq!(
        refused(&mut world, more(Some("alice"), "LSalice", json!({}))).0,
        "LS-KEYPAIR-EXISTS"
    );
    world.admin(delete("LSalice")).unwrap(); // gone already
}

#[test]
fn a_rotated_secret_overlaps_as_long_as_was_asked() {
    let mut world = World::new();
    let rotate = |members| AdminVerb::RotateKeypair {
        keypair: "LSalice".to_owned(),
        secret_sha256: [9; 32],
        request: from(members),
    };
    let refusal = world
        .admin(rotate(json!({"overlap_s": 86_401})))
        .unwrap_err();
    assert_eq!(errors(&refusal).1[0].0, "/overlap_s");
    world.admin_as(2, rotate(json!({"overlap_s": 60}))).unwrap();
    let keypair = &world.state().keypairs["LSalice"];
    assert_eq!(keypair.secret_sha256, Some([9; 32]));
    assert_eq!(keypair.previous, Some(([0; 32], NOW.plus_s(60))));
    world.admin(rotate(json!({}))).unwrap();
    assert_eq!(world.state().keypairs["LSalice"].previous, None);
    world.admin(active("LSalice", false)).unwrap();
    assert_eq!(
        world.admin(rotate(json!({}))).unwrap_err().code,
        "LS-KEYPAIR-STATE"
    );
}

#[test]
fn administrators_of_the_domain_switch_keypairs_of_its_users() {
    let mut world = World::new();
    let mut alice = world.state().users[&ALICE].clone();
    alice.role = Role::DomainAdmin;
    world.take(&[Change::User(Box::new(alice))]);
    world.admin_as(2, active("LSbob", false)).unwrap();
    world.admin_as(2, active("LSbob", true)).unwrap();
    assert_eq!(
        world.admin_as(2, active("LSroot", false)).unwrap_err().code,
        "LS-FORBIDDEN"
    );
    // Who was switched off does not switch oneself on again.
    world.admin_as(3, active("LSbob", false)).unwrap();
    assert_eq!(
        world.admin_as(3, active("LSbob", true)).unwrap_err().code,
        "LS-FORBIDDEN"
    );
}

#[test]
fn the_last_use_is_stored_if_it_is_newer() {
    let mut world = World::new();
    let mut used = |at: i64, from: &str| {
        let uses = vec![("LSbob".to_owned(), Timestamp(at), from.to_owned())];
        let event = Event::KeypairsUsed(uses);
        let mut changes = Vec::new();
        let told = world
            .core
            .happen(&event, NOW, &mut changes, &mut Vec::new());
        assert!(told.is_ok());
        (
            changes.len(),
            world.state().keypairs["LSbob"].last_used.clone(),
        )
    };
    assert_eq!(used(5, "a"), (1, Some((Timestamp(5), "a".to_owned()))));
    assert_eq!(used(4, "b"), (0, Some((Timestamp(5), "a".to_owned()))));
}
