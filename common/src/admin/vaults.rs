//! Vaults, and the configuration that comes of them.

use super::member::Member;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use utoipa::ToSchema;

/// Makes, saves or switches a vault. Of a personal one `format`, `content`, `enabled` and
/// `required` alone.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultRequest {
    /// 1 to 64 characters. Unique.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub name: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// Groups of users by id or name whose members' sessions it reaches.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10_000)]
    pub groups: Member<Vec<String>>,
    /// 0 to 1000; greater wins.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1000)]
    pub priority: Member<i64>,
    /// It stands above everything else; for superadmins.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub locked: Member<bool>,
    /// No session that it reaches starts without it.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub required: Member<bool>,
    /// Whether it reaches sessions at all.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    pub enabled: Member<bool>,
    /// `hocon`, `json`, `yaml` or `toml`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 8)]
    pub format: Member<String>,
    /// The document as text, at most 256 KiB; kept as it is.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 262_144)]
    pub content: Member<String>,
}

// What a vault holds must not reach a log by way of `{:?}`, of whatever kind it is.
impl fmt::Debug for VaultRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultRequest")
            .field("name", &self.name)
            .field("format", &self.format)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// A text that is to be looked at.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultCheckRequest {
    /// `hocon`, `json`, `yaml` or `toml`; absent = `hocon`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 8)]
    pub format: Member<String>,
    /// The document as text.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 262_144)]
    pub content: Member<String>,
}

impl fmt::Debug for VaultCheckRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultCheckRequest")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// A text that can be a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VaultChecked {
    /// What is in it.
    pub summary: VaultSummary,
    /// What is worth telling.
    pub warnings: Vec<ConfigWarning>,
}

/// What is in a vault, without any value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct VaultSummary {
    /// Top-level keys.
    pub keys: Vec<String>,
    /// How many values.
    pub values: u64,
}

/// A vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VaultView {
    /// `vlt_…`
    pub id: String,
    /// Counts changes from 1.
    pub version: u64,
    /// Its name; absent of a personal one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people; absent of a personal one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Ids of the groups of users whose members' sessions it reaches; absent of a personal one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Their names, in the same order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_names: Option<Vec<String>>,
    /// Greater wins; absent of a personal one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// It stands above everything else; absent of a personal one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<bool>,
    /// No session that it reaches starts without it.
    pub required: bool,
    /// Whether it reaches sessions at all.
    pub enabled: bool,
    /// `hocon`, `json`, `yaml` or `toml`.
    pub format: String,
    /// The document: written anew with masks in place of what is secret, or as it was saved with
    /// `reveal`. Not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Bytes of the document as it was saved.
    pub size: u64,
    /// What is in it.
    pub summary: VaultSummary,
    /// Whether it can be opened: false while its master key is missing.
    pub available: bool,
    /// Vaults of administrators that reach a service account; with its own vault only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applying: Option<Vec<ConfigVault>>,
    /// What is worth telling about what was saved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ConfigWarning>,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// By whom: a login name.
    pub updated_by: String,
}

/// A vault that is part of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigVault {
    /// `vlt_…`
    pub id: String,
    /// Its name; absent of a personal one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which version was used; absent where the vault may not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The layer it stands in; absent where the vault may not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
}

/// Something worth telling about a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ConfigWarning {
    /// `type-change`, `same-priority`, `unknown-key`, `forbidden-key`, `vault-skipped`.
    pub code: String,
    /// About which key, dotted; empty = the vault as a whole.
    pub path: String,
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The vaults concerned; the last one won.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vaults: Vec<String>,
    /// The known key that looks most like it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<String>,
    /// Line of the text, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column of the text, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

/// The configuration of somebody's sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigView {
    /// Everything that is set; secrets are masks.
    pub config: Map<String, Value>,
    /// Names this configuration; a session keeps that of the one it got.
    pub hash: String,
    /// Every end of the tree with where it came from.
    pub leaves: Vec<ConfigLeaf>,
    /// The vaults in it.
    pub vaults: Vec<ConfigVault>,
    /// What is worth telling.
    pub warnings: Vec<ConfigWarning>,
}

/// One path of a configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigLeaf {
    /// Dotted.
    pub path: String,
    /// `set` or `unset`.
    pub state: String,
    /// What holds; absent where it is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub value: Option<Value>,
    /// The layer that won.
    pub layer: String,
    /// Who said so: a vault's id, a file with its line, a variable, a member of a request.
    pub source: String,
    /// Version of the vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// What it stands before, highest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadowed: Vec<ConfigShadowed>,
}

/// What a path would be without the one that won.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigShadowed {
    /// The layer.
    pub layer: String,
    /// Who said so.
    pub source: String,
    /// `set` or `unset`.
    pub state: String,
    /// What it said; absent where it unset it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub value: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_vault_holds_is_not_in_its_debug_text() {
        let text = |value: Value| Member::Value(value.as_str().unwrap_or_default().to_owned());
        let request = VaultRequest {
            name: text(json!("One")),
            content: text(json!("hunter2")),
            ..VaultRequest::default()
        };
        let wrong = VaultRequest {
            content: Member::Wrong(json!({ "password": "hunter2" })),
            ..VaultRequest::default()
        };
        let check = VaultCheckRequest {
            content: text(json!("hunter2")),
            ..VaultCheckRequest::default()
        };
        let told = format!("{request:?} {wrong:?} {check:?}");
        assert!(told.contains("One") && !told.contains("hunter2"), "{told}");
    }
}
