//! `key …`: keypairs of one's own; those of others are for `admin key`.

use super::admin::key::{self as all, Filters, KEYPAIR, Rotate, Settings};
use super::admin::{edit, ls};
use crate::app::App;
use crate::error::{Failure, code};
use crate::output::clean;
use serde_json::{Value, json};

/// What can be done with them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them, active ones if nothing is said
    Ls(Filters),
    /// Make a further one; its secret is shown once
    Create(Settings),
    /// Give one a label
    Label {
        /// Access key
        key: String,
        /// For people; "" takes it away
        label: String,
    },
    /// Give one a new secret, shown once
    Rotate(Rotate),
    /// Switch one off; an administrator can switch it on again
    Deactivate {
        /// Access key
        key: String,
    },
    /// Make one open nothing ever again
    Revoke {
        /// Access key
        key: String,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls(filters) => {
            let me = app.client()?.get("/me").await?;
            let user = me["username"].as_str().map(str::to_owned);
            return ls(app, &KEYPAIR, &filters.query(user.as_ref())).await;
        }
        Verb::Create(settings) => all::create(app, &settings.body()).await?,
        Verb::Label { key, label } => {
            own(app, &key, "label").await?;
            return edit(app, &KEYPAIR, &key, Some(json!({ "label": label }))).await;
        }
        Verb::Rotate(order) => {
            own(app, &order.key, "rotate").await?;
            all::rotate(app, order).await?;
        }
        Verb::Deactivate { key } => {
            own(app, &key, "deactivate").await?;
            all::act(app, &key, "deactivate").await?;
        }
        Verb::Revoke { key } => {
            own(app, &key, "revoke").await?;
            all::act(app, &key, "revoke").await?;
        }
    }
    Ok(0)
}

/// Refuses keypairs of others: an administrator who means one says so.
async fn own(app: &App, key: &str, verb: &str) -> Result<(), Failure> {
    let client = app.client()?;
    let (me, present) = (
        client.get("/me").await?,
        client.get(&KEYPAIR.of(key)).await?,
    );
    match others(&me, &present, key, verb) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// What is said of a keypair that is somebody else's.
fn others(me: &Value, present: &Value, key: &str, verb: &str) -> Option<Failure> {
    if me["id"] == present["user"] {
        return None;
    }
    let owner = present["user_name"].as_str().unwrap_or("somebody else");
    let text = format!(
        "keypair {} is of {}, not your own",
        clean(key),
        clean(owner)
    );
    let hint = format!("longshore admin key {verb} {}", clean(key));
    Some(Failure::new(code::DENIED, text).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keypairs_of_others_are_for_administration() {
        let me = json!({ "id": "usr_1" });
        let own = json!({ "user": "usr_1", "user_name": "root" });
        assert!(others(&me, &own, "LSA", "revoke").is_none());
        let other = json!({ "user": "usr_2", "user_name": "bob" });
        let failure = others(&me, &other, "LSB", "revoke").unwrap();
        assert_eq!(failure.exit, code::DENIED);
        assert_eq!(failure.text, "keypair LSB is of bob, not your own");
        assert_eq!(failure.hint.unwrap(), "longshore admin key revoke LSB");
    }
}
