//! All layers at once: what wins, and what is told of it.

use super::*;
use crate::merge::Leaf;
use serde_json::{Value as Json, json};

const GROUP: &str = "vlt_group";
const OWN: &str = "vlt_own";
const LOCKED: &str = "vlt_lock";

fn toml(text: &str) -> Node {
    parse(Format::Toml, text.as_bytes()).unwrap()
}

fn hocon(text: &str) -> Node {
    parse(Format::Hocon, text.as_bytes()).unwrap()
}

/// A word of each layer, the highest first.
fn documents() -> Vec<Document> {
    let of_vault = |layer, id, text| vault(layer, id, 1, 100, &hocon(text)).0;
    let file = |name: &str, at, text| document(Layer::File, name.to_owned(), true, at, toml(text));
    let user = ["agent", "git", "user"].map(str::to_owned);
    let variable = value_of(&user, "b").unwrap();
    vec![
        of_vault(Layer::LockedVault, LOCKED, "environment { STAGE = prod }"),
        document(
            Layer::CommandLine,
            "environment.STAGE".to_owned(),
            false,
            0,
            yaml("environment: {STAGE: test}"),
        ),
        document(
            Layer::Environment,
            "LONGSHORE__AGENT__GIT__USER".to_owned(),
            false,
            0,
            under(&user, variable),
        ),
        of_vault(
            Layer::PersonalVault,
            OWN,
            "environment { HTTP_PROXY = null, STAGE = dev }",
        ),
        of_vault(
            Layer::GroupVault,
            GROUP,
            r#"agent { pip { extra_index_urls = ["https://y"] }, note = 1 }"#,
        ),
        file(
            "agent:/etc/longshore/agent.toml",
            1,
            "agent.git.user = \"a\"\nagent.pip.extra_index_urls = [\"https://x\"]\n",
        ),
        file(
            "coordinator:/etc/longshore/work.toml",
            0,
            "environment.HTTP_PROXY = \"http://p:3128\"\n",
        ),
    ]
}

/// A leaf as the API tells it, but for its version.
fn told(leaf: &Leaf<Layer>) -> Json {
    let all = leaf.shadowed.iter().map(|(origin, value)| {
        let mut one = json!({ "layer": origin.kind.as_str(), "source": origin.source });
        one["state"] = json!(if value.is_some() { "set" } else { "unset" });
        if let Some(value) = value {
            one["value"] = value.to_json();
        }
        one
    });
    let shadowed: Vec<Json> = all.collect();
    let mut told = json!({
        "path": dotted(&leaf.path),
        "state": if leaf.value.is_some() { "set" } else { "unset" },
        "layer": leaf.origin.kind.as_str(),
        "source": leaf.origin.source,
        "shadowed": shadowed,
    });
    if let Some(value) = &leaf.value {
        told["value"] = value.to_json();
    }
    told
}

#[test]
fn the_highest_layer_wins_and_all_below_are_told() {
    let merged = merge(documents());
    assert_eq!(
        merged.canonical(),
        r#"{"agent":{"git":{"user":"b"},"note":1,"pip":{"extra_index_urls":["https://y"]}},"environment":{"STAGE":"prod"}}"#
    );
    let at = |path: &str| {
        let mut leaves = merged.leaves.iter();
        leaves.find(|leaf| dotted(&leaf.path) == path).unwrap()
    };
    assert_eq!(
        told(at("environment.STAGE")),
        json!({
            "path": "environment.STAGE", "state": "set", "value": "prod",
            "layer": "locked-vault", "source": LOCKED,
            "shadowed": [
                { "layer": "command-line", "source": "environment.STAGE", "state": "set", "value": "test" },
                { "layer": "personal-vault", "source": OWN, "state": "set", "value": "dev" },
            ],
        })
    );
    assert_eq!(at("environment.STAGE").origin.version, Some(1));
    assert_eq!(
        told(at("environment.HTTP_PROXY")),
        json!({
            "path": "environment.HTTP_PROXY", "state": "unset",
            "layer": "personal-vault", "source": OWN,
            "shadowed": [{
                "layer": "file", "source": "coordinator:/etc/longshore/work.toml:1",
                "state": "set", "value": "http://p:3128",
            }],
        })
    );
    // The order in which they come decides nothing.
    let mut turned = documents();
    turned.reverse();
    let turned = merge(turned);
    let all = |leaves: &[Leaf<Layer>]| leaves.iter().map(told).collect::<Vec<_>>();
    assert_eq!(all(&turned.leaves), all(&merged.leaves));
}
