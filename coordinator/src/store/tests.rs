//! The store against the core, against crashes, and against files it must not touch.

mod arrays;
mod copies;
mod notes;
mod people;
mod sealed;
mod transitions;

#[path = "../../core/tests/core/chaos.rs"]
mod chaos;
#[path = "../../core/tests/core/world.rs"]
mod world;

use super::{
    AuditFilter, SessionFilter, Store, StoreError, UsageFilter, UsageOf, migrate, open,
    verify_audit_file,
};
use crate::engine::audit::seal;
use crate::secrets::{Keyring, MasterKey};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::announcements::AnnouncementLevel;
use longshore_common::ids::AnnouncementId;
use longshore_common::ids::{
    AgentId, GroupId, ImageId, PolicyId, PresetId, ProjectId, SessionId, UserId,
};
use longshore_common::notify::NoteEvent;
use longshore_common::session::{ContainerState, SessionState, SessionType};
use longshore_common::time::Timestamp;
use longshore_core::access::Rule;
use longshore_core::model::{
    Announcement, AuditHead, AuditLine, BUILTIN, Change, Charge, Counts, Cursor, DraftConfig,
    FACTORY_RULE, Group, Idempotency, Image, JoinToken, KeypairPolicy, KeypairState, LiveConfig,
    Membership, Meta, NotifyChoice, NotifySettings, PeopleSettings, PolicyKind, Pool, Preset,
    ProjectPolicy, ResourceConfig, SchedulerSettings, SettingSecret, State, StoredSettings,
    Stretch, UsageRow, UserPolicy, UserStatus,
};
use longshore_identity::Secret;
use longshore_identity::Sha256;
use longshore_identity::audit::{Actor, ActorKind, Draft, Head, Kind, Outcome, Report};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use world::World;

fn file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("coordinator.db")
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// The same key in each process of a test.
fn keyring() -> Keyring {
    let key = "c2l4dGVlbiBieXRlcywgYW5kIHNpeHRlZW4gbW9yZSE=";
    Keyring::new(MasterKey::parse(key).expect("a key"), Vec::new())
}

fn open_at(path: &Path) -> Result<(Store, State), StoreError> {
    Store::open(path, &keyring(), world::meta)
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(work)
}

/// A small generator (splitmix64): the same run for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn step(&mut self) -> chaos::Step {
        let bits = self.next();
        (bits as u8, (bits >> 8) as u16, (bits >> 24) as u16)
    }
}

// ---- what is stored is what is known ----

#[test]
fn load_gives_back_what_was_committed_after_any_events() {
    for seed in 0..4 {
        let dir = dir();
        let (store, state) = open_at(&file(&dir)).expect("a new store");
        assert_eq!(state, State::new(world::meta()));
        let (mut world, mut random) = (chaos::world(), Random(seed));
        for batch in 0..100 {
            for _ in 0..random.next() % 20 + 1 {
                chaos::step(&mut world, random.step());
                if random.next().is_multiple_of(3) {
                    let line = recorded(world.state().audit, random.next() % 9);
                    world.apply(vec![Change::Audit(Arc::new(line))]);
                }
            }
            wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
            if batch % 10 == 0 {
                same(&wait(store.load()).expect("read"), world.state());
            }
        }
        same(&wait(store.load()).expect("read"), world.state());
        past_is_there(&store, &world);
        usage_is_there(&store, &world);
        let end = world.state().audit;
        assert!(end.seq > 0);
        let report = wait(store.reader().verify_audit(end.seq, vec![witness(end)]));
        assert_eq!(report.expect("read"), whole(end));
        drop(store);
        let (_store, state) = open_at(&file(&dir)).expect("the same store");
        same(&state, world.state());
    }
}

/// Rows of usage are what the changes say, and none is gone.
fn usage_is_there(store: &Store, world: &World) {
    let filter = UsageFilter {
        of: UsageOf::All,
        stretch: Stretch::default(),
        owner: None,
        project: None,
        domain: None,
        group: None,
        session: None,
    };
    let take = |all: &mut Vec<UsageRow>, row| {
        all.push(row);
        true
    };
    let rows = wait(store.reader().usage(filter, Vec::new(), take, |all| all)).expect("read");
    let place = |row: &UsageRow| (row.key, row.slot.clone(), row.device.clone());
    let stored: BTreeMap<_, _> = rows
        .into_iter()
        .map(|row| {
            (
                place(&row),
                UsageRow {
                    busy_ms: 0,
                    measured_ms: 0,
                    ..row
                },
            )
        })
        .collect();
    assert_eq!(stored, world.usage);
}

