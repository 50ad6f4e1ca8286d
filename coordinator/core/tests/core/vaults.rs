//! What a vault that cannot be opened does to those whose sessions it reaches.

use super::world::{World, job};
use longshore_common::ids::{Attempt, SessionId, UserGroupId, VaultId};
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use longshore_core::model::{BUILTIN, Change, Event, Vault, personal_vault};
use longshore_identity::Secret;
use std::collections::BTreeSet;

const ID: VaultId = VaultId::new(77);

fn vault(groups: &[UserGroupId]) -> Vault {
    Vault {
        groups: groups.iter().copied().collect(),
        required: true,
        enabled: true,
        ..Vault::new(ID, Timestamp(0))
    }
}

fn checked(world: &mut World, unusable: &[VaultId]) {
    world.does(Event::VaultsChecked {
        looked_at: BTreeSet::from([ID]),
        unusable: unusable.iter().copied().collect(),
    });
}

fn scene(vault: Vault) -> (World, SessionId) {
    let mut world = World::new();
    world.apply(vec![Change::Vault(Box::new(vault))]);
    checked(&mut world, &[ID]);
    world.agent("n1", 0);
    let id = world.submit(job());
    (world, id)
}

#[test]
fn a_required_vault_that_cannot_be_opened_is_waited_for() {
    let (mut world, id) = scene(vault(&[BUILTIN.users]));
    assert!(world.is(id, SessionState::Pending));
    assert_eq!(world.why(id), "a vault that is required cannot be opened");
    let version = world.state().vaults[&ID].version;
    checked(&mut world, &[]);
    assert!(world.is(id, SessionState::Scheduled));
    // It is not charged, and nobody has changed the vault.
    assert_eq!(world.state().charges.len(), 0);
    assert_eq!(world.state().vaults[&ID].version, version);
}

#[test]
fn others_start_all_the_same() {
    let not_required = Vault {
        required: false,
        ..vault(&[BUILTIN.users])
    };
    let off = Vault {
        enabled: false,
        ..vault(&[BUILTIN.users])
    };
    for vault in [not_required, off, vault(&[BUILTIN.admins])] {
        let (world, id) = scene(vault);
        assert!(world.is(id, SessionState::Scheduled));
    }
}

#[test]
fn a_session_keeps_what_it_got() {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world.submit(job());
    let configured = |attempt| Event::Configured {
        session: id,
        attempt,
        hash: "h".to_owned(),
        vaults: vec![(ID, 3)],
        skipped: vec![VaultId::new(78)],
        redact: vec!["LAB_*".to_owned()],
        left_out: vec!["Vault x is left out.".to_owned()],
        keep: Some(Secret::new("kept".to_owned())),
    };
    world.does(configured(Attempt(9)));
    assert_eq!(world.state().sessions.get(&id).unwrap().config_hash, None);
    world.does(configured(Attempt::FIRST));
    let session = world.state().sessions.get(&id).unwrap();
    assert_eq!(session.config_hash.as_deref(), Some("h"));
    assert_eq!(
        (&session.vaults[..], &session.vaults_skipped[..]),
        (&[(ID, 3)][..], &[VaultId::new(78)][..])
    );
    assert_eq!(session.redact, ["LAB_*"]);
    assert_eq!(session.not_given, ["Vault x is left out."]);
    assert_eq!(
        (session.configured, session.delivered),
        (Some(Attempt::FIRST), Some(Attempt::FIRST))
    );
    // Said again, as by a second container that asked at the same time, nothing is news: not
    // even what is otherwise.
    let before = session.clone();
    world.does(configured(Attempt::FIRST));
    world.does(Event::Configured {
        session: id,
        attempt: Attempt::FIRST,
        hash: "other".to_owned(),
        vaults: vec![(ID, 4)],
        skipped: Vec::new(),
        redact: Vec::new(),
        left_out: vec!["Something else.".to_owned()],
        keep: None,
    });
    assert_eq!(world.state().sessions.get(&id).unwrap(), &before);
}

#[test]
fn vaults_are_found_as_long_as_they_are_what_they_were() {
    let mut world = World::new();
    world.apply(vec![Change::Vault(Box::new(vault(&[BUILTIN.admins])))]);
    let at = |world: &World, version| {
        let found = world.state().vaults_at(&[(ID, version)]);
        found.map(|all| all.len())
    };
    // Whom it reaches now is not asked.
    assert_eq!((at(&world, 1), at(&world, 2)), (Some(1), None));
    assert_eq!(world.state().vaults_at(&[(VaultId::new(78), 1)]), None);
    assert_eq!(world.state().vaults_at(&[]), Some(Vec::new()));
}

#[test]
fn vaults_fold_by_layer_priority_and_id() {
    let mut world = World::new();
    let user = world.caller().user;
    let shared = |id, priority, locked| Vault {
        id: VaultId::new(id),
        priority,
        locked,
        ..vault(&[BUILTIN.users])
    };
    let own = Vault {
        id: personal_vault(user),
        owner: Some(user),
        ..vault(&[])
    };
    let all = [
        shared(1, 200, false),
        shared(4, 100, false),
        shared(3, 100, false),
        shared(2, 0, true),
        own.clone(),
    ];
    let changes = all.into_iter().map(|one| Change::Vault(Box::new(one)));
    world.apply(changes.collect());
    let state = world.state();
    let order = state.vaults_for(&state.users[&user]);
    let ids: Vec<VaultId> = order.iter().map(|one| one.vault.id).collect();
    let expected = [3, 4, 1].map(VaultId::new);
    assert_eq!(ids, [&expected[..], &[own.id, VaultId::new(2)]].concat());
}
