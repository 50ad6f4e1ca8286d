//! More time for a session: `extend` and `keep`.

use super::super::errors::Failure;
use super::super::extract::{self, Ref};
use super::super::{App, json};
use super::asked::Asked;
use super::{etag, resolve, unexpected};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::Response;
use longshore_common::api::{self, ExtendRequest, KeepRequest};
use longshore_common::ids::SessionId;
use longshore_common::time::Timestamp;
use longshore_core::model::{Answer, Done, Event, More, Prolonged, Session};

/// The life of a session ends later.
pub(in crate::api) async fn extend(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(&app, &request)?;
    let order = extract::json::<ExtendRequest>(request).await?.value;
    let what = match (order.by_s, order.until) {
        (Some(_), Some(_)) => {
            let text = "A life ends so much later, or at an instant: not both.";
            return Err(Failure::new("LS-INVALID", text).at("/until", "Not together with by_s."));
        }
        (_, Some(at)) => More::Until(at),
        (by_s, None) => More::By(by_s),
    };
    let id = resolve(&app, &asked.caller, &text).await?;
    let told = prolong(&app, &asked, id, what).await?;
    let Done::Extended {
        by_s,
        step_s,
        total_left_s,
    } = told.done
    else {
        return Err(Failure::internal());
    };
    let session = &told.session;
    let shown = api::Extended {
        id: session.id.to_string(),
        version: session.version,
        by_s,
        lifetime_deadline: session.lifetime_deadline(),
        extensions_used: session.life.extensions,
        extensions_left: told.left,
        extension_max_s: step_s,
        total_left_s,
    };
    Ok(answer(&asked, session, json(&shown)?))
}

/// A session that nobody uses is not stopped for a while.
pub(in crate::api) async fn keep(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(&app, &request)?;
    extract::json::<KeepRequest>(request).await?;
    let id = resolve(&app, &asked.caller, &text).await?;
    let used_at = used_at(&app, id).await?;
    let told = prolong(&app, &asked, id, More::Keep(used_at)).await?;
    let Done::Kept(kept_until) = told.done else {
        return Err(Failure::internal());
    };
    let session = &told.session;
    let shown = api::Kept {
        id: session.id.to_string(),
        version: session.version,
        kept_until,
        keeps_used: session.life.kept.map_or(0, |keep| keep.in_a_row),
        keeps_left: told.left,
    };
    Ok(answer(&asked, session, json(&shown)?))
}

/// When the use of a session was last measured, by what its agents said.
async fn used_at(app: &App, id: SessionId) -> Result<Option<Timestamp>, Failure> {
    let containers = app.engine.read(move |state, _| {
        let session = state.sessions.get(&id);
        let present = session.into_iter().flat_map(Session::present);
        present.map(|c| (c.agent, c.key)).collect::<Vec<_>>()
    });
    let said = containers.await?.into_iter();
    let said = said.filter_map(|(agent, key)| app.engine.live.idle(agent, key)?.used_at);
    Ok(said.max())
}

async fn prolong(
    app: &App,
    asked: &Asked,
    id: SessionId,
    what: More,
) -> Result<Prolonged, Failure> {
    match asked.ask(app, id, what, Event::Prolong).await? {
        Answer::Prolonged(told) => Ok(*told),
        other => Err(unexpected(&other)),
    }
}

fn answer(asked: &Asked, session: &Session, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag(session.version));
    asked.mark(response)
}
