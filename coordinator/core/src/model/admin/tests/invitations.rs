//! Who may ask whom to join, and what a link does.

use super::super::{
    Accept, AccountVerb, AdminObject, AdminVerb, Chosen, DrawnLink, NewPassword, NewUserSecrets,
};
use super::{LINK, NOW, World, errors, from};
use crate::model::logins::{LoginEvent, NewLink, ResetByLink};
use crate::model::{
    Answer, Change, Event, InvitationState, LinkPurpose, MemberSource, Membership, PeopleSettings,
    Refusal, Role, UserGroup, UserStatus,
};
use longshore_common::admin::Member;
use longshore_common::ids::{DomainId, InvitationId, ProjectId, UserGroupId, UserId};
use longshore_common::time::Timestamp;
use longshore_identity::Secret;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ALICE: UserId = UserId::new(2);
const BOB: UserId = UserId::new(3);
const NEW: UserId = UserId::new(50);

/// The link of a number; its token is the number too.
fn link(n: u8) -> DrawnLink {
    DrawnLink {
        id: InvitationId::new(u128::from(n)),
        token_sha256: [n; 32],
        ..LINK
    }
}

fn invite(n: u8, members: Value) -> AdminVerb {
    AdminVerb::Invite(Box::new(from(members)), link(n))
}

fn accept(n: u8) -> Accept {
    Accept {
        token_sha256: [n; 32],
        caller: None,
        dry_run: false,
        secrets: NewUserSecrets {
            id: NEW,
            access_key: "LSnew".to_owned(),
            secret_sha256: [7; 32],
        },
        chosen: Chosen::default(),
        at: NOW,
    }
}

fn password(text: &str) -> Option<NewPassword> {
    Some(NewPassword {
        text: Secret::new(text.to_owned()),
        phc: "hash".to_owned(),
    })
}

impl World {
    fn log_in_event(&mut self, event: LoginEvent) -> Result<Answer, Refusal> {
        let event = Event::Login(Box::new(event));
        let answer = self
            .core
            .happen(&event, NOW, &mut Vec::new(), &mut Vec::new());
        self.state().check().unwrap();
        answer
    }

    fn accept(&mut self, order: Accept) -> Result<AdminObject, Refusal> {
        match self.log_in_event(LoginEvent::Accept(Box::new(order)))? {
            Answer::Admin(answer) => Ok(answer.object),
            other => panic!("{other:?}"),
        }
    }

    fn became(&self, n: u8) -> InvitationState {
        self.state().invitations[&InvitationId::new(u128::from(n))].state
    }

    fn person(&mut self, id: UserId, change: impl FnOnce(&mut crate::model::User)) {
        let mut user = self.state().users[&id].clone();
        change(&mut user);
        self.take(&[Change::User(Box::new(user))]);
    }

    /// A group of the domain, with nobody in it.
    fn has_team(&mut self) {
        let group = UserGroup {
            id: UserGroupId::new(9),
            version: 1,
            name: "team".to_owned(),
            description: String::new(),
            domain: Some(DomainId::new(1)),
            builtin: None,
            members: BTreeMap::new(),
            created_at: NOW,
        };
        self.take(&[Change::UserGroup(group)]);
    }

    /// alice administers the project vision, bob the domain.
    fn administered() -> Self {
        let mut world = Self::new();
        world.person(ALICE, |alice| {
            alice.projects.push(Membership {
                admin: true,
                ..Membership::manual(ProjectId::new(2))
            });
        });
        world.person(BOB, |bob| bob.role = Role::DomainAdmin);
        world
    }
}

