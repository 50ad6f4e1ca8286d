//! What grew old goes, and nothing else.

use super::*;
use crate::store::OldPart;
use longshore_common::api::{NewArray, NewDependency};
use longshore_common::session::{End, Exit};
use longshore_core::model::{Event, Old, forgettable, old_before};

const DAY_MS: i64 = 86_400_000;

fn follow(store: &Store, world: &mut World) {
    wait(store.commit(std::mem::take(&mut world.changes))).expect("stored");
    same(&wait(store.load()).expect("read"), world.state());
}

fn runs_and_ends(world: &mut World, id: SessionId) {
    world.run(id);
    let end = ends_now(world);
    world.ends(id, end);
}

/// A good end, a second later than all that was before.
fn ends_now(world: &mut World) -> End {
    world.later(1000);
    End::Exited(Exit {
        code: 0,
        signal: None,
        oom: false,
        at: world.now,
    })
}

/// What is found by its age.
fn old(store: &Store, part: OldPart, days: u32, now: Timestamp) -> Vec<SessionId> {
    let before = old_before(days, now).expect("some days");
    let found = wait(store.reader().ended(part, before, None, 100)).expect("read");
    found.into_iter().map(|(_, id)| id).collect()
}

fn listed(store: &Store) -> Vec<String> {
    let filter = SessionFilter {
        include_ended: true,
        limit: 100,
        ..SessionFilter::default()
    };
    let found = wait(store.reader().sessions(filter)).expect("read");
    found.iter().map(|s| s.id.to_string()).collect()
}

fn usage_of(store: &Store, id: SessionId) -> usize {
    let filter = UsageFilter {
        of: UsageOf::All,
        stretch: Stretch::default(),
        owner: None,
        project: None,
        domain: None,
        group: None,
        session: Some(id),
    };
    let count = |all: &mut usize, _| {
        *all += 1;
        true
    };
    wait(store.reader().usage(filter, 0, count, |all| all)).expect("read")
}

#[test]
fn old_sessions_go_and_what_others_need_stays() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let first = world.submit(world::job());
    runs_and_ends(&mut world, first);
    let needed = world.submit(world::job());
    let mut request = world::job();
    request.depends_on = vec![NewDependency {
        session: needed.to_string(),
        on: None,
    }];
    world.run(needed);
    let waiting = world.submit(request);
    // It may start from now on, and has no place.
    world.schedulable(agent, false);
    let end = ends_now(&mut world);
    world.ends(needed, end);
    follow(&store, &mut world);
    world.later(10 * DAY_MS);
    world.schedulable(agent, true);
    let young = world.submit(world::job());
    follow(&store, &mut world);
    let now = world.now;
    let ended = old(&store, OldPart::Sessions, 9, now);
    assert_eq!(ended, [first, needed], "in the order of their ends");
    assert!(old(&store, OldPart::Sessions, 11, now).is_empty());
    let behind = wait(store.reader().ended(
        OldPart::Sessions,
        now,
        Some((world.stored[&first].ended_at.expect("it ended"), first)),
        1,
    ));
    let behind: Vec<_> = behind
        .expect("read")
        .into_iter()
        .map(|(_, id)| id)
        .collect();
    assert_eq!(behind, [needed]);
    // Whatever waits for one that is over keeps it, and so does what memory has.
    let live = world.state().sessions.values().map(|s| s.id);
    let live: Vec<SessionId> = live.collect();
    assert!(live.contains(&young) && live.contains(&waiting), "{live:?}");
    assert_eq!(forgettable(world.state(), &ended), [first]);
    assert!(forgettable(world.state(), &live).is_empty());
    let used = usage_of(&store, first);
    assert!(used > 0);
    world.does(Event::Forget(Old::Sessions(ended)));
    follow(&store, &mut world);
    assert!(!listed(&store).contains(&first.to_string()));
    assert!(listed(&store).contains(&needed.to_string()));
    let reader = store.reader();
    assert!(wait(reader.history(first)).expect("read").is_empty());
    assert_eq!(wait(reader.session(first)).expect("read"), None);
    assert_eq!(usage_of(&store, first), used, "usage has days of its own");
    // A number is not given again, and a new start knows the same.
    let next = world.submit(world::job());
    assert!(next > young);
    follow(&store, &mut world);
    drop(store);
    let (_store, state) = open_at(&file(&dir)).expect("the same store");
    same(&state, world.state());
}

#[test]
fn a_request_that_may_be_repeated_keeps_its_session() {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world
        .ask_again(world::job(), Some(("key".to_owned(), [1; 32])))
        .expect("accepted")
        .id;
    runs_and_ends(&mut world, id);
    assert!(world.state().sessions.get(&id).is_none(), "it is settled");
    assert!(forgettable(world.state(), &[id]).is_empty());
    world.later(2 * DAY_MS);
    world.does(Event::Tick);
    assert_eq!(forgettable(world.state(), &[id]), [id]);
}

#[test]
fn histories_go_before_their_sessions() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = World::new();
    world.agent("n1", 0);
    let (past, live) = (world.submit(world::job()), world.submit(world::job()));
    runs_and_ends(&mut world, past);
    world.run(live);
    world.later(10 * DAY_MS);
    follow(&store, &mut world);
    assert_eq!(old(&store, OldPart::Histories, 9, world.now), [past]);
    // Somebody whose look is from before names a live one too.
    world.does(Event::Forget(Old::Histories(vec![past, live])));
    follow(&store, &mut world);
    let lines = |id| wait(store.reader().history(id)).expect("read").len();
    assert_eq!(lines(past), 0);
    assert!(lines(live) > 2);
    assert!(wait(store.reader().session(past)).expect("read").is_some());
    assert!(old(&store, OldPart::Histories, 9, world.now).is_empty());
    // What is asked of one that is gone meanwhile harms nobody.
    let reached = longshore_core::model::Reached {
        session: SessionId(4711),
        after: 1,
        at: world.now,
        by: "ada".to_owned(),
        what: "logs".to_owned(),
    };
    wait(store.commit(vec![Change::Reached(reached)])).expect("stored");
}

