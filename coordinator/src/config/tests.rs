//! What is read of a configuration as a whole, and what is refused.

use super::*;
use longshore_core::model::{Discipline, Selection};

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("daemon.toml");
    std::fs::write(&path, text).unwrap();
    let environment = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::load(Some(&path), environment, Overrides::default()).map(|(config, _)| config)
}

#[test]
fn later_sources_win() {
    let config = load(
        "[daemon]\nlisten.api = [\"127.0.0.1:1\"]\n[services.sessions]\ndefault_image = \"a\"\n",
        &[
            ("LONGSHORE__SERVICES__SESSIONS__DEFAULT_IMAGE", "007"),
            ("LONGSHORE__DAEMON__AGENTS__HEARTBEAT_S", "3"),
            ("LONGSHORE__DAEMON__NAMES", "[\"a\",\"b\"]"),
            ("OTHER", "x"),
        ],
    )
    .unwrap();
    assert_eq!(config.agents_listen().port(), 1);
    assert_eq!(config.services.sessions.default_image, "007");
    assert_eq!(config.daemon.agents.heartbeat_s, 3);
    assert_eq!(config.daemon.names, ["a", "b"]);
    assert_eq!(config.daemon.listen.api, [config.agents_listen()]);
}

#[test]
fn of_a_webhook_that_does_not_read_nothing_is_told() {
    let text = "[[services.notify.webhooks]]\nname = \"a\"\nurl = \"https://a.lab/\"\nheaders = \"X-Token: hunter2\"\n";
    let told = load(text, &[]).unwrap_err().to_string();
    assert!(told.contains("services.notify.webhooks"), "{told}");
    assert!(told.contains("4:11: services.notify.webhooks: item 1: headers: must be a map"));
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn the_scheduler_is_set_in_any_case() {
    let none = Config::default().services.scheduler.settings();
    assert_eq!(none, SchedulerSettings::default());
    let config = load(
        "[services.scheduler]\nscheduler = \"DRF\"\nagent_selection = \"Round-Robin\"\nretries_to_skip = 0\n",
        &[("LONGSHORE__SERVICES__SCHEDULER__PENDING_TIMEOUT_S", "60")],
    );
    let expected = SchedulerSettings {
        scheduler: Discipline::Drf,
        agent_selection: Selection::RoundRobin,
        retries_to_skip: 0,
        pending_timeout_s: 60,
        ..SchedulerSettings::default()
    };
    assert_eq!(config.unwrap().services.scheduler.settings(), expected);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let text = load("[daemon]\n\npublic_ul = \"x\"\n", &[])
        .unwrap_err()
        .to_string();
    assert!(
        text.contains(
            "daemon.toml:3:1: unknown key daemon.public_ul; did you mean daemon.public_url?"
        ),
        "{text}"
    );
    let text = load("", &[("LONGSHORE__DAEMON__AGENTS__HEARTBEET_S", "3")])
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("did you mean daemon.agents.heartbeat_s?"),
        "{text}"
    );
    assert!(load("", &[("LONGSHORE__DAEMON__AGENTS__HEARTBEAT_S", "x")]).is_err());
    for bad in [
        "[daemon.agents]\nlost_after_s = 3",
        "[daemon.agents]\ndeclare_lost_s = 119",
        "[daemon.agents]\nlost_after_s = 300\ndeclare_lost_s = 299",
        "[services.sessions]\ndefault_mem = \"lots\"",
        "[services.sessions]\ndefault_cpu = \"0\"",
        "[services.sessions]\ncreation_retries = 3",
        "[services.scheduler]\nscheduler = \"fair\"",
        "[services.scheduler]\nagent_selection = \"best\"",
        "[services.scheduler]\nretries_to_skip = -1",
        "[services.scheduler]\ninterval_s = 0",
        "[services.scheduler]\ncreation_retries = 101",
        "[services.scheduler]\npending_timeout_s = -1",
        "[daemon]\npublic_url = \"http://gpu.lab\"",
        "[daemon.auth.invitations]\nexpires_s = 2592001",
        "[services.notify.mail]\nenabled = true",
        "[services.notify.mail]\ntls = \"ssl\"",
        "x = 1",
        "[",
    ] {
        assert!(load(bad, &[]).is_err(), "{bad}");
    }
}

