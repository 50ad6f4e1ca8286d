//! What acts when the configuration is read again or a setting is stored, key by key.

use super::{Answer, Fixture, ready};
use crate::cluster;
use axum::body::Body;
use serde_json::{Value, json};

/// Writes the file and has it read again.
async fn reload(f: &Fixture, text: &str) -> Answer {
    std::fs::write(f.dir.path().join("conf/all.toml"), text).unwrap();
    f.post("/api/v1/settings/reload", &json!({})).await
}

/// The same, and it is taken: nothing of it waits for a restart.
async fn reloaded(f: &Fixture, text: &str) {
    let told = reload(f, text).await;
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!(told.json()["pending_restart"], json!([]));
}

/// Stores settings.
async fn store(f: &Fixture, values: Value) {
    let body = Body::from(json!({ "values": values }).to_string());
    let headers = [("content-type", "application/json"), ("if-match", "*")];
    let told = f.send("PATCH", "/api/v1/settings", &headers, body).await;
    assert_eq!(told.status, 200, "{}", told.text());
}

async fn login(f: &Fixture, username: &str, password: &str) -> u16 {
    let body = json!({ "login": username, "password": password }).to_string();
    let headers = [("content-type", "application/json"), ("authorization", "")];
    let answer = f.send("POST", "/api/v1/auth/login", &headers, Body::from(body));
    answer.await.status.as_u16()
}

#[tokio::test]
async fn people_of_the_configuration_are_read_again() {
    let f = ready().await;
    f.start(None).await; // makes the domain `default`
    let users = |list: &str| {
        format!(
            "[daemon.auth.fixed_users]\nenabled = true\nusers = [{list}]\n[services.sessions]\nadmin_exec = true\n"
        )
    };
    let jane = |password: &str| format!("{{ username = \"jane\", password = \"{password}\" }}");
    reloaded(&f, &users(&jane("abcdef1!"))).await;
    assert_eq!(login(&f, "jane", "abcdef1!").await, 200);
    let methods = f.get("/api/v1/auth/methods").await.json();
    assert_eq!(methods["fixed_users_only"], true);
    reloaded(&f, &users(&jane("ghijkl2!"))).await;
    assert_eq!(login(&f, "jane", "abcdef1!").await, 401);
    assert_eq!(login(&f, "jane", "ghijkl2!").await, 200);
    // What is wrong with one of them refuses all that was read.
    let wrong = "{ username = \"joe\", password = \"x\", domain = \"nowhere\" }";
    let text = users(wrong).replace("admin_exec = true", "admin_exec = false");
    let no = reload(&f, &text).await;
    assert_eq!(
        (no.status.as_u16(), no.code().as_str()),
        (422, "LS-SETTING")
    );
    assert!(
        no.text()
            .contains("daemon.auth.fixed_users.users[0].domain: "),
        "{}",
        no.text()
    );
    assert!(f.app.rights.get().admin_exec);
    assert_eq!(login(&f, "jane", "ghijkl2!").await, 200);
    // Who left the list is switched off.
    reloaded(
        &f,
        &users("{ username = \"joe\", password = \"abcdef1!\" }"),
    )
    .await;
    assert_eq!(login(&f, "jane", "ghijkl2!").await, 401);
    let shown = f.get("/api/v1/users/jane").await.json();
    assert_eq!(shown["status"], "inactive");
    assert_eq!(login(&f, "joe", "abcdef1!").await, 200);
    let records = f.get("/api/v1/audit?operation=user.status").await.json();
    assert_eq!(records["items"][0]["target"]["name"], "jane");
    // Others log in by passwords again.
    reloaded(&f, "").await;
    let methods = f.get("/api/v1/auth/methods").await.json();
    assert_eq!(methods["fixed_users_only"], false);
    assert_eq!(login(&f, "joe", "abcdef1!").await, 401);
}

#[tokio::test]
async fn another_address_for_people_is_told_at_once() {
    let f = ready().await;
    assert_eq!(f.app.browsers.host("x").unwrap(), "gpu.lab:7422");
    reloaded(&f, "[daemon]\npublic_url = \"https://two.lab/\"\n").await;
    assert_eq!(f.app.address(), "https://two.lab");
    assert_eq!(f.app.browsers.host("x").unwrap(), "two.lab:7422");
    let problem = f.get("/api/v1/users/nobody").await.json();
    let kind = problem["type"].as_str().unwrap();
    assert!(kind.starts_with("https://two.lab/"), "{kind}");
    // Where nobody chose one it is made from the name of the machine.
    reloaded(&f, "").await;
    assert_eq!(f.app.address(), "https://test:7420");
}

