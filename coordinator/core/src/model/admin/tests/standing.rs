//! What a person is and where it belongs: what may be changed, and what goes with it.

use super::super::{AdminObject, AdminVerb, ImportRow, LeftSessions, NewPassword, NewUserSecrets};
use super::people::more;
use super::{LINK, NOW, World, errors, from, keypair, shown};
use crate::model::{
    Change, Invitation, InvitationState, Keypair, KeypairState, LinkPurpose, Login, MemberSource,
    Membership, Role, User, UserGroup, UserStatus,
};
use longshore_common::ids::{
    DomainId, InvitationId, LoginId, ProjectId, SessionId, UserGroupId, UserId,
};
use longshore_common::session::{Reason, SessionState};
use longshore_identity::{Secret, csv};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ALICE: UserId = UserId::new(2);
const BOB: UserId = UserId::new(3);
const VISION: ProjectId = ProjectId::new(2);

fn change(world: &mut World, user: UserId, change: impl FnOnce(&mut User)) {
    let mut changed = world.state().users[&user].clone();
    change(&mut changed);
    world.take(&[Change::User(Box::new(changed))]);
}

fn name() -> String {
    "bob".to_owned()
}

fn status(members: Value) -> AdminVerb {
    AdminVerb::SetUserStatus(name(), from(members), LINK)
}

fn invitation(by: UserId, purpose: LinkPurpose) -> Invitation {
    Invitation {
        id: InvitationId::new(1),
        token_sha256: [1; 32],
        email: "x@lab.example".to_owned(),
        user: None,
        domain: DomainId::new(1),
        projects: Vec::new(),
        groups: Vec::new(),
        user_policy: "default".to_owned(),
        by,
        created_at: NOW,
        expires_at: NOW.plus_s(60),
        state: InvitationState::Pending,
        purpose,
    }
}

/// bob with one running and one waiting session.
fn at_work() -> (World, SessionId, SessionId) {
    let mut world = World::new();
    let runs = world.submit(3, json!({})).unwrap();
    world.place();
    let waits = world.submit(3, json!({})).unwrap();
    (world, runs, waits)
}

#[test]
fn the_example_of_a_person_that_is_wrong_in_three_ways() {
    let mut world = World::new();
    let verb = |password: &str| AdminVerb::CreateUser {
        secrets: Box::new(NewUserSecrets {
            id: UserId::new(9),
            access_key: "LSx".to_owned(),
            secret_sha256: [7; 32],
        }),
        link: LINK,
        password: Some(NewPassword {
            text: Secret::new(password.to_owned()),
            phc: "hash".to_owned(),
        }),
        request: Box::new(from(json!({"email": "BOB@lab.example"}))),
    };
    let refusal = world.admin(verb("abc")).unwrap_err();
    let found = errors(&refusal);
    assert_eq!(found.0, "LS-INVALID");
    assert_eq!(
        found.1,
        [
            ("/password", "Password must have at least 8 characters."),
            ("/password", "Password must contain a digit."),
            ("/password", "Password must contain a special character."),
        ]
    );
    let refusal = world.admin(verb("abcdef1!")).unwrap_err();
    assert_eq!(
        errors(&refusal),
        (
            "LS-EXISTS",
            vec![(
                "/email",
                "A user with email BOB@lab.example already exists."
            )]
        )
    );
    change(&mut world, BOB, |bob| {
        bob.email = "b@lab.example".to_owned();
    });
    let object = world.admin(verb("abcdef1!")).unwrap();
    assert_eq!(shown(&object)["has_password"], true);
    assert!(!shown(&object).to_string().contains("hash"));
    // A login name of one is no address of another.
    let refusal = world
        .admin(AdminVerb::PatchUser(
            name(),
            Box::new(from(json!({"username": "alice@LAB.example"}))),
        ))
        .unwrap_err();
    assert_eq!(
        errors(&refusal).1[0].1,
        "alice@LAB.example is already a login name of another user."
    );
}

