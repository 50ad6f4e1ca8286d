//! Requests with an idempotency key.

use super::*;
use crate::store::{KEPT_MS, StoredReplay};
use longshore_core::model::{Replay, ReplayAnswer, ReplayStep};

fn noted(key: &str, step: ReplayStep, at: i64) -> Change {
    let replay = Replay {
        caller: UserId::new(3),
        route: "domains_create".to_owned(),
        key: key.to_owned(),
        step,
    };
    Change::Replay(Box::new(replay), Timestamp(at))
}

fn begun(key: &str, request: u8, at: i64) -> Change {
    let request = [request; 32];
    noted(key, ReplayStep::Begun { request }, at)
}

fn said(body: &[u8]) -> ReplayAnswer {
    ReplayAnswer {
        status: 201,
        headers: vec![("etag".to_owned(), "\"1\"".to_owned())],
        body: body.to_vec(),
    }
}

fn known(store: &Store) -> Vec<StoredReplay> {
    wait(store.reader().replays()).expect("read")
}

#[test]
fn what_becomes_of_a_request_is_noted_until_a_day_is_over() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let commit = |changes| wait(store.commit(changes)).expect("stored");
    commit(vec![
        begun("a", 1, 10),
        begun("b", 2, 11),
        begun("c", 3, 12),
    ]);
    commit(vec![
        noted("a", ReplayStep::Answered(said(b"{}")), 20),
        noted("b", ReplayStep::Freed, 21),
        // Of one that is not there, nothing.
        noted("d", ReplayStep::Answered(said(b"x")), 22),
    ]);
    let found = known(&store);
    let short = |one: &StoredReplay| {
        (
            one.key.clone(),
            one.request[0],
            one.at.0,
            one.answer.clone(),
        )
    };
    let found: Vec<_> = found.iter().map(short).collect();
    let wanted = [
        ("c".to_owned(), 3, 12, None),
        ("a".to_owned(), 1, 20, Some(said(b"{}"))),
    ];
    assert_eq!(found, wanted);
    // The key is used again, and old ones go with it.
    commit(vec![begun("a", 9, 12 + KEPT_MS)]);
    let found = known(&store);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].request, found[0].answer.clone()), ([9; 32], None));
    drop(store);
    let (store, _) = open_at(&file(&dir)).expect("the same");
    assert_eq!(known(&store), found);
}
