//! Logins by passwords of the configuration.

use super::*;
use crate::config::{FixedUser, FixedUsers, Hidden};

const JANE: &str = "abcdef1!";

/// An installation that was started with one person in its configuration.
async fn with_jane(pass_hashed: bool, password: &str) -> Fixture {
    let f = with_password().await;
    let list = FixedUsers {
        enabled: true,
        pass_hashed,
        users: vec![FixedUser {
            username: "jane".to_owned(),
            password: Hidden::new(password),
            projects: Some(vec!["default".to_owned()]),
            ..FixedUser::default()
        }],
        ..FixedUsers::default()
    };
    let event = Event::FixedUsers(Box::new(list.order()));
    f.app.engine.ask(event).await.unwrap().unwrap();
    let read = f.app.engine.read(move |state, _| list.passwords(state));
    let passwords = read.await.unwrap().unwrap();
    f.app.logins.set_fixed(Some(passwords));
    f
}

fn jane(password: &str) -> Value {
    json!({ "login": "Jane", "password": password })
}

async fn bearer_of(f: &Fixture, body: Value) -> String {
    let answer = f.login(body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    format!("Bearer {}", answer.json()["token"].as_str().unwrap())
}

#[tokio::test]
async fn only_who_stands_in_the_configuration_logs_in_by_password() {
    let f = with_jane(false, JANE).await;
    let bearer = bearer_of(&f, jane(JANE)).await;
    let me = f.by(&bearer, "GET", "/me", &Value::Null).await.json();
    assert_eq!(
        (&me["username"], &me["has_password"]),
        (&json!("jane"), &json!(true))
    );
    let wrong = f.login(jane("abcdef1?")).await;
    let others = f
        .login(json!({ "login": "dana", "password": PASSWORD }))
        .await;
    let unknown = f.login(json!({ "login": "x", "password": JANE })).await;
    for answer in [&wrong, &others, &unknown] {
        assert_eq!(answer.code(), "LS-LOGIN-FAILED");
        assert_eq!(answer.json()["detail"], wrong.json()["detail"]);
    }
    // Keypairs go on working, and people can be told.
    let shown = f.get("/api/v1/users/jane").await.json();
    assert_eq!(shown["source"], "fixed");
    assert_eq!(shown["email"], "jane@fixed.invalid");
    let methods = f.get("/api/v1/auth/methods").await.json();
    assert_eq!(methods["fixed_users_only"], true);
    // Nothing of the password is kept.
    let kept = f.app.engine.read(|state, _| {
        let jane = state.user_of_name("jane").unwrap();
        jane.password.clone()
    });
    assert_eq!(kept.await.unwrap(), None);
}

#[tokio::test]
async fn a_hash_of_the_configuration_opens_too() {
    // Base64 of a known hash of the letter a.
    let hashed = "JDJhJDA2JG0wQ3JoSG0xMHFKM2xYUlkuNXpER08zclMyS2RlZVdMdUdtc2ZHbE1mT3hpaDU4VllWZnhl";
    let f = with_jane(true, hashed).await;
    bearer_of(&f, jane("a")).await;
    for wrong in ["b", hashed, ""] {
        assert_eq!(f.login(jane(wrong)).await.code(), "LS-LOGIN-FAILED");
    }
    let body = json!({ "login": "dana", "password": PASSWORD });
    assert_eq!(f.login(body).await.code(), "LS-LOGIN-FAILED");
}

#[tokio::test]
async fn the_password_is_changed_in_the_configuration_alone() {
    let f = with_jane(false, JANE).await;
    let bearer = bearer_of(&f, jane(JANE)).await;
    for current in [json!(JANE), json!("wrong"), Value::Null] {
        let body = json!({ "current": current, "new": OTHER });
        let answer = f.by(&bearer, "POST", "/me/password", &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (409, "LS-FIXED-USER".to_owned())
        );
    }
    let answer = f
        .post("/api/v1/users/jane/reset-password", &json!({}))
        .await;
    assert_eq!(answer.code(), "LS-FIXED-USER", "{}", answer.text());
    let path = "/api/v1/users/jane/need-password-change";
    let body = json!({ "need_password_change": true }).to_string();
    let headers = [("content-type", "application/json")];
    let answer = f.send("PUT", path, &headers, Body::from(body)).await;
    assert_eq!(answer.code(), "LS-FIXED-USER", "{}", answer.text());
    bearer_of(&f, jane(JANE)).await;
}

#[tokio::test]
async fn codes_and_throttles_hold_for_them_too() {
    let f = with_jane(false, JANE).await;
    let bearer = bearer_of(&f, jane(JANE)).await;
    let offer = |password: &str| json!({ "password": password });
    let refused = f.by(&bearer, "POST", "/me/totp", &offer("wrong")).await;
    assert_eq!(refused.code(), "LS-REAUTH");
    let offered = f.by(&bearer, "POST", "/me/totp", &offer(JANE)).await;
    assert_eq!(offered.status, 200, "{}", offered.text());
    let stored = f.app.engine.read(|state, _| {
        let jane = state.user_of_name("jane").unwrap();
        jane.totp.as_ref().unwrap().secret.secret().unwrap().clone()
    });
    let secret = stored.await.unwrap();
    let code = |ahead: i64| secret.code_at(step(wall_clock()) + ahead);
    let body = json!({ "code": code(0) });
    let answer = f.by(&bearer, "POST", "/me/totp/activate", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(f.login(jane(JANE)).await.code(), "LS-TOTP-REQUIRED");
    let mut with_code = jane(JANE);
    with_code["totp"] = json!(code(1));
    bearer_of(&f, with_code).await;
    for _ in 0..10 {
        assert_eq!(f.login(jane("wrong")).await.code(), "LS-LOGIN-FAILED");
    }
    let answer = f.login(jane(JANE)).await;
    assert_eq!(answer.code(), "LS-LOGIN-THROTTLED");
}
