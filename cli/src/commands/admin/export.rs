//! `admin export` and `admin usage-audit`.

use super::{Write, send};
use crate::app::App;
use crate::client::{encode, typed};
use crate::error::Failure;
use crate::output::{Table, clean, write_bytes};
use longshore_common::admin::UsageAuditView;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::PathBuf;

/// Flags of `export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// users, keypairs, keypair-policies, user-policies, project-policies, sessions or usage
    pub(crate) kind: String,
    /// Write there instead of to standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

/// Flags of `usage-audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    /// Close the claims of containers that are confirmed gone
    #[arg(long)]
    pub(crate) apply: bool,
}

/// Writes the table.
pub(crate) async fn run(app: &App, args: Export) -> Result<u8, Failure> {
    let mut path = format!("/exports/{}", encode(&args.kind));
    // The table is the coordinator's; its columns have the names of members.
    if !app.global.columns.is_empty() {
        let columns = app.global.columns.join(",");
        path.push_str(&format!("?columns={}", encode(&columns)));
    }
    let Some(file) = args.to else {
        return download(app, &path).await;
    };
    let mut stream = app.client()?.stream(&path).await?;
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", file.display()));
    let mut out = std::fs::File::create(&file).map_err(failed)?;
    loop {
        match stream.next().await {
            Ok(Some(bytes)) => out.write_all(&bytes).map_err(failed)?,
            Ok(None) => return Ok(0),
            Err(failure) => {
                return Err(failure.why(format!("{} holds a part only", file.display())));
            }
        }
    }
}

/// Writes a table to standard output as it comes; the path begins behind `/api/v1`.
pub(crate) async fn download(app: &App, path: &str) -> Result<u8, Failure> {
    let mut stream = app.client()?.stream(path).await?;
    while let Some(bytes) = stream.next().await? {
        write_bytes(&bytes)?;
    }
    Ok(0)
}

/// Compares books and nodes; normally there is nothing to show.
pub(crate) async fn audit(app: &App, args: Audit) -> Result<u8, Failure> {
    let client = app.client()?;
    let body = json!({ "apply": args.apply });
    let what = match args.apply {
        true => "claims of containers that are confirmed gone are closed",
        false => "books and nodes are compared",
    };
    let write = Write::new(Method::POST, "/usage-audit", what).body(&body);
    let answer = send(app, &client, write).await?;
    let view: UsageAuditView = typed(answer.clone())?;
    let items: Vec<Value> = answer["drifts"].as_array().cloned().unwrap_or_default();
    if app.output().is_json() {
        app.output().value(&answer)?;
        return Ok(0);
    }
    if !items.is_empty() {
        let mut table = Table::new(&[
            "AGENT",
            "SLOT",
            "DEVICE",
            "BOOKED",
            "REPORTED",
            "DIFFERENCE",
            "SESSIONS",
        ]);
        for drift in &view.drifts {
            table.row(vec![
                drift.agent.clone(),
                drift.slot.clone(),
                drift.device.clone().unwrap_or_default(),
                drift.booked.clone(),
                drift.reported.clone(),
                drift.difference.clone(),
                drift.sessions.join(", "),
            ]);
        }
        app.output().table(&table)?;
    }
    if !app.global.quiet {
        if items.is_empty() {
            eprintln!("books and nodes agree");
        }
        if !view.not_checked.is_empty() {
            eprintln!(
                "not connected, so not checked: {}",
                clean(&view.not_checked.join(", "))
            );
        }
        if !view.closed.is_empty() {
            let word = if args.apply {
                "closed"
            } else {
                "to close with --apply"
            };
            eprintln!("claims {word}: {}", clean(&view.closed.join(", ")));
        }
    }
    Ok(0)
}
