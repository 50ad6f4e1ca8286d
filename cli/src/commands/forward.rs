//! `apps`, `forward` and `jupyter`: ports of a session on this machine, each connection a WebSocket.

use super::show::OneSession;
use crate::app::App;
use crate::client::{Client, encode, typed};
use crate::error::{Failure, code};
use crate::output::{Table, clean, print};
use crate::reach::{Socket, refused};
use crate::values::SessionRef;
use futures_util::{SinkExt as _, StreamExt as _};
use longshore_common::api::{AppAccess, SessionApp, SessionApps};
use longshore_common::ids::Rank;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::Message;

/// Bytes taken from a local connection at once.
const PIECE: usize = 32 * 1024;
/// The coordinator hears of a silent connection so often.
const PING: Duration = Duration::from_secs(15);
/// It says something as often; thrice that is silence.
const SILENCE: Duration = Duration::from_secs(45);
/// Names of the app that `jupyter` opens, the first that is declared.
const JUPYTER: [&str; 2] = ["jupyter", "jupyterlab"];

/// Flags of `forward`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
    /// A port it declares, or the name of an app; LOCAL is the port here (0: any), else the same
    #[arg(required = true, value_name = "[LOCAL:]PORT", value_parser = wish)]
    pub(crate) ports: Vec<Wish>,
    /// In which container: main1, sub1
    #[arg(short, long, value_name = "RANK")]
    pub(crate) container: Option<Rank>,
}

/// Flags of `jupyter`.
#[derive(Debug, clap::Args)]
pub(crate) struct JupyterArgs {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
    /// The port on this machine; absent: that of the app, or any if it is taken
    #[arg(long, value_name = "PORT")]
    pub(crate) local: Option<u16>,
}

/// Flags of `open`.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenArgs {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
    /// The app, or its port; absent: the first of HTTP
    pub(crate) app: Option<String>,
    /// Print the address instead of opening it
    #[arg(long)]
    pub(crate) print: bool,
}

/// One port that is wanted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    local: Option<u16>,
    /// A number, or the name of an app.
    remote: String,
}

fn wish(text: &str) -> Result<Wish, String> {
    let (local, remote) = match text.split_once(':') {
        None => (None, text),
        Some((local, remote)) => {
            let local = local.parse::<u16>();
            let local = local.map_err(|_| "LOCAL is a number from 0 to 65535".to_owned())?;
            (Some(local), remote)
        }
    };
    if remote.is_empty() {
        return Err("expected [LOCAL:]PORT".to_owned());
    }
    Ok(Wish {
        local,
        remote: remote.to_owned(),
    })
}

/// The declared app that is meant by a number or a name.
fn meant<'a>(apps: &'a [SessionApp], remote: &str) -> Option<(&'a SessionApp, u16)> {
    let found = apps.iter().find(|app| {
        let by_number = app.port.is_some_and(|port| port.to_string() == remote);
        by_number || (app.port.is_some() && app.name == remote)
    });
    found.and_then(|app| Some((app, app.port?)))
}

fn not_declared(id: &str, remote: &str, apps: &[SessionApp]) -> Failure {
    let declared = apps.iter().filter_map(|app| {
        let port = app.port?;
        Some(format!("{port} ({})", clean(&app.name)))
    });
    let declared: Vec<String> = declared.collect();
    let text = format!("{id} declares no port {}", clean(remote));
    let failure = Failure::new(code::REFUSED, text);
    failure.hint(match declared.is_empty() {
        true => {
            "a session declares its ports at its start: longshore start --port web=8000".to_owned()
        }
        false => format!("it declares {}", declared.join(", ")),
    })
}

async fn apps_of(client: &Client, id: &SessionRef) -> Result<(String, Vec<SessionApp>), Failure> {
    let path = client.session_path(id).await?;
    let apps: SessionApps = client.get_as(&format!("{path}/apps")).await?;
    let word = path.trim_start_matches("/sessions/").to_owned();
    if apps.items.iter().any(|app| !app.ready) {
        let text = format!("{} does not run now", clean(&word));
        return Err(Failure::new(code::CONFLICT, text).hint(format!("longshore show {word}")));
    }
    Ok((word, apps.items))
}

fn path_of(word: &str, port: u16, rank: Option<Rank>) -> String {
    let rank = rank.map_or_else(String::new, |rank| {
        format!("&rank={}", encode(&rank.to_string()))
    });
    format!("/api/v1/sessions/{word}/forward?port={port}{rank}")
}

async fn listen(local: u16) -> Result<TcpListener, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, local));
    TcpListener::bind(address).await.map_err(|error| {
        let failure = Failure::failed(format!("{address}: {error}"));
        failure.hint("choose another port: longshore forward ID LOCAL:PORT")
    })
}

