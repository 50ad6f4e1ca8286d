//! `hold`, `release`, `restart`, `edit`: how a session waits and runs.

use super::prolong::{post, tell};
use crate::app::App;
use crate::ask::confirm_if;
use crate::client::typed;
use crate::error::Failure;
use crate::output::clean;
use crate::values::{self, Instant, SessionRef, SessionRefs};
use longshore_common::api::{Session, SessionPatch};
use longshore_common::time::Timestamp;
use serde_json::json;

/// Sessions of one's own.
#[derive(Debug, clap::Args)]
pub(crate) struct Sessions {
    /// The sessions: s-42, 42, s-42.3-9, a name, @ for the latest
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<SessionRefs>,
}

/// Flags of `edit`.
#[derive(Debug, clap::Args)]
pub(crate) struct EditArgs {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
    /// What is to be different: priority=20, start_at=+2h
    #[arg(long, required = true, value_name = "KEY=VALUE", value_parser = values::pair)]
    pub(crate) set: Vec<(String, String)>,
}

/// Holds sessions back, or lets them go.
pub(crate) async fn hold(app: &App, args: Sessions, held: bool) -> Result<u8, Failure> {
    let (verb, is) = match held {
        true => ("hold", "held back"),
        false => ("release", "released"),
    };
    for id in &values::each(&args.ids) {
        let item = post(app, id, verb, &json!({})).await?;
        tell(app, &item, || told(&typed(item.clone())?, is))?;
    }
    Ok(0)
}

/// Runs it anew.
pub(crate) async fn restart(app: &App, args: super::show::OneSession) -> Result<u8, Failure> {
    if !app.global.dry_run {
        let lost = "What it wrote outside mounted folders is gone after a restart.";
        confirm_if(app, lost, &[], false)?;
    }
    let item = post(app, &args.id, "restart", &json!({})).await?;
    tell(app, &item, || told(&typed(item.clone())?, "restarts"))
}

/// Changes how it waits.
pub(crate) async fn edit(app: &App, args: EditArgs) -> Result<u8, Failure> {
    let patch = patch(&args.set, crate::clock::now())?;
    let client = app.client()?;
    let path = client.session_path(&args.id).await?;
    let rehearsed = if app.global.dry_run {
        "?dry_run=true"
    } else {
        ""
    };
    let session: Session = client.get_as(&path).await?;
    let item = client
        .patch(&format!("{path}{rehearsed}"), session.version, &patch)
        .await?;
    tell(app, &item, || told(&typed(item.clone())?, "changed"))
}

fn patch(set: &[(String, String)], now: Timestamp) -> Result<SessionPatch, Failure> {
    let mut patch = SessionPatch::default();
    for (key, value) in set {
        let bad = |why: String| Failure::usage(format!("--set {key}: {why}"));
        match key.as_str() {
            "priority" => {
                let priority = value
                    .parse()
                    .map_err(|_| bad(format!("{value} is no number")))?;
                patch.priority = Some(priority);
            }
            "start_at" => {
                let at: Instant = values::instant(value).map_err(bad)?;
                patch.start_at = Some(at.since(now));
            }
            "name" => patch.name = Some(value.clone()),
            _ => return Err(bad("priority, start_at and name can be set".to_owned())),
        }
    }
    Ok(patch)
}

fn told(session: &Session, is: &str) -> Result<String, Failure> {
    let state = session.state.to_lowercase();
    Ok(format!("{}  {is}; {state}", clean(&session.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set() {
        let set = |key: &str, value: &str| patch(&[(key.into(), value.into())], Timestamp(1000));
        assert_eq!(set("priority", "20").unwrap().priority, Some(20));
        assert_eq!(
            set("start_at", "+1h").unwrap().start_at,
            Some(Timestamp(3_601_000))
        );
        for (key, value) in [("priority", "high"), ("start_at", "soon"), ("image", "x")] {
            assert!(set(key, value).is_err(), "{key}");
        }
    }
}
