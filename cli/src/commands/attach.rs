//! `attach`: follow a session that was left, to its end.

use crate::app::App;
use crate::error::Failure;
use crate::follow::{OnDisconnect, Options, Signals, follow};
use crate::values::SessionRef;

/// Flags of `attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
    /// Lines of earlier output to begin with; absent: all
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u64>,
    /// What a script's signal or a lost terminal does
    #[arg(long, value_enum, value_name = "WHAT", default_value = "keep")]
    pub(crate) on_disconnect: OnDisconnect,
}

/// Follows it.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let client = app.client()?;
    let signals = Signals::new()?;
    let session = client.get_as(&client.session_path(&args.id).await?).await?;
    let options = Options {
        on_disconnect: Some(args.on_disconnect),
        tail: args.tail,
        deadline: app.deadline(),
        quiet: app.global.quiet,
        view: false,
    };
    Ok(follow(&client, session, &options, signals, None)
        .await?
        .exit())
}
