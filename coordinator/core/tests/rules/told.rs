//! What is said of a request before it is made is what becomes of it.

use crate::history::{Play, Step, a_step, order};
use longshore_common::api::NewSession;
use longshore_common::ids::SessionId;
use longshore_core::model::{Discipline, Selection, check_submit};
use longshore_core::scheduler::{Check, check};
use proptest::prelude::*;

/// What is said of a request, where submit would take it.
fn told(play: &mut Play, user: u8, key: u8, request: &NewSession) -> Option<Check> {
    let now = play.now;
    let (state, planner) = play.core.ask();
    let session = check_submit(state, &order(user, key, request.clone()), now).ok()?;
    Some(check(planner, state, &session, now))
}

/// Makes a request, and says whether it started at once.
fn starts(play: &mut Play, user: u8, key: u8, request: NewSession) -> Result<bool, String> {
    let id = SessionId(play.core.state().meta.next_session);
    if !play.submit(user, key, request) {
        return Err("it was refused".to_owned());
    }
    let decisions = play.pass()?;
    Ok(decisions.starts.iter().any(|start| start.session == id))
}

fn asked_first(play: &mut Play, step: &Step, user: u8, key: u8) -> Result<(), String> {
    let Some(mut request) = step.request() else {
        return Ok(());
    };
    let Some(said) = told(play, user, key, &request) else {
        return match play.submit(user, key, request) {
            true => Err("only the check refused it".to_owned()),
            false => Ok(()),
        };
    };
    // Of one that stands behind others who have not been tried yet nobody knows.
    let unknown = said
        .blocked_by
        .iter()
        .any(|blocker| blocker.text.ends_with("is tried before it"));
    // Every other time that what was asked for itself is not made, but what would start.
    if let Some(nearest) = said.nearest.as_ref().filter(|_| key % 4 < 2) {
        request.group = Some(nearest.group.clone());
        request.slots.clone_from(&nearest.slots);
        return match starts(play, user, key, request)? {
            true => Ok(()),
            false => Err(format!("{nearest:?} would start, was said of {step:?}")),
        };
    }
    let started = starts(play, user, key, request)?;
    if said.nearest.is_some() && started && !unknown {
        return Err(format!("it started, and nearest is {:?}", said.nearest));
    }
    if started != (said.verdict == "now") && !unknown {
        return Err(format!("{said:?}, and it started: {started}"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn what_is_told_before_is_what_happens(
        discipline in 0usize..3,
        selection in 0usize..3,
        skip in 0u32..4,
        steps in prop::collection::vec(a_step(), 1..60),
    ) {
        let mut play = Play::new(Discipline::ALL[discipline], Selection::ALL[selection], skip);
        for (index, step) in steps.iter().enumerate() {
            let done = match step {
                Step::Submit { user, key, .. } => asked_first(&mut play, step, *user, *key),
                _ => {
                    play.step(step);
                    play.pass().map(|_| ())
                }
            };
            prop_assert_eq!(done, Ok(()), "step {} {:?}", index, step);
            if index % 3 == 0 {
                play.run_all();
            }
        }
    }
}
