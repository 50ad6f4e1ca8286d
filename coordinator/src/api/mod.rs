//! The HTTP API: the only way people and programs reach the coordinator.
//!
//! `operations` is the one table of routes; the router, the OpenAPI document and the
//! tests are made from it. A request passes, in this order: request id and panic net,
//! route and method, set-up gate, credentials, the handler.
//!
//! | input | output |
//! |---|---|
//! | HTTP requests | events and questions to `engine`, reads of `store`, output of sessions from `cluster` |

mod actions;
mod admin;
mod agents;
mod announcements;
mod apps;
pub mod areas;
pub mod audit;
pub mod cors;
mod devices;
mod drain;
pub mod errors;
mod exec;
mod extract;
mod files;
mod framing;
mod held;
pub mod links;
pub mod listener;
pub mod local;
pub mod logins;
mod logs;
mod metrics;
pub mod notify;
mod openapi;
mod operations;
mod page;
mod replays;
mod reports;
pub mod retention;
mod service;
mod sessions;
mod sockets;
mod views;
pub mod ways;

#[cfg(test)]
mod tests;

pub use admin::settings::read_again as read_settings_again;
pub use apps::{Browsers, Connecting, Origins, Tunnels};
pub use exec::{BeginningExec, Execs};
pub use logs::{LogPieces, NoNodes, Nodes, OpeningLogs, Signalling};
pub use metrics::router as metrics_router;
pub use openapi::document as openapi_document;
pub use operations::{Access, Gives, Holds, OPERATIONS, Operation, Parameter, Shape, Verb};
pub use page::Cursors;
pub use replays::Replays;

use crate::config::UiActions;
use crate::engine::{Engine, wall_clock};
use crate::identity::{Denied, Identity, Person, Via};
use crate::outbound::Outbound;
use crate::rates::{Rates, Whose};
use crate::settings::{Held, Settings};
use crate::store::{Reader, Secrets};
use crate::tls::Certificates;
use crate::vaults::Vaults;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use errors::Failure;
use futures_util::FutureExt as _;
use longshore_common::ids::{ClusterId, RequestId, UserId};
use longshore_core::access::Why;
use longshore_core::model::{BUILTIN, SessionDefaults};
use longshore_identity::audit::{Actor, ActorKind};
use longshore_identity::bucket::Verdict;
use longshore_link::boot_ms;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// For whom a service account acts.
const ON_BEHALF_OF: HeaderName = HeaderName::from_static("longshore-on-behalf-of");
const VERSION: HeaderName = HeaderName::from_static("longshore-version");

tokio::task_local! {
    /// Set on tasks whose panic ends one request or connection, not the process.
    pub static GUARDED: ();
}

/// Whether a panic on this task is caught by whoever runs it.
#[must_use]
pub fn is_guarded() -> bool {
    GUARDED.try_with(|()| ()).is_ok()
}

