//! `accept-invitation LINK`, `passwd --link LINK`: links that came with a mail or from an
//! administrator. Their token stands behind the `#`, and is sent in the body alone.

use super::login::{authority, is, target};
use crate::app::App;
use crate::ask;
use crate::client::{Client, typed};
use crate::contexts::{Context, File};
use crate::error::{Failure, code};
use crate::output::clean;
use longshore_common::admin::InvitedTo;
use serde_json::{Value, json};

/// What a link is for, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An invitation, or a proof of an address.
    Invite,
    /// A new password.
    Reset,
    /// The first administrator.
    Setup,
}

/// A link as it was typed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// `https://host:port`
    address: String,
    kind: Kind,
    token: String,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut link = f.debug_struct("Link");
        link.field("address", &self.address)
            .field("kind", &self.kind);
        link.finish_non_exhaustive()
    }
}

impl std::str::FromStr for Link {
    type Err = String;
    /// What is wrong is said without the link: it opens a door.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a whole link, such as https://gpu01.lab:7420/invite#…".to_owned();
        let (place, token) = text.trim().split_once('#').ok_or_else(wrong)?;
        let (address, path) = place
            .trim_end_matches('/')
            .rsplit_once('/')
            .ok_or_else(wrong)?;
        let kind = match path {
            "invite" => Kind::Invite,
            "reset" => Kind::Reset,
            "setup" => Kind::Setup,
            _ => return Err(wrong()),
        };
        if !address.starts_with("https://") || token.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            address: address.to_owned(),
            kind,
            token: token.to_owned(),
        })
    }
}

impl Link {
    fn is_for(&self, kinds: &[Kind], hint: &str) -> Result<(), Failure> {
        match kinds.contains(&self.kind) {
            true => Ok(()),
            false => Err(Failure::usage("this link is for something else").hint(hint)),
        }
    }
}

/// The coordinator a link leads to: by its context, or a new one.
async fn place(app: &App, link: &Link) -> Result<(String, Context), Failure> {
    let file = app.contexts()?;
    let chosen = app.global.context.as_deref();
    let (name, mut context) = target(&file, chosen.unwrap_or(&link.address))?;
    if context.ca.is_none() {
        context.ca = Some(authority(app, &context.url).await?.to_string());
    }
    if chosen.is_some() {
        return Ok((name, context));
    }
    let client = app.client_of(&nobody(&context))?;
    at_api(&file, &client, (name, context)).await
}

/// The context of the API: a link names the console, which may have another address.
async fn at_api(
    file: &File,
    client: &Client,
    (name, context): (String, Context),
) -> Result<(String, Context), Failure> {
    let Some(api) = client.elsewhere("/api").await? else {
        return Ok((name, context));
    };
    let (name, mut there) = target(file, &api)?;
    there.ca = there.ca.or(context.ca);
    Ok((name, there))
}

/// The same context without anybody signed in.
fn nobody(context: &Context) -> Context {
    Context {
        url: context.url.clone(),
        ca: context.ca.clone(),
        ..Context::default()
    }
}

/// A password that is typed twice.
fn new_password(question: &str) -> Result<String, Failure> {
    let new = ask::secret(&format!("{question}: "))?;
    if !new.is_empty() && ask::secret(&format!("{question} again: "))? != new {
        return Err(Failure::usage("the two are not the same").why(ask::DECLINED));
    }
    Ok(new)
}

fn say(app: &App, text: &str) {
    if !app.global.quiet {
        eprintln!("{}", clean(text));
    }
}

/// `longshore passwd --link LINK`
pub(crate) async fn choose_password(app: &App, link: &Link) -> Result<u8, Failure> {
    link.is_for(
        &[Kind::Reset],
        "longshore accept-invitation takes the other ones",
    )?;
    let (_, context) = place(app, link).await?;
    let client = app.client_of(&nobody(&context))?;
    let body = json!({ "token": link.token, "password": new_password("New password")? });
    client.post("/auth/reset", &body).await?;
    say(app, "the password is changed; all logins have ended");
    Ok(0)
}

