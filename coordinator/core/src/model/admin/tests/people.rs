//! Domains, projects, people, keypairs.

use super::super::{AdminObject, AdminOrder, AdminVerb, NewKeypairSecrets, NewUserSecrets};
use super::{LINK, NOW, World, errors, from, shown};
use crate::model::{Answer, Caller, Event, react};
use longshore_common::ids::{DomainId, ProjectId, UserId};
use serde_json::{Value, json};

fn user(key: &str, members: Value) -> AdminVerb {
    AdminVerb::CreateUser {
        secrets: Box::new(drawn(9, key)),
        link: LINK,
        password: None,
        request: Box::new(from(members)),
    }
}

fn drawn(id: u128, key: &str) -> NewUserSecrets {
    NewUserSecrets {
        id: UserId::new(id),
        access_key: key.to_owned(),
        secret_sha256: [7; 32],
    }
}

/// A further keypair of somebody, or of root.
pub(super) fn more(user: Option<&str>, key: &str, mut members: Value) -> AdminVerb {
    if let Some(user) = user {
        members["user"] = json!(user);
    }
    AdminVerb::CreateKeypair {
        secrets: NewKeypairSecrets {
            access_key: key.to_owned(),
            secret_sha256: [1; 32],
            imported: None,
        },
        request: Box::new(from(members)),
    }
}

fn status(name: &str, members: Value) -> AdminVerb {
    AdminVerb::SetUserStatus(name.to_owned(), from(members), LINK)
}

#[test]
fn a_person_is_made_with_a_first_keypair() {
    let mut world = World::new();
    let object = world.admin(user("LSdana", json!({"email": "Dana@lab.example", "projects": ["vision", "default", "VISION"], "weight": "2.5"}))).unwrap();
    let AdminObject::User(view, Some(key)) = &object else {
        panic!("{object:?}")
    };
    assert_eq!(
        (view.username.as_str(), view.uid, view.weight.as_str()),
        ("Dana@lab.example", 20_003, "2.5")
    );
    assert_eq!(
        (view.projects.clone(), view.main_keypair.as_deref()),
        (
            vec!["vision".to_owned(), "default".to_owned()],
            Some("LSdana")
        )
    );
    assert_eq!(
        (key.user_name.as_str(), key.main, key.policy.as_str()),
        ("Dana@lab.example", true, "default")
    );
    assert_eq!(world.state().meta.next_uid, 20_004);
    assert_eq!(
        world.state().keypairs["LSdana"].secret_sha256,
        Some([7; 32])
    );
    let again = world
        .admin(user("LSx", json!({"email": "dana@LAB.example"})))
        .unwrap_err();
    assert_eq!(
        errors(&again),
        (
            "LS-EXISTS",
            vec![(
                "/email",
                "A user with email dana@LAB.example already exists."
            )]
        )
    );
    let login = world
        .admin(user("LSx", json!({"email": "x@y.z", "username": "Alice"})))
        .unwrap_err();
    assert_eq!(
        errors(&login),
        (
            "LS-EXISTS",
            vec![("/username", "A user with username Alice already exists.")]
        )
    );
    let key = world
        .admin(user("LSdana", json!({"email": "x@y.z"})))
        .unwrap_err();
    assert_eq!(key.code, "LS-KEYPAIR-EXISTS");
}

#[test]
fn all_that_is_wrong_with_a_person_is_said_at_once() {
    let mut world = World::new();
    let verb = user(
        "LSx",
        json!({
            "email": "no address", "username": "-x", "role": "king", "projects": ["vision", "gone"],
            "user_policy": "defalt", "keypair_policy": "nothing", "weight": "0", "status": "asleep",
        }),
    );
    let refusal = world.admin(verb).unwrap_err();
    let (code, found) = errors(&refusal);
    assert_eq!(code, "LS-INVALID");
    assert_eq!(
        found,
        [
            ("/email", "Email is not a valid address."),
            (
                "/username",
                "Username may contain only letters, digits and . _ @ + - and must start with a letter or digit."
            ),
            (
                "/role",
                "Role must be superadmin, domain-admin, monitor or user."
            ),
            ("/projects/1", "Project gone is not in domain default."),
            (
                "/user_policy",
                "There is no user policy defalt; did you mean default?"
            ),
            ("/keypair_policy", "There is no keypair policy nothing."),
            (
                "/status",
                "Status must be active, inactive or before-verification."
            ),
            ("/weight", "weight must be between 0.001 and 1000."),
        ]
    );
    let none = world.admin(user("LSx", json!({}))).unwrap_err();
    assert_eq!(errors(&none).1, [("/email", "Email is required.")]);
    let domain = world
        .admin(user("LSx", json!({"email": "x@y.z", "domain": "mars"})))
        .unwrap_err();
    assert_eq!(
        errors(&domain).1,
        [("/domain", "Domain mars does not exist.")]
    );
}

