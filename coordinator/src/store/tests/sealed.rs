//! Secrets at rest.

use super::super::{RewrapPlace, Store, StoreError, migrate};
use super::{dir, file, keyring, open_at, same, wait, world};
use crate::pki::fill_random;
use crate::secrets::{Keyring, MasterKey};
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use longshore_core::model::{Change, FactorKey, State, Totp, User};
use rusqlite::Connection;
use std::path::Path;

/// Bytes that are told apart from all others.
const CLEAR: &[u8; 20] = b"twenty-bytes-of-dana";

fn dana(secret: FactorKey) -> User {
    User {
        username: "dana".to_owned(),
        email: "dana@lab.example".to_owned(),
        totp: Some(Totp {
            secret,
            active: true,
            offered_until: Timestamp(0),
            last_step: 5,
            recovery: Vec::new(),
        }),
        ..User::new(UserId::new(1), Timestamp(1))
    }
}

fn factor(state: &State) -> FactorKey {
    let user = state.users.get(&UserId::new(1)).expect("dana");
    user.totp.as_ref().expect("a second factor").secret.clone()
}

/// A store that holds dana, closed again.
fn with_dana(dir: &tempfile::TempDir) -> State {
    let (store, mut state) = open_at(&file(dir)).expect("new");
    let change = Change::User(Box::new(dana(FactorKey::open(*CLEAR))));
    state.apply(&change);
    wait(store.commit(vec![change])).expect("stored");
    same(&wait(store.load()).expect("read"), &state);
    assert!(holds_clear(dir.path()).is_empty());
    state
}

