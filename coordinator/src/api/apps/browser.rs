//! Apps in a browser: an address of the API checks who asks and sends the browser on, with a
//! code, to an origin that belongs to apps alone; there a cookie of its own stands for one app
//! of one session and one person, and requests go through a connection into the container.

use super::codes::{Book, COOKIE_MS, Digest};
use super::headers;
use super::origin::{OPEN_PATH, Origins, is_own_path, label, rest_of};
use super::{connected_to, no_app, not_connected, place};
use crate::api::audit::origin;
use crate::api::errors::Failure;
use crate::api::extract::Query;
use crate::api::held::{LetIn, Rests, Shows, stream_while_allowed};
use crate::api::operations::OPERATIONS;
use crate::api::{App, GUARDED, person, sessions};
use crate::engine::Origin;
use crate::identity::Person;
use crate::pki::{random, sha256};
use crate::settings::Held;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use longshore_common::ids::{Rank, SessionId, UserId};
use longshore_common::session::Protocol;
use longshore_core::access::Operation;
use longshore_core::model::{self, SessionUse, exec_container};
use longshore_link::boot_ms;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Connections of one person into one app at once: fewer than an agent lets into a container,
/// so that `forward` and others find room beside a page with many parts.
const AT_ONCE: usize = 24;
/// A request waits so long for one of these.
const WAIT: Duration = Duration::from_secs(30);
/// The row of the operation table that open apps rest on.
const ROW: &str = "session_app_open";

/// What a code or a cookie stands for: one app of one session for one person.
#[derive(Clone)]
struct Grant {
    session: SessionId,
    port: u16,
    by: UserId,
    /// Its origin, where it has one of its own.
    label: String,
    let_in: LetIn,
    slots: Arc<Semaphore>,
}

/// Apps that browsers have open.
pub struct Browsers {
    domain: String,
    port: Option<u16>,
    origins: Held<Origins>,
    codes: Mutex<Book<Grant>>,
    cookies: Mutex<Book<Grant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Browsers {
    /// The origin of an app that a request was meant for, if it is one of apps. `apart`: it came
    /// where nothing but apps is served.
    pub(in super::super) fn origin_of(&self, name: Option<&str>, apart: bool) -> Option<String> {
        self.origins.get().of_request(name, apart)
    }

    /// None yet: below a domain, or without one on the port of the listener for apps, if there
    /// is one; `public` is the address of the API for people.
    #[must_use]
    pub fn at(domain: &str, port: Option<u16>, public: &str) -> Self {
        Self {
            domain: domain.to_owned(),
            port,
            origins: Held::new(Origins::new(domain, public, port)),
            codes: Mutex::new(Book::codes()),
            cookies: Mutex::new(Book::cookies()),
        }
    }

    /// The API has another address for people from now on. What was opened at the one before
    /// has to be opened again.
    pub(in super::super) fn follow(&self, public: &str) {
        let origins = Origins::new(&self.domain, public, self.port);
        self.origins.set(origins);
    }

    /// Whether browsers can open apps at all.
    pub(super) fn are_served(&self) -> bool {
        self.origins.look(|origins| *origins != Origins::Off)
    }

    /// What stands in the `Host` of requests for an app with this label.
    pub(in super::super) fn host(&self, label: &str) -> Option<String> {
        self.origins.look(|origins| origins.host(label))
    }

    /// Whether each app has an origin of its own.
    fn has_labels(&self) -> bool {
        self.origins.look(Origins::has_labels)
    }

    fn cookie(&self, value: &str, now_ms: i64) -> Option<Grant> {
        lock(&self.cookies).find(&sha256(value.as_bytes()), now_ms)
    }
}

impl std::fmt::Debug for Browsers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Browsers").finish_non_exhaustive()
    }
}

/// A secret for a browser, and what is kept of it.
fn secret() -> (String, Digest) {
    let text = URL_SAFE_NO_PAD.encode(random::<32>());
    let digest = sha256(text.as_bytes());
    (text, digest)
}

/// The port of an app that a browser can show.
fn shown_port(session: &model::Session, name: &str) -> Result<u16, Failure> {
    let declared = session.ports.iter().find(|port| port.name == name);
    let declared = declared.ok_or_else(no_app)?;
    if declared.protocol != Protocol::Http {
        let text = format!("App {name} does not speak HTTP; longshore forward reaches it.");
        return Err(Failure::new("LS-APP-NOT-READY", text));
    }
    exec_container(session, Rank::MAIN)?;
    Ok(declared.port)
}

