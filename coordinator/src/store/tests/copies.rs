//! Copies: whole while others write, refused where they are not ours, and never a way back to
//! numbers that were given.

use super::world::{World, job};
use super::{Change, Connection, Meta, Path, PathBuf, dir, file, open_at, same, wait};
use crate::store::{Restored, Store, StoreError, backup, copies, restore};
use longshore_common::api::NewSession;
use longshore_common::ids::{AgentId, ClusterId, SessionId};
use longshore_common::time::Timestamp;
use longshore_core::model::State;
use std::os::unix::fs::PermissionsExt as _;

const NOW: Timestamp = Timestamp(1_800_000_000_123);

struct Place {
    dir: tempfile::TempDir,
    database: PathBuf,
    copy: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = dir();
        let database = file(&dir);
        let copy = dir.path().join("copy.db");
        Self {
            dir,
            database,
            copy,
        }
    }

    fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.dir.path()).expect("a directory");
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn stored(store: &Store, world: &mut World) {
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
}

/// A cluster with a node and sessions, and a copy from before the last of them.
fn lived() -> (Place, World, AgentId, SessionId) {
    let place = Place::new();
    let (store, _) = open_at(&place.database).expect("a new store");
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    world.submit(job());
    world.submit(NewSession {
        hold: true,
        ..job()
    });
    stored(&store, &mut world);
    backup(&place.database, &place.copy).expect("while it serves");
    let last = (0..3).map(|_| world.submit(job())).last().unwrap();
    stored(&store, &mut world);
    (place, world, agent, last)
}

fn put_back(place: &Place, now: Timestamp) -> (Restored, State) {
    let restored = restore(&place.database, &place.copy, now).expect("a good copy");
    let (_store, state) = open_at(&place.database).expect("a database");
    (restored, state)
}

#[test]
fn what_is_put_back_gives_no_number_that_was_given_and_is_obeyed() {
    let (place, world, agent, last) = lived();
    let before = world.state().agents[&agent].generation;
    let (restored, state) = put_back(&place, NOW);
    assert!(!state.sessions.contains_key(&last), "it is older");
    assert!(state.sessions.contains_key(&SessionId(1)));
    // 10,000 above the newest of both that are known.
    let next = world.state().meta.next_session + 10_000;
    assert_eq!(
        (restored.next_session, state.meta.next_session),
        (next, next)
    );
    // An agent that obeyed the coordinator until then obeys this one, and takes no set of its
    // for one that it has applied.
    assert_eq!(state.meta.generation.0, 1_800_000_000);
    assert!(state.meta.generation > world.state().meta.generation);
    let orders = state.agents[&agent].generation;
    assert!(
        orders.0 == 1_800_000_000_123 && orders > before,
        "{orders:?}"
    );
    assert_eq!(restored.cluster, state.meta.cluster);
    // Again, and within the same second: above what that one began with.
    let (_, again) = put_back(&place, Timestamp(NOW.0 + 1));
    assert!(again.meta.generation > state.meta.generation);
    assert!(again.meta.next_session > state.meta.next_session);
    assert!(again.agents[&agent].generation > orders);
}

/// What waited may run by now, on a node that has not said so yet.
#[test]
fn what_waits_in_a_copy_is_given_no_place_before_nodes_have_spoken() {
    let (place, ..) = lived();
    let (_, state) = put_back(&place, NOW);
    let [placed, waits] = [1, 2].map(|n| &state.sessions[&SessionId(n)]);
    assert!(!placed.waits() && waits.waits());
    assert_eq!(placed.not_before, None);
    assert_eq!(waits.not_before, Some(NOW.plus_s(120)));
    // Put back again, it counts from then.
    let (_, again) = put_back(&place, Timestamp(NOW.0 + 5));
    let waits = &again.sessions[&SessionId(2)];
    assert_eq!(waits.not_before, Some(Timestamp(NOW.0 + 5).plus_s(120)));
}

#[test]
fn what_was_there_stays_beside_it() {
    let (place, world, ..) = lived();
    let (restored, _) = put_back(&place, NOW);
    let before = restored.before.expect("there was one");
    assert_eq!(
        before,
        place.dir.path().join("coordinator.db.before-1800000000")
    );
    let (_store, state) = open_at(&before).expect("a database");
    same(&state, world.state());
}

#[test]
fn the_log_of_a_coordinator_that_was_killed_goes_with_its_database() {
    let (place, ..) = lived();
    let (store, _) = open_at(&place.database).expect("it starts");
    let killed = Place::new();
    wait(store.commit(vec![Change::Meta(Meta {
        next_session: 77,
        ..super::world::meta()
    })]))
    .expect("stored");
    for end in ["", "-wal"] {
        let of = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
        std::fs::copy(of(&place.database), of(&killed.database)).expect("copied");
    }
    std::fs::copy(&place.copy, &killed.copy).expect("copied");
    let restored = restore(&killed.database, &killed.copy, NOW).expect("put back");
    assert_eq!(restored.next_session, 10_077, "the log was read");
    let (_store, state) = open_at(&restored.before.unwrap()).expect("a database");
    assert_eq!(state.meta.next_session, 77);
}

