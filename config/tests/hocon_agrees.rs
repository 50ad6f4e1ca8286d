//! Our HOCON against another implementation, on documents made at random: what both accept means
//! the same. Which texts are accepted differs on purpose in a few places, so only a share of them
//! has to be.
//!
//! The documents are the same in each run, since what is wrong with the other one must not fail
//! ours by chance. Others are made with `PROPTEST_RNG_SEED=<number>` in the environment.

use longshore_config::read::{Format, read};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..3)
        .prop_map(|parts| parts.join("."))
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        (-50..50i32).prop_map(|n| n.to_string()),
        prop::sample::select(vec![
            "true", "null", "x", "x y", "\"q r\"", "1.5", "\"\"", "10s", "a-b"
        ])
        .prop_map(str::to_owned),
    ]
}

/// References lead to `d`, which has none itself: circles are understood differently, and so is
/// what a key had before a reference to a map or to nothing. Our own tests have those.
fn reference() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["${d}", "${?d}"]).prop_map(str::to_owned)
}

/// Braces that set each key once. The other one forgets that a key set to something plain and then
/// to a map hides what braces before these gave it; that is in our own tests.
fn map(members: Vec<(String, String)>) -> String {
    let mut seen = HashSet::new();
    let members = members.into_iter().filter_map(|(path, value)| {
        let key = path.split('.').next().map(str::to_owned);
        seen.insert(key).then(|| format!("{path} = {value}"))
    });
    format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
}

fn part(references: u32) -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => scalar(),
        references => reference(), // how often
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|items| { format!("[{}]", items.join(", ")) }),
            prop::collection::vec((path(), inner), 0..3).prop_map(map),
        ]
    })
}

fn document() -> impl Strategy<Value = String> {
    // The other one forgets what a map had where two that stand side by side join it, so maps
    // stand alone.
    let several = prop::collection::vec(
        prop_oneof![scalar(), reference(), Just("${?f}".to_owned()),],
        2..4,
    );
    let lists = || prop::collection::vec(scalar(), 0..3).prop_map(|items| items.join(", "));
    let value = prop_oneof![
        3 => part(2),
        1 => several.prop_map(|parts| parts.join(" ")),
        1 => (lists(), lists()).prop_map(|(a, b)| format!("[{a}] [{b}]")),
    ];
    // The other one adds twice where the map around what is added to is given anew.
    let sign = prop::sample::select(vec![" = ", " : ", " += "]);
    let line = (path(), sign, value).prop_map(|(k, s, v)| match s {
        " += " => format!("{}{s}{v}", &k[..1]),
        _ => format!("{k}{s}{v}"),
    });
    let separator = prop::sample::select(vec!["\n", ", ", "\n\n", " # note\n"]);
    let lines = prop::collection::vec((line, separator), 1..7)
        .prop_map(|lines| lines.into_iter().map(|(l, s)| l + s).collect::<String>());
    (lines, scalar(), part(0)).prop_map(|(lines, d, e)| format!("{lines}\nd = {d}\ne.a = {e}\n"))
}

/// Numbers of equal value are equal, however they are written.
fn alike(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value as V;
    match (a, b) {
        (V::Number(a), V::Number(b)) => a.as_f64() == b.as_f64(),
        (V::Array(a), V::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (V::Object(a), V::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(k, v)| b.get(k).is_some_and(|other| alike(v, other)))
        }
        (a, b) => a == b,
    }
}

#[test]
fn what_both_accept_means_the_same() {
    let mut config = Config::with_cases(3000);
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    let (mut runner, both) = (TestRunner::new(config), Cell::new(0));
    let none = HashMap::new();
    runner
        .run(&document(), |text| {
            let ours = read(Format::Hocon, text.as_bytes());
            let theirs = hocon::parse_with_env(&text, &none);
            let (Ok(ours), Ok(theirs)) = (ours, theirs) else {
                return Ok(());
            };
            both.set(both.get() + 1);
            let ours = ours.to_json();
            let theirs = hocon::_render_json_for_test(&theirs);
            let theirs: serde_json::Value = serde_json::from_str(&theirs).expect("JSON");
            prop_assert!(
                alike(&ours, &theirs),
                "{text}\nours   {ours}\ntheirs {theirs}"
            );
            Ok(())
        })
        .unwrap();
    assert!(
        both.get() > 300,
        "only {} documents were accepted by both",
        both.get()
    );
}
