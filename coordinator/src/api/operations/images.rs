//! What is said of images.

use super::Access;
use super::parts::{CREATE, CURSOR, DELETE, LIMIT, LIST, NAME_HOLDS, PATCH, READ, shape};
use super::{Gives, Operation};
use crate::api::admin::images;
use axum::routing::{delete, get, patch, post};
use longshore_common::admin;

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "images_list",
        path: "/api/v1/images",
        row: Some(Access::ImageRead),
        summary: "Images of which something is said, by name",
        parameters: &[NAME_HOLDS, LIMIT, CURSOR],
        gives: Gives::Page(shape::<admin::ImageView>),
        handler: || get(images::list),
        ..LIST
    },
    Operation {
        id: "images_create",
        path: "/api/v1/images",
        row: Some(Access::ImageWrite),
        summary: "Say something of an image",
        takes: Some(shape::<admin::ImageRequest>),
        gives: Gives::Json(shape::<admin::ImageView>),
        codes: &["LS-EXISTS", "LS-SLOT-UNKNOWN", "LS-SLOT-AMOUNT"],
        handler: || post(images::create),
        ..CREATE
    },
    Operation {
        id: "image_read",
        path: "/api/v1/images/{id}",
        row: Some(Access::ImageRead),
        summary: "What is said of an image, by id or by its name with %2F for each /",
        gives: Gives::Json(shape::<admin::ImageView>),
        handler: || get(images::read),
        ..READ
    },
    Operation {
        id: "image_update",
        path: "/api/v1/images/{id}",
        row: Some(Access::ImageWrite),
        summary: "Say something else of an image",
        takes: Some(shape::<admin::ImageRequest>),
        gives: Gives::Json(shape::<admin::ImageView>),
        codes: &[
            "LS-NOT-FOUND",
            "LS-VERSION-MISSING",
            "LS-VERSION-STALE",
            "LS-FIELD-FIXED",
            "LS-SLOT-UNKNOWN",
            "LS-SLOT-AMOUNT",
        ],
        handler: || patch(images::update),
        ..PATCH
    },
    Operation {
        id: "image_delete",
        path: "/api/v1/images/{id}",
        row: Some(Access::ImageWrite),
        summary: "Forget what is said of an image",
        handler: || delete(images::remove),
        ..DELETE
    },
];
