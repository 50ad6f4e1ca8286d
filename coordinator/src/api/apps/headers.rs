//! What of a request reaches an app, and what of its answer reaches a browser. Pure.
//!
//! An app is code of somebody: it sees no credential of ours, and nothing that a browser or a
//! proxy says about the way. It is talked to as if somebody on its own machine called it, the
//! same as through `forward`, so its own checks of names and origins hold.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

/// The cookie by which a browser reaches one app. The prefix makes browsers keep it to the one
/// host, encrypted.
pub(super) const COOKIE: &str = "__Host-longshore-app";
/// Cookies whose name begins like this are ours.
const OURS: [&str; 2] = ["__Host-longshore", "longshore"];

/// Why a request is none for an app, before anything is looked up.
pub(super) fn wrong(
    method: &Method,
    uri: &axum::http::Uri,
    version: Version,
    headers: &HeaderMap,
) -> Option<&'static str> {
    if method == Method::CONNECT {
        Some("CONNECT is not served here.")
    } else if version < Version::HTTP_2 && uri.authority().is_some() {
        Some("The target of a request here is a path.")
    } else if version < Version::HTTP_2 && headers.get_all(header::HOST).iter().count() != 1 {
        Some("A request has one Host.")
    } else {
        None
    }
}

/// Whether a request that changes something, or becomes a connection, was begun by a page of
/// the app itself, as far as the browser says.
pub(super) fn by_own_page(method: &Method, headers: &HeaderMap, host: &str) -> bool {
    let plain = method == Method::GET || method == Method::HEAD || method == Method::OPTIONS;
    if plain && !is_upgrade(headers) {
        return true;
    }
    let origin = headers.get_all(header::ORIGIN).iter();
    let own = format!("https://{host}");
    origin
        .map(HeaderValue::as_bytes)
        .all(|origin| origin == own.as_bytes())
}

/// Whether a browser fetches the script of a service worker: one that answers for every page of
/// its origin.
pub(super) fn is_service_worker(headers: &HeaderMap) -> bool {
    let says = |name: &str, word: &str| {
        let mut values = headers.get_all(name).iter();
        values.any(|value| value.as_bytes().eq_ignore_ascii_case(word.as_bytes()))
    };
    says("service-worker", "script") || says("sec-fetch-dest", "serviceworker")
}

/// Whether a person went to this address from our own pages or by hand, as far as the browser
/// says: a page of an app must not go there by itself with the login of who looks at it.
/// Programs and old browsers say nothing.
pub(super) fn by_a_person(headers: &HeaderMap) -> bool {
    let all = headers.keys();
    let mut all = all.filter(|name| name.as_str().starts_with("sec-fetch-"));
    let one_of = |name: &str, words: &[&str]| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().map(HeaderValue::as_bytes);
        values.next().is_none() && words.iter().any(|word| value == Some(word.as_bytes()))
    };
    all.next().is_none()
        || one_of("sec-fetch-mode", &["navigate"])
            && one_of("sec-fetch-dest", &["document"])
            && one_of("sec-fetch-site", &["same-origin", "none"])
}

/// Whether the connection is to become one of another protocol.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE) && listed(headers).any(|name| name == "upgrade")
}

/// Names that `Connection` lists, in small letters.
fn listed(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let lines = headers.get_all(header::CONNECTION).iter();
    let texts = lines.filter_map(|line| line.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
}

/// Headers that are about one connection only.
fn of_connection(name: &HeaderName, listed: &[String]) -> bool {
    let fixed = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    fixed.contains(&name.as_str()) || listed.iter().any(|one| one == name.as_str())
}

/// Headers that say who somebody is, or which way a request came.
fn of_the_way(name: &HeaderName) -> bool {
    let name = name.as_str();
    let fixed = [
        "authorization",
        "proxy-authorization",
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "via",
        "x-request-id",
    ];
    let begin = ["x-forwarded-", "x-longshore-", "longshore-"];
    fixed.contains(&name) || begin.iter().any(|begin| name.starts_with(begin))
}

/// The value of our cookie for an app; none unless there is exactly one.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let mut found = pairs(headers).filter_map(|pair| {
        let rest = pair.strip_prefix(COOKIE.as_bytes())?;
        rest.strip_prefix(b"=")
    });
    match (found.next(), found.next()) {
        (Some(value), None) => std::str::from_utf8(value).ok(),
        _ => None,
    }
}

/// Each cookie, as `name=value`. Bytes: an app may set one that is no text, beside ours.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
}

fn is_ours(cookie: &[u8]) -> bool {
    let name = cookie.split(|byte| *byte == b'=').next();
    let name = name.unwrap_or_default().trim_ascii();
    OURS.iter().any(|ours| {
        let begin = name.get(..ours.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(ours.as_bytes()))
    })
}