#[test]
fn a_new_person_is_made_once() {
    let mut world = World::new();
    world.has_team();
    let body = json!({"email": "Dana@lab.example", "projects": ["vision"], "groups": ["team"]});
    world.admin(invite(1, body)).unwrap();
    let mut order = accept(1);
    let refusal = world.accept(order.clone()).unwrap_err();
    assert_eq!(
        errors(&refusal),
        ("LS-INVALID", vec![("/password", "Password is required.")])
    );
    order.chosen = Chosen {
        username: Member::Value("Bob".to_owned()),
        full_name: Member::Value("Dana D".to_owned()),
        password: password("abcdef1!"),
        password_is_wrong: false,
    };
    let refusal = world.accept(order.clone()).unwrap_err();
    assert_eq!(errors(&refusal).0, "LS-EXISTS");
    order.chosen.username = Member::Value("dana".to_owned());
    let rehearsal = Accept {
        dry_run: true,
        ..order.clone()
    };
    world.accept(rehearsal).unwrap();
    assert_eq!(world.became(1), InvitationState::Pending);
    let object = world.accept(order.clone()).unwrap();
    assert!(
        matches!(object, AdminObject::User(_, Some(_))),
        "{object:?}"
    );
    let dana = &world.state().users[&NEW];
    assert_eq!(
        (dana.username.as_str(), dana.email.as_str(), dana.uid),
        ("dana", "Dana@lab.example", 20_003)
    );
    assert!(dana.is_active() && dana.password.as_deref() == Some("hash"));
    assert_eq!(
        dana.projects,
        [Membership {
            source: MemberSource::Invitation,
            ..Membership::manual(ProjectId::new(2))
        }]
    );
    assert_eq!(
        world.state().user_groups[&UserGroupId::new(9)].members[&NEW],
        BTreeSet::from([MemberSource::Manual])
    );
    assert_eq!(world.state().keypairs["LSnew"].created_by, "dana");
    // Of two at the same moment one wins.
    order.secrets.id = UserId::new(51);
    assert_eq!(world.accept(order).unwrap_err().code, "LS-INVITATION-GONE");
}

#[test]
fn used_withdrawn_expired_and_unknown_tokens_are_one() {
    let mut world = World::new();
    let body = |email: &str| json!({ "email": email });
    world.admin(invite(1, body("a@lab.example"))).unwrap();
    // The same address again takes the first one back.
    world.admin(invite(2, body("A@lab.example"))).unwrap();
    assert_eq!(world.became(1), InvitationState::Withdrawn);
    world.admin(invite(3, body("b@lab.example"))).unwrap();
    let id = InvitationId::new(3).to_string();
    world
        .admin(AdminVerb::WithdrawInvitation(id.clone()))
        .unwrap();
    world.admin(AdminVerb::WithdrawInvitation(id)).unwrap();
    let good = Accept {
        chosen: Chosen {
            password: password("abcdef1!"),
            ..Chosen::default()
        },
        ..accept(2)
    };
    let late = Accept {
        at: NOW.plus_s(604_800),
        ..good.clone()
    };
    let mut told = Vec::new();
    for order in [
        late,
        Accept {
            token_sha256: [1; 32],
            ..good.clone()
        },
        Accept {
            token_sha256: [3; 32],
            ..good.clone()
        },
        Accept {
            token_sha256: [77; 32],
            ..good.clone()
        },
    ] {
        told.push(world.accept(order).unwrap_err());
    }
    world.accept(good.clone()).unwrap();
    told.push(world.accept(good).unwrap_err());
    assert!(told.iter().all(|refusal| *refusal == told[0]), "{told:?}");
    assert_eq!(told[0].code, "LS-INVITATION-GONE");
    let accepted = AdminVerb::WithdrawInvitation(InvitationId::new(2).to_string());
    assert_eq!(world.admin(accepted).unwrap_err().code, "LS-STATE");
}

