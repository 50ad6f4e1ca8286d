//! What administrators want everybody to read, as the API shows it.

use crate::session::words;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// How urgent an announcement is.
    AnnouncementLevel {
        /// Good to know.
        Info = "info",
        /// It touches people's work.
        Warning = "warning",
        /// It stops people's work.
        Critical = "critical",
    }
}

/// Something to be announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnouncementRequest {
    /// 1 to 2000 characters; line breaks are the only control characters.
    #[schema(max_length = 2000)]
    pub text: String,
    /// `info` (default), `warning` or `critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 16)]
    pub level: Option<String>,
    /// It holds until then; absent = until it is taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// An announcement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnnouncementView {
    /// Its id.
    pub id: String,
    /// Plain text.
    pub text: String,
    /// `info`, `warning` or `critical`.
    pub level: String,
    /// It holds until then; absent = until it is taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Login name of who made it.
    pub by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Those that hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Announcements {
    /// The most urgent first, of one urgency the newest.
    pub items: Vec<AnnouncementView>,
}
