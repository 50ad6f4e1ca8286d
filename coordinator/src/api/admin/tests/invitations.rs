//! Invitations, proofs of addresses and mailed links through the router.

use super::{Answer, Fixture, pointers, ready};
use crate::api::links::Links;
use crate::api::tests::with_links;
use crate::mail::{Mailer, Smtp, tests::server};
use axum::body::Body;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

const INVITATIONS: &str = "/api/v1/invitations";
const PASSWORD: &str = "correct horse 1!";

impl Fixture {
    /// A request without credentials.
    async fn open(&self, path: &str, body: &Value) -> Answer {
        self.send_as("", "POST", path, body).await
    }

    async fn invite(&self, body: &Value) -> (Value, String) {
        let made = self.post(INVITATIONS, body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let made = made.json();
        let link = made["link"].as_str().unwrap();
        let token = link.strip_prefix("https://test:7420/invite#").unwrap();
        let token = token.to_owned();
        (made, token)
    }

    async fn accept(&self, bearer: &str, body: &Value) -> Answer {
        let path = format!("{INVITATIONS}/accept");
        self.send_as(bearer, "POST", &path, body).await
    }
}

fn coded(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.code())
}

fn bearer(made: &Value) -> String {
    let part = |name: &str| made[name].as_str().unwrap().to_owned();
    format!("Bearer {}.{}", part("access_key"), part("secret_key"))
}

#[tokio::test]
async fn a_new_person_from_the_invitation_to_the_first_login() {
    let f = ready().await;
    let body = json!({ "email": "erin@lab.example", "projects": ["default"], "expires_in_s": 600 });
    let path = format!("{INVITATIONS}?dry_run=true");
    let dry = f.post(&path, &body).await;
    assert_eq!((dry.status.as_u16(), dry.json().get("link")), (201, None));
    let (made, token) = f.invite(&body).await;
    assert_eq!(
        (&made["state"], &made["invited_by"], &made["projects"]),
        (&json!("pending"), &json!("dana"), &json!(["default"]))
    );
    let list = f.get(INVITATIONS).await;
    assert_eq!(list.json()["items"][0]["id"], made["id"]);
    assert!(!list.text().contains(&token));
    let pending = f.get("/api/v1/users?status=pending&email=ERIN").await;
    assert_eq!(
        pending.json()["items"],
        json!([{
            "id": made["id"], "email": "erin@lab.example", "status": "pending",
            "invited_at": made["created_at"], "expires_at": made["expires_at"],
        }])
    );
    for (query, code) in [
        ("status=pending&status=active", "LS-PARAMETER"),
        ("status=pending&username=x", ""),
    ] {
        let answer = f.get(&format!("/api/v1/users?{query}")).await;
        match code {
            "" => assert_eq!(answer.json()["items"], json!([])),
            code => assert_eq!(answer.code(), code),
        }
    }
    let lookup = format!("{INVITATIONS}/lookup");
    let about = f.open(&lookup, &json!({ "token": token })).await;
    assert_eq!(about.status, 200, "{}", about.text());
    assert_eq!(
        (&about.json()["kind"], &about.json()["email"]),
        (&json!("new-user"), &json!("erin@lab.example"))
    );
    // Who is logged in as somebody else does not become another.
    let (dana, body) = (
        f.bearer_text(),
        json!({ "token": token, "password": PASSWORD }),
    );
    let other = f.accept(&dana, &body).await;
    assert_eq!(coded(&other), (403, "LS-INVITATION-OTHER".to_owned()));
    let body = json!({ "token": token, "password": "abc", "username": "a b" });
    let weak = f.accept("", &body).await;
    assert_eq!(
        pointers(&weak),
        ["/username", "/password", "/password", "/password"]
    );
    let none = f.accept("", &json!({ "token": token })).await;
    assert_eq!(pointers(&none), ["/password"]);
    let chosen = json!({ "token": token, "username": "erin", "password": PASSWORD });
    let made = f.accept("", &chosen).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let made = made.json();
    assert_eq!(
        (&made["status"], &made["has_password"], &made["projects"]),
        (&json!("active"), &json!(true), &json!(["default"]))
    );
    let snippet = made["snippet"].as_str().unwrap();
    assert!(snippet.contains(made["secret_key"].as_str().unwrap()));
    let me = f.get_as(&bearer(&made), "/api/v1/me").await;
    assert_eq!(me.json()["username"], "erin");
    let login = json!({ "login": "erin", "password": PASSWORD });
    let login = f.open("/api/v1/auth/login", &login).await;
    assert_eq!(login.status, 200, "{}", login.text());
    let rows = f.get("/api/v1/projects/default/members").await.json();
    let rows = rows["items"].as_array().unwrap().clone();
    let erin = rows.iter().find(|row| row["user_name"] == "erin").unwrap();
    assert_eq!(erin["source"], "invitation");
    // Used, withdrawn and unknown tokens are one; so are they to who looks them up.
    let (second, withdrawn) = f.invite(&json!({ "email": "x@lab.example" })).await;
    let path = format!("{INVITATIONS}/{}", second["id"].as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(f.delete(&path, "").await.status, 204);
    }
    let mut told = Vec::new();
    for token in [&token, &withdrawn, &"x".repeat(43), &"?".to_owned()] {
        for path in ["lookup", "accept"] {
            let path = format!("{INVITATIONS}/{path}");
            let answer = f.open(&path, &json!({ "token": token })).await;
            assert_eq!(coded(&answer), (410, "LS-INVITATION-GONE".to_owned()));
            told.push(answer.json()["detail"].clone());
        }
    }
    assert!(
        told.iter()
            .all(|text| *text == "This invitation is no longer valid.")
    );
    // What was done is recorded, by whom, and without the token.
    let records = f.get("/api/v1/audit").await;
    assert!(!records.text().contains(&withdrawn) && !records.text().contains(PASSWORD));
    let record = f
        .get("/api/v1/audit?operation=invitation.accept")
        .await
        .json();
    let record = record["items"][0].clone();
    assert_eq!(
        (
            &record["actor"]["name"],
            &record["actor"]["via"],
            &record["outcome"]
        ),
        (&json!("erin"), &json!("invitation link"), &json!("ok")),
        "{record}"
    );
}

