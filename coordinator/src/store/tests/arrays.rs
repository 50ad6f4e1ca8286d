//! Arrays and their tasks, stored and listed.

use super::*;
use crate::store::Tasks;
use longshore_common::api::NewArray;

#[test]
fn tasks_are_listed_behind_their_array_and_read_back() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = World::new();
    let before = world.submit(world::job());
    let mut request = world::job();
    request.array = Some(NewArray {
        range: "8-20".to_owned(),
        parallel: Some(3),
    });
    let array = world.submit(request);
    world.submit(world::job());
    world.terminate(&[array.task(8)], 0, false);
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    same(&wait(store.load()).expect("read"), world.state());
    let list = |filter: SessionFilter| -> Vec<String> {
        let filter = SessionFilter {
            include_ended: true,
            limit: filter.limit.max(1),
            ..filter
        };
        let found = wait(store.reader().sessions(filter)).expect("read");
        found.iter().map(|s| s.id.to_string()).collect()
    };
    let some = |tasks, limit| SessionFilter {
        tasks,
        limit,
        ..SessionFilter::default()
    };
    assert_eq!(
        list(some(Tasks::All, 100)),
        ["s-3", "s-2.11", "s-2.10", "s-2.9", "s-2.8", "s-2", "s-1"]
    );
    assert_eq!(list(some(Tasks::None, 100)), ["s-3", "s-2", "s-1"]);
    assert_eq!(list(some(Tasks::Of(array), 2)), ["s-2.11", "s-2.10"]);
    assert!(list(some(Tasks::Of(before), 100)).is_empty());
    let rest = SessionFilter {
        before_id: Some(array.task(9)),
        ..some(Tasks::All, 100)
    };
    assert_eq!(list(rest), ["s-2.8", "s-2", "s-1"]);
    // A crash makes no task twice: what is read back goes on behind the last one.
    let read = wait(store.reader().session(array)).expect("read");
    let plan = read.and_then(|s| s.array).expect("it is an array");
    assert_eq!((plan.next, plan.live, plan.cancelled), (12, 3, 1));
}
