//! Who is let in, with what, and what refusals look like.

use super::*;

#[tokio::test]
async fn set_up_happens_once() {
    let mut f = fixture(None, true).await;
    for operation in OPERATIONS.iter().filter(|o| !o.is_open()) {
        let answer = f
            .send(
                operation.method.as_str(),
                &example(operation),
                &[],
                Body::empty(),
            )
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (503, "LS-SETUP-REQUIRED"),
            "{}",
            operation.id
        );
    }
    assert_eq!(f.get("/nowhere").await.code(), "LS-SETUP-REQUIRED");
    for open in [
        "/healthz",
        "/readyz",
        "/version",
        "/ca.pem",
        "/help/LS-BUSY",
        "/api/v1/openapi.json",
    ] {
        assert_eq!(f.get(open).await.status, 200, "{open}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let file = f.dir.path().join("setup-token");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let wrong = f
        .post("/api/v1/setup", &json!({ "token": "x", "email": "a@b" }))
        .await;
    assert_eq!(wrong.code(), "LS-LINK-GONE");
    let token = f.setup_token();
    let wrong = f
        .post(
            "/api/v1/setup",
            &json!({ "token": token, "email": "nobody", "username": "-" }),
        )
        .await;
    assert_eq!(wrong.code(), "LS-INVALID");
    let pointers: Vec<String> = wrong.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(pointers, ["/email", "/username"]);
    let keys = f.set_up().await;
    assert_eq!(keys["username"], "dana");
    assert!(!file.exists());
    let again = f
        .post("/api/v1/setup", &json!({ "token": token, "email": "a@b" }))
        .await;
    assert_eq!(
        (again.status.as_u16(), again.code().as_str()),
        (404, "LS-NOT-FOUND")
    );
    let me = f.get("/api/v1/me").await.json();
    assert_eq!(
        (me["email"].as_str(), me["role"].as_str()),
        (Some("dana@lab.example"), Some("superadmin"))
    );
    assert!(me.get("secret_key").is_none());
}

#[tokio::test]
async fn every_route_has_one_row_and_wants_credentials() {
    let f = ready().await;
    let (mut ids, mut routes) = (BTreeSet::new(), BTreeSet::new());
    for operation in OPERATIONS {
        assert!(ids.insert(operation.id), "{} stands twice", operation.id);
        assert!(
            routes.insert((operation.path, operation.method.as_str())),
            "{} stands twice",
            operation.path
        );
        assert!(operation.row.is_some() && !operation.summary.is_empty());
        for code in operation.codes {
            assert_eq!(
                errors::find(code).code,
                *code,
                "{} names a code that does not exist",
                operation.id
            );
        }
        if operation.is_open() {
            continue;
        }
        let (method, path) = (operation.method.as_str(), example(operation));
        let none = f
            .send(method, &path, &[("authorization", "")], Body::empty())
            .await;
        assert_eq!(
            (none.status.as_u16(), none.code().as_str()),
            (401, "LS-AUTH-REQUIRED"),
            "{}",
            operation.id
        );
        assert!(none.header("www-authenticate").starts_with("Bearer"));
        for bad in ["Bearer x.y", "Bearer x", "Basic eDp5", "Digest x", "é"] {
            let answer = f
                .send(method, &path, &[("authorization", bad)], Body::empty())
                .await;
            assert_eq!(answer.code(), "LS-AUTH-FAILED", "{} {bad}", operation.id);
        }
        // Nothing is told about parameters to one who has not proved to be somebody.
        let none = f
            .send(
                method,
                &format!("{path}?nonsense=1"),
                &[("authorization", "")],
                Body::empty(),
            )
            .await;
        assert_eq!(none.status, 401);
        let known = f.send(method, &path, &[], Body::empty()).await;
        assert_ne!(known.status, 401, "{}", operation.id);
    }
}

#[tokio::test]
async fn basic_credentials_and_wrong_secrets() {
    use base64::Engine as _;
    let f = ready().await;
    let pair = f
        .bearer
        .clone()
        .unwrap()
        .strip_prefix("Bearer ")
        .unwrap()
        .to_owned();
    let (access, secret) = pair.split_once('.').unwrap();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{access}:{secret}"));
    assert_eq!(
        f.send(
            "GET",
            "/api/v1/me",
            &[("authorization", &format!("Basic {basic}"))],
            Body::empty()
        )
        .await
        .status,
        200
    );
    let wrong = format!("Bearer {access}.{}x", &secret[..secret.len() - 1]);
    let answer = f
        .send(
            "GET",
            "/api/v1/me",
            &[("authorization", &wrong)],
            Body::empty(),
        )
        .await;
    assert_eq!(answer.code(), "LS-AUTH-FAILED");
    let answer = f.get(&format!("/api/v1/me?access_key={access}")).await;
    assert_eq!(answer.code(), "LS-CREDENTIALS-IN-URL");
    assert!(!answer.text().contains(access));
}

#[tokio::test]
async fn failures_have_one_shape() {
    let f = ready().await;
    assert_eq!(f.get("/api/v1/nothing").await.code(), "LS-ROUTE");
    let answer = f
        .send("DELETE", "/api/v1/sessions", &[], Body::empty())
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (405, "LS-METHOD")
    );
    assert_eq!(answer.header("allow"), "GET, POST");
    let json_type = ("content-type", "application/json");
    let path = "/api/v1/sessions";
    let answer = f
        .send("POST", path, &[json_type], Body::from("{\n\"a\""))
        .await;
    assert_eq!(answer.code(), "LS-SYNTAX");
    assert!(answer.text().contains("line 2"), "{}", answer.text());
    assert_eq!(
        f.send("POST", path, &[], Body::from("{}")).await.code(),
        "LS-MEDIA-TYPE"
    );
    let answer = f
        .send(
            "POST",
            path,
            &[json_type, ("content-encoding", "gzip")],
            Body::from("{}"),
        )
        .await;
    assert_eq!(answer.code(), "LS-MEDIA-TYPE");
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(
        f.send("POST", path, &[json_type], Body::from(large))
            .await
            .code(),
        "LS-TOO-LARGE"
    );
    let answer = f.submit(json!({ "comand": ["x"] })).await;
    assert_eq!(answer.code(), "LS-UNKNOWN-FIELD");
    assert!(
        answer.text().contains("did you mean \\\"command\\\""),
        "{}",
        answer.text()
    );
    let answer = f
        .submit(json!({ "command": "x", "slots": { "cpu": 1 }, "tty": 3 }))
        .await;
    assert_eq!(answer.code(), "LS-INVALID");
    assert_eq!(answer.json()["errors"].as_array().unwrap().len(), 3);
    let answer = f
        .submit(json!({ "command": ["x"], "slots": { "cuda.device": "9" } }))
        .await;
    assert_eq!(answer.code(), "LS-FIT-NEVER");
    assert_eq!(answer.json()["limit"]["limit"], "2");
    let answer = f.get("/api/v1/sessions?stat=RUNNING").await;
    assert_eq!(answer.code(), "LS-PARAMETER");
    for bad in [
        "limit=0",
        "limit=501",
        "limit=x",
        "state=NO",
        "scope=x",
        "limit=1&limit=2",
    ] {
        assert_eq!(
            f.get(&format!("/api/v1/sessions?{bad}")).await.code(),
            "LS-PARAMETER",
            "{bad}"
        );
    }
    assert_eq!(
        f.get("/api/v1/sessions?cursor=AAAA").await.code(),
        "LS-CURSOR"
    );
    for missing in [
        "/api/v1/sessions/s-99",
        "/api/v1/sessions/nobody",
        "/api/v1/sessions/s-99/history",
        "/api/v1/agents/x",
        "/api/v1/resource-groups/x",
        "/api/v1/sessions/s-99/logs",
        "/api/v1/sessions/s-99/explain",
        "/help/LS-NO",
        "/api/v1/sessions/%FF",
    ] {
        assert_eq!(f.get(missing).await.code(), "LS-NOT-FOUND", "{missing}");
    }
    assert_eq!(
        f.post("/api/v1/sessions/s-99/terminate", &json!({}))
            .await
            .code(),
        "LS-NOT-FOUND"
    );
    let answer = f
        .send(
            "GET",
            "/api/v1/me",
            &[("x-request-id", "mine-1")],
            Body::empty(),
        )
        .await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert_eq!(
        answer.header("longshore-version"),
        env!("CARGO_PKG_VERSION")
    );
    let answer = f
        .send(
            "GET",
            "/api/v1/me",
            &[("x-request-id", "a b")],
            Body::empty(),
        )
        .await;
    assert!(answer.header("x-request-id").starts_with("req_"));
}