/// A record that follows on this end.
fn recorded(head: AuditHead, n: u64) -> AuditLine {
    let actor = Actor::new(ActorKind::User).called(&format!("usr_{}", n % 3), "dana");
    let outcome = if n == 5 {
        Outcome::Refused
    } else {
        Outcome::Ok
    };
    let draft = Draft::new(
        actor,
        ["user.create", "agent.write"][usize::from(n > 3)],
        outcome,
    )
    .target("thing", &format!("t{n}"), "")
    .field("n", Kind::Plain, None, Some(n.into()));
    let at = Timestamp(i64::try_from(head.seq).expect("few") * 1000);
    let mut state = State::new(world::meta());
    state.audit = head;
    seal(&state, draft, None, at).expect("plain")
}

fn witness(end: AuditHead) -> Head {
    Head {
        seq: end.seq,
        hash: Sha256::from_bytes(end.hash),
    }
}

fn whole(end: AuditHead) -> Report {
    Report {
        ok: true,
        records: end.seq,
        first_bad_seq: None,
        head: witness(end),
    }
}

fn same(stored: &State, known: &State) {
    assert_eq!(stored.check(), Ok(()));
    assert!(stored == known, "stored {stored:#?}\nknown {known:#?}");
}

/// Every session and line there ever was, by way of the readers.
fn past_is_there(store: &Store, world: &World) {
    let reader = store.reader();
    for session in world.stored.values() {
        assert_eq!(
            wait(reader.session(session.id)).expect("read").as_ref(),
            Some(session)
        );
        let lines: Vec<_> = world
            .history
            .iter()
            .filter(|l| l.session == session.id)
            .cloned()
            .collect();
        assert_eq!(wait(reader.history(session.id)).expect("read"), lines);
    }
    let all = SessionFilter {
        include_ended: true,
        limit: u32::MAX,
        ..SessionFilter::default()
    };
    let newest_first: Vec<_> = world.stored.values().rev().cloned().collect();
    assert_eq!(wait(reader.sessions(all)).expect("read"), newest_first);
}

#[test]
fn a_batch_stores_the_last_form_of_each_object() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = chaos::world();
    let token = world.token(1, None);
    world.does(longshore_core::model::Event::DeleteToken(token));
    let id = world.submit(world::gpu_job(1));
    world.run(id);
    world.ends(id, world::exit(0));
    // Opened, freed and closed, and the device given out anew, all in one.
    let next = world.submit(world::gpu_job(1));
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    same(&wait(store.load()).expect("read"), world.state());
    assert_eq!(world.devices(next).len(), 1);
}

/// In the order of their ids the first gets the name while the row of the second has it.
#[test]
fn names_change_hands_in_one_batch() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = World::new();
    let (ann, bob) = (world.user("ann"), world.user("bob"));
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    for (user, name) in [(bob, "carl"), (ann, "bob")] {
        let mut user = world.state().users[&user].clone();
        user.username = name.to_owned();
        world.apply(vec![Change::User(Box::new(user))]);
    }
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    same(&wait(store.load()).expect("read"), world.state());
}

// ---- reading the past ----