#[test]
fn a_person_is_called_otherwise_but_keeps_its_address() {
    let mut world = World::new();
    let patch = |members| AdminVerb::PatchUser(name(), Box::new(from(members)));
    let seen = shown(
        &world
            .admin(patch(json!({
                "email": "bob@lab.example", "username": " robert ", "full_name": "Bob B", "description": "x",
            })))
            .unwrap(),
    );
    assert_eq!(
        (&seen["username"], &seen["full_name"], &seen["version"]),
        (&json!("robert"), &json!("Bob B"), &json!(2))
    );
    let patch = |members| AdminVerb::PatchUser("robert".to_owned(), Box::new(from(members)));
    let refusal = world
        .admin(patch(
            json!({"email": "Bob@lab.example", "description": "d".repeat(501)}),
        ))
        .unwrap_err();
    assert_eq!(
        errors(&refusal),
        (
            "LS-FIELD-FIXED",
            vec![
                ("/email", "Email cannot be changed."),
                (
                    "/description",
                    "Description must be at most 500 characters."
                ),
            ]
        )
    );
    let stale = world.admin_at(Some(1), patch(json!({"full_name": "B"})));
    assert_eq!(stale.unwrap_err().code, "LS-VERSION-STALE");
    // Empty is what may be empty; who calls itself alice is not.
    let seen = shown(&world.admin(patch(json!({"full_name": null}))).unwrap());
    assert_eq!(seen["full_name"], "");
    let taken = world
        .admin(patch(json!({"username": "ALICE"})))
        .unwrap_err();
    assert_eq!(taken.code, "LS-EXISTS");
}

#[test]
fn deactivation_ends_what_the_person_left_open() {
    let (mut world, runs, waits) = at_work();
    world.take(&[
        Change::Login(Login {
            id: LoginId::new(1),
            token_sha256: [1; 32],
            user: BOB,
            via: "password".to_owned(),
            client: "cli".to_owned(),
            from: String::new(),
            created_at: NOW,
            last_used_at: NOW,
        }),
        Change::Invitation(Box::new(invitation(BOB, LinkPurpose::Invitation))),
    ]);
    let told = world
        .rehearse(status(json!({"status": "inactive"})))
        .unwrap();
    let touched = told.touched.unwrap();
    assert_eq!(
        (
            touched.keypairs,
            touched.sessions,
            touched.logins,
            touched.invitations
        ),
        (1, 1, 1, 1)
    );
    assert_eq!(told.impact.unwrap().counts["sessions"], 2);
    world.admin(status(json!({"status": "inactive"}))).unwrap();
    assert!(world.state().logins.is_empty());
    let withdrawn = world.state().invitations[&InvitationId::new(1)].state;
    assert_eq!(withdrawn, InvitationState::Withdrawn);
    assert!(!world.session(runs).unwrap().state.is_final());
    assert_eq!(world.session(waits).unwrap().state, SessionState::Pending);
    // Later, with the sessions.
    world
        .admin(status(json!({"status": "inactive", "sessions": "stop"})))
        .unwrap();
    let ends = world.session(runs).unwrap();
    assert_eq!(
        (ends.state, ends.reason),
        (SessionState::Terminating, Some(Reason::OwnerInactive))
    );
    // What is final and holds nothing is forgotten by memory.
    assert!(world.session(waits).is_none());
    let refusal = world.admin(status(json!({"status": "active", "sessions": "burn"})));
    assert_eq!(errors(&refusal.unwrap_err()).1[0].0, "/sessions");
}

#[test]
fn who_is_not_proven_gets_a_link_and_can_do_nothing() {
    let mut world = World::new();
    let verb = AdminVerb::CreateUser {
        secrets: Box::new(NewUserSecrets {
            id: UserId::new(9),
            access_key: "LSx".to_owned(),
            secret_sha256: [7; 32],
        }),
        link: LINK,
        password: None,
        request: Box::new(from(
            json!({"email": "x@lab.example", "status": "before-verification"}),
        )),
    };
    world.admin(verb).unwrap();
    let link = &world.state().invitations[&InvitationId::new(9)];
    assert_eq!(
        (link.purpose, link.token_sha256, link.email.as_str()),
        (LinkPurpose::Verification, [8; 32], "x@lab.example")
    );
    let user = &world.state().users[&UserId::new(9)];
    assert_eq!(user.status, UserStatus::BeforeVerification);
}

