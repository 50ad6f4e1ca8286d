//! `token …` and `admin token …`: what lets further nodes join.

use crate::app::App;
use crate::client::{encode, typed};
use crate::clock;
use crate::error::Failure;
use crate::output::{self, Table, clean};
use crate::values;
use longshore_common::api::{JoinToken, NewJoinToken};
use std::time::Duration;

/// What can be done with join tokens.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Make one; it is shown once
    Create {
        /// Resource group of the nodes that join with it
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// Name the node gets
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// How long it is valid; absent: as the coordinator is set, a day unless changed
        #[arg(long, value_name = "TIME", value_parser = values::duration)]
        ttl: Option<Duration>,
        /// How many nodes may join with it; absent: one
        #[arg(long, value_name = "N")]
        uses: Option<i64>,
    },
    /// List those that can still be used
    Ls,
    /// Take one back
    Rm {
        /// Its id, from ls
        id: String,
    },
}

impl Verb {
    /// Whether it changes something.
    pub(crate) const fn writes(&self) -> bool {
        !matches!(self, Self::Ls)
    }
}

/// Whether a token was made is not known when the answer broke off, and its secret is lost.
fn perhaps_made(failure: Failure) -> Failure {
    if failure.is_transient() && failure.hint.is_none() {
        return failure.hint("longshore token ls; one that nobody knows: longshore token rm ID");
    }
    failure
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    let client = app.client()?;
    match verb {
        Verb::Create {
            group,
            name,
            ttl,
            uses,
        } => {
            let request = NewJoinToken {
                group,
                agent_name: name,
                ttl_s: ttl.map(|ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
                max_uses: uses,
            };
            let asked = client.post("/join-tokens", &request).await;
            let item = asked.map_err(perhaps_made)?;
            if app.output().is_json() {
                app.output().value(&item)?;
                return Ok(0);
            }
            let token: JoinToken = typed(item)?;
            if !app.global.quiet {
                let until = clock::short(token.expires_at);
                let group = clean(&token.group_name);
                eprintln!(
                    "valid until {until} for {} node(s) of group {group}; shown only now",
                    token.max_uses
                );
                if let Some(command) = &token.command {
                    eprintln!("On the node: {}", clean(command));
                }
            }
            output::print(&format!(
                "{}\n",
                clean(token.token.as_deref().unwrap_or_default())
            ))?;
        }
        Verb::Ls => {
            let items = app.list("/join-tokens").await?;
            app.output().list(&items, "id", || {
                let mut table = Table::new(&["ID", "GROUP", "NAME", "USED", "VALID", "BY"]);
                for item in &items {
                    let token: JoinToken = typed(item.clone())?;
                    table.row(vec![
                        token.id,
                        token.group_name,
                        token.agent_name.unwrap_or_default(),
                        format!("{} of {}", token.uses, token.max_uses),
                        format!("until {}", clock::short(token.expires_at)),
                        token.created_by,
                    ]);
                }
                Ok(table)
            })?;
        }
        Verb::Rm { id } => {
            client
                .delete(&format!("/join-tokens/{}", encode(&id)))
                .await?;
            if !app.global.quiet {
                eprintln!("{} taken back", clean(&id));
            }
        }
    }
    Ok(0)
}