#[test]
fn lists_are_filtered_and_paged() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = World::new();
    let named = |name: &str| longshore_common::api::NewSession {
        name: Some(name.to_owned()),
        ..world::job()
    };
    for n in 0..6 {
        let id = world.submit(named(&format!("train-{n}")));
        if n % 2 == 0 {
            world.terminate(&[id], 0, false);
        }
    }
    let again = world.submit(named("train-0"));
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    let ada = world.caller().user;
    let list = |filter: SessionFilter| -> Vec<u64> {
        let filter = SessionFilter {
            limit: filter.limit.max(1),
            ..filter
        };
        wait(store.reader().sessions(filter))
            .expect("read")
            .iter()
            .map(|s| s.id.0)
            .collect()
    };
    let base = || SessionFilter {
        limit: 100,
        ..SessionFilter::default()
    };
    let all = || SessionFilter {
        include_ended: true,
        ..base()
    };
    assert_eq!(list(base()), [7, 6, 4, 2]);
    assert_eq!(list(all()), [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(list(SessionFilter { limit: 3, ..all() }), [7, 6, 5]);
    assert_eq!(
        list(SessionFilter {
            limit: 3,
            before_id: Some(SessionId(5)),
            ..all()
        }),
        [4, 3, 2]
    );
    assert_eq!(
        list(SessionFilter {
            states: vec![SessionState::Cancelled],
            ..all()
        }),
        [5, 3, 1]
    );
    assert_eq!(
        list(SessionFilter {
            states: vec![SessionState::Cancelled],
            ..base()
        }),
        [0; 0]
    );
    assert_eq!(
        list(SessionFilter {
            name_contains: Some("IN-0".into()),
            ..all()
        }),
        [7, 1]
    );
    assert_eq!(
        list(SessionFilter {
            name_contains: Some("%".into()),
            ..all()
        }),
        [0; 0]
    );
    assert_eq!(
        list(SessionFilter {
            kinds: vec![SessionType::Interactive],
            ..all()
        }),
        [0; 0]
    );
    assert_eq!(
        list(SessionFilter {
            kinds: SessionType::ALL.to_vec(),
            groups: vec![GroupId::new(1)],
            owner: Some(ada),
            ..base()
        }),
        [7, 6, 4, 2]
    );
    assert_eq!(
        list(SessionFilter {
            groups: vec![GroupId::new(9)],
            ..all()
        }),
        [0; 0]
    );
    assert_eq!(
        list(SessionFilter {
            owner: Some(UserId::new(1)),
            ..all()
        }),
        [0; 0]
    );
    let by_name = |owner, name| wait(store.reader().session_by_name(owner, name)).expect("read");
    assert_eq!(by_name(ada, "train-0"), Some(again));
    assert_eq!(by_name(ada, "train-2"), Some(SessionId(3)));
    assert_eq!(
        (by_name(ada, "nope"), by_name(UserId::new(1), "train-0")),
        (None, None)
    );
    assert_eq!(
        wait(store.reader().session(SessionId(u64::MAX))).expect("read"),
        None
    );
    let late = store.reader();
    drop(store);
    assert!(matches!(
        wait(late.session(SessionId(1))),
        Err(StoreError::Failed(_))
    ));
}

#[test]
fn many_read_at_once_beside_the_writer() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = chaos::world();
    world.submit(world::job());
    let changes = std::mem::take(&mut world.changes);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        store.commit(changes).await.expect("stored");
        let reads: Vec<_> = (0..64)
            .map(|_| {
                let reader = store.reader();
                tokio::spawn(async move { reader.session(SessionId(1)).await })
            })
            .collect();
        for n in 2..50 {
            store
                .commit(vec![Change::Meta(Meta {
                    next_session: n,
                    ..world::meta()
                })])
                .await
                .expect("stored");
        }
        for read in reads {
            assert!(read.await.expect("no panic").expect("read").is_some());
        }
    });
}

// ---- files it must not touch ----

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

// ---- from one form to the next ----

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

// ---- settings, policies, pools ----

