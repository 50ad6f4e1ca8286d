//! Writes that fail, disks that fill, processes that are killed.

use super::audit::with_records;
use super::*;

const CHILD: &str = "LONGSHORE_STORE_TEST_CHILD";

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