#[test]
fn roles_change_but_never_the_own_one() {
    let mut world = World::new();
    let role =
        |name: &str, to: &str| AdminVerb::SetUserRole(name.to_owned(), from(json!({ "role": to })));
    let own = world.admin(role("root", "user")).unwrap_err();
    assert_eq!(
        (own.code, own.detail.as_str()),
        ("LS-ROLE-SELF", "You cannot change your own role.")
    );
    let unknown = world.admin(role("bob", "king")).unwrap_err();
    assert_eq!(
        errors(&unknown).1,
        [(
            "/role",
            "Role must be superadmin, domain-admin, monitor or user."
        )]
    );
    assert_eq!(
        shown(&world.admin(role("bob", "Superadmin")).unwrap())["role"],
        "superadmin"
    );
    // root acts last: nobody is left whose role could be taken.
    change(&mut world, BOB, |bob| bob.status = UserStatus::Inactive);
    change(&mut world, ALICE, |alice| alice.role = Role::Superadmin);
    change(&mut world, UserId::new(1), |root| {
        root.domain = DomainId::new(2);
    });
    world.admin(role("alice", "user")).unwrap();
}

#[test]
fn a_project_without_a_domain_is_made_at_home() {
    let mut world = World::new();
    let make =
        |id: u128, members| AdminVerb::CreateProject(ProjectId::new(id), Box::new(from(members)));
    change(&mut world, ALICE, |alice| {
        alice.role = Role::DomainAdmin;
        alice.domain = DomainId::new(2);
        alice.projects.clear();
    });
    for (id, members) in [
        (9, json!({"name": "chem"})),
        (10, json!({"name": "bio", "domain": null})),
    ] {
        let made = world.admin_as(2, make(id, members)).unwrap();
        assert_eq!(shown(&made.object)["domain_name"], "other");
    }
    let away = make(11, json!({"name": "phys", "domain": "default"}));
    assert_eq!(world.admin_as(2, away).unwrap_err().code, "LS-NOT-FOUND");
    let made = world.admin(make(12, json!({"name": "phys"}))).unwrap();
    assert_eq!(shown(&made)["domain_name"], "default");
}

#[test]
fn a_domain_admin_acts_on_users_and_monitors_of_its_domain() {
    let mut world = World::new();
    change(&mut world, ALICE, |alice| alice.role = Role::DomainAdmin);
    let rename = |name: &str| {
        AdminVerb::PatchUser(name.to_owned(), Box::new(from(json!({"full_name": "X"}))))
    };
    world.admin_as(2, rename("bob")).unwrap();
    let policy = AdminVerb::PatchUser(name(), Box::new(from(json!({"weight": "2"}))));
    assert_eq!(world.admin_as(2, policy).unwrap_err().code, "LS-FORBIDDEN");
    assert_eq!(
        world.admin_as(2, rename("root")).unwrap_err().code,
        "LS-FORBIDDEN"
    );
    let ask = AdminVerb::RequirePasswordChange(name(), from(json!({"need_password_change": true})));
    let answer = world.admin_as(2, ask).unwrap();
    assert_eq!(shown(&answer.object)["need_password_change"], true);
    let sudo = AdminVerb::SetUserSudo(name(), from(json!({"sudo_enabled": true})));
    assert_eq!(
        world.admin_as(2, sudo.clone()).unwrap_err().code,
        "LS-FORBIDDEN"
    );
    assert_eq!(shown(&world.admin(sudo).unwrap())["sudo_enabled"], true);
    // Of another domain nobody is there.
    change(&mut world, BOB, |bob| bob.domain = DomainId::new(2));
    assert_eq!(
        world.admin_as(2, rename("bob")).unwrap_err().code,
        "LS-NOT-FOUND"
    );
}