#[test]
fn what_is_set_up_is_read_back_and_what_is_deleted_is_gone() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = World::new();
    world.does(longshore_core::model::Event::Started(Box::new(
        world::beginning(),
    )));
    let store_and_compare = |world: &mut World, changes: Vec<Change>| {
        world.apply(changes);
        wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
        same(&wait(store.load()).expect("read"), world.state());
    };
    let (second, at) = (GroupId::new(20), Timestamp(5));
    let preset = |n: u128, name: &str| {
        Change::Preset(Preset {
            id: PresetId::new(n),
            version: 1,
            name: name.to_owned(),
            description: String::new(),
            group: Some("more".to_owned()),
            slots: Slots::new().with(SlotName::cpu(), 2000),
            shm_bytes: Some(64 << 20),
            created_at: at,
        })
    };
    let image = |n: u128, reference: &str, version| {
        Change::Image(Image {
            id: ImageId::new(n),
            version,
            reference: reference.to_owned(),
            description: String::new(),
            min_slots: Slots::new().with(SlotName::cpu(), 2000),
            shm_bytes: None,
            created_at: at,
        })
    };
    let config = |version, enabled| {
        Change::Config(Box::new(LiveConfig {
            version,
            provisioned_at: Some(at),
            by: "user ada".to_owned(),
            enabled,
            config: ResourceConfig {
                pools: vec![Pool {
                    name: format!("Pool {version}"),
                    description: String::new(),
                    group: "more".to_owned(),
                    counts: Counts::Slot(SlotName::cpu()),
                    count: Some(8000),
                    profiles: vec![],
                }],
                ..ResourceConfig::default()
            },
        }))
    };
    let draft = |version| {
        Change::ConfigDraft(Some(Box::new(DraftConfig {
            version,
            base: 1,
            saved_at: at,
            config: ResourceConfig::default(),
        })))
    };
    let charge = |retries| {
        Change::Charged(Charge {
            group: second,
            priority: 10,
            shape: "any|cpu 1".to_owned(),
            retries,
            last_charged_at: at,
        })
    };
    let cursor = |agent: &str| {
        Change::Cursor(Cursor {
            group: second,
            arch: "amd64".to_owned(),
            agent: agent.to_owned(),
        })
    };
    let mut policy = KeypairPolicy::new(PolicyId::new(30), "Student", at);
    policy.total_slots.set(SlotName::cpu(), Some(4000));
    policy.max_priority = Some(50);
    store_and_compare(
        &mut world,
        vec![
            Change::Group(Group::new(second, "more")),
            Change::KeypairPolicy(Box::new(policy)),
            Change::UserPolicy(UserPolicy::new(PolicyId::new(31), "Student", at)),
            Change::ProjectPolicy(ProjectPolicy::new(PolicyId::new(32), "Student", at)),
            preset(40, "small"),
            image(60, "docker.io/library/a:latest", 1),
            image(61, "docker.io/library/b:latest", 1),
            config(1, true),
            config(2, true),
            draft(1),
            charge(1),
            cursor("n1"),
            Change::PeopleSettings(PeopleSettings {
                service_account_admins: true,
                throttle: longshore_identity::throttle::Limits {
                    failures: 3,
                    ..longshore_identity::throttle::Limits::default()
                },
                fixed_users_only: true,
                fixed_users: [UserId::new(5)].into(),
            }),
            Change::Announcement(Announcement {
                id: AnnouncementId::new(50),
                text: "gpu01 is down".to_owned(),
                level: AnnouncementLevel::Critical,
                until: Some(at),
                by: "ada".to_owned(),
                created_at: at,
            }),
            Change::NotifySettings(NotifySettings {
                mail: true,
                hooks: vec![("desk".to_owned(), [NoteEvent::AgentLost].into())],
            }),
            Change::NotifyChoice(NotifyChoice {
                mail: Some([NoteEvent::End].into()),
                ..NotifyChoice::usual(UserId::new(5))
            }),
            Change::Settings(StoredSettings {
                version: 2,
                values: BTreeMap::from([("a.b".to_owned(), serde_json::json!(true))]),
                secrets: ["a.c", "a.d"]
                    .map(|key| {
                        let text = Secret::new("\"hunter2\"".to_owned());
                        (key.to_owned(), SettingSecret::Open(text))
                    })
                    .into(),
            }),
            Change::Scheduler(SchedulerSettings {
                retries_to_skip: 0,
                ..SchedulerSettings::default()
            }),
        ],
    );
    store_and_compare(
        &mut world,
        vec![config(2, false), draft(2), charge(2), cursor("n2")],
    );
    // What is stored no more is forgotten, and nothing of it is in the clear.
    store_and_compare(
        &mut world,
        vec![Change::Settings(StoredSettings {
            version: 3,
            values: BTreeMap::new(),
            secrets: BTreeMap::from([(
                "a.c".to_owned(),
                SettingSecret::Open(Secret::new("\"hunter3\"".to_owned())),
            )]),
        })],
    );
    // Most of it lies in the log beside the database still.
    let mut bytes = std::fs::read(file(&dir)).expect("read");
    let mut log = file(&dir).into_os_string();
    log.push("-wal");
    bytes.extend(std::fs::read(log).expect("read"));
    let is_there = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(is_there("gpu01 is down"));
    assert!(!is_there("hunter"));
    let kept: i64 = Connection::open(file(&dir))
        .expect("opened")
        .query_row("SELECT count(*) FROM resource_config", [], |row| row.get(0))
        .expect("counted");
    assert_eq!(kept, 2, "versions that were live before are kept");
    // A past session of the group stays; its name is free for another group.
    let request = longshore_common::api::NewSession {
        group: Some("more".to_owned()),
        ..world::job()
    };
    let past = world.submit(request);
    world.terminate(&[past], 0, false);
    store_and_compare(
        &mut world,
        vec![
            Change::GroupDeleted(second),
            Change::Group(Group::new(GroupId::new(21), "More")),
            Change::PolicyDeleted(PolicyKind::Keypair, "STUDENT".to_owned()),
            Change::PolicyDeleted(PolicyKind::User, "student".to_owned()),
            Change::PolicyDeleted(PolicyKind::Project, "Student".to_owned()),
            Change::PresetDeleted(PresetId::new(40)),
            Change::ImageForgotten("docker.io/library/a:latest".to_owned()),
            image(61, "docker.io/library/b:latest", 2),
            preset(41, "Small"),
            Change::ConfigDraft(None),
            Change::AnnouncementDeleted(AnnouncementId::new(50)),
            Change::ChargeForgotten {
                group: second,
                priority: 10,
                shape: "any|cpu 1".to_owned(),
            },
        ],
    );
    assert_eq!(world.state().keypair_policies.len(), 1);
    assert!(world.state().charges.is_empty() && world.state().config_draft.is_none());
    let found = wait(store.reader().session(past)).expect("read");
    assert_eq!(found.map(|s| s.group_name), Some("more".to_owned()));
}

// ---- the audit log ----