/// Lists what can be reached in a session.
pub(crate) async fn apps(app: &App, args: OneSession) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = client.session_path(&args.id).await?;
    let answer = client.get(&format!("{path}/apps")).await?;
    let items: Vec<Value> = answer["items"].as_array().cloned().unwrap_or_default();
    app.output().list(&items, "name", || {
        let mut table = Table::new(&["NAME", "PROTOCOL", "PORT", "READY", "STARTED BY", "BROWSER"]);
        for item in &items {
            let one: SessionApp = typed(item.clone())?;
            table.row(vec![
                one.name,
                one.protocol,
                one.port.map(|port| port.to_string()).unwrap_or_default(),
                if one.ready { "yes" } else { "no" }.to_owned(),
                one.command.join(" "),
                one.url.unwrap_or_default(),
            ]);
        }
        Ok(table)
    })?;
    Ok(0)
}

/// Listens here and carries each connection, until somebody ends this program.
pub(crate) async fn forward(app: &App, args: Args) -> Result<u8, Failure> {
    let client = app.client()?;
    let (word, apps) = apps_of(&client, &args.id).await?;
    let mut open = Vec::new();
    for Wish { local, remote } in &args.ports {
        let (_, port) = meant(&apps, remote).ok_or_else(|| not_declared(&word, remote, &apps))?;
        open.push((listen(local.unwrap_or(port)).await?, port, remote));
    }
    let (failed, mut failures) = mpsc::channel(1);
    for (listener, port, remote) in open {
        let here = listener.local_addr()?;
        print(&format!("{here} -> {}:{}\n", clean(&word), clean(remote)))?;
        let path = path_of(&word, port, args.container);
        tokio::spawn(serve(client.clone(), listener, path, failed.clone()));
    }
    ended(&mut failures).await
}

/// Opens an app in a browser, by an address that is good once.
pub(crate) async fn open(app: &App, args: OpenArgs) -> Result<u8, Failure> {
    let client = app.client()?;
    let (word, apps) = apps_of(&client, &args.id).await?;
    let of_http = |one: &&SessionApp| one.protocol == "http" && one.port.is_some();
    let found = match &args.app {
        Some(name) => meant(&apps, name).map(|(one, _)| one),
        None => apps.iter().find(of_http),
    };
    let found = found.ok_or_else(|| match &args.app {
        Some(name) => not_declared(&word, name, &apps),
        None => Failure::new(
            code::REFUSED,
            format!("{} declares no app of HTTP", clean(&word)),
        ),
    })?;
    let path = format!("/sessions/{word}/apps/{}/access", encode(&found.name));
    let access: AppAccess = typed(client.post(&path, &serde_json::json!({})).await?)?;
    let Some(address) = access.open else {
        let text = format!("{} cannot be shown to a browser here", clean(&found.name));
        let failure = Failure::new(code::REFUSED, text);
        return Err(failure.hint(format!("longshore forward {word} {}", found.name)));
    };
    let address = clean(&address);
    if args.print || !browse(&address) {
        print(&format!("{address}\n"))?;
        if !app.global.quiet {
            eprintln!("it is good once, for 30 seconds");
        }
    }
    Ok(0)
}

/// Hands an address to what opens addresses on this machine, if there is a desktop.
fn browse(address: &str) -> bool {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"];
    if desktop.iter().all(|name| std::env::var_os(name).is_none()) {
        return false;
    }
    let opener = std::process::Command::new("xdg-open")
        .arg(address)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    opener.is_ok_and(|status| status.success())
}

/// Opens Jupyter of a session on this machine.
pub(crate) async fn jupyter(app: &App, args: JupyterArgs) -> Result<u8, Failure> {
    let client = app.client()?;
    let (word, apps) = apps_of(&client, &args.id).await?;
    let found = JUPYTER.iter().find_map(|name| meant(&apps, name));
    let (_, port) = found.ok_or_else(|| {
        let text = format!("{} declares no app jupyter", clean(&word));
        let failure = Failure::new(code::REFUSED, text);
        failure.hint("start one that does: longshore start --app jupyter")
    })?;
    let listener = match args.local {
        Some(local) => listen(local).await?,
        None => match listen(port).await {
            Ok(listener) => listener,
            Err(_) => listen(0).await?,
        },
    };
    let path = path_of(&word, port, None);
    // The first connection starts it, which is better waited for here than in a browser.
    drop(client.websocket(&path, "longshore.v1").await?);
    let here = listener.local_addr()?;
    print(&format!("http://{here}/\n"))?;
    if let Some(url) = found.and_then(|(one, _)| one.url.as_deref()) {
        eprintln!("in a browser that is logged in: {}", clean(url));
    }
    if !app.global.quiet {
        eprintln!(
            "{} goes on when this ends; Ctrl-C ends the connection",
            clean(&word)
        );
    }
    let (failed, mut failures) = mpsc::channel(1);
    tokio::spawn(serve(client, listener, path, failed));
    ended(&mut failures).await
}

/// What makes every further connection fail too ends the command.
async fn ended(failures: &mut mpsc::Receiver<Failure>) -> Result<u8, Failure> {
    match failures.recv().await {
        Some(failure) => Err(failure),
        None => Ok(0),
    }
}

