//! What a vault holds, from a file through the command line into a container, and nowhere else.

use longshore_tests::fixture::{AgentOptions, Cluster};
use serde_json::json;

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
