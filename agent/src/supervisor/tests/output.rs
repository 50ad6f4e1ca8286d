//! Output of processes: where reading goes on, and when it is given up.

use super::*;

#[tokio::test(start_paused = true)]
async fn output_that_broke_off_is_read_on_with_the_engines_next_answer() {
    let (lines, _guard) = logged();
    let mut driven = Driven::new().await;
    lock(&driven.engine.outputs).extend([Err(away()), Err(away())]);
    driven.running(1).await;
    let read = |d: &Driven| *d.supervisor.watching[&key(1)].output.borrow();
    driven.rest().await;
    assert_eq!(driven.engine.count("output"), 1, "not by itself");
    driven.pinged();
    driven.rest().await;
    assert_eq!(driven.engine.count("output"), 2);
    driven.pinged();
    driven.rest().await;
    assert_eq!(driven.engine.count("output"), 3);
    assert!(!read(&driven), "its process runs");
    driven
        .engine
        .change(&key(1).to_string(), exited(0))
        .unwrap();
    driven.rest().await;
    assert!(read(&driven));
    assert_eq!(lines.with("output broke off"), 1, "said once");
}

impl Driven {
    fn kept(&self) -> String {
        String::from_utf8(self.supervisor.logs.tail(key(1), 1000)).unwrap()
    }
}

/// As an engine does that restarts and leaves its containers running.
#[tokio::test(start_paused = true)]
async fn output_that_ends_while_its_process_runs_is_read_on() {
    let mut driven = Driven::new().await;
    driven.engine.write(5, "one");
    driven.engine.write(7, "two");
    lock(&driven.engine.outputs).extend([Ok(()), Ok(())]);
    driven.running(1).await;
    driven.rest().await;
    assert_eq!(driven.kept(), "one\ntwo\n");
    let read = |d: &Driven| *d.supervisor.watching[&key(1)].output.borrow();
    assert_eq!(
        driven.engine.count("output"),
        2,
        "the second brought nothing"
    );
    assert!(!read(&driven));

    // Two more with the time of the last that was taken, one later.
    for (at, line) in [(7, "three"), (7, "four"), (8, "five")] {
        driven.engine.write(at, line);
    }
    driven.pinged();
    driven.rest().await;
    assert_eq!(driven.kept(), "one\ntwo\nthree\nfour\nfive\n");
    assert!(!read(&driven));
    driven
        .engine
        .change(&key(1).to_string(), exited(0))
        .unwrap();
    driven.rest().await;
    assert!(read(&driven));
    assert_eq!(driven.engine.count("output"), 4, "the end once more");
}

/// As an engine does that ends a stream before it has written the last line.
#[tokio::test(start_paused = true)]
async fn what_the_engine_writes_last_is_read() {
    let mut driven = Driven::new().await;
    driven.engine.write(5, "one");
    driven.running(1).await;
    driven.rest().await;
    driven.engine.write(6, "last");
    driven
        .engine
        .change(&key(1).to_string(), exited(0))
        .unwrap();
    driven.rest().await;
    assert_eq!(driven.kept(), "one\nlast\n");
    assert_eq!(driven.engine.count("output"), 2);
}

/// What a process wrote while the engine was away is not lost with its end.
#[tokio::test(start_paused = true)]
async fn output_of_a_process_that_ended_meanwhile_is_read_to_its_end() {
    let mut driven = Driven::new().await;
    let long_ago = FoundStatus::Exited(Exit {
        code: 0,
        signal: None,
        oom: false,
        at: wall_clock().plus_ms(-60_000),
    });
    driven.engine.write(5, "one");
    lock(&driven.engine.outputs).extend([Err(away()), Ok(()), Ok(())]);
    driven.running(1).await;
    driven.rest().await;
    driven.engine.write(9, "last");
    driven.engine.change(&key(1).to_string(), long_ago).unwrap();
    driven.pinged();
    driven.rest().await;
    assert_eq!(driven.kept(), "one\nlast\n");
    assert_eq!(driven.engine.count("output"), 3, "once more, and no more");
}

#[tokio::test(start_paused = true)]
async fn output_that_is_refused_again_and_again_is_given_up() {
    let (lines, _guard) = logged();
    let mut driven = Driven::new().await;
    driven
        .engine
        .write(5, "what comes again and again is nothing new");
    lock(&driven.engine.outputs).extend((0..99).map(|_| Err(refused("a damaged file"))));
    driven.running(1).await;
    for _ in 0..10 {
        driven.pinged();
        driven.rest().await;
    }
    assert_eq!(driven.engine.count("output"), 3);
    assert!(*driven.supervisor.watching[&key(1)].output.borrow());
    assert_eq!(lines.with("output cannot be read"), 1);
}
