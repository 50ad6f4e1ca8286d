//! The tree itself: what may be named where, and what must not be there.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("tests lie in the workspace")
        .to_owned()
}

/// Folders that hold nothing of ours: built, fetched, or under version control's own care.
const FOREIGN: [&str; 4] = ["target", ".git", ".x", "node_modules"];

fn walk(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_file() {
        found.push(path.to_owned());
        return;
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|entry| entry.expect("a folder can be listed").path())
        .collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        if !FOREIGN.contains(&name.as_ref()) && !entry.is_symlink() {
            walk(&entry, found);
        }
    }
}

/// Files below `path` with their text; what is no text is left out.
fn texts(path: &str) -> Vec<(String, String)> {
    let root = root();
    let start = root.join(path);
    assert!(
        start.exists(),
        "{path} is not there any more: mend this test"
    );
    let mut found = Vec::new();
    walk(&start, &mut found);
    found
        .into_iter()
        .filter_map(|file| {
            let text = fs::read_to_string(&file).ok()?;
            let name = file.strip_prefix(&root).ok()?.display().to_string();
            Some((name, text))
        })
        .collect()
}

fn rust(path: &str) -> Vec<(String, String)> {
    let mut all = texts(path);
    all.retain(|(name, _)| name.ends_with(".rs"));
    all
}

/// The lines that are code: without comments, and up to the unit tests at the end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(number, line)| (number + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Whether `word` stands in the line by itself, not as a part of a longer name.
fn names(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(inside) && !line[at + word.len()..].starts_with(inside)
    })
}

fn offences(files: &[(String, String)], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in files {
        for (number, line) in code(text) {
            for word in words.iter().filter(|word| names(line, word)) {
                found.push(format!("{name}:{number}: {word}: {}", line.trim()));
            }
        }
    }
    found
}

fn none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn what_decides_is_pure() {
    let words = [
        "tokio",
        "quinn",
        "axum",
        "rusqlite",
        "bollard",
        "nvml_wrapper",
        "reqwest",
        "Instant::now",
        "SystemTime::now",
        "SystemTime",
        "std::env",
        "std::fs",
        "std::net",
        "std::process",
        "std::thread",
        "uuid",
        "rand",
        "getrandom",
        "SystemRandom",
        "HashMap",
        "HashSet",
    ];
    for path in [
        "coordinator/core/src",
        "agent/src/reconcile.rs",
        "common/src/judge.rs",
        "common/src/judge",
    ] {
        none(&offences(&rust(path), &words));
    }
    // The shared types may be read and written, but they touch nothing.
    let words = &words[..words.len() - 2];
    none(&offences(&rust("common/src"), words));
    // One module of the configuration reads files; the rest is handed what was read.
    let mut config = rust("config/src");
    config.retain(|(name, _)| name != "config/src/sources.rs");
    none(&offences(&config, words));
}

#[test]
fn foreign_interfaces_are_named_in_one_place() {
    let only = |whole: &str, word: &str, places: &[&str]| {
        let mut files = rust(whole);
        files.retain(|(name, _)| {
            !places
                .iter()
                .any(|place| name.starts_with(&format!("{whole}/src/{place}")))
                && name.starts_with(&format!("{whole}/src/"))
        });
        offences(&files, &[word])
    };
    none(&only("agent", "bollard", &["runtime/docker/", "network"]));
    none(&only("agent", "nvml_wrapper", &["devices/nvml/"]));
    none(&only("agent", "nvml_wrapper_sys", &["devices/nvml/"]));
    none(&only("coordinator", "rusqlite", &["store/"]));
    none(&only("cli", "rusqlite", &[]));
    none(&only("cli", "bollard", &[]));
}

