//! All layers at once, as the API tells what a session got of them.

use super::*;
use longshore_config::work::layers::{under, value_of};

const NOT_SHOWN: &str = "********";

/// A vault of administrators, switched on; its id.
async fn shared(f: &Fixture, name: &str, locked: bool, content: Value) -> String {
    let body = json!({
        "name": name, "groups": ["users"], "enabled": true, "locked": locked, "format": "json",
        "content": content.to_string(),
    });
    let made = f.post("/api/v1/vaults", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["id"].as_str().unwrap().to_owned()
}

fn toml(source: &str, text: &str) -> longshore_config::work::layers::Document {
    let tree = read(Format::Toml, text.as_bytes()).unwrap();
    document(Layer::File, source.to_owned(), true, 0, tree)
}

#[tokio::test]
async fn who_set_what_is_told_of_a_session_that_got_all_layers() {
    let f = ready().await;
    f.app.vaults.set_work(vec![toml(
        "coordinator:/etc/longshore/work.toml",
        "environment.HTTP_PROXY = \"http://p:3128\"\n",
    )]);
    let user = ["agent", "git", "user"].map(str::to_owned);
    let variable = under(&user, value_of(&user, "b").unwrap());
    let name = "LONGSHORE__AGENT__GIT__USER".to_owned();
    let node = [
        toml(
            "agent:/etc/longshore/agent.toml",
            "agent.git.user = \"a\"\nagent.pip.extra_index_urls = [\"https://x\"]\n",
        ),
        document(Layer::Environment, name, false, 0, variable),
    ];
    let flat: Vec<Flat> = node.iter().map(|one| Flat::of(one).unwrap()).collect();
    let documents = serde_json::to_vec(&flat).unwrap();
    let layers = NodeLayers { documents };
    f.app.vaults.take_layers(AGENT, &layers).unwrap();
    let group = json!({ "agent": { "pip": { "extra_index_urls": ["https://y"] }, "note": 1 } });
    shared(&f, "Group", false, group).await;
    vault(
        &f,
        &json!({ "environment": { "HTTP_PROXY": null, "STAGE": "dev" } }),
    )
    .await;
    let own = f.get(MINE).await.json()["id"].as_str().unwrap().to_owned();
    let stage = json!({ "environment": { "STAGE": "prod" } });
    let locked = shared(&f, "Locked", true, stage).await;
    let asked = json!({ "command": ["true"], "environment": { "STAGE": "test" } });
    let made = f.submit(asked).await;
    assert_eq!(made.status, 201, "{}", made.text());
    on(&f, AGENT).await;

    let whole = f.get("/api/v1/me/config?session=s-1&reveal=true").await;
    assert_eq!(
        whole.json()["config"],
        json!({
            "agent": {
                "git": { "user": "b" },
                "pip": { "extra_index_urls": ["https://y"] },
                "note": 1,
            },
            "environment": { "STAGE": "prod" },
        })
    );
    let explain = async |query: &str| {
        let path = format!("/api/v1/me/config/explain?session=s-1&{query}");
        let mut told = f.get(&path).await.json();
        let version = told.as_object_mut().unwrap().remove("version");
        assert!(version.is_some_and(|version| version.is_u64()), "{told}");
        told
    };
    assert_eq!(
        explain("key=environment.STAGE&reveal=true").await,
        json!({
            "path": "environment.STAGE", "state": "set", "value": "prod",
            "layer": "locked-vault", "source": locked,
            "shadowed": [
                { "layer": "command-line", "source": "environment.STAGE", "state": "set", "value": "test" },
                { "layer": "personal-vault", "source": own, "state": "set", "value": "dev" },
            ],
        })
    );
    // What the installation said in vain is told, and its value is not.
    assert_eq!(
        explain("key=environment.HTTP_PROXY").await,
        json!({
            "path": "environment.HTTP_PROXY", "state": "unset",
            "layer": "personal-vault", "source": own,
            "shadowed": [{
                "layer": "file", "source": "coordinator:/etc/longshore/work.toml:1",
                "state": "set", "value": NOT_SHOWN,
            }],
        })
    );
}

#[tokio::test]
async fn a_map_that_was_replaced_is_told_as_one() {
    let f = ready().await;
    f.app.vaults.set_work(vec![toml(
        "coordinator:/etc/longshore/work.toml",
        "note.a.b = 1\nnote.token = \"hunter2\"\nlist = [1]\n",
    )]);
    vault(&f, &json!({ "note": 5, "list": { "x": "y" } })).await;
    let own = f.get(MINE).await.json()["id"].clone();
    let explain = async |key: &str| {
        let path = format!("/api/v1/me/config/explain?key={key}");
        f.get(&path).await
    };
    let note = explain("note").await.json();
    assert_eq!((&note["value"], &note["source"]), (&json!(5), &own));
    let shadowed = json!([{
        "layer": "file", "source": "coordinator:/etc/longshore/work.toml:1", "state": "set",
        "value": { "a": { "b": 1 }, "token": NOT_SHOWN },
    }]);
    assert_eq!(note["shadowed"], shadowed);
    // The other way round the map itself has an answer.
    let list = explain("list").await.json();
    assert_eq!(
        (
            &list["value"],
            &list["source"],
            &list["shadowed"][0]["value"]
        ),
        (&json!({ "x": "y" }), &own, &json!([1]))
    );
    assert_eq!(explain("note.a").await.code(), "LS-NOT-FOUND");
}