#[test]
fn all_that_is_wrong_is_told_in_one_run() {
    let told = |text: &str| {
        let told = load(text, &[]).unwrap_err().to_string();
        let lines = told.lines().map(|line| {
            let (_, line) = line.split_once("daemon.toml:").unwrap();
            line.to_owned()
        });
        lines.collect::<Vec<String>>()
    };
    // What the types say.
    let types = told(
        "[daemon]\ndata_dir = \"rel\"\npublic_url = \"gpu.lab\"\ntrusted_proxies = [\"foo\"]\n[services]\nnetwork.overlay_pool = \"foo\"\n[[services.notify.webhooks]]\nname = \"a\"\nurl = \"desk\"\nsecert = \"hunter2\"\n[[services.organization.ui_actions.sesion]]\nname = \"b\"\n[[services.organization.ui_actions.session]]\nname = \"b\"\naction = { method = \"PUT\", url = \"https://a.lab/\" }\n[[daemon.auth.fixed_users.users]]\nusername = \"carol\"\npasword = \"hunter2\"\n",
    );
    for line in [
        "2:12: daemon.data_dir: \"rel\" must be a path, whole from /",
        "3:14: daemon.public_url: \"gpu.lab\" must be an address, such as https://host/path",
        "9:7: services.notify.webhooks: item 1: url: must be an address, such as https://host/path",
        "10:1: services.notify.webhooks: item 1: unknown key secert; did you mean secret?",
        "11:36: services.organization.ui_actions: unknown key sesion; did you mean session?",
        "15:23: services.organization.ui_actions: session: item 1: action: method: must be one of GET, POST, DELETE",
        "18:1: daemon.auth.fixed_users.users: item 1: unknown key pasword; did you mean password?",
    ] {
        let (place, what) = line.split_once(": ").unwrap();
        let found = types.iter().find(|told| told.ends_with(what));
        let row = place.split(':').next().unwrap();
        assert!(
            found.is_some_and(|told| told.starts_with(&format!("{row}:"))),
            "{line}: {types:#?}"
        );
    }
    assert_eq!(types.len(), 9, "{types:#?}");
    assert!(
        types.iter().all(|line| !line.contains("hunter")),
        "{types:#?}"
    );
    // What the program says of values of the right types.
    let rules = told(
        "[daemon]\nname = \"a b\"\nnames = [\"a b\"]\ncors.origins = [\"x\"]\n[daemon.agents]\nlost_after_s = 3\n[services.sessions]\ndefault_cpu = \"0\"\n[[services.organization.ui_actions.session]]\nname = \"b\"\naction = { method = \"GET\", url = \"https://${id}/\" }\n[[services.organization.ui_actions.session]]\nname = \"b\"\naction = { method = \"GET\", url = \"https://a.lab/\", secret = \"changeme\" }\n",
    );
    assert_eq!(rules.len(), 8, "{rules:#?}");
    for what in [
        "b: ${id} may not",
        "b: the name is given twice",
        "b: secret: a sample value",
    ] {
        assert!(
            rules.iter().any(|line| line.contains(what)),
            "{what}: {rules:#?}"
        );
    }
}

#[test]
fn secrets_within_lists_may_stand_in_files_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "s3 cret\n").unwrap();
    let named = format!("{{ file = \"{}\" }}", file.display());
    let text = format!(
        "[[services.notify.webhooks]]\nname = \"a\"\nurl = \"https://a.lab/\"\nsecret = {named}\nheaders = {{ X = {named} }}\n[[services.organization.ui_actions.session]]\nname = \"b\"\naction = {{ method = \"GET\", url = \"https://a.lab/\", secret = {named}, headers = {{ X = {named} }} }}\n[daemon.auth.fixed_users]\nenabled = true\n[[daemon.auth.fixed_users.users]]\nusername = \"carol\"\npassword = {named}\n"
    );
    let config = load(&text, &[]).unwrap();
    let hook = &config.services.notify.webhooks[0];
    let action = &config.services.organization.ui_actions["session"][0].action;
    let user = &config.daemon.auth.fixed_users.users[0];
    for secret in [
        hook.secret.as_ref().unwrap(),
        &hook.headers["X"],
        action.secret.as_ref().unwrap(),
        &action.headers["X"],
        &user.password,
    ] {
        assert_eq!(secret.expose(), "s3 cret");
    }
    std::fs::remove_file(&file).unwrap();
    let told = load(&text, &[]).unwrap_err().to_string();
    assert_eq!(told.lines().count(), 5, "{told}");
    // What is stored came through the API: it names no file of this machine.
    let hooks = serde_json::json!([{ "name": "a", "url": "https://a.lab/", "secret": { "file": "/etc/passwd" } }]);
    let stored = vec![("services.notify.webhooks".to_owned(), hooks)];
    let none = dir.path().join("none.toml");
    std::fs::write(&none, "").unwrap();
    let given = (stored, &[][..]);
    let read = Config::load_with(Some(&none), given, Vec::new(), Overrides::default());
    let told = read.unwrap_err().to_string();
    let begins = "settings: services.notify.webhooks: item 1: secret: must be text; only files";
    assert!(told.starts_with(begins), "{told}");
}

