//! What administrators want everybody to read.

use super::Access;
use super::parts::{CREATE, DELETE, READ, REHEARSED, shape};
use super::{Gives, Operation};
use crate::api::announcements;
use axum::routing::{delete, get, post};
use longshore_common::announcements as shapes;

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "announcements_list",
        path: "/api/v1/announcements",
        row: Some(Access::AnnouncementRead),
        summary: "Announcements that hold, the most urgent first",
        gives: Gives::Json(shape::<shapes::Announcements>),
        codes: &[],
        handler: || get(announcements::list),
        ..READ
    },
    Operation {
        id: "announcements_create",
        path: "/api/v1/announcements",
        row: Some(Access::AnnouncementWrite),
        summary: "Announce something to everybody",
        takes: Some(shape::<shapes::AnnouncementRequest>),
        gives: Gives::Json(shape::<shapes::AnnouncementView>),
        codes: &["LS-INVALID", "LS-STATE"],
        handler: || post(announcements::create),
        ..CREATE
    },
    Operation {
        id: "announcement_delete",
        path: "/api/v1/announcements/{id}",
        row: Some(Access::AnnouncementWrite),
        summary: "Take an announcement away",
        parameters: REHEARSED,
        codes: &["LS-NOT-FOUND"],
        handler: || delete(announcements::remove),
        ..DELETE
    },
];
