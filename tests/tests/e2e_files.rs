//! Files of a session by the API: lists and archives, as its user, written aside and compared.

use longshore_tests::fixture::{AgentOptions, Cluster, until};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

struct Files {
    http: Client,
    url: String,
    bearer: String,
}

impl Files {
    async fn of(cluster: &Cluster, id: &str) -> Self {
        let ca = std::fs::read(cluster.data().join("ca.pem")).expect("there is an authority");
        let ca = reqwest::Certificate::from_pem(&ca).expect("it is a certificate");
        let http = Client::builder()
            .tls_certs_only([ca])
            .timeout(Duration::from_secs(60))
            .no_proxy()
            .build();
        let made = cluster.cli(&["key", "create", "-o", "json"]).await;
        let keys: Value = serde_json::from_str(&made.stdout).expect("it is JSON");
        let text = |name: &str| keys[name].as_str().expect("it is a text").to_owned();
        Self {
            http: http.expect("the settings are right"),
            url: format!("{}/files/v1/sessions/{id}", cluster.api.url()),
            bearer: format!("{}.{}", text("access_key"), text("secret_key")),
        }
    }

    async fn get(&self, query: &str) -> Response {
        let sent = self.http.get(format!("{}?{query}", self.url));
        let sent = sent.bearer_auth(&self.bearer).send().await;
        sent.unwrap_or_else(|error| panic!("{query}: {error:?}"))
    }

    async fn put(&self, path: &str, archive: Vec<u8>) -> (StatusCode, Value) {
        let url = format!("{}?path={path}", self.url);
        let sent = self.http.request(Method::PUT, url).body(archive);
        let sent = sent
            .bearer_auth(&self.bearer)
            .header("content-type", "application/x-tar")
            .send()
            .await
            .expect("it answers");
        let status = sent.status();
        (status, sent.json().await.expect("it is JSON"))
    }

    async fn list(&self, query: &str) -> Value {
        let answer = self.get(query).await;
        let status = answer.status();
        let value: Value = answer.json().await.expect("it is JSON");
        assert_eq!(status, StatusCode::OK, "{value}");
        value
    }
}

