//! Files: whose they are, newer, foreign, torn and half-written ones, and migrations.

use super::*;

#[test]
fn only_its_owner_can_read_it() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    wait(store.commit(vec![Change::Meta(world::meta())])).expect("stored");
    for entry in std::fs::read_dir(dir.path()).expect("a directory") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("its data").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn a_second_coordinator_is_refused_and_may_come_later() {
    let dir = dir();
    let first = open_at(&file(&dir)).expect("a new store");
    let error = open_at(&file(&dir)).expect_err("in use");
    assert!(matches!(error, StoreError::Locked { .. }));
    let text = error.to_string();
    assert!(
        text.contains(&format!("(process {})", std::process::id())),
        "{text}"
    );
    drop(first);
    open_at(&file(&dir)).expect("free again");
}

#[test]
fn a_store_that_ended_well_leaves_one_file() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    wait(store.commit(vec![Change::Meta(world::meta())])).expect("stored");
    assert_eq!(
        wait(store.reader().session(SessionId(1))).expect("read"),
        None
    );
    drop(store);
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .expect("a directory")
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    names.sort();
    assert_eq!(names, ["coordinator.db", "lock"]);
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let dir = dir();
    drop(open_at(&file(&dir)).expect("a new store"));
    let db = Connection::open(file(&dir)).expect("opened");
    let newer = u32::try_from(migrate::STEPS.len()).expect("few") + 1;
    db.pragma_update(None, "user_version", newer).expect("set");
    drop(db);
    let before = std::fs::read(file(&dir)).expect("read");
    let error = open_at(&file(&dir)).expect_err("newer");
    assert!(
        matches!(error, StoreError::Newer { found, .. } if found == newer),
        "{error}"
    );
    assert_eq!(std::fs::read(file(&dir)).expect("read"), before);
}

#[test]
fn foreign_and_torn_files_are_refused_in_words() {
    let refuse = |bytes: &[u8]| {
        let dir = dir();
        std::fs::write(file(&dir), bytes).expect("written");
        let error = open_at(&file(&dir)).expect_err("not ours");
        assert_eq!(
            std::fs::read(file(&dir)).expect("read"),
            bytes,
            "left alone"
        );
        error
    };
    let text = refuse(&[b'x'; 5000]).to_string();
    assert!(text.contains("not a database of Longshore"), "{text}");
    for mode in ["WAL", "DELETE"] {
        let error = refuse(&foreign_database(mode));
        assert!(
            matches!(&error, StoreError::Foreign { why, .. } if why == "it belongs to another program"),
            "{error}"
        );
    }
    let ours = {
        let dir = dir();
        drop(open_at(&file(&dir)).expect("a new store"));
        std::fs::read(file(&dir)).expect("read")
    };
    for cut in [100, 3000, 4096, ours.len() / 2] {
        let error = refuse(&ours[..cut]);
        assert!(
            error.is_fatal() || matches!(error, StoreError::Foreign { .. }),
            "{cut}: {error}"
        );
    }
}

fn foreign_database(mode: &str) -> Vec<u8> {
    let dir = dir();
    let db = Connection::open(file(&dir)).expect("opened");
    db.pragma_update_and_check(None, "journal_mode", mode, |_| Ok(()))
        .expect("set");
    db.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);")
        .expect("made");
    drop(db);
    std::fs::read(file(&dir)).expect("read")
}

#[test]
fn a_log_without_its_database_is_not_thrown_away() {
    let dir = dir();
    let log = dir.path().join("coordinator.db-wal");
    std::fs::write(&log, b"something").expect("written");
    let error = open_at(&file(&dir)).expect_err("half is missing");
    assert!(
        error.to_string().contains("put the database back"),
        "{error}"
    );
    assert!(log.exists() && !file(&dir).exists());
}