/// `longshore accept-invitation LINK`
pub(crate) async fn accept(app: &App, link: &Link) -> Result<u8, Failure> {
    let hint = "longshore passwd --link takes it";
    link.is_for(&[Kind::Invite, Kind::Setup], hint)?;
    let (name, context) = place(app, link).await?;
    let client = app.client_of(&nobody(&context))?;
    if link.kind == Kind::Setup {
        let answer = client.post("/setup", &first(link)?).await?;
        return signed_in(app, &name, &context, &answer);
    }
    let token = json!({ "token": link.token });
    let about: InvitedTo = typed(client.post("/invitations/lookup", &token).await?)?;
    say(app, &told(&about, &context.url));
    match about.kind.as_str() {
        "join" => join(app, link, &context).await,
        "verification" => {
            let mut body = token;
            let password = new_password("New password (empty: as it is)")?;
            if !password.is_empty() {
                body["password"] = json!(password);
            }
            client.post("/invitations/accept", &body).await?;
            say(app, &format!("the account {} is active", about.email));
            Ok(0)
        }
        _ => {
            let body = new_person(link, &about)?;
            let answer = client.post("/invitations/accept", &body).await?;
            signed_in(app, &name, &context, &answer)
        }
    }
}

/// What a link is about, in a line.
fn told(about: &InvitedTo, url: &str) -> String {
    let InvitedTo {
        email, invited_by, ..
    } = about;
    if about.kind == "verification" {
        return format!("this proves that {email} is yours");
    }
    let into = match about.projects.as_slice() {
        [] => format!("domain {}", about.domain_name),
        names => format!("{} of domain {}", names.join(", "), about.domain_name),
    };
    format!("{invited_by} invites {email} to {into} at {url}")
}

/// What a new person chooses.
fn new_person(link: &Link, about: &InvitedTo) -> Result<Value, Failure> {
    let username = ask::line(&format!("Login name (empty: {}): ", clean(&about.email)))?;
    let full_name = ask::line("Full name (may be empty): ")?;
    let password = new_password("Password")?;
    Ok(chosen(&link.token, &username, &full_name, &password))
}

fn chosen(token: &str, username: &str, full_name: &str, password: &str) -> Value {
    let mut body = json!({ "token": token, "password": password });
    for (member, text) in [("username", username), ("full_name", full_name)] {
        if !text.is_empty() {
            body[member] = json!(text);
        }
    }
    body
}

/// What the first administrator chooses.
fn first(link: &Link) -> Result<Value, Failure> {
    let email = ask::line("Email: ")?;
    let username = ask::line("Login name (empty: the part before the @): ")?;
    let password = new_password("Password (empty: none yet)")?;
    let mut body = json!({ "token": link.token, "email": email });
    for (member, text) in [("username", username), ("password", password)] {
        if !text.is_empty() {
            body[member] = json!(text);
        }
    }
    Ok(body)
}

/// Joins projects with the account that is signed in.
async fn join(app: &App, link: &Link, context: &Context) -> Result<u8, Failure> {
    let login = format!("longshore login {}", clean(&context.url));
    if context.bearer().is_none() {
        let text = "this invitation is for somebody who has an account, and nobody is signed in";
        return Err(Failure::new(code::DENIED, text).hint(login));
    }
    let client: Client = app.client_of(context)?;
    let body = json!({ "token": link.token });
    let answer = match client.post("/invitations/accept", &body).await {
        Err(failure) if is(&failure, "LS-INVITATION-OTHER") => return Err(failure.hint(login)),
        answer => answer?,
    };
    if app.output().is_json() {
        app.output().value(&answer)?;
        return Ok(0);
    }
    let projects = answer["projects"].as_array().into_iter().flatten();
    let projects: Vec<&str> = projects.filter_map(Value::as_str).collect();
    say(
        app,
        &format!("your projects are now {}", projects.join(", ")),
    );
    Ok(0)
}

/// A name for a context beside those there are.
fn beside(file: &File, name: &str, context: &Context) -> String {
    let taken = |name: &str| {
        let known = file.context.get(name);
        known.is_some_and(|known| known.url != context.url || known.bearer().is_some())
    };
    let mut chosen = name.to_owned();
    let mut number = 2;
    while taken(&chosen) {
        chosen = format!("{name}-{number}");
        number += 1;
    }
    chosen
}

