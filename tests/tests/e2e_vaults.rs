//! What a vault holds, from a file through the command line into a container, and nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_tests::fixture::{AgentOptions, Cluster, ClusterOptions};
use serde_json::{Value, json};
use std::time::Duration;

const VAULT: &str = r#"
environment: {TOKEN_OF_TEST: sesame-by-environment, STAGE: dev}
files: {key: {path: /tmp/key-of-test, contents: sesame-by-file, mode: "0440"}}
agent: {git: {user: a, password: sesame-by-git, host: git.lab}}
client: {notify: end}
"#;

async fn cli(cluster: &Cluster, words: &[&str]) -> String {
    let output = cluster.cli(words).await;
    assert_eq!(output.code, 0, "{words:?}: {output:?}");
    output.stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_gets_what_the_vault_of_its_owner_holds_and_nobody_else_sees_it() {
    let cluster = Cluster::with_agent(AgentOptions::default()).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("vault.yaml");
    std::fs::write(&path, VAULT).expect("it can be written");
    let path = path.to_str().expect("a plain name");
    cli(&cluster, &["vault", "import", path]).await;
    let before = cluster.run(&[], &["sh", "-c", "echo \"-$STAGE\""]).await;
    assert_eq!(before.stdout.trim(), "-", "it is switched off: {before:?}");
    cli(&cluster, &["vault", "enable"]).await;
    let told = cli(&cluster, &["config", "explain", "client.notify"]).await;
    assert!(
        told.starts_with("client.notify = end  # personal-vault"),
        "{told}"
    );
    // What it prints is kept, so it prints what only they come to.
    let script = "printf %s $TOKEN_OF_TEST | md5sum; md5sum < /tmp/key-of-test; \
        md5sum < /run/longshore/secrets/git-credentials; stat -c %a /tmp/key-of-test; echo $STAGE";
    let got = cluster
        .run(&["--env", "STAGE=test"], &["sh", "-c", script])
        .await;
    assert_eq!(got.code, 0, "{got:?}");
    let wanted = [
        "fab6749df8a711881eb540ea20c658a2  -",
        "26be6c950f98022268328acc52ddfe7c  -",
        "c175f8ccd1184d2f5d0f7618b082e71e  -",
        "440",
        "test",
    ];
    let lines: Vec<&str> = got.stdout.lines().collect();
    assert_eq!(lines, wanted, "{got:?}");

    // While one runs, its files are in memory and nowhere else.
    let request = json!({
        "command": ["sleep", "60"], "slots": {"cpu": "1", "mem": "64M"},
        "environment": {"GIVEN": "sesame-by-request"},
    });
    let session = cluster.api.submit(&request).await;
    cluster.running(&session.id).await;
    let inspected = cluster.containers().inspect_all().await;
    for hidden in ["sesame-by-file", "sesame-by-git"] {
        assert!(!inspected.contains(hidden), "the engine shows {hidden}");
    }
    for secret in ["sesame-by-environment", "sesame-by-file", "sesame-by-git"] {
        let files = cluster.files_with(secret);
        assert!(files.is_empty(), "{secret} is in {files:?}");
    }
    let of_nodes = cluster.files_with("sesame-by-request");
    assert!(
        of_nodes.iter().all(|path| path.starts_with(cluster.data())),
        "a node wrote down what was given: {of_nodes:?}"
    );
    let shown = cli(&cluster, &["vault", "show"]).await;
    assert!(
        shown.contains("TOKEN_OF_TEST") && !shown.contains("sesame"),
        "{shown}"
    );
    let history = cli(&cluster, &["history", &session.id]).await;
    let listed = cli(&cluster, &["show", &session.id, "-o", "json"]).await;
    assert!(!history.contains("sesame-by-file") && !listed.contains("sesame-by-file"));
}

/// The forms in which somebody could come upon a secret: as it is, inside of JSON, and in base64
/// wherever it begins among what was encoded with it.
fn forms(secret: &str) -> Vec<String> {
    let json = Value::from(secret).to_string();
    let json = json.trim_matches('"').to_owned();
    let aligned = (0..3).map(|before| {
        let bytes = [&vec![b'x'; before][..], secret.as_bytes()].concat();
        let whole = bytes.len() / 3 * 3;
        let text = STANDARD.encode(&bytes[..whole]);
        text[before.div_ceil(3) * 4..].to_owned()
    });
    [secret.to_owned(), json]
        .into_iter()
        .chain(aligned)
        .collect()
}

/// The command lines of all processes of this machine.
fn command_lines() -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("processes can be listed") {
        let path = entry.expect("processes can be listed").path();
        // It may have ended meanwhile.
        all.extend(std::fs::read(path.join("cmdline")).unwrap_or_default());
    }
    all
}

