//! `api`: any request to the API.

use crate::app::App;
use crate::client::{Call, encode, random_key};
use crate::error::Failure;
use crate::output;
use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde_json::{Map, Value};

/// Flags of `api`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// GET, POST, PATCH, PUT or DELETE
    pub(crate) method: String,
    /// The path; /api/v1 may be left out
    pub(crate) path: String,
    /// FIELD=VALUE as text, FIELD:=JSON otherwise: parameters of GET and DELETE, members of the body of others
    pub(crate) fields: Vec<String>,
    /// Only if the object still has this version; * for any
    #[arg(long, value_name = "VERSION")]
    pub(crate) if_match: Option<String>,
    /// The whole body as JSON; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "fields")]
    pub(crate) input: Option<std::path::PathBuf>,
}

/// Sends it and prints the answer.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let method: Method = args
        .method
        .to_uppercase()
        .parse()
        .map_err(|_| Failure::usage(format!("\"{}\" is not a method", args.method)))?;
    let client = app.client()?;
    let mut path = full_path(&args.path);
    let mut body = None;
    if method == Method::GET || method == Method::DELETE {
        for field in &args.fields {
            let (name, value) = crate::values::pair(field).map_err(Failure::usage)?;
            let sign = if path.contains('?') { '&' } else { '?' };
            path.push_str(&format!("{sign}{}={}", encode(&name), encode(&value)));
        }
    } else if let Some(input) = &args.input {
        let text = if input.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(input)
        };
        let text = text.map_err(|error| Failure::usage(format!("{}: {error}", input.display())))?;
        body = Some(
            serde_json::from_str(&text)
                .map_err(|error| Failure::usage(format!("{}: {error}", input.display())))?,
        );
    } else {
        body = Some(members(&args.fields)?);
    }
    let key = random_key()?;
    let is_post = method == Method::POST;
    let mut call = Call::new(method, &path);
    if let Some(body) = body {
        call = call.body(body);
    }
    if is_post {
        call = call.once(&key);
    }
    if let Some(version) = &args.if_match {
        let value = if version == "*" {
            version.clone()
        } else {
            format!("\"{}\"", version.trim_matches('"'))
        };
        call = call.header(IF_MATCH, &value);
    }
    let bytes = client.call_bytes(call).await?;
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(value) => app.output().value(&value)?,
        // Plain bytes, such as the output of a session.
        Err(_) => output::write_bytes(&bytes)?,
    }
    Ok(0)
}

fn full_path(path: &str) -> String {
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let root = [
        "/api/", "/healthz", "/readyz", "/version", "/ca.pem", "/help/", "/files/",
    ];
    if root.iter().any(|prefix| path.starts_with(prefix)) {
        path
    } else {
        format!("/api/v1{path}")
    }
}

fn members(fields: &[String]) -> Result<Value, Failure> {
    let mut members = Map::new();
    for field in fields {
        let (name, value) = crate::values::pair(field).map_err(Failure::usage)?;
        match name.strip_suffix(':') {
            Some(name) => {
                let value = serde_json::from_str(&value)
                    .map_err(|error| Failure::usage(format!("{name}: {error}")))?;
                members.insert(name.to_owned(), value);
            }
            None => {
                members.insert(name, Value::String(value));
            }
        }
    }
    Ok(Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_and_members() {
        assert_eq!(full_path("sessions"), "/api/v1/sessions");
        assert_eq!(full_path("/api/v1/me"), "/api/v1/me");
        assert_eq!(full_path("/readyz"), "/readyz");
        let fields = ["a=1".to_owned(), "b:=true".to_owned(), "c=x=y".to_owned()];
        assert_eq!(
            members(&fields).unwrap(),
            json!({"a": "1", "b": true, "c": "x=y"})
        );
        assert!(members(&["b:=tru".to_owned()]).is_err());
    }
}