/// An address on the app's own origin, with a code, for somebody who may reach this session;
/// `to` is where it leads there.
pub(super) fn address(
    app: &App,
    caller: &Person,
    session: &model::Session,
    name: &str,
    to: &str,
) -> Result<String, Failure> {
    let browsers = &app.browsers;
    let unserved = || {
        let text = "This coordinator shows no apps to browsers; longshore forward reaches them.";
        let hint = "Its administrator sets daemon.apps.listen or daemon.apps.domain.";
        Failure::new("LS-APP-NOT-READY", text).hint(hint)
    };
    if !browsers.are_served() {
        return Err(unserved());
    }
    let port = shown_port(session, name)?;
    let row = OPERATIONS.iter().find(|row| row.id == ROW);
    let row = row.ok_or_else(Failure::internal)?;
    let (id, by, now_ms) = (session.id, caller.caller.user, boot_ms());
    let same = |grant: &Grant| grant.session == id && grant.port == port && grant.by == by;
    // One origin and one bound for all browsers of a person.
    let before = lock(&browsers.cookies).any(now_ms, same);
    let (label, slots) = match before {
        Some(before) => (before.label, before.slots),
        None => (label(random()), Arc::new(Semaphore::new(AT_ONCE))),
    };
    let host = browsers.host(&label).ok_or_else(unserved)?;
    let grant = Grant {
        session: id,
        port,
        by,
        label,
        let_in: LetIn::new(row, caller, app.identity.generation()),
        slots,
    };
    let (code, digest) = secret();
    lock(&browsers.codes).enter(digest, (by, grant), now_ms);
    let to: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
    Ok(format!("https://{host}{OPEN_PATH}?code={code}&to={to}"))
}

/// `GET /s/SESSION/APP/…`: sends the browser of somebody who may reach that session on.
pub(in super::super) async fn open(
    State(app): State<App>,
    Path(path): Path<BTreeMap<String, String>>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let origin = origin(request.extensions())?;
    let part = |name: &str| path.get(name).cloned().unwrap_or_default();
    let to = rest_of(request.uri().path(), request.uri().query());
    if !is_own_path(&to) {
        return Err(no_app());
    }
    if !headers::by_a_person(request.headers()) {
        let here = request.uri().path_and_query();
        let here = here.map_or("/", axum::http::uri::PathAndQuery::as_str);
        return Ok(not_by_hand(here, &part("id"), &part("app")));
    }
    let url = begin(&app, (&caller, origin), (&part("id"), &part("app")), &to).await?;
    Ok(redirect(&url, None))
}

async fn begin(
    app: &App,
    (caller, origin): (&Person, Arc<Origin>),
    (session, name): (&str, &str),
    to: &str,
) -> Result<String, Failure> {
    let id = sessions::resolve(app, caller, session).await?;
    let session = sessions::allowed(app, caller, id, Operation::SessionReach).await?;
    shown_port(&session, name)?;
    // What cannot be recorded must not reach the session: first the record.
    let engine = app.engine.asked_by(origin);
    let what = SessionUse::Reach(format!("app {name}"));
    sessions::used(app, &engine, caller, id, what).await?;
    address(app, caller, &session, name, to)
}

