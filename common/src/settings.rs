//! The configuration of the coordinator, as the API shows it.

use crate::admin::Impact;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A key and what holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// Dotted.
    pub key: String,
    /// Its value: texts as they are, all else as JSON; a secret is a mask.
    pub value: String,
    /// What set it: `default`, `settings`, a file with its line, a variable, an argument.
    pub source: String,
    /// `live` may be stored and acts at once, `reload` acts when the configuration is read
    /// again, `restart` at the next start.
    pub acts: String,
    /// What stands over the stored setting, so that it cannot be changed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden_by: Option<String>,
    /// It is secret or may hold what is: it is stored encrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// All keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Settings {
    /// Of what is stored: counts its changes from 1.
    pub version: u64,
    /// Each key with what holds.
    pub items: Vec<Setting>,
    /// Keys whose value was changed and acts at the next start.
    pub pending_restart: Vec<String>,
    /// What a rehearsal would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact: Option<Impact>,
}

/// What is to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsPatch {
    /// By key: a value of its type, a text that reads as one, or null, which takes it out.
    #[schema(value_type = Object)]
    pub values: BTreeMap<String, Value>,
}

/// Variables whose values nobody is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Redaction {
    /// Of what is stored: counts its changes from 1.
    pub version: u64,
    /// Names; `*` at either end stands for anything.
    pub names: Vec<String>,
    /// What set them: `default`, `settings`, a file with its line, a variable, an argument.
    pub source: String,
    /// What stands over the stored list, so that it cannot be changed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden_by: Option<String>,
    /// What a rehearsal would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact: Option<Impact>,
}

/// Another list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRedaction {
    /// At most 256 names of letters, digits and `_`, with `*` at either end for anything; null =
    /// nothing is stored, and what the files say holds.
    #[schema(max_items = 256)]
    pub names: Option<Vec<String>>,
}
