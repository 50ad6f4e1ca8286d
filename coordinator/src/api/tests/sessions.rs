//! Sessions from the request to the end, and how they are listed.

use super::*;

#[tokio::test]
async fn a_session_from_request_to_end() {
    let f = ready().await;
    let mut body = batch();
    body["name"] = json!("train");
    body["slots"]["cuda.device"] = json!("1");
    body["environment"] = json!({ "A": "b" });
    body["lifetime_s"] = json!(3600);
    let answer = f.submit(body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("location"), "/api/v1/sessions/s-1");
    let made = answer.json();
    assert_eq!(made["id"], "s-1");
    assert_eq!(answer.header("etag"), format!("\"{}\"", made["version"]));
    assert_eq!(made["environment"]["A"], "b");
    assert_eq!(made["slots"]["mem"], "1073741824");
    assert_eq!(made["stop_cause"], "lifetime");
    assert!(!answer.text().contains("null"));
    f.runs("s-1").await;
    let shown = f.get("/api/v1/sessions/train").await;
    let session = shown.json();
    assert_eq!(
        (
            session["state"].as_str(),
            session["agent_names"][0].as_str()
        ),
        (Some("RUNNING"), Some("gpu01"))
    );
    assert_eq!(session["containers"][0]["devices"][0]["model"], "Test GPU");
    let held = f.get("/api/v1/devices").await.json();
    assert_eq!(held["items"][0]["holders"][0]["session"], "s-1");
    assert_eq!(
        f.get("/api/v1/agents/gpu01").await.json()["occupied"]["cuda.device"],
        "1"
    );
    let same = f
        .send(
            "GET",
            "/api/v1/sessions/s-1",
            &[("if-none-match", shown.header("etag"))],
            Body::empty(),
        )
        .await;
    assert_eq!((same.status.as_u16(), same.body.len()), (304, 0));
    f.ends("s-1", 3).await;
    let session = f.get("/api/v1/sessions/train").await.json();
    assert_eq!(session["state"], "TERMINATED", "{session}");
    assert_eq!(
        (session["result"].as_str(), session["exit_code"].as_i64()),
        (Some("failure"), Some(3))
    );
    assert!(session.get("stop_at").is_none());
    let history = f.get("/api/v1/sessions/s-1/history").await.json();
    assert_eq!(history["items"][0]["to"], "PENDING");
    assert!(history["items"][0].get("from").is_none());
    assert!(
        f.get("/api/v1/sessions/s-1/explain").await.json()["text"]
            .as_str()
            .unwrap()
            .starts_with("s-1 ended")
    );
    let answer = f
        .post("/api/v1/sessions/s-1/terminate", &json!({}))
        .await
        .json();
    assert_eq!(answer["skipped"][0]["why"], "already-final");
    assert_eq!(f.get("/api/v1/sessions").await.json()["items"], json!([]));
    let all = f
        .get("/api/v1/sessions?scope=all&owner=dana&name=rai&type=batch&group=default")
        .await
        .json();
    assert_eq!(all["items"][0]["id"], "s-1");
    assert!(
        all["items"][0].get("environment").is_none() && all["items"][0].get("containers").is_none()
    );
    assert_eq!(
        f.get("/api/v1/sessions?state=terminated").await.json()["items"][0]["id"],
        "s-1"
    );
    assert_eq!(
        f.get("/api/v1/sessions?scope=all&owner=nobody")
            .await
            .json()["items"],
        json!([])
    );
}

