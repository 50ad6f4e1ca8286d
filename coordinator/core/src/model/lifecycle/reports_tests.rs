//! What only this module can see. The life of sessions as a whole is told in
//! `coordinator/core/tests/core`.

use super::*;
use longshore_common::amount::Slots;
use longshore_common::ids::{Attempt, Fence, Generation};

fn container(state: ContainerState) -> Container {
    Container {
        key: ContainerKey {
            session: SessionId(1),
            rank: Rank::MAIN,
            attempt: Attempt::FIRST,
        },
        agent: AgentId::new(1),
        slots: Slots::new(),
        devices: vec![],
        want: Want::Prepare,
        told_to_run: false,
        acknowledged: false,
        state,
        docker_id: String::new(),
        fence: Fence(1),
        first_generation: Generation(5),
        end: None,
        started_at: None,
        totals: Totals::default(),
        handed_on: false,
        used: Vec::new(),
        image: None,
    }
}

#[test]
fn a_set_is_seen_from_the_one_it_first_stood_in() {
    let container = container(ContainerState::Assigned);
    assert!(!agent_has_seen(&container, Generation(4)));
    assert!(agent_has_seen(&container, Generation(5)) && agent_has_seen(&container, Generation(6)));
}

#[test]
fn the_rank_of_progress_rises_with_the_states() {
    let ranks: Vec<u8> = ContainerState::ALL
        .iter()
        .map(|s| progress_rank(*s))
        .collect();
    assert!(ranks.is_sorted(), "{ranks:?}");
}

#[test]
fn instants_of_others_get_a_text_form() {
    for at in [i64::MIN, -1, 0, 1_795_208_703_120, i64::MAX] {
        let at = storable(Timestamp(at));
        assert_eq!(at.to_string().parse(), Ok(at));
    }
    let odd = Exit {
        code: 0,
        signal: None,
        oom: false,
        at: Timestamp(i64::MAX),
    };
    let End::Stopped {
        exit: Some(exit), ..
    } = storable_end(End::Stopped {
        reason: Reason::IdleTimeout,
        exit: Some(odd),
    })
    else {
        panic!("it was a stop");
    };
    assert_eq!(exit.at.to_string(), "9999-12-31T23:59:59.999Z");
}