/// A store with so many records, and the end of them.
fn with_records(path: &Path, many: u64) -> (Store, AuditHead) {
    let (store, state) = open_at(path).expect("a new store");
    let mut head = state.audit;
    let mut changes = Vec::new();
    for n in 0..many {
        let line = recorded(head, n);
        head = line.head();
        changes.push(Change::Audit(Arc::new(line)));
    }
    wait(store.commit(changes)).expect("stored");
    (store, head)
}

#[test]
fn whatever_is_done_to_the_audit_log_is_found() {
    let dir = dir();
    let (store, head) = with_records(&file(&dir), 6);
    drop(store);
    let good = std::fs::read(file(&dir)).expect("read");
    let check = |sql: &str, witnesses: &[AuditHead]| {
        std::fs::write(file(&dir), &good).expect("restored");
        let db = Connection::open(file(&dir)).expect("opened");
        db.execute_batch(sql).expect("done");
        drop(db);
        let witnesses = witnesses.iter().copied().map(witness);
        verify_audit_file(&file(&dir), witnesses).expect("read")
    };
    assert_eq!(check("", &[head]), whole(head));
    // Of a record that says something else, the digest is wrong; of one with a new digest, the
    // next one does not follow on it.
    let flip = "body = replace(body, '\"n\":2', '\"n\":3')";
    let zero = format!("hash = x'{}'", "0".repeat(64));
    for (sql, bad) in [
        (format!("UPDATE audit SET {flip} WHERE seq = 3"), 3),
        (format!("UPDATE audit SET {zero} WHERE seq = 3"), 3),
        (format!("UPDATE audit SET {flip}, {zero} WHERE seq = 3"), 3),
        ("UPDATE audit SET body = 'x' WHERE seq = 6".to_owned(), 6),
        ("DELETE FROM audit WHERE seq = 3".to_owned(), 3),
        ("DELETE FROM audit WHERE seq = 1".to_owned(), 1),
        ("UPDATE audit SET seq = 9 WHERE seq = 6".to_owned(), 6),
        ("UPDATE audit SET seq = -1 WHERE seq = 1".to_owned(), 1),
        // What searches go by is not in the digest, so it is compared.
        ("UPDATE audit SET actor = 'x' WHERE seq = 2".to_owned(), 2),
        ("UPDATE audit SET at = at + 1 WHERE seq = 2".to_owned(), 2),
        ("UPDATE audit SET target = 'x' WHERE seq = 2".to_owned(), 2),
        (
            "UPDATE audit SET outcome = 'ok' WHERE seq = 6".to_owned(),
            6,
        ),
        (
            "UPDATE audit SET operation = 'x' WHERE seq = 2".to_owned(),
            2,
        ),
    ] {
        let report = check(&sql, &[]);
        assert!(!report.ok, "{sql}: {report:?}");
        assert_eq!(report.first_bad_seq, Some(bad), "{sql}");
        assert_eq!(report.head.seq, bad - 1, "{sql}");
    }
    // An end that was cut off is a shorter log: only who remembers it can tell.
    let cut = "DELETE FROM audit WHERE seq > 4";
    assert!(check(cut, &[]).ok);
    assert_eq!(check(cut, &[head]).first_bad_seq, Some(5));
    std::fs::remove_file(file(&dir)).expect("removed");
    let gone = verify_audit_file(&file(&dir), []).expect_err("nothing there");
    assert!(gone.to_string().contains("could not open"), "{gone}");
}

#[test]
fn the_audit_log_is_checked_beside_the_coordinator_and_in_pieces() {
    let dir = dir();
    let (store, head) = with_records(&file(&dir), 2500);
    let report = verify_audit_file(&file(&dir), [witness(head)]).expect("read");
    assert_eq!(report, whole(head));
    let report = wait(store.reader().verify_audit(1700, vec![])).expect("read");
    assert_eq!((report.ok, report.records), (true, 1700));
    drop(store);
    let names = std::fs::read_dir(dir.path()).expect("a directory").count();
    assert_eq!(names, 2, "the database and its lock");
}

#[test]
fn old_records_go_from_the_start_in_pieces() {
    let dir = dir();
    let (store, mut head) = with_records(&file(&dir), 6000);
    let expired = |before: i64| wait(store.reader().expired_audit(Timestamp(before)));
    assert_eq!(expired(0).expect("read"), None, "nothing is older");
    let mut ends = Vec::new();
    // Record n is of second n - 1; five thousand are a piece.
    while let Some(end) = expired(5_500_000).expect("read") {
        ends.push(end.seq);
        let mut state = State::new(world::meta());
        state.audit = head;
        let line = seal(&state, Draft::checkpoint(end), None, Timestamp(6_000_000)).expect("plain");
        head = line.head();
        let changes = vec![
            Change::AuditForgotten(end.seq),
            Change::Audit(Arc::new(line)),
        ];
        wait(store.commit(changes)).expect("stored");
        let report = verify_audit_file(&file(&dir), [witness(head)]).expect("read");
        assert!(report.ok, "{report:?}");
        assert_eq!(report.records, head.seq - end.seq);
    }
    assert_eq!(ends, [5000, 5500]);
    // The start that is left has to be vouched for.
    drop(store);
    let db = Connection::open(file(&dir)).expect("opened");
    db.execute("DELETE FROM audit WHERE seq <= 5501", [])
        .expect("done");
    drop(db);
    let report = verify_audit_file(&file(&dir), []).expect("read");
    assert_eq!((report.ok, report.first_bad_seq), (false, Some(1)));
}