#[tokio::test]
async fn a_session_shows_what_it_asked_for() {
    let f = ready().await;
    let mut body = batch();
    body["cluster"] = json!({ "size": 2 });
    body["arch"] = json!("amd64");
    body["designated"] = json!({ "agents": ["gpu01"], "mode": "strict" });
    body["start_at"] = json!("2100-01-01T00:00:00Z");
    let first = f.submit(body).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let made = first.json();
    assert_eq!(
        made["cluster"],
        json!({ "size": 2, "mode": "single-node", "run": "main" })
    );
    assert_eq!(
        made["designated"],
        json!({ "agents": ["gpu01"], "mode": "strict" })
    );
    assert_eq!(made["arch"], "amd64");
    assert_eq!(made["start_at"], "2100-01-01T00:00:00.000Z");
    assert_eq!(made["class"], "not-ready");
    assert_eq!(made["blocked_by"][0]["rule"], "start-at");
    let mut after = batch();
    after["name"] = json!("after");
    after["depends_on"] = json!([{ "session": "s-1", "on": "any" }]);
    let after = f.submit(after).await.json();
    assert_eq!(
        after["depends_on"],
        json!([{ "session": "s-1", "on": "any", "met": false }])
    );
    let explained = f.get("/api/v1/sessions/after/explain").await.json();
    assert_eq!(explained["class"], "not-ready");
    f.post("/api/v1/sessions/s-1/terminate", &json!({})).await;
    // It ended, and memory has forgotten it: the database knows how.
    for (on, status, met) in [("ok", 422, Value::Null), ("fail", 201, json!(true))] {
        let mut late = batch();
        late["depends_on"] = json!([{ "session": "s-1", "on": on }]);
        let answer = f.submit(late).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.json()["depends_on"][0]["met"], met);
    }
    let mut many = batch();
    let wishes: Vec<Value> = (0..65).map(|_| json!({ "session": "s-1" })).collect();
    many["depends_on"] = json!(wishes);
    assert_eq!(f.submit(many).await.json()["code"], "LS-INVALID");
}

#[tokio::test]
async fn what_would_become_of_a_session() {
    let f = ready().await;
    let check = async |gpus: &str| {
        let mut body = batch();
        body["slots"]["cuda.device"] = json!(gpus);
        let answer = f.post("/api/v1/sessions/check", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    assert_eq!(check("2").await["verdict"], "now");
    let never = check("3").await;
    assert_eq!(never["verdict"], "never");
    assert_eq!(never["code"], "LS-FIT-NEVER");
    assert_eq!(never["limit"]["limit"], "2");
    let mut body = batch();
    body["slots"]["cuda.device"] = json!("1");
    assert_eq!(f.submit(body).await.status, 201);
    let later = check("2").await;
    assert_eq!(later["verdict"], "later");
    assert_eq!(later["class"], "capacity");
    assert_eq!(later["blocked_by"][0]["slot"], "cuda.device");
    assert_eq!(later["agents"][0]["verdict"], "short");
    assert_eq!(later["nearest"]["slots"]["cuda.device"], "1");
    let all = f.get("/api/v1/sessions?scope=all").await.json();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1));
}

