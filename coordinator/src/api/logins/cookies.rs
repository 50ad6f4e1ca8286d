//! The cookie of the console, and that a request by it comes from a page of its own.

use crate::config::Cookies;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Where a page says which value it was given.
const CSRF: HeaderName = HeaderName::from_static("x-longshore-csrf");
/// What browsers say about where a request was begun.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How the cookie is called. Browsers take the longer name only with the strictest attributes.
const fn name(cookies: &Cookies) -> &'static str {
    if cookies.secure && cookies.domain.is_empty() {
        "__Host-longshore"
    } else {
        "longshore"
    }
}

/// The token of a login that came as a cookie.
pub(in super::super) fn token(headers: &HeaderMap, logins: &super::Logins) -> Option<String> {
    let ways = logins.ways();
    let name = name(&ways.cookies);
    let lines = headers.get_all(header::COOKIE).iter();
    // Bytes: what something else on this host set may be no text, and must not hide ours.
    let mut values = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes()))
        .filter_map(|rest| rest.strip_prefix(b"="));
    let value = std::str::from_utf8(values.next()?).ok()?;
    Some(value.trim_matches('"').to_owned())
}

/// The header that gives a browser the token, for at most so many seconds; with none it takes
/// it away.
pub(super) fn set(cookies: &Cookies, token: &str, seconds: i64) -> Option<HeaderValue> {
    let seconds = seconds.clamp(0, i64::from(cookies.max_age_s));
    let mut text = format!("{}={token}; Path=/; Max-Age={seconds}", name(cookies));
    if !cookies.domain.is_empty() {
        text.push_str("; Domain=");
        text.push_str(&cookies.domain);
    }
    if cookies.httponly {
        text.push_str("; HttpOnly");
    }
    if cookies.secure {
        text.push_str("; Secure");
    }
    text.push_str(match cookies.same_site.as_str() {
        "strict" => "; SameSite=Strict",
        _ => "; SameSite=Lax",
    });
    HeaderValue::from_str(&text).ok()
}

/// Whether a request with an effect was begun by a page of the console at `origin`: it has the
/// value that only such a page could read, and the browser says where it comes from.
pub(in super::super) fn by_own_page(
    headers: &HeaderMap,
    origin: &str,
    is_good: impl FnOnce(&str) -> bool,
) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or(""));
    let begun_here = match text(&header::ORIGIN) {
        Some(from) => from == origin,
        None => text(&SITE) == Some("same-origin"),
    };
    begun_here && text(&CSRF).is_some_and(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn attributes_follow_the_settings() {
        let usual = Cookies::default();
        let text = set(&usual, "lss_x", 60).unwrap();
        assert_eq!(
            text,
            "__Host-longshore=lss_x; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax"
        );
        let wide = Cookies {
            domain: ".gpu.lab".to_owned(),
            max_age_s: 10,
            same_site: "strict".to_owned(),
            ..usual
        };
        assert_eq!(
            set(&wide, "t", 60).unwrap(),
            "longshore=t; Path=/; Max-Age=10; Domain=.gpu.lab; HttpOnly; Secure; SameSite=Strict"
        );
    }

    #[test]
    fn the_token_is_found_among_others() {
        let logins = super::super::Logins::default();
        let found = |line| token(&headers(&[("cookie", line)]), &logins);
        assert_eq!(
            found("a=b; __Host-longshore=lss_x").as_deref(),
            Some("lss_x")
        );
        assert_eq!(found("longshore=lss_x"), None);
        assert_eq!(found("x__Host-longshore=lss_x"), None);
        let line = HeaderValue::from_bytes(b"a=\xe4\xff; __Host-longshore=lss_x").unwrap();
        let beside = HeaderMap::from_iter([(header::COOKIE, line)]);
        assert_eq!(token(&beside, &logins).as_deref(), Some("lss_x"));
    }

    #[test]
    fn only_own_pages_have_effects() {
        let origin = "https://gpu01:7420";
        let own = |pairs: &[(&'static str, &str)]| {
            by_own_page(&headers(pairs), origin, |given| given == "v")
        };
        let csrf = ("x-longshore-csrf", "v");
        assert!(own(&[csrf, ("origin", origin)]));
        assert!(own(&[csrf, ("sec-fetch-site", "same-origin")]));
        assert!(!own(&[csrf]));
        assert!(!own(&[("origin", origin)]));
        assert!(!own(&[("x-longshore-csrf", "w"), ("origin", origin)]));
        assert!(!own(&[csrf, ("origin", "null")]));
        assert!(!own(&[
            csrf,
            ("origin", "null"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!own(&[csrf, ("sec-fetch-site", "same-site")]));
        assert!(!own(&[csrf, ("origin", "https://gpu01:7420.evil")]));
    }
}
