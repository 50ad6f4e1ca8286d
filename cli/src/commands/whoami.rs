//! `whoami`: who is signed in, and where.

use crate::app::App;
use crate::client::typed;
use crate::error::Failure;
use crate::output::clean;
use longshore_common::api::Me;

/// Shows it.
pub(crate) async fn run(app: &App) -> Result<u8, Failure> {
    let (name, _) = app.context()?;
    let client = app.client()?;
    let item = client.get("/me").await?;
    app.output().object(&item, "username", || {
        let me: Me = typed(item.clone())?;
        let context = name
            .map(|name| format!(", context \"{}\"", clean(&name)))
            .unwrap_or_default();
        Ok(format!(
            "{}, {} ({})\nkeypair      {}\ncoordinator  {}{context}\n",
            clean(&me.username),
            clean(&me.email),
            clean(&me.role),
            clean(&me.access_key),
            client.address()
        ))
    })?;
    Ok(0)
}
