//! The OpenAPI 3.1 document, made from the table of operations and the shapes.

use super::areas::Area;
use super::operations::{Gives, Holds, OPERATIONS, Operation, Verb};
use super::{errors, replays};
use longshore_common::api::{LogRecord, Problem};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

type Schemas = BTreeMap<String, Value>;

/// The document.
///
/// # Panics
/// When two shapes share a name: that is a fault of the program and found by its tests.
#[must_use]
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut extra = vec![
        (Problem::name().into_owned(), Problem::schema()),
        (LogRecord::name().into_owned(), LogRecord::schema()),
    ];
    Problem::schemas(&mut extra);
    take(&mut schemas, extra);
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for operation in OPERATIONS {
        let described = describe(operation, &mut schemas);
        // The document has no word for a part with slashes in it.
        let path = operation.path.replace("{*", "{");
        let item = paths.entry(path).or_default();
        item.insert(operation.method.as_str().to_ascii_lowercase(), described);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Longshore",
            "description": "The HTTP API of a Longshore coordinator. Enums are open: new values may come, and a client shows one it does not know as text. Inside v1 things are only added.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "ACCESS.SECRET of a keypair" },
                "basic": { "type": "http", "scheme": "basic", "description": "access key and secret of a keypair" },
            },
        },
    })
}

fn take(schemas: &mut Schemas, found: Vec<(String, RefOr<Schema>)>) {
    for (name, schema) in found {
        let mut value = serde_json::to_value(schema).unwrap_or_default();
        without_null(&mut value);
        close(&mut value);
        if let Some(known) = schemas.insert(name.clone(), value.clone()) {
            assert!(known == value, "two shapes are named {name}");
        }
    }
}

/// Answers never hold null: what is absent is absent, and optional members say so by not
/// being required.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(kinds)) = map.get_mut("type") {
                kinds.retain(|k| k != "null");
                if let [one] = kinds.as_slice() {
                    let one = one.clone();
                    map.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(mut choices)) = map.remove("oneOf") {
                choices.retain(|c| c.get("type").and_then(Value::as_str) != Some("null"));
                match choices.as_slice() {
                    [Value::Object(only)] => map.extend(only.clone()),
                    _ => drop(map.insert("oneOf".to_owned(), Value::Array(choices))),
                }
            }
            for inner in map.values_mut() {
                without_null(inner);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(without_null),
        _ => (),
    }
}

