//! The store by itself, the layer over every route, and what it must never say twice.

use super::super::operations::{Gives, OPERATIONS};
use super::super::tests::{Answer, Fixture, ready};
use super::*;
use serde_json::json;

fn slot(key: &str) -> Slot {
    Slot {
        caller: UserId::new(1),
        route: "route",
        key: key.to_owned(),
    }
}

fn answer(size: usize) -> Kept {
    Kept {
        status: StatusCode::CREATED,
        headers: Vec::new(),
        body: Bytes::from(vec![b'x'; size]),
    }
}

fn empty() -> Replays {
    Replays::new(&[1; 32], Vec::new(), Timestamp(0), 0)
}

#[test]
fn a_key_stands_for_one_request_for_a_day() {
    let replays = empty();
    let begin = |request: u8, at| replays.begin(&slot("k"), [request; 32], at);
    assert!(matches!(begin(1, 0), Begin::First));
    assert!(matches!(begin(1, 1), Begin::Running));
    assert!(matches!(begin(2, 1), Begin::Other));
    replays.end(&slot("k"), Some(answer(3)), 10);
    assert!(matches!(begin(1, 11), Begin::Again(kept) if *kept == answer(3)));
    assert!(matches!(begin(2, 11), Begin::Other));
    assert!(matches!(begin(1, 10 + KEPT_MS - 1), Begin::Again(_)));
    assert!(matches!(begin(2, 10 + KEPT_MS), Begin::First));
    // Of another caller and on another route it is another key.
    let other = Slot {
        caller: UserId::new(2),
        ..slot("k")
    };
    assert!(matches!(replays.begin(&other, [1; 32], 11), Begin::First));
    let other = Slot {
        route: "other",
        ..slot("k")
    };
    assert!(matches!(replays.begin(&other, [1; 32], 11), Begin::First));
}

#[test]
fn what_was_refused_frees_its_key() {
    let replays = empty();
    assert!(matches!(
        replays.begin(&slot("k"), [1; 32], 0),
        Begin::First
    ));
    replays.end(&slot("k"), None, 0);
    assert!(matches!(
        replays.begin(&slot("k"), [2; 32], 0),
        Begin::First
    ));
}

#[test]
fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
    let replays = empty();
    let many = 2 * KEPT_BYTES / (1 << 20);
    for n in 0..many {
        let slot = slot(&n.to_string());
        assert!(matches!(replays.begin(&slot, [1; 32], 0), Begin::First));
        replays.end(&slot, Some(answer(1 << 20)), 0);
    }
    {
        let held = replays.held();
        assert!(held.bytes <= KEPT_BYTES && held.known.len() == held.ages.len());
    }
    let newest = slot(&(many - 1).to_string());
    assert!(matches!(
        replays.begin(&newest, [1; 32], 0),
        Begin::Again(_)
    ));
    assert!(matches!(
        replays.begin(&slot("0"), [1; 32], 0),
        Begin::First
    ));

    let replays = empty();
    for n in 0..=KEPT_MOST {
        let slot = slot(&n.to_string());
        replays.begin(&slot, [1; 32], 0);
        replays.end(&slot, Some(answer(0)), 0);
    }
    assert_eq!(replays.held().known.len(), KEPT_MOST as usize);
}

/// As it lies in the database: noted so long before the start, with an answer or without.
fn stored(key: &str, ago_ms: i64, answer: Option<ReplayAnswer>) -> StoredReplay {
    StoredReplay {
        caller: UserId::new(1),
        route: "domains_create".to_owned(),
        key: key.to_owned(),
        request: [1; 32],
        at: Timestamp(KEPT_MS * 2 - ago_ms),
        answer,
    }
}

#[test]
fn a_start_knows_what_was_asked_before_it() {
    let said = ReplayAnswer {
        status: 201,
        headers: vec![("location".to_owned(), "/x".to_owned())],
        body: b"{}".to_vec(),
    };
    let mut gone = stored("gone", 1, Some(said.clone()));
    gone.route = "a route of another release".to_owned();
    let rows = vec![
        stored("old", KEPT_MS, Some(said.clone())),
        stored("answered", 1000, Some(said.clone())),
        stored("begun", 1000, None),
        // The wall clock was set back since.
        stored("ahead", -5000, Some(said.clone())),
        gone,
    ];
    // A machine that was up for less long than some of them are old.
    let (now, up) = (Timestamp(KEPT_MS * 2), 100);
    let replays = Replays::new(&[1; 32], rows, now, up);
    let of = |key: &str| Slot {
        route: "domains_create",
        ..slot(key)
    };
    let begin = |key: &str, request: u8, at| replays.begin(&of(key), [request; 32], at);
    let Begin::Again(kept) = begin("answered", 1, up) else {
        panic!("it was answered");
    };
    assert_eq!(kept.stored(), Some(said), "to the letter");
    assert!(matches!(begin("answered", 2, up), Begin::Other));
    assert!(matches!(begin("begun", 1, up), Begin::Lost));
    assert!(matches!(begin("begun", 2, up), Begin::Other));
    assert!(matches!(begin("old", 1, up), Begin::First));
    assert!(matches!(begin("ahead", 1, up), Begin::Again(_)));
    // Their day goes on where it was.
    let end = up - 1000 + KEPT_MS;
    assert!(matches!(begin("answered", 1, end - 1), Begin::Again(_)));
    assert!(matches!(begin("answered", 1, end), Begin::First));
    assert!(matches!(begin("begun", 1, end), Begin::First));
}

