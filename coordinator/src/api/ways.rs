//! The way on which a request came: by which name, whether encrypted, and what proxies in front
//! say of it.
//!
//! What a proxy says counts from `daemon.trusted_proxies` alone. `X-Forwarded-For`, `-Proto` and
//! `-Host` are read with the same eyes: of several values that one holds that the outermost
//! trusted proxy wrote; what stands left of it anybody may have written.

use super::areas::Area;
use super::errors::{Failure, cut};
use super::{App, REQUEST_ID, errors_path, listener, request_id};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::net::Ipv6Addr;

const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";
/// What a client that asked in the clear is told to speak.
const UPGRADE_TO: HeaderValue = HeaderValue::from_static("TLS/1.2");

/// How a connection came in, as its listener says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// The part whose addresses it came to; none = apps.
    pub area: Option<Area>,
    /// Whether it is encrypted.
    pub tls: bool,
}

/// The name by which a request asks, in small letters, without port.
#[derive(Debug, Clone)]
struct Named(Option<String>);

/// The name in a `Host`: in small letters, without port, brackets and a dot at its end. None for
/// what no name or address looks like.
fn name_of(host: &str) -> Option<String> {
    let (name, rest) = match host.strip_prefix('[') {
        Some(inside) => {
            let (inside, rest) = inside.split_once(']')?;
            (inside.parse::<Ipv6Addr>().ok()?.to_string(), rest)
        }
        None => {
            let (name, rest) = host.split_at(host.find(':').unwrap_or(host.len()));
            let name = name.strip_suffix('.').unwrap_or(name);
            let good = |part: &str| {
                let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                !part.is_empty() && part.bytes().all(good)
            };
            let is_name = name.len() <= 253 && name.split('.').all(good);
            (is_name.then(|| name.to_ascii_lowercase())?, rest)
        }
    };
    let port = match rest {
        "" | ":" => true,
        rest => rest.strip_prefix(':').is_some_and(|port| {
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
        }),
    };
    port.then_some(name)
}

/// Whether a `Host` that [`name_of`] understands says a port.
fn has_port(host: &str) -> bool {
    let behind = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    behind.contains(':')
}

/// Whether the host that a proxy says, of the name `asked`, stands in the place of a `Host` of the
/// name `own`. Some proxies hand the Host on as it came, and write this one without its port:
/// pages of apps are known by both.
fn replaces(own: Option<&str>, asked: &str, host: &str) -> bool {
    own != Some(asked) || has_port(host)
}

/// What a request says itself of the name it asks by.
///
/// # Errors
/// Why that is not to be understood. `strict`: a request of HTTP/1.1 without one is not.
fn host_of(request: &Request, strict: bool) -> Result<Option<String>, &'static str> {
    let mut lines = request.headers().get_all(header::HOST).iter();
    let written = lines.next();
    if lines.next().is_some() {
        return Err("A request has one Host.");
    }
    let text = written.map(|value| value.to_str().unwrap_or(" "));
    let host = match (request.uri().authority(), text) {
        (Some(authority), Some(text))
            if request.version() >= Version::HTTP_2
                && !authority.as_str().eq_ignore_ascii_case(text) =>
        {
            return Err("Host says another name than :authority.");
        }
        (Some(authority), _) => Some(authority.as_str()),
        (None, text) => text,
    };
    match host {
        None if strict && request.version() == Version::HTTP_11 => {
            Err("A request of HTTP/1.1 has a Host.")
        }
        None => Ok(None),
        Some(host) => match name_of(host) {
            Some(name) => Ok(Some(name)),
            None => Err("The Host is no name or address with or without a port."),
        },
    }
}

/// Of several values in the order in which they were written, that of the outermost trusted
/// proxy: `trusted` ones stand between it and us. Where there are too few for that, some of them
/// replace what they got, and the last one was written by the one in front of us.
fn of_outermost<'a>(headers: &'a HeaderMap, name: &str, trusted: usize) -> Option<&'a str> {
    let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let values: Vec<&[u8]> = lines.flat_map(|line| line.split(|b| *b == b',')).collect();
    let last = values.len().checked_sub(1)?;
    let at = last.checked_sub(trusted).unwrap_or(last);
    let value = values.get(at)?.trim_ascii();
    Some(std::str::from_utf8(value).unwrap_or(""))
}