/// What reaches an app that listens on this port, of a request to `host`.
pub(super) fn request(from: &HeaderMap, host: &str, port: u16) -> HeaderMap {
    let listed: Vec<String> = listed(from).collect();
    let (outside, inside) = (
        format!("https://{host}"),
        format!("http://127.0.0.1:{port}"),
    );
    let mut to = HeaderMap::with_capacity(from.len());
    for (name, value) in from {
        let dropped = name == header::HOST || name == header::COOKIE;
        if dropped || of_connection(name, &listed) || of_the_way(name) {
            continue;
        }
        let own_page = name == header::ORIGIN || name == header::REFERER;
        match own_page.then(|| value.to_str().ok()).flatten() {
            Some(text) => {
                let moved = moved(text, &outside, &inside);
                if let Ok(value) = HeaderValue::from_str(moved.as_deref().unwrap_or(text)) {
                    to.append(name, value);
                }
            }
            None => drop(to.append(name, value.clone())),
        }
    }
    let kept: Vec<&[u8]> = pairs(from).filter(|pair| !is_ours(pair)).collect();
    if !kept.is_empty()
        && let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
    {
        to.insert(header::COOKIE, value);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("127.0.0.1:{port}")) {
        to.insert(header::HOST, value);
    }
    if is_upgrade(from) {
        upgraded(from, &mut to);
    }
    to
}

/// What reaches the browser of an app's answer.
pub(super) fn response(from: &HeaderMap, port: u16) -> HeaderMap {
    let listed: Vec<String> = listed(from).collect();
    let mut to = HeaderMap::with_capacity(from.len());
    for (name, value) in from {
        // How its name is reached is ours to say, for as long as the settings say it.
        let ours = name == header::STRICT_TRANSPORT_SECURITY;
        if ours || of_connection(name, &listed) {
            continue;
        }
        let text = value.to_str().ok();
        let value = match text {
            Some(text) if name == header::SET_COOKIE => match own_cookie(text) {
                Some(text) => HeaderValue::from_str(&text).ok(),
                None => None,
            },
            None if name == header::SET_COOKIE => None,
            Some(text) if name == header::LOCATION => {
                let here = ["127.0.0.1", "localhost"];
                let path = here.iter().find_map(|here| {
                    let inside = format!("http://{here}:{port}");
                    moved(text, &inside, "").map(|path| match path.as_str() {
                        "" => "/".to_owned(),
                        _ => path,
                    })
                });
                HeaderValue::from_str(path.as_deref().unwrap_or(text)).ok()
            }
            _ => Some(value.clone()),
        };
        if let Some(value) = value {
            to.append(name, value);
        }
    }
    to
}

/// The headers of an answer that makes the connection one of another protocol.
pub(super) fn switched(from: &HeaderMap, port: u16) -> HeaderMap {
    let mut to = response(from, port);
    upgraded(from, &mut to);
    to
}

