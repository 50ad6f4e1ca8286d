//! Domains and projects that go.

use super::{Lab, bearer, names};
use serde_json::{Value, json};

const NONE: Value = Value::Null;

impl Lab {
    async fn blockers(&self, path: &str) -> Value {
        let answer = self.ask("", "DELETE", path, &NONE).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (409, "LS-IN-USE".to_owned())
        );
        answer.json()["counts"].clone()
    }

    async fn has(&self, path: &str) -> bool {
        self.get("", path).await.status == 200
    }
}

#[tokio::test]
async fn a_project_goes_with_memberships_rules_and_keypairs() {
    let lab = Lab::new().await;
    let made = lab
        .good("", "POST", "/projects", json!({ "name": "vision" }))
        .await;
    let id = made["id"].as_str().unwrap().to_owned();
    let both = json!({ "projects": ["default", "vision"] });
    let alice = lab.person("alice", both).await;
    let bound = bearer(
        &lab.good(&alice, "POST", "/keypairs", json!({ "project": "vision" }))
            .await,
    );
    let rule = lab.rule("rw", "project", "vision", "alice").await;
    let work = json!({ "command": ["true"], "project": "vision",
        "slots": { "cpu": "1", "mem": "64m" }, "start_at": "2100-01-01T00:00:00.000Z" });
    let session = lab.good(&alice, "POST", "/sessions", work).await;
    let session = format!("/sessions/{}", session["id"].as_str().unwrap());
    lab.good(
        "",
        "PUT",
        "/resource-groups/default/allowed/project/vision",
        NONE,
    )
    .await;

    let path = "/projects/vision";
    assert_eq!(
        lab.with("", "DELETE", path, &NONE, &[]).await.code(),
        "LS-VERSION-MISSING"
    );
    let stale = [("if-match", "\"77\"")];
    let stale = lab.with("", "DELETE", path, &NONE, &stale).await;
    assert_eq!(
        (stale.status.as_u16(), &stale.json()["current"]["id"]),
        (412, &json!(id))
    );
    let counts = lab.blockers(path).await;
    assert_eq!(counts, json!({ "session": 1, "resource-group": 1 }));
    lab.good(&alice, "POST", &format!("{session}/terminate"), json!({}))
        .await;
    lab.good(
        "",
        "DELETE",
        "/resource-groups/default/allowed/project/vision",
        NONE,
    )
    .await;

    let rehearsed = lab
        .good("", "DELETE", "/projects/vision?dry_run=true", NONE)
        .await;
    let impact = &rehearsed["impact"];
    assert_eq!(impact["users"], json!(["alice"]));
    assert_eq!(impact["keypairs"].as_array().unwrap().len(), 1);
    assert!(lab.has(path).await, "nothing was changed");

    assert_eq!(lab.ask("", "DELETE", path, &NONE).await.status, 204);
    assert!(!lab.has(path).await);
    assert!(!lab.has(&format!("/access-rules/{rule}")).await);
    assert_eq!(lab.get(&bound, "/me").await.code(), "LS-AUTH-FAILED");
    let me = lab.good(&alice, "GET", "/me", NONE).await;
    assert_eq!(me["projects"].as_array().unwrap().len(), 1, "{me}");
    // History keeps the name; the id is gone for ever, the name is free.
    // Who is in it no longer has lost its sessions, as after leaving.
    assert_eq!(lab.get(&alice, &session).await.status, 404);
    let past = lab.good("", "GET", &session, NONE).await;
    assert_eq!(past["project_name"], "vision");
    let keys = lab
        .good(&alice, "GET", "/keypairs?state=revoked", NONE)
        .await;
    assert_eq!(keys["items"][0]["project_name"], "vision");
    let log = "/audit?operation=project.update&limit=1";
    let log = lab.good("", "GET", log, NONE).await;
    let record = &log["items"][0];
    assert_eq!(record["target"]["name"], "vision");
    assert_eq!(record["before"]["id"], json!(id));
    let again = lab
        .ask("", "DELETE", &format!("/projects/{id}"), &NONE)
        .await;
    assert_eq!(again.status, 204);
    lab.good("", "POST", "/projects", json!({ "name": "vision" }))
        .await;
    // The log finds both by the name, and the table of keypairs keeps it.
    let found = lab.good("", "GET", "/audit?target=vision", NONE).await;
    let found = found["items"].as_array().unwrap();
    let made = found
        .iter()
        .filter(|record| record["operation"] == "project.create");
    assert_eq!(made.count(), 2, "{found:?}");
    let table = lab.get("", "/exports/keypairs").await.text();
    assert!(table.contains("\"vision\""), "{table}");
}

