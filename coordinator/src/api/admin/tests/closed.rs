//! What is shown of a session whose vaults are not the caller's own.

use super::{Fixture, ready};
use axum::body::Body;
use longshore_common::ids::{AgentId, SessionId};
use longshore_common::wire::Delivery;
use serde_json::{Value, json};

async fn given(f: &Fixture) -> Delivery {
    let given = f
        .app
        .vaults
        .deliver(&f.app.engine, SessionId(1), AgentId::new(1))
        .await;
    (*given.unwrap()).clone()
}

/// The group of all is served by an account that has a vault of its own, and for whose owner.
async fn served_by_account(f: &Fixture, content: &Value) {
    let good = async |method: &str, path: &str, body: Value| {
        let bearer = f.bearer_text();
        let told = f.send_as(&bearer, method, path, &body).await;
        assert!(told.status.is_success(), "{path}: {}", told.text());
    };
    let account = json!({ "name": "svc", "projects": ["default"] });
    good("POST", "/api/v1/service-accounts", account).await;
    for (kind, level) in [("project", "rw"), ("queue", "rw")] {
        let rule = json!({
            "resource": { "type": kind, "id": "default" }, "level": level, "subjects": ["svc"],
        });
        good("POST", "/api/v1/access-rules", rule).await;
    }
    let content = json!({ "format": "json", "content": content.to_string(), "enabled": true });
    good("PUT", "/api/v1/service-accounts/svc/vault", content).await;
    let serve = json!({ "service_account": "svc", "use_owner": false });
    good("PATCH", "/api/v1/resource-groups/default", serve).await;
}

#[tokio::test]
async fn a_request_is_completed_by_the_vaults_of_whom_it_runs_as() {
    let f = ready().await;
    let own = json!({
        "format": "json", "enabled": true,
        "content": r#"{"agent":{"default_image":"own:1","working_dir":"/own","redact":["OWN_*"]}}"#,
    });
    let bearer = f.bearer_text();
    let saved = f.send_as(&bearer, "PUT", "/api/v1/me/vault", &own).await;
    assert_eq!(saved.status, 200, "{}", saved.text());
    let asked = json!({
        "command": ["true"], "environment": { "OWN_A": "hunter2", "SVC_A": "hunter3" },
    });
    let submit = async || {
        let told = f.post("/api/v1/sessions", &asked).await;
        assert_eq!(told.status, 201, "{}", told.text());
        told
    };
    let told = submit().await;
    let json = told.json();
    assert_eq!(
        (&json["image"], &json["workdir"]),
        (&json!("own:1"), &json!("/own"))
    );
    assert!(!told.text().contains("hunter2") && told.text().contains("hunter3"));
    let of_account = json!({
        "agent": { "default_image": "svc:1", "working_dir": "/svc", "redact": ["SVC_*"] },
    });
    served_by_account(&f, &of_account).await;
    let told = submit().await;
    let json = told.json();
    assert_eq!(
        (&json["image"], &json["workdir"]),
        (&json!("svc:1"), &json!("/svc"))
    );
    assert!(told.text().contains("hunter2") && !told.text().contains("hunter3"));
}

#[tokio::test]
async fn who_acts_for_somebody_leaves_nothing_of_its_own_vault_in_the_session() {
    let f = ready().await;
    let alice = f.person("alice", json!({})).await;
    let good = async |bearer: &str, method: &str, path: &str, body: Value| {
        let told = f.send_as(bearer, method, path, &body).await;
        assert!(told.status.is_success(), "{path}: {}", told.text());
        told.json()
    };
    let root = f.bearer_text();
    let account = json!({ "name": "svc", "projects": ["default"], "allow_impersonation": true });
    let made = good(&root, "POST", "/api/v1/service-accounts", account).await;
    let part = |name: &str| made[name].as_str().unwrap();
    let svc = format!("Bearer {}.{}", part("access_key"), part("secret_key"));
    for kind in ["project", "queue"] {
        let rule = json!({
            "resource": { "type": kind, "id": "default" }, "level": "rw",
            "subjects": ["alice", "svc"],
        });
        good(&root, "POST", "/api/v1/access-rules", rule).await;
    }
    let holding = |a: &str, own: &str| {
        let content = json!({ "environment": { "A": a, own: "x" } }).to_string();
        json!({ "format": "json", "content": content, "enabled": true })
    };
    good(&alice, "PUT", "/api/v1/me/vault", holding("1", "OF_ALICE")).await;
    let vault = "/api/v1/service-accounts/svc/vault";
    good(&root, "PUT", vault, holding("9", "OF_SVC")).await;
    let headers = [
        ("authorization", svc.as_str()),
        ("content-type", "application/json"),
        ("longshore-on-behalf-of", "alice"),
    ];
    let asked = Body::from(json!({ "command": ["true"] }).to_string());
    let session = f.send("POST", "/api/v1/sessions", &headers, asked).await;
    assert_eq!(session.status, 201, "{}", session.text());
    assert_eq!(session.json()["owner_name"], "alice");
    let given = given(&f).await;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(given.environment, [pair("A", "1"), pair("OF_ALICE", "x")]);
}