#[test]
fn programs_do_not_name_each_other() {
    let names = ["longshore_agent", "longshore_coordinator", "longshore_core"];
    let [agent, coordinator, core] = names;
    none(&offences(&rust("agent/src"), &[coordinator, core]));
    none(&offences(&rust("coordinator/src"), &[agent]));
    none(&offences(
        &rust("coordinator/core/src"),
        &[agent, coordinator],
    ));
    // `simulate` asks no coordinator: it runs the core itself.
    let mut cli = rust("cli/src");
    cli.retain(|(name, _)| name != "cli/src/commands/simulate.rs");
    none(&offences(&cli, &names));
    none(&offences(&rust("link/src"), &names));
    none(&offences(&rust("common/src"), &names));
    // What comes of a merge is handed over as the shared types say.
    let ours = [agent, coordinator, core, "longshore_link"];
    none(&offences(&rust("config/src"), &ours));
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    // Put together here, so that this file does not name them either.
    let paths = [format!("/{}/", "work"), format!("/{}/", "root")];
    let allowed = |line: &str| {
        // Inside a container, `/home/work` is where people work; `$HOME` may be root's.
        line.contains(&format!("/home{}", paths[0].trim_end_matches('/')))
            || line.contains("HOME:=")
    };
    let mut found = Vec::new();
    for (name, text) in texts(".") {
        for (number, line) in text.lines().enumerate() {
            if paths.iter().any(|path| line.contains(path.as_str())) && !allowed(line) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none(&found);
}

#[test]
fn every_crate_takes_the_common_lints() {
    let mut manifests = texts(".");
    manifests.retain(|(name, _)| name.ends_with("Cargo.toml") && name != "Cargo.toml");
    assert!(manifests.len() >= 8, "{}", manifests.len());
    let bare: Vec<String> = manifests
        .into_iter()
        .filter(|(_, text)| !text.contains("[lints]\nworkspace = true"))
        .map(|(name, _)| name)
        .collect();
    none(&bare);
}

/// Names and versions of the lock file.
fn locked() -> Vec<(String, Vec<u64>)> {
    let text = fs::read_to_string(root().join("Cargo.lock")).expect("there is a lock file");
    let lock: toml::Table = text.parse().expect("the lock file is TOML");
    let packages = lock["package"].as_array().expect("it lists packages");
    let named = |package: &toml::Value, key: &str| package[key].as_str().map(str::to_owned);
    let both = |package| named(package, "name").zip(named(package, "version"));
    let locked: Vec<_> = packages.iter().filter_map(both).collect();
    assert_eq!(locked.len(), packages.len());
    locked
        .into_iter()
        .map(|(name, version)| (name, numbers(&version)))
        .collect()
}

/// `0.11.14` as numbers; what stands behind them (`-rc.1`, `+1.2`) is left out.
fn numbers(version: &str) -> Vec<u64> {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    plain
        .split('.')
        .map(|part| part.parse().expect("a number"))
        .collect()
}

#[test]
fn banned_crates_are_absent() {
    let text = fs::read_to_string(root().join("deny.toml")).expect("there is a list of bans");
    let deny: toml::Table = text.parse().expect("it is TOML");
    let banned = deny["bans"]["deny"].as_array().expect("it lists crates");
    // Those with wrappers others may bring.
    let banned = banned.iter().filter(|ban| ban.get("wrappers").is_none());
    let banned: Vec<&str> = banned.filter_map(|ban| ban["crate"].as_str()).collect();
    assert!(
        banned.contains(&"openssl-sys") && banned.len() >= 15,
        "{banned:?}"
    );
    let found: Vec<String> = locked()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| banned.contains(&name.as_str()) || name == "openssl" || name == "async-std")
        .collect();
    none(&found);
}

#[test]
fn no_locked_version_is_older_than_its_floor() {
    let text = include_str!("../pins.toml");
    let floors: toml::Table = text.parse().expect("it is TOML");
    let locked = locked();
    assert!(floors.len() >= 4);
    let mut older = Vec::new();
    for (name, floor) in &floors {
        let floor = numbers(floor.as_str().expect("a version"));
        let mut versions = locked
            .iter()
            .filter(|(locked, _)| locked == name)
            .peekable();
        assert!(versions.peek().is_some(), "{name} is not used any more");
        older.extend(versions.filter(|(_, version)| *version < floor));
    }
    assert!(older.is_empty(), "{older:?}");
}

/// All that a unit runs of a program is given the flags of the same file, the guard of the agent
/// those of the agent. (One that runs keeps its flags when that file is changed: they act at the
/// next restart.)
#[test]
fn units_give_a_program_the_same_flags_everywhere() {
    for (unit, program, flags, commands) in [
        (
            "longshore-coordinator",
            "longshore-coordinator",
            "$COORDINATOR_FLAGS",
            2,
        ),
        ("longshore-agent", "longshore-agent", "$AGENT_FLAGS", 2),
        (
            "longshore-agent-guard",
            "longshore-agent",
            "$AGENT_FLAGS",
            1,
        ),
    ] {
        let path = root().join(format!("systemd/{unit}.service"));
        let text = fs::read_to_string(&path).expect("the unit is there");
        let run = format!("=/usr/bin/{program}");
        let given = format!("{run} {flags}");
        let runs: Vec<&str> = text.lines().filter(|line| line.contains(&run)).collect();
        assert_eq!(runs.len(), commands, "{unit}");
        assert!(runs.iter().all(|line| line.contains(&given)), "{runs:?}");
        let name = flags.trim_start_matches('$');
        for line in [
            format!("Environment={name}=\n"),
            format!("EnvironmentFile=-/etc/default/{program}\n"),
        ] {
            assert!(text.contains(&line), "{unit}: {line}");
        }
    }
}
