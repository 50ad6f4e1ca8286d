//! Bodies and parameters, read strictly: what is not understood is refused by name.

use super::errors::{Failure, cut, nearest};
use super::listener::Bounds;
use axum::body::{Body, HttpBody};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Request, header};
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};
use longshore_common::amount::format_bytes_short;
use longshore_common::api::MemberError;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes that are read of a body that is not taken, for each that might have been. JSON may say a
/// character in twelve: what holds no more characters than a member may have hears the answer.
const DISCARDED: usize = 4;
/// Longest query.
const MAX_QUERY: usize = 8 * 1024;
/// Most terms of a query.
const MAX_TERMS: usize = 50;
/// Most elements of one list or members of one object.
const MAX_ELEMENTS: usize = 10_000;
/// How long a body may pause.
const BODY_IDLE: Duration = Duration::from_secs(30);
/// How long a body may take that nobody wants.
const DISCARDING: Duration = Duration::from_secs(5);

/// A body that was read, and the bytes it was made from.
#[derive(Debug)]
pub(super) struct Read<T> {
    /// The value.
    pub(super) value: T,
    /// As it came.
    pub(super) bytes: Bytes,
}

/// Reads a JSON body. An absent one counts as `{}`.
///
/// # Errors
/// 413, 415, 400 or 422, with everything that is wrong.
pub(super) async fn json<T: DeserializeOwned>(request: Request<Body>) -> Result<Read<T>, Failure> {
    let (headers, bytes) = body(request).await?;
    let value = if bytes.is_empty() {
        parse(b"{}")?
    } else {
        let known = ["application/json", "application/merge-patch+json"];
        media_type(&headers, &known)?;
        parse(&bytes)?
    };
    Ok(Read { value, bytes })
}

/// Reads a table. What stands in it is the caller's to look at.
///
/// # Errors
/// 413, 415 or 400.
pub(super) async fn csv(request: Request<Body>) -> Result<Bytes, Failure> {
    let (headers, bytes) = body(request).await?;
    media_type(&headers, &["text/csv"])?;
    Ok(bytes)
}

async fn body(request: Request<Body>) -> Result<(HeaderMap, Bytes), Failure> {
    let (parts, body) = request.into_parts();
    let bytes = whole(&parts, body).await?;
    Ok((parts.headers, bytes))
}

/// What the configuration says of a request.
fn bounds(extensions: &Extensions) -> Bounds {
    extensions.get().copied().unwrap_or_default()
}

/// Reads a body of bounded length.
///
/// # Errors
/// LS-TOO-LARGE, LS-TIMEOUT, LS-SYNTAX where it broke off.
pub(super) async fn whole(parts: &Parts, body: Body) -> Result<Bytes, Failure> {
    let bounds = bounds(&parts.extensions);
    let read = pieces(&parts.headers, body, bounds.max_body);
    let read = tokio::time::timeout(bounds.body, read);
    read.await.unwrap_or_else(|_| Err(too_slow()))
}

fn too_slow() -> Failure {
    Failure::new("LS-TIMEOUT", "The body did not come in time.")
}

async fn pieces(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Failure> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|n| n > most as u64) {
        return Err(too_large(most));
    }
    let mut stream = body.into_data_stream();
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        match tokio::time::timeout(BODY_IDLE, stream.next()).await {
            Err(_) => return Err(too_slow()),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Failure::new("LS-SYNTAX", "The body broke off.")),
            Ok(Some(Ok(chunk))) => {
                if bytes.len() + chunk.len() > most {
                    return Err(too_large(most));
                }
                bytes.extend_from_slice(&chunk);
            }
        }
    }
    Ok(Bytes::from(bytes))
}

/// What a handler left of a body.
#[derive(Debug)]
pub(super) struct Unread(Option<(Shared, usize)>);

/// A body that two have: whoever handles the request, and then whoever answers it.
#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Body>>);

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.size_hint()
    }
}

/// The request, and what will be left of its body.
pub(super) fn watched(request: Request<Body>) -> (Request<Body>, Unread) {
    if request.body().is_end_stream() {
        return (request, Unread(None));
    }
    let (parts, body) = request.into_parts();
    let most = bounds(&parts.extensions).max_body;
    let shared = Shared(Arc::new(Mutex::new(body)));
    let request = Request::from_parts(parts, Body::new(shared.clone()));
    (request, Unread(Some((shared, most))))
}

