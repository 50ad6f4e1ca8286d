//! `whoami`: who is signed in, and where.

use crate::app::App;
use crate::client::typed;
use crate::error::Failure;
use crate::output::clean;
use longshore_common::api::Me;

/// Shows it.
pub(crate) async fn run(app: &App) -> Result<u8, Failure> {
    let (name, used) = app.context()?;
    let by_login = used.token.is_some();
    let client = app.client()?;
    let item = client.get("/me").await?;
    app.output().object(&item, "username", || {
        let me: Me = typed(item.clone())?;
        let context = name
            .map(|name| format!(", context \"{}\"", clean(&name)))
            .unwrap_or_default();
        let by = match (by_login, me.access_key.as_str()) {
            (true, _) => "login        by password, or a provider\n".to_owned(),
            (false, key) => format!("keypair      {}\n", clean(key)),
        };
        let projects: Vec<String> = me.projects.iter().map(|p| clean(&p.name)).collect();
        Ok(format!(
            "{}, {} ({})\n{by}domain       {}\nprojects     {}\ncoordinator  {}{context}\n{}",
            clean(&me.username),
            clean(&me.email),
            clean(&me.role),
            clean(&me.domain_name),
            projects.join(", "),
            client.address(),
            super::login::notices(&me.notices),
        ))
    })?;
    Ok(0)
}