#[tokio::test]
async fn warnings_tell_nothing_of_vaults_that_are_closed() {
    let f = ready().await;
    let alice = f.person("alice", json!({})).await;
    let vault = async |name: &str, content: Value| {
        let body = json!({
            "name": name, "groups": ["users"], "enabled": true, "format": "json",
            "content": content.to_string(),
        });
        let made = f.post("/api/v1/vaults", &body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["id"].as_str().unwrap().to_owned()
    };
    let ids = [
        vault("One", json!({ "note": { "a": 1 } })).await,
        vault("Two", json!({ "note": 2 })).await,
    ];
    let warnings = async |bearer: &str| {
        let told = f.get_as(bearer, "/api/v1/me/config").await;
        assert_eq!(told.status, 200, "{}", told.text());
        told.json()["warnings"].clone()
    };
    let told = warnings(&f.bearer_text()).await.to_string();
    assert!(ids.iter().all(|id| told.contains(id.as_str())), "{told}");
    let told = warnings(&alice).await;
    let codes: Vec<&str> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["type-change", "same-priority", "unknown-key"]);
    let told = told.to_string();
    assert!(!ids.iter().any(|id| told.contains(id.as_str())), "{told}");
}

#[tokio::test]
async fn what_an_account_has_of_its_own_is_not_revealed_to_those_it_runs_for() {
    let f = ready().await;
    let content = json!({
        "environment": { "TOKEN": "hunter2" },
        "agent": {
            "git": { "host": "h" },
            "registries": [{ "host": "r.lab", "username": "u", "password": "hunter2" }],
        },
    });
    served_by_account(&f, &content).await;
    f.submit(json!({ "command": ["true"], "environment": { "B": "request" } }))
        .await;
    let first = given(&f).await;
    assert_eq!(first.registries[0].password, "hunter2");

    let config = "/api/v1/me/config?session=s-1&reveal=true";
    let told = f.get(config).await;
    assert_eq!(told.status, 200, "{}", told.text());
    assert!(!told.text().contains("hunter2"), "{}", told.text());
    let told = told.json()["config"].clone();
    assert_eq!(told["agent"]["git"]["host"], "h");
    assert_eq!(told["agent"]["registries"][0]["password"], "********");
    assert_eq!(
        told["environment"],
        json!({ "B": "request", "TOKEN": "********" })
    );
    for key in ["agent.registries", "environment.TOKEN"] {
        let path = format!("/api/v1/me/config/explain?key={key}&session=s-1&reveal=true");
        let told = f.get(&path).await;
        assert_eq!(told.status, 200, "{}", told.text());
        assert!(!told.text().contains("hunter2"), "{}", told.text());
    }
}

#[tokio::test]
async fn of_vaults_that_reach_them_no_more_members_see_no_names_and_of_none_its_logins() {
    let f = ready().await;
    let alice = f.person("alice", json!({})).await;
    let content = json!({
        "environment": { "STAGE": "dev" },
        "agent": { "registries": [{ "host": "r.lab", "username": "u", "password": "hunter2" }] },
    });
    let body = json!({
        "name": "Merger", "groups": ["users"], "enabled": true, "format": "json",
        "content": content.to_string(),
    });
    let made = f.post("/api/v1/vaults", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let asked = json!({ "command": ["true"] });
    let made = f.send_as(&alice, "POST", "/api/v1/sessions", &asked).await;
    assert_eq!(made.status, 201, "{}", made.text());
    given(&f).await;
    let config = "/api/v1/me/config?session=s-1&reveal=true";
    for (enabled, name) in [(true, json!("Merger")), (false, Value::Null)] {
        let path = format!("/api/v1/vaults/{id}");
        f.patch(&path, "*", &json!({ "enabled": enabled })).await;
        let told = f.get_as(&alice, config).await;
        assert_eq!(told.status, 200, "{}", told.text());
        assert!(!told.text().contains("hunter2"), "{}", told.text());
        let told = told.json();
        assert_eq!(told["vaults"][0]["id"], json!(id));
        assert_eq!(told["vaults"][0]["name"], name);
        assert_eq!(told["config"]["environment"]["STAGE"], "dev");
    }
    let told = f
        .get(&format!("/api/v1/vaults/{id}/content?reveal=true"))
        .await;
    assert!(told.text().contains("hunter2"), "{}", told.text());
}
