use super::*;
use longshore_common::wire::RegistryLogin;

fn file(path: &str) -> DeliveredFile {
    DeliveredFile {
        label: "netrc".to_owned(),
        path: path.to_owned(),
        contents: b"hunter2".to_vec(),
        mode: 0o400,
        owner: Owner::User,
        overwrite: true,
        required: false,
        vault: None,
    }
}

fn roots() -> Vec<String> {
    ROOTS.map(str::to_owned).to_vec()
}

fn planned(delivery: &Delivery) -> Plan {
    plan(delivery, &roots(), &["/home/work/data"]).unwrap()
}

fn with_files(paths: &[&str]) -> Delivery {
    Delivery {
        files: paths.iter().map(|path| file(path)).collect(),
        ..Delivery::default()
    }
}

fn contents<'a>(plan: &'a Plan, target: &str) -> Option<&'a str> {
    let mut files = plan.files.iter();
    let found = files.find(|placed| placed.target == target)?;
    std::str::from_utf8(&found.file.contents).ok()
}

#[test]
fn paths_are_cleaned_and_stay_below_the_roots() {
    let is = |path: &str| target(path, &roots(), &["/home/work/data"]);
    assert_eq!(is("~/.netrc").unwrap(), "/home/work/.netrc");
    assert_eq!(is("$HOME/a/b").unwrap(), "/home/work/a/b");
    assert_eq!(is("/tmp//./x").unwrap(), "/tmp/x");
    for path in [
        "/etc/passwd",
        "/home/workers/x",
        "/home/work",
        "/home/work/",
        "/tmp/../etc/x",
        "work/x",
        "~root/x",
        "/tmp/a\nb",
        "/run/longshore/session.json",
        "/tmp/x/",
    ] {
        let why = is(path).unwrap_err();
        assert_eq!(
            why,
            format!("Path {path} is not under an allowed directory.")
        );
    }
    assert_eq!(is("~/data/key").unwrap_err(), "it lies in a mounted folder");
    assert!(is("~/database").is_ok(), "not in the folder");
    let all = ["/".to_owned()];
    assert!(target("/dev/shm/x", &all, &[]).is_err());
}

#[test]
fn what_cannot_be_placed_is_left_out_or_fails_the_start() {
    let mut delivery = with_files(&["/etc/x", "~/a", "/home/work/a"]);
    let plan = planned(&delivery);
    let targets: Vec<&str> = plan.files.iter().map(|p| p.target.as_str()).collect();
    assert_eq!(
        targets,
        ["/home/work/a", "/run/longshore/secrets/config.json"]
    );
    assert_eq!(plan.notes.len(), 2);
    assert!(plan.notes.iter().all(|n| n.kind == NoticeKind::FileSkipped));
    assert!(plan.notes[1].text.contains("another file has this path"));
    // No file is a directory of another one.
    let nested = with_files(&[
        "~/a",
        "~/a/b",
        "/run/longshore/secrets/config.json/x",
        "~/c/d",
        "~/c",
    ]);
    let nested = planned(&nested);
    let targets: Vec<&str> = nested.files.iter().map(|p| p.target.as_str()).collect();
    let own = "/run/longshore/secrets/config.json";
    assert_eq!(targets, ["/home/work/a", "/home/work/c/d", own]);
    assert_eq!(nested.notes.len(), 3);
    delivery.files[0].required = true;
    let Err(Required(text)) = super::plan(&delivery, &roots(), &[]) else {
        panic!("it starts without a required file");
    };
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn the_document_is_always_there_and_nobody_elses() {
    let plan = planned(&with_files(&["/run/longshore/secrets/config.json"]));
    assert_eq!(
        contents(&plan, "/run/longshore/secrets/config.json"),
        Some("{}")
    );
    assert_eq!(plan.files.len(), 1);
    assert!(
        plan.notes[0]
            .text
            .contains("Longshore makes this file itself")
    );
}

#[test]
fn git_is_told_of_its_credentials_by_variables() {
    let delivery = Delivery {
        environment: vec![
            ("GIT_CONFIG_COUNT".into(), "1".into()),
            ("GIT_CONFIG_KEY_0".into(), "user.name".into()),
        ],
        config_json: br#"{"agent":{"git":{"user":"d@x","password":"p:/ %","host":"git.lab",
            "credentials":[{"user":"a","password":"b","host":"https://h:8443/"},
                {"user":"a","password":"b","host":"h\nhttps://evil"}]}}}"#
            .to_vec(),
        ..Delivery::default()
    };
    let plan = planned(&delivery);
    assert_eq!(
        contents(&plan, "/run/longshore/secrets/git-credentials"),
        Some("https://a:b@h:8443\nhttps://d%40x:p%3A%2F%20%25@git.lab\n")
    );
    let value = |name: &str| {
        let mut all = plan.environment.iter();
        all.find(|(known, _)| known == name)
            .map(|(_, v)| v.as_str())
    };
    assert_eq!(value("GIT_CONFIG_COUNT"), Some("2"));
    assert_eq!(value("GIT_CONFIG_KEY_0"), Some("user.name"));
    assert_eq!(value("GIT_CONFIG_KEY_1"), Some("credential.helper"));
    let helper = "store --file=/run/longshore/secrets/git-credentials";
    assert_eq!(value("GIT_CONFIG_VALUE_1"), Some(helper));
}

#[test]
fn pip_gets_a_file_of_its_own() {
    let delivery = Delivery {
        config_json: br#"{"agent":{"pip":{"index_url":"https://a","extra_index_urls":
            ["https://b","https://c","https://d\nx = y"]}}}"#
            .to_vec(),
        ..Delivery::default()
    };
    let plan = planned(&delivery);
    assert_eq!(
        contents(&plan, "/run/longshore/secrets/pip.conf"),
        Some("[global]\nindex-url = https://a\nextra-index-url =\n    https://b\n    https://c\n")
    );
    let told = ("PIP_CONFIG_FILE".to_owned(), path_of(PIP));
    assert_eq!(plan.environment, [told]);
}

#[test]
fn reserved_names_do_not_get_in() {
    for name in [
        "LONGSHORE_X",
        "LD_PRELOAD",
        "NVIDIA_VISIBLE_DEVICES",
        "CUDA_VISIBLE_DEVICES",
        "DOCKER_HOST",
        "SUDO_SESSION_ENABLED",
        "A=B",
        "",
    ] {
        assert!(!is_settable(name, "x"), "{name}");
    }
    assert!(is_settable("LD_LIBRARY_PATH", "/x"));
    assert!(!is_settable("A", "x\0y"));
}

#[test]
fn a_login_is_for_the_registry_of_the_image_alone() {
    let login = |host: &str| RegistryLogin {
        host: host.to_owned(),
        username: host.to_owned(),
        password: String::new(),
    };
    let logins = [login("r.lab:5000"), login("https://index.docker.io/")];
    let of = |image: &str| login_of(image, &logins).map(|l| l.host.as_str());
    assert_eq!(of("r.lab:5000/a/b:1"), Some("r.lab:5000"));
    assert_eq!(of("r.lab/a/b:1"), None);
    assert_eq!(of("evil.lab/r.lab:5000/b"), None);
    assert_eq!(of("python:3"), Some("https://index.docker.io/"));
    assert_eq!(of("someone/python:3"), Some("https://index.docker.io/"));
}
