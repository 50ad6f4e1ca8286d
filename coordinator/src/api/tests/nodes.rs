//! Agents, join tokens, and what users see of nodes.

use super::*;

#[tokio::test]
async fn agents_change_only_under_their_version() {
    let f = ready().await;
    let path = "/api/v1/agents/gpu01";
    let json_type = ("content-type", "application/merge-patch+json");
    let off = || Body::from("{\"schedulable\":false}");
    let answer = f.send("PATCH", path, &[json_type], off()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (428, "LS-VERSION-MISSING")
    );
    let tag = f.get(path).await.header("etag").to_owned();
    let answer = f
        .send("PATCH", path, &[json_type, ("if-match", &tag)], off())
        .await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["schedulable"]),
        (200, &json!(false))
    );
    assert_ne!(answer.header("etag"), tag);
    for old in [tag.as_str(), "W/\"1\"", "nonsense"] {
        let answer = f
            .send(
                "PATCH",
                path,
                &[json_type, ("if-match", old)],
                Body::from("{\"schedulable\":true}"),
            )
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (412, "LS-VERSION-STALE"),
            "{old}"
        );
        assert_eq!(answer.json()["current"]["name"], "gpu01");
    }
    let answer = f
        .send(
            "PATCH",
            path,
            &[json_type, ("if-match", "*")],
            Body::from("{\"schedulable\":true}"),
        )
        .await;
    assert_eq!(answer.json()["schedulable"], true);
    assert_eq!(
        f.get("/api/v1/agents?state=alive&group=default")
            .await
            .json()["items"][0]["name"],
        "gpu01"
    );
    assert_eq!(
        f.get("/api/v1/agents?state=LOST").await.json()["items"],
        json!([])
    );
    let answer = f.post("/api/v1/agents/gpu01/expel", &json!({})).await;
    assert_eq!(answer.json()["state"], "TERMINATED");
    let answer = f
        .send("PATCH", path, &[json_type, ("if-match", "*")], off())
        .await;
    assert_eq!(answer.code(), "LS-AGENT-STATE");
}

#[tokio::test]
async fn join_tokens_are_shown_once() {
    let f = ready().await;
    let answer = f
        .post(
            "/api/v1/join-tokens",
            &json!({ "max_uses": 2, "agent_name": "gpu02" }),
        )
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    let parts: Vec<&str> = made["token"].as_str().unwrap().split('.').collect();
    assert_eq!(
        (parts[0], parts[1], parts[2].len(), parts[3]),
        ("ls1", made["id"].as_str().unwrap(), 22, "pin")
    );
    assert_eq!(made["command"], "longshore join test:7420");
    let listed = f.get("/api/v1/join-tokens").await;
    assert_eq!(listed.json()["items"][0]["uses"], 0);
    assert!(!listed.text().contains(parts[2]));
    let path = format!("/api/v1/join-tokens/{}", parts[1]);
    for _ in 0..2 {
        assert_eq!(
            f.send("DELETE", &path, &[], Body::empty()).await.status,
            204
        );
    }
    assert_eq!(
        f.get("/api/v1/join-tokens").await.json()["items"],
        json!([])
    );
    let answer = f
        .post(
            "/api/v1/join-tokens",
            &json!({ "ttl_s": 0, "max_uses": 5000 }),
        )
        .await;
    assert_eq!(
        (
            answer.code().as_str(),
            answer.json()["errors"].as_array().unwrap().len()
        ),
        ("LS-INVALID", 2)
    );
    assert_eq!(
        f.post("/api/v1/join-tokens", &json!({ "group": "none" }))
            .await
            .code(),
        "LS-GROUP-UNKNOWN"
    );
    assert_eq!(
        f.post("/api/v1/join-tokens", &json!({ "agent_name": "gpu01" }))
            .await
            .code(),
        "LS-EXISTS"
    );
}

/// Who may only use nodes sees neither their addresses nor which sessions of others hold them.
#[tokio::test]
async fn users_see_nodes_without_addresses_and_holders() {
    let mut f = ready().await;
    f.start(None).await;
    let body = json!({ "command": ["true"], "slots": { "cuda.device": "1" } });
    assert_eq!(f.submit(body).await.status, 201);
    let holders = |answer: &Answer| answer.json()["items"][0]["holders"].clone();
    let seen = f.get("/api/v1/devices").await;
    assert_eq!(holders(&seen)[0]["session"], "s-1", "{}", seen.text());
    let made = f
        .post("/api/v1/users", &json!({ "email": "eve@lab.example" }))
        .await;
    let pair = made.json();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    f.bearer = Some(format!(
        "Bearer {}.{}",
        text("access_key"),
        text("secret_key")
    ));
    let seen = f.get("/api/v1/devices").await;
    let holder = &holders(&seen)[0];
    assert_eq!(
        (&holder["session"], &holder["owner_name"]),
        (&json!(""), &json!("dana"))
    );
    assert_eq!(holder["amount"], "1");
    assert!(
        f.get("/api/v1/agents").await.json()["items"][0]
            .get("address")
            .is_none()
    );
}
