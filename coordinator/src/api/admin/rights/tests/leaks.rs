//! What a caller may not see is answered as what never was, to the last byte.

use super::{Lab, bearer};
use longshore_common::ids::{DomainId, ProjectId, UserGroupId, UserId};
use serde_json::{Value, json};

const NONE: Value = Value::Null;

/// Two domains: `default` with Dan who administers it, Pat who administers a project of it,
/// and Alice; `lab2`, of which they know nothing.
struct Houses {
    lab: Lab,
    dan: String,
    pat: String,
    alice: String,
    /// Of `lab2`: a domain, a project, a user, a superadmin, a group, a session.
    domain: String,
    secret: String,
    eve: String,
    root: String,
    group: String,
    session: String,
}

impl Houses {
    async fn new() -> Self {
        let lab = Lab::new().await;
        let id = |made: &Value| made["id"].as_str().unwrap().to_owned();
        let domain = lab
            .good("", "POST", "/domains", json!({ "name": "lab2" }))
            .await;
        let secret = json!({ "name": "secret", "domain": "lab2" });
        let secret = lab.good("", "POST", "/projects", secret).await;
        let there = json!({ "domain": "lab2", "projects": ["secret"] });
        let eve = lab.person("eve", there.clone()).await;
        let mut root = there;
        root["role"] = json!("superadmin");
        lab.person("root2", root).await;
        let group = json!({ "name": "eves", "domain": "lab2" });
        let group = lab.good("", "POST", "/groups", group).await;
        let work = json!({ "command": ["true"], "slots": { "cpu": "1", "mem": "64m" },
            "start_at": "2100-01-01T00:00:00.000Z" });
        let session = lab.good(&eve, "POST", "/sessions", work).await;
        let user =
            async |name: &str| id(&lab.good("", "GET", &format!("/users/{name}"), NONE).await);
        let dan = lab.person("dan", json!({ "role": "domain-admin" })).await;
        let pat = lab.person("pat", json!({})).await;
        let admin = json!({ "admin": true });
        lab.good("", "PUT", "/projects/default/members/pat", admin)
            .await;
        Self {
            alice: lab.person("alice", json!({})).await,
            dan,
            pat,
            domain: id(&domain),
            secret: id(&secret),
            eve: user("eve").await,
            root: user("root2").await,
            group: id(&group),
            session: id(&session),
            lab,
        }
    }

    /// The answer about something that is there and hidden, and about something that never
    /// was, are the same. `@` in the path and in the body stands for it.
    async fn alike(&self, who: &str, (method, path): (&str, &str), body: &Value, both: [&str; 2]) {
        let mut answers = Vec::new();
        for id in both {
            let path = path.replace('@', id);
            let body = body.to_string().replace('@', id);
            let body: Value = serde_json::from_str(&body).unwrap();
            let answer = self.lab.ask(who, method, &path, &body).await;
            assert!(answer.status.is_client_error(), "{path}: {}", answer.text());
            let request = answer.header("x-request-id").to_owned();
            let text = answer.text().replace(id, "@").replace(&request, "-");
            answers.push((answer.status, text));
        }
        assert_eq!(answers[0], answers[1], "{method} {path} {body}");
    }
}

fn never_user() -> String {
    UserId::new(77).to_string()
}

#[tokio::test]
async fn keypairs_for_somebody_who_is_not_seen() {
    let all = Houses::new().await;
    let never = never_user();
    let make = ("POST", "/keypairs");
    for who in [&all.alice, &all.dan, &all.pat] {
        let body = json!({ "user": "@" });
        all.alike(who, make, &body, [&all.eve, &never]).await;
        all.alike(who, make, &body, [&all.root, &never]).await;
        all.alike(who, make, &body, ["eve", "evi"]).await;
        let body = json!({ "project": "@" });
        let project = ProjectId::new(77).to_string();
        all.alike(who, make, &body, [&all.secret, &project]).await;
    }
}

