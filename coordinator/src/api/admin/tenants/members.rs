//! Who is in a project.

use super::super::super::App;
use super::super::super::errors::Failure;
use super::super::super::extract::Query;
use super::super::super::{json, person};
use super::super::{Match, Nothing, Viewer, missing, other_kind, write};
use super::project;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use longshore_common::admin::{MemberRequest, MemberView};
use longshore_core::access::View;
use longshore_core::model;
use longshore_core::model::admin::{AdminObject, AdminVerb, LeftSessions, member_view};
use serde_json::json as object;

/// Members of a project, by login name.
pub(in crate::api) async fn list(
    State(app): State<App>,
    Path(text): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let viewer = Viewer::of(&person(request.extensions())?);
    let query = Query::read(request.uri().query(), &["limit", "cursor"])?;
    let wanted = text.clone();
    let look = move |state: &model::State| -> Option<Vec<(String, MemberView)>> {
        let project = project(state, &viewer, &wanted)?;
        // Who only shares the project learns names, not who is switched off.
        let plain = |view: Option<View>| view != Some(View::Full);
        let mut members: Vec<_> = state
            .users
            .values()
            .filter_map(|user| Some((user, member_view(project, user)?)))
            .filter(|(user, _)| user.is_active() || !plain(viewer.view_of(user)))
            .map(|(_, view)| (format!("{}\u{1}{}", view.user_name, view.user), view))
            .collect();
        members.sort_by(|a, b| a.0.cmp(&b.0));
        Some(members)
    };
    let found = app.engine.read(move |state, _| look(state)).await?;
    let items = found.ok_or_else(|| missing("project", &text))?;
    // A cursor of one project is none of another.
    let name = format!("members {text}");
    json(&app.cursors.page(&name, &query, items)?)
}

pub(in crate::api) async fn put(
    State(app): State<App>,
    Path((project, user)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let mut write = write::<MemberRequest>(request, &[], Match::Optional).await?;
    write.version = None; // a membership has none
    let request = write.body.clone();
    let verb = AdminVerb::PutMember {
        project,
        user,
        request,
    };
    let answer = write.order(&app, verb, |_| None).await?;
    write.changed(&answer)
}

fn sessions(query: &Query) -> Result<LeftSessions, Failure> {
    let words = query.words::<LeftSessions, _>("sessions")?;
    query.one("sessions")?;
    Ok(words.first().copied().unwrap_or(LeftSessions::Stop))
}

pub(in crate::api) async fn remove(
    State(app): State<App>,
    Path((project, user)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let mut write = write::<Nothing>(request, &["sessions"], Match::Optional).await?;
    write.version = None;
    let sessions = sessions(&write.query)?;
    let verb = AdminVerb::RemoveMember {
        project,
        user,
        sessions,
    };
    let answer = write.order(&app, verb, |_| None).await?;
    write.deleted(&answer)
}

/// The caller goes by itself, and is told what went with it.
pub(in crate::api) async fn leave(
    State(app): State<App>,
    Path(project): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let mut write = write::<Nothing>(request, &["sessions"], Match::Optional).await?;
    write.version = None;
    let sessions = sessions(&write.query)?;
    let verb = AdminVerb::LeaveProject { project, sessions };
    let answer = write.order(&app, verb, |_| None).await?;
    let AdminObject::Parted(view) = &answer.object else {
        return Err(other_kind(&answer.object));
    };
    let left = object!({
        "project": view.project, "project_name": view.project_name,
    });
    write.respond_value(StatusCode::OK, left, &answer, None)
}