fn redirect(to: &str, cookie: Option<String>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    let cookie = cookie.map(|text| (header::SET_COOKIE, text));
    let fixed = [
        (header::LOCATION, to.to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    for (name, text) in fixed.into_iter().chain(cookie) {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    response
}

/// Takes requests for names below the domain of apps out of those for the API.
pub(in super::super) async fn by_name(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let below = host_of(request.uri(), request.headers());
    match below.is_some_and(|host| {
        app.browsers
            .origins
            .look(|origins| origins.is_below_domain(host))
    }) {
        true => serve(State(app), request).await,
        false => next.run(request).await,
    }
}

fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let written = headers.get(header::HOST).map(|host| host.to_str().ok());
    written.unwrap_or_else(|| uri.authority().map(axum::http::uri::Authority::as_str))
}

/// Everything on an origin of apps.
pub(in super::super) async fn serve(State(app): State<App>, request: Request) -> Response {
    let (method, uri, version) = (request.method(), request.uri(), request.version());
    if let Some(why) = headers::wrong(method, uri, version, request.headers()) {
        return page(StatusCode::BAD_REQUEST, "This is not understood", why);
    }
    let host = host_of(uri, request.headers())
        .unwrap_or("")
        .to_ascii_lowercase();
    match uri.path() == OPEN_PATH {
        true => redeem(&app, &host, uri.query()),
        false => pass(&app, &host, request).await,
    }
}

fn misdirected() -> Response {
    let text = "No app has this name. Open the app again, from the console or with longshore open.";
    page(
        StatusCode::MISDIRECTED_REQUEST,
        "There is nothing here",
        text,
    )
}

fn not_open() -> Response {
    let text = "Open the app from the console or with longshore open: the address that is used \
                for it is good once, for 30 seconds, and what it opens for eight hours.";
    page(StatusCode::UNAUTHORIZED, "This app is not open here", text)
}

/// For who was led to the address of an app by another page: a click on a page of ours is their
/// own.
fn not_by_hand(here: &str, session: &str, name: &str) -> Response {
    let text = format!(
        "Another page leads to app {name} of session {session}. Go on only if you want to open it."
    );
    let link = format!(
        "<p><a href=\"{}\">Open {}</a></p>",
        escaped(here),
        escaped(name)
    );
    page_with(StatusCode::FORBIDDEN, "Open this app?", &text, &link)
}

/// Trades a code for a cookie.
fn redeem(app: &App, host: &str, query: Option<&str>) -> Response {
    let Ok(query) = Query::read(query, &["code", "to"]) else {
        return not_open();
    };
    let code = query.one("code").ok().flatten().unwrap_or_default();
    let to = query.one("to").ok().flatten().unwrap_or("/");
    let (browsers, now_ms) = (&app.browsers, boot_ms());
    let grant = lock(&browsers.codes).take(&sha256(code.as_bytes()), now_ms);
    let Some(grant) = grant else {
        return not_open();
    };
    if browsers.host(&grant.label).as_deref() != Some(host) || !is_own_path(to) {
        return misdirected();
    }
    let (value, digest) = secret();
    let seconds = COOKIE_MS / 1000;
    let by = grant.by;
    lock(&browsers.cookies).enter(digest, (by, grant), now_ms);
    let cookie = format!(
        "{}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Lax",
        headers::COOKIE
    );
    redirect(to, Some(cookie))
}

/// Passes a request on into the container.
async fn pass(app: &App, host: &str, request: Request) -> Response {
    let browsers = &app.browsers;
    if !browsers.has_labels() && headers::is_service_worker(request.headers()) {
        let text = "Apps share this origin, so none may have a service worker, which would stand \
                    between all others and their browsers. Where the administrator sets \
                    daemon.apps.domain, each has an origin of its own.";
        return page(StatusCode::FORBIDDEN, "This is not allowed", text);
    }
    let value = headers::cookie(request.headers());
    let grant = value.and_then(|value| browsers.cookie(value, boot_ms()));
    let Some(grant) = grant else {
        let known = browsers.has_labels() || browsers.host("").as_deref() == Some(host);
        return if known { not_open() } else { misdirected() };
    };
    if browsers.host(&grant.label).as_deref() != Some(host) {
        return misdirected();
    }
    if !headers::by_own_page(request.method(), request.headers(), host) {
        let text = "The request was begun by a page of another origin.";
        return page(StatusCode::FORBIDDEN, "This is not allowed", text);
    }
    match relay(app, &grant, host, request).await {
        Ok(response) => response,
        Err(Refused::Here(failure)) => of_failure(&failure),
        Err(Refused::Inside(error)) => {
            let text = format!("What listens there does not answer as HTTP does: {error}.");
            page(StatusCode::BAD_GATEWAY, "The app gives no answer", &text)
        }
    }
}

/// Why there is no answer of the app.
enum Refused {
    /// By us.
    Here(Failure),
    /// By what the app does.
    Inside(hyper::Error),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Here(failure)
    }
}

async fn relay(
    app: &App,
    grant: &Grant,
    host: &str,
    mut request: Request,
) -> Result<Response, Refused> {
    let person = grant.let_in.again(app)?;
    let id = grant.session;
    let session = sessions::allowed(app, &person, id, Operation::SessionReach).await?;
    let (agent, order) = place(&session, Rank::MAIN, grant.port)?;
    let busy = || {
        let text = format!("{AT_ONCE} connections of yours into this app are open.");
        Failure::new("LS-STREAMS", text).retry_after(10)
    };
    let slot = Arc::clone(&grant.slots).acquire_owned();
    let slot = tokio::time::timeout(WAIT, slot).await;
    let slot = slot.ok().and_then(Result::ok).ok_or_else(busy)?;
    let open = app.tunnels.open(grant.by)?;
    // The connection, the answer and what may follow it are each looked at: none may outlive
    // the right to it because another has ended.
    let shows = Shows::of(id, Operation::SessionReach);
    let rests = || Rests::new(app, grant.let_in.clone(), shows.clone());
    let (mut asked, mut inside) = (rests(), rests());
    let ends = app.nodes.tunnel(agent, order).await;
    let ends = ends.map_err(|error| not_connected(&error, id))?;
    let lost = async move { inside.lost().await };
    let io = TokioIo::new(connected_to(ends, lost, (slot, open)));
    let (mut sender, connection) = http1::handshake(io).await.map_err(Refused::Inside)?;
    // Dropped with the answer: a request whose body never ends must not go on behind it.
    let (held, over) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(GUARDED.scope((), async move {
        tokio::select! {
            ended = connection.with_upgrades() => if let Err(error) = ended {
                tracing::debug!(%error, "a connection to an app ended");
            },
            _ = over => (),
        }
    }));
    let near = headers::is_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let outgoing = outgoing(request, host, grant.port)?;
    let mut answer = tokio::select! {
        answer = sender.send_request(outgoing) => answer.map_err(Refused::Inside)?,
        lost = asked.lost() => return Err(Refused::Here(lost)),
    };
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let near = near.ok_or_else(Failure::internal)?;
        let far = hyper::upgrade::on(&mut answer);
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        *response.headers_mut() = headers::switched(answer.headers(), grant.port);
        let stopping = app.stopping.clone();
        tokio::spawn(GUARDED.scope((), async move {
            carry(near, far, asked, stopping).await;
            drop(held);
        }));
        return Ok(response);
    }
    let (parts, body) = answer.into_parts();
    let pieces = stream_while_allowed(asked, Body::new(body)).into_data_stream();
    let pieces = pieces.map(move |piece| {
        let _held = &held; // as long as pieces come
        piece
    });
    let mut response = Response::new(Body::from_stream(pieces));
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers::response(&parts.headers, grant.port);
    Ok(response)
}

