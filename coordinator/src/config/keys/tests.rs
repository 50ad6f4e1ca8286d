use super::*;
use crate::config::{Config, Overrides};

#[test]
fn defaults_that_are_told_are_those_that_hold() {
    let told = SCHEMA.defaults();
    assert!(told.len() > 50);
    let overrides = Overrides {
        set: told,
        ..Overrides::default()
    };
    let environment = [("LONGSHORE_CONFIG_DIR".to_owned(), "/nowhere".to_owned())];
    let (config, _) = Config::load(None, environment, overrides).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn the_reference_is_the_one_in_the_documentation() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    for (name, made) in [
        ("coordinator.toml", reference()),
        ("man/longshore-coordinator.toml.5", manual()),
    ] {
        let path = format!("{docs}/{name}");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(known == made, "UPDATE=1 writes {path}");
    }
}

#[test]
fn every_setting_has_a_key() {
    let settings = serde_json::to_value(Config::default()).unwrap();
    let without = SCHEMA.without_key(&settings, "");
    assert!(without.is_empty(), "without a key: {without:?}");
}