#[test]
fn what_is_wrong_with_an_invitation_is_said_at_once() {
    let mut world = World::new();
    let body = json!({
        "email": "no address", "domain": "default", "projects": ["vision", "gone"],
        "groups": ["users", "none"], "user_policy": "none", "expires_in_s": 2_592_001,
    });
    let refusal = world.admin(invite(1, body)).unwrap_err();
    let places: Vec<&str> = errors(&refusal).1.into_iter().map(|(at, _)| at).collect();
    assert_eq!(
        places,
        [
            "/email",
            "/projects/1",
            "/groups/0",
            "/groups/1",
            "/user_policy",
            "/expires_in_s"
        ]
    );
    for (body, code) in [
        (json!({}), "LS-INVALID"),
        (json!({"email": "bob@lab.example"}), "LS-EXISTS"),
        (
            json!({"email": "x@lab.example", "domain": "none"}),
            "LS-INVALID",
        ),
        (
            json!({"email": "bob@lab.example", "projects": ["vision"], "domain": "other"}),
            "LS-INVALID",
        ),
        (
            json!({"email": "bob@lab.example", "projects": ["vision"], "user_policy": "default"}),
            "LS-INVALID",
        ),
    ] {
        let refusal = world.admin(invite(1, body.clone())).unwrap_err();
        assert_eq!(refusal.code, code, "{body}");
    }
}

#[test]
fn a_user_joins_projects_of_those_who_administer_them() {
    let mut world = World::administered();
    let bob = |projects: Value| json!({"email": "bob@lab.example", "projects": projects});
    // Not a new person, not another project, not one that is not there.
    let new = json!({"email": "new@lab.example", "projects": ["vision"]});
    for (who, body, code) in [
        (2, new.clone(), "LS-FORBIDDEN"),
        (3, new, "LS-FORBIDDEN"),
        (2, bob(json!(["default"])), "LS-FORBIDDEN"),
        (2, bob(json!(["vision", "none"])), "LS-INVALID"),
        (2, bob(json!([])), "LS-EXISTS"),
    ] {
        let refusal = world.admin_as(who, invite(1, body.clone())).unwrap_err();
        assert_eq!(refusal.code, code, "{who} {body}");
    }
    // Of an account in another domain nobody learns.
    world.person(BOB, |bob| bob.domain = DomainId::new(2));
    let refusal = world
        .admin_as(2, invite(1, bob(json!(["vision"]))))
        .unwrap_err();
    assert_eq!(refusal.code, "LS-FORBIDDEN");
    world.person(BOB, |bob| bob.domain = DomainId::new(1));

    world
        .admin_as(2, invite(1, bob(json!(["vision"]))))
        .unwrap();
    let order = accept(1);
    let mut codes = Vec::new();
    for caller in [None, Some(ALICE)] {
        let order = Accept {
            caller,
            ..order.clone()
        };
        codes.push(world.accept(order).unwrap_err().code);
    }
    assert_eq!(codes, ["LS-AUTH-REQUIRED", "LS-INVITATION-OTHER"]);
    let mut order = Accept {
        caller: Some(BOB),
        ..order
    };
    order.chosen.password = password("abcdef1!");
    assert_eq!(world.accept(order.clone()).unwrap_err().code, "LS-INVALID");
    order.chosen.password = None;
    world.accept(order).unwrap();
    let rows = &world.state().users[&BOB].projects;
    assert_eq!(
        rows.last().map(|row| &row.source),
        Some(&MemberSource::Invitation)
    );
    assert!(world.state().users[&BOB].is_member(ProjectId::new(2)));
}

