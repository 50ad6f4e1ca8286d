//! `login`, `logout`, `passwd`, `totp …`, `logins …`: one's own account.

use crate::app::App;
use crate::ask;
use crate::client::{Call, Client, encode, typed};
use crate::contexts::{Context, File};
use crate::error::{Failure, code};
use crate::output::{Table, clean, print};
use crate::qr;
use crate::tls::{Ca, Pin};
use longshore_common::api::Me;
use longshore_common::logins::{
    LoginAnswer, LoginRequest, LoginView, Notice, PasswordChange, RecoveryCodes, TotpOffer,
};
use reqwest::Method;
use serde_json::json;
use std::io::{BufRead as _, IsTerminal as _};

/// The port of a coordinator that was named without one.
const PORT: u16 = 7420;

/// How to log in.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// Address of the coordinator (https://gpu01.lab:7420, gpu01.lab), or name of a context;
    /// absent: the context in use
    target: Option<String>,
    /// Login name or address; absent: it is asked for
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Who signs for it: fingerprint of its authority (sha256:…), a file of authorities (PEM), or
    /// system, those this machine knows; absent: these, else its own is shown at the first visit
    #[arg(long, value_name = "PIN|FILE|system")]
    ca: Option<Ca>,
    /// Read a keypair (ACCESS.SECRET) from the standard input and store it instead
    #[arg(long)]
    key_stdin: bool,
}

/// What becomes of the second factor.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TotpVerb {
    /// Ask for a code at each login by password
    On,
    /// Ask for none
    Off,
}

/// What can be done with logins.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum LoginsVerb {
    /// List one's own logins
    Ls,
    /// End one of them
    End {
        /// Its id
        id: String,
    },
}

/// `gpu01.lab` → `https://gpu01.lab:7420`, `https://app.gpu.lab` → `https://app.gpu.lab:443`: a
/// whole address means the port that it means in a browser. Nothing for what cannot be one.
fn address(text: &str) -> Option<String> {
    let is_whole = text.contains("://");
    let whole = match is_whole {
        true => text.to_owned(),
        false => format!("https://{text}"),
    };
    let url = reqwest::Url::parse(&whole).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let plain = url.path() == "/" && url.query().is_none() && url.username().is_empty();
    (url.scheme() == "https" && plain).then(|| {
        // The parser takes the usual port of https away; ours is another one.
        let given = is_whole || whole.trim_end_matches('/').ends_with(":443");
        let port = url.port().unwrap_or(if given { 443 } else { PORT });
        format!("https://{host}:{port}")
    })
}

/// The context that is meant, by its name or address; a new one for a new address.
pub(super) fn target(file: &File, text: &str) -> Result<(String, Context), Failure> {
    if let Some(context) = file.context.get(text) {
        return Ok((text.to_owned(), context.clone()));
    }
    let url = address(text).ok_or_else(|| {
        Failure::usage(format!(
            "\"{}\" is neither a context nor an address of the form https://HOST:7420",
            clean(text)
        ))
    })?;
    let same = |known: &str| address(known).as_ref() == Some(&url);
    if let Some((name, context)) = file.context.iter().find(|(_, c)| same(&c.url)) {
        return Ok((name.clone(), context.clone()));
    }
    let host = url.trim_start_matches("https://");
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let label = match host.parse::<std::net::IpAddr>() {
        Ok(_) => host,
        Err(_) => host.split('.').next().unwrap_or(host),
    };
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label: String = label
        .chars()
        .map(|c| if bare(c) { c } else { '-' })
        .collect();
    let label = label.trim_matches('-');
    let label = if label.is_empty() { "longshore" } else { label };
    let mut name = label.to_owned();
    let mut number = 2;
    while file.context.contains_key(&name) {
        name = format!("{label}-{number}");
        number += 1;
    }
    let context = Context {
        url,
        ..Context::default()
    };
    Ok((name, context))
}

