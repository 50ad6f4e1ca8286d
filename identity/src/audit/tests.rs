use super::*;
use proptest::prelude::*;
use serde_json::json;

const H1: &str = "89835c1cbd88f1efcf16200676f9a8507a42cee6c236b9dc67e2a507b80cbeb3";
const H2: &str = "924b5f1349a22a5645ea0bb279ee90911b5925632575a6c75bd4309af7245e7d";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn golden() -> [Record; 2] {
    let local = Actor::new(ActorKind::Local).called("", "root");
    let setup = Draft::new(local, "setup.use", Outcome::Ok).target(
        "user",
        "usr_00000000000000000000000001",
        "",
    );
    let first = Head::START
        .seal(setup, at("2026-01-05T09:00:00.000Z"))
        .unwrap();
    let dana = Actor::new(ActorKind::User).called("usr_00000000000000000000000001", "dana");
    let sudo = Draft::new(dana, "user.update", Outcome::Ok)
        .target("user", "usr_00000000000000000000000002", "")
        .field(
            "sudo_enabled",
            Kind::Plain,
            Some(json!(false)),
            Some(json!(true)),
        )
        .field(
            "full_name",
            Kind::Plain,
            Some(json!("same")),
            Some(json!("same")),
        );
    let second = first
        .head()
        .seal(sudo, at("2026-01-05T09:01:00.000Z"))
        .unwrap();
    [first, second]
}

#[test]
fn the_golden_chain_of_the_specification() {
    let [first, second] = golden();
    let zeros = "0".repeat(64);
    assert_eq!(
        first.hashed_form().unwrap(),
        format!(
            r#"{{"actor":{{"kind":"local","name":"root"}},"at":"2026-01-05T09:00:00.000Z","operation":"setup.use","outcome":"ok","prev_hash":"{zeros}","seq":1,"target":{{"id":"usr_00000000000000000000000001","type":"user"}}}}"#
        )
    );
    assert_eq!(first.hash.to_string(), H1);
    assert_eq!(
        second.hashed_form().unwrap(),
        format!(
            r#"{{"actor":{{"id":"usr_00000000000000000000000001","kind":"user","name":"dana"}},"after":{{"sudo_enabled":true}},"at":"2026-01-05T09:01:00.000Z","before":{{"sudo_enabled":false}},"operation":"user.update","outcome":"ok","prev_hash":"{H1}","seq":2,"target":{{"id":"usr_00000000000000000000000002","type":"user"}}}}"#
        )
    );
    assert_eq!(second.hash.to_string(), H2);
    assert_eq!(
        verify(&[first, second.clone()]),
        Report {
            ok: true,
            records: 2,
            first_bad_seq: None,
            head: second.head()
        }
    );
}

