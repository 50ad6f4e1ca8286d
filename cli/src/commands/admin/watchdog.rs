//! `admin watchdog`

use super::object;
use crate::app::App;
use crate::error::Failure;

/// Shows its cycles and what it stopped.
pub(crate) async fn run(app: &App) -> Result<u8, Failure> {
    let told = app.client()?.get("/watchdog").await?;
    object(app, "last_cycle_at", &told)?;
    Ok(0)
}