/// Whether nobody on the way could read a request. `proto` is what a trusted proxy says.
fn is_private(tls: bool, trusted: bool, proto: Option<&str>, loopback: bool) -> bool {
    let encrypted = |proto: &str| {
        ["https", "wss"]
            .iter()
            .any(|p| p.eq_ignore_ascii_case(proto))
    };
    match (trusted, proto) {
        (true, Some(proto)) => encrypted(proto),
        (true, None) => true,
        (false, _) => tls || loopback,
    }
}

/// What is known of a request's way.
struct Way {
    name: Option<String>,
    /// What stands in the place of its `Host`, as a proxy says.
    forwarded: Option<HeaderValue>,
    private: bool,
}

fn way_of(app: &App, request: &Request) -> Result<Way, &'static str> {
    let extensions = request.extensions();
    let arrived = extensions.get::<Arrived>();
    let name = host_of(request, arrived.is_some())?;
    let peer = extensions.get::<listener::Peer>().map(|peer| peer.0.ip());
    let hops = peer.and_then(|peer| app.rates.hops(peer, request.headers()));
    let tls = arrived.is_none_or(|arrived| arrived.tls);
    let loopback = peer.is_some_and(|peer| peer.to_canonical().is_loopback());
    let said = |name: &str| of_outermost(request.headers(), name, hops?);
    let private = is_private(tls, hops.is_some(), said(PROTO), loopback);
    let Some(host) = said(HOST) else {
        return Ok(Way {
            name,
            forwarded: None,
            private,
        });
    };
    let wrong = "The X-Forwarded-Host is no name or address with or without a port.";
    let asked = name_of(host).ok_or(wrong)?;
    let replaces = replaces(name.as_deref(), &asked, host);
    let forwarded = HeaderValue::from_str(host).map_err(|_| wrong)?;
    Ok(Way {
        name: Some(asked),
        forwarded: replaces.then_some(forwarded),
        private,
    })
}

/// An answer that is given before anything else of the API has seen the request.
fn failed(app: &App, request: &Request, failure: &Failure) -> Response {
    let id = request_id(request);
    let response = failure.response(&app.address(), &errors_path(request.uri().path()), &id);
    once(response, &id)
}

/// The same for this one request: nobody keeps it, and it is found again by its id.
fn once(mut response: Response, id: &str) -> Response {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Where a request that came in the clear is to be repeated.
fn encrypted(app: &App, request: &Request, name: Option<&str>) -> String {
    let own = name.and_then(|name| app.areas.named(name));
    let area = own.or(Area::of(request.uri().path())).unwrap_or(Area::App);
    let arrived = request.extensions().get::<Arrived>();
    let apart = arrived.is_some_and(|arrived| arrived.area.is_none());
    let base = app.browsers.origin_of(name, apart);
    let base = base.unwrap_or_else(|| app.areas.address(area, &app.address()));
    let rest = request.uri().path_and_query();
    format!("{base}{}", rest.map_or("/", |rest| rest.as_str()))
}

/// What a request in the clear is answered with: who only reads is sent where it is encrypted.
fn in_the_clear(app: &App, request: &Request, name: Option<&str>) -> Response {
    let to = encrypted(app, request, name);
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    if let (true, Ok(to)) = (reads, HeaderValue::from_str(&to)) {
        let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
        response.headers_mut().insert(header::LOCATION, to);
        // Browsers keep this kind for ever, and the settings may change.
        return once(response, &request_id(request));
    }
    let failure = Failure::new("LS-TLS", "This request came without encryption.")
        .hint(format!("Send it to {}.", cut(&to)));
    let mut response = failed(app, request, &failure);
    if request.version() < Version::HTTP_2 {
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, UPGRADE_TO);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    response
}

/// Before everything else: the name, what proxies say, and that nobody listens on the way.
pub(super) async fn enter(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let way = match way_of(&app, &request) {
        Ok(way) => way,
        Err(why) => return failed(&app, &request, &Failure::new("LS-HEADER", why)),
    };
    // A balancer looks at the health of what is behind it, and no secret is told there.
    let health = matches!(request.uri().path(), "/healthz" | "/readyz");
    if !way.private && !health {
        return in_the_clear(&app, &request, way.name.as_deref());
    }
    if let Some(host) = way.forwarded {
        request.headers_mut().insert(header::HOST, host);
    }
    request.extensions_mut().insert(Named(way.name));
    let mut response = next.run(request).await;
    if way.private {
        say_hsts(response.headers_mut(), app.areas.hsts_s());
    }
    response
}

/// For how many seconds a browser shall use TLS only, once: of two browsers take the first.
fn say_hsts(headers: &mut HeaderMap, seconds: u32) {
    let text = HeaderValue::from_str(&format!("max-age={seconds}"));
    if let (true, Ok(text)) = (seconds > 0, text) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, text);
    }
}