#[test]
fn a_master_key_that_cannot_be_used_is_found_without_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let (config, key) = (dir.path().join("a.toml"), dir.path().join("master.key"));
    let text = format!("[secure]\nmaster_key_file = \"{}\"\n", key.display());
    std::fs::write(&config, text).unwrap();
    let mode = |path: &Path, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, mode).unwrap();
    };
    mode(&config, 0o600);
    let check = || {
        let read = Config::load(Some(&config), Vec::new(), Overrides::default());
        let (config, loaded) = read.unwrap();
        config
            .check_master_key(&loaded)
            .map_err(|error| error.to_string())
    };
    assert_eq!(check(), Ok(()), "none is none that is wrong");
    std::fs::write(&key, "no key").unwrap();
    mode(&key, 0o400);
    let told = check().unwrap_err();
    assert!(
        told.contains("a.toml:2: secure.master_key_file: /"),
        "{told}"
    );
    std::fs::remove_file(&key).unwrap();
    std::fs::write(&key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    mode(&key, 0o644);
    assert!(check().is_err(), "everybody may read it");
    mode(&key, 0o400);
    assert_eq!(check(), Ok(()));
}

#[test]
fn secrets_in_the_clear_where_everybody_reads_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    let hook = "[[services.notify.webhooks]]\nname = \"a\"\nurl = \"https://a.lab/\"\nsecret = \"s3 cret\"\n";
    std::fs::write(&path, hook).unwrap();
    let warnings = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, mode).unwrap();
        let read = Config::load(Some(&path), Vec::new(), Overrides::default());
        let (_, loaded) = read.unwrap();
        let warnings = loaded.warnings.iter().map(ToString::to_string);
        warnings.collect::<Vec<String>>()
    };
    assert_eq!(warnings(0o640), [""; 0]);
    let told = warnings(0o644);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("services.notify.webhooks: is in the clear"));
    assert!(!told[0].contains("s3 cret"));
}

#[test]
fn apps_live_outside_of_the_domain_of_cookies() {
    let said = |domain: &str, public: &str, cookies: &str| {
        let apps = Apps {
            domain: domain.to_owned(),
            ..Apps::default()
        };
        let mut config = Config::default();
        config.daemon.apps = apps;
        config.daemon.public_url = public.to_owned();
        config.daemon.auth.cookies.domain = cookies.to_owned();
        config.check_names_of(None).map_err(|error| error.0)
    };
    let public = "https://gpu.lab:7420";
    assert_eq!(said("apps.lab", public, ".gpu.lab"), Ok(()));
    assert_eq!(said("apps.gpu.lab", public, ""), Ok(()));
    assert_eq!(said("", public, ".gpu.lab"), Ok(()));
    for within in ["apps.gpu.lab", "GPU.lab", "a.b.gpu.lab"] {
        let said = said(within, public, ".gpu.lab").unwrap_err();
        assert!(
            said.contains("lies within daemon.auth.cookies.domain"),
            "{said}"
        );
    }
    for bad in ["lab", "*.lab", "a..lab", "https://a.lab"] {
        assert!(said(bad, public, "").is_err(), "{bad}");
    }
    assert!(said("lab.net", "https://gpu.lab.net", "").is_err());
}

#[test]
fn no_part_has_a_name_of_apps() {
    let domain = "[daemon.apps]\ndomain = \"apps.gpu.lab\"";
    for (key, line) in [
        (
            "daemon.public_url",
            "public_url = \"https://X.Apps.gpu.lab\"",
        ),
        ("daemon.hosts.app", "hosts.app = \"app.apps.gpu.lab\""),
        ("daemon.hosts.api", "hosts.api = \"API.apps.gpu.lab\""),
        ("daemon.hosts.files", "hosts.files = \"files.apps.gpu.lab\""),
        ("daemon.hosts.files", "hosts.files = \"Apps.gpu.lab\""),
        ("daemon.name", "name = \"gpu01.apps.gpu.lab\""),
    ] {
        let told = load(&format!("[daemon]\n{line}\n{domain}"), &[]);
        let told = told.unwrap_err().to_string();
        assert!(
            told.contains(&format!("daemon.apps.domain: {key} (")),
            "{told}"
        );
    }
    for good in [
        "hosts.app = \"gpu.lab\"",
        "hosts.api = \"myapps.gpu.lab\"",
        "public_url = \"https://gpu.lab\"\nname = \"gpu01.apps.gpu.lab\"",
    ] {
        assert!(
            load(&format!("[daemon]\n{good}\n{domain}"), &[]).is_ok(),
            "{good}"
        );
    }
    // The machine may call itself so, which no file says.
    let config = load(domain, &[]).unwrap();
    assert_eq!(config.check_machine("gpu01"), Ok(()));
    let told = config.check_machine("gpu01.apps.gpu.lab").unwrap_err();
    assert!(
        told.0.contains("the name of this machine (gpu01.apps"),
        "{told}"
    );
}
