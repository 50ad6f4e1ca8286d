//! What is said of images: the least that sessions of them get.

use super::member::{Member, Size, SlotTexts};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Says something of an image, or something else.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageRequest {
    /// The image as sessions name it; a tag that is left out is `latest`. Given once, never
    /// changed.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 512)]
    pub reference: Member<String>,
    /// For people, at most 500 characters.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Member<String>,
    /// The least of each slot that a session gets; null or "0" = no least. Of several variants
    /// of one accelerator the one counts that is asked for, else the one that the group offers.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub min_slots: Member<SlotTexts>,
    /// Size of `/dev/shm` where a session names none; null or absent = the default.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub shm: Member<Size>,
}

/// What is said of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageView {
    /// `img_…`
    pub id: String,
    /// Counts stored changes from 1; the ETag.
    pub version: u64,
    /// The image; never changes.
    pub reference: String,
    /// For people.
    pub description: String,
    /// The least of each slot that a session gets.
    pub min_slots: BTreeMap<String, String>,
    /// Size of `/dev/shm` in bytes where a session names none; absent = the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm: Option<String>,
    /// When it was said first.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}
