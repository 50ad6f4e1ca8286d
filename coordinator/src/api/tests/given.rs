//! Files and work keys that come with a request, and what a session does not get.

use super::{Fixture, ready};
use longshore_common::ids::SessionId;
use longshore_common::wire::Delivery;
use serde_json::{Value, json};

const MINE: &str = "/api/v1/me/vault";

async fn vault(f: &Fixture, content: &Value) {
    let body = json!({ "format": "json", "content": content.to_string(), "enabled": true });
    let saved = f.put(MINE, "*", &body).await;
    assert_eq!(saved.status, 200, "{}", saved.text());
}

async fn delivery(f: &Fixture, id: SessionId) -> Delivery {
    let given = f.app.vaults.deliver(&f.app.engine, id).await;
    given.unwrap()
}

fn config(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.config_json).unwrap()
}

#[tokio::test]
async fn a_request_stands_above_ones_vault() {
    let f = ready().await;
    vault(
        &f,
        &json!({
            "environment": { "A": "vault", "B": "vault" },
            "files": { "x": { "path": "/tmp/x", "contents": "vault" } },
            "agent": { "git": { "user": "vault", "host": "h" } },
        }),
    )
    .await;
    let made = f
        .submit(json!({
            "command": ["true"],
            "environment": { "A": "request" },
            "files": { "x": { "path": "/tmp/x", "contents": "hunter2", "mode": "0440" } },
            "config": { "agent": { "git": { "user": "request" } }, "environment": { "B": null } },
        }))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(!made.text().contains("hunter2"), "{}", made.text());
    let given = delivery(&f, SessionId(1)).await;
    assert_eq!(given.environment, [("A".to_owned(), "request".to_owned())]);
    let file = &given.files[0];
    assert_eq!(
        (file.contents.as_slice(), file.mode),
        (&b"hunter2"[..], 0o440)
    );
    assert_eq!(file.vault, None);
    assert_eq!(
        config(&given)["agent"]["git"],
        json!({ "user": "request", "host": "h" })
    );
    let kept = f.app.reader.given(SessionId(1)).await.unwrap().unwrap();
    assert!(!format!("{kept:?}").contains("hunter2"));
    let audit = f.get("/api/v1/audit").await.text();
    assert!(!audit.contains("hunter2"), "{audit}");
    // Without anything of the kind nothing is kept.
    f.submit(json!({ "command": ["true"] })).await;
    assert!(f.app.reader.given(SessionId(2)).await.unwrap().is_none());
}

#[tokio::test]
async fn tasks_have_what_their_array_was_given() {
    let f = ready().await;
    let made = f
        .submit(
            json!({ "command": ["true"], "array": { "range": "0-1" }, "config": { "note": 7 } }),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let given = delivery(&f, SessionId(1).task(1)).await;
    assert_eq!(config(&given), json!({ "note": 7 }));
}

#[tokio::test]
async fn what_is_wrong_with_it_has_its_place() {
    let f = ready().await;
    for (body, code, pointer) in [
        (
            json!({ "files": { "a/b": { "path": "/etc/x", "contents": "" } } }),
            "LS-VAULT-FILE",
            "/files/a~1b",
        ),
        (
            json!({ "config": { "agent": { "group": "x" } } }),
            "LS-VAULT-FORBIDDEN-KEY",
            "/config",
        ),
        (
            json!({ "config": { "environment": { "LD_PRELOAD": "x" } } }),
            "LS-VAULT-ENV",
            "/config",
        ),
        (
            json!({ "config": { "a": "********" } }),
            "LS-VAULT-MASKED",
            "/config",
        ),
    ] {
        let mut whole = json!({ "command": ["true"] });
        for (name, value) in body.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let refused = f.submit(whole.clone()).await;
        assert_eq!(refused.status, 422, "{whole}");
        assert_eq!(refused.code(), code);
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer);
        let checked = f.post("/api/v1/sessions/check", &whole).await.json();
        assert_eq!(
            (&checked["verdict"], &checked["code"]),
            (&json!("never"), &json!(code))
        );
    }
}

#[tokio::test]
async fn a_vault_names_image_and_directory_where_the_request_does_not() {
    let f = ready().await;
    let agent = json!({ "default_image": "lab/own:1", "working_dir": "/work" });
    vault(&f, &json!({ "agent": agent })).await;
    let made = f.submit(json!({ "command": ["true"] })).await.json();
    assert_eq!(
        (&made["image"], &made["workdir"]),
        (&json!("lab/own:1"), &json!("/work"))
    );
    let named = json!({ "command": ["true"], "image": "other", "workdir": "/tmp" });
    let made = f.submit(named).await.json();
    assert_eq!(
        (&made["image"], &made["workdir"]),
        (&json!("other"), &json!("/tmp"))
    );
    let said = json!({ "command": ["true"], "config": { "agent": { "default_image": "said" } } });
    assert_eq!(f.submit(said).await.json()["image"], "said");
}

#[tokio::test]
async fn what_is_not_given_is_told_once() {
    let f = ready().await;
    vault(
        &f,
        &json!({ "files": { "a": { "path": "/tmp/x", "contents": "1" } } }),
    )
    .await;
    let files = json!({ "b": { "path": "/tmp/x", "contents": "2" } });
    f.submit(json!({ "command": ["true"], "files": files }))
        .await;
    delivery(&f, SessionId(1)).await;
    delivery(&f, SessionId(1)).await;
    let shown = f.get("/api/v1/sessions/s-1").await.json();
    let told = shown["not_given"].as_array().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].as_str().unwrap().contains("have the same path"),
        "{told:?}"
    );
    let history = f.get("/api/v1/sessions/s-1/history").await.json();
    let lines = history["items"].as_array().unwrap().iter();
    let lines = lines.filter(|line| line["detail"] == told[0]);
    assert_eq!(lines.count(), 1, "{history}");
}