impl Unread {
    /// Reads on, some way beyond what could be accepted: a connection that is closed while
    /// its client still writes takes the answer with it.
    pub(super) async fn discard(self) {
        let Some((shared, most)) = self.0 else { return };
        let read = async {
            let mut stream = Body::new(shared).into_data_stream();
            let mut left = DISCARDED * most;
            while let Some(Ok(chunk)) = stream.next().await {
                let Some(rest) = left.checked_sub(chunk.len()) else {
                    return;
                };
                left = rest;
            }
        };
        let _ = tokio::time::timeout(DISCARDING, read).await; // who writes slowly hears nothing
    }
}

fn too_large(most: usize) -> Failure {
    let most = format_bytes_short(i64::try_from(most).unwrap_or(i64::MAX));
    Failure::new("LS-TOO-LARGE", format!("The body has more than {most}."))
}

fn media_type(headers: &HeaderMap, known: &[&str]) -> Result<(), Failure> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Failure::new(
            "LS-MEDIA-TYPE",
            "A body must come without Content-Encoding.",
        ));
    }
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or("");
    let charset_ok = parts.all(|p| {
        p.split_once('=').is_none_or(|(name, value)| {
            !name.eq_ignore_ascii_case("charset")
                || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    });
    if known.iter().any(|known| known.eq_ignore_ascii_case(kind)) && charset_ok {
        Ok(())
    } else {
        let given = if text.is_empty() {
            "no media type".to_owned()
        } else {
            format!("\"{}\"", cut(text))
        };
        Err(Failure::new(
            "LS-MEDIA-TYPE",
            format!("The body comes with {given}; it must be {}.", known[0]),
        ))
    }
}

/// Reads JSON bytes strictly into a shape.
///
/// # Errors
/// LS-SYNTAX, LS-UNKNOWN-FIELD or LS-INVALID.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| syntax(&error))?;
    if !value.is_object() {
        return Err(
            Failure::new("LS-INVALID", "The body must be a JSON object.")
                .at("", "An object is wanted."),
        );
    }
    T::deserialize(&value).map_err(|error| shape::<T>(&value, &error))
}

fn syntax(error: &serde_json::Error) -> Failure {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    Failure::new(
        "LS-SYNTAX",
        format!(
            "The body is not valid JSON: {} at line {}, column {}.",
            what,
            error.line(),
            error.column()
        ),
    )
}