#[test]
fn what_lasts_is_named_by_operations_that_are_there() {
    let known = |id: &&str| OPERATIONS.iter().any(|o| o.id == *id && takes_key(o));
    assert!(ONCE.iter().all(known), "{ONCE:?}");
    let lasting = OPERATIONS
        .iter()
        .filter(|o| takes_key(o) && lasts(o))
        .count();
    assert!(lasting > ONCE.len() + 10, "{lasting}");
}

#[test]
fn what_a_request_says_is_not_to_be_guessed_from_what_is_stored() {
    let other = Replays::new(&[2; 32], Vec::new(), Timestamp(0), 0);
    assert_eq!(empty().digest(b"a"), empty().digest(b"a"));
    assert_ne!(empty().digest(b"a"), empty().digest(b"b"));
    assert_ne!(empty().digest(b"a"), other.digest(b"a"));
    assert_ne!(empty().digest(b"a"), sha256(b"a"));
}

#[test]
fn an_answer_that_is_too_long_to_store_is_none() {
    assert!(answer(STORED_BYTES).stored().is_some());
    assert!(answer(STORED_BYTES + 1).stored().is_none());
}

#[test]
fn secrets_are_taken_out_wherever_they_stand() {
    let body = json!({
        "user": { "name": "a", "password": true },
        "rows": [{ "row": 1, "secret_key": "s" }],
        "recovery_codes": ["1"],
    });
    let kept = without_secrets(body.to_string().as_bytes()).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    let wanted = json!({
        "user": { "name": "a", "password": true },
        "rows": [{ "row": 1 }],
        "secret_shown": true,
    });
    assert_eq!(kept, wanted);
    assert_eq!(without_secrets(b"{\"name\":\"a\"}"), None);
}

/// Members of a shape and of what is flattened into it.
fn members_of<'a>(shape: &'a Value, to: &mut Vec<(&'a String, &'a Value)>) {
    match shape {
        Value::Object(parts) => {
            to.extend(
                parts
                    .get("properties")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten(),
            );
            parts.values().for_each(|part| members_of(part, to));
        }
        Value::Array(parts) => parts.iter().for_each(|part| members_of(part, to)),
        _ => (),
    }
}

/// A member that is said once only says so in its own description, or by its name.
#[test]
fn no_route_has_a_secret_that_is_not_known_here() {
    let mut found = 0;
    for operation in OPERATIONS.iter().filter(|o| takes_key(o)) {
        let Gives::Json(shape) = operation.gives else {
            continue;
        };
        let (name, schemas) = shape();
        for (schema, value) in schemas {
            let value = serde_json::to_value(&value).unwrap();
            let mut members = Vec::new();
            members_of(&value, &mut members);
            for (member, about) in members {
                let said = about["description"].as_str().unwrap_or("");
                let is_flag = about["type"] == "boolean";
                let secret = ["secret", "token", "password"]
                    .iter()
                    .any(|word| member == word || member.ends_with(&format!("_{word}")))
                    || member.contains("secret")
                    || said.contains("this once");
                if secret && !is_flag {
                    found += 1;
                    assert!(
                        SECRETS.contains(&member.as_str()),
                        "{}: {name}: {schema}.{member}",
                        operation.id
                    );
                }
            }
        }
    }
    assert!(found > 5, "{found}");
}

impl Fixture {
    async fn keyed(&self, key: &str, path: &str, body: &Value) -> Answer {
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        let body = Body::from(body.to_string());
        self.send("POST", path, &headers, body).await
    }
}

#[tokio::test]
async fn a_repeated_creation_creates_once_and_answers_alike() {
    let f = ready().await;
    let path = "/api/v1/domains";
    let (a, b) = (json!({ "name": "physics" }), json!({ "name": "chemistry" }));
    let first = f.keyed("k1", path, &a).await;
    assert_eq!(first.status, 201, "{}", first.text());
    assert_eq!(first.header("idempotent-replayed"), "");
    let second = f.keyed("k1", path, &a).await;
    assert_eq!(second.status, 201);
    assert_eq!(second.header("idempotent-replayed"), "true");
    assert_eq!(second.json(), first.json());
    for name in ["location", "etag", "content-type"] {
        assert_eq!(second.header(name), first.header(name), "{name}");
    }
    let other = f.keyed("k1", path, &b).await;
    assert_eq!(
        (other.status.as_u16(), other.code().as_str()),
        (422, "LS-IDEMPOTENCY-BODY")
    );
    // On another route it is another key; without one it is another request.
    let project = json!({ "name": "p", "domain": "physics" });
    let made = f.keyed("k1", "/api/v1/projects", &project).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(f.post(path, &a).await.code(), "LS-EXISTS");
}