#[test]
fn after_a_failed_write_the_whole_file_is_checked() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = chaos::world();
    for _ in 0..200 {
        world.submit(world::job());
    }
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    store.inner._lock.mark().expect("a handle").sign_failed();
    drop(store);
    let good = std::fs::read(file(&dir)).expect("read");
    let mut bad = good.clone();
    let middle = bad.len() / 2 / 4096 * 4096;
    bad[middle..middle + 4096].fill(0xff);
    std::fs::write(file(&dir), &bad).expect("written");
    for _ in 0..2 {
        let error = open_at(&file(&dir)).expect_err("damaged, however often it is tried");
        assert!(
            error.is_fatal() && error.to_string().contains("damaged"),
            "{error}"
        );
    }
    std::fs::write(file(&dir), &good).expect("written");
    let (store, state) = open_at(&file(&dir)).expect("restored");
    same(&state, world.state());
    drop(store);
    let signed = std::fs::read_to_string(dir.path().join("lock")).expect("read");
    assert_eq!(
        signed.trim(),
        std::process::id().to_string(),
        "all is well again"
    );
}

const SECOND: &str =
    "ALTER TABLE users ADD COLUMN note TEXT; UPDATE meta SET next_uid = next_uid + 1;";

#[test]
fn a_migration_copies_first_and_the_old_release_still_opens_the_copy() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = chaos::world();
    world.submit(world::job());
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    drop(store);
    let form = u32::try_from(migrate::STEPS.len()).expect("few");
    let steps = [migrate::STEPS, &[SECOND]].concat();
    let (store, state) = Store::open_with(
        &file(&dir),
        (&keyring(), open::BUSY),
        world::meta,
        &steps,
        None,
    )
    .expect("migrated");
    assert_eq!(state.meta.next_uid, world.state().meta.next_uid + 1);
    assert_eq!(state.sessions, world.state().sessions);
    drop(store);
    assert!(matches!(
        open_at(&file(&dir)),
        Err(StoreError::Newer { found, known }) if (found, known) == (form + 1, form)
    ));
    let copy = dir.path().join(format!("coordinator.db.form-{form}"));
    assert_eq!(
        std::fs::metadata(&copy)
            .expect("a copy")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let (_store, state) = open_at(&copy).expect("the copy");
    same(&state, world.state());
}

#[test]
fn a_migration_that_fails_leaves_everything_as_it_was() {
    let dir = dir();
    let (store, state) = open_at(&file(&dir)).expect("a new store");
    drop(store);
    for bad in [
        "UPDATE meta SET next_uid = 9; SELECT nonsense;",
        "UPDATE meta SET next_uid = 'x'",
    ] {
        let steps = [migrate::STEPS, &[SECOND, bad]].concat();
        let error = Store::open_with(
            &file(&dir),
            (&keyring(), open::BUSY),
            world::meta,
            &steps,
            None,
        )
        .expect_err("a bad step");
        assert!(error.to_string().contains("be migrated"), "{error}");
        // Steps that went through before it stay: each is whole.
        let good = &steps[..steps.len() - 1];
        let again = Store::open_with(
            &file(&dir),
            (&keyring(), open::BUSY),
            world::meta,
            good,
            None,
        )
        .expect("opened");
        assert_eq!(again.1.meta.next_uid, state.meta.next_uid + 1);
    }
}

