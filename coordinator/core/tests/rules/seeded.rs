//! Each seeded mistake has to be caught by something: a scenario that comes out otherwise,
//! a history in which something no longer holds, or an order that is not the oracle's.

use crate::history::{a_step, play};
use crate::{pools, shares};
use longshore_core::bugs::{SEEDED, seed};
use longshore_core::model::{Discipline, Selection};
use longshore_core::simulate::read::run;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// The first scenario that no longer comes out as written.
fn by_scenario() -> Option<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "json"))
        .collect();
    files.sort();
    files.into_iter().find_map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let came = catch_unwind(AssertUnwindSafe(|| match run(&text) {
            Ok(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
            Err(error) => format!("{error}\n"),
        }));
        let expected = fs::read_to_string(path.with_extension("out")).unwrap_or_default();
        let same = came.is_ok_and(|came: String| came == expected);
        (!same).then(|| path.file_name().unwrap().to_string_lossy().into_owned())
    })
}

/// A history drawn of such steps in which something no longer holds.
fn drawn<S: Strategy>(
    step: S,
    play: impl Fn(Discipline, Selection, &[S::Value]) -> Result<(), String>,
) -> Option<String> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let steps = proptest::collection::vec(step, 40..60);
    (0..24usize).find_map(|case| {
        let drawn = steps.new_tree(&mut runner).unwrap().current();
        let (discipline, selection) = (Discipline::ALL[case % 3], Selection::ALL[case / 3 % 3]);
        let played = catch_unwind(AssertUnwindSafe(|| play(discipline, selection, &drawn)));
        match played {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some("a panic".to_owned()),
        }
    })
}

fn by_history() -> Option<String> {
    drawn(a_step(), |discipline, selection, steps| {
        play(discipline, selection, 2, steps)
    })
}

fn by_pools() -> Option<String> {
    drawn(pools::a_move(), |discipline, selection, moves| {
        pools::play(discipline, selection, 2, moves)
    })
}

fn by_shares() -> Option<String> {
    [
        (9, 6, vec![(1, 1, 1), (3, 0, 1)]),
        (12, 0, vec![(1, 0, 1), (1, 0, 3)]),
        (10, 4, vec![(2, 1, 1), (1, 0, 1), (1, 1, 2)]),
    ]
    .into_iter()
    .find_map(|(cpu, gpus, users)| shares::compare(cpu, gpus, &users).err())
}

#[test]
fn every_seeded_mistake_is_caught() {
    seed(0);
    assert_eq!(by_scenario(), None, "without a mistake");
    assert_eq!(by_history(), None, "without a mistake");
    assert_eq!(by_shares(), None, "without a mistake");
    assert_eq!(by_pools(), None, "without a mistake");
    let mut missed = Vec::new();
    // What a mistake panics with is no news.
    std::panic::set_hook(Box::new(|_| ()));
    for (number, what) in SEEDED {
        seed(*number);
        let caught = by_scenario()
            .or_else(by_shares)
            .or_else(by_history)
            .or_else(by_pools);
        seed(0);
        match caught {
            Some(by) => println!(
                "{number:2} {what}: {}",
                by.lines().next().unwrap_or_default()
            ),
            None => missed.push(format!("{number} {what}")),
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// Scenarios catch these as well: this says that no history of pools passes them by.
#[test]
fn histories_alone_catch_what_pools_get_wrong() {
    for number in [14, 15, 21] {
        seed(number);
        let caught = by_pools();
        seed(0);
        assert!(caught.is_some(), "mistake {number}");
    }
}
