mod example;

use super::delivery::deliver;
use super::layers::{Document, Layer, document, merge, under, value_of, vault};
use super::*;
use crate::read::{Format, MAX_BYTES};
use crate::tree::{Node, dotted};

fn yaml(text: &str) -> Node {
    parse(Format::Yaml, text.as_bytes()).unwrap()
}

/// What a check says: codes once, then each path and place with its message.
fn said(format: Format, bytes: &[u8]) -> String {
    match check(format, bytes) {
        Ok(_) => "good".to_owned(),
        Err(found) => {
            let lines = found
                .iter()
                .map(|f| format!("{} {} {}", f.path, f.at, f.message));
            let lines: Vec<String> = lines.collect();
            format!("{}: {}", found[0].code.as_str(), lines.join(" | "))
        }
    }
}

/// Rows of a text in YAML and what is said about it.
fn table(rows: &[(&str, &str)]) {
    let wrong: Vec<_> = rows
        .iter()
        .map(|(text, expected)| (text, said(Format::Yaml, text.as_bytes()), expected))
        .filter(|(_, got, expected)| got != *expected)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_first_three_checks() {
    let long = vec![b'x'; MAX_BYTES + 1];
    assert_eq!(
        said(Format::Json, &long),
        "LS-VAULT-SIZE:  0:0 A vault must be at most 256 KiB."
    );
    assert_eq!(
        said(Format::Json, b"{\"a\":\xff}"),
        "LS-VAULT-SYNTAX:  1:6 The content is not valid UTF-8 text."
    );
    let deep = "[".repeat(40) + &"]".repeat(40);
    let deep = format!("{{\"a\":{deep}}}");
    assert!(
        said(Format::Json, deep.as_bytes())
            .ends_with(" The vault is nested deeper than 32 levels.")
    );
    let many = format!("{{\"a\":[{}1]}}", "1,".repeat(10_000));
    assert!(
        said(Format::Json, many.as_bytes()).ends_with(" The vault has more than 10000 values.")
    );
    table(&[
        ("", "good"),
        (" \n", "good"),
        (
            "[1]",
            "LS-VAULT-SYNTAX:  1:1 A vault must be a map at the top level.",
        ),
        ("a: 1\na: 2", "LS-VAULT-SYNTAX: a 2:1 Key a is given twice."),
    ]);
    // The format is the declared one, never guessed.
    assert!(said(Format::Json, b"a: 1").starts_with("LS-VAULT-SYNTAX"));
    assert_eq!(said(Format::Hocon, b"a.b = 1"), "good");
    assert!(said(Format::Hocon, b"include \"x\"").starts_with("LS-VAULT-SYNTAX"));
}

#[test]
fn masks_are_no_values() {
    table(&[
        (
            "environment: {A: '********'}\nx: [b, '********']",
            "LS-VAULT-MASKED: environment.A 1:18 environment.A is a mask, not a value; reveal the vault before editing it. | x[1] 2:8 x[1] is a mask, not a value; reveal the vault before editing it.",
        ),
        (
            "agent: {pip: {index_url: 'https://u:********@h/'}}",
            "LS-VAULT-MASKED: agent.pip.index_url 1:26 agent.pip.index_url is a mask, not a value; reveal the vault before editing it.",
        ),
        ("a: '*********'", "good"),
        // What is hidden as a whole is never shown as an address with a mask in it.
        (
            "environment: {A: 'clone with https://user:********@git.lab'}\nagent: {git: {password: 'https://u:********@h'}}\nfiles: {a: {path: /tmp/a, contents: 'https://u:********@h'}}",
            "good",
        ),
        (
            "files: {a: {path: /tmp/a, contents: '********'}}",
            "LS-VAULT-MASKED: files.a.contents 1:37 files.a.contents is a mask, not a value; reveal the vault before editing it.",
        ),
    ]);
}

#[test]
fn machine_keys_are_forbidden() {
    let machine = |path: &str, at: &str| {
        format!("{path} {at} {path} belongs to a machine and cannot be set in a vault.")
    };
    let text = br#"{"agent":{"worker_id":"w1","Debug":true,"git":{"user":"a"}}}"#;
    assert_eq!(
        said(Format::Json, text),
        format!(
            "LS-VAULT-FORBIDDEN-KEY: {} | {}",
            machine("agent.worker_id", "1:11"),
            machine("agent.Debug", "1:28")
        )
    );
    for (text, path, at) in [
        ("agent: null", "agent", "1:1"),
        ("Agent: 5", "Agent", "1:1"),
        ("agent: {worker-name: null}", "agent.worker-name", "1:9"),
        (
            "agent: {docker: {socket: x}}",
            "agent.docker.socket",
            "1:18",
        ),
        ("agent: {docker: 1}", "agent.docker", "1:9"),
        ("AGENT: {DRIVER-VERSION: 1}", "AGENT.DRIVER-VERSION", "1:9"),
    ] {
        let expected = format!("LS-VAULT-FORBIDDEN-KEY: {}", machine(path, at));
        assert_eq!(said(Format::Yaml, text.as_bytes()), expected);
    }
    table(&[
        (
            "Daemon: {}\nwork: 1",
            "LS-VAULT-FORBIDDEN-KEY: Daemon 1:1 Daemon is the coordinator's own configuration and cannot be set in a vault. | work 2:1 work is the coordinator's own configuration and cannot be set in a vault.",
        ),
        ("agent: {}", "good"),
        (
            "agent: {docker: {}}\nnote: {debug: 1}",
            "LS-VAULT-FORBIDDEN-KEY: agent.docker 1:9 agent.docker belongs to a machine and cannot be set in a vault.",
        ),
        ("note: {debug: 1}", "good"),
    ]);
}

#[test]
fn known_keys_have_their_type() {
    table(&[
        (
            "environment: 1\nagent: {git: [], apply_files: yes, default_image: {}, redact: [a, {}]}",
            "LS-VAULT-TYPE: environment 1:14 environment must be a map. | agent.git 2:14 agent.git must be a map. | agent.apply_files 2:31 agent.apply_files must be true or false. | agent.default_image 2:51 agent.default_image must be text. | agent.redact 2:63 agent.redact must be a list of texts.",
        ),
        (
            "agent: {pip: {index_url: ftp://x, extra_index_urls: https://x}, registries: [{host: h}]}",
            "LS-VAULT-TYPE: agent.pip.index_url 1:26 agent.pip.index_url must be a URL. | agent.pip.extra_index_urls 1:53 agent.pip.extra_index_urls must be a list of URLs. | agent.registries 1:77 agent.registries must be a list of maps with host, username and password.",
        ),
        (
            "agent: {git: null, default_image: null, working_dir: 7}\nclient: {project: 1}",
            "good",
        ),
    ]);
}

#[test]
fn variables_have_names_and_values() {
    let long = "x".repeat(32 * 1024 + 1);
    let text = format!(
        "environment: {{1A: x, LD_PRELOAD: x, A: [1], B: {long}, PATH: '/a:b', LD_LIBRARY_PATH: .}}"
    );
    let got = said(Format::Yaml, text.as_bytes());
    let messages: Vec<&str> = got
        .split(": ")
        .nth(1)
        .unwrap()
        .split(" | ")
        .map(|line| line.splitn(3, ' ').nth(2).unwrap())
        .collect();
    assert!(got.starts_with("LS-VAULT-ENV"));
    assert_eq!(
        messages,
        [
            "Environment name 1A must match [A-Za-z_][A-Za-z0-9_]*.",
            "Environment name LD_PRELOAD is reserved.",
            "Environment value A must be a single value of at most 32 KiB.",
            "Environment value B must be a single value of at most 32 KiB.",
            "PATH may hold absolute directories only.",
            "LD_LIBRARY_PATH may hold absolute directories only.",
        ]
    );
    for name in [
        "LONGSHORE_X",
        "NVIDIA_X",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_MPS_X",
        "ROCR_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "DOCKER_HOST",
        "SUDO_SESSION_ENABLED",
    ] {
        assert!(
            environment::name_fault(name)
                .unwrap()
                .ends_with(" is reserved."),
            "{name}"
        );
    }
    table(&[(
        "environment: {BUILD: 1.10, RATE: 5e-4, ON: true, GONE: null, PATH: '/a:/b', CUDA_HOME: /c}",
        "good",
    )]);
}

#[test]
fn files_have_places_modes_and_contents() {
    let file =
        |path: &str, at: &str, message: &str| format!("LS-VAULT-FILE: {path} {at} {message}");
    let good = "path: /tmp/x, contents: c";
    for (entry, expected) in [
        (good.to_owned(), "good".to_owned()),
        ("path: ~/x, contents: 1".to_owned(), "good".to_owned()),
        (
            "path: $HOME/x, contents: 1, mode: 0o600, owner: root, overwrite: false".to_owned(),
            "good".to_owned(),
        ),
        (
            "path: /etc/x, contents: c".to_owned(),
            file(
                "files.k.path",
                "1:13",
                "Path /etc/x is not under an allowed directory.",
            ),
        ),
        (
            "path: /tmp/../etc/x, contents: c".to_owned(),
            file(
                "files.k.path",
                "1:13",
                "Path /tmp/../etc/x is not under an allowed directory.",
            ),
        ),
        (
            "path: /tmpx/x, contents: c".to_owned(),
            file(
                "files.k.path",
                "1:13",
                "Path /tmpx/x is not under an allowed directory.",
            ),
        ),
        (
            "path: /tmp, contents: c".to_owned(),
            file(
                "files.k.path",
                "1:13",
                "Path /tmp is not under an allowed directory.",
            ),
        ),
        (
            "path: x, contents: c".to_owned(),
            file(
                "files.k.path",
                "1:13",
                "Path x is not under an allowed directory.",
            ),
        ),
        (
            "contents: c".to_owned(),
            file("files.k.path", "1:9", "files.k.path is required."),
        ),
        (
            "path: /tmp/x".to_owned(),
            file("files.k.contents", "1:9", "files.k.contents is required."),
        ),
        (
            format!("{good}, mode: 0800"),
            file(
                "files.k.mode",
                "1:40",
                "Mode must be octal digits between 0 and 0777.",
            ),
        ),
        (
            format!("{good}, mode: 01777"),
            file(
                "files.k.mode",
                "1:40",
                "Mode must be octal digits between 0 and 0777.",
            ),
        ),
        (
            format!("{good}, format: base64"),
            file(
                "files.k.contents",
                "1:27",
                "Contents of k are not valid base64.",
            ),
        ),
        (
            format!("{good}, owner: me"),
            file(
                "files.k.owner",
                "1:40",
                "files.k.owner must be one of user, root.",
            ),
        ),
        (
            format!("{good}, size: 1"),
            file(
                "files.k.size",
                "1:40",
                "files.k.size is not a member of a file.",
            ),
        ),
        (
            "path: /tmp/x, contents: {a: 1}".to_owned(),
            file("files.k.contents", "1:27", "files.k.contents must be text."),
        ),
        (
            "path: /tmp/x, contents: [1], target_format: toml".to_owned(),
            file(
                "files.k.contents",
                "1:27",
                "Contents of k must be a map to be written as TOML.",
            ),
        ),
    ] {
        let text = format!("files: {{k: {{{entry}}}}}");
        // The place of a member is that of its name.
        assert_eq!(said(Format::Yaml, text.as_bytes()), expected, "{text}");
    }
    let long = format!(
        "files: {{k: {{path: /tmp/x, contents: {}}}}}",
        "x".repeat(64 * 1024 + 1)
    );
    assert!(said(Format::Yaml, long.as_bytes()).ends_with("Contents of k must be at most 64 KiB."));
    table(&[(
        "files:\n  a: {path: /tmp/x, contents: 1}\n  b: {path: /tmp//./x, contents: 2}",
        "LS-VAULT-FILE: files.b 3:3 Files a and b have the same path.",
    )]);
}

#[test]
fn files_are_written_as_their_target_says() {
    let text = r#"
t: {path: ~/t, contents: 1.10, mode: 640}
b: {path: /tmp/b, contents: "aGk=", format: base64, target_format: bytes}
j: {path: /tmp/j, contents: {b: [1, null], a: x, n: null}, target_format: json}
y: {path: /tmp/y, contents: {b: 1}, target_format: yaml}
m: {path: /tmp/m, contents: {b: {c: 1}}, target_format: toml}
"#;
    let tree = yaml(text);
    let entry = |label: &str| {
        let found = files::entry(
            label,
            crate::tree::Mark::default(),
            tree.get(label).unwrap(),
        );
        found.map_err(|e| format!("{e:?}")).unwrap()
    };
    let contents = |label| String::from_utf8(entry(label).contents).unwrap();
    assert_eq!((contents("t"), entry("t").mode), ("1.10".to_owned(), 0o640));
    assert_eq!(entry("t").path, "/home/work/t");
    assert_eq!(contents("b"), "hi");
    assert_eq!(contents("j"), r#"{"a":"x","b":[1,null]}"#);
    assert_eq!(contents("y"), "b: 1\n");
    assert_eq!(contents("m"), "[b]\nc = 1\n");
    assert_eq!((entry("b").mode, entry("b").overwrite), (0o400, true));
    // Numbers of another base keep their letters in TOML too.
    let toml = parse(
        Format::Toml,
        b"k = { path = '/tmp/x', contents = 'c', mode = 0o600 }",
    )
    .unwrap();
    let entry = files::entry("k", crate::tree::Mark::default(), toml.get("k").unwrap());
    assert_eq!(entry.ok().map(|e| e.mode), Some(0o600));
}

#[test]
fn unknown_keys_are_kept_and_told() {
    let checked = check(
        Format::Yaml,
        b"agent: {pip: {index_uri: x}, note: 1}\nmine: {a: {b: 2}}",
    )
    .unwrap();
    let told: Vec<_> = checked.unknown.iter().map(|u| (&*u.path, u.near)).collect();
    assert_eq!(
        told,
        [
            ("agent.pip.index_uri", Some("agent.pip.index_url")),
            ("agent.note", None),
            ("mine", None),
        ]
    );
    assert_eq!(
        (checked.keys, checked.values),
        (vec!["agent".to_owned(), "mine".to_owned()], 3)
    );
}

#[test]
fn only_paths_of_a_change_are_told() {
    let paths = changed(
        &yaml("environment: {A: 1, B: 2}\nx: {y: 1}"),
        &yaml("environment: {A: 1, B: 3}\nz: []"),
    );
    assert_eq!(paths, ["environment.B", "x.y", "z"]);
    assert!(changed(&yaml("a: 1.0"), &yaml("a: 1.0")).is_empty());
}

#[test]
fn what_is_secret_is_masked() {
    let text = "environment: {A: 1, B: null}\nfiles: {k: {path: /tmp/x, contents: {a: [s]}}}\nagent: {git: {user: u, password: p}, pip: {index_url: 'https://u:p@h/x'}, registries: [{host: h, username: u, password: p}]}\nmyApiKey: s\nmonkey: {auth-data: {deep: s}, plain: v}\nurl: 'https://token@h'";
    assert_eq!(
        mask::masked(&yaml(text)).to_json().to_string(),
        r#"{"agent":{"git":{"password":"********","user":"u"},"pip":{"index_url":"https://u:********@h/x"},"registries":[{"host":"h","password":"********","username":"u"}]},"environment":{"A":"********","B":null},"files":{"k":{"contents":{"a":["********"]},"path":"/tmp/x"}},"monkey":{"auth-data":{"deep":"********"},"plain":"v"},"myApiKey":"********","url":"https://********@h"}"#
    );
    let path = ["environment", "A"].map(str::to_owned);
    assert_eq!(
        mask::masked_at(&path, &yaml("{x: 1}")).to_json()["x"],
        "********"
    );
}

fn personal(text: &str) -> Document {
    vault(Layer::PersonalVault, "vlt_own", 3, 0, &yaml(text)).0
}

fn locked(text: &str) -> Document {
    vault(Layer::LockedVault, "vlt_lock", 1, 100, &yaml(text)).0
}

fn asked(text: &str) -> Document {
    document(
        Layer::CommandLine,
        "environment".to_owned(),
        false,
        0,
        yaml(text),
    )
}

#[test]
fn layers_fold_in_their_order_whatever_order_they_come_in() {
    let merged = merge(vec![
        locked("environment: {STAGE: prod}"),
        asked("environment: {STAGE: test, X: '1'}"),
        personal("environment: {STAGE: dev}\nagent: {note: 1, apply_files: null}"),
    ]);
    assert_eq!(
        merged.canonical(),
        r#"{"agent":{"note":1},"environment":{"STAGE":"prod","X":"1"}}"#
    );
    assert_eq!(
        merged.get("agent.apply_files").unwrap().text(),
        Some("true")
    );
    let codes: Vec<_> = merged.warnings.iter().map(|w| (w.code, &*w.path)).collect();
    assert_eq!(codes, [("unknown-key", "agent.note")]);
    let held = merged.locked();
    assert_eq!(held.len(), 1);
    assert_eq!(
        (
            &*held[0].path,
            &*held[0].from,
            &*held[0].to,
            &*held[0].source
        ),
        ("environment.STAGE", "********", "********", "vlt_lock")
    );
}

#[test]
fn what_a_locked_vault_takes_away_stays_away() {
    let merged = merge(vec![
        asked("environment: {A: x}"),
        locked("environment: {A: null}"),
    ]);
    assert_eq!(merged.canonical(), r#"{"environment":{}}"#);
    assert_eq!(merged.locked()[0].to, "unset");
}

#[test]
fn what_was_stored_in_spite_of_all_is_skipped() {
    let (document, warnings) = vault(
        Layer::PersonalVault,
        "vlt_a",
        1,
        0,
        &yaml("agent: {debug: true, note: 1}\ndaemon: {}"),
    );
    assert_eq!(
        document.tree.to_json().to_string(),
        r#"{"agent":{"note":1}}"#
    );
    let told: Vec<_> = warnings
        .iter()
        .map(|w| (w.code, &*w.path, w.source.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("forbidden-key", "agent.debug", Some("vlt_a")),
            ("forbidden-key", "daemon", Some("vlt_a"))
        ]
    );
}

#[test]
fn vaults_of_one_priority_that_differ_are_told() {
    let group = |id, priority, text| vault(Layer::GroupVault, id, 1, priority, &yaml(text)).0;
    let of = |low: i64, high: i64| {
        let merged = merge(vec![
            group("vlt_a", low, "environment: {A: 1}"),
            group("vlt_b", high, "environment: {A: 2}"),
        ]);
        merged.warnings.first().map(|w| (w.code, w.vaults.clone()))
    };
    assert_eq!(
        of(100, 100),
        Some((
            "same-priority",
            vec!["vlt_a".to_owned(), "vlt_b".to_owned()]
        ))
    );
    assert_eq!(of(100, 200), None);
}

#[test]
fn a_container_gets_what_came_out() {
    let merged = merge(vec![personal(
        "environment: {A: 1.10, B: null}\nfiles: {k: {path: /tmp/x, contents: c}, bad: {path: /etc/x, contents: c}}\nagent: {git: {user: u@x, password: 'p/w', host: git.lab}, pip: {index_url: 'https://x/', extra_index_urls: ['https://y', 'https://z']}, registries: [{host: r, username: u, password: p}], note: 1}",
    )]);
    let (delivery, skipped) = deliver(&merged, |_| false).unwrap();
    let names: Vec<_> = delivery
        .environment
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    assert_eq!(names, ["A=1.10"]);
    let files: Vec<_> = delivery
        .files
        .iter()
        .map(|f| (&*f.path, String::from_utf8_lossy(&f.contents).into_owned()))
        .collect();
    assert_eq!(files, [("/tmp/x", "c".to_owned())]);
    let config = String::from_utf8(delivery.config_json.clone()).unwrap();
    assert!(
        config.contains("\"note\":1")
            && config.contains("\"password\":\"p/w\"")
            && !config.contains("registries")
            && !config.contains("environment"),
        "{config}"
    );
    assert_eq!(delivery.registries.len(), 1);
    assert_eq!(
        (&*skipped[0].what, skipped[0].vault.as_deref()),
        ("bad", Some("vlt_own"))
    );
    assert!(!format!("{delivery:?}").contains("p/w"));
    // Of a required vault nothing is left out.
    let refused = deliver(&merged, |id| id == "vlt_own").unwrap_err();
    assert_eq!(
        (&*refused.vault, &*refused.why),
        ("vlt_own", "Path /etc/x is not under an allowed directory.")
    );
}

#[test]
fn sections_can_be_switched_off() {
    let merged = merge(vec![personal(
        "environment: {A: 1}\nfiles: {k: {path: /tmp/x, contents: c}}\nagent: {apply_environment: false, apply_files: false}",
    )]);
    let (delivery, _) = deliver(&merged, |_| false).unwrap();
    assert!(delivery.environment.is_empty() && delivery.files.is_empty());
}

#[test]
fn of_two_files_with_one_path_the_higher_layer_holds() {
    let merged = merge(vec![
        personal("files: {z: {path: /tmp/x, contents: own}}"),
        locked("files: {a: {path: /tmp/x, contents: locked}}"),
    ]);
    let (delivery, skipped) = deliver(&merged, |_| false).unwrap();
    assert_eq!(delivery.files.len(), 1);
    assert_eq!((&*delivery.files[0].label, &*skipped[0].what), ("a", "z"));
}

#[test]
fn texts_of_a_command_line_are_read_by_the_key() {
    let value = |path: &str, text| {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        match value_of(&path, text) {
            Ok(node) => {
                assert_eq!(dotted(&path), path.join("."));
                under(&path, node).to_json().to_string()
            }
            Err(why) => why,
        }
    };
    for (path, text, expected) in [
        ("environment.A", "1", r#"{"environment":{"A":"1"}}"#),
        (
            "agent.default_image",
            "007",
            r#"{"agent":{"default_image":"007"}}"#,
        ),
        (
            "agent.apply_files",
            "false",
            r#"{"agent":{"apply_files":false}}"#,
        ),
        (
            "agent.apply_files",
            "no",
            "agent.apply_files must be true or false.",
        ),
        ("agent.redact", "a, b", r#"{"agent":{"redact":["a","b"]}}"#),
        ("agent.git", "null", r#"{"agent":{"git":null}}"#),
        ("agent.git", "x", "agent.git must be a map in JSON."),
        ("mine.x", "{\"a\":1}", r#"{"mine":{"x":{"a":1}}}"#),
        ("mine.x", "abc", r#"{"mine":{"x":"abc"}}"#),
    ] {
        assert_eq!(value(path, text), expected);
    }
}

#[test]
fn where_there_is_no_room_for_all_what_stands_highest_has_it() {
    let long = "x".repeat(30_000);
    let own = format!("environment: {{A: {long}, B: {long}, C: {long}}}");
    let locked = vault(
        Layer::LockedVault,
        "vlt_l",
        1,
        0,
        &yaml("environment: {Z: z}"),
    )
    .0;
    let merged = merge(vec![personal(&own), locked]);
    let (delivery, skipped) = deliver(&merged, |_| false).unwrap();
    let names: Vec<&str> = delivery.environment.iter().map(|(n, _)| &**n).collect();
    assert_eq!(names, ["A", "B", "Z"]);
    assert_eq!((&*skipped[0].what, skipped.len()), ("C", 1));
    assert_eq!(delivery.check(), Ok(()));
    let file = |n: usize| {
        let contents = "y".repeat(64 * 1024);
        format!("f{n}: {{path: /tmp/{n:02}, contents: {contents}}}")
    };
    let parts: Vec<Document> = (0..6)
        .map(|part| {
            let files: Vec<String> = (0..3).map(|n| file(part * 3 + n)).collect();
            personal(&format!("files: {{{}}}", files.join(", ")))
        })
        .collect();
    let locked = "files: {z: {path: /home/work/z, contents: z}}";
    let locked = vault(Layer::LockedVault, "vlt_l", 1, 0, &yaml(locked)).0;
    let merged = merge(parts.into_iter().chain([locked]).collect());
    let (delivery, skipped) = deliver(&merged, |_| false).unwrap();
    assert!(
        delivery
            .files
            .iter()
            .any(|file| file.path == "/home/work/z")
    );
    assert_eq!((delivery.files.len(), skipped.len()), (16, 3));
    assert_eq!(delivery.check(), Ok(()));
}

/// How many bytes a check says.
fn said_bytes(found: &[Finding]) -> usize {
    let one = |found: &Finding| found.path.len() + found.message.len();
    found.iter().map(one).sum()
}

#[test]
fn of_ten_thousand_mistakes_a_hundred_are_told() {
    let name = "n".repeat(100);
    let many = |begin: &str, part: &dyn Fn(usize) -> String| {
        let parts: Vec<String> = (0..9000).map(part).collect();
        format!(
            "{begin}{}{}",
            parts.join(","),
            "}".repeat(begin.matches('{').count())
        )
    };
    let texts = [
        // Names above names, so that each path is long.
        many(&format!("{{\"{name}\":{{\"{name}\":{{"), &|n| {
            format!("\"k{n}\":\"********\"")
        }),
        many(&format!("{{\"{name}\":{{\"a\":[[{{"), &|n| {
            format!("\"k{n}\":\"********\"")
        })
        .replace("}}}", "}]]}}"),
        many(&format!("{{\"agent\":{{\"docker\":{{\"{name}\":{{"), &|n| {
            format!("\"k{n}\":1")
        }),
        many("{\"environment\":{", &|n| format!("\"1k{n}\":1")),
        many(&format!("{{\"files\":{{\"{name}\":{{"), &|n| {
            format!("\"k{n}\":1")
        }),
        many("{\"files\":{", &|n| format!("\"k{n}\":1")),
    ];
    for text in texts {
        let found = check(Format::Json, text.as_bytes()).unwrap_err();
        let last = found.last().unwrap();
        assert_eq!(found.len(), MAX_TOLD + 1, "{last:?}");
        assert!(last.message.starts_with("and 8"), "{last:?}");
        assert!(found.iter().all(|one| one.code == found[0].code));
        let most = said_bytes(&found);
        assert!(most < 100 * 1024, "{most} bytes are said");
    }
    let unknown = check(
        Format::Json,
        many("{", &|n| format!("\"k{n}\":1")).as_bytes(),
    );
    let unknown = unknown.unwrap().unknown;
    assert_eq!(unknown.len(), MAX_TOLD + 1);
    assert_eq!(unknown[MAX_TOLD].path, "and 8900 more");
}

#[test]
fn keys_have_names_of_a_sane_length() {
    let long = "n".repeat(513);
    for (format, text, place) in [
        (Format::Json, format!("{{\"a\":1,\n\"{long}\":1}}"), "2:1"),
        (Format::Yaml, format!("a: 1\n\"{long}\": 1\n"), "2:1"),
        (Format::Toml, format!("a = 1\n{long} = 1\n"), "2:1"),
        (Format::Hocon, format!("a = 1\n{long} = 1\n"), "2:1"),
    ] {
        let told = said(format, text.as_bytes());
        let expected = format!("LS-VAULT-SYNTAX:  {place} A key has more than 512 bytes.");
        assert_eq!(told, expected, "{format}");
        // What is stored may be older than the bound.
        let stored = parse(format, text.as_bytes()).unwrap();
        assert!(stored.get(&long).is_some(), "{format}");
        let good = text.replace(&long, &long[1..]);
        assert_eq!(said(format, good.as_bytes()), "good", "{format}");
    }
    // The bound of all names together.
    let name = "n".repeat(400);
    let deep = |last: usize| {
        let last = "m".repeat(last);
        said(
            Format::Json,
            format!("{{\"{name}\":{{\"{name}\":{{\"{last}\":1}}}}}}").as_bytes(),
        )
    };
    assert_eq!(deep(222), "good");
    assert!(deep(223).ends_with("A key has more than 1024 bytes with the keys above it."));
    // Many values below many keys.
    let below = |depth: usize| {
        let values: Vec<String> = (0..9000).map(|n| format!("\"k{n}\":1")).collect();
        let begin = "{\"a\":".repeat(depth);
        let text = format!("{begin}{{{}}}{}", values.join(","), "}".repeat(depth));
        said(Format::Json, text.as_bytes())
    };
    assert_eq!(below(10), "good");
    assert!(below(30).ends_with("The names of all values have more than 4096 KiB."));
}

#[test]
fn a_name_with_dots_is_none_of_ours() {
    let checked = check(
        Format::Json,
        b"{\"agent.git.user\":1,\"agent\":{\"git.user\":1}}",
    );
    let unknown = checked.unwrap().unknown;
    let told: Vec<&str> = unknown.iter().map(|one| &*one.path).collect();
    assert_eq!(told, ["\"agent.git.user\"", "agent.\"git.user\""]);
    let tree = yaml("agent.git.user: a");
    let merged = merge(vec![document(Layer::File, "f".to_owned(), false, 0, tree)]);
    assert_eq!(merged.warnings[0].code, "unknown-key");
    assert_eq!(merged.text("agent.git.user"), None);
    assert_eq!(merged.text("\"agent.git.user\""), Some("a"));
}

#[test]
fn numbers_where_texts_are_wanted_are_texts() {
    let tree = yaml(
        "agent: {git: {credentials: [{host: h, user: 12, password: 0755}]}, redact: [1.10], registries: [{host: h, username: 1, password: 1e3}]}",
    );
    let merged = merge(vec![document(Layer::File, "f".to_owned(), false, 0, tree)]);
    assert_eq!(
        merged.canonical(),
        r#"{"agent":{"git":{"credentials":[{"host":"h","password":"0755","user":"12"}]},"redact":["1.10"],"registries":[{"host":"h","password":"1e3","username":"1"}]}}"#
    );
}

#[test]
fn a_locked_map_in_place_of_a_request_s_value_is_told() {
    let of = |kind, text: &str| document(kind, "s".to_owned(), false, 0, yaml(text));
    let merged = merge(vec![
        of(Layer::CommandLine, "note: 1"),
        of(Layer::LockedVault, "note: {a: 2, b: 3}"),
    ]);
    let [locked] = merged.locked().try_into().unwrap();
    assert_eq!(
        (&*locked.path, &*locked.from, &*locked.to),
        ("note", "1", r#"{"a":2,"b":3}"#)
    );
    // A map that is joined with an empty one is held against nothing.
    for (asked, holds) in [("note: {}", "note: {a: 2}"), ("note: {a: 2}", "note: {}")] {
        let merged = merge(vec![
            of(Layer::CommandLine, asked),
            of(Layer::LockedVault, holds),
        ]);
        assert_eq!(merged.locked(), [], "{asked} {holds}");
    }
}