#[test]
fn a_copy_is_whole_private_and_replaces_nothing() {
    let place = Place::new();
    let (store, _) = open_at(&place.database).expect("a new store");
    let mut world = World::new();
    world.submit(job());
    stored(&store, &mut world);
    let bytes = backup(&place.database, &place.copy).expect("copied");
    let meta = place.copy.metadata().unwrap();
    assert_eq!(
        (meta.len(), meta.permissions().mode() & 0o777),
        (bytes, 0o600)
    );
    assert!(!place.names().iter().any(|name| name.contains("part")));
    // The lock is one for all of a directory.
    let elsewhere = dir();
    std::fs::copy(&place.copy, file(&elsewhere)).expect("copied");
    let (_store, state) = open_at(&file(&elsewhere)).expect("a database");
    same(&state, world.state());
    let again = backup(&place.database, &place.copy);
    assert!(matches!(again, Err(StoreError::Io { .. })), "{again:?}");
    assert_eq!(place.copy.metadata().unwrap().len(), bytes);
    let none = backup(
        &place.dir.path().join("none.db"),
        &place.dir.path().join("x.db"),
    );
    assert!(none.is_err());
    assert!(!place.dir.path().join("x.db").exists());
}

#[test]
fn what_cannot_serve_is_not_put_in_place() {
    let (place, world, ..) = lived();
    let whole = std::fs::read(&place.database).unwrap();
    let other = Place::new();
    let of_other = {
        let (_store, _) = Store::open(&other.database, &super::keyring(), || Meta {
            cluster: ClusterId::new(8),
            ..super::world::meta()
        })
        .expect("another cluster");
        backup(&other.database, &other.copy).expect("copied");
        other.copy.clone()
    };
    let bad = |name: &str, change: fn(&Connection)| {
        let path = place.dir.path().join(name);
        std::fs::copy(&place.copy, &path).unwrap();
        let db = Connection::open(&path).unwrap();
        change(&db);
        path
    };
    let newer = bad("newer.db", |db| {
        db.pragma_update(None, "user_version", 9999).unwrap();
    });
    let foreign = bad("foreign.db", |db| {
        db.pragma_update(None, "application_id", 1).unwrap();
    });
    let orphan = bad("orphan.db", |db| {
        db.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM resource_groups")
            .unwrap();
    });
    let empty = place.dir.path().join("empty.db");
    std::fs::write(&empty, b"").unwrap();
    let text = place.dir.path().join("text.db");
    std::fs::write(&text, [b'x'; 5000]).unwrap();
    let gone = place.dir.path().join("gone.db");
    for from in [of_other, newer, foreign, orphan, empty, text, gone] {
        let refused = restore(&place.database, &from, NOW);
        assert!(refused.is_err(), "{}", from.display());
        assert_eq!(std::fs::read(&place.database).unwrap(), whole);
    }
    let (store, state) = open_at(&place.database).expect("as it was");
    same(&state, world.state());
    let runs = restore(&place.database, &place.copy, NOW);
    assert!(matches!(runs, Err(StoreError::Locked { .. })), "{runs:?}");
    drop(store);
    let left: Vec<String> = place.names();
    let left = left
        .iter()
        .filter(|n| n.contains("part") || n.contains("before"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_copy_makes_an_installation_where_there_is_none() {
    let (place, ..) = lived();
    let new = Place::new();
    std::fs::rename(&place.copy, &new.copy).unwrap();
    let (restored, state) = put_back(&new, NOW);
    assert_eq!(restored.before, None);
    assert!(state.meta.next_session >= 10_002);
}

#[test]
fn numbers_go_on_above_both() {
    let facts = |cluster: &str, generation, next_session| copies::Facts {
        cluster: cluster.to_owned(),
        generation,
        next_session,
    };
    let copy = facts("a", 5, 40);
    let go_on = |before: Option<copies::Facts>| copies::go_on(&copy, before.as_ref(), NOW);
    assert_eq!(go_on(None), (1_800_000_000, 10_040));
    assert_eq!(go_on(Some(facts("a", 9, 90))), (1_800_000_000, 10_090));
    // The clock stands wrong, or it was put back twice in one second.
    let high = facts("a", 1_900_000_000, 3);
    assert_eq!(go_on(Some(high)), (1_900_000_001, 10_040));
    assert_eq!(go_on(Some(facts("b", 9, 90))), (1_800_000_000, 10_040));
}
