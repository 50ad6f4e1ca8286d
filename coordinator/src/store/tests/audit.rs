//! The audit log: what is found wrong with it, what of it goes, how it is searched.

use super::*;

/// A store with so many records, and the end of them.
pub(super) fn with_records(path: &Path, many: u64) -> (Store, AuditHead) {
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