#[tokio::test]
async fn a_panic_ends_one_request() {
    let f = ready().await;
    let broken = Router::new()
        .route(
            "/broken",
            axum::routing::get(|| async { panic!("a test") as () }),
        )
        .layer(from_fn_with_state(f.app.clone(), outermost));
    let f = Fixture {
        router: broken,
        ..f
    };
    let answer = f.get("/broken").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (500, "LS-INTERNAL")
    );
    assert!(!is_guarded());
}

/// A request is dropped where its connection breaks; what it has ordered is done by then.
#[tokio::test]
async fn a_key_that_was_switched_off_is_refused_although_the_caller_hung_up() {
    let f = ready().await;
    f.start(None).await;
    let made = f.post("/api/v1/keypairs", &json!({ "user": "dana" })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let pair = made.json();
    let key = pair["access_key"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {key}.{}", pair["secret_key"].as_str().unwrap());
    let good = f.app.identity.authenticate(Some(&bearer), wall_clock());
    assert!(good.is_ok(), "{good:?}");

    let path = format!("/api/v1/keypairs/{key}/deactivate");
    let body = json!({});
    let mut request = Box::pin(f.post(&path, &body));
    loop {
        assert!(poll(&mut request).await.is_pending(), "it heard");
        let key = key.clone();
        let look = move |state: &model::State, _| state.keypairs[&key].is_active();
        if !f.app.engine.read(look).await.unwrap() {
            break;
        }
    }
    drop(request); // it has not heard of the commit
    let denied = f.app.identity.authenticate(Some(&bearer), wall_clock());
    assert_eq!(denied.unwrap_err(), Denied::Inactive);
}

/// One that is the first hears of nothing, and is one nevertheless.
#[tokio::test]
async fn the_first_administrator_is_known_although_the_caller_hung_up() {
    let f = fixture(None, true).await;
    let body = json!({ "token": f.setup_token(), "email": "dana@lab.example" });
    let mut request = Box::pin(f.post("/api/v1/setup", &body));
    loop {
        assert!(poll(&mut request).await.is_pending(), "answered");
        let look = |state: &model::State, _| state.users.len();
        if f.app.engine.read(look).await.unwrap() == 1 {
            break;
        }
    }
    drop(request);
    assert!(f.app.identity.is_set_up());
}

#[tokio::test]
async fn so_many_requests_and_no_more() {
    let mut f = limited(None, true, Vec::new(), (3, 4)).await;
    f.set_up().await; // one of the four of this client
    let left = |answer: &Answer| {
        let header = |name: &str| answer.header(name).to_owned();
        let window = header("x-ratelimit-window");
        assert_eq!(window, "900", "{}", answer.text());
        (header("x-ratelimit-limit"), header("x-ratelimit-remaining"))
    };
    let two = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(left(&f.get("/api/v1/me").await), two("3", "2"));
    assert_eq!(
        left(&f.get("/api/v1/agents?nonsense=1").await),
        two("3", "1")
    );
    assert_eq!(f.get("/api/v1/me").await.status, 200);
    let refused = f.get("/api/v1/me").await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (429, "LS-RATE-LIMIT")
    );
    assert_eq!(left(&refused), two("3", "0"));
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 890);
    // Wrong credentials count for the address; right ones are not refused for them.
    let wrong = [("authorization", "Bearer LSX.wrong")];
    for _ in 0..3 {
        let answer = f.send("GET", "/api/v1/me", &wrong, Body::empty()).await;
        assert_eq!(answer.code(), "LS-AUTH-FAILED");
    }
    let answer = f.send("GET", "/api/v1/me", &wrong, Body::empty()).await;
    assert_eq!(answer.code(), "LS-RATE-LIMIT");
    assert_eq!(f.get("/api/v1/me").await.code(), "LS-RATE-LIMIT");
    // Health is never counted.
    assert_eq!(f.get("/healthz").await.status, 200);
}