#[test]
fn records_are_found_by_what_they_say() {
    let dir = dir();
    let (store, _) = with_records(&file(&dir), 9);
    let find = |filter: AuditFilter| -> Vec<u64> {
        let filter = AuditFilter {
            limit: filter.limit.max(1),
            ..filter
        };
        let found = wait(store.reader().audit(filter)).expect("read");
        found.iter().map(|record| record.seq).collect()
    };
    let all = || AuditFilter {
        limit: 100,
        ..AuditFilter::default()
    };
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    assert_eq!(find(all()), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    let table = [
        (
            AuditFilter {
                actors: words(&["usr_1"]),
                ..all()
            },
            vec![8, 5, 2],
        ),
        (
            AuditFilter {
                operations: words(&["user.create"]),
                ..all()
            },
            vec![4, 3, 2, 1],
        ),
        (
            AuditFilter {
                targets: words(&["t0", "t8"]),
                ..all()
            },
            vec![9, 1],
        ),
        (
            AuditFilter {
                targets: words(&["%"]),
                ..all()
            },
            vec![],
        ),
        (
            AuditFilter {
                outcomes: vec![Outcome::Refused],
                ..all()
            },
            vec![6],
        ),
        (
            AuditFilter {
                outcomes: vec![Outcome::Failed],
                ..all()
            },
            vec![],
        ),
        (
            AuditFilter {
                outcomes: vec![Outcome::Refused, Outcome::Ok],
                limit: 2,
                ..all()
            },
            vec![9, 8],
        ),
        (
            AuditFilter {
                from: Some(Timestamp(2000)),
                to: Some(Timestamp(4000)),
                ..all()
            },
            vec![4, 3],
        ),
        (
            AuditFilter {
                below: Some(4),
                ..all()
            },
            vec![3, 2, 1],
        ),
        (
            AuditFilter {
                above: Some(4),
                below: Some(8),
                oldest_first: true,
                ..all()
            },
            vec![5, 6, 7],
        ),
    ];
    for (filter, expected) in table {
        assert_eq!(find(filter.clone()), expected, "{filter:?}");
    }
}

#[test]
fn a_number_that_is_there_takes_everything_back() {
    let dir = dir();
    let (store, head) = with_records(&file(&dir), 2);
    let twice = Change::Audit(Arc::new(recorded(AuditHead::default(), 1)));
    let meta = Meta {
        next_session: 99,
        ..world::meta()
    };
    let error = wait(store.commit(vec![Change::Meta(meta), twice])).expect_err("there already");
    assert!(error.is_audit() && !error.is_fatal(), "{error}");
    let state = wait(store.load()).expect("read");
    assert_eq!((state.audit, state.meta), (head, world::meta()));
}

// ---- what the database itself refuses ----

#[test]
fn a_device_given_out_twice_is_refused() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = chaos::world();
    let [first, other] = [(); 2].map(|()| world.submit(world::gpu_job(1)));
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    let rows = |world: &World, id| {
        world.state().ledger[&world.key(id)]
            .values()
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut stolen = rows(&world, first)
        .into_iter()
        .find(|r| r.device.is_some())
        .expect("a device");
    stolen.key = world.key(other);
    let meta = Meta {
        next_session: 99,
        ..world::meta()
    };
    let twice = vec![Change::Meta(meta), Change::LedgerOpened(stolen.clone())];
    let error = wait(store.commit(twice)).expect_err("given out already");
    assert!(!error.is_fatal() && !error.is_disk_full(), "{error}");
    same(&wait(store.load()).expect("read"), world.state());
    // The same device id on another node is another device; once closed, this one is free.
    let elsewhere = world
        .state()
        .agents
        .values()
        .find(|a| a.id != stolen.agent)
        .expect("three nodes")
        .id;
    let copied = longshore_core::model::LedgerRow {
        agent: elsewhere,
        ..stolen.clone()
    };
    wait(store.commit(vec![Change::LedgerOpened(copied)])).expect("another device");
    let now = Timestamp(5);
    let (closed, gone) = (world.key(first), world.key(other));
    wait(store.commit(vec![
        Change::LedgerClosed { key: gone, at: now },
        Change::LedgerClosed {
            key: closed,
            at: now,
        },
    ]))
    .expect("closed");
    let mut anew = stolen;
    anew.key.attempt = anew.key.attempt.next();
    wait(store.commit(vec![Change::LedgerOpened(anew)])).expect("free again");
}

#[test]
fn rows_that_belong_to_nothing_are_refused() {
    let dir = dir();
    let (store, state) = open_at(&file(&dir)).expect("a new store");
    let mut world = chaos::world();
    world.submit(world::job());
    let session = world.stored.values().next().expect("one").clone();
    let error = wait(store.commit(vec![Change::Session(Box::new(session))])).expect_err("nobody's");
    assert!(!error.is_fatal(), "{error}");
    same(&wait(store.load()).expect("read"), &state);
}

#[test]
fn a_full_disk_takes_nothing_back_and_heals() {
    let dir = dir();
    let (store, _) = Store::open_with(
        &file(&dir),
        (&keyring(), open::BUSY),
        world::meta,
        migrate::STEPS,
        Some(60),
    )
    .expect("a small store");
    let mut state = wait(store.load()).expect("read");
    let group = Change::Group(world::group());
    wait(store.commit(vec![group.clone()])).expect("room for that");
    state.apply(&group);
    let error = (1..1000)
        .find_map(|n| {
            let changes = numbered(n, 2000);
            let done = wait(store.commit(changes.clone()));
            if done.is_ok() {
                changes.iter().for_each(|c| state.apply(c));
            }
            done.err()
        })
        .expect("full at last");
    assert!(error.is_disk_full() && !error.is_fatal(), "{error}");
    same(&wait(store.load()).expect("reads go on"), &state);
    let smaller = vec![Change::Meta(Meta {
        next_uid: 5,
        ..state.meta.clone()
    })];
    wait(store.commit(smaller.clone())).expect("what needs no room is stored");
    smaller.iter().for_each(|c| state.apply(c));
    drop(store);
    let (store, loaded) = open_at(&file(&dir)).expect("with room");
    same(&loaded, &state);
    wait(store.commit(numbered(2000, 2000))).expect("healed");
}

// ---- crashes ----

/// A batch that shows by itself whether all of it is there.
fn numbered(n: u64, padding: usize) -> Vec<Change> {
    let token = JoinToken {
        id: format!("{n}"),
        secret_sha256: [1; 32],
        group: GroupId::new(1),
        agent_name: Some("x".repeat(padding)),
        created_at: Timestamp(0),
        expires_at: Timestamp(0),
        max_uses: 1,
        joined: vec![([2; 32], AgentId::new(1), Timestamp(0))],
        created_by: UserId::new(1),
    };
    vec![
        Change::Meta(Meta {
            next_session: n,
            ..world::meta()
        }),
        Change::Token(token),
    ]
}

const CHILD: &str = "LONGSHORE_STORE_TEST_CHILD";

/// Not a test by itself: what the child of the crash tests does.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let (store, state) = open_at(Path::new(&path)).expect("the store");
    wait(store.commit(vec![Change::Group(world::group())])).expect("a group");
    let mut head = state.audit;
    for n in state.meta.next_session + 1.. {
        let line = recorded(head, n % 9);
        head = line.head();
        let mut changes = numbered(n, 300);
        changes.push(Change::Audit(Arc::new(line)));
        match wait(store.commit(changes)) {
            Ok(()) => println!("\nacknowledged {n}"),
            Err(error) => {
                let again = wait(store.commit(numbered(n, 0))).expect_err("failed before");
                println!(
                    "\nfatal {} full {} again {}",
                    error.is_fatal(),
                    error.is_disk_full(),
                    matches!(again, StoreError::Failed(_))
                );
                println!("{error}; {again}");
                std::process::exit(3); // as the engine does
            }
        }
    }
}

