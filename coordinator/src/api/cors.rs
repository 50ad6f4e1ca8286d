//! Which pages of other origins may read answers (CORS), and open WebSockets.
//!
//! An origin is compared exactly; a match is echoed, everything else gets no header at all.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// What pages may send.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// Headers that pages may send.
const REQUESTED: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, if-match, if-none-match, idempotency-key, x-request-id, x-longshore-csrf, longshore-on-behalf-of, last-event-id",
);
/// Headers of answers that pages may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "ETag, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Window, X-Request-Id",
);

/// `daemon.cors`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cors {
    /// `scheme://host[:port]`, or `*` alone.
    pub origins: Vec<String>,
    /// Whether cookies and logins of pages count.
    pub credentials: bool,
    /// The console's own origin, where the API is of another one: its cookies count.
    pub own: Option<String>,
    /// How long a browser may keep the answer to a preflight, in seconds.
    pub max_age_s: i64,
}

impl Cors {
    /// Whether pages of an origin may.
    #[must_use]
    pub fn admits(&self, origin: &str) -> bool {
        if self.own.as_deref() == Some(origin) {
            return true;
        }
        origin != "null"
            && self
                .origins
                .iter()
                .any(|one| one == origin || one == "*" && !self.credentials)
    }

    fn origin_of<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        origin
            .to_str()
            .is_ok_and(|text| self.admits(text))
            .then_some(origin)
    }

    /// The answer to a preflight; none when it is not one of an origin that may.
    #[must_use]
    pub fn preflight(&self, request: &Request) -> Option<Response> {
        let asks = request.method() == Method::OPTIONS
            && request
                .headers()
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let origin = self.origin_of(request.headers()).filter(|_| asks)?.clone();
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUESTED);
        if let Ok(age) = HeaderValue::from_str(&self.max_age_s.to_string()) {
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, age);
        }
        self.mark(headers, origin);
        Some(response)
    }

    /// Whether a WebSocket may be opened. A program has no origin; a page has, and browsers ask
    /// nobody before they open one. They send the cookie along whatever page it is: `by_cookie`
    /// says that nothing else speaks for the caller, and then it has to be a page of the console,
    /// or of an origin whose pages may use cookies.
    #[must_use]
    pub fn may_open(&self, headers: &HeaderMap, own: &str, by_cookie: bool) -> bool {
        match headers.get(header::ORIGIN).map(HeaderValue::to_str) {
            None => !by_cookie,
            Some(Ok(origin)) => {
                let console = origin == own || self.own.as_deref() == Some(origin);
                console || self.admits(origin) && (self.credentials || !by_cookie)
            }
            Some(Err(_)) => false,
        }
    }

    /// The origin of a request to which its answer is shown.
    #[must_use]
    pub fn shown_to(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        self.origin_of(headers).cloned()
    }

    /// Lets pages of an origin read an answer.
    pub fn mark(&self, headers: &mut HeaderMap, origin: HeaderValue) {
        let own = self.own.as_deref().map(str::as_bytes) == Some(origin.as_bytes());
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if self.credentials || own {
            const CREDENTIALS: HeaderName = header::ACCESS_CONTROL_ALLOW_CREDENTIALS;
            headers.insert(CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// Whether a text is an origin: scheme, host and port, and nothing else.
#[must_use]
pub fn is_origin(text: &str) -> bool {
    let url = url::Url::parse(text);
    url.is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors {
            origins: origins.iter().map(|o| (*o).to_owned()).collect(),
            credentials,
            own: None,
            max_age_s: 600,
        }
    }

    #[test]
    fn origins_are_compared_exactly() {
        let one = cors(&["https://a.lab"], true);
        assert!(one.admits("https://a.lab"));
        for other in [
            "https://a.lab:8443",
            "http://a.lab",
            "https://a.lab.evil",
            "https://A.lab",
            "null",
            "",
        ] {
            assert!(!one.admits(other), "{other}");
        }
        assert!(cors(&["*"], false).admits("https://any"));
        assert!(!cors(&["*"], false).admits("null"));
        assert!(is_origin("https://a.lab:8443"));
        for text in ["https://a.lab/", "https://a.lab:443", "a.lab", "null", "*"] {
            assert!(!is_origin(text), "{text}");
        }
    }

    #[test]
    fn the_console_apart_is_shown_answers_with_its_cookies() {
        let own = "https://app.gpu.lab";
        let one = Cors {
            own: Some(own.to_owned()),
            ..cors(&["https://a.lab"], false)
        };
        let credentials = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            one.mark(&mut headers, HeaderValue::from_static(origin));
            headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS)
        };
        assert!(one.admits(own) && one.admits("https://a.lab"));
        assert!(!one.admits("https://app.gpu.lab:7420") && !one.admits("null"));
        assert!(credentials(own));
        assert!(!credentials("https://a.lab"));
    }

    #[test]
    fn websockets_of_strange_pages_are_refused() {
        let own = "https://own:7420";
        let opens = |cors: &Cors, origin: Option<&str>, by_cookie: bool| {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            cors.may_open(&headers, own, by_cookie)
        };
        let apart = Cors {
            own: Some("https://app.lab".to_owned()),
            ..cors(&["https://a.lab"], false)
        };
        let with_cookies = cors(&["https://a.lab"], true);
        let any = cors(&["*"], false);
        for (cors, origin, by_key, by_cookie) in [
            (&any, None, true, false),
            (&any, Some(own), true, true),
            (&any, Some("https://evil"), true, false),
            (&any, Some("null"), false, false),
            (&apart, Some("https://app.lab"), true, true),
            (&apart, Some("https://a.lab"), true, false),
            (&apart, Some("https://evil"), false, false),
            (&with_cookies, Some("https://a.lab"), true, true),
            (&with_cookies, Some("https://evil"), false, false),
        ] {
            let told = (opens(cors, origin, false), opens(cors, origin, true));
            assert_eq!(told, (by_key, by_cookie), "{origin:?} {cors:?}");
        }
    }
}