/// `longshore login`
pub(crate) async fn login(app: &App, args: LoginArgs) -> Result<u8, Failure> {
    let path = app.contexts_path()?;
    let mut file = File::load(&path)?;
    let chosen = args.target.clone().or_else(|| app.global.context.clone());
    let (name, mut context) = match &chosen {
        Some(text) => target(&file, text)?,
        None => match app.context()? {
            (Some(name), context) => (name, context),
            (None, context) => target(&file, &context.url)?,
        },
    };
    if let Some(ca) = args.ca {
        let ca = match ca {
            // The context is used from other directories as well.
            Ca::File(path) => Ca::File(
                path.canonicalize()
                    .map_err(|error| Failure::usage(format!("--ca {}: {error}", path.display())))?,
            ),
            ca => ca,
        };
        context.ca = Some(ca.to_string());
    }
    match context.ca {
        Some(_) => is_who_it_was(app, &context).await?,
        None => context.ca = Some(authority(app, &context.url).await?.to_string()),
    }
    let me = if args.key_stdin {
        let (access, secret) = key(&read_line()?)?;
        context.access_key = Some(access);
        context.secret_key = Some(secret);
        context.token = None;
        app.client_of(&context)?.get_as("/me").await?
    } else {
        let bare = Context {
            url: context.url.clone(),
            ca: context.ca.clone(),
            ..Context::default()
        };
        let client = app.client_of(&bare)?;
        let user = match args.user {
            Some(user) => user,
            None => ask::line("Login name: ")?,
        };
        let password = ask::secret("Password: ")?;
        let answer = enter(&client, user, password).await?;
        context.token = Some(answer.token);
        let mut me = answer.user;
        me.notices = answer.notices;
        me
    };
    let url = context.url.clone();
    let used = context.clone();
    file.context.insert(name.clone(), context);
    file.current = Some(name.clone());
    file.store(&path)?;
    if !app.global.quiet {
        eprintln!(
            "signed in at {} as {} ({}), context \"{}\"",
            clean(&url),
            clean(&me.username),
            clean(&me.role),
            clean(&name)
        );
        eprint!("{}", notices(&me.notices));
        if let Ok(client) = app.client_of(&used) {
            eprint!("{}", super::admin::announce::lines(&client).await);
        }
    }
    Ok(0)
}

/// Who signs for a coordinator that was never seen: an authority this machine knows, or else its
/// own one.
pub(super) async fn authority(app: &App, url: &str) -> Result<Ca, Failure> {
    let context = Context {
        url: url.to_owned(),
        ..Context::default()
    };
    // A machine that knows no authority at all has seen a pin as well.
    if let Ok(client) = app.client_of(&context)
        && client
            .call_bytes(Call::new(Method::GET, "/version"))
            .await
            .is_ok()
    {
        return Ok(Ca::System);
    }
    first_visit(app, url).await.map(Ca::Pin)
}

/// The pin of an authority that was never seen: shown, and taken when somebody says yes.
async fn first_visit(app: &App, url: &str) -> Result<Pin, Failure> {
    let pin = Client::authority(url, app.global.verbose).await?;
    if !std::io::stdin().is_terminal() && !app.global.yes {
        return Err(Failure::new(
            code::DENIED,
            format!("{} was never seen before", clean(url)),
        )
        .why(format!("the fingerprint of its authority is {pin}"))
        .hint(format!(
            "compare it with `longshore context show` on that machine, then --ca {pin}"
        )));
    }
    eprintln!("{} was never seen before.", clean(url));
    eprintln!("The fingerprint of its authority is\n    {pin}");
    eprintln!("Compare it with what `longshore context show` says on that machine.");
    ask::confirm(app, "Trust it from now on?", &[])?;
    Ok(pin)
}

/// Asks for nothing secret before the authority is the pinned one.
async fn is_who_it_was(app: &App, context: &Context) -> Result<(), Failure> {
    let wanted = context.authority()?;
    let bare = Context {
        url: context.url.clone(),
        ca: context.ca.clone(),
        ..Context::default()
    };
    let call = Call::new(Method::GET, "/ca.pem");
    let Err(failure) = app.client_of(&bare)?.call_bytes(call).await else {
        return Ok(());
    };
    let Ca::Pin(wanted) = wanted else {
        return Err(failure);
    };
    match Client::authority(&context.url, app.global.verbose).await {
        Ok(found) if found != wanted => Err(another(&context.url, wanted, found)),
        _ => Err(failure),
    }
}

/// What is said of a coordinator that shows another authority than the pinned one.
fn another(url: &str, wanted: Pin, found: Pin) -> Failure {
    Failure::new(
        code::UNREACHABLE,
        format!("{} is another coordinator than the one you named", clean(url)),
    )
    .why(format!("expected authority {wanted}"))
    .why(format!("it shows           {found}"))
    .why("nothing was sent there")
    .hint(format!(
        "compare with `longshore context show` on that machine; if the new one is right, --ca {found}"
    ))
}

/// Sends name and password, and the code when one is asked for.
async fn enter(client: &Client, login: String, password: String) -> Result<LoginAnswer, Failure> {
    let mut request = LoginRequest {
        login,
        password,
        totp: None,
        client: Some("cli".to_owned()),
    };
    match client.post("/auth/login", &request).await {
        Err(failure) if is(&failure, "LS-TOTP-REQUIRED") => {
            request.totp = Some(ask::line("Code: ")?);
            typed(client.post("/auth/login", &request).await?)
        }
        answer => typed(answer?),
    }
}

pub(super) fn is(failure: &Failure, code: &str) -> bool {
    let problem = failure.problem.as_ref();
    problem.is_some_and(|problem| problem.code == code)
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}