#[tokio::test]
async fn agents_are_told_of_another_pace_and_a_bad_one_is_refused() {
    let f = ready().await;
    let watch = f.app.settings.watch();
    let mut terms = cluster::picked(watch, cluster::terms);
    let days = cluster::picked(f.app.settings.watch(), cluster::certificate_days);
    let first = terms.borrow_and_update().clone();
    assert_eq!((first.heartbeat_ms, first.lost_after_ms), (2000, 15_000));
    assert_eq!(*days.borrow(), 30);
    reloaded(
        &f,
        "[daemon.agents]\nheartbeat_s = 1\nlost_after_s = 5\ncertificate_days = 7\n",
    )
    .await;
    terms.changed().await.unwrap();
    let told = terms.borrow_and_update().clone();
    assert_eq!((told.heartbeat_ms, told.lost_after_ms), (1000, 5000));
    for (text, line) in [
        ("[daemon.agents]\nheartbeat_s = 4\n", "all.toml:2"),
        (
            "[daemon.agents]\nheartbeat_s = 4\nlost_after_s = 19\n",
            "all.toml:3",
        ),
    ] {
        let no = reload(&f, text).await;
        assert_eq!(no.status, 422);
        let told = no.text();
        assert!(
            told.contains(line) && told.contains("five heartbeats"),
            "{told}"
        );
    }
    let now = f.app.settings.now();
    assert_eq!(now.config.daemon.agents.heartbeat_s, 1);
}

#[tokio::test]
async fn tokens_and_groups_that_do_not_say_follow_the_configuration() {
    let f = ready().await;
    let life = async || {
        let made = f.post("/api/v1/join-tokens", &json!({})).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let made = made.json();
        let at = |key: &str| {
            let text = made[key].as_str().unwrap().to_owned();
            text.parse::<longshore_common::time::Timestamp>().unwrap().0
        };
        (at("expires_at") - at("created_at")) / 1000
    };
    assert_eq!(life().await, 86_400);
    store(&f, json!({ "daemon.agents.join_token_ttl_s": 60 })).await;
    assert_eq!(life().await, 60);
    reloaded(&f, "[daemon.agents]\ndeclare_lost_s = 300\n").await;
    let made = f
        .post("/api/v1/resource-groups", &json!({ "name": "new" }))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["declare_lost_s"], 300);
}

#[tokio::test]
async fn the_throttle_of_logins_follows_the_file() {
    let f = ready().await;
    for _ in 0..2 {
        assert_eq!(login(&f, "dana", "wrong").await, 401);
    }
    reloaded(
        &f,
        "[daemon.auth.throttle]\nfailures = 3\nblock_s = \"2m\"\n",
    )
    .await;
    // Failures from before count.
    assert_eq!(login(&f, "dana", "wrong").await, 401);
    let body = json!({ "login": "dana", "password": "wrong" }).to_string();
    let headers = [("content-type", "application/json"), ("authorization", "")];
    let no = f.send("POST", "/api/v1/auth/login", &headers, Body::from(body));
    let no = no.await;
    assert_eq!(no.code(), "LS-LOGIN-THROTTLED");
    let wait: u64 = no.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((60..=120).contains(&wait), "{wait}");
    let no = reload(&f, "[daemon.auth.throttle]\nfailures = 0\n").await;
    assert_eq!(no.status, 422);
}

