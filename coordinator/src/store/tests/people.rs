//! Rows about people and rights.

use super::super::{Store, migrate};
use super::{dir, file, open_at, same, wait, world};
use longshore_common::amount::SlotLimits;
use longshore_common::ids::{
    AccessRuleId, DomainId, InvitationId, LoginId, ProjectId, UserGroupId, UserId,
};
use longshore_common::time::Timestamp;
use longshore_core::access::{Resource, Rule, RuleLevel, Subject};
use longshore_core::model::{
    AccessRule, Change, Domain, FactorKey, Invitation, InvitationState, LinkPurpose, Login,
    MemberSource, Project, Service, State, Totp, User, UserGroup,
};
use longshore_identity::throttle;
use std::collections::BTreeSet;

/// Stores changes; what is read back is what memory has.
fn take(store: &Store, state: &mut State, changes: Vec<Change>) {
    changes.iter().for_each(|change| state.apply(change));
    wait(store.commit(changes)).expect("stored");
    same(&wait(store.load()).expect("read"), state);
}

#[test]
fn people_and_rights_are_read_back_and_what_is_over_is_gone() {
    let dir = dir();
    let (store, mut state) = open_at(&file(&dir)).expect("new");
    let take = |state: &mut State, changes| take(&store, state, changes);
    let (ada, svc) = (UserId::new(1), UserId::new(2));
    let login = |n: u128| Login {
        id: LoginId::new(n),
        token_sha256: [7; 32],
        user: ada,
        via: "password".to_owned(),
        client: "cli".to_owned(),
        from: "192.0.2.1".to_owned(),
        created_at: Timestamp(1),
        last_used_at: Timestamp(2),
    };
    let group = |members: &[UserId]| UserGroup {
        id: UserGroupId::new(9),
        version: 1,
        name: "team".to_owned(),
        description: String::new(),
        domain: None,
        builtin: None,
        members: members
            .iter()
            .map(|m| (*m, BTreeSet::from([MemberSource::Idp("idp_1".to_owned())])))
            .collect(),
        created_at: Timestamp(1),
    };
    let rule = AccessRule {
        rule: Rule {
            id: AccessRuleId::new(4),
            resource: Resource::Project(ProjectId::new(3)),
            level: RuleLevel::Ro,
            subjects: BTreeSet::from([Subject::Group(UserGroupId::new(9))]),
            default: false,
        },
        version: 2,
        created_at: Timestamp(3),
    };
    let link = Invitation {
        id: InvitationId::new(5),
        token_sha256: [8; 32],
        email: "bob@example.org".to_owned(),
        user: Some(ada),
        domain: DomainId::new(0),
        projects: vec![ProjectId::new(3)],
        groups: vec![],
        user_policy: "default".to_owned(),
        by: ada,
        created_at: Timestamp(1),
        expires_at: Timestamp(9),
        state: InvitationState::Pending,
        purpose: LinkPurpose::Invitation,
    };
    // Two that are no people: the first has no address, and neither has the second.
    let account = |id, name: &str| User {
        username: name.to_owned(),
        service: Some(Service::default()),
        ..User::new(id, Timestamp(1))
    };
    let person = User {
        username: "ada".to_owned(),
        email: "Ada@example.org".to_owned(),
        totp: Some(Totp {
            secret: FactorKey::open([1; 20]),
            active: true,
            offered_until: Timestamp(0),
            last_step: 5,
            recovery: vec![[2; 32]],
        }),
        password: Some("$argon2id$".to_owned()),
        last_login: Some((Timestamp(4), "password".to_owned())),
        ..User::new(ada, Timestamp(1))
    };
    let name = throttle::NameKey::of("ada");
    let place = throttle::Prefix::of([192, 0, 2, 1].into());
    let counted = state.throttle.failed(name, place, Timestamp(1));
    let mut changes = vec![
        Change::User(Box::new(person)),
        Change::User(Box::new(account(svc, "robot"))),
        Change::User(Box::new(account(UserId::new(3), "robot-2"))),
        Change::Login(login(1)),
        Change::Login(login(2)),
        Change::UserGroup(group(&[ada, svc])),
        Change::AccessRule(rule),
        Change::Invitation(Box::new(link)),
    ];
    changes.extend(counted.into_iter().map(Change::Throttle));
    take(&mut state, changes);
    assert_eq!(state.logins_of(ada).count(), 2);
    assert_eq!(state.groups_of(svc).count(), 1);
    assert_eq!(
        state.user_by_ref("ADA@example.org").map(|u| u.id),
        Some(ada)
    );
    assert_eq!(state.rule_book().len(), 1);

    let forgiven = state.throttle.unblock(ada, &[name]);
    let mut changes = vec![
        Change::LoginEnded(LoginId::new(1)),
        Change::UserGroup(group(&[ada])),
        Change::AccessRuleDeleted(AccessRuleId::new(4)),
        Change::InvitationForgotten(InvitationId::new(5)),
    ];
    changes.extend(forgiven.into_iter().map(Change::Throttle));
    take(&mut state, changes);
    assert_eq!(state.groups_of(svc).count(), 0);
    take(
        &mut state,
        vec![Change::UserGroupDeleted(UserGroupId::new(9))],
    );
    assert_eq!(state.groups_of(ada).count(), 0);
    assert!(state.rule_book().is_empty() && state.invitations.is_empty());
}

