//! Logins as callers meet them.

mod fixed;

use super::super::tests::{Answer, Fixture, ready};
use crate::engine::wall_clock;
use axum::body::Body;
use longshore_core::model::Event;
use longshore_core::model::logins::LoginEvent;
use longshore_identity::totp::{TotpSecret, step};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse 1!";
const OTHER: &str = "battery staple 2?";

impl Fixture {
    /// A request by these credentials; none with an empty text.
    async fn by(&self, bearer: &str, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [
            ("authorization", bearer),
            ("content-type", "application/json"),
        ];
        let path = format!("/api/v1{path}");
        self.send(method, &path, &headers, Body::from(body.to_string()))
            .await
    }

    async fn login(&self, body: Value) -> Answer {
        self.by("", "POST", "/auth/login", &body).await
    }

    /// A login of dana; what stands in the header.
    async fn in_as(&self, password: &str) -> String {
        let body = json!({ "login": "dana", "password": password });
        let answer = self.login(body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        format!("Bearer {}", answer.json()["token"].as_str().unwrap())
    }
}

/// An installation whose administrator has a password.
async fn with_password() -> Fixture {
    let f = ready().await;
    f.start(None).await;
    let body = json!({ "new": PASSWORD });
    let answer = f.post("/api/v1/me/password", &body).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    f
}

#[tokio::test]
async fn a_login_from_beginning_to_end() {
    let f = with_password().await;
    let body = json!({ "login": " DANA@lab.example ", "password": PASSWORD });
    let answer = f.login(body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("set-cookie"), "");
    let answer = answer.json();
    let token = answer["token"].as_str().unwrap();
    assert_eq!((token.len(), &token[..4]), (47, "lss_"));
    assert_eq!(answer["user"]["username"], "dana");
    assert_eq!(answer["notices"], json!([]));
    let bearer = format!("Bearer {token}");
    let records = f.get("/api/v1/audit?operation=auth.login").await.json();
    let record = &records["items"][0];
    assert_eq!(
        (&record["outcome"], &record["actor"]["name"]),
        (&json!("ok"), &json!("dana"))
    );
    assert_eq!(record["actor"]["via"], record["after"]["login"]);
    let me = f.by(&bearer, "GET", "/me", &Value::Null).await.json();
    assert_eq!(me["has_password"], true);
    assert_eq!(me["last_login_via"], "password");
    assert_eq!(me["groups"][0]["name"], "users");
    let mine = f
        .by(&bearer, "GET", "/me/logins", &Value::Null)
        .await
        .json();
    assert_eq!(mine["items"].as_array().unwrap().len(), 1);
    assert_eq!(mine["items"][0]["current"], true);
    // Its own login may be ended by its id; one that is over answers as one of nobody.
    let second = f.in_as(PASSWORD).await;
    let id = mine["items"][0]["id"].as_str().unwrap();
    for (path, status) in [
        (format!("/me/logins/{id}"), 204),
        (format!("/me/logins/{id}"), 404),
        ("/me/logins/x".to_owned(), 404),
    ] {
        let answer = f.by(&second, "DELETE", &path, &json!({})).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let over = f.by(&bearer, "GET", "/me", &Value::Null).await;
    assert_eq!(over.code(), "LS-AUTH-FAILED");
    let answer = f.by(&second, "POST", "/auth/logout", &json!({})).await;
    assert_eq!(answer.status, 204);
    let over = f.by(&second, "GET", "/me", &Value::Null).await;
    assert_eq!(over.code(), "LS-AUTH-FAILED");
    // A keypair has nothing to log out of.
    let answer = f.post("/api/v1/auth/logout", &json!({})).await;
    assert_eq!(answer.code(), "LS-STATE");
}

#[tokio::test]
async fn who_may_not_in_learns_nothing() {
    let f = with_password().await;
    let mut texts = Vec::new();
    for (login, password) in [("dana", "wrong"), ("nobody", PASSWORD), ("", "")] {
        let answer = f
            .login(json!({ "login": login, "password": password }))
            .await;
        assert_eq!(answer.code(), "LS-LOGIN-FAILED");
        texts.push(answer.json()["detail"].clone());
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    let answer = f
        .login(json!({ "login": "dana", "password": "x", "client": "tv" }))
        .await;
    assert_eq!(answer.code(), "LS-INVALID");
    f.app.audit.write(&f.app.engine, wall_clock(), true).await;
    let records = f.get("/api/v1/audit?operation=auth.login").await;
    assert!(!records.text().contains(PASSWORD), "{}", records.text());
    let records = records.json();
    let known = &records["items"].as_array().unwrap();
    let of = |name: &str| {
        let found = known.iter().find(|r| r["actor"]["name"] == name);
        found.map(|r| (r["outcome"].clone(), r["code"].clone(), r["detail"].clone()))
    };
    let wanted = (
        json!("failed"),
        json!("LS-LOGIN-FAILED"),
        json!("wrong password"),
    );
    assert_eq!(of("dana"), Some(wanted), "{records}");
    assert_eq!(of("nobody"), None); // anybody can make up a name
}

#[tokio::test]
async fn ten_failures_are_enough() {
    let f = with_password().await;
    for _ in 0..10 {
        let answer = f
            .login(json!({ "login": "Dana", "password": "wrong" }))
            .await;
        assert_eq!(answer.code(), "LS-LOGIN-FAILED");
    }
    let right = json!({ "login": "dana", "password": PASSWORD });
    let answer = f.login(right.clone()).await;
    assert_eq!(answer.code(), "LS-LOGIN-THROTTLED");
    let wait: u32 = answer.header("retry-after").parse().unwrap();
    assert!((1190..=1200).contains(&wait), "{wait}");
    // Stored before the answer left: a restart does not clear it.
    let stored = f.app.engine.read(|state, _| state.throttle.rows().count());
    assert!(stored.await.unwrap() >= 3);
    // Nor does the present password help to guess it.
    let body = json!({ "current": PASSWORD, "new": OTHER });
    let answer = f.post("/api/v1/me/password", &body).await;
    assert_eq!(answer.code(), "LS-LOGIN-THROTTLED");
    let answer = f.post("/api/v1/users/dana/unblock", &json!({})).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(f.login(right).await.status, 200);
}

#[tokio::test]
async fn a_new_password_ends_other_logins() {
    let f = with_password().await;
    let (one, two) = (f.in_as(PASSWORD).await, f.in_as(PASSWORD).await);
    let change = |current: &str, new: &str| json!({ "current": current, "new": new });
    let answer = f
        .by(&one, "POST", "/me/password", &change("wrong", OTHER))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (403, "LS-REAUTH")
    );
    let answer = f
        .by(&one, "POST", "/me/password", &change(PASSWORD, PASSWORD))
        .await;
    assert_eq!(
        answer.json()["errors"],
        json!([{ "pointer": "/new", "message": "The new password must differ from the current one." }])
    );
    let answer = f
        .by(&one, "POST", "/me/password", &change(PASSWORD, "abc"))
        .await;
    assert_eq!(answer.json()["errors"].as_array().unwrap().len(), 3);
    let path = "/me/password?dry_run=true";
    let answer = f.by(&one, "POST", path, &change(PASSWORD, OTHER)).await;
    assert_eq!(answer.header("longshore-dry-run"), "true");
    assert_eq!(f.by(&two, "GET", "/me", &Value::Null).await.status, 200);
    let answer = f
        .by(&one, "POST", "/me/password", &change(PASSWORD, OTHER))
        .await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(f.by(&one, "GET", "/me", &Value::Null).await.status, 200);
    assert_eq!(
        f.by(&two, "GET", "/me", &Value::Null).await.code(),
        "LS-AUTH-FAILED"
    );
    let old = f
        .login(json!({ "login": "dana", "password": PASSWORD }))
        .await;
    assert_eq!(old.code(), "LS-LOGIN-FAILED");
    // With revoke_keypairs the keypair opens nothing any more either.
    let body = json!({ "current": OTHER, "new": PASSWORD, "revoke_keypairs": true });
    assert_eq!(f.by(&one, "POST", "/me/password", &body).await.status, 204);
    assert_eq!(f.get("/api/v1/me").await.code(), "LS-AUTH-FAILED");
    assert_eq!(f.by(&one, "GET", "/me", &Value::Null).await.status, 200);
}

/// Switches the second factor of dana on; its secret and recovery codes.
async fn with_codes(f: &Fixture) -> (TotpSecret, Vec<String>) {
    let offer = f
        .post("/api/v1/me/totp", &json!({ "password": PASSWORD }))
        .await;
    assert_eq!(offer.status, 200, "{}", offer.text());
    let secret = f.app.engine.read(|state, _| {
        let user = state.user_of_name("dana").unwrap();
        user.totp.as_ref().unwrap().secret.secret().unwrap().clone()
    });
    let secret = secret.await.unwrap();
    assert_eq!(offer.json()["secret"], secret.base32().expose());
    assert!(offer.json()["qr_svg"].as_str().unwrap().starts_with("<svg"));
    // The present step, so that the next one is left for a login.
    let code = secret.code_at(step(wall_clock()));
    let on = f
        .post("/api/v1/me/totp/activate", &json!({ "code": code }))
        .await;
    assert_eq!(on.status, 200, "{}", on.text());
    let codes = on.json()["recovery_codes"].as_array().unwrap().clone();
    let codes = codes.iter().map(|code| code.as_str().unwrap().to_owned());
    (secret, codes.collect())
}

#[tokio::test]
async fn a_second_factor_is_asked_for() {
    let f = with_password().await;
    let (secret, recovery) = with_codes(&f).await;
    let again = f
        .post("/api/v1/me/totp", &json!({ "password": PASSWORD }))
        .await;
    assert_eq!(again.code(), "LS-TOTP-ENABLED");
    let name = json!({ "login": "dana", "password": PASSWORD });
    let answer = f.login(name.clone()).await;
    assert_eq!(answer.code(), "LS-TOTP-REQUIRED");
    let challenge = answer.json()["challenge"].clone();
    assert!(answer.json()["expires_at"].is_string());
    let step_two = |challenge: &Value, code: &str| {
        let body = json!({ "challenge": challenge, "code": code });
        let f = &f;
        async move { f.by("", "POST", "/auth/login/totp", &body).await }
    };
    assert_eq!(
        step_two(&json!("x"), "123456").await.code(),
        "LS-TOTP-INVALID"
    );
    assert_eq!(
        step_two(&challenge, "12345").await.code(),
        "LS-TOTP-INVALID"
    );
    let code = secret.code_at(step(wall_clock()) + 1);
    let answer = step_two(&challenge, &format!("{} {}", &code[..3], &code[3..])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Neither the challenge nor the code is good twice.
    assert_eq!(step_two(&challenge, &code).await.code(), "LS-TOTP-INVALID");
    let mut whole = name.clone();
    whole["totp"] = json!(code);
    assert_eq!(f.login(whole.clone()).await.code(), "LS-TOTP-INVALID");
    whole["totp"] = json!(recovery[0].to_lowercase());
    assert_eq!(f.login(whole.clone()).await.status, 200);
    assert_eq!(f.login(whole.clone()).await.code(), "LS-TOTP-INVALID");
    // A keypair is not asked; switching off is.
    let body = json!({ "password": PASSWORD, "code": recovery[0] });
    let off = |body: Value| {
        let f = &f;
        async move {
            let headers = [("content-type", "application/json")];
            let body = Body::from(body.to_string());
            f.send("DELETE", "/api/v1/me/totp", &headers, body).await
        }
    };
    assert_eq!(off(body).await.code(), "LS-TOTP-INVALID");
    let body = json!({ "password": PASSWORD, "code": recovery[1] });
    assert_eq!(off(body).await.status, 204);
    assert_eq!(f.login(name).await.status, 200);
}

#[tokio::test]
async fn ten_wrong_codes_are_enough() {
    let f = with_password().await;
    let (_, recovery) = with_codes(&f).await;
    let mut body = json!({ "login": "dana", "password": PASSWORD, "totp": "no code" });
    for _ in 0..10 {
        assert_eq!(f.login(body.clone()).await.code(), "LS-TOTP-INVALID");
    }
    body["totp"] = json!(recovery[0]);
    let answer = f.login(body.clone()).await;
    assert_eq!(answer.code(), "LS-LOGIN-THROTTLED");
    assert!(answer.header("retry-after").parse::<u32>().unwrap() > 800);
    let own = json!({ "password": PASSWORD, "code": recovery[0] });
    let headers = [("content-type", "application/json")];
    let body_of = Body::from(own.to_string());
    let answer = f.send("DELETE", "/api/v1/me/totp", &headers, body_of).await;
    assert_eq!(answer.code(), "LS-LOGIN-THROTTLED");
    assert!(answer.header("retry-after").parse::<u32>().unwrap() > 800);
    let answer = f
        .send("DELETE", "/api/v1/users/dana/totp", &[], Body::empty())
        .await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(f.login(body).await.status, 200);
}

#[tokio::test]
async fn an_administrator_helps() {
    let f = with_password().await;
    let login = f.in_as(PASSWORD).await;
    let path = "/api/v1/users/dana/reset-password";
    let rehearsed = f.post(&format!("{path}?dry_run=true"), &json!({})).await;
    assert_eq!(rehearsed.json(), json!({}));
    assert_eq!(f.by(&login, "GET", "/me", &Value::Null).await.status, 200);
    let given = f.post(path, &json!({})).await;
    let password = given.json()["password"].as_str().unwrap().to_owned();
    assert_eq!(password.chars().count(), 16);
    assert_eq!(f.by(&login, "GET", "/me", &Value::Null).await.status, 401);
    let answer = f
        .login(json!({ "login": "dana", "password": password }))
        .await;
    assert_eq!(answer.json()["notices"][0]["code"], "LS-PASSWORD-CHANGE");
    let answer = f
        .send("DELETE", "/api/v1/users/dana/logins", &[], Body::empty())
        .await;
    assert_eq!(answer.status, 204);
    let left = f.app.engine.read(|state, _| state.logins.len()).await;
    assert_eq!(left.unwrap(), 0);
    let answer = f.post("/api/v1/users/nobody/unblock", &json!({})).await;
    assert_eq!(answer.code(), "LS-NOT-FOUND");
    let records = f.get("/api/v1/audit?operation=user.reset_password").await;
    assert_eq!(
        records.json()["items"][0]["after"]["need_password_change"],
        true
    );
    assert!(!records.text().contains("$argon2") && !records.text().contains(&password));
}

#[tokio::test]
async fn the_console_has_a_cookie_and_proves_its_pages() {
    let f = with_password().await;
    let body = json!({ "login": "dana", "password": PASSWORD, "client": "console" });
    let answer = f.login(body).await;
    let set = answer.header("set-cookie").to_owned();
    assert!(set.contains("; HttpOnly; Secure; SameSite=Lax"), "{set}");
    let cookie = set.split(';').next().unwrap();
    assert!(cookie.starts_with("__Host-longshore=lss_"));
    let cookie = ("cookie", cookie);
    let none = ("authorization", "");
    let read = f
        .send("GET", "/api/v1/me", &[none, cookie], Body::empty())
        .await;
    assert_eq!(read.status, 200);
    let csrf = f
        .send("GET", "/api/v1/auth/csrf", &[none, cookie], Body::empty())
        .await;
    let csrf = csrf.json()["token"].as_str().unwrap().to_owned();
    let path = "/api/v1/auth/logout";
    let own = ("origin", "https://test:7420");
    for headers in [
        vec![none, cookie],
        vec![none, cookie, own],
        vec![none, cookie, own, ("x-longshore-csrf", "wrong")],
        vec![
            none,
            cookie,
            ("origin", "null"),
            ("x-longshore-csrf", &csrf),
        ],
        vec![none, cookie, ("x-longshore-csrf", &csrf)],
    ] {
        let answer = f.send("POST", path, &headers, Body::empty()).await;
        assert_eq!(answer.code(), "LS-CSRF", "{headers:?}");
    }
    // Credentials in the header are judged by themselves, whatever cookie comes along.
    let wrong = ("authorization", "Bearer x.y");
    let answer = f
        .send("GET", "/api/v1/me", &[wrong, cookie], Body::empty())
        .await;
    assert_eq!(answer.code(), "LS-AUTH-FAILED");
    let headers = [none, cookie, own, ("x-longshore-csrf", csrf.as_str())];
    let answer = f.send("POST", path, &headers, Body::empty()).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    let read = f
        .send("GET", "/api/v1/me", &[none, cookie], Body::empty())
        .await;
    assert_eq!(read.code(), "LS-AUTH-FAILED");
}

#[tokio::test]
async fn what_one_sees_and_changes_of_oneself() {
    let f = with_password().await;
    let headers = [("content-type", "application/json")];
    let patch = |body: Value| {
        let (f, headers) = (&f, &headers);
        async move {
            let body = Body::from(body.to_string());
            f.send("PATCH", "/api/v1/me", headers, body).await
        }
    };
    let me = patch(json!({ "full_name": " Dana Scully ", "description": "x" })).await;
    assert_eq!(me.json()["full_name"], "Dana Scully");
    let me = patch(json!({ "description": null })).await.json();
    assert_eq!(
        (&me["description"], &me["full_name"]),
        (&json!(""), &json!("Dana Scully"))
    );
    let long = "x".repeat(501);
    let wrong = patch(json!({ "full_name": &long[..65], "description": long })).await;
    assert_eq!(wrong.json()["errors"].as_array().unwrap().len(), 2);
    assert_eq!(
        patch(json!({ "role": "user" })).await.code(),
        "LS-UNKNOWN-FIELD"
    );
    // What was shown once is not what is shown for ever.
    let groups = |me: &Value| me["groups"].as_array().unwrap().len();
    let before = groups(&f.get("/api/v1/me").await.json());
    let team = json!({ "name": "team", "members": ["dana"] });
    let made = f.post("/api/v1/groups", &team).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(groups(&f.get("/api/v1/me").await.json()), before + 1);
    let rights = f.get("/api/v1/me/rights").await.json();
    let rights = rights["rights"].as_array().unwrap();
    assert!(rights.contains(&json!({ "operation": "user.create", "reach": "all" })));
    let methods = f.get("/api/v1/auth/methods").await.json();
    assert_eq!(methods["password"], true);
}

#[tokio::test]
async fn the_end_of_a_login_comes_by_itself() {
    let f = with_password().await;
    let bearer = f.in_as(PASSWORD).await;
    let token = bearer.strip_prefix("Bearer ").unwrap();
    let limits = f.app.identity.limits();
    let idle = i64::from(limits.idle_s) * 1000;
    // Counted from what is stored: how long the login itself took does not matter.
    let made = f.app.engine.read(|state, _| {
        let login = state.logins.values().next().unwrap();
        login.last_used_at
    });
    let now = made.await.unwrap();
    assert!(
        f.app
            .identity
            .by_token(token, now.plus_ms(idle - 1000))
            .is_ok()
    );
    // That counted as a use, so the idle time began anew.
    let person = f
        .app
        .identity
        .by_token(token, now.plus_ms(idle + 1000))
        .unwrap();
    assert!(
        f.app
            .identity
            .by_token(token, now.plus_ms(3 * idle))
            .is_err()
    );
    assert!(
        f.app
            .identity
            .still(&person, now.plus_ms(3 * idle))
            .is_err()
    );
    // What could not be stored is told again.
    let identity = &f.app.identity;
    let told = identity.take_used();
    assert_eq!((told.len(), identity.take_used().len()), (1, 0));
    identity.not_stored(&told);
    super::minute(&f.app, now.plus_ms(idle + 2000)).await;
    let used = f.app.engine.read(|state, _| {
        let login = state.logins.values().next().unwrap();
        login.last_used_at.since(login.created_at)
    });
    assert!(used.await.unwrap() >= idle);
    super::minute(&f.app, now.plus_ms(3 * idle)).await;
    let left = f.app.engine.read(|state, _| state.logins.len()).await;
    assert_eq!(left.unwrap(), 0);
}

#[tokio::test]
async fn a_link_gives_a_new_password_once() {
    use longshore_core::model::logins::NewLink;
    let f = with_password().await;
    let login = f.in_as(PASSWORD).await;
    let answer = f
        .by(
            "",
            "POST",
            "/auth/reset-request",
            &json!({ "email": "x@y" }),
        )
        .await;
    assert_eq!(answer.status, 202);
    let secret = longshore_identity::token::link(&mut crate::pki::fill_random);
    let at = wall_clock();
    let link = NewLink {
        id: longshore_common::ids::InvitationId::new(7),
        token_sha256: *secret.sha256().as_bytes(),
        at,
        expires_at: at.plus_ms(3_600_000),
    };
    let email = "dana@lab.example".to_owned();
    let event = LoginEvent::Recover { email, link };
    let event = Event::Login(Box::new(event));
    f.app.engine.ask(event).await.unwrap().unwrap();
    let choose = |token: &str, password: &str| {
        let body = json!({ "token": token, "password": password });
        let f = &f;
        async move { f.by("", "POST", "/auth/reset", &body).await }
    };
    assert_eq!(choose("x", OTHER).await.code(), "LS-LINK-GONE");
    let weak = choose(secret.expose(), "abc").await;
    assert_eq!(weak.json()["errors"][0]["pointer"], "/password");
    assert_eq!(choose(secret.expose(), OTHER).await.status, 204);
    assert_eq!(choose(secret.expose(), OTHER).await.code(), "LS-LINK-GONE");
    assert_eq!(f.by(&login, "GET", "/me", &Value::Null).await.status, 401);
    f.in_as(OTHER).await;
}

#[tokio::test]
async fn what_is_held_ends_with_the_login() {
    let f = with_password().await;
    let login = f.in_as(PASSWORD).await;
    let session = f.submit(super::super::tests::batch()).await.json();
    let path = format!(
        "/api/v1/sessions/{}?wait_s=60",
        session["id"].as_str().unwrap()
    );
    let tag = format!("\"{}\"", session["version"]);
    let headers = [
        ("authorization", login.as_str()),
        ("if-none-match", tag.as_str()),
    ];
    let held = f.send("GET", &path, &headers, Body::empty());
    let end = async {
        let all = f.send("DELETE", "/api/v1/users/dana/logins", &[], Body::empty());
        assert_eq!(all.await.status, 204);
    };
    let both = async { tokio::join!(held, end) };
    let limit = std::time::Duration::from_secs(20);
    let (answer, ()) = tokio::time::timeout(limit, both).await.expect("it ends");
    assert_eq!(answer.code(), "LS-AUTH-FAILED");
}

#[tokio::test]
async fn a_limited_login_does_one_thing() {
    use super::super::OPERATIONS;
    use super::Logins;
    use longshore_core::model::Role;
    let f = with_password().await;
    let given = f
        .post("/api/v1/users/dana/reset-password", &json!({}))
        .await
        .json();
    let bearer = f.in_as(given["password"].as_str().unwrap()).await;
    let token = bearer.strip_prefix("Bearer ").unwrap();
    let person = f.app.identity.by_token(token, wall_clock()).unwrap();
    let row = |id: &str| OPERATIONS.iter().find(|o| o.id == id).unwrap();
    let refused = |logins: &Logins, id: &str| {
        let admitted = logins.admits(&person, row(id));
        admitted.err().map_or("", |failure| failure.code)
    };
    let with = |enforce_change: bool| {
        let mut config = crate::config::Config::default();
        config.secure.password.enforce_change = enforce_change;
        config.secure.totp.required_roles = vec![Role::Superadmin.as_str().to_owned()];
        Logins::new(&config).unwrap()
    };
    let change = with(true);
    for id in ["me_read", "me_password_write", "auth_logout", "auth_csrf"] {
        assert_eq!(refused(&change, id), "", "{id}");
    }
    for id in ["me_update", "me_totp_offer", "sessions_list"] {
        assert_eq!(refused(&change, id), "LS-PASSWORD-CHANGE-REQUIRED", "{id}");
    }
    let enrol = with(false);
    for id in [
        "me_read",
        "me_totp_offer",
        "me_totp_activate",
        "auth_logout",
    ] {
        assert_eq!(refused(&enrol, id), "", "{id}");
    }
    assert_eq!(refused(&enrol, "sessions_list"), "LS-TOTP-ENROL");
    assert_eq!(refused(&Logins::default(), "sessions_list"), "");
    // A keypair of the same person is not limited.
    let keypair = crate::identity::Person {
        by_password: false,
        ..person.clone()
    };
    assert!(enrol.admits(&keypair, row("sessions_list")).is_ok());
}