#[tokio::test]
async fn projects_and_members_that_are_not_seen() {
    let all = Houses::new().await;
    let (project, user) = (ProjectId::new(77).to_string(), never_user());
    for who in [&all.alice, &all.dan, &all.pat] {
        for asked in [
            ("GET", "/projects/@"),
            ("GET", "/projects/@/members"),
            ("PUT", "/projects/@/members/alice"),
            ("DELETE", "/projects/@/members/alice"),
            ("POST", "/projects/@/leave"),
            ("PATCH", "/projects/@"),
            ("DELETE", "/projects/@"),
        ] {
            let body = match asked.0 {
                "GET" | "DELETE" => NONE,
                _ => json!({}),
            };
            all.alike(who, asked, &body, [&all.secret, &project]).await;
            all.alike(who, asked, &body, ["secret", "sacred"]).await;
        }
        for method in ["PUT", "DELETE"] {
            let asked = (method, "/projects/default/members/@");
            let body = if method == "PUT" { json!({}) } else { NONE };
            for hidden in [&all.eve, &all.root] {
                all.alike(who, asked, &body, [hidden, &user]).await;
            }
        }
    }
    // Who may only see the project is told so; who may not see it is not.
    let seen = all.lab.refused(
        &all.alice,
        "PUT",
        "/projects/default/members/pat",
        json!({}),
    );
    assert_eq!(seen.await.0, 403);
}

#[tokio::test]
async fn domains_that_are_not_seen() {
    let all = Houses::new().await;
    let never = DomainId::new(77).to_string();
    for who in [&all.alice, &all.dan] {
        for path in ["/projects", "/groups", "/service-accounts"] {
            let body = json!({ "name": "new", "domain": "@" });
            all.alike(who, ("POST", path), &body, [&all.domain, &never])
                .await;
            all.alike(who, ("POST", path), &body, ["lab2", "lab3"])
                .await;
        }
        all.alike(who, ("GET", "/domains/@"), &NONE, ["lab2", "lab3"])
            .await;
        all.alike(who, ("DELETE", "/domains/@"), &NONE, ["lab2", "lab3"])
            .await;
    }
}

#[tokio::test]
async fn rules_about_what_is_not_seen() {
    let all = Houses::new().await;
    let make = ("POST", "/access-rules");
    let (user, group) = (never_user(), UserGroupId::new(77).to_string());
    let body = json!({ "resource": { "type": "project", "id": "default" }, "level": "ro",
        "subjects": ["@"] });
    for both in [
        [all.eve.as_str(), &user],
        [&all.group, &group],
        ["eves", "evas"],
    ] {
        all.alike(&all.dan, make, &body, both).await;
    }
    let project = ProjectId::new(77).to_string();
    for (kind, both) in [
        ("project", [all.secret.as_str(), project.as_str()]),
        ("project", ["secret", "sacred"]),
        ("session", [&all.session, "s-9"]),
    ] {
        let body = json!({ "resource": { "type": kind, "id": "@" }, "level": "ro",
            "subjects": ["alice"] });
        all.alike(&all.dan, make, &body, both).await;
        let asked = format!("/access/effective?type={kind}&id=@");
        for who in [&all.alice, &all.dan] {
            all.alike(who, ("GET", &asked), &NONE, both).await;
        }
    }
    let asked = ("GET", "/access/effective?type=project&id=default&subject=@");
    for who in [&all.alice, &all.dan] {
        all.alike(who, asked, &NONE, [&all.eve, &user]).await;
    }
    // Out of reach is said of what was asked for, not of a rule that never was.
    let everybody = json!({ "resource": { "type": "*" }, "level": "ro", "subjects": ["users"] });
    let refused = all
        .lab
        .ask(&all.dan, "POST", "/access-rules", &everybody)
        .await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (403, "LS-FORBIDDEN".to_owned())
    );
    assert!(!refused.text().contains("acr_"), "{}", refused.text());
    // What one sees and has nothing on is another thing.
    all.lab.without_factory_rule().await;
    let own = all
        .lab
        .good(
            &all.alice,
            "GET",
            "/access/effective?type=project&id=default",
            NONE,
        )
        .await;
    assert_eq!(own["level"], "none");
    let queue = ("GET", "/access/effective?type=queue&id=@");
    all.alike(&all.alice, queue, &NONE, ["default", "defeats"])
        .await;
}