/// Files below a directory that hold the secret, as bytes or as a list of numbers.
fn holds_clear(dir: &Path) -> Vec<String> {
    let numbers: Vec<String> = CLEAR.iter().map(u8::to_string).collect();
    let forms = [CLEAR.to_vec(), numbers.join(",").into_bytes()];
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("listed") {
        let path = entry.expect("listed").path();
        let bytes = std::fs::read(&path).expect("read");
        let holds = |form: &Vec<u8>| bytes.windows(form.len()).any(|part| part == form);
        if forms.iter().any(holds) {
            found.push(
                path.file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
    found
}

fn open_with(dir: &tempfile::TempDir, keyring: &Keyring) -> Result<(Store, State), StoreError> {
    Store::open(&file(dir), keyring, world::meta)
}

fn new_key() -> MasterKey {
    MasterKey::draw(&mut fill_random)
}

fn shut(state: &State) -> String {
    match factor(state) {
        FactorKey::Shut(why) => why,
        FactorKey::Open(_) => panic!("it opens"),
    }
}

#[test]
fn no_secret_stands_in_the_file_or_its_log() {
    let dir = dir();
    let state = with_dana(&dir);
    let (store, again) = open_at(&file(&dir)).expect("opened");
    same(&again, &state);
    assert!(holds_clear(dir.path()).is_empty());
    // Off and gone: nothing is left that could be opened.
    let user = User {
        totp: None,
        ..dana(FactorKey::default())
    };
    wait(store.commit(vec![Change::User(Box::new(user))])).expect("stored");
    assert!(wait(store.secrets().counts()).expect("counted").is_empty());
}

#[test]
fn what_an_earlier_release_stored_in_the_clear_is_encrypted_at_the_start() {
    let dir = dir();
    let db = Connection::open(file(&dir)).expect("made");
    for step in &migrate::STEPS[..10] {
        db.execute_batch(step).expect("the form before");
    }
    db.execute_batch("PRAGMA application_id = 0x4c675368; PRAGMA user_version = 10;")
        .expect("marked");
    db.execute(
        "INSERT INTO meta VALUES (1, ?1, 4, 9, 20001)",
        [world::meta().cluster.to_string()],
    )
    .expect("an installation");
    let mut body = serde_json::to_value(dana(FactorKey::default())).expect("json");
    body["totp"]["secret"] = serde_json::json!(CLEAR);
    db.execute(
        "INSERT INTO users (id, username, email, created_at, body) VALUES (?1, 'dana', 'd@x', 1, ?2)",
        [UserId::new(1).to_string(), body.to_string()],
    )
    .expect("dana");
    drop(db);
    assert_eq!(holds_clear(dir.path()), ["coordinator.db"]);
    // Without a key it stays as it is, and is not served.
    let error = open_with(&dir, &Keyring::none()).expect_err("no key");
    assert!(matches!(error, StoreError::NoKey(_)), "{error}");
    let (store, state) = open_at(&file(&dir)).expect("opened");
    assert_eq!(factor(&state), FactorKey::open(*CLEAR));
    drop(store);
    // The copy that was made before is of the old form.
    assert_eq!(holds_clear(dir.path()), ["coordinator.db.form-10"]);
    let (_store, again) = open_at(&file(&dir)).expect("opened");
    same(&again, &state);
}

#[test]
fn without_the_key_all_else_is_served_and_nothing_is_lost() {
    let dir = dir();
    let state = with_dana(&dir);
    for wrong in [Keyring::none(), Keyring::new(new_key(), Vec::new())] {
        let (store, locked) = open_with(&dir, &wrong).expect("opened");
        let key = keyring().present().expect("a key");
        assert_eq!(
            shut(&locked),
            format!("The master key {key} is not loaded.")
        );
        assert_eq!(wrong.present().expect_err("locked").key_id, key);
        // What is stored meanwhile leaves it alone.
        let mut user = locked.users[&UserId::new(1)].clone();
        user.full_name = "Dana".to_owned();
        wait(store.commit(vec![Change::User(Box::new(user))])).expect("stored");
    }
    let (_store, again) = open_at(&file(&dir)).expect("opened");
    assert_eq!(factor(&again), factor(&state));
    assert_eq!(again.users[&UserId::new(1)].full_name, "Dana");
}

#[test]
fn a_new_installation_needs_a_key() {
    let dir = dir();
    for _ in 0..2 {
        let error = open_with(&dir, &Keyring::none()).expect_err("no key");
        assert!(matches!(error, StoreError::NoKey(_)), "{error}");
    }
    assert!(open_at(&file(&dir)).is_ok());
    assert!(
        open_with(&dir, &Keyring::none()).is_ok(),
        "it holds no secret"
    );
}

#[test]
fn what_was_changed_or_moved_is_told() {
    let flip =
        "UPDATE secrets SET value = CAST(substr(value, 1, length(value) - 1) || x'00' AS BLOB)";
    for change in [
        flip,
        "UPDATE secrets SET version = version + 1",
        "UPDATE secrets SET value = x'01'",
        "UPDATE secrets SET kind = 'users.totp', id = 'usr_x'",
    ] {
        let dir = dir();
        drop(with_dana(&dir));
        let db = Connection::open(file(&dir)).expect("opened");
        db.execute_batch(change).expect("changed");
        drop(db);
        let (_store, state) = open_at(&file(&dir)).expect("opened");
        let why = shut(&state);
        let told = [
            "The stored secret is damaged.",
            "The stored secret is missing.",
            "The master key",
        ];
        assert!(
            told.iter().any(|told| why.starts_with(told)),
            "{change}: {why}"
        );
    }
}

#[test]
fn all_is_brought_under_a_new_key_and_an_interruption_loses_nothing() {
    let dir = dir();
    let people = 250_u32;
    let (store, mut state) = open_at(&file(&dir)).expect("new");
    let many = (1..=people).map(|n| {
        let user = User {
            id: UserId::new(n.into()),
            username: format!("u{n}"),
            email: format!("u{n}@x"),
            ..dana(FactorKey::open(*CLEAR))
        };
        Change::User(Box::new(user))
    });
    let changes: Vec<Change> = many.collect();
    changes.iter().for_each(|change| state.apply(change));
    wait(store.commit(changes)).expect("stored");
    let new = new_key();
    let secrets = store.secrets();
    secrets.keyring().begin_with(new.clone());
    // One step, and the process is gone.
    let step = wait(secrets.rewrap(RewrapPlace::default())).expect("a step");
    assert_eq!((step.changed, step.left), (100, 0));
    assert!(step.next.is_some());
    drop(store);
    let old = keyring();
    let (store, half) = open_with(&dir, &old).expect("opened");
    assert_eq!(old.present().expect_err("locked").key_id, new.id());
    drop((store, half));
    let both = keyring();
    both.begin_with(new.clone());
    let (store, again) = open_with(&dir, &both).expect("opened");
    same(&again, &state);
    let lines = wait(crate::secrets::rotate::run(
        &store.secrets(),
        std::time::Duration::from_secs(60),
    ));
    assert!(lines.expect("done")[0].starts_with("150 secrets"));
    drop(store);
    let alone = Keyring::new(new.clone(), Vec::new());
    let (store, again) = open_with(&dir, &alone).expect("opened");
    same(&again, &state);
    let counts = wait(store.secrets().counts()).expect("counted");
    assert_eq!(
        counts.into_iter().collect::<Vec<_>>(),
        [(new.id().to_owned(), u64::from(people))]
    );
}
