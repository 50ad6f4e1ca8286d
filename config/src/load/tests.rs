use super::*;
use crate::schema::{Acts, Key};

const SCHEMA: Schema = Schema {
    roots: &["daemon", "secure", "logging", "work"],
    foreign: &["agent"],
    renamed: &[("daemon.cors", "is called daemon.cors.origins now")],
    keys: &[
        key("daemon.cors.origins", Kind::List(&Kind::Text), "[]"),
        key("daemon.cors.credentials", Kind::Bool, "false"),
        key("daemon.wait_s", Kind::Duration(0, 9999), "5"),
        key("daemon.actions", Kind::Free, "{}"),
        key("secure.password", Kind::Secret, ""),
        key(
            "logging.levels",
            Kind::MapOf(&Kind::OneOf(&["info", "debug"])),
            "{}",
        ),
    ],
};

const fn key(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        acts: Acts::Restart,
        help: "",
    }
}

fn file(name: &str, text: &str) -> File {
    let (under, extension) = name.rsplit_once('.').unwrap();
    File {
        path: PathBuf::from(format!("/etc/x//{name}")),
        under: match under {
            "top" => Vec::new(),
            under => under.split('/').map(str::to_owned).collect(),
        },
        may_be_whole: false,
        format: Format::of_extension(extension).unwrap(),
        bytes: text.as_bytes().to_vec(),
        open_to_all: true,
    }
}

fn loaded(
    files: &[(&str, &str)],
    environment: &[(&str, &str)],
    arguments: &[(&str, &str, &str)],
) -> Result<Loaded, Vec<String>> {
    loaded_by(&SCHEMA, files, environment, arguments)
}

fn loaded_by(
    schema: &Schema,
    files: &[(&str, &str)],
    environment: &[(&str, &str)],
    arguments: &[(&str, &str, &str)],
) -> Result<Loaded, Vec<String>> {
    let read_file = |path: &Path| match path.to_str() {
        Some("/secret") => Ok("s3\n".to_owned()),
        _ => Err("no such file".to_owned()),
    };
    let include = |_: &Path, name: &str| match name {
        "more.conf" => Ok(Included {
            path: PathBuf::from("/etc/x/more.conf"),
            text: "wait_s = 7".to_owned(),
            open_to_all: true,
        }),
        _ => Err(format!("there is no {name}")),
    };
    let sources = Sources {
        settings: Vec::new(),
        files: files.iter().map(|(name, text)| file(name, text)).collect(),
        environment: environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        arguments: arguments
            .iter()
            .map(|(n, k, v)| ((*n).to_owned(), (*k).to_owned(), (*v).to_owned()))
            .collect(),
        read_file: &read_file,
        include: &include,
    };
    load(schema, sources).map_err(|faults| faults.iter().map(Fault::to_string).collect())
}

#[test]
fn later_sources_win_and_say_so() {
    let loaded = loaded(
        &[
            (
                "daemon.toml",
                "cors = { origins = [\"a\"] }\nwait_s = \"1h\"",
            ),
            ("top.yaml", "daemon: {cors: {credentials: true}}"),
        ],
        &[
            ("LONGSHORE__DAEMON__CORS__ORIGINS", "b, c"),
            ("LONGSHORE__DAEMON__CORS", "{\"credentials\":false}"),
            ("LONGSHORE__LOGGING__LEVELS__Tower", "DEBUG"),
            ("LONGSHORE__AGENT__GIT__USER", "x"),
            ("OTHER", "x"),
        ],
        &[("--wait", "daemon.wait_s", "9")],
    )
    .unwrap();
    assert_eq!(
        loaded.tree.to_string(),
        r#"{"daemon":{"cors":{"credentials":false,"origins":["b","c"]},"wait_s":9},"logging":{"levels":{"Tower":"debug"}}}"#
    );
    let shown = show(&SCHEMA, &loaded);
    let line = |key: &str| shown.iter().find(|s| s.key == key).unwrap();
    let origins = line("daemon.cors.origins");
    assert_eq!(origins.origin, "env LONGSHORE__DAEMON__CORS__ORIGINS");
    assert_eq!(origins.shadowed[0].0, "/etc/x/daemon.toml:1");
    assert_eq!(line("daemon.wait_s").origin, "--wait");
    assert_eq!(line("daemon.wait_s").shadowed[0].1, 3600);
    assert_eq!(line("secure.password").origin, "default");
    assert_eq!(loaded.place_of("daemon.wait_s"), Some("--wait"));
}