/// Texts, lists and numbers get the bounds the server has, where a shape gives none.
fn close(value: &mut Value) {
    let Value::Object(map) = value else {
        if let Value::Array(list) = value {
            list.iter_mut().for_each(close);
        }
        return;
    };
    let bounds: &[(&str, i64)] = match map.get("type").and_then(Value::as_str) {
        Some("string") if !map.contains_key("format") => &[("maxLength", 1 << 20)],
        Some("array") => &[("maxItems", 100_000)],
        Some("integer") => match map.get("format").and_then(Value::as_str) {
            Some("int32") if map.contains_key("minimum") => &[("maximum", 4_294_967_295)],
            Some("int32") => &[("minimum", -2_147_483_648), ("maximum", 2_147_483_647)],
            _ => &[("minimum", -(1 << 53)), ("maximum", 1 << 53)],
        },
        _ => &[],
    };
    for (name, bound) in bounds {
        map.entry(*name).or_insert(json!(bound));
    }
    for inner in map.values_mut() {
        close(inner);
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn describe(operation: &Operation, schemas: &mut Schemas) -> Value {
    let resource = operation.row.map_or("", |row| row.noun());
    let mut parameters: Vec<Value> = Vec::new();
    for name in path_parameters(operation.path) {
        parameters.push(json!({
            "name": name, "in": "path", "required": true,
            "description": match name {
                "code" => "The code.",
                "rest" => "Where in the app; may hold slashes.",
                _ => "Its id, or its name.",
            },
            "schema": { "type": "string", "minLength": 1, "maxLength": 256 },
        }));
    }
    for parameter in operation.parameters {
        // Where an order is good without it, nobody is told that it is missing.
        let required =
            parameter.name == "If-Match" && operation.codes.contains(&"LS-VERSION-MISSING");
        parameters.push(json!({
            "name": parameter.name,
            "in": if parameter.header { "header" } else { "query" },
            "required": required,
            "description": parameter.what,
            "schema": holds(parameter.holds),
        }));
    }
    if replays::takes_key(operation) {
        parameters.push(json!({
            "name": replays::KEY, "in": "header", "required": false,
            "description": "A request that is repeated with its key within a day is carried out once.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" },
        }));
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [resource],
        "x-longshore-operation": operation.does(),
        "parameters": parameters,
        "responses": responses(operation, schemas),
        "security": match operation.is_open() {
            true => json!([]),
            false => json!([{ "bearer": [] }, { "basic": [] }]),
        },
    });
    if let Some(shape) = operation.takes {
        let (name, found) = shape();
        take(schemas, found);
        let media = if operation.method == Verb::Patch {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let optional = name == "TerminateRequest" && operation.path.contains('{');
        described["requestBody"] =
            json!({ "required": !optional, "content": { media: { "schema": reference(&name) } } });
    }
    if let Some(media) = operation.takes_text {
        // What is no text has a bound of its own, which a schema of text cannot say.
        let schema = match media.starts_with("text/") {
            true => json!({ "type": "string", "maxLength": 1 << 20 }),
            false => json!({ "type": "string", "format": "binary" }),
        };
        described["requestBody"] =
            json!({ "required": true, "content": { media: { "schema": schema } } });
    }
    described
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*'))
}

fn holds(holds: Holds) -> Value {
    match holds {
        Holds::Text => json!({ "type": "string", "maxLength": 1024 }),
        Holds::Texts => {
            json!({ "type": "array", "maxItems": 20, "items": { "type": "string", "maxLength": 64 } })
        }
        Holds::Number(low, u64::MAX) => {
            json!({ "type": "integer", "format": "int64", "minimum": low, "maximum": 1_i64 << 53 })
        }
        Holds::Number(low, high) => {
            json!({ "type": "integer", "format": "int64", "minimum": low, "maximum": high })
        }
        Holds::Flag => json!({ "type": "boolean" }),
    }
}

fn responses(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    let headers = json!({
        "X-Request-Id": { "schema": { "type": "string", "maxLength": 64 } },
        "Longshore-Version": { "schema": { "type": "string", "maxLength": 64 } },
    });
    let mut good = json!({ "description": operation.summary, "headers": headers });
    let content = match operation.gives {
        Gives::Json(shape) => {
            let (name, found) = shape();
            take(schemas, found);
            Some(json!({ "application/json": { "schema": reference(&name) } }))
        }
        Gives::Page(shape) => {
            let (name, found) = shape();
            take(schemas, found);
            let page = format!("{name}Page");
            schemas.insert(page.clone(), json!({
                "type": "object",
                "description": "A page of a list.",
                "required": ["items"],
                "properties": {
                    "items": { "type": "array", "maxItems": 500, "items": reference(&name) },
                    "next_cursor": { "type": "string", "maxLength": 1024,
                        "description": "Pass it as cursor for the next page; absent on the last one." },
                },
            }));
            Some(json!({ "application/json": { "schema": reference(&page) } }))
        }
        Gives::Plain(media) => Some(json!({ media: { "schema": { "type": "string" } } })),
        Gives::Object => Some(json!({ "application/json": { "schema": { "type": "object" } } })),
        Gives::Nothing => None,
    };
    if let Some(content) = content {
        good["content"] = content;
    }
    responses.insert(operation.status.to_string(), good);
    if operation
        .parameters
        .iter()
        .any(|p| p.name == "If-None-Match")
    {
        responses.insert(
            "304".to_owned(),
            json!({ "description": "The version is the one that is known." }),
        );
    }
    let mut by_status: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    for code in codes(operation) {
        let row = errors::find(code);
        by_status.entry(row.status).or_default().insert(row.code);
    }
    for (status, codes) in by_status {
        let codes: Vec<&str> = codes.into_iter().collect();
        responses.insert(
            status.to_string(),
            json!({
                "description": codes.join(", "),
                "content": { "application/problem+json": { "schema": reference("Problem") } },
            }),
        );
    }
    // Said by the connection itself, which reads no further.
    responses.insert(
        "431".to_owned(),
        json!({ "description": "The address and the headers are too long." }),
    );
    if operation.path == "/readyz" {
        responses.insert(
            "503".to_owned(),
            json!({
                "description": "Not ready; the checks say why.",
                "content": { "application/json": { "schema": reference("Readiness") } },
            }),
        );
    }
    json!(responses)
}

/// Every code an operation can answer with.
fn codes(operation: &Operation) -> BTreeSet<&'static str> {
    let mut codes = BTreeSet::from(["LS-INTERNAL", "LS-HEADER"]);
    if operation.path != "/healthz" && operation.path != "/readyz" {
        codes.insert("LS-TLS");
    }
    if Area::of(operation.path).is_some() {
        codes.insert("LS-HOST");
    }
    codes.extend(operation.codes);
    if !operation.is_open() {
        codes.extend([
            "LS-AUTH-REQUIRED",
            "LS-RATE-LIMIT",
            "LS-FORBIDDEN",
            "LS-AUTH-FAILED",
            "LS-KEYPAIR-INACTIVE",
            "LS-KEYPAIR-EXPIRED",
            "LS-USER-INACTIVE",
            "LS-USER-UNVERIFIED",
            "LS-DOMAIN-INACTIVE",
            "LS-SETUP-REQUIRED",
            "LS-BUSY",
            "LS-STARTING",
        ]);
        codes.extend(["LS-PARAMETER", "LS-CREDENTIALS-IN-URL", "LS-TOO-LARGE"]);
    }
    if operation.takes.is_some() || operation.takes_text.is_some() {
        codes.extend([
            "LS-SYNTAX",
            "LS-INVALID",
            "LS-UNKNOWN-FIELD",
            "LS-MEDIA-TYPE",
            "LS-TIMEOUT",
            "LS-TOO-LARGE",
        ]);
    }
    if replays::takes_key(operation) {
        codes.extend(["LS-INVALID", "LS-IDEMPOTENCY-BODY", "LS-IDEMPOTENCY-BUSY"]);
        if replays::lasts(operation) {
            codes.insert("LS-IDEMPOTENCY-LOST");
        }
        codes.extend(["LS-SYNTAX", "LS-TIMEOUT"]); // its body is read, wanted or not
    }
    if operation.method != Verb::Get {
        codes.extend(["LS-AUDIT", "LS-DISK-LOW", "LS-BUSY"]);
    }
    codes
}
