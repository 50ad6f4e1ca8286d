//! The audit log as administrators meet it.

mod kept;

use super::super::tests::{Answer, Fixture, batch, ready as bare};
use super::*;
use crate::engine::tests::poll;
use crate::store::RawConnection;
use longshore_common::audit::{AuditRecord, AuditVerdict};
use longshore_common::ids::{DomainId, GroupId, PolicyId, ProjectId};
use longshore_core::model::{Beginning, Event, Group, SchedulerSettings};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

const NOW: Timestamp = Timestamp(1_000_000);
const JSON: (&str, &str) = ("content-type", "application/json");

impl Fixture {
    async fn records(&self, query: &str) -> Vec<AuditRecord> {
        let answer = self.get(&format!("/api/v1/audit?{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let items = answer.json()["items"].take();
        serde_json::from_value(items).unwrap()
    }

    async fn newest(&self) -> AuditRecord {
        self.records("limit=1").await.remove(0)
    }

    async fn order(&self, method: &str, path: &str, body: &Value) -> Answer {
        let kind = match method {
            "PATCH" => ("content-type", "application/merge-patch+json"),
            _ => JSON,
        };
        let headers = [kind, ("if-match", "*"), ("x-request-id", "req.1")];
        let path = format!("/api/v1{path}");
        let body = Body::from(body.to_string());
        let answer = self.send(method, &path, &headers, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
        answer
    }

    async fn is_whole(&self) {
        let answer = self.get("/api/v1/audit/verify").await;
        let verdict: AuditVerdict = serde_json::from_value(answer.json()).unwrap();
        assert!(verdict.ok, "{verdict:?}");
        assert_eq!(verdict.records, verdict.head.seq);
    }
}

/// An installation with what every start makes where it is missing.
async fn ready() -> Fixture {
    let f = bare().await;
    let beginning = Beginning {
        group: Group::new(GroupId::new(9), "default"),
        domain: DomainId::new(10),
        project: ProjectId::new(11),
        keypair_policy: PolicyId::new(12),
        user_policy: PolicyId::new(13),
        project_policy: PolicyId::new(14),
        service_account_admins: false,
        throttle: longshore_identity::throttle::Limits::default(),
        scheduler: SchedulerSettings {
            retries_to_skip: 7,
            ..SchedulerSettings::default()
        },
    };
    let event = Event::Started(Box::new(beginning));
    f.app.engine.ask(event).await.unwrap().unwrap();
    f
}

fn member<'a>(side: &'a std::collections::BTreeMap<String, Value>, name: &str) -> &'a Value {
    side.get(name)
        .unwrap_or_else(|| panic!("no {name} in {side:?}"))
}

#[tokio::test]
async fn every_operation_leaves_one_record_with_what_changed() {
    let f = ready().await;
    let first: Vec<String> = f
        .records("")
        .await
        .into_iter()
        .map(|r| r.operation)
        .collect();
    assert_eq!(first, ["settings.write", "setup.use"]);
    let (settings, setup) = (f.newest().await, f.records("limit=2").await.remove(1));
    assert_eq!(settings.actor.kind, "system");
    assert_eq!(member(&settings.after, "retries_to_skip"), 7);
    assert_eq!((settings.before.len(), settings.after.len()), (1, 1));
    assert_eq!(setup.actor.kind, "local");

    let person = json!({ "email": "erin@lab.example", "username": "erin" });
    let steps: &[(&str, &str, Value, &str, &str)] = &[
        ("POST", "/users", person, "user.create", "user"),
        (
            "PATCH",
            "/users/erin",
            json!({ "weight": "2" }),
            "user.update",
            "user",
        ),
        (
            "PUT",
            "/users/erin/status",
            json!({ "status": "inactive" }),
            "user.status",
            "user",
        ),
        (
            "POST",
            "/resource-groups",
            json!({ "name": "big" }),
            "queue.create",
            "resource_group",
        ),
        (
            "PATCH",
            "/resource-groups/big",
            json!({ "active": false }),
            "resource_group.update",
            "resource_group",
        ),
        (
            "PATCH",
            "/agents/gpu01",
            json!({ "group": "big" }),
            "agent.write",
            "agent",
        ),
        (
            "PATCH",
            "/agents/gpu01",
            json!({ "group": "default" }),
            "agent.write",
            "agent",
        ),
        (
            "PATCH",
            "/agents/gpu01",
            json!({ "schedulable": false }),
            "agent.write",
            "agent",
        ),
        (
            "DELETE",
            "/resource-groups/big",
            json!({}),
            "queue.delete",
            "resource_group",
        ),
        (
            "POST",
            "/keypair-policies",
            json!({ "name": "small" }),
            "policy.write",
            "keypair_policy",
        ),
        (
            "DELETE",
            "/keypair-policies/small",
            json!({}),
            "policy.write",
            "keypair_policy",
        ),
        (
            "POST",
            "/keypairs",
            json!({ "user": "dana" }),
            "me.keypairs",
            "keypair",
        ),
        (
            "POST",
            "/join-tokens",
            json!({}),
            "join_token.write",
            "join_token",
        ),
        ("POST", "/sessions", batch(), "session.create", "session"),
        (
            "POST",
            "/sessions/s-1/terminate",
            json!({}),
            "session.terminate",
            "session",
        ),
        (
            "POST",
            "/agents/gpu01/expel",
            json!({}),
            "agent.write",
            "agent",
        ),
    ];
    for (n, (method, path, body, operation, kind)) in (3..).zip(steps) {
        f.order(method, path, body).await;
        let record = f.newest().await;
        assert_eq!(record.seq, n, "{path}: {record:?}");
        let target = record.target.as_ref().unwrap();
        assert_eq!(
            (record.operation.as_str(), target.kind.as_str()),
            (*operation, *kind)
        );
        assert_eq!(record.actor.name.as_deref(), Some("dana"), "{path}");
        assert!(
            record
                .actor
                .via
                .as_ref()
                .is_some_and(|key| key.starts_with("LS"))
        );
        assert_eq!(record.request_id.as_deref(), Some("req.1"), "{path}");
        assert_eq!(record.outcome, "ok");
        assert!(
            !(record.before.is_empty() && record.after.is_empty()),
            "{path}: {record:?}"
        );
        for (name, old) in &record.before {
            assert_ne!(
                record.after.get(name),
                Some(old),
                "{path}: {name} did not change"
            );
        }
    }
    let all = f.records("limit=500").await;
    assert_eq!(all.len(), steps.len() + 2);
    let of = |seq: u64| all.iter().find(|r| r.seq == seq).unwrap();
    let status = of(5);
    assert_eq!(member(&status.before, "status"), "active");
    assert_eq!(member(&status.after, "status"), "inactive");
    assert_eq!(
        status.target.as_ref().unwrap().name.as_deref(),
        Some("erin")
    );
    assert_eq!(
        (
            member(&of(8).before, "group"),
            member(&of(8).after, "group")
        ),
        (&json!("default"), &json!("big"))
    );
    assert_eq!(
        (
            member(&of(10).before, "schedulable"),
            member(&of(10).after, "schedulable")
        ),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (member(&of(11).before, "name"), of(11).after.is_empty()),
        (&json!("big"), true)
    );
    assert_eq!(member(&of(13).before, "name"), "small");
    assert_eq!(member(&of(16).after, "image"), "longshore/base");
    assert_eq!(member(&of(17).after, "state"), "CANCELLED");
    f.is_whole().await;
}

#[tokio::test]
async fn what_has_no_effect_leaves_no_record() {
    let f = ready().await;
    let person = json!({ "email": "erin@lab.example", "username": "erin" });
    f.order("POST", "/users?dry_run=true", &person).await;
    f.order(
        "POST",
        "/resource-groups?dry_run=true",
        &json!({ "name": "big" }),
    )
    .await;
    f.order(
        "PATCH",
        "/resource-groups/default",
        &json!({ "active": true }),
    )
    .await;
    f.order("DELETE", "/resource-groups/nowhere", &json!({}))
        .await;
    f.order("PATCH", "/agents/gpu01", &json!({ "schedulable": true }))
        .await;
    f.order("POST", "/usage-audit", &json!({})).await;
    let refused = f.post("/api/v1/users", &json!({ "email": "no" })).await;
    assert_eq!(refused.code(), "LS-INVALID");
    assert_eq!(f.newest().await.seq, 2);
    for replayed in ["", "true"] {
        let headers = [JSON, ("idempotency-key", "k")];
        let body = Body::from(batch().to_string());
        let made = f.send("POST", "/api/v1/sessions", &headers, body).await;
        assert_eq!(
            (made.status.as_u16(), made.header("idempotent-replayed")),
            (201, replayed)
        );
        assert_eq!(f.newest().await.seq, 3, "{replayed}");
    }
}

#[tokio::test]
async fn signals_are_recorded_before_they_are_sent() {
    let f = ready().await;
    f.submit(batch()).await;
    f.runs("s-1").await;
    let path = "/api/v1/sessions/s-1/signal";
    let answer = f.post(path, &json!({ "signal": "INT" })).await;
    assert_eq!(answer.code(), "LS-AGENT-UNREACHABLE");
    let [failed, sent] = f
        .records("operation=session.signal")
        .await
        .try_into()
        .unwrap();
    assert_eq!(
        (sent.outcome.as_str(), sent.detail.as_deref()),
        ("ok", Some("INT"))
    );
    assert_eq!(
        (failed.outcome.as_str(), failed.code.as_deref()),
        ("failed", Some("LS-AGENT-UNREACHABLE"))
    );
}

#[tokio::test]
async fn each_session_that_was_ended_has_its_record() {
    let f = ready().await;
    for _ in 0..3 {
        f.submit(batch()).await;
    }
    let ids = json!({ "ids": ["s-3", "s-1", "s-3", "s-9"] });
    f.order("POST", "/sessions/terminate", &ids).await;
    let ended: Vec<String> = f
        .records("operation=session.terminate")
        .await
        .into_iter()
        .filter_map(|record| record.target.map(|target| target.id))
        .collect();
    assert_eq!(ended, ["s-1", "s-3"]);
    // What has ended already is left alone.
    f.order("POST", "/sessions/terminate", &ids).await;
    let again = f.records("operation=session.terminate").await;
    assert_eq!(again.len(), 2);
    f.is_whole().await;
}

#[tokio::test]
async fn nodes_that_join_and_renew_are_actors() {
    use base64::Engine as _;
    let f = ready().await;
    let token = f.order("POST", "/join-tokens", &json!({})).await.json();
    let parts: Vec<&str> = token["token"].as_str().unwrap().split('.').collect();
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(parts[2]);
    let id = longshore_common::ids::AgentId::new(77);
    let enrol = model::Enrol {
        token: parts[1].to_owned(),
        secret_sha256: crate::pki::sha256(&secret.unwrap()),
        key: [5; 32],
        name: "gpu02".to_owned(),
        fingerprint: "f".to_owned(),
        machine: "m".to_owned(),
        new_id: id,
    };
    let renew = Event::RenewKey {
        agent: id,
        key: [6; 32],
        proven: [5; 32],
    };
    // A repeated request has no effect.
    for event in [
        Event::Enrol(enrol.clone()),
        Event::Enrol(enrol),
        renew.clone(),
        renew,
    ] {
        f.app.engine.ask(event).await.unwrap().unwrap();
    }
    let [renewed, joined] = f.records("actor=gpu02").await.try_into().unwrap();
    let via = format!("join token {}", parts[1]);
    assert_eq!(
        (joined.actor.kind.as_str(), joined.actor.via.as_deref()),
        ("agent", Some(via.as_str()))
    );
    assert_eq!(member(&joined.after, "name"), "gpu02");
    assert_eq!(member(&joined.after, "keys"), &json!(["0505050505050505"]));
    assert_eq!(
        (renewed.actor.kind.as_str(), renewed.actor.via),
        ("agent", None)
    );
    assert_eq!(
        member(&renewed.before, "keys"),
        &json!(["0505050505050505"])
    );
    f.is_whole().await;
}

#[tokio::test]
async fn secrets_stand_in_no_record() {
    let f = ready().await;
    let mut secrets = Vec::new();
    let mut take = |answer: &Answer, name: &str| {
        secrets.push(answer.json()[name].as_str().unwrap().to_owned());
    };
    let person = json!({ "email": "erin@lab.example", "username": "erin" });
    take(&f.order("POST", "/users", &person).await, "secret_key");
    take(
        &f.order("POST", "/keypairs", &json!({})).await,
        "secret_key",
    );
    take(&f.order("POST", "/join-tokens", &json!({})).await, "token");
    let mut job = batch();
    job["environment"] = json!({ "PLAIN": "hunter2-in-the-environment" });
    job["command"] = json!(["login", "--with", "hunter2-on-the-command-line"]);
    f.order("POST", "/sessions", &job).await;
    secrets.push("hunter2".to_owned());
    // Of the token also its secret part alone.
    let parts: Vec<String> = secrets[2].split('.').map(str::to_owned).collect();
    secrets.push(parts[2].clone());
    let answer = f.get("/api/v1/audit?format=jsonl").await.text();
    assert_eq!(answer.lines().count(), 6);
    let path = f.app.data_dir.join("longshore.db");
    let database = RawConnection::open(path).unwrap();
    let mut statement = database.prepare("SELECT * FROM audit").unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut text = answer;
    while let Some(row) = rows.next().unwrap() {
        for column in 0..columns {
            text += &format!("{:?}\n", row.get_ref(column).unwrap());
            text +=
                &String::from_utf8_lossy(row.get_ref(column).unwrap().as_bytes().unwrap_or(b""));
        }
    }
    for secret in &secrets {
        assert!(!text.contains(secret.as_str()), "{secret}");
        let hashed = Sha256::of(secret.as_bytes()).to_string();
        assert!(!text.contains(&hashed), "the digest of {secret}");
    }
}

#[tokio::test]
async fn it_is_searched_paged_and_taken_away() {
    let f = ready().await;
    for n in 0..5 {
        f.order(
            "POST",
            "/users",
            &json!({ "email": format!("p{n}@lab.example"), "username": format!("p{n}") }),
        )
        .await;
    }
    let seqs = |records: Vec<AuditRecord>| records.iter().map(|r| r.seq).collect::<Vec<_>>();
    assert_eq!(seqs(f.records("actor=dana").await), [7, 6, 5, 4, 3]);
    assert_eq!(seqs(f.records("actor=system&actor=local").await), [2, 1]);
    assert_eq!(seqs(f.records("target=p1").await), [4]);
    assert_eq!(
        seqs(f.records("operation=user.create&target=p1&target=p2").await),
        [5, 4]
    );
    assert_eq!(seqs(f.records("outcome=refused").await), [0; 0]);
    let at = f.records("target=p2").await[0].at;
    assert_eq!(
        seqs(f.records(&format!("to={at}&actor=nobody")).await),
        [0; 0]
    );
    assert!(seqs(f.records(&format!("from={at}")).await).contains(&5));
    for bad in [
        "outcome=x",
        "from=yesterday",
        "format=xml",
        "format=csv&limit=1",
        "who=x",
        "cursor=x",
    ] {
        let answer = f.get(&format!("/api/v1/audit?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = f
            .get(&format!("/api/v1/audit?limit=3{cursor}"))
            .await
            .json();
        seen.extend(
            answer["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["seq"].as_u64().unwrap()),
        );
        let Some(next) = answer["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);

    // Lines are what a check wants, and each export is a record itself.
    let answer = f.get("/api/v1/audit?format=jsonl").await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let mut verifier = longshore_identity::audit::Verifier::new([]);
    answer.text().lines().for_each(|line| verifier.line(line));
    let report = verifier.finish();
    assert_eq!((report.ok, report.records), (true, 7));
    let exported = f.newest().await;
    assert_eq!(
        (exported.operation.as_str(), exported.detail.as_deref()),
        ("audit.read", Some("exported"))
    );
    let answer = f.get("/api/v1/audit?format=csv&target=p0").await;
    assert!(answer.header("content-disposition").contains("audit.csv"));
    let text = answer.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("\"seq\",\"at\"") && lines[1].starts_with("\"3\","));
    // A cell that a spreadsheet would run is text.
    let record = Origin {
        actor: Actor::new(ActorKind::User).called("", "=1+1"),
        ..Origin::system()
    };
    f.app
        .engine
        .record(record.draft("auth.login", Outcome::Failed))
        .await
        .unwrap();
    let answer = f.get("/api/v1/audit?format=csv&outcome=failed").await;
    assert!(answer.text().contains("\"'=1+1\""), "{}", answer.text());
    f.is_whole().await;
}

#[tokio::test]
async fn a_tampered_log_is_found_while_it_runs() {
    let f = ready().await;
    for n in 0..3 {
        f.order(
            "POST",
            "/join-tokens",
            &json!({ "agent_name": format!("n{n}") }),
        )
        .await;
    }
    f.is_whole().await;
    let path = f.app.data_dir.join("longshore.db");
    let database = RawConnection::open(path).unwrap();
    let verdict = async |f: &Fixture| -> AuditVerdict {
        let answer = f.get("/api/v1/audit/verify").await;
        serde_json::from_value(answer.json()).unwrap()
    };
    // The engine remembers the end.
    database
        .execute("DELETE FROM audit WHERE seq = 5", [])
        .unwrap();
    let found = verdict(&f).await;
    assert_eq!(
        (found.ok, found.first_bad_seq, found.head.seq),
        (false, Some(5), 4)
    );
    database
        .execute(
            "UPDATE audit SET body = replace(body, 'n1', 'n9') WHERE seq = 4",
            [],
        )
        .unwrap();
    let found = verdict(&f).await;
    assert_eq!(
        (found.ok, found.first_bad_seq, found.head.seq),
        (false, Some(4), 3)
    );
}

#[tokio::test]
async fn a_change_is_recorded_although_its_caller_hung_up() {
    let f = ready().await;
    let body = json!({ "email": "erin@lab.example", "username": "erin" });
    let mut request = Box::pin(f.post("/api/v1/users", &body));
    loop {
        assert!(poll(&mut request).await.is_pending(), "answered");
        let look = |state: &model::State, _| state.users.len();
        if f.app.engine.read(look).await.unwrap() == 2 {
            break;
        }
    }
    drop(request);
    let record = f.newest().await;
    assert_eq!((record.seq, record.operation.as_str()), (3, "user.create"));
    assert_eq!(record.actor.name.as_deref(), Some("dana"));
}

#[tokio::test]
async fn refusals_are_merged_and_name_only_accounts_there_are() {
    let f = ready().await;
    let person = json!({ "email": "erin@lab.example", "username": "erin" });
    let made = f.order("POST", "/users", &person).await.json();
    let part = |name: &str| made[name].as_str().unwrap().to_owned();
    let right = format!("Bearer {}.{}", part("access_key"), part("secret_key"));
    let wrong = format!("Bearer {}.hunter2", part("access_key"));
    for _ in 0..50 {
        for bearer in ["Bearer nobody.hunter2", &wrong, &right] {
            let headers = [("authorization", bearer)];
            let answer = f
                .send("GET", "/api/v1/audit", &headers, Body::empty())
                .await;
            let expected = if bearer == right { 403 } else { 401 };
            assert_eq!(answer.status, expected);
        }
    }
    let since = f.app.engine.read(|state, _| state.audit.seq).await.unwrap();
    assert_eq!(since, 3, "no request waits for its refusal to be stored");
    f.app.audit.write(&f.app.engine, wall_clock(), false).await;
    f.app.audit.write(&f.app.engine, wall_clock(), true).await;
    let refused = f.records("outcome=refused").await;
    let found: Vec<_> = refused
        .iter()
        .map(|r| (r.actor.name.as_deref(), r.code.as_deref().unwrap(), r.count))
        .collect();
    for name in [
        (None, "LS-AUTH-FAILED"),
        (Some("erin"), "LS-AUTH-FAILED"),
        (Some("erin"), "LS-FORBIDDEN"),
    ] {
        for count in [None, Some(49)] {
            assert!(
                found.contains(&(name.0, name.1, count)),
                "{name:?}: {found:?}"
            );
        }
    }
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(refused.iter().all(|r| r.operation == "audit.read"));
    assert!(!format!("{refused:?}").contains("hunter2"));
    f.is_whole().await;
}

/// Whoever comes from everywhere with everything writes some lines a minute.
#[test]
fn a_flood_of_refusals_is_bounded() {
    let audit = Auditing::default();
    let mut written = 0;
    let mut told = 0;
    for minute in 0..10_i64 {
        for n in 0..5000_u32 {
            let now = NOW.plus_ms(minute * 60_000 + i64::from(n) * 10);
            let from = IpAddr::V4(Ipv4Addr::from(n << 8));
            let draft = Draft::new(Actor::new(ActorKind::User), "user.read", Outcome::Refused);
            audit.refused(
                draft.code("LS-AUTH-FAILED"),
                false,
                Some(Prefix::of(from)),
                now,
            );
        }
        // Nobody is crowded out by those whom nobody knows.
        let dana = Actor::new(ActorKind::User).called("usr_1", "dana");
        let draft = Draft::new(dana, "user.create", Outcome::Refused).code("LS-FORBIDDEN");
        let from = Prefix::of(IpAddr::V4(Ipv4Addr::LOCALHOST));
        audit.refused(draft, true, Some(from), NOW.plus_ms(minute * 61_000));
        let drafts = audit.take(NOW.plus_ms(minute * 61_000), false);
        written += drafts.len();
        told += drafts.len();
        assert!(drafts.len() <= 4 * KINDS, "{minute}: {}", drafts.len());
    }
    assert!(
        written <= 10 * 3 * KINDS,
        "{written} records in ten minutes"
    );
    assert!(told > 0);
    let refusals = audit.lock();
    assert!(refusals.unknown.kinds() <= KINDS + 1 && refusals.known.kinds() <= KINDS + 1);
}

#[tokio::test]
async fn the_address_of_the_client_is_recorded_and_only_superadmins_read() {
    let f = ready().await;
    let mut request = Request::new(Body::empty());
    let peer: std::net::SocketAddr = "[::ffff:192.0.2.7]:4711".parse().unwrap();
    request
        .extensions_mut()
        .insert(super::super::listener::Peer(peer));
    let client = super::super::client_of(&f.app, &request);
    let origin = origin_of(&request, client, Actor::new(ActorKind::System));
    let draft = origin.draft("auth.login", Outcome::Failed);
    f.app.engine.record(draft).await.unwrap();
    let record = f.newest().await;
    assert_eq!(record.client_ip.as_deref(), Some("192.0.2.7"));
    assert!(record.request_id.is_some_and(|id| !id.is_empty()));
    let made = f
        .order(
            "POST",
            "/users",
            &json!({ "email": "erin@lab.example", "username": "erin" }),
        )
        .await
        .json();
    let part = |name: &str| made[name].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {}.{}", part("access_key"), part("secret_key"));
    for path in [
        "/api/v1/audit",
        "/api/v1/audit?format=csv",
        "/api/v1/audit/verify",
    ] {
        let headers = [("authorization", bearer.as_str())];
        let answer = f.send("GET", path, &headers, Body::empty()).await;
        assert_eq!(answer.code(), "LS-FORBIDDEN", "{path}");
    }
}

/// What the API shows is what the shapes of its document say, no more and no less.
#[test]
fn records_have_the_shape_of_the_document() {
    let origin = Origin {
        actor: Actor {
            via: Some("LS".to_owned()),
            on_behalf_of: Some("usr_2".to_owned()),
            ..Actor::new(ActorKind::User).called("usr_1", "dana")
        },
        client_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        request_id: "req".to_owned(),
    };
    let draft = origin
        .draft("auth.login", Outcome::Refused)
        .target("user", "usr_1", "dana")
        .code("LS-X")
        .detail("d")
        .count(2)
        .field(
            "x",
            longshore_identity::audit::Kind::Plain,
            Some(1.into()),
            Some(2.into()),
        );
    let record = Head::START.seal(draft, NOW).unwrap();
    let value = serde_json::to_value(&record).unwrap();
    let shown: AuditRecord = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(shown).unwrap(), value);
    let cells = row(&record);
    assert_eq!(cells.matches("\",\"").count() + 1, COLUMNS.len(), "{cells}");
    assert_eq!(COLUMNS.iter().collect::<BTreeSet<_>>().len(), COLUMNS.len());
}

/// Who looks after one domain sees what was done in that one, and nothing of others.
#[tokio::test]
async fn a_domain_admin_sees_the_own_domain() {
    let mut f = ready().await;
    let made = f
        .post("/api/v1/domains", &json!({ "name": "physics" }))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let admin = json!({ "email": "ada@lab.example", "role": "domain-admin", "domain": "physics" });
    let made = f.post("/api/v1/users", &admin).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let pair = made.json();
    for (name, domain) in [("bob", "physics"), ("eve", "default")] {
        let email = format!("{name}@lab.example");
        let user = json!({ "email": email, "username": name, "domain": domain });
        assert_eq!(f.post("/api/v1/users", &user).await.status, 201);
    }
    let all = f.records("").await.len();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    f.bearer(&format!(
        "Bearer {}.{}",
        text("access_key"),
        text("secret_key")
    ));
    let seen = f.records("").await;
    let names: Vec<&str> = seen
        .iter()
        .filter_map(|record| record.target.as_ref()?.name.as_deref())
        .collect();
    assert_eq!(names, ["bob", "ada@lab.example", "physics"]);
    assert!(all > names.len());
}

/// Who cuts off the end of the log has to reckon with what agents saw of it.
#[tokio::test]
async fn what_agents_saw_vouches_for_the_log() {
    use longshore_common::ids::AgentId;
    use longshore_common::wire::AuditEnd;
    let f = ready().await;
    let live = &f.app.engine.live;
    let end = live.audit_end();
    assert!(end.seq > 0);
    let (one, two) = (AgentId::new(1), AgentId::new(2));
    assert!(live.witness(one, AuditEnd::default()));
    assert!(live.witness(one, end));
    let verdict = f.get("/api/v1/audit/verify").await.json();
    assert_eq!(verdict["ok"], true, "{verdict}");
    // Another record of the same number, and one that is not there any more.
    let other = AuditEnd {
        hash: [9; 32],
        ..end
    };
    assert!(live.witness(two, other));
    let verdict = f.get("/api/v1/audit/verify").await.json();
    assert_eq!(verdict["ok"], false, "{verdict}");
    assert!(live.witness(two, end));
    let later = AuditEnd {
        seq: end.seq + 5,
        ..end
    };
    assert!(!live.witness(two, later));
    let verdict = f.get("/api/v1/audit/verify").await.json();
    assert_eq!(verdict["ok"], false, "{verdict}");
}
