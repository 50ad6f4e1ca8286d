//! The engine with a real store that the tests can make fail.

use super::*;
use crate::secrets::Keyring;
use crate::store::{RawConnection as Connection, Store};
use longshore_common::ids::{ClusterId, CoordinatorGeneration, GroupId, UserId};
use longshore_core::model::{Group, Keypair, Meta, Role, SetupOrder, User};
use std::pin::pin;
use std::sync::Barrier;
use std::task::Poll;

/// Longer than any test takes.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// How a future stands, without waiting for it.
pub(crate) async fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    let mut future = std::pin::Pin::new(future);
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

struct Fixture {
    engine: Engine,
    /// The same database, by another connection.
    database: Connection,
    _dir: tempfile::TempDir,
}

async fn fixture(after_failure: Duration) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("longshore.db");
    let meta = Meta {
        cluster: ClusterId::new(1),
        generation: CoordinatorGeneration(1),
        next_session: 1,
        next_uid: 20_000,
    };
    let (store, mut state) = Store::open(&path, &Keyring::fresh(), || meta).unwrap();
    let group = Change::Group(Group::new(GroupId::new(1), "default"));
    state.apply(&group);
    store.commit(vec![group]).await.unwrap();
    let (effects, mut due) = mpsc::unbounded_channel();
    let (engine, _) = start_with(
        state,
        store,
        Arc::default(),
        effects,
        Vec::new(),
        after_failure,
    );
    tokio::spawn(async move { while due.recv().await.is_some() {} });
    let database = Connection::open(&path).unwrap();
    database.busy_timeout(Duration::from_secs(20)).unwrap();
    Fixture {
        engine,
        database,
        _dir: dir,
    }
}

impl Fixture {
    /// From now on no person can be stored.
    fn fail(&self) {
        let sql = "CREATE TRIGGER nobody BEFORE INSERT ON users
                   BEGIN SELECT RAISE(ABORT, 'nobody may be'); END";
        self.database.execute_batch(sql).unwrap();
    }

    fn heal(&self) {
        self.database.execute_batch("DROP TRIGGER nobody").unwrap();
    }
}

/// Something that has to be stored.
fn person() -> Event {
    let user = User {
        username: "dana".to_owned(),
        email: "dana@localhost".to_owned(),
        role: Role::Superadmin,
        uid: 0,
        ..User::new(UserId::new(1), Timestamp(0))
    };
    let keypair = Keypair::new("LSTEST", [0; 32], user.id, Timestamp(0));
    Event::Setup(Box::new(SetupOrder {
        user,
        keypair,
        place: Default::default(),
    }))
}

#[tokio::test]
async fn after_a_commit_that_failed_everybody_is_told_and_looks_go_on() {
    let f = fixture(FOR_EVER).await;
    f.fail();
    let told = f.engine.ask(person()).await;
    assert_eq!(told.unwrap_err(), EngineError::Store, "at once");
    f.heal();
    // What needs the store waits for it; what was asked later and does not is answered.
    let mut again = pin!(f.engine.ask(person()));
    assert!(poll(&mut again).await.is_pending());
    let people = f.engine.read(|state, _| state.users.len()).await.unwrap();
    assert_eq!(people, 0, "memory is what is stored");
    let people = f.engine.read(|state, _| state.users.len()).await.unwrap();
    assert_eq!(people, 0);
    assert!(
        poll(&mut again).await.is_pending(),
        "it was stored too soon"
    );
}

#[tokio::test]
async fn a_commit_that_failed_is_followed_by_one_that_does_not() {
    let f = fixture(Duration::from_millis(1)).await;
    f.fail();
    for _ in 0..3 {
        let told = f.engine.ask(person()).await;
        assert_eq!(told.unwrap_err(), EngineError::Store);
    }
    f.heal();
    assert!(f.engine.ask(person()).await.unwrap().is_ok());
    let people = f.engine.read(|state, _| state.users.len()).await.unwrap();
    assert_eq!(people, 1);
}

#[tokio::test]
async fn what_waits_for_the_store_is_bounded() {
    let f = fixture(FOR_EVER).await;
    f.fail();
    f.engine.ask(person()).await.unwrap_err();
    for _ in 0..BATCH + INBOX {
        f.engine.tell(Event::Tick).await.unwrap();
    }
    let more = f.engine.ask(Event::Tick).await;
    assert_eq!(more.unwrap_err(), EngineError::Busy);
}

