//! Vaults as their callers meet them.

use super::ready;
use axum::body::Body;
use serde_json::{Value, json};

const MINE: &str = "/api/v1/me/vault";

fn texts(value: &Value, member: &str) -> Vec<String> {
    let all = value["errors"].as_array().unwrap().iter();
    all.map(|error| error[member].as_str().unwrap_or("-").to_owned())
        .collect()
}

#[tokio::test]
async fn everybody_has_a_vault_that_is_empty_and_off() {
    let f = ready().await;
    let own = f.get(MINE).await.json();
    assert_eq!(own["version"], 1);
    assert_eq!(
        (&own["enabled"], &own["content"]),
        (&json!(false), &json!(""))
    );
    assert!(own["id"].as_str().unwrap().starts_with("vlt_") && own.get("name").is_none());
    let body = json!({ "format": "yaml", "content": "environment: {A: hunter2} # why" });
    let saved = f.put(MINE, "\"1\"", &body).await;
    assert_eq!(saved.status, 200, "{}", saved.text());
    let saved = saved.json();
    assert_eq!(
        (&saved["version"], &saved["enabled"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(saved["content"], "environment:\n  A: \"********\"\n");
    assert_eq!(
        saved["summary"],
        json!({ "keys": ["environment"], "values": 1 })
    );
    assert_eq!(f.get(MINE).await.json(), saved);
    let shown = f.get(&format!("{MINE}?reveal=true")).await.json();
    assert_eq!(shown["content"], "environment: {A: hunter2} # why");
    // Switching leaves the content alone.
    let on = f
        .patch(MINE, "\"2\"", &json!({ "enabled": true }))
        .await
        .json();
    assert_eq!(
        (&on["enabled"], &on["size"]),
        (&json!(true), &saved["size"])
    );
    assert_eq!(
        f.patch(MINE, "\"2\"", &json!({ "enabled": false }))
            .await
            .code(),
        "LS-VERSION-STALE"
    );
    let none = f
        .send(
            "PUT",
            MINE,
            &[("content-type", "application/json")],
            Body::from("{}"),
        )
        .await;
    assert_eq!(none.code(), "LS-VERSION-MISSING");
}

#[tokio::test]
async fn a_save_that_fails_changes_nothing_and_tells_all() {
    let f = ready().await;
    let good = json!({ "format": "json", "content": "{\"environment\":{\"A\":\"1\"}}" });
    f.put(MINE, "*", &good).await;
    let before = f.get(MINE).await.json();
    let text = r#"{"agent":{"worker_id":"w1","Debug":true,"git":{"user":"a"}}}"#;
    let body = json!({ "format": "json", "content": text, "enabled": true });
    let refused = f.put(MINE, "*", &body).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_ref()),
        (422, "LS-VAULT-FORBIDDEN-KEY")
    );
    let told = refused.json();
    assert_eq!(texts(&told, "path"), ["agent.worker_id", "agent.Debug"]);
    assert_eq!(texts(&told, "pointer"), ["/content", "/content"]);
    assert_eq!(
        (&told["errors"][1]["line"], &told["errors"][1]["column"]),
        (&json!(1), &json!(28))
    );
    for (content, code) in [
        ("x".repeat(262_145), "LS-VAULT-SIZE"),
        ("{".to_owned(), "LS-VAULT-SYNTAX"),
        (
            before["content"].as_str().unwrap().to_owned(),
            "LS-VAULT-MASKED",
        ),
        ("{\"agent\":{\"git\":1}}".to_owned(), "LS-VAULT-TYPE"),
        (
            "{\"environment\":{\"LD_PRELOAD\":\"x\"}}".to_owned(),
            "LS-VAULT-ENV",
        ),
        (
            "{\"files\":{\"k\":{\"path\":\"/etc/x\",\"contents\":\"c\"}}}".to_owned(),
            "LS-VAULT-FILE",
        ),
    ] {
        let body = json!({ "format": "json", "content": content });
        let refused = f.put(MINE, "*", &body).await;
        assert_eq!(refused.code(), code);
        assert!(
            !refused.text().contains("LD_PRELOAD\":"),
            "{}",
            refused.text()
        );
        let checked = f.post("/api/v1/vaults/check", &body).await;
        assert_eq!(checked.code(), code);
    }
    let wrong = f
        .put(MINE, "*", &json!({ "format": "xml", "content": "" }))
        .await;
    assert_eq!(
        (wrong.code().as_ref(), texts(&wrong.json(), "pointer")),
        ("LS-INVALID", vec!["/format".to_owned()])
    );
    let named = f.patch(MINE, "*", &json!({ "name": "x" })).await;
    assert_eq!(texts(&named.json(), "pointer"), ["/name"]);
    assert_eq!(f.get(MINE).await.json(), before);
    let checked = f
        .post(
            "/api/v1/vaults/check",
            &json!({ "format": "yaml", "content": "agent: {pip: {index_uri: x}}" }),
        )
        .await;
    let checked = checked.json();
    assert_eq!(
        (
            &checked["warnings"][0]["code"],
            &checked["warnings"][0]["near"]
        ),
        (&json!("unknown-key"), &json!("agent.pip.index_url"))
    );
}

#[tokio::test]
async fn administrators_vaults_reach_the_members_of_their_groups() {
    let f = ready().await;
    let alice = f.person("alice", json!({})).await;
    f.post(
        "/api/v1/groups",
        &json!({ "name": "vision", "members": ["alice"] }),
    )
    .await;
    let body = json!({
        "name": "Proxy", "groups": ["vision"], "enabled": true, "format": "yaml", "priority": 200,
        "content": "environment: {HTTP_PROXY: http://p:3128, STAGE: dev}\nnote: kept",
    });
    let made = f.post("/api/v1/vaults", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&made["locked"], &made["required"], &made["group_names"]),
        (&json!(false), &json!(false), &json!(["vision"]))
    );
    assert_eq!(f.post("/api/v1/vaults", &body).await.code(), "LS-EXISTS");
    // A member sees what comes of it, and of the vault its name.
    let own = json!({ "format": "yaml", "enabled": true, "content": "environment: {STAGE: test, HTTP_PROXY: null}" });
    f.send_as(&alice, "PUT", MINE, &own).await;
    let config = f.get_as(&alice, "/api/v1/me/config").await;
    assert_eq!(config.status, 200, "{}", config.text());
    let config = config.json();
    assert_eq!(
        config["config"],
        json!({ "environment": { "STAGE": "********" }, "note": "kept" })
    );
    assert_eq!(config["vaults"][0], json!({ "id": id, "name": "Proxy" }));
    assert_eq!(config["vaults"][1]["layer"], "personal-vault");
    let key = "/api/v1/me/config/explain?key=environment.STAGE&reveal=true";
    let leaf = f.get_as(&alice, key).await.json();
    assert_eq!(
        (&leaf["value"], &leaf["layer"]),
        (&json!("test"), &json!("personal-vault"))
    );
    let shadowed = json!([{ "layer": "group-vault", "source": id, "state": "set" }]);
    assert_eq!(leaf["shadowed"], shadowed);
    let gone = f
        .get_as(
            &alice,
            "/api/v1/me/config/explain?key=environment.HTTP_PROXY",
        )
        .await
        .json();
    assert_eq!((&gone["state"], gone.get("value")), (&json!("unset"), None));
    // The vault itself is not for members.
    for path in [
        format!("/api/v1/vaults/{id}"),
        format!("/api/v1/vaults/{id}/content"),
        "/api/v1/users/alice/config".to_owned(),
    ] {
        assert_eq!(f.get_as(&alice, &path).await.status, 403, "{path}");
    }
    let shown = f.get("/api/v1/users/alice/config").await.json();
    assert_eq!(shown["hash"], config["hash"]);
    assert_eq!(
        f.get("/api/v1/users/alice/config?reveal=true").await.code(),
        "LS-FORBIDDEN"
    );
    // Switched off it is not there for anybody but those who may read it.
    f.patch(
        &format!("/api/v1/vaults/{id}"),
        "*",
        &json!({ "enabled": false }),
    )
    .await;
    let config = f.get_as(&alice, "/api/v1/me/config").await.text();
    assert!(
        !config.contains(&id) && !config.contains("Proxy"),
        "{config}"
    );
    let text = f
        .get(&format!("/api/v1/vaults/{id}/content?reveal=true"))
        .await
        .text();
    assert!(text.ends_with("note: kept"), "{text}");
    assert_eq!(
        f.delete(&format!("/api/v1/vaults/{id}"), "*").await.status,
        204
    );
    assert_eq!(
        f.get(&format!("/api/v1/vaults/{id}")).await.code(),
        "LS-NOT-FOUND"
    );
}

