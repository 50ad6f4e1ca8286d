//! Telling people, from what happens to a receiver.

use super::super::tests::{Fixture, batch, ready};
use super::keep_sending;
use axum::body::Body;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const MINE: &str = "/api/v1/me/notifications";

/// What a receiver was sent: headers and body of each call.
type Got = Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>;

/// A receiver on loopback, which answers 500 while it is told to.
async fn receiver() -> (String, Got, Arc<AtomicBool>) {
    let (got, down) = (Got::default(), Arc::new(AtomicBool::new(false)));
    let (kept, is_down) = (Arc::clone(&got), Arc::clone(&down));
    let take = move |headers: HeaderMap, body: axum::body::Bytes| {
        let (kept, is_down) = (Arc::clone(&kept), Arc::clone(&is_down));
        async move {
            kept.lock().unwrap().push((headers, body.to_vec()));
            match is_down.load(Ordering::SeqCst) {
                true => axum::http::StatusCode::INTERNAL_SERVER_ERROR,
                false => axum::http::StatusCode::NO_CONTENT,
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().route("/hook", axum::routing::post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/hook"), got, down)
}

async fn sending() -> Fixture {
    let _ = rustls::crypto::ring::default_provider().install_default(); // once is enough
    let f = ready().await;
    tokio::spawn(keep_sending(f.app.clone(), f.app.stopping.clone()));
    f
}

/// Looks every now and then whether something has come, for as long as two tries may take.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, found)
        .await
        .unwrap_or_else(|_| panic!("{what}: never"))
}

async fn put(f: &Fixture, path: &str, body: Value) -> (u16, Value) {
    let headers = [("content-type", "application/json")];
    let answer = f
        .send("PUT", path, &headers, Body::from(body.to_string()))
        .await;
    (answer.status.as_u16(), answer.json())
}

async fn bodies(got: &Got, at_least: usize) -> Vec<Value> {
    until("the receiver is called", async || {
        let got = got.lock().unwrap();
        let all = got.iter().map(|(_, b)| serde_json::from_slice(b).unwrap());
        let all: Vec<Value> = all.collect();
        (all.len() >= at_least).then_some(all)
    })
    .await
}

async fn notes(f: &Fixture, state: &str) -> Vec<Value> {
    let answer = f.get(&format!("/api/v1/notifications?state={state}")).await;
    let page = answer.json();
    page["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_choice_is_read_back_and_what_is_wrong_is_named() {
    let f = sending().await;
    let usual = f.get(MINE).await.json();
    assert_eq!(usual["mail"], false, "mail is not set up: {usual}");
    let of = |shown: &Value, event: &str| {
        let rows = shown["events"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["event"] == event).unwrap()
    };
    assert_eq!(of(&usual, "warn")["mail"], true);
    assert_eq!(of(&usual, "start")["mail"], false);
    let chosen =
        json!({ "mail": ["start"], "webhook": ["end"], "webhook_url": "https://desk.lab/x" });
    let rehearsed = put(&f, &format!("{MINE}?dry_run=true"), chosen.clone()).await;
    assert_eq!(of(&rehearsed.1, "warn")["mail"], true, "nothing is stored");
    let (status, shown) = put(&f, MINE, chosen).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(of(&shown, "start")["mail"], true);
    assert_eq!(of(&shown, "end")["webhook"], true);
    assert_eq!(of(&shown, "warn")["webhook"], false);
    assert_eq!(shown["signing_secret"].as_str().map(str::len), Some(64));
    let (_, other) = put(&f, MINE, json!({ "webhook_url": "https://desk.lab/y" })).await;
    assert_ne!(other["signing_secret"], shown["signing_secret"]);
    for (body, pointer) in [
        (json!({ "mail": ["nothing"] }), "/mail"),
        (json!({ "webhook": ["test"] }), "/webhook"),
        (json!({ "webhook_url": "ftp://desk.lab/" }), "/webhook_url"),
        (
            json!({ "webhook_url": "https://u:p@desk.lab/" }),
            "/webhook_url",
        ),
    ] {
        let (status, answer) = put(&f, MINE, body).await;
        assert_eq!(
            (status, &answer["errors"][0]["pointer"]),
            (422, &json!(pointer)),
            "{answer}"
        );
    }
    let audit = f.get("/api/v1/audit?operation=me.notifications").await;
    let text = audit.text();
    assert!(
        text.contains("\"url\":true") && !text.contains("desk.lab"),
        "{text}"
    );
}

#[tokio::test]
async fn a_call_is_signed_and_one_that_fails_is_made_again() {
    let f = sending().await;
    let (url, got, down) = receiver().await;
    down.store(true, Ordering::SeqCst);
    let body = json!({ "webhook": ["start", "end"], "webhook_url": url });
    let (_, shown) = put(&f, MINE, body).await;
    assert_eq!(f.submit(batch()).await.status, 201);
    f.runs("s-1").await;
    let first = bodies(&got, 1).await.remove(0);
    assert_eq!(
        (&first["event"], &first["session"]),
        (&json!("start"), &json!("s-1"))
    );
    let waiting = until("the failure is told", async || {
        let waiting = notes(&f, "waiting").await;
        waiting.into_iter().find(|note| note["tries"] == 1)
    })
    .await;
    assert_eq!(waiting["error"], "the answer was 500", "{waiting}");
    assert_eq!(waiting["id"], first["id"]);
    let (headers, body) = got.lock().unwrap()[0].clone();
    let sent = headers["longshore-signature"].to_str().unwrap();
    let at = sent.split(['=', ',']).nth(1).unwrap();
    let secret = shown["signing_secret"].as_str().unwrap();
    let body = String::from_utf8(body).unwrap();
    let right = super::super::actions::signature(secret, at.parse().unwrap(), &body);
    assert_eq!(sent, right);
    assert_eq!(headers["longshore-delivery"], first["id"].as_str().unwrap());
    // The receiver is back before the next try, which comes within ten seconds.
    down.store(false, Ordering::SeqCst);
    let again = bodies(&got, 2).await.remove(1);
    assert_eq!(again["id"], first["id"], "the same note");
    until("it is said to be sent", async || {
        let sent = notes(&f, "sent").await;
        (sent.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn webhooks_of_the_configuration_are_called_for_what_they_name() {
    let f = sending().await;
    let (url, got, _) = receiver().await;
    let file = f.dir.path().join("conf/all.toml");
    let text = format!(
        "[daemon.egress]\nallow = [\"127.0.0.1\"]\n[[services.notify.webhooks]]\nname = \"desk\"\nurl = \"{url}\"\nevents = [\"agent-lost\"]\nsecret = \"s3cret-of-desk\"\nheaders = {{ \"X-Token\" = \"t0ken\" }}\n"
    );
    std::fs::write(file, text).unwrap();
    let answer = f.post("/api/v1/settings/reload", &json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.text().contains("s3cret-of-desk") && !answer.text().contains("t0ken"));
    let channels = f.get("/api/v1/notification-channels").await.json();
    assert_eq!(channels["items"][0]["host"], "127.0.0.1", "{channels}");
    assert_eq!(channels["items"][0]["signed"], true);
    f.loses_its_agent().await;
    let told = bodies(&got, 1).await.remove(0);
    assert_eq!(told["event"], "agent-lost");
    assert_eq!(told["agent"]["name"], "gpu01", "{told}");
    assert_eq!(got.lock().unwrap()[0].0["x-token"], "t0ken");
    let test = format!("{MINE}/test");
    let answer = f.post(&test, &json!({ "channel": "desk" })).await;
    assert_eq!(answer.json()["queued"], 1);
    assert_eq!(bodies(&got, 2).await[1]["event"], "test");
    let unknown = f.post(&test, &json!({ "channel": "nobody" })).await;
    assert_eq!(unknown.code(), "LS-NOT-FOUND");
    assert_eq!(f.post(&test, &json!({})).await.code(), "LS-STATE");
    let all = f.get("/api/v1/notifications?scope=all").await.json();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(all["items"][0]["to"], "desk");
}
