//! Deliberate mistakes, each behind a number, so that the tests can be tested: a suite
//! that lets one of them pass has a hole. They exist in test builds with the feature
//! `seeded-bugs` alone; elsewhere [`is`] is a constant no.

#[cfg(feature = "seeded-bugs")]
use std::cell::Cell;

/// What can be made wrong, by number.
pub const SEEDED: &[(u8, &str)] = &[
    (1, "the last unit of a quota cannot be used"),
    (2, "a second keypair gets round the main one's policy"),
    (3, "a head that finds no room stops nobody"),
    (4, "tries are counted in every pass, not once per interval"),
    (5, "sessions tried often enough still go first"),
    (6, "shares are not updated after a placement"),
    (7, "weights of users are ignored"),
    (8, "agents that take no new work get some"),
    (9, "work without GPUs goes to GPU nodes"),
    (10, "concentrated and dispersed are confused"),
    (
        11,
        "a cluster that finds no place for its last container keeps the others' places",
    ),
    (12, "room that comes back is not noticed"),
    (13, "low priorities go first"),
    (
        14,
        "policies go beyond their reservation before others are within theirs",
    ),
    (15, "jobs go to any pool, not to the first that is able"),
    (
        16,
        "a session that is being stopped counts until its node confirms",
    ),
    (17, "what can never fit holds up the others"),
    (18, "round-robin always begins with the first agent"),
    (19, "sessions at a limit are not looked at again"),
    (20, "a session that failed on an agent goes there again"),
    (21, "what is reserved for others is given out"),
];

#[cfg(feature = "seeded-bugs")]
thread_local! {
    static SEED: Cell<u8> = const { Cell::new(0) };
}

/// Makes one thing wrong on this thread; 0 = nothing.
#[cfg(feature = "seeded-bugs")]
pub fn seed(number: u8) {
    SEED.with(|seed| seed.set(number));
}

/// Whether this mistake is to be made.
#[cfg(feature = "seeded-bugs")]
pub(crate) fn is(number: u8) -> bool {
    SEED.with(|seed| seed.get() == number)
}

/// Whether this mistake is to be made: never.
#[cfg(not(feature = "seeded-bugs"))]
pub(crate) const fn is(_number: u8) -> bool {
    false
}
