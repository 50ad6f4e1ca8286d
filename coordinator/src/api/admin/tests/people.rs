//! People, memberships and keypairs through the router.

use super::{Answer, Fixture, pointers, ready};
use axum::body::Body;
use serde_json::{Value, json};

const USERS: &str = "/api/v1/users";

fn names(answer: &Answer, member: &str) -> Vec<String> {
    let body = answer.json();
    let items = body["items"].as_array().unwrap().iter();
    items
        .map(|item| item[member].as_str().unwrap().to_owned())
        .collect()
}

fn coded(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.code())
}

/// Somebody of a role, who administers nothing else.
async fn of_role(f: &Fixture, name: &str, role: &str) -> String {
    f.person(name, json!({ "role": role, "projects": ["default"] }))
        .await
}

#[tokio::test]
async fn a_person_with_every_field_is_made_shown_and_called_otherwise() {
    let f = ready().await;
    let wrong = json!({ "email": "DANA@lab.example", "password": "abc" });
    let answer = f.post(USERS, &wrong).await;
    assert_eq!(coded(&answer), (422, "LS-INVALID".to_owned()));
    assert_eq!(pointers(&answer), ["/password", "/password", "/password"]);
    assert!(!answer.text().contains("abc\""));
    let body = json!({
        "email": "erin@lab.example", "username": "erin", "full_name": "Erin E", "description": "d",
        "password": "abcdef1!", "role": "monitor", "sudo_enabled": true, "projects": ["default"],
    });
    let made = f.post(USERS, &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.header("etag"), "\"1\"");
    let made = made.json();
    for (name, value) in [
        ("full_name", json!("Erin E")),
        ("role", json!("monitor")),
        ("has_password", json!(true)),
        ("sudo_enabled", json!(true)),
        ("totp_enabled", json!(false)),
        ("source", json!("local")),
        ("gid", made["uid"].clone()),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    let snippet = made["snippet"].as_str().unwrap();
    assert!(snippet.starts_with("[context.test]\nurl = \"https://test:7420\""));
    assert!(snippet.contains(made["secret_key"].as_str().unwrap()));
    assert!(made.get("link").is_none() && made.get("password").is_none());
    // The hash is of the password, and is shown to nobody.
    let (identity, id) = (&f.app.identity, "erin");
    let user = identity.user_by_ref(id).unwrap();
    let phc = f
        .app
        .engine
        .read(move |state, _| state.users[&user].password.clone())
        .await
        .unwrap()
        .unwrap();
    assert!(longshore_identity::password::verify("abcdef1!", &phc).unwrap());
    let read = f.get("/api/v1/users/erin").await;
    assert!(!read.text().contains("argon2"));

    let path = "/api/v1/users/erin";
    let rename = json!({ "username": "erin2", "description": null });
    let answer = f.patch(path, "", &rename).await;
    assert_eq!(coded(&answer), (428, "LS-VERSION-MISSING".to_owned()));
    let answer = f.patch(path, "\"1\"", &rename).await;
    assert_eq!(answer.json()["username"], "erin2", "{}", answer.text());
    let answer = f.patch("/api/v1/users/erin2", "\"1\"", &rename).await;
    assert_eq!(coded(&answer), (412, "LS-VERSION-STALE".to_owned()));
    assert_eq!(answer.json()["current"]["username"], "erin2");
    let email = json!({ "email": "x@lab.example" });
    let answer = f.patch("/api/v1/users/erin2", "*", &email).await;
    assert_eq!(coded(&answer), (422, "LS-FIELD-FIXED".to_owned()));
    let answer = f.delete("/api/v1/users/erin2", "*").await;
    assert_eq!(coded(&answer), (405, "LS-USER-PERMANENT".to_owned()));
    assert_eq!(answer.header("allow"), "GET, PATCH");

    let unproven = json!({ "email": "new@lab.example", "status": "before-verification" });
    let made = f.post(USERS, &unproven).await.json();
    let link = made["link"].as_str().unwrap();
    assert!(link.starts_with("https://test:7420/invite#"), "{link}");
    let bearer = format!(
        "Bearer {}.{}",
        made["access_key"].as_str().unwrap(),
        made["secret_key"].as_str().unwrap()
    );
    let answer = f.get_as(&bearer, "/api/v1/me").await;
    assert_eq!(coded(&answer), (403, "LS-USER-UNVERIFIED".to_owned()));
}

#[tokio::test]
async fn lists_find_people_by_each_filter_and_show_what_a_role_may_see() {
    let f = ready().await;
    f.post("/api/v1/domains", &json!({ "name": "other" })).await;
    let bob = of_role(&f, "bob", "user").await;
    let admin = of_role(&f, "admin", "domain-admin").await;
    f.person(
        "carol",
        json!({ "domain": "other", "description": "Guest of the lab" }),
    )
    .await;
    for (query, found) in [
        ("", vec!["admin", "bob", "carol", "dana"]),
        ("?email=BOB@", vec!["bob"]),
        ("?username=A&description=guest", vec!["carol"]),
        ("?role=domain-admin&role=superadmin", vec!["admin", "dana"]),
        ("?domain=other", vec!["carol"]),
        ("?project=default&role=user", vec!["bob"]),
        ("?policy=default&username=car", vec!["carol"]),
        ("?status=inactive", vec![]),
    ] {
        let answer = f.get(&format!("{USERS}{query}")).await;
        assert_eq!(names(&answer, "username"), found, "{query}");
    }
    // A domain admin sees the own domain, users see names in their projects.
    let answer = f.get_as(&admin, USERS).await;
    assert_eq!(names(&answer, "username"), ["admin", "bob", "dana"]);
    let answer = f.get_as(&bob, USERS).await;
    let seen = answer.json();
    let other = &seen["items"][0];
    assert_eq!(other["username"], "admin");
    assert!(other.get("email").is_none() && other.get("role").is_none());
    assert_eq!(seen["items"][1]["email"], "bob@lab.example");
    let answer = f.get_as(&bob, "/api/v1/users?email=admin").await;
    assert!(names(&answer, "username").is_empty());
    let hidden = f.get_as(&bob, "/api/v1/users/carol").await;
    let never = f.get_as(&bob, "/api/v1/users/never").await;
    assert_eq!(
        hidden
            .text()
            .replace("carol", "X")
            .replace(&hidden.json()["request_id"].to_string(), ""),
        never
            .text()
            .replace("never", "X")
            .replace(&never.json()["request_id"].to_string(), "")
    );
    let answer = f.get_as(&admin, "/api/v1/users/carol/limits").await;
    assert_eq!(answer.code(), "LS-NOT-FOUND");
}

#[tokio::test]
async fn what_a_person_is_is_put_part_by_part() {
    let f = ready().await;
    let admin = of_role(&f, "admin", "domain-admin").await;
    f.person("bob", json!({ "projects": ["default"] })).await;
    let put = |part: &str| format!("/api/v1/users/bob/{part}");
    let answer = f
        .send(
            "PUT",
            &put("role"),
            &[("content-type", "application/json")],
            Body::from("{}"),
        )
        .await;
    assert_eq!(answer.code(), "LS-VERSION-MISSING");
    let parts = [
        ("role", json!({ "role": "monitor" }), "role"),
        ("sudo", json!({ "sudo_enabled": true }), "sudo_enabled"),
        ("policy", json!({ "user_policy": "default" }), "user_policy"),
        (
            "need-password-change",
            json!({ "need_password_change": true }),
            "need_password_change",
        ),
    ];
    for (part, body, member) in &parts {
        let refused = f.send_as(&admin, "PUT", &put(part), body).await;
        if *part != "need-password-change" {
            assert_eq!(coded(&refused), (403, "LS-FORBIDDEN".to_owned()), "{part}");
        }
        let answer = f.put(&put(part), "*", body).await;
        assert_eq!(answer.json()[member], body[member], "{}", answer.text());
        let empty = f.put(&put(part), "*", &json!({})).await;
        assert_eq!(pointers(&empty), [format!("/{member}")]);
    }
    let own = f
        .put("/api/v1/users/dana/role", "*", &json!({ "role": "user" }))
        .await;
    assert_eq!(coded(&own), (422, "LS-ROLE-SELF".to_owned()));
    f.post("/api/v1/domains", &json!({ "name": "other" })).await;
    let moved = f
        .put(&put("domain"), "*", &json!({ "domain": "other" }))
        .await;
    assert_eq!(
        (&moved.json()["domain_name"], &moved.json()["projects"]),
        (&json!("other"), &json!([]))
    );
    // What is touched is counted, before and after.
    let off = json!({ "status": "inactive", "deactivate_keypairs": true });
    let path = put("status");
    let dry = f
        .put(&format!("{path}?dry_run=true"), "*", &off)
        .await
        .json();
    assert_eq!(dry["touched"]["keypairs"], 1);
    assert_eq!(dry["impact"]["counts"]["keypairs"], 1);
    let done = f.put(&path, "*", &off).await.json();
    assert_eq!(done["touched"], dry["touched"]);
    let keys = f.get("/api/v1/keypairs?user=bob").await;
    assert!(names(&keys, "access_key").is_empty());
    let keys = f.get("/api/v1/keypairs?user=bob&state=inactive").await;
    assert_eq!(names(&keys, "access_key").len(), 1);
}

#[tokio::test]
async fn keypairs_are_labelled_rotated_and_revoked_by_their_owner() {
    let f = ready().await;
    let bob = f.person("bob", json!({ "projects": ["default"] })).await;
    let body =
        json!({ "label": "laptop", "project": "default", "expires_at": "2999-01-01T00:00:00Z" });
    let made = f.send_as(&bob, "POST", "/api/v1/keypairs", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let key = made["access_key"].as_str().unwrap().to_owned();
    assert!(made["snippet"].as_str().unwrap().contains(&key));
    let path = format!("/api/v1/keypairs/{key}");
    let label = json!({ "label": "desk" });
    let answer = f.send_as(&bob, "PATCH", &path, &label).await;
    assert_eq!(answer.json()["label"], "desk", "{}", answer.text());
    let answer = f
        .send_as(&bob, "PATCH", &path, &json!({ "rate_limit": 5 }))
        .await;
    assert_eq!(coded(&answer), (403, "LS-FORBIDDEN".to_owned()));
    let answer = f.patch(&path, "", &json!({ "rate_limit": 5 })).await;
    assert_eq!(answer.json()["rate_limit"], 5);
    for (query, many) in [
        ("?label=DES", 1),
        ("?label=lap", 0),
        ("?project=default", 1),
        ("?state=revoked", 0),
        ("", 2),
    ] {
        let found = f.get_as(&bob, &format!("/api/v1/keypairs{query}")).await;
        assert_eq!(names(&found, "access_key").len(), many, "{query}");
    }
    // A new secret: the old one works as long as was asked.
    let bearer = |secret: &Value| format!("Bearer {key}.{}", secret.as_str().unwrap());
    let old = bearer(&made["secret_key"]);
    let rotate = format!("{path}/rotate");
    let turned = f
        .send_as(&bob, "POST", &rotate, &json!({ "overlap_s": 60 }))
        .await
        .json();
    let new = bearer(&turned["secret_key"]);
    assert_ne!(old, new);
    for secret in [&old, &new] {
        assert_eq!(f.get_as(secret, "/api/v1/me").await.status, 200);
    }
    let again = f.send_as(&bob, "POST", &rotate, &json!({})).await.json();
    assert_eq!(f.get_as(&old, "/api/v1/me").await.code(), "LS-AUTH-FAILED");
    assert_eq!(f.get_as(&new, "/api/v1/me").await.code(), "LS-AUTH-FAILED");
    // Its use is known at once.
    let newest = bearer(&again["secret_key"]);
    assert_eq!(f.get_as(&newest, "/api/v1/me").await.status, 200);
    let used = f.get_as(&bob, &path).await.json();
    assert!(used["last_used_at"].is_string(), "{used}");
    let uses = f.app.identity.new_uses();
    assert!(uses.iter().any(|(access, _, _)| *access == key));
    assert!(f.app.identity.new_uses().is_empty());
    // Bound to a project it submits nowhere else.
    let elsewhere = json!({ "command": ["true"], "project": "other" });
    let answer = f
        .send_as(&newest, "POST", "/api/v1/sessions", &elsewhere)
        .await;
    assert_eq!(pointers(&answer), ["/project"]);
    let deleted = f.send_as(&bob, "DELETE", &path, &json!({})).await;
    assert_eq!(deleted.code(), "LS-FORBIDDEN");
    let revoke = format!("{path}/revoke");
    let answer = f.send_as(&bob, "POST", &revoke, &json!({})).await;
    assert_eq!(answer.json()["state"], "revoked");
    assert_eq!(
        f.get_as(&newest, "/api/v1/me").await.code(),
        "LS-AUTH-FAILED"
    );
    let found = f.get("/api/v1/keypairs?state=revoked").await;
    assert_eq!(names(&found, "access_key"), [key]);
    let main = f.get_as(&bob, "/api/v1/me").await.json();
    let first = bob.split(['.', ' ']).nth(1).unwrap();
    assert_eq!(main["username"], "bob");
    let answer = f.delete(&format!("/api/v1/keypairs/{first}"), "").await;
    assert_eq!(coded(&answer), (409, "LS-KEYPAIR-MAIN".to_owned()));
}

#[tokio::test]
async fn keypairs_come_from_elsewhere_and_go() {
    let f = ready().await;
    f.person("bob", json!({})).await;
    let secret = "0123456789abcdefghijklmnopqrstuvwxyz";
    let body = json!({ "user": "bob", "access_key": "AKIA-FROM-ELSEWHERE", "secret_key": secret });
    let made = f.post("/api/v1/keypairs", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(!made.text().contains(secret));
    let bearer = format!("Bearer AKIA-FROM-ELSEWHERE.{secret}");
    assert_eq!(f.get_as(&bearer, "/api/v1/me").await.status, 200);
    let answer = f.post("/api/v1/keypairs", &body).await;
    assert_eq!(coded(&answer), (409, "LS-KEYPAIR-EXISTS".to_owned()));
    let half = json!({ "user": "bob", "access_key": "AKIA-OTHER-ONE" });
    let answer = f.post("/api/v1/keypairs", &half).await;
    assert_eq!(pointers(&answer), ["/secret_key", "/secret_key"]);
    let path = "/api/v1/keypairs/AKIA-FROM-ELSEWHERE";
    let answer = f.delete(path, "").await;
    assert_eq!(coded(&answer), (409, "LS-KEYPAIR-ACTIVE".to_owned()));
    f.post(&format!("{path}/deactivate"), &json!({})).await;
    assert_eq!(f.delete(path, "").await.status, 204);
    assert_eq!(f.delete(path, "").await.status, 204);
    assert_eq!(f.get(path).await.json()["state"], "revoked");
}

#[tokio::test]
async fn a_project_has_members_who_may_leave() {
    let f = ready().await;
    f.post("/api/v1/projects", &json!({ "name": "vision" }))
        .await;
    let bob = f.person("bob", json!({})).await;
    let carol = f.person("carol", json!({})).await;
    let member = |name: &str| format!("/api/v1/projects/vision/members/{name}");
    let list = "/api/v1/projects/vision/members";
    assert_eq!(f.get_as(&bob, list).await.code(), "LS-NOT-FOUND");
    let put = f.put(&member("bob"), "", &json!({ "admin": true })).await;
    assert_eq!(
        (&put.json()["admin"], &put.json()["source"]),
        (&json!(true), &json!("manual")),
        "{}",
        put.text()
    );
    let put = f.send_as(&bob, "PUT", &member("carol"), &json!({})).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let seen = f.get_as(&carol, list).await;
    assert_eq!(names(&seen, "user_name"), ["bob", "carol"]);
    let refused = f
        .send_as(&carol, "DELETE", &member("bob"), &json!({}))
        .await;
    assert_eq!(coded(&refused), (403, "LS-FORBIDDEN".to_owned()));
    let leave = "/api/v1/projects/vision/leave";
    let last = f.send_as(&bob, "POST", leave, &json!({})).await;
    assert_eq!(coded(&last), (409, "LS-LAST-ADMIN".to_owned()));
    let path = format!("{leave}?sessions=burn");
    let wrong = f.send_as(&carol, "POST", &path, &json!({})).await;
    assert_eq!(coded(&wrong), (400, "LS-PARAMETER".to_owned()));
    let left = f.send_as(&carol, "POST", leave, &json!({})).await.json();
    assert_eq!(
        (&left["project_name"], &left["touched"]["sessions"]),
        (&json!("vision"), &json!(0))
    );
    assert_eq!(f.get_as(&carol, list).await.code(), "LS-NOT-FOUND");
    f.put(&member("dana"), "", &json!({ "admin": true })).await;
    let rehearsed = format!("{}?dry_run=true", member("bob"));
    let told = f.delete(&rehearsed, "").await;
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!(
        told.json()["impact"]["loses"][0]["name"],
        "vision",
        "{}",
        told.text()
    );
    let gone = f.delete(&member("bob"), "").await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    let records = f.get("/api/v1/audit?limit=1").await.json();
    assert_eq!(
        (
            &records["items"][0]["operation"],
            &records["items"][0]["before"]["bob"]["admin"]
        ),
        (&json!("project.members"), &json!(true))
    );
}

impl Fixture {
    async fn import(&self, query: &str, table: &str) -> Answer {
        let path = format!("{USERS}/import{query}");
        let kind = [("content-type", "text/csv; charset=utf-8")];
        self.send("POST", &path, &kind, Body::from(table.to_owned()))
            .await
    }
}

#[tokio::test]
async fn a_table_of_people_is_taken_in() {
    let f = ready().await;
    let table = "email,full_name,projects\r\nx@lab.example,X Y,default\r\ndana@lab.example,,\r\n";
    let refused = f.import("", table).await;
    assert_eq!(coded(&refused), (409, "LS-EXISTS".to_owned()));
    assert_eq!(pointers(&refused), ["/3/email"]);
    let dry = f.import("?partial=true&dry_run=true", table).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    assert_eq!(dry.json()["created"], 1);
    assert!(!dry.text().contains("secret_key"));
    let done = f.import("?partial=true", table).await.json();
    let rows = done["rows"].as_array().unwrap();
    assert_eq!(
        (&rows[0]["row"], &rows[0]["status"], &rows[1]["status"]),
        (&json!(2), &json!("created"), &json!("refused"))
    );
    assert_eq!(rows[1]["errors"][0]["pointer"], "/email");
    let bearer = format!(
        "Bearer {}.{}",
        rows[0]["access_key"].as_str().unwrap(),
        rows[0]["secret_key"].as_str().unwrap()
    );
    assert_eq!(f.get_as(&bearer, "/api/v1/me").await.status, 200);
    let seen = f.get("/api/v1/users/x@lab.example").await.json();
    assert_eq!(
        (&seen["need_password_change"], &seen["has_password"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(rows[0]["password"].as_str().unwrap().len(), 16);
    let unknown = f.import("", "email,password\r\n").await;
    assert_eq!(
        unknown.json()["errors"][0]["message"],
        "Column password is not known."
    );
    let json = f.post(&format!("{USERS}/import"), &json!({})).await;
    assert_eq!(coded(&json), (415, "LS-MEDIA-TYPE".to_owned()));
    let table = f
        .get("/api/v1/exports/users?columns=email,full_name,need_password_change")
        .await;
    assert!(
        table.text().contains("\"x@lab.example\",\"X Y\",\"true\""),
        "{}",
        table.text()
    );
}

/// Pages go on behind the last one, whatever the case of names, and repeat and skip nobody.
#[tokio::test]
async fn pages_of_people() {
    let f = ready().await;
    f.start(None).await;
    for name in ["bob", "Ada", "carol", "Dana2", "eve"] {
        let person = json!({ "email": format!("{name}@lab.example"), "username": name });
        assert_eq!(f.post("/api/v1/users", &person).await.status, 201);
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/users?limit=2&domain=default".to_owned();
    loop {
        let page = f.get(&path).await.json();
        let items = page["items"].as_array().unwrap();
        seen.extend(
            items
                .iter()
                .map(|u| u["username"].as_str().unwrap().to_owned()),
        );
        match page.get("next_cursor").and_then(Value::as_str) {
            None => break,
            Some(cursor) => {
                path = format!("/api/v1/users?limit=2&domain=default&cursor={cursor}");
            }
        }
    }
    assert_eq!(seen, ["Ada", "bob", "carol", "dana", "Dana2", "eve"]);
}
