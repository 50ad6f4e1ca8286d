//! What people are told outside of the product.

use super::Access;
use super::Parameter;
use super::parts::{ACT, CURSOR, LIMIT, LIST, ORDER, READ, REHEARSED, query, shape};
use super::{Gives, Holds, Operation, Verb};
use crate::api::notify;
use axum::routing::{get, post, put};
use longshore_common::notify as shapes;

const STATE: Parameter = query("state", Holds::Text, "Only waiting, sent or failed ones.");
const SCOPE: Parameter = query(
    "scope",
    Holds::Text,
    "mine (default), or all, for superadmins.",
);

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "me_notifications_read",
        path: "/api/v1/me/notifications",
        row: Some(Access::MeNotifications),
        summary: "What one is told of by mail and by calls",
        gives: Gives::Json(shape::<shapes::NotifyView>),
        codes: &[],
        handler: || get(notify::mine),
        ..READ
    },
    Operation {
        id: "me_notifications_save",
        method: Verb::Put,
        path: "/api/v1/me/notifications",
        row: Some(Access::MeNotifications),
        summary: "Choose what one is told of; replaces what was chosen before",
        parameters: REHEARSED,
        takes: Some(shape::<shapes::NotifyRequest>),
        gives: Gives::Json(shape::<shapes::NotifyView>),
        codes: &["LS-INVALID", "LS-NOT-FOUND"],
        handler: || put(notify::choose),
        ..ACT
    },
    Operation {
        id: "me_notifications_test",
        path: "/api/v1/me/notifications/test",
        row: Some(Access::MeNotifications),
        summary: "Have a test sent to one's own places, or to a webhook of the configuration",
        takes: Some(shape::<shapes::NotifyTest>),
        gives: Gives::Json(shape::<shapes::NotifyTested>),
        codes: &["LS-NOT-FOUND", "LS-STATE"],
        handler: || post(notify::test),
        ..ORDER
    },
    Operation {
        id: "notifications_list",
        path: "/api/v1/notifications",
        row: Some(Access::MeNotifications),
        summary: "What one was told, newest first, and what became of it",
        parameters: &[STATE, SCOPE, LIMIT, CURSOR],
        gives: Gives::Page(shape::<shapes::NoteView>),
        handler: || get(notify::list),
        ..LIST
    },
    Operation {
        id: "notification_channels_list",
        path: "/api/v1/notification-channels",
        row: Some(Access::ChannelRead),
        summary: "Webhooks of the configuration",
        gives: Gives::Json(shape::<shapes::Channels>),
        codes: &[],
        handler: || get(notify::channels),
        ..READ
    },
];