#[tokio::test]
async fn a_domain_goes_when_nobody_and_nothing_is_left() {
    let lab = Lab::new().await;
    lab.good("", "POST", "/domains", json!({ "name": "lab" }))
        .await;
    let project = json!({ "name": "p", "domain": "lab" });
    let project = lab.good("", "POST", "/projects", project).await;
    lab.person("eve", json!({ "domain": "lab", "projects": ["p"] }))
        .await;
    let group = json!({ "name": "crew", "domain": "lab" });
    lab.good("", "POST", "/groups", group).await;
    let account = json!({ "name": "robot", "domain": "lab" });
    lab.good("", "POST", "/service-accounts", account).await;
    lab.good(
        "",
        "PUT",
        "/resource-groups/default/allowed/domain/lab",
        NONE,
    )
    .await;
    let counts = lab.blockers("/domains/lab").await;
    let all = json!({ "group": 1, "project": 1, "resource-group": 1, "service-account": 1,
        "user": 1 });
    assert_eq!(counts, all);
    let moved = json!({ "domain": "default" });
    lab.good("", "PUT", "/users/eve/domain", moved).await;
    let project = format!("/projects/{}", project["id"].as_str().unwrap());
    for path in [
        project.as_str(),
        "/groups/crew",
        "/service-accounts/robot",
        "/resource-groups/default/allowed/domain/lab",
    ] {
        lab.good("", "DELETE", path, NONE).await;
    }
    // A service account that was deleted keeps its name and is in nobody's way.
    let rehearsed = lab
        .good("", "DELETE", "/domains/lab?dry_run=true", NONE)
        .await;
    assert!(rehearsed["impact"].is_object());
    lab.good("", "DELETE", "/domains/lab", NONE).await;
    assert_eq!(lab.get("", "/domains/lab").await.code(), "LS-NOT-FOUND");
    let left = lab.good("", "GET", "/domains", NONE).await;
    assert_eq!(names(&left), ["default"]);
    let gone = lab
        .good("", "GET", "/service-accounts?status=deleted", NONE)
        .await;
    assert_eq!(gone["items"][0]["domain_name"], "lab", "{gone}");
    let again = lab.refused("", "DELETE", "/domains/lab", NONE).await;
    assert_eq!(again, (404, "LS-NOT-FOUND".to_owned()));
    lab.good("", "POST", "/domains", json!({ "name": "lab" }))
        .await;
}

#[tokio::test]
async fn what_every_installation_has_stays() {
    let lab = Lab::new().await;
    let dan = lab.person("dan", json!({ "role": "domain-admin" })).await;
    for path in ["/domains/default", "/projects/default"] {
        let refused = lab.refused("", "DELETE", path, NONE).await;
        assert_eq!(refused, (409, "LS-BUILTIN".to_owned()), "{path}");
    }
    // A domain admin deletes projects of its own domain, and no domain.
    lab.good("", "POST", "/projects", json!({ "name": "p" }))
        .await;
    assert_eq!(
        lab.ask(&dan, "DELETE", "/projects/p", &NONE).await.status,
        204
    );
    let refused = lab.refused(&dan, "DELETE", "/domains/default", NONE).await;
    assert_eq!(refused, (403, "LS-FORBIDDEN".to_owned()));
}
