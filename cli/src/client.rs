//! The API, as commands use it.

use crate::away::Pauses;
use crate::contexts::Context;
use crate::error::{Failure, code};
use crate::reach::Socket;
use crate::tls;
use crate::values::SessionRef;
use longshore_common::api::{
    NewSession, Problem, Session, TerminateAnswer, TerminateRequest, Version,
};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH,
    SEC_WEBSOCKET_PROTOCOL,
};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest as _};

/// A connection must stand after this long; in one room it takes milliseconds, and
/// somebody waits in front of the terminal.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// An answer that is not held back on purpose must be there after this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The server says something at least every 15 s on a stream; thrice that is silence.
const STREAM_SILENCE: Duration = Duration::from_secs(45);
/// The same question is not put twice within this time: a coordinator that is about to stop
/// holds no answer back, and with pauses of this length nobody keeps it busy.
const SAME_QUESTION: Duration = Duration::from_millis(500);
/// So often a request that may be repeated is sent again: with the growing pauses that is
/// three and a half seconds, longer than a coordinator takes to start.
const REPEATED: u32 = 3;
/// How long a table may take: the password of each of a thousand people is hashed.
const TABLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Most objects asked for at once; the server's own limit.
const PAGE: usize = 500;
/// More than any answer that is no stream has.
const MOST_BYTES: usize = 256 << 20;

/// An address without the slash at its end.
fn plain_address(url: &str) -> Result<&str, Failure> {
    let url = url.trim_end_matches('/');
    if url.starts_with("https://") && reqwest::Url::parse(url).is_ok() {
        return Ok(url);
    }
    Err(Failure::usage(format!(
        "\"{url}\" is not an address of the form https://HOST:7420"
    )))
}

/// Whether `said` is another address than `own`, and no less private.
fn leads_on(own: &str, said: &str) -> bool {
    match (reqwest::Url::parse(own), reqwest::Url::parse(said)) {
        (Ok(own), Ok(said)) => {
            own != said && (said.scheme() == "https" || said.scheme() == own.scheme())
        }
        _ => false,
    }
}

/// A coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    bearer: Option<HeaderValue>,
    tls: Arc<rustls::ClientConfig>,
    verbose: bool,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    method: Method,
    path: &'a str,
    body: Option<Value>,
    table: Option<String>,
    headers: HeaderMap,
    timeout: Option<Duration>,
}