#[test]
fn moving_to_another_domain_leaves_everything_of_the_old_one() {
    let mut world = World::new();
    let group = |id: u128, domain: Option<DomainId>| {
        Change::UserGroup(UserGroup {
            id: UserGroupId::new(id),
            version: 1,
            name: format!("g{id}"),
            description: String::new(),
            domain,
            builtin: None,
            members: BTreeMap::from([(BOB, BTreeSet::from([MemberSource::Manual]))]),
            created_at: NOW,
        })
    };
    world.take(&[
        group(10, Some(DomainId::new(1))),
        group(11, None),
        Change::Keypair(Keypair {
            project: Some(ProjectId::new(1)),
            ..keypair(3, "LSbound", false)
        }),
    ]);
    let busy = world.submit(3, json!({})).unwrap();
    let to = |domain: &str| AdminVerb::SetUserDomain(name(), from(json!({ "domain": domain })));
    let refusal = world.admin(to("other")).unwrap_err();
    assert_eq!(refusal.code, "LS-USER-LIVE-SESSIONS");
    world
        .admin(status(json!({"status": "inactive", "sessions": "stop"})))
        .unwrap();
    assert!(world.session(busy).is_none());
    assert_eq!(
        errors(&world.admin(to("mars")).unwrap_err()).1[0].1,
        "Domain mars does not exist."
    );
    let seen = shown(&world.admin(to("other")).unwrap());
    assert_eq!(
        (&seen["domain_name"], &seen["projects"]),
        (&json!("other"), &json!([]))
    );
    let groups: Vec<&str> = world
        .state()
        .groups_of(BOB)
        .map(|g| g.name.as_str())
        .collect();
    assert_eq!(groups, ["g11"]);
    assert_eq!(
        world.state().keypairs["LSbound"].state,
        KeypairState::Revoked
    );
    assert!(world.state().keypairs["LSbob"].is_active());
}

fn put(user: &str, members: Value) -> AdminVerb {
    AdminVerb::PutMember {
        project: "vision".to_owned(),
        user: user.to_owned(),
        request: from(members),
    }
}

#[test]
fn members_come_and_go_and_their_things_go_with_them() {
    let mut world = World::new();
    world.admin(put("bob", json!({"admin": true}))).unwrap();
    // Its administrator takes others in, but says nothing of people elsewhere.
    let answer = world.admin_as(3, put("alice", json!({}))).unwrap();
    assert_eq!(shown(&answer.object)["admin"], false);
    change(&mut world, ALICE, |alice| {
        alice.projects.push(Membership::manual(VISION));
        alice.projects.dedup();
    });
    let elsewhere = AdminVerb::PutMember {
        project: "default".to_owned(),
        user: "alice".to_owned(),
        request: from(json!({})),
    };
    assert!(world.admin_as(3, elsewhere).is_err());
    let bound = more(Some("alice"), "LSbound", json!({"project": "vision"}));
    world.admin(bound).unwrap();
    let ids: Vec<SessionId> = ["vision", "vision", "default"]
        .map(|project| world.submit(2, json!({ "project": project })).unwrap())
        .to_vec();
    let remove = |user: &str, sessions| AdminVerb::RemoveMember {
        project: "vision".to_owned(),
        user: user.to_owned(),
        sessions,
    };
    let answer = world
        .admin_as(3, remove("alice", LeftSessions::Keep))
        .unwrap();
    let touched = answer.touched.unwrap();
    assert_eq!((touched.keypairs, touched.sessions), (1, 2));
    let waits: Vec<bool> = ids.iter().map(|id| world.session(*id).is_some()).collect();
    assert_eq!(waits, [false, false, true]);
    let bound = &world.state().keypairs["LSbound"];
    assert_eq!(
        (bound.state, bound.secret_sha256),
        (KeypairState::Revoked, None)
    );
    // The last administrator stays.
    let leave = AdminVerb::LeaveProject {
        project: "vision".to_owned(),
        sessions: LeftSessions::Stop,
    };
    let own = world.admin_as(3, leave.clone()).unwrap_err();
    assert_eq!(
        (own.code, own.detail.as_str()),
        (
            "LS-LAST-ADMIN",
            "You are the last administrator of project vision; name another one first."
        )
    );
    let other = world.admin(remove("bob", LeftSessions::Stop)).unwrap_err();
    assert_eq!(
        other.detail,
        "bob is the last administrator of project vision; name another one first."
    );
    world.admin(put("root", json!({"admin": true}))).unwrap();
    world.admin_as(3, leave.clone()).unwrap();
    // Who is no member leaves nothing.
    assert!(world.admin_as(3, leave).is_err());
}

