//! What is said of images.

use super::super::App;
use super::super::errors::Failure;
use super::super::extract::Ref;
use super::{Viewer, Wanted, list as listed, value_of, verbs};
use crate::identity::new_id;
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::admin::ImageRequest;
use longshore_common::ids::ImageId;
use longshore_core::model;
use longshore_core::model::admin::{AdminVerb, image_view};
use serde_json::Value;

fn current(state: &model::State, text: &str) -> Option<Value> {
    value_of(&image_view(state.image_by_ref(text)?))
}

pub(in super::super) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, _: &Viewer, wanted: &Wanted| {
        let images = state.images.values().map(image_view);
        images
            .filter(|v| wanted.finds("name", &v.reference))
            .map(|v| (v.reference.clone(), v))
            .collect()
    };
    listed(&app, request, "images", &["name"], look).await
}

pub(in super::super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let look =
        |state: &model::State, _: &Viewer, text: &str| state.image_by_ref(text).map(image_view);
    verbs::read(&app, text, request, "image", look).await
}

pub(in super::super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let verb = |body| AdminVerb::CreateImage(ImageId::new(new_id()), body);
    verbs::create::<ImageRequest>(&app, request, "images", verb).await
}

pub(in super::super) async fn update(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    verbs::update(&app, text, request, AdminVerb::PatchImage, current).await
}

pub(in super::super) async fn remove(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    verbs::remove(&app, text, request, AdminVerb::ForgetImage, current).await
}