/// What handlers work with.
pub struct Parts {
    /// The state.
    pub engine: Engine,
    /// What memory has forgotten.
    pub reader: Reader,
    /// Encrypted values, and the keys to them.
    pub secrets: Secrets,
    /// Containers at agents.
    pub nodes: Arc<dyn Nodes>,
    /// Commands and terminals that are open.
    pub execs: Execs,
    /// Connections to ports of sessions, by who opened them.
    pub tunnels: Tunnels,
    /// Apps that browsers have open.
    pub browsers: Browsers,
    /// Who calls.
    pub identity: Arc<Identity>,
    /// What a session gets that does not say.
    pub defaults: Held<SessionDefaults>,
    /// What the settings allow beyond the operation table.
    pub rights: Held<RightsSettings>,
    /// The configuration.
    pub settings: Settings,
    /// Calls that people may have made about an object.
    pub actions: Held<UiActions>,
    /// Makes them.
    pub outbound: Held<Outbound>,
    /// What connections and requests may.
    pub http: Arc<Held<listener::Bounds>>,
    /// What connections are shown; none = something in front ends TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// Names and ports of the parts.
    pub areas: areas::Areas,
    /// Which pages of other origins may read answers.
    pub cors: Held<cors::Cors>,
    /// Id of the installation.
    pub cluster: ClusterId,
    /// Certificate of the authority, PEM.
    pub ca_pem: String,
    /// What join tokens pin.
    pub pin: String,
    /// Name of the machine, for addresses that nobody chose.
    pub host: String,
    /// `https://host:port`, by which people reach this coordinator: `daemon.public_url`.
    pub address: Held<String>,
    /// `host:port` by which nodes reach it.
    pub agents_address: String,
    /// Where the database lies; its free space is watched.
    pub data_dir: PathBuf,
    /// Signs the places of lists.
    pub cursors: Cursors,
    /// Refusals on their way into the audit log.
    pub audit: audit::Auditing,
    /// How many requests who made.
    pub rates: Arc<Rates>,
    /// Answers that are given again to who repeats a request.
    pub replays: Replays,
    /// What vaults hold, in the clear.
    pub vaults: Vaults,
    /// What logins need besides the state.
    pub logins: logins::Logins,
    /// Links that work once: how long they are good, and who mails them.
    pub links: links::Links,
    /// What telling people needs.
    pub notify: notify::Notifying,
    /// True once the coordinator is stopping: held answers are let go.
    pub stopping: watch::Receiver<bool>,
}

impl Parts {
    /// The address of the API, without a slash at its end.
    #[must_use]
    pub fn api_address(&self) -> String {
        self.areas.address(areas::Area::Api, &self.address.get())
    }

    /// The console's origin, where the API is of another one.
    #[must_use]
    pub fn own_origin(&self) -> Option<String> {
        self.areas.is_console_apart().then(|| self.address.get())
    }
}

/// What the settings allow beyond the operation table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RightsSettings {
    /// Administrators may reach into sessions of others: `services.sessions.admin_exec`.
    pub admin_exec: bool,
}

/// [`Parts`], shared.
#[derive(Clone)]
pub struct App(Arc<Parts>);

impl App {
    /// Shares the parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl App {
    /// The address by which people reach this coordinator, without a slash at its end.
    pub(crate) fn address(&self) -> String {
        self.address.get()
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl std::ops::Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Every route of [`OPERATIONS`], with everything around them.
pub fn router(app: App) -> Router {
    let mut router: Router<App> = Router::new();
    for operation in OPERATIONS {
        let guard = from_fn_with_state((app.clone(), operation), admit);
        router = router.route(operation.path, (operation.handler)().route_layer(guard));
    }
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), ways::to_its_part))
        .layer(from_fn_with_state(app.clone(), outermost))
        // What is for an app is none of the API's, whatever its path.
        .layer(from_fn_with_state(app.clone(), apps::by_name))
        .layer(from_fn_with_state(app.clone(), ways::enter))
        .with_state(app)
}

/// Everything on the address that belongs to apps alone.
pub fn apps_router(app: App) -> Router {
    Router::new()
        .fallback(apps::serve)
        .layer(from_fn_with_state(app.clone(), ways::enter))
        .with_state(app)
}

async fn no_route(State(app): State<App>, request: Request) -> Failure {
    match app.identity.is_set_up() {
        false => setup_required(),
        true => Failure::new(
            "LS-ROUTE",
            format!("There is no route {}.", errors::cut(request.uri().path())),
        ),
    }
}