/// Serves a part only by its name and at its addresses.
pub(super) async fn to_its_part(State(app): State<App>, request: Request, next: Next) -> Response {
    let at = request.extensions().get::<Arrived>();
    let at = at.and_then(|arrived| arrived.area);
    let name = request.extensions().get::<Named>();
    let name = name.and_then(|named| named.0.as_deref());
    match Area::of(request.uri().path()) {
        Some(area) if !app.areas.serves(at, name, area) => {
            let verb = if area == Area::Files { "are" } else { "is" };
            let called = area.called();
            let here = name.unwrap_or("this address");
            let text = format!("{called} {verb} not served at {}.", cut(here));
            let to = app.areas.address(area, &app.address());
            let failure = Failure::new("LS-HOST", text);
            failure
                .hint(format!("{called} {verb} at {to}."))
                .into_response()
        }
        Some(Area::Files) => {
            let mut response = next.run(request).await;
            // Content of somebody is never shown as a page of ours, whatever its answer says.
            let headers = response.headers_mut();
            let sandbox = HeaderValue::from_static("sandbox");
            headers.insert(header::CONTENT_SECURITY_POLICY, sandbox);
            let attachment = HeaderValue::from_static("attachment");
            headers
                .entry(header::CONTENT_DISPOSITION)
                .or_insert(attachment);
            response
        }
        _ => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn names_are_read_without_port_case_and_last_dot() {
        for (host, name) in [
            ("gpu.lab", "gpu.lab"),
            ("GPU.Lab:7420", "gpu.lab"),
            ("gpu.lab.", "gpu.lab"),
            ("gpu.lab.:443", "gpu.lab"),
            ("gpu.lab:", "gpu.lab"),
            ("10.0.0.1:7420", "10.0.0.1"),
            ("[::1]", "::1"),
            ("[2001:DB8::0:1]:7420", "2001:db8::1"),
            ("my_host", "my_host"),
        ] {
            assert_eq!(name_of(host).as_deref(), Some(name), "{host}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.b..",
            "::1",
            "[::1",
            "[::1]x",
            "[gpu.lab]",
            "a:b",
            "a:99999",
            "a:-1",
            "a:+1",
            "a b",
            "a/b",
            "u@a",
            "a,b",
            "ä.lab",
            "a\0",
        ] {
            assert_eq!(name_of(bad), None, "{bad}");
        }
        assert_eq!(name_of(&"a".repeat(254)), None);
    }

    #[test]
    fn a_port_stands_behind_the_name() {
        for with in ["a.lab:1", "[::1]:1", "a:"] {
            assert!(has_port(with), "{with}");
        }
        for without in ["a.lab", "[::1]", ""] {
            assert!(!has_port(without), "{without}");
        }
        assert!(!replaces(Some("a.lab"), "a.lab", "A.lab"));
        assert!(replaces(Some("a.lab"), "a.lab", "a.lab:443"));
        assert!(replaces(Some("inside"), "a.lab", "a.lab"));
        assert!(replaces(None, "a.lab", "a.lab"));
    }

    fn request(version: Version, uri: &str, hosts: &[&str]) -> Request {
        let builder = axum::http::Request::builder().version(version).uri(uri);
        let builder = hosts
            .iter()
            .fold(builder, |b, host| b.header("host", *host));
        builder.body(Body::empty()).unwrap()
    }

    #[test]
    fn a_request_asks_by_one_name() {
        let one = Version::HTTP_11;
        let name = |version, uri, hosts: &[&str]| host_of(&request(version, uri, hosts), true);
        assert_eq!(name(one, "/", &["A.lab:1"]), Ok(Some("a.lab".to_owned())));
        assert!(name(one, "/", &[]).is_err());
        assert!(name(one, "/", &["a", "a"]).is_err());
        assert!(name(one, "/", &[""]).is_err());
        assert_eq!(name(Version::HTTP_10, "/", &[]), Ok(None));
        // The target holds where it has a name itself.
        assert_eq!(
            name(one, "https://b.lab/", &["a.lab"]),
            Ok(Some("b.lab".to_owned()))
        );
        assert!(name(one, "https://u@b.lab/", &["b.lab"]).is_err());
        let two = Version::HTTP_2;
        assert_eq!(
            name(two, "https://B.lab:1/", &[]),
            Ok(Some("b.lab".to_owned()))
        );
        assert_eq!(
            name(two, "https://b.lab/", &["B.lab"]),
            Ok(Some("b.lab".to_owned()))
        );
        assert!(name(two, "https://b.lab/", &["a.lab"]).is_err());
    }

    #[test]
    fn of_several_values_that_of_the_outermost_trusted_proxy_holds() {
        let mut headers = HeaderMap::new();
        assert_eq!(of_outermost(&headers, PROTO, 0), None);
        headers.append(PROTO, HeaderValue::from_static("forged, https"));
        headers.append(PROTO, HeaderValue::from_static(" http"));
        assert_eq!(of_outermost(&headers, PROTO, 0), Some("http"));
        assert_eq!(of_outermost(&headers, PROTO, 1), Some("https"));
        // What is no text hides no other value.
        let line = HeaderValue::from_bytes(b"\xff, https, http").unwrap();
        headers.insert(PROTO, line);
        assert_eq!(of_outermost(&headers, PROTO, 1), Some("https"));
        assert_eq!(of_outermost(&headers, PROTO, 2), Some(""));
        let line = HeaderValue::from_static("forged, https");
        headers.insert(PROTO, line);
        assert_eq!(of_outermost(&headers, PROTO, 2), Some("https"));
        // Proxies that replace it leave one, however many there are.
        headers.insert(PROTO, HeaderValue::from_static("https"));
        assert_eq!(of_outermost(&headers, PROTO, 3), Some("https"));
    }

    #[test]
    fn browsers_hear_once_for_how_long_to_use_tls() {
        let mut headers = HeaderMap::new();
        say_hsts(&mut headers, 0);
        assert!(headers.is_empty());
        for seconds in [1, 600] {
            say_hsts(&mut headers, seconds);
        }
        let all = headers.get_all(header::STRICT_TRANSPORT_SECURITY).iter();
        assert_eq!(all.collect::<Vec<_>>(), ["max-age=600"]);
    }

    #[test]
    fn strangers_do_not_say_that_a_request_was_encrypted() {
        for (tls, trusted, proto, loopback, private) in [
            (true, false, None, false, true),
            (true, false, Some("http"), false, true),
            (true, true, Some("http"), false, false),
            (false, true, Some("HTTPS"), false, true),
            (false, true, Some("wss"), false, true),
            (false, true, Some("http"), true, false),
            (false, true, Some("garbage"), false, false),
            (false, true, None, false, true),
            (false, false, Some("https"), false, false),
            (false, false, None, true, true),
        ] {
            let found = is_private(tls, trusted, proto, loopback);
            assert_eq!(found, private, "{tls} {trusted} {proto:?} {loopback}");
        }
    }
}