#[test]
fn secrets_never_enter_a_record() {
    let service = Actor {
        via: Some("LSA".to_owned()),
        on_behalf_of: Some("usr_1".to_owned()),
        ..Actor::new(ActorKind::ServiceAccount)
    };
    let draft = Draft::new(service, "idp.write", Outcome::Refused)
        .client_ip("192.0.2.1")
        .request_id("req\u{1b}[2J")
        .code("LS-INVALID")
        .detail(&format!("https://u:hunter2@host {}", "d".repeat(400)))
        .count(3)
        .field(
            "client_secret",
            Kind::Plain,
            Some(json!("hunter2")),
            Some(json!("hunter3")),
        )
        .field("value", Kind::Secret, None, Some(json!({"x": "hunter4"})))
        .field(
            "need_password_change",
            Kind::Plain,
            Some(json!(false)),
            Some(json!(true)),
        )
        .field(
            "nested",
            Kind::Plain,
            Some(json!({"token": "hunter5"})),
            None,
        )
        .vault_paths(["environment.HF_TOKEN", "agent.git\n"]);
    let record = Head::START.seal(draft, Timestamp(0)).unwrap();
    let line = record.line().unwrap();
    assert!(!line.contains("hunter"), "{line}");
    assert_eq!(record.before["client_secret"], "********");
    assert_eq!(record.after["client_secret"], "********");
    assert_eq!(record.after["value"], "********");
    assert_eq!(record.after["need_password_change"], true);
    assert_eq!(
        record.after["paths"],
        json!(["environment.HF_TOKEN", "agent.git\\n"])
    );
    assert_eq!(record.request_id.as_deref(), Some("req\\u001b[2J"));
    assert_eq!(record.detail.as_ref().unwrap().chars().count(), 256);
    assert!(
        line.contains(r#""actor":{"kind":"service_account","on_behalf_of":"usr_1","via":"LSA"}"#)
    );
    assert!(line.contains(r#""count":3"#));
    let read: Record = serde_json::from_str(&line).unwrap();
    assert_eq!(read, record);
}

/// A chain of `n` records with a second checkpoint behind each tenth.
fn chain(n: u64) -> Vec<Record> {
    let mut head = Head::START;
    let mut records: Vec<Record> = Vec::new();
    for seq in 1..=n {
        let draft = if seq % 10 == 0 {
            Draft::checkpoint(records[records.len() - 6].head())
        } else {
            let user = Actor::new(ActorKind::User);
            Draft::new(user, "user.update", Outcome::Ok).detail(&seq.to_string())
        };
        let record = head.seal(draft, Timestamp(seq.cast_signed())).unwrap();
        head = record.head();
        records.push(record);
    }
    records
}

fn bad(records: &[Record]) -> Option<u64> {
    let report = verify(records);
    assert_eq!(report.ok, report.first_bad_seq.is_none());
    report.first_bad_seq
}

#[test]
fn every_change_is_found_at_its_number() {
    let whole = chain(9);
    assert_eq!(bad(&whole), None);
    for index in 0..9 {
        let seq = index as u64 + 1;
        let mut flipped = whole.clone();
        flipped[index].detail = Some("x".to_owned());
        assert_eq!(bad(&flipped), Some(seq));
        // With a new digest of its own, the next record tells.
        flipped[index].hash = Sha256::of(flipped[index].hashed_form().unwrap().as_bytes());
        assert_eq!(bad(&flipped), (seq < 9).then_some(seq + 1));
        let mut deleted = whole.clone();
        deleted.remove(index);
        let wanted = match seq {
            9 => None, // a cut end: only a witness knows
            seq => Some(seq),
        };
        assert_eq!(bad(&deleted), wanted, "{seq}");
        let mut inserted = whole.clone();
        inserted.insert(index, whole[index].clone());
        assert_eq!(bad(&inserted), Some(seq + 1));
        if index < 8 {
            let mut swapped = whole.clone();
            swapped.swap(index, index + 1);
            assert_eq!(bad(&swapped), Some(seq));
        }
    }
    assert_eq!(verify(&[]).head, Head::START);
}

#[test]
fn what_others_remember_shows_a_cut_end_and_an_older_database() {
    let whole = chain(9);
    let against = |records: &[Record], heads: &[Head]| {
        let mut verifier = Verifier::new(heads.iter().copied());
        for record in records {
            verifier.record(record);
        }
        verifier.finish()
    };
    let (five, nine) = (whole[4].head(), whole[8].head());
    assert!(against(&whole, &[five, nine, Head::START]).ok);
    let cut = against(&whole[..7], &[five, nine]);
    assert_eq!((cut.first_bad_seq, cut.head.seq), (Some(8), 7));
    assert_eq!(against(&[], &[five]).first_bad_seq, Some(1));
    // An older database that went on by itself.
    let mut other = whole[..4].to_vec();
    for _ in 0..8 {
        let draft = Draft::new(Actor::new(ActorKind::Agent), "x", Outcome::Failed);
        other.push(
            other
                .last()
                .unwrap()
                .head()
                .seal(draft, Timestamp(0))
                .unwrap(),
        );
    }
    assert!(against(&other, &[]).ok);
    assert_eq!(against(&other, &[nine, five]).first_bad_seq, Some(5));
}

#[test]
fn retention_leaves_a_checkpoint_that_vouches_for_the_start() {
    let whole = chain(30);
    // The record 20 says that all up to 14 were removed.
    let rest = &whole[14..];
    assert_eq!(bad(rest), None);
    assert_eq!(verify(rest).records, 16);
    assert_eq!(verify(rest).head, whole[29].head());
    // Without it, or with another start, nobody says that this was right.
    assert_eq!(bad(&whole[14..19]), Some(1));
    assert_eq!(bad(&whole[15..]), Some(1));
    assert_eq!(bad(&whole[3..]), Some(1));
    // An old witness for a removed record cannot speak any more.
    let mut verifier = Verifier::new([whole[2].head()]);
    rest.iter().for_each(|record| verifier.record(record));
    assert!(verifier.finish().ok);
    assert!(
        whole[19]
            .line()
            .unwrap()
            .contains("\"operation\":\"audit.checkpoint\"")
    );
}

#[test]
fn lines_are_read_strictly() {
    let whole = chain(3);
    let lines: Vec<String> = whole.iter().map(|r| r.line().unwrap()).collect();
    let read = |lines: &[String]| {
        let mut verifier = Verifier::new([]);
        lines.iter().for_each(|line| verifier.line(line));
        verifier.finish()
    };
    assert!(read(&lines).ok);
    let mut more = lines.clone();
    more[1] = more[1].replacen('{', "{\"note\":\"not hashed\",", 1);
    assert_eq!(read(&more).first_bad_seq, Some(2));
    let mut twice = lines.clone();
    twice[2] = twice[2].replacen('{', "{\"seq\":3,", 1);
    assert_eq!(read(&twice).first_bad_seq, Some(3));
    assert_eq!(read(&["x".to_owned()]).first_bad_seq, Some(1));
    assert_eq!(read(&["x".to_owned()]).records, 1);
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_happens_can_be_sealed_stored_and_verified(
        a in any::<String>(), b in any::<String>(), before in json_value(), after in json_value(),
        ms in any::<i64>(), secret in any::<bool>(),
    ) {
        let kind = if secret { Kind::Secret } else { Kind::Plain };
        let actor = Actor::new(ActorKind::Agent).called(&a, &b);
        let draft = Draft::new(actor, &a, Outcome::Failed)
            .client_ip(&b).request_id(&a).code(&b).detail(&a).target(&b, &a, &b)
            .field(&a, kind, Some(before), Some(after));
        // Within the years that RFC 3339 can write.
        let record = Head::START.seal(draft, Timestamp(ms % 200_000_000_000_000)).unwrap();
        let mut verifier = Verifier::new([record.head()]);
        verifier.line(&record.line().unwrap());
        prop_assert!(ms % 200_000_000_000_000 < -60_000_000_000_000 || verifier.finish().ok);
    }

    #[test]
    fn lines_never_panic(lines in proptest::collection::vec(any::<String>(), 0..4)) {
        let mut verifier = Verifier::new([]);
        lines.iter().for_each(|line| verifier.line(line));
        prop_assert_eq!(verifier.finish().ok, lines.is_empty());
    }

    #[test]
    fn records_with_odd_numbers_never_panic(seq in any::<u64>(), more in any::<u64>()) {
        let mut record = golden()[0].clone();
        record.seq = seq;
        let mut verifier = Verifier::new([Head { seq: more, hash: Sha256::ZERO }]);
        verifier.record(&record);
        verifier.line("x");
        record.seq = more;
        verifier.record(&record);
        prop_assert!(!verifier.finish().ok);
    }
}

#[test]
fn a_stored_row_says_what_its_record_says() {
    let [first, _] = golden();
    let form = first.hashed_form().unwrap();
    let good = StoredRow {
        seq: 1,
        at: first.at,
        actor: "root",
        operation: "setup.use",
        target: "usr_00000000000000000000000001",
        outcome: "ok",
        form: &form,
        hash: first.hash,
    };
    let ok = |row: &StoredRow<'_>| {
        let mut verifier = Verifier::new([]);
        verifier.stored(row);
        verifier.finish().ok
    };
    assert!(ok(&good));
    assert_eq!(Record::from_stored(&form, first.hash).unwrap(), first);
    // The same members in another order have the same meaning and are not what was hashed.
    let spaced = form.replace("{\"actor\"", "{ \"actor\"");
    for bad in [
        StoredRow { seq: 2, ..good },
        StoredRow {
            at: first.at.plus_ms(1),
            ..good
        },
        StoredRow {
            actor: "dana",
            ..good
        },
        StoredRow {
            operation: "user.update",
            ..good
        },
        StoredRow { target: "", ..good },
        StoredRow {
            outcome: "failed",
            ..good
        },
        StoredRow {
            form: &spaced,
            ..good
        },
        StoredRow {
            form: &spaced,
            hash: Sha256::of(spaced.as_bytes()),
            ..good
        },
        StoredRow { form: "[]", ..good },
        StoredRow {
            hash: Sha256::ZERO,
            ..good
        },
    ] {
        assert!(!ok(&bad), "{bad:?}");
    }
}
