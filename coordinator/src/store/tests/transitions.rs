//! Changes of a session's state that no rule names are refused, with all that came with them.

use super::world::{World, job};
use super::{dir, file, open_at, same, wait};
use crate::store::StoreError;
use longshore_common::session::SessionState;
use longshore_core::model::{Change, History};

#[test]
fn what_does_not_follow_is_not_stored() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = World::new();
    let id = world.submit(job());
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    let line = |from, to| {
        Change::History(History {
            session: id,
            seq: 2,
            at: world.now,
            from: Some(from),
            to,
            reason: None,
            detail: None,
            by: "nobody".to_owned(),
            attempt: world.stored[&id].attempt,
        })
    };
    let mut session = world.stored[&id].clone();
    session.state = SessionState::Running;
    for (from, to) in [
        (SessionState::Pending, SessionState::Running),
        (SessionState::Terminated, SessionState::Pending),
        (SessionState::Terminating, SessionState::Running),
    ] {
        let changes = vec![Change::Session(Box::new(session.clone())), line(from, to)];
        let refused = wait(store.commit(changes)).expect_err("it does not follow");
        assert!(
            matches!(&refused, StoreError::Object { id: of, .. } if *of == id.to_string()),
            "{refused}"
        );
        assert!(!refused.is_fatal(), "the store goes on");
    }
    same(&wait(store.load()).expect("read"), world.state());
}