#[tokio::test]
async fn a_look_that_waits_for_room_is_answered_where_another_is_refused() {
    let f = fixture(FOR_EVER).await;
    // The engine's task cannot run while this one does not wait.
    let mut looks: Vec<_> = (0..INBOX)
        .map(|_| Box::pin(f.engine.read(|_, _| ())))
        .collect();
    for look in &mut looks {
        assert!(poll(look).await.is_pending());
    }
    let mut told = pin!(f.engine.tell(Event::Tick));
    let mut patient = pin!(f.engine.read_when_room(|state, _| state.groups.len()));
    assert!(poll(&mut told).await.is_pending() && poll(&mut patient).await.is_pending());
    assert_eq!(f.engine.read(|_, _| ()).await, Err(EngineError::Busy));
    told.await.unwrap();
    assert_eq!(patient.await, Ok(1));
}

#[tokio::test]
async fn what_is_told_is_looked_at_once_it_is_stored_and_not_if_it_is_not() {
    let f = fixture(Duration::from_millis(1)).await;
    let (seen, mut looks) = mpsc::unbounded_channel();
    let tell = async |f: &Fixture| {
        let seen = seen.clone();
        let look = move |state: &State| seen.send(state.users.len()).unwrap();
        f.engine.tell_then(person(), look).await.unwrap();
        // Whatever was told before is decided when this is answered.
        f.engine.ask(Event::Tick).await.ok();
    };
    f.fail();
    tell(&f).await;
    assert!(looks.try_recv().is_err());
    f.heal();
    tell(&f).await;
    assert_eq!(looks.try_recv(), Ok(1));
}

async fn records(f: &Fixture) -> Vec<(i64, String)> {
    let sql = "SELECT seq, operation FROM audit ORDER BY seq";
    let mut statement = f.database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

fn drafted(operation: &str) -> Draft {
    use longshore_identity::audit::Outcome;
    Origin::system().draft(operation, Outcome::Refused)
}

#[tokio::test]
async fn after_a_commit_that_failed_the_chain_goes_on_where_it_is_stored() {
    let f = fixture(Duration::from_millis(1)).await;
    f.engine.record(drafted("auth.login")).await.unwrap();
    f.fail();
    // In one batch: the record alone would have been stored.
    let (told, also) = tokio::join!(f.engine.ask(person()), f.engine.record(drafted("auth.sso")));
    assert_eq!(told.unwrap_err(), EngineError::Store);
    assert_eq!(also, Err(EngineError::Store));
    f.heal();
    assert!(f.engine.ask(person()).await.unwrap().is_ok());
    f.engine.record(drafted("auth.reset")).await.unwrap();
    let names = ["auth.login", "setup.use", "auth.reset"];
    let expected: Vec<_> = (1..).zip(names.map(str::to_owned)).collect();
    assert_eq!(records(&f).await, expected);
    let end = f.engine.read(|state, _| state.audit).await.unwrap();
    let path = f._dir.path().join("longshore.db");
    let report = crate::store::verify_audit_file(&path, []).unwrap();
    assert_eq!((report.ok, report.records), (true, end.seq));
    assert_eq!(report.head.hash.as_bytes(), &end.hash);
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_happen() {
    let f = fixture(Duration::from_millis(1)).await;
    let sql = "CREATE TRIGGER shut BEFORE INSERT ON audit
               BEGIN SELECT RAISE(ABORT, 'nothing may be'); END";
    f.database.execute_batch(sql).unwrap();
    let told = f.engine.ask(person()).await;
    assert_eq!(told.unwrap_err(), EngineError::Audit);
    let people = f.engine.read(|state, _| state.users.len()).await.unwrap();
    assert_eq!(people, 0);
    let stored: i64 = f
        .database
        .query_row("SELECT count(*) FROM users", [], |row| row.get(0))
        .unwrap();
    assert_eq!(stored, 0);
    f.database.execute_batch("DROP TRIGGER shut").unwrap();
    assert!(f.engine.ask(person()).await.unwrap().is_ok());
    assert_eq!(records(&f).await, [(1, "setup.use".to_owned())]);
}

/// Of two watches that go at the same time, one has to take the entry along.
#[tokio::test]
async fn watches_leave_nothing_behind() {
    let f = fixture(FOR_EVER).await;
    let together = Arc::new(Barrier::new(2));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (engine, together) = (f.engine.clone(), Arc::clone(&together));
            std::thread::spawn(move || {
                for number in 0..20_000 {
                    let watch = engine.watch(SessionId(number));
                    together.wait();
                    drop(watch);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(f.engine.changed.lock().len(), 0);
}

/// Both were reading while it changed, so neither was woken at that moment.
#[tokio::test]
async fn all_who_watch_a_session_hear_of_each_change() {
    let f = fixture(FOR_EVER).await;
    let id = SessionId(1);
    let mut watches = [f.engine.watch(id), f.engine.watch(id)];
    f.engine.changed.wake([id].into_iter());
    for watch in &mut watches {
        let heard = tokio::time::timeout(Duration::from_secs(20), watch.changed());
        assert!(heard.await.is_ok());
        let again = tokio::time::timeout(Duration::ZERO, watch.changed());
        assert!(again.await.is_err(), "it is told once");
    }
}
