//! The store against the core, against crashes, and against files it must not touch.

mod arrays;
mod audit;
mod copies;
mod faults;
mod files;
mod notes;
mod people;
mod replays;
mod retention;
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
    LoadedConfig, Membership, Meta, NotifyChoice, NotifySettings, PeopleSettings, PolicyKind, Pool,
    Preset, ProjectPolicy, ResourceConfig, SchedulerSettings, SettingSecret, State, StoredSettings,
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
            Change::Loaded(Box::new(LoadedConfig {
                digest: "d".to_owned(),
                keys: BTreeMap::from([("daemon.name".to_owned(), "e".to_owned())]),
            })),
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
