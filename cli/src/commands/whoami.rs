//! `whoami`: who is signed in, and where.

use crate::app::App;
use crate::client::{Client, typed};
use crate::error::Failure;
use crate::output::clean;
use longshore_common::api::Me;

/// Shows it.
pub(crate) async fn run(app: &App) -> Result<u8, Failure> {
    let (name, used) = app.context()?;
    let by_login = used.token.is_some();
    let client = app.client()?;
    let item = client.get("/me").await?;
    let via = match by_login {
        true => via(&client).await,
        false => None,
    };
    let announced = match app.output().is_json() {
        true => String::new(),
        false => super::admin::announce::lines(&client).await,
    };
    app.output().object(&item, "username", || {
        let me: Me = typed(item.clone())?;
        let context = name
            .map(|name| format!(", context \"{}\"", clean(&name)))
            .unwrap_or_default();
        let by = signed_in(by_login, via.as_deref(), &me.access_key);
        let projects: Vec<String> = me.projects.iter().map(|p| clean(&p.name)).collect();
        Ok(format!(
            "{}, {} ({})\n{by}domain       {}\nprojects     {}\ncoordinator  {}{context}\n{}{announced}",
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

/// How the login in use was made; nothing where that cannot be learned.
async fn via(client: &Client) -> Option<String> {
    let page = client.get("/me/logins").await.ok()?;
    let logins = page["items"].as_array()?;
    let current = logins.iter().find(|login| login["current"] == true)?;
    Some(current["via"].as_str()?.to_owned())
}

/// By what one is signed in.
fn signed_in(by_login: bool, via: Option<&str>, key: &str) -> String {
    match (by_login, via) {
        (true, Some("password")) => "login        by password\n".to_owned(),
        (true, Some(provider)) => format!("login        by provider {}\n", clean(provider)),
        (true, None) => "login        by a token\n".to_owned(),
        (false, _) => format!("keypair      {}\n", clean(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_one_signed_in() {
        assert_eq!(
            signed_in(true, Some("password"), "LSA"),
            "login        by password\n"
        );
        assert_eq!(
            signed_in(true, Some("Lab"), "LSA"),
            "login        by provider Lab\n"
        );
        assert_eq!(signed_in(false, None, "LSA"), "keypair      LSA\n");
    }
}