/// The request as the app gets it.
fn outgoing(request: Request, host: &str, port: u16) -> Result<Request, Failure> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query();
    let path = path.map_or("/", axum::http::uri::PathAndQuery::as_str);
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = path.parse().map_err(|_| Failure::internal())?;
    *outgoing.version_mut() = Version::HTTP_11;
    *outgoing.headers_mut() = headers::request(&parts.headers, host, port);
    Ok(outgoing)
}

/// Carries a connection that is HTTP no more, until an end of it or of the right to it.
async fn carry(
    near: hyper::upgrade::OnUpgrade,
    far: hyper::upgrade::OnUpgrade,
    mut rests: Rests,
    mut stopping: tokio::sync::watch::Receiver<bool>,
) {
    let both = async {
        let (near, far) = tokio::try_join!(near, far)?;
        let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
        // Either end may break off.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        Ok::<_, hyper::Error>(())
    };
    tokio::select! {
        done = both => if let Err(error) = done {
            tracing::debug!(%error, "a connection of an app was not taken over");
        },
        _ = rests.lost() => (),
        _ = stopping.wait_for(|stop| *stop) => (),
    }
}

fn of_failure(failure: &Failure) -> Response {
    let status = StatusCode::from_u16(failure.status());
    let title = match failure.code {
        "LS-APP-NOT-READY" => "The app cannot be reached yet",
        "LS-STATE" => "The session does not run",
        "LS-AGENT-UNREACHABLE" => "The machine of the session cannot be reached",
        "LS-STREAMS" => "Too much is open",
        "LS-NOT-FOUND" | "LS-PORT" => "There is no such app",
        _ => "This app is not open any more",
    };
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    page(status, title, &failure.detail)
}

/// A page of ours about an app: text, and nothing that could run.
fn page(status: StatusCode, title: &str, text: &str) -> Response {
    page_with(status, title, text, "")
}

/// The same with a piece of HTML behind the text.
fn page_with(status: StatusCode, title: &str, text: &str, html: &str) -> Response {
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <h1>{title}</h1><p>{text}</p>{html}\n",
        title = escaped(title),
        text = escaped(text)
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, body).into_response()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_text_only() {
        assert_eq!(
            escaped("<a href=\"x\">&"),
            "&lt;a href=&quot;x&quot;&gt;&amp;"
        );
    }
}