#[test]
fn everything_wrong_is_told_at_once_with_its_place() {
    let faults = loaded(
        &[
            ("daemon.toml", "cors = { origns = [] }\nwait_s = \"soon\""),
            ("top.json", "{\"x\": 1,\n \"daemon\": 3}"),
            ("secure.yaml", "password: [x]"),
            ("logging.hocon", "levels = {"),
            ("agent.toml", "this is not even TOML"),
        ],
        &[
            ("LONGSHORE__DAEMON__CORS__ORIGNS", "x"),
            ("LONGSHORE__DAEMON__CORS__CREDENTIALS", "yes"),
            ("LONGSHORE__DAEMON__CORS__ORIGINS__0", "x"),
            ("LONGSHORE__SECURE__PASSWORD", "a"),
            ("LONGSHORE__SECURE__PASSWORD__FILE", "/secret"),
        ],
        &[("--set", "daemon.waits", "1")],
    )
    .unwrap_err();
    assert_eq!(
        faults,
        [
            "/etc/x/daemon.toml:1:10: unknown key daemon.cors.origns; did you mean daemon.cors.origins?",
            "/etc/x/daemon.toml:2:1: daemon.wait_s: \"soon\" must be a time from 0 to 9999 seconds, such as 90 or 1h30m",
            "/etc/x/top.json:1:2: unknown key x",
            "/etc/x/top.json:2:2: daemon must be a map",
            "/etc/x/secure.yaml:1:1: secure.password: must be text",
            "/etc/x/secure.yaml: sets secure keys and may be read by everybody: chmod o= /etc/x/secure.yaml",
            "/etc/x/logging.hocon:1:11: The text ends inside of braces.",
            "LONGSHORE__DAEMON__CORS__CREDENTIALS: daemon.cors.credentials: \"yes\" must be true or false",
            "LONGSHORE__DAEMON__CORS__ORIGNS: unknown key daemon.cors.origns; did you mean daemon.cors.origins?",
            "LONGSHORE__SECURE__PASSWORD__FILE: LONGSHORE__SECURE__PASSWORD is set as well; one of them must go",
            "LONGSHORE__DAEMON__CORS__ORIGINS__0: daemon.cors.origins is a list; give the whole list",
            "--set: unknown key daemon.waits; did you mean daemon.wait_s?",
        ]
    );
}