#[test]
fn switching_people_off_keeps_the_flags_of_their_keypairs() {
    let mut world = World::new();
    let waits = world.submit(3, json!({})).unwrap();
    let told = world
        .rehearse(status("bob", json!({"status": "inactive"})))
        .unwrap()
        .impact
        .unwrap();
    assert_eq!(
        (told.sessions[0].effect.as_str(), told.keypairs.len()),
        ("waits", 1)
    );
    world
        .admin(status("bob", json!({"status": "inactive"})))
        .unwrap();
    assert!(world.state().keypairs["LSbob"].is_active());
    world.place();
    assert!(world.session(waits).unwrap().containers.is_empty());
    world
        .admin(status("bob@lab.example", json!({"status": "active"})))
        .unwrap();
    world.place();
    assert!(!world.session(waits).unwrap().containers.is_empty());
    world
        .admin(status(
            "bob",
            json!({"status": "inactive", "deactivate_keypairs": true}),
        ))
        .unwrap();
    world
        .admin(status("bob", json!({"status": "active"})))
        .unwrap();
    assert!(!world.state().keypairs["LSbob"].is_active());
    let itself = world
        .admin(status("root", json!({"status": "inactive"})))
        .unwrap_err();
    assert_eq!(itself.code, "LS-USER-SELF");
    let order = AdminOrder {
        caller: Caller {
            user: UserId::new(2),
            access_key: "LSalice".to_owned(),
        },
        dry_run: false,
        expected_version: None,
        verb: status("root", json!({"status": "inactive"})),
    };
    let last = react(world.state(), &Event::Admin(Box::new(order)), NOW).answer;
    assert_eq!(
        last.map(|a| matches!(a, Answer::Admin(_)))
            .unwrap_err()
            .code,
        "LS-FORBIDDEN"
    );
    let verb = AdminVerb::PatchDomain(
        "default".to_owned(),
        Box::new(from(json!({"active": false}))),
    );
    assert_eq!(world.admin(verb).unwrap_err().code, "LS-LAST-SUPERADMIN");
}

#[test]
fn further_keypairs_and_which_is_main() {
    let mut world = World::new();
    let made = shown(
        &world
            .admin(more(Some("alice"), "LSalice2", json!({})))
            .unwrap(),
    );
    assert_eq!(
        (&made["main"], &made["state"], &made["policy"]),
        (&json!(false), &json!("active"), &json!("default"))
    );
    let main = |key: &str| AdminVerb::SetMainKeypair {
        user: "alice".to_owned(),
        keypair: key.to_owned(),
    };
    let active = |key: &str, active| AdminVerb::SetKeypairActive {
        keypair: key.to_owned(),
        active,
    };
    world.admin(active("LSalice2", false)).unwrap();
    assert_eq!(
        world.admin(active("LSalice2", false)).unwrap_err().code,
        "LS-KEYPAIR-STATE"
    );
    assert_eq!(
        world.admin(main("LSalice2")).unwrap_err().code,
        "LS-KEYPAIR-STATE"
    );
    world.admin(active("LSalice2", true)).unwrap();
    assert_eq!(
        errors(&world.admin(main("LSbob")).unwrap_err()).1[0].0,
        "/access_key"
    );
    let seen = shown(&world.admin(main("LSalice2")).unwrap());
    assert_eq!(seen["main_keypair"], "LSalice2");
    let mains: Vec<&str> = world
        .state()
        .keypairs_of(UserId::new(2))
        .filter(|k| k.main)
        .map(|k| k.access_key.as_str())
        .collect();
    assert_eq!(mains, ["LSalice2"]);
    world.admin(more(None, "LSroot2", json!({}))).unwrap();
    assert_eq!(world.state().keypairs["LSroot2"].user, UserId::new(1));
    assert_eq!(
        world
            .admin(more(None, "LSroot2", json!({})))
            .unwrap_err()
            .code,
        "LS-KEYPAIR-EXISTS"
    );
    assert_eq!(
        world.admin(active("gone", true)).unwrap_err().code,
        "LS-NOT-FOUND"
    );
}