/// Any JSON, but no member twice, no NUL in a text, and nothing endless.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.visit_string(text.to_owned())
    }
    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Value, E> {
        if text.contains('\0') {
            return Err(E::custom("a text holds the character NUL"));
        }
        Ok(Value::String(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element_seed(Self)? {
            if list.len() >= MAX_ELEMENTS {
                return Err(serde::de::Error::custom(
                    "a list has more than 10,000 elements",
                ));
            }
            list.push(item);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key.contains('\0') {
                return Err(serde::de::Error::custom("a name holds the character NUL"));
            }
            if object.len() >= MAX_ELEMENTS {
                return Err(serde::de::Error::custom(
                    "an object has more than 10,000 members",
                ));
            }
            if object.contains_key(&key) {
                return Err(serde::de::Error::custom(format_args!(
                    "member \"{}\" is given twice",
                    cut(&key)
                )));
            }
            let value = map.next_value_seed(Self)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// Valid JSON that is not of the wanted shape: finds every member that is not, by trying
/// each alone.
fn shape<T: DeserializeOwned>(value: &Value, error: &serde_json::Error) -> Failure {
    let mut unknown: Vec<(String, String)> = Vec::new();
    let mut errors: Vec<MemberError> = Vec::new();
    for (key, member) in value.as_object().into_iter().flatten() {
        let at = pointer("", key);
        let parts: Vec<(String, Value)> = match member {
            Value::Object(inner) if !inner.is_empty() => inner
                .iter()
                .map(|(name, v)| {
                    (
                        pointer(&at, name),
                        Value::Object(Map::from_iter([(name.clone(), v.clone())])),
                    )
                })
                .collect(),
            other => vec![(at.clone(), other.clone())],
        };
        let whole = try_alone::<T>(key, member.clone());
        let Some(text) = whole else { continue };
        if let Some((_, known)) = unknown_field(&text) {
            unknown.push((key.clone(), known));
            continue;
        }
        let before = errors.len();
        for (pointer, part) in parts {
            if let Some(text) = try_alone::<T>(key, part) {
                errors.push(MemberError {
                    pointer,
                    message: sentence(&text),
                    ..MemberError::default()
                });
            }
        }
        if errors.len() == before {
            errors.push(MemberError {
                pointer: at,
                message: sentence(&text),
                ..MemberError::default()
            });
        }
    }
    if let Some((name, known)) = unknown.first() {
        let words: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let near = nearest(name, words.iter().copied());
        let mut failure = Failure::new(
            "LS-UNKNOWN-FIELD",
            match near {
                Some(near) => format!(
                    "There is no member \"{}\"; did you mean \"{near}\"?",
                    cut(name)
                ),
                None => format!("There is no member \"{}\".", cut(name)),
            },
        );
        for (name, _) in &unknown {
            failure = failure.at(pointer("", name), "No such member.");
        }
        return failure.hint(format!("Known members: {}.", words.join(", ")));
    }
    let text = error.to_string();
    if let Some(name) = text
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next())
    {
        errors.push(MemberError {
            pointer: pointer("", name),
            message: format!("{name} is required."),
            ..MemberError::default()
        });
    }
    if errors.is_empty() {
        errors.push(MemberError {
            pointer: String::new(),
            message: sentence(&text),
            ..MemberError::default()
        });
    }
    errors.truncate(100);
    let detail = match errors.as_slice() {
        [one] => format!("{}: {}", one.pointer.trim_start_matches('/'), one.message),
        many => format!("{} members of the request are not valid.", many.len()),
    };
    let mut failure = Failure::new("LS-INVALID", detail);
    failure.errors = errors;
    failure
}

/// What is wrong with one member, if anything is.
fn try_alone<T: DeserializeOwned>(key: &str, member: Value) -> Option<String> {
    let object = Value::Object(Map::from_iter([(key.to_owned(), member)]));
    let text = T::deserialize(&object).err()?.to_string();
    (!text.starts_with("missing field")).then_some(text)
}

fn unknown_field(text: &str) -> Option<(&str, String)> {
    let rest = text.strip_prefix("unknown field `")?;
    let (name, rest) = rest.split_once('`')?;
    Some((name, rest.to_owned()))
}

/// serde's words as a sentence of ours.
fn sentence(text: &str) -> String {
    let text: String = text.chars().take(300).collect();
    match text
        .strip_prefix("invalid type: ")
        .and_then(|rest| rest.split_once(", expected "))
    {
        Some((_, wanted)) => {
            let wanted = match wanted {
                "a string" => "text in quotes",
                "a boolean" => "true or false",
                "i64" | "u64" | "u32" => "a whole number",
                "a sequence" => "a list",
                "a map" => "an object",
                other => other,
            };
            format!("Must be {wanted}.")
        }
        None => {
            let mut text = text;
            if !text.ends_with('.') {
                text.push('.');
            }
            text
        }
    }
}

fn pointer(above: &str, name: &str) -> String {
    format!(
        "{above}/{}",
        cut(name).replace('~', "~0").replace('/', "~1")
    )
}

/// The variable part of a path: an id or a name.
#[derive(Debug)]
pub(super) struct Ref(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Ref {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        path.map(|text| Self(text.0))
            .map_err(|_| Failure::not_found("such object"))
    }
}

/// The parameters of a request, each value still text.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query; every parameter must be one of `known`.
    ///
    /// # Errors
    /// LS-PARAMETER with the nearest known one, LS-TOO-LARGE.
    pub(super) fn read(query: Option<&str>, known: &[&str]) -> Result<Self, Failure> {
        let read = Self::any(query)?;
        match read
            .0
            .iter()
            .find(|(name, _)| !known.contains(&name.as_str()))
        {
            Some((name, _)) => Err(unknown_parameter(name, known)),
            None => Ok(read),
        }
    }

    /// Reads a query of which only some parameters are looked at.
    ///
    /// # Errors
    /// LS-PARAMETER where it is not well written, LS-TOO-LARGE.
    pub(super) fn any(query: Option<&str>) -> Result<Self, Failure> {
        let query = query.unwrap_or("");
        if query.len() > MAX_QUERY {
            return Err(Failure::new(
                "LS-TOO-LARGE",
                "The query has more than 8 KiB.",
            ));
        }
        let mut terms = Vec::new();
        for term in query.split('&').filter(|t| !t.is_empty()) {
            let (name, value) = term.split_once('=').unwrap_or((term, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            terms.push((name, value));
            if terms.len() > MAX_TERMS {
                return Err(Failure::new(
                    "LS-PARAMETER",
                    "The query has more than 50 terms.",
                ));
            }
        }
        Ok(Self(terms))
    }

    /// Every value of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The value of a parameter that may stand there once.
    ///
    /// # Errors
    /// LS-PARAMETER if it stands there twice.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Failure> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            Some(_) => Err(Failure::new(
                "LS-PARAMETER",
                format!("{name} may be given once only."),
            )),
            None => Ok(first),
        }
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// LS-PARAMETER.
    pub(super) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Failure> {
        let Some(text) = self.one(name)? else {
            return Ok(None);
        };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(n) if digits && range.contains(&n) => Ok(Some(n)),
            _ if *range.end() == u64::MAX => Err(Failure::new(
                "LS-PARAMETER",
                format!("{name} must be a whole number, at least {}.", range.start()),
            )),
            _ => Err(Failure::new(
                "LS-PARAMETER",
                format!(
                    "{name} must be a whole number from {} to {}.",
                    range.start(),
                    range.end()
                ),
            )),
        }
    }

    /// `true`, `1`, `false`, `0`, or nothing behind the name, which is true.
    ///
    /// # Errors
    /// LS-PARAMETER.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.one(name)? {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(_) => Err(Failure::new(
                "LS-PARAMETER",
                format!("{name} must be true or false."),
            )),
        }
    }

    /// Every value of a parameter, read as words.
    ///
    /// # Errors
    /// LS-PARAMETER with the known words.
    pub(super) fn words<T: std::str::FromStr<Err = E>, E: fmt::Display>(
        &self,
        name: &str,
    ) -> Result<Vec<T>, Failure> {
        self.all(name)
            .map(|text| {
                text.parse()
                    .map_err(|error| Failure::new("LS-PARAMETER", format!("{name}: {error}.")))
            })
            .collect()
    }

    /// Checks that every value of a parameter is one of its words, in any case of letters:
    /// another one would find nothing, and nobody would know why.
    ///
    /// # Errors
    /// LS-PARAMETER with the known words.
    pub(super) fn only(&self, name: &str, words: &[&str]) -> Result<(), Failure> {
        let is_word = |text: &str| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        if self.all(name).all(is_word) {
            return Ok(());
        }
        let known = match words {
            [] => String::new(),
            [one] => (*one).to_owned(),
            [first @ .., last] => format!("{} or {last}", first.join(", ")),
        };
        let text = format!("{name} must be {known}.");
        Err(Failure::new("LS-PARAMETER", text))
    }

    /// Names and values in a fixed order, without those that choose the page.
    #[must_use]
    pub(super) fn fingerprint(&self) -> String {
        let mut terms: Vec<String> = self
            .0
            .iter()
            .filter(|(name, _)| name != "cursor" && name != "limit")
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        terms.sort();
        terms.join("\u{1}")
    }
}

