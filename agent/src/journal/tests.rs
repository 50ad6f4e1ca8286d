//! What is written is there after a restart, whatever tore the file.

use super::*;
use crate::devices::stuck::KeptBack;
use longshore_common::ids::{Attempt, Fence, Rank, SessionId};
use longshore_common::judge::{KeptHistory, WarnState};
use longshore_common::wire::{OutcomeNumber, SignedSet, Totals};

fn key(n: u64) -> ContainerKey {
    ContainerKey {
        session: SessionId(n),
        rank: Rank::MAIN,
        attempt: Attempt::FIRST,
    }
}

fn intent(n: u64) -> Record {
    Record::Intent {
        key: key(n),
        fence: Fence(1),
        boot_id: "b".into(),
        lifetime_boot_ms: None,
    }
}

fn open(dir: &Path) -> (Journal, Condition) {
    Journal::open(dir, ClusterId::new(1), AgentId::new(2), AHEAD).unwrap()
}

#[test]
fn says_after_a_restart_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, condition) = open(dir.path());
    assert_eq!(condition, Condition::Missing);
    journal.write(vec![intent(1)]).unwrap();
    journal
        .note(vec![Record::Created {
            key: key(1),
            docker_id: "abc".into(),
        }])
        .unwrap();
    journal
        .write(vec![Record::Start {
            key: key(1),
            boot_id: "b".into(),
        }])
        .unwrap();
    let before = journal.contents().clone();
    drop(journal);
    let (journal, condition) = open(dir.path());
    assert_eq!(condition, Condition::Good);
    assert_eq!(journal.contents(), &before);
    assert_eq!(journal.key(key(1)).unwrap().stage, Some(Stage::Start));
}

#[test]
fn what_was_put_is_waited_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    journal.put(vec![intent(1)]).unwrap();
    journal.put(vec![intent(2)]).unwrap();
    assert!(journal.unsettled);
    assert!(journal.key(key(2)).is_some(), "known at once");
    journal.settle().unwrap();
    assert!(!journal.unsettled);
    journal.put(vec![intent(3)]).unwrap();
    journal.write(vec![intent(4)]).unwrap();
    assert!(!journal.unsettled, "one wait is for all that went before");
    drop(journal);
    let (journal, condition) = open(dir.path());
    assert_eq!(condition, Condition::Good);
    assert_eq!(journal.contents().keys.len(), 4);
}

#[test]
fn a_tail_torn_anywhere_is_cut_at_the_last_whole_record() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    journal.write(vec![intent(1)]).unwrap();
    let whole = fs::read(dir.path().join("journal")).unwrap();
    journal.write(vec![intent(2)]).unwrap();
    drop(journal);
    let longer = fs::read(dir.path().join("journal")).unwrap();
    for cut in whole.len()..longer.len() {
        fs::write(dir.path().join("journal"), &longer[..cut]).unwrap();
        let (journal, _) = open(dir.path());
        assert!(
            journal.key(key(1)).is_some() && journal.key(key(2)).is_none(),
            "cut at {cut}"
        );
    }
    for flip in whole.len()..longer.len() {
        let mut bytes = longer.clone();
        bytes[flip] ^= 0x40;
        fs::write(dir.path().join("journal"), &bytes).unwrap();
        let (journal, condition) = open(dir.path());
        assert_eq!(condition, Condition::Cut);
        assert!(
            journal.key(key(1)).is_some() && journal.key(key(2)).is_none(),
            "flipped {flip}"
        );
    }
}

#[test]
fn damage_in_the_middle_is_no_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    journal.write(vec![intent(1)]).unwrap();
    let before = fs::read(dir.path().join("journal")).unwrap().len();
    journal.write(vec![intent(2)]).unwrap();
    let behind = fs::read(dir.path().join("journal")).unwrap().len();
    journal.write(vec![intent(3)]).unwrap();
    drop(journal);
    let bytes = fs::read(dir.path().join("journal")).unwrap();
    for flip in before..behind {
        let mut bytes = bytes.clone();
        bytes[flip] ^= 0x40;
        fs::write(dir.path().join("journal"), &bytes).unwrap();
        let (journal, condition) = open(dir.path());
        assert_eq!(condition, Condition::SetAside, "flipped {flip}");
        assert!(journal.contents().keys.is_empty());
        let aside = fs::read(dir.path().join("journal.set-aside")).unwrap();
        assert_eq!(aside, bytes);
    }
}