#[tokio::test]
async fn a_user_accepts_while_logged_in() {
    let f = ready().await;
    f.post("/api/v1/projects", &json!({ "name": "vision" }))
        .await;
    let carol = f.person("carol", json!({ "projects": ["vision"] })).await;
    let member = "/api/v1/projects/vision/members/carol";
    f.put(member, "", &json!({ "admin": true })).await;
    let bob = f.person("bob", json!({ "projects": ["default"] })).await;
    // An administrator of the project sees what is about it and nothing else.
    f.invite(&json!({ "email": "new@lab.example", "projects": ["vision"] }))
        .await;
    let body = json!({ "email": "bob@lab.example", "projects": ["vision"] });
    let made = f.send_as(&carol, "POST", INVITATIONS, &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let link = made.json()["link"].as_str().unwrap().to_owned();
    let token = link.split_once('#').unwrap().1;
    let seen = f.get_as(&carol, INVITATIONS).await.json();
    assert_eq!(seen["items"].as_array().unwrap().len(), 1);
    assert_eq!(seen["items"][0]["email"], "bob@lab.example");
    let all = f.get(INVITATIONS).await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    let refused = f.get_as(&bob, INVITATIONS).await;
    assert_eq!(coded(&refused), (403, "LS-FORBIDDEN".to_owned()));
    let new = json!({ "email": "other@lab.example" });
    let refused = f.send_as(&carol, "POST", INVITATIONS, &new).await;
    assert_eq!(coded(&refused), (403, "LS-FORBIDDEN".to_owned()));
    // One that is hidden is as one that was never made.
    let id = |n: usize| all["items"][n]["id"].as_str().unwrap().to_owned();
    let new_one = if all["items"][0]["email"] == "new@lab.example" {
        0
    } else {
        1
    };
    let mut told = Vec::new();
    for id in [id(new_one), "inv_aaaaaaaaaaaaaaaaaaaaaaaaab".to_owned()] {
        let path = format!("{INVITATIONS}/{id}");
        let answer = f.send_as(&carol, "DELETE", &path, &json!({})).await;
        assert_eq!(coded(&answer), (404, "LS-NOT-FOUND".to_owned()));
        told.push(answer.json()["detail"].as_str().unwrap().replace(&id, "ID"));
    }
    assert_eq!(told[0], told[1]);

    let body = json!({ "token": token });
    let nobody = f.accept("", &body).await;
    assert_eq!(coded(&nobody), (401, "LS-AUTH-REQUIRED".to_owned()));
    let other = f.accept(&carol, &body).await;
    assert_eq!(coded(&other), (403, "LS-INVITATION-OTHER".to_owned()));
    let wrong = f.accept("Bearer LSx.y", &body).await;
    assert_eq!(coded(&wrong), (401, "LS-AUTH-FAILED".to_owned()));
    let joined = f.accept(&bob, &body).await;
    assert_eq!(joined.status, 200, "{}", joined.text());
    assert_eq!(joined.json()["projects"], json!(["default", "vision"]));
    assert!(joined.json().get("access_key").is_none());
    assert_eq!(f.accept(&bob, &body).await.code(), "LS-INVITATION-GONE");
    let record = f
        .get("/api/v1/audit?operation=invitation.accept")
        .await
        .json();
    assert_eq!(record["items"][0]["actor"]["name"], "bob");
    // A stale cookie is nobody's: a new person is not kept out by one.
    let (_, token) = f.invite(&json!({ "email": "frank@lab.example" })).await;
    let body = json!({ "token": token, "password": PASSWORD });
    let headers = [
        ("authorization", ""),
        ("cookie", "__Host-longshore=lss_stale"),
        ("content-type", "application/json"),
    ];
    let path = format!("{INVITATIONS}/accept");
    let made = f.send("POST", &path, &headers, Body::from(body.to_string()));
    assert_eq!(made.await.status, 200);
}

#[tokio::test]
async fn an_address_is_proven_by_a_link() {
    let f = ready().await;
    let body =
        json!({ "email": "erin@lab.example", "username": "erin", "status": "before-verification" });
    let made = f.post("/api/v1/users", &body).await.json();
    let first = made["link"].as_str().unwrap().to_owned();
    let path = "/api/v1/users/erin/status";
    let again = json!({ "status": "before-verification" });
    let again = f.put(path, "*", &again).await.json();
    let link = again["link"].as_str().unwrap();
    let token = |link: &str| {
        link.strip_prefix("https://test:7420/invite#")
            .unwrap()
            .to_owned()
    };
    let old = f.accept("", &json!({ "token": token(&first) })).await;
    assert_eq!(old.code(), "LS-INVITATION-GONE");
    let body = json!({ "token": token(link), "password": PASSWORD });
    let active = f.accept("", &body).await;
    assert_eq!(active.status, 200, "{}", active.text());
    assert_eq!(
        (&active.json()["status"], &active.json()["has_password"]),
        (&json!("active"), &json!(true))
    );
    assert_eq!(f.get_as(&bearer(&made), "/api/v1/me").await.status, 200);
    let off = f.put(path, "*", &json!({ "status": "inactive" })).await;
    assert!(off.json().get("link").is_none(), "{}", off.text());
}

/// An installation with mail, and what its server takes.
async fn with_mail() -> (
    Fixture,
    mpsc::UnboundedReceiver<String>,
    watch::Sender<bool>,
) {
    let (settings, taken) = server().await;
    let (stop, stopping) = watch::channel(false);
    let mailer = Mailer::start(Arc::new(Smtp::new(&settings).unwrap()), stopping);
    let f = with_links(Links::new(mailer, 604_800)).await;
    f.start(None).await;
    (f, taken, stop)
}

/// The link of a mail, and to whom it went.
fn read(mail: &str) -> (String, String) {
    let whole = mail.replace("=\r\n", "").replace("=3D", "=");
    let link = whole
        .lines()
        .find(|line| line.trim().starts_with("https://test:7420/"));
    let to = whole.lines().find(|line| line.starts_with("RCPT TO:<"));
    let to = to.unwrap().trim_start_matches("RCPT TO:<");
    let to = to.split('>').next().unwrap().to_owned();
    (to, link.unwrap().trim().to_owned())
}

#[tokio::test]
async fn links_are_mailed() {
    let (f, mut taken, _stop) = with_mail().await;
    let body = json!({ "email": "erin@lab.example" });
    let (made, _) = f.invite(&body).await;
    let mail = taken.recv().await.unwrap();
    let (to, link) = read(&mail);
    assert_eq!(
        (to.as_str(), json!(link)),
        ("erin@lab.example", made["link"].clone())
    );
    let unproven = json!({ "email": "frank@lab.example", "status": "before-verification" });
    let made = f.post("/api/v1/users", &unproven).await.json();
    let (to, link) = read(&taken.recv().await.unwrap());
    assert_eq!(
        (to.as_str(), json!(link)),
        ("frank@lab.example", made["link"].clone())
    );
}

#[tokio::test]
async fn a_forgotten_password_is_chosen_anew_by_mail() {
    let (f, mut taken, _stop) = with_mail().await;
    f.person("erin", json!({ "password": PASSWORD })).await;
    let unproven = json!({ "email": "frank@lab.example", "status": "before-verification" });
    f.post("/api/v1/users", &unproven).await;
    taken.recv().await.unwrap();
    let want = "/api/v1/auth/reset-request";
    let mut told = Vec::new();
    // Of those three the last alone gets one.
    for email in [
        "nobody@lab.example",
        "frank@lab.example",
        "Erin@lab.example",
    ] {
        let answer = f.open(want, &json!({ "email": email })).await;
        told.push((answer.status.as_u16(), answer.text()));
    }
    assert!(
        told.iter().all(|one| *one == (202, String::new())),
        "{told:?}"
    );
    let (to, first) = read(&taken.recv().await.unwrap());
    assert_eq!(to, "erin@lab.example");
    f.open(want, &json!({ "email": "erin@lab.example" })).await;
    let (_, second) = read(&taken.recv().await.unwrap());
    let token = |link: &str| {
        link.strip_prefix("https://test:7420/reset#")
            .unwrap()
            .to_owned()
    };
    let new = "battery staple 2?";
    let choose = |link: &str| json!({ "token": token(link), "password": new });
    let old = f.open("/api/v1/auth/reset", &choose(&first)).await;
    assert_eq!(coded(&old), (410, "LS-LINK-GONE".to_owned()));
    let done = f.open("/api/v1/auth/reset", &choose(&second)).await;
    assert_eq!(done.status, 204, "{}", done.text());
    let login = json!({ "login": "erin", "password": new });
    assert_eq!(f.open("/api/v1/auth/login", &login).await.status, 200);
    // A third one comes, a fourth does not: what is asked for behind it comes next.
    f.open(want, &json!({ "email": "erin@lab.example" })).await;
    read(&taken.recv().await.unwrap());
    f.open(want, &json!({ "email": "erin@lab.example" })).await;
    f.open(want, &json!({ "email": "dana@lab.example" })).await;
    let (to, _) = read(&taken.recv().await.unwrap());
    assert_eq!(to, "dana@lab.example");
    let records = f.get("/api/v1/audit?operation=auth.reset").await;
    assert!(!records.text().contains(&token(&second)));
}

/// Without mail nothing is sent, and nothing is stored of it.
#[tokio::test]
async fn without_mail_no_link_is_made() {
    let f = ready().await;
    let body = json!({ "email": "dana@lab.example" });
    let answer = f.open("/api/v1/auth/reset-request", &body).await;
    assert_eq!(answer.status, 202);
    let links = f.app.engine.read(|state, _| state.invitations.len());
    assert_eq!(links.await.unwrap(), 0);
}