async fn no_method(request: Request) -> Response {
    let path = request
        .extensions()
        .get::<axum::extract::MatchedPath>()
        .map(|p| p.as_str().to_owned());
    let mut methods: Vec<&str> = OPERATIONS
        .iter()
        .filter(|o| Some(o.path) == path.as_deref())
        .map(|o| o.method.as_str())
        .collect();
    methods.sort_unstable();
    let allow = methods.join(", ");
    let detail = format!(
        "{} is not a method of this route.",
        errors::cut(request.method().as_str())
    );
    let mut response = Failure::new("LS-METHOD", detail)
        .hint(format!("It has {allow}."))
        .into_response();
    if let Ok(value) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

fn setup_required() -> Failure {
    Failure::new("LS-SETUP-REQUIRED", "This installation has no administrator yet.")
        .hint("The file setup-token in the data directory of the coordinator holds the link; longshore up uses it.")
}

/// Who asked, for the line of the request in the log.
#[derive(Debug, Clone)]
struct AskedBy(Option<String>);

/// The id of a request, for records of the audit log.
#[derive(Debug, Clone)]
struct RequestName(String);

/// Set-up gate and credentials, by the row of the table. Who asks travels with the request;
/// who is refused is noted.
async fn admit(
    State((app, operation)): State<(App, &'static Operation)>,
    mut request: Request,
    next: Next,
) -> Response {
    let anonymous = operation.is_open();
    if let Err(failure) = extract::no_credentials(request.uri().query()) {
        return failure.into_response();
    }
    if anonymous && request.headers().contains_key(ON_BEHALF_OF) {
        return forbidden(Why::NotOnBehalf).into_response();
    }
    if operation.row == Some(Access::HealthRead) {
        return next.run(request).await; // never counted
    }
    if !anonymous && !app.identity.is_set_up() {
        return setup_required().into_response();
    }
    let generation = app.identity.generation();
    let client = client_of(&app, &request);
    if let Some(client) = client {
        request.extensions_mut().insert(Client(client));
    }
    let heeded = operation.heeds_callers() && logins::brings_credentials(request.headers(), &app);
    let checked = match anonymous && !heeded {
        true => Checked::stranger(operation),
        false => check(&app, operation, request.headers(), client),
    };
    let origin = Arc::new(audit::origin_of(&request, client, checked.actor));
    let path = request.uri().path().to_owned();
    let counted = count(&app, client, checked.proven.as_ref());
    let let_in = match &counted {
        Some(verdict) if !verdict.passes() => Err(too_many(verdict)),
        _ => checked.let_in,
    };
    let mut response = match let_in {
        Ok(None) => {
            request.extensions_mut().insert(Arc::clone(&origin));
            next.run(request).await
        }
        Ok(Some(person)) => {
            request.extensions_mut().insert(Arc::clone(&origin));
            request.extensions_mut().insert(person.clone());
            match operation.method {
                // What has begun to change something is not broken off.
                Verb::Post => replays::once(&app, operation, &person, request, next).await,
                Verb::Patch | Verb::Put | Verb::Delete => next.run(request).await,
                Verb::Get => {
                    let shows = held::Shows::default();
                    request.extensions_mut().insert(shows.clone());
                    let let_in = held::LetIn::new(operation, &person, generation);
                    request.extensions_mut().insert(let_in.clone());
                    let work = next.run(request);
                    held::while_allowed(&app, let_in, shows, work).await
                }
            }
        }
        Err(failure) => failure.into_response(),
    };
    audit::note(&app, (operation, &path), &origin, &response);
    let asked_by = AskedBy(origin.actor.id.clone());
    response.extensions_mut().insert(asked_by);
    for (name, value) in counted.iter().flat_map(Verdict::headers) {
        // Retry-After of a failure that has its own stays as it is.
        let name = HeaderName::from_static(match name {
            "X-RateLimit-Limit" => "x-ratelimit-limit",
            "X-RateLimit-Remaining" => "x-ratelimit-remaining",
            "X-RateLimit-Window" => "x-ratelimit-window",
            _ => continue,
        });
        response.headers_mut().insert(name, value.into());
    }
    response
}

/// Whose bucket a request counts in, once somebody has proved to be somebody.
struct Proven {
    whose: Whose,
    /// Its own limit; none = the setting.
    limit: Option<u32>,
}

impl Proven {
    fn of(person: &Person) -> Self {
        match &person.via {
            Via::Keypair {
                access_key,
                rate_limit,
                ..
            } => Self {
                whose: Whose::Keypair(access_key.clone()),
                limit: *rate_limit,
            },
            Via::Login(_) => Self {
                whose: Whose::Logins(person.id),
                limit: person.rate_limit,
            },
        }
    }
}

/// Whether a request is one too many. What proves nothing counts for the address it comes
/// from, and is refused only there.
fn count(app: &App, client: Option<IpAddr>, proven: Option<&Proven>) -> Option<Verdict> {
    let now = boot_ms();
    match proven {
        Some(proven) => Some(app.rates.known(&proven.whose, proven.limit, now)),
        None => client.map(|client| app.rates.client(client, now)),
    }
}

fn too_many(verdict: &Verdict) -> Failure {
    let text = format!("More than {} requests in 900 seconds.", verdict.limit);
    let failure = Failure::new("LS-RATE-LIMIT", text);
    failure.retry_after(verdict.retry_after_s.unwrap_or(1))
}

/// The address a request comes from.
#[derive(Debug, Clone, Copy)]
struct Client(IpAddr);

/// Where a request comes from, as far as that can be known.
fn client_of(app: &App, request: &Request) -> Option<IpAddr> {
    let peer = request.extensions().get::<listener::Peer>()?.0.ip();
    let forwarded = request.headers().get_all("x-forwarded-for").iter();
    Some(app.rates.client_of(peer, forwarded))
}

/// What the checks of a request came to.
struct Checked {
    /// As it is written down.
    actor: Actor,
    /// Set once somebody proved to be somebody, whatever is refused afterwards.
    proven: Option<Proven>,
    let_in: Result<Option<Person>, Failure>,
}

impl Checked {
    /// Somebody without credentials on a route that needs none.
    fn stranger(operation: &Operation) -> Self {
        let actor = if operation.row == Some(Access::SetupUse) {
            // Whoever has the set-up link could read the data directory.
            let mut actor = Actor::new(ActorKind::Local);
            actor.via = Some("set-up link".to_owned());
            actor
        } else {
            Actor::new(ActorKind::User)
        };
        Self {
            actor,
            proven: None,
            let_in: Ok(None),
        }
    }
}

/// The checks of a request in their order: credentials, what a limited login may do, the
/// operation table, and that what came by cookie was begun by a page of the console.
fn check(app: &App, operation: &Operation, headers: &HeaderMap, client: Option<IpAddr>) -> Checked {
    let credential = headers.get(header::AUTHORIZATION);
    let text = credential.map(|value| value.to_str().unwrap_or(""));
    // A request that brings its own credentials is judged by these, whatever cookies it has.
    let cookie = match text {
        Some(_) => None,
        None => logins::cookie_token(headers, &app.logins),
    };
    let now = wall_clock();
    let found = match &cookie {
        Some(token) => app.identity.by_token(token, now),
        None => app.identity.authenticate(text, now),
    };
    let person = match found {
        Ok(person) => person,
        Err(denied) => {
            return Checked {
                actor: audit::named_account(&app.identity, text),
                proven: None,
                let_in: Err(refused(denied)),
            };
        }
    };
    app.identity.used(&person, now, client);
    let mut actor = audit::actor(&person);
    // What was proven counts, whoever is acted for.
    let proven = Some(Proven::of(&person));
    let let_in = permitted(
        app,
        operation,
        headers,
        person,
        cookie.is_some(),
        &mut actor,
    );
    Checked {
        actor,
        proven,
        let_in: let_in.map(Some),
    }
}

/// The checks of somebody who proved to be somebody: who it acts for is noted in the actor.
fn permitted(
    app: &App,
    operation: &Operation,
    headers: &HeaderMap,
    person: Person,
    by_cookie: bool,
    actor: &mut Actor,
) -> Result<Person, Failure> {
    let via = person.via.clone();
    let whom = headers.get(ON_BEHALF_OF).map(|value| {
        let wanted = value.to_str().unwrap_or("").trim();
        let whom = app.identity.user_by_ref(wanted);
        let account = whom.and_then(|id| app.identity.account_of(id));
        actor.on_behalf_of = account.map(|account| account.printed.clone());
        whom
    });
    let person = admitted(app, operation, person, whom)?;
    if by_cookie && operation.method != Verb::Get {
        let is_good = |given: &str| match &via {
            Via::Login(login) => app.identity.csrf_is_good(*login, given),
            Via::Keypair { .. } => false,
        };
        if !logins::by_own_page(headers, &app.address(), is_good) {
            let text = "This request was not begun by a page of the console.";
            return Err(Failure::new("LS-CSRF", text));
        }
    }
    Ok(person)
}

/// What somebody may do by what a request brought, by whom it acts for if it says so, and by
/// the operation table.
fn admitted(
    app: &App,
    operation: &Operation,
    person: Person,
    whom: Option<Option<UserId>>,
) -> Result<Person, Failure> {
    app.logins.admits(&person, operation)?;
    let person = within_project(operation, person)?;
    let person = match whom {
        None => person,
        Some(whom) => on_behalf_of(app, operation, &person, whom)?,
    };
    operation.admits(&person.rights).map_err(forbidden)?;
    Ok(person)
}

/// The same for a caller that was let in before, by what is so now.
fn again(app: &App, operation: &Operation, person: &Person) -> Result<Person, Failure> {
    let proven = app.identity.still(person, wall_clock()).map_err(refused)?;
    let whom = person.rights.submitted_by().map(|_| Some(person.id));
    admitted(app, operation, proven, whom)
}

/// What a keypair that is good for one project lets somebody do: work in that one. It changes
/// nothing about the account, or who finds it would make one that is good for everything.
fn within_project(operation: &Operation, person: Person) -> Result<Person, Failure> {
    let Via::Keypair {
        project: Some(project),
        ..
    } = &person.via
    else {
        return Ok(person);
    };
    let work = operation.row.is_some_and(Access::may_be_acted_for);
    if operation.method != Verb::Get && !work {
        let text = "This keypair is good for work in one project only.";
        return Err(Failure::new("LS-FORBIDDEN", text));
    }
    let rights = person.rights.bound_to(*project, &BUILTIN);
    Ok(person.judged_as(rights))
}

/// The caller that a request in somebody's name is judged as.
fn on_behalf_of(
    app: &App,
    operation: &Operation,
    person: &Person,
    whom: Option<UserId>,
) -> Result<Person, Failure> {
    if !operation.row.is_some_and(Access::may_be_acted_for) {
        return Err(forbidden(Why::NotOnBehalf));
    }
    let nobody = app.identity.account_of(person.id);
    let user = whom.and_then(|id| app.identity.account_of(id)).or(nobody);
    let user = user.ok_or_else(Failure::internal)?;
    match person.rights.on_behalf_of(&user.rights, &BUILTIN) {
        Ok(rights) => {
            let rights = match person.called().project {
                Some(project) => rights.bound_to(project, &BUILTIN),
                None => rights,
            };
            Ok(person.acting_for(&user, rights))
        }
        Err(why @ Why::MayNotImpersonate) => Err(Failure::new(
            why.code(),
            format!(
                "Service account {} may not act for other users.",
                person.username
            ),
        )),
        Err(why) => Err(forbidden(why)),
    }
}

/// What the operation table refuses.
fn forbidden(why: Why) -> Failure {
    Failure::new(why.code(), why.to_string())
}

fn refused(denied: Denied) -> Failure {
    match denied {
        Denied::Missing => Failure::new("LS-AUTH-REQUIRED", "This route needs credentials.")
            .hint("Send \"Authorization: Bearer ACCESS.SECRET\"."),
        Denied::Failed => Failure::new("LS-AUTH-FAILED", "The credentials are not valid."),
        Denied::Inactive => Failure::new("LS-KEYPAIR-INACTIVE", "This keypair is inactive."),
        Denied::Expired => Failure::new("LS-KEYPAIR-EXPIRED", "This keypair has expired."),
        Denied::UserInactive => Failure::new("LS-USER-INACTIVE", "This account is inactive."),
        Denied::UserUnverified => {
            Failure::new("LS-USER-UNVERIFIED", "This account is not verified yet.")
        }
        Denied::DomainInactive => Failure::new("LS-DOMAIN-INACTIVE", "This domain is inactive."),
    }
}

/// The caller of a request behind [`admit`].
fn person(request: &axum::http::Extensions) -> Result<Person, Failure> {
    // Only a route that is open to anonymous callers has none: a fault of ours.
    request
        .get::<Person>()
        .cloned()
        .ok_or_else(Failure::internal)
}

/// Request id in and out, version, panic net, and the last touch to failures.
async fn outermost(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    request.extensions_mut().insert(RequestName(id.clone()));
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    // Before everything else: it carries no credentials and is not counted.
    let cors = app.cors.get();
    if let Some(response) = cors.preflight(&request) {
        return response;
    }
    let shown_to = cors.shown_to(request.headers());
    let started = std::time::Instant::now();
    let (request, unread) = extract::watched(request);
    let handled = GUARDED
        .scope((), AssertUnwindSafe(next.run(request)).catch_unwind())
        .await;
    let mut response = handled.unwrap_or_else(|_| {
        tracing::error!(request_id = %id, %method, path = %errors::cut(&path), "a request ended in a panic");
        Failure::internal().into_response()
    });
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        unread.discard().await;
        let said = std::mem::take(response.headers_mut());
        response = failure.response(&app.address(), &errors_path(&path), &id);
        // What was said beside the failure (Allow, the rate limit) stays.
        for (name, value) in said {
            if let Some(name) = name {
                response.headers_mut().entry(name).or_insert(value);
            }
        }
        if response.status().is_server_error() {
            tracing::warn!(request_id = %id, %method, path = %errors::cut(&path), code = failure.code, "request failed");
        }
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    let status = response.status().as_u16();
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let asked_by = response.extensions_mut().remove::<AskedBy>();
    if app.settings.now().config.logging.access_log {
        let caller = asked_by
            .and_then(|by| by.0)
            .unwrap_or_else(|| "-".to_owned());
        let path = errors::cut(&path);
        tracing::info!(target: "access", request_id = %id, %method, %path, status, took_ms, %caller, "request");
    }
    let headers = response.headers_mut();
    if let Some(origin) = shown_to {
        cors.mark(headers, origin);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(VERSION, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The path for an answer: bounded, as it was sent.
fn errors_path(path: &str) -> String {
    path.chars().filter(|c| !c.is_control()).take(256).collect()
}

fn request_id(request: &Request) -> String {
    let given = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|v| v.to_str().ok());
    let good = |text: &&str| {
        (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    match given.filter(good) {
        Some(text) => text.to_owned(),
        None => RequestId::new(crate::identity::new_id()).to_string(),
    }
}

/// Does what takes the processor for a while, such as reading a text of 256 KiB, beside the tasks
/// that answer others.
///
/// # Errors
/// The program ends.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Failure::internal())
}

/// An answer as JSON.
fn json<T: serde::Serialize>(value: &T) -> Result<Response, Failure> {
    let body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        Failure::internal()
    })?;
    Ok(json_text(body))
}

/// An answer that is JSON already.
fn json_text(body: impl Into<Body>) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], body.into()).into_response()
}