/// Keeps the first keypair of an account that was just made, in a context of its own.
fn signed_in(app: &App, name: &str, context: &Context, answer: &Value) -> Result<u8, Failure> {
    let path = app.contexts_path()?;
    let mut file = File::load(&path)?;
    let name = beside(&file, name, context);
    let text = |member: &str| answer[member].as_str().map(str::to_owned);
    let kept = Context {
        access_key: text("access_key"),
        secret_key: text("secret_key"),
        ..nobody(context)
    };
    file.context.insert(name.clone(), kept);
    file.current = Some(name.clone());
    file.store(&path)?;
    if app.output().is_json() {
        app.output().value(answer)?;
    }
    let who = text("username").unwrap_or_default();
    say(
        app,
        &format!("signed in at {} as {who}, context \"{name}\"", context.url),
    );
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::answering;

    #[test]
    fn links_as_they_are_typed() {
        let link: Link = " https://gpu01.lab:7420/invite#abc \n".parse().unwrap();
        assert_eq!(
            (link.address.as_str(), link.kind, link.token.as_str()),
            ("https://gpu01.lab:7420", Kind::Invite, "abc")
        );
        assert!(!format!("{link:?}").contains("abc"));
        assert!(link.is_for(&[Kind::Reset], "").is_err());
        for wrong in [
            "abc",
            "https://gpu01.lab/invite",
            "https://gpu01.lab/invite#",
            "http://gpu01.lab/reset#abc",
            "https://gpu01.lab/other#secret",
        ] {
            let error = wrong.parse::<Link>().unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_link_of_the_console_leads_to_the_api() {
        let said = json!({
            "version": "0", "api": "v1", "agent_protocol": 1, "cluster": "c",
            "api_url": "https://api.gpu.lab", "files_url": "https://files.gpu.lab",
        });
        let console = Context {
            url: "https://app.gpu.lab:443".to_owned(),
            ca: Some("system".to_owned()),
            ..Context::default()
        };
        let mut file = File::default();
        let first = ("app".to_owned(), console.clone());
        let (client, _) = answering(vec![Some((200, said.clone()))]).await;
        let (name, context) = at_api(&file, &client, first.clone()).await.unwrap();
        assert_eq!(
            (name.as_str(), context.url.as_str()),
            ("api", "https://api.gpu.lab:443")
        );
        assert_eq!(context.ca.as_deref(), Some("system"));
        // Who is signed in there stays it.
        let known = Context {
            url: "https://api.gpu.lab".to_owned(),
            token: Some("lss_x".to_owned()),
            ..Context::default()
        };
        file.context.insert("lab".to_owned(), known);
        let (client, _) = answering(vec![Some((200, said.clone()))]).await;
        let (name, context) = at_api(&file, &client, first.clone()).await.unwrap();
        assert_eq!(
            (name.as_str(), context.token.as_deref()),
            ("lab", Some("lss_x"))
        );
        let mut one = said;
        one["api_url"] = Value::Null;
        let (client, _) = answering(vec![Some((200, one))]).await;
        assert_eq!(at_api(&file, &client, first.clone()).await.unwrap(), first);
    }

    #[test]
    fn what_was_left_empty_is_not_sent() {
        assert_eq!(
            chosen("t", "", "Dana", "p"),
            json!({ "token": "t", "password": "p", "full_name": "Dana" })
        );
    }

    #[test]
    fn a_new_account_takes_no_other_ones_context() {
        let mut file = File::default();
        let context = Context {
            url: "https://gpu01.lab:7420".to_owned(),
            ..Context::default()
        };
        assert_eq!(beside(&file, "gpu01", &context), "gpu01");
        file.context.insert("gpu01".to_owned(), context.clone());
        assert_eq!(beside(&file, "gpu01", &context), "gpu01");
        let used = Context {
            token: Some("lss_x".to_owned()),
            ..context.clone()
        };
        file.context.insert("gpu01".to_owned(), used);
        assert_eq!(beside(&file, "gpu01", &context), "gpu01-2");
    }

    #[test]
    fn an_invitation_is_told_in_a_line() {
        let mut about = InvitedTo {
            kind: "new-user".to_owned(),
            email: "dana@lab.example".to_owned(),
            domain_name: "default".to_owned(),
            projects: vec!["vision".to_owned(), "audio".to_owned()],
            invited_by: "Root".to_owned(),
            expires_at: longshore_common::time::Timestamp(1),
        };
        let url = "https://gpu01.lab:7420";
        assert_eq!(
            told(&about, url),
            "Root invites dana@lab.example to vision, audio of domain default at https://gpu01.lab:7420"
        );
        about.kind = "verification".to_owned();
        assert_eq!(
            told(&about, url),
            "this proves that dana@lab.example is yours"
        );
    }
}
