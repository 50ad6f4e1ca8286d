//! What the operation table answers: cells, memberships, guards, and what stays hidden.

use super::world::{ALICE, BOB, BUILTIN, ELSEWHERE, LAB, P, Person, R, SVC, TEAM, person, service};
use longshore_common::ids::DomainId;
use longshore_core::access::Decision::{Forbidden, Hidden};
use longshore_core::access::{
    Caller, Case, Decision, Intent, Level, Membership, Operation as O, Reach, Role, Sight, Subject,
    Target, View, Why, decide, missing,
};

fn user() -> Person {
    person(ALICE)
}

fn with_role(role: Role) -> Caller {
    person(ALICE).role(role).call()
}

fn domain_admin() -> Caller {
    with_role(Role::DomainAdmin)
}

fn monitor() -> Caller {
    with_role(Role::Monitor)
}

fn superadmin() -> Caller {
    with_role(Role::Superadmin)
}

/// Bob's account, in a domain, with a role.
fn bob(domain: DomainId, role: Role) -> Target {
    Target::object()
        .in_domain(domain)
        .owned_by(Subject::User(BOB))
        .person(role)
}

fn oneself(role: Role) -> Target {
    Target::object()
        .in_domain(LAB)
        .owned_by(Subject::User(ALICE))
        .person(role)
}