#[test]
fn people_get_another_policy_weight_and_projects() {
    let mut world = World::new();
    let patch = |members| AdminVerb::PatchUser("alice".to_owned(), Box::new(from(members)));
    let seen = shown(
        &world
            .admin(patch(json!({"weight": "1000", "projects": ["vision"]})))
            .unwrap(),
    );
    assert_eq!(
        (&seen["weight"], &seen["projects"]),
        (&json!("1000"), &json!(["vision"]))
    );
    let refusal = world
        .admin(patch(
            json!({"weight": "1000.001", "user_policy": "x", "projects": ["y"]}),
        ))
        .unwrap_err();
    assert_eq!(errors(&refusal).1.len(), 3);
    let seen = shown(&world.admin(patch(json!({"weight": null}))).unwrap());
    assert_eq!(seen["weight"], "1");
}

#[test]
fn domains_and_projects_carry_totals() {
    let mut world = World::new();
    let domain = |members| AdminVerb::CreateDomain(DomainId::new(9), Box::new(from(members)));
    let made = shown(
        &world
            .admin(domain(
                json!({"name": "lab", "total_slots": {"cpu": "100000", "mem": "8p"}}),
            ))
            .unwrap(),
    );
    assert_eq!(
        made["total_slots"],
        json!({"cpu": "100000", "mem": "9007199254740992"})
    );
    assert_eq!(
        world
            .admin(domain(json!({"name": "LAB"})))
            .unwrap_err()
            .code,
        "LS-EXISTS"
    );
    assert_eq!(
        errors(
            &world
                .admin(domain(json!({"name": "b", "total_slots": {"mem": "9p"}})))
                .unwrap_err()
        )
        .1[0]
            .0,
        "/total_slots/mem"
    );
    let project = |members| AdminVerb::CreateProject(ProjectId::new(9), Box::new(from(members)));
    assert_eq!(
        world
            .admin(project(json!({"name": "vision"})))
            .unwrap_err()
            .code,
        "LS-EXISTS"
    );
    world
        .admin(project(json!({"name": "vision", "domain": "lab"})))
        .unwrap();
    let patch =
        |name: &str, members| AdminVerb::PatchProject(name.to_owned(), Box::new(from(members)));
    let twice = world
        .admin(patch("vision", json!({"active": false})))
        .unwrap_err();
    assert_eq!(twice.code, "LS-AMBIGUOUS");
    let id = ProjectId::new(9).to_string();
    let fixed = world
        .admin(patch(&id, json!({"domain": "default"})))
        .unwrap_err();
    assert_eq!(fixed.code, "LS-FIELD-FIXED");
    let seen = shown(
        &world
            .admin(patch(
                &id,
                json!({"domain": "lab", "active": false, "total_slots": {"cpu": "0"}}),
            ))
            .unwrap(),
    );
    assert_eq!(
        (&seen["active"], &seen["total_slots"], &seen["domain_name"]),
        (&json!(false), &json!({"cpu": "0"}), &json!("lab"))
    );
    let waits = world.submit(2, json!({"slots": {"cpu": "2"}})).unwrap();
    let told = world
        .rehearse(patch("default", json!({"total_slots": {"cpu": "1"}})))
        .unwrap()
        .impact
        .unwrap();
    assert_eq!(
        (
            told.sessions[0].id.clone(),
            told.sessions[0].effect.as_str()
        ),
        (waits.to_string(), "waits")
    );
}