/// A keypair that is good for one project works there, and makes none that is good for more.
#[tokio::test]
async fn a_bound_keypair_changes_nothing_about_its_account() {
    let mut f = ready().await;
    f.start(None).await;
    let order = json!({ "project": "default", "label": "ci" });
    let mine = f.get("/api/v1/me").await.json()["id"].clone();
    let path = format!(
        "/api/v1/projects/default/members/{}",
        mine.as_str().unwrap()
    );
    let joined = f
        .send(
            "PUT",
            &path,
            &[("content-type", "application/json")],
            Body::from("{}"),
        )
        .await;
    assert!(joined.status.is_success(), "{}", joined.text());
    let made = f.post("/api/v1/keypairs", &order).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let pair = made.json();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    f.bearer = Some(format!(
        "Bearer {}.{}",
        text("access_key"),
        text("secret_key")
    ));
    assert_eq!(f.submit(batch()).await.status, 201);
    for (path, body) in [
        ("keypairs", json!({})),
        ("me/password", json!({ "new": "correct horse 1!" })),
        ("users", json!({ "email": "x@lab.example" })),
    ] {
        let answer = f.post(&format!("/api/v1/{path}"), &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (403, "LS-FORBIDDEN"),
            "{path}"
        );
    }
    // Although its owner is a superadmin, it sees what an ordinary member does.
    assert_eq!(f.get("/api/v1/join-tokens").await.code(), "LS-FORBIDDEN");
}