/// `ACCESS.SECRET`, or the two with a blank between.
fn key(text: &str) -> Result<(String, String), Failure> {
    let text = text.trim();
    let parts = text.split_once('.').or_else(|| text.split_once(' '));
    match parts.map(|(access, secret)| (access.trim(), secret.trim())) {
        Some((access, secret)) if !access.is_empty() && !secret.is_empty() => {
            Ok((access.to_owned(), secret.to_owned()))
        }
        _ => Err(Failure::usage(
            "expected a keypair on the standard input: ACCESS.SECRET",
        )),
    }
}

/// What one should know, a line each.
pub(crate) fn notices(notices: &[Notice]) -> String {
    let line = |notice: &Notice| format!("notice: {}\n", clean(&notice.message));
    notices.iter().map(line).collect()
}

/// `longshore logout`
pub(crate) async fn logout(app: &App) -> Result<u8, Failure> {
    let path = app.contexts_path()?;
    let mut file = File::load(&path)?;
    let (name, context) = app.context()?;
    if context.token.is_none() {
        return Err(no_login(&context));
    }
    match app
        .client_of(&context)?
        .post("/auth/logout", &json!({}))
        .await
    {
        // It is over already.
        Err(failure) if is(&failure, "LS-AUTH-FAILED") => (),
        done => drop(done?),
    }
    if let Some(context) = name.and_then(|name| file.context.get_mut(&name)) {
        context.token = None;
        file.store(&path)?;
    }
    if !app.global.quiet {
        eprintln!("{}", signed_out(&context));
    }
    Ok(0)
}

/// What is said where no login is stored.
fn no_login(context: &Context) -> Failure {
    match &context.access_key {
        Some(key) => Failure::new(
            code::CONFLICT,
            "signed in by a keypair, so there is no login to end",
        )
        .hint(format!(
            "longshore key deactivate {} switches the keypair off",
            clean(key)
        )),
        None => Failure::new(code::CONFLICT, "nobody is signed in here")
            .hint(format!("longshore login {}", clean(&context.url))),
    }
}

/// What is said at the end of a login.
fn signed_out(context: &Context) -> String {
    match &context.access_key {
        Some(key) => format!(
            "signed out; the keypair {} of this context is used from now on",
            clean(key)
        ),
        None => format!("signed out; back: longshore login {}", clean(&context.url)),
    }
}

/// `longshore passwd`
pub(crate) async fn passwd(app: &App, revoke_keypairs: bool) -> Result<u8, Failure> {
    let client = app.client()?;
    let me: Me = client.get_as("/me").await?;
    let current = match me.has_password {
        true => Some(ask::secret("Present password: ")?),
        false => None,
    };
    let new = ask::secret("New password: ")?;
    if ask::secret("New password again: ")? != new {
        return Err(Failure::usage("the two are not the same").why(ask::DECLINED));
    }
    let body = PasswordChange {
        current,
        new,
        revoke_keypairs,
    };
    client.post("/me/password", &body).await?;
    if !app.global.quiet {
        eprintln!("the password is changed; all other logins have ended");
    }
    Ok(0)
}

/// `longshore totp …`
pub(crate) async fn totp(app: &App, verb: TotpVerb) -> Result<u8, Failure> {
    let client = app.client()?;
    let password = ask::secret("Password: ")?;
    match verb {
        TotpVerb::On => {
            let body = json!({ "password": password });
            let offer: TotpOffer = typed(client.post("/me/totp", &body).await?)?;
            if std::io::stderr().is_terminal()
                && let Some(picture) = qr::picture(&offer.uri)
            {
                eprintln!("Scan this with an app for codes:\n\n{picture}");
                eprintln!("or type it:");
            } else {
                eprintln!("Add this to an app for codes:");
            }
            eprintln!("    secret  {}", clean(&offer.secret));
            eprintln!("    address {}", clean(&offer.uri));
            let code = ask::line("First code: ")?;
            let body = json!({ "code": code });
            let codes = client.post("/me/totp/activate", &body).await?;
            let codes: RecoveryCodes = typed(codes)?;
            eprintln!(
                "A code is asked for from now on. In place of one, each of these is good once:"
            );
            let lines = codes.recovery_codes.iter();
            let lines: Vec<String> = lines.map(|code| format!("{}\n", clean(code))).collect();
            print(&lines.concat())?;
        }
        TotpVerb::Off => {
            let code = ask::line("Code or recovery code: ")?;
            let body = json!({ "password": password, "code": code });
            let call = Call::new(Method::DELETE, "/api/v1/me/totp").body(body);
            client.call(call).await?;
            if !app.global.quiet {
                eprintln!("no code is asked for any more");
            }
        }
    }
    Ok(0)
}

