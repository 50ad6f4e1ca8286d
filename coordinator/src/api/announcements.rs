//! Announcements: those that hold, a new one, one that is taken away.

use super::admin::{DRY_RUN, Match, Nothing, if_match};
use super::audit::origin;
use super::errors::{Failure, cut};
use super::extract::{self, Query, Ref};
use super::{App, json, person};
use crate::engine::wall_clock;
use crate::identity::new_id;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_common::announcements::{
    AnnouncementLevel, AnnouncementRequest, AnnouncementView, Announcements,
};
use longshore_common::ids::AnnouncementId;
use longshore_core::model::{self, AnnounceOrder, AnnounceVerb, Announcement, Event};
use std::cmp::Reverse;
use std::str::FromStr;

fn view(one: &Announcement) -> AnnouncementView {
    AnnouncementView {
        id: one.id.to_string(),
        text: one.text.clone(),
        level: one.level.to_string(),
        until: one.until,
        by: one.by.clone(),
        created_at: one.created_at,
    }
}

pub(super) async fn list(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    Query::read(request.uri().query(), &[])?;
    let look = |state: &model::State, now| {
        let mut held: Vec<&Announcement> = state
            .announcements
            .values()
            .filter(|one| one.holds(now))
            .collect();
        held.sort_by_key(|one| Reverse((one.level, one.created_at, one.id)));
        held.into_iter().map(view).collect::<Vec<_>>()
    };
    json(&Announcements {
        items: app.engine.read(look).await?,
    })
}

pub(super) async fn create(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    let dry_run = Query::read(request.uri().query(), &["dry_run"])?.flag("dry_run")?;
    let asked = extract::json::<AnnouncementRequest>(request).await?.value;
    let level = match asked.level.as_deref() {
        None => AnnouncementLevel::Info,
        Some(text) => AnnouncementLevel::from_str(text).map_err(|error| {
            let text = format!("{error}.");
            Failure::new("LS-INVALID", text.clone()).at("/level", text)
        })?,
    };
    let new = Announcement {
        id: AnnouncementId::new(new_id()),
        text: asked.text.trim().to_owned(),
        level,
        until: asked.until,
        by: caller.username.clone(),
        created_at: wall_clock(),
    };
    let shown = view(&new);
    let order = AnnounceOrder {
        verb: AnnounceVerb::Make(new),
        dry_run,
    };
    engine.ask(Event::Announce(Box::new(order))).await??;
    let mut response = json(&shown)?;
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    if dry_run {
        headers.insert(DRY_RUN, HeaderValue::from_static("true"));
    } else if let Ok(place) = HeaderValue::from_str(&format!("/api/v1/announcements/{}", shown.id))
    {
        headers.insert(header::LOCATION, place);
    }
    Ok(response)
}

pub(super) async fn remove(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    let dry_run = Query::read(request.uri().query(), &["dry_run"])?.flag("dry_run")?;
    if_match(request.headers(), Match::Optional)?;
    extract::json::<Nothing>(request).await?;
    let id: AnnouncementId = text.parse().map_err(|_| {
        let text = format!("There is no announcement {}.", cut(&text));
        Failure::new("LS-NOT-FOUND", text)
    })?;
    let order = AnnounceOrder {
        verb: AnnounceVerb::Remove(id),
        dry_run,
    };
    engine.ask(Event::Announce(Box::new(order))).await??;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if dry_run {
        let mark = HeaderValue::from_static("true");
        response.headers_mut().insert(DRY_RUN, mark);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::super::tests::ready;
    use axum::body::Body;
    use serde_json::json;

    const PATH: &str = "/api/v1/announcements";

    #[tokio::test]
    async fn what_is_announced_is_read_until_it_is_taken_away() {
        let f = ready().await;
        let make = |body: serde_json::Value| {
            let f = &f;
            async move { f.post(PATH, &body).await }
        };
        let wrong = make(json!({ "text": "x", "level": "loud" })).await.json();
        assert_eq!(wrong["errors"][0]["pointer"], "/level");
        let past = json!({ "text": "x", "until": "2001-01-01T00:00:00Z" });
        assert_eq!(make(past).await.json()["errors"][0]["pointer"], "/until");
        let rehearsed = f
            .post(&format!("{PATH}?dry_run=true"), &json!({ "text": "x" }))
            .await;
        assert_eq!(rehearsed.status, 201);
        let first = make(json!({ "text": "Maintenance on Friday" })).await;
        assert_eq!(first.status, 201, "{}", first.text());
        let place = first.header("location").to_owned();
        let urgent = json!({
            "text": "gpu01 is down", "level": "critical", "until": "2999-01-01T00:00:00Z"
        });
        assert_eq!(make(urgent).await.status, 201);
        let told = f.get(PATH).await.json();
        let items = told["items"].as_array().unwrap();
        assert_eq!(items.len(), 2, "{told}");
        assert_eq!(items[0]["level"], "critical");
        assert_eq!(items[1]["by"], "dana", "{told}");
        for _ in 0..2 {
            let gone = f.send("DELETE", &place, &[], Body::empty()).await;
            assert_eq!(gone.status, 204, "{}", gone.text());
        }
        let told = f.get(PATH).await.json();
        assert_eq!(told["items"].as_array().map(Vec::len), Some(1));
        let audit = f
            .get("/api/v1/audit?operation=announcement.write")
            .await
            .json();
        assert_eq!(audit["items"].as_array().map(Vec::len), Some(3), "{audit}");
    }
}
