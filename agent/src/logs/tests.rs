//! Tests of the store of output.

use super::*;
use longshore_common::ids::{Attempt, Rank, SessionId};

fn key() -> ContainerKey {
    ContainerKey {
        session: SessionId(1),
        rank: Rank::MAIN,
        attempt: Attempt::FIRST,
    }
}

fn chunk(kind: OutputKind, at: i64, bytes: &[u8]) -> OutputChunk {
    OutputChunk {
        kind,
        at: Timestamp(at),
        bytes: bytes.to_vec(),
    }
}

fn read_all(store: &LogStore, position: u64, tail: Option<u32>) -> Vec<Data> {
    let mut reader = store.read(key(), position, tail).unwrap().unwrap();
    std::iter::from_fn(|| reader.next_now().unwrap()).collect()
}

fn text(data: &[Data]) -> String {
    data.iter()
        .map(|d| String::from_utf8_lossy(&d.bytes).into_owned())
        .collect()
}

#[test]
fn positions_resume_anywhere_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
    store
        .append(key(), &[chunk(OutputKind::Stdout, 1, b"one\n")])
        .unwrap();
    store
        .append(key(), &[chunk(OutputKind::Stderr, 2, b"two\n")])
        .unwrap();
    store
        .append(key(), &[chunk(OutputKind::Stdout, 2, b"three\n")])
        .unwrap();
    let whole = "one\ntwo\nthree\n";
    for from in 0..whole.len() {
        assert_eq!(text(&read_all(&store, from as u64, None)), whole[from..]);
    }
    drop(store);
    let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
    assert_eq!(store.resume_from(key()), Some((Timestamp(2), 2)));
    let all = read_all(&store, 0, None);
    assert_eq!(
        all.iter().map(|d| d.kind).collect::<Vec<_>>(),
        [OutputKind::Stdout, OutputKind::Stderr, OutputKind::Stdout]
    );
    assert_eq!(text(&read_all(&store, 0, Some(2))), "two\nthree\n");
    assert_eq!(text(&read_all(&store, 0, Some(0))), "");
    assert_eq!(store.tail(key(), 6), b"three\n");
}

#[test]
fn beyond_the_cap_the_middle_is_dropped_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits {
        container: 12 << 20,
        ..LogLimits::default()
    };
    let store = LogStore::open(dir.path(), limits).unwrap();
    let line = vec![b'x'; 1 << 20];
    for at in 0..40 {
        store
            .append(key(), &[chunk(OutputKind::Stdout, at, &line)])
            .unwrap();
    }
    let all = read_all(&store, 0, None);
    let gaps = all.iter().filter(|d| d.kind == OutputKind::Gap).count();
    assert_eq!(gaps, 1);
    assert_eq!(all.first().unwrap().position, 0);
    let last = all.last().unwrap();
    assert_eq!(last.position + last.bytes.len() as u64, 40 << 20);
    let kept: usize = all.iter().map(|d| d.bytes.len()).sum();
    assert!(kept <= 16 << 20, "{kept}");
}

#[tokio::test]
async fn a_follower_hears_what_comes_and_that_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(LogStore::open(dir.path(), LogLimits::default()).unwrap());
    store
        .append(key(), &[chunk(OutputKind::Stdout, 1, b"a")])
        .unwrap();
    let mut reader = store.read(key(), 0, None).unwrap().unwrap();
    let writer = Arc::clone(&store);
    let task = tokio::spawn(async move {
        tokio::task::yield_now().await;
        writer
            .append(key(), &[chunk(OutputKind::Stdout, 2, b"b")])
            .unwrap();
        writer.finish(key());
    });
    let mut got = Vec::new();
    while reader.more().await {
        while let Some(data) = reader.next_now().unwrap() {
            got.extend(data.bytes);
        }
    }
    task.await.unwrap();
    assert_eq!(got, b"ab");
}