/// `longshore logins …`
pub(crate) async fn logins(app: &App, verb: LoginsVerb) -> Result<u8, Failure> {
    let client = app.client()?;
    match verb {
        LoginsVerb::Ls => {
            // All of them come at once.
            let page = client.get("/me/logins").await?;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            app.output().list(&items, "id", || {
                let headers = ["", "ID", "VIA", "CLIENT", "FROM", "MADE", "LAST USED"];
                let mut table = Table::new(&headers);
                for item in &items {
                    let login: LoginView = typed(item.clone())?;
                    table.row(vec![
                        if login.current { "*" } else { " " }.to_owned(),
                        login.id,
                        login.via,
                        login.client,
                        login.from,
                        login.created_at.to_string(),
                        login.last_used_at.to_string(),
                    ]);
                }
                Ok(table)
            })?;
        }
        LoginsVerb::End { id } => {
            client
                .delete(&format!("/me/logins/{}", encode(&id)))
                .await?;
            if !app.global.quiet {
                eprintln!("login {} is over", clean(&id));
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::answering;

    #[test]
    fn addresses_as_they_are_typed() {
        for (text, wanted) in [
            ("gpu01.lab", Some("https://gpu01.lab:7420")),
            ("gpu01:8000", Some("https://gpu01:8000")),
            ("https://gpu01.lab/", Some("https://gpu01.lab:443")),
            ("gpu01.lab:443", Some("https://gpu01.lab:443")),
            ("https://gpu01.lab:443", Some("https://gpu01.lab:443")),
            ("https://[::1]:7420", Some("https://[::1]:7420")),
            ("http://gpu01.lab", None),
            ("https://gpu01.lab/x", None),
            ("https://dana@gpu01.lab", None),
            ("", None),
        ] {
            assert_eq!(address(text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn a_context_is_found_by_name_and_address() {
        let mut file = File::default();
        let known = Context {
            url: "https://gpu01.lab:7420/".to_owned(),
            ca: Some("sha256:00".to_owned()),
            ..Context::default()
        };
        file.context.insert("gpu01".to_owned(), known.clone());
        assert_eq!(
            target(&file, "gpu01").unwrap(),
            ("gpu01".to_owned(), known.clone())
        );
        assert_eq!(
            target(&file, "gpu01.lab").unwrap(),
            ("gpu01".to_owned(), known)
        );
        // Another coordinator of that name gets a context of its own, without its keys.
        let (name, context) = target(&file, "gpu01.other").unwrap();
        assert_eq!((name.as_str(), context.ca), ("gpu01-2", None));
        assert_eq!(target(&file, "192.0.2.1").unwrap().0, "192-0-2-1");
        assert_eq!(target(&file, "a b").unwrap_err().exit, 2);
    }

    #[test]
    fn another_authority_is_shown_beside_the_expected_one() {
        let pin = |digits: &str| format!("sha256:{}", digits.repeat(32)).parse().unwrap();
        let failure = another("https://gpu01.lab:7420", pin("0a"), pin("0b"));
        assert_eq!(failure.exit, code::UNREACHABLE);
        let why = failure.why.join(" ");
        assert!(
            why.contains(&"0a".repeat(32)) && why.contains(&"0b".repeat(32)),
            "{why}"
        );
    }

    #[test]
    fn a_logout_says_how_to_come_back() {
        let mut context = Context {
            url: "https://gpu01.lab:7420".to_owned(),
            ..Context::default()
        };
        assert_eq!(
            signed_out(&context),
            "signed out; back: longshore login https://gpu01.lab:7420"
        );
        let hint = no_login(&context).hint.unwrap();
        assert_eq!(hint, "longshore login https://gpu01.lab:7420");
        context.access_key = Some("LSA".to_owned());
        let hint = no_login(&context).hint.unwrap();
        assert_eq!(
            hint,
            "longshore key deactivate LSA switches the keypair off"
        );
        assert!(signed_out(&context).contains("keypair LSA"));
    }

    #[test]
    fn keypairs_on_the_standard_input() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(key("LSA.s.1\n").unwrap(), pair("LSA", "s.1"));
        assert_eq!(key(" LSA  s1 ").unwrap(), pair("LSA", "s1"));
        assert!(key("LSA").is_err() && key(".s").is_err());
    }

    #[tokio::test]
    async fn a_wrong_password_is_a_failure_with_its_code() {
        let problem = json!({
            "type": "x", "title": "t", "status": 401, "code": "LS-LOGIN-FAILED",
            "detail": "Login name or password is wrong.", "instance": "/", "request_id": "r",
        });
        let (client, requests) = answering(vec![Some((401, problem))]).await;
        let failure = enter(&client, "dana".to_owned(), "p".to_owned());
        let failure = failure.await.err().unwrap();
        assert_eq!(failure.exit, code::DENIED);
        assert!(is(&failure, "LS-LOGIN-FAILED"));
        assert_eq!(requests.lock().unwrap().len(), 1);
    }
}