#[test]
fn running_sessions_go_on_if_they_are_kept() {
    let mut world = World::new();
    world.admin(put("bob", json!({}))).unwrap();
    let runs = world.submit(3, json!({"project": "vision"})).unwrap();
    world.place();
    let drop = |sessions| AdminVerb::RemoveMember {
        project: "vision".to_owned(),
        user: name(),
        sessions,
    };
    let before = world.session(runs).unwrap().state;
    world.admin(drop(LeftSessions::Keep)).unwrap();
    assert_eq!(world.session(runs).unwrap().state, before);
    world.admin(put("bob", json!({}))).unwrap();
    let told = world.rehearse(drop(LeftSessions::Stop)).unwrap();
    let impact = told.impact.unwrap();
    assert_eq!(impact.sessions[0].effect, "stopped");
    assert_eq!((impact.sessions.len(), impact.keypairs.len()), (1, 0));
    world.admin(drop(LeftSessions::Stop)).unwrap();
    let ends = world.session(runs).unwrap();
    assert_eq!(
        (ends.state, ends.reason),
        (SessionState::Terminating, Some(Reason::MembershipRemoved))
    );
}

fn rows(text: &str) -> Vec<ImportRow> {
    let rows = csv::parse(text.as_bytes()).unwrap();
    let drawn = |row: csv::Row| ImportRow {
        secrets: NewUserSecrets {
            id: UserId::new(100 + u128::from(row.row)),
            access_key: format!("LSrow{}", row.row),
            secret_sha256: [7; 32],
        },
        password: "hash".to_owned(),
        row,
    };
    rows.into_iter().map(drawn).collect()
}

#[test]
fn a_row_of_a_table_is_told_everything_at_once() {
    let mut world = World::new();
    let text = "email,username,role,projects,user_policy\n\
        bob@lab.example,ro ot,boss,vision;gone,none\n\
        new@lab.example,bob,,gone,\n";
    let verb = AdminVerb::ImportUsers {
        rows: rows(text),
        partial: true,
    };
    let AdminObject::Imported(answer) = world.admin(verb).unwrap() else {
        panic!("another object")
    };
    let told: Vec<Vec<&str>> = answer
        .rows
        .iter()
        .map(|row| row.errors.iter().map(|e| e.pointer.as_str()).collect())
        .collect();
    assert_eq!(
        told,
        [
            vec![
                "/username",
                "/role",
                "/projects/1",
                "/user_policy",
                "/email"
            ],
            vec!["/projects/0", "/username"],
        ]
    );
}

#[test]
fn a_table_makes_all_or_nobody_unless_it_may_be_part() {
    let mut world = World::new();
    let text = "email,projects,sudo_enabled\nx@lab.example,vision;default,true\nbob@lab.example,,\ny@lab.example,gone,\n";
    let import = |partial| AdminVerb::ImportUsers {
        rows: rows(text),
        partial,
    };
    let refusal = world.admin(import(false)).unwrap_err();
    assert_eq!(
        errors(&refusal),
        (
            "LS-INVALID",
            vec![
                (
                    "/3/email",
                    "Row 3: A user with email bob@lab.example already exists."
                ),
                (
                    "/4/projects/0",
                    "Row 4: Project gone is not in domain default."
                ),
            ]
        )
    );
    let AdminObject::Imported(answer) = world.admin(import(true)).unwrap() else {
        panic!("another object")
    };
    assert_eq!((answer.created, answer.refused), (1, 2));
    let made = &world.state().users[&UserId::new(102)];
    assert!(made.need_password_change && made.sudo_enabled);
    assert_eq!(
        (made.uid, made.projects.len(), made.password.as_deref()),
        (20_003, 2, Some("hash"))
    );
    assert_eq!(world.state().meta.next_uid, 20_004);
    assert_eq!(world.state().keypairs["LSrow2"].created_by, "root");
}
