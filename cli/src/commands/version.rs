//! `version`: of this program and of the coordinator.

use crate::app::App;
use crate::client::{Call, typed};
use crate::error::Failure;
use crate::output::{self, clean};
use longshore_common::api::Version;
use reqwest::Method;
use serde_json::json;

/// Shows both; without a coordinator its own.
pub(crate) async fn run(app: &App) -> Result<u8, Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let there = match app.client() {
        Ok(client) => client
            .call(Call::new(Method::GET, "/version"))
            .await
            .map(|value| (client, value)),
        Err(failure) => Err(failure),
    };
    if app.output().is_json() {
        let mut value = json!({"client": own});
        if let Ok((_, coordinator)) = &there {
            value["coordinator"] = coordinator.clone();
        }
        app.output().value(&value)?;
        return Ok(0);
    }
    output::print(&format!("longshore    {own}\n"))?;
    match there {
        Ok((client, value)) => {
            let version: Version = typed(value)?;
            output::print(&format!(
                "coordinator  {}  API {}, agent protocol {}, {}, cluster {}\n",
                clean(&version.version),
                clean(&version.api),
                version.agent_protocol,
                client.address(),
                clean(&version.cluster)
            ))?;
        }
        Err(failure) => {
            let why = failure
                .why
                .first()
                .map(|why| format!(" ({why})"))
                .unwrap_or_default();
            eprintln!("coordinator  {}{}", clean(&failure.text), clean(&why));
        }
    }
    Ok(0)
}