fn spawn(path: &Path, shell: &str) -> Child {
    let (_, module) = module_path!()
        .split_once("::")
        .expect("a crate and a module");
    let me = std::env::current_exe().expect("this program");
    Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$0\" \"$@\"")])
        .arg(me)
        .args([
            "--exact",
            &format!("{module}::child"),
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child")
}

fn last_acknowledged(line: &str) -> Option<u64> {
    line.strip_prefix("acknowledged ")?.parse().ok()
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let dir = dir();
    // Another in each run, and shown with whatever fails.
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random(seed);
    let (mut total, mut before) = (0, world::meta().next_session);
    for round in 0..20 {
        let mut child = spawn(&file(&dir), "");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = lines
            .by_ref()
            .map(|l| l.expect("a line"))
            .find_map(|l| last_acknowledged(&l));
        let mut last = first.expect("it says something");
        std::thread::sleep(Duration::from_micros(random.next() % 150_000));
        child.kill().expect("killed");
        child.wait().expect("gone");
        last = lines
            .map_while(Result::ok)
            .filter_map(|l| last_acknowledged(&l))
            .last()
            .unwrap_or(last);
        let (store, state) = open_at(&file(&dir)).expect("it opens again");
        let found = state.meta.next_session;
        assert!(
            (last..=last + 1).contains(&found),
            "seed {seed}, round {round}: {last} acknowledged, {found} found"
        );
        assert_eq!(
            state.tokens.len() as u64,
            found - world::meta().next_session,
            "seed {seed}, round {round}: all of a batch or none"
        );
        assert!(
            found > before,
            "seed {seed}, round {round}: it went on where it was"
        );
        assert_eq!(
            (state.audit.seq, verify_audit_file(&file(&dir), []).ok()),
            (state.tokens.len() as u64, Some(whole(state.audit))),
            "seed {seed}, round {round}: a record with each change, chained over each kill"
        );
        (total, before) = (total + 1, found);
        drop(store);
    }
    assert_eq!(total, 20);
}

#[test]
fn a_write_that_fails_ends_everything_until_a_new_start() {
    let dir = dir();
    drop(open_at(&file(&dir)).expect("a new store"));
    // No file may grow beyond 512 blocks; the signal for it is ignored, so writes fail.
    let mut child = spawn(&file(&dir), "trap '' XFSZ; ulimit -f 512;");
    let mut text = String::new();
    child
        .stdout
        .take()
        .expect("its output")
        .read_to_string(&mut text)
        .expect("text");
    assert_eq!(child.wait().expect("gone").code(), Some(3), "{text}");
    assert!(text.contains("fatal true full false again true"), "{text}");
    let last = text
        .lines()
        .filter_map(last_acknowledged)
        .next_back()
        .expect("some were stored");
    let signed = std::fs::read_to_string(dir.path().join("lock")).expect("read");
    assert!(signed.contains("failed"), "{signed}");
    let (_store, state) = open_at(&file(&dir)).expect("it opens again, checked");
    assert!((last..=last + 1).contains(&state.meta.next_session));
    assert_eq!(
        state.tokens.len() as u64,
        state.meta.next_session - world::meta().next_session
    );
}

#[test]
fn the_log_is_taken_in_while_it_runs() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    wait(store.commit(vec![Change::Group(world::group())])).expect("stored");
    for n in 2..400 {
        wait(store.commit(numbered(n, 20_000))).expect("stored");
    }
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).map_or(0, |m| m.len());
    assert!(size("coordinator.db") > 4 << 20, "nothing was taken in");
    assert!(
        size("coordinator.db-wal") < 16 << 20,
        "the log grows for ever"
    );
}