#[test]
fn killed_after_beginning_a_segment_it_reads_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
    let half = vec![b'x'; 2 << 20];
    let at = |n| chunk(OutputKind::Stdout, n, &half);
    store.append(key(), &[at(6), at(7), at(7)]).unwrap();
    let (position, resume) = (store.position(key()), store.resume_from(key()));
    drop(store);
    let folder = dir.path().join(key().to_string());
    let begun = segment_path(&folder, position);
    for torn in [b"".as_slice(), b"\x01\x07\0\0", &[1; HEADER + 5]] {
        fs::write(&begun, torn).unwrap();
        let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
        assert_eq!(store.position(key()), position);
        assert_eq!(store.resume_from(key()), resume, "{torn:?}");
        assert_eq!(
            fs::metadata(&begun).unwrap().len(),
            0,
            "what is torn is cut"
        );
    }
    // Records of one time on both sides of the border are counted together.
    let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
    store
        .append(key(), &[chunk(OutputKind::Stderr, 7, b"y\n")])
        .unwrap();
    drop(store);
    let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
    assert_eq!(store.resume_from(key()).unwrap().0, Timestamp(7));
    assert_eq!(store.resume_from(key()).unwrap().1, resume.unwrap().1 + 1);
}

#[test]
fn last_lines_reach_back_as_far_as_they_must() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
    let mut line = vec![b'x'; 1 << 20];
    line.push(b'\n');
    for at in 0..14 {
        store
            .append(key(), &[chunk(OutputKind::Stdout, at, &line)])
            .unwrap();
    }
    store
        .append(key(), &[chunk(OutputKind::Stdout, 20, b"no end")])
        .unwrap();
    let lengths = |lines| text(&read_all(&store, 0, Some(lines))).len();
    assert_eq!(lengths(0), 0);
    assert_eq!(lengths(1), 6);
    assert_eq!(lengths(2), line.len() + 6);
    assert_eq!(lengths(13), 12 * line.len() + 6);
    assert_eq!(lengths(99), 14 * line.len() + 6);
}

#[test]
fn who_asks_for_what_is_dropped_is_told_so_first() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits {
        container: 12 << 20,
        ..LogLimits::default()
    };
    let store = LogStore::open(dir.path(), limits).unwrap();
    let line = vec![b'x'; 1 << 20];
    for at in 0..40 {
        store
            .append(key(), &[chunk(OutputKind::Stdout, at, &line)])
            .unwrap();
    }
    let all = read_all(&store, 10 << 20, None);
    assert_eq!(all[0].kind, OutputKind::Gap);
    assert_eq!(all[0].position, all[1].position, "where it goes on");
    let dropped = all[1].position - (10 << 20);
    assert_eq!(
        text(&all[..1]),
        format!("{dropped} bytes of output were dropped")
    );
    assert!(all[1..].iter().all(|d| d.kind == OutputKind::Stdout));
}

#[test]
fn joined_pieces_are_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
    use OutputKind::{Stderr, Stdout};
    for (at, kind) in (0..).zip([Stdout, Stdout, Stderr, Stdout, Stdout, Stdout]) {
        store.append(key(), &[chunk(kind, at, b"1234")]).unwrap();
    }
    let mut reader = store.read(key(), 2, None).unwrap().unwrap();
    let pieces: Vec<Data> = std::iter::from_fn(|| reader.next_joined(8).unwrap()).collect();
    let seen: Vec<(u64, OutputKind, usize)> = pieces
        .iter()
        .map(|d| (d.position, d.kind, d.bytes.len()))
        .collect();
    let wanted = [
        (2, Stdout, 6),
        (8, Stderr, 4),
        (12, Stdout, 8),
        (20, Stdout, 4),
    ];
    assert_eq!(seen, wanted);
}

