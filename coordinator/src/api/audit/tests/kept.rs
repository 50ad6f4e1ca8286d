//! One record, words of filters, what refusals say, and how long records are kept.

use super::*;

#[tokio::test]
async fn one_record_is_read_by_its_number() {
    let f = ready().await;
    let newest = f.newest().await;
    let answer = f.get(&format!("/api/v1/audit/{}", newest.seq)).await;
    let read: AuditRecord = serde_json::from_value(answer.json()).unwrap();
    assert_eq!(read, newest);
    for absent in ["0", "1000000", "18446744073709551615", "x", "-1"] {
        let answer = f.get(&format!("/api/v1/audit/{absent}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (404, "LS-NOT-FOUND".to_owned()),
            "{absent}"
        );
    }
}

#[tokio::test]
async fn kinds_of_actors_are_words_of_the_filter() {
    let f = ready().await;
    let kinds = |records: Vec<AuditRecord>| -> BTreeSet<String> {
        records
            .into_iter()
            .map(|record| record.actor.kind)
            .collect()
    };
    let only = |kind: &str| BTreeSet::from([kind.to_owned()]);
    assert_eq!(kinds(f.records("actor=system").await), only("system"));
    assert_eq!(kinds(f.records("actor=local").await), only("local"));
    let at_the_machine = |name: &str| {
        let actor = Actor::new(ActorKind::Local).called("", name);
        Draft::new(actor, "user.role", Outcome::Ok)
    };
    for name in ["root", "uid 1000"] {
        f.app.engine.record(at_the_machine(name)).await.unwrap();
    }
    assert_eq!(f.records("actor=local").await.len(), 3);
    assert_eq!(f.records("actor=local&actor=system").await.len(), 4);
    assert_eq!(f.records("actor=local&operation=user.role").await.len(), 2);
}

#[tokio::test]
async fn words_that_are_none_are_refused_by_filters() {
    let f = ready().await;
    for path in [
        "/users?role=king",
        "/users?status=gone",
        "/keypairs?state=lost",
        "/service-accounts?status=idle",
        "/sessions?state=HAPPY",
        "/audit?outcome=good",
    ] {
        let answer = f.get(&format!("/api/v1{path}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (400, "LS-PARAMETER".to_owned()),
            "{path}"
        );
    }
    for path in [
        "/users?role=Monitor&status=inactive",
        "/keypairs?state=revoked",
    ] {
        let answer = f.get(&format!("/api/v1{path}")).await;
        assert_eq!(answer.status, 200, "{path}");
    }
}

#[tokio::test]
async fn what_was_refused_says_about_what() {
    let f = ready().await;
    let person = json!({ "email": "erin@lab.example", "username": "erin" });
    let made = f.order("POST", "/users", &person).await.json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {}.{}", text("access_key"), text("secret_key"));
    let try_it = async |bearer: &str, who: &str| {
        let path = format!("/api/v1/users/{who}/status");
        let headers = [JSON, ("authorization", bearer), ("if-match", "*")];
        let body = json!({ "status": "inactive" }).to_string();
        f.send("PUT", &path, &headers, Body::from(body))
            .await
            .status
    };
    assert_eq!(try_it(&bearer, "Erin").await, 403);
    f.app.audit.write(&f.app.engine, NOW, true).await;
    let record = f.newest().await;
    let target = record.target.unwrap();
    assert_eq!(
        (target.kind.as_str(), target.id, target.name),
        ("user", text("id"), Some("erin".to_owned()))
    );
    // One record for two things names neither.
    for who in ["a%20b", "c", "d"] {
        try_it(&bearer, who).await;
    }
    f.app.audit.write(&f.app.engine, NOW, true).await;
    let mut all = f.records("outcome=refused").await;
    all.truncate(2);
    let named: Vec<_> = all.into_iter().map(|r| r.target.map(|t| t.id)).collect();
    assert_eq!(named, [None, Some("a b".to_owned())]);
    // Nobody writes into the log without being somebody.
    assert_eq!(try_it("Bearer A.b", "strange").await, 401);
    f.app.audit.write(&f.app.engine, NOW, true).await;
    assert_eq!(f.newest().await.target, None);
}

#[tokio::test]
async fn retention_removes_the_start_and_says_so() {
    let f = ready().await;
    for n in 0..7 {
        let draft = Draft::new(Actor::new(ActorKind::System), "thing.write", Outcome::Ok);
        f.app
            .engine
            .record(draft.target("thing", &n.to_string(), ""))
            .await
            .unwrap();
    }
    let before = f.newest().await;
    // Nothing is old enough.
    retention::retire(&f.app, Timestamp(0)).await;
    assert_eq!(f.newest().await.seq, before.seq);
    let witness = f.app.engine.live.audit_end();
    let everything = wall_clock().plus_ms(60_000);
    retention::retire(&f.app, everything).await;
    let left = f.records("").await;
    assert_eq!(left.len(), 1, "{left:?}");
    let record = &left[0];
    assert_eq!(
        (record.seq, record.operation.as_str()),
        (before.seq + 1, "audit.checkpoint")
    );
    assert_eq!(record.actor.kind, "system");
    assert_eq!(member(&record.after, "seq"), before.seq);
    assert_eq!(member(&record.after, "hash"), before.hash.as_str());
    // Records of removals alone are not worth another one.
    retention::retire(&f.app, everything).await;
    assert_eq!(f.newest().await.seq, record.seq);
    // An agent that saw the old end is no witness against it, and the chain goes on.
    f.app
        .engine
        .live
        .witness(longshore_common::ids::AgentId::new(1), witness);
    let person = json!({ "email": "erin@lab.example", "username": "erin" });
    f.order("POST", "/users", &person).await;
    let verdict =
        |answer: Answer| -> AuditVerdict { serde_json::from_value(answer.json()).unwrap() };
    let whole = verdict(f.get("/api/v1/audit/verify").await);
    assert!(whole.ok && whole.records == 2, "{whole:?}");
    let file = f.app.data_dir.join("longshore.db");
    let report = crate::store::verify_audit_file(&file, []).unwrap();
    assert!(report.ok && report.records == 2, "{report:?}");
}