#[tokio::test]
async fn a_name_that_two_domains_have_is_the_own_one() {
    let all = Houses::new().await;
    let lab = &all.lab;
    let own = json!({ "name": "secret" });
    let own = lab.good(&all.dan, "POST", "/projects", own).await;
    let read = lab.good(&all.dan, "GET", "/projects/secret", NONE).await;
    assert_eq!(read["id"], own["id"]);
    let joined = "/projects/secret/members/alice";
    let joined = lab.good(&all.dan, "PUT", joined, json!({})).await;
    assert_eq!(joined["project"], own["id"]);
    let left = lab.good(&all.alice, "POST", "/projects/secret/leave", json!({}));
    assert_eq!(left.await["project"], own["id"]);
    let patch = json!({ "description": "ours" });
    lab.good(&all.dan, "PATCH", "/projects/secret", patch.clone())
        .await;
    // Who knows of both has to say which.
    let both = lab.refused("", "PATCH", "/projects/secret", patch).await;
    assert_eq!(both.1, "LS-AMBIGUOUS");
}

#[tokio::test]
async fn sessions_that_are_not_seen() {
    let all = Houses::new().await;
    for who in [&all.alice, &all.dan] {
        for asked in [
            ("GET", "/sessions/@"),
            ("GET", "/sessions/@/logs"),
            ("GET", "/sessions/@/history"),
            ("POST", "/sessions/@/terminate"),
        ] {
            let body = if asked.0 == "POST" { json!({}) } else { NONE };
            all.alike(who, asked, &body, [&all.session, "s-9"]).await;
        }
        let signal = json!({ "signal": "INT" });
        let asked = ("POST", "/sessions/@/signal");
        all.alike(who, asked, &signal, [&all.session, "s-9"]).await;
    }
    let there = all.lab.get("", &format!("/sessions/{}", all.session)).await;
    assert_eq!(there.json()["state"], "PENDING", "it is still there");
}

#[tokio::test]
async fn keypairs_say_how_much_they_are_used() {
    let lab = Lab::new().await;
    let alice = lab.person("alice", json!({})).await;
    lab.get(&alice, "/me").await;
    let own = lab.good(&alice, "GET", "/keypairs", NONE).await;
    assert_eq!(own["items"][0]["requests_in_window"], 2, "{own}");
    let more = bearer(&lab.good(&alice, "POST", "/keypairs", json!({})).await);
    let key = more
        .trim_start_matches("Bearer ")
        .split('.')
        .next()
        .unwrap();
    let unused = lab
        .good(&alice, "GET", &format!("/keypairs/{key}"), NONE)
        .await;
    assert_eq!(unused["requests_in_window"], 0);

    // So does the table, with the request for it; whoever may not list a keypair gets no row.
    let columns = "/exports/keypairs?columns=access_key,requests_in_window";
    let table = lab.get(&alice, columns).await.text();
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert_eq!(rows.len(), 2, "{table}");
    let of = |wanted: &str| rows.iter().find(|row| row.contains(wanted)).copied();
    assert_eq!(of(key), Some(&*format!("\"{key}\",\"0\"")), "{table}");
    let busy = rows.iter().find(|row| !row.contains(key)).copied().unwrap();
    assert!(busy.ends_with(",\"5\""), "{table}");
    let last = "/exports/keypairs?columns=access_key,last_used_at";
    let table = lab.get(&alice, last).await.text();
    let used = table
        .lines()
        .skip(1)
        .find(|row| !row.contains(key))
        .unwrap();
    assert!(!used.ends_with(",\"\""), "{table}");
}