/// The tar of this machine.
fn tar(words: &[&str]) {
    let done = Command::new("tar").args(words).status().expect("tar runs");
    assert!(done.success(), "tar {words:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("it is text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_go_in_and_out_and_what_is_the_same_stays() {
    let cluster = Cluster::with_agent(AgentOptions::default()).await;
    let request = json!({"command": ["sleep", "600"], "slots": {"cpu": "1", "mem": "64M"}});
    let id = cluster.api.submit(&request).await.id;
    cluster.running(&id).await;
    let files = Files::of(&cluster, &id).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (from, archive) = (dir.path().join("from"), dir.path().join("a.tar"));
    std::fs::create_dir_all(from.join("sub")).expect("it can be made");
    // More than all buffers on the way hold together.
    let large: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(from.join("large"), &large).expect("it can be written");
    std::fs::write(from.join("sub/a b"), "one").expect("it can be written");
    std::os::unix::fs::symlink("large", from.join("link")).expect("it can be made");
    tar(&["-cf", text(&archive), "-C", text(&from), "."]);
    let bytes = std::fs::read(&archive).expect("it is there");

    let outcomes = |put: &Value| -> Vec<String> {
        let items = put["items"].as_array().expect("it is a list");
        let items = items.iter();
        items
            .map(|one| format!("{} {}", one["path"], one["outcome"]).replace('"', ""))
            .collect()
    };
    let (status, put) = files.put("/tmp/new", bytes.clone()).await;
    assert_eq!(status, StatusCode::OK, "{put}");
    assert_eq!(
        outcomes(&put),
        ["large copied", "link left", "sub/a b copied"]
    );
    assert_eq!(put["items"][0]["size_bytes"], json!(large.len()));
    let (_, again) = files.put("/tmp/new", bytes).await;
    assert_eq!(
        outcomes(&again),
        ["large same", "link left", "sub/a b same"]
    );
    assert_eq!(again["items"][0]["sha256"], put["items"][0]["sha256"]);

    let list = files.list("path=/tmp/new&hash=true").await;
    let names: Vec<&str> = list["items"]
        .as_array()
        .expect("it is a list")
        .iter()
        .map(|one| one["name"].as_str().expect("it is a text"))
        .collect();
    assert_eq!(names, ["large", "sub"], "nothing is left aside");
    assert_eq!(list["items"][0]["sha256"], put["items"][0]["sha256"]);
    assert_eq!(list["items"][1]["kind"], json!("folder"));
    let one = files.list("path=/tmp/new/large").await;
    assert_eq!(
        (&one["folder"], &one["items"][0]["size_bytes"]),
        (&json!(false), &json!(large.len()))
    );
    // As the session's user.
    let mine = cluster
        .cli(&["exec", &id, "--", "test", "-O", "/tmp/new/large"])
        .await;
    assert_eq!(mine.code, 0, "{mine:?}");

    let back = files.get("path=/tmp/new&format=tar").await;
    assert_eq!(back.status(), StatusCode::OK);
    assert_eq!(back.headers()["content-security-policy"], "sandbox");
    let back = back.bytes().await.expect("it comes whole");
    let (to, archive) = (dir.path().join("to"), dir.path().join("b.tar"));
    std::fs::create_dir(&to).expect("it can be made");
    std::fs::write(&archive, &back).expect("it can be written");
    tar(&["-xf", text(&archive), "-C", text(&to)]);
    assert!(std::fs::read(to.join("new/large")).expect("it is there") == large);
    let small = std::fs::read_to_string(to.join("new/sub/a b"));
    assert_eq!(small.expect("it is there"), "one");

    for (query, code) in [
        ("path=/nowhere", "LS-PATH"),
        ("path=/nowhere&format=tar", "LS-PATH"),
        ("path=", "LS-PARAMETER"),
    ] {
        let refused: Value = files.get(query).await.json().await.expect("it is JSON");
        assert_eq!(refused["code"], json!(code), "{refused}");
    }
    let (status, denied) = files.put("/etc/new", vec![0; 1024]).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{denied}");
    let (status, broken) = files.put("/tmp/new", b"no archive".to_vec()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{broken}");

    // An archive that breaks off leaves nothing behind, not even what had come whole.
    std::fs::write(dir.path().join("whole"), "whole").expect("it can be written");
    tar(&["-cf", text(&archive), "-C", text(dir.path()), "whole"]);
    let mut member = std::fs::read(&archive).expect("it is there");
    member.truncate(1024); // its header and its content
    let (break_off, gone) = tokio::sync::oneshot::channel::<()>();
    let half = futures_util::stream::unfold(Some((member, gone)), |next| async move {
        let (member, gone) = next?;
        if !member.is_empty() {
            return Some((Ok(member), Some((Vec::new(), gone))));
        }
        let _ = gone.await; // it is dropped
        Some((Err(std::io::Error::other("gone")), None))
    });
    let url = format!("{}?path=/tmp/half", files.url);
    let sent = files.http.put(url).bearer_auth(&files.bearer);
    let sent = sent.header("content-type", "application/x-tar");
    let sending = sent.body(reqwest::Body::wrap_stream(half)).send();
    let sending = tokio::spawn(sending);
    let prints = async |script: &str, wanted: &str| {
        let said = cluster.cli(&["exec", &id, "--", "sh", "-c", script]).await;
        (said.stdout.trim() == wanted).then_some(())
    };
    let soon = Duration::from_secs(20);
    until("the file is written aside", soon, async || {
        prints("cat /tmp/half/.longshore-files.*/whole", "whole").await
    })
    .await;
    drop(break_off);
    let sent = sending.await.expect("it does not panic");
    assert!(sent.is_err(), "its client is gone");
    until("nothing is left aside", soon, async || {
        prints("ls -A /tmp/half | wc -l", "0").await
    })
    .await;
}