impl<'a> Call<'a> {
    /// A request without a body. The path begins behind the address.
    pub(crate) fn new(method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            body: None,
            table: None,
            headers: HeaderMap::new(),
            timeout: Some(ANSWER_TIMEOUT),
        }
    }

    /// The same with a JSON body.
    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// The same with a table; what is made of its rows takes its time.
    pub(crate) fn table(mut self, csv: String) -> Self {
        self.table = Some(csv);
        self.timeout = Some(TABLE_TIMEOUT);
        self
    }

    /// The same with a header; the values come from us and are visible ASCII.
    pub(crate) fn header(mut self, name: reqwest::header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The same with the header that makes repeating it harmless. Of `POST /sessions` that
    /// holds for a day; every other POST is forgotten when the coordinator restarts.
    pub(crate) fn once(self, key: &str) -> Self {
        self.header(
            reqwest::header::HeaderName::from_static("idempotency-key"),
            key,
        )
    }

    fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Client {
    /// The authority of a coordinator that was never seen. Whoever answers is believed, so
    /// nothing is sent that is secret; the pin is shown to a person, and every later
    /// connection has to be of that authority.
    pub(crate) async fn authority(url: &str, verbose: bool) -> Result<tls::Pin, Failure> {
        let client = Self::over(url, tls::first_visit()?, None, verbose)?;
        let pem = client.call_bytes(Call::new(Method::GET, "/ca.pem")).await?;
        let pin = tls::Pin::of_pem(&pem).ok_or_else(|| {
            Failure::failed(format!("{url} does not answer as a coordinator does"))
        })?;
        // Its own authority may sign for its agents alone.
        let tls = tls::config(&tls::Ca::Pin(pin))?;
        let pinned = Self::over(url, tls, None, verbose)?;
        match pinned.call_bytes(Call::new(Method::GET, "/version")).await {
            Ok(_) => Ok(pin),
            Err(failure) => Err(failure
                .why("neither an authority this machine knows nor its own one has signed for it")
                .hint("--ca /PATH.pem names the authority that did")),
        }
    }

    /// A client of the coordinator of `context`. Nothing is sent yet.
    pub(crate) fn new(context: &Context, verbose: bool) -> Result<Self, Failure> {
        let bearer = match context.bearer() {
            Some(text) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| {
                    Failure::usage("the keypair holds characters that no keypair has")
                })?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let url = plain_address(&context.url)?;
        let tls = tls::config(&context.authority()?)?;
        Self::over(url, tls, bearer, verbose)
    }

    fn over(
        url: &str,
        tls: rustls::ClientConfig,
        bearer: Option<HeaderValue>,
        verbose: bool,
    ) -> Result<Self, Failure> {
        let url = plain_address(url)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // A coordinator stands in one's own network; a proxy for the world would not reach it.
            .no_proxy()
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                Failure::failed(format!("the HTTP client cannot be set up: {error}"))
            })?;
        Ok(Self {
            http,
            base: url.to_owned(),
            bearer,
            tls: Arc::new(tls),
            verbose,
        })
    }

    /// `https://gpu01.lab:7420`
    pub(crate) fn address(&self) -> &str {
        &self.base
    }

    async fn response(&self, base: &str, call: &Call<'_>) -> Result<Response, Failure> {
        let url = format!("{base}{}", call.path);
        let mut request = self
            .http
            .request(call.method.clone(), url)
            .headers(call.headers.clone());
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer.clone());
        }
        if let Some(timeout) = call.timeout {
            request = request.timeout(timeout);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        if let Some(table) = &call.table {
            request = request
                .header(CONTENT_TYPE, HeaderValue::from_static("text/csv"))
                .body(table.clone());
        }
        let started = Instant::now();
        let answer = request.send().await;
        if self.verbose {
            let said = answer
                .as_ref()
                .map_or_else(ToString::to_string, |a| a.status().as_u16().to_string());
            eprintln!(
                "{} {} -> {said} in {} ms",
                call.method,
                call.path,
                started.elapsed().as_millis()
            );
        }
        answer.map_err(|error| self.connection_failure(&error))
    }

    /// Opens a WebSocket with these sub-protocols. The path begins behind the address.
    pub(crate) async fn websocket(&self, path: &str, protocols: &str) -> Result<Socket, Failure> {
        let strange = |error: String| Failure::failed(format!("{}: {error}", self.base));
        let url = reqwest::Url::parse(&self.base).map_err(|e| strange(e.to_string()))?;
        let host = url.host_str().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let secure = format!("{}{path}", self.base.replacen("https", "wss", 1));
        let request = secure.into_client_request();
        let mut request = request.map_err(|e| strange(e.to_string()))?;
        let headers = request.headers_mut();
        let offered = HeaderValue::from_str(protocols).map_err(|e| strange(e.to_string()))?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, offered);
        if let Some(bearer) = &self.bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let opened = async {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            let _ = stream.set_nodelay(true); // only makes it slower when it fails
            let name = rustls::pki_types::ServerName::try_from(host.clone())
                .map_err(std::io::Error::other)?;
            let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
            let stream = connector.connect(name, stream).await?;
            tokio_tungstenite::client_async(request, stream).await
        };
        let away = |error: &dyn std::fmt::Display| {
            let text = format!("{} cannot be reached: {error}", self.base);
            Failure::new(code::UNREACHABLE, text)
        };
        // The coordinator asks an agent for it first, which may take its time.
        match tokio::time::timeout(CONNECT_TIMEOUT + ANSWER_TIMEOUT, opened).await {
            Err(_) => Err(away(&"no answer in time")),
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(answer))) => {
                let status = answer.status().as_u16();
                let body = answer.body().as_deref().unwrap_or_default();
                Err(match serde_json::from_slice::<Problem>(body) {
                    Ok(problem) => Failure::from_problem(problem),
                    Err(_) => Failure::new(
                        crate::error::exit_of(status, ""),
                        format!("{} answered {status} to a WebSocket", self.base),
                    ),
                })
            }
            Ok(Err(error)) => Err(away(&error)),
        }
    }

    /// Sends a request; an answer that is no success becomes a failure.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Response, Failure> {
        let mut answer = self.response(&self.base, &call).await?;
        if answer.status() == StatusCode::MISDIRECTED_REQUEST {
            // Nothing was done here.
            let refusal = self.refusal(answer).await;
            let Some(base) = self.elsewhere(call.path).await? else {
                return Err(refusal);
            };
            answer = self.response(&base, &call).await?;
        }
        if answer.status().is_success() || answer.status().as_u16() == 304 {
            return Ok(answer);
        }
        Err(self.refusal(answer).await)
    }

    /// Where a path is served, if not here: the console, the API and files may have names and
    /// ports of their own, and each of them says where the others are. It is believed as the
    /// rest is that it says; what is secret goes nowhere in the clear.
    pub(crate) async fn elsewhere(&self, path: &str) -> Result<Option<String>, Failure> {
        let asked = Call::new(Method::GET, "/version");
        let answer = self.response(&self.base, &asked).await?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        let version: Version = typed(self.value(answer).await?)?;
        let said = match path.starts_with("/files/") {
            true => version.files_url,
            false => version.api_url,
        };
        Ok(said.filter(|url| leads_on(&self.base, url)))
    }

    async fn refusal(&self, answer: Response) -> Failure {
        let status = answer.status().as_u16();
        let bytes = match self.bytes(answer).await {
            Ok(bytes) => bytes,
            Err(failure) => return failure,
        };
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => {
                // Who is just logging in needs no word about that.
                let logs_in = matches!(
                    problem.code.as_str(),
                    "LS-LOGIN-FAILED" | "LS-TOTP-REQUIRED" | "LS-TOTP-INVALID"
                );
                let denied = problem.status == 401 && !logs_in;
                let mut failure = Failure::from_problem(problem);
                if denied {
                    failure.hint = Some(format!("longshore login {} signs in", self.base));
                }
                failure
            }
            Err(_) => Failure::new(
                crate::error::exit_of(status, ""),
                format!(
                    "{} answered {status} and not in the way of a coordinator",
                    self.base
                ),
            ),
        }
    }

    /// The next bytes of an answer, as they come; none at its end.
    pub(crate) async fn chunk(
        &self,
        answer: &mut Response,
    ) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        let chunk = answer.chunk().await;
        chunk.map_err(|error| self.connection_failure(&error))
    }

    async fn bytes(&self, mut answer: Response) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(&mut answer).await? {
            bytes.extend_from_slice(chunk.as_ref());
            if bytes.len() > MOST_BYTES {
                return Err(Failure::failed(
                    "the answer is larger than any answer should be",
                ));
            }
        }
        Ok(bytes)
    }

    async fn value(&self, answer: Response) -> Result<Value, Failure> {
        let bytes = self.bytes(answer).await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::failed(format!(
                "{} sent JSON that does not read: {error}",
                self.base
            ))
        })
    }

    /// Sends a request and reads the JSON of the answer.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        let answer = self.send(call).await?;
        self.value(answer).await
    }

    /// Sends a request and gives the bytes of the answer.
    pub(crate) async fn call_bytes(&self, call: Call<'_>) -> Result<Vec<u8>, Failure> {
        let answer = self.send(call).await?;
        self.bytes(answer).await
    }

    /// GET below `/api/v1`.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Call::new(Method::GET, &format!("/api/v1{path}")))
            .await
    }

    /// GET below `/api/v1`, typed.
    pub(crate) async fn get_as<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        typed(self.get(path).await?)
    }

    /// POST below `/api/v1`, once: an answer that broke off does not say whether it was
    /// done, and most of what is posted would be done twice.
    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        let body = serde_json::to_value(body).map_err(|e| Failure::failed(e.to_string()))?;
        let path = format!("/api/v1{path}");
        self.call(Call::new(Method::POST, &path).body(body)).await
    }

    /// Sends what may be done twice without harm, again when the connection breaks.
    async fn repeated<'a>(&self, call: impl Fn() -> Call<'a>) -> Result<Value, Failure> {
        let mut pauses = Pauses::new();
        let mut tries = 0;
        loop {
            match self.call(call()).await {
                // Nobody listens there: said at once. What broke on the way is tried again.
                Err(failure)
                    if failure.is_transient() && failure.hint.is_none() && tries < REPEATED =>
                {
                    tries += 1;
                    pauses.wait().await;
                }
                done => return done,
            }
        }
    }

    /// PATCH below `/api/v1` of the object as it was last seen.
    pub(crate) async fn patch(
        &self,
        path: &str,
        version: u64,
        body: &impl Serialize,
    ) -> Result<Value, Failure> {
        let body = serde_json::to_value(body).map_err(|e| Failure::failed(e.to_string()))?;
        let path = format!("/api/v1{path}");
        let etag = format!("\"{version}\"");
        self.call(
            Call::new(Method::PATCH, &path)
                .body(body)
                .header(IF_MATCH, &etag),
        )
        .await
    }

    /// DELETE below `/api/v1`.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.call(Call::new(Method::DELETE, &format!("/api/v1{path}")))
            .await
    }

    /// Every object of a list, over all its pages. `path` may have parameters already.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        self.first(path, usize::MAX).await
    }

    /// The first objects of a list, page by page and not further than asked.
    pub(crate) async fn first(&self, path: &str, most: usize) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let limit = PAGE.min(most.saturating_sub(items.len()));
            let page = self.page(path, limit, cursor.as_deref()).await?;
            items.extend(page.0);
            match page.1 {
                Some(next) if Some(&next) != cursor.as_ref() && items.len() < most => {
                    cursor = Some(next);
                }
                Some(_) | None => break,
            }
        }
        items.truncate(most); // a list that has no pages comes whole
        Ok(items)
    }

    async fn page(
        &self,
        path: &str,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<(Vec<Value>, Option<String>), Failure> {
        let sign = if path.contains('?') { '&' } else { '?' };
        let mut address = format!("{path}{sign}limit={limit}");
        if let Some(cursor) = cursor {
            address.push_str(&format!("&cursor={}", encode(cursor)));
        }
        match self.get(&address).await? {
            Value::Array(items) => Ok((items, None)),
            Value::Object(mut page) => {
                let next = page
                    .get("next_cursor")
                    .and_then(Value::as_str)
                    .map(str::to_owned);
                match page.remove("items") {
                    Some(Value::Array(items)) => Ok((items, next)),
                    Some(_) | None => Err(Failure::failed(format!("{path} is not a list"))),
                }
            }
            _ => Err(Failure::failed(format!("{path} is not a list"))),
        }
    }

    /// The address of a session below `/api/v1`; asks the coordinator only for `@`.
    pub(crate) async fn session_path(&self, session: &SessionRef) -> Result<String, Failure> {
        Ok(format!("/sessions/{}", self.session_word(session).await?))
    }

    async fn session_word(&self, session: &SessionRef) -> Result<String, Failure> {
        match session {
            SessionRef::Id(id) => Ok(id.to_string()),
            SessionRef::Name(name) => Ok(encode(name)),
            SessionRef::Latest(back) => self.latest(*back).await,
        }
    }

    /// The id of a session, also when it was given by its name.
    pub(crate) async fn session_id(&self, session: &SessionRef) -> Result<String, Failure> {
        match session {
            SessionRef::Id(_) | SessionRef::Latest(_) => self.session_word(session).await,
            SessionRef::Name(name) => {
                let found: Session = self.get_as(&format!("/sessions/{}", encode(name))).await?;
                Ok(found.id)
            }
        }
    }

    async fn latest(&self, back: u32) -> Result<String, Failure> {
        let mut mine: Vec<u64> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let list = "/sessions?scope=all&owner=me";
            let (items, next) = self.page(list, PAGE, cursor.as_deref()).await?;
            let ids = items
                .iter()
                .filter_map(|item| item.get("id")?.as_str()?.strip_prefix("s-"));
            mine.extend(ids.filter_map(|number| number.parse::<u64>().ok()));
            // The newest come first, so the first page with enough of them will do.
            let enough = mine.len() >= back as usize && mine.first() >= mine.last();
            cursor = match next {
                Some(next) if !enough => Some(next),
                Some(_) | None => break,
            };
        }
        mine.sort_unstable_by(|a, b| b.cmp(a));
        mine.get(back as usize - 1)
            .map(|n| format!("s-{n}"))
            .ok_or_else(|| {
                let text = match back {
                    1 => "there is no session of yours".to_owned(),
                    back => format!("there are fewer than {back} sessions of yours"),
                };
                Failure::new(code::NOT_FOUND, text)
            })
    }

    /// One session.
    pub(crate) async fn session(&self, id: &str) -> Result<Session, Failure> {
        self.get_as(&format!("/sessions/{}", encode(id))).await
    }

    /// One session as soon as its version is no longer `version`; `None` when it still is,
    /// after half a second at the least.
    pub(crate) async fn session_change(
        &self,
        id: &str,
        version: u64,
        wait_s: u64,
    ) -> Result<Option<Session>, Failure> {
        let path = format!("/api/v1/sessions/{}?wait_s={wait_s}", encode(id));
        let call = Call::new(Method::GET, &path)
            .header(IF_NONE_MATCH, &format!("\"{version}\""))
            .timeout(Some(Duration::from_secs(wait_s + 10)));
        let asked = Instant::now();
        let answer = self.send(call).await?;
        if answer.status().as_u16() == 304 {
            // Here, so that nobody who asks again and again can forget it.
            tokio::time::sleep(SAME_QUESTION.saturating_sub(asked.elapsed())).await;
            return Ok(None);
        }
        typed(self.value(answer).await?).map(Some)
    }

    /// Asks for a session, again when the connection breaks: the key makes that harmless.
    pub(crate) async fn new_session(&self, request: &NewSession) -> Result<Session, Failure> {
        let body = serde_json::to_value(request).map_err(|e| Failure::failed(e.to_string()))?;
        let key = random_key()?;
        let call = || {
            Call::new(Method::POST, "/api/v1/sessions")
                .body(body.clone())
                .once(&key)
        };
        typed(self.repeated(call).await?)
    }

    /// Asks for the ends of sessions, again when the connection breaks: what is ending is
    /// not ended twice.
    pub(crate) async fn terminate(
        &self,
        request: &TerminateRequest,
    ) -> Result<TerminateAnswer, Failure> {
        let body = serde_json::to_value(request).map_err(|e| Failure::failed(e.to_string()))?;
        let call = || Call::new(Method::POST, "/api/v1/sessions/terminate").body(body.clone());
        typed(self.repeated(call).await?)
    }

    /// Opens a stream below `/api/v1`: no end, but never silent for long.
    pub(crate) async fn stream(&self, path: &str) -> Result<Stream, Failure> {
        let path = format!("/api/v1{path}");
        let call = Call::new(Method::GET, &path).timeout(None);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.send(call))
            .await
            .map_err(|_| {
                Failure::new(code::UNREACHABLE, format!("{} does not answer", self.base))
            })??;
        Ok(Stream {
            answer,
            client: self.clone(),
        })
    }

    /// What went wrong between here and there: the address, the part, the next command.
    fn connection_failure(&self, error: &reqwest::Error) -> Failure {
        let mut what = None;
        let mut texts = Vec::new();
        let mut refused = error.is_connect();
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(tls) = tls_inside(inner) {
                what = Some(tls_text(tls));
            } else if let Some(io) = inner.downcast_ref::<std::io::Error>() {
                what = what.or_else(|| match io.kind() {
                    std::io::ErrorKind::ConnectionRefused => {
                        Some("connect: nobody listens there".to_owned())
                    }
                    std::io::ErrorKind::HostUnreachable
                    | std::io::ErrorKind::NetworkUnreachable => {
                        Some("connect: no way to that host".to_owned())
                    }
                    std::io::ErrorKind::UnexpectedEof
                    | std::io::ErrorKind::ConnectionReset
                    | std::io::ErrorKind::BrokenPipe => Some("connection: it broke off".to_owned()),
                    _ => None,
                });
            }
            let text = inner.to_string();
            if what.is_none() && text.contains("dns error") {
                what = Some("name: it cannot be resolved".to_owned());
            }
            texts.push(text);
            source = inner.source();
        }
        let what = what.unwrap_or_else(|| {
            if error.is_timeout() {
                refused = error.is_connect();
                "time-out: no answer in time".to_owned()
            } else {
                texts.last().cloned().unwrap_or_else(|| error.to_string())
            }
        });
        let failure = Failure::new(
            code::UNREACHABLE,
            format!("the coordinator at {} cannot be reached", self.base),
        )
        .why(what);
        // A hint marks what a repetition at once would not mend.
        if refused {
            failure.hint("longshore status on the coordinator's machine")
        } else {
            failure
        }
    }
}