/// Refuses an address that holds credentials: addresses are written to logs on their way.
///
/// # Errors
/// LS-CREDENTIALS-IN-URL.
pub(super) fn no_credentials(query: Option<&str>) -> Result<(), Failure> {
    const SECRET: [&str; 6] = [
        "access_key",
        "secret_key",
        "secret",
        "token",
        "password",
        "authorization",
    ];
    for term in query.unwrap_or("").split('&').take(MAX_TERMS) {
        let name = term.split_once('=').map_or(term, |(name, _)| name);
        if SECRET.iter().any(|s| s.eq_ignore_ascii_case(name)) {
            return Err(Failure::new(
                "LS-CREDENTIALS-IN-URL",
                "Credentials must not stand in an address; send them in the Authorization header.",
            ));
        }
    }
    Ok(())
}

fn unknown_parameter(name: &str, known: &[&str]) -> Failure {
    if let Err(failure) = no_credentials(Some(name)) {
        return failure;
    }
    let failure = Failure::new(
        "LS-PARAMETER",
        match nearest(name, known.iter().copied()) {
            Some(near) => format!(
                "There is no parameter \"{}\"; did you mean \"{near}\"?",
                cut(name)
            ),
            None => format!("There is no parameter \"{}\".", cut(name)),
        },
    );
    match known {
        [] => failure.hint("This route has no parameters."),
        _ => failure.hint(format!("Known parameters: {}.", known.join(", "))),
    }
}

