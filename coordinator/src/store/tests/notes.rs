//! What people are told: stored with what it is about, tried, forgotten.

use super::super::NoteFilter;
use super::{dir, file, open_at, wait};
use longshore_common::ids::UserId;
use longshore_common::notify::{NoteEvent, NoteState};
use longshore_common::time::Timestamp;
use longshore_core::model::{Change, Channel, Note, NoteTried};

fn note(at: i64, to: Channel) -> Change {
    Change::Note(Box::new(Note {
        at: Timestamp(at),
        event: NoteEvent::End,
        to,
        text: format!("at {at}"),
        session: None,
        agent: None,
    }))
}

fn tried(id: u64, state: NoteState, next_at: Option<i64>, ended_at: Option<i64>) -> Change {
    Change::NoteTried(NoteTried {
        id,
        state,
        tries: 1,
        next_at: next_at.map(Timestamp),
        ended_at: ended_at.map(Timestamp),
        error: "no connection".to_owned(),
    })
}

#[test]
fn a_note_waits_is_tried_and_is_forgotten() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let reader = store.reader();
    let (ada, eve) = (UserId::new(1), UserId::new(2));
    let commit = |changes| wait(store.commit(changes)).expect("stored");
    let due = |at| -> Vec<u64> {
        let due = wait(reader.due_notes(Timestamp(at))).expect("read");
        due.iter().map(|one| one.id).collect()
    };
    commit(vec![
        note(10, Channel::Mail(ada)),
        note(20, Channel::Own(eve)),
        note(30, Channel::Hook("desk".to_owned())),
    ]);
    assert_eq!(due(9), [] as [u64; 0]);
    assert_eq!(due(20), [1, 2]);
    assert_eq!(wait(reader.next_note()).expect("read"), Some(Timestamp(10)));
    commit(vec![
        tried(1, NoteState::Sent, None, Some(40)),
        tried(2, NoteState::Waiting, Some(100), None),
    ]);
    assert_eq!(due(99), [3]);
    assert_eq!(due(100), [2, 3]);
    // What has ended stays so.
    commit(vec![tried(1, NoteState::Waiting, Some(0), None)]);
    assert_eq!(due(99), [3]);
    let list = |filter| {
        let found = wait(reader.notes(filter)).expect("read");
        found.iter().map(|one| one.id).collect::<Vec<_>>()
    };
    let all = NoteFilter {
        limit: 10,
        ..NoteFilter::default()
    };
    assert_eq!(list(all.clone()), [3, 2, 1]);
    let of = |user| NoteFilter {
        user: Some(user),
        ..all.clone()
    };
    assert_eq!((list(of(ada)), list(of(eve))), (vec![1], vec![2]));
    let sent = NoteFilter {
        state: Some(NoteState::Sent),
        ..all.clone()
    };
    assert_eq!(list(sent), [1]);
    let below = NoteFilter {
        below: Some(3),
        limit: 1,
        ..all.clone()
    };
    assert_eq!(list(below), [2]);
    let forget = |ended_before, keep| Change::NotesForgotten {
        ended_before: Timestamp(ended_before),
        keep,
    };
    commit(vec![forget(41, 100)]);
    assert_eq!(list(all.clone()), [3, 2], "one that waits stays");
    commit(vec![forget(0, 1)]);
    assert_eq!(list(all.clone()), [3]);
    // A number is not given out again.
    commit(vec![forget(0, 0), note(50, Channel::Mail(ada))]);
    assert_eq!(list(all), [4]);
}

#[test]
fn of_one_place_some_go_at_a_time() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let (ada, eve) = (UserId::new(1), UserId::new(2));
    let many = (0..100).map(|at| note(at, Channel::Own(ada)));
    let changes = many.chain([note(200, Channel::Own(eve))]).collect();
    wait(store.commit(changes)).expect("stored");
    let due = wait(store.reader().due_notes(Timestamp(1000))).expect("read");
    let of = |user| {
        due.iter()
            .filter(|n| n.note.to == Channel::Own(user))
            .count()
    };
    assert_eq!((of(ada), of(eve)), (16, 1));
}