#[test]
fn what_is_gone_keeps_its_name_and_frees_it() {
    let dir = dir();
    let (store, mut state) = open_at(&file(&dir)).expect("new");
    let take = |state: &mut State, changes| take(&store, state, changes);
    let domain = |n| {
        Change::Domain(Domain {
            id: DomainId::new(n),
            version: 1,
            name: "lab".to_owned(),
            description: String::new(),
            active: true,
            total_slots: SlotLimits::new(),
            created_at: Timestamp(1),
        })
    };
    let project = |n| {
        Change::Project(Project {
            id: ProjectId::new(n),
            version: 1,
            name: "vision".to_owned(),
            domain: DomainId::new(1),
            description: String::new(),
            active: true,
            policy: "default".to_owned(),
            total_slots: SlotLimits::new(),
            created_at: Timestamp(1),
        })
    };
    take(&mut state, vec![domain(1), project(1)]);
    // The name goes to another at once, also where one was made and deleted in a batch.
    let gone = Change::ProjectDeleted(ProjectId::new(1));
    let short = Change::ProjectDeleted(ProjectId::new(2));
    take(&mut state, vec![gone, project(2), short, project(3)]);
    assert_eq!(state.projects.len(), 1);
    assert_eq!(state.gone.projects[&ProjectId::new(2)].name, "vision");
    let gone = Change::ProjectDeleted(ProjectId::new(3));
    let all = vec![gone, Change::DomainDeleted(DomainId::new(1)), domain(2)];
    take(&mut state, all);
    assert_eq!(state.gone.domains[&DomainId::new(1)].name, "lab");
}

/// Links of the sixth form had an address alone.
#[test]
fn links_of_accounts_name_the_account() {
    let dir = dir();
    let db = rusqlite::Connection::open(file(&dir)).expect("made");
    for step in &migrate::STEPS[..6] {
        db.execute_batch(step).expect("the sixth form");
    }
    db.execute_batch("PRAGMA application_id = 0x4c675368; PRAGMA user_version = 6;")
        .expect("marked");
    db.execute(
        "INSERT INTO meta VALUES (1, ?1, 4, 9, 20001)",
        [world::meta().cluster.to_string()],
    )
    .expect("an installation");
    let ada = UserId::new(5);
    let person = serde_json::json!({
        "id": ada, "username": "ada", "email": "Ada@example.org", "role": "user",
        "uid": 20_000, "created_at": Timestamp(0),
    });
    db.execute(
        "INSERT INTO users VALUES (?1, 'ada', 'Ada@example.org', 0, ?2)",
        (ada.to_string(), person.to_string()),
    )
    .expect("a user");
    for (n, email, purpose) in [
        (1, "ada@example.org", "reset"),
        (2, "gone@example.org", "verification"),
        (3, "ada@example.org", "invitation"),
    ] {
        let id = InvitationId::new(n);
        let link = serde_json::json!({
            "id": id, "token_sha256": vec![3; 32], "email": email, "domain": DomainId::new(1),
            "projects": [], "groups": [], "user_policy": "default", "by": ada,
            "created_at": Timestamp(1), "expires_at": Timestamp(9), "state": "pending",
            "purpose": purpose,
        });
        let values = (id.to_string(), link.to_string());
        db.execute("INSERT INTO invitations VALUES (?1, ?2)", values)
            .expect("a link");
    }
    drop(db);
    let (_, state) = open_at(&file(&dir)).expect("migrated");
    let users = state.invitations.values().map(|link| link.user);
    assert_eq!(users.collect::<Vec<_>>(), [Some(ada), None, None]);
}