fn allowed(decision: Decision) -> (Reach, View) {
    match decision {
        Decision::Allowed(grant) => (grant.reach, grant.view),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_said_is_nothing_allowed() {
    let callers = [
        Caller::anonymous(),
        user().call(),
        user().administers(P).call(),
        monitor(),
        domain_admin(),
        service(|_| ()),
        user().of(BUILTIN.admins).call(),
    ];
    for caller in &callers {
        for &operation in O::ALL {
            let decision = decide(operation, caller, &Target::object());
            if !operation.is_open() && operation != O::RegistryRead {
                assert!(!decision.is_allowed(), "{operation} {caller:?}");
            }
        }
    }
    for &operation in O::ALL {
        let off = user().role(Role::Superadmin).inactive().call();
        if !operation.is_open() {
            let decision = decide(operation, &off, &Target::collection());
            assert_eq!(decision, Forbidden(Why::Inactive));
            let decision = decide(operation, &Caller::anonymous(), &Target::collection());
            assert_eq!(decision, Forbidden(Why::Anonymous));
        }
    }
}

#[test]
fn people_are_seen_as_far_as_one_works_with_them() {
    let view = |caller: &Caller, target: Target| decide(O::UserRead, caller, &target);
    let in_p = || bob(LAB, Role::User).in_project(P);
    let in_r = || bob(LAB, Role::User).in_project(R);
    let plain = user().call();
    assert_eq!(allowed(view(&plain, oneself(Role::User))).1, View::Full);
    assert_eq!(allowed(view(&plain, in_p())).1, View::Names);
    assert_eq!(view(&plain, in_r()), Hidden(Why::OutOfReach));
    let head = user().administers(P).call();
    assert_eq!(allowed(view(&head, in_p())).1, View::Full);
    assert_eq!(view(&head, in_r()), Hidden(Why::OutOfReach));
    let mut both = user().administers(P);
    both.0.projects.insert(R, Membership::Member);
    assert_eq!(allowed(view(&both.call(), in_r())).1, View::Names);
    let account = service(|_| ());
    assert_eq!(view(&account, in_p()), Hidden(Why::OutOfReach));
    for caller in [monitor(), domain_admin()] {
        assert_eq!(allowed(view(&caller, in_r())).1, View::Full);
        let away = bob(ELSEWHERE, Role::User);
        assert_eq!(view(&caller, away), Hidden(Why::OutOfReach));
    }
    let list = |caller: &Caller| allowed(decide(O::UserList, caller, &Target::collection()));
    assert_eq!(list(&plain), (Reach::NamesInOwnProjects, View::Names));
    assert_eq!(list(&domain_admin()), (Reach::Domain, View::Full));
}

#[test]
fn a_domain_admin_acts_on_users_and_monitors_of_its_domain() {
    let admin = domain_admin();
    for operation in [
        O::UserUpdate,
        O::UserResetPassword,
        O::UserTotpOff,
        O::KeypairCreate,
        O::KeypairDelete,
        O::ProjectMembers,
    ] {
        let act = |target: Target| decide(operation, &admin, &target);
        for role in [Role::User, Role::Monitor] {
            assert_eq!(allowed(act(bob(LAB, role))), (Reach::Domain, View::Full));
        }
        for role in [Role::DomainAdmin, Role::Superadmin] {
            assert_eq!(act(bob(LAB, role)), Forbidden(Why::AdministersPerson));
        }
        assert_eq!(
            act(oneself(Role::DomainAdmin)),
            Forbidden(Why::AdministersPerson)
        );
        // Unsaid is not "user".
        let unsaid = Target::object().in_domain(LAB);
        assert_eq!(act(unsaid), Forbidden(Why::AdministersPerson));
        assert_eq!(act(bob(ELSEWHERE, Role::User)), Hidden(Why::OutOfReach));
    }
    // What is the superadmin's is not the domain admin's, whomever it is about.
    for operation in [O::UserRole, O::UserStatus, O::UserSudo, O::KeypairPolicy] {
        for target in [bob(LAB, Role::User), bob(ELSEWHERE, Role::User)] {
            assert_eq!(
                decide(operation, &admin, &target),
                Forbidden(Why::NotPermitted)
            );
        }
    }
    let account = service(|a| a.admin = true);
    let act = |target| decide(O::UserUpdate, &account, &target);
    assert!(act(bob(LAB, Role::User)).is_allowed());
    assert_eq!(
        decide(O::AuthLogin, &account, &Target::collection()),
        Forbidden(Why::NotPermitted)
    );
    assert_eq!(
        decide(O::MeUpdate, &account, &Target::collection()),
        Forbidden(Why::NotPermitted)
    );
}

#[test]
fn nobody_changes_the_own_role() {
    let root = superadmin();
    let change = |target| decide(O::UserRole, &root, &target);
    assert_eq!(change(oneself(Role::Superadmin)), Forbidden(Why::OwnRole));
    assert_eq!(change(Target::object()), Forbidden(Why::OwnRole));
    assert!(change(bob(ELSEWHERE, Role::Superadmin)).is_allowed());
    assert_eq!(Why::OwnRole.code(), "LS-ROLE-SELF");
    assert_eq!(Why::OwnRole.to_string(), "You cannot change your own role.");
}

#[test]
fn a_monitor_writes_nothing_but_its_profile_and_logins() {
    let monitors = [
        monitor(),
        user()
            .role(Role::Monitor)
            .administers(P)
            .of(BUILTIN.admins)
            .of(BUILTIN.queue_admins)
            .call(),
    ];
    let target = Target::object()
        .in_domain(LAB)
        .in_project(P)
        .owned_by(Subject::User(ALICE))
        .level(Level::Rw)
        .admin_exec();
    for caller in &monitors {
        for &operation in O::ALL {
            let decision = decide(operation, caller, &target);
            let writes = operation.effect() != longshore_core::access::Effect::Read;
            let may = operation.is_open() || operation.is_own_profile();
            assert_eq!(
                decision.is_allowed() && writes,
                may && writes,
                "{operation}"
            );
        }
        let look = |operation| {
            let target = target.clone().intent(Intent::Read);
            decide(operation, caller, &target).is_allowed()
        };
        for operation in [
            O::MeVault,
            O::MeKeypairs,
            O::SessionRead,
            O::FolderFilesRead,
        ] {
            assert!(look(operation), "{operation}");
        }
        assert!(!look(O::SessionReach));
        assert!(!look(O::VaultRead));
    }
}

#[test]
fn a_service_account_labels_its_keypairs_and_has_no_login() {
    let account = service(|_| ());
    let ask = |operation, intent| {
        let target = Target::collection().intent(intent);
        decide(operation, &account, &target).is_allowed()
    };
    assert!(ask(O::MeKeypairs, Intent::Label));
    assert!(ask(O::MeKeypairs, Intent::Read));
    for no in [O::MeKeypairs, O::MeUpdate, O::MeLogins, O::ProjectLeave] {
        assert!(!ask(no, Intent::Change), "{no}");
    }
    for no in [O::AuthLogin, O::AuthSso, O::AuthReset, O::InvitationAccept] {
        assert!(!ask(no, Intent::Change), "{no}");
    }
    assert!(ask(O::HealthRead, Intent::Read));
    assert!(ask(O::MeVault, Intent::Change));
    let others = Target::object()
        .owned_by(Subject::User(ALICE))
        .intent(Intent::Label);
    assert!(!decide(O::MeKeypairs, &account, &others).is_allowed());
    let own = Target::object()
        .owned_by(Subject::Account(SVC))
        .intent(Intent::Label);
    assert!(decide(O::MeKeypairs, &account, &own).is_allowed());
}

#[test]
fn projects_are_administered_by_their_administrators() {
    let head = user().administers(P).call();
    let at = |project| Target::object().in_domain(LAB).in_project(project);
    let act = |target: Target| decide(O::ProjectMembers, &head, &target.person(Role::Superadmin));
    // The guard is the domain admin's: a project is anybody's who administers it.
    assert_eq!(allowed(act(at(P))).0, Reach::AdministeredProjects);
    assert_eq!(act(at(R)), Hidden(Why::OutOfReach));
    assert_eq!(act(at(R).level(Level::Ro)), Forbidden(Why::OutOfReach));
    let member = user().call();
    let decision = decide(O::ProjectMembers, &member, &at(P));
    assert_eq!(decision, Forbidden(Why::NotPermitted));

    let invite = |case| {
        let target = at(P).case(case).intent(Intent::Create);
        decide(O::InvitationWrite, &head, &target)
    };
    assert!(invite(Case::ExistingUser).is_allowed());
    assert_eq!(invite(Case::NewPerson), Forbidden(Why::OutOfReach));
    assert_eq!(invite(Case::Plain), Forbidden(Why::OutOfReach));

    let leave = |target: &Target| decide(O::ProjectLeave, &member, target);
    assert!(leave(&at(P)).is_allowed());
    assert!(!leave(&at(R)).is_allowed());
    assert!(!leave(&Target::collection()).is_allowed());
}

#[test]
fn things_of_the_installation_are_the_superadmins() {
    let cases = [
        (O::GroupWrite, Case::GlobalGroup),
        (O::GroupWrite, Case::BuiltinMembers),
        (O::ServiceAccountWrite, Case::AccountPowers),
        (O::VaultWrite, Case::LockedVault),
        (O::VaultReveal, Case::LockedVault),
    ];
    for (operation, case) in cases {
        let target = Target::object().in_domain(LAB).case(case);
        assert!(decide(operation, &superadmin(), &target).is_allowed());
        let refused = decide(operation, &domain_admin(), &target);
        assert!(!refused.is_allowed(), "{operation} {case}");
        let plain = Target::object().in_domain(LAB);
        assert!(decide(operation, &domain_admin(), &plain).is_allowed());
    }
    // A global thing is in nobody's domain, also when one is a member of it.
    for operation in [O::GroupWrite, O::AccessWrite] {
        let target = Target::object().owned_by(Subject::Group(BUILTIN.users));
        assert!(!decide(operation, &domain_admin(), &target).is_allowed());
        let shared = Target::shared().level(Level::Rw);
        assert!(!decide(operation, &domain_admin(), &shared).is_allowed());
    }
    // What is refused of an object that may be seen is refused openly.
    let powers = Target::object().in_domain(LAB).case(Case::AccountPowers);
    let decision = decide(O::ServiceAccountWrite, &domain_admin(), &powers);
    assert_eq!(decision, Forbidden(Why::OutOfReach));
    let members = Target::shared().level(Level::Ro).case(Case::BuiltinMembers);
    let decision = decide(O::GroupWrite, &domain_admin(), &members);
    assert_eq!(decision, Forbidden(Why::OutOfReach));
}

#[test]
fn rules_are_written_by_administrators_and_members_of_admins() {
    let admins = user().of(BUILTIN.admins).call();
    for caller in [&domain_admin(), &admins] {
        let write = |target: Target| decide(O::AccessWrite, caller, &target);
        assert_eq!(
            allowed(write(Target::object().in_domain(LAB))).0,
            Reach::Domain
        );
        assert!(!write(Target::object().in_domain(ELSEWHERE)).is_allowed());
        assert!(!write(Target::object()).is_allowed());
        let list = decide(O::AccessRead, caller, &Target::collection());
        assert_eq!(allowed(list).0, Reach::Domain);
    }
    let plain = user().of(TEAM).call();
    let read = |subject| decide(O::AccessRead, &plain, &Target::object().owned_by(subject));
    assert!(read(Subject::User(ALICE)).is_allowed());
    assert!(read(Subject::Group(TEAM)).is_allowed());
    assert!(read(Subject::Group(BUILTIN.users)).is_allowed());
    assert_eq!(read(Subject::User(BOB)), Hidden(Why::OutOfReach));
    let write = decide(O::AccessWrite, &plain, &Target::object().in_domain(LAB));
    assert_eq!(write, Forbidden(Why::NotPermitted));
}

#[test]
fn sessions_go_by_level_and_hide_without_one() {
    let plain = user().call();
    let on = |operation, level| {
        let target = Target::object().in_domain(LAB).in_project(P).level(level);
        decide(operation, &plain, &target)
    };
    assert!(on(O::SessionRead, Level::Ro).is_allowed());
    assert!(on(O::SessionTerminate, Level::Rw).is_allowed());
    assert_eq!(on(O::SessionTerminate, Level::Ro), Forbidden(Why::ReadOnly));
    assert_eq!(
        on(O::SessionTerminate, Level::None),
        Hidden(Why::OutOfReach)
    );
    assert_eq!(on(O::SessionRead, Level::None), Hidden(Why::OutOfReach));
    assert_eq!(on(O::ModelClone, Level::Ro), decide_allowed(Reach::Rules));
    assert_eq!(on(O::ActionRun, Level::Ro), Forbidden(Why::ReadOnly));
    let create = |level| {
        let target = Target::object()
            .in_domain(LAB)
            .in_project(P)
            .level(level)
            .intent(Intent::Create);
        decide(O::SessionCreate, &plain, &target)
    };
    assert!(create(Level::Rw).is_allowed());
    assert_eq!(create(Level::Ro), Forbidden(Why::ReadOnly));
    assert_eq!(create(Level::None), Hidden(Why::OutOfReach));
    // A name is a name: it can be shown, and what is named refuses openly.
    let named = Target::object().seen(Sight::NameOnly);
    assert_eq!(
        allowed(decide(O::SessionRead, &plain, &named)).1,
        View::Names
    );
    assert_eq!(
        allowed(decide(O::ProjectRead, &plain, &named)).1,
        View::Names
    );
    assert_eq!(
        decide(O::SessionTerminate, &plain, &named),
        Forbidden(Why::OutOfReach)
    );
    let list = decide(O::SessionRead, &plain, &Target::collection());
    assert_eq!(list, decide_allowed(Reach::Rules));
    // A role reaches its domain, whatever the rules say.
    let away = Target::object().in_domain(ELSEWHERE).level(Level::Rw);
    assert!(!decide(O::SessionTerminate, &domain_admin(), &away).is_allowed());
    let here = Target::object().in_domain(LAB);
    assert!(decide(O::SessionTerminate, &domain_admin(), &here).is_allowed());
}

const fn decide_allowed(reach: Reach) -> Decision {
    Decision::Allowed(longshore_core::access::Grant {
        reach,
        view: View::Full,
    })
}

#[test]
fn into_a_session_reaches_its_owner_alone() {
    let session = |owner| {
        Target::object()
            .in_domain(LAB)
            .in_project(P)
            .level(Level::Rw)
            .owned_by(Subject::User(owner))
    };
    let reach = |caller: &Caller, target: Target| decide(O::SessionReach, caller, &target);
    let callers = [user().call(), domain_admin(), superadmin()];
    for caller in &callers {
        assert_eq!(allowed(reach(caller, session(ALICE))).0, Reach::Own);
        assert_eq!(reach(caller, session(BOB)), Forbidden(Why::OutOfReach));
    }
    let left = session(ALICE).level(Level::None);
    assert_eq!(reach(&callers[0], left), Hidden(Why::OutOfReach));
    let unseen = session(BOB).level(Level::None);
    assert_eq!(reach(&callers[0], unseen), Hidden(Why::OutOfReach));
    // Owned by a group one is in is not owned.
    let team = Target::object()
        .level(Level::Rw)
        .owned_by(Subject::Group(BUILTIN.users));
    assert!(!reach(&callers[0], team).is_allowed());

    let exec = |caller: &Caller| reach(caller, session(BOB).admin_exec());
    assert_eq!(exec(&callers[0]), Forbidden(Why::OutOfReach));
    assert_eq!(allowed(exec(&callers[1])).0, Reach::Domain);
    assert_eq!(allowed(exec(&callers[2])).0, Reach::All);
    let away = session(BOB).in_domain(ELSEWHERE).admin_exec();
    assert!(!reach(&callers[1], away).is_allowed());
    assert!(!exec(&monitor()).is_allowed());
}

#[test]
fn personal_folders_show_administrators_an_outline() {
    let folder = Target::object().in_domain(LAB).personal();
    for caller in [domain_admin(), superadmin()] {
        let view = |operation| decide(operation, &caller, &folder);
        assert_eq!(allowed(view(O::FolderRead)).1, View::Outline);
        assert!(view(O::FolderDelete).is_allowed());
        for operation in [
            O::FolderFilesRead,
            O::FolderFilesWrite,
            O::FolderUpdate,
            O::FolderShare,
            O::FolderClone,
        ] {
            assert_eq!(view(operation), Forbidden(Why::OutOfReach), "{operation}");
        }
    }
    assert!(!decide(O::FolderRead, &user().call(), &folder).is_allowed());
    let away = Target::object().in_domain(ELSEWHERE).personal();
    assert!(!decide(O::FolderRead, &domain_admin(), &away).is_allowed());
    let shared = folder.clone().level(Level::Ro);
    let plain = user().call();
    assert!(decide(O::FolderFilesRead, &plain, &shared).is_allowed());
    let decision = decide(O::FolderFilesWrite, &plain, &shared);
    assert_eq!(decision, Forbidden(Why::ReadOnly));
}

#[test]
fn surroundings_are_seen_where_they_are_open() {
    let agent = |level| Target::shared().level(level);
    let read = |caller: &Caller, level| decide(O::AgentRead, caller, &agent(level));
    for caller in [user().call(), user().administers(P).call(), service(|_| ())] {
        assert_eq!(allowed(read(&caller, Level::Ro)).1, View::NoAddresses);
        assert_eq!(read(&caller, Level::None), Hidden(Why::OutOfReach));
    }
    for caller in [monitor(), domain_admin(), superadmin()] {
        assert_eq!(allowed(read(&caller, Level::Ro)).1, View::Full);
    }
    assert!(!read(&domain_admin(), Level::None).is_allowed());
    let cancel = |caller: &Caller, target: Target| decide(O::TaskCancel, caller, &target);
    let own = Target::object().owned_by(Subject::User(ALICE));
    assert!(cancel(&user().call(), own).is_allowed());
    let seen = Target::object().level(Level::Rw);
    assert_eq!(cancel(&user().call(), seen), Forbidden(Why::OutOfReach));
    let in_domain = Target::object().in_domain(LAB);
    assert!(cancel(&domain_admin(), in_domain.clone()).is_allowed());
    assert_eq!(cancel(&monitor(), in_domain), Forbidden(Why::MonitorWrites));
}

#[test]
fn insight_into_the_installation() {
    for caller in [monitor(), domain_admin(), superadmin()] {
        let read = |operation, target| decide(operation, &caller, &target);
        assert_eq!(
            allowed(read(O::SettingsRead, Target::shared())).1,
            View::Masked
        );
        assert!(read(O::MetricsRead, Target::shared()).is_allowed());
        assert!(read(O::AuditRead, Target::object().in_domain(LAB)).is_allowed());
        let record_of_none = read(O::AuditRead, Target::shared());
        let root = caller.role() == Role::Superadmin;
        assert_eq!(record_of_none.is_allowed(), root);
        assert!(read(O::RegistryRead, Target::shared()).is_allowed());
        assert_eq!(read(O::RegistryWrite, Target::shared()).is_allowed(), root);
        assert_eq!(read(O::PolicyWrite, Target::shared()).is_allowed(), root);
    }
    assert!(!decide(O::SettingsRead, &user().call(), &Target::shared()).is_allowed());
}

#[test]
fn what_is_missing_answers_as_what_is_hidden() {
    let callers = [
        user().call(),
        user().administers(P).call(),
        monitor(),
        domain_admin(),
        service(|_| ()),
        user().of(BUILTIN.admins).call(),
    ];
    // Somebody else's, in another domain, of each sort.
    let cases = Case::ALL;
    for caller in &callers {
        for &operation in O::ALL {
            for case in cases.into_iter().filter(|c| c.applies_to(operation)) {
                for intent in [Intent::Read, Intent::Change] {
                    let target = bob(ELSEWHERE, Role::User)
                        .in_project(R)
                        .case(case)
                        .intent(intent);
                    let there = decide(operation, caller, &target);
                    let gone = missing(operation, caller, intent);
                    let open = there.is_allowed();
                    assert!(
                        open || there == gone,
                        "{operation} {case} {caller:?}: {there:?}"
                    );
                    let shown = operation.is_open() || operation == O::RegistryRead;
                    assert_eq!(open, open && shown, "{operation} {case} {caller:?}");
                }
            }
        }
    }
}

#[test]
fn usage_and_exports() {
    let of = |project| {
        Target::object()
            .in_domain(LAB)
            .in_project(project)
            .owned_by(Subject::User(BOB))
    };
    let head = user().administers(P).call();
    for operation in [O::UsageRead, O::ExportCsv] {
        assert!(decide(operation, &head, &of(P)).is_allowed());
        assert!(!decide(operation, &head, &of(R)).is_allowed());
        assert!(!decide(operation, &user().call(), &of(P)).is_allowed());
        let own = of(R).owned_by(Subject::User(ALICE));
        assert!(decide(operation, &user().call(), &own).is_allowed());
        assert!(decide(operation, &head, &own).is_allowed());
        assert!(decide(operation, &monitor(), &of(R)).is_allowed());
    }
}