#[test]
fn what_the_inviter_lost_is_not_given_on() {
    let mut world = World::administered();
    world.has_team();
    let to_vision = json!({"email": "bob@lab.example", "projects": ["vision"]});
    world.admin_as(2, invite(1, to_vision)).unwrap();
    let to_team = json!({"email": "alice@lab.example", "projects": ["vision"], "groups": ["team"]});
    world.admin_as(3, invite(2, to_team)).unwrap();
    let by = |n, caller| Accept {
        caller: Some(caller),
        dry_run: true,
        ..accept(n)
    };
    world.accept(by(1, BOB)).unwrap();
    world.accept(by(2, ALICE)).unwrap();
    // Neither administers anything any more, and both are active as before.
    world.person(ALICE, |alice| {
        alice.projects.last_mut().unwrap().admin = false
    });
    world.person(BOB, |bob| bob.role = Role::User);
    for order in [by(1, BOB), by(2, ALICE)] {
        assert_eq!(world.accept(order).unwrap_err().code, "LS-INVITATION-GONE");
    }
    // The projects are bob's again; whom the group takes in is not.
    world.person(BOB, |bob| {
        bob.projects.push(Membership {
            admin: true,
            ..Membership::manual(ProjectId::new(2))
        });
    });
    assert!(world.accept(by(2, ALICE)).is_err());
    world.person(BOB, |bob| bob.role = Role::DomainAdmin);
    world.accept(by(2, ALICE)).unwrap();
}

#[test]
fn who_goes_takes_back_what_was_sent() {
    let mut world = World::administered();
    let body = json!({"email": "bob@lab.example", "projects": ["vision"]});
    world.admin_as(2, invite(1, body)).unwrap();
    let hidden = AdminVerb::WithdrawInvitation(InvitationId::new(1).to_string());
    let never = AdminVerb::WithdrawInvitation(InvitationId::new(2).to_string());
    // A member of other projects cannot even ask; who may ask learns nothing.
    world.person(BOB, |bob| {
        bob.role = Role::User;
        bob.projects[0].admin = true;
    });
    for verb in [hidden, never] {
        assert_eq!(world.admin_as(3, verb).unwrap_err().code, "LS-NOT-FOUND");
    }
    let verb = AdminVerb::SetUserStatus(
        "alice".to_owned(),
        from(json!({"status": "inactive"})),
        link(2),
    );
    world.admin(verb).unwrap();
    assert_eq!(world.became(1), InvitationState::Withdrawn);
}

#[test]
fn an_address_is_proven_by_its_newest_link() {
    let mut world = World::new();
    let status = |word: &str, n: u8| {
        AdminVerb::SetUserStatus("bob".to_owned(), from(json!({ "status": word })), link(n))
    };
    world.admin(status("before-verification", 1)).unwrap();
    world.admin(status("before-verification", 2)).unwrap();
    assert_eq!(
        world.accept(accept(1)).unwrap_err().code,
        "LS-INVITATION-GONE"
    );
    let mut order = accept(2);
    order.chosen.password = password("abc");
    assert_eq!(errors(&world.accept(order.clone()).unwrap_err()).1.len(), 3);
    order.chosen.password = password("abcdef1!");
    world.accept(order.clone()).unwrap();
    let bob = &world.state().users[&BOB];
    assert_eq!(
        (bob.status, bob.password.as_deref()),
        (UserStatus::Active, Some("hash"))
    );
    // A link from before says nothing about somebody who was switched off since.
    world.admin(status("before-verification", 3)).unwrap();
    world.admin(status("inactive", 4)).unwrap();
    let refused = world.accept(accept(3)).unwrap_err().code;
    assert_eq!(refused, "LS-INVITATION-GONE");
}