#[test]
fn a_new_file_whose_name_may_be_lost_is_no_warning() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    journal.write(vec![intent(1)]).unwrap();
    journal.rewrite_at = 0;
    journal.sync_name = |_| Err(io::Error::other("no"));
    assert!(journal.write(vec![intent(2)]).is_err());
    // Whatever is written now stands in the file that has the name.
    (journal.sync_name, journal.rewrite_at) = (sync_dir, REWRITE_AT);
    journal.write(vec![intent(3)]).unwrap();
    drop(journal);
    let (journal, condition) = open(dir.path());
    assert_eq!(condition, Condition::Good);
    assert!(journal.key(key(3)).is_some());
}

#[test]
fn what_was_seen_outlives_a_rewrite() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let seen = Seen {
        checked: true,
        used_boot_ms: Some(7),
        boot_id: "b".into(),
    };
    let signed = SignedSet {
        bytes: vec![1],
        signature: vec![2],
    };
    let sums = Sums {
        totals: Totals {
            cpu_ms: Some(70),
            ..Totals::default()
        },
        devices: Vec::new(),
    };
    let idle = Idle {
        boot_id: "b".into(),
        started_boot_ms: 3,
        history: KeptHistory::default(),
        warned: WarnState::default(),
    };
    let stuck = KeptBack::from([("GPU-a".parse().unwrap(), [key(1)].into())]);
    let records = vec![
        Record::Set(signed, Fence(1)),
        Record::Arrived("b".into(), 8),
        intent(1),
        Record::Seen(key(1), seen.clone()),
        Record::Signalled(key(1), "b".into(), 9),
        Record::Sums(key(1), Box::new(sums.clone())),
        Record::Idle(key(1), Box::new(idle.clone())),
        Record::Stuck(stuck.clone()),
    ];
    journal.write(records).unwrap();
    journal.rewrite_at = 0;
    journal.write(vec![intent(2)]).unwrap();
    drop(journal);
    let (mut journal, _) = open(dir.path());
    let contents = journal.contents();
    assert_eq!(contents.seen.get(&key(1)), Some(&seen));
    assert_eq!(contents.arrived, Some(("b".to_owned(), 8)));
    assert_eq!(contents.sums[&key(1)], sums);
    assert_eq!(contents.idle[&key(1)], idle);
    assert_eq!(contents.stuck, stuck);
    assert_eq!(contents.signalled[&key(1)], ("b".to_owned(), 9));
    let closed = Record::Acked(key(1), OutcomeNumber::Closed);
    journal.write(vec![closed]).unwrap();
    let contents = journal.contents();
    assert!(contents.seen.is_empty() && contents.signalled.is_empty());
    assert!(contents.sums.is_empty() && contents.idle.is_empty());
}

#[test]
fn another_agents_journal_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    journal.write(vec![intent(1)]).unwrap();
    drop(journal);
    let (journal, condition) =
        Journal::open(dir.path(), ClusterId::new(1), AgentId::new(3), AHEAD).unwrap();
    assert_eq!(condition, Condition::SetAside);
    assert!(journal.contents().keys.is_empty());
    assert!(dir.path().join("journal.set-aside").exists());
}

#[test]
fn a_long_life_is_rewritten_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let id = "x".repeat(200_000);
    for n in 1..60 {
        journal
            .write(vec![
                intent(n),
                Record::Created {
                    key: key(n),
                    docker_id: id.clone(),
                },
            ])
            .unwrap();
        if n > 2 {
            journal
                .write(vec![Record::Acked(key(n - 2), OutcomeNumber::Closed)])
                .unwrap();
        }
    }
    let before = journal.contents().clone();
    assert!(fs::metadata(dir.path().join("journal")).unwrap().len() < REWRITE_AT + 500_000);
    drop(journal);
    let (journal, condition) = open(dir.path());
    assert_eq!(condition, Condition::Good);
    assert_eq!(journal.contents(), &before);
    assert_eq!(journal.contents().keys.len(), 2);
}