/// An answer that goes on.
#[derive(Debug)]
pub(crate) struct Stream {
    answer: Response,
    client: Client,
}

impl Stream {
    /// Whether the answer came with this header.
    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.answer.headers().contains_key(name)
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match tokio::time::timeout(STREAM_SILENCE, self.answer.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk.map(|bytes| bytes.to_vec())),
            Ok(Err(error)) => Err(self.client.connection_failure(&error)),
            Err(_) => Err(Failure::new(
                code::UNREACHABLE,
                format!("{} fell silent", self.client.base),
            )),
        }
    }
}

/// The error of TLS, however often it is wrapped in errors of the system: such a
/// wrapper names the source of what it holds, not what it holds.
fn tls_inside<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut error = error;
    loop {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        error = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    }
}

fn tls_text(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
            "certificate: it is not of an authority that is trusted for this coordinator".to_owned()
        }
        rustls::Error::InvalidCertificate(
            rustls::CertificateError::NotValidForName
            | rustls::CertificateError::NotValidForNameContext { .. },
        ) => "certificate: it is not made for this name".to_owned(),
        rustls::Error::InvalidCertificate(why) => format!("certificate: {why:?}"),
        other => format!("TLS: {other}"),
    }
}

/// Reads a typed value out of JSON.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| {
        Failure::failed(format!(
            "the coordinator's answer is not understood: {error}"
        ))
        .hint("longshore version")
    })
}

