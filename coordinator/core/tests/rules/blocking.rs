//! Who holds others up, for how long at most, and who holds up nobody.

use crate::history::{Play, Step, a_step};
use longshore_common::ids::SessionId;
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use longshore_core::Core;
use longshore_core::model::{Change, Discipline, Selection, State};
use longshore_core::scheduler::{Planner, Start, blocked_by, class_of};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// An attempt of a session, and since when it has held others up.
type Heads = BTreeMap<(SessionId, u32), Timestamp>;

/// Goes on to an instant with a pass whenever one is due, as the coordinator does.
fn go_on(play: &mut Play, until: Timestamp, heads: &mut Heads) -> Result<(), String> {
    while let Some(due) = play.core.next_deadline().filter(|at| *at <= until) {
        if due <= play.now {
            break;
        }
        play.now = due;
        play.pass()?;
        nobody_blocks_too_long(play, heads)?;
    }
    play.now = until;
    Ok(())
}

fn nobody_blocks_too_long(play: &mut Play, heads: &mut Heads) -> Result<(), String> {
    let now = play.now;
    let (state, planner) = play.core.ask();
    let interval = i64::from(state.scheduler.interval_s) * 1000;
    let mut blocking = Heads::new();
    for session in state.sessions.values().filter(|s| s.waits()) {
        let blocked = blocked_by(planner, state, session, now);
        let Some(behind) = blocked.first().filter(|b| b.rule == "head-of-line") else {
            continue;
        };
        let head: SessionId = behind.source.as_ref().unwrap().name.parse().unwrap();
        let head = &state.sessions[&head];
        let key = (head.id, head.attempt.0);
        let since = heads.get(&key).copied().unwrap_or(now);
        blocking.insert(key, since);
        let tries = state.groups[&head.group]
            .retries_to_skip
            .unwrap_or(state.scheduler.retries_to_skip);
        if tries > 0 && now.since(since) >= i64::from(tries) * interval {
            return Err(format!("{key:?} holds others up since {since:?}: {now:?}"));
        }
    }
    *heads = blocking;
    Ok(())
}

/// Who starts at once, as a planner decides that never saw the state before.
fn starts(state: &State, now: Timestamp) -> Vec<Start> {
    let (mut changes, mut effects) = (Vec::new(), Vec::new());
    let mut core = Core::new(state.clone());
    core.place(now, &mut changes, &mut effects).starts
}

/// Those who are not ready, at a limit or too large for everybody are gone; nobody else starts
/// by that, and nobody elsewhere.
fn the_rest_starts_alike(state: &State, now: Timestamp) -> Result<(), String> {
    let mut planner = Planner::new();
    let mut without = state.clone();
    let mut gone = Vec::new();
    for session in state.sessions.values().filter(|s| s.waits()) {
        let blocked = blocked_by(&mut planner, state, session, now);
        if matches!(class_of(&blocked), Some("not-ready" | "limit" | "never")) {
            let mut over = session.clone();
            over.state = SessionState::Cancelled;
            gone.push(over.id);
            without.apply(&Change::Session(Box::new(over)));
        }
    }
    let (all, rest) = (starts(state, now), starts(&without, now));
    match all == rest {
        true => Ok(()),
        false => Err(format!("{all:?}; without {gone:?}: {rest:?}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_head_blocks_no_longer_than_its_tries(
        discipline in 0usize..3,
        skip in 0u32..4,
        steps in prop::collection::vec(a_step(), 1..60),
    ) {
        let mut play = Play::new(Discipline::ALL[discipline], Selection::ALL[0], skip);
        let mut heads = Heads::new();
        for (index, step) in steps.iter().enumerate() {
            let done = match step {
                // Who lets more tries pass holds others up for longer.
                Step::Settings(..) => Ok(()),
                Step::Wait(seconds) => {
                    let until = play.now.plus_s(i64::from(*seconds));
                    go_on(&mut play, until, &mut heads)
                }
                _ => {
                    play.step(step);
                    Ok(())
                }
            };
            let done = done
                .and_then(|()| play.pass().map(|_| ()))
                .and_then(|()| nobody_blocks_too_long(&mut play, &mut heads));
            prop_assert_eq!(done, Ok(()), "step {} {:?}", index, step);
            if index % 3 == 0 {
                play.run_all();
            }
        }
    }

    #[test]
    fn who_cannot_start_changes_nothing_for_others(
        discipline in 0usize..3,
        skip in 0u32..4,
        steps in prop::collection::vec(a_step(), 1..60),
    ) {
        let mut play = Play::new(Discipline::ALL[discipline], Selection::ALL[1], skip);
        for (index, step) in steps.iter().enumerate() {
            play.step(step);
            let alike = the_rest_starts_alike(play.core.state(), play.now);
            prop_assert_eq!(alike, Ok(()), "step {} {:?}", index, step);
            // Some come before the next pass, so that several are decided about at once.
            if index % 3 == 0 {
                prop_assert_eq!(play.pass().map(|_| ()), Ok(()));
                play.run_all();
            }
        }
    }
}