#[tokio::test]
async fn a_refused_request_may_be_mended_under_its_key() {
    let f = ready().await;
    let path = "/api/v1/domains";
    let wrong = f.keyed("k", path, &json!({ "name": "a b c!" })).await;
    assert!(wrong.status.is_client_error(), "{}", wrong.text());
    let rehearsed = f
        .keyed(
            "k",
            &format!("{path}?dry_run=true"),
            &json!({ "name": "x" }),
        )
        .await;
    assert_eq!(rehearsed.status, 201, "{}", rehearsed.text());
    let right = f.keyed("k", path, &json!({ "name": "abc" })).await;
    assert_eq!(right.status, 201, "{}", right.text());
    assert_eq!(right.header("idempotent-replayed"), "");
    let long = "x".repeat(129);
    let refused = f.keyed(&long, path, &json!({ "name": "def" })).await;
    assert_eq!(refused.code(), "LS-INVALID");
}

#[tokio::test]
async fn a_secret_is_not_said_again() {
    let f = ready().await;
    let path = "/api/v1/join-tokens";
    let first = f.keyed("k", path, &json!({})).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let token = first.json()["token"].as_str().unwrap().to_owned();
    let second = f.keyed("k", path, &json!({})).await;
    assert_eq!(second.status, 201);
    assert_eq!(second.json()["id"], first.json()["id"]);
    assert_eq!(second.json()["secret_shown"], true);
    assert!(!second.text().contains(&token), "{}", second.text());
}

#[tokio::test]
async fn of_two_at_once_one_is_carried_out() {
    let f = ready().await;
    let body = json!({ "name": "once" });
    let path = "/api/v1/domains";
    let (a, b) = tokio::join!(f.keyed("k", path, &body), f.keyed("k", path, &body));
    let (made, other) = if a.status == 201 && a.header("idempotent-replayed").is_empty() {
        (a, b)
    } else {
        (b, a)
    };
    assert_eq!(made.status, 201, "{}", made.text());
    // The other came while it ran, or right after.
    match other.status.as_u16() {
        201 => assert_eq!(other.header("idempotent-replayed"), "true"),
        _ => {
            assert_eq!(other.code(), "LS-IDEMPOTENCY-BUSY");
            assert_eq!(other.header("retry-after"), "1");
        }
    }
}

#[tokio::test]
async fn what_was_made_is_known_after_a_start_too() {
    let f = ready().await;
    let path = "/api/v1/join-tokens";
    let first = f.keyed("made", path, &json!({})).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let wrong = json!({ "name": "a b!" });
    for (key, path) in [
        ("no", "/api/v1/domains"),
        ("verb", "/api/v1/sessions/s-9/hold"),
    ] {
        let refused = f.keyed(key, path, &wrong).await;
        assert!(refused.status.is_client_error(), "{}", refused.text());
    }

    let rows = f.app.reader.replays().await.unwrap();
    let [row] = &rows[..] else {
        panic!("{rows:?}");
    };
    assert_eq!(
        (row.key.as_str(), row.route.as_str()),
        ("made", "join_tokens_create")
    );
    let token = first.json()["token"].as_str().unwrap().to_owned();
    let text = String::from_utf8(row.answer.clone().unwrap().body).unwrap();
    assert!(
        !text.contains(&token) && text.contains("secret_shown"),
        "{text}"
    );

    // The next start.
    let (now, up) = (crate::engine::wall_clock(), boot_ms());
    let next = Replays::new(&[5; 32], rows.clone(), now, up);
    let route = OPERATIONS
        .iter()
        .find(|o| o.id == "join_tokens_create")
        .unwrap()
        .id;
    let slot = Slot {
        caller: row.caller,
        route,
        key: "made".to_owned(),
    };
    let digest = next.digest(format!("{path}\n{{}}").as_bytes());
    let Begin::Again(kept) = next.begin(&slot, digest, up) else {
        panic!("it was made before");
    };
    assert_eq!(kept.status, 201);

    // It stopped before the answer was stored.
    let begun = StoredReplay {
        answer: None,
        ..rows[0].clone()
    };
    let next = Replays::new(&[5; 32], vec![begun], now, up);
    assert!(matches!(next.begin(&slot, digest, up), Begin::Lost));
}