#[tokio::test]
async fn a_stop_without_a_grace_gets_that_of_the_settings() {
    let f = ready().await;
    assert_eq!(f.submit(super::batch()).await.status, 201);
    f.runs("s-1").await;
    let before = f
        .app
        .engine
        .read(|state, _| state.agents[&super::AGENT].generation);
    let before = before.await.unwrap();
    store(
        &f,
        json!({
            "services.sessions.stop_grace_s": 7,
            "services.sessions.warn_before_s": [600, 60],
        }),
    )
    .await;
    // The agent, which stops and warns by itself, is told.
    let told = f.app.engine.read(|state, now| {
        let entries = longshore_core::model::desired_entries(state, super::AGENT, now);
        let limits = entries[0].limits.clone();
        (state.agents[&super::AGENT].generation, limits)
    });
    let (after, limits) = told.await.unwrap();
    assert!(after > before);
    assert_eq!(
        (limits.grace_s, limits.warn_s.as_slice()),
        (7, [600, 60].as_slice())
    );
    let ended = f.post("/api/v1/sessions/s-1/terminate", &json!({})).await;
    assert_eq!(ended.status, 200, "{}", ended.text());
    let grace = f.app.engine.read(|state, _| {
        let id = "s-1".parse().unwrap();
        state.sessions[&id].stop.as_ref().map(|stop| stop.grace_s)
    });
    assert_eq!(grace.await.unwrap(), Some(7));
}

#[tokio::test]
async fn owners_are_hidden_from_others_when_the_settings_say_so() {
    let mut f = ready().await;
    f.start(None).await;
    let body = json!({ "command": ["true"], "slots": { "cuda.device": "1" } });
    assert_eq!(f.submit(body.clone()).await.status, 201);
    // One of two devices is taken: this waits.
    let mut both = body;
    both["slots"]["cuda.device"] = json!("2");
    assert_eq!(f.submit(both).await.status, 201);
    let made = f
        .post("/api/v1/users", &json!({ "email": "eve@lab.example" }))
        .await
        .json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let eve = format!("Bearer {}.{}", text("access_key"), text("secret_key"));
    let dana = f.bearer.replace(eve.clone()).unwrap();
    let seen = async |f: &Fixture| {
        let devices = f.get("/api/v1/devices").await.json();
        let holder = devices["items"][0]["holders"][0].clone();
        let waiting = f.get("/api/v1/resource-groups/default/pending").await;
        let waiting = waiting.json()["items"][0].clone();
        (holder, waiting)
    };
    let (holder, waiting) = seen(&f).await;
    assert_eq!(holder["owner_name"], "dana");
    assert_eq!(
        holder["session"], "",
        "which session it is stays with its owner"
    );
    assert_eq!(waiting["owner_name"], "dana");
    f.bearer = Some(dana);
    store(
        &f,
        json!({
            "services.organization.hide_owners": true,
            "services.organization.name": "Lab 7",
        }),
    )
    .await;
    let (holder, waiting) = seen(&f).await;
    assert_eq!(
        (&holder["owner_name"], &waiting["owner_name"]),
        (&json!("dana"), &json!("dana"))
    );
    f.bearer = Some(eve);
    let (holder, waiting) = seen(&f).await;
    assert_eq!(
        (&holder["owner_name"], &waiting["owner_name"]),
        (&json!(""), &json!(""))
    );
    assert_eq!(waiting["id"], "s-2");
    let methods = f.get("/api/v1/auth/methods").await.json();
    assert_eq!(methods["organization"], "Lab 7");
}

/// What was logged.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn of_requests(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| line.contains(" access: "));
        lines.map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn each_request_is_a_line_of_the_log_unless_the_settings_say_otherwise() {
    let f = ready().await;
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let me = f.get("/api/v1/me").await.json();
    f.send(
        "GET",
        "/api/v1/sessions?limit=7",
        &[("x-request-id", "seen-here")],
        Body::empty(),
    )
    .await;
    let body = json!({ "login": "dana", "password": "hunter2" });
    f.post("/api/v1/auth/login", &body).await;
    let seen = lines.of_requests();
    assert_eq!(seen.len(), 3, "{seen:?}");
    let caller = format!("caller={}", me["id"].as_str().unwrap());
    for part in [
        "request_id=seen-here",
        "method=GET",
        "path=/api/v1/sessions ",
        "status=200",
        "took_ms=",
        &caller,
    ] {
        assert!(seen[1].contains(part), "{part} in {}", seen[1]);
    }
    let all = seen.concat();
    let secret = f.bearer_text();
    let secret = secret.rsplit('.').next().unwrap();
    for hidden in ["limit=7", "hunter2", secret] {
        assert!(!all.contains(hidden), "{hidden} in {all}");
    }
    store(&f, json!({ "logging.access_log": false })).await;
    let before = lines.of_requests().len();
    f.get("/api/v1/me").await;
    assert_eq!(lines.of_requests().len(), before);
}
