//! Which images go, and which never do.

use super::*;

const NOW: i64 = 1_000_000;

fn image(id: &str, tags: &[&str], mb: i64) -> ImageSummary {
    ImageSummary {
        id: id.to_owned(),
        repo_tags: tags.iter().map(|t| (*t).to_owned()).collect(),
        size: mb * 1_000_000,
        ..ImageSummary::default()
    }
}

fn own(names: &[&str], ago_s: i64) -> Own {
    Own {
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        used_s: NOW - ago_s,
    }
}

fn rules() -> Rules {
    Rules {
        low_water_percent: 10,
        on: true,
        keep: vec!["pinned:1".to_owned()],
    }
}

fn disk(free_mb: i64) -> Disk {
    Disk {
        free: free_mb * 1_000_000,
        total: 1_000_000_000,
    }
}

fn gone(used: &[&str], free_mb: i64) -> Vec<String> {
    gone_for(used, free_mb, 0)
}

fn gone_for(used: &[&str], free_mb: i64, wanted_mb: u64) -> Vec<String> {
    let there = [
        image("young", &["young:1"], 500),
        image("newer", &["newer:1"], 60),
        image("older", &["older:1", "older:2"], 40),
        image("nameless", &[], 10),
        image("pinned", &["pinned:1"], 500),
        image("shared", &["shared:1", "of-somebody:1"], 500),
        image("foreign", &["foreign:1"], 500),
    ];
    let owned: Owned = [
        ("young", own(&["young:1"], YOUNG_S - 1)),
        ("newer", own(&["newer:1"], YOUNG_S)),
        ("older", own(&["older:1", "older:2"], YOUNG_S + 9)),
        ("nameless", own(&["nameless:1"], YOUNG_S + 1)),
        ("pinned", own(&["pinned:1"], 90_000)),
        ("shared", own(&["shared:1"], 90_000)),
    ]
    .map(|(id, own)| (id.to_owned(), own))
    .into();
    let used = used.iter().map(|id| (*id).to_owned()).collect();
    let chosen = choose(
        &there,
        &owned,
        &used,
        &rules(),
        (disk(free_mb), wanted_mb * 1_000_000),
        NOW,
    );
    chosen.into_iter().map(|image| image.id.clone()).collect()
}

#[test]
fn the_least_recently_used_go_until_enough_is_free() {
    assert_eq!(gone(&[], 100), [""; 0], "a tenth is free");
    assert_eq!(gone(&[], 99), ["older", "nameless", "newer"]);
    let all = ["older", "nameless", "newer"];
    assert_eq!(gone(&[], 0), all, "and no others, however full it is");
    assert_eq!(gone(&["older"], 95), ["nameless", "newer"]);
    assert_eq!(
        missing(disk(99), 10, 0),
        51_000_000,
        "to five parts above the mark"
    );
    assert_eq!(missing(disk(50), 0, 0), 0);
}

#[test]
fn room_is_made_for_one_that_does_not_fit() {
    assert_eq!(gone_for(&[], 500, 400), [""; 0], "it fits");
    assert_eq!(gone_for(&[], 500, 401), ["older", "nameless", "newer"]);
    let all = ["older", "nameless", "newer"];
    assert_eq!(gone_for(&[], 500, 510), all, "without them it just fits");
    assert_eq!(
        gone_for(&[], 500, 511),
        [""; 0],
        "it would not fit with them gone"
    );
    assert_eq!(
        gone_for(&[], 99, 600),
        ["older", "nameless", "newer"],
        "the mark"
    );
}

#[test]
fn the_engines_short_names_are_those_that_were_written() {
    let there = [
        image("a", &["base:1"], 500),
        image("b", &["other:latest"], 500),
    ];
    let owned: Owned = [
        ("a", own(&["docker.io/library/base:1"], 90_000)),
        ("b", own(&["docker.io/other:latest"], 90_000)),
    ]
    .map(|(id, own)| (id.to_owned(), own))
    .into();
    let go = |keep: &str| -> Vec<String> {
        let rules = Rules {
            keep: vec![keep.to_owned()],
            ..rules()
        };
        let none = BTreeSet::new();
        let chosen = choose(&there, &owned, &none, &rules, (disk(0), 600_000_000), NOW);
        chosen.into_iter().map(|image| image.id.clone()).collect()
    };
    assert_eq!(go("nothing"), ["a", "b"]);
    assert_eq!(go("index.docker.io/library/base:1"), ["b"]);
    assert_eq!(go("other"), ["a"]);
}

#[test]
fn what_was_pulled_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::new(dir.path(), rules());
    assert!(collector.is_due() && !collector.is_due());
    collector.pulled("id", ["base:1".to_owned()]);
    collector.pulled("id", ["base:2".to_owned()]);
    let again = Collector::new(dir.path(), rules());
    let names = &lock(&again.owned)["id"].names;
    assert!(names.contains("base:1") && names.contains("base:2"));
    std::fs::write(dir.path().join("images.json"), "{").unwrap();
    let damaged = Collector::new(dir.path(), rules());
    assert_eq!(lock(&damaged.owned).len(), 0, "nothing is ours then");
}