#[test]
fn idempotency_keys_are_kept_and_forgotten() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = chaos::world();
    let id = world.submit(world::job());
    let caller = world.caller().user;
    let entry = Idempotency {
        caller,
        key: "k\0'".into(),
        body_sha256: [9; 32],
        session: id,
        at: world.now,
    };
    world.apply(vec![Change::Idempotency(entry.clone())]);
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    same(&wait(store.load()).expect("read"), world.state());
    world.apply(vec![Change::IdempotencyForgotten {
        caller,
        key: entry.key,
    }]);
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    same(&wait(store.load()).expect("read"), world.state());
    assert!(world.state().idempotency.is_empty());
}

#[test]
fn settings_are_the_safe_ones() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    drop(store);
    let lock = open::lock(&file(&dir)).expect("free");
    let db = open::writer(&file(&dir), &lock).expect("opened");
    let ask = |name: &str| -> String {
        db.pragma_query_value(None, name, |row| {
            Ok(match row.get_ref(0)? {
                rusqlite::types::ValueRef::Integer(n) => n.to_string(),
                other => other.as_str().unwrap_or("?").to_owned(),
            })
        })
        .unwrap_or_default()
    };
    for (name, value) in [
        ("journal_mode", "wal"),
        ("synchronous", "2"),
        ("foreign_keys", "1"),
        ("busy_timeout", "5000"),
        ("trusted_schema", "0"),
        ("cell_size_check", "1"),
        ("wal_autocheckpoint", "0"),
    ] {
        assert_eq!(ask(name), value, "{name}");
    }
    db.pragma_update(None, "writable_schema", 1)
        .expect("accepted");
    assert_eq!(ask("writable_schema"), "0", "defensive");
    let reader = open::reader(&file(&dir)).expect("opened");
    assert!(
        reader.execute("DELETE FROM meta", []).is_err(),
        "readers only read"
    );
    assert_eq!(ContainerState::ALL.len(), 10);
}
