//! Metrics, for monitors and above with the API, and without a login at addresses of their own.
//! A page costs the engine one question about what runs, as a list does.

use super::admin::Viewer;
use super::agents;
use super::errors::Failure;
use super::extract::Query;
use super::listener::Peer;
use super::{App, person};
use crate::engine::EngineError;
use crate::metrics::{Shown, page};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use longshore_common::metrics::{MEDIA_TYPE, process};
use longshore_core::model::{Agent, Census, Group, Seen, Session};
use longshore_link::boot_ms;

/// What nobody is served who asks for something else.
const HERE: &str = "There is GET /metrics here, and nothing else.\n";

pub(super) async fn read(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let viewer = Viewer::of(&person(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    match shown(&app, Some(viewer)).await? {
        Some(text) => Ok(answer(text)),
        None => Err(Failure::new("LS-NOT-FOUND", "There are no metrics here.")
            .hint("services.metrics.enabled is false.")),
    }
}

/// The page as `viewer` may see it, none = all of it; none where there shall be none.
async fn shown(app: &App, viewer: Option<Viewer>) -> Result<Option<String>, EngineError> {
    let settings = app.settings.now();
    let metrics = &settings.config.services.metrics;
    if !metrics.enabled {
        return Ok(None);
    }
    let gpus = metrics.session_info;
    let census = app.engine.read(move |state, now| {
        let Some(viewer) = viewer.filter(|viewer| !viewer.is_superadmin()) else {
            return Census::of(state, now, &Seen::ALL, gpus);
        };
        let seen = Seen {
            session: Some(&|session: &Session| viewer.sees_session(session)),
            group: &|group: &Group| viewer.may_use(state, group),
            agent: &|agent: &Agent| agents::sees(&viewer, state, agent),
        };
        Census::of(state, now, &seen, gpus)
    });
    let census = census.await?;
    let cluster = app.cluster.to_string();
    Ok(Some(page(&Shown {
        census: &census,
        live: &app.engine.live,
        boot_ms: boot_ms(),
        cluster: &cluster,
        taken: taken(),
    })))
}

/// What this process takes, as the kernel says.
fn taken() -> process::Taken {
    let text = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}"));
    let descriptors = std::fs::read_dir("/proc/self/fd").ok();
    // One of them is the list itself.
    let descriptors = descriptors.map(|all| (all.count() as u64).saturating_sub(1));
    process::Taken::read(
        &text("status").unwrap_or_default(),
        &text("stat").unwrap_or_default(),
        descriptors,
    )
}

fn answer(text: String) -> Response {
    let kind = HeaderValue::from_static(MEDIA_TYPE);
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Everything at addresses of metrics alone.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/metrics", get(alone))
        .fallback(|| async { (StatusCode::NOT_FOUND, HERE) })
        .with_state(app)
}

/// Who asks there is known by where it asks from.
async fn alone(State(app): State<App>, request: Request) -> Response {
    let settings = app.settings.now();
    let metrics = &settings.config.services.metrics;
    let peer = request.extensions().get::<Peer>();
    if !peer.is_some_and(|peer| metrics.admits(peer.0.ip())) {
        let text = "This address is not in services.metrics.allow.\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    match shown(&app, None).await {
        Ok(Some(text)) => answer(text),
        Ok(None) => {
            let text = "There are no metrics: services.metrics.enabled is false.\n";
            (StatusCode::NOT_FOUND, text).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
