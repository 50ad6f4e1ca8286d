//! Files of a session.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileEntry {
    /// Its name, without a folder.
    pub name: String,
    /// `file`, `folder`, `link` or `other`.
    pub kind: String,
    /// In bytes.
    pub size_bytes: u64,
    /// Permissions in octal digits, such as `0644`.
    pub mode: String,
    /// When its content last changed.
    #[schema(value_type = String, format = DateTime)]
    pub modified_at: Timestamp,
    /// SHA-256 of its content in hexadecimal digits, where that was asked for and can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What stands at a path of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileList {
    /// Whether the path is a folder, whose entries these are.
    pub folder: bool,
    /// By name; of a path that is no folder itself alone.
    pub items: Vec<FileEntry>,
    /// Whether there are more than could be listed.
    pub truncated: bool,
}

/// One file of an archive that was taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilePut {
    /// Below the folder it was put into.
    pub path: String,
    /// `copied`, `same` (it was there already) or `left` (no plain file: not taken).
    pub outcome: String,
    /// In bytes; absent for what was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// SHA-256 of what stands there now, where the image can say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What became of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilesPut {
    /// Each file.
    pub items: Vec<FilePut>,
    /// Whether there were more than could be listed.
    pub truncated: bool,
}