async fn serve(client: Client, listener: TcpListener, path: String, failed: mpsc::Sender<Failure>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many files are open: those that end make room.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true); // only makes it slower when it fails
        let (client, path, failed) = (client.clone(), path.clone(), failed.clone());
        tokio::spawn(async move {
            let carried = match client.websocket(&path, "longshore.v1").await {
                Ok(socket) => carry(stream, socket).await,
                Err(failure) => Err(failure),
            };
            let Err(failure) = carried else { return };
            if is_for_good(&failure) {
                let _ = failed.send(failure).await; // it may be ending already
            } else {
                eprintln!("longshore: {}", clean(&failure.text));
            }
        });
    }
}

/// Whether the next connection would be refused as well.
fn is_for_good(failure: &Failure) -> bool {
    let state = failure
        .problem
        .as_ref()
        .is_some_and(|p| p.code == "LS-STATE");
    state || matches!(failure.exit, code::DENIED | code::NOT_FOUND | code::REFUSED)
}

/// Carries one connection until both ways have ended, or one side is gone.
async fn carry(stream: TcpStream, socket: Socket) -> Result<(), Failure> {
    let (mut read, mut write) = stream.into_split();
    let (mut out, mut back) = socket.split();
    let ended = tokio::select! {
        ended = hear(&mut back, &mut write) => ended,
        () = speak(&mut out, &mut read) => Ok(()),
    };
    // The coordinator learns of it by this, or by the end of the connection.
    let _ = tokio::time::timeout(Duration::from_secs(1), out.close()).await;
    ended
}

async fn hear(
    back: &mut futures_util::stream::SplitStream<Socket>,
    write: &mut OwnedWriteHalf,
) -> Result<(), Failure> {
    loop {
        let bytes = match tokio::time::timeout(SILENCE, back.next()).await {
            Ok(Some(Ok(Message::Binary(bytes)))) => bytes,
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
            _ => return Ok(()), // it is over; what went wrong was said before
        };
        let output = bytes.strip_prefix(&[1]).unwrap_or_default();
        if write.write_all(output).await.is_err() {
            return Ok(()); // the local side is gone
        }
        match bytes.split_first() {
            Some((4, _)) => drop(write.shutdown().await),
            Some((6, problem)) => return Err(refused(problem)),
            _ => (), // written already, or of a newer coordinator
        }
    }
}

/// Returns when the coordinator takes nothing more.
async fn speak(
    out: &mut futures_util::stream::SplitSink<Socket, Message>,
    read: &mut OwnedReadHalf,
) {
    let mut ping = tokio::time::interval(PING);
    let mut open = true;
    loop {
        // The first byte is the channel.
        let mut piece = Vec::with_capacity(PIECE + 1);
        piece.push(0);
        let next = tokio::select! {
            taken = read.read_buf(&mut piece), if open => match taken {
                Ok(0) => {
                    open = false;
                    Message::Binary(vec![4].into())
                }
                Ok(_) => Message::Binary(piece.into()),
                Err(_) => return, // the local side is gone
            },
            _ = ping.tick() => Message::Ping(Vec::new().into()),
        };
        if out.send(next).await.is_err() {
            // The other half hears why.
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, port: Option<u16>) -> SessionApp {
        SessionApp {
            name: name.to_owned(),
            protocol: "tcp".to_owned(),
            port,
            command: Vec::new(),
            ready: true,
            url: None,
        }
    }

    #[test]
    fn wishes_are_a_port_here_and_one_there() {
        let plain = wish("8888").unwrap();
        assert_eq!((plain.local, plain.remote.as_str()), (None, "8888"));
        let both = wish("0:web").unwrap();
        assert_eq!((both.local, both.remote.as_str()), (Some(0), "web"));
        assert!(wish("70000:web").is_err() && wish("1:").is_err() && wish("x:1").is_err());
    }

    #[test]
    fn apps_are_meant_by_number_or_name_and_built_in_ones_have_no_port() {
        let apps = [app("web", Some(8000)), app("ssh", None)];
        assert_eq!(meant(&apps, "8000").unwrap().1, 8000);
        assert_eq!(meant(&apps, "web").unwrap().1, 8000);
        assert!(meant(&apps, "ssh").is_none() && meant(&apps, "80").is_none());
        assert_eq!(
            path_of("s-1", 80, None),
            "/api/v1/sessions/s-1/forward?port=80"
        );
    }

    #[test]
    fn an_app_that_is_not_ready_does_not_end_the_command_and_a_session_that_ended_does() {
        let of = |status: u16, code: &str| {
            let text = format!(
                r#"{{"type":"x","title":"t","status":{status},"code":"{code}","detail":"d","instance":"","request_id":""}}"#
            );
            refused(text.as_bytes())
        };
        assert!(!is_for_good(&of(409, "LS-APP-NOT-READY")));
        assert!(!is_for_good(&of(503, "LS-AGENT-UNREACHABLE")));
        assert!(is_for_good(&of(409, "LS-STATE")));
        assert!(is_for_good(&of(403, "LS-FORBIDDEN")));
    }
}