#[test]
fn secrets_come_from_files_and_are_masked() {
    let loaded = loaded(
        &[],
        &[
            ("LONGSHORE__SECURE__PASSWORD__FILE", "/secret"),
            (
                "LONGSHORE__DAEMON__ACTIONS",
                "{\"apiToken\":\"x\",\"url\":\"u\"}",
            ),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(loaded.tree["secure"]["password"], "s3");
    let shown = format!("{:?}", show(&SCHEMA, &loaded));
    assert!(!shown.contains("s3") && shown.contains(MASK), "{shown}");
    assert!(!shown.contains("\"x\""), "{shown}");
}

#[test]
fn secrets_in_open_files_stop_the_start() {
    let text = "password = \"p\"";
    let faults = loaded(&[("secure.toml", text)], &[], &[]).unwrap_err();
    assert!(faults[0].contains("chmod o= "), "{faults:?}");
    // What a file includes is looked at in the same way.
    let with = |included: &str| {
        let text = format!("include \"{included}\"");
        let mut file = file("secure.conf", &text);
        file.open_to_all = false;
        let sources = |name: &str| match name {
            "open.conf" | "shut.conf" => Ok(Included {
                path: PathBuf::from("/etc/x/included.conf"),
                text: "password = p".to_owned(),
                open_to_all: name == "open.conf",
            }),
            _ => Err(format!("there is no {name}")),
        };
        including(file, &sources).map_err(|faults| faults[0].to_string())
    };
    assert!(with("shut.conf").is_ok());
    assert_eq!(
        with("open.conf").unwrap_err(),
        "/etc/x/included.conf: sets secure keys and may be read by everybody: chmod o= /etc/x/included.conf"
    );
}

/// A file by itself, with what it includes.
fn including(
    file: File,
    included: &dyn Fn(&str) -> Result<Included, String>,
) -> Result<Loaded, Vec<Fault>> {
    let sources = Sources {
        files: vec![file],
        settings: Vec::new(),
        environment: Vec::new(),
        arguments: Vec::new(),
        read_file: &|_| Err("no such file".to_owned()),
        include: &|_, name| included(name),
    };
    load(&SCHEMA, sources)
}

#[test]
fn an_open_file_without_a_secret_may_be_included_beside_one() {
    let with = |text: &str| {
        let mut file = file("top.conf", text);
        file.under = Vec::new();
        file.open_to_all = false;
        let sources = |name: &str| {
            let text = match name {
                "wait" => "daemon.wait_s = 7",
                "secret" | "same" => "secure.password = hunter2",
                "named" => "daemon.actions.p = hunter2",
                "shut" => "secure.password = hunter2",
                _ => return Err(format!("there is no {name}")),
            };
            Ok(Included {
                path: PathBuf::from(format!("/etc/x/{name}")),
                text: text.to_owned(),
                open_to_all: name != "shut",
            })
        };
        let told = |faults: Vec<Fault>| faults.into_iter().map(|f| f.place).collect::<Vec<_>>();
        match including(file, &sources) {
            Ok(loaded) => Ok(told(loaded.warnings)),
            Err(faults) => Err(told(faults)),
        }
    };
    let of = |names: &[&str]| {
        let names = names.iter().map(|name| format!("/etc/x/{name}"));
        names.collect::<Vec<_>>()
    };
    let own = "secure.password = mine";
    assert_eq!(with(&format!("include \"wait\"\n{own}")), Ok(of(&["wait"])));
    let shut = "include \"wait\"\ninclude \"shut\"";
    assert_eq!(with(shut), Ok(of(&["wait"])));
    let open = "include \"wait\"\ninclude \"secret\"";
    assert_eq!(with(open), Err(of(&["secret"])));
    // Each of them alone could go.
    let both = "include \"same\"\ninclude \"secret\"";
    assert_eq!(with(both), Err(of(&["same", "secret"])));
    // A secret that only its name brings where it counts.
    let named = "include \"named\"\nsecure.password = ${daemon.actions.p}";
    assert_eq!(with(named), Err(of(&["named"])));
}

#[test]
fn null_and_twice() {
    let files = [
        ("daemon.toml", "wait_s = 1"),
        ("daemon/cors.toml", "origins = [\"a\"]"),
        ("top.toml", "daemon.wait_s = 2"),
    ];
    let null = [("LONGSHORE__DAEMON__WAIT_S", "null")];
    let loaded = loaded(&files, &null, &[]).unwrap();
    assert_eq!(
        loaded.tree.to_string(),
        r#"{"daemon":{"cors":{"origins":["a"]}}}"#
    );
    let told: Vec<String> = loaded.warnings.iter().map(Fault::to_string).collect();
    assert_eq!(
        told,
        ["/etc/x/top.toml:1: daemon.wait_s stands in /etc/x/daemon.toml:1 already; this one holds"]
    );
}

#[test]
fn hocon_files_include_and_see_variables() {
    let files = [(
        "daemon.conf",
        "include \"more.conf\"\ncors.origins = [${?HOST}]",
    )];
    let loaded = loaded(&files, &[("HOST", "h")], &[]).unwrap();
    assert_eq!(
        loaded.tree.to_string(),
        r#"{"daemon":{"cors":{"origins":["h"]},"wait_s":7}}"#
    );
}

#[test]
fn names_that_tell_of_secrets() {
    for name in ["API_KEY", "apiToken", "db-password", "x.auth", "Secret"] {
        assert!(is_secret_name(name), "{name}");
    }
    for name in ["keyboard", "author", "monkey", "tokens2"] {
        assert!(!is_secret_name(name), "{name}");
    }
}

#[test]
fn what_is_set_for_sessions_is_apart() {
    let files = [
        ("work.toml", "environment.HTTP_PROXY = \"http://p:3128\""),
        (
            "top.yaml",
            "daemon: {wait_s: 7}\nwork: {environment: {A: 1.10}}",
        ),
        ("work/files.yaml", "k: {path: /tmp/x, contents: c}"),
        ("work.yaml", "environment: {HTTP_PROXY: 'http://q:3128'}"),
    ];
    let variables = [
        ("LONGSHORE__WORK__ENVIRONMENT__Stage", "007"),
        ("LONGSHORE__WORK__AGENT__GIT__USER", "b"),
    ];
    let loaded = loaded(&files, &variables, &[]).unwrap();
    assert_eq!(loaded.tree.to_string(), r#"{"daemon":{"wait_s":7}}"#);
    let merged = layers::merge(loaded.work.clone());
    assert_eq!(
        merged.canonical(),
        r#"{"agent":{"git":{"user":"b"}},"environment":{"A":"1.10","HTTP_PROXY":"http://q:3128","Stage":"007"},"files":{"k":{"contents":"c","path":"/tmp/x"}}}"#
    );
    let told: Vec<String> = loaded.warnings.iter().map(Fault::to_string).collect();
    assert_eq!(
        told,
        [
            "/etc/x/work.yaml:1: work.environment.HTTP_PROXY stands in /etc/x/work.toml:1 already; this one holds"
        ]
    );
    let source = |path: &str| {
        let leaf = merged.leaves.iter().find(|leaf| dotted(&leaf.path) == path);
        leaf.unwrap().origin.source.clone()
    };
    assert_eq!(
        source("environment.HTTP_PROXY"),
        "coordinator:/etc/x/work.yaml:1"
    );
    assert_eq!(
        source("agent.git.user"),
        "LONGSHORE__WORK__AGENT__GIT__USER"
    );
}

#[test]
fn sessions_are_not_given_what_belongs_to_a_machine() {
    let faults = loaded(
        &[("work.yaml", "agent:\n  debug: true\n")],
        &[("LONGSHORE__WORK__AGENT__APPLY_FILES", "no")],
        &[],
    )
    .unwrap_err();
    assert_eq!(
        faults,
        [
            "/etc/x/work.yaml:2:3: work: agent.debug belongs to a machine and cannot be set in a vault.",
            "LONGSHORE__WORK__AGENT__APPLY_FILES: work: agent.apply_files must be true or false.",
        ]
    );
}

/// A program whose keys and those of sessions stand beside each other.
const BESIDE: Schema = Schema {
    roots: &["agent", "environment", "files"],
    foreign: &["daemon", "work"],
    renamed: &[],
    keys: &[
        key("agent.group", Kind::Text, ""),
        key("agent.redact", Kind::List(&Kind::Text), "[]"),
    ],
};

#[test]
fn an_agents_own_keys_and_those_of_sessions_are_told_apart() {
    let files = [
        (
            "agent.toml",
            "group = \"g\"\nredact = [\"LAB_*\"]\n[git]\nuser = \"a\"\n",
        ),
        ("agent/pip.yaml", "index_url: https://x\n"),
        ("environment.yaml", "A: 1.10\nB: x\n"),
        (
            "top.yaml",
            "work: {environment: {C: no}}\nfiles: {k: {path: /tmp/x, contents: c}}\n",
        ),
    ];
    let variables = [
        ("LONGSHORE__ENVIRONMENT__Stage", "007"),
        ("LONGSHORE__AGENT__GIT__USER", "b"),
        ("LONGSHORE__AGENT__REDACT", "LAB_*, X"),
    ];
    let loaded = loaded_by(&BESIDE, &files, &variables, &[]).unwrap();
    assert_eq!(
        loaded.tree.to_string(),
        r#"{"agent":{"group":"g","redact":["LAB_*","X"]}}"#
    );
    let shown: Vec<String> = show_given(&BESIDE, &loaded)
        .into_iter()
        .map(|one| {
            format!(
                "{} {} {} {}",
                one.key,
                one.value,
                one.origin,
                one.shadowed.len()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "agent.git.user \"b\" env LONGSHORE__AGENT__GIT__USER 1",
            "agent.pip.index_url \"https://x\" /etc/x/agent/pip.yaml:1 0",
            "environment.A \"********\" /etc/x/environment.yaml:1 0",
            "environment.B \"********\" /etc/x/environment.yaml:2 0",
            "environment.Stage \"********\" env LONGSHORE__ENVIRONMENT__Stage 0",
            "files.k {\"contents\":\"********\",\"path\":\"/tmp/x\"} /etc/x/top.yaml:2 0",
        ]
    );
    let merged = layers::merge(loaded.work);
    let texts = |path: &str| merged.get(path).unwrap().to_json().to_string();
    assert_eq!(texts("agent.redact"), r#"["LAB_*","X"]"#);
    assert_eq!(merged.text("environment.A"), Some("1.10"));
}

#[test]
fn what_sessions_of_a_node_cannot_be_given_has_its_place() {
    let files = [
        (
            "agent.toml",
            "default_image = \"x\"\nbananas = 1\n[git]\nusr = \"a\"\n",
        ),
        ("environment.toml", "LD_PRELOAD = \"x\"\n"),
    ];
    let variables = [
        ("LONGSHORE__AGENT__WORKING_DIR", "/x"),
        ("LONGSHORE__AGENT__APPLY_FILES", "perhaps"),
    ];
    let faults = loaded_by(&BESIDE, &files, &variables, &[]).unwrap_err();
    let too_late = "is decided before a session has a node; set it in a vault, or below work in the coordinator's files";
    assert_eq!(
        faults,
        [
            format!("/etc/x/agent.toml:1:17: agent.default_image {too_late}"),
            "/etc/x/agent.toml:4:1: unknown key agent.git.usr; did you mean agent.git.user?"
                .to_owned(),
            "/etc/x/agent.toml:2:1: unknown key agent.bananas".to_owned(),
            "/etc/x/environment.toml:1:1: Environment name LD_PRELOAD is reserved.".to_owned(),
            "LONGSHORE__AGENT__APPLY_FILES: agent.apply_files must be true or false.".to_owned(),
            format!("LONGSHORE__AGENT__WORKING_DIR: agent.working_dir {too_late}"),
        ]
    );
}

#[test]
fn who_sets_what_has_another_name_now_is_told_it() {
    let said = "daemon.cors: is called daemon.cors.origins now";
    let faults = loaded(&[("daemon.toml", "cors = \"a\"")], &[], &[]).unwrap_err();
    assert_eq!(faults, [format!("/etc/x/daemon.toml:1:1: {said}")]);
    for text in ["https://a.lab", "[\"a\"]", ""] {
        let variable = [("LONGSHORE__DAEMON__CORS", text)];
        let faults = loaded(&[], &variable, &[]).unwrap_err();
        assert_eq!(faults, [format!("LONGSHORE__DAEMON__CORS: {said}")]);
    }
    let map = [("LONGSHORE__DAEMON__CORS", "{\"origins\":[\"a\"]}")];
    assert!(loaded(&[], &map, &[]).is_ok());
}
