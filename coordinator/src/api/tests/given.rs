//! Files and work keys that come with a request, and what a session does not get.

mod example;

use super::{AGENT, Fixture, ready};
use longshore_common::ids::{AgentId, SessionId};
use longshore_common::wire::{Delivery, NodeLayers};
use longshore_config::read::{Format, read};
use longshore_config::work::flat::Flat;
use longshore_config::work::layers::{Layer, document};
use serde_json::{Value, json};

const MINE: &str = "/api/v1/me/vault";

async fn vault(f: &Fixture, content: &Value) {
    let body = json!({ "format": "json", "content": content.to_string(), "enabled": true });
    let saved = f.put(MINE, "*", &body).await;
    assert_eq!(saved.status, 200, "{}", saved.text());
}

async fn delivery(f: &Fixture, id: SessionId) -> Delivery {
    let given = f
        .app
        .vaults
        .deliver(&f.app.engine, id, AgentId::new(1))
        .await;
    (*given.unwrap()).clone()
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

async fn kept(f: &Fixture, id: SessionId) -> bool {
    f.app.reader.delivered(id).await.unwrap().is_some()
}

#[tokio::test]
async fn whoever_asks_later_for_an_attempt_is_given_the_same() {
    let f = ready().await;
    vault(
        &f,
        &json!({
            "environment": { "A": "first", "TOKEN": "hunter2" },
            "files": { "x": { "path": "/tmp/x", "contents": "hunter2" } },
            "agent": { "registries": [{ "host": "r.lab", "username": "u", "password": "hunter2" }] },
        }),
    )
    .await;
    let given = json!({ "command": ["true"], "environment": { "B": "request" } });
    let id = f.submit(given).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let first = delivery(&f, SessionId(1)).await;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(first.environment[0], pair("A", "first"));
    assert!(kept(&f, SessionId(1)).await);
    let stored = f.app.reader.delivered(SessionId(1)).await.unwrap();
    assert!(!format!("{stored:?}").contains("hunter2"));
    let shown = f.get(&format!("/api/v1/sessions/{id}")).await.json();

    // Edits, switches and layers of the coordinator act on what starts afterwards.
    vault(&f, &json!({ "environment": { "A": "second" } })).await;
    assert_eq!(delivery(&f, SessionId(1)).await, first);
    f.patch(MINE, "*", &json!({ "enabled": false })).await;
    assert_eq!(delivery(&f, SessionId(1)).await, first);
    let after = f.get(&format!("/api/v1/sessions/{id}")).await.json();
    assert_eq!(
        (&after["config_hash"], &after["vaults"]),
        (&shown["config_hash"], &shown["vaults"])
    );

    // The next attempt is merged anew, and takes the place of the one before.
    f.runs(&id).await;
    vault(&f, &json!({ "environment": { "A": "third" } })).await;
    let again = f
        .post(&format!("/api/v1/sessions/{id}/restart"), &json!({}))
        .await;
    assert_eq!(again.status, 200, "{}", again.text());
    let next = delivery(&f, SessionId(1)).await;
    let next = next.environment.into_iter().find(|(name, _)| name == "A");
    assert_eq!(next, Some(pair("A", "third")));
}

#[tokio::test]
async fn what_has_ended_keeps_nothing() {
    let f = ready().await;
    vault(&f, &json!({ "environment": { "A": "1" } })).await;
    f.submit(json!({ "command": ["true"] })).await;
    delivery(&f, SessionId(1)).await;
    assert!(kept(&f, SessionId(1)).await);
    f.runs("s-1").await;
    f.ends("s-1", 0).await;
    let state = f.get("/api/v1/sessions/s-1").await.json()["state"].clone();
    assert_eq!(state, "TERMINATED");
    assert!(!kept(&f, SessionId(1)).await);
}

#[tokio::test]
async fn nothing_is_kept_of_what_the_request_says_by_itself() {
    let f = ready().await;
    let asked = json!({
        "command": ["true"], "environment": { "A": "1" }, "config": { "note": 7 },
    });
    f.submit(asked).await;
    let first = delivery(&f, SessionId(1)).await;
    assert!(!kept(&f, SessionId(1)).await);
    // Neither a vault nor what a reload brings gets into it.
    vault(&f, &json!({ "environment": { "A": "2", "B": "3" } })).await;
    let node = read(Format::Json, br#"{"x": 1}"#);
    let work = document(
        Layer::File,
        "coordinator:/etc/x".to_owned(),
        true,
        0,
        node.unwrap(),
    );
    f.app.vaults.set_work(vec![work]);
    assert_eq!(delivery(&f, SessionId(1)).await, first);
    assert_eq!(config(&first), json!({ "note": 7 }));
}

#[tokio::test]
async fn what_was_given_and_is_gone_is_not_replaced_by_something_else() {
    let f = ready().await;
    vault(&f, &json!({ "environment": { "A": "first" } })).await;
    f.submit(json!({ "command": ["true"] })).await;
    // Nothing can be encrypted while a key is lacking, so nothing is kept.
    let keyring = f.app.secrets.keyring();
    keyring.hold_against(["00000000"]);
    delivery(&f, SessionId(1)).await;
    keyring.hold_against([]);
    assert!(!kept(&f, SessionId(1)).await);
    assert_eq!(
        delivery(&f, SessionId(1)).await.environment,
        [("A".to_owned(), "first".to_owned())]
    );
    vault(&f, &json!({ "environment": { "A": "second" } })).await;
    let gone = f
        .app
        .vaults
        .deliver(&f.app.engine, SessionId(1), AgentId::new(1))
        .await;
    assert_eq!(
        gone.unwrap_err().to_string(),
        "what attempt 1 was given: the vaults have changed since, and it was not kept"
    );
}

#[tokio::test]
async fn what_a_session_was_given_is_shown_to_its_owner_with_where_it_comes_from() {
    let f = ready().await;
    vault(
        &f,
        &json!({ "environment": { "A": "first" }, "agent": { "git": { "user": "first" } } }),
    )
    .await;
    let asked = json!({ "command": ["true"], "environment": { "A": "request" } });
    f.submit(asked).await;
    let config = "/api/v1/me/config?session=s-1";
    let early = f.get(config).await;
    assert_eq!(early.status, 409);
    assert_eq!(early.code(), "LS-STATE");
    delivery(&f, SessionId(1)).await;
    let before = f.get(config).await.json();
    assert_eq!(before["config"]["agent"]["git"]["user"], "first");
    assert_eq!(before["config"]["environment"]["A"], "********");
    let version = f.get(MINE).await.json()["version"].clone();
    assert_eq!(before["vaults"][0]["version"], version);
    let session = f.get("/api/v1/sessions/s-1").await.json();
    assert_eq!(before["hash"], session["config_hash"]);
    // The vault is another one by now; what the session got is not.
    vault(&f, &json!({ "environment": { "A": "second" } })).await;
    assert_eq!(f.get(config).await.json(), before);
    let leaf = "/api/v1/me/config/explain?key=environment.A&reveal=true&session=s-1";
    let leaf = f.get(leaf).await.json();
    assert_eq!(
        (&leaf["value"], &leaf["layer"], &leaf["source"]),
        (
            &json!("request"),
            &json!("command-line"),
            &json!("environment.A")
        )
    );
    let shadowed = &leaf["shadowed"][0];
    assert_eq!(
        (&shadowed["value"], &shadowed["layer"]),
        (&json!("first"), &json!("personal-vault"))
    );
    // Others have no such session.
    let none = f.get("/api/v1/me/config?session=s-2").await;
    assert_eq!(none.code(), "LS-NOT-FOUND");
    let none = f.get("/api/v1/me/config?session=x").await;
    assert_eq!(none.code(), "LS-NOT-FOUND");
    f.runs("s-1").await;
    f.ends("s-1", 0).await;
    assert_eq!(f.get(config).await.code(), "LS-STATE");
}

/// An agent says what its configuration sets.
fn node_says(f: &Fixture, agent: AgentId, text: &str) {
    let tree = read(Format::Yaml, text.as_bytes()).unwrap();
    let file = "agent:/etc/longshore/agent.toml".to_owned();
    let flat = [Flat::of(&document(Layer::File, file, true, 0, tree)).unwrap()];
    let documents = serde_json::to_vec(&flat).unwrap();
    let layers = NodeLayers { documents };
    f.app.vaults.take_layers(agent, &layers).unwrap();
}

async fn on(f: &Fixture, agent: AgentId) -> Delivery {
    let given = f.app.vaults.deliver(&f.app.engine, SessionId(1), agent);
    (*given.await.unwrap()).clone()
}

#[tokio::test]
async fn what_a_node_sets_reaches_the_containers_there_alone() {
    let f = ready().await;
    let other = AgentId::new(8);
    let node = "environment: {A: node, B: node}\nagent: {git: {user: node, host: h}}\n";
    node_says(&f, AGENT, node);
    vault(&f, &json!({ "environment": { "B": "vault" } })).await;
    f.submit(json!({ "command": ["true"] })).await;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let here = on(&f, AGENT).await;
    assert_eq!(here.environment, [pair("A", "node"), pair("B", "vault")]);
    assert_eq!(config(&here)["agent"]["git"]["user"], "node");
    assert!(kept(&f, SessionId(1)).await);
    let there = on(&f, other).await;
    assert_eq!(there.environment, [pair("B", "vault")]);
    // What one attempt was given stays, whatever the nodes set by then.
    node_says(&f, AGENT, "environment: {A: later}");
    node_says(&f, other, "environment: {A: late}");
    assert_eq!((on(&f, AGENT).await, on(&f, other).await), (here, there));
    let explained = "/api/v1/me/config/explain?key=agent.git.user&session=s-1";
    let leaf = f.get(explained).await.json();
    assert_eq!(
        (&leaf["layer"], &leaf["source"]),
        (&json!("file"), &json!("agent:/etc/longshore/agent.toml:2"))
    );
}

#[tokio::test]
async fn a_locked_vault_stands_above_the_files_and_variables_of_a_node() {
    let f = ready().await;
    let tree = read(Format::Yaml, b"environment: {A: variable, B: variable}").unwrap();
    let name = "LONGSHORE__ENVIRONMENT".to_owned();
    let flat = [Flat::of(&document(Layer::Environment, name, false, 0, tree)).unwrap()];
    let documents = serde_json::to_vec(&flat).unwrap();
    let layers = NodeLayers { documents };
    f.app.vaults.take_layers(AGENT, &layers).unwrap();
    vault(&f, &json!({ "environment": { "A": "own" } })).await;
    let locked = json!({
        "name": "Locked", "groups": ["users"], "enabled": true, "locked": true, "format": "json",
        "content": json!({ "environment": { "B": "locked" } }).to_string(),
    });
    let made = f.post("/api/v1/vaults", &locked).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let shown = f.get("/api/v1/me/config?agent=gpu01").await.json();
    let told = |key: &str| {
        let mut leaves = shown["leaves"].as_array().unwrap().iter();
        let leaf = leaves.find(|leaf| leaf["path"] == key).unwrap();
        let layers = leaf["shadowed"].as_array().unwrap().iter();
        let layers: Vec<String> = layers.map(|l| l["layer"].to_string()).collect();
        (leaf["layer"].as_str().unwrap().to_owned(), layers)
    };
    let (winner, over) = told("environment.A");
    assert_eq!((winner.as_str(), over.len()), ("environment", 1));
    let (winner, over) = told("environment.B");
    assert_eq!(
        (winner.as_str(), over),
        ("locked-vault", vec!["\"environment\"".to_owned()])
    );
}

#[tokio::test]
async fn what_sessions_on_a_node_get_is_shown_masked_and_only_with_a_node() {
    let f = ready().await;
    node_says(
        &f,
        AGENT,
        "agent: {git: {password: hunter2}}\nenvironment: {A: hunter2}\n",
    );
    let plain = f.get("/api/v1/me/config").await.json();
    assert_eq!(plain["config"], json!({}));
    let shown = f.get("/api/v1/me/config?agent=gpu01").await;
    assert!(!shown.text().contains("hunter2"), "{}", shown.text());
    assert_eq!(shown.json()["config"]["environment"]["A"], "********");
    let explained = "/api/v1/me/config/explain?key=agent.git.password&agent=gpu01";
    assert_eq!(
        f.get(explained).await.json()["source"],
        "agent:/etc/longshore/agent.toml:1"
    );
    for (path, status, code) in [
        ("/api/v1/me/config?agent=nowhere", 404, "LS-NOT-FOUND"),
        (
            "/api/v1/me/config?agent=gpu01&session=s-1",
            400,
            "LS-PARAMETER",
        ),
        (
            "/api/v1/me/config?agent=gpu01&reveal=true",
            400,
            "LS-PARAMETER",
        ),
    ] {
        let refused = f.get(path).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code()),
            (status, code.to_owned()),
            "{path}: {}",
            refused.text()
        );
    }
}