fn upgraded(from: &HeaderMap, to: &mut HeaderMap) {
    if let Some(protocol) = from.get(header::UPGRADE) {
        to.insert(header::UPGRADE, protocol.clone());
        to.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// An address with another beginning, if it begins with that one.
fn moved(text: &str, from: &str, to: &str) -> Option<String> {
    let rest = text.strip_prefix(from)?;
    let ends = rest.is_empty() || rest.starts_with(['/', '?', '#']);
    ends.then(|| format!("{to}{rest}"))
}

/// A cookie that an app may set: none with a name like ours, and for its own host alone.
fn own_cookie(text: &str) -> Option<String> {
    if is_ours(text.as_bytes()) {
        return None;
    }
    let parts = text.split(';').enumerate();
    let kept = parts.filter(|(at, part)| {
        let name = part.split('=').next().unwrap_or("").trim();
        *at == 0 || !name.eq_ignore_ascii_case("domain")
    });
    let kept: Vec<&str> = kept.map(|(_, part)| part).collect();
    Some(kept.join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn lines(map: &HeaderMap) -> Vec<String> {
        let lines = map.iter();
        let lines = lines.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        lines
    }

    #[test]
    fn no_credential_and_nothing_of_the_way_reaches_an_app() {
        let from = headers(&[
            ("host", "gpu.lab:7422"),
            (
                "cookie",
                "__Host-longshore=lss_x; a=b; __host-Longshore-APP=y",
            ),
            ("cookie", "longshore=z; longshore-app=q; _xsrf=1"),
            ("authorization", "Bearer secret"),
            ("proxy-authorization", "Basic x"),
            ("x-longshore-csrf", "v"),
            ("longshore-on-behalf-of", "eve"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("origin", "https://gpu.lab:7422"),
            ("referer", "https://gpu.lab:7422/a?b"),
            ("accept", "text/html"),
        ]);
        let to = request(&from, "gpu.lab:7422", 8000);
        let wanted = [
            "accept: text/html",
            "cookie: a=b; _xsrf=1",
            "host: 127.0.0.1:8000",
            "origin: http://127.0.0.1:8000",
            "referer: http://127.0.0.1:8000/a?b",
        ];
        assert_eq!(lines(&to), wanted);
        // The origin of another page stays what it is.
        let foreign = headers(&[("origin", "https://gpu.lab:74222")]);
        let to = request(&foreign, "gpu.lab:7422", 80);
        assert_eq!(to[header::ORIGIN], "https://gpu.lab:74222");
    }

    #[test]
    fn a_websocket_stays_one() {
        let from = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "x"),
        ]);
        assert!(is_upgrade(&from));
        let to = request(&from, "h", 80);
        assert_eq!(
            (&to["connection"], &to["upgrade"]),
            (&to["connection"], &from["upgrade"])
        );
        assert_eq!(to["connection"], "upgrade");
        assert_eq!(to["sec-websocket-key"], "x");
        let answer = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(
            lines(&switched(&answer, 80)),
            ["connection: upgrade", "upgrade: websocket"]
        );
        assert!(!is_upgrade(&headers(&[("upgrade", "websocket")])));
    }

    #[test]
    fn an_app_sets_cookies_of_its_own_host_and_name_only() {
        let from = headers(&[
            ("set-cookie", "a=b; Path=/; Domain=.gpu.lab; HttpOnly"),
            ("set-cookie", "__Host-longshore=stolen; Path=/"),
            ("set-cookie", "LONGSHORE=stolen"),
            ("set-cookie", "domain=kept"),
            ("location", "http://127.0.0.1:8000/lab?x"),
            ("keep-alive", "timeout=5"),
            ("strict-transport-security", "max-age=63072000; preload"),
        ]);
        let wanted = [
            "location: /lab?x",
            "set-cookie: a=b; Path=/; HttpOnly",
            "set-cookie: domain=kept",
        ];
        assert_eq!(lines(&response(&from, 8000)), wanted);
        let to = |text| response(&headers(&[("location", text)]), 80)["location"].clone();
        assert_eq!(to("http://localhost:80"), "/");
        assert_eq!(to("http://localhost:8080/"), "http://localhost:8080/");
        assert_eq!(to("https://example.org/"), "https://example.org/");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let host = ("host", "h");
        let one = headers(&[host]);
        let is = |method, uri: &'static str, headers: &HeaderMap| {
            let uri = axum::http::Uri::from_static(uri);
            wrong(&method, &uri, Version::HTTP_11, headers).is_some()
        };
        assert!(!is(Method::GET, "/a", &one));
        assert!(is(Method::CONNECT, "h:80", &one));
        assert!(is(Method::GET, "http://h/a", &one));
        assert!(is(Method::GET, "/a", &headers(&[])));
        assert!(is(Method::GET, "/a", &headers(&[host, host])));
    }

    #[test]
    fn changes_and_connections_are_begun_by_pages_of_the_app() {
        let own = headers(&[("origin", "https://h:1")]);
        let other = headers(&[("origin", "https://h:2")]);
        assert!(by_own_page(&Method::POST, &own, "h:1"));
        assert!(!by_own_page(&Method::POST, &other, "h:1"));
        assert!(by_own_page(&Method::GET, &other, "h:1"));
        let socket = headers(&[
            ("origin", "https://h:2"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
        ]);
        assert!(!by_own_page(&Method::GET, &socket, "h:1"));
        assert!(!by_own_page(
            &Method::POST,
            &headers(&[("origin", "null")]),
            "h:1"
        ));
    }

    #[test]
    fn a_cookie_that_is_no_text_hides_no_other() {
        let mut from = headers(&[("host", "h")]);
        let line = b"a=\xe4; __Host-longshore-app=x; b=\xff\xfe; c=d";
        from.insert("cookie", HeaderValue::from_bytes(line).unwrap());
        assert_eq!(cookie(&from), Some("x"));
        let to = request(&from, "h", 80);
        assert_eq!(to[header::COOKIE].as_bytes(), b"a=\xe4; b=\xff\xfe; c=d");
    }

    #[test]
    fn only_a_person_is_sent_on() {
        let is = |mode, dest, site| {
            by_a_person(&headers(&[
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
                ("sec-fetch-site", site),
            ]))
        };
        assert!(is("navigate", "document", "same-origin"));
        assert!(is("navigate", "document", "none"));
        assert!(by_a_person(&headers(&[("accept", "*/*")])), "a program");
        assert!(!is("navigate", "document", "same-site"));
        assert!(!is("navigate", "document", "cross-site"));
        assert!(!is("navigate", "iframe", "same-origin"));
        assert!(!is("no-cors", "empty", "same-site"));
        assert!(!is("cors", "empty", "same-origin"));
        assert!(!by_a_person(&headers(&[("sec-fetch-mode", "navigate")])));
    }

    #[test]
    fn scripts_of_service_workers_are_known() {
        assert!(is_service_worker(&headers(&[("service-worker", "script")])));
        let dest = |word| is_service_worker(&headers(&[("sec-fetch-dest", word)]));
        assert!(dest("serviceworker"));
        assert!(!dest("script") && !dest("worker"));
    }

    #[test]
    fn our_cookie_is_found_only_where_there_is_one() {
        let found = |lines: &[(&'static str, &str)]| cookie(&headers(lines)).map(str::to_owned);
        assert_eq!(
            found(&[("cookie", "a=b; __Host-longshore-app=x")]).as_deref(),
            Some("x")
        );
        let twice = "__Host-longshore-app=x; __Host-longshore-app=y";
        assert_eq!(found(&[("cookie", twice)]), None);
        assert_eq!(found(&[("cookie", "x__Host-longshore-app=x")]), None);
    }
}