#[test]
fn an_array_goes_whole_and_after_its_tasks() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let mut request = world::job();
    request.array = Some(NewArray {
        range: "0-1".to_owned(),
        parallel: Some(1),
    });
    let array = world.submit(request);
    let (one, two) = (array.task(0), array.task(1));
    world.run(one);
    // The other one waits for a place meanwhile.
    world.schedulable(agent, false);
    let end = ends_now(&mut world);
    world.ends(one, end);
    world.later(10 * DAY_MS);
    follow(&store, &mut world);
    // It goes on, and so all that is over of it stays.
    assert!(old(&store, OldPart::Sessions, 9, world.now).is_empty());
    assert!(forgettable(world.state(), &[one]).is_empty());
    world.schedulable(agent, true);
    runs_and_ends(&mut world, two);
    world.later(5 * DAY_MS);
    follow(&store, &mut world);
    assert!(world.is(array, SessionState::Terminated));
    assert!(
        old(&store, OldPart::Sessions, 9, world.now).is_empty(),
        "it is young"
    );
    let tasks = old(&store, OldPart::Sessions, 4, world.now);
    assert_eq!(tasks, [one, two]);
    world.does(Event::Forget(Old::Sessions(tasks)));
    follow(&store, &mut world);
    assert_eq!(old(&store, OldPart::Sessions, 4, world.now), [array]);
    world.does(Event::Forget(Old::Sessions(vec![array])));
    follow(&store, &mut world);
    assert!(listed(&store).is_empty());
}

#[test]
fn usage_that_goes_on_stays() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = World::new();
    world.agent("n1", 0);
    let (past, live) = (world.submit(world::job()), world.submit(world::job()));
    runs_and_ends(&mut world, past);
    world.run(live);
    world.later(10 * DAY_MS);
    follow(&store, &mut world);
    let (rows, before) = (usage_of(&store, past), world.now);
    assert!(rows > 1, "{rows}");
    let left = || wait(store.reader().has_old_usage(before)).expect("read");
    let mut rounds = 0;
    while left() {
        world.does(Event::Forget(Old::Usage { before, most: 1 }));
        follow(&store, &mut world);
        rounds += 1;
    }
    assert_eq!(rounds, rows, "as many at a time as were said");
    assert_eq!(usage_of(&store, past), 0);
    assert!(usage_of(&store, live) > 0);
    assert!(wait(store.reader().session(past)).expect("read").is_some());
}

#[test]
fn what_is_old_is_found_by_its_age() {
    let dir = dir();
    let path = file(&dir);
    drop(open_at(&path).expect("a new store"));
    let db = Connection::open(&path).expect("a database");
    let plan = |sql: &str| {
        let mut steps = db
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .expect("sql");
        let steps = steps
            .query_map([], |row| row.get::<_, String>(3))
            .expect("plan");
        steps.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    };
    let ended = plan(
        "SELECT id FROM sessions WHERE settled = 1 AND ended_at < 5 ORDER BY ended_at, id DESC",
    );
    assert!(
        ended.contains("sessions_by_end") && !ended.contains("TEMP B-TREE"),
        "{ended}"
    );
    let asked = plan("DELETE FROM idempotency WHERE session = 1");
    assert!(asked.contains("idempotency_of"), "{asked}");
}

#[test]
fn the_last_output_of_old_sessions_goes_and_the_rest_stays() {
    let dir = dir();
    let (store, _) = open_at(&file(&dir)).expect("a new store");
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let said = world.submit(world::job());
    runs_and_ends(&mut world, said);
    // It never had a place, and said nothing.
    world.schedulable(agent, false);
    let silent = world.submit(world::job());
    world.terminate(&[silent], 0, false);
    follow(&store, &mut world);
    let now = world.now.plus_ms(10 * DAY_MS);
    let read = |id| {
        wait(store.reader().session(id))
            .expect("read")
            .expect("there")
    };
    let found = old(&store, OldPart::Output, 9, now);
    assert_eq!(found, [said], "only where there is some");
    assert!(read(silent).ended_at.is_some());
    assert!(old(&store, OldPart::Output, 11, now).is_empty());
    let before = read(said);
    assert_eq!(before.tail.as_deref(), Some("last words"));
    world.does(Event::Forget(Old::Output(found)));
    follow(&store, &mut world);
    let expected = longshore_core::model::Session {
        tail: None,
        tail_at: None,
        ..before
    };
    assert_eq!(read(said), expected);
    assert!(old(&store, OldPart::Output, 9, now).is_empty());
    let reader = store.reader();
    let left = reader.ended_among(OldPart::Output, vec![said]);
    assert_eq!(wait(left).expect("read"), 0);
    // It is found by its index, however many sessions there are.
    let db = Connection::open(file(&dir)).expect("the file");
    let plan: Vec<String> = db
        .prepare(
            "EXPLAIN QUERY PLAN SELECT s.id FROM sessions s WHERE s.settled = 1
             AND s.ended_at < 1 AND json_extract(body, '$.tail') IS NOT NULL
             ORDER BY s.ended_at, s.id DESC LIMIT 1",
        )
        .and_then(|mut all| all.query_map([], |row| row.get(3))?.collect())
        .expect("a plan");
    assert!(plan.concat().contains("sessions_with_output"), "{plan:?}");
}