/// 128 random bits in hexadecimal.
pub(crate) fn random_key() -> Result<String, Failure> {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Failure::failed("the system gives no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A text as one part of a path or a parameter.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::describe::tests::session;
    use serde_json::json;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// What a coordinator was sent, a text per request.
    type Requests = Arc<Mutex<Vec<String>>>;

    /// A client of a coordinator that gives these answers, one after the other; where there
    /// is none the connection breaks when the request has been read.
    pub(crate) async fn answering(answers: Vec<Option<(u16, Value)>>) -> (Client, Requests) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let context = Context {
            url: "https://x:7420".into(),
            ca: Some(format!("sha256:{}", "00".repeat(32))),
            ..Context::default()
        };
        let mut client = Client::new(&context, false).unwrap();
        client.base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Requests::default();
        let heard = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = request(&mut stream).await;
                heard.lock().unwrap().push(request);
                if let Some((status, body)) = answers.next().flatten() {
                    let body = match status {
                        304 => String::new(),
                        _ => body.to_string(),
                    };
                    let head = format!(
                        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all((head + &body).as_bytes()).await;
                }
            }
        });
        (client, requests)
    }

    /// One request to its end.
    async fn request(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let n = stream.read(&mut buffer).await.unwrap_or(0);
            bytes.extend_from_slice(&buffer[..n]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                let length = head
                    .lines()
                    .find_map(|l| l.strip_prefix("content-length: "));
                body.len() >= length.map_or(0, |n| n.parse::<usize>().unwrap())
            });
            if whole || n == 0 {
                return text;
            }
        }
    }

    fn key(request: &str) -> Option<&str> {
        let mut lines = request.lines();
        lines.find_map(|line| line.strip_prefix("idempotency-key: "))
    }

    /// Nothing is held back to the end, and what breaks off does not look whole.
    #[tokio::test]
    async fn a_stream_gives_what_there_is_and_tells_when_it_breaks_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut client, _) = answering(vec![]).await;
        client.base = format!("http://{}", listener.local_addr().unwrap());
        let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await;
            let head = "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nline\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            wait.await.unwrap();
        });
        let mut stream = client.stream("/sessions/s-7/logs").await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), b"line");
        go_on.send(()).unwrap();
        assert_eq!(stream.next().await.unwrap_err().exit, code::UNREACHABLE);
    }

    fn version(api: &str, files: &str) -> Value {
        json!({
            "version": "0", "api": "v1", "agent_protocol": 1, "cluster": "c",
            "api_url": api, "files_url": files,
        })
    }

    fn not_here() -> Value {
        json!({
            "type": "x", "title": "t", "status": 421, "code": "LS-HOST",
            "detail": "Files are not served here.", "instance": "/", "request_id": "r",
        })
    }

    #[tokio::test]
    async fn a_part_with_a_name_of_its_own_is_asked_there() {
        let (there, heard) = answering(vec![Some((200, json!("done")))]).await;
        let said = version("http://127.0.0.1:1", &there.base);
        let (client, requests) = answering(vec![Some((421, not_here())), Some((200, said))]).await;
        let body = json!({"a": 1});
        let call = Call::new(Method::POST, "/files/v1/x").body(body.clone());
        assert_eq!(client.call(call).await.unwrap(), json!("done"));
        let heard = heard.lock().unwrap().clone();
        assert_eq!(heard.len(), 1);
        assert!(heard[0].starts_with("POST /files/v1/x "), "{}", heard[0]);
        assert!(heard[0].ends_with(&body.to_string()), "{}", heard[0]);
        assert_eq!(requests.lock().unwrap().len(), 2);
        // Who is there already, or is told of nobody, hears what was refused.
        let (client, requests) = answering(vec![
            Some((421, not_here())),
            Some((
                200,
                json!({"version": "0", "api": "v1", "agent_protocol": 1, "cluster": "c"}),
            )),
        ])
        .await;
        let refused = client.get("/me").await.unwrap_err();
        assert_eq!(refused.problem.unwrap().code, "LS-HOST");
        assert_eq!(requests.lock().unwrap().len(), 2);
    }

    #[test]
    fn nobody_is_led_into_the_clear() {
        let own = "https://app.gpu.lab:443";
        assert!(leads_on(own, "https://api.gpu.lab"));
        assert!(leads_on(own, "https://app.gpu.lab:7420"));
        for bad in [
            "https://app.gpu.lab",
            "http://api.gpu.lab",
            "ftp://api.gpu.lab",
            "api.gpu.lab",
        ] {
            assert!(!leads_on(own, bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_posted_is_sent_once() {
        // A second INT or a second join token would be made by a repetition.
        let (client, requests) = answering(vec![None, Some((200, json!({})))]).await;
        let failure = client.post("/join-tokens", &json!({})).await.unwrap_err();
        assert!(
            failure.is_transient() && failure.hint.is_none(),
            "{failure:?}"
        );
        let requests = requests.lock().unwrap();
        assert_eq!((requests.len(), key(&requests[0])), (1, None));
    }

    #[tokio::test]
    async fn a_session_is_asked_for_again_with_the_same_key() {
        let accepted = serde_json::to_value(session(json!({ "id": "s-7" }))).unwrap();
        let (client, requests) = answering(vec![None, Some((201, accepted))]).await;
        let session = client.new_session(&NewSession::default()).await.unwrap();
        assert_eq!(session.id, "s-7");
        let requests = requests.lock().unwrap();
        assert_eq!(requests.len(), 2);
        assert!(key(&requests[0]).is_some());
        assert_eq!(key(&requests[0]), key(&requests[1]));
    }

    #[tokio::test]
    async fn an_end_is_asked_for_again() {
        let answer = serde_json::to_value(TerminateAnswer::default()).unwrap();
        let (client, requests) = answering(vec![None, Some((200, answer))]).await;
        let done = client.terminate(&TerminateRequest::default()).await;
        done.unwrap();
        assert_eq!(requests.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn nothing_new_is_never_said_at_once() {
        // What a coordinator answers that is about to stop.
        let (client, _) = answering(vec![Some((304, Value::Null))]).await;
        let asked = Instant::now();
        assert!(client.session_change("s-7", 1, 20).await.unwrap().is_none());
        assert!(asked.elapsed() >= SAME_QUESTION);
    }

    #[tokio::test]
    async fn who_is_not_signed_in_is_told_where_to_log_in() {
        let problem = |code: &str| {
            json!({ "type": "x", "title": "t", "status": 401, "code": code, "detail": "d",
                "hint": "h", "instance": "/", "request_id": "r" })
        };
        let answers = ["LS-AUTH-REQUIRED", "LS-LOGIN-FAILED"];
        let answers = answers.map(|code| Some((401, problem(code)))).to_vec();
        let (client, _) = answering(answers).await;
        let hint = client.get("/me").await.unwrap_err().hint.unwrap();
        assert_eq!(
            hint,
            format!("longshore login {} signs in", client.address())
        );
        let hint = client.get("/me").await.unwrap_err().hint.unwrap();
        assert_eq!(hint, "h");
    }

    #[test]
    fn parts_of_addresses() {
        assert_eq!(encode("a/b c@d.é~"), "a%2Fb%20c%40d.%C3%A9~");
    }

    #[test]
    fn keys_differ() {
        let (a, b) = (random_key().unwrap(), random_key().unwrap());
        assert_eq!(a.len(), 32);
        assert_ne!(a, b);
    }

    #[test]
    fn only_https_with_an_authority_that_is_understood() {
        let ca = Some(format!("sha256:{}", "00".repeat(32)));
        let context = |url: &str| Context {
            url: url.into(),
            ca: ca.clone(),
            ..Context::default()
        };
        assert_eq!(
            Client::new(&context("http://x:7420"), false)
                .unwrap_err()
                .exit,
            2
        );
        assert!(Client::new(&context("https://x:7420"), false).is_ok());
        // What names nobody is no reason to trust everybody the machine knows.
        let unclear = Context {
            url: "https://x:7420".into(),
            ca: Some("5f0c".to_owned()),
            ..Context::default()
        };
        let refused = Client::new(&unclear, false).unwrap_err();
        assert_eq!(refused.exit, 2);
        assert!(
            refused.text.contains("ca of https://x:7420"),
            "{}",
            refused.text
        );
    }
}