/// Somebody who is no superadmin has one's own sessions and nobody else's.
#[tokio::test]
async fn a_user_has_ones_own_sessions_only() {
    let mut f = ready().await;
    f.start(None).await;
    assert_eq!(f.submit(batch()).await.status, 201);
    let made = f
        .post("/api/v1/users", &json!({ "email": "eve@lab.example" }))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let pair = made.json();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {}.{}", text("access_key"), text("secret_key"));
    f.bearer = Some(bearer);
    for path in ["", "/history", "/explain", "/logs", "/logs/stream"] {
        let answer = f.get(&format!("/api/v1/sessions/s-1{path}")).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let signal = json!({ "signal": "INT" });
    let answer = f.post("/api/v1/sessions/s-1/signal", &signal).await;
    assert_eq!(answer.status, 404);
    let answer = f.post("/api/v1/sessions/s-1/terminate", &json!({})).await;
    assert_eq!(answer.status, 404);
    let many = json!({ "ids": ["s-1"] });
    let answer = f.post("/api/v1/sessions/terminate", &many).await.json();
    assert_eq!(answer["skipped"][0]["why"], "not-found");
    for path in ["sessions?scope=all", "sessions?owner=dana"] {
        let page = f.get(&format!("/api/v1/{path}")).await.json();
        assert_eq!(page["items"], json!([]), "{path}");
    }
    let answer = f.get("/api/v1/join-tokens").await;
    assert_eq!(answer.json()["code"], "LS-FORBIDDEN");
}

#[tokio::test]
async fn queues_places_and_pages() {
    let f = ready().await;
    let mut body = batch();
    body["slots"]["cuda.device"] = json!("2");
    for _ in 0..6 {
        assert_eq!(f.submit(body.clone()).await.status, 201);
    }
    let third = f.get("/api/v1/sessions/s-3").await.json();
    assert_eq!(
        (third["state"].as_str(), third["position"].as_u64()),
        (Some("PENDING"), Some(2))
    );
    assert_eq!(third["blocked_by"][0]["rule"], "head-of-line");
    let explained = f.get("/api/v1/sessions/s-2/explain").await.json();
    assert_eq!(explained["agents"][0]["verdict"], "short");
    let (mut seen, mut path) = (Vec::new(), "/api/v1/sessions?limit=2".to_owned());
    loop {
        let page = f.get(&path).await.json();
        for item in page["items"].as_array().unwrap() {
            seen.push(item["id"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/api/v1/sessions?limit=2&cursor={next}");
        assert_eq!(
            f.get(&format!("/api/v1/sessions?limit=2&scope=all&cursor={next}"))
                .await
                .code(),
            "LS-CURSOR"
        );
    }
    assert_eq!(seen, ["s-6", "s-5", "s-4", "s-3", "s-2", "s-1"]);
    let listed = f.get("/api/v1/sessions?state=PENDING").await.json();
    assert_eq!(listed["items"][0]["position"], 5);
    let page = f
        .get("/api/v1/resource-groups/default/pending?limit=2")
        .await
        .json();
    assert_eq!(
        (
            page["items"][1]["id"].as_str(),
            page["items"][1]["position"].as_u64()
        ),
        (Some("s-3"), Some(2))
    );
    let next = page["next_cursor"].as_str().unwrap();
    let page = f
        .get(&format!(
            "/api/v1/resource-groups/default/pending?limit=2&cursor={next}"
        ))
        .await
        .json();
    assert_eq!(page["items"][0]["position"], 3);
    let group = f.get("/api/v1/resource-groups").await.json();
    assert_eq!(
        (
            group["items"][0]["pending"].as_u64(),
            group["items"][0]["capacity"]["cuda.device"].as_str()
        ),
        (Some(5), Some("2"))
    );
    let answer = f
        .post(
            "/api/v1/sessions/terminate",
            &json!({ "ids": ["s-2", "s-1", "s-77", "none"] }),
        )
        .await
        .json();
    assert_eq!(answer["cancelled"], json!(["s-2"]));
    assert_eq!(answer["terminating"], json!(["s-1"]));
    assert_eq!(answer["skipped"].as_array().unwrap().len(), 2);
    let many: Vec<String> = (0..201).map(|n| format!("s-{}", n + 1)).collect();
    assert_eq!(
        f.post("/api/v1/sessions/terminate", &json!({ "ids": many }))
            .await
            .code(),
        "LS-INVALID"
    );
    let answer = f
        .post("/api/v1/sessions/s-3/terminate", &json!({ "grace_s": 601 }))
        .await;
    assert_eq!(answer.code(), "LS-INVALID");
    assert_eq!(
        f.post("/api/v1/sessions/s-3/terminate", &json!({ "ids": ["s-4"] }))
            .await
            .code(),
        "LS-INVALID"
    );
}

#[tokio::test]
async fn a_repeated_request_makes_one_session() {
    let f = ready().await;
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "k1"),
    ];
    let body = batch().to_string();
    let first = f
        .send(
            "POST",
            "/api/v1/sessions",
            &headers,
            Body::from(body.clone()),
        )
        .await;
    let second = f
        .send("POST", "/api/v1/sessions", &headers, Body::from(body))
        .await;
    assert_eq!(
        (first.status, second.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_eq!(first.json()["id"], second.json()["id"]);
    assert_eq!(
        (
            first.header("idempotent-replayed"),
            second.header("idempotent-replayed")
        ),
        ("", "true")
    );
    let other = f
        .send(
            "POST",
            "/api/v1/sessions",
            &headers,
            Body::from(json!({ "command": ["false"] }).to_string()),
        )
        .await;
    assert_eq!(
        (other.status.as_u16(), other.code().as_str()),
        (422, "LS-IDEMPOTENCY-BODY")
    );
    let long = "x".repeat(129);
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", long.as_str()),
    ];
    assert_eq!(
        f.send("POST", "/api/v1/sessions", &headers, Body::from("{}"))
            .await
            .code(),
        "LS-INVALID"
    );
}

#[tokio::test]
async fn long_polls_return_with_the_change_or_at_the_end() {
    let f = ready().await;
    let made = f.submit(batch()).await;
    let shown = f.get("/api/v1/sessions/s-1").await;
    assert_eq!(made.status, 201);
    let tag = shown.header("etag").to_owned();
    let path = "/api/v1/sessions/s-1?wait_s=30";
    let headers = [("if-none-match", tag.as_str())];
    let waits = f.app.engine.waits();
    let (answer, ()) = tokio::join!(f.send("GET", path, &headers, Body::empty()), async {
        f.somebody_waits(waits).await;
        f.runs("s-1").await;
    });
    assert_eq!(answer.status, 200);
    assert_ne!(answer.header("etag"), tag);
    let tag = f
        .get("/api/v1/sessions/s-1")
        .await
        .header("etag")
        .to_owned();
    let headers = [("if-none-match", tag.as_str())];
    let answer = f
        .send(
            "GET",
            "/api/v1/sessions/s-1?wait_s=1",
            &headers,
            Body::empty(),
        )
        .await;
    assert_eq!(answer.status, 304);
    // A coordinator that stops lets its waiters go.
    let waits = f.app.engine.waits();
    let (answer, ()) = tokio::join!(f.send("GET", path, &headers, Body::empty()), async {
        f.somebody_waits(waits).await;
        f.stop.send(true).unwrap();
    });
    assert_eq!(answer.status, 304);
}

/// The settings of idleness are in force at every start and in every group, also in those
/// that are made later.
#[tokio::test]
async fn rules_of_idleness_follow_the_settings() {
    let f = ready().await;
    let rules = |timeout_s| {
        let idle = crate::config::Idle {
            timeout_s,
            ..crate::config::Idle::default()
        };
        idle.policy()
    };
    let idle_of = async |group: &str| {
        let body = json!({ "command": ["true"], "slots": { "cpu": "1", "mem": "64m" },
            "group": group, "start_at": "2999-01-01T00:00:00Z" });
        let made = f.submit(body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let id = made.json()["id"].as_str().unwrap().parse().unwrap();
        let look = move |state: &model::State, _| state.sessions[&id].idle.clone();
        f.app.engine.read(look).await.unwrap()
    };
    assert_eq!(idle_of("default").await, None);
    for timeout_s in [600, 1200, 0] {
        f.start(rules(timeout_s)).await;
        assert_eq!(rules(timeout_s).is_some(), timeout_s > 0);
        assert_eq!(idle_of("default").await, rules(timeout_s), "{timeout_s}");
        let name = format!("later-{timeout_s}");
        let body = json!({ "name": name, "refuse_never_fits": false });
        let made = f.post("/api/v1/resource-groups", &body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(idle_of(&name).await, rules(timeout_s), "{timeout_s}");
    }
    f.start(rules(60)).await;
    assert_eq!(idle_of("later-600").await, rules(60));
    let versions = |state: &model::State, _| state.groups.values().all(|g| g.version == 1);
    assert!(
        f.app.engine.read(versions).await.unwrap(),
        "nobody changed a group"
    );
}