#[tokio::test]
async fn a_locked_vault_is_for_superadmins() {
    let f = ready().await;
    let admin = f.person("ada", json!({ "role": "domain-admin" })).await;
    let group = json!({ "name": "here", "domain": "default" });
    f.post("/api/v1/groups", &group).await;
    let body = json!({ "name": "v", "groups": ["here"], "content": "a = 1" });
    let made = f.send_as(&admin, "POST", "/api/v1/vaults", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let locked = json!({ "name": "l", "groups": ["here"], "locked": true });
    assert_eq!(
        f.send_as(&admin, "POST", "/api/v1/vaults", &locked)
            .await
            .status,
        403
    );
    let path = format!("/api/v1/vaults/{}", made.json()["id"].as_str().unwrap());
    assert_eq!(
        f.send_as(&admin, "PATCH", &path, &json!({ "locked": true }))
            .await
            .status,
        403
    );
    assert_eq!(
        f.patch(&path, "*", &json!({ "locked": true })).await.status,
        200
    );
    // From now on it is as one that does not exist.
    assert_eq!(f.get_as(&admin, &path).await.status, 404);
    // Nobody else's groups can be meant.
    let users = json!({ "name": "u", "groups": ["users"] });
    assert_ne!(
        f.send_as(&admin, "POST", "/api/v1/vaults", &users)
            .await
            .status,
        201
    );
    let none = f
        .post("/api/v1/vaults", &json!({ "name": "n", "groups": [] }))
        .await;
    assert_eq!(none.json()["errors"][0]["pointer"], "/groups");
}

#[tokio::test]
async fn vaults_of_others_can_be_taken_away_alone() {
    let f = ready().await;
    let alice = f.person("alice", json!({})).await;
    let own = json!({ "format": "yaml", "enabled": true, "content": "environment: {A: 1}" });
    f.send_as(&alice, "PUT", MINE, &own).await;
    let path = "/api/v1/users/alice/vault";
    let refused = f
        .patch(path, "*", &json!({ "enabled": true, "content": "a = 1" }))
        .await;
    assert_eq!(texts(&refused.json(), "pointer"), ["/content", "/enabled"]);
    let off = f
        .patch(path, "*", &json!({ "enabled": false }))
        .await
        .json();
    assert_eq!(off.get("content"), None, "it is not theirs to see: {off}");
    assert_eq!(
        (&off["enabled"], &off["version"]),
        (&json!(false), &json!(3))
    );
    let empty = f.patch(path, "*", &json!({ "content": "" })).await.json();
    assert_eq!(empty["size"], 0);
    assert_eq!(
        f.send_as(&alice, "PATCH", path, &json!({ "enabled": false }))
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn service_accounts_have_vaults_that_administrators_save() {
    let f = ready().await;
    let made = f
        .post("/api/v1/service-accounts", &json!({ "name": "svc" }))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let bearer = format!(
        "Bearer {}.{}",
        made["access_key"].as_str().unwrap(),
        made["secret_key"].as_str().unwrap()
    );
    let path = "/api/v1/service-accounts/svc/vault";
    let body = json!({ "format": "yaml", "content": "environment: {A: 9}" });
    assert_eq!(f.put(path, "*", &body).await.status, 200);
    f.post(
        "/api/v1/vaults",
        &json!({ "name": "all", "groups": ["users"], "enabled": true }),
    )
    .await;
    let shown = f.get(path).await.json();
    assert_eq!(shown["content"], "environment:\n  A: \"********\"\n");
    assert_eq!(shown["applying"][0]["name"], "all");
    assert_eq!(
        f.get(&format!("{path}?reveal=true")).await.code(),
        "LS-FORBIDDEN"
    );
    let own = f
        .get_as(&bearer, &format!("{MINE}?reveal=true"))
        .await
        .json();
    assert_eq!(
        (&own["content"], &own["id"]),
        (&json!("environment: {A: 9}"), &shown["id"])
    );
}

#[tokio::test]
async fn nothing_secret_is_in_the_audit_log_and_reveals_are() {
    let f = ready().await;
    f.put(
        MINE,
        "*",
        &json!({ "format": "yaml", "content": "environment: {A: hunter2}" }),
    )
    .await;
    f.put(
        MINE,
        "*",
        &json!({ "format": "yaml", "content": "environment: {A: hunter3, B: hunter4}" }),
    )
    .await;
    f.get(&format!("{MINE}?reveal=true")).await;
    f.get("/api/v1/me/config?reveal=true").await;
    let audit = f.get("/api/v1/audit?limit=100").await.text();
    assert!(!audit.contains("hunter"), "{audit}");
    let audit: Value = serde_json::from_str(&audit).unwrap();
    let items = audit["items"].as_array().unwrap();
    let of = |operation: &str| {
        items
            .iter()
            .filter(|item| item["operation"] == operation)
            .count()
    };
    assert_eq!((of("me.vault"), of("vault.reveal")), (2, 2));
    let saves = items.iter().filter(|item| item["operation"] == "me.vault");
    let changed: Vec<&Value> = saves.map(|item| &item["after"]["changed"]).collect();
    assert!(
        changed.contains(&&json!(["environment.A", "environment.B"])),
        "{changed:?}"
    );
}

#[tokio::test]
async fn a_rehearsal_stores_nothing() {
    let f = ready().await;
    let body = json!({ "format": "yaml", "content": "a: 1", "enabled": true });
    let path = format!("{MINE}?dry_run=true");
    let answer = f.put(&path, "*", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json().get("impact").is_some());
    assert_eq!(f.get(MINE).await.json()["version"], 1);
}

#[tokio::test]
async fn a_group_that_goes_takes_its_bindings_along() {
    let f = ready().await;
    f.post("/api/v1/groups", &json!({ "name": "vision" })).await;
    let body = json!({ "name": "v", "groups": ["vision", "users"] });
    let id = f.post("/api/v1/vaults", &body).await.json()["id"].clone();
    assert_eq!(f.delete("/api/v1/groups/vision", "*").await.status, 204);
    let path = format!("/api/v1/vaults/{}", id.as_str().unwrap());
    assert_eq!(f.get(&path).await.json()["group_names"], json!(["users"]));
}