/// Objects as the first form had them: what came later takes its default.
#[test]
fn a_database_of_the_first_form_is_brought_up_to_date() {
    let dir = dir();
    let db = Connection::open(file(&dir)).expect("made");
    db.execute_batch(migrate::STEPS[0]).expect("the first form");
    db.execute_batch("PRAGMA application_id = 0x4c675368; PRAGMA user_version = 1;")
        .expect("marked");
    db.execute(
        "INSERT INTO meta VALUES (1, ?1, 4, 9, 20001)",
        [world::meta().cluster.to_string()],
    )
    .expect("an installation");
    let (user, group) = (UserId::new(5), GroupId::new(1));
    let person = serde_json::json!({
        "id": user, "username": "ada", "email": "ada@example.org", "role": "superadmin",
        "uid": 20_000, "created_at": Timestamp(0),
    });
    let resources = serde_json::json!({
        "id": group, "name": "default", "active": true, "default": true,
        "creation_retries": 3, "declare_lost_s": 600, "idle": null,
    });
    db.execute(
        "INSERT INTO users VALUES (?1, 'ada', 'ada@example.org', 0, ?2)",
        (user.to_string(), person.to_string()),
    )
    .expect("a user");
    db.execute(
        "INSERT INTO resource_groups VALUES (?1, 'default', ?2)",
        (group.to_string(), resources.to_string()),
    )
    .expect("a group");
    // What a node has stood in its own row.
    let world = chaos::world();
    let mut node = world.state().agents.values().next().expect("one").clone();
    node.group = group;
    let mut old = serde_json::to_value(&node).expect("plain");
    old["inventory"] = serde_json::to_value(&node.inventory).expect("plain");
    db.execute(
        "INSERT INTO agents VALUES (?1, ?2, ?3, 'ALIVE', ?4)",
        (
            node.id.to_string(),
            &node.name,
            group.to_string(),
            old.to_string(),
        ),
    )
    .expect("a node");
    let second = serde_json::json!({
        "id": UserId::new(6), "username": "eve", "email": "eve@example.org", "role": "user",
        "uid": 20_001, "created_at": Timestamp(1), "active": false, "projects": [ProjectId::new(4)],
    });
    db.execute(
        "INSERT INTO users VALUES (?1, 'eve', 'eve@example.org', 1, ?2)",
        (UserId::new(6).to_string(), second.to_string()),
    )
    .expect("a user");
    let pair = serde_json::json!({
        "access_key": "LSEVE", "secret_sha256": vec![3; 32], "user": UserId::new(6),
        "active": false, "created_at": Timestamp(1), "main": true,
    });
    db.execute(
        "INSERT INTO keypairs VALUES ('LSEVE', ?1, 0, ?2)",
        (UserId::new(6).to_string(), pair.to_string()),
    )
    .expect("a keypair");
    drop(db);
    let (store, mut state) = open_at(&file(&dir)).expect("migrated");
    let eve = &state.users[&UserId::new(6)];
    assert_eq!(eve.status, UserStatus::Inactive);
    assert_eq!(eve.projects, [Membership::manual(ProjectId::new(4))]);
    assert_eq!((eve.version, eve.updated_at), (1, Timestamp(1)));
    let pair = &state.keypairs["LSEVE"];
    assert_eq!(pair.state, KeypairState::Inactive);
    assert_eq!(pair.secret_sha256, Some([3; 32]));
    // What was open to everybody stays so.
    let factory = &state.access_rules[&FACTORY_RULE];
    assert_eq!(factory.rule, Rule::factory(FACTORY_RULE, BUILTIN.users));
    let known = &state.groups[&group];
    assert_eq!((known.version, known.creation_retries), (1, None));
    assert!(known.refuse_never_fits && state.users[&user].is_active());
    assert!(node.inventory.is_some());
    assert_eq!(state.agents[&node.id], node);
    // The next start gives it what every installation has.
    let started = longshore_core::model::Event::Started(Box::new(world::beginning()));
    let changes = longshore_core::model::react(&state, &started, Timestamp(7)).changes;
    changes.iter().for_each(|c| state.apply(c));
    wait(store.commit(changes)).expect("stored");
    let loaded = wait(store.load()).expect("read");
    same(&loaded, &state);
    let person = &loaded.users[&user];
    assert_eq!(loaded.domains[&person.domain].name, "default");
    assert_eq!(loaded.projects[&person.projects[0].project].name, "default");
    let policies = (
        loaded.keypair_policies.len(),
        loaded.user_policies.len(),
        loaded.project_policies.len(),
    );
    assert_eq!(policies, (1, 1, 1));
}