#[test]
fn three_links_in_an_hour_are_enough() {
    let mut world = World::new();
    let mut want = |email: &str, n: u8, at: Timestamp| {
        let link = NewLink {
            id: InvitationId::new(u128::from(n)),
            token_sha256: [n; 32],
            at,
            expires_at: at.plus_s(3600),
        };
        let email = email.to_owned();
        let event = LoginEvent::WantReset { email, link };
        world.log_in_event(event).unwrap();
        let links = world.state().invitations.values();
        links
            .filter(|link| link.is_open(at))
            .map(|link| link.id)
            .collect::<Vec<_>>()
    };
    let id = |n| vec![InvitationId::new(n)];
    assert_eq!(want("nobody@lab.example", 1, NOW), []);
    assert_eq!(want("bob", 1, NOW), [], "a login name is no address");
    assert_eq!(want(" BOB@lab.example ", 1, NOW), id(1));
    // Each voids the one before.
    assert_eq!(want("bob@lab.example", 2, NOW), id(2));
    assert_eq!(want("bob@lab.example", 3, NOW), id(3));
    let soon = NOW.plus_s(3599);
    assert_eq!(want("bob@lab.example", 4, soon), id(3));
    assert_eq!(want("alice@lab.example", 5, soon), [id(3), id(5)].concat());
    assert_eq!(
        want("bob@lab.example", 6, NOW.plus_s(3600)),
        [id(5), id(6)].concat()
    );
    // Deactivation voids it too.
    let off = json!({"status": "inactive"});
    world
        .admin(AdminVerb::SetUserStatus(
            "bob".to_owned(),
            from(off),
            link(7),
        ))
        .unwrap();
    let on = json!({"status": "active"});
    world
        .admin(AdminVerb::SetUserStatus(
            "bob".to_owned(),
            from(on),
            link(7),
        ))
        .unwrap();
    let reset = ResetByLink {
        token_sha256: [6; 32],
        hash: "new".to_owned(),
        at: NOW.plus_s(3600),
    };
    let told = world.log_in_event(LoginEvent::Reset(reset));
    let open = world.state().invitations[&InvitationId::new(6)].clone();
    assert_eq!(
        (open.purpose, told.is_ok()),
        (LinkPurpose::Reset, false),
        "{open:?}"
    );
}

#[test]
fn who_was_removed_comes_back_by_a_new_invitation_only() {
    let mut world = World::administered();
    let bob = |projects: Value| {
        AdminVerb::PatchUser(
            "bob".to_owned(),
            Box::new(from(json!({ "projects": projects }))),
        )
    };
    let body = json!({"email": "bob@lab.example", "projects": ["vision"]});
    world.admin_as(2, invite(1, body)).unwrap();
    world.admin(bob(json!(["default", "vision"]))).unwrap();
    world.admin(bob(json!(["default"]))).unwrap();
    assert_eq!(world.became(1), InvitationState::Withdrawn);
    let order = Accept {
        caller: Some(BOB),
        ..accept(1)
    };
    assert_eq!(world.accept(order).unwrap_err().code, "LS-INVITATION-GONE");
}

#[test]
fn another_password_voids_the_links_to_choose_one() {
    let mut world = World::new();
    let link = NewLink {
        id: InvitationId::new(1),
        token_sha256: [1; 32],
        at: NOW,
        expires_at: NOW.plus_s(3600),
    };
    let email = "bob@lab.example".to_owned();
    let wanted = LoginEvent::WantReset { email, link };
    world.log_in_event(wanted).unwrap();
    assert_eq!(world.became(1), InvitationState::Pending);
    let reset = AccountVerb::ResetPassword {
        user: "bob".to_owned(),
        hash: "other".to_owned(),
    };
    world.admin(AdminVerb::Account(reset)).unwrap();
    assert_eq!(world.became(1), InvitationState::Withdrawn);
}

#[test]
fn a_fixed_user_proves_the_address_and_keeps_the_password_of_the_file() {
    let mut world = World::new();
    let verb = AdminVerb::SetUserStatus(
        "bob".to_owned(),
        from(json!({ "status": "before-verification" })),
        link(1),
    );
    world.admin(verb).unwrap();
    world.take(&[Change::PeopleSettings(PeopleSettings {
        fixed_users_only: true,
        fixed_users: BTreeSet::from([BOB]),
        ..PeopleSettings::default()
    })]);
    let mut order = accept(1);
    order.chosen.password = password("abcdef1!");
    let refusal = world.accept(order.clone()).unwrap_err();
    assert_eq!(refusal.code, "LS-FIXED-USER");
    order.chosen.password = None;
    world.accept(order).unwrap();
    assert_eq!(world.state().users[&BOB].status, UserStatus::Active);
}