/// `%41` and `+` of a query.
pub(super) fn decode(text: &str) -> Result<String, Failure> {
    let wrong = || {
        Failure::new(
            "LS-PARAMETER",
            "The query is not well written: % must be followed by two hexadecimal digits of UTF-8.",
        )
    };
    let hex = |b: u8| char::from(b).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = rest.next().and_then(hex).zip(rest.next().and_then(hex));
                let (high, low) = digits.ok_or_else(wrong)?;
                u8::try_from(high * 16 + low).map_err(|_| wrong())?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::api::{NewSession, SetupRequest};

    fn code<T: DeserializeOwned + fmt::Debug>(text: &str) -> (&'static str, String, Vec<String>) {
        let failure = parse::<T>(text.as_bytes()).unwrap_err();
        (
            failure.code,
            failure.detail,
            failure.errors.into_iter().map(|e| e.pointer).collect(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_ends_after_a_minute() {
        let started = tokio::time::Instant::now();
        let byte = async |()| {
            tokio::time::sleep(BODY_IDLE / 2).await; // of virtual time
            Some((
                Ok::<_, std::convert::Infallible>(Bytes::from_static(b" ")),
                (),
            ))
        };
        let body = Body::from_stream(futures_util::stream::unfold((), byte));
        let (parts, ()) = Request::new(()).into_parts();
        let failure = whole(&parts, body).await.unwrap_err();
        assert_eq!(failure.code, "LS-TIMEOUT");
        assert_eq!(started.elapsed(), Bounds::default().body);
    }

    #[test]
    fn json_is_read_strictly() {
        for bad in [
            "",
            "{",
            "{}{}",
            "\u{feff}{}",
            "{\"name\":\"a\",\"name\":\"b\"}",
            "{\"slots\":{\"cpu\":\"1\",\"cpu\":\"2\"}}",
            "{\"labels\":{\"a\":\"\\u0000\"}}",
            "{\"name\":\"\\ud800\"}",
            "{\"priority\":1e999}",
        ] {
            assert_eq!(code::<NewSession>(bad).0, "LS-SYNTAX", "{bad}");
        }
        let (_, detail, _) = code::<NewSession>("{\n \"slots\": {\"cpu\":\"1\",\n\"cpu\":\"2\"}}");
        assert!(
            detail.contains("\"cpu\" is given twice at line 3"),
            "{detail}"
        );
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert_eq!(
            code::<NewSession>(&format!("{{\"command\":{deep}}}")).0,
            "LS-SYNTAX"
        );
        assert_eq!(code::<NewSession>("[]").0, "LS-INVALID");
    }

    #[test]
    fn every_bad_member_is_named() {
        let (code_, detail, _) = code::<NewSession>("{\"commnd\":[\"a\"],\"name\":\"x\"}");
        assert_eq!(code_, "LS-UNKNOWN-FIELD");
        assert!(detail.contains("did you mean \"command\""), "{detail}");
        let (code_, _, at) = code::<NewSession>(
            "{\"slots\":{\"cpu\":4,\"mem\":\"1g\",\"a/b\":1},\"priority\":\"x\",\"name\":\"ok\"}",
        );
        assert_eq!(code_, "LS-INVALID");
        assert_eq!(at, ["/priority", "/slots/a~1b", "/slots/cpu"]);
        let (code_, _, at) = code::<SetupRequest>("{\"token\":5}");
        assert_eq!((code_, at), ("LS-INVALID", vec!["/token".to_owned()]));
        let (_, _, at) = code::<SetupRequest>("{\"token\":\"x\"}");
        assert_eq!(at, ["/email"]);
    }

    #[test]
    fn queries() {
        let query = Query::read(
            Some("state=RUNNING&state=pending&name=a%20b"),
            &["state", "name"],
        )
        .unwrap();
        assert_eq!(query.all("state").count(), 2);
        assert_eq!(query.one("name").unwrap(), Some("a b"));
        assert!(query.one("state").is_err());
        let failure = Query::read(Some("stat=1"), &["state"]).unwrap_err();
        assert!(failure.detail.contains("did you mean \"state\""));
        assert_eq!(
            Query::read(Some("secret_key=1"), &[]).unwrap_err().code,
            "LS-CREDENTIALS-IN-URL"
        );
        for bad in ["name=%4", "name=%zz", "name=%ff"] {
            assert!(Query::read(Some(bad), &["name"]).is_err(), "{bad}");
        }
    }
}