#[test]
fn a_small_or_full_disk_keeps_less() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
    let other = ContainerKey {
        session: SessionId(2),
        ..key()
    };
    let line = vec![b'x'; 1 << 20];
    for key in [key(), other] {
        store
            .append(key, &[chunk(OutputKind::Stdout, 1, &line)])
            .unwrap();
        store.finish(key);
    }
    let left = |live: ContainerKey, disk: Disk| {
        let live = live.to_string();
        let now = SystemTime::now();
        store.sweep(&|name| name == live, now, Some(disk)).unwrap();
        fs::read_dir(dir.path()).unwrap().count()
    };
    let disk = |free_mib: i64, total_mib: i64| Disk {
        free: free_mib << 20,
        total: total_mib << 20,
    };
    assert_eq!(
        left(key(), disk(50, 100)),
        2,
        "a tenth of the disk is enough"
    );
    assert_eq!(
        left(key(), disk(5, 10)),
        1,
        "the one that ended is too much"
    );
    store
        .append(other, &[chunk(OutputKind::Stdout, 1, &line)])
        .unwrap();
    assert_eq!(left(key(), disk(2, 100)), 2);
    assert_eq!(
        left(key(), disk(1, 100)),
        1,
        "less than two of a hundred are free"
    );
    assert_eq!(left(key(), disk(0, 10)), 1, "what lives is never touched");
}

#[test]
fn what_was_taken_back_is_read_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
    let line = |text: &[u8]| chunk(OutputKind::Stdout, 1, text);
    store
        .append(key(), &[line(b"one\n"), line(b"two\n")])
        .unwrap();
    let log = store.log(key(), false).unwrap().unwrap();
    // The disk takes a part of the next record.
    let mut torn = Vec::new();
    encode_record(
        &mut torn,
        OutputKind::Stdout,
        Timestamp(1),
        b"never was there\n",
    );
    lock(&log.inner)
        .file
        .as_mut()
        .unwrap()
        .write_all(&torn)
        .unwrap();
    let mut reader = store.read(key(), 0, None).unwrap().unwrap();
    let one = reader.next_now().unwrap().unwrap();
    assert_eq!(one.bytes, b"one\n");
    lock(&log.inner).take_back();
    store.append(key(), &[line(b"three\n")]).unwrap();
    let rest: Vec<Data> = std::iter::from_fn(|| reader.next_now().unwrap()).collect();
    assert_eq!(text(&rest), "two\nthree\n");
}

#[test]
fn what_cannot_be_removed_keeps_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits {
        retention: Duration::from_secs(60),
        ..LogLimits::default()
    };
    let store = LogStore::open(dir.path(), limits).unwrap();
    // Not a directory, so that removing one fails.
    fs::write(dir.path().join("a"), b"x").unwrap();
    fs::create_dir(dir.path().join("b")).unwrap();
    let later = SystemTime::now() + Duration::from_secs(120);
    assert!(store.sweep(&|_| false, later, None).is_err(), "it is told");
    assert!(!dir.path().join("b").exists());
}

#[test]
fn of_what_has_ended_or_never_was_nothing_stays_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
    store.finish(key());
    assert!(
        store.read(key(), 0, None).unwrap().is_none(),
        "it never ran"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(lock(&store.open).len(), 0);
    store
        .append(key(), &[chunk(OutputKind::Stdout, 1, b"a")])
        .unwrap();
    store.release_ended(key());
    assert_eq!(lock(&store.open).len(), 1, "more may come");
    store.finish(key());
    let reader = store.read(key(), 0, None).unwrap().unwrap();
    store.release_ended(key());
    assert_eq!(lock(&store.open).len(), 1, "somebody reads");
    drop(reader);
    store.release_ended(key());
    assert_eq!(lock(&store.open).len(), 0);
}

/// A disk that hangs holds up those who wait for it, and no others.
#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "who holds it stands for the disk that hangs"
)]
async fn a_disk_that_hangs_holds_up_no_other_task() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(LogStore::open(dir.path(), LogLimits::default()).unwrap());
    store
        .append(key(), &[chunk(OutputKind::Stdout, 1, b"a")])
        .unwrap();
    let log = store.log(key(), false).unwrap().unwrap();
    let hangs = lock(&log.inner);
    let more = vec![chunk(OutputKind::Stdout, 2, b"b")];
    let mut waits = Box::pin(store.beside(move |store| store.append(key(), &more)));
    tokio::select! {
        biased;
        _ = &mut waits => panic!("it went on"),
        () = tokio::task::yield_now() => (),
    }
    store.begin(key()).unwrap();
    drop(hangs);
    waits.await.unwrap().unwrap();
    assert_eq!(store.position(key()), 2);
}