fn holds(text: &[u8], part: &str) -> bool {
    text.windows(part.len())
        .any(|window| window == part.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_written_down_however_much_is_logged() {
    let loud = vec![("LONGSHORE__LOGGING__LEVEL".to_owned(), "trace".to_owned())];
    let mut cluster = Cluster::start(ClusterOptions {
        environment: loud.clone(),
        ..ClusterOptions::default()
    })
    .await;
    cluster
        .add_agent(AgentOptions {
            environment: loud,
            ..AgentOptions::default()
        })
        .await;
    // A quote and a backslash: JSON writes them in another way.
    let secret = |which: &str| format!("sesame \"{which}\\ of a vault");
    let content = |which: &str| {
        let name = which.to_uppercase();
        let path = format!("/tmp/{which}");
        let file = json!({ "path": path, "contents": secret(&format!("{which} file")) });
        json!({
            "environment": { name: secret(&format!("{which} variable")) },
            "files": { which: file },
        })
        .to_string()
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("vault.json");
    std::fs::write(&path, content("own")).expect("it can be written");
    let path = path.to_str().expect("a plain name").to_owned();
    cli(&cluster, &["vault", "import", &path]).await;
    cli(&cluster, &["vault", "enable"]).await;
    for (which, locked) in [("group", false), ("locked", true)] {
        let vault = json!({
            "name": which, "groups": ["users"], "enabled": true, "locked": locked,
            "format": "json", "content": content(which),
        });
        let _: Value = cluster.api.post("/vaults", &vault).await;
    }
    // What is refused is told without it.
    let wrong = json!({ "agent": { "worker_id": secret("refused") }, "environment": {
        "LD_PRELOAD": secret("refused"), "A": [secret("refused")],
    } });
    std::fs::write(&path, wrong.to_string()).expect("it can be written");
    let refused = cluster.cli(&["vault", "import", &path]).await;
    assert_ne!(refused.code, 0, "{refused:?}");

    // All of its life: it is started, looked at, reached into, survives its agent, and ends.
    let script = "test -n \"$OWN\" && test -n \"$GROUP\" && test -n \"$LOCKED\" \
        && test -s /tmp/own && test -s /tmp/group && test -s /tmp/locked && sleep 300";
    let request = json!({
        "command": ["sh", "-c", script], "slots": { "cpu": "1", "mem": "64M" },
    });
    let session = cluster.api.submit(&request).await;
    cluster.running(&session.id).await;
    let length = secret("own variable").len();
    let same = format!("test ${{#OWN}} = {length} && grep -q 'locked file' /tmp/locked");
    cli(&cluster, &["exec", &session.id, "--", "sh", "-c", &same]).await;
    let inspected = cluster.containers().inspect_all().await.into_bytes();
    let lines = command_lines();
    let mut told = vec![refused.stdout, refused.stderr];
    cluster.agent("node1").kill9();
    cluster.agent("node1").start();
    cluster.agent_offers("node1").await;
    cluster.running(&session.id).await;
    let id = session.id.as_str();
    for words in [
        &["show", id][..],
        &["show", id, "-o", "json"],
        &["vault", "show"],
        &["vault", "preview"],
        &["vault", "explain", "environment.OWN"],
        &["admin", "vault", "ls", "-o", "json"],
        &["admin", "export", "sessions"],
        &["admin", "export-config"],
    ] {
        told.push(cli(&cluster, words).await);
    }
    cli(&cluster, &["stop", id]).await;
    cluster.ended(id, Duration::from_secs(60)).await;
    told.push(cli(&cluster, &["history", id]).await);
    told.push(cli(&cluster, &["logs", id]).await);
    for path in [
        "/audit",
        "/vaults",
        "/me/vault",
        "/me/config",
        "/sessions?scope=all",
    ] {
        let value: Value = cluster.api.get(path).await;
        told.push(value.to_string());
    }
    let told = told.join("\n").into_bytes();
    let copy = cluster.back_up();
    assert!(copy.metadata().is_ok_and(|copy| copy.len() > 0));

    for which in ["own", "group", "locked"] {
        for kind in ["variable", "file"] {
            for form in forms(&secret(&format!("{which} {kind}"))) {
                let files = cluster.files_with(&form);
                assert!(files.is_empty(), "{form} is in {files:?}");
                assert!(!holds(&told, &form), "{form} was told");
                assert!(!holds(&lines, &form), "{form} is an argument");
                // The engine shows variables to root.
                assert!(
                    kind == "variable" || !holds(&inspected, &form),
                    "the engine shows {form}"
                );
            }
        }
    }
    for form in forms(&secret("refused")) {
        assert!(!holds(&told, &form), "{form} was told");
        assert!(cluster.files_with(&form).is_empty(), "{form}");
    }
    // The search finds what is there.
    assert!(cluster.files_with(&cluster.id).contains(&copy));
    assert!(holds(&inspected, "OWN=") && holds(&lines, "longshore-agent"));
    let trace = |text: &str| {
        cluster
            .files_with(text)
            .iter()
            .any(|at| at.ends_with("coordinator.log"))
    };
    assert!(trace("TRACE"), "the log says all it can");
}
